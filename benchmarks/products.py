"""Matrix products: `python -m benchmarks.products [words]` against JAX and, where it is installed, `torch.compile`.

Each row is the best of several batches that alternate between the libraries, in milliseconds, and the others' time over
funcgrad's. `FUNCGRAD_NUM_THREADS=1 taskset -c 0 …` compares one core, in the process's CPU time.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from benchmarks.frameworks import load
from benchmarks.timing import best_in_turns, without_quick

ROUNDS, BATCH_SECONDS = 10, 0.01
ONE_CORE = len(os.sched_getaffinity(0)) == 1 if hasattr(os, "sched_getaffinity") else False


class Case(NamedTuple):
    """A product in NumPy's notation, and whether its gradient by all arguments is meant."""

    name: str
    product: Callable[..., Any]
    arguments: tuple[numpy.ndarray, ...]
    gradient: bool = False


LAYOUTS: dict[str, Callable[[Any, Any], Any]] = {
    "a @ b": lambda a, b: a @ b,
    "a @ bᵀ": lambda a, b: a @ b.swapaxes(-1, -2),
    "aᵀ @ b": lambda a, b: a.swapaxes(-1, -2) @ b,
    "aᵀ @ bᵀ": lambda a, b: a.swapaxes(-1, -2) @ b.swapaxes(-1, -2),
}


def cases() -> list[Case]:
    """Return all cases."""
    rng = numpy.random.default_rng(0)

    def floats(*shape: int) -> numpy.ndarray:
        return rng.standard_normal(shape, numpy.float32)

    def integers(dtype: str, *shape: int) -> numpy.ndarray:
        return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)

    found = []
    for n in (2, 3, 4, 8, 16, 32, 64):
        batch = min(10_000, 10_000 * 8**3 // n**3)
        a, b = floats(batch, n, n), floats(batch, n, n)
        found += [Case(f"{batch} × {n}², {layout}", product, (a, b)) for layout, product in LAYOUTS.items()]
        found += [Case(f"{batch} × {n}², gradient", LAYOUTS["a @ b"], (a, b), True)]
        found += [Case(f"{batch} × {n}², vector", lambda a, b: a @ b, (a, floats(batch, n, 1)))]
        found += [Case(f"{batch} × {n}², one for all", lambda a, b: a @ b, (a, floats(n, n)))]
    for dtype in ("bool", "int8", "int16", "int32", "float16"):
        for n in (64, 256, 1024) if dtype in ("int32", "float16") else (64, 256):
            found.append(Case(f"{dtype} {n}²", LAYOUTS["a @ b"], (integers(dtype, n, n), integers(dtype, n, n))))
    found += [Case(f"{n}²", LAYOUTS["a @ b"], (floats(n, n), floats(n, n))) for n in (64, 256, 512, 1024)]
    return found


def _calls(case: Case) -> dict[str, Callable[[], Any]]:
    calls: dict[str, Callable[[], Any]] = {}
    for fw in map(load, ("funcgrad", "jax")):
        function = case.product
        if case.gradient:
            function = fw.lib.grad(lambda a, b, fw=fw: fw.np.sum(fw.np.sin(case.product(a, b))), (0, 1))
        compiled, given = fw.lib.jit(function), [fw.array(a) for a in case.arguments]
        calls[fw.name] = lambda f=compiled, a=given, fw=fw: fw.block(f(*a))
    if importlib.util.find_spec("torch") is not None and case.arguments[0].dtype != bool:
        import torch

        if ONE_CORE:
            torch.set_num_threads(1)
        function = case.product
        if case.gradient:
            function = torch.func.grad(lambda a, b: torch.sum(torch.sin(case.product(a, b))), (0, 1))
        compiled, given = torch.compile(function), [torch.from_numpy(a) for a in case.arguments]
        calls["torch"] = lambda: compiled(*given)
    return calls


def table(cases: list[Case], words: Sequence[str]) -> None:
    """Print the table of the cases whose names have all words."""
    clock = time.process_time if ONE_CORE else time.perf_counter
    print(f"load {os.getloadavg()[0]:.1f}\n{'':26}{'funcgrad':>10}{'JAX':>10}{'ratio':>8}{'torch':>10}{'ratio':>8}")
    words, quick = without_quick(words)
    for case in cases:
        if not all(word in case.name for word in words):
            continue
        t = best_in_turns(_calls(case), 3 if quick else ROUNDS, BATCH_SECONDS, clock)
        ours = t["funcgrad"]
        others = "".join(f"{t[n] * 1e3:10.3f}{t[n] / ours:8.2f}" for n in ("jax", "torch") if n in t)
        print(f"{case.name:26}{ours * 1e3:10.3f}{others}", flush=True)


if __name__ == "__main__":
    table(cases(), sys.argv[1:])
