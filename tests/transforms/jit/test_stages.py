"""Every stage of the compiler on a few functions everybody knows, against golden files that people review."""

from __future__ import annotations

import os
from typing import Any

import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.errors import ArgumentError
from tests.paths import GOLDEN

STAGES = ("jaxpr", "simplified", "groups", "loops", "kernels")


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def softmax(x: Any) -> Any:
    e = jnp.exp(x - jnp.max(x, -1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    centered = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(centered * centered, -1, keepdims=True)
    return centered / jnp.sqrt(variance + 1e-5) * scale + shift


def dense(x: Any, w: Any, b: Any) -> Any:
    return jnp.tanh(x @ w + b)


def batch_statistics(x: Any) -> Any:
    mean = jnp.mean(x, 0)
    return mean, jnp.mean((x - mean) ** 2, 0)


def lorenz(state: Any) -> Any:
    def step(s: Any, _: Any) -> Any:
        x, y, z = s
        return s + 0.01 * jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]), s

    return lax.scan(step, state, None, length=1000)


def recurrent(w: Any, h: Any, xs: Any) -> Any:
    return lax.scan(lambda h, x: (jnp.tanh(h @ w + x), jnp.sum(h, 1)), h, xs)


def collatz(n: Any) -> Any:
    def step(s: Any) -> Any:
        return lax.cond(s[0] % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, s[0]), s[1] + 1

    return lax.map(lambda n: lax.while_loop(lambda s: s[0] != 1, step, (n, 0))[1], n)


def running_window(x: Any) -> Any:
    return lax.fori_loop(1, 1000, lambda i, x: x.at[i].add(0.5 * x[i - 1]), x)


def embedding(table: Any, tokens: Any) -> Any:
    return jnp.sum(jnp.tanh(table[tokens]))


def histogram(bins: Any, weights: Any) -> Any:
    return jnp.zeros(100).at[bins].add(weights)


def f32(*shape: int) -> fg.ShapeDtypeStruct:
    return fg.ShapeDtypeStruct(shape, "float32")


PROGRAMS = {
    "gelu": (gelu, f32(1000)),
    "softmax": (softmax, f32(64, 100)),
    "softmax_gradient": (fg.grad(lambda x, t: jnp.sum(softmax(x) * t)), f32(64, 100), f32(64, 100)),
    "layer_norm": (layer_norm, f32(64, 100), f32(100), f32(100)),
    "dense_gradient": (fg.grad(lambda x, w, b: jnp.sum(dense(x, w, b)), (1, 2)), f32(32, 20), f32(20, 10), f32(10)),
    "batch_statistics": (batch_statistics, f32(64, 100)),
    "long_sum": (lambda x: jnp.sum(jnp.sin(x)), f32(1_000_000)),
    "transpose": (lambda x: x.T + 1, f32(200, 100)),
    "lorenz": (lorenz, f32(3)),
    "recurrent": (recurrent, f32(40, 40), f32(8, 40), f32(100, 8, 40)),
    "collatz": (collatz, fg.ShapeDtypeStruct((100,), "int32")),
    "embedding_gradient": (fg.grad(embedding), f32(1000, 300), fg.ShapeDtypeStruct((8, 100), "int32")),
    "histogram": (histogram, fg.ShapeDtypeStruct((100_000,), "int32"), f32(100_000)),
    "running_window": (running_window, f32(1000)),
    "pad_and_join": (lambda x, y: jnp.concatenate([jnp.pad(x, ((0, 0), (1, 2))), y], 1), f32(6, 4), f32(6, 3)),
}


def rendered(name: str) -> str:
    function, *args = PROGRAMS[name]
    lowered = fg.jit(function).lower(*args)
    return "\n".join(f"---- {stage}\n{lowered.as_text(stage).rstrip()}\n" for stage in STAGES)


@pytest.mark.parametrize("name", PROGRAMS)
def test_stages_are_as_reviewed(name: str) -> None:
    path = GOLDEN / "stages" / f"{name}.txt"
    text = rendered(name)
    if os.environ.get("FUNCGRAD_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_machine_code_is_shown() -> None:
    lowered = fg.jit(gelu).lower(f32(1000))
    assert 'define void @"map_' in lowered.as_text("llvm")
    assert ".globl\tmap_" in lowered.as_text("assembly")


def test_an_unknown_stage_names_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"no stage 'hlo'(?s:.*)fix: choose one of jaxpr, simplified"):
        fg.jit(gelu).lower(f32(3)).as_text("hlo")
