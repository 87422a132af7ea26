"""A small expression layer over llvmlite's IRBuilder, so that a math function reads as its formula.

A `Scalar` is one SSA value: a number, or a vector of numbers in the vector variants of functions with loops.
Arithmetic is rounded operation by operation: nothing here carries fast-math flags, and a fused multiply-add happens
only where `fma` is written, because the error-free transformations depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

F32 = ir.FloatType()
F64 = ir.DoubleType()


@dataclass(frozen=True)
class Format:
    """The facts about one IEEE-754 binary format."""

    name: str
    float_type: ir.Type
    int_type: ir.Type
    mantissa_bits: int
    bias: int
    tiny: float
    max: float

    @property
    def round_magic(self) -> float:
        """1.5·2^mantissa_bits: adding it rounds to an integer, which then stands in the low bits."""
        return 1.5 * 2.0**self.mantissa_bits


FORMATS = {
    F32: Format("f32", F32, ir.IntType(32), 23, 127, 2.0**-126, 3.4028234663852886e38),
    F64: Format("f64", F64, ir.IntType(64), 52, 1023, 2.0**-1022, 1.7976931348623157e308),
}


def element_type(type: ir.Type) -> ir.Type:
    """The type of the elements of a vector type; of another type, itself."""
    return type.element if isinstance(type, ir.VectorType) else type


def shaped(element: ir.Type, like: ir.Type) -> ir.Type:
    """The type of `element`, as a vector if `like` is one, of as many."""
    return ir.VectorType(element, like.count) if isinstance(like, ir.VectorType) else element


class FormulaBuilder(ir.IRBuilder):
    """llvmlite's builder, with loops."""

    def repeat(
        self,
        limit: int,
        state: Sequence[ir.Value],
        going: Callable[[list[ir.Value]], ir.Value],
        step: Callable[[list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """`repeat` of this module on values; a vector goes on until none of its elements does."""
        i64, before = ir.IntType(64), self.block
        head, body, done = (self.append_basic_block(name) for name in ("repeat", "step", "done"))
        self.branch(head)
        self.position_at_end(head)
        count, *variables = (self.phi(type) for type in (i64, *(v.type for v in state)))
        active = going(variables)
        self.cbranch(self.and_(self.any(active), self.icmp_unsigned("<", count, ir.Constant(i64, limit))), body, done)
        self.position_at_end(body)
        following = step(variables)
        if isinstance(active.type, ir.VectorType):
            following = [self.select(active, new, old) for new, old in zip(following, variables, strict=True)]
        following = [self.add(count, ir.Constant(i64, 1)), *following]
        starts = [ir.Constant(i64, 0), *state]
        for variable, start, new in zip((count, *variables), starts, following, strict=True):
            variable.add_incoming(start, before)
            variable.add_incoming(new, self.block)
        self.branch(head)
        self.position_at_end(done)
        return variables

    def any(self, condition: ir.Value) -> ir.Value:
        """Whether a condition holds, of a vector: for any of its elements."""
        if not isinstance(condition.type, ir.VectorType):
            return condition
        lanes = ir.IntType(condition.type.count)
        return self.icmp_unsigned("!=", self.bitcast(condition, lanes), ir.Constant(lanes, 0))


@dataclass(frozen=True, eq=False)
class Scalar:
    """An SSA value with Python's operators; Python numbers are converted to the type of the other operand.

    Comparisons are ordered (false on NaN) and signed for integers; equality is `same`, `==` stays identity.
    """

    builder: ir.IRBuilder
    value: ir.Value

    @property
    def type(self) -> ir.Type:
        """The type of a number, of which the value may be a vector."""
        return element_type(self.value.type)

    @property
    def format(self) -> Format:
        """The floating-point format of the value."""
        return FORMATS[self.type]

    def like(self, number: float | int | Scalar) -> Scalar:
        """``number`` as a Scalar of this type."""
        if isinstance(number, Scalar):
            return number
        constant = ir.Constant(self.type, number)
        if isinstance(self.value.type, ir.VectorType):
            constant = ir.Constant(self.value.type, [constant] * self.value.type.count)
        return Scalar(self.builder, constant)

    def _binary(self, float_op: str, int_op: str, other: float | int | Scalar, swap: bool = False) -> Scalar:
        a, b = (self.like(other), self) if swap else (self, self.like(other))
        emit = getattr(self.builder, float_op if self.type in FORMATS else int_op)
        return Scalar(self.builder, emit(a.value, b.value))

    def __add__(self, other):
        return self._binary("fadd", "add", other)

    def __radd__(self, other):
        return self._binary("fadd", "add", other, swap=True)

    def __sub__(self, other):
        return self._binary("fsub", "sub", other)

    def __rsub__(self, other):
        return self._binary("fsub", "sub", other, swap=True)

    def __mul__(self, other):
        return self._binary("fmul", "mul", other)

    def __rmul__(self, other):
        return self._binary("fmul", "mul", other, swap=True)

    def __truediv__(self, other):
        return self._binary("fdiv", "sdiv", other)

    def __rtruediv__(self, other):
        return self._binary("fdiv", "sdiv", other, swap=True)

    def __neg__(self):
        return Scalar(self.builder, (self.builder.fneg if self.type in FORMATS else self.builder.neg)(self.value))

    def __and__(self, other):
        return Scalar(self.builder, self.builder.and_(self.value, self.like(other).value))

    def __or__(self, other):
        return Scalar(self.builder, self.builder.or_(self.value, self.like(other).value))

    def __xor__(self, other):
        return Scalar(self.builder, self.builder.xor(self.value, self.like(other).value))

    def __lshift__(self, count: int):
        return Scalar(self.builder, self.builder.shl(self.value, self.like(count).value))

    def __rshift__(self, count: int):
        """Arithmetic shift."""
        return Scalar(self.builder, self.builder.ashr(self.value, self.like(count).value))

    def __invert__(self):
        return Scalar(self.builder, self.builder.not_(self.value))

    def _compare(self, operator: str, other: float | int | Scalar) -> Scalar:
        emit = self.builder.fcmp_ordered if self.type in FORMATS else self.builder.icmp_signed
        return Scalar(self.builder, emit(operator, self.value, self.like(other).value))

    def __lt__(self, other):
        return self._compare("<", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __ge__(self, other):
        return self._compare(">=", other)

    def same(self, other: float | int | Scalar) -> Scalar:
        """Whether the two are equal (−0 equals 0, NaN equals nothing)."""
        return self._compare("==", other)

    def is_nan(self) -> Scalar:
        return Scalar(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def bits(self) -> Scalar:
        """The value's bit pattern as an integer."""
        return Scalar(self.builder, self.builder.bitcast(self.value, shaped(self.format.int_type, self.value.type)))

    def to_f64(self) -> Scalar:
        if self.type == F64:
            return self
        return Scalar(self.builder, self.builder.fpext(self.value, shaped(F64, self.value.type)))

    def to_f32(self) -> Scalar:
        if self.type == F32:
            return self
        return Scalar(self.builder, self.builder.fptrunc(self.value, shaped(F32, self.value.type)))

    def to(self, type: ir.Type) -> Scalar:
        return self.to_f32() if type == F32 else self.to_f64()


def intrinsic(name: str, *args: Scalar) -> Scalar:
    """The LLVM intrinsic ``llvm.<name>`` on scalars of one floating-point type."""
    type = args[0].value.type
    lanes = f"v{type.count}" if isinstance(type, ir.VectorType) else ""
    declared = args[0].builder.module.declare_intrinsic(
        f"llvm.{name}.{lanes}{element_type(type).intrinsic_name}", (), ir.FunctionType(type, [type] * len(args))
    )
    return Scalar(args[0].builder, args[0].builder.call(declared, [a.value for a in args]))


def fma(a: Scalar, b: float | Scalar, c: float | Scalar) -> Scalar:
    """a·b + c, rounded once."""
    return intrinsic("fma", a, a.like(b), a.like(c))


def absolute(x: Scalar) -> Scalar:
    return intrinsic("fabs", x)


def sqrt(x: Scalar) -> Scalar:
    return intrinsic("sqrt", x)


def floor(x: Scalar) -> Scalar:
    return intrinsic("floor", x)


def round_even(x: Scalar) -> Scalar:
    """The nearest integer as a float, ties to even, for every x."""
    return intrinsic("roundeven", x)


def copysign(magnitude: Scalar, sign: Scalar) -> Scalar:
    return intrinsic("copysign", magnitude, sign)


def select(condition: Scalar, on_true: float | Scalar, on_false: float | Scalar) -> Scalar:
    """The one of two values, both of which are computed."""
    like = on_true if isinstance(on_true, Scalar) else on_false
    assert isinstance(like, Scalar), "select needs a Scalar branch to take the type from"
    chosen = condition.builder.select(condition.value, like.like(on_true).value, like.like(on_false).value)
    return Scalar(condition.builder, chosen)


def from_bits(bits: Scalar) -> Scalar:
    """The float with this bit pattern."""
    type = F32 if bits.type.width == 32 else F64
    return Scalar(bits.builder, bits.builder.bitcast(bits.value, shaped(type, bits.value.type)))


def repeat(
    limit: int,
    state: Sequence[Scalar],
    going: Callable[..., Scalar],
    step: Callable[..., Sequence[Scalar]],
) -> list[Scalar]:
    """Replace the state by ``step(*state)`` as long as ``going(*state)``, at most `limit` times; return it.

    Numbers stay as they are from where they stop, so that results do not depend on the other numbers of a vector.
    """
    builder = state[0].builder

    def scalars(values: Sequence[ir.Value]) -> list[Scalar]:
        return [Scalar(builder, v) for v in values]

    return scalars(
        builder.repeat(
            limit,
            [s.value for s in state],
            lambda values: going(*scalars(values)).value,
            lambda values: [s.value for s in step(*scalars(values))],
        )
    )


def where(condition: Scalar, compute: Callable[[], Scalar], other: Scalar) -> Scalar:
    """`select` of a value that is computed only if the condition holds, in a vector: for any of its numbers."""
    (result,) = repeat(1, [other], lambda _: condition, lambda _: [compute()])
    return result


def at_most(x: Scalar, limit: float) -> Scalar:
    """min(x, limit), NaN kept."""
    return select(x > limit, limit, x)


def at_least(x: Scalar, limit: float) -> Scalar:
    """max(x, limit), NaN kept."""
    return select(x < limit, limit, x)


def horner(x: Scalar, coefficients: Sequence[float] | tuple) -> Scalar:
    """c0 + c1 x + c2 x² + …; a `Coefficients` pair gives the row for the type of ``x``."""
    row = getattr(coefficients, x.format.name, coefficients)
    total = x.like(row[-1])
    for c in reversed(row[:-1]):
        total = fma(total, x, c)
    return total


def round_to_integer(x: Scalar) -> tuple[Scalar, Scalar]:
    """The integer nearest to |x| < 2^(mantissa_bits - 1), ties to even, as a float and as an integer."""
    return unshift(x + x.format.round_magic)


def unshift(shifted: Scalar) -> tuple[Scalar, Scalar]:
    """`round_to_integer` of a value to which ``round_magic`` is already added (often by an `fma`)."""
    magic = shifted.like(shifted.format.round_magic)
    return shifted - magic, shifted.bits() - magic.bits()


def integer_to_float(n: Scalar) -> Scalar:
    """A float from a small signed integer of its width, without the 64-bit conversion that AVX2 lacks."""
    float_like = from_bits(n)
    magic = float_like.like(float_like.format.round_magic)
    return from_bits(n + magic.bits()) - magic


def power_of_two(n: Scalar) -> Scalar:
    """2^n for an integer within the normal exponent range; only the low bits of ``n`` count."""
    format = from_bits(n).format
    return from_bits((n + format.bias) << format.mantissa_bits)


def scale(x: Scalar, n: Scalar) -> Scalar:
    """x·2^n with one rounding, for a sign-extended integer n within twice the exponent range."""
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


# Error-free transformations: the pair (high, low) is exactly the result.


def two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a + b = high + low (Knuth)."""
    high = a + b
    b_part = high - a
    return high, (a - (high - b_part)) + (b - b_part)


def quick_two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a + b = high + low, given |a| >= |b| (Dekker)."""
    high = a + b
    return high, b - (high - a)


def two_product(a: Scalar, b: float | Scalar) -> tuple[Scalar, Scalar]:
    """a·b = high + low."""
    high = a * b
    return high, fma(a, b, -high)


def quotient(numerator: Scalar, numerator_low: Scalar, denominator: Scalar, denominator_low: Scalar) -> Scalar:
    """The ratio of two unevaluated sums, nearly correctly rounded, for one division."""
    inverse = 1.0 / denominator
    ratio = numerator * inverse
    remainder = fma(-ratio, denominator, numerator) + fma(-ratio, denominator_low, numerator_low)
    return fma(remainder, inverse, ratio)
