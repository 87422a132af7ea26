"""The measured programs, written as user code: pure functions of a framework and arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.frameworks import Framework

SIZES = (784, 256, 256, 10)
CLASSES = SIZES[-1]


def normal(*shape: int, seed: int = 0) -> numpy.ndarray:
    """Return float32 standard normals."""
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32)


def gelu(fw: Framework) -> Callable[..., Any]:
    """The tanh approximation of x·Φ(x)."""
    np = fw.np
    return lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(fw: Framework) -> Callable[..., Any]:
    """exp(x) normalized over the last axis, shifted by the maximum of the row."""
    np = fw.np

    def fun(x: Any) -> Any:
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    return fun


def layer_norm(fw: Framework) -> Callable[..., Any]:
    """(x − mean) / √(var + ε) · scale + bias over the last axis."""
    np = fw.np

    def fun(x: Any, scale: Any, bias: Any) -> Any:
        mean = np.mean(x, axis=-1, keepdims=True)
        var = np.var(x, axis=-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    return fun


def weighted_sum_gradient(fw: Framework, fun: Callable[..., Any], n_args: int) -> Callable[..., Any]:
    """The gradient of sum(fun(*args) · w) with respect to all arguments; `w`, the cotangent, is the last argument."""
    np = fw.np
    return fw.lib.grad(lambda *args: np.sum(fun(*args[:-1]) * args[-1]), argnums=tuple(range(n_args)))


def chain(fw: Framework) -> Callable[..., Any]:
    """Twenty elementwise operations."""
    np = fw.np

    def fun(x: Any) -> Any:
        for i in range(4):
            x = np.tanh(x * (1.1 + i) + 0.1)
            x = np.exp(x) - x
        return x

    return fun


# ---------------------------------------------------------------- a training step


def mlp_loss(fw: Framework) -> Callable[..., Any]:
    """Mean cross-entropy of a multi-layer perceptron, for one-hot labels."""
    np = fw.np

    def loss(params: Any, images: Any, labels: Any) -> Any:
        x = images
        for w, b in params[:-1]:
            x = np.maximum(x @ w + b, 0.0)
        w, b = params[-1]
        logits = x @ w + b
        logits = logits - np.max(logits, axis=-1, keepdims=True)
        log_probabilities = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
        return -np.mean(np.sum(labels * log_probabilities, axis=-1))

    return loss


def mlp_step(fw: Framework) -> Callable[..., Any]:
    """(params, velocity, images, labels) → (params, velocity, loss) after one step of SGD with momentum."""
    loss, tree = mlp_loss(fw), fw.lib.tree

    def step(params: Any, velocity: Any, images: Any, labels: Any) -> Any:
        value, gradient = fw.lib.value_and_grad(loss)(params, images, labels)
        velocity = tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        return tree.map(lambda p, v: p - 0.1 * v, params, velocity), velocity, value

    return fw.lib.jit(step)


def adam_step(fw: Framework) -> Callable[..., Any]:
    """(params, (mean, square, count), images, labels) → (params, state, loss) after one step of Adam."""
    np, loss, tree = fw.np, mlp_loss(fw), fw.lib.tree

    def step(params: Any, state: Any, images: Any, labels: Any) -> Any:
        mean, square, count = state
        value, gradient = fw.lib.value_and_grad(loss)(params, images, labels)
        count = count + 1
        mean = tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient)
        rate = 1e-3 * np.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        params = tree.map(lambda p, m, s: p - rate * m / (np.sqrt(s) + 1e-8), params, mean, square)
        return params, (mean, square, count), value

    return fw.lib.jit(step)


def mlp_params(fw: Framework) -> list[list[Any]]:
    """He-initialized weights and zero biases."""
    layers = zip(SIZES, SIZES[1:], strict=False)
    return [
        [fw.array(normal(n, m) * numpy.float32(math.sqrt(2 / n))), fw.array(numpy.zeros(m, numpy.float32))]
        for n, m in layers
    ]


def zeros_like(fw: Framework, params: Any) -> Any:
    """A pytree of zeros like `params`."""
    return fw.lib.tree.map(lambda p: fw.array(numpy.zeros(p.shape, numpy.float32)), params)


def batch(fw: Framework, size: int) -> tuple[Any, Any]:
    """Images and one-hot labels."""
    labels = numpy.eye(CLASSES, dtype=numpy.float32)[numpy.arange(size) % CLASSES]
    return fw.array(normal(size, SIZES[0])), fw.array(labels)
