"""scipy.optimize: minima are SciPy's, under transforms too; line searches; reasons to stop; errors."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import scipy.optimize as oracle

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.scipy.optimize import minimize
from funcgrad.scipy.optimize.line_search import Point, advance, next_step, start_search, status_of
from funcgrad.testing import assert_close

BFGS, LBFGS = "BFGS", "l-bfgs-experimental-do-not-rely-on-this"
STARTS = np.random.default_rng(0).uniform(-1, 1.5, (5, 2))


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def himmelblau(p):
    x, y = p[0], p[1]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def matyas(p):
    x, y = p[0], p[1]
    return 0.26 * (x**2 + y**2) - 0.48 * x * y


@pytest.mark.parametrize("method", [BFGS, LBFGS])
@pytest.mark.parametrize(
    ("fun", "start"),
    [
        (rosenbrock, np.linspace(-1, 1.5, 5)),
        (himmelblau, [1.0, 1.0]),
        (matyas, [3.0, -2.0]),
    ],
)
def test_minima_are_scipys(fun, start, method: str):
    start = np.asarray(start)
    expected = oracle.minimize(fun, start, method="BFGS")
    with enable_x64():
        result = minimize(fun, start, method=method, options={"ftol": -1.0} if method == LBFGS else {})
        assert_close(result.x, expected.x, rtol=1e-4, atol=1e-4)
        assert_close(result.fun, fun(np.asarray(result.x)), rtol=1e-9, atol=1e-12)
        assert_close(result.jac, np.asarray(fg.grad(fun)(result.x)), rtol=1e-9, atol=1e-9)
    assert bool(result.success) and result.status == 0
    assert np.abs(result.jac).max() < 1e-5
    assert result.nit <= result.nfev == result.njev <= 2 * expected.nfev


def test_the_inverse_hessian_of_a_quadratic():
    a = np.array([[3.0, 1.0], [1.0, 2.0]])
    with enable_x64():
        result = minimize(lambda x, a: x @ a @ x / 2 - x.sum(), np.zeros(2), (a,), method=BFGS, tol=1e-10)
        assert_close(result.x, np.linalg.solve(a, np.ones(2)), rtol=1e-8, atol=1e-8)
        assert_close(result.hess_inv, np.linalg.inv(a), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [BFGS, LBFGS])
def test_starts_under_vmap_go_their_own_way(method: str):
    def solve(x):
        return minimize(rosenbrock, x, method=method, options={"gtol": 1e-6})

    with enable_x64():
        results = fg.jit(fg.vmap(solve))(STARTS)
        for i, start in enumerate(STARTS[:2]):
            alone = solve(start)
            assert_close(results.x[i], np.asarray(alone.x), rtol=1e-5, atol=1e-5)
            assert (results.nit[i], results.nfev[i]) == (alone.nit, alone.nfev)
    assert_close(results.x, np.ones((5, 2)), rtol=1e-5, atol=1e-5, check_dtypes=False)


def test_reasons_to_stop():
    def status(method, fun=rosenbrock, start=STARTS[0], **options):
        result = minimize(fun, start, method=method, options=options)
        assert bool(result.success) == (result.status == 0)
        return int(result.status), int(result.nit)

    assert status(BFGS, maxiter=3) == (1, 3)
    assert status(BFGS, start=np.ones(2)) == (0, 0)
    assert status(LBFGS, maxfun=5, maxcor=1)[0] == 2 and status(LBFGS, maxgrad=5, maxcor=1)[0] == 3
    assert status(LBFGS, ftol=1e10, maxcor=1) == (4, 1)
    with enable_x64():  # no step satisfies the conditions: the function decreases forever, or has a kink
        assert status(BFGS, lambda x: -x.sum())[0] == 5
        kinked = minimize(lambda x: jnp.abs(x).sum(), STARTS[0], method=BFGS)
        assert kinked.status == 3
        assert_close(kinked.fun, np.abs(np.asarray(kinked.x)).sum())


def test_a_region_of_nans_is_left():
    with enable_x64():
        result = minimize(lambda x: (x - jnp.log(x)).sum(), np.array([0.01]), method=BFGS)
    assert_close(result.x, np.ones(1), rtol=1e-4, check_dtypes=False)


def test_a_search_finds_steps_beyond_and_before_the_first():
    def search(value, first_step):
        def at(step):
            return Point(step, *fg.value_and_grad(value)(step))

        start = at(jnp.asarray(0.0))
        state, done = start_search(start.value, start.slope, jnp.asarray(first_step)), False
        for _ in range(40):
            point = at(next_step(state))
            state, done = advance(state, point)
            if done or status_of(state, 10):
                return float(point.step), bool(done)
        raise AssertionError("the search does not end")

    with enable_x64():
        for minimum, first_step in ((0.03, 0.01), (0.03, 20.0), (0.7, 20.0), (6.0, 0.01), (6.0, 1.0)):
            step, done = search(lambda a, m=minimum: (a - m) ** 2 + 0.1 * jnp.sin(a - m) ** 4, first_step)
            assert done and abs(step - minimum) < 0.95 * minimum
        # The slope is positive beyond the minimum, and the value is less than before it.
        assert search(lambda a: -a + 0.4 * a**3, 1.1)[1]


@pytest.mark.oracle
def test_minima_are_those_of_jax(jax):
    optimize = importlib.import_module("jax.scipy.optimize")
    expected = optimize.minimize(himmelblau, jax.numpy.ones(2), method=BFGS)
    result = minimize(himmelblau, jnp.ones(2), method=BFGS)
    assert result._fields == expected._fields
    assert_close(result.x, np.asarray(expected.x), rtol=1e-4, atol=1e-4)
    for name in ("fun", "jac", "hess_inv", "status", "nit", "nfev"):
        ours, theirs = getattr(result, name), np.asarray(getattr(expected, name))
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: minimize(rosenbrock, np.ones(2), method="Newton"), ArgumentError),
        (lambda: minimize(rosenbrock, np.ones(2), [], method=BFGS), ArgumentError),
        (lambda: minimize(rosenbrock, np.ones(2), method=BFGS, options={"maxcor": 3}), ArgumentError),
        (lambda: minimize(rosenbrock, np.ones((2, 2)), method=BFGS), ShapeError),
        (lambda: minimize(rosenbrock, np.ones(2) + 1j, method=BFGS), DTypeError),
    ],
)
def test_errors_explain_the_cause(call, error):
    with pytest.raises(error, match="minimize: .*\n.*\n?.*fix: "):
        call()
