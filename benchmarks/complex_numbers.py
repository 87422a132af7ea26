"""Complex numbers: `python -m benchmarks.complex_numbers [words]` against JAX, NumPy in the last column.

Rows are those of `benchmarks.ordering`, in processor time. Loops have no equivalent in NumPy: there, the last column is
a copy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.frameworks import Framework
from benchmarks.ordering import Case, table


def _wave(np: Any, x: Any, y: Any) -> Any:
    return np.exp(1j * x) * y / (1 + np.abs(y))


def _demodulated(np: Any, x: Any, y: Any) -> Any:
    """The power of a signal at a frequency: shifted to 0, averaged over 16 samples."""
    shifted = x * np.exp(0.3j * np.arange(len(x)).astype(np.complex64))
    return np.abs(np.convolve(shifted, y[:16], "same")) ** 2


def _escape(fw: Framework, points: Any) -> Any:
    """The number of steps after which z² + c leaves the disk, for each c."""

    def steps(c: Any) -> Any:
        inside = lambda s: (fw.np.abs(s[0]) < 2) & (s[1] < 50)  # noqa: E731
        return fw.lib.lax.while_loop(inside, lambda s: (s[0] * s[0] + c, s[1] + 1), (c * 0, 0))[1]

    return fw.lib.vmap(steps)(points)


def cases() -> list[Case]:
    """Return all cases."""
    rng = numpy.random.default_rng(0)

    def numbers(*shape: int) -> numpy.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(numpy.complex64)

    x, y, square, few = numbers(10**6), numbers(10**6), numbers(1000, 1000), numbers(100_000)
    places = rng.integers(0, 10**6, 10**6).astype(numpy.int32)

    def np_case(name: str, call: Callable[..., Any], *arguments: numpy.ndarray) -> Case:
        return Case(name, lambda fw: lambda *a: call(fw.np, *a), lambda *a: call(numpy, *a), arguments)

    def loop(name: str, call: Callable[..., Any], *arguments: numpy.ndarray) -> Case:
        return Case(name, lambda fw: lambda *a: call(fw, *a), lambda a: a.copy(), arguments)

    def scatter(fw: Framework) -> Callable[..., Any]:
        return lambda x, i, y: x.at[i].add(y)

    def added(x: numpy.ndarray, i: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
        out = x.copy()
        numpy.add.at(out, i, y)
        return out

    def recurrence(fw: Framework, x: Any) -> Any:
        return fw.lib.lax.scan(lambda c, a: (c * 0.5j + a, c * fw.np.conj(a)), x[0], x)

    def updates(fw: Framework, x: Any) -> Any:
        return fw.lib.lax.fori_loop(1, 10_000, lambda i, a: a.at[i].set(a[i - 1] * 0.5j + a[i]), x)

    return [
        np_case("product", lambda np, x, y: x * y, x, y),
        np_case("polynomial", lambda np, x, y: x * y + 2 * x - 1j * y, x, y),
        np_case("quotient", lambda np, x, y: x / y, x, y),
        np_case("wave", _wave, x, y),
        *(np_case(name, lambda np, x, name=name: getattr(np, name)(x), x) for name in ("abs", "angle", "sqrt", "log")),
        *(np_case(name, lambda np, x, name=name: getattr(np, name)(x), x) for name in ("sin", "tanh", "arcsin")),
        np_case("power", lambda np, x, y: x**y, x, y),
        np_case("sum", lambda np, x: np.sum(x), x),
        np_case("sum of columns", lambda np, x: np.sum(x, 0), square),
        np_case("prod", lambda np, x: np.prod(x), x),
        np_case("vdot", lambda np, x, y: np.sum(np.conj(x) * y), x, y),
        np_case("cumsum", lambda np, x: np.cumsum(x), x),
        np_case("sort, 10⁵", lambda np, x: np.sort(x), few),
        np_case("transpose", lambda np, x: 2 * x.T, square),
        np_case("product of matrices, 500²", lambda np, x: x @ x, numbers(500, 500)),
        np_case("gather", lambda np, x, i: x[i], x, places),
        Case("scatter add", scatter, added, (x, places, y)),
        np_case("signal chain, 10⁵", _demodulated, few, numpy.full(16, 1 / 16, numpy.complex64)),
        loop("scan, 10⁵", recurrence, few),
        loop("loop of one element", updates, few),
        loop("lanes of while, 10⁵", _escape, few),
    ]


if __name__ == "__main__":
    table(cases(), sys.argv[1:], time.process_time)
