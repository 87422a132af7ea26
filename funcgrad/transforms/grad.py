"""grad and value_and_grad: gradients of scalar functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.masks import select, with_zeros
from funcgrad.core.symbolic import UndefinedPrimal
from funcgrad.errors import NotDifferentiableError
from funcgrad.ops.shapes import full, instantiate
from funcgrad.tracebacks import boundary
from funcgrad.transforms.argnums import choose
from funcgrad.transforms.flattening import (
    FlatFunction,
    as_arrays,
    callable_or_error,
    name_of,
)
from funcgrad.transforms.interpreters.partial_eval import linearize_flat
from funcgrad.transforms.interpreters.transpose import backward_pass


def _check_scalar_output(outs: Sequence[Any], name: str, holomorphic: bool) -> None:
    avals = [aval_of(o) for o in outs]
    if len(avals) != 1 or avals[0].shape:
        shown = ", ".join(map(repr, avals)) or "nothing"
        raise NotDifferentiableError(
            f"grad of {name}: the output must be one scalar, it is {shown}",
            fix="reduce it (for instance .sum() or .mean()), use jacrev for arrays, or has_aux=True for extra outputs",
        )
    dtype = avals[0].dtype
    if holomorphic and not dtypes.is_complex(dtype):
        raise NotDifferentiableError(
            f"grad of {name}: with holomorphic=True the output must be complex, it is {avals[0]}",
            fix="drop holomorphic",
        )
    if not holomorphic and not dtypes.is_float(dtype):
        raise NotDifferentiableError(
            f"grad of {name}: the output must be a real float, it is {avals[0]}",
            fix="return a float (for complex outputs take .real, abs, or give holomorphic=True)",
        )


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Any = (),
) -> Callable[..., Any]:
    """Return a function that gives (f(x), ∇f(x)) of a scalar function, by one forward and one backward pass.

    `argnums` chooses the positional arguments to differentiate (pytrees of floats); keyword arguments are
    constants. With `has_aux`, f returns (value, aux) and the result is ((value, aux), gradient).

    >>> value_and_grad(lambda x: x ** 2)(3.0)
    (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
    """
    callable_or_error(fun, "grad")

    @boundary
    @functools.wraps(fun)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        chosen = choose(fun, args, kwargs, argnums, "grad", holomorphic, allow_int)
        avals = [aval_of(x) for x in chosen.leaves]
        in_tree = tree.structure((tuple(chosen.leaves), {}))
        flat_fun = FlatFunction(chosen.fun, in_tree, has_aux=has_aux, transform="grad")
        nonzero = [dtypes.is_inexact(a.dtype) for a in avals]
        linear = linearize_flat(flat_fun, chosen.leaves, nonzero)
        _check_scalar_output(linear.primals_out, name_of(fun), holomorphic)
        out = linear.primals_out[0]
        seed = full((), 1, aval_of(out).dtype, aval_of(out).weak_type)
        undefined = [UndefinedPrimal(a.tangent()) for a in select(avals, nonzero)]
        back = backward_pass(linear.jaxpr.jaxpr, linear.jaxpr.consts, undefined, select([seed], linear.nonzero_out))
        gradient = chosen.unflatten(list(map(instantiate, with_zeros(back, nonzero, avals))))
        value = flat_fun.unflatten_out(as_arrays(linear.primals_out))
        return ((value, flat_fun.unflatten_aux()), gradient) if has_aux else (value, gradient)

    return value_and_gradient


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Any = (),
) -> Callable[..., Any]:
    """Return the gradient function ∇f of a scalar function; arguments as for `value_and_grad`.

    With `has_aux` the result is (gradient, aux).

    >>> grad(lambda x: x ** 3)(2.0)
    Array(12., dtype=float32, weak_type=True)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int, reduce_axes)

    @boundary
    @functools.wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient
