"""Scalar operations on the device, as Python functions that numba.cuda compiles.

Functions of real numbers come from libdevice, which has one for each width (`expf`, `exp`), or are the formulas of
vector_math as Python; the simulator has no libdevice and takes the references of `compiler.loops.scalars`. The rest
are written here once for every dtype T, and the simulator runs the same text that the device does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.compiler.loops.scalars import DTYPES, SCALARS, bitcast
from funcgrad.compiler.targets.cuda import target
from funcgrad.compiler.targets.numba import formulas
from funcgrad.dtypes import float32, is_float

Function = Callable[..., Any]

# libdevice's name of each function in double precision; single precision adds an f.
_SAME_NAME = """exp exp2 log log2 log1p expm1 rsqrt cbrt sin cos tan asin acos atan sinh cosh tanh asinh
acosh atanh erf erfc lgamma pow atan2 nextafter sqrt floor ceil"""
_OTHER_NAME = {"abs": "fabs", "round": "rint", "round_away": "round", "rem": "fmod", "erf_inv": "erfinv"}
_LIBDEVICE = {name: name for name in _SAME_NAME.split()} | _OTHER_NAME
_BITCASTS = {
    ("float32", "int32"): "float_as_int",
    ("int32", "float32"): "int_as_float",
    ("float64", "int64"): "double_as_longlong",
    ("int64", "float64"): "longlong_as_double",
}


@functools.cache
def operation(name: str, dtype: np.dtype) -> Function:
    """Return the device function of operation `name` on arguments of `dtype`."""
    if is_float(dtype) and name in _LIBDEVICE:
        single = "f" if dtype == float32 else ""
        return SCALARS[name].reference if target.SIMULATED else target.library(_LIBDEVICE[name] + single)
    if is_float(dtype) and name not in _FLOAT:
        return SCALARS[name].reference if target.SIMULATED else _formula(name, dtype)
    return target.device_function((_FLOAT if is_float(dtype) else _INTEGER)[name](dtype))


class _Callees:
    """Collects the device functions that a formula calls, by the names that it calls them."""

    _LIBRARY = {
        "fabs": "fabs",
        "sqrt": "sqrt",
        "floor": "floor",
        "roundeven": "rint",
        "copysign": "copysign",
        "fma": "fma",
    }

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {d.name: d.type for d in DTYPES} | {"inf": math.inf, "nan": math.nan}

    def _add(self, name: str, function: Function) -> str:
        self.namespace[name] = function
        return name

    def operation(self, name: str, dtype: np.dtype) -> str:
        return self._add(f"{name}_{dtype.name}", operation(name, dtype))

    def intrinsic(self, name: str, dtype: np.dtype) -> str:
        if name == "select":
            return self._add(name, target.device_function(lambda condition, x, y: x if condition else y))
        single = "f" if dtype == float32 else ""
        return self._add(f"{name}_{dtype.name}", target.library(self._LIBRARY[name] + single))

    def bitcast(self, dtype: np.dtype, to: np.dtype) -> str:
        return self._add(f"bitcast_{dtype.name}_{to.name}", reinterpret(dtype, to)) + "({})"


def _formula(name: str, dtype: np.dtype) -> Function:
    callees = _Callees()
    parameters = ", ".join(formulas.PARAMETERS[: SCALARS[name].arity])
    source = f"def {name}({parameters}):\n{formulas.source(name, dtype, callees)}\n"
    exec(compile(source, f"<formula {name}>", "exec"), callees.namespace)
    return target.device_function(callees.namespace[name])


@functools.cache
def saturate(dtype: np.dtype) -> Function:
    """Return the device function that converts a float to the integer `dtype`, saturating, NaN as 0."""
    T, limits = dtype.type, np.iinfo(dtype)
    lowest, highest = limits.min, limits.max
    # Floats that are surely representable: 2^n, and not 2^n - 1, which may round up to it.
    below, above = float(lowest), float(highest + 1)

    def saturated(x):
        if x != x:
            return T(0)
        if x <= below:
            return T(lowest)
        return T(highest) if x >= above else T(x)

    return target.device_function(saturated)


@functools.cache
def reinterpret(source: np.dtype, to: np.dtype) -> Function:
    """Return the device function that gives the value of dtype `to` with the same bits."""
    if target.SIMULATED:
        return functools.partial(bitcast, dtype=to)
    if (source.name, to.name) in _BITCASTS:
        return target.library(_BITCASTS[source.name, to.name])
    # Unsigned integers go by way of the signed one of their width; integers among themselves are conversions.
    signed, T = np.dtype(f"i{to.itemsize}"), to.type
    if is_float(to):
        S, convert = signed.type, reinterpret(signed, to)
        return target.device_function(lambda x: convert(S(x)))
    if is_float(source):
        convert = reinterpret(source, signed)
        return target.device_function(lambda x: T(convert(x)))
    return target.device_function(lambda x: T(x))


# ------------------------------------------------------------------------------------- functions for a dtype
def _max(dtype: np.dtype) -> Function:
    def maximum(x, y):
        if x != x or y != y or (x == 0 and y == 0):
            return x + y  # NaN; of two zeros -0.0 only if both are
        return x if x > y else y

    return maximum


def _min(dtype: np.dtype) -> Function:
    def minimum(x, y):
        if x != x or y != y or (x == 0 and y == 0):
            return -(-x + -y)
        return x if x < y else y

    return minimum


def _integer_max(dtype: np.dtype) -> Function:
    return lambda x, y: x if x > y else y


def _integer_min(dtype: np.dtype) -> Function:
    return lambda x, y: x if x < y else y


def _sign(dtype: np.dtype) -> Function:
    T = dtype.type

    def sign(x):
        if x > 0:
            return T(1)
        return T(-1) if x < 0 else x

    return sign


def _unsigned_sign(dtype: np.dtype) -> Function:
    T = dtype.type
    return lambda x: T(1) if x > 0 else T(0)


def _absolute(dtype: np.dtype) -> Function:
    T = dtype.type
    return (lambda x: T(-x) if x < 0 else x) if dtype.kind == "i" else (lambda x: x)


def _is_finite(dtype: np.dtype) -> Function:
    return lambda x: math.isfinite(x)


def _divide(dtype: np.dtype) -> Function:
    T, ones, signed = dtype.type, dtype.type(~dtype.type(0)), dtype.kind == "i"

    def divide(x, y):
        if y == 0:
            return ones
        if signed and y == ones:
            return T(-x)
        # Python rounds a quotient down.
        quotient = T(x // y)
        inexact = T(quotient * y) != x
        return T(quotient + T(1)) if inexact and (x < 0) != (y < 0) else quotient

    return divide


def _remainder(dtype: np.dtype) -> Function:
    T, divide = dtype.type, operation("div", dtype)

    def remainder(x, y):
        return x if y == 0 else T(x - T(divide(x, y) * y))

    return remainder


def _power(dtype: np.dtype) -> Function:
    T = dtype.type

    def power(x, exponent):
        if exponent < 0 and x != T(1) and x != T(-1 if T(0) - T(1) < 0 else 1):
            return T(0)
        result, square, rest = T(1), x, T(-exponent) if exponent < 0 else exponent
        while rest != 0:
            if rest & T(1):
                result = T(result * square)
            square = T(square * square)
            rest = T((rest >> T(1)) & T(half))
        return result

    half = np.iinfo(dtype).max >> (dtype.kind == "u")
    return power


def _shift(dtype: np.dtype, left: bool, arithmetic: bool) -> Function:
    bits, T = 8 * dtype.itemsize, dtype.type
    S = np.dtype(f"{'i' if arithmetic else 'u'}{dtype.itemsize}").type
    if left:
        return lambda x, n: T(S(x) << S(n)) if n >= 0 and n < bits else T(0)
    if arithmetic:
        return lambda x, n: T(S(x) >> (S(n) if n >= 0 and n < bits else S(bits - 1)))
    return lambda x, n: T(S(x) >> S(n)) if n >= 0 and n < bits else T(0)


def _count(dtype: np.dtype, name: str, library: str, excess: int) -> Function:
    if target.SIMULATED:
        return SCALARS[name].reference
    wide = dtype.itemsize == 8
    T, U, W = dtype.type, np.dtype(f"u{dtype.itemsize}").type, np.int64 if wide else np.int32
    count = target.library(library + ("ll" if wide else ""))
    return lambda x: T(count(W(U(x))) - excess)


_FLOAT: dict[str, Callable[[np.dtype], Function]] = {
    "max": _max,
    "min": _min,
    "sign": _sign,
    "is_finite": _is_finite,
}
_INTEGER: dict[str, Callable[[np.dtype], Function]] = {
    "max": _integer_max,
    "min": _integer_min,
    "sign": lambda dtype: (_sign if dtype.kind == "i" else _unsigned_sign)(dtype),
    "abs": _absolute,
    "div": _divide,
    "rem": _remainder,
    "pow": _power,
    "shift_left": lambda dtype: _shift(dtype, left=True, arithmetic=False),
    "shift_right_logical": lambda dtype: _shift(dtype, left=False, arithmetic=False),
    "shift_right_arithmetic": lambda dtype: _shift(dtype, left=False, arithmetic=True),
    "population_count": lambda dtype: _count(dtype, "population_count", "popc", 0),
    "clz": lambda dtype: _count(dtype, "clz", "clz", max(32 - 8 * dtype.itemsize, 0)),
}
