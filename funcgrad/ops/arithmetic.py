"""Elementwise arithmetic, exponentials, trigonometry and complex parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Complex, Strided, View
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.core.tracers import Tracer
from funcgrad.errors import DTypeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import (
    IDENTITY,
    INEXACT,
    NEGATION,
    NUMBER,
    REAL,
    Over,
    check_operands,
    common_shape,
    elementwise,
    linear,
    unbroadcast,
)
from funcgrad.ops.elementwise import div_p as div_p
from funcgrad.ops.elementwise import mul_p as mul_p
from funcgrad.ops.logic import and_p, eq_p, ge_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_scalar, full, zeros_of

# ---------------------------------------------------------------- arithmetic


def _add_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [unbroadcast(ct, aval_of(v)) if is_undefined(v) else None for v in (x, y)]


def _sub_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [
        unbroadcast(ct, aval_of(x)) if is_undefined(x) else None,
        unbroadcast(-ct, aval_of(y)) if is_undefined(y) else None,
    ]


def _rem(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.fmod(x, y)
    return np.where(
        y == 0, x, np.fmod(x, np.where((y == 0) | (y == -1 if y.dtype.kind == "i" else False), 1, y))
    ).astype(x.dtype)


neg_p = linear("neg", np.negative, lambda ct, x: -ct, kinds=NUMBER, may_make_nan=False)
add_p = elementwise(
    "add", np.add, derivative=(lambda *_: IDENTITY, lambda *_: IDENTITY), kinds=NUMBER, transpose=_add_transpose
)
sub_p = elementwise(
    "sub", np.subtract, derivative=(lambda *_: IDENTITY, lambda *_: NEGATION), kinds=NUMBER, transpose=_sub_transpose
)


def _rem_by_divisor(ans: Any, x: Any, y: Any) -> Any:
    """−q, for the integer q with x = q·y + ans; x / y itself may round across an integer."""
    return -round_p.bind((x - ans) / y, rounding_method=TO_NEAREST_EVEN)


rem_p = elementwise("rem", _rem, derivative=(lambda *_: IDENTITY, _rem_by_divisor), kinds=REAL)


def _half_at_ties(ans: Any, x: Any, y: Any) -> Any:
    """Derivative of max and min with respect to x: 1 if x is selected, 0 if y is, and ½ at ties."""
    shape = aval_of(ans).shape
    half, one, zero = (_filled(ans, v) for v in (0.5, 1, 0))
    x_wins, y_wins = (eq_p.bind(broadcast_scalar(v, shape), ans) for v in (x, y))
    return select_n_p.bind(x_wins, zero, select_n_p.bind(y_wins, one, half))


_BY_WINNER = (_half_at_ties, lambda ans, x, y: _half_at_ties(ans, y, x))


max_p = elementwise("max", np.maximum, derivative=_BY_WINNER, kinds=("bool", *NUMBER), moves_only=True)
min_p = elementwise("min", np.minimum, derivative=_BY_WINNER, kinds=("bool", *NUMBER), moves_only=True)

# ---------------------------------------------------------------- rounding, sign, magnitude

floor_p = elementwise("floor", np.floor, kinds=("float",), may_make_nan=False)
ceil_p = elementwise("ceil", np.ceil, kinds=("float",), may_make_nan=False)


def _round(x: Any, *, rounding_method: int) -> Any:
    if rounding_method == TO_NEAREST_EVEN:
        return np.rint(x)
    # x + ½ may itself round up: compare the exact fraction instead.
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1, x), np.copysign(whole, x)).astype(x.dtype)


AWAY_FROM_ZERO, TO_NEAREST_EVEN = 0, 1
round_p = elementwise(
    "round",
    _round,
    kinds=("float",),
    scalar=lambda b, x, *, rounding_method: b.op("round" if rounding_method == TO_NEAREST_EVEN else "round_away", x),
    derivative=None,
    may_make_nan=False,
)


def _sign(x: Any) -> Any:
    if x.dtype.kind == "c":
        return np.where(x == 0, 0, x / np.where(x == 0, 1, np.abs(x))).astype(x.dtype)
    return np.where(x == 0, x, np.sign(x)).astype(x.dtype) if dtypes.is_float(x.dtype) else np.sign(x)


def _sign_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (z,), (t,) = primals, tangents
    ans = sign_p.bind(z)
    if not dtypes.is_complex(aval_of(z).dtype):
        return ans, Zero(aval_of(ans).tangent())
    # With s = z/|z|, ds = (dz − s·Re(s̄·dz))/|z|: the part of dz across z; 0 at the origin, where s is.
    magnitude = abs_p.bind(z)
    zero = eq_p.bind(magnitude, _const(magnitude, 0))
    scale = select_n_p.bind(zero, 1 / magnitude, _filled(magnitude, 0))
    across = t - ans * _as_complex(real_p.bind(conj(ans) * t))
    return ans, across * _as_complex(scale)


def _as_complex(x: Any) -> Any:
    return convert_element_type(x, dtypes.complex_dtype(aval_of(x).dtype))


sign_p = elementwise("sign", _sign, jvp=_sign_jvp, kinds=NUMBER)


def _abs_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    ans = abs_p.bind(x)
    if dtypes.is_complex(aval_of(x).dtype):
        # d|z| = Re(conj(z)·dz) / |z|, and 0 at the origin.
        unit = sign_p.bind(x)
        return ans, real_p.bind(conj(unit) * t)
    if not dtypes.is_inexact(aval_of(x).dtype):
        return ans, Zero(aval_of(ans).tangent())
    # The derivative at 0 is that from the right, 1.
    nonnegative = ge_p.bind(x, _const(x, 0))
    return ans, mul_p.bind(t, select_n_p.bind(nonnegative, _filled(x, -1), _filled(x, 1)))


abs_p = elementwise("abs", np.abs, jvp=_abs_jvp, kinds=NUMBER, result=dtypes.real_dtype, may_make_nan=False)
is_finite_p = elementwise("is_finite", np.isfinite, kinds=("float",), result=lambda d: dtypes.bool_)
# One unit in the last place from x, in the direction of y: x moves it, y does not.
nextafter_p = elementwise(
    "nextafter",
    # If the operands are equal, the result is y. In float16, NumPy returns x, which differs for 0 and −0.
    lambda x, y: np.where(x == y, y, np.nextafter(x, y)),
    derivative=(lambda *_: IDENTITY, None),
    kinds=("float",),
    may_make_nan=False,
)

# ---------------------------------------------------------------- powers and exponentials


def _const(x: Any, value: float) -> Any:
    """A scalar constant with the dtype and weak type of `x`."""
    return full((), value, aval_of(x).dtype, aval_of(x).weak_type)


def _filled(x: Any, value: float) -> Any:
    """A constant array with the type of `x`."""
    return full(aval_of(x).shape, value, aval_of(x).dtype, aval_of(x).weak_type)


_LN2 = float(np.log(2.0))
exp_p = elementwise("exp", np.exp, derivative=lambda ans, x: ans)
exp2_p = elementwise("exp2", np.exp2, derivative=lambda ans, x: ans * _LN2)
expm1_p = elementwise("expm1", np.expm1, derivative=lambda ans, x: ans + 1)
log_p = elementwise("log", np.log, derivative=lambda ans, x: Over(x))
log1p_p = elementwise("log1p", np.log1p, derivative=lambda ans, x: Over(x + 1))
sqrt_p = elementwise("sqrt", np.sqrt, derivative=lambda ans, x: 0.5 / ans)
rsqrt_p = elementwise("rsqrt", lambda x: x.dtype.type(1) / np.sqrt(x), derivative=lambda ans, x: -0.5 * ans / x)
cbrt_p = elementwise("cbrt", np.cbrt, derivative=lambda ans, x: integer_pow_p.bind(ans, y=-2) / 3, kinds=("float",))
square_p = elementwise(
    "square", np.square, derivative=lambda ans, x: x * 2, kinds=NUMBER, scalar=lambda b, x: b.op("mul", x, x)
)


def _integer_power(x: Any, *, y: int) -> Any:
    if y < 0:
        return (x.dtype.type(1) / _integer_power(x, y=-y)).astype(x.dtype)
    result, base = None, x
    while y:
        if y & 1:  # 1·x is not x where x is complex and infinite
            result = base if result is None else result * base
        y >>= 1
        base = base * base if y else base
    return np.ones_like(x) if result is None else result


def _integer_power_scalar(b: Any, x: Any, *, y: int) -> Any:
    n, result, base = abs(y), None, x
    while n:
        if n & 1:
            result = base if result is None else b.op("mul", result, base)
        n >>= 1
        base = b.op("mul", base, base) if n else base
    one = b.const(1, x.dtype)
    result = one if result is None else result
    return b.op("div", one, result) if y < 0 else result


def _integer_pow_derivative(ans: Any, x: Any, *, y: int) -> Any:
    return _filled(x, 0) if y == 0 else y * integer_pow(x, y - 1)


def _integer_pow_infer(x: ShapedArray, *, y: int) -> ShapedArray:
    if y < 0 and dtypes.is_integer(x.dtype):
        raise DTypeError(
            f"integer_pow: integers of type {x} to the negative power {y}",
            fix="make the base float with .astype(...), or use funcgrad.numpy.reciprocal",
        )
    check_operands("integer_pow", [x], NUMBER)
    return x


integer_pow_p = elementwise(
    "integer_pow",
    _integer_power,
    infer=_integer_pow_infer,
    derivative=_integer_pow_derivative,
    scalar=_integer_power_scalar,
)


def integer_pow(x: Any, y: int) -> Any:
    """xʸ for a static integer y, by repeated multiplication."""
    return x if y == 1 else integer_pow_p.bind(x, y=y)


def _pow_infer(x: ShapedArray, y: ShapedArray) -> ShapedArray:
    if not dtypes.is_inexact(x.dtype) or not (y.dtype == x.dtype or dtypes.is_integer(y.dtype)):
        raise DTypeError(
            f"pow: operands have types {x} and {y}; the base must be float or complex, the exponent that or integer",
            fix="cast with .astype(...), or use funcgrad.numpy.power, which promotes",
        )
    return ShapedArray(common_shape("pow", [x, y]), x.dtype, x.weak_type and y.weak_type)


def _pow_by_base(ans: Any, x: Any, y: Any) -> Any:
    """y·xʸ⁻¹, and 0 for 0⁰; elsewhere nothing may hide that this depends on y where y is 0."""
    y = _as_base_dtype(x, y)
    shape = aval_of(ans).shape
    lowered = y
    if isinstance(y, Tracer) or not np.all(np.asarray(y)):
        both_zero = and_p.bind(eq_p.bind(x, _const(x, 0)), eq_p.bind(y, _const(y, 0)))
        lowered = select_n_p.bind(both_zero, broadcast_scalar(y, shape), _filled(ans, 1))
    return broadcast_scalar(y * pow_p.bind(x, lowered - 1), shape)


def _pow_by_exponent(ans: Any, x: Any, y: Any) -> Any:
    if dtypes.is_integer(aval_of(y).dtype):
        return _filled(ans, 0)
    zero = eq_p.bind(x, _const(x, 0))
    safe = select_n_p.bind(zero, x, _filled(x, 1))
    return log_p.bind(safe) * ans


def _as_base_dtype(x: Any, y: Any) -> Any:
    return convert_element_type(y, aval_of(x).dtype)


def _power(x: Any, y: Any) -> Any:
    y = y.astype(x.dtype)
    if x.dtype.kind == "c":
        return _complex_power(x, y)
    if not y.ndim and x.dtype.kind == "f" and y == 0.5:
        # NumPy computes the square root, which differs from the power at −0 and −∞.
        return np.where(x == -np.inf, x.dtype.type(np.inf), np.sqrt(x) + x.dtype.type(0))
    return np.power(x, y)


def _complex_power(x: Any, y: Any) -> Any:
    """|x|ᶜ e^(−d arg x) at the angle c arg x + d log |x|, for y = c + id; NumPy's has NaN at many infinities."""
    c, d, length, angle = y.real, y.imag, np.abs(x), np.angle(x)
    growth = np.power(length, c) * np.exp(-(d * angle))
    turn = c * angle + np.where(d == 0, 0, d * np.log(length))
    # A growth of 0 makes 0 of any angle.
    turn = np.where(growth == 0, np.where(turn < 0, -1, 1), turn)
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype)
    out.real, out.imag = growth * np.cos(turn), np.where(turn == 0, turn, growth * np.sin(turn))
    out = np.where(x == 0, np.where(c > 0, 0, np.nan), out)
    return np.where(y == 0, 1, out).astype(x.dtype)


