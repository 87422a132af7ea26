"""Elementwise functions that bind a single primitive.

`_unary` and `_binary` make most of them: promote the operands, bind the primitive. Functions that need several
primitives are in `numpy.composite`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments import promotion
from funcgrad.arguments.promotion import as_operand, promote, promote_inexact, promote_shapes
from funcgrad.core.primitives import Primitive
from funcgrad.errors import DTypeError
from funcgrad.numpy import eager
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, logic, selection
from funcgrad.ops.composite import atan2_p

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "conj",
    "conjugate",
    "cos",
    "cosh",
    "divide",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "greater",
    "greater_equal",
    "imag",
    "invert",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "real",
    "right_shift",
    "rint",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
]


class BinaryFunction(Protocol):
    """A function of two operands. `shortcut` is its fast path; it returns None for operands it does not handle."""

    shortcut: Callable[[Any, Any], Any]

    def __call__(self, x: Any, y: Any, /) -> Any: ...


def _named(function: Any, name: str, doc: str, shortcut: Any = None) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    # Operators call the shortcut directly, which saves a function call.
    function.shortcut = shortcut or (lambda *_: None)
    return function


def _unary(
    name: str, primitive: Primitive, doc: str, *, inexact: bool = False, exact: Any = None
) -> Callable[[Any], Any]:
    """Make a function of one operand. `inexact` promotes integers to floats; `exact` replaces it for exact dtypes."""
    numpy_ufunc = primitive.evaluate
    shortcut, remember = eager.unary(numpy_ufunc) if isinstance(numpy_ufunc, np.ufunc) else (None, None)

    def ufunc(x: Any, /) -> Any:
        if shortcut is not None and (out := shortcut(x)) is not None:
            return out
        operand = as_operand(x, name)
        if exact is not None and not dtypes.is_inexact(operand.aval.dtype):
            return exact(operand)
        if inexact:
            (operand,) = promote_inexact(operand, operation=name)
        out = primitive.bind(operand)
        if remember is not None:
            remember(out, x)
        return out

    return _named(ufunc, name, doc, shortcut)


def _binary(
    name: str,
    primitive: Primitive,
    doc: str,
    *,
    inexact: bool = False,
    on_bool: Primitive | None = None,
    numpy_ufunc: Any = None,
) -> BinaryFunction:
    """Make a function of two operands; `on_bool` is the primitive to bind for bools."""
    numpy_ufunc = numpy_ufunc or primitive.evaluate
    shortcut, remember = eager.binary(numpy_ufunc) if isinstance(numpy_ufunc, np.ufunc) else (None, None)
    convert = promote_inexact if inexact else None

    def ufunc(x: Any, y: Any, /) -> Any:
        if shortcut is not None and (out := shortcut(x, y)) is not None:
            return out
        if convert is not None:
            operands = promote_shapes(*convert(x, y, operation=name), operation=name)
        else:
            operands = promote(x, y, operation=name)
        chosen = on_bool if on_bool is not None and operands[0].aval.dtype == dtypes.bool_ else primitive
        out = chosen.bind(*operands)
        if remember is not None:
            remember(out, x, y)
        return out

    return _named(ufunc, name, doc, shortcut)


def without_bools(x: Any) -> Any:
    """Convert bools to int32; return other operands unchanged."""
    return x if x.aval.dtype != dtypes.bool_ else casts.convert_element_type(x, dtypes.int32)


# ---------------------------------------------------------------- arithmetic

add = _binary("add", ar.add_p, "x + y; for bools, logical or.", on_bool=logic.or_p)
subtract = _binary("subtract", ar.sub_p, "x − y; not defined on bools.")
multiply = _binary("multiply", ar.mul_p, "x · y; for bools, logical and.", on_bool=logic.and_p)
divide = true_divide = _binary(
    "divide", ar.div_p, "x / y; integers and bools give floats.", inexact=True, numpy_ufunc=np.divide
)
negative = _unary("negative", ar.neg_p, "−x; not defined on bools.")
absolute = abs = _unary(
    "absolute",
    ar.abs_p,
    "|x|; for a complex number, its modulus, which is real.",
    exact=lambda x: ar.abs_p.bind(x) if x.aval.dtype.kind == "i" else x,
)
sign = _unary("sign", ar.sign_p, "−1, 0 or 1; for a complex number, x / |x|.")
square = _unary("square", ar.square_p, "x²; for bools, 0 or 1.", exact=lambda x: ar.square_p.bind(without_bools(x)))
nextafter = _binary("nextafter", ar.nextafter_p, "The next float after x in the direction of y.", inexact=True)
_arctan2 = _binary("arctan2", atan2_p, "", inexact=True)
maximum = _binary("maximum", ar.max_p, "The larger of x and y; NaN if either is NaN.")
minimum = _binary("minimum", ar.min_p, "The smaller of x and y; NaN if either is NaN.")


def arctan2(x: Any, y: Any, /) -> Any:
    """The angle of the point (y, x) in radians, in (−π, π]; for complex numbers, −i·log((y + ix) / √(x² + y²))."""
    if (out := _arctan2.shortcut(x, y)) is not None:
        return out
    x, y = promote_inexact(x, y, operation="arctan2")
    if not dtypes.is_complex(x.aval.dtype):
        return _arctan2(x, y)
    length = sqrt(add(square(x), square(y)))
    return multiply(-1j, log(divide(add(y, multiply(1j, x)), length)))


atan2 = arctan2

# ---------------------------------------------------------------- comparisons, logic, bits


def _ordering(name: str, primitive: Primitive, doc: str) -> Callable[[Any, Any], Any]:
    """Make a comparison; complex numbers are ordered by real part, then by imaginary part."""
    of_reals = _binary(name, primitive, doc)
    strict = {"less_equal": "less", "greater_equal": "greater"}.get(name, name)

    def ufunc(x: Any, y: Any, /) -> Any:
        try:
            return of_reals(x, y)
        except DTypeError:
            x, y = promote(x, y, operation=name)
            if not dtypes.is_complex(x.aval.dtype):
                raise
        a, b = real(x), real(y)
        return where(equal(a, b), of_reals(imag(x), imag(y)), globals()[strict](a, b))

    return _named(ufunc, name, doc, of_reals.shortcut)


equal = _binary("equal", logic.eq_p, "x = y; False if either is NaN.")
not_equal = _binary("not_equal", logic.ne_p, "x ≠ y; True if either is NaN.")
less = _ordering("less", logic.lt_p, "x < y.")
less_equal = _ordering("less_equal", logic.le_p, "x ≤ y.")
greater = _ordering("greater", logic.gt_p, "x > y.")
greater_equal = _ordering("greater_equal", logic.ge_p, "x ≥ y.")
bitwise_and = _binary("bitwise_and", logic.and_p, "Bits that are set in both operands.")
bitwise_or = _binary("bitwise_or", logic.or_p, "Bits that are set in either operand.")
bitwise_xor = _binary("bitwise_xor", logic.xor_p, "Bits in which the operands differ.")
bitwise_not = bitwise_invert = invert = _unary("bitwise_not", logic.not_p, "Flip all bits; for bools, logical not.")
_shift_left = _binary("left_shift", logic.shift_left_p, "")
_shift_right_signed = _binary("right_shift", logic.shift_right_arithmetic_p, "")
_shift_right_unsigned = _binary("right_shift", logic.shift_right_logical_p, "")


def left_shift(x: Any, y: Any, /) -> Any:
    """x · 2ʸ modulo 2ʷ, where w is the number of bits; 0 if y ≥ w."""
    return _shift_left(*(without_bools(v) for v in promote(x, y, operation="left_shift")))


def right_shift(x: Any, y: Any, /) -> Any:
    """⌊x / 2ʸ⌋; the shift of signed integers is arithmetic."""
    x, y = (without_bools(v) for v in promote(x, y, operation="right_shift"))
    return (_shift_right_unsigned if x.aval.dtype.kind == "u" else _shift_right_signed)(x, y)


bitwise_left_shift = left_shift
bitwise_right_shift = right_shift


def bitwise_count(x: Any, /) -> Any:
    """Number of bits set in |x|, as uint8."""
    x = as_operand(x, "bitwise_count")
    x = without_bools(x)
    if not dtypes.is_integer(x.aval.dtype):
        raise DTypeError(f"bitwise_count: operand has type {x.aval}", fix="pass integers")
    return casts.convert_element_type(logic.population_count_p.bind(absolute(x)), dtypes.uint8)


def _truth(x: Any, name: str) -> Any:
    """x ≠ 0 as bool."""
    x = as_operand(x, name)
    return x if x.aval.dtype == dtypes.bool_ else not_equal(x, 0)


def _logical(name: str, function: Callable[..., Any], doc: str) -> Callable[..., Any]:
    def ufunc(*operands: Any) -> Any:
        return function(*(_truth(x, name) for x in operands))

    return _named(ufunc, name, doc)


logical_and = _logical("logical_and", bitwise_and, "x ≠ 0 and y ≠ 0.")
logical_or = _logical("logical_or", bitwise_or, "x ≠ 0 or y ≠ 0.")
logical_xor = _logical("logical_xor", bitwise_xor, "Exactly one of x and y is nonzero.")
logical_not = _logical("logical_not", bitwise_not, "x = 0.")

# ---------------------------------------------------------------- rounding

_unchanged: Callable[[Any], Any] = lambda x: x  # noqa: E731
floor = _unary("floor", ar.floor_p, "The largest integer ≤ x; integers are unchanged.", exact=_unchanged)
ceil = _unary("ceil", ar.ceil_p, "The smallest integer ≥ x; integers are unchanged.", exact=_unchanged)


def trunc(x: Any, /) -> Any:
    """Round toward zero; integers are unchanged."""
    x = as_operand(x, "trunc")
    if not dtypes.is_inexact(x.aval.dtype):
        return x
    return where(less(x, 0), ceil(x), floor(x))


def rint(x: Any, /) -> Any:
    """Round to the nearest integer, ties to even. Integers become floats; complex numbers are rounded part by part."""
    x = as_operand(x, "rint")
    if not dtypes.is_inexact(x.aval.dtype):
        return casts.convert_element_type(x, dtypes.canonicalize(float))
    if dtypes.is_complex(x.aval.dtype):
        return ar.complex_p.bind(rint(ar.real_p.bind(x)), rint(ar.imag_p.bind(x)))
    return ar.round_p.bind(x, rounding_method=ar.TO_NEAREST_EVEN)


# ---------------------------------------------------------------- exponentials and trigonometry

_INEXACT = {
    "exp": (ar.exp_p, "eˣ."),
    "exp2": (ar.exp2_p, "2ˣ."),
    "expm1": (ar.expm1_p, "eˣ − 1, accurate near 0."),
    "log": (ar.log_p, "Natural logarithm."),
    "log1p": (ar.log1p_p, "log(1 + x), accurate near 0."),
    "sqrt": (ar.sqrt_p, "Square root; NaN below 0."),
    "cbrt": (ar.cbrt_p, "Cube root."),
    "sin": (ar.sin_p, "Sine of an angle in radians."),
    "cos": (ar.cos_p, "Cosine of an angle in radians."),
    "tan": (ar.tan_p, "Tangent of an angle in radians."),
    "arcsin": (ar.asin_p, "Angle in [−π/2, π/2] whose sine is x."),
    "arccos": (ar.acos_p, "Angle in [0, π] whose cosine is x."),
    "arctan": (ar.atan_p, "Angle in (−π/2, π/2) whose tangent is x."),
    "sinh": (ar.sinh_p, "Hyperbolic sine."),
    "cosh": (ar.cosh_p, "Hyperbolic cosine."),
    "tanh": (ar.tanh_p, "Hyperbolic tangent."),
    "arcsinh": (ar.asinh_p, "Inverse of sinh."),
    "arccosh": (ar.acosh_p, "Inverse of cosh, in [0, ∞)."),
    "arctanh": (ar.atanh_p, "Inverse of tanh."),
}
exp, exp2, expm1, log, log1p, sqrt, cbrt = (
    _unary(n, *_INEXACT[n], inexact=True) for n in ("exp", "exp2", "expm1", "log", "log1p", "sqrt", "cbrt")
)
sin, cos, tan, sinh, cosh, tanh = (
    _unary(n, *_INEXACT[n], inexact=True) for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")
)
arcsin, arccos, arctan, arcsinh, arccosh, arctanh = (
    _unary(n, *_INEXACT[n], inexact=True) for n in ("arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh")
)
asin, acos, atan, asinh, acosh, atanh = arcsin, arccos, arctan, arcsinh, arccosh, arctanh

# ---------------------------------------------------------------- selection and parts of complex numbers


def where(condition: Any, x: Any, y: Any) -> Any:
    """Select x where the condition is true and y elsewhere; the three broadcast together.

    The derivative of the branch that is not selected is multiplied by 0. If it may be NaN or infinite, guard the input
    of that branch with another `where`.

    >>> import funcgrad.numpy as jnp
    >>> where(jnp.arange(3) > 1, 1.0, 0.0)
    Array([0., 0., 1.], dtype=float32, weak_type=True)
    """
    x, y = promote(x, y, operation="where")
    condition = _truth(condition, "where")
    return pick(condition, x, y, "where")


def pick(condition: Any, x: Any, y: Any, operation: str) -> Any:
    """`where` for operands of the same dtype."""
    condition, x, y = broadcast_together([condition, x, y], operation)
    return selection.select_n_p.bind(condition, y, x)


def broadcast_together(operands: Sequence[Any], operation: str) -> list[Any]:
    """Broadcast the operands to their common shape, except the first if it is a scalar."""
    shape = promotion.broadcast_shapes(*(x.aval.shape for x in operands), operation=operation)
    head = operands[0] if not operands[0].aval.shape else promotion.broadcast_to(operands[0], shape)
    return [head, *(promotion.broadcast_to(x, shape) for x in operands[1:])]


def real(x: Any, /) -> Any:
    """Real part."""
    x = as_operand(x, "real")
    return ar.real_p.bind(x) if dtypes.is_complex(x.aval.dtype) else x


def imag(x: Any, /) -> Any:
    """Imaginary part; 0 for real numbers."""
    x = as_operand(x, "imag")
    return (
        ar.imag_p.bind(x)
        if dtypes.is_complex(x.aval.dtype)
        else ar.full(x.aval.shape, 0, x.aval.dtype, x.aval.weak_type)
    )


def conjugate(x: Any, /) -> Any:
    """Complex conjugate; real numbers are unchanged."""
    x = as_operand(x, "conjugate")
    return ar.conj(x) if dtypes.is_complex(x.aval.dtype) else x


conj = conjugate
