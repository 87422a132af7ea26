"""Reductions, positions of extremes and cumulative folds, against NumPy and JAX, and on bad input."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.ops.reductions import associative_scan
from funcgrad.testing import assert_close, check_grads
from funcgrad.testing.strategies import arrays, dtypes, shapes

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
UFUNCS = {
    "reduce_sum": np.add,
    "reduce_prod": np.multiply,
    "reduce_max": np.maximum,
    "reduce_min": np.minimum,
    "reduce_and": np.bitwise_and,
    "reduce_or": np.bitwise_or,
    "reduce_xor": np.bitwise_xor,
}
RUNNING = {
    "cumsum": np.add,
    "cumprod": np.multiply,
    "cummax": np.maximum,
    "cummin": np.minimum,
    "cumlogsumexp": np.logaddexp,
}
TIES = np.array([[1, 2, 2, 0], [3, 3, -1, 0], [4, 0.5, 0.25, 2]], np.float32)
WEIGHTS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


NARROW = [d for d in fg.dtypes.ALL if d.itemsize <= 4 and d.kind not in "bc"]


def limits(dtype: np.dtype) -> tuple[float, float]:
    """Return the identities of max and min."""
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)


@given(st.data())
def test_reductions_are_numpys(data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(UFUNCS)))
    kinds = ("int",) if name in ("reduce_and", "reduce_or", "reduce_xor") else ("int", "float")
    x = data.draw(arrays(data.draw(dtypes(kinds, NARROW)), data.draw(shapes())))
    axes = tuple(data.draw(st.permutations(range(x.ndim)))[: data.draw(st.integers(0, x.ndim))])
    wide = x.astype(x.dtype if x.dtype.kind in "iu" else np.float32)
    identity = dict(zip(("reduce_max", "reduce_min"), limits(wide.dtype), strict=True)).get(name, np._NoValue)
    expected = UFUNCS[name].reduce(wide, axis=axes, dtype=wide.dtype, initial=identity)
    assert_close(getattr(lax, name)(x, axes), np.asarray(expected).astype(x.dtype))


@given(st.data())
def test_running_folds_are_numpys(data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(RUNNING)))
    dtype = data.draw(st.sampled_from([np.float32, np.int32] if name != "cumlogsumexp" else [np.float32]))
    x = data.draw(arrays(np.dtype(dtype), data.draw(shapes(min_dims=1))))
    axis, reverse = data.draw(st.integers(0, x.ndim - 1)), data.draw(st.booleans())
    ordered = np.flip(x, axis) if reverse else x
    expected = RUNNING[name].accumulate(ordered, axis=axis)
    assert_close(getattr(lax, name)(x, axis, reverse), np.flip(expected, axis) if reverse else expected)


def test_sixteen_bit_floats_accumulate_in_single_precision():
    ones = np.ones(4096)
    for dtype in (np.float16, BFLOAT16):
        assert float(lax.reduce_sum(ones.astype(dtype), (0,))) == 4096
        assert float(lax.cumsum(ones.astype(dtype))[-1]) == 4096
        # 1.015625 has the shortest mantissa that 128 roundings to bfloat16 would lose
        product = lax.reduce_prod(np.full(128, 1.015625).astype(dtype), (0,))
        assert abs(float(product) / 1.015625**128 - 1) < 2**-8


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16, np.int8, np.uint32, np.bool_])
def test_empty_reductions_give_the_identity(dtype: type):
    nothing = np.zeros((0, 2), dtype)
    extremes = (False, True) if dtype == np.bool_ else limits(np.dtype(dtype))
    for name, value in zip(("reduce_max", "reduce_min"), extremes, strict=True):
        assert_close(getattr(lax, name)(nothing, (0,)), np.full(2, value, dtype))
    assert_close(lax.reduce_prod(nothing, (0,)), np.ones(2, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16])
def test_nan_is_the_extreme_and_the_first_one_is_its_position(dtype: type):
    x = np.array([1, np.nan, 3, np.nan, 3], dtype)
    assert int(lax.argmax(x, 0, int)) == int(lax.argmin(x, 0, int)) == 1
    assert np.isnan(float(lax.reduce_max(x, (0,)))) and np.isnan(float(lax.reduce_min(x, (0,))))
    assert int(lax.argmax(x[2:], 0, int)) == 1
    assert int(lax.argmax(x[::2], 0, int)) == 1 and int(lax.argmin(x[::4], 0, int)) == 0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("index_dtype", [np.int8, np.uint16, np.int32])
def test_positions_have_the_index_dtype(axis: int, index_dtype: type):
    assert_close(lax.argmax(TIES, axis, index_dtype), TIES.argmax(axis).astype(index_dtype))
    assert_close(lax.argmin(TIES, axis, index_dtype), TIES.argmin(axis).astype(index_dtype))


def test_ties_share_the_derivative():
    assert_close(fg.grad(lambda x: lax.reduce_max(x, (0,)))(np.float32([3, 1, 3])), np.float32([0.5, 0, 0.5]))
    assert_close(fg.grad(lambda x: lax.reduce_min(x, (0,)))(np.float32([3, 3, 3])), np.float32([1 / 3] * 3))


@pytest.mark.parametrize("x", [[2, 0, 3, 4], [0, 2, 0, 4], [0, 0, 0, 1], [2, 3, 4, 5]])
def test_derivative_of_a_product_with_zeros(x: list[int]):
    expected = [np.prod([v for j, v in enumerate(x) if j != i]) for i in range(4)]
    assert_close(fg.grad(lambda x: lax.reduce_prod(x, (0,)))(np.float32(x)), np.float32(expected))


@pytest.mark.parametrize("name", sorted(RUNNING))
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_derivatives_of_running_folds(name: str, reverse: bool, n: int):
    x = np.random.default_rng(n).permutation(n * 2).reshape(n, 2) / np.float32(3) + np.float32(0.2)
    check_grads(lambda x: getattr(lax, name)(x, 0, reverse), (x.astype(np.float32),), order=2)


@pytest.mark.parametrize("n", range(10))
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan_keeps_the_order_of_operands(n: int, reverse: bool):
    a, b = np.random.default_rng(n).normal(size=(2, 3, n)).astype(np.float32)
    # Composition of x ↦ a·x + b: associative, not commutative.
    compose = lambda f, g: [f[0] * g[0], g[0] * f[1] + g[1]]  # noqa: E731
    got = associative_scan(compose, [jnp.asarray(a), jnp.asarray(b)], 1, reverse)
    order = range(n)[::-1] if reverse else range(n)
    state, expected = [np.ones(3, np.float32), np.zeros(3, np.float32)], np.empty((2, 3, n), np.float32)
    for i in order:
        state = compose(state, [a[:, i], b[:, i]])
        expected[:, :, i] = state
    assert_close(got, list(expected), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- JAX

PROGRAMS = {
    **{
        f"{n} {axes}": (lambda m, x, n=n, axes=axes: getattr(m.lax, n)(x, axes=axes))
        for n in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")
        for axes in ((0,), (1, 0))
    },
    **{
        f"{n} {axis} {reverse}": (lambda m, x, n=n, a=axis, r=reverse: getattr(m.lax, n)(x, axis=a, reverse=r))
        for n in RUNNING
        for axis, reverse in ((0, False), (1, True))
    },
    "argmax": lambda m, x: m.lax.argmax(x, 1, np.int32),
    "reduce": lambda m, x: m.lax.reduce(x, np.float32(-np.inf), m.lax.max, (0,)),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_derivatives_and_jaxprs_are_jaxs(name: str):
    import jax

    program = PROGRAMS[name]
    assert_close(program(fg, TIES), np.asarray(program(jax, TIES)), rtol=1e-6)
    texts = [str(m.make_jaxpr(lambda x, m=m: program(m, x))(TIES)).split() for m in (fg, jax)]
    # Up to line breaks, which JAX chooses before it leaves the sharding out.
    assert texts[0] == re.sub(r" (out_)?sharding=None", "", " ".join(texts[1])).split()
    if name == "argmax":
        return

    def loss(m: object, x: object) -> object:
        return (program(m, x) ** 2).sum()

    first, second = (m.grad(lambda x, m=m: loss(m, x)) for m in (fg, jax))
    twice = [m.grad(lambda x, g=g: (WEIGHTS * g(x)).sum()) for m, g in ((fg, first), (jax, second))]
    expected = jax.jit(lambda x: (second(x), twice[1](x)))(TIES)
    assert_close((first(TIES), twice[0](TIES)), tuple(map(np.asarray, expected)), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- bad input

BAD = {
    "axes twice": (lambda: lax.reduce_max(TIES, (0, 0)), errors.ArgumentError, "reduce_max: axes (0, 0)", "f32[3,4]"),
    "axis out of range": (lambda: lax.cumsum(TIES, 2), errors.ArgumentError, "cumsum: axes (2,)", "[0, 2)"),
    "float logic": (lambda: lax.reduce_and(TIES, (0,)), errors.DTypeError, "reduce_and", "f32[3,4]"),
    "bool sum": (lambda: lax.cumsum(TIES > 1, 0), errors.DTypeError, "cumsum", "bool[3,4]"),
    "empty argmax": (lambda: lax.argmax(TIES[:0], 0, int), errors.ShapeError, "argmax: axis 0 of f32[0,4]", "empty"),
    "float positions": (lambda: lax.argmin(TIES, 0, np.float32), errors.ArgumentError, "argmin", "float32"),
    "init of another shape": (
        lambda: lax.reduce(TIES, np.zeros(2, np.float32), lax.add, (0,)),
        errors.ArgumentError,
        "f32[3,4]",
        "f32[2]",
    ),
    "init of another tree": (
        lambda: lax.reduce((TIES, TIES), 0.0, lax.add, (0,)),
        errors.ArgumentError,
        "reduce: operands have structure",
        "*",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_operation_values_line_and_remedy(name: str):
    call, error, *texts = BAD[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(t in message for t in texts), message
    assert "at test_reductions.py:" in message and "\n  fix: " in message
