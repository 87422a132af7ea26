"""Forward mode: push tangents through primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.leaks import check_leaks
from funcgrad.core.masks import broadcast_mask, nonzero, select, with_zeros
from funcgrad.core.primitives import Primitive
from funcgrad.core.scopes import computed_at
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import Trace
from funcgrad.errors import user_location
from funcgrad.ops.shapes import instantiate
from funcgrad.transforms.flattening import FlatFunction


class JVPTracer(Tracer):
    """A primal value and its tangent."""

    __slots__ = ("aval", "location", "primal", "tangent")

    def __init__(self, trace: JVPTrace, primal: Any, tangent: Any):
        self.aval, self._trace, self.primal, self.tangent = aval_of(primal), trace, primal, tangent
        self.location = user_location() if config.check_tracer_leaks else None
        trace.watch(self)

    def concrete(self) -> np.ndarray | None:
        if isinstance(self.primal, Tracer):
            return self.primal.concrete()
        return np.asarray(self.primal)

    def origin(self) -> str:
        return self.primal.origin() if isinstance(self.primal, Tracer) else computed_at(self.location)


class JVPTrace(Trace):
    """Apply jvp rules; primitives whose inputs carry no tangent go straight to the parent."""

    def __init__(self, parent: Trace, description: str = ""):
        self.parent, self.description = parent, description

    def pair(self, x: Any) -> tuple[Any, Any]:
        """Return (primal, tangent) of a value; a constant's tangent is Zero."""
        if isinstance(x, JVPTracer) and x._trace is self:
            return x.primal, x.tangent
        return x, Zero(aval_of(x).tangent())

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        pairs = [self.pair(a) for a in args]
        primals, tangents = [p for p, _ in pairs], [t for _, t in pairs]
        with traces.bypassing(self) if primitive.higher_order else traces.current(self.parent):
            if all(type(t) is Zero for t in tangents):
                return primitive.bind(*primals, **params)
            out, tangent = primitive.jvp(primals, tangents, **params)
        if primitive.multiple_results:
            return [self.join(o, t) for o, t in zip(out, tangent, strict=True)]
        return self.join(out, tangent)

    def join(self, primal: Any, tangent: Any) -> Any:
        """Return a tracer, or the primal itself when there is no tangent to carry."""
        return primal if type(tangent) is Zero else JVPTracer(self, primal, tangent)


def jvp_flat(
    fun: Callable[..., Sequence[Any]], primals: Sequence[Any], tangents: Sequence[Any], parent: Trace | None = None
) -> tuple[list[Any], list[Any]]:
    """Evaluate a flat function and its directional derivative: (f(x), ∂f(x)·v). Tangents may be Zero."""
    trace = JVPTrace(parent or traces.state.trace, f"differentiating {getattr(fun, '__name__', 'a function')}")
    with traces.new_trace(trace):
        outs = fun(*map(trace.join, primals, tangents))
        if isinstance(fun, FlatFunction):
            fun.aux = [a.primal if isinstance(a, JVPTracer) and a._trace is trace else a for a in fun.aux]
        pairs = [trace.pair(o) for o in outs]
        del outs
    check_leaks(trace)
    return [p for p, _ in pairs], [t for _, t in pairs]


def jvp_jaxpr(
    closed: ClosedJaxpr, nonzero_in: Sequence[bool], instantiate_out: Sequence[bool] | bool = False
) -> tuple[ClosedJaxpr, list[bool]]:
    """Return the jaxpr of (primals, nonzero tangents) → (results, their nonzero tangents), and the mask of these.

    Tangents of the inexact outputs in `instantiate_out` are returned even when they are zero.
    """
    wanted = broadcast_mask(instantiate_out, len(closed.jaxpr.outvars))
    return closed.memo(("jvp", tuple(nonzero_in), wanted), lambda: _jvp_jaxpr(closed, nonzero_in, wanted))


def _jvp_jaxpr(
    closed: ClosedJaxpr, nonzero_in: Sequence[bool], wanted: Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    avals: list[ShapedArray] = closed.in_avals
    nonzero_out: list[bool] = []

    def fun(*flat: Any) -> list[Any]:
        primals, tangents = flat[: len(avals)], with_zeros(flat[len(avals) :], nonzero_in, avals)
        out, tangents_out = jvp_flat(lambda *xs: eval_jaxpr(closed.jaxpr, closed.consts, *xs), primals, tangents)
        tangents_out = [
            instantiate(t) if w and dtypes.is_inexact(aval_of(o).dtype) else t
            for o, t, w in zip(out, tangents_out, wanted, strict=True)
        ]
        nonzero_out[:] = nonzero(tangents_out)
        return [*out, *select(tangents_out, nonzero_out)]

    tangent_avals = [a.tangent() for a in select(avals, nonzero_in)]
    result = trace_to_jaxpr(fun, [*avals, *tangent_avals], name=f"jvp_{closed.jaxpr.name}")
    return result, nonzero_out
