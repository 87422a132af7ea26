"""Functions that join arrays or split one: concatenate, stack, block, append, split, and functions along axes."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis, as_int
from funcgrad.arguments.promotion import as_operand, promote_dtypes
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy.creation import asarray
from funcgrad.numpy.shapes import atleast_1d, atleast_2d, atleast_3d, expand_dims, moveaxis, ravel, reshape
from funcgrad.ops import shapes, slicing
from funcgrad.ops.casts import convert_element_type

__all__ = [
    "append",
    "apply_along_axis",
    "apply_over_axes",
    "array_split",
    "block",
    "column_stack",
    "concat",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "split",
    "stack",
    "unstack",
    "vsplit",
    "vstack",
]


def _operands(arrays: Any, operation: str, dtype: Any = None) -> list[Any]:
    """Return a non-empty sequence of arrays, promoted to a common dtype."""
    if isinstance(arrays, ArrayLike) and arrays.ndim == 0:
        raise ArgumentError(f"{operation}: the argument is a 0-d array", fix="pass a list or tuple of arrays")
    given = list(arrays)
    if not given:
        raise ArgumentError(f"{operation}: the sequence of arrays is empty", fix="pass at least one")
    given = [asarray(a) if isinstance(a, (list, tuple)) else a for a in given]
    if dtype is not None:
        target = dtypes.requested(dtype, operation)
        return [convert_element_type(as_operand(a, operation), target) for a in given]
    return promote_dtypes(*given, operation=operation)


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Any:
    """Join arrays along an existing axis; flatten them first if `axis` is None."""
    operands = _operands(arrays, "concatenate", dtype)
    if axis is None:
        operands, axis = [ravel(a) for a in operands], 0
    first = operands[0].aval
    if first.ndim == 0:
        raise ShapeError("concatenate: 0-d arrays have no axis to join along", fix="use stack, or atleast_1d first")
    return slicing.concatenate(operands, as_axis(axis, first.ndim, "concatenate"))


def concat(arrays: Any, /, *, axis: int | None = 0) -> Any:
    """Join arrays along an existing axis; flatten them first if `axis` is None."""
    return concatenate(arrays, axis)


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Any:
    """Join arrays of equal shapes along a new axis."""
    operands = _operands(arrays, "stack", dtype)
    first = operands[0].aval
    for a in operands[1:]:
        if a.aval.shape != first.shape:
            raise ShapeError(
                f"stack: arrays have different shapes: {first} and {a.aval}", fix="stack arrays of equal shapes"
            )
    axis = as_axis(axis, first.ndim + 1, "stack")
    return slicing.concatenate([shapes.expand_dims(a, (axis,)) for a in operands], axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """Split an array into its slices along an axis, without that axis."""
    x = as_operand(x, "unstack")
    if x.aval.ndim == 0:
        raise ShapeError("unstack: a 0-d array has no axis", fix="give it one dimension or more")
    axis = as_axis(axis, x.aval.ndim, "unstack")
    return tuple(shapes.squeeze(part, (axis,)) for part in _cut(x, range(1, x.aval.shape[axis]), axis))


def vstack(tup: Any, dtype: Any = None) -> Any:
    """Join along the first axis; vectors become rows."""
    return concatenate([atleast_2d(_array(a)) for a in tup], 0, dtype)


def hstack(tup: Any, dtype: Any = None) -> Any:
    """Join along the second axis; vectors are joined along their only axis."""
    arrays = [atleast_1d(_array(a)) for a in tup]
    return concatenate(arrays, 0 if arrays and arrays[0].ndim == 1 else 1, dtype)


def dstack(tup: Any, dtype: Any = None) -> Any:
    """Join along the third axis."""
    return concatenate([atleast_3d(_array(a)) for a in tup], 2, dtype)


def column_stack(tup: Any) -> Any:
    """Join along the second axis; vectors become columns."""
    arrays = [_array(a) for a in tup]
    return concatenate([a if a.ndim > 1 else reshape(a, (-1, 1)) for a in arrays], 1)


def _array(x: Any) -> Any:
    return x if isinstance(x, ArrayLike) else asarray(x)


def block(arrays: Any) -> Any:
    """Assemble an array from nested lists of blocks.

    The innermost lists are joined along the last axis, the lists around them along the axis before, and so on.
    """

    def depth(node: Any) -> int:
        return 1 + builtins.max(map(depth, node)) if isinstance(node, list) and node else 0

    levels = depth(arrays)

    def leaves(node: Any) -> list[Any]:
        return [leaf for v in node for leaf in leaves(v)] if isinstance(node, list) else [_array(node)]

    rank = builtins.max([levels, *(a.ndim for a in leaves(arrays))])

    def joined(node: Any, level: int) -> Any:
        if not isinstance(node, list):
            if level != levels:
                raise ArgumentError("block: lists are nested to different depths", fix="nest all blocks equally deep")
            a = _array(node)
            return shapes.expand_dims(a, tuple(range(rank - a.ndim)))
        if not node:
            raise ArgumentError("block: a list is empty", fix="leave it out")
        return concatenate([joined(v, level + 1) for v in node], rank - levels + level)

    return joined(arrays, 0)


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Append `values` to the end of `arr` along an axis; flatten both if `axis` is None."""
    if axis is None:
        return concatenate([ravel(_array(arr)), ravel(_array(values))], 0)
    return concatenate([_array(arr), _array(values)], axis)


