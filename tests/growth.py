"""How much Python a call runs and how deep it goes: counts that, unlike seconds, are the same every time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(function: Callable[..., Any], *args: Any) -> int:
    """Return how many calls of Python and C functions `function(*args)` makes."""
    count = 0

    def see(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    _profiled(see, function, *args)
    return count


def depth(function: Callable[..., Any], *args: Any) -> int:
    """Return how many Python frames are on the stack, at most, while `function(*args)` runs."""
    now = deepest = 0

    def see(frame: FrameType, event: str, _: Any) -> None:
        nonlocal now, deepest
        now += {"call": 1, "return": -1}.get(event, 0)
        deepest = max(deepest, now)

    _profiled(see, function, *args)
    return deepest


def _profiled(see: Callable[..., Any], function: Callable[..., Any], *args: Any) -> None:
    before = sys.getprofile()
    sys.setprofile(see)
    try:
        function(*args)
    finally:
        sys.setprofile(before)
