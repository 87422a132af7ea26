"""Windows of an array at positions computed at run time: where they lie, and reading and writing them with NumPy.

A gather reads one window of static size per index vector. With operand `x`, indices `i` of shape (batch…, k) and the
dimension numbers' `start_index_map`, window b starts at s[start_index_map[j]] = i[b, j] (0 in the other dimensions):

    out[b, w] = x[clamp(s_b) + w]            windows of `slice_sizes`; collapsed dimensions have size 1 and are dropped

A scatter combines one window of updates per index vector into a copy of the operand, in row-major order of the batch:

    for b in batch: out[s_b + w] = combine(out[s_b + w], updates[b, w])

The dimension numbers of a scatter are those of the gather that reads what it writes: the updates take the place of the
result.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.accumulation import widest
from funcgrad.ops.arithmetic import add_p
from funcgrad.ops.logic import lt_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import full


class GatherDimensionNumbers(NamedTuple):
    """Which dimensions of operand, indices and result of a gather correspond.

    `offset_dims`: result dimensions that hold the window; the others are the batch. `collapsed_slice_dims`: operand
    dimensions of window size 1 that are dropped. `start_index_map`: the operand dimension of each entry of an index
    vector (the last dimension of the indices). `operand_batching_dims` go along with `start_indices_batching_dims`.
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


class ScatterDimensionNumbers(NamedTuple):
    """Which dimensions of operand, indices and updates of a scatter correspond; see GatherDimensionNumbers."""

    update_window_dims: tuple[int, ...]
    inserted_window_dims: tuple[int, ...]
    scatter_dims_to_operand_dims: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    scatter_indices_batching_dims: tuple[int, ...] = ()


class GatherScatterMode(enum.Enum):
    """What becomes of windows that reach outside the operand.

    CLIP: the window is moved inside. FILL_OR_DROP: a read gives the fill value, a write is dropped. PROMISE_IN_BOUNDS:
    there are none; if there are, as CLIP. ONE_HOT: as FILL_OR_DROP, filling with zero.
    """

    CLIP = enum.auto()
    FILL_OR_DROP = enum.auto()
    PROMISE_IN_BOUNDS = enum.auto()
    ONE_HOT = enum.auto()

    @staticmethod
    def from_any(mode: str | GatherScatterMode | None) -> GatherScatterMode:
        """Return the mode that a name stands for; None is FILL_OR_DROP.

        >>> GatherScatterMode.from_any("clip")
        <GatherScatterMode.CLIP: 1>
        """
        if isinstance(mode, GatherScatterMode):
            return mode
        if mode is None or (isinstance(mode, str) and mode in _MODES):
            return _MODES[mode or "fill"]
        raise ArgumentError(
            f"indexing: unknown mode {mode!r}", fix=f"use one of {', '.join(map(repr, _MODES))} or a GatherScatterMode"
        )

    @property
    def checks_bounds(self) -> bool:
        """Whether windows outside the operand are left out instead of moved inside."""
        return self in (GatherScatterMode.FILL_OR_DROP, GatherScatterMode.ONE_HOT)


_MODES = {
    "clip": GatherScatterMode.CLIP,
    "fill": GatherScatterMode.FILL_OR_DROP,
    "drop": GatherScatterMode.FILL_OR_DROP,
    "promise_in_bounds": GatherScatterMode.PROMISE_IN_BOUNDS,
    "one_hot": GatherScatterMode.ONE_HOT,
}


def default_fill(dtype: np.dtype) -> Any:
    """Return what out-of-range reads give unless told: NaN, the least signed or greatest unsigned integer, or True."""
    if dtypes.is_inexact(dtype):
        return math.nan
    if dtype == dtypes.bool_:
        return True
    limits = np.iinfo(np.uint32 if dtype == dtypes.key else dtype)
    return int(limits.min if dtype.kind == "i" else limits.max)


