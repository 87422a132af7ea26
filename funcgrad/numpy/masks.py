"""Functions that select elements by conditions: nonzero, where, extract, delete, select, …

If the shape of the result depends on values, `size=` makes it static: the result is truncated to that size, or padded
with `fill_value`. Without `size`, those functions need concrete values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis, as_int
from funcgrad.arguments.promotion import as_operand, broadcast_shapes, broadcast_to, promote_dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, IndexingError, ShapeError
from funcgrad.numpy import at, ufuncs
from funcgrad.numpy.composite import floor_divide, remainder
from funcgrad.numpy.indexing import concrete_value, take
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.gather_scatter import scatter_p
from funcgrad.ops.reductions import cumsum
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import expand_dims, full, move_axis, reshape
from funcgrad.ops.slicing import concatenate, iota

__all__ = [
    "argwhere",
    "compress",
    "delete",
    "extract",
    "flatnonzero",
    "insert",
    "mask_indices",
    "nonzero",
    "piecewise",
    "select",
    "where",
]


def truth(x: Any, operation: str) -> Any:
    """Return x ≠ 0 as a bool array."""
    x = as_operand(x, operation)
    return x if aval_of(x).dtype == dtypes.bool_ else ufuncs.not_equal(x, 0)


# ---------------------------------------------------------------- positions of true elements


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Any, ...]:
    """Return the indices of the nonzero elements, one index array per dimension, in row-major order.

    With `size`, the result has exactly that many indices, truncated or padded with `fill_value` (one value, or one per
    dimension; 0 by default).

    >>> import funcgrad.numpy as jnp
    >>> nonzero(jnp.array([0, 5, 6]), size=3, fill_value=-1)
    (Array([ 1,  2, -1], dtype=int32),)
    """
    return _nonzero(as_operand(a, "nonzero"), size, fill_value, "nonzero")


def _nonzero(a: Any, size: int | None, fill_value: Any, operation: str) -> tuple[Any, ...]:
    aval, index_dtype = aval_of(a), dtypes.canonicalize(int)
    if not aval.ndim:
        raise ShapeError(f"{operation}: the array is 0-d: {aval}", fix="use jnp.atleast_1d(x)")
    if size is None:
        value = concrete_value(a, operation, "elements", "pass size=, the number of indices to return")
        return tuple(as_array(p.astype(index_dtype)) for p in value.nonzero())
    size = as_int(size, "size", operation)
    fills = fill_value if isinstance(fill_value, tuple) else (0 if fill_value is None else fill_value,) * aval.ndim
    if len(fills) != aval.ndim or size < 0:
        raise ArgumentError(
            f"{operation}: size={size} and {len(fills)} fill values for {aval}",
            fix="size is 0 or more; give one fill value, or one per dimension",
        )
    hit = reshape(truth(a, operation), (aval.size,))
    order = cumsum(convert_element_type(hit, dtypes.int32), 0) if aval.size else full((0,), 0, dtypes.int32)
    # The j-th true element is written to place j; false ones go past the end, where writes are dropped.
    place = select_n_p.bind(hit, full((aval.size,), size, dtypes.int32), ufuncs.subtract(order, np.int32(1)))
    blank = full((size,), aval.size, index_dtype)
    flat = at.write(scatter_p, blank, place, iota(index_dtype, (aval.size,), 0), mode="drop")
    found = ufuncs.less(flat, aval.size)
    out = []
    for n, fill in zip(reversed(aval.shape), reversed(fills), strict=True):
        out.append(
            where(found, remainder(flat, max(n, 1)), convert_element_type(as_operand(fill, operation), index_dtype))
        )
        flat = floor_divide(flat, max(n, 1))
    return tuple(reversed(out))


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the indices of the nonzero elements of the flattened array; `size` and `fill_value` as in `nonzero`."""
    a = as_operand(a, "flatnonzero")
    return _nonzero(reshape(a, (aval_of(a).size,)), size, fill_value, "flatnonzero")[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Return the indices of the nonzero elements as the rows of an array of shape (number, ndim)."""
    a = as_operand(a, "argwhere")
    if not aval_of(a).ndim:
        (found,) = _nonzero(reshape(a, (1,)), size, fill_value, "argwhere")
        return full((aval_of(found).shape[0], 0), 0, aval_of(found).dtype)
    columns = _nonzero(a, size, fill_value, "argwhere")
    return concatenate([expand_dims(c, (1,)) for c in columns], 1)


def mask_indices(n: int, mask_func: Callable[..., Any], k: int = 0, *, size: int | None = None) -> tuple[Any, ...]:
    """Return the indices where mask_func(ones((n, n)), k) is nonzero; `mask_func` is e.g. jnp.triu."""
    return _nonzero(mask_func(full((n, n), 1, dtypes.int32), k), size, None, "mask_indices")


def where(condition: Any, x: Any = None, y: Any = None, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Select x where the condition is true and y elsewhere; the three broadcast together.

    where(condition) is nonzero(condition). The derivative of the branch that is not selected is multiplied by 0. If it
    may be NaN or infinite, guard the input of that branch with another `where`.

    >>> import funcgrad.numpy as jnp
    >>> where(jnp.arange(3) > 1, 1.0, 0.0)
    Array([0., 0., 1.], dtype=float32, weak_type=True)
    """
    if x is None and y is None:
        condition = as_operand(condition, "where")
        flat = reshape(condition, aval_of(condition).shape or (1,))
        return _nonzero(flat, size, fill_value, "where")
    if x is None or y is None:
        raise ArgumentError("where: one of x and y is None", fix="pass both, or neither to get indices")
    if size is not None or fill_value is not None:
        raise ArgumentError(
            "where: size and fill_value were given with x and y", fix="use them with where(condition) only"
        )
    return ufuncs.where(condition, x, y)


# ---------------------------------------------------------------- compress, delete, insert


def compress(
    condition: Any, a: Any, axis: int | None = None, *, size: int | None = None, fill_value: Any = 0, out: None = None
) -> Any:
    """Return the slices of `a` along `axis` where a 1-d condition is true; `a` is flattened if `axis` is None."""
    if out is not None:
        raise ArgumentError("compress: out= was given", fix="arrays are immutable: use the returned array")
    a, condition = as_operand(a, "compress"), as_operand(condition, "compress")
    if aval_of(condition).ndim != 1:
        raise ShapeError(
            f"compress: the condition has type {aval_of(condition)}", fix="give a one-dimensional condition"
        )
    if axis is None:
        a, axis = reshape(a, (aval_of(a).size,)), 0
    axis = as_axis(axis, aval_of(a).ndim, "compress")
    n = aval_of(a).shape[axis]
    if aval_of(condition).size > n:
        extra = concrete_value(condition, "compress", "conditions", "truncate the condition to the size of the axis")[
            n:
        ]
        if extra.any():
            raise IndexingError(
                f"compress: the condition {aval_of(condition)} is true beyond axis {axis} of {aval_of(a)}",
                fix="truncate the condition to the size of the axis",
            )
        condition = condition[:n]
    kept = _nonzero(condition, size, n, "compress")[0]
    return take(a, kept, axis, fill_value=fill_value)


def extract(condition: Any, arr: Any, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """Return the elements of `arr` where the condition is true, as a vector; `size` makes its shape static."""
    condition, arr = as_operand(condition, "extract"), as_operand(arr, "extract")
    flat = reshape(condition, (aval_of(condition).size,))
    return compress(flat, arr, size=size, fill_value=fill_value)


def _static_positions(obj: Any, n: int, operation: str) -> Any:
    """Return `obj` as a static NumPy index, or a traced scalar counted from the front."""
    if isinstance(obj, slice):
        return obj
    obj = as_operand(obj if not isinstance(obj, (list, tuple)) else np.asarray(obj), operation)
    if isinstance(obj, Tracer) and not aval_of(obj).shape and dtypes.is_integer(aval_of(obj).dtype):
        return ufuncs.where(ufuncs.less(obj, 0), ufuncs.add(obj, n), obj)
    known = concrete_value(obj, operation, "positions", "make them static, or select with a mask and size=")
    return known if known.size or known.dtype.kind in "iub" else known.astype(np.int32)


def _axis_first(arr: Any, axis: int | None, operation: str) -> tuple[Any, int]:
    if axis is None:
        return reshape(arr, (aval_of(arr).size,)), 0
    return arr, as_axis(axis, aval_of(arr).ndim, operation)


def delete(arr: Any, obj: Any, axis: int | None = None, *, assume_unique_indices: bool = False) -> Any:
    """Return `arr` without the slices at indices `obj` along `axis`; `arr` is flattened if `axis` is None.

    `obj` is a static int, slice, mask or array of ints, or a traced int. `assume_unique_indices` has no effect.

    >>> delete(np.array([10, 20, 30]), 1)
    Array([10, 30], dtype=int32)
    """
    arr, axis = _axis_first(as_operand(arr, "delete"), axis, "delete")
    n = aval_of(arr).shape[axis]
    obj = _static_positions(obj, n, "delete")
    if isinstance(obj, Tracer):
        kept = iota(dtypes.int32, (max(n - 1, 0),), 0)
        kept = ufuncs.add(kept, convert_element_type(ufuncs.greater_equal(kept, obj), dtypes.int32))
    else:
        try:
            kept = np.delete(np.arange(n), obj)
        except (IndexError, ValueError) as e:
            raise IndexingError(
                f"delete: positions {obj!r:.60} are not in axis {axis} of {aval_of(arr)}",
                fix=f"give positions in [{-n}, {n})",
            ) from e
    return take(arr, kept, axis)


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    """Return `arr` with `values` inserted before indices `obj` along `axis`; `arr` is flattened if `axis` is None.

    `obj` is a static int, slice, mask or array of ints, or a traced int.

    >>> insert(np.array([10, 30]), 1, 20)
    Array([10, 20, 30], dtype=int32)
    """
    arr, axis = _axis_first(as_operand(arr, "insert"), axis, "insert")
    n, scalar = aval_of(arr).shape[axis], not isinstance(obj, (slice, list, tuple)) and not np.ndim(obj)
    obj = _static_positions(obj, n, "insert")
    values = convert_element_type(as_operand(values, "insert"), aval_of(arr).dtype)
    values = _to_insert(values, arr, axis, None if scalar else _index_count(obj, n))
    count = aval_of(values).shape[axis]
    both = concatenate([arr, values], axis)
    if isinstance(obj, Tracer):
        place = iota(dtypes.int32, (n + count,), 0)
        new = ufuncs.subtract(ufuncs.add(place, n), obj)
        after = ufuncs.where(ufuncs.less(place, ufuncs.add(obj, count)), new, ufuncs.subtract(place, count))
        return take(both, ufuncs.where(ufuncs.less(place, obj), place, after), axis)
    try:
        return take(both, np.insert(np.arange(n), obj, n + np.arange(count)), axis)
    except (IndexError, ValueError) as e:
        raise IndexingError(
            f"insert: positions {obj!r:.60} are not in axis {axis} of {aval_of(arr)}",
            fix=f"give positions in [{-n}, {n}]",
        ) from e


def _index_count(positions: Any, n: int) -> int:
    if isinstance(positions, slice):
        return len(range(*positions.indices(n)))
    return int(positions.sum()) if positions.dtype == np.bool_ else positions.size


def _to_insert(values: Any, arr: Any, axis: int, count: int | None) -> Any:
    """Broadcast values to the inserted slices, `count` of them along the axis; None is for insertion at one index."""
    shape, rank = aval_of(arr).shape, aval_of(arr).ndim
    have = aval_of(values).ndim
    if count is None:
        # As in NumPy: for insertion at one index, the first dimension of the values counts the slices.
        values = reshape(values, (1,) * (rank - have) + aval_of(values).shape) if have < rank else values
        values = move_axis(values, 0, axis)
        count = aval_of(values).shape[axis]
    return broadcast_to(values, (*shape[:axis], count, *shape[axis + 1 :]), "insert")


# ---------------------------------------------------------------- select and piecewise


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """Return, for each element, the choice of the first condition that is true, or the default if none is.

    >>> x = np.arange(4)
    >>> select([x < 1, x < 3], [x, 10 * x], default=-1)
    Array([ 0, 10, 20, -1], dtype=int32)
    """
    if len(condlist) != len(choicelist) or not condlist:
        raise ArgumentError(
            f"select: {len(condlist)} conditions for {len(choicelist)} choices", fix="give one condition per choice"
        )
    conditions = [truth(c, "select") for c in condlist]
    *choices, out = promote_dtypes(*choicelist, default, operation="select")
    shape = broadcast_shapes(*(aval_of(a).shape for a in (*conditions, *choices, out)), operation="select")
    out = broadcast_to(out, shape)
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        out = select_n_p.bind(broadcast_to(condition, shape), out, broadcast_to(choice, shape))
    return out


def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """Return funclist[k](x, *args, **kw) for the last k whose condition is true, elsewhere the default.

    The default is an additional last entry of `funclist`, or 0. All functions are evaluated on the whole of `x`; a
    number is a constant function.
    """
    x = as_operand(x, "piecewise")
    aval = aval_of(x)
    single = isinstance(condlist, (bool, np.bool_)) or (
        not isinstance(condlist, (list, tuple)) and condlist.ndim == aval.ndim
    )
    conditions = [truth(c, "piecewise") for c in ([condlist] if single else condlist)]
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        raise ArgumentError(
            f"piecewise: {len(conditions)} conditions for {len(funclist)} functions",
            fix="give one function per condition, and optionally a default at the end",
        )
    functions = list(funclist)
    default = functions.pop() if len(functions) > len(conditions) else 0

    def value(piece: Any) -> Any:
        out = as_operand(piece(x, *args, **kw) if callable(piece) else piece, "piecewise")
        return broadcast_to(convert_element_type(out, aval.dtype), aval.shape, "piecewise")

    out = value(default)
    for condition, piece in zip(conditions, functions, strict=True):
        out = select_n_p.bind(broadcast_to(condition, aval.shape, "piecewise"), out, value(piece))
    return out
