"""exp and log and what is made of them: exp2 expm1 log2 log1p logistic pow, and the roots rsqrt and cbrt."""

from __future__ import annotations

from fractions import Fraction

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import INF, LN2, LOG2_E, NAN, SQRT_HALF, part, parts
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import (
    F32,
    Scalar,
    absolute,
    at_least,
    at_most,
    copysign,
    floor,
    fma,
    from_bits,
    horner,
    integer_to_float,
    power_of_two,
    quick_two_sum,
    round_to_integer,
    scale,
    select,
    sqrt,
    two_product,
    two_sum,
    unshift,
)


def reduce_exp(x: Scalar) -> tuple[Scalar, Scalar]:
    """(r, n) with exp(x) = 2^n exp(r) and |r| <= ln(2)/2, n ln(2) taken off in two parts (Cody, Waite)."""
    n_float, n = unshift(fma(x, part(LOG2_E, x), x.format.round_magic))
    high, low = parts(LN2, x)
    return fma(n_float, -low, fma(n_float, -high, x)), n


def exp_parts(x: Scalar) -> tuple[Scalar, Scalar]:
    """(p, n) with exp(x) = 2^n p, sqrt(1/2) <= p <= sqrt(2); for x within a few times the exponent range."""
    r, n = reduce_exp(x)
    return fma(r * r, horner(r, coefficients.EXP), r) + 1.0, n


@math_function(f32=1.1, f64=1.1)
def exp(x: Scalar) -> Scalar:
    """e^x: reduction by ln 2, a minimax polynomial, and a scaling that rounds subnormal results once."""
    low, high = (-104.0, 89.0) if x.type == F32 else (-746.0, 710.0)
    return scale(*exp_parts(at_least(at_most(x, high), low)))


@math_function(f32=1.0, f64=1.0)
def exp2(x: Scalar) -> Scalar:
    """2^x: the reduction x - round(x) is exact, and so are the results at integers."""
    low, high = (-151.0, 129.0) if x.type == F32 else (-1076.0, 1025.0)
    x = at_least(at_most(x, high), low)
    n_float, n = round_to_integer(x)
    r = x - n_float
    return scale(fma(r, horner(r, coefficients.EXP2), 1.0), n)


@math_function(f32=1.4, f64=1.4)
def expm1(x: Scalar) -> Scalar:
    """e^x - 1 = 2^n (r + r² P(r)) + (2^n - 1), at half scale so that n = 1024 does not overflow early."""
    low, high, tiny = (-18.0, 89.0, 2.0**-25) if x.type == F32 else (-38.0, 710.0, 2.0**-54)
    r, n = reduce_exp(at_least(at_most(x, high), low))
    half = power_of_two(n - 1)
    result = fma(half * (r * r), horner(r, coefficients.EXP), fma(half, r, half - 0.5))
    return select(absolute(x) < tiny, x, result + result)


@math_function(f32=2.5, f64=2.5)
def logistic(x: Scalar) -> Scalar:
    """1 / (1 + e^-x), through e^-|x| so that small results keep their precision."""
    e = exp(-absolute(x))
    return select(x < 0.0, e, 1.0) / (e + 1.0)


def split_normal(x: Scalar) -> tuple[Scalar, Scalar]:
    """(e, m) with x = 2^e m and sqrt(1/2) <= m < sqrt(2), e an integer, for positive normal x."""
    shift, bits = x.format.mantissa_bits, x.bits()
    above = bits - x.like(part(SQRT_HALF, x)).bits()
    if x.type == F32:
        e = above >> shift
        return e, from_bits(bits - (e << shift))
    # AVX2 has no arithmetic shift of 64-bit integers: the exponent is shifted as a positive number.
    positive = (above + (1022 << shift)) & (0x7FF << shift)
    return (positive >> shift) - 1022, from_bits(bits - positive + (1022 << shift))


def split(x: Scalar) -> tuple[Scalar, Scalar]:
    """`split_normal` with e as a float, for subnormal x too."""
    shift = x.format.mantissa_bits + 1
    small = x < x.format.tiny
    e, m = split_normal(select(small, x * 2.0**shift, x))
    return integer_to_float(e) - select(small, x.like(float(shift)), 0.0), m


