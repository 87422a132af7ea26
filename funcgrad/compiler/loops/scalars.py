"""Scalar operations: one table that the op families, the renderer and both emitters share.

Each entry states how many arguments an operation takes, their kinds of dtype, the dtype of the result, what it
means (a reference on NumPy scalars) and how Python source spells it. Arguments of one operation have one
dtype, except that `select` takes (bool, T, T) and `cast` and `bitcast` convert.

Semantics, where C and NumPy leave a choice:

- `max` and `min` propagate NaN and order -0.0 below 0.0; `clamp(lo, x, hi)` is `min(max(x, lo), hi)`.
- Integer arithmetic wraps. Integer `div` truncates toward zero; `x div 0` has all bits set (-1, or the
  unsigned maximum); the least integer divided by -1 is itself. `rem` has the sign of the dividend and
  `x rem 0` is x; of floats it is C's fmod.
- Shifts by the width of the type or more (or by a negative amount) give 0, arithmetic right shifts the sign,
  which is the top bit of unsigned types too.
- A float cast to an integer saturates and NaN becomes 0; anything cast to bool is `x != 0`.
- Integer `pow` with a negative exponent is 0, except that powers of 1 and -1 are right.
- float16 and bfloat16 are computed in float32 and rounded after every operation.
- On bool, `add` and `max` are `or`, `mul` and `min` are `and`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.primitives import Primitive
from funcgrad.dtypes import bfloat16, bool_, is_float
from funcgrad.errors import DTypeError
from funcgrad.ops import special

Reference = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class ScalarOp:
    """One scalar operation.

    `domain` lists the kinds of dtype it takes: b(ool), i(nt), u(int), f(loat). `result` is "same", "bool" or
    "free" (a conversion, whose result dtype the expression states). `infix` is a Python operator; without
    one, or where the operator means something else (`/` on integers), source calls the operation by its name.
    `vector_math`: the CPU emitter takes it from `compiler.targets.llvm.vector_math`.
    """

    name: str
    arity: int
    domain: str
    reference: Reference
    result: str = "same"
    infix: str = ""
    vector_math: bool = False

    def operator(self, dtype: np.dtype) -> str:
        """Return the Python operator that means this operation on `dtype`, or "" when it is a call."""
        if dtype == bool_:
            return {"add": "|", "max": "|", "mul": "&", "min": "&", "not": "not "}.get(self.name, self.infix)
        return "" if self.name == "div" and not is_float(dtype) else self.infix


def kind(dtype: np.dtype) -> str:
    """Return the letter by which a domain names the kind of `dtype`: b, i, u or f."""
    return "f" if is_float(dtype) else dtype.kind


@functools.lru_cache(maxsize=4096)
def result_dtype(name: str, arguments: tuple[np.dtype, ...], stated: np.dtype) -> np.dtype:
    """Return the dtype of an operation on these argument dtypes; conversions return the `stated` one.

    Raises DTypeError when the operation does not exist or does not take such arguments.

    >>> result_dtype("lt", (np.dtype("f4"), np.dtype("f4")), np.dtype(bool))
    dtype('bool')
    """
    if name not in SCALARS:
        raise DTypeError(f"{name} is not a scalar operation", fix=f"use one of {', '.join(SCALARS)}")
    scalar = SCALARS[name]
    shown = ", ".join(d.name for d in arguments)
    if len(arguments) != scalar.arity:
        raise DTypeError(f"{name} takes {scalar.arity} arguments, got {len(arguments)} ({shown})")
    values = arguments[1:] if name == "select" else arguments
    if name == "select" and arguments[0] != bool_:
        raise DTypeError(f"select({shown}): the predicate must be bool", fix="compare it with zero")
    if len(set(values)) != 1:
        raise DTypeError(f"{name}({shown}): arguments must have one dtype", fix="cast one of them")
    if kind(values[0]) not in scalar.domain:
        raise DTypeError(f"{name}({shown}): does not take {values[0].name}", fix="cast the argument")
    if name == "bitcast" and values[0].itemsize != stated.itemsize:
        raise DTypeError(f"bitcast({shown}) to {stated.name}: widths differ", fix="bitcast to a dtype of one width")
    return {"same": values[0], "bool": bool_, "free": stated}[scalar.result]


# ---------------------------------------------------------------------------------------------- references
def cast(value: Any, dtype: np.dtype) -> Any:
    """Convert a scalar: floats to integers saturate with NaN as 0, anything to bool is `value != 0`."""
    if dtype == bool_:
        return np.bool_(value != 0)
    source = value.dtype if isinstance(value, np.generic) else None
    if source is not None and is_float(source) and not is_float(dtype):
        limits = np.iinfo(dtype)
        wide = float(value)
        if wide != wide:
            return dtype.type(0)
        return dtype.type(
            min(max(int(wide), limits.min), limits.max)
            if abs(wide) < 2.0**65
            else limits.max
            if wide > 0
            else limits.min
        )
    if dtype == bfloat16 and isinstance(value, (int, float, np.generic)):
        return dtype.type(np.float32(value))
    return np.asarray(value).astype(dtype)[()]


def bitcast(value: Any, dtype: np.dtype) -> Any:
    """Return the value of `dtype` that has the same bits."""
    return np.asarray(value).view(dtype)[()]


def _in_float32(function: Reference) -> Reference:
    """Let a function of float32 and float64 take the 16-bit floats: compute in float32, round the result."""

    @functools.wraps(function)
    def wide(*arguments: Any) -> Any:
        dtype = arguments[0].dtype
        working = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
        return dtype.type(working.type(function(*(working.type(a) for a in arguments))))

    return wide


def _value(primitive: Primitive) -> Reference:
    """Return the NumPy value of a primitive on scalars."""
    return lambda *arguments: primitive.evaluate(*arguments)[()]


def _bessel_ive(order: Any, x: Any) -> Any:
    return special.bessel_ive_p.evaluate(x, order=int(order))[()]


def _sign(x: Any) -> Any:
    return x if x == 0 or x != x else np.copysign(x.dtype.type(1), x) if is_float(x.dtype) else np.sign(x)


def _round_away(x: Any) -> Any:
    whole = np.trunc(x)
    away = whole + np.copysign(1, x) if abs(x - whole) >= 0.5 else whole
    return np.copysign(away, x)


def _max(x: Any, y: Any) -> Any:
    # The sum of two zeros is -0.0 only when both are.
    return x + y if is_float(x.dtype) and x == 0 == y else np.maximum(x, y)


def _min(x: Any, y: Any) -> Any:
    return -(-x + -y) if is_float(x.dtype) and x == 0 == y else np.minimum(x, y)


def _nextafter(x: Any, y: Any) -> Any:
    return y if x == y else np.nextafter(x, y)


def _div(x: Any, y: Any) -> Any:
    if is_float(x.dtype):
        return x / y
    if y == 0:
        return ~x.dtype.type(0)
    quotient = abs(int(x)) // abs(int(y))
    return _wrap(quotient if (x < 0) == (y < 0) else -quotient, x.dtype)


def _rem(x: Any, y: Any) -> Any:
    if is_float(x.dtype):
        return _in_float32(np.fmod)(x, y)
    if y == 0:
        return x
    magnitude = abs(int(x)) % abs(int(y))
    return x.dtype.type(-magnitude if x < 0 else magnitude)


def _pow(x: Any, y: Any) -> Any:
    if is_float(x.dtype):
        return np.power(x, y)
    base, exponent = int(x), int(y)
    if exponent < 0:
        return x.dtype.type({1: 1, -1: -1 if exponent % 2 else 1}.get(base, 0))
    return _wrap(pow(base, exponent, 1 << 8 * x.dtype.itemsize), x.dtype)


def _wrap(value: int, dtype: np.dtype) -> Any:
    bits = 8 * dtype.itemsize
    return np.dtype(f"u{dtype.itemsize}").type(value % (1 << bits)).view(dtype)


def _shift(shift: Callable[[int, int], int], *, logical: bool) -> Reference:
    def function(x: Any, y: Any) -> Any:
        bits = 8 * x.dtype.itemsize
        amount = int(y) if 0 <= y < bits else bits
        unsigned = int(x) % (1 << bits)
        negative = unsigned >> (bits - 1) and not logical
        return _wrap(shift(unsigned - (1 << bits) if negative else unsigned, amount), x.dtype)

    return function


def _clz(x: Any) -> Any:
    bits = 8 * x.dtype.itemsize
    return x.dtype.type(bits - (int(x) % (1 << bits)).bit_length())


def _population_count(x: Any) -> Any:
    return x.dtype.type((int(x) % (1 << 8 * x.dtype.itemsize)).bit_count())


_FLOAT_UNARY = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "round_away": _round_away,
    "sqrt": np.sqrt,
}

_VECTOR_MATH = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
}

_SPECIAL = (
    *((1, p) for p in (special.erf_p, special.erfc_p, special.erf_inv_p, special.lgamma_p, special.digamma_p)),
    *((1, p) for p in (special.bessel_i0e_p, special.bessel_i1e_p)),
    *((2, p) for p in (special.igamma_p, special.igammac_p, special.igamma_grad_a_p, special.random_gamma_grad_p)),
    *((2, p) for p in (special.zeta_p, special.polygamma_p)),
    (3, special.regularized_incomplete_beta_p),
)

_COMPARISONS = {
    "eq": ("==", np.equal),
    "ne": ("!=", np.not_equal),
    "lt": ("<", np.less),
    "le": ("<=", np.less_equal),
    "gt": (">", np.greater),
    "ge": (">=", np.greater_equal),
}

SCALARS: dict[str, ScalarOp] = {
    scalar.name: scalar
    for scalar in (
        ScalarOp("neg", 1, "iuf", np.negative, infix="-"),
        ScalarOp("not", 1, "biu", np.invert, infix="~"),
        ScalarOp("abs", 1, "iuf", np.abs),
        ScalarOp("sign", 1, "iuf", _sign),
        *(ScalarOp(name, 1, "f", function) for name, function in _FLOAT_UNARY.items()),
        *(ScalarOp(name, 1, "f", _in_float32(f), vector_math=True) for name, f in _VECTOR_MATH.items()),
        *(ScalarOp(p.name, arity, "f", _value(p), vector_math=True) for arity, p in _SPECIAL),
        ScalarOp("bessel_ive", 2, "f", _bessel_ive, vector_math=True),
        ScalarOp("is_finite", 1, "f", np.isfinite, result="bool"),
        ScalarOp("population_count", 1, "iu", _population_count),
        ScalarOp("clz", 1, "iu", _clz),
        ScalarOp("add", 2, "biuf", np.add, infix="+"),
        ScalarOp("sub", 2, "iuf", np.subtract, infix="-"),
        ScalarOp("mul", 2, "biuf", np.multiply, infix="*"),
        ScalarOp("div", 2, "iuf", _div, infix="/"),
        ScalarOp("rem", 2, "iuf", _rem),
        # Integer powers are emitted inline; only the float ones come from vector_math.
        ScalarOp("pow", 2, "iuf", _pow, vector_math=True),
        ScalarOp("max", 2, "biuf", _max),
        ScalarOp("min", 2, "biuf", _min),
        ScalarOp("atan2", 2, "f", _in_float32(np.arctan2), vector_math=True),
        ScalarOp("nextafter", 2, "f", _nextafter),
        ScalarOp("and", 2, "biu", np.bitwise_and, infix="&"),
        ScalarOp("or", 2, "biu", np.bitwise_or, infix="|"),
        ScalarOp("xor", 2, "biu", np.bitwise_xor, infix="^"),
        ScalarOp("shift_left", 2, "iu", _shift(lambda x, n: x << n, logical=True)),
        ScalarOp("shift_right_logical", 2, "iu", _shift(lambda x, n: x >> n, logical=True)),
        ScalarOp("shift_right_arithmetic", 2, "iu", _shift(lambda x, n: x >> n, logical=False)),
        *(ScalarOp(name, 2, "biuf", f, result="bool", infix=sign) for name, (sign, f) in _COMPARISONS.items()),
        ScalarOp("select", 3, "biuf", lambda predicate, yes, no: yes if predicate else no),
        ScalarOp("clamp", 3, "iuf", lambda low, x, high: _min(_max(x, low), high)),
        ScalarOp("cast", 1, "biuf", cast, result="free"),
        ScalarOp("bitcast", 1, "biuf", bitcast, result="free"),
    )
}

DTYPES: tuple[np.dtype, ...] = tuple(d for d in dtypes.ALL if not dtypes.is_complex(d))

# Operations that take long: worth a place in memory rather than a second evaluation.
COSTLY = {name for name, s in SCALARS.items() if s.vector_math} | {"div", "sqrt", "rem"}
