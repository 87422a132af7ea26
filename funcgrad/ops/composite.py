"""Elementwise functions of two operands that need special formulas for their values or derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad.core.array_types import aval_of
from funcgrad.core.lowering import host
from funcgrad.ops.arithmetic import exp_p, is_finite_p
from funcgrad.ops.elementwise import elementwise
from funcgrad.ops.logic import eq_p, ne_p, or_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_scalar, full

# ---------------------------------------------------------------- lengths and angles


def _hypot_scalar(b: Any, x: Any, y: Any) -> Any:
    """high·√(1 + (low/high)²), in which no square overflows; inf if either operand is infinite, even with NaN."""
    x, y = b.op("abs", x), b.op("abs", y)
    high, low = b.op("max", x, y), b.op("min", x, y)
    zero, one, infinity = (b.const(v, x.dtype) for v in (0, 1, math.inf))
    ratio = b.op("div", low, b.op("select", b.op("eq", high, zero), one, high))
    length = b.op("mul", high, b.op("sqrt", b.op("add", one, b.op("mul", ratio, ratio))))
    infinite = b.op("or", b.op("eq", x, infinity), b.op("eq", y, infinity))
    return b.op("select", infinite, infinity, length)


def _cosine(ans: Any, x: Any, y: Any) -> Any:
    """∂√(x² + y²)/∂x = x/ans; ½ at the origin, where the function is not differentiable."""
    shape, dtype = aval_of(ans).shape, aval_of(ans).dtype
    at_origin = eq_p.bind(ans, full((), 0, dtype))
    length = select_n_p.bind(at_origin, ans, full(shape, 1, dtype))
    return select_n_p.bind(at_origin, broadcast_scalar(x, shape) / length, full(shape, 0.5, dtype))


hypot_p = elementwise(
    "hypot",
    lambda x, y: np.hypot(x, y).astype(x.dtype),
    derivative=(_cosine, lambda ans, x, y: _cosine(ans, y, x)),
    kinds=("float",),
    scalar=_hypot_scalar,
)


def _over_squared_length(numerator: Any, x: Any, y: Any) -> Any:
    """numerator / (x² + y²) without overflow or underflow of the squares."""
    inverse = 1 / hypot_p.bind(x, y)
    return numerator * inverse * inverse


atan2_p = elementwise(
    "atan2",
    np.arctan2,
    derivative=(lambda ans, y, x: _over_squared_length(x, x, y), lambda ans, y, x: _over_squared_length(-y, x, y)),
    kinds=("float",),
)

# ---------------------------------------------------------------- sums of exponentials


def logaddexp_formula(b: Any, x: Any, y: Any) -> Any:
    """max + log1p(exp(min − max)); the difference of equal operands, including infinities, is 0."""
    high, low = b.op("max", x, y), b.op("min", x, y)
    difference = b.op("select", b.op("eq", low, high), b.const(0, x.dtype), b.op("sub", low, high))
    return b.op("add", high, b.op("log1p", b.op("exp", difference)))


def _share(ans: Any, x: Any, y: Any) -> Any:
    """∂ log(eˣ + eʸ)/∂x = exp(x − ans); at x = ans = ±∞ the derivative is defined as 1."""
    shape, dtype = aval_of(ans).shape, aval_of(ans).dtype
    x = broadcast_scalar(x, shape)
    # Where both are the same finite number the difference still depends on them.
    subtracts = or_p.bind(is_finite_p.bind(ans), ne_p.bind(x, ans))
    difference = select_n_p.bind(subtracts, full(shape, 0, dtype), x - ans)
    return exp_p.bind(difference)


logaddexp_p = elementwise(
    "logaddexp",
    lambda x, y: np.logaddexp(x, y).astype(x.dtype),
    derivative=(_share, lambda ans, x, y: _share(ans, y, x)),
    kinds=("float",),
    scalar=logaddexp_formula,
)

# ---------------------------------------------------------------- integers

gcd_p = elementwise("gcd", np.gcd, derivative=(None, None), kinds=("int",), lowering=host)
