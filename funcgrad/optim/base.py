"""The Optimizer type, functions of corresponding leaves of several trees, and checks of arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import dtypes, tree
from funcgrad.arguments.axes import as_number
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError, ShapeError, called_function

Schedule = Callable[[Any], Any]
"""A function from the number of updates so far to a value."""


class Optimizer(NamedTuple):
    """`init(params) → state` and `update(updates, state, params=None, **extra) → (updates, state)`.

    The type is the same for a complete optimizer and for one of its transformations. A complete optimizer maps
    gradients to the updates that are added to the parameters. Some updates take more keyword arguments, such as the
    value of the loss; all others ignore them. In optax, this is `GradientTransformationExtraArgs`.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


class EmptyState(NamedTuple):
    """The state of a transformation that needs none."""


def with_extra_args_support(optimizer: Any) -> Optimizer:
    """Return an optimizer whose update ignores the keyword arguments that the given one does not take.

    Raises ArgumentError if the argument has no `init` and `update`.
    """
    parameters = inspect.signature(optimizer.update).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return optimizer
    names = {p.name for p in parameters}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return optimizer.update(updates, state, params, **{k: v for k, v in extra.items() if k in names})

    return Optimizer(optimizer.init, update)


def stateless(update: Callable[[Any, Any], Any]) -> Optimizer:
    """Return an optimizer without state, given a function (updates, params) → updates."""
    return Optimizer(
        lambda params: EmptyState(), lambda updates, state, params=None, **_: (update(updates, params), state)
    )


def identity() -> Optimizer:
    """Return the updates unchanged."""
    return stateless(lambda updates, params: updates)


def set_to_zero() -> Optimizer:
    """Replace the updates with zeros."""
    return stateless(lambda updates, params: tree.map(jnp.zeros_like, updates))


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


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """Polyak averaging: step_size·new + (1 − step_size)·old, leaf by leaf."""
    average = lambda new, old: step_size * new + (1 - step_size) * old  # noqa: E731
    return each_leaf("incremental_update", average, new_tensors=new_tensors, old_tensors=old_tensors)


def periodic_update(new_tensors: Any, old_tensors: Any, steps: Any, update_period: int) -> Any:
    """Return the new tensors if `steps` is a multiple of update_period, otherwise the old ones."""
    take = jnp.asarray(steps) % update_period == 0
    choose = lambda new, old: jnp.where(take, new, old)  # noqa: E731
    return each_leaf("periodic_update", choose, new_tensors=new_tensors, old_tensors=old_tensors)


def global_norm(updates: Any) -> Any:
    """The Euclidean norm of all leaves together: √Σ|x|²."""
    squares = tree.leaves(each_leaf("global_norm", lambda x: jnp.sum(abs_sq(x)), updates=updates))
    return jnp.sqrt(sum(squares[1:], squares[0])) if squares else jnp.zeros(())


