"""One program, two libraries: funcgrad and, where it is installed, JAX as the oracle."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

_FROM_LAX = (
    "sin",
    "cos",
    "tan",
    "exp",
    "log",
    "tanh",
    "sqrt",
    "rsqrt",
    "abs",
    "sign",
    "neg",
    "max",
    "min",
    "pow",
    "add",
    "sub",
    "mul",
    "div",
    "lt",
    "gt",
    "eq",
    "select_n",
    "stop_gradient",
    "real",
    "imag",
    "logistic",
    "square",
    "floor",
    "rem",
    "atan2",
    "log1p",
    "integer_pow",
    "reshape",
    "rev",
    "broadcast_in_dim",
    "concatenate",
    "pad",
    "slice",
    "dot",
    "cumsum",
)
_TRANSFORMS = (
    "jit",
    "grad",
    "value_and_grad",
    "vmap",
    "jvp",
    "vjp",
    "linearize",
    "linear_transpose",
    "jacfwd",
    "jacrev",
    "hessian",
    "make_jaxpr",
    "eval_shape",
)


def _program_api(name: str) -> Any:
    """The transforms of a library, and the operations of its lax; None when it is not installed."""
    try:
        library = importlib.import_module(name)
    except ImportError:
        return None
    lax = SimpleNamespace(**{name: getattr(library.lax, name) for name in _FROM_LAX})
    lax.convert = library.lax.convert_element_type
    lax.reduce_sum = lambda x: library.lax.reduce_sum(x, tuple(range(x.ndim)))
    lax.reduce_max = lambda x: library.lax.reduce_max(x, tuple(range(x.ndim)))
    lax.transpose = lambda x: library.lax.transpose(x, tuple(reversed(range(x.ndim))))
    return SimpleNamespace(name=name, lax=lax, **{name: getattr(library, name) for name in _TRANSFORMS})


FUNCGRAD, JAX = _program_api("funcgrad"), _program_api("jax")
