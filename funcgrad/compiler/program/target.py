"""What a target is: how programs are compiled, linked and run on one kind of machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from funcgrad.compiler.program.instructions import LibraryCall, Plan
from funcgrad.compiler.scheduling import Scheduling


class Division(NamedTuple):
    """How a library routine is divided among threads: so many iterations, in multiples of `grain`."""

    extent: int
    grain: int


class Linked(NamedTuple):
    """A plan whose symbols are resolved.

    `run` takes the program's slots as packed native pointers. `origins` says for each kernel where its code came from:
    "compiled", "disk" or "reused".
    """

    run: Callable[[bytes], None]
    origins: tuple[str, ...]


class Target(Protocol):
    """One kind of machine, or one way to compile for it."""

    name: str
    scheduling: Scheduling

    def threads(self) -> int:
        """Return how many threads a program may use; plans depend on it."""
        ...

    def division(self, call: LibraryCall) -> Division | None:
        """Return how a library routine is divided among threads, or None where the target lacks the routine."""
        ...

    def link(self, plan: Plan) -> Linked:
        """Compile the kernels of a plan and resolve its symbols."""
        ...
