"""Convolutions and transposed convolutions in 1 to 3 dimensions.

>>> from funcgrad import nn, random
>>> model = nn.Sequential(nn.Conv2d(8, 3, strides=2), nn.relu, nn.ConvTranspose2d(1, 2, strides=2))
>>> shape, params = model.init(random.key(0), (28, 28, 1))
>>> shape, params[0]["kernel"].shape
((28, 28, 1), (3, 3, 1, 8))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import lax, random
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.convolution import transposed_padding
from funcgrad.nn import initializers
from funcgrad.nn.layer import Layer, Shape, as_size, check_features, infer_shape, initial, parameters
from funcgrad.nn.layers.spatial import (
    Padding,
    Sizes,
    as_channels,
    as_padding,
    as_sizes,
    channel_axis,
    check_example,
    check_rank,
    per_channel,
    ranked,
)
from funcgrad.nn.torch import Tensor, bias_tensors, permuted, torch_tensors


def _conv(
    rank: int,
    features: int,
    kernel_size: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    channels: str = "last",
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
    dtype: Any = None,
) -> Layer:
    """Convolution: (batch, SPACE, in) → (batch, SPACE, features); with channels="first", (batch, in, SPACE).

    Params: {"kernel": (*kernel_size, in / groups, features), "bias": (features,)}, in either order of channels.

    Args:
      strides: the distance of windows, one number for all axes or a sequence.
      padding: "SAME" (the output has the size of the input, divided by the strides), "VALID" (none), a number for both
        ends of all axes, one for each axis, or pairs (low, high).
      dilation: the distance of elements in a window.
      groups: so many groups of output features see one group of the input features each; with the number of input
        features, the convolution is depthwise.
    """
    name = f"Conv{rank}d"
    strides, dilation = as_sizes(strides, rank, "strides", name), as_sizes(dilation, rank, "dilation", name)
    pads = as_padding(padding, rank, name)

    def convolve(x: Any, kernel: Any) -> Any:
        numbers = _numbers(rank, channels)
        return lax.conv_general_dilated(x, kernel, strides, pads, None, dilation, numbers, groups)

    window = as_sizes(kernel_size, rank, "kernel_size", name)
    return _layer(name, window, features, convolve, groups, bias, channels, (kernel_init, bias_init, dtype))


def _conv_transpose(
    rank: int,
    features: int,
    kernel_size: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    channels: str = "last",
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
    dtype: Any = None,
) -> Layer:
    """Transposed convolution: (batch, SPACE, in) → (batch, SPACE, features), where space grows by the strides.

    The shapes are those of the transpose of `Conv` with the same options. With padding="SAME", the size of the output
    is that of the input times the strides.

    Params: {"kernel": (*kernel_size, in / groups, features), "bias": (features,)}.

    Args:
      strides: the distance of the elements of the input in the output.
      padding: "SAME", "VALID", or as numbers, what the output loses at its ends.
      output_padding: what the output gains at the upper end of each axis.
      dilation, groups: as for `Conv`.
    """
    name = f"ConvTranspose{rank}d"
    strides, dilation = as_sizes(strides, rank, "strides", name), as_sizes(dilation, rank, "dilation", name)
    window = as_sizes(kernel_size, rank, "kernel_size", name)
    spans = [(n - 1) * d + 1 for n, d in zip(window, dilation, strict=True)]
    pads = transposed_padding(spans, strides, as_padding(padding, rank, name))
    extra = as_sizes(output_padding, rank, "output_padding", name, 0)
    pads = [(low, high + more) for (low, high), more in zip(pads, extra, strict=True)]

    def convolve(x: Any, kernel: Any) -> Any:
        ones, numbers = (1,) * rank, _numbers(rank, channels)
        return lax.conv_general_dilated(x, kernel, ones, pads, strides, dilation, numbers, groups)

    return _layer(name, window, features, convolve, groups, bias, channels, (kernel_init, bias_init, dtype))


def _numbers(rank: int, channels: str) -> tuple[str, str, str]:
    space = "DHW"[-rank:]
    batch = f"NC{space}" if channels == "first" else f"N{space}C"
    return batch, f"{space}IO", batch


def _layer(
    name: str,
    window: Shape,
    features: int,
    convolve: Callable[[Any, Any], Any],
    groups: int,
    bias: bool,
    channels: str,
    initialization: tuple[Any, Any, Any],
) -> Layer:
    """A layer that convolves its input with a kernel and adds a bias."""
    rank, features, groups = len(window), as_size(features, "features", name), as_size(groups, "groups", name)
    as_channels(channels, name)
    kernel_init, bias_init, dtype = initialization
    kernel_init = kernel_init or initializers.lecun_normal()
    shapes = {"kernel": (*window, None, features)} | ({"bias": (features,)} if bias else {})
    if features % groups:
        raise ArgumentError(f"{name}: {features} features in {groups} groups", fix="groups must divide features")

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        check_example(in_shape, rank, name, channels)
        size = in_shape[0 if channels == "first" else -1]
        if size % groups:
            raise ShapeError(
                f"{name}: {size} input features in {groups} groups", fix="groups must divide both features"
            )
        kernel_key, bias_key = random.split(key)
        shape = (*window, size // groups, features)
        params = {"kernel": initial(kernel_init, "kernel_init", name, kernel_key, shape, dtype)}
        if bias:
            params["bias"] = initial(bias_init, "bias_init", name, bias_key, (features,), dtype)
        return infer_shape(lambda x: apply(params, x), in_shape), params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x, (kernel, *rest) = as_operand(x, name), parameters(params, name, shapes)
        check_rank(x, rank, name, channels)
        axis = channel_axis(x.ndim, channels)
        holder = f"the kernel {kernel.aval}" + (f" of {groups} groups" if groups > 1 else "")
        check_features(x, kernel.shape[-2] * groups, name, holder, axis)
        y = convolve(*promote_inexact(x, kernel, operation=name))
        return y + per_channel(rest[0], x.ndim, channels) if bias else y

    return Layer(init, apply)


Conv1d, Conv2d, Conv3d = ranked("Conv", _conv)
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = ranked("ConvTranspose", _conv_transpose)


@torch_tensors("Conv1d", "Conv2d", "Conv3d")
def _conv_tensors(layer: Layer) -> list[Tensor]:
    space = range(2, 2 + int(layer.kind[-2]))
    return [permuted("weight", "kernel", *space, 1, 0), *bias_tensors(layer)]


@torch_tensors("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
def _conv_transpose_tensors(layer: Layer) -> list[Tensor]:
    """PyTorch's kernel is (in, out / groups, *window), and that of the convolution that is transposed: reversed."""
    groups, rank = layer.options["groups"], int(layer.kind[-2])
    space = tuple(range(rank))

    def load(x: np.ndarray) -> np.ndarray:
        split = x.reshape(groups, x.shape[0] // groups, *x.shape[1:])
        moved = np.transpose(split, (*(d + 3 for d in space), 1, 0, 2))
        return np.flip(moved.reshape(*moved.shape[: rank + 1], -1), space)

    def save(kernel: np.ndarray) -> np.ndarray:
        *window, per_group, features = kernel.shape
        split = np.flip(kernel, space).reshape(*window, per_group, groups, features // groups)
        moved = np.transpose(split, (rank + 1, rank, rank + 2, *space))
        return moved.reshape(groups * per_group, features // groups, *window)

    return [Tensor("weight", ("kernel",), load, save), *bias_tensors(layer)]
