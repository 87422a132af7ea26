"""Transformations that add to the updates or average them: momentum, moving averages, weight decay, noise, optimism."""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import random, tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    EmptyState,
    Optimizer,
    Schedule,
    as_schedule,
    average,
    bias_correction,
    check_state,
    each_leaf,
    increment,
    leafwise,
    numbers,
    require_params,
    stateless_leafwise,
    value_at,
    zero_count,
    zeros,
)
from funcgrad.optim.combine import masked
from funcgrad.optim.tree import random_like


class TraceState(NamedTuple):
    """The decaying sum of the updates."""

    trace: Any


class EmaState(NamedTuple):
    """The number of updates, and their moving average."""

    count: Any
    ema: Any


class WeightDecaySchedule(NamedTuple):
    """The number of updates so far."""

    count: Any


class AddNoiseState(NamedTuple):
    """The number of updates so far, and the key for the next noise."""

    count: Any
    rng_key: Any


class ScaleByOptimisticGradientState(NamedTuple):
    """Whether there was no update yet, and the last gradient."""

    is_initial_step: Any
    previous_gradient: Any


class ApplyEvery(NamedTuple):
    """The number of updates since the last that was applied, and their sum."""

    count: Any
    grad_acc: Any


def trace(decay: float, nesterov: bool = False, accumulator_dtype: Any = None) -> Optimizer:
    """Momentum: m ← g + decay·m. The update is m, or g + decay·m with the new m if `nesterov`.

    Sources: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Nesterov, 1983; in this
    form Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """
    numbers("trace", momentum=decay)

    def step(g: Any, m: Any) -> Any:
        m = g + decay * m
        return g + decay * m if nesterov else m, m

    return leafwise("trace", TraceState, lambda t: step, trace=zeros(accumulator_dtype))


def ema(decay: float, debias: bool = True, accumulator_dtype: Any = None) -> Optimizer:
    """Exponential moving average: m ← decay·m + (1 − decay)·g. The update is m, or m / (1 − decayᵗ) if `debias`."""
    numbers("ema", decay=decay)

    def rule(t: Any) -> Any:
        correction = bias_correction(decay, t) if debias else 1

        def step(g: Any, m: Any) -> Any:
            m = average(decay, g, m)
            return m * correction, m

        return step

    return leafwise("ema", EmaState, rule, ema=zeros(accumulator_dtype))


def add_decayed_weights(weight_decay: float | Schedule = 0.0, mask: Any = None) -> Optimizer:
    """Add weight decay: g + weight_decay·θ.

    `mask` selects the parameters that decay: a pytree of bools, or a function from parameters to one.
    """
    name = "add_decayed_weights"
    as_schedule(weight_decay, "weight_decay", name)

    def init(params: Any) -> Any:
        return WeightDecaySchedule(zero_count()) if callable(weight_decay) else EmptyState()

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, Any]:
        require_params(name, params)
        if callable(weight_decay):
            check_state(name, state, WeightDecaySchedule)
        rate = value_at(weight_decay, state.count) if callable(weight_decay) else weight_decay
        decayed = lambda g, p: g + jnp.asarray(rate, jnp.result_type(g)) * p  # noqa: E731
        after = WeightDecaySchedule(increment(state.count)) if callable(weight_decay) else state
        return each_leaf(name, decayed, updates=updates, params=params), after

    optimizer = Optimizer(init, update)
    return optimizer if mask is None else masked(optimizer, mask)


def add_noise(eta: float, gamma: float, key: Any) -> Optimizer:
    """Add normal noise of variance eta / t^gamma. `key` is a key of `funcgrad.random`, or a seed.

    Source: Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015.
    """
    numbers("add_noise", eta=eta, gamma=gamma)

    def init(params: Any) -> AddNoiseState:
        return AddNoiseState(zero_count(), random.key(key) if isinstance(key, int) else key)

    def update(updates: Any, state: AddNoiseState, params: Any = None, **_: Any) -> tuple[Any, AddNoiseState]:
        check_state("add_noise", state, AddNoiseState)
        count = increment(state.count)
        deviation = jnp.sqrt(eta / (count * 1.0) ** gamma)
        following, key = random.split(state.rng_key)
        noise = random_like(key, updates)
        noisy = lambda g, n: g + (deviation * n).astype(jnp.result_type(g))  # noqa: E731
        return each_leaf("add_noise", noisy, updates=updates, noise=noise), AddNoiseState(count, following)

    return Optimizer(init, update)


def scale_by_optimistic_gradient(alpha: float = 1.0, beta: float = 1.0) -> Optimizer:
    """Optimistic gradient: (alpha + beta)·g − beta·g₋₁, where g₋₁ is the last gradient, at first g.

    Source: Mokhtari, Ozdaglar, Pattathil, "A unified analysis of extra-gradient and optimistic gradient methods for
    saddle point problems: proximal point approach", 2019.
    """
    numbers("scale_by_optimistic_gradient", alpha=alpha, beta=beta)
    name = "scale_by_optimistic_gradient"

    def init(params: Any) -> ScaleByOptimisticGradientState:
        return ScaleByOptimisticGradientState(jnp.asarray(True), tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: ScaleByOptimisticGradientState, params: Any = None, **_: Any) -> tuple[Any, Any]:
        check_state(name, state, ScaleByOptimisticGradientState)

        def step(g: Any, last: Any) -> Any:
            return (alpha + beta) * g - beta * jnp.where(state.is_initial_step, g, last)

        moved = each_leaf(name, step, updates=updates, previous_gradient=state.previous_gradient)
        return moved, ScaleByOptimisticGradientState(jnp.asarray(False), updates)

    return Optimizer(init, update)


def apply_every(k: int = 1) -> Optimizer:
    """Sum k updates and apply the sum: the updates in between are 0. See `MultiSteps` for means of gradients."""
    if not isinstance(k, int) or k < 1:
        raise ArgumentError(f"apply_every: k is {k!r}", fix="give the number of updates to sum, at least 1")
    inner = leafwise("apply_every", TraceState, lambda t: lambda g, total: (g + total, g + total), trace=zeros())

    def init(params: Any) -> ApplyEvery:
        return ApplyEvery(zero_count(), inner.init(params).trace)

    def update(updates: Any, state: ApplyEvery, params: Any = None, **_: Any) -> tuple[Any, ApplyEvery]:
        check_state("apply_every", state, ApplyEvery)
        total, _state = inner.update(updates, TraceState(state.grad_acc))
        last = state.count == k - 1
        applied = tree.map(lambda x: jnp.where(last, x, 0), total)
        kept = tree.map(lambda x: jnp.where(last, 0, x), total)
        return applied, ApplyEvery((state.count + 1) % k, kept)

    return Optimizer(init, update)


def keep_params_nonnegative() -> Optimizer:
    """Change the updates so that no parameter becomes negative: −θ where θ + g < 0. The last of a chain."""
    rule = lambda g, p: jnp.where(p + g < 0, -p, g)  # noqa: E731
    return stateless_leafwise("keep_params_nonnegative", rule, needs_params=True)
