"""Schedules: functions from the number n of updates so far to a value, such as a learning rate.

Names, arguments and values are those of optax, except where a docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_number
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import Schedule, as_schedule, numbers, value_at


def constant_schedule(value: float) -> Schedule:
    """The same value for every update."""
    numbers("constant_schedule", value=value)
    return lambda count: value


def polynomial_schedule(
    init_value: float, end_value: float, power: float, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """end + (init − end)·(1 − p)^power, where p goes from 0 to 1 in transition_steps updates after transition_begin.

    >>> schedule = polynomial_schedule(1.0, 0.0, 2, 4)
    >>> [float(schedule(n)) for n in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    name = "polynomial_schedule"
    numbers(name, init_value=init_value, end_value=end_value, power=power)
    numbers(name, transition_steps=transition_steps, transition_begin=transition_begin)

    def schedule(count: Any) -> Any:
        rest = 1 - jnp.clip(jnp.asarray(count) - transition_begin, 0, transition_steps) / transition_steps
        return (init_value - end_value) * (rest if power == 1 else rest**power) + end_value

    return schedule


def linear_schedule(init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0) -> Schedule:
    """Linear interpolation from init_value to end_value over transition_steps updates, then end_value.

    >>> float(linear_schedule(0.0, 1.0, 4)(1))
    0.25
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """init·rate^p, where p = (n − transition_begin) / transition_steps, rounded down if `staircase`.

    The value is init_value until transition_begin, and stops at end_value.
    """
    name = "exponential_decay"
    numbers(name, init_value=init_value, decay_rate=decay_rate, end_value=0 if end_value is None else end_value)
    numbers(name, transition_steps=transition_steps, transition_begin=transition_begin)

    def schedule(count: Any) -> Any:
        passed = jnp.maximum(jnp.asarray(count) - transition_begin, 0) / transition_steps
        value = init_value * decay_rate ** (jnp.floor(passed) if staircase else passed)
        return value if end_value is None else (jnp.maximum if decay_rate < 1 else jnp.minimum)(value, end_value)

    return schedule


def step_schedule(init_value: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """init·gamma^⌊n / step_size⌋, as `torch.optim.lr_scheduler.StepLR`. optax: `exponential_decay(staircase=True)`.

    >>> [round(float(step_schedule(1.0, 2)(n)), 2) for n in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    return exponential_decay(init_value, step_size, gamma, staircase=True)


def multi_step_schedule(init_value: float, milestones: Iterable[int], gamma: float = 0.1) -> Schedule:
    """Multiply by gamma at each milestone, as `torch.optim.lr_scheduler.MultiStepLR`."""
    return piecewise_constant_schedule(init_value, dict.fromkeys(milestones, gamma))


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """init_value, multiplied by each scale from its boundary on.

    >>> schedule = piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.1})
    >>> [round(float(schedule(n)), 2) for n in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.05, 0.05]
    """
    scales = _scales("piecewise_constant_schedule", init_value, boundaries_and_scales)

    def schedule(count: Any) -> Any:
        value = init_value
        for boundary, scale in scales:
            value = jnp.where(jnp.asarray(count) < boundary, value, value * scale)
        return value

    return schedule


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """Values init, init·scale₀, init·scale₀·scale₁, … at 0 and the boundaries; "linear" or "cosine" in between."""
    name = "piecewise_interpolate_schedule"
    if interpolate_type not in ("linear", "cosine"):
        raise ArgumentError(f"{name}: interpolate_type is {interpolate_type!r}", fix="give 'linear' or 'cosine'")
    segments, start, value = [], 0, init_value
    for boundary, scale in _scales(name, init_value, boundaries_and_scales):
        segments.append((start, boundary, value, value * scale))
        start, value = boundary, value * scale

    def schedule(count: Any) -> Any:
        n, result = jnp.asarray(count), value
        for begin, end, first, last in reversed(segments):
            passed = (n - begin) / max(end - begin, 1)
            weight = passed if interpolate_type == "linear" else 0.5 * (1 - jnp.cos(math.pi * passed))
            result = jnp.where(n < end, first + (last - first) * weight, result)
        return result

    return schedule


def _scales(name: str, init_value: float, boundaries_and_scales: Mapping[int, float] | None) -> list[tuple[int, float]]:
    """The (boundary, scale) pairs in order."""
    numbers(name, init_value=init_value)
    pairs = sorted((boundaries_and_scales or {}).items())
    for boundary, scale in pairs:
        as_number(scale, f"the scale at {boundary}", name, "[0, inf)")
    return pairs


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> Schedule:
    """init·((1 − alpha)·c^exponent + alpha), where c = ½(1 + cos(πn / decay_steps)), and n stops at decay_steps.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2016.
    """
    name = "cosine_decay_schedule"
    numbers(name, init_value=init_value, decay_steps=decay_steps, alpha=alpha, exponent=exponent)
    return _cosine_decay(init_value, alpha * init_value, decay_steps, exponent)


def _cosine_decay(start: Any, end: Any, steps: float, exponent: float) -> Schedule:
    def schedule(count: Any) -> Any:
        fall = 0.5 * (1 + jnp.cos(math.pi * (jnp.minimum(jnp.asarray(count), float(steps)) / steps)))
        return end + (start - end) * (fall if exponent == 1 else fall**exponent)

    return schedule


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """One cycle: up to peak_value, back to peak / div_factor, then down by final_div_factor, each linear.

    Source: Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2017.
    """
    numbers("linear_onecycle_schedule", transition_steps=transition_steps, peak_value=peak_value)
    scales = {
        int(pct_start * transition_steps): div_factor,
        int(pct_final * transition_steps): 1 / div_factor,
        transition_steps: 1 / final_div_factor,
    }
    return piecewise_interpolate_schedule("linear", peak_value / div_factor, scales)


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """One cycle: up to peak_value, then down to peak / (div_factor·final_div_factor), each half a cosine.

    PyTorch's OneCycleLR ends at peak / (div_factor·final_div_factor) too, one update earlier.

    Source: Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2017.
    """
    numbers("cosine_onecycle_schedule", transition_steps=transition_steps, peak_value=peak_value)
    scales = {int(pct_start * transition_steps): div_factor, transition_steps: 1 / (div_factor * final_div_factor)}
    return piecewise_interpolate_schedule("cosine", peak_value / div_factor, scales)


def join_schedules(schedules: Sequence[float | Schedule], boundaries: Sequence[int]) -> Schedule:
    """Use schedules[i] from update boundaries[i − 1] on, counting from there. Numbers are constant schedules."""
    parts = [as_schedule(schedule, f"schedule {i}", "join_schedules") for i, schedule in enumerate(schedules)]
    if len(parts) != len(boundaries) + 1:
        raise ArgumentError(
            f"join_schedules: {len(parts)} schedules and {len(boundaries)} boundaries",
            fix="pass one boundary between each two schedules",
        )
    if list(boundaries) != sorted(set(boundaries)):
        raise ArgumentError(
            f"join_schedules: boundaries {list(boundaries)} do not increase", fix="sort them, and remove duplicates"
        )

    def schedule(count: Any) -> Any:
        value = value_at(parts[0], count)
        for boundary, following in zip(boundaries, parts[1:], strict=True):
            value = jnp.where(jnp.asarray(count) < boundary, value, value_at(following, count - boundary))
        return value

    return schedule


def _after_warmup(init_value: float, peak_value: float, warmup_steps: int, decay: Schedule) -> Schedule:
    as_number(warmup_steps, "warmup_steps", "warmup", "[0, inf)")
    if not warmup_steps:
        return decay
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps])


