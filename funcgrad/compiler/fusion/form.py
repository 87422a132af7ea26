"""Step 2 of fusion: which equations form a group.

An equation joins the groups of its operands when its domain is theirs, it reads their values at the point where they
are made, and no path leaves the group and comes back. Matrix products, joins of many arrays, updates, branches, loops,
native and host calls are groups of their own. A group is bounded, since the time that LLVM takes for one block of code
grows faster than the block.
"""

from __future__ import annotations

import itertools

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.fusion.domains import domain_of, is_positional, reads_elsewhere, reads_in_place, work_of
from funcgrad.compiler.fusion.grouping import Grouping
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.fusion.resolve import Computed, Resolution
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Var


def form(resolution: Resolution, limits: Scheduling) -> Grouping:
    """Put each computed equation into a group."""
    grouping = Grouping(limits)
    effects: Group | None = None
    for computed in resolution.computed:
        if computed.kind == "update":
            grouping.add_update(computed)
        elif computed.kind == "loops" and not computed.copies:
            _add_loop(grouping, computed)
        else:
            group = grouping.new_group(computed)
            if computed.eqn.effectful:  # effects happen in the order in which they were written
                group.need([] if effects is None else [effects])
                effects = group
    return grouping


def _add_loop(grouping: Grouping, computed: Computed) -> None:
    """Add an equation to one of the groups that it reads, and merge the others of them with that group."""
    awaited = grouping.awaited(computed)
    needed = [*grouping.producers(computed), *awaited]
    candidates = [g for g in dict.fromkeys(needed) if g.kind == "loops" and g not in awaited]
    joined: Group | None = None
    # The latest group first, since the other groups most likely feed it.
    for group in sorted(candidates, key=lambda g: -g.number):
        if joined is None:
            if _fits(grouping, computed, group) and grouping.order.precede(
                (g for g in needed if g is not group), group
            ):
                group.axes = group.axes or domain_of(computed.eqn)[1]
                grouping.add(group, computed)
                joined = group
        elif grouping.mergeable(group, joined):
            joined = grouping.merge(group, joined)
    if joined is None:
        grouping.new_group(computed)


def _fits(grouping: Grouping, computed: Computed, group: Group) -> bool:
    """Whether an equation can be computed at the points of a group's domain from values made there."""
    limits, eqn = grouping.limits, computed.eqn
    if group.work + work_of(eqn) > limits.max_work or grouping.phase_in(computed, group) > limits.max_phases:
        return False
    domain, axes = domain_of(eqn)
    if axes:
        if domain != group.domain or (group.axes and axes != group.axes):
            return False
        level = "full"
    elif domain == group.domain:
        level = "full"
    elif group.axes and domain == group.row_shape and not is_positional(eqn):
        level = "row"
    else:
        return False

    def in_place(place: int, access: Access) -> bool:
        outside = not isinstance(access.source, Var) or grouping.group_of.get(access.source) is not group
        return outside or (not reads_elsewhere(eqn, place) and reads_in_place(access, group.domain, group.axes, level))

    return all(itertools.starmap(in_place, enumerate(computed.accesses)))
