"""Masks: lists of bools that tell which values of another list are batched, linear, unknown, or have a tangent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from funcgrad.core.avals import ShapedArray
from funcgrad.core.symbolic import Zero

T = TypeVar("T")


def split_list(values: Sequence[T], sizes: Iterable[int]) -> list[list[T]]:
    """Split a list into lists of these sizes and one of the rest.

    >>> split_list("abcde", [1, 2])
    [['a'], ['b', 'c'], ['d', 'e']]
    """
    parts, start = [], 0
    for size in sizes:
        parts.append(list(values[start : start + size]))
        start += size
    return [*parts, list(values[start:])]


def select(values: Iterable[T], mask: Iterable[Any], wanted: Any = True) -> list[T]:
    """Return the values where the mask is `wanted`.

    >>> select("abc", [True, False, True])
    ['a', 'c']
    """
    return [v for v, m in zip(values, mask, strict=True) if m == wanted]


def partition_list(mask: Sequence[bool], values: Iterable[T]) -> tuple[list[T], list[T]]:
    """Return the values where the mask is False, and those where it is True.

    >>> partition_list([True, False, True], "abc")
    (['b'], ['a', 'c'])
    """
    lists: tuple[list[T], list[T]] = [], []
    for m, v in zip(mask, values, strict=True):
        lists[m].append(v)
    return lists


def merge_lists(mask: Sequence[bool], where_false: Iterable[T], where_true: Iterable[T]) -> list[T]:
    """Return the list that `partition_list` would split into these two; its inverse.

    >>> merge_lists([True, False, True], "b", "ac")
    ['a', 'b', 'c']
    """
    given = iter(where_false), iter(where_true)
    return [next(given[m]) for m in mask]


def spread(values: Iterable[T], mask: Iterable[bool]) -> list[T | None]:
    """Put the values, in order, where the mask is True, and None elsewhere; the inverse of `select`.

    >>> spread("ac", [True, False, True])
    ['a', None, 'c']
    """
    given = iter(values)
    return [next(given) if m else None for m in mask]


def broadcast_mask(mask: Sequence[bool] | bool, count: int) -> tuple[bool, ...]:
    """Return a mask for `count` values; a single bool applies to all of them."""
    return (mask,) * count if isinstance(mask, bool) else tuple(mask)


def nonzero(tangents: Iterable[Any]) -> list[bool]:
    """Return the mask of the tangents or cotangents that are not `Zero`."""
    return [type(t) is not Zero for t in tangents]


def with_zeros(tangents: Iterable[Any], mask: Sequence[bool], avals: Sequence[ShapedArray]) -> list[Any]:
    """Put the tangents, in order, where the mask is True, and `Zero` elsewhere."""
    given = iter(tangents)
    return [next(given) if m else Zero(a.tangent()) for m, a in zip(mask, avals, strict=True)]
