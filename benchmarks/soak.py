"""Memory over time: `python -m benchmarks.soak` calls one function a million times, and compiles 300 functions."""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Sequence

import funcgrad as fg
import funcgrad.numpy as fnp


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _line(what: str, count: int, start: float) -> None:
    print(f"| {what} | {count:,} | {resident():.1f} | {time.perf_counter() - start:.1f} |", flush=True)


def calls(total: int) -> None:
    """Call one jitted function `total` times, and print the memory after each quarter."""
    fun, x = fg.jit(lambda x: fnp.tanh(x) * 2 + 1), fnp.arange(1000.0)
    for _ in range(1000):
        fun(x)
    start = time.perf_counter()
    _line("calls of one function", 1000, start)
    for quarter in range(1, 5):
        for _ in range(total // 4):
            fun(x)
        _line("calls of one function", 1000 + quarter * (total // 4), start)


def functions(total: int) -> None:
    """Compile `total` functions without common kernels, then delete them."""
    start, x = time.perf_counter(), fnp.arange(1000.0)
    _line("distinct functions", 0, start)
    alive = []
    for i in range(total):
        alive.append(fg.jit(_distinct(i)))
        alive[-1](x)
        if (i + 1) % (total // 3) == 0:
            _line("distinct functions", i + 1, start)
    compiled = sum(f.cache_info().kernels_compiled for f in alive)

    alive.clear()
    _line(f"after deleting them; {compiled} kernels were compiled", 0, start)


def _distinct(number: int) -> Callable[..., fg.Array]:
    """A function with a distinct kernel for each number: a chain of operations given by its digits in base 4."""
    operations = (fnp.tanh, fnp.exp, fnp.sin, lambda x: x * x)

    def fun(x: fg.Array) -> fg.Array:
        n = number + 4
        while n:
            n, digit = divmod(n, 4)
            x = operations[digit](x) + digit
        return x

    return fun


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table of both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--functions", type=int, default=300)
    options = parser.parse_args(arguments)
    print("| what | count | resident MiB | seconds |\n|---|---|---|---|")
    calls(options.calls)
    functions(options.functions)


if __name__ == "__main__":
    main()
