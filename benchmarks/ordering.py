"""Running folds, sorting and searching: `python -m benchmarks.ordering [words]` against JAX, NumPy in the last column.

Each row is the best of several batches that alternate between the libraries, in milliseconds, and JAX's and NumPy's
time over funcgrad's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from benchmarks.frameworks import Framework, load
from benchmarks.timing import best_in_turns, without_quick

ROUNDS, BATCH_SECONDS = 12, 0.02


class Case(NamedTuple):
    """A program for each library, its NumPy equivalent, and its arguments."""

    name: str
    program: Callable[[Framework], Callable[..., Any]]
    by_numpy: Callable[..., Any]
    arguments: tuple[numpy.ndarray, ...]


def cases() -> list[Case]:
    """Return all cases."""
    rng = numpy.random.default_rng(0)
    square, long = rng.standard_normal((1000, 1000), numpy.float32), rng.standard_normal(1_000_000, numpy.float32)
    rows, queries = rng.standard_normal((200, 2000), numpy.float32), rng.standard_normal(1_000_000, numpy.float32)
    integers = rng.integers(0, 1 << 30, 1_000_000).astype(numpy.int32)
    short = rng.standard_normal((20_000, 16), numpy.float32)
    table = numpy.sort(rng.standard_normal(1000).astype(numpy.float32))
    edges = numpy.linspace(-4, 4, 101, dtype=numpy.float32)

    def np_case(name: str, call: Callable[..., Any], *arguments: numpy.ndarray) -> Case:
        return Case(name, lambda fw: lambda *a: call(fw.np, *a), lambda *a: call(numpy, *a), arguments)

    def lax_case(name: str, function: str, by_numpy: Callable[..., Any], x: numpy.ndarray, *rest: Any) -> Case:
        return Case(name, lambda fw: lambda a: getattr(fw.lib.lax, function)(a, *rest), by_numpy, (x,))

    def extremes(k: int) -> Callable[..., Any]:
        return lambda a: numpy.partition(a, a.shape[-1] - k, axis=-1)[..., -k:]

    return [
        np_case("copy 1000²", lambda np, a: a + 1, square),
        np_case("cumsum 1000², rows", lambda np, a: np.cumsum(a, 1), square),
        np_case("cumsum 1000², columns", lambda np, a: np.cumsum(a, 0), square),
        np_case("cumsum 10⁶", lambda np, a: np.cumsum(a), long),
        np_case("cumprod 1000², rows", lambda np, a: np.cumprod(a, 1), square),
        lax_case("cummax 1000², rows", "cummax", lambda a: numpy.maximum.accumulate(a, 1), square, 1),
        lax_case("cumlogsumexp 10⁶", "cumlogsumexp", numpy.logaddexp.accumulate, long),
        np_case("sort 200×2000", lambda np, a: np.sort(a, -1), rows),
        np_case("sort 200×2000, columns", lambda np, a: np.sort(a, 0), rows),
        np_case("sort 20000×16", lambda np, a: np.sort(a, -1), short),
        np_case("sort 10⁶", lambda np, a: np.sort(a), long),
        np_case("sort 10⁶ int32", lambda np, a: np.sort(a), integers),
        np_case("argsort 200×2000", lambda np, a: np.argsort(a, -1), rows),
        np_case("argsort 10⁶", lambda np, a: np.argsort(a), long),
        np_case("lexsort 10⁶", lambda np, a, b: np.lexsort((a, b)), long, integers & 1023),
        lax_case("top_k 10⁶, k=10", "top_k", extremes(10), long, 10),
        lax_case("top_k 1000², k=10", "top_k", extremes(10), square, 10),
        lax_case("top_k 1000², k=500", "top_k", extremes(500), square, 500),
        np_case("searchsorted 10⁶ in 1000", lambda np, a, v: np.searchsorted(a, v), table, queries),
        np_case("digitize 10⁶ in 100", lambda np, v, a: np.digitize(v, a), queries, edges),
        np_case("histogram 10⁶ in 100", lambda np, v, a: np.histogram(v, a)[0], queries, edges),
        np_case("interp 10⁶ in 1000", lambda np, v, a: np.interp(v, a, a), queries, table),
    ]


def table(cases: list[Case], words: list[str], clock: Callable[[], float] = time.perf_counter) -> None:
    """Print the table of the cases whose names have all words, by wall time or by the given clock."""
    print(f"load {os.getloadavg()[0]:.1f}\n{'':26}{'funcgrad':>10}{'JAX':>10}{'ratio':>8}{'NumPy':>10}{'ratio':>8}")
    words, quick = without_quick(words)
    for case in cases:
        if not all(word in case.name for word in words):
            continue
        calls: dict[str, Callable[[], Any]] = {"numpy": lambda case=case: case.by_numpy(*case.arguments)}
        for fw in map(load, ("funcgrad", "jax")):
            compiled, given = fw.lib.jit(case.program(fw)), [fw.array(a) for a in case.arguments]
            calls[fw.name] = lambda f=compiled, a=given, fw=fw: fw.block(f(*a))
        t = best_in_turns(calls, 3 if quick else ROUNDS, BATCH_SECONDS, clock)
        ours = t["funcgrad"]
        others = "".join(f"{t[n] * 1e3:10.3f}{t[n] / ours:8.2f}" for n in ("jax", "numpy") if n in t)
        print(f"{case.name:26}{ours * 1e3:10.3f}{others}", flush=True)


if __name__ == "__main__":
    table(cases(), sys.argv[1:])
