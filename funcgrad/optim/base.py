"""The Optimizer type, composition of optimizers, and helpers on trees of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import dtypes, tree
from funcgrad.arguments.axes import as_number
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError, ShapeError

Schedule = Callable[[Any], Any]
"""A function from the number of updates so far to a value."""


class Optimizer(NamedTuple):
    """`init(params) → state` and `update(updates, state, params=None) → (updates, state)`.

    The type is the same for a complete optimizer and for one of its steps. A complete optimizer maps gradients to the
    updates that are added to the parameters.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


def stateless(update: Callable[[Any, Any], Any]) -> Optimizer:
    """Return an optimizer without state, given a function (updates, params) → updates."""
    return Optimizer(lambda params: (), lambda updates, state, params=None: (update(updates, params), state))


def identity() -> Optimizer:
    """Return the updates unchanged."""
    return stateless(lambda updates, params: updates)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Compose optimizers: each is applied to the updates of the one before."""
    for i, optimizer in enumerate(optimizers):
        if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            raise ArgumentError(
                f"chain: part {i} is {optimizer!r:.60} of type {type(optimizer).__name__}, not an optimizer",
                fix="pass optimizers as separate arguments: chain(clip(1.0), sgd(0.1)); for a number, scale(number)",
            )

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(o.init(params) for o in optimizers)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, tuple[Any, ...]]:
        if not isinstance(state, (tuple, list)) or len(state) != len(optimizers):
            given = f"{len(state)} parts" if isinstance(state, (tuple, list)) else f"type {type(state).__name__}"
            raise ArgumentError(
                f"update: a state of {given} for a chain of {len(optimizers)} optimizers", fix=FROM_INIT
            )
        states = []
        for optimizer, own in zip(optimizers, state, strict=True):
            updates, own = optimizer.update(updates, own, params)
            states.append(own)
        return updates, tuple(states)

    return Optimizer(init, update)


def apply_updates(params: Any, updates: Any) -> Any:
    """Return params + updates, leaf by leaf, in the dtypes of the parameters."""

    def updated(p: Any, u: Any) -> Any:
        dtype = jnp.result_type(p)
        if not dtypes.is_inexact(dtype) and dtypes.is_inexact(jnp.result_type(u)):
            raise DTypeError(
                f"apply_updates: a parameter of type {aval_of(p)} cannot hold the fractions of its update {aval_of(u)}",
                fix="keep integers out of the parameters, or cast them with .astype(float)",
            )
        return (p + u).astype(dtype)

    return each_leaf("apply_updates", updated, params=params, updates=updates)


def global_norm(updates: Any) -> Any:
    """The Euclidean norm of all leaves together: √Σ|x|²."""
    squares = tree.leaves(each_leaf("global_norm", lambda x: jnp.sum(jnp.square(jnp.abs(x))), updates=updates))
    return jnp.sqrt(sum(squares[1:], squares[0])) if squares else jnp.zeros(())


def each_leaf(operation: str, f: Callable[..., Any], **trees: Any) -> Any:
    """Apply `f` to the corresponding leaves of trees with equal structures and leaves of equal shapes.

    Errors refer to the trees by their keyword names.
    """
    (first, given), *others = trees.items()
    leaves, treedef = tree.flatten(given)
    columns = [leaves, *(tree.subtrees(operation, treedef, other, first, name) for name, other in others)]
    try:
        same = all(len({jnp.shape(x) for x in column}) == 1 for column in zip(*columns, strict=True))
    except ArgumentError:
        same = False
    if not same:
        _check_leaves(operation, treedef, dict(zip(trees, columns, strict=True)))
    return treedef.unflatten(map(f, *columns))


def _check_leaves(operation: str, treedef: tree.PyTreeDef, columns: dict[str, list[Any]]) -> None:
    """Raise for the first leaf that is not an array, or whose shape differs from those of its counterparts."""
    paths = [tree.keystr(path) for path in treedef.paths()]
    for path, *leaves in zip(paths, *columns.values(), strict=True):
        named = dict(zip((f"{name}{path}" for name in columns), leaves, strict=True))
        for place, leaf in named.items():
            try:
                aval_of(leaf)
            except ArgumentError:
                raise ArgumentError(
                    f"{operation}: {place} is {leaf!r:.60} of type {type(leaf).__name__}, which is not an array",
                    fix="optimizers take pytrees of arrays: keep other objects separate",
                ) from None
        if len({jnp.shape(leaf) for leaf in leaves}) > 1:
            raise ShapeError(
                f"{operation}: shapes differ: {', '.join(f'{place} is {aval_of(x)}' for place, x in named.items())}",
                fix="corresponding leaves of gradients, parameters and optimizer state must have equal shapes",
            )


def zeros_like_params(operation: str, params: Any) -> Any:
    """Return the initial accumulators of an optimizer: zeros like the parameters."""
    for path, leaf in tree.leaves_with_path(each_leaf(operation, lambda p: p, params=params)):
        if not dtypes.is_inexact(jnp.result_type(leaf)):
            raise DTypeError(
                f"{operation}: params{tree.keystr(path)} is {aval_of(leaf)}; integers cannot be optimized by gradients",
                fix="keep integers out of the parameters, or cast them with .astype(float)",
            )
    return tree.map(jnp.zeros_like, params)


FROM_INIT = "start with state = optimizer.init(params); updates, state = optimizer.update(grads, state, params)"


def check_state(operation: str, state: Any, kind: type) -> None:
    """Raise unless the state is of the kind that the optimizer made."""
    if not isinstance(state, kind):
        found = "None" if state is None else f"of type {type(state).__name__}"
        raise ArgumentError(f"{operation}: the state is {found}, not {kind.__name__}", fix=FROM_INIT)


def as_schedule(value: Any, what: str, operation: str) -> Any:
    """Return a schedule or a number; raise for anything else."""
    return value if callable(value) else as_number(value, what, operation)


def value_at(schedule: Any, count: Any) -> Any:
    """The value of a schedule after `count` steps; numbers are constant schedules."""
    return schedule(count) if callable(schedule) else schedule
