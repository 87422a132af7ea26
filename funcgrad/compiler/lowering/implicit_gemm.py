"""An implicit matrix product as a kernel, for targets without a library routine for its element type.

A tile of the result is a few rows of one panel of columns. Its sums are in scratch memory, in the first cache, and each
step in depth adds a row of the panel to every one of them, times one element of `a`.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.compiler.loops.language import Const, For, If, Index, IndexValue, Load, Name, Store, at, op
from funcgrad.compiler.lowering.kernel_builder import INT64, KernelBuilder, Launch, index_value, size_value
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn, Var
from funcgrad.ops.implicit_gemm import PANEL, Form

_ROWS = 4

Term = tuple[str, int | str]


def lower_implicit_gemm(eqn: JaxprEqn, operands: Sequence[Var], scheduling: Scheduling) -> Launch:
    """Return the kernel, an iteration of which computes one tile."""
    return _Writer(eqn.params["form"], eqn.outvars[0], *operands).kernel(scheduling.grain)


class _Writer(KernelBuilder):
    def __init__(self, form: Form, out: Var, a: Var, b: Var):
        super().__init__()
        self.form, self.dtype = form, out.aval.dtype
        self.a, self.b, self.out = self.input(a), self.input(b), self.output(out)
        self.sums = self.scratch(self.dtype, _ROWS * PANEL)

    def kernel(self, grain: int) -> Launch:
        form = self.form
        columns, column_c, column_b = form.columns
        self.width = PANEL if column_b == 1 else columns
        panels, tiles = -(-columns // PANEL), -(-form.m // _ROWS)
        extents = self.size("panels", panels), self.size("tiles", tiles)
        names = [f"g{i}" for i in range(len(form.groups))]
        within = [self.size(f"groups{i}", n) for i, (n, *_) in enumerate(form.groups[1:])]
        *groups, panel, tile = self.unravel([*names, "panel", "tile"], [*within, *extents])
        in_a, in_b, in_c = (
            [(g, self.stride(steps[i])) for g, steps in zip(groups, form.groups, strict=True)] for i in (1, 2, 3)
        )
        rows = [self._row(tile, r, in_a, in_c) for r in range(_ROWS)]
        self.body.append(For("z", _ROWS * PANEL, (Store(self.sums, at("z"), Const(0, self.dtype)),), "vector"))
        self._multiply(
            [start for _, start, _ in rows], self.stride(column_b), [*in_b, (panel, self.stride(form.panel))]
        )
        first = self.define(op("mul", index_value(panel), Const(PANEL, INT64)))
        rest = op("sub", size_value(self.size("columns", columns)), first)
        width = self.define(op("min", rest, Const(PANEL, INT64)))
        step = self.stride(column_c)
        for r, (number, _, place) in enumerate(rows):
            to = Index(((place.name, 1), (first.name, step), ("j", step)))
            value = Load(self.sums, Index((("j", 1),), r * PANEL), self.dtype)
            store = For("j", width.name, (Store(self.out, to, value),), "vector")
            self.body.append(If(op("lt", number, size_value("m")), (store,)))
        work = _ROWS * PANEL * form.k
        return self.launch(
            "implicit",
            ("gemm",),
            self.body,
            extent=form.number_of_groups * panels * tiles,
            grain=max(1, grain // max(1, work)),
        )

    def _row(self, tile: str, r: int, in_a: Sequence[Term], in_c: Sequence[Term]) -> tuple[Name, Name, Name]:
        """The number of a row of a tile, and its place in `a` and in the result; past the end, that of the last."""
        number = self.define(IndexValue(Index(((tile, _ROWS),), r)))
        last = op("sub", size_value(self.size("m", self.form.m)), Const(1, INT64))
        rest: Name = self.define(op("min", number, last))
        in_a, in_c = [*in_a], [*in_c]
        for n, step_a, step_c in reversed(self.form.rows[1:]):
            extent = size_value(self.new_size("n", n))
            index, rest = self.define(op("rem", rest, extent)), self.define(op("div", rest, extent))
            in_a.append((index.name, self.stride(step_a)))
            in_c.append((index.name, self.stride(step_c)))
        _, step_a, step_c = self.form.rows[0]
        in_a.append((rest.name, self.stride(step_a)))
        in_c.append((rest.name, self.stride(step_c)))
        start, place = (self.define(IndexValue(Index(tuple(terms)))) for terms in (in_a, in_c))
        return number, start, place

    def _multiply(self, rows: Sequence[Name], column_b: int | str, in_b: list[Term]) -> None:
        """Add all products to the sums."""
        names = [f"k{d}" for d in range(len(self.form.depth))]
        in_a = [(name, self.stride(step)) for name, (_, step, _) in zip(names, self.form.depth, strict=True)]
        in_b += [(name, self.stride(step)) for name, (*_, step) in zip(names, self.form.depth, strict=True)]
        start_a = self.offset(self.form.starts[0])
        with self.block() as body:
            factors = [self.define(Load(self.a, Index(((row.name, 1), *in_a), start_a), self.dtype)) for row in rows]
            with self.block() as inner:
                right = self.define(
                    Load(self.b, Index((*in_b, ("i", column_b)), self.offset(self.form.starts[1])), self.dtype)
                )
                for r, factor in enumerate(factors):
                    place = Index((("i", 1),), r * PANEL)
                    total = op("add", Load(self.sums, place, self.dtype), op("mul", factor, right))
                    self.body.append(Store(self.sums, place, total))
            self.body.append(For("i", self.width, tuple(inner), "vector"))
        for name, (n, _, _) in reversed(list(zip(names, self.form.depth, strict=True))):
            body = [For(name, self.new_size("d", n), tuple(body))]
        self.body += body
