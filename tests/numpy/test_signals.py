"""Functions of sequences: convolution and correlation of vectors."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.testing import assert_close, check_grads

SIZES = [(1, 1), (10, 3), (3, 10), (64, 33), (40, 100), (200, 70)]


def random(n: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n).astype(dtype) * dtype(1 + 2j if dtype is np.complex64 else 1)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_values_are_numpys(name: str, sizes: tuple, mode: str, dtype: type):
    a, v = random(sizes[0], dtype), random(sizes[1], dtype, seed=1)
    expected = getattr(np, name)(a, v, mode)
    function = getattr(jnp, name)
    assert_close(function(a, v, mode), expected, rtol=1e-4, atol=1e-4)
    assert_close(fg.jit(lambda a, v: function(a, v, mode))(a, v), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(10, 3), (40, 35)])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_derivatives(name: str, sizes: tuple):
    check_grads(getattr(jnp, name), (random(sizes[0]), random(sizes[1], seed=1)), order=2)


def test_a_long_kernel_takes_one_product():
    jaxpr = fg.make_jaxpr(jnp.convolve)(random(1000), random(300)).jaxpr
    assert len(jaxpr.eqns) < 15 and [e.primitive.name for e in jaxpr.eqns].count("conv_general_dilated") == 1


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_, np.float16, np.float32, np.complex64])
@pytest.mark.parametrize("preferred", [None, np.float32])
def test_result_types_are_jaxs(dtype: type, preferred: type | None):
    jax_numpy = pytest.importorskip("jax.numpy")
    if preferred is not None and dtype is np.complex64:
        preferred = np.complex64
    a, v = np.ones(5, dtype), np.ones(3, dtype)
    results = [m.convolve(a, v, preferred_element_type=preferred) for m in (jnp, jax_numpy)]
    assert_close(results[0], np.asarray(results[1]))
