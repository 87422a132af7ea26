"""Sorting as kernels: operands permuted together so that their keys ascend along an axis, equals in order.

Keys are compared as unsigned integers in whose order they sort: NaN after all numbers, −0 equal to 0.

- *ranks*: an element of a short row goes where the number of elements before it says. They are counted in SIMD.
- *digits*: longer rows are sorted by one byte of the key after the other, from the last key's lowest on (radix sort).
  Each pass moves all operands to where the counts of the bytes say. A pass is left out where all its bytes are equal.
- A few long rows are cut into blocks. Each pass is three kernels: the counts of the blocks, where each block's elements
  with each byte begin, and the move. The cut depends on sizes alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access, Rows
from funcgrad.compiler.loops.language import Const, Expr, For, If, Index, Init, Load, Name, Stmt, Store, Update, at, op
from funcgrad.compiler.lowering.kernel_builder import INT64, Launch, build, index_value, size_value
from funcgrad.compiler.lowering.row_kernels import (
    Buffer,
    Place,
    RowKernel,
    number,
    operand_rows,
    result_rows,
    stored_sources,
    value_of,
)
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import JaxprEqn, Var

DIGITS = 256
# Rows of at most this many elements are sorted by ranks.
SHORT = 64
# Rows from this length on are cut into blocks of at least `BLOCK` elements, where the rows are few.
LONG = 1 << 15
BLOCK = 1 << 13
MOST_BLOCKS = 32


def ordered(x: Expr) -> Expr:
    """The bits of a number as an unsigned integer that orders numbers as they are ordered, −0 below 0."""
    dtype = x.dtype
    if dtype == dtypes.bool_:
        return build.cast(x, np.dtype(np.uint8))
    unsigned = _unsigned(dtype)
    bits = x if dtype == unsigned else op("bitcast", x, dtype=unsigned)
    if dtype.kind == "u":
        return bits
    sign = _sign(dtype)
    if not dtypes.is_float(dtype):
        return op("xor", bits, sign)
    ones = Const(np.iinfo(unsigned).max, unsigned)
    return op("xor", bits, op("select", op("ge", bits, sign), ones, sign))


def restored(bits: Expr, dtype: np.dtype) -> Expr:
    """The inverse of `ordered`."""
    if dtype == dtypes.bool_:
        return build.cast(bits, dtype)
    if dtype.kind == "u":
        return bits
    sign = _sign(dtype)
    if dtypes.is_float(dtype):
        ones = Const(np.iinfo(bits.dtype).max, bits.dtype)
        sign = op("select", op("lt", bits, sign), ones, sign)
    return op("bitcast", op("xor", bits, sign), dtype=dtype)


def comparable(bits: Expr, dtype: np.dtype) -> Expr:
    """The key of a number of `dtype` whose `ordered` bits are given: −0 has the key of 0, every NaN the largest."""
    if not dtypes.is_float(dtype):
        return bits
    sign, largest = int(_sign(dtype).value), int(np.iinfo(bits.dtype).max)
    infinity = int(np.asarray(np.inf, dtype).view(bits.dtype))
    low, high = largest - (sign | infinity), sign ^ infinity  # the bits of −inf and inf
    number = op("le", op("sub", bits, Const(low, bits.dtype)), Const(high - low, bits.dtype))
    minus_zero = op("eq", bits, Const(sign - 1, bits.dtype))
    return op("select", number, op("add", bits, build.cast(minus_zero, bits.dtype)), Const(largest, bits.dtype))


def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _sign(dtype: np.dtype) -> Const:
    return Const(1 << (8 * dtype.itemsize - 1), _unsigned(dtype))


def lower_sort(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling, stored: set[Var]) -> list[Launch]:
    """Return the kernels of a sort: one, or three for each byte of the keys of long rows that are too few."""
    layouts = operand_rows(eqn, list(accesses))
    sources = stored_sources(accesses)
    length, count = layouts[0].length, layouts[0].number
    results = [v if v in stored else None for v in eqn.outvars]
    last = [result_rows(v, eqn.params["dimension"]) for v in eqn.outvars]
    types = [v.aval.dtype for v in eqn.invars[: eqn.params["num_keys"]]]
    task = lambda: SortKernel(scheduling, types, sources, layouts)  # noqa: E731
    if length <= SHORT:
        return [task().ranks(results, last)]
    if count >= scheduling.min_parallel or length < LONG:
        return [task().digits(results, last)]
    return _passes(eqn, scheduling, sources, layouts, results, last)


def _passes(
    eqn: JaxprEqn,
    scheduling: Scheduling,
    sources: Sequence[Var],
    layouts: Sequence[Rows],
    results: Sequence[Var | None],
    last: Sequence[Rows],
) -> list[Launch]:
    """The kernels of all passes over rows that are cut into blocks."""
    count, length, keys = layouts[0].number, layouts[0].length, eqn.params["num_keys"]
    blocks = min(MOST_BLOCKS, length // BLOCK)
    outer, inner = layouts[0].outer, layouts[0].inner
    whole = Rows(outer, length, inner, (inner * length, 1, length), 0)
    table = ShapedArray((count, DIGITS, blocks), INT64)
    types_of_keys = [v.aval.dtype for v in eqn.invars[:keys]]
    passes = [(key, byte) for key in reversed(range(keys)) for byte in range(eqn.invars[key].aval.dtype.itemsize)]
    launches = []
    for key, byte in passes:
        task = lambda: SortKernel(scheduling, types_of_keys, sources, layouts, blocks)  # noqa: B023, E731
        counts, starts = Var(table), Var(table)
        if (key, byte) == passes[-1]:
            moved, places = list(results), list(last)
        else:
            types = [_unsigned(v.aval.dtype) if i < keys else v.aval.dtype for i, v in enumerate(eqn.invars)]
            moved = [Var(ShapedArray((count, length), d)) for d in types]
            places = [whole] * len(moved)
        launches += [task().count(key, byte, counts), task().starts(counts, starts)]
        launches.append(task().move(key, byte, starts, moved, places))
        sources, layouts = [v for v in moved if v is not None], places
    return launches


class SortKernel(RowKernel):
    """Writes one kernel of a sort. Keys are moved as their `ordered` bits; `types` are their dtypes."""

    def __init__(
        self,
        scheduling: Scheduling,
        types: Sequence[np.dtype],
        sources: Sequence[Var],
        layouts: Sequence[Rows],
        blocks: int = 1,
    ):
        super().__init__()
        self.scheduling, self.types, self.blocks = scheduling, types, blocks
        self.sources, self.layouts = sources, layouts
        self.rows = layouts[0]
        self.length = size_value(self.size("n", self.rows.length))
        self.inner = self.size("inner", self.rows.inner) if self.rows.inner > 1 else 1

    def read(self, k: int) -> Buffer:
        """The rows of the k-th operand."""
        return self.rows_of(self.sources[k], self.layouts[k])

    def written(self, results: Sequence[Var | None], layouts: Sequence[Rows]) -> list[Buffer | None]:
        """The rows of the results, None for those that nobody reads."""
        return [
            None if v is None else self.buffer(self.output(v), v.aval.dtype, r)
            for v, r in zip(results, layouts, strict=True)
        ]

    def bits(self, k: int, x: Expr) -> Expr:
        """What is moved of an element of the k-th operand."""
        return ordered(x) if k < len(self.types) and x.dtype == self.types[k] else x

    def key(self, k: int, x: Expr) -> Expr:
        """The key of an element of the k-th operand."""
        return comparable(self.bits(k, x), self.types[k])

    def element(self, k: int, bits: Expr, dtype: np.dtype) -> Expr:
        """What is stored of an element of the k-th operand."""
        return restored(bits, dtype) if k < len(self.types) else bits

    def finish(self, form: str, extent: int, work: int) -> Launch:
        """The kernel, an iteration of which takes `work` operations."""
        grain = max(1, self.scheduling.grain // max(1, work))
        return self.launch(form, (), self.body, extent=extent, grain=grain)

    # ------------------------------------------------------------------ short rows

    def ranks(self, results: Sequence[Var | None], layouts: Sequence[Rows]) -> Launch:
        """Count for each element of a row how many come before it."""
        n, place = self.rows.length, self.place(index_value("p"), self.rows, self.inner)
        reads, writes = [self.read(k) for k in range(len(self.sources))], self.written(results, layouts)
        first = [self.key(k, reads[k].load(place, "i")) for k in range(len(self.types))]
        keys = [self.scratch(key.dtype, "n") for key in first]
        self.body.append(
            For("i", "n", tuple(Store(t, at("i"), key) for t, key in zip(keys, first, strict=True)), "vector")
        )
        types = [key.dtype for key in first]
        with self.block() as each:
            own = [self.define(Load(t, at("j"), d)) for t, d in zip(keys, types, strict=True)]
            others = lambda *where: [Load(t, at(*where), d) for t, d in zip(keys, types, strict=True)]  # noqa: E731
            j = self.define(value_of("j"))
            rest = self.define(op("sub", self.length, value_of("j")))
            self.body.append(Init("rank", Const(0, dtypes.int32)))
            count = lambda holds: (Update("rank", "add", build.cast(holds, dtypes.int32)),)  # noqa: E731
            self.body.append(For("before", j.name, count(op("not", less(own, others("before")))), "vector"))
            self.body.append(For("after", rest.name, count(less(others("j", "after"), own)), "vector"))
            to = self.define(build.cast(Name("rank", dtypes.int32), INT64)).name
            self.body += [y.store(x.load(place, "j"), place, to) for x, y in zip(reads, writes, strict=True) if y]
        self.body.append(For("j", "n", tuple(each)))
        return self.finish("sort_by_ranks", self.rows.number if n else 0, n * (8 + n // 4))

    # ------------------------------------------------------------------ rows by digits

    def digits(self, results: Sequence[Var | None], layouts: Sequence[Rows]) -> Launch:
        """Sort a row by all bytes of all keys, in two halves of scratch rows by turns."""
        n, place = self.rows.length, self.place(index_value("p"), self.rows, self.inner)
        reads, writes = [self.read(k) for k in range(len(self.sources))], self.written(results, layouts)
        both = self.size("both", 2 * n)
        nowhere = Place(None, None)
        loads = [self.bits(k, x.load(place, "i")) for k, x in enumerate(reads)]
        rows = [Buffer(self.scratch(x.dtype, both), x.dtype, (0, 1, 0), 0) for x in loads]
        copies = (t.store(x, nowhere, "i") for x, t in zip(loads, rows, strict=True))
        self.body += [For("i", "n", tuple(copies), "vector"), Init("half", number(0))]
        widest = max(d.itemsize for d in self.types)
        counts = self.scratch(INT64, widest * DIGITS)
        for k in reversed(range(len(self.types))):
            self._by_key(k, rows, counts)
        half = self.define(Name("half", INT64)).name
        stores = self._stores([t.load(nowhere, half, "i_out") for t in rows], writes, place, "i_out")
        self.body.append(For("i_out", "n", tuple(stores), "vector"))
        return self.finish("sort_by_digits", self.rows.number, 4 * n * len(self.types))

    def _by_key(self, k: int, rows: Sequence[Buffer], counts: str) -> None:
        nowhere, size = Place(None, None), rows[k].dtype.itemsize
        i, j, z, d = (f"{letter}{k}" for letter in ("count", "move", "digit", "byte"))
        clear = Store(counts, at(f"clear{k}"), number(0))
        self.body.append(For(f"clear{k}", size * DIGITS, (clear,), "vector"))
        half = self.define(Name("half", INT64)).name
        with self.block() as counting:
            key = self.define(self.key(k, rows[k].load(nowhere, half, i)))
            for byte in range(size):
                self._increment(counts, at(self._digit(key, number(byte)).name, offset=byte * DIGITS))
        self.body.append(For(i, "n", tuple(counting)))
        with self.block() as one_pass:
            source = self.define(Name("half", INT64)).name
            target = self.define(op("sub", self.length, value_of(source)))
            start = self.define(op("mul", value_of(d), number(DIGITS))).name
            first = self._digit(self.key(k, rows[k].load(nowhere, source)), value_of(d)).name
            with self.block() as moving:
                self._running(counts, z, start)
                with self.block() as move:
                    elements = [x.load(nowhere, source, j) for x in rows]
                    bits, to = self._placed(elements, k, value_of(d), counts, [start])
                    self.body += [x.store(v, nowhere, target.name, to) for v, x in zip(bits, rows, strict=True)]
                self.body += [For(j, "n", tuple(move)), Update("half", "set", target)]
            differ = op("ne", Load(counts, at(start, first), INT64), self.length)
            self.body.append(If(differ, tuple(moving)))
        self.body.append(For(d, size, tuple(one_pass)))

    def _running(self, counts: str, z: str, start: str) -> None:
        """Replace counts by the number of elements with lower digits."""
        run = f"run_{z}"
        self.body.append(Init(run, number(0)))
        with self.block() as body:
            count = self.define(Load(counts, at(start, z), INT64))
            self.body.append(Store(counts, at(start, z), Name(run, INT64)))
            self.body.append(Update(run, "add", count))
        self.body.append(For(z, DIGITS, tuple(body)))

    def _increment(self, counts: str, index: Index) -> None:
        self.body.append(Store(counts, index, op("add", Load(counts, index, INT64), number(1))))

    def _digit(self, key: Expr, byte: Expr) -> Name:
        """A byte of a key, counted from the lowest."""
        shift = build.cast(op("mul", byte, number(8)), key.dtype)
        byte = op("and", op("shift_right_logical", key, shift), Const(DIGITS - 1, key.dtype))
        return self.define(build.cast(byte, INT64))

    def _placed(
        self, elements: Sequence[Expr], k: int, byte: Expr, counts: str, start: Sequence[str] = ()
    ) -> tuple[list[Name], str]:
        """What is moved of an element of each operand, and where: to the next place of its digit, which is counted."""
        bits = [self.define(self.bits(i, x)) for i, x in enumerate(elements)]
        where = at(*start, self._digit(comparable(bits[k], self.types[k]), byte).name)
        to = self.define(Load(counts, where, INT64))
        self.body.append(Store(counts, where, op("add", to, number(1))))
        return bits, to.name

    def _stores(self, bits: Sequence[Expr], targets: Sequence[Buffer | None], place: Place, *along: str) -> list[Stmt]:
        """Write what was moved."""
        pairs = enumerate(zip(bits, targets, strict=True))
        return [y.store(self.element(k, x, y.dtype), place, *along) for k, (x, y) in pairs if y is not None]

    # ------------------------------------------------------------------ passes over long rows

    def _block(self) -> tuple[Place, str, str, Name]:
        """The row of a block, its first position, its number of elements, and where its part of a table begins."""
        blocks = size_value(self.size("blocks", self.blocks))
        step = size_value(self.size("step", -(-self.rows.length // self.blocks)))
        row, block = (self.define(op(name, index_value("p"), blocks)) for name in ("div", "rem"))
        start = self.define(op("mul", block, step))
        width = self.width(start, self.length, step)
        first = op("add", op("mul", op("mul", row, number(DIGITS)), blocks), block)
        return self.place(row, self.rows, self.inner), start.name, width.name, self.define(first)

    def count(self, k: int, byte: int, counts: Var) -> Launch:
        """Count the digits of each block."""
        x = self.read(k)
        own = self.scratch(INT64, DIGITS)
        place, start, width, first = self._block()
        self.body.append(For("clear", DIGITS, (Store(own, at("clear"), number(0)),), "vector"))
        with self.block() as body:
            digit = self._digit(self.key(k, x.load(place, start, "j")), size_value(self.size("byte", byte)))
            self._increment(own, at(digit.name))
        self.body.append(For("j", width, tuple(body)))
        to = at(first.name, ("z", "blocks"))
        self.body.append(For("z", DIGITS, (Store(self.output(counts), to, Load(own, at("z"), INT64)),)))
        return self.finish("sort_count", counts.aval.size // DIGITS, BLOCK)

    def starts(self, counts: Var, starts: Var) -> Launch:
        """Add up the counts of a row: by digits, and by blocks for each digit."""
        entries = self.size("entries", DIGITS * self.blocks)
        first = self.define(op("mul", index_value("p"), size_value(entries))).name
        self.body.append(Init("run", number(0)))
        with self.block() as body:
            count = self.define(Load(self.input(counts), at(first, "i"), INT64))
            self.body.append(Store(self.output(starts), at(first, "i"), Name("run", INT64)))
            self.body.append(Update("run", "add", count))
        self.body.append(For("i", entries, tuple(body)))
        return self.finish("sort_starts", counts.aval.shape[0], DIGITS * self.blocks)

    def move(self, k: int, byte: int, starts: Var, results: Sequence[Var | None], layouts: Sequence[Rows]) -> Launch:
        """Move the elements of each block to where those with their digit go."""
        reads, writes = [self.read(i) for i in range(len(self.sources))], self.written(results, layouts)
        own = self.scratch(INT64, DIGITS)
        place, start, width, first = self._block()
        entry = Load(self.input(starts), at(first.name, ("z", "blocks")), INT64)
        self.body.append(For("z", DIGITS, (Store(own, at("z"), entry),)))
        shift = size_value(self.size("byte", byte))
        with self.block() as body:
            bits, to = self._placed([x.load(place, start, "j") for x in reads], k, shift, own)
            self.body += self._stores(bits, writes, place, to)
        self.body.append(For("j", width, tuple(body)))
        return self.finish("sort_move", starts.aval.size // DIGITS, BLOCK)


def less(a: Sequence[Expr], b: Sequence[Expr]) -> Expr:
    """Whether keys a come before keys b, the first ones that differ deciding."""
    less = op("lt", a[-1], b[-1])
    for x, y in zip(reversed(a[:-1]), reversed(b[:-1]), strict=True):
        less = op("or", op("lt", x, y), op("and", op("eq", x, y), less))
    return less