pow_p = elementwise(
    "pow",
    _power,
    derivative=(_pow_by_base, _pow_by_exponent),
    infer=_pow_infer,
    scalar=lambda b, x, y: b.op("pow", x, b.cast(y, x.dtype)),
)


def _logistic(x: Any) -> Any:
    one = x.dtype.type(1)
    if x.dtype.kind == "c":
        left = x.real < 0
        e = np.exp(np.where(left, x, -x))
        return np.where(left, e, one) / (one + e)
    return one / (one + np.exp(-x))


logistic_p = elementwise("logistic", _logistic, derivative=lambda ans, x: ans * (1 - ans))

# ---------------------------------------------------------------- trigonometry

sin_p = elementwise("sin", np.sin, derivative=lambda ans, x: cos_p.bind(x))
cos_p = elementwise("cos", np.cos, derivative=lambda ans, x: -sin_p.bind(x))
tan_p = elementwise("tan", np.tan, derivative=lambda ans, x: ans * ans + 1)
# (1 − x)·(1 + x) keeps the digits that 1 − x² loses next to ±1.
asin_p = elementwise("asin", np.arcsin, derivative=lambda ans, x: rsqrt_p.bind((1 - x) * (1 + x)))
acos_p = elementwise("acos", np.arccos, derivative=lambda ans, x: -rsqrt_p.bind((1 - x) * (1 + x)))
atan_p = elementwise("atan", np.arctan, derivative=lambda ans, x: Over(x * x + 1))
sinh_p = elementwise("sinh", np.sinh, derivative=lambda ans, x: cosh_p.bind(x))
cosh_p = elementwise("cosh", np.cosh, derivative=lambda ans, x: sinh_p.bind(x))
tanh_p = elementwise("tanh", np.tanh, derivative=lambda ans, x: 1 - ans * ans)
asinh_p = elementwise("asinh", np.arcsinh, derivative=lambda ans, x: rsqrt_p.bind(x * x + 1))
# Two roots: one of the product overflows for large x, and is on the wrong branch where x is complex and Re x < 0.
acosh_p = elementwise("acosh", np.arccosh, derivative=lambda ans, x: rsqrt_p.bind(x - 1) * rsqrt_p.bind(x + 1))
atanh_p = elementwise("atanh", np.arctanh, derivative=lambda ans, x: Over((1 - x) * (1 + x)))

