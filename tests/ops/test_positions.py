"""argmax and argmin in compiled programs: the first position of the extreme, or of a NaN, without a call of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.config import enable_x64
from funcgrad.errors import ShapeError
from funcgrad.testing import assert_close

REAL = [d for d in dtypes.ALL if not dtypes.is_complex(d)]
SHAPES = {
    "rows": ((7, 33), 1),
    "columns": ((33, 70), 0),
    "middle": ((3, 20, 5), 1),
    "whole": ((500,), 0),
    "in blocks": ((3, 10_000), 1),  # a long axis that is cut evenly
    "prime": ((10_007,), 0),  # and one that cannot be
    "one": ((5, 1), 1),
}
FUNCTIONS = {"argmax": (jnp.argmax, np.argmax), "argmin": (jnp.argmin, np.argmin)}


def drawn(shape, dtype, seed=0):
    """Few different values, so that there are ties; floats with zeros of both signs and infinities."""
    x = np.random.default_rng(seed).integers(-3, 4, shape)
    if not dtypes.is_float(dtype):
        return np.abs(x).astype(dtype) if dtype.kind in "ub" else x.astype(dtype)
    special = np.array([-np.inf, -1.5, -0.0, 0.0, 0.5, 2.0, np.inf])
    return special[x + 3].astype(dtype)


def expected(function, x, axis):
    return function(x.astype(np.float32) if x.dtype in (dtypes.float16, dtypes.bfloat16) else x, axis)


@pytest.mark.parametrize("shape, axis", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_first_position_wins(name: str, dtype: np.dtype, shape: tuple[int, ...], axis: int):
    ours, numpy = FUNCTIONS[name]
    with enable_x64():
        x = drawn(shape, dtype)
        compiled = fg.jit(lambda x: ours(x, axis))
        assert_close(compiled(x), expected(numpy, x, axis))
        assert "host" not in compiled.lower(x).as_text("groups")
        if dtypes.is_float(dtype):
            x[..., shape[-1] // 2] = np.nan
            x[..., -1:] = np.nan
            assert_close(compiled(x), expected(numpy, x, axis))


@pytest.mark.parametrize("target", ["llvm", "numba"])
def test_producers_and_consumers_join_the_kernel(target: str):
    x = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    f = lambda x: jnp.argmax(jnp.exp(-(x * x)) * 2, axis=1) + 1  # noqa: E731
    compiled = fg.jit(f, target=target)
    assert len(compiled.lower(x).as_text("groups").splitlines()) == 1
    assert_close(compiled(x), np.argmax(np.exp(-(x * x)) * 2, 1) + 1)


@pytest.mark.parametrize("shape, axis", [((300, 64), 1), ((64, 300), 0), ((64,), 0), ((40_000,), 0)])
def test_an_extreme_is_found_again_among_sums_of_products(shape: tuple[int, ...], axis: int):
    """A sum that is rounded once where the product is not wanted, and twice where it is, would not be found."""
    a, b, c = (np.random.default_rng(i).normal(size=shape).astype(np.float32) for i in range(3))

    def f(a, b, c):
        product = a * b
        y = product + c
        return product, jnp.argmax(y, axis), y == jnp.max(y, axis, keepdims=True)

    _, place, equal = fg.jit(f)(a, b, c)
    assert_close(place, np.argmax(a * b + c, axis))
    assert np.asarray(equal).any(axis).all()


def test_positions_in_loops_and_lanes():
    x = np.random.default_rng(1).normal(size=(6, 9)).astype(np.float32)

    def scanned(x):
        return lax.scan(lambda total, row: (total + jnp.argmax(row), jnp.argmin(row)), 0, x)

    total, places = fg.jit(scanned)(x)
    assert_close(total, np.argmax(x, 1).sum())
    assert_close(places, np.argmin(x, 1))
    assert "host" not in fg.jit(scanned).lower(x).as_text("groups")

    def removed(row):
        """How often the largest element can be taken away before the sum is negative."""
        step = lambda s: (s[0] + 1, s[1].at[jnp.argmax(s[1])].set(-1.0))  # noqa: E731
        return lax.while_loop(lambda s: jnp.sum(s[1]) > 0, step, (0, row))[0]

    wanted = []
    for row in x:
        row, n = row.copy(), 0
        while row.sum() > 0:
            row[row.argmax()] = -1
            n += 1
        wanted.append(n)
    assert_close(fg.jit(fg.vmap(removed))(x), np.array(wanted, np.int32))


def test_an_empty_axis_has_no_extreme():
    with pytest.raises(ShapeError, match="argmax: axis 0 of"):
        fg.jit(lambda x: lax.argmax(x, 0, np.int32))(np.ones((0, 3), np.float32))


def test_indices_have_the_requested_dtype():
    x = np.arange(300, dtype=np.float32)
    out = fg.jit(lambda x: lax.argmax(x, 0, np.int16))(x)
    assert out.dtype == np.int16 and int(out) == 299


def test_the_cuda_kernels_are_written():
    text = fg.jit(lambda x: jnp.argmax(x, 1)).lower(np.ones((4, 5), np.float32)).as_text("cuda")
    assert "max_float32(" in text and "min_int32(" in text
