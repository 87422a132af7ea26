"""One program, two libraries: funcgrad and, where it is installed, JAX as the oracle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from funcgrad.core.primitives import registry
from funcgrad.numpy import operators as operators
from funcgrad.ops import dot, reductions, shapes  # noqa: F401
from funcgrad.transforms.grad import (
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linear_transpose,
    linearize,
    value_and_grad,
    vjp,
)
from funcgrad.transforms.jit import jit
from funcgrad.transforms.tracing_api import eval_shape, make_jaxpr
from funcgrad.transforms.vmap import vmap

_ELEMENTWISE = ("sin", "cos", "tan", "exp", "log", "tanh", "sqrt", "rsqrt", "abs", "sign", "neg", "max", "min", "pow",
                "add", "sub", "mul", "div", "lt", "gt", "eq", "select_n", "stop_gradient", "real", "imag", "logistic",
                "square", "floor", "rem", "atan2", "log1p")  # fmt: skip


def _funcgrad() -> Any:
    lax = SimpleNamespace(**{name: registry[name].bind for name in _ELEMENTWISE})
    lax.reduce_sum = lambda x: shapes.reduce_sum(x, tuple(range(x.ndim)))
    lax.integer_pow = lambda x, y: registry["integer_pow"].bind(x, y=y)
    lax.transpose = lambda x: shapes.transpose(x, tuple(reversed(range(x.ndim))))
    lax.reshape, lax.rev, lax.broadcast_in_dim = shapes.reshape, shapes.rev, shapes.broadcast_in_dim
    lax.concatenate, lax.pad, lax.slice = shapes.concatenate, shapes.pad, shapes.slice_
    lax.dot = lambda a, b: registry["dot_general"].bind(
        a,
        b,
        dimension_numbers=dot.DotDimensionNumbers.of((((a.ndim - 1,), (0,)), ((), ()))),
        preferred_element_type=None,
    )
    lax.convert = lambda x, dtype: registry["convert_element_type"].bind(x, new_dtype=np.dtype(dtype), weak_type=False)
    lax.reduce_max = lambda x: reductions.reduce_max(x, tuple(range(x.ndim)))
    lax.cumsum = lambda x: reductions.cumsum(x, 0)
    return SimpleNamespace(
        name="funcgrad", lax=lax, jit=jit, grad=grad, value_and_grad=value_and_grad, vmap=vmap, jvp=jvp, vjp=vjp,
        linearize=linearize, linear_transpose=linear_transpose, jacfwd=jacfwd, jacrev=jacrev, hessian=hessian,
        make_jaxpr=make_jaxpr, eval_shape=eval_shape,
    )  # fmt: skip


def _jax() -> Any:
    try:
        import jax
    except ImportError:
        return None
    lax = SimpleNamespace(**{name: getattr(jax.lax, name) for name in _ELEMENTWISE if name not in ("stop_gradient",)})
    lax.stop_gradient, lax.integer_pow = jax.lax.stop_gradient, jax.lax.integer_pow
    lax.reduce_sum, lax.reduce_max, lax.cumsum = jax.lax.reduce_sum_p, None, jax.lax.cumsum
    lax.reduce_sum = lambda x: jax.lax.reduce_sum(x, tuple(range(x.ndim)))
    lax.reduce_max = lambda x: jax.lax.reduce_max(x, tuple(range(x.ndim)))
    lax.transpose = lambda x: jax.lax.transpose(x, tuple(reversed(range(x.ndim))))
    lax.reshape, lax.rev, lax.broadcast_in_dim = jax.lax.reshape, jax.lax.rev, jax.lax.broadcast_in_dim
    lax.concatenate, lax.pad, lax.slice, lax.dot = jax.lax.concatenate, jax.lax.pad, jax.lax.slice, jax.lax.dot
    lax.convert = jax.lax.convert_element_type
    return SimpleNamespace(
        name="jax", lax=lax, jit=jax.jit, grad=jax.grad, value_and_grad=jax.value_and_grad, vmap=jax.vmap, jvp=jax.jvp,
        vjp=jax.vjp, linearize=jax.linearize, linear_transpose=jax.linear_transpose, jacfwd=jax.jacfwd,
        jacrev=jax.jacrev, hessian=jax.hessian, make_jaxpr=jax.make_jaxpr, eval_shape=jax.eval_shape,
    )  # fmt: skip


FUNCGRAD, JAX = _funcgrad(), _jax()
