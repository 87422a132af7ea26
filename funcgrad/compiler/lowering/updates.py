"""Updates in place: when what replaces elements of an array may write where the array is.

An array that is not read again need not be copied before windows of it are replaced. In a loop that writes one element
of a large array per iteration, this makes the difference between constant and linear work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group, needs_first
from funcgrad.core.jaxprs import Atom, Jaxpr, JaxprEqn, Var
from funcgrad.core.layouts import ScanLayout
from funcgrad.core.lowering import Cond, Scan, Scatter, View, WhileLoop

Replaced = tuple[Var, Var]  # a result, and the operand that it starts as a copy of


def in_place(
    fusion: Fusion, fixed: set[Var], carries: Mapping[Var, Var], replacing: Callable[[Group], Iterable[Replaced]]
) -> dict[Var, Var]:
    """The results that are written into the memory of an operand: from result to operand.

    `replacing` returns the results of a group that start as copies of operands. Such an operand qualifies if it is not
    read later and is a temporary or a carry of a loop's body (`carries`: from such an input to the result that replaces
    it). `fixed` are the variables whose memory is given: inputs and results.
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
        for result, operand in replacing(group):
            # The group must be the last to read the operand, and read it as the operand alone.
            if last[operand] == i and times[operand] == 1 and (operand not in fixed or operand in carries):
                found[result] = operand
    home = origins(found)
    kept = {start for start, result in carries.items() if home.get(result, result) is not start}
    return {v: o for v, o in found.items() if o not in kept}


def origins(aliases: Mapping[Var, Var]) -> dict[Var, Var]:
    """The variable at the other end of each chain of updates in place; `aliases` are in the order of the program."""
    home: dict[Var, Var] = {}
    for var, operand in aliases.items():
        home[var] = home.get(operand, operand)
    return home


def replaced(eqn: JaxprEqn) -> dict[Var, int]:
    """The operand that each result may replace, by its position: that of a scatter, the start of a carry, and what all
    branches of a `cond` replace."""
    lowering, outvars, params = eqn.primitive.lowering, eqn.outvars, eqn.params
    if isinstance(lowering, Scatter):
        return {outvars[0]: 0}
    if isinstance(lowering, Scan):
        layout = ScanLayout.of(params)
        return {v: layout.num_consts + i for i, v in enumerate(outvars[: layout.num_carry])}
    if isinstance(lowering, WhileLoop):
        return {v: len(eqn.invars) - len(outvars) + i for i, v in enumerate(outvars)}
    if not isinstance(lowering, Cond):
        return {}
    first, *others = (_replaced_inputs(branch.jaxpr) for branch in params["branches"])
    alike = (i if all(other[k] == i for other in others) else None for k, i in enumerate(first))
    return {v: 1 + i for v, i in zip(outvars, alike, strict=True) if i is not None}


def _replaced_inputs(jaxpr: Jaxpr) -> list[int | None]:
    """For each result of a jaxpr, the position of the input that it may replace."""
    found: dict[Atom, int] = {v: i for i, v in enumerate(jaxpr.invars)}
    for eqn in jaxpr.eqns:
        found |= {v: found[eqn.invars[i]] for v, i in replaced(eqn).items() if eqn.invars[i] in found}
    return [found.get(v) for v in jaxpr.outvars]


def readers_first(eqns: Sequence[JaxprEqn], is_large: Callable[[Var], bool]) -> Sequence[JaxprEqn]:
    """Return equations in an order in which those that read a large array come before the one that replaces it.

    Where there is none, because a reader of the array needs what replaces it, return them as they are.
    """
    writes = {e: [e.invars[i] for v, i in replaced(e).items() if is_large(v)] for e in eqns}
    if not any(writes.values()):
        return eqns
    made = {v: e for e in eqns for v in e.outvars}
    shown: dict[Atom, Atom] = {}  # the arrays that views show
    readers: dict[Atom, list[JaxprEqn]] = defaultdict(list)
    for eqn in eqns:
        for v in eqn.invars:
            readers[shown.get(v, v)].append(eqn)
        if isinstance(eqn.primitive.lowering, View):
            shown[eqn.outvars[0]] = shown.get(eqn.invars[0], eqn.invars[0])

    def needs(eqn: JaxprEqn) -> Iterator[JaxprEqn]:
        yield from (made[v] for v in eqn.invars if isinstance(v, Var) and v in made)
        for v in writes[eqn]:
            yield from (e for e in readers[shown.get(v, v)] if e is not eqn)

    order = needs_first(eqns, needs)
    place = {e: i for i, e in enumerate(order)}
    in_order = (place[made[v]] < place[e] for e in eqns for v in e.invars if isinstance(v, Var) and v in made)
    return order if all(in_order) else eqns
