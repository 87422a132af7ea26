"""The steps that optimizers consist of. g are the incoming updates, θ the parameters, and t = 1, 2, … the step."""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.arguments.axes import as_number
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    Optimizer,
    Schedule,
    as_schedule,
    check_state,
    each_leaf,
    global_norm,
    stateless,
    value_at,
    zeros_like_params,
)


def _zero_count() -> Any:
    return jnp.zeros((), "int32")


def scale(factor: Any) -> Optimizer:
    """Multiply the updates by a factor: factor·g."""
    as_number(factor, "factor", "scale")
    return stateless(lambda updates, params: tree.map(lambda g: factor * g, updates))


class CountState(NamedTuple):
    """The number of updates so far."""

    count: Any


def scale_by_learning_rate(learning_rate: float | Schedule) -> Optimizer:
    """Multiply the updates by the negative learning rate, −η·g; η is a number or a schedule."""
    learning_rate = as_schedule(learning_rate, "learning_rate", "scale_by_learning_rate")
    if not callable(learning_rate):
        return scale(-learning_rate)

    def update(updates: Any, state: CountState, params: Any = None) -> tuple[Any, CountState]:
        check_state("scale_by_learning_rate", state, CountState)
        rate = value_at(learning_rate, state.count)
        return tree.map(lambda g: jnp.asarray(-rate, jnp.result_type(g)) * g, updates), CountState(state.count + 1)

    return Optimizer(lambda params: CountState(_zero_count()), update)


class TraceState(NamedTuple):
    """The decaying sum of the updates."""

    trace: Any


def trace(decay: float, nesterov: bool = False) -> Optimizer:
    """Momentum: m ← g + decay·m. The update is m, or g + decay·m with the new m if `nesterov`.

    Sources: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Nesterov, 1983; in this
    form Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """
    as_number(decay, "momentum", "trace", "[0, inf)")

    def update(updates: Any, state: TraceState, params: Any = None) -> tuple[Any, TraceState]:
        check_state("trace", state, TraceState)

        def accumulated(past: Any) -> Any:
            return each_leaf("trace", lambda g, m: g + decay * m, updates=updates, trace=past)

        moved = accumulated(state.trace)
        return accumulated(moved) if nesterov else moved, TraceState(moved)

    return Optimizer(lambda params: TraceState(zeros_like_params("trace", params)), update)


class AdamState(NamedTuple):
    """The number of updates so far, and the moving averages of g and g²."""

    count: Any
    mean: Any
    square: Any


def check_adam(operation: str, b1: Any, b2: Any, eps: Any) -> None:
    """Raise unless the hyperparameters of Adam are valid."""
    as_number(b1, "b1", operation, "[0, 1)")
    as_number(b2, "b2", operation, "[0, 1)")
    as_number(eps, "eps", operation, "[0, inf)")


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, nesterov: bool = False) -> Optimizer:
    """Adam: m ← b₁m + (1 − b₁)g and v ← b₂v + (1 − b₂)g²; the update is m̂ / (√v̂ + eps).

    m̂ = m/(1 − b₁ᵗ) and v̂ = v/(1 − b₂ᵗ) correct the bias of the initialization at 0. With `nesterov`,
    m̂ = b₁m/(1 − b₁ᵗ⁺¹) + (1 − b₁)g/(1 − b₁ᵗ).

    Sources: Kingma, Ba, "Adam: a method for stochastic optimization", 2014; Dozat, "Incorporating Nesterov momentum
    into Adam", 2016.
    """

    name = "scale_by_adam"
    check_adam(name, b1, b2, eps)

    def init(params: Any) -> AdamState:
        return AdamState(_zero_count(), zeros_like_params(name, params), zeros_like_params(name, params))

    def update(updates: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        check_state(name, state, AdamState)
        step = state.count + 1
        mean = each_leaf(name, lambda m, g: b1 * m + (1 - b1) * g, mean=state.mean, updates=updates)
        square = tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(jnp.abs(g)), state.square, updates)
        t = step.astype(float)
        first, second, ahead = 1 - b1**t, 1 - b2**t, 1 - b1 ** (t + 1)

        def direction(m: Any, v: Any, g: Any) -> Any:
            corrected = b1 * m / ahead + (1 - b1) * g / first if nesterov else m / first
            return (corrected / (jnp.sqrt(v / second) + eps)).astype(jnp.result_type(g))

        return tree.map(direction, mean, square, updates), AdamState(step, mean, square)

    return Optimizer(init, update)


def add_decayed_weights(weight_decay: float, mask: Any = None) -> Optimizer:
    """Add weight decay: g + weight_decay·θ.

    `mask` selects the parameters that decay: a pytree of bools, or a function from parameters to one.
    """
    name = "add_decayed_weights"
    as_number(weight_decay, "weight_decay", name)

    def update(updates: Any, params: Any) -> Any:
        _require_params(params, name)
        chosen: Any = mask(params) if callable(mask) else mask
        if chosen is None:
            return each_leaf(name, lambda g, p: g + weight_decay * p, updates=updates, params=params)
        return tree.map(
            lambda m, g, p: tree.map(lambda g, p: g + weight_decay * p, g, p) if m else g, chosen, updates, params
        )

    return stateless(update)


def _require_params(params: Any, name: str) -> None:
    if params is None:
        raise ArgumentError(f"{name}: update needs the parameters", fix="call update(grads, state, params)")


def clip(limit: float) -> Optimizer:
    """Clip each element of g to [−limit, limit]."""
    as_number(limit, "limit", "clip", "[0, inf)")
    return stateless(lambda updates, params: tree.map(lambda g: jnp.clip(g, -limit, limit), updates))


def clip_by_global_norm(max_norm: float) -> Optimizer:
    """Scale the updates so that their global norm is at most max_norm: g·min(1, max_norm / ‖g‖).

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    as_number(max_norm, "max_norm", "clip_by_global_norm", "(0, inf)")

    def update(updates: Any, params: Any) -> Any:
        norm = global_norm(updates)
        # Avoid dividing by a norm of 0.
        factor = max_norm / jnp.maximum(norm, max_norm)
        return tree.map(lambda g: (g * factor).astype(jnp.result_type(g)), updates)

    return stateless(update)
