"""Line search for the strong Wolfe conditions, one evaluation of the function per step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp

C1, C2 = 1e-4, 0.9  # sufficient decrease, curvature
ZOOM_STEPS = 30


class Point(NamedTuple):
    """A step size, the value of the function there, and its derivative along the search direction."""

    step: Any
    value: Any
    slope: Any


class Search(NamedTuple):
    """The state of a search: minima are between `low` and `high`, or beyond `low` while the step of `high` is infinite.

    `low` is the best point so far, `previous` the last one that an end of the interval was replaced by.
    """

    start: Point
    low: Point
    high: Point
    previous: Point
    first_step: Any
    doublings: Any
    zooms: Any


def start_search(value: Any, slope: Any, first_step: Any) -> Search:
    """Return the state before the first evaluation, given value and slope at step 0."""
    start = Point(jnp.zeros_like(value), value, slope)
    nowhere = Point(jnp.full_like(value, np.inf), *[jnp.full_like(value, np.nan)] * 2)
    zero = jnp.zeros((), "int32")
    return Search(start, start, nowhere, nowhere, first_step, zero, zero)


def next_step(search: Search) -> Any:
    """Return the step to try next: double the last one, or interpolate between the ends of the interval."""
    low, high, previous = search.low, search.high, search.previous
    doubled = jnp.where(low.step > 0, 2 * low.step, search.first_step)
    least, most = jnp.minimum(low.step, high.step), jnp.maximum(low.step, high.step)
    step, width = (low.step + high.step) / 2, most - least
    for candidate, margin in ((_quadratic(low, high), 0.1), (_cubic(low, high, previous), 0.2)):
        inside = (candidate > least + margin * width) & (candidate < most - margin * width)
        step = jnp.where(inside, candidate, step)
    return jnp.where(jnp.isinf(high.step), doubled, step)


def _quadratic(low: Point, high: Point) -> Any:
    """The minimum of the parabola with the value and slope of `low`, and the value of `high`."""
    d = high.step - low.step
    curvature = (high.value - low.value - low.slope * d) / (d * d)
    return low.step - low.slope / (2 * curvature)


def _cubic(low: Point, high: Point, previous: Point) -> Any:
    """The minimum of the cubic with the value and slope of `low`, and the values of `high` and `previous`."""
    d, e = high.step - low.step, previous.step - low.step
    f, g = high.value - low.value - low.slope * d, previous.value - low.value - low.slope * e
    scale = (d * e) ** 2 * (d - e)
    a, b = (e * e * f - d * d * g) / scale, (d**3 * g - e**3 * f) / scale
    return low.step + (jnp.sqrt(b * b - 3 * a * low.slope) - b) / (3 * a)


def advance(search: Search, point: Point) -> tuple[Search, Any]:
    """Return the state after an evaluation, and whether the point satisfies the strong Wolfe conditions.

    With f(a) the value and f'(a) the slope at step a, they are f(a) ≤ f(0) + C1 a f'(0) and |f'(a)| ≤ C2 |f'(0)|. A
    point whose value is NaN is not better than any other.

    Source: Nocedal, Wright, "Numerical optimization", 2nd edition, algorithms 3.5 and 3.6.
    """
    start, low, high = search.start, search.low, search.high
    better = (point.value <= start.value + C1 * point.step * start.slope) & (
        (point.value < low.value) | (low.step == 0)
    )
    done = better & (jnp.abs(point.slope) <= -C2 * start.slope)
    # The slope at the new low end points into the interval; if not, the old low end is the other end.
    turned = better & (point.slope * jnp.where(high.step > low.step, 1, -1) >= 0)

    def choose(condition: Any, a: Point, b: Point) -> Point:
        return Point(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))

    zooming = jnp.isfinite(high.step)
    return search._replace(
        low=choose(better, point, low),
        high=choose(better, choose(turned, low, high), point),
        previous=choose(better & ~turned, low, high),
        doublings=search.doublings + ~zooming,
        zooms=search.zooms + zooming,
    ), done


def status_of(search: Search, max_doublings: Any) -> Any:
    """Return 0 while the search can go on, 1 where the interval is too small or was divided too often, 3 where there
    is none after `max_doublings` steps.
    """
    width = jnp.abs(search.high.step - search.low.step)
    smallest = 1e-5 if jnp.finfo(width.dtype).bits < 64 else 1e-10
    failed = (width <= smallest) | (search.zooms >= ZOOM_STEPS)
    return jnp.where(failed, 1, jnp.where(jnp.isinf(search.high.step) & (search.doublings >= max_doublings), 3, 0))
