"""NumPy's index expressions, x[…]: how they are parsed, and how reads become primitives.

An expression is parsed into entries: new axes, slices, static ints, index arrays. Static entries become slice, rev and
squeeze; traced scalars become dynamic_slice; index arrays become one gather. As in NumPy, the dimensions that index
arrays select are where the first array was, or in front if the arrays are not adjacent.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import eval_trace, state
from funcgrad.errors import IndexingError, NonConcreteBooleanIndexError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.dynamic_slices import dynamic_slice_p
from funcgrad.ops.gather_scatter import gather
from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode, wrap_index
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, rev, squeeze
from funcgrad.ops.slicing import concatenate, slice_

# Static index items that NumPy interprets as we do.
BASIC = frozenset({int, slice, type(None), EllipsisType})


class Slice(NamedTuple):
    """The `count` positions start, start + step, …"""

    start: int
    count: int
    step: int


class Expression(NamedTuple):
    """A parsed index: its entries in order, with the ellipsis expanded.

    An entry is None (a new axis), a Slice, an int (counted from the front, possibly out of range), or an integer array,
    which is a NumPy array if its value is known. `unit_dims` are the dimensions of size 1 to insert into the operand
    first, one for each scalar bool.
    """

    entries: list[Any]
    unit_dims: tuple[int, ...]


def parse(index: Any, aval: ShapedArray) -> Expression:
    """Parse an index into an array of type `aval`."""
    if isinstance(index, list):
        raise IndexingError(
            f"indexing {aval}: the index is a list, {index!r:.60}",
            fix="index with an array, x[jnp.array([…])], or with a tuple for one index per dimension",
        )
    items = [_item(i, k, aval) for k, i in enumerate(index if isinstance(index, tuple) else (index,))]
    consumed = sum(_consumed_dims(i) for i in items)
    ellipses = sum(i is Ellipsis for i in items)
    if ellipses > 1:
        raise IndexingError(f"indexing {aval}: the index has {ellipses} ellipses", fix="write '...' once")
    if consumed > aval.ndim:
        raise IndexingError(
            f"indexing {aval}: too many indices, {consumed} for {aval.ndim} dimensions",
            fix="remove some, or add dimensions with x[None]",
        )
    if not ellipses:
        items.append(Ellipsis)
    entries: list[Any] = []
    unit_dims: list[int] = []
    d = 0
    for k, item in enumerate(items):
        if item is Ellipsis:
            rest = aval.shape[d : d + aval.ndim - consumed]
            entries += [Slice(0, n, 1) for n in rest]
            d += len(rest)
        elif item is None:
            entries.append(None)
        elif isinstance(item, np.ndarray) and item.dtype == np.bool_:
            entries += _positions(item, d, k, aval)
            if not item.ndim:
                unit_dims.append(d + len(unit_dims))
            d += item.ndim
        else:
            entries.append(_entry(item, aval.shape[d], k, aval))
            d += 1
    return Expression(entries, tuple(unit_dims))


def _item(item: Any, k: int, aval: ShapedArray) -> Any:
    """Normalize an item to None, Ellipsis, a slice, an int, a NumPy int or bool array, or an integer tracer."""
    if type(item) in BASIC:
        return item
    if isinstance(item, list):
        item = np.asarray(item) if item else np.zeros(0, np.int32)
    if isinstance(item, (bool, np.bool_)):
        return np.asarray(item)
    if isinstance(item, Tracer):
        value = item.concrete() if item.aval.dtype == dtypes.bool_ else None
        item = item if value is None else value
    elif isinstance(item, Array):
        item = item.host
    if isinstance(item, (np.ndarray, ArrayLike, np.generic)):
        dtype = aval_of(item).dtype
        if dtypes.is_integer(dtype):
            return item if aval_of(item).shape or isinstance(item, Tracer) else int(item)
        if dtype == dtypes.bool_:
            if isinstance(item, Tracer):
                raise NonConcreteBooleanIndexError(
                    f"indexing {aval} with the traced mask {item.aval}: how many elements it selects is not known "
                    f"while {item._trace.description or 'tracing'}{item.origin()}",
                    fix="use jnp.where(mask, x, other), or jnp.nonzero(mask, size=…, fill_value=…) for indices",
                )
            return item
    try:
        return operator.index(item)
    except TypeError:
        kind = aval_of(item).short() if isinstance(item, (np.ndarray, ArrayLike)) else type(item).__name__
        raise IndexingError(
            f"indexing {aval}: index {k} is {item!r:.60} of type {kind}",
            fix="indices are ints, slices, None, '...', and arrays of ints or bools; cast floats with .astype(int)",
        ) from None


def _consumed_dims(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == np.bool_ else 1


def _positions(mask: np.ndarray, d: int, k: int, aval: ShapedArray) -> Sequence[np.ndarray]:
    """Return the positions of the true elements of a mask, one array per dimension of the mask."""
    if not mask.ndim:
        return (np.zeros(int(mask), np.int32),)
    if mask.shape != aval.shape[d : d + mask.ndim]:
        raise IndexingError(
            f"indexing {aval}: the mask at index {k} has shape {mask.shape}, but the dimensions it selects from have "
            f"shape {aval.shape[d : d + mask.ndim]}",
            fix="use a mask with the shape of the dimensions it indexes",
        )
    return tuple(p.astype(np.int32) for p in mask.nonzero())


def _entry(item: Any, size: int, k: int, aval: ShapedArray) -> Any:
    if isinstance(item, int):
        return item + size if item < 0 else item
    if isinstance(item, slice):
        try:
            positions = range(*item.indices(size))
        except TypeError:
            raise IndexingError(
                f"indexing {aval}: the slice at index {k} is {_show(item)}, whose bounds are not static integers",
                fix="use lax.dynamic_slice (static size, traced start), or make the bounds static",
            ) from None
        return Slice(positions.start, len(positions), positions.step) if positions else Slice(0, 0, 1)
    return item


def _show(s: slice) -> str:
    return ":".join("" if v is None else f"{v!r:.40}" for v in (s.start, s.stop, s.step))


# ---------------------------------------------------------------- reading


def getitem(x: Any, index: Any) -> Any:
    """x[index]. Negative indices count from the end; out-of-range indices read the nearest element."""
    if type(x) is Array and state.trace is eval_trace:
        value = _getitem_with_numpy(x, index)
        if value is not None:
            aval = x.aval
            return Array(ShapedArray(value.shape, aval.dtype, aval.weak_type), np.asarray(value))
    return read(x, index)


def _getitem_with_numpy(x: Array, index: Any) -> Any:
    """Return x[index] by NumPy indexing if the index is concrete and in range; otherwise None."""
    items = index if type(index) is tuple else (index,)
    for k, item in enumerate(items):
        kind = type(item)
        if kind in BASIC:
            continue
        if kind is Array:
            item = item.host
            items = (*items[:k], item, *items[k + 1 :])
        elif kind is not np.ndarray:
            return None
        if item.dtype.kind not in "iub":
            return None
    try:
        return x.host[items]
    except (IndexError, TypeError):  # out of range, or not an index: the general path handles or reports it
        return None


def iterate(x: Any) -> Iterator[Any]:
    """Iterate over the first dimension: x[0], x[1], …"""
    if not aval_of(x).shape:
        raise IndexingError(f"iteration over a 0-d array: {aval_of(x)}", fix="reshape it: for v in x[None]")
    return (x[i] for i in range(aval_of(x).shape[0]))


def read(
    x: Any,
    index: Any,
    *,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    wrap_negative_indices: bool = True,
) -> Any:
    """x[index] with a mode for out-of-range indices: x.at[index].get(…)."""
    if mode is None and fill_value is None:
        chosen = GatherScatterMode.PROMISE_IN_BOUNDS
    else:
        chosen = GatherScatterMode.from_any(mode)
    entries, unit_dims = parse(index, aval_of(x))
    x = expand_dims(x, unit_dims) if unit_dims else x
    x, entries = _read_slices(x, entries, chosen)
    arrays = [e for e in entries if _is_array(e)]
    if not arrays:
        return _restore(x, entries)
    if all(not aval_of(a).shape for a in arrays) and not chosen.checks_bounds:
        return _restore(*_read_scalars(x, entries))
    plan = layout(entries, aval_of(x).shape)
    if 0 in aval_of(x).shape and not chosen.checks_bounds and 0 not in plan.result_shape:
        raise IndexingError(f"indexing {aval_of(x)}: there is no element to read", fix="check x.size first")
    out = gather(
        x,
        index_vectors(plan, aval_of(x).shape, wrap_negative_indices),
        plan.numbers,
        plan.window,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices or not plan.batch_shape,
        mode=chosen,
        fill_value=fill_value,
    )
    return expand_dims(out, plan.new_axes) if plan.new_axes else out


def _is_array(entry: Any) -> bool:
    return isinstance(entry, (np.ndarray, ArrayLike))


def _read_slices(x: Any, entries: list[Any], mode: GatherScatterMode) -> tuple[Any, list[Any]]:
    """Apply the static entries, slices and ints. An int leaves a dimension of size 1, which is then read at 0."""
    shape = aval_of(x).shape
    start, limit, steps, reversed_dims = [0] * len(shape), list(shape), [1] * len(shape), []
    left: list[Any] = []
    d = 0
    for entry in entries:
        if entry is None:
            left.append(None)
            continue
        n = shape[d]
        if isinstance(entry, Slice):
            first, last = entry.start, entry.start + (entry.count - 1) * entry.step
            if entry.step < 0:
                reversed_dims.append(d)
                first, last = last, first
            start[d], limit[d], steps[d] = first, max(last + 1, first), abs(entry.step)
            entry = Slice(0, entry.count, 1)
        elif isinstance(entry, int):
            if 0 <= entry < n:
                start[d], limit[d], entry = entry, entry + 1, 0
            elif mode.checks_bounds:
                entry = np.asarray(n, np.int32)  # gather fills it
            elif n:
                # dynamic_slice or gather clips it, so that checkify reports it. They wrap negative indices first.
                entry = np.asarray(entry if entry > 0 else entry - n, np.int32)
            else:
                raise IndexingError(f"indexing {aval_of(x)}: dimension {d} is empty", fix="check x.size first")
        left.append(entry)
        d += 1
    return rev(slice_(x, start, limit, steps), tuple(reversed_dims)), left


def _read_scalars(x: Any, entries: list[Any]) -> tuple[Any, list[Any]]:
    """Read traced scalar indices by dynamic_slice, which leaves their dimensions with size 1."""
    sizes, starts, left = list(aval_of(x).shape), [], []
    dtype = _index_dtype([e for e in entries if _is_array(e)])
    for entry in entries:
        if _is_array(entry):
            n = sizes[len(starts)]
            if not n:
                raise IndexingError(f"indexing {aval_of(x)}: there is no element to read", fix="check x.size first")
            sizes[len(starts)] = 1
            starts.append(wrap_index(convert_element_type(entry, dtype), n))
            left.append(0)
            continue
        if entry is not None:
            starts.append(np.zeros((), dtype))
        left.append(entry)
    return dynamic_slice_p.bind(x, *starts, slice_sizes=tuple(sizes)), left


def _restore(x: Any, entries: list[Any]) -> Any:
    """Remove the dimensions of size 1 that ints left, and insert the new axes."""
    ints = [isinstance(e, int) for e in entries if e is not None]
    x = squeeze(x, tuple(d for d, is_int in enumerate(ints) if is_int))
    new = tuple(k for k, e in enumerate([e for e in entries if not isinstance(e, int)]) if e is None)
    return expand_dims(x, new) if new else x


# ---------------------------------------------------------------- expressions as gathers and scatters


class Layout(NamedTuple):
    """An index expression as a gather, or as a scatter with the same dimension numbers.

    `columns` has one entry per indexed operand dimension: (dimension, positions, batch dimensions of the positions).
    The result has shape `result_shape`, including `new_axes`, which the gather does not make.
    """

    columns: list[tuple[int, Any, tuple[int, ...]]]
    batch_shape: tuple[int, ...]
    numbers: GatherDimensionNumbers
    window: tuple[int, ...]
    new_axes: tuple[int, ...]
    result_shape: tuple[int, ...]


def layout(entries: Sequence[Any], shape: Sequence[int]) -> Layout:
    """Compute the Layout of entries for an operand of the given shape."""
    advanced = [k for k, e in enumerate(entries) if _is_array(e) or isinstance(e, int)]
    selected = _selected_shape([e for e in entries if _is_array(e)])
    together = bool(advanced) and advanced[-1] - advanced[0] + 1 == len(advanced)
    place = advanced[0] if together else 0
    columns: list[tuple[int, Any, tuple[int, ...]]] = []
    batch: list[int] = []
    result: list[int] = []
    new_axes, offset, collapsed, window = [], [], [], []
    selected_dims: tuple[int, ...] = ()
    indexed: list[tuple[int, Any]] = []
    d = 0
    for k, entry in enumerate([*entries, None]):
        if k == place:
            selected_dims = tuple(range(len(batch), len(batch) + len(selected)))
            batch += selected
            result += selected
        if k == len(entries):
            break
        if entry is None:
            new_axes.append(len(result))
            result.append(1)
            continue
        if isinstance(entry, Slice):
            result.append(entry.count)
            if entry.step == 1:
                offset.append(len(result) - 1 - len(new_axes))
                if entry.start or entry.count != shape[d]:
                    columns.append((d, np.asarray(entry.start), ()))
                window.append(entry.count)
            else:
                columns.append((d, entry.start + entry.step * np.arange(entry.count), (len(batch),)))
                batch.append(entry.count)
                collapsed.append(d)
                window.append(min(1, shape[d]))
        else:
            if _is_array(entry) or entry or shape[d] != 1:
                indexed.append((d, entry))
            collapsed.append(d)
            window.append(min(1, shape[d]))
        d += 1
    for d, entry in indexed:
        rank = aval_of(entry).ndim
        columns.append((d, entry, selected_dims[len(selected_dims) - rank :]))
    columns.sort(key=lambda c: c[0])
    numbers = GatherDimensionNumbers(tuple(offset), tuple(collapsed), tuple(d for d, *_ in columns))
    return Layout(columns, tuple(batch), numbers, tuple(window), tuple(new_axes), tuple(result))


def _selected_shape(arrays: Sequence[Any]) -> tuple[int, ...]:
    shapes = [aval_of(a).shape for a in arrays]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            f"indexing: index arrays of shapes {' and '.join(map(str, shapes))} do not broadcast together",
            fix="index arrays are paired element by element; use jnp.ix_ to select all combinations",
        ) from None


def _index_dtype(arrays: Sequence[Any]) -> np.dtype:
    wide = any(aval_of(a).dtype in (dtypes.int64, dtypes.uint64) for a in arrays)
    return dtypes.canonicalize(dtypes.int64) if wide else dtypes.int32


def index_vectors(plan: Layout, shape: Sequence[int], wrap_negative: bool = True) -> Any:
    """Return the positions of a layout as index vectors, of shape (batch…, number of columns)."""
    if not any(isinstance(p, Tracer) for _, p, _ in plan.columns):
        return _concrete_vectors(plan, shape, wrap_negative)
    dtype = _index_dtype([p for _, p, _ in plan.columns if isinstance(p, Tracer)])
    rank = len(plan.batch_shape)
    columns = []
    for d, positions, along in plan.columns:
        if not isinstance(positions, Tracer):
            positions = _clip(np.asarray(positions), dtype)
        elif aval_of(positions).dtype.kind != "u" and aval_of(positions).dtype != dtype:
            positions = convert_element_type(positions, dtype)
        positions = wrap_index(positions, shape[d]) if wrap_negative else positions
        positions = convert_element_type(positions, dtype)
        columns.append(broadcast_in_dim(positions, (*plan.batch_shape, 1), along))
    return concatenate(columns, rank)


def _clip(positions: np.ndarray, dtype: np.dtype) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.clip(positions, limits.min, limits.max).astype(dtype) if positions.dtype != dtype else positions


def _concrete_vectors(plan: Layout, shape: Sequence[int], wrap_negative: bool) -> np.ndarray:
    out = np.empty((*plan.batch_shape, len(plan.columns)), np.int32)
    for j, (d, positions, along) in enumerate(plan.columns):
        known = _clip(np.asarray(positions), dtypes.int32)
        known = wrap_index(known, shape[d]) if wrap_negative else known
        sizes = dict(zip(along, known.shape, strict=True))
        out[..., j] = known.reshape([sizes.get(b, 1) for b in range(len(plan.batch_shape))])
    return out
