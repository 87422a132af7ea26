"""Folds over windows that slide over an array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.dtypes import bool_
from funcgrad.errors import ArgumentError
from funcgrad.lax.operands import with_dtype
from funcgrad.lax.reductions import check_operands, is_identity, matching_reduction, on_leaves
from funcgrad.ops import windows as ops
from funcgrad.ops.logic import and_p, or_p
from funcgrad.ops.reductions import reduce_max_p, reduce_min_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, full, reduce_sum_p
from funcgrad.ops.window_geometry import Window, as_pads, as_sizes, dilated, padtype_to_pads, windows
from funcgrad.ops.window_views import folded
from funcgrad.transforms.vmap import vmap

__all__ = ["reduce_window", "reduce_window_shape_tuple"]

Padding = str | Sequence[tuple[int, int]]
Combine = Callable[[list[Any], list[Any]], list[Any]]

_WINDOWED = {
    reduce_sum_p: ops.reduce_window_sum_p,
    reduce_max_p: ops.reduce_window_max_p,
    reduce_min_p: ops.reduce_window_min_p,
}


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable[[Any, Any], Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """Fold windows that slide over an array, with an associative operation of scalars that starts from `init_value`.

    `operand` and `init_value` are arrays of one shape and scalars, or pytrees of them that `computation` takes and
    returns. Windows see nothing outside of the operand, and between its elements, which are `base_dilation` apart.

    Sums and extremes that start from their identity become `reduce_window_sum`, `reduce_window_max` and
    `reduce_window_min`; the derivative of an extreme goes to the first element of the window that is extreme. Other
    operations are applied to shifted views of the operand.

    - `padding`: "SAME", "SAME_LOWER", "VALID", or (low, high) for each dimension; negative numbers crop.

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad import lax
    >>> reduce_window(jnp.array([3.0, 1.0, 2.0, 5.0]), -jnp.inf, lax.max, (2,), (2,))
    Array([3., 5.], dtype=float32)
    """
    flat, structure = tree.flatten(operand)
    flat = [as_operand(x, "reduce_window") for x in flat]
    inits, init_structure = tree.flatten(init_value)
    if init_structure != structure or not flat:
        raise ArgumentError(
            f"reduce_window: operands have structure {structure}, init_values {init_structure}",
            fix="give one initial scalar per operand, in the same pytree",
        )
    inits = [with_dtype(as_operand(i, "reduce_window"), aval_of(x).dtype) for i, x in zip(inits, flat, strict=True)]
    check_operands("reduce_window", flat, inits)
    shape = aval_of(flat[0]).shape
    given = _as_given(shape, window_dimensions, window_strides, padding, base_dilation, window_dilation)
    combine = on_leaves(computation, structure)
    reduction = matching_reduction(combine, [aval_of(i) for i in inits])
    if reduction in _WINDOWED and is_identity(reduction, inits[0]):
        return structure.unflatten([ops.reduce_window(_WINDOWED[reduction], flat[0], *given)])
    geometry = windows(*given)
    ops.counted("reduce_window", aval_of(flat[0]), ops.window_params(geometry))
    for _ in shape:
        combine = vmap(combine)
    return structure.unflatten(_folded(combine, flat, inits, geometry))


def _folded(combine: Combine, xs: list[Any], inits: list[Any], geometry: list[Window]) -> list[Any]:
    """Fold windows by operations on whole arrays; what is no element of the operands is left out."""
    if all((w.low, w.high, w.base_dilation) == (0, 0, 1) for w in geometry):
        out = folded(combine, xs, inits, geometry)
        return combine(_like(inits, out), out)

    def of_those_inside(first: list[Any], second: list[Any]) -> list[Any]:
        (*a, in_a), (*b, in_b) = first, second
        both = combine(a, b)
        one = [select_n_p.bind(in_b, x, y) for x, y in zip(a, b, strict=True)]
        return [
            *(select_n_p.bind(and_p.bind(in_a, in_b), x, y) for x, y in zip(one, both, strict=True)),
            or_p.bind(in_a, in_b),
        ]

    inside = full(aval_of(xs[0]).shape, True, bool_)
    *out, some = folded(of_those_inside, [*xs, inside], [*inits, np.False_], geometry)
    first = _like(inits, out)
    return [select_n_p.bind(some, i, x) for i, x in zip(first, combine(first, out), strict=True)]


def _like(scalars: list[Any], arrays: list[Any]) -> list[Any]:
    return [broadcast_in_dim(i, aval_of(x).shape, ()) for i, x in zip(scalars, arrays, strict=True)]


def _as_given(
    shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None,
    padding: Padding,
    base_dilation: Sequence[int] | None,
    window_dilation: Sequence[int] | None,
) -> tuple[Any, ...]:
    """The params of a windowed reduction with defaults filled in: sizes, strides, padding, both dilations."""
    rank = len(shape)
    named = {
        "window_dimensions": window_dimensions,
        "window_strides": window_strides,
        "base_dilation": base_dilation,
        "window_dilation": window_dilation,
    }
    sizes, strides, base, dilation = (
        (1,) * rank if value is None else as_sizes("reduce_window", name, value, rank) for name, value in named.items()
    )
    if isinstance(padding, str):
        padding = padtype_to_pads(
            shape, [dilated(n, d) for n, d in zip(sizes, dilation, strict=True)], strides, padding
        )
    return sizes, strides, as_pads("reduce_window", padding, rank), base, dilation


def reduce_window_shape_tuple(
    operand_shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Return how many windows there are in each dimension.

    >>> reduce_window_shape_tuple((8, 8), (3, 2), (1, 2), ((1, 1), (0, 0)))
    (8, 4)
    """
    ones = (1,) * len(operand_shape)
    geometry = windows(window_dimensions, window_strides, padding, base_dilation or ones, window_dilation or ones)
    return tuple(int(w.count(n)) for n, w in zip(operand_shape, geometry, strict=True))
