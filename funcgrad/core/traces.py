"""Traces: what applying a primitive means, and which trace is current.

A *trace* evaluates a primitive (`EvalTrace`), records it, or pushes a tangent or a batch dimension through it.
Exactly one trace is current in a thread. A transform makes its trace current, keeps the previous one as its parent,
and runs the rules of primitives with the parent current; values that are not its own tracers are constants to it.
(This is the design of JAX's "stackless" tracing.)
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
    """What applying a primitive means while this trace is current."""

    parent: Trace  # every trace but `eval_trace` has one
    valid = True
    bypassed = False  # while it runs rules of a primitive that carries functions or jaxprs, below itself
    description = ""
    formatted: Mapping[int, ArrayLike] = MappingProxyType({})  # tracers in texts, for `tracers.formatted_in`

    # A `core.primitives.Primitive`, whose module is above: binding a primitive looks up the current trace here.
    def process_primitive(self, primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
        raise NotImplementedError

    def watch(self, tracer: ArrayLike) -> None:
        """With `config.check_tracer_leaks`, remember a new tracer for the check at the end of the trace."""
        if config.check_tracer_leaks:
            self.__dict__.setdefault("watched", []).append(weakref.ref(tracer))

    def invalidate(self) -> None:
        """Mark the trace as finished: tracers of it that are still around have leaked."""
        self.valid = False
        self.__dict__.pop("formatted", None)


class EvalTrace(Trace):
    """Evaluate primitives on concrete arrays; the trace below all others."""

    def process_primitive(self, primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
        return primitive.evaluate_eagerly(args, params)


eval_trace = EvalTrace()


class _State(threading.local):
    """This thread's current trace, and the axis names that vmap has bound."""

    def __init__(self) -> None:
        self.trace: Trace = eval_trace
        self.axis_sizes: dict[Any, int] = {}
        # While a transform rewrites an equation, the equations it makes keep that equation's source line.
        self.source: SourceLocation | None = None


state = _State()


class current:
    """Make a trace the current one within a ``with`` block (a class: entered for every primitive of a transform)."""

    __slots__ = ("trace", "previous")

    def __init__(self, trace: Trace):
        self.trace = trace

    def __enter__(self) -> None:
        self.previous, state.trace = state.trace, self.trace

    def __exit__(self, *exc: object) -> None:
        state.trace = self.previous


class bypassing:
    """Make the parent of a trace current within a ``with`` block, and using tracers of the trace an error."""

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
    """Evaluate now what is known now, within a ``with`` block in a function that is traced.

    Operations on known values give arrays that Python may branch on; those that have a traced operand are
    recorded as usual.

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
    """Yield a trace and those around it, but for `eval_trace`."""
    while trace is not eval_trace:
        yield trace
        trace = trace.parent


@errors.on_error
def _describe_context() -> str:
    """Describe the transforms that are running: "tracing jit(loss), inside …"."""
    parts = dict.fromkeys(trace.description for trace in enclosing(state.trace) if trace.description)
    return ", inside ".join(parts)
