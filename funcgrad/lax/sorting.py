"""Sorting and top-k selection."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis, as_int
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.errors import DTypeError
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import sorting as ops

__all__ = ["approx_max_k", "approx_min_k", "sort", "sort_key_val", "top_k"]


def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Sort an array along a dimension, or several arrays together.

    Several arrays are sorted by the first `num_keys` of them, in lexicographic order. NaN sorts last, and −0 equals 0.

    >>> import funcgrad.numpy as jnp
    >>> sort((jnp.array([2, 1, 2]), jnp.array([5, 4, 3])), num_keys=2)
    (Array([1, 2, 2], dtype=int32), Array([4, 3, 5], dtype=int32))
    """
    many = isinstance(operand, (tuple, list))
    operands = [as_operand(x, "sort") for x in (operand if many else [operand])]
    axis = as_axis(dimension, aval_of(operands[0]).ndim, "sort")
    out = ops.sort(operands, axis, is_stable, num_keys)
    return tuple(out) if many else out[0]


def sort_key_val(keys: Any, values: Any, dimension: int = -1, is_stable: bool = True) -> tuple[Any, Any]:
    """Sort keys, and permute values in the same way."""
    return sort((keys, values), dimension, is_stable)


def top_k(operand: Any, k: int, *, axis: int = -1) -> list[Any]:
    """Return the `k` largest elements along an axis, in descending order, and their indices.

    Among equal elements, those with lower indices come first.

    >>> import funcgrad.numpy as jnp
    >>> top_k(jnp.array([1.0, 3.0, 2.0]), 2)
    [Array([3., 2.], dtype=float32), Array([1, 2], dtype=int32)]
    """
    x = as_operand(operand, "top_k")
    return ops.top_k(x, as_int(k, "k", "top_k"), as_axis(axis, aval_of(x).ndim, "top_k"))


def approx_max_k(
    operand: Any, k: int, reduction_dimension: int = -1, recall_target: float = 0.95, **options: Any
) -> Any:
    """Return the `k` largest elements and their indices. They are exact: `recall_target` has no effect on CPUs."""
    return top_k(operand, k, axis=reduction_dimension)


def approx_min_k(
    operand: Any, k: int, reduction_dimension: int = -1, recall_target: float = 0.95, **options: Any
) -> Any:
    """Return the `k` smallest elements and their indices. They are exact: `recall_target` has no effect on CPUs."""
    x = as_operand(operand, "approx_min_k")
    if not dtypes.is_float(aval_of(x).dtype):
        raise DTypeError(f"approx_min_k: operand has type {aval_of(x)}", fix="cast it to a float")
    values, positions = top_k(ar.neg_p.bind(x), k, axis=reduction_dimension)
    return [ar.neg_p.bind(values), positions]
