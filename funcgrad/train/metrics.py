"""Metrics over many minibatches, as triples of pure functions.

A metric accumulates over minibatches and weights every example alike, so a smaller last minibatch counts for less:

>>> metric = accuracy()
>>> total = metric.init()
>>> total = metric.update(total, np.eye(3), np.array([0, 1, 0]))
>>> total = metric.update(total, np.eye(3)[:1], np.array([0]))
>>> metric.result(total)
0.75

`outputs` are logits or probabilities (…, classes) and `targets` are class indices (…). For two classes, outputs may be
single logits of the shape of the targets. All values are NumPy arrays on the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcgrad.arguments.axes import as_int
from funcgrad.errors import ArgumentError, ShapeError


class Metric(NamedTuple):
    """`init() → total`, `update(total, outputs, targets, weights=None) → total`, `result(total) → value`."""

    init: Callable[[], Any]
    update: Callable[..., Any]
    result: Callable[[Any], Any]


def _flat(values: Any, targets: Any, weights: Any, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outputs (n,) or (n, classes), class indices (n,), and weights (n,) as float64."""
    outputs, labels = np.asarray(values), np.asarray(targets)
    if labels.dtype.kind not in "biu" or outputs.shape[: labels.ndim] != labels.shape or outputs.ndim > labels.ndim + 1:
        raise ShapeError(
            f"{name}: outputs {outputs.dtype}{list(outputs.shape)} and targets {labels.dtype}{list(labels.shape)}",
            fix="pass outputs (…, classes) and integer targets (…), or single logits (…) for targets 0 and 1",
        )
    classes = outputs.shape[-1] if outputs.ndim > labels.ndim else 2
    outputs = outputs.reshape(labels.size, *outputs.shape[labels.ndim :])
    labels = labels.reshape(-1).astype(np.int64)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise ArgumentError(
            f"{name}: target {labels[wrong.argmax()]} is not one of the {classes} classes of outputs "
            f"{list(np.shape(values))}",
            fix=f"targets are from 0 to {classes - 1}; give examples without a target a weight of 0 and target 0",
        )
    return outputs.astype(np.float64), labels, _weights(weights, np.shape(targets), name)


