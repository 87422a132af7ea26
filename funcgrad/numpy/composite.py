"""Elementwise functions that take several primitives: division with NumPy's rounding, powers, numbers' parts, tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.promotion import as_operand, promote, promote_inexact, promote_shapes
from funcgrad.errors import ArgumentError, DTypeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.ufuncs import pick, where
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, logic
from funcgrad.ops.composite import gcd_p, hypot_p, logaddexp_p

__all__ = [
    "angle",
    "around",
    "clip",
    "copysign",
    "deg2rad",
    "degrees",
    "divmod",
    "fabs",
    "float_power",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frexp",
    "gcd",
    "heaviside",
    "hypot",
    "iscomplex",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "isreal",
    "lcm",
    "ldexp",
    "log10",
    "log2",
    "logaddexp",
    "logaddexp2",
    "mod",
    "modf",
    "nan_to_num",
    "positive",
    "pow",
    "power",
    "rad2deg",
    "radians",
    "reciprocal",
    "remainder",
    "round",
    "signbit",
    "sinc",
    "spacing",
]

# ---------------------------------------------------------------- division


def floor_divide(x: Any, y: Any, /) -> Any:
    """⌊x / y⌋; of signed integers, nonzero // 0 is −2; of unsigned ones x // 0 has all bits set."""
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
    """x − y·⌊x / y⌋: the remainder with the sign of y; x mod 0 is 0 for integers and NaN for floats."""
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
    """Remainder of truncated division, which has the sign of x; 0 for integers modulo 0."""
    x, y = (uf.without_bools(v) for v in promote(x, y, operation="fmod"))
    if not dtypes.is_integer(x.aval.dtype):
        return ar.rem_p.bind(x, y)
    one = ar.full((), 1, y.aval.dtype, y.aval.weak_type)
    return ar.rem_p.bind(x, pick(uf.equal(y, 0), one, y, "fmod"))


def divmod(x: Any, y: Any, /) -> tuple[Any, Any]:
    """(floor_divide(x, y), remainder(x, y))."""
    x, y = (uf.without_bools(v) for v in promote(x, y, operation="divmod"))
    if dtypes.is_float(x.aval.dtype):
        return _divmod_float(x, y)
    return floor_divide(x, y), remainder(x, y)


def _divmod_float(x: Any, y: Any) -> tuple[Any, Any]:
    """Quotient by way of the remainder, which is exact; x / y itself may round across an integer."""
    remaining = ar.rem_p.bind(x, y)
    # Where y is 0, x / y itself is the answer: ±inf or NaN.
    whole = uf.divide(pick(uf.equal(y, 0), x, uf.subtract(x, remaining), "floor_divide"), y)
    correct = uf.bitwise_and(uf.not_equal(remaining, 0), uf.not_equal(uf.sign(y), uf.sign(remaining)))
    quotient = pick(correct, uf.subtract(whole, 1), whole, "floor_divide")
    rounded = ar.round_p.bind(quotient, rounding_method=ar.AWAY_FROM_ZERO)
    return rounded, pick(correct, uf.add(remaining, y), remaining, "divmod")


# ---------------------------------------------------------------- powers and logarithms


