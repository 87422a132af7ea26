"""Transformations that scale the updates: by a number, a schedule, or norms of updates and parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    EmptyState,
    Optimizer,
    Schedule,
    abs_sq,
    as_schedule,
    check_state,
    global_norm,
    identity,
    increment,
    numbers,
    stateless,
    stateless_leafwise,
    value_at,
    zero_count,
)


class ScaleByScheduleState(NamedTuple):
    """The number of updates so far."""

    count: Any


def scale(step_size: Any) -> Optimizer:
    """Multiply the updates by a number: step_size·g."""
    numbers("scale", step_size=step_size)
    return stateless_leafwise("scale", lambda g: step_size * g)


def scale_by_schedule(step_size_fn: Schedule) -> Optimizer:
    """Multiply the updates by the value of a schedule."""
    name = "scale_by_schedule"

    def update(updates: Any, state: ScaleByScheduleState, params: Any = None, **_: Any) -> tuple[Any, Any]:
        check_state(name, state, ScaleByScheduleState)
        factor = value_at(step_size_fn, state.count)
        scaled = tree.map(lambda g: jnp.asarray(factor, jnp.result_type(g)) * g, updates)
        return scaled, ScaleByScheduleState(increment(state.count))

    return Optimizer(lambda params: ScaleByScheduleState(zero_count()), update)


def scale_by_learning_rate(learning_rate: float | Schedule | None, *, flip_sign: bool = True) -> Optimizer:
    """Multiply the updates by the negative learning rate, −η·g; η is a number or a schedule, or None for no scaling.

    `flip_sign=False`: by the learning rate.
    """
    if learning_rate is None:
        return identity()
    rate, sign = as_schedule(learning_rate, "learning_rate", "scale_by_learning_rate"), -1 if flip_sign else 1
    return scale_by_schedule(lambda count: sign * rate(count)) if callable(rate) else scale(sign * rate)


def scale_per_leaf(factors: Any) -> Optimizer:
    """Multiply each update by its own factor, for learning rates of layers: a pytree of numbers, or a prefix of one.

    >>> optimizer = scale_per_leaf({"head": 1.0, "body": 0.1})
    >>> updates = {"head": jnp.ones(2), "body": [jnp.ones(2), jnp.ones(1)]}
    >>> optimizer.update(updates, optimizer.init(updates))[0]["body"][1]
    Array([0.1], dtype=float32)
    """
    leaves, treedef = tree.flatten(factors)
    numbers("scale_per_leaf", **{tree.keystr(path): x for path, x in tree.leaves_with_path(factors)})

    def update(updates: Any, params: Any) -> Any:
        parts = tree.subtrees("scale_per_leaf", treedef, updates, "factors", "updates")
        scaled = [
            tree.map(lambda g, f=f: jnp.asarray(f, jnp.result_type(g)) * g, x)
            for f, x in zip(leaves, parts, strict=True)
        ]
        return treedef.unflatten(scaled)

    return stateless(update)


def _norm(x: Any) -> Any:
    return jnp.sqrt(jnp.sum(abs_sq(x)))


def _rms(x: Any) -> Any:
    return jnp.sqrt(jnp.mean(abs_sq(x)))


def scale_by_param_block_norm(min_scale: float = 1e-3) -> Optimizer:
    """Multiply the update of each leaf by the norm of its parameter, at least min_scale: g·max(‖θ‖, min_scale)."""
    numbers("scale_by_param_block_norm", min_scale=min_scale)
    rule = lambda g, p: g * jnp.maximum(_norm(p), min_scale)  # noqa: E731
    return stateless_leafwise("scale_by_param_block_norm", rule, needs_params=True)


def scale_by_param_block_rms(min_scale: float = 1e-3) -> Optimizer:
    """Multiply the update of each leaf by the root mean square of its parameter, at least min_scale."""
    numbers("scale_by_param_block_rms", min_scale=min_scale)
    rule = lambda g, p: g * jnp.maximum(_rms(p), min_scale)  # noqa: E731
    return stateless_leafwise("scale_by_param_block_rms", rule, needs_params=True)


def scale_by_trust_ratio(min_norm: float = 0.0, trust_coefficient: float = 1.0, eps: float = 0.0) -> Optimizer:
    """Multiply the update of each leaf by trust_coefficient·‖θ‖ / (‖g‖ + eps), or by 1 where a norm is 0.

    Norms are at least min_norm.

    Source: You, Gitman, Ginsburg, "Large batch training of convolutional networks", 2017.
    """
    numbers("scale_by_trust_ratio", min_norm=min_norm, trust_coefficient=trust_coefficient, eps=eps)

    def rule(g: Any, p: Any) -> Any:
        of_param, of_update = jnp.maximum(_norm(p), min_norm), jnp.maximum(_norm(g), min_norm)
        zero = (of_param == 0) | (of_update == 0)
        ratio = trust_coefficient * of_param / jnp.where(zero, 1, of_update + eps)
        return g * jnp.where(zero, 1, ratio)

    return stateless_leafwise("scale_by_trust_ratio", rule, needs_params=True)


def normalize_by_update_norm(scale_factor: float = 1.0, eps: float = 1e-6) -> Optimizer:
    """Divide the updates by their global norm: scale_factor·g / (‖g‖ + eps)."""
    numbers("normalize_by_update_norm", scale_factor=scale_factor, eps=eps)

    def update(updates: Any, params: Any) -> Any:
        factor = scale_factor / (global_norm(updates) + eps)
        return tree.map(lambda g: g * factor.astype(jnp.result_type(g)), updates)

    return stateless(update)


def normalize() -> Optimizer:
    """Divide the updates by their global norm, as the ascent step of SAM does."""
    return normalize_by_update_norm(eps=0.0)


def centralize() -> Optimizer:
    """Subtract from each leaf its mean over all axes but the first; vectors and scalars stay.

    Source: Yong et al., "Gradient centralization: a new optimization technique for deep neural networks", 2020.
    """

    def rule(g: Any) -> Any:
        return g - jnp.mean(g, axis=range(1, g.ndim), keepdims=True) if g.ndim > 1 else g

    return stateless_leafwise("centralize", rule)


def scale_by_polyak(
    f_min: float = 0.0, max_learning_rate: float = 1.0, eps: float = 0.0, variant: str = "sps"
) -> Optimizer:
    """Multiply the updates by Polyak's step size min((f − f_min) / (‖g‖² + eps), max_learning_rate).

    `update` needs `value=f`, the loss at the parameters. The step size is 0 where g = 0. With `variant="sps+"`,
    the gap f − f_min is at least 0.

    Source: Loizou et al., "Stochastic Polyak step-size for SGD: an adaptive learning rate for fast convergence", 2021.
    """
    numbers("scale_by_polyak", f_min=f_min, max_learning_rate=max_learning_rate, eps=eps)
    if variant not in ("sps", "sps+"):
        raise ArgumentError(f"scale_by_polyak: variant is {variant!r}", fix="give 'sps' or 'sps+'")

    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **_: Any) -> tuple[Any, Any]:
        gap = require_value("scale_by_polyak", value) - f_min
        square = jnp.square(global_norm(updates)) + eps
        zero = square <= jnp.finfo(square.dtype).eps
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        rate = jnp.where(zero, 0, jnp.minimum(gap / jnp.where(zero, 1, square), max_learning_rate))
        return tree.map(lambda g: g * rate.astype(jnp.result_type(g)), updates), state

    return Optimizer(lambda params: EmptyState(), update)


def require_value(name: str, value: Any) -> Any:
    """Return the value of the loss; raise if there is none."""
    if value is None:
        raise ArgumentError(f"{name}: update needs the value of the loss", fix="call update(..., value=loss)")
    return jnp.asarray(value)
