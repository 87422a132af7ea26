"""Weight decay, clipping, chains, types and kernels of optimizers; minibatches."""

from __future__ import annotations

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
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(optim.cosine_decay_schedule(0.1, 10)))
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
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
