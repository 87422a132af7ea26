"""How much a program computes and moves, read off its groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.fusion.inner import fusions
from funcgrad.compiler.loops.equations import scalar_ops
from funcgrad.compiler.loops.scalars import COSTLY
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn, Var
from funcgrad.core.lowering import (
    CALLS,
    CONTROL,
    HOST,
    KERNELS,
    Barrier,
    Complex,
    Concatenate,
    Cond,
    Contract,
    Elementwise,
    Gather,
    Interleave,
    Iota,
    LibraryRoutine,
    LoweringTable,
    Native,
    Pad,
    Reduce,
    Scan,
    Scatter,
    View,
)


def costs(fusion: Fusion) -> Counter[str]:
    """Return flops, transcendentals and bytes accessed."""
    total: Counter[str] = Counter()
    for group in fusion.order:
        if group.kind == "control":
            total.update(_of_control(group.eqns[0], fusion.scheduling))
        else:
            for eqn in group.eqns:
                total.update(_COSTS[eqn.primitive.lowering](eqn))
            total["bytes accessed"] += _bytes(fusion, group)
    return total


def _of_control(eqn: JaxprEqn, scheduling: Scheduling) -> Counter[str]:
    """A scan's body times its length, other bodies once, and the branch with the most flops."""
    parts = [costs(inner) for _, inner in fusions(eqn, scheduling)]
    lowering = eqn.primitive.lowering
    if isinstance(lowering, Cond):
        return max(parts, key=lambda c: c["flops"] + c["transcendentals"])
    times = eqn.params["length"] if isinstance(lowering, Scan) else 1
    return Counter({name: times * sum(p[name] for p in parts) for name in set().union(*parts)})


def _of_elementwise(eqn: JaxprEqn) -> dict[str, int]:
    simple = (COSTLY - {"div", "rem"}).isdisjoint(scalar_ops(eqn))
    return {"flops" if simple else "transcendentals": eqn.outvars[0].aval.size}


def _of_routine(eqn: JaxprEqn) -> dict[str, int]:
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, LibraryRoutine)
    avals = ([v.aval for v in atoms] for atoms in (eqn.invars, eqn.outvars))
    return {"flops": lowering.flops(*avals, **eqn.params)}


_COSTS: LoweringTable[Callable[[JaxprEqn], dict[str, int]]] = LoweringTable(
    "costs",
    {
        Elementwise: _of_elementwise,
        **dict.fromkeys((Contract, LibraryRoutine), _of_routine),
        Reduce: lambda eqn: {"flops": eqn.invars[0].aval.size},
    },
    # Movement, and what runs elsewhere: a call of NumPy, code that is not ours. Control flow is counted by its bodies.
    rest=(
        View,
        Complex,
        Pad,
        Concatenate,
        Interleave,
        Iota,
        Gather,
        Scatter,
        Barrier,
        Native,
        *CALLS,
        *CONTROL,
        *KERNELS,
        *HOST,
    ),
    otherwise=lambda eqn: {},
)


def _bytes(fusion: Fusion, group: Group) -> int:
    """The bytes that a group reads from memory and writes to it, each value once."""
    read: dict[Var, int] = {}
    for eqn in group.eqns:
        for source, view in fusion.accesses[eqn]:
            if isinstance(source, Var) and fusion.group_of.get(source) is not group:
                count = min(math.prod(view.shape), source.aval.size)
                read[source] = max(read.get(source, 0), count * source.aval.dtype.itemsize)
    made = {v for e in group.eqns for v in e.outvars} & fusion.stored
    return sum(read.values()) + sum(v.aval.nbytes for v in made)
