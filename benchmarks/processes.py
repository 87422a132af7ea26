"""The cases that need a new process: import, and compilation without a cache, from a disk cache, and for a new shape.

Run as a module, this is the child process: `python -m benchmarks.processes <framework> <program>` prints its
measurements as JSON. The child processes of the frameworks alternate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.timing import Row, Times

PROGRAMS = ("MLP step", "softmax gradient", "chain of 20 operations")
IMPORT = "import"
_SAMPLES = ("first call", "first call and import", "new batch size")
NAMES = (IMPORT, *PROGRAMS)

# ---------------------------------------------------------------- the child


def child(framework: str, program: str, cache: str) -> dict[str, float]:
    """Import a framework, call a program, then call it with another batch size; return the seconds of each."""
    start = time.perf_counter()
    from benchmarks import frameworks  # includes the time of the first import of NumPy

    fw = frameworks.load(framework)
    result = {IMPORT: time.perf_counter() - start}
    if framework == "jax" and cache:
        fw.lib.config.update("jax_compilation_cache_dir", cache)
        fw.lib.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        fw.lib.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if program:
        fun, *calls = _prepared(fw, program)
        for name, args in zip(("first call", "new batch size"), calls, strict=True):
            before = time.perf_counter()
            fw.block(fun(*args))
            result[name] = time.perf_counter() - before
            if framework == "funcgrad":
                result[f"kernels after {name}"] = fun.cache_info().kernels_compiled
        result["first call and import"] = result["first call"] + result[IMPORT]
    return result


def _prepared(fw: Any, program: str) -> tuple[Callable[..., Any], Sequence[Any], Sequence[Any]]:
    """Return a jitted program, its arguments, and arguments with another batch size, without compiling anything."""
    from benchmarks import programs

    if program == "MLP step":
        params = programs.mlp_params(fw)
        state = (params, programs.zeros_like(fw, params))
        return programs.mlp_step(fw), (*state, *programs.batch(fw, 128)), (*state, *programs.batch(fw, 96))
    if program == "softmax gradient":
        fun = fw.lib.jit(programs.weighted_sum_gradient(fw, programs.softmax(fw), 1))
        return fun, *([fw.array(programs.normal(n, 256, seed=s)) for s in (0, 1)] for n in (512, 384))
    return fw.lib.jit(programs.chain(fw)), *([fw.array(programs.normal(n))] for n in (10_000, 12_000))


# ---------------------------------------------------------------- the parent


def spawn(framework: str, program: str = "", cache: str = "") -> dict[str, float]:
    """Run `child` in a new process. Without `cache`, funcgrad gets an empty temporary directory."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "FUNCGRAD_CACHE_DIR": cache or empty, "JAX_PLATFORMS": "cpu"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [sys.executable, "-m", "benchmarks.processes", framework, program, cache]
        out = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def rows(frameworks: Sequence[str], wanted: Callable[[str], bool], repetitions: int) -> Iterator[Row]:
    """Measure import, and the compilation of each program without a cache, from disk, and for a new batch size."""
    if wanted(IMPORT):
        yield _row(IMPORT, IMPORT, _alternate(frameworks, "", None, repetitions))
    for program in PROGRAMS:
        if not wanted(program):
            continue
        cold = _alternate(frameworks, program, None, repetitions)
        for sample in _SAMPLES:
            yield _row(f"{program}: {sample}", sample, cold)
        with tempfile.TemporaryDirectory() as root:
            caches = {name: os.path.join(root, name) for name in frameworks}
            for name, cache in caches.items():
                os.mkdir(cache, 0o700)
                spawn(name, program, cache)
            # JAX has no disk cache by default: measure it with its cache enabled, and with its defaults.
            for label, kept in (("from disk", caches), ("second process, as installed", {**caches, "jax": ""})):
                yield _row(f"{program}: {label}", "first call", _alternate(frameworks, program, kept, repetitions))


def _alternate(
    frameworks: Sequence[str], program: str, caches: dict[str, str] | None, repetitions: int
) -> dict[str, list[dict[str, float]]]:
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in frameworks}
    for i in range(repetitions):
        for name in frameworks if i % 2 == 0 else reversed(frameworks):
            samples[name].append(spawn(name, program, caches[name] if caches else ""))
    return samples


def _row(name: str, sample: str, samples: dict[str, list[dict[str, float]]]) -> Row:
    times = {framework: Times.of([s[sample] for s in found]) for framework, found in samples.items()}
    counted = samples["funcgrad"][-1]
    note = ""
    if sample != IMPORT and "kernels after first call" in counted:
        first, both = int(counted["kernels after first call"]), int(counted["kernels after new batch size"])
        note = f"{both - first if sample == 'new batch size' else first} kernels compiled"
    return Row(name, "compilation", times, note)


if __name__ == "__main__":
    print(json.dumps(child(*sys.argv[1:])))
