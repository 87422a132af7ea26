"""Which loops of a kernel have safepoints, and how many iterations pass between two of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from funcgrad.compiler.loops.language import For, Kernel, Op, Stmt, While

# Scalar operations between two safepoints: a hundred microseconds, or some milliseconds of the slowest ones.
_OPERATIONS = 1 << 18


def fuel(kernel: Kernel) -> int:
    """Return the number of iterations that a kernel may run between two safepoints."""
    operations = sum(isinstance(node, Op) for node in _nodes(kernel.body))
    return max(1, _OPERATIONS // max(1, operations))


def may_take_long(body: tuple[Stmt, ...]) -> bool:
    """Whether a loop in series within `body` has no bound that is known now."""
    return any(is_long(node) for node in _nodes(body))


def is_long(node: Any) -> bool:
    """Whether this is a loop in series that may take long by itself."""
    return isinstance(node, While) or (isinstance(node, For) and node.kind == "serial" and isinstance(node.extent, str))


def has_long_vectors(body: tuple[Stmt, ...]) -> bool:
    """Whether an iteration of a loop with this body may take long without a loop in series."""
    return any(
        isinstance(node, For) and node.kind == "vector" and isinstance(node.extent, str) for node in _nodes(body)
    )


def _nodes(tree: Any) -> Iterator[Any]:
    """All statements and expressions of a tree."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            pending += node
        elif names := _fields(type(node)):
            yield node
            pending += [getattr(node, name) for name in names]


@functools.cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()
