"""Minibatches of arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcgrad import random, tree
from funcgrad.errors import ArgumentError, ShapeError


def batches(key: Any, arrays: Any, size: int, *, drop_last: bool = True) -> Iterator[Any]:
    """Yield the examples of a pytree of arrays in minibatches of `size`; examples lie along the first axis.

    With a key, in an order drawn from it; with None, as they are. The last minibatch, if smaller, is dropped by
    default, so that all have one shape. Minibatches are NumPy arrays.

    >>> [b.tolist() for b in batches(None, np.arange(5), 2, drop_last=False)]
    [[0, 1], [2, 3], [4]]
    """
    leaves = [np.asarray(x) for x in tree.leaves(arrays)]
    structure = tree.structure(arrays)
    counts = {x.shape[0] if x.ndim else -1 for x in leaves}
    if len(counts) != 1 or -1 in counts:
        raise ShapeError(
            f"batches: arrays have shapes {', '.join(str(x.shape) for x in leaves)}",
            fix="all need one first axis, that of the examples",
        )
    if size < 1:
        raise ArgumentError(f"batches: size {size}", fix="a minibatch has at least one example")
    (count,) = counts
    order = np.arange(count) if key is None else np.asarray(random.permutation(key, count))
    return _chosen(leaves, structure, order, size, count - count % size if drop_last else count)


def _chosen(leaves: list[np.ndarray], structure: Any, order: np.ndarray, size: int, stop: int) -> Iterator[Any]:
    for start in range(0, stop, size):
        chosen = order[start : start + size]
        yield structure.unflatten([x[chosen] for x in leaves])
