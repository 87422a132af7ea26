"""The cost of calling numba code: `python -m benchmarks.native_calls` times loops with and without such a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp

ITERATIONS = 100_000


@numba.njit
def _halve(x, out):
    for i in range(x.size):
        out[i] = x[i] / np.float32(2) + np.float32(1)


@numba.njit
def _halve_number(x):
    return x / np.float32(2) + np.float32(1)


@numba.njit(error_model="numpy")
def _softsign(x):
    return x / (np.float32(1) + abs(x))


def best_of(call: Callable[[], Any], repetitions: int = 20) -> float:
    """Return the shortest time of a call in seconds."""
    call()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def calls() -> None:
    """Print the nanoseconds per iteration of a loop over 8 numbers."""
    native = fg.njit_op(_halve, shape=lambda x: x)
    elementwise = fg.njit_op(_halve_number, elementwise=True)
    host = fg.primitive("halve", shape=lambda x: x, evaluate=lambda x: x / 2 + 1)
    x = fnp.arange(8.0)
    print("| an iteration of a loop over 8 numbers | ns |\n|---|---|")
    for name, iterations, body in (
        ("without a call: one kernel over scalars", ITERATIONS, lambda v: v / 2 + 1),
        ("without a call: a matrix product keeps the loop a program", ITERATIONS, lambda v: v @ EYE),
        ("njit_op on an array", ITERATIONS, native),
        ("njit_op on an array, and the product", ITERATIONS, lambda v: native(v) @ EYE),
        ("njit_op on elements", ITERATIONS, elementwise),
        ("a primitive evaluated by NumPy", ITERATIONS // 100, host),
    ):
        loop = fg.jit(lambda x, n=iterations, f=body: fg.lax.fori_loop(0, n, lambda i, v: f(v), x))
        print(f"| {name} | {best_of(lambda loop=loop: loop(x)) / iterations * 1e9:.1f} |", flush=True)


def elements() -> None:
    """Print the microseconds for a million numbers on one thread."""
    x = fnp.linspace(-3.0, 3.0, 1 << 20)
    print("\n| softsign of 2^20 float32, one thread | µs |\n|---|---|")
    with fg.config.override("num_threads", 1):
        for name, f in (
            ("njit_op on elements", fg.njit_op(_softsign, elementwise=True)),
            ("funcgrad.numpy", lambda x: x / (1 + fnp.abs(x))),
        ):
            compiled = fg.jit(f)
            print(f"| {name} | {best_of(lambda g=compiled: g(x)) * 1e6:.0f} |", flush=True)


EYE = fnp.eye(8) * 0.5

if __name__ == "__main__":
    calls()
    elements()
