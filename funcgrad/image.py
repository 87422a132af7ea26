"""funcgrad.image: resizing and resampling of images, and of arrays of any rank.

Each dimension is resampled on its own, as a product with a matrix of weights: column j has the weights of the input
pixels in output pixel j, a kernel around its center, normalized to sum to 1.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_axis, as_shape
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.lax import Precision
from funcgrad.numpy import composite, creation, products, reductions
from funcgrad.numpy import ufuncs as uf
from funcgrad.transforms.jit import jit

__all__ = ["ResizeMethod", "resize", "scale_and_translate"]


class ResizeMethod(enum.Enum):
    """How output pixels are computed from input pixels.

    Names: "nearest"; "linear", "bilinear", "trilinear" or "triangle"; "cubic", "bicubic" or "tricubic", which are Keys'
    cubic with a = −½; "cubic-pytorch" or "bicubic-pytorch", with a = −¾ without antialiasing; "lanczos3"; "lanczos5";
    and "area", the mean over the area of an output pixel.
    """

    NEAREST = 0
    LINEAR = 1
    LANCZOS3 = 2
    LANCZOS5 = 3
    CUBIC = 4
    CUBIC_PYTORCH = 5
    AREA = 6

    @staticmethod
    def from_string(s: str) -> ResizeMethod:
        """Return the method with a name."""
        for method, names in _NAMES.items():
            if s in names:
                return method
        known = ", ".join(name for names in _NAMES.values() for name in names)
        raise ArgumentError(f"resize: unknown method {s!r}", fix=f"use one of {known}")


_NAMES = {
    ResizeMethod.NEAREST: ("nearest",),
    ResizeMethod.LINEAR: ("linear", "bilinear", "trilinear", "triangle"),
    ResizeMethod.LANCZOS3: ("lanczos3",),
    ResizeMethod.LANCZOS5: ("lanczos5",),
    ResizeMethod.CUBIC: ("cubic", "bicubic", "tricubic"),
    ResizeMethod.CUBIC_PYTORCH: ("cubic-pytorch", "bicubic-pytorch"),
    ResizeMethod.AREA: ("area",),
}


class Sampling(NamedTuple):
    """A kernel of the distance in input pixels, which is 0 beyond the radius; None: overlaps of areas.

    With `repeats_edges`, pixels outside of the image have the value of the nearest one inside; otherwise no weight.
    """

    kernel: Callable[[Any], Any] | None
    radius: int
    repeats_edges: bool = False


def _triangle(x: Any) -> Any:
    return uf.maximum(0, 1 - x)


def _lanczos(radius: int, x: Any) -> Any:
    """sinc(x) sinc(x / radius)"""
    top = radius * uf.sin(np.pi * x) * uf.sin(np.pi * x / radius)
    value = uf.where(x > 1e-3, top / uf.where(x != 0, np.pi**2 * x**2, 1), 1)
    return uf.where(x > radius, 0.0, value)


def _cubic(a: float, x: Any) -> Any:
    """R. G. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29 (1981)."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return uf.where(x >= 2, 0.0, uf.where(x >= 1, far, near))


_SAMPLINGS = {
    ResizeMethod.LINEAR: Sampling(_triangle, 1),
    ResizeMethod.LANCZOS3: Sampling(functools.partial(_lanczos, 3), 3),
    ResizeMethod.LANCZOS5: Sampling(functools.partial(_lanczos, 5), 5),
    ResizeMethod.CUBIC: Sampling(functools.partial(_cubic, -0.5), 2),
    ResizeMethod.CUBIC_PYTORCH: Sampling(functools.partial(_cubic, -0.75), 2, repeats_edges=True),
    ResizeMethod.AREA: Sampling(None, 1),
}


def _sampling(method: ResizeMethod, antialias: bool) -> Sampling:
    cubic = method is ResizeMethod.CUBIC_PYTORCH and antialias
    return _SAMPLINGS[ResizeMethod.CUBIC if cubic else method]


def _as_method(method: str | ResizeMethod) -> ResizeMethod:
    return ResizeMethod.from_string(method) if isinstance(method, str) else method


def _normalized(weights: Any) -> Any:
    """Columns divided by their sums, or 0 where the sum is."""
    total = reductions.sum(weights, axis=0, keepdims=True)
    limit = 1000 * float(np.finfo(np.float32).eps)
    return uf.where(uf.absolute(total) > limit, weights / uf.where(total != 0, total, 1), 0)


def _weights(size: int, out_size: int, scale: Any, translation: Any, sampling: Sampling, antialias: bool) -> Any:
    """The matrix of weights, (size, out_size)."""
    dtype = aval_of(scale).dtype
    step = 1 / scale
    shift = translation * step
    left = creation.arange(out_size, dtype=dtype)[None, :]
    centers = (left + 0.5) * step - shift - 0.5
    if sampling.kernel is None:
        begin, pixels = left * step - shift, creation.arange(size, dtype=dtype)[:, None]
        overlap = uf.minimum(begin + step, pixels + 1) - uf.maximum(begin, pixels)
        return _inside(_normalized(uf.maximum(0.0, overlap)), centers, size)
    extra = sampling.radius if sampling.repeats_edges else 0
    pixels = creation.arange(-extra, size + extra, dtype=dtype)
    width = uf.maximum(step, 1.0) if antialias else 1.0
    weights = sampling.kernel(uf.absolute(centers - pixels[:, None]) / width)
    if not sampling.repeats_edges:
        return _inside(_normalized(weights), centers, size)
    edges = composite.clip(creation.arange(-extra, size + extra), 0, size - 1)
    return _normalized(creation.zeros((size, out_size), dtype).at[edges].add(weights))


