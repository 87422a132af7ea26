"""Linear systems, with the signatures of scipy.linalg."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax import linalg as lax
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.linalg import det as numpy_det
from funcgrad.numpy.linalg import eigvals
from funcgrad.numpy.linalg import inv as numpy_inv
from funcgrad.numpy.linalg import solve as numpy_solve
from funcgrad.numpy.linalg.factorizations import as_matrices
from funcgrad.numpy.masks import where
from funcgrad.numpy.matrices import eye
from funcgrad.numpy.products import kron
from funcgrad.numpy.reductions import min
from funcgrad.numpy.shapes import expand_dims, reshape, squeeze
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.linalg.matrices import check_square, matrix_transpose
from funcgrad.scipy.linalg.factorizations import cholesky

__all__ = ["cho_solve", "det", "inv", "lu_solve", "solve", "solve_sylvester", "solve_triangular"]


def _system(operation: str, a: Any, b: Any) -> tuple[Any, Any, bool]:
    """Matrices and right-hand sides with one dtype and equal leading axes, and whether b is a vector."""
    a, b = promote_inexact(a, b, operation=operation)
    a = as_matrices(a, operation)
    check_square(operation, aval_of(a))
    vector = aval_of(b).ndim == 1
    a, b = lax.same_batch(operation, a, expand_dims(b, -1) if vector else b)
    return a, b, vector


def solve_triangular(
    a: Any,
    b: Any,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    debug: Any = None,
    check_finite: bool = True,
) -> Any:
    """Solve a x = b for triangular matrices; `trans` 1 or "T" solves with aᵀ, 2 or "C" with aᴴ.

    >>> import funcgrad.numpy as jnp
    >>> solve_triangular(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 9.0]), lower=True)
    Array([1., 2.], dtype=float32)
    """
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ArgumentError(f"solve_triangular: trans={trans!r}", fix="use 0 or 'N', 1 or 'T', 2 or 'C'")
    a, b, vector = _system("solve_triangular", a, b)
    x = lax.triangular_solve(
        a,
        b,
        left_side=True,
        lower=lower,
        transpose_a=trans not in (0, "N"),
        conjugate_a=trans in (2, "C"),
        unit_diagonal=unit_diagonal,
    )
    return squeeze(x, -1) if vector else x


def cho_solve(c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    """Solve a x = b with `cho_factor(a)`.

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad.scipy.linalg import cho_factor
    >>> cho_solve(cho_factor(jnp.array([[4.0]])), jnp.array([8.0]))
    Array([2.], dtype=float32)
    """
    factor, lower = c_and_lower
    first, second = (0, 2) if lower else (2, 0)
    x = solve_triangular(factor, b, trans=first, lower=lower)
    return solve_triangular(factor, x, trans=second, lower=lower)


def lu_solve(
    lu_and_piv: tuple[Any, Any], b: Any, trans: int = 0, overwrite_b: bool = False, check_finite: bool = True
) -> Any:
    """Solve a x = b with `lu_factor(a)`; `trans` 1 solves with aᵀ, 2 with aᴴ."""
    factors, pivots = lu_and_piv
    factors, b, vector = _system("lu_solve", factors, b)
    permutation = lax.lu_pivots_to_permutation(pivots, aval_of(factors).shape[-1])
    x = lax.lu_solve(factors, permutation, b, trans)
    return squeeze(x, -1) if vector else x


def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    debug: bool = False,
    check_finite: bool = True,
    assume_a: str = "gen",
) -> Any:
    """Solve a x = b. If `assume_a` is "pos", matrices are positive definite, and one triangle of them is read."""
    if assume_a not in ("gen", "sym", "her", "pos"):
        raise ArgumentError(f"solve: assume_a={assume_a!r}", fix="use 'gen', 'sym', 'her' or 'pos'")
    if assume_a != "pos":
        return numpy_solve(a, b)
    return cho_solve((cholesky(a, lower=lower), lower), b)


def inv(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Inverse matrices; see `numpy.linalg.inv`."""
    return numpy_inv(a)


def det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Determinants; see `numpy.linalg.det`."""
    return numpy_det(a)


def solve_sylvester(A: Any, B: Any, C: Any, *, method: str = "schur", tol: float = 1e-8) -> Any:
    """Solve A X + X B = C, for A of shape (m, m) and B (n, n), as one system of m n equations.

    Where the sum of an eigenvalue of A and one of B is less than `tol`, the result is NaN. `method` has no effect.

    >>> import funcgrad.numpy as jnp
    >>> solve_sylvester(jnp.array([[1.0]]), jnp.array([[2.0]]), jnp.array([[6.0]]))
    Array([[2.]], dtype=float32)
    """
    A, B, C = promote_inexact(A, B, C, operation="solve_sylvester")
    m, n = aval_of(C).shape[-2:] if aval_of(C).ndim == 2 else (-1, -1)
    if aval_of(A).shape != (m, m) or aval_of(B).shape != (n, n):
        raise ShapeError(
            f"solve_sylvester: {aval_of(A)}, {aval_of(B)} and {aval_of(C)} do not fit",
            fix="give shapes (m, m), (n, n) and (m, n), and apply vmap for batches",
        )
    dtype = aval_of(C).dtype
    left, right = (eigvals(stop_gradient_p.bind(x)) for x in (A, B))
    system = kron(A, eye(n, dtype=dtype)) + kron(eye(m, dtype=dtype), matrix_transpose(B))
    x = reshape(numpy_solve(system, reshape(C, (m * n,))), (m, n))
    return where(min(uf.abs(left[:, None] + right)) < tol, np.nan, x)
