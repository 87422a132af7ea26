"""Optimizers against NumPy programs of their definitions; schedules; minibatches."""

from __future__ import annotations

import math

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import data, optim, random
from funcgrad.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.standard_normal((3, 2)), "b": [RNG.standard_normal(2)]}
GRADS = [fg.tree.map(lambda p: RNG.standard_normal(p.shape), PARAMS) for _ in range(5)]


def run(optimizer, steps=GRADS):
    """Parameters after the steps, each under jit."""
    update = fg.jit(optimizer.update)
    with fg.enable_x64():
        params, state = fg.tree.map(jnp.asarray, PARAMS), optimizer.init(PARAMS)
        for grads in steps:
            updates, state = update(grads, state, params)
            params = optim.apply_updates(params, updates)
    return params


def reference(step):
    """Parameters after the same steps by a NumPy function (θ, g, memory, t) → θ of one leaf."""

    def leaf(p, *grads):
        memory = {}
        for t, g in enumerate(grads, 1):
            p = step(p, g, memory, t)
        return p

    return fg.tree.map(leaf, PARAMS, *GRADS)


def assert_same(optimizer, step):
    fg.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), run(optimizer), reference(step))


def sgd_step(rate, momentum=0.0, nesterov=False):
    def step(p, g, memory, t):
        m = memory["m"] = g + momentum * memory.get("m", 0)
        return p - (rate(t - 1) if callable(rate) else rate) * (g + momentum * m if nesterov else m)

    return step


def adam_step(rate, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, nesterov=False):
    def step(p, g, memory, t):
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
        corrected = m / (1 - b1**t)
        if nesterov:
            corrected = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        return p - rate * (corrected / (np.sqrt(v / (1 - b2**t)) + eps) + decay * p)

    return step


@pytest.mark.parametrize(
    "optimizer, step",
    [
        (optim.sgd(0.1), sgd_step(0.1)),
        (optim.sgd(0.1, momentum=0.9), sgd_step(0.1, 0.9)),
        (optim.sgd(0.1, momentum=0.9, nesterov=True), sgd_step(0.1, 0.9, nesterov=True)),
        (optim.sgd(lambda n: 0.1 / (n + 1)), sgd_step(lambda n: 0.1 / (n + 1))),
        (optim.adam(0.01), adam_step(0.01)),
        (optim.adam(0.01, 0.8, 0.9, 1e-3), adam_step(0.01, 0.8, 0.9, 1e-3)),
        (optim.adam(0.01, nesterov=True), adam_step(0.01, nesterov=True)),
        (optim.adamw(0.01, weight_decay=0.1), adam_step(0.01, decay=0.1)),
    ],
    ids=["sgd", "momentum", "nesterov", "scheduled", "adam", "adam-options", "nadam", "adamw"],
)
def test_optimizers_are_their_definition(optimizer, step):
    assert_same(optimizer, step)


def test_weight_decay_applies_only_to_the_mask():
    for mask in ({"w": True, "b": False}, {"w": True, "b": [False]}, lambda p: fg.tree.map(lambda x: x.ndim > 1, p)):
        masked = run(optim.adamw(0.01, weight_decay=0.5, mask=mask))
        np.testing.assert_allclose(masked["w"], run(optim.adamw(0.01, weight_decay=0.5))["w"], rtol=1e-12)
        np.testing.assert_allclose(masked["b"][0], run(optim.adam(0.01))["b"][0], rtol=1e-12)


def test_clipping():
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
    assert float(optim.global_norm(grads)) == 5
    clipped, _ = optim.clip_by_global_norm(1.0).update(grads, ())
    assert np.allclose(clipped["a"], [0.6, 0]) and np.allclose(clipped["b"], 0.8)
    kept, _ = optim.clip_by_global_norm(10.0).update(grads, ())
    assert kept["b"] == 4
    zeros, _ = optim.clip_by_global_norm(1.0).update(fg.tree.map(jnp.zeros_like, grads), ())
    assert zeros["a"].tolist() == [0, 0]
    assert optim.clip(1.0).update({"a": jnp.array([-3.0, 0.5])}, ())[0]["a"].tolist() == [-1, 0.5]


def test_chain_applies_in_order():
    chained = optim.chain(optim.scale(2.0), optim.clip(1.0), optim.identity())
    assert chained.update(jnp.array([0.3, 0.9]), chained.init(None))[0].tolist() == [np.float32(0.6), 1]


