"""How programs are compiled, linked and run: a folder per target."""

from __future__ import annotations

import functools
import warnings

from funcgrad.compiler.program.target import Target
from funcgrad.compiler.targets.llvm.link import target as llvm


def find(name: str) -> Target:
    """Return the target of that name; numba in the place of llvm where the native runtime cannot be built."""
    return llvm if name == "llvm" and _has_runtime() else _numba()


@functools.cache
def _has_runtime() -> bool:
    problem = llvm.problem()
    if problem:
        warnings.warn(
            f"programs are compiled by numba, since the native runtime cannot be built on this machine: {problem}\n"
            "  fix: set FUNCGRAD_CPU_TARGET=numba to choose that without this warning",
            stacklevel=2,
        )
    return not problem


@functools.cache
def _numba() -> Target:
    from funcgrad.compiler.targets.numba.link import target  # importing numba takes 160 ms

    return target
