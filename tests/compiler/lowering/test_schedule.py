"""The schedule: which loops a group gets, from shapes and strides alone."""

from __future__ import annotations

import dataclasses

import pytest

from funcgrad.compiler.lowering.schedule import (
    SUM_BLOCK,
    SUM_ROWS,
    SUM_SCALARS,
    Dimension,
    Nest,
    collapse,
    partial_blocks,
    schedule,
    sum_block,
)
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.lowering import contiguous

S = Scheduling()
NO_BARRIERS: frozenset[int] = frozenset()


def collapsed(domain: tuple[int, ...], axes: tuple[int, ...] = (), *strides: tuple[int, ...]) -> list[tuple[int, bool]]:
    found = collapse(domain, axes, strides or (contiguous(domain).strides,), NO_BARRIERS)
    return [(d.extent, d.folded) for d in found]


def nest(domain: tuple[int, ...], axes: tuple[int, ...] = (), *strides: tuple[int, ...]) -> Nest:
    return schedule(collapse(domain, axes, strides, NO_BARRIERS), S, strides)


def test_dimensions_that_every_access_walks_through_alike_are_one_loop():
    assert collapsed((4, 5, 6)) == [(120, False)]
    assert collapsed((4, 5, 6), (2,)) == [(20, False), (6, True)]
    assert collapsed((4, 5, 6), (0, 1)) == [(20, True), (6, False)]
    # A bias that is spread over rows.
    assert collapsed((4, 5, 6), (), (30, 6, 1), (0, 0, 1)) == [(20, False), (6, False)]
    # A transposed operand.
    assert collapsed((4, 5), (), (5, 1), (1, 4)) == [(4, False), (5, False)]


def test_a_dimension_whose_index_is_needed_stays_apart():
    found = collapse((4, 5, 6), (), (contiguous((4, 5, 6)).strides,), frozenset([1]))
    assert [d.members for d in found] == [(0,), (1,), (2,)]


def test_maps_run_over_the_last_dimension():
    plain = nest((1000,), (), (1,))
    assert (plain.form, plain.extent, plain.block, plain.work) == ("map", 1000, 0, 1)
    rows = nest((50, 20), (), (20, 1), (0, 1))
    assert (rows.form, rows.extent, rows.outer, rows.work) == ("map", 50, (0,), 20)


def test_few_long_rows_are_cut_into_blocks():
    wide = (S.min_parallel - 1, 4 * S.map_block)
    found = nest(wide, (), (wide[1], 1), (0, 1))
    assert (found.block, found.blocks, found.extent) == (S.map_block, 4, 4 * wide[0])
    enough = (S.min_parallel, wide[1])
    assert nest(enough, (), (wide[1], 1), (0, 1)).block == 0


def test_a_transposition_of_long_dimensions_is_tiled():
    found = nest((64, 96), (), (96, 1), (1, 64))
    assert (found.tile, found.block, found.tiles, found.blocks, found.extent) == (0, S.tile, 2, 3, 6)
    assert nest((S.tile - 1, 96), (), (96, 1), (1, S.tile - 1)).tile is None


def test_rows_and_columns():
    row = nest((30, 40), (1,), (40, 1))
    assert (row.form, row.extent, row.folds, row.inner) == ("row", 30, (1,), (1,))
    column = nest((30, 4000), (0,), (4000, 1))
    assert (column.form, column.block, column.extent) == ("column", S.column_block, 4)
    assert (column.folds, column.inner) == ((0,), (0, 1))


@pytest.mark.parametrize(
    ("domain", "axes", "parts"),
    [
        ((1 << 20,), (0,), S.max_partial_folds),
        ((S.long_fold,), (0,), S.long_fold // S.grain),
        ((S.long_fold - 1,), (0,), 0),
        ((S.min_parallel, 100_000), (1,), 0),  # rows enough for the threads
        ((1_000_000,), (), 0),
    ],
)
def test_long_folds_with_few_results_are_cut(domain, axes, parts):
    assert partial_blocks(nest(domain, axes, contiguous(domain).strides), S) == parts


def test_one_thread_needs_no_cut():
    one = dataclasses.replace(S, min_parallel=1)
    dimensions = (Dimension((0,), 1_000_000, True),)
    assert partial_blocks(schedule(dimensions, one), one) == 0


@pytest.mark.parametrize(
    ("extents", "parts", "simd", "cut"),
    [
        ((SUM_BLOCK,), 0, True, None),
        ((SUM_BLOCK + 1,), 0, True, (0, SUM_BLOCK)),
        ((SUM_SCALARS + 1,), 0, False, (0, SUM_SCALARS)),
        ((4 * SUM_BLOCK,), 4, True, None),  # each of four pieces is short enough
        ((SUM_ROWS + 1, 64), 0, True, (0, SUM_ROWS)),
        ((SUM_ROWS, 64), 0, True, None),
    ],
)
def test_long_sums_go_on_in_float64(extents, parts, simd, cut):
    dimensions = tuple(Dimension((i,), n, True) for i, n in enumerate(extents))
    assert sum_block(Nest("row", dimensions), parts, simd) == cut


def test_a_chunk_is_worth_a_thread():
    cheap = nest((1000, 20), (), (20, 1), (0, 1))
    assert cheap.grain(1, 16384) == -(-16384 // 20)
    assert cheap.grain(100, 16384) == -(-16384 // 2000)
    assert nest((8, 1 << 20), (1,), (1 << 20, 1)).grain(1, 16384) == 1
