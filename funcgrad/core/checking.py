"""The checker of jaxprs, which runs after every pass in tests."""

from __future__ import annotations

from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, subjaxprs
from funcgrad.errors import JaxprError


def check_jaxpr(jaxpr: Jaxpr | ClosedJaxpr, *, weak_types: bool = True) -> None:
    """Raise JaxprError unless the jaxpr is well formed.

    Rules: every variable is bound once, before it is used; every equation's outputs have the types that its
    primitive infers from its inputs; jaxprs in params keep the same rules; a closed jaxpr has one const per
    constvar. Without `weak_types`, types may differ in being weak: simplification keeps values, and results are given
    their traced types when the program is planned.
    """
    if isinstance(jaxpr, ClosedJaxpr):
        if len(jaxpr.consts) != len(jaxpr.jaxpr.constvars):
            raise JaxprError(f"{len(jaxpr.consts)} consts for {len(jaxpr.jaxpr.constvars)} constvars")
        jaxpr = jaxpr.jaxpr
    bound: set[Var] = set()
    for var in [*jaxpr.constvars, *jaxpr.invars]:
        _bind(var, bound, "an input", jaxpr)
    for eqn in jaxpr.eqns:
        for atom in eqn.invars:
            _check_use(atom, bound, eqn, jaxpr)
        _check_types(eqn, weak_types)
        for sub in subjaxprs(eqn.params):
            check_jaxpr(sub, weak_types=weak_types)
        for var in eqn.outvars:
            _bind(var, bound, repr(eqn), jaxpr)
    for atom in jaxpr.outvars:
        if isinstance(atom, Var) and atom not in bound:
            raise JaxprError(f"an output is not bound\n{jaxpr}")


def _bind(var: Var, bound: set[Var], where: str, jaxpr: Jaxpr) -> None:
    if var in bound:
        raise JaxprError(f"a variable is bound twice, the second time by {where}\n{jaxpr}")
    bound.add(var)


def _check_use(atom: Atom, bound: set[Var], eqn: JaxprEqn, jaxpr: Jaxpr) -> None:
    if isinstance(atom, Literal):
        if atom.aval.shape:
            raise JaxprError(f"a literal is not a scalar in {eqn!r}")
    elif atom not in bound:
        raise JaxprError(f"a variable is used before it is bound in {eqn!r}\n{jaxpr}")


def _check_types(eqn: JaxprEqn, weak_types: bool) -> None:
    inferred = eqn.primitive.infer(*(v.aval for v in eqn.invars), **eqn.params)
    inferred = list(inferred) if eqn.primitive.multiple_results else [inferred]
    declared = [v.aval for v in eqn.outvars]
    compared = [[a if weak_types else a.strengthened() for a in avals] for avals in (inferred, declared)]
    if compared[0] != compared[1]:
        raise JaxprError(f"{eqn.primitive}: declared {declared}, but the primitive infers {inferred}")
