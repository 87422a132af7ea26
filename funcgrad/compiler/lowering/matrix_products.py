"""Matrix products as kernels: batches of small matrices, and element types that BLAS does not have.

The result is computed in tiles of a few rows by a vector of columns. Their sums stay in registers while the contracted
dimension runs:

    for k: for each row r of the tile: sum[r][lanes] += a[r, k] · b[k, lanes]

The last tile of a side overlaps the one before it if tiles do not divide that side. Columns of `b` that are apart in
memory, and long ones, are first copied side by side. Large products are cut into chunks: some rows of `a` by some
columns of `b`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.loops.language import Const, Expr, For, Index, Init, Load, Name, Store, Update, moved, op
from funcgrad.compiler.lowering import schedule as sch
from funcgrad.compiler.lowering.kernel_builder import INT64, KernelBuilder, Launch, build, index_value, size_value
from funcgrad.compiler.lowering.product_tiles import Chunks, chunks_of, tile_of
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn, Var
from funcgrad.core.lowering import Strided, contiguous

# Loops over dimensions of at most so many elements are unrolled. Their sizes are constants of the kernel, and so are
# distances between neighbors in them, up to that square.
_UNROLLED = 16
# Steps along the contracted dimension that are written out: as many as lanes load together.
_STEPS = 4
# Longer columns of `b` are copied if several tiles of rows read them.
_LONG = 64
# So many operations of a product take as long as one that `Scheduling.grain` counts.
_AT_ONCE = 8

Size = int | str


class Point(NamedTuple):
    """A position along a dimension: the value of a variable (None: 0) plus a number."""

    name: str | None
    number: int = 0


class Span(NamedTuple):
    """A run of tiles along a dimension: where it begins, how many tiles there are, and where the last one begins."""

    begin: str | None
    tiles: Size
    last: Expr


class Matrices(NamedTuple):
    """How a parameter holds matrices: the distances between neighbors in each batch dimension, rows and columns."""

    param: str
    dtype: np.dtype
    batch: tuple[Size, ...]
    row: Size
    column: Size
    offset: Size = 0


def lower_product(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> list[Launch]:
    """Return the kernel of a product of (…, m, k) and (…, k, n)."""
    result = Access(eqn.outvars[0], contiguous(eqn.outvars[0].aval.shape))
    left, right = accesses
    if result.view.shape[-1] == 1:  # a single column is computed as a row: (A·B)ᵀ = Bᵀ·Aᵀ
        left, right, result = map(_swapped, (right, left, result))
    return [_Writer(left, right, result, scheduling).kernel()]


def _swapped(access: Access) -> Access:
    shape, strides = ((*t[:-2], t[-1], t[-2]) for t in access.view[:2])
    return Access(access.source, Strided(shape, strides, access.view.offset))


def _dtype_of_sums(result: np.dtype) -> np.dtype:
    """The dtype in which a result is summed up."""
    if dtypes.is_float(result):
        return result if result.itemsize > 2 else dtypes.float32
    if result == dtypes.bool_:
        return dtypes.uint8
    return result if result.itemsize > 1 else dtypes.int16  # processors do not multiply vectors of bytes


def _sum(*terms: Expr) -> Expr:
    return terms[0] if len(terms) == 1 else op("add", *terms)


class _Writer(KernelBuilder):
    def __init__(self, left: Access, right: Access, result: Access, scheduling: Scheduling):
        super().__init__()
        self.scheduling = scheduling
        *batch, self.m, self.n = result.view.shape
        self.k = left.view.shape[-1]
        self.sums = _dtype_of_sums(result.source.aval.dtype)
        self.tile = tile_of(self.m, self.n, self.sums.itemsize, scheduling)
        used = [d for d, n in enumerate(batch) if n != 1]
        strides = [[a.view.strides[d] for d in used] for a in (left, right, result)]
        self.batch = sch.collapse(tuple(batch[d] for d in used), (), strides, frozenset())
        distances = [tuple(s[d.members[-1]] for d in self.batch) for s in strides]
        self.a = self._matrices(left, self.input, distances[0], (self.m, self.k))
        self.b = self._matrices(right, self.input, distances[1], (self.k, self.n))
        self.c = self._matrices(result, self.output, distances[2], (self.m, self.n))
        self.place: list[str] = []  # the indices of the batch

    def _matrices(
        self, access: Access, parameter: Callable[[Var], str], batch: Sequence[int], sizes: tuple[int, int]
    ) -> Matrices:
        source, (_, (*_, row, column), offset) = access
        assert isinstance(source, Var)
        by_batch = tuple(map(self.stride, batch))
        inner = (
            stride if size <= _UNROLLED and abs(stride) <= _UNROLLED**2 else self.stride(stride)
            for stride, size in zip((row, column), sizes, strict=True)
        )
        dtype = dtypes.real_dtype(source.aval.dtype)  # a view of real parts
        return Matrices(parameter(source), dtype, by_batch, *inner, self.offset(offset))

    # ------------------------------------------------------------------ elements

    def _index(self, matrices: Matrices, row: Point, column: Point, lane: str) -> Index:
        names = (*self.place, row.name, column.name, lane)
        strides = (*matrices.batch, matrices.row, matrices.column, matrices.column)
        terms = tuple((n, s) for n, s in zip(names, strides, strict=True) if n and s != 0)
        known = 0
        for point, stride in ((row, matrices.row), (column, matrices.column)):
            if point.number:
                assert isinstance(stride, int)
                known += point.number * stride
        return moved(Index(terms, matrices.offset), known)

    def _load(self, matrices: Matrices, row: Point, column: Point, lane: str = "") -> Expr:
        return Load(matrices.param, self._index(matrices, row, column, lane), matrices.dtype)

    def _store(self, matrices: Matrices, row: Point, column: Point, lane: str, value: Expr) -> None:
        index = self._index(matrices, row, column, lane)
        self.body.append(Store(matrices.param, index, build.cast(value, matrices.dtype)))

    def _points(self, start: str | None, count: int, *strides: Size) -> list[Point]:
        """Positions side by side. They are variables where a distance is not known now."""
        if all(isinstance(s, int) for s in strides):
            return [Point(start, i) for i in range(count)]
        first = [] if start is None else [index_value(start)]
        rest = (self.define(_sum(*first, Const(i, INT64))) for i in range(1, count))
        return [Point(start), *(Point(x.name) for x in rest)]

    # ------------------------------------------------------------------ loops

    def _size(self, name: str, value: int, extent: int) -> Size:
        """A size that depends on the extent of a dimension: a number if that is unrolled."""
        return value if extent <= _UNROLLED else name if name in self.sizes else self.size(name, value)

    def kernel(self) -> Launch:
        batch = math.prod(d.extent for d in self.batch)
        chunks = chunks_of(self.m, self.n, self.k * self.a.dtype.itemsize, batch, self.tile, self.scheduling)
        self._open(chunks)
        rows = self._span("i", self.m, self.tile.rows, chunks.row_chunks, chunks.rows)
        columns = self._span("j", self.n, self.tile.columns, chunks.column_chunks, chunks.columns)
        self._tiles("j", columns, self.tile.columns, lambda column: self._columns(column, rows))
        extent = batch * chunks.row_chunks * chunks.column_chunks
        work = chunks.rows * chunks.columns * self.k // _AT_ONCE
        return self.launch("product", (), self.body, extent=extent, grain=max(1, self.scheduling.grain // max(1, work)))

    def _open(self, chunks: Chunks) -> None:
        """Recover the indices of the batch and of the chunk from the parallel index."""
        loops = [(f"b{i}", d.extent) for i, d in enumerate(self.batch)]
        loops += [(n, x) for n, x in (("i_chunk", chunks.row_chunks), ("j_chunk", chunks.column_chunks)) if x > 1]
        found = self.unravel([n for n, _ in loops], [self.size(f"{n}s", x) for n, x in loops[1:]])
        self.place = found[: len(self.batch)]
        self.chunk = dict(zip([n for n, _ in loops], found, strict=True))

    def _span(self, letter: str, size: int, step: int, number: int, length: int) -> Span:
        """The tiles of this chunk of a dimension, or of all of it."""
        if number == 1:
            last = size_value(self._size(f"{letter}_last", size - step, size))
            return Span(None, self._size(f"{letter}_tiles", -(-size // step), size), last)
        chunk, part = index_value(self.chunk[f"{letter}_chunk"]), size_value(self.size(f"{letter}_part", length))
        begin = self.define(op("mul", chunk, part))
        is_last = op("eq", chunk, size_value(self.size(f"{letter}_number", number - 1)))
        end = op("select", is_last, size_value(self.size(letter, size)), op("add", begin, part))
        last = self.define(op("sub", end, Const(step, INT64)))
        more = op("sub", op("add", last, Const(2 * step - 1, INT64)), begin)
        tiles = self.define(op("div", more, Const(step, INT64)))
        return Span(begin.name, tiles.name, last)

    def _tiles(self, letter: str, span: Span, step: int, write: Callable[[str | None], None]) -> None:
        """Run code for each tile of a span."""
        if span.tiles == 1:
            write(None)
            return
        with self.block() as body:
            start = op("mul", index_value(f"{letter}t"), Const(step, INT64))
            if span.begin is not None:
                start = op("add", index_value(span.begin), start)
            write(self.define(op("min", start, span.last)).name)
        self.body.append(For(f"{letter}t", span.tiles, tuple(body), "serial"))

    def _columns(self, column: str | None, rows: Span) -> None:
        """Compute the tiles of some columns."""
        right, start = self.b, Point(column)
        tiles = -(-self.m // self.tile.rows)
        if tiles > 1 and (right.column != 1 or (self.k > _LONG and tiles > 2)):
            right, start = self._copied(start), Point(None)
        self._tiles("i", rows, self.tile.rows, lambda row: self._tile(row, Point(column), right, start))

    def _copied(self, column: Point) -> Matrices:
        """Copy columns of `b` side by side."""
        width = self.tile.columns
        to = Matrices(
            self.scratch(self.b.dtype, self._size("panel", self.k * width, self.k)),
            self.b.dtype,
            (0,) * len(self.batch),
            width,
            1,
        )

        def copy(steps: Sequence[Point]) -> None:
            values = [self.define(self._load(self.b, k, column, "c")) for k in steps]
            for k, value in zip(steps, values, strict=True):
                self._store(to, k, Point(None), "c", value)

        with self.block() as body:
            self._depth("c", copy, self.b.row)
        self.body.append(For("c", width, tuple(body), "lanes"))
        return to

    def _depth(self, letter: str, write: Callable[[Sequence[Point]], None], *strides: Size) -> None:
        """Run code for all steps of the contracted dimension, for some of them at once."""
        if self.k <= _UNROLLED:
            points = self._points(None, self.k, *strides)
            for i in range(0, self.k, _STEPS):
                write(points[i : i + _STEPS])
            return
        main, rest = divmod(self.k, _STEPS)
        for name, count, steps in (("main", main, _STEPS), ("rest", rest, 1)):
            with self.block() as body:
                start = op("mul", index_value(f"{letter}{name}"), Const(steps, INT64))
                if name == "rest":
                    start = op("add", start, size_value(self._size("k_done", main * _STEPS, self.k)))
                write(self._points(self.define(start).name, steps, *strides))
            self.body.append(For(f"{letter}{name}", self._size(f"k_{name}", count, self.k), tuple(body), "vector"))

    def _tile(self, row: str | None, column: Point, right: Matrices, start: Point) -> None:
        """Compute a tile: the sums of its rows, whose lanes are its columns."""
        rows = self._points(row, self.tile.rows, self.a.row, self.c.row)
        totals = [f"sum{r}" for r in range(len(rows))]
        add, mul = ("or", "and") if self.c.dtype == dtypes.bool_ else ("add", "mul")

        def multiply(steps: Sequence[Point]) -> None:
            loads = [self.define(self._load(right, k, start, "l")) for k in steps]
            for k, loaded in zip(steps, loads, strict=True):
                factor = self.define(build.cast(loaded, self.sums))
                for r, total in zip(rows, totals, strict=True):
                    x = build.cast(self._load(self.a, r, k), self.sums)
                    self.body.append(Update(total, add, op(mul, x, factor)))

        with self.block() as body:
            self.body += [Init(total, Const(0, self.sums)) for total in totals]
            self._depth("k", multiply, self.a.column, right.row)
            for r, total in zip(rows, totals, strict=True):
                self._store(self.c, r, column, "l", Name(total, self.sums))
        self.body.append(For("l", self.tile.columns, tuple(body), "lanes"))
