"""Matrix products through OpenBLAS, in tiles that the threads of funcgrad run.

The OpenBLAS is the stand-alone library of the wheel `scipy-openblas32`, so the user's NumPy and its settings
are left alone. It runs on one thread: parallelism is over tiles of the result, which the program runner hands
out.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import math
import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler.targets.llvm import cache, runtime, toolchain

_NO_TRANSPOSE, _TRANSPOSE = 111, 112  # CBLAS codes
_INT32_MAX = 2**31 - 1


class Element(NamedTuple):
    """An element type in BLAS: its letter, its real LLVM type, and whether it is complex."""

    letter: str
    real: str
    complex: bool


ELEMENTS = {
    np.dtype(np.float32): Element("s", "float", False),
    np.dtype(np.float64): Element("d", "double", False),
    np.dtype(np.complex64): Element("c", "float", True),
    np.dtype(np.complex128): Element("z", "double", True),
}


class Divided(NamedTuple):
    """A matrix product in tiles: the kernel of blas.ll that computes one, its sizes, and how many tiles there are."""

    variant: str
    sizes: tuple[int, ...]
    extent: int
    grain: int


class Gemm(NamedTuple):
    """A matrix product as the fields of an instruction; its args are C, A, B. `library` owns the code."""

    function: int
    sizes: tuple[int, ...]
    extent: int
    grain: int
    library: toolchain.Library


class Tiling(NamedTuple):
    """Tiles of `rows` x `columns` of the result, and how many there are of them along each side of one
    matrix. Up to `joined` adjacent ones are one BLAS call."""

    rows: int
    columns: int
    row_tiles: int
    column_tiles: int
    joined: int


def supports(dtype: Any) -> bool:
    """Whether `gemm` supports this element type."""
    return np.dtype(dtype) in ELEMENTS


def gemm(dtype: Any, batch: int, m: int, n: int, k: int, *, accumulate: bool = False, **layout: Any) -> Gemm:
    """C[b] = A[b] @ B[b] for b < batch, or C[b] += with `accumulate`; `layout` and errors are those of `divided`."""
    tiles = divided(dtype, batch, m, n, k, **layout)
    library = _library(ELEMENTS[np.dtype(dtype)], accumulate)
    return Gemm(library.address(tiles.variant), *tiles[1:], library)


def divided(
    dtype: Any,
    batch: int,
    m: int,
    n: int,
    k: int,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    lda: int | None = None,
    ldb: int | None = None,
    ldc: int | None = None,
    stride_a: int | None = None,
    stride_b: int | None = None,
    stride_c: int | None = None,
    threads: int = 1,
) -> Divided:
    """Divide C[b] = A[b] @ B[b] for b < batch into tiles.

    Everything is row-major. C is (m, n); A is stored (m, k), or (k, m) with `transpose_a`; B is stored (k,
    n), or (n, k) with `transpose_b`. A leading dimension is the distance from one stored row to the next, a
    batch stride that from one matrix to the next, in elements; they default to contiguous storage, and a
    batch stride of 0 broadcasts. `threads` is the thread count that the program will have; it only chooses
    the tiling.

    Raises:
      ValueError: the dtype is not float32, float64, complex64 or complex128; a size is negative or does not
      fit in 32
        bits; or a leading dimension is shorter than a row.
    """
    if not supports(dtype):
        raise ValueError(f"gemm: no BLAS for {np.dtype(dtype)}")
    rows_a, row_a = (k, m) if transpose_a else (m, k)
    rows_b, row_b = (n, k) if transpose_b else (k, n)
    lda, ldb, ldc = _leading("lda", lda, row_a), _leading("ldb", ldb, row_b), _leading("ldc", ldc, n)
    if min(batch, m, n, k) < 0 or max(m, n, k, lda, ldb, ldc) > _INT32_MAX:
        raise ValueError(f"gemm: batch {batch}, m {m}, n {n}, k {k}: negative, or over {_INT32_MAX}")
    stride_a = rows_a * lda if stride_a is None else stride_a
    stride_b = rows_b * ldb if stride_b is None else stride_b
    stride_c = m * ldc if stride_c is None else stride_c
    name = _variant(m, n, k)
    tiling = tile(batch, m, n, k, threads, name)
    codes = (_TRANSPOSE if transpose_a else _NO_TRANSPOSE, _TRANSPOSE if transpose_b else _NO_TRANSPOSE)
    sizes = (m, n, k, *codes, lda, ldb, ldc, stride_a, stride_b, stride_c, *tiling)
    extent = batch * tiling.row_tiles * tiling.column_tiles
    return Divided(name, sizes, extent, _grain(tiling, k, extent, name))


def tile(batch: int, m: int, n: int, k: int, threads: int, variant: str) -> Tiling:
    """Cut the results so that every thread gets several tiles, no smaller than is worth a BLAS call.

    GEMM copies the operands of each call into panels, A for every column tile and B for every row tile: that
    is least when tiles are as square as C allows.
    """
    wanted = -(-threads * _TILES_PER_THREAD // max(batch, 1)) if threads > 1 else 1
    wanted = max(wanted, m * n * k // _LONGEST_CALL)
    if variant == "columns":
        rows, columns = _cut(m, wanted), max(n, 1)
    elif variant == "rows":
        rows, columns = max(m, 1), _cut(n, min(wanted, threads))  # narrow strips of a matrix read slowly
    else:
        square = round(math.sqrt(wanted * m / max(n, 1)))
        rows = _cut(m, min(square, wanted))
        columns = _cut(n, -(-wanted // max(1, -(-m // rows))))
        unpacked = _UNPACKED // max(1, min(m, n) * k) // _STEP * _STEP
        if min(m, n) <= _SKINNY and unpacked:
            rows, columns = (rows, min(columns, unpacked)) if m <= n else (min(rows, unpacked), columns)
    column_tiles = -(-n // columns)
    joined = max(1, _LONGEST_CALL // max(1, rows * n * k)) if column_tiles == 1 else 1
    return Tiling(rows, columns, -(-m // rows), column_tiles, joined)


_TILES_PER_THREAD = 2
_LONGEST_CALL = 1 << 32  # multiply-adds: about 50 ms, after which the run can be interrupted
_STEP = 64  # sides of tiles are multiples of this, hence of OpenBLAS's register blocks
_VECTORS = 3  # up to so many rows or columns, matrix-vector products win
_SKINNY = 16  # up to so many rows or columns, packing costs more than it brings, and
_UNPACKED = 1_000_000  # up to so many multiply-adds, OpenBLAS's AVX-512 kernels do without it
_CHUNK_MULTIPLY_ADDS = 250_000  # what is worth handing to another thread: a few µs
_CHUNK_VECTORELEMENTS = 65_536  # likewise for matrix-vector products, which read each element once


def _cut(size: int, pieces: int) -> int:
    """Return the side of a tile such that about `pieces` of them cover `size`."""
    return max(1, min(size, _STEP * math.ceil(size / (max(pieces, 1) * _STEP))))


def _grain(tiling: Tiling, k: int, extent: int, variant: str) -> int:
    """Return the number of tiles that is worth giving to another thread."""
    area = tiling.rows * tiling.columns * max(k, 1)
    worth = _CHUNK_MULTIPLY_ADDS if variant == "gemm" else _CHUNK_VECTORELEMENTS
    return max(1, min(-(-worth // area), extent))


def _variant(m: int, n: int, k: int) -> str:
    """The kernel of blas.ll for this shape. GEMV does nothing at all when k is 0, where GEMM writes zeros."""
    if k == 0 or (m > _VECTORS and n > _VECTORS):
        return "gemm"
    return "columns" if n <= m else "rows"


def _leading(name: str, given: int | None, row: int) -> int:
    if given is not None and given < row:
        raise ValueError(f"gemm: {name} is {given}, less than a row of {row}")
    return max(1, row if given is None else given)


@functools.cache
def _library(element: Element, accumulate: bool) -> toolchain.Library:
    scalar = "ptr" if element.complex else element.real
    one, zero = (f"{scalar} @one", f"{scalar} @zero") if element.complex else (f"{scalar} 1.0", f"{scalar} 0.0")
    template = string.Template(Path(__file__).with_suffix(".ll").read_text(encoding="utf-8"))
    text = template.substitute(
        element=f"[2 x {element.real}]" if element.complex else element.real,
        real=element.real,
        scalar=scalar,
        one=one,
        beta=one if accumulate else zero,
    )
    imports = {f"blas_{name}": address(f"cblas_{element.letter}{name}") for name in ("gemm", "gemv")}
    imports |= runtime.safepoint()
    return toolchain.link(cache.compiled(text), ("gemm", "rows", "columns"), imports)


def address(name: str) -> int:
    """Return the address of a function of OpenBLAS: `cblas_sgemm`, or LAPACK's `spotrf_`."""
    return ctypes.cast(getattr(_openblas(), f"scipy_{name}"), ctypes.c_void_p).value or 0


@functools.cache
def _openblas() -> ctypes.CDLL:
    """Load the library, single-threaded and with the kernels for this processor. It stays loaded."""
    # Found without importing it: the package takes 30 ms to read its own metadata.
    package = importlib.util.find_spec("scipy_openblas32")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("scipy_openblas32, which funcgrad depends on; fix: pip install scipy-openblas32")
    [path] = (Path(package.origin).parent / "lib").glob("libscipy_openblas*.*")
    # Read while it loads: the thread count, because it would start threads of its own; the choice of kernels, because
    # that variable is set for the sake of other copies of OpenBLAS.
    core = os.environ.get("FUNCGRAD_OPENBLAS_CORETYPE")
    with _environment({"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": core}):
        library = ctypes.CDLL(str(path))
    library.scipy_openblas_set_num_threads(1)
    return library


@contextlib.contextmanager
def _environment(values: dict[str, str | None]) -> Iterator[None]:
    """Set environment variables, or unset them for None, within a ``with`` block."""
    before = {name: os.environ.pop(name, None) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
