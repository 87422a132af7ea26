"""Line searches, L-BFGS, and other optimizers that evaluate the loss."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import optim, random
from tests.optim import optimizer_cases as cases
from tests.optim.optimizer_cases import rosenbrock

STORED = cases.figures()["optax"]
START = jnp.array([-1.2, 1.0])


@pytest.mark.parametrize("name", cases.WITH_LOSS)
def test_iterates_are_those_of_optax(name):
    with fg.enable_x64():
        np.testing.assert_allclose(cases.WITH_LOSS[name](optim, fg), STORED[name], rtol=1e-7)


@pytest.mark.oracle
def test_stored_iterates_are_those_of_optax(jax):
    with jax.enable_x64(True):
        for name in ("backtracking", "lookahead"):
            np.testing.assert_allclose(cases.WITH_LOSS[name](cases.Optax(), jax), STORED[name], rtol=1e-7)


@pytest.fixture(scope="module")
def searches():
    """Parameters, updates along which is searched, and the result, for some steps of L-BFGS."""
    direction, search = optim.lbfgs(linesearch=None), optim.scale_by_zoom_linesearch(20, initial_guess_strategy="one")

    @fg.jit
    def step(x, state, searching):
        value, grad = fg.value_and_grad(rosenbrock)(x)
        towards, state = direction.update(grad, state, x)
        moved, searching = search.update(towards, searching, x, value=value, grad=grad, value_fn=rosenbrock)
        return towards, moved, state, searching

    with fg.enable_x64():
        x = jnp.asarray(START, float)
        state, searching, found = direction.init(x), search.init(x), []
        for _ in range(15):
            towards, moved, state, searching = step(x, state, searching)
            found.append((x, towards, searching))
            x = optim.apply_updates(x, moved)
    return found


def test_step_sizes_satisfy_the_strong_wolfe_conditions(searches):
    with fg.enable_x64():
        for x, towards, search in searches:
            along = lambda s, x=x, towards=towards: rosenbrock(x + s * towards)  # noqa: E731
            value, slope = fg.value_and_grad(along)(0.0)
            new, new_slope = fg.value_and_grad(along)(float(search.learning_rate))
            assert new <= value + 1e-4 * search.learning_rate * slope + 1e-6 * abs(value)
            assert abs(new_slope) <= 0.9 * abs(slope) + 1e-12
            assert search.info.decrease_error == search.info.curvature_error == 0


def test_the_state_holds_value_and_gradient_of_the_next_step(searches):
    with fg.enable_x64():
        for x, towards, search in searches:
            value, grad = fg.value_and_grad(rosenbrock)(x + search.learning_rate * towards)
            known = optim.value_and_grad_from_state(rosenbrock)(x, state=search)
            np.testing.assert_allclose(known[0], value, rtol=1e-9)
            np.testing.assert_allclose(known[1], grad, rtol=1e-9)


def test_directions_of_lbfgs_are_those_of_bfgs(searches):
    """With a memory of all steps, the product of the two loops is that of the matrix."""
    s = [np.asarray(b[0] - a[0]) for a, b in zip(searches, searches[1:], strict=False)][:5]
    with fg.enable_x64():
        grads = [np.asarray(fg.grad(rosenbrock)(x)) for x, _, _ in searches[:6]]
    y = [b - a for a, b in zip(grads, grads[1:], strict=False)]
    h = np.eye(2) * (y[-1] @ s[-1]) / (y[-1] @ y[-1])
    for si, yi in zip(s, y, strict=True):
        rho = 1 / (yi @ si)
        left = np.eye(2) - rho * np.outer(si, yi)
        h = left @ h @ left.T + rho * np.outer(si, si)
    np.testing.assert_allclose(searches[5][1], -h @ grads[5], rtol=1e-6)


def test_steps_stay_where_the_loss_is_finite():
    def loss(x):
        return -jnp.log(x[0]) + x[0]

    for search in (optim.scale_by_backtracking_linesearch(40), optim.scale_by_zoom_linesearch(40)):
        optimizer = optim.chain(optim.sgd(10.0), search)

        def step(_, carry, optimizer=optimizer):
            x, state = carry
            value, grad = fg.value_and_grad(loss)(x)
            updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=loss)
            return optim.apply_updates(x, updates), state

        x = jnp.array([3.0])
        x, _ = fg.jit(lambda x, step=step, o=optimizer: fg.lax.fori_loop(0, 8, step, (x, o.init(x))))(x)
        assert abs(x[0] - 1) < 0.05


def test_arguments_of_the_loss_are_passed_on():
    def loss(x, target):
        return jnp.sum((x - target) ** 2)

    optimizer, x, target = optim.lbfgs(), jnp.zeros(2), jnp.array([1.0, 2.0])
    value, grad = fg.value_and_grad(loss)(x, target)
    state = optimizer.init(x)
    updates, _ = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=loss, target=target)
    assert loss(x + updates, target) < value


def test_sampled_gradients_estimate_the_gauss_newton_diagonal():
    """For logistic regression, it is the diagonal of the Hessian: the mean of p(1 − p)x²."""
    points = np.random.default_rng(0).standard_normal((32, 2))
    params = jnp.array([0.5, -1.0])

    def sampled_loss(params, key):
        logits = points @ params
        labels = random.bernoulli(key, 1 / (1 + jnp.exp(-logits))).astype(float)
        return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)

    estimator = optim.gauss_newton_bartlett_estimator(32)

    def estimate(key):
        state = optim.gauss_newton_bartlett_estimator(32, key).init(params)
        return estimator.update(None, state, params, sampled_loss_fn=sampled_loss)[0]

    estimates = fg.jit(fg.vmap(estimate))(random.split(random.key(0), 2000))
    p = 1 / (1 + np.exp(-points @ np.asarray(params)))
    np.testing.assert_allclose(estimates.mean(0), np.mean(p[:, None] * (1 - p[:, None]) * points**2, 0), rtol=0.1)