def log_kernel(e: Scalar, f: Scalar) -> Scalar:
    """e ln(2) + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2).

    f32 uses a polynomial in f; f64 needs a third of the terms in s = f / (2 + f), as log(1 + f) = 2 atanh(s),
    written f - f²/2 + s (f²/2 + s² P(s²)) to keep the leading term exact (as fdlibm does).
    """
    high, low = parts(LN2, f)
    square = f * f
    if f.type == F32:
        tail = fma(e, low, square * (f * horner(f, coefficients.LOG)))
        return fma(e, high, f + fma(square, -0.5, tail))
    s = f / (f + 2.0)
    z = s * s
    half = square * 0.5
    tail = fma(s, fma(z, horner(z, coefficients.ATANH), half), e * low)
    return fma(e, high, f - (half - tail))


def log_edges(x: Scalar, result: Scalar) -> Scalar:
    """The limits of a logarithm: -inf at 0, NaN below, inf and NaN as they are."""
    positive = select(x < INF, result, x)
    return select(x > 0.0, positive, select(x.same(0.0), x.like(-INF), NAN))


def log_short(x: Scalar) -> Scalar:
    """log(x) to 2^-50 for positive normal f64 x, from m - 1 to its last place: a step of f32 functions."""
    e, m = split_normal(x)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = fma(s * z, horner(z, coefficients.ATANH_SHORT), s + s)
    return fma(integer_to_float(e), part(LN2, x), series)


@math_function(f32=1.0, f64=1.2)
def log(x: Scalar) -> Scalar:
    """ln(x) from x = 2^e m and `log_kernel`."""
    e, m = split(x)
    return log_edges(x, log_kernel(e, m - 1.0))


def log_sum(high: Scalar, low: Scalar) -> Scalar:
    """log(high + low) for normal high > 0 and |low| at most half an ulp of it; meaningless at 0 and inf."""
    e, m = split_normal(high)
    # Above 2^60 the scaled low part is far below the last place, and 2^-e would leave the normal range.
    unscale = select(high < 2.0**60, power_of_two(-e), 0.0)
    return log_kernel(integer_to_float(e), fma(low, unscale, m - 1.0))


@math_function(f32=1.5, f64=1.5)
def log1p(x: Scalar) -> Scalar:
    """log(1 + x), with the rounding error of 1 + x added back before the polynomial."""
    u, error = two_sum(x.like(1.0), x)
    result = log_edges(u, log_sum(u, select(x < 2.0**60, error, 0.0)))
    return select(x.same(0.0), x, result)


@math_function(f32=1.2, f64=1.2)
def log2(x: Scalar) -> Scalar:
    """log2(x): exact at powers of two; log2(e) and the leading terms are carried in two parts."""
    e, m = split(x)
    f = m - 1.0
    log2e, log2e_low = parts(LOG2_E, x)
    if x.type == F32:
        leading, tail = f, f * f * horner(f, coefficients.LOG2)
    else:
        half, half_low = two_product(f * 0.5, f)
        s = f / (f + 2.0)
        z = s * s
        leading, leading_low = quick_two_sum(f, -half)
        tail = (fma(s, fma(z, horner(z, coefficients.ATANH), half), leading_low) - half_low) * log2e
    high, low = two_product(leading, log2e)
    total, total_low = quick_two_sum(e, high)
    return log_edges(x, total + (total_low + (low + fma(leading, log2e_low, tail))))


def log2_double_double(x: Scalar) -> tuple[Scalar, Scalar]:
    """log2 of a positive finite f64 as an unevaluated sum, to about 2^-65 relative.

    With s = (m - 1) / (m + 1): log2(m) = log2(e) s (2 + s² (2/3 + s² T(s²))), all but T in double-double.
    """
    e, m = split(x)
    numerator = m - 1.0
    denominator, denominator_low = two_sum(m, x.like(1.0))
    s = numerator / denominator
    s_low = fma(-s, denominator_low, fma(-s, denominator, numerator)) / denominator
    z, z_low = two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    third, third_low = parts(Fraction(2, 3), x)
    v, v_low = quick_two_sum(x.like(third), fma(z, horner(z, coefficients.LOG_TAIL), third_low))
    w, w_low = two_product(z, v)
    w_low = w_low + fma(z, v_low, z_low * v)
    g, g_low = quick_two_sum(x.like(2.0), w)
    g_low = g_low + w_low
    h, h_low = two_product(s, g)
    h_low = h_low + fma(s, g_low, s_low * g)
    log2e, log2e_low = parts(LOG2_E, x)
    k, k_low = two_product(h, log2e)
    k_low = k_low + fma(h, log2e_low, h_low * log2e)
    total, total_low = quick_two_sum(e, k)
    return quick_two_sum(total, total_low + k_low)


