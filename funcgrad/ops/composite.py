"""Elementwise primitives that are made of others, because their derivatives want a formula of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.lowering import host
from funcgrad.core.tracing import aval_of
from funcgrad.ops.arithmetic import exp_p, select_n_p
from funcgrad.ops.elementwise import elementwise
from funcgrad.ops.logic import eq_p
from funcgrad.ops.shapes import broadcast_scalar, full


def _logaddexp_scalar(b: Any, x: Any, y: Any) -> Any:
    """max + log1p(exp(min − max)); where the two are equal, infinities included, the difference is 0."""
    high, low = b.op("max", x, y), b.op("min", x, y)
    difference = b.op("select", b.op("eq", low, high), b.const(0, x.dtype), b.op("sub", low, high))
    return b.op("add", high, b.op("log1p", b.op("exp", difference)))


def _share(ans: Any, x: Any, y: Any) -> Any:
    """∂ log(eˣ + eʸ)/∂x = exp(x − ans); at x = ans = ±∞ the derivative is taken to be 1."""
    shape, dtype = aval_of(ans).shape, aval_of(ans).dtype
    x = broadcast_scalar(x, shape)
    difference = select_n_p.bind(eq_p.bind(x, ans), x - ans, full(shape, 0, dtype))
    return exp_p.bind(difference)


logaddexp_p = elementwise(
    "logaddexp",
    lambda x, y: np.logaddexp(x, y).astype(x.dtype),
    derivative=(_share, lambda ans, x, y: _share(ans, y, x)),
    kinds=("float",),
    scalar=_logaddexp_scalar,
)

gcd_p = elementwise("gcd", np.gcd, derivative=(None, None), kinds=("int",), lowering=host)
