"""tanh sinh cosh and their inverses asinh acosh atanh."""

from __future__ import annotations

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import INF, LN2, NAN, part
from funcgrad.compiler.targets.llvm.vector_math.exponential import (
    exp_parts,
    log,
    log1p,
    log_short,
    log_sum,
    reduce_exp,
    split_normal,
)
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import (
    F32,
    Scalar,
    absolute,
    at_most,
    copysign,
    fma,
    horner,
    integer_to_float,
    power_of_two,
    quick_two_sum,
    scale,
    select,
    sqrt,
    two_product,
    two_sum,
)


def odd_polynomial(a: Scalar, table: coefficients.Coefficients) -> Scalar:
    """a + a³ P(a²)."""
    z = a * a
    return fma(a * z, horner(z, table), a)


@math_function(f32=2.5, f64=2.5)
def tanh(x: Scalar) -> Scalar:
    """tanh(x) = m / (m + 2) with m = e^2|x| - 1 = 2^n (r + r² P(r)) + (2^n - 1), which is precise near 0."""
    a = absolute(x)
    r, n = reduce_exp(at_most(a + a, 20.0 if x.type == F32 else 40.0))
    power = power_of_two(n)
    m = fma(power, fma(r * r, horner(r, coefficients.EXP), r), power - 1.0)
    return copysign(m / (m + 2.0), x)


def half_exp(a: Scalar) -> Scalar:
    """e^a / 2 for a >= 0, finite wherever sinh and cosh are."""
    p, n = exp_parts(at_most(a, 90.0 if a.type == F32 else 712.0))
    return scale(p, n - 1)


@math_function(f32=1.8, f64=1.8)
def sinh(x: Scalar) -> Scalar:
    """sinh(x): an odd polynomial to 1, then e^|x|/2 - e^-|x|/2."""
    a = absolute(x)
    e = half_exp(a)
    return copysign(select(a < 1.0, odd_polynomial(a, coefficients.SINH), e - 0.25 / e), x)


@math_function(f32=1.6, f64=1.6)
def cosh(x: Scalar) -> Scalar:
    """cosh(x) = e^|x|/2 + e^-|x|/2."""
    e = half_exp(absolute(x))
    return e + 0.25 / e


@math_function(f32=0.6, f64=1.5)
def asinh(x: Scalar) -> Scalar:
    """asinh(x): near 0 an odd polynomial, then log(|x| + sqrt(x² + 1)).

    f32: in f64, from 2^-10. f64: from 1/2, the sum and the root in two parts.
    """
    if x.type == F32:
        a, wide = absolute(x), absolute(x.to_f64())
        large = log_short(wide + sqrt(fma(wide, wide, 1.0))).to_f32()
        large = select(a < INF, large, a)
        return copysign(select(a < 2.0**-10, fma(a * (a * a), -1 / 6, a), large), x)
    a = absolute(x)
    square, square_low = two_product(a, a)
    radicand, radicand_low = two_sum(square, a.like(1.0))
    root = sqrt(radicand)
    root_low = (fma(-root, root, radicand) + (radicand_low + square_low)) / (root + root)
    total, total_low = quick_two_sum(root, a)
    large = select(a < 2.0**30, log_sum(total, total_low + root_low), log(a) + part(LN2, a))
    return copysign(select(a < 0.5, odd_polynomial(a, coefficients.ASINH), large), x)


@math_function(f32=0.6, f64=2.5)
def acosh(x: Scalar) -> Scalar:
    """acosh(x), NaN below 1: f32 log(x + sqrt(x² - 1)) in f64; f64 log1p(t + sqrt(t² + 2t)) with t = x - 1."""
    if x.type == F32:
        wide = x.to_f64()
        result = log_short(wide + sqrt((wide - 1.0) * (wide + 1.0))).to_f32()
        return select(x < 1.0, NAN, select(x < INF, result, x))
    t = x - 1.0
    result = select(x < 2.0**30, log1p(t + sqrt(fma(t, t, t + t))), log(x) + part(LN2, x))
    return select(x < 1.0, NAN, result)


@math_function(f32=0.6, f64=2.5)
def atanh(x: Scalar) -> Scalar:
    """atanh(x) = log((1 + |x|) / (1 - |x|)) / 2 with the sign of x; f64: log1p(2|x| / (1 - |x|)) / 2."""
    a = absolute(x)
    if x.type == F32:
        result = select(a < 2.0**-10, fma(a * (a * a), 1 / 3, a), atanh_large(a))
        return copysign(select(a < 1.0, result, select(a.same(1.0), a.like(INF), NAN)), x)
    return copysign(log1p((a + a) / (1.0 - a)) * 0.5, x)


def atanh_large(a: Scalar) -> Scalar:
    """atanh(a) for f32 a from 2^-10, in f64: n log(2)/2 + atanh((p - q) / (p + q)), p = 1 + a and q = 2^n (1 - a)."""
    n, _ = split_normal((a + 1.0) / (1.0 - a))
    wide = a.to_f64()
    p, q = wide + 1.0, (1.0 - wide) * power_of_two(n).to_f64()
    s = (p - q) / (p + q)
    z = s * s
    series = fma(s * z, horner(z, coefficients.ATANH_SHORT) * 0.5, s)
    return fma(integer_to_float(n).to_f64(), part(LN2 / 2, wide), series).to_f32()
