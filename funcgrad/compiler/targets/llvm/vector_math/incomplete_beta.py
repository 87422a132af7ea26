"""The regularized incomplete beta function."""

from __future__ import annotations

from funcgrad.compiler.targets.llvm.vector_math.constants import NAN, PI, part
from funcgrad.compiler.targets.llvm.vector_math.exponential import exp, log, log1p
from funcgrad.compiler.targets.llvm.vector_math.incomplete_gamma import STIRLING, log_excess, log_scaled_gamma
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import F32, Scalar, absolute, fma, repeat, select, sqrt
from funcgrad.compiler.targets.llvm.vector_math.special import lgamma


def density(a: Scalar, b: Scalar, x: Scalar, y: Scalar) -> Scalar:
    """x^a y^b / (a B(a, b)) for x + y = 1.

    For large a and b by Stirling's series about the mode, where the powers do not cancel; for one large parameter q,
    Γ(p + q) / Γ(q) by that series; for small ones by lgamma.
    """
    p, q = select(a < b, a, b), select(a < b, b, a)
    total = a + b
    deviation = x * b - y * a
    exponent = -fma(a, log_excess(deviation / a, x * total / a), b * log_excess(-deviation / b, y * total / b))
    gammas = log_scaled_gamma(total) - (log_scaled_gamma(a) + log_scaled_gamma(b))
    both_large = sqrt(b / (a * total * part(PI * 2, a))) * exp(exponent + gammas)
    q, total = q + 1.0, total + 1.0
    growth = fma(q - 0.5, log1p(p / q), p * log(total) - p) + (log_scaled_gamma(total) - log_scaled_gamma(q))
    growth = select(q < STIRLING, lgamma(total) - lgamma(q), growth)
    log_y = select(y < 0.5, log(y), log1p(-x))
    powers = fma(a, log(x), b * log_y)
    return select(p < STIRLING, exp(powers + (growth - lgamma(p + 1.0))) * (b / (a + b)), both_large)


def fraction(a: Scalar, b: Scalar, x: Scalar, active: Scalar, precision: float) -> Scalar:
    """1 / (1 + d1 / (1 + d2 / …)), https://dlmf.nist.gov/8.17.E22, with d(n) = p(n) / ((a + n - 1) (a + n)).

    Numerators and denominators of the convergents, two at a time, are scaled by a power of two when they get large or
    small. Successive convergents differ by a product, which tells when to stop.
    """
    inverse = 1.0 / (a + b)
    first, last = a * inverse, b * inverse

    def step(m, top, top_before, bottom, bottom_before, product):
        n = m * inverse
        odd, even = first + n, last - n - inverse
        p = -odd * (odd + last) * x
        q = odd + n + inverse
        top, top_before = fma(p, top_before, q * top), top
        bottom, bottom_before = fma(p, bottom_before, q * bottom), bottom
        r = (n + inverse) * even * x
        q = q + inverse
        top, top_before = fma(r, top_before, q * top), top
        bottom, bottom_before = fma(r, bottom_before, q * bottom), bottom
        size = absolute(bottom)
        scale = select(size > 2.0**200, 2.0**-200, select(size < 2.0**-200, size.like(2.0**200), 1.0))
        state = (v * scale for v in (top, top_before, bottom, bottom_before, product * (p * r) * scale))
        return m + 1.0, *state

    def going(m, top, top_before, bottom, bottom_before, product):
        return active & (absolute(product) > absolute(top * bottom_before) * precision)

    one, zero = a.like(1.0), a.like(0.0)
    _, top, _, bottom, _, _ = repeat(5000, [zero, first, zero, first, one, first], going, step)
    return top / bottom


@math_function(f32=1.0, f64=40.0, loops=True)
def regularized_incomplete_beta(a: Scalar, b: Scalar, x: Scalar) -> Scalar:
    """I(x; a, b) by a continued fraction, of I(1 - x; b, a) where that converges faster; float32 in float64.

    The bounds are in ULP of the result times max(1, -log(result)); where b < 1/4 and x > 0.999, of 1.
    """
    type, precision = a.type, 2.0**-30 if a.type == F32 else 2.0**-54
    a, b, x = a.to_f64(), b.to_f64(), x.to_f64()
    # For small b the result is small up to x near 1, and 1 - tail would not be precise.
    swap = (x > (a + 1.0) / (a + b + 2.0)) & ((b > 0.25) | (b > a * 0.1) | (x > 0.999))
    y = 1.0 - x
    c, d = select(swap, b, a), select(swap, a, b)
    left, right = select(swap, y, x), select(swap, x, y)
    inside = (a > 0.0) & (b > 0.0) & (x > 0.0) & (x < 1.0)
    tail = density(c, d, left, right) * fraction(c, d, left, inside, precision)
    value = select(swap, 1.0 - tail, tail)
    right_domain = (a > 0.0) & (b > 0.0) & (x >= 0.0) & (x <= 1.0)
    return select(inside, value, select(right_domain, x, NAN)).to(type)
