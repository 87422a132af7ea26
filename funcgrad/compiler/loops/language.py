"""The loop IR: how a kernel computes. One small data type, which lowering makes and emitters read.

The grammar, on one page (every node is frozen and hashable: a kernel is its own cache key):

    Kernel(name, params: (Param…), sizes: (str…), body: (Stmt…))    body = Lets, then exactly one parallel For
    Param(name, dtype, intent, extent)  a flat, contiguous, one-dimensional buffer; no two of them overlap
        intent: "in" | "out" | "inout" | "scratch"
            "out" holds nothing before the kernel writes it; "scratch" is a buffer of `extent` elements for
            each thread, and holds nothing when an iteration of the parallel loop starts

    Stmt = For(index, extent, body, kind)   index = 0 … extent-1; extent: an int, a size, or an int64 Let
             kind "parallel": the outermost loop, iterations independent
                  "vector":   iterations independent but for Updates (other than "set"): vectorized
                  "serial":   in order
                  "lanes":    like "vector", but LLVM is given vectors: each statement runs for all iterations, of which
                              there are a constant number, before the next; loops inside are common to them
         | Let(name, value)         an immutable scalar, in scope for the rest of its block
         | Init(name, value)        a mutable accumulator, in scope for the rest of its block
         | Update(name, op, value)  name = op(name, value); op: add mul max min and or xor, or set: it = value
                                    Floating add and mul may be reassociated here and nowhere else
         | Store(param, index, value)
         | If(condition, body)
         | While(setup, condition, body)   repeat: setup; stop if the condition is false; body

    Expr = Const(value, dtype)
         | Name(name, dtype)        a Let or an accumulator
         | Load(param, index, dtype, mask, other)   where the mask is false, nothing is read and the value is `other`
         | IndexValue(index)        an index as an int64 value
         | Op(op, args, dtype)      a scalar operation of `compiler.loops.scalars`
    Index(terms: ((name, stride)…), offset)     the sum of name·stride, plus offset
             name: a loop index or an int64 Let (an indirect access); stride: an int or a size
             offset: an int, a size, or a tuple of these, which are added

Sizes are int64 run-time arguments: extents, strides and offsets. Only what the kernel's form depends on
(strides that are exactly 1 or 0, extents small enough to unroll) is written as an int. Expressions are
trees: a value used twice belongs in a Let, and so do long chains (nesting is bounded by Python's recursion
limit).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from funcgrad.compiler.loops.scalars import result_dtype
from funcgrad.dtypes import int64, is_float, short_name
from funcgrad.errors import FuncgradError

Intent = Literal["in", "out", "inout", "scratch"]
Kind = Literal["parallel", "vector", "serial", "lanes"]
Offset = int | str | tuple[int | str, ...]

UPDATE_OPS = ("add", "mul", "max", "min", "and", "or", "xor", "set")


class LoopError(FuncgradError):
    """A kernel breaks a rule of the loop IR; a bug in lowering or scheduling, not in user code."""


# ----------------------------------------------------------------------------------------------------- nodes
@dataclass(frozen=True, slots=True)
class Index:
    """The sum of name·stride over `terms`, plus `offset`."""

    terms: tuple[tuple[str, int | str], ...] = ()
    offset: Offset = 0

    @property
    def offsets(self) -> tuple[int | str, ...]:
        """The offset as a tuple of addends, zero left out."""
        addends = self.offset if isinstance(self.offset, tuple) else (self.offset,)
        return tuple(a for a in addends if a != 0)


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A constant. Equality is of the bits as printed: 0.0 is not -0.0, and NaN is NaN."""

    value: bool | int | float
    dtype: np.dtype

    def __post_init__(self) -> None:
        value = (
            np.asarray(self.value).astype(self.dtype) if is_float(self.dtype) else np.asarray(self.value, self.dtype)
        )
        plain = float(value) if is_float(self.dtype) else value.item()
        object.__setattr__(self, "value", plain)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and (repr(self.value), self.dtype) == (repr(other.value), other.dtype)

    def __hash__(self) -> int:
        return hash((repr(self.value), self.dtype))


@dataclass(frozen=True, slots=True)
class Name:
    """The value of a Let or of an accumulator."""

    name: str
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Load:
    """An element of a parameter; with a mask, `other` where the mask is false."""

    param: str
    index: Index
    dtype: np.dtype
    mask: Expr | None = None
    other: Expr | None = None


