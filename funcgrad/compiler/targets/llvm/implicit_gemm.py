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
from funcgrad.ops.implicit_gemm import Form

_FIXED = (1, 2)  # distances in a that code is specialized to
_BLOCK_BYTES = 1 << 14  # of the first-level cache, for the part of a panel that every tile of a block reads
_DEEP_BLOCK_BYTES = 1 << 13  # likewise where there are more terms than rows: the tiles of a block read more of a
_TASK = 1 << 21  # multiply-adds: about 50 µs
_TASKS_PER_THREAD = 4


class Routine(NamedTuple):
    """The fields of an instruction; its args are the result, a and b. `library` owns the code."""

    function: int
    sizes: tuple[int, ...]
    library: toolchain.Library


class _Plan(NamedTuple):
    tile: Tile
    sizes: tuple[int, ...]
    tasks: int


def supports(dtype: Any) -> bool:
    """Whether there is code for this element type."""
    return np.dtype(dtype) in (np.dtype(np.float32), np.dtype(np.float64))


def division(dtype: Any, threads: int, form: Form) -> Division | None:
    """Return how many tasks a product is, or None for other element types."""
    return Division(_plan(np.dtype(dtype), threads, form).tasks, 1) if supports(dtype) else None


def routine(dtype: Any, threads: int, form: Form) -> Routine:
    """Return the code for a product and what it is called with."""
    plan = _plan(np.dtype(dtype), threads, form)
    library = _library(plan.tile)
    return Routine(library.address("implicit_gemm"), plan.sizes, library)


@functools.lru_cache(maxsize=512)
def _plan(dtype: np.dtype, threads: int, form: Form) -> _Plan:
    lanes = toolchain.vector_bytes() // dtype.itemsize
    wide = toolchain.vector_bytes() == 64  # and 32 registers
    width, distance = form.columns
    vectors = 1 if width <= lanes else 2
    rows = (14 if vectors == 2 else 28) if wide else (6 if vectors == 2 else 12)
    columns = lanes * vectors
    blocks, chunk = _blocks(dtype, form, columns)
    (inner, step, _) = form.depth[-1]
    # More steps at once, where their elements of a have no fixed distance, run out of registers.
    whole = chunk if len(form.depth) - 1 == blocks else inner
    unroll = next(u for u in (4, 3, 2, 1) if inner % u == whole % u == 0) if step in _FIXED else 1
    panels = -(-width // columns)
    in_blocks = blocks > 0 or chunk < form.depth[blocks][0]
    height = _rows_of_a_task(form, rows, columns, panels, threads, in_blocks)
    chunks = -(-form.m // height)
    whole_b = form.k * width * form.groups[0] * dtype.itemsize
    tile = Tile(
        dtype,
        lanes,
        rows,
        vectors,
        len(form.rows),
        blocks,
        len(form.depth) - blocks,
        unroll,
        step if step in _FIXED else 0,
        distance == 1,
        whole_b <= _BLOCK_BYTES and not in_blocks,
    )
    groups, *by_group = form.groups
    sizes = (form.m, height, chunks, panels, width, form.panel, distance, *by_group, chunk)
    loops = [n for loop in (*form.rows, *form.depth) for n in loop]
    return _Plan(tile, (*sizes, *loops), groups * chunks * panels)


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
        wanted = -(-threads * _TASKS_PER_THREAD // (panels * form.groups[0]))
        worth = min(worth, -(-form.m // wanted))
    pieces = max(1, round(form.m / max(worth, rows)))
    return max(rows, math.ceil(form.m / pieces / rows) * rows)


@functools.cache
def _library(tile: Tile) -> toolchain.Library:
    from funcgrad.compiler.targets.llvm import implicit_gemm_code  # llvmlite's IR builder, which takes long to import

    text = implicit_gemm_code.emit(tile)
    return toolchain.link(cache.compiled(text, optimize=True), ["implicit_gemm"])
