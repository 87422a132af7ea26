"""Products in blocks: the same values as without, in less memory, for attention in all the ways that it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, nn
from funcgrad.compiler.pipeline import planned
from funcgrad.compiler.rewrite.blocks import in_blocks
from funcgrad.compiler.rewrite.keys import as_integers
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.compiler.targets import find
from funcgrad.config import config
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.testing import check_grads

WHOLE = Scheduling(min_blocked=1 << 60)
SMALL = Scheduling(min_blocked=1 << 10, min_block=1 << 8, max_block=1 << 10)


@contextmanager
def scheduled(scheduling: Scheduling, name: str = "llvm") -> Iterator[None]:
    target = find(name)
    before = target.scheduling
    limits = {f: getattr(scheduling, f) for f in ("min_blocked", "min_block", "max_block")}
    target.scheduling = dataclasses.replace(before, **limits)
    try:
        yield
    finally:
        target.scheduling = before


def array(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32))


def qkv(*shape: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape).astype(np.float32)) for _ in range(3)]


def by_hand(s: Any) -> Any:
    e = jnp.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads_first(q: Any, k: Any, v: Any) -> Any:
    return jnp.einsum("bhqk,bhkd->bhqd", nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", q, k) * 0.3), v)


def heads_last(q: Any, k: Any, v: Any) -> Any:
    return jnp.einsum("bhqk,bkhd->bqhd", by_hand(jnp.einsum("bqhd,bkhd->bhqk", q, k) * 0.3), v)


def causal(q: Any, k: Any, v: Any, out: float = -np.inf) -> Any:
    s = q @ k.mT / 8
    return nn.softmax(jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, out)) @ v


def masked(q: Any, k: Any, v: Any, mask: Any) -> Any:
    return nn.softmax(jnp.where(mask, q @ k.mT / 8, -1e9)) @ v


def biased(q: Any, k: Any, v: Any, bias: Any) -> Any:
    return nn.softmax(q @ k.mT / 8 + bias) @ v


def grouped(q: Any, k: Any, v: Any) -> Any:
    return jnp.einsum("bhgqk,bhkd->bhgqd", nn.softmax(jnp.einsum("bhgqd,bhkd->bhgqk", q, k)), v)


def grouped_heads_last(q: Any, k: Any, v: Any) -> Any:
    return jnp.einsum("bhgqk,bkhd->bqhgd", nn.softmax(jnp.einsum("bqhgd,bkhd->bhgqk", q, k)), v)


def single(q: Any, k: Any, v: Any) -> Any:
    return nn.softmax(q @ k.T) @ v


def divided_last(q: Any, k: Any, v: Any) -> Any:
    s = lax.dot_general(q, k, (((3,), (3,)), ((0, 1), (0, 1))))
    e = jnp.exp(s - lax.stop_gradient(s.max(-1, keepdims=True)))
    return e @ v / e.sum(-1, keepdims=True)


def by_columns_too(q: Any, k: Any, v: Any) -> Any:
    p = nn.softmax(q @ k.mT)
    return p / p.sum(-2, keepdims=True) @ v


def layer(x: Any, w: Any) -> Any:
    q, k, v = ((x @ w[i]).reshape(2, 64, 2, 16) for i in range(3))
    return x + heads_last(q, k, v).reshape(2, 64, 32) @ w[3]


def layers(x: Any, ws: Any) -> Any:
    for w in ws:
        x = layer(x, w)
    return x


def scanned(x: Any, ws: Any) -> Any:
    return lax.scan(lambda x, w: (layer(x, w), None), x, ws)[0]


def saved(x: Any, ws: Any) -> Any:
    return lax.scan(fg.checkpoint(lambda x, w: (layer(x, w), None)), x, ws)[0]


def halves(q: Any, k: Any, v: Any) -> Any:
    return heads_first(*(x.astype(jnp.bfloat16) for x in (q, k, v))).astype(jnp.float32)


def classes(x: Any, w: Any, y: Any) -> Any:
    return -(nn.log_softmax(x @ w) * y).sum(-1)


SHORT = jnp.asarray(np.arange(64) < np.array([40, 64])[:, None])
WEIGHTS = array(3, 4, 32, 32) * 0.2
FORMS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "heads first": (heads_first, qkv(2, 3, 64, 16)),
    "heads last": (heads_last, qkv(2, 64, 3, 16)),
    "one batch": (heads_last, qkv(1, 64, 3, 16)),
    "one head": (heads_first, qkv(1, 1, 64, 16)),
    "causal": (causal, qkv(2, 3, 64, 16)),
    "causal in one head": (causal, qkv(64, 16)),
    "padding": (masked, [*qkv(2, 3, 64, 16), SHORT[:, None, None, :]]),
    "mask of a batch": (masked, [*qkv(2, 3, 64, 16), SHORT[:, None, None, :] & SHORT[:, None, :, None]]),
    "bias of heads": (biased, [*qkv(2, 3, 64, 16), array(3, 64, 64)]),
    "bias of a batch": (biased, [*qkv(2, 3, 64, 16), array(2, 1, 64, 64)]),
    "bias of all": (biased, [*qkv(2, 3, 64, 16), array(64, 64)]),
    "bias of each": (biased, [*qkv(2, 3, 64, 16), array(2, 3, 64, 64)]),
    "bias of keys": (biased, [*qkv(2, 3, 64, 16), array(1, 3, 1, 64)]),
    "grouped": (grouped, [array(2, 3, 2, 64, 16), array(2, 3, 64, 16), array(2, 3, 64, 16)]),
    "grouped, heads last": (grouped_heads_last, [array(2, 64, 3, 2, 16), array(2, 64, 3, 16), array(2, 64, 3, 16)]),
    "single": (single, qkv(64, 16)),
    "vmap": (fg.vmap(single), qkv(5, 64, 16)),
    "vmap twice": (fg.vmap(fg.vmap(single, (1, 1, 1), 1)), qkv(2, 64, 3, 16)),
    "vmap over queries": (fg.vmap(single, (0, None, None)), [array(5, 64, 16), array(64, 16), array(64, 16)]),
    "of itself": (lambda x: nn.softmax(x @ x.mT) @ x, [array(2, 3, 64, 16)]),
    "divided last": (divided_last, qkv(2, 3, 64, 16)),
    "by columns too": (by_columns_too, qkv(64, 16)),
    "layers": (layers, [array(2, 64, 32), WEIGHTS]),
    "scanned layers": (scanned, [array(2, 64, 32), WEIGHTS]),
    "checkpointed layers": (saved, [array(2, 64, 32), WEIGHTS]),
    "bfloat16": (halves, qkv(2, 3, 64, 16)),
    "a prime number of rows": (heads_first, qkv(2, 3, 67, 16)),
    "more keys than queries": (heads_first, [array(2, 3, 48, 16), array(2, 3, 80, 16), array(2, 3, 80, 16)]),
    "cross entropy": (classes, [array(256, 16), array(16, 100), array(256, 100)]),
}


def gradient(f: Callable[..., Any], args: list[Any]) -> Callable[..., Any]:
    """The value and gradient of a loss that depends on the result: no region has both passes."""
    floats = tuple(i for i, x in enumerate(args) if x.dtype != bool)

    def loss(*args: Any) -> Any:
        out = f(*args)
        rows = out.reshape(-1, out.shape[-1])
        return (jnp.tanh(rows @ jnp.ones((rows.shape[-1], 3))) ** 2).sum()

    return fg.value_and_grad(loss, floats)


def evaluated(closed: ClosedJaxpr, args: list[Any]) -> list[np.ndarray]:
    """The results by the NumPy rules of the primitives."""
    return [np.asarray(x) for x in eval_jaxpr(closed.jaxpr, closed.consts, *args)]


def bytes_needed(f: Callable[..., Any], args: list[Any], scheduling: Scheduling) -> int:
    """The temporaries of a program that is planned, and not compiled."""
    with scheduled(scheduling):
        return planned(fg.make_jaxpr(f)(*args), find("llvm")).routine.arena_bytes


def run(f: Callable[..., Any], args: list[Any], scheduling: Scheduling) -> list[np.ndarray]:
    """The results of the compiled program."""
    with scheduled(scheduling):
        return [np.asarray(x) for x in fg.tree.leaves(fg.jit(lambda *args: f(*args))(*args))]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("form", FORMS)
def test_the_pass_preserves_values_and_needs_no_more_memory(form):
    fun, args = FORMS[form]
    for f in (fun, gradient(fun, args)):
        closed = simplify(fg.make_jaxpr(f)(*args))
        blocked = in_blocks(closed, SMALL)
        assert " blocks[" in str(blocked)
        assert_close(evaluated(blocked, args), evaluated(closed, args))
        most = bytes_needed(f, args, WHOLE) * (1.05 if form == "bfloat16" else 1)  # whose scores are small
        assert bytes_needed(f, args, SMALL) <= most


@pytest.mark.parametrize(
    "form", ["heads last", "causal in one head", "bias of a batch", "grouped", "checkpointed layers"]
)
def test_compiled_programs_have_the_values_of_the_whole(form):
    fun, args = FORMS[form]
    f = gradient(fun, args)
    assert_close(run(f, args, SMALL), run(f, args, WHOLE))


LONG, LONG_LAST = qkv(2, 3, 256, 8), qkv(2, 256, 3, 8)
ROWS = jnp.asarray(np.arange(256) < np.array([200, 256])[:, None])


@pytest.mark.parametrize(
    ("fun", "args"),
    [
        (heads_first, LONG),
        (heads_last, LONG_LAST),
        (causal, LONG),
        (masked, [*LONG, ROWS[:, None, None, :]]),
        (masked, [*LONG, ROWS[:, None, None, :] & ROWS[:, None, :, None]]),
        (fg.vmap(single), qkv(6, 256, 8)),
        (halves, LONG),
    ],
    ids=["heads first", "heads last", "causal", "padding", "mask of a batch", "vmap", "bfloat16"],
)
def test_forward_and_gradient_store_no_scores(fun, args):
    scores, values, block = 2 * 3 * 256 * 256 * 4, 2 * 3 * 256 * 8 * 4, SMALL.max_block * 4 * find("llvm").threads()
    assert bytes_needed(fun, args, WHOLE) >= scores
    assert bytes_needed(fun, args, SMALL) < 4 * values + 3 * block < scores
    assert bytes_needed(gradient(fun, args), args, SMALL) < 12 * values + 6 * block < scores


def test_a_second_derivative_in_blocks():
    with scheduled(SMALL):
        check_grads(fg.jit(single), qkv(32, 4), order=2)


def test_fully_masked_rows_and_nan_are_those_of_the_whole():
    q, k, v = qkv(2, 3, 64, 16)
    mask = jnp.asarray(np.arange(64)[:, None] < np.array([0, 64] * 32))  # every second row
    args = [q, k, v.at[0, 0, 60].set(jnp.nan), mask]

    def both(q: Any, k: Any, v: Any, mask: Any) -> list[Any]:
        return [nn.softmax(jnp.where(mask, q @ k.mT, out)) @ v for out in (-np.inf, -1e9)]

    infinite, finite = run(both, args, SMALL)
    for a, b in zip((infinite, finite), run(both, args, WHOLE), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.isnan(finite[0, 0]).all() and not np.isnan(finite[0, 1:]).any()  # 0 · NaN


@pytest.mark.parametrize("form", ["heads first", "causal in one head"])
def test_results_have_the_same_bits_for_every_number_of_threads(form):
    fun, args = FORMS[form]
    results = []
    for threads in (1, 2, 3):
        with config.override("num_threads", threads):
            results.append(run(gradient(fun, args), args, SMALL))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_blocks_on_the_numba_target():
    fun, args = FORMS["causal in one head"]
    expected = run(gradient(fun, args), args, WHOLE)
    with scheduled(SMALL, "numba"):
        compiled = fg.jit(gradient(fun, args), target="numba")
        assert "control: blocks" in compiled.lower(*args).as_text("groups")
        assert_close([np.asarray(x) for x in fg.tree.leaves(compiled(*args))], expected)


def test_random_bits_are_not_computed_again():
    def dropped(q: Any, k: Any, v: Any) -> Any:
        p = nn.softmax(q @ k.mT)
        return jnp.where(fg.random.bernoulli(fg.random.key(0), 0.9, p.shape), p / 0.9, 0) @ v

    args = qkv(2, 3, 64, 16)
    closed = simplify(as_integers(fg.make_jaxpr(gradient(dropped, args))(*args)))
    blocked = in_blocks(closed, SMALL)
    assert " blocks[" in str(blocked)
    assert str(blocked).count("shift_left") == str(closed).count("shift_left") > 0
    assert_close(evaluated(blocked, args), evaluated(closed, args))
    assert bytes_needed(gradient(dropped, args), args, SMALL) < bytes_needed(gradient(dropped, args), args, WHOLE)


def test_layers_of_a_perceptron_stay_whole():
    def perceptron(x: Any, w: Any, u: Any) -> Any:
        return nn.relu(x @ w) @ u

    args = [array(256, 16), array(16, 64), array(64, 16)]
    closed = simplify(fg.make_jaxpr(gradient(perceptron, args))(*args))
    assert in_blocks(closed, SMALL) is closed


def test_steps_grow_like_the_layers():
    from tests.compiler.test_scaling import steps

    counts = []
    for n in (8, 16):
        x, ws = array(2, 64, 32), array(n, 4, 32, 32)
        closed = simplify(fg.make_jaxpr(fg.grad(lambda x, ws: layers(x, ws).sum()))(x, ws))
        blocked, count = steps(lambda closed=closed: in_blocks(closed, SMALL))
        assert [e.primitive.name for e in blocked.eqns].count("blocks") == 2 * n - 1  # the last in one
        counts.append(count)
    assert counts[1] < 2.3 * counts[0]
