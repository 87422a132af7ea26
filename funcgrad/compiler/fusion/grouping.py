"""Groups under construction: adding an equation to a group, and merging two groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.fusion.domains import domain_of, level_of, reads_elsewhere, reads_in_place, work_of
from funcgrad.compiler.fusion.groups import Group, Order
from funcgrad.compiler.fusion.resolve import Computed
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var


class Grouping:
    """Groups in a topological order, and which group has which equation."""

    def __init__(self, limits: Scheduling):
        self.limits = limits
        self.order = Order()
        self.group_of: dict[Var, Group] = {}
        self.accesses: dict[JaxprEqn, list[Access]] = {}
        # The equations that read each value. An update replaces earlier readers of its operand.
        self.readers: dict[Atom, list[JaxprEqn]] = defaultdict(list)
        self._definition: dict[Var, JaxprEqn] = {}
        self._group_with: dict[JaxprEqn, Group] = {}
        self._phase: dict[Atom, int] = {}
        self._number = 0

    def __str__(self) -> str:
        return "\n".join(map(str, self.order))

    # ------------------------------------------------------------------ adding equations

    def new_group(self, computed: Computed) -> Group:
        """Add a group of one equation after all others."""
        group = Group(computed.kind, self._number)
        self._number += 1
        self.order.append(group)
        if computed.kind == "loops":
            group.domain, group.axes = domain_of(computed.eqn)
        self.add(group, computed)
        return group

    def add(self, group: Group, computed: Computed) -> None:
        """Add an equation to a group."""
        eqn = computed.eqn
        self.accesses[eqn] = computed.accesses
        phase = self.phase_in(computed, group)
        group.eqns.append(eqn)
        group.work += work_of(eqn)
        group.phases = max(group.phases, phase)
        for v in eqn.outvars:
            self._phase[v], self.group_of[v], self._definition[v] = phase, group, eqn
        self._group_with[eqn] = group
        awaited = self.awaited(computed)
        group.awaits.update(awaited)
        group.need(awaited)
        group.need(self.producers(computed))
        for source in dict.fromkeys(a.source for a in computed.accesses):
            self.readers[source].append(eqn)

    def add_update(self, computed: Computed) -> None:
        """Add the group of an update, which may write into its operand: the readers of the operand come first."""
        source = computed.accesses[0].source
        readers = self.readers[source]
        group = self.new_group(computed)
        group.need(self._group_with[e] for e in readers)
        self.readers[source] = [computed.eqn]  # what comes after this one comes after the others too

    def producers(self, computed: Computed) -> list[Group]:
        """The groups whose values an equation reads."""
        sources = [a.source for a in computed.accesses]
        return [self.group_of[s] for s in sources if isinstance(s, Var) and s in self.group_of]

    def awaited(self, computed: Computed) -> list[Group]:
        """The groups that must precede an equation because of a barrier."""
        return [self.group_of[v] for v in computed.awaited]

    def phase_in(self, computed: Computed, group: Group) -> int:
        """The length of the longest chain of folds in a group that ends at an equation, itself included."""
        inside = (a.source for a in computed.accesses if self.group_of.get(a.source) is group)
        return max((self._phase[v] for v in inside), default=0) + bool(domain_of(computed.eqn)[1])

    # ------------------------------------------------------------------ merging groups

    def mergeable(self, a: Group, b: Group) -> bool:
        """Whether two loop groups can merge: one domain, values read in place, no path out and back.

        If so, the needs of the later one are moved before the earlier one.
        """
        if a.domain != b.domain or (a.axes and b.axes and a.axes != b.axes):
            return False
        if a.work + b.work > self.limits.max_work or a in b.awaits or b in a.awaits:
            return False
        if self._phases_of_both(a, b) > self.limits.max_phases or not self._crosses_in_place(a, b):
            return False
        first, second = (a, b) if a.place < b.place else (b, a)
        return self.order.precede([g for g in second.needs if g is not first], first)

    def merge(self, a: Group, b: Group) -> Group:
        """Move the equations of the smaller group into the larger one, at the earlier place of the two; return it."""
        small, large = sorted((a, b), key=lambda g: len(g.eqns))
        large.phases = self._phases_of_both(a, b)
        self.order.join(small, large)
        large.absorb(small)
        for eqn in small.eqns:
            self._group_with[eqn] = large
            self.group_of.update((v, large) for v in eqn.outvars)
        return large

    def _phases_of_both(self, a: Group, b: Group) -> int:
        """The phases of the merged group: if one group reads values of the other, its phases follow the other's."""
        apart = next(self._crossings(a, b), None) is None
        return max(a.phases, b.phases) if apart else a.phases + b.phases

    def _crosses_in_place(self, a: Group, b: Group) -> bool:
        """Whether each value that one group reads from the other would be read in place in the merged group."""
        axes = a.axes or b.axes
        for eqn, place, reader, maker in self._crossings(a, b):
            access = self.accesses[eqn][place]
            assert isinstance(access.source, Var)
            level, made_at = level_of(eqn, reader), level_of(self._definition[access.source], maker, of_result=True)
            if reads_elsewhere(eqn, place) or not reads_in_place(access, a.domain, axes, level, made_at):
                return False
        return True

    def _crossings(self, a: Group, b: Group) -> Iterator[tuple[JaxprEqn, int, Group, Group]]:
        """The reads of one group of values of the other: equation, place of the operand, its group, the other group."""

        def reads(eqn: JaxprEqn, of: Group) -> Iterator[int]:
            return (i for i, x in enumerate(self.accesses[eqn]) if self.group_of.get(x.source) is of)

        small, large = sorted((a, b), key=lambda g: len(g.eqns))
        readers = [e for made in small.eqns for v in made.outvars for e in self.readers.get(v, ())]
        for eqn in small.eqns:
            yield from ((eqn, i, small, large) for i in reads(eqn, large))
        for eqn in readers if len(readers) < len(large.eqns) else large.eqns:
            if self._group_with[eqn] is large:
                yield from ((eqn, i, large, small) for i in reads(eqn, small))
