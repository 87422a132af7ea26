"""Metrics against scikit-learn, over minibatches of different sizes, with and without weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from funcgrad import nn
from funcgrad.errors import ArgumentError, FuncgradError, ShapeError
from funcgrad.train import metrics

RNG = np.random.default_rng(0)
COUNT, CLASSES = 157, 5
LABELS = RNG.integers(0, CLASSES, COUNT)
LOGITS = RNG.normal(size=(COUNT, CLASSES)).astype("float32") + 1.5 * np.eye(CLASSES, dtype="float32")[LABELS]
GUESSES = LOGITS.argmax(-1)
BINARY = (LABELS > 1).astype(int)
SCORES = np.round(RNG.normal(size=COUNT) + BINARY, 1)  # with ties
WEIGHTS = RNG.random(COUNT)
NUMBERS = RNG.normal(size=(COUNT, 2))


def over_batches(metric, outputs, targets, weights=None):
    """Accumulate over minibatches of 50, 50, 50 and 7 examples."""
    total = metric.init()
    for start in range(0, COUNT, 50):
        part = slice(start, start + 50)
        total = metric.update(total, outputs[part], targets[part], None if weights is None else weights[part])
    return metric.result(total)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def by_class(function, average):
    return lambda w: function(LABELS, GUESSES, average=average, sample_weight=w)


# metric, its outputs and targets, and scikit-learn's value for weights or None
CASES = {
    "accuracy": (
        metrics.accuracy(),
        LOGITS,
        LABELS,
        lambda w: reference.accuracy_score(LABELS, GUESSES, sample_weight=w),
    ),
    "binary accuracy": (
        metrics.accuracy(),
        SCORES,
        BINARY,
        lambda w: reference.accuracy_score(BINARY, SCORES > 0, sample_weight=w),
    ),
    "top 2": (
        metrics.top_k(2),
        LOGITS,
        LABELS,
        lambda w: reference.top_k_accuracy_score(LABELS, LOGITS, k=2, sample_weight=w),
    ),
    "confusion": (
        metrics.confusion(),
        LOGITS,
        LABELS,
        lambda w: reference.confusion_matrix(LABELS, GUESSES, sample_weight=w),
    ),
    "binary f1": (
        metrics.f1("binary"),
        SCORES,
        BINARY,
        lambda w: reference.f1_score(BINARY, SCORES > 0, sample_weight=w),
    ),
    "auc": (metrics.auc(), SCORES, BINARY, lambda w: reference.roc_auc_score(BINARY, SCORES, sample_weight=w)),
    "auc of two logits": (
        metrics.auc(),
        np.stack([-SCORES, SCORES], -1),
        BINARY,
        lambda w: reference.roc_auc_score(BINARY, SCORES, sample_weight=w),
    ),
    "auc of classes": (
        metrics.auc(),
        softmax(LOGITS),
        LABELS,
        lambda w: np.mean(
            [reference.roc_auc_score(c == LABELS, softmax(LOGITS)[:, c], sample_weight=w) for c in range(CLASSES)]
        ),
    ),
    "perplexity": (
        metrics.perplexity(),
        LOGITS,
        LABELS,
        lambda w: np.exp(reference.log_loss(LABELS, softmax(LOGITS.astype("float64")), sample_weight=w)),
    ),
    "mean": (
        metrics.mean(lambda y, t: nn.cross_entropy(y, t, reduction="none")),
        LOGITS,
        LABELS,
        lambda w: reference.log_loss(LABELS, softmax(LOGITS.astype("float64")), sample_weight=w),
    ),
    "squares": (
        metrics.mean(lambda y, t: (y - t) ** 2),
        NUMBERS[:, 0],
        NUMBERS[:, 1],
        lambda w: reference.mean_squared_error(NUMBERS[:, 1], NUMBERS[:, 0], sample_weight=w),
    ),
    "r2": (
        metrics.r2(),
        NUMBERS[:, 0],
        NUMBERS[:, 1],
        lambda w: reference.r2_score(NUMBERS[:, 1], NUMBERS[:, 0], sample_weight=w),
    ),
    **{
        f"{function.__name__} {average}": (
            function(average),
            LOGITS,
            LABELS,
            by_class(getattr(reference, f"{function.__name__}_score"), average),
        )
        for function in (metrics.precision, metrics.recall, metrics.f1)
        for average in ("macro", "micro", "weighted", None)
    },
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_those_of_scikit_learn(name):
    metric, outputs, targets, expected = CASES[name]
    np.testing.assert_allclose(over_batches(metric, outputs, targets), expected(None), rtol=1e-6)
    np.testing.assert_allclose(over_batches(metric, outputs, targets, WEIGHTS), expected(WEIGHTS), rtol=1e-6)


def test_sequences_are_flattened():
    shaped = LOGITS[:150].reshape(3, 50, CLASSES), LABELS[:150].reshape(3, 50), WEIGHTS[:150].reshape(3, 50)
    for metric in (metrics.accuracy(), metrics.perplexity(), metrics.confusion(), metrics.auc()):
        flat = metric.result(metric.update(metric.init(), LOGITS[:150], LABELS[:150], WEIGHTS[:150]))
        np.testing.assert_allclose(metric.result(metric.update(metric.init(), *shaped)), flat, rtol=1e-12)


def test_classes_that_do_not_occur_are_0_or_left_out():
    labels, outputs = np.array([0, 0, 2]), np.eye(4)[[0, 2, 2]]
    update = lambda metric: metric.result(metric.update(metric.init(), outputs, labels))  # noqa: E731
    assert update(metrics.precision(None)).tolist() == [1, 0, 0.5, 0]
    assert update(metrics.recall(None)).tolist() == [0.5, 0, 1, 0]
    assert update(metrics.recall("macro")) == reference.recall_score(labels, [0, 2, 2], average="macro") == 0.75


def update(metric, *args):
    return metric.update(metric.init(), *args)


ERRORS = {
    "label out of range": (
        lambda: update(metrics.accuracy(), LOGITS, LABELS + 1),
        ArgumentError,
        ["accuracy: target 5 is not one of the 5 classes of outputs [157, 5]", "from 0 to 4"],
    ),
    "negative label": (lambda: update(metrics.auc(), SCORES, BINARY - 1), ArgumentError, ["auc: target -1 is not one"]),
    "float labels": (
        lambda: update(metrics.f1(), LOGITS, LABELS.astype(float)),
        ShapeError,
        ["f1: outputs float32[157, 5] and targets float64[157]", "integer targets"],
    ),
    "other shapes": (lambda: update(metrics.confusion(), LOGITS, LABELS[:9]), ShapeError, ["targets int64[9]"]),
    "other weights": (
        lambda: update(metrics.accuracy(), LOGITS, LABELS, [1.0]),
        ShapeError,
        ["weights [1] for targets"],
    ),
    "no example": (lambda: metrics.accuracy().result(metrics.accuracy().init()), ArgumentError, ["no examples"]),
    "no confusion": (lambda: metrics.recall().result(None), ArgumentError, ["recall: no examples"]),
    "one class": (
        lambda: metrics.auc().result(update(metrics.auc(), SCORES, BINARY * 0)),
        ArgumentError,
        ["all examples are of one class"],
    ),
    "k too large": (lambda: update(metrics.top_k(6), LOGITS, LABELS), ArgumentError, ["k is 6 for outputs [157, 5]"]),
    "unknown average": (lambda: metrics.f1("mean"), ArgumentError, ["f1: unknown average 'mean'"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    action, kind, parts = ERRORS[name]
    with pytest.raises(FuncgradError) as caught:
        action()
    assert isinstance(caught.value, kind)
    for part in [*parts, "test_metrics.py:", "fix: "]:
        assert part in str(caught.value), caught.value
