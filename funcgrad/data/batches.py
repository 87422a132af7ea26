"""Minibatches of arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcgrad import random
from funcgrad.arguments.axes import as_int
from funcgrad.data.dataset import ArrayDataset
from funcgrad.errors import ArgumentError
from funcgrad.random.keys import words_of


def as_batch_size(size: Any, count: int | None, drop_last: bool, what: str, operation: str) -> int:
    """Return the number of examples of a minibatch; raise if it is not positive, or if no minibatch would be left."""
    size = as_int(size, what, operation)
    if size < 1:
        raise ArgumentError(f"{operation}: {what} {size}", fix="a minibatch has at least one example")
    if drop_last and count is not None and size > count:
        raise ArgumentError(
            f"{operation}: {what} {size} exceeds the {count} examples, so there would be no minibatch",
            fix=f"use a {what} of at most {count}, or drop_last=False",
        )
    return size


def batches(key: Any, arrays: Any, size: int, *, drop_last: bool = True) -> Iterator[Any]:
    """Yield minibatches of `size` examples from a pytree of arrays, whose first axis is that of the examples.

    With a key, the examples are shuffled; with None, they are in order. By default, a smaller last minibatch is
    dropped, so that all have the same shape. Minibatches are NumPy arrays.

    Raises:
      ArgumentError: with `drop_last`, no minibatch is left.
      ShapeError: the arrays have no examples, or different numbers of them.

    >>> [b.tolist() for b in batches(None, np.arange(5), 2, drop_last=False)]
    [[0, 1], [2, 3], [4]]
    """
    dataset = ArrayDataset(arrays, "batches")
    count = len(dataset)
    size = as_batch_size(size, count, drop_last, "size", "batches")
    if key is not None:
        words_of("batches", key)
    order = np.arange(count) if key is None else np.asarray(random.permutation(key, count))
    stop = count - count % size if drop_last else count
    return (dataset.batch(order[start : start + size]) for start in range(0, stop, size))
