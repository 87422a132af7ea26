"""The Cholesky factorization, and its update by a product of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import ShapeError
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.linalg.matrices import (
    Shape,
    as_columns,
    as_rows,
    check_square,
    conj_transpose,
    matmul,
    matrix_primitive,
    matrix_transpose,
    upper_triangle,
    weighted,
)
from funcgrad.ops.linalg.triangular import triangular_solve
from funcgrad.ops.shapes import instantiate


def _half(x: Any) -> Any:
    """The lower triangle with half of the diagonal; for Hermitian x, the matrix Φ with Φ + Φᴴ = x."""
    n = aval_of(x).shape[-1]
    return weighted(x, np.tri(n) - np.eye(n) / 2)


def _results(shape: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    check_square("cholesky", ShapedArray(shape, dtype))
    return [(shape, dtype)]


def _evaluate(x: np.ndarray) -> np.ndarray:
    try:
        factor = np.linalg.cholesky(x)
        if np.isfinite(np.diagonal(factor)).all():
            return factor
    except np.linalg.LinAlgError:  # how NumPy says that a matrix is not positive definite
        pass
    return np.where(np.tri(len(x), dtype=bool), np.nan, 0)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """dL = L Φ(L⁻¹ dA L⁻ᴴ), where Φ takes the lower triangle with half of the diagonal.

    Murray, Differentiation of the Cholesky decomposition (arXiv:1602.07527), equation 8. dA is what the lower triangle
    of the tangent stands for, as the factorization reads no other.
    """
    factor = cholesky_p.bind(*primals)
    lower = _half(tangents[0])
    return factor, _factor_tangent(factor, add_tangents(lower, conj_transpose(lower)))


def _factor_tangent(factor: Any, tangent: Any) -> Any:
    right = triangular_solve(factor, tangent, left_side=False, lower=True, transpose_a=True, conjugate_a=True)
    return matmul(factor, _half(triangular_solve(factor, right, left_side=True, lower=True)))


cholesky_p = matrix_primitive(
    "cholesky",
    finite=False,
    results=_results,
    evaluate=_evaluate,
    jvp=_jvp,
    routine="potrf",
    flops=lambda shape: shape[0] ** 3 / 3,
    multiple_results=False,
)


# ---------------------------------------------------------------- updates


def _update_results(r: Shape, w: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    if r != w * 2:
        raise ShapeError(
            f"cholesky_update: a factor of shape {r} and a vector of shape {w} do not fit",
            fix="give a square matrix, and a vector of its size",
        )
    return [(r, dtype)]


def _update(r: np.ndarray, w: np.ndarray) -> np.ndarray:
    r = np.triu(r)
    for k in range(len(w)):
        length = np.hypot(r[k, k], w[k])
        c, s = (r[k, k] / length, w[k] / length) if w[k] else (1, 0)
        r[k], w = c * r[k] + s * w, c * w - s * r[k]
    return r


def _update_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The derivative of the Cholesky factor of Rᵀ R + w wᵀ along dRᵀ R + Rᵀ dR + dw wᵀ + w dwᵀ."""
    (r, w), (dr, dw) = primals, map(instantiate, tangents)
    out = cholesky_update_p.bind(r, w)
    half = matmul(matrix_transpose(upper_triangle(dr)), upper_triangle(r)) + as_columns(dw, r) * as_rows(w, r)
    return out, matrix_transpose(_factor_tangent(matrix_transpose(out), half + matrix_transpose(half)))


cholesky_update_p = matrix_primitive(
    "cholesky_update",
    finite=False,
    results=_update_results,
    evaluate=_update,
    ranks=(2, 1),
    jvp=_update_jvp,
    multiple_results=False,
)
