"""The LU factorization with partial pivoting, P A = L U, and systems that are solved by it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.symbolic import Zero
from funcgrad.errors import DTypeError, ShapeError
from funcgrad.ops.arithmetic import neg_p
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.linalg.matrices import (
    Shape,
    constant,
    lapack,
    lower_triangle,
    matmul,
    matrix_primitive,
    matrix_transpose,
    permuted_rows,
    sliced,
    upper_triangle,
)
from funcgrad.ops.linalg.triangular import batch_system, check_linear, triangular_solve
from funcgrad.ops.slicing import iota, pad
from funcgrad.ops.sorting import sort


def _results(shape: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    m, n = shape
    return [((m, n), dtype), ((min(m, n),), dtypes.int32), ((m,), dtypes.int32)]


def _permutation(pivots: np.ndarray, size: int) -> np.ndarray:
    out = np.arange(size, dtype=np.int32)
    for i, j in enumerate(pivots):
        out[[i, j]] = out[[j, i]]
    return out


def _evaluate(x: np.ndarray) -> list[np.ndarray]:
    if not x.size:
        return [x, np.zeros(min(x.shape), np.int32), np.arange(x.shape[0], dtype=np.int32)]
    lu, pivots, _ = lapack("getrf", x.dtype)(x)
    return [lu, pivots.astype(np.int32), _permutation(pivots, x.shape[0])]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """dL = L tril(L⁻¹ P dA U⁻¹, −1) and dU = triu(L⁻¹ P dA U⁻¹) U.

    De Hoog, Anderssen and Lukas, Differentiation of matrix functionals using triangular factorization (Mathematics of
    Computation 80, 2011), section 3. L and U are extended by an identity to be square.
    """
    out = lu_p.bind(*primals)
    lu, pivots, permutation = out
    m, n = aval_of(lu).shape[-2:]
    k = min(m, n)
    lower = _extended(lower_triangle(sliced(lu, -1, 0, k), -1), (m, m), np.eye(m))
    upper = _extended(upper_triangle(sliced(lu, -2, 0, k)), (n, n), np.diag(np.arange(n) >= k))
    right = permuted_rows(tangents[0], permutation)
    left = triangular_solve(lower, right, left_side=True, lower=True, unit_diagonal=True)
    both = triangular_solve(upper, left)
    tangent = matmul(lower, lower_triangle(both, -1)) + matmul(upper_triangle(both), upper)
    return out, [tangent, *(Zero(aval_of(x).tangent()) for x in (pivots, permutation))]


def _extended(x: Any, shape: Shape, added: np.ndarray) -> Any:
    """The matrices with zeros after their rows and columns, plus a constant."""
    aval = aval_of(x)
    config = [(0, 0, 0)] * (aval.ndim - 2) + [(0, n - old, 0) for n, old in zip(shape, aval.shape[-2:], strict=True)]
    out = pad(x, np.zeros((), aval.dtype), config)
    return out + constant(added, out)


lu_p = matrix_primitive(
    "lu",
    results=_results,
    evaluate=_evaluate,
    jvp=_jvp,
    routine="getrf",
    flops=lambda a: 2 * a[0] * a[1] * min(a) / 3,
)


def _pivots_results(pivots: Shape, *, dtype: np.dtype, permutation_size: int) -> list[tuple[Shape, np.dtype]]:
    if dtype != np.int32:
        raise DTypeError(
            f"lu_pivots_to_permutation: pivots have type {ShapedArray(pivots, dtype)}", fix="give those of lu, int32"
        )
    if permutation_size < pivots[0]:
        raise ShapeError(
            f"lu_pivots_to_permutation: {pivots[0]} pivots do not permute {permutation_size} rows",
            fix="give the number of rows of the matrix, which is at least the number of pivots",
        )
    return [((permutation_size,), dtypes.int32)]


lu_pivots_to_permutation_p = matrix_primitive(
    "lu_pivots_to_permutation",
    results=_pivots_results,
    evaluate=lambda pivots, permutation_size: _permutation(pivots, permutation_size),
    ranks=(1,),
    indices=(0,),
    multiple_results=False,
    modes=(),
)


def lu_solve(lu: Any, permutation: Any, b: Any, trans: int = 0) -> Any:
    """Solve A X = B, or Aᵀ X = B (`trans` 1), or Aᴴ X = B (2), with the factorization of A; batches are equal."""
    if not trans:
        x = triangular_solve(lu, permuted_rows(b, permutation), left_side=True, lower=True, unit_diagonal=True)
        return triangular_solve(lu, x, left_side=True)
    options = {"left_side": True, "transpose_a": True, "conjugate_a": trans == 2}
    x = triangular_solve(lu, b, **options)
    x = triangular_solve(lu, x, lower=True, unit_diagonal=True, **options)
    return permuted_rows(x, inverse_permutation(permutation))


def inverse_permutation(permutation: Any) -> Any:
    """Return the permutations that undo those along the last axis."""
    aval = aval_of(permutation)
    last = aval.ndim - 1
    return sort([permutation, iota(dtypes.int32, aval.shape, last)], last)[1]


# ---------------------------------------------------------------- systems with a known factorization


def _solve_results(a: Shape, lu: Shape, permutation: Shape, b: Shape, *, dtype: np.dtype, transpose_a: bool) -> Any:
    if not a == lu == permutation * 2 or b[0] != a[0]:
        raise ShapeError(
            f"solve: matrices of shape {a} and right-hand sides of shape {b} do not fit",
            fix="give square matrices, and right-hand sides with as many rows",
        )
    return [(b, dtype)]


def _solve_evaluate(a: Any, lu: Any, permutation: Any, b: Any, *, transpose_a: bool) -> np.ndarray:
    if not b.size:
        return b
    getrs, rows = lapack("getrs", b.dtype), np.arange(len(lu), dtype=np.int32)
    if not transpose_a:
        return getrs(lu, rows, b[permutation])[0]
    out = np.empty_like(b)
    out[permutation] = getrs(lu, rows, b, trans=1)[0]
    return out


def _solve_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, transpose_a: bool) -> tuple[Any, Any]:
    """From A X = B follows A dX = dB − dA X. The factors are those of A, so their tangents do not matter."""
    (*system, _), (da, _, _, db) = primals, tangents
    x = solve_p.bind(*primals, transpose_a=transpose_a)
    if type(da) is not Zero:
        change = matmul(matrix_transpose(da) if transpose_a else da, x)
        db = add_tangents(db, neg_p.bind(change))
    return x, db if type(db) is Zero else solve_p.bind(*system, db, transpose_a=transpose_a)


def _solve_transpose(ct: Any, *args: Any, transpose_a: bool) -> list[Any]:
    check_linear("solve", args[:3])
    if type(ct) is Zero:
        return [None] * 4
    return [None, None, None, solve_p.bind(*args[:3], ct, transpose_a=not transpose_a)]


solve_p = matrix_primitive(
    "solve",
    finite=False,
    results=_solve_results,
    evaluate=_solve_evaluate,
    ranks=(2, 2, 1, 2),
    indices=(2,),
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=functools.partial(batch_system, lambda: solve_p),
    routine="getrs",
    flops=lambda a, lu, permutation, b: 2 * a[0] * b[0] * b[1],
    multiple_results=False,
)


def solve(a: Any, b: Any) -> Any:
    """Solve A X = B for batches of matrices with equal leading axes; derivatives use the same factorization."""
    lu, _, permutation = lu_p.bind(stop_gradient_p.bind(a))
    return solve_p.bind(a, lu, permutation, b, transpose_a=False)
