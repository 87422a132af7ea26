"""The cost of compilation does not depend on the size of arrays, nor its stack depth on the length of the program.

Operations are counted and memory is measured; nothing is timed.
"""

from __future__ import annotations

import functools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import growth
import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import debug_nans, lax, nn, random

F32 = np.dtype(np.float32)
SMALL, LARGE = 10**2, 10**7
# Rows from 2¹⁵ elements on are sorted by more kernels than shorter ones, in number bounded by the size of a key.
SMALLEST_OF_ITS_FORM = {"sorting": 10**5, "gradient of sorting": 10**5}


def vector(n: int) -> Any:
    return fg.ShapeDtypeStruct((n,), F32)


def rows(n: int) -> Any:
    return fg.ShapeDtypeStruct((n // 10, 10), F32)


def square(n: int) -> Any:
    return fg.ShapeDtypeStruct((math.isqrt(n), math.isqrt(n)), F32)


def adam_or_skip(g: Any) -> Any:
    return lax.cond(fnp.isfinite(g).all(), lambda m: (0.9 * m + g, g - m), lambda m: (m, g), 0 * g)


def positions(x: Any) -> Any:
    return fnp.arange(x.shape[0])[::-1]


def scanned(x: Any) -> Any:
    return lax.scan(lambda c, v: (c * 1.1 + v, c * v), x[0], x)


# ---------------------------------------------------------------- sizes

PROGRAMS: dict[str, tuple[Callable[[Any], Any], Callable[[int], Any]]] = {
    # branches and loops
    "cond": (lambda x: lax.cond(x[0] > 0, lambda x: x * 2, lambda x: x - 1, x), vector),
    "cond that returns its operand": (lambda x: lax.cond(x[0] > 0, lambda x: x, lambda x: x - 1, x), vector),
    "cond of zeros": (lambda x: lax.cond(x[0] > 0, fnp.zeros_like, lambda x: x - 1, x), vector),
    "switch": (lambda x: lax.switch(x[0].astype(int), [lambda x: x * 2, lambda x: x - 1, fnp.sin], x), vector),
    "cond of numbers": (lambda x: lax.cond(x[0] > 0, fnp.sum, fnp.max, x), vector),
    "gradient of cond": (fg.grad(lambda x: lax.cond(x[0] > 0, lambda x: x * x, fnp.sin, x).sum()), vector),
    "vmap of cond": (fg.vmap(lambda x: lax.cond(x > 0, fnp.sin, fnp.cos, x)), vector),
    "an update or none": (adam_or_skip, vector),
    "cond in scan": (
        lambda x: lax.scan(lambda c, i: (lax.cond(i > 2, lambda c: c * 2, fnp.sin, c), i), x, fnp.arange(5)),
        vector,
    ),
    "scan": (lambda x: lax.scan(lambda c, _: (c * 1.1 + 1, c.sum()), x, None, length=5), vector),
    "scan over elements": (scanned, vector),
    "scan over rows": (scanned, rows),
    "gradient of scan": (fg.grad(lambda x: scanned(x)[0]), vector),
    "vmap of scan": (fg.vmap(lambda x: lax.scan(lambda c, _: (c * 1.1, c), x, None, length=5)), vector),
    "while": (lambda x: lax.while_loop(lambda c: c.sum() < 5, lambda c: c * 1.1 + 1, x), vector),
    "vmap of while": (fg.vmap(lambda x: lax.while_loop(lambda c: c < 5, lambda c: c * 1.1 + 1, x)), vector),
    "written elements": (lambda x: lax.fori_loop(0, 1000, lambda i, c: c.at[i].set(i), x), vector),
    "map": (lambda x: lax.map(lambda v: v / v.sum(), x), rows),
    # constants, positions, masks
    "zeros and ones": (lambda x: x * (fnp.ones(x.shape) * 2 + fnp.zeros(x.shape)), vector),
    "a constant result": (lambda x: (fnp.ones(x.shape), fnp.full(x.shape, True)), vector),
    "iota": (lambda x: fnp.arange(x.shape[0]) * x + fnp.linspace(0, 1, x.shape[0]), vector),
    "identity matrix": (lambda x: fnp.eye(x.shape[0]) @ fnp.tril(x), square),
    "one hot": (lambda x: nn.one_hot(x[:3].astype(int), x.shape[0]), vector),
    # movement
    "joins": (lambda x: fnp.concatenate([x, x[:5]]), vector),
    "joins of many": (lambda x: fnp.stack([x] * 20), vector),
    "roll and pad": (lambda x: fnp.pad(fnp.roll(x, 3), 2), vector),
    "slices": (lambda x: x[::3] + x[::-3], vector),
    "gradient of slices": (fg.grad(lambda x: fnp.sin(x[::3]).sum()), vector),
    "transposition": (lambda x: (x.T * 2).ravel(), rows),
    "repetition": (lambda x: (fnp.tile(x, 3), fnp.repeat(x, 3)), vector),
    "take": (lambda x: x[positions(x)], vector),
    "gradient of take": (fg.grad(lambda x: fnp.sin(x[positions(x)]).sum()), vector),
    "scatter": (lambda x: x.at[positions(x) % 5].add(1.0), vector),
    "windows": (lambda x: lax.dynamic_update_slice(x, x[:9], (x[0].astype(int),)), vector),
    # folds, scans, order
    "sums": (lambda x: (x.sum(), x.sum(0), x.sum(1), x.mean(), x.var(0)), rows),
    "softmax": (lambda x: (nn.softmax(x), nn.softmax(x.ravel())), rows),
    "cumsum": (lambda x: (fnp.cumsum(x, 0), lax.cumsum(x, 1, reverse=True), lax.cummax(x)), rows),
    "gradient of cumsum": (fg.grad(lambda x: fnp.sin(fnp.cumsum(x)).sum()), vector),
    "sorting": (lambda x: (fnp.sort(x), fnp.argsort(x), fnp.median(x), lax.top_k(x, 3), fnp.argmax(x)), vector),
    "gradient of sorting": (fg.grad(lambda x: (fnp.sort(x) * x).sum()), vector),
    "sets": (lambda x: (fnp.unique(x, size=5), fnp.nonzero(x, size=5), fnp.bincount(x.astype(int), length=9)), vector),
    "histogram": (lambda x: fnp.histogram(x), vector),
    # products, random numbers, the rest
    "products": (lambda x: (x @ x, x @ x[0], fnp.einsum("ij,kj->ik", x, x), fnp.outer(x[0], x[1])), square),
    "convolution": (lambda x: fnp.convolve(x, fnp.ones(5)), vector),
    "gradient of convolution": (fg.grad(lambda x: (fnp.convolve(x, fnp.ones(5)) ** 2).sum()), vector),
    "random numbers": (lambda x: random.normal(random.key(0), x.shape) + x, vector),
    "numbers of other kinds": (lambda x: (abs(x * 1j + 2), x.astype("float16") * 2, x > 0, x.astype("int8")), vector),
    "checkpoint": (fg.grad(lambda x: fg.checkpoint(fnp.sin)(x).sum()), vector),
    "second derivatives": (fg.grad(lambda x: fg.grad(lambda x: (x**3).sum())(x).sum()), vector),
}


def compiled(function: Callable[[Any], Any], x: Any) -> None:
    fg.jit(lambda x: function(x)).lower(x).compile()


@pytest.mark.parametrize("name", PROGRAMS)
def test_compilation_does_not_depend_on_sizes(name: str) -> None:
    function, argument = PROGRAMS[name]
    counts, peaks = [], []
    for n in (SMALLEST_OF_ITS_FORM.get(name, SMALL), LARGE):
        compiled(function, argument(n))  # fills caches
        counts.append(growth.calls(compiled, function, argument(n)))
        tracemalloc.start()
        compiled(function, argument(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Small and large arrays may take other forms; none does something for every element.
    assert counts[1] <= 2 * counts[0] + 1000
    assert peaks[1] <= 2 * peaks[0] + 100_000


# ---------------------------------------------------------------- lengths


def repeated(step: Callable[[Any, int], Any]) -> Callable[[int], Callable[[Any], Any]]:
    return lambda n: lambda x: functools.reduce(step, range(n), x)


def appended(n: int) -> Callable[[Any], Any]:
    return lambda x: functools.reduce(lambda c, _: fnp.append(c, c[:1] * 2), range(n), x[0])


def products_and_cheap_steps(n: int) -> Callable[[Any], Any]:
    """Cheap functions of stored values, which sinking looks through."""
    steps = repeated(lambda c, i: c * 1.01 + i)(n)

    def f(x: Any) -> Any:
        y = steps(x @ x.T)
        return y.T @ y + steps(y)

    return f


LONG: dict[str, Callable[[int], Callable[[Any], Any]]] = {
    "elementwise": repeated(lambda c, i: fnp.sin(c) * 1.01 + i),
    "views": repeated(lambda c, _: fnp.flip(c.T, 0)[:, ::-1]),
    "views of a product": lambda n: lambda x: repeated(lambda c, _: fnp.flip(c.T, 0))(n)(x @ x.T) @ x,
    "barriers": repeated(lambda c, _: lax.optimization_barrier(c)),
    "views behind barriers": repeated(lambda c, _: lax.optimization_barrier(c)[::-1]),
    "selections": repeated(lambda c, i: fnp.where(c > i, c * 2, c + 1)),
    "updates": repeated(lambda c, i: c.at[i % 3].set(2 * c[(i + 1) % 3])),
    "joins": repeated(lambda c, _: fnp.concatenate([c[1:], 0.5 * c[:1]])),
    "appends": appended,
    "a join": lambda n: lambda x: fnp.stack([x[i % 3] * i for i in range(n)]),
    "products": products_and_cheap_steps,
    "jits": repeated(lambda c, i: fg.jit(lambda c: fnp.sin(c) + i)(c)),
    "loops": repeated(lambda c, _: lax.scan(lambda c, _: (c * 1.1, None), c, None, length=3)[0]),
    "branches": repeated(lambda c, i: lax.cond(c[0, 0] > i, lambda c: c * 1.1, lambda c: c - 1, c)),
    "a loop": lambda n: (
        lambda x: lax.fori_loop(
            0, 3, lambda i, c: repeated(lambda c, i: fnp.concatenate([c[1:], c[:1] * 1.01 + i]))(n)(c), x[0]
        )
    ),
    "numbers": lambda n: lambda x: sum(x[i % 3, i % 4] * x[0, 0] for i in range(n)),
}
X = fnp.asarray(np.random.default_rng(0).normal(size=(3, 4)).astype(F32))


def _with_debug_nans(f: Callable[[Any], Any]) -> None:
    with debug_nans(True):
        fg.jit(f)(X)


STAGES: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "program": lambda f: fg.jit(f)(X),
    "text": lambda f: [fg.jit(f).lower(X).as_text(stage) for stage in ("jaxpr", "kernels")],
    "gradient": lambda f: fg.jit(fg.grad(lambda x: f(x).sum()))(X),
    "eager gradient": lambda f: fg.grad(lambda x: f(x).sum())(X),
    "vmap of jvp": lambda f: fg.jit(fg.vmap(lambda x: fg.jvp(f, (x,), (x,))))(X[None]),
    "linearization": lambda f: fg.linearize(f, X)[1](X),
    "debug_nans": _with_debug_nans,
}


@pytest.mark.parametrize("name", LONG)
def test_the_stack_does_not_grow_with_the_program(name: str) -> None:
    for stage, run in STAGES.items():
        run(LONG[name](2))  # imports what is imported when first used
        few, many = (growth.depth(run, LONG[name](n)) for n in (3, 30))
        # A recursion would add a frame or more for each of the 27 further steps.
        assert many <= few + 16, f"{stage}: {few} frames for 3 steps, {many} for 30"
