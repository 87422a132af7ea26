"""Taylor coefficients of operations with a recurrence of their own: products, quotients, exponentials, roots.

A quantity along a path is x(t) = x₀ + x₁t + … + x_K t^K, given as the list [x₀, …, x_K] of its coefficients; x_k may be
`Zero`. The rules are the power series of Knuth, The Art of Computer Programming 2, section 4.7: for y' = g(y)·x', that
is k·y_k = Σⱼ j·xⱼ·g_{k−j}, the coefficients of y come one after another, in O(K²) operations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.ops.arithmetic import (
    add_p,
    cbrt_p,
    complex_p,
    conj_p,
    cos_p,
    cosh_p,
    div_p,
    exp2_p,
    exp_p,
    expm1_p,
    imag_p,
    integer_pow_p,
    logistic_p,
    mul_p,
    neg_p,
    real_p,
    rsqrt_p,
    sin_p,
    sinh_p,
    sqrt_p,
    square_p,
    sub_p,
    tan_p,
    tanh_p,
)
from funcgrad.ops.casts import convert_element_type_p
from funcgrad.ops.conv import conv_general_dilated_p
from funcgrad.ops.elementwise import add_any_p, add_tangents
from funcgrad.ops.gather_scatter import gather_p, scatter_add_p, scatter_max_p, scatter_min_p, scatter_p, scatter_sub_p
from funcgrad.ops.products import dot_general_p
from funcgrad.ops.reductions import cummax_p, cummin_p, cumsum_p, reduce_max_p, reduce_min_p
from funcgrad.ops.shapes import reduce_sum_p
from funcgrad.ops.special import reduce_precision_p
from funcgrad.ops.windows import (
    reduce_window_max_p,
    reduce_window_min_p,
    reduce_window_sum_p,
    select_and_gather_add_p,
    select_and_scatter_add_p,
)

Coefficients = list[Any]


def scaled(x: Any, factor: float) -> Any:
    """Return factor·x for a coefficient that may be Zero."""
    return x if type(x) is Zero or factor == 1 else x * factor


def _difference(x: Any, y: Any) -> Any:
    if type(y) is Zero:
        return x
    return neg_p.bind(y) if type(x) is Zero else sub_p.bind(x, y)


def _quotient(x: Any, y: Any) -> Any:
    return x if type(x) is Zero else div_p.bind(x, y)


def convolution(multiply: Callable[[Any, Any], Any], x: Sequence[Any], y: Sequence[Any]) -> Any:
    """Return Σ x_j·y_{n−1−j} of two lists of length n: the last coefficient of their product."""
    total: Any = Zero(aval_of(x[0]).tangent())
    for a, b in zip(x, reversed(y), strict=True):
        if type(a) is not Zero and type(b) is not Zero:
            total = add_tangents(total, multiply(a, b))
    return total


def derivative(x: Coefficients) -> Coefficients:
    """Return the coefficients of x'(t): [x₁, 2x₂, 3x₃, …]."""
    return [scaled(c, k) for k, c in enumerate(x) if k]


def bilinear(primitive: Primitive) -> Callable[..., Coefficients]:
    """Leibniz: (x·y)_k = Σⱼ xⱼ·y_{k−j}, for any product."""

    def rule(x: Coefficients, y: Coefficients, **params: Any) -> Coefficients:
        multiply = functools.partial(primitive.bind, **params)
        return [convolution(multiply, x[: k + 1], y[: k + 1]) for k in range(len(x))]

    return rule


product = bilinear(mul_p)


def square(x: Coefficients) -> Coefficients:
    """The product of x with itself."""
    return product(x, x)


def integer_pow(x: Coefficients, *, y: int) -> Coefficients:
    """x to a whole power by repeated squaring, which is right at 0 too."""
    if y < 0:
        one = [integer_pow_p.bind(x[0], y=0), *(Zero(aval_of(x[0]).tangent()) for _ in x[1:])]
        return div(one, integer_pow(x, y=-y))
    result: Coefficients | None = None
    while y:
        if y & 1:
            result = x if result is None else product(result, x)
        y >>= 1
        x = product(x, x) if y else x
    return result or [integer_pow_p.bind(x[0], y=0), *(Zero(aval_of(c).tangent()) for c in x[1:])]


def div(x: Coefficients, y: Coefficients) -> Coefficients:
    """z·y = x: z_k = (x_k − Σ_{j<k} zⱼ·y_{k−j}) / y₀."""
    z = [div_p.bind(x[0], y[0])]
    for k in range(1, len(x)):
        z.append(_quotient(_difference(x[k], convolution(mul_p.bind, z, y[1 : k + 1])), y[0]))
    return z


