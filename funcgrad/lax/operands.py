"""Conversion of the operands of lax functions to arrays of equal dtypes and shapes."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, broadcast_shapes
from funcgrad.core.array_types import aval_of
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import broadcast_in_dim


def with_dtype(x: Any, dtype: Any) -> Any:
    """Convert a weakly typed value to `dtype` if it promotes to it; leave other values for the primitive to reject."""
    aval = aval_of(x)
    if aval.weak_type and dtypes.promote(((dtype, False), (aval.dtype, True))) == (dtype, False):
        return convert_element_type(x, dtype)
    return x


def to_common_dtype(operation: str, *xs: Any) -> list[Any]:
    """Return operands as arrays; weakly typed ones get the dtype of the first strongly typed one."""
    arrays = [as_operand(x, operation) for x in xs]
    strong = next((aval_of(a).dtype for a in arrays if not aval_of(a).weak_type), None)
    return arrays if strong is None else [with_dtype(a, strong) for a in arrays]


def to_common_shape(operation: str, *arrays: Any) -> list[Any]:
    """Broadcast axes of size 1; leave scalars unchanged, and incompatible shapes for the primitive to reject."""
    shapes = {aval_of(a).shape for a in arrays if aval_of(a).shape}
    if len(shapes) < 2 or len({len(s) for s in shapes}) > 1:
        return list(arrays)
    shape = broadcast_shapes(*shapes, operation=operation)
    axes = range(len(shape))
    return [broadcast_in_dim(a, shape, axes) if aval_of(a).shape else a for a in arrays]
