"""custom_linear_solve and custom_root: derivatives by the implicit function theorem, whatever the solver does."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

import funcgrad
import funcgrad.numpy as jnp
from funcgrad import errors, grad, jacfwd, jit, jvp, lax, make_jaxpr, vmap
from funcgrad.config import enable_x64
from funcgrad.testing import assert_close, check_grads
from tests.comparing import assert_same

A = np.float32([[4, 1, 0.5], [0, 3, -1], [1, 0.5, 5]])
S = A + A.T
B = np.float32([1, -2, 0.5])
C = np.float32([0.3, 1, -1])


same = functools.partial(assert_same, rtol=1e-4, atol=1e-4)


def eliminate(a, b):
    """Gauss's elimination of a 3×3 system, differentiable like any other function."""
    rows = [(a[i], b[i]) for i in range(3)]
    for i in range(3):
        pivot, value = rows[i][0] / rows[i][0][i], rows[i][1] / rows[i][0][i]
        rows = [
            (pivot, value) if j == i else (row - row[i] * pivot, right - row[i] * value)
            for j, (row, right) in enumerate(rows)
        ]
    return rows


def dense(m, a, b):
    return m.numpy.stack([value for _, value in eliminate(a, b)])


def conjugate_gradient(m):
    """A solver that reverse mode cannot go through."""

    def solve(matvec, b):
        def step(state):
            x, r, p = state
            ap = matvec(p)
            alpha = (r @ r) / (p @ ap)
            r_next = r - alpha * ap
            return x + alpha * p, r_next, r_next + (r_next @ r_next) / (r @ r) * p

        start = (m.numpy.zeros_like(b), b, b)
        return m.lax.while_loop(lambda state: state[1] @ state[1] > 1e-11, step, start)[0]

    return solve


def by_elimination(m):
    """A⁻¹b with elimination of A, and of Aᵀ for the transposed system."""

    def solve(a, b):
        return m.lax.custom_linear_solve(lambda v: a @ v, b, lambda _, b: dense(m, a, b), lambda _, b: dense(m, a.T, b))

    return solve


def by_gradients(m):
    """S⁻¹b of the symmetric part of a matrix."""

    def solve(a, b):
        s = a + a.T
        return m.lax.custom_linear_solve(lambda v: s @ v, b, conjugate_gradient(m), symmetric=True)

    return solve


# ---------------------------------------------------------------- custom_linear_solve


@pytest.mark.parametrize("compile", [lambda f: f, jit])
def test_the_solution_is_the_solvers(compile):
    assert_close(compile(by_elimination(funcgrad))(A, B), np.linalg.solve(A, B), rtol=1e-5)
    assert_close(compile(by_gradients(funcgrad))(A, B), np.linalg.solve(S, B), rtol=1e-5)


@pytest.mark.parametrize("compile", [lambda f: f, jit])
def test_gradients_solve_with_the_transpose(compile):
    """Of c·A⁻¹b: A⁻ᵀc by b, −A⁻ᵀc xᵀ by A."""
    by_a, by_b = compile(grad(lambda a, b: C @ by_elimination(funcgrad)(a, b), (0, 1)))(A, B)
    x, y = np.linalg.solve(A, B), np.linalg.solve(A.T, C)
    assert_close(by_b, y, rtol=1e-5)
    assert_close(by_a, -np.outer(y, x), rtol=1e-5)


def test_gradients_through_an_iterative_solver_agree_with_a_dense_one():
    def loss(solve):
        return lambda a, b: jnp.sin(C @ solve(a, b))

    through_loop = loss(by_gradients(funcgrad))
    through_dense = loss(lambda a, b: dense(funcgrad, a + a.T, b))
    for order in (lambda f: grad(f, (0, 1)), lambda f: grad(lambda a, b: (grad(f)(a, b) * A).sum(), (0, 1))):
        assert_close(order(through_loop)(A, B), order(through_dense)(A, B), rtol=1e-4, atol=1e-5)


def test_derivatives_to_third_order():
    with enable_x64():
        a, b = A.astype(np.float64), B.astype(np.float64)
        check_grads(by_elimination(funcgrad), (a, b), order=3, modes=("fwd",))
        check_grads(by_elimination(funcgrad), (a, b), order=2)
        check_grads(by_gradients(funcgrad), (a, b), order=2, atol=1e-4, rtol=1e-4)


TRANSFORMS = {
    "grad": lambda m, f: m.grad(f),
    "jvp": lambda m, f: lambda t: m.jvp(f, (t,), (t * 0.5 + 1.0,))[1],
    "jit": lambda m, f: m.jit(f),
    "vmap": lambda m, f: lambda t: m.vmap(f)(t * np.float32([0.5, 1, 1.5]))[1] + t,
}
DEPTHS = [c for n in (1, 2) for c in itertools.product(TRANSFORMS, repeat=n)]
DEPTHS += itertools.product(("grad", "jit", "vmap"), repeat=3)


