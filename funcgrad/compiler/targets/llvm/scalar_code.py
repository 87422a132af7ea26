"""LLVM code for scalar operations, without branches, so that the loops around them vectorize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from funcgrad.compiler.loops.scalars import SCALARS
from funcgrad.compiler.targets.llvm import vector_math
from funcgrad.compiler.targets.llvm.registers import CONTRACT, DOUBLE, FLOAT, I1, I32, I64, Conversions
from funcgrad.dtypes import bool_, is_float

_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_SHIFTS = {"shift_left": "shl", "shift_right_logical": "lshr", "shift_right_arithmetic": "ashr"}
_FLOAT_INTRINSICS = {
    "abs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "round": "roundeven",
    "round_away": "round",
    "sqrt": "sqrt",
    "max": "maximum",
    "min": "minimum",
}
# Operations whose result is representable in a 16-bit float when the arguments are.
_EXACT = {
    "neg",
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "round_away",
    "max",
    "min",
    "select",
    "clamp",
    "nextafter",
}


class ScalarCode(Conversions):
    """Appends the code of scalar operations to a builder."""

    def __init__(self, builder: ir.IRBuilder):
        super().__init__(builder)
        self.in_series = False  # whether the code is in a loop whose iterations wait for each other
        self.math_calls: list[ir.CallInstr] = []  # those outside of such loops

    def operation(
        self,
        name: str,
        values: Sequence[ir.Value],
        argument: np.dtype,
        result: np.dtype,
        flags: tuple[str, ...] = CONTRACT,
    ) -> ir.Value:
        """Emit operation `name` on `values` of dtype `argument` (of `select`: that of its two values)."""
        if name == "cast":
            return self.cast(values[0], argument, result)
        if name == "bitcast":
            return self.from_bits(self.bits(values[0], argument), result)
        if name == "select":
            return self.b.select(*values)
        if name == "clamp":
            low, x, high = values
            return self.operation("min", [self.operation("max", [x, low], argument, result), high], argument, result)
        if name in _COMPARISONS:
            return self.compare(_COMPARISONS[name], *values, argument)
        if not is_float(argument):
            return (self._bool if argument == bool_ else self._integer)(name, values, argument)
        found = self._float(name, values, argument, flags)
        return found if name in _EXACT or result == bool_ else self.rounded(found, result)

    # --------------------------------------------------------------------------------------------- families
    def _bool(self, name: str, values: Sequence[ir.Value], dtype: np.dtype) -> ir.Value:
        if name == "not":
            return self.b.not_(values[0])
        if name == "xor":
            return self.b.xor(*values)
        return (self.b.or_ if name in ("or", "add", "max") else self.b.and_)(*values)

    def _extreme(self, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
        """Maximum or minimum without a branch; LLVM's intrinsic branches on the sign of a scalar."""
        b, integer = self.b, I64 if x.type == DOUBLE else I32
        better = b.select(b.fcmp_ordered(">" if name == "max" else "<", x, y), x, y)
        bits = (b.and_ if name == "max" else b.or_)(b.bitcast(x, integer), b.bitcast(y, integer))
        better = b.select(b.fcmp_ordered("==", x, y), b.bitcast(bits, x.type), better)  # zeros of both signs
        return b.select(b.fcmp_unordered("uno", x, x), x, better)

    def _integer(self, name: str, values: Sequence[ir.Value], dtype: np.dtype) -> ir.Value:
        b, signed, x = self.b, dtype.kind == "i", values[0]
        if name in ("neg", "not"):
            return b.neg(x) if name == "neg" else b.not_(x)
        if name in ("add", "sub", "mul", "and", "or", "xor"):
            return {"and": b.and_, "or": b.or_}.get(name, getattr(b, name, None))(*values)
        if name == "abs":
            return self.intrinsic("abs", [x], ir.Constant(I1, 0)) if signed else x
        if name == "sign":
            negative = b.icmp_signed("<", x, ir.Constant(x.type, 0)) if signed else ir.Constant(I1, 0)
            return b.or_(b.sext(negative, x.type), b.zext(b.icmp_signed("!=", x, ir.Constant(x.type, 0)), x.type))
        if name in ("max", "min"):
            return self.intrinsic(("s" if signed else "u") + name, values)
        if name == "population_count":
            return self.intrinsic("ctpop", [x])
        if name == "clz":
            return self.intrinsic("ctlz", [x], ir.Constant(I1, 0))
        if name in _SHIFTS:
            return self._shift(_SHIFTS[name], *values)
        return {"div": self._divide, "rem": self._remainder, "pow": self._power}[name](*values, signed)

    def _float(self, name: str, values: Sequence[ir.Value], dtype: np.dtype, flags: tuple[str, ...]) -> ir.Value:
        b = self.b
        if name == "neg":
            return b.fneg(values[0])
        if name in ("add", "sub", "mul", "div"):
            return getattr(b, "f" + name)(*values, flags=flags)
        if name in ("max", "min") and self.in_series:
            return self._extreme(name, *values)
        if name in _FLOAT_INTRINSICS:
            return self.intrinsic(_FLOAT_INTRINSICS[name], values, flags=tuple(f for f in flags if f == "nsz"))
        if name == "is_finite":
            return b.fcmp_ordered("<", self.intrinsic("fabs", values), ir.Constant(values[0].type, float("inf")))
        if name == "sign":
            x, one = values[0], ir.Constant(values[0].type, 1.0)
            nonzero = b.fcmp_ordered("!=", x, ir.Constant(x.type, 0.0))
            return b.select(nonzero, self.intrinsic("copysign", [one, x]), x)
        if name == "nextafter":
            return self._nextafter(*values, dtype)
        if name == "rem":
            return self._fmod(*values) if values[0].type == FLOAT else b.frem(*values)
        assert SCALARS[name].vector_math, name
        call = b.call(vector_math.define(b.module, name, values[0].type, self.in_series), values)
        self.math_calls += [] if self.in_series else [call]
        return call

    # ------------------------------------------------------------------------------------------- operations
    def _shift(self, shift: str, x: ir.Value, amount: ir.Value) -> ir.Value:
        """Shift. Amounts of at least the width, which are undefined in LLVM, give 0 or the sign."""
        b, width = self.b, x.type.width
        inside = b.icmp_unsigned("<", amount, ir.Constant(x.type, width))
        most = ir.Constant(x.type, width - 1)
        if shift == "ashr":
            return b.ashr(x, b.select(inside, amount, most))
        # The masked amount keeps the shift defined where the select discards it.
        return b.select(inside, getattr(b, shift)(x, b.and_(amount, most)), ir.Constant(x.type, 0))

    def _divide(self, x: ir.Value, y: ir.Value, signed: bool) -> ir.Value:
        zero, divisor = self._safe_divisor(x, y, signed)
        return self.b.select(zero, ir.Constant(x.type, -1), self._quotient(x, divisor, signed))

    def _remainder(self, x: ir.Value, y: ir.Value, signed: bool) -> ir.Value:
        zero, divisor = self._safe_divisor(x, y, signed)
        quotient = self._quotient(x, divisor, signed)
        return self.b.select(zero, x, self.b.sub(x, self.b.mul(quotient, divisor)))

    def _safe_divisor(self, x: ir.Value, y: ir.Value, signed: bool) -> tuple[ir.Value, ir.Value]:
        """Return (y is zero, y or 1 where the machine would trap): zero, and -1 under the least integer."""
        b, one, width = self.b, ir.Constant(x.type, 1), x.type.width
        if isinstance(y, ir.Constant) and y.constant not in (0, -1, (1 << width) - 1):
            return ir.Constant(I1, 0), y
        zero = b.icmp_unsigned("==", y, ir.Constant(x.type, 0))
        traps = zero
        if signed:
            least = b.icmp_unsigned("==", x, ir.Constant(x.type, -(1 << (width - 1))))
            traps = b.or_(zero, b.and_(least, b.icmp_unsigned("==", y, ir.Constant(x.type, -1))))
        return zero, b.select(traps, one, y)

    def _quotient(self, x: ir.Value, y: ir.Value, signed: bool) -> ir.Value:
        """Divide. CPUs have no vector integer division; below 64 bits the truncated float quotient is exact. LLVM makes
        products of a constant divisor.

        For n-bit integers x/y differs from the integer above by 1/x of its size at least, which n + 1 bits of
        mantissa resolve: float holds 16-bit quotients, double 32-bit ones.
        """
        b, width = self.b, x.type.width
        if width == 64 or isinstance(y, ir.Constant):
            return (b.sdiv if signed else b.udiv)(x, y)
        real = FLOAT if width <= 16 else DOUBLE
        convert, back = (b.sitofp, b.fptosi) if signed else (b.uitofp, b.fptoui)
        return back(b.fdiv(convert(x, real), convert(y, real)), x.type)

    def _power(self, x: ir.Value, exponent: ir.Value, signed: bool) -> ir.Value:
        """Power by squaring: the multiplications of a constant exponent, a loop for a variable one."""
        if not isinstance(exponent, ir.Constant):
            return self.b.call(_power_function(self.b.module, x.type, signed), [x, exponent])
        if exponent.constant < 0:
            return self._reciprocal_power(x, ir.Constant(ir.IntType(1), exponent.constant & 1))
        result, square = ir.Constant(x.type, 1), x
        for bit in f"{exponent.constant:b}"[::-1]:
            result = self.b.mul(result, square) if bit == "1" else result
            square = self.b.mul(square, square)
        return result

    def _reciprocal_power(self, x: ir.Value, odd: ir.Value) -> ir.Value:
        """Return x to a negative power: for x = ±1 by the exponent's parity 1 or -1, truncated to 0 else."""
        b, one, minus, zero = self.b, *(ir.Constant(x.type, v) for v in (1, -1, 0))
        of_minus = b.select(odd, minus, one)
        other = b.select(b.icmp_signed("==", x, minus), of_minus, zero)
        return b.select(b.icmp_signed("==", x, one), one, other)

    def _nextafter(self, x: ir.Value, y: ir.Value, dtype: np.dtype) -> ir.Value:
        b, bits, toward = self.b, self.bits(x, dtype), self.bits(y, dtype)
        one, sign = ir.Constant(bits.type, 1), ir.Constant(bits.type, 1 << (bits.type.width - 1))
        zero = ir.Constant(x.type, 0.0)
        grows = b.icmp_unsigned("==", b.fcmp_ordered("<", x, y), b.fcmp_ordered(">", x, zero))
        moved = b.add(bits, b.select(grows, one, ir.Constant(bits.type, -1)))
        moved = b.select(b.fcmp_ordered("==", x, zero), b.or_(b.and_(toward, sign), one), moved)
        moved = b.select(b.fcmp_ordered("==", x, y), toward, moved)
        nan = ir.Constant(x.type, float("nan"))
        return b.select(b.fcmp_unordered("uno", x, y), nan, self.from_bits(moved, dtype))

    def _fmod(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """C's fmod of floats, exactly, by long division in double with 52-bit digits.

        A quotient below 2^277 has at most six such digits. Each is off by at most one, upward, and the fused
        multiply-add gives the remainder exactly: it is a multiple of the smaller unit in the last place.
        """
        b = self.b
        rest, divisor = (b.fpext(self.intrinsic("fabs", [v]), DOUBLE) for v in (x, y))
        for digit in range(5, -1, -1):
            scaled = b.fmul(divisor, ir.Constant(DOUBLE, 2.0 ** (52 * digit)))
            count = self.intrinsic("trunc", [b.fdiv(rest, scaled)])
            rest = self.intrinsic("fma", [b.fneg(count), scaled, rest])
            rest = b.select(b.fcmp_ordered("<", rest, ir.Constant(DOUBLE, 0.0)), b.fadd(rest, scaled), rest)
        rest = self.intrinsic("copysign", [b.fptrunc(rest, FLOAT), x])
        infinity = ir.Constant(FLOAT, float("inf"))
        whole = b.and_(
            b.fcmp_ordered("==", self.intrinsic("fabs", [y]), infinity),
            b.fcmp_ordered("<", self.intrinsic("fabs", [x]), infinity),
        )
        return b.select(whole, x, rest)


def _power_function(module: ir.Module, integer: ir.IntType, signed: bool) -> ir.Function:
    """Return the function of (x, exponent) that raises integers to variable powers, defined if it is new.

    A loop: without branches it has a step for each bit, which took LLVM 0.8 s to vectorize and ran no faster.
    """
    name = f"fg.pow.{'s' if signed else 'u'}{integer.width}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(integer, [integer, integer]), name)
    function.linkage = "internal"
    x, exponent = function.args
    zero, one = (ir.Constant(integer, v) for v in (0, 1))
    entry, head, body, done = (function.append_basic_block(n) for n in ("entry", "head", "body", "done"))
    b = ir.IRBuilder(entry)
    b.branch(head)
    b.position_at_end(head)
    result, square, rest = phis = [b.phi(integer) for _ in range(3)]
    running = b.icmp_signed(">", rest, zero) if signed else b.icmp_unsigned("!=", rest, zero)
    b.cbranch(running, body, done)
    b.position_at_end(body)
    odd = b.trunc(rest, I1)
    steps = (b.select(odd, b.mul(result, square), result), b.mul(square, square), b.lshr(rest, one))
    b.branch(head)
    for phi, start, step in zip(phis, (one, x, exponent), steps, strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(step, body)
    b.position_at_end(done)
    if signed:
        reciprocal = ScalarCode(b)._reciprocal_power(x, b.trunc(exponent, I1))
        b.ret(b.select(b.icmp_signed("<", exponent, zero), reciprocal, result))
    else:
        b.ret(result)
    return function