@dataclass(frozen=True, slots=True)
class IndexValue:
    """The value of an index, an int64."""

    index: Index
    dtype: np.dtype = field(default=int64, init=False)


@dataclass(frozen=True, slots=True)
class Op:
    """A scalar operation applied to expressions."""

    op: str
    args: tuple[Expr, ...]
    dtype: np.dtype


Expr = Const | Name | Load | IndexValue | Op


@dataclass(frozen=True, slots=True)
class For:
    """A loop over index = 0 … extent-1."""

    index: str
    extent: int | str
    body: tuple[Stmt, ...]
    kind: Kind = "serial"


@dataclass(frozen=True, slots=True)
class Let:
    """Names a value."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Init:
    """Makes an accumulator."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Update:
    """Combines a value into an accumulator."""

    name: str
    op: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """Writes an element of a parameter."""

    param: str
    index: Index
    value: Expr


@dataclass(frozen=True, slots=True)
class If:
    """Runs a body where a condition holds."""

    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class While:
    """Runs setup and body by turns, until the condition, which setup prepares, is false."""

    setup: tuple[Stmt, ...]
    condition: Expr
    body: tuple[Stmt, ...]


Stmt = For | Let | Init | Update | Store | If | While


@dataclass(frozen=True, slots=True)
class Param:
    """A buffer that the kernel reads or writes. `extent`, for scratch only: elements per thread."""

    name: str
    dtype: np.dtype
    intent: Intent
    extent: int | str | None = None


@dataclass(frozen=True)
class Kernel:
    """A kernel: what one instruction of a program runs."""

    name: str
    params: tuple[Param, ...]
    sizes: tuple[str, ...]
    body: tuple[Stmt, ...]

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.name, self.params, self.sizes, self.body))

    def __hash__(self) -> int:
        return self._hash  # a kernel is looked up for each group that it computes

    @property
    def parallel(self) -> For:
        """The parallel loop."""
        loop = self.body[-1]
        assert isinstance(loop, For)
        return loop

    def __str__(self) -> str:
        return format(self)


def at(*terms: str | tuple[str, int | str], offset: Offset = 0) -> Index:
    """Return an index; a bare name has stride 1.

    >>> at(("i", "n"), "j")
    Index(terms=(('i', 'n'), ('j', 1)), offset=0)
    """
    return Index(tuple((t, 1) if isinstance(t, str) else t for t in terms), offset)


def moved(index: Index, by: int) -> Index:
    """Return an index a number of elements further on."""
    known = sum(o for o in index.offsets if isinstance(o, int)) + by
    symbols = tuple(o for o in index.offsets if isinstance(o, str))
    return Index(index.terms, (*symbols, known) if symbols else known)


def op(name: str, *args: Expr, dtype: np.dtype | None = None) -> Op:
    """Apply a scalar operation; its dtype follows from the arguments (state it for cast and bitcast).

    >>> op("lt", Const(1.0, np.dtype("f4")), Const(2.0, np.dtype("f4"))).dtype
    dtype('bool')
    """
    return Op(name, args, result_dtype(name, tuple(a.dtype for a in args), dtype or args[0].dtype))


def scratch_stride(extent: int, dtype: np.dtype) -> int:
    """Return the bytes of a scratch parameter for one thread: whole cache lines of 64 bytes.

    Thread t's part starts at t·scratch_stride from the pointer that the kernel is given.
    """
    return (extent * dtype.itemsize + 63) & -64


# -------------------------------------------------------------------------------------------------- printing
def format(kernel: Kernel) -> str:
    """Return a kernel as text.

    kernel scale(in x: f32, out y: f32; n)
      parallel i < n:
        y[i] = mul(x[i], 2.0:f32)
    """
    params = ", ".join(
        f"{p.intent} {p.name}: {short_name(p.dtype)}" + (f"[{p.extent}]" if p.extent is not None else "")
        for p in kernel.params
    )
    sizes = f"; {', '.join(kernel.sizes)}" if kernel.sizes else ""
    return "\n".join([f"kernel {kernel.name}({params}{sizes})", *_format_block(kernel.body, "  ")]) + "\n"


def format_index(index: Index) -> str:
    """Return an index as text.

    >>> format_index(at(("i", "n"), "j", offset=(3, "k")))
    'i*n + j + 3 + k'
    """
    terms = [{1: name, -1: f"-{name}"}.get(stride, f"{name}*{stride}") for name, stride in index.terms if stride != 0]
    return " + ".join([*terms, *map(str, index.offsets)]).replace("+ -", "- ") or "0"


