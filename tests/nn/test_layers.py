"""Layers: their definitions where PyTorch has none, transforms, jaxprs, and channels first."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, nn, random
from funcgrad.nn import initializers
from tests.nn.layers_in_torch import CASES

RNG = np.random.default_rng(0)
KEY = random.key(0)


def _inputs(case, copies):
    """A batch, or a tuple of them, for each of some copies."""
    shapes = case.shape if isinstance(case.shape[0], tuple) else (case.shape,)
    xs = [RNG.standard_normal((copies, *shape), np.float32) for shape in shapes]
    xs = [jnp.asarray(np.moveaxis(x, 2, -1) if case.moves else x) for x in xs]
    return tuple(xs) if len(xs) > 1 else xs[0]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "," not in name])
def test_a_mapped_layer_is_a_loop(name):
    case = CASES[name]
    xs = _inputs(case, 2)
    each = [fg.tree.map(lambda x: x[i], xs) for i in range(2)]  # noqa: B023
    _, params, state = case.layer.init_with_state(KEY, fg.tree.map(lambda x: x.shape[1:], each[0]))
    many = fg.tree.map(lambda p: jnp.stack([p, 1.5 * p]), params)

    def apply(params, x):
        return case.layer.apply_with_state(params, x, state, train=case.train)

    mapped = fg.vmap(apply)(many, xs)
    for i in range(2):
        one = apply(fg.tree.map(lambda p: p[i], many), each[i])  # noqa: B023
        for a, b in zip(fg.tree.leaves(mapped), fg.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5)


COMPILED = [
    "Bilinear",
    "PReLU of channels",
    "RMSNorm",
    "GroupNorm",
    "InstanceNorm",
    "BatchNorm3d",
    "Conv1d",
    "ConvTranspose1d",
    "MaxPool2d",
    "AvgPool1d",
    "AdaptiveAvgPool1d",
    "AdaptiveMaxPool1d",
    "Upsample bilinear",
    "PixelShuffle",
    "SpectralNorm of Linear",
    "WeightNorm of Linear",
]


def test_compiled_layers_and_their_gradients_are_those_of_eager_mode():
    """In one program, which is compiled faster than many."""
    inputs = {name: fg.tree.map(lambda x: x[0], _inputs(CASES[name], 1)) for name in COMPILED}
    started = {
        name: CASES[name].layer.init_with_state(KEY, fg.tree.map(lambda a: a.shape[1:], x))[1:]
        for name, x in inputs.items()
    }

    def loss(params, x, name, state):
        y, after = CASES[name].layer.apply_with_state(params, x, state, train=CASES[name].train)
        return jnp.sum(jnp.cos(y)), (y, after)

    def step(inputs, started):
        gradient = fg.grad(loss, (0, 1), has_aux=True)
        return {name: gradient(params, inputs[name], name, state) for name, (params, state) in started.items()}

    eager, compiled = step(inputs, started), fg.jit(step)(inputs, started)
    for a, b in zip(fg.tree.leaves(compiled), fg.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


FIRST_AND_LAST = {
    "AvgPool2d": lambda channels: nn.AvgPool2d(2, padding="SAME", include_padding=False, channels=channels),
    "AdaptiveMaxPool2d": lambda channels: nn.AdaptiveMaxPool2d((4, 2), channels=channels),
    "GlobalAvgPool": lambda channels: nn.GlobalAvgPool(channels=channels),
    "GlobalMaxPool": lambda channels: nn.GlobalMaxPool(channels=channels, keepdims=True),
    "PReLU": lambda channels: nn.PReLU(4, channels=channels),
    "Upsample": lambda channels: nn.Upsample(2, method="bicubic", channels=channels),
    "BatchNorm2d": lambda channels: nn.BatchNorm2d(channels=channels),
    "InstanceNorm": lambda channels: nn.InstanceNorm(channels=channels),
    "ConvTranspose2d": lambda channels: nn.ConvTranspose2d(4, 3, strides=2, groups=2, channels=channels),
}


@pytest.mark.parametrize("name", FIRST_AND_LAST)
def test_channels_first_and_last_compute_the_same(name):
    x = RNG.standard_normal((2, 5, 3, 4), np.float32)
    last, first = (FIRST_AND_LAST[name](channels) for channels in ("last", "first"))
    shape, params, state = last.init_with_state(KEY, (5, 3, 4))
    y = last.apply_with_state(params, x, state)[0]
    moved = first.apply_with_state(params, np.moveaxis(x, -1, 1), state)[0]
    assert y.shape[1:] == shape and moved.shape[1:] == first.init_with_state(KEY, (4, 5, 3))[0]
    np.testing.assert_allclose(y, np.moveaxis(moved, 1, -1), rtol=1e-5, atol=1e-6)


def test_same_padding_keeps_the_size_and_transposes_multiply_it():
    for strides, n in ((1, 7), (2, 4), (3, 3)):
        assert nn.Conv1d(2, 4, strides=strides).init(KEY, (7, 3))[0] == (n, 2)
        assert nn.ConvTranspose1d(2, 4, strides=strides).init(KEY, (7, 3))[0] == (7 * strides, 2)
    assert nn.Conv2d(2, 3, padding=[(0, 1), (2, 2)]).init(KEY, (4, 4, 1))[0] == (3, 6, 2)


def test_pooling_of_integers_and_of_means_at_the_edge():
    x = jnp.arange(6).reshape(1, 6, 1)
    assert nn.MaxPool1d(2).apply((), x)[0, :, 0].tolist() == [1, 3, 5]
    mean = nn.AvgPool1d(3, strides=1, padding=1, include_padding=False).apply((), x)
    assert mean[0, :, 0].tolist() == [0.5, 1, 2, 3, 4, 4.5]


def test_running_statistics_are_the_means_of_the_batches():
    """With momentum None. The variance is unbiased; an evaluation leaves the state as it is."""
    layer = nn.BatchNorm1d(momentum=None)
    _, params, state = layer.init(KEY, 3)
    batches = RNG.standard_normal((4, 6, 3), np.float32)
    for x in batches:
        _, state = layer.apply(params, x, state=state, train=True)
    np.testing.assert_allclose(state["mean"], batches.mean((0, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["variance"], batches.var(1, ddof=1).mean(0), rtol=1e-5)
    y, same = layer.apply(params, batches[0], state=state)
    expected = (batches[0] - state["mean"]) / np.sqrt(state["variance"] + 1e-5)
    assert same is state
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_of_narrow_floats_have_statistics_in_float32(dtype):
    x = jnp.asarray(RNG.standard_normal((8, 5, 4)) + 100, dtype)
    layers = (nn.LayerNorm(), nn.RMSNorm(), nn.GroupNorm(2), nn.InstanceNorm(), nn.BatchNorm1d())
    for layer in layers:
        _, params, state = layer.init_with_state(KEY, (5, 4))
        narrow = fg.tree.map(lambda p: p.astype(dtype), params)
        y = layer.apply_with_state(narrow, x, state, train=True)[0]
        expected = layer.apply_with_state(params, x.astype("float32"), state, train=True)[0]
        assert y.dtype == dtype
        np.testing.assert_allclose(y.astype("float32"), expected, atol=0.02)


def test_spatial_dropout_drops_whole_channels():
    x = jnp.ones((20, 3, 2, 50))
    y = nn.Dropout(0.4, spatial=True).apply((), x, key=KEY, train=True)
    assert np.array_equal(y.min((1, 2)), y.max((1, 2))) and abs((y == 0).mean() - 0.4) < 0.05
    moved = nn.Dropout(0.4, spatial=True, channels="first").apply((), jnp.ones((20, 50, 3, 2)), key=KEY, train=True)
    assert np.array_equal(moved.min((2, 3)), moved.max((2, 3)))


def test_spectral_norm_estimates_the_largest_singular_value():
    layer = nn.SpectralNorm(nn.Linear(4, bias=False))
    _, params, state = layer.init(KEY, 6)
    for _ in range(30):
        _, state = layer.apply(params, jnp.ones((1, 6)), state=state, train=True)
    kernel = layer.apply(params, jnp.eye(6), state=state)[0]
    np.testing.assert_allclose(np.linalg.svd(kernel, compute_uv=False)[0], 1, rtol=1e-4)


def test_weight_norm_starts_at_the_layer():
    layer = nn.Conv1d(3, 2)
    x = RNG.standard_normal((2, 5, 2), np.float32)
    np.testing.assert_allclose(
        nn.WeightNorm(layer).apply(nn.WeightNorm(layer).init(KEY, (5, 2))[1], x),
        layer.apply(layer.init(KEY, (5, 2))[1], x),
        atol=1e-6,
    )


def test_lora_adapts_a_frozen_layer():
    model = nn.LoRA(nn.Linear(3), 2, alpha=4.0)
    _, params = model.init(KEY, 5)
    x = RNG.standard_normal((4, 5), np.float32)
    np.testing.assert_array_equal(model.apply(params, x), nn.Linear(3).apply(params["layer"], x))
    params["up"] = jnp.asarray(RNG.standard_normal((2, 3), np.float32))
    merged = nn.merge_lora(model, params)
    np.testing.assert_allclose(model.apply(params, x), nn.Linear(3).apply(merged, x), rtol=1e-4, atol=1e-5)
    grads = fg.grad(lambda p: model.apply(p, x).sum())(params)
    assert not np.any(grads["layer"]["kernel"]) and np.all(grads["down"] != 0)
    free = nn.LoRA(nn.Linear(3), 2, frozen=False)
    assert np.all(fg.grad(lambda p: free.apply(p, x).sum())(params)["layer"]["bias"] == 4)


def test_initializers_that_keep_their_input():
    x = RNG.standard_normal((2, 5, 3), np.float32)
    for layer in (nn.Linear(3, kernel_init=initializers.identity()), nn.Conv1d(3, 3, kernel_init=initializers.dirac())):
        np.testing.assert_array_equal(layer.apply(layer.init(KEY, (5, 3))[1], x), x)
    grouped = nn.Conv2d(4, 3, groups=2, kernel_init=initializers.dirac(2))
    image = RNG.standard_normal((1, 3, 3, 4), np.float32)
    np.testing.assert_array_equal(grouped.apply(grouped.init(KEY, (3, 3, 4))[1], image), image)


# ---------------------------------------------------------------- jaxprs


def _equations(function, *args):
    return str(fg.make_jaxpr(function)(*args))


def test_an_mlp_traces_to_what_is_written_by_hand():
    model = nn.Sequential(nn.Linear(8), nn.relu, nn.Residual(nn.Linear(8)), nn.Dropout(0.5), nn.Linear(2))
    _, params = model.init(KEY, 4)

    def by_hand(params, x):
        first, _, second, _, third = params
        h = nn.relu(x @ first["kernel"] + first["bias"])
        h = h @ second["layer"]["kernel"] + second["layer"]["bias"] + h
        return h @ third["kernel"] + third["bias"]

    x = jnp.ones((3, 4))
    assert _equations(model.apply, params, x) == _equations(by_hand, params, x)
    loss = lambda f: fg.grad(lambda p: f(p, x).sum())  # noqa: E731
    assert _equations(loss(model.apply), params) == _equations(loss(by_hand), params)


def test_a_cnn_traces_to_what_is_written_by_hand():
    model = nn.Sequential(
        conv=nn.Conv2d(4, 3, padding="VALID"),
        norm=nn.BatchNorm2d(),
        act=nn.relu,
        pool=nn.MaxPool2d(2),
        flat=nn.Flatten(),
    )
    _, params, state = model.init(KEY, (6, 6, 2))

    def by_hand(params, x, state):
        numbers = ("NHWC", "HWIO", "NHWC")
        h = lax.conv_general_dilated(x, params["conv"]["kernel"], (1, 1), "VALID", dimension_numbers=numbers)
        h = h + params["conv"]["bias"]
        n = h.size // h.shape[-1]
        mean = jnp.mean(h, (0, 1, 2))
        centered = h - mean
        variance = jnp.mean(jnp.square(centered), (0, 1, 2))
        h = centered * (lax.rsqrt(variance + 1e-5) * params["norm"]["scale"]) + params["norm"]["bias"]
        running = state["norm"]
        norm = {
            "mean": 0.9 * running["mean"] + 0.1 * mean,
            "variance": 0.9 * running["variance"] + 0.1 * (n / (n - 1)) * variance,
        }
        h = lax.reduce_window(nn.relu(h), np.float32(-np.inf), lax.max, (1, 2, 2, 1), (1, 2, 2, 1))
        return h.reshape(h.shape[0], -1), {**state, "norm": norm}

    x = jnp.ones((3, 6, 6, 2))
    apply = lambda params, x, state: model.apply(params, x, state=state, train=True)  # noqa: E731
    assert _equations(apply, params, x, state) == _equations(by_hand, params, x, state)
