"""What an equation iterates over, and whether it reads a value of its own group at the point where that is made.

A group of loop equations has a *domain*, the shape it iterates over, and *axes* of it that its reductions fold (none
for a purely elementwise group). Each of its values is *full* (one per point of the domain) or a *row* value (one per
point of the domain without the folded axes).
"""

from __future__ import annotations

import math

from funcgrad.compiler.fusion.access import Access, squeezed, without_units
from funcgrad.compiler.fusion.groups import Group, Shape
from funcgrad.compiler.loops.scalars import SCALARS
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.core.lowering import Concatenate, Elementwise, Gather, Interleave, Iota, Pad, Reduce, Strided, contiguous


def work_of(eqn: JaxprEqn) -> int:
    """What an equation costs per element, in simple operations."""
    lowering = eqn.primitive.lowering
    if not isinstance(lowering, Elementwise):
        return 1
    simple = isinstance(lowering.op, str) and not (lowering.op in SCALARS and SCALARS[lowering.op].vector_math)
    return 1 if simple else 8


def domain_of(eqn: JaxprEqn) -> tuple[Shape, tuple[int, ...]]:
    """The domain an equation iterates over, without units, and the axes of it that it folds; an effect has none."""
    if isinstance(eqn.primitive.lowering, Interleave):
        return squeezed(eqn.invars[0].aval.shape), ()
    if not isinstance(eqn.primitive.lowering, Reduce):
        return squeezed(eqn.outvars[0].aval.shape) if eqn.outvars else (), ()
    shape = eqn.invars[0].aval.shape
    place = {d: i for i, d in enumerate(d for d, n in enumerate(shape) if n != 1)}
    return squeezed(shape), tuple(sorted(place[d] for d in eqn.params["axes"] if d in place))


def level_of(eqn: JaxprEqn, group: Group, of_result: bool = False) -> str:
    """At which level of its group an equation is computed; a reduction computes at full, its result is a row value."""
    if isinstance(eqn.primitive.lowering, Reduce) and domain_of(eqn)[1]:
        return "row" if of_result else "full"
    return "full" if _points(eqn) == group.domain else "row"


def _points(eqn: JaxprEqn) -> Shape:
    """What an equation that folds nothing iterates over."""
    return squeezed(eqn.outvars[0].aval.shape) if isinstance(eqn.primitive.lowering, Reduce) else domain_of(eqn)[0]


def reads_in_place(
    access: Access, domain: Shape, axes: tuple[int, ...], level: str, source_level: str | None = None
) -> bool:
    """Whether an equation at `level` reads a value of its own group at the points where that is made.

    It may read a value of its own level, or spread a row value over the folded axes.
    """
    source_shape = squeezed(access.source.aval.shape)
    if source_level is None:
        source_level = "full" if source_shape == domain else "row"
    view = without_units(access.view)
    if source_level == level:
        return view == without_units(contiguous(source_shape))
    if source_level == "row" and level == "full":
        if not source_shape and not view.shape:
            return True  # a scalar stands for every element
        rows = iter(contiguous(source_shape).strides)
        return view == Strided(domain, tuple(0 if d in axes else next(rows) for d in range(len(domain))), 0)
    return False


def reads_elsewhere(eqn: JaxprEqn, place: int) -> bool:
    """Whether an equation reads the operand in this place at other points than the one that it is computed at."""
    lowering = eqn.primitive.lowering
    return isinstance(lowering, (Pad, Concatenate)) or (isinstance(lowering, Gather) and place == 0)


def is_positional(eqn: JaxprEqn) -> bool:
    """Whether an equation needs to know at which index it is computed."""
    lowering, shape = eqn.primitive.lowering, eqn.outvars[0].aval.shape
    if isinstance(lowering, Gather):
        return any(d is not None and shape[d] != 1 for d in lowering.form_of(eqn).along)
    if isinstance(lowering, Interleave):
        return math.prod(shape) != sum(v.aval.size for v in eqn.invars)  # it leaves something out
    return isinstance(lowering, (Pad, Concatenate, Iota))
