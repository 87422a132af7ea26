"""Transformations of the Adam family: moving averages m of the gradients and v of their squares.

g is the gradient, t = 1, 2, … the number of the update, and a hat the correction of the bias of an average that starts
at zero: m̂ = m / (1 − b₁ᵗ), v̂ = v / (1 − b₂ᵗ).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import (
    Optimizer,
    abs_sq,
    average,
    bias_correction,
    leafwise,
    numbers,
    zeros,
)


class ScaleByAdamState(NamedTuple):
    """The number of updates, and the moving averages of g and |g|²."""

    count: Any
    mu: Any
    nu: Any


class ScaleByAmsgradState(NamedTuple):
    """The state of Adam, and the largest v̂ so far."""

    count: Any
    mu: Any
    nu: Any
    nu_max: Any


class ScaleByAdanState(NamedTuple):
    """The number of updates; averages of the gradient, its difference, and its square; the last gradient."""

    count: Any
    m: Any
    v: Any
    n: Any
    g: Any


class ScaleByLionState(NamedTuple):
    """The number of updates and the moving average of g."""

    count: Any
    mu: Any


class ScaleByNovogradState(NamedTuple):
    """The number of updates, the momentum, and the moving average of ‖g‖² for each leaf."""

    count: Any
    mu: Any
    nu: Any


def corrected_mean(b1: Any, nesterov: bool, t: Any) -> Callable[[Any, Any], Any]:
    """Return the function (m, g) → m̂, or with `nesterov` → b₁m / (1 − b₁ᵗ⁺¹) + (1 − b₁)g / (1 − b₁ᵗ)."""
    now = bias_correction(b1, t)
    if not nesterov:
        return lambda m, g: m * now
    ahead = bias_correction(b1, t + 1)
    return lambda m, g: m * (b1 * ahead) + g * ((1 - b1) * now)


def scale_by_adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam: m ← b₁m + (1 − b₁)g, v ← b₂v + (1 − b₂)|g|²; the update is m̂ / (√(v̂ + eps_root) + eps).

    With `nesterov`, m̂ = b₁m/(1 − b₁ᵗ⁺¹) + (1 − b₁)g/(1 − b₁ᵗ). m is kept in `mu_dtype`, by default that of g.

    Sources: Kingma, Ba, "Adam: a method for stochastic optimization", 2014; Dozat, "Incorporating Nesterov momentum
    into Adam", 2016.
    """
    numbers("scale_by_adam", b1=b1, b2=b2, eps=eps, eps_root=eps_root)

    def rule(t: Any) -> Any:
        mean, square = corrected_mean(b1, nesterov, t), bias_correction(b2, t)

        def step(g: Any, m: Any, v: Any) -> Any:
            m, v = average(b1, g, m), average(b2, abs_sq(g), v)
            return mean(m, g) / (jnp.sqrt(v * square + eps_root) + eps), m, v

        return step

    return leafwise("scale_by_adam", ScaleByAdamState, rule, mu=zeros(mu_dtype), nu=zeros(real=True))


