"""funcgrad.numpy.linalg: the numpy.linalg API."""

from __future__ import annotations

from typing import Any

from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.ops import linalg as ops

__all__ = ["cholesky"]


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Cholesky factor of positive definite matrices: the lower triangular L with L Lᴴ = a, or Lᴴ if `upper`.

    `a` has shape (…, n, n); integers become floats. With `symmetrize_input`, `a` is first replaced by (a + aᴴ)/2;
    otherwise only its lower triangle is read. If `a` is not positive definite, the lower triangle of the result is NaN;
    NumPy raises an error instead.

    Raises:
      ShapeError: the last two axes differ in size.

    >>> import funcgrad.numpy as jnp
    >>> cholesky(jnp.array([[4, 2], [2, 5]]), upper=True)
    Array([[2., 1.],
           [0., 2.]], dtype=float32)
    """
    (a,) = promote_inexact(a, operation="cholesky")
    ops.check_square("cholesky", aval_of(a))
    factor = ops.cholesky_p.bind((a + ops.conj_transpose(a)) / 2 if symmetrize_input else a)
    return ops.conj_transpose(factor) if upper else factor


_explain_missing_names(__name__)
