"""Functions of arrays as layers without parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.promotion import as_operand
from funcgrad.nn import activations, initializers
from funcgrad.nn.layer import Layer, Shape, as_size, check_features, constructor, infer_shape, parameters
from funcgrad.nn.layers.spatial import as_channels, channel_axis, per_channel
from funcgrad.nn.torch import Tensor, torch_tensors
from funcgrad.numpy import exponential_sums
from funcgrad.transforms.flattening import name_of


def Activation(function: Callable[[Any], Any], **options: Any) -> Layer:
    """A function of arrays as a layer without parameters. Its output shape is inferred by tracing.

    `Sequential` converts functions to such layers.
    """

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        return infer_shape(lambda x: function(x, **options), in_shape), ()

    return Layer(init, lambda params, x, *, key=None, train=False: function(x, **options), name_of(function))


def _elementwise(function: Callable[..., Any], **options: Any) -> Layer:
    return Layer(
        lambda key, in_shape: (in_shape, ()), lambda params, x, *, key=None, train=False: function(x, **options)
    )


@constructor
def Relu() -> Layer:
    """max(x, 0)."""
    return _elementwise(activations.relu)


@constructor
def Tanh() -> Layer:
    """Hyperbolic tangent."""
    return _elementwise(activations.tanh)


@constructor
def Sigmoid() -> Layer:
    """1 / (1 + e⁻ˣ)."""
    return _elementwise(activations.sigmoid)


@constructor
def Gelu(approximate: bool = True) -> Layer:
    """x·Φ(x)."""
    return _elementwise(activations.gelu, approximate=approximate)


@constructor
def Silu() -> Layer:
    """x·sigmoid(x)."""
    return _elementwise(activations.silu)


@constructor
def Relu6() -> Layer:
    """min(max(x, 0), 6)."""
    return _elementwise(activations.relu6)


@constructor
def LeakyRelu(negative_slope: float = 0.01) -> Layer:
    """x for x ≥ 0, and negative_slope·x for x < 0."""
    return _elementwise(activations.leaky_relu, negative_slope=negative_slope)


@constructor
def Elu(alpha: float = 1.0) -> Layer:
    """x for x > 0, and alpha·(eˣ − 1) for x ≤ 0."""
    return _elementwise(activations.elu, alpha=alpha)


@constructor
def Selu() -> Layer:
    """The scaled elu of self-normalizing networks."""
    return _elementwise(activations.selu)


@constructor
def Celu(alpha: float = 1.0) -> Layer:
    """max(x, 0) + alpha·(e^(min(x, 0)/alpha) − 1)."""
    return _elementwise(activations.celu, alpha=alpha)


@constructor
def Mish() -> Layer:
    """x·tanh(softplus(x))."""
    return _elementwise(activations.mish)


@constructor
def Softplus() -> Layer:
    """log(1 + eˣ)."""
    return _elementwise(activations.softplus)


@constructor
def Squareplus(b: float = 4.0) -> Layer:
    """(x + √(x² + b)) / 2."""
    return _elementwise(activations.squareplus, b=b)


@constructor
def SoftSign() -> Layer:
    """x / (|x| + 1)."""
    return _elementwise(activations.soft_sign)


@constructor
def LogSigmoid() -> Layer:
    """log(sigmoid(x))."""
    return _elementwise(activations.log_sigmoid)


@constructor
def HardSigmoid() -> Layer:
    """relu6(x + 3) / 6."""
    return _elementwise(activations.hard_sigmoid)


@constructor
def HardTanh() -> Layer:
    """min(max(x, −1), 1)."""
    return _elementwise(activations.hard_tanh)


@constructor
def HardSwish() -> Layer:
    """x·relu6(x + 3) / 6."""
    return _elementwise(activations.hard_swish)


@constructor
def Softmax(axis: int = -1) -> Layer:
    """eˣ / Σ eˣ along an axis."""
    return _elementwise(exponential_sums.softmax, axis=axis)


@constructor
def LogSoftmax(axis: int = -1) -> Layer:
    """log(eˣ / Σ eˣ) along an axis."""
    return _elementwise(exponential_sums.log_softmax, axis=axis)


@constructor
def Glu(axis: int = -1) -> Layer:
    """a·sigmoid(b), where a and b are the halves of the input along an axis: (…, 2n) → (…, n)."""
    return Activation(activations.glu, axis=axis)


@constructor
def PReLU(
    count: int = 1,
    *,
    channels: str = "last",
    slope_init: initializers.Initializer = initializers.constant(0.25),  # noqa: B008
    dtype: Any = None,
) -> Layer:
    """x for x ≥ 0 and slope·x for x < 0. Params: {"slope": (count,)}: one for all channels or one for each.

    Source: He et al., "Delving deep into rectifiers", 2015.
    """
    count = as_size(count, "count", "PReLU")
    as_channels(channels, "PReLU")

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x, (slope,) = as_operand(x, "PReLU"), parameters(params, "PReLU", {"slope": (count,)})
        if count > 1:
            check_features(x, count, "PReLU", f"the slope {slope.aval}", channel_axis(x.ndim, channels))
        return jnp.where(x >= 0, x, per_channel(slope, x.ndim, channels) * x)

    return Layer(lambda key, in_shape: (in_shape, {"slope": slope_init(key, (count,), dtype)}), apply)


@torch_tensors("PReLU")
def _tensors(layer: Layer) -> list[Tensor]:
    return [Tensor("weight", ("slope",))]
