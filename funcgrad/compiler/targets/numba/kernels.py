"""Loops to Python functions that numba compiles: the rendered source in numba's dialect.

    @njit(error_model="numpy", nogil=True)
    def scale(x, y, n, start, stop):
        for i in range(start, stop):
            y[uint64(i)] = x[uint64(i)] * float32(2.0)

The parallel loop runs from `start` to `stop`, so that threads can share it.

Every result of an operation on integers is converted to its dtype, because numba would widen it to 64 bits, and
operations that Python has no operator for are called by name; see `functions`. float16 and bfloat16, which numba does
not have, are stored as uint16 and computed in float32.
"""

from __future__ import annotations

import numpy as np

from funcgrad.compiler.loops.language import Expr, For, Index, Kernel, Load, Op, Stmt, Store, Update
from funcgrad.compiler.loops.python import Renderer
from funcgrad.compiler.loops.scalars import SCALARS
from funcgrad.compiler.targets.llvm import safepoints
from funcgrad.compiler.targets.numba.functions import SIXTEEN_BIT, Functions
from funcgrad.dtypes import bool_, float32, int64, is_float

DECORATOR = '@njit(error_model="numpy", nogil=True)'
_LOOSE, _CALL = 0, 9
# Looking at signals takes the GIL, for which other threads of Python may make it wait: some milliseconds pass between.
_FUEL = 16


def can_be_interrupted(kernel: Kernel) -> bool:
    """Whether a kernel looks at signals: its last argument is an array of one byte, not 0 if it is to return early."""
    return safepoints.may_take_long(kernel.body)


def stored_as(dtype: np.dtype) -> str:
    """Return the name of the dtype under which numba sees memory that holds `dtype`."""
    return "uint16" if dtype in SIXTEEN_BIT else "bool_" if dtype == bool_ else dtype.name


class NumbaRenderer(Renderer):
    """The dialect; collects the functions that the source calls."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.iterations = 0  # of long loops, from one look at signals to the next

    def function(self, kernel: Kernel) -> str:
        self.iterations = _FUEL * safepoints.fuel(kernel)
        return f"{DECORATOR}\n{super().function(kernel)}"

    def parameters(self, kernel: Kernel) -> list[str]:
        return [*super().parameters(kernel), "start", "stop", *(["ended"] if can_be_interrupted(kernel) else [])]

    def prologue(self, kernel: Kernel) -> list[str]:
        return [f"    iterations = {self.iterations}"] if can_be_interrupted(kernel) else []

    def body_start(self, statement: Stmt) -> list[str]:
        if not safepoints.is_long(statement):
            return []
        return [
            "iterations -= 1",
            "if iterations == 0:",
            f"    iterations = {self.iterations}",
            f"    {self.functions.intrinsic('check_signals')}()",
            "    if ended[0]:",
            "        return",
        ]

    def loop_range(self, loop: For) -> str:
        return "range(start, stop)" if loop.kind == "parallel" else super().loop_range(loop)

    def subscript(self, index: Index) -> str:
        # numba tests whether a signed index counts from the end, and LLVM does not vectorize a loop with such a test.
        text = super().subscript(index)
        return f"uint64({text})" if index.terms else text

    def statement(self, statement: Stmt) -> str:
        match statement:
            case Update(name, ("add" | "mul") as op, value) if is_float(value.dtype):
                sign = "+" if op == "add" else "*"
                dtype = float32 if value.dtype in SIXTEEN_BIT else value.dtype
                combined = f"{self.functions.accumulate(op, sign, dtype)}({name}, {self.expr(value)})"
                return f"{name} = {self._rounded(combined, value.dtype)}"
            case Store(param, index, value) if value.dtype in SIXTEEN_BIT:
                to = self.functions.to_bits(value.dtype)
                return f"{param}[{self.subscript(index)}] = {to}({self.expr(value)})"
        return super().statement(statement)

    def bound(self, expr: Expr) -> tuple[str, int]:
        match expr:
            case Load(param, index, dtype, mask, other) if dtype in SIXTEEN_BIT:
                taken = f"{self.functions.from_bits(dtype)}({param}[{self.subscript(index)}])"
                if mask is None or other is None:
                    return taken, _CALL
                return f"{taken} if {self.expr(mask, 1)} else {self.expr(other)}", _LOOSE
        return super().bound(expr)

    def constant(self, value: bool | int | float, dtype: np.dtype) -> str:
        if dtype in SIXTEEN_BIT:
            return f"float32({float(dtype.type(value))!r})"
        return super().constant(value, dtype)

    def typed(self, text: str, binding: int, dtype: np.dtype) -> tuple[str, int]:
        if dtype in SIXTEEN_BIT:
            return self._rounded(text, dtype), _CALL
        if is_float(dtype) or dtype == int64:
            return text, binding
        return f"{'bool' if dtype == bool_ else dtype.name}({text})", _CALL

    def cast(self, x: Expr, dtype: np.dtype) -> str:
        if dtype == bool_:
            return f"bool({self.expr(x)} != 0)"
        if dtype in SIXTEEN_BIT:
            return self._rounded(f"float32({self.expr(x)})", dtype)
        if is_float(x.dtype) and not is_float(dtype):
            return f"{self.functions.saturate(dtype)}({self.expr(x)})"
        return super().cast(x, dtype)

    def bitcast(self, x: Expr, dtype: np.dtype) -> str:
        text = self.expr(x)
        bits = f"{self.functions.to_bits(x.dtype)}({text})" if x.dtype in SIXTEEN_BIT else text
        if dtype in SIXTEEN_BIT:
            return f"{self.functions.from_bits(dtype)}(uint16({bits}))"
        if is_float(x.dtype) == is_float(dtype) or x.dtype in SIXTEEN_BIT:
            return f"{dtype.name}({bits})"  # integers among themselves
        return f"{self.functions.intrinsic('bitcast')}({bits}, {dtype.name})"

    def operation(self, name: str, args: tuple[Expr, ...], dtype: np.dtype) -> tuple[str, int]:
        if name == "select":
            condition, yes, no = args
            return f"{self.expr(yes, 1)} if {self.expr(condition, 1)} else {self.expr(no)}", _LOOSE
        if name == "clamp":
            low, x, high = args
            return self.operation("min", (Op("max", (x, low), dtype), high), dtype)
        argument = args[0].dtype
        if name == "abs":
            return self.typed(f"abs({self.expr(args[0])})", _CALL, dtype)
        if SCALARS[name].operator(argument):
            return super().operation(name, args, dtype)
        if name == "nextafter" and argument in SIXTEEN_BIT:
            function = self.functions.next_after(argument)
        else:
            function = self.functions.operation(name, argument)
        call = f"{function}({', '.join(map(self.expr, args))})"
        return (call, _CALL) if dtype == bool_ or not is_float(dtype) else self.typed(call, _CALL, dtype)

    def _rounded(self, text: str, dtype: np.dtype) -> str:
        return f"{self.functions.rounded(dtype)}({text})" if dtype in SIXTEEN_BIT else text
