"""Pooling: extremes and means over windows, over parts of the input, or over all of space."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.nn.layer import Layer, Shape, constructor, infer_shape
from funcgrad.nn.layers.spatial import (
    Padding,
    Sizes,
    as_channels,
    as_padding,
    as_sizes,
    check_example,
    check_rank,
    ranked,
    spatial_axes,
    with_space,
)


def _max_pool(
    rank: int,
    window: Sizes,
    *,
    strides: Sizes | None = None,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    channels: str = "last",
) -> Layer:
    """The maximum over windows: (batch, SPACE, channels), or with channels="first", (batch, channels, SPACE).

    `strides` are those of `window` by default. `padding` and `dilation` are as for `Conv`; padding has no values.
    """
    name = f"MaxPool{rank}d"
    window = as_sizes(window, rank, "window", name)
    strides = window if strides is None else as_sizes(strides, rank, "strides", name)
    dims = with_space(window, 1, channels), with_space(strides, 1, channels)
    spread = with_space(as_sizes(dilation, rank, "dilation", name), 1, channels)
    pads = _pads(padding, rank, name, channels)

    def pool(x: Any) -> Any:
        least = -np.inf if dtypes.is_float(x.dtype) else np.iinfo(x.dtype).min
        return lax.reduce_window(x, np.array(least, x.dtype), lax.max, *dims, pads, None, spread)

    return _layer(name, rank, channels, pool)


def _avg_pool(
    rank: int,
    window: Sizes,
    *,
    strides: Sizes | None = None,
    padding: Padding = "VALID",
    include_padding: bool = True,
    channels: str = "last",
) -> Layer:
    """The mean over windows: (batch, SPACE, channels), or with channels="first", (batch, channels, SPACE).

    `strides` are those of `window` by default, and `padding` is as for `Conv`. Zeros of the padding are part of the
    mean if `include_padding`.
    """
    name = f"AvgPool{rank}d"
    window = as_sizes(window, rank, "window", name)
    strides = window if strides is None else as_sizes(strides, rank, "strides", name)
    dims = with_space(window, 1, channels), with_space(strides, 1, channels)
    pads = _pads(padding, rank, name, channels)

    def pool(x: Any) -> Any:
        (x,) = promote_inexact(x, operation=name)
        total = lax.reduce_window(x, np.array(0, x.dtype), lax.add, *dims, pads)
        if include_padding or pads == "VALID":
            return total / math.prod(window)
        given = lax.padtype_to_pads(x.shape, *dims, pads) if isinstance(pads, str) else pads
        return total / _counts(x.shape, *dims, given).astype(x.dtype)

    return _layer(name, rank, channels, pool)


def _pads(padding: Padding, rank: int, name: str, channels: str) -> Any:
    as_channels(channels, name)
    pads = as_padding(padding, rank, name)
    return pads if isinstance(pads, str) else with_space(pads, (0, 0), channels)


def _counts(shape: Shape, window: Shape, strides: Shape, pads: Any) -> np.ndarray:
    """How many elements each window has, without padding; it broadcasts to the output."""
    counts = []
    for n, k, stride, (low, high) in zip(shape, window, strides, pads, strict=True):
        if k == 1 == stride and not low and not high:
            counts.append(np.ones(1, int))
            continue
        first = np.arange((n + low + high - k) // stride + 1) * stride - low
        counts.append(np.minimum(first + k, n) - np.maximum(first, 0))
    return functools.reduce(np.multiply, np.ix_(*counts))


def _layer(name: str, rank: int, channels: str, pool: Callable[[Any], Any]) -> Layer:
    """A layer without parameters that changes spatial axes."""
    as_channels(channels, name)

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        check_example(in_shape, rank, name, channels)
        return infer_shape(pool, in_shape), ()

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, name)
        check_rank(x, rank, name, channels)
        return pool(x)

    return Layer(init, apply)


# ---------------------------------------------------------------- adaptive


def _adaptive_max_pool(rank: int, size: Sizes, *, channels: str = "last") -> Layer:
    """The maximum over parts of the input, as many as `size` for each axis: (batch, SPACE, channels).

    Part i of m along an axis of n elements has the elements from ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ − 1.
    """

    def pool(x: Any, axis: int, first: np.ndarray, last: np.ndarray) -> Any:
        # Shorter parts repeat their last element.
        places = np.minimum(first[:, None] + np.arange((last - first).max()), last[:, None] - 1)
        return jnp.max(jnp.take(x, places, axis, mode="clip"), axis + 1)

    return _adaptive(f"AdaptiveMaxPool{rank}d", rank, size, channels, jnp.max, pool)


def _adaptive_avg_pool(rank: int, size: Sizes, *, channels: str = "last") -> Layer:
    """The mean over parts of the input, as many as `size` for each axis: (batch, SPACE, channels).

    Part i of m along an axis of n elements has the elements from ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ − 1.
    """

    def pool(x: Any, axis: int, first: np.ndarray, last: np.ndarray) -> Any:
        (x,) = promote_inexact(x, operation=name)
        place = np.arange(x.shape[axis])[:, None]
        weights = ((place >= first) & (place < last)) / (last - first)
        return jnp.moveaxis(jnp.tensordot(x, weights.astype(x.dtype), (axis, 0)), -1, axis)

    name = f"AdaptiveAvgPool{rank}d"
    return _adaptive(name, rank, size, channels, jnp.mean, pool)


def _adaptive(name: str, rank: int, size: Sizes, channels: str, reduce: Callable[..., Any], uneven: Any) -> Layer:
    """A layer that pools one axis after the other: by a reduction of equal parts, or by a function for uneven ones."""
    sizes = as_sizes(size, rank, "size", name)

    def pool(x: Any) -> Any:
        for axis, m in zip(spatial_axes(x.ndim, channels), sizes, strict=True):
            n = x.shape[axis]
            if n % m:
                x = uneven(x, axis, np.arange(m) * n // m, -(-np.arange(1, m + 1) * n // m))
            elif n != m:
                x = reduce(x.reshape(*x.shape[:axis], m, n // m, *x.shape[axis + 1 :]), axis + 1)
        return x

    return _layer(name, rank, channels, pool)


# ---------------------------------------------------------------- global


@constructor
def GlobalAvgPool(*, keepdims: bool = False, channels: str = "last") -> Layer:
    """The mean over all spatial axes: (batch, *space, channels) → (batch, channels)."""
    return _global("GlobalAvgPool", jnp.mean, keepdims, channels)


@constructor
def GlobalMaxPool(*, keepdims: bool = False, channels: str = "last") -> Layer:
    """The maximum over all spatial axes: (batch, *space, channels) → (batch, channels)."""
    return _global("GlobalMaxPool", jnp.max, keepdims, channels)


def _global(name: str, reduce: Callable[..., Any], keepdims: bool, channels: str) -> Layer:
    as_channels(channels, name)

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, name)
        return reduce(x, spatial_axes(x.ndim, channels), keepdims=keepdims)

    return Layer(lambda key, in_shape: (infer_shape(lambda x: apply((), x), in_shape), ()), apply)


MaxPool1d, MaxPool2d, MaxPool3d = ranked("MaxPool", _max_pool)
AvgPool1d, AvgPool2d, AvgPool3d = ranked("AvgPool", _avg_pool)
AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d = ranked("AdaptiveMaxPool", _adaptive_max_pool)
AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d = ranked("AdaptiveAvgPool", _adaptive_avg_pool)
