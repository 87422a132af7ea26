"""Line searches along the updates: backtracking, and zoom, which satisfies the strong Wolfe conditions.

φ(s) = f(θ + s·u) is the loss along the updates u, and φ′ its slope.
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


class _Point(NamedTuple):
    """A step size s, φ(s) and φ′(s)."""

    step: Any
    value: Any
    slope: Any


class _Zoom(NamedTuple):
    """The state of the search: the last point, the interval, a third point for the cubic, the best safe point."""

    count: Any
    last: _Point
    low: _Point
    high: _Point
    third: _Point
    safe: _Point
    grad: Any
    safe_grad: Any
    errors: tuple[Any, Any]
    bracketed: Any
    done: Any
    failed: Any


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

    def errors_of(point: _Point, start: _Point) -> tuple[Any, Any]:
        """By how much the conditions of decrease and of curvature are not satisfied."""
        gain = point.value - start.value
        decrease = gain - slope_rtol * point.step * start.slope
        if approx_dec_rtol is not None:
            near = gain - approx_dec_rtol * jnp.abs(start.value)
            decrease = jnp.minimum(decrease, jnp.maximum(point.slope - (2 * slope_rtol - 1) * start.slope, near))
        curvature = jnp.abs(point.slope) - curv_rtol * jnp.abs(start.slope)
        clipped = lambda e: jnp.where(jnp.isnan(e), jnp.inf, jnp.maximum(e, 0)).astype(point.value.dtype)  # noqa: E731
        return clipped(decrease), clipped(curvature)

    def extend(z: _Zoom, guess: Any) -> tuple[Any, Any]:
        """The next step size before an interval is found, and whether it is the largest."""
        step = jnp.where(z.count == 0, guess, increase_factor * z.last.step).astype(guess.dtype)
        if max_learning_rate is None:
            return step, jnp.asarray(False)
        return jnp.minimum(step, max_learning_rate), step >= max_learning_rate

    def bracket(z: _Zoom, point: _Point, grad: Any, errors: Any, start: _Point, largest: Any) -> _Zoom:
        """Replace the interval by that between the last point and the new one."""
        decrease, error = errors[0], jnp.maximum(*errors)
        safe = where(decrease <= tol, (point, grad), (z.safe, z.safe_grad))
        to_high = (decrease > 0) | ((point.value >= z.last.value) & (z.count > 0))
        to_low = (point.slope >= 0) & ~to_high
        low, high = where(to_low, (point, z.last), (z.last, point))
        found = to_high | to_low | (error <= tol)
        done = (error <= tol) | (largest & ~found)
        failed = (z.count + 1 >= max_linesearch_steps) & ~done
        return _Zoom(z.count + 1, point, low, high, low, safe[0], grad, safe[1], errors, found, done, failed)

    def shrink(z: _Zoom, point: _Point, grad: Any, errors: Any) -> _Zoom:
        """Replace an end of the interval by the new point, which is inside."""
        decrease, error = errors[0], jnp.maximum(*errors)
        better = (decrease <= tol) & (point.value < z.safe.value)
        safe = where(better, (point, grad), (z.safe, z.safe_grad))
        to_high = (decrease > 0) | (point.value >= z.low.value)
        flip = (point.slope * (z.high.step - z.low.step) >= 0) & ~to_high
        high = where(to_high, point, where(flip, z.low, z.high))
        low = where(to_high, z.low, point)
        third = where(to_high | flip, z.high, z.low)
        done = error <= tol
        small = jnp.abs(z.high.step - z.low.step) <= stepsize_precision
        failed = ((z.count + 1 >= max_linesearch_steps) | (small & (safe[0].step > 0))) & ~done
        return _Zoom(z.count + 1, point, low, high, third, safe[0], grad, safe[1], errors, z.bracketed, done, failed)

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
        kind = state.value.dtype
        start = cast_like(_Point(0.0, value, _inner(updates, grad)), _Point(*[state.value] * 3))
        guess = jnp.ones_like(state.learning_rate) if initial_guess_strategy == "one" else state.learning_rate

        def body(z: _Zoom) -> _Zoom:
            extended, largest = extend(z, guess)
            step = jnp.where(z.bracketed, _inside(z.low, z.high, z.third), extended).astype(kind)
            new, gradient = both(add_scale(params, step, updates))
            gradient = cast_like(gradient, z.grad)
            point = cast_like(_Point(step, new, _inner(gradient, updates)), start)
            errors = errors_of(point, start)
            shrunk, bracketed = shrink(z, point, gradient, errors), bracket(z, point, gradient, errors, start, largest)
            return where(z.bracketed, shrunk, bracketed)

        infinite, no = jnp.full_like(state.value, jnp.inf), jnp.asarray(False)
        grad = cast_like(grad, state.grad)
        first = _Zoom(
            jnp.zeros((), "int32"),
            *[start] * 5,
            grad,
            grad,
            (infinite, infinite),
            no,
            no,
            no,
        )
        z = lax.while_loop(lambda z: ~(z.done | z.failed), body, first)
        fallback = z.failed & ((z.safe.step > 0) | jnp.isinf(z.errors[0]))
        final, gradient = where(fallback, (z.safe, z.safe_grad), (z.last, z.grad))
        info = LinesearchInfo(z.count, *z.errors)
        return scale(final.step, updates), ScaleByLinesearchState(final.step, final.value, gradient, info)

    return Optimizer(lambda params: _init(name, params, True), update)


def _inside(low: _Point, high: _Point, third: _Point) -> Any:
    """The minimum of a cubic through the three points, of a parabola through two, or the middle of the interval."""
    width = jnp.abs(high.step - low.step)
    left, right = jnp.minimum(high.step, low.step), jnp.maximum(high.step, low.step)
    cubic, parabola = _cubic_minimum(low, high, third), _quadratic_minimum(low, high)
    use_cubic = (cubic > left + 0.2 * width) & (cubic < right - 0.2 * width)
    use_parabola = (parabola > left + 0.1 * width) & (parabola < right - 0.1 * width)
    return jnp.where(use_cubic, cubic, jnp.where(use_parabola, parabola, (low.step + high.step) / 2))


def _cubic_minimum(a: _Point, b: _Point, c: _Point) -> Any:
    """The minimum of A·x³ + B·x² + a.slope·x + a.value with x = s − a.step, through b and c; NaN if there is none."""
    db, dc = b.step - a.step, c.step - a.step
    rb, rc = b.value - a.value - a.slope * db, c.value - a.value - a.slope * dc
    scale = (db * dc) ** 2 * (db - dc)
    cubic, square = (dc**2 * rb - db**2 * rc) / scale, (db**3 * rc - dc**3 * rb) / scale
    return a.step + (-square + jnp.sqrt(square * square - 3 * cubic * a.slope)) / (3 * cubic)


def _quadratic_minimum(a: _Point, b: _Point) -> Any:
    """The minimum of the parabola through a, with its slope there, and b."""
    d = b.step - a.step
    return a.step - a.slope * d**2 / (2 * (b.value - a.value - a.slope * d))


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
