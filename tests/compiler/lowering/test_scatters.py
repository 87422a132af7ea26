"""Gathers and scatters as kernels: which form is chosen, what it computes, and that threads do not change a bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.loops.checking import check
from funcgrad.compiler.program.instructions import CopyCall, HostCall, LoopCall, Routine
from funcgrad.compiler.targets.llvm import runtime
from funcgrad.compiler.targets.llvm.link import target as LLVM

RNG = np.random.default_rng(9)
MANY = 200_000


def planned(function: Callable[..., Any], *args: Any) -> Routine:
    return pipeline.planned(fg.make_jaxpr(function)(*args), LLVM).routine


def kernels(function: Callable[..., Any], *args: Any) -> list[str]:
    found = pipeline.kernels_of(fg.make_jaxpr(function)(*args))
    for kernel in found:
        check(kernel)
    return [k.name for k in found]


def ints(limit: int, *shape: int) -> np.ndarray:
    return RNG.integers(-limit, limit, shape).astype(np.int32)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


# name: (function, arguments, the kernel that writes)
FORMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "few places": (lambda x, i, u: x.at[i].add(u), (floats(50), ints(50, MANY), floats(MANY)), "scatter_combine_add"),
    "few rows": (
        lambda x, i, u: x.at[i].subtract(u),
        (floats(50, 3), ints(50, MANY // 3), floats(MANY // 3, 3)),
        "scatter_combine_sub",
    ),
    "largest": (lambda x, i, u: x.at[i].max(u), (floats(50), ints(50, MANY), floats(MANY)), "scatter_combine_max"),
    "many places": (lambda x, i, u: x.at[i].add(u), (floats(MANY), ints(MANY, MANY), floats(MANY)), "scatter_add"),
    "the last one": (lambda x, i, u: x.at[i].set(u), (floats(50), ints(50, MANY), floats(MANY)), "scatter_set"),
    "wide rows": (lambda x, i, u: x.at[i].add(u), (floats(50, 300), ints(50, 200), floats(200, 300)), "scatter_add"),
    "wide rows, dropped": (
        lambda x, i, u: x.at[1, i].add(u, mode="drop"),
        (floats(3, 50, 300), ints(80, 200), floats(200, 300)),
        "scatter_add",
    ),
    "columns": (lambda x, i, u: x.at[:, i].multiply(u), (floats(9, 5), ints(5, 40), floats(9, 40)), "scatter_mul"),
    "outer columns": (
        lambda x, i, u: x.at[:, i].set(u),
        (floats(30, 50), ints(80, 200), floats(30, 200)),
        "scatter_set",
    ),
    "unique": (
        lambda x, i, u: x.at[i].add(u, unique_indices=True),
        (floats(MANY), RNG.permutation(MANY).astype(np.int32), floats(MANY)),
        "scatter_add",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_computes_what_numpy_does(name: str):
    function, args, last = FORMS[name]
    expected = function(*map(jnp.asarray, args))
    assert kernels(function, *args)[-1] == last
    np.testing.assert_allclose(fg.jit(function)(*args), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_the_number_of_threads_does_not_change_a_bit(name: str):
    function, args, _ = FORMS[name]
    before, found = runtime.num_threads(), set()
    try:
        for threads in (1, 2, 3, 7):
            runtime.set_num_threads(threads)
            found |= {np.asarray(fg.jit(lambda *a: function(*a))(*args)).tobytes() for _ in range(3)}
    finally:
        runtime.set_num_threads(before)
    assert len(found) == 1


def test_windows_that_overlap_at_an_offset_are_written_in_their_order():
    """Column 0 of one window is column 3 of another: no thread may take a column by itself."""
    numbers = lax.ScatterDimensionNumbers((1,), (), (0,))
    starts = ints(400, 3000)[:, None] % 400
    updates = RNG.integers(-9, 9, (3000, 200)).astype(np.float32)
    expected = np.zeros(600, np.float32)
    for (start,), update in zip(starts, updates, strict=True):
        expected[start : start + 200] += update
    for f in (lax.scatter_add, fg.jit(lax.scatter_add, static_argnums=3)):
        np.testing.assert_array_equal(f(np.zeros(600, np.float32), starts, updates, numbers), expected)
    for (start,), update in zip(starts, updates, strict=True):
        expected[start : start + 200] = update
    found = fg.jit(lax.scatter, static_argnums=3)(np.zeros(600, np.float32), starts, updates, numbers)
    np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- bounds

INDEX_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def test_one_row_is_tested_once_and_written_in_vectors():
    """A row of any length at a run-time position, in pieces whose loops contain no test; a row outside is dropped."""

    def write(x: Any, start: Any, row: Any) -> Any:
        return lax.scatter(x, start, row, lax.ScatterDimensionNumbers((0,), (), (0,)), mode="drop")

    for length in (2, 1023, 1024, 2500):
        x, row = floats(length + 3), floats(length)
        for start in (0, 2, -1, 4):
            expected = x.copy()
            if 0 <= start <= 3:
                expected[start : start + length] = row
            np.testing.assert_array_equal(fg.jit(write)(x, np.array([start], np.int32), row), expected)
    text = fg.jit(write).lower(x, np.array([0], np.int32), row).as_text("kernels")
    assert text.index("if ") < text.index("for i0 in range(width)")


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
@pytest.mark.parametrize("mode", ["clip", "fill"])
def test_an_index_of_any_type_stays_inside(mode: str, dtype: str):
    with fg.enable_x64(True):
        limits = np.iinfo(dtype)
        i = np.array([limits.min, limits.max, limits.max - 1, 0, 4, 5, 100], dtype)
        x, u = np.arange(5.0), np.arange(7.0) + 1
        numbers = lax.GatherDimensionNumbers((), (0,), (0,))
        into = lax.ScatterDimensionNumbers((), (0,), (0,))

        def both(x: Any, i: Any, u: Any) -> tuple[Any, Any]:
            read = lax.gather(x, i[:, None], numbers, (1,), mode=mode, fill_value=-1.0)
            return read, lax.scatter_add(x, i[:, None], u, into, mode=mode)

        inside = [0 <= int(k) < 5 for k in i]
        place = [min(max(int(k), 0), 4) for k in i]
        read = np.where(inside, x[place], -1.0) if mode == "fill" else x[place]
        written = x.copy()
        np.add.at(written, place, np.where(inside, u, 0) if mode == "fill" else u)
        for f in (both, fg.jit(both)):
            found = f(x, i, u)
            np.testing.assert_array_equal(found[0], read)
            np.testing.assert_array_equal(found[1], written)


@pytest.mark.parametrize("dtype", [d.name for d in dtypes.ALL])
def test_every_dtype_is_read_and_written(dtype: str):
    with fg.enable_x64(True):
        x = jnp.asarray(RNG.integers(0, 2, (6, 3))).astype(dtype)
        u = jnp.asarray(RNG.integers(0, 2, (4, 3))).astype(dtype)
        i = np.array([0, 5, 5, -2])

        def f(x: Any, u: Any, i: Any) -> Any:
            sums = [] if dtype == "bool" else [x.at[i].add(u), x.at[i].multiply(u)]
            extremes = [x.at[i].max(u), x.at[i].min(u)]
            return [x[i], x.at[i].get(mode="fill"), x.at[i].set(u), *sums, *extremes]

        for mine, expected in zip(fg.jit(f)(x, u, i), f(x, u, i), strict=True):
            np.testing.assert_array_equal(np.asarray(mine), np.asarray(expected))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1,), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_empty_and_single_elements(shape: tuple[int, ...], count: int):
    x, i = floats(*shape), np.zeros(count, np.int32)

    def f(x: Any, i: Any) -> Any:
        return x.at[i].get(mode="fill"), x.at[i].add(1.0), x.at[i].set(2.0)

    for mine, expected in zip(fg.jit(f)(x, i), f(jnp.asarray(x), i), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(expected))


# ---------------------------------------------------------------- programs


def cross_entropy(logits: Any, labels: Any) -> Any:
    shifted = logits - jnp.max(logits, 1, keepdims=True)
    logs = shifted - jnp.log(jnp.sum(jnp.exp(shifted), 1, keepdims=True))
    return -jnp.mean(logs[jnp.arange(len(labels)), labels])


def hierarchical(means: Any, group: Any, y: Any) -> Any:
    return jnp.sum((y - means[group]) ** 2)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "embedding": (fg.grad(lambda e, t: jnp.sum(jnp.tanh(e[t]))), (floats(20, 8), ints(20, 4, 5))),
    "cross-entropy": (fg.value_and_grad(cross_entropy), (floats(16, 10), ints(10, 16) % 10)),
    "groups": (fg.grad(hierarchical), (floats(7), ints(7, 1000), floats(1000))),
    "mapped lookup": (fg.vmap(lambda x, i: x[i]), (floats(5, 30), ints(30, 5, 4))),
    "mapped update": (fg.vmap(lambda x, i: x.at[i].add(1.0)), (floats(5, 30), ints(30, 5, 4))),
    "counts": (lambda i: jnp.bincount(i, length=9), (ints(9, 300) % 9,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_index_call_no_numpy(name: str):
    function, args = PROGRAMS[name]
    callees = [i.callee for i in planned(function, *args).instructions]
    assert callees and not any(isinstance(c, HostCall) for c in callees)
    for mine, expected in zip(fg.tree.leaves(fg.jit(function)(*args)), fg.tree.leaves(function(*args)), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_indices_are_computed_where_they_are_read():
    function = lambda x, i, j: jnp.sin(x[i, j + 1]) * 2  # noqa: E731
    assert len(kernels(function, floats(9, 9), ints(9, 30), ints(8, 30))) == 1


# Updates of rows of so many elements that a loop is no kernel of scalars.
UPDATES: dict[str, Callable[[Any, Any], Any]] = {
    "a row": lambda i, b: b.at[i].add(2.0),
    "several": lambda i, b: b.at[jnp.array([i, i + 1])].set(jnp.array([[1.0], [2.0]])),
    "the same twice": lambda i, b: b.at[jnp.stack([i, i])].add(1.0),
}


@pytest.mark.parametrize("name", UPDATES)
def test_a_loop_does_not_copy_the_array_that_it_updates(name: str):
    def f(b: Any) -> Any:
        return lax.fori_loop(0, 50, UPDATES[name], b)

    b = floats(100, 40)
    (loop,) = (i.callee for i in planned(f, b).instructions if isinstance(i.callee, LoopCall))
    assert not any(isinstance(i.callee, CopyCall | HostCall) for i in loop.body.instructions)
    assert b.nbytes not in [c.nbytes for c in loop.carries]
    expected = jnp.asarray(b)
    for i in range(50):
        expected = UPDATES[name](i, expected)
    np.testing.assert_allclose(fg.jit(f)(b), expected, rtol=1e-6)


def test_small_arrays_are_indexed_in_registers():
    def f(x: Any, i: Any) -> Any:
        def step(c: Any, k: Any) -> Any:
            return c.at[jnp.array([k, 1])].add(c[jnp.array([k, 0, 5])][:2], mode="drop"), c[k]

        return lax.scan(step, x, i)

    x, i = floats(3), np.array([0, 2, -1, 1, 2, 9, -9], np.int32)
    assert [k for k in kernels(f, x, i) if not k.startswith("scan")] == []
    with fg.disable_jit():
        expected = f(jnp.asarray(x), jnp.asarray(i))
    for mine, theirs in zip(fg.jit(f)(x, i), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_extremes_know_nan_and_the_sign_of_zero(dtype: str):
    """In order: each place takes its updates one by one, in a loop where a maximum is not LLVM's."""
    special = [np.nan, -np.inf, np.inf, 0.0, -0.0, 1.0, -1.0]
    pairs = [(a, b) for a in special for b in special]

    def expected(a: float, b: float, best: Callable[..., float]) -> float:
        if a == b == 0:
            return best(a, b, key=lambda x: np.copysign(1, x))
        return float("nan") if np.isnan(a + b) and (np.isnan(a) or np.isnan(b)) else best(a, b)

    with fg.enable_x64(True):
        x = jnp.asarray(np.array([a for a, _ in pairs])).astype(dtype)
        u = jnp.asarray(np.array([b for _, b in pairs])).astype(dtype)
        i = np.arange(len(pairs))
        largest, least = fg.jit(lambda x, u, i: (x.at[i].max(u), x.at[i].min(u)))(x, u, i)
        for found, best in ((largest, max), (least, min)):
            exact = np.array([expected(a, b, best) for a, b in pairs])
            found = np.asarray(found).astype(np.float64)
            np.testing.assert_array_equal(found, exact)
            np.testing.assert_array_equal(np.signbit(found)[~np.isnan(exact)], np.signbit(exact)[~np.isnan(exact)])