def test_state_is_a_pytree_and_dtypes_stay():
    params = {"w": jnp.ones(3, "bfloat16"), "b": jnp.ones(2, "float32")}
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(optim.cosine(0.1, 10)))
    state = optimizer.init(params)
    updates, after = fg.jit(optimizer.update)(params, state, params)
    assert fg.tree.structure(state) == fg.tree.structure(after)
    assert [x.dtype for x in fg.tree.leaves(state)] == [x.dtype for x in fg.tree.leaves(after)]
    moved = optim.apply_updates(params, updates)
    assert moved["w"].dtype == "bfloat16" and moved["b"].dtype == "float32"


def test_an_update_compiles_to_few_kernels():
    """All arithmetic of a leaf is one kernel; scalars of the bias correction are few more."""
    params = {"w": jnp.ones((8, 8)), "b": jnp.ones(8)}
    optimizer = optim.adam(0.1)

    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    text = fg.jit(step).lower(params, optimizer.init(params), params).as_text("kernels")
    assert 1 <= text.count("def ") <= 5


@pytest.mark.parametrize("optimizer", [optim.sgd(0.05, 0.9), optim.adam(0.3), optim.adamw(0.3), optim.sgd(0.2)])
def test_descends_on_a_quadratic(optimizer):
    def loss(x):
        return jnp.sum(jnp.array([1.0, 3.0]) * x**2)

    @fg.jit
    def step(x, state):
        updates, state = optimizer.update(fg.grad(loss)(x), state, x)
        return optim.apply_updates(x, updates), state

    x, state = jnp.array([2.0, -3.0]), optimizer.init(jnp.zeros(2))
    for _ in range(200):
        x, state = step(x, state)
    assert loss(x) < 1e-3


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (optim.constant(0.5), lambda n: 0.5),
        (optim.linear(1.0, 0.0, 10), lambda n: max(0, 1 - n / 10)),
        (optim.exponential(0.5, 4, 0.1), lambda n: 0.5 * 0.1 ** (n / 4)),
        (optim.exponential(0.5, 4, 0.1, staircase=True, end=0.01), lambda n: max(0.01, 0.5 * 0.1 ** (n // 4))),
        (optim.cosine(0.5, 10, 0.1), lambda n: 0.5 * (0.9 * 0.5 * (1 + math.cos(math.pi * min(n, 10) / 10)) + 0.1)),
        (
            optim.warmup_cosine(1.0, 5, 15, end=0.2),
            lambda n: n / 5 if n < 5 else 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * min(n - 5, 10) / 10)),
        ),
        (
            optim.join([optim.constant(1.0), optim.constant(2.0), optim.constant(3.0)], [3, 6]),
            lambda n: 1 + (n >= 3) + (n >= 6),
        ),
    ],
)
def test_schedules_are_their_formula(schedule, expected):
    compiled = fg.jit(lambda n: jnp.asarray(schedule(n)))
    for n in (0, 1, 3, 4, 5, 6, 9, 10, 15, 40):
        assert np.allclose(schedule(n), expected(n), rtol=1e-5, atol=1e-6)
        assert np.allclose(compiled(np.int32(n)), expected(n), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- minibatches


def test_batches_hold_every_example_once():
    arrays = {"x": np.arange(20).reshape(10, 2), "y": np.arange(10)}
    seen = list(data.batches(random.key(0), arrays, 3, drop_last=False))
    assert [len(b["y"]) for b in seen] == [3, 3, 3, 1]
    order = np.concatenate([b["y"] for b in seen])
    assert sorted(order) == list(range(10)) and list(order) != list(range(10))
    assert all((b["x"][:, 0] == 2 * b["y"]).all() for b in seen)
    again = np.concatenate([b["y"] for b in data.batches(random.key(0), arrays, 3)])
    assert np.array_equal(again, order[:9])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: list(data.batches(None, (np.ones(3), np.ones(4)), 2)), ShapeError, "same first axis"),
        (lambda: list(data.batches(None, np.ones(3), 0)), ArgumentError, "size 0"),
        (lambda: optim.add_decayed_weights(0.1).update(PARAMS, ()), ArgumentError, "update needs the parameters"),
        (lambda: optim.sgd(0.1).update(PARAMS, ()), ArgumentError, "a state of 0 parts for a chain of 2"),
        (lambda: optim.join([optim.constant(1.0)], [3]), ArgumentError, "1 schedules and 1 boundaries"),
        (lambda: optim.linear(0.0, 1.0, 0)(1), ArgumentError, "linear: steps is 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
