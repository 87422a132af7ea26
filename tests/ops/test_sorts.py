"""Sorting in compiled programs, without a call of NumPy: every form, dtype and special value."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.compiler.lowering import sorting
from funcgrad.config import config, enable_x64
from funcgrad.testing import assert_close

REAL = [d for d in dtypes.ALL if not dtypes.is_complex(d)]
SHAPES = {
    "one": ((1,), 0),
    "empty": ((0,), 0),
    "no rows": ((3, 0), 0),
    "ranks": ((7, 33), 1),
    "ranks of columns": ((20, 2, 3), 0),
    "digits": ((3, 200), 1),
    "digits of columns": ((100, 4), 0),
    "blocks": ((sorting.LONG + 5,), 0),
    "blocks of columns": ((sorting.LONG, 2), 0),
}


def drawn(shape: tuple[int, ...], dtype: np.dtype, seed: int = 0) -> np.ndarray:
    """Numbers among which are equal ones, and for floats zeros of both signs, infinities and several NaNs."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=shape) * 50).astype(np.float32)
    if not dtypes.is_float(dtype):
        return (np.abs(x) if dtype.kind in "ub" else x).astype(dtype)
    x = x.astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0], dtype)
    return np.where(rng.random(shape) < 0.5, special[rng.integers(0, len(special), shape)], x)


def bits(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def check(operands, axis: int, num_keys: int, **options) -> None:
    """Compare bits with NumPy's stable sort of the same keys."""
    compiled = fg.jit(lambda *x: lax.sort(x, axis, num_keys=num_keys), **options)
    assert "host" not in compiled.lower(*operands).as_text("groups")
    for found, expected in zip(compiled(*operands), lax.sort(operands, axis, num_keys=num_keys), strict=True):
        np.testing.assert_array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("shape, axis", SHAPES.values(), ids=SHAPES)
def test_every_form(shape: tuple[int, ...], axis: int):
    x, coarse = drawn(shape, dtypes.float32), drawn(shape, dtypes.int8) // 50
    places = np.arange(x.size, dtype=np.int32).reshape(shape)
    check((x,), axis, 1)
    check((coarse, x, places), axis, 2)


@pytest.mark.parametrize("shape, axis", [((3, 30), 1), ((2, 100), 1)])
@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_every_dtype(dtype: np.dtype, shape: tuple[int, ...], axis: int):
    with enable_x64():
        x = drawn(shape, dtype)
        check((x, np.arange(x.size, dtype=np.int32).reshape(shape)), axis, 1)


@pytest.mark.parametrize("dtype", [dtypes.bool_, dtypes.bfloat16, dtypes.uint16, dtypes.float64], ids=lambda d: d.name)
def test_long_rows_of_every_width(dtype: np.dtype):
    with enable_x64():
        x = drawn((sorting.LONG,), dtype)
        check((x, np.arange(x.size, dtype=np.int32)), 0, 1)


@pytest.mark.parametrize("n", [40, 300])
def test_functions_of_sorts(n: int):
    x = drawn((4, n), dtypes.float32)
    finite = np.nan_to_num(x)
    functions = {
        "argsort": lambda np, x: np.argsort(x, 1, stable=True),
        "descending": lambda np, x: -np.sort(-x, 0),
        "partition": lambda np, x: np.sort(np.partition(x, 3, axis=1)[:, :4], 1),
    }
    for function in functions.values():
        compiled = fg.jit(lambda x, f=function: f(jnp, x))
        assert "host" not in compiled.lower(finite).as_text("groups")
        assert_close(compiled(finite), function(np, finite).astype(compiled(finite).dtype))
    order = fg.jit(lambda x: jnp.argsort(x, axis=1, descending=True))(x)
    np.testing.assert_array_equal(order, jnp.argsort(x, axis=1, descending=True))


def test_operands_are_read_through_views():
    x = drawn((30, 40), dtypes.float32)
    for view in (lambda x: x.T, lambda x: x[::-1, ::2], lambda x: x[3]):
        compiled = fg.jit(lambda x, view=view: lax.sort(view(x), 0))
        assert len(compiled.lower(x).as_text("groups").splitlines()) == 1
        np.testing.assert_array_equal(bits(compiled(x)), bits(lax.sort(view(jnp.asarray(x)), 0)))


@pytest.mark.parametrize("shape", [(sorting.LONG * 3,), (40, 1000)])
def test_the_bits_are_the_same_for_every_number_of_threads(shape: tuple[int, ...]):
    x = drawn(shape, dtypes.float32)
    found = []
    for threads in (1, 2, 5):
        with config.override("num_threads", threads):
            found.append(bits(fg.jit(lambda x: lax.sort(x))(x)).tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("shape", [(3, 20), (2, 100), (sorting.LONG,)])
def test_the_numba_target_agrees(shape: tuple[int, ...]):
    x = drawn(shape, dtypes.float32)
    check((x, np.arange(x.size, dtype=np.int32).reshape(shape)), len(shape) - 1, 1, target="numba")


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(3, 20), (2, 100), (sorting.LONG,)])
def test_the_cuda_kernels_are_written(shape: tuple[int, ...]):
    assert "cuda.grid" in fg.jit(lambda x: lax.sort(x)).lower(drawn(shape, dtypes.float32)).as_text("cuda")


def test_mapped_loops_with_a_sort():
    """Each lane runs until its own predicate is false."""
    x = np.random.default_rng(3).normal(size=(5, 20)).astype(np.float32)

    def steps(row):
        step = lambda s: (s[0] + 1, jnp.sort(s[1]) - 0.5 * jnp.flip(s[1]))  # noqa: E731
        return lax.while_loop(lambda s: (s[1][0] < 1) & (s[0] < 9), step, (0, row))

    loop = fg.jit(fg.vmap(steps))
    assert "host" not in loop.lower(x).as_text("groups")
    counts, rows = loop(x)
    for i, row in enumerate(x):
        count, expected = steps(row)
        assert_close(counts[i], count)
        assert_close(rows[i], expected)


def test_small_loops_are_kernels_of_scalars():
    x = drawn((9, 2, 5), dtypes.float32)
    x = np.where(np.isnan(x) & (np.arange(9) % 2 == 0)[:, None, None], np.float32(1), x)

    def steps(x):
        def step(c):
            i, total, x = c
            first, order = lax.sort((x, jnp.broadcast_to(jnp.arange(5), x.shape)), 1, num_keys=1)
            return i + 1, total + order * i, lax.sort(jnp.roll(x, i, 1) * -1, 0) + 0 * i + first * 0

        return lax.while_loop(lambda c: (c[0] < 4) & (c[1][0, 0] < 9), step, (0, jnp.zeros(x.shape, np.int32), x))

    loop, lanes = fg.jit(steps), fg.jit(fg.vmap(steps))
    assert "in one kernel of scalars" in loop.lower(x[0]).as_text("groups")
    assert "in one kernel of scalars" in lanes.lower(x).as_text("groups")
    counts, totals, ends = lanes(x)
    for i, row in enumerate(x):
        count, total, end = steps(row)
        assert_close(loop(row), (count, total, end))
        assert_close((counts[i], totals[i], ends[i]), (count, total, end))
