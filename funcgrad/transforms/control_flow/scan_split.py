"""The body of a scan, split for partial evaluation into a part before the loop, a first and a second loop.

The first loop computes the known values, the second one the rest. Residuals that depend only on consts are computed
before both loops; the others are stacked, one slice per step.
"""

from __future__ import annotations

from typing import NamedTuple

from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, invariant, live, pruned, upstream, variables_read
from funcgrad.core.layouts import ScanLayout
from funcgrad.core.masks import select, split_list
from funcgrad.transforms.interpreters.partial_eval import JaxprSplit


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


def split_body(split: JaxprSplit, known_layout: ScanLayout) -> BodySplit:
    """Split the result of `partial_eval_jaxpr` for a body further; the layout is that of its known inputs."""
    known, rest = split.known.jaxpr, split.unknown.jaxpr
    outs, residuals = split_list(known.outvars, [len(known.outvars) - len(split.residual_avals)])
    consts, _, xs = known_layout.split(known.invars)
    const_place: dict[Atom, int] = {v: i for i, v in enumerate(consts)}
    xs_place: dict[Atom, int] = {v: i for i, v in enumerate(xs)}

    fixed = invariant(known.eqns, [*consts, *known.constvars])
    hoisted_eqns = set(upstream(fixed, {v for e in fixed for v in e.outvars}.intersection(residuals)))
    made = {v: None for e in known.eqns if e in hoisted_eqns for v in e.outvars}

    def kind(residual: Atom) -> str:
        places = {"const": const_place, "hoisted": made, "xs": xs_place}
        return next((name for name, place in places.items() if residual in place), "stacked")

    kinds = [kind(r) for r in residuals]
    hoisted, stacked = select(residuals, kinds, "hoisted"), select(residuals, kinds, "stacked")

    loop_eqns = live([e for e in known.eqns if e not in hoisted_eqns], outs + stacked)
    read = variables_read(loop_eqns, outs)
    values = list(dict.fromkeys([*hoisted, *(v for v in made if v in read)]))
    before = Jaxpr(known.constvars, consts, [e for e in known.eqns if e in hoisted_eqns], values)
    loop = known.replace(invars=[*values, *known.invars], eqns=loop_eqns, outvars=outs + stacked)

    given, own = split_list(rest.invars, [len(residuals)])
    first = select(given, kinds, "const") + select(given, kinds, "hoisted")
    last = select(given, kinds, "xs") + select(given, kinds, "stacked")
    return BodySplit(
        pruned(ClosedJaxpr(before, split.known.consts)),
        pruned(ClosedJaxpr(loop, split.known.consts)),
        ClosedJaxpr(rest.replace(invars=[*first, *own, *last]), split.unknown.consts),
        [const_place[r] for r in select(residuals, kinds, "const")],
        [xs_place[r] for r in select(residuals, kinds, "xs")],
        len(hoisted),
        len(stacked),
    )
