"""Gamma, beta, zeta and related functions, factorials and binomial coefficients."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_int
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError
from funcgrad.ops import special as sp
from funcgrad.ops.casts import convert_element_type
from funcgrad.scipy.special import coefficients
from funcgrad.scipy.special.declare import in_double, of_primitive, real_function, real_operands, with_partials
from funcgrad.transforms.derivatives import jvp
from funcgrad.transforms.jit import jit

__all__ = [
    "bernoulli",
    "beta",
    "betainc",
    "betaln",
    "comb",
    "digamma",
    "factorial",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "gammasgn",
    "loggamma",
    "multigammaln",
    "poch",
    "polygamma",
    "zeta",
]

LOG_2PI = math.log(2 * math.pi)

gammaln = of_primitive("gammaln", sp.lgamma_p, "x", "log |Γ(x)|.")
digamma = of_primitive("digamma", sp.digamma_p, "x", "The derivative of log Γ(x).")
gammainc = of_primitive("gammainc", sp.igamma_p, "a x", "The regularized lower incomplete gamma function P(a, x).")
gammaincc = of_primitive("gammaincc", sp.igammac_p, "a x", "1 − P(a, x), accurate where P is close to 1.")
betainc = of_primitive(
    "betainc", sp.regularized_incomplete_beta_p, "a b x", "The regularized incomplete beta function I(x; a, b)."
)


@real_function()
def gammasgn(x: Any) -> Any:
    """The sign of Γ(x): NaN at negative integers, that of x at 0."""
    floor = jnp.floor(x)
    odd = jnp.where((x < 0) & (floor % 2 != 0) | (x == 0) & jnp.signbit(x), -1.0, 1.0)
    return jnp.where((x < 0) & (x == floor) | jnp.isnan(x), jnp.nan, odd).astype(x.dtype)


# ---------------------------------------------------------------- gamma


def sin_pi(x: Any) -> Any:
    """sin(πx), with the angle reduced before the multiplication."""
    whole = jnp.rint(x)
    sine = jnp.sin(math.pi * (x - whole))
    return jnp.where(whole % 2 != 0, -sine, sine)


@in_double
def _gamma(polynomial: Any, x: Any) -> Any:
    """By recurrence from Γ on [2, 3] up to 8, by Stirling's formula beyond, by reflection below −1/2."""
    reflected = x < -0.5
    y = jnp.where(reflected, -x, x)
    divisor = jnp.where(y < 2, y, 1) * jnp.where(y < 1, y + 1, 1) * jnp.where(y < 0, y + 2, 1)
    shifted = jnp.where(y < 0, y + 3, jnp.where(y < 1, y + 2, jnp.where(y < 2, y + 1, y)))
    product: Any = 1.0
    for k in range(1, 6):
        above = y >= k + 2
        product = jnp.where(above, product * (y - k), product)
        shifted = jnp.where(above, y - k, shifted)
    near = polynomial(coefficients.GAMMA, shifted - 2.5) * product / divisor
    root = y ** (0.5 * (y - 0.5))  # its square would overflow first
    far = root * jnp.exp(-y) * polynomial(coefficients.GAMMA_FAR, 1 / y) * root * math.sqrt(2 * math.pi)
    value = jnp.where(y > 172, jnp.inf, jnp.where(y < 8, near, far))
    value = jnp.where(reflected, -math.pi / (x * sin_pi(x) * value), value)
    return jnp.where((x < 0) & (x == jnp.floor(x)), jnp.nan, value)


_gamma_real = with_partials(_gamma, (lambda out, x: out * digamma(x),))


# C. Lanczos, A precision approximation of the gamma function (1964), with g = 7 and the coefficients of P. Godfrey.
_LANCZOS = (
    *(0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059),
    *(12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7),
)


