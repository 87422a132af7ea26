"""Rotation of while loops: what predicate and body both compute is computed once per iteration, and carried.

A root finder evaluates its function in the predicate, to see whether to stop, and in the body, to take a step, both at
the same carry. The shared values become part of the carry: they are computed from the initial carry before the loop,
and from the next carry at the end of the body.

    while p(f(x)): x = b(x, f(x))        becomes        y = f(x); while p(y): x = b(x, y); y = f(x)

Exact: the same values, computed as often as the predicate was evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler.loops.equations import op_name
from funcgrad.compiler.loops.scalars import COSTLY
from funcgrad.compiler.rewrite.control import is_control
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Contract, Elementwise, Native, host

# The values that are added to the carry take at most this many times its memory.
_MOST_MEMORY = 2


class Rotated(NamedTuple):
    """A loop's predicate and body that take the shared values as part of the carry.

    The equations `first` compute `values`, the initial ones, from the predicate's inputs.
    """

    predicate: ClosedJaxpr
    body: ClosedJaxpr
    first: list[JaxprEqn]
    values: list[Var]


def rotate(
    predicate: Jaxpr, body: Jaxpr, predicate_consts: Sequence[Atom], body_consts: Sequence[Atom]
) -> Rotated | None:
    """Move what predicate and body share into the carry; None if nothing costly is shared.

    The consts are the operands of the loop that come first in the inputs of each.
    """
    shared = _Shared(predicate, body, predicate_consts, body_consts)
    if not any(map(_is_costly, shared.of_body)):
        return None
    carry = body.invars[len(body_consts) :]
    values = shared.wanted()
    if sum(v.aval.nbytes for v in values) > _MOST_MEMORY * sum(v.aval.nbytes for v in carry):
        return None
    new_predicate = predicate.replace(
        invars=[*predicate.invars, *values], eqns=[e for e in predicate.eqns if e not in shared.of_predicate]
    )
    # At the end of the body, the same equations of the next carry.
    following: dict[Atom, Atom] = dict(zip(carry, body.outvars, strict=True))
    again = []
    for eqn in shared.of_body:
        outvars = [Var(v.aval) for v in eqn.outvars]
        again.append(eqn.replace(invars=[following.get(v, v) for v in eqn.invars], outvars=outvars))
        following.update(zip(eqn.outvars, outvars, strict=True))
    in_body = [shared.twin[v] for v in values]
    new_body = body.replace(
        invars=[*body.invars, *in_body],
        eqns=[*(e for e in body.eqns if e not in shared.of_body), *again],
        outvars=[*body.outvars, *(following[v] for v in in_body)],
    )
    return Rotated(ClosedJaxpr(new_predicate), ClosedJaxpr(new_body), list(shared.of_predicate), values)


def _is_costly(eqn: JaxprEqn) -> bool:
    lowering = eqn.primitive.lowering
    if isinstance(lowering, Elementwise):
        return not isinstance(lowering.op, str) or op_name(eqn) in COSTLY
    return isinstance(lowering, Contract)


class _Shared:
    """The equations that predicate and body have in common, matched from the inputs on."""

    def __init__(self, predicate: Jaxpr, body: Jaxpr, predicate_consts: Sequence[Atom], body_consts: Sequence[Atom]):
        self.predicate, self.body = predicate, body
        # What a variable is, in terms that both jaxprs share: an operand of the loop, a carry, or an equation of those.
        self.meaning: dict[Atom, Any] = {}
        self.numbers: dict[Any, int] = {}
        for jaxpr, consts in ((predicate, predicate_consts), (body, body_consts)):
            self.meaning.update((v, ("operand", id(c))) for v, c in zip(jaxpr.invars, consts, strict=False))
            self.meaning.update((v, ("carry", i)) for i, v in enumerate(jaxpr.invars[len(consts) :]))
        known: dict[int, JaxprEqn] = {}
        for eqn in predicate.eqns:
            known.setdefault(self.understand(eqn), eqn)
        self.of_predicate: dict[JaxprEqn, None] = {}
        self.of_body: dict[JaxprEqn, None] = {}
        self.twin: dict[Var, Var] = {}
        for eqn in body.eqns:
            same = known.get(self.understand(eqn))
            if same in self.of_predicate:  # computed twice, as an operand has two names: the second one stays
                self.meaning.update((v, ("own", v)) for v in eqn.outvars)
            elif same is not None:
                self.of_predicate[same], self.of_body[eqn] = None, None
                for mine, theirs in zip(same.outvars, eqn.outvars, strict=True):
                    self.twin.setdefault(mine, theirs)

    def understand(self, eqn: JaxprEqn) -> int:
        """A number for what an equation computes: equal numbers, equal values."""
        lowering = eqn.primitive.lowering
        key: Any = eqn
        if not (eqn.effectful or is_control(lowering) or isinstance(lowering, Native) or lowering is host):
            operands = tuple(
                (np.asarray(v.val).tobytes(), v.aval) if isinstance(v, Literal) else self.meaning[v] for v in eqn.invars
            )
            key = eqn.primitive, operands, tuple(sorted(eqn.params.items(), key=lambda item: item[0]))
        try:
            number = self.numbers.setdefault(key, len(self.numbers))
        except TypeError:  # a param that does not hash
            number = self.numbers.setdefault(eqn, len(self.numbers))
        self.meaning.update((v, ("result", number, i)) for i, v in enumerate(eqn.outvars))
        return number

    def wanted(self) -> list[Var]:
        """The shared values, as the predicate's variables, that its other equations or the body's read."""
        in_predicate = _read([e for e in self.predicate.eqns if e not in self.of_predicate], self.predicate.outvars)
        in_body = _read([e for e in self.body.eqns if e not in self.of_body], self.body.outvars)
        return [
            v
            for e in self.of_predicate
            for v in e.outvars
            if v in self.twin and (v in in_predicate or self.twin[v] in in_body)
        ]


def _read(eqns: Sequence[JaxprEqn], outvars: Sequence[Atom]) -> set[Atom]:
    return {v for e in eqns for v in e.invars} | set(outvars)
