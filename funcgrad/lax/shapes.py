"""Functions that create, reshape, broadcast, join and slice arrays."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_axes, as_axis, as_int, as_shape
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.operands import to_common_dtype, with_dtype
from funcgrad.ops import casts, shapes, slicing

__all__ = [
    "broadcast",
    "broadcast_in_dim",
    "broadcast_like",
    "broadcast_shapes",
    "broadcast_to_rank",
    "broadcasted_iota",
    "collapse",
    "concatenate",
    "dtype",
    "empty",
    "expand_dims",
    "full",
    "full_like",
    "iota",
    "pad",
    "reshape",
    "rev",
    "shape_as_value",
    "slice",
    "slice_in_dim",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
]

# ---------------------------------------------------------------- creation


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Return an array filled with a scalar, in the dtype of the scalar unless `dtype` is passed.

    >>> full((2,), 1.5)
    Array([1.5, 1.5], dtype=float32, weak_type=True)
    """
    value, shape = as_operand(fill_value, "full"), as_shape(shape, "full")
    if aval_of(value).shape:
        raise ShapeError(f"full: fill_value has type {aval_of(value)}", fix="pass a scalar, or use broadcast_in_dim")
    if dtype is not None:
        value = casts.convert_element_type(value, dtypes.requested(dtype, "full"))
    return shapes.broadcast_in_dim(value, shape, ())


def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """Return an array filled with a scalar, with the shape and dtype of `x` unless others are passed."""
    aval = aval_of(x)
    shape = aval.shape if shape is None else as_shape(shape, "full_like")
    if dtype is not None:
        return full(shape, fill_value, dtype)
    value = casts.convert_element_type(as_operand(fill_value, "full_like"), aval.dtype, aval.weak_type)
    return full(shape, value)


def empty(shape: Any, dtype: Any) -> Any:
    """Return zeros: uninitialized memory is not exposed."""
    return full(shape, 0, dtype)


def iota(dtype: Any, size: int) -> Any:
    """Return 0, 1, …, size − 1.

    >>> iota("int32", 3)
    Array([0, 1, 2], dtype=int32)
    """
    return broadcasted_iota(dtype, (as_int(size, "size", "iota"),), 0)


def broadcasted_iota(dtype: Any, shape: Any, dimension: int) -> Any:
    """Return out[i] = i[dimension]: the index along one dimension, broadcast along the others."""
    shape = as_shape(shape, "broadcasted_iota")
    dimension = as_axis(dimension, len(shape), "broadcasted_iota")
    return slicing.iota(dtypes.requested(dtype, "broadcasted_iota"), shape, dimension)


def shape_as_value(shape: Any) -> Any:
    """Return a shape as an integer vector."""
    return as_operand(np.array(as_shape(shape, "shape_as_value"), dtypes.canonicalize(int)), "shape_as_value")


def dtype(x: Any) -> np.dtype:
    """Return the dtype of an array or scalar, or of the values of a scalar type."""
    return dtypes.canonicalize(x) if isinstance(x, type) else aval_of(x).dtype


# ---------------------------------------------------------------- broadcasting


