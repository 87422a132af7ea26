"""Running sums, products, extremes and log-sum-exps in compiled programs, without a call of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.compiler.lowering import cumulative
from funcgrad.config import config, enable_x64
from funcgrad.testing import assert_close

NAMES = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
NUMBERS = [d for d in dtypes.ALL if not dtypes.is_complex(d) and d != dtypes.bool_]
CUT = 2 * cumulative.BLOCK + 37
SHAPES = {
    "rows": ((7, 33), 1),
    "columns": ((33, 70), 0),
    "few columns": ((2, 30, 3), 1),
    "many columns": ((2, 3, 600), 1),
    "one chain": ((500,), 0),
    "one element": ((3, 1), 1),
    "empty": ((0, 4), 0),
    "no rows": ((3, 0), 0),
    "blocks": ((CUT,), 0),
    "blocks of columns": ((CUT, 2), 0),
    "many rows": ((20, 40), 1),
    "many rows of few columns": ((20, 30, 3), 1),
}


def drawn(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Small numbers, whose sums and products are exact in all dtypes as far as they stay in range."""
    x = np.random.default_rng(0).integers(-1, 2, shape)
    return (np.abs(x) if dtype.kind == "u" else x).astype(dtype)


def native(function, x, **options):
    """What a compiled function gives; it must not call NumPy."""
    compiled = fg.jit(function, **options)
    assert "host" not in compiled.lower(x).as_text("groups")
    return compiled(x)


@pytest.mark.parametrize("shape, axis", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["cumsum", "cummax", "cumlogsumexp"])
def test_every_form_in_both_directions(name: str, shape: tuple[int, ...], axis: int):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    fold = getattr(lax, name)
    both = lambda x: [fold(x, axis), fold(x, axis, reverse=True)]  # noqa: E731
    for found, expected in zip(native(both, x), both(x), strict=True):
        # The same float64 roundings by NumPy, but in another order.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda d: d.name)
def test_every_dtype(dtype: np.dtype):
    with enable_x64():
        x = drawn((5, 40), dtype)
        folds = [getattr(lax, name) for name in NAMES if name != "cumlogsumexp" or dtypes.is_float(dtype)]
        function = lambda x: [fold(x, axis) for fold in folds for axis in (0, 1)]  # noqa: E731
        for found, expected in zip(native(function, x), function(x), strict=True):
            assert found.dtype == dtype
            assert_close(found, expected)


@pytest.mark.parametrize("n", [6, CUT])
def test_special_values(n: int):
    x = np.zeros((5, n), np.float32)
    x[:, :6] = [-0.0, -0.0, 1.0, np.inf, 2.0, -np.inf]
    x[1, 3] = np.nan
    x[2, :] = -0.0
    x[3, :] = -np.inf
    x[4, 2] = 0.0
    for name in NAMES:
        fold = getattr(lax, name)
        found, expected = np.asarray(native(lambda x, fold=fold: fold(x, 1), x)), np.asarray(fold(x, 1))
        np.testing.assert_array_equal(found, expected)
        if name in ("cumsum", "cumprod"):
            np.testing.assert_array_equal(np.signbit(found[2]), np.signbit(expected[2]))


