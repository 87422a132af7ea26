"""Attention, encoders and decoders, and the same in PyTorch, with masks, lengths and memories.

`tools/make_torch_figures.py` writes PyTorch's outputs and gradients, with which test_transformers.py compares.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from funcgrad import nn, random, tree

BATCH, TIME, POSITIONS, FEATURES, HEADS, HIDDEN = 2, 4, 3, 4, 2, 5
RNG = np.random.default_rng(5)
MASK = (RNG.random((BATCH, HEADS, TIME, TIME)) < 0.6) | np.eye(TIME, dtype=bool)
LENGTHS, MEMORY_LENGTHS = np.array([4, 2]), np.array([1, 3])
_gelu = functools.partial(nn.gelu, approximate=False)


class Case(NamedTuple):
    """`keywords` are those of `apply`; `memory` is the number of features of a memory, if there is one."""

    layer: nn.Layer
    keywords: dict[str, Any]
    memory: int | None = None
    causal: bool = False


def _attention(**options: Any) -> nn.Layer:
    return nn.MultiHeadAttention(FEATURES, HEADS, **options)


SIZES = (FEATURES, HEADS, HIDDEN)
CASES = {
    "attention": Case(_attention(), {}),
    "attention without bias": Case(_attention(bias=False), {}),
    "causal attention": Case(_attention(causal=True), {}, causal=True),
    "masked attention": Case(_attention(), {"mask": MASK}),
    "attention of lengths": Case(_attention(), {"lengths": LENGTHS}),
    "cross attention": Case(_attention(), {"lengths": MEMORY_LENGTHS}, FEATURES),
    "encoder layer": Case(nn.TransformerEncoderLayer(*SIZES, activation=_gelu), {"mask": MASK}),
    "encoder layer, norms last": Case(
        nn.TransformerEncoderLayer(*SIZES, activation=nn.relu, norm_first=False), {"lengths": LENGTHS}
    ),
    "encoder": Case(nn.TransformerEncoder(2, *SIZES, activation=_gelu, causal=True), {"lengths": LENGTHS}, causal=True),
    "encoder, norms last": Case(nn.TransformerEncoder(2, *SIZES, activation=nn.relu, norm_first=False), {}),
    "decoder": Case(
        nn.TransformerDecoder(2, *SIZES, activation=_gelu), {"memory_lengths": MEMORY_LENGTHS}, FEATURES, causal=True
    ),
    "decoder layer, norms last": Case(
        nn.TransformerDecoderLayer(*SIZES, activation=nn.relu, norm_first=False),
        {"lengths": LENGTHS, "memory_lengths": MEMORY_LENGTHS},
        FEATURES,
        causal=True,
    ),
}


def inputs(case: Case) -> tuple[Any, Any]:
    """Return params and x, or (x, memory), in double precision."""
    rng = np.random.default_rng(13)
    shapes = (TIME, FEATURES) if case.memory is None else ((TIME, FEATURES), (POSITIONS, case.memory))
    _, params = case.layer.init(random.key(0), shapes)
    params = tree.map(lambda p: rng.standard_normal(p.shape), params)
    arrays = [rng.standard_normal((BATCH, *s)) for s in (shapes if case.memory else (shapes,))]
    return params, tuple(arrays) if case.memory else arrays[0]


def weights(y: Any) -> np.ndarray:
    """What an output is multiplied with in the loss, whose gradient is compared."""
    return np.cos(np.arange(np.prod(y.shape))).reshape(y.shape)


# ---------------------------------------------------------------- the same in both


def _module(case: Case, torch: Any) -> Any:
    kind, options = case.layer.kind, case.layer.options
    if kind == "MultiHeadAttention":
        return torch.nn.MultiheadAttention(FEATURES, HEADS, bias=options["bias"], batch_first=True)
    own = options.get("options", options)
    norm_first = own.get("norm_first", True)
    activation = "relu" if own["activation"] is nn.relu else "gelu"
    make = torch.nn.TransformerDecoderLayer if "Decoder" in kind else torch.nn.TransformerEncoderLayer
    layer = make(*SIZES, 0.0, activation, batch_first=True, norm_first=norm_first)
    if kind.endswith("Layer"):
        return layer
    norm = torch.nn.LayerNorm(FEATURES) if norm_first else None
    if "Decoder" in kind:
        return torch.nn.TransformerDecoder(layer, 2, norm)
    return torch.nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)


def _masks(case: Case, torch: Any) -> tuple[Any, Any, Any]:
    """Return PyTorch's masks, True where a position is hidden: of scores, of keys, of keys of the memory."""

    def padding(lengths: Any, count: int) -> Any:
        return None if lengths is None else torch.tensor(np.arange(count) >= lengths[:, None])

    scores = torch.tensor(~np.tri(TIME, dtype=bool)) if case.causal else None
    if "mask" in case.keywords:
        scores = torch.tensor(~case.keywords["mask"].reshape(-1, TIME, TIME))
    cross = case.memory is not None and case.layer.kind == "MultiHeadAttention"
    own = padding(case.keywords.get("lengths"), POSITIONS if cross else TIME)
    return scores, own, padding(case.keywords.get("memory_lengths"), POSITIONS)


def in_torch(case: Case, torch: Any) -> dict[str, np.ndarray]:
    """Return PyTorch's output, and gradients of inputs and parameters."""
    params, x = inputs(case)
    module = _module(case, torch).double()
    module.load_state_dict({name: torch.tensor(value) for name, value in nn.to_torch(case.layer, params).items()})
    xs = [torch.tensor(a, requires_grad=True) for a in (x if case.memory else (x,))]
    scores, padding, memory_padding = _masks(case, torch)
    if case.layer.kind == "MultiHeadAttention":
        memory = xs[-1]
        y, _ = module(xs[0], memory, memory, key_padding_mask=padding, attn_mask=scores, need_weights=False)
    elif case.memory is None:
        masks = {"src_mask" if case.layer.kind.endswith("Layer") else "mask": scores}
        y = module(xs[0], **masks, src_key_padding_mask=padding)
    else:
        y = module(*xs, tgt_mask=scores, tgt_key_padding_mask=padding, memory_key_padding_mask=memory_padding)
    (y * torch.tensor(weights(y))).sum().backward()
    found = {"y": y.detach().numpy()} | {f"x{i}": a.grad.numpy() for i, a in enumerate(xs)}
    return found | {name: value.grad.numpy() for name, value in module.named_parameters()}


def in_funcgrad(case: Case, fg: Any, transform: Any = lambda f: f) -> dict[str, Any]:
    """Return the same of funcgrad, under the same names; of the transformed function that computes it."""
    params, x = inputs(case)

    def loss(params: Any, x: Any) -> Any:
        y = case.layer.apply(params, x, **case.keywords)
        return (y * weights(y)).sum(), y

    (_, y), (slopes, slope) = transform(fg.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    xs = slope if case.memory else (slope,)
    return {"y": y} | {f"x{i}": a for i, a in enumerate(xs)} | nn.to_torch(case.layer, slopes)
