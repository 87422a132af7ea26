"""Scalar operations as source: the functions that the kernels of a module call.

What NumPy has under numba is imported. Mathematical functions are the formulas of vector_math; see `formulas`. The rest
are templates: `$T` is the dtype, `$U` and `$S` are the unsigned and the signed integer of its width, `$bits` is the
width, `$lowest` and `$highest` are the limits of an integer. A module contains only what its kernels call.
"""

from __future__ import annotations

import string

import numpy as np

from funcgrad.compiler.loops.scalars import SCALARS
from funcgrad.compiler.targets.llvm.vector_math import registry
from funcgrad.compiler.targets.numba import formulas
from funcgrad.dtypes import bfloat16, float16, is_float

_IMPORTS = {name: f"from numpy import {name}" for name in ("floor", "ceil", "sqrt", "nextafter")} | {
    "round": "from numpy import rint as round",
    "is_finite": "from numpy import isfinite as is_finite",
}
# What Python and NumPy have for LLVM's instructions.
_OF_PYTHON = {
    "fabs": "abs",
    "sqrt": "math.sqrt",
    "floor": "np.floor",
    "roundeven": "np.rint",
    "copysign": "math.copysign",
}
_EXTREMES = {"max": "maximum", "min": "minimum"}
# How a reduction combines: here alone may LLVM change the order of sums, which lets it use vectors.
_REORDERED = '@njit(error_model="numpy", fastmath={"reassoc", "contract"})'
_EXACT = '@njit(error_model="numpy")'
# Loops that call formulas are vectorized only when those are inlined.
_INLINED = '@njit(error_model="numpy", forceinline=True)'

_EXTREME = '''
@intrinsic
def $name(context, x, y):
    """The $meaning one; NaN if either is; $sign."""

    def instruction(context, builder, signature, values):
        kind = values[0].type
        function = builder.module.declare_intrinsic("llvm.$name", [kind], ir.FunctionType(kind, [kind, kind]))
        return builder.call(function, values)

    return x(x, y), instruction
'''

# Instructions that Python has no expression for. `select` computes both operands, so that there is no branch.
_INTRINSICS = {
    "fma": '''
@intrinsic
def fma(context, x, y, z):
    """x*y + z, rounded once."""
    return x(x, y, z), lambda context, builder, signature, values: builder.fma(*values)
''',
    "select": '''
@intrinsic
def select(context, condition, x, y):
    """x where the condition holds, else y; both are computed."""
    return x(condition, x, y), lambda context, builder, signature, values: builder.select(*values)
''',
    "bitcast": '''
@intrinsic
def bitcast(context, x, dtype):
    """The number of another type that has the same bits."""
    to = dtype.dtype

    def instruction(context, builder, signature, values):
        return builder.bitcast(values[0], context.get_value_type(to))

    return to(x, dtype), instruction
''',
    "check_signals": '''
@intrinsic
def check_signals(context):
    """Run the handlers of signals that have arrived; what they raise ends the function."""

    def call(builder, name, result, *arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    def instructions(context, builder, signature, values):
        # Threads that Python does not know must not wait for the GIL: their caller may hold it.
        state = call(builder, "PyGILState_GetThisThreadState", ir.IntType(8).as_pointer())
        with builder.if_then(cgutils.is_not_null(builder, state)):
            held = call(builder, "PyGILState_Ensure", ir.IntType(32))
            raised = call(builder, "PyErr_CheckSignals", ir.IntType(32))
            call(builder, "PyGILState_Release", ir.VoidType(), held)
            with builder.if_then(cgutils.is_not_null(builder, raised)):
                context.call_conv.return_exc(builder)
        return context.get_dummy_value()

    return types.void(), instructions
''',
    "maximum": _EXTREME.replace("$name", "maximum").replace("$meaning", "larger").replace("$sign", "-0.0 < 0.0"),
    "minimum": _EXTREME.replace("$name", "minimum").replace("$meaning", "smaller").replace("$sign", "-0.0 < 0.0"),
}

_IMPORTS_OF_INTRINSICS = {
    "@intrinsic": "from numba.extending import intrinsic",
    "ir.": "from llvmlite import ir",
    "cgutils.": "from numba.core import cgutils",
    "types.": "from numba.core import types",
}

