"""Groups that are alike are lowered once, since layers, steps and parameters repeat.

Two groups are alike if their equations have the same primitives, params and types, read values in the same way, and
have the same results stored. They then share kernels, which are called with other variables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.lowering.kernel_builder import Launch
from funcgrad.compiler.lowering.lower import lower_group
from funcgrad.compiler.lowering.own_kernels import lower_own
from funcgrad.core.interning import param_key
from funcgrad.core.jaxprs import Atom, Literal, Var


def kernels_of(fusion: Fusion, group: Group) -> list[Launch]:
    """Return the kernels of a group that is made of them, in the order in which they run."""
    return lower_own(fusion, group) if group.kind == "kernels" else lower_group(fusion, group, fusion.stored)


class Lowerings:
    """The kernels of the groups seen so far."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[list[Launch], list[Var]]] = {}

    def of(self, fusion: Fusion, group: Group) -> list[Launch]:
        """Return `kernels_of(fusion, group)`, with the kernels of a group like it if there was one."""
        numbers: dict[Var, int] = {}
        key = _key(fusion, group, numbers)
        try:
            known = self._known.get(key)
        except TypeError:  # a param that does not hash
            return kernels_of(fusion, group)
        if known is None:
            launches = kernels_of(fusion, group)
            self._known[key] = launches, list(numbers)
            return launches
        launches, variables = known
        mine = dict(zip(variables, numbers, strict=True))
        for launch in launches:
            mine |= {v: Var(v.aval) for v in launch.operands if v is not None and v not in mine}  # between two kernels
        return [x._replace(operands=tuple(None if v is None else mine[v] for v in x.operands)) for x in launches]


def _key(fusion: Fusion, group: Group, numbers: dict[Var, int]) -> Any:
    """What groups that are alike have in common; `numbers` gets their variables in the order of appearance."""

    def value(atom: Atom) -> Any:
        if isinstance(atom, Literal):
            return np.asarray(atom.val).tobytes(), atom.aval
        return numbers.setdefault(atom, len(numbers)), atom.aval

    eqns = [
        (
            eqn.primitive,
            tuple((name, param_key(param)) for name, param in eqn.params.items()),
            tuple(v.aval for v in eqn.invars),
            tuple((value(source), view) for source, view in fusion.accesses[eqn]),
            tuple((value(v), v in fusion.stored) for v in eqn.outvars),
        )
        for eqn in group.eqns
    ]
    return group.domain, group.axes, tuple(eqns)
