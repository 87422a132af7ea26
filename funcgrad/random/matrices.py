"""Samples of matrices."""

from __future__ import annotations

from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.axes import as_int, as_shape
from funcgrad.errors import DTypeError
from funcgrad.numpy import linalg, shapes
from funcgrad.numpy import ufuncs as uf
from funcgrad.random.continuous import normal_of
from funcgrad.random.keys import single


def orthogonal(key: Any, n: int, shape: Any = (), dtype: Any = None, m: int | None = None) -> Any:
    """Sample uniformly from the orthogonal n × n matrices, or unitary ones for a complex dtype.

    With `m`, from the n × m matrices whose columns, or rows if they are fewer, are orthonormal. The result has shape
    (*shape, n, m). It is the Q of the factorization Q R of a matrix of normals, times the signs of the diagonal of R.

    >>> from funcgrad.random import key
    >>> orthogonal(key(0), 3, (2,), m=4).shape
    (2, 3, 4)
    """
    words = single("orthogonal", key)
    result_dtype = dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, "orthogonal")
    if not dtypes.is_inexact(result_dtype):
        raise DTypeError(f"orthogonal: dtype {result_dtype.name} is not a float or complex type", fix="use float32")
    n = as_int(n, "n", "orthogonal")
    m = n if m is None else as_int(m, "m", "orthogonal")
    draws = normal_of(words, (*as_shape(shape, "orthogonal"), max(n, m), min(n, m)), result_dtype)
    q, r = linalg.qr(draws)
    q = q * uf.sign(linalg.diagonal(r))[..., None, :]
    return shapes.swapaxes(q, -1, -2) if n < m else q
