"""The k least integers of each block of a row as a kernel.

A short ascending list holds the least elements so far. Most elements are larger than the last one of the list, and
`CHUNK` of them at a time are compared with it in SIMD.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.loops.language import Const, Expr, For, If, Index, Init, Load, Name, Store, Update, at, op
from funcgrad.compiler.lowering.kernel_builder import INT64, Launch, build, index_value, size_value
from funcgrad.compiler.lowering.row_kernels import RowKernel, number, operand_rows, stored_sources, value_of
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.dtypes import int32

CHUNK = 64


def lower_least(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> list[Launch]:
    """Return the kernel, an iteration of which handles one block."""
    return [_Writer(eqn, accesses[0]).kernel(scheduling.grain)]


class _Writer(RowKernel):
    def __init__(self, eqn: JaxprEqn, access: Access):
        super().__init__()
        self.eqn, (self.rows,) = eqn, operand_rows(eqn, [access])
        self.dtype = eqn.invars[0].aval.dtype
        (source,) = stored_sources([access])
        self.x = self.rows_of(source, self.rows)
        self.length = size_value(self.size("n", self.rows.length))
        self.k = size_value(self.size("k", eqn.params["k"]))
        self.keys, self.positions = self.scratch(self.dtype, "k"), self.scratch(int32, "k")

    def kernel(self, grain: int) -> Launch:
        step, k = self.eqn.params["block"], self.eqn.params["k"]
        blocks = -(-self.rows.length // step)
        p, size = index_value("p"), size_value(self.size("blocks", blocks))
        row, block = self.define(op("div", p, size)), op("rem", p, size)
        start = self.define(op("mul", block, size_value(self.size("step", step))))
        width = self.width(start, self.length, size_value("step"))
        self.place_of, self.start = self.place(row, self.rows, 1), start
        greatest = Const(np.iinfo(self.dtype).max, self.dtype)
        past = build.cast(op("add", start, value_of("f")), int32)
        fill = (Store(self.keys, at("f"), greatest), Store(self.positions, at("f"), past))
        self.body.append(For("f", "k", fill, "vector"))
        first = self.define(op("min", self.k, width))
        with self.block() as inner:
            self._insert(self.define(self.x.load(self.place_of, start.name, "i")), ["i"], self.define(value_of("i")))
        self.body.append(For("i", first.name, tuple(inner)))
        self._rest(first, width)
        first_out = self.define(op("mul", p, self.k)).name
        keys, positions = self.eqn.outvars
        out = (
            Store(self.output(keys), at(first_out, "o"), Load(self.keys, at("o"), self.dtype)),
            Store(self.output(positions), at(first_out, "o"), Load(self.positions, at("o"), int32)),
        )
        self.body.append(For("o", "k", out, "vector"))
        extent = self.rows.number * blocks
        return self.launch("least", (), self.body, extent=extent, grain=max(1, grain // max(1, 2 * step + k * k)))

    def _rest(self, first: Name, width: Name) -> None:
        """Insert what is less than the last of the list, from position `first` on."""
        last = self.define(op("sub", self.k, number(1)))
        rest = self.define(op("sub", width, first))
        chunks = self.define(op("div", rest, number(CHUNK)))
        with self.block() as body:
            begin = self.define(op("add", first, op("mul", value_of("c"), number(CHUNK)))).name
            self.body.append(Init("low", Const(np.iinfo(self.dtype).max, self.dtype)))
            x = self.x.load(self.place_of, self.start.name, begin, "m")
            self.body.append(For("m", CHUNK, (Update("low", "min", x),), "vector"))
            with self.block() as found:
                self.body.append(self._each("e", CHUNK, begin, last))
            self.body.append(If(op("lt", Name("low", self.dtype), self._last(last)), tuple(found)))
        self.body.append(For("c", chunks.name, tuple(body)))
        begin = self.define(op("add", first, op("mul", chunks, number(CHUNK)))).name
        tail = self.define(op("sub", width, value_of(begin))).name
        self.body.append(self._each("t", tail, begin, last))

    def _last(self, last: Name) -> Expr:
        return Load(self.keys, at(last.name), self.dtype)

    def _each(self, i: str, extent: int | str, begin: str, last: Name) -> For:
        with self.block() as body:
            x = self.define(self.x.load(self.place_of, self.start.name, begin, i))
            with self.block() as insert:
                self._insert(x, [begin, i], last)
            self.body.append(If(op("lt", x, self._last(last)), tuple(insert)))
        return For(i, extent, tuple(body))

    def _insert(self, x: Name, along: Sequence[str], top: Name) -> None:
        """Put an element in its place of a list that ends at `top`; what is there moves up by one."""
        suffix = self.number()
        rank, z, s = f"rank{suffix}", f"z{suffix}", f"s{suffix}"
        self.body.append(Init(rank, number(0)))
        before = build.cast(op("le", Load(self.keys, at(z), self.dtype), x), INT64)
        self.body.append(For(z, top.name, (Update(rank, "add", before),), "vector"))
        to = self.define(Name(rank, INT64)).name
        moved = self.define(op("sub", top, value_of(to))).name
        above, below = (Index(((top.name, 1), (s, -1)), offset) for offset in (0, -1))
        shift = tuple(Store(t, above, Load(t, below, d)) for t, d in ((self.keys, self.dtype), (self.positions, int32)))
        self.body.append(For(s, moved, shift))
        self.body.append(Store(self.keys, at(to), x))
        position = op("add", self.start, op("add", *map(value_of, along)) if len(along) > 1 else value_of(along[0]))
        self.body.append(Store(self.positions, at(to), build.cast(position, int32)))
