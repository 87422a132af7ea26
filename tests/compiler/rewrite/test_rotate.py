"""Rotation: what predicate and body of a while loop share is carried along, as jaxprs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.rewrite.rotate import rotate
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.core.jaxprs import Jaxpr, Var, eval_jaxpr

X = np.float32(0.5)


def jaxpr_of(function: Callable[..., Any], *args: Any) -> Jaxpr:
    return simplify(fg.make_jaxpr(function)(*args)).jaxpr


def names(jaxpr: Jaxpr) -> list[str]:
    return [e.primitive.name for e in jaxpr.eqns]


def test_a_costly_value_of_both_is_computed_before_the_loop_and_after_each_step():
    predicate = jaxpr_of(lambda x: jnp.exp(x) < 100, X)
    body = jaxpr_of(lambda x: x + jnp.exp(x), X)
    rotated = rotate(predicate, body, [], [])
    assert rotated is not None
    assert [e.primitive.name for e in rotated.first] == ["exp"]
    assert names(rotated.predicate.jaxpr) == ["lt"]
    assert names(rotated.body.jaxpr) == ["add", "exp"]
    # The predicate gets exp(x) beside x, the body returns that of the next x.
    y = np.exp(X)
    assert eval_jaxpr(rotated.predicate.jaxpr, [], X, y) == [True]
    following, exponential = eval_jaxpr(rotated.body.jaxpr, [], X, y)
    np.testing.assert_allclose([following, exponential], [X + y, np.exp(X + y)], rtol=1e-6)


def test_cheap_values_are_computed_twice():
    predicate, body = jaxpr_of(lambda x: x * 2 < 100, X), jaxpr_of(lambda x: x + x * 2, X)
    assert rotate(predicate, body, [], []) is None


def test_other_arguments_are_not_shared():
    predicate, body = jaxpr_of(lambda x: jnp.exp(x) < 100, X), jaxpr_of(lambda x: x + jnp.exp(-x), X)
    assert rotate(predicate, body, [], []) is None


def test_consts_are_the_same_where_the_loop_has_one_operand_for_both():
    predicate = jaxpr_of(lambda c, x: jnp.exp(c * x) < 100, X, X)
    body = jaxpr_of(lambda c, x: x + jnp.exp(c * x), X, X)
    one, other = (Var(predicate.invars[0].aval) for _ in range(2))
    assert rotate(predicate, body, [one], [one]) is not None
    assert rotate(predicate, body, [one], [other]) is None


def test_a_value_that_is_far_larger_than_the_carry_is_computed_twice():
    wide = lambda x: jnp.exp(x + jnp.arange(1000, dtype=np.float32))  # noqa: E731
    predicate, body = jaxpr_of(lambda x: jnp.sum(wide(x)) < 1, X), jaxpr_of(lambda x: x + jnp.max(wide(x)), X)
    assert rotate(predicate, body, [], []) is None


def test_a_loop_is_rotated_by_the_simplifier():
    def f(x: Any) -> Any:
        return lax.while_loop(lambda v: jnp.exp(v) < 100, lambda v: v + jnp.exp(v), x)

    before, loop = jaxpr_of(f, X).eqns
    assert before.primitive.name == "exp"
    assert len(loop.outvars) == 2
