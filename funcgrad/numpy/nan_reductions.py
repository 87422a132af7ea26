"""Reductions that leave NaN out."""

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


def _replaced(a: Any, value: Any, operation: str) -> Any:
    a = as_operand(a, operation)
    return where(isnan(a), value, a) if dtypes.is_inexact(a.aval.dtype) else a


def _number(a: Any, mask: Any) -> Any:
    """Where the elements take part: not NaN, and in the mask."""
    found = uf.logical_not(isnan(a))
    return found if mask is None else uf.logical_and(found, mask)


def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Sum, NaN counting as 0."""
    return rd.sum(_replaced(a, 0, "nansum"), axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Product, NaN counting as 1."""
    return rd.prod(_replaced(a, 1, "nanprod"), axis, dtype, out, keepdims, initial, where)


def _nan_extreme(a: Any, axis: Any, out: None, keepdims: bool, initial: Any, mask: Any, fold: Any, worst: float) -> Any:
    a = as_operand(a, fold.__name__)
    if not dtypes.is_inexact(a.aval.dtype):
        return fold(a, axis, out, keepdims, initial, mask)
    result = fold(_replaced(a, worst, fold.__name__), axis, out, keepdims, initial, mask)
    # Where there were NaNs only, NaN it is.
    return where(rd.all(isnan(a), axis, keepdims=keepdims), math.nan, result) if initial is None else result


def nanmax(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Any:
    """Largest number; NaN where there is none."""
    return _nan_extreme(a, axis, out, keepdims, initial, where, rd.max, -math.inf)


def nanmin(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Any:
    """Smallest number; NaN where there is none."""
    return _nan_extreme(a, axis, out, keepdims, initial, where, rd.min, math.inf)


def _nan_position(a: Any, axis: Any, out: None, keepdims: Any, find: Any, worst: float) -> Any:
    a = as_operand(a, find.__name__)
    if not dtypes.is_inexact(a.aval.dtype):
        return find(a, axis, out, keepdims)
    position = find(_replaced(a, worst, find.__name__), axis, out, keepdims)
    return where(rd.all(isnan(a), axis, keepdims=bool(keepdims)), -1, position)


def nanargmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Any:
    """First position of the largest number; −1 where there is none."""
    return _nan_position(a, axis, out, keepdims, rd.argmax, -math.inf)


def nanargmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Any:
    """First position of the smallest number; −1 where there is none."""
    return _nan_position(a, axis, out, keepdims, rd.argmin, math.inf)


def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, where: Any = None
) -> Any:
    """Mean of the numbers; NaN where there is none."""
    if not dtypes.is_inexact(as_operand(a, "nanmean").aval.dtype):
        return rd.mean(a, axis, dtype, out, keepdims, where=where)
    return rd.mean(_replaced(a, 0, "nanmean"), axis, dtype, out, keepdims, where=_number(a, where))


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
    """Variance of the numbers; NaN where there are `ddof` or fewer."""
    found = _number(a, where)
    return rd.var(_replaced(a, 0, "nanvar"), axis, dtype, out, ddof, keepdims, where=found, mean=mean)


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
    """Standard deviation of the numbers."""
    return uf.sqrt(nanvar(a, axis, dtype, out, ddof, keepdims, where, mean))


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running sum, NaN counting as 0."""
    return rd.cumsum(_replaced(a, 0, "nancumsum"), axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running product, NaN counting as 1."""
    return rd.cumprod(_replaced(a, 1, "nancumprod"), axis, dtype, out)
