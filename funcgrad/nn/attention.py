"""Attention: softmax(q·kᵀ)·v for each head, with masks.

This is a plain composition of array functions, which the compiler computes block by block, so that the scores of all
queries and keys are never in memory at once. See docs/architecture.md.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.errors import ArgumentError, FuncgradError, ShapeError
from funcgrad.numpy.exponential_sums import logsumexp, softmax
from funcgrad.ops.casts import stop_gradient_p

_NAME = "dot_product_attention"


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
    dropout: Callable[[Any], Any] | None = None,
) -> Any:
    """softmax(scale · query · keyᵀ + bias) · value, for each head.

    Shapes: `query` is (batch, T, N, H) for T queries in N heads, `key` and `value` are (batch, S, K, H) for S keys in K
    heads, and the result has the shape of `query`. All may lack the batch. Where K is less than N, which is a multiple
    of it, N/K heads of queries share a head of keys. Scores and softmax are in float32 if the arrays are narrower.

    Args:
      bias: what is added to the scores; broadcasts to (batch, N, T, S).
      mask: bools, of the same shape; scores where it is False are replaced by a large negative number.
      scale: 1/√H by default.
      is_causal: whether query t sees the keys up to t only.
      query_seq_lengths: int32 (batch,); the results of further queries are 0.
      key_value_seq_lengths: int32 (batch,); further keys are masked.
      local_window_size: (left, right), or one number for both: query t sees the keys from t − left to t + right.
      implementation: None or "xla", which are the same; accepted for compatibility.
      return_residual: whether to return log Σ eˢ over the scores s of each query too, (batch, T, N), as a constant.
      dropout: a function of the weights, (batch, K, N/K, T, S), whose result takes their place; not an option of JAX's.

    Raises:
      ShapeError, ArgumentError: the shapes or dtypes do not fit each other.

    >>> q = jnp.ones((1, 4, 2, 8))
    >>> dot_product_attention(q, q, q, is_causal=True).shape
    (1, 4, 2, 8)

    Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning" (2023).
    """
    if implementation not in (None, "xla"):
        raise ArgumentError(f"{_NAME}: implementation is {implementation!r}", fix="give None or 'xla'")
    shape = jnp.asarray(query).shape
    query, key, value = (_with_batch(x) for x in (query, key, value))
    bias, mask = (None if x is None else _with_batch(x) for x in (bias, mask))
    lengths = tuple(None if n is None else jnp.asarray(n) for n in (query_seq_lengths, key_value_seq_lengths))
    _check(query, key, value, bias, mask, lengths)
    batch, rows, heads, size = query.shape
    keys, shared = key.shape[1:3]
    groups = heads // shared
    grouped = jnp.transpose(query.reshape(batch, rows, shared, groups, size), (0, 2, 3, 1, 4))
    wide = jnp.promote_types(query.dtype, np.float32)
    scores = jnp.einsum("bkgth,bskh->bkgts", grouped, key, preferred_element_type=wide)
    scores = scores * jnp.asarray(1 / math.sqrt(size) if scale is None else scale, wide)
    if bias is not None:
        scores = (scores + _grouped(bias, shared, groups)).astype(wide)
    kept = [] if mask is None else [_grouped(mask, shared, groups)]
    kept += _positions(rows, keys, is_causal, local_window_size)
    kept += [m[:, None, None] for m in _padding(rows, keys, *lengths)]
    if kept:
        every = kept[0]
        for more in kept[1:]:
            every = every & more
        scores = jnp.where(every, scores, jnp.asarray(-0.7 * float(np.finfo(np.float32).max), wide))
    weights = softmax(scores).astype(key.dtype)
    weights = weights if dropout is None else dropout(weights)
    out = jnp.einsum("bkgts,bskh->bkgth", weights, value)
    out = jnp.transpose(out, (0, 3, 1, 2, 4)).reshape(query.shape)
    if lengths[0] is not None:
        out = out * (jnp.arange(rows) < lengths[0][:, None])[:, :, None, None].astype(out.dtype)
    if not return_residual:
        return out.reshape(shape)
    residual = jnp.transpose(logsumexp(scores, -1).astype(key.dtype), (0, 3, 1, 2))
    return out.reshape(shape), stop_gradient_p.bind(residual.reshape(shape[:-1]))


def scaled_matmul(lhs: Any, rhs: Any, lhs_scales: Any, rhs_scales: Any, preferred_element_type: Any = None) -> Any:
    """Product of batches of matrices with a scale for each block of a row: (b, m, k) times (b, n, k) to (b, m, n).

    The last axis of the scales divides k; an element of it scales a block of consecutive elements.

    >>> scaled_matmul(jnp.ones((1, 1, 4)), jnp.ones((1, 2, 4)), jnp.full((1, 1, 2), 2.0), jnp.ones((1, 2, 1)))
    Array([[[8., 8.]]], dtype=float32)
    """
    return lax.scaled_dot(
        lhs,
        rhs,
        lhs_scale=lhs_scales,
        rhs_scale=rhs_scales,
        dimension_numbers=(((2,), (2,)), ((0,), (0,))),
        preferred_element_type=jnp.float32 if preferred_element_type is None else preferred_element_type,
    )


def _with_batch(x: Any) -> Any:
    x = jnp.asarray(x)
    return jnp.expand_dims(x, tuple(range(4 - x.ndim))) if x.ndim < 4 else x


def _grouped(x: Any, shared: int, groups: int) -> Any:
    """(batch, N, T, S) as (batch, K, N/K, T, S)."""
    batch, heads, *rest = x.shape
    return jnp.expand_dims(x, 1) if heads == 1 else x.reshape(batch, shared, groups, *rest)


def _positions(rows: int, keys: int, is_causal: bool, window: int | tuple[int, int] | None) -> list[Any]:
    """The masks (T, S) that positions give."""
    t, s = jnp.arange(rows)[:, None], jnp.arange(keys)[None, :]
    found = [t >= s] if is_causal else []
    if window is not None:
        left, right = map(operator.index, window if isinstance(window, tuple) else (window, window))
        found += [t <= s + left, t >= s - right]
    return found


def _padding(rows: int, keys: int, queries: Any, key_values: Any) -> list[Any]:
    """The masks (batch, T, 1) and (batch, 1, S) that lengths give."""
    found = [] if queries is None else [jnp.arange(rows)[None, :, None] < queries[:, None, None]]
    return found if key_values is None else [*found, jnp.arange(keys) < key_values[:, None, None]]


def _check(query: Any, key: Any, value: Any, bias: Any, mask: Any, lengths: Sequence[Any]) -> None:
    of_scores = {name: x for name, x in (("bias", bias), ("mask", mask)) if x is not None}
    of_batch = {
        n: x for n, x in zip(("query_seq_lengths", "key_value_seq_lengths"), lengths, strict=True) if x is not None
    }
    for name, x in {"query": query, "key": key, "value": value, **of_scores}.items():
        _require(x.ndim == 4, f"{name} is {x.aval}", "give at most 4 dimensions")
    (batch, rows, heads, size), (_, keys, shared, _) = query.shape, key.shape
    operands = f"query is {query.aval}, key is {key.aval}"
    _require(key.shape == value.shape, f"key is {key.aval}, value is {value.aval}", "give arrays of one shape")
    _require(key.shape[::3] == (batch, size), operands, "give one batch and one size of heads")
    _require(shared and heads % shared == 0, operands, "the heads of the query must be a multiple of those of the key")
    wanted = (batch, heads, rows, keys)
    for name, x in of_scores.items():
        fits = all(n in (1, m) for n, m in zip(x.shape, wanted, strict=True))
        _require(fits, f"{name} is {x.aval}, scores have shape {wanted}", "give an array that broadcasts to the scores")
    for name, x in of_batch.items():
        _require(x.shape == (batch,), f"{name} are {x.aval}", f"give {batch} lengths")
        _require(x.dtype == dtypes.int32, f"{name} are {x.aval}", "give int32", ArgumentError)
    for name, x in {"query": query, "value": value}.items():
        _require(x.dtype == key.dtype, f"{name} is {x.aval}, key is {key.aval}", "give one dtype", ArgumentError)
    if mask is not None:
        _require(mask.dtype == dtypes.bool_, f"mask is {mask.aval}", "give bools; add numbers as bias=", ArgumentError)


def _require(fits: Any, problem: str, fix: str, error: type[FuncgradError] = ShapeError) -> None:
    if not fits:
        raise error(f"{_NAME}: {problem}", fix=fix)
