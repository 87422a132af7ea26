"""Norms and condition numbers."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.comparing import isnan
from funcgrad.numpy.linalg.factorizations import as_matrices, svdvals
from funcgrad.numpy.linalg.systems import inv
from funcgrad.numpy.masks import where
from funcgrad.numpy.reductions import any, max, min, sum
from funcgrad.numpy.shapes import expand_dims, moveaxis

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]


def _squared(x: Any) -> Any:
    return uf.square(uf.real(x)) + uf.square(uf.imag(x)) if dtypes.is_complex(aval_of(x).dtype) else uf.square(x)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norm of vectors or matrices.

    With one axis, `vector_norm` of order 2 by default; with two, `matrix_norm` of order "fro" by default. Without an
    axis and order, the square root of the sum of all |x|²; with an order, x is one vector or matrix.

    >>> import funcgrad.numpy as jnp
    >>> norm(jnp.array([3.0, 4.0]))
    Array(5., dtype=float32)
    """
    (x,) = promote_inexact(x, operation="norm")
    n = aval_of(x).ndim
    if axis is None and ord is None:
        return uf.sqrt(sum(_squared(x), keepdims=keepdims))
    axes = as_axes(axis, n, "norm") if axis is not None else tuple(range(n))
    if len(axes) == 1:
        return vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ArgumentError(
            f"norm: axis={axis!r} of {aval_of(x)}", fix="give one axis for vectors, or two for matrices"
        )
    out = _matrix_norm(moveaxis(x, axes, (-2, -1)), "fro" if ord is None else ord)
    return expand_dims(out, axes) if keepdims else out


def _matrix_norm(x: Any, ord: Any) -> Any:
    if ord in ("f", "fro"):
        return uf.sqrt(sum(_squared(x), axis=(-2, -1)))
    if ord in (1, -1, math.inf, -math.inf):
        sums = sum(uf.abs(x), axis=-2 if ord in (1, -1) else -1)
        return max(sums, axis=-1, initial=0) if ord > 0 else min(sums, axis=-1)
    if ord in (2, -2, "nuc"):
        s = svdvals(x)
        return sum(s, axis=-1) if ord == "nuc" else max(s, axis=-1, initial=0) if ord == 2 else min(s, axis=-1)
    raise ArgumentError(f"matrix_norm: order {ord!r}", fix="use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Norm of matrices, the last two axes.

    "fro" is √Σ|x|², "nuc" the sum of the singular values, 2 and −2 the largest and least of them; 1 and −1 the largest
    and least sum of a column of |x|, inf and −inf of a row.
    """
    return norm(x, ord=ord, axis=(-2, -1), keepdims=keepdims)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Norm of vectors along `axis`, by default of all elements: (Σ |x|^ord)^(1/ord).

    inf and −inf are the largest and least |x|; 0 counts what is not zero.
    """
    (x,) = promote_inexact(x, operation="vector_norm")
    options: Any = {"axis": axis, "keepdims": keepdims}
    if ord is None or ord == 2:
        return uf.sqrt(sum(_squared(x), **options))
    if isinstance(ord, str):
        raise ArgumentError(f"vector_norm: order {ord!r}", fix="use a number, such as numpy.inf")
    if ord in (math.inf, -math.inf):
        return max(uf.abs(x), initial=0, **options) if ord > 0 else min(uf.abs(x), **options)
    if ord == 0:
        return sum(x != 0, dtype=dtypes.real_dtype(aval_of(x).dtype), **options)
    if ord == 1:
        return sum(uf.abs(x), **options)
    return sum(uf.abs(x) ** ord, **options) ** (1 / ord)


def cond(x: Any, p: Any = None) -> Any:
    """Condition number: the norm of order p of x times that of its inverse; by default, of order 2.

    >>> import funcgrad.numpy as jnp
    >>> cond(jnp.array([[4.0, 0.0], [0.0, 0.5]]))
    Array(8., dtype=float32)
    """
    x = as_matrices(x, "cond")
    if 0 in aval_of(x).shape[-2:]:
        raise ShapeError(f"cond: {aval_of(x)} has empty matrices", fix="give matrices of size 1 or more")
    if p in (None, 2):
        s = svdvals(x)
        return s[..., 0] / s[..., -1]
    if p == -2:
        s = svdvals(x)
        value = s[..., -1] / s[..., 0]
    else:
        value = matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)
    return where(isnan(value) & ~any(isnan(x), axis=(-2, -1)), math.inf, value)
