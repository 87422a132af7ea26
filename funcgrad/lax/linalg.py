"""funcgrad.lax.linalg: matrix factorizations and the systems that they solve, for batches of matrices.

A factorization that fails is NaN. Matrices have dtype float32, float64, complex64 or complex128; otherwise a DTypeError
is raised, and a ShapeError if the last two axes do not fit. Compiled programs call LAPACK.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from funcgrad.arguments.promotion import broadcast_shapes, broadcast_to
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.lax.operands import as_operand
from funcgrad.ops.linalg import lu as _lu
from funcgrad.ops.linalg import matrices, triangular
from funcgrad.ops.linalg.cholesky import cholesky_p as cholesky_p
from funcgrad.ops.linalg.cholesky import cholesky_update_p as cholesky_update_p
from funcgrad.ops.linalg.eig import eig_p as eig_p
from funcgrad.ops.linalg.eig import hessenberg_p as hessenberg_p
from funcgrad.ops.linalg.eig import schur_p as schur_p
from funcgrad.ops.linalg.eigh import eigh_p as eigh_p
from funcgrad.ops.linalg.eigh import tridiagonal_p as tridiagonal_p
from funcgrad.ops.linalg.lu import lu_p as lu_p
from funcgrad.ops.linalg.lu import lu_pivots_to_permutation_p as lu_pivots_to_permutation_p
from funcgrad.ops.linalg.qr import geqrf_p as geqrf_p
from funcgrad.ops.linalg.qr import householder_product_p as householder_product_p
from funcgrad.ops.linalg.qr import ormqr_p as ormqr_p
from funcgrad.ops.linalg.qr import qr_p as qr_p
from funcgrad.ops.linalg.svd import svd_p as svd_p
from funcgrad.ops.linalg.triangular import triangular_solve_p as triangular_solve_p
from funcgrad.ops.linalg.triangular import tridiagonal_solve_p as tridiagonal_solve_p
from funcgrad.ops.shapes import expand_dims, squeeze


class EigImplementation(enum.Enum):
    """Implementations of `eig` in JAX; funcgrad has LAPACK's."""

    CUSOLVER = "cusolver"
    MAGMA = "magma"
    LAPACK = "lapack"


class EighImplementation(enum.Enum):
    """Implementations of `eigh` in JAX; funcgrad has LAPACK's, by divide and conquer."""

    QR = "qr"
    JACOBI = "jacobi"
    QDWH = "qdwh"


class SvdAlgorithm(enum.Enum):
    """Algorithms of `svd` in JAX; funcgrad has LAPACK's, by divide and conquer."""

    DEFAULT = "default"
    QR = "QR"
    JACOBI = "Jacobi"
    POLAR = "polar"
    DIVIDE_AND_CONQUER = "divide_and_conquer"


def _matrices(x: Any, operation: str) -> Any:
    x = as_operand(x, operation)
    if aval_of(x).ndim < 2:
        raise ShapeError(f"{operation}: {aval_of(x)} is no batch of matrices", fix="give it two axes or more")
    return x


def _square(x: Any, operation: str, symmetrize: bool = False) -> Any:
    x = _matrices(x, operation)
    matrices.check_square(operation, aval_of(x))
    return matrices.symmetrized(x) if symmetrize else x


# ---------------------------------------------------------------- factorizations


def cholesky(a: Any, *, symmetrize_input: bool = True) -> Any:
    """Cholesky factorization: the lower triangular L with positive diagonal and L Lᴴ = a, for a of shape (…, n, n).

    `a` is Hermitian and positive definite; if it is not, the lower triangle of the factor is NaN. With
    `symmetrize_input`, it is first replaced by (a + aᴴ)/2; otherwise only its lower triangle is read.

    >>> import funcgrad.numpy as jnp
    >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    Array([[2., 0.],
           [1., 2.]], dtype=float32)
    """
    return cholesky_p.bind(_square(a, "cholesky", symmetrize_input))


def cholesky_update(r_matrix: Any, w_vector: Any) -> Any:
    """Rank-1 update: the upper triangular S with Sᵀ S = Rᵀ R + w wᵀ, for R of shape (…, n, n) and w of shape (…, n).

    >>> import funcgrad.numpy as jnp
    >>> cholesky_update(jnp.array([[3.0]]), jnp.array([4.0]))
    Array([[5.]], dtype=float32)
    """
    return cholesky_update_p.bind(_matrices(r_matrix, "cholesky_update"), as_operand(w_vector, "cholesky_update"))


