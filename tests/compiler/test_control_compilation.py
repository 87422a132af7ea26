"""Compiled branches and loops against their interpretation: kernels of scalars, nested programs, and Python."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.targets.llvm.link import target as LLVM
from funcgrad.config import config
from funcgrad.testing import assert_close
from funcgrad.transforms.control_flow.scan import scan_p

RNG = np.random.default_rng(0)


def values(*shape: int) -> Any:
    return jnp.asarray(RNG.normal(size=shape).astype(np.float32))


def collatz(n: Any) -> Any:
    def step(s: Any) -> Any:
        return lax.cond(s[0] % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, s[0]), s[1] + 1

    return lax.while_loop(lambda s: s[0] != 1, step, (n, 0))


def newton(a: Any) -> Any:
    """The square root of each number, each with as many steps as it takes."""

    def root(a: Any) -> Any:
        return lax.while_loop(
            lambda s: abs(s[0] * s[0] - a) > 1e-4 * a, lambda s: (0.5 * (s[0] + a / s[0]), s[1] + 1), (a, 0)
        )

    return lax.map(root, abs(a) + 0.5)


def nested(w: Any, x: Any) -> Any:
    def outer(c: Any, row: Any) -> Any:
        d, ys = lax.scan(lambda d, y: (d * jnp.cos(y) + c.sum(), d * y), row.sum(), row)
        return jnp.sin(c * d) + ys, d

    return lax.scan(outer, w, x)


def bisect(x: Any) -> Any:
    def step(state: Any, _: Any) -> Any:
        low, high = state
        middle = 0.5 * (low + high)
        return lax.cond(middle**3 < x, lambda: (middle, high), lambda: (low, middle)), middle

    return lax.scan(step, (jnp.zeros_like(x), jnp.ones_like(x) * 4), None, length=20)


def table_walk(table: Any, start: Any) -> Any:
    """Read a large array at positions that a loop computes."""

    def step(s: Any) -> Any:
        return (s[0] * 7 + 3) % 400, s[1] + table[s[0]] ** 2

    return lax.map(lambda i: lax.while_loop(lambda s: s[1] < 5.0, step, (i, 0.0)), jnp.arange(20) + start)


def switches(x: Any) -> Any:
    branches = [jnp.sin, lambda v: v * 2, lambda v: lax.fori_loop(0, 3, lambda _, u: jnp.tanh(u * u - 0.5), v)]
    return lax.scan(lambda c, i: (lax.switch(i, branches, c), c), x, jnp.array([-1, 0, 1, 2, 3, 9, 1]))


def matrix_power(m: Any, n: Any) -> Any:
    def step(s: Any) -> Any:
        power, square, n = s
        return lax.cond(n % 2 == 1, lambda: power @ square, lambda: power), square @ square, n // 2

    return lax.while_loop(lambda s: s[2] > 0, step, (jnp.eye(m.shape[0]), m, n))[0]


PROGRAMS = {
    "carry and stacked": (lambda c, x: lax.scan(lambda c, x: (c + x, c * x), c, x), jnp.zeros(3), values(7, 3)),
    "backwards": (lambda c, x: lax.scan(lambda c, x: (c * 0.9 + x, c), c, x, reverse=True), jnp.zeros(3), values(7, 3)),
    "carry alone": (lambda c: lax.scan(lambda c, _: (jnp.sin(c) + 1, None), c, None, length=5), values(2, 2)),
    "no carry": (lambda x: lax.map(lambda r: jnp.tanh(r) * r.sum(), x), values(50, 4)),
    "stored in another shape": (lambda x: lax.map(lambda r: r[0] * 2, x.T), values(1, 7)),
    "lanes stored in another shape": (
        lambda x: lax.map(lambda r: lax.while_loop(lambda v: v < 5, lambda v: v + 1, r[0]), x.T),
        values(1, 40),
    ),
    "of length 0": (lambda c, x: lax.scan(lambda c, x: (c + x, c), c, x), jnp.ones(3), values(0, 3)),
    "of length 1": (lambda c, x: lax.scan(lambda c, x: (c + x, c), c, x), jnp.ones(3), values(1, 3)),
    "unrolled": (lambda c, x: lax.scan(lambda c, x: (c + x, c), c, x, unroll=4), jnp.ones(3), values(4, 3)),
    "empty arrays": (lambda c, x: lax.scan(lambda c, x: (c + x, c), c, x), jnp.ones((0,)), values(4, 0)),
    "results alike": (lambda c, x: lax.scan(lambda c, x: (x, (x, x, c, 1.0)), c, x), jnp.ones(3), values(5, 3)),
    "exchange": (lambda a, b: lax.fori_loop(0, 5, lambda i, s: (s[1], s[0] + 1), (a, b)), values(3), values(3)),
    "zero trips": (lambda x: lax.while_loop(lambda s: s.sum() > 1e9, lambda s: s + 1, x), values(3)),
    "collatz": (lambda n: lax.map(collatz, n), jnp.arange(1, 60)),
    "newton": (newton, values(100)),
    "nested": (nested, 0.3 * values(3), 0.3 * values(4, 3)),
    "bisection": (lambda x: lax.map(bisect, abs(x)), values(9)),
    "table": (table_walk, jnp.sin(jnp.arange(400.0)), 5),
    "switch": (switches, values()),
    "switch of arrays": (switches, values(40)),
    "matrix power": (matrix_power, 0.3 * values(3, 3), 13),
    "large matrix power": (matrix_power, 0.1 * values(20, 20), 13),
    "recurrent network": (
        lambda w, h, x: lax.scan(lambda h, x: (jnp.tanh(h @ w + x), h.sum(1)), h, x),
        0.3 * values(24, 24),
        values(5, 24),
        values(9, 5, 24),
    ),
    "written windows": (lambda x: lax.fori_loop(1, 50, lambda i, x: x.at[i].add(0.5 * x[i - 1]), x), values(50)),
    "written and read": (
        lambda x: lax.scan(lambda x, i: (x.at[i].set(2.0).at[i + 1].add(1.0), x), x, jnp.arange(20)),
        values(40),
    ),
    "written small": (
        lambda x, k: lax.fori_loop(0, 7, lambda i, x: x.at[(i + k) % 3, i % 4].add(x[i % 3, k].sum()), x),
        values(3, 4),
        1,
    ),
    "integers of 8 bits": (
        lambda x: lax.scan(lambda c, x: (c * jnp.int8(3) + x, c > x), jnp.int8(0), x),
        jnp.arange(30).astype("int8"),
    ),
    "halves": (lambda x: lax.scan(lambda c, x: (c * 0.5 + x, c), x[0], x), values(6, 3).astype("float16")),
    "complex numbers": (lambda x: lax.scan(lambda c, x: (c * 0.5j + x, c), x[0], x), values(6, 3).astype("complex64")),
    "sorting inside": (lambda x: lax.scan(lambda c, x: (jnp.sort(c + x), c), x[0], x), values(6, 5)),
}


@pytest.fixture(params=["as it comes", "nested programs"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without kernels of scalars."""
    if request.param == "nested programs":
        monkeypatch.setattr(LLVM, "scheduling", dataclasses.replace(LLVM.scheduling, max_scalar_elements=-1))
    return request.param


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_is_interpreted(name: str, form: str) -> None:
    function, *args = PROGRAMS[name]
    with fg.disable_jit():
        expected = function(*args)
    compiled = fg.jit(lambda *args: function(*args))
    rtol = 2e-2 if name == "halves" else 1e-5
    assert_close(compiled(*args), expected, rtol=rtol, atol=1e-5, what=f"{name} compiled, {form}")
    with config.override("python_kernels", True):
        assert_close(compiled(*args), expected, rtol=rtol, atol=1e-5, what=f"{name} with kernels in Python, {form}")


