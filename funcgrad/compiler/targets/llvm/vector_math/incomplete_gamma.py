"""The incomplete gamma functions igamma igammac and their derivatives by the parameter igamma_grad_a random_gamma_grad.

With λ = x / a, μ = λ - 1, φ = μ - log(1 + μ) and D = x^a e^-x / Γ(a + 1), one of three formulas gives P or Q = 1 - P:

- the power series P = D (1 + x/(a + 1) + x²/((a + 1)(a + 2)) + …), https://dlmf.nist.gov/8.11.E4, for small x;
- Legendre's continued fraction for Q, https://dlmf.nist.gov/8.9.E2, for large x;
- Temme's uniform expansion, https://dlmf.nist.gov/8.12, for a >= 30 and x about as large.

After W. Gautschi, "A computational procedure for incomplete gamma functions", ACM TOMS 5 (1979), and N. M. Temme, "The
asymptotic expansion of the incomplete gamma functions", SIAM J. Math. Anal. 10 (1979). Each is differentiated by a
along with its value. float32 is computed in float64. Where results are tiny the error is that of the exponent of D:
the bounds are in ULP of the result times max(1, -log(result)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import INF, NAN, PI, part
from funcgrad.compiler.targets.llvm.vector_math.exponential import exp, expm1, log, log1p
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import (
    F32,
    Scalar,
    absolute,
    copysign,
    fma,
    horner,
    repeat,
    select,
    sqrt,
    where,
)
from funcgrad.compiler.targets.llvm.vector_math.special import digamma, erfc, lgamma

LARGE = 30.0  # from here on Temme's expansion
STIRLING = 7.5  # from here on Stirling's series for Γ
TEMME = [getattr(coefficients, f"TEMME_{k}") for k in range(11)]


class Parts(NamedTuple):
    """What the functions are made of; each formula holds where its mask does."""

    a: Scalar
    x: Scalar
    log_x: Scalar
    factor: Scalar  # D
    by_series: Scalar
    by_fraction: Scalar
    by_expansion: Scalar
    precision: float


def log_excess(mu: Scalar, ratio: Scalar) -> Scalar:
    """mu - log(1 + mu), ratio = 1 + mu, without cancellation: ratio = (1 + s) / (1 - s) and mu - 2 s = mu s."""
    s = mu / (mu + 2.0)
    z = s * s
    near = fma(s, mu, -(s * z) * horner(z, coefficients.ATANH))
    return select(absolute(s) <= 0.1716, near, mu - log(ratio))


def log_scaled_gamma(a: Scalar) -> Scalar:
    """log(Γ(a) / (sqrt(2 π / a) (a / e)^a)) for a >= 7.5."""
    u = 1.0 / a
    return horner(u * u, coefficients.LGAMMA_STIRLING) * u


def parts(a: Scalar, x: Scalar) -> Parts:
    """The factor D and the choice of a formula."""
    precision = 2.0**-30 if a.type == F32 else 2.0**-56
    a, x = a.to_f64(), x.to_f64()
    log_x = log(x)
    exponent = fma(-a, log_excess((x - a) / a, x / a), -log_scaled_gamma(a))
    factor = exp(exponent) / sqrt(a * part(PI * 2, a))
    factor = where(a < STIRLING, lambda: exp(fma(a, log_x, -x) - lgamma(a + 1.0)), factor)
    sensible = (x > 0.0) & (x < INF) & (a > 0.0) & (a < INF)
    uniform = sensible & (a >= LARGE) & (x >= a * 0.302) & (x <= a * 2.357)
    above = (x > 1.1) & (x > a)
    rest = sensible & ~uniform
    return Parts(a, x, log_x, factor, rest & ~above, rest & above, uniform, precision)


def series(p: Parts, derivative: bool = False) -> list[Scalar]:
    """S = P / D and, with `derivative`, ∂S/∂a, as fractions: a division takes longer than all of a step."""
    a, x = p.a, p.x
    one, zero = a.like(1.0), a.like(0.0)
    inverse = 1.0 / select(a > 1.0, a, 1.0)
    x, a = x * inverse, a * inverse

    def going(n, power, top, *slopes):
        return p.by_series & (power > top * p.precision)

    def step(n, power, top, bottom, *slopes):
        factor, power = fma(n, inverse, a), power * x
        state = n + 1.0, power, fma(top, factor, power), bottom * factor
        if not derivative:
            return state
        d_top, d_bottom = slopes
        return *state, fma(d_top, factor, top * inverse), fma(d_bottom, factor, bottom * inverse)

    start = [one, one, one, one, *([zero, zero] if derivative else [])]
    _, _, top, bottom, *slopes = repeat(150, start, going, step)
    s = top / bottom
    return [s, (slopes[0] - s * slopes[1]) / bottom] if derivative else [s]


def fraction(p: Parts, derivative: bool = False) -> list[Scalar]:
    """h = Q Γ(a) / (x^a e^-x) and, with `derivative`, ∂h/∂a, from the numerators and denominators of the convergents.

    The n-th partial quotient is n (a - n) / (x + 2 n + 1 - a). Divided by a typical denominator, all stay in range.
    Successive convergents differ by a product, which tells when to stop.
    """
    a, x = p.a, p.x
    one, zero = a.like(1.0), a.like(0.0)
    inverse = select(p.by_fraction, 1.0 / (x + 31.0 - a), 1.0)
    square = inverse * inverse

    def going(n, b, top, top_before, bottom, bottom_before, product, *slopes):
        size = absolute(product) + absolute(slopes[-1]) if derivative else absolute(product)
        return p.by_fraction & (size > absolute(top * bottom_before) * p.precision)

    def step(n, b, top, top_before, bottom, bottom_before, product, *slopes):
        b = fma(inverse, 2.0, b)
        t_slope = n * square
        t = t_slope * (a - n)
        top_next, bottom_next = fma(t, top_before, b * top), fma(t, bottom_before, b * bottom)
        state = (n + 1.0, b, top_next, top, bottom_next, bottom, -t * product)
        if not derivative:
            return state
        d_top, d_top_before, d_bottom, d_bottom_before, d_product = slopes
        return (
            *state,
            fma(t, d_top_before, fma(t_slope, top_before, b * d_top - inverse * top)),
            d_top,
            fma(t, d_bottom_before, fma(t_slope, bottom_before, b * d_bottom - inverse * bottom)),
            d_bottom,
            -fma(t, d_product, t_slope * product),
        )

    b = (x + 1.0 - a) * inverse
    start = [one, b, one, zero, b, one, one]
    if derivative:
        start += [zero, zero, -inverse, zero, zero]
    n, b, top, top_before, bottom, bottom_before, product, *slopes = repeat(300, start, going, step)
    h = top / bottom
    result = [h, (slopes[0] - h * slopes[2]) / bottom] if derivative else [h]
    return [r * inverse for r in result]


def uniform_terms(p: Parts, derivative: bool = False) -> tuple[Scalar, Scalar, list[Scalar]]:
    """(eta, mu, [T, ∂T/∂eta, ∂T/∂a at fixed eta]) with T = c_0(eta) + c_1(eta) / a + …"""
    a = p.a
    mu = (p.x - a) / a
    eta = copysign(sqrt(log_excess(mu, p.x / a) * 2.0), mu)
    inverse = 1.0 / a
    total, by_eta, by_inverse = a.like(0.0), a.like(0.0), a.like(0.0)
    for row in reversed(TEMME):
        by_inverse = fma(by_inverse, inverse, total)
        total = fma(total, inverse, horner(eta, row.f64))
        if derivative:
            by_eta = fma(by_eta, inverse, horner(eta, _differentiated(row.f64)))
    return eta, mu, [total, by_eta, -(by_inverse * inverse * inverse)]


def _differentiated(row: Sequence[float]) -> list[float]:
    return [n * c for n, c in enumerate(row)][1:] or [0.0]


def upper_near_zero(p: Parts) -> Scalar:
    """Q for a <= 1/4 and x <= 1.1, where P is near 1: https://dlmf.nist.gov/8.7.E3, with expm1 for the first term."""
    a, x = p.a, p.x
    near = p.by_series & (a <= 0.25)
    log_gamma = fma(a, horner(a, coefficients.LGAMMA), -log1p(a))
    exponent = fma(a, p.log_x, -log_gamma)
    first = expm1(exponent)

    def step(n, term, total):
        term = -term * x / n
        return n + 1.0, term, total + term / (a + n)

    one = a.like(1.0)
    _, _, total = repeat(
        60, [one, one, a.like(0.0)], lambda n, term, total: near & (absolute(term) > p.precision), step
    )
    return -fma((first + 1.0) * a, total, first)


