"""Identity, triangular, diagonal and Vandermonde matrices; diagonals and triangles of given matrices."""

from __future__ import annotations

import builtins
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.axes import as_int, as_shape
from funcgrad.arguments.promotion import as_operand, broadcast_to
from funcgrad.errors import ArgumentError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import asarray, dtype_or_float
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, shapes, slicing

__all__ = [
    "diag",
    "diagflat",
    "diagonal",
    "eye",
    "identity",
    "tri",
    "tril",
    "triu",
    "vander",
]


def _below_diagonal(rows: int, columns: int, k: int) -> Any:
    """True at (i, j) with j ≤ i + k."""
    row, column = (slicing.iota(dtypes.int32, (rows, columns), d) for d in (0, 1))
    return uf.greater_equal(uf.add(row, k), column)


def eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = None, *, device: Any = None) -> Any:
    """The (N, M) matrix with ones on diagonal k and zeros elsewhere."""
    rows = as_int(N, "N", "eye")
    columns = rows if M is None else as_int(M, "M", "eye")
    as_shape((rows, columns), "eye")
    row, column = (slicing.iota(dtypes.int32, (rows, columns), d) for d in (0, 1))
    return casts.convert_element_type(uf.equal(uf.add(row, k), column), dtype_or_float(dtype, "eye"))


def identity(n: Any, dtype: Any = None) -> Any:
    """The (n, n) identity matrix."""
    return eye(n, dtype=dtype)


def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> Any:
    """The (N, M) matrix with ones on and below diagonal k and zeros elsewhere."""
    rows = as_int(N, "N", "tri")
    columns = rows if M is None else as_int(M, "M", "tri")
    return casts.convert_element_type(_below_diagonal(rows, columns, k), dtype_or_float(dtype, "tri"))


def _triangle(m: Any, k: int, lower: bool, operation: str) -> Any:
    m = as_operand(m, operation)
    if m.aval.ndim < 2:
        raise ArgumentError(f"{operation}: argument has type {m.aval}", fix="pass a matrix, or a batch of them")
    keep = _below_diagonal(*m.aval.shape[-2:], k if lower else k - 1)
    keep = broadcast_to(keep, m.aval.shape)
    zero = shapes.full(m.aval.shape, 0, m.aval.dtype, m.aval.weak_type)
    return uf.pick(keep, m, zero, operation) if lower else uf.pick(keep, zero, m, operation)


def tril(m: Any, k: int = 0) -> Any:
    """Lower triangle: zero the elements above diagonal k of the last two axes."""
    return _triangle(m, k, True, "tril")


def triu(m: Any, k: int = 0) -> Any:
    """Upper triangle: zero the elements below diagonal k of the last two axes."""
    return _triangle(m, k, False, "triu")


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Diagonal `offset` of the matrices in axes (axis1, axis2), as a new last axis.

    >>> import numpy as np
    >>> diagonal(np.array([[1, 2], [3, 4]]))
    Array([1, 4], dtype=int32)
    """
    a = as_operand(a, "diagonal")
    ndim = a.aval.ndim
    if ndim < 2:
        raise ArgumentError(f"diagonal: argument has type {a.aval}", fix="pass at least a matrix")
    axis1, axis2 = axis1 % ndim, axis2 % ndim
    if axis1 == axis2:
        raise ArgumentError(f"diagonal: axis1 and axis2 are both {axis1}", fix="give two axes")
    a = shapes.transpose(a, (*(d for d in range(ndim) if d not in (axis1, axis2)), axis1, axis2))
    *lead, rows, columns = a.aval.shape
    length = builtins.max(0, builtins.min(rows + builtins.min(offset, 0), columns - builtins.max(offset, 0)))
    first = (-offset * columns) if offset < 0 else offset
    if length == 0:
        return shapes.full((*lead, 0), 0, a.aval.dtype)
    # In row-major order the diagonal is every (columns + 1)-th element.
    flat = shapes.reshape(a, (*lead, rows * columns))
    stop = first + (length - 1) * (columns + 1) + 1
    none, every = (0,) * len(lead), (1,) * len(lead)
    return slicing.slice_(flat, (*none, first), (*lead, stop), (*every, columns + 1))


def diag(v: Any, k: int = 0) -> Any:
    """For a vector, the matrix with it on diagonal k; for a matrix, its diagonal k."""
    v = as_operand(v, "diag") if not isinstance(v, (list, tuple)) else asarray(v)
    if v.aval.ndim == 2:
        return diagonal(v, k)
    if v.aval.ndim != 1:
        raise ArgumentError(f"diag: argument has type {v.aval}", fix="pass a vector or a matrix")
    n, zero = v.aval.size, shapes.full((), 0, v.aval.dtype, v.aval.weak_type)
    size = n + builtins.abs(k)
    # Put the vector in column 0 of an (n, n + 1) matrix; reshaped to (n, n), that column becomes the diagonal.
    column = slicing.pad(shapes.expand_dims(v, (1,)), zero, ((0, 0, 0), (0, n, 0)))
    square = shapes.reshape(slicing.slice_(shapes.reshape(column, (n * (n + 1),)), (0,), (n * n,)), (n, n))
    above, left = builtins.max(-k, 0), builtins.max(k, 0)
    return slicing.pad(square, zero, ((above, size - n - above, 0), (left, size - n - left, 0)))


def diagflat(v: Any, k: int = 0) -> Any:
    """The matrix with the elements of v, flattened, on diagonal k."""
    v = asarray(v)
    return diag(shapes.reshape(v, (v.aval.size,)), k)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Vandermonde matrix: out[i, j] = x[i]^(N − 1 − j), or x[i]^j if `increasing`; N is the size of x by default."""
    x = as_operand(x, "vander")
    x = casts.convert_element_type(x, x.aval.dtype)
    if x.aval.ndim != 1:
        raise ArgumentError(f"vander: argument has type {x.aval}", fix="pass a vector")
    n = x.aval.size if N is None else as_int(N, "N", "vander")
    if n < 0:
        raise ArgumentError(f"vander: N is {n}", fix="ask for 0 or more columns")
    columns = [ar.integer_pow_p.bind(x, y=p) for p in (range(n) if increasing else reversed(range(n)))]
    if not columns:
        return shapes.full((x.aval.size, 0), 0, x.aval.dtype)
    return slicing.concatenate([shapes.expand_dims(c, (1,)) for c in columns], 1)
