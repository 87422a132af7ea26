"""The formulas of vector_math as Python source.

A formula calls the methods of llvmlite's IRBuilder. `PythonBuilder` has the same methods and writes Python in place of
instructions, so that both targets compute the same arithmetic, operation by operation:

    >>> from funcgrad.compiler.targets.numba.functions import Functions
    >>> print(source("rsqrt", np.dtype("float32"), Functions()))
        return float32(1.0) / math.sqrt(x)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from llvmlite import ir

from funcgrad.compiler.targets.llvm.vector_math import registry
from funcgrad.compiler.targets.llvm.vector_math.constants import NAN
from funcgrad.compiler.targets.llvm.vector_math.scalar import F32, F64, FORMATS, Scalar, absolute, select

I1, I32 = ir.IntType(1), ir.IntType(32)
_TYPES = {np.dtype(np.float32): F32, np.dtype(np.float64): F64}
_ATOM, _UNARY, _SUM, _PRODUCT, _COMPARISON, _NOT = 9, 8, 6, 7, 1, 0
PARAMETERS = ("x", "y", "z")
_LONGEST = 100  # characters of an expression; beyond, its parts get names


class Callees(Protocol):
    """The functions that formulas call: each method returns the name of one, and sees to its definition.

    `bitcast` returns a call of one, with braces in the place of the number.
    """

    def operation(self, name: str, dtype: np.dtype) -> str: ...
    def intrinsic(self, name: str, dtype: np.dtype) -> str: ...
    def bitcast(self, dtype: np.dtype, to: np.dtype) -> str: ...


def source(name: str, dtype: np.dtype, functions: Callees) -> str:
    """Return the body of a function; `functions` names and defines those that it calls.

    Beyond the limit of the formula, the result is NaN: numba does not vectorize loops with branches, which takes six
    times as long.
    """
    builder = PythonBuilder(functions)
    parameters = [Node(_TYPES[dtype], p, (), ()) for p in PARAMETERS[: registry.arity(name)]]
    arguments = [Scalar(builder, p) for p in parameters]
    result = registry.formula(name)(*arguments)
    far = registry.far(name, _TYPES[dtype])
    if far is not None:
        result = select(absolute(*arguments) <= far.limit, result, NAN)
    return "\n".join(_Writer(builder.nodes, result.value).lines)


@dataclass(frozen=True, eq=False)
class Node:
    """A value: its source with a place for each argument, and how tightly an argument must bind to stand there."""

    type: ir.Type
    text: str
    arguments: tuple[Any, ...]
    loosest: tuple[int, ...]
    binding: int = _ATOM


@dataclass(frozen=True, eq=False)
class Loop:
    """Replaces the variables by the following values while a condition holds, at most `limit` times."""

    limit: int
    variables: list[Node]
    starts: Sequence[Any]
    setup: list[Node | Loop]  # what the condition is computed by
    condition: Node
    body: list[Node | Loop]
    following: Sequence[Any]


class PythonBuilder:
    """Writes Python: the methods of `FormulaBuilder` that formulas call."""

    def __init__(self, functions: Callees) -> None:
        self.functions = functions
        self.module = ir.Module()  # where formulas declare what they call
        self.nodes: list[Node | Loop] = []

    def repeat(
        self,
        limit: int,
        state: Sequence[Any],
        going: Callable[[list[Node]], Node],
        step: Callable[[list[Node]], Sequence[Any]],
    ) -> list[Node]:
        variables = [Node(s.type, "", (), ()) for s in state]
        outside, setup, body = self.nodes, [], []
        self.nodes = setup
        condition = going(variables)
        self.nodes = body
        following = step(variables)
        self.nodes = outside
        self.nodes.append(Loop(limit, variables, state, setup, condition, body, following))
        return variables

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
        return self._node(
            yes.type, self.functions.intrinsic("select", _dtype(yes.type)) + "({}, {}, {})", condition, yes, no
        )

    def bitcast(self, a: Any, type: ir.Type) -> Any:
        if isinstance(a, ir.Constant):
            codes = {F32: "fi", F64: "dq"}[a.type]
            return ir.Constant(type, struct.unpack(codes[1], struct.pack(codes[0], a.constant))[0])
        return self._node(type, self.functions.bitcast(_dtype(a.type), _dtype(type)), a)

    def fpext(self, a: Any, type: ir.Type) -> Node:
        return self._node(type, f"{_name(type)}({{}})", a)

    fptrunc = fpext

    def call(self, function: ir.Function, arguments: list[Any]) -> Node:
        origin, name, _ = function.name.split(".")
        result = function.function_type.return_type
        text = (self.functions.operation if origin == "fg" else self.functions.intrinsic)(name, _dtype(result))
        return self._node(result, f"{text}({', '.join(['{}'] * len(arguments))})", *arguments)


class _Writer:
    """Writes the lines that compute a node: what is used once stands where it is used if the line is not too long."""

    def __init__(self, nodes: list[Node | Loop], result: Node) -> None:
        self.uses = _uses(nodes, result)
        self.lines: list[str] = []
        self.names = 0
        self.texts: dict[Node, tuple[str, int]] = {}
        self.inlined: set[Node] = set()
        self._block(nodes, "    ")
        self.lines.append(f"    return {self._text(result)}")

    def _text(self, value: Any) -> str:
        return self.texts.get(value, (value.text,))[0] if isinstance(value, Node) else _constant(value, bare=False)

    def _name(self, node: Node) -> str:
        self.names += 1
        self.texts[node] = f"v{self.names}", _ATOM
        self.inlined.discard(node)
        return self.texts[node][0]

    def _assign(self, node: Node, text: str, indent: str) -> None:
        self.lines.append(f"{indent}{self._name(node)} = {text}")

    def _block(self, nodes: list[Node | Loop], indent: str) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                if not self.uses.keys().isdisjoint(node.variables):
                    self._loop(node, indent)
            elif node in self.uses:
                text = self._expression(node)
                while len(text) > _LONGEST and not self.inlined.isdisjoint(node.arguments):
                    longest = max(self.inlined.intersection(node.arguments), key=lambda a: len(self.texts[a][0]))
                    self._assign(longest, self.texts[longest][0], indent)
                    text = self._expression(node)
                if self.uses[node] > 1:
                    self._assign(node, text, indent)
                else:
                    self.texts[node] = text, node.binding
                    self.inlined.add(node)

    def _loop(self, loop: Loop, indent: str) -> None:
        inside = indent + "    "
        for variable, start in zip(loop.variables, loop.starts, strict=True):
            self._assign(variable, self._text(start), indent)
        names = ", ".join(self.texts[v][0] for v in loop.variables)
        self.lines.append(f"{indent}for _ in range({loop.limit}):")
        self._block(loop.setup, inside)
        self.lines += [f"{inside}if not ({self._text(loop.condition)}):", f"{inside}    break"]
        self._block(loop.body, inside)
        self.lines.append(f"{inside}{names} = {', '.join(map(self._text, loop.following))}")

    def _expression(self, node: Node) -> str:
        # An integer of any width will do except for `select`, whose operands have one type.
        bare = not node.text.startswith("select")
        arguments = []
        for argument, loosest in zip(node.arguments, node.loosest, strict=True):
            if isinstance(argument, ir.Constant):
                arguments.append(_constant(argument, bare))
            else:
                text, binding = self.texts.get(argument, (argument.text, argument.binding))
                arguments.append(text if binding >= loosest else f"({text})")
        return node.text.format(*arguments)


def _uses(nodes: list[Node | Loop], result: Node) -> dict[Node, int]:
    """How often each value that a result depends on is used; a use in a loop of what is outside of it counts twice."""
    block_of: dict[Node, Any] = {}
    loop_of: dict[Node, Loop] = {}

    def place(block: list[Node | Loop]) -> None:
        for node in block:
            if isinstance(node, Loop):
                block_of.update(dict.fromkeys(node.variables, id(block)))
                loop_of.update(dict.fromkeys(node.variables, node))
                place(node.setup)
                place(node.body)
            else:
                block_of[node] = id(block)

    place(nodes)
    uses: dict[Node, int] = {}
    pending: list[tuple[Any, int]] = [(result, id(nodes))]
    seen: set[int] = set()
    while pending:
        node, block = pending.pop()
        if not isinstance(node, Node):
            continue
        inside = block_of.get(node, block) == block
        if node not in uses:
            pending += [(a, block_of.get(node, block)) for a in node.arguments]
            loop = loop_of.get(node)
            if loop is not None and id(loop) not in seen:
                seen.add(id(loop))
                pending += [(s, block_of[node]) for s in loop.starts]
                pending += [(loop.condition, id(loop.setup)), *((f, id(loop.body)) for f in loop.following)]
        uses[node] = uses.get(node, 0) + (1 if inside else 2)
    return uses


def _constant(constant: ir.Constant, bare: bool) -> str:
    number = constant.constant
    if constant.type not in FORMATS:
        return f"({number})" if bare and number < 0 else str(number) if bare else f"{_name(constant.type)}({number})"
    if constant.type == F64:
        return repr(number)
    return f"float32({np.float32(number)!s})"


def _dtype(type: ir.Type) -> np.dtype:
    return np.dtype("bool" if type == I1 else _name(type))


def _name(type: ir.Type) -> str:
    return {F32: "float32", F64: "float64"}.get(type) or f"int{type.width}"