def wrap_index(index: Any, size: int) -> Any:
    """Return index + size where the index is negative (counted from the end), else the index."""
    dtype = aval_of(index).dtype
    if dtype.kind == "u":
        return index
    if not isinstance(index, Tracer):
        i = np.asarray(index)
        return np.where(i < 0, i + np.array(size, dtype), i)
    zero, step = full((), 0, dtype), full((), size, dtype)
    return select_n_p.bind(lt_p.bind(index, zero), index, add_p.bind(index, step))


# ---------------------------------------------------------------- where windows lie


def check_windows(
    name: str,
    operand: ShapedArray,
    indices: ShapedArray,
    numbers: GatherDimensionNumbers,
    sizes: Sequence[int],
) -> None:
    """Raise unless dimension numbers and window sizes fit the operand and the indices."""

    def require(fits: bool, error: type, problem: str, fix: str) -> None:
        if not fits:
            raise error(f"{name}: {problem} (operand {operand}, indices {indices}, {numbers})", fix=fix)

    offset, collapsed, index_map, batching, index_batching = map(tuple, numbers)
    require(
        dtypes.is_integer(indices.dtype),
        DTypeError,
        f"indices have dtype {indices.dtype.name}",
        "cast them with .astype('int32')",
    )
    require(indices.ndim >= 1, ShapeError, "indices are a scalar", "the last dimension holds the index vector: i[None]")
    require(
        len(index_map) == indices.shape[-1],
        ShapeError,
        f"index vectors have {indices.shape[-1]} entries for {len(index_map)} dimensions",
        "give one operand dimension per entry of the last dimension of the indices",
    )
    for label, dims in (("index map", index_map), ("window dimensions dropped", (*collapsed, *batching))):
        require(
            len(set(dims)) == len(dims) and all(0 <= d < operand.ndim for d in dims),
            ArgumentError,
            f"{label} {dims} are not distinct operand dimensions",
            f"choose in [0, {operand.ndim})",
        )
    rank = indices.ndim - 1 + len(offset)
    require(
        list(offset) == sorted(set(offset)) and all(0 <= d < rank for d in offset),
        ArgumentError,
        f"window dimensions {offset} are not increasing dimensions in [0, {rank})",
        "sort them",
    )
    require(
        len(offset) + len(collapsed) + len(batching) == operand.ndim,
        ShapeError,
        f"{len(offset)} window, {len(collapsed)} dropped and {len(batching)} batching dimensions",
        "each operand dimension is exactly one of these",
    )
    require(
        len(sizes) == operand.ndim and all(0 <= m <= n for m, n in zip(sizes, operand.shape, strict=True)),
        ShapeError,
        f"window sizes {tuple(sizes)} exceed the operand",
        "keep them inside it",
    )
    require(
        all(sizes[d] == 1 for d in (*collapsed, *batching) if operand.shape[d]),
        ShapeError,
        f"window sizes {tuple(sizes)} are not 1 where dimensions are dropped",
        "give size 1 there",
    )
    require(
        len(batching) == len(index_batching)
        and [operand.shape[d] for d in batching] == [indices.shape[d] for d in index_batching],
        ShapeError,
        "batching dimensions of operand and indices differ",
        "they go together, one size each",
    )


def window_dims(numbers: GatherDimensionNumbers, rank: int) -> tuple[int, ...]:
    """Return the operand dimensions that a window keeps, in order."""
    dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    return tuple(d for d in range(rank) if d not in dropped)


def windows_first(numbers: GatherDimensionNumbers, rank: int) -> tuple[int, ...]:
    """Return the permutation that brings a gather's result to (batch…, window…)."""
    return (*(d for d in range(rank) if d not in numbers.offset_dims), *numbers.offset_dims)


class Windows(NamedTuple):
    """Where the windows of a gather or scatter lie, for N windows in row-major order of the batch.

    `lead` are the operand dimensions in which windows differ, `rest` those that every window covers whole. `positions`
    has one array per dimension of `lead`, which broadcast to (N, window sizes in lead…). `valid`: which windows are
    inside, or None when out-of-range windows were moved inside.
    """

    lead: tuple[int, ...]
    rest: tuple[int, ...]
    positions: tuple[np.ndarray, ...]
    valid: np.ndarray | None


