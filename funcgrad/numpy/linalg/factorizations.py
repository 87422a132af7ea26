"""Factorizations and eigenvalues of matrices."""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax import linalg as lax
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.indexing import take_along_axis
from funcgrad.numpy.reductions import any, max, sum
from funcgrad.numpy.shapes import expand_dims
from funcgrad.ops.linalg.matrices import check_dtype, conj_transpose
from funcgrad.ops.shapes import rev
from funcgrad.ops.slicing import iota
from funcgrad.ops.sorting import sort

__all__ = [
    "cholesky",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "matrix_rank",
    "qr",
    "svd",
    "svdvals",
]


class EigResult(NamedTuple):
    """Eigenvalues and right eigenvectors of general matrices."""

    eigenvalues: Any
    eigenvectors: Any


class EighResult(NamedTuple):
    """Eigenvalues and eigenvectors of Hermitian matrices."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """The factors of a QR factorization."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """The factors of a singular value decomposition."""

    U: Any
    S: Any
    Vh: Any


def as_matrices(a: Any, operation: str) -> Any:
    """Return floating-point matrices; raise ShapeError unless there are two axes or more."""
    (a,) = promote_inexact(a, operation=operation)
    if aval_of(a).ndim < 2:
        raise ShapeError(f"{operation}: {aval_of(a)} is no batch of matrices", fix="give it two axes or more")
    check_dtype(operation, aval_of(a))
    return a


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Cholesky factor of positive definite matrices: the lower triangular L with L Lᴴ = a, or Lᴴ if `upper`.

    `a` has shape (…, n, n). With `symmetrize_input`, `a` is first replaced by (a + aᴴ)/2; otherwise only its lower
    triangle is read. If `a` is not positive definite, the lower triangle of the result is NaN.

    >>> import funcgrad.numpy as jnp
    >>> cholesky(jnp.array([[4, 2], [2, 5]]), upper=True)
    Array([[2., 1.],
           [0., 2.]], dtype=float32)
    """
    factor = lax.cholesky(as_matrices(a, "cholesky"), symmetrize_input=symmetrize_input)
    return conj_transpose(factor) if upper else factor


def qr(a: Any, mode: str = "reduced") -> Any:
    """QR factorization: QRResult(Q, R) with a = Q R, or R alone for mode "r".

    For a of shape (…, m, n), Q has min(m, n) columns for mode "reduced", m for "complete". Mode "raw" returns LAPACK's
    Householder reflectors, transposed, and their factors.

    >>> import funcgrad.numpy as jnp
    >>> qr(jnp.array([[3.0], [4.0]]), "r")
    Array([[-5.]], dtype=float32)
    """
    a = as_matrices(a, "qr")
    if mode == "raw":
        reflectors, taus = lax.geqrf(a)
        return QRResult(conj_transpose(uf.conj(reflectors)), taus)
    if mode not in ("reduced", "r", "full", "complete"):
        raise ArgumentError(f"qr: mode {mode!r}", fix="use 'reduced', 'complete', 'r' or 'raw'")
    q, r = lax.qr(a, full_matrices=mode == "complete")
    return r if mode == "r" else QRResult(q, r)


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> Any:
    """Singular value decomposition: SVDResult(U, S, Vh) with a = U diag(S) Vh, or S alone without `compute_uv`.

    S is real and descends. For a of shape (…, m, n), U and Vh are square with `full_matrices`, and have min(m, n)
    columns and rows otherwise. `hermitian` says that a is Hermitian, which is faster.

    >>> import funcgrad.numpy as jnp
    >>> svd(jnp.array([[0.0, 2.0], [1.0, 0.0]])).S
    Array([2., 1.], dtype=float32)
    """
    a = as_matrices(a, "svd")
    if hermitian:
        return _hermitian_svd(a, compute_uv, subset_by_index)
    out = lax.svd(a, full_matrices=full_matrices, compute_uv=compute_uv, subset_by_index=subset_by_index)
    return SVDResult(*out) if compute_uv else out


