"""LLVM code of `lanes` loops: a value is a vector with an element for each iteration, or a scalar that all share."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from funcgrad.compiler.targets.llvm.registers import I32

# The CPU's shuffles of wider registers move elements within parts of this size.
_PART_BYTES = 16


def is_vector(value: ir.Value) -> bool:
    """Whether a value has an element for each lane."""
    return isinstance(value.type, ir.VectorType)


def splat(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A vector whose elements are all one scalar; a vector stays as it is."""
    if is_vector(value):
        return value
    kind = ir.VectorType(value.type, lanes)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), _mask([0] * lanes))


def alike(b: ir.IRBuilder, values: Sequence[ir.Value], lanes: int) -> list[ir.Value]:
    """The operands of an operation: all vectors if one is."""
    return [splat(b, v, lanes) for v in values] if any(map(is_vector, values)) else list(values)


def gathered(b: ir.IRBuilder, elements: Sequence[ir.Value]) -> ir.Value:
    """A vector of scalars."""
    vector = ir.Constant(ir.VectorType(elements[0].type, len(elements)), ir.Undefined)
    for i, element in enumerate(elements):
        vector = b.insert_element(vector, element, ir.Constant(I32, i))
    return vector


def part(element_bytes: int) -> int:
    """How many neighbors in memory `transposed` takes of each lane."""
    return _PART_BYTES // element_bytes


def transposed(b: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """From a short vector for each lane to a vector of lanes for each of its elements.

    Rows have 2 or 4 elements. Those that are as many apart share a register. log2 of that number of perfect shuffles
    transpose, and each of them is an instruction per register.
    """
    size = rows[0].type.count
    if len(rows) > 2 * size:
        half = len(rows) // 2
        return [_joined(b, x, y) for x, y in zip(transposed(b, rows[:half]), transposed(b, rows[half:]), strict=True)]
    parts = len(rows) // size
    registers = [rows[i] if parts == 1 else _joined(b, rows[i], rows[i + size]) for i in range(size)]
    for _ in range(size.bit_length() - 1):
        pairs = zip(registers[: size // 2], registers[size // 2 :], strict=True)
        registers = [b.shuffle_vector(x, y, _interleaved(parts, size, high)) for x, y in pairs for high in (0, 1)]
    return registers


def _interleaved(parts: int, size: int, high: int) -> ir.Constant:
    """The lower or higher halves of the parts of two registers, interleaved."""
    starts = [part * size + high * size // 2 for part in range(parts)]
    return _mask([start + i + other for start in starts for i in range(size // 2) for other in (0, parts * size)])


def _joined(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.shuffle_vector(x, y, _mask(range(2 * x.type.count)))


def _mask(places: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, len(places)), list(places))
