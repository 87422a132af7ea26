"""Programs drawn at random, from operations, loops, branches and custom rules nested in each other, under transforms.

Each program is written once against a namespace that `funcgrad` and JAX both provide. What is compiled must agree with
what Python computes op by op, with the kernels run as Python, and with JAX.
"""

from __future__ import annotations

import functools
import importlib
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import config
from funcgrad.testing import assert_close


def library(name: str) -> Any:
    module = importlib.import_module(name)
    parts = {p: importlib.import_module(f"{name}.{p}") for p in ("numpy", "lax", "random", "nn")}
    return types.SimpleNamespace(fg=module, np=parts.pop("numpy"), **parts)


OURS = library("funcgrad")


class Program(NamedTuple):
    """A function (library, vector) → vector of the same type, and how it is written."""

    text: str
    apply: Callable[[Any, Any], Any]

    def __repr__(self) -> str:
        return self.text


def position(L: Any, x: Any) -> Any:
    """An index that depends on the values."""
    return (L.np.abs(L.np.sum(x)) * 7.31).astype("int32") % max(x.shape[0], 1)


def window(L: Any, x: Any) -> Any:
    return L.lax.dynamic_slice(L.np.concatenate([x, 0.5 * x]), (position(L, x),), x.shape)


def noise(L: Any, x: Any) -> Any:
    key = L.random.fold_in(L.random.PRNGKey(5), position(L, x))
    return x + 0.2 * L.random.normal(key, x.shape, x.dtype)


LEAVES = {
    "sin": lambda L, x: L.np.sin(1.3 * x + 0.2),
    "square": lambda L, x: 0.3 * x * x - 0.4,
    "where": lambda L, x: L.np.where(x > 0.1, 0.5 * x, L.np.cos(x)),
    "floor": lambda L, x: x + 0.1 * L.np.floor(3.3 * x),
    "constant": lambda L, x: L.np.full_like(x, 0.3),
    "centered": lambda L, x: x - 0.5 * L.np.sum(L.np.sin(x)),
    "largest": lambda L, x: x - 0.3 * L.np.max(x, initial=0.1),
    "cumsum": lambda L, x: L.np.tanh(L.np.cumsum(x)),
    "reversed": lambda L, x: -x[::-1],
    "product": lambda L, x: L.np.tanh(L.np.outer(L.np.cos(x), x) @ x),
    "norm": lambda L, x: x / L.np.sqrt(1 + L.np.sum(x * x)),
    "noise": noise,
    "window": window,
    "sort": lambda L, x: L.np.sort(x),
    "added at": lambda L, x: x.at[position(L, x)].add(0.3) if x.size else x,  # JAX takes no empty x
}


def over_scan(f: Program, n: int, reverse: bool) -> Callable[[Any, Any], Any]:
    def apply(L: Any, x: Any) -> Any:
        def body(state: Any, s: Any) -> Any:
            i, c = state
            return (i + 1, f.apply(L, c * s)), (c, L.np.sum(c) * i)

        scales = L.np.linspace(0.5, 1.0, n, dtype=x.dtype)
        (i, c), (ys, sums) = L.lax.scan(body, (0, x), scales, reverse=reverse)
        return c + 0.1 * ys.sum(0) + 0.1 * sums.sum() + 0.01 * i

    return apply


