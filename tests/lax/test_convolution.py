"""Convolutions and windowed reductions of funcgrad.lax: values, gradients, jaxprs and helpers as JAX's."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.testing import assert_close, check_grads, check_vmap
from funcgrad.testing.calls import calls_of

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
F32, I32 = np.dtype(np.float32), np.dtype(np.int32)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---------------------------------------------------------------- convolutions

X, K = random(2, 6, 5, 4), random(3, 2, 4, 6, seed=1)
NHWC = ("NHWC", "HWIO", "NHWC")
CONVOLUTIONS = {
    "conv": lambda m, x, k: m.lax.conv(x, m.numpy.ones((3, 6, 2, 2)), (1, 2), "SAME"),
    "general": lambda m, x, k: m.lax.conv_general_dilated(x, k, (1, 2), "SAME", dimension_numbers=NHWC),
    "lower": lambda m, x, k: m.lax.conv_general_dilated(x, k, (1, 1), "SAME_LOWER", dimension_numbers=NHWC),
    "valid": lambda m, x, k: m.lax.conv_general_dilated(
        x, k, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "CWNH")
    ),
    "dilated": lambda m, x, k: m.lax.conv_general_dilated(
        x, k, (1, 2), ((3, -1), (0, 2)), (2, 3), (1, 2), dimension_numbers=NHWC
    ),
    "grouped": lambda m, x, k: m.lax.conv_general_dilated(
        x, k[:, :, :2], (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=2
    ),
    "batch groups": lambda m, x, k: m.lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=NHWC, batch_group_count=2
    ),
    "general padding": lambda m, x, k: m.lax.conv_with_general_padding(
        x, m.numpy.ones((3, 6, 2, 2)), (1, 1), ((1, 0), (2, 1)), (2, 1), (1, 2)
    ),
    "no space": lambda m, x, k: m.lax.conv_general_dilated(
        x[:, :, 0, 0], k[0, 0, 0][:, None] + m.numpy.ones((6, 6)), (), ()
    ),
    "three dimensions": lambda m, x, k: m.lax.conv_general_dilated(
        x[:, None], m.numpy.ones((3, 1, 2, 3, 2)), (2, 1, 2), "SAME"
    ),
    "transposed": lambda m, x, k: m.lax.conv_transpose(x, k, (2, 3), "SAME"),
    "transposed, valid": lambda m, x, k: m.lax.conv_transpose(x, k, (1, 3), "VALID", rhs_dilation=(2, 1)),
    "transposed, pairs": lambda m, x, k: m.lax.conv_transpose(x, k, (2, 2), ((1, 2), (0, 1))),
    "transposed, as the gradient": lambda m, x, k: m.lax.conv_transpose(
        x, k.swapaxes(2, 3), (2, 2), ((1, 0), (1, 1)), transpose_kernel=True, use_consistent_padding=True
    ),
    "patches": lambda m, x, k: m.lax.conv_general_dilated_patches(x, (3, 2), (2, 1), "SAME", dimension_numbers=NHWC),
    "patches, other order": lambda m, x, k: m.lax.conv_general_dilated_patches(
        x, (3, 2), (1, 1), "VALID", rhs_dilation=(1, 2), dimension_numbers=("NHWC", "OIWH", "CWNH")
    ),
    "local": lambda m, x, k: m.lax.conv_general_dilated_local(
        x, m.numpy.ones((4, 4, 24, 5)) * k.sum(), (1, 1), "VALID", (3, 2), dimension_numbers=NHWC
    ),
    "local, other order": lambda m, x, k: m.lax.conv_general_dilated_local(
        x,
        m.numpy.arange(1920.0).reshape(4, 4, 24, 5) / 2000,
        (1, 1),
        "VALID",
        (2, 3),
        dimension_numbers=("NHWC", "WHIO", "CWNH"),
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_values_and_gradients_are_jaxs(name: str):
    jax = pytest.importorskip("jax")
    program = CONVOLUTIONS[name]

    def both(m: object) -> tuple:
        def loss(x: object, k: object) -> object:
            return m.numpy.sum(m.numpy.sin(program(m, x, k)))

        return program(m, m.numpy.asarray(X), m.numpy.asarray(K)), m.grad(loss, (0, 1))(X, K)

    expected = jax.tree.map(np.asarray, both(jax))
    assert_close(both(fg), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.oracle
@settings(max_examples=20)
@given(calls_of("conv_general_dilated", [F32]))
def test_every_layout_is_jaxs(call: object):
    jax = pytest.importorskip("jax")
    params = call.params | {"preferred_element_type": None}
    theirs = params | {"dimension_numbers": jax.lax.ConvDimensionNumbers(*params["dimension_numbers"])}
    out = lax.conv_general_dilated(*call.args, **params)
    assert_close(out, np.asarray(jax.lax.conv_general_dilated(*call.args, **theirs)), rtol=1e-4, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("name", ["general", "grouped", "batch groups"])
def test_batches_are_jaxs(name: str, axes: tuple):
    jax = pytest.importorskip("jax")
    operands = [v if a is None else np.stack([v, v * 2]) for v, a in zip((X, K), axes, strict=True)]
    results = [m.vmap(lambda x, k, m=m: CONVOLUTIONS[name](m, x, k), axes)(*operands) for m in (fg, jax)]
    assert_close(results[0], np.asarray(results[1]), rtol=1e-4, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "dtype, preferred",
    [
        *((dtype, None) for dtype in (np.int8, np.uint8, np.int32, np.bool_, np.float16, BFLOAT16, np.complex64)),
        *((dtype, np.int32) for dtype in (np.int8, np.uint8, np.int32)),
        *((dtype, np.float32) for dtype in (np.float16, BFLOAT16)),
    ],
)
def test_result_types_are_jaxs(dtype: type, preferred: type | None):
    jax_lax = pytest.importorskip("jax.lax")
    x, k = (np.round(v).astype(dtype) for v in (random(1, 2, 5), random(3, 2, 2)))
    out = [m.conv(x, k, (1,), "VALID", preferred_element_type=preferred) for m in (lax, jax_lax)]
    assert_close(out[0], np.asarray(out[1]), rtol=2e-2, atol=2e-2)


# ---------------------------------------------------------------- helpers


@pytest.mark.oracle
def test_shapes_and_paddings_are_jaxs():
    jax_lax = pytest.importorskip("jax.lax")
    numbers = ("NHWC", "HWIO", "NCHW")
    pads = ("SAME", "VALID", ((1, 2), (0, 3)))
    for m_pads, strides in itertools.product(pads, ((1, 1), (2, 3))):
        for name, args in {
            "conv_shape_tuple": ((2, 3, 9, 8), (5, 3, 2, 3), strides, m_pads),
            "conv_general_shape_tuple": ((2, 9, 8, 3), (2, 3, 3, 5), strides, m_pads, numbers),
            "conv_transpose_shape_tuple": ((2, 9, 8, 3), (2, 3, 5, 3), strides, m_pads, numbers),
        }.items():
            assert getattr(lax, name)(*args) == tuple(int(n) for n in getattr(jax_lax, name)(*args)), (name, args)
    assert lax.conv_shape_tuple((4, 3, 9), (5, 3, 2), (1,), ((0, 0),), 2) == (2, 5, 8)
    for kind, n, window, stride in itertools.product(("SAME", "same_lower", "VALID"), (5, 8), (1, 2, 4), (1, 2, 3)):
        args = ((n,), (window,), (stride,), kind)
        assert lax.padtype_to_pads(*args) == [tuple(map(int, p)) for p in jax_lax.padtype_to_pads(*args)], args
    args = (9, 8), (3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2), (2, 1)
    assert lax.reduce_window_shape_tuple(*args) == tuple(map(int, jax_lax.reduce_window_shape_tuple(*args)))
    assert lax.conv_general_permutations(NHWC) == tuple(map(tuple, jax_lax.conv_general_permutations(NHWC)))
    given = lax.conv_dimension_numbers(X.shape, K.shape, NHWC)
    assert given == lax.conv_dimension_numbers(X.shape, K.shape, given) == lax.ConvDimensionNumbers(*given)
    assert tuple(given) == tuple(jax_lax.conv_dimension_numbers(X.shape, K.shape, NHWC))


# ---------------------------------------------------------------- windowed reductions

WINDOWS = {
    "pooling": {"window_dimensions": (1, 2, 2, 1), "window_strides": (1, 2, 2, 1)},
    "overlapping": {"window_dimensions": (1, 3, 2, 1), "window_strides": (1, 2, 1, 1), "padding": "SAME"},
    "lower": {"window_dimensions": (1, 3, 2, 2), "window_strides": (1, 1, 1, 1), "padding": "SAME_LOWER"},
    "dilated": {
        "window_dimensions": (1, 2, 3, 1),
        "padding": ((0, 0), (1, 2), (3, -1), (0, 0)),
        "base_dilation": (1, 2, 3, 1),
        "window_dilation": (1, 2, 1, 1),
    },
}
MONOIDS = {
    "sum": (0.0, lambda m: m.lax.add),
    "max": (-np.inf, lambda m: m.lax.max),
    "min": (np.inf, lambda m: m.lax.min),
    "product": (1.0, lambda m: m.lax.mul),
    "sum from 2": (2.0, lambda m: m.lax.add),
    "log of sums of exponentials": (-np.inf, lambda m: m.numpy.logaddexp),
}


@pytest.mark.oracle
@pytest.mark.parametrize("monoid", MONOIDS)
@pytest.mark.parametrize("name", WINDOWS)
def test_windowed_reductions_are_jaxs(name: str, monoid: str):
    jax = pytest.importorskip("jax")
    init, operation = MONOIDS[monoid]
    # JAX has no gradient of extremes in dilated windows, nor of other initial values.
    differentiable = init != 2.0 and (monoid not in ("max", "min") or "window_dilation" not in WINDOWS[name])

    def both(m: object) -> tuple:
        def program(x: object) -> object:
            return m.lax.reduce_window(x, init, operation(m), **WINDOWS[name])

        def loss(x: object) -> object:
            return m.numpy.sum(m.numpy.sin(program(x)))

        return program(m.numpy.asarray(X)), m.jvp(loss, (X,), (X + 1,)) if differentiable else 0

    expected = jax.tree.map(np.asarray, both(jax))
    assert_close(both(fg), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("monoid", MONOIDS)
@pytest.mark.parametrize("name", WINDOWS)
def test_derivatives_and_batches_of_windowed_reductions(name: str, monoid: str):
    init, operation = MONOIDS[monoid]
    x = np.random.default_rng(0).permutation(48).reshape(1, 4, 4, 3).astype(np.float32) / 16

    def program(x: object) -> object:
        out = lax.reduce_window(x, init, operation(fg), **WINDOWS[name])
        return jnp.where(jnp.isfinite(out), out, 0)

    check_grads(program, (x,), order=2)
    check_vmap(program, (np.stack([x, -x], 2),), (2,))
    assert_close(fg.jit(program)(x), program(x), rtol=1e-5, atol=1e-5)
    gradient = fg.grad(lambda x: jnp.sum(jnp.sin(program(x))))
    assert_close(fg.jit(gradient)(x), gradient(x), rtol=1e-4, atol=1e-4)


def test_sums_and_extremes_are_primitives_for_any_function_that_computes_them():
    for computation, init, name in (
        (lax.add, 0, "reduce_window_sum"),
        (lambda a, b: b + a, 0.0, "reduce_window_sum"),
        (jnp.maximum, -np.inf, "reduce_window_max"),
        (lax.min, np.inf, "reduce_window_min"),
    ):
        jaxpr = fg.make_jaxpr(lambda x, c=computation, i=init: lax.reduce_window(x, i, c, (1, 2, 2, 1)))(X).jaxpr
        assert [e.primitive.name for e in jaxpr.eqns] == [name]


def test_the_first_of_equal_maxima_gets_the_derivative():
    x = np.zeros((1, 4), np.float32)
    gradient = fg.grad(lambda x: jnp.sum(lax.reduce_window(x, -np.inf, lax.max, (1, 3))))
    assert_close(gradient(x), np.float32([[1, 1, 0, 0]]))
    assert_close(fg.jit(gradient)(x), np.float32([[1, 1, 0, 0]]))


@pytest.mark.parametrize("size", [9, 12, 16, 31])
@pytest.mark.parametrize("stride", [1, 3])
def test_long_windows_of_any_operation(size: int, stride: int):
    a, b = random(2, 60)

    def compose(f: tuple, g: tuple) -> tuple:  # associative, not commutative
        return f[0] * g[0], g[0] * f[1] + g[1]

    def program(a: object, b: object) -> object:
        return lax.reduce_window((a, b), (1.0, 0.0), compose, (size,), (stride,), "SAME")

    padding = lax.padtype_to_pads((60,), (size,), (stride,), "SAME")
    padded = np.pad(a, padding, constant_values=1), np.pad(b, padding)
    expected = []
    for start in range(0, padded[0].size - size + 1, stride):
        total = (np.float32(1), np.float32(0))
        for i in range(start, start + size):
            total = compose(total, (padded[0][i], padded[1][i]))
        expected.append(total)
    expected = tuple(np.array(e, np.float32) for e in zip(*expected, strict=True))
    assert_close(program(a, b), expected, rtol=1e-4, atol=1e-4)
    assert_close(fg.jit(program)(a, b), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("monoid", MONOIDS)
@pytest.mark.parametrize("name", ["pooling", "overlapping"])
def test_windows_over_an_empty_batch(name: str, monoid: str):
    init, operation = MONOIDS[monoid]
    x = np.zeros((0, 4, 4, 3), np.float32)

    def program(x: object) -> object:
        return lax.reduce_window(x, init, operation(fg), **WINDOWS[name])

    shape = (0, *program(np.zeros((1, 4, 4, 3), np.float32)).shape[1:])
    assert program(x).shape == fg.jit(program)(x).shape == shape
    gradient = fg.grad(lambda x: jnp.sum(program(x)))
    assert gradient(x).shape == fg.jit(gradient)(x).shape == x.shape


def test_average_pooling_counts_the_elements_of_each_window():
    window = {"window_dimensions": (1, 3, 3, 1), "padding": "SAME"}
    total = lax.reduce_window(X, 0.0, lax.add, **window)
    count = lax.reduce_window(np.ones_like(X), 0.0, lax.add, **window)
    assert_close(count[0, :, :, 0], np.outer([2, 3, 3, 3, 3, 2], [2, 3, 3, 3, 2]).astype(np.float32))
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + 6, j : j + 5] for i in range(3) for j in range(3)]
    assert_close(total / count, sum(shifted) / np.asarray(count), rtol=1e-5, atol=1e-6)


@given(calls_of("reduce_window_sum", [I32]))
def test_windowed_sums_of_integers_agree_with_any_computation(call: object):
    (x,) = call.args
    any_sum = lax.reduce_window(x, np.int32(0), lambda a, b: a + b + 0, **call.params)
    assert_close(call.primitive.bind(x, **call.params), any_sum)
