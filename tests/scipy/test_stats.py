"""scipy.stats: values of SciPy and JAX, gradients, support, statistics of samples."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import scipy.stats as oracle

import funcgrad as fg
import funcgrad.scipy.stats as stats
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.testing import assert_close, check_jit, check_vmap

X = np.array([-3.1, -0.4, 0.3, 0.9, 1.3, 2.6, 14.0])
K = np.array([-1.0, 0, 1, 2, 4, 5, 9])
CENTER = np.array([0.1, 0.2])
Q = np.array([1e-6, 0.2, 0.5, 0.97, 0.0, 1.0])
# name: (points, shape parameters, whether it has loc, whether it has scale)
DISTRIBUTIONS = {
    **dict.fromkeys(
        ("cauchy", "expon", "gumbel_l", "gumbel_r", "laplace", "logistic", "norm", "uniform"), (X, (), True, True)
    ),
    **dict.fromkeys(("chi2", "gamma", "pareto", "t"), (X, (2.3,), True, True)),
    "bernoulli": (K, (0.3,), True, False),
    "beta": (X, (1.4, 0.6), True, True),
    "betabinom": (K, (5.0, 0.7, 1.8), True, False),
    "binom": (K, (5.0, 0.3), True, False),
    "gennorm": (X, (1.7,), False, False),
    "geom": (K, (0.3,), True, False),
    "nbinom": (K, (2.5, 0.3), True, False),
    "poisson": (K, (2.2,), True, False),
    "truncnorm": (X, (-0.7, 1.6), True, True),
    "vonmises": (X, (1.7,), False, False),
    "wrapcauchy": (np.abs(X), (0.4,), False, False),
}
CASES = [
    (name, method)
    for name in DISTRIBUTIONS
    for method in dir(getattr(stats, name))
    if not method.startswith("_") and method != "entropy"
]


def arguments(name: str, method: str) -> list:
    points, shapes, loc, scale = DISTRIBUTIONS[name]
    accepted = inspect.signature(getattr(getattr(stats, name), method)).parameters
    loc_scale = [v for v, has in ((1.0, loc and "loc" in accepted), (1.7, scale)) if has]
    quantiles = Q[:4] if name == "bernoulli" else Q  # at 0, SciPy's quantile is below the support
    return [quantiles if method in ("ppf", "isf") else points, *shapes, *loc_scale]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_values_are_scipys(name: str):
    with enable_x64():
        for method in (m for n, m in CASES if n == name):
            args = arguments(name, method)
            expected = getattr(getattr(oracle, name), method)(*args)
            ours = getattr(getattr(stats, name), method)(*args)
            assert_close(ours, np.asarray(expected, np.float64), rtol=1e-10, atol=1e-12, what=f"{name}.{method}")


def test_the_tails_have_their_digits():
    with enable_x64():
        far = np.array([30.0])
        for name in ("expon", "gumbel_r", "norm", "logistic", "cauchy"):
            assert_close(getattr(stats, name).sf(far), getattr(oracle, name).sf(far), rtol=1e-12)
        assert_close(stats.truncnorm.logcdf(9.0, 8.0, 12.0), oracle.truncnorm.logcdf(9.0, 8.0, 12.0), rtol=1e-12)
        assert_close(stats.beta.sf(1 - 1e-9, 2.0, 3.0), oracle.beta.sf(1 - 1e-9, 2.0, 3.0), rtol=1e-6)


@pytest.mark.oracle
def test_methods_signatures_and_types_are_jaxs(jax):
    theirs = jax.scipy.stats
    for name, method in CASES:
        ours, other = (getattr(getattr(s, name), method) for s in (stats, theirs))
        assert list(inspect.signature(ours).parameters)[1:] == list(inspect.signature(other).parameters)[1:], name
        args = [np.float32(a) for a in arguments(name, method)]
        mine, wanted = (lib.eval_shape(lambda f=f, a=args: f(*a)) for lib, f in ((fg, ours), (jax, other)))
        assert (mine.shape, mine.dtype) == (wanted.shape, wanted.dtype), name
    methods = {n: {m for m in dir(getattr(theirs, n)) if m[0] != "_"} for n in DISTRIBUTIONS}
    assert {n: m - set(dir(getattr(stats, n))) for n, m in methods.items()} == {n: set() for n in methods}


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["beta", "nbinom", "pareto", "t", "truncnorm", "vonmises"])
def test_gradients_by_parameters_are_jaxs(jax, name: str):
    method = "logpmf" if name == "nbinom" else "logpdf"
    args = [np.float32(a) for a in arguments(name, method)]
    inside = np.isfinite(np.asarray(getattr(getattr(stats, name), method)(*args)))
    args[0] = args[0][inside]  # JAX's gradients are NaN outside of the support

    def gradient(lib, f):
        total = lambda *a: f(*a).sum()  # noqa: E731
        return lib.jit(lib.grad(total, tuple(range(1, len(args)))))(*args)

    ours = gradient(fg, getattr(getattr(stats, name), method))
    theirs = gradient(jax, getattr(getattr(jax.scipy.stats, name), method))
    assert_close(ours, tuple(map(np.asarray, theirs)), rtol=1e-3, atol=1e-4)


def test_outside_the_support_gradients_are_zero():
    for name, x in (("gamma", -1.0), ("expon", -1.0), ("pareto", 0.5), ("beta", 1.5), ("poisson", -1.0)):
        shapes = DISTRIBUTIONS[name][1]
        method = "logpmf" if name == "poisson" else "logpdf"
        assert getattr(getattr(stats, name), method)(x, *shapes) == -np.inf
        grads = fg.grad(getattr(getattr(stats, name), method), tuple(range(1 + len(shapes))))(x, *shapes)
        assert all(np.isfinite(g) for g in grads), name


def test_jit_and_vmap():
    def total(x, q):
        return stats.norm.logcdf(x) + stats.truncnorm.logpdf(x, -1.0, 2.0) + stats.gamma.sf(x, 2.0) + stats.norm.ppf(q)

    x, q = np.float32([0.3, 1.2]), np.float32([0.2, 0.9])
    check_jit(total, (x, q))
    check_vmap(fg.grad(total), (x, q))


def test_distributions_of_vectors():
    rng = np.random.default_rng(0)
    with enable_x64():
        p, alpha = np.array([0.2, 0.5, 0.3]), np.array([1.5, 2.0, 0.7])
        assert_close(stats.dirichlet.logpdf(p, alpha), oracle.dirichlet.logpdf(p, alpha), check_dtypes=False)
        assert_close(stats.dirichlet.pdf(p[:2], alpha), oracle.dirichlet.pdf(p[:2], alpha), check_dtypes=False)
        assert stats.dirichlet.logpdf(2 * p, alpha) == -np.inf
        counts = np.array([[1, 2, 3], [0, 6, 0], [1, 1, 1]])
        expected = oracle.multinomial.logpmf(counts, 6, p)
        assert_close(stats.multinomial.logpmf(counts, 6, p), expected, check_dtypes=False)
        a, mean, x = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=(4, 3))
        cov = a @ a.T + np.eye(3)
        for covariance in (cov, 2.0):
            expected = oracle.multivariate_normal.logpdf(x, mean, covariance)
            assert_close(stats.multivariate_normal.logpdf(x, mean, covariance), expected)
        assert_close(stats.multivariate_normal.pdf(0.3, 0.1, 2.0), oracle.multivariate_normal.pdf(0.3, 0.1, 2.0))
    for call in (
        lambda: stats.dirichlet.logpdf(p, cov),
        lambda: stats.dirichlet.logpdf(p, alpha[:1]),
        lambda: stats.multivariate_normal.logpdf(x, mean, cov[:2]),
    ):
        with pytest.raises(ShapeError):
            call()
    with pytest.raises(DTypeError):
        stats.multinomial.logpmf(p, 1, p)


def test_entropy_of_poisson():
    mu = np.array([0.0, 0.5, 7.0, 60.0, 99.0, 101.0, 5000.0])
    with enable_x64():
        assert_close(stats.poisson.entropy(mu), oracle.poisson.entropy(mu), rtol=1e-8)


def test_statistics_of_samples():
    a = np.array([[3, 1, 3, 2], [2, 2, 1, 1], [5, 4, 4, 5]])
    for axis in (0, 1, None):
        for keepdims in (False, True):
            expected = oracle.mode(a, axis=axis, keepdims=keepdims)
            found = stats.mode(a, axis, keepdims=keepdims)
            assert_close(tuple(found), tuple(map(np.asarray, expected)), check_dtypes=False)
    for method in ("average", "min", "max", "dense", "ordinal"):
        for axis in (None, 1):
            expected = oracle.rankdata(a, method, axis=axis)
            ours = stats.rankdata(a, method, axis=axis)
            assert_close(ours, np.asarray(expected).reshape(ours.shape), check_dtypes=False)
    assert np.isnan(stats.rankdata(np.array([1.0, np.nan]))).all()
    x = np.array([[1.0, 2, np.nan], [3, 5, 1]])
    with enable_x64():
        for policy in ("propagate", "omit"):
            expected = oracle.sem(x, axis=1, nan_policy=policy)
            assert_close(stats.sem(x, 1, nan_policy=policy), np.asarray(expected))
    for call in (
        lambda: stats.mode(a, nan_policy="omit"),
        lambda: stats.rankdata(a, "first"),
        lambda: stats.sem(a, nan_policy="raise"),
    ):
        with pytest.raises(ArgumentError):
            call()


def test_gaussian_kde():
    rng = np.random.default_rng(1)
    data, points, weights = rng.normal(size=(2, 20)), rng.normal(size=(2, 5)), rng.uniform(size=20)
    with enable_x64():
        for method in (None, "silverman", 0.4):
            ours, theirs = (lib.gaussian_kde(data, method, weights) for lib in (stats, oracle))
            assert_close(ours(points), theirs(points), rtol=1e-10)
            assert_close(ours.logpdf(points), theirs.logpdf(points), rtol=1e-10)
        assert_close(ours.integrate_gaussian(CENTER, np.eye(2)), theirs.integrate_gaussian(CENTER, np.eye(2)))
        assert_close(ours.integrate_kde(ours), theirs.integrate_kde(theirs))
        line = [lib.gaussian_kde(data[0]) for lib in (stats, oracle)]
        assert_close(line[0].integrate_box_1d(-0.5, 0.7), np.asarray(line[1].integrate_box_1d(-0.5, 0.7)), rtol=1e-10)
    samples = ours.resample(fg.random.key(0), (3000,))
    assert samples.shape == (2, 3000)
    np.testing.assert_allclose(samples.mean(1), np.average(data, axis=1, weights=weights), atol=0.1)
    evaluate = fg.jit(lambda kde, x: kde(x))
    small = stats.gaussian_kde(data.astype(np.float32))
    assert_close(evaluate(small, points.astype(np.float32)), np.asarray(small(points.astype(np.float32))))
    with pytest.raises(ArgumentError):
        stats.gaussian_kde(data, "sheather")
    with pytest.raises(ShapeError):
        small(np.ones((3, 4), np.float32))
