"""simplified jaxpr → groups: which equations one kernel computes.

Views (reshape, transpose, slice, broadcast, …) are no equations of any group: an operand is *resolved* through them to
the value it shows and the affine access that shows it. So is an operand behind a barrier; but then the group also needs
those that make the barrier's other operands. What remains are

- loop equations: elementwise operations, padding, concatenation, iota, slices at run-time positions, and reductions;
  they fuse,
- matrix products, native and host calls, each a group of its own.

A group of loop equations has a *domain*, the shape it iterates over, and *axes* of it that its reductions fold (none
for a purely elementwise group). Each of its values is *full* (one per point of the domain) or a *row* value (one per
point of the domain without the folded axes). An equation joins the groups of its operands when its domain is theirs,
it reads their values at the point where they are made, and no path leaves the group and comes back. A group is bounded,
since the time that LLVM takes for one block of code grows faster than the block.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from typing import Literal as Choice

from funcgrad import dtypes
from funcgrad.compiler import contract
from funcgrad.compiler.control import is_control
from funcgrad.compiler.scalars import DTYPES, SCALARS
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import (
    Barrier,
    Concatenate,
    Contract,
    Gather,
    Iota,
    Native,
    Pad,
    Reduce,
    Scalar,
    Strided,
    Update,
    View,
    contiguous,
)
from funcgrad.ops.shapes import reshape_p

# What the equations of a kernel cost at most, in simple operations: about 60 functions of vector math.
MOST_WORK = 512

Shape = tuple[int, ...]
Kind = Choice["loops", "contract", "update", "control", "native", "host"]


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


@dataclass(eq=False)
class Group:
    """Equations that become one kernel, or one equation: a BLAS call, a window written, a branch or loop, native code,
    a host call."""

    kind: Kind
    number: int
    eqns: list[JaxprEqn] = field(default_factory=list)
    domain: Shape = ()
    axes: tuple[int, ...] = ()
    work: int = 0
    needs: set[int] = field(default_factory=set)
    awaits: set[int] = field(default_factory=set)  # those of `needs` that a barrier keeps apart

    @property
    def row_shape(self) -> Shape:
        """The domain without the folded axes."""
        return tuple(n for d, n in enumerate(self.domain) if d not in self.axes)

    def __str__(self) -> str:
        names = " ".join(e.primitive.name for e in self.eqns)
        where = f" over {list(self.domain)}" if self.kind == "loops" else ""
        scopes = ", ".join(dict.fromkeys(e.source.scope for e in self.eqns if e.source and e.source.scope))
        folds = f" folding axes {list(self.axes)}" if self.axes else ""
        return f"{self.kind}{where}{folds}: {names}{f' (in {scopes})' if scopes else ''}"


def is_loop(eqn: JaxprEqn) -> bool:
    """Whether the loop IR can express an equation."""
    lowering = eqn.primitive.lowering
    if any(dtypes.is_complex(v.aval.dtype) or v.aval.dtype == dtypes.float0 for v in [*eqn.invars, *eqn.outvars]):
        return False
    if isinstance(lowering, Gather):
        return eqn.primitive.name == "dynamic_slice"
    if isinstance(lowering, Scalar) and isinstance(lowering.op, str):
        return lowering.op in SCALARS
    return isinstance(lowering, (Scalar, Pad, Concatenate, Iota, Reduce, View))


class Fusion:
    """The groups of a jaxpr in an order that can run, and how operands reach the values that groups make."""

    def __init__(self, eqns: Sequence[JaxprEqn], outvars: Sequence[Atom], apart: bool = False):
        """`apart`: each result is a value of its own, not an operand or a part of another result."""
        self.definition: dict[Var, JaxprEqn] = {v: e for e in eqns for v in e.outvars}
        self.group_of: dict[Var, Group] = {}
        self.groups: list[Group] = []
        self._resolved: dict[Var, Access] = {}
        self._awaited: dict[JaxprEqn, frozenset[Var]] = {}
        self._accesses: dict[JaxprEqn, list[Access]] = {}
        self._numbers = 0
        effects: Group | None = None
        for eqn in eqns:
            self._place(eqn)
            if eqn.effectful:  # effects happen in the order in which they were written
                group = self.groups[-1]
                group.needs |= {effects.number} if effects is not None else set()
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
            self._resolved[atom] = self._resolve(atom)
        return self._resolved[atom]

    def _resolve(self, var: Var) -> Access:
        eqn = self.definition.get(var)
        if eqn is not None and isinstance(eqn.primitive.lowering, View) and var not in self.group_of:
            inner = self.resolve(eqn.invars[0])
            view = eqn.primitive.lowering.apply(inner.view, **eqn.params)
            if view is not None:
                return Access(inner.source, view)
        if eqn is not None and isinstance(eqn.primitive.lowering, Barrier):
            return self.resolve(behind_barrier(var, eqn))
        return Access(var, contiguous(var.aval.shape))

    def awaited(self, atom: Atom) -> frozenset[Var]:
        """The values behind barriers that must have been computed before an operand is read."""
        eqn = self.definition.get(atom) if isinstance(atom, Var) and atom not in self.group_of else None
        if eqn is None or not isinstance(eqn.primitive.lowering, (View, Barrier)):
            return frozenset()
        if eqn not in self._awaited:
            found = frozenset().union(*map(self.awaited, eqn.invars))
            if isinstance(eqn.primitive.lowering, Barrier):
                sources = (self.resolve(v).source for v in eqn.invars)
                found |= {s for s in sources if isinstance(s, Var) and s in self.group_of}
            self._awaited[eqn] = found
        return self._awaited[eqn]

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
        lowering = eqn.primitive.lowering
        if isinstance(lowering, View):
            self._place_view(eqn, lowering)
        elif is_loop(eqn):
            self._place_loop(eqn)
        elif isinstance(lowering, Barrier):
            pass  # nothing to compute
        elif isinstance(lowering, Contract):
            for v in eqn.invars:
                if contract.matrix(self.resolve(v).view) is None:
                    self._store_view(v)
            self._new_group("contract", eqn)
        elif isinstance(lowering, Update) and eqn.outvars[0].aval.dtype in DTYPES:
            self._place_update(eqn)
        elif is_control(lowering) or isinstance(lowering, Native):
            for v in eqn.invars:
                if not self._is_stored(v):
                    self._store_view(v)
            self._new_group("native" if isinstance(lowering, Native) else "control", eqn)
        else:
            self._new_group("host", eqn)

    def _place_update(self, eqn: JaxprEqn) -> None:
        """A window is written where the operand is, if that is not read later: so those come first that read it now."""
        operand = eqn.invars[0]
        if not self._is_stored(operand):
            self._store_view(operand)
        source = self.resolve(operand).source
        readers = [g for g in self.groups if any(a.source is source for e in g.eqns for a in self.accesses(e))]
        group = self._new_group("update", eqn)
        group.needs |= {g.number for g in readers}

    def _place_view(self, eqn: JaxprEqn, lowering: View) -> None:
        """A view that is no affine access of what is stored needs its operand stored in its own order first."""
        (operand,) = eqn.invars
        inner = self.resolve(operand)
        if lowering.apply(inner.view, **eqn.params) is not None:
            return
        self._store_view(operand)

    def _is_stored(self, atom: Atom) -> bool:
        """Whether an operand is in memory, all of it and in order."""
        source, view = self.resolve(atom)
        return isinstance(source, Var) and is_whole(view, source.aval.shape)

    def _store_view(self, var: Atom) -> None:
        """Have a view copied into storage of its own: its equation becomes one of a group."""
        assert isinstance(var, Var)
        if var not in self.group_of:
            del self._resolved[var]
            eqn = self.definition[var]
            if isinstance(eqn.primitive.lowering, Barrier):
                shape = {"new_sizes": var.aval.shape, "dimensions": None}
                eqn = self.definition[var] = JaxprEqn([behind_barrier(var, eqn)], [var], reshape_p, shape, eqn.source)
            self._new_group("loops" if is_loop(eqn) else "host", eqn)

    def _new_group(self, kind: Kind, eqn: JaxprEqn) -> Group:
        group = Group(kind, self._numbers)
        self._numbers += 1
        self.groups.append(group)
        if kind == "loops":
            group.domain, group.axes = domain_of(eqn)
        self._add(group, eqn)
        return group

    def _add(self, group: Group, eqn: JaxprEqn) -> None:
        group.eqns.append(eqn)
        group.work += work_of(eqn)
        group.awaits |= {g.number for g in self._awaited_groups(eqn)}
        group.needs |= {g.number for g in self._producers(eqn) if g is not group} | group.awaits
        self.group_of.update((v, group) for v in eqn.outvars)

    def _producers(self, eqn: JaxprEqn) -> list[Group]:
        sources = [a.source for a in self.accesses(eqn)]
        return [self.group_of[s] for s in sources if isinstance(s, Var) and s in self.group_of]

    def _awaited_groups(self, eqn: JaxprEqn) -> list[Group]:
        return [self.group_of[s] for v in eqn.invars for s in self.awaited(v)]

    def _place_loop(self, eqn: JaxprEqn) -> None:
        awaited = self._awaited_groups(eqn)
        needed = [*self._producers(eqn), *awaited]
        candidates = [g for g in dict.fromkeys(needed) if g.kind == "loops" and g not in awaited]
        joined: Group | None = None
        # The latest group first: it is the one that others most likely feed.
        for group in sorted(candidates, key=lambda g: -g.number):
            if joined is None:
                if self._fits(eqn, group) and not self._detour({group}, needed):
                    group.axes = group.axes or domain_of(eqn)[1]
                    self._add(group, eqn)
                    joined = group
            elif self._mergeable(group, joined):
                self._merge(group, joined)
        if joined is None:
            self._new_group("loops", eqn)

    def _fits(self, eqn: JaxprEqn, group: Group) -> bool:
        """Whether the equation can be computed at the points of the group's domain from values made there."""
        if group.work + work_of(eqn) > MOST_WORK:
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
        if isinstance(eqn.primitive.lowering, (Pad, Concatenate, Gather)):
            return False
        return alignment(access, group, level) is not None

    def _detour(self, inside: set[Group], starts: Iterable[Group]) -> bool:
        """Whether a path leads from outside groups in `starts` back to a group in `inside`."""
        wanted = {g.number for g in inside}
        by_number = self._by_number()
        stack, seen = [g for g in starts if g not in inside], set()
        while stack:
            group = stack.pop()
            if group.number in seen:
                continue
            seen.add(group.number)
            if group.needs & wanted:
                return True
            stack += [by_number[n] for n in group.needs if n not in wanted]
        return False

    def _by_number(self) -> dict[int, Group]:
        return {g.number: g for g in self.groups}

    def _mergeable(self, a: Group, b: Group) -> bool:
        """Whether two loop groups can be one: one domain, values read in place, no path out and back."""
        if a.kind != "loops" or b.kind != "loops" or a.domain != b.domain or (a.axes and b.axes and a.axes != b.axes):
            return False
        if a.number in b.awaits or b.number in a.awaits or a.work + b.work > MOST_WORK:
            return False
        axes = a.axes or b.axes
        merged = Group("loops", -1, domain=a.domain, axes=axes)
        for group, other in ((a, b), (b, a)):
            for eqn in group.eqns:
                level = level_of(eqn, group)
                for access in self.accesses(eqn):
                    if isinstance(access.source, Var) and self.group_of.get(access.source) is other:
                        crossing = isinstance(eqn.primitive.lowering, (Pad, Concatenate, Gather))
                        if crossing or alignment(access, merged, level, self._level(access.source, other)) is None:
                            return False
        by_number = self._by_number()
        outside = [by_number[n] for g in (a, b) for n in g.needs if n not in (a.number, b.number)]
        return not self._detour({a, b}, outside)

    def _level(self, source: Var, group: Group) -> str:
        return level_of(self.definition[source], group, of_result=True)

    def _merge(self, a: Group, b: Group) -> None:
        """Make `b` hold the equations of both, in a valid order."""
        b.axes = b.axes or a.axes
        b.eqns = _topological([*a.eqns, *b.eqns], self)
        b.work += a.work
        b.needs = (a.needs | b.needs) - {a.number, b.number}
        b.awaits |= a.awaits
        for eqn in a.eqns:
            self.group_of.update((v, b) for v in eqn.outvars)
        self.groups.remove(a)
        for group in self.groups:
            for numbers in (group.needs, group.awaits):
                if a.number in numbers:
                    numbers.discard(a.number)
                    numbers.add(b.number)
            group.needs.discard(group.number)

    def _merge_siblings(self) -> None:
        """Merge groups over one domain that read a common value of that size: it is then read once. Groups of scalars
        merge for the sake of fewer kernels."""
        for group in list(self.groups):
            if group.kind != "loops" or group not in self.groups:
                continue
            mine = self._large_inputs(group)
            for other in list(self.groups):
                if other.number <= group.number or other.kind != "loops" or other.domain != group.domain:
                    continue
                shares = not group.domain or mine & self._large_inputs(other)
                if shares and self._mergeable(group, other):
                    self._merge(group, other)
                    break

    def _large_inputs(self, group: Group) -> set[Var]:
        sources = (a.source for e in group.eqns for a in self.accesses(e))
        return {
            s for s in sources
            if isinstance(s, Var) and squeezed(s.aval.shape) == group.domain
        }  # fmt: skip

    def _ordered(self) -> list[Group]:
        """Groups in topological order, earliest first."""
        by_number, done, order = self._by_number(), set(), []

        def visit(group: Group) -> None:
            stack = [(group, iter(sorted(group.needs)))]
            while stack:
                current, needs = stack[-1]
                missing = next((n for n in needs if n not in done), None)
                if missing is None:
                    stack.pop()
                    if current.number not in done:
                        done.add(current.number)
                        order.append(current)
                else:
                    stack.append((by_number[missing], iter(sorted(by_number[missing].needs))))

        for group in sorted(self.groups, key=lambda g: g.number):
            visit(group)
        return order

    def _stored(self) -> set[Var]:
        """The variables that must be in memory: read by another group or through a view, or returned."""
        result = {a.source for a in map(self.resolve, self.outvars)}
        for group in self.groups:
            for eqn in group.eqns:
                for source, _ in self.accesses(eqn):
                    if self.group_of.get(source) is not group or group.kind != "loops":
                        result.add(source)
        return {v for v in result if isinstance(v, Var)}

    def __str__(self) -> str:
        return "\n".join(f"{i}: {g}" for i, g in enumerate(self.order))


