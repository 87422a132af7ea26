"""Which equations the loop language expresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.loops.scalars import COSTLY, SCALARS
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.core.lowering import (
    CALLS,
    CONTROL,
    HOST,
    KERNELS,
    Barrier,
    Complex,
    Concatenate,
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
    Scatter,
    View,
)

# A loop concatenates at most this many arrays. It is cut into a piece for each, or tests at every element which array
# it reads.
MOST_PARTS = 7


def _has_formula(eqn: JaxprEqn) -> bool:
    lowering = eqn.primitive.lowering
    return isinstance(lowering, Elementwise) and (not isinstance(lowering.op, str) or lowering.op in SCALARS)


_EXPRESSIBLE: LoweringTable[Callable[[JaxprEqn], bool]] = LoweringTable(
    "loops",
    {
        Elementwise: _has_formula,
        Concatenate: lambda eqn: len(eqn.invars) <= MOST_PARTS,
        **dict.fromkeys((View, Complex, Pad, Interleave, Iota, Reduce, Gather), lambda eqn: True),
    },
    rest=(Contract, Scatter, LibraryRoutine, Native, Barrier, *CALLS, *CONTROL, *KERNELS, *HOST),
    otherwise=lambda eqn: False,
)


def is_loop(eqn: JaxprEqn) -> bool:
    """Whether the loop language can express an equation. It moves complex numbers, and computes with their parts."""
    dtypes_of = {v.aval.dtype for v in (*eqn.invars, *eqn.outvars)}
    moves = isinstance(eqn.primitive.lowering, (View, Complex))
    if dtypes.float0 in dtypes_of or (not moves and any(map(dtypes.is_complex, dtypes_of))):
        return False
    return _EXPRESSIBLE[eqn.primitive.lowering](eqn)


def op_name(eqn: JaxprEqn) -> str:
    """Return the scalar operation that an equation is, or the name of its primitive."""
    lowering = eqn.primitive.lowering
    return lowering.op if isinstance(lowering, Elementwise) and isinstance(lowering.op, str) else eqn.primitive.name


_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


class _Typed(NamedTuple):
    """A value of which the dtype is all that is known."""

    dtype: np.dtype


class _Recorder:
    """A `ScalarBuilder` that collects the names of operations."""

    def __init__(self) -> None:
        self.ops: set[str] = set()

    def op(self, name: str, *args: _Typed, dtype: np.dtype | None = None) -> _Typed:
        self.ops.add(name)
        result = SCALARS[name].result
        return _Typed(np.dtype(bool) if result == "bool" else dtype if result == "free" and dtype else args[-1].dtype)

    def const(self, value: Any, dtype: np.dtype) -> _Typed:
        return _Typed(dtype)

    def cast(self, x: _Typed, dtype: np.dtype) -> _Typed:
        return _Typed(dtype)


def scalar_ops(eqn: JaxprEqn) -> set[str]:
    """Return the names of the scalar operations that an equation applies to each element."""
    lowering = eqn.primitive.lowering
    if not isinstance(lowering, Elementwise):
        return set()
    if isinstance(lowering.op, str):
        return {lowering.op}
    recorder = _Recorder()
    lowering.op(recorder, *(_Typed(v.aval.dtype) for v in eqn.invars), **eqn.params)
    return recorder.ops


def is_comparison(eqn: JaxprEqn) -> bool:
    """Whether an equation compares floating-point numbers."""
    return dtypes.is_float(eqn.invars[-1].aval.dtype if eqn.invars else dtypes.bool_) and not _COMPARISONS.isdisjoint(
        scalar_ops(eqn)
    )


def is_costly(eqn: JaxprEqn) -> bool:
    """Whether an equation takes much longer than an addition per element."""
    return not COSTLY.isdisjoint(scalar_ops(eqn))
