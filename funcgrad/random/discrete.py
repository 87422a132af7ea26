"""Samples of integers, bools and elements of an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_axis, as_int, as_shape
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.numpy import composite, creation, indexing, joining, padding, reductions, shapes, sorting
from funcgrad.numpy import ufuncs as uf
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts
from funcgrad.ops import sorting as sorting_ops
from funcgrad.ops.shapes import expand_dims, full
from funcgrad.random.continuous import gumbel_of, parameters, uniform_of, unit_floats
from funcgrad.random.keys import bits_of, single, split_words


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Any:
    """Sample integers uniformly from [minval, maxval). The bounds broadcast to `shape`.

    An empty range gives minval. The distribution is exactly uniform if the length of the range is a power of two, and
    nearly uniform otherwise.

    >>> from funcgrad.random import key
    >>> randint(key(0), (5,), 0, 10)
    Array([9, 0, 2, 3, 1], dtype=int32)
    """
    words = single("randint", key)
    result_dtype = dtypes.canonicalize(int) if dtype is None else dtypes.requested(dtype, "randint")
    if not dtypes.is_integer(result_dtype):
        raise DTypeError(f"randint: dtype {result_dtype.name} is not an integer", fix="use uniform for floats")
    shape, bounds = parameters("randint", as_shape(shape, "randint"), None, minval, maxval)
    low, high = (b if dtypes.is_integer(b.aval.dtype) else b.astype(int) for b in bounds)
    sample_dtype = result_dtype
    if result_dtype.itemsize < 4:
        limits, sample_dtype = np.iinfo(result_dtype), dtypes.int32
        low = composite.clip(low.astype(sample_dtype), int(limits.min), int(limits.max))
        high = composite.clip(high.astype(sample_dtype), int(limits.min), int(limits.max) + 1)
    return casts.convert_element_type(_integers(words, shape, low, high, sample_dtype), result_dtype)


def _integers(words: Any, shape: Sequence[int], low: Any, high: Any, dtype: np.dtype) -> Any:
    """low + (w·2ⁿ + v) mod (high − low), for random n-bit integers w and v."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    # `high` may be one more than the largest integer. It is then clipped, and the span is one more than the difference.
    past_end = high > _clip_to_dtype(creation.array(np.iinfo(dtype).max, dtype), high.aval.dtype)
    low, high = _clip_to_dtype(low, dtype), _clip_to_dtype(high, dtype)
    nonempty = high > low
    span = casts.convert_element_type(high - low, unsigned)
    span = uf.where(nonempty, span, full((), 1, unsigned))
    span = uf.where(past_end & nonempty, span + full((), 1, unsigned), span)
    upper, lower = (bits_of(k, shape, unsigned) for k in split_words(words))
    half = _rem(full((), 1 << (dtype.itemsize * 4), unsigned), span)
    factor = _rem(half * half, span)
    offset = _rem(_rem(upper, span) * factor + _rem(lower, span), span)
    return low + casts.convert_element_type(offset, dtype)


def _rem(x: Any, y: Any) -> Any:
    return ar.rem_p.bind(*promotion.promote(x, y, operation="randint"))


def _clip_to_dtype(x: Any, dtype: np.dtype) -> Any:
    """Convert integers, clipping them to the range of `dtype`."""
    have, want = np.iinfo(x.aval.dtype), np.iinfo(dtype)
    low, high = (
        full((), v, x.aval.dtype) for v in (max(int(have.min), int(want.min)), min(int(have.max), int(want.max)))
    )
    return casts.convert_element_type(composite.clip(x, low, high), dtype)


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low") -> Any:
    """Sample bools that are True with probability p.

    In float32, the resolution of the probability is 2⁻²³; with mode "high", which uses twice as many bits, it is 2⁻⁴⁶.
    """
    words = single("bernoulli", key)
    if mode not in ("low", "high"):
        raise ArgumentError(f"bernoulli: unknown mode {mode!r}", fix="choose 'low' or 'high'")
    shape, (p,) = parameters("bernoulli", shape, None, p)
    dtype = p.aval.dtype
    if not dtypes.is_float(dtype):
        raise DTypeError(f"bernoulli: p is {p.aval}", fix="probabilities are floats")
    if mode == "low":
        return unit_floats(words, shape, dtype) < p
    draws = unit_floats(words, (2, *shape), dtype)
    return draws[1] * 2.0 ** -dtypes.finfo(dtype).nmant < p - draws[0]


