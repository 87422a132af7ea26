"""Quasi-Newton minimization: BFGS and L-BFGS, as one loop that evaluates the function once per iteration.

Under vmap, each start takes the steps of its own line search: none waits for the search of another to end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.dtypes import is_complex
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.scipy.optimize.line_search import Point, Search, advance, next_step, start_search, status_of
from funcgrad.transforms.grad import value_and_grad


class OptimizeResults(NamedTuple):
    """The result of a minimization: a pytree.

    `x`, `fun` and `jac` are the last point, value and gradient; `hess_inv` is the approximation of the inverse Hessian
    matrix (None for L-BFGS); `nfev`, `njev` and `nit` count evaluations, gradients and iterations.

    `status` is 0 if `success`. Otherwise it is, for BFGS, 1 (too many iterations), or 3 or 5 (the line search failed);
    for L-BFGS, 1, 2 or 3 (too many iterations, evaluations or gradients), 4 (the value does not decrease), or 5 (the
    line search failed).
    """

    x: Any
    success: Any
    status: Any
    fun: Any
    jac: Any
    hess_inv: Any
    nfev: Any
    njev: Any
    nit: Any


class _Method(NamedTuple):
    """`init(x) → memory`, `update(memory, s, y) → memory` and `direction(memory, g) → p`, for steps s and changes y of
    the gradient; `first_step(f, slope, last f)` is where line searches start.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], Any]
    direction: Callable[[Any, Any], Any]
    first_step: Callable[[Any, Any, Any], Any]


class _State(NamedTuple):
    x: Any
    value: Any
    gradient: Any
    direction: Any
    memory: Any
    search: Search
    converged: Any
    status: Any
    iterations: Any
    evaluations: Any


class _Limits(NamedTuple):
    """When to stop.

    `status(k, nfev, decrease)` is the status after a step, 0 to go on; `failed` is that for each status of a search.
    """

    norm: Any
    gtol: Any
    line_search: Any
    status: Callable[[Any, Any, Any], Any]
    failed: Mapping[int, int]


def _minimize(fun: Callable[[Any], Any], x: Any, method: _Method, limits: _Limits) -> _State:
    def evaluate(x: Any) -> tuple[Any, Any]:
        value, gradient = value_and_grad(fun)(x)
        return value.astype(x.dtype), gradient

    def searching(value: Any, gradient: Any, direction: Any, last: Any) -> Search:
        slope = gradient @ direction
        return start_search(value, slope, method.first_step(value, slope, last))

    def converged(gradient: Any) -> Any:
        return jnp.linalg.norm(gradient, ord=limits.norm) < limits.gtol

    value, gradient = evaluate(x)
    memory = method.init(x)
    direction = method.direction(memory, gradient)
    search = searching(value, gradient, direction, value + jnp.linalg.norm(gradient) / 2)
    zero, one = (jnp.asarray(n, "int32") for n in (0, 1))
    state = _State(x, value, gradient, direction, memory, search, converged(gradient), zero, zero, one)
    state = state._replace(status=limits.status(zero, one, jnp.inf).astype("int32"))

    def accepted(state: _State, x: Any, value: Any, gradient: Any) -> _State:
        memory = method.update(state.memory, x - state.x, gradient - state.gradient)
        direction = method.direction(memory, gradient)
        search = searching(value, gradient, direction, state.value)
        k, nfev = state.iterations + 1, state.evaluations
        status = limits.status(k, nfev, state.value - value).astype("int32")
        return _State(x, value, gradient, direction, memory, search, converged(gradient), status, k, nfev)

    def body(state: _State) -> _State:
        step = next_step(state.search)
        x = state.x + step * state.direction
        value, gradient = evaluate(x)
        search, done = advance(state.search, Point(step, value, gradient @ state.direction))
        state = state._replace(search=search, evaluations=state.evaluations + 1)
        found = status_of(search, limits.line_search)
        failed = sum(jnp.where(found == status, code, 0) for status, code in limits.failed.items())
        stopped = state._replace(status=failed.astype("int32"), iterations=state.iterations + (found > 0))
        return lax.cond(done, accepted, lambda *_: stopped, state, x, value, gradient)

    return lax.while_loop(lambda s: ~s.converged & (s.status == 0), body, state)


# ---------------------------------------------------------------- BFGS


def _bfgs_update(inverse: Any, s: Any, y: Any) -> Any:
    """(I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ with ρ = 1 / yᵀs, for an inverse Hessian matrix H."""
    rho, hy = 1 / (y @ s), inverse @ y
    crossed = s[:, None] * hy
    new = inverse - rho * (crossed + crossed.T) + (rho * rho * (y @ hy) + rho) * (s[:, None] * s)
    return jnp.where(jnp.isfinite(rho), new, inverse)


def _from_last_decrease(value: Any, slope: Any, last: Any) -> Any:
    """Where the decrease would be the last one if the function were quadratic, at most 1."""
    step = 2.02 * (value - last) / slope
    return jnp.where(step > 1, 1, step)


_BFGS = _Method(lambda x: jnp.eye(x.size, dtype=x.dtype), _bfgs_update, lambda h, g: -(h @ g), _from_last_decrease)


def _bfgs(
    fun: Callable[[Any], Any],
    x: Any,
    *,
    maxiter: Any = None,
    norm: Any = np.inf,
    gtol: Any = 1e-5,
    line_search_maxiter: Any = 10,
) -> OptimizeResults:
    most = 200 * x.size if maxiter is None else maxiter

    def status(k: Any, nfev: Any, decrease: Any) -> Any:
        return jnp.where(k >= most, 1, 0)

    s = _minimize(fun, x, _BFGS, _Limits(norm, gtol, line_search_maxiter, status, {1: 3, 3: 5}))
    return _results(s, s.memory)


