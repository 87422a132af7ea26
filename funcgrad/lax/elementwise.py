"""Elementwise functions: out[i] = f(x[i], y[i], …)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.primitives import Primitive
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.lax.operands import to_common_dtype, to_common_shape
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, logic, selection, shapes
from funcgrad.ops import special as sp
from funcgrad.ops.bits import view
from funcgrad.ops.composite import atan2_p

__all__ = [
    "RoundingMethod",
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bessel_i0e",
    "bessel_i1e",
    "betainc",
    "bitcast_convert_type",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "clamp",
    "clz",
    "complex",
    "conj",
    "convert_element_type",
    "cos",
    "cosh",
    "digamma",
    "div",
    "eq",
    "erf",
    "erf_inv",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "ge",
    "gt",
    "igamma",
    "igamma_grad_a",
    "igammac",
    "imag",
    "integer_pow",
    "is_finite",
    "le",
    "lgamma",
    "log",
    "log1p",
    "logistic",
    "lt",
    "max",
    "min",
    "mul",
    "mulhi",
    "ne",
    "neg",
    "nextafter",
    "polygamma",
    "population_count",
    "pow",
    "random_gamma_grad",
    "real",
    "reciprocal",
    "reduce_precision",
    "rem",
    "round",
    "rsqrt",
    "select",
    "select_n",
    "shift_left",
    "shift_right_arithmetic",
    "shift_right_logical",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "stop_gradient",
    "sub",
    "tan",
    "tanh",
    "zeta",
]


def _named(function: Any, name: str, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _unary(name: str, primitive: Primitive, doc: str) -> Callable[..., Any]:
    def function(x: Any, *, accuracy: Any = None) -> Any:
        return primitive.bind(as_operand(x, name))

    return _named(function, name, doc)


def _binary(name: str, primitive: Primitive, doc: str) -> Callable[[Any, Any], Any]:
    def function(x: Any, y: Any) -> Any:
        return primitive.bind(*to_common_shape(name, *to_common_dtype(name, x, y)))

    return _named(function, name, doc)


# ---------------------------------------------------------------- one operand

neg = _unary("neg", ar.neg_p, "−x.")
sign = _unary("sign", ar.sign_p, "−1, 0 or 1; x/|x| for complex x. Signed zeros and NaN are unchanged.")
abs = _unary("abs", ar.abs_p, "|x|; real for complex x. The derivative at 0 is 1.")
floor = _unary("floor", ar.floor_p, "The largest integer <= x.")
ceil = _unary("ceil", ar.ceil_p, "The smallest integer >= x.")
is_finite = _unary("is_finite", ar.is_finite_p, "Whether x is neither infinite nor NaN.")
exp = _unary("exp", ar.exp_p, "eˣ.")
exp2 = _unary("exp2", ar.exp2_p, "2ˣ.")
expm1 = _unary("expm1", ar.expm1_p, "eˣ − 1, accurate for small x.")
log = _unary("log", ar.log_p, "Natural logarithm.")
log1p = _unary("log1p", ar.log1p_p, "log(1 + x), accurate for small x.")
logistic = _unary("logistic", ar.logistic_p, "1/(1 + e⁻ˣ).")
sqrt = _unary("sqrt", ar.sqrt_p, "Square root.")
rsqrt = _unary("rsqrt", ar.rsqrt_p, "1/√x.")
cbrt = _unary("cbrt", ar.cbrt_p, "Cube root.")
square = _unary("square", ar.square_p, "x².")
sin = _unary("sin", ar.sin_p, "Sine of an angle in radians.")
cos = _unary("cos", ar.cos_p, "Cosine of an angle in radians.")
tan = _unary("tan", ar.tan_p, "Tangent of an angle in radians.")
asin = _unary("asin", ar.asin_p, "Inverse sine, in radians.")
acos = _unary("acos", ar.acos_p, "Inverse cosine, in radians.")
atan = _unary("atan", ar.atan_p, "Inverse tangent, in radians.")
sinh = _unary("sinh", ar.sinh_p, "Hyperbolic sine.")
cosh = _unary("cosh", ar.cosh_p, "Hyperbolic cosine.")
tanh = _unary("tanh", ar.tanh_p, "Hyperbolic tangent.")
asinh = _unary("asinh", ar.asinh_p, "Inverse hyperbolic sine.")
acosh = _unary("acosh", ar.acosh_p, "Inverse hyperbolic cosine.")
atanh = _unary("atanh", ar.atanh_p, "Inverse hyperbolic tangent.")
real = _unary("real", ar.real_p, "Real part of a complex number.")
imag = _unary("imag", ar.imag_p, "Imaginary part of a complex number.")
bitwise_not = _unary("bitwise_not", logic.not_p, "Bitwise not; for bools, logical not.")
population_count = _unary("population_count", logic.population_count_p, "Number of set bits.")
clz = _unary("clz", logic.clz_p, "Number of leading zero bits.")
erf = _unary("erf", sp.erf_p, "Error function, 2/√π ∫₀ˣ exp(−t²) dt.")
erfc = _unary("erfc", sp.erfc_p, "1 − erf(x), accurate for large x.")
erf_inv = _unary("erf_inv", sp.erf_inv_p, "Inverse of erf.")
lgamma = _unary("lgamma", sp.lgamma_p, "log |Γ(x)|.")
digamma = _unary("digamma", sp.digamma_p, "Derivative of lgamma.")
bessel_i0e = _unary("bessel_i0e", sp.bessel_i0e_p, "exp(−|x|)·I₀(x), with the modified Bessel function of order 0.")
bessel_i1e = _unary("bessel_i1e", sp.bessel_i1e_p, "exp(−|x|)·I₁(x), with the modified Bessel function of order 1.")

# ---------------------------------------------------------------- two operands

add = _binary("add", ar.add_p, "x + y.")
sub = _binary("sub", ar.sub_p, "x − y.")
mul = _binary("mul", ar.mul_p, "x · y.")
div = _binary("div", ar.div_p, "x / y. Integer division truncates toward zero; x / 0 is −1 (all bits set).")
rem = _binary("rem", ar.rem_p, "Remainder of div, with the sign of x. For integers, x rem 0 is x.")
max = _binary("max", ar.max_p, "The larger of x and y; NaN if either is NaN. Ties share the derivative equally.")
min = _binary("min", ar.min_p, "The smaller of x and y; NaN if either is NaN. Ties share the derivative equally.")
atan2 = _binary("atan2", atan2_p, "atan2(x, y): the angle of the point (y, x), in radians in [−π, π].")
nextafter = _binary("nextafter", ar.nextafter_p, "The next representable number after x in the direction of y.")
eq = _binary("eq", logic.eq_p, "x = y.")
ne = _binary("ne", logic.ne_p, "x ≠ y.")
lt = _binary("lt", logic.lt_p, "x < y.")
le = _binary("le", logic.le_p, "x <= y.")
gt = _binary("gt", logic.gt_p, "x > y.")
ge = _binary("ge", logic.ge_p, "x >= y.")
bitwise_and = _binary("bitwise_and", logic.and_p, "Bitwise and; for bools, logical and.")
bitwise_or = _binary("bitwise_or", logic.or_p, "Bitwise or; for bools, logical or.")
bitwise_xor = _binary("bitwise_xor", logic.xor_p, "Bitwise exclusive or; for bools, logical exclusive or.")
shift_left = _binary("shift_left", logic.shift_left_p, "x · 2ʸ modulo 2ʷ for w bits; 0 if y ≥ w.")
shift_right_logical = _binary(
    "shift_right_logical", logic.shift_right_logical_p, "Shift right by y bits, filling with zeros."
)
shift_right_arithmetic = _binary(
    "shift_right_arithmetic", logic.shift_right_arithmetic_p, "Shift right by y bits, filling with the sign bit."
)
complex = _binary("complex", ar.complex_p, "x + i·y.")
igamma = _binary(
    "igamma", sp.igamma_p, "Regularized lower incomplete gamma function P(a, x), which grows from 0 to 1 with x."
)
igammac = _binary("igammac", sp.igammac_p, "1 − P(a, x).")
igamma_grad_a = _binary("igamma_grad_a", sp.igamma_grad_a_p, "∂P(a, x)/∂a.")
random_gamma_grad = _binary(
    "random_gamma_grad",
    sp.random_gamma_grad_p,
    "Derivative of a sample x of the gamma distribution with respect to its shape a.",
)
zeta = _binary("zeta", sp.zeta_p, "zeta(s, q): the Hurwitz zeta function, Σₙ (n + q)⁻ˢ.")
polygamma = _binary("polygamma", sp.polygamma_p, "polygamma(m, x): the m-th derivative of digamma at x.")


def betainc(a: Any, b: Any, x: Any) -> Any:
    """Regularized incomplete beta function Iₓ(a, b). Derivatives with respect to a and b are not implemented."""
    return sp.regularized_incomplete_beta_p.bind(*to_common_shape("betainc", *to_common_dtype("betainc", a, b, x)))


def pow(x: Any, y: Any) -> Any:
    """xʸ for float or complex x; y has the dtype of x or is an integer."""
    x, y = as_operand(x, "pow"), as_operand(y, "pow")
    if not dtypes.is_integer(aval_of(y).dtype):
        x, y = to_common_dtype("pow", x, y)
    return ar.pow_p.bind(*to_common_shape("pow", x, y))


def integer_pow(x: Any, y: int) -> Any:
    """xʸ for a static integer y, by repeated multiplication."""
    return ar.integer_pow(as_operand(x, "integer_pow"), y)


def reciprocal(x: Any) -> Any:
    """1/x."""
    return ar.integer_pow(as_operand(x, "reciprocal"), -1)


def conj(x: Any) -> Any:
    """Complex conjugate; real x becomes complex."""
    return ar.conj(as_operand(x, "conj"))


class RoundingMethod(enum.IntEnum):
    """How to round a number that is halfway between two integers."""

    AWAY_FROM_ZERO = ar.AWAY_FROM_ZERO
    TO_NEAREST_EVEN = ar.TO_NEAREST_EVEN


def round(x: Any, rounding_method: RoundingMethod = RoundingMethod.AWAY_FROM_ZERO) -> Any:
    """Round to the nearest integer.

    >>> round(2.5), round(2.5, RoundingMethod.TO_NEAREST_EVEN)
    (Array(3., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    return ar.round_p.bind(as_operand(x, "round"), rounding_method=int(rounding_method))


def reduce_precision(operand: Any, exponent_bits: int, mantissa_bits: int) -> Any:
    """Round to a float format with fewer bits, keeping the dtype of the operand. Underflow gives 0.

    >>> reduce_precision(1.1, exponent_bits=5, mantissa_bits=2)
    Array(1., dtype=float32, weak_type=True)
    """
    x = as_operand(operand, "reduce_precision")
    return sp.reduce_precision_p.bind(x, exponent_bits=int(exponent_bits), mantissa_bits=int(mantissa_bits))


# ---------------------------------------------------------------- selection


def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """Select `on_true` where the predicate is true, and `on_false` elsewhere.

    The predicate is a scalar or has the shape of the other operands.
    """
    return select_n(pred, on_false, on_true)


def select_n(which: Any, *cases: Any) -> Any:
    """Select cases[which] elementwise. `which` is a bool, for two cases, or an integer, which is clamped."""
    if not cases:
        raise ArgumentError("select_n: there are no cases", fix="pass at least one array")
    index = as_operand(which, "select_n")
    if dtypes.is_integer(aval_of(index).dtype):
        index = casts.convert_element_type(index, dtypes.int32)
    return selection.select_n_p.bind(index, *to_common_dtype("select_n", *cases))


def clamp(min: Any, x: Any, max: Any) -> Any:
    """Clip x to [min, max], which are scalars or have the shape of x.

    >>> clamp(0.0, 1.5, 1.0)
    Array(1., dtype=float32, weak_type=True)
    """
    return selection.clamp_p.bind(*to_common_dtype("clamp", min, x, max))


def mulhi(x: Any, y: Any) -> Any:
    """The high half of the bits of the product of integers, which has twice as many bits as they.

    >>> mulhi(np.int32(2**30), np.int32(-16))
    Array(-4, dtype=int32)
    """
    x, y = to_common_shape("mulhi", *to_common_dtype("mulhi", x, y))
    dtype = aval_of(x).dtype
    if not dtypes.is_integer(dtype):
        raise DTypeError(f"mulhi: operands of type {aval_of(x)}", fix="pass integers")
    bits = 8 * dtype.itemsize
    if bits == 64:
        return _mulhi_in_halves(x, y)
    wide = np.dtype(f"{dtype.kind}8")
    product = ar.mul_p.bind(*(casts.convert_element_type(v, wide) for v in (x, y)))
    shift = logic.shift_right_arithmetic_p if dtype.kind == "i" else logic.shift_right_logical_p
    return casts.convert_element_type(shift.bind(product, shapes.full((), bits, wide)), dtype)


def _mulhi_in_halves(x: Any, y: Any) -> Any:
    """x = 2³²a + b, y = 2³²c + d: xy / 2⁶⁴ = ac + (ad + (bc + bd / 2³²)) / 2³², rounded down, without overflow."""
    dtype = aval_of(x).dtype
    shift = logic.shift_right_arithmetic_p if dtype.kind == "i" else logic.shift_right_logical_p
    half, low = shapes.full((), 32, dtype), shapes.full((), 0xFFFFFFFF, dtype)
    (a, b), (c, d) = ([shift.bind(v, half), logic.and_p.bind(v, low)] for v in (x, y))
    carried = logic.shift_right_logical_p.bind(ar.mul_p.bind(b, d), half)
    middle = ar.add_p.bind(ar.mul_p.bind(a, d), carried)
    other = ar.add_p.bind(ar.mul_p.bind(b, c), logic.and_p.bind(middle, low))
    high = ar.add_p.bind(ar.mul_p.bind(a, c), shift.bind(middle, half))
    return ar.add_p.bind(high, shift.bind(other, half))


# ---------------------------------------------------------------- types


def convert_element_type(operand: Any, new_dtype: Any) -> Any:
    """Cast. Floats saturate to the integer range, NaN becomes 0; complex to real drops the imaginary part.

    >>> convert_element_type(3.7, "int32")
    Array(3, dtype=int32)
    """
    x = as_operand(operand, "convert_element_type")
    return casts.convert_element_type(x, dtypes.requested(new_dtype, "convert_element_type"))


def bitcast_convert_type(operand: Any, new_dtype: Any) -> Any:
    """Reinterpret the bits as another dtype. A narrower dtype adds a last axis, a wider one removes it.

    >>> bitcast_convert_type(1.0, "uint32")
    Array(1065353216, dtype=uint32)
    >>> bitcast_convert_type(1.0, "uint16")
    Array([    0, 16256], dtype=uint16)
    """
    x = as_operand(operand, "bitcast_convert_type")
    dtype = dtypes.requested(new_dtype, "bitcast_convert_type")
    have, want = aval_of(x).dtype.itemsize, dtype.itemsize
    if have == want or dtypes.bool_ in (dtype, aval_of(x).dtype):
        return casts.bitcast_convert_type_p.bind(x, new_dtype=dtype)
    shape = aval_of(x).shape
    if want > have and (not shape or shape[-1] * have != want):
        raise ShapeError(
            f"bitcast_convert_type: the last axis of {aval_of(x)} does not have the size of one {dtype.name}",
            fix=f"reshape so that the last axis has size {want // have}",
        )
    viewed = view(shapes.expand_dims(x, (len(shape),)) if want < have else x, dtype)
    return viewed if want < have else shapes.squeeze(viewed, (len(shape) - 1,))


def stop_gradient(x: Any) -> Any:
    """Return the pytree `x` unchanged, with a derivative of zero."""

    def stopped(leaf: Any) -> Any:
        if not isinstance(leaf, ArrayLike) or not dtypes.is_inexact(aval_of(leaf).dtype):
            return leaf
        return casts.stop_gradient_p.bind(leaf)

    return tree.map(stopped, x)