def simplified(function: Any, *args: Any) -> Any:
    return simplify(fg.make_jaxpr(function)(*args))


def test_loop_invariants_are_hoisted() -> None:
    def loop(w: Any, x: Any) -> Any:
        return lax.scan(lambda c, x: (c + jnp.sin(w) * x, None), x[0], x)[0]

    before, scan = simplified(loop, values(5), values(6, 5)).eqns[-2:]
    assert (before.primitive.name, scan.primitive) == ("sin", scan_p)
    assert [e.primitive.name for e in scan.params["jaxpr"].eqns] == ["mul", "add"]


def test_carries_that_never_change_are_removed() -> None:
    def loop(x: Any, y: Any) -> Any:
        return lax.scan(lambda c, _: ((c[0] * c[1], c[1]), None), (x, y), None, length=3)[0]

    (scan,) = simplified(loop, values(2), values(2)).eqns
    assert (scan.params["num_consts"], scan.params["num_carry"]) == (1, 1)


def test_unused_results_are_not_computed() -> None:
    def loop(x: Any) -> Any:
        (kept, _), (ys, _) = lax.scan(lambda c, x: ((c[0] + x, jnp.exp(c[1])), (c[0], jnp.cos(c[1]))), (0.0, 0.0), x)
        return kept, ys

    (scan,) = simplified(loop, values(6)).eqns
    assert [e.primitive.name for e in scan.params["jaxpr"].eqns] == ["add"]
    dead = simplified(lambda x: lax.cond(x[0] > 0, lambda: (x + 1, jnp.exp(x)), lambda: (x, x))[0], values(3))
    assert "exp" not in str(dead)