def sqrt(x: Coefficients) -> Coefficients:
    """y·y = x: y_k = (x_k − Σ_{0<j<k} yⱼ·y_{k−j}) / 2y₀."""
    y = [sqrt_p.bind(x[0])]
    for k in range(1, len(x)):
        rest = convolution(mul_p.bind, y[1:], y[1:]) if k > 1 else Zero(aval_of(x[0]).tangent())
        y.append(_quotient(_difference(x[k], rest), y[0] * 2))
    return y


def power(primitive: Primitive, exponent: float) -> Callable[..., Coefficients]:
    """y = xʳ: x·y' = r·y·x', so k·x₀·y_k = Σⱼ ((r + 1)·j − k)·xⱼ·y_{k−j}."""

    def rule(x: Coefficients) -> Coefficients:
        y = [primitive.bind(x[0])]
        for k in range(1, len(x)):
            weighted = [scaled(x[j], (exponent + 1) * j / k - 1) for j in range(1, k + 1)]
            y.append(_quotient(convolution(mul_p.bind, weighted, y), x[0]))
        return y

    return rule


def riccati(primitive: Primitive, constant: float, linear: float, quadratic: float) -> Callable[..., Coefficients]:
    """y' = (a + b·y + c·y²)·x': exponentials, and tan, tanh and logistic."""

    def rule(x: Coefficients, **params: Any) -> Coefficients:
        y, slope, rate = [primitive.bind(x[0], **params)], derivative(x), []
        for k in range(1, len(x)):
            term: Any = scaled(y[-1], linear) if linear else Zero(aval_of(x[0]).tangent())
            if quadratic:
                term = add_tangents(term, scaled(convolution(mul_p.bind, y, y), quadratic))
            if k == 1 and constant:
                term = constant + term
            rate.append(term)
            y.append(scaled(convolution(mul_p.bind, slope[:k], rate), 1 / k))
        return y

    return rule


def circular(which: int, sine: Primitive, cosine: Primitive, sign: int) -> Callable[..., Coefficients]:
    """s' = c·x' and c' = ±s·x', together; `which` of them is wanted."""

    def rule(x: Coefficients, **params: Any) -> Coefficients:
        s, c, slope = [sine.bind(x[0], **params)], [cosine.bind(x[0], **params)], derivative(x)
        for k in range(1, len(x)):
            of_s, of_c = (convolution(mul_p.bind, slope[:k], y) for y in (c, s))
            s.append(scaled(of_s, 1 / k))
            c.append(scaled(of_c, sign / k))
        return (s, c)[which]

    return rule


RECURRENCES: dict[Primitive, Callable[..., Coefficients]] = {
    mul_p: product,
    dot_general_p: bilinear(dot_general_p),
    conv_general_dilated_p: bilinear(conv_general_dilated_p),
    square_p: square,
    integer_pow_p: integer_pow,
    div_p: div,
    sqrt_p: sqrt,
    rsqrt_p: power(rsqrt_p, -1 / 2),
    cbrt_p: power(cbrt_p, 1 / 3),
    exp_p: riccati(exp_p, 0, 1, 0),
    exp2_p: riccati(exp2_p, 0, math.log(2), 0),
    expm1_p: riccati(expm1_p, 1, 1, 0),
    tan_p: riccati(tan_p, 1, 0, 1),
    tanh_p: riccati(tanh_p, 1, 0, -1),
    logistic_p: riccati(logistic_p, 0, 1, -1),
    sin_p: circular(0, sin_p, cos_p, -1),
    cos_p: circular(1, sin_p, cos_p, -1),
    sinh_p: circular(0, sinh_p, cosh_p, 1),
    cosh_p: circular(1, sinh_p, cosh_p, 1),
}
"""Rules from coefficients of the operands, and params, to those of the result."""

PIECEWISE_LINEAR = (
    *(add_p, add_any_p, sub_p, neg_p, complex_p, conj_p, real_p, imag_p, convert_element_type_p, reduce_precision_p),
    *(reduce_sum_p, reduce_max_p, reduce_min_p, cumsum_p, cummax_p, cummin_p),
    *(reduce_window_sum_p, reduce_window_max_p, reduce_window_min_p, select_and_gather_add_p, select_and_scatter_add_p),
    *(gather_p, scatter_p, scatter_add_p, scatter_sub_p, scatter_min_p, scatter_max_p),
)
"""Primitives whose derivative is constant in pieces: each coefficient goes through it by itself."""
