"""Schedules: functions from the number n of updates so far to a value, usually a learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import Schedule


def _progress(count: Any, steps: int) -> Any:
    """n / steps, at most 1."""
    if steps < 1:
        raise ArgumentError(f"a schedule over {steps} steps", fix="it needs at least 1")
    return jnp.clip(jnp.asarray(count) / steps, 0, 1)


def constant(value: float) -> Schedule:
    """value."""
    return lambda count: value


def linear(start: float, end: float, steps: int) -> Schedule:
    """From start to end in a straight line over `steps` updates, then end.

    >>> float(linear(0.0, 1.0, 4)(1))
    0.25
    """
    return lambda count: start + (end - start) * _progress(count, steps)


def exponential(
    start: float, steps: int, rate: float, *, staircase: bool = False, end: float | None = None
) -> Schedule:
    """start·rate^(n / steps), n / steps rounded down with `staircase`; not beyond `end`."""

    def schedule(count: Any) -> Any:
        exponent = jnp.asarray(count) / steps
        value = start * rate ** (jnp.floor(exponent) if staircase else exponent)
        return value if end is None else (jnp.maximum if rate < 1 else jnp.minimum)(value, end)

    return schedule


def cosine(start: float, steps: int, alpha: float = 0.0) -> Schedule:
    """From start to alpha·start along half a cosine over `steps` updates.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2016.
    """

    def schedule(count: Any) -> Any:
        return start * ((1 - alpha) * 0.5 * (1 + jnp.cos(math.pi * _progress(count, steps))) + alpha)

    return schedule


def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """schedules[i] from update boundaries[i − 1] on, counting from there."""
    if len(schedules) != len(boundaries) + 1:
        raise ArgumentError(
            f"join: {len(schedules)} schedules and {len(boundaries)} boundaries",
            fix="give one boundary between each two",
        )

    def schedule(count: Any) -> Any:
        value = schedules[0](count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            value = jnp.where(jnp.asarray(count) < boundary, value, following(count - boundary))
        return value

    return schedule


def warmup_cosine(peak: float, warmup: int, steps: int, *, start: float = 0.0, end: float = 0.0) -> Schedule:
    """From start to peak in a straight line over `warmup` updates, then along half a cosine to end at `steps`."""
    decay = cosine(peak, steps - warmup, end / peak)
    return join([linear(start, peak, warmup), decay], [warmup]) if warmup else decay
