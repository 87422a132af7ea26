"""Layers that mark positions of a sequence. They have no parameters."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn.layer import Layer, constructor
from funcgrad.nn.positions import rotary_embedding, sinusoidal_embedding


@constructor
def SinusoidalEmbedding(*, base: float = 10000.0) -> Layer:
    """Add `nn.sinusoidal_embedding` of the positions: (batch, time, features) → (batch, time, features).

    `apply(params, x, positions=None)`: positions of shape (time,) or (batch, time), by default 0, 1, ….
    """
    as_number(base, "base", "SinusoidalEmbedding", "(0, inf)")

    def apply(params: Any, x: Any, *, positions: Any = None, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, "SinusoidalEmbedding")
        if x.ndim < 2:
            raise ShapeError(f"SinusoidalEmbedding: the input is {x.aval}", fix="pass (batch, time, features)")
        positions = jnp.arange(x.shape[-2]) if positions is None else positions
        return x + sinusoidal_embedding(positions, x.shape[-1], base=base).astype(x.dtype)

    return Layer(lambda key, in_shape: (in_shape, ()), apply, keywords=("positions",))


@constructor
def RotaryEmbedding(*, base: float = 10000.0, interleaved: bool = False) -> Layer:
    """Apply `nn.rotary_embedding`: (batch, time, heads, n) → (batch, time, heads, n).

    `apply(params, x, positions=None)`: positions of shape (time,) or (batch, time), by default 0, 1, ….
    `MultiHeadAttention(…, rotary=RotaryEmbedding())` rotates queries and keys.
    """
    as_number(base, "base", "RotaryEmbedding", "(0, inf)")

    def apply(params: Any, x: Any, *, positions: Any = None, key: Any = None, train: bool = False) -> Any:
        return rotary_embedding(x, positions, base=base, interleaved=interleaved)

    return Layer(lambda key, in_shape: (in_shape, ()), apply, keywords=("positions",))
