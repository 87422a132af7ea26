"""The trace of truncated power series, and the rules that follow from jvp rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr, pruned
from funcgrad.core.masks import nonzero, select, with_zeros
from funcgrad.core.primitives import Primitive, Transform
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import Trace
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import broadcast_scalar, instantiate
from funcgrad.transforms.custom_rules.common import call
from funcgrad.transforms.jet.rules import Coefficients, derivative, scaled


class JetTracer(Tracer):
    """A truncated power series [x₀, x₁, …]; coefficients but the first may be Zero."""

    __slots__ = ("aval", "coefficients")

    def __init__(self, trace: JetTrace, coefficients: Coefficients):
        self._trace, self.coefficients = trace, coefficients
        self.aval = aval_of(coefficients[0])

    def concrete(self) -> Any:
        primal = self.coefficients[0]
        return primal.concrete() if isinstance(primal, Tracer) else primal.host

    def origin(self) -> str:
        primal = self.coefficients[0]
        return primal.origin() if isinstance(primal, Tracer) else ""


class JetTrace(Trace):
    """Apply the rules for series; primitives whose inputs are constant go straight to the parent."""

    def __init__(self, parent: Trace, order: int, description: str = ""):
        self.parent, self.order, self.description = parent, order, description

    def series(self, x: Any) -> Coefficients:
        """Return the coefficients of a value, zeros for a constant."""
        if isinstance(x, JetTracer) and x._trace is self:
            return x.coefficients
        return [x, *[Zero(aval_of(x).tangent())] * self.order]

    def join(self, coefficients: Coefficients) -> Any:
        """Return a tracer, or the value itself when nothing else is there."""
        primal, *terms = coefficients
        if all(type(c) is Zero for c in terms):
            return primal
        aval = aval_of(primal).tangent()
        return JetTracer(self, [primal, *(_typed(c, aval) for c in terms)])

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        rule = JET.rule(primitive)
        if isinstance(rule, Inlined):
            return call(params[rule.param], args)
        series = [self.series(a) for a in args]
        with traces.bypassing(self) if primitive.higher_order else traces.current(self.parent):
            if all(type(c) is Zero for s in series for c in s[1:]):
                return primitive.bind(*args, **params)
            out = rule(primitive, series, params)
        return [self.join(s) for s in out] if primitive.multiple_results else self.join(out[0])


class Inlined(NamedTuple):
    """The rule of calls: the trace applies the function in `param`."""

    param: str


def _typed(coefficient: Any, aval: ShapedArray) -> Any:
    """Convert a coefficient to the type of its value: scalars are broadcast, and constants are weakly typed."""
    if type(coefficient) is Zero:
        return Zero(aval)
    return broadcast_scalar(convert_element_type(coefficient, aval.dtype, aval.weak_type), aval.shape)


def jet_flat(fun: Callable[..., Sequence[Any]], series: Sequence[Coefficients]) -> list[Coefficients]:
    """Return the coefficients of the results of a flat function."""
    trace = JetTrace(traces.state.trace, len(series[0]) - 1, f"expanding {getattr(fun, '__name__', 'a function')}")
    with traces.new_trace(trace):
        outs = fun(*map(trace.join, series))
        return [trace.series(x) for x in outs]


# ---------------------------------------------------------------- rules from the jvp rule


def _values(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Any]:
    out = primitive.bind(*(s[0] for s in series), **params)
    return list(out) if primitive.multiple_results else [out]


def linear_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """y_k = ∂f(x₀)·x_k."""
    primals = [s[0] for s in series]
    out = [[y] for y in _values(primitive, series, params)]
    for k in range(1, len(series[0])):
        terms = [s[k] for s in series]
        for results, y in zip(out, _directional(primitive, primals, terms, params), strict=True):
            results.append(y)
    return out


def _directional(primitive: Primitive, primals: list[Any], tangents: list[Any], params: dict[str, Any]) -> list[Any]:
    """Return ∂f(x)·v."""
    mask = nonzero(tangents)
    closed, nonzero_out, avals = _tangent_jaxpr(primitive, primals, mask, params)
    out = iter(eval_jaxpr(closed.jaxpr, closed.consts, *primals, *select(tangents, mask)) if any(nonzero_out) else [])
    return [next(out) if nz else Zero(a) for nz, a in zip(nonzero_out, avals, strict=True)]


def derivative_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """y' = ∂f(x)·x' as a series of its own, shorter by one; then y_k = y'_{k−1} / k."""
    values = _values(primitive, series, params)
    if not any(dtypes.is_inexact(aval_of(y).dtype) for y in values):  # nor are effects to be had twice
        return [[y, *[Zero(aval_of(y).tangent())] * (len(series[0]) - 1)] for y in values]
    varying = list(map(varies, series))
    closed, nonzero_out, avals = _tangent_jaxpr(primitive, [s[0] for s in series], varying, params)
    slopes = map(derivative, select(series, varying))
    slopes = [[instantiate(s[0]), *s[1:]] for s in slopes]
    rates = iter(
        jet_flat(lambda *xs: eval_jaxpr(closed.jaxpr, closed.consts, *xs), [*(s[:-1] for s in series), *slopes])
    )
    out = []
    for y, nz, aval in zip(values, nonzero_out, avals, strict=True):
        rate = next(rates) if nz else [Zero(aval)] * (len(series[0]) - 1)
        out.append([y, *(scaled(c, 1 / k) for k, c in enumerate(rate, 1))])
    return out


