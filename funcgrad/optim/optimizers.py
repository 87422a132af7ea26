"""Complete optimizers of plain, signed, normalized and second-order gradients.

θ are the parameters, g is their gradient, and η the learning rate, a number or a schedule. Names and defaults are those
of optax. See `adaptive_optimizers` for the Adam family.
"""

from __future__ import annotations

from typing import Any

from funcgrad.optim.adaptive import scale_by_rprop, scale_by_sign
from funcgrad.optim.base import Optimizer, Schedule, as_schedule, identity, value_at
from funcgrad.optim.combine import chain, masked
from funcgrad.optim.scaling import scale, scale_by_learning_rate, scale_by_polyak, scale_by_trust_ratio
from funcgrad.optim.steps import add_decayed_weights, add_noise, ema, scale_by_optimistic_gradient, trace


def descend(learning_rate: Any, *steps: Optimizer) -> Optimizer:
    """The transformations in order, then the multiplication by the negative learning rate."""
    return chain(*steps, scale_by_learning_rate(as_schedule(learning_rate, "learning_rate", "optimizer")))


def sgd(
    learning_rate: float | Schedule,
    momentum: float | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> Optimizer:
    """Gradient descent: θ ← θ − η·g; with momentum μ, θ ← θ − η·m, m ← g + μ·m (see `trace`).

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad.optim import apply_updates
    >>> optimizer, theta = sgd(0.1, momentum=0.9), jnp.array(1.0)
    >>> state = optimizer.init(theta)
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(2 * theta, state, theta)
    ...     theta = apply_updates(theta, updates)
    >>> theta
    Array(0.46, dtype=float32)

    Source: Robbins, Monro, "A stochastic approximation method", 1951.
    """
    return descend(learning_rate, identity() if momentum is None else trace(momentum, nesterov, accumulator_dtype))


def noisy_sgd(learning_rate: float | Schedule, eta: float = 0.01, gamma: float = 0.55, key: Any = 0) -> Optimizer:
    """SGD with normal noise: θ ← θ − η·(g + ξ), where ξ has the variance eta / t^gamma. `key` is a key or a seed.

    Source: Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015.
    """
    return descend(learning_rate, add_noise(eta, gamma, key))


def sign_sgd(learning_rate: float | Schedule) -> Optimizer:
    """Signed gradients: θ ← θ − η·sign(g).

    Source: Bernstein et al., "signSGD", ICML 2018.
    """
    return descend(learning_rate, scale_by_sign())


def signum(learning_rate: float | Schedule, beta: float = 0.9, accumulator_dtype: Any = None) -> Optimizer:
    """Signed momentum: θ ← θ − η·sign(m), m ← βm + (1 − β)g.

    Source: Bernstein et al., "signSGD", ICML 2018.
    """
    return descend(learning_rate, ema(beta, debias=False, accumulator_dtype=accumulator_dtype), scale_by_sign())


def optimistic_gradient_descent(learning_rate: float | Schedule, alpha: float = 1.0, beta: float = 1.0) -> Optimizer:
    """Optimistic gradient descent: θ ← θ − η·((α + β)·g − β·g₋₁), for games and saddle points.

    Source: Mokhtari, Ozdaglar, Pattathil, "A unified analysis of extra-gradient and optimistic gradient methods for
    saddle point problems: proximal point approach", 2019.
    """
    return descend(learning_rate, scale_by_optimistic_gradient(alpha, beta))


def rprop(
    learning_rate: float,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
) -> Optimizer:
    """Rprop: θ ← θ − Δ·sign(g); Δ grows by η₊ where g keeps its sign, and shrinks by η₋ where the sign changes.

    For gradients of all data, not of batches. Where the sign changes, θ stays. PyTorch's default learning rate is 0.01;
    optax 0.2.8 applies every step one update late.

    Source: Riedmiller, Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
    1993.
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))


def polyak_sgd(
    max_learning_rate: float = 1.0,
    scaling: float | Schedule = 1.0,
    f_min: float = 0.0,
    eps: float = 0.0,
    variant: str = "sps",
) -> Optimizer:
    """SGD with Polyak's step size: θ ← θ − scaling·min((f − f_min) / (‖g‖² + eps), max_learning_rate)·g.

    `update` needs `value=f`, the loss at θ. ‖g‖ is that of scaling·g.

    >>> import funcgrad.numpy as jnp
    >>> optimizer, theta = polyak_sgd(), jnp.array(2.0)
    >>> optimizer.update(2 * theta, optimizer.init(theta), theta, value=theta**2)[0]
    Array(-1., dtype=float32)

    Source: Loizou et al., "Stochastic Polyak step-size for SGD: an adaptive learning rate for fast convergence", 2021.
    """
    return chain(sgd(scaling), scale_by_polyak(f_min, max_learning_rate, eps, variant))


def fromage(learning_rate: float | Schedule, min_norm: float = 1e-6) -> Optimizer:
    """Fromage: θ ← (θ − η·g·‖θ‖/‖g‖) / √(1 + η²), with the norms of each leaf.

    Source: Bernstein et al., "On the distance between two neural networks and the stability of learning", 2020.
    """
    rate = as_schedule(learning_rate, "learning_rate", "fromage")
    shrink = lambda count: (1 + value_at(rate, count) ** 2) ** -0.5  # noqa: E731
    step, decay = (lambda n: value_at(rate, n) * shrink(n)), (lambda n: shrink(n) - 1)
    if not callable(rate):
        step, decay = step(0), decay(0)
    return chain(scale_by_trust_ratio(min_norm), scale_by_learning_rate(step), add_decayed_weights(decay))


def lars(
    learning_rate: float | Schedule,
    weight_decay: float | Schedule = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: float = 0.001,
    eps: float = 0.0,
    trust_ratio_mask: Any = True,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """LARS: u = g + weight_decay·θ is scaled by η·trust_coefficient·‖θ‖ / (‖u‖ + eps) in each leaf; then momentum.

    The masks select the leaves that decay and those that are scaled.

    Source: You, Gitman, Ginsburg, "Large batch training of convolutional networks", 2017.
    """
    trust = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    decay = add_decayed_weights(weight_decay, weight_decay_mask)
    return chain(descend(learning_rate, decay, masked(trust, trust_ratio_mask)), trace(momentum, nesterov))
