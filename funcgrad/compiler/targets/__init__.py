"""How programs are compiled, linked and run: a folder per target."""

from __future__ import annotations

from funcgrad.compiler.program.target import Target
from funcgrad.compiler.targets.llvm.link import target as llvm


def find(name: str) -> Target:
    """Return the target of that name."""
    if name == "llvm":
        return llvm
    assert name == "numba", name
    from funcgrad.compiler.targets.numba.link import target as numba  # importing numba takes 160 ms

    return numba