def lu(x: Any) -> tuple[Any, Any, Any]:
    """LU factorization with partial pivoting: (lu, pivots, permutation) with x[permutation] = L U.

    `x` has shape (…, m, n). `lu` holds L below its diagonal, where L has ones, and U on and above it. Row i was swapped
    with row pivots[i], in order; `permutation` of shape (…, m) is what these swaps amount to.

    >>> import funcgrad.numpy as jnp
    >>> lu(jnp.array([[1.0, 2.0], [4.0, 4.0]]))
    [Array([[4.  , 4.  ],
           [0.25, 1.  ]], dtype=float32), Array([1, 1], dtype=int32), Array([1, 0], dtype=int32)]
    """
    return lu_p.bind(_matrices(x, "lu"))


def lu_pivots_to_permutation(pivots: Any, permutation_size: int) -> Any:
    """The permutation of `permutation_size` rows that the row swaps of `lu` amount to.

    >>> import funcgrad.numpy as jnp
    >>> lu_pivots_to_permutation(jnp.array([2, 2]), 3)
    Array([2, 0, 1], dtype=int32)
    """
    pivots = as_operand(pivots, "lu_pivots_to_permutation")
    return lu_pivots_to_permutation_p.bind(pivots, permutation_size=permutation_size)


def qr(x: Any, *, pivoting: bool = False, full_matrices: bool = True, use_magma: bool | None = None) -> Any:
    """QR factorization: (q, r) with x = q r, where qᴴ q = 1 and r is upper triangular.

    For x of shape (…, m, n), q has min(m, n) columns, or m with `full_matrices`. With `pivoting`, there is a third
    result: the permutation p of columns with x[:, p] = q r and a decreasing diagonal of r.

    >>> import funcgrad.numpy as jnp
    >>> q, r = qr(jnp.array([[3.0], [4.0]]), full_matrices=False)
    >>> r
    Array([[-5.]], dtype=float32)
    """
    return tuple(qr_p.bind(_matrices(x, "qr"), pivoting=pivoting, full_matrices=full_matrices))


def geqrf(a: Any) -> tuple[Any, Any]:
    """LAPACK's QR factorization: r on and above the diagonal, Householder reflectors below it, and their factors."""
    return tuple(geqrf_p.bind(_matrices(a, "geqrf")))


def householder_product(a: Any, taus: Any) -> Any:
    """The product of Householder reflectors 1 − tau v vᴴ, whose v are below the diagonal of `a`, as `geqrf` returns."""
    a, taus = _matrices(a, "householder_product"), as_operand(taus, "householder_product")
    return householder_product_p.bind(a, taus)


def ormqr(a: Any, taus: Any, c: Any, *, left: bool = True, transpose: bool = False) -> Any:
    """Q c, or Qᴴ c with `transpose`, or c times these unless `left`; Q is the full product of reflectors of `geqrf`."""
    a, taus, c = _matrices(a, "ormqr"), as_operand(taus, "ormqr"), _matrices(c, "ormqr")
    return ormqr_p.bind(a, taus, c, left=left, transpose=transpose)


def eigh(
    x: Any,
    *,
    lower: bool = True,
    symmetrize_input: bool = True,
    sort_eigenvalues: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    implementation: EighImplementation | None = None,
) -> tuple[Any, Any]:
    """Eigenvectors and ascending eigenvalues of Hermitian matrices: (v, w) with x v = v diag(w).

    With `symmetrize_input`, x is first replaced by (x + xᴴ)/2; otherwise only the `lower` or upper triangle is read.
    `subset_by_index` = (start, stop) selects eigenvalues. Derivatives of eigenvectors with equal eigenvalues are
    infinite or NaN.

    >>> import funcgrad.numpy as jnp
    >>> eigh(jnp.array([[2.0, 0.0], [0.0, 1.0]]))[1]
    Array([1., 2.], dtype=float32)
    """
    x = _square(x, "eigh", symmetrize_input)
    v, w = eigh_p.bind(x, lower=lower)
    if subset_by_index is None:
        return v, w
    start, stop = _subset("eigh", subset_by_index, aval_of(x).shape[-1])
    return matrices.sliced(v, -1, start, stop), matrices.sliced(w, -1, start, stop)


def _subset(operation: str, subset: tuple[int, int], size: int) -> tuple[int, int]:
    start, stop = subset
    if not 0 <= start < stop <= size:
        raise ArgumentError(
            f"{operation}: subset_by_index={subset} of {size} values", fix=f"give 0 ≤ start < stop ≤ {size}"
        )
    return start, stop


