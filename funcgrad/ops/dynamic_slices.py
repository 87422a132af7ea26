"""dynamic_slice and dynamic_update_slice: a slice of static size at a position computed at run time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Gather, GatherForm, Scatter, ScatterForm
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.core.tracers import Tracer
from funcgrad.errors import DTypeError, IndexingError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.gather_scatter import gather_p, scatter_p
from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers, wrap_index
from funcgrad.ops.shapes import Dims, broadcast_in_batch, broadcast_in_dim, full, instantiate, move_axis, to_dim
from funcgrad.ops.slicing import concatenate


def check_starts(name: str, operand: ShapedArray, starts: Sequence[ShapedArray], sizes: Sequence[int]) -> None:
    """Raise unless there is one integer scalar start per dimension, and the window fits in the operand."""
    if len(starts) != operand.ndim or len(sizes) != operand.ndim:
        raise ShapeError(
            f"{name}: {len(starts)} start indices and window sizes {tuple(sizes)} for operand {operand}",
            fix="give one start index and one size per dimension",
        )
    for s in starts:
        if s.shape or not dtypes.is_integer(s.dtype):
            raise IndexingError(f"{name}: a start index has type {s}", fix="start indices are integer scalars")
    if any(not 0 <= m <= n for m, n in zip(sizes, operand.shape, strict=True)):
        raise ShapeError(
            f"{name}: a window of shape {tuple(sizes)} does not fit in operand {operand}",
            fix="window sizes must be at most the operand's",
        )


def clamped_starts(shape: Sequence[int], starts: Sequence[np.ndarray], sizes: Sequence[int]) -> tuple[slice, ...]:
    """Return the window as slices, clamped to the operand."""
    low = [min(max(int(s), 0), n - m) for s, n, m in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(s, s + m) for s, m in zip(low, sizes, strict=True))


def _dynamic_slice_infer(operand: ShapedArray, *starts: ShapedArray, slice_sizes: tuple[int, ...]) -> ShapedArray:
    check_starts("dynamic_slice", operand, starts, slice_sizes)
    return ShapedArray(slice_sizes, operand.dtype, operand.weak_type)


def _dynamic_slice_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, slice_sizes: Any) -> tuple[Any, Any]:
    ans = dynamic_slice_p.bind(*primals, slice_sizes=slice_sizes)
    if type(tangents[0]) is Zero:
        return ans, Zero(aval_of(ans).tangent())
    return ans, dynamic_slice_p.bind(tangents[0], *primals[1:], slice_sizes=slice_sizes)


def _dynamic_slice_transpose(ct: Any, operand: Any, *starts: Any, slice_sizes: Any) -> list[Any]:
    if not is_undefined(operand):
        return [None] * (1 + len(starts))
    aval = aval_of(operand)
    back = dynamic_update_slice_p.bind(full(aval.shape, 0, aval.dtype), ct, *starts)
    return [back, *(None for _ in starts)]


def stacked_starts(starts: Sequence[Any], dims: Dims) -> tuple[Any, int | None]:
    """Return start scalars, some of them batched, as index vectors of shape (batch, k), and the batch dimension."""
    size = next((aval_of(s).shape[0] for s, d in zip(starts, dims, strict=True) if d is not None), None)
    # Starts may have different integer dtypes.
    dtype = np.result_type(*(aval_of(s).dtype for s in starts)) if starts else dtypes.int32
    dtype = dtype if dtypes.is_integer(dtype) else dtypes.int64
    columns = []
    for s, d in zip(starts, dims, strict=True):
        s = convert_element_type(s, dtype)
        column = broadcast_in_batch(s, size, 0) if d is None and size is not None else s
        shape = aval_of(column).shape
        columns.append(broadcast_in_dim(column, (*shape, 1), tuple(range(len(shape)))))
    return concatenate(columns, len(aval_of(columns[0]).shape) - 1), None if size is None else 0


def _dynamic_slice_batch(
    axis: AxisData, args: Sequence[Any], dims: Dims, *, slice_sizes: tuple[int, ...]
) -> tuple[Any, int]:
    (operand, *starts), (operand_dim, *start_dims) = args, dims
    if operand_dim is not None and all(d is None for d in start_dims):
        operand = move_axis(operand, operand_dim, 0)
        zero = as_array(np.zeros((), aval_of(starts[0]).dtype)) if starts else np.zeros((), np.int32)
        sizes = (aval_of(operand).shape[0], *slice_sizes)
        return dynamic_slice_p.bind(operand, zero, *starts, slice_sizes=sizes), 0
    indices, indices_dim = stacked_starts(starts, start_dims)
    every = tuple(range(len(slice_sizes)))
    return gather_p.batch(
        axis,
        (operand, indices),
        (operand_dim, indices_dim),
        dimension_numbers=GatherDimensionNumbers(every, (), every),
        slice_sizes=slice_sizes,
        fill_value=None,
        indices_are_sorted=True,
        mode=GatherScatterMode.CLIP,
        unique_indices=True,
    )


def _dynamic_slice_form(in_avals: Sequence[ShapedArray], *, slice_sizes: tuple[int, ...]) -> GatherForm:
    every = tuple(range(len(slice_sizes)))
    return GatherForm(every, every, slice_sizes, None)


dynamic_slice_p = Primitive(
    "dynamic_slice",
    infer=_dynamic_slice_infer,
    evaluate=lambda x, *starts, slice_sizes: x[clamped_starts(x.shape, starts, slice_sizes)],
    jvp=_dynamic_slice_jvp,
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
    lowering=Gather(_dynamic_slice_form),
)


def wrapped_starts(starts: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Return start indices with negative ones counted from the end; concrete ones become int32 constants."""
    if isinstance(starts, (np.ndarray, Array, Tracer)):
        starts = [starts[i] for i in range(aval_of(starts).shape[0])]
    out = []
    for s, n in zip(starts, shape, strict=True):
        if isinstance(s, (int, np.integer)):
            limits = np.iinfo(np.int32)
            s = np.int32(min(max(s, limits.min), limits.max))
        out.append(wrap_index(s, n))
    return out


