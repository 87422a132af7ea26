"""Updates in place: when a scatter may write where its operand is.

An array that is not read again need not be copied before windows of it are replaced. In a loop that writes one element
of a large array per iteration, this makes the difference between constant and linear work.
"""

from __future__ import annotations

from collections.abc import Mapping

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.core.jaxprs import Var


def in_place(fusion: Fusion, fixed: set[Var], carries: Mapping[Var, Var]) -> dict[Var, Var]:
    """The results of updates that are written into their operands: from result to operand.

    An operand qualifies if it is not read later and is a temporary or a carry of a loop's body (`carries`: from such an
    input to the result that replaces it). `fixed` are the variables whose memory is given: inputs and results.
    """
    last: dict[object, int] = {}
    times: dict[object, int] = {}
    for i, group in enumerate(fusion.order):
        for eqn in group.eqns:
            for access in fusion.accesses[eqn]:
                if last.get(access.source) != i:
                    times[access.source] = 0
                last[access.source] = i
                times[access.source] += 1
    found: dict[Var, Var] = {}
    for i, group in enumerate(fusion.order):
        if group.kind != "update":
            continue
        (eqn,) = group.eqns
        operand = fusion.accesses[eqn][0].source
        assert isinstance(operand, Var)
        # It must be the last to read the operand, and read it as the operand alone.
        if last[operand] == i and times[operand] == 1 and (operand not in fixed or operand in carries):
            found[eqn.outvars[0]] = operand
    home = origins(found)
    kept = {start for start, result in carries.items() if home.get(result, result) is not start}
    return {v: o for v, o in found.items() if o not in kept}


def origins(aliases: Mapping[Var, Var]) -> dict[Var, Var]:
    """The variable at the other end of each chain of updates in place; `aliases` are in the order of the program."""
    home: dict[Var, Var] = {}
    for var, operand in aliases.items():
        home[var] = home.get(operand, operand)
    return home