def rademacher(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample −1 and 1 with equal probability."""
    result_dtype = dtypes.canonicalize(int) if dtype is None else dtypes.requested(dtype, "rademacher")
    heads = casts.convert_element_type(bernoulli(key, 0.5, as_shape(shape, "rademacher")), result_dtype)
    return heads * 2 - 1


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the geometric distribution: the number of trials until the first success, which has probability p.

    The sample is 1 + ⌊log U / log(1 − p)⌋.
    """
    words = single("geometric", key)
    result_dtype = dtypes.canonicalize(int) if dtype is None else dtypes.requested(dtype, "geometric")
    shape, _ = parameters("geometric", shape, None, p)
    (p,) = promotion.promote_inexact(p, operation="geometric")
    unit = unit_floats(words, shape, p.aval.dtype)
    trials = uf.floor(uf.log(uf.where(unit == 0, 1.0, unit)) / uf.log1p(-p)) + 1
    return casts.convert_element_type(trials, result_dtype)


def categorical(
    key: Any, logits: Any, axis: int = -1, shape: Any = None, replace: bool = True, mode: str | None = None
) -> Any:
    """Sample category i with probability softmax(logits)[i] along an axis.

    `shape` must end with the shape of the other axes of `logits`, which is the default. The samples are
    argmax(logits + Gumbel noise); without replacement, the indices of the largest k.
    """
    words = single("categorical", key)
    logits = promotion.as_operand(logits, "categorical")
    have = logits.aval.shape
    axis = as_axis(axis, len(have), "categorical")
    batch = have[:axis] + have[axis + 1 :]
    result_dtype = batch if shape is None else as_shape(shape, "categorical")
    if promotion.broadcast_shapes(result_dtype, batch, operation="categorical") != result_dtype:
        raise ShapeError(
            f"categorical: shape {result_dtype} does not end with {batch}, the shape of the logits without axis {axis}",
            fix="prepend the number of samples to that shape",
        )
    lead, rest = result_dtype[: len(result_dtype) - len(batch)], result_dtype[len(result_dtype) - len(batch) :]
    if not replace:
        return _distinct_categories(words, logits, axis, lead, result_dtype, mode)
    noise = gumbel_of(words, (*lead, *rest[:axis], have[axis], *rest[axis:]), logits.aval.dtype, mode)
    return reductions.argmax(noise + expand_dims(logits, tuple(range(len(lead)))), axis=len(lead) + axis)


def _distinct_categories(
    words: Any, logits: Any, axis: int, lead: tuple[int, ...], shape: tuple[int, ...], mode: str | None
) -> Any:
    count, categories = math.prod(lead), logits.aval.shape[axis]
    if count > categories:
        raise ArgumentError(
            f"categorical: {count} draws without replacement from {categories} categories",
            fix="draw fewer, or use replace=True",
        )
    scores = logits + gumbel_of(words, logits.aval.shape, logits.aval.dtype, mode)
    _, indices = sorting_ops.top_k(scores, count, axis)
    return shapes.reshape(shapes.moveaxis(indices, axis, 0), shape)


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Any:
    """Randomly permute an array along an axis, or the numbers 0, …, n − 1 for an integer n.

    With `independent`, each vector along the axis is permuted independently.

    >>> from funcgrad.random import key
    >>> permutation(key(0), 5)
    Array([0, 1, 4, 3, 2], dtype=int32)
    """
    words = single("permutation", key)
    x = promotion.as_operand(x, "permutation")
    ndim = len(x.aval.shape)
    axis = as_axis(axis, ndim or 1, "permutation")
    if not ndim:
        if not dtypes.is_integer(x.aval.dtype):
            raise DTypeError(f"permutation: x is {x.aval}", fix="pass an integer or an array")
        return _shuffle(words, creation.arange(as_int(x, "x", "permutation")), 0)
    if independent or ndim == 1:
        return _shuffle(words, x, axis)
    return indexing.take(x, _shuffle(words, creation.arange(x.aval.shape[axis]), 0), axis)


def _shuffle(words: Any, x: Any, axis: int) -> Any:
    """Sort by random 32-bit keys, several times: keys collide with probability about n²/2³²."""
    rounds = math.ceil(3 * math.log(max(1, x.aval.size)) / math.log(2**32 - 1))
    for _ in range(rounds):
        words, subkey = split_words(words)
        _, x = sorting_ops.sort([bits_of(subkey, x.aval.shape, dtypes.uint32), x], axis)
    return x


def choice(
    key: Any, a: Any, shape: Any = (), replace: bool = True, p: Any = None, axis: int = 0, mode: str | None = None
) -> Any:
    """Sample slices of an array along an axis, or numbers from 0, …, n − 1 for an integer n.

    `p` are the probabilities, uniform by default. In the shape of the result, `shape` replaces the axis.
    """
    words, shape = single("choice", key), as_shape(shape, "choice")
    a = promotion.as_operand(a, "choice")
    scalar = not a.aval.shape
    axis = 0 if scalar else as_axis(axis, len(a.aval.shape), "choice")
    inputs = as_int(a, "a", "choice") if scalar else a.aval.shape[axis]
    draws = math.prod(shape)
    if not draws:
        return creation.zeros(shape, a.aval.dtype)
    if inputs <= 0 or (not replace and draws > inputs):
        raise ArgumentError(
            f"choice: {draws} draws {'with' if replace else 'without'} replacement from {inputs} elements",
            fix="draw fewer elements, or draw with replacement",
        )
    if p is None and not replace:
        shuffled = permutation(key, inputs if scalar else a, axis)
        result = shuffled[(slice(None),) * axis + (slice(draws),)]
    else:
        index = randint(key, shape, 0, inputs) if p is None else _weighted(words, p, inputs, shape, replace, mode)
        result = index if scalar else indexing.take(a, index, axis)
    sizes = shape if scalar else (*a.aval.shape[:axis], *shape, *a.aval.shape[axis + 1 :])
    return shapes.reshape(result, sizes)


_BLOCK = 16


def _cumulative_sums(x: Any) -> Any:
    """Cumulative sums, computed sequentially in blocks of 16, and in the same way over the sums of the blocks.

    The error grows like log n. Each sum is rounded as in XLA, so that samples are the same as in JAX.
    """
    n = x.aval.size
    rows = shapes.reshape(x, (1, n)) if n <= _BLOCK else shapes.reshape(padding.pad(x, (0, -n % _BLOCK)), (-1, _BLOCK))
    columns = [rows[:, 0]]
    for i in range(1, rows.aval.shape[1]):
        columns.append(columns[-1] + rows[:, i])
    sums = joining.stack(columns, 1)
    if n > _BLOCK:
        before = padding.pad(_cumulative_sums(columns[-1])[:-1], (1, 0))
        sums = sums + before[:, None]
    return shapes.reshape(sums, (-1,))[:n]


def _weighted(words: Any, p: Any, inputs: int, shape: tuple[int, ...], replace: bool, mode: str | None) -> Any:
    (p,) = promotion.promote_inexact(p, operation="choice")
    if p.aval.shape != (inputs,):
        raise ShapeError(
            f"choice: p has shape {p.aval.shape}, but there are {inputs} elements",
            fix="pass one probability per element",
        )
    if replace:
        total = _cumulative_sums(p)
        threshold = total[-1] * (1 - uniform_of(words, shape, p.aval.dtype, 0, 1))
        return sorting.searchsorted(total, threshold)
    scores = gumbel_of(words, (inputs,), p.aval.dtype, mode) + uf.log(p)
    return sorting_ops.top_k(scores, math.prod(shape), 0)[1]
