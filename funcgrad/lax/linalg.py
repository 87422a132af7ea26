"""funcgrad.lax.linalg: matrix factorizations and triangular solves, for batches of matrices."""

from __future__ import annotations

from typing import Any

from funcgrad.core.array_types import aval_of
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.lax.operands import as_operand
from funcgrad.ops import linalg as ops
from funcgrad.ops.linalg import cholesky_p as cholesky_p
from funcgrad.ops.linalg import triangular_solve_p as triangular_solve_p
from funcgrad.ops.shapes import expand_dims, squeeze

__all__ = ["cholesky", "cholesky_p", "triangular_solve", "triangular_solve_p"]


def cholesky(a: Any, *, symmetrize_input: bool = True) -> Any:
    """Cholesky factorization: the lower triangular L with positive diagonal and L Lᴴ = a, for a of shape (…, n, n).

    `a` is Hermitian and positive definite; if it is not, the lower triangle of the factor is NaN. With
    `symmetrize_input`, it is first replaced by (a + aᴴ)/2; otherwise only its lower triangle is read. Compiled programs
    call LAPACK's `potrf`.

    Raises:
      ShapeError: the last two axes differ in size.
      DTypeError: `a` is not float32, float64, complex64 or complex128.

    >>> import funcgrad.numpy as jnp
    >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    Array([[2., 0.],
           [1., 2.]], dtype=float32)
    """
    a = as_operand(a, "cholesky")
    if symmetrize_input and aval_of(a).ndim > 1:
        ops.check_square("cholesky", aval_of(a))
        a = (a + ops.conj_transpose(a)) / 2
    return cholesky_p.bind(a)


def triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    """Solve op(a) X = b if `left_side`, or X op(a) = b, for triangular `a` of shape (…, n, n).

    Only the `lower` or upper triangle of `a` is read; with `unit_diagonal`, its diagonal is assumed to be 1. op(a) is
    a, transposed if `transpose_a` and conjugated if `conjugate_a`. `b` has shape (…, n, m) if `left_side`, or (…, m,
    n); the axis m may be missing. A zero on the diagonal gives infinities and NaN.

    >>> import funcgrad.numpy as jnp
    >>> triangular_solve(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 9.0]), left_side=True, lower=True)
    Array([1., 2.], dtype=float32)
    """
    a, b = as_operand(a, "triangular_solve"), as_operand(b, "triangular_solve")
    vector = aval_of(b).ndim == aval_of(a).ndim - 1
    if vector:
        b = expand_dims(b, (aval_of(b).ndim - (not left_side),))
    out = ops.triangular_solve(
        a,
        b,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )
    return squeeze(out, (aval_of(out).ndim - (1 if left_side else 2),)) if vector else out


_explain_missing_names(__name__)
