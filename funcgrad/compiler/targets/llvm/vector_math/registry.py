"""Which math functions exist, and how one becomes an LLVM function in a module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from types import FunctionType
from typing import NamedTuple

from llvmlite import ir

from funcgrad.compiler.targets.llvm.vector_math.choices import FAR, choice
from funcgrad.compiler.targets.llvm.vector_math.scalar import F64, FORMATS, FormulaBuilder, Scalar, element_type
from funcgrad.errors import ArgumentError, DTypeError


@dataclass(frozen=True)
class MathFunction:
    """A scalar function: its name, its formula over `Scalar`, and its error bounds in ULP.

    With `loops`, the formula has loops, and LLVM cannot vectorize a loop that it is inlined into: see `sharing`.
    """

    name: str
    formula: Callable[..., Scalar]
    arity: int
    ulp_f32: float
    ulp_f64: float
    shortcut: Shortcut | None = None
    loops: bool = False
    far: Far | None = None


class Shortcut(NamedTuple):
    """A shorter way for arguments that a test accepts, where a branch costs less than waiting: in loops in series."""

    test: Callable[[Scalar], Scalar]
    formula: Callable[[Scalar], Scalar]


class Far(NamedTuple):
    """Another formula for float64 arguments of a size beyond a limit, which are rare: see `far`."""

    limit: float
    formula: Callable[[Scalar], Scalar]


_FUNCTIONS: dict[str, MathFunction] = {}


def math_function(
    f32: float, f64: float, shortcut: Shortcut | None = None, loops: bool = False, far: Far | None = None
) -> Callable[[FunctionType], Callable[..., Scalar]]:
    """Register a formula under its own name with its error bounds; calls of the result emit an LLVM call."""

    def register(formula: FunctionType) -> Callable[..., Scalar]:
        name = formula.__name__
        _FUNCTIONS[name] = MathFunction(
            name, formula, len(signature(formula).parameters), f32, f64, shortcut, loops, far
        )

        def call(*args: Scalar) -> Scalar:
            builder = args[0].builder
            function = define(builder.module, name, args[0].value.type)
            return Scalar(builder, builder.call(function, [a.value for a in args]))

        call.__name__, call.__doc__ = name, formula.__doc__
        return call

    return register


def names() -> tuple[str, ...]:
    """The functions that `define` knows, sorted."""
    return tuple(sorted(_FUNCTIONS))


def arity(name: str) -> int:
    """How many arguments the function takes."""
    return _lookup(name).arity


def loops(name: str) -> bool:
    """Whether the function has loops."""
    return _lookup(name).loops


def formula(name: str) -> Callable[..., Scalar]:
    """The function as Python that computes with `Scalar`."""
    return _lookup(name).formula


def far(name: str, type: ir.Type) -> Far | None:
    """The formula for far arguments of a type, if the function has one."""
    return _lookup(name).far if element_type(type) == F64 else None


def ulp_bounds() -> dict[str, tuple[float, float]]:
    """The largest error of each function in units in the last place, as (f32, f64)."""
    return {name: (f.ulp_f32, f.ulp_f64) for name, f in _FUNCTIONS.items()}


def define(module: ir.Module, name: str, type: ir.Type, in_series: bool = False) -> ir.Function:
    """The `internal` function ``fg.<name>.<f32|f64>`` of ``module``, built on first use.

    It takes and returns scalars of ``type``, is always inlined, and has one basic block, so a loop that calls it
    vectorizes. Functions with `loops`, and what they call, are defined for vectors instead. With `in_series` it takes
    its shortcut, if it has one, by a branch: for loops whose iterations wait for each other.

    >>> module = ir.Module()
    >>> define(module, "exp", ir.FloatType()).name
    'fg.exp.f32'
    """
    function = _lookup(name)
    if element_type(type) not in FORMATS:
        raise DTypeError(f"{name}: there is no implementation for LLVM type {type}", fix="cast to float or double")
    shortcut = function.shortcut if in_series else None
    lanes = f"x{type.count}" if isinstance(type, ir.VectorType) else ""
    symbol = f"fg.{name}.{FORMATS[element_type(type)].name}{lanes}{'.in_series' if shortcut else ''}"
    if symbol in module.globals:
        return module.globals[symbol]
    result = ir.Function(module, ir.FunctionType(type, [type] * function.arity), symbol)
    result.linkage = "internal"
    if type in FORMATS:
        result.attributes.add("alwaysinline")
    result.attributes.add("nounwind")
    builder = FormulaBuilder(result.append_basic_block("entry"))
    if shortcut is not None:
        (argument,) = (Scalar(builder, a) for a in result.args)
        with builder.if_then(shortcut.test(argument).value, likely=True):
            builder.ret(shortcut.formula(argument).value)
    value = function.formula(*(Scalar(builder, argument) for argument in result.args)).value
    beyond = far(name, type)
    if beyond is not None:
        value = builder.call(choice(module, name, beyond.limit, type, in_series), [*result.args, value])
    builder.ret(value)
    return result


def far_functions() -> str:
    """The LLVM IR of the functions out of line that choices call."""
    module = ir.Module()
    for function in _FUNCTIONS.values():
        if function.far is not None:
            result = ir.Function(module, ir.FunctionType(F64, [F64]), FAR.format(function.name))
            builder = FormulaBuilder(result.append_basic_block("entry"))
            builder.ret(function.far.formula(Scalar(builder, result.args[0])).value)
    return str(module)


def _lookup(name: str) -> MathFunction:
    if name not in _FUNCTIONS:
        raise ArgumentError(f"vector_math: no function named {name!r}", fix=f"use one of {', '.join(names())}")
    return _FUNCTIONS[name]
