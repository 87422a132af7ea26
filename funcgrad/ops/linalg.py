"""Linear algebra on batches of matrices: the Cholesky factorization, and triangular solves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import LibraryRoutine
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import DTypeError, NotDifferentiableError, ShapeError
from funcgrad.ops.arithmetic import conj, mul_p, sub_p
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.products import dot_general
from funcgrad.ops.shapes import broadcast_in_dim, leading, to_dim, transpose

DTYPES = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)


def check_square(name: str, x: ShapedArray) -> None:
    """Raise unless `x` is a batch of square matrices with a dtype that LAPACK supports."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: {x} is no batch of square matrices", fix="its last two axes must have one size")
    if x.dtype not in DTYPES:
        raise DTypeError(
            f"{name}: operand has type {x}; {name} takes {', '.join(d.name for d in DTYPES)}",
            fix="cast it with .astype(...)",
        )


def matmul(x: Any, y: Any) -> Any:
    """x @ y for batches of matrices with equal leading axes."""
    batch = tuple(range(aval_of(x).ndim - 2))
    return dot_general(x, y, (((len(batch) + 1,), (len(batch),)), (batch, batch)))


def conj_transpose(x: Any) -> Any:
    """xᴴ for a batch of matrices."""
    n = aval_of(x).ndim
    moved = transpose(x, (*range(n - 2), n - 1, n - 2))
    return conj(moved) if dtypes.is_complex(aval_of(x).dtype) else moved


def _weighted(x: Any, weights: np.ndarray) -> Any:
    """The elementwise product of a batch of matrices with one matrix of weights."""
    aval = aval_of(x)
    return mul_p.bind(x, broadcast_in_dim(weights.astype(aval.dtype), aval.shape, (aval.ndim - 2, aval.ndim - 1)))


def _half(x: Any) -> Any:
    """The lower triangle with half of the diagonal; for Hermitian x, the matrix Φ with Φ + Φᴴ = x."""
    n = aval_of(x).shape[-1]
    return _weighted(x, np.tri(n) - np.eye(n) / 2)


# ---------------------------------------------------------------- Cholesky


def _cholesky_infer(x: ShapedArray) -> ShapedArray:
    check_square("cholesky", x)
    return x


def _cholesky_evaluate(x: np.ndarray) -> np.ndarray:
    out = np.full_like(x, np.where(np.tri(x.shape[-1], dtype=bool), np.nan, 0), order="C")
    for i in np.ndindex(x.shape[:-2]):
        try:
            factor = np.linalg.cholesky(x[i])
        except np.linalg.LinAlgError:  # how NumPy says that a matrix is not positive definite
            continue
        if np.isfinite(np.diagonal(factor)).all():
            out[i] = factor
    return out


def _cholesky_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """dL = L Φ(L⁻¹ dA L⁻ᴴ), where Φ takes the lower triangle with half of the diagonal.

    Murray, Differentiation of the Cholesky decomposition (arXiv:1602.07527), equation 8. dA is what the lower triangle
    of the tangent stands for, as the factorization reads no other.
    """
    factor = cholesky_p.bind(*primals)
    tangent = add_tangents(_half(tangents[0]), conj_transpose(_half(tangents[0])))
    right = triangular_solve(factor, tangent, left_side=False, lower=True, transpose_a=True, conjugate_a=True)
    return factor, matmul(factor, _half(triangular_solve(factor, right, left_side=True, lower=True)))


def _cholesky_batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any]) -> tuple[Any, int]:
    return cholesky_p.bind(*leading(args, dims)), 0


def _potrf(in_avals: Sequence[ShapedArray], out_avals: Sequence[ShapedArray]) -> dict[str, Any]:
    *batch, n, _ = in_avals[0].shape
    return {"dtype": in_avals[0].dtype, "batch": math.prod(batch), "n": n}


cholesky_p = Primitive(
    "cholesky",
    infer=_cholesky_infer,
    evaluate=_cholesky_evaluate,
    jvp=_cholesky_jvp,
    batch=_cholesky_batch,
    lowering=LibraryRoutine("potrf", _potrf, flops=lambda avals, _: avals[0].size * avals[0].shape[-1] // 3),
)


# ---------------------------------------------------------------- triangular systems


def _solve_infer(a: ShapedArray, b: ShapedArray, *, left_side: bool, **_: bool) -> ShapedArray:
    check_square("triangular_solve", a)
    n = b.shape[-2 if left_side else -1] if b.ndim == a.ndim else -1
    if b.dtype != a.dtype or b.shape[:-2] != a.shape[:-2] or n != a.shape[-1]:
        raise ShapeError(
            f"triangular_solve: matrices {a} and {'left' if left_side else 'right'}-hand sides {b} do not fit",
            fix="give both one dtype, equal leading axes, and the matrices' size along the axis that is solved for",
        )
    return b


def _solve_evaluate(
    a: np.ndarray,
    b: np.ndarray,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> np.ndarray:
    from scipy.linalg import blas  # heavy: only when such a system is solved

    out = np.empty_like(b, order="C")
    trsm = getattr(blas, {"f4": "strsm", "f8": "dtrsm", "c8": "ctrsm", "c16": "ztrsm"}[b.dtype.str[1:]])
    if b.size:
        for i in np.ndindex(b.shape[:-2]):
            matrix = a[i].conj() if conjugate_a else a[i]
            out[i] = trsm(1, matrix, b[i], side=not left_side, lower=lower, trans_a=transpose_a, diag=unit_diagonal)
    return out


def _solve_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: bool) -> tuple[Any, Any]:
    """From A X = B follows A dX = dB − dA X, and likewise from the right and for transposes of A."""
    (a, _), (da, db) = primals, tangents
    x = triangular_solve_p.bind(*primals, **params)
    right = db
    if type(da) is not Zero:
        n = aval_of(a).shape[-1]
        triangle = np.tri(n, k=-params["unit_diagonal"])
        da = _weighted(da, triangle if params["lower"] else triangle.T)
        if params["transpose_a"]:
            da = conj_transpose(da)
        if params["conjugate_a"] != params["transpose_a"] and dtypes.is_complex(aval_of(da).dtype):
            da = conj(da)
        change = matmul(da, x) if params["left_side"] else matmul(x, da)
        right = sub_p.bind(right, change) if type(right) is not Zero else -change
    if type(right) is Zero:
        return x, right
    return x, triangular_solve_p.bind(a, right, **params)


def _solve_transpose(ct: Any, a: Any, b: Any, *, transpose_a: bool, **params: bool) -> list[Any]:
    if is_undefined(a):
        raise NotDifferentiableError(
            "triangular_solve: transposing a function that is not linear: the matrix depends on its arguments",
            fix="linear_transpose, and the matvec of custom_linear_solve, take linear functions",
        )
    return [None, triangular_solve_p.bind(a, ct, transpose_a=not transpose_a, **params)]


def _solve_batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any], **params: bool) -> tuple[Any, int]:
    moved = [to_dim(x, d, 0, axis.size) for x, d in zip(args, dims, strict=True)]
    return triangular_solve_p.bind(*moved, **params), 0


triangular_solve_p = Primitive(
    "triangular_solve",
    infer=_solve_infer,
    evaluate=_solve_evaluate,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=_solve_batch,
)


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
    """Return X with op(A) X = B, or X op(A) = B; see `lax.linalg.triangular_solve`."""
    return triangular_solve_p.bind(
        a,
        b,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )
