"""Loss functions.

`reduction` is "mean", "sum" or "none". `weights` multiply the terms, and the mean is then divided by their sum.

An invalid label (a class index out of range, or an integer other than 0 and 1, or ±1) raises an error if it is
concrete. If it is traced, as under `jit`, the loss and its derivative are NaN. This includes examples of weight 0,
which need a valid label too.
"""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_inexact
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.activations import softplus
from funcgrad.nn.labels import concrete_or_none, validity, widen
from funcgrad.numpy.exponential_sums import log_softmax
from funcgrad.ops.slicing import iota

REDUCTIONS = ("mean", "sum", "none")


def _reduce(values: Any, weights: Any, reduction: str, counts: Any = None) -> Any:
    """Reduce weighted values. `counts`, by default 1, are their contributions to the denominator of the mean."""
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
            fix="reshape one of them: broadcasting would pair each prediction with each target",
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
    """Cross-entropy: −Σᵢ qᵢ·log softmax(logits)ᵢ over the last axis.

    For logits of shape (…, classes), `labels` are class indices of shape (…), or probabilities q of shape (…, classes).
    `label_smoothing` ε replaces q by (1 − ε)·q + ε/classes. `class_weights`, of shape (classes,), multiply the terms;
    for class indices, the mean is then divided by the sum of the class weights of the labels.

    >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    """
    (logits,) = promote_inexact(logits, operation="cross_entropy")
    labels = as_operand(labels, "cross_entropy")
    are_indices = dtypes.is_integer(labels.dtype)
    _check_labels(logits, labels, are_indices)
    _check_options(logits, class_weights, label_smoothing)
    terms, counts = -log_softmax(logits), None
    scale = None if class_weights is None else jnp.asarray(class_weights, logits.dtype)
    terms = terms if scale is None else terms * scale
    if are_indices:
        selected, validity = _one_hot_mask(logits, labels)
        losses = jnp.sum(jnp.where(selected, terms, 0), -1) * validity
        counts = None if scale is None else jnp.sum(jnp.where(selected, scale, 0), -1)
    else:
        losses = jnp.sum(terms * labels, -1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * jnp.mean(terms, -1)
    return _reduce(losses, weights, reduction, counts)


def _check_labels(logits: Any, labels: Any, are_indices: bool) -> None:
    if logits.ndim and labels.shape == (logits.shape[:-1] if are_indices else logits.shape):
        return
    fix = "class indices have the shape of the logits without the last axis, probabilities the whole shape"
    if not are_indices and labels.shape == logits.shape[:-1]:
        fix = "class indices are integers: cast them with labels.astype(int); " + fix
    raise ShapeError(f"cross_entropy: labels {labels.aval} do not fit logits {logits.aval}", fix=fix)


def _check_options(logits: Any, class_weights: Any, label_smoothing: Any) -> None:
    as_number(label_smoothing, "label_smoothing", "cross_entropy", "[0, 1]")
    if class_weights is not None and jnp.shape(class_weights) != logits.shape[-1:]:
        raise ShapeError(
            f"cross_entropy: class_weights have shape {jnp.shape(class_weights)}, but logits are {logits.aval}",
            fix=f"pass one weight for each of the {logits.shape[-1]} classes",
        )


def _one_hot_mask(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return a mask of the class of each label, of shape (…, classes), and the validity of the labels.

    The mask is a comparison and not a gather, because it fuses with the softmax, and so does its derivative.
    """
    classes = logits.shape[-1]
    labels = widen(labels, classes)
    factor = validity(
        labels,
        lambda label: (label >= 0) & (label < classes),
        logits.dtype,
        f"cross_entropy: label {{}} is not one of the {classes} classes of logits {logits.aval}",
        "labels are from 0 to the number of classes − 1; to exclude an example, use a weight of 0 and any valid label",
    )
    # Clip an invalid label to the nearest class, so that some logit gets the derivative NaN.
    kept = labels if concrete_or_none(labels) is not None else jnp.clip(labels, 0, classes - 1)
    return kept[..., None] == iota(labels.dtype, (classes,), 0), factor


def _two_valued(name: str, labels: Any, values: tuple[int, int], dtype: Any, fix: str) -> Any:
    """Return the validity of integer labels, which must be one of two values; 1 for labels of other dtypes."""
    labels = as_operand(labels, name)
    if not dtypes.is_integer(labels.dtype):
        return 1
    low, high = values
    problem = f"{name}: label {{}} is neither {low} nor {high}"
    return validity(labels, lambda label: (label == low) | (label == high), dtype, problem, fix)


def binary_cross_entropy(logits: Any, labels: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Binary cross-entropy: −y·log σ(z) − (1 − y)·log(1 − σ(z)), for logits z and probabilities y of equal shapes.

    >>> binary_cross_entropy(jnp.array([0.0]), jnp.array([1.0]))
    Array(0.6931472, dtype=float32)
    """
    z, y = _pair("binary_cross_entropy", logits, labels)
    fix = "integer labels are 0 or 1; for several classes use cross_entropy"
    factor = _two_valued("binary_cross_entropy", labels, (0, 1), z.dtype, fix)
    return _reduce((y * softplus(-z) + (1 - y) * softplus(z)) * factor, weights, reduction)


def mse(predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Mean squared error: (x − y)²."""
    x, y = _pair("mse", predictions, targets)
    return _reduce(jnp.square(x - y), weights, reduction)


def mae(predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Mean absolute error: |x − y|."""
    x, y = _pair("mae", predictions, targets)
    return _reduce(jnp.abs(x - y), weights, reduction)


def huber(predictions: Any, targets: Any, delta: float = 1.0, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Huber loss: r²/2 if |r| ≤ delta, else delta·(|r| − delta/2), with r = x − y. Source: Huber, 1964."""
    x, y = _pair("huber", predictions, targets)
    delta = as_number(delta, "delta", "huber", "[0, inf)")
    distance = jnp.abs(x - y)
    inside = jnp.minimum(distance, delta)
    return _reduce(0.5 * inside * inside + delta * (distance - inside), weights, reduction)


def hinge(scores: Any, labels: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Hinge loss: max(0, 1 − y·x), for scores x and labels y = ±1."""
    x, y = _pair("hinge", scores, labels)
    factor = _two_valued("hinge", labels, (-1, 1), x.dtype, "convert labels 0 and 1 with 2 * labels - 1")
    return _reduce(jnp.maximum(0, 1 - x * y) * factor, weights, reduction)


def kl_divergence(log_predictions: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Any:
    """Kullback–Leibler divergence: Σ q·(log q − log p) over the last axis, with 0·log 0 = 0.

    The arguments are log p and q.
    """
    log_p, q = _pair("kl_divergence", log_predictions, targets)
    positive = q > 0
    log_q = jnp.log(jnp.where(positive, q, 1))
    terms = jnp.where(positive, q * log_q, 0) - q * jnp.where(positive | jnp.isfinite(log_p), log_p, 0)
    return _reduce(jnp.sum(terms, -1), weights, reduction)
