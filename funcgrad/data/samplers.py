"""Samplers, which choose the order of the examples of an epoch, and splits of datasets.

A sampler is a function from a key to the indices of one epoch. `DataLoader` calls it with a new key per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import random
from funcgrad.arguments.axes import as_int
from funcgrad.config import enable_x64
from funcgrad.data.dataset import Subset, as_dataset
from funcgrad.errors import ArgumentError, ShapeError

Sampler = Callable[[Any], Any]


def weighted_sampler(weights: Any, count: int | None = None, *, replace: bool = True) -> Sampler:
    """Draw `count` examples per epoch, by default as many as there are, with probabilities proportional to `weights`.

    >>> sampler = weighted_sampler([1.0, 0.0, 3.0], 1000)
    >>> np.bincount(sampler(random.key(0))).tolist()
    [256, 0, 744]
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 1 or not len(weights) or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise ArgumentError(
            f"weighted_sampler: weights are {weights!r:.80}",
            fix="pass a vector with one weight per example: finite, not negative, and not all 0",
        )
    count = len(weights) if count is None else as_int(count, "count", "weighted_sampler")
    positive = int((weights > 0).sum())
    if not replace and count > positive:
        raise ArgumentError(
            f"weighted_sampler: {count} examples without replacement, but {positive} have a positive weight",
            fix=f"use count={positive}, or replace=True",
        )

    def sample(key: Any) -> np.ndarray:
        with enable_x64():
            drawn = random.choice(key, len(weights), (count,), replace=replace, p=weights / weights.sum())
        return np.asarray(drawn)

    return sample


def stratified_sampler(labels: Any) -> Sampler:
    """Shuffle the examples such that each batch has nearly the proportions of the labels in the whole dataset.

    Each class is shuffled and spread evenly over the epoch, so any run of examples has within 2 of its share of it.
    """
    labels = _labels(labels, "stratified_sampler")
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)

    def sample(key: Any) -> np.ndarray:
        order_key, offset_key = random.split(key)
        order = np.asarray(random.permutation(order_key, len(labels)))
        offsets = np.asarray(random.uniform(offset_key, (len(counts),)), np.float64)
        shuffled = classes[order]
        by_class = np.argsort(shuffled, kind="stable")
        ranks = np.empty(len(order), np.int64)
        ranks[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        return order[np.argsort((ranks + offsets[shuffled]) / counts[shuffled], kind="stable")]

    return sample


def _labels(labels: Any, operation: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels):
        raise ShapeError(f"{operation}: labels have shape {labels.shape}", fix="pass one label per example")
    return labels


def random_split(key: Any, dataset: Any, sizes: Sequence[float], *, stratify: Any = None) -> list[Subset]:
    """Split a dataset at random into disjoint parts. Sizes are numbers of examples, or fractions with the sum 1.

    With `stratify`, one label per example, each part has nearly the same proportion of each label.

    >>> training, test = random_split(random.key(0), np.arange(10), [0.8, 0.2])
    >>> len(training), len(test), sorted(np.concatenate([training.arrays(), test.arrays()]).tolist())
    (8, 2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    dataset = as_dataset(dataset, "random_split")
    counts = _counts(sizes, len(dataset))
    if stratify is None:
        order = np.asarray(random.permutation(key, len(dataset)))
        return [Subset(dataset, part) for part in np.split(order, np.cumsum(counts)[:-1])]
    labels = _labels(stratify, "random_split")
    if len(labels) != len(dataset):
        raise ShapeError(
            f"random_split: {len(labels)} labels in stratify for {len(dataset)} examples",
            fix="pass one label per example",
        )
    order = np.asarray(random.permutation(key, len(dataset)))
    by_class = np.argsort(np.unique(labels, return_inverse=True)[1][order], kind="stable")
    # The owners of consecutive examples, evenly mixed, so that each class has its share of each.
    places = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in counts])
    owner = np.empty(len(order), np.int64)
    owner[by_class] = np.repeat(np.arange(len(counts)), counts)[np.argsort(places, kind="stable")]
    return [Subset(dataset, order[owner == part]) for part in range(len(counts))]


def _counts(sizes: Sequence[float], count: int) -> list[int]:
    """Return numbers of examples for numbers or fractions; the largest remainders are rounded up."""
    given = [float(size) for size in sizes]
    fractions = abs(sum(given) - 1) < 1e-9 and not all(size == int(size) and count == 1 for size in given)
    shares = [size * count for size in given] if fractions else given
    whole = [int(share + 1e-9) for share in shares]
    if any(size < 0 for size in given) or (not fractions and (sum(given) != count or whole != given)):
        raise ArgumentError(
            f"random_split: sizes {list(sizes)} of {count} examples",
            fix=f"pass numbers of examples with the sum {count}, or fractions with the sum 1",
        )
    left = sorted(range(len(given)), key=lambda i: whole[i] - shares[i])
    for i in left[: count - sum(whole)]:
        whole[i] += 1
    return whole
