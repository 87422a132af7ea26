"""Every optimizer: against published rules in NumPy, against optax and PyTorch, and as a pure function."""

from __future__ import annotations

import functools
import inspect

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, optim
from tests.optim import optimizer_cases as cases
from tests.paths import ROOT

STORED = cases.figures()


def assert_stored(ours, peer, name):
    # optax computes the decay of Adafactor, some schedules and sums in float32; PyTorch some corrections otherwise.
    loose = peer == "torch" or any(x in name for x in ("adafactor", "scheduled", "warmup", "MultiSteps"))
    np.testing.assert_allclose(ours, STORED[peer][name], rtol=3e-6 if loose else 1e-9)


@pytest.mark.parametrize("name", cases.CASES)
def test_figures_of_optax(name):
    with fg.enable_x64():
        assert_stored(cases.run(cases.CASES[name], optim, jnp), "optax", name)


@pytest.mark.parametrize("name", cases.TORCH)
def test_figures_of_torch(name):
    with fg.enable_x64():
        assert_stored(cases.run(cases.TORCH[name][2], optim, jnp, steps=cases.TORCH_STEPS), "torch", name)


COMPILED = ["adam", "adafactor factored", "muon", "schedule_free_adamw", "MultiSteps scheduled", "partition", "sam"]


@pytest.mark.parametrize("name", COMPILED)
def test_updates_compile_in_loops(name):
    """The state keeps its structure, shapes and dtypes, which a scan requires."""
    with fg.enable_x64():
        assert_stored(cases.run(cases.CASES[name], optim, jnp, fg.jit(lax.scan, static_argnums=0)), "optax", name)


@pytest.mark.parametrize("name", cases.CASES)
def test_states_are_pytrees_that_keep_their_types(name):
    params = {"w": jnp.ones((3, 2), "bfloat16"), "b": jnp.ones(2, "float32")}
    optimizer = cases.CASES[name](optim)
    state = fg.tree.map(lambda x: x, optimizer.init(params))
    updates, after = fg.eval_shape(lambda g, s, p: optimizer.update(g, s, p, value=1.0), params, state, params)
    types = lambda tree: fg.tree.map(lambda x: (x.shape, str(x.dtype)), tree)  # noqa: E731
    assert types(after) == types(state)
    assert types(updates) == types(params)


@pytest.mark.torch
def test_stored_figures_are_those_of_torch(torch):
    for name in STORED["torch"]:
        assert_stored(cases.run_torch(torch, name), "torch", name)


@pytest.mark.oracle
def test_stored_figures_are_those_of_optax(jax):
    scan = jax.jit(jax.lax.scan, static_argnums=0)
    with jax.enable_x64(True):
        for name in ("adam", "schedule_free_adamw"):
            assert_stored(cases.run(cases.CASES[name], cases.Optax(), jax.numpy, scan), "optax", name)


# ---------------------------------------------------------------- published rules


def averages(g, memory, t, b1=0.9, b2=0.999):
    """m, v, m̂ and v̂ of Adam."""
    m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
    v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
    return m, v, m / (1 - b1**t), v / (1 - b2**t)


def momentum(g, memory, t):
    memory["m"] = 0.9 * memory.get("m", 0) + g
    return memory["m"]


def adam(g, memory, t):
    _, _, m, v = averages(g, memory, t)
    return m / (np.sqrt(v) + 1e-8)


def nadam(g, memory, t):
    m, _, _, v = averages(g, memory, t)
    return (0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)) / (np.sqrt(v) + 1e-8)


def amsgrad(g, memory, t):
    _, _, m, v = averages(g, memory, t)
    memory["max"] = np.maximum(memory.get("max", 0), v)
    return m / (np.sqrt(memory["max"]) + 1e-8)


def adamax(g, memory, t):
    _, _, m, _ = averages(g, memory, t)
    memory["u"] = np.maximum(0.999 * memory.get("u", 0), np.abs(g) + 1e-8)
    return m / memory["u"]


def adabelief(g, memory, t):
    m = memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["s"] = 0.999 * memory.get("s", 0) + 0.001 * (g - m) ** 2 + 1e-16
    return (m / (1 - 0.9**t)) / (np.sqrt(memory["s"] / (1 - 0.999**t)) + 1e-16)


def radam(g, memory, t):
    _, _, m, v = averages(g, memory, t)
    limit = 2 / (1 - 0.999) - 1
    rho = limit - 2 * t * 0.999**t / (1 - 0.999**t)
    if rho < 5:
        return m
    r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    return r * m / (np.sqrt(v) + 1e-8)


def rprop(g, memory, t):
    sign = np.sign(g * memory.get("g", 0 * g))
    size = memory.get("size", np.full_like(g, 0.05)) * np.select([sign > 0, sign < 0], [1.2, 0.5], 1)
    memory["size"] = np.clip(size, 1e-6, 50)
    memory["g"] = np.where(sign < 0, 0, g)
    return memory["size"] * np.sign(memory["g"])


