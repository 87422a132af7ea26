"""What an optimiser is, and how optimisers compose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.errors import ArgumentError

Schedule = Callable[[Any], Any]
"""From the number of steps taken to a value."""


class Optimizer(NamedTuple):
    """`init(params) → state` and `update(updates, state, params=None) → (updates, state)`.

    The same type stands for a whole optimiser and for one step of it: updates come in as gradients and go out as what
    is added to the parameters.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


def stateless(update: Callable[[Any, Any], Any]) -> Optimizer:
    """An optimiser without state, from a function (updates, params) → updates."""
    return Optimizer(lambda params: (), lambda updates, state, params=None: (update(updates, params), state))


def identity() -> Optimizer:
    """Updates as they come."""
    return stateless(lambda updates, params: updates)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Apply optimisers one after another, each to the updates of the one before."""

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(o.init(params) for o in optimizers)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, tuple[Any, ...]]:
        if len(state) != len(optimizers):
            raise ArgumentError(
                f"chain: a state of {len(state)} parts for {len(optimizers)} optimisers",
                fix="use the state of its init",
            )
        states = []
        for optimizer, own in zip(optimizers, state, strict=True):
            updates, own = optimizer.update(updates, own, params)
            states.append(own)
        return updates, tuple(states)

    return Optimizer(init, update)


def apply_updates(params: Any, updates: Any) -> Any:
    """Return params + updates, leaf by leaf, in the parameters' dtypes."""
    return tree.map(lambda p, u: (p + u).astype(jnp.result_type(p)), params, updates)


def global_norm(updates: Any) -> Any:
    """The Euclidean norm of all leaves as one vector: √Σ|x|²."""
    squares = [jnp.sum(jnp.square(jnp.abs(x))) for x in tree.leaves(updates)]
    return jnp.sqrt(sum(squares[1:], squares[0])) if squares else jnp.zeros(())


def value_at(schedule: Any, count: Any) -> Any:
    """The value of a schedule after `count` steps; numbers are constant schedules."""
    return schedule(count) if callable(schedule) else schedule
