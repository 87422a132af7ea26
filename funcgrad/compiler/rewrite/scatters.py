"""A scatter of a single window by dynamic_slice and dynamic_update_slice, which kernels compute."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, JaxprEqn
from funcgrad.core.lowering import Scatter
from funcgrad.core.primitives import Primitive
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.arithmetic import add_p, max_p, min_p, mul_p, sub_p
from funcgrad.ops.dynamic_slices import dynamic_slice_p, dynamic_update_slice_p
from funcgrad.ops.indexing import GatherScatterMode, ScatterDimensionNumbers, window_sizes
from funcgrad.ops.logic import ge_p, le_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import full, reshape, squeeze
from funcgrad.ops.slicing import slice_

_COMBINE: dict[str, Primitive] = {"add": add_p, "sub": sub_p, "mul": mul_p, "min": min_p, "max": max_p}


def of_one_window(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return x[w] = combine(x[w], updates) where the equation is a scatter of one window, else None."""
    lowering = eqn.primitive.lowering
    avals = [v.aval for v in eqn.invars]
    if not isinstance(lowering, Scatter) or not _has_one_window(*avals):
        return None

    def fun(*args: Any) -> list[Any]:
        with source_of(eqn.source):
            return [_as_window_update(lowering.combine, *args, **eqn.params)]

    return trace_to_jaxpr(fun, avals)


def _has_one_window(operand: ShapedArray, indices: ShapedArray, updates: ShapedArray) -> bool:
    # An empty operand has no place for a window of size 1; there is nothing to write.
    return indices.ndim == 1 and operand.size > 0 and not dtypes.is_complex(operand.dtype)


def _as_window_update(
    combine: str,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    mode: GatherScatterMode,
    **_: Any,
) -> Any:
    shape = aval_of(operand).shape
    sizes = window_sizes(shape, aval_of(updates).shape, dimension_numbers)
    starts = [full((), 0, aval_of(indices).dtype) for _ in shape]
    for j, d in enumerate(dimension_numbers.scatter_dims_to_operand_dims):
        starts[d] = squeeze(slice_(indices, (j,), (j + 1,)), (0,))
    new = reshape(updates, sizes)
    if not combine and not mode.checks_bounds:
        return dynamic_update_slice_p.bind(operand, new, *starts)
    old = dynamic_slice_p.bind(operand, *starts, slice_sizes=sizes)
    new = _COMBINE[combine].bind(old, new) if combine else new
    for start, n, m in zip(starts, shape, sizes, strict=True) if mode.checks_bounds else ():
        dtype = aval_of(start).dtype
        for compare_p, limit in ((ge_p, 0), (le_p, n - m)):
            new = select_n_p.bind(compare_p.bind(start, full((), limit, dtype)), old, new)
    return dynamic_update_slice_p.bind(operand, new, *starts)
