"""Samples that need loops: the gamma distribution and its relatives, and counts."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import stats

import funcgrad as fg
from funcgrad import random
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.testing import assert_close

KEY = random.key(42)
A = np.linspace(0.05, 9, 12).astype(np.float32).reshape(3, 4)
COV = (np.eye(3) + 0.5).astype(np.float32)
JAX = [
    ("gamma", {"a": A}),
    ("gamma", {"a": 0.3, "shape": (5, 4)}),
    ("loggamma", {"a": A}),
    ("beta", {"a": A, "b": A[::-1].copy()}),
    ("dirichlet", {"alpha": A[0], "shape": (4,)}),
    ("t", {"df": A}),
    ("chisquare", {"df": A}),
    ("f", {"dfnum": A, "dfden": 3.0}),
    ("generalized_normal", {"p": 1.5, "shape": (7,)}),
    ("ball", {"d": 3, "p": 1.5, "shape": (4,)}),
    ("double_sided_maxwell", {"loc": A[0], "scale": 2.0, "shape": (2,)}),
    ("multivariate_normal", {"mean": A[0, :3], "cov": COV, "shape": (4,)}),
    ("poisson", {"lam": A * 5}),
    ("poisson", {"lam": 100.0, "shape": (50,)}),
    ("binomial", {"n": np.floor(A * 30), "p": 0.3}),
    ("binomial", {"n": 1000.0, "p": A / 10}),
    ("multinomial", {"n": 100, "p": np.float32([0.2, 0.3, 0.5])}),
]


@pytest.mark.oracle
@pytest.mark.parametrize("name, arguments", JAX, ids=[f"{name}-{i}" for i, (name, _) in enumerate(JAX)])
def test_jax_values(name, arguments):
    import jax

    ours = np.asarray(getattr(random, name)(KEY, **arguments))
    theirs = np.asarray(getattr(jax.random, name)(jax.random.key(42), **arguments))
    assert ours.dtype == theirs.dtype
    assert_close(ours, theirs, rtol=5e-6, atol=1e-6)


N = 4000
LAWS = [
    ("gamma", {"a": 2.5}, stats.gamma(2.5)),
    ("gamma", {"a": 0.4}, stats.gamma(0.4)),
    ("beta", {"a": 2.0, "b": 0.5}, stats.beta(2.0, 0.5)),
    ("t", {"df": 3.0}, stats.t(3)),
    ("chisquare", {"df": 5.0}, stats.chi2(5)),
    ("f", {"dfnum": 4.0, "dfden": 7.0}, stats.f(4, 7)),
    ("generalized_normal", {"p": 1.5}, stats.gennorm(1.5)),
]


@pytest.mark.parametrize("name, arguments, law", LAWS, ids=[f"{case[0]}-{i}" for i, case in enumerate(LAWS)])
def test_continuous_laws(name, arguments, law):
    draws = np.asarray(getattr(random, name)(KEY, **arguments, shape=(N,)))
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "name, arguments, law",
    [
        ("poisson", {"lam": 3.0}, stats.poisson(3)),
        ("poisson", {"lam": 40.0}, stats.poisson(40)),
        ("binomial", {"n": 20.0, "p": 0.2}, stats.binom(20, 0.2)),
        ("binomial", {"n": 200.0, "p": 0.7}, stats.binom(200, 0.7)),
    ],
)
def test_laws_of_counts(name, arguments, law):
    draws = np.asarray(getattr(random, name)(KEY, **arguments, shape=(N,)))
    values = np.unique(draws)
    below = np.array([(draws <= v).mean() for v in values])
    assert np.abs(below - law.cdf(values)).max() < 1.95 / np.sqrt(N)


def test_moments_of_vectors():
    normals = np.asarray(random.multivariate_normal(KEY, np.float32([1, 2, 3]), COV, (N,)))
    assert_close(normals.mean(0), np.array([1.0, 2, 3]), atol=0.1, rtol=0)
    assert_close(np.cov(normals.T), COV.astype(float), atol=0.15, rtol=0)
    assert_close(np.asarray(random.dirichlet(KEY, A[0], (5,))).sum(-1), np.ones(5, np.float32))
    assert np.asarray(random.multinomial(KEY, 50, np.full(4, 0.25, np.float32))).sum() == 50
    assert (np.linalg.norm(random.ball(KEY, 3, shape=(50,)), axis=1) < 1).all()


@pytest.mark.parametrize("name", ["gamma", "loggamma"])
def test_derivatives_keep_the_quantile(name):
    """dx/da of F(x; a) = u at the same u, by differences of SciPy's quantile function."""
    sample = getattr(random, name)
    with fg.enable_x64():
        a = np.array([0.3, 1.5, 8.0, 50.0])
        draws = np.asarray(random.gamma(KEY, a))
        slope = np.asarray(fg.grad(lambda a: sample(KEY, a).sum())(a))
    h = 1e-5 * a
    quantiles = stats.gamma.cdf(draws, a)
    expected = (stats.gamma.ppf(quantiles, a + h) - stats.gamma.ppf(quantiles, a - h)) / (2 * h)
    assert_close(slope, expected / draws if name == "loggamma" else expected, rtol=1e-5)


def test_vmap_over_keys_is_a_loop():
    keys = random.split(KEY, 3)
    for name, arguments in (("gamma", {"a": 0.7}), ("poisson", {"lam": 12.0}), ("binomial", {"n": 30.0, "p": 0.5})):
        function = functools.partial(getattr(random, name), **arguments)
        assert_close(fg.vmap(function)(keys), np.stack([function(k) for k in keys]))


def test_special_parameters():
    assert random.poisson(KEY, np.float32([0.0]))[0] == 0
    assert_close(
        random.binomial(KEY, np.float32([-1, 5, 5, 5]), np.float32([0.5, np.nan, 0, 1])),
        np.float32([np.nan, np.nan, 0, 5]),
    )
    assert np.isfinite(random.loggamma(KEY, 1e-3, (20,))).all()


def test_wrong_parameters():
    with pytest.raises(ShapeError, match="gamma: shapes"):
        random.gamma(KEY, A, (5,))
    with pytest.raises(DTypeError, match="poisson: dtype float32 is not an integer"):
        random.poisson(KEY, 2.0, dtype="float32")
    with pytest.raises(ArgumentError, match="multivariate_normal: unknown method 'qr'"):
        random.multivariate_normal(KEY, A[0, :3], COV, method="qr")
    with pytest.raises(ShapeError, match="multivariate_normal: mean"):
        random.multivariate_normal(KEY, A[0], COV)
    with pytest.raises(ShapeError, match="dirichlet: alpha is a scalar"):
        random.dirichlet(KEY, 1.0)