def locate(
    shape: Sequence[int],
    indices: np.ndarray,
    numbers: GatherDimensionNumbers,
    sizes: Sequence[int],
    mode: GatherScatterMode,
) -> Windows:
    """Return where the windows lie in an operand of the given shape."""
    batch = indices.shape[:-1]
    count = math.prod(batch)
    starts: dict[int, np.ndarray] = {}
    valid = np.ones(count, bool) if mode.checks_bounds else None
    for j, d in enumerate(numbers.start_index_map):
        last = shape[d] - sizes[d]
        given = indices[..., j].reshape(count)
        if valid is not None:
            valid &= (given >= 0) & (given <= last)
        starts[d] = np.clip(given, 0, min(last, np.iinfo(given.dtype).max)).astype(np.intp)
    for d, along in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        own = np.arange(batch[along]).reshape([-1 if b == along else 1 for b in range(len(batch))])
        starts[d] = np.broadcast_to(own, batch).reshape(count)
    lead = tuple(d for d in range(len(shape)) if sizes[d] != shape[d] or d in numbers.operand_batching_dims)
    positions = []
    for axis, d in enumerate(lead, 1):
        start = starts.get(d, np.zeros(1, np.intp)).reshape([-1] + [1] * len(lead))
        within = np.arange(sizes[d]).reshape([-1 if a == axis else 1 for a in range(len(lead) + 1)])
        positions.append(start + within)
    rest = tuple(d for d in range(len(shape)) if d not in lead)
    return Windows(lead, rest, tuple(positions), valid)


def batched_numbers(
    numbers: GatherDimensionNumbers, operand_batched: bool, indices_batched: bool
) -> GatherDimensionNumbers:
    """Return dimension numbers for operands, indices and results with leading batch dimensions, where marked."""
    offset, collapsed, index_map, batching, index_batching = numbers
    up = lambda dims, by: tuple(d + by for d in dims)  # noqa: E731
    o, i = int(operand_batched), int(indices_batched)
    offset, collapsed, index_map = up(offset, 1), up(collapsed, o), up(index_map, o)
    batching, index_batching = up(batching, o), up(index_batching, i)
    if operand_batched and indices_batched:
        batching, index_batching = (0, *batching), (0, *index_batching)
    elif operand_batched:
        offset = (0, *offset)
    return GatherDimensionNumbers(offset, collapsed, index_map, batching, index_batching)


def as_scatter_numbers(numbers: GatherDimensionNumbers) -> ScatterDimensionNumbers:
    """Return the scatter dimension numbers of the transposed gather."""
    return ScatterDimensionNumbers(*numbers)


def as_gather_numbers(numbers: ScatterDimensionNumbers) -> GatherDimensionNumbers:
    """Return the dimension numbers of the gather that reads what the scatter writes."""
    return GatherDimensionNumbers(*numbers)


def window_sizes(operand: Sequence[int], updates: Sequence[int], numbers: ScatterDimensionNumbers) -> tuple[int, ...]:
    """Return the window's size in each operand dimension: the updates' where it is kept, else 1."""
    kept = dict(zip(window_dims(as_gather_numbers(numbers), len(operand)), numbers.update_window_dims, strict=False))
    return tuple(updates[kept[d]] if d in kept else min(1, n) for d, n in enumerate(operand))


# ---------------------------------------------------------------- evaluation


def read_windows(
    operand: np.ndarray,
    indices: np.ndarray,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: tuple[int, ...],
    mode: GatherScatterMode,
    fill_value: Any,
    **_: Any,
) -> np.ndarray:
    """Evaluate a gather."""
    numbers, count = dimension_numbers, math.prod(indices.shape[:-1])
    kept = [slice_sizes[d] for d in window_dims(numbers, operand.ndim)]
    if operand.size == 0:  # every window is empty, or lies outside: there is nothing to read
        read = np.zeros((count, *kept), operand.dtype)
        valid = np.zeros(count, bool) if mode.checks_bounds else None
    else:
        lead, rest, positions, valid = locate(operand.shape, indices, numbers, slice_sizes, mode)
        if len(lead) == 1:  # take is several times as fast as an index array
            read = np.moveaxis(
                np.take(operand, np.broadcast_to(positions[0], (count, slice_sizes[lead[0]])), lead[0]), lead[0], 0
            )
        else:
            ordered = operand.transpose((*lead, *rest))
            read = ordered[positions] if lead else ordered[None]
            read = np.broadcast_to(read, (count, *read.shape[1:]))
            read = read.transpose((0, *(1 + p for p in np.argsort((*lead, *rest)))))
        read = read.reshape((count, *kept))
    if valid is not None and not valid.all():
        fill = fill_of(fill_value, operand.dtype, mode)
        read = np.where(valid.reshape([-1] + [1] * len(kept)), read, np.asarray(fill).astype(operand.dtype))
    rank = indices.ndim - 1 + len(kept)
    order = np.argsort(windows_first(numbers, rank))
    return read.reshape((*indices.shape[:-1], *kept)).transpose(order)


