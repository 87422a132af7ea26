"""Binary searches in compiled programs: one loop over the queries, without a call of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.config import config, enable_x64
from funcgrad.testing import assert_close

REAL = [d for d in dtypes.ALL if not dtypes.is_complex(d) and d != dtypes.bool_]


def drawn(n: int, dtype: np.dtype, seed: int) -> np.ndarray:
    """Numbers among which are equal ones, and for floats zeros of both signs, infinities and NaNs."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 20, n).astype(dtype)
    if not dtypes.is_float(dtype):
        return x
    special = np.array([-0.0, np.inf, -np.inf, np.nan], dtype)
    return np.where(rng.random(n) < 0.3, special[rng.integers(0, 4, n)], x)


def native(function: Callable[..., Any], *args: Any) -> Any:
    """What a compiled function gives; it must not call NumPy."""
    compiled = fg.jit(function)
    assert "host" not in compiled.lower(*args).as_text("groups")
    return compiled(*args)


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_every_dtype(dtype: np.dtype):
    with enable_x64():
        table, queries = np.sort(drawn(37, dtype, 0).astype(np.float64)).astype(dtype), drawn(50, dtype, 1)
        both = lambda a, v: [jnp.searchsorted(a, v, side) for side in ("left", "right")]  # noqa: E731
        wide = (table.astype(np.float64), queries.astype(np.float64)) if dtypes.is_float(dtype) else (table, queries)
        for found, side in zip(native(both, table, queries), ("left", "right"), strict=True):
            np.testing.assert_array_equal(found, np.searchsorted(*wide, side))


@pytest.mark.parametrize("n", [0, 1, 2, 1023, 1024, 1025])
def test_every_size(n: int):
    table, queries = np.sort(drawn(n, dtypes.float32, 2)), drawn(50, dtypes.float32, 3)
    found = native(jnp.searchsorted, table, queries)
    np.testing.assert_array_equal(found, np.searchsorted(table, queries))


def test_a_search_is_one_kernel():
    table, queries = np.sort(drawn(1000, dtypes.float32, 4)), drawn(500, dtypes.float32, 5)
    assert len(fg.jit(jnp.searchsorted).lower(table, queries).as_text("groups").splitlines()) == 1


def test_functions_of_searches():
    edges = np.linspace(-2, 2, 21, dtype=np.float32)
    x = np.random.default_rng(6).normal(size=300).astype(np.float32)
    functions = {
        "digitize": lambda np: lambda x: np.digitize(x, edges),
        "digitize, descending": lambda np: lambda x: np.digitize(x, edges[::-1], right=True),
        "interp": lambda np: lambda x: np.interp(x, edges, edges**2),
        "histogram": lambda np: lambda x: np.histogram(x, edges)[0],
    }
    for function in functions.values():
        assert_close(native(function(jnp), x), function(np)(x), rtol=1e-5, atol=1e-6, check_dtypes=False)


def test_the_bits_are_the_same_for_every_number_of_threads():
    table, queries = np.sort(drawn(1000, dtypes.float32, 7)), drawn(100_000, dtypes.float32, 8)
    found = []
    for threads in (1, 2, 5):
        with config.override("num_threads", threads):
            found.append(np.asarray(fg.jit(lambda a, v: jnp.searchsorted(a, v))(table, queries)).tobytes())
    assert len(set(found)) == 1


def test_mapped_loops_with_a_search():
    """Each lane runs until its own predicate is false."""
    table = np.linspace(0, 1, 33, dtype=np.float32)
    starts = np.random.default_rng(9).uniform(size=40).astype(np.float32)

    def steps(start):
        step = lambda s: (s[0] + 1, s[1] * 0.9 + 0.001 * jnp.searchsorted(table, s[1]))  # noqa: E731
        return fg.lax.while_loop(lambda s: (s[1] > 0.1) & (s[0] < 50), step, (0, start))

    counts, ends = native(fg.vmap(steps), starts)
    for i, start in enumerate(starts):
        count, end = steps(start)
        assert_close(counts[i], count)
        assert_close(ends[i], end, rtol=1e-5)
