"""Functions that rearrange the elements of an array: reshape, transpose, flip, roll, broadcast, repeat."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_axes, as_axis, as_int, as_shape, axis_list
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import index_expressions
from funcgrad.numpy.composite import clip
from funcgrad.ops import shapes, slicing
from funcgrad.ops.dynamic_slices import dynamic_slice
from funcgrad.ops.reductions import cumsum

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "ravel",
    "repeat",
    "reshape",
    "resize",
    "roll",
    "rollaxis",
    "rot90",
    "squeeze",
    "swapaxes",
    "tile",
    "transpose",
    "trim_zeros",
]

# ---------------------------------------------------------------- reshape


def reshape(a: Any, shape: Any, order: str = "C", *, copy: bool | None = None, out_sharding: Any = None) -> Any:
    """Reshape to a new shape. One size may be −1; it is inferred from the number of elements.

    >>> import funcgrad.numpy as jnp
    >>> reshape(jnp.arange(4), (2, -1))
    Array([[0, 1],
           [2, 3]], dtype=int32)
    """
    a = as_operand(a, "reshape")
    if order not in ("C", "F"):
        raise ArgumentError(f"reshape: order={order!r}", fix="use 'C' (row-major) or 'F' (column-major)")
    sizes = _infer_shape(a, shape)
    if order == "F":
        reverse = range(a.aval.ndim)[::-1], range(len(sizes))[::-1]
        return shapes.transpose(shapes.reshape(shapes.transpose(a, reverse[0]), sizes[::-1]), reverse[1])
    return shapes.reshape(a, sizes)


def _infer_shape(a: Any, shape: Any) -> tuple[int, ...]:
    given = shape if isinstance(shape, Sequence) or getattr(shape, "ndim", 0) else (shape,)
    sizes = [as_int(n, "a size in shape", "reshape") for n in given]
    unknown = [d for d, n in enumerate(sizes) if n < 0]
    if not unknown:
        return tuple(sizes)
    known = math.prod(n for n in sizes if n >= 0)
    if len(unknown) > 1 or sizes[unknown[0]] != -1 or known == 0 or a.aval.size % known:
        raise ShapeError(
            f"reshape: {a.aval} with {a.aval.size} elements does not fit shape {tuple(sizes)}",
            fix="at most one size is -1, and the others must divide the number of elements",
        )
    sizes[unknown[0]] = a.aval.size // known
    return tuple(sizes)


def ravel(a: Any, order: str = "C", *, out_sharding: Any = None) -> Any:
    """Flatten to a vector."""
    if order == "K":
        raise ArgumentError("ravel: order='K'", fix="arrays have no memory layout: use 'C' or 'F'")
    return reshape(a, -1 if as_operand(a, "ravel").aval.size else 0, "C" if order == "A" else order)


def expand_dims(a: Any, axis: Any) -> Any:
    """Insert axes of size 1 at the given positions of the result."""
    a = as_operand(a, "expand_dims")
    return shapes.expand_dims(a, as_axes(axis, a.aval.ndim + len(axis_list(axis)), "expand_dims"))


def squeeze(a: Any, axis: Any = None) -> Any:
    """Remove the given axes of size 1, by default all of them."""
    a = as_operand(a, "squeeze")
    axes = [d for d, n in enumerate(a.aval.shape) if n == 1] if axis is None else as_axes(axis, a.aval.ndim, "squeeze")
    return shapes.squeeze(a, axes)


def atleast_1d(*arys: Any) -> Any:
    """Return arrays with at least one dimension."""
    return _each(arys, lambda x: shapes.reshape(x, (1,)) if x.aval.ndim == 0 else x, "atleast_1d")


def atleast_2d(*arys: Any) -> Any:
    """Return arrays with at least two dimensions; a vector becomes a row."""
    return _each(
        arys, lambda x: shapes.expand_dims(x, tuple(range(2 - x.aval.ndim))) if x.aval.ndim < 2 else x, "atleast_2d"
    )


def atleast_3d(*arys: Any) -> Any:
    """Return arrays with at least three dimensions: a vector gets shape (1, n, 1), a matrix (n, m, 1)."""
    places = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}
    return _each(arys, lambda x: shapes.expand_dims(x, places[x.aval.ndim]) if x.aval.ndim < 3 else x, "atleast_3d")


def _each(arys: Sequence[Any], function: Any, name: str) -> Any:
    if len(arys) == 1 and isinstance(arys[0], (list, tuple)):
        arys = arys[0]
        return [function(as_operand(x, name)) for x in arys]
    out = [function(as_operand(x, name)) for x in arys]
    return out[0] if len(out) == 1 else out


# ---------------------------------------------------------------- permute


def transpose(a: Any, axes: Any = None) -> Any:
    """Permute the axes; reverse them by default."""
    a = as_operand(a, "transpose")
    order = tuple(range(a.aval.ndim))[::-1] if axes is None else as_axes(axes, a.aval.ndim, "transpose")
    if len(order) != a.aval.ndim:
        raise ArgumentError(f"transpose: axes {tuple(axes)} do not fit {a.aval}", fix="list every axis exactly once")
    return shapes.transpose(a, order)


permute_dims = transpose


def matrix_transpose(x: Any, /) -> Any:
    """Swap the last two axes."""
    x = as_operand(x, "matrix_transpose")
    if x.aval.ndim < 2:
        raise ShapeError(f"matrix_transpose: {x.aval} is not a matrix", fix="give it two dimensions or more")
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes."""
    a = as_operand(a, "swapaxes")
    i, j = (as_axis(d, a.aval.ndim, "swapaxes") for d in (axis1, axis2))
    order = list(range(a.aval.ndim))
    order[i], order[j] = j, i
    return shapes.transpose(a, order)


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """Move axes to new positions; the others keep their order."""
    a = as_operand(a, "moveaxis")
    start, stop = (as_axes(d, a.aval.ndim, "moveaxis") for d in (source, destination))
    if len(start) != len(stop):
        raise ArgumentError(
            f"moveaxis: {len(start)} axes {source} for {len(stop)} destinations {destination}",
            fix="give as many destinations as axes",
        )
    order = [d for d in range(a.aval.ndim) if d not in start]
    for d, s in sorted(zip(stop, start, strict=True)):
        order.insert(d, s)
    return shapes.transpose(a, order)


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Move `axis` to just before position `start`."""
    a = as_operand(a, "rollaxis")
    axis = as_axis(axis, a.aval.ndim, "rollaxis")
    if not -a.aval.ndim <= start <= a.aval.ndim:
        raise ArgumentError(
            f"rollaxis: start {start} is out of range for {a.aval}", fix="choose start in [-ndim, ndim]"
        )
    start += a.aval.ndim if start < 0 else 0
    return shapes.move_axis(a, axis, start - (start > axis))


# ---------------------------------------------------------------- flip and roll


def flip(m: Any, axis: Any = None) -> Any:
    """Reverse the order of the elements along axes, by default all."""
    m = as_operand(m, "flip")
    return shapes.rev(m, as_axes(axis, m.aval.ndim, "flip"))


def fliplr(m: Any) -> Any:
    """Reverse the second axis."""
    return flip(m, 1)


def flipud(m: Any) -> Any:
    """Reverse the first axis."""
    return flip(m, 0)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Rotate by k quarter turns, from the first of `axes` toward the second."""
    m = as_operand(m, "rot90")
    i, j = as_axes(axes, m.aval.ndim, "rot90")
    if k % 4 == 0:
        return m
    if k % 4 == 2:
        return shapes.rev(m, (i, j))
    return swapaxes(flip(m, j), i, j) if k % 4 == 1 else flip(swapaxes(m, i, j), j)


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Shift elements along axes; those that leave at the end enter at the front. Without `axis`, roll the flat array.

    A static shift is two slices; a traced shift is a dynamic slice.

    >>> import funcgrad.numpy as jnp
    >>> roll(jnp.arange(4), 1)
    Array([3, 0, 1, 2], dtype=int32)
    """
    a = as_operand(a, "roll")
    if axis is None:
        return shapes.reshape(roll(ravel(a), shift, 0), a.aval.shape)
    axes = tuple(as_axis(d, a.aval.ndim, "roll") for d in axis_list(axis))
    if isinstance(shift, Tracer) or (isinstance(shift, Sequence) and any(isinstance(s, Tracer) for s in shift)):
        amounts = [shift[i] for i in range(aval_of(shift).shape[0])] if np.ndim(shift) else [shift]
        turn = _roll_traced
    else:
        amounts = np.atleast_1d(np.asarray(shift)).tolist()
        turn = _roll_static
    if len(amounts) != len(axes) and 1 not in (len(amounts), len(axes)):
        raise ArgumentError(f"roll: {len(amounts)} shifts for {len(axes)} axes", fix="give one shift per axis, or one")
    n = builtins.max(len(amounts), len(axes))
    for amount, d in zip(amounts * (n // len(amounts)), axes * (n // len(axes)), strict=True):
        a = turn(a, amount, d)
    return a


def _roll_static(a: Any, shift: int, axis: int) -> Any:
    n = a.aval.shape[axis]
    shift = as_int(shift, "shift", "roll") % n if n else 0
    if not shift:
        return a
    return slicing.concatenate([_part(a, axis, n - shift, n), _part(a, axis, 0, n - shift)], axis)


def _roll_traced(a: Any, shift: Any, axis: int) -> Any:
    n = a.aval.shape[axis]
    doubled = slicing.concatenate([a, a], axis)
    start = (-shift) % n
    starts = [start.astype(dtypes.int32) if d == axis else np.int32(0) for d in range(a.aval.ndim)]
    return dynamic_slice(doubled, starts, a.aval.shape)


def _part(a: Any, axis: int, start: int, stop: int) -> Any:
    """a[..., start:stop, ...] along one axis."""
    lo, hi = [0] * aval_of(a).ndim, list(aval_of(a).shape)
    lo[axis], hi[axis] = start, stop
    return slicing.slice_(a, lo, hi)


# ---------------------------------------------------------------- broadcast and repeat


def broadcast_to(array: Any, shape: Any, *, out_sharding: Any = None) -> Any:
    """Broadcast to a shape, repeating elements along new axes and axes of size 1."""
    return promotion.broadcast_to(as_operand(array, "broadcast_to"), as_shape(shape, "broadcast_to"))


def broadcast_arrays(*args: Any) -> list[Any]:
    """Broadcast arrays to their common shape."""
    arrays = [as_operand(a, "broadcast_arrays") for a in args]
    shape = promotion.broadcast_shapes(*(a.aval.shape for a in arrays), operation="broadcast_arrays")
    return [promotion.broadcast_to(a, shape) for a in arrays]


def broadcast_shapes(*given: Any) -> tuple[int, ...]:
    """The shape that the given shapes broadcast to."""
    return promotion.broadcast_shapes(*(as_shape(s, "broadcast_shapes") for s in given))


def tile(A: Any, reps: Any) -> Any:
    """Repeat the whole array `reps` times along each axis."""
    A = as_operand(A, "tile")
    counts = tuple(
        as_int(n, "reps", "tile") for n in (reps if isinstance(reps, Sequence) or getattr(reps, "ndim", 0) else (reps,))
    )
    if any(n < 0 for n in counts):
        raise ArgumentError(f"tile: reps {counts} has a negative count", fix="repeat 0 or more times")
    rank = builtins.max(len(counts), A.aval.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    sizes = (1,) * (rank - A.aval.ndim) + A.aval.shape
    paired = tuple(n for pair in zip(counts, sizes, strict=True) for n in pair)
    kept = [2 * d + 1 for d in range(rank - A.aval.ndim, rank)]
    repeated = shapes.broadcast_in_dim(A, paired, kept)
    return shapes.reshape(repeated, tuple(c * n for c, n in zip(counts, sizes, strict=True)))


def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None, out_sharding: Any = None
) -> Any:
    """Repeat each element along an axis `repeats` times; `repeats` is one count, or one per element.

    Without `axis`, the array is flattened. Traced `repeats` need `total_repeat_length`, the size of the result, which
    is truncated, or padded with the last element.

    >>> import funcgrad.numpy as jnp
    >>> repeat(jnp.array([1, 2]), jnp.array([1, 3]))
    Array([1, 2, 2, 2], dtype=int32)
    """
    a = as_operand(a, "repeat")
    if axis is None:
        a, axis = ravel(a), 0
    axis = as_axis(axis, a.aval.ndim, "repeat")
    n = a.aval.shape[axis]
    if total_repeat_length is None and not isinstance(repeats, Tracer):
        counts = np.asarray(repeats)
        if counts.ndim == 0 or counts.size == 1:
            return _repeat_evenly(a, as_int(counts.reshape(()).item(), "repeats", "repeat"), axis)
        positions = np.repeat(np.arange(n), counts)
        return _take(a, positions, axis)
    if total_repeat_length is None:
        raise ArgumentError(
            f"repeat: repeats of type {aval_of(repeats)} is traced, so the size of the result is not known",
            fix="pass total_repeat_length, or make repeats static",
        )
    counts = promotion.broadcast_to(as_operand(repeats, "repeat"), (n,)) if aval_of(repeats).ndim == 0 else repeats
    ends = cumsum(as_operand(counts, "repeat"), 0)
    # Position p holds the first element whose run ends after p.
    place = slicing.iota(dtypes.int32, (total_repeat_length, n), 0)
    passed = promotion.broadcast_to(ends, (total_repeat_length, n)) <= place
    positions = clip(shapes.reduce_sum(passed.astype(dtypes.int32), (1,)), 0, n - 1)
    return _take(a, positions, axis)


def _repeat_evenly(a: Any, count: int, axis: int) -> Any:
    if count < 0:
        raise ArgumentError(f"repeat: repeats is {count}", fix="repeat 0 or more times")
    shape = a.aval.shape
    spread = (*shape[: axis + 1], count, *shape[axis + 1 :])
    kept = [d for d in range(len(spread)) if d != axis + 1]
    wide = shapes.broadcast_in_dim(a, spread, kept)
    return shapes.reshape(wide, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :]))


def _take(a: Any, positions: Any, axis: int) -> Any:
    """a[positions] along an axis."""
    return index_expressions.getitem(a, (slice(None),) * axis + (positions,))


def resize(a: Any, new_shape: Any) -> Any:
    """Fill a shape with the elements of the flattened array, repeated or truncated as needed."""
    sizes = as_shape(new_shape, "resize")
    a = ravel(a)
    size, have = math.prod(sizes), a.aval.size
    if not have or not size:
        return shapes.full(sizes, 0, a.aval.dtype)
    repeated = slicing.concatenate([a] * -(-size // have), 0)
    return shapes.reshape(slicing.slice_(repeated, (0,), (size,)), sizes)


def trim_zeros(filt: Any, trim: str = "fb") -> Any:
    """Remove the zeros at the front ("f") and the back ("b") of a concrete vector."""
    values = np.asarray(filt if isinstance(filt, (ArrayLike, np.ndarray)) else np.asarray(filt))
    nonzero = np.flatnonzero(values)
    start = (nonzero[0] if nonzero.size else values.size) if "f" in trim.lower() else 0
    stop = (nonzero[-1] + 1 if nonzero.size else start) if "b" in trim.lower() else values.size
    return slicing.slice_(
        as_operand(filt if not isinstance(filt, list) else values, "trim_zeros"), (int(start),), (int(stop),)
    )
