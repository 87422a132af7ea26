"""How long programs take to compile, by their length: `python -m benchmarks scaling`, and words for some kinds.

Each program is compiled and run once in a process of its own, without a cache on disk; funcgrad and JAX in alternation.
Times are of the processor, which other programs on the machine disturb least, and include tracing. Memory is by how
much the process has grown at most. Run as a module this is the child process, which prints what it measured as JSON.
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
PATIENCE = 900.0  # seconds


class Sample(NamedTuple):
    """Processor seconds of a first call, and the bytes by which it made the process grow."""

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
    """Run `child` in a new process with nothing cached; None when it takes too long."""
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
                timeout=PATIENCE,
            ).stdout
        except subprocess.TimeoutExpired:
            return None
    return Sample(*json.loads(out.splitlines()[-1]))


def growth(samples: dict[int, Sample | None]) -> float:
    """By what factor the time grows when the length doubles, between the two longest programs."""
    (n, a), (m, b) = list(samples.items())[-2:]
    return math.nan if a is None or b is None else (b.seconds / a.seconds) ** (1 / math.log2(m / n))


def lines(names: Sequence[str], lengths: Sequence[int], words: Sequence[str]) -> Iterator[str]:
    """The rows of a Markdown table, as they are measured; `words` choose kinds."""
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
    return f"{sample.seconds:.2f} | {sample.bytes / 2**20:.0f}" if sample else f"over {PATIENCE:.0f} | –"


def main(arguments: Sequence[Any]) -> None:
    """The child process."""
    framework, kind, repetitions = arguments
    print(json.dumps(child(framework, kind, int(repetitions))))


if __name__ == "__main__":
    main(sys.argv[1:])
