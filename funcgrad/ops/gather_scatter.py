"""Reading and writing windows of an array at positions computed at run time: gather, and the scatter family.

They are transposes of each other; `ops.indexing` defines what they compute. The members of the scatter family differ in
how a window of updates is combined with what is there: scatter (the update replaces it; the last one wins),
scatter-add, -sub, -mul, -min, -max.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import DTypeError, NotDifferentiableError, ShapeError
from funcgrad.ops.arithmetic import mul_p, neg_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import ANY, MOVABLE, NUMBER, add_tangents, check_operands
from funcgrad.ops.indexed_access import has_loops, load_windows, update_windows
from funcgrad.ops.indexing import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    accumulate,
    as_gather_numbers,
    as_scatter_numbers,
    assign,
    batched_numbers,
    check_windows,
    default_fill,
    read_windows,
    window_dims,
    window_sizes,
    write_windows,
)
from funcgrad.ops.logic import eq_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import Dims, full, instantiate, move_axis, reshape, to_dim, zeros_of
from funcgrad.ops.slicing import iota

# ---------------------------------------------------------------- gather


def _gather_infer(
    operand: ShapedArray,
    indices: ShapedArray,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: tuple[int, ...],
    **_: Any,
) -> ShapedArray:
    check_windows("gather", operand, indices, dimension_numbers, slice_sizes)
    batch, window = iter(indices.shape[:-1]), iter(window_dims(dimension_numbers, operand.ndim))
    rank = indices.ndim - 1 + len(dimension_numbers.offset_dims)
    shape = (slice_sizes[next(window)] if p in dimension_numbers.offset_dims else next(batch) for p in range(rank))
    return ShapedArray(tuple(shape), operand.dtype, operand.weak_type)


def _gather_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    ans = gather_p.bind(*primals, **params)
    if type(tangents[0]) is Zero:
        return ans, Zero(aval_of(ans).tangent())
    if params["mode"].checks_bounds:
        params["fill_value"] = 0
    return ans, gather_p.bind(tangents[0], primals[1], **params)


def _gather_transpose(
    ct: Any,
    operand: Any,
    indices: Any,
    *,
    dimension_numbers: GatherDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: GatherScatterMode,
    **_: Any,
) -> list[Any]:
    if not is_undefined(operand):
        return [None, None]
    aval = aval_of(operand)
    back = scatter_add_p.bind(
        full(aval.shape, 0, aval.dtype),
        indices,
        ct,
        dimension_numbers=as_scatter_numbers(dimension_numbers),
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )
    return [back, None]


def _gather_batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Dims,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: tuple[int, ...],
    **params: Any,
) -> tuple[Any, int]:
    (operand, indices), (operand_dim, indices_dim) = args, dims
    by_operand, by_indices = operand_dim is not None, indices_dim is not None
    if operand_dim is not None:
        operand = move_axis(operand, operand_dim, 0)
        size = aval_of(operand).shape[0]
        slice_sizes = (min(1, size) if by_indices else size, *slice_sizes)
    if indices_dim is not None:
        indices = move_axis(indices, indices_dim, 0)
    numbers = batched_numbers(dimension_numbers, by_operand, by_indices)
    return gather_p.bind(operand, indices, dimension_numbers=numbers, slice_sizes=slice_sizes, **params), 0


gather_p = Primitive(
    "gather",
    infer=_gather_infer,
    evaluate=read_windows,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
    lowering=Rewrite(load_windows, applies=has_loops),
)


def gather(
    operand: Any,
    indices: Any,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Any:
    """Read one window of `slice_sizes` per index vector; see GatherDimensionNumbers and GatherScatterMode.

    >>> rows = GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
    >>> gather(np.arange(6).reshape(3, 2), np.array([[2], [0]]), rows, (1, 2))
    Array([[4, 5],
           [0, 1]], dtype=int32)
    """
    mode = GatherScatterMode.from_any(mode)
    dtype = aval_of(operand).dtype
    if dtype is dtypes.key:  # the default differs between keys and the integers that stand for them
        if fill_value is not None:
            raise DTypeError(f"gather: fill_value={fill_value!r:.40} for keys", fix="leave out fill_value")
    elif mode is GatherScatterMode.FILL_OR_DROP and fill_value is None:
        fill_value = default_fill(dtype)
    return gather_p.bind(
        operand,
        indices,
        dimension_numbers=GatherDimensionNumbers(*map(tuple, dimension_numbers)),
        fill_value=_hashable(fill_value) if mode is GatherScatterMode.FILL_OR_DROP else None,
        indices_are_sorted=indices_are_sorted,
        mode=mode,
        slice_sizes=tuple(slice_sizes),
        unique_indices=unique_indices,
    )


def _hashable(fill_value: Any) -> Any:
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    # One NaN object: params that hold another would not compare equal.
    return math.nan if isinstance(value, float) and math.isnan(value) else value


# ---------------------------------------------------------------- the scatter family


def _scatter(
    name: str,
    update: Callable[..., None],
    kinds: Sequence[str],
    combine: str = "",
    *,
    jvp: Callable[..., Any],
    transpose: Callable[..., Any] | None = None,
) -> Primitive:
    """Declare a member: `update`, see `write_windows`, combines elements by the scalar operation `combine`.

    `jvp` gets the primitive before its other arguments.
    """

    def infer(
        operand: ShapedArray,
        indices: ShapedArray,
        updates: ShapedArray,
        *,
        dimension_numbers: ScatterDimensionNumbers,
        **_: Any,
    ) -> ShapedArray:
        check_operands(name, [operand.update(shape=()), updates.update(shape=())], kinds)
        numbers = as_gather_numbers(dimension_numbers)
        rank = indices.ndim - 1 + len(numbers.offset_dims)
        batch = [n for d, n in enumerate(updates.shape) if d not in numbers.offset_dims]
        if updates.ndim != rank or batch != list(indices.shape[:-1]):
            raise ShapeError(
                f"{name}: updates {updates} do not fit indices {indices} and {dimension_numbers}",
                fix="updates have the indices' leading dimensions, and window dimensions at update_window_dims",
            )
        check_windows(name, operand, indices, numbers, window_sizes(operand.shape, updates.shape, dimension_numbers))
        return operand

    def batch(
        axis: AxisData, args: Sequence[Any], dims: Dims, *, dimension_numbers: ScatterDimensionNumbers, **params: Any
    ) -> Any:
        size = axis.size
        operand, indices, updates = args
        by_indices = dims[1] is not None
        operand, updates = (to_dim(a, d, 0, size) for a, d in ((operand, dims[0]), (updates, dims[2])))
        indices = move_axis(indices, dims[1], 0) if by_indices else indices
        numbers = ScatterDimensionNumbers(*batched_numbers(as_gather_numbers(dimension_numbers), True, by_indices))
        return primitive.bind(operand, indices, updates, dimension_numbers=numbers, **params), 0

    primitive = Primitive(
        name,
        infer=infer,
        evaluate=functools.partial(write_windows, update),
        jvp=lambda primals, tangents, **params: jvp(primitive, primals, tangents, **params),
        transpose=transpose,
        batch=batch,
        lowering=Rewrite(functools.partial(update_windows, combine), applies=has_loops),
    )
    return primitive


def _read(operand: Any, indices: Any, updates: ShapedArray, params: dict[str, Any]) -> Any:
    """Gather what a scatter with these params writes; windows that it drops read as zero."""
    numbers = params["dimension_numbers"]
    return gather_p.bind(
        operand,
        indices,
        dimension_numbers=as_gather_numbers(numbers),
        fill_value=0 if params["mode"].checks_bounds else None,
        indices_are_sorted=params["indices_are_sorted"],
        mode=params["mode"],
        slice_sizes=window_sizes(aval_of(operand).shape, updates.shape, numbers),
        unique_indices=params["unique_indices"],
    )


def _linear_jvp(
    primitive: Primitive, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[Any, Any]:
    """The jvp of a scatter that is linear in operand and updates together: scatter the tangents."""
    ans = primitive.bind(*primals, **params)
    if type(tangents[0]) is Zero and type(tangents[2]) is Zero:
        return ans, Zero(aval_of(ans).tangent())
    return ans, primitive.bind(instantiate(tangents[0]), primals[1], instantiate(tangents[2]), **params)


def _sum_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    back = _read(ct, indices, aval_of(updates), params) if is_undefined(updates) else None
    return [ct if is_undefined(operand) else None, None, back]


def _difference_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    of_operand, _, of_updates = _sum_transpose(ct, operand, indices, updates, **params)
    return [of_operand, None, None if of_updates is None else neg_p.bind(of_updates)]


def _winners(indices: Any, operand: ShapedArray, updates: ShapedArray, params: dict[str, Any]) -> Any:
    """Return which updates are not overwritten by a later one to the same place."""
    size = math.prod(updates.shape)
    numbered = reshape(iota(dtypes.int32, (size,), 0), updates.shape)
    written = scatter_p.bind(full(operand.shape, -1, dtypes.int32), indices, numbered, **params)
    return eq_p.bind(numbered, _read(written, indices, updates, params))


def _assign_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    of_operand = of_updates = None
    updates_aval = aval_of(updates)
    if is_undefined(operand):
        of_operand = scatter_p.bind(ct, indices, full(updates_aval.shape, 0, aval_of(ct).dtype), **params)
    if is_undefined(updates):
        of_updates = _read(ct, indices, updates_aval, params)
        if not params["unique_indices"]:
            wins = _winners(indices, aval_of(operand), updates_aval, params)
            of_updates = select_n_p.bind(wins, zeros_of(aval_of(of_updates)), of_updates)
    return [of_operand, None, of_updates]


def _product_jvp(
    primitive: Primitive, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[Any, Any]:
    operand, indices, updates = primals
    ans = primitive.bind(*primals, **params)
    out: Any = Zero(aval_of(ans).tangent())
    if type(tangents[0]) is not Zero:
        out = primitive.bind(tangents[0], indices, updates, **params)
    if type(tangents[2]) is not Zero:
        if not params["unique_indices"]:
            raise NotDifferentiableError(
                f"scatter-mul: the derivative with respect to updates {aval_of(updates)} needs indices that do not "
                f"repeat, and unique_indices is False (operand {aval_of(operand)})",
                fix="pass unique_indices=True if the indices do not repeat, or multiply gathered values and .set them",
            )
        factor = _read(operand, indices, aval_of(updates), params)
        zeros = zeros_of(aval_of(operand).tangent())
        out = add_tangents(out, scatter_add_p.bind(zeros, indices, mul_p.bind(tangents[2], factor), **params))
    return ans, out


def _product_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    return [scatter_mul_p.bind(ct, indices, updates, **params) if is_undefined(operand) else None, None, None]


def _extreme_jvp(
    primitive: Primitive, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[Any, Any]:
    """The jvp of scatter-min and -max: the mean of the tangents of all values equal to the extreme."""
    operand, indices, updates = primals
    ans = primitive.bind(*primals, **params)
    if all(type(t) is Zero for t in (tangents[0], tangents[2])):
        return ans, Zero(aval_of(ans).tangent())
    dtype = aval_of(ans).dtype
    kept = convert_element_type(eq_p.bind(operand, ans), dtype)
    equal = eq_p.bind(updates, _read(ans, indices, aval_of(updates), params))
    wins = convert_element_type(equal, dtype)
    number = scatter_add_p.bind(kept, indices, wins, **params)
    of_operand = mul_p.bind(instantiate(tangents[0]), kept)
    of_updates = mul_p.bind(instantiate(tangents[2]), wins)
    return ans, scatter_add_p.bind(of_operand, indices, of_updates, **params) / number


scatter_p = _scatter("scatter", assign, MOVABLE, jvp=_linear_jvp, transpose=_assign_transpose)
scatter_add_p = _scatter(
    "scatter-add", accumulate(np.add, np.add), NUMBER, "add", jvp=_linear_jvp, transpose=_sum_transpose
)
scatter_sub_p = _scatter(
    "scatter-sub", accumulate(np.subtract, np.add), NUMBER, "sub", jvp=_linear_jvp, transpose=_difference_transpose
)
scatter_mul_p = _scatter(
    "scatter-mul",
    accumulate(np.multiply, np.multiply),
    NUMBER,
    "mul",
    jvp=_product_jvp,
    transpose=_product_transpose,
)
scatter_min_p = _scatter("scatter-min", accumulate(np.minimum, np.minimum), ANY, "min", jvp=_extreme_jvp)
scatter_max_p = _scatter("scatter-max", accumulate(np.maximum, np.maximum), ANY, "max", jvp=_extreme_jvp)


def _surface(primitive: Primitive, name: str, doc: str) -> Callable[..., Any]:
    def function(
        operand: Any,
        scatter_indices: Any,
        updates: Any,
        dimension_numbers: ScatterDimensionNumbers,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | GatherScatterMode | None = None,
    ) -> Any:
        return primitive.bind(
            operand,
            scatter_indices,
            updates,
            dimension_numbers=ScatterDimensionNumbers(*map(tuple, dimension_numbers)),
            indices_are_sorted=indices_are_sorted,
            mode=GatherScatterMode.from_any(mode),
            unique_indices=unique_indices,
        )

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc + " Out-of-range windows are dropped unless `mode` is 'clip'."
    return function


scatter = _surface(scatter_p, "scatter", "Write windows of updates into a copy of the operand; the last one wins.")
scatter_add = _surface(scatter_add_p, "scatter_add", "Add windows of updates to a copy of the operand.")
scatter_sub = _surface(scatter_sub_p, "scatter_sub", "Subtract windows of updates from a copy of the operand.")
scatter_mul = _surface(scatter_mul_p, "scatter_mul", "Multiply a copy of the operand by windows of updates.")
scatter_min = _surface(scatter_min_p, "scatter_min", "Lower a copy of the operand to windows of updates.")
scatter_max = _surface(scatter_max_p, "scatter_max", "Raise a copy of the operand to windows of updates.")
