"""optimization_barrier: the identity, across which the compiler does not optimize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Barrier
from funcgrad.core.primitives import Primitive
from funcgrad.core.symbolic import Zero


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    return optimization_barrier_p.bind(*primals), _of_nonzero(tangents)


def _transpose(cotangents: Sequence[Any], *args: Any) -> list[Any]:
    return _of_nonzero(cotangents)


def _of_nonzero(values: Sequence[Any]) -> list[Any]:
    """Put the values that are not Zero behind one barrier."""
    passed = iter(optimization_barrier_p.bind(*(v for v in values if type(v) is not Zero)))
    return [v if type(v) is Zero else next(passed) for v in values]


def _infer(*avals: ShapedArray) -> list[ShapedArray]:
    return list(avals)


def _evaluate(*arrays: np.ndarray) -> list[np.ndarray]:
    return list(arrays)


optimization_barrier_p = Primitive(
    "optimization_barrier",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=lambda axis, args, dims: (optimization_barrier_p.bind(*args), list(dims)),
    lowering=Barrier(),
    multiple_results=True,
)


def optimization_barrier(operand: Any) -> Any:
    """Return `operand`, a pytree of arrays, unchanged, and keep the compiler from optimizing across this point.

    Nothing that reads a result runs before every leaf of `operand` was computed, and no computation on one
    side is shared with one on the other, however alike. It costs nothing at run time.

    >>> optimization_barrier({"x": np.float32(2.0)})
    {'x': Array(2., dtype=float32)}
    """
    leaves, structure = tree.flatten(operand)
    return structure.unflatten(optimization_barrier_p.bind(*leaves))
