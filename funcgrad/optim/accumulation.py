"""Updates from several steps: accumulated gradients, lookahead, sharpness-aware minimization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import lax, tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    Optimizer,
    abs_sq,
    apply_updates,
    cast_like,
    check_state,
    each_leaf,
    increment,
    require_params,
    value_at,
    with_extra_args_support,
    zero_count,
)
from funcgrad.optim.combine import update_if


class MultiStepsState(NamedTuple):
    """Gradients accumulated so far, updates of the inner optimizer, its state, the sum, and why a step was skipped."""

    mini_step: Any
    gradient_step: Any
    inner_opt_state: Any
    acc_grads: Any
    skip_state: Any = ()


class LookaheadState(NamedTuple):
    """The state of the fast optimizer, and its updates since the last synchronization."""

    fast_state: Any
    steps_since_sync: Any


class LookaheadParams(NamedTuple):
    """The fast parameters, for which gradients are computed, and the slow ones."""

    fast: Any
    slow: Any

    @classmethod
    def init_synced(cls, params: Any) -> LookaheadParams:
        """Start both from the same parameters."""
        return cls(params, params)


class SAMState(NamedTuple):
    """The number of ascent steps so far, the states of both optimizers, and the parameters before the ascent."""

    steps_since_sync: Any
    opt_state: Any
    adv_state: Any
    cache: Any


def skip_not_finite(updates: Any, gradient_step: Any, params: Any) -> tuple[Any, dict[str, Any]]:
    """Skip gradients with an element that is not finite; for `MultiSteps`."""
    counts = [jnp.sum(~jnp.isfinite(x)) for x in tree.leaves(updates)]
    count = sum(counts, jnp.zeros((), int))
    return count > 0, {"should_skip": count > 0, "num_not_finite": count}


def skip_large_updates(
    updates: Any, gradient_step: Any, params: Any, max_squared_norm: float
) -> tuple[Any, dict[str, Any]]:
    """Skip gradients whose squared norm is not below a limit; for `MultiSteps`, with functools.partial."""
    square = sum([jnp.sum(abs_sq(x)) for x in tree.leaves(updates)], jnp.zeros(()))
    skip = ~(square < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": square}


class MultiSteps:
    """Accumulate k gradients, then update with their mean. The updates in between are zeros.

    `every_k_schedule` is k, or a function from the number of updates to k. `should_skip_update_fn`, such as
    `skip_not_finite`, decides which gradients are dropped. The sum is kept in `accumulator_dtype`.

    >>> from funcgrad import optim
    >>> optimizer = MultiSteps(optim.sgd(1.0), every_k_schedule=2)
    >>> state = optimizer.init(jnp.zeros(1))
    >>> for g in (1.0, 3.0):
    ...     updates, state = optimizer.update(jnp.array([g]), state)
    ...     print(updates)
    [0.]
    [-2.]
    """

    def __init__(
        self,
        opt: Optimizer,
        every_k_schedule: int | Callable[[Any], Any],
        use_grad_mean: bool = True,
        should_skip_update_fn: Callable[..., tuple[Any, Any]] | None = None,
        accumulator_dtype: Any = "float32",
    ) -> None:
        if not callable(every_k_schedule) and (not isinstance(every_k_schedule, int) or every_k_schedule < 1):
            raise ArgumentError(
                f"MultiSteps: every_k_schedule is {every_k_schedule!r}",
                fix="give an integer of at least 1, or a schedule",
            )
        self.inner_opt = with_extra_args_support(opt)
        self._every_k = every_k_schedule
        self._mean = use_grad_mean
        self._skip = should_skip_update_fn
        self._dtype = accumulator_dtype

    def init(self, params: Any) -> MultiStepsState:
        """Return the state before the first gradient."""
        skip_state = self._skip(tree.map(jnp.zeros_like, params), zero_count(), params)[1] if self._skip else ()
        total = tree.map(lambda p: jnp.zeros_like(p, dtype=self._dtype), params)
        return MultiStepsState(zero_count(), zero_count(), self.inner_opt.init(params), total, skip_state)

    def update(
        self, updates: Any, state: MultiStepsState, params: Any = None, **extra: Any
    ) -> tuple[Any, MultiStepsState]:
        """Accumulate a gradient; return the update of the inner optimizer if it is the last of k, otherwise zeros."""
        check_state("MultiSteps", state, MultiStepsState)
        if self._skip is None:
            return self._accumulate(updates, state, params, extra)
        skip, skip_state = self._skip(updates, state.gradient_step, params)
        state = state._replace(skip_state=skip_state)
        return lax.cond(
            skip,
            lambda: (tree.map(jnp.zeros_like, updates), state),
            lambda: self._accumulate(updates, state, params, extra),
        )

    def _accumulate(
        self, updates: Any, state: MultiStepsState, params: Any, extra: dict[str, Any]
    ) -> tuple[Any, MultiStepsState]:
        k: Any = value_at(self._every_k, state.gradient_step)
        n = state.mini_step * 1.0
        add = (lambda total, g: total + (g - total) / (n + 1)) if self._mean else (lambda total, g: total + g)
        total = cast_like(each_leaf("MultiSteps", add, acc_grads=state.acc_grads, updates=updates), state.acc_grads)
        last = state.mini_step == k - 1
        args = (cast_like(total, updates), state.inner_opt_state, params)
        updates, inner = update_if(last, self.inner_opt, lambda g: tree.map(jnp.zeros_like, g), args, extra)
        kept = tree.map(lambda x: jnp.where(last, 0, x), total)
        step = jnp.where(last, increment(state.gradient_step), state.gradient_step)
        return updates, MultiStepsState((state.mini_step + 1) % k, step, inner, kept, state.skip_state)

    def has_updated(self, state: MultiStepsState) -> Any:
        """Whether the last update was one of the inner optimizer."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> Optimizer:
        """Return the pair of init and update."""
        return Optimizer(self.init, self.update)


