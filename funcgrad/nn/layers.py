"""Layers: pairs of pure functions, `init(key, in_shape) → (out_shape, params)` and `apply(params, x) → y`.

Shapes are those of one example; `apply` takes a batch of them, x of shape (batch, *in_shape). Parameters are a pytree
of the layer's own; layers without parameters have (). `apply` further takes `key=` and `train=`, which only layers that
behave differently in training use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn import activations, initializers, normalizers

Shape = tuple[int, ...]


class Layer(NamedTuple):
    """A layer: how its parameters begin, and what it computes with them."""

    init: Callable[..., tuple[Shape, Any]]
    apply: Callable[..., Any]


def Activation(function: Callable[[Any], Any], **options: Any) -> Layer:
    """A function of arrays that keeps the shape, as a layer without parameters."""
    return Layer(
        lambda key, in_shape: (tuple(in_shape), ()),
        lambda params, x, *, key=None, train=False: function(x, **options),
    )


def Relu() -> Layer:
    """max(x, 0)."""
    return Activation(activations.relu)


def Tanh() -> Layer:
    """Hyperbolic tangent."""
    return Activation(activations.tanh)


def Sigmoid() -> Layer:
    """1 / (1 + e⁻ˣ)."""
    return Activation(activations.sigmoid)


def Gelu(approximate: bool = True) -> Layer:
    """x·Φ(x)."""
    return Activation(activations.gelu, approximate=approximate)


def Silu() -> Layer:
    """x·sigmoid(x)."""
    return Activation(activations.silu)


def Softmax(axis: int = -1) -> Layer:
    """eˣ / Σ eˣ along an axis."""
    return Activation(normalizers.softmax, axis=axis)


def LogSoftmax(axis: int = -1) -> Layer:
    """log(eˣ / Σ eˣ) along an axis."""
    return Activation(normalizers.log_softmax, axis=axis)


def Flatten() -> Layer:
    """(batch, *in_shape) → (batch, n), n the product of in_shape."""
    return Layer(
        lambda key, in_shape: ((math.prod(in_shape),), ()),
        lambda params, x, *, key=None, train=False: jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))),
    )


def Linear(
    features: int,
    *,
    bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
    dtype: Any = None,
) -> Layer:
    """x·kernel + bias: (…, in) → (…, features). Params: {"kernel": (in, features), "bias": (features,)}.

    The kernel begins by default as `lecun_normal`.
    """
    kernel_init = kernel_init or initializers.lecun_normal()

    def init(key: Any, in_shape: Sequence[int]) -> tuple[Shape, Any]:
        if not in_shape:
            raise ShapeError("Linear: the input is a scalar", fix="the last axis of the input holds its features")
        kernel_key, bias_key = random.split(key)
        params = {"kernel": kernel_init(kernel_key, (in_shape[-1], features), dtype)}
        if bias:
            params["bias"] = bias_init(bias_key, (features,), dtype)
        return (*in_shape[:-1], features), params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        y = jnp.matmul(x, params["kernel"])
        return y + params["bias"] if bias else y

    return Layer(init, apply)


def LayerNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True, dtype: Any = None) -> Layer:
    """Standardise each vector of the last axis, then scale and shift: (…, n) → (…, n).

    Params: {"scale": (n,), "bias": (n,)}. Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """

    def init(key: Any, in_shape: Sequence[int]) -> tuple[Shape, Any]:
        size = (in_shape[-1],)
        params = {"scale": initializers.ones(key, size, dtype)} if scale else {}
        if bias:
            params["bias"] = initializers.zeros(key, size, dtype)
        return tuple(in_shape), params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        y = normalizers.standardize(x, epsilon=epsilon, algorithm="stable")
        y = y * params["scale"] if scale else y
        return y + params["bias"] if bias else y

    return Layer(init, apply)


def Embedding(
    count: int, features: int, *, table_init: initializers.Initializer | None = None, dtype: Any = None
) -> Layer:
    """Rows of a table: integers (…) below count → (…, features). Params: {"table": (count, features)}.

    The table begins by default as normals of standard deviation 1/√features.
    """
    table_init = table_init or initializers.normal(1 / math.sqrt(features))

    def init(key: Any, in_shape: Sequence[int]) -> tuple[Shape, Any]:
        return (*in_shape, features), {"table": table_init(key, (count, features), dtype)}

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        return params["table"][x]

    return Layer(init, apply)


def Dropout(rate: float) -> Layer:
    """In training, set elements to 0 with probability `rate` and divide the others by 1 − rate; else the identity.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """
    if not 0 <= rate < 1:
        raise ArgumentError(f"Dropout: rate {rate} is not in [0, 1)", fix="it is the share of elements dropped")

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        if not train or rate == 0:
            return x
        if key is None:
            raise ArgumentError("Dropout: training needs a key", fix="call apply(params, x, key=key, train=True)")
        kept = random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0)

    return Layer(lambda key, in_shape: (tuple(in_shape), ()), apply)


def Sequential(*layers: Layer) -> Layer:
    """Layers one after another. Params: the list of theirs; each layer gets a key of its own.

    >>> _, params = Sequential(Linear(3), Relu(), Linear(2)).init(random.key(0), (4,))
    >>> [sorted(p) for p in params]
    [['bias', 'kernel'], [], ['bias', 'kernel']]
    """

    def init(key: Any, in_shape: Sequence[int]) -> tuple[Shape, Any]:
        shape, params = tuple(in_shape), []
        for layer, layer_key in zip(layers, random.split(key, len(layers)), strict=True):
            shape, own = layer.init(layer_key, shape)
            params.append(own)
        return shape, params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        if len(params) != len(layers):
            raise ArgumentError(
                f"Sequential: {len(params)} layers' parameters for {len(layers)} layers", fix="pass what init returned"
            )
        keys = [None] * len(layers) if key is None else random.split(key, len(layers))
        for layer, own, layer_key in zip(layers, params, keys, strict=True):
            x = layer.apply(own, x, key=layer_key, train=train)
        return x

    return Layer(init, apply)
