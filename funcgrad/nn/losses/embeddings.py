"""Losses of vectors, along their last axis; one term per vector, of shape (…)."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_axis, as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.losses.reduction import as_pair, reduce, two_valued


def cosine_similarity(a: Any, b: Any, *, axis: int = -1, epsilon: float = 1e-8) -> Any:
    """a·b / (‖a‖·‖b‖) along an axis, with norms of at least `epsilon`. It is 1 for vectors of one direction.

    >>> cosine_similarity(jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0]))
    Array(0.6, dtype=float32)
    """
    a, b = as_pair("cosine_similarity", a, b)
    axis = as_axis(axis, a.ndim, "cosine_similarity")
    # The maximum is inside of the root, whose derivative at 0 is infinite.
    norm_a, norm_b = (jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x), axis), epsilon**2)) for x in (a, b))
    return jnp.sum(a * b, axis) / (norm_a * norm_b)


def cosine_distance(
    predictions: Any,
    targets: Any,
    *,
    axis: int = -1,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """1 − cosine_similarity(x, y) along an axis."""
    return reduce("cosine_distance", 1 - cosine_similarity(predictions, targets, axis=axis), weights, where, reduction)


def cosine_embedding(
    a: Any,
    b: Any,
    labels: Any,
    margin: float = 0.0,
    *,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """1 − cos(a, b) for pairs of label 1, and max(0, cos(a, b) − margin) for pairs of label −1.

    Shapes: a and b are (…, n), labels are (…).
    """
    name = "cosine_embedding"
    similarity = cosine_similarity(a, b)
    labels, factor = _pair_labels(
        name, labels, similarity, (-1, 1), "convert labels 0 and 1 with 2 * labels - 1", where
    )
    apart = jnp.maximum(0, similarity - as_number(margin, "margin", name))
    return reduce(name, jnp.where(labels > 0, 1 - similarity, apart) * factor, weights, where, reduction)


def contrastive(
    a: Any,
    b: Any,
    labels: Any,
    margin: float = 1.0,
    *,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """d²/2 for similar pairs, of label 1, and max(0, margin − d)²/2 for others, of label 0, with d = ‖a − b‖.

    Shapes: a and b are (…, n), labels are (…). Source: Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an
    invariant mapping", 2006, where labels are exchanged.
    """
    a, b = as_pair("contrastive", a, b)
    square = jnp.sum(jnp.square(a - b), -1)
    labels, factor = _pair_labels("contrastive", labels, square, (0, 1), "1 is a similar pair, 0 another one", where)
    equal = square == 0
    distance = jnp.where(equal, 0, jnp.sqrt(jnp.where(equal, 1, square)))
    apart = jnp.square(jnp.maximum(0, as_number(margin, "margin", "contrastive", "(0, inf)") - distance))
    return reduce("contrastive", 0.5 * jnp.where(labels > 0, square, apart) * factor, weights, where, reduction)


def _pair_labels(name: str, labels: Any, terms: Any, values: tuple[int, int], fix: str, where: Any) -> tuple[Any, Any]:
    """Return labels of the shape of the terms, and their validity."""
    labels = as_operand(labels, name)
    if labels.shape != terms.shape:
        raise ShapeError(
            f"{name}: labels {labels.aval} do not fit pairs of shape {terms.shape}", fix="pass one label per pair"
        )
    return labels, two_valued(name, labels, values, terms.dtype, fix, where)


def triplet_margin(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    *,
    p: float = 2.0,
    epsilon: float = 1e-6,
    swap: bool = False,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """max(0, d(anchor, positive) − d(anchor, negative) + margin), with d(a, b) = (Σ |a − b + epsilon|ᵖ)^(1/p).

    Shapes: all are (…, n). With `swap`, d(anchor, negative) is at most d(positive, negative).

    Source: Balntas et al., "Learning local feature descriptors with triplets and shallow CNNs", 2016.
    """
    name = "triplet_margin"
    anchor, positive, negative = as_pair(name, anchor, positive, negative)
    if as_number(p, "p", name) < 1:
        raise ArgumentError(f"{name}: p is {p}", fix="give a number of at least 1")

    def distance(a: Any, b: Any) -> Any:
        difference = jnp.abs(a - b + epsilon)
        return jnp.sqrt(jnp.sum(jnp.square(difference), -1)) if p == 2 else jnp.sum(difference**p, -1) ** (1 / p)

    far = distance(anchor, negative)
    far = jnp.minimum(far, distance(positive, negative)) if swap else far
    terms = jnp.maximum(0, distance(anchor, positive) - far + as_number(margin, "margin", name, "(0, inf)"))
    return reduce(name, terms, weights, where, reduction)