def lookahead(
    fast_optimizer: Optimizer, sync_period: int, slow_step_size: float, reset_state: bool = False
) -> Optimizer:
    """Lookahead: after sync_period fast updates, slow ← slow + slow_step_size·(fast − slow) and fast ← slow.

    The parameters are `LookaheadParams`; gradients are those at its `fast` part. `reset_state` starts the fast
    optimizer again after each synchronization.

    Source: Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", 2019.
    """
    _check_period("lookahead", sync_period)

    def init(params: LookaheadParams) -> LookaheadState:
        return LookaheadState(fast_optimizer.init(_lookahead_params(params).fast), zero_count())

    def update(updates: Any, state: LookaheadState, params: Any = None, **_: Any) -> tuple[Any, LookaheadState]:
        check_state("lookahead", state, LookaheadState)
        fast, slow = _lookahead_params(require_params("lookahead", params))
        moved, inner = fast_optimizer.update(updates, state.fast_state, fast)
        sync = state.steps_since_sync == sync_period - 1
        step = lambda f, u, s: jnp.where(sync, slow_step_size * (f + u - s), 0).astype(jnp.result_type(u))  # noqa: E731
        slow_updates = each_leaf("lookahead", step, fast=fast, updates=moved, slow=slow)
        join = lambda u, f, s, d: jnp.where(sync, s + d - f, u).astype(jnp.result_type(u))  # noqa: E731
        fast_updates = each_leaf("lookahead", join, updates=moved, fast=fast, slow=slow, step=slow_updates)
        if reset_state:
            inner = tree.map(lambda new, old: jnp.where(sync, new, old), fast_optimizer.init(fast), inner)
        return LookaheadParams(fast_updates, slow_updates), LookaheadState(
            inner, (state.steps_since_sync + 1) % sync_period
        )

    return Optimizer(init, update)


def _lookahead_params(params: Any) -> LookaheadParams:
    if not isinstance(params, LookaheadParams):
        raise ArgumentError(
            f"lookahead: params is of type {type(params).__name__}",
            fix="make them with LookaheadParams.init_synced(params), and differentiate at params.fast",
        )
    return params


def _check_period(name: str, sync_period: Any) -> None:
    if not isinstance(sync_period, int) or sync_period < 1:
        raise ArgumentError(f"{name}: sync_period is {sync_period!r}", fix="give an integer of at least 1")


def sam(
    optimizer: Optimizer,
    adv_optimizer: Optimizer,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
) -> Optimizer:
    """Sharpness-aware minimization: the gradient after sync_period − 1 ascent steps updates the original parameters.

    `adv_optimizer` makes the ascent: `chain(normalize(), sgd(rho))` is SAM with radius rho. By default each call makes
    one step, an ascent or, every sync_period-th, the update, so the loss is evaluated once in each call. With
    `opaque_mode`, a call makes them all, and needs ``grad_fn(params, i)``.

    Source: Foret et al., "Sharpness-aware minimization for efficiently improving generalization", 2020.
    """
    _check_period("sam", sync_period)
    ascend = lambda updates: tree.map(jnp.negative, updates)  # noqa: E731

    def init(params: Any) -> SAMState:
        cache = None if opaque_mode else params
        return SAMState(zero_count(), optimizer.init(params), adv_optimizer.init(params), cache)

    def step(updates: Any, state: SAMState, params: Any) -> tuple[Any, SAMState]:
        first, last = state.steps_since_sync == 0, state.steps_since_sync == sync_period - 1
        choose = lambda a, b: tree.map(lambda x, y: jnp.where(last, x, y), a, b)  # noqa: E731
        origin = tree.map(lambda p, c: jnp.where(first, p, c), params, state.cache)
        ascent, adv_state = adv_optimizer.update(updates, state.adv_state, params)
        descent, opt_state = optimizer.update(updates, state.opt_state, origin)
        descent = each_leaf("sam", lambda c, p, u: c - p + u, cache=origin, params=params, updates=descent)
        reset = adv_optimizer.init(params) if reset_state else state.adv_state
        state = SAMState(
            (state.steps_since_sync + 1) % sync_period,
            choose(opt_state, state.opt_state),
            choose(reset, adv_state),
            origin,
        )
        return choose(descent, ascend(ascent)), state

    def all_steps(updates: Any, state: SAMState, params: Any, grad_fn: Any) -> tuple[Any, SAMState]:
        if grad_fn is None:
            raise ArgumentError(
                "sam: opaque_mode needs the gradient", fix="call update(..., grad_fn=lambda params, i: …)"
            )
        moved, adv_state = params, state.adv_state
        for i in range(sync_period - 1):
            ascent, adv_state = adv_optimizer.update(updates, adv_state, moved)
            moved = apply_updates(moved, ascend(ascent))
            updates = grad_fn(moved, i)
        updates, opt_state = optimizer.update(updates, state.opt_state, params)
        adv_state = adv_optimizer.init(params) if reset_state else adv_state
        return updates, SAMState(zero_count(), opt_state, adv_state, None)

    def update(
        updates: Any, state: SAMState, params: Any = None, *, grad_fn: Any = None, **_: Any
    ) -> tuple[Any, SAMState]:
        check_state("sam", state, SAMState)
        require_params("sam", params)
        return all_steps(updates, state, params, grad_fn) if opaque_mode else step(updates, state, params)

    return Optimizer(init, update)
