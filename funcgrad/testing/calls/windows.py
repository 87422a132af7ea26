"""Calls of convolutions and windowed reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt
from funcgrad.ops.conv import ConvDimensionNumbers
from funcgrad.ops.logic import ge_p, le_p
from funcgrad.ops.window_geometry import Window, dilated
from funcgrad.ops.windows import window_params
from funcgrad.testing.calls.table import NUMBER, ORDERED, REALS, Draw, allowed, strategy
from funcgrad.testing.strategies import fill, seeds


def _window(draw: Draw, n: int) -> Window:
    """A window that fits into `n` elements with some padding, which may be negative."""
    size, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    base, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    spare = dilated(n, base) - dilated(size, dilation)
    low = draw(st.integers(-1, 2))
    return Window(size, stride, low, draw(st.integers(max(-1, -spare - low), max(2, -spare - low))), base, dilation)


@strategy("conv_general_dilated")
def _convolution(draw: Draw, within: Sequence[np.dtype]) -> Any:
    rank = draw(st.sampled_from([1, 2, 2, 0, 3]))
    space = [draw(st.integers(1, 4)) for _ in range(rank)]
    windows = [_window(draw, n) for n in space]
    groups, by_batch = draw(st.integers(1, 2)), draw(st.booleans())
    batch, features, out_features = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    lhs_sizes = [batch * (groups if by_batch else 1), features * (1 if by_batch else groups), *space]
    rhs_sizes = [out_features * groups, features, *(w.size for w in windows)]
    specs = [tuple(draw(st.permutations(range(rank + 2)))) for _ in range(3)]
    dtype = draw(allowed(NUMBER, within))
    lhs, rhs = (
        fill(draw(seeds), dtype, [sizes[spec.index(d)] for d in range(rank + 2)])
        for sizes, spec in ((lhs_sizes, specs[0]), (rhs_sizes, specs[1]))
    )
    wide = {dt.float32: dt.float64, dt.bfloat16: dt.float32, dt.int8: dt.int32}.get(dtype, dtype)
    return [lhs, rhs], {
        "window_strides": tuple(w.stride for w in windows),
        "padding": tuple((w.low, w.high) for w in windows),
        "lhs_dilation": tuple(w.base_dilation for w in windows),
        "rhs_dilation": tuple(w.dilation for w in windows),
        "dimension_numbers": ConvDimensionNumbers(*specs),
        "feature_group_count": 1 if by_batch else groups,
        "batch_group_count": groups if by_batch else 1,
        "preferred_element_type": draw(st.sampled_from([dtype, wide])),
    }


def _reduction(draw: Draw) -> tuple[tuple[int, ...], dict[str, Any], list[int]]:
    """A shape, the params of windows over it, and the number of windows in each dimension."""
    shape = tuple(draw(st.lists(st.sampled_from([3, 2, 1, 4]), max_size=3)))
    windows = [_window(draw, n) for n in shape]
    return shape, window_params(windows), [w.count(n) for n, w in zip(shape, windows, strict=True)]


def _distinct(draw: Draw, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    """Values that are well separated, so that maxima and minima are differentiable."""
    values = np.random.default_rng(draw(seeds)).permutation(int(np.prod(shape))) - 1
    return (values / (4 if dtype.kind not in "bui" else 1)).astype(dtype).reshape(shape)


def _declare_reduction(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def reduction(draw: Draw, within: Sequence[np.dtype]) -> Any:
        shape, params, _ = _reduction(draw)
        dtype = draw(allowed(kinds, within))
        return [_distinct(draw, dtype, shape)], params


for _name, _kinds in (("reduce_window_sum", NUMBER), ("reduce_window_max", ORDERED), ("reduce_window_min", ORDERED)):
    _declare_reduction(_name, _kinds)


@strategy("select_and_gather_add")
def _gather(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape, params, _ = _reduction(draw)
    x = _distinct(draw, draw(allowed(REALS, within)), shape)
    return [fill(draw(seeds), x.dtype, shape), x], params | {"select_prim": draw(st.sampled_from([ge_p, le_p]))}


@strategy("select_and_scatter_add")
def _scatter(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape, params, counts = _reduction(draw)
    x = _distinct(draw, draw(allowed(REALS, within)), shape)
    return [fill(draw(seeds), x.dtype, counts), x], params | {"select_prim": draw(st.sampled_from([ge_p, le_p]))}
