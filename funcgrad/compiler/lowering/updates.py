"""Windows written into arrays: the kernel of dynamic_update_slice, and when it may write where its operand is.

An array that nobody reads any more need not be copied before a window of it is replaced. In a loop that writes one
element of a large array per iteration, that is the difference between constant and linear work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from funcgrad.compiler.fusion.fuse import Access, Fusion
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    Index,
    IndexValue,
    Intent,
    Kernel,
    Let,
    Load,
    Name,
    Param,
    Stmt,
    Store,
    op,
)
from funcgrad.compiler.lowering.lower import Launch
from funcgrad.compiler.lowering.nest import INT64, builder
from funcgrad.compiler.lowering.schedule import GRAIN
from funcgrad.core.jaxprs import JaxprEqn, Literal, Var
from funcgrad.core.lowering import contiguous


def lower_update(eqn: JaxprEqn, accesses: Sequence[Access]) -> Launch:
    """The kernel that writes the update's elements at their places in a copy of the operand, which is there already."""
    return _Writer(eqn, accesses).launch()


class _Writer:
    def __init__(self, eqn: JaxprEqn, accesses: Sequence[Access]):
        self.eqn, self.accesses = eqn, accesses
        self.out = eqn.outvars[0]
        self.params: list[Param] = []
        self.operands: list[Var | None] = []
        self.sizes: dict[str, int] = {}

    def launch(self) -> Launch:
        update = self.accesses[1]
        shape, whole = update.view.shape, self.out.aval.shape
        dims = [d for d, n in enumerate(shape) if n != 1]
        steps = contiguous(whole).strides
        lets, base = self.base(whole, shape, steps)
        outer, last = dims[:-1], dims[-1:]
        body: list[Stmt] = []
        place = {d: f"i{d}" for d in dims}
        if len(dims) == 1:
            place[dims[0]] = "p"
        value = self.value(update, dims, place)
        index = Index((*((n, 1) for n in base), *((place[d], self.stride(steps[d])) for d in dims)), 0)
        body = [Store(self.parameter("y", self.out, "inout"), index, value)]
        if len(dims) > 1:
            body = [For(place[last[0]], self.size(f"n{last[0]}", shape[last[0]]), tuple(body), "vector")]
            body = [*self.positions(outer, shape), *body]
        extent = int(np.prod([shape[d] for d in (outer if len(dims) > 1 else dims)], dtype=np.int64))
        inner = shape[last[0]] if len(dims) > 1 else 1
        loop = For("p", self.size("parallel", extent), tuple(body), "parallel")
        kernel = Kernel("update_window", tuple(self.params), tuple(self.sizes), (*lets, loop))
        grain = max(1, GRAIN // max(1, inner))
        return Launch(kernel, tuple(self.operands), tuple(self.sizes.values()), extent, grain)

    def base(self, whole: Sequence[int], shape: Sequence[int], steps: Sequence[int]) -> tuple[list[Stmt], list[str]]:
        """Where the window begins: for each dimension in which it can move, its clamped start times the stride."""
        lets: list[Stmt] = []
        names = []
        for d, (access, n, m) in enumerate(zip(self.accesses[2:], whole, shape, strict=True)):
            if n == m:
                continue
            if isinstance(access.source, Literal):
                at: Expr = builder.cast(_constant(access.source), INT64)
            else:
                loaded = Load(self.input(access.source), Index((), access.view.offset), access.source.aval.dtype)
                at = builder.cast(loaded, INT64)
            most = IndexValue(Index((), self.size(f"m{d}", n - m)))
            moved = op(
                "mul", op("clamp", Const(0, INT64), at, most), IndexValue(Index((), self.size(f"d{d}", steps[d])))
            )
            lets.append(Let(f"start{d}", moved))
            names.append(f"start{d}")
        return lets, names

    def positions(self, outer: Sequence[int], shape: Sequence[int]) -> list[Stmt]:
        """Lets that recover the outer indices from the parallel one."""
        lets: list[Stmt] = []
        rest: Expr = IndexValue(Index((("p", 1),)))
        for d in reversed(outer[1:]):
            limit = IndexValue(Index((), self.size(f"n{d}", shape[d])))
            lets.append(Let(f"i{d}", op("rem", rest, limit)))
            lets.append(Let(f"rest{d}", op("div", rest, limit)))
            rest = Name(f"rest{d}", INT64)
        return [*lets, Let(f"i{outer[0]}", rest)]

    def value(self, update: Access, dims: Sequence[int], place: dict[int, str]) -> Expr:
        if isinstance(update.source, Literal):
            return _constant(update.source)
        terms = tuple((place[d], self.stride(update.view.strides[d])) for d in dims if update.view.strides[d])
        offset = update.view.offset
        return Load(
            self.input(update.source), Index(terms, self.size("o", offset) if offset else 0), update.source.aval.dtype
        )

    def input(self, var: Var) -> str:
        if var in self.operands:
            return self.params[self.operands.index(var)].name
        return self.parameter("x", var, "in")

    def parameter(self, letter: str, var: Var, intent: Intent) -> str:
        name = f"{letter}{sum(p.name[0] == letter for p in self.params)}"
        self.params.append(Param(name, var.aval.dtype, intent))
        self.operands.append(var)
        return name

    def size(self, name: str, value: int) -> str:
        self.sizes[name] = value
        return name

    def stride(self, value: int) -> int | str:
        return value if value in (0, 1, -1) else self.size(f"s{len(self.sizes)}", value)


def _constant(literal: Literal) -> Const:
    return Const(np.asarray(literal.val).item(), literal.aval.dtype)


def in_place(fusion: Fusion, fixed: set[Var], carries: Mapping[Var, Var]) -> dict[Var, Var]:
    """Which results of updates are written where their operands are: from result to operand.

    An operand qualifies that is not read later and is a temporary, or an input of a loop's body that is replaced by
    what becomes of it (`carries`: from such an input to the result that takes its place). `fixed` are the variables
    whose memory is given: inputs and results.
    """
    last: dict[object, int] = {}
    times: dict[object, int] = {}
    for i, group in enumerate(fusion.order):
        for eqn in group.eqns:
            for access in fusion.accesses(eqn):
                if last.get(access.source) != i:
                    times[access.source] = 0
                last[access.source] = i
                times[access.source] += 1
    found: dict[Var, Var] = {}
    for i, group in enumerate(fusion.order):
        if group.kind != "update":
            continue
        (eqn,) = group.eqns
        operand = fusion.accesses(eqn)[0].source
        assert isinstance(operand, Var)
        # It must be the last to read the operand, and read it as the operand alone.
        if last[operand] == i and times[operand] == 1 and (operand not in fixed or operand in carries):
            found[eqn.outvars[0]] = operand
    home = origins(found)
    kept = {start for start, result in carries.items() if home.get(result, result) is not start}
    return {v: o for v, o in found.items() if o not in kept}


def origins(aliases: Mapping[Var, Var]) -> dict[Var, Var]:
    """The variable at the other end of each chain of updates in place; `aliases` are in the order of the program."""
    home: dict[Var, Var] = {}
    for var, operand in aliases.items():
        home[var] = home.get(operand, operand)
    return home
