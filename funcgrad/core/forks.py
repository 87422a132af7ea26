"""Locks that are safe across forks.

The child of a fork has only the thread that forked. A lock held by another thread would stay locked in it forever, and
the state that it guards would be inconsistent. A fork therefore acquires these locks first, and both processes release
them, so that no other thread is inside a critical section, or inside LLVM.
"""

from __future__ import annotations

import os
import threading
from typing import Any

# A thread that holds one of these locks acquires only later ones.
_ORDER = ("forks", "runtime", "toolchain", "interning", "llvmlite", "buffers")
_locks: dict[str, Any] = {"forks": threading.RLock()}
_taken: list[Any] = []


def held(name: str, lock: Any) -> Any:
    """Register a reentrant lock, so that forks acquire it, and return it."""
    assert name in _ORDER
    _locks[name] = lock
    return lock


def _before() -> None:
    for name in _ORDER:
        if name in _locks:
            _locks[name].__enter__()
            _taken.append(_locks[name])


def _after() -> None:
    while _taken:
        _taken.pop().__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
