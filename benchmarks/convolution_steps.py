"""Training steps of convolutional networks, in funcgrad or JAX and in PyTorch; `benchmarks.convolutions` measures them.

A step is the loss, its gradient and the update of plain gradient descent. The functional programs have channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

NHWC = ("NHWC", "HWIO", "NHWC")
BATCH = 64


def _random(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).normal(size=shape) * 0.1).astype(np.float32)


def _functional_step(m: Any, loss: Callable[..., Any], params: dict[str, np.ndarray], *data: np.ndarray) -> Any:
    def step(params: dict[str, Any], *data: Any) -> Any:
        value, gradients = m.value_and_grad(loss)(params, *data)
        return value, {name: p - 0.1 * gradients[name] for name, p in params.items()}

    compiled = m.jit(step)
    params = {name: m.device_put(p) for name, p in params.items()}
    data = tuple(map(m.device_put, data))
    return lambda: m.block_until_ready(compiled(params, *data))


def _torch_step(network: Any, loss: Callable[[Any], Any], x: np.ndarray) -> list[Callable[[], Any]]:
    """The step with channels first, and with channels last."""
    import copy

    import torch

    steps = []
    for layout in (torch.contiguous_format, torch.channels_last):
        own = copy.deepcopy(network).to(memory_format=layout)
        given = torch.tensor(x.transpose(0, 3, 1, 2).copy()).to(memory_format=layout)
        optimizer = torch.optim.SGD(own.parameters(), 0.1)

        def step(own: Any = own, given: Any = given, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            loss(own(given)).backward()
            optimizer.step()

        steps.append(step)
    return steps


# ---------------------------------------------------------------- two layers and a classifier

_IMAGES, _LABELS = _random(BATCH, 28, 28, 1), np.arange(BATCH) % 10


def two_layers(m: Any) -> Callable[[], Any]:
    """Two 3×3 convolutions, 32 and 64 features, each with bias, relu and maxima of 2×2, and a linear layer."""
    params = {
        "k1": _random(3, 3, 1, 32),
        "b1": _random(32),
        "k2": _random(3, 3, 32, 64),
        "b2": _random(64),
        "w": _random(3136, 10),
        "b": _random(10),
    }

    def loss(p: dict[str, Any], x: Any, labels: Any) -> Any:
        for i in "12":
            x = m.lax.conv_general_dilated(x, p[f"k{i}"], (1, 1), "SAME", dimension_numbers=NHWC) + p[f"b{i}"]
            x = m.lax.reduce_window(m.nn.relu(x), -np.inf, m.lax.max, (1, 2, 2, 1), (1, 2, 2, 1))
        scores = m.nn.log_softmax(x.reshape(x.shape[0], -1) @ p["w"] + p["b"])
        return -m.numpy.mean(m.numpy.sum(scores * m.nn.one_hot(labels, 10), 1))

    return _functional_step(m, loss, params, _IMAGES, _LABELS)


def two_layers_in_torch() -> list[Callable[[], Any]]:
    """The same in PyTorch."""
    import torch
    from torch import nn

    pooled = [nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(3136, 10)]
    network = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), *pooled, nn.Conv2d(32, 64, 3, padding=1), *pooled, *head)
    labels = torch.tensor(_LABELS)
    return _torch_step(network, lambda scores: nn.functional.cross_entropy(scores, labels), _IMAGES)


# ---------------------------------------------------------------- a residual block

_FEATURES = _random(16, 32, 32, 64)


def residual_block(m: Any) -> Callable[[], Any]:
    """Two 3×3 convolutions of 64 features at 32², each with batch norm, and the operand added before the last relu."""
    params = {f"k{i}": _random(3, 3, 64, 64) for i in "12"}
    params |= {f"scale{i}": np.ones(64, np.float32) for i in "12"} | {f"shift{i}": _random(64) for i in "12"}

    def loss(p: dict[str, Any], x: Any) -> Any:
        y = x
        for i in "12":
            y = m.lax.conv_general_dilated(y, p[f"k{i}"], (1, 1), "SAME", dimension_numbers=NHWC)
            centered = y - m.numpy.mean(y, (0, 1, 2))
            variance = m.numpy.mean(m.numpy.square(centered), (0, 1, 2))
            y = centered * m.lax.rsqrt(variance + 1e-5) * p[f"scale{i}"] + p[f"shift{i}"]
            y = m.nn.relu(y if i == "1" else x + y)
        return m.numpy.mean(m.numpy.square(y))

    return _functional_step(m, loss, params, _FEATURES)


def residual_block_in_torch() -> list[Callable[[], Any]]:
    """The same in PyTorch."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(2))
            self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(2))

        def forward(self, x: Any) -> Any:
            y = nn.functional.relu(self.norms[0](self.convolutions[0](x)))
            return nn.functional.relu(x + self.norms[1](self.convolutions[1](y)))

    return _torch_step(Block(), lambda y: y.square().mean(), _FEATURES)


STEPS = {
    "two layers, 28², batch 64": (two_layers, two_layers_in_torch),
    "residual block, 64 at 32², batch 16": (residual_block, residual_block_in_torch),
}
