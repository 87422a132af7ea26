"""groups → loops: write a group's equations as the loop nest that `schedule` chose.

Full values are computed in vector loops, in *phases*: a fold's result is known after the phase that folds it, so what
depends on it belongs to a later one. A full value made in one phase and wanted in a later one is computed again when
that is cheap (its inputs are in the first cache), else kept in a scratch row. Row values stand between phases: scalars
in the row form, short arrays in the column form.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from funcgrad.compiler.fusion.fuse import Fusion, Group
from funcgrad.compiler.loops.equations import op_name
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    Index,
    IndexValue,
    Kernel,
    Let,
    Load,
    Name,
    Stmt,
    Store,
    op,
    unique_indices,
)
from funcgrad.compiler.loops.scalars import COSTLY
from funcgrad.compiler.lowering import positional
from funcgrad.compiler.lowering import schedule as sch
from funcgrad.compiler.lowering.analysis import Analysis, is_rounded_sum
from funcgrad.compiler.lowering.nest import INT64, builder
from funcgrad.compiler.lowering.row_values import ColumnValues, PhaseWriter, RowValues
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.lowering import Concatenate, Elementwise, Gather, Iota, Pad, contiguous
from funcgrad.ops.accumulation import accumulator


class Launch(NamedTuple):
    """A kernel and what one instruction calls it with: a variable per parameter (None for scratch), sizes, chunks."""

    kernel: Kernel
    operands: tuple[Var | None, ...]
    sizes: tuple[int, ...]
    extent: int
    grain: int


def lower_group(fusion: Fusion, group: Group, stored: set[Var]) -> list[Launch]:
    """Return the kernels of a loop group: one, or two where a long fold is cut."""
    info = Analysis(fusion, group, stored)
    blocks = info.partial_blocks()
    return _cut(info, blocks) if blocks > 1 else [Writer(info, info.nest).whole()]


def _cut(info: Analysis, blocks: int) -> list[Launch]:
    """Fold blocks of the first folded dimension, then fold the results."""
    shape = (blocks, *(d.extent for d in info.dimensions if not d.folded))
    partial = {e: Var(ShapedArray(shape, accumulator(e.outvars[0].aval.dtype))) for e in info.folds}
    first = Writer(info, info.nest, blocks).partial(partial)
    rows = [d for d in info.dimensions if not d.folded]
    second = Writer(info, sch.schedule((sch.Dimension((), blocks, True), *rows))).combine(partial)
    return [first, second]


class Writer(PhaseWriter):
    """Writes one kernel, phase by phase."""

    def expression(self, eqn: JaxprEqn, operands: Sequence[Expr], body: list[Stmt]) -> Expr:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Elementwise):
            if isinstance(lowering.op, str):
                return op(lowering.op, *operands)
            return lowering.op(builder, *operands, **eqn.params)
        if isinstance(lowering, Iota):
            return positional.iota(self, eqn)
        if isinstance(lowering, Pad):
            return positional.pad(self, eqn, operands, body)
        if isinstance(lowering, Concatenate):
            return positional.concatenate(self, eqn)
        if isinstance(lowering, Gather):
            return positional.dynamic_slice(self, eqn, operands, body)
        return operands[0]  # a view that is copied, or a fold over axes of size 1

    # ------------------------------------------------------------------ phases

    def whole(self) -> Launch:
        """The kernel of the whole group."""
        info, nest = self.info, self.nest
        lets = self.open_parallel()
        if nest.form == "map":
            return self._map(lets)
        self.set_loop_positions(nest.inner)
        body = [*lets]
        form = ColumnValues(self) if nest.form == "column" else RowValues(self)
        last_phase = max(info.phase.values(), default=0)
        self.kept = self._kept_values()
        for phase in range(last_phase + 1):
            body += form.rows(phase)
            body += self._phase(phase, form)
        return self._launch(body)

    def _map(self, lets: list[Stmt]) -> Launch:
        nest = self.nest
        if not nest.dimensions:
            inner: list[Stmt] = []
            self._full_values(0, inner, list(self.info.made), {})
            return self._launch(inner)
        if self.info.cuts:
            return self._launch([*lets, *self._pieces()])
        last = len(nest.dimensions) - 1
        if last == 0 and not nest.block:
            self.position[0] = (("p", 1),)
            inner = []
            self._full_values(0, inner, list(self.info.made), {})
            return self._launch(inner)
        dims = [last] if nest.tile is None else [nest.tile, last]
        self.set_loop_positions(dims)
        inner = []
        self._full_values(0, inner, list(self.info.made), {})
        return self._launch(lets + self.loops(inner, dims))

    def _pieces(self) -> list[Stmt]:
        """The vector loop of a map, piece by piece: see `Analysis.cuts`."""
        last, out = len(self.nest.dimensions) - 1, []
        bounds = [0, *self.info.cuts, self.nest.dimensions[last].extent]
        for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
            self.piece = (start, stop)
            first, width = f"k{k}_start", f"k{k}_width"
            begin, end = (IndexValue(Index((), self.offset(x))) for x in (start, stop))
            if self.nest.block:  # what the piece and this iteration's block have in common
                block = Name("j_start", INT64)
                block_end = op("add", block, Name("j_width", INT64))
                begin, end = op("max", begin, block), op("min", end, block_end)
            out.append(Let(first, begin))
            out.append(Let(width, op("max", op("sub", end, Name(first, INT64)), Const(0, INT64))))
            self.position[last] = ((first, 1), ("j", 1))
            inner: list[Stmt] = []
            self._full_values(0, inner, list(self.info.made), {})
            out.append(For("j", width, tuple(inner), "vector"))
        self.piece = None
        return out

    def _kept_values(self) -> dict[Var, str]:
        """Scratch rows for costly full values that later phases want again."""
        info, kept = self.info, {}
        for phase in range(1, max(info.phase.values(), default=0) + 1):
            for v in self._needed(phase, set(kept)):
                if info.phase[v] < phase and op_name(info.made[v]) in COSTLY:
                    kept[v] = ""
        if not kept:
            return {}
        extent = self._scratch_extent()
        return {v: self.parameter("t", v.aval.dtype, "scratch", None, extent) for v in kept}

    def _scratch_extent(self) -> str:
        inner = math.prod(self.nest.dimensions[i].extent for i in self.nest.folds)
        if self.nest.form == "column":
            inner *= self.nest.block
        return "scratch" if "scratch" in self.sizes else self.size(inner, "scratch")

    def scratch_index(self) -> Index:
        """Where a full value stands in its scratch row: row-major over the folded dimensions and the block."""
        terms: list[tuple[str, int | str]] = []
        step, dims = 1, list(self.nest.folds)
        if self.nest.form == "column":
            terms.append(("j", 1))
            step = self.nest.block
        for i in reversed(dims):
            symbol = self.stride(step)
            terms += [(name, symbol) for name, _ in self.position[i]]
            step *= self.nest.dimensions[i].extent
        return Index(tuple(terms))

    def _targets(self, phase: int) -> list[Var]:
        """Full values that a phase must compute: those stored, kept and folded in it."""
        info = self.info
        out = [
            v
            for v in info.made
            if info.level[v] == "full" and info.phase[v] == phase and (v in info.stored or v in self.kept)
        ]
        for eqn in info.folds:
            if info.phase[eqn.outvars[0]] == phase + 1:
                source = info.fusion.accesses(eqn)[0].source
                if isinstance(source, Var) and source in info.made:
                    out.append(source)
        return out

    def _needed(self, phase: int, kept: set[Var]) -> list[Var]:
        """Full values computed in a phase's loop, operands included, in order."""
        info, needed = self.info, set()
        stack = self._targets(phase)
        while stack:
            v = stack.pop()
            if v in needed:
                continue
            needed.add(v)
            if v in kept and info.phase[v] < phase:
                continue
            for source, _ in info.fusion.accesses(info.made[v]):
                if isinstance(source, Var) and source in info.made and info.level[source] == "full":
                    stack.append(source)
        return [v for v in info.made if v in needed]

    def _full_values(
        self, phase: int, body: list[Stmt], wanted: Sequence[Var], env: dict[Var, Expr], rows: Any = None
    ) -> None:
        """Append the Lets and Stores of full values; `env` gets their names."""
        info = self.info
        for v in wanted:
            eqn = info.made[v]
            kept = self.kept
            name = self.fresh()
            if v in kept and info.phase[v] < phase:
                body.append(Let(name, Load(kept[v], self.scratch_index(), v.aval.dtype)))
                env[v] = Name(name, v.aval.dtype)
                continue
            operands = [self.operand(u, "full", env, rows, eqn, i) for i, u in enumerate(eqn.invars)]
            body.append(Let(name, self.expression(eqn, operands, body)))
            env[v] = Name(name, v.aval.dtype)
            if v in kept:
                body.append(Store(kept[v], self.scratch_index(), env[v]))
            if v in info.stored and info.phase[v] == phase:
                out = self.output(v)
                body.append(Store(out, self.index(info.store_strides(v)), env[v]))

    def operand(self, atom: Atom, level: str, env: dict[Var, Expr], rows: Any, eqn: JaxprEqn, place: int) -> Expr:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Concatenate) or (isinstance(lowering, (Pad, Gather)) and place == 0):
            return Const(0, atom.aval.dtype)  # read at other points; see `expression`
        access = self.info.fusion.accesses(eqn)[place]
        source = access.source
        if isinstance(source, Var) and source in self.info.made:
            return env[source] if self.info.level[source] == level else rows.read(source)
        return self.load(access, level)

    def _phase(self, phase: int, form: Any) -> list[Stmt]:
        """One run over the folded dimensions: accumulators, the loops, and what the folds give."""
        info = self.info
        folds = [e for e in info.folds if info.phase[e.outvars[0]] == phase + 1]
        wanted = self._needed(phase, set(self.kept))
        if not folds and not wanted:
            return []
        body: list[Stmt] = []
        env: dict[Var, Expr] = {}
        sums = any(is_rounded_sum(e) for e in folds)
        self.open_blocks(sch.sum_block(self.nest, self.fold_blocks, info.simd) if sums else None)
        self.set_loop_positions(self.nest.inner)
        self._full_values(phase, body, wanted, env, form)
        fold = form.accumulate(folds, body, env)
        return [*fold.before, *self.loops(body, self.nest.inner, fold.start, fold.end), *fold.after]

    def fold_input(self, eqn: JaxprEqn, env: dict[Var, Expr], form: Any) -> Expr:
        """The value that a fold takes at a point, in the accumulator's dtype."""
        value = self.operand(eqn.invars[0], "full", env, form, eqn, 0)
        return builder.cast(value, accumulator(value.dtype))

    # ------------------------------------------------------------------ cut folds

    def partial(self, partial: dict[JaxprEqn, Var]) -> Launch:
        """The kernel that folds blocks: writes each fold's partial results, and the full values."""
        self.kept = {}
        lets = self.open_parallel()
        form = ColumnValues(self) if self.nest.form == "column" else RowValues(self)
        form.partial = partial
        return self._launch([*lets, *self._phase(0, form)])

    def combine(self, partial: dict[JaxprEqn, Var]) -> Launch:
        """The kernel that folds partial results and computes the row values."""
        self.kept = {}
        lets = self.open_parallel()
        nest = self.nest
        self.set_loop_positions(nest.inner)
        form = ColumnValues(self) if nest.form == "column" else RowValues(self)
        body: list[Stmt] = []
        inputs = {}
        for eqn, var in partial.items():
            steps = contiguous(var.aval.shape).strides
            index = Index(tuple((n, self.stride(s)) for i, s in enumerate(steps) for n, _ in self.position[i]))
            name = self.fresh()
            body.append(Let(name, Load(self.input(var), index, var.aval.dtype)))
            inputs[eqn] = Name(name, var.aval.dtype)
        fold = form.accumulate(list(partial), body, {}, inputs)
        return self._launch(
            [*lets, *form.rows(0), *fold.before, *self.loops(body, nest.inner), *fold.after, *form.rows(1)]
        )

    # ------------------------------------------------------------------ the kernel

    def _launch(self, body: list[Stmt]) -> Launch:
        extent = self.nest.extent * (self.fold_blocks or 1)
        loop = For("p", self.size(extent, "parallel"), unique_indices(body), "parallel")
        names = list(dict.fromkeys(op_name(e) for e in self.info.group.eqns))
        name = "_".join([self.nest.form, *names[:5], *(["more"] if len(names) > 5 else [])])
        kernel = Kernel(name, tuple(self.params), tuple(self.sizes), (loop,))
        grain = max(1, self.nest.grain(self.info.cost()) // (self.fold_blocks or 1))
        return Launch(kernel, tuple(self.operands), tuple(self.sizes.values()), extent, grain)
