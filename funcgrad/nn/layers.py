"""Layers: pairs of pure functions, `init(key, in_shape) → (out_shape, params)` and `apply(params, x) → y`.

Shapes are those of one example; `apply` takes a batch, x of shape (batch, *in_shape). Parameters are a pytree, which is
() for layers without parameters. `apply` also takes `key=` and `train=`, for layers that behave differently in
training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes, random
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.nn import activations, initializers, normalizers
from funcgrad.nn.labels import validity, widen
from funcgrad.nn.layer import (
    FROM_INIT,
    Layer,
    Shape,
    as_size,
    check_features,
    constructor,
    initial,
    is_constructor,
    parameter,
)
from funcgrad.transforms.flattening import name_of
from funcgrad.transforms.make_jaxpr import eval_shape

_FEATURES = "the number of features"


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
    return _elementwise(normalizers.softmax, axis=axis)


@constructor
def LogSoftmax(axis: int = -1) -> Layer:
    """log(eˣ / Σ eˣ) along an axis."""
    return _elementwise(normalizers.log_softmax, axis=axis)


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
def Linear(
    features: int,
    *,
    bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
    dtype: Any = None,
) -> Layer:
    """x·kernel + bias: (…, in) → (…, features). Params: {"kernel": (in, features), "bias": (features,)}.

    The default initializer of the kernel is `lecun_normal`.
    """
    kernel_init = kernel_init or initializers.lecun_normal()
    features = as_size(features, "features", "Linear")

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        if not in_shape:
            raise ShapeError("Linear: the input is a scalar", fix="the last axis of the input is that of the features")
        kernel_key, bias_key = random.split(key)
        params = {"kernel": initial(kernel_init, "kernel_init", "Linear", kernel_key, (in_shape[-1], features), dtype)}
        if bias:
            params["bias"] = initial(bias_init, "bias_init", "Linear", bias_key, (features,), dtype)
        return (*in_shape[:-1], features), params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x, kernel = as_operand(x, "Linear"), parameter(params, "kernel", "Linear")
        check_features(x, kernel.shape[0], "Linear", f"the kernel {kernel.aval}")
        y = jnp.matmul(x, kernel)
        return y + parameter(params, "bias", "Linear") if bias else y

    return Layer(init, apply)


@constructor
def LayerNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True, dtype: Any = None) -> Layer:
    """Standardize each vector along the last axis, then scale and shift: (…, n) → (…, n).

    Params: {"scale": (n,), "bias": (n,)}. Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """
    as_number(epsilon, "epsilon", "LayerNorm", "[0, inf)")

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        if not in_shape:
            raise ShapeError(
                "LayerNorm: the input is a scalar", fix="the last axis of the input is that of the features"
            )
        size = (in_shape[-1],)
        params = {"scale": initializers.ones(key, size, dtype)} if scale else {}
        if bias:
            params["bias"] = initializers.zeros(key, size, dtype)
        return in_shape, params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, "LayerNorm")
        parts = {name: parameter(params, name, "LayerNorm") for name, has in (("scale", scale), ("bias", bias)) if has}
        for name, part in parts.items():
            check_features(x, part.shape[0], "LayerNorm", f"the {name} {part.aval}")
        y = normalizers.standardize(x, epsilon=epsilon, algorithm="stable")
        y = y * parts["scale"] if scale else y
        return y + parts["bias"] if bias else y

    return Layer(init, apply)


@constructor
def Embedding(
    count: int, features: int, *, table_init: initializers.Initializer | None = None, dtype: Any = None
) -> Layer:
    """Look up rows of a table: integers from 0 to count − 1, (…) → (…, features). Params: {"table": (count, features)}.

    An index out of range raises an error if it is concrete; if it is traced, as under `jit`, the row and its derivative
    are NaN. By default, the table is initialized from a normal distribution with standard deviation 1/√features.
    """
    count, features = as_size(count, "count", "Embedding"), as_size(features, "features", "Embedding")
    table_init = table_init or initializers.normal(1 / math.sqrt(features))

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        return (*in_shape, features), {
            "table": initial(table_init, "table_init", "Embedding", key, (count, features), dtype)
        }

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        table, x = parameter(params, "table", "Embedding"), as_operand(x, "Embedding")
        if not dtypes.is_integer(x.dtype):
            raise DTypeError(
                f"Embedding: the input {x.aval} does not hold row indices", fix="cast it with .astype(int)"
            )
        rows = table.shape[0]
        x = widen(x, rows)
        factor = validity(
            x,
            lambda number: (number >= 0) & (number < rows),
            table.dtype,
            f"Embedding: the input has {{}}, but the table {table.aval} has rows 0 to {rows - 1}",
            "make count larger than every index in the input",
        )
        return table[x] if isinstance(factor, int) else table[x] * factor[..., None]

    return Layer(init, apply)


@constructor
def Dropout(rate: float) -> Layer:
    """In training, set elements to 0 with probability `rate` and divide the others by 1 − rate. Otherwise, do nothing.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """
    as_number(rate, "rate, the fraction of elements dropped,", "Dropout", "[0, 1)")

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        if not train or rate == 0:
            return x
        if key is None:
            raise ArgumentError("Dropout: training needs a key", fix="call apply(params, x, key=key, train=True)")
        x = as_operand(x, "Dropout")
        kept = random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0)

    return Layer(lambda key, in_shape: (in_shape, ()), apply)


@constructor
def Sequential(*layers: Layer | Callable[[Any], Any]) -> Layer:
    """Compose layers in sequence; functions of arrays count as layers. Params: the list of the layers' params.

    Each layer gets its own key. Errors name the layer, as in the repr.

    >>> model = Sequential(Linear(3), activations.relu, Linear(2))
    >>> print(model)
    Sequential(
      [0] Linear(3)
      [1] relu
      [2] Linear(2)
    )
    >>> _, params = model.init(random.key(0), (4,))
    >>> [sorted(p) for p in params]
    [['bias', 'kernel'], [], ['bias', 'kernel']]
    """
    parts = [_as_layer(layer, i) for i, layer in enumerate(layers)]

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        shape, params = in_shape, []
        for i, layer_key in enumerate(random.split(key, len(parts))):
            with model.scope(i):
                shape, own = parts[i].init(layer_key, shape)
            params.append(own)
        return shape, params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        _check_parts(params, len(parts))
        keys = [None] * len(parts) if key is None else random.split(key, len(parts))
        for i, (layer, own, layer_key) in enumerate(zip(parts, params, keys, strict=True)):
            with model.scope(i):
                x = layer.apply(own, x, key=layer_key, train=train)
        return x

    model = Layer(init, apply, "Sequential", parts)
    return model


def _as_layer(layer: Any, i: int) -> Layer:
    """Return a layer unchanged, and a function as an activation."""
    if isinstance(layer, Layer):
        return layer
    if is_constructor(layer):
        name = layer.__name__
        raise ArgumentError(
            f"Sequential: layer {i} is the function {name}, which makes layers", fix=f"call it: {name}()"
        )
    if callable(layer):
        return Activation(layer)
    fix = "pass layers, e.g. nn.Linear(3), or functions of arrays, e.g. nn.relu"
    fix = "pass the layers as separate arguments: Sequential(*layers)" if isinstance(layer, Sequence | dict) else fix
    fix = fix if not isinstance(layer, str) else "pass the function, e.g. nn.relu"
    raise ArgumentError(f"Sequential: layer {i} is {layer!r:.60} of type {type(layer).__name__}", fix=fix)


def _check_parts(params: Any, count: int) -> None:
    if not isinstance(params, Sequence):
        raise ArgumentError(f"Sequential: params of type {type(params).__name__} for {count} layers", fix=FROM_INIT)
    if len(params) != count:
        raise ArgumentError(f"Sequential: params of {len(params)} layers for {count} layers", fix=FROM_INIT)
