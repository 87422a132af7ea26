"""sin cos tan and their inverses asin acos atan atan2."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import INVERSE_PI, PI, inverse_pi, part, parts
from funcgrad.compiler.targets.llvm.vector_math.registry import Far, Shortcut, math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import (
    F32,
    Scalar,
    absolute,
    copysign,
    fma,
    horner,
    power_of_two,
    quick_two_sum,
    quotient,
    round_even,
    select,
    sqrt,
    two_product,
    two_sum,
    unshift,
)

# For |x| >= 2^limit a float32 is a multiple of 2^(limit - 23), so a part of 1/pi that is a multiple of
# 2^(24 - limit) contributes whole turns, multiples of 2, to x / pi. Those may go; the rest fits a float64.
WINDOW_LIMITS = (50, 76, 102)
F64_LIMIT = 2.0**48
FAR_STEP = 64
Reduction = Callable[[Scalar], tuple[Scalar, Scalar, Scalar]]


def inverse_pi_windows(x: Scalar, wide: Scalar) -> tuple[Scalar, Scalar]:
    """(high, low) in f64 with x (high + low) = x / pi modulo 2, for every f32 x (after Payne and Hanek)."""
    high, low = (wide.like(p) for p in parts(INVERSE_PI, wide))
    for limit in WINDOW_LIMITS:
        unit = Fraction(1, 2 ** (limit - 24))
        window = INVERSE_PI - round(INVERSE_PI / unit) * unit
        window_high, window_low = parts(window, wide)
        beyond = absolute(x) >= 2.0**limit
        high, low = select(beyond, window_high, high), select(beyond, window_low, low)
    return high, low


def quarter_turns(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(r, r_low, n) with x = n pi/2 + r + r_low modulo 2 pi, |r| <= 0.57 pi/2, n an i64, all f64.

    f32: 2 x / pi modulo 4 in f64, right for every x; r_low is 0. f64: Cody and Waite's subtraction with 159
    bits of pi, right for |x| <= 2^48, where neighboring arguments are 1/16 apart; beyond, see `far_quarter_turns`.
    """
    wide = x.to_f64()
    magic = wide.format.round_magic
    if x.type == F32:
        high, low = inverse_pi_windows(x, wide)
        high, low = high * 2.0, low * 2.0
        n_float, n = unshift(fma(wide, high, magic))
        turns = fma(wide, low, fma(wide, high, -n_float))
        return turns * part(PI / 2, wide), wide.like(0.0), n
    n_float, n = unshift(fma(wide, part(INVERSE_PI * 2, wide), magic))
    high, middle, low = parts(PI / 2, wide, 3)
    partial = fma(n_float, -middle, fma(n_float, -high, wide))
    r = fma(n_float, -low, partial)
    return r, fma(n_float, -low, partial - r), n


