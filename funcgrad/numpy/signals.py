"""Functions of sampled signals: differences, integrals, convolution, interpolation, windows."""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes, as_axis, as_int
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_dtypes, promote_inexact
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.composite import clip, remainder
from funcgrad.numpy.creation import arange, asarray, astype, linspace
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.masks import where
from funcgrad.numpy.reductions import cumsum, sum
from funcgrad.numpy.shapes import moveaxis, ravel
from funcgrad.numpy.sorting import argsort, searchsorted
from funcgrad.ops import shapes, slicing
from funcgrad.ops.conv import ConvDimensionNumbers, conv_general_dilated
from funcgrad.ops.products import check_precision
from funcgrad.ops.special import bessel_ive
from funcgrad.transforms.custom_rules.jvp import custom_jvp

__all__ = [
    "bartlett",
    "blackman",
    "convolve",
    "correlate",
    "diff",
    "ediff1d",
    "gradient",
    "hamming",
    "hanning",
    "i0",
    "interp",
    "kaiser",
    "trapezoid",
    "unwrap",
]


def _array(x: Any, operation: str) -> Any:
    return asarray(x) if isinstance(x, (list, tuple)) else as_operand(x, operation)


def _along(x: Any, axis: int, start: int | None, stop: int | None, step: int | None = None) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


