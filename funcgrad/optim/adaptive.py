"""Transformations that scale each element by what they remember of its gradients: RMSprop, Adagrad, Rprop, …"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.core.array_types import aval_of
from funcgrad.errors import DTypeError
from funcgrad.optim.base import (
    Optimizer,
    abs_sq,
    average,
    bias_correction,
    leafwise,
    numbers,
    stateless_leafwise,
    zeros,
)


def _full(value: Any) -> Callable[[Any], Any]:
    """Return the function from a parameter to a real array of its shape, filled with a value."""
    return lambda p: jnp.full_like(jnp.real(p), value)


class ScaleByRssState(NamedTuple):
    """The sum of |g|²."""

    sum_of_squares: Any


class ScaleByRmsState(NamedTuple):
    """The moving average of |g|²."""

    nu: Any


class ScaleByRmsWithCountState(NamedTuple):
    """The number of updates, and the moving average of |g|²."""

    count: Any
    nu: Any


class ScaleByRStdDevState(NamedTuple):
    """The moving averages of g and |g|²."""

    mu: Any
    nu: Any


class ScaleByRStdDevWithCountState(NamedTuple):
    """The number of updates, and the moving averages of g and |g|²."""

    count: Any
    mu: Any
    nu: Any


class ScaleByAdaDeltaState(NamedTuple):
    """The moving averages of g² and of the squared updates."""

    e_g: Any
    e_x: Any


class ScaleByRpropState(NamedTuple):
    """The step size of each element, and the last updates."""

    step_sizes: Any
    prev_updates: Any


class ScaleBySM3State(NamedTuple):
    """For each axis of each leaf, the largest accumulators along it; the momentum."""

    mu: Any
    nu: Any


class FactoredState(NamedTuple):
    """The number of updates; averages of g² over rows and columns of factored leaves, and of g² of the others."""

    count: Any
    v_row: Any
    v_col: Any
    v: Any


def scale_by_rss(initial_accumulator_value: float = 0.1, eps: float = 1e-7) -> Optimizer:
    """Adagrad: s ← s + |g|²; the update is g / √(s + eps), or 0 where s = 0.

    PyTorch adds eps to the root instead, and starts at 0.

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """
    numbers("scale_by_rss", initial_accumulator_value=initial_accumulator_value, eps=eps)

    def step(g: Any, s: Any) -> Any:
        s = s + abs_sq(g)
        return jnp.where(s > 0, g * lax.rsqrt(s + eps), 0), s

    start = _full(initial_accumulator_value)
    return leafwise("scale_by_rss", ScaleByRssState, lambda t: step, sum_of_squares=start)


def _root(v: Any, eps: Any, inside: bool) -> Any:
    return jnp.sqrt(v + eps) if inside else jnp.sqrt(v) + eps


def scale_by_rms(
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Optimizer:
    """RMSprop: v ← decay·v + (1 − decay)|g|²; the update is g / √(v + eps), or g / (√v + eps) if not `eps_in_sqrt`.

    With `bias_correction`, v / (1 − decayᵗ) takes the place of v. PyTorch has eps outside of the root.

    Source: Tieleman, Hinton, "RMSprop", Coursera lecture 6.5, 2012.
    """
    numbers("scale_by_rms", decay=decay, eps=eps, initial_scale=initial_scale)

    def rule(t: Any) -> Any:
        correction = _correction(decay, t)

        def step(g: Any, v: Any) -> Any:
            v = average(decay, abs_sq(g), v)
            return g / _root(v * correction, eps, eps_in_sqrt), v

        return step

    kind = ScaleByRmsWithCountState if bias_correction else ScaleByRmsState
    return leafwise("scale_by_rms", kind, rule, nu=_full(initial_scale))


def _correction(decay: Any, t: Any) -> Any:
    return 1 if t is None else bias_correction(decay, t)


def scale_by_stddev(
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Optimizer:
    """Centered RMSprop: as `scale_by_rms`, with the variance v − |m|² in place of v, where m is the average of g.

    Source: Graves, "Generating sequences with recurrent neural networks", 2013.
    """
    numbers("scale_by_stddev", decay=decay, eps=eps, initial_scale=initial_scale)

    def rule(t: Any) -> Any:
        correction = _correction(decay, t)

        def step(g: Any, m: Any, v: Any) -> Any:
            m, v = average(decay, g, m), average(decay, abs_sq(g), v)
            return g / _root(v * correction - abs_sq(m * correction), eps, eps_in_sqrt), m, v

        return step

    kind = ScaleByRStdDevWithCountState if bias_correction else ScaleByRStdDevState
    return leafwise("scale_by_stddev", kind, rule, mu=zeros(), nu=_full(initial_scale))


def scale_by_adadelta(rho: float = 0.9, eps: float = 1e-6) -> Optimizer:
    """Adadelta: v ← ρv + (1 − ρ)g²; the update is u = g·√(x + eps) / √(v + eps), then x ← ρx + (1 − ρ)u².

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """
    numbers("scale_by_adadelta", rho=rho, eps=eps)

    def step(g: Any, v: Any, x: Any) -> Any:
        v = average(rho, abs_sq(g), v)
        u = g * (jnp.sqrt(x + eps) / jnp.sqrt(v + eps))
        return u, v, average(rho, abs_sq(u), x)

    real = zeros(real=True)
    return leafwise("scale_by_adadelta", ScaleByAdaDeltaState, lambda t: step, e_g=real, e_x=real)


def scale_by_rprop(
    learning_rate: float,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
) -> Optimizer:
    """Rprop: steps Δ·sign(g); Δ grows by η₊ where g keeps its sign, and shrinks by η₋ where the sign changes.

    Where it changes, the parameter stays for one update. Δ starts at the learning rate and stays within the limits.
    This is PyTorch's rule too; optax 0.2.8 applies every step one update late.

    Source: Riedmiller, Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
    1993.
    """
    numbers("scale_by_rprop", learning_rate=learning_rate, eta_minus=eta_minus, eta_plus=eta_plus)

    def step(g: Any, size: Any, last: Any) -> Any:
        sign = g * last
        changed = jnp.clip(size * jnp.where(sign > 0, eta_plus, eta_minus), min_step_size, max_step_size)
        size = jnp.where(sign == 0, size, changed)
        update = jnp.where(sign < 0, 0, size * jnp.sign(g))
        return update, size, update

    return leafwise(
        "scale_by_rprop", ScaleByRpropState, lambda t: step, step_sizes=_full(learning_rate), prev_updates=zeros()
    )


def scale_by_sign() -> Optimizer:
    """sign(g). Source: Bernstein et al., "signSGD", ICML 2018."""
    return stateless_leafwise("scale_by_sign", jnp.sign)


def scale_by_sm3(b1: float = 0.9, b2: float = 1.0, eps: float = 1e-8) -> Optimizer:
    """SM3: as Adagrad, with one accumulator for each index of each axis.

    a = min over the axes of their accumulators + g², u = g / √(a + eps), and the update is the average
    m ← b₁m + (1 − b₁)u. The accumulators of an axis become the maxima of a over the other axes. With b₂ < 1, a is a
    moving average.

    Source: Anil et al., "Memory-efficient adaptive optimization", 2019.
    """
    numbers("scale_by_sm3", b1=b1, eps=eps)

    def accumulators(p: Any) -> list[Any]:
        if jnp.iscomplexobj(p):
            raise DTypeError(f"scale_by_sm3: a parameter is {aval_of(p)}", fix="SM3 is for real parameters")
        return [jnp.zeros(n, p.dtype) for n in p.shape]

    def step(g: Any, past: list[Any], m: Any) -> Any:
        axes = range(g.ndim)
        columns = [past[i].reshape([-1 if i == j else 1 for j in axes]) for i in axes]
        square = (1 - b2 if b2 != 1 else 1) * g**2
        a = square + b2 * functools.reduce(jnp.minimum, columns) if columns else square
        m = average(b1, jnp.where(a > 0, g * lax.rsqrt(a + eps), 0), m)
        return m, [jnp.max(a, axis=[j for j in axes if j != i]) for i in axes], m

    return leafwise("scale_by_sm3", ScaleBySM3State, lambda t: step, shaped=False, mu=accumulators, nu=zeros())


def _power_decay(step: Any, exponent: float = 0.8) -> Any:
    return 1 - (step + 1.0) ** -exponent


def _factored_axes(shape: tuple[int, ...], minimum: int) -> tuple[int, int] | None:
    """The axes of the second largest and the largest size, if the former is at least the minimum."""
    if len(shape) < 2:
        return None
    *_, second, largest = (int(axis) for axis in np.argsort(shape))
    return (second, largest) if shape[second] >= minimum else None


def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: float = 0.8,
    step_offset: int = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: float = 1e-30,
    decay_rate_fn: Callable[[Any, float], Any] = _power_decay,
) -> Optimizer:
    """Adafactor's scaling: g / √v, where v ← βₜv + (1 − βₜ)(g² + epsilon) with βₜ = 1 − t^−decay_rate.

    For leaves whose two largest axes have at least min_dim_size_to_factor elements, only the means of v over these two
    axes are kept, R and C, and v = R Cᵀ / mean(R).

    Source: Shazeer, Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.
    """
    numbers("scale_by_factored_rms", decay_rate=decay_rate, step_offset=step_offset, epsilon=epsilon)

    def axes_of(p: Any) -> tuple[int, int] | None:
        return _factored_axes(jnp.shape(p), min_dim_size_to_factor) if factored else None

    def kept(p: Any, which: int | None) -> Any:
        """Zeros for the average over one of the two axes, or for v; a placeholder for what the leaf does not need."""
        axes, shape = axes_of(p), jnp.shape(p)
        if (axes is None) != (which is None):
            return jnp.zeros(1, p.dtype)
        return jnp.zeros(shape if which is None else np.delete(shape, axes[which]).tolist(), p.dtype)  # ty: ignore[not-subscriptable]

    def rule(t: Any) -> Any:
        decay = decay_rate_fn(t - 1 - step_offset, decay_rate)

        def step(g: Any, row: Any, column: Any, v: Any) -> Any:
            axes, square = axes_of(g), abs_sq(g) + epsilon
            if axes is None:
                v = average(decay, square, v)
                return g * lax.rsqrt(v), row, column, v
            second, largest = axes
            row = average(decay, jnp.mean(square, largest), row)
            column = average(decay, jnp.mean(square, second), column)
            mean = jnp.mean(row, second - (second > largest), keepdims=True)
            scale = jnp.expand_dims(lax.rsqrt(row / mean), largest) * jnp.expand_dims(lax.rsqrt(column), second)
            return g * scale, row, column, v

        return step

    of = functools.partial
    slots: dict[str, Any] = {"v_row": of(kept, which=1), "v_col": of(kept, which=0), "v": of(kept, which=None)}
    return leafwise("scale_by_factored_rms", FactoredState, rule, shaped=False, **slots)
