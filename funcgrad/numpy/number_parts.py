"""Elementwise functions on the parts of numbers: finiteness, sign, mantissa and exponent, common divisors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, promote, promote_inexact
from funcgrad.errors import DTypeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.ufuncs import pick, where
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, logic
from funcgrad.ops.composite import gcd_p

__all__ = [
    "copysign",
    "frexp",
    "gcd",
    "iscomplex",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "isreal",
    "lcm",
    "ldexp",
    "modf",
    "nan_to_num",
    "positive",
    "signbit",
    "spacing",
]


def isfinite(x: Any, /) -> Any:
    """Whether x is neither infinite nor NaN."""
    x = as_operand(x, "isfinite")
    if dtypes.is_complex(x.aval.dtype):
        return uf.bitwise_and(isfinite(uf.real(x)), isfinite(uf.imag(x)))
    return ar.is_finite_p.bind(x) if dtypes.is_float(x.aval.dtype) else ar.full(x.aval.shape, True, dtypes.bool_)


def isinf(x: Any, /) -> Any:
    """Whether x is ±∞; for a complex number, whether either part is."""
    x = as_operand(x, "isinf")
    if dtypes.is_complex(x.aval.dtype):
        return uf.bitwise_or(isinf(uf.real(x)), isinf(uf.imag(x)))
    if not dtypes.is_float(x.aval.dtype):
        return ar.full(x.aval.shape, False, dtypes.bool_)
    return uf.equal(uf.absolute(x), math.inf)


def isnan(x: Any, /) -> Any:
    """Whether x is NaN; for a complex number, whether either part is."""
    x = as_operand(x, "isnan")
    return logic.ne_p.bind(x, x)


def isposinf(x: Any, /, out: None = None) -> Any:
    """Whether x is +∞."""
    return _is_infinity(x, math.inf, "isposinf")


def isneginf(x: Any, /, out: None = None) -> Any:
    """Whether x is −∞."""
    return _is_infinity(x, -math.inf, "isneginf")


def _is_infinity(x: Any, infinity: float, name: str) -> Any:
    x = as_operand(x, name)
    if dtypes.is_complex(x.aval.dtype):
        raise DTypeError(
            f"{name}: operand has type {x.aval}; complex infinity has no sign", fix="apply it to the parts"
        )
    return uf.equal(x, infinity) if dtypes.is_float(x.aval.dtype) else ar.full(x.aval.shape, False, dtypes.bool_)


def isreal(x: Any) -> Any:
    """Whether the imaginary part is 0."""
    return uf.equal(uf.imag(x), 0)


def iscomplex(x: Any) -> Any:
    """Whether the imaginary part is not 0."""
    return uf.not_equal(uf.imag(x), 0)


def signbit(x: Any, /) -> Any:
    """Whether the sign bit is set: True for negative numbers, −0.0 and NaNs with a sign bit."""
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
    """Replace NaN by `nan` and infinities by `posinf` and `neginf`, by default the largest finite values."""
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


# ---------------------------------------------------------------- fraction and exponent


def positive(x: Any, /) -> Any:
    """Return x unchanged."""
    return as_operand(x, "positive")


def modf(x: Any, /, out: None = None) -> tuple[Any, Any]:
    """Return (fractional part, integral part) of x, both with the sign of x."""
    (x,) = promote_inexact(x, operation="modf")
    whole = uf.trunc(x)
    # For negative x the fraction is −(whole − x), so that a fraction of 0 keeps the sign of x.
    fraction = pick(signbit(x), uf.negative(uf.subtract(whole, x)), uf.subtract(x, whole), "modf")
    zero = copysign(ar.full((), 0, x.aval.dtype, x.aval.weak_type), x)
    return pick(isinf(x), zero, fraction, "modf"), copysign(whole, x)


def frexp(x: Any, /) -> tuple[Any, Any]:
    """Return (mantissa, exponent) with x = mantissa · 2**exponent and ½ ≤ |mantissa| < 1; the exponent is int32."""
    (x,) = promote_inexact(x, operation="frexp")
    limits = dtypes.finfo(x.aval.dtype)
    subnormal = uf.bitwise_and(uf.less(uf.absolute(x), float(limits.smallest_normal)), uf.not_equal(x, 0))
    normal = pick(subnormal, uf.multiply(x, 2.0**limits.nmant), x, "frexp")
    mask = (1 << limits.nexp) - 1
    bias = mask >> 1
    field = uf.bitwise_and(uf.right_shift(_bits(normal), limits.nmant), mask)
    # 0, ∞ and NaN are their own mantissa, with exponent 0.
    field = where(uf.bitwise_or(uf.equal(x, 0), uf.bitwise_not(isfinite(x))), bias - 1, field)
    exponent = uf.subtract(
        casts.convert_element_type(field, dtypes.int32), where(subnormal, bias - 1 + limits.nmant, bias - 1)
    )
    # The mantissa is a product rather than assembled from bits, so that its derivative is right. 2^(2 − exponent) is
    # always a normal number.
    scale_bits = uf.left_shift(uf.subtract(2 * bias + 1, field), limits.nmant)
    scale = casts.bitcast_convert_type_p.bind(scale_bits, new_dtype=x.aval.dtype)
    return uf.multiply(uf.multiply(normal, scale), 0.25), exponent


def ldexp(x: Any, y: Any, /) -> Any:
    """x · 2ʸ for integers y, without intermediate overflow."""
    (x,) = promote_inexact(x, operation="ldexp")
    y = as_operand(y, "ldexp")
    if not (dtypes.is_integer(y.aval.dtype) or y.aval.dtype == dtypes.bool_):
        raise DTypeError(f"ldexp: the exponent has type {y.aval}", fix="pass integers: y.astype(int)")
    y = casts.convert_element_type(y, dtypes.int32)
    # In several steps, so that no intermediate 2ⁿ overflows when the result does not.
    third = uf.right_shift(y, 2)
    for n in (third, third, third, uf.subtract(y, uf.multiply(third, 3))):
        x = uf.multiply(
            x, casts.convert_element_type(uf.exp2(casts.convert_element_type(n, x.aval.dtype)), x.aval.dtype)
        )
    return x


def spacing(x: Any, /) -> Any:
    """Distance from x to the next float away from 0; NaN if x is not finite."""
    (x,) = promote_inexact(x, operation="spacing")
    outward = uf.nextafter(x, copysign(ar.full((), math.inf, x.aval.dtype), x))
    return pick(isfinite(x), uf.subtract(outward, x), ar.full((), math.nan, x.aval.dtype), "spacing")


def gcd(x: Any, y: Any, /) -> Any:
    """Greatest common divisor of |x| and |y|; gcd(0, 0) is 0."""
    return gcd_p.bind(*_integers(x, y, "gcd"))


def lcm(x: Any, y: Any, /) -> Any:
    """Least common multiple of |x| and |y|; 0 if either is 0."""
    x, y = (uf.absolute(v) for v in _integers(x, y, "lcm"))
    divisor = gcd_p.bind(x, y)
    safe = pick(uf.equal(divisor, 0), ar.full((), 1, divisor.aval.dtype, divisor.aval.weak_type), divisor, "lcm")
    return uf.multiply(x, ar.div_p.bind(y, safe))


def _integers(x: Any, y: Any, name: str) -> list[Any]:
    x, y = promote(x, y, operation=name)
    if not dtypes.is_integer(x.aval.dtype):
        raise DTypeError(f"{name}: operands have type {x.aval}", fix="pass integers")
    return [x, y]
