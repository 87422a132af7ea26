"""Step 1 of fusion: which equations are computed at all, and what each of them reads.

Views (reshape, transpose, slice, broadcast, …) are not computed. An operand is *resolved* through them to the value it
shows and the affine access that shows it. An operand behind a barrier is resolved likewise, but what reads it must wait
for the other operands of the barrier. A view is copied into storage of its own where a reader cannot use its access: a
matrix product needs rows at one distance, a loop or a native call a whole array, and a caller results of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access, is_contiguous, is_whole, row_axis, rows
from funcgrad.compiler.fusion.groups import Kind
from funcgrad.compiler.loops.equations import is_loop
from funcgrad.compiler.loops.scalars import DTYPES
from funcgrad.compiler.rewrite import products
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import (
    CALLS,
    CONTROL,
    HOST,
    KERNELS,
    Barrier,
    Complex,
    Concatenate,
    Contract,
    Elementwise,
    Gather,
    Interleave,
    Iota,
    LibraryRoutine,
    LoweringTable,
    Native,
    Pad,
    Reduce,
    Scatter,
    Strided,
    View,
    contiguous,
)
from funcgrad.ops.arithmetic import complex_p, imag_p, real_p
from funcgrad.ops.shapes import reshape_p

_DEFAULT = Scheduling()


class Computed(NamedTuple):
    """An equation that is computed: the kind of its group, what it reads, and the values that must exist before it runs
    because of a barrier. If `copies`, it copies a view, in a group of its own."""

    eqn: JaxprEqn
    kind: Kind
    accesses: list[Access]
    awaited: frozenset[Var]
    copies: bool

    def __str__(self) -> str:
        eqn, reads = self.eqn, ", ".join(map(str, self.accesses))
        results = ", ".join(str(v.aval) for v in eqn.outvars)
        waits = f" after {len(self.awaited)} more" if self.awaited else ""
        return f"{'copy' if self.copies else self.kind}: {results} = {eqn.primitive} {reads}{waits}"


@dataclass(frozen=True)
class Resolution:
    """The equations that are computed, in an order that can run, and what holds the results of the jaxpr."""

    computed: list[Computed]
    results: list[Atom]
    position: dict[JaxprEqn, int]  # where each equation was written

    def __str__(self) -> str:
        return "\n".join(map(str, self.computed))


def resolve(
    eqns: Sequence[JaxprEqn], outvars: Sequence[Atom], apart: bool = False, scheduling: Scheduling = _DEFAULT
) -> Resolution:
    """Decide what is computed, and how each operand is read.

    `apart`: each result is a value of its own, not an operand or a part of another result.
    """
    resolver = _Resolver(eqns, scheduling)
    for eqn in eqns:
        resolver.compute(eqn)
    # A result that is a view of another result is copied, whichever comes first.
    taken: set[Atom] = {v for v in outvars if v in resolver.made}
    for v in outvars:
        source = resolver.access(v).source
        shared = apart and source is not v and (source in taken or source not in resolver.made)
        if isinstance(v, Var) and (shared or not resolver.is_stored(v)):
            resolver.copy(v)
        taken.add(resolver.access(v).source)
    return Resolution(resolver.computed, [resolver.access(v).source for v in outvars], resolver.position)


class _Resolver:
    """One walk over the equations. An access is fixed when its equation is reached: a copy of a view that is made later
    is read only by later equations."""

    def __init__(self, eqns: Sequence[JaxprEqn], scheduling: Scheduling):
        self.scheduling = scheduling
        self.position = {e: i for i, e in enumerate(eqns)}
        self.computed: list[Computed] = []
        self.made: set[Var] = set()  # results of the computed equations
        self._definition: dict[Var, JaxprEqn] = {v: e for e in eqns for v in e.outvars}
        self._resolved: dict[Var, Access] = {}
        self._awaited: dict[JaxprEqn, frozenset[Var]] = {}

    # ------------------------------------------------------------------ what is computed

    def compute(self, eqn: JaxprEqn) -> None:
        """Add an equation, after copies of those of its operands that it cannot read where they are."""
        if is_loop(eqn) and not isinstance(eqn.primitive.lowering, View):
            self.add(eqn, "loops")
        else:
            _RULES[eqn.primitive.lowering](self, eqn)

    def barrier(self, eqn: JaxprEqn) -> None:
        """There is nothing to compute."""

    def view(self, eqn: JaxprEqn) -> None:
        """A view that is no affine access of what is stored needs its operand in order first."""
        lowering, (operand,) = eqn.primitive.lowering, eqn.invars
        assert isinstance(lowering, View)
        if lowering.apply(self.access(operand).view, **eqn.params) is None:
            self.copy(operand)

    def product(self, eqn: JaxprEqn) -> None:
        if products.is_kernel(eqn, self.scheduling.largest_product):
            self.copy_unless(eqn.invars, lambda v: isinstance(self.access(v).source, Var))
            self.add(eqn, "kernels")
            return
        self.copy_unless(eqn.invars, lambda v: products.matrix(self.access(v).view) is not None)
        self.add(eqn, "contract")

    def join(self, eqn: JaxprEqn) -> None:
        joined = eqn.outvars[0].aval.dtype != dtypes.float0
        self.copy_unless(eqn.invars if joined else [], self.is_run)
        self.add(eqn, "join" if joined else "host")

    def update(self, eqn: JaxprEqn) -> None:
        # A number has no storage that could be written to.
        written = eqn.outvars[0].aval.dtype in DTYPES and isinstance(eqn.invars[0], Var)
        self.copy_unless(eqn.invars[:1] if written else [], self.is_stored)
        self.add(eqn, "update" if written else "host")

    def native(self, eqn: JaxprEqn) -> None:
        self.copy_unless(eqn.invars, self.is_stored)
        self.add(eqn, "native")

    def library(self, eqn: JaxprEqn) -> None:
        self.copy_unless(eqn.invars, self.is_stored)
        self.add(eqn, "library")

    def control(self, eqn: JaxprEqn) -> None:
        self.copy_unless(eqn.invars, self.is_stored)
        self.add(eqn, "control")

    def kernels(self, eqn: JaxprEqn) -> None:
        native = all(v.aval.dtype in DTYPES for v in (*eqn.invars, *eqn.outvars))
        self.copy_unless(eqn.invars if native else [], lambda v: self.has_rows(v, row_axis(eqn)))
        self.add(eqn, "kernels" if native else "host")

    def host(self, eqn: JaxprEqn) -> None:
        self.add(eqn, "host")

    def copy_unless(self, atoms: Sequence[Atom], readable: Callable[[Atom], bool]) -> None:
        for atom in atoms:
            if not readable(atom):
                self.copy(atom)

    def copy(self, var: Atom) -> None:
        """Copy a view into storage of its own."""
        assert isinstance(var, Var)
        if var in self.made:
            return
        self._resolved.pop(var, None)
        eqn = self._definition[var]
        if isinstance(eqn.primitive.lowering, Barrier):
            params = {"new_sizes": var.aval.shape, "dimensions": None}
            eqn = self._instead(eqn, JaxprEqn([_behind_barrier(var, eqn)], [var], reshape_p, params, eqn.source))
        if dtypes.is_complex(var.aval.dtype):
            self._copy_parts(var, eqn)
        else:
            self.add(eqn, "loops" if is_loop(eqn) else "host", copies=True)

    def _copy_parts(self, var: Var, eqn: JaxprEqn) -> None:
        """Copy a view of complex numbers: x = real x + i·imag x."""
        shown, parts = Var(var.aval), [Var(var.aval.update(dtype=dtypes.real_dtype(var.aval.dtype))) for _ in range(2)]
        self._definition[shown] = eqn.replace(outvars=[shown])
        for primitive, part in zip((real_p, imag_p), parts, strict=True):
            self._definition[part] = JaxprEqn([shown], [part], primitive, {}, eqn.source)
        self.add(self._instead(eqn, JaxprEqn(parts, [var], complex_p, {}, eqn.source)), "loops", copies=True)

    def _instead(self, eqn: JaxprEqn, other: JaxprEqn) -> JaxprEqn:
        """Let another equation define the result of one."""
        self.position[other] = self.position[eqn]
        self._definition[other.outvars[0]] = other
        return other

    def add(self, eqn: JaxprEqn, kind: Kind, copies: bool = False) -> None:
        accesses = [self.access(v) for v in eqn.invars]
        lowering = eqn.primitive.lowering
        if isinstance(lowering, View):  # it reads through itself
            view = lowering.apply(accesses[0].view, **eqn.params)
            assert view is not None
            accesses = [Access(accesses[0].source, view)]
        awaited = frozenset().union(*map(self.awaited, eqn.invars))
        self.computed.append(Computed(eqn, kind, accesses, awaited, copies))
        self.made.update(eqn.outvars)

    def is_stored(self, atom: Atom) -> bool:
        """Whether an operand is in memory, all of it and in order."""
        source, view = self.access(atom)
        return self.is_alone(atom) and is_whole(view, source.aval.shape)

    def has_rows(self, atom: Atom, axis: int) -> bool:
        """Whether an operand is in memory and its rows along an axis are at regular distances."""
        source, view = self.access(atom)
        return isinstance(source, Var) and rows(view, axis) is not None

    def is_run(self, atom: Atom) -> bool:
        """Whether an operand's elements are side by side in memory, in order."""
        return self.is_alone(atom) and is_contiguous(self.access(atom).view)

    def is_alone(self, atom: Atom) -> bool:
        """Whether an operand is in memory, and no part of complex numbers."""
        source = self.access(atom).source
        return isinstance(source, Var) and source.aval.dtype == atom.aval.dtype

    # ------------------------------------------------------------------ through views

    def access(self, atom: Atom) -> Access:
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

    def _read_through(self, atom: Atom) -> JaxprEqn | None:
        """The view or barrier that an operand is a result of, unless that result is stored."""
        eqn = self._definition.get(atom) if isinstance(atom, Var) and atom not in self.made else None
        return eqn if eqn is not None and isinstance(eqn.primitive.lowering, (View, Barrier)) else None

    def _shown(self, var: Var) -> Var | None:
        """The operand of the view or barrier that a variable is read through."""
        eqn = self._read_through(var)
        if eqn is None:
            return None
        operand = _behind_barrier(var, eqn) if isinstance(eqn.primitive.lowering, Barrier) else eqn.invars[0]
        return operand if isinstance(operand, Var) else None

    def _resolve(self, var: Var) -> Access:
        eqn = self._read_through(var)
        if eqn is not None and isinstance(eqn.primitive.lowering, Barrier):
            return self.access(_behind_barrier(var, eqn))
        if eqn is not None and isinstance(eqn.primitive.lowering, View):
            source, inner = self.access(eqn.invars[0])
            if (view := eqn.primitive.lowering.apply(inner, **eqn.params)) is not None:
                return Access(source, view)
        return Access(var, contiguous(var.aval.shape))

    # ------------------------------------------------------------------ behind barriers

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
            sources = (self.access(v).source for v in eqn.invars)
            found |= {s for s in sources if isinstance(s, Var) and s in self.made}
        return found


_RULES: LoweringTable[Callable[[_Resolver, JaxprEqn], None]] = LoweringTable(
    "fusion",
    {
        View: _Resolver.view,
        Barrier: _Resolver.barrier,
        Contract: _Resolver.product,
        Concatenate: _Resolver.join,
        Scatter: _Resolver.update,
        LibraryRoutine: _Resolver.library,
        Native: _Resolver.native,
        **dict.fromkeys(CONTROL, _Resolver.control),
        **dict.fromkeys(KERNELS, _Resolver.kernels),
    },
    # Those of these that the loop language can express never get here.
    rest=(Elementwise, Complex, Pad, Interleave, Iota, Reduce, Gather, *CALLS, *HOST),
    otherwise=_Resolver.host,
)


def _behind_barrier(var: Var, eqn: JaxprEqn) -> Atom:
    """The operand of a barrier that corresponds to one of its results."""
    return eqn.invars[eqn.outvars.index(var)]
