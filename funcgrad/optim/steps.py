"""The steps that optimisers are chained from. g are the updates that come in, θ the parameters, t the step, from 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import Optimizer, Schedule, global_norm, stateless, value_at


def _zero_count() -> Any:
    return jnp.zeros((), "int32")


def scale(factor: Any) -> Optimizer:
    """factor·g."""
    return stateless(lambda updates, params: tree.map(lambda g: factor * g, updates))


class CountState(NamedTuple):
    """The number of updates so far."""

    count: Any


def scale_by_learning_rate(learning_rate: float | Schedule) -> Optimizer:
    """−η·g, η a number or a schedule of the number of updates so far."""
    if not callable(learning_rate):
        return scale(-learning_rate)

    def update(updates: Any, state: CountState, params: Any = None) -> tuple[Any, CountState]:
        rate = value_at(learning_rate, state.count)
        return tree.map(lambda g: jnp.asarray(-rate, jnp.result_type(g)) * g, updates), CountState(state.count + 1)

    return Optimizer(lambda params: CountState(_zero_count()), update)


class TraceState(NamedTuple):
    """The decaying sum of updates."""

    trace: Any


def trace(decay: float, nesterov: bool = False) -> Optimizer:
    """m ← g + decay·m; the update is m, or g + decay·m with `nesterov`.

    Sources: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Nesterov, 1983; in this
    form Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def update(updates: Any, state: TraceState, params: Any = None) -> tuple[Any, TraceState]:
        def accumulated(past: Any) -> Any:
            return tree.map(lambda g, m: g + decay * m, updates, past)

        moved = accumulated(state.trace)
        return accumulated(moved) if nesterov else moved, TraceState(moved)

    return Optimizer(lambda params: TraceState(tree.map(jnp.zeros_like, params)), update)


class AdamState(NamedTuple):
    """The number of updates so far, and the running means of g and g²."""

    count: Any
    mean: Any
    square: Any


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, nesterov: bool = False) -> Optimizer:
    """m ← b₁m + (1 − b₁)g;  v ← b₂v + (1 − b₂)g²;  the update is m̂ / (√v̂ + eps).

    m̂ = m/(1 − b₁ᵗ) and v̂ = v/(1 − b₂ᵗ) correct for the start at 0; with `nesterov`, m̂ looks one step ahead:
    b₁m/(1 − b₁ᵗ⁺¹) + (1 − b₁)g/(1 − b₁ᵗ).

    Sources: Kingma, Ba, "Adam: a method for stochastic optimization", 2014; Dozat, "Incorporating Nesterov momentum
    into Adam", 2016.
    """

    def init(params: Any) -> AdamState:
        return AdamState(_zero_count(), tree.map(jnp.zeros_like, params), tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        step = state.count + 1
        mean = tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        square = tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(jnp.abs(g)), state.square, updates)
        t = step.astype(float)
        first, second, ahead = 1 - b1**t, 1 - b2**t, 1 - b1 ** (t + 1)

        def direction(m: Any, v: Any, g: Any) -> Any:
            corrected = b1 * m / ahead + (1 - b1) * g / first if nesterov else m / first
            return (corrected / (jnp.sqrt(v / second) + eps)).astype(jnp.result_type(g))

        return tree.map(direction, mean, square, updates), AdamState(step, mean, square)

    return Optimizer(init, update)


def add_decayed_weights(weight_decay: float, mask: Any = None) -> Optimizer:
    """g + weight_decay·θ, where `mask` (a pytree of bools, or a function from parameters to one) is True."""

    def update(updates: Any, params: Any) -> Any:
        _need(params, "add_decayed_weights")
        chosen: Any = mask(params) if callable(mask) else mask
        if chosen is None:
            return tree.map(lambda g, p: g + weight_decay * p, updates, params)
        return tree.map(lambda m, g, p: tree.map(lambda g, p: g + weight_decay * p, g, p) if m else g,
                        chosen, updates, params)  # fmt: skip

    return stateless(update)


def _need(params: Any, name: str) -> None:
    if params is None:
        raise ArgumentError(f"{name}: the parameters are needed", fix="call update(grads, state, params)")


def clip(limit: float) -> Optimizer:
    """Each element of g limited to [−limit, limit]."""
    return stateless(lambda updates, params: tree.map(lambda g: jnp.clip(g, -limit, limit), updates))


def clip_by_global_norm(max_norm: float) -> Optimizer:
    """g·min(1, max_norm / ‖g‖), the norm being that of all leaves together.

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """

    def update(updates: Any, params: Any) -> Any:
        norm = global_norm(updates)
        # Written so that a norm of 0 divides nothing.
        factor = max_norm / jnp.maximum(norm, max_norm)
        return tree.map(lambda g: (g * factor).astype(jnp.result_type(g)), updates)

    return stateless(update)
