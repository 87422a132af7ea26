"""The elements of each value that reach the results of a program: those that selections choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.compiler.rewrite.masks import Chosen, seen_of
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.core.jaxprs import Jaxpr, JaxprEqn, eval_jaxpr

X = np.array([-2.0, -1.0, 1.0, 2.0], np.float32)


def analyzed(function: Callable[..., Any]) -> tuple[Jaxpr, dict[Any, Chosen | None]]:
    jaxpr = simplify(fg.make_jaxpr(function)(X)).jaxpr
    return jaxpr, seen_of(jaxpr.eqns, jaxpr.outvars)


def equation(jaxpr: Jaxpr, name: str) -> JaxprEqn:
    (found,) = (e for e in jaxpr.eqns if e.primitive.name == name)
    return found


def mask(jaxpr: Jaxpr, chosen: Chosen | None) -> list[bool]:
    """Where elements are seen, when the program runs on X."""
    assert chosen is not None
    selectors = chosen.selectors()
    values = eval_jaxpr(jaxpr.replace(outvars=selectors), [], X)
    return chosen.mask({id(s): np.asarray(v) for s, v in zip(selectors, values, strict=True)}, X.shape).tolist()


def test_results_are_seen_whole():
    jaxpr, seen = analyzed(lambda x: jnp.log(x) + 1)
    assert seen[equation(jaxpr, "log").outvars[0]] is None
    assert seen[jaxpr.outvars[0]] is None


def test_a_selection_shows_the_elements_that_it_chooses():
    jaxpr, seen = analyzed(lambda x: jnp.where(x > 0, jnp.log(x), jnp.exp(x)))
    assert mask(jaxpr, seen[equation(jaxpr, "log").outvars[0]]) == [False, False, True, True]
    assert mask(jaxpr, seen[equation(jaxpr, "exp").outvars[0]]) == [True, True, False, False]


def test_elementwise_operations_pass_it_on():
    jaxpr, seen = analyzed(lambda x: jnp.where(x > 0, jnp.sqrt(jnp.log(x)) * 2, 0.0))
    assert mask(jaxpr, seen[equation(jaxpr, "log").outvars[0]]) == [False, False, True, True]


def test_other_operations_see_everything():
    jaxpr, seen = analyzed(lambda x: jnp.where(x > 0, jnp.cumsum(jnp.log(x)), 0.0))
    assert seen[equation(jaxpr, "log").outvars[0]] is None


def test_selections_of_selections():
    jaxpr, seen = analyzed(lambda x: jnp.where(x > 0, jnp.where(x > 1.5, jnp.log(x), 0.0), 0.0))
    assert mask(jaxpr, seen[equation(jaxpr, "log").outvars[0]]) == [False, False, False, True]


def test_several_selections_make_one_mask():
    def f(x: Any) -> Any:
        y = jnp.log(x)
        return jnp.where(x > 1.5, y, 0.0), jnp.where(x < -1.5, y, 1.0)

    jaxpr, seen = analyzed(f)
    assert mask(jaxpr, seen[equation(jaxpr, "log").outvars[0]]) == [True, False, False, True]


def test_comparisons_hide_their_operands():
    jaxpr, seen = analyzed(lambda x: jnp.log(x) > 0)
    assert equation(jaxpr, "log").outvars[0] not in seen
