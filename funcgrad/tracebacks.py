"""Tracebacks without the library's own frames, as `config.traceback_filtering` says.

A function of the library that calls or compiles one of the user's is a boundary: what is raised below the outermost one
leaves it filtered. A boundary costs a call where nothing is raised; `JitFunction.__call__`, which is called often,
has its handler in its own body, which costs nothing.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, ParamSpec, TypeVar

from funcgrad import errors
from funcgrad.config import config

P = ParamSpec("P")
R = TypeVar("R")
Function = TypeVar("Function", bound=Callable[..., Any])

NOTE = "funcgrad left its own frames out of this traceback; set FUNCGRAD_TRACEBACK_FILTERING=off to see them."
_HIDE = "__tracebackhide__"
_boundaries: set[CodeType] = set()


class UnfilteredStackTrace(Exception):
    """The cause of an exception whose traceback was filtered in the mode "remove_frames": has the whole traceback."""


def boundary(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function one whose exceptions leave it with a filtered traceback."""

    @functools.wraps(function)
    def filtering(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            filter_traceback(error)
            raise

    return boundary_itself(filtering)


def boundary_itself(function: Function) -> Function:
    """Say that a function calls `filter_traceback` in a handler of its own."""
    if isinstance(function, FunctionType):
        _boundaries.add(function.__code__)
    return function


def filter_traceback(error: Exception) -> None:
    """Filter the traceback of an exception that a boundary has caught, unless a boundary around it will."""
    mode, whole = _mode(), error.__traceback__
    if mode == "off" or whole is None or _is_enclosed(sys._getframe(1)):
        return
    if mode == "tracebackhide":
        for frame, _ in traceback.walk_tb(whole):
            _hide(frame)
        return
    error.with_traceback(_without_own(whole))
    if mode == "remove_frames":
        _keep_as_cause(error, whole)
    elif not isinstance(error, errors.FuncgradError) and NOTE not in getattr(error, "__notes__", ()):
        error.add_note(NOTE)  # a FuncgradError says where it is from


def _mode() -> str:
    mode = config.traceback_filtering
    if mode != "auto":
        return mode
    ipython = sys.modules.get("IPython")
    return "tracebackhide" if ipython and ipython.get_ipython() else "quiet_remove_frames"


def _is_enclosed(frame: FrameType) -> bool:
    """Whether there is a boundary among the callers of a frame."""
    outer = frame.f_back
    while outer is not None and outer.f_code not in _boundaries:
        outer = outer.f_back
    return outer is not None


def _without_own(whole: TracebackType) -> TracebackType | None:
    kept = None
    for frame, line in reversed(list(traceback.walk_tb(whole))):
        if not errors.is_own(frame.f_code.co_filename):
            kept = TracebackType(kept, frame, frame.f_lasti, line)
    return kept


def _keep_as_cause(error: Exception, whole: TracebackType) -> None:
    cause = UnfilteredStackTrace("The traceback with all frames is above; below, those of funcgrad are left out.")
    cause.__cause__, cause.__context__ = error.__cause__, error.__context__
    cause.__suppress_context__ = error.__suppress_context__
    error.__cause__ = cause.with_traceback(whole)


def _hide(frame: FrameType) -> None:
    """Mark a frame of the library for tools that leave out marked ones: IPython and pytest."""
    if errors.is_own(frame.f_code.co_filename):
        frame.f_locals[_HIDE] = True


@errors.on_error
def _hide_callers() -> str:
    """Mark the frames between the raising of an error and the user's line: eager operations are no boundaries."""
    if _mode() == "tracebackhide":
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and errors.is_own(frame.f_code.co_filename):
            _hide(frame)
            frame = frame.f_back
    return ""
