"""Order statistics: median, quantiles and percentiles, and the versions that ignore NaNs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.numpy import ufuncs
from funcgrad.ops.arithmetic import ceil_p, floor_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.reductions import accumulator, reduce_or
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, full, reduce_sum, reshape, transpose
from funcgrad.ops.sorting import along_axis, sort

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]

METHODS = ("linear", "lower", "higher", "midpoint", "nearest", "inverted_cdf")


def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Quantiles `q` in [0, 1] along `axis`, or of the flattened array.

    The quantile of n sorted elements is at position q·(n − 1). If that is not an integer, `method` decides: 'linear'
    interpolates between the two neighbors, 'lower', 'higher' and 'nearest' take one of them, 'midpoint' their mean.
    'inverted_cdf' takes the first element at which the empirical CDF reaches q. The axes of `q` come first in the
    result. If any element is NaN, so is the result.

    >>> import funcgrad.numpy as jnp
    >>> quantile(jnp.array([1.0, 2.0, 4.0]), 0.75)
    Array(3., dtype=float32)
    """
    return _quantile("quantile", a, q, axis, out, overwrite_input, method, keepdims, skip_nan=False)


def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Like `quantile`, ignoring NaNs; NaN for an all-NaN slice."""
    return _quantile("nanquantile", a, q, axis, out, overwrite_input, method, keepdims, skip_nan=True)


def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Like `quantile`, with `q` in percent."""
    return _quantile("percentile", a, _fraction(q), axis, out, overwrite_input, method, keepdims, skip_nan=False)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Like `nanquantile`, with `q` in percent."""
    return _quantile("nanpercentile", a, _fraction(q), axis, out, overwrite_input, method, keepdims, skip_nan=True)


def median(a: Any, axis: Any = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    """Median along `axis`: the middle element of the sorted array, or the mean of the two middle elements.

    >>> import funcgrad.numpy as jnp
    >>> median(jnp.array([3, 1, 2, 10]))
    Array(2.5, dtype=float32)
    """
    return _quantile("median", a, 0.5, axis, out, overwrite_input, "midpoint", keepdims, skip_nan=False)


def nanmedian(a: Any, axis: Any = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    """Like `median`, ignoring NaNs; NaN for an all-NaN slice."""
    return _quantile("nanmedian", a, 0.5, axis, out, overwrite_input, "midpoint", keepdims, skip_nan=True)


def _fraction(percent: Any) -> Any:
    return ufuncs.divide(as_operand(percent, "percentile"), 100)


def _quantile(
    operation: str,
    a: Any,
    q: Any,
    axis: Any,
    out: None,
    overwrite: bool,
    method: str,
    keepdims: bool,
    *,
    skip_nan: bool,
) -> Any:
    _check(operation, out, overwrite, method)
    (a,) = promote_inexact(as_operand(a, operation), operation=operation)
    (q,) = promote_inexact(as_operand(q, operation), operation=operation)
    aval, q_aval = aval_of(a), aval_of(q)
    if dtypes.is_complex(aval.dtype) or dtypes.is_complex(q_aval.dtype):
        raise DTypeError(
            f"{operation}: operand {aval} and q {q_aval}: complex numbers have no order", fix="use abs, real or imag"
        )
    axes = as_axes(axis, aval.ndim, operation)
    values = _values_first(a, axes)
    if not aval_of(values).shape[0]:
        raise ShapeError(f"{operation}: no elements along axis {axis} of {aval}", fix="check the size first")
    result = _column_quantiles(values, reshape(q, (q_aval.size,)), method, skip_nan)
    kept = [n for d, n in enumerate(aval.shape) if d not in axes]
    result = reshape(result, (*q_aval.shape, *kept))
    if keepdims:
        result = expand_dims(result, [q_aval.ndim + d for d in axes])
    return convert_element_type(result, aval.dtype)


def _check(operation: str, out: Any, overwrite: bool, method: str) -> None:
    if out is not None or overwrite:
        raise ArgumentError(
            f"{operation}: out={out!r}, overwrite_input={overwrite}", fix="arrays are immutable: use the returned array"
        )
    if method not in METHODS:
        raise ArgumentError(f"{operation}: method is {method!r}", fix=f"use one of {', '.join(METHODS)}")


def _values_first(a: Any, axes: tuple[int, ...]) -> Any:
    """Return a matrix with one column per result; the reduced axes are flattened into the rows."""
    shape = aval_of(a).shape
    kept = [d for d in range(len(shape)) if d not in axes]
    moved = transpose(a, (*axes, *kept))
    return reshape(moved, (math.prod(shape[d] for d in axes), math.prod(shape[d] for d in kept)))


def _column_quantiles(values: Any, q: Any, method: str, skip_nan: bool) -> Any:
    """Return the quantiles (rows) of each column of `values`, computed in float32 or wider."""
    n, columns = aval_of(values).shape
    wide = np.promote_types(accumulator(aval_of(values).dtype), accumulator(aval_of(q).dtype))
    is_nan = ufuncs.not_equal(values, values)
    (ordered,) = sort([values], 0)
    ordered = convert_element_type(ordered, wide)
    if skip_nan:
        numbers = convert_element_type(ufuncs.logical_not(is_nan), wide)
        count = reduce_sum(numbers, (0,))
        missing = ufuncs.equal(count, np.array(0, wide))
    else:
        count = full((columns,), n, wide)
        missing = reduce_or(is_nan, (0,))
    shape = (aval_of(q).shape[0], columns)
    result = _interpolate(
        ordered,
        broadcast_in_dim(convert_element_type(q, wide), shape, (0,)),
        broadcast_in_dim(count, shape, (1,)),
        method,
    )
    return ufuncs.where(broadcast_in_dim(missing, shape, (1,)), np.array(np.nan, wide), result)


def _interpolate(ordered: Any, q: Any, count: Any, method: str) -> Any:
    """Return the elements at positions q·(count − 1) of sorted columns."""
    last = ufuncs.maximum(count - 1, 0)
    place = q * count - 1 if method == "inverted_cdf" else q * last
    low, high = (ufuncs.minimum(ufuncs.maximum(r.bind(place), 0), last) for r in (floor_p, ceil_p))
    below, above = (along_axis(ordered, convert_element_type(p, dtypes.int32), 0) for p in (low, high))
    fraction = place - floor_p.bind(place)
    if method == "lower":
        return below
    if method in ("higher", "inverted_cdf"):
        return above
    if method == "midpoint":
        return (below + above) * 0.5
    if method == "nearest":
        return ufuncs.where(ufuncs.less_equal(fraction, 0.5), below, above)
    mixed = below * (1 - fraction) + above * fraction
    # Interpolating equal elements must not round, and 0·∞ must not make NaN where both are infinite.
    gap = ufuncs.where(ufuncs.equal(ufuncs.absolute(below), np.inf), 0, above - below)
    return ufuncs.where(ufuncs.equal(below, above), below + fraction * gap, mixed)
