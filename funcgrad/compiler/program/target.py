"""The Target protocol: how programs are compiled, linked and run on a kind of machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from funcgrad.compiler.program.instructions import LibraryCall, Plan
from funcgrad.compiler.scheduling import Scheduling


class Division(NamedTuple):
    """How the iterations of a library routine are distributed over threads, in multiples of `grain`.

    `scratch` is the number of bytes that each thread needs, a multiple of 64; they are the last operand of the call.
    """

    extent: int
    grain: int
    scratch: int = 0


class Linked(NamedTuple):
    """A plan whose symbols are resolved.

    `run` takes the program's slots as packed native pointers. `origins` says for each kernel where its code came from:
    "compiled", "disk" or "reused".
    """

    run: Callable[[bytes], None]
    origins: tuple[str, ...]


class Target(Protocol):
    """A kind of machine, or a way to compile for it."""

    name: str
    scheduling: Scheduling

    def threads(self) -> int:
        """Return the number of threads that a program may use; plans depend on it."""
        ...

    def division(self, call: LibraryCall) -> Division | None:
        """Return how a library routine is distributed over threads, or None if the target lacks it."""
        ...

    def link(self, plan: Plan) -> Linked:
        """Compile the kernels of a plan and resolve its symbols."""
        ...
