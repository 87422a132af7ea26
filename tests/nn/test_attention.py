"""dot_product_attention against JAX, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn
from funcgrad.errors import ArgumentError, ShapeError


def array(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


Q, KEYS, VALUES = (np.random.default_rng(i).standard_normal((2, 24, 4, 8)).astype(np.float32) for i in range(3))
SHARED = KEYS[:, :, :2], VALUES[:, :, :2]
MASK = np.random.default_rng(4).random((2, 1, 24, 24)) < 0.7
LENGTHS = np.array([10, 24], np.int32)
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "plain": ((Q, KEYS, VALUES), {}),
    "no batch": ((Q[0], KEYS[0], VALUES[0]), {}),
    "scale": ((Q, KEYS, VALUES), {"scale": 0.5}),
    "grouped": ((Q, *SHARED), {}),
    "one head of keys": ((Q, KEYS[:, :, :1], VALUES[:, :, :1]), {"is_causal": True}),
    "more keys": ((Q[:, :16], KEYS, VALUES), {"is_causal": True}),
    "bias": ((Q, KEYS, VALUES, array(1, 4, 24, 24)), {}),
    "bias of grouped heads": ((Q, *SHARED, array(4, 1, 24)), {}),
    "mask": ((Q, KEYS, VALUES, None, MASK), {}),
    "mask of grouped heads": ((Q, *SHARED, None, np.broadcast_to(MASK, (2, 4, 24, 24))), {"is_causal": True}),
    "fully masked rows": ((Q, KEYS, VALUES, None, np.zeros((1, 1, 24, 24), bool)), {}),
    "causal": ((Q, KEYS, VALUES), {"is_causal": True}),
    "window": ((Q, KEYS, VALUES), {"local_window_size": (3, 2)}),
    "window of one size": ((Q, KEYS, VALUES), {"local_window_size": 4, "is_causal": True}),
    "lengths": ((Q, KEYS, VALUES), {"query_seq_lengths": LENGTHS, "key_value_seq_lengths": LENGTHS[::-1].copy()}),
    "all": ((Q, *SHARED, array(1, 24, 24), MASK), {"is_causal": True, "key_value_seq_lengths": LENGTHS}),
    "implementation": ((Q, KEYS, VALUES), {"implementation": "xla"}),
}


def attention(case: str, module: Any) -> Any:
    (query, key, value, *more), options = CASES[case]
    return lambda q, k, v: module.nn.dot_product_attention(q, k, v, *more, **options)


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_jax(case):
    import jax

    args = CASES[case][0][:3]
    for compiled in (False, True):
        ours, theirs = attention(case, fg), attention(case, jax)
        out = (fg.jit(ours) if compiled else ours)(*args)
        assert out.shape == args[0].shape
        np.testing.assert_allclose(out, theirs(*args), rtol=1e-5, atol=1e-5)

    def loss(f: Any) -> Any:
        return lambda *args: (f(*args) ** 2).sum()

    found = fg.jit(fg.grad(loss(ours), (0, 1, 2)))(*args)
    for a, b in zip(found, jax.grad(loss(theirs), (0, 1, 2))(*args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_accumulate_in_float32(dtype):
    import jax

    args = [jnp.asarray(x, dtype) for x in (Q, KEYS, VALUES)]
    out, residual = nn.dot_product_attention(*args, return_residual=True)
    assert out.dtype == residual.dtype == args[0].dtype
    theirs = [jax.numpy.asarray(np.asarray(x, np.float32), dtype) for x in args]
    for a, b in zip((out, residual), jax.nn.dot_product_attention(*theirs, return_residual=True), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=0.02, atol=0.02)


def test_residual_is_the_logarithm_of_the_sum_of_exponentials():
    _, residual = nn.dot_product_attention(Q, KEYS, VALUES, return_residual=True)
    scores = np.einsum("btnh,bsnh->btns", Q, KEYS) / np.sqrt(8)
    np.testing.assert_allclose(residual, np.log(np.exp(scores).sum(-1)), rtol=1e-5)
    (gradient,) = fg.grad(lambda q: nn.dot_product_attention(q, KEYS, VALUES, return_residual=True)[1].sum(), (0,))(Q)
    assert not np.asarray(gradient).any()


def test_compiled_it_stores_no_scores():
    args = [array(1, 1024, 2, 8)] * 3
    lowered = fg.jit(lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True)).lower(*args)
    assert "control: blocks" in lowered.as_text("groups")
    assert lowered.compile().memory_analysis().temporaries < 2 * 1024 * 1024 * 4


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type, str]] = [
    ((Q, KEYS, VALUES[:1]), {}, ShapeError, r"key is f32\[2,24,4,8\], value is f32\[1,24,4,8\]"),
    ((Q[..., :4], KEYS, VALUES), {}, ShapeError, r"query is f32\[2,24,4,4\], key is f32\[2,24,4,8\]"),
    ((Q[:, :, :3], *SHARED), {}, ShapeError, "must be a multiple"),
    ((Q[None], KEYS, VALUES), {}, ShapeError, "at most 4 dimensions"),
    ((Q, KEYS, VALUES, array(3, 24, 24)), {}, ShapeError, r"bias is f32\[1,3,24,24\]"),
    ((Q, KEYS, VALUES, None, array(24, 24)), {}, ArgumentError, "give bools"),
    ((Q.astype(np.float16), KEYS, VALUES), {}, ArgumentError, r"query is f16\[2,24,4,8\], key is f32"),
    ((Q, KEYS, VALUES), {"query_seq_lengths": np.array([1], np.int32)}, ShapeError, "give 2 lengths"),
    ((Q, KEYS, VALUES), {"key_value_seq_lengths": np.array([1.0, 2.0])}, ArgumentError, "give int32"),
    ((Q, KEYS, VALUES), {"implementation": "cudnn"}, ArgumentError, "implementation is 'cudnn'"),
]


@pytest.mark.parametrize(("args", "options", "error", "message"), WRONG, ids=[w[3] for w in WRONG])
def test_errors_name_both_values(args, options, error, message):
    with pytest.raises(error, match=message):
        nn.dot_product_attention(*args, **options)
