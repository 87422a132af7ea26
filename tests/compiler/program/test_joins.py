"""Joins of many arrays: copies, whose number and code do not grow with the elements nor the stack with the list."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import dtypes, lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.loops.equations import MOST_PARTS
from funcgrad.config import config, enable_x64
from funcgrad.testing import assert_close, check_grads
from funcgrad.testing.strategies import fill

RNG = np.random.default_rng(0)
MANY = MOST_PARTS + 2


def parts(n: int, *shape: int) -> list[Any]:
    return [fnp.asarray(RNG.normal(size=shape).astype(np.float32)) for _ in range(n)]


JOINS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "concatenate": (lambda m, x: m.concatenate(x), (2,)),
    "rows": (lambda m, x: m.concatenate(x, 0), (3, 2)),
    "columns": (lambda m, x: m.concatenate(x, 1), (3, 2)),
    "stack": (lambda m, x: m.stack(x), (3,)),
    "stack of columns": (lambda m, x: m.stack(x, -1), (3, 2)),
    "vstack": (lambda m, x: m.vstack(x), (3,)),
    "hstack": (lambda m, x: m.hstack(x), (2, 3)),
    "dstack": (lambda m, x: m.dstack(x), (2, 3)),
    "block": (lambda m, x: m.block([x, x[::-1]]), (2, 2)),
    "array": (lambda m, x: m.array([v[0] for v in x]), (1,)),
    "array of numbers": (lambda m, x: m.array([v[0] * 2 if i % 3 else 1.5 for i, v in enumerate(x)]), (1,)),
    "parts of one": (lambda m, x: m.stack([x[0][i % 3] * x[1][1] for i in range(len(x))]), (3,)),
    "slices": (lambda m, x: m.concatenate([v[1:3] for v in x], 1), (4, 2)),
    "turned": (lambda m, x: m.concatenate([v.T[::-1] for v in x], 1), (3, 2)),
    "repeated": (lambda m, x: m.concatenate([m.broadcast_to(v, (3, 2)) for v in x]), (2,)),
    "the same again": (lambda m, x: m.concatenate([*x, *x]), (2,)),
    "a join of joins": (lambda m, x: m.concatenate([m.concatenate(x), m.concatenate(x[::-1])]), (2,)),
    "computed before and after": (lambda m, x: 2 * m.concatenate([m.sin(v) + 1 for v in x]).sum(0), (3, 2)),
}


@pytest.fixture(params=["machine code", "Python"])
def kernels(request: pytest.FixtureRequest) -> Any:
    with config.override("python_kernels", request.param == "Python"):
        yield


@pytest.mark.parametrize("n", [2, MOST_PARTS, MOST_PARTS + 1, 40])
@pytest.mark.parametrize("name", JOINS)
def test_joins(name: str, n: int, kernels: None) -> None:
    join, shape = JOINS[name]
    x = parts(n, *shape)
    assert_close(fg.jit(lambda x: join(fnp, x))(x), fnp.asarray(join(np, list(map(np.asarray, x)))))


@pytest.mark.parametrize("name", JOINS)
def test_joins_under_transforms_and_in_loops(name: str) -> None:
    join, shape = JOINS[name]
    x = parts(MANY, *shape)
    batched = parts(MANY, 4, *shape)

    def f(x: Any) -> Any:
        return join(fnp, x)

    expected = [f([v[i] for v in batched]) for i in range(4)]
    assert_close(fg.jit(fg.vmap(f))(batched), fnp.stack(expected), what="vmap")
    assert_close(fg.jit(lambda b: lax.map(f, b))(batched), fnp.stack(expected), what="map")
    looped = fg.jit(lambda x: lax.fori_loop(0, 3, lambda i, s: s + f([v * i for v in x]), fnp.zeros_like(f(x))))
    assert_close(looped(x), sum(f([v * i for v in x]) for i in range(3)), rtol=1e-5, atol=1e-5, what="fori_loop")
    chosen = fg.jit(lambda p, x: lax.cond(p, f, lambda x: f(x[::-1]), x))
    for p in (True, False):
        assert_close(chosen(p, x), f(x if p else x[::-1]), what="cond")
    check_grads(fg.jit(lambda *x: fnp.sin(f(list(x)))), [np.asarray(v, np.float64) for v in x], order=1)


@settings(max_examples=40)
@given(data=st.data(), dtype=st.sampled_from(dtypes.ALL), rank=st.integers(1, 3))
def test_any_parts_along_any_axis(data: Any, dtype: np.dtype, rank: int) -> None:
    axis = data.draw(st.integers(0, rank - 1))
    shape = data.draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=20))
    x = [fill(i, dtype, (*shape[:axis], n, *shape[axis + 1 :])) for i, n in enumerate(lengths)]
    with enable_x64():
        assert_close(fg.jit(lambda x: fnp.concatenate(x, axis))(x), fnp.asarray(np.concatenate(x, axis)))


@pytest.mark.parametrize("shape, axis", [((40_001,), 0), ((1, 90_001), 1), ((3, 30_001), 1), ((20_001, 2), 1)])
def test_threads_share_a_join(shape: tuple[int, ...], axis: int) -> None:
    x = parts(MANY, *shape)
    with config.override("num_threads", 4):
        assert_close(fg.jit(lambda x: fnp.concatenate(x, axis))(x), fnp.asarray(np.concatenate(x, axis)))


def test_a_join_of_many_is_one_instruction_and_no_kernel() -> None:
    lowered = fg.jit(lambda x: fnp.concatenate(x)).lower(parts(500, 2))
    assert lowered.as_text("groups") == "0: join: concatenate"
    assert lowered.as_text("kernels") == ""
    plan = pipeline.executable(fg.make_jaxpr(fnp.concatenate)(parts(500, 2)), "join").plan
    assert [str(i.callee) for i in plan.routine.instructions] == ["join"]


def test_thousands_of_parts_under_a_deep_stack() -> None:
    x = [fnp.asarray(v) for v in np.arange(10_000.0, dtype=np.float32).reshape(5000, 2)]

    def below(frames: int) -> Any:
        return below(frames - 1) if frames else fg.jit(fnp.concatenate)(x)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    try:
        found = below(700)
    finally:
        sys.setrecursionlimit(limit)
    assert_close(found, fnp.arange(10_000.0))
