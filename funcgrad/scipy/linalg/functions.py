"""Functions of matrices: exponential, square root, and others by the Schur form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.linalg.factorizations import as_matrices
from funcgrad.numpy.linalg.norms import matrix_norm
from funcgrad.numpy.linalg.systems import solve
from funcgrad.numpy.masks import where
from funcgrad.numpy.matrices import diagonal, eye
from funcgrad.numpy.products import matmul
from funcgrad.numpy.reductions import max
from funcgrad.ops.linalg.matrices import check_square, conj_transpose
from funcgrad.scipy.linalg.factorizations import schur
from funcgrad.scipy.linalg.systems import solve_triangular
from funcgrad.transforms.control_flow import fori_loop, scan
from funcgrad.transforms.derivatives import jvp
from funcgrad.transforms.vmap import vmap

__all__ = ["expm", "expm_frechet", "funm", "sqrtm"]

# Numerators of the Padé approximants of order 7 and 13, which are exact to rounding up to these norms.
_PADE = {
    4: (3.925724783138660, (17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1)),
    8: (
        5.371920351148152,
        (
            *(64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000),
            *(10559470521600, 670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1),
        ),
    ),
}


def _square(a: Any, operation: str) -> Any:
    a = as_matrices(a, operation)
    check_square(operation, aval_of(a))
    return a


def expm(A: Any, *, upper_triangular: bool = False, max_squarings: int = 16) -> Any:
    """Exponential of matrices, by a Padé approximant of A/2ˢ and s squarings; NaN if s were over `max_squarings`.

    Higham, The scaling and squaring method for the matrix exponential revisited (SIAM Journal on Matrix Analysis and
    Applications 26, 2005). `upper_triangular` promises that A is.

    >>> import funcgrad.numpy as jnp
    >>> expm(jnp.array([[0.0, 1.0], [0.0, 0.0]]))
    Array([[1., 1.],
           [0., 1.]], dtype=float32)
    """
    A = _square(A, "expm")
    f = lambda a: _expm(a, upper_triangular, max_squarings)  # noqa: E731
    for _ in range(aval_of(A).ndim - 2):
        f = vmap(f)
    return f(A)


def _expm(a: Any, upper_triangular: bool, max_squarings: int) -> Any:
    aval = aval_of(a)
    largest, numerator = _PADE[dtypes.real_dtype(aval.dtype).itemsize]
    norm = matrix_norm(a, ord=1)
    squarings = uf.maximum(0, uf.ceil(uf.log(uf.maximum(norm, 1e-30) / largest) / math.log(2)))
    a = a * uf.exp2(-squarings).astype(aval.dtype)
    square, identity = matmul(a, a), eye(aval.shape[-1], dtype=aval.dtype)
    odd, even = (_polynomial(numerator[first::2], square, identity) for first in (1, 0))
    odd = matmul(a, odd)
    # exp(A) is about (V + U) / (V − U) for the odd terms U and even terms V of the numerator.
    quotient = solve_triangular if upper_triangular else solve
    out = quotient(even - odd, even + odd)

    def step(x: Any, i: Any) -> tuple[Any, None]:
        return where(i < squarings, matmul(x, x), x), None

    out, _ = scan(step, out, np.arange(max_squarings, dtype=aval_of(squarings).dtype))
    return where(squarings > max_squarings, np.nan, out)


def _polynomial(coefficients: Sequence[int], x: Any, identity: Any) -> Any:
    out = identity * coefficients[-1]
    for c in reversed(coefficients[:-1]):
        out = matmul(out, x) + identity * c
    return out


def expm_frechet(A: Any, E: Any, *, method: str | None = None, compute_expm: bool = True) -> Any:
    """exp(A) and its derivative along E, or the latter alone without `compute_expm`; `method` has no effect.

    >>> import funcgrad.numpy as jnp
    >>> expm_frechet(jnp.zeros((1, 1)), jnp.ones((1, 1)))
    (Array([[1.]], dtype=float32), Array([[1.]], dtype=float32))
    """
    A, E = promote_inexact(A, E, operation="expm_frechet")
    A, E = _square(A, "expm_frechet"), _square(E, "expm_frechet")
    if aval_of(A).shape != aval_of(E).shape:
        raise ShapeError(f"expm_frechet: {aval_of(A)} and {aval_of(E)}", fix="give a direction of the matrix's shape")
    value, derivative = jvp(expm, (A,), (E,))
    return (value, derivative) if compute_expm else derivative


def _triangular_sqrt(t: Any) -> Any:
    """The upper triangular R with R R = T, column by column.

    Björck and Hammarling, A Schur method for the square root of a matrix (Linear Algebra and its Applications 52/53,
    1983): R[i, j] = (T[i, j] − Σ R[i, k] R[k, j]) / (R[i, i] + R[j, j]), the sum over i < k < j.
    """
    n = aval_of(t).shape[-1]
    roots = uf.sqrt(diagonal(t))
    rows = np.arange(n)

    def column(j: Any, r: Any) -> Any:
        def element(k: Any, r: Any) -> Any:
            i = j - 1 - k
            between = (rows > i) & (rows < j)
            inner = matmul(where(between, r[i], 0), r[:, j])
            total = roots[i] + roots[j]
            value = (t[i, j] - inner) / where(total == 0, 1, total)
            return r.at[i, j].set(where(i >= 0, value, r[i, j]))

        return fori_loop(0, j, element, r)

    return fori_loop(0, n, column, eye(n, dtype=aval_of(t).dtype) * roots)


def sqrtm(A: Any, blocksize: int = 1) -> Any:
    """The principal square root of a matrix, complex: X X = A. It has no derivative.

    >>> import funcgrad.numpy as jnp
    >>> sqrtm(jnp.array([[4.0]]))
    Array([[2.+0.j]], dtype=complex64)
    """
    A = _square(A, "sqrtm")
    if blocksize > 1:
        raise ArgumentError(f"sqrtm: blocksize={blocksize}", fix="leave it at 1")
    if aval_of(A).ndim > 2:
        return vmap(sqrtm)(A)
    t, z = schur(A, "complex")
    return matmul(matmul(z, _triangular_sqrt(t)), conj_transpose(z))


def funm(A: Any, func: Callable[[Any], Any], disp: bool = True) -> Any:
    """A function of a matrix, by Parlett's recurrence on its complex Schur form; with `disp` False, and an error bound.

    Golub and Van Loan, Matrix Computations, algorithm 9.1.1. Real for real A if the imaginary part is only rounding
    errors. It has no derivative.
    """
    A = _square(A, "funm")
    if aval_of(A).ndim > 2:
        raise ShapeError(f"funm: {aval_of(A)} is a batch", fix="apply vmap")
    t, z = schur(A, "complex")
    n, values = aval_of(t).shape[-1], diagonal(t)
    f = eye(n, dtype=aval_of(t).dtype) * func(values)
    least = 1.0
    for p in range(1, n):
        for i in range(n - p):
            j = i + p
            s = t[i, j] * (f[j, j] - f[i, i])
            if p > 1:
                inner = slice(i + 1, j)
                s = s + matmul(t[i, inner], f[inner, j]) - matmul(f[i, inner], t[inner, j])
            gap = t[j, j] - t[i, i]
            f = f.at[i, j].set(where(gap == 0, s, s / where(gap == 0, 1, gap)))
            least = uf.minimum(least, uf.abs(gap))
    out = matmul(matmul(z, f), conj_transpose(z))
    if disp:
        return out
    eps = float(dtypes.finfo(aval_of(t).dtype).eps)
    off_diagonal = f - eye(n, dtype=aval_of(t).dtype) * diagonal(f)
    tolerance = 1e3 if aval_of(A).dtype.itemsize <= 8 else 1e6
    error = uf.minimum(1, uf.maximum(tolerance * eps, eps / least * max(matrix_norm(off_diagonal, ord=1))))
    return out, where(least == 0, np.inf, error)
