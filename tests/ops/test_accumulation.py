"""The rounding error of sums does not grow with the number of terms: all kinds of folds against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax, nn

# A sum in float32 is off by at most this share of the sum of magnitudes, however many terms it has.
TOLERANCE = 64 * 2.0**-24

SIZES = [1_000, 30_000, 1_000_000]
SLOW_SIZES = [10_000_000, 100_000_000]


def values(n: int, dtype: Any = np.float32) -> np.ndarray:
    """Numbers around 0.1, whose roundings all go one way in a long chain of additions."""
    return (0.1 + 1e-3 * np.random.default_rng(n).standard_normal(n)).astype(dtype)


# Each takes n numbers to an array and the axes to fold; np and fnp have the same functions for that.
LAYOUTS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "flat": (lambda x: x, (0,)),
    "reversed": (lambda x: x[::-1], (0,)),
    "every other": (lambda x: x[::2], (0,)),
    "rows": (lambda x: x.reshape(2, -1), (1,)),
    "columns": (lambda x: x.reshape(-1, 2), (0,)),
    "twenty columns": (lambda x: x.reshape(-1, 20), (0,)),
    "transposed": (lambda x: x.reshape(-1, 5).T, (1,)),
    "rows of a transpose": (lambda x: x.reshape(5, -1).T, (0,)),
    "middle": (lambda x: x.reshape(2, -1, 4), (1,)),
    "outer and inner": (lambda x: x.reshape(-1, 2, 10), (0, 2)),
    "long outer and inner": (lambda x: x.reshape(10, 2, -1), (0, 2)),
    "all of a slice": (lambda x: x.reshape(-1, 5)[:, :4], (0, 1)),
    "all of a matrix": (lambda x: x.reshape(-1, 50), (0, 1)),
    "short rows": (lambda x: x.reshape(-1, 2, 4), (0, 2)),
}


def both(function: Callable[..., Any], *args: Any) -> list[tuple[str, Any]]:
    """Return the results of a function, eager and compiled, in float64."""
    given = [fnp.asarray(a) for a in args]
    return [(mode, np.asarray(f(*given), np.float64)) for mode, f in (("eager", function), ("jit", fg.jit(function)))]


def check_sum(n: int, layout: str) -> None:
    view, axes = LAYOUTS[layout]
    x = values(n)
    exact = np.sum(view(x).astype(np.float64), axes)
    for mode, found in both(lambda x: fnp.sum(view(x), axes), x):
        error = np.max(np.abs(found - exact) / exact)
        assert error <= TOLERANCE, f"{mode}: {error / 2**-24:.0f} roundings"


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sum_is_exact_to_a_few_roundings_in_every_layout(layout: str, n: int):
    check_sum(n, layout)


@pytest.mark.slow
@pytest.mark.parametrize("n", SLOW_SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_very_long_sum_is_exact_to_a_few_roundings(layout: str, n: int):
    check_sum(n, layout)


def _logsumexp(x: np.ndarray, axis: int) -> Any:
    return np.log(np.sum(np.exp(x), axis))


# (function, the same by NumPy in float64) of columns, one long axis 0.
FOLDS: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]] = {
    "mean": (lambda x: fnp.mean(x, 0), lambda x: np.mean(x, 0)),
    "mean of all": (fnp.mean, np.mean),
    "nansum": (lambda x: fnp.nansum(x, 0), lambda x: np.nansum(x, 0)),
    "nanmean": (lambda x: fnp.nanmean(x, 0), lambda x: np.nanmean(x, 0)),
    "average": (lambda x: fnp.average(x, 0, x), lambda x: np.average(x, 0, x)),
    "variance": (lambda x: fnp.var(x, 0), lambda x: np.var(x, 0)),
    "nanvar": (lambda x: fnp.nanvar(x, 0), lambda x: np.var(x, 0)),
    "covariance": (lambda x: fnp.diag(fnp.cov(x, rowvar=False)), lambda x: np.diag(np.cov(x, rowvar=False))),
    "softmax": (lambda x: nn.softmax(x, 0), lambda x: np.exp(x - _logsumexp(x, 0))),
    "add.reduce": (fnp.add.reduce, np.add.reduce),
    "add.accumulate": (fnp.add.accumulate, np.add.accumulate),
    "within a loop": (
        lambda x: lax.fori_loop(0, 2, lambda i, s: s + fnp.sum(x, 0), fnp.zeros(2)),
        lambda x: 2 * np.sum(x, 0),
    ),
    "mapped": (lambda x: fg.vmap(lambda c: fnp.sum(c * c), 1)(x), lambda x: np.sum(x * x, 0)),
    "sum of squares": (lambda x: fnp.sum(x * x, 0), lambda x: np.sum(x * x, 0)),
    "where": (lambda x: fnp.sum(x, 0, where=x > 0), lambda x: np.sum(x, 0)),
    "trapezoid": (lambda x: fnp.trapezoid(x, axis=0), lambda x: np.trapezoid(x, axis=0)),
    "logsumexp": (lambda x: nn.logsumexp(x, 0), lambda x: _logsumexp(x, 0)),
    "cumsum": (lambda x: fnp.cumsum(x, 0), lambda x: np.cumsum(x, 0)),
    "nancumsum": (lambda x: fnp.nancumsum(x, 0), lambda x: np.cumsum(x, 0)),
    "reverse cumsum": (lambda x: lax.cumsum(x, 0, reverse=True), lambda x: np.cumsum(x[::-1], 0)[::-1]),
    "cumprod": (
        lambda x: fnp.cumprod(1 + x * 2**-16, 0),
        lambda x: np.cumprod(np.float32(1) + x.astype(np.float32) * np.float32(2**-16), 0, np.float64),
    ),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 0), lambda x: np.logaddexp.accumulate(x, 0)),
    "einsum": (lambda x: fnp.einsum("ij->j", x), lambda x: np.sum(x, 0)),
    "gradient of a broadcast": (
        lambda x: fg.grad(lambda b: fnp.sum((x + b) * x))(fnp.zeros(x.shape[1])),
        lambda x: np.sum(x, 0),
    ),
    "inner product": (lambda x: fnp.dot(x[:, 0], x[:, 1]), lambda x: np.dot(x[:, 0], x[:, 1])),
    "matrix by vector": (lambda x: x.T @ x[:, 0], lambda x: x.T @ x[:, 0]),
    "matrix product": (lambda x: x.T @ x, lambda x: x.T @ x),
    "batch of products": (
        lambda x: x.reshape(2, 1, -1) @ x.reshape(2, -1, 1),
        lambda x: x.reshape(2, 1, -1) @ x.reshape(2, -1, 1),
    ),
    "odd product": (lambda x: x[7:, 0] @ x[7:], lambda x: x[7:, 0] @ x[7:]),
    "odd batch of products": (
        lambda x: x[7:].T[:, None] @ x[None, 7:],
        lambda x: x[7:].T[:, None] @ x[None, 7:],
    ),
    "scatter to few places": (
        lambda x: fnp.zeros(3).at[fnp.arange(len(x)) % 3].add(x[:, 0]),
        lambda x: np.bincount(np.arange(len(x)) % 3, x[:, 0]),
    ),
    "scatter of rows": (
        lambda x: fnp.zeros((3, 2)).at[fnp.arange(len(x)) % 3].add(x),
        lambda x: np.stack([x[i::3].sum(0) for i in range(3)]),
    ),
    "histogram": (lambda x: fnp.bincount(fnp.zeros(len(x), int), x[:, 0], length=1), lambda x: x[:, :1].sum(0)),
    "einsum of two": (lambda x: fnp.einsum("ij,ij->", x, x), lambda x: np.sum(x * x)),
}


def check_fold(name: str, n: int) -> None:
    fold, exact_fold = FOLDS[name]
    x = values(n).reshape(-1, 2)
    exact = exact_fold(x.astype(np.float64))
    for mode, found in both(fold, x):
        error = np.max(np.abs(found - exact) / np.abs(exact))
        assert error <= TOLERANCE, f"{mode}: {error / 2**-24:.0f} roundings"


@pytest.mark.parametrize("n", [1_000, 1_000_000])
@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_is_exact_to_a_few_roundings(name: str, n: int):
    check_fold(name, n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [20_000_000])
@pytest.mark.parametrize("name", FOLDS)
def test_a_very_long_fold_is_exact_to_a_few_roundings(name: str, n: int):
    check_fold(name, n)


def _normal(mean: float, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
    return (mean + deviation * np.random.default_rng(7).standard_normal(shape)).astype(np.float32)


# What users met: a function, its operand, and the right value.
REPORTED: dict[str, tuple[Callable[[Any], Any], Callable[[], np.ndarray], Callable[[np.ndarray], Any]]] = {
    "deviation of columns": (
        lambda x: fnp.std(x, 0),
        lambda: _normal(2000, 10, (1_000_000, 4)),
        lambda x: np.std(x, 0),
    ),
    "mean of columns": (lambda x: fnp.mean(x, 0), lambda: np.ones((20_000_000, 2), np.float32), lambda x: np.ones(2)),
    "count by cumsum": (lambda x: fnp.cumsum(x)[-1], lambda: np.ones(20_000_000, np.float32), lambda x: x.size),
    "cumsum": (fnp.cumsum, lambda: _normal(100, 1, (1_000_000,)), np.cumsum),
    "variance": (fnp.var, lambda: 1000 + np.random.default_rng(7).random(10_000_000, np.float32), np.var),
    "sum of tenths": (fnp.sum, lambda: np.full(50_000_000, 0.1, np.float32), lambda x: x[0] * x.size),
}


@pytest.mark.parametrize("name", REPORTED)
def test_sums_of_millions_are_right(name: str):
    fold, operand, exact_fold = REPORTED[name]
    x = operand()
    exact = exact_fold(x.astype(np.float64))
    for mode, found in both(fold, x):
        np.testing.assert_allclose(found, exact, rtol=TOLERANCE, err_msg=mode)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
@pytest.mark.parametrize("layout", ["flat", "columns", "middle"])
def test_narrow_and_complex_numbers_are_summed_as_well(layout: str, dtype: str):
    view, axes = LAYOUTS[layout]
    x = fnp.asarray(values(200_000) / 10).astype(dtype)
    exact = np.sum(view(np.asarray(x).astype(np.complex128)), axes)
    tolerance = TOLERANCE + {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0)
    for function in (lambda x: fnp.sum(view(x), axes), lambda x: fnp.cumsum(view(x), axes[0]).take(-1, axes[0])):
        for f in (function, fg.jit(function)):
            found = np.asarray(f(x)).astype(np.complex128)
            assert np.max(np.abs(found - exact) / np.abs(exact)) <= tolerance


@pytest.mark.parametrize("layout", LAYOUTS)
def test_double_precision_is_kept(layout: str):
    view, axes = LAYOUTS[layout]
    with fg.enable_x64(True):
        x = values(1_000_000, np.float64)
        exact = np.sum(view(x).astype(np.longdouble), axes)
        for f in (lambda x: fnp.sum(view(x), axes), fg.jit(lambda x: fnp.sum(view(x), axes))):
            assert np.max(np.abs(np.asarray(f(fnp.asarray(x))) - exact) / exact) <= 64 * 2.0**-53


@pytest.mark.parametrize("layout", ["flat", "columns", "middle"])
def test_a_sum_has_the_same_bits_every_time(layout: str):
    view, axes = LAYOUTS[layout]
    x = fnp.asarray(values(1_000_000))
    for f in (lambda x: fnp.sum(view(x), axes), fg.jit(lambda x: fnp.sum(view(x), axes))):
        first = np.asarray(f(x)).tobytes()
        assert all(np.asarray(f(x)).tobytes() == first for _ in range(20))


def test_running_sums_of_double_precision_ascend_across_blocks():
    with fg.enable_x64(True):
        x = np.random.default_rng(3).random(100_003) * 1e-3
        sums = np.asarray(fnp.cumsum(fnp.asarray(x)))
        assert (np.diff(sums) >= 0).all()
        np.testing.assert_allclose(sums, np.cumsum(x, dtype=np.longdouble).astype(np.float64), rtol=2**-48)


def test_scratch_of_columns_is_as_wide_as_they_are():
    x = fnp.ones((100_000, 2))
    softmax = fg.jit(lambda x: nn.softmax(x, 0)).lower(x).compile()
    memory = softmax.memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes <= 8 * x.nbytes
