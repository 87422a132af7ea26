"""Schedules: functions from the number n of updates so far to a value, such as a learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_number
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import Schedule, as_schedule, value_at


def _numbers(schedule: str, steps: Any = 1, **values: Any) -> None:
    """Raise unless the values of a schedule are numbers and `steps` is positive."""
    for what, value in values.items():
        as_number(value, what, schedule)
    as_number(steps, "steps", schedule, "(0, inf)")


def _progress(count: Any, steps: float) -> Any:
    """n / steps, at most 1."""
    return jnp.clip(jnp.asarray(count) / steps, 0, 1)


def constant(value: float) -> Schedule:
    """The same value for every update."""
    _numbers("constant", value=value)
    return lambda count: value


def linear(start: float, end: float, steps: int) -> Schedule:
    """Linear interpolation from start to end over `steps` updates, then end.

    >>> float(linear(0.0, 1.0, 4)(1))
    0.25
    """
    _numbers("linear", steps, start=start, end=end)
    return lambda count: start + (end - start) * _progress(count, steps)


def exponential(
    start: float, steps: int, rate: float, *, staircase: bool = False, end: float | None = None
) -> Schedule:
    """start·rate^(n / steps), with n / steps rounded down if `staircase`. The value stops at `end`."""
    _numbers("exponential", steps, start=start, rate=rate, end=start if end is None else end)

    def schedule(count: Any) -> Any:
        exponent = jnp.asarray(count) / steps
        value = start * rate ** (jnp.floor(exponent) if staircase else exponent)
        return value if end is None else (jnp.maximum if rate < 1 else jnp.minimum)(value, end)

    return schedule


def cosine(start: float, steps: int, alpha: float = 0.0) -> Schedule:
    """Cosine decay from start to alpha·start over `steps` updates.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2016.
    """
    _numbers("cosine", steps, start=start, alpha=alpha)
    return _half_cosine(start, alpha * start, steps)


def _half_cosine(start: Any, end: Any, steps: float) -> Schedule:
    def schedule(count: Any) -> Any:
        return end + (start - end) * (0.5 * (1 + jnp.cos(math.pi * _progress(count, steps))))

    return schedule


def join(schedules: Sequence[float | Schedule], boundaries: Sequence[int]) -> Schedule:
    """Use schedules[i] from update boundaries[i − 1] on, counting from there. Numbers are constant schedules."""
    parts = [as_schedule(schedule, f"schedule {i}", "join") for i, schedule in enumerate(schedules)]
    if len(parts) != len(boundaries) + 1:
        raise ArgumentError(
            f"join: {len(parts)} schedules and {len(boundaries)} boundaries",
            fix="pass one boundary between each two schedules",
        )
    if list(boundaries) != sorted(set(boundaries)):
        raise ArgumentError(
            f"join: boundaries {list(boundaries)} do not increase", fix="sort them, and remove duplicates"
        )

    def schedule(count: Any) -> Any:
        value = value_at(parts[0], count)
        for boundary, following in zip(boundaries, parts[1:], strict=True):
            value = jnp.where(jnp.asarray(count) < boundary, value, value_at(following, count - boundary))
        return value

    return schedule


def warmup_cosine(peak: float, warmup: int, steps: int, *, start: float = 0.0, end: float = 0.0) -> Schedule:
    """Linear warmup from start to peak over `warmup` updates, then cosine decay to end at update `steps`."""
    _numbers("warmup_cosine", steps, peak=peak, warmup=warmup, start=start, end=end)
    if not 0 <= warmup < steps:
        raise ArgumentError(f"warmup_cosine: warmup={warmup} of steps={steps}", fix="steps includes the warmup")
    decay = _half_cosine(peak, end, steps - warmup)
    return join([linear(start, peak, warmup), decay], [warmup]) if warmup else decay
