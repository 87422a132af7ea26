"""Gathers and scatters: `python -m benchmarks.indexing [words]` against JAX, NumPy in the last column.

Rows and measuring are those of `benchmarks.ordering`. The gradients have no equivalent in NumPy: there, the last column
is the loss alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.frameworks import Framework
from benchmarks.ordering import Case, table


def _embedding(np: Any, weights: Any, tokens: Any) -> Any:
    return np.sum(np.tanh(weights[tokens]))


def _cross_entropy(np: Any, logits: Any, labels: Any) -> Any:
    shifted = logits - np.max(logits, 1, keepdims=True)
    logs = shifted - np.log(np.sum(np.exp(shifted), 1, keepdims=True))
    return -np.mean(logs[np.arange(len(labels)), labels])


def hierarchical(np: Any, intercepts: Any, slopes: Any, scale: Any, group: Any, x: Any, y: Any) -> Any:
    """Minus the log density of a linear model whose intercept and slope vary by group."""
    residual = (y - intercepts[group] - slopes[group] * x) * np.exp(-scale)
    return 0.5 * np.sum(residual**2) + y.shape[0] * scale + 0.5 * np.sum(intercepts**2) + 0.5 * np.sum(slopes**2)


def cases() -> list[Case]:
    """Return all cases."""
    rng = numpy.random.default_rng(0)

    def floats(*shape: int) -> numpy.ndarray:
        return rng.standard_normal(shape, numpy.float32)

    def integers(limit: int, *shape: int) -> numpy.ndarray:
        return rng.integers(0, limit, shape).astype(numpy.int32)

    def scatter(places: int, method: str, ufunc: Any) -> Case:
        def by_numpy(i: numpy.ndarray, u: numpy.ndarray) -> numpy.ndarray:
            out = numpy.zeros(places, numpy.float32)
            ufunc.at(out, i, u)
            return out

        def program(fw: Framework) -> Callable[..., Any]:
            return lambda i, u: getattr(fw.np.zeros(places, fw.np.float32).at[i], method)(u)

        return Case(f"scatter {method}, {places} places", program, by_numpy, (integers(places, 10**6), floats(10**6)))

    def gather(places: int) -> Case:
        arguments = floats(places), integers(places, 10**6)
        return Case(f"gather, {places} places", lambda fw: lambda x, i: x[i], lambda x, i: x[i], arguments)

    def gradient(name: str, loss: Callable[..., Any], by: int | tuple[int, ...], *arguments: numpy.ndarray) -> Case:
        return Case(
            name,
            lambda fw: fw.lib.grad(lambda *a: loss(fw.np, *a), by),
            lambda *a: loss(numpy, *a),
            arguments,
        )

    def loop(name: str, update: Callable[..., Any]) -> Case:
        def program(fw: Framework) -> Callable[..., Any]:
            return lambda b: fw.lib.lax.fori_loop(0, 10_000, lambda i, b: update(fw.np, b, i), b)

        return Case(name, program, lambda b: b, (floats(100_000),))

    observations = 100_000
    model = (floats(500), floats(500), numpy.float32(0.1))
    return [
        *(gather(10**k) for k in (3, 5, 7)),
        *(scatter(10**k, "add", numpy.add) for k in (3, 5, 7)),
        *(scatter(10**k, "max", numpy.maximum) for k in (3, 5, 7)),
        gradient("gradient of a gather", lambda np, x, i: np.sum(x[i] ** 2), 0, floats(10**5), integers(10**5, 10**6)),
        gradient("embedding", _embedding, 0, floats(30_000, 256), integers(30_000, 8, 1024)),
        gradient("cross-entropy", _cross_entropy, 0, floats(8192, 1000), integers(1000, 8192)),
        gradient(
            "hierarchical model",
            hierarchical,
            (0, 1, 2),
            *model,
            integers(500, observations),
            floats(observations),
            floats(observations),
        ),
        loop("loop of one element", lambda np, b, i: b.at[i].add(1.0)),
        loop("loop of two elements", lambda np, b, i: b.at[np.array([i, i + 1])].set(2.0)),
    ]


if __name__ == "__main__":
    table(cases(), sys.argv[1:])
