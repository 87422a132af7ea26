"""The families of elementwise primitives: out[i] = f(x[i], y[i], …).

Operands have one shape, or are scalars that stand for every element. Derivatives are given per operand as the
factor ∂f/∂x that multiplies the tangent; shapes, batching and lowering follow from the family. The operations
themselves are in `ops.arithmetic` and `ops.special`, but for those that the families need: add_any, mul and div.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Elementwise, Lowering
from funcgrad.core.primitives import Primitive
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import ArgumentError, DTypeError, MissingRuleError, NotDifferentiableError, ShapeError
from funcgrad.ops import shapes

Derivative = Callable[..., Any] | None
_KINDS: dict[str, Callable[[np.dtype], bool]] = {
    "bool": lambda d: d == dtypes.bool_,
    "int": dtypes.is_integer,
    "float": dtypes.is_float,
    "complex": dtypes.is_complex,
    "key": lambda d: d is dtypes.key,
}
NUMBER = ("int", "float", "complex")
REAL = ("int", "float")
INEXACT = ("float", "complex")
BITS = ("bool", "int")
ANY = ("bool", "int", "float", "complex")
MOVABLE = (*ANY, "key")


def check_operands(name: str, avals: Sequence[ShapedArray], kinds: Sequence[str]) -> tuple[int, ...]:
    """Check that operands have equal dtypes of the given kinds, and equal shapes except scalars; return the shape."""
    first = avals[0]
    for i, aval in enumerate(avals):
        if not any(_KINDS[k](aval.dtype) for k in kinds):
            is_key = aval.dtype is dtypes.key
            raise DTypeError(
                f"{name}: operand {i} has type {aval}; {name} takes {', '.join(kinds)} operands",
                fix="compute with random.key_data(keys)" if is_key else "cast it with .astype(...)",
            )
        if aval.dtype != first.dtype:
            raise DTypeError(
                f"{name}: operands have different dtypes: {', '.join(a.short() for a in avals)}",
                fix="cast one with .astype(...), or use funcgrad.numpy, which promotes",
            )
    return common_shape(name, avals)


def common_shape(name: str, avals: Sequence[ShapedArray]) -> tuple[int, ...]:
    """Return the common shape of the operands that are not scalars; raise ShapeError if they differ."""
    wanted = {a.shape for a in avals if a.shape}
    if len(wanted) > 1:
        raise ShapeError(
            f"{name}: operands have different shapes: {', '.join(a.short() for a in avals)}",
            fix="broadcast or reshape one of them to the shape of the other",
        )
    return wanted.pop() if wanted else ()


def elementwise(
    name: str,
    evaluate: Callable[..., Any],
    *,
    derivative: Derivative | Sequence[Derivative] = None,
    scalar: str | Callable[..., Any] | None = None,
    kinds: Sequence[str] = INEXACT,
    result: Callable[..., np.dtype] | None = None,
    arity: int | None = None,
    transpose: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    lowering: Lowering | None = None,
    infer: Callable[..., ShapedArray] | None = None,
    full_operands: slice = slice(0),
    **options: Any,
) -> Primitive:
    """Declare an elementwise primitive.

    `derivative`: per operand a function (ans, *operands) → ∂f/∂operand, None where it is zero, or `Unknown`. `scalar`:
    the name of the scalar operation, by default the primitive's. `result`: dtype of the result from the
    operands' dtype. `full_operands`: operands that have the result's shape, scalars not being repeated for
    them. `options` are those of `Primitive`.

    >>> from funcgrad.ops.arithmetic import exp_p
    >>> exp_p.has("jvp"), exp_p.lowering
    (True, Elementwise(op='exp'))
    """
    derivatives = derivative if isinstance(derivative, (tuple, list)) else (derivative,)
    unknown = [i for i, d in enumerate(derivatives) if isinstance(d, Unknown)]

    def default_infer(*avals: ShapedArray, **params: Any) -> ShapedArray:
        shape = check_operands(name, avals, kinds)
        dtype = avals[0].dtype if result is None else result(avals[0].dtype, **params)
        return ShapedArray(shape, dtype, all(a.weak_type for a in avals) and dtype != dtypes.bool_)

    def default_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        ans = primitive.bind(*primals, **params)
        aval = aval_of(ans).tangent()
        total: Any = Zero(aval)
        for d, t in zip(derivatives, tangents, strict=True):
            if d is None or type(t) is Zero or aval.dtype == dtypes.float0:
                continue
            term = d(ans, *primals, **params) if callable(d) else d
            total = add_tangents(total, _scaled(t, term, aval))
        return ans, total

    primitive = Primitive(
        name,
        infer=infer or default_infer,
        evaluate=evaluate,
        jvp=jvp or default_jvp,
        transpose=transpose,
        batch=lambda axis, args, dims, /, **params: batch_elementwise(
            primitive, axis.size, args, dims, full_operands, **params
        ),
        lowering=lowering or Elementwise(scalar or name),
        constant_operands=lambda params: unknown,
        **options,
    )
    return primitive


def _scaled(tangent: Any, factor: Any, aval: ShapedArray) -> Any:
    """tangent · factor in the shape of the result. A factor ±1 needs no multiplication; 1/d is one division."""
    if factor is IDENTITY:
        out = tangent
    elif factor is NEGATION:
        out = -tangent
    elif type(factor) is Over:
        out = div_p.bind(tangent, factor.denominator)
    else:
        # Bind the primitive: operators promote, and would record casts between weak and strong types.
        out = mul_p.bind(tangent, factor)
    return shapes.broadcast_scalar(out, aval.shape)


class _Sign:
    """A derivative that is ±1 everywhere, for which no multiplication is recorded."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


