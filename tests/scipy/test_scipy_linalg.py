"""scipy.linalg: values are SciPy's; derivatives and errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as oracle

import funcgrad as fg
import funcgrad.numpy as jnp
import funcgrad.scipy.linalg as linalg
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.testing import assert_close, check_grads, check_vmap

RNG = np.random.default_rng(0)
A = RNG.normal(size=(5, 5)) + 3 * np.eye(5)
B, V, TALL = RNG.normal(size=(5, 2)), RNG.normal(size=5), RNG.normal(size=(6, 3))
POSITIVE = A @ A.T
C = RNG.normal(size=(3, 2))


def same(actual, expected) -> None:
    actual, expected = fg.tree.leaves(actual), fg.tree.leaves(expected)
    assert len(actual) == len(expected)
    for x, y in zip(actual, expected, strict=True):
        assert_close(x, np.asarray(y), rtol=1e-8, atol=1e-9, check_dtypes=False)


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        *(("cholesky", (POSITIVE,), {"lower": lower}) for lower in (False, True)),
        *(("lu", (a,), {"permute_l": p}) for a in (A, TALL, TALL.T) for p in (False, True)),
        *(("qr", (TALL,), {"mode": m, "pivoting": p}) for m in ("full", "r", "economic") for p in (False, True)),
        *(("qr_multiply", (TALL, c), {"mode": m}) for c, m in ((C, "left"), (TALL.T, "right"), (V[:3], "left"))),
        ("svd", (TALL,), {"compute_uv": False}),
        ("eigh", (POSITIVE,), {"eigvals_only": True}),
        ("eigh_tridiagonal", (V, V[1:]), {"eigvals_only": True}),
        ("eigh_tridiagonal", (V, V[1:]), {"eigvals_only": True, "select": "i", "select_range": (1, 2)}),
        *(("polar", (a,), {"side": side}) for a in (TALL, TALL.T) for side in ("left", "right")),
        ("schur", (A,), {}),
        *(("hessenberg", (A,), {"calc_q": q}) for q in (False, True)),
        ("solve", (POSITIVE, B), {"assume_a": "pos"}),
        ("solve", (A, V), {}),
        *(("solve_triangular", (A, b), {"trans": t, "lower": t == 1}) for b in (B, V) for t in (0, 1, "C")),
        ("solve_sylvester", (A, POSITIVE[:2, :2], B), {}),
        ("inv", (A,), {}),
        ("det", (A,), {}),
        *(("expm", (scale * A,), {}) for scale in (1e-4, 0.03, 0.1, 1, 6)),
        ("expm", (np.stack([A, A.T]),), {}),
        ("expm_frechet", (A, POSITIVE), {}),
        ("sqrtm", (POSITIVE,), {}),
        ("sqrtm", (A,), {}),
        ("block_diag", (1, [[2, 3]], TALL), {}),
        *((name, args, {}) for name in ("toeplitz", "hankel") for args in ((V,), (V, V[:3]))),
        *((name, (V,), {}) for name in ("circulant", "companion", "fiedler")),
        *(("fiedler_companion", (np.arange(2.0, 4 + n),), {}) for n in range(7)),
        *(("convolution_matrix", (a, n, m), {}) for a, n in ((V, 3), (V[:3], 6)) for m in ("full", "same", "valid")),
        ("leslie", (V, V[1:]), {}),
        *((name, (5,), {}) for name in ("hilbert", "invhilbert", "helmert", "dft")),
        ("helmert", (4,), {"full": True}),
        ("hadamard", (8,), {}),
        *((name, (5, kind), {}) for name in ("pascal", "invpascal") for kind in ("symmetric", "lower", "upper")),
        *(("dft", (5, scale), {}) for scale in ("sqrtn", "n")),
    ],
)
def test_values_are_scipys(name: str, args, options):
    with enable_x64():
        same(getattr(linalg, name)(*args, **options), getattr(oracle, name)(*args, **options))


def test_factors_solve_systems():
    with enable_x64():
        for lower in (False, True):
            same(linalg.cho_solve(linalg.cho_factor(POSITIVE, lower), B), np.linalg.solve(POSITIVE, B))
        for trans in (0, 1):
            factors = linalg.lu_factor(A)
            same(linalg.lu_solve(factors, V, trans), np.linalg.solve(A.T if trans else A, V))
        check_vmap(linalg.lu_solve, (linalg.lu_factor(np.stack([A, A.T])), B), (0, None))


def test_functions_by_the_schur_form():
    rotation = np.array([[0, 1, 2], [-1, 0, 1], [0, 0, 1.0]])
    with enable_x64():
        for form in (linalg.schur(A, "complex"), linalg.rsf2csf(*oracle.schur(rotation))):
            t, z = map(np.asarray, form)
            assert np.abs(np.tril(t, -1)).max() < 1e-12
        same(z @ t @ z.conj().T, rotation + 0j)
        same(linalg.funm(A, jnp.exp).real, oracle.expm(A))
        value, error = linalg.funm(A, jnp.exp, disp=False)
        assert 0 < error < 1e-9
        same(linalg.expm(np.triu(A), upper_triangular=True), oracle.expm(np.triu(A)))
        assert np.isnan(linalg.expm(1e9 * A)).all()


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (linalg.expm, (A / 3,)),
        (linalg.polar, (TALL,)),
        (lambda a: linalg.lu(a)[1:], (A,)),
        (lambda a: linalg.cho_solve(linalg.cho_factor(a @ a.T + jnp.eye(5)), B), (A,)),
        (lambda d, e: linalg.eigh_tridiagonal(d, e, eigvals_only=True), (3 * np.arange(5.0), V[1:])),
        (linalg.toeplitz, (V, V)),
        (lambda a, b, c: linalg.solve_sylvester(a, b, c), (A, POSITIVE[:2, :2], B)),
    ],
)
def test_derivatives(f, args):
    with enable_x64():
        check_grads(f, args, order=2, atol=1e-4, rtol=1e-4)


def test_compiled_functions():
    for f in (linalg.expm, linalg.sqrtm, lambda a: linalg.funm(a, jnp.exp), lambda a: linalg.lu(a)[0]):
        a = A.astype(np.float32) / 3
        assert_close(fg.jit(f)(a), np.asarray(f(a)), rtol=1e-3, atol=1e-3)


def test_errors_explain_the_cause():
    for call in (
        lambda: linalg.qr(A, mode="reduced"),
        lambda: linalg.schur(A, "quaternion"),
        lambda: linalg.polar(A, "top"),
        lambda: linalg.eigh_tridiagonal(V, V[1:]),
        lambda: linalg.eigh(A, B),
        lambda: linalg.solve(A, V, assume_a="diagonal"),
        lambda: linalg.solve_triangular(A, V, 3),
        lambda: linalg.hadamard(6),
        lambda: linalg.pascal(3, "square"),
        lambda: linalg.dft(3, "half"),
        lambda: linalg.convolution_matrix(V, 0),
        lambda: linalg.qr_multiply(A, V, "top"),
    ):
        with pytest.raises(ArgumentError):
            call()
    for call in (
        lambda: linalg.expm(TALL),
        lambda: linalg.expm_frechet(A, B),
        lambda: linalg.solve_triangular(A, B.T),
        lambda: linalg.solve_sylvester(A, A, B),
        lambda: linalg.eigh_tridiagonal(V, V, eigvals_only=True),
        lambda: linalg.leslie(V, V),
        lambda: linalg.companion(1.0),
        lambda: linalg.qr_multiply(A, B),
        lambda: linalg.rsf2csf(A, B),
    ):
        with pytest.raises(ShapeError):
            call()
