"""Windows written into arrays: the kernel of dynamic_update_slice, and when it may write where its operand is.

An array that is not read again need not be copied before a window of it is replaced. In a loop that writes one element
of a large array per iteration, this makes the difference between constant and linear work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.loops.language import Const, Expr, For, Index, Load, Stmt, Store, op
from funcgrad.compiler.lowering.kernel_builder import INT64, KernelBuilder, Launch, build, size_value
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn, Literal, Var
from funcgrad.core.lowering import contiguous


def lower_update(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> Launch:
    """The kernel that writes the update's elements at their places in a copy of the operand, which is there already."""
    return _Writer(eqn, accesses).kernel(scheduling.grain)


class _Writer(KernelBuilder):
    """Writes the kernel: one parallel loop over the window, with a vector loop over its last dimension."""

    def __init__(self, eqn: JaxprEqn, accesses: Sequence[Access]):
        super().__init__()
        self.out = eqn.outvars[0]
        _, self.update, *self.starts = accesses
        self.shape, self.whole = self.update.view.shape, self.out.aval.shape
        self.steps = contiguous(self.whole).strides

    def kernel(self, worth: int) -> Launch:
        with self.block() as setup:
            starts = self.window_start()
        dims = [d for d, n in enumerate(self.shape) if n != 1]
        outer, inner = (dims[:-1], dims[-1:]) if len(dims) > 1 else (dims, [])
        extents = [self.size(f"n{d}", self.shape[d]) for d in dims[1:]]
        place = dict(zip(outer, self.unravel([f"i{d}" for d in outer], extents[: len(outer) - 1]), strict=True))
        place |= {d: f"i{d}" for d in inner}
        reads = tuple((place[d], self.stride(s)) for d in dims if (s := self.update.view.strides[d]))
        offset = self.update.view.offset
        value = self.element(self.update, Index(reads, self.size("o", offset) if offset else 0))
        at = Index((*((n, 1) for n in starts), *((place[d], self.stride(self.steps[d])) for d in dims)))
        write: Stmt = Store(self.updated(self.out), at, value)
        for d, extent in zip(inner, extents[-1:], strict=True):
            write = For(place[d], extent, (write,), "vector")
        self.body.append(write)
        extent = math.prod(self.shape[d] for d in outer)
        grain = max(1, worth // max(1, math.prod(self.shape[d] for d in inner)))
        return self.launch("update_window", (), self.body, extent=extent, grain=grain, setup=setup)

    def window_start(self) -> list[str]:
        """Where the window begins: for each dimension in which it can move, its clamped start times the stride."""
        names = []
        for d, (access, n, m) in enumerate(zip(self.starts, self.whole, self.shape, strict=True)):
            if n == m:
                continue
            start = build.cast(self.element(access, Index((), access.view.offset)), INT64)
            inside = op("clamp", Const(0, INT64), start, size_value(self.size(f"m{d}", n - m)))
            moved = op("mul", inside, size_value(self.size(f"d{d}", self.steps[d])))
            names.append(self.define(moved, f"start{d}").name)
        return names

    def element(self, access: Access, index: Index) -> Expr:
        """An element of what an operand reads."""
        source = access.source
        if isinstance(source, Literal):
            return Const(np.asarray(source.val).item(), source.aval.dtype)
        return Load(self.input(source), index, source.aval.dtype)


def in_place(fusion: Fusion, fixed: set[Var], carries: Mapping[Var, Var]) -> dict[Var, Var]:
    """The results of updates that are written into their operands: from result to operand.

    An operand qualifies if it is not read later and is a temporary or a carry of a loop's body (`carries`: from such an
    input to the result that replaces it). `fixed` are the variables whose memory is given: inputs and results.
    """
    last: dict[object, int] = {}
    times: dict[object, int] = {}
    for i, group in enumerate(fusion.order):
        for eqn in group.eqns:
            for access in fusion.accesses[eqn]:
                if last.get(access.source) != i:
                    times[access.source] = 0
                last[access.source] = i
                times[access.source] += 1
    found: dict[Var, Var] = {}
    for i, group in enumerate(fusion.order):
        if group.kind != "update":
            continue
        (eqn,) = group.eqns
        operand = fusion.accesses[eqn][0].source
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
