"""Exponentials, logarithms, powers and trigonometry of complex numbers in terms of real parts.

Values at infinities and NaN are those of ISO C, annex G. The inverse functions are W. Kahan's ("Branch cuts for complex
elementary functions, or much ado about nothing's sign bit", 1987): none of their sums cancels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.ops.arithmetic import (
    abs_p,
    acos_p,
    acosh_p,
    asin_p,
    asinh_p,
    atan_p,
    atanh_p,
    cos_p,
    cosh_p,
    exp2_p,
    exp_p,
    expm1_p,
    is_finite_p,
    log1p_p,
    log_p,
    logistic_p,
    max_p,
    min_p,
    neg_p,
    pow_p,
    rsqrt_p,
    sin_p,
    sinh_p,
    sqrt_p,
    tan_p,
    tanh_p,
)
from funcgrad.ops.casts import bitcast_convert_type_p, convert_element_type
from funcgrad.ops.composite import atan2_p, hypot_p
from funcgrad.ops.logic import and_p, gt_p, lt_p, not_p
from funcgrad.ops.pairs import (
    PAIRS,
    Pair,
    both,
    compare,
    constant,
    divide,
    either,
    is_infinite,
    is_nan,
    is_negative,
    is_zero,
    negative,
    reciprocal,
    where,
    with_sign,
)


def _choose(condition: Any, yes: Pair, no: Pair) -> Pair:
    return Pair(where(condition, yes.re, no.re), where(condition, yes.im, no.im))


# ---------------------------------------------------------------- exponentials


def _limits(x: Any) -> Any:
    return dtypes.finfo(aval_of(x).dtype)


def _exp_in_two(x: Any) -> tuple[Any, Any]:
    """Factors of eˣ, neither of which overflows where the product with a small number does not."""
    most = math.floor(math.log(float(_limits(x).max)))
    large = compare(gt_p, x, most)
    factor = where(large, float(np.exp(np.float64(most))), constant(1, x))
    return exp_p.bind(where(large, x - most, x)), factor


def _spiral(x: Pair, growth: Any, factor: Any = 1.0) -> Pair:
    """growth · factor · (cos im + i sin im). A growth of 0 makes 0 of any angle."""
    still = both(is_zero(growth), not_p.bind(is_finite_p.bind(x.im)))
    angle = where(still, where(compare(lt_p, x.im, 0), -1.0, constant(1, x.im)), x.im)
    re = growth * cos_p.bind(angle) * factor
    return Pair(re, where(is_zero(x.im), x.im, growth * sin_p.bind(angle) * factor))


def exp(x: Pair) -> Pair:
    """e^(a + ib) = eᵃ cos b + i eᵃ sin b"""
    return _spiral(x, *_exp_in_two(x.re))


def exp2(x: Pair) -> Pair:
    """2^(a + ib) = 2ᵃ cos(b log 2) + i 2ᵃ sin(b log 2)"""
    return _spiral(Pair(x.re, x.im * math.log(2)), exp2_p.bind(x.re))


def expm1(x: Pair) -> Pair:
    """eᵃ cos b − 1 = (eᵃ − 1) cos b − 2 sin²(b/2), and eᵃ sin b"""
    half = sin_p.bind(x.im * 0.5)
    return Pair(expm1_p.bind(x.re) * cos_p.bind(x.im) - 2 * half * half, exp_p.bind(x.re) * sin_p.bind(x.im))


def logistic(x: Pair) -> Pair:
    """1 / (1 + e^−x), or eˣ / (1 + eˣ) where that does not overflow"""
    left = compare(lt_p, x.re, 0)
    e = exp(_choose(left, x, negative(x)))
    one = Pair(constant(1, e.re), constant(0, e.re))
    return divide(_choose(left, e, one), Pair(1 + e.re, 0 + e.im))


# ---------------------------------------------------------------- logarithms and powers


def _halves(x: Any) -> tuple[Any, Any]:
    """A float64 as the sum of two with half as many digits."""
    bits = and_p.bind(bitcast_convert_type_p.bind(x, new_dtype=dtypes.int64), np.int64(-(1 << 27)))
    high = bitcast_convert_type_p.bind(bits, new_dtype=dtypes.float64)
    return high, x - high


def _square(x: Any) -> tuple[Any, Any]:
    """x² as a float64 and its rounding error (Dekker 1971)."""
    high, low = _halves(x)
    square = x * x
    return square, ((high * high - square) + 2 * (high * low)) + low * low


def _sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b as a float and its rounding error (Knuth 1969)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _squares_less_one(large: Any, small: Any) -> Any:
    """large² + small² − 1 with twice the digits of the operands, for large² + small² near 1."""
    dtype = aval_of(large).dtype
    large, small = (convert_element_type(v, dtypes.float64) for v in (large, small))
    if dtype != dtypes.float64:
        return convert_element_type((large * large - 1) + small * small, dtype)
    (x, x_error), (y, y_error) = _square(large), _square(small)
    first, first_error = _sum(x, constant(-1, x))
    total, total_error = _sum(first, y)
    return total + (first_error + total_error + x_error + y_error)


def _is_near_one(length: Any) -> Any:
    return both(compare(gt_p, length, 0.5), compare(lt_p, length, 2))


def log_magnitude(x: Pair) -> Any:
    """log |x|, by log1p where |x| is near 1."""
    a, b = abs_p.bind(x.re), abs_p.bind(x.im)
    length = hypot_p.bind(a, b)
    near = _is_near_one(length)
    large, small = (where(near, p.bind(a, b), v) for p, v in ((max_p, 1.0), (min_p, 0.0)))
    return where(near, 0.5 * log1p_p.bind(_squares_less_one(large, small)), log_p.bind(length))


def argument(x: Pair) -> Any:
    """The angle of x: where both parts are infinite, exactly an odd multiple of π/4."""
    diagonal = where(is_negative(x.re), 3 * math.pi / 4, constant(math.pi / 4, x.re))
    infinite = both(is_infinite(x.re), is_infinite(x.im))
    return where(infinite, with_sign(diagonal, x.im), atan2_p.bind(x.im, x.re))


def log(x: Pair) -> Pair:
    """log |x| + i arg x"""
    return Pair(log_magnitude(x), argument(x))


def log1p(x: Pair) -> Pair:
    """log(1 + x), where |1 + x| is near 1 with |1 + x|² − 1 = a(a + 2) + b² in float64"""
    a, b = x
    moved = Pair(1 + a, b)
    length = hypot_p.bind(*moved)
    near = _is_near_one(length)
    u, v = (convert_element_type(where(near, part, 0.0), dtypes.float64) for part in x)
    square = convert_element_type(u * (u + 2) + v * v, aval_of(a).dtype)
    return Pair(where(near, 0.5 * log1p_p.bind(square), log_p.bind(length)), argument(moved))


def sqrt(x: Pair) -> Pair:
    """t + i b/2t with t = √((|x| + |a|)/2) for a ≥ 0, and |b|/2t ± it otherwise. Powers of 4 keep |x| in range."""
    a, b = x
    limits = _limits(a)
    top = max_p.bind(abs_p.bind(a), abs_p.bind(b))
    huge, tiny = compare(gt_p, top, float(limits.max) / 8), compare(lt_p, top, float(limits.tiny) * 4)
    digits = 2 * (limits.nmant // 2 + 1)
    scale = where(huge, 1 / 16, where(tiny, 2.0 ** (2 * digits), constant(1, a)))
    back = where(huge, 4.0, where(tiny, 2.0**-digits, constant(1, a)))
    a, b = a * scale, b * scale
    t = sqrt_p.bind((hypot_p.bind(a, b) + abs_p.bind(a)) * 0.5)
    zero = is_zero(t)
    other = where(zero, abs_p.bind(b), abs_p.bind(b) / where(zero, 1.0, t) * 0.5)
    forward = not_p.bind(compare(lt_p, a, 0))
    endless = is_infinite(b)
    re = where(endless, math.inf, where(forward, t, other) * back)
    im = where(endless, math.inf, where(forward, other, t) * back)
    return Pair(re, with_sign(im, x.im))


def rsqrt(x: Pair) -> Pair:
    """1/√x"""
    return reciprocal(sqrt(x))


def power(x: Pair, y: Any) -> Pair:
    """|x|ᶜ e^(−d arg x) at the angle c arg x + d log |x|, for y = c + id."""
    if not isinstance(y, Pair):
        y = Pair(convert_element_type(y, aval_of(x.re).dtype), constant(0, x.re))
    length, angle = hypot_p.bind(*x), argument(x)
    nothing, one = both(is_zero(x.re), is_zero(x.im)), both(is_zero(y.re), is_zero(y.im))
    growth = pow_p.bind(length, y.re) * exp_p.bind(neg_p.bind(y.im * angle))
    turn = y.re * angle + where(is_zero(y.im), 0.0, y.im * log_magnitude(x))
    found = _spiral(
        Pair(growth, where(is_zero(growth), where(compare(lt_p, turn, 0), -1.0, constant(1, turn)), turn)), growth
    )
    of_zero = where(compare(gt_p, y.re, 0), 0.0, constant(math.nan, x.re))
    parts = (where(nothing, of_zero, v) for v in found)
    return Pair(*(where(one, unit, v) for unit, v in zip((1.0, 0.0), parts, strict=True)))


# ---------------------------------------------------------------- hyperbolic and trigonometric functions


def rotated(x: Pair) -> Pair:
    """ix"""
    return Pair(neg_p.bind(x.im), x.re)


def rotated_back(x: Pair) -> Pair:
    """−ix"""
    return Pair(x.im, neg_p.bind(x.re))


def _hyperbolic(x: Any) -> tuple[Any, Any, Any]:
    """sinh x and cosh x over a factor, which keeps them from overflow."""
    size = abs_p.bind(x)
    large = compare(gt_p, size, _limits(x).nmant)
    growth, factor = _exp_in_two(where(large, size, 0.0))
    near = where(large, 0.0, x)
    half = 0.5 * growth
    return where(large, with_sign(half, x), sinh_p.bind(near)), where(large, half, cosh_p.bind(near)), factor


def sinh(x: Pair) -> Pair:
    """sinh a cos b + i cosh a sin b"""
    s, c, factor = _hyperbolic(x.re)
    on_axis = both(is_zero(x.re), not_p.bind(is_finite_p.bind(x.im)))
    re = where(on_axis, x.re, s * cos_p.bind(x.im) * factor)
    return Pair(re, where(is_zero(x.im), x.im, c * sin_p.bind(x.im) * factor))


def cosh(x: Pair) -> Pair:
    """cosh a cos b + i sinh a sin b"""
    s, c, factor = _hyperbolic(x.re)
    im = s * sin_p.bind(x.im) * factor
    flat = where(is_negative(x.re), neg_p.bind(x.im), x.im)
    return Pair(c * cos_p.bind(x.im) * factor, where(is_zero(x.im), where(is_nan(x.re), x.im, flat), im))


def tanh(x: Pair) -> Pair:
    """(sinh a cosh a + i sin b cos b) / (sinh² a + cos² b); far from 0, ±1 + 4i sin b cos b e^(−2|a|)"""
    a, b = x
    size = abs_p.bind(a)
    far = compare(gt_p, size, _limits(a).nmant // 2)
    near = where(far, 1.0, a)
    s, c, u, v = sinh_p.bind(near), cosh_p.bind(near), sin_p.bind(b), cos_p.bind(b)
    turn = u * v
    below = s * s + v * v
    re = where(far, with_sign(1.0, a), s * c / below)
    shrunk = 4 * turn * exp_p.bind(neg_p.bind(size)) * exp_p.bind(neg_p.bind(size))
    im = where(far, shrunk, turn / below)
    endless = both(is_infinite(a), not_p.bind(is_finite_p.bind(b)))
    im = where(endless, with_sign(0.0, b), where(is_zero(b), b, im))
    return Pair(where(is_zero(a), a, re), im)


def sin(x: Pair) -> Pair:
    """−i sinh ix"""
    return rotated_back(sinh(rotated(x)))


def cos(x: Pair) -> Pair:
    """cosh ix"""
    return cosh(rotated(x))


def tan(x: Pair) -> Pair:
    """−i tanh ix"""
    return rotated_back(tanh(rotated(x)))


# ---------------------------------------------------------------- inverse functions


def _roots(x: Pair) -> tuple[Pair, Pair]:
    """√(1 − x) and √(1 + x)"""
    return sqrt(Pair(1 - x.re, neg_p.bind(x.im))), sqrt(Pair(1 + x.re, x.im))


def _is_finite(x: Pair) -> Any:
    return both(is_finite_p.bind(x.re), is_finite_p.bind(x.im))


def _finite(x: Pair) -> Pair:
    """The value, or 0 where a part is not finite."""
    finite = _is_finite(x)
    return Pair(where(finite, x.re, 0.0), where(finite, x.im, 0.0))


def asinh(x: Pair) -> Pair:
    """asin ix = i asinh x"""
    minus, plus = _roots(rotated(_finite(x)))
    re = asinh_p.bind(plus.re * minus.im - plus.im * minus.re)
    im = atan2_p.bind(x.im, plus.re * minus.re - plus.im * minus.im)
    zero = both(is_zero(x.re), is_zero(x.im))
    return _choose(_is_finite(x), _choose(zero, x, Pair(with_sign(abs_p.bind(re), x.re), im)), _asinh_at_infinity(x))


def _asinh_at_infinity(x: Pair) -> Pair:
    a, b = x
    nan = constant(math.nan, a)
    angle = where(is_nan(a), math.nan, with_sign(where(is_infinite(a), math.pi / 4, constant(math.pi / 2, a)), b))
    above = Pair(with_sign(math.inf, a), angle)
    known = either(both(is_infinite(a), is_finite_p.bind(b)), both(is_nan(a), is_zero(b)))
    beside = Pair(a, where(known, with_sign(0.0, b), nan))
    other = Pair(where(is_finite_p.bind(a), nan, beside.re), where(is_finite_p.bind(a), nan, beside.im))
    return _choose(is_infinite(b), above, other)


def asin(x: Pair) -> Pair:
    """−i asinh ix"""
    return rotated_back(asinh(rotated(x)))


def acos(x: Pair) -> Pair:
    """2 atan2(re √(1 − x), re √(1 + x)), and asinh of an imaginary part"""
    minus, plus = _roots(_finite(x))
    re = 2 * atan2_p.bind(minus.re, plus.re)
    im = asinh_p.bind(plus.re * minus.im - plus.im * minus.re)
    finite = Pair(re, with_sign(abs_p.bind(im), neg_p.bind(x.im)))
    other = asin(x)
    return _choose(_is_finite(x), finite, Pair(math.pi / 2 - other.re, neg_p.bind(other.im)))


def acosh(x: Pair) -> Pair:
    """±i acos x, whose real part is not negative"""
    found = acos(x)
    return Pair(abs_p.bind(found.im), with_sign(abs_p.bind(found.re), x.im))


def atanh(x: Pair) -> Pair:
    """¼ log1p(4a / ((1 − a)² + b²)) and ½ atan2(2b, (1 − a)(1 + a) − b²), both divided by the largest part"""
    a, b = abs_p.bind(x.re), abs_p.bind(x.im)
    top = max_p.bind(constant(1, a), max_p.bind(a, b))
    less, more = 1 - a, 1 + a
    below = less / top * less + b / top * b
    re = 0.25 * log1p_p.bind(4 * (a / top) / below)
    im = 0.5 * atan2_p.bind(2 * (b / top), less / top * more - b / top * b)
    endless = either(is_infinite(x.im), both(is_infinite(x.re), not_p.bind(is_nan(x.im))))
    re = where(either(endless, is_infinite(x.re), is_zero(x.re)), 0.0, re)
    im = where(endless, math.pi / 2, where(is_finite_p.bind(x.re), im, constant(math.nan, a)))
    return Pair(with_sign(re, x.re), with_sign(im, x.im))


def atan(x: Pair) -> Pair:
    """−i atanh ix"""
    return rotated_back(atanh(rotated(x)))


PAIRS.add(
    {
        exp_p: exp,
        exp2_p: exp2,
        expm1_p: expm1,
        logistic_p: logistic,
        log_p: log,
        log1p_p: log1p,
        sqrt_p: sqrt,
        rsqrt_p: rsqrt,
        pow_p: power,
        sinh_p: sinh,
        cosh_p: cosh,
        tanh_p: tanh,
        sin_p: sin,
        cos_p: cos,
        tan_p: tan,
        asinh_p: asinh,
        acosh_p: acosh,
        atanh_p: atanh,
        asin_p: asin,
        acos_p: acos,
        atan_p: atan,
    }
)
