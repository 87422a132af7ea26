"""Losses: how far outputs are from targets.

`reduction` is "mean", "sum" or "none"; weights weigh the terms, and the mean is by the sum of the weights.
"""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.activations import softplus
from funcgrad.nn.normalizers import log_softmax
from funcgrad.numpy.promotion import as_operand, promote_inexact
from funcgrad.ops.slicing import iota

REDUCTIONS = ("mean", "sum", "none")


def _reduced(values: Any, weights: Any, reduction: str, counts: Any = None) -> Any:
    """Reduce weighted values; `counts`, by default 1, is what each counts for in the mean's denominator."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"unknown reduction {reduction!r}", fix=f"choose one of {', '.join(REDUCTIONS)}")
    if weights is not None:
        weights = jnp.broadcast_to(as_operand(weights, "weights"), values.shape)
        values = values * weights
        counts = weights if counts is None else weights * counts
    if reduction == "none":
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    return total / (values.size if counts is None else jnp.sum(counts))


def _pair(name: str, predictions: Any, targets: Any) -> list[Any]:
    predictions, targets = promote_inexact(predictions, targets, operation=name)
    if predictions.shape != targets.shape:
        raise ShapeError(
            f"{name}: predictions {predictions.aval} and targets {targets.aval} differ in shape",
            fix="reshape one of them: broadcasting would pair every prediction with every target",
        )
    return [predictions, targets]


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weights: Any = None,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """−Σᵢ qᵢ·log softmax(logits)ᵢ over the last axis.

    `labels`: class numbers of shape (…), or probabilities q of shape (…, classes), for logits of shape (…, classes).
    `label_smoothing` ε replaces q by (1 − ε)·q + ε/classes. `class_weights` (classes,) multiply the terms; the mean of
    a loss of class numbers is then by the sum of its labels' class weights.

    >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    (logits,) = promote_inexact(logits, operation="cross_entropy")
    labels = as_operand(labels, "cross_entropy")
    classes = logits.shape[-1] if logits.ndim else 0
    numbered = dtypes.is_integer(labels.dtype)
    if labels.shape != (logits.shape[:-1] if numbered else logits.shape):
        raise ShapeError(
            f"cross_entropy: labels {labels.aval} do not fit logits {logits.aval}",
            fix="class numbers have the logits' shape without its last axis, probabilities the whole shape",
        )
    terms, counts = -log_softmax(logits), None
    scale = None if class_weights is None else jnp.asarray(class_weights, logits.dtype)
    terms = terms if scale is None else terms * scale
    if numbered:
        # A comparison, not a gather: it fuses with the softmax, and so does its derivative.
        chosen = labels[..., None] == iota(labels.dtype, (classes,), 0)
        losses = jnp.sum(jnp.where(chosen, terms, 0), -1)
        counts = None if scale is None else jnp.sum(jnp.where(chosen, scale, 0), -1)
    else:
        losses = jnp.sum(terms * labels, -1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * jnp.mean(terms, -1)
    return _reduced(losses, weights, reduction, counts)


def binary_cross_entropy(logits: Any, labels: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """−y·log σ(z) − (1 − y)·log(1 − σ(z)), of logits z and probabilities y of one shape.

    >>> binary_cross_entropy(jnp.array([0.0]), jnp.array([1.0]))
    Array(0.6931472, dtype=float32)
    """
    z, y = _pair("binary_cross_entropy", logits, labels)
    return _reduced(y * softplus(-z) + (1 - y) * softplus(z), weights, reduction)


def mse(predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """(x − y)²: mean squared error."""
    x, y = _pair("mse", predictions, targets)
    return _reduced(jnp.square(x - y), weights, reduction)


def mae(predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """|x − y|: mean absolute error."""
    x, y = _pair("mae", predictions, targets)
    return _reduced(jnp.abs(x - y), weights, reduction)


def huber(predictions: Any, targets: Any, delta: float = 1.0, *, weights: Any = None, reduction: str = "mean") -> Any:
    """r²/2 where |r| ≤ delta, delta·(|r| − delta/2) elsewhere, r = x − y. Source: Huber, 1964."""
    x, y = _pair("huber", predictions, targets)
    distance = jnp.abs(x - y)
    inside = jnp.minimum(distance, delta)
    return _reduced(0.5 * inside * inside + delta * (distance - inside), weights, reduction)


def hinge(scores: Any, labels: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """max(0, 1 − y·x), of scores x and labels y = ±1."""
    x, y = _pair("hinge", scores, labels)
    return _reduced(jnp.maximum(0, 1 - x * y), weights, reduction)


def kl_divergence(log_predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Σ q·(log q − log p) over the last axis, of log-probabilities log p and probabilities q; 0·log 0 is 0."""
    log_p, q = _pair("kl_divergence", log_predictions, targets)
    some = q > 0
    terms = jnp.where(some, q * (jnp.log(jnp.where(some, q, 1)) - log_p), 0)
    return _reduced(jnp.sum(terms, -1), weights, reduction)
