"""The frame of a loop nest: indices, the parallel loop, blocks, loads and constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    Index,
    IndexValue,
    Let,
    Load,
    Name,
    Offset,
    Stmt,
    Store,
    op,
)
from funcgrad.compiler.lowering import schedule as sch
from funcgrad.compiler.lowering.analysis import Analysis
from funcgrad.compiler.lowering.kernel_builder import INT64, KernelBuilder, build, index_value, size_value
from funcgrad.core.jaxprs import Literal, Var

# Accesses that are at most this many indices apart have this distance in their kernel's form.
_NEAR = 8
# LLVM loads whole vectors of elements that are up to this far apart, and shuffles them, if it knows the distance.
_SHUFFLED = 4
# Numbers up to this magnitude belong to the formula; larger whole numbers are taken for sizes.
_LIKE_A_SIZE = 16


class Block(NamedTuple):
    """A dimension cut into blocks: how many there are, and the Lets for where one starts and how long it is."""

    dimension: int
    count: str
    start: str
    width: str
    lets: tuple[Stmt, ...]


class NestWriter(KernelBuilder):
    """The frame of one kernel, written bottom up."""

    def __init__(self, info: Analysis, nest: sch.Nest, fold_blocks: int = 0):
        super().__init__()
        self.info, self.nest, self.fold_blocks = info, nest, fold_blocks
        # The pieces of dimensions of the domain that are being written, where loops are cut (see `Analysis.cuts`).
        self.pieces: dict[int, tuple[int, int]] = {}
        # For each array and strides over the nest: the names of the strides, and those of the offsets.
        self.accesses: dict[Any, tuple[dict[int, int | str], dict[int, int | str]]] = {}
        self.extents = [self.size(f"n{i}", d.extent) for i, d in enumerate(nest.dimensions)]
        # The value of each dimension's index, in terms of loop variables and Lets.
        self.position: dict[int, tuple[tuple[str, int], ...]] = {}
        self.part_names: dict[str, str] = {}
        self.kept: dict[Var, str] = {}
        self.let_names: Counter[str] = Counter()
        # The blocks after which the long sums of the current phase are added to a wider accumulator.
        self.block_of_sums: Block | None = None

    # ------------------------------------------------------------------ indices

    def address(self, source: Var, strides: dict[int, int], offset: int) -> Index:
        """The index of an access with a stride for each dimension of the nest.

        Accesses to one array with the same strides share their sizes: they are at small distances from each other where
        possible, so that LLVM sees which of them are the same element.
        """
        strides = {i: s for i, s in strides.items() if s}
        key = source, tuple(sorted(strides.items()))
        symbols, bases = self.accesses.setdefault(key, ({}, {}))
        found = ((base, _distance(offset - base, strides)) for base in bases)
        base, shifts = next(((base, shifts) for base, shifts in found if shifts is not None), (offset, {}))
        if base not in bases:
            bases[base] = self.offset(base)
        terms: list[tuple[str, int | str]] = []
        for i, stride in sorted(strides.items()):
            if i not in symbols:
                symbols[i] = self.stride(stride, _SHUFFLED if i == len(self.nest.dimensions) - 1 else 0)
            names = [name for name, _ in self.position[i]]
            if i in shifts:
                names = [self.define(IndexValue(Index(tuple((name, 1) for name in names), shifts[i]))).name]
            terms += [(name, symbols[i]) for name in names]
        return Index(tuple(terms), plus(bases[base], shifts.get(None, 0)))

    def by_loop(self, strides: Sequence[int]) -> dict[int, int]:
        """One stride per dimension of the nest, from one per dimension of the domain."""
        return {i: strides[dim.members[-1]] for i, dim in enumerate(self.nest.dimensions) if dim.members}

    def position_of(self, domain_dim: int) -> Expr:
        """The index along one dimension of the domain, as a value."""
        return index_value(*(name for name, _ in self.position[self.loop_of(domain_dim)]))

    # ------------------------------------------------------------------ the parallel loop

    def open_parallel(self) -> None:
        """Write Lets that recover the indices of the outer dimensions from the parallel one; set their positions."""
        nest = self.nest
        pieces: list[tuple[int | str, str]] = [(i, self.extents[i]) for i in nest.outer]
        if nest.tile is not None:
            pieces.append(("tile", self.size("tiles", nest.tiles)))
        if nest.block:
            pieces.append(("block", self.size("blocks", nest.blocks)))
        if self.fold_blocks:
            pieces.insert(0, ("fold", self.size("parts", self.fold_blocks)))
        names = [f"i{key}" if isinstance(key, int) else key for key, _ in pieces]
        names = self.unravel(names, [extent for _, extent in pieces[1:]])
        for (key, _), name in zip(pieces, names, strict=True):
            if isinstance(key, int):
                self.position[key] = ((name, 1),)
            else:
                self.part_names[key] = name
        self.body += self._block_lets()

    def _block_lets(self) -> list[Stmt]:
        """Start and width of this iteration's block of columns, and of its part of the first fold."""
        names = self.part_names
        lets: list[Stmt] = []
        if "block" in names:
            step = self.size("width", self.nest.block)
            lets += _range_lets("j_start", "j_width", names["block"], step, self.extent(-1))
        if "tile" in names:
            assert self.nest.tile is not None
            side = self.size("side", self.nest.block)
            lets += _range_lets("t_start", "t_width", names["tile"], side, self.extent(self.nest.tile))
        if "fold" in names:
            first = self.nest.folds[0]
            length = -(-self.nest.dimensions[first].extent // self.fold_blocks)
            part = self.size("part", length)
            lets += _range_lets("f_start", "f_width", names["fold"], part, self.extent(first))
        return lets

    def extent(self, i: int) -> Expr:
        """The extent of a dimension as a value."""
        return size_value(self.extents[i])

    def unique(self, name: str) -> str:
        """A name for a Let that may be written more than once."""
        self.let_names[name] += 1
        return name if self.let_names[name] == 1 else f"{name}_{self.let_names[name]}"

    def loop(self, i: int) -> tuple[str, int | str, tuple[str, ...]]:
        """The loop over dimension i: its index, its extent, and the Lets that say where it starts."""
        if i == len(self.nest.dimensions) - 1 and self.nest.block:
            return "j", "j_width", ("j_start",)
        if self.fold_blocks and i == self.nest.folds[0]:
            return "f", "f_width", ("f_start",)
        if i == self.nest.tile:
            return "t", "t_width", ("t_start",)
        return f"i{i}", self.extents[i], ()

    def loops(
        self, body: list[Stmt], dims: Sequence[int], start: Sequence[Stmt] = (), end: Sequence[Stmt] = ()
    ) -> list[Stmt]:
        """Wrap a body in loops over the given dimensions, the last one a vector loop.

        Where sums are cut (`open_blocks`), each block begins with `start` and ends with `end`.
        """
        for depth, i in enumerate(reversed(dims)):
            name, extent, _ = self.loop(i)
            kind = "serial" if depth else "vector"
            if self.block_of_sums is None or self.block_of_sums.dimension != i:
                body = [For(name, extent, tuple(body), kind)]
                continue
            block = self.block_of_sums
            inner = For(name, block.width, tuple(body), kind)
            body = [For("b", block.count, (*block.lets, *start, inner, *end), "serial")]
        return body

    def open_blocks(self, cut: tuple[int, int] | None) -> None:
        """Cut a dimension into blocks in the loops to be written (None: in none)."""
        self.block_of_sums = None
        if cut is None:
            return
        i, length = cut
        extent, whole = self.nest.dimensions[i].extent, self.extent(i)
        if self.fold_blocks and i == self.nest.folds[0]:
            extent, whole = -(-extent // self.fold_blocks), Name("f_width", INT64)
        start, width = self.unique("b_start"), self.unique("b_width")
        lets = _range_lets(start, width, "b", length, whole)
        self.block_of_sums = Block(i, self.size("sum_blocks", -(-extent // length)), start, width, tuple(lets))

    def set_loop_positions(self, dims: Sequence[int]) -> None:
        for i in dims:
            name, _, starts = self.loop(i)
            if self.block_of_sums is not None and self.block_of_sums.dimension == i:
                starts = (*starts, self.block_of_sums.start)
            self.position[i] = (*((s, 1) for s in starts), (name, 1))

    # ------------------------------------------------------------------ expressions

    def literal(self, atom: Literal) -> Expr:
        """A constant: written into the kernel, unless it looks like a size (128, or 1/128 in a mean).

        Sizes are arguments, so that the kernel of another batch size is the same kernel. They are never unsigned: those
        numbers are shifts and masks.
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
        return self._argument(int(value), dtype) if dtype.itemsize >= 4 and dtype.kind != "u" else Const(value, dtype)

    def _argument(self, value: int, dtype: np.dtype) -> Expr:
        return build.cast(size_value(self.new_size("c", value)), dtype)

    def load(self, access: Access, level: str) -> Expr:
        if isinstance(access.source, Literal):
            return self.literal(access.source)
        strides = self.by_loop(self.info.full_strides(access, level))
        param = self.input(access.source)
        dtype = dtypes.real_dtype(access.source.aval.dtype)
        return Load(param, self.address(access.source, strides, access.view.offset), dtype)

    def store(self, var: Var, value: Expr) -> None:
        """Write a value of the group to memory, if it is stored at all."""
        if var in self.info.stored:
            index = self.address(var, self.by_loop(self.info.store_strides(var)), 0)
            self.body.append(Store(self.output(var), index, value))

    def store_parts(self, var: Var, parts: Sequence[Expr]) -> None:
        """Write complex values of the group to memory."""
        strides = self.by_loop([2 * s for s in self.info.store_strides(var)])
        self.body += [Store(self.output(var), self.address(var, strides, place), x) for place, x in enumerate(parts)]

    def loop_of(self, domain_dim: int) -> int:
        """The loop that runs over one dimension of the domain (callers do not collapse dimensions)."""
        return next(i for i, d in enumerate(self.nest.dimensions) if d.members == (domain_dim,))


def _range_lets(start: str, width: str, block: str, step: int | str, extent: Expr) -> list[Stmt]:
    """Lets for the start and width of block number `block` of a dimension cut in pieces of `step`."""
    size = size_value(step)
    first = op("mul", index_value(block), size)
    left = op("sub", extent, Name(start, INT64))
    # The last part may be empty when the parts do not divide the extent.
    return [Let(start, first), Let(width, op("max", op("min", size, left), Const(0, INT64)))]


def plus(offset: int | str, n: int) -> Offset:
    """The sum of an offset and a number."""
    return offset + n if isinstance(offset, int) else (offset, n) if n else offset


def _distance(offset: int, strides: dict[int, int]) -> dict[int | None, int] | None:
    """An offset as a few indices of each dimension and, with key None, a few elements; None where that does not do."""
    out: dict[int | None, int] = {}
    for i, stride in sorted(strides.items(), key=lambda item: -abs(item[1])):
        n = (2 * abs(offset) + abs(stride) - 1) // (2 * abs(stride)) * (1 if offset * stride > 0 else -1)
        if n:
            out[i], offset = n, offset - n * stride
    if offset:
        out[None] = offset
    return out if all(abs(n) <= _NEAR for n in out.values()) else None
