"""funcgrad.profiler: annotated spans of a program, as a trace that chrome://tracing and Perfetto show."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from funcgrad.errors import ArgumentError
from funcgrad.errors import explain_missing_names as _explain_missing_names


class _Recording:
    """The spans of a running trace."""

    directory: Path | None = None
    spans: list[dict[str, Any]] = []


_recording = _Recording()


def start_trace(log_dir: str | os.PathLike[str], **options: Any) -> None:
    """Record annotations from now on, until `stop_trace` writes them to `log_dir`/funcgrad.trace.json.

    Raises:
      ArgumentError: a trace is being recorded already.
    """
    if _recording.directory is not None:
        raise ArgumentError("start_trace: a trace is being recorded", fix="call stop_trace first")
    _recording.directory, _recording.spans = Path(log_dir), []


def stop_trace() -> None:
    """Write the recorded annotations in Chrome's trace format; raise ArgumentError if there is no trace."""
    directory = _recording.directory
    if directory is None:
        raise ArgumentError("stop_trace: no trace is being recorded", fix="call start_trace first")
    _recording.directory = None
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"traceEvents": _recording.spans, "displayTimeUnit": "ms"})
    (directory / "funcgrad.trace.json").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def trace(log_dir: str | os.PathLike[str], **options: Any) -> Iterator[None]:
    """Record annotations within a ``with`` block; see `start_trace`."""
    start_trace(log_dir)
    try:
        yield
    finally:
        stop_trace()


class TraceAnnotation:
    """A named span of the trace, as a context manager or a decorator.

    >>> with TraceAnnotation("load", batch=3):
    ...     pass
    """

    def __init__(self, name: str, **arguments: Any):
        self._name, self._arguments, self._starts = name, arguments, list[float]()

    def __enter__(self) -> TraceAnnotation:
        self._starts.append(time.perf_counter())
        return self

    def __exit__(self, *exc: object) -> None:
        start = self._starts.pop()
        if _recording.directory is not None:
            microseconds = {"ts": start * 1e6, "dur": (time.perf_counter() - start) * 1e6}
            place = {"pid": os.getpid(), "tid": threading.get_ident()}
            _recording.spans.append({"name": self._name, "ph": "X", "args": self._arguments} | microseconds | place)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return annotate_function(function, self._name, **self._arguments)


class StepTraceAnnotation(TraceAnnotation):
    """A named span that is a step of a loop; give its number as `step_num`."""


def annotate_function(function: Callable[..., Any], name: str | None = None, **arguments: Any) -> Callable[..., Any]:
    """Return a function whose calls are spans of the trace.

    >>> annotate_function(lambda x: x + 1, name="increment")(1)
    2
    """
    label = name or getattr(function, "__qualname__", repr(function))

    @functools.wraps(function)
    def annotated(*args: Any, **kwargs: Any) -> Any:
        with TraceAnnotation(label, **arguments):
            return function(*args, **kwargs)

    return annotated


_explain_missing_names(__name__)
