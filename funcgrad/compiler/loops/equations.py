"""Which equations the loop language expresses."""

from __future__ import annotations

from funcgrad import dtypes
from funcgrad.compiler.loops.scalars import SCALARS
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.core.lowering import Concatenate, Elementwise, Gather, Iota, Pad, Reduce, View

# Arrays that a loop joins at most: it is cut into a piece for each, or asks at every element which one it is in.
MOST_PARTS = 7


def is_loop(eqn: JaxprEqn) -> bool:
    """Whether the loop IR can express an equation."""
    lowering = eqn.primitive.lowering
    if any(dtypes.is_complex(v.aval.dtype) or v.aval.dtype == dtypes.float0 for v in [*eqn.invars, *eqn.outvars]):
        return False
    if isinstance(lowering, Gather):
        return eqn.primitive.name == "dynamic_slice"
    if isinstance(lowering, Concatenate):
        return len(eqn.invars) <= MOST_PARTS
    if isinstance(lowering, Elementwise) and isinstance(lowering.op, str):
        return lowering.op in SCALARS
    return isinstance(lowering, (Elementwise, Pad, Iota, Reduce, View))


def op_name(eqn: JaxprEqn) -> str:
    """Return the scalar operation that an equation is, or the name of its primitive."""
    lowering = eqn.primitive.lowering
    return lowering.op if isinstance(lowering, Elementwise) and isinstance(lowering.op, str) else eqn.primitive.name
