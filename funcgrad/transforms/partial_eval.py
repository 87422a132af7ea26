"""Partial evaluation: compute what is known now, record the rest. Linearisation is partial evaluation of jvp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad.core import tracing
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, JaxprEqn, Var, live
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import JaxprTrace, JaxprTracer
from funcgrad.core.tracing import Zero, aval_of
from funcgrad.transforms.jvp import jvp_flat


class Split(NamedTuple):
    """A higher-order equation divided in two.

    `known` maps the known inputs to (known outputs…, residuals…); `unknown` maps (residuals…, unknown
    inputs…) to the unknown outputs. A residual that is itself a known input need not go through `known`:
    `forwarded` has its position among the known inputs, and None for residuals that `known` returns (empty: all).
    A rule may return None instead of a split, when nothing of the equation can be computed before the unknowns are.
    """

    known: tuple[Primitive, dict[str, Any]]
    unknown: tuple[Primitive, dict[str, Any]]
    unknown_out: list[bool]
    residual_avals: list[ShapedArray]
    forwarded: Sequence[int | None] = ()

    def residuals(self, known_in: Sequence[Any], returned: Sequence[Any]) -> list[Any]:
        """Put residuals together from the known inputs and from what `known` returned."""
        rest = iter(returned)
        places = self.forwarded or [None] * len(self.residual_avals)
        return [next(rest) if i is None else known_in[i] for i in places]


class PartialEvalTrace(JaxprTrace):
    """Record primitives that see an unknown; pass the others to the parent. Values of the parent become residuals."""

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        unknown = [isinstance(a, JaxprTracer) and a.trace is self for a in args]
        if not any(unknown):
            with tracing.current(self.parent):
                return primitive.bind(*args, **params)
        if primitive.partial_eval is None or all(unknown):
            return self.record(primitive, args, params)
        split = primitive.partial_eval(unknown, [aval_of(a) for a in args], **params)
        if split is None:
            return self.record(primitive, args, params)
        known_primitive, known_params = split.known
        known_args = [a for a, u in zip(args, unknown, strict=True) if not u]
        with tracing.current(self.parent):
            known = known_primitive.bind(*known_args, **known_params)
        n_known = len(split.unknown_out) - sum(split.unknown_out)
        known_out, residuals = iter(known[:n_known]), split.residuals(known_args, known[n_known:])
        unknown_args = [a for a, u in zip(args, unknown, strict=True) if u]
        unknown_out = iter(self.record(split.unknown[0], [*residuals, *unknown_args], split.unknown[1]))
        return [next(unknown_out) if u else next(known_out) for u in split.unknown_out]


class Linearized(NamedTuple):
    """A function's value at a point and its derivative there as a jaxpr, linear in its inputs.

    `nonzero_in` and `nonzero_out` say which tangents the jaxpr takes and gives; the others are zero.
    """

    primals_out: list[Any]
    jaxpr: ClosedJaxpr
    nonzero_out: list[bool]


def linearize_flat(fun: Callable[..., Sequence[Any]], primals: Sequence[Any], nonzero: Sequence[bool]) -> Linearized:
    """Linearise a flat function at `primals` with respect to the inputs marked in `nonzero`."""
    trace = PartialEvalTrace(tracing.state.trace)
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
    return Linearized(out, pruned(closed), nonzero_out)


def pruned(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Drop equations and consts that no output needs."""
    eqns = live(closed.jaxpr.eqns, closed.jaxpr.outvars)
    needed = {v for v in (*closed.jaxpr.outvars, *(v for e in eqns for v in e.invars)) if isinstance(v, Var)}
    kept = [(v, c) for v, c in zip(closed.jaxpr.constvars, closed.consts, strict=True) if v in needed]
    jaxpr = closed.jaxpr.replace(constvars=[v for v, _ in kept], eqns=eqns)
    return ClosedJaxpr(jaxpr, [c for _, c in kept])


class JaxprSplit(NamedTuple):
    """A jaxpr divided by `partial_eval_jaxpr`; see `Split` for the convention."""

    known: ClosedJaxpr
    unknown: ClosedJaxpr
    unknown_out: list[bool]
    residual_avals: list[ShapedArray]


def partial_eval_jaxpr(
    closed: ClosedJaxpr, unknown: Sequence[bool], force_out: Sequence[bool] | bool = False
) -> JaxprSplit:
    """Divide a jaxpr into the part that depends on known inputs alone and the rest; remembered on the jaxpr.

    Outputs marked in `force_out` are unknown even when they need not be.
    """
    n_out = len(closed.jaxpr.outvars)
    force = (force_out,) * n_out if isinstance(force_out, bool) else tuple(force_out)
    return closed.memo(("partial_eval", tuple(unknown), force), lambda: _partial_eval_jaxpr(closed, unknown, force))


