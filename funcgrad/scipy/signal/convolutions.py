"""Convolution and correlation in any number of dimensions, directly or by Fourier transforms."""

from __future__ import annotations

import math
from typing import Any

import scipy.fft

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax import conv_general_dilated
from funcgrad.numpy.signals import convolve_vectors

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d", "fftconvolve"]

_Shape = tuple[int, ...]


def _operands(operation: str, in1: Any, in2: Any, mode: str) -> list[Any]:
    if mode not in ("full", "same", "valid"):
        raise ArgumentError(f"{operation}: mode={mode!r}", fix="use 'full', 'same' or 'valid'")
    in1, in2 = promote_inexact(in1, in2, operation=operation)
    if in1.ndim != in2.ndim or not (in1.size and in2.size):
        raise ShapeError(
            f"{operation}: operands are {in1.aval} and {in2.aval}", fix="give arrays of the same rank, not empty"
        )
    return [in1, in2]


def _window(operation: str, mode: str, in1: _Shape, in2: _Shape) -> tuple[_Shape, _Shape]:
    """The first index and the shape of the part of the full convolution that a mode returns."""
    pairs = list(zip(in1, in2, strict=True))
    if mode == "full":
        return (0,) * len(pairs), tuple(n + m - 1 for n, m in pairs)
    if mode == "same":
        return tuple((m - 1) // 2 for _, m in pairs), in1
    if not (all(n >= m for n, m in pairs) or all(n <= m for n, m in pairs)):
        raise ShapeError(
            f"{operation}: mode 'valid' of shapes {in1} and {in2}",
            fix="one must be as large as the other in every axis",
        )
    return tuple(min(pair) - 1 for pair in pairs), tuple(abs(n - m) + 1 for n, m in pairs)


def _direct(image: Any, kernel: Any, first: _Shape, shape: _Shape, precision: Any) -> Any:
    """The part of the full convolution that starts at `first`."""
    if kernel.size > image.size:
        image, kernel = kernel, image
    if image.ndim == 1:
        return convolve_vectors(image, kernel, *first, first[0] + shape[0])
    if image.ndim == 0:
        return image * kernel
    sizes = zip(first, shape, image.shape, kernel.shape, strict=True)
    padding = [(m - 1 - start, start + size - n) for start, size, n, m in sizes]
    flipped = jnp.flip(kernel)[None, None]
    strides = (1,) * image.ndim
    return conv_general_dilated(image[None, None], flipped, strides, padding, precision=precision)[0, 0]


def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """Convolution by Fourier transforms along `axes`, by default all of them; sizes of other axes are equal.

    It is faster than `convolve` for two large arrays. Errors are relative to the largest result, not to each.

    >>> import funcgrad.numpy as jnp
    >>> fftconvolve(jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0])).round(4)
    Array([1., 5., 6.], dtype=float32)
    """
    in1, in2 = _operands("fftconvolve", in1, in2, mode)
    axes = as_axes(axes, in1.ndim, "fftconvolve")
    rest = [d for d in range(in1.ndim) if d not in axes]
    if any(in1.shape[d] != in2.shape[d] for d in rest):
        raise ShapeError(
            f"fftconvolve: {in1.aval} and {in2.aval} differ in axes {rest}, which are not in axes={axes}",
            fix="give the same sizes in these axes, or broadcast one operand",
        )
    sizes = [tuple(x.shape[d] for d in axes) for x in (in1, in2)]
    first, shape = _window("fftconvolve", mode, *sizes)
    if all(1 in pair for pair in zip(*sizes, strict=True)):
        out = in1 * in2
    else:
        real = not dtypes.is_complex(in1.dtype)
        forward, inverse = (jnp.fft.rfftn, jnp.fft.irfftn) if real else (jnp.fft.fftn, jnp.fft.ifftn)
        fast = [scipy.fft.next_fast_len(n + m - 1, real) for n, m in zip(*sizes, strict=True)]
        out = inverse(forward(in1, fast, axes) * forward(in2, fast, axes), fast, axes)
    index = [slice(None)] * in1.ndim
    for d, start, size in zip(axes, first, shape, strict=True):
        index[d] = slice(start, start + size)
    return out[tuple(index)]


def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None) -> Any:
    """Convolution of two arrays of the same rank: outₖ = Σᵢ in1ᵢ in2ₖ₋ᵢ.

    `mode` is "full", "same" for the part with the shape of in1 in the middle, or "valid" for the elements that need
    no padding. `method` "fft" calls `fftconvolve`; "direct" and "auto" compute the sum. Integers become floats.

    Raises:
      ShapeError: ranks differ, an operand is empty, or neither contains the other in mode "valid".
      ArgumentError: `mode` or `method` is unknown.

    >>> import funcgrad.numpy as jnp
    >>> convolve(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 1.0]), mode="same")
    Array([1., 3., 5.], dtype=float32)
    """
    if method not in ("auto", "direct", "fft"):
        raise ArgumentError(f"convolve: method={method!r}", fix="use 'auto', 'direct' or 'fft'")
    if method == "fft":
        return fftconvolve(in1, in2, mode)
    in1, in2 = _operands("convolve", in1, in2, mode)
    return _direct(in1, in2, *_window("convolve", mode, in1.shape, in2.shape), precision)


