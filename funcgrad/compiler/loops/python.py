"""Renders a kernel as the plain Python function that it means.

    def scale(x, y, n):
        for i in range(n):
            y[i] = x[i] * float32(2.0)

Scalars are NumPy scalars, so float32 arithmetic is float32 and int8 wraps. Running the function gives what
the compiled kernel gives, but for the order of reductions, fused multiply-adds and the error bounds of
vector math. It is what `as_text("kernels")` shows, what pdb steps through when kernels are disabled, and
what numba.cuda compiles.
"""

from __future__ import annotations

import functools
import itertools
import linecache
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    If,
    Index,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    Name,
    Op,
    Stmt,
    Store,
    Update,
    While,
    format_const,
    format_index,
)
from funcgrad.compiler.loops.scalars import DTYPES, SCALARS, bitcast, cast
from funcgrad.dtypes import as_dtype, bool_

_file_numbers = itertools.count()

# How tightly Python's operators bind: conditional expressions and `not` loosest, then comparisons.
_LOOSE, _COMPARISON, _UNARY, _ATOM = 0, 1, 8, 9
_BINDING = {"|": 2, "^": 3, "&": 4, "+": 6, "-": 6, "*": 7, "/": 7}


def render(kernel: Kernel) -> str:
    """Return Python source of one function of (parameters…, sizes…)."""
    return Renderer().function(kernel)


def compile_python(kernel: Kernel) -> Callable[..., None]:
    """Return the rendered kernel as a callable of (flat arrays…, sizes…); scratch is one thread's.

    pdb and tracebacks show the rendered source.
    """
    source, filename = render(kernel), f"<kernel {kernel.name} {next(_file_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = dict(_namespace())
    exec(compile(source, filename, "exec"), namespace)
    function = namespace[kernel.name]

    @functools.wraps(function)
    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return run


@functools.cache
def _namespace() -> dict[str, Any]:
    """The names that rendered source uses: operations, and dtypes as conversions."""
    casts = {dtype.name: functools.partial(cast, dtype=dtype) for dtype in DTYPES}
    references = {name: scalar.reference for name, scalar in SCALARS.items()}
    return references | casts | {"bitcast": lambda x, to: bitcast(x, as_dtype(to)), "inf": np.inf, "nan": np.nan}