@jit
def _complex_loggamma(z: Any) -> Any:
    """Lanczos' formula for Re z ≥ 1/2, and reflection: Γ(z) Γ(1 − z) sin(πz) = π with a continuous log sin(πz)."""
    left = jnp.real(z) < 0.5
    w = jnp.where(left, 1 - z, z)
    total: Any = _LANCZOS[0]
    for k, c in enumerate(_LANCZOS[1:]):
        total = total + c / (w + k)
    t = w + 6.5
    value = 0.5 * LOG_2PI + (w - 0.5) * jnp.log(t) - t + jnp.log(total)
    below = jnp.signbit(jnp.imag(z))
    upper = jnp.where(left, jnp.where(below, jnp.conj(z), z), 0.5)
    whole = jnp.floor(jnp.real(upper))
    turned = 2j * math.pi * (upper - whole)
    log_sine = 1j * math.pi * (0.5 - upper) - math.log(2) + jnp.log(-jnp.expm1(turned))
    reflected = math.log(math.pi) - jnp.where(below, jnp.conj(log_sine), log_sine) - value
    out = jnp.where(left, reflected, value)
    pole = (jnp.imag(z) == 0) & (jnp.real(z) <= 0) & (jnp.real(z) == jnp.floor(jnp.real(z)))
    return jnp.where(pole, jnp.nan, out)


def loggamma(x: Any) -> Any:
    """The principal branch of log Γ: NaN for real x ≤ 0; on complex numbers, cut along the negative axis.

    >>> loggamma(1j)
    Array(-0.6509237-1.8724364j, dtype=complex64, weak_type=True)
    """
    (x,) = promote_inexact(x, operation="loggamma")
    if dtypes.is_complex(aval_of(x).dtype):
        return _complex_loggamma(x)
    return jnp.where(x > 0, gammaln(x), jnp.nan)


def gamma(x: Any) -> Any:
    """Γ(x), real or complex; NaN at negative integers, ±∞ at ±0.

    >>> gamma(5.0)
    Array(24., dtype=float32)
    """
    (x,) = promote_inexact(x, operation="gamma")
    return jnp.exp(_complex_loggamma(x)) if dtypes.is_complex(aval_of(x).dtype) else _gamma_real(x)


def factorial(n: Any, exact: bool = False) -> Any:
    """n! = Γ(n + 1); 0 for n < 0. Exact integers are not supported.

    >>> factorial(5)
    Array(120., dtype=float32, weak_type=True)
    """
    if exact:
        raise ArgumentError("factorial: exact=True is not supported", fix="use math.factorial for exact integers")
    (n,) = real_operands("factorial", n)
    out = jnp.where(n < 0, 0, gamma(jnp.maximum(n, 0) + 1))
    return convert_element_type(out, out.dtype, aval_of(n).weak_type)


# ---------------------------------------------------------------- beta


def _correction(polynomial: Any, x: Any) -> Any:
    """log Γ(x) − (x − 1/2) log x + x − log(2π)/2 for x ≥ 8."""
    return polynomial(coefficients.STIRLING, 1 / (x * x)) / x


@partial(in_double, keep_weak=True)
def _betaln(polynomial: Any, a: Any, b: Any) -> Any:
    """Stirling's formula with its large terms canceled by hand where an argument is over 8.

    Didonato and Morris, Algorithm 708: significant digit computation of the incomplete beta function ratios (ACM TOMS
    18, 1992).
    """
    p, q = jnp.minimum(a, b), jnp.maximum(a, b)
    total = p + q
    large, very_large = jnp.maximum(q, 8), jnp.maximum(p, 8)
    difference = _correction(polynomial, large) - _correction(polynomial, jnp.maximum(total, 8))
    log_ratio = jnp.log1p(p / large)
    # log Γ(q) − log Γ(p + q), without the correction.
    one = p - (q - 0.5) * log_ratio - p * jnp.log(jnp.maximum(total, 1))
    two = 0.5 * (LOG_2PI - jnp.log(large)) + (p - 0.5) * (jnp.log(very_large / large) - log_ratio) - q * log_ratio
    gamma_p = sp.lgamma_p.bind(p)
    direct = gamma_p + (sp.lgamma_p.bind(q) - sp.lgamma_p.bind(total))
    value = jnp.where(p >= 8, two + _correction(polynomial, very_large) + difference, gamma_p + one + difference)
    return jnp.where((q >= 8) & (p > 0), value, direct)


