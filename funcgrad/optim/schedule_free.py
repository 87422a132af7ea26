"""Schedule-free optimizers: averages of the iterates in place of a learning rate schedule.

Source: Defazio et al., "The road less scheduled", 2024.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.adaptive import scale_by_rms
from funcgrad.optim.base import (
    Optimizer,
    Schedule,
    apply_updates,
    as_schedule,
    check_params,
    check_state,
    each_leaf,
    increment,
    numbers,
    require_params,
    value_at,
    with_extra_args_support,
)
from funcgrad.optim.combine import chain
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.schedules import warmup_constant_schedule
from funcgrad.optim.steps import add_decayed_weights


class ScheduleFreeState(NamedTuple):
    """b1, the sum of weights, the number of the update, the largest learning rate, the inner state, the iterates z."""

    b1: Any
    weight_sum: Any
    step_count: Any
    max_lr: Any
    base_optimizer_state: Any
    z: Any


def schedule_free(
    base_optimizer: Optimizer,
    learning_rate: float | Schedule,
    b1: float = 0.9,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> Optimizer:
    """Average the iterates z of an optimizer: x ← (1 − c)x + cz, and gradients are taken at y = b₁x + (1 − b₁)z.

    The parameters are y; `schedule_free_eval_params` returns x, which is to be evaluated. The weight of an iterate is
    wₜ = max(η₁, …, ηₜ)^weight_lr_power, and c = wₜ / Σw. The base optimizer must use the same learning rate η and have
    no momentum of its own.

    Source: Defazio et al., "The road less scheduled", 2024.
    """
    learning_rate = as_schedule(learning_rate, "learning_rate", "schedule_free")
    numbers("schedule_free", b1=b1, weight_lr_power=weight_lr_power)
    if isinstance(b1, (int, float)) and b1 == 0:
        raise ArgumentError(
            "schedule_free: b1 is 0", fix="give a number in (0, 1): x is computed from y as (y − (1 − b1)z)/b1"
        )
    base = with_extra_args_support(base_optimizer)

    def init(params: Any) -> ScheduleFreeState:
        check_params("schedule_free", params)
        z = tree.map(lambda p: jnp.array(p, state_dtype), params)
        zero = jnp.zeros(())
        return ScheduleFreeState(jnp.asarray(b1, zero.dtype), zero, jnp.ones((), "int32"), zero, base.init(params), z)

    def update(updates: Any, state: ScheduleFreeState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_state("schedule_free", state, ScheduleFreeState)
        require_params("schedule_free", params)
        rate = jnp.asarray(value_at(learning_rate, state.step_count), state.max_lr.dtype)
        largest = jnp.maximum(state.max_lr, rate)
        weight = largest**weight_lr_power
        total = state.weight_sum + weight
        c = jnp.where(total == 0, 0, weight / jnp.where(total == 0, 1, total))
        steps, inner = base.update(updates, state.base_optimizer_state, params, **extra)
        z = apply_updates(state.z, steps)

        def moved(y: Any, old: Any, new: Any) -> Any:
            x = (1 - c) * _average(b1, y, old) + c * new
            return (b1 * x + (1 - b1) * new - y).astype(jnp.result_type(y))

        change = each_leaf("schedule_free", moved, params=params, z=state.z, new_z=z)
        return change, ScheduleFreeState(state.b1, total, increment(state.step_count), largest, inner, z)

    return Optimizer(init, update)


def _average(b1: Any, y: Any, z: Any) -> Any:
    """x, given y = b₁x + (1 − b₁)z."""
    return (y - (1 - b1) * z) / b1


def schedule_free_eval_params(state: ScheduleFreeState, params: Any) -> Any:
    """Return the averaged parameters x, to be evaluated in place of the parameters y that are trained.

    >>> from funcgrad import optim
    >>> optimizer = optim.schedule_free_sgd(0.5)
    >>> params = jnp.array([1.0])
    >>> updates, state = optimizer.update(params, optimizer.init(params), params)
    >>> schedule_free_eval_params(state, optim.apply_updates(params, updates))
    Array([0.5], dtype=float32)
    """
    check_state("schedule_free_eval_params", state, ScheduleFreeState)
    average = lambda y, z: _average(state.b1, y, z).astype(jnp.result_type(y))  # noqa: E731
    return each_leaf("schedule_free_eval_params", average, params=params, z=state.z)


def _warmed_up(learning_rate: Any, warmup_steps: int | None) -> Any:
    return learning_rate if warmup_steps is None else warmup_constant_schedule(0, learning_rate, warmup_steps)


def schedule_free_sgd(
    learning_rate: float = 1.0,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    weight_decay: float | None = None,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> Optimizer:
    """Schedule-free SGD: `schedule_free` of z ← z − η·(g + weight_decay·y).

    Source: Defazio et al., "The road less scheduled", 2024.
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    descent = scale_by_learning_rate(rate)
    base = descent if weight_decay is None else chain(add_decayed_weights(weight_decay), descent)
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)


def schedule_free_adamw(
    learning_rate: float = 0.0025,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> Optimizer:
    """Schedule-free AdamW: `schedule_free` of z ← z − η·(g / (√v̂ + eps) + weight_decay·y).

    Source: Defazio et al., "The road less scheduled", 2024.
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    scaling = scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    base = chain(scaling, add_decayed_weights(weight_decay), scale_by_learning_rate(rate))
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)
