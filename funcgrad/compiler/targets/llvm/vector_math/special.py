"""The error functions erf erfc erf_inv and the gamma functions lgamma digamma."""

from __future__ import annotations

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import DIGAMMA_ROOT, HALF_LOG_2PI, INF, NAN, PI, part, parts
from funcgrad.compiler.targets.llvm.vector_math.exponential import exp_parts, log, log1p, log_short
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
    round_even,
    scale,
    select,
    sqrt,
    two_product,
)

ERF_SMALL_LIMIT = 0.95


def erfc_positive(a: Scalar) -> Scalar:
    """erfc(a), a >= 0: e^-a² g((a - 4) / (a + 4)) / (1 + 2a), the rounding error of a² put back.

    After Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x²) erfc x in [0, inf)" (1981).
    """
    a = at_most(a, 10.3 if a.type == F32 else 27.5)
    square, square_low = two_product(a, a)
    p, n = exp_parts(-square)
    g = horner((a - 4.0) / (a + 4.0), coefficients.ERFC) / fma(a, 2.0, 1.0)
    pg = p * g
    return scale(fma(pg, -square_low, pg), n)


def erf_small(a: Scalar) -> Scalar:
    """erf(a) = a + a P(a²) for |a| <= 1."""
    return fma(a, horner(a * a, coefficients.ERF_SMALL), a)


@math_function(f32=1.2, f64=1.0)
def erf(x: Scalar) -> Scalar:
    """erf(x): a polynomial to 0.95, then 1 - erfc(|x|); in f32, erfc is e to a polynomial."""
    a = absolute(x)
    if x.type == F32:
        p, n = exp_parts(horner(at_most(a, 4.0), coefficients.ERF_LARGE))
        large = fma(-p, power_of_two(n), 1.0)
    else:
        large = 1.0 - erfc_positive(a)
    return copysign(select(a < ERF_SMALL_LIMIT, erf_small(a), large), x)


@math_function(f32=4.5, f64=3.0)
def erfc(x: Scalar) -> Scalar:
    """erfc(x) = 1 - erf(x) to 1/2, then `erfc_positive`, reflected at 0."""
    tail = erfc_positive(absolute(x))
    return select(absolute(x) < 0.5, 1.0 - erf_small(x), select(x < 0.0, 2.0 - tail, tail))


# M. Giles, "Approximating the erfinv function", GPU Computing Gems (2010), the single-precision tables.
GILES_CENTER = (
    1.50140941,
    0.246640727,
    -0.00417768164,
    -0.00125372503,
    0.00021858087,
    -4.39150654e-06,
    -3.5233877e-06,
    3.43273939e-07,
    2.81022636e-08,
)
GILES_TAIL = (
    2.83297682,
    1.00167406,
    0.00943887047,
    -0.0076224613,
    0.00573950773,
    -0.00367342844,
    0.00134934322,
    0.000100950558,
    -0.000200214257,
)


@math_function(f32=80.0, f64=2.5)
def erf_inv(x: Scalar) -> Scalar:
    """The inverse of erf: x P(w), w = -log(1 - x²), one polynomial for the center and others for the tails.

    f32 is Giles' approximation as JAX evaluates it, w = -log1p(-x·x), within a few ULP of JAX. Rounding x·x
    costs up to 80 ULP where |x| > 0.99, and is kept so that random numbers made from it agree.
    """
    if x.type == F32:
        w = -log1p(-(x * x))
        tail = horner(sqrt(w) - 3.0, GILES_TAIL)
        factor = select(w < 5.0, horner(w - 2.5, GILES_CENTER), tail)
    else:
        w = -log(fma(-x, x, 1.0))
        root = sqrt(w)
        tail = select(
            w < 16.0,
            horner(root - 3.25, coefficients.ERF_INV_MIDDLE),
            horner(root - 5.0, coefficients.ERF_INV_TAIL),
        )
        factor = select(w < 6.25, horner(w - 3.125, coefficients.ERF_INV_CENTER), tail)
    return select(absolute(x).same(1.0), x * INF, x * factor)


def sine_of_half_turns(t: Scalar) -> Scalar:
    """sin(pi t) for |t| <= 1/2."""
    r = t * part(PI, t)
    z = r * r
    return fma(r * z, horner(z, coefficients.SINE), r)


