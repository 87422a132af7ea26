"""Minibatches of arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcgrad import random, tree
from funcgrad.arguments.axes import as_int
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.random.keys import words_of


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
    leaves, structure = _examples(arrays)
    size, count = as_int(size, "size", "batches"), len(leaves[0])
    if size < 1:
        raise ArgumentError(f"batches: size {size}", fix="a minibatch has at least one example")
    if drop_last and size > count:
        raise ArgumentError(
            f"batches: size {size} exceeds the {count} examples, so there would be no minibatch",
            fix=f"use a size of at most {count}, or drop_last=False",
        )
    if key is not None:
        words_of("batches", key)
    order = np.arange(count) if key is None else np.asarray(random.permutation(key, count))
    return _minibatches(leaves, structure, order, size, count - count % size if drop_last else count)


def _examples(arrays: Any) -> tuple[list[np.ndarray], Any]:
    """Return the leaves as NumPy arrays of equal positive lengths, and their structure."""
    pairs, structure = tree.flatten_with_path(arrays)
    if any(isinstance(x, Tracer) for _, x in pairs):
        raise ConcretizationError(
            "batches: the arrays are traced, but minibatches need concrete arrays",
            fix="call batches outside of jit, and pass each minibatch to the jitted function",
        )
    leaves = [np.asarray(x) for _, x in pairs]
    if len({x.shape[:1] for x in leaves}) != 1 or not leaves[0].ndim:
        places = ((tree.keystr(path) or "the array", x.shape) for (path, _), x in zip(pairs, leaves, strict=True))
        raise ShapeError(
            f"batches: {', '.join(f'{place} has shape {shape}' for place, shape in places) or 'there are no arrays'}",
            fix="all arrays need the same first axis, that of the examples; convert lists of numbers with np.asarray",
        )
    if not len(leaves[0]):
        raise ShapeError(
            f"batches: no examples: the first array has shape {leaves[0].shape}", fix="pass at least one example"
        )
    return leaves, structure


def _minibatches(leaves: list[np.ndarray], structure: Any, order: np.ndarray, size: int, stop: int) -> Iterator[Any]:
    for start in range(0, stop, size):
        indices = order[start : start + size]
        yield structure.unflatten([x[indices] for x in leaves])
