"""Branches and loops that are one kernel because their arrays are small."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.compiler.lowering.kernel_builder import Launch
from funcgrad.compiler.lowering.lane_blocks import lower_lanes
from funcgrad.compiler.lowering.scalar_loops import lower_scalars
from funcgrad.compiler.lowering.scalar_writer import Unsuitable
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.lowering import Scan


def lower(eqn: JaxprEqn, operands: Sequence[Atom], scheduling: Scheduling) -> Launch | None:
    """The kernel of a small branch or loop, or None where it is not small; `operands` are what its operands are stored
    in."""
    values = [v for v in operands if isinstance(v, Var)]
    if eqn.effectful:
        return None
    for rule in (lower_lanes, lower_scalars) if isinstance(eqn.primitive.lowering, Scan) else (lower_scalars,):
        try:
            return rule(eqn, values, scheduling)
        except Unsuitable:
            continue
    return None
