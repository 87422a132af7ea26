"""Attention with several heads as a layer, with a cache of keys and values for generation."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.attention import dot_product_attention
from funcgrad.nn.initializers import Initializer
from funcgrad.nn.labels import validity
from funcgrad.nn.layer import Layer, as_size, constructor
from funcgrad.nn.layers.composition import Call, composed
from funcgrad.nn.layers.dropout import Dropout
from funcgrad.nn.layers.linear import Linear
from funcgrad.nn.torch import Tensor, nested, tensors_of, torch_tensors

_NAME = "MultiHeadAttention"
KEYWORDS = ("mask", "lengths", "cache")


@constructor
def MultiHeadAttention(
    features: int,
    heads: int,
    *,
    key_value_heads: int | None = None,
    head_size: int | None = None,
    causal: bool = False,
    rotary: Layer | None = None,
    dropout: float = 0.0,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """Attention of linear maps of the input: (batch, time, in) → (batch, time, features).

    For each head, softmax(q·kᵀ/√head_size)·v, where q, k and v are parts of linear maps; then another linear map of all
    heads. With (x, memory) for x, keys and values are those of the memory, (batch, positions, in): cross attention.

    Params: {"query", "key", "value", "out": {"kernel", "bias"}, "dropout": ()}. Heads are contiguous in the features of
    the kernels.

    Args:
      features, heads: sizes; `head_size` is features/heads by default.
      key_value_heads: groups of heads/key_value_heads queries share a head of keys and values.
      causal: whether a query sees positions up to its own only.
      rotary: a `RotaryEmbedding`, which is applied to queries and keys.
      dropout: the rate for weights, in training.

    `apply(params, x, mask=None, lengths=None, cache=None)`:
      mask: bools that broadcast to (batch, heads, time, positions), True where a query sees a position.
      lengths: integers (batch,); keys of further positions are masked.
      cache: of `init_cache(params, batch, size)`, or of the last call. The result is then (y, cache). Keys and values
        of x are written behind those in the cache, and queries see all of them; x has one position or more. More than
        `size` positions are an error; where their count is traced, the output is NaN. Under `jit`, donate the cache.

    >>> from funcgrad import random
    >>> layer = MultiHeadAttention(8, heads=2, causal=True)
    >>> _, params = layer.init(random.key(0), (5, 8))
    >>> x = random.normal(random.key(1), (1, 5, 8))
    >>> y, cache = layer.apply(params, x[:, :4], cache=layer.init_cache(params, batch=1, size=5))
    >>> last, cache = layer.apply(params, x[:, 4:], cache=cache)
    >>> bool(jnp.allclose(last, layer.apply(params, x)[:, 4:], atol=1e-6)), int(cache["length"])
    (True, 5)

    Sources: Vaswani et al., "Attention is all you need", 2017; Ainslie et al., "GQA", 2023.
    """
    features, heads = as_size(features, "features", _NAME), as_size(heads, "heads", _NAME)
    shared = heads if key_value_heads is None else as_size(key_value_heads, "key_value_heads", _NAME)
    size = _head_size(features, heads, head_size)
    if heads % shared:
        fix = "the heads must be a multiple of the heads of keys and values"
        raise ArgumentError(f"{_NAME}: heads is {heads}, key_value_heads is {shared}", fix=fix)
    options = without_defaults(bias=bias, kernel_init=kernel_init, dtype=dtype)
    widths = {"query": heads * size, "key": shared * size, "value": shared * size, "out": features}
    parts = {**{name: Linear(n, **options) for name, n in widths.items()}, "dropout": Dropout(dropout)}

    def infer(call: Call, in_shape: Any) -> Any:
        own, memory = in_shape if in_shape and isinstance(in_shape[0], tuple) else (in_shape, in_shape)
        if len(own) != 2 or len(memory) != 2:
            raise ShapeError(f"{_NAME}: the shape of an example is {in_shape}", fix="pass (time, features) to init")
        call("key", memory)
        call("value", memory)
        call("dropout", ())
        return call("out", call("query", own))

    def forward(call: Call, x: Any, *, mask: Any = None, lengths: Any = None, cache: Any = None) -> Any:
        x, memory = x if isinstance(x, tuple | list) else (x, x)
        q, k, v = (
            _split_heads(call(name, source), size)
            for name, source in (("query", x), ("key", memory), ("value", memory))
        )
        start = 0 if cache is None else _start(cache, k, causal)
        if rotary is not None:
            q, k = (rotary.apply((), part, positions=start + jnp.arange(part.shape[1])) for part in (q, k))
        factor = 1
        if cache is not None:
            cache, mask, factor = _extended(cache, k, v, mask)
            k, v = cache["key"], cache["value"]
        lengths = None if lengths is None else as_operand(lengths, f"{_NAME}: lengths").astype(dtypes.int32)
        y = dot_product_attention(
            q,
            k,
            v,
            mask=mask,
            is_causal=causal and cache is None,
            key_value_seq_lengths=lengths,
            dropout=(lambda weights: call("dropout", weights)) if dropout else None,
        )
        y = call("out", y.reshape(*y.shape[:2], -1)) * factor
        return y if cache is None else (y, cache)

    def init_cache(params: Any, batch: int, positions: int) -> Any:
        kept = jnp.zeros((batch, positions, shared, size), params["key"]["kernel"].dtype)
        return {"key": kept, "value": kept, "length": jnp.zeros((), dtypes.int32)}

    return composed(_NAME, parts, infer, forward, keywords=KEYWORDS, init_cache=init_cache if causal else None)


def without_defaults(**options: Any) -> dict[str, Any]:
    """Return options that are neither None nor True, their defaults, so that names of parts are short."""
    return {name: value for name, value in options.items() if value is not None and value is not True}


def _head_size(features: int, heads: int, head_size: int | None) -> int:
    if head_size is not None:
        return as_size(head_size, "head_size", _NAME)
    if features % heads:
        fix = "features must be a multiple of heads, or give head_size"
        raise ArgumentError(f"{_NAME}: features is {features}, heads is {heads}", fix=fix)
    return features // heads


def _split_heads(x: Any, size: int) -> Any:
    if x.ndim != 3:
        raise ShapeError(f"{_NAME}: the input is {x.aval}", fix="pass x of shape (batch, time, features)")
    return x.reshape(*x.shape[:2], -1, size)


def _start(cache: Any, k: Any, causal: bool) -> Any:
    """Return the position of the first new key; raise unless the cache fits."""
    if not causal:
        raise ArgumentError(f"{_NAME}: a cache for attention that is not causal", fix="pass causal=True to the layer")
    if not isinstance(cache, dict) or cache.keys() != {"key", "value", "length"}:
        has = f"keys {list(cache)}" if isinstance(cache, dict) else f"type {type(cache).__name__}"
        raise ArgumentError(f"{_NAME}: the cache has {has}", fix="pass layer.init_cache(params, batch, size)")
    kept = cache["key"]
    if kept.shape[:1] + kept.shape[2:] != k.shape[:1] + k.shape[2:]:
        raise ShapeError(
            f"{_NAME}: the cache has keys {kept.aval}, new keys are {k.aval}",
            fix="pass layer.init_cache(params, batch, size) with the batch of the input",
        )
    return cache["length"]


def _extended(cache: Any, k: Any, v: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Return the cache with new keys and values, the mask of what queries see, and the validity of the length."""
    start, new, size = cache["length"], k.shape[1], cache["key"].shape[1]
    problem = f"{_NAME}: {new} positions after {{}} do not fit into a cache of {size}"
    factor = validity(start, lambda n: n + new <= size, k.dtype, problem, "pass a larger size to init_cache")
    at = (0, start, 0, 0)
    kept = {"key": k, "value": v}
    kept = {name: lax.dynamic_update_slice(cache[name], x.astype(cache[name].dtype), at) for name, x in kept.items()}
    seen = jnp.arange(size) <= start + jnp.arange(new)[:, None]
    return {**kept, "length": start + new}, seen if mask is None else mask & seen, factor


@torch_tensors(_NAME)
def _tensors(layer: Layer) -> list[Tensor]:
    """PyTorch packs the maps to queries, keys and values, which have one number of features."""
    packed = [("in_proj_weight", "kernel")] + ([("in_proj_bias", "bias")] if layer.options["bias"] else [])
    tensors = [
        Tensor(
            name,
            tuple(f"{part}/{what}" for part in ("query", "key", "value")),
            lambda x: tuple(part.T for part in np.split(x, 3)),
            lambda *parts: np.concatenate([part.T for part in parts]),
        )
        for name, what in packed
    ]
    return tensors + [nested(t, "out_proj", "out") for t in tensors_of(layer.layers[layer.labels.index("out")])]
