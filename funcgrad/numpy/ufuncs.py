"""Elementwise functions under NumPy's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import dtypes
from funcgrad.core.primitives import Primitive
from funcgrad.numpy.promotion import as_operand, promote, promote_inexact, promote_shapes
from funcgrad.ops import arithmetic as ar


def _unary(name: str, primitive: Primitive, *, inexact: bool = False, doc: str = "") -> Callable[[Any], Any]:
    def ufunc(x: Any, /) -> Any:
        (x,) = promote_inexact(x, operation=name) if inexact else (as_operand(x, name),)
        return primitive.bind(x)

    ufunc.__name__ = ufunc.__qualname__ = name
    ufunc.__doc__ = doc
    return ufunc


def _binary(name: str, primitive: Primitive, *, inexact: bool = False, doc: str = "") -> Callable[[Any, Any], Any]:
    def ufunc(x: Any, y: Any, /) -> Any:
        if inexact:
            return primitive.bind(*promote_shapes(*promote_inexact(x, y, operation=name), operation=name))
        return primitive.bind(*promote(x, y, operation=name))

    ufunc.__name__ = ufunc.__qualname__ = name
    ufunc.__doc__ = doc
    return ufunc


add = _binary("add", ar.add_p, doc="x + y elementwise; bools add as `or`.")
subtract = _binary("subtract", ar.sub_p, doc="x − y elementwise.")
multiply = _binary("multiply", ar.mul_p, doc="x · y elementwise.")
divide = true_divide = _binary("divide", ar.div_p, inexact=True, doc="x / y elementwise; integers give floats.")
sin = _unary("sin", ar.sin_p, inexact=True, doc="Sine of an angle in radians.")
cos = _unary("cos", ar.cos_p, inexact=True, doc="Cosine of an angle in radians.")
exp = _unary("exp", ar.exp_p, inexact=True, doc="eˣ elementwise.")
log = _unary("log", ar.log_p, inexact=True, doc="Natural logarithm.")
tanh = _unary("tanh", ar.tanh_p, inexact=True, doc="Hyperbolic tangent.")


def negative(x: Any, /) -> Any:
    """−x elementwise."""
    return ar.neg_p.bind(as_operand(x, "negative"))


_ = dtypes
