"""simplified jaxpr → groups: which equations one kernel computes.

Views (reshape, transpose, slice, broadcast, …) are no equations of any group: an operand is *resolved* through them to
the value it shows and the affine access that shows it. So is an operand behind a barrier; but then the group also needs
those that make the barrier's other operands. What remains are

- loop equations: elementwise operations, padding, concatenation, iota, slices at run-time positions, and reductions;
  they fuse,
- matrix products, joins of many arrays, native and host calls, each a group of its own.

A group of loop equations has a *domain*, the shape it iterates over, and *axes* of it that its reductions fold (none
for a purely elementwise group). Each of its values is *full* (one per point of the domain) or a *row* value (one per
point of the domain without the folded axes). An equation joins the groups of its operands when its domain is theirs,
it reads their values at the point where they are made, and no path leaves the group and comes back. A group is bounded,
since the time that LLVM takes for one block of code grows faster than the block.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from funcgrad import dtypes
from funcgrad.compiler.fusion.groups import Group, Kind, Order, Shape
from funcgrad.compiler.loops.equations import is_loop
from funcgrad.compiler.loops.scalars import DTYPES, SCALARS
from funcgrad.compiler.rewrite import products
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import (
    CALLS,
    CONTROL,
    HOST,
    ArgReduce,
    Barrier,
    Concatenate,
    Contract,
    DynamicSlice,
    DynamicUpdateSlice,
    Elementwise,
    Iota,
    LoweringTable,
    Native,
    Pad,
    Reduce,
    Strided,
    View,
    contiguous,
)
from funcgrad.ops.shapes import reshape_p

# How many earlier groups that read the same values a group is compared with.
_MOST_SIBLINGS = 8


class Access(NamedTuple):
    """A value as an operand sees it: the variable or literal that holds it, and the affine access to its elements."""

    source: Atom
    view: Strided


@functools.lru_cache(maxsize=4096)
def without_units(view: Strided) -> Strided:
    """Drop dimensions of size 1: they do not move."""
    kept = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    return Strided(tuple(n for n, _ in kept), tuple(s for _, s in kept), view.offset)


def squeezed(shape: Iterable[int]) -> Shape:
    """Return a shape without its 1s."""
    return tuple(n for n in shape if n != 1)


def is_whole(view: Strided, shape: Shape) -> bool:
    """Whether an access reads a whole buffer of `shape` in order, in whatever shape."""
    plain = without_units(view)
    return plain == contiguous(plain.shape) and math.prod(view.shape) == math.prod(shape)


class Fusion:
    """The groups of a jaxpr in an order that can run, and how operands reach the values that groups make."""

    def __init__(self, eqns: Sequence[JaxprEqn], outvars: Sequence[Atom], scheduling: Scheduling, apart: bool = False):
        """`apart`: each result is a value of its own, not an operand or a part of another result."""
        self.scheduling = scheduling
        self.definition: dict[Var, JaxprEqn] = {v: e for e in eqns for v in e.outvars}
        self.group_of: dict[Var, Group] = {}
        self._group_with: dict[JaxprEqn, Group] = {}
        self._position = {e: i for i, e in enumerate(eqns)}
        self._order = Order()
        self._readers: dict[Atom, list[JaxprEqn]] = defaultdict(list)
        self._phase: dict[Atom, int] = {}
        self._resolved: dict[Var, Access] = {}
        self._awaited: dict[JaxprEqn, frozenset[Var]] = {}
        self._accesses: dict[JaxprEqn, list[Access]] = {}
        self._numbers = 0
        effects: Group | None = None
        for eqn in eqns:
            self._place(eqn)
            if eqn.effectful:  # effects happen in the order in which they were written
                group = self._group_with[eqn]
                group.need([effects] if effects is not None else [])
                effects = group
        # A result that shows another one is copied, whichever comes first.
        taken: set[Atom] = {v for v in outvars if v in self.group_of}
        for v in outvars:
            source = self.resolve(v).source
            shared = apart and source is not v and (source in taken or source not in self.group_of)
            if isinstance(v, Var) and (shared or not self._is_stored(v)):
                self._store_view(v)
            taken.add(self.resolve(v).source)
        self._merge_siblings()
        self.order = self._ordered()
        self.outvars = list(outvars)
        self.stored = self._stored()

    # ------------------------------------------------------------------ resolving operands

    def resolve(self, atom: Atom) -> Access:
        """Follow an operand through views to the value that is stored."""
        if isinstance(atom, Literal):
            return Access(atom, Strided((), (), 0))
        if atom not in self._resolved:
            path, shown = [atom], self._shown(atom)  # no recursion: chains of views are as long as programs
            while shown is not None and shown not in self._resolved:
                path.append(shown)
                shown = self._shown(shown)
            for var in reversed(path):
                self._resolved[var] = self._resolve(var)
        return self._resolved[atom]

    def _shown(self, var: Var) -> Var | None:
        """The operand of the view or barrier that a variable is read through."""
        eqn = self._read_through(var)
        if eqn is None:
            return None
        operand = behind_barrier(var, eqn) if isinstance(eqn.primitive.lowering, Barrier) else eqn.invars[0]
        return operand if isinstance(operand, Var) else None

    def _read_through(self, atom: Atom) -> JaxprEqn | None:
        """The view or barrier that an operand is a result of, unless it is stored itself."""
        eqn = self.definition.get(atom) if isinstance(atom, Var) and atom not in self.group_of else None
        return eqn if eqn is not None and isinstance(eqn.primitive.lowering, (View, Barrier)) else None

    def _resolve(self, var: Var) -> Access:
        eqn = self._read_through(var)
        if eqn is not None and isinstance(eqn.primitive.lowering, Barrier):
            return self.resolve(behind_barrier(var, eqn))
        if eqn is not None and isinstance(eqn.primitive.lowering, View):
            source, inner = self.resolve(eqn.invars[0])
            if (view := eqn.primitive.lowering.apply(inner, **eqn.params)) is not None:
                return Access(source, view)
        return Access(var, contiguous(var.aval.shape))

    def awaited(self, atom: Atom) -> frozenset[Var]:
        """The values behind barriers that must have been computed before an operand is read."""
        eqn = self._read_through(atom)
        pending = [] if eqn is None else [eqn]
        while pending:
            inner = map(self._read_through, pending[-1].invars)
            missing = [e for e in inner if e is not None and e not in self._awaited]
            if missing:
                pending += missing
            else:
                last = pending.pop()
                self._awaited[last] = self._awaited_by(last)
        return frozenset() if eqn is None else self._awaited[eqn]

    def _awaited_by(self, eqn: JaxprEqn) -> frozenset[Var]:
        through = map(self._read_through, eqn.invars)
        found = frozenset().union(*(self._awaited[e] for e in through if e is not None))
        if isinstance(eqn.primitive.lowering, Barrier):
            sources = (self.resolve(v).source for v in eqn.invars)
            found |= {s for s in sources if isinstance(s, Var) and s in self.group_of}
        return found

    def accesses(self, eqn: JaxprEqn) -> list[Access]:
        """What an equation of a group reads, operand by operand; a copied view reads through itself.

        Settled when first asked for: a view that is stored later serves those who ask after that.
        """
        if eqn not in self._accesses:
            found = [self.resolve(v) for v in eqn.invars]
            lowering = eqn.primitive.lowering
            if isinstance(lowering, View):
                view = lowering.apply(found[0].view, **eqn.params)
                assert view is not None
                found = [Access(found[0].source, view)]
            self._accesses[eqn] = found
        return self._accesses[eqn]

    # ------------------------------------------------------------------ forming groups

    def _place(self, eqn: JaxprEqn) -> None:
        if is_loop(eqn) and not isinstance(eqn.primitive.lowering, View):
            self._place_loop(eqn)
        else:
            _PLACES[eqn.primitive.lowering](self, eqn)

    def _place_barrier(self, eqn: JaxprEqn) -> None:
        """There is nothing to compute."""

    def _place_product(self, eqn: JaxprEqn) -> None:
        for v in eqn.invars:
            if products.matrix(self.resolve(v).view) is None:
                self._store_view(v)
        self._new_group("contract", eqn)

    def _place_join(self, eqn: JaxprEqn) -> None:
        if eqn.outvars[0].aval.dtype == dtypes.float0:
            return self._place_host(eqn)
        for v in eqn.invars:
            if not self._is_run(v):
                self._store_view(v)
        self._new_group("join", eqn)

    def _place_whole(self, kind: Kind, eqn: JaxprEqn) -> None:
        """What reads its operands from memory, all of each and in order."""
        for v in eqn.invars:
            if not self._is_stored(v):
                self._store_view(v)
        self._new_group(kind, eqn)

    def _place_host(self, eqn: JaxprEqn) -> None:
        self._new_group("host", eqn)

    def _place_update(self, eqn: JaxprEqn) -> None:
        """A window is written where the operand is, if that is not read later: so those come first that read it now."""
        if eqn.outvars[0].aval.dtype not in DTYPES:
            return self._place_host(eqn)
        operand = eqn.invars[0]
        if not self._is_stored(operand):
            self._store_view(operand)
        source = self.resolve(operand).source
        readers = self._readers[source]
        group = self._new_group("update", eqn)
        group.need(self._group_with[e] for e in readers)
        self._readers[source] = [eqn]  # those that come after this one come after the others, too

    def _place_view(self, eqn: JaxprEqn) -> None:
        """A view that is no affine access of what is stored needs its operand stored in its own order first."""
        lowering, (operand,) = eqn.primitive.lowering, eqn.invars
        assert isinstance(lowering, View)
        inner = self.resolve(operand)
        if lowering.apply(inner.view, **eqn.params) is not None:
            return
        self._store_view(operand)

    def _is_stored(self, atom: Atom) -> bool:
        """Whether an operand is in memory, all of it and in order."""
        source, view = self.resolve(atom)
        return isinstance(source, Var) and is_whole(view, source.aval.shape)

    def _is_run(self, atom: Atom) -> bool:
        """Whether an operand's elements are side by side in memory, in order."""
        source, view = self.resolve(atom)
        plain = without_units(view)
        return isinstance(source, Var) and plain.strides == contiguous(plain.shape).strides

    def _store_view(self, var: Atom) -> None:
        """Have a view copied into storage of its own: its equation becomes one of a group."""
        assert isinstance(var, Var)
        if var not in self.group_of:
            del self._resolved[var]
            eqn = self.definition[var]
            if isinstance(eqn.primitive.lowering, Barrier):
                shape = {"new_sizes": var.aval.shape, "dimensions": None}
                position = self._position[eqn]
                eqn = self.definition[var] = JaxprEqn([behind_barrier(var, eqn)], [var], reshape_p, shape, eqn.source)
                self._position[eqn] = position
            self._new_group("loops" if is_loop(eqn) else "host", eqn)

    def _new_group(self, kind: Kind, eqn: JaxprEqn) -> Group:
        group = Group(kind, self._numbers)
        self._numbers += 1
        self._order.append(group)
        if kind == "loops":
            group.domain, group.axes = domain_of(eqn)
        self._add(group, eqn)
        return group

    def _add(self, group: Group, eqn: JaxprEqn) -> None:
        group.eqns.append(eqn)
        group.work += work_of(eqn)
        phase = self._phase_in(eqn, group)
        self._phase.update((v, phase) for v in eqn.outvars)
        group.phases = max(group.phases, phase)
        self._group_with[eqn] = group
        self.group_of.update((v, group) for v in eqn.outvars)
        awaited = self._awaited_groups(eqn)
        group.awaits.update(awaited)
        group.need(awaited)
        group.need(self._producers(eqn))
        for source in dict.fromkeys(a.source for a in self.accesses(eqn)):
            self._readers[source].append(eqn)

    def _producers(self, eqn: JaxprEqn) -> list[Group]:
        sources = [a.source for a in self.accesses(eqn)]
        return [self.group_of[s] for s in sources if isinstance(s, Var) and s in self.group_of]

    def _awaited_groups(self, eqn: JaxprEqn) -> list[Group]:
        return [self.group_of[s] for v in eqn.invars for s in self.awaited(v)]

    def _phase_in(self, eqn: JaxprEqn, group: Group) -> int:
        """How many folds of a group wait for each other up to an equation of it, itself included."""
        inside = (a.source for a in self.accesses(eqn) if self.group_of.get(a.source) is group)
        before = max((self._phase[v] for v in inside), default=0)
        return before + bool(domain_of(eqn)[1])

    def _place_loop(self, eqn: JaxprEqn) -> None:
        awaited = self._awaited_groups(eqn)
        needed = [*self._producers(eqn), *awaited]
        candidates = [g for g in dict.fromkeys(needed) if g.kind == "loops" and g not in awaited]
        joined: Group | None = None
        # The latest group first: it is the one that others most likely feed.
        for group in sorted(candidates, key=lambda g: -g.number):
            if joined is None:
                if self._fits(eqn, group) and self._order.precede((g for g in needed if g is not group), group):
                    group.axes = group.axes or domain_of(eqn)[1]
                    self._add(group, eqn)
                    joined = group
            elif self._mergeable(group, joined):
                joined = self._merge(group, joined)
        if joined is None:
            self._new_group("loops", eqn)

    def _fits(self, eqn: JaxprEqn, group: Group) -> bool:
        """Whether the equation can be computed at the points of the group's domain from values made there."""
        if (
            group.work + work_of(eqn) > self.scheduling.max_work
            or self._phase_in(eqn, group) > self.scheduling.max_phases
        ):
            return False
        domain, axes = domain_of(eqn)
        if axes:
            if domain != group.domain or (group.axes and axes != group.axes):
                return False
            level = "full"
        else:
            out = squeezed(eqn.outvars[0].aval.shape)
            if out == group.domain:
                level = "full"
            elif group.axes and out == group.row_shape:
                level = "row"
            else:
                return False
        return all(self._reads_in_place(eqn, a, group, level) for a in self.accesses(eqn))

    def _reads_in_place(self, eqn: JaxprEqn, access: Access, group: Group, level: str) -> bool:
        if not isinstance(access.source, Var) or self.group_of.get(access.source) is not group:
            return True
        if isinstance(eqn.primitive.lowering, (Pad, Concatenate, DynamicSlice)):
            return False
        return alignment(access, group, level) is not None

    def _mergeable(self, a: Group, b: Group) -> bool:
        """Whether two loop groups can be one: one domain, values read in place, no path out and back.

        If so, what the later one needs now precedes the earlier one.
        """
        if (
            a.domain != b.domain
            or (a.axes and b.axes and a.axes != b.axes)
            or a.work + b.work > self.scheduling.max_work
        ):
            return False
        if a in b.awaits or b in a.awaits or self._phases_of_both(a, b) > self.scheduling.max_phases:
            return False
        if not self._crosses_in_place(a, b):
            return False
        first, second = (a, b) if a.place < b.place else (b, a)
        return self._order.precede([g for g in second.needs if g is not first], first)

    def _phases_of_both(self, a: Group, b: Group) -> int:
        """The phases of two groups were they one: those of one after the other's if it reads what the other makes."""
        apart = next(self._crossings(a, b), None) is None
        return max(a.phases, b.phases) if apart else a.phases + b.phases

    def _crosses_in_place(self, a: Group, b: Group) -> bool:
        """Whether what two groups read of each other is read where it is made, were they one."""
        merged = Group("loops", -1, domain=a.domain, axes=a.axes or b.axes)
        for eqn, access, reader, maker in self._crossings(a, b):
            assert isinstance(access.source, Var)
            level, made_at = level_of(eqn, reader), level_of(self.definition[access.source], maker, of_result=True)
            crossing = isinstance(eqn.primitive.lowering, (Pad, Concatenate, DynamicSlice))
            if crossing or alignment(access, merged, level, made_at) is None:
                return False
        return True

    def _crossings(self, a: Group, b: Group) -> Iterator[tuple[JaxprEqn, Access, Group, Group]]:
        """What equations of one of two groups read of the other: equation, access, its group, and the other."""
        small, large = sorted((a, b), key=lambda g: len(g.eqns))
        readers = [e for made in small.eqns for v in made.outvars for e in self._readers.get(v, ())]
        for eqn in small.eqns:
            yield from ((eqn, x, small, large) for x in self.accesses(eqn) if self.group_of.get(x.source) is large)
        for eqn in readers if len(readers) < len(large.eqns) else large.eqns:
            if self._group_with[eqn] is large:
                yield from ((eqn, x, large, small) for x in self.accesses(eqn) if self.group_of.get(x.source) is small)

    def _merge(self, a: Group, b: Group) -> Group:
        """Have the larger of two groups hold the equations of both, in the place of the earlier; return it."""
        small, large = sorted((a, b), key=lambda g: len(g.eqns))
        large.phases = self._phases_of_both(a, b)
        self._order.join(small, large)
        large.absorb(small)
        for eqn in small.eqns:
            self._group_with[eqn] = large
            self.group_of.update((v, large) for v in eqn.outvars)
        return large

    def _merge_siblings(self) -> None:
        """Merge groups over one domain that read a common value of that size: it is then read once. Groups of scalars
        merge for the sake of fewer kernels."""
        inputs: dict[Group, dict[Atom | None, None]] = {}
        latest: dict[tuple[Shape, Atom | None], dict[Group, None]] = defaultdict(dict)

        def note(group: Group, values: Iterable[Atom | None]) -> None:
            for value in values:
                readers = latest[group.domain, value]
                readers[group] = None
                if len(readers) > _MOST_SIBLINGS:
                    del readers[next(iter(readers))]

        for group in sorted(self._order, key=lambda g: g.number):
            if group.kind != "loops":
                continue
            inputs[group] = self._large_inputs(group) if group.domain else {None: None}
            siblings = dict.fromkeys(g for v in inputs[group] for g in latest[group.domain, v] if g in inputs)
            for sibling in sorted(siblings, key=lambda g: g.number):
                if self._mergeable(sibling, group):
                    merged = self._merge(sibling, group)
                    absorbed = inputs.pop(sibling if merged is group else group)
                    inputs[merged].update(absorbed)
                    note(merged, absorbed)
                    group = merged
            note(group, inputs[group])

    def _large_inputs(self, group: Group) -> dict[Atom | None, None]:
        sources = (a.source for e in group.eqns for a in self.accesses(e))
        return {s: None for s in sources if isinstance(s, Var) and squeezed(s.aval.shape) == group.domain}

    def _ordered(self) -> list[Group]:
        """Groups in topological order, earliest first; their equations as they were written."""
        done: set[Group] = set()
        order: list[Group] = []
        for group in sorted(self._order, key=lambda g: g.number):
            stack = [(group, iter(sorted(group.needs, key=lambda g: g.number)))]
            while stack:
                current, needs = stack[-1]
                missing = next((g for g in needs if g not in done), None)
                if missing is not None:
                    stack.append((missing, iter(sorted(missing.needs, key=lambda g: g.number))))
                else:
                    stack.pop()
                    if current not in done:
                        done.add(current)
                        order.append(current)
        for group in order:
            group.eqns.sort(key=self._position.__getitem__)
        return order

    def _stored(self) -> set[Var]:
        """The variables that must be in memory: read by another group or through a view, or returned."""
        result = {a.source for a in map(self.resolve, self.outvars)}
        for group in self.order:
            for eqn in group.eqns:
                for source, _ in self.accesses(eqn):
                    if self.group_of.get(source) is not group or group.kind != "loops":
                        result.add(source)
        return {v for v in result if isinstance(v, Var)}

    def __str__(self) -> str:
        return "\n".join(f"{i}: {g}" for i, g in enumerate(self.order))