@functools.cache
def far_windows() -> list[Fraction]:
    """2^(64 i) · 2/pi modulo 2^54, for i from 0 to 15: what f64 numbers from 2^(64 i) on are multiplied by."""
    value = 2 * inverse_pi(64 * 15 + 256)
    shifted = [value * 2 ** (FAR_STEP * i) for i in range(1024 // FAR_STEP)]
    return [v - round(v / 2**54) * 2**54 for v in shifted]


def far_quarter_turns(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """`quarter_turns` of an f64 x with |x| >= 1 (after Payne and Hanek).

    x is 2^(64 i) y with 1 <= |y| < 2^64, so y is a multiple of 2^-52. A multiple of 2^54 in 2^(64 i) · 2/pi contributes
    whole turns, multiples of 4. The rest, to 2^-212, times y is within 2^-148 of the number of quarter turns. No x
    comes closer to an integer than 2^-62.
    """
    size = absolute(x)
    exponent = (size.bits() >> 52) - x.format.bias
    y = x * power_of_two(-((exponent >> 6) << 6))
    digits = [x.like(d) for d in parts(far_windows()[0], x, 5)]
    for i, window in enumerate(far_windows()[1:], 1):
        beyond = size >= 2.0 ** (FAR_STEP * i)
        digits = [select(beyond, d, old) for d, old in zip(parts(window, x, 5), digits, strict=True)]
    terms = [t for d in digits[:-1] for t in two_product(y, d)] + [y * digits[-1]]
    terms = [fma(round_even(t * 0.25), -4.0, t) if i < 5 else t for i, t in enumerate(terms)]
    total, *rest = sum_exactly(terms)
    n_float, n = unshift(total + x.format.round_magic)
    total, *rest = sum_exactly([total - n_float, *rest])
    turns, turns_low = quick_two_sum(total, functools.reduce(Scalar.__add__, reversed(rest)))
    pi_half, pi_half_low = parts(PI / 2, x)
    r, r_low = two_product(turns, pi_half)
    return r, fma(turns, pi_half_low, fma(turns_low, pi_half, r_low)), n


def sum_exactly(terms: list[Scalar]) -> list[Scalar]:
    """The rounded sum and its errors, which together are the exact sum (Ogita, Rump and Oishi's VecSum)."""
    total, errors = terms[-1], []
    for term in reversed(terms[:-1]):
        total, error = two_sum(term, total)
        errors.append(error)
    return [total, *reversed(errors)]


def sine_or_cosine(x: Scalar, quarters: int, reduce: Reduction = quarter_turns) -> Scalar:
    """sin(x + quarters pi/2)."""
    wide, r_low, n = reduce(x)
    n = n + quarters
    r = wide.to(x.type)
    if x.type == F32:
        r_low = (wide - r.to_f64()).to_f32()
    z = r * r
    s = fma(r * z, horner(z, coefficients.SINE_QUARTER), r_low) + r
    c = fma(z, -0.5, 1.0)
    c_low = fma(z, -0.5, 1.0 - c)
    c = c + fma(z * z, horner(z, coefficients.COSINE_QUARTER), fma(-r, r_low, c_low))
    odd, negative = (n & 1).same(1), (n & 2).same(2)
    value = select(odd, c, s)
    return select(negative, -value, value)


def tangent(x: Scalar, reduce: Reduction = quarter_turns) -> Scalar:
    """s/c, or -c/s in odd quarter turns; f32 works in f64, f64 in two parts."""
    r, r_low, n = reduce(x)
    z = r * r
    sine, cosine = coefficients.SINE_QUARTER, coefficients.COSINE_QUARTER
    odd = (n & 1).same(1)
    if x.type == F32:
        s = fma(r * z, horner(z, sine.f32), r)
        c = fma(z * z, horner(z, cosine.f32), fma(z, -0.5, 1.0))
        return (select(odd, -c, s) / select(odd, s, c)).to_f32()
    s, s_low = quick_two_sum(r, fma(r * z, horner(z, sine), r_low))
    half, half_low = two_product(r, r * 0.5)
    c, c_low = quick_two_sum(r.like(1.0), -half)
    c, rest_low = quick_two_sum(c, fma(z * z, horner(z, cosine), -half_low) - r * r_low)
    c_low = c_low + rest_low
    return quotient(select(odd, -c, s), select(odd, -c_low, s_low), select(odd, s, c), select(odd, s_low, c_low))


def within_an_eighth(x: Scalar) -> Scalar:
    """|x| ≤ pi/4: there is nothing to reduce."""
    return absolute(x) <= math.pi / 4


def sine_polynomial(x: Scalar) -> Scalar:
    """sin(x) for |x| ≤ pi/4."""
    z = x * x
    return select(x.same(0.0), x, fma(x * z, horner(z, coefficients.SINE_QUARTER), x))


def cosine_polynomial(x: Scalar) -> Scalar:
    """cos(x) for |x| ≤ pi/4."""
    z = x * x
    c = fma(z, -0.5, 1.0)
    return c + fma(z * z, horner(z, coefficients.COSINE_QUARTER), fma(z, -0.5, 1.0 - c))


def far_sine(x: Scalar) -> Scalar:
    """sin(x) for huge f64 x, with Payne and Hanek's reduction."""
    return sine_or_cosine(x, 0, far_quarter_turns)


def far_cosine(x: Scalar) -> Scalar:
    """cos(x) for huge f64 x, with Payne and Hanek's reduction."""
    return sine_or_cosine(x, 1, far_quarter_turns)


def far_tangent(x: Scalar) -> Scalar:
    """tan(x) for huge f64 x, with Payne and Hanek's reduction."""
    return tangent(x, far_quarter_turns)


@math_function(f32=1.0, f64=1.5, shortcut=Shortcut(within_an_eighth, sine_polynomial), far=Far(F64_LIMIT, far_sine))
def sin(x: Scalar) -> Scalar:
    """sin(x): reduction to an eighth of a turn, then the polynomial of sin or cos."""
    return select(x.same(0.0), x, sine_or_cosine(x, 0))


@math_function(f32=1.0, f64=1.5, shortcut=Shortcut(within_an_eighth, cosine_polynomial), far=Far(F64_LIMIT, far_cosine))
def cos(x: Scalar) -> Scalar:
    """cos(x) = sin(x + pi/2), the quarter turn added after the reduction."""
    return sine_or_cosine(x, 1)


@math_function(f32=0.6, f64=1.8, far=Far(F64_LIMIT, far_tangent))
def tan(x: Scalar) -> Scalar:
    """tan(x): reduction to an eighth of a turn, then a quotient of polynomials."""
    return select(x.same(0.0), x, tangent(x))


def asin_core(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(small, s, t): asin(|x|) is s + t when small, else pi/2 - 2 (s + t)."""
    a = absolute(x)
    small = a < 0.5
    z = select(small, a * a, (1.0 - a) * 0.5)
    root = sqrt(z)
    root_low = fma(-root, root, z) / (root + root + x.format.tiny)
    s, s_low = select(small, a, root), select(small, 0.0, root_low)
    return small, s, fma(s * z, horner(z, coefficients.ASIN), s_low)


@math_function(f32=0.7, f64=0.7)
def asin(x: Scalar) -> Scalar:
    """asin(x): a polynomial to 1/2, then pi/2 - 2 asin(sqrt((1 - |x|)/2)), the root in two parts."""
    small, s, t = asin_core(x)
    pi_half, pi_half_low = parts(PI / 2, x)
    high, low = two_sum(x.like(pi_half), -(s + s))
    return copysign(select(small, s + t, high + (low + (pi_half_low - (t + t)))), x)


@math_function(f32=0.7, f64=0.7)
def acos(x: Scalar) -> Scalar:
    """acos(x) = pi/2 - asin(x) near 0, 2 asin(sqrt((1 - x)/2)) towards 1, pi minus that towards -1."""
    small, s, t = asin_core(x)
    base = select(small, part(PI / 2, x), select(x < 0.0, x.like(part(PI, x)), 0.0))
    base_low = select(small, parts(PI / 2, x)[1], select(x < 0.0, x.like(parts(PI, x)[1]), 0.0))
    s, t = select(small, s, s + s), select(small, t, t + t)
    minus = (small & (x >= 0.0)) | (~small & (x < 0.0))
    s, t = select(minus, -s, s), select(minus, -t, t)
    high, low = two_sum(base, s)
    return high + (low + (base_low + t))


def atan_quotient(y: Scalar, x: Scalar, x_negative: Scalar) -> Scalar:
    """The angle of (x, |y|) from |y| and |x|: atan of the smaller over the larger, turned into its octant."""
    swap = y > x
    small, large = select(swap, x, y), select(swap, y, x)
    # Equal sides: 0/0 counts as 0, inf/inf as 1.
    ratio = select(small.same(large), select(large.same(0.0), y.like(0.0), 1.0), small / large)
    z = ratio * ratio
    angle = fma(ratio * z, horner(z, coefficients.ATAN), ratio)
    angle = select(swap ^ x_negative, -angle, angle)
    half, half_low = parts(PI / 2, y)
    pi, pi_low = parts(PI, y)
    base = select(swap, half, select(x_negative, y.like(pi), 0.0))
    base_low = select(swap, half_low, select(x_negative, y.like(pi_low), 0.0))
    return base + (angle + base_low)


@math_function(f32=1.8, f64=1.8)
def atan(x: Scalar) -> Scalar:
    """atan(x), above 1 as pi/2 - atan(1/x)."""
    a = absolute(x)
    return copysign(atan_quotient(a, x.like(1.0), a < 0.0), x)


@math_function(f32=2.0, f64=2.0)
def atan2(y: Scalar, x: Scalar) -> Scalar:
    """The angle of the point (x, y), with the signs of zeros and the infinities as in C99 F.9.1.4."""
    return copysign(atan_quotient(absolute(y), absolute(x), x.bits() < 0), y)