def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None) -> Any:
    """Cross-correlation: the convolution of in1 with the conjugate of in2, reversed. Options are as in `convolve`.

    >>> import funcgrad.numpy as jnp
    >>> correlate(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0]), mode="valid")
    Array([2., 3.], dtype=float32)
    """
    return convolve(in1, jnp.flip(jnp.conj(in2)), mode, method, precision)


def _in_the_plane(operation: str, in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any) -> list[Any]:
    if boundary != "fill" or not isinstance(fillvalue, (int, float)) or fillvalue != 0:
        raise ArgumentError(
            f"{operation}: boundary={boundary!r}, fillvalue={fillvalue!r}",
            fix="only boundary='fill' with fillvalue=0 exists; for others, pad the operand with numpy.pad",
        )
    in1, in2 = _operands(operation, in1, in2, mode)
    if in1.ndim != 2:
        raise ShapeError(f"{operation}: operands are {in1.aval} and {in2.aval}", fix="give matrices, or use convolve")
    return [in1, in2]


def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: float = 0, precision: Any = None
) -> Any:
    """Convolution of two matrices; see `convolve`. `boundary` and `fillvalue` have one valid value each.

    >>> import funcgrad.numpy as jnp
    >>> convolve2d(jnp.eye(2), jnp.ones((1, 2)))
    Array([[1., 1., 0.],
           [0., 1., 1.]], dtype=float32)
    """
    in1, in2 = _in_the_plane("convolve2d", in1, in2, mode, boundary, fillvalue)
    return _direct(in1, in2, *_window("convolve2d", mode, in1.shape, in2.shape), precision)


def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: float = 0, precision: Any = None
) -> Any:
    """Cross-correlation of two matrices; see `correlate` and `convolve2d`.

    As in SciPy, "same" is centered at the other one of the middle elements of an even size than in `correlate`, and
    "valid" conjugates the result if in2 is larger than in1.

    >>> import funcgrad.numpy as jnp
    >>> correlate2d(jnp.eye(2), jnp.array([[1.0, 2.0]]))
    Array([[2., 1., 0.],
           [0., 2., 1.]], dtype=float32)
    """
    in1, in2 = _in_the_plane("correlate2d", in1, in2, mode, boundary, fillvalue)
    first, shape = _window("correlate2d", mode, in1.shape, in2.shape)
    if mode == "same":
        first = tuple(m // 2 for m in in2.shape)
    out = _direct(in1, jnp.flip(jnp.conj(in2)), first, shape, precision)
    smaller = in1.shape != in2.shape and math.prod(in1.shape) < math.prod(in2.shape)
    return jnp.conj(out) if mode == "valid" and smaller else out
