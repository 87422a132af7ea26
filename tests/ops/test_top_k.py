"""The k largest in compiled programs, without a call of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.config import config, enable_x64
from funcgrad.testing import assert_close

REAL = [d for d in dtypes.ALL if not dtypes.is_complex(d)]
CASES = {
    "picked": ((3, 200), 5, 1),
    "picked of columns": ((200, 3), 1, 0),
    "picked of blocks": ((20_003,), 64, 0),
    "sorted": ((3, 20), 7, 1),
    "sorted columns": ((30, 4), 30, 0),
    "one": ((1,), 1, 0),
    "none": ((4, 3), 0, 1),
    "no rows": ((0, 40), 2, 1),
}


def drawn(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Few different numbers, so that there are ties; floats with zeros of both signs, infinities and NaNs."""
    rng = np.random.default_rng(0)
    if not dtypes.is_float(dtype):
        x = rng.integers(-100, 100, shape)
        return (np.abs(x) if dtype.kind in "ub" else x).astype(dtype)
    x = rng.integers(-100, 100, shape).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], dtype)
    return np.where(rng.random(shape) < 0.01, special[rng.integers(0, len(special), shape)], x)


def check(x: np.ndarray, k: int, axis: int, **options) -> None:
    """Compare with the value by NumPy: bits and positions."""
    compiled = fg.jit(lambda x: lax.top_k(x, k, axis=axis), **options)
    assert "host" not in compiled.lower(x).as_text("groups")
    for found, expected in zip(compiled(x), lax.top_k(x, k, axis=axis), strict=True):
        unsigned = f"u{np.asarray(expected).dtype.itemsize}"
        np.testing.assert_array_equal(np.asarray(found).view(unsigned), np.asarray(expected).view(unsigned))


@pytest.mark.parametrize("shape, k, axis", CASES.values(), ids=CASES)
def test_every_form(shape: tuple[int, ...], k: int, axis: int):
    check(drawn(shape, dtypes.float32), k, axis)


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_every_dtype(dtype: np.dtype):
    with enable_x64():
        check(drawn((2, 200), dtype), 3, 1)
        check(drawn((2, 20), dtype), 3, 1)


@pytest.mark.parametrize("value", [np.iinfo(np.int32).min, np.iinfo(np.int32).max])
def test_equal_extremes_in_a_short_last_block(value: int):
    """The list is filled with the key of the least integer, which must not come before a real one."""
    check(np.full(3 * 8192 + 2, value, np.int32), 5, 0)


def test_gradients_and_mapped_loops():
    x = np.random.default_rng(1).normal(size=(4, 100)).astype(np.float32)
    gradient = fg.jit(fg.grad(lambda x: jnp.sum(lax.top_k(x, 3)[0] ** 2)))
    np.testing.assert_allclose(gradient(x), np.where(x >= np.sort(x, 1)[:, -3:-2], 2 * x, 0))

    def steps(row):
        step = lambda s: (s[0] + 1, s[1] * 0.5 + lax.top_k(s[1], 2)[0][1])  # noqa: E731
        return lax.while_loop(lambda s: (jnp.sum(s[1]) < 50) & (s[0] < 9), step, (0, row))

    loop = fg.jit(fg.vmap(steps))
    assert "host" not in loop.lower(x).as_text("groups")
    counts, rows = loop(x)
    for i, row in enumerate(x):
        count, expected = steps(row)
        assert_close(counts[i], count)
        assert_close(rows[i], expected, rtol=1e-5)


def test_the_bits_are_the_same_for_every_number_of_threads():
    x = drawn((50_000,), dtypes.float32)
    found = []
    for threads in (1, 2, 5):
        with config.override("num_threads", threads):
            found.append(np.asarray(fg.jit(lambda x: lax.top_k(x, 20)[1])(x)).tobytes())
    assert len(set(found)) == 1


def test_the_numba_target_agrees():
    check(drawn((2, 200), dtypes.float32), 3, 1, target="numba")
