"""The formulas of vector_math as Python source.

A formula calls the methods of llvmlite's IRBuilder. `PythonBuilder` has the same methods and writes Python in place of
instructions, so that both targets compute the same arithmetic, operation by operation:

    >>> from funcgrad.compiler.targets.numba.functions import Functions
    >>> print(source("rsqrt", np.dtype("float32"), Functions()))
        return float32(1.0) / math.sqrt(x)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from llvmlite import ir

from funcgrad.compiler.targets.llvm.vector_math import registry
from funcgrad.compiler.targets.llvm.vector_math.scalar import F32, F64, FORMATS, Scalar

I1, I32 = ir.IntType(1), ir.IntType(32)
_TYPES = {np.dtype(np.float32): F32, np.dtype(np.float64): F64}
_ATOM, _UNARY, _SUM, _PRODUCT, _COMPARISON, _NOT = 9, 8, 6, 7, 1, 0
_PYTHON = {
    "fabs": "abs",
    "sqrt": "math.sqrt",
    "floor": "np.floor",
    "roundeven": "np.rint",
    "copysign": "math.copysign",
}
_LONGEST = 100  # characters of an expression; beyond, its parts get names


class Callees(Protocol):
    """The functions that formulas call: each method returns the name of one, and sees to its definition."""

    def operation(self, name: str, dtype: np.dtype) -> str: ...
    def intrinsic(self, name: str) -> str: ...


def source(name: str, dtype: np.dtype, functions: Callees) -> str:
    """Return the body of a function; `functions` names and defines those that it calls."""
    builder = PythonBuilder(functions)
    parameters = [Node(_TYPES[dtype], p, (), ()) for p in ("x", "y")[: registry.arity(name)]]
    result = registry.formula(name)(*(Scalar(builder, p) for p in parameters))
    return "\n".join(_lines(builder.nodes, result.value))


@dataclass(frozen=True, eq=False)
class Node:
    """A value: its source with a place for each argument, and how tightly an argument must bind to stand there."""

    type: ir.Type
    text: str
    arguments: tuple[Any, ...]
    loosest: tuple[int, ...]
    binding: int = _ATOM


class PythonBuilder:
    """Writes Python: the methods of `ir.IRBuilder` that formulas call."""

    def __init__(self, functions: Callees) -> None:
        self.functions = functions
        self.module = ir.Module()  # where formulas declare what they call
        self.nodes: list[Node] = []

    def _node(self, type: ir.Type, text: str, *arguments: Any, loosest: Any = None, binding: int = _ATOM) -> Node:
        node = Node(type, text, arguments, loosest or (_NOT,) * len(arguments), binding)
        self.nodes.append(node)
        return node

    def _infix(self, sign: str, binding: int, a: Any, b: Any) -> Node:
        # numba computes with integers in 64 bits.
        narrow = a.type == I32
        return self._node(
            a.type,
            f"int32({{}} {sign} {{}})" if narrow else f"{{}} {sign} {{}}",
            a,
            b,
            loosest=(binding, binding + 1),
            binding=_ATOM if narrow else binding,
        )

    def fadd(self, a: Any, b: Any) -> Node:
        return self._infix("+", _SUM, a, b)

    def fsub(self, a: Any, b: Any) -> Node:
        return self._infix("-", _SUM, a, b)

    def fmul(self, a: Any, b: Any) -> Node:
        return self._infix("*", _PRODUCT, a, b)

    def fdiv(self, a: Any, b: Any) -> Node:
        return self._infix("/", _PRODUCT, a, b)

    add, sub, mul = fadd, fsub, fmul

    def shl(self, a: Any, b: Any) -> Node:
        return self._infix("<<", 5, a, b)

    def ashr(self, a: Any, b: Any) -> Node:
        return self._infix(">>", 5, a, b)

    def and_(self, a: Any, b: Any) -> Node:
        return self._infix("&", 4, a, b)

    def or_(self, a: Any, b: Any) -> Node:
        return self._infix("|", 2, a, b)

    def xor(self, a: Any, b: Any) -> Node:
        if a.type == I1:
            return self._node(I1, "{} != {}", a, b, loosest=(2, 2), binding=_COMPARISON)
        return self._infix("^", 3, a, b)

    def not_(self, a: Any) -> Node:
        if a.type == I1:
            return self._node(I1, "not {}", a, loosest=(_COMPARISON,), binding=_NOT)
        return self._node(a.type, "~{}", a, loosest=(_UNARY,), binding=_UNARY)

    def fneg(self, a: Any) -> Node:
        narrow = a.type == I32
        return self._node(
            a.type, "int32(-{})" if narrow else "-{}", a, loosest=(_UNARY,), binding=_ATOM if narrow else _UNARY
        )

    neg = fneg

    def fcmp_ordered(self, sign: str, a: Any, b: Any) -> Node:
        return self._node(I1, f"{{}} {sign} {{}}", a, b, loosest=(2, 2), binding=_COMPARISON)

    icmp_signed = fcmp_ordered

    def fcmp_unordered(self, sign: str, a: Any, b: Any) -> Node:
        assert sign == "uno" and a is b
        return self._node(I1, "{} != {}", a, b, loosest=(2, 2), binding=_COMPARISON)

    def select(self, condition: Any, yes: Any, no: Any) -> Node:
        return self._node(yes.type, self.functions.intrinsic("select") + "({}, {}, {})", condition, yes, no)

    def bitcast(self, a: Any, type: ir.Type) -> Any:
        if isinstance(a, ir.Constant):
            codes = {F32: "fi", F64: "dq"}[a.type]
            return ir.Constant(type, struct.unpack(codes[1], struct.pack(codes[0], a.constant))[0])
        return self._node(type, f"{self.functions.intrinsic('bitcast')}({{}}, {_name(type)})", a)

    def fpext(self, a: Any, type: ir.Type) -> Node:
        return self._node(type, f"{_name(type)}({{}})", a)

    fptrunc = fpext

    def call(self, function: ir.Function, arguments: list[Any]) -> Node:
        origin, name, _ = function.name.split(".")
        result = function.function_type.return_type
        dtype = next(d for d, t in _TYPES.items() if t == result)
        if origin == "fg":
            text = self.functions.operation(name, dtype)
        else:
            text = _PYTHON.get(name) or self.functions.intrinsic(name)
        return self._node(result, f"{text}({', '.join(['{}'] * len(arguments))})", *arguments)


def _lines(nodes: list[Node], result: Node) -> list[str]:
    """Statements that compute a node: what is used once stands where it is used, unless that makes a long line."""
    uses = _uses(result)
    lines: list[str] = []
    texts: dict[Node, tuple[str, int]] = {}
    inlined: set[Node] = set()

    def give_a_name(node: Node, text: str) -> None:
        lines.append(f"    v{len(lines) + 1} = {text}")
        texts[node] = f"v{len(lines)}", _ATOM
        inlined.discard(node)

    for node in nodes:
        if node not in uses:
            continue
        text = _expression(node, texts)
        while len(text) > _LONGEST and not inlined.isdisjoint(node.arguments):
            longest = max(inlined.intersection(node.arguments), key=lambda a: len(texts[a][0]))
            give_a_name(longest, texts[longest][0])
            text = _expression(node, texts)
        if uses[node] > 1:
            give_a_name(node, text)
        else:
            texts[node] = text, node.binding
            inlined.add(node)
    return [*lines, f"    return {texts[result][0]}"]


def _uses(result: Node) -> dict[Node, int]:
    """How often each value that a result depends on is used."""
    uses, pending = {result: 1}, [result]
    while pending:
        for argument in pending.pop().arguments:
            if isinstance(argument, Node):
                if argument not in uses:
                    pending.append(argument)
                uses[argument] = uses.get(argument, 0) + 1
    return uses


def _expression(node: Node, texts: dict[Node, tuple[str, int]]) -> str:
    # An integer of any width will do except for `select`, whose operands have one type.
    bare = not node.text.startswith("select")
    arguments = []
    for argument, loosest in zip(node.arguments, node.loosest, strict=True):
        if isinstance(argument, ir.Constant):
            arguments.append(_constant(argument, bare))
        else:
            text, binding = texts.get(argument, (argument.text, argument.binding))
            arguments.append(text if binding >= loosest else f"({text})")
    return node.text.format(*arguments)


def _constant(constant: ir.Constant, bare: bool) -> str:
    number = constant.constant
    if constant.type not in FORMATS:
        return f"({number})" if bare and number < 0 else str(number) if bare else f"{_name(constant.type)}({number})"
    if constant.type == F64:
        return repr(number)
    return f"float32({np.float32(number)!s})"


def _name(type: ir.Type) -> str:
    return {F32: "float32", F64: "float64"}.get(type) or f"int{type.width}"
