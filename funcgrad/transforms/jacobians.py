"""jacfwd, jacrev and hessian: derivatives of functions of arrays as arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.errors import NotDifferentiableError
from funcgrad.ops.shapes import reshape
from funcgrad.tracebacks import boundary
from funcgrad.transforms.argnums import choose
from funcgrad.transforms.derivatives import jvp, vjp
from funcgrad.transforms.flattening import (
    callable_or_error,
    name_of,
)
from funcgrad.transforms.vmap import vmap


def _basis(leaves: Sequence[Any]) -> list[Any]:
    """Unit tangents of all leaves together: leaf k gets shape (total, *shape of k), as weakly typed as the leaf is."""
    total = sum(aval_of(x).size for x in leaves)
    out, start = [], 0
    for x in leaves:
        aval = aval_of(x)
        block = np.zeros((total, aval.size), aval.dtype)
        block[np.arange(start, start + aval.size), np.arange(aval.size)] = 1
        out.append(Array(aval.update(shape=(total, *aval.shape)), block.reshape(total, *aval.shape)))
        start += aval.size
    return out


def _split_columns(x: Any, leaves: Sequence[Any]) -> list[Any]:
    """Cut the trailing axis of total size into one block per leaf, shaped (…, *shape of the leaf)."""
    from_shape, start, out = aval_of(x).shape[:-1], 0, []
    for leaf in leaves:
        size = aval_of(leaf).size
        out.append(reshape(x[..., start : start + size], (*from_shape, *aval_of(leaf).shape)))
        start += size
    return out


def jacfwd(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """Return the Jacobian of `fun`, a column at a time by forward mode: J[i, j] = ∂fᵢ/∂xⱼ.

    The result has the structure of the output, each leaf holding the structure of the chosen arguments, with
    arrays of shape (*output shape, *argument shape). Cheaper than `jacrev` when there are more outputs than
    inputs.

    >>> import funcgrad.numpy as jnp
    >>> jacfwd(lambda x: x * x)(jnp.array([1.0, 2.0]))
    Array([[2., 0.],
           [0., 4.]], dtype=float32)
    """
    callable_or_error(fun, "jacfwd")

    @boundary
    @functools.wraps(fun)
    def jacobian_function(*args: Any, **kwargs: Any) -> Any:
        chosen = choose(fun, args, kwargs, argnums, "jacfwd", holomorphic)

        def push(*tangents: Any) -> Any:
            out = jvp(chosen.fun, tuple(chosen.leaves), tangents, has_aux=has_aux)
            return (out[1], out[2]) if has_aux else out[1]

        pushed = vmap(push, out_axes=(-1, None) if has_aux else -1)(*_basis(chosen.leaves))
        columns, aux = pushed if has_aux else (pushed, None)
        jacobian_value = tree.map(lambda x: chosen.unflatten(_split_columns(x, chosen.leaves)), columns)
        return (jacobian_value, aux) if has_aux else jacobian_value

    return jacobian_function


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Return the Jacobian of `fun`, a row at a time by reverse mode; see `jacfwd` for its shape.

    Cheaper than `jacfwd` when there are more inputs than outputs.

    >>> import funcgrad.numpy as jnp
    >>> jacrev(lambda x: (x * x).sum())(jnp.array([1.0, 2.0]))
    Array([2., 4.], dtype=float32)
    """
    callable_or_error(fun, "jacrev")

    @boundary
    @functools.wraps(fun)
    def jacobian_function(*args: Any, **kwargs: Any) -> Any:
        chosen = choose(fun, args, kwargs, argnums, "jacrev", holomorphic, allow_int)
        out, pull, *aux = vjp(chosen.fun, *chosen.leaves, has_aux=has_aux)
        out_leaves, out_tree = tree.flatten(out)
        for o in out_leaves:
            _check_jacrev_output(o, name_of(fun), holomorphic)
        rows = vmap(lambda *cts: pull(out_tree.unflatten(cts)))(*_basis(out_leaves))
        blocks, start = [], 0
        for o in out_leaves:
            stop = start + aval_of(o).size
            blocks.append(
                chosen.unflatten([reshape(r[start:stop], (*aval_of(o).shape, *aval_of(r).shape[1:])) for r in rows])
            )
            start = stop
        result = out_tree.unflatten(blocks)
        return (result, aux[0]) if has_aux else result

    return jacobian_function


def _check_jacrev_output(out: Any, name: str, holomorphic: bool) -> None:
    dtype = aval_of(out).dtype
    if dtypes.is_complex(dtype) != holomorphic or not dtypes.is_inexact(dtype):
        wanted = "complex" if holomorphic else "real floats"
        raise NotDifferentiableError(
            f"jacrev of {name}: outputs must be {wanted}, one is {aval_of(out)}",
            fix="cast the output, or change holomorphic=",
        )


jacobian = jacrev


def hessian(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """Return the Hessian of `fun`: H[i, j] = ∂²f/∂xᵢ∂xⱼ, forward over reverse.

    >>> import funcgrad.numpy as jnp
    >>> hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0]))
    Array([[4., 2.],
           [2., 0.]], dtype=float32)
    """
    return jacfwd(jacrev(fun, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)
