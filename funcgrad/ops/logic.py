"""Elementwise comparisons, logic and bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.ops.elementwise import BITS, MOVABLE, elementwise


def _comparison(name: str, evaluate: Any, kinds: Sequence[str] = ("bool", "int", "float")) -> Any:
    return elementwise(name, evaluate, derivative=(None, None), kinds=kinds, result=lambda d: dtypes.bool_)


def _comparable(x: Any) -> Any:
    return x.view(np.uint64) if x.dtype == dtypes.key else x


eq_p = _comparison("eq", lambda x, y: np.equal(_comparable(x), _comparable(y)), MOVABLE)
ne_p = _comparison("ne", lambda x, y: np.not_equal(_comparable(x), _comparable(y)), MOVABLE)
lt_p = _comparison("lt", np.less)
le_p = _comparison("le", np.less_equal)
gt_p = _comparison("gt", np.greater)
ge_p = _comparison("ge", np.greater_equal)

and_p = elementwise("and", np.bitwise_and, derivative=(None, None), kinds=BITS)
or_p = elementwise("or", np.bitwise_or, derivative=(None, None), kinds=BITS)
xor_p = elementwise("xor", np.bitwise_xor, derivative=(None, None), kinds=BITS)
not_p = elementwise("not", np.invert, kinds=BITS)


def _shift(numpy_shift: Any, fill: Any) -> Any:
    """Shift; amounts that are negative, or at least the number of bits, give the fill value."""

    def evaluate(x: Any, y: Any) -> Any:
        bits = x.dtype.itemsize * 8
        inside = (y >= 0) & (y < bits)
        return np.where(inside, numpy_shift(x, np.where(inside, y, 0).astype(x.dtype)), fill(x)).astype(x.dtype)

    return evaluate


def _logical_shift(x: Any, y: Any) -> Any:
    return (_unsigned(x) >> _unsigned(y)).view(x.dtype)


def _zero_fill(x: Any) -> Any:
    return np.zeros_like(x)


def _arithmetic_shift(x: Any, y: Any) -> Any:
    """Arithmetic shift right, which repeats the highest bit, also for unsigned integers."""
    return (_signed(x) >> _signed(y)).view(x.dtype)


def _sign_fill(x: Any) -> Any:
    return (_signed(x) >> (x.dtype.itemsize * 8 - 1)).view(x.dtype)


shift_left_p = elementwise("shift_left", _shift(np.left_shift, _zero_fill), derivative=(None, None), kinds=("int",))
shift_right_logical_p = elementwise(
    "shift_right_logical", _shift(_logical_shift, _zero_fill), derivative=(None, None), kinds=("int",)
)
shift_right_arithmetic_p = elementwise(
    "shift_right_arithmetic",
    _shift(_arithmetic_shift, _sign_fill),
    derivative=(None, None),
    kinds=("int",),
)


def _unsigned(x: Any) -> Any:
    """Count the set bits of `x`. NumPy counts those of the absolute value."""
    return x.view(np.dtype(f"u{x.dtype.itemsize}"))


def _signed(x: Any) -> Any:
    return x.view(np.dtype(f"i{x.dtype.itemsize}"))


population_count_p = elementwise(
    "population_count", lambda x: np.bitwise_count(_unsigned(x)).astype(x.dtype), kinds=("int",)
)


def _count_leading_zeros(x: Any) -> Any:
    bits = x.dtype.itemsize * 8
    value = _unsigned(x).astype(np.uint64)
    for shift in (1, 2, 4, 8, 16, 32):
        value = value | (value >> np.uint64(shift))
    return (bits - np.bitwise_count(value)).astype(x.dtype)


clz_p = elementwise("clz", _count_leading_zeros, kinds=("int",))