def rmsprop(g, memory, t):
    memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
    return g / np.sqrt(memory["v"] + 1e-8)


def adagrad(g, memory, t):
    memory["s"] = memory.get("s", 0.1) + g**2
    return g / np.sqrt(memory["s"] + 1e-7)


def adadelta(g, memory, t):
    memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
    u = g * np.sqrt(memory.get("x", 0) + 1e-6) / np.sqrt(memory["v"] + 1e-6)
    memory["x"] = 0.9 * memory.get("x", 0) + 0.1 * u**2
    return u


def lion(g, memory, t):
    m = memory.get("m", 0)
    memory["m"] = 0.99 * m + 0.01 * g
    return np.sign(0.9 * m + 0.1 * g)


RULES = {
    "sgd": (lambda o: o.sgd(0.05), lambda g, memory, t: g),
    "momentum": (lambda o: o.sgd(0.05, 0.9), momentum),
    "nesterov": (lambda o: o.sgd(0.05, 0.9, True), lambda g, memory, t: g + 0.9 * momentum(g, memory, t)),
    "adam": (lambda o: o.adam(0.05), adam),
    "nadam": (lambda o: o.nadam(0.05), nadam),
    "amsgrad": (lambda o: o.amsgrad(0.05), amsgrad),
    "adamax": (lambda o: o.adamax(0.05), adamax),
    "adabelief": (lambda o: o.adabelief(0.05), adabelief),
    "radam": (lambda o: o.radam(0.05), radam),
    "rmsprop": (lambda o: o.rmsprop(0.05), rmsprop),
    "adagrad": (lambda o: o.adagrad(0.05), adagrad),
    "adadelta": (lambda o: o.adadelta(0.05), adadelta),
    "lion": (lambda o: o.lion(0.05, weight_decay=0.0), lion),
    "sign_sgd": (lambda o: o.sign_sgd(0.05), lambda g, memory, t: np.sign(g)),
    # The learning rate of Rprop is its first step size.
    "rprop": (lambda o: o.chain(o.rprop(0.05), o.scale(0.05)), rprop),
}


@pytest.mark.parametrize("name", RULES)
def test_optimizers_are_their_published_rule(name):
    make, rule = RULES[name]
    params, memories = dict(cases.PARAMS), {"w": {}, "b": {}}
    for t in range(cases.STEPS):
        for key, p in params.items():
            g = cases.SLOPES[key][t] * p + cases.OFFSETS[key][t]
            params[key] = p - 0.05 * rule(g, memories[key], t + 1)
    with fg.enable_x64():
        ours = cases.run(make, optim, jnp)
    np.testing.assert_allclose(ours, cases.flat(params), rtol=1e-12)


# ---------------------------------------------------------------- convergence

POINTS = np.random.default_rng(1).standard_normal((40, 2))
LABELS = np.where(POINTS @ [1.0, -2.0] + 0.3 * np.random.default_rng(2).standard_normal(40) > 0, 1.0, -1.0)
START = {
    "quadratic": jnp.array([[2.0, -3.0], [1.0, 0.5]]),
    "rosenbrock": jnp.array([-0.5, 0.5]),
    "logistic": jnp.zeros(2),
}
LOWEST = 0.48815
"""The minimum of the logistic regression."""


def losses(params):
    """A quadratic, 1/100 of Rosenbrock's function, and a regularized logistic regression."""
    x, y = params["rosenbrock"]
    quadratic = jnp.sum(jnp.array([[1.0, 3.0], [0.3, 1.0]]) * params["quadratic"] ** 2)
    logistic = jnp.mean(jnp.logaddexp(0, -LABELS * (POINTS @ params["logistic"])))
    return quadratic, (y - x**2) ** 2 + (1 - x) ** 2 / 100, logistic + 0.05 * jnp.sum(params["logistic"] ** 2)


def loss(params):
    return sum(losses(params))


def decaying(rate):
    return optim.cosine_decay_schedule(rate, 800)


