"""Cheap functions of stored values are computed where they are read: what that saves, and when it is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import grad, jit, lax
from funcgrad.compiler.fusion.inner import fusions
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.rewrite.sink import sink
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.testing import assert_close

RNG = np.random.default_rng(0)
W = (RNG.normal(size=(16, 16)) / 4).astype(np.float32)
X = RNG.normal(size=(64, 16)).astype(np.float32)


def chain(activation: Callable[[Any], Any], layers: int) -> Callable[..., Any]:
    def loss(w: Any, x: Any) -> Any:
        for _ in range(layers):
            x = activation(x @ w)
        return jnp.sum(x)

    return loss


def temporaries(fun: Callable[..., Any], *args: Any) -> float:
    """In units of X."""
    return jit(fun).lower(*args).compile().memory_analysis().temporaries / X.nbytes


def both(fun: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    before = simplify(fg.make_jaxpr(fun)(*args))
    after = sink(before)
    check_jaxpr(after, weak_types=False)
    return before, after


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "sigmoid": fg.nn.sigmoid,
    "scaled tanh": lambda x: 2 * jnp.tanh(x) - 1,
    "square": lambda x: x**2 / 8,
    "gelu": fg.nn.gelu,
    "relu": fg.nn.relu,
    "softmax": lambda x: fg.nn.softmax(x, axis=-1),
    "two layouts": lambda x: jnp.tanh(x).T.reshape(64, 16),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_stay_the_same(activation: str):
    gradient = grad(chain(ACTIVATIONS[activation], 3), (0, 1))
    before, after = both(gradient, W, X)
    expected = eval_jaxpr(before.jaxpr, before.consts, W, X)
    assert_close(eval_jaxpr(after.jaxpr, after.consts, W, X), expected)
    assert_close(list(jit(gradient)(W, X)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_one_array_is_kept_for_each_layer(activation: str):
    assert temporaries(grad(chain(ACTIVATIONS[activation], 20)), W, X) < 20 + 3


def test_smaller_values_are_kept_as_they_are():
    def f(w: Any, x: Any) -> Any:
        z = x @ w
        positive = z > 0  # a quarter of the memory of z, which is not read again
        return jnp.where(positive, jnp.cos(z) @ w, 0.0)

    before, after = both(f, W, X)
    assert str(before) == str(after)


def test_without_calls_nothing_changes():
    before, after = both(lambda x: jnp.sum(jnp.tanh(x) * jnp.sin(x)), X)
    assert after is before


def test_costly_functions_are_not_computed_twice():
    before, after = both(lambda w, x: jnp.exp(x) * (jnp.exp(x) @ w), W, X)
    assert str(after).count("= exp") == str(before).count("= exp") == 1


def test_arrays_that_are_written_in_place_are_not_kept():
    def f(w: Any, x: Any) -> Any:
        y = x @ w
        doubled = 2 * y
        y = lax.dynamic_update_slice(y, w[:1], (0, 0))
        return jnp.sum(y) + doubled * (x @ w @ w @ w)

    before, after = both(f, W, X)
    assert str(before) == str(after)
    assert_close(jit(f)(W, X), f(W, X), rtol=1e-4, atol=1e-4)


def test_bodies_of_loops_are_sunk_too():
    def f(w: Any, x: Any) -> Any:
        return lax.scan(lambda h, _: (grad(lambda v: chain(jnp.tanh, 3)(w, v))(h), None), x, None, length=3)[0]

    (scan,) = (e for e in simplify(fg.make_jaxpr(f)(W, X)).jaxpr.eqns if e.primitive.name == "scan")
    body = scan.params["jaxpr"]
    sunk = sink(body)
    # Two layers: what is left of 1 - y² is read behind a barrier, after the products of the backward pass.
    assert str(sunk).count("optimization_barrier") == 2 > str(body).count("optimization_barrier")
    # The groups of the body are those of the sunk one.
    ((_, fusion),) = fusions(scan, Scheduling())
    assert [len(c.awaits) > 0 for c in fusion.order].count(True) == 2
    assert_close(jit(f)(W, X), f(W, X), rtol=1e-4, atol=1e-5)
