"""Scatters → loops: the kernels of scatter and dynamic_update_slice, which combine windows of updates into an array.

Each kernel writes into a copy of the operand, which is there already, or into the operand itself (see `updates`). The
result has the same bits for every number of threads. Three forms, chosen by sizes:

- *apart*: one window, or windows that are promised not to overlap. All elements of all windows are independent.
- *in order*: windows may overlap. They are written one after the other. Where windows are rows, each thread goes over
  all of them and writes those that begin in its ranges of the operand; where they are columns, it writes some rows.
- *partial*: many updates for each place. Blocks of windows, whose number depends on sizes alone, are folded into
  arrays of their own, sums in float64, and these are then combined with the operand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.loops.language import Const, Expr, For, If, Index, Load, Name, Stmt, Store, op, unique_indices
from funcgrad.compiler.lowering.kernel_builder import (
    INT64,
    KernelBuilder,
    Launch,
    build,
    clamped,
    index_value,
    size_value,
)
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import JaxprEqn, Literal, Var
from funcgrad.core.lowering import Scatter, contiguous
from funcgrad.ops.accumulation import widest
from funcgrad.ops.reductions import highest, lowest

# With so many updates for each place, sums continue in float64; so many updates are worth partial results.
_MANY = 8
_FEW = 128
# A partial result takes at least so many updates for each of its elements, which must be written and read once.
_UPDATES_OF_PART = 4
# Windows of so many elements are worth that every thread goes over all of them and writes those in its ranges.
_ROW = 128
_RANGES = 8
# Elements of the operand that take the partial results together.
_BLOCK = 1024

_IDENTITY = {"add": lambda dtype: 0, "sub": lambda dtype: 0, "mul": lambda dtype: 1, "min": highest, "max": lowest}
_FOLD = {"sub": "add"}


def lower_scatter(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> list[Launch]:
    """Return the kernels of a scatter; the last one writes into the result, which holds the operand already."""
    *before, last = _kernels(eqn, accesses, scheduling)
    operand = accesses[0].source
    assert isinstance(operand, Var)
    return [*before, last._replace(replaces=((eqn.outvars[0], operand),))]


def _kernels(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> list[Launch]:
    writer = _Writer(eqn, accesses)
    if writer.apart:
        return [writer.all_at_once(scheduling)]
    size, total = writer.out.aval.size, writer.count * math.prod(writer.window)
    many = total > _FEW and total >= _MANY * size
    parts = min(writer.count, scheduling.max_partial_folds, total // max(scheduling.grain, _UPDATES_OF_PART * size))
    if writer.form.combine and many and (parts > 1 or writer.wide != writer.out.aval.dtype):
        partial = Var(ShapedArray((max(1, parts), size), writer.wide))
        return [writer.partial(partial), _Writer(eqn, accesses).combine(partial, scheduling)]
    return [writer.in_order(scheduling)]


class Range(NamedTuple):
    """A part of a dimension, from a position to another."""

    axis: int
    low: Name
    high: Name


class _Writer(KernelBuilder):
    """Writes one kernel."""

    def __init__(self, eqn: JaxprEqn, accesses: Sequence[Access]):
        super().__init__()
        lowering, self.out = eqn.primitive.lowering, eqn.outvars[0]
        assert isinstance(lowering, Scatter)
        self.form = lowering.form_of(eqn)
        _, self.update, *starts = accesses
        self.starts = dict(zip(self.form.axes, starts, strict=True))
        self.whole = self.out.aval.shape
        rank, view = len(self.whole), self.update.view
        batch = len(view.shape) - rank
        self.window, self.window_strides = view.shape[batch:], view.strides[batch:]
        self.count, self.batch_stride = (view.shape[0], view.strides[0]) if batch else (1, 0)
        self.steps = contiguous(self.whole).strides
        self.dims = [d for d, n in enumerate(self.window) if n != 1]
        self.apart = self.count == 1 or self.form.unique
        dtype, combine = self.out.aval.dtype, self.form.combine
        self.wide = widest(dtype) if dtypes.is_float(dtype) and combine in ("add", "sub") else dtype
        self.extents = {d: self.size(f"n{d}", self.window[d]) for d in self.dims}

    # ------------------------------------------------------------------ forms

    def all_at_once(self, scheduling: Scheduling) -> Launch:
        """Windows are independent: the parallel loop is over all elements, but for rows in a vector loop."""
        if len(self.dims) == self.count == 1 and self.form.drops:
            return self.one_row(scheduling)
        outer, row = (self.dims[:-1], self.dims[-1:]) if len(self.dims) > 1 or self.count > 1 else (self.dims, [])
        loops = {"b": self.count} if self.count > 1 else {}
        names = self.parallel(loops | {f"i{d}": self.window[d] for d in outer})
        place: dict[int, tuple[str, ...]] = {d: (names[f"i{d}"],) for d in outer}
        self.write(self.updated(self.out), (names["b"],) if loops else (), place, row)
        extent = math.prod(loops.values()) * math.prod(self.window[d] for d in outer)
        return self.finish(extent, math.prod(self.window[d] for d in row), scheduling)

    def one_row(self, scheduling: Scheduling) -> Launch:
        """One window, a row that may be dropped: in pieces, so that vector loops do not test where it begins."""
        (d,) = self.dims
        first = self.define(op("mul", index_value("p"), Const(_BLOCK, INT64)), "first")
        left = op("sub", size_value(self.size(f"n{d}", self.window[d])), first)
        self.define(op("min", Const(_BLOCK, INT64), left), "width")
        self.extents[d] = "width"
        self.write(self.updated(self.out), (), {d: ("first", f"i{d}")}, [d])
        return self.finish(-(-self.window[d] // _BLOCK), min(_BLOCK, self.window[d]), scheduling)

    def in_order(self, scheduling: Scheduling) -> Launch:
        """One window after the other; the parallel loop is over ranges of the operand, or parts that windows share."""
        length, columns = math.prod(self.window), self.columns()
        axis = None if columns else self.axis_of_ranges(scheduling)
        # Along a dimension that windows move in, one part of a window may be another one of the next.
        inner = [] if axis is not None else [d for d in self.dims[:-1] if d not in self.form.axes]
        outer = columns or inner
        loops = {"part": _RANGES} if axis is not None else {f"i{d}": self.window[d] for d in outer}
        names = self.parallel(loops)
        within = None if axis is None else self.range_of(axis, names["part"])
        with self.block() as body:
            place: dict[int, tuple[str, ...]] = {d: (names[f"i{d}"],) for d in outer}
            self.write(self.updated(self.out), ("b",), place, [d for d in self.dims if d not in outer], within=within)
        self.body.append(For("b", self.size("windows", self.count), tuple(body), "serial"))
        extent = math.prod(loops.values())
        return self.finish(extent, self.count * length // extent, scheduling)

    def columns(self) -> list[int]:
        """The dimensions of windows, if they are outside of all that windows move in and are worth threads."""
        outside = all(d < min(self.form.axes, default=0) for d in self.dims)
        return self.dims if outside and math.prod(self.window) >= _RANGES else []

    def axis_of_ranges(self, scheduling: Scheduling) -> int | None:
        """The longest dimension that can be cut into ranges, each of which has all of a window or nothing of it."""
        length = math.prod(self.window)
        axes = [d for d in self.form.axes if self.window[d] == 1 and self.whole[d] >= 2 * _RANGES]
        pays = length >= _ROW and self.count * length >= 2 * scheduling.grain
        return max(axes, key=self.whole.__getitem__) if axes and pays else None

    def range_of(self, axis: int, number: str) -> Range:
        """Define where a range of a dimension begins and ends."""
        length = size_value(self.size("span", -(-self.whole[axis] // _RANGES)))
        low = self.define(op("mul", index_value(number), length), "low")
        return Range(axis, low, self.define(op("add", low, length), "high"))

    def partial(self, partial: Var) -> Launch:
        """Blocks of windows: the parallel loop is over them, each is folded into an array of its own."""
        (parts, size), dtype, combine = partial.aval.shape, partial.aval.dtype, self.form.combine
        into, length = self.output(partial), self.size("length", size)
        identity = Const(np.asarray(_IDENTITY[combine](dtype)).item(), dtype)
        self.body.append(For("j", length, (Store(into, Index((("p", length), ("j", 1))), identity),), "vector"))
        block = size_value(self.size("block", -(-self.count // parts)))
        first = self.define(op("mul", index_value("p"), block), "first")
        left = op("sub", size_value(self.size("windows", self.count)), first)
        self.define(op("max", op("min", block, left), Const(0, INT64)), "width")
        with self.block() as body:
            self.write(into, ("first", "b"), {}, self.dims, ("p", length), _FOLD.get(combine, combine))
        self.body.append(For("b", "width", tuple(body), "serial"))
        return self.launch("scatter_partial", [combine], self.body, extent=parts, grain=1)

    def combine(self, partial: Var, scheduling: Scheduling) -> Launch:
        """Fold the partial results, block by block of the operand, and combine them with it."""
        (parts, size), dtype, combine = partial.aval.shape, partial.aval.dtype, self.form.combine
        source, length, out = self.input(partial), self.size("length", size), self.updated(self.out)
        total, here = self.scratch(dtype, _BLOCK), Index((("j", 1),))
        first = self.define(op("mul", index_value("p"), Const(_BLOCK, INT64)), "first")
        width = op("min", Const(_BLOCK, INT64), op("sub", size_value(length), first))
        self.define(width, "width")
        held, at = Load(total, here, dtype), Index((("first", 1), ("j", 1)))
        more = Load(source, Index((("q", length), *at.terms), length), dtype)
        fold = Store(total, here, op(_FOLD.get(combine, combine), held, more))
        write = Store(out, at, self.combined(combine, Load(out, at, self.out.aval.dtype), held))
        start = Store(total, here, Load(source, at, dtype))
        self.body += [
            For("j", "width", (start,), "vector"),
            For("q", self.size("more", parts - 1), (For("j", "width", (fold,), "vector"),), "serial"),
            For("j", "width", (write,), "vector"),
        ]
        return self.launch("scatter_combine", [combine], unique_indices(self.body), extent=-(-size // _BLOCK), grain=1)

    # ------------------------------------------------------------------ parts of them

    def parallel(self, loops: dict[str, int]) -> dict[str, str]:
        """Recover the indices of loops from the parallel one; return their names."""
        names = list(loops)
        extents = [self.size(f"m_{name}", loops[name]) for name in names[1:]]
        return dict(zip(names, self.unravel(names, extents), strict=True))

    def finish(self, extent: int, work: int, scheduling: Scheduling) -> Launch:
        grain = max(1, scheduling.grain // max(1, work))
        return self.launch("scatter", [self.form.combine or "set"], self.body, extent=extent, grain=grain)

    def write(
        self,
        into: str,
        window: tuple[str, ...],
        place: dict[int, tuple[str, ...]],
        row: Sequence[int],
        base: tuple[str, str] | None = None,
        combine: str | None = None,
        within: Range | None = None,
    ) -> None:
        """Write the statements that combine one window of updates into a parameter.

        `window` are the names whose sum is its number, `place` those of its dimensions that have loops outside, `row`
        the others; `base` is the index and the stride of the array in the parameter. Windows that do not begin in the
        range `within` are left out.
        """
        starts, inside = self.window_start(window, within)
        place = {d: (f"i{d}",) for d in row} | place
        names = [(name, d) for d in self.dims for name in place[d]]
        batch = [(name, self.stride(self.batch_stride)) for name in window]
        value = self.load(self.update, [*batch, *((n, self.stride(self.window_strides[d])) for n, d in names)])
        at = Index((*([base] if base else []), *starts, *((n, self.stride(self.steps[d])) for n, d in names)))
        dtype = next(p.dtype for p in self.params if p.name == into)
        combine = self.form.combine if combine is None else combine
        statement: Stmt = Store(into, at, self.combined(combine, Load(into, at, dtype), value) if combine else value)
        for i, d in enumerate(reversed(row)):
            statement = For(f"i{d}", self.extents[d], (statement,), "serial" if i else "vector")
        self.body.append(statement if inside is None else If(inside, (statement,)))

    def window_start(
        self, window: tuple[str, ...], within: Range | None
    ) -> tuple[list[tuple[str, int | str]], Expr | None]:
        """Where a window begins: a term for each dimension that has a start, and whether it is written at all."""
        terms, tests = [], []
        for d, access in self.starts.items():
            strides = access.view.strides
            at = [(name, self.stride(strides[0])) for name in window] if strides else []
            start = self.load(access, at)
            last = size_value(self.size(f"last{d}", self.whole[d] - self.window[d]))
            if self.form.drops:
                begin = self.define(build.cast(start, INT64))
                tests += [op("ge", begin, Const(0, INT64)), op("le", begin, last)]
            else:
                begin = self.define(clamped(start, last))
            if within is not None and d == within.axis:
                tests += [op("ge", begin, within.low), op("lt", begin, within.high)]
            terms.append((begin.name, self.stride(self.steps[d])))
        return terms, functools.reduce(lambda a, b: op("and", a, b), tests) if tests else None

    def combined(self, combine: str, old: Expr, new: Expr) -> Expr:
        """Return the combination of two elements, computed in the wider type, in the type of the first."""
        wide = new.dtype if dtypes.is_float(new.dtype) and new.dtype.itemsize > old.dtype.itemsize else old.dtype
        return build.cast(op(combine, build.cast(old, wide), build.cast(new, wide)), old.dtype)

    def load(self, access: Access, terms: Sequence[tuple[str, int | str]]) -> Expr:
        """Return an element of what an operand reads."""
        source = access.source
        if isinstance(source, Literal):
            return Const(np.asarray(source.val).item(), source.aval.dtype)
        index = Index(tuple(t for t in terms if t[1] != 0), self.offset(access.view.offset))
        return Load(self.input(source), index, dtypes.real_dtype(source.aval.dtype))
