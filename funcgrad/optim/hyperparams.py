"""Hyperparameters as state: injected ones, and a learning rate that falls when the loss no longer does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, tree
from funcgrad.core.array_types import ArrayLike
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import Optimizer, check_state, increment, numbers, with_extra_args_support, zero_count
from funcgrad.optim.scaling import require_value


class InjectHyperparamsState(NamedTuple):
    """The number of updates, the hyperparameters by name, and the state of the inner optimizer."""

    count: Any
    hyperparams: dict[str, Any]
    inner_state: Any


class ReduceLROnPlateauState(NamedTuple):
    """The scale of the updates; best mean loss; means without improvement; steps of cooldown left; the current mean."""

    scale: Any
    best_value: Any
    plateau_count: Any
    cooldown_count: Any
    count: Any
    avg_value: Any


def inject_hyperparams(
    inner_factory: Callable[..., Optimizer], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., Optimizer]:
    """Return a function that makes the same optimizer, with its numbers and schedules in the state.

    `state.hyperparams` holds their current values, which a program can read and replace without compiling again.
    Schedules are evaluated at the number of updates. `static_args` are the names of arguments to keep out of it.

    >>> from funcgrad import optim
    >>> optimizer = inject_hyperparams(optim.sgd)(learning_rate=optim.linear_schedule(1.0, 0.0, 4))
    >>> state = optimizer.init(jnp.zeros(1))
    >>> _, state = optimizer.update(jnp.ones(1), state)
    >>> updates, state = optimizer.update(jnp.ones(1), state)
    >>> updates, state.hyperparams
    (Array([-0.75], dtype=float32), {'learning_rate': Array(0.75, dtype=float32)})
    """
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    signature = inspect.signature(inner_factory)
    if unknown := static - set(signature.parameters):
        raise ArgumentError(
            f"inject_hyperparams: static_args {sorted(unknown)} are no arguments of {inner_factory!r:.60}",
            fix=f"its arguments are {', '.join(signature.parameters)}",
        )

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> Optimizer:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        schedules = {k: v for k, v in given.items() if k not in static and callable(v)}
        values = {k: v for k, v in given.items() if k not in static and _is_number(v)}
        fixed = {k: v for k, v in given.items() if k not in schedules and k not in values}
        inner_factory(**given)

        def inner(hyperparams: dict[str, Any]) -> Optimizer:
            return with_extra_args_support(inner_factory(**fixed, **hyperparams))

        def current(known: dict[str, Any], count: Any, params: Any) -> dict[str, Any]:
            new = {k: schedule(count) for k, schedule in schedules.items()}
            return {k: _in_dtype(v, hyperparam_dtype or _widest(params)) for k, v in (known | new).items()}

        def init(params: Any) -> InjectHyperparamsState:
            hyperparams = current(values, zero_count(), params)
            return InjectHyperparamsState(zero_count(), hyperparams, inner(hyperparams).init(params))

        def update(updates: Any, state: InjectHyperparamsState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            check_state("inject_hyperparams", state, InjectHyperparamsState)
            hyperparams = current(state.hyperparams, state.count, updates)
            updates, after = inner(hyperparams).update(updates, state.inner_state, params, **extra)
            return updates, InjectHyperparamsState(increment(state.count), hyperparams, after)

        return Optimizer(init, update)

    return factory


def _is_number(value: Any) -> bool:
    kinds = (int, float, np.ndarray, np.number, ArrayLike)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _widest(params: Any) -> Any:
    """The widest floating dtype among the leaves."""
    leaves = [jnp.real(x).dtype for x in tree.leaves(params)]
    return functools.reduce(jnp.promote_types, leaves) if leaves else jnp.zeros(()).dtype


def _in_dtype(value: Any, dtype: Any) -> Any:
    array = jnp.asarray(value)
    return array.astype(dtype) if dtypes.is_inexact(array.dtype) else array


def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
) -> Optimizer:
    """Scale the updates by a factor that falls when the loss does not: scale ← max(factor·scale, min_scale).

    It falls after `patience` values in a row that are not below (1 − rtol)·best − atol, and waits for `cooldown` values
    then. A value is the mean over accumulation_size updates. `update` needs `value`, the loss. As PyTorch's
    ReduceLROnPlateau, which waits for one value more.

    >>> from funcgrad import optim
    >>> optimizer = optim.chain(optim.sgd(1.0), reduce_on_plateau(factor=0.5, patience=2))
    >>> state = optimizer.init(jnp.zeros(1))
    >>> for loss in (1.0, 1.0, 1.0):
    ...     updates, state = optimizer.update(jnp.ones(1), state, value=loss)
    >>> updates
    Array([-0.5], dtype=float32)
    """
    name = "reduce_on_plateau"
    numbers(name, factor=factor, rtol=rtol, atol=atol, min_scale=min_scale)
    if not 0 < factor < 1:
        raise ArgumentError(f"{name}: factor is {factor}", fix="give a number in (0, 1)")
    if not (0 <= rtol <= 1 and atol >= 0 and rtol + atol > 0):
        raise ArgumentError(
            f"{name}: rtol is {rtol}, atol is {atol}", fix="give rtol in [0, 1] or atol > 0, not both 0"
        )

    def init(params: Any) -> ReduceLROnPlateauState:
        dtype, none = _widest(params), zero_count()
        zero = jnp.zeros((), dtype)
        return ReduceLROnPlateauState(zero + 1, zero + jnp.inf, none, none, none, zero)

    def update(
        updates: Any, state: ReduceLROnPlateauState, params: Any = None, *, value: Any = None, **_: Any
    ) -> tuple[Any, ReduceLROnPlateauState]:
        check_state(name, state, ReduceLROnPlateauState)
        value = require_value(name, value).astype(state.avg_value.dtype)
        count = state.count + 1
        mean = state.avg_value + (value - state.avg_value) / count.astype(value.dtype)
        state = state._replace(count=count, avg_value=mean)
        judged = _judge(state, mean, factor, patience, rtol, atol, cooldown, min_scale)
        state = tree.map(lambda new, old: jnp.where(count == accumulation_size, new, old), judged, state)
        return tree.map(lambda g: state.scale.astype(jnp.result_type(g)) * g, updates), state

    return Optimizer(init, update)


def _judge(
    state: ReduceLROnPlateauState,
    mean: Any,
    factor: float,
    patience: int,
    rtol: float,
    atol: float,
    cooldown: int,
    min_scale: float,
) -> ReduceLROnPlateauState:
    """The state after a mean is complete."""
    improved = mean < (1 - rtol) * state.best_value - atol
    cooling = state.cooldown_count > 0
    bad = jnp.where(improved, 0, state.plateau_count + 1)
    falls = ~cooling & (bad == patience)
    return ReduceLROnPlateauState(
        scale=jnp.where(falls, jnp.maximum(state.scale * factor, min_scale), state.scale),
        best_value=jnp.where(improved, mean, state.best_value),
        plateau_count=jnp.where(cooling | falls, 0, bad),
        cooldown_count=jnp.where(cooling, state.cooldown_count - 1, jnp.where(falls, cooldown, 0)),
        count=zero_count(),
        avg_value=jnp.zeros_like(mean),
    )
