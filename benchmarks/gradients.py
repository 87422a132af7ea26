"""Gradients of whole models: `python -m benchmarks.gradients [words]` against every library that is installed.

A program is a scalar function of arrays, written once for all: `np` is the NumPy module of funcgrad or JAX, or the
module of tensors of PyTorch or PyTensor. The libraries are JAX, PyTorch's `torch.func.grad` as it is and under
`torch.compile`, and PyTensor's numba mode; the hierarchical model also has a gradient written by hand for numba. A dash
means that a library is not installed or does not have the operations.

Each row is the best of batches that alternate between the libraries: milliseconds for funcgrad, and the time of the
other libraries over it.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from benchmarks.frameworks import Framework, load
from benchmarks.indexing import hierarchical
from benchmarks.timing import best_in_turns, without_quick

LIBRARIES = ("jax", "torch", "torch.compile", "numba", "pytensor")
Call = Callable[[], Any]


class Case(NamedTuple):
    """A scalar program; the gradient is by the first `by` arguments."""

    name: str
    program: Callable[..., Any]
    by: int
    arguments: tuple[numpy.ndarray, ...]
    by_hand: Callable[..., Call] | None = None  # for numba


# ---------------------------------------------------------------- the programs


def batched_product(np: Any, a: Any, b: Any) -> Any:
    """The sum of the sines of a batch of products."""
    return np.sum(np.sin(np.matmul(a, b)))


def perceptron(np: Any, w: Any, v: Any, x: Any, labels: Any) -> Any:
    """Mean cross-entropy of a network with one hidden layer, for integer labels."""
    return cross_entropy(np, np.matmul(np.tanh(np.matmul(x, w)), v), labels)


def cross_entropy(np: Any, logits: Any, labels: Any) -> Any:
    """Mean cross-entropy of scores, for integer labels; the scores are small."""
    rows = logits[np.arange(labels.shape[0]), labels]
    return np.mean(np.log(np.sum(np.exp(logits), 1)) - rows)


def logistic_regression(np: Any, w: Any, x: Any, y: Any) -> Any:
    """The mean negative log likelihood of labels ±1."""
    return np.mean(np.log1p(np.exp(-y * np.matmul(x, w))))


def black_scholes(np: Any, spot: Any, volatility: Any, strike: Any) -> Any:
    """The sum of the prices of calls; the normal distribution function is a logistic function here."""
    d = np.log(spot / strike) / volatility + 0.5 * volatility
    inside, outside = 1 / (1 + np.exp(-1.702 * d)), 1 / (1 + np.exp(-1.702 * (d - volatility)))
    return np.sum(spot * inside - strike * outside)


def mixture(np: Any, means: Any, scales: Any, x: Any) -> Any:
    """Minus the log density of points under a mixture of normal distributions."""
    z = (x[:, None] - means) * np.exp(-scales)
    return -np.mean(np.log(np.sum(np.exp(-0.5 * z * z - scales), 1)))


def elementwise(np: Any, x: Any) -> Any:
    """The sum of a chain of elementwise functions."""
    return np.sum(np.tanh(x * 1.1 + 0.1) * np.exp(-x * x) + np.sin(x))


def _hierarchical_by_hand(*arguments: numpy.ndarray) -> Call:
    import numba

    @numba.njit(fastmath=True)
    def gradient(intercepts, slopes, scale, group, x, y):  # noqa: ANN001, ANN202
        inverse = numpy.exp(-scale)
        by_intercept, by_slope, by_scale = intercepts.copy(), slopes.copy(), numpy.float32(len(y))
        for i in range(len(y)):
            g = group[i]
            residual = (y[i] - intercepts[g] - slopes[g] * x[i]) * inverse
            by_scale -= residual * residual
            by_intercept[g] -= residual * inverse
            by_slope[g] -= residual * inverse * x[i]
        return by_intercept, by_slope, by_scale

    return lambda: gradient(*arguments)


def cases() -> list[Case]:
    """Return all cases."""
    rng = numpy.random.default_rng(0)

    def floats(*shape: int) -> numpy.ndarray:
        return rng.standard_normal(shape, numpy.float32)

    def labels(limit: int, count: int) -> numpy.ndarray:
        return rng.integers(0, limit, count)

    model = (floats(500), floats(500), numpy.float32(0.1), labels(500, 10**5), floats(10**5), floats(10**5))
    signs = numpy.sign(floats(20_000))
    prices = numpy.exp(0.2 * floats(3, 200_000))
    return [
        Case("hierarchical model, 10⁵ observations", hierarchical, 3, model, _hierarchical_by_hand),
        Case("batched product, 10⁴ × 8²", batched_product, 2, (floats(10_000, 8, 8), floats(10_000, 8, 8))),
        Case(
            "perceptron, 784–256–10, 128 rows",
            perceptron,
            2,
            (0.03 * floats(784, 256), 0.1 * floats(256, 10), floats(128, 784), labels(10, 128)),
        ),
        Case("cross-entropy, 8192 × 1000", cross_entropy, 1, (floats(8192, 1000), labels(1000, 8192))),
        Case("logistic regression, 20 000 × 100", logistic_regression, 1, (floats(100), floats(20_000, 100), signs)),
        Case("Black–Scholes, 200 000", black_scholes, 2, (prices[0], 0.2 * prices[1], prices[2])),
        Case("mixture of 16, 50 000 points", mixture, 2, (floats(16), 0.1 * floats(16), 2 * floats(50_000))),
        Case("elementwise chain, 10⁶", elementwise, 1, (floats(10**6),)),
    ]


# ---------------------------------------------------------------- the libraries


def gradient(fw: Framework, case: Case) -> Callable[..., Any]:
    """The gradient in funcgrad or JAX."""
    return fw.lib.grad(lambda *a: case.program(fw.np, *a), tuple(range(case.by)))


def _functional(name: str, case: Case) -> Call:
    fw = load(name)
    compiled, given = fw.lib.jit(gradient(fw, case)), [fw.array(a) for a in case.arguments]
    return lambda: fw.block(compiled(*given))


def _torch(case: Case, compiled: bool) -> Call:
    import torch

    gradient = torch.func.grad(lambda *a: case.program(torch, *a), tuple(range(case.by)))
    function = torch.compile(gradient) if compiled else gradient
    given = [torch.tensor(a) for a in case.arguments]
    return lambda: function(*given)


def _pytensor(case: Case) -> Call:
    import pytensor
    import pytensor.tensor as pt

    given = [numpy.asarray(a) for a in case.arguments]
    inputs = [pt.tensor(f"x{i}", dtype=a.dtype, shape=a.shape) for i, a in enumerate(given)]
    gradient = pytensor.function(inputs, pytensor.grad(case.program(pt, *inputs), inputs[: case.by]), mode="NUMBA")
    return lambda: gradient(*given)


def _call(library: str, case: Case) -> Call | None:
    """The gradient in a library, or None if the library is not installed."""
    if importlib.util.find_spec(library.split(".")[0]) is None:
        return None
    if library == "jax":
        return _functional(library, case)
    if library == "numba":
        return case.by_hand(*case.arguments) if case.by_hand else None
    return _pytensor(case) if library == "pytensor" else _torch(case, library == "torch.compile")


def _working(library: str, case: Case) -> Call | None:
    """The gradient in another library, if it works there: some need a compiler, or do not have every operation."""
    try:
        call = _call(library, case)
        if call is not None:
            call()
        return call
    except Exception as error:
        print(f"  {library} is left out: {type(error).__name__}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        return None


def main(arguments: Sequence[str]) -> None:
    """Print the table of the cases whose names have all words, then the geometric means."""
    words, quick = without_quick(arguments)
    rounds, batch_seconds = (3, 0.01) if quick else (12, 0.03)
    print(f"load {os.getloadavg()[0]:.1f}\n{'':38}{'funcgrad':>10}" + "".join(f"{n:>15}" for n in LIBRARIES))
    ratios: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    for case in cases():
        if not all(word in case.name for word in words):
            continue
        others = {name: _working(name, case) for name in LIBRARIES}
        calls = {"funcgrad": _functional("funcgrad", case)} | {
            n: call for n, call in others.items() if call is not None
        }
        times = best_in_turns(calls, rounds, batch_seconds, time.perf_counter)
        ours = times.pop("funcgrad")
        for name, seconds in times.items():
            ratios[name].append(seconds / ours)
        cells = "".join(f"{times[n] / ours:15.2f}" if n in times else f"{'–':>15}" for n in LIBRARIES)
        print(f"{case.name:38}{ours * 1e3:10.3f}{cells}", flush=True)
    means = (math.exp(sum(map(math.log, r)) / len(r)) if r else None for r in ratios.values())
    print(f"{'geometric mean':48}" + "".join(f"{'–' if m is None else f'{m:.2f}':>15}" for m in means))


if __name__ == "__main__":
    main(sys.argv[1:])