betaln_real = with_partials(
    _betaln,
    (
        lambda out, a, b: digamma(a) - digamma(a + b),
        lambda out, a, b: digamma(b) - digamma(a + b),
    ),
)


def betaln(a: Any, b: Any) -> Any:
    """log |B(a, b)|, B(a, b) = Γ(a) Γ(b) / Γ(a + b)."""
    return betaln_real(*real_operands("betaln", a, b))


@real_function()
def beta(a: Any, b: Any) -> Any:
    """The beta function Γ(a) Γ(b) / Γ(a + b).

    >>> beta(2.0, 3.0)
    Array(0.08333334, dtype=float32)
    """
    return gammasgn(a) * gammasgn(b) * gammasgn(a + b) * _exp_betaln(a, b)


_exp_betaln = with_partials(
    in_double(lambda polynomial, a, b: jnp.exp(_betaln(a, b)), keep_weak=True),
    (
        lambda out, a, b: out * (digamma(a) - digamma(a + b)),
        lambda out, a, b: out * (digamma(b) - digamma(a + b)),
    ),
)


@real_function(
    lambda out, n, k: out * (digamma(n + 1) - digamma(n - k + 1)),
    lambda out, n, k: out * (digamma(n - k + 1) - digamma(k + 1)),
    wide=True,
    keep_weak=True,
)
def _comb(polynomial: Any, n: Any, k: Any) -> Any:
    inside = (k <= n) & (n >= 0) & (k >= 0)
    n, k = jnp.where(inside, n, 0), jnp.where(inside, k, 0)
    return jnp.where(inside, jnp.exp(-_betaln(n - k + 1, k + 1)) / (n + 1), 0)


def comb(N: Any, k: Any, *, repetition: bool = False) -> Any:
    """The number of combinations of k of N things; with `repetition`, of multisets.

    >>> comb(5, 2)
    Array(10., dtype=float32, weak_type=True)
    """
    N, k = real_operands("comb", N, k)
    return jnp.where((k == 0) & (N >= 0), 1, _comb(N + k - 1, k)) if repetition else _comb(N, k)


@in_double
def _poch(polynomial: Any, z: Any, m: Any) -> Any:
    """Γ(z + m)/Γ(z), and its limit where both are poles."""
    end = z + m
    poles = [(v <= 0) & (v == jnp.floor(v)) for v in (z, end)]
    both = poles[0] & poles[1]
    top, bottom = jnp.where(both, 1 - z, end), jnp.where(both, 1 - end, z)
    sign = jnp.where(both & (jnp.floor(m) % 2 != 0), -1.0, gammasgn(top) * gammasgn(bottom))
    logarithm = sp.lgamma_p.bind(top) - sp.lgamma_p.bind(bottom)
    small = jnp.maximum(abs(top), abs(bottom)) < 150
    ratio = _gamma(jnp.where(small, top, 1)) / _gamma(jnp.where(small, bottom, 1))
    value = jnp.where(small, jnp.where(both & (m % 2 != 0), -ratio, ratio), sign * jnp.exp(logarithm))
    value = jnp.where(poles[0] & ~both, 0, jnp.where(poles[1] & ~both, jnp.inf, value))
    return jnp.where(m == 0, 1, value)


_poch_real = with_partials(
    _poch,
    (
        lambda out, z, m: (digamma(z + m) - digamma(z)) * out,
        lambda out, z, m: digamma(z + m) * out,
    ),
)


def poch(z: Any, m: Any) -> Any:
    """Pochhammer's symbol Γ(z + m)/Γ(z).

    >>> poch(3.0, 2.0)
    Array(12., dtype=float32)
    """
    return _poch_real(*real_operands("poch", z, m))


