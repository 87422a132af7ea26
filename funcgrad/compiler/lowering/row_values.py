"""Row values between phases: scalars in the row form, short arrays over a block of columns in the column form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler.loops.language import Const, Expr, For, Index, Init, Load, Name, Stmt, Store, Update, op
from funcgrad.compiler.lowering.analysis import is_rounded_sum, reduction_of
from funcgrad.compiler.lowering.kernel_builder import build
from funcgrad.compiler.lowering.nest import NestWriter
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.lowering import Complex, contiguous
from funcgrad.dtypes import float64


class PhaseWriter(NestWriter):
    """A kernel that is written phase by phase, as far as row values know it."""

    def expression(self, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
        """Return an equation's value, given those of its operands."""
        raise NotImplementedError

    def operand(self, atom: Atom, level: str, env: dict[Var, Expr], rows: Any, eqn: JaxprEqn, place: int) -> Expr:
        """Return the value of an operand where it is read."""
        raise NotImplementedError

    def fold_input(self, eqn: JaxprEqn, env: dict[Var, Expr], form: Any) -> Expr:
        """Return the value that a fold takes at a point."""
        raise NotImplementedError


class Fold(NamedTuple):
    """Statements of the folds of a phase: before their loops, at the start and the end of each block, and after."""

    before: list[Stmt]
    start: list[Stmt]
    end: list[Stmt]
    after: list[Stmt]


class RowValues:
    """Row values of the row form: scalars between the phases."""

    def __init__(self, writer: PhaseWriter):
        self.w = writer
        self.env: dict[Var, Expr] = {}
        self.partial: dict[JaxprEqn, Var] = {}

    def read(self, var: Var) -> Expr:
        return self.env[var]

    def accumulate(self, folds: Sequence[JaxprEqn], env: dict[Var, Expr], inputs: Any = None) -> Fold:
        fold = Fold([], [], [], [])
        for eqn in folds:
            lowering, out = reduction_of(eqn), eqn.outvars[0]
            value = inputs[eqn] if inputs else self.w.fold_input(eqn, env, self)
            total = Name(f"a{self.w.fresh()}", value.dtype)
            init = Init(total.name, Const(lowering.identity(value.dtype).item(), value.dtype))
            self.w.body.append(Update(total.name, lowering.op, value))
            if self.w.block_of_sums is not None and is_rounded_sum(eqn):
                block, total = total, Name(f"a{self.w.fresh()}", float64)
                fold.before.append(Init(total.name, Const(0, float64)))
                fold.start.append(init)
                fold.end.append(Update(total.name, lowering.op, build.cast(block, float64)))
            else:
                fold.before.append(init)
            narrow = build.cast(total, value.dtype)
            if eqn in self.partial:
                param = self.w.output(self.partial[eqn])
                fold.after.append(Store(param, partial_index(self.w), narrow))
                continue
            with self.w.block() as after:
                self.env[out] = self.w.define(build.cast(narrow, out.aval.dtype))
                self.w.store(out, self.env[out])
            fold.after.extend(after)
        return fold

    def rows(self, phase: int) -> None:
        """Write the row values that become known before a phase."""
        info = self.w.info
        for v, eqn in info.made.items():
            if info.level[v] != "row" or info.phase[v] != phase or eqn in info.folds:
                continue
            operands = [self.w.operand(u, "row", self.env, self, eqn, i) for i, u in enumerate(eqn.invars)]
            if isinstance(eqn.primitive.lowering, Complex):
                self.w.store_parts(v, operands)
                continue
            name = self.w.fresh()
            self.env[v] = self.w.define(self.w.expression(eqn, operands), name)
            self.w.store(v, self.env[v])


