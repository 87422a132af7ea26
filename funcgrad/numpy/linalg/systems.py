"""Linear systems, inverses and determinants."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax import linalg as lax
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import arange, asarray, zeros
from funcgrad.numpy.linalg.factorizations import as_matrices, svd
from funcgrad.numpy.masks import where
from funcgrad.numpy.matrices import eye
from funcgrad.numpy.products import matmul
from funcgrad.numpy.reductions import all, any, count_nonzero, cumprod, prod, sum
from funcgrad.numpy.shapes import expand_dims, moveaxis, ravel, reshape, squeeze
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.linalg import lu as ops
from funcgrad.ops.linalg.matrices import check_square, conj_transpose, diagonal, permuted_rows, sliced, symmetrized
from funcgrad.ops.linalg.triangular import triangular_solve
from funcgrad.ops.slicing import concatenate
from funcgrad.transforms.custom_rules.jvp import custom_jvp

__all__ = ["det", "inv", "lstsq", "matrix_power", "pinv", "slogdet", "solve", "tensorinv", "tensorsolve"]


class SlogdetResult(NamedTuple):
    """The sign of determinants, and the logarithms of their absolute values."""

    sign: Any
    logabsdet: Any


def _square(a: Any, operation: str) -> Any:
    a = as_matrices(a, operation)
    check_square(operation, aval_of(a))
    return a


def solve(a: Any, b: Any) -> Any:
    """Solve a x = b for matrices of shape (…, n, n), by LU factorization; b has shape (n,) or (…, n, m).

    Leading axes are broadcast. The derivatives use the factorization again.

    >>> import funcgrad.numpy as jnp
    >>> solve(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 9.0]))
    Array([1., 2.], dtype=float32)
    """
    a, b = promote_inexact(a, b, operation="solve")
    a = _square(a, "solve")
    vector = aval_of(b).ndim == 1
    a, b = lax.same_batch("solve", a, expand_dims(b, -1) if vector else b)
    x = ops.solve(a, b)
    return squeeze(x, -1) if vector else x


def inv(a: Any) -> Any:
    """Inverse matrices; of singular ones, infinities and NaN.

    >>> import funcgrad.numpy as jnp
    >>> inv(jnp.array([[2, 0], [0, 4]]))
    Array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    """
    a = _square(a, "inv")
    aval = aval_of(a)
    return ops.solve(a, broadcast_to(eye(aval.shape[-1], dtype=aval.dtype), aval.shape))


# ---------------------------------------------------------------- determinants


def slogdet(a: Any, *, method: str | None = None) -> SlogdetResult:
    """Sign and logarithm of the absolute value of determinants: det a = sign exp(logabsdet).

    `method` is "lu" or "qr", the factorization that they are computed from.

    >>> import funcgrad.numpy as jnp
    >>> slogdet(jnp.array([[0.0, 1.0], [1.0, 0.0]]))
    SlogdetResult(sign=Array(-1., dtype=float32), logabsdet=Array(0., dtype=float32))
    """
    a = _square(a, "slogdet")
    if method not in (None, "lu", "qr"):
        raise ArgumentError(f"slogdet: method {method!r}", fix="use 'lu' or 'qr'")
    if method == "qr" and dtypes.is_complex(aval_of(a).dtype):
        raise ArgumentError(f"slogdet: method 'qr' of {aval_of(a)}", fix="use 'lu' for complex matrices")
    return SlogdetResult(*_slogdet(a, by_qr=method == "qr"))


def _slogdet(a: Any, by_qr: bool) -> tuple[Any, Any]:
    rule = custom_jvp(_slogdet_qr if by_qr else _slogdet_lu)

    @rule.defjvp
    def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        """d log det A = tr(A⁻¹ dA)."""
        (a,), (da,) = primals, tangents
        sign, logarithm = _slogdet(a, by_qr)
        change = sum(diagonal(ops.solve(a, da)), axis=-1)
        real = uf.real(change)
        turn = (change - real) * sign if dtypes.is_complex(aval_of(a).dtype) else zeros(sign.shape, sign.dtype)
        return (sign, logarithm), (turn, real)

    return rule(a)


def _parity(pivots: Any) -> Any:
    """How many of the swaps are of different rows."""
    return count_nonzero(pivots != arange(aval_of(pivots).shape[-1], dtype=dtypes.int32), axis=-1)


def _signs(count: Any, dtype: Any) -> Any:
    return convert_element_type(1 - 2 * (count % 2), dtype)


def _slogdet_lu(a: Any) -> tuple[Any, Any]:
    factors, pivots, _ = ops.lu_p.bind(a)
    pivot = diagonal(factors)
    singular, lengths = any(pivot == 0, axis=-1), uf.abs(pivot)
    sign = prod(uf.sign(pivot), axis=-1) * _signs(_parity(pivots), aval_of(a).dtype)
    return where(singular, 0, sign), where(singular, -math.inf, sum(uf.log(lengths), axis=-1))


def _slogdet_qr(a: Any) -> tuple[Any, Any]:
    factors, taus = lax.geqrf(a)
    pivot, n = diagonal(factors), aval_of(a).shape[-1]
    reflections = count_nonzero(sliced(taus, -1, 0, builtins.max(n - 1, 0)), axis=-1)
    sign = prod(uf.sign(pivot), axis=-1) * _signs(reflections, aval_of(a).dtype)
    return sign, sum(uf.log(uf.abs(pivot)), axis=-1)


def det(a: Any) -> Any:
    """Determinants. The derivative exists for singular matrices too.

    >>> import funcgrad.numpy as jnp
    >>> det(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    Array(-2., dtype=float32)
    """
    a = _square(a, "det")
    n = aval_of(a).shape[-1]
    if n == 2:
        return a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]
    if n == 3:
        minors = ((i, (i + 1) % 3, (i + 2) % 3) for i in range(3))
        terms = [a[..., 0, i] * (a[..., 1, j] * a[..., 2, k] - a[..., 1, k] * a[..., 2, j]) for i, j, k in minors]
        return terms[0] + terms[1] + terms[2]
    return _det(a)


@custom_jvp
def _det(a: Any) -> Any:
    factors, pivots, _ = ops.lu_p.bind(a)
    return prod(diagonal(factors), axis=-1) * _signs(_parity(pivots), aval_of(a).dtype)


@_det.defjvp
def _det_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    value, products = _times_cofactors(primals[0], tangents[0])
    return value, sum(diagonal(products), axis=-1)


def _times_cofactors(a: Any, b: Any) -> tuple[Any, Any]:
    """Return det A, and det(A) A⁻¹ B without division by the last pivot, which is zero where A has rank n − 1.

    With det(A) = p u for the last pivot u of A = L U, the last row of the solution of U X = Y is det(A) y / u = p y,
    and the others are det(A) times y. Granziol and others' method in JAX, which returns zeros for smaller ranks.
    """
    n = aval_of(a).shape[-1]
    if n < 2:
        return (prod(diagonal(a), axis=-1), b)
    factors, pivots, permutation = ops.lu_p.bind(a)
    partial = cumprod(diagonal(factors), axis=-1) * expand_dims(_signs(_parity(pivots), aval_of(a).dtype), -1)
    value = partial[..., -1]
    factors = factors.at[..., -1, -1].set(1 / partial[..., -2])
    rank_deficient = ~all(uf.abs(partial[..., :-1]) > 0, axis=-1)
    y = triangular_solve(factors, permuted_rows(b, permutation), left_side=True, lower=True, unit_diagonal=True)
    y = concatenate([sliced(y, -2, 0, n - 1) * value[..., None, None], sliced(y, -2, n - 1, n)], aval_of(y).ndim - 2)
    return value, where(rank_deficient[..., None, None], 0, triangular_solve(factors, y, left_side=True))


# ---------------------------------------------------------------- least squares


def pinv(a: Any, rtol: Any = None, hermitian: bool = False, *, rcond: Any = None) -> Any:
    """Moore–Penrose inverses, by the singular value decomposition.

    Singular values of at most `rtol` times the largest count as zero; by default 10 max(m, n) eps.

    >>> import funcgrad.numpy as jnp
    >>> pinv(jnp.array([[2.0], [0.0]]))
    Array([[0.5, 0. ]], dtype=float32)
    """
    if rtol is not None and rcond is not None:
        raise ArgumentError("pinv: both rtol and rcond are given", fix="give rtol")
    a = as_matrices(a, "pinv")
    *batch, m, n = aval_of(a).shape
    if not m * n:
        return zeros((*batch, n, m), aval_of(a).dtype)
    return _pinv(a, rcond if rtol is None else rtol, hermitian)


def _pinv(a: Any, rtol: Any, hermitian: bool) -> Any:
    @custom_jvp
    def inverse(a: Any) -> Any:
        u, s, vh = svd(a, full_matrices=False, hermitian=hermitian)
        eps = float(dtypes.finfo(aval_of(s).dtype).eps)
        bound = 10 * builtins.max(aval_of(a).shape[-2:]) * eps if rtol is None else rtol
        bound = convert_element_type(asarray(bound), aval_of(s).dtype)[..., None]
        inverted = where(s > bound * s[..., :1], 1 / s, 0)
        return matmul(
            conj_transpose(vh) * convert_element_type(inverted, aval_of(u).dtype)[..., None, :], conj_transpose(u)
        )

    @inverse.defjvp
    def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        """dP = −P dA P + P Pᴴ dAᴴ (1 − A P) + (1 − P A) dAᴴ Pᴴ P.

        Golub and Pereyra, The differentiation of pseudo-inverses (SIAM Journal on Numerical Analysis 10, 1973).
        """
        (a,), (da,) = primals, tangents
        p = _pinv(a, rtol, hermitian)
        if hermitian:
            a, da = symmetrized(a), symmetrized(da)
        s = matmul(p, matmul(conj_transpose(p), conj_transpose(da)))
        t = matmul(conj_transpose(da), matmul(conj_transpose(p), p))
        change = s - matmul(s, matmul(a, p)) + t - matmul(p, matmul(a, t))
        return p, change - matmul(p, matmul(da, p))

    return inverse(a)


def lstsq(a: Any, b: Any, rcond: Any = None, *, numpy_resid: bool = False) -> tuple[Any, Any, Any, Any]:
    """Least squares: (x, residuals, rank, s), where x of least norm minimizes |a x − b|².

    a has shape (m, n), b (m,) or (m, k). Singular values s under `rcond` times the largest count as zero. Residuals are
    the sums of squares of a x − b; with `numpy_resid`, empty as in NumPy where a has not full rank or m ≤ n, which
    cannot be traced.

    >>> import funcgrad.numpy as jnp
    >>> lstsq(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 3.0]))[0].round(3)
    Array([2.], dtype=float32)
    """
    a, b = promote_inexact(a, b, operation="lstsq")
    if aval_of(a).ndim != 2 or aval_of(b).ndim not in (1, 2) or aval_of(b).shape[0] != aval_of(a).shape[0]:
        raise ShapeError(
            f"lstsq: {aval_of(a)} and {aval_of(b)} do not fit", fix="give shapes (m, n) and (m,) or (m, k)"
        )
    vector = aval_of(b).ndim == 1
    b = expand_dims(b, -1) if vector else b
    m, n = aval_of(a).shape
    u, s, vh = svd(a, full_matrices=False)
    eps = float(dtypes.finfo(aval_of(s).dtype).eps)
    rcond = eps * builtins.max(m, n) if rcond is None else where(asarray(rcond) < 0, eps, rcond)
    used = (s > 0) & (s >= convert_element_type(asarray(rcond), aval_of(s).dtype) * s[:1])
    rank = sum(used)
    inverse = where(used, 1 / where(used, s, 1), 0).astype(aval_of(a).dtype)
    x = matmul(conj_transpose(vh), inverse[:, None] * matmul(conj_transpose(u), b))
    if numpy_resid and (rank < n or m <= n):
        residuals = zeros(0, aval_of(s).dtype)
    else:
        residuals = sum(uf.square(uf.abs(b - matmul(a, x))), axis=0)
    return ravel(x) if vector else x, residuals, rank, s


# ---------------------------------------------------------------- powers and tensors


def matrix_power(a: Any, n: int) -> Any:
    """The product of n copies of a square matrix, by squaring; of its inverse if n is negative."""
    a = as_operand(a, "matrix_power")
    aval = aval_of(a)
    if aval.ndim < 2 or aval.shape[-1] != aval.shape[-2]:
        raise ShapeError(
            f"matrix_power: {aval} is no batch of square matrices", fix="its last two axes must have one size"
        )
    try:
        n = operator.index(n)
    except TypeError as e:
        raise ArgumentError(f"matrix_power: exponent {n!r} is no integer", fix="give an int") from e
    if n == 0:
        return broadcast_to(eye(aval.shape[-1], dtype=aval.dtype), aval.shape)
    square, out = (inv(a), None) if n < 0 else (a, None)
    n = -n if n < 0 else n
    while True:
        if n % 2:
            out = square if out is None else matmul(out, square)
        n //= 2
        if not n:
            return out
        square = matmul(square, square)


def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of a tensor as a linear map from its last axes to its first `ind`."""
    (a,) = promote_inexact(a, operation="tensorinv")
    shape, ind = aval_of(a).shape, operator.index(ind)
    first, last = shape[:ind], shape[ind:]
    if ind <= 0 or math.prod(first) != math.prod(last):
        raise ShapeError(
            f"tensorinv: {aval_of(a)} with ind={ind} is no square map",
            fix="the first ind axes must have as many elements as the others",
        )
    return reshape(inv(reshape(a, (math.prod(first), math.prod(last)))), (*last, *first))


def tensorsolve(a: Any, b: Any, axes: tuple[int, ...] | None = None) -> Any:
    """Solve tensordot(a, x, x.ndim) = b for x; `axes` of a are moved to its end before."""
    a, b = promote_inexact(a, b, operation="tensorsolve")
    if axes is not None:
        a = moveaxis(a, axes, len(axes) * (aval_of(a).ndim - 1,))
    shape, n = aval_of(a).shape, aval_of(b).ndim
    size = math.prod(shape[n:])
    if shape[:n] != aval_of(b).shape or size != aval_of(b).size:
        raise ShapeError(
            f"tensorsolve: {aval_of(a)} and {aval_of(b)} do not fit",
            fix="the first axes of a must be those of b, and its others must have as many elements",
        )
    return reshape(solve(reshape(a, (size, size)), ravel(b)), shape[n:])