_FLOAT = {
    "sign": "    return x if x == 0 or x != x else math.copysign($T(1), x)",
    "round_away": """
    whole = np.trunc(x)
    return math.copysign(whole + math.copysign($T(1), x) if abs(x - whole) >= $T(0.5) else whole, x)""",
    "rem": "    return np.fmod(x, y)",
}
_INTEGER = {
    "max": "    return x if x > y else y",
    "min": "    return x if x < y else y",
    "sign": "    return $T(1) if x > 0 else ($T(-1) if x < 0 else $T(0))",
    "div": """
    if y == 0:
        return $T($ones)
    if $T(0) > $T(-1) and y == $T(-1):
        return $T(-x)
    quotient = $T(x // y)  # Python rounds it down
    inexact = $T(quotient * y) != x
    return $T(quotient + $T(1)) if inexact and (x < 0) != (y < 0) else quotient""",
    "rem": """
    if y == 0:
        return x
    if $T(0) > $T(-1) and y == $T(-1):
        return $T(0)
    rest = $T(x % y)  # Python gives it the sign of y
    return $T(rest - y) if rest != 0 and (rest < 0) != (x < 0) else rest""",
    "pow": """
    if y < 0 and x != $T(1) and x != $T(-1):
        return $T(0)
    result, square, rest = $T(1), x, $U(-y) if y < 0 else $U(y)
    while rest != 0:
        if rest & $U(1):
            result = $T(result * square)
        square = $T(square * square)
        rest = $U(rest >> $U(1))
    return result""",
    "shift_left": "    return $T($U(x) << $U(y)) if 0 <= y < $bits else $T(0)",
    "shift_right_logical": "    return $T($U(x) >> $U(y)) if 0 <= y < $bits else $T(0)",
    "shift_right_arithmetic": "    return $T($S(x) >> ($S(y) if 0 <= y < $bits else $S($bits - 1)))",
    "population_count": """
    rest, count = $U(x), 0
    while rest != 0:
        rest = $U(rest & $U(rest - $U(1)))
        count += 1
    return $T(count)""",
    "clz": """
    rest, count = $U(x), $bits
    while rest != 0:
        rest = $U(rest >> $U(1))
        count -= 1
    return $T(count)""",
}
_ARITY = {"rem": 2, "pow": 2, "max": 2, "min": 2, "div": 2} | {
    f"shift_{name}": 2 for name in ("left", "right_logical", "right_arithmetic")
}
_SATURATE = """
    if x != x:
        return $T(0)
    if x <= $below:
        return $T($lowest)
    return $T($highest) if x >= $above else $T(x)"""

# The 16-bit floats are stored as integers and computed in float32; each operation rounds to nearest even.
_SIXTEEN = {
    "bfloat16": (
        "    return np.int32(np.uint32(x) << np.uint32(16)).view(np.float32)",
        """
    bits = np.uint32(np.float32(x).view(np.int32))
    if x != x:
        return np.uint16((bits >> np.uint32(16)) | np.uint32(64))
    return np.uint16((bits + np.uint32(32767) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))""",
    ),
    "float16": (
        """
    sign, rest = np.uint32(x >> 15) << np.uint32(31), np.uint32(x & 32767)
    if rest >= np.uint32(31744):  # infinity and NaN
        return np.int32(sign | np.uint32(2139095040) | ((rest & np.uint32(1023)) << np.uint32(13))).view(np.float32)
    if rest < np.uint32(1024):  # zero and subnormal numbers
        magnitude = np.float32(rest) * np.float32(2.0**-24)
        return -magnitude if sign else magnitude
    return np.int32(sign | ((rest << np.uint32(13)) + np.uint32(939524096))).view(np.float32)""",
        """
    bits = np.uint32(np.float32(x).view(np.int32))
    sign, rest = np.uint32(bits >> np.uint32(16)) & np.uint32(32768), bits & np.uint32(2147483647)
    if rest > np.uint32(2139095040):
        return np.uint16(sign | np.uint32(32256))
    if rest >= np.uint32(1199570944):  # rounds to infinity
        return np.uint16(sign | np.uint32(31744))
    if rest < np.uint32(947912704):  # below the normal numbers: in units of 2 ** -24
        return np.uint16(sign | np.uint32(np.rint(abs(x) * np.float32(2.0**24))))
    rest = rest - np.uint32(939524096)
    return np.uint16(sign | ((rest + np.uint32(4095) + ((rest >> np.uint32(13)) & np.uint32(1))) >> np.uint32(13)))""",
    ),
}


_NEXT_AFTER = """
    if x == y or x != x or y != y:
        return y if x == y else x + y
    if x == 0:
        return math.copysign($back(np.uint16(1)), y)
    bits = $there(x)
    return $back(np.uint16(bits + 1) if (y > x) == (x > 0) else np.uint16(bits - 1))"""

SIXTEEN_BIT = (float16, bfloat16)


