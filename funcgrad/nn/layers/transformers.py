"""Encoders and decoders of transformers: blocks of attention and feedforward networks, and stacks of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from funcgrad.nn import activations
from funcgrad.nn.layer import Layer, as_size, constructor
from funcgrad.nn.layers.attention import KEYWORDS, MultiHeadAttention, without_defaults
from funcgrad.nn.layers.composition import Call, composed
from funcgrad.nn.layers.containers import Sequential
from funcgrad.nn.layers.dropout import Dropout
from funcgrad.nn.layers.linear import Linear
from funcgrad.nn.layers.normalization import LayerNorm
from funcgrad.nn.torch import torch_names

_DECODER_KEYWORDS = (*KEYWORDS, "memory_mask", "memory_lengths")


@constructor
def TransformerEncoderLayer(
    features: int,
    heads: int,
    hidden: int,
    *,
    activation: Callable[[Any], Any] = activations.gelu,
    norm_first: bool = True,
    norm: Callable[[], Layer] = LayerNorm,
    dropout: float = 0.0,
    bias: bool = True,
    dtype: Any = None,
    **attention: Any,
) -> Layer:
    """x + attention(norm(x)), then x + feedforward(norm(x)): (batch, time, features) → (batch, time, features).

    The feedforward network is linear(activation(linear(x))) with `hidden` features inside. With `norm_first=False`,
    norms are after the sums: norm(x + attention(x)), as in the original. `attention` options (`causal`,
    `key_value_heads`, `rotary`, …) are those of `MultiHeadAttention`, and so are the arguments of `apply`: mask,
    lengths, cache.

    Params: {"attention_norm", "attention", "feedforward_norm", "feedforward": {"hidden", "out"}}, and () for dropouts.

    Sources: Vaswani et al., "Attention is all you need", 2017; Xiong et al., "On layer normalization in the transformer
    architecture", 2020.
    """
    _check_sizes("TransformerEncoderLayer", features=features, heads=heads, hidden=hidden)
    options = {"dropout": dropout, "bias": bias, "dtype": dtype}
    parts = _attention_parts("attention", features, heads, norm, {**options, **attention})
    parts |= _feedforward_parts(features, hidden, activation, norm, options)

    def infer(call: Call, in_shape: Any) -> Any:
        for label in parts:
            call(label, in_shape)
        return in_shape

    def forward(call: Call, x: Any, *, cache: Any = None, **keywords: Any) -> Any:
        step = _Residual(call, norm_first, cache)
        x = step.attention("attention", x, **keywords)
        x = step.feedforward(x)
        return x if cache is None else (x, step.cache)

    def init_cache(params: Any, batch: int, size: int) -> Any:
        return parts["attention"].init_cache(params["attention"], batch, size)

    return composed("TransformerEncoderLayer", parts, infer, forward, keywords=KEYWORDS, init_cache=init_cache)


@constructor
def TransformerDecoderLayer(
    features: int,
    heads: int,
    hidden: int,
    *,
    activation: Callable[[Any], Any] = activations.gelu,
    norm_first: bool = True,
    norm: Callable[[], Layer] = LayerNorm,
    dropout: float = 0.0,
    bias: bool = True,
    dtype: Any = None,
    causal: bool = True,
    **attention: Any,
) -> Layer:
    """An encoder layer with cross attention to a memory in the middle: x = (x, memory) → (batch, time, features).

    The input is a pair of shapes (batch, time, features) and (batch, positions, any). Options are those of
    `TransformerEncoderLayer`; the attention to x itself is causal by default. `apply` also takes `memory_mask` and
    `memory_lengths`, which are the mask and lengths of the memory. The cache is that of the attention to x itself.

    Params: {"attention_norm", "attention", "memory_norm", "memory_attention", "feedforward_norm", "feedforward"}, and
    () for dropouts.
    """
    _check_sizes("TransformerDecoderLayer", features=features, heads=heads, hidden=hidden)
    options = {"dropout": dropout, "bias": bias, "dtype": dtype}
    own = {**options, **attention, "causal": causal}
    across = {**options, **{name: value for name, value in attention.items() if name != "rotary"}}
    parts = _attention_parts("attention", features, heads, norm, own)
    parts |= _attention_parts("memory_attention", features, heads, norm, across)
    parts |= _feedforward_parts(features, hidden, activation, norm, options)

    def infer(call: Call, in_shapes: Any) -> Any:
        in_shape, _ = in_shapes
        for label in parts:
            call(label, in_shapes if label == "memory_attention" else in_shape)
        return in_shape

    def forward(
        call: Call,
        inputs: Any,
        *,
        memory_mask: Any = None,
        memory_lengths: Any = None,
        cache: Any = None,
        **keywords: Any,
    ) -> Any:
        x, memory = inputs
        step = _Residual(call, norm_first, cache)
        x = step.attention("attention", x, **keywords)
        x = step.attention("memory_attention", x, memory, mask=memory_mask, lengths=memory_lengths)
        x = step.feedforward(x)
        return x if cache is None else (x, step.cache)

    def init_cache(params: Any, batch: int, size: int) -> Any:
        return parts["attention"].init_cache(params["attention"], batch, size)

    return composed("TransformerDecoderLayer", parts, infer, forward, keywords=_DECODER_KEYWORDS, init_cache=init_cache)


@constructor
def TransformerEncoder(layers: int, features: int, heads: int, hidden: int, **options: Any) -> Layer:
    """A stack of encoder layers: (batch, time, features) → (batch, time, features).

    Options are those of `TransformerEncoderLayer`, and so are the arguments of `apply`. With `norm_first`, the default,
    a norm follows the last layer. With `causal`, this is the body of a language model such as GPT, and a cache makes it
    generate one position per call. Params: {"layers": a tuple, "norm": …}.

    >>> from funcgrad import numpy as jnp, random
    >>> model = TransformerEncoder(2, features=8, heads=2, hidden=16, causal=True)
    >>> _, params = model.init(random.key(0), (5, 8))
    >>> cache = model.init_cache(params, batch=1, size=5)
    >>> y, cache = model.apply(params, jnp.ones((1, 1, 8)), cache=cache)
    >>> y.shape, len(params["layers"])
    ((1, 1, 8), 2)
    """
    return _stack("TransformerEncoder", TransformerEncoderLayer, layers, (features, heads, hidden), options, KEYWORDS)


@constructor
def TransformerDecoder(layers: int, features: int, heads: int, hidden: int, **options: Any) -> Layer:
    """A stack of decoder layers: (x, memory) → (batch, time, features).

    Options are those of `TransformerDecoderLayer`, and so are the arguments of `apply`. With `norm_first`, the default,
    a norm follows the last layer. Params: {"layers": a tuple, "norm": …}.
    """
    sizes = (features, heads, hidden)
    return _stack("TransformerDecoder", TransformerDecoderLayer, layers, sizes, options, _DECODER_KEYWORDS)


# ---------------------------------------------------------------- parts and residual sums


def _check_sizes(name: str, **sizes: Any) -> None:
    for what, size in sizes.items():
        as_size(size, what, name)


def _attention_parts(
    label: str, features: int, heads: int, norm: Callable[[], Layer], options: Mapping[str, Any]
) -> dict[str, Layer]:
    return {
        f"{label.removesuffix('_attention')}_norm": norm(),
        label: MultiHeadAttention(features, heads, **options),
        f"{label.removesuffix('_attention')}_dropout": Dropout(options["dropout"]),
    }


def _feedforward_parts(
    features: int, hidden: int, activation: Any, norm: Callable[[], Layer], options: Mapping[str, Any]
) -> dict[str, Layer]:
    own = without_defaults(bias=options["bias"], dtype=options["dtype"])
    network = Sequential(
        hidden=Linear(hidden, **own),
        activation=activation,
        dropout=Dropout(options["dropout"]),
        out=Linear(features, **own),
        out_dropout=Dropout(options["dropout"]),
    )
    return {"feedforward_norm": norm(), "feedforward": network}


class _Residual:
    """The sums of one layer, with norms before or after; holds the cache of its attention."""

    def __init__(self, call: Call, norm_first: bool, cache: Any):
        self.call, self.norm_first, self.cache = call, norm_first, cache

    def attention(self, label: str, x: Any, memory: Any = None, **keywords: Any) -> Any:
        """The sum with attention to x itself, or to a memory."""
        prefix = label.removesuffix("_attention")

        def block(x: Any) -> Any:
            if memory is not None:
                y = self.call(label, (x, memory), **keywords)
            elif self.cache is None:
                y = self.call(label, x, **keywords)
            else:
                y, self.cache = self.call(label, x, cache=self.cache, **keywords)
            return self.call(f"{prefix}_dropout", y)

        return self._sum(f"{prefix}_norm", block, x)

    def feedforward(self, x: Any) -> Any:
        """The sum with the feedforward network."""
        return self._sum("feedforward_norm", lambda x: self.call("feedforward", x), x)

    def _sum(self, norm: str, block: Callable[[Any], Any], x: Any) -> Any:
        return x + block(self.call(norm, x)) if self.norm_first else self.call(norm, x + block(x))


def _stack(
    name: str, make: Callable[..., Layer], count: int, sizes: Any, options: dict[str, Any], keywords: Any
) -> Layer:
    """Layers in sequence, and a final norm if the norms of the layers are first."""
    _check_sizes(name, layers=count, **dict(zip(("features", "heads", "hidden"), sizes, strict=True)))
    layers = {i: make(*sizes, **options) for i in range(count)}
    several = make is TransformerDecoderLayer

    def infer(call: Call, in_shape: Any) -> Any:
        for i in layers:
            call(i, in_shape)
        return in_shape[0] if several else in_shape

    def forward(call: Call, x: Any, *, cache: Any = None, **keywords: Any) -> Any:
        x, memory = x if several else (x, None)
        caches = []
        for i in layers:
            given = (x, memory) if several else x
            if cache is None:
                x = call(i, given, **keywords)
            else:
                x, own = call(i, given, cache=cache[i], **keywords)
                caches.append(own)
        return x if cache is None else (x, tuple(caches))

    def init_cache(params: Any, batch: int, size: int) -> Any:
        return tuple(layer.init_cache(own, batch, size) for layer, own in zip(layers.values(), params, strict=True))

    stack = composed("layers", layers, infer, forward, keywords=keywords, init_cache=init_cache)
    parts = {"layers": stack}
    if options.get("norm_first", True):
        parts["norm"] = options.get("norm", LayerNorm)()

    def infer_all(call: Call, in_shape: Any) -> Any:
        shape = call("layers", in_shape)
        return call("norm", shape) if "norm" in parts else shape

    def forward_all(call: Call, x: Any, **keywords: Any) -> Any:
        y = call("layers", x, **keywords)
        y, *cache = y if keywords.get("cache") is not None else (y,)
        y = call("norm", y) if "norm" in parts else y
        return (y, *cache) if cache else y

    def init_all(params: Any, batch: int, size: int) -> Any:
        return stack.init_cache(params["layers"], batch, size)

    return composed(name, parts, infer_all, forward_all, keywords=keywords, init_cache=init_all)


_BLOCK = {"attention": "self_attn", "attention_norm": "norm1"}
_NETWORK = {"feedforward.hidden": "linear1", "feedforward.out": "linear2"}
torch_names("TransformerEncoderLayer", {**_BLOCK, **_NETWORK, "feedforward_norm": "norm2"})
torch_names(
    "TransformerDecoderLayer",
    {**_BLOCK, **_NETWORK, "memory_attention": "multihead_attn", "memory_norm": "norm2", "feedforward_norm": "norm3"},
)
