"""Complete optimizers. θ are the parameters, g is their gradient, and η the learning rate, a number or a schedule."""

from __future__ import annotations

from typing import Any

from funcgrad.arguments.axes import as_number
from funcgrad.optim.base import Optimizer, Schedule, as_schedule, chain, identity
from funcgrad.optim.steps import add_decayed_weights, check_adam, scale_by_adam, scale_by_learning_rate, trace


def sgd(learning_rate: float | Schedule, momentum: float | None = None, nesterov: bool = False) -> Optimizer:
    """Gradient descent: θ ← θ − η·g; with momentum μ, θ ← θ − η·m, m ← g + μ·m (see `trace`).

    Source: Robbins, Monro, "A stochastic approximation method", 1951.
    """
    learning_rate = as_schedule(learning_rate, "learning_rate", "sgd")
    if momentum is not None:
        as_number(momentum, "momentum", "sgd", "[0, inf)")
    step = identity() if momentum is None else trace(momentum, nesterov)
    return chain(step, scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, *, nesterov: bool = False
) -> Optimizer:
    """Adam: θ ← θ − η·m̂ / (√v̂ + eps), where m̂ and v̂ are moving averages of g and g² (see `scale_by_adam`).

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", 2014.
    """
    learning_rate = as_schedule(learning_rate, "learning_rate", "adam")
    check_adam("adam", b1, b2, eps)
    return chain(scale_by_adam(b1, b2, eps, nesterov), scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay: θ ← θ − η·(m̂ / (√v̂ + eps) + weight_decay·θ).

    `mask` selects the parameters that decay, by default all: a pytree of bools, or a function from parameters to one.

    Source: Loshchilov, Hutter, "Decoupled weight decay regularization", 2017.
    """
    learning_rate = as_schedule(learning_rate, "learning_rate", "adamw")
    check_adam("adamw", b1, b2, eps)
    as_number(weight_decay, "weight_decay", "adamw")
    decay = add_decayed_weights(weight_decay, mask)
    return chain(scale_by_adam(b1, b2, eps, nesterov), decay, scale_by_learning_rate(learning_rate))