IDENTITY, NEGATION = _Sign("identity"), _Sign("negation")


@dataclass(frozen=True)
class Unknown:
    """A derivative that is not implemented."""

    of: str

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise MissingRuleError(f"{self.of}: the derivative is not implemented", fix="use custom_jvp to give one")


class Over(NamedTuple):
    """A derivative that is 1/denominator."""

    denominator: Any


def batch_elementwise(
    primitive: Primitive,
    size: int,
    args: Sequence[Any],
    dims: Sequence[Any],
    full_operands: slice = slice(0),
    **params: Any,
) -> tuple[Any, int]:
    """Move all batch dimensions to the same position, and broadcast unbatched operands."""
    args, dims = list(args), list(dims)
    for i in range(len(args))[full_operands]:
        if dims[i] is None and not aval_of(args[i]).shape:
            args[i], dims[i] = shapes.broadcast_in_batch(args[i], size, 0), 0
    ranks = [aval_of(a).ndim - (d is not None) for a, d in zip(args, dims, strict=True)]
    rank = max(ranks)
    given = {d for a, d, r in zip(args, dims, ranks, strict=True) if d is not None and r == rank}
    if len(given) == 1 and all(d is not None or aval_of(a).ndim == 0 for a, d in zip(args, dims, strict=True)):
        (dim,) = given
        if all(r == rank or d is None for r, d in zip(ranks, dims, strict=True)):
            return primitive.bind(*args, **params), dim
    full = next(aval_of(a).shape for a, d, r in zip(args, dims, ranks, strict=True) if r == rank)
    unbatched = {
        aval_of(a).shape[:d] + aval_of(a).shape[d + 1 :] if d is not None else aval_of(a).shape
        for a, d, r in zip(args, dims, ranks, strict=True)
        if r == rank
    }
    shape = (size, *next(iter(unbatched))) if unbatched else full
    aligned = []
    for a, d, r in zip(args, dims, ranks, strict=True):
        if d is None and r == 0:
            aligned.append(a)
        elif d is None:
            aligned.append(shapes.broadcast_in_dim(a, shape, tuple(range(1, rank + 1))))
        else:
            moved = shapes.move_axis(a, d, 0)
            dims_out = tuple(range(rank + 1)) if r == rank else (0,)
            aligned.append(moved if r == rank else shapes.broadcast_in_dim(moved, shape, dims_out))
    return primitive.bind(*aligned, **params), 0


