"""Losses of class labels and of probabilities."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes, as_int, as_number
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.activations import sigmoid, softplus
from funcgrad.nn.labels import concrete_or_none, validity, widen
from funcgrad.nn.losses.reduction import as_mask, as_pair, reduce, two_valued
from funcgrad.numpy.exponential_sums import log_softmax
from funcgrad.ops.slicing import iota


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weights: Any = None,
    where: Any = None,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy: −Σᵢ qᵢ·log softmax(logits)ᵢ over the last axis.

    For logits of shape (…, classes), `labels` are class indices of shape (…), or probabilities q of shape (…, classes).
    `label_smoothing` ε replaces q by (1 − ε)·q + ε/classes. `class_weights`, of shape (classes,), multiply the terms;
    for class indices, the mean is then divided by the sum of the class weights of the labels. Examples whose class
    index is `ignore_index` are excluded.

    >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))
    Array(1.3862944, dtype=float32)
    >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, -1]), ignore_index=-1, reduction="none")
    Array([1.3862944, 0.       ], dtype=float32)
    """
    (logits,) = promote_inexact(logits, operation="cross_entropy")
    labels = _as_labels("cross_entropy", "logits", logits, labels)
    as_number(label_smoothing, "label_smoothing", "cross_entropy", "[0, 1]")
    terms, where, counts = _class_terms(
        "cross_entropy", "logits", log_softmax(logits), labels, where, class_weights, ignore_index, label_smoothing
    )
    return reduce("cross_entropy", terms, weights, where, reduction, counts)


