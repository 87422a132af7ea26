"""Convolutions and windowed reductions: values as NumPy's and SciPy's, derivatives, batches, and bad input."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
import scipy.signal
from hypothesis import given

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.config import enable_x64
from funcgrad.ops.window_geometry import Window, dilated, phases
from funcgrad.testing import assert_close, check_grads, check_vmap
from funcgrad.testing.calls import calls_of

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NUMBERS = ("NHWC", "HWIO", "NHWC")


def random(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 3).astype(dtype)


def by_definition(lhs: np.ndarray, rhs: np.ndarray, p: dict) -> np.ndarray:
    """The sum that a convolution is, term by term."""
    lhs_spec, rhs_spec, out_spec = p["dimension_numbers"]
    x, kernel = lhs.transpose(lhs_spec), rhs.transpose(rhs_spec)
    groups = p["feature_group_count"] * p["batch_group_count"]
    by_batch = p["batch_group_count"] > 1
    out_features = kernel.shape[0]
    spans = [dilated(n, d) for n, d in zip(kernel.shape[2:], p["rhs_dilation"], strict=True)]
    sizes = [
        (dilated(n, b) + low + high - span) // s + 1
        for n, b, (low, high), span, s in zip(
            x.shape[2:], p["lhs_dilation"], p["padding"], spans, p["window_strides"], strict=True
        )
    ]
    batch = x.shape[0] // (groups if by_batch else 1)
    out = np.zeros((batch, out_features, *sizes), x.dtype)
    for n, o, *at in np.ndindex(*out.shape):
        group = o // (out_features // groups)
        for i, *k in np.ndindex(*kernel.shape[1:]):
            places = [
                a * s + b * d - low
                for a, s, b, d, (low, _) in zip(
                    at, p["window_strides"], k, p["rhs_dilation"], p["padding"], strict=True
                )
            ]
            base = p["lhs_dilation"]
            if all(t % b == 0 and 0 <= t // b < m for t, b, m in zip(places, base, x.shape[2:], strict=True)):
                row = n + group * batch if by_batch else n
                feature = i if by_batch else i + group * kernel.shape[1]
                out[n, o, *at] += (
                    x[row, feature, *(t // b for t, b in zip(places, base, strict=True))] * kernel[o, i, *k]
                )
    return out.transpose(np.argsort(out_spec))


@given(calls_of("conv_general_dilated", [np.dtype(np.float64), np.dtype(np.int32)]))
def test_convolution_is_the_sum_that_defines_it(call: object):
    lhs, rhs = call.args
    with enable_x64():
        out = call.primitive.bind(*call.args, **(call.params | {"preferred_element_type": None}))
        assert_close(out, by_definition(lhs, rhs, call.params))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_two_dimensions_are_scipys(mode: str):
    x, k = random(9, 8), random(3, 4, seed=1)
    pads = {"full": [(2, 2), (3, 3)], "same": [(1, 1), (2, 1)], "valid": [(0, 0), (0, 0)]}[mode]
    out = lax.conv_general_dilated(x[None, None], np.flip(k)[None, None].copy(), (1, 1), pads)
    assert_close(out[0, 0], scipy.signal.convolve2d(x, k, mode), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16])
def test_narrow_floats_are_summed_in_float32(dtype: type):
    x, k = np.full((1, 4000), 1.0, dtype)[:, :, None], np.ones((1, 4000, 1), dtype)
    assert float(lax.conv(x, k, (1,), "VALID")[0, 0, 0]) == 4000
    wide = lax.conv(x, k, (1,), "VALID", preferred_element_type=np.float32)
    assert wide.dtype == np.float32


def test_integers_wrap_around_and_widen():
    x, k = np.full((1, 1, 3), 100, np.int8), np.full((1, 1, 3), 100, np.int8)
    assert int(lax.conv(x, k, (1,), "VALID")[0, 0, 0]) == np.int8(30000 % 256 - 256 * (30000 % 256 > 127))
    assert int(lax.conv(x, k, (1,), "VALID", preferred_element_type=np.int32)[0, 0, 0]) == 30000


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5)])
def test_empty_contractions_give_zeros(shape: tuple):
    x, k = np.zeros(shape, np.float32), np.ones((4, shape[1], 2), np.float32)
    out = lax.conv(x, k, (1,), "VALID")
    assert_close(out, np.zeros((shape[0], 4, 4), np.float32))
    both = fg.grad(lambda x, k: lax.conv(x, k, (1,), "VALID").sum(), (0, 1))(x, k)
    assert [g.shape for g in both] == [x.shape, k.shape]


@given(n=st.integers(0, 5), sizes=st.tuples(*[st.integers(1, 4)] * 4), low=st.integers(-1, 3), high=st.integers(0, 3))
def test_phases_see_each_element_of_a_dilated_operand_once(n: int, sizes: tuple, low: int, high: int):
    size, stride, base, dilation = sizes
    w = Window(size, stride, low, high, base, dilation)
    expected = {
        (p, k, t // base)
        for p, k in itertools.product(range(w.count(n)), range(size))
        if (t := p * stride + k * dilation - low) % base == 0
    }
    found = []
    for first, step, taps, inner in phases(n, w):
        windows, elements = range(first, w.count(n), step), range(size)[taps]
        assert not elements or inner.count(n) == len(windows)
        for (i, p), (j, k) in itertools.product(enumerate(windows), enumerate(elements)):
            found.append((p, k, i * inner.stride + j * inner.dilation - inner.low))
    assert sorted(found) == sorted(expected)


# ---------------------------------------------------------------- derivatives and batches

LAYERS = {
    "plain": {"x": (2, 5, 6, 3), "k": (3, 2, 3, 4), "window_strides": (1, 1), "padding": "SAME"},
    "strided": {"x": (2, 7, 6, 3), "k": (3, 3, 3, 4), "window_strides": (2, 2), "padding": "SAME"},
    "grouped": {
        "x": (2, 5, 6, 4),
        "k": (3, 2, 2, 6),
        "window_strides": (1, 2),
        "padding": "VALID",
        "feature_group_count": 2,
    },
    "depthwise": {
        "x": (2, 5, 6, 3),
        "k": (3, 3, 1, 3),
        "window_strides": (1, 1),
        "padding": "SAME",
        "feature_group_count": 3,
    },
    "batch groups": {
        "x": (4, 5, 6, 3),
        "k": (3, 2, 3, 4),
        "window_strides": (1, 1),
        "padding": "VALID",
        "batch_group_count": 2,
    },
    "dilated": {
        "x": (1, 6, 7, 2),
        "k": (2, 3, 2, 3),
        "window_strides": (1, 1),
        "padding": "SAME",
        "rhs_dilation": (2, 1),
    },
    "transposed": {
        "x": (1, 4, 3, 2),
        "k": (3, 2, 2, 3),
        "window_strides": (1, 1),
        "padding": ((2, 1), (1, 1)),
        "lhs_dilation": (2, 3),
    },
    "cropped to padding": {
        "x": (1, 3, 7, 2),
        "k": (2, 3, 2, 3),
        "window_strides": (1, 1),
        "padding": ((-5, 4), (6, -9)),
    },
    "cropped": {"x": (1, 6, 7, 2), "k": (2, 3, 2, 3), "window_strides": (1, 2), "padding": ((-1, 2), (1, -2))},
}


def layer(name: str) -> tuple:
    options = dict(LAYERS[name])
    x, k = random(*options.pop("x")), random(*options.pop("k"), seed=1)
    return (lambda x, k: lax.conv_general_dilated(x, k, **options, dimension_numbers=NUMBERS)), x, k


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_to_second_order(name: str):
    f, x, k = layer(name)
    check_grads(f, (x, k), order=2)


@pytest.mark.parametrize("name", LAYERS)
def test_compiled_values_and_gradients_agree_with_numpy(name: str):
    f, x, k = layer(name)
    assert_close(fg.jit(f)(x, k), f(x, k), rtol=1e-4, atol=1e-4)

    def loss(x: object, k: object) -> object:
        return jnp.sum(jnp.sin(f(x, k)))

    gradient = fg.grad(loss, (0, 1))
    assert_close(fg.jit(gradient)(x, k), gradient(x, k), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (4, 2)])
def test_a_batch_of_convolutions_is_one(name: str, axes: tuple):
    f, x, k = layer(name)
    stacked = [v if a is None else np.stack([v, -v, v * 2], a) for v, a in zip((x, k), axes, strict=True)]
    check_vmap(f, stacked, axes)
    jaxpr = fg.make_jaxpr(fg.vmap(f, axes))(*stacked).jaxpr
    assert [e.primitive.name for e in jaxpr.eqns].count("conv_general_dilated") == 1


def test_an_empty_batch():
    f, x, k = layer("grouped")
    assert fg.vmap(f)(np.stack([x])[:0], np.stack([k])[:0]).shape == (0, *f(x, k).shape)


# ---------------------------------------------------------------- bad input

X, K = random(1, 4, 4, 4), random(4, 4, 3, 3)


def convolved(lhs: object = X, rhs: object = K, strides: object = (1, 1), padding: object = "VALID", **options: object):
    return lax.conv_general_dilated(lhs, rhs, strides, padding, **options)


BAD = {
    "ranks": (
        lambda: convolved(rhs=K[0]),
        errors.ShapeError,
        "lhs of shape (1, 4, 4, 4) has 4 dimensions, rhs of shape",
    ),
    "dtypes": (
        lambda: convolved(rhs=K.astype(np.int32)),
        errors.DTypeError,
        "operands have different dtypes: f32[1,4,4,4] and i32[4,4,3,3]",
    ),
    "features": (
        lambda: convolved(rhs=K[:, :3]),
        errors.ShapeError,
        "features differ: dimension 1 of lhs f32[1,4,4,4] is 4, dimension 1 of rhs f32[4,3,3,3] is 3",
    ),
    "groups": (
        lambda: convolved(feature_group_count=3),
        errors.ShapeError,
        "feature_group_count 3 does not divide the features of lhs f32[1,4,4,4], 4",
    ),
    "batch groups": (
        lambda: convolved(batch_group_count=2),
        errors.ShapeError,
        "batch_group_count 2 does not divide the batch of lhs f32[1,4,4,4], 1",
    ),
    "no groups": (
        lambda: convolved(feature_group_count=0),
        errors.ArgumentError,
        "feature_group_count is 0, batch_group_count 1",
    ),
    "both groups": (
        lambda: convolved(feature_group_count=2, batch_group_count=2),
        errors.ArgumentError,
        "feature_group_count is 2, batch_group_count 2",
    ),
    "stride of zero": (lambda: convolved(strides=(0, 1)), errors.ArgumentError, "window_strides is (0, 1)"),
    "negative stride": (lambda: convolved(strides=(1, -2)), errors.ArgumentError, "window_strides is (1, -2)"),
    "strides": (lambda: convolved(strides=(1,)), errors.ArgumentError, "window_strides is (1,) for 2 dimensions"),
    "dilation of zero": (lambda: convolved(rhs_dilation=(0, 1)), errors.ArgumentError, "rhs_dilation is (0, 1)"),
    "fraction": (lambda: convolved(strides=(1.5, 1)), errors.ArgumentError, "window_strides is (1.5, 1)"),
    "padding": (lambda: convolved(padding="FULL"), errors.ArgumentError, "padding is 'FULL'"),
    "pads": (lambda: convolved(padding=[(1, 1)]), errors.ArgumentError, "padding is [(1, 1)] for 2 dimensions"),
    "named padding of a dilated operand": (
        lambda: convolved(lhs_dilation=(2, 2)),
        errors.ArgumentError,
        "padding 'VALID' with lhs_dilation (2, 2)",
    ),
    "crop": (
        lambda: convolved(padding=[(-3, -3), (0, 0)]),
        errors.ShapeError,
        "padding (-3, -3) is more than a dimension of size 4 of f32[1,4,4,4]",
    ),
    "window": (
        lambda: convolved(X[:, :, :2]),
        errors.ShapeError,
        "a window of 3 does not fit into a dimension of size 2 of f32[1,4,2,4], padded to 2",
    ),
    "dilated window": (
        lambda: convolved(rhs_dilation=(1, 2)),
        errors.ShapeError,
        "a window of 3 with dilation 2, spanning 5, does not fit into a dimension of size 4",
    ),
    "two strings": (
        lambda: convolved(dimension_numbers=("NCHW", "OIHW")),
        errors.ArgumentError,
        "dimension_numbers ('NCHW', 'OIHW') for lhs of shape (1, 4, 4, 4)",
    ),
    "letters twice": (
        lambda: convolved(dimension_numbers=("NCHH", "OIHW", "NCHW")),
        errors.ArgumentError,
        "'NCHH' for lhs",
    ),
    "other letters": (
        lambda: convolved(dimension_numbers=("NCHW", "OIHW", "NCXY")),
        errors.ArgumentError,
        "name different spatial dimensions",
    ),
    "numbers": (
        lambda: convolved(dimension_numbers=lax.ConvDimensionNumbers((0, 1, 2, 2), (0, 1, 2, 3), (0, 1, 2, 3))),
        errors.ArgumentError,
        "lhs_spec (0, 1, 2, 2) does not fit lhs f32[1,4,4,4]",
    ),
    "transposed padding": (
        lambda: lax.conv_transpose(X, K, (2, 2), "FULL"),
        errors.ArgumentError,
        "padding is 'FULL'",
    ),
    "window of a reduction": (
        lambda: lax.reduce_window(X[0, 0], 0.0, lax.add, (5, 1)),
        errors.ShapeError,
        "reduce_window_sum: a window of 5 does not fit into a dimension of size 4 of f32[4,4], padded to 4",
    ),
    "window of any reduction": (
        lambda: lax.reduce_window(X[0, 0], 1.0, lax.mul, (5, 1)),
        errors.ShapeError,
        "reduce_window: a window of 5 does not fit",
    ),
    "empty window": (
        lambda: lax.reduce_window(X[0, 0], 0.0, lax.add, (0, 1)),
        errors.ArgumentError,
        "reduce_window: window_dimensions is (0, 1) for 2 dimensions",
    ),
    "rank of a window": (
        lambda: lax.reduce_window(X, 0.0, lax.add, (2, 2)),
        errors.ArgumentError,
        "reduce_window: window_dimensions is (2, 2) for 4 dimensions",
    ),
    "initial value": (
        lambda: lax.reduce_window(X, np.int32(0), lax.add, (1, 1, 2, 2)),
        errors.ArgumentError,
        "reduce_window: operands f32[1,4,4,4] with initial values i32[]",
    ),
    "initial values": (
        lambda: lax.reduce_window((X, X), 0.0, lax.add, (1, 1, 2, 2)),
        errors.ArgumentError,
        "reduce_window: operands have structure",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_operation_values_line_and_remedy(name: str):
    call, error, text = BAD[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert text in message, message
    assert "at test_conv.py:" in message and "\n  fix: " in message