class ColumnValues:
    """Row values of the column form: arrays over the block of columns, in scratch."""

    def __init__(self, writer: PhaseWriter):
        self.w = writer
        self.arrays: dict[Var, str] = {}
        self.partial: dict[JaxprEqn, Var] = {}

    def _array(self, dtype: np.dtype) -> str:
        return self.w.scratch(dtype, "width")

    def read(self, var: Var) -> Expr:
        return Load(self.arrays[var], Index((("j", 1),)), var.aval.dtype)

    def _loop(self, body: list[Stmt]) -> list[Stmt]:
        return [For("j", "j_width", tuple(body), "vector")] if body else []

    def accumulate(self, folds: Sequence[JaxprEqn], env: dict[Var, Expr], inputs: Any = None) -> Fold:
        fold = Fold([], [], [], [])
        at = Index((("j", 1),))
        for eqn in folds:
            lowering, out = reduction_of(eqn), eqn.outvars[0]
            value = inputs[eqn] if inputs else self.w.fold_input(eqn, env, self)
            array, dtype = self._array(value.dtype), value.dtype
            init = Store(array, at, Const(lowering.identity(dtype).item(), dtype))
            self.w.body.append(Store(array, at, op(lowering.op, Load(array, at, dtype), value)))
            total = Load(array, at, dtype)
            if self.w.block_of_sums is not None and is_rounded_sum(eqn):
                block, total = total, Load(self._array(float64), at, float64)
                fold.before.append(Store(total.param, at, Const(0, float64)))
                fold.start.append(init)
                added = op(lowering.op, total, build.cast(block, float64))
                fold.end.append(Store(total.param, at, added))
            else:
                fold.before.append(init)
            narrow = build.cast(total, dtype)
            if eqn in self.partial:
                param = self.w.output(self.partial[eqn])
                fold.after.append(Store(param, partial_index(self.w), narrow))
                continue
            self.arrays[out] = array if dtype == out.aval.dtype else self._array(out.aval.dtype)
            if self.arrays[out] != total.param:
                fold.after.append(Store(self.arrays[out], at, build.cast(narrow, out.aval.dtype)))
            with self.w.block() as after:
                self.w.store(out, self.read(out))
            fold.after.extend(after)
        return Fold(*map(self._loop, fold))

    def rows(self, phase: int) -> None:
        """Write the loop over the row values that become known before a phase."""
        with self.w.block() as body:
            self._rows(phase)
        self.w.body += self._loop(body)

    def _rows(self, phase: int) -> None:
        info, env = self.w.info, {}
        for v, eqn in info.made.items():
            if info.level[v] != "row" or info.phase[v] != phase or eqn in info.folds:
                continue
            operands = []
            for i, u in enumerate(eqn.invars):
                source: Any = info.fusion.accesses[eqn][i].source
                operands.append(env[source] if source in env else self._row_operand(u, eqn, i))
            if isinstance(eqn.primitive.lowering, Complex):
                self.w.store_parts(v, operands)
                continue
            name = self.w.fresh()
            env[v] = self.w.define(self.w.expression(eqn, operands), name)
            self.arrays[v] = self._array(v.aval.dtype)
            self.w.body.append(Store(self.arrays[v], Index((("j", 1),)), env[v]))
            self.w.store(v, self.read(v))

    def _row_operand(self, atom: Atom, eqn: JaxprEqn, place: int) -> Expr:
        source: Any = self.w.info.fusion.accesses[eqn][place].source
        if source in self.w.info.made:
            return self.read(source)
        return self.w.operand(atom, "row", {}, self, eqn, place)


def partial_index(w: NestWriter) -> Index:
    """Where a partial result stands: [part, rows…], contiguous."""
    rows = [i for i, d in enumerate(w.nest.dimensions) if not d.folded]
    steps = contiguous((w.fold_blocks, *(w.nest.dimensions[i].extent for i in rows))).strides
    terms: list[tuple[str, int | str]] = [(w.part_names["fold"], w.stride(steps[0]))]
    for i, step in zip(rows, steps[1:], strict=True):
        symbol = w.stride(step)
        terms += [(name, symbol) for name, _ in w.position[i]]
    return Index(tuple(terms))
