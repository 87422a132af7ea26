"""The frame of a kernel: parameters bound to variables, run-time sizes, names, and statements.

Every writer of kernels is a `KernelBuilder`. It asks for parameters and sizes as it writes statements; `launch` then
returns the kernel together with what it is called with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    Index,
    IndexValue,
    Intent,
    Kernel,
    Let,
    Name,
    Param,
    Stmt,
    op,
)
from funcgrad.core.jaxprs import Var

INT64 = dtypes.int64
# How many operations the name of a kernel lists.
_NAMED_OPERATIONS = 5


class Launch(NamedTuple):
    """A kernel and its call: a variable for each parameter (None for scratch), its sizes, parallel iterations, and how
    many of them make one chunk. `replaces` are results that start as copies of operands: (result, operand)."""

    kernel: Kernel
    operands: tuple[Var | None, ...]
    sizes: tuple[int, ...]
    extent: int
    grain: int
    replaces: tuple[tuple[Var, Var], ...] = ()


class Expressions:
    """Builds scalar expressions; `Elementwise` lowerings are written with it."""

    def op(self, name: str, *args: Expr, dtype: np.dtype | None = None) -> Expr:
        return op(name, *args, dtype=dtype)

    def const(self, value: Any, dtype: np.dtype) -> Expr:
        return Const(value, dtype)

    def cast(self, x: Expr, dtype: np.dtype) -> Expr:
        return x if x.dtype == dtype else op("cast", x, dtype=dtype)


build = Expressions()


def index_value(*names: str) -> Expr:
    """The sum of indices as a value."""
    return IndexValue(Index(tuple((name, 1) for name in names)))


def size_value(size: int | str) -> Expr:
    """A size as a value."""
    return IndexValue(Index((), size))


def clamped(start: Expr, last: Expr) -> Expr:
    """A start of any integer type in [0, last], as int64."""
    if start.dtype == np.uint64:  # the larger half of which int64 does not have
        return build.cast(op("min", start, build.cast(last, start.dtype)), INT64)
    return op("clamp", Const(0, INT64), build.cast(start, INT64), last)


class KernelBuilder:
    """Collects parameters, sizes and statements, and names them."""

    # Strides of at most this magnitude are part of the kernel's form. Others are run-time sizes.
    largest_fixed_stride = 1

    def __init__(self) -> None:
        self.params: list[Param] = []
        self.operands: list[Var | None] = []
        self.sizes: dict[str, int] = {}
        self.body: list[Stmt] = []
        self._bound: dict[tuple[Intent, Var], str] = {}
        self._letters: Counter[str] = Counter()
        self._number = 0

    # ------------------------------------------------------------------ parameters

    def input(self, var: Var) -> str:
        """The parameter that reads a variable; each variable has one. Complex numbers are pairs."""
        return self._parameter_of("x", var, "in")

    def output(self, var: Var) -> str:
        """The parameter that writes a variable."""
        return self._parameter_of("y", var, "out")

    def updated(self, var: Var) -> str:
        """The parameter that writes some elements of a variable and leaves the others."""
        return self._parameter_of("y", var, "inout")

    def scratch(self, dtype: np.dtype, extent: int | str) -> str:
        """A parameter for a buffer of each thread's own."""
        return self._parameter("t", dtype, "scratch", None, extent)

    def _parameter_of(self, letter: str, var: Var, intent: Intent) -> str:
        if (intent, var) not in self._bound:
            self._bound[intent, var] = self._parameter(letter, dtypes.real_dtype(var.aval.dtype), intent, var)
        return self._bound[intent, var]

    def _parameter(
        self, letter: str, dtype: np.dtype, intent: Intent, var: Var | None, extent: int | str | None = None
    ) -> str:
        name = f"{letter}{self._letters[letter]}"
        self._letters[letter] += 1
        self.params.append(Param(name, dtype, intent, extent))
        self.operands.append(var)
        return name

    # ------------------------------------------------------------------ sizes

    def size(self, name: str, value: int) -> str:
        """Declare a run-time size."""
        self.sizes[name] = value
        return name

    def new_size(self, letter: str, value: int) -> str:
        """Declare a run-time size whose name is a letter and a number."""
        return self.size(f"{letter}{len(self.sizes)}", value)

    def stride(self, value: int, largest_fixed: int = 0) -> int | str:
        """A stride: a number where it is part of the kernel's form, otherwise a size."""
        fixed = max(largest_fixed, self.largest_fixed_stride)
        return value if abs(value) <= fixed else self.new_size("s", value)

    def offset(self, value: int) -> int | str:
        """An offset: 0, or a size."""
        return self.new_size("o", value) if value else 0

    # ------------------------------------------------------------------ names and statements

    def number(self) -> int:
        """The next number for a name."""
        self._number += 1
        return self._number

    def fresh(self) -> str:
        """A new name for a value."""
        return f"v{self.number()}"

    @contextmanager
    def block(self) -> Iterator[list[Stmt]]:
        """Collect the statements that are written within a ``with`` block."""
        outside, self.body = self.body, []
        try:
            yield self.body
        finally:
            self.body = outside

    def define(self, value: Expr, name: str | None = None) -> Name:
        """Name a value."""
        name = name or self.fresh()
        self.body.append(Let(name, value))
        return Name(name, value.dtype)

    def unravel(self, names: Sequence[str], extents: Sequence[str]) -> list[str]:
        """Write Lets that recover the indices of a loop nest, outermost first, from the parallel index ``p``.

        `extents` are those of all loops but the first. Return the names of the indices: the first has a new one.
        """
        found, rest = [], index_value("p")
        first = "p"
        for name, extent in zip(reversed(names[1:]), reversed(extents), strict=True):
            found.append(self.define(op("rem", rest, size_value(extent)), name).name)
            rest = self.define(op("div", rest, size_value(extent)))
            first = rest.name
        return [first, *reversed(found)] if names else []

    # ------------------------------------------------------------------ the kernel

    def launch(
        self,
        kind: str,
        operations: Iterable[str],
        body: Iterable[Stmt],
        *,
        extent: int,
        grain: int,
        setup: Iterable[Stmt] = (),
    ) -> Launch:
        """Return the kernel whose parallel loop has the given body, named after its kind and its operations."""
        loop = For("p", self.size("parallel", extent), tuple(body), "parallel")
        names = list(dict.fromkeys(operations))
        more = ["more"] if len(names) > _NAMED_OPERATIONS else []
        name = "_".join([kind, *names[:_NAMED_OPERATIONS], *more])
        kernel = Kernel(name, tuple(self.params), tuple(self.sizes), (*setup, loop))
        return Launch(kernel, tuple(self.operands), tuple(self.sizes.values()), extent, grain)
