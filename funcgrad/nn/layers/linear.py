"""Linear maps of the last axis: Linear, Bilinear, and LoRA, which adapts a Linear."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import lax, random
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn import initializers
from funcgrad.nn.layer import Layer, Shape, as_size, check_features, constructor, initial, parameters
from funcgrad.nn.torch import Tensor, bias_tensors, nested, permuted, torch_tensors


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
    shapes = {"kernel": (None, features)} | ({"bias": (features,)} if bias else {})

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        if not in_shape:
            raise ShapeError("Linear: the input is a scalar", fix="the last axis of the input is that of the features")
        kernel_key, bias_key = random.split(key)
        params = {"kernel": initial(kernel_init, "kernel_init", "Linear", kernel_key, (in_shape[-1], features), dtype)}
        if bias:
            params["bias"] = initial(bias_init, "bias_init", "Linear", bias_key, (features,), dtype)
        return (*in_shape[:-1], features), params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x, (kernel, *rest) = as_operand(x, "Linear"), parameters(params, "Linear", shapes)
        check_features(x, kernel.shape[0], "Linear", f"the kernel {kernel.aval}")
        y = jnp.matmul(x, kernel)
        return y + rest[0] if bias else y

    return Layer(init, apply)


@constructor
def Bilinear(
    features: int,
    *,
    bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
    dtype: Any = None,
) -> Layer:
    """Σᵢⱼ xᵢ·yⱼ·kernel[i, j] + bias of a pair of inputs (x, y): ((…, in1), (…, in2)) → (…, features).

    Params: {"kernel": (in1, in2, features), "bias": (features,)}.

    >>> shape, params = Bilinear(3).init(random.key(0), ((4,), (5,)))
    >>> shape, Bilinear(3).apply(params, (jnp.ones((2, 4)), jnp.ones((2, 5)))).shape
    ((3,), (2, 3))
    """
    kernel_init = kernel_init or initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
    features = as_size(features, "features", "Bilinear")
    shapes = {"kernel": (None, None, features)} | ({"bias": (features,)} if bias else {})

    def init(key: Any, in_shape: Any) -> tuple[Shape, Any]:
        if len(in_shape) != 2 or not all(isinstance(shape, tuple) and shape for shape in in_shape):
            raise ShapeError(f"Bilinear: in_shape {in_shape} is not a pair of shapes", fix="give ((…, in1), (…, in2))")
        kernel_key, bias_key = random.split(key)
        shape = (in_shape[0][-1], in_shape[1][-1], features)
        params = {"kernel": initial(kernel_init, "kernel_init", "Bilinear", kernel_key, shape, dtype)}
        if bias:
            params["bias"] = initial(bias_init, "bias_init", "Bilinear", bias_key, (features,), dtype)
        return (*in_shape[0][:-1], features), params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        if not isinstance(x, tuple | list) or len(x) != 2:
            raise ArgumentError(
                f"Bilinear: the input is of type {type(x).__name__}, not a pair", fix="pass a tuple of two arrays"
            )
        first, second = (as_operand(part, "Bilinear") for part in x)
        kernel, *rest = parameters(params, "Bilinear", shapes)
        for part, size in zip((first, second), kernel.shape, strict=False):
            check_features(part, size, "Bilinear", f"the kernel {kernel.aval}")
        y = jnp.einsum("...i,...j,ijo->...o", first, second, kernel)
        return y + rest[0] if bias else y

    return Layer(init, apply)


@constructor
def LoRA(layer: Layer, rank: int, *, alpha: float | None = None, frozen: bool = True, dtype: Any = None) -> Layer:
    """Low-rank adaptation of a `Linear`: layer(x) + alpha / rank · x·down·up.

    Params: {"layer": params of the layer, "down": (in, rank), "up": (rank, features)}. `up` is 0 at first. By default,
    alpha is `rank`. If `frozen`, the params of the layer get no gradient. `merge_lora` returns the params of a `Linear`
    that computes the same.

    Source: Hu et al., "LoRA: low-rank adaptation of large language models", 2021.

    >>> model = LoRA(Linear(3), 2)
    >>> _, params = model.init(random.key(0), 4)
    >>> params["down"].shape, params["up"].shape
    ((4, 2), (2, 3))
    """
    rank = as_size(rank, "rank", "LoRA")
    if not isinstance(layer, Layer) or layer.kind != "Linear":
        raise ArgumentError(f"LoRA: the layer is {layer!r:.60}", fix="it adapts a Linear, e.g. LoRA(nn.Linear(8), 2)")
    factor = 1.0 if alpha is None else as_number(alpha, "alpha", "LoRA") / rank
    features, down_init = layer.options["features"], initializers.he_uniform()

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        layer_key, down_key = random.split(key)
        shape, own = layer.init(layer_key, in_shape)
        down = down_init(down_key, (in_shape[-1], rank), dtype)
        return shape, {"layer": own, "down": down, "up": initializers.zeros(None, (rank, features), dtype)}

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        own, (down, up) = _adapted(params, rank, features)
        with model.scope("layer"):
            y = layer.apply(lax.stop_gradient(own) if frozen else own, x)
        adapted = jnp.matmul(jnp.matmul(x, down), up)
        return y + (adapted if factor == 1.0 else adapted * factor)

    model = Layer(init, apply, f"LoRA(rank={rank})", (layer,), labels=("layer",))
    return model


def _adapted(params: Any, rank: int, features: int) -> tuple[Any, list[Any]]:
    own = params.get("layer", {}) if isinstance(params, dict) else {}
    others = {name: x for name, x in params.items() if name != "layer"} if isinstance(params, dict) else params
    return own, parameters(others, "LoRA", {"down": (None, rank), "up": (rank, features)})


def merge_lora(layer: Layer, params: Any) -> Any:
    """Return the params of the `Linear` in a `LoRA`, adapted: kernel + alpha / rank · down·up.

    >>> model = LoRA(Linear(3), 2)
    >>> _, params = model.init(random.key(0), 4)
    >>> merged = merge_lora(model, params)
    >>> Linear(3).apply(merged, jnp.ones((1, 4))).shape
    (1, 3)
    """
    if layer.kind != "LoRA":
        raise ArgumentError(f"merge_lora: the layer is {layer!r:.60}", fix="pass a layer that nn.LoRA made")
    rank, alpha = layer.options["rank"], layer.options["alpha"]
    own, (down, up) = _adapted(params, rank, layer.layers[0].options["features"])
    return {**own, "kernel": own["kernel"] + jnp.matmul(down, up) * (1.0 if alpha is None else alpha / rank)}


@torch_tensors("Linear")
def _linear_tensors(layer: Layer) -> list[Tensor]:
    return [permuted("weight", "kernel", 1, 0), *bias_tensors(layer)]


@torch_tensors("Bilinear")
def _bilinear_tensors(layer: Layer) -> list[Tensor]:
    return [permuted("weight", "kernel", 1, 2, 0), *bias_tensors(layer)]


@torch_tensors("LoRA")
def _lora_tensors(layer: Layer) -> list[Tensor]:
    """The names are those of the package peft."""
    return [
        *(nested(tensor, "base_layer", "layer") for tensor in _linear_tensors(layer.layers[0])),
        permuted("lora_A.default.weight", "down", 1, 0),
        permuted("lora_B.default.weight", "up", 1, 0),
    ]
