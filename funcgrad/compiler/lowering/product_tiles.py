"""How the result of a matrix product is divided: into tiles, whose sums are in registers, and chunks, for threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from funcgrad.compiler.scheduling import Scheduling

# As many sums keep the processor's multipliers busy, in vectors of half a tile's width.
_BUSY = 8
# Where a dimension has more tiles, the same tile is used for all sizes.
_MANY = 12


class Tile(NamedTuple):
    """A part of the result whose sums are in registers."""

    rows: int
    columns: int


class Chunks(NamedTuple):
    """How many parts the rows and the columns of a result are cut into, and how many of them a part has.

    The last part has the rest too.
    """

    row_chunks: int
    rows: int
    column_chunks: int
    columns: int


def tile_of(m: int, n: int, itemsize: int, scheduling: Scheduling) -> Tile:
    """The tile that is fastest for (m, n) results of this element size: it computes few elements twice."""
    widest = max(2, scheduling.tile_bytes // itemsize)
    widths = [widest >> i for i in range(widest.bit_length())]
    columns = _least(n, widths, lambda c: 1 + widest / (4 * c))
    vectors = 2 if columns == widest else 1
    most = scheduling.tile_rows * 2 // vectors
    return Tile(_least(m, range(most, 0, -1), lambda r: max(1.0, _BUSY / (r * vectors))), columns)


def _least(size: int, choices: Sequence[int], cost: Callable[[int], float]) -> int:
    """The step through a dimension with the least cost for each element and step; the first one where that is long."""
    if size > _MANY * choices[0]:
        return choices[0]
    return min((c for c in choices if c <= size), key=lambda c: -(-size // c) * c * cost(c))


def chunks_of(m: int, n: int, row_bytes: int, batch: int, tile: Tile, scheduling: Scheduling) -> Chunks:
    """Chunks of a result: the rows of `a`, of `row_bytes` each, stay in the second-level cache."""
    rows = scheduling.product_chunk_bytes // max(1, row_bytes)
    row_chunks, rows = _cut(m, min(rows, -(-m * batch // scheduling.min_parallel)), 4 * tile.rows)
    wanted = -(-scheduling.min_parallel // (batch * row_chunks))
    return Chunks(row_chunks, rows, *_cut(n, -(-n // wanted), 4 * tile.columns))


def _cut(size: int, part: int, step: int) -> tuple[int, int]:
    """Cut a dimension into parts of about a size that is a multiple of a step."""
    part = max(1, part // step) * step
    number = max(1, size // part)
    return number, part if number > 1 else size
