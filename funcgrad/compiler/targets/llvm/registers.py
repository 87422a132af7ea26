"""Values in registers and in memory: their LLVM types, and the code that converts them.

The type of a value in registers differs from its type in memory where that pays: a bool is an i1 and one byte; a
float16 or bfloat16 is a float whose value the narrow type can represent, rounded after every operation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from funcgrad.dtypes import bfloat16, bool_, float16, float64, is_float

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
CONTRACT = ("contract",)


def register_type(dtype: np.dtype) -> ir.Type:
    """Return the LLVM type in which a value of `dtype` is computed."""
    if dtype == bool_:
        return I1
    if is_float(dtype):
        return DOUBLE if dtype == float64 else FLOAT
    return ir.IntType(8 * dtype.itemsize)


def memory_type(dtype: np.dtype) -> ir.Type:
    """Return the LLVM type in which a value of `dtype` is stored: i16 for bfloat16, which llvmlite lacks."""
    return {bool_: I8, float16: HALF, bfloat16: I16}.get(dtype, register_type(dtype))


def like(kind: ir.Type, value: ir.Value) -> ir.Type:
    """Return a type for each element, where a value is a vector."""
    return ir.VectorType(kind, value.type.count) if isinstance(value.type, ir.VectorType) else kind


def number(kind: ir.Type, value: bool | int | float) -> ir.Constant:
    """Return a number of a type, in each element of a vector."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def constant(value: bool | int | float, dtype: np.dtype) -> ir.Constant:
    """Return a constant in its register type."""
    return ir.Constant(register_type(dtype), value)


