"""Losses of real predictions and targets of one shape; one term per element."""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import broadcast_to, promote_inexact
from funcgrad.nn.labels import validity
from funcgrad.nn.losses.reduction import as_pair, reduce
from funcgrad.ops.special import lgamma_p


def mse(predictions: Any, targets: Any, *, weights: Any = None, where: Any = None, reduction: str = "mean") -> Any:
    """Squared error: (x − y)².

    >>> mse(jnp.array([1.0, 2.0, 9.0]), jnp.array([0.0, 0.0, 0.0]), where=jnp.array([True, True, False]))
    Array(2.5, dtype=float32)
    """
    x, y = as_pair("mse", predictions, targets)
    return reduce("mse", jnp.square(x - y), weights, where, reduction)


def mae(predictions: Any, targets: Any, *, weights: Any = None, where: Any = None, reduction: str = "mean") -> Any:
    """Absolute error: |x − y|."""
    x, y = as_pair("mae", predictions, targets)
    return reduce("mae", jnp.abs(x - y), weights, where, reduction)


def huber(
    predictions: Any,
    targets: Any,
    delta: float = 1.0,
    *,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Huber loss: r²/2 if |r| ≤ delta, else delta·(|r| − delta/2), with r = x − y. Source: Huber, 1964."""
    x, y = as_pair("huber", predictions, targets)
    delta = as_number(delta, "delta", "huber", "[0, inf)")
    distance = jnp.abs(x - y)
    inside = jnp.minimum(distance, delta)
    terms = 0.5 * inside * inside + delta * (distance - inside)
    return reduce("huber", terms, weights, where, reduction)


def smooth_l1(
    predictions: Any,
    targets: Any,
    beta: float = 1.0,
    *,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Smooth L1 loss: r²/(2·beta) if |r| ≤ beta, else |r| − beta/2, with r = x − y: the Huber loss over beta.

    Source: Girshick, "Fast R-CNN", 2015.
    """
    x, y = as_pair("smooth_l1", predictions, targets)
    beta = as_number(beta, "beta", "smooth_l1", "(0, inf)")
    distance = jnp.abs(x - y)
    inside = jnp.minimum(distance, beta)
    return reduce("smooth_l1", 0.5 / beta * inside * inside + (distance - inside), weights, where, reduction)


def log_cosh(predictions: Any, targets: Any, *, weights: Any = None, where: Any = None, reduction: str = "mean") -> Any:
    """log cosh(x − y), without overflow: about r²/2 for small r and |r| − log 2 for large r.

    >>> log_cosh(jnp.array([1e-3, 100.0]), jnp.zeros(2), reduction="none")
    Array([5.0000006e-07, 9.9306854e+01], dtype=float32)
    """
    x, y = as_pair("log_cosh", predictions, targets)
    r = x - y
    # cosh r − 1 = 2 sinh²(r/2) keeps the digits of small r; the clip keeps the derivative of the other branch finite.
    near = jnp.log1p(2 * jnp.square(jnp.sinh(0.5 * jnp.clip(r, -1, 1))))
    distance = jnp.abs(r)
    far = distance + jnp.log1p(jnp.exp(-2 * distance)) - math.log(2)
    return reduce("log_cosh", jnp.where(distance < 1, near, far), weights, where, reduction)


def poisson_nll(
    predictions: Any,
    targets: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    epsilon: float = 1e-8,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of counts y under Poisson distributions: eˣ − y·x for predictions x = log of the rate.

    With `log_input=False`, predictions are rates r: r − y·log(r + epsilon). `full` adds log y!, which is constant.

    >>> poisson_nll(jnp.log(jnp.array([2.0])), jnp.array([3.0]), full=True)
    Array(1.712318, dtype=float32)
    """
    x, y = as_pair("poisson_nll", predictions, targets)
    terms = jnp.exp(x) - y * x if log_input else x - y * jnp.log(x + epsilon)
    if full:
        terms = terms + lgamma_p.bind(y + 1)
    return reduce("poisson_nll", terms, weights, where, reduction)


def gaussian_nll(
    predictions: Any,
    targets: Any,
    variances: Any,
    *,
    full: bool = False,
    epsilon: float = 1e-6,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood under normal distributions: (log v + (x − y)²/v)/2 for means x and variances v.

    `variances` broadcast to the predictions and are at least `epsilon`: smaller ones count as `epsilon`, negative ones
    are an error. `full` adds (log 2π)/2, which is constant.

    Source: Nix, Weigend, "Estimating the mean and variance of the target probability distribution", 1994.
    """
    x, y = as_pair("gaussian_nll", predictions, targets)
    (v,) = promote_inexact(variances, operation="gaussian_nll")
    v = broadcast_to(v, x.shape, "gaussian_nll: variances")
    problem, fix = "gaussian_nll: variance {} is negative", "predict logarithms and pass jnp.exp of them"
    factor = validity(v, lambda variance: ~(variance < 0), x.dtype, problem, fix)
    v = jnp.maximum(v, epsilon)
    terms = 0.5 * (jnp.log(v) + jnp.square(x - y) / v) * factor
    return reduce("gaussian_nll", terms + 0.5 * math.log(2 * math.pi) if full else terms, weights, where, reduction)
