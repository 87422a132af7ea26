"""Exponential, sine and cosine integrals, and Spence's function."""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.ops import special as sp
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.scipy.special import coefficients
from funcgrad.scipy.special.declare import by_element, in_double, real_function, real_operands, with_partials
from funcgrad.transforms.control_flow import while_loop

__all__ = ["exp1", "expi", "expn", "sici", "spence"]

EULER = 0.5772156649015329
# The positive zeros of Ei and Ci in two parts.
EI_ROOT = (0.3725074107813666, 1.3140183414386028e-17)
CI_ROOT = (0.6165054856207163, -4.209920321433186e-17)


def log_near_root(x: Any, root: tuple[float, float]) -> tuple[Any, Any]:
    """x − root, and log(x / root) with its digits where x is close to the root."""
    difference = (x - root[0]) - root[1]
    ratio = difference / root[0]
    close = abs(ratio) < 0.5
    return difference, jnp.where(close, jnp.log1p(jnp.where(close, ratio, 0)), jnp.log(x / root[0]))


def exp1_positive(polynomial: Any, x: Any) -> Any:
    """E₁(x) for x ≥ 0."""
    near = x * polynomial(coefficients.E1_NEAR, x - 0.5) - (jnp.log(x) + EULER)
    far = jnp.exp(-x) * polynomial(coefficients.E1_FAR, 1 - 6 / (x + 2)) / (x + 1)
    return jnp.where(x <= 1, near, far)


@real_function(lambda out, x: -jnp.exp(-x) / x, wide=True)
def exp1(polynomial: Any, x: Any) -> Any:
    """The exponential integral E₁(x) = ∫ₓ^∞ e⁻ᵗ/t dt; NaN for x < 0.

    >>> exp1(1.0)
    Array(0.21938394, dtype=float32)
    """
    return exp1_positive(polynomial, x)


@real_function(lambda out, x: jnp.exp(x) / x, wide=True)
def expi(polynomial: Any, x: Any) -> Any:
    """The exponential integral Ei(x), the principal value of ∫₋∞ˣ eᵗ/t dt.

    >>> expi(1.0)
    Array(1.8951178, dtype=float32)
    """
    a = jnp.minimum(x, 720.0)
    difference, log = log_near_root(a, EI_ROOT)
    near = log + difference * polynomial(coefficients.EI_NEAR, a - 3)
    u = 24 / a
    series = jnp.where(
        a <= 12,
        polynomial(coefficients.EI_6, u - 3),
        jnp.where(a <= 24, polynomial(coefficients.EI_12, 2 * u - 3), polynomial(coefficients.EI_24, 2 * u - 1)),
    )
    root = jnp.exp(0.5 * a)
    positive = jnp.where(a <= 6, near, root * (series / a) * root)
    return jnp.where(x < 0, -exp1_positive(polynomial, -x), positive)


@by_element
def _expn_element(n: Any, x: Any) -> Any:
    """A series up to x = 1, https://dlmf.nist.gov/8.19.E8; a continued fraction beyond, 8.19.E18."""
    safe = jnp.where((x > 0) & (n >= 1), x, 2)
    order = jnp.where(n >= 1, n, 1)
    near = safe <= 1

    def series(state: tuple) -> tuple:
        k, term, total = state
        rest = k - order + 1
        total = total - jnp.where(rest == 0, 0, term / jnp.where(rest == 0, 1, rest))
        return k + 1, -term * safe / (k + 1), total

    zero = jnp.zeros_like(x)
    _, _, total = while_loop(lambda s: near & (s[0] < 24), series, (zero, zero + 1, zero))
    log = jnp.log(safe)
    sign = jnp.where((order - 1) % 2 != 0, -1.0, 1.0)
    power = sign * jnp.exp((order - 1) * log - sp.lgamma_p.bind(order))
    by_series = total + power * (sp.digamma_p.bind(order) - log)

    def fraction(state: tuple) -> tuple:
        """One step of Lentz's method."""
        k, b, d, c, h = state
        b = b + 2
        a = -k * (order - 1 + k)
        d, c = 1 / (a * d + b), b + a / c
        return k + 1, b, d, c, h * (c * d)

    def going(state: tuple) -> Any:
        k, _, d, c, _ = state
        return ~near & (k < 200) & (abs(c * d - 1) > 3e-16)

    b = safe + order
    start = (zero + 1, b, 1 / b, zero + 1e300, 1 / b)
    *_, h = while_loop(going, fraction, start)
    return jnp.where(near, by_series, h * jnp.exp(-safe))