def value(a: Scalar, x: Scalar, upper: bool) -> Scalar:
    """P or Q, each with its own relative precision; at 0 and infinity the limits in x and a."""
    type, p = a.type, parts(a, x)
    (s,), (h,) = series(p), fraction(p)
    sign = 1.0 if upper else -1.0

    def by_expansion() -> Scalar:
        eta, _, (t, *_) = uniform_terms(p)
        tail = exp(eta * eta * p.a * -0.5) / sqrt(p.a * part(PI * 2, p.a)) * t
        half = erfc(absolute(eta) * sqrt(p.a * 0.5)) * 0.5
        return fma(tail, sign, select(eta * sign < 0.0, 1.0 - half, half))

    by_series, by_fraction = p.factor * s, p.factor * p.a * h
    if upper:
        by_series = select(p.a <= 0.25, upper_near_zero(p), 1.0 - by_series)
    else:
        by_fraction = 1.0 - by_fraction
    result = where(p.by_expansion, by_expansion, select(p.by_series, by_series, by_fraction))
    low, high = (1.0, 0.0) if upper else (0.0, 1.0)
    result = select(p.x.same(INF) | p.a.same(0.0), high, result)
    result = select(p.x.same(0.0) | p.a.same(INF), low, result)
    wrong = ~((p.a >= 0.0) & (p.x >= 0.0)) | (p.a.same(0.0) & p.x.same(0.0)) | (p.a.same(INF) & p.x.same(INF))
    return select(wrong, NAN, result).to(type)


