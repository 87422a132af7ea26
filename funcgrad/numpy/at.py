"""x.at[index]: functional reads and updates of the elements that an index expression selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.primitives import Primitive
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import eval_trace, state
from funcgrad.errors import ConcretizationError, IndexingError, ShapeError, warn
from funcgrad.numpy import ufuncs
from funcgrad.numpy.index_expressions import BASIC, index_vectors, layout, parse, read
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.gather_scatter import (
    scatter_add_p,
    scatter_max_p,
    scatter_min_p,
    scatter_mul_p,
    scatter_p,
    scatter_sub_p,
)
from funcgrad.ops.indexing import GatherScatterMode, ScatterDimensionNumbers
from funcgrad.ops.logic import gt_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, full, reshape


def write(
    primitive: Primitive,
    x: Any,
    index: Any,
    values: Any,
    *,
    mode: str | GatherScatterMode | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    wrap_negative_indices: bool = True,
) -> Any:
    """Return a copy of `x` with `values` scattered to x[index]; out-of-range updates are dropped by default."""
    if type(x) is Array and state.trace is eval_trace:
        known = _write_with_numpy(primitive, x, index, values)
        if known is not None:
            return known
    x = as_operand(x, "at[]")
    aval = aval_of(x)
    values = _cast_values(as_operand(values, f"at[].{_METHOD[primitive]}"), aval.dtype)
    entries, unit_dims = parse(index, aval)
    operand = expand_dims(x, unit_dims) if unit_dims else x
    shape = aval_of(operand).shape
    plan = layout(entries, shape)
    updates = _broadcast_values(values, plan.result_shape, aval)
    if plan.new_axes:
        updates = reshape(updates, [n for d, n in enumerate(plan.result_shape) if d not in plan.new_axes])
    once = not any(isinstance(e, np.ndarray) or (isinstance(e, Tracer) and aval_of(e).shape) for e in entries)
    out = primitive.bind(
        operand,
        index_vectors(plan, shape, wrap_negative_indices),
        updates,
        dimension_numbers=ScatterDimensionNumbers(*plan.numbers),
        indices_are_sorted=indices_are_sorted or once,
        mode=GatherScatterMode.from_any(mode),
        unique_indices=unique_indices or once,
    )
    return reshape(out, aval.shape) if unit_dims else out


def _write_with_numpy(primitive: Primitive, x: Array, index: Any, values: Any) -> Array | None:
    """Write with NumPy indexing if the index is static and in range and the values need no cast; otherwise None."""
    dtype, items = x.aval.dtype, index if type(index) is tuple else (index,)
    if type(values) is Array and values.aval.dtype == dtype:
        values = values.host
    elif type(values) not in (int, float) or not (dtypes.is_inexact(dtype) or type(values) is int):
        return None
    if dtype == dtypes.bool_ or not all(type(i) in BASIC for i in items):
        return None
    out = np.array(x.host)
    try:
        # With an ellipsis, NumPy returns a view even for a single element.
        view = out[items if Ellipsis in items else (*items, ...)]
        with np.errstate(all="ignore"):
            if primitive is scatter_p:
                view[...] = values
            else:
                _UFUNC[primitive](view, values, out=view)
    except (IndexError, TypeError, ValueError, OverflowError):  # the general path handles or reports it
        return None
    return Array(x.aval, out)


_UFUNC = {
    scatter_add_p: np.add,
    scatter_sub_p: np.subtract,
    scatter_mul_p: np.multiply,
    scatter_min_p: np.minimum,
    scatter_max_p: np.maximum,
}
_METHOD = {
    scatter_p: "set",
    scatter_add_p: "add",
    scatter_sub_p: "subtract",
    scatter_mul_p: "multiply",
    scatter_min_p: "min",
    scatter_max_p: "max",
}


def _cast_values(values: Any, dtype: np.dtype) -> Any:
    """Cast values to the dtype of the array; warn if that may lose information."""
    aval = aval_of(values)
    if aval.dtype != dtype and dtypes.promote(((dtype, False), (aval.dtype, aval.weak_type)))[0] != dtype:
        warn(
            f"at[]: values of dtype {aval.dtype.name} are written into an array of dtype {dtype.name}, which cannot "
            "hold them all. fix: cast the values, or the array, with .astype(...)",
            FutureWarning,
        )
    return convert_element_type(values, dtype, False)


def _broadcast_values(values: Any, shape: tuple[int, ...], target: Any) -> Any:
    have = aval_of(values).shape
    # As in NumPy, excess leading dimensions of size 1 are dropped.
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    values, lead = reshape(values, have), len(shape) - len(have)
    if lead < 0 or any(n not in (1, m) for n, m in zip(have, shape[lead:], strict=True)):
        raise ShapeError(
            f"at[]: values {aval_of(values)} do not fit the selected elements of {target}, which have shape {shape}",
            fix="give values that broadcast to the shape of x[index]",
        )
    return broadcast_in_dim(values, shape, tuple(range(lead, len(shape))))


class IndexRef:
    """The elements x[index] of an array: `get` reads them, the other methods return an updated copy of x.

    `mode` controls out-of-range indices: "clip", "drop", "fill" or "promise_in_bounds". By default reads clip and
    updates are dropped; with "fill", reads return `fill_value`, by default NaN or the integer limit. `unique_indices`
    and `indices_are_sorted` are promises about the indices. Updates of repeated indices accumulate; `set` keeps the
    last.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Any, index: Any):
        self.array, self.index = array, index

    def __repr__(self) -> str:
        return f"x.at[{self.index!r}] of x: {aval_of(self.array)}"

    def get(self, *, mode: Any = None, fill_value: Any = None, **promises: Any) -> Any:
        """Return x[index]."""
        return read(self.array, self.index, mode=mode, fill_value=fill_value, **promises)

    def set(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] = values."""
        return write(scatter_p, self.array, self.index, values, **options)

    def add(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] += values."""
        return write(scatter_add_p, self.array, self.index, values, **options)

    def subtract(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] −= values."""
        return write(scatter_sub_p, self.array, self.index, values, **options)

    def multiply(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] *= values."""
        return write(scatter_mul_p, self.array, self.index, values, **options)

    mul = multiply

    def divide(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] /= values; integers become floats."""
        return ufuncs.divide(self.array, self._product(values, options))

    def power(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] **= values."""
        return self.array ** self._product(values, options)

    def _product(self, values: Any, options: dict[str, Any]) -> Any:
        aval = aval_of(self.array)
        return write(scatter_mul_p, full(aval.shape, 1, aval.dtype), self.index, values, **options)

    def min(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] = minimum(x[index], values)."""
        return write(scatter_min_p, self.array, self.index, values, **options)

    def max(self, values: Any, **options: Any) -> Any:
        """Return x with x[index] = maximum(x[index], values)."""
        return write(scatter_max_p, self.array, self.index, values, **options)

    def apply(self, function: Callable[[Any], Any], **options: Any) -> Any:
        """Return x with x[index] = function(x[index]), applied once per repetition of an index.

        `function` is elementwise. Traced index arrays need unique_indices=True.
        """
        x, aval = self.array, aval_of(self.array)
        hits = write(scatter_add_p, full(aval.shape, 0, dtypes.int32), self.index, np.int32(1), **options)
        times = self._most_repeated(hits, options)
        if times == 1:
            return self.set(function(self.get(**options)), **options)
        for done in range(times):
            pending = gt_p.bind(hits, full((), done, dtypes.int32))
            x = select_n_p.bind(pending, x, convert_element_type(function(x), aval.dtype, aval.weak_type))
        return x

    def _most_repeated(self, hits: Any, options: dict[str, Any]) -> int:
        if not isinstance(hits, Tracer):
            return int(np.max(hits.host, initial=0))
        entries, _ = parse(self.index, aval_of(self.array))
        positions = [e for e in entries if isinstance(e, (np.ndarray, Tracer)) and aval_of(e).shape]
        if options.get("unique_indices") or not positions:
            return 1
        if not any(isinstance(e, Tracer) for e in positions):
            vectors = index_vectors(layout(entries, aval_of(self.array).shape), aval_of(self.array).shape)
            vectors = vectors.reshape(-1, vectors.shape[-1])
            return int(np.unique(vectors, axis=0, return_counts=True)[1].max(initial=0))
        raise ConcretizationError(
            "at[].apply: the function is applied once per repetition of an index, but the index arrays "
            f"{', '.join(str(aval_of(e)) for e in positions)} are traced",
            fix="pass unique_indices=True if no index is repeated",
        )


class IndexHelper:
    """The value of x.at; indexing it returns an IndexRef.

    >>> import funcgrad.numpy as jnp
    >>> jnp.array([1.0, 2.0, 3.0]).at[1].set(0.0)
    Array([1., 0., 3.], dtype=float32)
    """

    __slots__ = ("array",)

    def __init__(self, array: Any):
        self.array = array

    def __getitem__(self, index: Any) -> IndexRef:
        return IndexRef(self.array, index)

    def __repr__(self) -> str:
        return f"x.at of x: {aval_of(self.array)}"


def setitem(x: Any, index: Any, value: Any) -> None:
    """Raise for x[index] = value, and show what to write instead."""
    raise IndexingError(
        f"x[{index!r:.40}] = …: arrays are immutable, and x is {aval_of(x)}",
        fix="x = x.at[index].set(value), or .add, .multiply, … for +=, *=, …",
    )
