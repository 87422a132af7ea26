"""L-BFGS: directions from the last differences of parameters and gradients.

Source: Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import lax, tree
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    Optimizer,
    Schedule,
    cast_like,
    check_params,
    check_state,
    increment,
    require_params,
    zero_count,
)
from funcgrad.optim.combine import chain
from funcgrad.optim.linesearch import scale_by_zoom_linesearch
from funcgrad.optim.scaling import scale, scale_by_learning_rate
from funcgrad.optim.tree import add_scale, norm, real, sub, vdot, where, zeros_like
from funcgrad.optim.tree import scale as scaled


class ScaleByLBFGSState(NamedTuple):
    """The number of updates; the last parameters and gradient; the last differences s and y, and 1 / ⟨y, s⟩ of each."""

    count: Any
    params: Any
    updates: Any
    diff_params_memory: Any
    diff_updates_memory: Any
    weights_memory: Any


def scale_by_lbfgs(memory_size: int = 10, scale_init_precond: bool = True) -> Optimizer:
    """L-BFGS: multiply the gradient by an approximation H of the inverse Hessian, from the last memory_size steps.

    H is defined by H ← (1 − ρsyᵀ)H(1 − ρysᵀ) + ρssᵀ with s = θ − θ₋₁, y = g − g₋₁, ρ = 1/⟨y, s⟩, starting at γ times
    the identity: γ = ⟨y, s⟩/⟨y, y⟩ (at first min(1, 1/‖g‖)), or 1 if not `scale_init_precond`. The product is computed
    by the two-loop recursion.

    Source: Nocedal, Wright, "Numerical optimization", 2nd edition, 2006, algorithms 7.4 and 7.5.
    """
    name = "scale_by_lbfgs"
    if not isinstance(memory_size, int) or memory_size < 1:
        raise ArgumentError(f"{name}: memory_size is {memory_size!r}", fix="give an integer of at least 1")

    def init(params: Any) -> ScaleByLBFGSState:
        check_params(name, params)
        memory = tree.map(lambda p: jnp.zeros((memory_size, *jnp.shape(p)), jnp.result_type(p)), params)
        weights = jnp.zeros(memory_size, jnp.real(norm(params)).dtype)
        return ScaleByLBFGSState(zero_count(), zeros_like(params), zeros_like(params), memory, memory, weights)

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, ScaleByLBFGSState]:
        check_state(name, state, ScaleByLBFGSState)
        first = state.count == 0
        s, y = sub(require_params(name, params), state.params), sub(updates, state.updates)
        s, y = where(first, zeros_like((s, y)), (s, y))
        curvature, square = real(vdot(y, s)), norm(y, squared=True)
        weight = _ratio(1.0, curvature, 0.0)
        slot = (state.count - 1) % memory_size
        past = (state.diff_params_memory, state.diff_updates_memory, state.weights_memory)
        memory = tree.map(lambda x, new: x.at[slot].set(new.astype(x.dtype)), past, (s, y, weight))
        start = jnp.ones_like(curvature)
        if scale_init_precond:
            start = jnp.where(first, jnp.minimum(1.0, 1 / norm(updates)), _ratio(curvature, square, 1.0))
        order = (state.count % memory_size + jnp.arange(memory_size)) % memory_size
        moved = _two_loops(updates, memory, order, start)
        return moved, ScaleByLBFGSState(increment(state.count), params, updates, *memory)

    return Optimizer(init, update)


def _ratio(x: Any, y: Any, otherwise: float) -> Any:
    """x / y, or another value where y is 0."""
    return jnp.where(y == 0, otherwise, x / jnp.where(y == 0, 1, y))


def _two_loops(g: Any, memory: tuple[Any, Any, Any], order: Any, start: Any) -> Any:
    """The product of H and g; `order` are the positions in the memory, the oldest first."""
    at = lambda i: tree.map(lambda x: x[i], memory)  # noqa: E731

    def back(q: Any, i: Any) -> tuple[Any, Any]:
        s, y, weight = at(i)
        alpha = weight * real(vdot(s, q))
        return add_scale(q, -alpha, y), alpha

    def forth(r: Any, i_alpha: tuple[Any, Any]) -> tuple[Any, None]:
        i, alpha = i_alpha
        s, y, weight = at(i)
        return add_scale(r, alpha - weight * real(vdot(y, r)), s), None

    q, alphas = lax.scan(back, g, order, reverse=True)
    return cast_like(lax.scan(forth, scaled(start, q), (order, alphas))[0], g)


def lbfgs(
    learning_rate: float | Schedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Optimizer | None = scale_by_zoom_linesearch(20, initial_guess_strategy="one"),  # noqa: B008
) -> Optimizer:
    """L-BFGS: θ ← θ − s·Hg, where H approximates the inverse Hessian (see `scale_by_lbfgs`) and a line search finds s.

    `update` needs what the line search needs. PyTorch's LBFGS makes up to 20 such steps in one call.

    >>> import funcgrad as fg
    >>> from funcgrad.optim import apply_updates, value_and_grad_from_state
    >>> def rosenbrock(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> optimizer = lbfgs()
    >>> value_and_grad = value_and_grad_from_state(rosenbrock)
    >>> @fg.jit
    ... def step(x, state):
    ...     value, grad = value_and_grad(x, state=state)
    ...     updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=rosenbrock)
    ...     return apply_updates(x, updates), state
    >>> x = jnp.array([-1.2, 1.0])
    >>> state = optimizer.init(x)
    >>> for _ in range(40):
    ...     x, state = step(x, state)
    >>> x.round(3)
    Array([1., 1.], dtype=float32)

    Source: Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
    """
    descent = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
    parts = (scale_by_lbfgs(memory_size, scale_init_precond), descent)
    return chain(*parts) if linesearch is None else chain(*parts, linesearch)
