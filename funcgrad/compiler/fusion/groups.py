"""Groups of equations, and a topological order of them that is maintained while they merge.

Two groups may merge if no path of needs leads from one through other groups to the other. In a topological order, such
a path lies between the places of the two. So only the groups between them are searched, from both ends. If no path is
found, the groups that were reached from one end move past the other end. (After D. J. Pearce and P. H. J. Kelly, "A
dynamic topological sort algorithm for directed acyclic graphs", 2006.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal as Choice
from typing import TypeVar

from funcgrad.core.jaxprs import JaxprEqn

T = TypeVar("T")
Shape = tuple[int, ...]
Kind = Choice["loops", "contract", "join", "update", "control", "native", "library", "kernels", "host"]

# A search takes at most this many steps. A path that is not ruled out by then counts as found.
MOST_STEPS = 400
_GAP = 1 << 60  # between the places of neighbors at first


@dataclass(eq=False)
class Group:
    """Equations that become one kernel, or one equation: a BLAS call, a join of many arrays, a window written, a branch
    or loop, native code, an operation that has kernels of its own, a host call."""

    kind: Kind
    number: int
    eqns: list[JaxprEqn] = field(default_factory=list)
    domain: Shape = ()
    axes: tuple[int, ...] = ()
    work: int = 0
    phases: int = 0  # the longest chain of folds that wait for each other
    needs: dict[Group, None] = field(default_factory=dict)
    users: dict[Group, None] = field(default_factory=dict)
    awaits: set[Group] = field(default_factory=set)  # of `needs`, those that a barrier keeps separate
    place: int = 0

    @property
    def row_shape(self) -> Shape:
        """The domain without the folded axes."""
        return tuple(n for d, n in enumerate(self.domain) if d not in self.axes)

    def need(self, others: Iterable[Group]) -> None:
        """Add needs."""
        for other in others:
            if other is not self:
                self.needs[other] = None
                other.users[self] = None

    def absorb(self, other: Group) -> None:
        """Take over the equations, needs and users of another group."""
        self.eqns += other.eqns
        self.number = max(self.number, other.number)
        self.axes = self.axes or other.axes
        self.work += other.work
        self.need(other.needs)
        self.awaits |= other.awaits
        for need in other.needs:
            del need.users[other]
        for user in other.users:
            del user.needs[other]
            user.need([self])
            if other in user.awaits:
                user.awaits.remove(other)
                user.awaits.add(self)

    def __str__(self) -> str:
        names = " ".join(e.primitive.name for e in self.eqns)
        where = f" over {list(self.domain)}" if self.kind == "loops" else ""
        scopes = ", ".join(dict.fromkeys(e.source.scope for e in self.eqns if e.source and e.source.scope))
        folds = f" folding axes {list(self.axes)}" if self.axes else ""
        return f"{self.kind}{where}{folds}: {names}{f' (in {scopes})' if scopes else ''}"


def needs_first(items: Iterable[T], needs: Callable[[T], Iterable[T]]) -> list[T]:
    """Return items in an order in which each comes after those that it needs, otherwise as they are given.

    Of items that need each other, the first one comes last.
    """
    done: dict[T, None] = {}
    begun: set[T] = set()
    for item in items:
        stack = [] if item in begun else [(item, iter(needs(item)))]
        begun.add(item)
        while stack:
            current, rest = stack[-1]
            missing = next((x for x in rest if x not in begun), None)
            if missing is None:
                done[current] = None
                stack.pop()
            else:
                begun.add(missing)
                stack.append((missing, iter(needs(missing))))
    return list(done)


class Order:
    """Groups in a topological order: each group comes after those that it needs."""

    def __init__(self) -> None:
        self._start = Group("host", -1)
        self._next: dict[Group, Group | None] = {self._start: None}
        self._previous: dict[Group, Group] = {}
        self._last = self._start
        self.steps = 0  # of all searches so far

    def __iter__(self) -> Iterator[Group]:
        group = self._next[self._start]
        while group is not None:
            yield group
            group = self._next[group]

    def append(self, group: Group) -> None:
        """Add a group after all others."""
        self._insert(group, self._last)

    def join(self, leaving: Group, staying: Group) -> None:
        """Remove a group; move the other one to the earlier place of the two."""
        if leaving.place < staying.place:
            self._move([staying], leaving)
        self._remove(leaving)

    def _remove(self, group: Group) -> None:
        before, after = self._previous.pop(group), self._next.pop(group)
        self._next[before] = after
        if after is None:
            self._last = before
        else:
            self._previous[after] = before

    def precede(self, others: Iterable[Group], group: Group) -> bool:
        """Move groups so that all `others` come before `group`. Return False if they depend on it, or may do so."""
        behind = [g for g in others if g.place > group.place]
        if not behind:
            return True
        last = max(behind, key=lambda g: g.place)
        later: dict[Group, None] = {group: None}
        earlier: dict[Group, None] = dict.fromkeys(behind)
        forward = _reached(later, lambda g: g.users, lambda g: g.place <= last.place)
        backward = _reached(earlier, lambda g: g.needs, lambda g: g.place >= group.place)
        for _ in range(MOST_STEPS):
            self.steps += 1
            user, need = next(forward, None), next(backward, None)
            if user in earlier or need in later:
                return False
            if user is None:
                self._move(later, last)
                return True
            if need is None:
                self._move(earlier, self._previous[group])
                return True
        return False

    def _move(self, groups: Iterable[Group], after: Group) -> None:
        for group in sorted(groups, key=lambda g: g.place):
            self._remove(group)
            self._insert(group, after)
            after = group

    def _insert(self, group: Group, before: Group) -> None:
        after = self._next[before]
        self._previous[group], self._next[group], self._next[before] = before, after, group
        if after is None:
            self._last, group.place = group, before.place + _GAP
        else:
            self._previous[after] = group
            group.place = (before.place + after.place) // 2
            if group.place == before.place:
                for i, each in enumerate(self, 1):
                    each.place = i * _GAP


def _reached(
    seen: dict[Group, None], neighbors: Callable[[Group], Iterable[Group]], inside: Callable[[Group], bool]
) -> Iterator[Group]:
    """Yield the group at the end of each edge from the groups in `seen`, which grows by those that are `inside`."""
    stack = list(seen)
    while stack:
        for group in neighbors(stack.pop()):
            yield group
            if inside(group) and group not in seen:
                seen[group] = None
                stack.append(group)