def _partial_eval_jaxpr(closed: ClosedJaxpr, unknown: Sequence[bool], force: Sequence[bool]) -> JaxprSplit:
    jaxpr = closed.jaxpr
    unknown_vars = {v for v, u in zip(jaxpr.invars, unknown, strict=True) if u}
    known_eqns: list[JaxprEqn] = []
    unknown_eqns: list[JaxprEqn] = []
    for eqn in jaxpr.eqns:
        flags = [v in unknown_vars for v in eqn.invars]
        if not any(flags):
            known_eqns.append(eqn)
        else:
            known, rest = _split_eqn(eqn, flags)
            known_eqns.extend(known)
            unknown_eqns.append(rest)
            unknown_vars.update(rest.outvars)
    unknown_out = [v in unknown_vars or f for v, f in zip(jaxpr.outvars, force, strict=True)]
    residuals = _free_variables(unknown_eqns, [v for v, u in zip(jaxpr.outvars, unknown_out, strict=True) if u],
                                unknown_vars, set(jaxpr.constvars))  # fmt: skip
    known_jaxpr = jaxpr.replace(
        invars=[v for v, u in zip(jaxpr.invars, unknown, strict=True) if not u],
        eqns=known_eqns,
        outvars=[v for v, u in zip(jaxpr.outvars, unknown_out, strict=True) if not u] + residuals,
    )
    unknown_jaxpr = jaxpr.replace(
        invars=residuals + [v for v, u in zip(jaxpr.invars, unknown, strict=True) if u],
        eqns=unknown_eqns,
        outvars=[v for v, u in zip(jaxpr.outvars, unknown_out, strict=True) if u],
    )
    return JaxprSplit(
        pruned(ClosedJaxpr(known_jaxpr, closed.consts)),
        pruned(ClosedJaxpr(unknown_jaxpr, closed.consts)),
        unknown_out,
        [v.aval for v in residuals],
    )


def forward_inputs(split: JaxprSplit) -> tuple[ClosedJaxpr, list[int | None]]:
    """Return the known jaxpr without the residuals that are inputs of it, and where those are; see `Split`."""
    return split.known.memo("forward_inputs", lambda: _forward_inputs(split))


def _forward_inputs(split: JaxprSplit) -> tuple[ClosedJaxpr, list[int | None]]:
    jaxpr = split.known.jaxpr
    n = len(jaxpr.outvars) - len(split.residual_avals)
    place = {v: i for i, v in enumerate(jaxpr.invars)}
    forwarded = [place.get(v) for v in jaxpr.outvars[n:]]
    kept = [v for v, i in zip(jaxpr.outvars[n:], forwarded, strict=True) if i is None]
    return ClosedJaxpr(jaxpr.replace(outvars=jaxpr.outvars[:n] + kept), split.known.consts), forwarded


def _split_eqn(eqn: JaxprEqn, unknown: list[bool]) -> tuple[list[JaxprEqn], JaxprEqn]:
    """The equations that compute the known part, if there is one, and the equation of the rest."""
    rule = eqn.primitive.partial_eval
    split = None if rule is None or all(unknown) else rule(unknown, [v.aval for v in eqn.invars], **eqn.params)
    if split is None:
        return [], eqn
    places = split.forwarded or [None] * len(split.residual_avals)
    returned = [Var(a) for a, place in zip(split.residual_avals, places, strict=True) if place is None]
    known_out = [v for v, u in zip(eqn.outvars, split.unknown_out, strict=True) if not u]
    unknown_out = [v for v, u in zip(eqn.outvars, split.unknown_out, strict=True) if u]
    known_in: list[Atom] = [v for v, u in zip(eqn.invars, unknown, strict=True) if not u]
    unknown_in: list[Atom] = [v for v, u in zip(eqn.invars, unknown, strict=True) if u]
    residuals = split.residuals(known_in, returned)
    return (
        [JaxprEqn(known_in, known_out + returned, *split.known, eqn.source)],
        JaxprEqn([*residuals, *unknown_in], unknown_out, *split.unknown, eqn.source),
    )


def _free_variables(eqns: list[JaxprEqn], outvars: list[Any], inner: set[Var], consts: set[Var]) -> list[Var]:
    """Known variables that unknown equations read: the residuals, each once, in order of use."""
    used = [v for e in eqns for v in e.invars] + list(outvars)
    return list(dict.fromkeys(v for v in used if isinstance(v, Var) and v not in inner and v not in consts))