def test_a_branch_whose_index_is_known_is_taken() -> None:
    assert "cond" not in str(simplified(lambda x: lax.switch(2, [jnp.sin, jnp.cos, jnp.tan], x), values(3)))


def program(function: Any, *args: Any) -> str:
    return fg.jit(function).lower(*args).as_text("program")


def test_windows_are_written_in_place_if_the_array_is_dead() -> None:
    def fill(x: Any) -> Any:
        return lax.fori_loop(0, 1000, lambda i, x: x.at[i].set(x[i - 1] + 1.0), x)

    text = program(fill, values(1000, 40))
    assert "scatter_set" in text
    assert "copy" not in text
    # Read once more after it was written, the old array must survive.
    kept = program(lambda x: lax.scan(lambda x, i: (x.at[i].set(1.0), x), x, jnp.arange(9))[1], values(1000))
    assert "copy" in kept


def test_an_update_does_not_change_its_operand() -> None:
    x = values(100)
    before = np.array(x)
    fg.jit(lambda x: (x.at[3].set(7.0), lax.fori_loop(0, 5, lambda i, x: x.at[i].set(9.0), x)))(x)
    np.testing.assert_array_equal(x, before)


def test_iterations_that_carry_nothing_are_shared_among_threads(form: str) -> None:
    planned = pipeline.executable(fg.make_jaxpr(lambda n: lax.map(collatz, n))(jnp.arange(1, 1000)), "lanes").plan
    (instruction,) = planned.routine.instructions
    assert instruction.extent == (-(-999 // LLVM.scheduling.lanes) if form == "as it comes" else 999)
    assert instruction.grain < 100


def test_an_error_in_a_loop_ends_the_run() -> None:
    from funcgrad.core.primitives import Primitive, registry

    def evaluate(x: np.ndarray) -> np.ndarray:
        calls.append(float(x))
        if x > 3:
            raise ZeroDivisionError("three is enough")
        return x

    calls: list[float] = []
    primitive = Primitive("fails_above_three", infer=lambda x: x, evaluate=evaluate)
    try:
        loop = fg.jit(lambda: lax.fori_loop(0, 100, lambda i, x: primitive.bind(x) + 1, 0.0))
        with pytest.raises(ZeroDivisionError, match="three is enough"):
            loop()
        assert calls == [0, 1, 2, 3, 4]
    finally:
        del registry["fails_above_three"]


def test_a_new_length_compiles_no_kernel() -> None:
    loop = fg.jit(lambda c, x: lax.scan(lambda c, x: (jnp.sin(c) + x, c), c, x))
    loop(values(3), values(100, 3))
    loop(values(3), values(731, 3))
    assert loop.cache_info().kernels_compiled + loop.cache_info().kernels_from_disk <= 1


def test_stages_of_loops_are_shown() -> None:
    lowered = fg.jit(lambda n: lax.map(collatz, n)).lower(jnp.arange(9))
    assert "while True:" in lowered.as_text("kernels")
    assert "repeat:" in lowered.as_text("loops")
    assert "in one kernel of scalars" in lowered.as_text("groups")


def test_work_shared_by_predicate_and_body_runs_once_per_iteration() -> None:
    def root(a: Any) -> Any:
        def error(x: Any) -> Any:
            return x * jnp.exp(x) - a

        def step(x: Any) -> Any:
            return x - error(x) / (jnp.exp(x) * (x + 1))

        return lax.while_loop(lambda x: abs(error(x)) > 1e-5 * a, step, a)

    closed = simplified(root, 3.0)
    loop = closed.eqns[-1]
    bodies = [loop.params["cond_jaxpr"], loop.params["body_jaxpr"]]
    assert [sum(e.primitive.name == "exp" for e in b.eqns) for b in bodies] == [0, 1]
    assert sum(e.primitive.name == "exp" for e in closed.eqns) == 1
    with fg.disable_jit():
        expected = root(3.0)
    assert_close(fg.jit(root)(3.0), expected)
    mapped = fg.jit(fg.vmap(root))(jnp.linspace(0.5, 60.0, 77))
    assert_close(mapped * jnp.exp(mapped), jnp.linspace(0.5, 60.0, 77), rtol=1e-4)


def test_cheap_work_and_effects_are_not_carried_along() -> None:
    cheap = simplified(lambda x: lax.while_loop(lambda x: x * x < 9, lambda x: x * x + 1, x), 0.5)
    assert len(cheap.eqns[-1].outvars) == 1


def test_products_that_wait_for_no_other_iteration_are_one_product() -> None:
    def network(u: Any, w: Any, h: Any, xs: Any) -> Any:
        return lax.scan(lambda h, x: (jnp.tanh(x @ u + h @ w), h), h, xs)

    args = 0.3 * values(6, 24), 0.3 * values(24, 24), values(5, 24), values(9, 5, 6)
    closed = simplified(network, *args)
    before = [e for e in closed.eqns if e.primitive.name == "dot_general"]
    inside = [e for e in closed.eqns[-1].params["jaxpr"].eqns if e.primitive.name == "dot_general"]
    assert [e.outvars[0].aval.shape for e in before] == [(1, 45, 24)]
    assert [e.outvars[0].aval.shape for e in inside] == [(1, 5, 24)]
    for function in (network, lambda *args: lax.scan(lambda h, x: (h, x.T @ args[1][:5, :3]), args[2], args[3])):
        with fg.disable_jit():
            expected = function(*args)
        assert_close(fg.jit(function)(*args), expected, rtol=1e-5, atol=1e-5)


def test_one_operand_under_two_names_is_not_shared_twice() -> None:
    def loop(x: Any, a: Any, b: Any) -> Any:
        def step(x: Any) -> Any:
            return x + 0.1 * jnp.exp(x * a) + 0.3 * jnp.cos(jnp.exp(x * b)) ** 2

        return lax.while_loop(lambda x: jnp.exp(x * a) < 3.0, step, x)

    def twice(x: Any, a: Any) -> Any:
        return fg.jit(loop)(x, a, a)

    with fg.disable_jit():
        expected = twice(jnp.float32(0.1), jnp.float32(0.7))
    assert_close(fg.jit(twice)(jnp.float32(0.1), jnp.float32(0.7)), expected)