# ---------------------------------------------------------------- complex


def _other_part(ct: Any) -> Any:
    """The part of a complex cotangent that is zero; not weakly typed, so neither is the gradient of a Python number."""
    return full(aval_of(ct).shape, 0, aval_of(ct).dtype)


def _part(place: int) -> View:
    """The access to one part of the complex numbers in memory."""
    return View(lambda view: Strided(view.shape, tuple(2 * s for s in view.strides), 2 * view.offset + place))


real_p = linear(
    "real",
    lambda x: np.real(x).copy(),
    lambda ct, x: complex_p.bind(ct, _other_part(ct)),
    kinds=("complex",),
    result=dtypes.real_dtype,
    lowering=_part(0),
    may_make_nan=False,
)
imag_p = linear(
    "imag",
    lambda x: np.imag(x).copy(),
    lambda ct, x: complex_p.bind(_other_part(ct), -ct),
    kinds=("complex",),
    result=dtypes.real_dtype,
    lowering=_part(1),
    may_make_nan=False,
)


def _complex_of(dtype: np.dtype, **_: Any) -> np.dtype:
    if dtype.itemsize < 4:
        raise DTypeError(f"there is no complex type with parts of type {dtype.name}", fix="cast to float32 first")
    return dtypes.complex_dtype(dtype)


