"""Factorizations of matrices, with the signatures of scipy.linalg."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import promote_dtypes, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax import linalg as lax
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import arange, zeros
from funcgrad.numpy.linalg.factorizations import as_matrices, eigvalsh
from funcgrad.numpy.linalg.factorizations import svd as numpy_svd
from funcgrad.numpy.matrices import eye
from funcgrad.numpy.products import matmul
from funcgrad.ops.linalg.matrices import conj_transpose, lower_triangle, sliced, upper_triangle
from funcgrad.ops.slicing import pad

__all__ = [
    *("cho_factor", "cholesky", "eigh", "eigh_tridiagonal", "hessenberg", "lu", "lu_factor", "polar", "qr"),
    *("qr_multiply", "rsf2csf", "schur", "svd"),
]


def cholesky(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Cholesky factor: the upper triangular U with Uᴴ U = a, or the `lower` triangular L with L Lᴴ = a.

    Only that triangle of `a` is read.
    """
    a = as_matrices(a, "cholesky")
    if lower:
        return lax.cholesky(a, symmetrize_input=False)
    return conj_transpose(lax.cholesky(conj_transpose(a), symmetrize_input=False))


def cho_factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, bool]:
    """The Cholesky factor and whether it is lower triangular, for `cho_solve`."""
    return cholesky(a, lower=lower), lower


def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, Any]:
    """LU factorization and row swaps, for `lu_solve`."""
    factors, pivots, _ = lax.lu(as_matrices(a, "lu_factor"))
    return factors, pivots


def lu(a: Any, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, ...]:
    """LU factorization: (P, L, U) with a = P L U, or (P L, U) with `permute_l`.

    >>> import funcgrad.numpy as jnp
    >>> lu(jnp.array([[1.0, 2.0], [4.0, 4.0]]))[1]
    Array([[1.  , 0.  ],
           [0.25, 1.  ]], dtype=float32)
    """
    a = as_matrices(a, "lu")
    factors, _, permutation = lax.lu(a)
    (m, n), dtype = aval_of(a).shape[-2:], aval_of(a).dtype
    k = min(m, n)
    lower = lower_triangle(sliced(factors, -1, 0, k), -1) + eye(m, k, dtype=dtype)
    upper = upper_triangle(sliced(factors, -2, 0, k))
    real = dtypes.real_dtype(dtype)
    p = (permutation[..., None, :] == arange(m, dtype=np.int32)[:, None]).astype(real)
    return (matmul(p.astype(dtype), lower), upper) if permute_l else (p, lower, upper)


def qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> tuple[Any, ...]:
    """QR factorization: (Q, R) with a = Q R; Q is square for `mode` "full", has min(m, n) columns for "economic".

    Mode "r" returns (R,). With `pivoting`, the permutation of columns comes last.
    """
    if mode not in ("full", "r", "economic"):
        raise ArgumentError(f"qr: mode {mode!r}", fix="use 'full', 'r' or 'economic'")
    out = lax.qr(as_matrices(a, "qr"), pivoting=pivoting, full_matrices=mode != "economic")
    return out[1:] if mode == "r" else out


