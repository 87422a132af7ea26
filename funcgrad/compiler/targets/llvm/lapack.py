"""Calls of LAPACK on batches of matrices, in the OpenBLAS that `blas` loads, run by funcgrad's own threads.

A routine is a function of a `Batch`, which records the calls for one matrix: of LAPACK, and of the helpers in
lapack.ll, which transpose between rows and columns or check a result. `lapack_routines` has the table.
"""

from __future__ import annotations

import ctypes
import functools
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler.program.target import Division
from funcgrad.compiler.targets.llvm import blas, cache, runtime, toolchain

_CHUNK_MULTIPLY_ADDS = 100_000  # what is worth handing to another thread
_SAFEPOINT_MULTIPLY_ADDS = 1_000_000
_MOST_ARGUMENTS = 24
_PARTS = ("lapack", "lapack_small")  # the files of the code, in this order
_HELPERS = (
    "transpose",
    "copy",
    "clear",
    "triangle",
    "finite",
    "permutation",
    "from_zero",
    "gather",
    "scatter",
    "small_getrf",
    "small_getrs",
)
_HERMITIAN = {"orgqr": "ungqr", "ormqr": "unmqr", "syevd": "heevd", "sytrd": "hetrd"}


class Memory(NamedTuple):
    """Memory of one matrix: the number of an operand from 1, an offset, and the distance between matrices, in bytes."""

    operand: int
    offset: int = 0
    stride: int = 0


class Matrix(NamedTuple):
    """An operand: its memory, and the shape of one matrix (or vector) of the batch."""

    memory: Memory
    shape: tuple[int, ...]
    dtype: np.dtype


class _Workspace(NamedTuple):
    """Scratch memory whose size LAPACK reports when it is asked with lwork = -1; its length is the next argument."""

    dtype: Callable[[Batch], np.dtype]


WORK = _Workspace(lambda batch: batch.dtype)
REAL_WORK = _Workspace(lambda batch: batch.real)
INTEGER_WORK = _Workspace(lambda batch: np.dtype(np.int32))


class Batch:
    """The calls for each matrix of a batch."""

    def __init__(self, dtype: np.dtype, operands: tuple[tuple[tuple[int, ...], np.dtype], ...], n_results: int):
        self.dtype, self.element = dtype, blas.ELEMENTS[dtype]
        self.complex = self.element.complex
        self.real = np.dtype({"float": np.float32, "double": np.float64}[self.element.real])
        self.operands = [
            Matrix(Memory(i, 0, math.prod(shape) * dtype.itemsize), shape, dtype)
            for i, (shape, dtype) in enumerate(operands, 1)
        ]
        results = self.operands[:n_results]
        self.results = [(x.memory.operand, x.memory.stride, 0 if x.dtype.kind == "i" else 255) for x in results]
        self.scratch_operand = len(operands) + 1
        self.scratch_bytes = 0
        self.info = self.scratch(1, np.dtype(np.int32))
        self.ignored = self.scratch(1, np.dtype(np.int32))
        self.calls: list[tuple[str, bool, list[Any]]] = []
        self.constants: list[Any] = []

    def scratch(self, count: int, dtype: np.dtype | None = None) -> Memory:
        """Return memory that each thread has for itself, by default for elements of the matrices."""
        at = self.scratch_bytes
        self.scratch_bytes += (max(1, count) * (dtype or self.dtype).itemsize + 63) & -64
        return Memory(self.scratch_operand, at)

    def lapack(self, name: str, *args: Any, may_fail: bool = True) -> None:
        """Call a routine of LAPACK, which ends with `info`. If that is not zero and it `may_fail`, results are NaN.

        Integers and letters are passed by reference.
        """
        name = f"{self.element.letter}{_HERMITIAN.get(name, name) if self.complex else name}_"
        sizes = iter(self._workspaces(name, args))
        passed: list[Any] = []
        for arg in args:
            if isinstance(arg, _Workspace):
                size = next(sizes)
                passed += [self.scratch(size, arg.dtype(self)), self.constant(ctypes.c_int32(size))]
            else:
                passed.append(self._reference(arg))
        lengths = [1 for arg in args if isinstance(arg, str)]
        self.calls.append((name, False, [*passed, self.info if may_fail else self.ignored, *lengths]))

    def blas(self, name: str, *args: Any) -> None:
        """Call a routine of BLAS."""
        lengths = [1 for arg in args if isinstance(arg, str)]
        self.calls.append((f"{self.element.letter}{name}_", False, [*map(self._reference, args), *lengths]))

    def helper(self, name: str, *args: Any, always: bool = False) -> None:
        """Call a function of lapack.ll, to which integers are passed by value; `always`: after a failure too."""
        self.calls.append((name, always, [a.memory if isinstance(a, Matrix) else a for a in args]))

    def columns(self, matrix: Matrix, finite: bool = True) -> Memory:
        """Copy a matrix to scratch memory, by columns. Fail unless all of it is finite, if it has to be."""
        m, n = matrix.shape
        if finite:
            self.check_finite(matrix)
        to = self.scratch(m * n)
        self.helper("transpose", m, n, matrix, n, to, m)
        return to

    def rows(self, columns: Memory, leading: int, to: Matrix) -> None:
        """Copy a matrix that is stored by columns, `leading` elements apart, to a result."""
        m, n = to.shape
        self.helper("transpose", n, m, columns, leading, to, n)

    def check_finite(self, matrix: Matrix) -> None:
        """Fail unless all elements of an operand are finite."""
        reals = math.prod(matrix.shape) * (1 if matrix.dtype == self.real else 2)
        self.helper("finite", reals, 1, matrix, self.info)

    def constant(self, value: Any) -> Memory:
        """Return the memory of a ctypes object, which is kept."""
        self.constants.append(value)
        return Memory(0, ctypes.addressof(value))

    def one(self) -> Memory:
        """The number 1, by reference."""
        return self.constant(((ctypes.c_double if self.real.itemsize == 8 else ctypes.c_float) * 2)(1, 0))

    def _reference(self, arg: Any) -> Memory:
        if isinstance(arg, (int, str)):
            return self.constant(ctypes.c_int32(arg) if isinstance(arg, int) else ctypes.c_char(arg.encode()))
        return arg.memory if isinstance(arg, Matrix) else arg

    def _workspaces(self, name: str, args: tuple[Any, ...]) -> list[int]:
        """Ask a routine for the sizes of its workspaces."""
        found = [np.zeros(2, a.dtype(self)) for a in args if isinstance(a, _Workspace)]
        if not found:
            return []
        unused, query, sizes = np.zeros(16), ctypes.c_int32(-1), iter(found)
        passed: list[int] = []
        for arg in args:
            if isinstance(arg, _Workspace):
                passed += [next(sizes).ctypes.data, ctypes.addressof(query)]
            else:
                memory = self._reference(arg)
                passed.append(unused.ctypes.data if memory.operand else memory.offset)
        passed += [unused.ctypes.data, *(1 for arg in args if isinstance(arg, str))]
        ctypes.CFUNCTYPE(None, *[ctypes.c_size_t] * len(passed))(blas.address(name))(*passed)
        return [int(x[0].real * (1 + 1e-6)) + 1 for x in found]  # float32 may have rounded it down


