"""funcgrad.scipy.sparse.linalg: Krylov methods for A x = b, where A is known by its products with vectors.

Vectors are pytrees. Derivatives are solutions of linear systems with A or Aᵀ, by the same method; see
`lax.custom_linear_solve`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import lax, tree
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.dtypes import is_complex
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.flatten_util import ravel_pytree
from funcgrad.scipy.linalg import solve_triangular

__all__ = ["bicgstab", "cg", "gmres"]

_Operator = Callable[[Any], Any]
_Solver = Callable[[_Operator, Any, Any, _Operator], Any]
"""From A, b, x0 and M to x."""

# ---------------------------------------------------------------- vectors that are pytrees


def _vdot(x: Any, y: Any) -> Any:
    """xᴴ y."""
    return functools.reduce(operator.add, tree.leaves(tree.map(jnp.vdot, x, y)))


def _real_vdot(x: Any, y: Any) -> Any:
    """Re xᴴ y."""

    def of_leaves(u: Any, v: Any) -> Any:
        if not (is_complex(u.dtype) and is_complex(v.dtype)):
            return jnp.vdot(u.real, v.real)
        return jnp.vdot(u.real, v.real) + jnp.vdot(u.imag, v.imag)

    return functools.reduce(operator.add, tree.leaves(tree.map(of_leaves, x, y)))


def _add(x: Any, scale: Any, y: Any) -> Any:
    """x + scale y, in the dtypes of x."""
    return tree.map(lambda u, v: (u + scale * v).astype(u.dtype), x, y)


def _subtract(x: Any, y: Any) -> Any:
    return tree.map(operator.sub, x, y)


def _choose(condition: Any, x: Any, y: Any) -> Any:
    return tree.map(lambda u, v: jnp.where(condition, u, v), x, y)


# ---------------------------------------------------------------- arguments


def _as_operator(operation: str, name: str, f: Any) -> _Operator:
    """A function, or the product with a square matrix: an array, or an object with `@` such as a sparse matrix."""
    if callable(f):
        return f
    if not hasattr(f, "__matmul__"):
        raise ArgumentError(
            f"{operation}: {name} is of type {type(f).__name__}", fix="give a square matrix, or a function of vectors"
        )
    if len(f.shape) != 2 or f.shape[0] != f.shape[1]:
        raise ShapeError(f"{operation}: {name} has shape {tuple(f.shape)}", fix="give a square matrix")
    f = jnp.asarray(f) if isinstance(f, np.ndarray) else f
    return lambda x: f @ x


class _System(NamedTuple):
    operator: _Operator
    preconditioner: _Operator
    transposed_preconditioner: _Operator
    b: Any
    x0: Any
    size: int


def _system(operation: str, A: Any, b: Any, x0: Any, M: Any) -> _System:
    b = tree.map(lambda x: promote_inexact(x, operation=operation)[0], b)
    x0 = tree.map(jnp.zeros_like, b) if x0 is None else x0
    if tree.structure(x0) != tree.structure(b):
        raise ArgumentError(
            f"{operation}: x0 is {tree.structure(x0)}, b is {tree.structure(b)}", fix="give x0 the structure of b"
        )
    shapes = [[aval_of(leaf).shape for leaf in tree.leaves(x)] for x in (x0, b)]
    if shapes[0] != shapes[1]:
        raise ShapeError(f"{operation}: shapes are {shapes[0]} in x0, {shapes[1]} in b", fix="give x0 the shapes of b")
    x0 = tree.map(lambda x, y: jnp.asarray(x, y.dtype), x0, b)
    identity = M is None
    forward = (lambda x: x) if identity else _as_operator(operation, "M", M)
    backward = forward if identity or callable(M) else _as_operator(operation, "M", M.T)
    size = sum(leaf.size for leaf in tree.leaves(b))
    return _System(_as_operator(operation, "A", A), forward, backward, b, x0, size)


def _solve(system: _System, solver: _Solver, symmetric: bool = False) -> Any:
    """Solve the system, with derivatives. Solutions of transposed systems start at 0."""

    def solve(matvec: _Operator, b: Any) -> Any:
        return solver(matvec, b, system.x0, system.preconditioner)

    def transpose_solve(vecmat: _Operator, b: Any) -> Any:
        return solver(vecmat, b, tree.map(jnp.zeros_like, b), system.transposed_preconditioner)

    transpose = None if symmetric else transpose_solve
    return lax.custom_linear_solve(system.operator, system.b, solve, transpose, symmetric=symmetric)


def _threshold(b: Any, tol: Any, atol: Any) -> Any:
    """The square of max(tol ‖b‖, atol), to which squares of residuals are compared."""
    squares = _real_vdot(b, b)
    return jnp.maximum(jnp.square(tol) * squares, jnp.square(atol)).astype(squares.dtype)


# ---------------------------------------------------------------- conjugate gradients


def cg(
    A: Any, b: Any, x0: Any = None, *, tol: Any = 1e-5, atol: Any = 0.0, maxiter: Any = None, M: Any = None
) -> tuple[Any, None]:
    """Solve A x = b by conjugate gradients, for a Hermitian, positive definite operator A.

    Args:
      A: a matrix, or a function that maps a pytree like b to A x.
      b: an array or a pytree of arrays.
      x0: the first guess, 0 by default.
      tol, atol: the iteration ends when ‖b − A x‖ ≤ max(tol ‖b‖, atol).
      maxiter: the most iterations, by default ten times the number of elements of b.
      M: a preconditioner: a Hermitian operator close to A⁻¹, as a matrix or a function.

    Returns:
      x, like b, and None in the place of SciPy's information.

    Source: Hestenes, Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.

    Raises:
      ShapeError, ArgumentError: A or M is not a square matrix or a function, or x0 is not like b.

    >>> import funcgrad.numpy as jnp
    >>> x, _ = cg(jnp.array([[4.0, 1.0], [1.0, 3.0]]), jnp.array([1.0, 2.0]))
    >>> x.round(4)
    Array([0.0909, 0.6364], dtype=float32)
    """
    system = _system("cg", A, b, x0, M)
    most = 10 * system.size if maxiter is None else maxiter

    def solver(matvec: _Operator, b: Any, x: Any, precondition: _Operator) -> Any:
        threshold = _threshold(b, tol, atol)

        def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
            x, r, p, rz, _, k = state
            ap = matvec(p)
            alpha = rz / _real_vdot(p, ap)
            x, r = _add(x, alpha, p), _add(r, -alpha, ap)
            z = precondition(r)
            new = _real_vdot(r, z)
            return x, r, _add(z, new / rz, p), new, _real_vdot(r, r), k + 1

        r = _subtract(b, matvec(x))
        z = precondition(r)
        state = (x, r, z, _real_vdot(r, z), _real_vdot(r, r), 0)
        return lax.while_loop(lambda s: (s[4] > threshold) & (s[5] < most), body, state)[0]

    real = not any(is_complex(leaf.dtype) for leaf in tree.leaves(system.b))
    return _solve(system, solver, symmetric=real), None


# ---------------------------------------------------------------- bicgstab


def bicgstab(
    A: Any, b: Any, x0: Any = None, *, tol: Any = 1e-5, atol: Any = 0.0, maxiter: Any = None, M: Any = None
) -> tuple[Any, None]:
    """Solve A x = b by stabilized biconjugate gradients, for any operator A. Arguments and results are as in `cg`.

    Source: van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG", 1992.

    >>> import funcgrad.numpy as jnp
    >>> x, _ = bicgstab(jnp.array([[4.0, 1.0], [0.0, 2.0]]), jnp.array([6.0, 2.0]))
    >>> x.round(4)
    Array([1.25, 1.  ], dtype=float32)
    """
    system = _system("bicgstab", A, b, x0, M)
    most = 10 * system.size if maxiter is None else maxiter

    def solver(matvec: _Operator, b: Any, x: Any, precondition: _Operator) -> Any:
        threshold = _threshold(b, tol, atol)
        r0 = _subtract(b, matvec(x))

        def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
            x, r, p, q, rho, alpha, omega, k, _ = state
            new = _vdot(r0, r)
            p = _add(r, new / rho * alpha / omega, _add(p, -omega, q))
            ahead = precondition(p)
            q = matvec(ahead)
            alpha = new / _vdot(r0, q)
            x, s = _add(x, alpha, ahead), _add(r, -alpha, q)
            finished = _real_vdot(s, s) < threshold
            ahead = precondition(s)
            t = matvec(ahead)
            omega = _vdot(t, s) / _vdot(t, t)
            x, r = _choose(finished, (x, s), (_add(x, omega, ahead), _add(s, -omega, t)))
            broken = (new == 0) | (alpha == 0) | (omega == 0)
            return x, r, p, q, new, alpha, omega, k + 1, broken

        def going_on(state: tuple[Any, ...]) -> Any:
            _, r, *_, k, broken = state
            return (_real_vdot(r, r) > threshold) & (k < most) & ~broken

        one = jnp.ones_like(_vdot(r0, r0))
        state = (x, r0, r0, r0, one, one, one, 0, False)
        return lax.while_loop(going_on, body, state)[0]

    return _solve(system, solver), None


# ---------------------------------------------------------------- gmres


class _Krylov(NamedTuple):
    """After k steps, M A V[:k] = V[:k+1] H with orthonormal rows of V; Q unitary and R triangular with Q H = R."""

    v: Any
    q: Any
    r: Any
    residual: Any
    k: Any


def _step(operator: _Operator, space: _Krylov, norm: Any) -> _Krylov:
    """Add a vector to the space, orthogonal to the others, and a column to R."""
    v, q, k = space.v, space.q, space.k
    w = operator(v[k])
    before = jnp.linalg.norm(w)
    h = jnp.zeros_like(q[0])
    for _ in range(2):  # once more, for what rounding left
        part = v.conj() @ w
        w, h = w - part @ v, h + part
    after = jnp.linalg.norm(w)
    invariant = after <= jnp.finfo(after.dtype).eps * before
    v = v.at[k + 1].set(jnp.where(invariant, 0, w / jnp.where(invariant, 1, after)))
    column = q @ h.at[k + 1].set(jnp.where(invariant, 0, after).astype(h.dtype))
    # A rotation of rows k and k + 1 makes the column triangular.
    a, b = column[k], column[k + 1]
    length = jnp.sqrt(jnp.abs(a) ** 2 + jnp.abs(b) ** 2)
    c, s = jnp.where(length == 0, 0, a / length), jnp.where(length == 0, 1, b / length)
    upper, lower = q[k], q[k + 1]
    q = q.at[k].set(c.conj() * upper + s.conj() * lower).at[k + 1].set(c * lower - s * upper)
    diagonal = jnp.where(length == 0, 1, length).astype(h.dtype)
    r = space.r.at[:, k].set(jnp.where(jnp.arange(len(h)) < k, column, 0).at[k].set(diagonal)[:-1])
    return _Krylov(v, q, r, norm * jnp.abs(q[k + 1, 0]), k + 1)


def _restarted(operator: _Operator, residual: Any, norm: Any, size: int, tolerance: Any) -> Any:
    """The correction of x in a Krylov space of at most `size` dimensions."""
    v = jnp.zeros((size + 1, residual.size), residual.dtype).at[0].set(residual / norm)
    identity = jnp.eye(size + 1, dtype=residual.dtype)
    start = _Krylov(v, identity, identity[:-1, :-1], norm, 0)
    space = lax.while_loop(lambda s: (s.k < size) & (s.residual > tolerance), lambda s: _step(operator, s, norm), start)
    projected = jnp.where(jnp.arange(size) < space.k, norm * space.q[:-1, 0], 0)
    return solve_triangular(space.r, projected) @ space.v[:-1]


def gmres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    restart: int = 20,
    maxiter: Any = None,
    M: Any = None,
    solve_method: str = "batched",
) -> tuple[Any, Any]:
    """Solve A x = b by the generalized minimal residual method, for any operator A. Arguments are those of `cg`, and:

    Args:
      restart: the largest dimension of the Krylov space, from which the method starts again.
      maxiter: the most restarts.
      solve_method: "batched" always completes the space; "incremental" checks the residual after each step.

    Returns:
      x, like b, and an integer: 0, or −1 if x has NaNs.

    Source: Saad, Schultz, "GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems",
    1986.

    >>> import funcgrad.numpy as jnp
    >>> x, _ = gmres(jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([1.0, 2.0]))
    >>> x.round(4)
    Array([2., 1.], dtype=float32)
    """
    if solve_method not in ("batched", "incremental"):
        raise ArgumentError(f"gmres: solve_method={solve_method!r}", fix="use 'batched' or 'incremental'")
    system = _system("gmres", A, b, x0, M)
    most = 10 * system.size if maxiter is None else maxiter
    size = min(restart, system.size)

    def solver(matvec: _Operator, b: Any, x: Any, precondition: _Operator) -> Any:
        b, unravel = ravel_pytree(b)
        x, _ = ravel_pytree(x)

        def residual_of(x: Any) -> tuple[Any, Any]:
            r, _ = ravel_pytree(precondition(unravel(b - ravel_pytree(matvec(unravel(x)))[0])))
            return r, jnp.linalg.norm(r)

        def operator(v: Any) -> Any:
            return ravel_pytree(precondition(matvec(unravel(v))))[0]

        norm = jnp.linalg.norm(b)
        enough = jnp.maximum(tol * norm, atol).astype(norm.dtype)
        scaled = jnp.linalg.norm(ravel_pytree(precondition(unravel(b)))[0])
        within = scaled * jnp.minimum(1, enough / norm) if solve_method == "incremental" else 0.0

        def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
            x, r, norm, k = state
            x = x + _restarted(operator, r, norm, size, within)
            return x, *residual_of(x), k + 1

        state = (x, *residual_of(x), 0)
        return unravel(lax.while_loop(lambda s: (s[2] > enough) & (s[3] < most), body, state)[0])

    x = _solve(system, solver)
    finite = functools.reduce(operator.and_, [~jnp.isnan(leaf).any() for leaf in tree.leaves(x)])
    return x, jnp.where(finite, 0, -1)


_explain_missing_names(__name__)
