"""Threads of the numba target: pieces, errors, callers side by side, forks; which programs use them."""

from __future__ import annotations

import os
import threading
from collections import Counter

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.targets.numba import link, threads
from funcgrad.compiler.targets.numba.threads import divide
from funcgrad.config import config


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_piece_is_done_once(count):
    pieces = [(i, i + 1) for i in range(100)]
    seen: list[tuple[int, int]] = []
    numbers = set()

    def work(start: int, stop: int, number: int) -> None:
        seen.append((start, stop))
        numbers.add(number)

    divide(work, pieces, count)
    assert sorted(seen) == pieces
    assert numbers <= set(range(count))


def test_other_threads_take_part():
    meeting = threading.Barrier(3, timeout=20)
    divide(lambda start, stop, number: meeting.wait() and None, [(i, i + 1) for i in range(3)], 3)


def test_callers_side_by_side_do_not_wait_for_each_other():
    """More callers than threads of the pool, all of them inside at once."""
    meeting, done = threading.Barrier(8, timeout=20), []

    def call() -> None:
        divide(lambda start, stop, number: None, [(0, 1)], 2)
        meeting.wait()
        divide(lambda start, stop, number: done.append(start), [(0, 1), (1, 2)], 2)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert Counter(done) == {0: 8, 1: 8}


@pytest.mark.parametrize("who", ["caller", "helper"])
def test_an_error_ends_the_work_after_all_have_left_it(who):
    inside, begun = [], threading.Barrier(2, timeout=20)

    def work(start: int, stop: int, number: int) -> None:
        inside.append(number)
        if start < 2:
            begun.wait()
        if (number == 0) == (who == "caller"):
            inside.remove(number)
            raise ZeroDivisionError(who)
        inside.remove(number)

    with pytest.raises(ZeroDivisionError, match=who):
        divide(work, [(i, i + 1) for i in range(1000)], 2)
    assert not inside


def softmax_and_sums(x):
    return jax_like(x), jnp.sum(x), jnp.cumsum(x, axis=1), jnp.sin(x)


def jax_like(x):
    e = jnp.exp(x - jnp.max(x, axis=1, keepdims=True))
    return e / jnp.sum(e, axis=1, keepdims=True)


@pytest.fixture
def divided(monkeypatch):
    """How many pieces each kernel that was divided had."""
    found = []

    def counting(work, pieces, count, *ended):
        found.append(len(pieces))
        divide(work, pieces, count, *ended)

    monkeypatch.setattr(link, "divide", counting)
    return found


def test_large_programs_are_divided_and_small_ones_are_not(divided):
    x = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    with config.override("num_threads", 3):
        f = fg.jit(softmax_and_sums, target="numba")
        first, again = f(x), f(x)
        assert divided and all(n > 1 for n in divided)
        for a, b, c in zip(first, again, fg.jit(softmax_and_sums)(x), strict=True):
            assert np.array_equal(a, b)  # the same bits for the same number of threads
            np.testing.assert_allclose(a, c, rtol=2e-5, atol=1e-4)
        divided.clear()
        f(x[:2, :5])
        assert not divided
    with config.override("num_threads", 1):
        f(x)
        assert not divided


def test_large_bodies_of_loops_are_divided(divided):
    x = np.ones(1 << 18, np.float32)

    def f(x):
        return lax.fori_loop(0, 3, lambda i, x: jnp.sin(x) + i, x)

    with config.override("num_threads", 2):
        y = fg.jit(f, target="numba")(x)
    assert len(divided) == 3
    np.testing.assert_allclose(y, fg.jit(f)(x), rtol=1e-6)


def test_concurrent_callers_of_one_program():
    x = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    with config.override("num_threads", 2):
        f = fg.jit(softmax_and_sums, target="numba")
    expected, found = [], []

    def call() -> None:
        with config.override("num_threads", 2):
            found.append(f(x))

    call()
    expected = found.pop()
    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4
    for results in found:
        for a, b in zip(results, expected, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_the_child_of_a_fork_has_threads_of_its_own():
    divide(lambda start, stop, number: None, [(0, 1), (1, 2)], 2)
    child = os.fork()
    if child == 0:
        meeting = threading.Barrier(2, timeout=20)
        try:
            divide(lambda start, stop, number: meeting.wait() and None, [(0, 1), (1, 2)], 2)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert threads._pool.count >= 1
    assert os.waitpid(child, 0)[1] == 0
