"""Calls of gathers, scatters and dynamic slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers
from funcgrad.testing.calls.table import (
    ANY,
    NUMBER,
    REALS,
    Draw,
    allowed,
    operand,
    strategy,
    subset,
)
from funcgrad.testing.strategies import (
    fill,
    seeds,
    shapes,
)


class _Windows(NamedTuple):
    """The shape of an operand, index vectors into it, and the dimension numbers of the indices and windows."""

    shape: tuple[int, ...]
    indices: np.ndarray
    numbers: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of the result of a gather: batch and window dimensions, interleaved."""
        offset, collapsed, _, batching, _ = self.numbers
        window = iter([n for d, n in enumerate(self.sizes) if d not in collapsed + batching])
        batch = iter(self.indices.shape[:-1])
        rank = self.indices.ndim - 1 + len(offset)
        return tuple(next(window) if d in offset else next(batch) for d in range(rank))


def _windows(draw: Draw, unique: bool = False) -> _Windows:
    """Windows inside and partly outside an operand; if `unique`, of single elements at distinct positions."""
    shape = draw(shapes(min_dims=1, min_side=1))
    rank = len(shape)
    batching = subset(draw, [0]) if rank > 1 and not unique else ()
    free = [d for d in range(rank) if d not in batching]
    mapped = tuple(draw(st.permutations(subset(draw, free, min_size=1))))
    sizes = tuple(
        1 if d in batching or (unique and d in mapped) else draw(st.integers(1, n)) for d, n in enumerate(shape)
    )
    collapsed = subset(draw, [d for d in free if sizes[d] == 1])
    lead = draw(shapes(max_dims=2, max_side=3))
    batch = (*(shape[d] for d in batching), *lead)
    if unique:
        places = list(np.ndindex(*(shape[d] for d in mapped)))
        count = draw(st.integers(0, len(places)))
        indices = np.array(draw(st.permutations(places))[:count], np.int32).reshape(count, len(mapped))
    else:
        outside = draw(st.booleans())
        top = [shape[d] - sizes[d] + (2 if outside else 0) for d in mapped]
        rng = np.random.default_rng(draw(seeds))
        lowest = -1 if outside else 0
        indices = rng.integers(lowest, np.array(top, int) + 1, (*batch, len(mapped))).astype(np.int32)
    offsets = rank - len(collapsed) - len(batching)
    result_rank = indices.ndim - 1 + offsets
    offset = tuple(sorted(draw(st.permutations(range(result_rank)))[:offsets]))
    return _Windows(shape, indices, (offset, collapsed, mapped, batching, tuple(range(len(batching)))), sizes)


def _mode(draw: Draw) -> GatherScatterMode:
    modes = GatherScatterMode.CLIP, GatherScatterMode.FILL_OR_DROP, GatherScatterMode.PROMISE_IN_BOUNDS
    return draw(st.sampled_from(modes))


@strategy("gather")
def _gather(draw: Draw, within: Sequence[np.dtype]) -> Any:
    windows, mode = _windows(draw), _mode(draw)
    operand = fill(draw(seeds), draw(allowed(ANY, within)), windows.shape)
    return [operand, windows.indices], {
        "dimension_numbers": GatherDimensionNumbers(*windows.numbers),
        "fill_value": 1 if mode is GatherScatterMode.FILL_OR_DROP else None,
        "indices_are_sorted": False,
        "mode": mode,
        "slice_sizes": windows.sizes,
        "unique_indices": False,
    }


def _declare_scatter(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def scatter(draw: Draw, within: Sequence[np.dtype]) -> Any:
        # A product has no derivative with respect to its factors if indices repeat.
        unique = name == "scatter-mul" or draw(st.booleans())
        windows = _windows(draw, unique)
        dtype, seed = draw(allowed(kinds, within)), draw(seeds)
        operand, updates = fill(seed, dtype, windows.shape), fill(seed + 1, dtype, windows.result)
        return [operand, windows.indices, updates], {
            "dimension_numbers": ScatterDimensionNumbers(*windows.numbers),
            "indices_are_sorted": False,
            "mode": GatherScatterMode.FILL_OR_DROP if unique else _mode(draw),
            "unique_indices": unique,
        }


for _name, _kinds in {
    "scatter": ANY,
    "scatter-add": NUMBER,
    "scatter-sub": NUMBER,
    "scatter-mul": NUMBER,
    "scatter-min": REALS,
    "scatter-max": REALS,
}.items():
    _declare_scatter(_name, _kinds)


def _slice_within(draw: Draw, within: Sequence[np.dtype]) -> tuple[np.ndarray, tuple[int, ...], list[np.int32]]:
    """An operand, the sizes of a slice of it, and starts inside and outside its bounds."""
    x = operand(draw, within)
    sizes = tuple(draw(st.integers(0, n)) for n in x.shape)
    starts = [np.int32(draw(st.integers(-1, n + 1))) for n in x.shape]
    return x, sizes, starts


@strategy("dynamic_slice")
def _dynamic_slice(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x, sizes, starts = _slice_within(draw, within)
    return [x, *starts], {"slice_sizes": sizes}


@strategy("dynamic_update_slice")
def _dynamic_update_slice(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x, sizes, starts = _slice_within(draw, within)
    return [x, fill(draw(seeds), x.dtype, sizes), *starts], {}
