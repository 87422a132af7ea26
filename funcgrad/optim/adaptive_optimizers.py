"""Complete optimizers with a step size for each element: Adam and its family, RMSprop, Adagrad, Adafactor, …

θ are the parameters, g is their gradient, η the learning rate, a number or a schedule; m and v are moving averages of g
and |g|², and a hat is the correction of their bias: m̂ = m / (1 − b₁ᵗ), v̂ = v / (1 − b₂ᵗ). Names and defaults are those
of optax.
"""

from __future__ import annotations

import functools
from typing import Any

from funcgrad.optim.adaptive import (
    scale_by_adadelta,
    scale_by_factored_rms,
    scale_by_rms,
    scale_by_rss,
    scale_by_sm3,
    scale_by_stddev,
)
from funcgrad.optim.base import Optimizer, Schedule
from funcgrad.optim.clipping import clip_by_block_rms
from funcgrad.optim.combine import chain
from funcgrad.optim.moments import (
    scale_by_adam,
    scale_by_adamax,
    scale_by_adan,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_lion,
    scale_by_novograd,
    scale_by_radam,
    scale_by_yogi,
)
from funcgrad.optim.optimizers import descend
from funcgrad.optim.scaling import scale, scale_by_learning_rate, scale_by_param_block_rms, scale_by_trust_ratio
from funcgrad.optim.steps import add_decayed_weights, ema, scale_by_optimistic_gradient, trace