def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> Schedule:
    """Linear warmup from init_value to peak_value over warmup_steps updates, then peak_value."""
    return _after_warmup(init_value, peak_value, warmup_steps, constant_schedule(peak_value))


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """Linear warmup to peak_value, then cosine decay to end_value at update decay_steps, which includes the warmup."""
    numbers("warmup_cosine_decay_schedule", init_value=init_value, peak_value=peak_value, decay_steps=decay_steps)
    if not 0 <= warmup_steps < decay_steps:
        raise ArgumentError(
            f"warmup_cosine_decay_schedule: warmup_steps={warmup_steps} of decay_steps={decay_steps}",
            fix="decay_steps includes the warmup: give more of them",
        )
    decay = _cosine_decay(peak_value, end_value, decay_steps - warmup_steps, exponent)
    return _after_warmup(init_value, peak_value, warmup_steps, decay)


def warmup_exponential_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """Linear warmup to peak_value over warmup_steps updates, then `exponential_decay` from there."""
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return _after_warmup(init_value, peak_value, warmup_steps, decay)


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """SGDR, cosine decay with warm restarts: one `warmup_cosine_decay_schedule` after the other, given their arguments.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2016.
    """
    cycles = [dict(kwargs) for kwargs in cosine_kwargs]
    ends = [sum(cycle["decay_steps"] for cycle in cycles[: i + 1]) for i in range(len(cycles))]
    return join_schedules([warmup_cosine_decay_schedule(**cycle) for cycle in cycles], ends[:-1])
