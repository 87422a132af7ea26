"""Continuous distributions of numbers."""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.scipy.special.bessel import i0e
from funcgrad.scipy.special.elementary import expit, logit, xlog1py, xlogy
from funcgrad.scipy.special.errors import log_ndtr, ndtr, ndtri
from funcgrad.scipy.special.gammas import betainc, betaln, gammainc, gammaincc, gammaln
from funcgrad.scipy.stats.declare import Distribution, within

__all__ = [
    "beta",
    "cauchy",
    "chi2",
    "expon",
    "gamma",
    "gennorm",
    "gumbel_l",
    "gumbel_r",
    "laplace",
    "logistic",
    "norm",
    "pareto",
    "t",
    "truncnorm",
    "uniform",
    "vonmises",
    "wrapcauchy",
]

LOG_2PI, INF = math.log(2 * math.pi), math.inf

norm = Distribution(
    "norm",
    "The normal distribution.",
    "x loc scale",
    {
        "logpdf": lambda z: -0.5 * (z * z + LOG_2PI),
        "cdf": ndtr,
        "logcdf": log_ndtr,
        "sf": lambda z: ndtr(-z),
        "logsf": lambda z: log_ndtr(-z),
        "ppf": ndtri,
        "isf": lambda q: -ndtri(q),
    },
    "pdf",
)


def _cauchy_quantile(q: Any) -> Any:
    """tan(π(q − 1/2)), in the tails by the tangent of the distance to 0 or 1."""
    lower, upper = q < 0.25, q > 0.75
    near = jnp.where(lower, q, jnp.where(upper, 1 - q, 0.5))
    tail = 1 / jnp.tan(math.pi * near)
    middle = jnp.tan(math.pi * (jnp.where(lower | upper, 0.5, q) - 0.5))
    return jnp.where(lower, -tail, jnp.where(upper, tail, middle))


cauchy = Distribution(
    "cauchy",
    "The Cauchy distribution.",
    "x loc scale",
    {
        "logpdf": lambda z: -math.log(math.pi) - jnp.log1p(z * z),
        "cdf": lambda z: jnp.arctan2(jnp.ones_like(z), -z) / math.pi,
        "sf": lambda z: jnp.arctan2(jnp.ones_like(z), z) / math.pi,
        "ppf": _cauchy_quantile,
        "isf": lambda q: -_cauchy_quantile(q),
    },
    "pdf logcdf logsf",
)

laplace = Distribution(
    "laplace",
    "The Laplace distribution.",
    "x loc scale",
    {
        "logpdf": lambda z: -abs(z) - math.log(2),
        "cdf": lambda z: jnp.where(z < 0, 0.5 * jnp.exp(-abs(z)), 1 - 0.5 * jnp.exp(-abs(z))),
    },
    "pdf",
)

logistic = Distribution(
    "logistic",
    "The logistic distribution.",
    "x loc scale",
    {
        "logpdf": lambda z: -abs(z) - 2 * jnp.log1p(jnp.exp(-abs(z))),
        "cdf": expit,
        "sf": lambda z: expit(-z),
        "ppf": logit,
        "isf": lambda q: -logit(q),
    },
    "pdf",
)

uniform = Distribution(
    "uniform",
    "The uniform distribution on [loc, loc + scale].",
    "x loc scale",
    {
        "logpdf": lambda z: within((z >= 0) & (z <= 1), z, 0, lambda v: 0 * v, -INF),
        "cdf": lambda z: jnp.clip(z, 0, 1),
        "ppf": lambda q: q,
    },
    "pdf",
)


def _log_one_minus_exp(x: Any) -> Any:
    """log(1 − e⁻ˣ) for x ≥ 0."""
    small = x < math.log(2)
    near, far = jnp.where(small, x, 1), jnp.where(small, 1, x)
    return jnp.where(small, jnp.log(-jnp.expm1(-near)), jnp.log1p(-jnp.exp(-far)))


