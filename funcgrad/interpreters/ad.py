"""Rules of differentiation, under JAX's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import Primitive
from funcgrad.core.symbolic import UndefinedPrimal, Zero, is_undefined
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.interpreters.tables import Rules
from funcgrad.ops.elementwise import add_any, add_tangents
from funcgrad.ops.shapes import instantiate, zeros_of

add_jaxvals, is_undefined_primal = add_any, is_undefined
instantiate_zeros, zeros_like_aval = instantiate, zeros_of
__all__ = [
    "UndefinedPrimal",
    "Zero",
    "add_jaxvals",
    "add_tangents",
    "defjvp",
    "defjvp2",
    "deflinear",
    "deflinear2",
    "instantiate_zeros",
    "is_undefined_primal",
    "primitive_jvps",
    "primitive_transposes",
    "zeros_like_aval",
]

primitive_jvps = Rules("_jvp")
"""Rules (primals, tangents, **params) → (result, tangent). A tangent is `Zero` if it is zero."""

primitive_transposes = Rules("_transpose")
"""Rules (cotangent, *operands, **params) → cotangents of the operands that are `UndefinedPrimal`, None for others."""


def deflinear(primitive: Primitive, transpose: Callable[..., Any]) -> None:
    """Declare a primitive linear: its jvp applies it to the tangents, and transpose(ct, **params) is its adjoint."""
    deflinear2(primitive, lambda ct, *_, **params: transpose(ct, **params))


def deflinear2(primitive: Primitive, transpose: Callable[..., Any]) -> None:
    """Like `deflinear`, with a transpose rule that also gets the operands."""

    def jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        out = primitive.bind(*primals, **params)
        if all(type(t) is Zero for t in tangents):
            return out, Zero(aval_of(out).tangent())
        return out, primitive.bind(*map(instantiate_zeros, tangents), **params)

    primitive_jvps[primitive] = jvp
    primitive_transposes[primitive] = transpose


def defjvp(primitive: Primitive, *jvps: Callable[..., Any] | None) -> None:
    """Give for each operand the function (tangent, *operands, **params) → tangent of the result, or None for zero."""
    defjvp2(primitive, *(None if f is None else _ignoring_result(f) for f in jvps))


def _ignoring_result(jvp: Callable[..., Any]) -> Callable[..., Any]:
    return lambda t, ans, *operands, **params: jvp(t, *operands, **params)


def defjvp2(primitive: Primitive, *jvps: Callable[..., Any] | None) -> None:
    """Like `defjvp`, with functions of (tangent, result, *operands, **params)."""

    def jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        out = primitive.bind(*primals, **params)
        total: Any = Zero(aval_of(out).tangent())
        for f, t in zip(jvps, tangents, strict=True):
            if f is not None and type(t) is not Zero:
                total = add_tangents(total, f(t, out, *primals, **params))
        return out, total

    primitive_jvps[primitive] = jvp


_explain_missing_names(__name__)
