"""The cases that run in one process. Each makes the call to time, for a given framework."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from benchmarks import control_flow as loops
from benchmarks import programs
from benchmarks.frameworks import Framework
from benchmarks.programs import normal

Call = Callable[[], Any]


class Case(NamedTuple):
    """`prepare(framework)` returns the call. With `wait`, each call is waited for; otherwise only the last of a loop,
    which shows the cost of dispatch."""

    name: str
    group: str
    prepare: Callable[[Framework], Call]
    wait: bool = True


def jitted(program: Callable[[Framework], Callable[..., Any]], *arrays: numpy.ndarray) -> Callable[[Framework], Call]:
    """A call of a jitted program on fixed arrays."""

    def prepare(fw: Framework) -> Call:
        fun, args = fw.lib.jit(program(fw)), [fw.array(a) for a in arrays]
        return lambda: fun(*args)

    return prepare


def gradient(program: Callable[[Framework], Callable[..., Any]], *arrays: numpy.ndarray) -> Callable[[Framework], Call]:
    """A call of the jitted gradient, in all arguments, of the program's sum weighted by the last array."""
    return jitted(lambda fw: programs.weighted_sum_gradient(fw, program(fw), len(arrays) - 1), *arrays)


def eager(fun: Callable[..., Any], *arrays: numpy.ndarray) -> Callable[[Framework], Call]:
    """A call outside jit."""

    def prepare(fw: Framework) -> Call:
        args = [fw.array(a) for a in arrays]
        return lambda: fun(*args)

    return prepare


def _pytree_call(fw: Framework) -> Call:
    tree = {"w": fw.array(normal(8)), "b": fw.array(normal(8)), "layers": [fw.array(normal(8)) for _ in range(4)]}
    fun = fw.lib.jit(lambda p: fw.lib.tree.map(lambda x: x + 1.0, p))
    return lambda: fun(tree)


def _mlp(fw: Framework) -> Call:
    step, params = programs.mlp_step(fw), programs.mlp_params(fw)
    args = (params, programs.zeros_like(fw, params), *programs.batch(fw, 128))
    return lambda: step(*args)


def _adam(fw: Framework) -> Call:
    step, params = programs.adam_step(fw), programs.mlp_params(fw)
    zeros = programs.zeros_like(fw, params)
    args = (params, (zeros, zeros, fw.array(numpy.float32(0))), *programs.batch(fw, 128))
    return lambda: step(*args)


def _weighted(
    program: Callable[[Framework], Callable[..., Any]], weights: list[numpy.ndarray], *arrays: numpy.ndarray
) -> Callable[[Framework], Call]:
    """A call of a jitted program of a list of weights and arrays."""

    def prepare(fw: Framework) -> Call:
        fun, args = fw.lib.jit(program(fw)), [[fw.array(w) for w in weights], *map(fw.array, arrays)]
        return lambda: fun(*args)

    return prepare


def _ode(name: str, system: Callable[[Framework], Any], start: numpy.ndarray, steps: int) -> list[Case]:
    return [
        Case(f"{name}, {steps} steps", "loops", jitted(loops.trajectory(system, steps), start)),
        Case(
            f"{name}, gradient through {steps} steps", "loops", jitted(loops.trajectory_gradient(system, steps), start)
        ),
    ]


def _network(name: str, network: Callable[[Framework], Any], gates: int, time: int, size: int, rows: int) -> list[Case]:
    scale = numpy.float32(1 / math.sqrt(size))
    weights = [normal(size, gates * size) * scale, normal(size, gates * size, seed=1) * scale, normal(gates * size)]
    xs, what = normal(time, rows, size, seed=2), f"{name} of {size}, {rows} rows, {time} steps"
    return [
        Case(what, "loops", _weighted(network, weights, xs)),
        Case(f"{what}, gradient", "loops", _weighted(loops.mean_square_gradient(network), weights, xs)),
    ]


def _neural_ode() -> list[Case]:
    weights = [normal(8, 64) * numpy.float32(0.3), normal(64), normal(64, 8) * numpy.float32(0.1), normal(8)]
    return [
        Case("neural ODE", "loops", _weighted(loops.neural_ode, weights, normal(64, 8))),
        Case(
            "neural ODE, gradient",
            "loops",
            _weighted(loops.mean_square_gradient(loops.neural_ode), weights, normal(64, 8)),
        ),
    ]