class Renderer:
    """Renders statements and expressions; a dialect of Python overrides what it spells otherwise."""

    def function(self, kernel: Kernel) -> str:
        """Return the source of the function."""
        lines = [
            f"def {kernel.name}({', '.join(self.parameters(kernel))}):",
            *self.prologue(kernel),
            *self.block(kernel.body, "    "),
        ]
        return "\n".join(lines) + "\n"

    def parameters(self, kernel: Kernel) -> list[str]:
        """Return the names of the function's parameters."""
        return [*(p.name for p in kernel.params), *kernel.sizes]

    def prologue(self, kernel: Kernel) -> list[str]:
        """Return lines to start the function with."""
        return []

    def loop_range(self, loop: For) -> str:
        """Return what a loop iterates over."""
        return f"range({loop.extent})"

    def body_start(self, statement: Stmt) -> list[str]:
        """Return lines to start the body of a statement with."""
        return []

    def subscript(self, index: Index) -> str:
        """Return the source of an index into an array."""
        return format_index(index)

    def constant(self, value: bool | int | float, dtype: np.dtype) -> str:
        """Return the source of a constant."""
        return repr(value) if dtype == bool_ else f"{dtype.name}({format_const(value, dtype)})"

    def typed(self, text: str, binding: int, dtype: np.dtype) -> tuple[str, int]:
        """Return the source of an operator's result as a value of `dtype`, and how tightly it binds."""
        return text, binding

    # ------------------------------------------------------------------------------------------- statements
    def block(self, body: tuple[Stmt, ...], indent: str) -> list[str]:
        """Return the lines of a block."""
        lines: list[str] = []
        for statement in body:
            lines.append(indent + self.statement(statement))
            lines += [f"{indent}    {line}" for line in self.body_start(statement)]
            if isinstance(statement, While):
                lines += self.block(statement.setup, indent + "    ")
                lines += [f"{indent}    if not {self.expr(statement.condition, _UNARY)}:", f"{indent}        break"]
                lines += self.block(statement.body, indent + "    ")
            elif isinstance(statement, For | If):
                lines += self.block(statement.body, indent + "    ") or [indent + "    pass"]
        return lines

    def statement(self, statement: Stmt) -> str:
        """Return the first line of a statement, the only one but for loops and conditionals."""
        match statement:
            case For(index):
                return f"for {index} in {self.loop_range(statement)}:"
            case If(condition):
                return f"if {self.expr(condition)}:"
            case While():
                return "while True:"
            case Let(name, value) | Init(name, value) | Update(name, "set", value):
                return f"{name} = {self.expr(value)}"
            case Update(name, update, value):
                dtype = value.dtype
                return f"{name} = {self.expr(Op(update, (Name(name, dtype), value), dtype))}"
            case Store(param, index, value):
                return f"{param}[{self.subscript(index)}] = {self.expr(value)}"
        raise TypeError(f"{statement!r} is not a statement")

    # ------------------------------------------------------------------------------------------ expressions
    def expr(self, expr: Expr, loosest: int = _LOOSE) -> str:
        """Return the source of an expression, in parentheses if it binds more loosely than `loosest`."""
        text, binding = self.bound(expr)
        return text if binding >= loosest else f"({text})"

    def bound(self, expr: Expr) -> tuple[str, int]:
        """Return the source of an expression and how tightly its outermost operator binds."""
        match expr:
            case Const(value, dtype):
                return self.constant(value, dtype), _ATOM
            case Name(name):
                return name, _ATOM
            case IndexValue(index):
                return self.index_value(index), _ATOM
            case Load(param, index, _, mask, other):
                taken = f"{param}[{self.subscript(index)}]"
                if mask is None or other is None:
                    return taken, _ATOM
                return f"{taken} if {self.expr(mask, 1)} else {self.expr(other)}", _LOOSE
            case Op("cast", (x,), dtype):
                return self.cast(x, dtype), _ATOM
            case Op("bitcast", (x,), dtype):
                return self.bitcast(x, dtype), _ATOM
            case Op(name, args, dtype):
                return self.operation(name, args, dtype)
        raise TypeError(f"{expr!r} is not an expression")

    def index_value(self, index: Index) -> str:
        """Return the source of an index as an int64 value."""
        return f"int64({format_index(index)})"

    def cast(self, x: Expr, dtype: np.dtype) -> str:
        """Return the source of a conversion."""
        return f"{dtype.name}({self.expr(x)})"

    def bitcast(self, x: Expr, dtype: np.dtype) -> str:
        """Return the source of a reinterpretation of bits."""
        return f'bitcast({self.expr(x)}, "{dtype.name}")'

    def operation(self, name: str, args: tuple[Expr, ...], dtype: np.dtype) -> tuple[str, int]:
        """Return the source of an operation and how tightly it binds."""
        sign = SCALARS[name].operator(args[0].dtype)
        if not sign:
            return f"{name}({', '.join(map(self.expr, args))})", _ATOM
        if len(args) == 1:
            if sign == "not ":
                return f"not {self.expr(args[0], _COMPARISON)}", _LOOSE
            return self.typed(sign + self.expr(args[0], _UNARY), _UNARY, dtype)
        if SCALARS[name].result == "bool":
            left, right = (self.expr(a, _COMPARISON + 1) for a in args)
            return f"{left} {sign} {right}", _COMPARISON
        binding = _BINDING[sign]
        left, right = self.expr(args[0], binding), self.expr(args[1], binding + 1)
        return self.typed(f"{left} {sign} {right}", binding, dtype)
