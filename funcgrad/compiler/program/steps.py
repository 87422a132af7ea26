"""Instructions before their operands have a place in memory."""

from __future__ import annotations

from typing import NamedTuple

from funcgrad.compiler.program.instructions import Callee
from funcgrad.core.jaxprs import Var


class Step(NamedTuple):
    """An instruction whose operands are variables, or a number of bytes of scratch memory each."""

    callee: Callee
    values: tuple[Var | int, ...]
    writes: frozenset[Var]
    extent: int = 1
    grain: int = 1
    offsets: tuple[int, ...] = ()  # in bytes into each value; none: zeros
    in_place: tuple[tuple[Var, Var], ...] = ()  # results, and the variables whose memory they take over