def _composed(m, f, names):
    for name in names:
        f = TRANSFORMS[name](m, f)
    return f


@pytest.mark.parametrize("names", DEPTHS, ids="-".join)
def test_every_composition_agrees_with_the_dense_solution(names):
    def of(solve):
        return lambda t: (C * solve(A * t, B / t)).sum() * t

    t = np.float32(1.2)
    expected = _composed(funcgrad, of(lambda a, b: dense(funcgrad, a, b)), names)(t)
    assert_close(_composed(funcgrad, of(by_elimination(funcgrad)), names)(t), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (2, 1)])
def test_vmap_is_the_loop(in_axes):
    batch = [x if axis is None else np.stack([x, 2 * x + 1], axis) for x, axis in zip((A, B), in_axes, strict=True)]
    rows = [
        [x if axis is None else np.take(x, i, axis) for x, axis in zip(batch, in_axes, strict=True)] for i in (0, 1)
    ]
    for f in (by_elimination(funcgrad), grad(lambda a, b: C @ by_elimination(funcgrad)(a, b))):
        assert_close(vmap(f, in_axes)(*batch), np.stack([f(*row) for row in rows]), rtol=1e-4, atol=1e-5)


def test_vectors_are_pytrees():
    def matvec(v):
        return {"x": 2 * v["x"] + v["y"][0], "y": (3 * v["y"][0],)}

    def solve(_, b):
        y = b["y"][0] / 3
        return {"x": (b["x"] - y) / 2, "y": (y,)}

    def transpose_solve(_, b):
        x = b["x"] / 2
        return {"x": x, "y": ((b["y"][0] - x) / 3,)}

    b = {"x": np.float32(4), "y": (np.float32(6),)}
    out, back = funcgrad.vjp(lambda b: lax.custom_linear_solve(matvec, b, solve, transpose_solve), b)
    assert_close(out, {"x": np.float32(1), "y": (np.float32(2),)})
    assert_close(
        back({"x": np.float32(1), "y": (np.float32(0),)})[0], {"x": np.float32(0.5), "y": (np.float32(-1 / 6),)}
    )


def test_solvers_get_the_operator_and_its_transpose():
    def solve(matvec, b):
        return dense(funcgrad, jnp.stack([matvec(e) for e in np.eye(3, dtype=np.float32)], 1), b)

    def of(a):
        return C @ lax.custom_linear_solve(lambda v: a @ v, B, solve, solve)

    assert_close(grad(of)(A), -np.outer(np.linalg.solve(A.T, C), np.linalg.solve(A, B)), rtol=1e-5)


def test_aux_is_returned_and_has_no_derivative():
    def f(b):
        return lax.custom_linear_solve(
            lambda v: 2.0 * v, b, lambda _, b: (b / 2, {"residual": b * 3, "steps": 7}), symmetric=True, has_aux=True
        )

    x, aux = jit(f)(B)
    assert_close(x, B / 2)
    assert_close(aux["residual"], B * 3)
    assert int(aux["steps"]) == 7
    assert_close(grad(lambda b: (f(b)[0] + f(b)[1]["residual"]).sum())(B), np.full(3, 0.5, np.float32))


def test_a_gradient_is_one_solve_forward_and_one_back():
    names = [e.primitive.name for e in make_jaxpr(grad(lambda a, b: by_elimination(funcgrad)(a, b).sum()))(A, B).eqns]
    assert names.count("custom_linear_solve") == 2


@pytest.mark.oracle
@pytest.mark.parametrize("solver", [by_elimination, by_gradients])
def test_linear_solves_are_jaxs(jax, solver):
    def everything(m):
        def f(a, b):
            return C @ solver(m)(a, b)

        return lambda a, b: (
            solver(m)(a, b),
            m.grad(f, (0, 1))(a, b),
            m.jvp(m.grad(f), (a, b), (b * a, b))[1],
            m.grad(lambda a: (m.grad(f)(a, b) ** 2).sum())(a),
        )

    same(everything(funcgrad)(A, B), jax.jit(everything(jax))(A, B))


@pytest.mark.oracle
def test_weak_types_are_jaxs(jax):
    def f(m, weak):
        return lambda x: m.lax.custom_linear_solve(lambda v: 2 * v, x, lambda _, b: b / weak, symmetric=True)

    for weak, x in itertools.product((2.0, np.float32(2)), (1.5, np.float32(1.5))):
        same(f(funcgrad, weak)(x), f(jax, weak)(x))


# ---------------------------------------------------------------- custom_root


def newton(m):
    def solve(f, x):
        return m.lax.while_loop(lambda x: abs(f(x)) > 1e-6 * (1 + abs(x)), lambda x: x - f(x) / m.grad(f)(x), x)

    return solve