def qr_multiply(
    a: Any,
    c: Any,
    mode: str = "right",
    pivoting: bool = False,
    conjugate: bool = False,
    overwrite_a: bool = False,
    overwrite_c: bool = False,
) -> tuple[Any, ...]:
    """c Q, or Q c for `mode` "left", and R (and the permutation) of the QR factorization of a; Q has min(m, n) columns.

    With `conjugate`, conj(Q) is multiplied.
    """
    a, c = promote_inexact(a, c, operation="qr_multiply")
    if mode not in ("left", "right"):
        raise ArgumentError(f"qr_multiply: mode {mode!r}", fix="use 'left' or 'right'")
    q, *others = lax.qr(as_matrices(a, "qr_multiply"), pivoting=pivoting, full_matrices=False)
    q = uf.conj(q) if conjugate else q
    size = aval_of(q).shape[-1 if mode == "left" else -2]
    if not aval_of(c).ndim or aval_of(c).shape[-min(2, aval_of(c).ndim) if mode == "left" else -1] != size:
        raise ShapeError(
            f"qr_multiply: Q {aval_of(q)} and c {aval_of(c)} do not fit", fix=f"give c {size} along that axis"
        )
    return (matmul(q, c) if mode == "left" else matmul(c, q), *others)


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """Singular value decomposition: (U, s, Vh), or s without `compute_uv`; see `numpy.linalg.svd`."""
    out = numpy_svd(a, full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(out) if compute_uv else out


def eigh(
    a: Any,
    b: None = None,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    turbo: bool = True,
    eigvals: None = None,
    type: int = 1,
    check_finite: bool = True,
) -> Any:
    """Ascending eigenvalues and eigenvectors of Hermitian matrices: (w, V), or w alone if `eigvals_only`."""
    if b is not None or eigvals is not None or type != 1:
        raise ArgumentError("eigh: b, eigvals or type of a generalized problem", fix="reduce it by cholesky(b)")
    v, w = lax.eigh(as_matrices(a, "eigh"), lower=lower)
    return w if eigvals_only else (w, v)


def eigh_tridiagonal(
    d: Any,
    e: Any,
    *,
    eigvals_only: bool = False,
    select: str = "a",
    select_range: tuple[Any, Any] | None = None,
    tol: float | None = None,
) -> Any:
    """Ascending eigenvalues of Hermitian tridiagonal matrices with diagonal d and off-diagonal e.

    `select` "i" returns those with indices from select_range[0] to select_range[1], inclusive. As in JAX, only
    `eigvals_only` is supported; this is one `eigvalsh`, so `tol` has no effect.
    """
    if not eigvals_only or select not in ("a", "i"):
        raise ArgumentError(
            f"eigh_tridiagonal: eigvals_only={eigvals_only}, select={select!r}",
            fix="pass eigvals_only=True and select='a' or 'i', or use eigh",
        )
    d, e = promote_inexact(d, e, operation="eigh_tridiagonal")
    n = aval_of(d).shape[-1]
    if aval_of(e).shape != (*aval_of(d).shape[:-1], max(0, n - 1)):
        raise ShapeError(f"eigh_tridiagonal: {aval_of(d)} and {aval_of(e)} do not fit", fix="give n and n − 1 elements")
    dtype = aval_of(e).dtype
    lead = [(0, 0, 0)] * (aval_of(d).ndim - 1)
    below = pad(e, np.zeros((), dtype), [*lead, (1, 0, 0)]) if n > 1 else e
    matrix = eye(n, dtype=dtype) * d[..., None, :]
    if n > 1:
        matrix = matrix + eye(n, k=-1, dtype=dtype) * below[..., :, None]
    w = eigvalsh(matrix, "L", symmetrize_input=False)
    if select == "a":
        return w
    start, stop = select_range or (0, n - 1)
    if not 0 <= start <= stop < n:
        raise ArgumentError(f"eigh_tridiagonal: select_range={select_range}", fix=f"give 0 ≤ start ≤ stop < {n}")
    return w[..., start : stop + 1]


def polar(
    a: Any, side: str = "right", *, method: str = "svd", eps: float | None = None, max_iterations: int | None = None
) -> Any:
    """Polar decomposition: (U, P) with orthonormal U and positive semidefinite P, a = U P, or P U if `side` is "left".

    >>> import funcgrad.numpy as jnp
    >>> polar(jnp.array([[-2.0]]))
    (Array([[-1.]], dtype=float32), Array([[2.]], dtype=float32))
    """
    if side not in ("left", "right"):
        raise ArgumentError(f"polar: side {side!r}", fix="use 'left' or 'right'")
    a = as_matrices(a, "polar")
    u, s, vh = numpy_svd(a, full_matrices=False)
    s = s.astype(aval_of(u).dtype)
    if side == "right":
        return matmul(u, vh), matmul(conj_transpose(vh) * s[..., None, :], vh)
    return matmul(u, vh), matmul(u * s[..., None, :], conj_transpose(u))


def schur(a: Any, output: str = "real") -> tuple[Any, Any]:
    """Schur form: (T, Z) with a = Z T Zᴴ; T is triangular for `output` "complex". It has no derivative."""
    if output not in ("real", "complex"):
        raise ArgumentError(f"schur: output {output!r}", fix="use 'real' or 'complex'")
    a = as_matrices(a, "schur")
    if output == "complex":
        a = a.astype(np.result_type(aval_of(a).dtype, np.complex64))
    return tuple(lax.schur(a))


def rsf2csf(T: Any, Z: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """The complex Schur form of a matrix with the real one (T, Z)."""
    T, Z = promote_dtypes(as_matrices(T, "rsf2csf"), as_matrices(Z, "rsf2csf"), operation="rsf2csf")
    if aval_of(T).shape != aval_of(Z).shape or aval_of(T).shape[-1] != aval_of(T).shape[-2]:
        raise ShapeError(f"rsf2csf: {aval_of(T)} and {aval_of(Z)} do not fit", fix="give square matrices of one shape")
    # Of a block triangular matrix, the Schur form needs few rotations.
    form, rotation = schur(T, "complex")
    return form, matmul(Z.astype(aval_of(form).dtype), rotation)


def hessenberg(a: Any, *, calc_q: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Hessenberg form H, zero below the first subdiagonal; with `calc_q`, (H, Q) with a = Q H Qᴴ."""
    a = as_matrices(a, "hessenberg")
    reflectors, taus = lax.hessenberg(a)
    form = upper_triangle(reflectors, -1)
    if not calc_q:
        return form
    n = aval_of(a).shape[-1]
    if n < 2:
        return form, zeros(aval_of(a).shape, aval_of(a).dtype) + eye(n, dtype=aval_of(a).dtype)
    q = lax.householder_product(reflectors[..., 1:, :-1], taus)
    lead = [(0, 0, 0)] * (aval_of(a).ndim - 2)
    corner = np.zeros((n, n))
    corner[0, 0] = 1
    return form, pad(q, np.zeros((), aval_of(a).dtype), [*lead, (1, 0, 0), (1, 0, 0)]) + corner.astype(aval_of(a).dtype)
