"""Covariances, histograms and counts."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_int
from funcgrad.arguments.promotion import as_operand, promote_dtypes, promote_inexact
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import creation, matrices
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.composite import clip, clip_rounding
from funcgrad.numpy.creation import asarray, linspace, zeros
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.masks import where
from funcgrad.numpy.products import dot
from funcgrad.numpy.reductions import average, max, min, sum
from funcgrad.numpy.shapes import atleast_2d, ravel
from funcgrad.numpy.signals import diff
from funcgrad.numpy.sorting import searchsorted
from funcgrad.ops.casts import convert_element_type

__all__ = [
    "bincount",
    "corrcoef",
    "cov",
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
]


def _array(x: Any, operation: str) -> Any:
    return asarray(x) if isinstance(x, (list, tuple)) else as_operand(x, operation)


# ---------------------------------------------------------------- covariance


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    dtype: Any = None,
) -> Any:
    """Covariance matrix: Σ w (x − x̄)(x − x̄)ᴴ / (Σw − ddof).

    Each row of `m` is a variable and each column an observation; `rowvar=False` swaps them. `y` holds more variables.

    >>> cov([[1.0, 2.0, 3.0], [6.0, 4.0, 2.0]])
    Array([[ 1., -2.],
           [-2.,  4.]], dtype=float32)
    """
    given = [_array(v, "cov") for v in (m, y) if v is not None]
    x, *rest = promote_inexact(*given, operation="cov")
    for v in (x, *rest):
        if v.aval.ndim > 2:
            raise ShapeError(f"cov: observations are {v.aval}", fix="pass vectors or matrices")
    if dtype is not None:
        x = convert_element_type(x, dtypes.requested(dtype, "cov"))
    x = _rows(x, rowvar)
    if rest:
        x = concatenate([x, _rows(rest[0], rowvar)], 0)
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = _weights(x, fweights, aweights)
    mean = average(x, 1, weights)
    if weights is None:
        norm: Any = x.aval.shape[1] - ddof
    elif aweights is None or ddof == 0:
        norm = sum(weights) - ddof
    else:
        norm = sum(weights) - ddof * sum(weights * aweights) / sum(weights)
    centered = x - mean[:, None]
    out = dot(centered, uf.conj(centered if weights is None else centered * weights).T) / norm
    return out.squeeze()


def _rows(x: Any, rowvar: bool) -> Any:
    matrix = atleast_2d(x)
    return matrix.T if not rowvar and (x.aval.ndim == 2 and x.aval.shape[0] != 1) else matrix


def _weights(x: Any, fweights: Any, aweights: Any) -> Any:
    out: Any = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        w = _array(given, "cov")
        if w.aval.shape != (x.aval.shape[1],):
            raise ShapeError(
                f"cov: {name} are {w.aval} for {x.aval.shape[1]} observations", fix="give one per observation"
            )
        out = w if out is None else out * w
    return None if out is None else convert_element_type(out, dtypes.real_dtype(x.aval.dtype))


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, dtype: Any = None) -> Any:
    """Pearson correlation coefficients: Cᵢⱼ / √(Cᵢᵢ Cⱼⱼ) of the covariance matrix C; arguments as in `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.aval.ndim == 0:
        return uf.divide(c, c)
    deviation = uf.sqrt(uf.real(matrices.diagonal(c)))
    out = c / deviation[:, None] / deviation[None, :]
    if not dtypes.is_complex(out.aval.dtype):
        return clip_rounding(out, -1, 1)
    return clip_rounding(uf.real(out), -1, 1) + 1j * clip_rounding(uf.imag(out), -1, 1)


# ---------------------------------------------------------------- counts


def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None) -> Any:
    """Count the occurrences of each non-negative integer, or sum its weights.

    Under jit, `length` gives the size of the result; integers beyond it are dropped.

    >>> import funcgrad.numpy as jnp
    >>> bincount(jnp.array([1, 3, 1]))
    Array([0, 2, 0, 1], dtype=int32)
    """
    x = _array(x, "bincount")
    if not dtypes.is_integer(x.aval.dtype) and x.aval.dtype != dtypes.bool_:
        raise ArgumentError(f"bincount: x has type {x.aval}", fix="pass integers")
    if x.aval.ndim != 1:
        raise ShapeError(f"bincount: x has type {x.aval}", fix="pass a vector: x.ravel()")
    if length is None:
        if isinstance(x, Tracer) and x.concrete() is None:
            raise ArgumentError(f"bincount: the largest of {x.aval} is not known while tracing", fix="pass length=")
        values = np.asarray(x if not isinstance(x, Tracer) else x.concrete())
        length = builtins.max(minlength, builtins.max(int(values.max()), 0) + 1 if values.size else 0)
    w = asarray(1) if weights is None else _array(weights, "bincount")
    dtype = dtypes.canonicalize(int) if weights is None else w.aval.dtype
    place = clip(uf.without_bools(x), 0, None)
    return zeros((as_int(length, "length", "bincount"),), dtype).at[place].add(w.astype(dtype), mode="drop")


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """The edges of evenly spaced bins over the range of the data, or `bins` itself if it is a vector of edges."""
    a = _array(a, "histogram_bin_edges")
    if isinstance(bins, str):
        raise ArgumentError(f"histogram_bin_edges: bins={bins!r}", fix="give a number of bins, or their edges")
    edges = _array(bins, "histogram_bin_edges")
    dtype = dtypes.inexact(a.aval.dtype)
    if edges.aval.ndim == 1:
        return convert_element_type(edges, dtype)
    if range is None:
        low, high = (min(a), max(a)) if a.aval.size else (asarray(0.0), asarray(1.0))
    else:
        low, high = (_array(v, "histogram_bin_edges") for v in range)
    low, high = (convert_element_type(v, dtype) for v in (low, high))
    flat = uf.equal(low, high)
    low, high = where(flat, low - 0.5, low), where(flat, high + 0.5, high)
    return linspace(low, high, as_int(bins, "bins", "histogram") + 1, dtype=dtype)


def _bin_index(x: Any, edges: Any) -> Any:
    """The index of each element's bin, or the number of bins if it is in none. The last bin is closed."""
    n = edges.aval.size - 1
    place = searchsorted(edges, x, side="right") - 1
    place = where(uf.equal(x, edges[-1]), n - 1, place)
    return where(uf.logical_and(uf.greater_equal(x, edges[0]), uf.less_equal(x, edges[-1])), place, n)


def histogram(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, Any]:
    """Return (counts, edges): the number of elements in each bin, or the sum of their weights.

    With `density`, the counts are scaled so that their integral is 1.

    >>> histogram([1.0, 2.0, 1.0, 4.0], bins=3)[0]
    Array([2., 1., 1.], dtype=float32)
    """
    a = ravel(_array(a, "histogram"))
    edges = histogram_bin_edges(a, bins, range)
    x, edges = promote_dtypes(a, edges, operation="histogram")
    w = creation.ones(a.aval.shape, edges.aval.dtype) if weights is None else ravel(_array(weights, "histogram"))
    if w.aval.shape != x.aval.shape:
        raise ShapeError(f"histogram: weights {w.aval} do not fit {x.aval}", fix="give one weight per element")
    counts = bincount(_bin_index(x, edges), w, length=edges.aval.size - 1)
    if density:
        counts = counts / sum(counts) / diff(edges)
    return counts, edges


def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, list[Any]]:
    """Return (counts, list of edges per dimension) of a sample of shape (points, dimensions)."""
    points = _array(sample, "histogramdd") if not isinstance(sample, (list, tuple)) else creation.asarray(sample).T
    (points,) = promote_inexact(points, operation="histogramdd")
    if points.aval.ndim != 2:
        raise ShapeError(f"histogramdd: sample has type {points.aval}", fix="pass (points, dimensions)")
    d = points.aval.shape[1]
    many = bins if isinstance(bins, Sequence) else [bins] * d
    if len(many) != d or (range is not None and len(range) != d):
        raise ArgumentError(
            f"histogramdd: {len(many)} bins for {d} dimensions", fix="give one per dimension, or one number"
        )
    columns = [points[:, i] for i in builtins.range(d)]
    edges = [
        histogram_bin_edges(x, b, None if range is None else range[i])
        for i, (x, b) in enumerate(zip(columns, many, strict=True))
    ]
    counts = [e.aval.size - 1 for e in edges]
    place, inside = asarray(0), asarray(True)
    for x, e, m in zip(columns, edges, counts, strict=True):
        own = _bin_index(x, e)
        inside = uf.logical_and(inside, uf.less(own, m))
        place = place * m + own
    total = int(np.prod(counts))
    w = None if weights is None else _array(weights, "histogramdd")
    out = bincount(where(inside, place, total), w, length=total).reshape(counts)
    if density:
        out = out / sum(out)
        for i, e in enumerate(edges):
            out = out / diff(e).reshape([-1 if j == i else 1 for j in builtins.range(d)])
    return out, edges


def histogram2d(
    x: Any, y: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, Any, Any]:
    """Return (counts, x edges, y edges) of the points (x, y)."""
    sample = creation.array([_array(x, "histogram2d"), _array(y, "histogram2d")]).T
    # A single vector of edges is used for both axes.
    if np.ndim(bins) == 1 and len(bins) not in (1, 2):
        bins = [bins, bins]
    counts, edges = histogramdd(sample, bins, range, weights, density)
    return counts, edges[0], edges[1]