def _weights(weights: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    if weights is None:
        return np.ones(int(np.prod(shape)))
    weights = np.asarray(weights, np.float64)
    if weights.shape != shape:
        raise ShapeError(f"{name}: weights {list(weights.shape)} for targets {list(shape)}", fix="pass one per target")
    return weights.reshape(-1)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """The quotient, 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _mean_metric(name: str, values: Callable[..., tuple[Any, Any]], finish: Callable[[float], float] = float) -> Metric:
    """A weighted mean of what `values(outputs, targets, weights)` returns: a value and a weight for each example."""

    def update(total: Any, outputs: Any, targets: Any = None, weights: Any = None) -> Any:
        terms, weight = values(outputs, targets, weights)
        return total[0] + float(np.sum(terms * weight)), total[1] + float(np.sum(weight))

    def result(total: Any) -> float:
        _check_some(total[1], name)
        return finish(total[0] / total[1])

    return Metric(lambda: (0.0, 0.0), update, result)


def _check_some(weight: Any, name: str) -> None:
    if not weight:
        raise ArgumentError(f"{name}: no examples, or all of weight 0", fix="call update with at least one minibatch")


def mean(function: Callable[[Any, Any], Any]) -> Metric:
    """The mean of `function(outputs, targets)`, which returns one value for each example: (batch, …).

    >>> squares = mean(lambda outputs, targets: (outputs - targets) ** 2)
    >>> squares.result(squares.update(squares.init(), np.array([1.0, 3.0]), np.array([0.0, 1.0])))
    2.5
    """

    def values(outputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        terms = np.asarray(function(outputs, targets), np.float64)
        if weights is not None and np.ndim(weights) < terms.ndim:
            weights = np.broadcast_to(np.reshape(weights, np.shape(weights) + (1,) * (terms.ndim - 1)), terms.shape)
        return terms.reshape(-1), _weights(weights, terms.shape, "mean")

    return _mean_metric("mean", values)


def _predictions(outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(-1) if outputs.ndim == 2 else (outputs > 0).astype(np.int64)


def accuracy() -> Metric:
    """The share of examples whose class is predicted."""

    def values(outputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        scores, labels, weight = _flat(outputs, targets, weights, "accuracy")
        return _predictions(scores) == labels, weight

    return _mean_metric("accuracy", values)


def top_k(k: int) -> Metric:
    """The share of examples whose class is among the k with the highest scores; of equal ones, later classes count."""
    k = as_int(k, "k", "top_k")

    def values(outputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        scores, labels, weight = _flat(outputs, targets, weights, "top_k")
        if scores.ndim < 2 or not 1 <= k <= scores.shape[-1]:
            raise ArgumentError(f"top_k: k is {k} for outputs {list(np.shape(outputs))}", fix="use 1 ≤ k ≤ classes")
        best = np.argsort(scores, axis=-1, kind="stable")[:, -k:]
        return (best == labels[:, None]).any(-1), weight

    return _mean_metric("top_k", values)


def perplexity() -> Metric:
    """exp of the mean of −log softmax(outputs)[target]: the perplexity of a language model, given its logits."""

    def values(outputs: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        logits, labels, weight = _flat(outputs, targets, weights, "perplexity")
        if logits.ndim < 2:
            raise ShapeError(f"perplexity: outputs {list(np.shape(outputs))}", fix="pass logits (…, classes)")
        shifted = logits - logits.max(-1, keepdims=True)
        picked = np.take_along_axis(shifted, labels[:, None], -1)[:, 0]
        return np.log(np.exp(shifted).sum(-1)) - picked, weight

    return _mean_metric("perplexity", values, lambda loss: float(np.exp(loss)))


# ---------------------------------------------------------------- confusion


def confusion() -> Metric:
    """The confusion matrix: the total weight of the examples of class i that are predicted as class j."""
    return _from_confusion("confusion", lambda matrix: matrix)


def _from_confusion(name: str, finish: Callable[[np.ndarray], Any]) -> Metric:
    def update(total: Any, outputs: Any, targets: Any, weights: Any = None) -> Any:
        scores, labels, weight = _flat(outputs, targets, weights, name)
        classes = scores.shape[-1] if scores.ndim == 2 else 2
        counts = np.bincount(labels * classes + _predictions(scores), weight, classes * classes)
        return counts.reshape(classes, classes) + (0 if total is None else total)

    def result(total: Any) -> Any:
        _check_some(total is not None and total.sum(), name)
        return finish(total)

    return Metric(lambda: None, update, result)


def _averaged(name: str, average: str | None, value: Callable[[Any, Any, Any], Any]) -> Metric:
    """A function of true positives, predicted and actual numbers per class, averaged over the classes."""
    if average not in ("macro", "micro", "weighted", "binary", None):
        raise ArgumentError(
            f"{name}: unknown average {average!r}", fix="choose 'macro', 'micro', 'weighted', 'binary' or None"
        )

    def finish(matrix: np.ndarray) -> Any:
        right, predicted, actual = np.diag(matrix), matrix.sum(0), matrix.sum(1)
        if average == "micro":
            return float(value(right.sum(), predicted.sum(), actual.sum()))
        each = value(right, predicted, actual)
        if average == "binary":
            return float(each[1])
        present = (predicted + actual) > 0
        if average == "macro":
            return float(each[present].mean())
        return float(each @ actual / actual.sum()) if average == "weighted" else each

    return _from_confusion(name, finish)


def precision(average: str | None = "macro") -> Metric:
    """Of the examples that are predicted as a class, the share that are of this class.

    The average over classes: "macro" weights classes alike (those that occur), "weighted" by their numbers of examples;
    "micro" pools all examples; "binary" is the value of class 1; None returns all values.
    """
    return _averaged("precision", average, lambda right, predicted, actual: _ratio(right, predicted))


def recall(average: str | None = "macro") -> Metric:
    """Of the examples of a class, the share that are predicted as this class; `average` as in `precision`."""
    return _averaged("recall", average, lambda right, predicted, actual: _ratio(right, actual))


def f1(average: str | None = "macro") -> Metric:
    """The harmonic mean of precision and recall of a class; `average` as in `precision`."""
    return _averaged("f1", average, lambda right, predicted, actual: _ratio(2 * right, predicted + actual))


# ---------------------------------------------------------------- curves, regression


def auc() -> Metric:
    """The area under the ROC curve: the probability that a positive example has a higher score than a negative one.

    Ties count half. For outputs (…, classes), the mean over the classes of one against the rest. Scores are kept until
    the result, because it depends on their order.
    """

    def update(total: Any, outputs: Any, targets: Any, weights: Any = None) -> Any:
        return [*total, _flat(outputs, targets, weights, "auc")]

    def result(total: Any) -> float:
        _check_some(len(total), "auc")
        scores, labels, weight = (np.concatenate(parts) for parts in zip(*total, strict=True))
        if scores.ndim == 2 and scores.shape[1] == 2:
            scores = scores[:, 1] - scores[:, 0]
        if scores.ndim == 1:
            return _auc(scores, labels == 1, weight)
        return float(np.mean([_auc(scores[:, c], labels == c, weight) for c in range(scores.shape[1])]))

    return Metric(list, update, result)


def _auc(scores: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    values, place = np.unique(scores, return_inverse=True)
    positives = np.bincount(place, weight * positive, len(values))
    negatives = np.bincount(place, weight * ~positive, len(values))
    if not positives.any() or not negatives.any():
        raise ArgumentError("auc: all examples are of one class", fix="the ROC curve needs examples of both classes")
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))


def r2() -> Metric:
    """The coefficient of determination of a regression: 1 − Σ(y − ŷ)² / Σ(y − ȳ)²."""

    def update(total: Any, outputs: Any, targets: Any, weights: Any = None) -> Any:
        predicted, y = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
        if predicted.shape != y.shape:
            raise ShapeError(f"r2: outputs {list(predicted.shape)}, targets {list(y.shape)}", fix="reshape one of them")
        w = _weights(weights, y.shape, "r2")
        y, residual = y.reshape(-1), (y - predicted).reshape(-1)
        return total + np.array([w.sum(), w @ y, w @ y**2, w @ residual**2])

    def result(total: Any) -> float:
        weight, first, second, squares = total
        _check_some(weight, "r2")
        return float(1 - squares / (second - first**2 / weight))

    return Metric(functools.partial(np.zeros, 4), update, result)
