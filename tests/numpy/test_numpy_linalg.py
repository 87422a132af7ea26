"""numpy.linalg and lax.linalg: their laws, derivatives, batches and errors; values are NumPy's and JAX's."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import scipy.linalg

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DTypeError, MissingRuleError, NotDifferentiableError, ShapeError
from funcgrad.testing import assert_close, check_grads, check_vmap

RNG = np.random.default_rng(0)
DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(5, 5), (3, 4, 4), (2, 6, 3), (2, 3, 6), (1, 1), (0, 0), (2, 0, 3), (0, 4, 4)]
SQUARE = [s for s in SHAPES if s[-1] == s[-2]]
MODES = ["eager", "llvm", "numba"]


def random(*shape: int, dtype="float64") -> np.ndarray:
    x = RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if np.dtype(dtype).kind == "c" else 0)
    return x.astype(dtype)


def regular(*shape: int, dtype="float64") -> np.ndarray:
    """Square matrices far from singular ones."""
    return (random(*shape, dtype=dtype) + 2 * shape[-1] * np.eye(shape[-1])).astype(dtype)


def adjoint(x) -> np.ndarray:
    return np.swapaxes(np.conj(np.asarray(x)), -1, -2)


def apply(mode: str, f, *args):
    """Apply a function eagerly, or compiled for a target."""
    with enable_x64():
        return fg.tree.map(np.asarray, (f if mode == "eager" else fg.jit(f, target=mode))(*args))


def near(actual, expected, factor: float = 200) -> None:
    """Assert that two arrays of a factorization are equal up to rounding errors."""
    dtype = np.asarray(actual).dtype
    eps = np.finfo(dtype).eps * factor * max(1, float(np.max(np.abs(expected), initial=0)))
    assert_close(actual, np.asarray(expected, dtype), rtol=0, atol=eps)


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_the_factors_are_the_matrix(dtype: str, shape: tuple[int, ...], mode: str):
    a = random(*shape, dtype=dtype)
    m, n = shape[-2:]
    k = min(m, n)
    lu, pivots, permutation = apply(mode, lax.linalg.lu, a)
    lower = np.tril(lu[..., :, :k], -1) + np.eye(m, k, dtype=dtype)
    near(lower @ np.triu(lu[..., :k, :]), np.take_along_axis(a, permutation[..., None], -2))
    assert_close(lax.linalg.lu_pivots_to_permutation(pivots, m), permutation)
    for full in (False, True):
        options = {"full_matrices": full}
        q, r, p = apply(mode, functools.partial(lax.linalg.qr, pivoting=True, **options), a)
        near(q @ r, np.take_along_axis(a, p[..., None, :], -1))
        q, r = apply(mode, functools.partial(lax.linalg.qr, **options), a)
        near(q @ r, a)
        near(adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], q.shape[-1], q.shape[-1])))
        near(np.tril(r, -1), np.zeros_like(r))
        u, s, vh = apply(mode, functools.partial(lax.linalg.svd, **options), a)
        near(u[..., :k] * s[..., None, :] @ vh[..., :k, :], a)
        near(vh @ adjoint(vh), np.broadcast_to(np.eye(vh.shape[-2]), (*shape[:-2], vh.shape[-2], vh.shape[-2])))
    assert (np.diff(s) <= 0).all()
    near(apply(mode, jnp.linalg.svdvals, a), s)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SQUARE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_spectral_forms(dtype: str, shape: tuple[int, ...], mode: str):
    a = random(*shape, dtype=dtype)
    h = a + adjoint(a)
    for lower in (False, True):
        triangle = np.tril(h) if lower else np.triu(h)
        v, w = apply(mode, functools.partial(lax.linalg.eigh, lower=lower, symmetrize_input=False), triangle)
        near(v * w[..., None, :] @ adjoint(v), h)
    near(apply(mode, jnp.linalg.eigvalsh, h), w)
    w, vl, vr = apply(mode, lax.linalg.eig, a)
    near(a @ vr, vr * w[..., None, :])
    near(adjoint(vl) @ a, w[..., :, None] * adjoint(vl))
    t, q = apply(mode, lax.linalg.schur, a)
    near(q @ t @ adjoint(q), a)
    near(np.tril(t, -1 if np.dtype(dtype).kind == "c" else -2), np.zeros_like(t))
    if shape[-1] and len(shape) == 2:
        form, taus = apply(mode, lax.linalg.hessenberg, a)
        near(np.triu(form, -1), np.triu(scipy.linalg.hessenberg(a), -1))
        assert taus.shape == (shape[-1] - 1,)
        _, d, e, _ = apply(mode, lax.linalg.tridiagonal, h)
        near(scipy.linalg.eigvalsh_tridiagonal(d, e), np.linalg.eigvalsh(h))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_reflectors(dtype: str, mode: str):
    a, c = random(2, 6, 4, dtype=dtype), random(2, 6, 3, dtype=dtype)
    reflectors, taus = apply(mode, lax.linalg.geqrf, a)
    q = apply(mode, lax.linalg.householder_product, reflectors, taus)
    near(q @ np.triu(reflectors[..., :4, :]), a)
    full = np.concatenate([q, apply(mode, lax.linalg.qr, a)[0][..., 4:]], -1)
    for left in (False, True):
        for transpose in (False, True):
            f = lambda *xs: lax.linalg.ormqr(*xs, left=left, transpose=transpose)  # noqa: E731, B023
            op, x = adjoint(full) if transpose else full, c if left else adjoint(c)
            near(apply(mode, f, reflectors, taus, x), op @ x if left else x @ op)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_systems(dtype: str, mode: str):
    a, b, v = regular(3, 5, 5, dtype=dtype), random(3, 5, 2, dtype=dtype), random(5, dtype=dtype)
    near(apply(mode, jnp.linalg.solve, a, b), np.linalg.solve(a, b))
    near(apply(mode, jnp.linalg.solve, a, b[0]), np.linalg.solve(a, b[0]))
    near(apply(mode, jnp.linalg.solve, a, v), np.linalg.solve(a, v[:, None])[..., 0])
    near(apply(mode, lambda x: jnp.linalg.inv(jnp.linalg.inv(x)), a), a)
    lu, _, permutation = apply("eager", lax.linalg.lu, a)
    for trans, op in enumerate((a, np.swapaxes(a, -1, -2), adjoint(a))):
        f = lambda *xs: lax.linalg.lu_solve(*xs, trans=trans)  # noqa: E731, B023
        near(apply(mode, f, lu, permutation, b), np.linalg.solve(op, b))
    for left in (False, True):
        for lower in (False, True):
            for transpose, conjugate in ((False, False), (True, False), (True, True), (False, True)):
                options = {"left_side": left, "lower": lower, "transpose_a": transpose, "conjugate_a": conjugate}
                triangle = np.tril(a) if lower else np.triu(a)
                op = np.swapaxes(triangle, -1, -2) if transpose else triangle
                op = np.conj(op) if conjugate else op
                right = b if left else np.swapaxes(b, -1, -2)
                x = apply(mode, lambda a, b: lax.linalg.triangular_solve(a, b, **options), a, right)  # noqa: B023
                near(op @ x if left else x @ op, right)
    d, e = a[..., 0] + 10, random(3, 5, dtype=dtype)
    x = apply(mode, lax.linalg.tridiagonal_solve, e, d, e, b)
    matrix = np.stack([np.diag(d[i]) + np.diag(e[i, 1:], -1) + np.diag(e[i, :-1], 1) for i in range(3)])
    near(matrix @ x, b)
    r, w = np.triu(a.real), np.broadcast_to(v.real, (3, 5))
    out = apply(mode, lax.linalg.cholesky_update, r, w)
    near(np.swapaxes(out, -1, -2) @ out, np.swapaxes(r, -1, -2) @ r + w[..., :, None] * w[..., None, :])


def test_compiled_programs_call_lapack():
    a, b = regular(2, 3, 3, dtype="float32"), random(2, 3, 2, dtype="float32")
    calls = {
        "getrf(": lax.linalg.lu,
        "getrs(": lambda a: jnp.linalg.solve(a, b),
        "qr(": jnp.linalg.qr,
        "syevd(": jnp.linalg.eigvalsh,
        "gesdd(": jnp.linalg.svdvals,
        "geev(": jnp.linalg.eigvals,
        "gees(": lax.linalg.schur,
        "gehrd(": lax.linalg.hessenberg,
        "sytrd(": lax.linalg.tridiagonal,
        "trsm(": lambda a: lax.linalg.triangular_solve(a, b, left_side=True),
        "gtsv(": lambda a: lax.linalg.tridiagonal_solve(a[..., 0], a[..., 1], a[..., 2], b),
    }
    for name, f in calls.items():
        assert f" {name}" in fg.jit(f).lower(a).as_text("program"), name


@pytest.mark.parametrize("mode", MODES)
def test_failures_are_nan_for_their_matrix_alone(mode: str):
    a = np.stack([np.eye(3), np.full((3, 3), np.nan), 2 * np.eye(3), np.diag([1, np.inf, 1])]).astype(np.float32)
    fails = np.array([False, True, False, True])
    for f in (lax.linalg.lu, jnp.linalg.qr, jnp.linalg.svd, jnp.linalg.eigh, jnp.linalg.eig, lax.linalg.schur):
        for out in fg.tree.leaves(apply(mode, f, a)):
            if out.dtype.kind in "fc":
                assert (np.isnan(out).reshape(4, -1).any(1) == fails).all(), f
    assert not np.isfinite(apply(mode, jnp.linalg.inv, np.zeros((2, 2), np.float32))).any()
    singular = lax.linalg.tridiagonal_solve
    assert np.isnan(apply(mode, singular, *[np.zeros(2, np.float32)] * 3, np.ones((2, 1), np.float32))).all()


def test_ill_conditioned_systems_are_solved_as_by_numpy():
    a = scipy.linalg.hilbert(8)
    x = apply("llvm", jnp.linalg.solve, a, a @ np.ones(8))
    assert np.abs(a @ x - a @ np.ones(8)).max() < 1e-14
    assert_close(apply("llvm", jnp.linalg.cond, a), np.linalg.cond(a), rtol=1e-6)
    assert apply("llvm", jnp.linalg.matrix_rank, np.outer(a[0], a[1])) == 1


# ---------------------------------------------------------------- derivatives

A, B, TALL, WIDE = regular(4, 4), random(4, 2), random(5, 3), random(3, 5)
SYMMETRIC, POSITIVE = A + A.T, A @ A.T
COMPLEX = regular(3, 3, dtype="complex128")


EIGENVALUES = functools.partial(
    lax.linalg.eig,
    compute_left_eigenvectors=False,
    compute_right_eigenvectors=False,
    enable_eigvec_derivs=True,
)


def gauge_free(x):
    """What of complex vectors does not depend on their phases."""
    return [jnp.abs(x[0]), x[1]] if len(x) == 2 else [jnp.abs(x[0]), x[1], jnp.abs(x[2])]


@pytest.mark.parametrize(
    ("f", "args"),
    {
        "solve": (jnp.linalg.solve, (A, B)),
        "inv": (jnp.linalg.inv, (A,)),
        "complex inv": (jnp.linalg.inv, (COMPLEX,)),
        "det": (jnp.linalg.det, (A,)),
        "det of 3": (jnp.linalg.det, (A[:3, :3],)),
        "complex det": (jnp.linalg.det, (regular(4, 4, dtype="complex128"),)),
        "slogdet": (lambda a: jnp.linalg.slogdet(a)[1], (A,)),
        "complex slogdet": (jnp.linalg.slogdet, (COMPLEX,)),
        "slogdet by qr": (lambda a: jnp.linalg.slogdet(a, method="qr")[1], (A,)),
        "pinv": (jnp.linalg.pinv, (TALL,)),
        "wide pinv": (jnp.linalg.pinv, (WIDE,)),
        "lstsq": (lambda a, b: jnp.linalg.lstsq(a, b)[0], (TALL, random(5))),
        "cholesky": (jnp.linalg.cholesky, (POSITIVE,)),
        "qr": (jnp.linalg.qr, (TALL,)),
        "wide qr": (jnp.linalg.qr, (WIDE,)),
        "complex qr": (jnp.linalg.qr, (random(4, 3, dtype="complex128"),)),
        "complete qr": (lambda a: jnp.linalg.qr(a, "complete"), (TALL,)),
        "pivoted qr": (lambda a: lax.linalg.qr(a, pivoting=True)[:2], (A,)),
        "svd": (lambda a: jnp.linalg.svd(a, full_matrices=False), (TALL,)),
        "wide svd": (lambda a: jnp.linalg.svd(a, full_matrices=False), (WIDE,)),
        "complex svd": (lambda a: gauge_free(jnp.linalg.svd(a)), (COMPLEX,)),
        "nuclear norm": (lambda a: jnp.linalg.norm(a, "nuc"), (TALL,)),
        "eigh": (jnp.linalg.eigh, (SYMMETRIC,)),
        "complex eigh": (lambda a: gauge_free(lax.linalg.eigh(a)), (COMPLEX,)),
        "eigvals": (EIGENVALUES, (np.diag([1.0, 2, 3]) + 0.3 * random(3, 3),)),
        "matrix_power": (lambda a: jnp.linalg.matrix_power(a, -3), (A,)),
    }.values(),
    ids=lambda x: "",
)
def test_derivatives_to_second_order(f, args):
    with enable_x64():
        check_grads(f, args, order=2, atol=1e-4, rtol=1e-4)


def test_the_derivative_of_a_determinant_that_is_zero():
    with enable_x64():
        check_grads(jnp.linalg.det, (np.diag([3.0, 1, 2, 0]),), order=1)


def test_batches_equal_loops():
    with enable_x64():
        check_vmap(jnp.linalg.solve, (regular(3, 4, 4), random(3, 4)), (0, 0))
        check_vmap(jnp.linalg.solve, (regular(4, 4), random(4, 3)), (None, 1))
        check_vmap(jnp.linalg.solve, (regular(3, 4, 4), random(4)), (0, None))
        for left in (True, False):
            f = lambda a, b: lax.linalg.triangular_solve(a, b, left_side=left)  # noqa: E731, B023
            for axis in (0, 1, 2):
                check_vmap(f, (A, random(4, 4, 4)), (None, axis))
        check_vmap(fg.grad(lambda a: jnp.linalg.slogdet(a)[1]), (regular(3, 4, 4),), (0,))


def test_solving_factorizes_once_for_the_value_and_the_gradient():
    with enable_x64():
        text = fg.jit(fg.value_and_grad(lambda a: jnp.sum(jnp.linalg.solve(a, B)))).lower(A).as_text("program")
    assert text.count("getrf(") == 1 and text.count("getrs(") == 2


def test_derivatives_that_do_not_exist():
    with pytest.raises(NotDifferentiableError, match=r"svd: the full factors of f32\[3,2\]"):
        fg.grad(lambda a: jnp.sum(jnp.linalg.svd(a)[0]))(jnp.ones((3, 2)))
    with pytest.raises(NotDifferentiableError, match="eig: the derivatives of eigenvectors"):
        fg.jvp(lambda a: jnp.linalg.eig(a)[1], (jnp.eye(2),), (jnp.eye(2),))
    with pytest.raises(MissingRuleError, match="schur: no jvp rule"):
        fg.grad(lambda a: jnp.sum(lax.linalg.schur(a)[0]))(jnp.eye(2))
    degenerate = fg.grad(lambda a: jnp.linalg.eigh(a)[1][0, 0])(jnp.eye(2) * 3)
    assert not np.isfinite(degenerate).all()  # as in JAX


# ---------------------------------------------------------------- oracles and errors


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_values_and_gradients_are_jaxs(dtype: str):
    import jax

    a, t, w = regular(2, 4, 4, dtype=dtype), random(5, 3, dtype=dtype), random(3, 5, dtype=dtype)
    functions = {
        "solve": lambda np_, a: np_.linalg.solve(a, np_.ones(4)),
        "det": lambda np_, a: np_.linalg.det(a),
        "slogdet": lambda np_, a: np_.linalg.slogdet(a),
        "pinv": lambda np_, a: np_.linalg.pinv(a),
        "qr": lambda np_, a: np_.linalg.qr(a, "r"),
        "svd": lambda np_, a: np_.linalg.svdvals(a),
        "eigvalsh": lambda np_, a: np_.linalg.eigvalsh(a),
        "eigvals": lambda np_, a: np_.linalg.eigvals(a),
        "cond": lambda np_, a: np_.linalg.cond(a, 1),
        "lstsq": lambda np_, a: np_.linalg.lstsq(a, np_.ones(len(a)))[0],
        "norm": lambda np_, a: [np_.linalg.norm(a, o, (-2, -1)) for o in ("fro", "nuc", 1, -1, 2, -2, math.inf)],
        "vector norm": lambda np_, a: [np_.linalg.vector_norm(a, ord=o, axis=0) for o in (1, 2, 3, 2.5, math.inf)],
        "matrix_power": lambda np_, a: np_.linalg.matrix_power(a, 5),
        "tensorinv": lambda np_, a: np_.linalg.tensorinv(a, 1),
        "multi_dot": lambda np_, a: np_.linalg.multi_dot([np_.ones(len(a)), a, a.T, a]),
    }
    squares = ("solve", "det", "slogdet", "eigvalsh", "eigvals", "cond", "matrix_power")
    pairs = [(n, x) for n in functions for x in ([a] if n in squares else [t, w] if n != "tensorinv" else [a[0]])]

    def loss(np_, tree, name):
        def total(x):
            outs = tree.leaves(functions[name](np_, x))
            return sum((np_.abs(o) ** 2 * (1 + np_.arange(o.size)).reshape(o.shape)).sum() for o in outs)

        return total

    with enable_x64(), jax.enable_x64(True):
        for name, x in pairs:
            expected = jax.value_and_grad(loss(jax.numpy, jax.tree, name))(x)
            actual = fg.value_and_grad(loss(jnp, fg.tree, name))(x)
            for ours, theirs in zip(actual, expected, strict=True):
                assert_close(ours, np.asarray(theirs), rtol=1e-6, atol=1e-6, what=name)


def test_errors_explain_the_cause():
    square, wide = np.eye(2, dtype=np.float32), np.ones((2, 3), np.float32)
    for f in (jnp.linalg.inv, jnp.linalg.det, jnp.linalg.eig, jnp.linalg.eigh, jnp.linalg.slogdet, lax.linalg.schur):
        with pytest.raises(ShapeError, match=r"f32\[2,3\] is no batch of square matrices"):
            f(wide)
        with pytest.raises(ShapeError, match=r"f32\[2\] is no batch of matrices"):
            f(wide[:, 0])
    for f in (lax.linalg.lu, lax.linalg.qr, lax.linalg.svd, lax.linalg.eigh, lax.linalg.eig, lax.linalg.hessenberg):
        with pytest.raises(DTypeError, match=r"operand has type i32\[2,2\]"):
            f(np.eye(2, dtype=np.int32))
    with pytest.raises(ShapeError, match=r"solve: f32\[2,2\] and right-hand sides f32\[3,1\] do not fit"):
        jnp.linalg.solve(square, np.ones((3, 1), np.float32))
    with pytest.raises(ShapeError, match=r"solve: shapes .*\(2,\).*\(3,\)"):
        jnp.linalg.solve(np.stack([square] * 2), np.ones((3, 2, 1), np.float32))
    with pytest.raises(ShapeError, match="no batches of matrices, matrices"):
        lax.linalg.triangular_solve(square, np.ones((3, 2, 2), np.float32))
    with pytest.raises(DTypeError, match=r"triangular_solve: operands have types f32\[2,2\], c64\[2,2\]"):
        lax.linalg.triangular_solve(square, np.ones((2, 2), np.complex64))
    with pytest.raises(ShapeError, match=r"cholesky_update: a factor of shape \(2, 2\) and a vector of shape \(3,\)"):
        lax.linalg.cholesky_update(square, np.ones(3, np.float32))
    with pytest.raises(ShapeError, match="2 pivots do not permute 1 rows"):
        lax.linalg.lu_pivots_to_permutation(np.zeros(2, np.int32), 1)
    with pytest.raises(ShapeError, match=r"householder_product: reflectors of shape \(2, 3\)"):
        lax.linalg.householder_product(wide, np.ones(2, np.float32))
    with pytest.raises(ShapeError, match=r"tensorsolve: f32\[2,3\] and f32\[2\] do not fit"):
        jnp.linalg.tensorsolve(wide, np.ones(2, np.float32))
    for call in (
        lambda: jnp.linalg.qr(wide, "economic"),
        lambda: jnp.linalg.eigh(square, "X"),
        lambda: jnp.linalg.norm(wide, "euclid", (0, 1)),
        lambda: jnp.linalg.pinv(wide, 1e-3, rcond=1e-3),
        lambda: jnp.linalg.slogdet(square, method="svd"),
        lambda: jnp.linalg.matrix_power(square, 1.5),
        lambda: lax.linalg.eigh(square, subset_by_index=(1, 4)),
        lambda: lax.linalg.lu_solve(square, np.arange(2), square, 3),
    ):
        with pytest.raises(ArgumentError):
            call()
    assert jnp.linalg.inv(np.eye(2, dtype=np.int32)).dtype == np.float32


@pytest.mark.parametrize("operation", ["eigh", "svd"])
def test_subsets_of_spectra(operation: str):
    a = POSITIVE.astype(np.float32)
    whole = getattr(lax.linalg, operation)(a)
    options = {"full_matrices": False} if operation == "svd" else {}
    part = getattr(lax.linalg, operation)(a, subset_by_index=(1, 3), **options)
    assert_close(part[1], whole[1][1:3])
    assert_close(part[0], whole[0][:, 1:3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_matrices_have_the_pivots_of_lapack(dtype: str):
    for n in (1, 2, 3, 8, 16, 17):
        a = random(4, n, n, dtype=dtype)
        native, expected = apply("llvm", lax.linalg.lu, a), apply("eager", lax.linalg.lu, a)
        for ours, theirs in zip(native, expected, strict=True):
            assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        a = regular(4, n, n, dtype=dtype)
        for m in (1, 5, 20):
            b = random(4, n, m, dtype=dtype)
            near(apply("llvm", jnp.linalg.solve, a, b), np.linalg.solve(a, b))
    lu, pivots, _ = apply("llvm", lax.linalg.lu, np.ones((3, 3), dtype))
    assert_close(lu, np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0]], dtype))
    assert pivots.tolist() == [0, 1, 2]


@pytest.mark.parametrize("n", [1, 3])
def test_infinite_right_hand_sides_of_tridiagonal_systems(n: int):
    d, b = np.full(n, -2, np.float32), np.full((n, 1), np.inf, np.float32)
    x = apply("llvm", lax.linalg.tridiagonal_solve, -d / 8, d, -d / 8, b)
    assert x[-1] == -np.inf
    assert_close(x, apply("eager", lax.linalg.tridiagonal_solve, -d / 8, d, -d / 8, b))
