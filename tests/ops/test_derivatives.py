"""Derivatives to third order, at and next to special points, compared with mpmath and with finite differences."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, nn
from funcgrad.testing import check_grads

Point = tuple[float, ...]
Case = tuple[Callable[..., Any], Callable[..., Any], list[Point]]

NEXT = 1e-6  # a special point and its neighbor

# ---------------------------------------------------------------- smooth functions


WITH_ZEROS = [(0.0, 0.0, 0.0), (1.0, 0.0, 2.0)]


def _at(*values: float) -> list[Point]:
    return [(v,) for v in values]


def _log(x: Any) -> Any:
    return mpmath.log(x)


def _corr(*x: Any) -> Any:
    mean = sum(x) / 3
    return (x[0] - x[2]) / mpmath.sqrt(2 * sum((v - mean) ** 2 for v in x))


def _sinc(x: Any) -> Any:
    z = mpmath.pi * x
    return mpmath.sin(z) / z if z else mpmath.mpf(1)


EXPONENTS = [(2.0, y + d) for y in (-1.0, 0.0, 1.0, 2.0, 3.0) for d in (0.0, NEXT)] + [
    (1.0, 0.0),
    (0.5, 0.0),
    (1.0, 1.0),
]
ANGLES = [(0.0, 1.0), (1.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (NEXT, 1.0), (3e20, -4e20)]
LENGTHS = [(3.0, 4.0), (1.0, 1.0), (-1.0, 1.0), (1.0, 1 + NEXT), (0.0, 2.0), (-2.0, 0.0), (1e-20, 1e-20), (3e20, -4e20)]

SMOOTH: dict[str, Case] = {
    "power": (jnp.power, mpmath.power, EXPONENTS),
    "float_power": (jnp.float_power, mpmath.power, EXPONENTS),
    "lax.pow": (lax.pow, mpmath.power, EXPONENTS),
    "x ** 0.0": (lambda x: x**0.0, lambda x: mpmath.mpf(1), _at(0.0, 2.0, -2.0)),
    "x ** 1.0": (lambda x: x**1.0, lambda x: x, _at(0.0, 2.0, -2.0)),
    "x ** 2.0": (lambda x: x**2.0, lambda x: x**2, _at(0.0, 2.0, -2.0)),
    "x ** 3.0": (lambda x: x**3.0, lambda x: x**3, _at(0.0, 2.0, -2.0)),
    "x ** 2": (lambda x: x**2, lambda x: x**2, _at(0.0, NEXT, -2.0)),
    "x ** -2": (lambda x: x**-2, lambda x: x**-2, _at(2.0, -2.0)),
    "x ** array(2)": (lambda x: x ** jnp.array(2), lambda x: x**2, _at(0.0, NEXT, -2.0)),
    "x ** array(0)": (lambda x: x ** jnp.array(0), lambda x: mpmath.mpf(1), _at(0.0, NEXT, -2.0)),
    "2 ** y": (lambda y: 2.0**y, lambda y: mpmath.mpf(2) ** y, _at(0.0, 1.0, 2.0)),
    "arctan2": (jnp.arctan2, mpmath.atan2, ANGLES),
    "angle": (lambda x, y: jnp.angle(lax.complex(x, y)), lambda x, y: mpmath.atan2(y, x), [(1.0, 0.0), (0.0, 1.0)]),
    "hypot": (jnp.hypot, lambda x, y: mpmath.sqrt(x * x + y * y), LENGTHS),
    "abs of complex": (
        lambda x, y: jnp.abs(lax.complex(x, y)),
        lambda x, y: mpmath.sqrt(x * x + y * y),
        [(3.0, 4.0), (1.0, 0.0)],
    ),
    "sign of complex": (
        lambda x, y: jnp.sign(lax.complex(x, y)).real,
        lambda x, y: x / mpmath.sqrt(x * x + y * y),
        [(1.0, 0.0), (1.0, 1.0)],
    ),
    "sinc": (jnp.sinc, _sinc, _at(NEXT, 0.159, 0.16, 1.0)),
    "logaddexp": (
        jnp.logaddexp,
        lambda x, y: _log(mpmath.exp(x) + mpmath.exp(y)),
        [(0.0, 0.0), (1.0, 1 + NEXT), (2.0, -3.0), (30.0, -10.0)],
    ),
    "logaddexp2": (jnp.logaddexp2, lambda x, y: _log(2**x + 2**y) / _log(2), [(0.0, 0.0), (2.0, -3.0)]),
    "cumlogsumexp": (
        lambda x, y: lax.cumlogsumexp(jnp.stack([x, y]))[1],
        lambda x, y: _log(mpmath.exp(x) + mpmath.exp(y)),
        [(0.0, 0.0), (1.0, 2.0)],
    ),
    "logsumexp": (
        lambda x, y: nn.logsumexp(jnp.stack([x, y])),
        lambda x, y: _log(mpmath.exp(x) + mpmath.exp(y)),
        [(0.0, 0.0), (7.0, -7.0)],
    ),
    "logsumexp with weights": (
        lambda x, b: nn.logsumexp(jnp.stack([x, 2 * x]), b=jnp.stack([b, b + 1])),
        lambda x, b: _log(b * mpmath.exp(x) + (b + 1) * mpmath.exp(2 * x)),
        [(1.0, 0.0), (0.0, NEXT), (0.5, 1.0)],
    ),
    "softmax": (
        lambda x, y: nn.softmax(jnp.stack([x, y]))[0],
        lambda x, y: 1 / (1 + mpmath.exp(y - x)),
        [(0.0, 0.0), (1.0, 2.0)],
    ),
    "softplus": (nn.softplus, lambda x: _log(1 + mpmath.exp(x)), _at(0.0, -NEXT, 10.0, -10.0)),
    "log1mexp": (nn.log1mexp, lambda x: _log(1 - mpmath.exp(-x)), _at(float(np.log(2)), 0.5, 1.0)),
    "log1p": (jnp.log1p, mpmath.log1p, _at(0.0, NEXT, -0.5)),
    "expm1": (jnp.expm1, mpmath.expm1, _at(0.0, NEXT, 1.0)),
    "sqrt": (jnp.sqrt, mpmath.sqrt, _at(1.0, 1e-4)),
    "cbrt": (jnp.cbrt, mpmath.cbrt, _at(1.0, 1e-4)),
    "arcsin": (jnp.arcsin, mpmath.asin, _at(0.0, 0.5, 1 - 2**-10, -1 + 2**-10)),
    "arccos": (jnp.arccos, mpmath.acos, _at(0.0, 0.5, 1 - 2**-10, -1 + 2**-10)),
    "arctanh": (jnp.arctanh, mpmath.atanh, _at(0.0, 0.5, 1 - 2**-10, -1 + 2**-10)),
    "arccosh": (jnp.arccosh, mpmath.acosh, _at(1 + 2**-10, 2.0, 1e12)),
    "erf_inv": (lax.erf_inv, mpmath.erfinv, _at(0.0, 0.5)),
    "prod": (lambda x, y, z: jnp.prod(jnp.stack([x, y, z])), lambda x, y, z: x * y * z, WITH_ZEROS),
    "cumprod": (lambda x, y, z: jnp.cumprod(jnp.stack([x, y, z]))[2], lambda x, y, z: x * y * z, WITH_ZEROS),
    "var": (lambda x, y: jnp.var(jnp.stack([x, y])), lambda x, y: (x - y) ** 2 / 4, [(1.0, 1.0), (1.0, 2.0)]),
    "nanvar": (lambda x, y: jnp.nanvar(jnp.stack([x, y])), lambda x, y: (x - y) ** 2 / 4, [(1.0, 1.0), (1.0, 2.0)]),
    "std": (
        lambda x, y: jnp.std(jnp.stack([x, y, 0 * x])),
        lambda x, y: mpmath.sqrt((x * x + y * y) / 3 - (x + y) ** 2 / 9),
        [(1.0, 0.0), (1.0, 1 + NEXT)],
    ),
    "standardize": (
        lambda x, y: nn.standardize(jnp.stack([x, y]), epsilon=0.5)[0],
        lambda x, y: (x - y) / 2 / mpmath.sqrt((x - y) ** 2 / 4 + mpmath.mpf(0.5)),
        [(1.0, 1.0), (1.0, 1 + NEXT)],
    ),
    "corrcoef": (
        lambda x, y, z: jnp.corrcoef(jnp.stack([jnp.stack([x, y, z]), jnp.array([1.0, 0.0, -1.0])]))[0, 1],
        _corr,
        [(2.0, 1.0, 0.0), (0.0, 1.0, 2.0), (1.0, 3.0, 2.0)],
    ),
    "kl_divergence": (
        lambda p, q: nn.kl_divergence(jnp.stack([p]), jnp.stack([q])) - q * jnp.log(q + 0.5),
        lambda p, q: (q * _log(q) if q else 0) - q * p - q * _log(q + mpmath.mpf(0.5)),
        [(-1.0, 0.5), (-2.0, 1.0)],
    ),
    "igamma of shape 1": (lambda x: lax.igamma(1.0, x), lambda x: 1 - mpmath.exp(-x), _at(0.0, NEXT, 1.0)),
    "igamma of shape 2": (lambda x: lax.igamma(2.0, x), lambda x: 1 - mpmath.exp(-x) * (1 + x), _at(0.0, NEXT, 1.0)),
    "igammac of shape 3": (
        lambda x: lax.igammac(3.0, x),
        lambda x: mpmath.exp(-x) * (1 + x + x * x / 2),
        _at(0.0, NEXT, 1.0),
    ),
    "betainc(1, 1)": (lambda x: lax.betainc(1.0, 1.0, x), lambda x: x, _at(0.0, 0.5, 1.0)),
    "betainc(2, 3)": (
        lambda x: lax.betainc(2.0, 3.0, x),
        lambda x: x**2 * (6 - 8 * x + 3 * x**2),
        _at(0.0, NEXT, 0.5, 1.0),
    ),
    "bessel_i0e": (lax.bessel_i0e, lambda x: mpmath.exp(-x) * mpmath.besseli(0, x), _at(1e-3, 1.0, 20.0)),
    "bessel_i1e": (lax.bessel_i1e, lambda x: mpmath.exp(-x) * mpmath.besseli(1, x), _at(1e-3, 1.0, 20.0)),
    "i0": (jnp.i0, lambda x: mpmath.besseli(0, x), _at(0.0, 1e-3, 1.0)),
    "frexp": (lambda x: jnp.frexp(x)[0], lambda x: x / 4, _at(3.0, 2 + NEXT, -3.5)),
    "ldexp of frexp": (lambda x: jnp.ldexp(*jnp.frexp(x)), lambda x: x, _at(0.0, 5.3, -4.0, 1e30, 1e-30)),
    "modf": (lambda x: jnp.modf(x)[0], lambda x: x + 3, _at(-3.5, -3.0)),
    "median of equals": (
        lambda x, y: jnp.median(jnp.stack([x, y])),
        lambda x, y: (x + y) / 2,
        [(1.0, 1.0), (1.0, 2.0)],
    ),
}


@functools.cache
def _expected(name: str, point: Point, orders: tuple[int, ...]) -> float:
    """The mixed derivative by mpmath: a difference with so small a step, in so many digits, that it is exact."""
    scale = min((abs(p) for p in point if p), default=1.0)
    with mpmath.workdps(100):
        exact = [mpmath.mpf(p) for p in point]
        if not any(orders):
            return float(SMOOTH[name][1](*exact))
        step = mpmath.mpf(min(scale, 1.0)) * mpmath.mpf(10) ** -20
        return float(mpmath.re(mpmath.diff(SMOOTH[name][1], tuple(exact), orders, h=step)))


def _reverse(f: Callable[..., Any], i: int) -> Callable[..., Any]:
    return fg.grad(f, i)


def _forward(f: Callable[..., Any], i: int) -> Callable[..., Any]:
    def pushed(*args: Any) -> Any:
        return fg.jvp(lambda v: f(*args[:i], v, *args[i + 1 :]), (args[i],), (jnp.ones_like(args[i]),))[1]

    return pushed


MODES = {
    "reverse": (_reverse, _reverse, _reverse),
    "forward over reverse": (_reverse, _forward, _forward),
    "forward": (_forward, _forward, _forward),
}


def _ascending(operands: range, repeat: int) -> Any:
    return itertools.combinations_with_replacement(operands, repeat)


def _derivatives(f: Callable[..., Any], arity: int, order: int, mode: str) -> dict[tuple[int, ...], Callable[..., Any]]:
    """All derivatives up to an order, by the operands they are taken by, one after another."""
    found: dict[tuple[int, ...], Callable[..., Any]] = {(): f}
    sequences = itertools.product if arity < 3 else _ascending
    for by in itertools.chain(*(sequences(range(arity), repeat=n) for n in range(1, order + 1))):
        found[by] = MODES[mode][len(by) - 1](found[by[:-1]], by[-1])
    return found


def _check(name: str, dtype: Any, order: int, mode: str, rtol: float, transform: Callable[..., Any]) -> None:
    f, _, points = SMOOTH[name]
    arity = len(points[0])
    columns = [np.array(c, dtype) for c in zip(*points, strict=True)]
    derivatives = _derivatives(f, arity, order, mode)
    values = transform(fg.vmap(lambda *xs: [d(*xs) for d in derivatives.values()]))(*columns)
    for by, value in zip(derivatives, values, strict=True):
        orders = tuple(by.count(i) for i in range(arity))
        expected = [_expected(name, tuple(map(float, p)), orders) for p in zip(*columns, strict=True)]
        for point, have, want in zip(points, np.asarray(value), expected, strict=True):
            # Terms of this order are as large as 1/distance to the power of the order, and cancel.
            size = max(abs(want), float(np.hypot(*point)) ** -len(by) if name in ("arctan2", "hypot") else 1.0)
            assert have == pytest.approx(want, rel=rtol, abs=rtol * size), (
                f"{name} at {point}, derivative by operands {by}, {mode}: {have}, mpmath gives {want}"
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_to_third_order_agree_with_mpmath(name, mode):
    with fg.enable_x64():
        _check(name, np.float64, 3, mode, 1e-7, lambda f: f)


@pytest.mark.parametrize("name", SMOOTH)
def test_compiled_second_derivatives_agree_with_mpmath(name):
    with fg.enable_x64():
        _check(name, np.float64, 2, "reverse", 1e-7, fg.jit)


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives_in_single_precision_agree_with_mpmath(name, transform):
    _check(name, np.float32, 2, "forward over reverse", 2e-3, transform)


# ---------------------------------------------------------------- numbers near the ends of the range

# Squares of these overflow or underflow in float32, their derivatives do not.
EXTREME = [(1e-22, 1e-22), (3e-30, -4e-30), (3e20, -4e20), (1e30, 2e30), (0.0, 1e25)]


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_derivatives_neither_overflow_nor_underflow_where_squares_do(transform):
    x, y = np.array(EXTREME, np.float32).T
    wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
    length = np.hypot(wide_x, wide_y)
    slopes = transform(fg.vmap(fg.grad(jnp.arctan2, (0, 1))))(x, y)
    np.testing.assert_allclose(slopes, [wide_y / length**2, -wide_x / length**2], rtol=1e-6)
    np.testing.assert_allclose(
        transform(fg.vmap(fg.grad(jnp.hypot, (0, 1))))(x, y), [x / length, y / length], rtol=1e-6
    )
    large = np.array([1e10, 1e20, 1e38], np.float32)
    np.testing.assert_allclose(transform(fg.vmap(fg.grad(jnp.arccosh)))(large), 1 / large.astype(np.float64), rtol=1e-6)


# ---------------------------------------------------------------- complex functions

COMPLEX: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "arccosh": (jnp.arccosh, mpmath.acosh),
    "arcsin": (jnp.arcsin, mpmath.asin),
    "arctanh": (jnp.arctanh, mpmath.atanh),
    "z ** (0 + 0j)": (lambda z: jnp.power(z, 0j), lambda z: mpmath.mpf(1)),
    "z ** (2 + 0j)": (lambda z: jnp.power(z, 2 + 0j), lambda z: z * z),
    "log z derived from z ** w": (
        lambda z: fg.grad(jnp.power, 1, holomorphic=True)(z, 0j),
        mpmath.log,
    ),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_derivatives_are_on_the_right_branch(name):
    ours, reference = COMPLEX[name]
    with fg.enable_x64(), mpmath.workdps(60):
        for order in range(3):
            for z in (0.3 + 0.4j, -0.3 + 0.4j, -0.3 - 0.4j, -2 + 1j, -50 - 3j, 2 - 1j):
                expected = complex(mpmath.diff(reference, mpmath.mpc(z), order, h=mpmath.mpf(10) ** -20))
                assert complex(ours(z)) == pytest.approx(expected, rel=1e-9, abs=1e-12), (order, z)
            ours = fg.grad(ours, holomorphic=True)


# ---------------------------------------------------------------- powers


def test_newtons_method_reaches_the_minimum_of_a_power_law_from_exponent_zero():
    def loss(p):
        return (p[0] ** p[1] - 1.1) ** 2 + (p[0] - 1.5) ** 2

    with fg.enable_x64():
        p = jnp.array([1.4, 0.0])
        np.testing.assert_allclose(fg.hessian(loss)(p), np.transpose(fg.hessian(loss)(p)))
        for _ in range(8):
            p = p - jnp.array(np.linalg.solve(fg.hessian(loss)(p), fg.grad(loss)(p)))
        np.testing.assert_allclose(p, [1.5, np.log(1.1) / np.log(1.5)], rtol=1e-9)


def test_zero_to_the_power_zero_is_constant_in_its_base():
    first, second = fg.grad(jnp.power), fg.grad(fg.grad(jnp.power))
    assert float(first(0.0, 0.0)) == float(second(0.0, 0.0)) == 0.0
    assert float(first(0.0, 1.0)) == 1.0 and float(second(0.0, 1.0)) == 0.0 and float(second(0.0, 2.0)) == 2.0
    # Exponents of one array: one has the guard for 0⁰, the others must not notice.
    mixed = fg.grad(lambda y: jnp.sum(fg.vmap(first)(jnp.array([0.0, 2.0]), y)))(jnp.zeros(2))
    assert float(mixed[1]) == 0.5


# ---------------------------------------------------------------- rounding, bits and integers

PIECEWISE: dict[str, tuple[Callable[..., Any], list[Point]]] = {
    "floor": (jnp.floor, _at(2.5, -2.5)),
    "ceil": (jnp.ceil, _at(2.5, -2.5)),
    "trunc": (jnp.trunc, _at(2.5, -2.5)),
    "rint": (jnp.rint, _at(2.4, -2.4)),
    "round": (lambda x: jnp.round(x, 1), _at(2.44, -2.44)),
    "lax.round": (lax.round, _at(2.4, -2.4)),
    "sign": (jnp.sign, _at(2.5, -2.5)),
    "signbit": (lambda x: jnp.where(jnp.signbit(x), -3 * x, x), _at(2.5, -2.5)),
    "copysign": (jnp.copysign, [(2.5, -1.0), (-2.5, 1.0), (-2.5, -1.0)]),
    "fraction of modf": (lambda x: jnp.modf(x)[0], _at(2.5, -2.5)),
    "whole of modf": (lambda x: jnp.modf(x)[1], _at(2.5, -2.5)),
    "mantissa of frexp": (lambda x: jnp.frexp(x)[0], _at(3.0, 2.5, -0.1)),
    "exponent of frexp": (lambda x: x * jnp.frexp(x)[1], _at(3.0, -0.1)),
    "ldexp": (lambda x: jnp.ldexp(x, 3), _at(2.5)),
    "spacing": (jnp.spacing, _at(2.5, -2.5)),
    "nextafter": (jnp.nextafter, [(2.5, 3.0), (-2.5, 3.0)]),
    "floor_divide": (jnp.floor_divide, [(5.3, 2.0), (-5.3, 2.0)]),
    "remainder": (jnp.remainder, [(5.3, 2.0), (-5.3, 2.0), (5.3, -2.0)]),
    "fmod": (jnp.fmod, [(5.3, 2.0), (-5.3, 2.0), (5.3, -2.0)]),
    "lax.rem": (lax.rem, [(5.3, 2.0), (-5.3, 2.0)]),
    "quotient of divmod": (lambda x, y: jnp.divmod(x, y)[0], [(5.3, 2.0), (-5.3, 2.0)]),
    "rest of divmod": (lambda x, y: jnp.divmod(x, y)[1], [(5.3, 2.0), (-5.3, 2.0)]),
    "heaviside": (jnp.heaviside, [(0.5, 2.0), (-0.5, 2.0)]),
    "nan_to_num": (jnp.nan_to_num, _at(2.5)),
    "fmax": (jnp.fmax, [(2.5, 1.0), (1.0, 2.5)]),
    "fmin": (jnp.fmin, [(2.5, 1.0), (1.0, 2.5)]),
    "clip": (lambda x: jnp.clip(x, -1.0, 1.0), _at(0.5, 2.0)),
    "angle": (jnp.angle, _at(2.5, -2.5)),
    "angle in degrees": (lambda x, y: jnp.angle(lax.complex(x, y), deg=True), [(1.0, 2.0), (-1.0, 2.0)]),
    "real and imag": (lambda x, y: jnp.real(lax.complex(x, y)) * jnp.imag(lax.complex(x, y)), [(1.0, 2.0)]),
    "view of pairs as complex": (
        lambda x, y: jnp.abs(jnp.stack([x, y]).view(jnp.complex128))[0],
        [(3.0, 4.0), (-1.0, 2.0)],
    ),
    "view of complex as pairs": (
        lambda x, y: jnp.prod(jnp.stack([lax.complex(x, y)]).view(jnp.float64)),
        [(3.0, 4.0), (-1.0, 2.0)],
    ),
    "unwrap": (lambda x, y: jnp.unwrap(jnp.stack([x, y]))[1], [(0.0, 5.0), (0.1, 4.0), (0.0, 1.0)]),
    "interp": (lambda x, y: jnp.interp(x, jnp.array([0.0, 1.0, 3.0]), jnp.stack([y, 2 * y, y * y])), [(0.5, 3.0)]),
    "percentile": (lambda x, y: jnp.percentile(jnp.stack([x, y, 3 * y]), 30.0), [(1.0, 2.0), (2.0, 1.0)]),
    "sort": (lambda x, y: jnp.sort(jnp.stack([x, y, 1.5 * x]))[1], [(1.0, 2.0), (2.0, 1.0)]),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_functions_of_rounding_and_bits_have_the_derivatives_of_finite_differences(name):
    f, points = PIECEWISE[name]
    with fg.enable_x64():
        for point in points:
            check_grads(f, point, order=2, atol=1e-5)
            check_grads(fg.jit(f), point, order=1, atol=1e-5)


def test_derivatives_through_integers_are_zero():
    """By definition: the map is a staircase with as many steps as there are numbers, and JAX gives 0."""
    x = jnp.array([1.5, 2.5])
    assert not fg.grad(lambda x: jnp.sum(x.view(jnp.int32).view(jnp.float32)))(x).any()
    assert not fg.grad(lambda x: jnp.sum(lax.bitcast_convert_type(x, jnp.int32)).astype(jnp.float32))(x).any()
    assert not fg.grad(lambda x: jnp.sum(x.astype(jnp.int32).astype(jnp.float32)))(x).any()
    assert fg.grad(lambda x: jnp.sum(x.astype(jnp.float16).astype(jnp.float32)))(x).all()


def test_the_quotient_in_the_derivative_of_a_remainder_is_exact():
    """1.0 / 0.1 rounds to 10, but 0.1 in float32 goes into 1 only nine times."""
    x, y = np.array([1.0, -1.0, 1.0, 0.6, 7.0], np.float32), np.array([0.1, 0.1, -0.1, 0.2, 1.0], np.float32)
    for ours, theirs in ((jnp.fmod, np.trunc), (jnp.remainder, np.floor)):
        slope = fg.jit(fg.vmap(fg.grad(ours, 1)))(x, y)
        np.testing.assert_array_equal(slope, -theirs(x.astype(np.float64) / y.astype(np.float64)))


def test_the_fraction_of_a_negative_whole_number_is_negative_zero_with_slope_one():
    assert float(fg.grad(lambda x: jnp.modf(x)[0])(-3.0)) == 1.0 and np.signbit(jnp.modf(-3.0)[0])


# ---------------------------------------------------------------- ties, and values that rounding moved


def test_quantiles_between_equal_elements_share_the_derivative_by_their_weights():
    slope = fg.grad(lambda x: jnp.percentile(x, 30.0))(jnp.array([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(slope, [0.4, 0.6, 0.0], rtol=1e-6)
    assert float(jnp.percentile(jnp.full(5, 0.1), 30.0)) == np.float32(0.1)
    ends = jnp.array([-jnp.inf, -jnp.inf, 1.0, jnp.inf, jnp.inf])
    np.testing.assert_array_equal(jnp.percentile(ends, jnp.array([10.0, 50.0, 90.0])), [-np.inf, 1.0, np.inf])


def test_weights_of_zero_have_their_derivative_in_logsumexp():
    slope = fg.grad(lambda b: nn.logsumexp(jnp.array([1.0, 2.0]), b=b))
    np.testing.assert_allclose(slope(jnp.array([0.0, 1.0])), [np.exp(-1), 1.0], rtol=1e-6)
    # A huge element that does not count leaves the sum, and its derivative by the others, alone.
    value, slopes = fg.value_and_grad(lambda a: nn.logsumexp(a, b=jnp.array([0.0, 1.0])))(jnp.array([1e4, 2.0]))
    assert float(value) == 2.0
    np.testing.assert_array_equal(slopes, [0.0, 1.0])


def test_targets_of_zero_have_mixed_derivatives_in_kl_divergence():
    log_p, q = jnp.log(jnp.array([0.25, 0.75])), jnp.array([0.0, 1.0])
    mixed = fg.jacfwd(fg.grad(nn.kl_divergence), 1)(log_p, q)
    np.testing.assert_allclose(mixed, -np.eye(2), rtol=1e-6)
    assert float(nn.kl_divergence(jnp.array([-jnp.inf, 0.0]), q)) == 0.0


@pytest.mark.parametrize("bounds", [(0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (0.0, 0.4, 1.0)])
def test_triangular_draws_have_derivatives_where_the_mode_is_a_bound(bounds):
    with fg.enable_x64():
        slope = fg.grad(lambda b: jnp.sum(fg.random.triangular(fg.random.key(0), *b, (5,))))(jnp.array(bounds))
        # Moving all three moves the draws along, and scaling all three scales them.
        np.testing.assert_allclose(jnp.sum(slope), 5.0, rtol=1e-9)
        draws = fg.random.triangular(fg.random.key(0), *bounds, (5,))
        np.testing.assert_allclose(slope @ np.array(bounds), jnp.sum(draws), rtol=1e-9)