@math_function(f32=1.0, f64=3.5)
def lgamma(x: Scalar) -> Scalar:
    """log |gamma(x)|.

    To 7.5, recurrences lead to 1.25 <= x < 2.25, where lgamma is (x - 2) P(x - 2); beyond, Stirling's series, in f32
    from 2.25 on; below 0, the reflection log(pi / |x sin(pi x)|) - lgamma(|x|). For x < 0 the f64 bound is in ULP of
    max(1, |result|), since the reflection cannot resolve the zeros between the poles.
    """
    wide = x.to_f64()
    a = absolute(wide)
    if x.type == F32:
        log_of, polynomial, tail = log_short, coefficients.LGAMMA_SHORT, coefficients.LGAMMA_STIRLING_SHORT
        steps, limit = 0, 2.25
    else:
        log_of, polynomial, tail = log, coefficients.LGAMMA, coefficients.LGAMMA_STIRLING
        steps, limit = 6, 7.5
    # gamma(a) = gamma(2 + t) product, or gamma(2 + t) / product below 1.25.
    t = select(a < 0.25, a, select(a < 1.25, a - 1.0, a - 2.0))
    product = select(a < 0.25, a * (a + 1.0), select(a < 1.25, a, 1.0))
    for step in range(2, 2 + steps):
        above = a >= step + 0.25
        product = select(above, product * (a - float(step - 1)), product)
        t = select(above, a - float(step + 1), t)
    stirling = a >= limit
    logarithm = log_of(select(stirling, a, product))
    near = fma(t, horner(t, polynomial), select(a < 1.25, -logarithm, logarithm))
    u = 1.0 / a
    series = fma(horner(u * u, tail), u, part(HALF_LOG_2PI, a))
    far = fma(a - 0.5, logarithm, -a) + series
    positive = select(stirling, far, near)
    if x.type != F32:
        positive = select(a < 2.0**1000, positive, a * (logarithm - 1.0))
    sine = absolute(sine_of_half_turns(a - round_even(a)))
    reflected = -(log_of(a * sine * part(1 / PI, a)) + positive)
    # Towards 0 the reflection overflows, and gamma(-a) is -gamma(a) to the last place.
    result = select((wide < 0.0) & (a > 2.0**-60), reflected, positive)
    return select(a.same(INF) | (sine.same(0.0) & (wide <= 0.0)), INF, result).to(x.type)


@math_function(f32=1.0, f64=4.0)
def digamma(x: Scalar) -> Scalar:
    """The derivative of lgamma: (b - root) P(b) on 1 <= b < 2, which holds its one positive zero.

    To 8, recurrences lead there, their reciprocals summed as one fraction; beyond, the asymptotic series;
    below 0, the reflection digamma(1 - x) - pi / tan(pi x), where the f64 bound is in ULP of
    max(|result|, digamma(1 - x), 1). NaN at 0 and at the negative integers.
    """
    wide = x.to_f64()
    a = select(wide < 0.0, 1.0 - wide, wide)
    below = a < 1.0
    b = select(below, a + 1.0, a)
    numerator, denominator = select(below, a.like(-1.0), 0.0), select(below, a, 1.0)
    for step in range(1, 7):
        above = a >= step + 1.0
        factor = a - float(step)
        numerator = select(above, fma(numerator, factor, denominator), numerator)
        denominator = select(above, denominator * factor, denominator)
        b = select(above, factor, b)
    root, root_low = parts(DIGAMMA_ROOT, a)
    near = fma((b - root) - root_low, horner(b - 1.5, coefficients.DIGAMMA), numerator / denominator)
    inverse = 1.0 / a
    u = inverse * inverse
    far = log(a) - fma(u, horner(u, coefficients.DIGAMMA_TAIL), inverse * 0.5)
    positive = select(a < 8.0, near, far)
    t = wide - round_even(wide)
    sine, cosine = sine_of_half_turns(t), sine_of_half_turns(0.5 - absolute(t))
    result = select(wide < 0.0, positive - part(PI, a) * (cosine / sine), positive)
    return select((wide <= 0.0) & t.same(0.0), NAN, result).to(x.type)
