"""Sophia: steps scaled by an estimate of the diagonal of the Hessian, clipped element by element."""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import lax, random, tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    Optimizer,
    Schedule,
    abs_sq,
    average,
    bias_correction,
    cast_like,
    check_params,
    check_state,
    each_leaf,
    increment,
    numbers,
    require_params,
    with_extra_args_support,
    zero_count,
    zeros,
)
from funcgrad.optim.combine import chain
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.steps import add_decayed_weights
from funcgrad.optim.tree import random_like
from funcgrad.transforms.derivatives import jvp
from funcgrad.transforms.grad import grad


class HutchinsonState(NamedTuple):
    """The key for the next estimate."""

    key: Any


class SophiaState(NamedTuple):
    """The number of updates, the averages of g and of the diagonal of the Hessian, and the state of its estimator."""

    count: Any
    mu: Any
    nu: Any
    hessian_fn_state: Any


def _estimator(key: Any, estimate: Any) -> Optimizer:
    """An estimator with a state that is a key: `estimate(key, params, **extra)` returns the diagonal."""

    def init(params: Any) -> HutchinsonState:
        return HutchinsonState(random.PRNGKey(0) if key is None else key)

    def update(updates: Any, state: HutchinsonState, params: Any = None, **extra: Any) -> tuple[Any, HutchinsonState]:
        following, own = random.split(state.key)
        return estimate(own, require_params("sophia", params), **extra), HutchinsonState(following)

    return Optimizer(init, update)


def _need(function: Any, name: str, call: str) -> None:
    if function is None:
        raise ArgumentError(f"sophia: the estimator of the Hessian needs {name}", fix=f"call update(..., {call})")


def hutchinson_estimator_diag_hessian(random_seed: Any = None) -> Optimizer:
    """Hutchinson's estimator of the diagonal of the Hessian: s ⊙ Hs for random signs s. Its expectation is exact.

    `update` needs `obj_fn`, the function from parameters to the loss. `random_seed` is a key of `funcgrad.random`.

    Source: Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines",
    1989.
    """

    def estimate(key: Any, params: Any, obj_fn: Any = None, **_: Any) -> Any:
        _need(obj_fn, "the loss as a function of the parameters", "obj_fn=loss")
        signs = cast_like(random_like(key, params, random.rademacher, "float32"), params)
        return tree.map(jnp.multiply, jvp(grad(obj_fn), (params,), (signs,))[1], signs)

    return _estimator(random_seed, estimate)


def gauss_newton_bartlett_estimator(batch_size: int, key: Any = None) -> Optimizer:
    """The Gauss–Newton–Bartlett estimator of the diagonal: batch_size·ĝ², where ĝ is a gradient at sampled labels.

    `update` needs `sampled_loss_fn(params, key)`: the mean loss over the batch with labels that are drawn, with the
    key, from what the model predicts. Not in optax.

    Source: Liu et al., "Sophia: a scalable stochastic second-order optimizer for language model pre-training", 2023.
    """

    def estimate(key: Any, params: Any, sampled_loss_fn: Any = None, **_: Any) -> Any:
        _need(sampled_loss_fn, "the loss at sampled labels", "sampled_loss_fn=lambda params, key: …")
        return tree.map(lambda g: batch_size * abs_sq(g), grad(sampled_loss_fn)(params, key))

    return _estimator(key, estimate)


def scale_by_sophia(
    b1: float = 0.965,
    b2: float = 0.99,
    eps: float = 1e-8,
    gamma: float = 0.01,
    clip_threshold: float | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Optimizer | None = None,
    mu_dtype: Any = None,
) -> Optimizer:
    """Sophia: m ← b₁m + (1 − b₁)g; the update is m̂ / max(gamma·h, eps), clipped to ±clip_threshold.

    h ← b₂h + (1 − b₂)ĥ in every update_interval-th update, after its use; ĥ comes from `hessian_diagonal_fn`, by
    default `hutchinson_estimator_diag_hessian()`, which needs ``update(..., obj_fn=loss)``.

    Source: Liu et al., "Sophia: a scalable stochastic second-order optimizer for language model pre-training", 2023.
    """
    name = "scale_by_sophia"
    numbers(name, b1=b1, b2=b2, eps=eps, gamma=gamma, update_interval=update_interval)
    estimator = with_extra_args_support(hessian_diagonal_fn or hutchinson_estimator_diag_hessian())

    def init(params: Any) -> SophiaState:
        check_params(name, params)
        mu, nu = tree.map(zeros(mu_dtype), params), tree.map(zeros(), params)
        return SophiaState(zero_count(), mu, nu, estimator.init(params))

    def update(updates: Any, state: SophiaState, params: Any = None, **extra: Any) -> tuple[Any, SophiaState]:
        check_state(name, state, SophiaState)
        count = increment(state.count)
        correction = bias_correction(b1, count * 1.0)
        mu = each_leaf(name, lambda g, m: average(b1, g, m), updates=updates, mu=state.mu)

        def step(g: Any, m: Any, h: Any) -> Any:
            u = m * correction / jnp.maximum(gamma * h, eps)
            return cast_like(u if clip_threshold is None else jnp.clip(u, -clip_threshold, clip_threshold), g)

        def estimated() -> tuple[Any, Any]:
            diagonal, after = estimator.update(updates, state.hessian_fn_state, params, **extra)
            nu = each_leaf(name, lambda h, n: average(b2, h, n), hessian=diagonal, nu=state.nu)
            return cast_like(nu, state.nu), after

        moved = tree.map(step, updates, mu, state.nu)
        due = state.count % update_interval == 0
        nu, after = lax.cond(due, estimated, lambda: (state.nu, state.hessian_fn_state))
        return moved, SophiaState(count, cast_like(mu, state.mu), nu, after)

    return Optimizer(init, update)


def sophia(
    learning_rate: float | Schedule,
    b1: float = 0.965,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    weight_decay_mask: Any = None,
    gamma: float = 0.01,
    clip_threshold: float | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Optimizer | None = None,
    mu_dtype: Any = None,
) -> Optimizer:
    """Sophia: θ ← θ − η·(clip(m̂ / max(gamma·h, eps)) + weight_decay·θ), where h estimates the diagonal of the Hessian.

    `update` needs what the estimator needs, by default ``obj_fn=loss``, a function of the parameters alone.

    >>> import funcgrad as fg
    >>> from funcgrad.optim import apply_updates
    >>> loss = lambda x: jnp.sum(jnp.array([1.0, 100.0]) * x**2)
    >>> optimizer = sophia(0.05, b2=0.0, weight_decay=0.0, gamma=1.0)
    >>> x = jnp.array([0.25, 0.5])
    >>> updates, state = optimizer.update(fg.grad(loss)(x), optimizer.init(x), x, obj_fn=loss)
    >>> x = apply_updates(x, updates)
    >>> x, state[0].nu
    (Array([0.2 , 0.45], dtype=float32), Array([  2., 200.], dtype=float32))

    Source: Liu et al., "Sophia: a scalable stochastic second-order optimizer for language model pre-training", 2023.
    """
    return chain(
        scale_by_sophia(b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn, mu_dtype),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
