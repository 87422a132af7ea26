"""The targets llvm and numba and hand-written numba on ten kernels: `python -m benchmarks.numba_target [threads]`.

Each row has the first call, with nothing cached, and calls in alternation. Ratios are to the llvm target: above 1, llvm
is faster. With one thread, times are CPU time, which other processes disturb less.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from benchmarks.report import seconds

N = 1 << 20
ROWS = 1024
STEPS = 10_000
CALLS = 3
parallel = numba.njit(parallel=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
HALF, ONE = np.float32(0.5), np.float32(1)


@parallel
def _axpy(x, y):
    out = np.empty_like(x)
    for i in numba.prange(x.size):
        out[i] = HALF * x[i] + y[i]
    return out


@parallel
def _gelu(x, y):
    out = np.empty_like(x)
    for i in numba.prange(x.size):
        v = x[i]
        out[i] = HALF * v * (ONE + np.tanh(np.float32(0.7978846) * (v + np.float32(0.044715) * v * v * v)))
    return out


@parallel
def _logistic(x, y):
    out = np.empty_like(x)
    for i in numba.prange(x.size):
        out[i] = ONE / (ONE + np.exp(-x[i]))
    return out


@parallel
def _total(x, y):
    total = np.float32(0)
    for i in numba.prange(x.size):
        total += x[i]
    return total


@parallel
def _distance(x, y):
    total = np.float32(0)
    for i in numba.prange(x.size):
        total += (x[i] - y[i]) ** 2
    return np.sqrt(total)


@parallel
def _softmax(a, b):
    out = np.empty_like(a)
    for i in numba.prange(a.shape[0]):
        top, total = a[i, 0], np.float32(0)
        for j in range(a.shape[1]):
            top = max(top, a[i, j])
        for j in range(a.shape[1]):
            out[i, j] = np.exp(a[i, j] - top)
            total += out[i, j]
        for j in range(a.shape[1]):
            out[i, j] /= total
    return out


@parallel
def _column_sums(a, b):
    out = np.zeros(a.shape[1], np.float32)
    for i in range(a.shape[0]):
        out += a[i]
    return out


@parallel
def _transposed(a, b):
    out = np.empty_like(a)
    for i in numba.prange(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[j, i] + b[i, j]
    return out


@numba.njit(error_model="numpy")
def _lorenz(x, y):
    a, b, c = x[0], x[1], x[2]
    h = np.float32(0.01)
    out = np.empty((STEPS, 3), np.float32)
    for i in range(STEPS):
        da, db, dc = np.float32(10) * (b - a), a * (np.float32(28) - c) - b, a * b - np.float32(8 / 3) * c
        a, b, c = a + h * da, b + h * db, c + h * dc
        out[i, 0], out[i, 1], out[i, 2] = a, b, c
    return out


@parallel
def _newton(x, y):
    out = np.empty_like(x)
    for i in numba.prange(x.size):
        target, root = abs(x[i]) + ONE, ONE
        while abs(root * root - target) > np.float32(1e-3) * target:
            root = HALF * (root + target / root)
        out[i] = root
    return out


def _lorenz_step(state: Any) -> Any:
    a, b, c = state
    return fnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


def _root(x: Any) -> Any:
    target = fnp.abs(x) + 1
    far = lambda root: fnp.abs(root * root - target) > 1e-3 * target  # noqa: E731
    return fg.lax.while_loop(far, lambda root: 0.5 * (root + target / root), fnp.ones_like(target))


def _lorenz_path(x: Any, _: Any) -> Any:
    def step(s: Any, _: Any) -> Any:
        s = s + 0.01 * _lorenz_step(s)
        return s, s

    return fg.lax.scan(step, x[:3], None, length=STEPS)[1]


KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Any], bool]] = {
    "0.5 x + y": (lambda x, y: 0.5 * x + y, _axpy, False),
    "GELU": (lambda x, y: 0.5 * x * (1 + fnp.tanh(0.7978846 * (x + 0.044715 * x**3))), _gelu, False),
    "logistic": (lambda x, y: 1 / (1 + fnp.exp(-x)), _logistic, False),
    "sum": (lambda x, y: fnp.sum(x), _total, False),
    "distance": (lambda x, y: fnp.sqrt(fnp.sum((x - y) ** 2)), _distance, False),
    "softmax of rows": (lambda a, b: fg.nn.softmax(a), _softmax, True),
    "sums of columns": (lambda a, b: fnp.sum(a, 0), _column_sums, True),
    "transpose and add": (lambda a, b: a.T + b, _transposed, True),
    "Lorenz, 10,000 steps": (_lorenz_path, _lorenz, False),
    "square roots by Newton": (lambda x, y: fg.vmap(_root)(x), _newton, False),
}


def main(threads: int) -> None:
    """Print the table; 0 means all threads."""
    clock = time.process_time if threads == 1 else time.perf_counter
    if threads:
        fg.config.update("num_threads", threads)
        numba.set_num_threads(threads)
    rng = np.random.default_rng(0)
    flat = [rng.standard_normal(N).astype(np.float32) for _ in range(2)]
    square = [x.reshape(ROWS, -1) for x in flat]
    print("| 2^20 float32 | first call: llvm | numba | by hand | a call: llvm | numba / llvm | by hand / llvm |")
    print("|---|---|---|---|---|---|---|")
    for name, (f, by_hand, matrix) in KERNELS.items():
        given = square if matrix else flat
        arrays = [fnp.asarray(x) for x in given]
        calls = {
            "llvm": functools.partial(fg.jit(f), *arrays),
            "numba": functools.partial(fg.jit(f, target="numba"), *arrays),
            "by hand": functools.partial(by_hand, *given),
        }
        first, times = {}, {which: [] for which in calls}
        for which, call in calls.items():
            start = clock()
            call()
            first[which] = clock() - start
        for i in range(31):
            for which in calls if i % 2 else reversed(calls):
                start = clock()
                for _ in range(CALLS):
                    calls[which]()
                times[which].append((clock() - start) / CALLS)
        median = {which: float(np.median(t)) for which, t in times.items()}
        ratios = [f"{median[which] / median['llvm']:.2f}" for which in ("numba", "by hand")]
        cells = [*(seconds(t) for t in first.values()), seconds(median["llvm"]), *ratios]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        os.environ["FUNCGRAD_CACHE_DIR"] = empty
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
