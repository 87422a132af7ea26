"""Memory of a gradient with and without checkpointing: `python -m benchmarks.memory`.

The program is a stack of dense layers with tanh. For each way to checkpoint it, the table has the bytes of temporaries
and outputs of the jitted gradient, and the time of a call. For segments of √L layers, the bound is 2·√L activations,
plus a few for the layer that is being differentiated.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp

MIB = 2**20


class Stack(NamedTuple):
    """The number of layers, their width, and the batch size."""

    layers: int = 64
    width: int = 256
    batch: int = 512

    @property
    def activation(self) -> int:
        """Bytes of the output of one layer."""
        return self.batch * self.width * 4

    def arguments(self) -> tuple[list[Any], Any]:
        """Weights and inputs."""
        rng = np.random.default_rng(0)
        scale = 1 / math.sqrt(self.width)
        weights = [
            jnp.asarray(rng.normal(size=(self.width, self.width)) * scale, "float32") for _ in range(self.layers)
        ]
        return weights, jnp.asarray(rng.normal(size=(self.batch, self.width)), "float32")


def dense(x: Any, w: Any) -> Any:
    """One layer."""
    return jnp.tanh(x @ w)


def segments(size: int, wrap: Callable[..., Any]) -> Callable[..., Any]:
    """The loss of the stack, with each segment of `size` layers wrapped."""

    def segment(x: Any, weights: Sequence[Any]) -> Any:
        for w in weights:
            x = dense(x, w)
        return x

    def loss(weights: Sequence[Any], x: Any) -> Any:
        for i in range(0, len(weights), size):
            x = wrap(segment)(x, weights[i : i + size])
        return jnp.mean(x**2)

    return loss


def losses(stack: Stack) -> dict[str, Callable[..., Any]]:
    """The loss with each way to checkpoint."""
    root = math.isqrt(stack.layers)
    policies = fg.checkpoint_policies
    return {
        "plain": segments(1, lambda f: f),
        "dots saveable, per layer": segments(1, lambda f: fg.checkpoint(f, policy=policies.dots_saveable)),
        "checkpoint per layer": segments(1, fg.checkpoint),
        f"checkpoint every {root} layers": segments(root, fg.checkpoint),
        "without prevent_cse": segments(root, lambda f: fg.checkpoint(f, prevent_cse=False)),
    }


def seconds(call: Callable[[], Any], repetitions: int) -> float:
    """The median time of a call in seconds."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[repetitions // 2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    for name, value in Stack()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repetitions", type=int, default=7)
    options = vars(parser.parse_args(arguments))
    repetitions = options.pop("repetitions")
    stack = Stack(**options)
    bound = 2 * math.sqrt(stack.layers) * stack.activation
    print(f"{stack}: activation {stack.activation / MIB:.2f} MiB, 2·√L activations {bound / MIB:.1f} MiB")
    args = stack.arguments()
    for name, loss in losses(stack).items():
        gradient = fg.jit(fg.grad(loss)).lower(*args).compile()
        memory = gradient.memory_analysis()
        took = seconds(lambda call=gradient: call(*args), repetitions)
        print(
            f"{name:28} temporaries {memory.temporaries / MIB:7.2f} MiB "
            f"({memory.temporaries / stack.activation:5.1f} activations)  outputs {memory.outputs / MIB:6.2f} MiB  "
            f"{took * 1e3:6.1f} ms"
        )


if __name__ == "__main__":
    main()
