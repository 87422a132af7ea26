"""Concatenation of many arrays: a single instruction copies them.

A loop that asks at every element which of n arrays it is in takes n times as long as a copy, and its code is as long as
the list. So what a loop is not cut for is a table of the arrays, which the instruction walks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.program.instructions import JoinCall
from funcgrad.compiler.program.steps import Step
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn, Var


def join(eqn: JaxprEqn, accesses: Sequence[Access], scheduling: Scheduling) -> Step:
    """The instruction that joins operands, each of which is side by side in memory.

    The result is rows, each made of a run of bytes from every operand; where the leading dimension is joined, it is one
    row. Short rows are written many at a time.
    """
    out, dimension = eqn.outvars[0], eqn.params["dimension"]
    dtype, shape = out.aval.dtype, out.aval.shape
    rows, inner = math.prod(shape[:dimension]), math.prod(shape[dimension + 1 :]) * dtype.itemsize
    parts = [(a.source, a.view.offset * dtype.itemsize, a.view.shape[dimension] * inner) for a in accesses]
    parts = [(source, offset, run) for source, offset, run in parts if isinstance(source, Var) and run]
    sources, offsets, runs = (tuple(column) for column in zip(*parts, strict=True)) if parts else ((), (), ())
    row = sum(runs)
    block, worth = scheduling.join_block, scheduling.copy_grain
    short = 0 < row <= block
    extent, grain = (rows, max(1, worth // row)) if short else (rows * row, worth)
    call = JoinCall(rows, runs, short, block // row if short else 1)
    return Step(call, (out, *sources), frozenset([out]), extent, grain, (0, *offsets))
