"""Filtering of the library's frames from tracebacks, as configured by `config.traceback_filtering`.

A library function that calls or compiles a user function is a boundary. Exceptions are filtered when they leave the
outermost boundary. The decorator `boundary` costs a function call; `JitFunction.__call__`, which is called often, has
an exception handler in its own body instead.
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
    """The cause of an exception that was filtered in mode "remove_frames"; it has the full traceback."""


def boundary(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that the tracebacks of its exceptions are filtered."""

    @functools.wraps(function)
    def filtering(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            filter_traceback(error)
            raise

    return boundary_itself(filtering)


def boundary_itself(function: Function) -> Function:
    """Register a function that calls `filter_traceback` in its own exception handler."""
    if isinstance(function, FunctionType):
        _boundaries.add(function.__code__)
    return function


def filter_traceback(error: Exception) -> None:
    """Filter the traceback of an exception that a boundary caught, unless an outer boundary will."""
    mode, full = _mode(), error.__traceback__
    if mode == "off" or full is None or _is_enclosed(sys._getframe(1)):
        return
    if mode == "tracebackhide":
        for frame, _ in traceback.walk_tb(full):
            _hide(frame)
        return
    error.with_traceback(_without_own(full))
    if mode == "remove_frames":
        _keep_as_cause(error, full)
    elif not isinstance(error, errors.FuncgradError) and NOTE not in getattr(error, "__notes__", ()):
        error.add_note(NOTE)  # a FuncgradError has its own location


def _mode() -> str:
    mode = config.traceback_filtering
    if mode != "auto":
        return mode
    ipython = sys.modules.get("IPython")
    return "tracebackhide" if ipython and ipython.get_ipython() else "quiet_remove_frames"


def _is_enclosed(frame: FrameType) -> bool:
    """Whether one of the callers of a frame is a boundary."""
    outer = frame.f_back
    while outer is not None and outer.f_code not in _boundaries:
        outer = outer.f_back
    return outer is not None


def _without_own(full: TracebackType) -> TracebackType | None:
    kept = None
    for frame, line in reversed(list(traceback.walk_tb(full))):
        if not errors.is_own(frame.f_code.co_filename):
            kept = TracebackType(kept, frame, frame.f_lasti, line)
    return kept


def _keep_as_cause(error: Exception, full: TracebackType) -> None:
    cause = UnfilteredStackTrace("The full traceback is above; the one below leaves out the frames of funcgrad.")
    cause.__cause__, cause.__context__ = error.__cause__, error.__context__
    cause.__suppress_context__ = error.__suppress_context__
    error.__cause__ = cause.with_traceback(full)


def _hide(frame: FrameType) -> None:
    """Mark a frame of the library as hidden, for IPython and pytest."""
    if errors.is_own(frame.f_code.co_filename):
        frame.f_locals[_HIDE] = True


@errors.on_error
def _hide_callers() -> str:
    """Hide the frames between an error and the user's line: eager operations are not boundaries."""
    if _mode() == "tracebackhide":
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and errors.is_own(frame.f_code.co_filename):
            _hide(frame)
            frame = frame.f_back
    return ""