expon = Distribution(
    "expon",
    "The exponential distribution.",
    "x loc scale",
    {
        "logpdf": lambda z: within(z >= 0, z, 1, lambda v: -v, -INF),
        "cdf": lambda z: within(z >= 0, z, 1, lambda v: -jnp.expm1(-v), 0),
        "logcdf": lambda z: within(z >= 0, z, 1, _log_one_minus_exp, -INF),
        "logsf": lambda z: within(z >= 0, z, 1, lambda v: -v, 0),
        "ppf": lambda q: -jnp.log1p(-q),
    },
    "pdf sf",
)

gumbel_r = Distribution(
    "gumbel_r",
    "The distribution of the largest of many numbers.",
    "x loc scale",
    {
        "logpdf": lambda z: -z - jnp.exp(-z),
        "logcdf": lambda z: -jnp.exp(-z),
        "sf": lambda z: -jnp.expm1(-jnp.exp(-z)),
        "logsf": lambda z: _log_one_minus_exp(jnp.exp(-z)),
        "ppf": lambda q: -jnp.log(-jnp.log(q)),
    },
    "pdf cdf",
)

gumbel_l = Distribution(
    "gumbel_l",
    "The distribution of the smallest of many numbers.",
    "x loc scale",
    {
        "logpdf": lambda z: z - jnp.exp(z),
        "logsf": lambda z: -jnp.exp(z),
        "cdf": lambda z: -jnp.expm1(-jnp.exp(z)),
        "logcdf": lambda z: _log_one_minus_exp(jnp.exp(z)),
        "ppf": lambda q: jnp.log(-jnp.log1p(-q)),
    },
    "pdf sf",
)

pareto = Distribution(
    "pareto",
    "Pareto's distribution: a density b/xᵇ⁺¹ from 1.",
    "x b loc scale",
    {
        "logpdf": lambda z, b: within(z >= 1, z, 2, lambda v: jnp.log(b) - (b + 1) * jnp.log(v), -INF),
        "cdf": lambda z, b: within(z >= 1, z, 2, lambda v: -jnp.expm1(-b * jnp.log(v)), 0),
        "logcdf": lambda z, b: within(z >= 1, z, 2, lambda v: _log_one_minus_exp(b * jnp.log(v)), -INF),
        "logsf": lambda z, b: within(z >= 1, z, 2, lambda v: -b * jnp.log(v), 0),
        "ppf": lambda q, b: jnp.exp(-jnp.log1p(-q) / b),
    },
    "pdf sf",
)

t = Distribution(
    "t",
    "Student's distribution.",
    "x df loc scale",
    {"logpdf": lambda z, df: -betaln(0.5, 0.5 * df) - 0.5 * jnp.log(df) - 0.5 * (df + 1) * jnp.log1p(z * z / df)},
    "pdf",
)

gamma = Distribution(
    "gamma",
    "The gamma distribution with shape a.",
    "x a loc scale",
    {
        "logpdf": lambda z, a: within(z >= 0, z, 1, lambda v: xlogy(a - 1, v) - v - gammaln(a), -INF),
        "cdf": lambda z, a: within(z >= 0, z, 1, lambda v: gammainc(a, v), 0),
        "sf": lambda z, a: within(z >= 0, z, 1, lambda v: gammaincc(a, v), 1),
    },
    "pdf logcdf logsf",
)

chi2 = Distribution(
    "chi2",
    "The χ² distribution with df degrees of freedom: a gamma distribution of shape df/2 and scale 2.",
    "x df loc scale",
    {
        "logpdf": lambda z, df: gamma.logpdf(z, 0.5 * df, 0, 2),  # ty: ignore[missing-attribute]
        "cdf": lambda z, df: gamma.cdf(z, 0.5 * df, 0, 2),  # ty: ignore[missing-attribute]
        "sf": lambda z, df: gamma.sf(z, 0.5 * df, 0, 2),  # ty: ignore[missing-attribute]
    },
    "pdf logcdf logsf",
)


def _beta_logpdf(z: Any, a: Any, b: Any) -> Any:
    inside = (z >= 0) & (z <= 1)
    return within(inside, z, 0.5, lambda v: xlogy(a - 1, v) + xlog1py(b - 1, -v) - betaln(a, b), -INF)


