"""Traces, which interpret primitives, and the current trace.

A *trace* evaluates a primitive (`EvalTrace`), records it, or propagates tangents or batch dimensions through it. Each
thread has one current trace. A transform makes its trace current, with the previous one as its parent, and runs the
rules of primitives with the parent current. Values other than its own tracers are constants. This is the design of
JAX's "stackless" tracing.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from funcgrad import errors
from funcgrad.config import config
from funcgrad.core.array_types import ArrayLike
from funcgrad.errors import SourceLocation


class Trace:
    """An interpretation of primitives, applied while the trace is current."""

    parent: Trace  # every trace but `eval_trace` has one
    valid = True
    bypassed = False  # True while rules of a higher-order primitive run with the parent current
    description = ""
    formatted: Mapping[int, ArrayLike] = MappingProxyType({})  # formatted tracers, for `tracers.formatted_in`

    # A `core.primitives.Primitive`, whose module is above: binding a primitive looks up the current trace here.
    def process_primitive(self, primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
        raise NotImplementedError

    def watch(self, tracer: ArrayLike) -> None:
        """Register a new tracer for the check at the end of the trace, with `config.check_tracer_leaks`."""
        if config.check_tracer_leaks:
            self.__dict__.setdefault("watched", []).append(weakref.ref(tracer))

    def invalidate(self) -> None:
        """Mark the trace as finished. Later uses of its tracers are leaks."""
        self.valid = False
        self.__dict__.pop("formatted", None)


class EvalTrace(Trace):
    """Evaluates primitives on concrete arrays; the outermost trace."""

    def process_primitive(self, primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
        return primitive.evaluate_eagerly(args, params)


eval_trace = EvalTrace()


class _State(threading.local):
    """The current trace of a thread, and the axis names bound by vmap."""

    def __init__(self) -> None:
        self.trace: Trace = eval_trace
        self.axis_sizes: dict[Any, int] = {}
        # While a transform rewrites an equation, new equations get the source location of that equation.
        self.source: SourceLocation | None = None


state = _State()


class current:
    """Make a trace current within a ``with`` block. It is a class because transforms enter it for every primitive."""

    __slots__ = ("trace", "previous")

    def __init__(self, trace: Trace):
        self.trace = trace

    def __enter__(self) -> None:
        self.previous, state.trace = state.trace, self.trace

    def __exit__(self, *exc: object) -> None:
        state.trace = self.previous


class bypassing:
    """Make the parent of a trace current within a ``with`` block, in which uses of its tracers are errors."""

    __slots__ = ("trace", "previous")

    def __init__(self, trace: Trace):
        self.trace = trace

    def __enter__(self) -> None:
        self.previous, state.trace = state.trace, self.trace.parent
        self.trace.bypassed = True

    def __exit__(self, *exc: object) -> None:
        state.trace = self.previous
        self.trace.bypassed = False


@contextlib.contextmanager
def new_trace(trace: Trace) -> Iterator[Trace]:
    """Make `trace` current within a ``with`` block; tracers that survive the block have leaked."""
    previous, state.trace = state.trace, trace
    try:
        yield trace
    finally:
        state.trace = previous
        trace.invalidate()


@contextlib.contextmanager
def ensure_compile_time_eval() -> Iterator[None]:
    """Evaluate operations on concrete values eagerly, within a ``with`` block in a traced function.

    Operations on concrete values give arrays that Python can branch on. Operations with traced operands are recorded as
    usual.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> @fg.jit
    ... def f(x):
    ...     with ensure_compile_time_eval():
    ...         n = jnp.sum(jnp.arange(4))
    ...         return x * 2 if n > 5 else x
    >>> f(3.0)
    Array(6., dtype=float32, weak_type=True)
    """
    with current(eval_trace):
        yield


def enclosing(trace: Trace) -> Iterator[Trace]:
    """Yield a trace and the traces enclosing it, except `eval_trace`."""
    while trace is not eval_trace:
        yield trace
        trace = trace.parent


@errors.on_error
def _describe_context() -> str:
    """Describe the active transforms: "tracing jit(loss), inside …"."""
    parts = dict.fromkeys(trace.description for trace in enclosing(state.trace) if trace.description)
    return ", inside ".join(parts)
