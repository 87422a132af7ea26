"""logsumexp, softmax and log_softmax, which `nn` and `scipy.special` share.

Elements where `where` is False are ignored.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.errors import ArgumentError
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.transforms.custom_rules.jvp import custom_jvp


def _max_constant(x: Any, axis: Any, where: Any) -> Any:
    """The maximum with keepdims, without a derivative: its contributions cancel in the functions below."""
    return stop_gradient_p.bind(jnp.max(x, axis, where=where, initial=-np.inf, keepdims=True))


def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False, where: Any = None
) -> Any:
    """log Σ b·eᵃ over axes without overflow; b is 1 by default.

    With `return_sign`, return the logarithm of the magnitude of the sum and its sign. Without it, a negative sum gives
    NaN.

    >>> logsumexp(jnp.array([1000.0, 1000.0]))
    Array(1000.6932, dtype=float32)
    """
    operands = promote_inexact(a, *(() if b is None else (b,)), operation="logsumexp")
    a = operands[0]
    if dtypes.is_complex(a.aval.dtype):
        raise ArgumentError(f"logsumexp: a is {a.aval}", fix="sum complex exponentials directly")
    shape = jnp.broadcast_shapes(*(x.aval.shape for x in operands))
    axes = as_axes(axis, len(shape), "logsumexp")
    counted = a if b is None else jnp.where(operands[1] != 0, a, -np.inf)
    shift = _max_constant(jnp.broadcast_to(counted, shape), axes, where)
    shift = jnp.where(jnp.isfinite(shift), shift, 0)
    exponents = a - shift
    if b is not None:
        # Where b is 0, the exponential is the derivative with respect to b. It must not overflow: 0·∞ is NaN.
        limit = math.floor(math.log(float(dtypes.finfo(a.aval.dtype).max)))
        exponents = jnp.where(operands[1] == 0, jnp.minimum(exponents, limit), exponents)
    terms = jnp.exp(exponents)
    terms = terms if b is None else terms * operands[1]
    total = jnp.sum(terms, axes, where=where, keepdims=True)
    out = jnp.log(jnp.abs(total) if return_sign else total) + shift
    results = (out, jnp.sign(total)) if return_sign else (out,)
    results = tuple(r if keepdims else jnp.squeeze(r, axes) for r in results)
    return results if return_sign else results[0]


def softmax(x: Any, axis: Any = -1, where: Any = None) -> Any:
    """eˣ / Σ eˣ over axes; 0 for ignored elements.

    >>> softmax(jnp.array([0.0, 0.0]))
    Array([0.5, 0.5], dtype=float32)
    """
    (x,) = promote_inexact(x, operation="softmax")
    return _softmax(x, where, axis)


@partial(custom_jvp, nondiff_argnums=(1, 2))
def _softmax(x: Any, where: Any, axis: Any) -> Any:
    kept = x if where is None else jnp.where(where, x, -np.inf)
    weights = jnp.exp(kept - _max_constant(x, axis, where))
    out = weights / jnp.sum(weights, axis, where=where, keepdims=True)
    return out if where is None else jnp.where(where, out, 0)


@_softmax.defjvp
def _softmax_jvp(where: Any, axis: Any, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    """∂yᵢ = yᵢ · (∂xᵢ − Σⱼ yⱼ ∂xⱼ), which reads y alone; the derivative of the quotient reads three arrays."""
    (x,), (x_dot,) = primals, tangents
    y = _softmax(x, where, axis)
    return y, y * (x_dot - jnp.sum(y * x_dot, axis, where=where, keepdims=True))


def log_softmax(x: Any, axis: Any = -1, where: Any = None) -> Any:
    """x − log Σ eˣ over axes; −inf for ignored elements."""
    (x,) = promote_inexact(x, operation="log_softmax")
    kept = x if where is None else jnp.where(where, x, -np.inf)
    shifted = kept - _max_constant(x, axis, where)
    out = shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis, where=where, keepdims=True))
    return out if where is None else jnp.where(where, out, -np.inf)
