"""Bessel functions and spherical harmonics."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_int
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError
from funcgrad.ops import special as sp
from funcgrad.scipy.special.declare import in_double, of_primitive, real_function, real_operands
from funcgrad.transforms.custom_rules.jvp import custom_jvp

__all__ = ["bessel_jn", "i0", "i0e", "i1", "i1e", "sph_harm_y"]

i0e = of_primitive("i0e", sp.bessel_i0e_p, "x", "exp(−|x|) I₀(x).")
i1e = of_primitive("i1e", sp.bessel_i1e_p, "x", "exp(−|x|) I₁(x).")


def _unscaled(x: Any, scaled: Callable[[Any], Any]) -> Any:
    """exp(|x|) times a function; the exponential alone would overflow first."""
    x = jnp.clip(x, -750.0, 750.0)
    root = jnp.exp(0.5 * abs(x))
    return root * scaled(x) * root


@real_function(lambda out, x: i1(x), wide=True, keep_weak=True)
def i0(polynomial: Any, x: Any) -> Any:
    """The modified Bessel function of the first kind of order 0.

    >>> i0(1.0)
    Array(1.2660658, dtype=float32, weak_type=True)
    """
    return _unscaled(x, i0e)


@real_function(lambda out, x: i0(x) - jnp.where(x == 0, 0.5, out / jnp.where(x == 0, 1, x)), wide=True, keep_weak=True)
def i1(polynomial: Any, x: Any) -> Any:
    """The modified Bessel function of the first kind of order 1.

    >>> i1(1.0)
    Array(0.5651591, dtype=float32, weak_type=True)
    """
    return _unscaled(x, i1e)


# ---------------------------------------------------------------- Bessel functions of the first kind

FAR = 25.0  # from here on Hankel's expansion and forward recurrence


def _backward(z: Any, v: int, count: int) -> list[Any]:
    """J₀ … Jᵥ by Miller's recurrence Jₖ₋₁ = (2k/z) Jₖ − Jₖ₊₁ from a large k, with J₀ + 2 ΣJ₂ₖ = 1."""
    above, current, total, kept = jnp.zeros_like(z), jnp.full_like(z, 1e-100), jnp.zeros_like(z), []
    twice_inverse = 2 / jnp.where(z == 0, 1, z)
    for k in range(count, 0, -1):
        below = k * twice_inverse * current - above
        scale = jnp.where(abs(below) > 1e100, 1e-200, 1)
        above, current, total = current * scale, below * scale, total * scale
        kept = [j * scale for j in kept]
        if k - 1 <= v:
            kept.append(current)
        if k % 2 == 1:
            total = total + (current if k == 1 else 2 * current)
    return [jnp.where(z == 0, 1.0 if order == 0 else 0.0, j / total) for order, j in enumerate(reversed(kept))]


def _forward(z: Any, v: int) -> list[Any]:
    """J₀ … Jᵥ for large z: Hankel's expansion, https://dlmf.nist.gov/10.17.E3, and the recurrence."""
    found: list[Any] = []
    for order in range(min(v, 1) + 1):
        term, p, q = jnp.ones_like(z), jnp.ones_like(z), jnp.zeros_like(z)
        for k in range(1, 22):
            term = term * ((4 * order * order - (2 * k - 1) ** 2) / (8 * k)) / z
            if k % 2:
                q = q + (term if k % 4 == 1 else -term)
            else:
                p = p + (term if k % 4 == 0 else -term)
        # cos and sin of z − (2·order + 1)π/4 by those of z, whose argument is not rounded.
        c, s = jnp.cos(z), jnp.sin(z)
        cos, sin = ((c + s), (s - c)) if order == 0 else ((s - c), (-c - s))
        found.append((p * cos - q * sin) / jnp.sqrt(math.pi * z))
    for k in range(1, v):
        found.append((2 * k) / z * found[k] - found[k - 1])
    return found


@partial(custom_jvp, nondiff_argnums=(1, 2))
def _bessel_jn(z: Any, v: int, n_iter: int) -> Any:
    @in_double
    def bessel_jn(polynomial: Any, z: Any) -> Any:
        a = abs(z)
        far = a > FAR
        near = _backward(jnp.where(far, 0, a), v, max(n_iter, v + 20, 60))
        distant = _forward(jnp.where(far, a, FAR), v)
        rows = [jnp.where(far, d, n) for d, n in zip(distant, near, strict=True)]
        return jnp.stack([jnp.where(z < 0, -r, r) if k % 2 else r for k, r in enumerate(rows)])

    return bessel_jn(z)


