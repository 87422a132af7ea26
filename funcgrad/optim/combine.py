"""Optimizers from optimizers: in sequence, for parts of the parameters, under conditions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import lax, tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    FROM_INIT,
    Optimizer,
    cast_like,
    check_state,
    increment,
    set_to_zero,
    with_extra_args_support,
    zero_count,
)

Mask = Any
"""A pytree of bools, a prefix of the parameters, or a function from parameters to one."""


class MaskedNode(NamedTuple):
    """What stands for a leaf that a mask excludes: a pytree without leaves."""


class MaskedState(NamedTuple):
    """The state of a masked optimizer."""

    inner_state: Any


class PartitionState(NamedTuple):
    """The states of the groups, by label."""

    inner_states: dict[Hashable, Any]


class ConditionallyTransformState(NamedTuple):
    """The state of the inner optimizer, and the number of updates so far."""

    inner_state: Any
    step: Any


class ConditionallyMaskState(NamedTuple):
    """The number of updates so far, and the state of the inner optimizer."""

    step: Any
    inner_state: Any


class ApplyIfFiniteState(NamedTuple):
    """Non-finite updates in a row, whether the last was finite, non-finite updates in all, the inner state."""

    notfinite_count: Any
    last_finite: Any
    total_notfinite: Any
    inner_state: Any


def _checked(optimizer: Any, what: str) -> Optimizer:
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ArgumentError(
            f"{what} is {optimizer!r:.60} of type {type(optimizer).__name__}, not an optimizer",
            fix="pass optimizers as separate arguments: chain(clip(1.0), sgd(0.1)); for a number, scale(number)",
        )
    return with_extra_args_support(optimizer)


def chain(*args: Optimizer) -> Optimizer:
    """Compose optimizers: each is applied to the updates of the one before.

    >>> optimizer = chain(set_to_zero(), Optimizer(lambda params: (), lambda g, state, params=None: (g + 1, state)))
    >>> float(optimizer.update(jnp.array(5.0), optimizer.init(None))[0])
    1.0
    """
    parts = [_checked(optimizer, f"chain: part {i}") for i, optimizer in enumerate(args)]

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(part.init(params) for part in parts)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, tuple[Any, ...]]:
        if not isinstance(state, (tuple, list)) or len(state) != len(parts):
            given = f"{len(state)} parts" if isinstance(state, (tuple, list)) else f"type {type(state).__name__}"
            raise ArgumentError(f"update: a state of {given} for a chain of {len(parts)} optimizers", fix=FROM_INIT)
        states = []
        for part, own in zip(parts, state, strict=True):
            updates, own = part.update(updates, own, params, **extra)
            states.append(own)
        return updates, tuple(states)

    return Optimizer(init, update)


def named_chain(*args: tuple[str, Optimizer]) -> Optimizer:
    """Compose (name, optimizer) pairs as `chain` does; the state is a dict by these names."""
    parts = {name: _checked(optimizer, f"named_chain: {name!r}") for name, optimizer in args}
    if len(parts) < len(args):
        raise ArgumentError(
            f"named_chain: names {[name for name, _ in args]} repeat", fix="give each part its own name"
        )

    def init(params: Any) -> dict[str, Any]:
        return {name: part.init(params) for name, part in parts.items()}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, dict[str, Any]]:
        if not isinstance(state, Mapping) or set(state) != set(parts):
            given = f"keys {sorted(state)}" if isinstance(state, Mapping) else f"type {type(state).__name__}"
            raise ArgumentError(f"update: a state of {given} for a chain of {sorted(parts)}", fix=FROM_INIT)
        states = {}
        for name, part in parts.items():
            updates, states[name] = part.update(updates, state[name], params, **extra)
        return updates, states

    return Optimizer(init, update)


# ---------------------------------------------------------------- parts of the parameters


def _select(mask: Any, params: Any) -> Any:
    """Replace the subtrees that the mask excludes."""
    return tree.map(lambda m, p: p if m else MaskedNode(), mask, params)


def masked(inner: Optimizer, mask: Mask) -> Optimizer:
    """Apply an optimizer where the mask is true. All other updates stay as they are.

    >>> optimizer = masked(set_to_zero(), {"w": True, "b": False})
    >>> grads = {"w": jnp.ones(2), "b": jnp.ones(2)}
    >>> optimizer.update(grads, optimizer.init(grads))[0]
    {'w': Array([0., 0.], dtype=float32), 'b': Array([1., 1.], dtype=float32)}
    """
    inner = _checked(inner, "masked: the optimizer")

    def init(params: Any) -> MaskedState:
        return MaskedState(inner.init(_select(mask(params) if callable(mask) else mask, params)))

    def update(updates: Any, state: MaskedState, params: Any = None, **extra: Any) -> tuple[Any, MaskedState]:
        check_state("masked", state, MaskedState)
        chosen = mask(updates) if callable(mask) else mask
        own = None if params is None else _select(chosen, params)
        changed, after = inner.update(_select(chosen, updates), state.inner_state, own, **extra)
        return tree.map(lambda m, new, old: new if m else old, chosen, changed, updates), MaskedState(after)

    return Optimizer(init, update)


def partition(transforms: Mapping[Hashable, Optimizer], param_labels: Any) -> Optimizer:
    """Apply to each parameter the optimizer of its label: a pytree of labels, a prefix, or a function to one.

    >>> from funcgrad import optim
    >>> optimizer = partition({"fast": optim.sgd(1.0), "slow": optim.sgd(0.1)}, {"w": "fast", "b": "slow"})
    >>> grads = {"w": jnp.ones(1), "b": jnp.ones(1)}
    >>> optimizer.update(grads, optimizer.init(grads))[0]
    {'w': Array([-1.], dtype=float32), 'b': Array([-0.1], dtype=float32)}
    """
    parts = {label: _checked(optimizer, f"partition: {label!r}") for label, optimizer in transforms.items()}

    def group(label: Hashable, labels: Any) -> Optimizer:
        return masked(parts[label], tree.map(lambda other: other == label, labels))

    def labels_of(params: Any) -> Any:
        labels = param_labels(params) if callable(param_labels) else param_labels
        for path, label in tree.leaves_with_path(labels):
            if label not in parts:
                raise ArgumentError(
                    f"partition: params{tree.keystr(path)} has the label {label!r}, for which there is no optimizer",
                    fix=f"the labels are {list(parts)}; set_to_zero() freezes a group",
                )
        return labels

    def init(params: Any) -> PartitionState:
        labels = labels_of(params)
        return PartitionState({label: group(label, labels).init(params) for label in parts})

    def update(updates: Any, state: PartitionState, params: Any = None, **extra: Any) -> tuple[Any, PartitionState]:
        check_state("partition", state, PartitionState)
        labels, states = labels_of(updates), {}
        for label in parts:
            updates, states[label] = group(label, labels).update(updates, state.inner_states[label], params, **extra)
        return updates, PartitionState(states)

    return Optimizer(init, update)


multi_transform = partition


def freeze(mask: Mask) -> Optimizer:
    """Set the updates to zero where the mask is true."""
    return masked(set_to_zero(), mask)


def selective_transform(optimizer: Optimizer, *, freeze_mask: Any) -> Optimizer:
    """Apply an optimizer where the mask is false, and freeze all other parameters. They need no state."""
    labels = tree.map(lambda frozen: "freeze" if frozen else "train", freeze_mask)
    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)


# ---------------------------------------------------------------- conditions


def update_if(
    condition: Any, inner: Optimizer, otherwise: Callable[[Any], Any], args: tuple[Any, Any, Any], extra: dict[str, Any]
) -> tuple[Any, Any]:
    """Update if the condition holds; if not, return `otherwise` of the updates and the state as it is."""
    updates, state, params = args

    def apply() -> tuple[Any, Any]:
        return cast_like(inner.update(updates, state, params, **extra), (updates, state))

    return lax.cond(condition, apply, lambda: (otherwise(updates), state))


def _zeros(updates: Any) -> Any:
    return tree.map(jnp.zeros_like, updates)


def conditionally_transform(
    inner: Optimizer, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Optimizer:
    """Apply an optimizer in the updates n for which should_transform_fn(n) holds; in all others, return g."""
    inner = _checked(inner, "conditionally_transform: the optimizer")

    def init(params: Any) -> ConditionallyTransformState:
        return ConditionallyTransformState(inner.init(params), zero_count())

    def update(updates: Any, state: ConditionallyTransformState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_state("conditionally_transform", state, ConditionallyTransformState)
        condition = should_transform_fn(state.step, **(extra if forward_extra_args else {}))
        args = (updates, state.inner_state, params)
        updates, after = update_if(condition, inner, lambda g: g, args, extra)
        return updates, ConditionallyTransformState(after, increment(state.step))

    return Optimizer(init, update)


def conditionally_mask(
    inner: Optimizer, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Optimizer:
    """Apply an optimizer in the updates n for which should_transform_fn(n) holds; in all others, return zeros."""
    inner = _checked(inner, "conditionally_mask: the optimizer")

    def init(params: Any) -> ConditionallyMaskState:
        return ConditionallyMaskState(zero_count(), inner.init(params))

    def update(updates: Any, state: ConditionallyMaskState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_state("conditionally_mask", state, ConditionallyMaskState)
        condition = should_transform_fn(state.step, **(extra if forward_extra_args else {}))
        updates, after = update_if(condition, inner, _zeros, (updates, state.inner_state, params), extra)
        return updates, ConditionallyMaskState(increment(state.step), after)

    return Optimizer(init, update)


def apply_if_finite(inner: Optimizer, max_consecutive_errors: int) -> Optimizer:
    """Apply an optimizer if all updates are finite. If not, return zeros and leave its state as it is.

    After max_consecutive_errors in a row, non-finite updates are applied.
    """
    inner = _checked(inner, "apply_if_finite: the optimizer")

    def init(params: Any) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(zero_count(), jnp.asarray(True), zero_count(), inner.init(params))

    def update(updates: Any, state: ApplyIfFiniteState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_state("apply_if_finite", state, ApplyIfFiniteState)
        finite = all_finite(updates)
        row = jnp.where(finite, 0, increment(state.notfinite_count))
        args = (updates, state.inner_state, params)
        updates, after = update_if(finite | (row > max_consecutive_errors), inner, _zeros, args, extra)
        total = jnp.where(finite, state.total_notfinite, increment(state.total_notfinite))
        return updates, ApplyIfFiniteState(row, finite, total, after)

    return Optimizer(init, update)


def all_finite(updates: Any) -> Any:
    """Whether all elements of all leaves are finite."""
    return tree.reduce(jnp.logical_and, tree.map(lambda x: jnp.all(jnp.isfinite(x)), updates), jnp.asarray(True))
