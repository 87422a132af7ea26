"""Equality and closeness of arrays; set operations."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, broadcast_shapes, promote, promote_dtypes, promote_inexact
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import asarray
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.masks import nonzero, where
from funcgrad.numpy.number_parts import isfinite, isnan
from funcgrad.numpy.reductions import all, any
from funcgrad.numpy.shapes import ravel
from funcgrad.numpy.sorting import argsort, searchsorted, sort, unique

__all__ = [
    "allclose",
    "array_equal",
    "array_equiv",
    "intersect1d",
    "isclose",
    "isin",
    "setdiff1d",
    "setxor1d",
    "union1d",
]


def _array(x: Any, operation: str) -> Any:
    return asarray(x) if isinstance(x, (list, tuple)) else as_operand(x, operation)


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Whether |a − b| ≤ atol + rtol·|b|, elementwise. Equal infinities are close; NaNs only if `equal_nan`."""
    a, b = promote(_array(a, "isclose"), _array(b, "isclose"), operation="isclose")
    if not dtypes.is_inexact(a.aval.dtype):
        a, b = promote_inexact(a, b, operation="isclose") if a.aval.dtype != dtypes.bool_ else (a, b)
    if a.aval.dtype == dtypes.bool_:
        return uf.equal(a, b)
    near = uf.less_equal(uf.absolute(uf.subtract(a, b)), uf.add(atol, uf.multiply(rtol, uf.absolute(b))))
    finite = uf.bitwise_and(isfinite(a), isfinite(b))
    out = where(finite, near, uf.equal(a, b))
    return uf.bitwise_or(out, uf.bitwise_and(isnan(a), isnan(b))) if equal_nan else out


def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Whether all elements are close, as defined by `isclose`."""
    return all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Whether two arrays have the same shape and equal elements."""
    a1, a2 = _array(a1, "array_equal"), _array(a2, "array_equal")
    if a1.aval.shape != a2.aval.shape:
        return asarray(False)
    same = uf.equal(a1, a2)
    return all(uf.bitwise_or(same, uf.bitwise_and(isnan(a1), isnan(a2))) if equal_nan else same)


def array_equiv(a1: Any, a2: Any) -> Any:
    """Whether two arrays broadcast together and are then equal."""
    a1, a2 = _array(a1, "array_equiv"), _array(a2, "array_equiv")
    try:
        broadcast_shapes(a1.aval.shape, a2.aval.shape)
    except ShapeError:
        return asarray(False)
    return all(uf.equal(a1, a2))


# ---------------------------------------------------------------- sets


def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *, method: str = "auto"
) -> Any:
    """Whether each element is in `test_elements`.

    >>> isin([1, 2, 5], [2, 5, 7])
    Array([False,  True,  True], dtype=bool)
    """
    x, known = promote_dtypes(_array(element, "isin"), ravel(_array(test_elements, "isin")), operation="isin")
    if not known.aval.size or not x.aval.size:
        found = uf.not_equal(x, x) if not dtypes.is_inexact(x.aval.dtype) else uf.less(uf.absolute(x), 0)
    elif known.aval.size <= 16 or dtypes.is_complex(x.aval.dtype):
        row = known.reshape((1,) * len(x.aval.shape) + (-1,))
        found = any(uf.equal(x[..., None], row), axis=-1)
    else:
        known = sort(known)
        place = searchsorted(known, ravel(x))
        found = uf.equal(known[uf.minimum(place, known.aval.size - 1)].reshape(x.aval.shape), x)
    return uf.logical_not(found) if invert else found


def _require_size(size: int | None, operation: str, *arrays: Any) -> None:
    if size is None and builtins.any(isinstance(a, Tracer) for a in arrays):
        raise ArgumentError(
            f"{operation}: the size of the result depends on values that are not known while tracing",
            fix="pass size=, the number of elements to return, and fill_value= to pad the result",
        )


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Sorted distinct elements that are in either array; `size` makes the shape static, for use under jit."""
    both = concatenate([ravel(_array(ar1, "union1d")), ravel(_array(ar2, "union1d"))])
    return unique(both, size=size, fill_value=fill_value)


def _select(values: Any, mask: Any, size: int | None, fill_value: Any, operation: str) -> Any:
    """Values where the mask is true: all of them, or exactly `size`, padded with `fill_value`."""
    _require_size(size, operation, mask)
    if size is None:
        return values[np.flatnonzero(np.asarray(mask))]
    n = values.aval.size
    if not n:
        return asarray(np.zeros(size, values.aval.dtype) if fill_value is None else np.full(size, fill_value))
    (places,) = nonzero(mask, size=size, fill_value=n)
    default = values[0] if fill_value is None else fill_value
    return where(uf.less(places, n), values[uf.minimum(places, n - 1)], default).astype(values.aval.dtype)


def _unique_with_mask(x: Any) -> tuple[Any, Any]:
    """The sorted elements, and the mask of the first occurrence of each value."""
    x = sort(ravel(x))
    if not x.aval.size:
        return x, asarray(np.zeros(0, bool))
    return x, concatenate([asarray([True]), uf.not_equal(x[1:], x[:-1])])


def setdiff1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = None
) -> Any:
    """Sorted distinct elements of the first array that are not in the second; `size` makes the shape static."""
    ar1, ar2 = _array(ar1, "setdiff1d"), _array(ar2, "setdiff1d")
    values, first = (ravel(ar1), True) if assume_unique else _unique_with_mask(ar1)
    mask = uf.logical_and(isin(values, ar2, invert=True), first)
    return _select(values, mask, size, 0 if fill_value is None and size is not None else fill_value, "setdiff1d")


def setxor1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = None
) -> Any:
    """Sorted distinct elements that are in exactly one of the arrays; `size` makes the shape static."""
    (a, first_a), (b, first_b) = (_unique_with_mask(_array(x, "setxor1d")) for x in (ar1, ar2))
    values = concatenate([a, b])
    mask = concatenate(
        [uf.logical_and(isin(a, b, invert=True), first_a), uf.logical_and(isin(b, a, invert=True), first_b)]
    )
    order = argsort(values)
    return _select(
        values[order], mask[order], size, 0 if fill_value is None and size is not None else fill_value, "setxor1d"
    )


def intersect1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Sorted distinct elements that are in both arrays; `size` makes the shape static.

    With `return_indices`, also the index of the first occurrence of each in `ar1` and in `ar2`.
    """
    a, b = promote_dtypes(*(ravel(_array(x, "intersect1d")) for x in (ar1, ar2)), operation="intersect1d")
    order = argsort(a)
    values, first = a[order], _unique_with_mask(a)[1]
    mask = uf.logical_and(isin(values, b), first)
    common = _select(values, mask, size, fill_value, "intersect1d")
    if not return_indices:
        return common
    in_a = _select(order, mask, size, a.aval.size if size is not None else None, "intersect1d")
    other = argsort(b)
    in_b = other[uf.minimum(searchsorted(b[other], common), builtins.max(b.aval.size - 1, 0))]
    if size is not None:
        in_b = where(uf.equal(in_a, a.aval.size), b.aval.size, in_b)
    return common, in_a, in_b