def adam(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam: θ ← θ − η·m̂ / (√(v̂ + eps_root) + eps), where m̂ and v̂ are moving averages of g and g².

    `nesterov` is `nadam`; `mu_dtype` the dtype in which m is kept.

    >>> import funcgrad.numpy as jnp
    >>> optimizer, theta = adam(0.1), jnp.array([1.0, -2.0])
    >>> updates, state = optimizer.update(jnp.array([10.0, -0.5]), optimizer.init(theta))
    >>> updates
    Array([-0.1,  0.1], dtype=float32)

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", 2014.
    """
    return descend(learning_rate, scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov))


def adamw(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: float | Schedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay: θ ← θ − η·(m̂ / (√(v̂ + eps_root) + eps) + weight_decay·θ).

    `mask` selects the parameters that decay, by default all: a pytree of bools, or a function from parameters to one.
    PyTorch's default weight decay is 0.01.

    Source: Loshchilov, Hutter, "Decoupled weight decay regularization", 2017.
    """
    step = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return descend(learning_rate, step, add_decayed_weights(weight_decay, mask))


@functools.wraps(adam, assigned=("__module__", "__annotations__"))
def nadam(*args: Any, **kwargs: Any) -> Optimizer:
    """Adam with Nesterov momentum: `adam(…, nesterov=True)`, m̂ = b₁m/(1 − b₁ᵗ⁺¹) + (1 − b₁)g/(1 − b₁ᵗ).

    PyTorch's NAdam lets b₁ change with t, by momentum_decay.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """
    return adam(*args, nesterov=True, **kwargs)


@functools.wraps(adamw, assigned=("__module__", "__annotations__"))
def nadamw(*args: Any, **kwargs: Any) -> Optimizer:
    """AdamW with Nesterov momentum: `adamw(…, nesterov=True)`.

    Sources: Dozat, "Incorporating Nesterov momentum into Adam", 2016; Loshchilov, Hutter, "Decoupled weight decay
    regularization", 2017.
    """
    return adamw(*args, nesterov=True, **kwargs)


def adamax(learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adamax: θ ← θ − η·m̂ / u, u ← max(b₂u, |g| + eps).

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", 2014, section 7.1.
    """
    return descend(learning_rate, scale_by_adamax(b1, b2, eps))


def adamaxw(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float | Schedule = 1e-4,
    mask: Any = None,
) -> Optimizer:
    """Adamax with decoupled weight decay: θ ← θ − η·(m̂ / u + weight_decay·θ); see `adamw` for the mask.

    Sources: those of `adamax` and `adamw`.
    """
    return descend(learning_rate, scale_by_adamax(b1, b2, eps), add_decayed_weights(weight_decay, mask))


def amsgrad(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Optimizer:
    """AMSGrad: Adam with the largest v̂ so far in place of v̂ (see `scale_by_amsgrad`).

    PyTorch's `Adam(amsgrad=True)` takes the largest v, and corrects its bias then.

    Source: Reddi, Kale, Kumar, "On the convergence of Adam and beyond", 2018.
    """
    corrections = (bias_correction_mu, bias_correction_nu)
    return descend(learning_rate, scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, *corrections))


def adan(
    learning_rate: float | Schedule,
    b1: float = 0.98,
    b2: float = 0.92,
    b3: float = 0.99,
    eps: float = 1e-8,
    eps_root: float = 1e-8,
    weight_decay: float | Schedule = 0.0,
    mask: Any = None,
) -> Optimizer:
    """Adan: θ ← θ − η·((m̂ + (1 − b₂)·v̂) / (√(n̂ + eps_root) + eps) + weight_decay·θ); v averages differences of g.

    Source: Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models", 2022.
    """
    return descend(learning_rate, scale_by_adan(b1, b2, b3, eps, eps_root), add_decayed_weights(weight_decay, mask))


def adabelief(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """AdaBelief: θ ← θ − η·m̂ / (√ŝ + eps), where s is the moving average of (g − m)².

    Source: Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", 2020.
    """
    return descend(learning_rate, scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov))


def yogi(learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-3) -> Optimizer:
    """Yogi: Adam with v ← v − (1 − b₂)·sign(v − g²)·g².

    Source: Zaheer et al., "Adaptive methods for nonconvex optimization", 2018.
    """
    return descend(learning_rate, scale_by_yogi(b1, b2, eps))


def radam(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    *,
    nesterov: bool = False,
) -> Optimizer:
    """RAdam: Adam with its variance rectified, θ ← θ − η·r·m̂ / (√v̂ + eps); at first momentum (see `scale_by_radam`).

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", 2019.
    """
    return descend(learning_rate, scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov))


def lion(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.99,
    mu_dtype: Any = None,
    weight_decay: float | Schedule = 1e-3,
    mask: Any = None,
) -> Optimizer:
    """Lion: θ ← θ − η·(sign(b₁m + (1 − b₁)g) + weight_decay·θ), then m ← b₂m + (1 − b₂)g.

    The learning rate is 3 to 10 times smaller than that of AdamW.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """
    return descend(learning_rate, scale_by_lion(b1, b2, mu_dtype), add_decayed_weights(weight_decay, mask))


def lamb(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float | Schedule = 0.0,
    mask: Any = None,
) -> Optimizer:
    """LAMB: u = m̂ / (√v̂ + eps) + weight_decay·θ, and θ ← θ − η·u·‖θ‖/‖u‖ with the norms of each leaf.

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2019.
    """
    step, decay = scale_by_adam(b1, b2, eps, eps_root), add_decayed_weights(weight_decay, mask)
    return descend(learning_rate, step, decay, scale_by_trust_ratio())


def novograd(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.25,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """NovoGrad: θ ← θ − η·m, m ← b₁m + g / (√v + eps) + weight_decay·θ, v averages ‖g‖² of the leaf.

    Source: Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for training of deep
    networks", 2019.
    """
    return descend(learning_rate, scale_by_novograd(b1, b2, eps, eps_root, weight_decay))


def optimistic_adam_v2(
    learning_rate: float | Schedule,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    nesterov: bool = True,
) -> Optimizer:
    """Optimistic Adam: θ ← θ − η·((α + β)·u − β·u₋₁), where u are the updates of Adam.

    Source: Daskalakis et al., "Training GANs with optimism", 2017.
    """
    step = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return descend(learning_rate, step, scale_by_optimistic_gradient(alpha, beta))


def rmsprop(
    learning_rate: float | Schedule,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Optimizer:
    """RMSprop: θ ← θ − η·g / √(v + eps), or g / (√v + eps) if not `eps_in_sqrt`; then momentum (see `trace`).

    If `centered`, v − m² takes the place of v, where m is the moving average of g.
    PyTorch: alpha=0.99, eps outside of the root, and momentum before the multiplication by η, which is the same
    while η is constant.

    Sources: Tieleman, Hinton, "RMSprop", Coursera lecture 6.5, 2012; Graves, "Generating sequences with recurrent
    neural networks", 2013.
    """
    scaling = scale_by_stddev if centered else scale_by_rms
    step = descend(learning_rate, scaling(decay, eps, initial_scale, eps_in_sqrt, bias_correction))
    return step if momentum is None else chain(step, trace(momentum, nesterov))


def adagrad(learning_rate: float | Schedule, initial_accumulator_value: float = 0.1, eps: float = 1e-7) -> Optimizer:
    """Adagrad: θ ← θ − η·g / √(s + eps), s ← s + g².

    PyTorch starts s at 0, and adds eps = 1e-10 to the root.

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """
    return descend(learning_rate, scale_by_rss(initial_accumulator_value, eps))


def adadelta(
    learning_rate: float | Schedule | None = None,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float | Schedule = 0.0,
    weight_decay_mask: Any = None,
) -> Optimizer:
    """Adadelta: θ ← θ − η·g·√(x + eps) / √(v + eps), where x averages the squared steps.

    Without a learning rate, the sign of the updates does not change either, as in optax: give 1.0 to descend.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """
    decay = add_decayed_weights(weight_decay, weight_decay_mask)
    return chain(decay, scale_by_adadelta(rho, eps), scale_by_learning_rate(learning_rate))


def sm3(learning_rate: float, momentum: float = 0.9) -> Optimizer:
    """SM3: Adagrad with one accumulator for each index of each axis, then averages (see `scale_by_sm3`).

    Source: Anil et al., "Memory-efficient adaptive optimization", 2019.
    """
    return descend(learning_rate, scale_by_sm3(momentum))


def adafactor(
    learning_rate: float | Schedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: float | None = 1.0,
    momentum: float | None = None,
    dtype_momentum: Any = "float32",
    weight_decay_rate: float | Schedule | None = None,
    eps: float = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
) -> Optimizer:
    """Adafactor: θ ← θ − η·rms(θ)·clip(g / √v), where v of large matrices is kept as averages of rows and columns.

    clip scales a leaf to a root mean square of at most clipping_threshold; momentum, then weight decay follow, not
    scaled by η (see `scale_by_factored_rms`). PyTorch's Adafactor has no momentum, and eps inside of rms(θ).

    Source: Shazeer, Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.
    """
    parts = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*parts, scale(-1.0))
