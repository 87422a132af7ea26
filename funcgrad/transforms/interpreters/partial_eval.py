"""Partial evaluation: compute what is known now, record the rest. Linearization is partial evaluation of jvp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Var, live, pruned
from funcgrad.core.leaks import check_leaks
from funcgrad.core.masks import broadcast_mask, select
from funcgrad.core.primitives import Primitive, missing_rule
from funcgrad.core.staging import JaxprTrace, JaxprTracer
from funcgrad.core.symbolic import Zero
from funcgrad.transforms.interpreters.jvp import jvp_flat


class Split(NamedTuple):
    """A higher-order equation split in two.

    `known` maps the known inputs to (known outputs…, residuals…); `unknown` maps (residuals…, unknown
    inputs…) to the unknown outputs. A residual that is itself a known input or known output need not be
    returned by `known` again: `forwarded` has its position among the known inputs followed by the known outputs, and
    None for residuals that `known` returns (empty: all).
    A rule may return None instead of a split, when nothing of the equation can be computed before the unknowns are.
    """

    known: tuple[Primitive, dict[str, Any]]
    unknown: tuple[Primitive, dict[str, Any]]
    unknown_out: list[bool]
    residual_avals: list[ShapedArray]
    forwarded: Sequence[int | None] = ()

    def residuals(self, known_in: Sequence[Any], known_out: Sequence[Any], returned: Sequence[Any]) -> list[Any]:
        """Assemble the residuals from the known inputs, the known outputs, and the other results of `known`."""
        rest, there = iter(returned), [*known_in, *known_out]
        places = self.forwarded or [None] * len(self.residual_avals)
        return [next(rest) if i is None else there[i] for i in places]


def unsplit(unknown: list[bool], avals: Sequence[ShapedArray], **params: Any) -> None:
    """The rule of higher-order primitives that are never split: one unknown operand makes all results unknown."""


def _split(
    primitive: Primitive, unknown: list[bool], avals: Sequence[ShapedArray], params: dict[str, Any]
) -> Split | None:
    if all(unknown) or not (primitive.higher_order or primitive.partial_eval):
        return None
    if primitive.partial_eval is None:
        raise missing_rule(primitive.name, "partial_eval", primitive.origin)
    return primitive.partial_eval(unknown, avals, **params)


class PartialEvalTrace(JaxprTrace):
    """Record primitives that see an unknown; pass the others to the parent. Values of the parent become residuals."""

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        unknown = [isinstance(a, JaxprTracer) and a._trace is self for a in args]
        if not any(unknown):
            with traces.current(self.parent):
                return primitive.bind(*args, **params)
        split = _split(primitive, unknown, [aval_of(a) for a in args], params)
        if split is None:
            return self.record(primitive, args, params)
        known_primitive, known_params = split.known
        known_args = select(args, unknown, False)
        with traces.current(self.parent):
            known = known_primitive.bind(*known_args, **known_params)
        n_known = len(split.unknown_out) - sum(split.unknown_out)
        residuals = split.residuals(known_args, known[:n_known], known[n_known:])
        known_out = iter(known[:n_known])
        unknown_args = select(args, unknown)
        unknown_out = iter(self.record(split.unknown[0], [*residuals, *unknown_args], split.unknown[1]))
        return [next(unknown_out) if u else next(known_out) for u in split.unknown_out]


class Linearized(NamedTuple):
    """A function's value at a point and its derivative there as a jaxpr, linear in its inputs.

    `nonzero_out` is the mask of the tangents that the jaxpr returns; the others are zero.
    """

    primals_out: list[Any]
    jaxpr: ClosedJaxpr
    nonzero_out: list[bool]


def linearize_flat(fun: Callable[..., Sequence[Any]], primals: Sequence[Any], nonzero: Sequence[bool]) -> Linearized:
    """Linearize a flat function at `primals` with respect to the inputs in the mask `nonzero`."""
    trace = PartialEvalTrace(traces.state.trace)
    tangents = [
        trace.new_argument(aval_of(p).tangent()) if nz else Zero(aval_of(p).tangent())
        for p, nz in zip(primals, nonzero, strict=True)
    ]
    out, tangents_out = jvp_flat(fun, primals, tangents, parent=trace)
    # A tangent that is known does not depend on the inputs: it is a constant zero and must not pass for
    # linear.
    nonzero_out = [type(t) is not Zero for t in tangents_out]
    closed = trace.finish([t for t in tangents_out if type(t) is not Zero])
    trace.invalidate()
    del tangents, tangents_out
    check_leaks(trace)
    return Linearized(out, pruned(closed), nonzero_out)


class JaxprSplit(NamedTuple):
    """A jaxpr split by `partial_eval_jaxpr`; see `Split` for the convention."""

    known: ClosedJaxpr
    unknown: ClosedJaxpr
    unknown_out: list[bool]
    residual_avals: list[ShapedArray]


def partial_eval_jaxpr(
    closed: ClosedJaxpr, unknown: Sequence[bool], force_out: Sequence[bool] | bool = False
) -> JaxprSplit:
    """Split a jaxpr into the part that depends on known inputs alone and the rest; memoized on the jaxpr.

    Outputs in the mask `force_out` are unknown even when they need not be.
    """
    force = broadcast_mask(force_out, len(closed.jaxpr.outvars))
    return closed.memo(("partial_eval", tuple(unknown), force), lambda: _partial_eval_jaxpr(closed, unknown, force))


def _partial_eval_jaxpr(closed: ClosedJaxpr, unknown: Sequence[bool], force: Sequence[bool]) -> JaxprSplit:
    eqns, unknown_out = partition_eqns(closed.jaxpr, unknown)
    unknown_out = [u or f for u, f in zip(unknown_out, force, strict=True)]
    known = [e for e, is_known in eqns if is_known]
    return split_jaxpr(closed, unknown, unknown_out, known, [e for e, is_known in eqns if not is_known])


class PartitionedEqns(NamedTuple):
    """Equations in order, each with whether it is known, and the mask of the unknown outputs."""

    eqns: list[tuple[JaxprEqn, bool]]
    unknown_out: list[bool]


def partition_eqns(jaxpr: Jaxpr, unknown: Sequence[bool]) -> PartitionedEqns:
    """Separate the equations that read no unknown from the others; higher-order ones are split by their rule."""
    unknown_vars = {v for v, u in zip(jaxpr.invars, unknown, strict=True) if u}
    eqns: list[tuple[JaxprEqn, bool]] = []
    for eqn in jaxpr.eqns:
        flags = [v in unknown_vars for v in eqn.invars]
        if not any(flags):
            eqns.append((eqn, True))
        else:
            known, rest = _split_eqn(eqn, flags)
            eqns += [*((e, True) for e in known), (rest, False)]
            unknown_vars.update(rest.outvars)
    return PartitionedEqns(eqns, [v in unknown_vars for v in jaxpr.outvars])


def split_jaxpr(
    closed: ClosedJaxpr,
    unknown: Sequence[bool],
    unknown_out: list[bool],
    known_eqns: Sequence[JaxprEqn],
    unknown_eqns: Sequence[JaxprEqn],
) -> JaxprSplit:
    """Make the two jaxprs of a split; values that the unknown equations read but do not compute become residuals."""
    jaxpr = closed.jaxpr
    unknown_in = select(jaxpr.invars, unknown)
    unknown_outvars = select(jaxpr.outvars, unknown_out)
    unknown_eqns = live(unknown_eqns, unknown_outvars)
    inner = {*unknown_in, *jaxpr.constvars, *(v for e in unknown_eqns for v in e.outvars)}
    used = [*(v for e in unknown_eqns for v in e.invars), *unknown_outvars]
    residuals = list(dict.fromkeys(v for v in used if isinstance(v, Var) and v not in inner))
    known_jaxpr = jaxpr.replace(
        invars=select(jaxpr.invars, unknown, False),
        eqns=known_eqns,
        outvars=select(jaxpr.outvars, unknown_out, False) + residuals,
    )
    unknown_jaxpr = jaxpr.replace(invars=residuals + unknown_in, eqns=unknown_eqns, outvars=unknown_outvars)
    return JaxprSplit(
        pruned(ClosedJaxpr(known_jaxpr, closed.consts)),
        pruned(ClosedJaxpr(unknown_jaxpr, closed.consts)),
        unknown_out,
        [v.aval for v in residuals],
    )


def forward_residuals(split: JaxprSplit) -> tuple[ClosedJaxpr, list[int | None]]:
    """Return the known jaxpr without residuals that are its inputs or outputs, and the places of those; see `Split`."""
    return split.known.memo("forward_residuals", lambda: _forward_residuals(split))


def _forward_residuals(split: JaxprSplit) -> tuple[ClosedJaxpr, list[int | None]]:
    jaxpr = split.known.jaxpr
    n = len(jaxpr.outvars) - len(split.residual_avals)
    place: dict[Atom, int] = {}
    for i, v in enumerate([*jaxpr.invars, *jaxpr.outvars[:n]]):
        place.setdefault(v, i)
    forwarded = [place.get(v) for v in jaxpr.outvars[n:]]
    kept = [v for v, i in zip(jaxpr.outvars[n:], forwarded, strict=True) if i is None]
    return ClosedJaxpr(jaxpr.replace(outvars=jaxpr.outvars[:n] + kept), split.known.consts), forwarded


def _split_eqn(eqn: JaxprEqn, unknown: list[bool]) -> tuple[list[JaxprEqn], JaxprEqn]:
    """The equations that compute the known part, if there is one, and the equation of the rest."""
    split = _split(eqn.primitive, unknown, [v.aval for v in eqn.invars], eqn.params)
    if split is None:
        return [], eqn
    places = split.forwarded or [None] * len(split.residual_avals)
    returned = [Var(a) for a, place in zip(split.residual_avals, places, strict=True) if place is None]
    known_out = [v for v, u in zip(eqn.outvars, split.unknown_out, strict=True) if not u]
    unknown_out = [v for v, u in zip(eqn.outvars, split.unknown_out, strict=True) if u]
    known_in: list[Atom] = select(eqn.invars, unknown, False)
    unknown_in: list[Atom] = select(eqn.invars, unknown)
    residuals = split.residuals(known_in, known_out, returned)
    return (
        [JaxprEqn(known_in, known_out + returned, *split.known, eqn.source)],
        JaxprEqn([*residuals, *unknown_in], unknown_out, *split.unknown, eqn.source),
    )