@_bessel_jn.defjvp
def _bessel_jn_jvp(v: int, n_iter: int, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    """2 Jₖ' = Jₖ₋₁ − Jₖ₊₁"""
    (z,), (z_dot,) = primals, tangents
    values = _bessel_jn(z, v + 1, n_iter)
    below = jnp.concatenate([-values[1:2], values[:v]])
    return values[: v + 1], 0.5 * (below - values[1:]) * z_dot


def bessel_jn(z: Any, *, v: int, n_iter: int = 50) -> Any:
    """The Bessel functions of the first kind J₀(z) … Jᵥ(z), stacked on a new first axis.

    `n_iter` is the least number of steps of the recurrence for |z| ≤ 25; there are enough of them by default.

    >>> bessel_jn(1.0, v=1)
    Array([0.7651977 , 0.44005057], dtype=float32)
    """
    (z,) = real_operands("bessel_jn", z)
    v, n_iter = as_int(v, "v", "bessel_jn"), as_int(n_iter, "n_iter", "bessel_jn")
    if v < 0:
        raise ArgumentError(f"bessel_jn: v is {v}", fix="orders count from 0")
    return _bessel_jn(z, v, n_iter)


# ---------------------------------------------------------------- spherical harmonics


def sph_harm_y(n: Any, m: Any, theta: Any, phi: Any, diff_n: int | None = None, n_max: int | None = None) -> Any:
    """The spherical harmonic Yₙᵐ(θ, φ) at the polar angle θ and the azimuth φ, with the phase (−1)ᵐ.

    The degrees n and orders m are integers; `n_max` is at least the largest degree, and needed if n is traced.

    Raises:
      ArgumentError: `diff_n` is given; n is traced and `n_max` is missing.

    >>> sph_harm_y(1, 0, 0.0, 0.0)
    Array([0.48860252+0.j], dtype=complex64)
    """
    if diff_n is not None:
        raise ArgumentError("sph_harm_y: diff_n is not supported", fix="use funcgrad.jacfwd for derivatives")
    if n_max is None:
        if isinstance(n, Tracer):
            raise ArgumentError("sph_harm_y: n is traced", fix="pass n_max, the largest degree, as an int")
        n_max = int(np.max(np.asarray(n)))
    n_max = as_int(n_max, "n_max", "sph_harm_y")
    theta, phi = promote_inexact(theta, phi, operation="sph_harm_y")
    theta = jnp.atleast_1d(theta)
    n, m = jnp.asarray(n), jnp.asarray(m)
    size = abs(m)
    legendre = _normalized_legendre(n, size, theta, n_max)
    angle = m.astype(phi.dtype) * phi
    sign = jnp.where((m < 0) & (size % 2 == 1), -1.0, 1.0).astype(legendre.dtype)
    value = legendre * sign
    return value * jnp.cos(angle) + 1j * (value * jnp.sin(angle))


def _normalized_legendre(n: Any, m: Any, theta: Any, n_max: int) -> Any:
    """Pₙᵐ(cos θ) √((2n + 1)/4π (n − m)!/(n + m)!), with the phase (−1)ᵐ, for m ≥ 0; 0 for m > n.

    By recurrence from Pₘᵐ = √((2m + 1)/4π/(2m)!) (2m − 1)!! (−sin θ)ᵐ, upward in the degree, https://dlmf.nist.gov/14.10.
    """
    x, sine = jnp.cos(theta), jnp.sin(theta)
    dtype = aval_of(theta).dtype
    order = m.astype(dtype)
    current = jnp.full_like(x * order, math.sqrt(1 / (4 * math.pi)))
    for k in range(1, n_max + 1):
        factor = -math.sqrt((2 * k + 1) / (2 * k))
        current = jnp.where(m >= k, factor * sine * current, current)
    below, out = jnp.zeros_like(current), jnp.where(n == m, current, 0)
    for degree in range(1, n_max + 1):
        above = degree > m
        difference = jnp.where(above, degree**2 - order**2, 1)
        first = jnp.sqrt((4 * degree**2 - 1) / difference)
        before = jnp.maximum((degree - 1) ** 2 - order**2, 0)
        second = jnp.sqrt(before / max(4 * (degree - 1) ** 2 - 1, 1))
        following = first * (x * current - second * below)
        below, current = jnp.where(above, current, below), jnp.where(above, following, current)
        out = jnp.where((n == degree) & above, current, out)
    return out