def svd(
    x: Any,
    *,
    full_matrices: bool = True,
    compute_uv: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    algorithm: SvdAlgorithm | None = None,
) -> Any:
    """Singular value decomposition: (u, s, vh) with x = u diag(s) vh, or s alone without `compute_uv`.

    s is real and descends. For x of shape (…, m, n), u is (…, m, m) and vh (…, n, n) with `full_matrices`; otherwise
    they have min(m, n) columns and rows. `subset_by_index` = (start, stop) selects singular values.

    >>> import funcgrad.numpy as jnp
    >>> svd(jnp.array([[0.0, 2.0], [1.0, 0.0]]), compute_uv=False)
    Array([2., 1.], dtype=float32)
    """
    x = _matrices(x, "svd")
    s, *vectors = svd_p.bind(x, full_matrices=full_matrices, compute_uv=compute_uv)
    if subset_by_index is not None:
        k = min(aval_of(x).shape[-2:])
        start, stop = _subset("svd", subset_by_index, k)
        if full_matrices and compute_uv and (start, stop) != (0, k):
            raise ArgumentError(
                f"svd: subset_by_index={subset_by_index} with full_matrices", fix="pass full_matrices=False"
            )
        s = matrices.sliced(s, -1, start, stop)
        vectors = [matrices.sliced(v, axis, start, stop) for v, axis in zip(vectors, (-1, -2), strict=False)]
    return (vectors[0], s, vectors[1]) if compute_uv else s


def eig(
    x: Any,
    *,
    compute_left_eigenvectors: bool = True,
    compute_right_eigenvectors: bool = True,
    enable_eigvec_derivs: bool = False,
    implementation: EigImplementation | None = None,
    use_magma: bool | None = None,
) -> list[Any]:
    """Complex eigenvalues and eigenvectors: [w, vl, vr] with x vr = vr diag(w) and vlᴴ x = diag(w) vlᴴ.

    Eigenvectors have length 1 and a largest component that is real. Their derivatives, which need distinct eigenvalues
    and one largest component, are refused unless `enable_eigvec_derivs`.

    >>> import funcgrad.numpy as jnp
    >>> eig(jnp.array([[0.0, 1.0], [-1.0, 0.0]]), compute_left_eigenvectors=False)[0]
    Array([0.+1.j, 0.-1.j], dtype=complex64)
    """
    return eig_p.bind(
        _square(x, "eig"),
        compute_left_eigenvectors=compute_left_eigenvectors,
        compute_right_eigenvectors=compute_right_eigenvectors,
        enable_eigvec_derivs=enable_eigvec_derivs,
    )


def schur(
    x: Any,
    *,
    compute_schur_vectors: bool = True,
    sort_eig_vals: bool = False,
    select_callable: Callable[..., Any] | None = None,
) -> list[Any]:
    """Schur form: [t, q] with x = q t qᴴ and t upper triangular, or [t] without `compute_schur_vectors`.

    For real x, a pair of complex eigenvalues is a block of 2 × 2 in t. It has no derivative.
    """
    if sort_eig_vals:
        raise ArgumentError("schur: sort_eig_vals=True", fix="sort the eigenvalues that `eig` returns")
    return schur_p.bind(_square(x, "schur"), compute_schur_vectors=compute_schur_vectors)


def hessenberg(a: Any) -> tuple[Any, Any]:
    """Hessenberg form, zero below the first subdiagonal, where reflectors are stored; and their factors.

    It has no derivative.
    """
    return tuple(hessenberg_p.bind(_square(a, "hessenberg")))


def tridiagonal(a: Any, *, lower: bool = True) -> tuple[Any, Any, Any, Any]:
    """Tridiagonal form of Hermitian matrices: (a, d, e, taus) with diagonal d and off-diagonal e.

    Householder reflectors are stored in the `lower` or upper triangle of the first result. It has no derivative.
    """
    return tuple(tridiagonal_p.bind(_square(a, "tridiagonal"), lower=lower))


# ---------------------------------------------------------------- products and systems


def symmetric_product(
    a_matrix: Any, c_matrix: Any, *, alpha: float = 1.0, beta: float = 0.0, symmetrize_output: bool = False
) -> Any:
    """alpha a aᵀ + beta c, for a of shape (…, m, n) and symmetric c of shape (…, m, m).

    >>> import funcgrad.numpy as jnp
    >>> symmetric_product(jnp.array([[1.0, 2.0]]), jnp.array([[4.0]]), beta=0.5)
    Array([[7.]], dtype=float32)
    """
    a, c = _matrices(a_matrix, "symmetric_product"), _matrices(c_matrix, "symmetric_product")
    m, _ = aval_of(a).shape[-2:]
    if aval_of(c).shape[-2:] != (m, m) or aval_of(c).shape[:-2] != aval_of(a).shape[:-2]:
        raise ShapeError(
            f"symmetric_product: {aval_of(a)} and {aval_of(c)} do not fit",
            fix="give matrices (…, m, n) and (…, m, m) with equal leading axes",
        )
    out = alpha * matrices.matmul(a, matrices.matrix_transpose(a)) + beta * c
    if not symmetrize_output:
        return out
    return matrices.lower_triangle(out) + matrices.matrix_transpose(matrices.lower_triangle(out, -1))


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
    """Solve op(a) X = b if `left_side`, or X op(a) = b, for triangular `a` of shape (…, n, n).

    Only the `lower` or upper triangle of `a` is read; with `unit_diagonal`, its diagonal is assumed to be 1. op(a) is
    a, transposed if `transpose_a` and conjugated if `conjugate_a`. `b` has shape (…, n, m) if `left_side`, or (…, m,
    n); the axis m may be missing. A zero on the diagonal gives infinities and NaN.

    >>> import funcgrad.numpy as jnp
    >>> triangular_solve(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 9.0]), left_side=True, lower=True)
    Array([1., 2.], dtype=float32)
    """
    a, b = as_operand(a, "triangular_solve"), as_operand(b, "triangular_solve")
    vector = aval_of(b).ndim == aval_of(a).ndim - 1
    if vector:
        b = expand_dims(b, (aval_of(b).ndim - (not left_side),))
    out = triangular.triangular_solve(
        a,
        b,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )
    return squeeze(out, (aval_of(out).ndim - (1 if left_side else 2),)) if vector else out


