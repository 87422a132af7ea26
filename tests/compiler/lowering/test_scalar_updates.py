"""Loops of scalars that update large arrays in place: when a loop is one kernel, and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.loops.checking import check
from funcgrad.compiler.targets.llvm.link import target as LLVM
from funcgrad.config import config

N = 50
X = np.random.default_rng(3).random(N).astype(np.float32)
M = np.random.default_rng(4).random((N, 40)).astype(np.float32)
INDICES = np.random.default_rng(5).integers(-N - 5, N + 5, 90).astype(np.int32)


def loop(body: Callable[[Any, Any], Any], start: Any, count: int = 90) -> Any:
    return lax.fori_loop(0, count, body, start)


def halve(k: Any, a: Any) -> Any:
    return lax.cond(a[k] > 0.5, lambda a: a.at[k].multiply(0.5), lambda a: a.at[k - 1].add(1.0), a)


# Loops that are one kernel.
IN_PLACE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "one element": (lambda x: loop(lambda k, a: a.at[k].set(2.0), x), (X,)),
    "of indices in memory, some outside": (lambda x, i: loop(lambda k, a: a.at[i[k]].add(a[k]), x), (X, INDICES)),
    "clipped": (lambda x, i: loop(lambda k, a: a.at[i[k]].mul(0.9, mode="clip"), x), (X, INDICES)),
    "overlapping windows": (lambda x: loop(lambda k, a: a.at[jnp.array([k, k + 1, k])].add(a[k]), x), (X,)),
    "a window": (lambda x: loop(lambda k, a: lax.dynamic_update_slice(a, a[:8] * 2.0, (k,)), x, 7), (X,)),
    "two dimensions": (lambda m: loop(lambda k, a: a.at[k % 50, k % 40].max(a[k % 7, 3] + 1.0), m), (M,)),
    "two arrays and a number": (
        lambda x, m: loop(lambda k, s: (s[0].at[k].set(s[2]), s[1].at[k, k].set(s[0][k]), s[2] + 1.0), (x, m, 0.0)),
        (X, M),
    ),
    "reads of the old array, written later": (
        lambda x, i: lax.scan(lambda a, k: (a.at[k].add(1.0), a[k] + a[k - 1]), x, i),
        (X, INDICES),
    ),
    "one branch": (
        lambda x: loop(lambda k, a: lax.cond(x[k] > 0.5, lambda a: a.at[k].set(0.0), lambda a: a, a), x),
        (X,),
    ),
    "both branches": (lambda x: loop(halve, x), (X,)),
    "a loop inside": (lambda x: loop(lambda j, a: loop(lambda k, a: a.at[k].add(a[j]), a, 9), x, 20), (X,)),
    "a loop inside a branch": (
        lambda x: loop(lambda j, a: lax.cond(a[j] < 1.0, lambda a: loop(halve, a, 9), lambda a: a, a), x, 20),
        (X,),
    ),
    "while": (
        lambda x: lax.while_loop(lambda s: s[1][s[0]] < 0.97, lambda s: (s[0] + 1, s[1].at[s[0] + 1].add(0.1)), (0, x)),
        (X,),
    ),
    "backward": (lambda x, i: lax.scan(lambda a, k: (a.at[k].add(1.0), a[k]), x, i, reverse=True), (X, INDICES)),
    "int8": (lambda x, i: loop(lambda k, a: a.at[i[k]].add(k.astype(jnp.int8)), x), (INDICES.astype(np.int8), INDICES)),
    "bool": (lambda x, i: loop(lambda k, a: a.at[i[k]].set(a[k]), x), (X > 0.5, INDICES)),
    "bfloat16": (lambda x, i: loop(lambda k, a: a.at[i[k]].add(a[k]), x), (jnp.asarray(X, jnp.bfloat16), INDICES)),
    "a copy for each lane": (
        lambda m, i: fg.vmap(
            lambda r, n: lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1].at[s[0]].add(1.0)), (0, r))
        )(m, i),
        (M, INDICES[:N]),
    ),
    "no iteration": (lambda x, n: lax.fori_loop(0, n, lambda k, a: a.at[k].set(2.0), x), (X, np.int32(0))),
}

# Loops in which an array is read after what replaces it was written, in the order of the program or of the iterations.
COPIED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "selected": (lambda x: loop(lambda k, a: jnp.where(a[k] > 0.5, a.at[k].set(0.0), a), x), (X,)),
    "two updates of one array": (
        lambda x: loop(lambda k, s: (s[0].at[k].set(s[1][k]), s[0].at[k].set(1.0)), (x, 2 * x)),
        (X,),
    ),
    "swapped": (lambda x: loop(lambda k, s: (s[1], s[0].at[k].set(s[1][k] + 1.0)), (x, 2 * x)), (X,)),
    "an update that is dropped": (
        lambda x: loop(lambda k, s: (s[0].at[k].set(1.0), s[1] + s[0].at[k + 1].set(5.0)[k]), (x, 0.0)),
        (X,),
    ),
    "an inner loop over what it replaces": (
        lambda x: loop(lambda j, a: loop(lambda k, b: b.at[k].add(a[k]), a, 9) + a[0], x, 5),
        (X,),
    ),
    "a const of an inner loop": (
        lambda x: loop(lambda j, a: a.at[j].add(loop(lambda k, s: s + a.at[k].set(s)[k + 1], 0.0, 9)), x, 9),
        (X,),
    ),
    "another array from each branch": (
        lambda x: loop(
            lambda k, s: lax.cond(s[0][k] > 0.5, lambda a, b: (a, b), lambda a, b: (b, a.at[k].set(0.0)), *s),
            (x, 2 * x),
        ),
        (X,),
    ),
}


def assert_agrees(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    expected = fg.tree.leaves(function(*map(jnp.asarray, args)))
    before = [np.array(x) for x in args]
    for found, value in zip(fg.tree.leaves(fg.jit(function)(*args)), expected, strict=True):
        assert found.dtype == value.dtype
        np.testing.assert_allclose(np.float64(found), np.float64(value), rtol=1e-5, atol=1e-6)
    for x, old in zip(args, before, strict=True):
        np.testing.assert_array_equal(np.asarray(x), old)


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_loop_that_updates_elements_is_one_kernel(name: str):
    function, args = IN_PLACE[name]
    groups = pipeline.as_text(fg.make_jaxpr(function)(*args), name, "groups")
    assert "in one kernel of scalars" in groups and "update" not in groups, groups
    for kernel in pipeline.kernels_of(fg.make_jaxpr(function)(*args)):
        check(kernel)
    assert_agrees(function, args)


@pytest.mark.parametrize("name", COPIED)
def test_an_array_that_is_read_later_is_copied(name: str):
    assert_agrees(*COPIED[name])


@pytest.mark.parametrize("name", ["overlapping windows", "both branches", "a loop inside", "backward"])
def test_the_numba_target_agrees(name: str):
    with config.override("cpu_target", "numba"):
        assert_agrees(*IN_PLACE[name])


def test_no_array_is_copied_in_an_iteration():
    """The only copy is the one of the argument."""
    function, args = IN_PLACE["a loop inside"]
    found = str(pipeline.planned(fg.make_jaxpr(function)(*args), LLVM))
    assert found.count("copy") == 1 and found.count("×") == 2, found


def test_a_temporary_is_updated_where_it_is():
    found = str(
        pipeline.planned(fg.make_jaxpr(lambda i: loop(lambda k, a: a.at[i[k]].add(1.0), jnp.zeros(N)))(INDICES), LLVM)
    )
    assert "copy" not in found
    kept = fg.make_jaxpr(lambda x: (loop(lambda k, a: a.at[k].set(0.0), x + 1.0), x + 1.0))(X)
    assert str(pipeline.planned(kept, LLVM)).count("copy") == 1
