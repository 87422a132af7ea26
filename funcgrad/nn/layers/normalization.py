"""Layers that normalize each example on its own: LayerNorm, RMSNorm, GroupNorm, InstanceNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn import initializers, normalizers
from funcgrad.nn.layer import Layer, Shape, as_size, check_features, constructor, parameters
from funcgrad.nn.layers.spatial import as_channels, channel_axis, per_channel, spatial_axes
from funcgrad.nn.torch import Tensor, torch_tensors


@constructor
def LayerNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True, dtype: Any = None) -> Layer:
    """Standardize each vector along the last axis, then scale and shift: (…, n) → (…, n).

    Params: {"scale": (n,), "bias": (n,)}. Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """

    def normalize(x: Any) -> Any:
        return normalizers.standardize(x, epsilon=epsilon, algorithm="stable")

    return _layer("LayerNorm", normalize, epsilon, scale, bias, "last", dtype)


@constructor
def RMSNorm(*, epsilon: float = 1e-6, scale: bool = True, dtype: Any = None) -> Layer:
    """x / √(mean(x²) + epsilon) along the last axis, then scale: (…, n) → (…, n).

    Params: {"scale": (n,)}. Source: Zhang, Sennrich, "Root mean square layer normalization", 2019.
    """

    def normalize(x: Any) -> Any:
        return x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + epsilon)

    return _layer("RMSNorm", normalize, epsilon, scale, False, "last", dtype)


@constructor
def GroupNorm(
    groups: int,
    *,
    epsilon: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    channels: str = "last",
    dtype: Any = None,
) -> Layer:
    """Standardize groups of channels over space, then scale and shift each channel: (batch, *space, channels).

    Params: {"scale": (channels,), "bias": (channels,)}. Source: Wu, He, "Group normalization", 2018.
    """
    groups = as_size(groups, "groups", "GroupNorm")

    def normalize(x: Any) -> Any:
        axis = channel_axis(x.ndim, channels)
        if x.shape[axis] % groups:
            raise ShapeError(
                f"GroupNorm: {x.shape[axis]} channels of {x.aval} in {groups} groups",
                fix="the number of groups must divide the number of channels",
            )
        split = x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
        axes = tuple(d for d in range(1, split.ndim) if d != axis)
        return normalizers.standardize(split, axes, epsilon=epsilon, algorithm="stable").reshape(x.shape)

    return _layer("GroupNorm", normalize, epsilon, scale, bias, channels, dtype)


@constructor
def InstanceNorm(
    *, epsilon: float = 1e-5, scale: bool = True, bias: bool = True, channels: str = "last", dtype: Any = None
) -> Layer:
    """Standardize each channel of each example over space, then scale and shift it: (batch, *space, channels).

    Params: {"scale": (channels,), "bias": (channels,)}. Source: Ulyanov, Vedaldi, Lempitsky, "Instance normalization",
    2016.
    """

    def normalize(x: Any) -> Any:
        if x.ndim < 3:
            raise ShapeError(f"InstanceNorm: the input {x.aval} has no spatial axes", fix="use LayerNorm for vectors")
        axes = spatial_axes(x.ndim, channels)
        return normalizers.standardize(x, axes, epsilon=epsilon, algorithm="stable")

    return _layer("InstanceNorm", normalize, epsilon, scale, bias, channels, dtype)


def affine_shapes(size: int | None, scale: bool, bias: bool) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the parameters of a layer that scales and shifts channels."""
    return {name: (size,) for name, has in (("scale", scale), ("bias", bias)) if has}


def affine_init(name: str, in_shape: Shape, scale: bool, bias: bool, channels: str, dtype: Any) -> dict[str, Any]:
    """Return parameters for which scaling and shifting is the identity."""
    if not in_shape:
        fix = "the last axis of the input is that of the features"
        raise ShapeError(f"{name}: the input is a scalar", fix=fix)
    size = (in_shape[0 if channels == "first" else -1],)
    makers = {"scale": initializers.ones, "bias": initializers.zeros}
    return {part: makers[part](None, size, dtype) for part in affine_shapes(None, scale, bias)}


def _layer(
    name: str,
    normalize: Callable[[Any], Any],
    epsilon: float,
    scale: bool,
    bias: bool,
    channels: str,
    dtype: Any,
) -> Layer:
    """A layer that normalizes its input, in float32 at least, then scales and shifts the channels."""
    as_number(epsilon, "epsilon", name, "[0, inf)")
    as_channels(channels, name)
    shapes = affine_shapes(None, scale, bias)

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x, parts = as_operand(x, name), dict(zip(shapes, parameters(params, name, shapes), strict=True))
        for part, value in parts.items():
            axis = channel_axis(x.ndim, channels)
            check_features(x, value.shape[0], name, f"the {part} {value.aval}", axis)
        y = normalize(widened(x)).astype(as_float(x))
        y = y * per_channel(parts["scale"], x.ndim, channels) if scale else y
        return y + per_channel(parts["bias"], x.ndim, channels) if bias else y

    return Layer(lambda key, in_shape: (in_shape, affine_init(name, in_shape, scale, bias, channels, dtype)), apply)


def as_float(x: Any) -> Any:
    """Return the dtype of `x`, or the default float for integers."""
    return x.dtype if dtypes.is_inexact(x.dtype) else dtypes.canonicalize(float)


def widened(x: Any) -> Any:
    """Return `x` in float32 at least, in which statistics are computed."""
    return x.astype(jnp.promote_types(as_float(x), jnp.float32))


@torch_tensors("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
def affine_tensors(layer: Layer) -> list[Tensor]:
    """Return the scale and the bias of a layer, as far as it has them."""
    has = {name for name in ("scale", "bias") if layer.options.get(name)}
    return [Tensor(name, (ours,)) for name, ours in (("weight", "scale"), ("bias", "bias")) if ours in has]