def nll(
    log_probabilities: Any,
    labels: Any,
    *,
    weights: Any = None,
    where: Any = None,
    class_weights: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood: −Σᵢ qᵢ·log_probabilitiesᵢ over the last axis; cross_entropy without its log_softmax.

    >>> nll(jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.array([2]))
    Array(1.3862944, dtype=float32)
    """
    (log_p,) = promote_inexact(log_probabilities, operation="nll")
    labels = _as_labels("nll", "log_probabilities", log_p, labels)
    terms, where, counts = _class_terms(
        "nll", "log_probabilities", log_p, labels, where, class_weights, ignore_index, 0.0
    )
    return reduce("nll", terms, weights, where, reduction, counts)


def _as_labels(name: str, what: str, log_p: Any, labels: Any) -> Any:
    labels = as_operand(labels, name)
    are_indices = dtypes.is_integer(labels.dtype)
    if log_p.ndim and labels.shape == (log_p.shape[:-1] if are_indices else log_p.shape):
        return labels
    fix = f"class indices have the shape of the {what} without the last axis, probabilities the whole shape"
    if not are_indices and labels.shape == log_p.shape[:-1]:
        fix = "class indices are integers: cast them with labels.astype(int); " + fix
    raise ShapeError(f"{name}: labels {labels.aval} do not fit {what} {log_p.aval}", fix=fix)


def _class_terms(
    name: str,
    what: str,
    log_p: Any,
    labels: Any,
    where: Any,
    class_weights: Any,
    ignore_index: int | None,
    smoothing: float,
) -> tuple[Any, Any, Any]:
    """Return the terms of examples, the mask of those that count, and their contributions to the denominator."""
    scale = _as_class_weights(name, what, log_p, class_weights)
    costs = -log_p if scale is None else -log_p * scale
    counts = None
    if dtypes.is_integer(labels.dtype):
        labels, where = _without_ignored(name, labels, where, ignore_index)
        selected, factor = _one_hot_mask(name, what, log_p, labels)
        terms = jnp.sum(jnp.where(selected, costs, 0), -1) * factor
        counts = None if scale is None else jnp.sum(jnp.where(selected, scale, 0), -1)
    elif ignore_index is not None:
        raise ArgumentError(f"{name}: ignore_index is {ignore_index} for probabilities", fix="pass where= instead")
    else:
        terms = jnp.sum(costs * labels, -1)
    if smoothing:
        terms = (1 - smoothing) * terms + smoothing * jnp.mean(costs, -1)
    return terms, where, counts


def _as_class_weights(name: str, what: str, log_p: Any, class_weights: Any) -> Any:
    if class_weights is None:
        return None
    if jnp.shape(class_weights) != log_p.shape[-1:]:
        raise ShapeError(
            f"{name}: class_weights have shape {jnp.shape(class_weights)}, but {what} are {log_p.aval}",
            fix=f"pass one weight for each of the {log_p.shape[-1]} classes",
        )
    return jnp.asarray(class_weights, log_p.dtype)


def _without_ignored(name: str, labels: Any, where: Any, ignore_index: int | None) -> tuple[Any, Any]:
    """Replace labels that do not count by 0, which is valid, and return the mask of the others."""
    where = None if where is None else as_mask(name, where, labels.shape)
    if ignore_index is not None:
        kept = labels != as_int(ignore_index, "ignore_index", name)
        where = kept if where is None else where & kept
    return (labels if where is None else jnp.where(where, labels, 0)), where


def _one_hot_mask(name: str, what: str, log_p: Any, labels: Any) -> tuple[Any, Any]:
    """Return a mask of the class of each label, of shape (…, classes), and the validity of the labels.

    The mask is a comparison and not a gather, because it fuses with the softmax, and so does its derivative.
    """
    classes = log_p.shape[-1]
    labels = widen(labels, classes)
    factor = validity(
        labels,
        lambda label: (label >= 0) & (label < classes),
        log_p.dtype,
        f"{name}: label {{}} is not one of the {classes} classes of {what} {log_p.aval}",
        "labels are from 0 to the number of classes − 1; exclude other examples with where= or ignore_index=, "
        "or with a weight of 0 and any valid label",
    )
    # Clip an invalid label to the nearest class, so that some logit gets the derivative NaN.
    kept = labels if concrete_or_none(labels) is not None else jnp.clip(labels, 0, classes - 1)
    return kept[..., None] == iota(labels.dtype, (classes,), 0), factor


def binary_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weights: Any = None,
    where: Any = None,
    pos_weight: Any = None,
    from_logits: bool = True,
    reduction: str = "mean",
) -> Any:
    """Binary cross-entropy: −w·y·log σ(z) − (1 − y)·log(1 − σ(z)), for logits z and probabilities y of equal shapes.

    `pos_weight` w is 1 by default and broadcasts to the labels: above 1, it favors recall. With `from_logits=False`,
    the first argument is the probability σ(z), and each logarithm is at least −100.

    >>> binary_cross_entropy(jnp.array([0.0]), jnp.array([1.0]))
    Array(0.6931472, dtype=float32)
    """
    name = "binary_cross_entropy"
    z, y = as_pair(name, logits, labels)
    fix = "integer labels are 0 or 1; for several classes use cross_entropy"
    factor = two_valued(name, labels, (0, 1), z.dtype, fix, where)
    if from_logits:
        positive, negative = y * softplus(-z), (1 - y) * softplus(z)
    else:
        positive, negative = -y * _bounded_log(z), -(1 - y) * _bounded_log(1 - z)
    if pos_weight is not None:
        positive = positive * as_operand(pos_weight, f"{name}: pos_weight")
    return reduce(name, (positive + negative) * factor, weights, where, reduction)


def _bounded_log(p: Any) -> Any:
    """log p, but at least −100, where the derivative is 0."""
    positive = p > 0
    return jnp.where(positive, jnp.maximum(jnp.log(jnp.where(positive, p, 1)), -100), -100)


def focal(
    logits: Any,
    labels: Any,
    gamma: float = 2.0,
    *,
    alpha: float | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Focal loss: (1 − p)^gamma times the binary cross-entropy, where p is the probability of the true label.

    `alpha` multiplies the terms of label 1, and 1 − alpha those of label 0. Shapes are those of binary_cross_entropy.

    >>> focal(jnp.array([0.0, 4.0]), jnp.array([1, 1]), reduction="none")
    Array([1.732868e-01, 5.871570e-06], dtype=float32)

    Source: Lin et al., "Focal loss for dense object detection", 2017.
    """
    z, y = as_pair("focal", logits, labels)
    fix = "integer labels are 0 or 1; encode classes with nn.one_hot"
    factor = two_valued("focal", labels, (0, 1), z.dtype, fix, where)
    as_number(gamma, "gamma", "focal", "[0, inf)")
    missed = y * sigmoid(-z) + (1 - y) * sigmoid(z)
    terms = missed**gamma * (y * softplus(-z) + (1 - y) * softplus(z))
    if alpha is not None:
        alpha = as_number(alpha, "alpha", "focal", "[0, 1]")
        terms = terms * (alpha * y + (1 - alpha) * (1 - y))
    return reduce("focal", terms * factor, weights, where, reduction)


def dice(
    probabilities: Any,
    labels: Any,
    *,
    axis: Any = None,
    smooth: float = 1.0,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Dice loss of segmentations: 1 − (2·Σ p·y + smooth) / (Σ p + Σ y + smooth), for probabilities p and labels y.

    Sums are over `axis`, by default all axes except for the first. There is one term per element of the others.

    >>> dice(jnp.array([[1.0, 0.0, 1.0]]), jnp.array([[1, 0, 0]]), smooth=0)
    Array(0.3333333, dtype=float32)

    Source: Milletari, Navab, Ahmadi, "V-Net", 2016, with squares in the denominator.
    """
    p, y = as_pair("dice", probabilities, labels)
    factor = two_valued("dice", labels, (0, 1), p.dtype, "integer labels are 0 or 1; encode classes with nn.one_hot")
    axes = tuple(range(1, p.ndim)) if axis is None else as_axes(axis, p.ndim, "dice")
    overlap, total = jnp.sum(p * y * factor, axes), jnp.sum(p + y, axes)
    return reduce("dice", 1 - (2 * overlap + smooth) / (total + smooth), weights, where, reduction)


def hinge(scores: Any, labels: Any, *, weights: Any = None, where: Any = None, reduction: str = "mean") -> Any:
    """Hinge loss: max(0, 1 − y·x), for scores x and labels y = ±1."""
    return reduce("hinge", _margins("hinge", scores, labels, where), weights, where, reduction)


def squared_hinge(scores: Any, labels: Any, *, weights: Any = None, where: Any = None, reduction: str = "mean") -> Any:
    """Squared hinge loss: max(0, 1 − y·x)², for scores x and labels y = ±1."""
    return reduce(
        "squared_hinge", jnp.square(_margins("squared_hinge", scores, labels, where)), weights, where, reduction
    )


def _margins(name: str, scores: Any, labels: Any, where: Any) -> Any:
    x, y = as_pair(name, scores, labels)
    factor = two_valued(name, labels, (-1, 1), x.dtype, "convert labels 0 and 1 with 2 * labels - 1", where)
    return jnp.maximum(0, 1 - x * y) * factor


def kl_divergence(
    log_predictions: Any,
    targets: Any,
    *,
    log_targets: bool = False,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Kullback–Leibler divergence: Σ q·(log q − log p) over the last axis, with 0·log 0 = 0.

    The arguments are log p and q, or, with `log_targets`, log p and log q.
    """
    log_p, q = as_pair("kl_divergence", log_predictions, targets)
    log_q, q = (q, jnp.exp(q)) if log_targets else (None, q)
    positive = q > 0
    log_q = jnp.log(jnp.where(positive, q, 1)) if log_q is None else log_q
    terms = jnp.where(positive, q * log_q, 0) - q * jnp.where(positive | jnp.isfinite(log_p), log_p, 0)
    return reduce("kl_divergence", jnp.sum(terms, -1), weights, where, reduction)