def tridiagonal_solve(dl: Any, d: Any, du: Any, b: Any, *, perturb_singular: bool = False) -> Any:
    """Solve a x = b for tridiagonal matrices: dl[i] = a[i, i − 1], d[i] = a[i, i], du[i] = a[i, i + 1].

    The diagonals have shape (…, n), `b` (…, n, m). dl[0] and du[n − 1] are not used.

    >>> import funcgrad.numpy as jnp
    >>> tridiagonal_solve(jnp.zeros(2), jnp.array([2.0, 4.0]), jnp.array([1.0, 0.0]), jnp.array([[4.0], [8.0]]))
    Array([[1.],
           [2.]], dtype=float32)
    """
    if perturb_singular:
        raise ArgumentError("tridiagonal_solve: perturb_singular=True", fix="perturb the diagonal d")
    return tridiagonal_solve_p.bind(*(as_operand(x, "tridiagonal_solve") for x in (dl, d, du, b)))


def lu_solve(lu: Any, permutation: Any, b: Any, trans: int = 0) -> Any:
    """Solve a x = b with lu and permutation of `lu`(a); `trans` 1 solves with aᵀ, 2 with aᴴ.

    `b` has shape (…, n, m), or one axis less than `lu`, (…, n). Leading axes are broadcast.
    """
    lu, permutation, b = (as_operand(x, "lu_solve") for x in (lu, permutation, b))
    lu = _square(lu, "lu_solve")
    if trans not in (0, 1, 2):
        raise ArgumentError(f"lu_solve: trans={trans}", fix="0 solves with a, 1 with aᵀ, 2 with aᴴ")
    vector = aval_of(b).ndim == aval_of(lu).ndim - 1
    if vector:
        b = expand_dims(b, (aval_of(b).ndim,))
    lu, b = same_batch("lu_solve", lu, b)
    permutation = broadcast_to(permutation, aval_of(lu).shape[:-1])
    out = _lu.lu_solve(lu, permutation, b, trans)
    return squeeze(out, (aval_of(out).ndim - 1,)) if vector else out


def same_batch(operation: str, a: Any, b: Any) -> tuple[Any, Any]:
    """Broadcast the leading axes of square matrices and right-hand sides together."""
    if aval_of(b).ndim < 2 or aval_of(b).shape[-2] != aval_of(a).shape[-1]:
        raise ShapeError(
            f"{operation}: {aval_of(a)} and right-hand sides {aval_of(b)} do not fit",
            fix="the matrices' size must be that of the second to last axis of matrices b, or of vectors b",
        )
    batch = broadcast_shapes(aval_of(a).shape[:-2], aval_of(b).shape[:-2], operation=operation)
    return tuple(broadcast_to(x, (*batch, *aval_of(x).shape[-2:]), operation) for x in (a, b))


__all__ = [
    "EigImplementation",
    "EighImplementation",
    "SvdAlgorithm",
    "cholesky",
    "cholesky_p",
    "cholesky_update",
    "cholesky_update_p",
    "eig",
    "eig_p",
    "eigh",
    "eigh_p",
    "hessenberg",
    "hessenberg_p",
    "householder_product",
    "householder_product_p",
    "lu",
    "lu_p",
    "lu_pivots_to_permutation",
    "lu_pivots_to_permutation_p",
    "ormqr",
    "ormqr_p",
    "qr",
    "qr_p",
    "schur",
    "schur_p",
    "svd",
    "svd_p",
    "symmetric_product",
    "triangular_solve",
    "triangular_solve_p",
    "tridiagonal",
    "tridiagonal_p",
    "tridiagonal_solve",
    "tridiagonal_solve_p",
]

_explain_missing_names(__name__)
