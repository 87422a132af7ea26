"""vmap: a function of one element mapped over axes of arrays."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.errors import ArgumentError, BatchingError
from funcgrad.ops.shapes import to_dim
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import FlatFunction, arguments_of, callable_or_error, name_of, not_an_array
from funcgrad.transforms.interpreters.batching import vmap_flat
from funcgrad.transforms.refs.arguments import check_unaliased
from funcgrad.transforms.refs.discharge import contents_of
from funcgrad.transforms.refs.ref import Ref


def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
) -> Callable[..., Any]:
    """Return `fun` mapped over array axes: out[i] = fun(x[i], y[i], …), in one pass over whole arrays.

    `in_axes` and `out_axes` are an int, None (not mapped), or pytree prefixes of the arguments and results
    holding those; keyword arguments are mapped over axis 0. `axis_size` is needed when nothing is mapped.
    `spmd_axis_name` is accepted for compatibility.

    >>> import funcgrad.numpy as jnp
    >>> vmap(lambda x, y: x * y, in_axes=(0, None))(jnp.array([1.0, 2.0]), 3.0)
    Array([3., 6.], dtype=float32)
    """
    callable_or_error(fun, "vmap")
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if not isinstance(in_axes, (int, tuple, type(None))):
        raise BatchingError(
            f"vmap: in_axes={in_axes!r} is a {type(in_axes).__name__}",
            fix="give an int, None, or a tuple with one entry per positional argument",
        )

    @boundary
    @functools.wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        flat, in_tree = tree.flatten((args, kwargs))
        try:
            flat = [x if isinstance(x, (ArrayLike, Ref)) else as_array(x) for x in flat]
        except ArgumentError:
            raise not_an_array(f"vmap of {name_of(fun)}", arguments_of(fun, in_tree)(), flat, as_array) from None
        axes = _axes_of_leaves(fun, in_axes, args, len(flat))
        refs = {i: x for i, x in enumerate(flat) if isinstance(x, Ref)}
        check_unaliased(list(refs.values()), "vmap")
        flat = contents_of(flat)
        dims = [_normalized(ax, x, in_tree, i) for i, (ax, x) in enumerate(zip(axes, flat, strict=True))]
        size = _batch_size(fun, flat, dims, axis_size, in_tree)
        flat_fun = FlatFunction(fun, in_tree, transform="vmap")
        outs, out_dims = vmap_flat(_with_refs(flat_fun, refs), size, dims, flat, axis_name)
        n = len(outs) - len(refs)
        for (i, ref), contents, dim in zip(refs.items(), outs[n:], out_dims[n:], strict=True):
            if contents is not flat[i]:
                ref.write(_contents(contents, dim, dims[i], size))
        wanted = tree.flatten_axes("vmap out_axes", flat_fun.out_tree, out_axes)
        placed = zip(outs[:n], out_dims[:n], wanted, strict=True)
        leaves = [_placed(o, d, w, size, flat_fun.out_tree, i) for i, (o, d, w) in enumerate(placed)]
        return flat_fun.unflatten_out(leaves)

    return mapped


def _axes_of_leaves(fun: Callable[..., Any], in_axes: Any, args: tuple, n: int) -> list[Any]:
    """Return the axis of each of the `n` leaves of (args, kwargs); keyword arguments are mapped over axis 0."""
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise BatchingError(
            f"vmap: in_axes={in_axes} has {len(in_axes)} entries, but {name_of(fun)} was called with {len(args)} "
            "positional arguments",
            fix="give one entry per positional argument (keyword arguments are mapped over axis 0)",
        )
    axes = tree.flatten_axes("vmap in_axes", tree.structure(args), in_axes)
    return [*axes, *[0] * (n - len(axes))]


def _with_refs(fun: FlatFunction, refs: dict[int, Ref]) -> Callable[..., Sequence[Any]]:
    """Return the function of arrays that makes Refs at the places in `refs`, and also returns their contents."""
    if not refs:
        return fun

    def with_refs(*values: Any) -> list[Any]:
        elements = {i: Ref(values[i]) for i in refs}
        outs = fun(*(elements.get(i, v) for i, v in enumerate(values)))
        return [*outs, *(r.read() for r in elements.values())]

    with_refs.__name__ = fun.__name__
    return with_refs


def _contents(contents: Any, dim: int | None, wanted: int | None, size: int) -> Any:
    """Move the batch dimension of a Ref's contents to where it was when the Ref was passed in."""
    if wanted is None and dim is not None:
        raise BatchingError(
            f"vmap: a value that depends on mapped arguments is written to a Ref of type {aval_of(contents)} "
            "(batch included) that is not mapped (in_axes=None)",
            fix="map the Ref too, so that each element has its own, or write a value that all have in common",
        )
    return to_dim(contents, dim, wanted, size)