def scale_by_amsgrad(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Optimizer:
    """AMSGrad: as Adam, with the largest v̂ so far in place of v̂.

    `bias_correction_mu=False`, `bias_correction_nu=False`: m and v in place of m̂ and v̂. PyTorch's `amsgrad=True` takes
    the largest v, and corrects its bias then.

    Source: Reddi, Kale, Kumar, "On the convergence of Adam and beyond", 2018.
    """
    numbers("scale_by_amsgrad", b1=b1, b2=b2, eps=eps, eps_root=eps_root)

    def rule(t: Any) -> Any:
        first = bias_correction(b1, t) if bias_correction_mu else 1
        second = bias_correction(b2, t) if bias_correction_nu else 1

        def step(g: Any, m: Any, v: Any, largest: Any) -> Any:
            m, v = average(b1, g, m), average(b2, abs_sq(g), v)
            largest = jnp.maximum(largest, v * second)
            return m * first / (jnp.sqrt(largest + eps_root) + eps), m, v, largest

        return step

    real = zeros(real=True)
    return leafwise("scale_by_amsgrad", ScaleByAmsgradState, rule, mu=zeros(mu_dtype), nu=real, nu_max=real)


def scale_by_adamax(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adamax: m ← b₁m + (1 − b₁)g, u ← max(b₂u, |g| + eps); the update is m̂ / u.

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", 2014, section 7.1.
    """
    numbers("scale_by_adamax", b1=b1, b2=b2, eps=eps)

    def rule(t: Any) -> Any:
        first = bias_correction(b1, t)

        def step(g: Any, m: Any, u: Any) -> Any:
            m, u = average(b1, g, m), jnp.maximum(jnp.abs(g) + eps, b2 * u)
            return m * first / u, m, u

        return step

    return leafwise("scale_by_adamax", ScaleByAdamState, rule, mu=zeros(), nu=zeros(real=True))


def scale_by_adan(
    b1: float = 0.98, b2: float = 0.92, b3: float = 0.99, eps: float = 1e-8, eps_root: float = 0.0
) -> Optimizer:
    """Adan: averages m of g, v of d = g − g₋₁, and n of |g + (1 − b₂)d|²; m̂ + (1 − b₂)v̂ over √(n̂ + eps_root) + eps.

    As in optax, b₁, b₂ and b₃ are the weights of the past; the paper writes 1 − b for them.

    Source: Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models", 2022.
    """
    numbers("scale_by_adan", b1=b1, b2=b2, b3=b3, eps=eps, eps_root=eps_root)

    def rule(t: Any) -> Any:
        first, second, third = (bias_correction(b, t) for b in (b1, b2, b3))

        def step(g: Any, m: Any, v: Any, n: Any, last: Any) -> Any:
            d = jnp.where(t == 1, 0, g - last)
            m, v, n = average(b1, g, m), average(b2, d, v), average(b3, abs_sq(g + (1 - b2) * d), n)
            u = m * first + (1 - b2) * (v * second)
            return u / (jnp.sqrt(n * third + eps_root) + eps), m, v, n, g

        return step

    return leafwise("scale_by_adan", ScaleByAdanState, rule, m=zeros(), v=zeros(), n=zeros(real=True), g=zeros())


def scale_by_belief(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-16, eps_root: float = 1e-16, *, nesterov: bool = False
) -> Optimizer:
    """AdaBelief: as Adam, with v ← b₂v + (1 − b₂)|g − m|² + eps_root; the update is m̂ / (√v̂ + eps).

    Source: Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", 2020.
    """
    numbers("scale_by_belief", b1=b1, b2=b2, eps=eps, eps_root=eps_root)

    def rule(t: Any) -> Any:
        mean, second = corrected_mean(b1, nesterov, t), bias_correction(b2, t)

        def step(g: Any, m: Any, v: Any) -> Any:
            m = average(b1, g, m)
            v = average(b2, abs_sq(g - m), v) + eps_root
            return mean(m, g) / (jnp.sqrt(v * second) + eps), m, v

        return step

    return leafwise("scale_by_belief", ScaleByAdamState, rule, mu=zeros(), nu=zeros(real=True))


def scale_by_yogi(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-3,
    eps_root: float = 0.0,
    initial_accumulator_value: float = 1e-6,
) -> Optimizer:
    """Yogi: as Adam, with v ← v − (1 − b₂)·sign(v − |g|²)·|g|². Both averages start at initial_accumulator_value.

    Source: Zaheer et al., "Adaptive methods for nonconvex optimization", 2018.
    """
    start = initial_accumulator_value
    numbers("scale_by_yogi", b1=b1, b2=b2, eps=eps, eps_root=eps_root, initial_accumulator_value=start)

    def rule(t: Any) -> Any:
        first, second = bias_correction(b1, t), bias_correction(b2, t)

        def step(g: Any, m: Any, v: Any) -> Any:
            m, square = average(b1, g, m), abs_sq(g)
            v = v - (1 - b2) * jnp.sign(v - square) * square
            return m * first / (jnp.sqrt(v * second + eps_root) + eps), m, v

        return step

    full, real = (lambda p: jnp.full_like(p, start)), (lambda p: jnp.full_like(jnp.real(p), start))
    return leafwise("scale_by_yogi", ScaleByAdamState, rule, mu=full, nu=real)


def scale_by_radam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """RAdam: r·m̂ / (√(v̂ + eps_root) + eps) if ρ ≥ threshold, otherwise m̂.

    ρ = ρ∞ − 2t·b₂ᵗ/(1 − b₂ᵗ) with ρ∞ = 2/(1 − b₂) − 1, and r² = (ρ − 4)(ρ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ).

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", 2019.
    """
    numbers("scale_by_radam", b1=b1, b2=b2, eps=eps, eps_root=eps_root, threshold=threshold)
    limit = 2 / (1 - b2) - 1

    def rule(t: Any) -> Any:
        mean, second = corrected_mean(b1, nesterov, t), bias_correction(b2, t)
        rho = limit - 2 * t * b2**t * second
        # Where rho is below the threshold, r is not used, and may be the root of a negative number.
        large = jnp.maximum(rho, threshold)
        r = jnp.sqrt((large - 4) * (large - 2) * limit / ((limit - 4) * (limit - 2) * large))

        def step(g: Any, m: Any, v: Any) -> Any:
            m, v = average(b1, g, m), average(b2, abs_sq(g), v)
            direction = mean(m, g)
            adapted = r * direction / (jnp.sqrt(v * second + eps_root) + eps)
            return jnp.where(rho >= threshold, adapted, direction), m, v

        return step

    return leafwise("scale_by_radam", ScaleByAdamState, rule, mu=zeros(), nu=zeros(real=True))


_LION_MODES: dict[str, Callable[[Any, float], Any]] = {
    "hard": lambda x, beta: jnp.sign(x),
    "smooth": lambda x, beta: jnp.tanh(beta * x),
    "refined": lambda x, beta: jnp.where(jnp.abs(x) < 1, x, jnp.sign(x)),
}


def scale_by_lion(
    b1: float = 0.9, b2: float = 0.99, mu_dtype: Any = None, *, mode: str = "hard", smooth_beta: float = 1.0
) -> Optimizer:
    """Lion: the update is sign(b₁m + (1 − b₁)g), then m ← b₂m + (1 − b₂)g.

    In place of sign(x), `mode="smooth"` takes tanh(smooth_beta·x), and `mode="refined"` clips x to [−1, 1].

    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """
    numbers("scale_by_lion", b1=b1, b2=b2, smooth_beta=smooth_beta)
    if mode not in _LION_MODES:
        raise ArgumentError(f"scale_by_lion: mode is {mode!r}", fix=f"choose one of {', '.join(_LION_MODES)}")

    def step(g: Any, m: Any) -> Any:
        return _LION_MODES[mode](average(b1, g, m), smooth_beta), average(b2, g, m)

    return leafwise("scale_by_lion", ScaleByLionState, lambda t: step, mu=zeros(mu_dtype))


def scale_by_novograd(
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
    mu_dtype: Any = None,
) -> Optimizer:
    """NovoGrad: the update is m ← b₁m + g / (√(v + eps_root) + eps) + weight_decay·θ.

    v ← b₂v + (1 − b₂)‖g‖² is one number for each leaf, and starts at the first ‖g‖².

    Source: Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for training of deep
    networks", 2019.
    """
    numbers("scale_by_novograd", b1=b1, b2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)

    def rule(t: Any) -> Any:
        def step(g: Any, p: Any, m: Any, v: Any) -> Any:
            square = jnp.sum(abs_sq(g))
            v = jnp.where(t == 1, square, average(b2, square, v))
            m = b1 * m + g / (jnp.sqrt(v + eps_root) + eps) + weight_decay * p
            return m, m, v

        return step

    scalar = lambda p: jnp.zeros((), jnp.real(p).dtype)  # noqa: E731
    slots = {"mu": zeros(mu_dtype), "nu": scalar}
    return leafwise("scale_by_novograd", ScaleByNovogradState, rule, needs_params=True, shaped=False, **slots)
