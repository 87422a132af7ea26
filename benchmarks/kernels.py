"""All tables of kernels: `python -m benchmarks kernels [words] [--quick] [--busy]`.

Each table is a command of its own, `python -m benchmarks.indexing` for one, and runs in a new process, since some set
which cores they use before they import a library. `words` select tables. With `--quick`, a table runs a few of its rows
with few repetitions; all of them take less than three minutes. With `--busy`, a process keeps one core busy.

A table that takes longer than its limit is stopped; its rows until then are printed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LIMIT, QUICK_LIMIT = 1800.0, 15.0  # seconds for a table
_SPIN = "while True: pass"


class Table(NamedTuple):
    """What a table shows, the module that prints it, its arguments, and words for a few rows of it."""

    title: str
    module: str
    arguments: tuple[str, ...] = ()
    few: tuple[str, ...] = ()


TABLES = (
    Table("gradients of models", "benchmarks.gradients", few=("model",)),
    Table("training steps", "benchmarks", ("training", "LSTM", "recurrent"), few=("training",)),
    Table("training steps of layers", "benchmarks", ("layers",), few=("layers",)),
    Table("products", "benchmarks.products", few=("8²", "gradient")),
    Table("attention", "benchmarks.attention", few=("8×8×256×64",)),
    Table("convolutions", "benchmarks.convolutions", few=("training", "3×3, 64 at 8²")),
    Table("indexing", "benchmarks.indexing", few=("100000 places",)),
    Table("ordering", "benchmarks.ordering", few=("1000²",)),
    Table("complex numbers", "benchmarks.complex_numbers"),
    Table("linear algebra", "benchmarks.linalg", few=("of 8 ×",)),
    Table("cliffs", "benchmarks.cliffs", few=("a.at[k]",)),
)


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy with a process that only spins."""
    process = subprocess.Popen([sys.executable, "-c", _SPIN])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run(table: Table, quick: bool) -> str:
    """Run a table, which prints its rows; return how it ended."""
    arguments = [*(table.few or table.arguments), "--quick"] if quick else table.arguments
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", table.module, *arguments], start_new_session=True)
    try:
        status = process.wait(QUICK_LIMIT if quick else LIMIT)
        ended = "done" if status == 0 else f"failed with status {status}"
    except subprocess.TimeoutExpired:
        ended = "stopped at its limit"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that compile for PyTorch
        process.wait()
    return f"{table.title}: {ended} after {time.perf_counter() - start:.0f} s"


def main(words: Sequence[str], quick: bool, with_busy_core: bool) -> None:
    """Run the tables whose titles contain one of the words, or all."""
    with busy() if with_busy_core else contextlib.nullcontext():
        endings = []
        for table in TABLES:
            if not words or any(word.lower() in table.title for word in words):
                print(f"\n{table.title}{', one core busy' * with_busy_core}: python -m {table.module}", flush=True)
                endings.append(run(table, quick))
    print("\n" + "\n".join(endings))