def multigammaln(a: Any, d: Any) -> Any:
    """The logarithm of the multivariate gamma function of a positive dimension d: d(d − 1)/4 log π + Σ log Γ(a − j/2).

    >>> multigammaln(3.0, 2)
    Array(1.550195, dtype=float32)
    """
    d = as_int(d, "d", "multigammaln")
    (a,) = real_operands("multigammaln", a)
    total = d * (d - 1) / 4 * math.log(math.pi) + jnp.zeros(a.shape, a.dtype)
    for j in range(d):
        total = total + gammaln(a - j / 2)
    return total


# ---------------------------------------------------------------- zeta, polygamma, Bernoulli numbers

_COUNT = 17  # numbers of the Euler-Maclaurin formula


def bernoulli_numbers(count: int) -> list[Fraction]:
    """B₀ … of the number given, with B₁ = −1/2, exactly."""
    numbers: list[Fraction] = []
    for n in range(count):
        total = sum((math.comb(n + 1, k) * b for k, b in enumerate(numbers)), Fraction(0))
        numbers.append(Fraction(1) if n == 0 else -total / (n + 1))
    return numbers


def _zeta_series(s: Any, q: Any) -> Any:
    """The Euler-Maclaurin formula, https://dlmf.nist.gov/25.11.E5, which is differentiable with respect to s."""
    total: Any = 0.0
    for k in range(12):
        total = total + (q + k) ** -s
    w = q + 12
    power, rising = w**-s, s / w
    tail = 0.5 + w / (s - 1)
    for k in range(1, _COUNT):
        tail = tail + rising * float(_EVEN_BERNOULLI[k] / math.factorial(2 * k))
        rising = rising * ((s + (2 * k - 1)) / w) * ((s + 2 * k) / w)
    return total + power * tail


_EVEN_BERNOULLI = bernoulli_numbers(2 * _COUNT)[::2]


@in_double
def _zeta_by_s(polynomial: Any, s: Any, q: Any) -> Any:
    return jvp(lambda v: _zeta_series(v, q), (s,), (jnp.ones_like(s),))[1]


_zeta = with_partials(
    lambda s, q: sp.zeta_p.bind(s, q),
    (lambda out, s, q: _zeta_by_s(s, q), lambda out, s, q: -s * _zeta(s + 1, q)),
)


def zeta(x: Any, q: Any = None) -> Any:
    """The Hurwitz zeta function Σ (q + k)⁻ˣ.

    Raises:
      ArgumentError: q is missing.

    >>> zeta(2.0, 1.0)
    Array(1.644934, dtype=float32, weak_type=True)
    """
    if q is None:
        raise ArgumentError("zeta: q is missing", fix="pass q; with q = 1 it is the Riemann zeta function")
    return _zeta(*real_operands("zeta", x, q))


def polygamma(n: Any, x: Any) -> Any:
    """The n-th derivative of digamma, for integers n.

    >>> polygamma(1, 1.0)
    Array(1.644934, dtype=float32, weak_type=True)
    """
    dtype = aval_of(as_operand(n, "polygamma")).dtype
    if not dtypes.is_integer(dtype):
        raise DTypeError(f"polygamma: n has type {dtype.name}", fix="pass an integer order")
    return sp.polygamma_p.bind(*real_operands("polygamma", n, x))


def bernoulli(n: int) -> Any:
    """The Bernoulli numbers B₀ … Bₙ, with B₁ = −1/2.

    >>> bernoulli(4)
    Array([ 1.        , -0.5       ,  0.16666667,  0.        , -0.03333334],      dtype=float32)
    """
    n = as_int(n, "n", "bernoulli")
    if n < 0:
        raise ArgumentError(f"bernoulli: n is {n}", fix="n counts from 0")
    values = [_as_float(b) for b in bernoulli_numbers(n + 1)]
    return jnp.asarray(np.array(values, np.float64).astype(dtypes.canonicalize(float)))


def _as_float(b: Fraction) -> float:
    try:
        return float(b)
    except OverflowError:
        return math.copysign(math.inf, b)
