"""Matrix products against NumPy: every dtype, orientation, batch layout and kernel, with odd sizes."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from funcgrad.compiler.targets.llvm import blas, runtime

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
SHAPES = [
    (1, 1, 1, 1),
    (1, 5, 7, 3),
    (3, 33, 17, 65),  # several tiles
    (1, 130, 257, 64),  # tiles in both directions
    (2, 1, 190, 9),  # one row: GEMV
    (2, 190, 1, 9),  # one column: GEMV
    (1, 3, 300, 50),
    (1, 300, 3, 50),
    (1, 4, 300, 1300),  # skinny: small unpacked tiles
    (1, 300, 4, 1300),
    (40, 2, 2, 2),
    (2, 4, 6, 0),  # an empty sum
]


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    values = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def multiply(product: blas.Gemm, c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    args = ((0, 0), (1, 0), (2, 0))
    instruction = runtime.Instruction(product.function, args, product.sizes, product.extent, product.grain)
    program = runtime.Program([instruction], 3, [product.library])
    program.run(runtime.pack([x.__array_interface__["data"][0] for x in (c, a, b)]))


def bound(k: int, dtype: type) -> float:
    """Rounding of a sum of k products of standard normal numbers, with room for the largest of many."""
    return 16 * np.finfo(dtype).eps * max(k, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_product_is_numpys(dtype, shape):
    batch, m, n, k = shape
    rng = np.random.default_rng(0)
    for ta, tb, accumulate, threads in itertools.product((False, True), (False, True), (False, True), (1, 3)):
        a = random(rng, (batch, k, m) if ta else (batch, m, k), dtype)
        b = random(rng, (batch, n, k) if tb else (batch, k, n), dtype)
        c = random(rng, (batch, m, n), dtype)
        expected = (a.swapaxes(1, 2) if ta else a) @ (b.swapaxes(1, 2) if tb else b) + (c if accumulate else 0)
        if not accumulate:
            c[:] = np.nan  # must be overwritten, not multiplied by zero
        product = blas.gemm(
            dtype, batch, m, n, k, transpose_a=ta, transpose_b=tb, accumulate=accumulate, threads=threads
        )
        multiply(product, c, a, b)
        np.testing.assert_allclose(c, expected, rtol=0, atol=bound(k, dtype), err_msg=f"{ta=} {tb=} {accumulate=}")


@pytest.mark.parametrize("shape", [(3, 20, 30, 10), (3, 1, 30, 10), (3, 20, 2, 10)])
@pytest.mark.parametrize("transposed", [False, True])
def test_leading_dimensions_and_batch_strides(shape, transposed):
    batch, m, n, k = shape
    rng = np.random.default_rng(1)
    a = random(rng, (batch, m + 1, k + 3), np.float32)
    b = random(rng, (n + 2, k + 5) if transposed else (k + 2, n + 5), np.float32)  # one matrix for the whole batch
    c = np.full((batch, m + 2, n + 4), 7, np.float32)
    product = blas.gemm(
        np.float32,
        batch,
        m,
        n,
        k,
        transpose_b=transposed,
        lda=k + 3,
        ldb=b.shape[1],
        ldc=n + 4,
        stride_a=a[0].size,
        stride_b=0,
        stride_c=c[0].size,
        threads=2,
    )
    multiply(product, c, a, b)
    expected = a[:, :m, :k] @ (b[:n, :k].T if transposed else b[:k, :n])
    np.testing.assert_allclose(c[:, :m, :n], expected, rtol=0, atol=bound(k, np.float32))
    assert (c[:, m:] == 7).all() and (c[:, :, n:] == 7).all(), "wrote outside the result"


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 1, 7)])
def test_nan_times_zero_is_nan(shape):
    m, n, k = shape
    a, b, c = np.zeros((m, k)), np.full((k, n), np.nan), np.empty((m, n))
    multiply(blas.gemm(np.float64, 1, m, n, k), c, a, b)
    assert np.isnan(c).all()


def test_tiles_cover_the_result_for_every_thread_count():
    for batch, m, n, k, threads in itertools.product((1, 7), (1, 63, 1000), (1, 16, 513), (1, 2000), (1, 2, 64)):
        for variant in ("gemm", "rows", "columns"):
            t = blas.tile(batch, m, n, k, threads, variant)
            assert (t.row_tiles - 1) * t.rows < m <= t.row_tiles * t.rows
            assert (t.column_tiles - 1) * t.columns < n <= t.column_tiles * t.columns


def test_one_blas_call_of_a_large_product_is_bounded():
    for m, n, k, threads in [(20_000, 20_000, 20_000, 2), (10**8, 64, 64, 1), (64, 10**8, 64, 1), (10**6, 4, 1000, 8)]:
        t = blas.tile(1, m, n, k, threads, "gemm")
        assert min(t.rows * t.joined, m) * t.columns * k < 1.5 * blas._LONGEST_CALL


def test_empty_products_do_nothing():
    empty = np.empty((0, 5), np.float32)
    product = blas.gemm(np.float32, 1, 0, 5, 4)
    assert product.extent == 0
    multiply(product, empty, np.ones((0, 4), np.float32), np.ones((4, 5), np.float32))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="no BLAS for int32"):
        blas.gemm(np.int32, 1, 2, 2, 2)
    with pytest.raises(ValueError, match="lda is 3, less than a row of 4"):
        blas.gemm(np.float32, 1, 2, 2, 4, lda=3)
    with pytest.raises(ValueError, match="negative"):
        blas.gemm(np.float32, 1, 2, -2, 4)
    with pytest.raises(ValueError, match="over 2147483647"):
        blas.gemm(np.float32, 1, 2**31, 2, 4)


def test_same_bits_every_time():
    rng = np.random.default_rng(2)
    a, b = random(rng, (300, 200), np.float32), random(rng, (200, 300), np.float32)
    product = blas.gemm(np.float32, 1, 300, 300, 200, threads=4)
    results = []
    for _ in range(20):
        c = np.empty((300, 300), np.float32)
        multiply(product, c, a, b)
        results.append(c)
    assert all((c == results[0]).all() for c in results)


def test_kernels_do_not_follow_a_variable_meant_for_other_copies_of_openblas():
    program = (
        "import ctypes; from funcgrad.compiler.targets.llvm import blas; "
        "name = blas._openblas().scipy_openblas_get_corename; name.restype = ctypes.c_char_p; print(name().decode())"
    )

    def core(**variables: str) -> str:
        clean = {k: v for k, v in os.environ.items() if "OPENBLAS" not in k}
        return subprocess.run(
            [sys.executable, "-c", program], env=clean | variables, capture_output=True, text=True, check=True
        ).stdout

    assert core(OPENBLAS_CORETYPE="Prescott") == core()
    if platform.machine() == "x86_64":  # the variable's values are names of processors
        assert core(FUNCGRAD_OPENBLAS_CORETYPE="Prescott") != core()
