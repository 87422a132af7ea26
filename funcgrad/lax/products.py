"""Products of vectors, matrices and arrays of higher rank."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, promote_dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ShapeError
from funcgrad.lax.operands import to_common_dtype
from funcgrad.ops import products as ops
from funcgrad.ops import reductions
from funcgrad.ops.arithmetic import sub_p
from funcgrad.ops.dynamic_slices import dynamic_slice
from funcgrad.ops.elementwise import mul_p
from funcgrad.ops.logic import and_p, le_p, lt_p
from funcgrad.ops.products import DotAlgorithm, DotAlgorithmPreset, DotDimensionNumbers, Precision
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, reshape, zeros_of
from funcgrad.ops.slicing import iota

__all__ = [
    "DotAlgorithm",
    "DotAlgorithmPreset",
    "DotDimensionNumbers",
    "Precision",
    "batch_matmul",
    "dot",
    "dot_general",
    "ragged_dot",
    "scaled_dot",
]


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


def ragged_dot(
    lhs: Any,
    rhs: Any,
    group_sizes: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    group_offset: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Product of consecutive groups of rows with a matrix each: out[i] = lhs[i] @ rhs[g] for row i in group g.

    The shapes are (m, k), (g, k, n) and (g,), and the result is (m, n). Rows beyond the last group give zeros.
    It is one product of matrices, the first of which is (m, g·k). `group_offset`, of shape (1,), is the first group.

    >>> import funcgrad.numpy as jnp
    >>> ragged_dot(jnp.ones((3, 2)), jnp.arange(4.0).reshape(2, 2, 1), jnp.array([1, 2]))
    Array([[1.],
           [5.],
           [5.]], dtype=float32)
    """
    lhs, rhs, sizes = *to_common_dtype("ragged_dot", lhs, rhs), as_operand(group_sizes, "ragged_dot")
    shapes_of = [aval_of(x).shape for x in (lhs, rhs, sizes)]
    if [len(s) for s in shapes_of] != [2, 3, 1] or shapes_of[0][1] != shapes_of[1][1]:
        raise ShapeError(
            f"ragged_dot: operands {aval_of(lhs)}, {aval_of(rhs)} and {aval_of(sizes)}",
            fix="pass arrays of shapes (m, k), (g, k, n) and (g,)",
        )
    (m, k), (g, _, n), _ = shapes_of
    dtype = aval_of(sizes).dtype
    ends = reductions.cumsum(sizes, 0)
    starts = sub_p.bind(ends, sizes)
    if group_offset is not None:
        first = reshape(as_operand(group_offset, "ragged_dot"), ())
        starts, ends = (dynamic_slice(x, (first,), (g,)) for x in (starts, ends))
    rows = iota(dtype, (m, g), 0)
    starts, ends = (broadcast_in_dim(x, (m, g), (1,)) for x in (starts, ends))
    inside = and_p.bind(le_p.bind(starts, rows), lt_p.bind(rows, ends))
    spread = broadcast_in_dim(lhs, (m, g, k), (0, 2))
    masked = select_n_p.bind(broadcast_in_dim(inside, (m, g, k), (0, 1)), zeros_of(aval_of(spread)), spread)
    numbers = (((1,), (0,)), ((), ()))
    return dot_general(
        reshape(masked, (m, g * k)), reshape(rhs, (g * k, n)), numbers, precision, preferred_element_type
    )


def scaled_dot(
    lhs: Any,
    rhs: Any,
    *,
    lhs_scale: Any = None,
    rhs_scale: Any = None,
    dimension_numbers: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Product of arrays with a scale for each block of elements: `dot_general` of lhs · lhs_scale and rhs · rhs_scale.

    The size of each axis of a scale divides that of the operand; each of its elements scales a block. By default, the
    last axis of `lhs` is contracted with the one before the last of `rhs`, and axes before these two are the batch.

    >>> import funcgrad.numpy as jnp
    >>> scaled_dot(jnp.ones((1, 4)), jnp.ones((4, 1)), lhs_scale=jnp.array([[2.0, 3.0]]))
    Array([[10.]], dtype=float32)
    """
    operands = [_scaled(x, s) for x, s in ((lhs, lhs_scale), (rhs, rhs_scale))]
    if dimension_numbers is None:
        rank = aval_of(operands[0]).ndim
        batch = tuple(range(rank - 2))
        dimension_numbers = (((rank - 1,), (rank - 2,)), (batch, batch))
    return dot_general(*operands, dimension_numbers, None, preferred_element_type)


def _scaled(x: Any, scale: Any) -> Any:
    x = as_operand(x, "scaled_dot")
    if scale is None:
        return x
    scale = as_operand(scale, "scaled_dot")
    have, want = aval_of(scale).shape, aval_of(x).shape
    if len(have) != len(want) or any(n % m for m, n in zip(have, want, strict=True)):
        raise ShapeError(
            f"scaled_dot: a scale of type {aval_of(scale)} for an operand of type {aval_of(x)}",
            fix="the size of each axis of the scale divides that of the operand",
        )
    blocks = [size for m, n in zip(have, want, strict=True) for size in (m, n // m)]
    repeated = reshape(broadcast_in_dim(scale, blocks, tuple(range(0, len(blocks), 2))), want)
    return mul_p.bind(*promote_dtypes(x, repeated, operation="scaled_dot"))