@pytest.mark.parametrize("target", ["llvm", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_long_sum_of_negative_zeros_is_one(dtype: str, target: str):
    with enable_x64():
        assert np.signbit(native(lambda x: lax.cumsum(x, 0), np.full(CUT, -0.0, dtype), target=target)).all()


def test_operands_are_read_through_views():
    x = np.random.default_rng(2).normal(size=(20, 30)).astype(np.float32)
    for view in (lambda x: x.T, lambda x: x[::-1, ::2], lambda x: x[3], lambda x: jnp.broadcast_to(x[:, :1], x.shape)):
        function = lambda x, view=view: lax.cumsum(view(x), 0)  # noqa: E731
        assert_close(native(function, x), np.cumsum(np.asarray(view(jnp.asarray(x)), np.float64), 0).astype(np.float32))
        assert len(fg.jit(function).lower(x).as_text("groups").splitlines()) == 1


@pytest.mark.parametrize("shape, axis", [((CUT,), 0), ((CUT, 2), 0), ((4, 3000), 1), ((3000, 40), 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roundings_do_not_add_up(dtype: type, shape: tuple[int, ...], axis: int):
    with enable_x64():
        x = (0.1 + 1e-3 * np.random.default_rng(3).standard_normal(shape)).astype(dtype)
        exact = np.cumsum(x.astype(np.longdouble), axis)
        found = np.asarray(native(lambda x: lax.cumsum(x, axis), x))
        roundings = np.max(np.abs(found - exact) / exact) / np.finfo(dtype).eps
        assert roundings <= (1 if dtype == np.float32 else 64)


@pytest.mark.parametrize("shape, axis", [((100_003,), 0), ((100, 300), 1), ((300, 700), 0)])
def test_the_bits_are_the_same_for_every_number_of_threads(shape: tuple[int, ...], axis: int):
    x = np.random.default_rng(4).normal(size=shape)
    found = []
    with enable_x64():
        for threads in (1, 2, 5):
            with config.override("num_threads", threads):
                found.append(np.asarray(fg.jit(lambda x: lax.cumsum(x, axis))(x)).tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("shape, axis", [((5, 40), 1), ((40, 20), 0), ((CUT,), 0)])
def test_the_numba_target_and_the_text_in_python_agree(shape: tuple[int, ...], axis: int):
    x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    f = lambda x: lax.cumsum(x, axis, reverse=True)  # noqa: E731
    assert_close(native(f, x, target="numba"), native(f, x))
    assert "cuda.grid" in fg.jit(f).lower(x).as_text("cuda")


def test_mapped_loops_with_a_running_fold():
    """Each lane runs until its own predicate is false."""
    x = np.abs(np.random.default_rng(6).normal(size=(7, 40))).astype(np.float32)

    def steps(row):
        step = lambda s: (s[0] + 1, lax.cumsum(s[1], 0) / 20)  # noqa: E731
        return lax.while_loop(lambda s: (jnp.sum(s[1]) > 1e-3) & (s[0] < 9), step, (0, row))

    loop = fg.jit(fg.vmap(steps))
    assert "host" not in loop.lower(x).as_text("groups")
    counts, rows = loop(x)
    for i, row in enumerate(x):
        count, expected = steps(row)
        assert_close(counts[i], count)
        assert_close(rows[i], expected)


@pytest.mark.parametrize("name", NAMES)
def test_small_loops_are_kernels_of_scalars(name: str):
    x = np.random.default_rng(8).normal(size=(9, 2, 3)).astype(np.float32)
    fold = getattr(lax, name)

    def steps(x):
        step = lambda c: 0.5 * fold(c, 1) + 0.1 * fold(c, 0, reverse=True)  # noqa: E731
        unfinished = lambda c: (c[0] < 5) & (c[1][0, 0] < 1)  # noqa: E731
        return lax.while_loop(unfinished, lambda c: (c[0] + 1, step(c[1]) + 0.1), (0, x))[1]

    loop, lanes = fg.jit(steps), fg.jit(fg.vmap(steps))
    assert "in one kernel of scalars" in loop.lower(x[0]).as_text("groups")
    assert "in one kernel of scalars" in lanes.lower(x).as_text("groups")
    for row, found in zip(x, lanes(x), strict=True):
        assert_close(loop(row), steps(row), rtol=1e-5, atol=1e-6)
        assert_close(found, steps(row), rtol=1e-5, atol=1e-6)


def test_gradients_are_native():
    x = np.random.default_rng(7).normal(size=(3, 50)).astype(np.float32)
    gradient = lambda x: fg.grad(lambda x: jnp.sum(jnp.sin(lax.cumsum(x, 1))))(x)  # noqa: E731
    assert_close(native(gradient, x), np.flip(np.cumsum(np.flip(np.cos(np.cumsum(x, 1)), 1), 1), 1), rtol=1e-5)
