"""Compare funcgrad with JAX: `python -m benchmarks [words]` runs the cases whose names contain one of the words.

`python -m benchmarks scaling [words]` measures how long programs of increasing length take to compile.
`python -m benchmarks layers [words]` compares training steps written with `funcgrad.nn` and by hand, also with PyTorch.
`python -m benchmarks kernels [words]` runs the tables of kernels, see `benchmarks.kernels`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import kernels, layers, processes, report, scaling
from benchmarks.cases import CASES
from benchmarks.frameworks import load
from benchmarks.timing import Row, alternate


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cases, print each row when it is measured, and write the page with `--markdown`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="words; run the cases and groups whose names contain one of them")
    parser.add_argument("--quick", action="store_true", help="few repetitions, for a rough estimate")
    parser.add_argument("--busy", action="store_true", help="with `kernels`: while a process keeps one core busy")
    parser.add_argument("--alone", action="store_true", help="without JAX")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and exit")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the page")
    options = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    def selected(name: str, group: str) -> bool:
        return not options.names or any(n.lower() in f"{group} {name}".lower() for n in options.names)

    if options.list:
        for name, group in [*((c.name, c.group) for c in CASES), *((n, "compilation") for n in processes.NAMES)]:
            print(f"{group:12} {name}")
        return
    with_jax = not options.alone and importlib.util.find_spec("jax") is not None
    frameworks = ["funcgrad", "jax"] if with_jax else ["funcgrad"]
    where = report.machine()
    print(where, flush=True)
    if options.names[:1] == ["kernels"]:
        kernels.main(options.names[1:], options.quick, options.busy)
        return
    if options.names[:1] == ["scaling"]:
        for text in scaling.lines(frameworks, scaling.QUICK if options.quick else scaling.LENGTHS, options.names[1:]):
            print(text, flush=True)
        return
    if options.names[:1] == ["layers"]:
        for text in layers.lines(options.names[1:], options.quick):
            print(text, flush=True)
        return
    rows = []
    for row in _measure(frameworks, selected, options.quick):
        print(report.line(row), flush=True)
        rows.append(row)
    if options.markdown:
        options.markdown.write_text(report.markdown(rows, where), encoding="utf-8")


def _measure(frameworks: Sequence[str], selected: Callable[[str, str], bool], quick: bool) -> Iterator[Row]:
    yield from processes.rows(frameworks, lambda name: selected(name, "compilation"), 2 if quick else 7)
    loaded = {name: load(name) for name in frameworks}
    for case in CASES:
        if selected(case.name, case.group):
            calls = {name: (fw, case.prepare(fw)) for name, fw in loaded.items()}
            yield Row(case.name, case.group, alternate(calls, 7 if quick else 51, case.wait))


if __name__ == "__main__":
    main()
