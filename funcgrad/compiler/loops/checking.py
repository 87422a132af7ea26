"""The rules of the loop IR, checked."""

from __future__ import annotations

import keyword
from typing import Any

import numpy as np

from funcgrad.compiler.loops.language import (
    UPDATE_OPS,
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
    LoopError,
    Name,
    Op,
    Param,
    Stmt,
    Store,
    Update,
    While,
    headline,
)
from funcgrad.compiler.loops.scalars import DTYPES, SCALARS, result_dtype
from funcgrad.dtypes import bool_, int64
from funcgrad.errors import DTypeError

_RESERVED = {*SCALARS, *(d.name for d in DTYPES), "range", "inf", "nan", "cuda"}


def check(kernel: Kernel) -> None:
    """Raise LoopError, naming the rule and the statement, unless `kernel` is well formed."""
    _Checker(kernel).run()


class _Checker:
    """Walks a kernel; a scope maps a name to its role (size, index, let or accumulator) and its dtype."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.params = {p.name: p for p in kernel.params}
        self.used: set[str] = set()
        self.where: Any = None

    def run(self) -> None:
        kernel, scope = self.kernel, {}
        self._define({}, kernel.name, "kernel", bool_)
        for size in kernel.sizes:
            self._define(scope, size, "size", int64)
        for param in kernel.params:
            self._param(param, scope)
        loops = [s for s in kernel.body if isinstance(s, For)]
        rule = "the body is Lets followed by exactly one parallel For"
        self._require(bool(kernel.body) and loops == [kernel.body[-1]] and loops[0].kind == "parallel", rule)
        self._require(all(isinstance(s, Let) for s in kernel.body[:-1]), rule)
        self._block(kernel.body, scope, nested=False)

    def _require(self, holds: bool, rule: str) -> None:
        if not holds:
            where = "" if self.where is None else f", at `{headline(self.where)}`"
            raise LoopError(f"kernel {self.kernel.name}: {rule}{where}", fix="correct the pass that made this kernel")

    def _define(self, scope: dict, name: str, role: str, dtype: np.dtype) -> None:
        plain = name.isidentifier() and not keyword.iskeyword(name) and name not in _RESERVED
        self._require(plain, f"{name!r} is a keyword, an operation or not an identifier")
        self._require(name not in self.used, f"{name} is defined twice")
        self.used.add(name)
        scope[name] = (role, dtype)

    def _param(self, param: Param, scope: dict) -> None:
        self._define({}, param.name, "param", param.dtype)
        self._require(param.dtype in DTYPES, f"parameter {param.name} has dtype {param.dtype}, which loops do not have")
        self._require(param.intent in ("in", "out", "inout", "scratch"), f"{param.intent!r} is not an intent")
        rule = f"scratch, and only scratch, states an extent (parameter {param.name})"
        self._require((param.intent == "scratch") == (param.extent is not None), rule)
        if isinstance(param.extent, str):
            self._require(scope.get(param.extent, ("",))[0] == "size", f"extent {param.extent} is not a size")

    def _block(self, body: tuple[Stmt, ...], scope: dict, nested: bool = True) -> dict:
        """Check a block; return the scope at its end."""
        scope = dict(scope)
        for statement in body:
            self.where = statement
            match statement:
                case For(index, extent, inner, kind):
                    self._require(kind in ("parallel", "vector", "serial", "lanes"), f"{kind!r} is not a kind of loop")
                    self._require(not (nested and kind == "parallel"), "the parallel loop is the outermost one")
                    self._extent(extent, kind, scope)
                    self._require(
                        kind != "lanes" or _fits_lanes(inner),
                        "a loop of lanes has only values, accumulators, stores and loops",
                    )
                    inside = dict(scope)
                    self._define(inside, index, "index", int64)
                    self._block(inner, inside)
                case Let(name, value) | Init(name, value):
                    dtype = self._expr(value, scope)
                    self._define(scope, name, "let" if isinstance(statement, Let) else "accumulator", dtype)
                case Update():
                    self._update(statement, scope)
                case Store():
                    self._store(statement, scope)
                case If(condition, inner):
                    self._require(self._expr(condition, scope) == bool_, "a condition is bool")
                    self._block(inner, scope)
                case While(setup, condition, inner):
                    inside = self._block(setup, scope)
                    self._require(self._expr(condition, inside) == bool_, "a condition is bool")
                    self._block(inner, inside)
                case _:
                    self._require(False, f"{type(statement).__name__} is not a statement")
        self.where = None
        return scope

    def _extent(self, extent: int | str, kind: str, scope: dict) -> None:
        self._require(kind != "lanes" or isinstance(extent, int), f"a loop of lanes has {extent} iterations, a size")
        if isinstance(extent, str):
            role = scope.get(extent, ("undefined", None))
            good = role == ("size", int64) or (role == ("let", int64) and kind != "parallel")
            self._require(good, f"extent {extent} is neither a size nor (in an inner loop) an int64 Let")
        else:
            self._require(extent >= 0, f"extent {extent} is negative")

    def _update(self, statement: Update, scope: dict) -> None:
        role, dtype = scope.get(statement.name, ("undefined", None))
        self._require(role == "accumulator", f"{statement.name} is no accumulator in scope")
        self._require(
            statement.op in UPDATE_OPS, f"{statement.op!r} is not an update; they are {', '.join(UPDATE_OPS)}"
        )
        value = self._expr(statement.value, scope)
        self._require(value == dtype, f"{statement.name} is {dtype}, the value {value}")
        if statement.op != "set":
            self._dtype(statement.op, (dtype, dtype), dtype)

    def _store(self, statement: Store, scope: dict) -> None:
        param = self._parameter(statement.param)
        self._require(param.intent != "in", f"{param.name} is an input and is not written")
        value = self._expr(statement.value, scope)
        self._require(value == param.dtype, f"{param.name} is {param.dtype}, the value {value}")
        self._index(statement.index, scope)

    def _expr(self, expr: Expr, scope: dict) -> np.dtype:
        """Check an expression and return its dtype."""
        match expr:
            case Const(_, dtype):
                self._require(dtype in DTYPES, f"a constant has dtype {dtype}, which loops do not have")
            case Name(name, dtype):
                role, defined = scope.get(name, ("undefined", None))
                self._require(role in ("let", "accumulator"), f"{name} is used but no Let or Init in scope defines it")
                self._require(defined == dtype, f"{name} is {defined}, used as {dtype}")
            case Load():
                self._load(expr, scope)
            case IndexValue(index):
                self._index(index, scope)
            case Op(name, args, dtype):
                found = self._dtype(name, tuple(self._expr(a, scope) for a in args), dtype)
                self._require(found == dtype, f"{name} gives {found}, not {dtype}")
            case _:
                self._require(False, f"{type(expr).__name__} is not an expression")
        return expr.dtype

    def _load(self, load: Load, scope: dict) -> None:
        param = self._parameter(load.param)
        self._require(param.dtype == load.dtype, f"{load.param} is {param.dtype}, loaded as {load.dtype}")
        self._require((load.mask is None) == (load.other is None), "a masked load has both a mask and another value")
        if load.mask is not None and load.other is not None:
            self._require(self._expr(load.mask, scope) == bool_, "a mask is bool")
            other = self._expr(load.other, scope)
            self._require(other == load.dtype, f"{load.param} is {load.dtype}, the other value {other}")
        self._index(load.index, scope)

    def _parameter(self, name: str) -> Param:
        self._require(name in self.params, f"{name} is not a parameter")
        return self.params[name]

    def _dtype(self, name: str, arguments: tuple[np.dtype, ...], stated: np.dtype) -> np.dtype:
        try:
            return result_dtype(name, arguments, stated)
        except DTypeError as error:
            self._require(False, error.summary)
            raise

    def _index(self, index: Index, scope: dict) -> None:
        for name, stride in index.terms:
            role, dtype = scope.get(name, ("undefined", None))
            good = role in ("index", "let") and dtype == int64
            self._require(good, f"index term {name} is neither a loop index nor an int64 Let in scope")
            self._size(stride, scope)
        for offset in index.offsets:
            self._size(offset, scope)

    def _size(self, size: int | str, scope: dict) -> None:
        known = not isinstance(size, str) or scope.get(size, ("",))[0] == "size"
        self._require(known, f"{size} in an index is not a size")


def _fits_lanes(body: tuple[Stmt, ...]) -> bool:
    loops = [s for s in body if isinstance(s, For)]
    return not any(isinstance(s, If | While) for s in body) and all(
        loop.kind in ("serial", "vector") and _fits_lanes(loop.body) for loop in loops
    )
