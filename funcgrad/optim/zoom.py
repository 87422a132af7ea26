"""The search for a step size that satisfies the strong Wolfe conditions.

φ(s) is a function of a number, the step size, and φ′ its slope. An interval that contains a good step size is found
first, and divided then.

Sources: Nocedal, Wright, "Numerical optimization", 2nd edition, 2006, algorithms 3.5 and 3.6; Hager, Zhang, "Algorithm
851: CG_DESCENT, a conjugate gradient method with guaranteed descent", 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.optim.tree import where


class Point(NamedTuple):
    """A step size s, φ(s) and φ′(s)."""

    step: Any
    value: Any
    slope: Any


class Search(NamedTuple):
    """The state of the search: the last point, the interval, a third point for the cubic, the best safe point."""

    count: Any
    last: Point
    low: Point
    high: Point
    third: Point
    safe: Point
    grad: Any
    safe_grad: Any
    errors: tuple[Any, Any]
    bracketed: Any
    done: Any
    failed: Any


class Zoom(NamedTuple):
    """The options of a search; see `scale_by_zoom_linesearch`."""

    max_linesearch_steps: int
    max_learning_rate: float | None
    tol: float
    increase_factor: float
    slope_rtol: float
    curv_rtol: float
    approx_dec_rtol: float | None
    stepsize_precision: float

    def run(self, at: Callable[[Any], tuple[Point, Any]], start: Point, grad: Any, guess: Any) -> Search:
        """Search from a first guess. `at(s)` returns the point of a step size, and the gradient there."""

        def body(z: Search) -> Search:
            extended, largest = self.extend(z, guess)
            step = jnp.where(z.bracketed, _inside(z.low, z.high, z.third), extended).astype(start.step.dtype)
            point, new = at(step)
            errors = self.errors_of(point, start)
            return where(z.bracketed, self.shrink(z, point, new, errors), self.bracket(z, point, new, errors, largest))

        infinite, no = jnp.full_like(start.value, jnp.inf), jnp.asarray(False)
        errors = (infinite, infinite)
        first = Search(jnp.zeros((), "int32"), start, start, start, start, start, grad, grad, errors, no, no, no)
        return lax.while_loop(lambda z: ~(z.done | z.failed), body, first)

    def errors_of(self, point: Point, start: Point) -> tuple[Any, Any]:
        """By how much the conditions of decrease and of curvature are not satisfied."""
        gain = point.value - start.value
        decrease = gain - self.slope_rtol * point.step * start.slope
        if self.approx_dec_rtol is not None:
            near = gain - self.approx_dec_rtol * jnp.abs(start.value)
            decrease = jnp.minimum(decrease, jnp.maximum(point.slope - (2 * self.slope_rtol - 1) * start.slope, near))
        curvature = jnp.abs(point.slope) - self.curv_rtol * jnp.abs(start.slope)
        clipped = lambda e: jnp.where(jnp.isnan(e), jnp.inf, jnp.maximum(e, 0)).astype(point.value.dtype)  # noqa: E731
        return clipped(decrease), clipped(curvature)

    def extend(self, z: Search, guess: Any) -> tuple[Any, Any]:
        """The next step size before an interval is found, and whether it is the largest."""
        step = jnp.where(z.count == 0, guess, self.increase_factor * z.last.step).astype(guess.dtype)
        if self.max_learning_rate is None:
            return step, jnp.asarray(False)
        return jnp.minimum(step, self.max_learning_rate), step >= self.max_learning_rate

    def bracket(self, z: Search, point: Point, grad: Any, errors: Any, largest: Any) -> Search:
        """Replace the interval by that between the last point and the new one."""
        decrease, error = errors[0], jnp.maximum(*errors)
        safe = where(decrease <= self.tol, (point, grad), (z.safe, z.safe_grad))
        to_high = (decrease > 0) | ((point.value >= z.last.value) & (z.count > 0))
        to_low = (point.slope >= 0) & ~to_high
        low, high = where(to_low, (point, z.last), (z.last, point))
        found = to_high | to_low | (error <= self.tol)
        done = (error <= self.tol) | (largest & ~found)
        failed = (z.count + 1 >= self.max_linesearch_steps) & ~done
        return Search(z.count + 1, point, low, high, low, safe[0], grad, safe[1], errors, found, done, failed)

    def shrink(self, z: Search, point: Point, grad: Any, errors: Any) -> Search:
        """Replace an end of the interval by the new point, which is inside."""
        decrease, error = errors[0], jnp.maximum(*errors)
        better = (decrease <= self.tol) & (point.value < z.safe.value)
        safe = where(better, (point, grad), (z.safe, z.safe_grad))
        to_high = (decrease > 0) | (point.value >= z.low.value)
        flip = (point.slope * (z.high.step - z.low.step) >= 0) & ~to_high
        high = where(to_high, point, where(flip, z.low, z.high))
        low = where(to_high, z.low, point)
        third = where(to_high | flip, z.high, z.low)
        done = error <= self.tol
        small = jnp.abs(z.high.step - z.low.step) <= self.stepsize_precision
        failed = ((z.count + 1 >= self.max_linesearch_steps) | (small & (safe[0].step > 0))) & ~done
        return Search(z.count + 1, point, low, high, third, safe[0], grad, safe[1], errors, z.bracketed, done, failed)


def _inside(low: Point, high: Point, third: Point) -> Any:
    """The minimum of a cubic through the three points, of a parabola through two, or the middle of the interval."""
    width = jnp.abs(high.step - low.step)
    left, right = jnp.minimum(high.step, low.step), jnp.maximum(high.step, low.step)
    cubic, parabola = _cubic_minimum(low, high, third), _quadratic_minimum(low, high)
    use_cubic = (cubic > left + 0.2 * width) & (cubic < right - 0.2 * width)
    use_parabola = (parabola > left + 0.1 * width) & (parabola < right - 0.1 * width)
    return jnp.where(use_cubic, cubic, jnp.where(use_parabola, parabola, (low.step + high.step) / 2))


def _cubic_minimum(a: Point, b: Point, c: Point) -> Any:
    """The minimum of A·x³ + B·x² + a.slope·x + a.value with x = s − a.step, through b and c; NaN if there is none."""
    db, dc = b.step - a.step, c.step - a.step
    rb, rc = b.value - a.value - a.slope * db, c.value - a.value - a.slope * dc
    scale = (db * dc) ** 2 * (db - dc)
    cubic, square = (dc**2 * rb - db**2 * rc) / scale, (db**3 * rc - dc**3 * rb) / scale
    return a.step + (-square + jnp.sqrt(square * square - 3 * cubic * a.slope)) / (3 * cubic)


def _quadratic_minimum(a: Point, b: Point) -> Any:
    """The minimum of the parabola through a, with its slope there, and b."""
    d = b.step - a.step
    return a.step - a.slope * d**2 / (2 * (b.value - a.value - a.slope * d))
