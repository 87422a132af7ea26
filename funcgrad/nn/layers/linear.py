"""Linear maps of the last axis."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn import initializers
from funcgrad.nn.layer import Layer, Shape, as_size, check_features, constructor, initial, parameter


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