def cubic_root(m):
    """The x with x³ + a·x = b."""

    def root(a, b):
        return m.lax.custom_root(lambda x: x**3 + a * x - b, m.lax.full_like(a, 1.0), newton(m), _scalar_tangent)

    return root


def _scalar_tangent(g, y):
    return y / g(1.0)


def test_a_root_and_its_derivatives_are_the_implicit_functions():
    a, b = np.float32(1.5), np.float32(4)
    x = cubic_root(funcgrad)(a, b)
    assert_close(x**3 + a * x, b, rtol=1e-5)
    by_a, by_b = grad(cubic_root(funcgrad), (0, 1))(a, b)
    assert_close([by_a, by_b], [-x / (3 * x**2 + a), 1 / (3 * x**2 + a)], rtol=1e-5)
    assert_close(jit(grad(cubic_root(funcgrad)))(a, b), by_a, rtol=1e-5)


def test_derivatives_of_a_root_to_third_order():
    with enable_x64():
        # The square root by iteration, whose derivatives are known: (1/2)x^(−1/2), −(1/4)x^(−3/2), (3/8)x^(−5/2).
        def root(a):
            return lax.custom_root(lambda x: x * x - a, a, _heron, _scalar_tangent)

        derivative, expected = root, [2.0, 0.25, -1 / 32, 3 / 256]
        for want in expected:
            assert_close(derivative(np.float64(4)), np.float64(want), rtol=1e-9)
            assert_close(jit(derivative)(np.float64(4)), np.float64(want), rtol=1e-9)
            derivative = grad(derivative)


def _heron(f, x):
    """Newton's method for x² = a without a loop: x ← (x + a/x)/2, where f(x) = x² − a."""
    for _ in range(8):
        x = x - f(x) / (2 * x)
    return x


@pytest.mark.parametrize("names", DEPTHS, ids="-".join)
def test_every_composition_agrees_with_the_square_root(names):
    def root(a):
        return lax.custom_root(lambda x: x * x - a, a * 0 + 1, _heron, _scalar_tangent) * a

    t = np.float32(1.7)
    expected = _composed(funcgrad, lambda a: jnp.sqrt(a) * a, names)(t)
    assert_close(_composed(funcgrad, root, names)(t), expected, rtol=1e-4, atol=1e-4)


def coupled(m):
    """The root of x² + a·y = 2, x·y + b = 3, a tree of unknowns, with a linear solve for the tangent."""

    def f(a, b):
        return lambda v: {"x": v["x"] ** 2 + a * v["y"] - 2, "y": v["x"] * v["y"] + b - 3}

    def two_by_two(g, y):
        (p, r), (q, s) = ((c["x"], c["y"]) for c in (g({"x": 1.0, "y": 0.0}), g({"x": 0.0, "y": 1.0})))
        det = p * s - q * r
        return {"x": (s * y["x"] - q * y["y"]) / det, "y": (p * y["y"] - r * y["x"]) / det}

    def solve(g, v):
        for _ in range(12):
            out, lin = m.linearize(g, v)
            step = two_by_two(lin, out)
            v = {k: v[k] - step[k] for k in v}
        return v

    def root(a, b):
        guess = {"x": m.lax.full_like(a, 1.2), "y": m.lax.full_like(a, 0.8)}
        return m.lax.custom_root(f(a, b), guess, solve, two_by_two)

    return root


def test_a_system_of_equations():
    with enable_x64():
        a, b = np.float64(0.7), np.float64(1.9)
        v = coupled(funcgrad)(a, b)
        assert_close([v["x"] ** 2 + a * v["y"], v["x"] * v["y"] + b], [np.float64(2), np.float64(3)])
        jacobian = np.array([[2 * v["x"], a], [v["y"], v["x"]]])
        of_a, of_b = np.linalg.solve(jacobian, -np.array([[v["y"], 0.0], [0.0, 1.0]])).T
        tangents = [jvp(coupled(funcgrad), (a, b), t)[1] for t in ((1.0, 0.0), (0.0, 1.0))]
        assert_close(np.array([[t["x"], t["y"]] for t in tangents]), np.array([of_a, of_b]), rtol=1e-8)
        check_grads(coupled(funcgrad), (a, b), order=2)


def test_vmap_of_roots_is_the_loop():
    a = np.float32([1.5, 0.2, 3.0])
    for f in (coupled(funcgrad), lambda a, b: grad(lambda a: coupled(funcgrad)(a, b)["x"])(a)):
        rows = [f(x, np.float32(1.9)) for x in a]
        want = {k: np.stack([r[k] for r in rows]) for k in "xy"} if isinstance(rows[0], dict) else np.stack(rows)
        assert_close(vmap(f, (0, None))(a, np.float32(1.9)), want, rtol=1e-4, atol=1e-5)


