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


def test_a_tree_of_a_hundred_leaves_has_a_handful_of_kernels():
    """Leaves share kernels, whatever their shapes."""
    params = {f"layer {i}": jnp.ones((i % 7 + 1, 3) if i % 2 else (5,)) for i in range(100)}
    optimizer = optim.adam(0.1)

    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    text = fg.jit(step).lower(params, optimizer.init(params), params).as_text("kernels")
    assert 1 <= text.count("def ") <= 3


def test_arithmetic_of_trees():
    x, y = {"a": jnp.array([3.0, -4.0]), "b": jnp.ones(())}, {"a": jnp.array([1.0, 2.0]), "b": jnp.array(2.0)}
    flat = lambda t: np.concatenate([np.ravel(v) for v in fg.tree.leaves(t)])  # noqa: E731
    u, v, t = flat(x), flat(y), optim.tree
    pairs = [(t.add(x, y, y), u + 2 * v), (t.sub(x, y), u - v), (t.mul(x, y), u * v), (t.div(x, y), u / v)]
    pairs += [(t.scale(2.0, x), 2 * u), (t.add_scale(x, 3.0, y), u + 3 * v), (t.where(True, x, y), u)]
    pairs += [(t.clip(x, -1.0, 2.0), u.clip(-1, 2)), (t.zeros_like(x), 0 * u), (t.full_like(x, 5.0), 0 * u + 5)]
    pairs += [(t.ones_like(x), 0 * u + 1), (t.conj(x), u), (t.real(x), u), (t.cast(x, None), u)]
    numbers = [(t.vdot(x, y), u @ v), (t.sum(x), u.sum()), (t.max(x), 3), (t.min(x), -4), (t.size(x), 3)]
    numbers += [(t.norm(x), np.sqrt(26)), (t.norm(x, 1), 8), (t.norm(x, "inf", squared=True), 16)]
    for ours, expected in pairs:
        np.testing.assert_allclose(flat(ours), expected, rtol=1e-6)
    for ours, expected in numbers:
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    assert type(t.size(x)) is int and t.size({}) == 0
    assert t.cast(x, "bfloat16")["a"].dtype == "bfloat16" and t.max({}) == -np.inf


def test_norms_of_leaves_are_clipped():
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.3])}
    clipped, _ = optim.clip_by_block_norm(1.0).update(grads, optim.EmptyState())
    np.testing.assert_allclose(clipped["a"], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [0.3])


def test_averages_of_parameters():
    new, old = {"a": jnp.ones(2)}, {"a": jnp.zeros(2)}
    assert optim.incremental_update(new, old, 0.25)["a"].tolist() == [0.25, 0.25]
    assert optim.periodic_update(new, old, 4, 2)["a"].tolist() == [1, 1]
    assert optim.periodic_update(new, old, 5, 2)["a"].tolist() == [0, 0]


def test_non_finite_updates_are_skipped():
    bad, good = jnp.array([1.0, np.nan]), jnp.array([1.0, 2.0])
    optimizer = optim.apply_if_finite(optim.sgd(1.0), 1)
    state = optimizer.init(bad)
    seen = []
    for grads in (bad, good, bad, bad):
        updates, state = optimizer.update(grads, state)
        seen.append(updates.tolist())
    assert seen[0] == seen[2] == [0, 0] and seen[1] == [-1, -2] and np.isnan(seen[3][1])
    assert state.total_notfinite == 3 and state.notfinite_count == 2
    steps = optim.MultiSteps(optim.sgd(1.0), 2, should_skip_update_fn=optim.skip_not_finite)
    state = steps.init(bad)
    for grads in (good, bad, good):
        updates, state = steps.update(grads, state)
    assert updates.tolist() == [-1, -2] and steps.has_updated(state) and state.skip_state["num_not_finite"] == 0


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