def corresponding(operation: str, **trees: Any) -> tuple[tree.PyTreeDef, list[list[Any]]]:
    """Return the structure of trees with equal structures and leaves of equal shapes, and the leaves of each.

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
    return treedef, columns


def each_leaf(operation: str, f: Callable[..., Any], **trees: Any) -> Any:
    """Apply `f` to the corresponding leaves of trees with equal structures and leaves of equal shapes."""
    treedef, columns = corresponding(operation, **trees)
    return treedef.unflatten(map(f, *columns))


def leafwise(
    name: str, kind: type, rule: Callable[..., Any], *, needs_params: bool = False, shaped: bool = True, **slots: Any
) -> Optimizer:
    """Return the transformation with a state of type `kind`, given what it does to one leaf.

    `slots` maps fields of the state to functions from a parameter to the initial value of the leaf. `rule(t)`, where
    t = 1, 2, … is the number of the update, or None if `kind` has no field `count`, returns the function
    ``(g, *old slots) → (update, *new slots)``, or ``(g, param, *old slots) → …`` with `needs_params`. Updates and state
    keep their dtypes. With `shaped`, all slots have the shapes of the parameters.
    """
    counted = "count" in kind.__annotations__

    def init(params: Any) -> Any:
        check_params(name, params)
        trees = {slot: tree.map(start, params) for slot, start in slots.items()}
        return kind(**({"count": zero_count()} if counted else {}), **trees)

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, Any]:
        check_state(name, state, kind)
        count = increment(state.count) if counted else None
        # The product is weakly typed: it takes the dtypes of the leaves.
        step = rule(None if count is None else count * 1.0)
        given = {"updates": updates} | ({"params": require_params(name, params)} if needs_params else {})
        past = {slot: getattr(state, slot) for slot in slots}
        treedef, columns = corresponding(name, **given, **(past if shaped else {}))
        if not shaped:
            columns += [tree.subtrees(name, treedef, other, "updates", slot) for slot, other in past.items()]

        def leaf(g: Any, *rest: Any) -> tuple[Any, ...]:
            new, *values = step(jnp.asarray(g), *rest)
            return cast_like(new, g), *map(cast_like, values, rest[needs_params:])

        results = list(map(leaf, *columns))
        trees = [treedef.unflatten(column) for column in zip(*results, strict=True)] or [updates, *past.values()]
        count_field = {"count": count} if counted else {}
        return trees[0], kind(**count_field, **dict(zip(slots, trees[1:], strict=True)))

    return Optimizer(init, update)


def stateless_leafwise(name: str, rule: Callable[..., Any], *, needs_params: bool = False) -> Optimizer:
    """Return the transformation without state, given its function of one leaf: g, or g and the parameter."""

    def leaf(g: Any, *p: Any) -> Any:
        return cast_like(rule(jnp.asarray(g), *p), g)

    def update(updates: Any, params: Any) -> Any:
        given = {"updates": updates} | ({"params": require_params(name, params)} if needs_params else {})
        return each_leaf(name, leaf, **given)

    return stateless(update)


# ---------------------------------------------------------------- arithmetic


def zero_count() -> Any:
    """The number of updates before the first."""
    return jnp.zeros((), "int32")


def increment(count: Any) -> Any:
    """count + 1, which stops at the largest integer."""
    return jnp.minimum(count, jnp.iinfo(jnp.result_type(count)).max - 1) + 1


def abs_sq(x: Any) -> Any:
    """|x|², which is real."""
    return jnp.square(jnp.real(x)) + jnp.square(jnp.imag(x)) if jnp.iscomplexobj(x) else jnp.square(x)


def cast_like(x: Any, like: Any) -> Any:
    """Cast the leaves of x to the dtypes of the corresponding leaves of another tree."""
    return tree.map(lambda a, b: jnp.asarray(a).astype(jnp.result_type(b)), x, like)


def zeros(dtype: Any = None, *, real: bool = False) -> Callable[[Any], Any]:
    """Return the function from a parameter to zeros of its shape; `real`: also for complex parameters."""
    return lambda p: jnp.zeros_like(jnp.real(p) if real else p, dtype=dtype)


def average(decay: Any, x: Any, past: Any) -> Any:
    """The next value of an exponential moving average: (1 − decay)·x + decay·past."""
    return (1 - decay) * x + decay * past


def bias_correction(decay: Any, t: Any) -> Any:
    """1 / (1 − decay^t): what corrects a moving average that started at 0 for its bias.

    In terms of expm1, which keeps 1 − decay^t accurate for a decay near 1, where float32 would lose four digits.
    """
    log = math.log(decay) if isinstance(decay, (int, float)) and decay > 0 else jnp.log(decay)
    return -1 / jnp.expm1(t * log)


# ---------------------------------------------------------------- checks

_INTERVALS = {
    **dict.fromkeys(("b1", "b2", "b3", "rho", "decay"), "[0, 1)"),
    **dict.fromkeys(("eps", "eps_root", "momentum", "initial_scale", "initial_accumulator_value"), "[0, inf)"),
    **dict.fromkeys(("transition_begin", "min_norm", "max_delta", "clipping", "max_learning_rate"), "[0, inf)"),
    "decay_rate": "[0, inf)",
    **dict.fromkeys(("transition_steps", "decay_steps", "max_norm", "threshold", "trust_coefficient"), "(0, inf)"),
}
"""Where hyperparameters of these names lie."""


def numbers(operation: str, **values: Any) -> None:
    """Raise unless the hyperparameters are numbers in their intervals.

    The error names the public function that the user called, which may have called `operation`.
    """
    for what, value in values.items():
        as_number(value, what, called_function() or operation, _INTERVALS.get(what, ""))


def as_schedule(value: Any, what: str, operation: str) -> Any:
    """Return a schedule or a number; raise for anything else."""
    return value if callable(value) else as_number(value, what, called_function() or operation)


def value_at(schedule: Any, count: Any) -> Any:
    """The value of a schedule after `count` steps; numbers are constant schedules."""
    return schedule(count) if callable(schedule) else schedule


def require_params(name: str, params: Any) -> Any:
    """Return the parameters; raise if there are none."""
    if params is None:
        raise ArgumentError(f"{name}: update needs the parameters", fix="call update(grads, state, params)")
    return params


def check_params(operation: str, params: Any) -> None:
    """Raise unless all leaves are arrays of floats or complex numbers."""
    for path, leaf in tree.leaves_with_path(each_leaf(operation, lambda p: p, params=params)):
        if not dtypes.is_inexact(jnp.result_type(leaf)):
            raise DTypeError(
                f"{operation}: params{tree.keystr(path)} is {aval_of(leaf)}; integers cannot be optimized by gradients",
                fix="keep integers out of the parameters, or cast them with .astype(float)",
            )


FROM_INIT = "start with state = optimizer.init(params); updates, state = optimizer.update(grads, state, params)"


def check_state(operation: str, state: Any, kind: type) -> None:
    """Raise unless the state is of the kind that the optimizer made."""
    if not isinstance(state, kind):
        found = "None" if state is None else f"of type {type(state).__name__}"
        raise ArgumentError(f"{operation}: the state is {found}, not {kind.__name__}", fix=FROM_INIT)


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