_PLACES: LoweringTable[Callable[[Fusion, JaxprEqn], None]] = LoweringTable(
    "fusion",
    {
        View: Fusion._place_view,
        Barrier: Fusion._place_barrier,
        Contract: Fusion._place_product,
        Concatenate: Fusion._place_join,
        DynamicUpdateSlice: Fusion._place_update,
        Native: lambda fusion, eqn: fusion._place_whole("native", eqn),
        **dict.fromkeys(CONTROL, lambda fusion, eqn: fusion._place_whole("control", eqn)),
    },
    # Loops are placed by `_place_loop`; here are those that the loop language cannot express.
    rest=(Elementwise, Pad, Iota, Reduce, ArgReduce, DynamicSlice, *CALLS, *HOST),
    otherwise=Fusion._place_host,
)


def behind_barrier(var: Var, eqn: JaxprEqn) -> Atom:
    """The operand of a barrier that one of its results is."""
    return eqn.invars[eqn.outvars.index(var)]


def work_of(eqn: JaxprEqn) -> int:
    """What an equation costs per element, in simple operations."""
    lowering = eqn.primitive.lowering
    if not isinstance(lowering, Elementwise):
        return 1
    simple = isinstance(lowering.op, str) and not (lowering.op in SCALARS and SCALARS[lowering.op].vector_math)
    return 1 if simple else 8


