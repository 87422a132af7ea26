"""Losses: how far outputs are from targets.

`reduction` is "mean", "sum" or "none"; weights weigh the terms, and the mean is by the sum of the weights.

A label that its loss has no meaning for (a class number below 0 or beyond the classes, an integer that is not 0 or 1,
or not ±1) is an error where it is known. Where it is traced, as under `jit`, the loss and its derivative are NaN. That
holds for examples of weight 0 as well: give those a valid label.
"""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_inexact
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.activations import softplus
from funcgrad.nn.labels import known_value, validity, widened
from funcgrad.nn.normalizers import log_softmax
from funcgrad.ops.slicing import iota

REDUCTIONS = ("mean", "sum", "none")


def _reduced(values: Any, weights: Any, reduction: str, counts: Any = None) -> Any:
    """Reduce weighted values; `counts`, by default 1, is what each counts for in the mean's denominator."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"unknown reduction {reduction!r}", fix=f"choose one of {', '.join(REDUCTIONS)}")
    if weights is not None:
        weights = broadcast_to(as_operand(weights, "weights"), values.shape, "weights of a loss")
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
    numbered = dtypes.is_integer(labels.dtype)
    _check_labels(logits, labels, numbered)
    _check_options(logits, class_weights, label_smoothing)
    terms, counts = -log_softmax(logits), None
    scale = None if class_weights is None else jnp.asarray(class_weights, logits.dtype)
    terms = terms if scale is None else terms * scale
    if numbered:
        chosen, validity = _chosen_classes(logits, labels)
        losses = jnp.sum(jnp.where(chosen, terms, 0), -1) * validity
        counts = None if scale is None else jnp.sum(jnp.where(chosen, scale, 0), -1)
    else:
        losses = jnp.sum(terms * labels, -1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * jnp.mean(terms, -1)
    return _reduced(losses, weights, reduction, counts)


def _check_labels(logits: Any, labels: Any, numbered: bool) -> None:
    if logits.ndim and labels.shape == (logits.shape[:-1] if numbered else logits.shape):
        return
    fix = "class numbers have the logits' shape without its last axis, probabilities the whole shape"
    if not numbered and labels.shape == logits.shape[:-1]:
        fix = "class numbers are integers: cast them with labels.astype(int); " + fix
    raise ShapeError(f"cross_entropy: labels {labels.aval} do not fit logits {logits.aval}", fix=fix)


def _check_options(logits: Any, class_weights: Any, label_smoothing: Any) -> None:
    as_number(label_smoothing, "label_smoothing", "cross_entropy", "[0, 1]")
    if class_weights is not None and jnp.shape(class_weights) != logits.shape[-1:]:
        raise ShapeError(
            f"cross_entropy: class_weights have shape {jnp.shape(class_weights)}, logits are {logits.aval}",
            fix=f"give one weight for each of the {logits.shape[-1]} classes",
        )


def _chosen_classes(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return which class each label chooses, as bools (…, classes), and the labels' validity.

    A comparison, not a gather: it fuses with the softmax, and so does its derivative.
    """
    classes = logits.shape[-1]
    labels = widened(labels, classes)
    factor = validity(
        labels,
        lambda label: (label >= 0) & (label < classes),
        logits.dtype,
        f"cross_entropy: label {{}} is not one of the {classes} classes of logits {logits.aval}",
        "labels count from 0 to the number of classes − 1; leave an example out by a weight of 0 and any valid label",
    )
    # A label out of range stands for the nearest class, so that its derivative, NaN, has a place.
    kept = labels if known_value(labels) is not None else jnp.clip(labels, 0, classes - 1)
    return kept[..., None] == iota(labels.dtype, (classes,), 0), factor


def _check_meaning(name: str, labels: Any, values: tuple[int, int], dtype: Any, fix: str) -> Any:
    """Return the validity of integer labels that have to be one of two values; 1 for labels of other types."""
    labels = as_operand(labels, name)
    if not dtypes.is_integer(labels.dtype):
        return 1
    low, high = values
    problem = f"{name}: label {{}} is neither {low} nor {high}"
    return validity(labels, lambda label: (label == low) | (label == high), dtype, problem, fix)


def binary_cross_entropy(logits: Any, labels: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """−y·log σ(z) − (1 − y)·log(1 − σ(z)), of logits z and probabilities y of one shape.

    >>> binary_cross_entropy(jnp.array([0.0]), jnp.array([1.0]))
    Array(0.6931472, dtype=float32)
    """
    z, y = _pair("binary_cross_entropy", logits, labels)
    fix = "integer labels are 0 or 1; for several classes use cross_entropy"
    factor = _check_meaning("binary_cross_entropy", labels, (0, 1), z.dtype, fix)
    return _reduced((y * softplus(-z) + (1 - y) * softplus(z)) * factor, weights, reduction)


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
    delta = as_number(delta, "delta", "huber", "[0, inf)")
    distance = jnp.abs(x - y)
    inside = jnp.minimum(distance, delta)
    return _reduced(0.5 * inside * inside + delta * (distance - inside), weights, reduction)


def hinge(scores: Any, labels: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """max(0, 1 − y·x), of scores x and labels y = ±1."""
    x, y = _pair("hinge", scores, labels)
    factor = _check_meaning("hinge", labels, (-1, 1), x.dtype, "write labels 0 and 1 as 2 * labels - 1")
    return _reduced(jnp.maximum(0, 1 - x * y) * factor, weights, reduction)


def kl_divergence(log_predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Σ q·(log q − log p) over the last axis, of log-probabilities log p and probabilities q; 0·log 0 is 0."""
    log_p, q = _pair("kl_divergence", log_predictions, targets)
    some = q > 0
    terms = jnp.where(some, q * jnp.log(jnp.where(some, q, 1)), 0) - q * jnp.where(some | jnp.isfinite(log_p), log_p, 0)
    return _reduced(jnp.sum(terms, -1), weights, reduction)