def _inside(weights: Any, centers: Any, size: int) -> Any:
    """Weights of the output pixels whose centers are in the image, 0 for others."""
    return uf.where((centers >= -0.5) & (centers <= size - 0.5), weights, 0)


def _resample(
    image: Any,
    shape: tuple[int, ...],
    dims: Sequence[int],
    scale: Any,
    translation: Any,
    method: ResizeMethod,
    antialias: bool,
    precision: Any,
) -> Any:
    sampling, rank = _sampling(method, antialias), len(shape)
    operands: list[Any] = [image, list(range(rank))]
    result = list(range(rank))
    for i, dim in enumerate(dims):
        d = as_axis(dim, rank, "scale_and_translate")
        weights = _weights(aval_of(image).shape[d], shape[d], scale[i], translation[i], sampling, antialias)
        operands += [weights.astype(aval_of(image).dtype), [d, rank + i]]
        result[d] = rank + i
    return products.einsum(*operands, result, precision=precision) if len(dims) else image


def _check_rank(name: str, image: Any, shape: tuple[int, ...]) -> None:
    if len(shape) != len(aval_of(image).shape):
        raise ShapeError(
            f"{name}: shape {shape} has another number of dimensions than the image, {aval_of(image)}",
            fix="give the size of every dimension, also of those that stay the same",
        )


def scale_and_translate(
    image: Any,
    shape: Any,
    spatial_dims: Sequence[int],
    scale: Any,
    translation: Any,
    method: str | ResizeMethod,
    antialias: bool = True,
    precision: Any = Precision.HIGHEST,
) -> Any:
    """Resample an image: output position y is input position (y − translation) / scale, in each of `spatial_dims`.

    Output pixels whose centers are outside the image are 0. With `antialias`, the kernel is widened where the image
    shrinks. Differentiable with respect to the image, the scale and the translation.

    Raises:
      ShapeError: `shape` has another number of dimensions than the image.
      ArgumentError: the method is unknown or "nearest".

    >>> image = np.arange(4.0, dtype=np.float32)
    >>> scale_and_translate(image, (4,), (0,), np.array([1.0]), np.array([1.0]), "linear")
    Array([0., 0., 1., 2.], dtype=float32)
    """
    method, shape = _as_method(method), as_shape(shape, "scale_and_translate")
    if method is ResizeMethod.NEAREST:
        raise ArgumentError("scale_and_translate: method 'nearest' has no kernel", fix="use resize, or 'linear'")
    (image,) = promotion.promote_inexact(image, operation="scale_and_translate")
    scale, translation = promotion.promote_inexact(scale, translation, operation="scale_and_translate")
    _check_rank("scale_and_translate", image, shape)
    return _resample(image, shape, spatial_dims, scale, translation, method, antialias, precision)


def resize(
    image: Any, shape: Any, method: str | ResizeMethod, antialias: bool = True, precision: Any = Precision.HIGHEST
) -> Any:
    """Resize an array to `shape`, which has a size for each dimension; see `ResizeMethod`.

    >>> resize(np.array([[1.0, 3.0]], np.float32), (1, 4), "linear")
    Array([[1. , 1.5, 2.5, 3. ]], dtype=float32)
    """
    method, shape = _as_method(method), as_shape(shape, "resize")
    image = promotion.as_operand(image, "resize")
    _check_rank("resize", image, shape)
    return _resize(image, shape, method, antialias, precision)


@functools.partial(jit, static_argnums=(1, 2, 3, 4))
def _resize(image: Any, shape: tuple[int, ...], method: ResizeMethod, antialias: bool, precision: Any) -> Any:
    sizes = aval_of(image).shape
    dims = [d for d, (have, want) in enumerate(zip(sizes, shape, strict=True)) if have != want]
    if method is ResizeMethod.NEAREST:
        for d in dims:
            # In float32, as in JAX.
            positions = (np.arange(shape[d], dtype=np.float32) + 0.5) * np.float32(sizes[d]) / np.float32(shape[d])
            image = image[(slice(None),) * d + (np.floor(positions).astype(np.int32),)]
        return image
    (image,) = promotion.promote_inexact(image, operation="resize")
    scale = [promotion.as_operand(shape[d] / sizes[d] if shape[d] else 1.0, "resize") for d in dims]
    zeros = [creation.zeros((), aval_of(s).dtype) for s in scale]
    return _resample(image, shape, dims, scale, zeros, method, antialias, precision)


_explain_missing_names(__name__)
