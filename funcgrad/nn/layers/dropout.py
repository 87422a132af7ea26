"""Layers that set random elements to zero in training."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError
from funcgrad.nn.layer import Layer, constructor
from funcgrad.nn.layers.spatial import as_channels, spatial_axes


@constructor
def Dropout(rate: float, *, spatial: bool = False, channels: str = "last") -> Layer:
    """In training, set elements to 0 with probability `rate` and divide the others by 1 − rate. Otherwise, do nothing.

    If `spatial`, set whole channels of an example to 0, (batch, *space, channels), as `Dropout2d` of PyTorch does.

    Sources: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014; Tompson et
    al., "Efficient object localization using convolutional networks", 2015.
    """
    as_number(rate, "rate, the fraction of elements dropped,", "Dropout", "[0, 1)")
    as_channels(channels, "Dropout")

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        if not train or rate == 0:
            return x
        if key is None:
            raise ArgumentError("Dropout: training needs a key", fix="call apply(params, x, key=key, train=True)")
        x = as_operand(x, "Dropout")
        shared = spatial_axes(x.ndim, channels) if spatial else ()
        kept = random.bernoulli(key, 1 - rate, tuple(1 if d in shared else n for d, n in enumerate(x.shape)))
        return jnp.where(kept, x / (1 - rate), 0)

    return Layer(lambda key, in_shape: (in_shape, ()), apply)
