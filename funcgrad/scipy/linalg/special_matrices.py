"""Matrices with names."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import promote_dtypes, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import asarray, zeros
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.padding import pad
from funcgrad.numpy.shapes import atleast_1d, atleast_2d, flip

__all__ = [
    *("block_diag", "circulant", "companion", "convolution_matrix", "dft", "fiedler", "fiedler_companion"),
    *("hadamard", "hankel", "helmert", "hilbert", "invhilbert", "invpascal", "leslie", "pascal", "toeplitz"),
]


def _size(n: Any, operation: str, least: int = 0) -> int:
    n = operator.index(n)
    if n < least:
        raise ArgumentError(f"{operation}: size {n}", fix=f"give {least} or more")
    return n


def _floats(x: Any) -> Any:
    return asarray(np.asarray(x, dtypes.canonicalize(float)))


def _vector(x: Any, operation: str, least: int) -> Any:
    (x,) = promote_dtypes(x, operation=operation)
    x = atleast_1d(x)
    if aval_of(x).shape[-1] < least:
        raise ShapeError(f"{operation}: {aval_of(x)} has too few elements", fix=f"give {least} or more")
    return x


def block_diag(*arrs: Any) -> Any:
    """A matrix with the given ones along its diagonal, and zeros elsewhere.

    >>> block_diag(1, [[2, 3]])
    Array([[1, 0, 0],
           [0, 2, 3]], dtype=int32)
    """
    blocks = [atleast_2d(asarray(a)) for a in arrs] if arrs else [zeros((1, 0))]
    if any(aval_of(b).ndim > 2 for b in blocks):
        raise ShapeError("block_diag: an array of more than two axes", fix="give matrices")
    blocks = promote_dtypes(*blocks, operation="block_diag")
    width, rows, before = sum(aval_of(b).shape[1] for b in blocks), [], 0
    for block in blocks:
        columns = aval_of(block).shape[1]
        rows.append(pad(block, ((0, 0), (before, width - before - columns))))
        before += columns
    return concatenate(rows)


def _sliding(values: Any, rows: int, columns: int, step: int) -> Any:
    """out[i, j] = values[…, i + step j], from the end for step −1."""
    i, j = np.arange(rows)[:, None], np.arange(columns)
    return values[..., i + j if step > 0 else i - j + columns - 1]


def toeplitz(c: Any, r: Any = None) -> Any:
    """Matrices with constant diagonals, the first column c and the first row r, whose first element is not used.

    r is conj(c) by default.

    >>> import funcgrad.numpy as jnp
    >>> toeplitz(jnp.array([1, 2, 3]))
    Array([[1, 2, 3],
           [2, 1, 2],
           [3, 2, 1]], dtype=int32)
    """
    c = _vector(c, "toeplitz", 0)
    r = uf.conj(c) if r is None else _vector(r, "toeplitz", 0)
    c, r = promote_dtypes(c, r, operation="toeplitz")
    m, n = aval_of(c).shape[-1], aval_of(r).shape[-1]
    if not m * n:
        return zeros((m, n), aval_of(c).dtype)
    return _sliding(concatenate([flip(r[..., 1:], -1), c], -1), m, n, -1)


def hankel(c: Any, r: Any = None) -> Any:
    """Matrices with constant antidiagonals, the first column c and the last row r, whose first element is not used.

    r is zero by default.
    """
    c = _vector(c, "hankel", 0)
    r = c * 0 if r is None else _vector(r, "hankel", 0)
    c, r = promote_dtypes(c, r, operation="hankel")
    m, n = aval_of(c).shape[-1], aval_of(r).shape[-1]
    return _sliding(concatenate([c, r[..., 1:]], -1), m, n, 1) if m * n else zeros((m, n), aval_of(c).dtype)


def circulant(c: Any) -> Any:
    """Matrices whose columns are c, shifted cyclically."""
    c = _vector(c, "circulant", 1)
    n = np.arange(aval_of(c).shape[-1])
    return c[..., (n[:, None] - n) % n.size]


def convolution_matrix(a: Any, n: int, mode: str = "full") -> Any:
    """The matrix of the convolution with a, so that convolution_matrix(a, len(v), mode) @ v = convolve(a, v, mode)."""
    a, n = _vector(a, "convolution_matrix", 1), _size(n, "convolution_matrix", 1)
    if mode not in ("full", "same", "valid"):
        raise ArgumentError(f"convolution_matrix: mode {mode!r}", fix="use 'full', 'same' or 'valid'")
    m = aval_of(a).shape[-1]
    cut = {"full": 0, "same": (min(m, n) - 1), "valid": 2 * (min(m, n) - 1)}[mode]
    above = cut // 2
    rows = np.arange(above, m + n - 1 - (cut - above))[:, None] - np.arange(n)
    inside = (rows >= 0) & (rows < m)
    return a[..., np.clip(rows, 0, m - 1)] * inside.astype(aval_of(a).dtype)


def companion(a: Any) -> Any:
    """The matrix whose characteristic polynomial has the coefficients a, the highest first."""
    (a,) = promote_inexact(a, operation="companion")
    a = _vector(a, "companion", 2)
    first, n = -a[..., 1:] / a[..., :1], aval_of(a).shape[-1] - 1
    below = np.eye(n - 1, n, dtype=aval_of(a).dtype)
    return concatenate([first[..., None, :], zeros((*aval_of(a).shape[:-1], n - 1, n), aval_of(a).dtype) + below], -2)


def fiedler(a: Any) -> Any:
    """|a[i] − a[j]|."""
    a = _vector(a, "fiedler", 0)
    return uf.abs(a[..., :, None] - a[..., None, :])


def fiedler_companion(a: Any) -> Any:
    """A pentadiagonal matrix whose characteristic polynomial has the coefficients a, the highest first."""
    (a,) = promote_inexact(a, operation="fiedler_companion")
    a = _vector(a, "fiedler_companion", 1)
    n = aval_of(a).shape[-1] - 1
    if n < 2:
        return (-a[..., 1:] / a[..., :1])[..., None]
    # Which coefficient, or 1, is where; 0 stands for zero.
    place, ones = np.zeros((n, n), int), np.zeros((n, n))
    place[0, 0], ones[1, 0] = 1, 1
    for i in range(n):
        if i % 2 == 0:
            if i + 1 < n:
                place[i, i + 1] = i + 2
            if i + 2 < n:
                ones[i, i + 2] = 1
            if i >= 2:
                place[i, i - 1] = i + 1
        elif i >= 3:
            ones[i, i - 2] = 1
    dtype = aval_of(a).dtype
    return -(a / a[..., :1])[..., place] * (place > 0).astype(dtype) + ones.astype(dtype)


def leslie(f: Any, s: Any) -> Any:
    """The Leslie matrix of fecundities f and survival rates s: f in the first row, s below the diagonal."""
    f, s = promote_dtypes(f, s, operation="leslie")
    f, s = _vector(f, "leslie", 2), _vector(s, "leslie", 1)
    n = aval_of(f).shape[-1]
    if aval_of(s).shape[-1] != n - 1:
        raise ShapeError(f"leslie: {aval_of(f)} and {aval_of(s)} do not fit", fix="give n and n − 1 elements")
    below = s[..., :, None] * np.eye(n - 1, n, dtype=aval_of(s).dtype)
    return concatenate([f[..., None, :], below], -2)


def hilbert(n: int) -> Any:
    """1 / (i + j + 1).

    >>> hilbert(2)
    Array([[1.        , 0.5       ],
           [0.5       , 0.33333334]], dtype=float32)
    """
    i = np.arange(_size(n, "hilbert"))
    return _floats(1 / (i[:, None] + i + 1))


def _binomials(n: int) -> np.ndarray:
    out = np.zeros((n, n))
    for i in range(n):
        out[i, : i + 1] = [math.comb(i, j) for j in range(i + 1)]
    return out


def invhilbert(n: int) -> Any:
    """The inverse of `hilbert(n)`, of integers."""
    n, comb = _size(n, "invhilbert"), math.comb

    def element(i: int, j: int) -> int:
        s = i + j
        return (-1) ** s * (s + 1) * comb(n + i, n - j - 1) * comb(n + j, n - i - 1) * comb(s, i) ** 2

    return _floats(np.reshape([float(element(i, j)) for i in range(n) for j in range(n)], (n, n)))


def _pascal(n: int, kind: str | None, operation: str, inverse: bool) -> Any:
    n = _size(n, operation)
    if kind not in (None, "symmetric", "lower", "upper"):
        raise ArgumentError(f"{operation}: kind {kind!r}", fix="use 'symmetric', 'lower' or 'upper'")
    i = np.arange(n)
    lower = _binomials(n) * ((-1.0) ** (i[:, None] + i) if inverse else 1)
    symmetric = lower.T @ lower if inverse else lower @ lower.T
    return _floats({"lower": lower, "upper": lower.T}.get(kind or "", symmetric))


def pascal(n: int, kind: str | None = None) -> Any:
    """Pascal's triangle L as a lower or upper triangular matrix, or the symmetric L Lᵀ."""
    return _pascal(n, kind, "pascal", False)


