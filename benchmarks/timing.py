"""Timing of two calls in alternation, so that disturbances of the machine affect both."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.frameworks import Framework

REPETITION_SECONDS = 2e-3


def without_quick(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The words of a command line, and whether `--quick` was among them."""
    return [a for a in arguments if a != "--quick"], "--quick" in arguments


class Times(NamedTuple):
    """Median and quartiles of the repetitions of one framework, in seconds per call."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Times:
        """Compute the median and quartiles of samples."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)


class Row(NamedTuple):
    """A line of the report. `times` are by framework; `ratio` is the median of JAX over that of funcgrad."""

    name: str
    group: str
    times: dict[str, Times]
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The speedup of funcgrad over JAX; None without JAX."""
        if "jax" not in self.times:
            return None
        return self.times["jax"].median / self.times["funcgrad"].median


def seconds_of(fw: Framework, call: Callable[[], Any], n: int, wait: bool) -> float:
    """Return the seconds per call in a loop of `n`, waiting for each call or only for the last one."""
    out = None
    start = time.perf_counter()
    if wait:
        for _ in itertools.repeat(None, n):
            fw.block(call())
    else:
        for _ in itertools.repeat(None, n):
            out = call()
        fw.block(out)
    return (time.perf_counter() - start) / n


def alternate(calls: dict[str, tuple[Framework, Callable[[], Any]]], repetitions: int, wait: bool) -> dict[str, Times]:
    """Time calls in alternation, in alternating order. A repetition is a loop of calls that takes about 2 ms."""
    counts, samples = {}, {name: [] for name in calls}
    for name, (fw, call) in calls.items():
        for _ in range(3):
            fw.block(call())
        once = min(seconds_of(fw, call, 1, True) for _ in range(5))
        counts[name] = max(1, round(REPETITION_SECONDS / once))
    order = list(calls.items())
    for i in range(repetitions):
        for name, (fw, call) in order if i % 2 == 0 else reversed(order):
            samples[name].append(seconds_of(fw, call, counts[name], wait))
    return {name: Times.of(s) for name, s in samples.items()}


def best_in_turns(
    calls: dict[str, Callable[[], Any]], rounds: int, batch_seconds: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the least time of each call, by the given clock: batches of the calls take turns."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start, times = time.perf_counter(), 0
            while times == 0 or time.perf_counter() - start < batch_seconds:
                begin = clock()
                call()
                best[name] = min(best[name], clock() - begin)
                times += 1
    return best
