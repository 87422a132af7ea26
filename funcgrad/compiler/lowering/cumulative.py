"""Cumulative folds as kernels: out[i] = x[0] ∘ … ∘ x[i] along an axis.

Additions of one row wait for each other, those of several rows do not. So a kernel runs over several rows at once:

- *columns*: where many rows are side by side in memory, the vector loop runs over them, and the accumulators are a
  short array.
- *chains*: otherwise an iteration takes `CHAINS` rows, one accumulator for each.
- What takes a function of vector math is computed in SIMD: over rows wherever they are, or over blocks of one row.
- Long rows that are too few are cut into blocks, which are the rows of chains: one kernel folds each block, a second
  one continues from the fold of the blocks before. The cut depends on sizes alone, and so do the roundings.

Floats narrower than float64 are accumulated in float64. A fold of float64 starts again after `RUN` numbers, and what
came before is combined with each result, so that the roundings of one number do not grow with all that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access, Rows
from funcgrad.compiler.loops.language import Const, Expr, For, Index, Init, Load, Name, Stmt, Store, Update, at, op
from funcgrad.compiler.lowering.kernel_builder import Launch, build, index_value, size_value
from funcgrad.compiler.lowering.row_kernels import Buffer, Place, RowKernel, number, operand_rows, result_rows, value_of
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import JaxprEqn, Var
from funcgrad.core.lowering import Cumulative

CHAINS = 4
RUN = 1024
# Blocks of a long row have at least this many elements, and a row has at most `MOST_BLOCKS` of them.
BLOCK = 8192
MOST_BLOCKS = 256
# Rows side by side that make a vector loop worthwhile, and how many of them an iteration takes at least.
COLUMNS = 16
COLUMN_BLOCK = 256
# Blocks of one row that are folded in SIMD, and how many of them an iteration takes.
COSTLY_BLOCKS = 128
COSTLY_COLUMNS = 32


def lower_cumulative(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> list[Launch]:
    """Return the kernels of a cumulative fold: one, or two where a long row is cut."""
    (layout,) = operand_rows(eqn, list(accesses))

    def make(view: Callable[[Rows], Rows] = lambda rows: rows) -> _Writer:
        return _Writer(eqn, accesses[0], scheduling, view)

    if layout.inner >= COLUMNS:
        return [make().columns()]
    if make().costly and layout.outer >= COLUMNS:
        return [make(lambda rows: rows.swapped).columns()]
    if make().costly and layout.number == 1 and layout.length >= 2 * BLOCK:
        blocks, rest = (lambda rows, i=i: rows.cut(COSTLY_BLOCKS)[i] for i in range(2))
        totals = Var(ShapedArray((COSTLY_BLOCKS,), make().wide))
        return [make(blocks).columns(totals=totals), make(blocks).columns(totals), make(rest).chains(totals)]
    if layout.number >= 2 * scheduling.min_parallel or layout.length < 2 * BLOCK:
        return [make().chains()]
    length = max(BLOCK, -(-layout.length // MOST_BLOCKS))
    totals = Var(ShapedArray((layout.number, -(-layout.length // length)), make().wide))
    return [make().totals(totals, length), make().blocks(totals, length)]


class Chain(NamedTuple):
    """A row or block that is folded: where it is, how many elements it has, and its accumulators."""

    place: Place
    start: str | None
    width: Expr
    acc: str
    total: str | None


class _Writer(RowKernel):
    """Writes one kernel."""

    def __init__(self, eqn: JaxprEqn, access: Access, scheduling: Scheduling, view: Callable[[Rows], Rows]):
        super().__init__()
        lowering, (out,) = eqn.primitive.lowering, eqn.outvars
        assert isinstance(lowering, Cumulative) and isinstance(access.source, Var)
        self.lowering, self.scheduling, self.name = lowering, scheduling, eqn.primitive.name
        self.costly = not isinstance(lowering.combine, str)
        self.out, self.axis = out, eqn.params["axis"]
        self.view = lambda rows: view(rows.backward if eqn.params["reverse"] else rows)
        (layout,) = operand_rows(eqn, [access])
        self.layout = self.view(layout)
        dtype = out.aval.dtype
        rounds = dtypes.is_float(dtype) and not lowering.exact
        self.wide = dtypes.float64 if rounds else dtype
        self.restarts = rounds and dtype == dtypes.float64
        self.identity = Const(lowering.identity(self.wide), self.wide)
        self.carry: Expr = self.identity
        self.x = self.rows_of(access.source, self.layout)
        self.length = self.size("n", self.layout.length)
        self.inner = self.size("inner", self.layout.inner) if self.layout.inner > 1 else 1

    def combined(self, a: Expr, b: Expr) -> Expr:
        """a ∘ b."""
        combine = self.lowering.combine
        return op(combine, a, b) if isinstance(combine, str) else combine(build, a, b)

    def result(self) -> None:
        """Add the parameter that is written."""
        layout = self.view(result_rows(self.out, self.axis))
        self.y = self.buffer(self.output(self.out), self.out.aval.dtype, layout)

    def finish(self, form: str, extent: int, work: int) -> Launch:
        """The kernel, an iteration of which handles `work` elements."""
        grain = max(1, self.scheduling.grain // max(1, work * (16 if self.costly else 2)))
        return self.launch(form, [self.name], self.body, extent=extent, grain=grain)

    # ------------------------------------------------------------------ rows and blocks

    def chains(self, before: Var | None = None) -> Launch:
        """Fold `CHAINS` rows side by side, or one row from the fold of all totals `before`."""
        self.result()
        if before is not None:
            self._carry(before, self.size("before", before.aval.size))
        count = self.layout.number
        chains = max(1, min(CHAINS, count))
        rows = [self._chain(i, self._row(i, chains, count)) for i in range(chains)]
        self._fold(rows, number(0), size_value(self.length))
        return self.finish("rows", -(-count // chains), chains * self.layout.length)

    def blocks(self, totals: Var, step: int) -> Launch:
        """Fold `CHAINS` blocks of `step` elements side by side, given the totals of all blocks."""
        self.result()
        count = totals.aval.size
        chains = min(CHAINS, count)
        self.size("blocks", totals.aval.shape[1])
        self.size("step", step)
        blocks = [self._block(i, self._row(i, chains, count), totals) for i in range(chains)]
        shortest = blocks[0].width
        for block in blocks[1:]:
            shortest = self.define(op("min", shortest, block.width))
        self._fold(blocks, number(0), shortest)
        for block in blocks:
            self._fold([block], shortest, op("sub", block.width, shortest))
        return self.finish("blocks", -(-count // chains), chains * step)

    def totals(self, totals: Var, step: int) -> Launch:
        """Fold each block of `step` elements."""
        size = self.size("blocks", totals.aval.shape[1])
        p = index_value("p")
        row, block = self.define(op("div", p, size_value(size))), op("rem", p, size_value(size))
        start = self.define(op("mul", block, size_value(self.size("step", step))))
        width = self.width(start, size_value(self.length), size_value("step"))
        place = self.place(row, self.layout, self.inner)
        value = build.cast(self.x.load(place, start.name, "j"), self.wide)
        if isinstance(self.lowering.combine, str):  # in any order
            fold, kind = Update("acc", self.lowering.combine, value), "vector"
        else:
            fold, kind = Update("acc", "set", self.combined(Name("acc", self.wide), value)), "serial"
        self.body += [Init("acc", self.identity), For("j", width.name, (fold,), kind)]
        self.body.append(Store(self.output(totals), at("p"), Name("acc", self.wide)))
        return self.finish("totals", totals.aval.size, step)

    # ------------------------------------------------------------------ columns

    def columns(self, before: Var | None = None, totals: Var | None = None) -> Launch:
        """Fold blocks of rows that are side by side, the accumulators in an array.

        Each row continues from the totals of all rows `before` it, or from nothing; if `totals` are wanted, write them
        and nothing else.
        """
        if totals is None:
            self.result()
        layout = self.layout
        block = self._column_block()
        blocks = self.size("blocks", -(-layout.inner // block))
        p, most = index_value("p"), size_value(self.size("block", block))
        outer = None if layout.outer == 1 else self.define(op("div", p, size_value(blocks))).name
        start = self.define(op("mul", op("rem", p, size_value(blocks)), most))
        width = self.width(start, size_value(self.inner), most).name
        accs = [self.scratch(self.wide, "block") for _ in range(1 + self.restarts)]
        clear: list[Stmt] = [Store(a, at("c"), self.identity) for a in accs]
        if before is not None:
            self._carry(before, start.name)
            carry = Update(
                "carry", "set", self.combined(self.carry, Load(self.input(before), at(start.name, "c"), self.wide))
            )
            clear += [Store(accs[-1], at("c"), self.carry), carry]
        self.body.append(For("c", width, tuple(clear), "vector" if before is None else "serial"))
        place = Place(outer, start.name)

        def row(*along: str) -> For:
            c = f"c_{self.fresh()}"
            with self.block() as inner:
                x = self._beside(self.x, place, along, c)
                value = build.cast(Load(self.x.param, x, self.x.dtype), self.wide)
                out = self.define(self.combined(Load(accs[0], at(c), self.wide), value))
                self.body.append(Store(accs[0], at(c), out))
                if self.restarts:
                    out = self.combined(Load(accs[1], at(c), self.wide), out)
                if totals is None:
                    y = self._beside(self.y, place, along, c)
                    self.body.append(Store(self.y.param, y, build.cast(out, self.y.dtype)))
            return For(c, width, tuple(inner), "vector")

        if self.restarts:
            self._restarting(row, accs, width)
        else:
            self.body.append(For("j", self.length, (row("j"),)))
        if totals is not None:
            total = Store(self.output(totals), at(start.name, "t"), Load(accs[-1], at("t"), self.wide))
            self.body.append(For("t", width, (total,), "vector"))
        extent = layout.outer * -(-layout.inner // block)
        return self.finish("columns", extent, layout.length * min(block, layout.inner))

    def _restarting(self, row: Callable[..., For], accs: Sequence[str], width: str) -> None:
        """Loops over the rows that restart the accumulators after each run."""
        runs = self.define(op("div", op("add", size_value(self.length), number(RUN - 1)), number(RUN)))
        with self.block() as body:
            offset = self.define(op("mul", value_of("k"), number(RUN)))
            extent = self.define(op("min", number(RUN), op("sub", size_value(self.length), offset)))
            self.body.append(For("j", extent.name, (row(offset.name, "j"),)))
            acc, total = (Load(a, at("c_next"), self.wide) for a in accs)
            carry = (
                Store(accs[1], at("c_next"), self.combined(total, acc)),
                Store(accs[0], at("c_next"), self.identity),
            )
            self.body.append(For("c_next", width, carry, "vector"))
        self.body.append(For("k", runs.name, tuple(body)))

    def _beside(self, buffer: Buffer, place: Place, along: Sequence[str], c: str) -> Index:
        """The index of an element of the c-th row beside another one."""
        index = buffer.at(place, *along)
        return Index((*index.terms, (c, buffer.strides[2])), index.offset)

    def _column_block(self) -> int:
        """Rows side by side of one iteration: enough iterations for the threads, if the rows are many."""
        inner, most = self.layout.inner, self.scheduling.column_block
        if self.costly:
            return max(1, min(inner, COSTLY_COLUMNS))
        iterations = max(1, 2 * self.scheduling.min_parallel // max(1, self.layout.outer))
        return min(most, inner, max(COLUMN_BLOCK, -(-inner // (iterations * 16)) * 16))

    # ------------------------------------------------------------------ loops of chains

    def _row(self, i: int, chains: int, count: int) -> Expr:
        """The number of the i-th row of an iteration; past the last one, it is the last one again."""
        p = index_value("p")
        if chains == 1:
            return p
        last = size_value("last" if i else self.size("last", count - 1))
        return op("min", op("add", op("mul", p, number(chains)), number(i)), last)

    def _chain(self, i: int, row: Expr) -> Chain:
        """A whole row."""
        place = self.place(row, self.layout, self.inner)
        total = self._total(i, self.carry)
        self.body.append(Init(f"acc{i}", self.carry if total is None else self.identity))
        return Chain(place, None, size_value(self.length), f"acc{i}", total)

    def _carry(self, totals: Var, count: str) -> None:
        """Fold the first totals into `self.carry`."""
        carry = Name("carry", self.wide)
        total = Load(self.input(totals), at("earlier"), self.wide)
        add = Update(carry.name, "set", self.combined(carry, total))
        self.body += [Init(carry.name, self.identity), For("earlier", count, (add,))]
        self.carry = carry

    def _block(self, i: int, nth: Expr, totals: Var) -> Chain:
        """A block of a row, which continues from the total of the blocks before it."""
        nth = self.define(nth)
        row, block = (
            self.define(op("div", nth, size_value("blocks"))),
            self.define(op("rem", nth, size_value("blocks"))),
        )
        first = self.define(op("mul", row, size_value("blocks")))
        start = self.define(op("mul", block, size_value("step")))
        width = self.width(start, size_value(self.length), size_value("step"))
        carried = Name(f"before{i}", self.wide)
        earlier = Load(self.input(totals), at(first.name, f"k{i}"), self.wide)
        add = Update(carried.name, "set", self.combined(carried, earlier))
        self.body += [Init(carried.name, self.identity), For(f"k{i}", block.name, (add,))]
        total = self._total(i, carried)
        self.body.append(Init(f"acc{i}", carried if total is None else self.identity))
        return Chain(self.place(row, self.layout, self.inner), start.name, width, f"acc{i}", total)

    def _total(self, i: int, value: Expr) -> str | None:
        """The accumulator of what came before a fold that starts again."""
        if not self.restarts:
            return None
        self.body.append(Init(f"total{i}", value))
        return f"total{i}"

    def _fold(self, chains: Sequence[Chain], begin: Expr, extent: Expr) -> None:
        """Write the loop over positions `begin` to `begin + extent` of some chains."""
        start = self.define(begin).name
        if not self.restarts:
            self.body.append(self._loop(chains, [start], self.define(extent).name))
            return
        k, extent = f"k_{self.fresh()}", self.define(extent)
        runs = self.define(op("div", op("add", extent, number(RUN - 1)), number(RUN)))
        with self.block() as outer:
            offset = self.define(op("mul", value_of(k), number(RUN)))
            width = self.define(op("min", number(RUN), op("sub", extent, offset)))
            self.body.append(self._loop(chains, [start, offset.name], width.name))
            for c in chains:
                assert c.total is not None  # since the fold restarts
                total, acc = Name(c.total, self.wide), Name(c.acc, self.wide)
                self.body.append(Update(c.total, "set", self.combined(total, acc)))
                self.body.append(Update(c.acc, "set", self.identity))
        self.body.append(For(k, runs.name, tuple(outer)))

    def _loop(self, chains: Sequence[Chain], offsets: Sequence[str], extent: str) -> For:
        j = f"j_{self.fresh()}"
        with self.block() as inner:
            for c in chains:
                along = (*([c.start] if c.start else []), *offsets, j)
                value = self.define(build.cast(self.x.load(c.place, *along), self.wide))
                self.body.append(Update(c.acc, "set", self.combined(Name(c.acc, self.wide), value)))
                out: Expr = Name(c.acc, self.wide)
                if c.total is not None:
                    out = self.combined(Name(c.total, self.wide), out)
                self.body.append(self.y.store(build.cast(out, self.out.aval.dtype), c.place, *along))
        return For(j, extent, tuple(inner))
