"""Attention, encoders and decoders against PyTorch's figures; caches; positions; bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn, random
from funcgrad.errors import FuncgradError
from tests.nn.transformers_in_torch import CASES, in_funcgrad, in_torch, inputs

FIGURES = np.load(Path(__file__).with_name("transformers_in_torch.npz"))
KEY = random.key(0)
X = np.float32(np.random.default_rng(0).standard_normal((2, 5, 8)))
MEMORY = np.float32(np.random.default_rng(1).standard_normal((2, 3, 6)))


def same(found, expected, rtol=1e-5, atol=1e-5):
    fg.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), found, expected)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_torch(name):
    with fg.enable_x64():
        found = in_funcgrad(CASES[name], fg)
    assert {f"{name}: {what}" for what in found} == {key for key in FIGURES if key.startswith(f"{name}: ")}
    for what, value in found.items():
        np.testing.assert_allclose(value, FIGURES[f"{name}: {what}"], rtol=1e-8, atol=1e-11, err_msg=what)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_torch(name, torch):
    for what, value in in_torch(CASES[name], torch).items():
        np.testing.assert_allclose(value, FIGURES[f"{name}: {what}"], rtol=1e-8, atol=1e-11, err_msg=what)


def test_a_compiled_encoder_and_decoder_are_the_eager_ones():
    with fg.enable_x64():
        for name in ("encoder", "decoder"):
            for what, value in in_funcgrad(CASES[name], fg, fg.jit).items():
                np.testing.assert_allclose(value, FIGURES[f"{name}: {what}"], rtol=1e-8, atol=1e-11, err_msg=what)


# ---------------------------------------------------------------- caches

ROTARY = nn.MultiHeadAttention(8, 4, key_value_heads=2, causal=True, rotary=nn.RotaryEmbedding())
ENCODER = nn.TransformerEncoder(2, 8, 4, 6, causal=True, key_value_heads=2, rotary=nn.RotaryEmbedding())
DECODER = nn.TransformerDecoder(2, 8, 4, 6)


@pytest.mark.parametrize("layer", [ROTARY, ENCODER, DECODER], ids=lambda layer: layer.kind)
def test_steps_with_a_cache_are_the_whole(layer):
    memory = layer is DECODER
    _, params = layer.init(KEY, ((5, 8), (3, 6)) if memory else (5, 8))
    together = (lambda x: (x, MEMORY)) if memory else (lambda x: x)
    whole = layer.apply(params, together(X))
    cache = layer.init_cache(params, batch=2, size=7)
    y, cache = layer.apply(params, together(X[:, :2]), cache=cache)
    same(y, whole[:, :2])
    step = fg.jit(lambda x, cache: layer.apply(params, together(x), cache=cache))
    for t in range(2, 5):
        y, cache = step(X[:, t : t + 1], cache)
        same(y, whole[:, t : t + 1])
    lengths = [leaf for leaf in fg.tree.leaves(cache) if not leaf.ndim]
    assert {int(n) for n in lengths} == {5}


def test_a_mask_hides_positions_of_a_cache():
    _, params = ROTARY.init(KEY, (5, 8))
    seen = np.array([False, True, True, True, True])
    whole = ROTARY.apply(params, X, mask=seen)
    cache = ROTARY.init_cache(params, 2, 5)
    for t in range(5):
        y, cache = ROTARY.apply(params, X[:, t : t + 1], cache=cache, mask=seen)
    same(y, whole[:, 4:])
    assert not np.allclose(y, ROTARY.apply(params, X)[:, 4:])


def test_a_full_cache_is_an_error_or_makes_nan():
    _, params = ROTARY.init(KEY, (5, 8))
    step = fg.jit(lambda x, cache: ROTARY.apply(params, x, cache=cache))
    _, cache = step(X, ROTARY.init_cache(params, 2, 5))
    assert cache["length"] == 5 and np.isnan(step(X[:, :1], cache)[0]).all()
    with pytest.raises(FuncgradError, match="1 positions after 5 do not fit into a cache of 5"):
        ROTARY.apply(params, X[:, :1], cache=cache)


# ---------------------------------------------------------------- positions


def test_rotations_are_complex_products():
    x = np.random.default_rng(2).standard_normal((2, 3, 4, 6))
    positions = np.array([[0, 1, 2], [7, 8, 9]])
    turns = np.exp(1j * positions[..., None] * 100.0 ** (-np.arange(3) / 3))[:, :, None]
    with fg.enable_x64():
        halves = np.asarray(nn.rotary_embedding(x, positions, base=100.0))
        expected = (x[..., :3] + 1j * x[..., 3:]) * turns
        same(halves, np.concatenate([expected.real, expected.imag], -1), 1e-12, 1e-12)
        pairs = np.asarray(nn.rotary_embedding(x, positions, base=100.0, interleaved=True))
        expected = (x[..., ::2] + 1j * x[..., 1::2]) * turns
        same(pairs[..., ::2] + 1j * pairs[..., 1::2], expected, 1e-12, 1e-12)
        products = [
            nn.rotary_embedding(x, p + positions) @ np.swapaxes(nn.rotary_embedding(x, p), -1, -2) for p in (0, 90)
        ]
        same(products[0], products[1], 1e-9, 1e-9)
    assert nn.rotary_embedding(jnp.ones((3, 2, 4), "bfloat16")).dtype == jnp.bfloat16


def test_sinusoids_are_their_definition():
    angles = np.arange(7)[:, None] / 10000 ** (np.arange(0, 5, 2) / 5)
    expected = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(7, 6)[:, :5]
    same(nn.sinusoidal_embedding(jnp.arange(7), 5), expected)
    layer = nn.SinusoidalEmbedding()
    assert layer.init(KEY, (5, 8)) == ((5, 8), ())
    same(layer.apply((), X), X + nn.sinusoidal_embedding(jnp.arange(5), 8))
    later = np.arange(5) + np.array([[0], [3]])
    same(layer.apply((), X, positions=later)[1], X[1] + nn.sinusoidal_embedding(jnp.arange(3, 8), 8))


# ---------------------------------------------------------------- shapes, options, dropout


def test_shapes_and_names_of_parameters():
    shape, params = ROTARY.init(KEY, (5, 8))
    assert shape == (5, 8) and list(params) == ["query", "key", "value", "out", "dropout"]
    assert [params[name]["kernel"].shape for name in ("query", "key", "value", "out")] == [
        (8, 8),
        (8, 4),
        (8, 4),
        (8, 8),
    ]
    shape, params = nn.MultiHeadAttention(6, 2, head_size=5).init(KEY, ((5, 8), (3, 4)))
    assert shape == (5, 6) and params["key"]["kernel"].shape == (4, 10) and params["out"]["kernel"].shape == (10, 6)
    shape, params = DECODER.init(KEY, ((5, 8), (3, 6)))
    assert shape == (5, 8) and list(params) == ["layers", "norm"] and len(params["layers"]) == 2
    assert params["layers"][0]["memory_attention"]["value"]["kernel"].shape == (6, 8)
    assert "norm" not in nn.TransformerEncoder(1, 8, 2, 6, norm_first=False).init(KEY, (5, 8))[1]


def test_groups_of_queries_share_keys():
    _, params = ROTARY.init(KEY, (5, 8))
    plain = nn.MultiHeadAttention(8, 4, causal=True, rotary=nn.RotaryEmbedding())
    repeated = {
        name: fg.tree.map(lambda p: jnp.repeat(p.reshape(*p.shape[:-1], 2, 2), 2, -2).reshape(*p.shape[:-1], 8), own)
        for name, own in params.items()
        if name in ("key", "value")
    }
    same(ROTARY.apply(params, X), plain.apply({**params, **repeated}, X))


def test_dropout_is_in_training_alone():
    for layer in (nn.MultiHeadAttention(8, 2, dropout=0.5), nn.TransformerEncoder(1, 8, 2, 6, dropout=0.5)):
        _, params = layer.init(KEY, (5, 8))
        y = layer.apply(params, X)
        dropped = [layer.apply(params, X, key=random.key(i), train=True) for i in (1, 1, 2)]
        assert np.array_equal(dropped[0], dropped[1])
        assert not np.allclose(dropped[0], dropped[2]) and not np.allclose(dropped[0], y)
        assert np.array_equal(layer.apply(params, X, key=KEY), y)


def test_layers_are_the_same_under_vmap():
    _, params = ENCODER.init(KEY, (5, 8))
    same(fg.vmap(lambda x: ENCODER.apply(params, x[None])[0])(X), ENCODER.apply(params, X))


# ---------------------------------------------------------------- bad input

PLAIN = nn.MultiHeadAttention(8, 2)
PARAMS = PLAIN.init(KEY, (5, 8))[1]
STACK = ENCODER.init(KEY, (5, 8))[1]
CACHE = ROTARY.init_cache(ROTARY.init(KEY, (5, 8))[1], 3, 4)
WRONG = {
    "heads": (lambda: nn.MultiHeadAttention(8, 3), "MultiHeadAttention: features is 8, heads is 3"),
    "groups": (lambda: nn.MultiHeadAttention(8, 4, key_value_heads=3), "heads is 4, key_value_heads is 3"),
    "no layers": (lambda: nn.TransformerEncoder(0, 8, 2, 6), "TransformerEncoder: layers is 0"),
    "an option": (lambda: nn.TransformerDecoderLayer(8, 0, 6), "TransformerDecoderLayer: heads is 0"),
    "in_shape": (lambda: PLAIN.init(KEY, 8), r"MultiHeadAttention: the shape of an example is \(8,\)"),
    "features": (
        lambda: ENCODER.apply(STACK, X[..., :5]),
        r"LayerNorm.* 5 .*\n.*layers: layers/\[0\] TransformerEncoderLayer/attention_norm: LayerNorm",
    ),
    "rank": (lambda: PLAIN.apply(PARAMS, X[0]), r"MultiHeadAttention: the input is f32\[5,8\]"),
    "params": (lambda: PLAIN.apply({}, X), "MultiHeadAttention: params lacks 'query', 'key'"),
    "mask of numbers": (lambda: PLAIN.apply(PARAMS, X, mask=np.ones((5, 5), int)), "mask is i32.*give bools"),
    "mask of another shape": (lambda: PLAIN.apply(PARAMS, X, mask=np.ones((5, 4), bool)), r"mask is bool\[1,1,5,4\]"),
    "lengths": (
        lambda: PLAIN.apply(PARAMS, X, lengths=np.array([5])),
        r"key_value_seq_lengths are i32\[1\].*2 lengths",
    ),
    "unknown argument": (lambda: ENCODER.apply(STACK, X, masks=None), "apply has no argument 'masks'.*mask, lengths"),
    "cache of no causal layer": (lambda: PLAIN.init_cache(PARAMS, 2, 5), "init_cache: the layer has no cache"),
    "cache in no causal layer": (lambda: PLAIN.apply(PARAMS, X, cache=CACHE), "a cache for attention.*not causal"),
    "cache of another batch": (
        lambda: ROTARY.apply(ROTARY.init(KEY, (5, 8))[1], X, cache=CACHE),
        r"keys f32\[3,4,2,2\]",
    ),
    "cache of another kind": (lambda: ROTARY.apply(ROTARY.init(KEY, (5, 8))[1], X, cache=(1,)), "cache has type tuple"),
    "cache of no layer": (
        lambda: nn.Linear(3).init_cache({}, 1, 2),
        r"Linear\(3\): init_cache: the layer has no cache",
    ),
    "odd rotation": (lambda: nn.rotary_embedding(X[..., None, :5]), r"rotary_embedding: x is f32\[2,5,1,5\]"),
    "positions": (lambda: nn.rotary_embedding(X[..., None, :], jnp.arange(4)), r"positions are i32\[4\]"),
    "base": (lambda: nn.RotaryEmbedding(base=0.0), "RotaryEmbedding: base is 0.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_layer_and_both_values(name):
    call, message = WRONG[name]
    with pytest.raises(FuncgradError, match=f"(?s){message}") as caught:
        call()
    assert "\n  fix: " in str(caught.value)


@pytest.mark.parametrize("name", ["attention", "attention without bias", "encoder", "decoder layer, norms last"])
def test_parameters_from_pytorch_are_those_that_went_there(name):
    case = CASES[name]
    params, _ = inputs(case)
    with fg.enable_x64():
        same(nn.from_torch(case.layer, nn.to_torch(case.layer, params)), params, 0, 0)
