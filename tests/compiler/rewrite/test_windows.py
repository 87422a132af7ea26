"""Sums and selections of scatters become scatters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.rewrite.simplify import simplify

X = np.random.default_rng(0).standard_normal(60).astype(np.float32)
M = X.reshape(6, 10)
INDICES = np.array([3, 7, 3, -1, 900, 3], np.int32)


def gathered(x: Any, i: Any) -> Any:
    return jnp.sum(x[i] ** 2) + jnp.sum(jnp.sin(x))


def scanned(x: Any, i: Any) -> Any:
    return lax.scan(lambda s, k: (s + x[k] ** 2 + lax.dynamic_slice(x, (k,), (2,))[1], None), 0.0, i)[0]


def where(update: Callable[[Any], Any], written_first: bool = False) -> Callable[..., Any]:
    def select(p: Any, x: Any) -> Any:
        return jnp.where(p, update(x), x) if written_first else jnp.where(p, x, update(x))

    return select


# name: (function, arguments, a primitive that is left out)
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "cotangents of a gather": (fg.grad(gathered), (X, INDICES), "add_any"),
    "cotangents in a loop": (fg.grad(scanned), (X, INDICES), "add_any"),
    **{
        f"{name}, {p}, {first}": (where(update, first), (np.bool_(p), x), "select_n")
        for p in (True, False)
        for first in (True, False)
        for name, update, x in (
            ("set", lambda x: x.at[4].set(9.0), X),
            ("set outside", lambda x: x.at[INDICES[4]].set(9.0), X),
            ("add", lambda x: x.at[INDICES[1]].add(9.0), X),
            ("row", lambda x: x.at[INDICES[0]].set(1.0), M),
            ("element", lambda x: x.at[INDICES[0], INDICES[1]].add(-0.0), M),
            ("integers", lambda x: x.at[INDICES[1]].add(3), np.arange(50, dtype=np.int32)),
            ("window", lambda x: lax.dynamic_update_slice(x, x[:2, :2], (3, 5)), M),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
def test_the_rewritten_program_computes_the_same(name: str):
    function, args, primitive = CASES[name]
    expected = function(*map(jnp.asarray, args))
    np.testing.assert_allclose(fg.jit(function)(*args), expected, rtol=1e-5, atol=1e-6)
    large = [
        eqn
        for eqn in simplify(fg.make_jaxpr(function)(*args)).jaxpr.eqns
        if eqn.primitive.name == primitive and eqn.outvars[0].aval.size >= 50
    ]
    assert not large


def test_windows_that_overlap_or_extremes_are_not_moved():
    overlapping = lambda p, x: jnp.where(p, x, x.at[jnp.array([1, 1])].set(jnp.array([1.0, 2.0])))  # noqa: E731
    largest = lambda p, x: jnp.where(p, x, x.at[3].max(5.0))  # noqa: E731
    other = lambda p, x: jnp.where(p, x * 2, x.at[3].set(5.0))  # noqa: E731
    each = lambda p, x: jnp.where(x > 0, x, x.at[3].set(5.0))  # noqa: E731
    for function in (overlapping, largest, other, each):
        for p in (True, False):
            np.testing.assert_array_equal(fg.jit(function)(p, X), function(p, jnp.asarray(X)))


def test_zeros_keep_their_sign_where_nothing_is_added():
    x = np.array([-0.0, 0.0, -0.0, 0.0], np.float32)
    for p in (True, False):
        found = fg.jit(lambda p, x: jnp.where(p, x.at[INDICES[0]].add(1.0), x))(p, x)
        expected = x + np.float32([0, 0, 0, p])
        expected[:3] = x[:3]
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