def _complex_evaluate(x: Any, y: Any) -> Any:
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), dtypes.complex_dtype(x.dtype))
    out.real, out.imag = x, y
    return out


def _complex_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    from_zero = [zeros_of(t.aval) if type(t) is Zero else t for t in tangents]
    return complex_p.bind(*primals), complex_p.bind(*from_zero)


complex_p = elementwise(
    "complex",
    _complex_evaluate,
    jvp=_complex_jvp,
    kinds=("float",),
    result=_complex_of,
    lowering=Complex(),
    may_make_nan=False,
    transpose=lambda ct, x, y: [
        unbroadcast(real_p.bind(ct), aval_of(x)) if is_undefined(x) else None,
        unbroadcast(-imag_p.bind(ct), aval_of(y)) if is_undefined(y) else None,
    ],
)


def _conj_transpose(ct: Any, x: ShapedArray, *, input_dtype: np.dtype) -> Any:
    out = conj_p.bind(ct, input_dtype=aval_of(ct).dtype)
    return out if dtypes.is_complex(x.dtype) else real_p.bind(out)


conj_p = linear(
    "conj",
    lambda x, *, input_dtype: np.conj(x).astype(dtypes.complex_dtype(x.dtype)),
    _conj_transpose,
    kinds=INEXACT,
    result=_complex_of,
    may_make_nan=False,
)


def conj(x: Any) -> Any:
    """Complex conjugate."""
    return conj_p.bind(x, input_dtype=aval_of(x).dtype)