class Call(NamedTuple):
    """A routine as the fields of an instruction. `keep_alive` owns its code and constants."""

    function: int
    sizes: tuple[int, ...]
    keep_alive: Any


Arguments = dict[str, Any]


def division(record: Callable[..., None], arguments: Arguments) -> Division | None:
    """Return how a batch is divided among threads, each matrix whole; None if the routine does not apply."""
    batch = _recorded(record, **arguments)
    if batch is None:
        return None
    return Division(arguments["batch"], _matrices(arguments, _CHUNK_MULTIPLY_ADDS), batch.scratch_bytes)


def call(record: Callable[..., None], arguments: Arguments) -> Call:
    """Return the code for a batch, and its sizes."""
    batch = _recorded(record, **arguments)
    assert batch is not None
    library = _library(batch.element)
    n_operands = len(batch.operands) + 1
    words = [n_operands, len(batch.results), len(batch.calls), batch.scratch_bytes]
    words += [_matrices(arguments, _SAFEPOINT_MULTIPLY_ADDS), *(w for result in batch.results for w in result)]
    for name, always, args in batch.calls:
        assert len(args) <= _MOST_ARGUMENTS
        words += [library.address(name) if name in _HELPERS else blas.address(name), always, len(args)]
        for arg in args:
            words += arg if isinstance(arg, Memory) else (0, arg, 0)
    return Call(library.address("batch"), tuple(words), (library, batch))


@functools.lru_cache(maxsize=512)
def _recorded(
    record: Callable[..., None],
    dtype: np.dtype,
    batch: int,
    operands: Any,
    n_results: int,
    threads: int,
    **params: Any,
) -> Batch | None:
    dtype = np.dtype(dtype)
    if dtype not in blas.ELEMENTS or not batch or any(0 in shape for shape, _ in operands):
        return None
    recorded = Batch(dtype, operands, n_results)
    record(recorded, *recorded.operands, **params)
    return recorded


def _matrices(arguments: Arguments, multiply_adds: int) -> int:
    """Return how many matrices take about so many multiply-adds."""
    shape = max((shape for shape, _ in arguments["operands"]), key=math.prod)
    work = math.prod(shape) * min(shape) // 3
    return max(1, min(arguments["batch"], multiply_adds // max(1, work)))


@functools.cache
def _library(element: blas.Element) -> toolchain.Library:
    bytes_of_real = {"float": 4, "double": 8}[element.real]
    here = Path(__file__).parent
    template = string.Template("\n".join((here / f"{name}.ll").read_text(encoding="utf-8") for name in _PARTS))
    loads, passed = [], []
    for i in range(_MOST_ARGUMENTS):
        loads.append(f"  %p{i}.at = getelementptr i64, ptr %values, i64 {i}\n  %p{i} = load i64, ptr %p{i}.at")
        passed.append(f"i64 %p{i}")
    text = template.substitute(
        real=element.real,
        element=f"i{8 * bytes_of_real * (1 + element.complex)}",
        align=bytes_of_real,
        loads="\n".join(loads),
        passed=", ".join(passed),
    )
    code = cache.compiled(text, optimize=True)
    return toolchain.link(code, ("batch", *_HELPERS), runtime.safepoint())