RATES = {
    **dict.fromkeys(["adabelief", "adam", "adamax", "adamw", "adan", "amsgrad", "lamb", "nadam"], 0.1),
    **dict.fromkeys(["radam", "rmsprop", "yogi", "adafactor", "novograd", "optimistic_adam_v2", "muon"], 0.1),
    **dict.fromkeys(["sgd", "optimistic_gradient_descent", "fromage", "sophia"], 0.1),
    **{"adagrad": 0.5, "adadelta": 20.0, "lars": 20.0, "lion": 0.02, "sign_sgd": 0.02, "signum": 0.02},
}
OPTIMIZERS = {
    **{name: getattr(optim, name)(decaying(rate)) for name, rate in RATES.items()},
    "rprop": optim.rprop(0.1),
    "sm3": optim.sm3(0.3),
    "polyak_sgd": optim.polyak_sgd(0.3, f_min=LOWEST),
    "schedule_free_sgd": optim.schedule_free_sgd(0.2),
    "schedule_free_adamw": optim.schedule_free_adamw(0.1),
    "lbfgs": optim.lbfgs(),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_converge(name):
    optimizer = OPTIMIZERS[name]

    def step(carry, _):
        params, state = carry
        value, grads = fg.value_and_grad(loss)(params)
        extra = (
            {"value": value, "grad": grads, "value_fn": loss} if name == "lbfgs" else {"value": value, "obj_fn": loss}
        )
        updates, state = optimizer.update(grads, state, params, **extra)
        return (optim.apply_updates(params, updates), state), None

    steps = 40 if name == "lbfgs" else 800
    params, state = fg.jit(lambda p: lax.scan(step, (p, optimizer.init(p)), length=steps)[0])(START)
    if "schedule_free" in name:
        params = optim.schedule_free_eval_params(state, params)
    quadratic, rosenbrock, logistic = (float(x) for x in losses(params))
    assert quadratic < 1e-3 and rosenbrock < 0.01 and logistic < LOWEST + 1e-5


def test_every_optimizer_is_in_the_table_and_on_the_page():
    """An optimizer is a function of this package, and not a transformation, wrapper or schedule."""
    modules = ("optimizers", "adaptive_optimizers", "muon", "sophia", "lbfgs", "schedule_free")
    functions = [f for f in vars(optim).values() if inspect.isfunction(f) and f.__module__.split(".")[-1] in modules]
    parts = ("scale_by", "schedule_free_eval", "orthogonalize")
    parts += ("hutchinson_estimator_diag_hessian", "gauss_newton_bartlett_estimator")
    names = {f.__name__ for f in functions if not f.__name__.startswith(parts)} - {"schedule_free"}
    assert names == {*OPTIMIZERS, "nadamw", "adamaxw", "noisy_sgd"}
    page = (ROOT / "docs" / "optim.md").read_text()
    assert not [name for name in names if f"| `{name}` |" not in page]


# ---------------------------------------------------------------- transforms


def one_step(rate, make, params):
    optimizer = make(rate)
    updates, _ = optimizer.update(fg.tree.map(lambda p: 2 * p, params), optimizer.init(params), params)
    return optim.apply_updates(params, updates)


@pytest.mark.parametrize("make", [optim.sgd, optim.adamw, optim.lamb, optim.muon, optim.schedule_free_sgd])
def test_learning_rates_are_mapped_and_differentiated(make):
    params = {"w": jnp.arange(6.0).reshape(3, 2), "b": jnp.ones(2)}
    step = lambda rate: one_step(rate, make, params)  # noqa: E731
    mapped = fg.jit(fg.vmap(step))(jnp.array([0.1, 0.2]))
    for i, rate in enumerate((0.1, 0.2)):
        fg.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-6), mapped, step(rate))
    slope = fg.grad(lambda rate: jnp.sum(step(rate)["b"]))(0.1)
    assert np.isclose(slope, (step(0.2)["b"].sum() - step(0.1)["b"].sum()) / 0.1, rtol=1e-3)


def test_params_and_state_are_donated():
    optimizer = optim.adam(0.1)
    params = {"w": jnp.ones((64, 64))}
    state = optimizer.init(params)

    @functools.partial(fg.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = optimizer.update(params, state, params)
        return optim.apply_updates(params, updates), state

    after, _ = step(params, state)
    assert params["w"].is_deleted() and state[0].mu["w"].is_deleted()
    np.testing.assert_allclose(after["w"], 0.9, rtol=1e-6)


def test_first_step_of_adam_is_accurate_in_float32():
    """1 − b₂ = 0.001 loses four digits in float32, unless it is computed as expm1(log b₂)."""
    optimizer = optim.adam(0.1, eps=0.0)
    updates, _ = optimizer.update(jnp.array([0.3, -2.0]), optimizer.init(jnp.zeros(2)))
    np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=3e-7)


def test_complex_parameters():
    """v is real; minimizing |z − 1 − 2i|²."""
    target = 1 + 2j
    optimizer = optim.adam(optim.cosine_decay_schedule(0.3, 100))
    z = jnp.zeros((), "complex64")
    state = optimizer.init(z)
    assert state[0].nu.dtype == "float32"
    for _ in range(100):
        grads = jnp.conj(fg.grad(lambda z: jnp.abs(z - target) ** 2)(z))
        updates, state = optimizer.update(grads, state, z)
        z = optim.apply_updates(z, updates)
    assert abs(z - target) < 0.05
