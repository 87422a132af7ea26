"""Products of vectors, matrices and arrays of higher rank."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.promotion import promote_dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ShapeError
from funcgrad.lax.operands import to_common_dtype
from funcgrad.ops import products as ops
from funcgrad.ops.products import DotDimensionNumbers, Precision

__all__ = ["DotDimensionNumbers", "Precision", "batch_matmul", "dot", "dot_general"]


def dot_general(
    lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Contract axes of `lhs` with axes of `rhs`: out[b, i, j] = Σₖ lhs[b, i, k] · rhs[b, k, j].

    `dimension_numbers` are ((lhs contracted, rhs contracted), (lhs batch, rhs batch)). The result has the batch axes,
    then the remaining axes of `lhs`, then those of `rhs`. Its dtype is `preferred_element_type`, by default that of the
    operands. Operands of different dtypes are promoted.

    >>> import funcgrad.numpy as jnp
    >>> dot_general(jnp.ones((5, 2, 3)), jnp.ones((5, 3)), (((2,), (1,)), ((0,), (0,)))).shape
    (5, 2)
    """
    ops.check_precision("dot_general", precision)
    lhs, rhs = promote_dtypes(*to_common_dtype("dot_general", lhs, rhs), operation="dot_general")
    dtype = preferred_element_type and dtypes.requested(preferred_element_type, "dot_general")
    return ops.dot_general(lhs, rhs, dimension_numbers, dtype)


def dot(
    lhs: Any, rhs: Any, *, dimension_numbers: Any = None, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Product of vectors and matrices, or `dot_general` if `dimension_numbers` are passed.

    >>> import funcgrad.numpy as jnp
    >>> dot(jnp.ones((2, 3)), jnp.ones(3))
    Array([3., 3.], dtype=float32)
    """
    lhs, rhs = to_common_dtype("dot", lhs, rhs)
    if dimension_numbers is None:
        ranks = aval_of(lhs).ndim, aval_of(rhs).ndim
        if not set(ranks) <= {1, 2}:
            raise ShapeError(
                f"dot: operands {aval_of(lhs)} and {aval_of(rhs)} are not vectors or matrices",
                fix="pass dimension_numbers, or use funcgrad.numpy.matmul",
            )
        dimension_numbers = (((ranks[0] - 1,), (0,)), ((), ()))
    return dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Any:
    """Batched matrix product, `(…, n, k)` times `(…, k, m)` to `(…, n, m)`, with equal leading axes."""
    lhs, rhs = to_common_dtype("batch_matmul", lhs, rhs)
    rank = aval_of(lhs).ndim
    if rank < 2 or aval_of(rhs).ndim != rank:
        raise ShapeError(
            f"batch_matmul: operands {aval_of(lhs)} and {aval_of(rhs)}", fix="pass operands of equal rank, at least 2"
        )
    batch = tuple(range(rank - 2))
    return dot_general(lhs, rhs, (((rank - 1,), (rank - 2,)), (batch, batch)), precision)