def _matmul(n: int) -> Case:
    return Case(f"matmul {n} × {n}", "kernels", jitted(lambda fw: fw.np.matmul, normal(n, n), normal(n, n, seed=1)))


_SMALL, _MILLION, _SQUARE = normal(8), normal(1_000_000), normal(1024, 1024)
_ROW, _WEIGHT = normal(1024, seed=1), normal(1024, 1024, seed=2)

CASES = (
    Case("jitted x + 1, 8 elements", "dispatch", jitted(lambda fw: lambda x: x + 1, _SMALL), wait=False),
    Case("jitted, dict of 6 arrays", "dispatch", _pytree_call, wait=False),
    Case("eager x + x, 8 elements", "dispatch", eager(lambda x: x + x, _SMALL), wait=False),
    Case("eager x + x, 8 × 8, 20 in a row", "dispatch", eager(lambda x: _repeat_add(x), normal(8, 8)), wait=False),
    Case("GELU, 1 M", "kernels", jitted(programs.gelu, _MILLION)),
    Case("exp, 1 M", "kernels", jitted(lambda fw: fw.np.exp, _MILLION)),
    Case("sin, 1 M", "kernels", jitted(lambda fw: fw.np.sin, _MILLION)),
    Case("x + x, 4 MB", "kernels", jitted(lambda fw: lambda x: x + x, _MILLION)),
    Case("sum, 1 M", "kernels", jitted(lambda fw: fw.np.sum, _MILLION)),
    Case("softmax 1024 × 1024", "kernels", jitted(programs.softmax, _SQUARE)),
    Case("softmax gradient 1024 × 1024", "kernels", gradient(programs.softmax, _SQUARE, _WEIGHT)),
    Case("layer norm 1024 × 1024", "kernels", jitted(programs.layer_norm, _SQUARE, _ROW, _ROW)),
    Case("layer norm gradients 1024 × 1024", "kernels", gradient(programs.layer_norm, _SQUARE, _ROW, _ROW, _WEIGHT)),
    _matmul(64),
    _matmul(256),
    _matmul(1024),
    Case("MLP step, SGD with momentum", "training", _mlp),
    Case("MLP step, Adam", "training", _adam),
    *_ode("Lorenz", loops.lorenz, numpy.ones(3, numpy.float32), 100),
    *_ode("Lorenz", loops.lorenz, numpy.ones(3, numpy.float32), 10_000),
    *_ode("pendulum", loops.pendulum, numpy.ones(2, numpy.float32), 1000),
    *_ode("Lorenz 96 of 16", loops.lorenz96, normal(16), 1000),
    *_ode("Lorenz 96 of 40", loops.lorenz96, normal(40), 1000),
    *_network("recurrent network", loops.rnn, 1, 50, 64, 32),
    *_network("recurrent network", loops.rnn, 1, 500, 128, 32),
    *_network("LSTM", loops.lstm, 4, 50, 64, 32),
    *_network("LSTM", loops.lstm, 4, 500, 128, 32),
    *_neural_ode(),
    Case("heat on 256², written into", "loops", jitted(loops.heat, normal(256, 256))),
    Case("heat on 256², padded", "loops", jitted(loops.heat_padded, normal(256, 256))),
    Case("wave on 4096", "loops", jitted(loops.wave, normal(4096))),
    Case("Mandelbrot set of 256²", "lanes", jitted(loops.mandelbrot, *loops.plane(256))),
    Case("roots, 1000", "lanes", jitted(loops.roots, numpy.exp(2 * normal(1000)))),
    Case("roots, 100 000", "lanes", jitted(loops.roots, numpy.exp(2 * normal(100_000)))),
    Case("BFGS in 2 dimensions, 100 starts", "lanes", jitted(loops.minimizations, normal(100, 2))),
    Case("BFGS in 8 dimensions, 100 starts", "lanes", jitted(loops.minimizations, normal(100, 8))),
)


def _repeat_add(x: Any) -> Any:
    for _ in range(20):
        x = x + x
    return x