def _hermitian_svd(a: Any, compute_uv: bool, subset: tuple[int, int] | None) -> Any:
    """From eigenvalues w and eigenvectors V: S = |w| and Vh = (V sign w)ᴴ, in descending order of S."""
    v, w = lax.eigh(a, subset_by_index=subset)
    last = aval_of(w).ndim - 1
    s, order = sort([uf.abs(w), iota(dtypes.int32, aval_of(w).shape, last)], last)
    s, order = rev(s, [last]), rev(order, [last])
    if not compute_uv:
        return s
    u = take_along_axis(v, expand_dims(order, -2), axis=-1)
    signs = uf.sign(take_along_axis(w, order, axis=-1)).astype(aval_of(u).dtype)
    return SVDResult(u, s, conj_transpose(u * expand_dims(signs, -2)))


def svdvals(x: Any, /) -> Any:
    """Singular values, which descend."""
    return svd(x, compute_uv=False)


def eig(a: Any) -> EigResult:
    """Complex eigenvalues w and right eigenvectors V of general matrices: a V = V diag(w).

    Derivatives of the eigenvectors are refused; see `lax.linalg.eig`.

    >>> import funcgrad.numpy as jnp
    >>> eig(jnp.array([[0.0, 1.0], [-1.0, 0.0]])).eigenvalues
    Array([0.+1.j, 0.-1.j], dtype=complex64)
    """
    w, v = lax.eig(as_matrices(a, "eig"), compute_left_eigenvectors=False)
    return EigResult(w, v)


def eigvals(a: Any) -> Any:
    """Complex eigenvalues of general matrices, in no order."""
    a = as_matrices(a, "eigvals")
    return lax.eig(a, compute_left_eigenvectors=False, compute_right_eigenvectors=False)[0]


def eigh(a: Any, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Ascending eigenvalues w and eigenvectors V of Hermitian matrices: a V = V diag(w), Vᴴ V = 1.

    With `symmetrize_input`, `a` is first replaced by (a + aᴴ)/2; otherwise the triangle "L" or "U" is read.

    >>> import funcgrad.numpy as jnp
    >>> eigh(jnp.array([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    Array([1., 2.], dtype=float32)
    """
    if UPLO not in (None, "L", "U"):
        raise ArgumentError(f"eigh: UPLO={UPLO!r}", fix="use 'L' or 'U'")
    v, w = lax.eigh(as_matrices(a, "eigh"), lower=UPLO != "U", symmetrize_input=symmetrize_input)
    return EighResult(w, v)


def eigvalsh(a: Any, UPLO: str | None = "L", *, symmetrize_input: bool = True) -> Any:
    """Ascending eigenvalues of Hermitian matrices; see `eigh`."""
    return eigh(a, UPLO, symmetrize_input).eigenvalues


def matrix_rank(M: Any, rtol: Any = None, *, hermitian: bool = False, tol: Any = None) -> Any:
    """How many singular values are greater than `rtol`, by default max(m, n) eps times the largest.

    >>> import funcgrad.numpy as jnp
    >>> matrix_rank(jnp.ones((3, 3)))
    Array(1, dtype=int32)
    """
    if tol is not None and rtol is not None:
        raise ArgumentError("matrix_rank: both tol and rtol are given", fix="give rtol")
    (M,) = promote_inexact(M, operation="matrix_rank")
    if aval_of(M).ndim < 2:
        return any(M != 0).astype(dtypes.int32)
    s = svd(M, full_matrices=False, compute_uv=False, hermitian=hermitian)
    bound = tol if rtol is None else rtol
    if bound is None:
        factor = builtins.max(aval_of(M).shape[-2:]) * float(dtypes.finfo(aval_of(s).dtype).eps)
        bound = max(s, -1, initial=0) * factor
    (bound,) = promote_inexact(bound, operation="matrix_rank")
    return sum(s > expand_dims(bound, -1), axis=-1)
