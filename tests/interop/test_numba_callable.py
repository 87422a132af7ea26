"""Functions of funcgrad called from numba's, and from SciPy's C code."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import scipy.integrate

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def loss(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 2)


def trajectory(x0, rate):
    return lax.scan(lambda x, _: (x - rate * x, x), x0, None, length=5)


def test_a_gradient_is_called_in_a_loop_of_numba():
    w = np.ones(3, np.float32)
    slope = fg.numba_callable(fg.grad(loss), w, X)

    @numba.njit
    def descend(w, x):
        for _ in range(20):
            w = w - np.float32(0.1) * slope(w, x)
        return w

    expected = w
    for _ in range(20):
        expected = expected - 0.1 * np.asarray(fg.grad(loss)(expected, X))
    np.testing.assert_allclose(descend(w, X), expected, rtol=1e-4)


def test_trees_come_as_leaves_and_numbers_as_numbers():
    f = fg.numba_callable(lambda p: (p["a"] * p["b"], jnp.sum(p["a"]), p["b"]), {"a": X, "b": 2.0})

    @numba.njit
    def call(a):
        product, total, b = f(a, 3.0)
        return product + total, b

    found, b = call(X)
    np.testing.assert_allclose(found, 3 * X + X.sum(), rtol=1e-5)
    assert b == 3.0


def test_a_mapped_model_and_a_loop():
    mapped = fg.numba_callable(fg.vmap(loss, (None, 0)), np.ones(3, np.float32), X[:, None])
    np.testing.assert_allclose(mapped(np.ones(3, np.float32), X[:, None]), np.tanh(X.sum(1)) ** 2, rtol=1e-5)
    walk = fg.numba_callable(trajectory, X[0], 0.1)
    for x, y in zip(walk(X[0], 0.1), trajectory(X[0], 0.1), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("x", [X.T.copy().T, np.repeat(X, 2, 0)[::2], X.view()], ids=["columns", "strided", "view"])
def test_arrays_of_any_layout_will_do(x):
    read_only = x.view()
    read_only.flags.writeable = False
    doubled = fg.numba_callable(lambda x: 2 * x, X)
    for given in (x, read_only):
        np.testing.assert_array_equal(doubled(given), 2 * X)


def test_other_types_are_refused():
    doubled = fg.numba_callable(lambda x: 2 * x, X)
    with pytest.raises(ValueError, match=r"x0 is not of shape \(4, 3\)"):
        doubled(X[:2])
    with pytest.raises(ValueError, match="x0 is not an array of float32"):
        doubled(X.astype(np.float64))


def test_numbers_are_c_functions():
    with enable_x64():
        area = scipy.integrate.quad(fg.low_level_callable(lambda x: jnp.exp(-(x**2))), 0, 2)[0]
        double = scipy.integrate.dblquad(fg.low_level_callable(lambda y, x: x * y**2, 2), 0, 1, 0, 2)[0]
    np.testing.assert_allclose(area, 0.8820813907624217, rtol=1e-12)
    np.testing.assert_allclose(double, 4 / 3, rtol=1e-12)
    with pytest.raises(
        ArgumentError, match=r"returns \(f32\[2\]\) for numbers, but SciPy expects a single real number"
    ):
        fg.low_level_callable(lambda x: jnp.array([x, x]))
