"""associative_scan of functions of scalars, in loops when compiled, against the tree of the eager form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.testing import assert_close

RNG = np.random.default_rng(0)


def recurrence(l: Any, r: Any) -> Any:  # noqa: E741
    return l[0] * r[0], l[1] * r[0] + r[1]


def tropical(l: Any, r: Any) -> Any:  # noqa: E741
    return l[0] + r[0], jnp.maximum(l[1] + r[0], r[1])


def matrices(l: Any, r: Any) -> Any:  # noqa: E741
    (a, b, c, d), (e, f, g, h) = l, r
    return a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h


def drawn(shape: tuple[int, ...], count: int) -> tuple[np.ndarray, ...]:
    return tuple((0.7 * RNG.random(shape)).astype(np.float32) for _ in range(count))


# name: (function, number of leaves, shape, axis)
CASES: dict[str, tuple[Callable[..., Any], int, tuple[int, ...], int]] = {
    "rows": (recurrence, 2, (60, 80), 1),
    "columns": (recurrence, 2, (80, 60, 2), 0),
    "in the middle": (tropical, 2, (3, 50, 70), 1),
    "rows in the middle": (tropical, 2, (9, 50, 11), 1),
    "blocks and a rest": (recurrence, 2, (3, 1543), 1),
    "blocks alone": (tropical, 2, (4096,), 0),
    "matrices": (matrices, 4, (5000,), 0),
    "one operand": (lambda a, b: jnp.where(jnp.isnan(b), a, b), 1, (70, 70), 1),
}


def scanned(name: str, reverse: bool = False) -> Callable[..., Any]:
    function, count, _, axis = CASES[name]
    pair = (lambda l, r: (function(l[0], r[0]),)) if count == 1 else function  # noqa: E741
    return lambda *xs: lax.associative_scan(pair, xs, reverse=reverse, axis=axis)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_loops_agree_with_the_tree(name: str, reverse: bool):
    _, count, shape, _ = CASES[name]
    xs = drawn(shape, count)
    compiled = fg.jit(scanned(name, reverse))
    assert "scan" in compiled.lower(*xs).as_text("groups")
    assert_close(compiled(*xs), scanned(name, reverse)(*map(jnp.asarray, xs)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rows", "columns", "blocks and a rest"])
def test_gradients(name: str):
    _, count, shape, _ = CASES[name]
    xs = drawn(shape, count)

    def loss(*xs: Any) -> Any:
        return sum(jnp.sum(jnp.sin(y)) for y in scanned(name)(*xs))

    found = fg.jit(fg.grad(loss, tuple(range(count))))(*xs)
    tangents = drawn(shape, count)
    _, slope = fg.jvp(lambda *xs: fg.jit(loss)(*xs), xs, tangents)
    assert_close(sum(jnp.sum(g * t) for g, t in zip(found, tangents, strict=True)), slope, rtol=1e-3)
    wide = [np.float64(x) for x in xs]
    if name == "rows":  # y[i] = y[i-1]·a[i] + b[i]: its cotangents run backward
        a, b = wide
        y, p = np.zeros_like(a), np.ones_like(a)
        before = (np.ones(len(a)), np.zeros(len(a)))
        for i in range(a.shape[1]):
            p[:, i], y[:, i] = before[0] * a[:, i], before[1] * a[:, i] + b[:, i]
            before = p[:, i], y[:, i]
        ct, expected = np.zeros(len(a)), np.zeros_like(b)
        for i in reversed(range(a.shape[1])):
            ct = np.cos(y[:, i]) + (ct * a[:, i + 1] if i + 1 < a.shape[1] else 0)
            expected[:, i] = ct
        assert_close(found[1], expected.astype(np.float32), rtol=1e-3, atol=1e-4)


def test_a_function_that_is_not_elementwise_is_a_tree():
    x = drawn((100, 50), 1)[0]
    for function in (lambda l, r: r, lambda l, r: l + r[..., ::-1], lambda l, r: l + jnp.flip(r, -1)):  # noqa: E741
        compiled = fg.jit(lambda x, function=function: lax.associative_scan(function, x))
        assert_close(compiled(x), lax.associative_scan(function, jnp.asarray(x)), rtol=1e-5)
    weights = np.float32([0.5, 2.0] * 25)  # an array, so that the function is none of scalars
    weighted = lambda x, w: lax.associative_scan(lambda l, r: l + r * w / w, x)  # noqa: E731, E741
    assert_close(fg.jit(weighted)(x, weights), np.cumsum(x, 0), rtol=1e-5)


def test_a_traced_number_may_be_part_of_the_function():
    x = drawn((100, 50), 1)[0]
    program = lambda x, w: lax.associative_scan(lambda l, r: l + r + w, x)  # noqa: E731, E741
    expected = np.cumsum(x, 0) + 0.5 * np.arange(100)[:, None]
    assert_close(fg.jit(program)(x, np.float32(0.5)), expected.astype(np.float32), rtol=1e-5)
    assert_close(fg.jit(fg.grad(lambda w: jnp.sum(program(x, w))))(0.5), np.float32(4950 * 50), rtol=1e-5)
