"""Reductions that ignore NaNs."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand
from funcgrad.numpy import reductions as rd
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.composite import where
from funcgrad.numpy.number_parts import isnan

__all__ = [
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
]


def _replace_nan(a: Any, value: Any, operation: str) -> Any:
    a = as_operand(a, operation)
    return where(isnan(a), value, a) if dtypes.is_inexact(a.aval.dtype) else a


def _valid(a: Any, mask: Any) -> Any:
    """The mask of the elements that take part: those that are not NaN, and that are in `mask`."""
    valid = uf.logical_not(isnan(a))
    return valid if mask is None else uf.logical_and(valid, mask)


def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Sum over axes, treating NaN as 0.

    >>> import numpy as np
    >>> nansum(np.array([1.0, np.nan, 2.0], np.float32))
    Array(3., dtype=float32)
    """
    return rd.sum(_replace_nan(a, 0, "nansum"), axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Product over axes, treating NaN as 1."""
    return rd.prod(_replace_nan(a, 1, "nanprod"), axis, dtype, out, keepdims, initial, where)


def _nan_minmax(a: Any, axis: Any, out: None, keepdims: bool, initial: Any, mask: Any, fold: Any, worst: float) -> Any:
    a = as_operand(a, fold.__name__)
    if not dtypes.is_inexact(a.aval.dtype):
        return fold(a, axis, out, keepdims, initial, mask)
    result = fold(_replace_nan(a, worst, fold.__name__), axis, out, keepdims, initial, mask)
    # An all-NaN slice gives NaN.
    return where(rd.all(isnan(a), axis, keepdims=keepdims), math.nan, result) if initial is None else result


def nanmax(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Any:
    """Maximum over axes, ignoring NaNs; NaN for an all-NaN slice."""
    return _nan_minmax(a, axis, out, keepdims, initial, where, rd.max, -math.inf)


def nanmin(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Any:
    """Minimum over axes, ignoring NaNs; NaN for an all-NaN slice."""
    return _nan_minmax(a, axis, out, keepdims, initial, where, rd.min, math.inf)


def _nan_argminmax(a: Any, axis: Any, out: None, keepdims: Any, find: Any, worst: float) -> Any:
    a = as_operand(a, find.__name__)
    if not dtypes.is_inexact(a.aval.dtype):
        return find(a, axis, out, keepdims)
    position = find(_replace_nan(a, worst, find.__name__), axis, out, keepdims)
    return where(rd.all(isnan(a), axis, keepdims=bool(keepdims)), -1, position)


def nanargmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Any:
    """Index of the first maximum, ignoring NaNs; −1 for an all-NaN slice."""
    return _nan_argminmax(a, axis, out, keepdims, rd.argmax, -math.inf)


def nanargmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Any:
    """Index of the first minimum, ignoring NaNs; −1 for an all-NaN slice."""
    return _nan_argminmax(a, axis, out, keepdims, rd.argmin, math.inf)


def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, where: Any = None
) -> Any:
    """Mean over axes, ignoring NaNs; NaN for an all-NaN slice."""
    if not dtypes.is_inexact(as_operand(a, "nanmean").aval.dtype):
        return rd.mean(a, axis, dtype, out, keepdims, where=where)
    return rd.mean(_replace_nan(a, 0, "nanmean"), axis, dtype, out, keepdims, where=_valid(a, where))


def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    where: Any = None,
    mean: Any = None,
) -> Any:
    """Variance over axes, ignoring NaNs; NaN where `ddof` or fewer elements are left."""
    valid = _valid(a, where)
    return rd.var(_replace_nan(a, 0, "nanvar"), axis, dtype, out, ddof, keepdims, where=valid, mean=mean)


def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    where: Any = None,
    mean: Any = None,
) -> Any:
    """Standard deviation over axes, ignoring NaNs: the square root of `nanvar`."""
    return uf.sqrt(nanvar(a, axis, dtype, out, ddof, keepdims, where, mean))


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Cumulative sum, treating NaN as 0."""
    return rd.cumsum(_replace_nan(a, 0, "nancumsum"), axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Cumulative product, treating NaN as 1."""
    return rd.cumprod(_replace_nan(a, 1, "nancumprod"), axis, dtype, out)
