"""Layers that set random elements to zero in training."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError
from funcgrad.nn.layer import Layer, constructor


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
