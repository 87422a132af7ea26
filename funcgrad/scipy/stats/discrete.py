"""Distributions of counts."""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.promotion import broadcast_shapes
from funcgrad.core.array_types import aval_of
from funcgrad.scipy.special.declare import real_operands
from funcgrad.scipy.special.elementary import entr, xlog1py, xlogy
from funcgrad.scipy.special.gammas import betaln, gammaincc, gammaln
from funcgrad.scipy.stats.declare import Distribution, within

__all__ = ["bernoulli", "betabinom", "binom", "geom", "nbinom", "poisson"]

INF = math.inf


def _probability(p: Any, value: Any) -> Any:
    return jnp.where((p >= 0) & (p <= 1), value, jnp.nan)


bernoulli = Distribution(
    "bernoulli",
    "1 with probability p, else 0.",
    "k p loc",
    {"logpmf": lambda k, p: within((k == 0) | (k == 1), k, 0, lambda v: xlogy(v, p) + xlog1py(1 - v, -p), -INF)},
    "pmf",
)


def _bernoulli_cdf(k: Any, p: Any) -> Any:
    """The distribution function of the distribution `bernoulli`."""
    k, p = real_operands("bernoulli.cdf", k, p)
    value = jnp.where(k < 0, 0, jnp.where(k < 1, 1 - p, 1))
    return _probability(p, jnp.where(jnp.isnan(k), jnp.nan, value))


def _bernoulli_ppf(q: Any, p: Any) -> Any:
    """The quantile function of the distribution `bernoulli`."""
    q, p = real_operands("bernoulli.ppf", q, p)
    return _probability(p, _probability(q, jnp.where(q <= 1 - p, 0, 1)))


bernoulli.cdf, bernoulli.ppf = _bernoulli_cdf, _bernoulli_ppf  # ty: ignore[missing-attribute]


def _log_comb(n: Any, k: Any) -> Any:
    """The logarithm of the number of combinations."""
    return -jnp.log1p(n) - betaln(n - k + 1, k + 1)


def _binom(k: Any, n: Any, p: Any) -> Any:
    return within((k >= 0) & (k <= n), k, 0, lambda v: _log_comb(n, v) + xlogy(v, p) + xlog1py(n - v, -p), -INF)


binom = Distribution("binom", "Successes in n trials.", "k n p loc", {"logpmf": _binom}, "pmf")


def _betabinom(k: Any, n: Any, a: Any, b: Any) -> Any:
    k = jnp.floor(k)
    value = within((k >= 0) & (k <= n), k, 0, lambda v: _log_comb(n, v) + betaln(v + a, n - v + b) - betaln(a, b), -INF)
    return jnp.where((n < 0) | (a <= 0) | (b <= 0), jnp.nan, value)


betabinom = Distribution(
    "betabinom",
    "Successes in n trials whose probability has a beta distribution.",
    "k n a b loc",
    {"logpmf": _betabinom},
    "pmf",
)

geom = Distribution(
    "geom",
    "Trials up to the first success.",
    "k p loc",
    {"logpmf": lambda k, p: within(k > 0, k, 1, lambda v: xlog1py(v - 1, -p) + jnp.log(p), -INF)},
    "pmf",
)


def _nbinom(k: Any, n: Any, p: Any) -> Any:
    def inside(v: Any) -> Any:
        return gammaln(v + n) - gammaln(n) - gammaln(v + 1) + xlogy(n, p) + xlog1py(v, -p)

    return within(k >= 0, k, 0, inside, -INF)


nbinom = Distribution("nbinom", "Failures before the n-th success.", "k n p loc", {"logpmf": _nbinom}, "pmf")


def _poisson(k: Any, mu: Any) -> Any:
    whole = (k >= 0) & (jnp.rint(k) == k)
    return within(whole, k, 0, lambda v: xlogy(v, mu) - gammaln(v + 1) - mu, -INF)


poisson = Distribution(
    "poisson",
    "Events at a rate mu.",
    "k mu loc",
    {
        "logpmf": _poisson,
        "cdf": lambda k, mu: within(k >= 0, k, 0, lambda v: gammaincc(jnp.floor(v + 1), mu), 0),
    },
    "pmf",
)


def _poisson_entropy(mu: Any, loc: Any = 0) -> Any:
    """The entropy of a Poisson distribution: a sum up to mu = 100, and log(2πe·mu)/2 − 1/(12 mu) − … beyond."""
    mu, loc = real_operands("poisson.entropy", mu, loc)
    shape = broadcast_shapes(aval_of(mu).shape, aval_of(loc).shape)
    small = jnp.where(mu < 100, mu, 1)
    k = jnp.arange(250, dtype=mu.dtype)
    by_sum = jnp.sum(entr(jnp.exp(_poisson(k, small[..., None]))), axis=-1)
    u = 1 / jnp.where(mu < 100, 1, mu)
    large = 0.5 * jnp.log(2 * math.pi * math.e * jnp.where(mu < 100, 1, mu)) - u * (
        1 / 12 + u * (1 / 24 + u * 19 / 360)
    )
    return jnp.broadcast_to(jnp.where(mu < 100, by_sum, large), shape)


poisson.entropy = _poisson_entropy  # ty: ignore[missing-attribute]
