"""Elementwise arithmetic, exponentials, trigonometry, selection and casts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.quiet import quiet
from funcgrad.core.tracing import Tracer, Zero, aval_of, is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.elementwise import (
    ANY,
    IDENTITY,
    INEXACT,
    NEGATION,
    NUMBER,
    REAL,
    Over,
    add_tangents,
    check_bilinear,
    check_operands,
    common_shape,
    elementwise,
    linear,
    unbroadcast,
)
from funcgrad.ops.logic import and_p, eq_p, ge_p, gt_p, lt_p
from funcgrad.ops.shapes import broadcast_scalar, full, zeros_of

# ---------------------------------------------------------------- arithmetic


def _add_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [unbroadcast(ct, aval_of(v)) if is_undefined(v) else None for v in (x, y)]


def _sub_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [
        unbroadcast(ct, aval_of(x)) if is_undefined(x) else None,
        unbroadcast(-ct, aval_of(y)) if is_undefined(y) else None,
    ]


def _mul_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    check_bilinear("mul", x, y)
    return [
        unbroadcast(mul_p.bind(ct, y), aval_of(x)) if is_undefined(x) else None,
        unbroadcast(mul_p.bind(x, ct), aval_of(y)) if is_undefined(y) else None,
    ]


def _div_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    if is_undefined(y):
        raise ArgumentError("div is not linear in its denominator", fix="this is a bug in a jvp rule")
    return [unbroadcast(div_p.bind(ct, y), aval_of(x)), None]


def _truncated_division(x: Any, y: Any) -> Any:
    """x / y; integers truncate toward zero, x / 0 is −1 (all bits set), and MIN / −1 is MIN."""
    if x.dtype.kind not in "iu":
        return np.divide(x, y)
    safe = np.where(y == 0, 1, y).astype(x.dtype)
    quotient = np.floor_divide(x, safe)
    if x.dtype.kind == "i":
        exact = quotient * safe == x
        quotient = quotient + ((~exact) & ((x < 0) != (safe < 0)))
        quotient = np.where((safe == -1), -x, quotient)
    return np.where(y == 0, np.array(-1).astype(x.dtype), quotient).astype(x.dtype)


def _rem(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.fmod(x, y)
    return np.where(
        y == 0, x, np.fmod(x, np.where((y == 0) | (y == -1 if y.dtype.kind == "i" else False), 1, y))
    ).astype(x.dtype)


neg_p = linear("neg", np.negative, lambda ct, x: -ct, kinds=NUMBER)
add_p = elementwise(
    "add", np.add, derivative=(lambda *_: IDENTITY, lambda *_: IDENTITY), kinds=NUMBER, transpose=_add_transpose
)
sub_p = elementwise(
    "sub", np.subtract, derivative=(lambda *_: IDENTITY, lambda *_: NEGATION), kinds=NUMBER, transpose=_sub_transpose
)


def _mul_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x, y), (dx, dy) = primals, tangents
    ans = mul_p.bind(x, y)
    shape = aval_of(ans).shape
    out: Any = Zero(aval_of(ans).tangent())
    if out.aval.dtype == dtypes.float0:
        return ans, out
    if type(dx) is not Zero:
        out = broadcast_scalar(mul_p.bind(dx, y), shape)
    if type(dy) is not Zero:
        out = add_tangents(out, broadcast_scalar(mul_p.bind(x, dy), shape))
    return ans, out


mul_p = elementwise("mul", np.multiply, jvp=_mul_jvp, kinds=NUMBER, transpose=_mul_transpose)


def _div_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    x, y = primals
    ans = div_p.bind(x, y)
    shape = aval_of(ans).shape
    out: Any = Zero(aval_of(ans).tangent())
    if out.aval.dtype == dtypes.float0:
        return ans, out
    if type(tangents[0]) is not Zero:
        out = broadcast_scalar(div_p.bind(tangents[0], y), shape)
    if type(tangents[1]) is not Zero:
        out = add_tangents(out, broadcast_scalar(mul_p.bind(tangents[1], div_p.bind(-ans, y)), shape))
    return ans, out


div_p = elementwise("div", _truncated_division, jvp=_div_jvp, kinds=NUMBER, transpose=_div_transpose)


def _rem_by_divisor(ans: Any, x: Any, y: Any) -> Any:
    """−q, the whole number in x = q·y + ans; x / y itself may round across a whole number."""
    return -round_p.bind((x - ans) / y, rounding_method=TO_NEAREST_EVEN)


rem_p = elementwise("rem", _rem, derivative=(lambda *_: IDENTITY, _rem_by_divisor), kinds=REAL)


def _half_at_ties(ans: Any, x: Any, y: Any) -> Any:
    """Derivative of max and min by x: 1 where x wins, 0 where y wins, ½ at ties."""
    shape = aval_of(ans).shape
    half, one, zero = (_filled(ans, v) for v in (0.5, 1, 0))
    x_wins, y_wins = (eq_p.bind(broadcast_scalar(v, shape), ans) for v in (x, y))
    return select_n_p.bind(x_wins, zero, select_n_p.bind(y_wins, one, half))


_BY_WINNER = (_half_at_ties, lambda ans, x, y: _half_at_ties(ans, y, x))


max_p = elementwise("max", np.maximum, derivative=_BY_WINNER, kinds=("bool", *NUMBER))
min_p = elementwise("min", np.minimum, derivative=_BY_WINNER, kinds=("bool", *NUMBER))

# ---------------------------------------------------------------- rounding, sign, magnitude

floor_p = elementwise("floor", np.floor, kinds=("float",))
ceil_p = elementwise("ceil", np.ceil, kinds=("float",))


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
        # d|z| = Re(conj(z)·dz) / |z|, and 0 at the origin
        unit = sign_p.bind(x)
        return ans, real_p.bind(conj(unit) * t)
    if not dtypes.is_inexact(aval_of(x).dtype):
        return ans, Zero(aval_of(ans).tangent())
    # The derivative at 0 is taken from the right: 1.
    nonnegative = ge_p.bind(x, _const(x, 0))
    return ans, mul_p.bind(t, select_n_p.bind(nonnegative, _filled(x, -1), _filled(x, 1)))


abs_p = elementwise("abs", np.abs, jvp=_abs_jvp, kinds=NUMBER, result=dtypes.real_dtype)
is_finite_p = elementwise("is_finite", np.isfinite, kinds=("float",), result=lambda d: dtypes.bool_)
# One unit in the last place from x, in the direction of y: x moves it, y does not.
nextafter_p = elementwise(
    "nextafter",
    # Where they are equal it is y; NumPy gives x in float16, which is another zero for 0 and −0.
    lambda x, y: np.where(x == y, y, np.nextafter(x, y)),
    derivative=(lambda *_: IDENTITY, None),
    kinds=("float",),
)

# ---------------------------------------------------------------- powers and exponentials


def _const(x: Any, value: float) -> Any:
    """A scalar constant of the dtype of `x`, weakly typed if it is."""
    return full((), value, aval_of(x).dtype, aval_of(x).weak_type)


def _filled(x: Any, value: float) -> Any:
    """A constant of the type of `x`."""
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
square_p = elementwise("square", np.square, derivative=lambda ans, x: x * 2, kinds=NUMBER,
                       scalar=lambda b, x: b.op("mul", x, x))  # fmt: skip


def _integer_power(x: Any, *, y: int) -> Any:
    if y < 0:
        return (x.dtype.type(1) / _integer_power(x, y=-y)).astype(x.dtype)
    result, base = np.ones_like(x), x
    while y:
        if y & 1:
            result = result * base
        y >>= 1
        base = base * base if y else base
    return result


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
    """x to a static integer power, by repeated multiplication."""
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
    if not y.ndim and x.dtype.kind == "f" and y == 0.5:
        # Here NumPy takes the root, which differs from the power at −0 and −∞.
        return np.where(x == -np.inf, x.dtype.type(np.inf), np.sqrt(x) + x.dtype.type(0))
    return np.power(x, y)


pow_p = elementwise(
    "pow",
    _power,
    derivative=(_pow_by_base, _pow_by_exponent),
    infer=_pow_infer,
    scalar=lambda b, x, y: b.op("pow", x, b.cast(y, x.dtype)),
)


def _logistic(x: Any) -> Any:
    one = x.dtype.type(1)
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


real_p = linear("real", lambda x: np.real(x).copy(), lambda ct, x: complex_p.bind(ct, _other_part(ct)),
                kinds=("complex",), result=dtypes.real_dtype)  # fmt: skip
imag_p = linear("imag", lambda x: np.imag(x).copy(), lambda ct, x: complex_p.bind(_other_part(ct), -ct),
                kinds=("complex",), result=dtypes.real_dtype)  # fmt: skip


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
)


def conj(x: Any) -> Any:
    """Complex conjugate."""
    return conj_p.bind(x, input_dtype=aval_of(x).dtype)


# ---------------------------------------------------------------- selection


def _select_infer(which: ShapedArray, *cases: ShapedArray) -> ShapedArray:
    if which.dtype != dtypes.bool_ and which.dtype != dtypes.int32:
        raise DTypeError(f"select_n: the selector has type {which}", fix="it must be bool (two cases) or int32")
    if which.dtype == dtypes.bool_ and len(cases) > 2:
        raise ArgumentError(f"select_n: a bool selector chooses between two cases, {len(cases)} are given",
                            fix="use an int32 selector")  # fmt: skip
    shapes_ = {c.shape for c in cases}
    if len(shapes_) > 1 or (which.shape and which.shape != cases[0].shape):
        raise ShapeError(
            f"select_n: selector {which} and cases {', '.join(map(repr, cases))} differ in shape",
            fix="cases must have one shape, the selector that shape or be a scalar",
        )
    check_operands("select_n", cases, ANY)
    return ShapedArray(cases[0].shape, cases[0].dtype, all(c.weak_type for c in cases))


def _select_evaluate(which: Any, *cases: Any) -> Any:
    if len(cases) == 1:
        return cases[0]
    if which.dtype == np.bool_:
        return np.where(which, cases[1], cases[0])
    index = np.clip(which, 0, len(cases) - 1)
    return np.select([index == i for i in range(len(cases))], cases)


def _select_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    which, *cases = primals
    ans = select_n_p.bind(which, *cases)
    if all(type(t) is Zero for t in tangents[1:]):
        return ans, Zero(aval_of(ans).tangent())
    return ans, select_n_p.bind(which, *(zeros_of(t.aval) if type(t) is Zero else t for t in tangents[1:]))


def _select_transpose(ct: Any, which: Any, *cases: Any) -> list[Any]:
    zero = _filled(ct, 0)
    back = [
        select_n_p.bind(which, *(ct if j == i else zero for j in range(len(cases)))) if is_undefined(c) else None
        for i, c in enumerate(cases)
    ]
    return [None, *back]


def _select_scalar(b: Any, which: Any, *cases: Any) -> Any:
    if which.dtype == dtypes.bool_:
        return cases[0] if len(cases) == 1 else b.op("select", which, cases[1], cases[0])
    out = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        out = b.op("select", b.op("le", which, b.const(i, which.dtype)), cases[i], out)
    return out


select_n_p = elementwise(
    "select_n",
    _select_evaluate,
    infer=_select_infer,
    jvp=_select_jvp,
    transpose=_select_transpose,
    scalar=_select_scalar,
    full_operands=slice(1, None),
)


def _clamp_infer(lo: ShapedArray, x: ShapedArray, hi: ShapedArray) -> ShapedArray:
    for bound in (lo, hi):
        if bound.shape and bound.shape != x.shape:
            raise ShapeError(f"clamp: bound {bound} does not fit operand {x}", fix="bounds are scalars or of its shape")
    check_operands("clamp", [x, lo, hi], ("int", "float"))
    return ShapedArray(x.shape, x.dtype, x.weak_type)


def _inside(ans: Any, lo: Any, x: Any, hi: Any) -> Any:
    inside = and_p.bind(
        gt_p.bind(x, broadcast_scalar(lo, aval_of(x).shape)), lt_p.bind(x, broadcast_scalar(hi, aval_of(x).shape))
    )
    return convert_element_type(inside, aval_of(x).dtype)


def _below(ans: Any, lo: Any, x: Any, hi: Any) -> Any:
    lo, hi = (broadcast_scalar(bound, aval_of(x).shape) for bound in (lo, hi))
    return convert_element_type(and_p.bind(lt_p.bind(x, lo), lt_p.bind(lo, hi)), aval_of(x).dtype)


def _above(ans: Any, lo: Any, x: Any, hi: Any) -> Any:
    return convert_element_type(gt_p.bind(x, broadcast_scalar(hi, aval_of(x).shape)), aval_of(x).dtype)


clamp_p = elementwise(
    "clamp",
    lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi),
    infer=_clamp_infer,
    derivative=(_below, _inside, _above),
    full_operands=slice(1, 2),
)

# ---------------------------------------------------------------- casts, and values that block derivatives


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert as XLA does: float → int saturates and sends NaN to 0, complex → real drops the imaginary part."""
    return quiet.run(_cast, x, dtype)


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if x.dtype.kind == "c" and dtype.kind != "c":
        if dtype == dtypes.bool_:
            return x != 0
        x = x.real
    if dtypes.is_float(x.dtype) and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        wide = x.astype(np.float64)
        # float64 rounds the int64 maximum up: compare, then pick the integer limit itself.
        clipped = np.where((wide < float(limits.max)) & (wide > float(limits.min)), wide, 0).astype(dtype)
        out = np.where(wide >= float(limits.max), limits.max, np.where(wide <= float(limits.min), limits.min, clipped))
        return np.where(np.isnan(wide), 0, out).astype(dtype)
    return x.astype(dtype)


