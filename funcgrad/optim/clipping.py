"""Transformations that limit updates: by value, by norms of leaves, by the global norm, relative to the parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.optim.base import Optimizer, abs_sq, check_state, global_norm, numbers, stateless, stateless_leafwise


class ZeroNansState(NamedTuple):
    """For each leaf, whether its last update had a NaN."""

    found_nan: Any


def clip(max_delta: float) -> Optimizer:
    """Clip each element of g to [−max_delta, max_delta]."""
    numbers("clip", max_delta=max_delta)
    return stateless_leafwise("clip", lambda g: jnp.clip(g, -max_delta, max_delta))


def clip_by_block_rms(threshold: float) -> Optimizer:
    """Scale each leaf so that its root mean square is at most the threshold: g / max(1, rms(g) / threshold).

    Source: Shazeer, Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.
    """
    numbers("clip_by_block_rms", threshold=threshold)
    rule = lambda g: g / jnp.maximum(1, jnp.sqrt(jnp.mean(abs_sq(g))) / threshold)  # noqa: E731
    return stateless_leafwise("clip_by_block_rms", rule)


def clip_by_block_norm(max_norm: float) -> Optimizer:
    """Scale each leaf so that its norm is at most max_norm: g / max(1, ‖g‖ / max_norm). Not in optax."""
    numbers("clip_by_block_norm", max_norm=max_norm)
    rule = lambda g: g / jnp.maximum(1, jnp.sqrt(jnp.sum(abs_sq(g))) / max_norm)  # noqa: E731
    return stateless_leafwise("clip_by_block_norm", rule)


def clip_by_global_norm(max_norm: float) -> Optimizer:
    """Scale the updates so that their global norm is at most max_norm: g·min(1, max_norm / ‖g‖).

    PyTorch's clip_grad_norm_ adds 1e-6 to ‖g‖.

    >>> optimizer = clip_by_global_norm(1.0)
    >>> optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(None))[0]
    Array([0.6, 0.8], dtype=float32)

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    numbers("clip_by_global_norm", max_norm=max_norm)

    def update(updates: Any, params: Any) -> Any:
        # Avoid dividing by a norm of 0.
        factor = max_norm / jnp.maximum(global_norm(updates), max_norm)
        return tree.map(lambda g: (g * factor).astype(jnp.result_type(g)), updates)

    return stateless(update)


def _unit_norm(x: Any, axis: Any) -> Any:
    """The norms of the units of a leaf: all of a vector, columns of a matrix, filters of a kernel (channels last)."""
    if axis is None:
        axis = tuple(range(x.ndim)) if jnp.squeeze(x).ndim <= 1 else (0,) if x.ndim <= 3 else tuple(range(x.ndim - 1))
    return jnp.sqrt(jnp.sum(abs_sq(x), axis=axis, keepdims=True))


def adaptive_grad_clip(clipping: float, eps: float = 1e-3, axis: Any = None) -> Optimizer:
    """Scale each unit of g so that its norm is at most clipping·max(‖unit of θ‖, eps).

    Units are columns of matrices, and filters of convolution kernels with channels last; `axis` are the axes of a norm.

    Source: Brock et al., "High-performance large-scale image recognition without normalization", 2021.
    """
    numbers("adaptive_grad_clip", clipping=clipping, eps=eps)

    def rule(g: Any, p: Any) -> Any:
        norm, limit = _unit_norm(g, axis), clipping * jnp.maximum(_unit_norm(jnp.asarray(p), axis), eps)
        return jnp.where(norm < limit, g, g * (limit / jnp.maximum(norm, 1e-6)))

    return stateless_leafwise("adaptive_grad_clip", rule, needs_params=True)


def zero_nans() -> Optimizer:
    """Replace NaNs with 0. The state tells in which leaves they were."""

    def init(params: Any) -> ZeroNansState:
        return ZeroNansState(tree.map(lambda p: jnp.asarray(False), params))

    def update(updates: Any, state: ZeroNansState, params: Any = None, **_: Any) -> tuple[Any, ZeroNansState]:
        check_state("zero_nans", state, ZeroNansState)
        found = tree.map(lambda g: jnp.any(jnp.isnan(g)), updates)
        return tree.map(lambda g: jnp.where(jnp.isnan(g), 0, g), updates), ZeroNansState(found)

    return Optimizer(init, update)
