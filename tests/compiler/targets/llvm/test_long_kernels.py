"""Kernels of many equations: math functions that are called often, and where a long chain is divided."""

from __future__ import annotations

import re

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.compiler import pipeline
from funcgrad.compiler.targets.llvm import kernels, toolchain
from funcgrad.compiler.targets.llvm.vector_math import sharing


def repeated(fun, n):
    """x → fun(x)·0.9 + 0.3, n times."""

    def program(x):
        for _ in range(n):
            x = fun(x) * 0.9 + 0.3
        return x

    return program


FUNCTIONS = {"sin": jnp.sin, "tanh": jnp.tanh, "atan2": lambda x: jnp.arctan2(x, x + 1)}
DTYPES = {
    "float32": lambda fun, x: fun(x),
    "float16": lambda fun, x: fun(x.astype("float16")).astype("float32"),
    "float32 and float64": lambda fun, x: fun(x).astype("float64"),
    "float64": lambda fun, x: fun(x.astype("float64")),
}


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_are_called_often_are_calls_of_vectors(name, dtypes, monkeypatch):
    program = repeated(FUNCTIONS[name], 7)
    x = np.linspace(-2, 2, 1003, dtype=np.float32)
    with fg.enable_x64(True):
        compiled = fg.jit(lambda x: DTYPES[dtypes](program, x))
        (kernel,) = pipeline.kernels_of(compiled.trace(x).jaxpr)
        optimized = str(toolchain._optimized(toolchain._parsed(kernels.llvm_text(kernel))))
        called = re.findall(rf"call <\d+ x \w+> @fg\.{name}\.f\d\d\.shared", optimized)
        assert len(called) == 7
        shared = np.asarray(compiled(x))
        monkeypatch.setattr(sharing, "_MOST_INLINED", 1000)
        monkeypatch.setattr(kernels, "_loaded", {})
        monkeypatch.setattr(kernels.cache, "get", lambda key: None)
        inlined = np.asarray(fg.jit(lambda x: DTYPES[dtypes](program, x))(x))
    np.testing.assert_array_equal(shared, inlined)


def test_a_long_chain_of_folds_is_divided_where_it_repeats():
    def softmax(x):
        e = jnp.exp(x - jnp.max(x, axis=1, keepdims=True))
        return e / jnp.sum(e, axis=1, keepdims=True)

    def program(x):
        for _ in range(60):
            x = softmax(x)
        return x

    x = np.linspace(-2, 2, 64, dtype=np.float32).reshape(8, 8)
    assert len(pipeline.kernels_of(fg.jit(program).trace(x).jaxpr)) == 1
    np.testing.assert_allclose(fg.jit(program)(x), program(jnp.asarray(x)), rtol=1e-6)


def test_a_long_chain_of_functions_is_divided_where_it_repeats():
    program = repeated(jnp.sin, 51 * 4)  # 51 times make the work of one kernel
    assert len(pipeline.kernels_of(fg.jit(program).trace(jnp.ones(8)).jaxpr)) == 1
