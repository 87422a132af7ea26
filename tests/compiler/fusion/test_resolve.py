"""Resolution: which equations are computed, and how they read their operands, as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.fusion.resolve import resolve
from funcgrad.compiler.rewrite.simplify import simplify

X = np.ones((4, 8), np.float32)


def resolved(function: Callable[..., Any], *args: Any, apart: bool = False) -> list[str]:
    jaxpr = simplify(fg.make_jaxpr(function)(*args)).jaxpr
    return str(resolve(jaxpr.eqns, jaxpr.outvars, apart)).splitlines()


@pytest.mark.parametrize(
    ("function", "reads"),
    [
        (lambda x: x.T + 1, "f32[4,8] as [8, 4] by [1, 8]"),
        (lambda x: x[1:3, ::2] + 1, "f32[4,8] as [2, 4] by [8, 2] from 8"),
        (lambda x: jnp.flip(x, 1) + 1, "f32[4,8] as [4, 8] by [8, -1] from 7"),
        (lambda x: x.reshape(2, 16) + 1, "f32[4,8] as [2, 16] by [16, 1]"),
        (lambda x: x[:, None] + 1, "f32[4,8] as [4, 1, 8] by [8, 0, 1]"),
    ],
)
def test_views_are_accesses(function, reads):
    (line,) = resolved(function, X)
    assert line.endswith(f"= add {reads}, f32[]")


def test_a_view_of_a_view_that_is_no_affine_access_is_copied_first():
    assert resolved(lambda x: x.T.reshape(-1) + 1, X) == [
        "copy: f32[8,4] = transpose f32[4,8] as [8, 4] by [1, 8]",
        "loops: f32[32] = add f32[8,4] as [32] by [1], f32[]",
    ]


def test_a_product_reads_transposed_operands_and_has_others_copied():
    w = np.ones((3, 8), np.float32)
    (line,) = resolved(lambda x, w: x @ w.T, X, w)
    left, right = "f32[4,8] as [1, 4, 8] by [0, 8, 1]", "f32[3,8] as [1, 8, 3] by [0, 1, 8]"
    assert line == f"contract: f32[1,4,3] = dot_general {left}, {right}"
    copy, product = resolved(lambda x, w: x[:, ::2] @ w, X, w[:, :4].T)
    assert copy.startswith("copy: f32[1,4,4] = reshape f32[4,8] as [1, 4, 4] by [0, 8, 2]")
    assert product.startswith("contract: f32[1,4,3] = dot_general f32[1,4,4],")


def test_loops_have_whole_arrays():
    copy, loop = resolved(lambda x: lax.scan(lambda c, r: (c + r, c), x[0], x[1:])[0], X)[-2:]
    assert copy == "copy: f32[3,8] = slice f32[4,8] as [3, 8] by [8, 1] from 8"
    assert loop.startswith("control: f32[8] = scan ")


def test_a_barrier_waits_for_its_operands():
    lines = resolved(lambda x: lax.optimization_barrier((jnp.sin(x), x + 1))[1] * 2, X)
    assert lines[-1] == "loops: f32[4,8] = mul f32[4,8], f32[] after 2 more"


def test_results_that_share_memory_are_copied():
    both = resolved(lambda x: (jnp.sin(x), jnp.sin(x).T), X)
    assert [line.split(":")[0] for line in both] == ["loops", "copy"]
    # An operand may be a result of a program, but not of the body of a loop.
    assert resolved(lambda x: (x,), X) == []
    same = lambda x: (jnp.sin(x), jnp.sin(x).reshape(32))  # noqa: E731
    assert [line.split(":")[0] for line in resolved(same, X)] == ["loops"]
    assert [line.split(":")[0] for line in resolved(same, X, apart=True)] == ["loops", "copy"]


def test_each_kind_of_equation():
    def f(x: Any, i: Any) -> Any:
        y = lax.dynamic_update_slice(x, x[:1], (i, 0))
        return jnp.gcd(i, 6), jnp.concatenate([y] * 9), y @ y.T, lax.cond(i > 0, jnp.sin, jnp.cos, y)

    kinds = {line.split(":")[0] for line in resolved(f, X, 1)}
    assert kinds == {"loops", "update", "host", "join", "contract", "control"}