@math_function(f32=1.0, f64=16.0, loops=True)
def igamma(a: Scalar, x: Scalar) -> Scalar:
    """P(a, x), the regularized lower incomplete gamma function: a series, a continued fraction or Temme's expansion."""
    return value(a, x, upper=False)


@math_function(f32=1.0, f64=16.0, loops=True)
def igammac(a: Scalar, x: Scalar) -> Scalar:
    """Q(a, x) = 1 - P(a, x), the regularized upper incomplete gamma function."""
    return value(a, x, upper=True)


def slopes(a: Scalar, x: Scalar) -> tuple[Scalar, Scalar]:
    """(∂P/∂a, -(∂P/∂a) / (∂P/∂x)); the second has no exponentials, which cancel."""
    p = parts(a, x)
    (s, ds), (h, dh) = series(p, derivative=True), fraction(p, derivative=True)
    deviation = p.log_x - digamma(p.a + 1.0)
    of_series = fma(s, deviation, ds)
    of_fraction = fma(h, deviation + 1.0 / p.a, dh)
    by_parameter = select(p.by_series, p.factor * of_series, -(p.factor * p.a) * of_fraction)
    sample = select(p.by_series, -(p.x / p.a) * of_series, p.x * of_fraction)

    def by_expansion(*_: Scalar) -> list[Scalar]:
        eta, mu, (t, by_eta, by_a) = uniform_terms(p, derivative=True)
        ratio = 1.0 / fma(eta, horner(eta, TEMME[0].f64), 1.0)  # mu / eta
        bracket = fma(t, mu - eta * eta * 0.5 - 0.5 / p.a, fma(-by_eta, ratio / p.a, by_a)) + fma(eta, -0.5, ratio)
        tail = exp(eta * eta * p.a * -0.5) / sqrt(p.a * part(PI * 2, p.a))
        return [-tail * bracket, p.x / p.a * exp(log_scaled_gamma(p.a)) * bracket]

    by_parameter, sample = repeat(1, [by_parameter, sample], lambda *_: p.by_expansion, by_expansion)
    wrong = ~((p.a > 0.0) & (p.x >= 0.0))
    zero = p.x.same(0.0)
    infinite = p.x.same(INF) | p.a.same(INF)
    by_parameter = select(wrong, NAN, select(zero | infinite, 0.0, by_parameter))
    return by_parameter, select(wrong | infinite, NAN, select(zero, 0.0, sample))


@math_function(f32=1.0, f64=60.0, loops=True)
def igamma_grad_a(a: Scalar, x: Scalar) -> Scalar:
    """The derivative of P(a, x) by a, by differentiating the formula that `igamma` takes."""
    return slopes(a, x)[0].to(a.type)


@math_function(f32=1.0, f64=60.0, loops=True)
def random_gamma_grad(a: Scalar, x: Scalar) -> Scalar:
    """The derivative by a of a gamma distributed sample x at a fixed quantile: that of P by a, over that by x."""
    return slopes(a, x)[1].to(a.type)