_tangent_jaxprs: dict[Any, tuple[ClosedJaxpr, list[bool], list[ShapedArray]]] = {}


def _tangent_jaxpr(
    primitive: Primitive, primals: Sequence[Any], nonzero_in: Sequence[bool], params: dict[str, Any]
) -> tuple[ClosedJaxpr, list[bool], list[ShapedArray]]:
    """Return (primals, nonzero tangents) → the nonzero tangents of the results, which these are, and all their types.

    It computes nothing else: results of the primitive itself are there only where a tangent needs them.
    """
    avals = tuple(map(aval_of, primals))
    if primitive.higher_order:  # functions in its params may close over tracers
        return _trace_tangents(primitive, avals, nonzero_in, params)
    try:
        key = (primitive, avals, tuple(nonzero_in), *params.items())
        found = _tangent_jaxprs.get(key)
    except TypeError:  # a param that does not hash
        return _trace_tangents(primitive, avals, nonzero_in, params)
    if found is None:
        if len(_tangent_jaxprs) > 4096:
            _tangent_jaxprs.clear()
        found = _tangent_jaxprs[key] = _trace_tangents(primitive, avals, nonzero_in, params)
    return found


def _trace_tangents(
    primitive: Primitive, avals: Sequence[ShapedArray], nonzero_in: Sequence[bool], params: dict[str, Any]
) -> tuple[ClosedJaxpr, list[bool], list[ShapedArray]]:
    tangents_out: list[Any] = []

    def fun(*flat: Any) -> list[Any]:
        tangents = with_zeros(flat[len(avals) :], nonzero_in, avals)
        _, out = primitive.jvp(list(flat[: len(avals)]), tangents, **params)
        tangents_out[:] = out if primitive.multiple_results else [out]
        return select(tangents_out, nonzero(tangents_out))

    closed = trace_to_jaxpr(fun, [*avals, *(a.tangent() for a in select(avals, nonzero_in))])
    return pruned(closed), nonzero(tangents_out), [aval_of(t) for t in tangents_out]


def varies(series: Coefficients) -> bool:
    return any(nonzero(series[1:]))


JET = Transform("jet", derive=lambda primitive: linear_rule if primitive.moves_only else derivative_rule)
"""Rules (primitive, series of the operands, params) → series of the results.

First-order primitives without one are differentiated by their jvp rule.
"""
