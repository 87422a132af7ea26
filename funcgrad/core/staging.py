"""Tracing of functions to jaxprs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core import traces
from funcgrad.core.array_types import Reference
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Var, literal_of
from funcgrad.core.leaks import check_leaks
from funcgrad.core.primitives import Primitive
from funcgrad.core.scopes import computed_at
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.core.traces import Trace
from funcgrad.errors import SourceLocation, user_location


class JaxprTracer(Tracer):
    """A value that a recorded jaxpr will compute."""

    __slots__ = ("aval", "variable", "location", "argument")

    def __init__(self, trace: JaxprTrace, var: Var, location: SourceLocation | None, argument: str = ""):
        self._trace, self.variable, self.aval = trace, var, var.aval
        self.location, self.argument = location, argument
        trace.watch(self)

    def origin(self) -> str:
        if self.argument:
            return f" (it is {self.argument})"
        return computed_at(self.location)


class JaxprTrace(Trace):
    """Record every primitive as an equation."""

    def __init__(self, parent: Trace, description: str = ""):
        self.parent, self.description = parent, description
        self.invars: list[Var] = []
        self.eqns: list[JaxprEqn] = []
        self.consts: dict[int, tuple[Var, Any]] = {}

    def new_argument(self, aval: ShapedArray, argument: str = "") -> JaxprTracer:
        """Add an input to the jaxpr and return its tracer."""
        var = Var(aval)
        self.invars.append(var)
        return JaxprTracer(self, var, None, argument)

    def atom(self, x: Any) -> Atom:
        """Return the atom of `x`: its variable, a literal, or a new constant."""
        if isinstance(x, Tracer):
            if x._trace is self:
                return x.variable
            check_not_leaked(x)
        elif not isinstance(x, Reference):
            literal = literal_of(x)
            if literal is not None:
                return literal
            x = as_array(x)
        if id(x) not in self.consts:
            self.consts[id(x)] = (Var(x.aval), x)
        return self.consts[id(x)][0]

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        return self.record(primitive, args, params)

    def record(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Add an equation, and return tracers for its results."""
        if primitive.stage is not None:
            args, params = primitive.stage(args, params)
        atoms = [self.atom(a) for a in args]
        out = primitive.typed([a.aval for a in atoms], params)
        avals = out if primitive.multiple_results else [out]
        source = traces.state.source or user_location()
        outvars = [Var(a) for a in avals]
        self.eqns.append(JaxprEqn(atoms, outvars, primitive, params, source))
        tracers = [JaxprTracer(self, v, source) for v in outvars]
        return tracers if primitive.multiple_results else tracers[0]

    def finish(self, outs: Sequence[Any], name: str = "") -> ClosedJaxpr:
        """Return the recorded jaxpr with `outs` as its results."""
        outvars = [self.atom(x) for x in outs]
        constvars = [v for v, _ in self.consts.values()]
        jaxpr = Jaxpr(constvars, self.invars, self.eqns, outvars, name)
        return ClosedJaxpr(jaxpr, [c for _, c in self.consts.values()])


def trace_to_jaxpr(
    fun: Callable[..., Sequence[Any]],
    avals: Sequence[ShapedArray],
    *,
    description: str = "",
    name: str = "",
    argument_names: Sequence[str] | None = None,
) -> ClosedJaxpr:
    """Trace `fun`, a function from flat arrays to flat arrays, at the given avals.

    Consts of the result may be tracers of outer traces, or Refs; `hoist_tracers` makes those inputs.
    """
    trace = JaxprTrace(traces.state.trace, description)
    argument_names = argument_names or [""] * len(avals)
    with traces.new_trace(trace):
        source, traces.state.source = traces.state.source, None
        try:
            closed = trace.finish(fun(*map(trace.new_argument, avals, argument_names)), name)
        finally:
            traces.state.source = source
    check_leaks(trace)
    return closed


def hoist_tracers(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Any]]:
    """Convert consts that are tracers or Refs to leading inputs; return the jaxpr and their values."""
    pairs = list(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    hoisted = [(v, c) for v, c in pairs if isinstance(c, (Tracer, Reference))]
    if not hoisted:
        return closed, []
    kept = [(v, c) for v, c in pairs if not isinstance(c, (Tracer, Reference))]
    jaxpr = closed.jaxpr.replace(constvars=[v for v, _ in kept], invars=[v for v, _ in hoisted] + closed.jaxpr.invars)
    return ClosedJaxpr(jaxpr, [c for _, c in kept]), [c for _, c in hoisted]
