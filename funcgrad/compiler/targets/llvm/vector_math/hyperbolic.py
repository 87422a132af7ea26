"""tanh sinh cosh and their inverses asinh acosh atanh."""

from __future__ import annotations

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import LN2, NAN, part
from funcgrad.compiler.targets.llvm.vector_math.exponential import exp_parts, log, log1p, log_sum, reduce_exp
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import (
    F32,
    Scalar,
    absolute,
    at_most,
    copysign,
    fma,
    horner,
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
    """asinh(x): an odd polynomial to 1/2, then log(|x| + sqrt(x² + 1)), sum and root in two parts."""
    a = absolute(x.to_f64())
    square, square_low = two_product(a, a)
    radicand, radicand_low = two_sum(square, a.like(1.0))
    root = sqrt(radicand)
    root_low = (fma(-root, root, radicand) + (radicand_low + square_low)) / (root + root)
    total, total_low = quick_two_sum(root, a)
    large = select(a < 2.0**30, log_sum(total, total_low + root_low), log(a) + part(LN2, a))
    result = select(a < 0.5, odd_polynomial(a, coefficients.ASINH), large)
    return copysign(result.to(x.type), x)


@math_function(f32=0.6, f64=2.5)
def acosh(x: Scalar) -> Scalar:
    """acosh(x) = log1p(t + sqrt(t² + 2t)) with t = x - 1; NaN below 1."""
    wide = x.to_f64()
    t = wide - 1.0
    result = select(wide < 2.0**30, log1p(t + sqrt(fma(t, t, t + t))), log(wide) + part(LN2, wide))
    return select(wide < 1.0, NAN, result).to(x.type)


@math_function(f32=0.6, f64=2.5)
def atanh(x: Scalar) -> Scalar:
    """atanh(x) = log1p(2|x| / (1 - |x|)) / 2 with the sign of x."""
    a = absolute(x.to_f64())
    return copysign((log1p((a + a) / (1.0 - a)) * 0.5).to(x.type), x)
