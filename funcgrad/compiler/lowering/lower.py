"""groups → loops: write a group's equations as the loop nest that `schedule` chose.

Full values are computed in vector loops, in *phases*: a fold's result is known after the phase that folds it, so what
depends on it belongs to a later one. A full value that is computed in one phase and used in a later one is computed
again if that is cheap (its inputs are in the first cache), otherwise it is kept in a scratch row. Row values live
between phases: as scalars in the row form, as short arrays in the column form.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.compiler.fusion.domains import reads_elsewhere
from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.loops.equations import is_costly, op_name
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    Index,
    IndexValue,
    Load,
    Name,
    Stmt,
    Store,
    op,
    unique_indices,
)
from funcgrad.compiler.lowering import positional
from funcgrad.compiler.lowering import schedule as sch
from funcgrad.compiler.lowering.analysis import Analysis, is_rounded_sum
from funcgrad.compiler.lowering.kernel_builder import INT64, Launch, build, index_value, size_value
from funcgrad.compiler.lowering.nest import plus
from funcgrad.compiler.lowering.row_values import ColumnValues, PhaseWriter, RowValues
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
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
    View,
    contiguous,
)
from funcgrad.ops.accumulation import accumulator

# Rows of so few elements that are cut into pieces are unrolled.
_UNROLLED = 16


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
    nest = sch.schedule((sch.Dimension((), blocks, True), *rows), info.fusion.scheduling)
    second = Writer(info, nest).combine(partial)
    return [first, second]


def _formula(writer: Writer, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, Elementwise)
    if isinstance(lowering.op, str):
        return op(lowering.op, *operands)
    return lowering.op(build, *operands, **eqn.params)


def _operand(writer: Writer, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
    """A view that is copied, or a fold over axes of size 1."""
    return operands[0]


_EXPRESSIONS: LoweringTable[Callable[[Any, JaxprEqn, Sequence[Expr]], Expr] | None] = LoweringTable(
    "expressions",
    {
        Elementwise: _formula,
        Iota: lambda writer, eqn, _: positional.iota(writer, eqn),
        Pad: positional.pad,
        Concatenate: lambda writer, eqn, _: positional.concatenate(writer, eqn),
        Gather: positional.gather,
        View: _operand,
        Reduce: _operand,
    },
    # No value at a point, or no part of loops; see `is_loop`.
    rest=(Complex, Interleave, Contract, Scatter, LibraryRoutine, Native, Barrier, *CALLS, *CONTROL, *KERNELS, *HOST),
    otherwise=None,
)


class Writer(PhaseWriter):
    """Writes one kernel, phase by phase."""

    def expression(self, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
        rule = _EXPRESSIONS[eqn.primitive.lowering]
        assert rule is not None, eqn
        return rule(self, eqn, operands)

    # ------------------------------------------------------------------ phases

    def whole(self) -> Launch:
        """The kernel of the whole group."""
        info, nest = self.info, self.nest
        self.open_parallel()
        if nest.form == "map":
            self._map()
            return self._launch()
        self.set_loop_positions(nest.inner)
        form = ColumnValues(self) if nest.form == "column" else RowValues(self)
        self.kept = self._kept_values()
        for phase in range(max(info.phase.values(), default=0) + 1):
            form.rows(phase)
            self._phase(phase, form)
        return self._launch()

    def _map(self) -> None:
        nest = self.nest
        last = len(nest.dimensions) - 1
        if nest.row is not None:
            self._rows(nest.row)
        elif self.info.cuts or nest.tile is not None or (last >= 0 and (last or nest.block)):
            self._row([{}])
        else:  # one element, or one loop: the parallel one
            self.position[0] = (("p", 1),)
            self._full_values(0, list(self.info.made), {})

    def _rows(self, row: int) -> None:
        """The loop over the dimension before the last one: first where nothing is masked, then what remains."""
        extent, together, pieces = self.nest.dimensions[row].extent, self.nest.together, self.info.inside()
        if not pieces and together == 1:
            with self.block() as body:
                self._row([{row: ((f"i{row}", 1),)}])
            self.body.append(For(f"i{row}", self.extents[row], tuple(body)))
            return
        start, stop = pieces.get(len(self.info.group.domain) - 2, (0, extent))
        blocks = (stop - start) // together
        first, count = self.offset(start), self.size("row_blocks", blocks)
        unmasked = [self._within(d, *piece) for d, piece in pieces.items() if self.loop_of(d) != row]
        if unmasked:
            inside = functools.reduce(lambda a, b: op("and", a, b), unmasked)
            count = self.define(op("select", inside, size_value(count), Const(0, INT64))).name
        with self.block() as body:
            at = [self.define(IndexValue(Index((("r", together),), plus(first, u)))) for u in range(together)]
            self.pieces = pieces
            self._row([{row: ((name.name, 1),)} for name in at])
            self.pieces = {}
        self.body.append(For("r", count, tuple(body)))
        done = self.define(op("mul", size_value(count), Const(together, INT64)))
        with self.block() as body:
            number = index_value("e")
            passed = op("select", op("lt", number, size_value(first)), Const(0, INT64), done)
            where = self.define(op("add", number, passed))
            self._row([{row: ((where.name, 1),)}], cut=False)
        rest = self.define(op("sub", size_value(self.extents[row]), done))
        self.body.append(For("e", rest.name, tuple(body)))

    def _within(self, d: int, start: int, stop: int) -> Expr:
        at = self.position_of(d)
        return op("and", op("ge", at, size_value(self.offset(start))), op("lt", at, size_value(self.offset(stop))))

    def _row(self, positions: Sequence[dict[int, tuple[tuple[str, int], ...]]], cut: bool = True) -> None:
        """The vector loop of a map, at some positions of other dimensions at once; see `Analysis.cuts`."""
        last = len(self.nest.dimensions) - 1
        if not (self.info.cuts and cut):
            dims = [last] if self.nest.tile is None else [self.nest.tile, last]
            self.set_loop_positions(dims)
            self.body += self.loops(self._points(positions), dims)
            return
        place = len(self.info.group.domain) - 1
        bounds = [0, *self.info.cuts, self.nest.dimensions[last].extent]
        unrolled = not self.nest.block and bounds[-1] <= _UNROLLED
        if unrolled:  # strides are numbers, so that rows become interleaved vectors
            self.largest_fixed_stride = _UNROLLED
        for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
            self.pieces[place] = (start, stop)
            first, width = f"k{k}_start", f"k{k}_width"
            self.position[last] = ((first, 1), ("j", 1))
            if unrolled:
                self.define(Const(start, INT64), first)
                self.body.append(For("j", stop - start, tuple(self._points(positions)), "vector"))
                continue
            begin, end = (size_value(self.offset(x)) for x in (start, stop))
            if self.nest.block:  # what the piece and this iteration's block have in common
                block = Name("j_start", INT64)
                block_end = op("add", block, Name("j_width", INT64))
                begin, end = op("max", begin, block), op("min", end, block_end)
            begin = self.define(begin, first)
            self.define(op("max", op("sub", end, begin), Const(0, INT64)), width)
            self.body.append(For("j", width, tuple(self._points(positions)), "vector"))
        del self.pieces[place]

    def _points(self, positions: Sequence[dict[int, tuple[tuple[str, int], ...]]]) -> list[Stmt]:
        """The body of the vector loop of a map."""
        with self.block() as inner:
            for position in positions:
                self.position |= position
                self._full_values(0, list(self.info.made), {})
        return inner

    def _kept_values(self) -> dict[Var, str]:
        """Scratch rows for full values that later phases want again: the costly ones, and those that must be the same.

        A sum of products may be rounded once where it is computed alone, twice where the products are wanted too. So
        what is compared with an extreme of itself is not computed twice.
        """
        info, kept = self.info, {}
        compared = info.compared_sums()
        before = set(self._needed(0, set()))
        for phase in range(1, max(info.phase.values(), default=0) + 1):
            needed = self._needed(phase, set(kept))
            for v in needed:
                if info.phase[v] < phase and (is_costly(info.made[v]) or (v in compared and v in before)):
                    kept[v] = ""
            before.update(needed)
        if not kept:
            return {}
        extent = self._scratch_extent()
        return {v: self.scratch(v.aval.dtype, extent) for v in kept}

    def _scratch_extent(self) -> str:
        inner = math.prod(self.nest.dimensions[i].extent for i in self.nest.folds)
        if self.nest.form == "column":
            inner *= self.nest.block
        return "scratch" if "scratch" in self.sizes else self.size("scratch", inner)

    def scratch_index(self) -> Index:
        """The place of a full value in its scratch row: row-major over the folded dimensions and the block."""
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
                source = info.fusion.accesses[eqn][0].source
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
            for source, _ in info.fusion.accesses[info.made[v]]:
                if isinstance(source, Var) and source in info.made and info.level[source] == "full":
                    stack.append(source)
        return [v for v in info.made if v in needed]

    def _full_values(self, phase: int, wanted: Sequence[Var], env: dict[Var, Expr], rows: Any = None) -> None:
        """Write the Lets and Stores of full values; `env` gets their names."""
        info, kept = self.info, self.kept
        for v in wanted:
            eqn = info.made[v]
            name = self.fresh()
            if v in kept and info.phase[v] < phase:
                env[v] = self.define(Load(kept[v], self.scratch_index(), v.aval.dtype), name)
                continue
            operands = [self.operand(u, "full", env, rows, eqn, i) for i, u in enumerate(eqn.invars)]
            if isinstance(eqn.primitive.lowering, Interleave):
                positional.interleave(self, eqn, operands)
                continue
            if isinstance(eqn.primitive.lowering, Complex):
                self.store_parts(v, operands)
                continue
            env[v] = self.define(self.expression(eqn, operands), name)
            if v in kept:
                self.body.append(Store(kept[v], self.scratch_index(), env[v]))
            if info.phase[v] == phase:
                self.store(v, env[v])

    def operand(self, atom: Atom, level: str, env: dict[Var, Expr], rows: Any, eqn: JaxprEqn, place: int) -> Expr:
        if isinstance(eqn.primitive.lowering, Concatenate) or (place == 0 and reads_elsewhere(eqn, place)):
            return Const(0, atom.aval.dtype)  # read at other points; see `expression`
        access = self.info.fusion.accesses[eqn][place]
        source = access.source
        if isinstance(source, Var) and source in self.info.made:
            return env[source] if self.info.level[source] == level else rows.read(source)
        return self.load(access, level)

    def _phase(self, phase: int, form: Any) -> None:
        """Write one run over the folded dimensions: accumulators, the loops, and the results of the folds."""
        info = self.info
        folds = [e for e in info.folds if info.phase[e.outvars[0]] == phase + 1]
        wanted = self._needed(phase, set(self.kept))
        if not folds and not wanted:
            return
        env: dict[Var, Expr] = {}
        sums = any(is_rounded_sum(e) for e in folds)
        self.open_blocks(sch.sum_block(self.nest, self.fold_blocks, info.simd) if sums else None)
        self.set_loop_positions(self.nest.inner)
        with self.block() as inner:
            self._full_values(phase, wanted, env, form)
            fold = form.accumulate(folds, env)
        self.body += [*fold.before, *self.loops(inner, self.nest.inner, fold.start, fold.end), *fold.after]

    def fold_input(self, eqn: JaxprEqn, env: dict[Var, Expr], form: Any) -> Expr:
        """The value that a fold takes at a point, in the accumulator's dtype."""
        value = self.operand(eqn.invars[0], "full", env, form, eqn, 0)
        return build.cast(value, accumulator(value.dtype))

    # ------------------------------------------------------------------ cut folds

    def partial(self, partial: dict[JaxprEqn, Var]) -> Launch:
        """The kernel that folds blocks: writes each fold's partial results, and the full values."""
        self.kept = {}
        self.open_parallel()
        form = ColumnValues(self) if self.nest.form == "column" else RowValues(self)
        form.partial = partial
        self._phase(0, form)
        return self._launch()

    def combine(self, partial: dict[JaxprEqn, Var]) -> Launch:
        """The kernel that folds partial results and computes the row values."""
        self.kept = {}
        self.open_parallel()
        nest = self.nest
        self.set_loop_positions(nest.inner)
        form = ColumnValues(self) if nest.form == "column" else RowValues(self)
        inputs = {}
        with self.block() as inner:
            for eqn, var in partial.items():
                steps = contiguous(var.aval.shape).strides
                index = Index(tuple((n, self.stride(s)) for i, s in enumerate(steps) for n, _ in self.position[i]))
                name = self.fresh()
                inputs[eqn] = self.define(Load(self.input(var), index, var.aval.dtype), name)
            fold = form.accumulate(list(partial), {}, inputs)
        form.rows(0)
        self.body += [*fold.before, *self.loops(inner, nest.inner), *fold.after]
        form.rows(1)
        return self._launch()

    # ------------------------------------------------------------------ the kernel

    def _launch(self) -> Launch:
        parts = self.fold_blocks or 1
        extent = self.nest.extent * parts
        grain = max(1, self.nest.grain(self.info.cost(), self.info.fusion.scheduling.grain) // parts)
        operations = map(op_name, self.info.group.eqns)
        return self.launch(self.nest.form, operations, unique_indices(self.body), extent=extent, grain=grain)
