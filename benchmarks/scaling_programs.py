"""Programs of any length, on small arrays, to measure how compile times grow with the number of equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from benchmarks.frameworks import Framework
from benchmarks.programs import normal

# A jitted function and its arguments.
Program = tuple[Callable[..., Any], tuple[Any, ...]]


class Kind(NamedTuple):
    """`make(framework, n)` returns a program of n repetitions, each with about `equations` equations."""

    name: str
    equations: int
    make: Callable[[Framework, int], Program]


def _repeated(step: Callable[[Framework, Any, int], Any], *shape: int) -> Callable[[Framework, int], Program]:
    """A program that repeats x = step(framework, x, i) n times."""

    def make(fw: Framework, n: int) -> Program:
        def fun(x: Any) -> Any:
            for i in range(n):
                x = step(fw, x, i)
            return x

        return fw.lib.jit(fun), (fw.array(normal(*shape)),)

    return make


def _chain(fw: Framework, x: Any, i: int) -> Any:
    return fw.np.sin(x) * 1.01 + 0.5


def _update(fw: Framework, x: Any, i: int) -> Any:
    return x.at[i % 100].set(2 * x[(i * 7) % 100] + 1)


def _view(fw: Framework, x: Any, i: int) -> Any:
    return fw.np.concatenate([x[1:], x[:1] * 0.5]).reshape(10, -1).T.ravel()


def _pad(fw: Framework, x: Any, i: int) -> Any:
    return fw.np.pad(x, 1)[1:-1] + x


def _scalars(fw: Framework, x: Any, i: int) -> Any:
    return fw.np.where(x > i, x - 1.5, x * 1.1) + 0.1


def _softmax(fw: Framework, x: Any, i: int) -> Any:
    e = fw.np.exp(x - fw.np.max(x, axis=-1, keepdims=True))
    return e / fw.np.sum(e, axis=-1, keepdims=True)


def _fan_out(fw: Framework, n: int) -> Program:
    params = [fw.array(normal(8, seed=i)) for i in range(n)]
    return fw.lib.jit(lambda params: [p * 0.9 for p in params]), (params,)


def _adam(fw: Framework, n: int) -> Program:
    np, tree = fw.np, fw.lib.tree

    def update(params: Any, gradient: Any, mean: Any, square: Any, count: Any) -> Any:
        count = count + 1
        mean = tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient)
        rate = 1e-3 * np.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        return tree.map(lambda p, m, s: p - rate * m / (np.sqrt(s) + 1e-8), params, mean, square), mean, square, count

    leaves = [[fw.array(normal(8, seed=i)) for i in range(n)] for _ in range(4)]
    return fw.lib.jit(update), (*leaves, fw.array(numpy.float32(0)))


def _layers(fw: Framework, n: int) -> Program:
    """The gradient of a multi-layer perceptron of n layers."""
    np = fw.np

    def loss(params: Any, x: Any) -> Any:
        for w, b in params:
            x = np.tanh(x @ w + b)
        return np.mean(x**2)

    params = [(fw.array(normal(8, 8, seed=i)), fw.array(normal(8, seed=i))) for i in range(n)]
    return fw.lib.jit(fw.lib.grad(loss)), (params, fw.array(normal(4, 8)))


def _jits(fw: Framework, n: int) -> Program:
    """Calls of one jitted function inside another."""
    np, jit = fw.np, fw.lib.jit
    inner = jit(lambda x, y: np.sin(x) * y + 1.0)
    outer = jit(lambda x, y: inner(x, y) - 0.5 * y)

    def fun(x: Any, y: Any) -> Any:
        for _ in range(n):
            x = outer(x, y)
        return x

    return jit(fun), (fw.array(normal(100)), fw.array(normal(100, seed=1)))


def _split(fw: Framework, n: int) -> Program:
    random = fw.lib.random

    def fun(key: Any) -> Any:
        out = []
        for _ in range(n):
            key, sub = random.split(key)
            out.append(random.uniform(sub, (4,)))
        return out

    return fw.lib.jit(fun), (random.key(0),)


def _transformer(fw: Framework, n: int) -> Program:
    """The gradient of a transformer of n layers."""
    np, width, heads = fw.np, 32, 4

    def norm(x: Any, scale: Any) -> Any:
        mean = np.mean(x, axis=-1, keepdims=True)
        var = np.mean((x - mean) ** 2, axis=-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5) * scale

    def attention(x: Any, qkv: Any, out: Any) -> Any:
        t = x.shape[0]
        q, k, v = np.split((x @ qkv).reshape(t, 3 * heads, -1).transpose(1, 0, 2), 3)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(width / heads)
        scores = np.where(np.tril(np.ones((t, t), bool)), scores, -1e9)
        mixed = _softmax(fw, scores, 0) @ v
        return mixed.transpose(1, 0, 2).reshape(t, width) @ out

    def loss(layers: Any, x: Any) -> Any:
        for p in layers:
            x = x + attention(norm(x, p["scale1"]), p["qkv"], p["out"])
            x = x + np.tanh(norm(x, p["scale2"]) @ p["up"]) @ p["down"]
        return np.mean(x**2)

    shapes = {
        "scale1": (width,),
        "qkv": (width, 3 * width),
        "out": (width, width),
        "scale2": (width,),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    layers = [{name: fw.array(0.1 * normal(*shape, seed=i)) for name, shape in shapes.items()} for i in range(n)]
    return fw.lib.jit(fw.lib.grad(loss)), (layers, fw.array(normal(16, width)))


KINDS = (
    Kind("chain", 3, _repeated(_chain, 100)),
    Kind("scalars", 5, _repeated(_scalars)),
    Kind("updates", 5, _repeated(_update, 100)),
    Kind("views", 7, _repeated(_view, 100)),
    Kind("pads", 3, _repeated(_pad, 100)),
    Kind("softmaxes", 9, _repeated(_softmax, 16, 16)),
    Kind("fan-out", 1, _fan_out),
    Kind("nested jits", 5, _jits),
    Kind("random splits", 24, _split),
    Kind("Adam update", 12, _adam),
    Kind("layers, gradient", 11, _layers),
    Kind("transformer, gradient", 180, _transformer),
)
