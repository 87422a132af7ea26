"""Layers that change shapes: Flatten, Upsample, PixelShuffle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import image
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.layer import Layer, Shape, as_size, constructor, infer_shape
from funcgrad.nn.layers.spatial import as_channels, channel_axis, spatial_axes


@constructor
def Flatten() -> Layer:
    """Reshape (batch, *in_shape) to (batch, n), where n is the product of in_shape."""

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, "Flatten")
        if not x.ndim:
            raise ShapeError(
                f"Flatten: the input {x.aval} has no batch axis", fix="pass inputs of shape (batch, *in_shape)"
            )
        return jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    return Layer(lambda key, in_shape: ((math.prod(in_shape),), ()), apply)


@constructor
def Upsample(
    scale: float | Sequence[float] | None = None,
    *,
    size: int | Sequence[int] | None = None,
    method: str = "nearest",
    align_corners: bool = False,
    channels: str = "last",
) -> Layer:
    """Resize the spatial axes to `size`, or by the factor `scale`: (batch, *space, channels).

    Methods are those of `funcgrad.image.ResizeMethod`, without antialiasing: "nearest"; "linear", also called
    "bilinear" and "trilinear"; "bicubic-pytorch", Keys' cubic with a = −¾, as in PyTorch; "bicubic" with a = −½. With
    `align_corners`, the centers of the outermost pixels stay where they are, and not their edges.

    >>> layer = Upsample(2, method="linear")
    >>> layer.apply((), jnp.array([0.0, 1.0]).reshape(1, 2, 1)).tolist()
    [[[0.0], [0.25], [0.75], [1.0]]]
    """
    as_channels(channels, "Upsample")
    if (scale is None) == (size is None):
        raise ArgumentError(f"Upsample: scale is {scale} and size is {size}", fix="give one of them")
    kind = image.ResizeMethod.from_string(method)
    if align_corners and kind is image.ResizeMethod.NEAREST:
        raise ArgumentError("Upsample: align_corners with method 'nearest'", fix="use another method")

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, "Upsample")
        axes = spatial_axes(x.ndim, channels)
        sizes = _sizes([x.shape[d] for d in axes], scale, size)
        if kind is image.ResizeMethod.NEAREST:
            return _nearest(x, axes, sizes)
        shape = list(x.shape)
        for d, m in zip(axes, sizes, strict=True):
            shape[d] = m
        if not align_corners:
            return image.resize(x, shape, kind, antialias=False)
        old = [x.shape[d] for d in axes]
        scales = jnp.array([(m - 1) / (n - 1) if n > 1 else m for n, m in zip(old, sizes, strict=True)])
        return image.scale_and_translate(x, shape, axes, scales, 0.5 - 0.5 * scales, kind, antialias=False)

    return Layer(lambda key, in_shape: (infer_shape(lambda x: apply((), x), in_shape), ()), apply)


def _sizes(space: Sequence[int], scale: Any, size: Any) -> list[int]:
    """Return the sizes of the spatial axes of the output."""
    what, given = ("scale", scale) if size is None else ("size", size)
    values = given if isinstance(given, Sequence) else [given] * len(space)
    if len(values) != len(space):
        raise ArgumentError(f"Upsample: {what} is {given!r} for {len(space)} spatial axes", fix="give one for each")
    for value in values:
        as_number(value, what, "Upsample", "(0, inf)")
    return [int(n * value if size is None else value) for n, value in zip(space, values, strict=True)]


def _nearest(x: Any, axes: Sequence[int], sizes: Sequence[int]) -> Any:
    """Resize to the elements at ⌊i·n/m⌋; by broadcasting if m is a multiple of n."""
    for d, m in zip(axes, sizes, strict=True):
        n = x.shape[d]
        if m % n:
            x = jnp.take(x, jnp.arange(m) * n // m, d, mode="clip")
        elif m != n:
            before, after = x.shape[:d], x.shape[d + 1 :]
            wide = jnp.broadcast_to(x.reshape(*before, n, 1, *after), (*before, n, m // n, *after))
            x = wide.reshape(*before, m, *after)
    return x


@constructor
def PixelShuffle(factor: int, *, channels: str = "last") -> Layer:
    """Move channels into space: (batch, *space, channels·factorᵈ) → (batch, *(space·factor), channels), for d axes.

    Channel c·factorᵈ + k goes to channel c, at the place k in row-major order of a block of space. Source: Shi et al.,
    "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network", 2016.

    >>> PixelShuffle(2).init(None, (8, 8, 12))
    ((16, 16, 3), ())
    """
    factor = as_size(factor, "factor", "PixelShuffle")
    as_channels(channels, "PixelShuffle")

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, "PixelShuffle")
        axis, space = channel_axis(x.ndim, channels), spatial_axes(x.ndim, channels)
        d, block = len(space), factor ** len(space)
        if x.shape[axis] % block:
            raise ShapeError(
                f"PixelShuffle: the input {x.aval} has {x.shape[axis]} channels, no multiple of {block}",
                fix="give factor to the power of the spatial axes as many channels as the output",
            )
        split = x.reshape(*x.shape[:axis], x.shape[axis] // block, *(factor,) * d, *x.shape[axis + 1 :])
        places = [p if p < axis else p + d for p in space]
        pairs = [p for i, place in enumerate(places) for p in (place, axis + 1 + i)]
        order = (0, axis, *pairs) if channels == "first" else (0, *pairs, axis)
        sizes = [x.shape[p] * factor for p in space]
        sizes = (x.shape[axis] // block, *sizes) if channels == "first" else (*sizes, x.shape[axis] // block)
        return jnp.transpose(split, order).reshape(x.shape[0], *sizes)

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        return infer_shape(lambda x: apply((), x), in_shape), ()

    return Layer(init, apply)
