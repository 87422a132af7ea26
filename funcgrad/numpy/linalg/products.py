"""Products, diagonals and transposes of matrices, with the signatures of numpy.linalg."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import matrices, products, tools
from funcgrad.ops.linalg import matrices as ops

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_transpose",
    "multi_dot",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
]


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Cross product of vectors of size 3 along `axis`."""
    x1, x2 = as_operand(x1, "cross"), as_operand(x2, "cross")
    if any(aval_of(x).ndim == 0 or aval_of(x).shape[axis] != 3 for x in (x1, x2)):
        raise ShapeError(f"cross: {aval_of(x1)} and {aval_of(x2)} along axis {axis}", fix="give vectors of size 3")
    return tools.cross(x1, x2, axis=axis)


def outer(x1: Any, x2: Any, /) -> Any:
    """Outer product of two vectors."""
    x1, x2 = as_operand(x1, "outer"), as_operand(x2, "outer")
    if aval_of(x1).ndim != 1 or aval_of(x2).ndim != 1:
        raise ShapeError(
            f"outer: {aval_of(x1)} and {aval_of(x2)} are no vectors", fix="use numpy.outer, which flattens"
        )
    return products.outer(x1, x2)


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """Diagonals of matrices, the last two axes."""
    return matrices.diagonal(x, offset=offset, axis1=-2, axis2=-1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sums of the diagonals of matrices, the last two axes."""
    return products.trace(x, offset=offset, axis1=-2, axis2=-1, dtype=dtype)


def matrix_transpose(x: Any, /) -> Any:
    """Matrices with their last two axes exchanged."""
    x = as_operand(x, "matrix_transpose")
    if aval_of(x).ndim < 2:
        raise ShapeError(f"matrix_transpose: {aval_of(x)} is no batch of matrices", fix="give it two axes or more")
    return ops.matrix_transpose(x)


def matmul(x1: Any, x2: Any, /, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Matrix product; see `numpy.matmul`."""
    return products.matmul(x1, x2, precision=precision, preferred_element_type=preferred_element_type)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Inner products of vectors along `axis`; see `numpy.vecdot`."""
    return products.vecdot(x1, x2, axis=axis, precision=precision, preferred_element_type=preferred_element_type)


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum of products over axes of two arrays; see `numpy.tensordot`."""
    return products.tensordot(x1, x2, axes=axes, precision=precision, preferred_element_type=preferred_element_type)


def multi_dot(arrays: Sequence[Any], *, precision: Any = None) -> Any:
    """Product of two matrices or more, in the cheapest order; the first and last may be vectors.

    >>> import funcgrad.numpy as jnp
    >>> multi_dot([jnp.ones(2), jnp.ones((2, 3)), jnp.ones((3, 4))])
    Array([6., 6., 6., 6.], dtype=float32)
    """
    factors = [as_operand(x, "multi_dot") for x in arrays]
    shown = ", ".join(str(aval_of(x)) for x in factors)
    if len(factors) < 2:
        raise ArgumentError(f"multi_dot: {len(factors)} arrays", fix="give two or more")
    ranks = [aval_of(x).ndim for x in factors]
    if not {ranks[0], ranks[-1]} <= {1, 2} or any(n != 2 for n in ranks[1:-1]):
        raise ShapeError(f"multi_dot: {shown} are no matrices", fix="only the first and the last may be vectors")
    if any(aval_of(x).shape[-1] != aval_of(y).shape[0] for x, y in itertools.pairwise(factors)):
        raise ShapeError(
            f"multi_dot: {shown} do not fit", fix="the last axis of each must have the size of the next first"
        )
    axes = [[i, i + 1] for i in range(len(factors))]
    axes[0], axes[-1] = axes[0][-ranks[0] :], axes[-1][: ranks[-1]]
    return products.einsum(*itertools.chain(*zip(factors, axes, strict=True)), optimize="auto", precision=precision)