def linear(name: str, evaluate: Callable[..., Any], transpose: Callable[..., Any], **options: Any) -> Primitive:
    """Declare an elementwise primitive of one operand that is linear: its derivative is itself.

    `transpose(ct, aval)` gives the cotangent of the operand.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        return primitive.bind(*primals, **params), primitive.bind(*tangents, **params)

    primitive = elementwise(
        name,
        evaluate,
        jvp=jvp,
        transpose=lambda ct, x, **params: [transpose(ct, aval_of(x), **params)],
        **options,
    )
    return primitive


def unbroadcast(cotangent: Any, aval: ShapedArray) -> Any:
    """Sum a cotangent if its operand was a scalar that was broadcast."""
    if type(cotangent) is Zero or aval_of(cotangent).shape == aval.shape:
        return cotangent
    return shapes.sum_all(cotangent)


def add_tangents(a: Any, b: Any) -> Any:
    """a + b, either of which may be Zero."""
    if type(a) is Zero:
        return b
    return a if type(b) is Zero else add_any(a, b)


def bilinear_jvp(product: Primitive, primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    """The product rule, d(x · y) = dx · y + x · dy, for any bilinear operation."""
    (x, y), (dx, dy) = primals, tangents
    ans = product.bind(x, y, **params)
    total: Any = Zero(aval_of(ans).tangent())
    if total.aval.dtype == dtypes.float0:
        return ans, total
    if type(dx) is not Zero:
        total = add_tangents(total, product.bind(dx, y, **params))
    if type(dy) is not Zero:
        total = add_tangents(total, product.bind(x, dy, **params))
    return ans, total


def check_bilinear(name: str, x: Any, y: Any) -> None:
    """Raise for the transpose of a product in which both operands are linear arguments."""
    if is_undefined(x) and is_undefined(y):
        raise NotDifferentiableError(
            f"{name}: transposing a function that is not linear: both operands depend on its arguments",
            fix="linear_transpose, and the matvec of custom_linear_solve, take linear functions",
        )


def _add_any_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [unbroadcast(ct, aval_of(v)) if is_undefined(v) else None for v in (x, y)]


add_any_p = elementwise(
    "add_any",
    np.add,
    derivative=(lambda *_: IDENTITY, lambda *_: IDENTITY),
    scalar="add",
    kinds=ANY,
    transpose=_add_any_transpose,
)


def add_any(a: Any, b: Any) -> Any:
    """Add two tangents or cotangents of the same type."""
    return add_any_p.bind(a, b)


# ---------------------------------------------------------------- products and quotients, of which derivatives are made


def _mul_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    check_bilinear("mul", x, y)
    return [
        unbroadcast(mul_p.bind(ct, y), aval_of(x)) if is_undefined(x) else None,
        unbroadcast(mul_p.bind(x, ct), aval_of(y)) if is_undefined(y) else None,
    ]


def _mul_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x, y), (dx, dy) = primals, tangents
    ans = mul_p.bind(x, y)
    shape = aval_of(ans).shape
    out: Any = Zero(aval_of(ans).tangent())
    if out.aval.dtype == dtypes.float0:
        return ans, out
    if type(dx) is not Zero:
        out = shapes.broadcast_scalar(mul_p.bind(dx, y), shape)
    if type(dy) is not Zero:
        out = add_tangents(out, shapes.broadcast_scalar(mul_p.bind(x, dy), shape))
    return ans, out


mul_p = elementwise("mul", np.multiply, jvp=_mul_jvp, kinds=NUMBER, transpose=_mul_transpose)


def _truncated_division(x: Any, y: Any) -> Any:
    """x / y; integers truncate toward zero, x / 0 is −1 (all bits set), and MIN / −1 is MIN."""
    if x.dtype.kind not in "iu":
        return np.divide(x, y)
    safe = np.where(y == 0, 1, y).astype(x.dtype)
    quotient = np.floor_divide(x, safe)
    if x.dtype.kind == "i":
        exact = quotient * safe == x
        quotient = quotient + ((~exact) & ((x < 0) != (safe < 0)))
        quotient = np.where((safe == -1), -x, quotient)
    return np.where(y == 0, np.array(-1).astype(x.dtype), quotient).astype(x.dtype)


def _div_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    if is_undefined(y):
        raise ArgumentError("div is not linear in its denominator", fix="this is a bug in a jvp rule")
    return [unbroadcast(div_p.bind(ct, y), aval_of(x)), None]


def _div_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    x, y = primals
    ans = div_p.bind(x, y)
    shape = aval_of(ans).shape
    out: Any = Zero(aval_of(ans).tangent())
    if out.aval.dtype == dtypes.float0:
        return ans, out
    if type(tangents[0]) is not Zero:
        out = shapes.broadcast_scalar(div_p.bind(tangents[0], y), shape)
    if type(tangents[1]) is not Zero:
        out = add_tangents(out, shapes.broadcast_scalar(mul_p.bind(tangents[1], div_p.bind(-ans, y)), shape))
    return ans, out


div_p = elementwise("div", _truncated_division, jvp=_div_jvp, kinds=NUMBER, transpose=_div_transpose)