# ---------------------------------------------------------------- differences and integrals


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """n-th discrete difference along an axis: out[i] = a[i + 1] − a[i], applied n times.

    >>> diff([1, 2, 4, 7])
    Array([1, 2, 3], dtype=int32)
    """
    a = _array(a, "diff")
    if n < 0:
        raise ArgumentError(f"diff: n is {n}", fix="take 0 or more differences")
    if a.aval.ndim == 0:
        raise ShapeError("diff: a 0-d array has no axis", fix="give it one dimension or more")
    axis = as_axis(axis, a.aval.ndim, "diff")
    if n == 0:
        return a

    def edge(extra: Any) -> list[Any]:
        if extra is None:
            return []
        extra = _array(extra, "diff")
        row = (*a.aval.shape[:axis], 1, *a.aval.shape[axis + 1 :])
        return [broadcast_to(extra, row) if extra.aval.ndim == 0 else extra]

    x = concatenate([*edge(prepend), a, *edge(append)], axis)
    subtract = uf.not_equal if x.aval.dtype == dtypes.bool_ else uf.subtract
    for _ in range(n):
        x = subtract(_along(x, axis, 1, None), _along(x, axis, None, -1))
    return x


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Differences of the flattened array, with `to_begin` prepended and `to_end` appended."""
    x = ravel(_array(ary, "ediff1d"))
    middle = uf.subtract(x[1:], x[:-1])
    ends = [None if e is None else ravel(_array(e, "ediff1d")).astype(x.aval.dtype) for e in (to_begin, to_end)]
    parts = [p for p in (ends[0], middle, ends[1]) if p is not None]
    return concatenate(parts) if len(parts) > 1 else middle


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int | None = None) -> Any:
    """Derivative by central differences, one-sided at the ends, along the given axes or all of them.

    `varargs` gives the spacing: one number for all axes, or for each axis a number or the vector of coordinates.
    """
    if edge_order not in (None, 1):
        raise ArgumentError(f"gradient: edge_order={edge_order}", fix="only edge_order=1 exists")
    (f,) = promote_inexact(_array(f, "gradient"), operation="gradient")
    axes = as_axes(axis, f.aval.ndim, "gradient")
    if len(varargs) not in (0, 1, len(axes)):
        raise ArgumentError(f"gradient: {len(varargs)} spacings for {len(axes)} axes", fix="give one, or one per axis")
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    out = [_gradient(f, h, d) for h, d in zip(spacings, axes, strict=True)]
    return out[0] if len(out) == 1 else out


def _gradient(f: Any, h: Any, axis: int) -> Any:
    n = f.aval.shape[axis]
    if n < 2:
        raise ShapeError(f"gradient: axis {axis} of {f.aval} has fewer than 2 elements", fix="give at least 2")
    steps = _array(h, "gradient")
    rise = diff(f, axis=axis)
    if steps.aval.ndim == 0:
        slope = uf.divide(rise, steps)
        middle = uf.multiply(uf.add(_along(slope, axis, 1, None), _along(slope, axis, None, -1)), 0.5)
    else:
        if steps.aval.shape != (n,):
            raise ShapeError(f"gradient: coordinates {steps.aval} do not fit axis {axis} of {f.aval}", fix=f"give {n}")
        width = diff(steps).reshape((-1, *(1,) * (f.aval.ndim - axis - 1)))
        slope = uf.divide(rise, width)
        left, right = width[:-1], width[1:]
        weighted = uf.add(
            uf.multiply(_along(slope, axis, 1, None), left), uf.multiply(_along(slope, axis, None, -1), right)
        )
        middle = uf.divide(weighted, uf.add(left, right))
    return concatenate([_along(slope, axis, 0, 1), middle, _along(slope, axis, -1, None)], axis)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """Integral by the trapezoidal rule: Σ ½ (yᵢ + yᵢ₊₁)(xᵢ₊₁ − xᵢ)."""
    if x is None:
        y, dx = promote_dtypes(
            *promote_inexact(_array(y, "trapezoid"), operation="trapezoid"), dx, operation="trapezoid"
        )
        y = moveaxis(y, axis, -1)
    else:
        y, x = promote_inexact(_array(y, "trapezoid"), _array(x, "trapezoid"), operation="trapezoid")
        y = moveaxis(y, axis, -1)
        dx = diff(x if x.aval.ndim == 1 else moveaxis(x, axis, -1))
    return uf.multiply(0.5, sum(uf.multiply(dx, uf.add(y[..., 1:], y[..., :-1])), -1))


def unwrap(p: Any, discont: Any = None, axis: int = -1, period: Any = 2 * math.pi) -> Any:
    """Remove jumps of more than half a period from a sequence of angles, by adding multiples of the period."""
    p = _array(p, "unwrap")
    axis = as_axis(axis, p.aval.ndim, "unwrap")
    if dtypes.is_integer(p.aval.dtype):
        half, correct_half = period // 2, period % 2 == 0
    else:
        half, correct_half = period / 2, True
    jump = diff(p, axis=axis)
    wrapped = uf.subtract(remainder(uf.add(jump, half), period), half)
    if correct_half:
        wrapped = where(uf.logical_and(uf.equal(wrapped, -half), uf.greater(jump, 0)), half, wrapped)
    correction = where(uf.less(uf.absolute(jump), half if discont is None else discont), 0, uf.subtract(wrapped, jump))
    return concatenate([_along(p, axis, 0, 1), uf.add(_along(p, axis, 1, None), cumsum(correction, axis))], axis)


# ---------------------------------------------------------------- convolution and interpolation


_BLOCK = 32  # results that one window of a longer kernel gives, side by side


def _convolve(a: Any, v: Any, mode: str, preferred: Any, operation: str) -> Any:
    if a.aval.ndim != 1 or v.aval.ndim != 1:
        raise ShapeError(f"{operation}: operands are {a.aval} and {v.aval}", fix="pass vectors")
    if not a.aval.size or not v.aval.size:
        raise ShapeError(f"{operation}: one of {a.aval} and {v.aval} is empty", fix="pass at least one element")
    if mode not in ("full", "same", "valid"):
        raise ArgumentError(f"{operation}: mode={mode!r}", fix="use 'full', 'same' or 'valid'")
    if v.aval.size > a.aval.size:
        a, v = v, a
    n, m = a.aval.size, v.aval.size
    first, stop = {"full": (0, n + m - 1), "same": ((m - 1) // 2, (m - 1) // 2 + n), "valid": (m - 1, n)}[mode]
    dtype = None if preferred is None else dtypes.requested(preferred, operation)
    return convolve_vectors(a, v, first, stop, dtype)


def convolve_vectors(a: Any, v: Any, first: int, stop: int, dtype: Any = None) -> Any:
    """Elements `first` to `stop` of the full convolution of two vectors, the second of which is not longer."""
    n, m = a.aval.size, v.aval.size
    kernel, block = _side_by_side(shapes.rev(v, (0,)))
    low, span, windows = m - 1 - first, kernel.aval.shape[0], -(-(stop - first) // block)
    padding = [(low, (windows - 1) * block + span - n - low)]
    numbers = ConvDimensionNumbers((0, 2, 1), (2, 1, 0), (0, 2, 1))
    out = conv_general_dilated(
        a.reshape(1, n, 1), kernel, (block,), padding, (1,), (1,), numbers, preferred_element_type=dtype
    )
    return out.reshape(-1)[: stop - first]


def _side_by_side(v: Any) -> tuple[Any, int]:
    """A kernel of shape `(window, 1, features)`: feature j is `v` moved by j, so that a window gives several results.

    The copies are rows of one element more than the window has, so each starts one element later than that before it.
    """
    m = v.aval.size
    if m <= _BLOCK:
        return v.reshape(m, 1, 1), 1
    zero = shapes.full((), 0, v.aval.dtype, v.aval.weak_type)
    row, window = slicing.pad(v, zero, [(0, _BLOCK, 0)]), m + _BLOCK - 1
    rows = broadcast_to(row, (_BLOCK, m + _BLOCK)).reshape(-1)[: _BLOCK * window]
    return shapes.transpose(rows.reshape(_BLOCK, window), (1, 0)).reshape(window, 1, _BLOCK), _BLOCK


def convolve(a: Any, v: Any, mode: str = "full", *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Discrete convolution of vectors: outₖ = Σᵢ aᵢ vₖ₋ᵢ.

    `mode` is "full" for all n + m − 1 elements, "same" for the size of the longer operand, or "valid" for the elements
    where the operands overlap completely. Integers become floats, as in JAX.

    >>> convolve([1, 2, 3], [0, 1])
    Array([0., 1., 2., 3.], dtype=float32)
    """
    check_precision("convolve", precision)
    a, v = promote_inexact(_array(a, "convolve"), _array(v, "convolve"), operation="convolve")
    return _convolve(a, v, mode, preferred_element_type, "convolve")


