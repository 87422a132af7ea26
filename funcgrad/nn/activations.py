"""Elementwise activation functions.

Where the derivative is discontinuous, its value is that of JAX: 0 for relu at 0 and for relu6 at 0 and 6, 1 for
leaky_relu at 0.
"""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.errors import ShapeError
from funcgrad.ops.arithmetic import logistic_p
from funcgrad.ops.special import erfc_p

# The fixed point of self-normalizing networks: Klambauer et al., "Self-normalizing neural networks", 2017.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _inexact(x: Any, name: str) -> Any:
    return promote_inexact(x, operation=name)[0]


def identity(x: Any) -> Any:
    """Return x unchanged."""
    return as_operand(x, "identity")


def relu(x: Any) -> Any:
    """max(x, 0). The derivative at 0 is 0."""
    x = as_operand(x, "relu")
    return jnp.where(x <= 0, 0, x)


def relu6(x: Any) -> Any:
    """min(max(x, 0), 6). The derivative at 0 and 6 is 0."""
    x = as_operand(x, "relu6")
    return jnp.where(x >= 6, 6, relu(x))


def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ)."""
    return logistic_p.bind(_inexact(x, "sigmoid"))


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return jnp.tanh(x)


def softplus(x: Any) -> Any:
    """log(1 + eˣ) without overflow."""
    return jnp.logaddexp(x, 0.0)


def squareplus(x: Any, b: Any = 4) -> Any:
    """(x + √(x² + b)) / 2, similar to softplus but without exponentials.

    Source: Barron, "Squareplus: a softplus-like algebraic rectifier", 2021.
    """
    x = as_operand(x, "squareplus")
    return (x + jnp.sqrt(jnp.square(x) + b)) / 2


def sparse_plus(x: Any) -> Any:
    """0 for x ≤ −1, x for x ≥ 1, and (x + 1)² / 4 in between."""
    x = _inexact(x, "sparse_plus")
    return jnp.where(x <= -1.0, 0.0, jnp.where(x >= 1.0, x, (x + 1.0) ** 2 / 4))


def sparse_sigmoid(x: Any) -> Any:
    """0 for x ≤ −1, 1 for x ≥ 1, and (x + 1) / 2 in between: the derivative of sparse_plus."""
    return 0.5 * jnp.clip(as_operand(x, "sparse_sigmoid") + 1.0, 0.0, 2.0)


def soft_sign(x: Any) -> Any:
    """x / (|x| + 1)."""
    x = as_operand(x, "soft_sign")
    return x / (jnp.abs(x) + 1)


softsign = soft_sign


def silu(x: Any) -> Any:
    """x·sigmoid(x), also called swish."""
    x = _inexact(x, "silu")
    return x * sigmoid(x)


swish = silu


def mish(x: Any) -> Any:
    """x·tanh(softplus(x)). Source: Misra, "Mish: a self regularized non-monotonic activation function", 2019."""
    x = _inexact(x, "mish")
    return x * jnp.tanh(softplus(x))


def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)) = −softplus(−x)."""
    return -softplus(-as_operand(x, "log_sigmoid"))


def log1mexp(x: Any) -> Any:
    """log(1 − e⁻ˣ) for x ≥ 0, accurate for small and large x.

    Source: Mächler, "Accurately computing log(1 − exp(−|a|))", 2012.
    """
    x = _inexact(x, "log1mexp")
    switch = math.log(2.0)
    small = x < switch
    # Each branch gets an argument at which it is finite, so that its derivative times 0 is 0.
    near, far = jnp.where(small, x, switch), jnp.where(small, switch, x)
    return jnp.where(small, jnp.log(-jnp.expm1(-near)), jnp.log1p(-jnp.exp(-far)))


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """x for x > 0, and alpha·(eˣ − 1) for x ≤ 0. Source: Clevert, Unterthiner, Hochreiter, 2015."""
    x = _inexact(x, "elu")
    positive = x > 0
    return jnp.where(positive, x, alpha * jnp.expm1(jnp.where(positive, 0.0, x)))


def selu(x: Any) -> Any:
    """elu, scaled so that layers preserve mean 0 and variance 1."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def celu(x: Any, alpha: Any = 1.0) -> Any:
    """max(x, 0) + alpha·(e^(min(x, 0)/alpha) − 1). Source: Barron, "Continuously differentiable ELUs", 2017."""
    x = as_operand(x, "celu")
    return jnp.maximum(x, 0.0) + alpha * jnp.expm1(jnp.minimum(x, 0.0) / alpha)


def leaky_relu(x: Any, negative_slope: Any = 1e-2) -> Any:
    """x for x ≥ 0, and negative_slope·x for x < 0."""
    x = as_operand(x, "leaky_relu")
    return jnp.where(x >= 0, x, negative_slope * x)


def gelu(x: Any, approximate: bool = True) -> Any:
    """x·Φ(x), where Φ is the CDF of the standard normal distribution; by default, its tanh approximation.

    Source: Hendrycks, Gimpel, "Gaussian error linear units", 2016.
    """
    x = _inexact(x, "gelu")
    if approximate:
        return x * 0.5 * (1.0 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * erfc_p.bind(-x / math.sqrt(2))


def glu(x: Any, axis: int = -1) -> Any:
    """a·sigmoid(b), where a and b are the halves of x along an axis: (…, 2n) → (…, n)."""
    x = as_operand(x, "glu")
    axis = as_axis(axis, x.ndim, "glu")
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: axis {axis} of {x.aval} has odd size", fix="its two halves are the value and the gate")
    value, gate = jnp.split(x, 2, axis)
    return value * sigmoid(gate)


def hard_tanh(x: Any) -> Any:
    """min(max(x, −1), 1). The derivative at −1 and 1 is 1."""
    x = as_operand(x, "hard_tanh")
    return jnp.where(x > 1, 1, jnp.where(x < -1, -1, x))


def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6."""
    return relu6(as_operand(x, "hard_sigmoid") + 3.0) / 6.0


def hard_silu(x: Any) -> Any:
    """x·hard_sigmoid(x), also called hard swish."""
    x = as_operand(x, "hard_silu")
    return x * hard_sigmoid(x)


hard_swish = hard_silu
