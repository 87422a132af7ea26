"""Groups: which equations are one kernel, after each step, as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.fusion.form import form
from funcgrad.compiler.fusion.fuse import Fusion, fuse
from funcgrad.compiler.fusion.grouping import Grouping
from funcgrad.compiler.fusion.resolve import resolve
from funcgrad.compiler.fusion.siblings import merge_siblings
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.scheduling import Scheduling

X = np.ones((4, 8), np.float32)
SCHEDULING = Scheduling()


def formed(function: Callable[..., Any], *args: Any, limits: Scheduling = SCHEDULING) -> Grouping:
    jaxpr = simplify(fg.make_jaxpr(function)(*args)).jaxpr
    return form(resolve(jaxpr.eqns, jaxpr.outvars), limits)


def fused(function: Callable[..., Any], *args: Any, limits: Scheduling = SCHEDULING) -> Fusion:
    jaxpr = simplify(fg.make_jaxpr(function)(*args)).jaxpr
    return fuse(jaxpr.eqns, jaxpr.outvars, limits)


def softmax(x: Any) -> Any:
    e = jnp.exp(x - jnp.max(x, -1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


@pytest.mark.parametrize(
    ("function", "groups"),
    [
        (softmax, ["loops over [4, 8] folding axes [1]: reduce_max sub exp reduce_sum div"]),
        # One domain, but other axes.
        (
            lambda x: (jnp.sum(x, 0), jnp.sum(x, 1)),
            ["loops over [4, 8] folding axes [0]: reduce_sum", "loops over [4, 8] folding axes [1]: reduce_sum"],
        ),
        # A transposed value is read at other points than where it is made.
        (lambda x: jnp.sin(x).T * 2, ["loops over [4, 8]: sin", "loops over [8, 4]: mul"]),
        # So is a padded one.
        (lambda x: jnp.pad(jnp.sin(x), 1), ["loops over [4, 8]: sin", "loops over [6, 10]: pad"]),
        # A path from the first to the last leads through another group.
        (
            lambda x: jnp.sin(x) + jnp.cumsum(jnp.sin(x), 1),
            ["loops over [4, 8]: sin", "kernels: cumsum", "loops over [4, 8]: add"],
        ),
    ],
)
def test_equations_of_one_group(function, groups):
    assert str(formed(function, X)).splitlines() == groups


def test_groups_are_bounded_by_work_and_by_phases():
    def chain(x: Any) -> Any:
        for _ in range(6):
            x = jnp.sin(x)
        return x

    three = dataclasses.replace(SCHEDULING, max_work=24)
    assert str(formed(chain, X)) == "loops over [4, 8]: sin sin sin sin sin sin"
    assert str(formed(chain, X, limits=three)).splitlines() == ["loops over [4, 8]: sin sin sin"] * 2
    one = dataclasses.replace(SCHEDULING, max_phases=1)
    assert [g.phases for g in formed(softmax, X).order] == [2]
    assert [g.phases for g in formed(softmax, X, limits=one).order] == [1, 1]


def test_groups_that_read_one_array_merge():
    grouping = formed(lambda x: (jnp.sum(x, 0), jnp.sum(x * x, 0)), X)
    assert len(list(grouping.order)) == 2
    merge_siblings(grouping)
    assert str(grouping) == "loops over [4, 8] folding axes [0]: mul reduce_sum reduce_sum"


def test_groups_of_scalars_merge():
    grouping = formed(lambda a, b: (jnp.sin(a), jnp.cos(b)), np.float32(1), np.float32(2))
    merge_siblings(grouping)
    assert str(grouping) in ("loops over []: cos sin", "loops over []: sin cos")


def test_a_barrier_keeps_groups_apart():
    def f(x: Any) -> Any:
        y = jnp.sin(x)
        return y + lax.optimization_barrier((x, y))[0]

    grouping = formed(f, X)
    merge_siblings(grouping)
    assert str(grouping).splitlines() == ["loops over [4, 8]: sin", "loops over [4, 8]: add"]


def test_readers_of_an_array_run_before_it_is_written():
    def f(x: Any, i: Any) -> Any:
        y = jnp.cumsum(x, 1)
        before = jnp.sin(y)
        z = lax.dynamic_update_slice(y, x[:1], (i, 0))
        return z, before, jnp.cos(y)  # written later, but merged with the sine, which reads the same array

    *earlier, update = fused(f, X, 1).order
    assert update.kind == "update"
    assert "loops over [4, 8]: sin cos" in map(str, update.needs)
    assert set(update.needs) <= set(earlier)


def test_stored_values():
    def f(x: Any) -> Any:
        y = jnp.sin(x)  # within its group only
        z = y + 1  # read by the product
        return z @ z.T

    fusion = fused(f, X)
    assert [str(g) for g in fusion.order] == ["loops over [4, 8]: sin add", "contract: dot_general"]
    (_, z), (product,) = (g.eqns for g in fusion.order)
    assert fusion.stored == {fusion.accesses[fusion.order[0].eqns[0]][0].source, *z.outvars, *product.outvars}
    assert fusion.results == product.outvars
