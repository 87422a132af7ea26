"""simplified jaxpr → groups: which equations one kernel computes.

Three steps, a module each: `resolve` decides which equations are computed and how they read their operands, `form` puts
them into groups, `merge_siblings` merges groups that read the same values. Each prints what it decided.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.fusion.form import form
from funcgrad.compiler.fusion.grouping import Grouping
from funcgrad.compiler.fusion.groups import Group, needs_first
from funcgrad.compiler.fusion.resolve import Resolution, resolve
from funcgrad.compiler.fusion.siblings import merge_siblings
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var


@dataclass(frozen=True, eq=False)
class Fusion:
    """The groups of a jaxpr in an order that can run, and what is in memory between them."""

    order: list[Group]
    results: list[Atom]  # what holds the results of the jaxpr
    stored: set[Var]  # the values that must be in memory
    group_of: dict[Var, Group]
    accesses: dict[JaxprEqn, list[Access]]  # what each equation of a group reads, operand by operand
    scheduling: Scheduling

    def __str__(self) -> str:
        return "\n".join(f"{i}: {g}" for i, g in enumerate(self.order))


def fuse(eqns: Sequence[JaxprEqn], outvars: Sequence[Atom], scheduling: Scheduling, apart: bool = False) -> Fusion:
    """Group equations. `apart`: each result is a value of its own, not an operand or a part of another result."""
    resolution = resolve(eqns, outvars, apart, scheduling)
    grouping = form(resolution, scheduling)
    merge_siblings(grouping)
    order = _ordered(grouping, resolution)
    stored = _stored(grouping, resolution, order)
    return Fusion(order, resolution.results, stored, grouping.group_of, grouping.accesses, scheduling)


def _ordered(grouping: Grouping, resolution: Resolution) -> list[Group]:
    """Groups in topological order, those first that were written first; their equations as they were written."""
    in_order = functools.partial(sorted, key=lambda g: g.number)
    order = needs_first(in_order(grouping.order), lambda g: in_order(g.needs))
    for group in order:
        group.eqns.sort(key=resolution.position.__getitem__)
    return order


def _stored(grouping: Grouping, resolution: Resolution, order: Sequence[Group]) -> set[Var]:
    """The values that must be in memory: those that are returned or read by another group, or not by a loop."""
    read = [
        source
        for group in order
        for eqn in group.eqns
        for source, _ in grouping.accesses[eqn]
        if grouping.group_of.get(source) is not group or group.kind != "loops"
    ]
    return {v for v in (*resolution.results, *read) if isinstance(v, Var)}