def fill_of(fill_value: Any, dtype: np.dtype, mode: GatherScatterMode) -> Any:
    """Return what out-of-range reads give."""
    if mode is GatherScatterMode.ONE_HOT:
        return 0
    return default_fill(dtype) if fill_value is None else fill_value


def assign(work: np.ndarray, rows: np.ndarray, values: np.ndarray, unique: bool) -> None:
    """Replace rows of `work`; of several values for one row, the last."""
    work[rows] = values


# Narrow floats are added in double precision where so many come to one place on average.
_MANY = 8


def accumulate(combine: np.ufunc, fold: np.ufunc) -> Callable[..., None]:
    """Return work[rows] = combine(work[rows], values) where rows may repeat; `fold` merges values of one row."""

    def update(work: np.ndarray, rows: np.ndarray, values: np.ndarray, unique: bool) -> None:
        if fold is np.add and dtypes.is_inexact(work.dtype) and len(rows) >= _MANY * len(work):
            wide = widest(work.dtype)
            if work.dtype != wide:  # sums of many terms
                total = work.astype(wide)
                update(total, rows, values.astype(wide), unique)
                work[...] = total
                return
        if work.ndim == 1:
            combine.at(work, rows, values)
            return
        if not unique:
            order = np.argsort(rows, kind="stable")
            rows, values = rows[order], values[order]
            first = np.flatnonzero(np.diff(rows, prepend=-1))
            rows, values = rows[first], fold.reduceat(values, first, axis=0) if len(first) else values
        work[rows] = combine(work[rows], values)

    return update


def write_windows(
    update: Callable[..., None],
    operand: np.ndarray,
    indices: np.ndarray,
    updates: np.ndarray,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    unique_indices: bool,
    mode: GatherScatterMode,
    **_: Any,
) -> np.ndarray:
    """Evaluate a scatter; `update(work, rows, values, unique)` combines values into rows of `work` in place."""
    if operand.size == 0 or updates.size == 0:
        return operand
    numbers = as_gather_numbers(dimension_numbers)
    sizes = window_sizes(operand.shape, updates.shape, dimension_numbers)
    lead, rest, positions, valid = locate(operand.shape, indices, numbers, sizes, mode)
    order, count = (*lead, *rest), math.prod(indices.shape[:-1])
    leading = tuple(operand.shape[d] for d in lead)
    # Every row of `work` is one position in the leading dimensions: windows become lists of row numbers.
    within = tuple(sizes[d] for d in lead)
    rows = np.ravel_multi_index(np.broadcast_arrays(*positions), leading) if lead else np.zeros(1, np.intp)
    rows = np.broadcast_to(rows, (count, *within))
    values = updates.transpose(windows_first(numbers, updates.ndim)).reshape((count, *sizes))
    values = values.transpose((0, *(d + 1 for d in order)))
    if valid is not None and not valid.all():
        rows, values = rows[valid], values[valid]
    width = math.prod(operand.shape[d] for d in rest)
    work = np.array(operand.transpose(order), order="C").reshape((-1, width) if width > 1 else -1)
    update(work, rows.ravel(), values.reshape((-1, width) if width > 1 else -1), unique_indices)
    return work.reshape([operand.shape[d] for d in order]).transpose(np.argsort(order))
