"""Layers as pairs of functions: `jax.example_libraries.stax`, with the same parameters for the same key.

A layer is `init_fun(rng, input_shape) → (output_shape, params)` and `apply_fun(params, inputs, rng=None) → outputs`.
Shapes include the batch axis, whose size may be −1. The next generation of this interface is `funcgrad.nn`.

>>> from funcgrad import random
>>> init_fun, apply_fun = serial(Dense(8), Relu, Dense(2), LogSoftmax)
>>> output_shape, params = init_fun(random.key(0), (-1, 4))
>>> output_shape, params[0][0].shape
((-1, 2), (4, 8))
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import lax, random
from funcgrad.errors import ArgumentError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.nn import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    softmax,
    softplus,
    standardize,
)
from funcgrad.nn.initializers import glorot_normal, normal, ones, zeros

Layer = tuple[Callable[..., Any], Callable[..., Any]]
glorot, randn, logsoftmax = glorot_normal, normal, log_softmax


# ---------------------------------------------------------------- layers with parameters


def Dense(out_dim: int, W_init: Callable[..., Any] = glorot_normal(), b_init: Callable[..., Any] = normal()) -> Layer:  # noqa: B008
    """Dense layer: x W + b, with W of shape (in, out_dim)."""

    def init_fun(rng: Any, input_shape: Any) -> Any:
        k1, k2 = random.split(rng)
        return (*input_shape[:-1], out_dim), (W_init(k1, (input_shape[-1], out_dim)), b_init(k2, (out_dim,)))

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        W, b = params
        return jnp.dot(inputs, W) + b

    return init_fun, apply_fun


def _convolution(
    shape_of: Callable[..., Any],
    convolve: Callable[..., Any],
    dimension_numbers: Any,
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Any,
    padding: Any,
    W_init: Any,
    b_init: Any,
) -> Layer:
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    strides = strides or (1,) * len(filter_shape)
    W_init = W_init or glorot_normal(rhs_spec.index("I"), rhs_spec.index("O"))

    def init_fun(rng: Any, input_shape: Any) -> Any:
        sizes = iter(filter_shape)
        features = {"O": out_chan, "I": input_shape[lhs_spec.index("C")]}
        kernel_shape = tuple(features[c] if c in features else next(sizes) for c in rhs_spec)
        output_shape = shape_of(input_shape, kernel_shape, strides, padding, dimension_numbers)
        bias_shape = tuple(out_chan if c == "C" else 1 for c in out_spec)
        k1, k2 = random.split(rng)
        return output_shape, (W_init(k1, kernel_shape), b_init(k2, bias_shape))

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        W, b = params
        return convolve(inputs, W, strides, padding, dimension_numbers=dimension_numbers) + b

    return init_fun, apply_fun


def GeneralConv(
    dimension_numbers: Any,
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Any = None,
    padding: Any = "VALID",
    W_init: Any = None,
    b_init: Any = normal(1e-6),  # noqa: B008
) -> Layer:
    """Convolution with a bias, in the layout `dimension_numbers`, such as ("NHWC", "HWIO", "NHWC")."""
    f = lax.conv_general_shape_tuple, lax.conv_general_dilated
    return _convolution(*f, dimension_numbers, out_chan, filter_shape, strides, padding, W_init, b_init)


def GeneralConvTranspose(
    dimension_numbers: Any,
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Any = None,
    padding: Any = "VALID",
    W_init: Any = None,
    b_init: Any = normal(1e-6),  # noqa: B008
) -> Layer:
    """Transposed convolution with a bias; see `GeneralConv`."""
    f = lax.conv_transpose_shape_tuple, lax.conv_transpose
    return _convolution(*f, dimension_numbers, out_chan, filter_shape, strides, padding, W_init, b_init)


Conv = functools.partial(GeneralConv, ("NHWC", "HWIO", "NHWC"))
Conv1DTranspose = functools.partial(GeneralConvTranspose, ("NHC", "HIO", "NHC"))
ConvTranspose = functools.partial(GeneralConvTranspose, ("NHWC", "HWIO", "NHWC"))


def BatchNorm(
    axis: Any = (0, 1, 2),
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
    beta_init: Any = zeros,
    gamma_init: Any = ones,
) -> Layer:
    """Normalization to mean 0 and variance 1 over the axes of the batch, then γ x + β."""
    axis = (axis,) if jnp.ndim(axis) == 0 else tuple(axis)

    def init_fun(rng: Any, input_shape: Any) -> Any:
        shape = tuple(d for i, d in enumerate(input_shape) if i not in axis)
        k1, k2 = random.split(rng)
        return input_shape, (beta_init(k1, shape) if center else (), gamma_init(k2, shape) if scale else ())

    def apply_fun(params: Any, x: Any, **kwargs: Any) -> Any:
        beta, gamma = params
        index = tuple(None if i in axis else slice(None) for i in range(jnp.ndim(x)))
        z = standardize(x, axis, epsilon=epsilon)
        z = gamma[index] * z if scale else z
        return z + beta[index] if center else z

    return init_fun, apply_fun


# ---------------------------------------------------------------- layers without parameters


def elementwise(fun: Callable[..., Any], **fun_kwargs: Any) -> Layer:
    """The layer of a function that does not change the shape."""
    return (lambda rng, input_shape: (input_shape, ())), (lambda params, inputs, **kwargs: fun(inputs, **fun_kwargs))


Tanh = elementwise(jnp.tanh)
Relu = elementwise(relu)
Exp = elementwise(jnp.exp)
LogSoftmax = elementwise(log_softmax, axis=-1)
Softmax = elementwise(softmax, axis=-1)
Softplus = elementwise(softplus)
Sigmoid = elementwise(sigmoid)
Elu = elementwise(elu)
LeakyRelu = elementwise(leaky_relu)
Selu = elementwise(selu)
Gelu = elementwise(gelu)
Identity = elementwise(lambda x: x)


def _pooling(reducer: Callable[..., Any], start: float, mean: bool = False) -> Callable[..., Layer]:
    def PoolingLayer(
        window_shape: Sequence[int], strides: Any = None, padding: Any = "VALID", spec: Any = None
    ) -> Layer:
        """Pooling of windows; `spec` is the layout of the inputs, "N…C" by default."""
        strides = tuple(strides or (1,) * len(window_shape))
        rank = len(window_shape) + 2
        others = (0, rank - 1) if spec is None else (spec.index("N"), spec.index("C"))
        inner = [d for d in range(rank) if d not in others]

        def in_place(sizes: Sequence[int]) -> tuple[int, ...]:
            return tuple(dict(zip(inner, sizes, strict=True)).get(d, 1) for d in range(rank))

        window, steps, one = in_place(window_shape), in_place(strides), (1,) * rank

        def init_fun(rng: Any, input_shape: Any) -> Any:
            pads = lax.padtype_to_pads(input_shape, window, steps, padding) if isinstance(padding, str) else padding
            return lax.reduce_window_shape_tuple(input_shape, window, steps, pads, one, one), ()

        def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
            out = lax.reduce_window(inputs, start, reducer, window, steps, padding)
            if not mean:
                return out
            counts = jnp.ones([n if d in inner else 1 for d, n in enumerate(inputs.shape)], inputs.dtype)
            return out / lax.reduce_window(counts, 0.0, lax.add, window, steps, padding)

        return init_fun, apply_fun

    return PoolingLayer


MaxPool = _pooling(lax.max, -math.inf)
SumPool = _pooling(lax.add, 0.0)
AvgPool = _pooling(lax.add, 0.0, mean=True)

Flatten: Layer = (
    lambda rng, input_shape: ((input_shape[0], math.prod(input_shape[1:])), ()),
    lambda params, inputs, **kwargs: jnp.reshape(inputs, (inputs.shape[0], -1)),
)


def FanOut(num: int) -> Layer:
    """`num` copies of the input."""
    return (lambda rng, shape: ([shape] * num, ())), (lambda params, inputs, **kwargs: [inputs] * num)


FanInSum: Layer = (lambda rng, shapes: (shapes[0], ())), (lambda params, inputs, **kwargs: sum(inputs))


def FanInConcat(axis: int = -1) -> Layer:
    """The inputs joined along an axis."""

    def init_fun(rng: Any, input_shape: Any) -> Any:
        d = axis % len(input_shape[0])
        shape = list(input_shape[0])
        shape[d] = sum(s[d] for s in input_shape)
        return tuple(shape), ()

    return init_fun, lambda params, inputs, **kwargs: jnp.concatenate(inputs, axis)


def Dropout(rate: float, mode: str = "train") -> Layer:
    """In mode "train", keep each element with probability `rate`, divided by it, and set others to 0."""

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        rng = kwargs.get("rng")
        if rng is None:
            raise ArgumentError("Dropout: no key", fix="call apply_fun(params, inputs, rng=key)")
        if mode != "train":
            return inputs
        return jnp.where(random.bernoulli(rng, rate, inputs.shape), inputs / rate, 0)

    return (lambda rng, input_shape: (input_shape, ())), apply_fun


# ---------------------------------------------------------------- compositions


def _keys(kwargs: dict[str, Any], count: int) -> Any:
    rng = kwargs.pop("rng", None)
    return [None] * count if rng is None else random.split(rng, count)


def serial(*layers: Layer) -> Layer:
    """Layers one after the other."""
    init_funs, apply_funs = zip(*layers, strict=True)

    def init_fun(rng: Any, input_shape: Any) -> Any:
        params = []
        for init in init_funs:
            rng, own = random.split(rng)
            input_shape, param = init(own, input_shape)
            params.append(param)
        return input_shape, params

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        for apply, param, rng in zip(apply_funs, params, _keys(kwargs, len(layers)), strict=True):
            inputs = apply(param, inputs, rng=rng, **kwargs)
        return inputs

    return init_fun, apply_fun


def parallel(*layers: Layer) -> Layer:
    """Layers side by side: a list of inputs to a list of outputs, for example between `FanOut` and `FanInSum`."""
    init_funs, apply_funs = zip(*layers, strict=True)

    def init_fun(rng: Any, input_shape: Any) -> Any:
        parts = zip(init_funs, random.split(rng, len(layers)), input_shape, strict=True)
        return tuple(zip(*(init(key, shape) for init, key, shape in parts), strict=True))

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        parts = zip(apply_funs, params, inputs, _keys(kwargs, len(layers)), strict=True)
        return [apply(param, x, rng=rng, **kwargs) for apply, param, x, rng in parts]

    return init_fun, apply_fun


def shape_dependent(make_layer: Callable[[Any], Layer]) -> Layer:
    """A layer that is made of the shape of its inputs."""

    def init_fun(rng: Any, input_shape: Any) -> Any:
        return make_layer(input_shape)[0](rng, input_shape)

    def apply_fun(params: Any, inputs: Any, **kwargs: Any) -> Any:
        return make_layer(inputs.shape)[1](params, inputs, **kwargs)

    return init_fun, apply_fun


_explain_missing_names(__name__)
