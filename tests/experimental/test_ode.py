"""experimental.ode: solutions are SciPy's; derivatives are those of the solution; transforms, errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DTypeError, NotDifferentiableError, ShapeError
from funcgrad.experimental.ode import odeint
from funcgrad.testing import assert_close, check_grads

TIMES = np.array([0.0, 0.3, 0.3, 1.0, 2.5])
START = np.array([1.2, 0.9])
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def populations(y, t, a, b):
    return jnp.stack([a * y[0] - b * y[0] * y[1], y[0] * y[1] * jnp.cos(t) - y[1]])


def oscillator(state, t, params):
    """A pytree of a position and velocities, with an integer among the parameters."""
    return {"x": state["v"], "v": -params["k"] * state["x"] - params["damping"][0] * state["v"] ** params["power"]}


STATE = {"x": np.ones(2), "v": np.array([0.3, -0.2])}
PARAMS = {"k": np.array([2.0, 5.0]), "damping": [np.array(0.3)], "power": 3}


def test_solutions_are_scipys():
    def f(t, y):
        return np.array([0.7 * y[0] - 1.3 * y[0] * y[1], y[0] * y[1] * np.cos(t) - y[1]])

    expected = scipy.integrate.solve_ivp(f, (0, 2.5), START, t_eval=TIMES[[0, 1, 3, 4]], rtol=1e-11, atol=1e-12).y.T
    with enable_x64():
        found = odeint(populations, START, TIMES, 0.7, 1.3, **TIGHT)
        assert_close(found[jnp.array([0, 1, 3, 4])], expected, rtol=1e-8, atol=1e-8)
        assert_close(found[1], np.asarray(found[2]))
        rough = odeint(populations, START, TIMES, 0.7, 1.3, rtol=1e-3, atol=1e-3)
        assert 1e-5 < np.abs(np.asarray(rough - found)).max() < 0.1
        turning = odeint(lambda y, t: 1j * y, np.array([1.0 + 0j]), TIMES, **TIGHT)
        assert_close(turning[:, 0], np.exp(1j * TIMES), rtol=1e-8, atol=1e-8)
        assert_close(odeint(lambda y, t: -y, 2.0, TIMES[:1]), np.array([2.0]), check_dtypes=False)
        # The first time is the next one too: nothing to interpolate.
        assert_close(odeint(lambda y, t: -y, 2.0, np.zeros(3)), np.full(3, 2.0), check_dtypes=False)


def test_derivatives_are_those_of_the_solution():
    @fg.jit
    def of_populations(y0, t, a, b):
        return odeint(populations, y0, t, a, b, **TIGHT)

    @fg.jit
    def of_oscillator(state, k):
        return odeint(oscillator, state, jnp.array([0.0, 0.5]), PARAMS | {"k": k}, **TIGHT)

    with enable_x64():
        check_grads(of_populations, (START, np.array([0.0, 0.4, 1.0]), 0.7, 1.3), modes=["rev"], rtol=1e-5, atol=1e-6)
        check_grads(of_oscillator, (STATE, PARAMS["k"]), modes=["rev"], rtol=1e-5, atol=1e-6)


def test_second_derivatives_by_closed_over_values():
    def decay(rate):
        return odeint(lambda y, t: -rate * y, 1.0, jnp.array([0.0, 1.0]), rtol=1e-5)[-1]

    assert_close(fg.grad(fg.grad(decay))(0.5), np.float32(np.exp(-0.5)), rtol=1e-4)


def test_batches_of_compiled_solutions():
    def solve(y0, a):
        return odeint(populations, y0, jnp.asarray(TIMES, y0.dtype), a, 1.3, rtol=1e-6, atol=1e-6)

    def both(y0, a):
        return solve(y0, a), fg.grad(lambda y0: solve(y0, a).sum())(y0)

    starts, rates = np.stack([START, START[::-1]]).astype("float32"), np.array([0.7, 1.1], "float32")
    batch = fg.jit(fg.vmap(both))(starts, rates)
    alone = fg.jit(both)
    for i in range(2):
        expected = alone(starts[i], rates[i])
        assert_close(fg.tree.map(lambda x, i=i: x[i], batch), expected, rtol=1e-4, atol=1e-4)


def test_limits_of_steps():
    count = []

    def f(y, t):
        fg.debug.callback(lambda: count.append(1))
        return -y

    odeint(f, 1.0, jnp.array([0.0, 1.0]), rtol=1e-3, atol=1e-3)
    few = len(count)
    count.clear()
    odeint(f, 1.0, jnp.array([0.0, 1.0]), rtol=1e-3, atol=1e-3, hmax=0.05)
    assert len(count) >= 20 * 6 > few
    stopped = odeint(lambda y, t: 1e4 * (jnp.cos(t) - y), 1.0, jnp.array([0.0, 10.0]), mxstep=5)
    assert stopped.shape == (2,)


@pytest.mark.oracle
def test_solutions_are_those_of_jax(jax):
    from jax.experimental.ode import odeint as theirs

    def f(np):
        return lambda y, t, a: np.stack([y[1], -a * np.sin(y[0])])

    def value_and_gradients(fg, np, odeint):
        times = np.asarray(TIMES[[0, 1, 3, 4]].astype("float32"))
        return fg.jit(fg.value_and_grad(lambda y, a: odeint(f(np), y, times, a, rtol=1e-3, atol=1e-3).sum(), (0, 1)))(
            np.asarray(START.astype("float32")), np.float32(2)
        )

    found, expected = value_and_gradients(fg, jnp, odeint), value_and_gradients(jax, jax.numpy, theirs)
    assert_close(found, jax.tree.map(np.asarray, expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: odeint(lambda y, t: -y, 1.0, jnp.arange(3)), DTypeError, "times are i32"),
        (lambda: odeint(lambda y, t: -y, 1.0, jnp.ones((2, 2))), ShapeError, "times are f32"),
        (lambda: odeint(lambda y, t: y[:1], jnp.ones(2), jnp.arange(3.0)), ShapeError, "func returns"),
        (lambda: odeint(lambda y, t: [y], jnp.ones(2), jnp.arange(3.0)), ShapeError, "func returns"),
        (lambda: odeint(lambda y, t, s: -y, 1.0, jnp.arange(3.0), "fast"), ArgumentError, "'fast' of type str"),
        (
            lambda: fg.jvp(lambda y: odeint(lambda y, t: -y, y, jnp.arange(3.0)), (1.0,), (1.0,)),
            NotDifferentiableError,
            "forward",
        ),
    ],
)
def test_errors_explain_the_cause(call, error, text):
    with pytest.raises(error, match=text):
        call()
