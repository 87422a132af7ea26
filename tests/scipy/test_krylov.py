"""scipy.sparse.linalg: solutions of linear systems, of matrices, functions and pytrees, with derivatives."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.sparse.linalg as oracle

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.scipy.sparse.linalg import bicgstab, cg, gmres
from funcgrad.testing import assert_close, check_grads

RNG = np.random.default_rng(0)
N = 12
REAL = RNG.normal(size=(N, N)) / 4 + 2 * np.eye(N)
COMPLEX = REAL + 0.3j * RNG.normal(size=(N, N))
B = RNG.normal(size=N)
SOLVERS = {
    "cg": cg,
    "bicgstab": bicgstab,
    "gmres": gmres,
    "incremental": lambda *a, **k: gmres(*a, solve_method="incremental", **k),
}


def matrix_for(name: str, a):
    return a @ a.conj().T if name == "cg" else a


def close(actual, expected, tolerance: float = 1e-8) -> None:
    assert_close(actual, np.asarray(expected), rtol=tolerance, atol=tolerance, check_dtypes=False)


@pytest.mark.parametrize("name", SOLVERS)
def test_solutions(name: str):
    solver = SOLVERS[name]
    with enable_x64():
        for a, b, options in (
            (REAL, B, {"x0": np.ones(N)}),
            (COMPLEX, B + 1j * B[::-1], {"M": np.diag(1 / np.diag(REAL))}),
            (REAL.astype("float32"), B.astype("float32"), {"M": lambda x: x / 3}),
        ):
            a = matrix_for(name, a)
            x, _ = solver(a, b, tol=1e-6 if a.dtype == "float32" else 1e-10, **options)
            assert x.dtype == a.dtype
            close(x, np.linalg.solve(a, b), 1e-4 if a.dtype == "float32" else 1e-8)


@pytest.mark.parametrize("name", SOLVERS)
def test_vectors_are_pytrees(name: str):
    coupling = 0.1 if name == "cg" else 0.4  # 0.1 makes the operator symmetric

    def operator(x):
        return {"u": 3 * x["u"] + 0.1 * x["v"][0].sum(), "v": [2 * x["v"][0] + coupling * x["u"].sum()]}

    b = {"u": jnp.ones((2, 2)), "v": [jnp.arange(3.0)]}
    x, _ = SOLVERS[name](operator, b, tol=1e-6)
    assert_close(operator(x), b, rtol=1e-4, atol=1e-4)
    assert_close(fg.grad(lambda b: operator(SOLVERS[name](operator, b)[0])["u"].sum())(b)["u"], b["u"], rtol=1e-3)


def test_iterations_are_scipys():
    """After a few iterations, the approximations are equal too."""
    a, p = matrix_for("cg", REAL), np.diag(1 / np.diag(REAL))
    with enable_x64():
        for k in (1, 5):
            close(cg(a, B, maxiter=k, tol=0, M=p @ p)[0], oracle.cg(a, B, maxiter=k, rtol=0, M=p @ p)[0])
            close(bicgstab(REAL, B, maxiter=k, tol=0, M=p)[0], oracle.bicgstab(REAL, B, maxiter=k, rtol=0, M=p)[0])
        close(gmres(REAL, B, restart=5, maxiter=1, tol=0)[0], oracle.gmres(REAL, B, restart=5, maxiter=1, rtol=0)[0])
        close(cg(a, B, tol=1e-2)[0], oracle.cg(a, B, rtol=1e-2)[0])
        x = gmres(REAL, B, tol=1e-2, solve_method="incremental")[0]
        assert 1e-5 < np.linalg.norm(REAL @ np.asarray(x) - B) / np.linalg.norm(B) <= 1e-2


@pytest.mark.parametrize("name", ["cg", "bicgstab", "gmres"])
def test_derivatives_are_those_of_the_solution(name: str):
    def solve(a, b):
        return SOLVERS[name](a @ a.conj().T if name == "cg" else a, b, tol=1e-12)[0]

    def exact(a, b):
        return jnp.linalg.solve(a @ a.conj().T if name == "cg" else a, b)

    def derivatives(f, a, b, z):
        pull = fg.vjp(f, z, b + 0j)[1](b + 1j * b[::-1])
        return f(a, b), fg.jacrev(f, (0, 1))(a, b), fg.jvp(f, (a, b), (a[::-1], b)), pull

    with enable_x64():
        a, b = jnp.asarray(REAL[:4, :4]), jnp.asarray(B[:4])
        z = a + 0.2j * a[::-1]
        found, expected = fg.jit(functools.partial(derivatives, solve))(a, b, z), derivatives(exact, a, b, z)
        assert_close(found, expected, rtol=1e-8, atol=1e-8)
        if name == "cg":
            check_grads(lambda b: solve(a, b) ** 2, (b,), order=2)
            assert_close(fg.vmap(solve, (0, None))(jnp.stack([a, a.T]), b)[1], exact(a.T, b), rtol=1e-8)


def test_transposed_systems_have_transposed_preconditioners():
    """With the inverse matrix as preconditioner, one iteration is enough, in reverse too."""
    a, inverse = jnp.asarray(REAL), jnp.asarray(np.linalg.inv(REAL))
    for solver in (bicgstab, gmres):
        gradient = fg.grad(
            lambda b, s=solver: s(a, b, M=inverse, maxiter=1, **({"restart": 1} if s is gmres else {}))[0].sum()
        )
        assert_close(gradient(jnp.asarray(B)), np.linalg.inv(REAL).sum(0).astype("float32"), rtol=1e-3, atol=1e-4)


def test_singular_systems_and_small_ones():
    identity = np.eye(3, dtype="float32")
    for name in ("cg", "bicgstab", "gmres"):
        x, y = (SOLVERS[name](2 * identity, b)[0] for b in (jnp.zeros(3), jnp.array([2, 4, 6])))
        assert_close([x, y], [np.zeros(3, "float32"), np.array([1, 2, 3], "float32")])
    x, info = gmres(np.zeros((3, 3), "float32"), jnp.ones(3), maxiter=2)
    assert_close(x, np.zeros(3, "float32"))
    assert info == 0


@pytest.mark.oracle
def test_defaults_are_those_of_jax(jax):
    theirs = jax.scipy.sparse.linalg
    a, b = matrix_for("cg", REAL).astype("float32"), B.astype("float32")
    assert_close(cg(a, b)[0], np.asarray(theirs.cg(a, b)[0]), rtol=1e-4, atol=1e-4)
    assert_close(bicgstab(a, b)[0], np.asarray(theirs.bicgstab(a, b)[0]), rtol=1e-3, atol=1e-3)
    ours, expected = gmres(a, b), theirs.gmres(a, b)
    assert_close(ours[0], np.asarray(expected[0]), rtol=1e-3, atol=1e-3)
    assert int(ours[1]) == int(expected[1]) == 0
    assert cg(a, b)[1] is None


@pytest.mark.parametrize("solver", [cg, gmres])
def test_errors_explain_the_cause(solver):
    a = np.eye(3)
    for call, error in (
        (lambda: solver(a[:2], B[:3]), ShapeError),
        (lambda: solver(3, B[:3]), ArgumentError),
        (lambda: solver(a, B[:3], M=a[0]), ShapeError),
        (lambda: solver(a, B[:3], x0=B[:2]), ShapeError),
        (lambda: solver(a, B[:3], x0=[B[:3]]), ArgumentError),
        (lambda: solver(lambda x: x[:2], B[:3]), ShapeError),
    ):
        with pytest.raises(error, match="fix: "):
            call()
    with pytest.raises(ArgumentError, match="solve_method='new'"):
        gmres(a, B[:3], solve_method="new")
