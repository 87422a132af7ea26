"""Functions that normalize along axes, logmeanexp and standardize; and one-hot encoding.

Elements where `where` is False are ignored.
"""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes, as_axis, as_int, as_shape
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.errors import ArgumentError
from funcgrad.nn.labels import widen
from funcgrad.numpy.composite import clip_rounding
from funcgrad.numpy.exponential_sums import logsumexp
from funcgrad.ops.shapes import expand_dims
from funcgrad.ops.slicing import iota


def logmeanexp(x: Any, axis: Any = None, where: Any = None, keepdims: bool = False) -> Any:
    """log of the mean of eˣ over axes without overflow."""
    (x,) = promote_inexact(x, operation="logmeanexp")
    axes = as_axes(axis, x.ndim, "logmeanexp")
    count = math.prod(x.shape[i] for i in axes) if where is None else None
    if count is None:
        count = jnp.sum(jnp.broadcast_to(where, x.shape), axes, keepdims=keepdims)
    return logsumexp(x, axes, keepdims=keepdims, where=where) - jnp.log(jnp.asarray(count, x.dtype))


def standardize(
    x: Any,
    axis: Any = -1,
    mean: Any = None,
    variance: Any = None,
    epsilon: Any = 1e-5,
    where: Any = None,
    *,
    algorithm: str = "fast",
) -> Any:
    """(x − mean) / √(variance + epsilon), by default with the mean and variance of x along `axis`.

    Algorithm "fast" computes the variance as E[x²] − E[x]², which may suffer from cancellation; "stable" computes it as
    E[(x − E[x])²].
    """
    (x,) = promote_inexact(x, operation="standardize")
    if algorithm not in ("fast", "stable"):
        raise ArgumentError(f"standardize: unknown algorithm {algorithm!r}", fix="choose 'fast' or 'stable'")
    mean = jnp.mean(x, axis, keepdims=True, where=where) if mean is None else mean
    centered = x - mean
    if variance is None and algorithm == "stable":
        variance = jnp.mean(jnp.square(centered), axis, keepdims=True, where=where)
    elif variance is None:
        variance = jnp.mean(jnp.square(x), axis, keepdims=True, where=where) - jnp.square(mean)
        variance = clip_rounding(variance, 0)
    return centered / jnp.sqrt(variance + epsilon)


def one_hot(x: Any, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Any:
    """One-hot encoding of integers 0 ≤ x < num_classes: 1 at index x of a new axis, 0 elsewhere.

    The encoding of any other integer is all zeros, as in JAX, so that −1 can denote "no class". `cross_entropy` does
    not accept such labels.

    >>> one_hot(jnp.array([0, 2, -1]), 3)
    Array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 0., 0.]], dtype=float32)
    """
    x = jnp.asarray(x) if isinstance(x, (list, tuple)) else as_operand(x, "one_hot")
    axis = as_axis(axis, x.ndim + 1, "one_hot")
    result_dtype = dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, "one_hot")
    (classes,) = as_shape(as_int(num_classes, "num_classes", "one_hot"), "one_hot")
    shape = tuple(classes if d == axis else 1 for d in range(x.ndim + 1))
    x = widen(x, classes)
    return (expand_dims(x, (axis,)) == iota(x.dtype, shape, axis)).astype(result_dtype)
