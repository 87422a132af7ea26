"""groups → loops, for operations that the compiler has kernels of their own for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.lowering.cumulative import lower_cumulative
from funcgrad.compiler.lowering.kernel_builder import Launch
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.core.lowering import Cumulative, Lowering

_WRITERS: dict[type[Lowering], Callable[[JaxprEqn, Sequence[Access], Scheduling], list[Launch]]] = {
    Cumulative: lower_cumulative,
}


def lower_own(fusion: Fusion, group: Group) -> list[Launch]:
    """Return the kernels of the one operation of a group, in the order in which they run."""
    (eqn,) = group.eqns
    return _WRITERS[type(eqn.primitive.lowering)](eqn, fusion.accesses[eqn], fusion.scheduling)
