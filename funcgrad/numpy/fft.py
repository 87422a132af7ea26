"""funcgrad.numpy.fft: the numpy.fft API. Derivatives of transforms are transforms."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.lax import fourier as lax
from funcgrad.lax.fourier import FftType
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import arange
from funcgrad.numpy.shapes import moveaxis, roll
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.slicing import pad

__all__ = [
    *("fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft"),
    *("irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn"),
]


def _resized(x: Any, sizes: Sequence[int]) -> Any:
    """The last axes cut off at the end, or padded with zeros, to the given sizes."""
    aval = aval_of(x)
    lead = aval.ndim - len(sizes)
    if aval.shape[lead:] == tuple(sizes):
        return x
    config = [(0, 0, 0)] * lead + [(0, n - old, 0) for n, old in zip(sizes, aval.shape[lead:], strict=True)]
    return pad(x, aval.dtype.type(0), config)


def _transform(kind: FftType, operation: str, a: Any, s: Any, axes: Any, norm: Any) -> Any:
    """Transform over several axes, the last of them halved for real arrays."""
    a = as_operand(a, operation)
    aval = aval_of(a)
    if norm not in (None, "backward", "ortho", "forward"):
        raise ArgumentError(f"{operation}: norm={norm!r}", fix="use 'backward', 'ortho' or 'forward'")
    if kind is FftType.RFFT and dtypes.is_complex(aval.dtype):
        raise DTypeError(f"{operation}: operand has type {aval}", fix="give real numbers, or use fft")
    if axes is None:
        axes = range(aval.ndim) if s is None else range(aval.ndim - len(s), aval.ndim)
    axes = as_axes(tuple(axes), aval.ndim, operation)
    if s is not None and len(s) != len(axes):
        raise ArgumentError(f"{operation}: {len(s)} sizes for {len(axes)} axes", fix="give as many sizes as axes")
    if not axes:
        return a if kind in (FftType.FFT, FftType.IFFT) else lax.fft(a, kind, ())
    sizes = [aval.shape[d] for d in axes] if s is None else [operator.index(n) for n in s]
    if kind is FftType.IRFFT and s is None:
        sizes[-1] = 2 * (sizes[-1] - 1)
    if any(n < 1 for n in sizes):
        raise ArgumentError(f"{operation}: transform of {sizes} elements", fix="give sizes of 1 or more")
    last = range(aval.ndim - len(axes), aval.ndim)
    stored = [*sizes[:-1], sizes[-1] // 2 + 1] if kind is FftType.IRFFT else sizes
    out = lax.fft(_resized(moveaxis(a, axes, tuple(last)), stored), kind, sizes)
    # Transforms are scaled by 1, their inverses by 1/n.
    n, inverse = math.prod(sizes), kind in (FftType.IFFT, FftType.IRFFT)
    scale = {"ortho": n ** (0.5 if inverse else -0.5), "forward": n if inverse else 1 / n}.get(norm)
    return moveaxis(out if scale is None else out * scale, tuple(last), axes)


def _of_one(kind: FftType, operation: str, a: Any, n: int | None, axis: int, norm: Any) -> Any:
    if not isinstance(axis, int):
        raise ArgumentError(f"{operation}: axis={axis!r}", fix=f"give an int, or use {operation}n for several axes")
    return _transform(kind, operation, a, None if n is None else (n,), (axis,), norm)


def fft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Fourier transform along an axis: y[k] = Σⱼ a[j] exp(−2πi j k / n).

    `a` is cut off or padded with zeros to n elements. `norm` "backward" scales inverses by 1/n, "forward" transforms by
    1/n, "ortho" both by 1/√n.

    >>> import funcgrad.numpy as jnp
    >>> fft(jnp.array([1.0, 0.0, -1.0, 0.0]))
    Array([0.+0.j, 2.+0.j, 0.+0.j, 2.+0.j], dtype=complex64)
    """
    return _of_one(FftType.FFT, "fft", a, n, axis, norm)


def ifft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `fft`: (1/n) Σₖ a[k] exp(2πi j k / n)."""
    return _of_one(FftType.IFFT, "ifft", a, n, axis, norm)


def rfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Fourier transform of real numbers: the first n//2 + 1 elements of `fft`; the others are conjugate."""
    return _of_one(FftType.RFFT, "rfft", a, n, axis, norm)


def irfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `rfft`: n real numbers, by default 2 (size − 1).

    >>> import funcgrad.numpy as jnp
    >>> irfft(rfft(jnp.arange(5.0)), 5).round(5)
    Array([0., 1., 2., 3., 4.], dtype=float32)
    """
    return _of_one(FftType.IRFFT, "irfft", a, n, axis, norm)


_OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Fourier transform of a signal with a[−j] = conj(a[j]), of which the first half is given: n real numbers."""
    return _of_one(FftType.IRFFT, "hfft", uf.conj(a), n, axis, _OPPOSITE.get(norm, norm))


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Inverse of `hfft`: the first n//2 + 1 elements."""
    return uf.conj(_of_one(FftType.RFFT, "ihfft", a, n, axis, _OPPOSITE.get(norm, norm)))


def fftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    """Fourier transform over several axes, by default all; `s` are the sizes to cut or pad them to."""
    return _transform(FftType.FFT, "fftn", a, s, axes, norm)


def ifftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    """Inverse of `fftn`."""
    return _transform(FftType.IFFT, "ifftn", a, s, axes, norm)


def rfftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    """Fourier transform of real numbers over several axes, the last of which is halved; see `rfft`."""
    return _transform(FftType.RFFT, "rfftn", a, s, axes, norm)


def irfftn(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Any:
    """Inverse of `rfftn`."""
    return _transform(FftType.IRFFT, "irfftn", a, s, axes, norm)


def _two(operation: str, axes: Any) -> Any:
    if len(axes) != 2:
        raise ArgumentError(f"{operation}: axes={axes!r}", fix=f"give two, or use {operation[:-1]}n")
    return axes


def fft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Any:
    """Fourier transform over two axes."""
    return _transform(FftType.FFT, "fft2", a, s, _two("fft2", axes), norm)


def ifft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Any:
    """Inverse of `fft2`."""
    return _transform(FftType.IFFT, "ifft2", a, s, _two("ifft2", axes), norm)


def rfft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Any:
    """Fourier transform of real numbers over two axes; see `rfftn`."""
    return _transform(FftType.RFFT, "rfft2", a, s, _two("rfft2", axes), norm)


def irfft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Any:
    """Inverse of `rfft2`."""
    return _transform(FftType.IRFFT, "irfft2", a, s, _two("irfft2", axes), norm)


# ---------------------------------------------------------------- frequencies


def _frequencies(operation: str, count: int, first: int, n: int, d: Any, dtype: Any) -> Any:
    dtype = dtypes.canonicalize(float if dtype is None else dtype)
    if not dtypes.is_float(dtype):
        raise DTypeError(f"{operation}: dtype={dtype}", fix="use a float dtype")
    return convert_element_type(arange(first, first + count), dtype) / (n * d)


def fftfreq(n: int, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    """The frequencies of the elements of `fft` of n samples that are `d` apart: 0, 1, …, −2, −1, over n d.

    >>> fftfreq(4)
    Array([ 0.  ,  0.25, -0.5 , -0.25], dtype=float32)
    """
    n = operator.index(n)
    return ifftshift(_frequencies("fftfreq", n, -(n // 2), n, d, dtype))


def rfftfreq(n: int, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    """The frequencies of the elements of `rfft`: 0, 1, …, n//2, over n d."""
    n = operator.index(n)
    return _frequencies("rfftfreq", n // 2 + 1, 0, n, d, dtype)


def _shifted(x: Any, axes: Any, operation: str, sign: int) -> Any:
    x = as_operand(x, operation)
    chosen = as_axes(axes, aval_of(x).ndim, operation) if axes is not None else tuple(range(aval_of(x).ndim))
    return roll(x, [sign * (aval_of(x).shape[d] // 2) for d in chosen], chosen) if chosen else x


def fftshift(x: Any, axes: Any = None) -> Any:
    """Move the frequency zero to the middle of the given axes, by default of all."""
    return _shifted(x, axes, "fftshift", 1)


def ifftshift(x: Any, axes: Any = None) -> Any:
    """Inverse of `fftshift`."""
    return _shifted(x, axes, "ifftshift", -1)


_explain_missing_names(__name__)
