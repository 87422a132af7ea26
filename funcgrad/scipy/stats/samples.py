"""Statistics of samples: mode, rankdata, sem."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.lax.reductions import cummax
from funcgrad.transforms.vmap import vmap

__all__ = ["mode", "rankdata", "sem"]


class ModeResult(NamedTuple):
    """The most frequent values, and how often they occur."""

    mode: Any
    count: Any


def _check_policy(policy: str, supported: tuple[str, ...], operation: str) -> None:
    if policy not in supported:
        raise ArgumentError(f"{operation}: nan_policy is {policy!r}", fix=f"choose from {', '.join(supported)}")


def mode(a: Any, axis: int | None = 0, nan_policy: str = "propagate", keepdims: bool = False) -> ModeResult:
    """The most frequent value along an axis, the smallest of several, and its count; by None, of all elements.

    >>> import funcgrad.numpy as jnp
    >>> mode(jnp.array([2, 1, 2]))
    ModeResult(mode=Array(2, dtype=int32), count=Array(2, dtype=int32))
    """
    _check_policy(nan_policy, ("propagate",), "mode")
    x = jnp.atleast_1d(as_operand(a, "mode"))
    shape = aval_of(x).shape
    axis = None if axis is None else as_axis(axis, len(shape), "mode")
    if axis is None:
        rest, kept, x = (), (1,) * len(shape), jnp.ravel(x)
    else:
        rest, kept = shape[:axis] + shape[axis + 1 :], shape[:axis] + (1,) + shape[axis + 1 :]
        x = jnp.moveaxis(x, axis, -1)
    rows = x.reshape(math.prod(rest), -1)
    if not rows.shape[1]:
        none = jnp.zeros(kept if keepdims else rest)
        return ModeResult(none + math.nan, none)

    def of_row(row: Any) -> tuple[Any, Any]:
        values, counts = jnp.unique(row, return_counts=True, size=row.shape[0])
        return values[jnp.argmax(counts)], jnp.max(counts)

    return ModeResult(*(v.reshape(kept if keepdims else rest) for v in vmap(of_row)(rows)))


def _ranks(x: Any, method: str) -> Any:
    """The ranks of a vector, from 1."""
    dtype, n = dtypes.canonicalize(float), x.shape[0]
    order = jnp.argsort(x)
    x = x[order]
    position = jnp.arange(n)
    starts = jnp.concatenate([jnp.ones(min(n, 1), bool), x[1:] != x[:-1]])
    ends = jnp.concatenate([starts[1:], jnp.ones(min(n, 1), bool)])
    # The first and last position of the run of equal numbers that a position belongs to.
    first = cummax(jnp.where(starts, position, 0))
    last = n - 1 - cummax(jnp.where(ends[::-1], position, 0))[::-1]
    ranks = {
        "ordinal": lambda: position + 1,
        "dense": lambda: jnp.cumsum(starts),
        "min": lambda: first + 1,
        "max": lambda: last + 1,
        "average": lambda: 0.5 * (first + last).astype(dtype) + 1,
    }[method]()
    return jnp.zeros(n, dtype).at[order].set(ranks.astype(dtype))


def rankdata(a: Any, method: str = "average", *, axis: int | None = None, nan_policy: str = "propagate") -> Any:
    """The ranks of numbers, from 1, along an axis, or of all elements; NaN if any of them is NaN.

    Equal numbers get the `average`, `min` or `max` of their ranks, ranks without gaps (`dense`) or ranks in the order
    of the array (`ordinal`).

    >>> import funcgrad.numpy as jnp
    >>> rankdata(jnp.array([10, 5, 10]))
    Array([2.5, 1. , 2.5], dtype=float32)
    """
    _check_policy(nan_policy, ("propagate",), "rankdata")
    if method not in ("average", "min", "max", "dense", "ordinal"):
        fix = "choose from average, min, max, dense, ordinal"
        raise ArgumentError(f"rankdata: method is {method!r}", fix=fix)
    x = as_operand(a, "rankdata")
    if axis is not None:
        return jnp.apply_along_axis(rankdata, axis, x, method)
    x = jnp.ravel(x)
    ranks = _ranks(x, method)
    return jnp.where(jnp.any(jnp.isnan(x)), jnp.nan, ranks) if dtypes.is_inexact(aval_of(x).dtype) else ranks


def sem(a: Any, axis: int | None = 0, ddof: int = 1, nan_policy: str = "propagate", *, keepdims: bool = False) -> Any:
    """The standard error of the mean: the standard deviation over √n; NaNs are left out by nan_policy "omit".

    >>> import funcgrad.numpy as jnp
    >>> sem(jnp.array([1.0, 3.0]))
    Array(1., dtype=float32)
    """
    _check_policy(nan_policy, ("propagate", "omit"), "sem")
    (x,) = promote_inexact(a, operation="sem")
    omit = nan_policy == "omit"
    count = jnp.sum(~jnp.isnan(x) if omit else jnp.ones_like(x, bool), axis, keepdims=keepdims)
    std = (jnp.nanstd if omit else jnp.std)(x, axis, ddof=ddof, keepdims=keepdims)
    return std / jnp.sqrt(count.astype(std.dtype))