def test_the_guess_has_no_derivative_and_aux_none():
    def root(guess, a):
        return lax.custom_root(lambda x: x - a, guess, lambda f, x: (x - f(x), a * 5), _scalar_tangent, has_aux=True)

    x, aux = root(np.float32(1), np.float32(3))
    assert (float(x), float(aux)) == (3.0, 15.0)
    assert_close(grad(lambda g, a: sum(root(g, a)), (0, 1))(1.0, 3.0), (np.float32(0), np.float32(1)))


def test_the_tangent_may_be_solved_for_with_the_jacobian():
    def root(a):
        return lax.custom_root(
            lambda x: a @ x - B, B, lambda f, x: dense(funcgrad, a, B), lambda g, y: dense(funcgrad, jacfwd(g)(y), y)
        )

    expected = grad(lambda a: C @ dense(funcgrad, a, B))(A)
    assert_close(grad(lambda a: C @ root(a))(A), expected, rtol=1e-4, atol=1e-5)


def test_the_tangent_may_be_solved_for_by_custom_linear_solve():
    def root(a):
        def tangent_solve(g, y):
            return lax.custom_linear_solve(g, y, conjugate_gradient(funcgrad), symmetric=True)

        def solve(f, x):
            return 2 * dense(funcgrad, a + a.T, B)

        return lax.custom_root(lambda x: (a + a.T) @ x - 2 * B, B, solve, tangent_solve)

    expected = grad(lambda a: C @ (2 * dense(funcgrad, a + a.T, B)))(A)
    assert_close(grad(lambda a: C @ root(a))(A), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
def test_roots_are_jaxs(jax):
    def everything(m):
        return lambda a, b: (
            cubic_root(m)(a, b),
            m.grad(cubic_root(m), (0, 1))(a, b),
            m.grad(m.grad(cubic_root(m)))(a, b),
            coupled(m)(a, b),
            m.jvp(m.grad(lambda a, b: coupled(m)(a, b)["x"]), (a, b), (a, b))[1],
        )

    for a, b in ((0.7, 1.9), (np.float32(0.7), np.float32(1.9))):
        same(everything(funcgrad)(a, b), jax.jit(everything(jax))(a, b))


# ---------------------------------------------------------------- bad input


def _linear(matvec=lambda v: v, solve=lambda f, b: b, *rest, **options):
    return lambda: lax.custom_linear_solve(matvec, B, solve, *rest, **options)


def _root(f=lambda x: x, guess=B, solve=lambda f, x: x, tangent=lambda g, y: y, **options):
    return lambda: lax.custom_root(f, guess, solve, tangent, **options)


BAD = {
    "matvec structure": (_linear(lambda v: (v,)), errors.ArgumentError, "matvec returns (f32[3],), b is f32[3]"),
    "matvec shape": (_linear(lambda v: v[:1]), errors.ShapeError, "matvec returns f32[1], b is f32[3]"),
    "matvec dtype": (_linear(lambda v: v > 0), errors.DTypeError, "matvec returns bool[3], b is f32[3]"),
    "solve": (_linear(solve=lambda f, b: b[1:]), errors.ShapeError, "solve returns f32[2], b is f32[3]"),
    "transpose_solve": (
        _linear(lambda v: v, lambda f, b: b, lambda f, b: [b]),
        errors.ArgumentError,
        "transpose_solve returns [f32[3]], b is f32[3]",
    ),
    "no aux": (_linear(has_aux=True), errors.ArgumentError, "solve returns f32[3], not a pair"),
    "no function": (_linear(3), errors.ArgumentError, "custom_linear_solve: 3 is not callable"),
    "not linear": (
        _linear(lambda v: v * v, lambda f, b: b, lambda f, b: b),
        errors.NotDifferentiableError,
        "transposing a function that is not linear",
    ),
    "no transpose": (
        lambda: grad(lambda b: lax.custom_linear_solve(lambda v: v, b, lambda f, b: b).sum())(B),
        errors.NotDifferentiableError,
        "give transpose_solve, or symmetric=True",
    ),
    "f structure": (_root(lambda x: [x]), errors.ArgumentError, "f returns [f32[3]], initial_guess is f32[3]"),
    "root shape": (_root(solve=lambda f, x: x[0]), errors.ShapeError, "solve returns f32[], initial_guess is f32[3]"),
    "tangent": (_root(tangent=lambda g, y: y > 0), errors.DTypeError, "tangent_solve returns bool[3]"),
    "integers": (_root(guess=1), errors.DTypeError, "custom_root: initial_guess has a leaf of type i32[]"),
    "not a function": (_root(None), errors.ArgumentError, "custom_root: None is not callable"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "fix: " in str(caught.value)
