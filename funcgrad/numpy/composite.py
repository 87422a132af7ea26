"""Elementwise functions made of several primitives: floor division, powers, logarithms, rounding, clipping."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.promotion import as_operand, promote, promote_inexact, promote_shapes
from funcgrad.errors import ArgumentError, DTypeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.number_parts import isinf, isnan
from funcgrad.numpy.ufuncs import pick, where
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts
from funcgrad.ops.composite import hypot_p, logaddexp_p

__all__ = [
    "angle",
    "around",
    "clip",
    "deg2rad",
    "degrees",
    "divmod",
    "fabs",
    "float_power",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "heaviside",
    "hypot",
    "log10",
    "log2",
    "logaddexp",
    "logaddexp2",
    "mod",
    "pow",
    "power",
    "rad2deg",
    "radians",
    "reciprocal",
    "remainder",
    "round",
    "sinc",
]

# ---------------------------------------------------------------- division


def floor_divide(x: Any, y: Any, /) -> Any:
    """⌊x / y⌋. Division of a nonzero signed integer by 0 gives −2; that of an unsigned one sets all bits."""
    x, y = (uf.without_bools(v) for v in promote(x, y, operation="floor_divide"))
    dtype = x.aval.dtype
    if dtypes.is_complex(dtype):
        raise DTypeError(
            f"floor_divide: operands have type {x.aval}; complex numbers have no order", fix="divide and take .real"
        )
    if dtypes.is_float(dtype):
        return _divmod_float(x, y)[0]
    quotient = ar.div_p.bind(x, y)
    if dtype.kind == "u":
        return quotient
    inexact = uf.not_equal(ar.rem_p.bind(x, y), 0)
    rounded_up = uf.bitwise_and(uf.not_equal(uf.sign(x), uf.sign(y)), inexact)
    return pick(rounded_up, uf.subtract(quotient, 1), quotient, "floor_divide")


def remainder(x: Any, y: Any, /) -> Any:
    """x − y·⌊x / y⌋, which has the sign of y. Modulo 0, integers give 0 and floats NaN."""
    x, y = (uf.without_bools(v) for v in promote(x, y, operation="remainder"))
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(
            f"remainder: operands have type {x.aval}; complex numbers have no order",
            fix="apply it to real and imaginary parts",
        )
    if dtypes.is_integer(x.aval.dtype):
        y = pick(uf.equal(y, 0), ar.full((), 1, y.aval.dtype, y.aval.weak_type), y, "remainder")
    truncated = ar.rem_p.bind(x, y)
    wrong_sign = uf.not_equal(uf.less(truncated, 0), uf.less(y, 0))
    correct = uf.bitwise_and(wrong_sign, uf.not_equal(truncated, 0))
    return pick(correct, uf.add(truncated, y), truncated, "remainder")


mod = remainder


def fmod(x: Any, y: Any, /) -> Any:
    """Remainder of truncated division, which has the sign of x. Integers modulo 0 give 0."""
    x, y = (uf.without_bools(v) for v in promote(x, y, operation="fmod"))
    if not dtypes.is_integer(x.aval.dtype):
        return ar.rem_p.bind(x, y)
    one = ar.full((), 1, y.aval.dtype, y.aval.weak_type)
    return ar.rem_p.bind(x, pick(uf.equal(y, 0), one, y, "fmod"))


def divmod(x: Any, y: Any, /) -> tuple[Any, Any]:
    """Return (floor_divide(x, y), remainder(x, y))."""
    x, y = (uf.without_bools(v) for v in promote(x, y, operation="divmod"))
    if dtypes.is_float(x.aval.dtype):
        return _divmod_float(x, y)
    return floor_divide(x, y), remainder(x, y)


def _divmod_float(x: Any, y: Any) -> tuple[Any, Any]:
    """Compute the quotient from the remainder, which is exact; x / y may round across an integer."""
    remaining = ar.rem_p.bind(x, y)
    # Where y is 0, the result is x / y: ±inf or NaN.
    whole = uf.divide(pick(uf.equal(y, 0), x, uf.subtract(x, remaining), "floor_divide"), y)
    correct = uf.bitwise_and(uf.not_equal(remaining, 0), uf.not_equal(uf.sign(y), uf.sign(remaining)))
    quotient = pick(correct, uf.subtract(whole, 1), whole, "floor_divide")
    rounded = ar.round_p.bind(quotient, rounding_method=ar.AWAY_FROM_ZERO)
    return rounded, pick(correct, uf.add(remaining, y), remaining, "divmod")


# ---------------------------------------------------------------- powers and logarithms


def power(x: Any, y: Any, /) -> Any:
    """xʸ. A Python int as exponent is computed by repeated multiplication.

    Raises:
      ArgumentError: the base is an integer array and the exponent a negative Python int.

    >>> import funcgrad.numpy as jnp
    >>> power(jnp.arange(4), 2)
    Array([0, 1, 4, 9], dtype=int32)
    """
    if type(y) is int:
        operand = as_operand(x, "power")
        if dtypes.is_inexact(operand.aval.dtype):
            return _integer_pow(operand, y)
        if y < 0:
            raise ArgumentError(
                f"power: integers of type {operand.aval} to the negative power {y}",
                fix="make the base float: x.astype(float) ** y",
            )
        return _integer_pow(uf.without_bools(operand), y)
    x, y = as_operand(x, "power"), as_operand(y, "power")
    if dtypes.is_inexact(x.aval.dtype) and dtypes.is_integer(y.aval.dtype):
        dtype, weak = dtypes.promote(tuple((a.aval.dtype, a.aval.weak_type) for a in (x, y)))
        return ar.pow_p.bind(*promote_shapes(casts.convert_element_type(x, dtype, weak), y, operation="power"))
    x, y = promote(x, y, operation="power")
    if dtypes.is_inexact(x.aval.dtype):
        return ar.pow_p.bind(x, y)
    return _power_of_integers(uf.without_bools(x), uf.without_bools(y))


pow = power


def _integer_pow(x: Any, y: int) -> Any:
    return x if y == 1 else ar.integer_pow_p.bind(x, y=y)


def _power_of_integers(x: Any, y: Any) -> Any:
    """Binary exponentiation over the low six bits of the exponent, as JAX does."""
    result = ar.full(promotion.broadcast_shapes(x.aval.shape, y.aval.shape), 1, x.aval.dtype)
    base = x
    for bit in range(6):
        odd = uf.not_equal(uf.bitwise_and(uf.right_shift(y, bit), 1), 0)
        result = pick(odd, uf.multiply(result, base), result, "power")
        base = uf.multiply(base, base)
    return result


def float_power(x: Any, y: Any, /) -> Any:
    """xʸ computed in floating point."""
    return ar.pow_p.bind(*promote_shapes(*promote_inexact(x, y, operation="float_power"), operation="float_power"))


def reciprocal(x: Any, /) -> Any:
    """1 / x, as a float."""
    (x,) = promote_inexact(x, operation="reciprocal")
    return _integer_pow(x, -1)


def _log_of_base(x: Any, base: int, name: str) -> Any:
    (x,) = promote_inexact(x, operation=name)
    log = uf.log(x)
    scale = ar.full((), math.log(base), dtypes.real_dtype(x.aval.dtype))  # makes the result strongly typed, as in JAX
    if not dtypes.is_complex(x.aval.dtype):
        return uf.divide(log, scale)
    # Divide the parts separately: in a complex quotient, an infinite part makes the other one NaN.
    return ar.complex_p.bind(uf.divide(ar.real_p.bind(log), scale), uf.divide(ar.imag_p.bind(log), scale))


def log2(x: Any, /) -> Any:
    """Logarithm to base 2."""
    return _log_of_base(x, 2, "log2")


def log10(x: Any, /) -> Any:
    """Logarithm to base 10."""
    return _log_of_base(x, 10, "log10")


def logaddexp(x: Any, y: Any, /) -> Any:
    """log(eˣ + eʸ) without overflow. For complex numbers, the imaginary part is in [−π, π)."""
    x, y = promote_shapes(*promote_inexact(x, y, operation="logaddexp"), operation="logaddexp")
    return _logaddexp_complex(x, y) if dtypes.is_complex(x.aval.dtype) else logaddexp_p.bind(x, y)


def _logaddexp_complex(x: Any, y: Any) -> Any:
    """z + log(1 + eʷ⁻ᶻ), where z is the operand with the larger real part and w the other."""
    first = uf.greater_equal(uf.real(x), uf.real(y))
    large, small = where(first, x, y), where(first, y, x)
    unbounded = uf.logical_and(isinf(uf.real(large)), uf.equal(uf.real(large), uf.real(small)))
    out = uf.add(large, uf.log1p(uf.exp(where(unbounded, 0, uf.subtract(small, large)))))
    turns = uf.floor(uf.divide(uf.add(uf.imag(out), math.pi), 2 * math.pi))
    return ar.complex_p.bind(uf.real(out), uf.subtract(uf.imag(out), uf.multiply(turns, 2 * math.pi)))


def logaddexp2(x: Any, y: Any, /) -> Any:
    """log₂(2ˣ + 2ʸ) without overflow."""
    x, y = promote_inexact(x, y, operation="logaddexp2")
    ln2 = math.log(2)
    return uf.divide(logaddexp(uf.multiply(x, ln2), uf.multiply(y, ln2)), ln2)


def hypot(x: Any, y: Any, /) -> Any:
    """√(x² + y²) without overflow; inf if either operand is infinite."""
    x, y = promote_shapes(*promote_inexact(x, y, operation="hypot"), operation="hypot")
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(f"hypot: operands have type {x.aval}", fix="apply it to absolute values")
    return hypot_p.bind(x, y)


# sin(z)/z = Σ (−1)ᵏ z²ᵏ / (2k+1)!; for |z| ≤ ½ eight terms are exact to double precision.
_SINC_SERIES = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8))


def fabs(x: Any, /) -> Any:
    """|x| as a float, for real x."""
    (x,) = promote_inexact(x, operation="fabs")
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(f"fabs: operand has type {x.aval}", fix="use abs")
    return ar.abs_p.bind(x)


def sinc(x: Any, /) -> Any:
    """sin(πx) / (πx), and 1 at x = 0. Its derivatives at 0 are correct."""
    (x,) = promote_inexact(x, operation="sinc")
    z = uf.multiply(x, math.pi)
    small = uf.less(uf.absolute(z), 0.5)
    series: Any = _SINC_SERIES[-1]
    for coefficient in reversed(_SINC_SERIES[:-1]):
        series = uf.add(uf.multiply(series, uf.square(where(small, z, 0))), coefficient)
    safe = where(small, 1, z)
    return where(small, series, uf.divide(uf.sin(safe), safe))


def deg2rad(x: Any, /) -> Any:
    """Convert degrees to radians."""
    (x,) = promote_inexact(x, operation="deg2rad")
    return uf.multiply(x, math.pi / 180)


def rad2deg(x: Any, /) -> Any:
    """Convert radians to degrees."""
    (x,) = promote_inexact(x, operation="rad2deg")
    return uf.multiply(x, 180 / math.pi)


radians, degrees = deg2rad, rad2deg


def angle(z: Any, deg: bool = False) -> Any:
    """Argument of a complex number, in (−π, π]; for a real number 0 or π. In degrees if `deg`."""
    z = as_operand(z, "angle")
    if not dtypes.is_inexact(z.aval.dtype):
        z = casts.convert_element_type(z, dtypes.canonicalize(float))
    out = uf.arctan2(
        ar.full(z.aval.shape, 0, z.aval.dtype) if not dtypes.is_complex(z.aval.dtype) else uf.imag(z), uf.real(z)
    )
    return rad2deg(out) if deg else out


# ---------------------------------------------------------------- rounding and clipping


def round(x: Any, decimals: int = 0, out: None = None) -> Any:
    """Round to `decimals` decimal places, ties to even. Negative `decimals` round to tens, hundreds, …"""
    x = as_operand(x, "round")
    dtype = x.aval.dtype
    if dtypes.is_integer(dtype) or dtype == dtypes.bool_:
        if decimals < 0:
            step = 10**-decimals
            return casts.convert_element_type(uf.multiply(uf.rint(uf.divide(x, step)), step), dtype)
        return x
    if dtypes.is_complex(dtype):
        return ar.complex_p.bind(round(uf.real(x), decimals), round(uf.imag(x), decimals))
    if decimals == 0:
        return uf.rint(x)
    wide = casts.convert_element_type(x, dtypes.float32, x.aval.weak_type) if dtype.itemsize == 2 else x
    scale = 10.0**decimals
    return casts.convert_element_type(uf.divide(uf.rint(uf.multiply(wide, scale)), scale), dtype, x.aval.weak_type)


around = round


def clip(arr: Any, /, min: Any = None, max: Any = None) -> Any:
    """Clip to [min, max]; None means no bound."""
    out = as_operand(arr, "clip")
    for bound in (out, min, max):
        if bound is not None and dtypes.is_complex(as_operand(bound, "clip").aval.dtype):
            raise ArgumentError("clip: complex numbers have no order", fix="clip real and imaginary parts")
    if min is not None:
        out = uf.maximum(min, out)
    if max is not None:
        out = uf.minimum(max, out)
    return out


def clip_rounding(x: Any, low: Any = None, high: Any = None) -> Any:
    """Clip x to bounds that it exceeds only by rounding errors. The derivative is 1 everywhere, even at the bounds."""
    if low is not None:
        x = uf.add(x, casts.stop_gradient_p.bind(uf.maximum(uf.subtract(low, x), 0)))
    if high is not None:
        x = uf.subtract(x, casts.stop_gradient_p.bind(uf.maximum(uf.subtract(x, high), 0)))
    return x


def fmax(x: Any, y: Any, /) -> Any:
    """Elementwise maximum that ignores NaNs: if one operand is NaN, the result is the other."""
    return where(uf.bitwise_or(uf.greater(x, y), isnan(y)), x, y)


def fmin(x: Any, y: Any, /) -> Any:
    """Elementwise minimum that ignores NaNs: if one operand is NaN, the result is the other."""
    return where(uf.bitwise_or(uf.less(x, y), isnan(y)), x, y)


def heaviside(x: Any, y: Any, /) -> Any:
    """Heaviside step function: 0 for x < 0, y for x = 0, 1 for x > 0."""
    x, y = promote(*promote_inexact(x, y, operation="heaviside"), operation="heaviside")
    one = ar.full((), 1, x.aval.dtype, x.aval.weak_type)
    return where(uf.less(x, 0), uf.subtract(one, one), where(uf.greater(x, 0), one, where(isnan(x), x, y)))
