"""Reductions over axes, and cumulative reductions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Reduce
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.errors import ArgumentError
from funcgrad.lax.operands import with_dtype
from funcgrad.lax.shapes import slice_in_dim
from funcgrad.ops import reductions as ops
from funcgrad.ops import shapes
from funcgrad.ops.arithmetic import add_p, max_p, min_p, mul_p
from funcgrad.ops.logic import and_p, or_p, xor_p
from funcgrad.transforms.vmap import vmap

__all__ = [
    "argmax",
    "argmin",
    "cumlogsumexp",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "reduce",
    "reduce_and",
    "reduce_max",
    "reduce_min",
    "reduce_or",
    "reduce_prod",
    "reduce_sum",
    "reduce_xor",
]

Operation = Callable[[Any, Any], Any]


def _reduction(primitive: Primitive, doc: str) -> Callable[[Any, Sequence[int]], Any]:
    name = primitive.name

    def function(operand: Any, axes: Sequence[int]) -> Any:
        return primitive.bind(as_operand(operand, name), axes=tuple(axes))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _cumulative(primitive: Primitive, doc: str) -> Callable[..., Any]:
    name = primitive.name

    def function(operand: Any, axis: int = 0, reverse: bool = False) -> Any:
        return primitive.bind(as_operand(operand, name), axis=int(axis), reverse=bool(reverse))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc + " along `axis`, from the end if `reverse`."
    return function


reduce_sum = _reduction(
    shapes.reduce_sum_p, "Sum over `axes`, in the operand's dtype; 16-bit floats accumulate in float32."
)
reduce_prod = _reduction(ops.reduce_prod_p, "Product over `axes`, in the operand's dtype.")
reduce_max = _reduction(
    ops.reduce_max_p, "Maximum over `axes`; NaN if any element is NaN. Ties share the derivative equally."
)
reduce_min = _reduction(
    ops.reduce_min_p, "Minimum over `axes`; NaN if any element is NaN. Ties share the derivative equally."
)
reduce_and = _reduction(ops.reduce_and_p, "Bitwise and over `axes`; for bools, logical and.")
reduce_or = _reduction(ops.reduce_or_p, "Bitwise or over `axes`; for bools, logical or.")
reduce_xor = _reduction(ops.reduce_xor_p, "Bitwise exclusive or over `axes`.")
cumsum = _cumulative(ops.cumsum_p, "Cumulative sum")
cumprod = _cumulative(ops.cumprod_p, "Cumulative product")
cummax = _cumulative(ops.cummax_p, "Cumulative maximum")
cummin = _cumulative(ops.cummin_p, "Cumulative minimum")
cumlogsumexp = _cumulative(ops.cumlogsumexp_p, "Cumulative log Σ exp")


def argmax(operand: Any, axis: int, index_dtype: Any) -> Any:
    """Index of the first maximum along `axis`; NaN counts as the maximum."""
    return ops.argmax(as_operand(operand, "argmax"), int(axis), dtypes.requested(index_dtype, "argmax"))


def argmin(operand: Any, axis: int, index_dtype: Any) -> Any:
    """Index of the first minimum along `axis`; NaN counts as the minimum."""
    return ops.argmin(as_operand(operand, "argmin"), int(axis), dtypes.requested(index_dtype, "argmin"))


# ---------------------------------------------------------------- reduce by any computation


def reduce(operands: Any, init_values: Any, computation: Operation, dimensions: Sequence[int]) -> Any:
    """Reduce over `dimensions` with an associative computation on scalars, starting from `init_values`.

    `operands` and `init_values` are arrays and scalars, or pytrees of them with the structure that `computation` takes
    and returns. The initial values are the first operand. Sums, products, maxima, minima and logical operations become
    the corresponding primitives; any other computation combines eight neighbors at a time, in log₈ n steps.

    >>> import funcgrad.numpy as jnp
    >>> reduce(jnp.array([3.0, 1.0, 2.0]), -jnp.inf, lambda a, b: jnp.maximum(a, b), (0,))
    Array(3., dtype=float32)
    """
    flat, structure = tree.flatten(operands)
    flat = [as_operand(x, "reduce") for x in flat]
    inits, init_structure = tree.flatten(init_values)
    if init_structure != structure or not flat:
        raise ArgumentError(
            f"reduce: operands have structure {structure}, init_values {init_structure}",
            fix="pass one initial scalar per operand, in the same pytree",
        )
    inits = [with_dtype(as_operand(i, "reduce"), aval_of(x).dtype) for i, x in zip(inits, flat, strict=True)]
    check_operands("reduce", flat, inits)
    combine = on_leaves(computation, structure)
    axes = tuple(dimensions)
    shapes.check_axes("reduce", aval_of(flat[0]), axes)
    primitive = matching_reduction(combine, [aval_of(i) for i in inits])
    if primitive is not None:
        reduced = [primitive.bind(flat[0], axes=axes)]
        out = reduced if is_identity(primitive, inits[0]) else combine(inits, reduced)
    else:
        merged = [_merged(x, axes) for x in flat]
        out = _reduce_along(combine, [x for x, _ in merged], inits, merged[0][1])
    return structure.unflatten(out)


def check_operands(operation: str, operands: list[Any], inits: list[Any]) -> None:
    """Raise unless all operands have the same shape, and each initial value is a scalar of its operand's dtype."""
    avals, scalars = [aval_of(x) for x in operands], [aval_of(i) for i in inits]
    fit = all(i.shape == () and i.dtype == x.dtype for x, i in zip(avals, scalars, strict=True))
    if not fit or len({x.shape for x in avals}) > 1:
        raise ArgumentError(
            f"{operation}: operands {', '.join(map(repr, avals))} with initial values {', '.join(map(repr, scalars))}",
            fix="operands must have equal shapes, and each initial value be a scalar of its operand's dtype",
        )


