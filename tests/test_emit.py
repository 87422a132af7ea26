"""Compiled kernels against the Python functions that they mean, and those against NumPy."""

from __future__ import annotations

import ctypes
import functools
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from funcgrad.compiler.cpu import toolchain
from funcgrad.compiler.cpu.emit import emit
from funcgrad.compiler.loops import (
    Const,
    Expr,
    For,
    If,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    Name,
    Param,
    Store,
    Update,
    at,
    check,
    op,
    scratch_stride,
)
from funcgrad.compiler.python import compile_python
from funcgrad.compiler.scalars import DTYPES, SCALARS, kind
from funcgrad.dtypes import as_dtype, bfloat16, bool_, float16, float32, float64, int32, int64, is_float, uint8

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@functools.lru_cache(maxsize=64)
def compiled(kernel: Kernel):
    """Return (arrays, sizes, begin, end, thread) → None, the compiled kernel."""
    check(kernel)
    library = toolchain.link(toolchain.compile_ir(emit([kernel])), [kernel.name])
    native = KERNEL(library.address(kernel.name))

    def run(arrays, sizes, begin, end, thread=0):
        pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        numbers = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
        native(ctypes.addressof(pointers), ctypes.addressof(numbers), begin, end, thread)

    run.library = library
    return run


def both(kernel: Kernel, arrays, sizes, extent: int):
    """Run a kernel compiled and interpreted on copies of `arrays`; return the written arrays of each."""
    native, interpreted = ([a.copy() for a in arrays] for _ in range(2))
    compiled(kernel)(native, sizes, 0, extent)
    compile_python(kernel)(*interpreted, *sizes)
    written = [i for i, p in enumerate(kernel.params) if p.intent in ("out", "inout")]
    return [native[i] for i in written], [interpreted[i] for i in written]


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, context: object = "") -> None:
    """All values equal, zeros in sign too; NaNs need only be NaNs."""
    unsigned = f"u{actual.dtype.itemsize}"
    same = actual.view(unsigned) == expected.view(unsigned)
    if is_float(actual.dtype):
        same |= np.isnan(actual.astype(float64)) & np.isnan(expected.astype(float64))
    bad = np.flatnonzero(~same)
    assert not bad.size, f"{context}: {bad.size} differ, first at {bad[0]}: {actual[bad[0]]} != {expected[bad[0]]}"


def samples(dtype: np.dtype) -> np.ndarray:
    """Return the values at which operations have corners, and some ordinary ones."""
    if dtype == bool_:
        return np.array([False, True])
    if not is_float(dtype):
        limits, width = np.iinfo(dtype), 8 * dtype.itemsize
        corners = [0, 1, 2, 3, 5, 7, width - 1, width, 100, limits.max - 1, limits.max, limits.min, limits.min + 1]
        return np.array(corners + ([-1, -2, -3, -7, -100] if dtype.kind == "i" else []), dtype)
    plain = [0, 0.5, 1, 1.5, 2, 2.5, 3.7, 0.49999997, 255, 256, 1e3, 65504, 2**31, 2**53, 2.0**63, 2.0**64, 1e-7, 6e-8]
    limits = [np.inf, np.nan, 3e38, 1e-40, 3e-39] + ([1e300, 5e-324, 1e-310] if dtype == float64 else [])
    with np.errstate(over="ignore"):
        return np.array(plain + limits + [-v for v in plain + limits]).astype(dtype)


def elementwise(name: str, expr: Expr, params: list[Param]) -> Kernel:
    """Return the kernel y[i] = expr, whose parameters are loaded at i."""
    body = For("i", "n", (Store("y", at("i"), expr),), "parallel")
    return Kernel(name, (*params, Param("y", expr.dtype, "out")), ("n",), (body,))


def loads(*dtypes: np.dtype) -> tuple[list[Param], list[Load]]:
    names = [f"x{k}" for k in range(len(dtypes))]
    return (
        [Param(n, d, "in") for n, d in zip(names, dtypes, strict=True)],
        [Load(n, at("i"), d) for n, d in zip(names, dtypes, strict=True)],
    )


def grids(*dtypes: np.dtype) -> list[np.ndarray]:
    """Return every combination of samples as flat arrays."""
    return [np.ascontiguousarray(g).ravel() for g in np.meshgrid(*map(samples, dtypes), indexing="ij")]


EXACT = [s for s in SCALARS.values() if s.result != "free"]
CASES = [(s.name, d) for s in EXACT for d in DTYPES if kind(d) in s.domain and not (s.vector_math and is_float(d))]


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_every_operation_is_exact_on_every_dtype(name):
    for dtype in [d for n, d in CASES if n == name]:
        dtypes = (bool_, dtype, dtype) if name == "select" else (dtype,) * SCALARS[name].arity
        params, values = loads(*dtypes)
        kernel = elementwise(f"{name}_{dtype.name}", op(name, *values), params)
        arrays = grids(*dtypes)
        output = np.zeros(arrays[0].size, kernel.params[-1].dtype)
        native, interpreted = both(kernel, [*arrays, output], [output.size], output.size)
        assert_same_bits(native[0], interpreted[0], (name, dtype))


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts_between_all_dtypes(source):
    for target in DTYPES:
        params, values = loads(source)
        kernel = elementwise(f"cast_{source.name}_{target.name}", op("cast", *values, dtype=target), params)
        x = samples(source)
        native, interpreted = both(kernel, [x, np.zeros(x.size, target)], [x.size], x.size)
        assert_same_bits(native[0], interpreted[0], (source, target))


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_bitcasts(source):
    for target in [d for d in DTYPES if d.itemsize == source.itemsize and bool_ not in (d, source)]:
        params, values = loads(source)
        kernel = elementwise(f"bitcast_{source.name}_{target.name}", op("bitcast", *values, dtype=target), params)
        x = samples(source)
        native, interpreted = both(kernel, [x, np.zeros(x.size, target)], [x.size], x.size)
        assert_same_bits(native[0], interpreted[0], (source, target))