def power_f32(a: Scalar, y: Scalar) -> Scalar:
    """a^y of f32 a >= 0, in f64, the logarithm to 2^-45; pow takes care of NaN and 1."""
    wide = a.to_f64()
    e, m = split_normal(wide)
    s = (m - 1.0) / (m + 1.0)
    exponent = fma(s, horner(s * s, coefficients.LOG2_SHORT), integer_to_float(e))
    exponent = select(wide > 0.0, select(wide < INF, exponent, INF), -INF)
    t = at_least(at_most(y.to_f64() * exponent, 300.0), -300.0)
    n_float, n = round_to_integer(t)
    r = t - n_float
    return (fma(r, horner(r, coefficients.EXP2.f32), 1.0) * power_of_two(n)).to_f32()


def power_f64(a: Scalar, y: Scalar) -> Scalar:
    """a^y of f64 a >= 0, the logarithm in double-double; pow takes care of NaN and 1."""
    exponent, exponent_low = log2_double_double(a)
    exponent = select(a > 0.0, select(a < INF, exponent, INF), -INF)
    t, t_low = two_product(y, exponent)
    t_low = select(absolute(t) < 1100.0, fma(y, exponent_low, t_low), 0.0)
    t = at_least(at_most(t, 1100.0), -1100.0)
    n_float, n = round_to_integer(t)
    r = (t - n_float) + t_low
    return scale(fma(r, horner(r, coefficients.EXP2), 1.0), n)


@math_function(f32=0.6, f64=1.2)
def pow(x: Scalar, y: Scalar) -> Scalar:
    """x^y = 2^(y log2 |x|) with the sign of an odd power; special cases as in C99 F.9.4.4."""
    a = absolute(x)
    size = (power_f32 if x.type == F32 else power_f64)(a, y)
    half = y * 0.5
    integer = floor(y).same(y)
    odd = integer & ~floor(half).same(half)
    result = select((x < 0.0) & (a < INF) & ~integer, NAN, size)
    # The sign test is on the bits, for a base of -0.
    result = select((x.bits() < 0) & odd, -result, result)
    result = select(x.is_nan() | y.is_nan(), NAN, result)
    one = x.same(1.0) | y.same(0.0) | (a.same(1.0) & absolute(y).same(INF))
    return select(one, 1.0, result)


@math_function(f32=1.5, f64=1.5)
def rsqrt(x: Scalar) -> Scalar:
    """1 / sqrt(x)."""
    return 1.0 / sqrt(x)


@math_function(f32=0.7, f64=0.7)
def cbrt(x: Scalar) -> Scalar:
    """The real cube root: a third of the exponent, a guess, Halley's iteration, an exact Newton step."""
    a = absolute(x)
    lift = 8 if x.type == F32 else 18
    small = a < x.format.tiny
    bits = select(small, a * 2.0 ** (3 * lift), a).bits()
    shift = x.format.mantissa_bits
    e = (bits >> shift) - x.format.bias
    third_float, third = round_to_integer(integer_to_float(e) * (1.0 / 3.0))
    m = from_bits(bits - ((third + third + third) << shift))
    y = horner(m, coefficients.CBRT)
    for _ in range(1 if x.type == F32 else 2):
        cube = y * y * y
        y = y * (cube + (m + m)) / (cube + cube + m)
    square, square_low = two_product(y, y)
    cube, cube_low = two_product(square, y)
    residual = (cube - m) + fma(square_low, y, cube_low)
    y = y - residual / (square * 3.0)
    root = y * power_of_two(third - select(small, third.like(lift), 0))
    return select((a > 0.0) & (a < INF), copysign(root, x), x)