def dynamic_slice(operand: Any, start_indices: Any, slice_sizes: Sequence[int]) -> Any:
    """Return the window of static size `slice_sizes` that starts at `start_indices`, moved inside if it sticks out.

    >>> dynamic_slice(np.arange(5), [3], (3,))
    Array([2, 3, 4], dtype=int32)
    """
    shape = aval_of(operand).shape
    starts = list(start_indices) if isinstance(start_indices, (tuple, list)) else start_indices
    given = len(starts) if isinstance(starts, list) else math.prod(aval_of(starts).shape)
    if given != len(shape):
        raise ShapeError(
            f"dynamic_slice: {given} start indices for operand {aval_of(operand)}", fix="give one per dimension"
        )
    return dynamic_slice_p.bind(operand, *wrapped_starts(starts, shape), slice_sizes=tuple(map(int, slice_sizes)))


# ---------------------------------------------------------------- dynamic_update_slice


def _update_infer(operand: ShapedArray, update: ShapedArray, *starts: ShapedArray) -> ShapedArray:
    if update.dtype != operand.dtype:
        raise DTypeError(
            f"dynamic_update_slice: operand {operand} and update {update} have different dtypes",
            fix="cast one with .astype(...)",
        )
    if update.ndim != operand.ndim:
        raise ShapeError(
            f"dynamic_update_slice: operand {operand} and update {update} have different ranks",
            fix="reshape the update to the operand's rank",
        )
    check_starts("dynamic_update_slice", operand, starts, update.shape)
    return ShapedArray(operand.shape, operand.dtype)


def _update_evaluate(operand: np.ndarray, update: np.ndarray, *starts: np.ndarray) -> np.ndarray:
    out = np.array(operand)
    out[clamped_starts(operand.shape, starts, update.shape)] = update
    return out


def _update_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    _, _, *starts = primals
    ans = dynamic_update_slice_p.bind(*primals)
    if type(tangents[0]) is Zero and type(tangents[1]) is Zero:
        return ans, Zero(aval_of(ans).tangent())
    return ans, dynamic_update_slice_p.bind(instantiate(tangents[0]), instantiate(tangents[1]), *starts)


def _update_transpose(ct: Any, operand: Any, update: Any, *starts: Any) -> list[Any]:
    shape, dtype = aval_of(update).shape, aval_of(ct).dtype
    of_operand = dynamic_update_slice_p.bind(ct, full(shape, 0, dtype), *starts) if is_undefined(operand) else None
    of_update = dynamic_slice_p.bind(ct, *starts, slice_sizes=shape) if is_undefined(update) else None
    return [of_operand, of_update, *(None for _ in starts)]


def _update_batch(axis: AxisData, args: Sequence[Any], dims: Dims) -> tuple[Any, int]:
    (operand, update, *starts), (operand_dim, update_dim, *start_dims) = args, dims
    if all(d is None for d in start_dims):
        size = axis.size
        operand, update = (to_dim(a, d, 0, size) for a, d in ((operand, operand_dim), (update, update_dim)))
        zero = np.zeros((), aval_of(starts[0]).dtype if starts else np.int32)
        return dynamic_update_slice_p.bind(operand, update, zero, *starts), 0
    indices, indices_dim = stacked_starts(starts, start_dims)
    every = tuple(range(len(starts)))
    return scatter_p.batch(
        axis,
        (operand, indices, update),
        (operand_dim, indices_dim, update_dim),
        dimension_numbers=ScatterDimensionNumbers(every, (), every),
        indices_are_sorted=True,
        mode=GatherScatterMode.CLIP,
        unique_indices=True,
    )


dynamic_update_slice_p = Primitive(
    "dynamic_update_slice",
    infer=_update_infer,
    evaluate=_update_evaluate,
    jvp=_update_jvp,
    transpose=_update_transpose,
    batch=_update_batch,
    lowering=Scatter(lambda in_avals: ScatterForm(tuple(range(in_avals[0].ndim)))),
    moves_only=True,
)


def dynamic_update_slice(operand: Any, update: Any, start_indices: Any) -> Any:
    """Return `operand` with the window at `start_indices` replaced by `update`; the window is moved inside.

    >>> dynamic_update_slice(np.zeros(4, np.float32), np.ones(2, np.float32), [3])
    Array([0., 0., 1., 1.], dtype=float32)
    """
    shape = aval_of(operand).shape
    starts = list(start_indices) if isinstance(start_indices, (tuple, list)) else start_indices
    given = len(starts) if isinstance(starts, list) else math.prod(aval_of(starts).shape)
    if given != len(shape):
        raise ShapeError(
            f"dynamic_update_slice: {given} start indices for operand {aval_of(operand)}", fix="give one per dimension"
        )
    return dynamic_update_slice_p.bind(operand, update, *wrapped_starts(starts, shape))
