"""Layers that change shapes: Flatten."""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn.layer import Layer, constructor


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
