"""funcgrad.scipy.fft: cosine transforms, by Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.arguments.axes import as_axes, as_axis
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.numpy import fft as numpy_fft
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.shapes import moveaxis
from funcgrad.ops.slicing import pad

__all__ = ["dct", "dctn", "idct", "idctn"]


def _checked(x: Any, type: int, norm: str | None, operation: str) -> Any:
    (x,) = promote_inexact(x, operation=operation)
    if type != 2:
        raise ArgumentError(f"{operation}: type {type}", fix="use type 2")
    if norm not in (None, "backward", "ortho"):
        raise ArgumentError(f"{operation}: norm={norm!r}", fix="use None, 'backward' or 'ortho'")
    return x


def _resized(x: Any, n: int | None) -> Any:
    """The last axis cut off, or padded with zeros, to n elements."""
    aval = aval_of(x)
    if n is None or n == aval.shape[-1]:
        return x
    return pad(x, np.zeros((), aval.dtype), [(0, 0, 0)] * (aval.ndim - 1) + [(0, n - aval.shape[-1], 0)])


def _weights(n: int, norm: str | None) -> np.ndarray:
    """Scales of the transform 2 Σⱼ x[j] cos(π k (2j + 1) / 2n), so that it is orthogonal for norm "ortho"."""
    scale = np.full(n, (2 * n) ** -0.5 if norm == "ortho" else 1.0)
    if norm == "ortho":
        scale[0] = (4 * n) ** -0.5
    return scale


def _order(n: int) -> np.ndarray:
    """The even elements, then the odd ones from the end: of these, the cosine transform is a Fourier transform.

    Makhoul, A fast cosine transform in one and two dimensions (IEEE Transactions on Acoustics, Speech, and Signal
    Processing 28, 1980).
    """
    return np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])


def dct(x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Cosine transform along an axis: y[k] = 2 Σⱼ x[j] cos(π k (2j + 1) / 2n); orthogonal for `norm` "ortho".

    >>> import funcgrad.numpy as jnp
    >>> dct(jnp.ones(4)).round(4)
    Array([8., 0., 0., 0.], dtype=float32)
    """
    x = _checked(x, type, norm, "dct")
    axis = as_axis(axis, aval_of(x).ndim, "dct")
    x = _resized(moveaxis(x, axis, -1), n)
    n = aval_of(x).shape[-1]
    spectrum = numpy_fft.fft(x[..., _order(n)])
    turns = 2 * np.exp(-0.5j * np.pi * np.arange(n) / n) * _weights(n, norm)
    return moveaxis(uf.real(spectrum * turns.astype(aval_of(spectrum).dtype)), -1, axis)


def idct(x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `dct`.

    >>> import funcgrad.numpy as jnp
    >>> idct(dct(jnp.arange(4.0))).round(4)
    Array([0., 1., 2., 3.], dtype=float32)
    """
    x = _checked(x, type, norm, "idct")
    axis = as_axis(axis, aval_of(x).ndim, "idct")
    x = _resized(moveaxis(x, axis, -1), n)
    n = aval_of(x).shape[-1]
    # y[k] − i y[n − k], turned back, is the spectrum of the reordered elements.
    k, dtype = np.arange(n), np.result_type(aval_of(x).dtype, np.complex64)
    weighted = x / _weights(n, norm).astype(aval_of(x).dtype)
    mirrored = weighted[..., -k % n] * (k > 0).astype(aval_of(x).dtype)
    turns = 0.5 * np.exp(0.5j * np.pi * k / n)
    spectrum = (weighted - 1j * mirrored).astype(dtype) * turns.astype(dtype)
    out = uf.real(numpy_fft.ifft(spectrum))
    return moveaxis(out[..., np.argsort(_order(n))], -1, axis)


def _several(f: Any, x: Any, type: int, s: Any, axes: Any, norm: str | None, operation: str) -> Any:
    (x,) = promote_inexact(x, operation=operation)
    if axes is None:
        axes = range(-len(s), 0) if s is not None else range(aval_of(x).ndim)
    axes = as_axes(tuple(axes), aval_of(x).ndim, operation)
    if s is not None and len(s) != len(axes):
        raise ArgumentError(f"{operation}: {len(s)} sizes for {len(axes)} axes", fix="give as many sizes as axes")
    for axis, n in zip(axes, s or [None] * len(axes), strict=True):
        x = f(x, type, n, axis, norm)
    return x


def dctn(x: Any, type: int = 2, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    """Cosine transform along several axes, by default all; see `dct`."""
    return _several(dct, x, type, s, axes, norm, "dctn")


def idctn(x: Any, type: int = 2, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    """Inverse of `dctn`."""
    return _several(idct, x, type, s, axes, norm, "idctn")


_explain_missing_names(__name__)
