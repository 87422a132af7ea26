"""The error functions and the normal distribution: erf, erfcx, dawsn, wofz, ndtr, log_ndtr, ndtri, owens_t, fresnel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_int
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.ops import special as sp
from funcgrad.ops.casts import convert_element_type
from funcgrad.scipy.special import coefficients
from funcgrad.scipy.special.declare import in_double, of_primitive, real_function, with_partials
from funcgrad.transforms.jit import jit

__all__ = [
    "dawsn",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "fresnel",
    "log_ndtr",
    "ndtr",
    "ndtri",
    "owens_t",
    "wofz",
]

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
SQRT_2, SQRT_2PI = math.sqrt(2), math.sqrt(2 * math.pi)

erf = of_primitive("erf", sp.erf_p, "x", "The error function, 2/√π ∫₀ˣ exp(−t²) dt.")
erfc = of_primitive("erfc", sp.erfc_p, "x", "1 − erf(x), accurate where erf is close to 1.")
erfinv = of_primitive("erfinv", sp.erf_inv_p, "x", "The inverse of erf.")


def high_part(x: Any) -> Any:
    """The upper 26 bits of x, whose square is exact in float64."""
    return sp.reduce_precision_p.bind(x, exponent_bits=11, mantissa_bits=25)


def exp_of_square(x: Any, factor: float) -> Any:
    """exp(factor·x²) without the rounding error of x², which exp would magnify."""
    high = high_part(x)
    low = factor * (x - high) * (x + high)
    return jnp.exp(factor * (high * high)) * (1 + low * (1 + low * (0.5 + low / 6)))


def erfcx_positive(polynomial: Any, x: Any) -> Any:
    """erfcx of x ≥ 0."""
    return polynomial(coefficients.ERFCX, 1 - 8 / (x + 4)) / (1 + 2 * x)


@in_double
def _erfcx(polynomial: Any, x: Any) -> Any:
    value = erfcx_positive(polynomial, abs(x))
    return jnp.where(x < 0, 2 * exp_of_square(jnp.minimum(abs(x), 27.0), 1.0) - value, value)


_erfcx_real = with_partials(_erfcx, (lambda out, x: 2 * x * out - TWO_OVER_SQRT_PI,))


def erfcx(x: Any) -> Any:
    """exp(x²)·erfc(x), which does not underflow for large x; wofz(ix), for complex x too.

    Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x²) erfc x in [0, ∞) (Mathematics of Computation
    36, 1981).

    >>> erfcx(100.0)
    Array(0.00564161, dtype=float32)
    """
    (x,) = promote_inexact(x, operation="erfcx")
    return wofz(1j * x) if dtypes.is_complex(aval_of(x).dtype) else _erfcx_real(x)


@real_function(lambda out, x: 1 - 2 * x * out, wide=True)
def dawsn(polynomial: Any, x: Any) -> Any:
    """Dawson's integral, exp(−x²) ∫₀ˣ exp(t²) dt.

    >>> dawsn(1.0)
    Array(0.5380795, dtype=float32)
    """
    a, square = abs(x), x * x
    near = x * polynomial(coefficients.DAWSON_NEAR, square - 2)
    middle = polynomial(coefficients.DAWSON_MIDDLE, a - 3)
    far = polynomial(coefficients.DAWSON_FAR, 32 / square - 1)
    return jnp.where(a <= 2, near, jnp.where(a <= 4, middle, far) / x)


# ---------------------------------------------------------------- the Faddeeva function

_TERMS = 44
_SCALE = math.sqrt(_TERMS / math.sqrt(2))


def _rational_coefficients() -> list[float]:
    """The Fourier coefficients of (L² + t²) exp(−t²) with t = L tan(θ/2), highest first."""
    count = 4 * _TERMS
    theta = np.arange(1 - count, count) * np.pi / count
    t = _SCALE * np.tan(theta / 2)
    values = np.concatenate([[0.0], np.exp(-t * t) * (_SCALE**2 + t * t)])
    found = np.fft.fft(np.fft.fftshift(values)).real / (2 * count)
    return found[1 : _TERMS + 1][::-1].tolist()


def _upper_half(z: Any) -> Any:
    """w(z) for Im z ≥ 0.

    Weideman, Computation of the complex error function (SIAM Journal on Numerical Analysis 31, 1994); beyond |z| = 8
    Laplace's continued fraction, https://dlmf.nist.gov/7.9.E3.
    """
    denominator = _SCALE - 1j * z
    ratio = (_SCALE + 1j * z) / denominator
    total: Any = 0.0
    for c in _rational_coefficients():
        total = total * ratio + c
    near = 2 * total / denominator**2 + (1 / math.sqrt(math.pi)) / denominator
    large = abs(z) > 8
    outer = jnp.where(large, z, 8.0)
    fraction = outer
    for k in range(12, 0, -1):
        fraction = outer - (k / 2) / fraction
    return jnp.where(large, 1j / math.sqrt(math.pi) / fraction, near)


@jit
def _wofz(z: Any) -> Any:
    upper = jnp.imag(z) >= 0
    value = _upper_half(jnp.where(upper, z, -z))
    return jnp.where(upper, value, 2 * jnp.exp(jnp.where(upper, 0, -z * z)) - value)


_faddeeva = with_partials(_wofz, (lambda out, z: -2 * z * out + 1j * TWO_OVER_SQRT_PI,))


def wofz(z: Any) -> Any:
    """The Faddeeva function exp(−z²)·erfc(−iz), complex.

    >>> wofz(1j)
    Array(0.42758358+0.j, dtype=complex64)
    """
    (z,) = promote_inexact(z, operation="wofz")
    aval = aval_of(z)
    dtype = dtypes.complex128 if aval.dtype in (dtypes.float64, dtypes.complex128) else dtypes.complex64
    return _faddeeva(convert_element_type(z, dtype))


# ---------------------------------------------------------------- the normal distribution


def density(x: Any) -> Any:
    """The density of the standard normal distribution."""
    return jnp.exp(-0.5 * x * x) / SQRT_2PI


@real_function(lambda out, x: density(x), wide=True)
def ndtr(polynomial: Any, x: Any) -> Any:
    """The distribution function of the standard normal distribution.

    >>> ndtr(0.0)
    Array(0.5, dtype=float32)
    """
    a = jnp.minimum(abs(x), 40.0)
    tail = 0.5 * erfcx_positive(polynomial, a / SQRT_2) * exp_of_square(a, -0.5)
    return jnp.where(x < 0, tail, 1 - tail)


def _log_ndtr_slope(out: Any, x: Any) -> Any:
    """The density over ndtr; for x < 0 without exponentials, whose difference would have no digits."""
    left = 2 / (SQRT_2PI * erfcx(jnp.where(x < 0, -x, 0) / SQRT_2))
    right = jnp.where(x < 0, 0, x)
    return jnp.where(x < 0, left, jnp.exp(-0.5 * right * right - jnp.where(x < 0, 0, out)) / SQRT_2PI)


@real_function(_log_ndtr_slope, wide=True)
def _log_ndtr(polynomial: Any, x: Any) -> Any:
    scaled = 0.5 * erfcx_positive(polynomial, abs(x) / SQRT_2)
    tail = scaled * exp_of_square(jnp.minimum(abs(x), 40.0), -0.5)
    return jnp.where(x < 0, jnp.log(scaled) - 0.5 * x * x, jnp.log1p(-tail))


def log_ndtr(x: Any, series_order: int = 3) -> Any:
    """log(ndtr(x)), accurate for all x. `series_order` has no effect: no series is involved.

    >>> log_ndtr(-100.0)
    Array(-5005.5244, dtype=float32)
    """
    if not 0 <= as_int(series_order, "series_order", "log_ndtr") <= 30:
        raise ArgumentError(f"log_ndtr: series_order is {series_order}", fix="choose from 0 to 30")
    return _log_ndtr(x)


@real_function(lambda out, p: SQRT_2PI * jnp.exp(0.5 * out * out), wide=True)
def ndtri(polynomial: Any, p: Any) -> Any:
    """The inverse of ndtr; −∞ at 0 and ∞ at 1.

    >>> ndtri(0.975)
    Array(1.9599644, dtype=float32)
    """
    below = p < 0.5
    q = jnp.where(below, p, 1 - p)
    r = jnp.sqrt(-jnp.log(q))
    tail = jnp.where(q == 0, jnp.inf, r * polynomial(coefficients.NDTRI, 1 - 11 / (r + 4)))
    middle = SQRT_2 * sp.erf_inv_p.bind(2 * p - 1)
    return jnp.where(q > 0.138, middle, jnp.where(below, -tail, tail))


_NODES, _WEIGHTS = (half[20:].tolist() for half in np.polynomial.legendre.leggauss(40))


def _owens_t_by_h(out: Any, h: Any, a: Any) -> Any:
    return -jnp.exp(-0.5 * h * h) * sp.erf_p.bind(a * h / SQRT_2) / (2 * SQRT_2PI)


@real_function(
    _owens_t_by_h,
    lambda out, h, a: jnp.exp(-0.5 * (a * a + 1) * h * h) / (2 * math.pi * (a * a + 1)),
    wide=True,
)
def owens_t(polynomial: Any, h: Any, a: Any) -> Any:
    """Owen's T function, 1/(2π) ∫₀ᵃ exp(−h²(1 + x²)/2)/(1 + x²) dx.

    For |a| > 1 by T(h, a) = (Φ(h) + Φ(ah))/2 − Φ(h)Φ(ah) − T(ah, 1/a); then by Gauss and Legendre's quadrature of as
    much of the interval as matters.

    >>> owens_t(0.5, 1.0)
    Array(0.10667107, dtype=float32)
    """
    h, size = abs(h), abs(a)
    steep = size > 1
    product = jnp.where(h == 0, 0, size * h)
    low, high = jnp.where(steep, product, h), jnp.where(steep, 1 / size, size)
    end = jnp.minimum(high, 8.7 / low)
    square, half = end * end, -0.5 * (low * end) ** 2
    total: Any = 0.0
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total = total + weight * jnp.exp(half * node**2) / (1 + square * node**2)
    small = total * end * jnp.exp(-0.5 * low * low) / (2 * math.pi)
    tail_h, tail_ah = (0.5 * sp.erfc_p.bind(v / SQRT_2) for v in (h, product))
    # (Φ(h) + Φ(ah))/2 − Φ(h)Φ(ah) in terms of 1 − Φ, which is 0 where both numbers are large.
    value = jnp.where(steep, 0.5 * (tail_h + tail_ah) - tail_h * tail_ah - small, small)
    value = jnp.where(jnp.isinf(h), 0, value)
    return jnp.where(jnp.isnan(h) | jnp.isnan(a), jnp.nan, jnp.sign(a) * value)


# ---------------------------------------------------------------- Fresnel integrals


def _fresnel_slopes(out: Any, x: Any) -> tuple[Any, Any]:
    angle = 0.5 * math.pi * x * x
    return jnp.sin(angle), jnp.cos(angle)


@real_function(_fresnel_slopes, wide=True)
def fresnel(polynomial: Any, x: Any) -> Any:
    """The Fresnel integrals (S, C): ∫₀ˣ sin(πt²/2) dt and ∫₀ˣ cos(πt²/2) dt.

    Beyond 1.5, 1/2 − S and 1/2 − C are the auxiliary functions of https://dlmf.nist.gov/7.5, rotated by the angle
    πx²/2, which is reduced exactly.

    >>> fresnel(1.0)
    (Array(0.43825915, dtype=float32), Array(0.7798934, dtype=float32))
    """
    a = jnp.minimum(abs(x), 1e17)
    square = a * a
    fourth = square * square - 2.5
    near_s = a * square * polynomial(coefficients.FRESNEL_S, fourth)
    near_c = a * polynomial(coefficients.FRESNEL_C, fourth)
    high = high_part(a)
    turns = high * high
    turns = turns - 4 * jnp.rint(turns / 4) + (a - high) * (a + high)
    turns = turns - 4 * jnp.rint(turns / 4)
    sin, cos = jnp.sin(0.5 * math.pi * turns), jnp.cos(0.5 * math.pi * turns)
    v = 1 - 6 / (a + 1.5)
    f, g = polynomial(coefficients.FRESNEL_F, v) / a, polynomial(coefficients.FRESNEL_G, v) / (a * square)
    far_s, far_c = 0.5 - f * cos - g * sin, 0.5 + f * sin - g * cos
    s, c = jnp.where(a < 1.49, near_s, far_s), jnp.where(a < 1.49, near_c, far_c)
    return jnp.copysign(s, x), jnp.copysign(c, x)