def _argument(in_tree: Any, position: int) -> str:
    """Return the name of a leaf of the arguments: ``args[0]['w']``."""
    path = in_tree.paths()[position]
    return ("args", "kwargs")[path[0].idx] + tree.keystr(path[1:])


def _check_axis(axis: Any, what: Callable[[], str]) -> None:
    """Raise unless an entry of in_axes or out_axes is an int or None."""
    if axis is not None and (not isinstance(axis, (int, np.integer)) or isinstance(axis, bool)):
        raise BatchingError(
            f"vmap: {what()} is {axis!r} of type {type(axis).__name__}",
            fix="give ints and None, or containers of them that match the structure of the value",
        )


def _normalized(axis: Any, x: Any, in_tree: Any, position: int) -> int | None:
    aval = aval_of(x)
    if axis is None:
        return None
    if type(axis) is not int:
        _check_axis(axis, lambda: f"in_axes for {_argument(in_tree, position)}")
    if not -aval.ndim <= axis < aval.ndim:
        raise BatchingError(
            f"vmap: in_axes asks for axis {axis} of {_argument(in_tree, position)}, which has type {aval}",
            fix=f"choose an axis in [{-aval.ndim}, {aval.ndim}), or None to leave it unmapped"
            if aval.ndim
            else "a scalar has no axis to map: give None for it in in_axes",
        )
    return axis % aval.ndim


def _batch_size(fun: Any, flat: Sequence[Any], dims: Sequence[int | None], given: int | None, in_tree: Any) -> int:
    sizes = {aval_of(x).shape[d] for x, d in zip(flat, dims, strict=True) if d is not None}
    if given is not None:
        sizes.add(operator.index(given))
    if len(sizes) == 1:
        return sizes.pop()
    if not sizes:
        reason = "every entry of in_axes is None" if flat else "there are none"
        raise BatchingError(
            f"vmap of {name_of(fun)}: no argument is mapped ({reason})",
            fix="map at least one argument, or give axis_size",
        )
    lines = [
        f"\n    {_argument(in_tree, i)}: {aval_of(x)}, axis {d} has size {aval_of(x).shape[d]}"
        for i, (x, d) in enumerate(zip(flat, dims, strict=True))
        if d is not None
    ]
    if given is not None:
        lines.append(f"\n    axis_size={given}")
    raise BatchingError(
        f"vmap of {name_of(fun)}: mapped axes have different sizes:{''.join(lines)}",
        fix="mapped axes must have one size; give in_axes=None for arguments that are not mapped",
    )


def _output(out_tree: Any, position: int) -> str:
    """Return the name of a leaf of the results: ``the output at ['w']``."""
    path = out_tree.paths()[position]
    return f"the output at {tree.keystr(path)}" if path else "the output"


def _placed(value: Any, dim: int | None, wanted: Any, size: int, out_tree: Any, position: int) -> Any:
    """Move the batch dimension of a result to where out_axes puts it."""
    if type(wanted) is not int:
        _check_axis(wanted, lambda: f"out_axes for {_output(out_tree, position)}")
    if wanted is None:
        if dim is not None:
            raise BatchingError(
                f"vmap: out_axes is None for {_output(out_tree, position)}, which depends on mapped arguments (it has "
                f"type {aval_of(value)} with the batch in axis {dim})",
                fix="give an axis in out_axes, or reduce over the batch first (lax.psum)",
            )
        return value
    rank = aval_of(value).ndim + (dim is None)
    if not -rank <= wanted < rank:
        raise BatchingError(
            f"vmap: out_axes asks for axis {wanted} of {_output(out_tree, position)}, which has {rank} dimensions "
            "(batch included)",
            fix=f"choose an axis in [{-rank}, {rank})",
        )
    return to_dim(value, dim, wanted % rank, size)
