"""How programs are compiled, linked and run: a folder per target."""

from __future__ import annotations

from funcgrad.compiler.program.target import Target
from funcgrad.compiler.targets.llvm.link import target as llvm


def find(name: str) -> Target:
    """Return the target of that name."""
    if name == "llvm":
        return llvm
    raise KeyError(name)
