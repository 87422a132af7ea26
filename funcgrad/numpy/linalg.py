"""funcgrad.numpy.linalg: linear algebra with NumPy's names."""

from __future__ import annotations

from typing import Any

from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.ops import linalg as ops

__all__ = ["cholesky"]


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Return the lower triangular L with L Lᴴ = a, or with `upper` Lᴴ, for a positive definite `a` of shape (…, n, n).

    Where `a` is not positive definite its lower triangle is NaN; NumPy raises an error. With `symmetrize_input`, `a` is
    replaced by (a + aᴴ)/2; else only its lower triangle is read. Integers become floats.

    Raises:
      ShapeError: the last two axes differ in size.

    >>> cholesky([[4, 2], [2, 5]], upper=True)
    Array([[2., 1.],
           [0., 2.]], dtype=float32)
    """
    (a,) = promote_inexact(a, operation="cholesky")
    ops.check_square("cholesky", aval_of(a))
    factor = ops.cholesky_p.bind((a + ops.conj_transpose(a)) / 2 if symmetrize_input else a)
    return ops.conj_transpose(factor) if upper else factor


_explain_missing_names(__name__)
