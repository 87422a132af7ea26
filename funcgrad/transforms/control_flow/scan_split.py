"""A scan's body divided for partial evaluation: what runs before the loop, in a first loop, and in a second one.

The first loop computes what is known, the second the rest. What the second needs of the first (the residuals)
is computed before both if it depends on consts only; else it is stacked, a slice for each step.
"""

from __future__ import annotations

from typing import NamedTuple

from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, live, variables_read
from funcgrad.core.masks import select
from funcgrad.transforms.partial_eval import JaxprSplit, pruned


class BodySplit(NamedTuple):
    """A body in three parts.

    - `hoisted`: known consts → values that are the same in every step, first those that are residuals;
    - `known`: (hoisted values, known consts, known carry, known slices) → (known results, stacked residuals);
    - `unknown`: (const residuals, hoisted residuals, unknown consts, carry and slices, residuals that are known
      slices, stacked residuals) → unknown results.

    `const_residuals` and `xs_residuals` are the residuals that are inputs, by position among the known ones.
    """

    hoisted: ClosedJaxpr
    known: ClosedJaxpr
    unknown: ClosedJaxpr
    const_residuals: list[int]
    xs_residuals: list[int]
    num_hoisted: int
    num_stacked: int

    @property
    def trivial(self) -> bool:
        """Whether nothing is known but inputs."""
        known = self.known.jaxpr
        return not (known.outvars or self.num_hoisted or known.effectful)


def split_body(split: JaxprSplit, num_consts: int, num_carry: int) -> BodySplit:
    """Divide further what `partial_eval_jaxpr` made of a body with this many known consts and carries."""
    known, rest = split.known.jaxpr, split.unknown.jaxpr
    n_out = len(known.outvars) - len(split.residual_avals)
    outs, residuals = known.outvars[:n_out], known.outvars[n_out:]
    consts, xs = known.invars[:num_consts], known.invars[num_consts + num_carry :]

    hoisted_eqns = _invariant(known, consts, residuals)
    made = [v for e in hoisted_eqns for v in e.outvars]
    kinds = ["const" if r in consts else "hoisted" if r in made else "xs" if r in xs else "stacked" for r in residuals]
    hoisted, stacked = select(residuals, kinds, "hoisted"), select(residuals, kinds, "stacked")

    loop_eqns = live([e for e in known.eqns if e not in hoisted_eqns], outs + stacked)
    read = variables_read(loop_eqns, outs)
    values = [*hoisted, *(v for v in made if v in read and v not in hoisted)]
    before = Jaxpr(known.constvars, consts, hoisted_eqns, values)
    loop = known.replace(invars=[*values, *known.invars], eqns=loop_eqns, outvars=outs + stacked)

    n = len(residuals)
    given, own = rest.invars[:n], rest.invars[n:]
    last = select(given, kinds, "xs") + select(given, kinds, "stacked")
    first = select(given, kinds, "const") + select(given, kinds, "hoisted")
    return BodySplit(
        pruned(ClosedJaxpr(before, split.known.consts)),
        pruned(ClosedJaxpr(loop, split.known.consts)),
        ClosedJaxpr(rest.replace(invars=[*first, *own, *last]), split.unknown.consts),
        [i for r in residuals for i, v in enumerate(consts) if v is r],
        [i for r in residuals for i, v in enumerate(xs) if v is r],
        len(hoisted),
        len(stacked),
    )


def _invariant(jaxpr: Jaxpr, consts: list[Var], residuals: list[Atom]) -> list[JaxprEqn]:
    """The equations that compute those residuals that depend on consts only."""
    same = {*consts, *jaxpr.constvars}
    eqns = []
    for eqn in jaxpr.eqns:
        if not eqn.effectful and all(isinstance(v, Literal) or v in same for v in eqn.invars):
            eqns.append(eqn)
            same.update(eqn.outvars)
    return live(eqns, [r for r in residuals if r in same])
