"""groups → nests: in which loops a group is computed.

A nest states which dimensions of the group's domain are one loop, which of the loops run in parallel, which is the
vector loop, and how a dimension is cut into blocks. `lower` writes the loops that it describes. Three forms cover all
groups:

- *map*: nothing is folded. The outer dimensions are the parallel loop, the last one is the vector loop.
- *row*: the last dimension is folded (softmax, layer norm, sums of rows). Each parallel iteration owns a row and runs
  over it once per phase; accumulators are scalars.
- *column*: the last dimension is not folded (sums over a batch, statistics per channel). Each parallel iteration owns a
  block of columns and runs over all rows once per phase; accumulators are short arrays that stay in the first cache.

Where a fold is too long and its results too few to keep the threads busy, it is cut in two: partial folds of blocks,
and the fold of those. The cut depends on sizes alone, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from funcgrad.compiler.fusion.groups import Shape
from funcgrad.compiler.scheduling import Scheduling

# A sum of floats adds at most this many numbers in a vector loop, and this many rows, before it continues in float64.
# Where the loop is not SIMD, one accumulator takes the whole block.
SUM_BLOCK = 2048
SUM_SCALARS = 256
SUM_ROWS = 128

Form = Literal["map", "row", "column"]


@dataclass(frozen=True)
class Dimension:
    """One loop: adjacent dimensions of the domain that every access walks through alike."""

    members: tuple[int, ...]
    extent: int
    folded: bool


@dataclass(frozen=True)
class Nest:
    """How a group's domain is looped over. `block` cuts the last dimension (0: not cut); `tile` names a dimension that
    is cut into pieces of that length beside it (None: none is). `row` of a map is the dimension before the last one, if
    a parallel iteration runs over it (None: it does not), `together` of its indices at once."""

    form: Form
    dimensions: tuple[Dimension, ...]
    block: int = 0
    tile: int | None = None
    row: int | None = None
    together: int = 1

    @property
    def outer(self) -> tuple[int, ...]:
        """The dimensions that make up the parallel loop, the cut one left out."""
        last = len(self.dimensions) - 1
        if self.form == "map":
            return tuple(i for i in range(last) if i not in (self.tile, self.row))
        return tuple(i for i, d in enumerate(self.dimensions) if not d.folded and (i != last or self.form == "row"))

    @property
    def folds(self) -> tuple[int, ...]:
        """The dimensions folded within a parallel iteration."""
        return tuple(i for i, d in enumerate(self.dimensions) if d.folded)

    @property
    def inner(self) -> tuple[int, ...]:
        """The dimensions looped over within a parallel iteration that folds, the vector loop last."""
        return (*self.folds, len(self.dimensions) - 1) if self.form == "column" else self.folds

    @property
    def blocks(self) -> int:
        """The number of blocks that the last dimension is cut into."""
        return -(-self.dimensions[-1].extent // self.block) if self.block else 1

    @property
    def tiles(self) -> int:
        """The number of pieces that the tiled dimension is cut into."""
        return 1 if self.tile is None else -(-self.dimensions[self.tile].extent // self.block)

    @property
    def extent(self) -> int:
        """The number of parallel iterations."""
        if self.form == "map" and len(self.dimensions) == 1 and not self.block:
            return self.dimensions[0].extent
        return math.prod(self.dimensions[i].extent for i in self.outer) * self.blocks * self.tiles

    @property
    def work(self) -> int:
        """Elements that one parallel iteration computes."""
        total = math.prod(d.extent for d in self.dimensions)
        return max(1, total // max(1, self.extent))

    def grain(self, cost: int, worth: int) -> int:
        """Parallel iterations of one chunk of `worth` simple operations, when an element costs `cost` of them."""
        return max(1, -(-worth // max(1, self.work * cost)))


def collapse(
    domain: Shape, axes: Sequence[int], strides: Sequence[Sequence[int]], barriers: frozenset[int]
) -> tuple[Dimension, ...]:
    """Join adjacent dimensions that all accesses walk through with one stride, folded ones and others apart."""
    out: list[Dimension] = []
    for d, n in enumerate(domain):
        folded = d in axes
        if out and out[-1].folded == folded and d not in barriers and out[-1].members[-1] not in barriers:
            before = out[-1].members[-1]
            if all(s[before] == s[d] * n for s in strides):
                out[-1] = Dimension((*out[-1].members, d), out[-1].extent * n, folded)
                continue
        out.append(Dimension((d,), n, folded))
    return tuple(out)


def schedule(dimensions: tuple[Dimension, ...], scheduling: Scheduling, strides: Sequence[Sequence[int]] = ()) -> Nest:
    """Choose the form of the loops. `strides` are those of all accesses over the domain."""
    if not any(d.folded for d in dimensions):
        tile = _transposed(dimensions, strides, scheduling.tile)
        if tile is not None:
            return Nest("map", dimensions, scheduling.tile, tile)
        rows = math.prod(d.extent for d in dimensions[:-1])
        block = scheduling.map_block
        few = len(dimensions) > 1 and rows < scheduling.min_parallel and dimensions[-1].extent >= 2 * block
        return Nest("map", dimensions, block if few else 0)
    if dimensions[-1].folded:
        return Nest("row", dimensions)
    return Nest("column", dimensions, max(1, min(scheduling.column_block, dimensions[-1].extent)))


def _transposed(dimensions: tuple[Dimension, ...], strides: Sequence[Sequence[int]], side: int) -> int | None:
    """The dimension that some access walks through contiguously instead of the last one, where both are long.

    The parts of complex numbers are as good as contiguous.
    """
    if len(dimensions) < 2 or dimensions[-1].extent < side:
        return None
    last = dimensions[-1].members[-1]
    for access in strides:
        if abs(access[last]) > 2:
            for i, dim in enumerate(dimensions[:-1]):
                if abs(access[dim.members[-1]]) in (1, 2) and dim.extent >= side:
                    return i
    return None


def partial_blocks(nest: Nest, scheduling: Scheduling) -> int:
    """The number of partial folds that a long fold with few results is cut into; 0 if it is not cut."""
    total = math.prod(d.extent for d in nest.dimensions)
    if nest.form == "map" or nest.extent >= scheduling.min_parallel or total < scheduling.long_fold:
        return 0
    return min(scheduling.max_partial_folds, nest.dimensions[nest.folds[0]].extent, total // scheduling.grain)


def sum_block(nest: Nest, parts: int, simd: bool) -> tuple[int, int] | None:
    """The folded dimension in which a long sum continues in float64, and after how many iterations.

    The loops within that dimension are part of the block; None where all is one block. `parts`: into how many pieces
    the first folded dimension is cut; `simd`: whether the vector loop reads neighbors.
    """
    extents = {i: nest.dimensions[i].extent for i in nest.folds}
    extents[nest.folds[0]] = -(-extents[nest.folds[0]] // max(1, parts))
    folds, room = nest.folds, SUM_ROWS
    if nest.form == "row":
        *folds, last = nest.folds
        simd = simd and extents[last] >= 64
        most = SUM_BLOCK if simd else SUM_SCALARS
        if extents[last] > most:
            return last, most
        room = SUM_ROWS if simd else max(1, SUM_SCALARS // max(1, extents[last]))
    for i in reversed(folds):
        if extents[i] > room:
            return i, room
        room = max(1, room // max(1, extents[i]))
    return None
