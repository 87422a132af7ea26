"""Locks that a fork waits for.

The child of a fork has one thread, the one that forked. A lock that another thread held would stay locked there for
ever, and what it guards half changed. So a fork takes these locks first, and both processes release them: no thread is
in the middle of anything then, not in LLVM either.
"""

from __future__ import annotations

import os
import threading
from typing import Any

# A thread that holds one of these takes only later ones.
_ORDER = ("forks", "runtime", "toolchain", "interning", "llvmlite", "buffers")
_locks: dict[str, Any] = {"forks": threading.RLock()}
_taken: list[Any] = []


def held(name: str, lock: Any) -> Any:
    """Return `lock`, re-entrant and a context manager, after making forks wait for it."""
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
