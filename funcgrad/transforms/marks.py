"""Values and marks: which operands of an equation are batched, linear, unknown, or have a tangent.

Rules of primitives that carry jaxprs pass on what is marked, and put what comes back where the marks are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from funcgrad.core.avals import ShapedArray
from funcgrad.core.tracing import Zero

T = TypeVar("T")


def select(values: Sequence[T], marks: Sequence[Any], wanted: Any = True) -> list[T]:
    """Return the values whose mark is `wanted`.

    >>> select("abc", [True, False, True])
    ['a', 'c']
    """
    return [v for v, m in zip(values, marks, strict=True) if m == wanted]


def spread(values: Iterable[T], marks: Sequence[bool]) -> list[T | None]:
    """Put values where a mark is, in their order, and None elsewhere; the inverse of `select`.

    >>> spread("ac", [True, False, True])
    ['a', None, 'c']
    """
    given = iter(values)
    return [next(given) if m else None for m in marks]


def nonzero(tangents: Iterable[Any]) -> list[bool]:
    """Mark the tangents, or cotangents, that are not `Zero`."""
    return [type(t) is not Zero for t in tangents]


def with_zeros(tangents: Iterable[Any], marks: Sequence[bool], avals: Sequence[ShapedArray]) -> list[Any]:
    """Put tangents where a mark is, in their order, and elsewhere the `Zero` of a primal of that type."""
    given = iter(tangents)
    return [next(given) if m else Zero(a.tangent()) for m, a in zip(marks, avals, strict=True)]


def of_each(marks: Sequence[bool] | bool, count: int) -> tuple[bool, ...]:
    """Return one mark for each of `count` values; a single one is that of all."""
    return (marks,) * count if isinstance(marks, bool) else tuple(marks)