def _convert_infer(x: ShapedArray, *, new_dtype: np.dtype, weak_type: bool) -> ShapedArray:
    return ShapedArray(x.shape, new_dtype, weak_type)


def _convert_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, new_dtype: np.dtype, weak_type: bool) -> Any:
    ans = convert_element_type_p.bind(*primals, new_dtype=new_dtype, weak_type=weak_type)
    if not dtypes.is_inexact(new_dtype) or not dtypes.is_inexact(aval_of(primals[0]).dtype):
        return ans, Zero(aval_of(ans).tangent())
    return ans, convert_element_type_p.bind(*tangents, new_dtype=new_dtype, weak_type=weak_type)


convert_element_type_p = elementwise(
    "convert_element_type",
    lambda x, *, new_dtype, weak_type: cast(x, new_dtype),
    infer=_convert_infer,
    jvp=_convert_jvp,
    transpose=lambda ct, x, *, new_dtype, weak_type: [convert_element_type(ct, aval_of(x).dtype, aval_of(x).weak_type)],
    scalar=lambda b, x, *, new_dtype, weak_type: b.cast(x, new_dtype),
)


def convert_element_type(x: Any, dtype: np.dtype, weak_type: bool = False) -> Any:
    """Cast to a dtype; the same array when it has that type already."""
    aval = aval_of(x)
    if aval.dtype == dtype and aval.weak_type == weak_type:
        return x
    if not aval.shape and not isinstance(x, Tracer):
        # A constant scalar becomes a literal of the new type, not an equation.
        value = quiet.run(np.asarray, x, aval.dtype)
        return Array(ShapedArray((), dtype, weak_type), cast(value, dtype))
    return convert_element_type_p.bind(x, new_dtype=dtype, weak_type=weak_type)


def _bitcast_infer(x: ShapedArray, *, new_dtype: np.dtype) -> ShapedArray:
    if x.dtype.itemsize != new_dtype.itemsize:
        raise DTypeError(
            f"bitcast_convert_type: {x} and {new_dtype.name} differ in width", fix="choose a dtype of the same width"
        )
    return ShapedArray(x.shape, new_dtype)


bitcast_convert_type_p = elementwise(
    "bitcast_convert_type",
    lambda x, *, new_dtype: np.ascontiguousarray(x).view(new_dtype).reshape(x.shape),
    infer=_bitcast_infer,
    scalar=lambda b, x, *, new_dtype: b.op("bitcast", x, dtype=new_dtype),
)
stop_gradient_p = elementwise("stop_gradient", np.array, kinds=ANY, scalar=lambda b, x: x)
copy_p = linear("copy", np.array, lambda ct, x: ct, kinds=ANY, scalar=lambda b, x: x)