def format_expr(expr: Expr) -> str:
    """Return an expression as text, operations as calls."""
    match expr:
        case Const(value, dtype):
            return f"{format_const(value, dtype)}:{short_name(dtype)}"
        case Name(name):
            return name
        case IndexValue(index):
            return f"({format_index(index)})"
        case Load(param, index, _, mask, other):
            plain = f"{param}[{format_index(index)}]"
            if mask is None or other is None:
                return plain
            return f"({plain} where {format_expr(mask)} else {format_expr(other)})"
        case Op(name, args, dtype):
            to = f", {short_name(dtype)}" if name in ("cast", "bitcast") else ""
            return f"{name}({', '.join(map(format_expr, args))}{to})"


def format_const(value: bool | int | float, dtype: np.dtype) -> str:
    """Return the shortest text that reads back as this constant of this dtype: 0.1, -0.0, inf, 7, True."""
    if not is_float(dtype):
        return repr(value)
    return str(value) if value != value or abs(value) == float("inf") else str(dtype.type(value))


def _format_block(body: tuple[Stmt, ...], indent: str) -> list[str]:
    lines = []
    for statement in body:
        lines.append(indent + headline(statement))
        if isinstance(statement, While):
            lines += _format_block(statement.setup, indent + "  ")
            lines.append(f"{indent}  until not {format_expr(statement.condition)}")
        if isinstance(statement, For | If | While):
            lines += _format_block(statement.body, indent + "  ")
    return lines


def headline(statement: Stmt) -> str:
    """Return the first line of a statement, without what is inside it."""
    match statement:
        case For(index, extent, _, kind):
            return f"{kind} {index} < {extent}:"
        case Let(name, value):
            return f"let {name} = {format_expr(value)}"
        case Init(name, value):
            return f"init {name} = {format_expr(value)}"
        case Update(name, update, value):
            return f"{name} {'' if update == 'set' else update}= {format_expr(value)}"
        case Store(param, index, value):
            return f"{param}[{format_index(index)}] = {format_expr(value)}"
        case If(condition):
            return f"if {format_expr(condition)}:"
        case While():
            return "repeat:"
    return repr(statement)


# -------------------------------------------------------------------------------------------------- rewriting
def unique_indices(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """Rename loop indices so that each loop of a nest has its own: i1 of a second loop becomes i1_2."""
    return tuple(_renamed(body, {}, {}))


def _renamed(body: Sequence[Stmt], names: dict[str, str], uses: dict[str, int]) -> list[Stmt]:
    out: list[Stmt] = []
    for s in body:
        match s:
            case For(index, extent, inner, kind):
                uses[index] = uses.get(index, 0) + 1
                fresh = index if uses[index] == 1 else f"{index}_{uses[index]}"
                out.append(For(fresh, extent, tuple(_renamed(inner, {**names, index: fresh}, uses)), kind))
            case Let(name, value):
                out.append(Let(name, _renamed_expr(value, names)))
            case Init(name, value):
                out.append(Init(name, _renamed_expr(value, names)))
            case Update(name, update, value):
                out.append(Update(name, update, _renamed_expr(value, names)))
            case Store(param, index, value):
                out.append(Store(param, _renamed_index(index, names), _renamed_expr(value, names)))
            case If(condition, inner):
                out.append(If(_renamed_expr(condition, names), tuple(_renamed(inner, names, uses))))
            case While(setup, condition, inner):
                parts = [tuple(_renamed(part, names, uses)) for part in (setup, inner)]
                out.append(While(parts[0], _renamed_expr(condition, names), parts[1]))
    return out


def _renamed_index(index: Index, names: dict[str, str]) -> Index:
    return Index(tuple((names.get(n, n), s) for n, s in index.terms), index.offset)


def _renamed_expr(expr: Expr, names: dict[str, str]) -> Expr:
    match expr:
        case Load(param, index, dtype, mask, other):
            inside = [None if e is None else _renamed_expr(e, names) for e in (mask, other)]
            return Load(param, _renamed_index(index, names), dtype, *inside)
        case IndexValue(index):
            return IndexValue(_renamed_index(index, names))
        case Op(name, args, dtype):
            return Op(name, tuple(_renamed_expr(a, names) for a in args), dtype)
    return expr