# ---------------------------------------------------------------- split


def _cut(x: Any, places: Sequence[int], axis: int) -> list[Any]:
    """Split along an axis at each place, which is interpreted like a Python slice bound."""
    n = x.aval.shape[axis]
    bounds = [0, *(builtins.max(0, builtins.min(n, p + n if p < 0 else p)) for p in places), n]
    parts = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        lo, hi = [0] * x.aval.ndim, list(x.aval.shape)
        lo[axis], hi[axis] = start, builtins.max(start, stop)
        parts.append(slicing.slice_(x, lo, hi))
    return parts


def _split(ary: Any, indices_or_sections: Any, axis: int, operation: str, even: bool) -> list[Any]:
    x = as_operand(ary, operation)
    axis = as_axis(axis, x.aval.ndim, operation)
    n = x.aval.shape[axis]
    if isinstance(indices_or_sections, Sequence) or getattr(indices_or_sections, "ndim", 0):
        return _cut(x, [as_int(i, "an index", operation) for i in indices_or_sections], axis)
    sections = as_int(indices_or_sections, "indices_or_sections", operation)
    if sections < 1 or (even and n % sections):
        raise ArgumentError(
            f"{operation}: axis {axis} of {x.aval} has size {n}, which does not split into {sections} equal parts",
            fix="choose a divisor, use array_split, or pass the indices at which to split",
        )
    size, extra = builtins.divmod(n, sections)
    return _cut(x, [size * i + builtins.min(i, extra) for i in range(1, sections)], axis)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Split into equal parts, or at the given indices."""
    return _split(ary, indices_or_sections, axis, "split", even=True)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Split into parts whose sizes differ by at most one, or at the given indices."""
    return _split(ary, indices_or_sections, axis, "array_split", even=False)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along the first axis."""
    return _split(ary, indices_or_sections, 0, "vsplit", even=True)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along the second axis; a vector is split along its only axis."""
    return _split(ary, indices_or_sections, 0 if aval_of(ary).ndim == 1 else 1, "hsplit", even=True)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along the third axis."""
    return _split(ary, indices_or_sections, 2, "dsplit", even=True)


# ---------------------------------------------------------------- functions along axes


def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply a function of vectors to each vector along an axis."""
    arr = as_operand(arr, "apply_along_axis")
    axis = as_axis(axis, arr.aval.ndim, "apply_along_axis")
    moved = moveaxis(arr, axis, -1)
    lead, n = moved.aval.shape[:-1], moved.aval.shape[-1]
    rows = reshape(moved, (int(np.prod(lead)), n))
    outs = stack([_array(func1d(row, *args, **kwargs)) for row in unstack(rows)])
    tail = outs.shape[1:]
    out = reshape(outs, (*lead, *tail))
    order = (*range(axis), *range(len(lead), len(lead) + len(tail)), *range(axis, len(lead)))
    return shapes.transpose(out, order)


def apply_over_axes(func: Callable[[Any, int], Any], a: Any, axes: Any) -> Any:
    """Apply a reduction along each axis in turn, keeping the dimensions."""
    a = as_operand(a, "apply_over_axes")
    for axis in axes if isinstance(axes, Sequence) else (axes,):
        out = func(a, axis)
        a = out if out.ndim == a.ndim else expand_dims(out, axis)
    return a
