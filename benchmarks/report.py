"""The results as a table, on the terminal and as the page docs/benchmarks.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence

from benchmarks.timing import Row, Times

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
GROUPS = {
    "dispatch": "Cost of a call",
    "kernels": "Kernels, float32",
    "training": "Training steps",
    "loops": "Loops",
    "lanes": "Loops with diverging lanes",
    "compilation": "Compilation and import, each in a new process",
}
_INTRODUCTION = """# Benchmarks

Made by `python -m benchmarks --markdown docs/benchmarks.md`; [performance.md](performance.md) says how it is measured.
Times are medians with quartiles in brackets; *speed-up* is JAX's median over funcgrad's: above 1, funcgrad is faster.
"""


def seconds(value: float, unit: tuple[float, str] | None = None) -> str:
    """Format a time with three significant digits, in `unit` (size and name) or in the unit that fits."""
    size, name = unit or _unit(value)
    scaled = value / size
    digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:.{digits}f}" + ("" if unit else f" {name}")


def _unit(value: float) -> tuple[float, str]:
    return next((u for u in _UNITS if value >= u[0]), _UNITS[-1])


def spread(times: Times) -> str:
    """Format a median with its quartiles: `7.10 µs (7.02–7.30)`."""
    unit = _unit(times.median)
    return f"{seconds(times.median)} ({seconds(times.low, unit)}–{seconds(times.high, unit)})"


def line(row: Row) -> str:
    """Format one row for the terminal."""
    cells = "  ".join(f"{name} {spread(t):28}" for name, t in row.times.items())
    ratio = "" if row.ratio is None else f"× {row.ratio:5.2f}"
    return f"{row.name:44} {cells} {ratio}  {row.note}".rstrip()


def machine() -> str:
    """Describe the versions, the processors and their load at the time of the measurement."""
    versions = []
    for name in ("funcgrad", "jax", "numpy", "llvmlite"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            if name == "funcgrad":
                versions.append("funcgrad from a checkout")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{', '.join(versions)}; Python {platform.python_version()}; {processors} processors ({_processor()}){load}."


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((set(text.split()) for text in file if text.startswith(("flags", "Features"))), set())
    except OSError:
        return platform.machine()
    widest = next((n for n in ("avx512f", "avx2", "asimd") if n in flags), "")
    return f"{platform.machine()} {widest}".strip()


def markdown(rows: Sequence[Row], where: str) -> str:
    """Return the page. `where` is the result of `machine()` before the run."""
    parts = [_INTRODUCTION, where, ""]
    for group, title in GROUPS.items():
        mine = [r for r in rows if r.group == group]
        if not mine:
            continue
        noted = any(r.note for r in mine)
        parts += [f"## {title}", "", "| | funcgrad | JAX | speed-up |" + (" funcgrad compiles |" if noted else "")]
        parts += ["|---|---|---|---|" + ("---|" if noted else "")]
        for r in mine:
            jax = spread(r.times["jax"]) if "jax" in r.times else "–"
            ratio = "–" if r.ratio is None else f"{r.ratio:.2f}"
            note = f" {r.note.removesuffix(' compiled')} |" if noted else ""
            parts.append(f"| {r.name} | {spread(r.times['funcgrad'])} | {jax} | {ratio} |{note}")
        parts.append("")
    return "\n".join(parts)
