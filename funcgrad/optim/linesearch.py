"""Line searches along the updates: backtracking, and zoom, which satisfies the strong Wolfe conditions.

φ(s) = f(θ + s·u) is the loss along the updates u, and φ′ its slope. `zoom` has the search itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import lax, tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import Optimizer, abs_sq, cast_like, check_params, check_state, numbers, require_params
from funcgrad.optim.tree import add_scale, get, real, scale, vdot, where
from funcgrad.optim.zoom import Point, Zoom
from funcgrad.transforms.grad import value_and_grad


class LinesearchInfo(NamedTuple):
    """How many step sizes were tried, and by how much the conditions are not satisfied: 0 if they are."""

    num_linesearch_steps: Any
    decrease_error: Any
    curvature_error: Any


class ScaleByLinesearchState(NamedTuple):
    """The last step size; the loss and its gradient at the new parameters; how the search went."""

    learning_rate: Any
    value: Any
    grad: Any
    info: LinesearchInfo


def _function(name: str, value_fn: Any, extra: dict[str, Any]) -> Callable[[Any], Any]:
    """The loss as a function of the parameters alone: keyword arguments of `update` that it takes are passed on."""
    if value_fn is None:
        raise ArgumentError(
            f"{name}: update needs the loss", fix="call update(grads, state, params, value=, grad=, value_fn=loss)"
        )
    parameters = inspect.signature(value_fn).parameters
    variadic = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if unknown := [] if variadic else sorted(set(extra) - set(parameters)):
        raise ArgumentError(f"{name}: the loss takes no arguments {unknown}", fix="pass only arguments of value_fn")
    return lambda params: value_fn(params, **extra)


def _init(name: str, params: Any, store_grad: bool) -> ScaleByLinesearchState:
    check_params(name, params)
    infinite = jnp.full_like(abs_sq(jnp.asarray(tree.leaves(params)[0])).ravel()[0], jnp.inf)
    gradient = tree.map(jnp.zeros_like, params) if store_grad else None
    info = LinesearchInfo(jnp.zeros((), "int32"), infinite, infinite)
    return ScaleByLinesearchState(jnp.ones_like(infinite), infinite, gradient, info)


def _inner(x: Any, y: Any) -> Any:
    """The real part of the inner product, for gradients g = ∂f/∂Re − i·∂f/∂Im of complex parameters."""
    return real(vdot(tree.map(jnp.conj, x), y))


def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: float = 1e-4,
    decrease_factor: float = 0.8,
    increase_factor: float = 1.5,
    max_learning_rate: float = 1.0,
    atol: float = 0.0,
    rtol: float = 0.0,
    store_grad: bool = False,
) -> Optimizer:
    """Backtracking: s ← decrease_factor·s until φ(s) ≤ (1 + rtol)φ(0) + slope_rtol·s·φ′(0) + atol (Armijo).

    The first s is increase_factor times the last, at most max_learning_rate. `update` needs `value`, `grad` and
    `value_fn`, the loss at the parameters, its gradient, and its function. With `store_grad`, the gradient at the new
    parameters is kept for `value_and_grad_from_state`. Where no finite value is found, s = 0.

    Source: Nocedal, Wright, "Numerical optimization", 2nd edition, 2006, algorithm 3.1.
    """
    name = "scale_by_backtracking_linesearch"
    numbers(name, slope_rtol=slope_rtol, decrease_factor=decrease_factor, increase_factor=increase_factor)

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        grad: Any = None,
        value_fn: Any = None,
        **extra: Any,
    ) -> tuple[Any, ScaleByLinesearchState]:
        check_state(name, state, ScaleByLinesearchState)
        loss = _function(name, value_fn, extra)
        require_params(name, params)
        kind, slope = state.value.dtype, _inner(updates, grad)

        def error_of(step: Any, new: Any) -> Any:
            error = new - (1 + rtol) * value - step * slope_rtol * slope
            return jnp.where(jnp.isnan(error), jnp.inf, jnp.maximum(error, 0)).astype(kind)

        def body(search: tuple[Any, ...]) -> tuple[Any, ...]:
            count, step, _, _ = search
            step = jnp.where(count > 0, decrease_factor * step, step).astype(kind)
            new = jnp.asarray(loss(add_scale(params, step, updates))).astype(kind)
            return count + 1, step, new, error_of(step, new)

        def searching(search: tuple[Any, ...]) -> Any:
            return ~(search[3] <= atol) & (search[0] <= max_backtracking_steps)

        first = jnp.minimum(increase_factor * state.learning_rate, max_learning_rate).astype(kind)
        start = (jnp.zeros((), "int32"), first, jnp.asarray(value).astype(kind), jnp.full_like(first, jnp.inf))
        count, step, new, error = lax.while_loop(searching, body, start)
        step = jnp.where(jnp.isinf(error), 0, step)
        moved = scale(step, updates)
        gradient = None
        if store_grad:
            gradient = cast_like(value_and_grad(loss)(add_scale(params, step, updates))[1], state.grad)
        info = LinesearchInfo(count, error, jnp.zeros_like(error))
        return moved, ScaleByLinesearchState(step, new, gradient, info)

    return Optimizer(lambda params: _init(name, params, store_grad), update)


def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: float | None = None,
    tol: float = 0.0,
    increase_factor: float = 2.0,
    slope_rtol: float = 1e-4,
    curv_rtol: float = 0.9,
    approx_dec_rtol: float | None = 1e-6,
    stepsize_precision: float = 1e-5,
    initial_guess_strategy: str = "keep",
) -> Optimizer:
    """Zoom: a step size s with φ(s) ≤ φ(0) + slope_rtol·s·φ′(0) and |φ′(s)| ≤ curv_rtol·|φ′(0)| (strong Wolfe).

    s grows by increase_factor until an interval contains such a point; the interval is then divided at the minimum of
    a cubic, of a parabola, or in the middle. Close to a minimum, where rounding hides the decrease, the first condition
    may be replaced by φ′(s) ≤ (2·slope_rtol − 1)φ′(0) and φ(s) ≤ φ(0) + approx_dec_rtol·|φ(0)|. The first s is 1 with
    `initial_guess_strategy="one"`, or the last s with "keep". `update` needs `value`, `grad` and `value_fn`.

    Sources: Nocedal, Wright, "Numerical optimization", 2nd edition, 2006, algorithms 3.5 and 3.6; Hager, Zhang,
    "Algorithm 851: CG_DESCENT, a conjugate gradient method with guaranteed descent", 2006.
    """
    name = "scale_by_zoom_linesearch"
    numbers(name, tol=tol, increase_factor=increase_factor, slope_rtol=slope_rtol, curv_rtol=curv_rtol)
    if initial_guess_strategy not in ("one", "keep"):
        raise ArgumentError(f"{name}: initial_guess_strategy is {initial_guess_strategy!r}", fix="give 'one' or 'keep'")

    search = Zoom(
        max_linesearch_steps,
        max_learning_rate,
        tol,
        increase_factor,
        slope_rtol,
        curv_rtol,
        approx_dec_rtol,
        stepsize_precision,
    )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        grad: Any = None,
        value_fn: Any = None,
        **extra: Any,
    ) -> tuple[Any, ScaleByLinesearchState]:
        check_state(name, state, ScaleByLinesearchState)
        both = value_and_grad(_function(name, value_fn, extra))
        require_params(name, params)
        start = cast_like(Point(0.0, value, _inner(updates, grad)), Point(*[state.value] * 3))

        def at(step: Any) -> tuple[Point, Any]:
            new, gradient = both(add_scale(params, step, updates))
            return cast_like((Point(step, new, _inner(gradient, updates)), gradient), (start, state.grad))

        guess = jnp.ones_like(state.learning_rate) if initial_guess_strategy == "one" else state.learning_rate
        z = search.run(at, start, cast_like(grad, state.grad), guess)
        fallback = z.failed & ((z.safe.step > 0) | jnp.isinf(z.errors[0]))
        final, gradient = where(fallback, (z.safe, z.safe_grad), (z.last, z.grad))
        info = LinesearchInfo(z.count, *z.errors)
        return scale(final.step, updates), ScaleByLinesearchState(final.step, final.value, gradient, info)

    return Optimizer(lambda params: _init(name, params, True), update)


def value_and_grad_from_state(value_fn: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Return a function ``(params, *args, state, **kwargs) → (value, grad)`` that looks them up in the state if it can.

    A line search ends with the loss and its gradient at the new parameters, so the next update need not compute them.
    """

    def value_and_grad_fn(params: Any, *args: Any, state: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, gradient = get(state, "value"), get(state, "grad")
        if value is None or gradient is None:
            raise ArgumentError(
                "value_and_grad_from_state: the state holds no value and gradient",
                fix="give the state of lbfgs or of a line search; for backtracking, store_grad=True",
            )
        known, current = jnp.isfinite(value), value_and_grad(value_fn)
        compute = lambda: cast_like(current(params, *args, **kwargs), (value, gradient))  # noqa: E731
        return lax.cond(known, lambda: (value, gradient), compute)

    return value_and_grad_fn
