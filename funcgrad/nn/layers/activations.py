"""Functions of arrays as layers without parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import dtypes
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.nn import activations
from funcgrad.nn.layer import Layer, Shape, constructor
from funcgrad.numpy import exponential_sums
from funcgrad.transforms.flattening import name_of
from funcgrad.transforms.make_jaxpr import eval_shape


def Activation(function: Callable[[Any], Any], **options: Any) -> Layer:
    """A function of arrays as a layer without parameters. Its output shape is inferred by tracing.

    `Sequential` converts functions to such layers.
    """

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        batch = ShapeDtypeStruct((1, *in_shape), dtypes.canonicalize(float))
        return eval_shape(lambda x: function(x, **options), batch).shape[1:], ()

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
def Softmax(axis: int = -1) -> Layer:
    """eˣ / Σ eˣ along an axis."""
    return _elementwise(exponential_sums.softmax, axis=axis)


@constructor
def LogSoftmax(axis: int = -1) -> Layer:
    """log(eˣ / Σ eˣ) along an axis."""
    return _elementwise(exponential_sums.log_softmax, axis=axis)
