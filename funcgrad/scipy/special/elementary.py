"""Entropies, Box-Cox transforms, logit: functions of logarithms."""

from __future__ import annotations

from math import factorial
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.numpy import exponential_sums
from funcgrad.ops.arithmetic import logistic_p
from funcgrad.scipy.special.declare import horner, of_primitive, real_function

__all__ = [
    "boxcox",
    "boxcox1p",
    "entr",
    "expit",
    "kl_div",
    "log_softmax",
    "logit",
    "logsumexp",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
]

expit = of_primitive("expit", logistic_p, "x", "The logistic function, 1/(1 + e⁻ˣ).")
logsumexp = exponential_sums.logsumexp


@real_function(lambda out, x: 1 / (x * (1 - x)))
def logit(x: Any) -> Any:
    """log(x / (1 − x)), the inverse of expit. Near 1/2, it is 2·artanh(2x − 1)."""
    middle = abs(x - 0.5) < 0.25
    near = 2 * jnp.arctanh(jnp.where(middle, 2 * x - 1, 0))
    return jnp.where(middle, near, jnp.log(x / (1 - x)))


@real_function(lambda out, x, y: jnp.log(y), lambda out, x, y: x / y)
def xlogy(x: Any, y: Any) -> Any:
    """x·log(y), and 0 where x is 0, unless y is NaN."""
    return jnp.where((x != 0) | jnp.isnan(y), x * jnp.log(y), 0)


@real_function(lambda out, x, y: jnp.log1p(y), lambda out, x, y: x / (1 + y))
def xlog1py(x: Any, y: Any) -> Any:
    """x·log(1 + y), and 0 where x is 0, unless y is NaN."""
    return jnp.where((x != 0) | jnp.isnan(y), x * jnp.log1p(y), 0)


@real_function(lambda out, x: jnp.where(x < 0, 0, -1 - jnp.log(x)))
def entr(x: Any) -> Any:
    """The entropy −x·log(x); 0 at 0, and −∞ below."""
    return jnp.where(x < 0, -jnp.inf, -xlogy(x, x))


def _log_ratio(p: Any, q: Any) -> Any:
    """log(p/q) for positive numbers."""
    close = (p < 2 * q) & (q < 2 * p)
    return jnp.where(close, jnp.log1p(jnp.where(close, (p - q) / q, 0)), jnp.log(p) - jnp.log(q))


def _positive(p: Any, q: Any) -> tuple[Any, Any, Any]:
    """Whether both numbers are positive, and the numbers, 1 where they are not."""
    both = (p > 0) & (q > 0)
    return both, jnp.where(both, p, 1), jnp.where(both, q, 1)


def _rel_entr_by_p(out: Any, p: Any, q: Any) -> Any:
    both, p, q = _positive(p, q)
    return jnp.where(both, _log_ratio(p, q) + 1, 0)


def _rel_entr_by_q(out: Any, p: Any, q: Any) -> Any:
    both, p, q = _positive(p, q)
    return jnp.where(both, -p / q, 0)


@real_function(_rel_entr_by_p, _rel_entr_by_q)
def rel_entr(p: Any, q: Any) -> Any:
    """The relative entropy p·log(p/q); 0 where p = 0 ≤ q, and ∞ for other numbers that are not positive."""
    both, positive_p, positive_q = _positive(p, q)
    value = positive_p * _log_ratio(positive_p, positive_q)
    return jnp.where(both, value, jnp.where((p == 0) & (q >= 0), 0, jnp.where(jnp.isnan(p + q), jnp.nan, jnp.inf)))


@real_function()
def kl_div(p: Any, q: Any) -> Any:
    """The Kullback-Leibler divergence p·log(p/q) − p + q.

    >>> kl_div(0.5, 0.25)
    Array(0.09657359, dtype=float32, weak_type=True)
    """
    return rel_entr(p, q) - p + q


def _exprel_slope(u: Any) -> Any:
    """The derivative of (eᵘ − 1)/u: a series near 0, and (eᵘ − (eᵘ − 1)/u)/u."""
    near = abs(u) < 0.5
    small, large = jnp.where(near, u, 0), jnp.where(near, 1, u)
    series = horner(tuple((k + 1) / factorial(k + 2) for k in range(14)), small)
    return jnp.where(near, series, (jnp.exp(large) - jnp.expm1(large) / large) / large)


def _transformed(log_x: Any, lmbda: Any) -> Any:
    zero = lmbda == 0
    power = jnp.where(zero, 1, lmbda)
    return jnp.where(zero, log_x, jnp.expm1(power * log_x) / power)


def _by_lambda(log: Any) -> Any:
    return lambda out, x, lmbda: log(x) ** 2 * _exprel_slope(lmbda * log(x))


@real_function(lambda out, x, lmbda: x ** (lmbda - 1), _by_lambda(jnp.log))
def boxcox(x: Any, lmbda: Any) -> Any:
    """The Box-Cox transform (x^λ − 1)/λ; log(x) for λ = 0, where it has a derivative with respect to λ too.

    >>> boxcox(4.0, 0.5)
    Array(2., dtype=float32, weak_type=True)
    """
    return _transformed(jnp.log(x), lmbda)


@real_function(lambda out, x, lmbda: (1 + x) ** (lmbda - 1), _by_lambda(jnp.log1p))
def boxcox1p(x: Any, lmbda: Any) -> Any:
    """The Box-Cox transform of 1 + x, accurate for small x."""
    return _transformed(jnp.log1p(x), lmbda)


def _axes(x: Any, axis: Any) -> Any:
    return tuple(range(aval_of(x).ndim)) if axis is None else axis


def softmax(x: Any, /, *, axis: Any = None) -> Any:
    """eˣ / Σ eˣ over axes, by default over all of them."""
    x = as_operand(x, "softmax")
    return exponential_sums.softmax(x, axis=_axes(x, axis))


def log_softmax(x: Any, /, *, axis: Any = None) -> Any:
    """x − log Σ eˣ over axes, by default over all of them."""
    x = as_operand(x, "log_softmax")
    return exponential_sums.log_softmax(x, axis=_axes(x, axis))
