"""The incomplete gamma and beta functions, zeta, polygamma and Bessel functions, against mpmath and SciPy."""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
import scipy.special

from funcgrad.compiler.targets.llvm import vector_math
from tests.compiler.targets.llvm import test_vector_math

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

COUNT = 24  # points of each kind


def spread(rng: np.random.Generator, low: float, high: float, count: int = COUNT) -> np.ndarray:
    return 10.0 ** rng.uniform(low, high, count)


def gamma_points(rng: np.random.Generator) -> list[np.ndarray]:
    """Ordinary, of every size, far below and above, and in the bulk of the distribution."""
    large = spread(rng, 0, 5)
    a = np.concatenate([rng.uniform(0, 40, COUNT), spread(rng, -8, 5), large, large])
    near = np.abs(large + rng.normal(0, 2, COUNT) * np.sqrt(large))
    x = np.concatenate([rng.uniform(0, 40, COUNT), spread(rng, -8, 3), large * rng.uniform(0.2, 3, COUNT), near])
    return [a, x]


def beta_points(rng: np.random.Generator) -> list[np.ndarray]:
    a = np.concatenate([rng.uniform(0, 40, COUNT), spread(rng, -4, 2), spread(rng, 0, 3)])
    b = np.concatenate([rng.uniform(0, 40, COUNT), spread(rng, -4, 2), spread(rng, 0, 3)])
    x = np.where(np.arange(a.size) < 2 * COUNT, rng.uniform(0, 1, a.size), a / (a + b) * rng.uniform(0.8, 1, a.size))
    return [a, b, x]


def zeta_points(rng: np.random.Generator) -> list[np.ndarray]:
    s = np.concatenate([1 + spread(rng, -3, 1.5), rng.uniform(1, 30, COUNT), rng.integers(2, 9, COUNT)])
    q = np.concatenate([spread(rng, -2, 3), rng.uniform(0, 30, COUNT), rng.uniform(-30, 0, COUNT)])
    return [s, q]


def polygamma_points(rng: np.random.Generator) -> list[np.ndarray]:
    x = np.concatenate([spread(rng, -2, 3), rng.uniform(0, 30, COUNT), rng.uniform(-4, 0, COUNT)])
    return [rng.integers(0, 12, x.size).astype(float), x]


def bessel_points(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.normal(0, 20, 4 * COUNT), spread(rng, -8, 3)])


def lower(a: mp.mpf, x: mp.mpf) -> mp.mpf:
    return mp.gammainc(a, 0, x, regularized=True)


def lower_by_a(a: mp.mpf, x: mp.mpf) -> mp.mpf:
    """A central difference of the smaller of P and Q with 700 bits: its error is about 2^-200."""
    with mp.workprec(700):
        sign, limits = (1, (0, x)) if x < a else (-1, (x, mp.inf))
        h = a * mp.mpf(2) ** -120
        above, below = (mp.gammainc(a + d, *limits, regularized=True) for d in (h, -h))
        return sign * (above - below) / (2 * h)


def sample_by_a(a: mp.mpf, x: mp.mpf) -> mp.mpf:
    return -lower_by_a(a, x) / mp.exp((a - 1) * mp.log(x) - x - mp.loggamma(a))


def scaled_bessel(order: mp.mpf, x: mp.mpf) -> mp.mpf:
    return mp.exp(-abs(x)) * mp.besseli(order, x)


FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "bessel_i0e": (lambda x: scaled_bessel(0, x), lambda rng: [bessel_points(rng)]),
    "bessel_i1e": (lambda x: scaled_bessel(1, x), lambda rng: [bessel_points(rng)]),
    "bessel_ive": (scaled_bessel, lambda rng: [rng.integers(0, 30, 5 * COUNT).astype(float), bessel_points(rng)]),
    "igamma": (lower, gamma_points),
    "igammac": (lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True), gamma_points),
    "igamma_grad_a": (lower_by_a, gamma_points),
    "random_gamma_grad": (sample_by_a, gamma_points),
    "regularized_incomplete_beta": (lambda a, b, x: mp.betainc(a, b, 0, x, regularized=True), beta_points),
    "zeta": (mp.zeta, zeta_points),
    "polygamma": (lambda m, x: mp.polygamma(int(m), x), polygamma_points),
}
# Of these the exponent of a tiny result limits the precision.
SCALED = {"igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "regularized_incomplete_beta"}


def test_every_function_has_a_reference():
    others = {*test_vector_math.UNARY, *test_vector_math.SPECIAL, *test_vector_math.BINARY}
    assert set(vector_math.names()) == others | set(FUNCTIONS) == set(vector_math.ULP_BOUNDS)
    assert {name for name in vector_math.names() if vector_math.arity(name) == 1} == others - set(
        test_vector_math.BINARY
    ) | {"bessel_i0e", "bessel_i1e"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_within_the_bounds(name, dtype):
    reference, points = FUNCTIONS[name]
    arguments = [v.astype(dtype) for v in points(np.random.default_rng(17))]
    actual = test_vector_math.compiled(name, dtype)(*arguments)
    with mp.workprec(160):
        values = [mp.re(reference(*map(mp.mpf, map(float, point)))) for point in zip(*arguments, strict=True)]
        expected = np.array([float(v) for v in values])
        rest = np.array([float(v - mp.mpf(e)) for v, e in zip(values, expected, strict=True)])
    tiny = np.abs(expected) < np.finfo(dtype).tiny * 4
    scale = expected * (np.maximum(1, -np.log(np.abs(expected))) if name in SCALED else 1)
    difference = (actual.astype(np.float64) - expected).astype(np.float64)
    ulp = np.finfo(dtype).eps / 2 * np.abs(scale)
    error = np.where(tiny, 0, np.abs(difference - rest) / np.where(tiny, 1, ulp)) / 2
    worst = int(np.nanargmax(error))
    bound = vector_math.ULP_BOUNDS[name][dtype is np.float64]
    assert np.array_equal(np.isfinite(actual), np.abs(expected) < np.finfo(dtype).max)
    assert error[worst] <= bound, f"{name}{tuple(float(v[worst]) for v in arguments)} = {actual[worst]}: {error[worst]}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if vector_math.arity(n) > 1])
def test_results_do_not_depend_on_the_other_numbers_of_a_vector(name, dtype):
    arguments = [v.astype(dtype) for v in FUNCTIONS[name][1](np.random.default_rng(18))]
    kernel = test_vector_math.compiled(name, dtype)
    one_by_one = np.concatenate([kernel(*(v[i : i + 1] for v in arguments)) for i in range(arguments[0].size)])
    np.testing.assert_array_equal(kernel(*arguments), one_by_one)


def _edges(*numbers: float) -> np.ndarray:
    return np.array([*numbers, np.inf, -np.inf, np.nan])


E0 = _edges(0, -0.0, 0.5, 1, 2, 3, -0.5, -1, -2)
LIMITS = {
    "igamma": (scipy.special.gammainc, [E0, E0]),
    "igammac": (scipy.special.gammaincc, [E0, E0]),
    "bessel_i0e": (scipy.special.i0e, [E0]),
    "bessel_i1e": (scipy.special.i1e, [E0]),
    "bessel_ive": (lambda n, x: np.where(np.isinf(x), 0, scipy.special.ive(n, x)), [np.array([0.0, 1, 2, 5]), E0]),
    "regularized_incomplete_beta": (scipy.special.betainc, [E0[2:6], E0[2:6], _edges(0, 0.25, 1, -0.5, 1.5)]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LIMITS)
def test_limits(name, dtype):
    reference, axes = LIMITS[name]
    arguments = [v.ravel().astype(dtype) for v in np.meshgrid(*axes, indexing="ij")]
    expected = reference(*(v.astype(np.float64) for v in arguments))
    np.testing.assert_allclose(
        test_vector_math.compiled(name, dtype)(*arguments), expected, rtol=1e-12 if dtype is np.float64 else 2e-6
    )
