"""groups → loops, for operations that the compiler has kernels of their own for."""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.lowering.cumulative import lower_cumulative
from funcgrad.compiler.lowering.kernel_builder import Launch
from funcgrad.compiler.lowering.least import lower_least
from funcgrad.compiler.lowering.matrix_products import lower_product
from funcgrad.compiler.lowering.sorting import lower_sort
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.core.lowering import Contract, Cumulative, Least, Lowering, Sort


def _cumulative(fusion: Fusion, eqn: JaxprEqn) -> list[Launch]:
    return lower_cumulative(eqn, fusion.accesses[eqn], fusion.scheduling)


def _sort(fusion: Fusion, eqn: JaxprEqn) -> list[Launch]:
    return lower_sort(eqn, fusion.accesses[eqn], fusion.scheduling, fusion.stored)


def _least(fusion: Fusion, eqn: JaxprEqn) -> list[Launch]:
    return lower_least(eqn, fusion.accesses[eqn], fusion.scheduling)


_WRITERS: dict[type[Lowering], Callable[[Fusion, JaxprEqn], list[Launch]]] = {
    Cumulative: _cumulative,
    Sort: _sort,
    Least: _least,
    Contract: lambda fusion, eqn: lower_product(eqn, fusion.accesses[eqn], fusion.scheduling),
}


def lower_own(fusion: Fusion, group: Group) -> list[Launch]:
    """Return the kernels of the one operation of a group, in the order in which they run."""
    (eqn,) = group.eqns
    return _WRITERS[type(eqn.primitive.lowering)](fusion, eqn)
