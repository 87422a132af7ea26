"""Positions of a sequence as numbers that networks can use: sinusoidal vectors and rotations."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.errors import ShapeError
from funcgrad.nn.layer import as_size


def sinusoidal_embedding(positions: Any, features: int, *, base: float = 10000.0) -> Any:
    """Return vectors of positions p: sin(p·ωᵢ) in element 2i and cos(p·ωᵢ) in element 2i + 1, with ωᵢ = base^(−2i/n).

    `positions` have shape (…), the result (…, n) for n features.

    >>> sinusoidal_embedding(jnp.arange(2), 4).round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8410000205039978, 0.5400000214576721, 0.009999999776482582, 1.0]]

    Source: Vaswani et al., "Attention is all you need", 2017.
    """
    features = as_size(features, "features", "sinusoidal_embedding")
    angles = _angles("sinusoidal_embedding", positions, (features + 1) // 2, features, base)
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1)
    return pairs.reshape(*angles.shape[:-1], -1)[..., :features]


def rotary_embedding(x: Any, positions: Any = None, *, base: float = 10000.0, interleaved: bool = False) -> Any:
    """Rotate pairs of features by angles in proportion to the position: by p·ωᵢ, with ωᵢ = base^(−2i/n) for pair i.

    Shapes: x is (…, time, heads, n), with an even n, and positions are (…, time), by default 0, 1, …. Products of
    rotated queries and keys depend on differences of positions alone. Pair i is the features i and i + n/2, or, if
    `interleaved`, 2i and 2i + 1.

    >>> rotary_embedding(jnp.ones((2, 1, 2)))[1, 0].round(2).tolist()  # by one radian
    [-0.30000001192092896, 1.3799999952316284]

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
    """
    (x,) = promote_inexact(x, operation="rotary_embedding")
    if x.ndim < 3 or x.shape[-1] % 2:
        raise ShapeError(f"rotary_embedding: x is {x.aval}", fix="pass (…, time, heads, n) with an even n")
    n = x.shape[-1]
    positions = jnp.arange(x.shape[-3]) if positions is None else as_operand(positions, "rotary_embedding: positions")
    if positions.shape != x.shape[-3 - positions.ndim + 1 : -2]:
        raise ShapeError(
            f"rotary_embedding: positions are {positions.aval} for x of {x.aval}", fix="pass one per time: (…, time)"
        )
    angles = _angles("rotary_embedding", positions, n // 2, n, base)[..., None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if interleaved:
        a, b = x[..., ::2], x[..., 1::2]
        return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape).astype(x.dtype)
    a, b = x[..., : n // 2], x[..., n // 2 :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def _angles(name: str, positions: Any, count: int, features: int, base: Any) -> Any:
    """Return p·base^(−2i/features), of shape (…, count), in float32 at least."""
    as_number(base, "base", name, "(0, inf)")
    (positions,) = promote_inexact(positions, operation=name)
    wide = jnp.promote_types(positions.dtype, np.float32)
    frequencies = np.power(float(base), -2.0 * np.arange(count) / features)
    return positions.astype(wide)[..., None] * jnp.asarray(frequencies, wide)