def correlate(a: Any, v: Any, mode: str = "valid", *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Cross-correlation of vectors: outₖ = Σᵢ aᵢ₊ₖ conj(vᵢ). `mode` and dtypes are as in `convolve`."""
    check_precision("correlate", precision)
    a, v = promote_inexact(_array(a, "correlate"), _array(v, "correlate"), operation="correlate")
    if a.aval.ndim == v.aval.ndim == 1 and v.aval.size > a.aval.size:
        # NumPy centers the longer operand: correlate it with the shorter one, and reverse.
        flipped = _convolve(uf.conj(v), shapes.rev(a, (0,)), mode, preferred_element_type, "correlate")
        return shapes.rev(flipped, (0,))
    kernel = shapes.rev(uf.conj(v), (0,)) if v.aval.ndim == 1 else v
    return _convolve(a, kernel, mode, preferred_element_type, "correlate")


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear interpolation at `x` of the points (xp, fp), with xp ascending.

    Outside the points, the result is `left` and `right`, by default fp[0] and fp[-1]; "extrapolate" continues the line.

    >>> interp(1.5, [1.0, 2.0], [10.0, 20.0])
    Array(15., dtype=float32)
    """
    x, xp, fp = (_array(v, "interp") for v in (x, xp, fp))
    if xp.aval.shape != fp.aval.shape or xp.aval.ndim != 1:
        raise ShapeError(f"interp: points are {xp.aval} and {fp.aval}", fix="pass two vectors of one size")
    x, xp = promote_inexact(x, xp, operation="interp")
    (fp,) = promote_inexact(fp, operation="interp")
    if dtypes.is_complex(x.aval.dtype):
        raise ArgumentError(f"interp: x has type {x.aval}", fix="pass real x; only fp may be complex")
    if period is not None:
        left = right = None
        x, xp = remainder(x, period), remainder(xp, period)
        order = argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
    n = xp.aval.size
    i = clip(searchsorted(xp, x, side="right"), 1, builtins.max(n - 1, 1))
    if n == 1:
        out = broadcast_to(fp[0], x.aval.shape)
    else:
        dx, df, offset = xp[i] - xp[i - 1], fp[i] - fp[i - 1], x - xp[i - 1]
        flat = uf.less_equal(uf.absolute(dx), 0)
        out = where(flat, fp[i - 1], fp[i - 1] + offset / where(flat, 1, dx) * df)
    if left != "extrapolate":
        out = where(uf.less(x, xp[0]), fp[0] if left is None else left, out)
    if right != "extrapolate":
        out = where(uf.greater(x, xp[-1]), fp[-1] if right is None else right, out)
    return out


# ---------------------------------------------------------------- windows and Bessel


def i0(x: Any) -> Any:
    """Modified Bessel function of the first kind, order 0."""
    (x,) = promote_inexact(_array(x, "i0"), operation="i0")
    return _bessel(0)(x)


@functools.cache
def _bessel(order: int) -> Callable[[Any], Any]:
    """Iₙ(x) = e^|x| · (Iₙ(x) e^−|x|), with the derivative I'ₙ = (Iₙ₋₁ + Iₙ₊₁)/2, where I₋₁ = I₁.

    It needs a rule of its own because both factors have kinks at 0, which cancel.
    """

    @custom_jvp
    def value(x: Any) -> Any:
        return uf.multiply(uf.exp(uf.absolute(x)), bessel_ive(order, x))

    def slope(x: Any) -> Any:
        return 0.5 * (_bessel(order - 1)(x) + _bessel(order + 1)(x)) if order else _bessel(1)(x)

    value.defjvps(lambda tangent, ans, x: tangent * slope(x))
    return value


def _cosine_window(M: Any, coefficients: Sequence[float], operation: str) -> Any:
    """Σₖ (−1)ᵏ cₖ cos(2πkn / (M − 1))."""
    M = as_int(M, "M", operation)
    dtype = dtypes.canonicalize(float)
    if M <= 1:
        return shapes.full((builtins.max(M, 0),), 1, dtype)
    n = uf.divide(arange(M).astype(dtype), M - 1)
    out: Any = coefficients[0]
    for k, c in enumerate(coefficients[1:], 1):
        out = uf.add(out, uf.multiply((-1) ** k * c, uf.cos(uf.multiply(2 * math.pi * k, n))))
    return out


def hanning(M: int) -> Any:
    """Hann window of M points."""
    return _cosine_window(M, (0.5, 0.5), "hanning")


def hamming(M: int) -> Any:
    """Hamming window of M points."""
    return _cosine_window(M, (0.54, 0.46), "hamming")


def blackman(M: int) -> Any:
    """Blackman window of M points."""
    return _cosine_window(M, (0.42, 0.5, 0.08), "blackman")


def bartlett(M: int) -> Any:
    """Bartlett window of M points: a triangle that is 0 at the ends."""
    M = as_int(M, "M", "bartlett")
    if M <= 1:
        return _cosine_window(M, (1.0,), "bartlett")
    return uf.subtract(1, uf.absolute(linspace(-1, 1, M)))


def kaiser(M: int, beta: Any) -> Any:
    """Kaiser window of M points: I₀(β√(1 − (2n/(M−1) − 1)²)) / I₀(β)."""
    M = as_int(M, "M", "kaiser")
    if M <= 1:
        return _cosine_window(M, (1.0,), "kaiser")
    n = arange(M).astype(dtypes.canonicalize(float))
    alpha = 0.5 * (M - 1)
    inside = uf.maximum(0, uf.subtract(1, uf.square(uf.divide(uf.subtract(n, alpha), alpha))))
    return uf.divide(i0(uf.multiply(beta, uf.sqrt(inside))), i0(astype(asarray(beta), float)))
