"""Training steps written with `funcgrad.nn`, against the same written by hand in funcgrad and JAX, and PyTorch.

`python -m benchmarks layers [lstm | gpt | generation]` prints processor times, measured in alternation, and their
ratios; and the tokens that a GPT generates with a cache of keys and values, per second of processor time.
A step is the loss, its gradient and the update of plain gradient descent.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import funcgrad
from benchmarks.timing import best_in_turns
from funcgrad import nn, random

Call = Callable[[], Any]
VOCABULARY = 100
LSTM_BATCH, LSTM_TIME, LSTM_SIZE, LSTM_FEATURES = 32, 64, 64, 128
DEPTH, WIDTH, HEADS, TIME, BATCH = 4, 128, 4, 64, 16


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _tokens(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, VOCABULARY, shape).astype(np.int32)


def _functional_step(m: Any, loss: Callable[..., Any], params: Any, *data: np.ndarray) -> Call:
    def step(params: Any, *data: Any) -> Any:
        value, gradients = m.value_and_grad(loss)(params, *data)
        return value, m.tree.map(lambda p, g: p - 0.01 * g, params, gradients)

    compiled = m.jit(step)
    params, data = m.device_put(params), m.device_put(data)
    return lambda: m.block_until_ready(compiled(params, *data))


def _torch_step(modules: Sequence[Any], loss: Callable[[], Any]) -> Call:
    import torch

    optimizer = torch.optim.SGD([p for module in modules for p in module.parameters()], 0.01)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


# ---------------------------------------------------------------- LSTM

_SERIES, _TARGETS = _random(LSTM_BATCH, LSTM_TIME, LSTM_SIZE), _random(LSTM_BATCH, LSTM_TIME, LSTM_FEATURES)


def _lstm_params() -> dict[str, np.ndarray]:
    gates = 4 * LSTM_FEATURES
    shapes = {"kernel": (LSTM_SIZE, gates), "recurrent_kernel": (LSTM_FEATURES, gates), "bias": (gates,)}
    return {name: 0.1 * _random(*shape) for name, shape in shapes.items()}


def lstm_with_layers() -> Call:
    """A step of `nn.LSTM`."""
    model = nn.LSTM(LSTM_FEATURES)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return nn.mse(model.apply(params, x), y)

    return _functional_step(funcgrad, loss, (_lstm_params(),), _SERIES, _TARGETS)


def lstm_by_hand(m: Any) -> Call:
    """The same with `scan`, in funcgrad or JAX."""

    def loss(p: Any, x: Any, y: Any) -> Any:
        inputs = m.numpy.swapaxes(x, 0, 1) @ p["kernel"] + p["bias"]

        def cell(carry: Any, at: Any) -> Any:
            h, c = carry
            i, f, g, o = m.numpy.split(at + h @ p["recurrent_kernel"], 4, -1)
            c = m.nn.sigmoid(f) * c + m.nn.sigmoid(i) * m.numpy.tanh(g)
            h = m.nn.sigmoid(o) * m.numpy.tanh(c)
            return (h, c), h

        zeros = m.numpy.zeros((x.shape[0], LSTM_FEATURES))
        _, out = m.lax.scan(cell, (zeros, zeros), inputs)
        return m.numpy.mean(m.numpy.square(m.numpy.swapaxes(out, 0, 1) - y))

    return _functional_step(m, loss, _lstm_params(), _SERIES, _TARGETS)


def lstm_in_torch() -> Call:
    """The same in PyTorch."""
    import torch

    module = torch.nn.LSTM(LSTM_SIZE, LSTM_FEATURES, batch_first=True)
    x, y = torch.tensor(_SERIES), torch.tensor(_TARGETS)
    return _torch_step([module], lambda: torch.nn.functional.mse_loss(module(x)[0], y))


# ---------------------------------------------------------------- GPT

_TEXT = _tokens(BATCH, TIME + 1)
EMBED, HEAD = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(VOCABULARY)
BODY = nn.TransformerEncoder(DEPTH, WIDTH, HEADS, 4 * WIDTH, causal=True)


def gpt_params() -> dict[str, Any]:
    """Parameters of a GPT with learned positions."""
    keys = random.split(random.key(0), 4)
    return {
        "embed": EMBED.init(keys[0], (TIME,))[1],
        "positions": 0.1 * random.normal(keys[1], (TIME, WIDTH)),
        "body": BODY.init(keys[2], (TIME, WIDTH))[1],
        "head": HEAD.init(keys[3], (TIME, WIDTH))[1],
    }


def gpt_with_layers() -> Call:
    """A step of a GPT made of layers."""

    def loss(p: Any, tokens: Any) -> Any:
        x = EMBED.apply(p["embed"], tokens[:, :-1]) + p["positions"]
        logits = HEAD.apply(p["head"], BODY.apply(p["body"], x))
        return nn.cross_entropy(logits, tokens[:, 1:])

    return _functional_step(funcgrad, loss, gpt_params(), _TEXT)


def gpt_by_hand(m: Any) -> Call:
    """The same with array functions, in funcgrad or JAX."""

    def linear(p: Any, x: Any) -> Any:
        return x @ p["kernel"] + p["bias"]

    def norm(p: Any, x: Any) -> Any:
        centered = x - m.numpy.mean(x, -1, keepdims=True)
        variance = m.numpy.mean(m.numpy.square(centered), -1, keepdims=True)
        return centered * m.lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]

    def block(p: Any, x: Any) -> Any:
        y, own = norm(p["attention_norm"], x), p["attention"]
        q, k, v = (linear(own[n], y).reshape(*x.shape[:2], HEADS, -1) for n in ("query", "key", "value"))
        y = m.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
        x = x + linear(own["out"], y)
        y = norm(p["feedforward_norm"], x)
        return x + linear(p["feedforward"]["out"], m.nn.gelu(linear(p["feedforward"]["hidden"], y)))

    def loss(p: Any, tokens: Any) -> Any:
        x = p["embed"]["table"][tokens[:, :-1]] + p["positions"]
        for own in p["body"]["layers"]:
            x = block(own, x)
        scores = m.nn.log_softmax(linear(p["head"], norm(p["body"]["norm"], x)))
        return -m.numpy.mean(m.numpy.sum(scores * m.nn.one_hot(tokens[:, 1:], VOCABULARY), -1))

    params = funcgrad.tree.map(np.asarray, gpt_params())
    return _functional_step(m, loss, params, _TEXT)


def gpt_in_torch() -> Call:
    """The same in PyTorch."""
    import torch

    functional = torch.nn.functional
    embed, head = torch.nn.Embedding(VOCABULARY, WIDTH), torch.nn.Linear(WIDTH, VOCABULARY)
    layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
    body = torch.nn.TransformerEncoder(layer, DEPTH, torch.nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    positions = torch.nn.Embedding(TIME, WIDTH)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(TIME)
    tokens = torch.tensor(_TEXT).long()

    def loss() -> Any:
        x = body(embed(tokens[:, :-1]) + positions.weight, mask=mask, is_causal=True)
        return functional.cross_entropy(head(x).flatten(0, 1), tokens[:, 1:].flatten())

    return _torch_step([embed, positions, body, head], loss)


# ---------------------------------------------------------------- generation


def tokens_per_second(count: int = TIME) -> float:
    """Generate `count` tokens, each the likeliest one, one call per token; return tokens per second of processor."""
    params = gpt_params()

    def step(params: Any, token: Any, cache: Any) -> Any:
        at = cache[0]["length"]
        x = EMBED.apply(params["embed"], token) + params["positions"][at]
        y, cache = BODY.apply(params["body"], x, cache=cache)
        return funcgrad.numpy.argmax(HEAD.apply(params["head"], y), -1).astype(token.dtype), cache

    compiled = funcgrad.jit(step, donate_argnums=2)

    def generate() -> None:
        token, cache = funcgrad.numpy.zeros((1, 1), np.int32), BODY.init_cache(params["body"], 1, TIME)
        for _ in range(count):
            token, cache = compiled(params, token, cache)
        funcgrad.block_until_ready(token)

    generate()
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        generate()
        best = min(best, time.process_time() - start)
    return count / best


STEPS = {
    "lstm": (lstm_with_layers, lstm_by_hand, lstm_in_torch),
    "gpt": (gpt_with_layers, gpt_by_hand, gpt_in_torch),
}


def lines(names: Sequence[str], quick: bool = False) -> Iterator[str]:
    """Measure what the names select, all by default, and yield lines of text."""
    for name, (layers, by_hand, in_torch) in STEPS.items():
        if names and name not in names:
            continue
        calls = {"layers": layers(), "by hand": by_hand(funcgrad)}
        if importlib.util.find_spec("jax"):
            import jax

            calls["JAX"] = by_hand(jax)
        if importlib.util.find_spec("torch"):
            import torch

            torch.set_num_threads(1)
            calls["PyTorch"] = in_torch()
        best = best_in_turns(calls, 3 if quick else 15, 0.1 if quick else 0.3, time.process_time)
        ratios = "  ".join(f"{n} {t * 1e3:7.2f} ms (× {t / best['layers']:4.2f})" for n, t in best.items())
        yield f"{name:12} {ratios}"
    if not names or "generation" in names:
        yield f"{'generation':12} {tokens_per_second():.0f} tokens per second of processor time"