def broadcast_shapes(*given: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that the given shapes broadcast to, under NumPy's rules.

    >>> broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    return promotion.broadcast_shapes(*given)


def broadcast(operand: Any, sizes: Sequence[int]) -> Any:
    """Broadcast along new leading dimensions of the given sizes."""
    x, sizes = as_operand(operand, "broadcast"), as_shape(sizes, "broadcast")
    rank = len(sizes) + aval_of(x).ndim
    return shapes.broadcast_in_dim(x, (*sizes, *aval_of(x).shape), range(len(sizes), rank))


def broadcast_in_dim(operand: Any, shape: Any, broadcast_dimensions: Sequence[int]) -> Any:
    """Broadcast to a shape: operand dimension i becomes dimension broadcast_dimensions[i] of the result.

    >>> import funcgrad.numpy as jnp
    >>> broadcast_in_dim(jnp.array([1, 2]), (2, 2), (0,))
    Array([[1, 1],
           [2, 2]], dtype=int32)
    """
    dims = tuple(as_int(d, "a broadcast dimension", "broadcast_in_dim") for d in broadcast_dimensions)
    return shapes.broadcast_in_dim(as_operand(operand, "broadcast_in_dim"), as_shape(shape, "broadcast_in_dim"), dims)


def broadcast_like(arr: Any, like_arr: Any) -> Any:
    """Broadcast `arr` to the shape of `like_arr`, under NumPy's rules."""
    return promotion.broadcast_to(as_operand(arr, "broadcast_like"), aval_of(like_arr).shape, "broadcast_like")


def broadcast_to_rank(x: Any, rank: int) -> Any:
    """Add leading dimensions of size 1 up to the given rank."""
    x = as_operand(x, "broadcast_to_rank")
    missing = rank - aval_of(x).ndim
    if missing < 0:
        raise ShapeError(
            f"broadcast_to_rank: {aval_of(x)} has more than {rank} dimensions", fix="squeeze or reshape it"
        )
    return shapes.expand_dims(x, range(missing)) if missing else x


def tile(operand: Any, reps: Sequence[int]) -> Any:
    """Repeat the whole operand reps[d] times along each dimension d."""
    x = as_operand(operand, "tile")
    reps, shape = tuple(reps), aval_of(x).shape
    if len(reps) != len(shape) or any(r < 0 for r in reps):
        raise ArgumentError(f"tile: reps {reps} of operand {aval_of(x)}", fix="give one count >= 0 per dimension")
    both = [n for pair in zip(reps, shape, strict=True) for n in pair]
    spread = shapes.broadcast_in_dim(x, both, range(1, 2 * len(shape), 2))
    return shapes.reshape(spread, [r * n for r, n in zip(reps, shape, strict=True)])


# ---------------------------------------------------------------- reshaping and transposition


def reshape(operand: Any, new_sizes: Any, dimensions: Sequence[int] | None = None) -> Any:
    """Reshape, in row-major order; first transpose to `dimensions` if those are passed."""
    x = as_operand(operand, "reshape")
    if dimensions is not None:
        x = shapes.transpose(x, as_axes(dimensions, aval_of(x).ndim, "reshape"))
    sizes = (new_sizes,) if isinstance(new_sizes, (int, np.integer)) else tuple(new_sizes)
    return shapes.reshape(x, [as_int(n, "a size", "reshape") for n in sizes])


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Any:
    """Merge the dimensions start:stop into one."""
    x = as_operand(operand, "collapse")
    shape = aval_of(x).shape
    lo, hi, _ = builtins.slice(start_dimension, stop_dimension).indices(len(shape))
    if hi <= lo:
        raise ArgumentError(
            f"collapse: the range of dimensions {start_dimension}:{stop_dimension} of {aval_of(x)} is empty",
            fix="pass start < stop",
        )
    return shapes.reshape(x, (*shape[:lo], math.prod(shape[lo:hi]), *shape[hi:]))


def transpose(operand: Any, permutation: Sequence[int]) -> Any:
    """Permute dimensions: out.shape[i] = operand.shape[permutation[i]]."""
    return shapes.transpose(as_operand(operand, "transpose"), [as_int(d, "an axis", "transpose") for d in permutation])


def squeeze(array: Any, dimensions: Sequence[int]) -> Any:
    """Remove dimensions of size 1."""
    x = as_operand(array, "squeeze")
    return shapes.squeeze(x, as_axes(tuple(dimensions), aval_of(x).ndim, "squeeze"))


def expand_dims(array: Any, dimensions: Sequence[int]) -> Any:
    """Insert dimensions of size 1 at the given positions of the result."""
    x, dimensions = as_operand(array, "expand_dims"), tuple(dimensions)
    places = as_axes(dimensions, aval_of(x).ndim + len(dimensions), "expand_dims")
    return shapes.expand_dims(x, places) if places else x


def rev(operand: Any, dimensions: Sequence[int]) -> Any:
    """Reverse the elements along the given dimensions."""
    return shapes.rev(as_operand(operand, "rev"), tuple(dimensions))


# ---------------------------------------------------------------- slicing and joining


def slice(operand: Any, start_indices: Sequence[int], limit_indices: Sequence[int], strides: Any = None) -> Any:
    """Return operand[start:limit:stride], with one static entry per dimension, all in range.

    >>> import funcgrad.numpy as jnp
    >>> slice(jnp.arange(10), (1,), (8,), (3,))
    Array([1, 4, 7], dtype=int32)
    """
    entries = (tuple(start_indices), tuple(limit_indices), None if strides is None else tuple(strides))
    return slicing.slice_(as_operand(operand, "slice"), *entries)


def slice_in_dim(operand: Any, start_index: Any, limit_index: Any, stride: int = 1, axis: int = 0) -> Any:
    """Return operand[start:limit:stride] along one axis. Bounds may be None or negative, as in Python."""
    x = as_operand(operand, "slice_in_dim")
    shape = aval_of(x).shape
    axis = as_axis(axis, len(shape), "slice_in_dim")
    n = shape[axis]
    lo, hi = (
        default if bound is None else as_int(bound, "a bound", "slice_in_dim")
        for bound, default in ((start_index, 0), (limit_index, n))
    )
    start, limit, strides = [0] * len(shape), list(shape), [1] * len(shape)
    start[axis], limit[axis], strides[axis] = lo + n * (lo < 0), hi + n * (hi < 0), stride
    return slicing.slice_(x, start, limit, strides)


def pad(operand: Any, padding_value: Any, padding_config: Sequence[Sequence[int]]) -> Any:
    """Pad with a value: (low, high, interior) per dimension. Negative low and high remove elements.

    >>> import funcgrad.numpy as jnp
    >>> pad(jnp.array([1, 2]), 0, [(1, 0, 2)])
    Array([0, 1, 0, 0, 2], dtype=int32)
    """
    x = as_operand(operand, "pad")
    return slicing.pad(x, with_dtype(as_operand(padding_value, "pad"), aval_of(x).dtype), padding_config)


def concatenate(operands: Any, dimension: int) -> Any:
    """Join operands along an existing dimension."""
    arrays = to_common_dtype("concatenate", *operands)
    if not arrays:
        raise ArgumentError("concatenate: there are no operands", fix="pass at least one array")
    return slicing.concatenate(arrays, as_int(dimension, "dimension", "concatenate"))


def stack(operands: Sequence[Any], axis: int = 0) -> Any:
    """Join operands of equal shapes along a new axis."""
    arrays = to_common_dtype("stack", *operands)
    if not arrays:
        raise ArgumentError("stack: there are no operands", fix="pass at least one array")
    place = as_axis(axis, aval_of(arrays[0]).ndim + 1, "stack")
    return slicing.concatenate([shapes.expand_dims(a, (place,)) for a in arrays], place)


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """Return the slices along an axis, without that axis."""
    x = as_operand(x, "unstack")
    axis = as_axis(axis, aval_of(x).ndim, "unstack")
    return tuple(shapes.squeeze(slice_in_dim(x, i, i + 1, axis=axis), (axis,)) for i in range(aval_of(x).shape[axis]))


def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> list[Any]:
    """Split into consecutive parts of the given sizes along an axis."""
    x = as_operand(operand, "split")
    axis = as_axis(axis, aval_of(x).ndim, "split")
    if sum(sizes) != aval_of(x).shape[axis]:
        raise ShapeError(
            f"split: sizes {tuple(sizes)} add up to {sum(sizes)}, not to the size of axis {axis} of {aval_of(x)}",
            fix="pass sizes that add up to the size of the axis",
        )
    ends = np.cumsum(sizes).tolist()
    return [slice_in_dim(x, end - n, end, axis=axis) for n, end in zip(sizes, ends, strict=True)]
