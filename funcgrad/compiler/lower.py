"""groups → loops: write a group's equations as the loop nest that `schedule` chose.

Full values are computed in vector loops, in *phases*: a fold's result is known after the phase that folds it, so what
depends on it belongs to a later one. A full value made in one phase and wanted in a later one is computed again when
that is cheap (its inputs are in the first cache), else kept in a scratch row. Row values stand between phases: scalars
in the row form, short arrays in the column form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler import schedule as sch
from funcgrad.compiler.fuse import Access, Fusion, Group, domain_of, level_of, without_units
from funcgrad.compiler.loops import (
    Const,
    Expr,
    For,
    Index,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    Name,
    Param,
    Stmt,
    Store,
    Update,
    check,
    op,
    unique_indices,
)
from funcgrad.compiler.scalars import SCALARS
from funcgrad.config import config
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Concatenate, Gather, Iota, Pad, Reduce, Scalar, Strided, contiguous

# Operations worth a place in scratch rather than a second evaluation.
_COSTLY = {name for name, s in SCALARS.items() if s.vector_math} | {"div", "sqrt", "rem"}


class Launch(NamedTuple):
    """A kernel and what one instruction calls it with: a variable per parameter (None for scratch), sizes, chunks."""

    kernel: Kernel
    operands: tuple[Var | None, ...]
    sizes: tuple[int, ...]
    extent: int
    grain: int


class Builder:
    """Builds scalar expressions; what `Scalar` lowerings are written with."""

    def op(self, name: str, *args: Expr, dtype: np.dtype | None = None) -> Expr:
        return op(name, *args, dtype=dtype)

    def const(self, value: Any, dtype: np.dtype) -> Expr:
        return Const(value, dtype)

    def cast(self, x: Expr, dtype: np.dtype) -> Expr:
        return x if x.dtype == dtype else op("cast", x, dtype=dtype)


_builder = Builder()
# Numbers up to this are taken for part of the formula, larger whole ones for sizes.
_LIKE_A_SIZE = 16
INT64 = dtypes.int64


def lower_group(fusion: Fusion, group: Group, stored: set[Var]) -> list[Launch]:
    """Return the kernels of a loop group: one, or two where a long fold is cut."""
    nest = _Nest(fusion, group, stored)
    blocks = nest.partial_blocks()
    launches = nest.cut(blocks) if blocks > 1 else [nest.whole()]
    if config.enable_checks:
        for launch in launches:
            check(launch.kernel)
    return launches


def accumulator_dtype(dtype: np.dtype) -> np.dtype:
    """Folds of 16-bit floats accumulate in float32."""
    return dtypes.float32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype


class _Nest:
    """What is known of a group before its loops are written: accesses, levels, phases."""

    def __init__(self, fusion: Fusion, group: Group, stored: set[Var]):
        self.fusion, self.group, self.stored = fusion, group, stored
        self.made = {v: e for e in group.eqns for v in e.outvars}
        self.folds = [e for e in group.eqns if isinstance(e.primitive.lowering, Reduce) and domain_of(e)[1]]
        self.level = {v: level_of(e, group, of_result=True) for v, e in self.made.items()}
        self.phase: dict[Var, int] = {}
        for eqn in group.eqns:
            self._set_phase(eqn)
        barriers = frozenset(range(len(group.domain))) if any(map(_positional, group.eqns)) else frozenset()
        strides = [self.full_strides(a, level_of(e, group)) for e in group.eqns for a in self.outside(e)]
        strides += [self.store_strides(v) for v in self.made if v in stored]
        self.dimensions = sch.collapse(group.domain, group.axes, strides, barriers)
        self.nest = sch.schedule(self.dimensions, strides)

    def _set_phase(self, eqn: JaxprEqn) -> None:
        phase = 0
        for source, _ in self.fusion.accesses(eqn):
            if isinstance(source, Var) and source in self.made:
                phase = max(phase, self.phase[source])
        folds = isinstance(eqn.primitive.lowering, Reduce) and bool(domain_of(eqn)[1])
        self.phase.update((v, phase + folds) for v in eqn.outvars)

    def outside(self, eqn: JaxprEqn) -> Iterable[Access]:
        """The operands of an equation that are read from memory, at the points of its own level."""
        if isinstance(eqn.primitive.lowering, (Pad, Concatenate, Gather)):
            return
        for access in self.fusion.accesses(eqn):
            if isinstance(access.source, Var) and access.source not in self.made:
                yield access

    def full_strides(self, access: Access, level: str) -> tuple[int, ...]:
        """Strides over the whole domain, 0 where an access does not move."""
        domain, axes = self.group.domain, self.group.axes
        view = without_units(access.view)
        if not view.shape:
            return (0,) * len(domain)
        if level == "full":
            return view.strides
        rows = iter(view.strides)
        return tuple(0 if d in axes else next(rows) for d in range(len(domain)))

    def store_strides(self, var: Var) -> tuple[int, ...]:
        """Strides with which a value is written, in its own order."""
        if self.level[var] == "full":
            return contiguous(self.group.domain).strides
        rows = iter(contiguous(self.group.row_shape).strides)
        return tuple(0 if d in self.group.axes else next(rows) for d in range(len(self.group.domain)))

    def cost(self) -> int:
        """Simple operations per element, roughly."""
        return 1 + sum(8 if _op_name(e) in _COSTLY else 1 for e in self.group.eqns) // 2

    def partial_blocks(self) -> int:
        """Into how many pieces the folds are cut; only folds that nothing full waits for can be."""
        waits = any(self.level[v] == "full" and self.phase[v] > 0 for v in self.made)
        second = any(self.phase[e.outvars[0]] > 1 for e in self.folds)
        return 0 if not self.folds or waits or second else sch.partial_blocks(self.nest)

    def whole(self) -> Launch:
        return _Writer(self, self.nest).whole()

    def cut(self, blocks: int) -> list[Launch]:
        """Fold blocks of the first folded dimension, then fold the results."""
        shape = (blocks, *(d.extent for d in self.dimensions if not d.folded))
        partial = {e: Var(ShapedArray(shape, accumulator_dtype(e.outvars[0].aval.dtype))) for e in self.folds}
        first = _Writer(self, self.nest, blocks).partial(partial)
        rows = [d for d in self.dimensions if not d.folded]
        rest = (sch.Dimension((), blocks, True), *rows)
        second = _Writer(self, sch.schedule(rest)).combine(partial)
        return [first, second]


def _positional(eqn: JaxprEqn) -> bool:
    """Whether an equation needs to know at which index it is computed."""
    return isinstance(eqn.primitive.lowering, (Pad, Concatenate, Gather, Iota))


def _reduction(eqn: JaxprEqn) -> Reduce:
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, Reduce)
    return lowering


def _op_name(eqn: JaxprEqn) -> str:
    lowering = eqn.primitive.lowering
    return lowering.op if isinstance(lowering, Scalar) and isinstance(lowering.op, str) else eqn.primitive.name


class _Writer:
    """Writes one kernel."""

    def __init__(self, info: _Nest, nest: sch.Nest, fold_blocks: int = 0):
        self.info, self.nest, self.fold_blocks = info, nest, fold_blocks
        self.params: list[Param] = []
        self.operands: list[Var | None] = []
        self.inputs: dict[Var, str] = {}
        self.sizes: dict[str, int] = {}
        self.extents = [self.size(d.extent, f"n{i}") for i, d in enumerate(nest.dimensions)]
        # The value of each dimension's index, in terms of loop variables and Lets.
        self.position: dict[int, tuple[tuple[str, int], ...]] = {}
        self.part_names: dict[str, str] = {}
        self.kept: dict[Var, str] = {}
        self.counter = 0

    # ------------------------------------------------------------------ parameters and sizes

    def size(self, value: int, name: str) -> str:
        self.sizes[name] = value
        return name

    def stride(self, value: int) -> int | str:
        """0, 1 and −1 are part of the kernel's form; other strides are arguments."""
        return value if value in (0, 1, -1) else self.size(value, f"s{len(self.sizes)}")

    def offset(self, value: int) -> int | str:
        return value if value == 0 else self.size(value, f"o{len(self.sizes)}")

    def input(self, var: Var) -> str:
        if var not in self.inputs:
            self.inputs[var] = self.parameter("x", var.aval.dtype, "in", var)
        return self.inputs[var]

    def parameter(self, letter: str, dtype: np.dtype, intent: Any, var: Var | None, extent: Any = None) -> str:
        name = f"{letter}{sum(p.name.startswith(letter) for p in self.params)}"
        self.params.append(Param(name, dtype, intent, extent))
        self.operands.append(var)
        return name

    def fresh(self) -> str:
        self.counter += 1
        return f"v{self.counter}"

    # ------------------------------------------------------------------ indices

    def index(self, strides: Sequence[int], offset: int = 0) -> Index:
        """The address of an access with one stride per original dimension of the domain."""
        terms: list[tuple[str, int | str]] = []
        for i, dim in enumerate(self.nest.dimensions):
            stride = strides[dim.members[-1]] if dim.members else 0
            if stride == 0:
                continue
            symbol = self.stride(stride)
            terms += [(name, symbol) for name, _ in self.position[i]]
        return Index(tuple(terms), self.offset(offset))

    def position_of(self, domain_dim: int) -> Expr:
        """The index along one dimension of the domain, as a value."""
        return IndexValue(Index(tuple((name, 1) for name, _ in self.position[self._loop_of(domain_dim)])))

    # ------------------------------------------------------------------ the parallel loop

    def open_parallel(self) -> list[Stmt]:
        """Lets that recover the indices of the outer dimensions from the parallel one; sets their positions."""
        nest = self.nest
        pieces: list[tuple[int | str, Any]] = [(i, self.extents[i]) for i in nest.outer]
        if nest.tile is not None:
            pieces.append(("tile", self.size(nest.tiles, "tiles")))
        if nest.block:
            pieces.append(("block", self.size(nest.blocks, "blocks")))
        if self.fold_blocks:
            pieces.insert(0, ("fold", self.size(self.fold_blocks, "parts")))
        if not pieces:
            return []
        lets: list[Stmt] = []
        where, rest = "p", IndexValue(Index((("p", 1),)))
        for key, extent in reversed(pieces[1:]):
            limit = IndexValue(Index((), extent))
            name = f"i{key}" if isinstance(key, int) else key
            lets.append(Let(name, op("rem", rest, limit)))
            where = self.fresh()
            lets.append(Let(where, op("div", rest, limit)))
            rest = Name(where, INT64)
            self._placed(key, name)
        self._placed(pieces[0][0], where)
        return lets + self._block_lets()

    def _placed(self, key: int | str, name: str) -> None:
        if isinstance(key, int):
            self.position[key] = ((name, 1),)
        else:
            self.part_names[key] = name

    def _block_lets(self) -> list[Stmt]:
        """Start and width of this iteration's block of columns, and of its part of the first fold."""
        names = self.part_names
        lets: list[Stmt] = []
        if "block" in names:
            step = self.size(self.nest.block, "width")
            lets += _range_lets("j", names["block"], step, self.extents[-1])
        if "tile" in names:
            assert self.nest.tile is not None
            lets += _range_lets("t", names["tile"], self.size(sch.TILE, "side"), self.extents[self.nest.tile])
        if "fold" in names:
            first = self.nest.folds[0]
            length = -(-self.nest.dimensions[first].extent // self.fold_blocks)
            lets += _range_lets("f", names["fold"], self.size(length, "part"), self.extents[first])
        return lets

    def vector_dimension(self) -> tuple[str, int | str]:
        """The index name and extent of the last dimension's loop."""
        last = len(self.nest.dimensions) - 1
        if self.nest.block:
            return "j", "j_width"
        if self.fold_blocks and self.nest.folds and self.nest.folds[0] == last:
            return "f", "f_width"
        return f"i{last}", self.extents[last]

    def loops(self, body: list[Stmt], dims: Sequence[int]) -> list[Stmt]:
        """Wrap a body in loops over the given dimensions, the last one a vector loop."""
        last = len(self.nest.dimensions) - 1
        for depth, i in enumerate(reversed(dims)):
            kind = "vector" if depth == 0 else "serial"
            if i == last:
                name, extent = self.vector_dimension()
            elif self.fold_blocks and i == self.nest.folds[0]:
                name, extent = "f", "f_width"
            elif i == self.nest.tile:
                name, extent = "t", "t_width"
            else:
                name, extent = f"i{i}", self.extents[i]
            body = [For(name, extent, tuple(body), kind)]
        return body

    def set_loop_positions(self, dims: Sequence[int]) -> None:
        last = len(self.nest.dimensions) - 1
        for i in dims:
            if i == last and self.nest.block:
                self.position[i] = (("j_start", 1), ("j", 1))
            elif self.fold_blocks and i == self.nest.folds[0]:
                self.position[i] = (("f_start", 1), ("f", 1))
            elif i == self.nest.tile:
                self.position[i] = (("t_start", 1), ("t", 1))
            else:
                self.position[i] = ((f"i{i}", 1),)

    # ------------------------------------------------------------------ expressions

    def literal(self, atom: Literal) -> Expr:
        """A constant: written into the kernel, unless it looks like a size (128, or 1/128 in a mean).

        Sizes are arguments, so that the kernel of another batch size is the same kernel.
        """
        dtype = atom.aval.dtype
        value = float(np.asarray(atom.val)) if dtypes.is_float(dtype) else np.asarray(atom.val).item()
        if not _LIKE_A_SIZE < abs(value) < 2**24 or value != int(value):
            inverse = 1 / value if value else 0.0
            whole = round(inverse) if _LIKE_A_SIZE < abs(inverse) < 2**24 else 0
            decimal = str(abs(whole)).strip("0") == "1"  # 0.001 is a constant of the formula, 1/128 a size
            if whole and not decimal and dtype.itemsize >= 4 and dtype.type(1) / dtype.type(whole) == value:
                return op("div", Const(1, dtype), self._argument(whole, dtype))
            return Const(value, dtype)
        return self._argument(int(value), dtype) if dtype.itemsize >= 4 else Const(value, dtype)

    def _argument(self, value: int, dtype: np.dtype) -> Expr:
        return _builder.cast(IndexValue(Index((), self.size(value, f"c{len(self.sizes)}"))), dtype)

    def load(self, access: Access, level: str) -> Expr:
        if isinstance(access.source, Literal):
            return self.literal(access.source)
        strides = self.info.full_strides(access, level)
        param = self.input(access.source)
        return Load(param, self.index(strides, access.view.offset), access.source.aval.dtype)

    def expression(self, eqn: JaxprEqn, operands: Sequence[Expr], body: list[Stmt]) -> Expr:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Scalar):
            if isinstance(lowering.op, str):
                return op(lowering.op, *operands)
            return lowering.op(_builder, *operands, **eqn.params)
        if isinstance(lowering, Iota):
            return self._iota(eqn)
        if isinstance(lowering, Pad):
            return self._pad(eqn, operands, body)
        if isinstance(lowering, Concatenate):
            return self._concatenate(eqn)
        if isinstance(lowering, Gather):
            return self._dynamic_slice(eqn, operands, body)
        return operands[0]  # a view that is copied, or a fold over axes of size 1

    def _loop_of(self, domain_dim: int) -> int:
        """The loop that runs over one dimension of the domain (dimensions are not joined where this is asked)."""
        return next(i for i, d in enumerate(self.nest.dimensions) if d.members == (domain_dim,))

    def _axis(self, eqn: JaxprEqn) -> dict[int, int]:
        """From dimensions of the result to dimensions of the domain; those of size 1 have none."""
        shape = eqn.outvars[0].aval.shape
        return {d: i for i, d in enumerate(d for d, n in enumerate(shape) if n != 1)}

    def _iota(self, eqn: JaxprEqn) -> Expr:
        place = self._axis(eqn).get(eqn.params["dimension"])
        value = Const(0, INT64) if place is None else self.position_of(place)
        return _builder.cast(value, eqn.params["dtype"])

    def _pad(self, eqn: JaxprEqn, operands: Sequence[Expr], body: list[Stmt]) -> Expr:
        access = self.info.fusion.accesses(eqn)[0]
        place = self._axis(eqn)
        terms: list[tuple[str, int | str]] = []
        conditions: list[Expr] = []
        zero = Const(0, INT64)
        for d, (low, high, interior) in enumerate(eqn.params["padding_config"]):
            n, stride = access.view.shape[d], access.view.strides[d]
            if (low, high, interior) == (0, 0, 0):
                if stride and d in place:
                    terms += [(name, self.stride(stride)) for name, _ in self.position[self._loop_of(place[d])]]
                continue
            shift = IndexValue(Index((), self.offset(-low)))
            at = self._let(op("add", self.position_of(place[d]), shift) if d in place else shift, body)
            conditions.append(op("ge", at, zero))
            if interior:
                step = IndexValue(Index((), self.size(interior + 1, f"d{len(self.sizes)}")))
                conditions.append(op("eq", op("rem", at, step), zero))
                at = self._let(op("div", at, step), body)
            conditions.append(op("lt", at, IndexValue(Index((), self.size(n, f"m{len(self.sizes)}")))))
            if stride:
                terms.append((at.name, self.stride(stride)))
        mask = functools.reduce(lambda a, b: op("and", a, b), conditions) if conditions else None
        return self._masked(access, terms, mask, operands[1], operands[1].dtype)

    def _let(self, value: Expr, body: list[Stmt]) -> Name:
        """Name a value."""
        name = self.fresh()
        body.append(Let(name, value))
        return Name(name, value.dtype)

    def _masked(self, access: Access, terms: list, mask: Expr | None, other: Expr, dtype: np.dtype) -> Expr:
        if isinstance(access.source, Literal):
            value = self.load(access, "full")
            return value if mask is None else op("select", mask, value, other)
        index = Index(tuple(terms), self.offset(access.view.offset))
        if mask is None:
            return Load(self.input(access.source), index, dtype)
        return Load(self.input(access.source), index, dtype, mask, other)

    def _concatenate(self, eqn: JaxprEqn) -> Expr:
        dimension, place = eqn.params["dimension"], self._axis(eqn)
        at = self.position_of(place[dimension]) if dimension in place else Const(0, INT64)
        parts, start = [], 0
        for v, access in zip(eqn.invars, self.info.fusion.accesses(eqn), strict=True):
            parts.append((access, start, v.aval.shape[dimension]))
            start += v.aval.shape[dimension]
        dtype = eqn.outvars[0].aval.dtype
        out: Expr = Const(0, dtype)
        last = True
        for access, begin, count in reversed([p for p in parts if p[2]]):
            view = access.view
            terms: list[tuple[str, int | str]] = []
            for d, stride in enumerate(view.strides):
                if stride and d in place:
                    symbol = self.stride(stride)
                    terms += [(name, symbol) for name, _ in self.position[self._loop_of(place[d])]]
            offset = view.offset - begin * view.strides[dimension]
            shifted = Access(access.source, Strided(view.shape, view.strides, offset))
            # The parts before this one have taken their positions already, and the last takes what is left.
            mask = None if last else op("lt", at, IndexValue(Index((), self.offset(begin + count))))
            out, last = self._masked(shifted, terms, mask, out, dtype), False
        return out

    def _dynamic_slice(self, eqn: JaxprEqn, operands: Sequence[Expr], body: list[Stmt]) -> Expr:
        access, place = self.info.fusion.accesses(eqn)[0], self._axis(eqn)
        terms: list[tuple[str, int | str]] = []
        for d, (start, n, m) in enumerate(zip(operands[1:], access.view.shape, eqn.outvars[0].aval.shape, strict=True)):
            if not access.view.strides[d]:
                continue
            last = IndexValue(Index((), self.offset(n - m)))
            clamped = op("clamp", Const(0, INT64), _builder.cast(start, INT64), last)
            at = self._let(op("add", clamped, self.position_of(place[d])) if d in place else clamped, body)
            terms.append((at.name, self.stride(access.view.strides[d])))
        return self._masked(access, terms, None, Const(0, eqn.outvars[0].aval.dtype), eqn.outvars[0].aval.dtype)

    # ------------------------------------------------------------------ phases

    def whole(self) -> Launch:
        """The kernel of the whole group."""
        info, nest = self.info, self.nest
        lets = self.open_parallel()
        if nest.form == "map":
            return self._map(lets)
        self.set_loop_positions([*nest.folds, *([len(nest.dimensions) - 1] if nest.form == "column" else [])])
        body = [*lets]
        form = _ColumnValues(self) if nest.form == "column" else _RowValues(self)
        last_phase = max(info.phase.values(), default=0)
        self.kept = self._kept_values()
        for phase in range(last_phase + 1):
            body += form.rows(phase)
            body += self._phase(phase, form)
        return self._launch(body)

    def _map(self, lets: list[Stmt]) -> Launch:
        nest = self.nest
        if not nest.dimensions:
            inner: list[Stmt] = []
            self._full_values(0, inner, list(self.info.made), {})
            return self._launch(inner)
        last = len(nest.dimensions) - 1
        if last == 0 and not nest.block:
            self.position[0] = (("p", 1),)
            inner = []
            self._full_values(0, inner, list(self.info.made), {})
            return self._launch(inner)
        dims = [last] if nest.tile is None else [nest.tile, last]
        self.set_loop_positions(dims)
        inner = []
        self._full_values(0, inner, list(self.info.made), {})
        return self._launch(lets + self.loops(inner, dims))

    def _kept_values(self) -> dict[Var, str]:
        """Scratch rows for costly full values that later phases want again."""
        info, kept = self.info, {}
        for phase in range(1, max(info.phase.values(), default=0) + 1):
            for v in self._needed(phase, set(kept)):
                if info.phase[v] < phase and _op_name(info.made[v]) in _COSTLY:
                    kept[v] = ""
        if not kept:
            return {}
        extent = self._scratch_extent()
        return {v: self.parameter("t", v.aval.dtype, "scratch", None, extent) for v in kept}

    def _scratch_extent(self) -> str:
        inner = math.prod(self.nest.dimensions[i].extent for i in self.nest.folds)
        if self.nest.form == "column":
            inner *= self.nest.block
        return "scratch" if "scratch" in self.sizes else self.size(inner, "scratch")

    def scratch_index(self) -> Index:
        """Where a full value stands in its scratch row: row-major over the folded dimensions and the block."""
        terms: list[tuple[str, int | str]] = []
        step, dims = 1, list(self.nest.folds)
        if self.nest.form == "column":
            terms.append(("j", 1))
            step = self.nest.block
        for i in reversed(dims):
            terms.append((f"i{i}", self.stride(step)))
            step *= self.nest.dimensions[i].extent
        return Index(tuple(terms))

    def _targets(self, phase: int) -> list[Var]:
        """Full values that a phase must compute: those stored, kept and folded in it."""
        info = self.info
        out = [v for v in info.made if info.level[v] == "full" and info.phase[v] == phase
               and (v in info.stored or v in self.kept)]  # fmt: skip
        for eqn in info.folds:
            if info.phase[eqn.outvars[0]] == phase + 1:
                source = info.fusion.accesses(eqn)[0].source
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
            for source, _ in info.fusion.accesses(info.made[v]):
                if isinstance(source, Var) and source in info.made and info.level[source] == "full":
                    stack.append(source)
        return [v for v in info.made if v in needed]

    def _full_values(
        self, phase: int, body: list[Stmt], wanted: Sequence[Var], env: dict[Var, Expr], rows: Any = None
    ) -> None:
        """Append the Lets and Stores of full values; `env` gets their names."""
        info = self.info
        for v in wanted:
            eqn = info.made[v]
            kept = self.kept
            name = self.fresh()
            if v in kept and info.phase[v] < phase:
                body.append(Let(name, Load(kept[v], self.scratch_index(), v.aval.dtype)))
                env[v] = Name(name, v.aval.dtype)
                continue
            operands = [self._operand(u, "full", env, rows, eqn, i) for i, u in enumerate(eqn.invars)]
            body.append(Let(name, self.expression(eqn, operands, body)))
            env[v] = Name(name, v.aval.dtype)
            if v in kept:
                body.append(Store(kept[v], self.scratch_index(), env[v]))
            if v in info.stored and info.phase[v] == phase:
                out = self.parameter("y", v.aval.dtype, "out", v)
                body.append(Store(out, self.index(info.store_strides(v)), env[v]))

    def _operand(self, atom: Atom, level: str, env: dict[Var, Expr], rows: Any, eqn: JaxprEqn, place: int) -> Expr:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Concatenate) or (isinstance(lowering, (Pad, Gather)) and place == 0):
            return Const(0, atom.aval.dtype)  # read at other points; see `expression`
        access = self.info.fusion.accesses(eqn)[place]
        source = access.source
        if isinstance(source, Var) and source in self.info.made:
            return env[source] if self.info.level[source] == level else rows.read(source)
        return self.load(access, level)

    def _phase(self, phase: int, form: Any) -> list[Stmt]:
        """One run over the folded dimensions: accumulators, the loops, and what the folds give."""
        info = self.info
        folds = [e for e in info.folds if info.phase[e.outvars[0]] == phase + 1]
        wanted = self._needed(phase, set(self.kept))
        if not folds and not wanted:
            return []
        body: list[Stmt] = []
        env: dict[Var, Expr] = {}
        self._full_values(phase, body, wanted, env, form)
        before, after = form.accumulate(folds, body, env)
        dims = [*self.nest.folds, *([len(self.nest.dimensions) - 1] if self.nest.form == "column" else [])]
        return [*before, *self.loops(body, dims), *after]

    def fold_input(self, eqn: JaxprEqn, env: dict[Var, Expr], form: Any) -> Expr:
        """The value that a fold takes at a point, in the accumulator's dtype."""
        value = self._operand(eqn.invars[0], "full", env, form, eqn, 0)
        return _builder.cast(value, accumulator_dtype(value.dtype))

    # ------------------------------------------------------------------ cut folds

    def partial(self, partial: dict[JaxprEqn, Var]) -> Launch:
        """The kernel that folds blocks: writes each fold's partial results, and the full values."""
        self.kept = {}
        lets = self.open_parallel()
        self.set_loop_positions(
            [*self.nest.folds, *([len(self.nest.dimensions) - 1] if self.nest.form == "column" else [])]
        )
        form = _ColumnValues(self) if self.nest.form == "column" else _RowValues(self)
        form.partial = partial
        return self._launch([*lets, *self._phase(0, form)])

    def combine(self, partial: dict[JaxprEqn, Var]) -> Launch:
        """The kernel that folds partial results and computes the row values."""
        self.kept = {}
        lets = self.open_parallel()
        nest = self.nest
        self.set_loop_positions([*nest.folds, *([len(nest.dimensions) - 1] if nest.form == "column" else [])])
        form = _ColumnValues(self) if nest.form == "column" else _RowValues(self)
        body: list[Stmt] = []
        inputs = {}
        for eqn, var in partial.items():
            steps = contiguous(var.aval.shape).strides
            index = Index(tuple((n, self.stride(s)) for i, s in enumerate(steps) for n, _ in self.position[i]))
            name = self.fresh()
            body.append(Let(name, Load(self.input(var), index, var.aval.dtype)))
            inputs[eqn] = Name(name, var.aval.dtype)
        before, after = form.accumulate(list(partial), body, {}, inputs)
        dims = [*nest.folds, *([len(nest.dimensions) - 1] if nest.form == "column" else [])]
        return self._launch([*lets, *form.rows(0), *before, *self.loops(body, dims), *after, *form.rows(1)])

    # ------------------------------------------------------------------ the kernel

    def _launch(self, body: list[Stmt]) -> Launch:
        extent = self.nest.extent * (self.fold_blocks or 1)
        loop = For("p", self.size(extent, "parallel"), unique_indices(body), "parallel")
        names = list(dict.fromkeys(_op_name(e) for e in self.info.group.eqns))
        name = "_".join([self.nest.form, *names[:5], *(["more"] if len(names) > 5 else [])])
        kernel = Kernel(name, tuple(self.params), tuple(self.sizes), (loop,))
        grain = max(1, self.nest.grain(self.info.cost()) // (self.fold_blocks or 1))
        return Launch(kernel, tuple(self.operands), tuple(self.sizes.values()), extent, grain)


def _range_lets(letter: str, block: str, step: str, extent: str) -> list[Stmt]:
    """Lets for the start and width of block number `block` of a dimension cut in pieces of `step`."""
    start, width = f"{letter}_start", f"{letter}_width"
    first = op("mul", IndexValue(Index(((block, 1),))), IndexValue(Index((), step)))
    left = op("sub", IndexValue(Index((), extent)), Name(start, INT64))
    # The last part may be empty when the parts do not divide the extent.
    clipped = op("max", op("min", IndexValue(Index((), step)), left), Const(0, INT64))
    return [Let(start, first), Let(width, clipped)]


class _RowValues:
    """Row values of the row form: scalars between the phases."""

    def __init__(self, writer: _Writer):
        self.w = writer
        self.env: dict[Var, Expr] = {}
        self.partial: dict[JaxprEqn, Var] = {}

    def read(self, var: Var) -> Expr:
        return self.env[var]

    def accumulate(
        self, folds: Sequence[JaxprEqn], body: list[Stmt], env: dict[Var, Expr], inputs: Any = None
    ) -> tuple[list[Stmt], list[Stmt]]:
        before: list[Stmt] = []
        after: list[Stmt] = []
        for eqn in folds:
            lowering, out = _reduction(eqn), eqn.outvars[0]
            value = inputs[eqn] if inputs else self.w.fold_input(eqn, env, self)
            name = f"a{self.w.fresh()}"
            before.append(Init(name, Const(lowering.identity(value.dtype).item(), value.dtype)))
            body.append(Update(name, lowering.op, value))
            if eqn in self.partial:
                param = self.w.parameter("y", value.dtype, "out", self.partial[eqn])
                after.append(Store(param, _partial_index(self.w), Name(name, value.dtype)))
                continue
            result = self.w.fresh()
            after.append(Let(result, _builder.cast(Name(name, value.dtype), out.aval.dtype)))
            self.env[out] = Name(result, out.aval.dtype)
            after += self._store(out)
        return before, after

    def _store(self, var: Var) -> list[Stmt]:
        if var not in self.w.info.stored:
            return []
        param = self.w.parameter("y", var.aval.dtype, "out", var)
        return [Store(param, self.w.index(self.w.info.store_strides(var)), self.env[var])]

    def rows(self, phase: int) -> list[Stmt]:
        """Row values that become known before a phase."""
        info, body = self.w.info, []
        for v, eqn in info.made.items():
            if info.level[v] != "row" or info.phase[v] != phase or eqn in info.folds:
                continue
            operands = [self.w._operand(u, "row", self.env, self, eqn, i) for i, u in enumerate(eqn.invars)]
            name = self.w.fresh()
            body.append(Let(name, self.w.expression(eqn, operands, body)))
            self.env[v] = Name(name, v.aval.dtype)
            body += self._store(v)
        return body


class _ColumnValues:
    """Row values of the column form: arrays over the block of columns, in scratch."""

    def __init__(self, writer: _Writer):
        self.w = writer
        self.arrays: dict[Var, str] = {}
        self.partial: dict[JaxprEqn, Var] = {}
        self.folded: list[tuple[JaxprEqn, str, np.dtype]] = []

    def _array(self, dtype: np.dtype) -> str:
        return self.w.parameter("t", dtype, "scratch", None, "width")

    def read(self, var: Var) -> Expr:
        return Load(self.arrays[var], Index((("j", 1),)), var.aval.dtype)

    def _loop(self, body: list[Stmt]) -> list[Stmt]:
        return [For("j", "j_width", tuple(body), "vector")] if body else []

    def accumulate(
        self, folds: Sequence[JaxprEqn], body: list[Stmt], env: dict[Var, Expr], inputs: Any = None
    ) -> tuple[list[Stmt], list[Stmt]]:
        start: list[Stmt] = []
        finish: list[Stmt] = []
        at = Index((("j", 1),))
        for eqn in folds:
            lowering, out = _reduction(eqn), eqn.outvars[0]
            value = inputs[eqn] if inputs else self.w.fold_input(eqn, env, self)
            array, dtype = self._array(value.dtype), value.dtype
            start.append(Store(array, at, Const(lowering.identity(dtype).item(), dtype)))
            body.append(Store(array, at, op(lowering.op, Load(array, at, dtype), value)))
            if eqn in self.partial:
                param = self.w.parameter("y", dtype, "out", self.partial[eqn])
                finish.append(Store(param, _partial_index(self.w), Load(array, at, dtype)))
            elif dtype == out.aval.dtype:
                self.arrays[out] = array
                finish += self._store(out)
            else:
                self.arrays[out] = self._array(out.aval.dtype)
                finish.append(Store(self.arrays[out], at, _builder.cast(Load(array, at, dtype), out.aval.dtype)))
                finish += self._store(out)
        return self._loop(start), self._loop(finish)

    def _store(self, var: Var) -> list[Stmt]:
        if var not in self.w.info.stored:
            return []
        param = self.w.parameter("y", var.aval.dtype, "out", var)
        return [Store(param, self.w.index(self.w.info.store_strides(var)), self.read(var))]

    def rows(self, phase: int) -> list[Stmt]:
        info, body, env = self.w.info, [], {}
        for v, eqn in info.made.items():
            if info.level[v] != "row" or info.phase[v] != phase or eqn in info.folds:
                continue
            operands = []
            for i, u in enumerate(eqn.invars):
                source: Any = info.fusion.accesses(eqn)[i].source
                operands.append(env[source] if source in env else self._row_operand(u, eqn, i))
            name = self.w.fresh()
            body.append(Let(name, self.w.expression(eqn, operands, body)))
            env[v] = Name(name, v.aval.dtype)
            self.arrays[v] = self._array(v.aval.dtype)
            body.append(Store(self.arrays[v], Index((("j", 1),)), env[v]))
            body += self._store(v)
        return self._loop(body)

    def _row_operand(self, atom: Atom, eqn: JaxprEqn, place: int) -> Expr:
        source: Any = self.w.info.fusion.accesses(eqn)[place].source
        if source in self.w.info.made:
            return self.read(source)
        return self.w._operand(atom, "row", {}, self, eqn, place)


def _partial_index(w: _Writer) -> Index:
    """Where a partial result stands: [part, rows…], contiguous."""
    rows = [i for i, d in enumerate(w.nest.dimensions) if not d.folded]
    steps = contiguous((w.fold_blocks, *(w.nest.dimensions[i].extent for i in rows))).strides
    terms: list[tuple[str, int | str]] = [(w.part_names["fold"], w.stride(steps[0]))]
    for i, step in zip(rows, steps[1:], strict=True):
        symbol = w.stride(step)
        terms += [(name, symbol) for name, _ in w.position[i]]
    return Index(tuple(terms))
