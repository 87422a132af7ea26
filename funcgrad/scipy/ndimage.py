"""funcgrad.scipy.ndimage: interpolation at points of an array."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.jit import jit

__all__ = ["map_coordinates"]


def _mirrored(i: Any, size: int) -> Any:
    """… 2 1 | 0 1 2 … n−1 | n−2 …: a triangular wave of period 2 (n − 1)."""
    last = size - 1
    return jnp.abs((i + last) % (2 * last) - last) if last else jnp.zeros_like(i)


def _reflected(i: Any, size: int) -> Any:
    """… 1 0 | 0 1 2 … n−1 | n−1 …: the positions halfway between those of a mirrored array of 2 n + 1 elements."""
    return (_mirrored(2 * i + 1, 2 * size + 1) - 1) // 2


_INSIDE: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda i, size: i,
    "nearest": lambda i, size: jnp.clip(i, 0, size - 1),
    "wrap": lambda i, size: i % size,
    "mirror": _mirrored,
    "reflect": _reflected,
}


def map_coordinates(input: Any, coordinates: Sequence[Any], order: int, mode: str = "constant", cval: Any = 0.0) -> Any:
    """Values of an array between its elements, at the points of which `coordinates` has one array per dimension.

    Args:
      input: of shape (n₁, …, n_d); integers are interpolated as floats and rounded.
      coordinates: d arrays of one shape, in units of elements. The result has their shape.
      order: 0 takes the nearest element, 1 interpolates linearly.
      mode: what is outside of the array: "constant" (`cval`), "nearest" (the element at the edge), "wrap" (the array
        repeated), "mirror" (reflected at the centers of the last elements) or "reflect" (at their outer edges). Two
        modes have other names in SciPy: "grid-constant" and "grid-wrap".

    Raises:
      ShapeError: the number of coordinates is not the rank of `input`.
      ArgumentError: `order` or `mode` is unknown.

    >>> import funcgrad.numpy as jnp
    >>> map_coordinates(jnp.array([0.0, 10.0, 20.0]), [jnp.array([0.5, 1.25, 9.0])], order=1, cval=-1)
    Array([ 5. , 12.5, -1. ], dtype=float32)
    """
    if order not in (0, 1):
        raise ArgumentError(f"map_coordinates: order={order!r}", fix="use 0 (nearest) or 1 (linear)")
    if mode not in _INSIDE:
        raise ArgumentError(f"map_coordinates: mode={mode!r}", fix=f"use one of {', '.join(map(repr, _INSIDE))}")
    input = jnp.asarray(input)
    coordinates = [jnp.asarray(c) for c in coordinates]
    if len(coordinates) != input.ndim:
        raise ShapeError(
            f"map_coordinates: {len(coordinates)} coordinates for {input.aval}", fix="give an array for each dimension"
        )
    return _interpolate(input, coordinates, jnp.asarray(cval, input.dtype), order, mode)


def _nodes(coordinate: Any, order: int) -> list[tuple[Any, Any]]:
    """Along one dimension, the indices that a point lies at or between, with their weights."""
    if order == 0:
        nearest = coordinate if dtypes.is_integer(coordinate.dtype) else _round(coordinate)
        return [(nearest.astype("int32"), coordinate.dtype.type(1))]
    lower = jnp.floor(coordinate)
    weight = coordinate - lower
    i = lower.astype("int32")
    return [(i, 1 - weight), (i + 1, weight)]


def _round(x: Any) -> Any:
    """Halves away from 0, unlike numpy.round."""
    return jnp.trunc(x + jnp.copysign(0.5, x).astype(x.dtype))


@functools.partial(jit, static_argnums=(3, 4))
def _interpolate(values: Any, coordinates: list[Any], outside: Any, order: int, mode: str) -> Any:
    axes = [
        [(_INSIDE[mode](i, size), (i >= 0) & (i < size), weight) for i, weight in _nodes(c, order)]
        for c, size in zip(coordinates, values.shape, strict=True)
    ]
    total: Any = 0
    for corner in itertools.product(*axes):
        indices, inside, weights = zip(*corner, strict=True)
        value = values[indices]
        if mode == "constant":
            value = jnp.where(functools.reduce(operator.and_, inside), value, outside)
        total = total + math.prod(weights[1:], start=weights[0]) * value
    dtype = aval_of(values).dtype
    return (_round(total) if dtypes.is_integer(dtype) and dtypes.is_inexact(total.dtype) else total).astype(dtype)


_explain_missing_names(__name__)
