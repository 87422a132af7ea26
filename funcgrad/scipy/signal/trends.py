"""Removal of trends from signals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.errors import ArgumentError

__all__ = ["detrend"]


def _without_line(x: Any) -> Any:
    """The residual of the least-squares fit of a line to the last axis: x − mean(x) − t Σ t x / Σ t²."""
    n = x.shape[-1]
    t = np.arange(n) - (n - 1) / 2
    basis = jnp.asarray(t / (np.linalg.norm(t) or 1), x.dtype)
    x = x - x.mean(-1, keepdims=True)
    return x - (x * basis).sum(-1, keepdims=True) * basis


def detrend(
    data: Any,
    axis: int = -1,
    type: str = "linear",
    bp: int | Sequence[int] | np.ndarray = 0,
    overwrite_data: None = None,
) -> Any:
    """Subtract the mean ("constant") or the best line ("linear") along an axis.

    Breakpoints `bp` separate parts with a line each. `overwrite_data` must be None.

    Raises:
      ArgumentError: `type` is unknown, or a breakpoint is negative or greater than the size.

    >>> import funcgrad.numpy as jnp
    >>> detrend(jnp.array([1.0, 2.0, 6.0]), type="constant")
    Array([-2., -1.,  3.], dtype=float32)
    """
    if overwrite_data is not None:
        raise ArgumentError("detrend: overwrite_data is given, but arrays are immutable", fix="drop the argument")
    if type not in ("constant", "linear"):
        raise ArgumentError(f"detrend: type={type!r}", fix="use 'constant' or 'linear'")
    (x,) = promote_inexact(jnp.asarray(data), operation="detrend")
    axis = as_axis(axis, x.ndim, "detrend")
    if type == "constant":
        return x - x.mean(axis, keepdims=True)
    n = x.shape[axis]
    limits = np.unique(np.r_[0, bp, n]).tolist()
    if limits[0] < 0 or limits[-1] > n:
        raise ArgumentError(f"detrend: bp={bp} for {n} elements", fix=f"give breakpoints from 0 to {n}")
    x = jnp.moveaxis(x, axis, -1)
    parts = [_without_line(x[..., start:stop]) for start, stop in itertools.pairwise(limits)]
    return jnp.moveaxis(jnp.concatenate(parts, -1), -1, axis)
