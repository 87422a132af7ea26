"""Compile times of programs by their length: `python -m benchmarks scaling [words]`; the words select kinds.

Each program is compiled and run once in a new process, without a disk cache; funcgrad and JAX alternate. Times are CPU
times, which other processes disturb least, and include tracing. Memory is the growth of the peak resident set. Run as
a module, this is the child process, which prints its measurements as JSON.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy

from benchmarks import frameworks
from benchmarks.scaling_programs import KINDS, Kind

LENGTHS = (50, 200, 1000, 5000)
QUICK = (50, 200)
TIMEOUT = 900.0  # seconds


class Sample(NamedTuple):
    """CPU seconds of a first call, and the bytes by which the process grew."""

    seconds: float
    bytes: int


def child(framework: str, kind: str, repetitions: int) -> Sample:
    """Call a program for the first time."""
    fw = frameworks.load(framework)
    fw.block(fw.lib.jit(lambda x: 2 * x + 1)(fw.array(numpy.float32(1))))  # loads the compiler
    fun, args = next(k for k in KINDS if k.name == kind).make(fw, repetitions)
    before, start = _peak(), time.process_time()
    fw.block(fun(*args))
    return Sample(time.process_time() - start, _peak() - before)


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(framework: str, kind: Kind, length: int) -> Sample | None:
    """Run `child` in a new process without caches; return None if it takes too long."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "FUNCGRAD_CACHE_DIR": cache, "JAX_PLATFORMS": "cpu"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        repetitions = max(1, round(length / kind.equations))
        command = [sys.executable, "-m", "benchmarks.scaling", framework, kind.name, str(repetitions)]
        try:
            out = subprocess.run(
                command,
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=TIMEOUT,
            ).stdout
        except subprocess.TimeoutExpired:
            return None
    return Sample(*json.loads(out.splitlines()[-1]))


def growth(samples: dict[int, Sample | None]) -> float:
    """The factor by which the time grows when the length doubles, from the two longest programs."""
    (n, a), (m, b) = list(samples.items())[-2:]
    return math.nan if a is None or b is None else (b.seconds / a.seconds) ** (1 / math.log2(m / n))


def lines(names: Sequence[str], lengths: Sequence[int], words: Sequence[str]) -> Iterator[str]:
    """Yield the rows of a Markdown table as they are measured; `words` select kinds."""
    yield (
        "| | equations | "
        + " | ".join(f"{n} s | {n} MiB" for n in names)
        + " | "
        + " | ".join(f"{n} × per doubling" for n in names)
        + " |"
    )
    yield "|---" * (2 + 3 * len(names)) + "|"
    for kind in KINDS:
        if words and not any(w.lower() in kind.name.lower() for w in words):
            continue
        found: dict[str, dict[int, Sample | None]] = {name: {} for name in names}
        for i, length in enumerate(lengths):
            for name in names if i % 2 == 0 else reversed(names):
                found[name][length] = measure(name, kind, length)
            cells = " | ".join(_cell(found[name][length]) for name in names)
            ratios = " | ".join(f"{growth(found[n]):.2f}" if length == lengths[-1] else "" for n in names)
            yield f"| {kind.name} | {length} | {cells} | {ratios} |"


def _cell(sample: Sample | None) -> str:
    return f"{sample.seconds:.2f} | {sample.bytes / 2**20:.0f}" if sample else f"over {TIMEOUT:.0f} | –"


def main(arguments: Sequence[Any]) -> None:
    """The child process."""
    framework, kind, repetitions = arguments
    print(json.dumps(child(framework, kind, int(repetitions))))


if __name__ == "__main__":
    main(sys.argv[1:])
