"""Views of an array that windows see: one for each element of the window, shifted against each other.

Here are the ways in which windows are computed by operations on whole arrays, whatever is done with what they see.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcgrad.core.array_types import aval_of
from funcgrad.ops.interleaving import interleave
from funcgrad.ops.slicing import pad, slice_
from funcgrad.ops.window_geometry import Phase, Window

_FEW = 16  # elements of a window that are folded at once, in one loop
_LONG = 8  # a longer window is folded by doubling: along one dimension, log₂ n steps instead of n


def padded(x: Any, fill: Any, geometry: Sequence[Window]) -> Any:
    """Return `x` with its dilation and padding filled."""
    return pad(x, fill, [(w.low, w.high, w.base_dilation - 1) for w in geometry])


def taps(x: Any, fill: Any, geometry: Sequence[Window]) -> Iterator[Any]:
    """Yield what all windows see at their first element, at their second, …, in row-major order."""
    if any(w.base_dilation > 1 for w in geometry):
        x = padded(x, fill, geometry)
        geometry = [w._replace(low=0, high=0, base_dilation=1) for w in geometry]
    return (tap(x, fill, geometry, place) for place in places(geometry))


def places(geometry: Sequence[Window]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the elements of a window, in row-major order."""
    return itertools.product(*(range(w.size) for w in geometry))


def tap(x: Any, fill: Any, geometry: Sequence[Window], place: Sequence[int]) -> Any:
    """Return what all windows see at one of their elements; `x` is not dilated.

    It is a strided view of `x`, padded where windows reach beyond it: a loop reads it in place.
    """
    start, limit, config = [], [], []
    for n, k, w in zip(aval_of(x).shape, place, geometry, strict=True):
        offset, count = k * w.dilation - w.low, w.count(n)
        first = min(count, max(0, -(offset // w.stride)))
        stop = max(first, min(count, -((offset - n) // w.stride)))
        at = first * w.stride + offset if stop > first else 0
        start.append(at)
        limit.append(at + (stop - first - 1) * w.stride + 1 if stop > first else at)
        config.append((first, count - stop, 0))
    return pad(slice_(x, start, limit, [w.stride for w in geometry]), fill, config)


def by_phases(
    parts: Sequence[list[Phase]], counts: Sequence[int], compute: Callable[[list[Phase], Sequence[int]], Any]
) -> Any:
    """Compute windows phase by phase and interleave them; each dimension has a list of phases and a number of windows.

    `compute` gets a phase for each dimension and how many windows there are of it, and returns those. All phases of a
    dimension have the same number of windows.
    """
    factors = [len(of_dimension) for of_dimension in parts]
    sizes = [-(-n // f) for n, f in zip(counts, factors, strict=True)]
    each = [compute(list(chosen), sizes) for chosen in itertools.product(*parts)]
    more = aval_of(each[0]).shape[len(sizes) :]
    return interleave(each, [*factors, *(1 for _ in more)], [*counts, *more])


def zero_of(x: Any) -> Any:
    """Return a zero of the type of `x`, to pad it with."""
    return np.zeros((), aval_of(x).dtype)


def repeated(x: Any, fill: Any, geometry: Sequence[Window]) -> Any:
    """Return the one element that each window sees, where the elements of `x` are as far apart as windows are long."""
    shape, sizes = aval_of(x).shape, [w.size for w in geometry]
    spread = interleave([x] * math.prod(sizes), sizes, [n * k for n, k in zip(shape, sizes, strict=True)])
    config = []
    for n, w in zip(shape, geometry, strict=True):
        low = w.low - (w.size - 1)
        config.append((low, w.count(n) - n * w.size - low, 0))
    return pad(spread, fill, config)


def folded(
    combine: Callable[[list, list], list], xs: Sequence[Any], fills: Sequence[Any], geometry: Sequence[Window]
) -> list[Any]:
    """Fold windows of arrays with an associative operation on lists of arrays, in row-major order.

    Windows of few elements are folded element by element, larger ones one dimension at a time, the last one first.
    """
    if math.prod(w.size for w in geometry) <= _FEW:
        views = zip(*(taps(x, fill, geometry) for x, fill in zip(xs, fills, strict=True)), strict=True)
        return functools.reduce(combine, map(list, views))
    xs = [padded(x, fill, geometry) for x, fill in zip(xs, fills, strict=True)]
    for d in reversed(range(len(geometry))):
        w = geometry[d]._replace(low=0, high=0, base_dilation=1)
        if w.size > 1 or w.stride > 1:
            xs = _folded_along(combine, xs, d, w)
    return xs


def _folded_along(combine: Callable[[list, list], list], xs: list[Any], axis: int, w: Window) -> list[Any]:
    n = aval_of(xs[0]).shape[axis]
    count = w.count(n)
    if w.size <= _LONG or w.stride >= w.size:
        views = ([_along(x, axis, k * w.dilation, count, w.stride) for x in xs] for k in range(w.size))
        return functools.reduce(combine, views)
    # blocks[i] folds `length` elements from i on; a window is made of blocks whose lengths are powers of 2.
    length, done, blocks = 1, 0, xs
    total: list[Any] | None = None
    while True:
        if w.size & length:
            part = [_along(x, axis, done * w.dilation, count, w.stride) for x in blocks]
            total = part if total is None else combine(total, part)
            done += length
        if total is not None and done == w.size:
            return total
        fit = aval_of(blocks[0]).shape[axis] - length * w.dilation
        halves = ([_along(x, axis, k, fit) for x in blocks] for k in (0, length * w.dilation))
        blocks, length = combine(*halves), 2 * length


def _along(x: Any, axis: int, start: int, count: int, stride: int = 1) -> Any:
    shape = aval_of(x).shape
    limit = start + (count - 1) * stride + 1 if count else start
    at = lambda inside, others: [inside if d == axis else o for d, o in enumerate(others)]  # noqa: E731
    return slice_(x, at(start, [0] * len(shape)), at(limit, shape), at(stride, [1] * len(shape)))