beta = Distribution(
    "beta",
    "The beta distribution on [0, 1].",
    "x a b loc scale",
    {
        "logpdf": _beta_logpdf,
        "cdf": lambda z, a, b: betainc(a, b, jnp.clip(z, 0, 1)),
        "sf": lambda z, a, b: betainc(b, a, 1 - jnp.clip(z, 0, 1)),
    },
    "pdf logcdf logsf",
)

gennorm = Distribution(
    "gennorm",
    "The generalized normal distribution, a density proportional to exp(−|x|ᵝ).",
    "x beta",
    {
        "logpdf": lambda x, beta: jnp.log(0.5 * beta) - gammaln(1 / beta) - abs(x) ** beta,
        "cdf": lambda x, beta: 0.5 * (1 + jnp.sign(x) * gammainc(1 / beta, abs(x) ** beta)),
    },
    "pdf",
)

vonmises = Distribution(
    "vonmises",
    "The von Mises distribution of an angle.",
    "x kappa",
    {
        "logpdf": lambda x, kappa: jnp.where(
            kappa > 0, kappa * (jnp.cos(x) - 1) - LOG_2PI - jnp.log(i0e(kappa)), jnp.nan
        )
    },
    "pdf",
)


def _wrapcauchy_logpdf(x: Any, c: Any) -> Any:
    density = jnp.log1p(-c * c) - LOG_2PI - jnp.log(1 + c * c - 2 * c * jnp.cos(x))
    density = jnp.where((x >= 0) & (x <= 2 * math.pi), density, -INF)
    return jnp.where((c > 0) & (c < 1), density, jnp.nan)


wrapcauchy = Distribution(
    "wrapcauchy", "The wrapped Cauchy distribution of an angle.", "x c", {"logpdf": _wrapcauchy_logpdf}, "pdf"
)


def _log_mass(a: Any, b: Any) -> Any:
    """The logarithm of the probability of [a, b] under the normal distribution, from the nearer tail."""
    right = a > 0
    low, high = jnp.where(right, -b, a), jnp.where(right, -a, b)
    tail = high <= 0
    log_high, log_low = log_ndtr(jnp.where(tail, high, -1)), log_ndtr(jnp.where(tail, low, -2))
    in_tail = log_high + _log_one_minus_exp(jnp.maximum(log_high - log_low, 0))
    return jnp.where(tail, in_tail, jnp.log1p(-ndtr(low) - ndtr(-high)))


def _truncated(x: Any, a: Any, b: Any, inside: Any, below: float, above: float) -> Any:
    """`inside` between the bounds; NaN where there is nothing between them."""
    out = jnp.where(x <= a, below, jnp.where(x >= b, above, inside))
    return jnp.where((a >= b) | jnp.isnan(x), jnp.nan, out)


def _truncnorm_logpdf(x: Any, a: Any, b: Any) -> Any:
    out = jnp.where((x < a) | (x > b), -INF, -0.5 * (x * x + LOG_2PI) - _log_mass(a, b))
    return jnp.where(a >= b, jnp.nan, out)


def _truncnorm_logcdf(x: Any, a: Any, b: Any) -> Any:
    x_in = jnp.clip(x, a, b)
    below, above = _log_mass(a, x_in) - _log_mass(a, b), _log_mass(x_in, b) - _log_mass(a, b)
    near_one = below > -0.1
    value = jnp.where(near_one, jnp.log1p(-jnp.exp(jnp.where(near_one, above, -1))), below)
    return _truncated(x, a, b, value, -INF, 0)


truncnorm = Distribution(
    "truncnorm",
    "The normal distribution on [a, b], in units of scale from loc.",
    "x a b loc scale",
    {
        "logpdf": _truncnorm_logpdf,
        "logcdf": _truncnorm_logcdf,
        "logsf": lambda x, a, b: _truncnorm_logcdf(-x, -b, -a),
    },
    "pdf cdf sf",
)
