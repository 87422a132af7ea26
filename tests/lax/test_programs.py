"""Names of programs near to XLA, and products of groups and of scaled blocks."""

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.testing import check_grads


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_mulhi_is_the_high_half_of_the_product(dtype):
    info = np.iinfo(dtype)
    values = [info.min, info.min + 1, info.max, info.max // 3, 0, 1, 77]
    x, y = (np.array(v, dtype) for v in zip(*((a, b) for a in values for b in values), strict=True))
    expected = [(int(a) * int(b)) >> info.bits for a, b in zip(x, y, strict=True)]
    with fg.enable_x64():
        assert lax.mulhi(x, y).tolist() == expected == fg.jit(lax.mulhi)(x, y).tolist()
    with pytest.raises(TypeError, match="pass integers"):
        lax.mulhi(1.0, 2.0)


def test_ragged_dot_multiplies_groups_of_rows():
    rng = np.random.default_rng(0)
    lhs, rhs = rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=(4, 3, 2)).astype(np.float32)
    sizes = np.array([2, 0, 3, 1], np.int32)
    groups = np.repeat(np.arange(4), sizes)
    expected = np.concatenate([np.einsum("ik,ikn->in", lhs[:6], rhs[groups]), np.zeros((1, 2))])
    np.testing.assert_allclose(fg.jit(lax.ragged_dot)(lhs, rhs, sizes), expected, rtol=1e-5, atol=1e-6)
    offset = lax.ragged_dot(lhs, rhs[1:3], sizes, group_offset=jnp.array([1]))
    np.testing.assert_allclose(offset[2:5], expected[2:5], rtol=1e-5, atol=1e-6)
    check_grads(lambda a, b: lax.ragged_dot(a, b, sizes), (lhs, rhs))
    with pytest.raises(ValueError, match="pass arrays of shapes"):
        lax.ragged_dot(lhs, rhs[0], sizes)


@pytest.mark.oracle
def test_ragged_dot_is_that_of_jax(jax):
    lhs, rhs, sizes = np.float32([[1, 2], [3, 4], [5, 6]]), np.float32([[[1], [2]], [[3], [4]]]), np.int32([2, 1])
    np.testing.assert_allclose(lax.ragged_dot(lhs, rhs, sizes), jax.lax.ragged_dot(lhs, rhs, sizes), rtol=1e-6)


def test_blocks_have_scales():
    rng = np.random.default_rng(1)
    lhs, rhs = rng.normal(size=(2, 3, 8)).astype(np.float32), rng.normal(size=(2, 4, 8)).astype(np.float32)
    a, b = rng.uniform(1, 2, (2, 3, 2)).astype(np.float32), rng.uniform(1, 2, (2, 4, 4)).astype(np.float32)
    expected = np.einsum("bmk,bnk->bmn", lhs * np.repeat(a, 4, -1), rhs * np.repeat(b, 2, -1))
    np.testing.assert_allclose(fg.jit(fg.nn.scaled_matmul)(lhs, rhs, a, b), expected, rtol=1e-5, atol=1e-5)
    product = lax.scaled_dot(lhs, rhs.swapaxes(1, 2), lhs_scale=a)
    np.testing.assert_allclose(product, (lhs * np.repeat(a, 4, -1)) @ rhs.swapaxes(1, 2), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="divides"):
        lax.scaled_dot(lhs, rhs.swapaxes(1, 2), lhs_scale=a[..., :1].repeat(3, -1))


def test_composites_are_named_equations():
    tangent = lax.composite(lambda x, *, scale: scale * jnp.sin(x) / jnp.cos(x), "my.tangent")
    eqn = fg.make_jaxpr(lambda x: tangent(x, scale=2.0))(0.5).eqns[0]
    assert eqn.params["name"] == "my.tangent"
    np.testing.assert_allclose(fg.grad(lambda x: tangent(x, scale=2.0))(0.5), 2 / np.cos(0.5) ** 2, rtol=1e-5)


def test_tokens_and_staged_values():
    token = lax.after_all(lax.create_token(), lax.create_token())
    assert token.shape == (0,) and lax.stage(2.0).weak_type


def test_algorithms_of_products_are_accepted():
    for precision in (lax.DotAlgorithmPreset.BF16_BF16_F32, lax.DotAlgorithm("float32", "float32", "float32")):
        assert lax.dot(jnp.ones(3), jnp.ones(3), precision=precision) == 3
    with pytest.raises(ValueError, match="precision is"):
        lax.dot(jnp.ones(3), jnp.ones(3), precision="unknown")
