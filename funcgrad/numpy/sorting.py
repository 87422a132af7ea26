"""Sorting and searching: sort, argsort, partition, searchsorted, digitize, unique."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis, as_int
from funcgrad.arguments.promotion import as_operand, promote_dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import eval_trace, state
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import masks, ufuncs
from funcgrad.ops import sorting as ops
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.reductions import cumsum
from funcgrad.ops.shapes import broadcast_in_dim, full, move_axis, reshape, rev
from funcgrad.ops.slicing import concatenate, iota, slice_

__all__ = [
    "argpartition",
    "argsort",
    "digitize",
    "lexsort",
    "partition",
    "searchsorted",
    "sort",
    "sort_complex",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]

# ---------------------------------------------------------------- sort


def _flat_or_axis(a: Any, axis: int | None, operation: str) -> tuple[Any, int]:
    """Return the operand and its validated axis; for None, the flattened operand and axis 0."""
    a = as_operand(a, operation)
    if axis is None:
        return reshape(a, (aval_of(a).size,)), 0
    return a, as_axis(axis, aval_of(a).ndim, operation)


def _reject_numpy_options(operation: str, kind: Any, order: Any) -> None:
    if kind is not None or order is not None:
        raise ArgumentError(
            f"{operation}: kind={kind!r} and order={order!r} are not supported",
            fix="use stable=True or stable=False, and lexsort to sort by several keys",
        )


def sort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """Return a copy sorted along `axis`, flattened first if that is None. NaN sorts last, or first if `descending`.

    >>> import funcgrad.numpy as jnp
    >>> jnp.sort(jnp.array([3, 1, 2]), descending=True)
    Array([3, 2, 1], dtype=int32)
    """
    _reject_numpy_options("sort", kind, order)
    a, axis = _flat_or_axis(a, axis, "sort")
    (out,) = ops.sort([a], axis, stable)
    return rev(out, (axis,)) if descending else out


def argsort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
    dtype: Any = None,
) -> Any:
    """Return the indices that sort along `axis`, of the flattened array if that is None. The sort is stable.

    >>> import funcgrad.numpy as jnp
    >>> jnp.argsort(jnp.array([3.0, 1.0, 2.0]))
    Array([1, 2, 0], dtype=int32)
    """
    _reject_numpy_options("argsort", kind, order)
    a, axis = _flat_or_axis(a, axis, "argsort")
    index_dtype = dtypes.canonicalize(int) if dtype is None else dtypes.requested(dtype, "argsort")
    positions = iota(index_dtype, aval_of(a).shape, axis)
    if not descending:
        return ops.sort([a, positions], axis, stable)[1]
    # Reversing before and after keeps the sort stable.
    return rev(ops.sort([rev(a, (axis,)), rev(positions, (axis,))], axis, stable)[1], (axis,))


def lexsort(keys: Any, axis: int = -1) -> Any:
    """Return the indices that sort by the last key, with ties broken by the key before it, and so on.

    >>> lexsort((np.array([1, 0, 0]), np.array([2, 2, 1])))
    Array([2, 1, 0], dtype=int32)
    """
    keys = [as_operand(k, "lexsort") for k in keys]
    if not keys:
        raise ArgumentError("lexsort: there are no keys", fix="pass at least one array")
    if not aval_of(keys[0]).ndim:
        return full((), 0, dtypes.canonicalize(int))
    axis = as_axis(axis, aval_of(keys[0]).ndim, "lexsort")
    positions = iota(dtypes.canonicalize(int), aval_of(keys[0]).shape, axis)
    return ops.sort([*reversed(keys), positions], axis, num_keys=len(keys))[-1]


def sort_complex(a: Any) -> Any:
    """Sort along the last axis by real part, then imaginary part; the result is complex."""
    out = sort(a)
    return convert_element_type(out, dtypes.complex_dtype(dtypes.inexact(aval_of(out).dtype)))


def partition(a: Any, kth: int, axis: int = -1) -> Any:
    """Return a copy with element `kth` in its sorted position, no larger elements before it and no smaller ones after.

    The result is fully sorted, which is one of the orders that NumPy allows.
    """
    a, axis = _flat_or_axis(a, axis, "partition")
    as_axis(kth, aval_of(a).shape[axis], "partition: kth")
    return sort(a, axis)


def argpartition(a: Any, kth: int, axis: int = -1) -> Any:
    """Return the indices that partition `a` around element `kth`; see `partition`."""
    a, axis = _flat_or_axis(a, axis, "argpartition")
    as_axis(kth, aval_of(a).shape[axis], "argpartition: kth")
    return argsort(a, axis)


# ---------------------------------------------------------------- search


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None, *, method: str = "scan") -> Any:
    """Return the indices at which to insert the elements of `v` into the sorted vector `a` to keep it sorted.

    The index is the number of elements of `a` that are less than the value, or less or equal if side="right". NaN is
    greater than all numbers. `method` is accepted for compatibility and has no effect.

    >>> import funcgrad.numpy as jnp
    >>> searchsorted(jnp.array([1, 2, 2, 3]), jnp.array([2, 5]), side="right")
    Array([3, 4], dtype=int32)
    """
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted: side is {side!r}", fix="use 'left' or 'right'")
    if method not in ("scan", "scan_unrolled", "sort", "compare_all", "default"):
        raise ArgumentError(f"searchsorted: method is {method!r}", fix="leave it out: all methods give the same result")
    a, v = promote_dtypes(a, v, operation="searchsorted")
    if aval_of(a).ndim != 1:
        raise ShapeError(f"searchsorted: the sorted array has type {aval_of(a)}", fix="give a one-dimensional array")
    if sorter is not None:
        a = ops.along_axis(a, as_operand(sorter, "searchsorted"), 0)
    index_dtype = dtypes.int32 if aval_of(a).size < 2**31 else dtypes.canonicalize(int)
    if type(a) is Array and type(v) is Array and state.trace is eval_trace and aval_of(a).dtype != dtypes.bfloat16:
        return as_array(np.asarray(np.searchsorted(a.host, v.host, side), index_dtype))
    return _binary_search(a, v, side, index_dtype)


def _binary_search(a: Any, v: Any, side: str, index_dtype: np.dtype) -> Any:
    """Count the elements before `v`, one bit of the count at a time, from the highest."""
    n, shape = aval_of(a).shape[0], aval_of(v).shape
    queries = reshape(v, (aval_of(v).size,))
    count = full(aval_of(queries).shape, 0, index_dtype)
    step = 1 << max(n.bit_length() - 1, 0)
    while n and step:
        further = ufuncs.add(count, np.array(step, index_dtype))
        last = ufuncs.minimum(further, np.array(n, index_dtype))
        probe = ops.along_axis(a, ufuncs.subtract(last, np.array(1, index_dtype)), 0)
        before = _precedes(probe, queries) if side == "left" else ufuncs.logical_not(_precedes(queries, probe))
        inside = ufuncs.less_equal(further, np.array(n, index_dtype))
        count = ufuncs.where(ufuncs.logical_and(before, inside), further, count)
        step //= 2
    return reshape(count, shape)


def _precedes(x: Any, y: Any) -> Any:
    """x < y in the order of sorting, where NaN is greater than all numbers."""
    less = ufuncs.less(x, y)
    if not dtypes.is_inexact(aval_of(x).dtype):
        return less
    number_before_nan = ufuncs.logical_and(ufuncs.equal(x, x), ufuncs.not_equal(y, y))
    return ufuncs.logical_or(less, number_before_nan)


def digitize(x: Any, bins: Any, right: bool = False, *, method: str | None = None) -> Any:
    """Return the index of the bin that each element belongs to; 0 is before the first edge.

    In bin i, bins[i−1] <= x < bins[i], or bins[i−1] < x <= bins[i] if `right`. For descending bins, the inequalities
    are reversed.
    """
    x, bins = promote_dtypes(x, bins, operation="digitize")
    if aval_of(bins).ndim != 1:
        raise ShapeError(f"digitize: bins have type {aval_of(bins)}", fix="give a one-dimensional array of edges")
    n = aval_of(bins).shape[0]
    if not n:
        return full(aval_of(x).shape, 0, dtypes.canonicalize(int))
    side = "left" if right else "right"
    ascending = searchsorted(bins, x, side)
    descending = ufuncs.subtract(n, searchsorted(rev(bins, (0,)), x, side))
    first, last = (reshape(slice_(bins, (i,), (i + 1,)), ()) for i in (0, n - 1))
    return ufuncs.where(ufuncs.greater_equal(last, first), ascending, descending)


# ---------------------------------------------------------------- unique


def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: Any = None,
    sorted: bool = True,
) -> Any:
    """Return the sorted unique elements, or the unique slices along `axis`.

    `return_index` adds the index of the first occurrence of each, `return_inverse` the indices that reconstruct the
    array from the unique elements, and `return_counts` the number of occurrences. The number of unique elements depends
    on values, so jit needs `size`: the result is truncated, or padded with `fill_value`, by default the smallest
    element.

    >>> import funcgrad.numpy as jnp
    >>> unique(jnp.array([3, 1, 3]), return_counts=True)
    (Array([1, 3], dtype=int32), Array([1, 2], dtype=int32))
    >>> unique(jnp.array([3, 1, 3]), size=3)
    Array([1, 3, 1], dtype=int32)
    """
    ar = as_operand(ar, "unique")
    _check_size(ar, size, fill_value)
    rows = _as_rows(ar, axis)
    number = aval_of(rows).shape[0]
    order, first = _sort_rows(rows, equal_nan)
    bounds = _bounds(first, size, number)
    starts = slice_(bounds, (0,), (aval_of(bounds).shape[0] - 1,))
    index = _gather_rows(order, starts)
    values = _pad_absent(_gather_rows(rows, index), starts, number, fill_value)
    values = _as_slices(values, aval_of(ar).shape, axis)
    out = [values]
    if return_index:
        out.append(index)
    if return_inverse:
        inverse = _inverse(order, first)
        out.append(reshape(inverse, aval_of(ar).shape) if axis is None else inverse)
    if return_counts:
        out.append(ufuncs.subtract(slice_(bounds, (1,), aval_of(bounds).shape), starts))
    return tuple(out) if len(out) > 1 else values


def _check_size(ar: Any, size: int | None, fill_value: Any) -> None:
    if size is None and isinstance(ar, Tracer) and ar.concrete() is None:
        masks.concrete_value(ar, "unique", "elements", "pass size=, the number of unique elements to return")
    if size is not None and as_int(size, "size", "unique") and not aval_of(ar).size and fill_value is None:
        raise ArgumentError(
            f"unique: size={size} for the empty array {aval_of(ar)}, without fill_value", fix="pass fill_value="
        )


def _as_rows(ar: Any, axis: int | None) -> Any:
    """Return a matrix whose rows are the elements, or slices, to compare."""
    aval = aval_of(ar)
    if axis is None:
        return reshape(ar, (aval.size, 1))
    moved = move_axis(ar, as_axis(axis, aval.ndim, "unique"), 0)
    n = aval_of(moved).shape[0]
    return reshape(moved, (n, aval.size // n if n else 0))


def _as_slices(rows: Any, shape: tuple[int, ...], axis: int | None) -> Any:
    """Inverse of _as_rows, for the rows of the result."""
    count = aval_of(rows).shape[0]
    if axis is None:
        return reshape(rows, (count,))
    axis = as_axis(axis, len(shape), "unique")
    return move_axis(reshape(rows, (count, *shape[:axis], *shape[axis + 1 :])), 0, axis)


def _sort_rows(rows: Any, equal_nan: bool) -> tuple[Any, Any]:
    """Return the permutation that sorts the rows, and the mask of sorted rows that differ from the one before."""
    n, width = aval_of(rows).shape
    index_dtype = dtypes.canonicalize(int)
    if not n:
        return full((0,), 0, index_dtype), full((0,), True, dtypes.bool_)
    columns = [reshape(slice_(rows, (0, j), (n, j + 1)), (n,)) for j in range(width)]
    positions = iota(index_dtype, (n,), 0)
    *columns, order = ops.sort([*columns, positions], 0, num_keys=max(width, 1))
    differs = full((n - 1,), False, dtypes.bool_)
    for c in columns:
        before, after = slice_(c, (0,), (n - 1,)), slice_(c, (1,), (n,))
        changed = ufuncs.not_equal(before, after)
        if equal_nan and dtypes.is_inexact(aval_of(c).dtype):
            both_nan = ufuncs.logical_and(ufuncs.not_equal(before, before), ufuncs.not_equal(after, after))
            changed = ufuncs.logical_and(changed, ufuncs.logical_not(both_nan))
        differs = ufuncs.logical_or(differs, changed)
    return order, concatenate([full((1,), True, dtypes.bool_), differs], 0)


def _bounds(first: Any, size: int | None, number: int) -> Any:
    """Return where the groups of equal rows start, and where the last one ends. Padding groups start at `number`."""
    if size is not None:
        return masks.flatnonzero(first, size=size + 1, fill_value=number)
    starts = masks.flatnonzero(first)
    return concatenate([starts, full((1,), number, aval_of(starts).dtype)], 0)


def _gather_rows(x: Any, positions: Any) -> Any:
    """Gather rows of x; positions past the end read the first row."""
    n, aval = aval_of(x).shape[0], aval_of(positions)
    if not n or not aval.size:
        return full((aval.size, *aval_of(x).shape[1:]), 0, aval_of(x).dtype)
    return x[ufuncs.where(ufuncs.less(positions, n), positions, 0)]


def _pad_absent(values: Any, starts: Any, number: int, fill_value: Any) -> Any:
    if fill_value is None or not aval_of(values).size:
        return values
    present = broadcast_in_dim(ufuncs.less(starts, number), aval_of(values).shape, (0,))
    fill = convert_element_type(as_operand(fill_value, "unique"), aval_of(values).dtype)
    return ufuncs.where(present, values, fill)


def _inverse(order: Any, first: Any) -> Any:
    """Number the groups in sorted order, and move each number back to the original position of its row."""
    index_dtype = aval_of(order).dtype
    if not aval_of(order).size:
        return order
    group = ufuncs.subtract(cumsum(convert_element_type(first, index_dtype), 0), np.array(1, index_dtype))
    return ops.sort([order, group], 0)[1]


class UniqueAll(NamedTuple):
    """The result of `unique_all`."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """The result of `unique_counts`."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """The result of `unique_inverse`."""

    values: Any
    inverse_indices: Any


def unique_all(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """Return the unique elements, the index of the first occurrence of each, the inverse indices, and the counts."""
    return UniqueAll(*unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value))


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    """Return the unique elements and the number of occurrences of each."""
    return UniqueCounts(*unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_inverse(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    """Return the unique elements and the indices that reconstruct the array from them."""
    return UniqueInverse(*unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the unique elements."""
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)