@in_double
def _expn(polynomial: Any, n: Any, x: Any) -> Any:
    value = _expn_element(n, x)
    value = jnp.where(n == 0, jnp.exp(-x) / x, value)
    value = jnp.where(x == 0, jnp.where(n < 2, jnp.inf, 1 / jnp.where(n < 2, 1, n - 1)), value)
    value = jnp.where(jnp.isinf(x), 0, value)
    return jnp.where((n < 0) | (x < 0) | jnp.isnan(x) | jnp.isnan(n), jnp.nan, value)


def _expn_slope(out: Any, n: Any, x: Any) -> Any:
    zero = n == 0
    return jnp.where(zero, -out * (1 + 1 / x), -_expn_real(jnp.where(zero, 0, n - 1), x))


_expn_real = with_partials(_expn, (None, _expn_slope))


def expn(n: Any, x: Any) -> Any:
    """The generalized exponential integral Eₙ(x) = ∫₁^∞ e⁻ˣᵗ/tⁿ dt for integers n ≥ 0; no derivative by n.

    >>> expn(2, 1.0)
    Array(0.14849551, dtype=float32)
    """
    n, x = real_operands("expn", n, x)
    return _expn_real(stop_gradient_p.bind(n), x)


def _sici_slopes(out: Any, x: Any) -> tuple[Any, Any]:
    return jnp.sinc(x / math.pi), jnp.cos(x) / x


@real_function(_sici_slopes, wide=True)
def sici(polynomial: Any, x: Any) -> Any:
    """The sine and cosine integrals (Si, Ci): ∫₀ˣ sin t/t dt and γ + log|x| + ∫₀ˣ (cos t − 1)/t dt; Ci(−∞) is NaN.

    Beyond 4 by the auxiliary functions of https://dlmf.nist.gov/6.2.iii.

    >>> sici(1.0)
    (Array(0.94608307, dtype=float32), Array(0.33740392, dtype=float32))
    """
    a = jnp.minimum(abs(x), 2.0**47)
    square = a * a
    difference, log = log_near_root(a, CI_ROOT)
    near_si = a * polynomial(coefficients.SI_NEAR, square - 8)
    near_ci = log + difference * (a + CI_ROOT[0]) * polynomial(coefficients.CI_NEAR, square - 8)
    v = 1 - 20 / (a + 6)
    f, g = polynomial(coefficients.SINE_F, v) / a, polynomial(coefficients.SINE_G, v) / square
    sin, cos = jnp.sin(a), jnp.cos(a)
    si = jnp.where(a <= 4, near_si, math.pi / 2 - f * cos - g * sin)
    ci = jnp.where(a <= 4, near_ci, f * sin - g * cos)
    ci = jnp.where(jnp.isinf(x), jnp.where(x < 0, jnp.nan, 0), ci)
    return jnp.copysign(si, x), ci


def _debye(polynomial: Any, u: Any) -> Any:
    """The dilogarithm of 1 − e⁻ᵘ."""
    square = u * u
    return u - 0.25 * square + u * square * polynomial(coefficients.DEBYE, square)


@real_function(lambda out, x: jnp.where(x == 1, -1, jnp.log(x) / (1 - jnp.where(x == 1, 0, x))), wide=True)
def spence(polynomial: Any, x: Any) -> Any:
    """Spence's function ∫₁ˣ log t/(1 − t) dt, the dilogarithm of 1 − x; NaN for x < 0.

    >>> spence(0.0)
    Array(1.644934, dtype=float32)
    """
    large = x > 2
    y = jnp.where(large, 1 / x, x)
    log, log_rest = jnp.log(y), jnp.log1p(-jnp.where(y < 0.5, y, 0))
    low = math.pi**2 / 6 - _debye(polynomial, -log_rest) - jnp.where(y == 0, 0, log * log_rest)
    value = jnp.where(y < 0.5, low, _debye(polynomial, -log))
    return jnp.where(x < 0, jnp.nan, jnp.where(large, -0.5 * log * log - value, value))
