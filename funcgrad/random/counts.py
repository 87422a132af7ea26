"""Samples from the Poisson, binomial and multinomial distributions, by algorithms that choose the loop by the mean.

Sources: Hörmann, "The transformed rejection method for generating Poisson random variables", 1993, and "The generation
of binomial random variates", 1993; Knuth, "The art of computer programming", volume 2.
"""

from __future__ import annotations

import functools
from typing import Any

from funcgrad import dtypes, lax
from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_shape
from funcgrad.errors import DTypeError
from funcgrad.numpy import composite, creation, number_parts, shapes
from funcgrad.numpy import ufuncs as uf
from funcgrad.ops import casts
from funcgrad.random.continuous import parameters, unit_floats
from funcgrad.random.keys import float_dtype, single, split, split_words
from funcgrad.transforms.jit import jit

Shape = tuple[int, ...]


def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the Poisson distribution with mean `lam`.

    >>> from funcgrad.random import key
    >>> poisson(key(0), 3.0, (4,)).dtype
    dtype('int32')
    """
    words = single("poisson", key)
    result_dtype = dtypes.canonicalize(int) if dtype is None else dtypes.requested(dtype, "poisson")
    if not dtypes.is_integer(result_dtype):
        raise DTypeError(f"poisson: dtype {result_dtype.name} is not an integer", fix="use e.g. int32")
    shape, (lam,) = parameters("poisson", shape, dtypes.float32, lam)
    return _poisson(words, lam, shape, result_dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _poisson(words: Any, lam: Any, shape: Shape, dtype: Any) -> Any:
    lam = shapes.broadcast_to(lam, shape)
    by_products = number_parts.isnan(lam) | (lam < 10)
    # Each loop runs for all elements: those of the other get a mean for which it ends soon.
    small = _poisson_by_products(words, uf.where(by_products, lam, 0.0), dtype)
    large = _poisson_by_rejection(words, uf.where(by_products, 1e5, lam), dtype)
    return uf.where(lam == 0, 0, uf.where(by_products, small, large))


def _poisson_by_products(words: Any, lam: Any, dtype: Any) -> Any:
    """Knuth's algorithm: how many uniform numbers have a product of at least e^−λ."""

    def step(carry: Any) -> Any:
        count, words, log_product = carry
        words, subkey = split_words(words)
        count = uf.where(log_product > -lam, count + 1, count)
        return count, words, log_product + uf.log(unit_floats(subkey, lam.shape, lam.dtype))

    start = creation.zeros(lam.shape, dtype), words, creation.zeros(lam.shape, lam.dtype)
    count, _, _ = lax.while_loop(lambda carry: (carry[2] > -lam).any(), step, start)
    return count - 1


def _poisson_by_rejection(words: Any, lam: Any, dtype: Any) -> Any:
    """Hörmann's algorithm PTRS."""
    log_lam, b = uf.log(lam), 0.931 + 2.53 * uf.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    bound = 0.9277 - 3.6224 / (b - 2)

    def step(carry: Any) -> Any:
        out, accepted, words = carry
        words, u_key, v_key = split_words(words, 3)
        u, v = unit_floats(u_key, lam.shape, lam.dtype) - 0.5, unit_floats(v_key, lam.shape, lam.dtype)
        us = 0.5 - uf.absolute(u)
        k = uf.floor((2 * a / us + b) * u + lam + 0.43)
        s = uf.log(v * inverse_alpha / (a / (us * us) + b))
        rejected = (k < 0) | ((us < 0.013) & (v > us))
        accept = ((us >= 0.07) & (v <= bound)) | (~rejected & (s <= -lam + k * log_lam - lax.lgamma(k + 1)))
        return uf.where(accept, k, out), accepted | accept, words

    start = creation.full(lam.shape, -1, lam.dtype), creation.zeros(lam.shape, bool), words
    return lax.while_loop(lambda carry: (~carry[1]).any(), step, start)[0].astype(dtype)


