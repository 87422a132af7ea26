"""Kernels of operations that work along the one-dimensional slices of an array, its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access, Rows, row_axis, rows
from funcgrad.compiler.loops.language import Const, Expr, Index, IndexValue, Load, Name, Stmt, Store, op
from funcgrad.compiler.lowering.kernel_builder import INT64, KernelBuilder, size_value
from funcgrad.core.jaxprs import JaxprEqn, Var
from funcgrad.core.lowering import contiguous


class Place(NamedTuple):
    """Which row: the names of its indices before and after the axis, None where there is one row only."""

    outer: str | None
    inner: str | None


class Buffer(NamedTuple):
    """A parameter, and how the rows in it are addressed: by strides before, along and after the axis, and an offset."""

    param: str
    dtype: np.dtype
    strides: tuple[int | str, int | str, int | str]
    offset: int | str | tuple[int | str, ...]

    def at(self, place: Place, *along: str) -> Index:
        """The index of the element of a row whose position along the axis is the sum of indices."""
        outer, step, inner = self.strides
        terms = [(place.outer, outer), *((name, step) for name in along), (place.inner, inner)]
        return Index(tuple((name, s) for name, s in terms if name is not None and s != 0), self.offset)

    def load(self, place: Place, *along: str) -> Expr:
        """Read an element of a row."""
        return Load(self.param, self.at(place, *along), self.dtype)

    def store(self, value: Expr, place: Place, *along: str) -> Stmt:
        """Write an element of a row."""
        return Store(self.param, self.at(place, *along), value)


def operand_rows(eqn: JaxprEqn, accesses: list[Access]) -> list[Rows]:
    """The rows of each operand of an operation."""
    found = [rows(a.view, row_axis(eqn)) for a in accesses]
    assert None not in found  # fusion copies operands that have none
    return [r for r in found if r is not None]


def stored_sources(accesses: Sequence[Access]) -> list[Var]:
    """Return the variables that hold the operands; fusion stores operands that are literals."""
    sources = [a.source for a in accesses if isinstance(a.source, Var)]
    assert len(sources) == len(accesses)
    return sources


def result_rows(var: Var, axis: int) -> Rows:
    """The rows of a result, which is in row-major order."""
    found = rows(contiguous(var.aval.shape), axis)
    assert found is not None
    return found


class RowKernel(KernelBuilder):
    """Writes a kernel over rows."""

    def rows_of(self, source: Var, layout: Rows) -> Buffer:
        """The rows of an operand."""
        return self.buffer(self.input(source), dtypes.real_dtype(source.aval.dtype), layout)

    def buffer(self, param: str, dtype: np.dtype, layout: Rows) -> Buffer:
        """The rows in a parameter."""
        outer, step, inner = map(self.stride, layout.strides)
        return Buffer(param, dtype, (outer, step, inner), self.offset(layout.offset))

    def place(self, row: Expr, layout: Rows, inner: int | str) -> Place:
        """Find the indices of a row from its number; `inner` is the size of all dimensions after the axis."""
        if layout.number == 1:
            return Place(None, None)
        if layout.inner == 1:
            return Place(self.define(row).name, None)
        number = self.define(row)
        outer = None if layout.outer == 1 else self.define(op("div", number, size_value(inner))).name
        return Place(outer, self.define(op("rem", number, size_value(inner))).name)

    def width(self, start: Expr, total: Expr, most: Expr) -> Name:
        """The number of elements from `start` to `total`, at least 0 and at most `most`."""
        return self.define(op("clamp", Const(0, INT64), op("sub", total, start), most))


def number(value: int) -> Expr:
    """An int64 constant."""
    return Const(value, INT64)


def value_of(name: str) -> Expr:
    """The value of a loop index."""
    return IndexValue(Index(((name, 1),)))
