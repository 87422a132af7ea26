"""The tile of an implicit matrix product: what its code is specialized to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """What code is specialized to: sums in registers, and how many loops there are."""

    dtype: np.dtype
    lanes: int
    rows: int
    vectors: int
    group_loops: int
    row_loops: int
    block_loops: int
    depth_loops: int
    unroll: int
    step: int  # distance in a of neighbors in depth, 0 if that is left open
    dense: bool  # columns are neighbors in the result
    dots: bool = False  # the lanes of a vector are neighbors in depth, and `vectors` is the number of columns

    @property
    def columns(self) -> int:
        """How many columns a tile has."""
        return self.vectors if self.dots else self.lanes * self.vectors