def behind_barrier(var: Var, eqn: JaxprEqn) -> Atom:
    """The operand of a barrier that one of its results is."""
    return eqn.invars[eqn.outvars.index(var)]


def work_of(eqn: JaxprEqn) -> int:
    """What an equation costs per element, in simple operations."""
    lowering = eqn.primitive.lowering
    if not isinstance(lowering, Scalar):
        return 1
    simple = isinstance(lowering.op, str) and not (lowering.op in SCALARS and SCALARS[lowering.op].vector_math)
    return 1 if simple else 8


def domain_of(eqn: JaxprEqn) -> tuple[Shape, tuple[int, ...]]:
    """The domain an equation iterates over, without units, and the axes of it that it folds."""
    if not isinstance(eqn.primitive.lowering, Reduce):
        return squeezed(eqn.outvars[0].aval.shape), ()
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


def _topological(eqns: list[JaxprEqn], fusion: Fusion) -> list[JaxprEqn]:
    """Order equations so that each follows those it reads from."""
    mine = {v: e for e in eqns for v in e.outvars}
    done: set[int] = set()
    order: list[JaxprEqn] = []

    def operands(eqn: JaxprEqn) -> Iterator[JaxprEqn]:
        for access in fusion.accesses(eqn):
            source: Any = access.source
            if source in mine and mine[source] is not eqn:
                yield mine[source]

    for eqn in eqns:
        stack = [(eqn, operands(eqn))]
        while stack:
            current, pending = stack[-1]
            missing = next((e for e in pending if id(e) not in done), None)
            if missing is not None:
                stack.append((missing, operands(missing)))
            else:
                stack.pop()
                if id(current) not in done:
                    done.add(id(current))
                    order.append(current)
    return order
