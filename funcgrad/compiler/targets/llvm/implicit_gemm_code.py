"""LLVM IR of implicit matrix products, for one shape of tile.

The sums of a tile are vectors in registers. Each step in depth loads a row of the panel and multiplies it with one
element of `a` for each row of the tile, which is repeated in all lanes. Rows have a pointer each, so they may be
anywhere; the last tile of a task computes its last row again and again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from llvmlite import ir

from funcgrad.compiler.targets.llvm.emit import KERNEL_TYPE, POINTER, VOID
from funcgrad.compiler.targets.llvm.implicit_gemm_tile import Tile
from funcgrad.compiler.targets.llvm.registers import CONTRACT, I32, I64
from funcgrad.ops.implicit_gemm import PANEL

_HEAD = ("m", "height", "chunks", "panels", "columns", "panel", "column_b", "column_c", "start_a", "start_b", "chunk")


def integer(n: int) -> ir.Constant:
    """A 64-bit integer."""
    return ir.Constant(I64, n)


class Writer:
    """Writes the function of one tile."""

    def __init__(self, module: ir.Module, tile: Tile):
        self.module, self.tile = module, tile
        self.element: ir.Type = ir.FloatType() if tile.dtype == np.float32 else ir.DoubleType()
        self.vector = ir.VectorType(self.element, tile.lanes)
        function = ir.Function(module, KERNEL_TYPE, "implicit_gemm")
        arguments, sizes, begin, end, _ = function.args
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.out, self.left, self.right = (self._item(arguments, i, POINTER) for i in range(3))
        values = (self._item(sizes, i, I64) for i in itertools.count())
        self.size = dict(zip(_HEAD, values, strict=False))
        self.groups = [tuple(next(values) for _ in range(4)) for _ in range(tile.group_loops)]
        self.rows = [(next(values), next(values), next(values)) for _ in range(tile.row_loops)]
        depth = [(next(values), next(values), next(values)) for _ in range(tile.block_loops + tile.depth_loops)]
        self.blocks, self.depth = depth[: tile.block_loops], depth[tile.block_loops :]
        self.sums = [[self.b.alloca(self.vector) for _ in range(tile.vectors)] for _ in range(tile.rows)]
        self.odometer = [self.b.alloca(I64) for _ in self.rows]
        self.places = [self.b.alloca(I64) for _ in range(2)]  # of the current row, in a and in the result
        with self._loop(begin, end) as (task,):
            self._task(task)
        self.b.ret_void()

    def _item(self, table: ir.Value, i: int, kind: ir.Type) -> ir.Value:
        return self.b.load(self.b.gep(table, [integer(i)], source_etype=kind), typ=kind)

    def _at(self, pointer: ir.Value, *offsets: ir.Value) -> ir.Value:
        for offset in offsets:
            pointer = self.b.gep(pointer, [offset], source_etype=self.element)
        return pointer

    @contextlib.contextmanager
    def _loop(
        self, start: ir.Value, stop: ir.Value, step: int = 1, moving: Sequence[tuple[ir.Value, ir.Value]] = ()
    ) -> Iterator[list[ir.Value]]:
        """A loop that may run no times; yields its counter and the values that move by a step in each iteration."""
        before = self.b.block
        head, body, after = (self.b.append_basic_block(name) for name in ("head", "body", "after"))
        self.b.branch(head)
        self.b.position_at_end(head)
        steps = [(start, integer(step)), *moving]
        places = [self.b.phi(I64) for _ in steps]
        for place, (first, _) in zip(places, steps, strict=True):
            place.add_incoming(first, before)
        self.b.cbranch(self.b.icmp_signed("<", places[0], stop), body, after)
        self.b.position_at_end(body)
        yield places
        following = [self.b.add(p, by) for p, (_, by) in zip(places, steps, strict=True)]
        for place, value in zip(places, following, strict=True):
            place.add_incoming(value, self.b.block)
        self.b.branch(head)
        self.b.position_at_end(after)

    # ------------------------------------------------------------------ tasks and blocks

    def _task(self, task: ir.Value) -> None:
        b, size, tile = self.b, self.size, self.tile
        # The panels of a run of rows follow each other: what the rows read is in the second-level cache.
        panel, number = b.urem(task, size["panels"]), b.udiv(task, size["panels"])
        chunk, group = b.urem(number, size["chunks"]), b.udiv(number, size["chunks"])
        column = b.mul(panel, integer(tile.columns))
        in_a, in_b, in_c = self._group(group)
        left = self._at(self.left, size["start_a"], in_a)
        within = b.and_(column, integer(PANEL - 1))
        right = self._at(
            self.right, size["start_b"], in_b, b.mul(b.udiv(column, integer(PANEL)), size["panel"]), within
        )
        out = self._at(self.out, in_c, b.mul(column, size["column_c"]))
        start = b.mul(chunk, size["height"])
        stop = self._least(b.add(start, size["height"]), size["m"])
        self._block(left, right, out, start, stop, b.sub(size["columns"], column), integer(0))

    def _group(self, number: ir.Value) -> list[ir.Value]:
        """The place of a group in `a`, in `b` and in the result."""
        b, at = self.b, [integer(0)] * 3
        for n, *steps in reversed(self.groups):
            i, number = b.urem(number, n), b.udiv(number, n)
            at = [b.add(x, b.mul(i, step)) for x, step in zip(at, steps, strict=True)]
        return at

    def _least(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def _block(
        self,
        left: ir.Value,
        right: ir.Value,
        out: ir.Value,
        start: ir.Value,
        stop: ir.Value,
        columns: ir.Value,
        number: ir.Value,
        outer: int = 0,
    ) -> None:
        """Run the rows of a task for each block of the depth; block number 0 starts the sums."""
        b = self.b
        if outer < len(self.blocks):
            n, step_a, step_b = self.blocks[outer]
            with self._loop(integer(0), n, 1, [(integer(0), step_a), (integer(0), step_b)]) as (i, to_a, to_b):
                left, right = self._at(left, to_a), self._at(right, to_b)
                self._block(left, right, out, start, stop, columns, b.or_(number, i), outer + 1)
            return
        n, step_a, step_b = self.depth[0]
        blocks = b.udiv(b.sub(b.add(n, self.size["chunk"]), integer(1)), self.size["chunk"])
        with self._loop(integer(0), blocks) as (i,):
            first = b.mul(i, self.size["chunk"])
            count = self._least(self.size["chunk"], b.sub(n, first))
            left, right = self._at(left, b.mul(first, step_a)), self._at(right, b.mul(first, step_b))
            starts = b.icmp_unsigned("==", b.or_(number, i), integer(0))
            self._set_odometer(start)
            with self._loop(start, stop, self.tile.rows) as (row,):
                self._tile(left, right, out, row, stop, columns, starts, count)

    # ------------------------------------------------------------------ rows

    def _set_odometer(self, row: ir.Value) -> None:
        """Find the indices of a row, and its place in `a` and in the result."""
        b, at = self.b, [integer(0), integer(0)]
        for (n, *steps), index in zip(reversed(self.rows), reversed(self.odometer), strict=True):
            i = b.urem(row, n)
            row = b.udiv(row, n)
            b.store(i, index)
            at = [b.add(x, b.mul(i, step)) for x, step in zip(at, steps, strict=True)]
        for x, place in zip(at, self.places, strict=True):
            b.store(x, place)

    def _advance(self, moves: ir.Value) -> None:
        """Go to the next row if the bit `moves` is set."""
        b, carry, zero = self.b, moves, integer(0)
        at = [b.load(place, typ=I64) for place in self.places]
        for d, ((n, *steps), index) in reversed(list(enumerate(zip(self.rows, self.odometer, strict=True)))):
            i = b.add(b.load(index, typ=I64), b.zext(carry, I64))
            at = [b.add(x, b.select(carry, step, zero)) for x, step in zip(at, steps, strict=True)]
            if d:
                carry = b.icmp_unsigned("==", i, n)
                back = [b.select(carry, b.mul(n, step), zero) for step in steps]
                at = [b.sub(x, y) for x, y in zip(at, back, strict=True)]
                i = b.select(carry, zero, i)
            b.store(i, index)
        for x, place in zip(at, self.places, strict=True):
            b.store(x, place)

    def _places_of_rows(self, row: ir.Value, stop: ir.Value) -> list[list[ir.Value]]:
        """The places in `a` and in the result of the rows of a tile; go to the next one."""
        b, rows, (n, *steps), index = self.b, self.tile.rows, self.rows[-1], self.odometer[-1]
        end = b.add(b.load(index, typ=I64), integer(rows))
        together = b.and_(b.icmp_signed("<=", end, n), b.icmp_signed("<=", b.add(row, integer(rows)), stop))
        found: list[tuple[list[list[ir.Value]], ir.Block]] = []
        with b.if_else(together) as (run, apart):
            with run:  # they are at equal distances
                first = [b.load(place, typ=I64) for place in self.places]
                pairs = list(zip(first, steps, strict=True))
                at = [[b.add(x, b.mul(step, integer(r))) for r in range(rows)] for x, step in pairs]
                for place, (*_, last) in zip(self.places, at, strict=True):
                    b.store(last, place)
                b.store(b.sub(end, integer(1)), index)
                self._advance(b.icmp_signed("<", b.add(row, integer(rows)), stop))
                found.append((at, b.block))
            with apart:
                at = [[], []]
                for r in range(rows):
                    for of_x, place in zip(at, self.places, strict=True):
                        of_x.append(b.load(place, typ=I64))
                    self._advance(b.icmp_signed("<", b.add(row, integer(r + 1)), stop))
                found.append((at, b.block))
        return [[self._either(x, r, found) for r in range(rows)] for x in range(2)]

    def _either(self, x: int, r: int, found: Sequence[tuple[list[list[ir.Value]], ir.Block]]) -> ir.Value:
        value = self.b.phi(I64)
        for at, block in found:
            value.add_incoming(at[x][r], block)
        return value

    def _tile(
        self,
        left: ir.Value,
        right: ir.Value,
        out: ir.Value,
        row: ir.Value,
        stop: ir.Value,
        columns: ir.Value,
        starts: ir.Value,
        count: ir.Value,
    ) -> None:
        b = self.b
        found = self._places_of_rows(row, stop)
        sources, places = ([self._at(x, at) for at in of_x] for x, of_x in zip((left, out), found, strict=True))
        with b.if_else(starts) as (zeros, earlier):
            with zeros:
                for total in itertools.chain(*self.sums):
                    b.store(ir.Constant(self.vector, None), total)
            with earlier:
                self._load_sums_of_tile(columns, places)
        self._multiply(sources, right, self.depth, count, integer(0), integer(0))
        self._store_sums_of_tile(columns, places)

    def _load_sums_of_tile(self, columns: ir.Value, places: Sequence[ir.Value]) -> None:
        self._for_each_vector(columns, places, self._load_sums)

    def _store_sums_of_tile(self, columns: ir.Value, places: Sequence[ir.Value]) -> None:
        self._for_each_vector(columns, places, self._store_sums)

    # ------------------------------------------------------------------ sums

    def _multiply(
        self,
        sources: Sequence[ir.Value],
        right: ir.Value,
        loops: Sequence[tuple[ir.Value, ir.Value, ir.Value]],
        count: ir.Value,
        at_a: ir.Value,
        at_b: ir.Value,
    ) -> None:
        """Add products to the sums, over the loops in depth; the outermost runs `count` times."""
        b, (_, step_a, step_b) = self.b, loops[0]
        unroll = self.tile.unroll if len(loops) == 1 else 1
        steps = [(at_a, b.mul(step_a, integer(unroll))), (at_b, b.mul(step_b, integer(unroll)))]
        with self._loop(integer(0), count, unroll, steps) as (_, here_a, here_b):
            if len(loops) > 1:
                self._multiply(sources, right, loops[1:], loops[1][0], here_a, here_b)
                return
            step = integer(self.tile.step) if self.tile.step else step_a
            for u in range(unroll):
                self._step(
                    sources, right, b.add(here_a, b.mul(step, integer(u))), b.add(here_b, b.mul(step_b, integer(u)))
                )

    def _step(self, sources: Sequence[ir.Value], right: ir.Value, at_a: ir.Value, at_b: ir.Value) -> None:
        """Add the products for one index of the depth; what there is less of, rows or vectors, stays in registers."""
        row, tile = self._at(right, at_b), self.tile
        of_a = (functools.partial(self._repeated, self._at(source, at_a)) for source in sources)
        of_b = (
            functools.partial(self._load_vector, self._at(row, integer(v * tile.lanes))) for v in range(tile.vectors)
        )
        if tile.vectors <= tile.rows:
            kept, passing, sums = of_b, of_a, self.sums
        else:
            kept, passing, sums = of_a, of_b, list(zip(*self.sums, strict=True))
        factors = [load() for load in kept]
        for load, totals in zip(passing, sums, strict=True):
            x = load()
            for factor, total in zip(factors, totals, strict=True):
                product = self.b.fmul(x, factor, flags=CONTRACT)
                self.b.store(self.b.fadd(self.b.load(total, typ=self.vector), product, flags=CONTRACT), total)

    def _repeated(self, place: ir.Value) -> ir.Value:
        """An element in all lanes of a vector."""
        b, lanes = self.b, ir.Constant(ir.VectorType(I32, self.tile.lanes), [0] * self.tile.lanes)
        x = b.load(place, typ=self.element)
        one = b.insert_element(ir.Constant(self.vector, ir.Undefined), x, ir.Constant(I32, 0))
        return b.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), lanes)

    def _load_vector(self, place: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """The elements from a place on; zero where the mask is false, and nothing is read."""
        if mask is None:
            return self.b.load(place, typ=self.vector, align=self.tile.dtype.itemsize)
        kind = ir.FunctionType(self.vector, [POINTER, I32, mask.type, self.vector])
        align, nothing = ir.Constant(I32, self.tile.dtype.itemsize), ir.Constant(self.vector, None)
        return self.b.call(self._masked("load", kind), [place, align, mask, nothing])

    def _for_each_vector(self, columns: ir.Value, places: Sequence[ir.Value], action: Callable[..., None]) -> None:
        """Move every vector of the tile, whole or, in the last panel, as far as there are columns."""
        lanes = self.tile.lanes
        full = self.b.icmp_signed(">=", columns, integer(self.tile.columns))
        with self.b.if_else(full) as (whole, partly):
            for branch, masked in ((whole, False), (partly, True)):
                with branch:
                    masks = [self._mask(columns, v) if masked else None for v in range(self.tile.vectors)]
                    for place, sums in zip(places, self.sums, strict=True):
                        for v, (mask, total) in enumerate(zip(masks, sums, strict=True)):
                            action(self._at(place, self.b.mul(integer(v * lanes), self.size["column_c"])), total, mask)

    def _mask(self, columns: ir.Value, v: int) -> ir.Value:
        """Which lanes of a vector are columns."""
        b, kind = self.b, ir.VectorType(I64, self.tile.lanes)
        one = b.insert_element(ir.Constant(kind, ir.Undefined), columns, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.tile.lanes), [0] * self.tile.lanes)
        repeated = b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)
        numbers = ir.Constant(kind, [v * self.tile.lanes + i for i in range(self.tile.lanes)])
        return b.icmp_signed("<", numbers, repeated)

    def _masked(self, name: str, kind: ir.FunctionType) -> ir.Function:
        letter = "f32" if self.tile.dtype == np.float32 else "f64"
        name = f"llvm.masked.{name}.v{self.tile.lanes}{letter}.p0"
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)

    def _lanes(self, place: ir.Value, mask: ir.Value | None) -> Iterator[tuple[ir.Constant, ir.Value]]:
        """Yield the lanes of a vector whose columns are apart, and their places; skip those that are no columns."""
        for i in range(self.tile.lanes):
            lane, at = ir.Constant(I32, i), self._at(place, self.b.mul(integer(i), self.size["column_c"]))
            if mask is None:
                yield lane, at
            else:
                with self.b.if_then(self.b.extract_element(mask, lane)):
                    yield lane, at

    def _load_sums(self, place: ir.Value, total: ir.Value, mask: ir.Value | None) -> None:
        b, nothing = self.b, ir.Constant(self.vector, None)
        if not self.tile.dense:
            b.store(nothing, total)
            for lane, at in self._lanes(place, mask):
                x = b.load(at, typ=self.element)
                b.store(b.insert_element(b.load(total, typ=self.vector), x, lane), total)
        else:
            b.store(self._load_vector(place, mask), total)

    def _store_sums(self, place: ir.Value, total: ir.Value, mask: ir.Value | None) -> None:
        b, value = self.b, self.b.load(total, typ=self.vector)
        if not self.tile.dense:
            for lane, at in self._lanes(place, mask):
                b.store(b.extract_element(value, lane), at)
        elif mask is None:
            b.store(value, place, align=self.tile.dtype.itemsize)
        else:
            kind = ir.FunctionType(VOID, [self.vector, POINTER, I32, mask.type])
            align = ir.Constant(I32, self.tile.dtype.itemsize)
            b.call(self._masked("store", kind), [value, place, align, mask])