def domain_of(eqn: JaxprEqn) -> tuple[Shape, tuple[int, ...]]:
    """The domain an equation iterates over, without units, and the axes of it that it folds; an effect has none."""
    if not isinstance(eqn.primitive.lowering, Reduce):
        return squeezed(eqn.outvars[0].aval.shape) if eqn.outvars else (), ()
    shape = eqn.invars[0].aval.shape
    place = {d: i for i, d in enumerate(d for d, n in enumerate(shape) if n != 1)}
    return squeezed(shape), tuple(sorted(place[d] for d in eqn.params["axes"] if d in place))


def level_of(eqn: JaxprEqn, group: Group, of_result: bool = False) -> str:
    """At which level of its group an equation is computed; a reduction computes at full, its result is a row value."""
    if isinstance(eqn.primitive.lowering, Reduce) and domain_of(eqn)[1]:
        return "row" if of_result else "full"
    out = squeezed(eqn.outvars[0].aval.shape)
    return "full" if out == group.domain else "row"


def alignment(access: Access, group: Group, level: str, source_level: str | None = None) -> str | None:
    """How an equation at `level` reads a value of its own group: "same", "spread" (row to full), or None: elsewhere."""
    source_shape = squeezed(access.source.aval.shape)
    if source_level is None:
        source_level = "full" if source_shape == group.domain else "row"
    view = without_units(access.view)
    if source_level == level:
        return "same" if view == without_units(contiguous(source_shape)) else None
    if source_level == "row" and level == "full":
        if not source_shape and not view.shape:
            return "spread"  # a scalar stands for every element
        rows = iter(contiguous(source_shape).strides)
        spread = tuple(0 if d in group.axes else next(rows) for d in range(len(group.domain)))
        return "spread" if view == Strided(group.domain, spread, 0) else None
    return None
