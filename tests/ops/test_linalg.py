"""The Cholesky factorization, natively and by NumPy, and triangular systems."""

from __future__ import annotations

import dataclasses
import pickle
import threading
import time

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline, targets
from funcgrad.compiler.program.instructions import LibraryCall
from funcgrad.config import enable_x64
from funcgrad.errors import DTypeError, NotDifferentiableError, ShapeError
from funcgrad.testing import assert_close

RNG = np.random.default_rng(0)
X = np.ones(3, np.float32)


def positive(*shape: int, dtype=np.float32) -> np.ndarray:
    """Positive definite matrices."""
    root = RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if np.dtype(dtype).kind == "c" else 0)
    return (root @ np.swapaxes(root.conj(), -1, -2) + shape[-1] * np.eye(shape[-1])).astype(dtype)


@pytest.mark.parametrize("shape", [(3, 3), (4, 5, 5), (2, 3, 1, 1), (130, 130), (2, 0, 0), (0, 3, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("target", ["llvm", "numba"])
def test_factors_are_numpys(target: str, dtype: str, shape: tuple[int, ...]):
    with enable_x64():
        a = positive(*shape, dtype=dtype)
        factor = fg.jit(jnp.linalg.cholesky, target=target)(a)
        assert_close(factor, np.linalg.cholesky(a), rtol=1e-5 if factor.dtype.itemsize < 16 else 1e-12, atol=1e-5)
        assert_close(np.triu(factor, 1), np.zeros_like(a))
        assert_close(jnp.linalg.cholesky(a, upper=True), np.swapaxes(np.conj(jnp.linalg.cholesky(a)), -1, -2))


@pytest.mark.parametrize("mode", ["eager", "llvm", "numba"])
def test_indefinite_matrices_have_nan_factors(mode: str):
    a = np.stack([np.eye(3), -np.eye(3), np.ones((3, 3)) - 2 * np.eye(3), 4 * np.eye(3)]).astype(np.float32)
    f = jnp.linalg.cholesky if mode == "eager" else fg.jit(jnp.linalg.cholesky, target=mode)
    nowhere = np.where(np.tri(3, dtype=bool), np.float32(np.nan), np.float32(0))
    assert_close(f(a), np.stack([np.eye(3, dtype=np.float32), nowhere, nowhere, 2 * np.eye(3, dtype=np.float32)]))


def test_only_the_lower_triangle_is_read_without_symmetrization():
    a = positive(4, 4)
    spoiled = np.tril(a) + np.triu(np.full_like(a, 7), 1)
    plain = lambda x: lax.linalg.cholesky(x, symmetrize_input=False)  # noqa: E731
    assert_close(fg.jit(plain)(spoiled), plain(a), rtol=1e-6)
    assert_close(plain(spoiled), plain(a))
    assert_close(lax.linalg.cholesky(spoiled), lax.linalg.cholesky((spoiled + spoiled.T) / 2))


def test_the_routine_is_named_in_the_plan_and_falls_back_to_numpy():
    a = positive(6, 4, 4)
    f = lambda x: lax.linalg.cholesky(x, symmetrize_input=False)  # noqa: E731
    native, other = fg.jit(f).lower(a), fg.jit(f, target="numba").lower(a)
    assert "library: cholesky" in native.as_text("groups") and "potrf(" in native.as_text("program")
    assert "host cholesky(" in other.as_text("program")
    assert native.cost_analysis()["flops"] == 6 * 4**3 // 3


def test_library_calls_are_data_and_targets_refuse_unknown_routines():
    target = targets.find("llvm")
    plan = pipeline.planned(fg.make_jaxpr(lax.linalg.cholesky_p.bind)(positive(2, 3, 3)), target)
    assert pickle.loads(pickle.dumps(plan)).routine == plan.routine
    (instruction,) = plan.routine.instructions
    call = instruction.callee
    assert isinstance(call, LibraryCall) and call.routine == "potrf"
    matrix = ((3, 3), np.dtype(np.float32))
    assert dict(call.arguments) == {
        "dtype": np.float32,
        "batch": 2,
        "operands": (matrix, matrix),
        "n_results": 1,
        "threads": target.threads(),
    }
    other = dataclasses.replace(call, routine="unknown")
    assert target.division(other) is None
    routine = plan.routine._replace(instructions=(instruction._replace(callee=other),))
    with pytest.raises(TypeError, match="the llvm target has no unknown"):
        target.link(dataclasses.replace(plan, routine=routine))


def test_the_runner_lets_other_threads_work():
    a = positive(1500, 1500)
    f = fg.jit(lambda x: lax.linalg.cholesky(x, symmetrize_input=False))
    f(a)
    counted = 0
    running = threading.Event()
    worker = threading.Thread(target=lambda: (running.set(), [np.asarray(f(a)) for _ in range(5)]))
    worker.start()
    running.wait()
    while worker.is_alive():
        time.sleep(0.001)
        counted += 1
    assert counted > 5  # a call that held the interpreter's lock would end before this thread goes on


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_factors_and_gradients_are_jaxs(dtype: str):
    import jax
    import jax.numpy as jaxnp

    a, weights = positive(2, 4, 4, dtype=dtype), RNG.normal(size=(2, 4, 4)).astype(np.float32)

    def loss(np_):
        return lambda a: (abs(np_.linalg.cholesky(a) * weights) ** 2).sum()

    assert_close(fg.jit(jnp.linalg.cholesky)(a), np.asarray(jaxnp.linalg.cholesky(a)), rtol=1e-5, atol=1e-5)
    assert_close(fg.jit(fg.grad(loss(jnp)))(a), np.asarray(jax.grad(loss(jaxnp))(a)), rtol=1e-4, atol=1e-4)
    b = weights.astype(dtype)
    for left_side in (False, True):
        ours = lax.linalg.triangular_solve(a, b, left_side=left_side, lower=True, transpose_a=True)
        theirs = jax.lax.linalg.triangular_solve(a, b, left_side=left_side, lower=True, transpose_a=True)
        assert_close(ours, np.asarray(theirs), rtol=1e-5, atol=1e-5)


def test_a_vector_is_one_right_hand_side():
    a, b = np.tril(positive(4, 4)), RNG.normal(size=4).astype(np.float32)
    assert_close(lax.linalg.triangular_solve(a, b, left_side=True, lower=True), np.linalg.solve(a, b), rtol=1e-5)
    assert_close(lax.linalg.triangular_solve(a, b, lower=True), np.linalg.solve(a.T, b), rtol=1e-5)


def test_errors_explain_the_cause():
    with pytest.raises(ShapeError, match=r"cholesky: .*f32\[2,3\].*square"):
        lax.linalg.cholesky(np.ones((2, 3), np.float32))
    with pytest.raises(DTypeError, match=r"cholesky: operand has type i32\[2,2\]"):
        lax.linalg.cholesky(np.ones((2, 2), np.int32), symmetrize_input=False)
    with pytest.raises(ShapeError, match=r"triangular_solve: matrices of shape \(2, 2\) and right"):
        lax.linalg.triangular_solve(np.eye(2, dtype=np.float32), np.ones((2, 3), np.float32))
    solve = lambda a: lax.linalg.triangular_solve(a, np.ones((2, 2), np.float32))  # noqa: E731
    with pytest.raises(NotDifferentiableError, match="the matrix depends on its arguments"):
        fg.linear_transpose(solve, np.eye(2, dtype=np.float32))(np.ones((2, 2), np.float32))
