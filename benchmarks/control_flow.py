"""Programs with loops: differential equations, recurrent networks, stencils, and loops with diverging lanes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.frameworks import Framework

Program = Callable[..., Any]


# ---------------------------------------------------------------- differential equations


def lorenz(fw: Framework) -> Program:
    """The right-hand side of the Lorenz system, with three unknowns."""
    np = fw.np

    def f(state: Any) -> Any:
        x, y, z = state
        return np.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])

    return f


def pendulum(fw: Framework) -> Program:
    """The right-hand side of a damped pendulum, with two unknowns."""
    np = fw.np
    return lambda s: np.stack([s[1], -np.sin(s[0]) - 0.1 * s[1]])


def lorenz96(fw: Framework) -> Program:
    """The Lorenz 96 model, with any number of unknowns on a ring."""
    np = fw.np
    return lambda x: (np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + 8.0


def rk4(f: Program, h: float) -> Program:
    """One step of the classical Runge–Kutta method."""

    def step(y: Any) -> Any:
        k1 = f(y)
        k2 = f(y + 0.5 * h * k1)
        k3 = f(y + 0.5 * h * k2)
        k4 = f(y + h * k3)
        return y + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

    return step


def trajectory(system: Callable[[Framework], Program], steps: int, h: float = 0.01) -> Callable[[Framework], Program]:
    """state → the states after each step."""

    def program(fw: Framework) -> Program:
        step = rk4(system(fw), h)
        return lambda y: fw.lib.lax.scan(lambda y, _: (step(y), y), y, None, length=steps)[1]

    return program


def trajectory_gradient(
    system: Callable[[Framework], Program], steps: int, h: float = 0.01
) -> Callable[[Framework], Program]:
    """The gradient of the squared norm of the last state with respect to the first state."""

    def program(fw: Framework) -> Program:
        step, np = rk4(system(fw), h), fw.np

        def loss(y: Any) -> Any:
            return np.sum(fw.lib.lax.scan(lambda y, _: (step(y), None), y, None, length=steps)[0] ** 2)

        return fw.lib.grad(loss)

    return program


def neural_ode(fw: Framework) -> Program:
    """(weights, first states) → last states, after 40 steps of RK4 with a two-layer network as right-hand side."""
    np = fw.np

    def solve(weights: Any, y: Any) -> Any:
        a, b, c, d = weights
        step = rk4(lambda y: np.tanh(y @ a + b) @ c + d, 0.05)
        return fw.lib.lax.scan(lambda y, _: (step(y), None), y, None, length=40)[0]

    return solve


# ---------------------------------------------------------------- recurrent networks


def rnn(fw: Framework) -> Program:
    """(weights, inputs) → all hidden states of a simple recurrent network; inputs are (time, batch, in)."""
    np = fw.np

    def run(weights: Any, xs: Any) -> Any:
        u, w, b = weights
        h = np.zeros((xs.shape[1], w.shape[0]), np.float32)

        def step(h: Any, x: Any) -> Any:
            h = np.tanh(x @ u + h @ w + b)
            return h, h

        return fw.lib.lax.scan(step, h, xs)[1]

    return run


def lstm(fw: Framework) -> Program:
    """(weights, inputs) → all hidden states of an LSTM."""
    np = fw.np

    def sigmoid(x: Any) -> Any:
        return 1.0 / (1.0 + np.exp(-x))

    def run(weights: Any, xs: Any) -> Any:
        u, w, b = weights
        n = w.shape[0]
        zeros = np.zeros((xs.shape[1], n), np.float32)

        def step(state: Any, x: Any) -> Any:
            h, c = state
            gates = x @ u + h @ w + b
            i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            return (h, c), h

        return fw.lib.lax.scan(step, (zeros, zeros), xs)[1]

    return run


def mean_square_gradient(network: Callable[[Framework], Program]) -> Callable[[Framework], Program]:
    """The gradient of the mean square of the results with respect to the weights."""

    def program(fw: Framework) -> Program:
        run, np = network(fw), fw.np
        return fw.lib.grad(lambda weights, x: np.mean(run(weights, x) ** 2))

    return program


# ---------------------------------------------------------------- diverging lanes


def mandelbrot(fw: Framework) -> Program:
    """(real, imaginary) → the number of steps, at most 200, until z ← z² + c leaves the disc of radius 2."""
    lax = fw.lib.lax

    def escape(re: Any, im: Any) -> Any:
        def inside(s: Any) -> Any:
            return (s[0] * s[0] + s[1] * s[1] < 4.0) & (s[2] < 200)

        def step(s: Any) -> Any:
            x, y, n = s
            return x * x - y * y + re, 2.0 * x * y + im, n + 1

        return lax.while_loop(inside, step, (0.0 * re, 0.0 * im, 0))[2]

    return fw.lib.vmap(escape)


def roots(fw: Framework) -> Program:
    """Solve x·eˣ = a by Newton's method; each element iterates until it converges."""
    np, lax = fw.np, fw.lib.lax

    def solve(a: Any) -> Any:
        def error(x: Any) -> Any:
            return x * np.exp(x) - a

        def step(s: Any) -> Any:
            x, n = s
            return x - error(x) / (np.exp(x) * (x + 1.0)), n + 1

        return lax.while_loop(lambda s: (np.abs(error(s[0])) > 1e-5 * a) & (s[1] < 100), step, (1.0 + a, 0))[0]

    return fw.lib.vmap(solve)


def minimizations(fw: Framework) -> Program:
    """Minimize the Rosenbrock function by BFGS; each start takes its own steps."""
    optimize = importlib.import_module(f"{fw.name}.scipy.optimize")

    def rosenbrock(x: Any) -> Any:
        return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()

    return fw.lib.vmap(lambda x: optimize.minimize(rosenbrock, x, method="BFGS"))


# ---------------------------------------------------------------- stencils


def heat(fw: Framework) -> Program:
    """A hundred steps of the heat equation on a square, with a fixed border."""

    def step(_: Any, u: Any) -> Any:
        inner = u[1:-1, 1:-1]
        around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
        return u.at[1:-1, 1:-1].set(inner + 0.2 * (around - 4.0 * inner))

    return lambda u: fw.lib.lax.fori_loop(0, 100, step, u)


def heat_padded(fw: Framework) -> Program:
    """The same with a cold border, which is padded in each step."""
    np = fw.np

    def step(_: Any, u: Any) -> Any:
        p = np.pad(u, 1)
        around = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2]
        return u + 0.2 * (around - 4.0 * u)

    return lambda u: fw.lib.lax.fori_loop(0, 100, step, u)


def wave(fw: Framework) -> Program:
    """A thousand steps of the wave equation on a ring."""
    np = fw.np

    def step(_: Any, s: Any) -> Any:
        u, before = s
        return 2.0 * u - before + 0.25 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)), u

    return lambda u: fw.lib.lax.fori_loop(0, 1000, step, (u, u))[0]


# ---------------------------------------------------------------- data


def plane(side: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Points of the complex plane around the Mandelbrot set."""
    re, im = numpy.meshgrid(numpy.linspace(-2, 1, side), numpy.linspace(-1.5, 1.5, side))
    return re.ravel().astype(numpy.float32), im.ravel().astype(numpy.float32)
