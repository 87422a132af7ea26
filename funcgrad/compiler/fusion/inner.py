"""The groups of the jaxprs in a branch or loop."""

from __future__ import annotations

from funcgrad.compiler.fusion.fuse import Fusion, fuse
from funcgrad.compiler.rewrite.sink import sink
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Cond, Scan
from funcgrad.ops.shapes import reshape_p


def fusions(eqn: JaxprEqn, scheduling: Scheduling) -> list[tuple[str, Fusion]]:
    """The groups of each jaxpr that a branch or loop runs, with its name."""
    lowering, params = eqn.primitive.lowering, eqn.params
    if isinstance(lowering, Cond):
        return [(f"branch {i}", fusion_of(b, scheduling)) for i, b in enumerate(params["branches"])]
    if isinstance(lowering, Scan):
        return [("body", fusion_of(params["jaxpr"], scheduling))]
    inner = {"predicate": params["cond_jaxpr"], "body": params["body_jaxpr"]}
    return [(name, fusion_of(closed, scheduling)) for name, closed in inner.items()]


def fusion_of(closed: ClosedJaxpr, scheduling: Scheduling) -> Fusion:
    """The groups of an inner jaxpr, memoized on it; each of its results is a value of its own."""

    def make() -> Fusion:
        jaxpr = _with_own_results(sink(closed).jaxpr)
        return fuse(jaxpr.eqns, jaxpr.outvars, scheduling, apart=True)

    return closed.memo(("fusion", scheduling), make)


def _with_own_results(jaxpr: Jaxpr) -> Jaxpr:
    """The jaxpr with copies of results that are inputs, literals, or results already."""
    made = {v for e in jaxpr.eqns for v in e.outvars}
    eqns, outvars, seen = list(jaxpr.eqns), [], set()
    for atom in jaxpr.outvars:
        if isinstance(atom, Literal) or atom not in made or atom in seen:
            copy = Var(atom.aval)
            eqns.append(JaxprEqn([atom], [copy], reshape_p, {"new_sizes": atom.aval.shape, "dimensions": None}))
            atom = copy
        seen.add(atom)
        outvars.append(atom)
    return jaxpr.replace(eqns=eqns, outvars=outvars)
