"""Calls of linear algebra: well-conditioned matrices, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad.testing.calls.table import INEXACT, SMALL, Draw, strategy, wide_floats
from funcgrad.testing.strategies import fill, seeds


def _sizes(draw: Draw) -> tuple[list[int], int]:
    return draw(st.lists(st.integers(0, 2), max_size=2)), draw(st.integers(0, 4))


@strategy("cholesky")
def _cholesky(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, n = _sizes(draw)
    root = fill(draw(seeds), draw(wide_floats(within, INEXACT)), (*batch, n, n), SMALL)
    positive = root @ np.swapaxes(root.conj(), -1, -2) + np.eye(n)
    return [positive.astype(root.dtype)], {}


@strategy("triangular_solve")
def _triangular_solve(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, n = _sizes(draw)
    dtype, m, left_side = draw(wide_floats(within, INEXACT)), draw(st.integers(0, 3)), draw(st.booleans())
    matrices = 0.3 * fill(draw(seeds), dtype, (*batch, n, n), SMALL) + 2 * np.eye(n)
    sides = fill(draw(seeds), dtype, (*batch, n, m) if left_side else (*batch, m, n), SMALL)
    options = ("lower", "transpose_a", "conjugate_a", "unit_diagonal")
    return [matrices.astype(dtype), sides], {"left_side": left_side} | {k: draw(st.booleans()) for k in options}
