"""Eigenvalues and eigenvectors of Hermitian matrices, A V = V diag(w); and their reduction to tridiagonal form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import ShapeError
from funcgrad.ops.arithmetic import real_p
from funcgrad.ops.linalg.matrices import (
    Shape,
    as_dtype,
    check_square,
    conj_transpose,
    diagonal,
    inverse_differences,
    lapack,
    matmul,
    matrix_primitive,
    weighted,
)


def real_part(x: Any) -> Any:
    """The real part of complex numbers; real numbers unchanged."""
    return real_p.bind(x) if dtypes.is_complex(aval_of(x).dtype) else x


def _results(a: Shape, *, dtype: np.dtype, lower: bool) -> list[tuple[Shape, np.dtype]]:
    check_square("eigh", ShapedArray(a, dtype))
    return [(a, dtype), (a[:1], dtypes.real_dtype(dtype))]


def _evaluate(a: np.ndarray, *, lower: bool) -> list[np.ndarray]:
    w, v = np.linalg.eigh(a, UPLO="L" if lower else "U")
    if not np.isfinite(w).all():
        raise np.linalg.LinAlgError
    return [v, w]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, lower: bool) -> tuple[list[Any], list[Any]]:
    """dw = diag(Vᴴ dA V) and dV = V (F ∘ Vᴴ dA V), where F[i, j] = 1 / (w[j] − w[i]) off the diagonal.

    Giles, An extended collection of matrix derivative results (2008, NA-08-01), section 3.1. Where eigenvalues are
    equal, their eigenvectors have no derivative, and F is infinite. dA is what the triangle of the tangent stands for,
    as the factorization reads no other.
    """
    v, w = out = eigh_p.bind(*primals, lower=lower)
    n = aval_of(v).shape[-1]
    half = weighted(tangents[0], (np.tri(n) if lower else np.tri(n).T) - np.eye(n) / 2)
    inner = matmul(matmul(conj_transpose(v), half + conj_transpose(half)), v)
    factors = inverse_differences(as_dtype(w, aval_of(v).dtype), v)
    return out, [matmul(v, factors * inner), diagonal(real_part(inner))]


eigh_p = matrix_primitive(
    "eigh",
    finite=False,
    results=_results,
    evaluate=_evaluate,
    jvp=_jvp,
    routine="syevd",
    flops=lambda a: 9 * a[0] ** 3,
)


# ---------------------------------------------------------------- tridiagonal form


def _tridiagonal_results(a: Shape, *, dtype: np.dtype, lower: bool) -> list[tuple[Shape, np.dtype]]:
    check_square("tridiagonal", ShapedArray(a, dtype))
    if not a[0]:
        raise ShapeError("tridiagonal: an empty matrix has no tridiagonal form", fix="give matrices of size 1 or more")
    real, n = dtypes.real_dtype(dtype), a[0]
    return [(a, dtype), ((n,), real), ((n - 1,), real), ((n - 1,), dtype)]


def _tridiagonal(a: np.ndarray, *, lower: bool) -> list[np.ndarray]:
    out, d, e, taus, _ = lapack("sytrd", a.dtype)(a, lower=lower)
    return [out, d, e, taus]


tridiagonal_p = matrix_primitive(
    "tridiagonal",
    finite=False,
    results=_tridiagonal_results,
    evaluate=_tridiagonal,
    routine="sytrd",
    flops=lambda a: 4 * a[0] ** 3 / 3,
    modes=(),
)
