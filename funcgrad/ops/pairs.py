"""Complex arithmetic in terms of real parts: what each primitive means for a pair of real numbers.

The compiler knows real numbers only. A rule in the table of `PAIRS` takes and returns a `Pair` for each complex operand
and result; it is written with primitives of real numbers, so every target and every kernel can compute it. Primitives
that move elements need no rule. `funcgrad.ops.pair_functions` has the rules of exponential and trigonometric functions.

Formulas follow NumPy where infinities, NaN and signed zeros are concerned.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import Transform
from funcgrad.ops.arithmetic import (
    abs_p,
    add_p,
    conj_p,
    div_p,
    imag_p,
    integer_pow_p,
    max_p,
    min_p,
    mul_p,
    neg_p,
    real_p,
    sign_p,
    square_p,
    sub_p,
)
from funcgrad.ops.casts import bitcast_convert_type_p, convert_element_type, convert_element_type_p
from funcgrad.ops.composite import hypot_p
from funcgrad.ops.elementwise import add_any_p
from funcgrad.ops.logic import and_p, eq_p, ge_p, lt_p, ne_p, not_p, or_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_scalar, full

PAIRS = Transform("pairs")


class Pair(NamedTuple):
    """The real and the imaginary part of a complex value: both have its shape, or are scalars."""

    re: Any
    im: Any

    @classmethod
    def of(cls, x: Any) -> Any:
        """Return the parts of a complex value; return other values unchanged."""
        return cls(real_p.bind(x), imag_p.bind(x)) if dtypes.is_complex(aval_of(x).dtype) else x


# ---------------------------------------------------------------- real numbers


def constant(value: float, like: Any) -> Any:
    """Return a scalar of the dtype of another value."""
    return full((), value, aval_of(like).dtype)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Select between two real values, of which one may be a Python number."""
    dtype = aval_of(no if isinstance(yes, (int, float)) else yes).dtype
    yes, no = (full((), x, dtype) if isinstance(x, (int, float)) else x for x in (yes, no))
    shape = next((s for s in (aval_of(x).shape for x in (condition, yes, no)) if s), ())
    return select_n_p.bind(condition, broadcast_scalar(no, shape), broadcast_scalar(yes, shape))


def compare(primitive: Any, x: Any, value: float) -> Any:
    """Compare a value with a constant."""
    return primitive.bind(x, constant(value, x))


def is_zero(x: Any) -> Any:
    """Whether x is 0 or −0."""
    return compare(eq_p, x, 0)


def is_infinite(x: Any) -> Any:
    """Whether x is ±∞."""
    return compare(eq_p, abs_p.bind(x), math.inf)


def is_nan(x: Any) -> Any:
    """Whether x is NaN."""
    return ne_p.bind(x, x)


def either(a: Any, *others: Any) -> Any:
    """Whether any condition holds."""
    for b in others:
        a = or_p.bind(a, b)
    return a


def both(a: Any, *others: Any) -> Any:
    """Whether all conditions hold."""
    for b in others:
        a = and_p.bind(a, b)
    return a


def is_negative(x: Any) -> Any:
    """Whether the sign bit of x is set, as it is for −0."""
    bits = bitcast_convert_type_p.bind(x, new_dtype=np.dtype(f"i{aval_of(x).dtype.itemsize}"))
    return lt_p.bind(bits, constant(0, bits))


def with_sign(magnitude: Any, x: Any) -> Any:
    """Return ±magnitude, which is not negative, with the sign bit of x."""
    if isinstance(magnitude, (int, float)):
        magnitude = constant(magnitude, x)
    return where(is_negative(x), neg_p.bind(magnitude), magnitude)


# ---------------------------------------------------------------- arithmetic


def negative(x: Pair) -> Pair:
    """−x"""
    return Pair(neg_p.bind(x.re), neg_p.bind(x.im))


def add(x: Pair, y: Pair) -> Pair:
    """x + y"""
    return Pair(x.re + y.re, x.im + y.im)


def subtract(x: Pair, y: Pair) -> Pair:
    """x − y"""
    return Pair(x.re - y.re, x.im - y.im)


def multiply(x: Pair, y: Pair) -> Pair:
    """(a + ib)·(c + id) = ac − bd + i(ad + bc)"""
    return Pair(x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re)


def divide(x: Pair, y: Pair) -> Pair:
    """x / y by Smith's method: numerator and denominator are divided by the larger part of y, so that no square
    overflows. A denominator of 0 gives infinities and NaN as the division of each part by 0 does."""
    by_real = ge_p.bind(abs_p.bind(y.re), abs_p.bind(y.im))
    zero = both(is_zero(y.re), is_zero(y.im))
    large, small = where(by_real, y.re, y.im), where(by_real, y.im, y.re)
    ratio = small / where(zero, 1.0, large)
    scale = constant(1, y.re) / where(zero, abs_p.bind(large), large + small * ratio)
    re = where(by_real, x.re + x.im * ratio, x.re * ratio + x.im) * scale
    im = where(by_real, x.im - x.re * ratio, x.im * ratio - x.re) * scale
    by_zero = Pair(*(part / abs_p.bind(y.re) for part in x))
    return Pair(where(zero, by_zero.re, re), where(zero, by_zero.im, im))


def reciprocal(x: Pair) -> Pair:
    """1 / x"""
    return divide(Pair(constant(1, x.re), constant(0, x.re)), x)


def integer_power(x: Pair, *, y: int) -> Pair:
    """xʸ by repeated multiplication."""
    n, result, base = abs(y), None, x
    while n:
        if n & 1:
            result = base if result is None else multiply(result, base)
        n >>= 1
        base = multiply(base, base) if n else base
    if result is None:
        ones = full(aval_of(x.re).shape, 1, aval_of(x.re).dtype)
        result = Pair(ones, constant(0, x.re))
    return reciprocal(result) if y < 0 else result


def magnitude(x: Pair) -> Any:
    """|x| without overflow."""
    return hypot_p.bind(x.re, x.im)


def sign(x: Pair) -> Pair:
    """x/|x|, and 0 for 0."""
    zero = both(is_zero(x.re), is_zero(x.im))
    unit = divide(x, Pair(where(zero, 1.0, magnitude(x)), constant(0, x.re)))
    return Pair(*(where(zero, 0.0, part) for part in unit))


def conjugate(x: Any, *, input_dtype: np.dtype) -> Pair:
    """The conjugate of a complex or real value."""
    return Pair(x.re, neg_p.bind(x.im)) if isinstance(x, Pair) else Pair(x, constant(0, x))


def equal(x: Pair, y: Pair) -> Any:
    """Whether both parts are equal."""
    return both(eq_p.bind(x.re, y.re), eq_p.bind(x.im, y.im))


def different(x: Pair, y: Pair) -> Any:
    """Whether either part differs."""
    return either(ne_p.bind(x.re, y.re), ne_p.bind(x.im, y.im))


def convert(x: Any, *, new_dtype: np.dtype, weak_type: bool) -> Any:
    """Cast to or from a complex dtype: a real dtype takes the real part, bool whether the number is not 0."""
    if not dtypes.is_complex(new_dtype):
        if new_dtype == dtypes.bool_:
            return either(not_p.bind(is_zero(x.re)), not_p.bind(is_zero(x.im)))
        return convert_element_type(x.re, new_dtype, weak_type)
    part = dtypes.real_dtype(new_dtype)
    if isinstance(x, Pair):
        return Pair(*(convert_element_type(v, part, weak_type) for v in x))
    return Pair(convert_element_type(x, part, weak_type), full((), 0, part))


def precedes(x: Pair, y: Pair) -> Any:
    """Whether x < y in lexicographic order."""
    return either(lt_p.bind(x.re, y.re), both(eq_p.bind(x.re, y.re), lt_p.bind(x.im, y.im)))


def _extreme(largest: bool) -> Any:
    def choose(x: Pair, y: Pair) -> Pair:
        """The larger or smaller value in lexicographic order; the first operand that has a NaN."""
        first = precedes(y, x) if largest else precedes(x, y)
        nan = either(is_nan(x.re), is_nan(x.im))
        first = either(nan, equal(x, y), both(first, not_p.bind(either(is_nan(y.re), is_nan(y.im)))))
        return Pair(where(first, x.re, y.re), where(first, x.im, y.im))

    return choose


larger, smaller = _extreme(True), _extreme(False)

PAIRS.add(
    {
        neg_p: negative,
        **dict.fromkeys((add_p, add_any_p), add),
        sub_p: subtract,
        mul_p: multiply,
        div_p: divide,
        square_p: lambda x: multiply(x, x),
        integer_pow_p: integer_power,
        abs_p: magnitude,
        sign_p: sign,
        conj_p: conjugate,
        eq_p: equal,
        ne_p: different,
        max_p: larger,
        min_p: smaller,
        convert_element_type_p: convert,
    }
)