class Conversions:
    """Appends the code of conversions to a builder."""

    def __init__(self, builder: ir.IRBuilder):
        self.b = builder

    def from_memory(self, value: ir.Value, dtype: np.dtype) -> ir.Value:
        """Return the register form of a loaded value."""
        if dtype == bool_:
            return self.b.icmp_unsigned("!=", value, number(value.type, 0))
        if dtype == float16:
            return self.b.fpext(value, like(FLOAT, value))
        if dtype == bfloat16:
            wide = like(I32, value)
            return self.b.bitcast(self.b.shl(self.b.zext(value, wide), number(wide, 16)), like(FLOAT, value))
        return value

    def to_memory(self, value: ir.Value, dtype: np.dtype) -> ir.Value:
        """Return the form of a value that is stored."""
        if dtype == bool_:
            return self.b.zext(value, like(I8, value))
        if dtype == float16:
            return self.b.fptrunc(value, like(HALF, value))
        if dtype == bfloat16:
            wide = like(I32, value)
            return self.b.trunc(self.b.lshr(self.b.bitcast(value, wide), number(wide, 16)), like(I16, value))
        return value

    def bits(self, value: ir.Value, dtype: np.dtype) -> ir.Value:
        """Return the bits of a value as an integer of its width."""
        stored = self.to_memory(value, dtype)
        integer = ir.IntType(8 * dtype.itemsize)
        return stored if stored.type == integer else self.b.bitcast(stored, integer)

    def from_bits(self, bits: ir.Value, dtype: np.dtype) -> ir.Value:
        """Return the value that has these bits."""
        stored = bits if bits.type == memory_type(dtype) else self.b.bitcast(bits, memory_type(dtype))
        return self.from_memory(stored, dtype)

    def rounded(self, value: ir.Value, dtype: np.dtype) -> ir.Value:
        """Round a float to the nearest float16 or bfloat16, ties to even; other dtypes need no rounding."""
        if dtype == float16:
            return self.b.fpext(self.b.fptrunc(value, like(HALF, value)), like(FLOAT, value))
        if dtype != bfloat16:
            return value
        b, wide = self.b, like(I32, value)
        bits = b.bitcast(value, wide)
        odd = b.and_(b.lshr(bits, number(wide, 16)), number(wide, 1))
        up = b.add(b.add(bits, number(wide, 0x7FFF)), odd)
        # Rounding up could carry a NaN's mantissa into infinity.
        up = b.select(b.fcmp_unordered("uno", value, value), b.or_(bits, number(wide, 0x400000)), up)
        return b.bitcast(b.and_(up, number(wide, 0xFFFF0000)), like(FLOAT, value))

    def compare(self, sign: str, x: ir.Value, y: ir.Value, dtype: np.dtype) -> ir.Value:
        """Compare two values; NaN is unequal to everything."""
        if is_float(dtype):
            return (self.b.fcmp_unordered if sign == "!=" else self.b.fcmp_ordered)(sign, x, y)
        return (self.b.icmp_signed if dtype.kind == "i" else self.b.icmp_unsigned)(sign, x, y)

    def cast(self, value: ir.Value, source: np.dtype, target: np.dtype) -> ir.Value:
        """Convert a value: floats to integers saturate, anything to bool is `value != 0`."""
        if source == target:
            return value
        if target == bool_:
            return self.compare("!=", value, number(value.type, 0), source)
        if is_float(source):
            return self._float_to_float(value, source, target) if is_float(target) else self._saturate(value, target)
        if is_float(target):
            convert = self.b.sitofp if source.kind == "i" else self.b.uitofp
            return self.rounded(convert(value, like(register_type(target), value)), target)
        kind = like(register_type(target), value)
        if target.itemsize < source.itemsize and source != bool_:
            return self.b.trunc(value, kind)
        if target.itemsize == source.itemsize and source != bool_:
            return value
        return (self.b.sext if source.kind == "i" else self.b.zext)(value, kind)

    def _float_to_float(self, value: ir.Value, source: np.dtype, target: np.dtype) -> ir.Value:
        if target == float64:
            return self.b.fpext(value, like(DOUBLE, value))
        if source == float64:
            value = self._truncate_to_odd(value) if target == float16 else self.b.fptrunc(value, like(FLOAT, value))
        return self.rounded(value, target)

    def _truncate_to_odd(self, value: ir.Value) -> ir.Value:
        """Convert f64 to f32 rounding to odd, so that rounding the result to float16 rounds as if once.

        Boldo & Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57 (2008).
        """
        b, nearest = self.b, self.b.fptrunc(value, FLOAT)
        back = b.fpext(nearest, DOUBLE)
        magnitude = [self.intrinsic("fabs", [v]) for v in (back, value)]
        above = b.zext(b.fcmp_ordered(">", *magnitude), I32)
        inexact = b.zext(b.fcmp_ordered("!=", back, value), I32)
        return b.bitcast(b.or_(b.sub(b.bitcast(nearest, I32), above), inexact), FLOAT)

    def _saturate(self, value: ir.Value, target: np.dtype) -> ir.Value:
        """Convert a float to an integer by clamping; LLVM's saturating intrinsic is far slower."""
        b, limits = self.b, np.iinfo(target)
        real = np.float64 if value.type == DOUBLE else np.float32
        lowest, highest = real(limits.min), real(limits.max)
        exact = int(highest) == limits.max
        # Where the maximum is no float, the nearest one is the power of two above it.
        most = highest if exact else np.nextafter(highest, real(0))
        number = b.select(b.fcmp_unordered("uno", value, value), ir.Constant(value.type, 0.0), value)
        low, high = ir.Constant(value.type, float(lowest)), ir.Constant(value.type, float(most))
        clamped = b.select(b.fcmp_ordered("<", number, low), low, number)
        clamped = b.select(b.fcmp_ordered(">", number, high), high, clamped)
        # CPUs convert vectors to 32 and 64 bits only.
        wide = ir.IntType(max(8 * target.itemsize, 32))
        signed = target.kind == "i" or target.itemsize < 4
        converted = (b.fptosi if signed else b.fptoui)(clamped, wide)
        if wide.width > 8 * target.itemsize:
            return b.trunc(converted, register_type(target))
        above = b.fcmp_ordered(">", number, high)
        return converted if exact else b.select(above, ir.Constant(wide, limits.max), converted)

    # ------------------------------------------------------------------------------------------- intrinsics
    def intrinsic(
        self, name: str, values: Sequence[ir.Value], *immediates: ir.Value, flags: tuple[str, ...] = ()
    ) -> ir.Value:
        """Call `llvm.<name>`, overloaded on the type of its first argument."""
        kind = values[0].type
        return self._call(f"llvm.{name}.{_suffix(kind)}", kind, [*values, *immediates], flags)

    def _call(self, name: str, result: ir.Type, values: Sequence[ir.Value], flags: tuple[str, ...] = ()) -> ir.Value:
        return self.b.call(declare(self.b.module, name, result, [v.type for v in values]), values, fastmath=flags)


def declare(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """Return the function `name` of a module, declared if it is new."""
    known = module.globals.get(name)
    return known or ir.Function(module, ir.FunctionType(result, arguments), name)


def _suffix(kind: ir.Type) -> str:
    return {HALF: "f16", FLOAT: "f32", DOUBLE: "f64"}.get(kind) or str(kind)