def over_buffer(f: Program, n: int, reverse: bool) -> Callable[[Any, Any], Any]:
    def apply(L: Any, x: Any) -> Any:
        def body(i: Any, rows: Any) -> Any:
            return rows.at[i + 1].set(f.apply(L, rows[i // 2 if reverse else i]))

        rows = L.np.zeros((n + 1, *x.shape), x.dtype).at[0].set(x)
        return L.np.tanh(L.lax.fori_loop(0, n, body, rows).sum(0))

    return apply


def over_finish(f: Program, n: int, reverse: bool) -> Callable[[Any, Any], Any]:
    def apply(L: Any, x: Any) -> Any:
        def body(state: Any, _: Any) -> Any:
            done, a, b = state
            new = f.apply(L, a)
            return (done | (L.np.sum(new) > 1.3), b, L.np.where(done, a, new)), done

        (_, a, b), done = L.lax.scan(body, (False, x, 0.5 * x), None, n, reverse=reverse, unroll=2)
        return a - 0.5 * b + 0.1 * done.sum()

    return apply


def over_branches(f: Program, n: int, reverse: bool) -> Callable[[Any, Any], Any]:
    def apply(L: Any, x: Any) -> Any:
        inner = functools.partial(f.apply, L)
        index = (L.np.sum(x) * 3).astype("int32") + n
        picked = L.lax.switch(index, [inner, lambda v: 0.5 * v, lambda v: inner(-v)], x)
        return L.lax.cond(L.np.sum(picked) > 0, lambda: picked, lambda: picked * x if reverse else x)

    return apply


def over_custom_jvp(f: Program, n: int, reverse: bool) -> Callable[[Any, Any], Any]:
    def apply(L: Any, x: Any) -> Any:
        rule = L.fg.custom_jvp(functools.partial(f.apply, L))
        rule.defjvp(lambda primals, tangents: (rule(primals[0]), L.np.cos(primals[0]) * tangents[0]))
        return rule(x)

    return apply


def plain(wrap: Callable[[Any, Callable[[Any], Any], Any], Any]) -> Callable[..., Any]:
    """A block that needs nothing but the function and its argument."""
    return lambda f, n, reverse: lambda L, x: wrap(L, functools.partial(f.apply, L), x)


BLOCKS = {
    "scan": over_scan,
    "buffer": over_buffer,
    "finish": over_finish,
    "branches": over_branches,
    "custom_jvp": over_custom_jvp,
    "map": plain(lambda L, f, x: L.lax.map(f, L.np.stack([x, 0.5 * x, -x])).sum(0) * 0.3),
    "vmap": plain(lambda L, f, x: L.fg.vmap(f)(L.np.stack([x, -x])).sum(0) * 0.5),
    "checkpoint": plain(lambda L, f, x: L.fg.checkpoint(f)(x)),
    "jit": plain(lambda L, f, x: L.fg.jit(f)(x)),
    "grad": plain(lambda L, f, x: L.np.tanh(L.fg.grad(lambda v: L.np.sum(f(v)))(x))),
    "jvp": plain(lambda L, f, x: L.np.tanh(L.fg.jvp(f, (x,), (L.np.cos(x),))[1])),
}

TRANSFORMS = {
    "jit": lambda L, f: L.fg.jit(f),
    "grad": lambda L, f: L.fg.grad(lambda x: L.np.sum(L.np.sin(f(x)))),
    "vmap": lambda L, f: lambda x: L.fg.vmap(f, 1, 1)(L.np.stack([x, 0.5 * x, -0.3 * x], 1)).sum(1),
    "jvp": lambda L, f: lambda x: L.fg.jvp(f, (x,), (L.np.cos(x),))[1],
    "jacfwd": lambda L, f: lambda x: L.fg.jacfwd(f)(x) @ L.np.cos(x),
    "jacrev": lambda L, f: lambda x: L.np.cos(x) @ L.fg.jacrev(f)(x),
    "linearize": lambda L, f: lambda x: L.fg.linearize(f, x)[1](L.np.cos(x)),
    "checkpoint": lambda L, f: L.fg.checkpoint(f, policy=L.fg.checkpoint_policies.dots_saveable),
    "scan": lambda L, f: lambda x: L.lax.scan(lambda c, _: (L.np.tanh(f(c)), None), x, None, 2)[0],
    "cond": lambda L, f: lambda x: L.lax.cond(L.np.sum(x) > 0.1, f, L.np.sin, x),
}


@st.composite
def programs(draw: st.DrawFn, depth: int) -> Program:
    """One to three steps, each an operation or a block around another program."""
    steps: list[Program] = []
    for _ in range(draw(st.integers(1, 2))):
        if depth == 0 or draw(st.booleans()):
            name = draw(st.sampled_from(sorted(LEAVES)))
            steps.append(Program(name, LEAVES[name]))
        else:
            name, n, reverse = draw(st.sampled_from(sorted(BLOCKS))), draw(st.integers(0, 4)), draw(st.booleans())
            inner = draw(programs(depth - 1))
            steps.append(Program(f"{name}[{n}, {reverse}]({inner})", BLOCKS[name](inner, n, reverse)))
    return Program(", ".join(map(repr, steps)), lambda L, x: functools.reduce(lambda v, s: s.apply(L, v), steps, x))


def transformed(L: Any, program: Program, transforms: list[str]) -> Callable[[Any], Any]:
    return functools.reduce(lambda f, t: TRANSFORMS[t](L, f), transforms, functools.partial(program.apply, L))


ARGUMENTS = st.integers(0, 5).map(lambda n: np.cos(np.arange(1, n + 1, dtype=np.float64) * 1.7) * 0.6)
CHAINS = st.lists(st.sampled_from(sorted(TRANSFORMS)), max_size=2)


def compiled(program: Program, transforms: list[str], x: np.ndarray) -> Any:
    # In 64 bits: rounding then moves no value across the steps of floor, nor indices.
    with fg.enable_x64():
        return fg.jit(transformed(OURS, program, transforms))(x)


def check_against_python(program: Program, transforms: list[str], x: np.ndarray) -> None:
    got = compiled(program, transforms, x)
    with fg.enable_x64():
        with fg.disable_jit():
            assert_close(got, transformed(OURS, program, transforms)(jnp.asarray(x)), rtol=1e-9, atol=1e-9)
        with config.override("python_kernels", True):
            assert_close(got, compiled(program, transforms, x), rtol=1e-9, atol=1e-9)


def check_against_jax(program: Program, transforms: list[str], x: np.ndarray) -> None:
    import jax

    got = compiled(program, transforms, x)
    with jax.enable_x64(True):
        want = jax.jit(transformed(library("jax"), program, transforms))(x)
    assert (got.dtype, got.shape, got.weak_type) == (want.dtype, want.shape, want.weak_type)
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-8, atol=1e-8)


@settings(max_examples=25)
@given(programs(2), CHAINS, ARGUMENTS)
def test_compiled_programs_agree_with_python(program, transforms, x):
    check_against_python(program, transforms, x)


@pytest.mark.slow
@given(programs(3), st.lists(st.sampled_from(sorted(TRANSFORMS)), max_size=3), ARGUMENTS)
def test_compiled_programs_agree_with_python_exhaustively(program, transforms, x):
    check_against_python(program, transforms, x)


@pytest.mark.oracle
@settings(max_examples=12)
@given(programs(2), CHAINS, ARGUMENTS)
def test_compiled_programs_agree_with_jax(program, transforms, x):
    check_against_jax(program, transforms, x)


@pytest.mark.slow
@pytest.mark.oracle
@given(programs(3), st.lists(st.sampled_from(sorted(TRANSFORMS)), max_size=3), ARGUMENTS)
def test_compiled_programs_agree_with_jax_exhaustively(program, transforms, x):
    check_against_jax(program, transforms, x)


# ---------------------------------------------------------------- found by longer runs


@pytest.mark.parametrize(
    "f",
    [
        lambda c: (c * jnp.sum(c), jnp.max(c, initial=2.0)),
        lambda c: (c, jnp.zeros((3, 0)) @ c - 1.0),
        lambda c: (c - c @ c, None),
    ],
    ids=["sum", "product", "dot"],
)
def test_loops_fold_empty_arrays(f):
    with fg.enable_x64():
        x = jnp.zeros((0,))
        got = fg.jit(lambda x: lax.scan(lambda c, _: f(c), x, None, length=5))(x)
        with fg.disable_jit():
            assert_close(got, lax.scan(lambda c, _: f(c), x, None, length=5))


def test_loops_stack_a_value_after_a_view_of_it():
    def f(w: Any, x: Any) -> Any:
        def body(c: Any, s: Any) -> Any:
            new = jnp.tanh(c @ w + s)
            return new.sum(0, keepdims=True), (new.reshape(-1), new, new.reshape(1, -1))

        return lax.scan(body, jnp.ones((1, 40)), x)

    w, x = jnp.eye(40) * 0.5, jnp.linspace(-1.0, 1.0, 4)
    with fg.disable_jit():
        want = f(w, x)
    assert_close(fg.jit(f)(w, x), want)


@pytest.mark.parametrize("update", ["set", "add", "max", "multiply"])
@pytest.mark.parametrize("mode", ["drop", "clip"])
def test_writing_into_an_empty_array_writes_nothing(update, mode):
    def f(x: Any, i: Any) -> Any:
        return getattr(x.at[i], update)(0.3, mode=mode)

    assert_close(fg.jit(f)(jnp.zeros(0), 1), f(jnp.zeros(0), 1))


@pytest.mark.parametrize("in_loop", [False, True])
def test_long_chains_become_several_kernels(in_loop):
    """LLVM takes minutes for one kernel of hundreds of functions; several kernels alike are compiled once."""

    def chain(x: Any) -> Any:
        for _ in range(400):
            x = jnp.sin(x) * 1.01
        return x

    def f(x: Any) -> Any:
        return lax.scan(lambda c, _: (chain(c), None), x, None, length=3)[0] if in_loop else chain(x)

    x = jnp.linspace(0.1, 1.0, 33)
    start = time.perf_counter()
    got = fg.jit(f)(x)
    assert time.perf_counter() - start < 20  # a few seconds where nothing else runs; in one kernel, minutes
    want = np.asarray(x, np.float64)
    for _ in range(1200 if in_loop else 400):
        want = np.sin(want) * 1.01
    assert_close(got, want.astype(np.float32), rtol=1e-3, atol=1e-5)
