"""What a program is made of: steps, and routines of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad.compiler.loops import Kernel
from funcgrad.compiler.targets.llvm import runtime
from funcgrad.core.jaxprs import Var


class Step(NamedTuple):
    """One instruction before addresses are known: `values` are a variable per argument, or bytes of scratch."""

    name: str
    function: int
    values: tuple[Var | int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    extent: int
    grain: int
    writes: frozenset[Var]
    keep_alive: Any
    kernel: Kernel | None = None
    call: Callable[[Sequence[int]], None] | None = None  # of pointers: what Python runs for other steps
    routines: tuple[tuple[str, Routine], ...] = ()
    in_place_of: Var | None = None  # whose memory the result takes over


class Routine(NamedTuple):
    """A sequence of instructions over slots, and the memory that its temporaries need: slot 0 points to it."""

    instructions: list[runtime.Instruction]
    steps: list[Step]
    locations: dict[Var, tuple[int, int]]
    arena_bytes: int
    in_place: frozenset[Var] = frozenset()  # inputs whose place a result has taken

    def lines(self, indent: str = "  ") -> list[str]:
        """One line per instruction, those of an instruction's own routines below it."""
        out = []
        for step in self.steps:
            args = ", ".join(_place(v, o, self.locations) for v, o in zip(step.values, step.offsets, strict=True))
            out.append(f"{indent}{step.name}({args}) × {step.extent} by {step.grain}")
            for name, inner in step.routines:
                out.append(f"{indent}  {name}:")
                out += inner.lines(indent + "    ")
        return out


def _place(value: Var | int, offset: int, locations: dict[Var, tuple[int, int]]) -> str:
    if isinstance(value, int):
        return f"scratch {value}"
    slot, at = locations[value]
    return f"{'arena' if slot == 0 else f'slot {slot}'}{f'+{at + offset}' if at + offset else ''}: {value.aval.short()}"