class Functions:
    """Collects what a module's kernels call, and writes it."""

    def __init__(self) -> None:
        self.imports: dict[str, str] = {}
        self.definitions: dict[str, str] = {}

    def texts(self) -> list[str]:
        """Return imports and definitions, each after those that it needs."""
        return [*self.imports.values(), *self.definitions.values()]

    def operation(self, name: str, dtype: np.dtype) -> str:
        """Return the name that calls an operation on `dtype`."""
        if is_float(dtype):
            dtype = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
            if name in _IMPORTS:
                self.imports[name] = _IMPORTS[name]
                return name
            if name in _EXTREMES:
                return self.intrinsic(_EXTREMES[name])
            if SCALARS[name].vector_math:
                return self._formula(name, dtype)
        body = (_FLOAT if is_float(dtype) else _INTEGER)[name]
        parameters = "x, y" if _ARITY.get(name) == 2 else "x"
        return self._define(f"{name}_{dtype.name}", parameters, body, dtype)

    def accumulate(self, name: str, sign: str, dtype: np.dtype) -> str:
        """Return the name that combines a floating-point accumulator with a value, in any order."""
        return self._define(f"{name}_up_{dtype.name}", "x, y", f"    return x {sign} y", dtype, _REORDERED)

    def saturate(self, dtype: np.dtype) -> str:
        """Return the name that converts a float to an integer, saturating, NaN as 0."""
        return self._define(f"saturate_{dtype.name}", "x", _SATURATE, dtype)

    def from_bits(self, dtype: np.dtype) -> str:
        """Return the name that makes a float32 of the bits of a 16-bit float."""
        return self._define(f"from_{dtype.name}", "x", _SIXTEEN[dtype.name][0], np.dtype(np.float32))

    def to_bits(self, dtype: np.dtype) -> str:
        """Return the name that rounds a float32 to the bits of a 16-bit float."""
        return self._define(f"to_{dtype.name}", "x", _SIXTEEN[dtype.name][1], np.dtype(np.float32))

    def rounded(self, dtype: np.dtype) -> str:
        """Return the name that rounds a float32 to a value of a 16-bit float."""
        back, there = self.from_bits(dtype), self.to_bits(dtype)
        return self._define(f"round_{dtype.name}", "x", f"    return {back}({there}(x))", np.dtype(np.float32))

    def next_after(self, dtype: np.dtype) -> str:
        """Return the name that gives the neighbor of a 16-bit float."""
        back, there = self.from_bits(dtype), self.to_bits(dtype)
        text = _NEXT_AFTER.replace("$back", back).replace("$there", there)
        return self._define(f"nextafter_{dtype.name}", "x, y", text, np.dtype(np.float32))

    def bitcast(self, dtype: np.dtype, to: np.dtype) -> str:
        """Return a call that reinterprets the bits of a number, which braces stand for."""
        return f"{self.intrinsic('bitcast')}({{}}, {to.name})"

    def intrinsic(self, name: str, dtype: np.dtype | None = None) -> str:
        """Return the name of an instruction, whatever the dtype."""
        if name in _OF_PYTHON:
            return _OF_PYTHON[name]
        for symbol, line in _IMPORTS_OF_INTRINSICS.items():
            if symbol in _INTRINSICS[name]:
                self.imports[symbol] = line
        self.definitions.setdefault(name, _INTRINSICS[name])
        return name

    def _formula(self, name: str, dtype: np.dtype) -> str:
        symbol = f"{name}_{dtype.name}"
        if symbol not in self.definitions:
            parameters = ", ".join(formulas.PARAMETERS[: SCALARS[name].arity])
            meaning = registry.formula(name).__doc__
            body = formulas.source(name, dtype, self)
            decorator = _EXACT if registry.loops(name) else _INLINED
            self.definitions[symbol] = f'{decorator}\ndef {symbol}({parameters}):\n    """{meaning}"""\n{body}\n'
        return symbol

    def _define(self, name: str, parameters: str, body: str, dtype: np.dtype, decorator: str = _EXACT) -> str:
        if name not in self.definitions:
            text = string.Template(body.strip("\n")).safe_substitute(_of_dtype(dtype))
            self.definitions[name] = f"{decorator}\ndef {name}({parameters}):\n{text}\n"
        return name


def _of_dtype(dtype: np.dtype) -> dict[str, str]:
    bits = 8 * dtype.itemsize
    known = {"T": dtype.name, "U": f"uint{bits}", "S": f"int{bits}", "bits": str(bits)}
    if is_float(dtype):
        return known
    limits = np.iinfo(dtype)
    lowest, highest = int(limits.min), int(limits.max)
    ones = -1 if lowest else highest
    # Floats that are surely representable: 2^n, and not 2^n - 1, which may round up to it.
    below, above = repr(float(lowest)), repr(float(highest + 1))
    return known | {
        "lowest": str(lowest),
        "highest": str(highest),
        "ones": str(ones),
        "below": below,
        "above": above,
    }