def on_leaves(computation: Operation, structure: Any) -> Callable[[list[Any], list[Any]], list[Any]]:
    """Convert a computation on pytrees to one on lists of their leaves."""

    def combine(x: list[Any], y: list[Any]) -> list[Any]:
        return tree.leaves(computation(structure.unflatten(x), structure.unflatten(y)))

    return combine


_REDUCTIONS = {
    add_p: shapes.reduce_sum_p,
    mul_p: ops.reduce_prod_p,
    max_p: ops.reduce_max_p,
    min_p: ops.reduce_min_p,
    and_p: ops.reduce_and_p,
    or_p: ops.reduce_or_p,
    xor_p: ops.reduce_xor_p,
}


def matching_reduction(combine: Callable[..., list[Any]], avals: list[ShapedArray]) -> Primitive | None:
    """Return the reduction that is equivalent to a computation of a single equation, or None."""
    if len(avals) != 1:
        return None
    jaxpr = trace_to_jaxpr(lambda x, y: combine([x], [y]), [avals[0].strengthened()] * 2).jaxpr
    if len(jaxpr.eqns) != 1 or jaxpr.outvars != jaxpr.eqns[0].outvars:
        return None
    (eqn,) = jaxpr.eqns
    of_both = len(eqn.invars) == 2 and all(any(v is w for w in eqn.invars) for v in jaxpr.invars)
    return _REDUCTIONS.get(eqn.primitive) if of_both else None


def is_identity(primitive: Primitive, init: Any) -> bool:
    """Whether an initial value is concrete and the identity of a reduction."""
    aval = aval_of(init)
    try:
        value = np.asarray(init)
    except TypeError:  # traced
        return False
    lowering = primitive.lowering
    assert isinstance(lowering, Reduce)
    return bool(value == lowering.identity(aval.dtype))


def _merged(x: Any, axes: tuple[int, ...]) -> tuple[Any, int]:
    """Merge the reduced dimensions into one, the last where they include the last, otherwise the first; return it."""
    shape = aval_of(x).shape
    kept = [d for d in range(len(shape)) if d not in axes]
    last = len(shape) - 1 in axes
    moved = shapes.transpose(x, (*kept, *axes) if last else (*axes, *kept))
    rest, count = [shape[d] for d in kept], math.prod(shape[d] for d in axes)
    return shapes.reshape(moved, (*rest, count) if last else (count, *rest)), len(kept) if last else 0


_TOGETHER = 8


def _reduce_along(combine: Callable[..., list[Any]], xs: list[Any], inits: list[Any], axis: int) -> list[Any]:
    """Combine `_TOGETHER` neighbors along an axis until one is left. What is left over is combined last, in order."""

    def part(start: int, stop: int, step: int = 1) -> list[Any]:
        return [slice_in_dim(x, start, stop, step, axis) for x in xs]

    for_all = combine
    for _ in aval_of(xs[0]).shape:
        for_all = vmap(for_all)
    waiting: list[list[Any]] = []
    while (n := aval_of(xs[0]).shape[axis]) > 1:
        width = min(n, _TOGETHER)
        end = n - n % width
        waiting += [part(i, i + 1) for i in reversed(range(end, n))]
        xs = functools.reduce(for_all, [part(i, end, width) for i in range(width)])
    waiting += [xs] if aval_of(xs[0]).shape[axis] else []
    shape = list(aval_of(xs[0]).shape)
    shape[axis] = 1
    first = [shapes.broadcast_in_dim(i, shape, ()) for i in inits]
    return [shapes.squeeze(x, (axis,)) for x in functools.reduce(for_all, reversed(waiting), first)]