def power(x: Any, y: Any, /) -> Any:
    """xʸ. A Python integer as exponent multiplies repeatedly; integers to negative Python integers raise.

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
    scale = ar.full((), math.log(base), dtypes.real_dtype(x.aval.dtype))  # strongly typed, and so is the result
    if not dtypes.is_complex(x.aval.dtype):
        return uf.divide(log, scale)
    # Part by part: the quotient of complex numbers loses the other part where one is infinite.
    return ar.complex_p.bind(uf.divide(ar.real_p.bind(log), scale), uf.divide(ar.imag_p.bind(log), scale))


def log2(x: Any, /) -> Any:
    """Logarithm to base 2."""
    return _log_of_base(x, 2, "log2")


def log10(x: Any, /) -> Any:
    """Logarithm to base 10."""
    return _log_of_base(x, 10, "log10")


def logaddexp(x: Any, y: Any, /) -> Any:
    """log(eˣ + eʸ), without overflow; of complex numbers the value whose imaginary part is in [−π, π)."""
    x, y = promote_shapes(*promote_inexact(x, y, operation="logaddexp"), operation="logaddexp")
    return _logaddexp_complex(x, y) if dtypes.is_complex(x.aval.dtype) else logaddexp_p.bind(x, y)


def _logaddexp_complex(x: Any, y: Any) -> Any:
    """z + log(1 + eʷ⁻ᶻ), where z is the operand with the larger real part and w the other one."""
    first = uf.greater_equal(uf.real(x), uf.real(y))
    large, small = where(first, x, y), where(first, y, x)
    unbounded = uf.logical_and(isinf(uf.real(large)), uf.equal(uf.real(large), uf.real(small)))
    out = uf.add(large, uf.log1p(uf.exp(where(unbounded, 0, uf.subtract(small, large)))))
    turns = uf.floor(uf.divide(uf.add(uf.imag(out), math.pi), 2 * math.pi))
    return ar.complex_p.bind(uf.real(out), uf.subtract(uf.imag(out), uf.multiply(turns, 2 * math.pi)))


def logaddexp2(x: Any, y: Any, /) -> Any:
    """log₂(2ˣ + 2ʸ), without overflow."""
    x, y = promote_inexact(x, y, operation="logaddexp2")
    ln2 = math.log(2)
    return uf.divide(logaddexp(uf.multiply(x, ln2), uf.multiply(y, ln2)), ln2)


def hypot(x: Any, y: Any, /) -> Any:
    """√(x² + y²), without overflow; inf where either operand is infinite."""
    x, y = promote_shapes(*promote_inexact(x, y, operation="hypot"), operation="hypot")
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(f"hypot: operands have type {x.aval}", fix="apply it to absolute values")
    return hypot_p.bind(x, y)


# sin(z)/z = Σ (−1)ᵏ z²ᵏ / (2k+1)!: up to |z| = ½ these terms are exact to double precision.
_SINC_SERIES = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8))


def fabs(x: Any, /) -> Any:
    """|x| as a float, of a real number."""
    (x,) = promote_inexact(x, operation="fabs")
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(f"fabs: operand has type {x.aval}", fix="use abs")
    return ar.abs_p.bind(x)


def sinc(x: Any, /) -> Any:
    """sin(πx) / (πx), and 1 at 0; smooth there, also to autodiff."""
    (x,) = promote_inexact(x, operation="sinc")
    z = uf.multiply(x, math.pi)
    small = uf.less(uf.absolute(z), 0.5)
    series: Any = _SINC_SERIES[-1]
    for coefficient in reversed(_SINC_SERIES[:-1]):
        series = uf.add(uf.multiply(series, uf.square(where(small, z, 0))), coefficient)
    safe = where(small, 1, z)
    return where(small, series, uf.divide(uf.sin(safe), safe))


def deg2rad(x: Any, /) -> Any:
    """Degrees to radians."""
    (x,) = promote_inexact(x, operation="deg2rad")
    return uf.multiply(x, math.pi / 180)


def rad2deg(x: Any, /) -> Any:
    """Radians to degrees."""
    (x,) = promote_inexact(x, operation="rad2deg")
    return uf.multiply(x, 180 / math.pi)


radians, degrees = deg2rad, rad2deg

# ---------------------------------------------------------------- rounding and limiting


def round(x: Any, decimals: int = 0, out: None = None) -> Any:
    """Round to `decimals` decimal places, ties to even; negative places round to tens, hundreds, …"""
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
    """Limit to [min, max]; None leaves a side open."""
    out = as_operand(arr, "clip")
    for bound in (out, min, max):
        if bound is not None and dtypes.is_complex(as_operand(bound, "clip").aval.dtype):
            raise DTypeError("clip: complex numbers have no order", fix="clip real and imaginary parts")
    if min is not None:
        out = uf.maximum(min, out)
    if max is not None:
        out = uf.minimum(max, out)
    return out


def clip_rounding(x: Any, low: Any = None, high: Any = None) -> Any:
    """x limited to bounds that only rounding takes it across: the derivative is that of x, at the bounds too."""
    if low is not None:
        x = uf.add(x, casts.stop_gradient_p.bind(uf.maximum(uf.subtract(low, x), 0)))
    if high is not None:
        x = uf.subtract(x, casts.stop_gradient_p.bind(uf.maximum(uf.subtract(x, high), 0)))
    return x


def fmax(x: Any, y: Any, /) -> Any:
    """The larger of x and y; of a number and NaN, the number."""
    return where(uf.bitwise_or(uf.greater(x, y), isnan(y)), x, y)


def fmin(x: Any, y: Any, /) -> Any:
    """The smaller of x and y; of a number and NaN, the number."""
    return where(uf.bitwise_or(uf.less(x, y), isnan(y)), x, y)


def heaviside(x: Any, y: Any, /) -> Any:
    """0 below 0, 1 above, y at 0."""
    x, y = promote(*promote_inexact(x, y, operation="heaviside"), operation="heaviside")
    one = ar.full((), 1, x.aval.dtype, x.aval.weak_type)
    return where(uf.less(x, 0), uf.subtract(one, one), where(uf.greater(x, 0), one, where(isnan(x), x, y)))


# ---------------------------------------------------------------- tests


def isfinite(x: Any, /) -> Any:
    """Neither infinite nor NaN."""
    x = as_operand(x, "isfinite")
    if dtypes.is_complex(x.aval.dtype):
        return uf.bitwise_and(isfinite(uf.real(x)), isfinite(uf.imag(x)))
    return ar.is_finite_p.bind(x) if dtypes.is_float(x.aval.dtype) else ar.full(x.aval.shape, True, dtypes.bool_)


def isinf(x: Any, /) -> Any:
    """Positive or negative infinity, in either part of a complex number."""
    x = as_operand(x, "isinf")
    if dtypes.is_complex(x.aval.dtype):
        return uf.bitwise_or(isinf(uf.real(x)), isinf(uf.imag(x)))
    if not dtypes.is_float(x.aval.dtype):
        return ar.full(x.aval.shape, False, dtypes.bool_)
    return uf.equal(uf.absolute(x), math.inf)


def isnan(x: Any, /) -> Any:
    """Not a number."""
    x = as_operand(x, "isnan")
    return logic.ne_p.bind(x, x)


def isposinf(x: Any, /, out: None = None) -> Any:
    """Positive infinity."""
    return _is_infinity(x, math.inf, "isposinf")


def isneginf(x: Any, /, out: None = None) -> Any:
    """Negative infinity."""
    return _is_infinity(x, -math.inf, "isneginf")


def _is_infinity(x: Any, infinity: float, name: str) -> Any:
    x = as_operand(x, name)
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(
            f"{name}: operand has type {x.aval}; complex infinity has no sign", fix="apply it to the parts"
        )
    return uf.equal(x, infinity) if dtypes.is_float(x.aval.dtype) else ar.full(x.aval.shape, False, dtypes.bool_)


def isreal(x: Any) -> Any:
    """Imaginary part is 0."""
    return uf.equal(uf.imag(x), 0)


def iscomplex(x: Any) -> Any:
    """Imaginary part is not 0."""
    return uf.not_equal(uf.imag(x), 0)


def signbit(x: Any, /) -> Any:
    """The sign bit: True for negative numbers, −0.0 and NaNs that carry it."""
    x = as_operand(x, "signbit")
    dtype = x.aval.dtype
    if dtypes.is_complex(dtype):
        raise DTypeError(f"signbit: operand has type {x.aval}", fix="apply it to the parts")
    if dtype.kind in "ub":
        return ar.full(x.aval.shape, False, dtypes.bool_)
    if dtype.kind == "i":
        return uf.less(x, 0)
    return uf.less(_bits(x), 0)


def _bits(x: Any) -> Any:
    return casts.bitcast_convert_type_p.bind(x, new_dtype=np.dtype(f"i{x.aval.dtype.itemsize}"))


def copysign(x: Any, y: Any, /) -> Any:
    """|x| with the sign bit of y."""
    x, y = promote_inexact(x, y, operation="copysign")
    return where(signbit(y), uf.negative(uf.absolute(x)), uf.absolute(x))


def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Replace NaN by `nan`, and infinities by the largest finite numbers or the values given."""
    x = as_operand(x, "nan_to_num")
    dtype = x.aval.dtype
    if dtypes.is_complex(dtype):
        parts = (nan_to_num(p, copy, nan, posinf, neginf) for p in (uf.real(x), uf.imag(x)))
        return ar.complex_p.bind(*parts)
    if not dtypes.is_float(dtype):
        return x
    limits = dtypes.finfo(dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf

    def replaced(condition: Any, value: Any, x: Any) -> Any:
        value = casts.convert_element_type(as_operand(value, "nan_to_num"), dtype)
        return pick(condition, value, x, "nan_to_num")

    out = replaced(isnan(x), nan, x)
    out = replaced(uf.equal(x, math.inf), high, out)
    return replaced(uf.equal(x, -math.inf), low, out)


# ---------------------------------------------------------------- parts of numbers


def angle(z: Any, deg: bool = False) -> Any:
    """Argument of a complex number, in (−π, π]; 0 or π for real ones."""
    (z,) = promote_inexact(z, operation="angle")
    out = uf.arctan2(
        ar.full(z.aval.shape, 0, z.aval.dtype) if not dtypes.is_complex(z.aval.dtype) else uf.imag(z), uf.real(z)
    )
    return rad2deg(out) if deg else out


def positive(x: Any, /) -> Any:
    """x itself."""
    return as_operand(x, "positive")


def modf(x: Any, /, out: None = None) -> tuple[Any, Any]:
    """(fractional part, whole part), both with the sign of x."""
    (x,) = promote_inexact(x, operation="modf")
    whole = uf.trunc(x)
    # Below 0 the difference is turned around, so that a fraction of 0 keeps the sign of x.
    fraction = pick(signbit(x), uf.negative(uf.subtract(whole, x)), uf.subtract(x, whole), "modf")
    zero = copysign(ar.full((), 0, x.aval.dtype, x.aval.weak_type), x)
    return pick(isinf(x), zero, fraction, "modf"), copysign(whole, x)


def frexp(x: Any, /) -> tuple[Any, Any]:
    """(mantissa, exponent) with x = mantissa · 2**exponent and ½ ≤ |mantissa| < 1; the exponent is an int32."""
    (x,) = promote_inexact(x, operation="frexp")
    limits = dtypes.finfo(x.aval.dtype)
    subnormal = uf.bitwise_and(uf.less(uf.absolute(x), float(limits.smallest_normal)), uf.not_equal(x, 0))
    normal = pick(subnormal, uf.multiply(x, 2.0**limits.nmant), x, "frexp")
    mask = (1 << limits.nexp) - 1
    bias = mask >> 1
    field = uf.bitwise_and(uf.right_shift(_bits(normal), limits.nmant), mask)
    # 0, ∞ and NaN are their own mantissa: they are given the field of an exponent of 0.
    field = where(uf.bitwise_or(uf.equal(x, 0), uf.bitwise_not(isfinite(x))), bias - 1, field)
    exponent = uf.subtract(
        casts.convert_element_type(field, dtypes.int32), where(subnormal, bias - 1 + limits.nmant, bias - 1)
    )
    # A product, not the bits put together: its derivative is the right one. 2^(2 − exponent) is always a normal number.
    scale_bits = uf.left_shift(uf.subtract(2 * bias + 1, field), limits.nmant)
    scale = casts.bitcast_convert_type_p.bind(scale_bits, new_dtype=x.aval.dtype)
    return uf.multiply(uf.multiply(normal, scale), 0.25), exponent


def ldexp(x: Any, y: Any, /) -> Any:
    """x · 2ʸ for integers y, without overflow on the way."""
    (x,) = promote_inexact(x, operation="ldexp")
    y = as_operand(y, "ldexp")
    if not (dtypes.is_integer(y.aval.dtype) or y.aval.dtype == dtypes.bool_):
        raise DTypeError(f"ldexp: the exponent has type {y.aval}", fix="pass integers: y.astype(int)")
    y = casts.convert_element_type(y, dtypes.int32)
    # In three steps, so that no intermediate 2ⁿ leaves the range while the result is inside it.
    third = uf.right_shift(y, 2)
    for n in (third, third, third, uf.subtract(y, uf.multiply(third, 3))):
        x = uf.multiply(
            x, casts.convert_element_type(uf.exp2(casts.convert_element_type(n, x.aval.dtype)), x.aval.dtype)
        )
    return x


def spacing(x: Any, /) -> Any:
    """Distance from x to the next float away from 0."""
    (x,) = promote_inexact(x, operation="spacing")
    outward = uf.nextafter(x, copysign(ar.full((), math.inf, x.aval.dtype), x))
    return pick(isfinite(x), uf.subtract(outward, x), ar.full((), math.nan, x.aval.dtype), "spacing")


def gcd(x: Any, y: Any, /) -> Any:
    """Greatest common divisor of |x| and |y|; gcd(0, 0) is 0."""
    return gcd_p.bind(*_integers(x, y, "gcd"))


def lcm(x: Any, y: Any, /) -> Any:
    """Least common multiple of |x| and |y|; 0 if either is."""
    x, y = (uf.absolute(v) for v in _integers(x, y, "lcm"))
    divisor = gcd_p.bind(x, y)
    safe = pick(uf.equal(divisor, 0), ar.full((), 1, divisor.aval.dtype, divisor.aval.weak_type), divisor, "lcm")
    return uf.multiply(x, ar.div_p.bind(y, safe))


def _integers(x: Any, y: Any, name: str) -> list[Any]:
    x, y = promote(x, y, operation=name)
    if not dtypes.is_integer(x.aval.dtype):
        raise DTypeError(f"{name}: operands have type {x.aval}", fix="pass integers")
    return [x, y]
