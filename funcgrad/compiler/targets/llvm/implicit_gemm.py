"""Implicit matrix products: how `ops.implicit_gemm` is divided into tiles, and the routine that computes them.

A tile is a few rows by a few vectors of columns, as many as there are registers for the sums, and runs over the whole
depth, or a block of it. A block is what fits into the second-level cache: a panel of `b`, and the part of `a` that is
read over and over. A task is a run of rows of one panel.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler.program.target import Division
from funcgrad.compiler.targets.llvm import cache, toolchain
from funcgrad.compiler.targets.llvm.implicit_gemm_tile import Tile
from funcgrad.ops.implicit_gemm import PANEL, Form

_FIXED = (1, 2)  # distances in a that code is specialized to
_BLOCK_BYTES = 3 << 13  # of the first-level cache, for the part of a panel that every tile of a block reads
_DEEP_BLOCK_BYTES = 1 << 13  # likewise where there are more terms than rows: the tiles of a block read more of a
_TASK = 1 << 21  # multiply-adds: about 50 µs
_TASKS_PER_THREAD = 4
_FEW_ROWS = 3


class Routine(NamedTuple):
    """The fields of an instruction; its args are the result, a and b. `library` owns the code."""

    function: int
    sizes: tuple[int, ...]
    library: toolchain.Library


class _Plan(NamedTuple):
    tile: Tile
    sizes: tuple[int, ...]
    tasks: int
    grain: int


def supports(dtype: Any) -> bool:
    """Whether there is code for this element type."""
    return np.dtype(dtype) in (np.dtype(np.float32), np.dtype(np.float64))


def division(dtype: Any, threads: int, form: Form) -> Division | None:
    """Return how many tasks a product is, or None for other element types."""
    if not supports(dtype):
        return None
    plan = _plan(np.dtype(dtype), threads, form)
    return Division(plan.tasks, plan.grain)


def routine(dtype: Any, threads: int, form: Form) -> Routine:
    """Return the code for a product and what it is called with."""
    plan = _plan(np.dtype(dtype), threads, form)
    library = _library(plan.tile)
    return Routine(library.address("implicit_gemm"), plan.sizes, library)


@functools.lru_cache(maxsize=512)
def _plan(dtype: np.dtype, threads: int, form: Form) -> _Plan:
    lanes = toolchain.vector_bytes() // dtype.itemsize
    wide = toolchain.vector_bytes() == 64  # and 32 registers
    width, distance, column_b = form.columns
    vectors = 1 if width <= lanes else 2
    rows = (14 if vectors == 2 else 28) if wide else (6 if vectors == 2 else 12)
    if form.m <= _FEW_ROWS and form.panel == PANEL and width > 2 * lanes:  # b is no panels, and its columns are windows
        vectors, rows = min(PANEL // lanes, 8 if wide else 4), form.m
    dots = column_b != 1
    if dots:
        vectors, rows = width, (28 if wide else 12) // width
    columns = width if dots else lanes * vectors
    blocks, chunk = _blocks(dtype, form, columns) if form.m > rows and not dots else (0, form.depth[0][0])
    (inner, step, _) = form.depth[-1]
    # More steps at once, where their elements of a have no fixed distance, run out of registers.
    whole = chunk if len(form.depth) - 1 == blocks else inner
    unrolled = step in _FIXED and not dots
    unroll = next(u for u in (4, 3, 2, 1) if inner % u == whole % u == 0) if unrolled else 1
    panels = -(-width // columns)
    in_blocks = blocks > 0 or chunk < form.depth[blocks][0]
    height = _rows_of_a_task(form, rows, columns, panels, threads, in_blocks)
    chunks = -(-form.m // height)
    tile = Tile(
        dtype,
        lanes,
        rows,
        vectors,
        len(form.groups),
        len(form.rows),
        blocks,
        len(form.depth) - blocks,
        unroll,
        step if step in _FIXED else 0,
        distance == 1,
        dots,
    )
    sizes = (form.m, height, chunks, panels, width, form.panel, column_b, distance, *form.starts, chunk)
    loops = [n for loop in (*form.groups, *form.rows, *form.depth) for n in loop]
    grain = max(1, _TASK // (height * columns * form.k) // 2)
    return _Plan(tile, (*sizes, *loops), form.number_of_groups * chunks * panels, grain)


def _blocks(dtype: np.dtype, form: Form, columns: int) -> tuple[int, int]:
    """How many outer loops over depth are outside of the rows, and how many iterations of the next are a block."""
    room = _BLOCK_BYTES if form.m >= form.k else _DEEP_BLOCK_BYTES
    terms = room // (columns * dtype.itemsize)
    inner = 1
    for outside in range(len(form.depth), 0, -1):
        n = form.depth[outside - 1][0]
        if inner * n > terms:
            chunk = max(1, terms // inner)
            pieces = -(-n // chunk)
            even = -(-n // pieces)
            return outside - 1, min(n, -(-even // 12) * 12 if n >= 48 else even)
        inner *= n
    return 0, form.depth[0][0]


def _rows_of_a_task(form: Form, rows: int, columns: int, panels: int, threads: int, in_blocks: bool) -> int:
    """A multiple of the tile's rows: a task worth handing out, and a few of them for each thread."""
    worth = _TASK // max(1, form.k * columns)
    if in_blocks:
        worth = max(worth, 16 * rows)
    if threads > 1:
        wanted = -(-threads * _TASKS_PER_THREAD // (panels * form.number_of_groups))
        worth = min(worth, -(-form.m // wanted))
    pieces = max(1, round(form.m / max(worth, rows)))
    return max(rows, math.ceil(form.m / pieces / rows) * rows)


@functools.cache
def _library(tile: Tile) -> toolchain.Library:
    return toolchain.link(cache.compiled(emit(tile), optimize=True), ["implicit_gemm"])


def emit(tile: Tile) -> str:
    """Return the text of a module that defines `implicit_gemm`."""
    # llvmlite's IR builder takes long to import.
    from llvmlite import ir

    from funcgrad.compiler.targets.llvm.implicit_gemm_code import Writer
    from funcgrad.compiler.targets.llvm.implicit_gemm_dots import DotsWriter

    module = ir.Module("implicit_gemm")
    (DotsWriter if tile.dots else Writer)(module, tile)
    return str(module)
