"""The QR factorization, A = Q R, and products of Householder reflectors, in which LAPACK stores Q."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ShapeError
from funcgrad.ops.arithmetic import real_p
from funcgrad.ops.linalg.lu import lu_p, lu_solve
from funcgrad.ops.linalg.matrices import (
    Shape,
    as_dtype,
    conj_transpose,
    constant,
    lapack,
    lower_triangle,
    matmul,
    matrix_primitive,
    matrix_transpose,
    permuted_rows,
    sliced,
    weighted,
)
from funcgrad.ops.linalg.triangular import triangular_solve
from funcgrad.ops.slicing import concatenate, pad


def _flops(a: Shape, *_: Shape) -> int:
    return 2 * a[0] * a[1] * min(a)


# ---------------------------------------------------------------- reflectors


def _geqrf_results(a: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    return [(a, dtype), ((min(a),), dtype)]


def _geqrf(a: np.ndarray) -> list[np.ndarray]:
    if not a.size:
        return [a, np.zeros(min(a.shape), a.dtype)]
    out, taus, *_ = lapack("geqrf", a.dtype)(a)
    return [out, taus]


geqrf_p = matrix_primitive("geqrf", results=_geqrf_results, evaluate=_geqrf, routine="geqrf", flops=_flops, modes=())


def _product_results(a: Shape, taus: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    if a[0] < a[1] or taus[0] > a[1]:
        raise ShapeError(
            f"householder_product: reflectors of shape {a} with factors of shape {taus}",
            fix="give at least as many rows as columns, and at most as many factors as columns",
        )
    return [(a, dtype)]


def _product(a: np.ndarray, taus: np.ndarray) -> np.ndarray:
    if not len(taus):
        return np.eye(*a.shape, dtype=a.dtype)
    return lapack("orgqr", a.dtype)(a, taus)[0]


householder_product_p = matrix_primitive(
    "householder_product",
    results=_product_results,
    evaluate=_product,
    ranks=(2, 1),
    routine="orgqr",
    flops=_flops,
    multiple_results=False,
    modes=(),
)


def _multiply_results(
    a: Shape, taus: Shape, c: Shape, *, dtype: np.dtype, left: bool, transpose: bool
) -> list[tuple[Shape, np.dtype]]:
    if c[0 if left else 1] != a[0] or taus[0] > min(a):
        raise ShapeError(
            f"ormqr: reflectors of shape {a} with factors of shape {taus} do not fit a matrix of shape {c}",
            fix=f"give a matrix with as many {'rows' if left else 'columns'} as the reflectors have rows",
        )
    return [(c, dtype)]


def _multiply(a: np.ndarray, taus: np.ndarray, c: np.ndarray, *, left: bool, transpose: bool) -> np.ndarray:
    if not taus.size or not c.size:
        return c
    op = ("C" if a.dtype.kind == "c" else "T") if transpose else "N"
    side, ormqr = "L" if left else "R", lapack("ormqr", a.dtype)
    lwork = int(ormqr(side, op, a[:, : len(taus)], taus, c, -1)[1][0].real)
    return ormqr(side, op, a[:, : len(taus)], taus, c, lwork)[0]


ormqr_p = matrix_primitive(
    "ormqr",
    results=_multiply_results,
    evaluate=_multiply,
    ranks=(2, 1, 2),
    routine="ormqr",
    flops=lambda a, taus, c: 4 * taus[0] * c[0] * c[1],
    multiple_results=False,
    modes=(),
)

# ---------------------------------------------------------------- the factorization


def _results(a: Shape, *, dtype: np.dtype, pivoting: bool, full_matrices: bool) -> list[tuple[Shape, np.dtype]]:
    (m, n), k = a, a[0] if full_matrices else min(a)
    return [((m, k), dtype), ((k, n), dtype), *([((n,), dtypes.int32)] if pivoting else [])]


def _evaluate(a: np.ndarray, *, pivoting: bool, full_matrices: bool) -> list[np.ndarray]:
    from scipy import linalg  # heavy: only when a matrix is factorized

    if not a.size:
        m, n = a.shape
        k = m if full_matrices else min(m, n)
        return [np.eye(m, k), np.zeros((k, n)), *([np.arange(n)] if pivoting else [])]
    return list(linalg.qr(a, mode="full" if full_matrices else "economic", pivoting=pivoting, check_finite=False))


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, pivoting: bool, full_matrices: bool
) -> tuple[list[Any], list[Any]]:
    """For m ≥ n, of the first n columns: dQ = Q (Ω − C) + dA R⁻¹ and dR = (C − Ω) R, with C = Qᴴ dA R⁻¹ and
    Ω = tril(C, −1) − tril(C, −1)ᴴ + i Im diag(C).

    Townsend, Differentiating the QR decomposition (2018, j-towns.github.io/papers/qr-derivative.pdf). For m < n, R₁ of
    the first m columns is that of a square matrix, and R₂ = Qᴴ A₂. The other columns of a full Q: Roberts and Roberts,
    QR and LQ decomposition matrix backpropagation algorithms for square, wide, and deep matrices (arXiv:2009.10071),
    and Li et al. (arXiv:2409.13374), equations 32 and 33.
    """
    (a,), (da,) = primals, tangents
    out = qr_p.bind(a, pivoting=pivoting, full_matrices=full_matrices)
    q, r, *permutation = out
    m, n = aval_of(a).shape[-2:]
    if pivoting:
        da = matrix_transpose(permuted_rows(matrix_transpose(da), permutation[0]))
        a = matrix_transpose(permuted_rows(matrix_transpose(a), permutation[0]))
    if m < n:
        dq, dr = _square_or_tall(q, sliced(r, -1, 0, m), sliced(da, -1, 0, m))
        others = matmul(conj_transpose(dq), sliced(a, -1, m, n)) + matmul(conj_transpose(q), sliced(da, -1, m, n))
        dr = concatenate([dr, others], aval_of(a).ndim - 1)
    else:
        first = sliced(q, -1, 0, n)
        dq, dr = _square_or_tall(first, sliced(r, -2, 0, n), da)
        if full_matrices and m > n:
            dq = concatenate([dq, _complement(first, dq, sliced(q, -1, n, m))], aval_of(a).ndim - 1)
            config = [(0, 0, 0)] * (aval_of(a).ndim - 2) + [(0, m - n, 0), (0, 0, 0)]
            dr = pad(dr, np.zeros((), aval_of(a).dtype), config)
    return out, [dq, dr, *(Zero(aval_of(p).tangent()) for p in permutation)]


def _square_or_tall(q: Any, r: Any, da: Any) -> tuple[Any, Any]:
    right = triangular_solve(r, da)
    inner = matmul(conj_transpose(q), right)
    lower = lower_triangle(inner, -1)
    skew = lower - conj_transpose(lower)
    dtype, n = aval_of(inner).dtype, aval_of(inner).shape[-1]
    if dtypes.is_complex(dtype):
        skew = skew + weighted(inner - as_dtype(real_p.bind(inner), dtype), np.eye(n))
    return matmul(q, skew - inner) + right, matmul(inner - skew, r)


def _complement(q: Any, dq: Any, others: Any) -> Any:
    """The tangent of the columns of a full Q after those of A."""
    m, n = aval_of(q).shape[-2:]
    top, bottom = sliced(q, -2, 0, n), sliced(q, -2, n, m)
    lu, _, permutation = lu_p.bind(top - constant(np.eye(n), top))
    z_conj = lu_solve(lu, permutation, conj_transpose(bottom), trans=2)
    z = conj_transpose(z_conj)
    change = sliced(dq, -2, n, m) - matmul(z, sliced(dq, -2, 0, n))
    return matmul(dq, z_conj) - matmul(q + matmul(others, z), conj_transpose(change))


qr_p = matrix_primitive(
    "qr", results=_results, evaluate=_evaluate, jvp=_jvp, routine="qr", options=lambda **_: {}, flops=_flops
)