def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the binomial distribution: the number of successes in n trials of probability p, as floats.

    NaN where n < 0 or p is not a probability.
    """
    words, dtype = single("binomial", key), float_dtype("binomial", dtype)
    (p,) = promotion.promote_inexact(p, operation="binomial")
    shape, (n, p) = parameters("binomial", shape, p.aval.dtype, n, p)
    return _binomial(words, n, p, shape, dtype)


@functools.partial(jit, static_argnums=(3, 4))
def _binomial(words: Any, n: Any, p: Any, shape: Shape, dtype: Any) -> Any:
    n, p = shapes.broadcast_to(n, shape), shapes.broadcast_to(p, shape)
    below = p < 0.5
    q = uf.where(below, p, 1.0 - p)
    wrong_n, wrong_q = number_parts.isnan(n) | (n < 0), number_parts.isnan(q) | (q < 0)
    infinite, not_q = number_parts.isinf(n), number_parts.isnan(q)
    q = uf.where(wrong_q, 0.01, q)
    by_inversion = wrong_n | (n * q <= 10.0)
    n = uf.floor(n)
    # Each loop runs for all elements: those of the other get parameters for which it ends soon.
    small = _binomial_by_inversion(words, uf.where(by_inversion, n, 0.0), q, dtype)
    large = _binomial_by_rejection(words, uf.where(by_inversion, 1e4, n), uf.where(by_inversion, 0.5, q), dtype)
    out = uf.where(wrong_q | wrong_n, float("nan"), uf.where(by_inversion, small, large))
    out = uf.where(infinite & ~(wrong_q | wrong_n), float("inf"), out)
    return uf.where(below | wrong_n | not_q | infinite, out, n.astype(dtype) - out)


def _binomial_by_inversion(words: Any, n: Any, p: Any, dtype: Any) -> Any:
    """How many geometric variables have a sum of at most n."""
    log_miss = uf.log1p(-p)

    def step(carry: Any) -> Any:
        count, total, words = carry
        subkey, words = split_words(words)
        count = uf.where(total <= n, count + 1, count)
        return count, total + uf.ceil(uf.log(unit_floats(subkey, p.shape, p.dtype)) / log_miss), words

    zeros = creation.zeros(p.shape, p.dtype)
    return (lax.while_loop(lambda carry: (carry[1] <= n).any(), step, (zeros, zeros, words))[0] - 1).astype(dtype)


def _binomial_by_rejection(words: Any, n: Any, p: Any, dtype: Any) -> Any:
    """Hörmann's algorithm BTRS."""
    deviation = uf.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    bound = 0.92 - 4.2 / b
    r = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    m = uf.floor((n + 1) * p)

    def step(carry: Any) -> Any:
        out, accepted, words = carry
        words, u_key, v_key = split_words(words, 3)
        u, v = unit_floats(u_key, p.shape, p.dtype), unit_floats(v_key, p.shape, p.dtype)
        u = u - 0.5
        us = 0.5 - uf.absolute(u)
        squeezed = (us >= 0.07) & (v <= bound)
        k = uf.floor((2 * a / us + b) * u + c)
        rejected = (k < 0) | (k > n)
        v = uf.log(v * alpha / (a / (us * us) + b))
        limit = (
            (m + 0.5) * uf.log((m + 1) / (r * (n - m + 1)))
            + (n + 1) * uf.log((n - m + 1) / (n - k + 1))
            + (k + 0.5) * uf.log(r * (n - k + 1) / (k + 1))
            + _stirling_tail(m)
            + _stirling_tail(n - m)
            - _stirling_tail(k)
            - _stirling_tail(n - k)
        )
        accept = squeezed | (~rejected & (v <= limit))
        return uf.where(accept, k, out), accepted | accept, words

    start = creation.full(p.shape, -1, p.dtype), creation.zeros(p.shape, bool), words
    return lax.while_loop(lambda carry: (~carry[1]).any(), step, start)[0].astype(dtype)


# log k! - ((k + 1/2) log(k + 1) - (k + 1) + log(2 π)/2) for k = 0 … 9
_STIRLING_TAILS = (
    *(0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211),
    *(0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287),
)


def _stirling_tail(k: Any) -> Any:
    small = k <= 9
    k = composite.clip(k, 0.0, 9.0)
    square = (k + 1) * (k + 1)
    series = (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1)
    return uf.where(small, creation.array(_STIRLING_TAILS, k.dtype)[uf.floor(k).astype("int32")], series)


def multinomial(key: Any, n: Any, p: Any, *, shape: Any = None, dtype: Any = None, unroll: int | bool = 1) -> Any:
    """Sample how often each category occurs in n trials, of which the last axis of `p` has the probabilities."""
    words = single("multinomial", key)
    n, p = promotion.promote_inexact(n, p, operation="multinomial")
    shape = p.aval.shape if shape is None else as_shape(shape, "multinomial")
    n, p = shapes.broadcast_to(n, shape[:-1]), shapes.moveaxis(shapes.broadcast_to(p, shape), -1, 0)
    rest = lax.cumsum(p, 0, reverse=True)
    ratios = p / uf.where(rest == 0, 1, rest)

    def draw(remaining: Any, category: Any) -> Any:
        ratio, key = category
        count = binomial(key, remaining, composite.clip(ratio, 0, 1), dtype=remaining.dtype)
        return remaining - count, count

    _, counts = lax.scan(draw, n, (ratios, split(words, ratios.shape[0])), unroll=unroll)
    out = shapes.moveaxis(counts, 0, -1)
    return out if dtype is None else casts.convert_element_type(out, dtypes.requested(dtype, "multinomial"))
