"""Samples from continuous distributions.

Most are computed by inversion: if F is the cumulative distribution function and U is uniform, F⁻¹(U) has the
distribution. Samples are differentiable with respect to the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_shape
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.numpy import composite, reductions
from funcgrad.numpy import ufuncs as uf
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, logic
from funcgrad.ops.shapes import full
from funcgrad.ops.special import erf_inv_p, erf_p
from funcgrad.random.keys import bits_of, float_dtype, single, split_words


def parameters(name: str, shape: Any, dtype: np.dtype | None, *values: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of the result, by default the common shape of the parameters, and the parameters in `dtype`."""
    operands = [promotion.as_operand(v, name) for v in values]
    common = promotion.broadcast_shapes(*(v.aval.shape for v in operands), operation=name)
    sizes = common if shape is None else as_shape(shape, name)
    if promotion.broadcast_shapes(sizes, common, operation=name) != sizes:
        raise ShapeError(
            f"{name}: parameters of shape {common} do not broadcast to shape {sizes}",
            fix=f"the shape must end with that of the parameters, e.g. shape=(n, {', '.join(map(str, common))})",
        )
    return sizes, operands if dtype is None else [casts.convert_element_type(v, dtype) for v in operands]


def unit_floats(words: Any, shape: Sequence[int], dtype: np.dtype) -> Any:
    """Sample from [0, 1): use random bits as the mantissa of a number in [1, 2), and subtract 1."""
    info = dtypes.finfo(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    # As in JAX, a short mantissa (bfloat16) uses 8 random bits, and others as many as the dtype has.
    bits_dtype = unsigned if info.nmant >= 8 else dtypes.uint8
    mantissa = logic.shift_right_logical_p.bind(
        casts.convert_element_type(bits_of(words, shape, bits_dtype), unsigned),
        full((), bits_dtype.itemsize * 8 - info.nmant, unsigned),
    )
    one = full((), int(np.ones((), dtype).view(unsigned)), unsigned)
    in_one_two = casts.bitcast_convert_type_p.bind(logic.or_p.bind(mantissa, one), new_dtype=dtype)
    return ar.sub_p.bind(in_one_two, full((), 1, dtype))


def uniform_of(words: Any, shape: Sequence[int], dtype: np.dtype, minval: Any, maxval: Any) -> Any:
    """`uniform`, given the words of a key."""
    unit = unit_floats(words, shape, dtype)
    if isinstance(minval, (int, float)) and isinstance(maxval, (int, float)) and minval == 0 and maxval == 1:
        return unit
    minval, maxval = (casts.convert_element_type(promotion.as_operand(v, "uniform"), dtype) for v in (minval, maxval))
    return uf.maximum(minval, unit * (maxval - minval) + minval)


def uniform(key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0) -> Any:
    """Sample uniformly from [minval, maxval). The bounds broadcast to `shape`.

    If the bounds are close to each other relative to their magnitude, rounding may give maxval.

    >>> from funcgrad.random import key
    >>> uniform(key(0), (2,))
    Array([0.947667 , 0.9785799], dtype=float32)
    """
    words, dtype = single("uniform", key), float_dtype("uniform", dtype)
    shape = as_shape(shape, "uniform")
    parameters("uniform", shape, None, minval, maxval)
    return uniform_of(words, shape, dtype, minval, maxval)


def normal_of(words: Any, shape: Sequence[int], dtype: np.dtype) -> Any:
    """`normal`, given the words of a key."""
    if dtypes.is_complex(dtype):
        real, imaginary = (normal_of(k, shape, dtypes.real_dtype(dtype)) for k in split_words(words))
        return ar.complex_p.bind(real, imaginary) / full((), math.sqrt(2), dtype)
    below_one = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    unit = uniform_of(words, shape, dtype, below_one, np.array(1, dtype))
    return ar.mul_p.bind(full((), math.sqrt(2), dtype), erf_inv_p.bind(unit))


def normal(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the standard normal distribution: √2·erf⁻¹(U), U uniform in (−1, 1).

    The real and imaginary parts of complex samples have variance ½.

    >>> from funcgrad.random import key
    >>> normal(key(0), (2, 3)).shape
    (2, 3)
    """
    words = single("normal", key)
    result_dtype = dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, "normal")
    if not dtypes.is_inexact(result_dtype):
        raise DTypeError(f"normal: dtype {result_dtype.name} is not a float or complex type", fix="use e.g. float32")
    return normal_of(words, as_shape(shape, "normal"), result_dtype)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the standard normal distribution, conditioned on lower < x < upper."""
    words, dtype = single("truncated_normal", key), float_dtype("truncated_normal", dtype)
    shape, (lower, upper) = parameters("truncated_normal", shape, dtype, lower, upper)
    root2 = full((), math.sqrt(2), dtype)
    low, high = (erf_p.bind(bound / root2) for bound in (lower, upper))
    out = root2 * erf_inv_p.bind(uniform_of(words, shape, dtype, low, high))
    # The interval is open, but rounding may give a bound.
    inside = [
        ar.nextafter_p.bind(casts.stop_gradient_p.bind(bound), full((), direction, dtype))
        for bound, direction in ((lower, np.inf), (upper, -np.inf))
    ]
    return composite.clip(out, *inside)


def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the exponential distribution with rate 1: −log(1 − U)."""
    words, dtype = single("exponential", key), float_dtype("exponential", dtype)
    return -uf.log1p(-unit_floats(words, as_shape(shape, "exponential"), dtype))


GUMBEL_MODES = ("low", "high")


def gumbel(key: Any, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Any:
    """Sample from the standard Gumbel distribution: −log(−log U).

    In float32, samples with mode "low", the default, are at most about 16. Mode "high" uses twice as many random bits
    to sample the far tail as well.
    """
    words, dtype = single("gumbel", key), float_dtype("gumbel", dtype)
    return gumbel_of(words, as_shape(shape, "gumbel"), dtype, mode)


def gumbel_of(words: Any, shape: Sequence[int], dtype: np.dtype, mode: str | None) -> Any:
    """`gumbel`, given the words of a key."""
    if mode not in (None, *GUMBEL_MODES):
        raise ArgumentError(f"gumbel: unknown mode {mode!r}", fix=f"choose one of {', '.join(GUMBEL_MODES)}")
    info = dtypes.finfo(dtype)
    if mode in (None, "low"):
        return -uf.log(-uf.log(uniform_of(words, shape, dtype, float(info.tiny), 1.0)))
    draws = unit_floats(words, (2, *shape), dtype)
    high, low = draws[0], draws[1]
    x = uf.where(high >= 0.5, high, high + 2.0**-info.nmant * low + float(info.tiny))
    return -uf.log(-uf.log1p(-x))


def laplace(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the standard Laplace distribution, with density e^−|x| / 2."""
    words, dtype = single("laplace", key), float_dtype("laplace", dtype)
    lowest = -1.0 + float(dtypes.finfo(dtype).epsneg)
    unit = uniform_of(words, as_shape(shape, "laplace"), dtype, lowest, 1.0)
    return uf.sign(unit) * uf.log1p(-uf.absolute(unit))


def logistic(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the standard logistic distribution: log(U / (1 − U))."""
    words, dtype = single("logistic", key), float_dtype("logistic", dtype)
    unit = uniform_of(words, as_shape(shape, "logistic"), dtype, float(dtypes.finfo(dtype).tiny), 1.0)
    return uf.log(unit) - uf.log1p(-unit)


def cauchy(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the standard Cauchy distribution: tan(π·(U − ½))."""
    words, dtype = single("cauchy", key), float_dtype("cauchy", dtype)
    unit = uniform_of(words, as_shape(shape, "cauchy"), dtype, float(dtypes.finfo(dtype).eps), 1.0)
    return uf.tan(math.pi * (unit - 0.5))


def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the Pareto distribution, with density b·x^−(b+1) for x ≥ 1."""
    dtype = float_dtype("pareto", dtype)
    shape, (b,) = parameters("pareto", shape, dtype, b)
    return uf.exp(exponential(key, shape, dtype) / b)


def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the Rayleigh distribution: the length of a 2-vector of normals with standard deviation `scale`."""
    words, dtype = single("rayleigh", key), float_dtype("rayleigh", dtype)
    shape, (scale,) = parameters("rayleigh", shape, dtype, scale)
    return scale * uf.sqrt(uf.log(unit_floats(words, shape, dtype)) * -2.0)


def weibull_min(key: Any, scale: Any, concentration: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the Weibull distribution: scale·E^(1/concentration), E exponential."""
    words, dtype = single("weibull_min", key), float_dtype("weibull_min", dtype)
    shape, (scale, concentration) = parameters("weibull_min", shape, dtype, scale, concentration)
    return composite.power(-uf.log1p(-unit_floats(words, shape, dtype)), 1.0 / concentration) * scale


def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the log-normal distribution: e^(sigma·N), N standard normal."""
    words, dtype = single("lognormal", key), float_dtype("lognormal", dtype)
    shape, (sigma,) = parameters("lognormal", shape, dtype, sigma)
    return uf.exp(normal_of(words, shape, dtype) * sigma)


def maxwell(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the Maxwell distribution: the length of a 3-vector of standard normals."""
    words, dtype = single("maxwell", key), float_dtype("maxwell", dtype)
    draws = normal_of(words, (*as_shape(shape, "maxwell"), 3), dtype)
    return uf.sqrt(reductions.sum(draws * draws, axis=-1))


def triangular(key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the triangular distribution on [left, right], whose density peaks at `mode`."""
    words, dtype = single("triangular", key), float_dtype("triangular", dtype)
    shape, (left, mode, right) = parameters("triangular", shape, dtype, left, mode, right)
    unit = unit_floats(words, shape, dtype)
    width = right - left
    rises = unit < (mode - left) / width
    # Take the root after the selection: if the mode is a bound, the root of the other branch has an infinite
    # derivative.
    root = uf.sqrt(uf.where(rises, unit * width * (mode - left), (1.0 - unit) * width * (right - mode)))
    return uf.where(rises, left + root, right - root)


def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the Wald (inverse Gaussian) distribution with scale 1.

    Source: Michael, Schucany, Haas, "Generating random variates using transformations with multiple roots", 1976.
    """
    words, dtype = single("wald", key), float_dtype("wald", dtype)
    shape, (mean,) = parameters("wald", shape, dtype, mean)
    normal_key, uniform_key = split_words(words)
    y = uf.square(normal_of(normal_key, shape, dtype))
    unit = unit_floats(uniform_key, shape, dtype)
    squared = mean * mean
    root = mean + squared * y / 2.0 - mean / 2.0 * uf.sqrt(4.0 * mean * y + squared * y * y)
    return uf.where(unit <= mean / (mean + root), root, squared / root)
