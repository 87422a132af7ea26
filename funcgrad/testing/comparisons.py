"""Comparison of trees of arrays, with messages that show where they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of

_TOLERANCE = {
    dtypes.bfloat16: 2e-2,
    dtypes.float16: 2e-3,
    dtypes.float32: 1e-5,
    dtypes.complex64: 1e-5,
    dtypes.float64: 1e-12,
    dtypes.complex128: 1e-12,
}


def tolerance(dtype: np.dtype) -> float:
    """Return the relative difference allowed between two computations of the same value in `dtype`; 0 for integers."""
    return _TOLERANCE.get(dtype, 0.0)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    check_dtypes: bool = True,
    signed_zeros: bool = False,
    what: str = "values",
) -> None:
    """Raise AssertionError unless two trees have equal structures, shapes, dtypes and values.

    Values are equal if |actual − expected| ≤ atol + rtol·|expected|, both are NaN, or both are the same infinity. The
    default tolerances depend on the dtype, and are 0 for integers and bools. With `signed_zeros`, 0 does not equal −0.

    >>> assert_close({"w": np.float32(1)}, {"w": np.float32(2)}, what="weights")
    Traceback (most recent call last):
    ...
    AssertionError: weights ['w']: values differ at index (): 1.0 and 2.0 (1 of 1 elements, f32[])
    """
    if (structure := tree.structure(actual)) != (other := tree.structure(expected)):
        raise AssertionError(f"{what}: structures differ: {structure} and {other}")
    for (path, a), b in zip(tree.leaves_with_path(actual), tree.leaves(expected), strict=True):
        where = f"{what} {tree.keystr(path)}".rstrip()
        _assert_leaf_close(a, b, rtol, atol, check_dtypes, signed_zeros, where)


def _assert_leaf_close(
    a: Any, b: Any, rtol: float | None, atol: float | None, check_dtypes: bool, signed_zeros: bool, where: str
) -> None:
    have, want = aval_of(a), aval_of(b)
    if have.shape != want.shape or (check_dtypes and have.dtype != want.dtype):
        raise AssertionError(f"{where}: types differ: {have.short()} and {want.short()}")
    if have.dtype == dtypes.float0:
        return
    default = max(tolerance(have.dtype), tolerance(want.dtype))
    rtol = default if rtol is None else rtol
    atol = default if atol is None else atol
    x, y = (_wide(np.asarray(v)) for v in (a, b))
    with np.errstate(all="ignore"):
        near = np.isfinite(y.astype(float) if y.dtype == object else y) & (np.abs(x - y) <= atol + rtol * np.abs(y))
        same = (x == y) | near | ((x != x) & (y != y))
        if signed_zeros:
            same &= _negative_zeros_are_negative(x, y) & _negative_zeros_are_negative(y, x)
    if not np.all(same):
        index = tuple(int(i) for i in np.argwhere(~same)[0]) if x.ndim else ()
        raise AssertionError(
            f"{where}: values differ at index {index}: {x[index]} and {y[index]} "
            f"({np.size(same) - np.count_nonzero(same)} of {np.size(same)} elements, {have.short()})"
        )


def _negative_zeros_are_negative(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether y is negative, be it −0, where x is −0; both parts of complex numbers."""
    if x.dtype.kind == "c":
        return _negative_zeros_are_negative(x.real, y.real) & _negative_zeros_are_negative(x.imag, y.imag)
    return (x != 0) | ~np.signbit(x) | np.signbit(y) if x.dtype.kind == "f" else np.ones(x.shape, bool)


def _wide(x: np.ndarray) -> np.ndarray:
    """Convert to a dtype in which differences of integers do not wrap and differences of narrow floats do not round."""
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    if dtypes.is_float(x.dtype):
        return x.astype(np.float64)
    return x.astype(object) if x.dtype.itemsize == 8 else x.astype(np.int64)