def invpascal(n: int, kind: str | None = None) -> Any:
    """The inverse of `pascal(n, kind)`."""
    return _pascal(n, kind, "invpascal", True)


def helmert(n: int, full: bool = False) -> Any:
    """The Helmert matrix: n − 1 orthonormal rows, orthogonal to that of ones, which is the first one if `full`."""
    n = _size(n, "helmert", 1)
    k = np.arange(1, n)[:, None]
    j = np.arange(n)
    rows = np.where(j < k, 1.0, np.where(j == k, -k, 0)) / np.sqrt(k * (k + 1))
    return _floats(np.concatenate([np.full((1, n), n**-0.5), rows]) if full else rows)


def hadamard(n: int, dtype: Any = int) -> Any:
    """A matrix of ±1 with orthogonal columns, for n a power of 2."""
    n = _size(n, "hadamard", 1)
    if n & (n - 1):
        raise ArgumentError(f"hadamard: size {n} is no power of 2", fix="give 1, 2, 4, 8, …")
    bits = np.arange(n)
    signs = 1 - 2 * (np.bitwise_count(bits[:, None] & bits) % 2).astype(int)
    return asarray(signs.astype(dtypes.canonicalize(dtype)))


def dft(n: int, scale: str | None = None, *, dtype: Any = None) -> Any:
    """The matrix of the Fourier transform, exp(−2πi j k / n); scaled by 1/√n for `scale` "sqrtn", 1/n for "n"."""
    n = _size(n, "dft")
    if scale not in (None, "sqrtn", "n"):
        raise ArgumentError(f"dft: scale {scale!r}", fix="use None, 'sqrtn' or 'n'")
    dtype = dtypes.canonicalize(complex if dtype is None else dtype)
    if not dtypes.is_complex(dtype):
        raise ArgumentError(f"dft: dtype={dtype}", fix="use a complex dtype")
    j = np.arange(n)
    out = np.exp(-2j * np.pi * (j[:, None] * j % max(n, 1)) / max(n, 1))
    return asarray((out / {None: 1, "sqrtn": max(n, 1) ** 0.5, "n": max(n, 1)}[scale]).astype(dtype))