def _results(s: _State, inverse: Any) -> OptimizeResults:
    status = jnp.where(s.converged, 0, s.status)
    n = s.evaluations
    return OptimizeResults(s.x, s.converged, status, s.value, s.gradient, inverse, n, n, s.iterations)


# ---------------------------------------------------------------- L-BFGS


class _Pairs(NamedTuple):
    """The last steps s and changes y of the gradient, the newest last, with ρ = 1 / yᵀs; zeros stand for none."""

    s: Any
    y: Any
    rho: Any
    scale: Any


def _lbfgs_update(pairs: _Pairs, s: Any, y: Any) -> _Pairs:
    product = y @ s
    rows = [
        jnp.concatenate([old[1:], new[None]]) for old, new in ((pairs.s, s), (pairs.y, y), (pairs.rho, 1 / product))
    ]
    return _Pairs(*rows, product / (y @ y))


def _lbfgs_direction(pairs: _Pairs, gradient: Any) -> Any:
    """−H g, by two loops over the pairs; those that are zero change nothing.

    Source: Nocedal, "Updating quasi-Newton matrices with limited storage", 1980.
    """
    history = (pairs.s, pairs.y, pairs.rho)

    def backward(q: Any, pair: Any) -> tuple[Any, Any]:
        s, y, rho = pair
        weight = rho * (s @ q)
        return q - weight * y, weight

    def forward(q: Any, pair: Any) -> tuple[Any, None]:
        s, y, rho, weight = pair
        return q + (weight - rho * (y @ q)) * s, None

    q, weights = lax.scan(backward, -gradient, history, reverse=True)
    return lax.scan(forward, pairs.scale * q, (*history, weights))[0]


def _lbfgs(
    fun: Callable[[Any], Any],
    x: Any,
    *,
    maxiter: Any = None,
    norm: Any = np.inf,
    maxcor: int = 10,
    ftol: Any = 2.220446049250313e-09,
    gtol: Any = 1e-5,
    maxfun: Any = None,
    maxgrad: Any = None,
    maxls: Any = 20,
) -> OptimizeResults:
    if maxiter is maxfun is maxgrad is None:
        maxiter = 200 * x.size
    limits = [(n, code) for n, code in ((maxgrad, 3), (maxfun, 2), (maxiter, 1)) if n is not None]

    def init(x: Any) -> _Pairs:
        rows = jnp.zeros((maxcor, x.size), x.dtype)
        return _Pairs(rows, rows, jnp.zeros(maxcor, x.dtype), jnp.ones((), x.dtype))

    def status(k: Any, nfev: Any, decrease: Any) -> Any:
        result = jnp.where(decrease < ftol, 4, 0)
        for n, code in limits:
            result = jnp.where((k if code == 1 else nfev) >= n, code, result)
        return result

    method = _Method(init, _lbfgs_update, _lbfgs_direction, lambda value, slope, last: jnp.ones_like(value))
    return _results(_minimize(fun, x, method, _Limits(norm, gtol, maxls, status, {1: 5, 3: 5})), None)


_METHODS: dict[str, Callable[..., OptimizeResults]] = {"bfgs": _bfgs, "l-bfgs-experimental-do-not-rely-on-this": _lbfgs}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    method: str,
    tol: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> OptimizeResults:
    """Find a local minimum of fun(x, *args), a number, from a vector `x0`. It runs under jit and vmap.

    Args:
      method: "BFGS", which stores a matrix, or "l-bfgs-experimental-do-not-rely-on-this", which stores vectors.
      tol: the default of `gtol`.
      options: `maxiter`; `gtol` and `norm`: the search ends when the norm of the gradient is less than gtol. For BFGS,
        also `line_search_maxiter`; for L-BFGS, `maxcor`, `ftol`, `maxfun`, `maxgrad` and `maxls`.

    The results are not differentiable in reverse mode; use `lax.custom_root` for that. If a line search fails, the
    result is the point where it started.

    Source: Nocedal, Wright, "Numerical optimization", 2nd edition, algorithms 6.1 and 7.5.

    Raises:
      ShapeError, DTypeError: `x0` is not a vector of real numbers.
      ArgumentError: the method or an option is unknown, or `args` is not a tuple.

    >>> import funcgrad.numpy as jnp
    >>> result = minimize(lambda x: jnp.sum((x - 2) ** 2), jnp.zeros(2), method="BFGS")
    >>> result.x.round(4), bool(result.success)
    (Array([2., 2.], dtype=float32), True)
    """
    if not isinstance(args, tuple):
        raise ArgumentError(f"minimize: args is of type {type(args).__name__}", fix="pass a tuple: args=(a,)")
    solver = _METHODS.get(method.lower())
    if solver is None:
        raise ArgumentError(
            f"minimize: method={method!r}", fix="use 'BFGS' or 'l-bfgs-experimental-do-not-rely-on-this'"
        )
    options = ({} if tol is None else {"gtol": tol}) | dict(options or {})
    known = [name for name, p in inspect.signature(solver).parameters.items() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(options.keys() - known):
        raise ArgumentError(f"minimize: options {unknown} of method {method!r}", fix=f"use {', '.join(known)}")
    (x,) = promote_inexact(x0, operation="minimize")
    if x.ndim != 1:
        raise ShapeError(f"minimize: x0 is {aval_of(x)}", fix="give a vector; flatten_util.ravel_pytree makes one")
    if is_complex(x.dtype):
        raise DTypeError(f"minimize: x0 is {aval_of(x)}", fix="minimize over the real and imaginary parts")
    return solver(lambda x: fun(x, *args), x, **options)
