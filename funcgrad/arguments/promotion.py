"""From what users pass to what primitives take: conversion, dtype promotion, rank promotion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core.array_types import ArrayLike, aval_of, remedy_for_no_array
from funcgrad.core.arrays import Array, as_array
from funcgrad.errors import ArgumentError, IntegerOverflowError, ShapeError, warn
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import broadcast_in_dim


def as_operand(x: Any, operation: str) -> Any:
    """Return `x` as an Array or Tracer; Python lists and None are refused, as in JAX."""
    if isinstance(x, ArrayLike):
        return x
    if isinstance(x, (np.ndarray, np.generic, bool, int, float, complex)):
        return _checked_scalar(x, operation) if isinstance(x, int) else as_array(x)
    if hasattr(x, "__jax_array__"):
        return x.__jax_array__()
    if hasattr(x, "__array__") and not isinstance(x, (list, tuple)):
        return as_array(np.asarray(x))
    raise ArgumentError(
        f"{operation}: operand {x!r:.80} of type {type(x).__name__} is not an array",
        fix=remedy_for_no_array(x),
    )


def _checked_scalar(x: int, operation: str) -> Array:
    dtype = dtypes.canonicalize(int)
    if not isinstance(x, bool) and not np.iinfo(dtype).min <= x <= np.iinfo(dtype).max:
        raise IntegerOverflowError(
            f"{operation}: Python integer {x} does not fit {dtype.name}",
            fix="use a float, or enable 64-bit types with funcgrad.config.update('enable_x64', True)",
        )
    return as_array(x)


def promote_dtypes(*args: Any, operation: str = "operation") -> list[Any]:
    """Convert operands to their common dtype in the promotion lattice."""
    arrays = [as_operand(a, operation) for a in args]
    avals = [a.aval for a in arrays]
    first = avals[0]
    if all(a.dtype == first.dtype and a.weak_type == first.weak_type for a in avals):
        return arrays
    dtype, weak = dtypes.promote(tuple((a.dtype, a.weak_type) for a in avals))
    return [convert_element_type(a, dtype, weak) for a in arrays]


def promote_inexact(*args: Any, operation: str = "operation") -> list[Any]:
    """Like promote_dtypes; integers and bools become floats, see `dtypes.inexact`."""
    arrays = [as_operand(a, operation) for a in args]
    dtype, weak = dtypes.promote(tuple((a.aval.dtype, a.aval.weak_type) for a in arrays))
    if not dtypes.is_inexact(dtype):
        dtype, weak = dtypes.inexact(dtype, weak), weak and dtype != dtypes.bool_
    # Each from its own dtype: an unsigned integer and −1 meet as floats.
    return [convert_element_type(a, dtype, weak) for a in arrays]


def broadcast_shapes(*shapes: Sequence[int], operation: str = "broadcast_shapes") -> tuple[int, ...]:
    """Return the shape that NumPy's rules broadcast the given ones to."""
    rank = max((len(s) for s in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for d, n in enumerate(shape, rank - len(shape)):
            if n != 1 and result[d] not in (1, n):
                raise ShapeError(
                    f"{operation}: shapes {' and '.join(str(tuple(s)) for s in shapes)} do not broadcast together",
                    fix="sizes must be equal or 1, counted from the last axis; reshape or insert axes with x[:, None]",
                )
            if n != 1:
                result[d] = n
    return tuple(result)


def broadcast_to(x: Any, shape: Sequence[int], operation: str = "broadcast_to") -> Any:
    """Repeat `x` to `shape` by NumPy's rules."""
    have, shape = aval_of(x).shape, tuple(shape)
    if have == shape:
        return x
    lead = len(shape) - len(have)
    if lead < 0 or any(n not in (1, m) for n, m in zip(have, shape[lead:], strict=True)):
        raise ShapeError(
            f"{operation}: an array of shape {have} does not broadcast to {shape}",
            fix="sizes must be equal or 1, counted from the last axis",
        )
    return broadcast_in_dim(x, shape, tuple(range(lead, len(shape))))


def promote_shapes(*args: Any, operation: str = "operation") -> list[Any]:
    """Broadcast operands together; scalars stay scalars (elementwise primitives take them)."""
    shapes = {a.aval.shape for a in args}
    if len(shapes) == 1 or (len(shapes) == 2 and () in shapes):
        return list(args)
    ranks = {len(s) for s in shapes if s}
    if len(ranks) > 1 and config.numpy_rank_promotion != "allow":
        _rank_promotion(operation, [a.aval.shape for a in args])
    shape = broadcast_shapes(*(a.aval.shape for a in args), operation=operation)
    return [a if not a.aval.shape else broadcast_to(a, shape) for a in args]


def _rank_promotion(operation: str, shapes: list[tuple[int, ...]]) -> None:
    message = f"{operation}: operands of shapes {shapes} have different ranks"
    fix = "reshape explicitly, or set config.numpy_rank_promotion to 'allow'"
    if config.numpy_rank_promotion == "raise":
        raise ShapeError(message, fix=fix)
    warn(f"{message}; fix: {fix}")


def promote(*args: Any, operation: str) -> list[Any]:
    """Bring operands to one dtype and one shape (or scalars)."""
    return promote_shapes(*promote_dtypes(*args, operation=operation), operation=operation)
