"""Writing windows of an array at positions computed at run time: the scatter family and dynamic_update_slice.

A scatter combines one window of updates per index vector into a copy of the operand, in row-major order of the batch:

    for b in batch: out[s_b + w] = combine(out[s_b + w], updates[b, w])

`combine` names the member: scatter (the update itself: the last one wins), scatter-add, -sub, -mul, -min, -max. The
dimension numbers are a gather's (`ops.indexing`), the updates standing where the gather's result does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import DynamicUpdateSlice, Rewrite
from funcgrad.core.primitives import AxisData, Primitive, registry
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import DTypeError, NotDifferentiableError, ShapeError
from funcgrad.ops.accumulation import widest
from funcgrad.ops.arithmetic import mul_p, neg_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.dynamic_slices import check_starts, clamped_starts, dynamic_slice_p, stacked_starts, wrapped_starts
from funcgrad.ops.elementwise import ANY, NUMBER, add_tangents, check_operands
from funcgrad.ops.indexing import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    batched_numbers,
    check_windows,
    gather_p,
    locate,
    window_dims,
    windows_first,
)
from funcgrad.ops.logic import eq_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import Dims, full, instantiate, move_axis, reshape, squeeze, to_dim, zeros_of
from funcgrad.ops.slicing import iota, slice_


def as_gather_numbers(numbers: ScatterDimensionNumbers) -> GatherDimensionNumbers:
    """Return the dimension numbers of the gather that reads what the scatter writes."""
    return GatherDimensionNumbers(*numbers)


def window_sizes(operand: Sequence[int], updates: Sequence[int], numbers: ScatterDimensionNumbers) -> tuple[int, ...]:
    """Return the window's size in each operand dimension: the updates' where it is kept, else 1."""
    kept = dict(zip(window_dims(as_gather_numbers(numbers), len(operand)), numbers.update_window_dims, strict=False))
    return tuple(updates[kept[d]] if d in kept else min(1, n) for d, n in enumerate(operand))


# ---------------------------------------------------------------- evaluation


def _assign(work: np.ndarray, rows: np.ndarray, values: np.ndarray, unique: bool) -> None:
    work[rows] = values


# Narrow floats are added in double precision where so many come to one place on average.
_MANY = 8


def _accumulate(combine: np.ufunc, fold: np.ufunc) -> Callable[..., None]:
    """Return work[rows] = combine(work[rows], values) where rows may repeat; `fold` merges values of one row."""

    def update(work: np.ndarray, rows: np.ndarray, values: np.ndarray, unique: bool) -> None:
        if fold is np.add and dtypes.is_inexact(work.dtype) and len(rows) >= _MANY * len(work):
            wide = widest(work.dtype)
            if work.dtype != wide:  # sums of many terms
                total = work.astype(wide)
                update(total, rows, values.astype(wide), unique)
                work[...] = total
                return
        if work.ndim == 1:
            combine.at(work, rows, values)
            return
        if not unique:
            order = np.argsort(rows, kind="stable")
            rows, values = rows[order], values[order]
            first = np.flatnonzero(np.diff(rows, prepend=-1))
            rows, values = rows[first], fold.reduceat(values, first, axis=0) if len(first) else values
        work[rows] = combine(work[rows], values)

    return update


def _scatter_evaluate(
    update: Callable[..., None],
    operand: np.ndarray,
    indices: np.ndarray,
    updates: np.ndarray,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    unique_indices: bool,
    mode: GatherScatterMode,
    **_: Any,
) -> np.ndarray:
    if operand.size == 0 or updates.size == 0:
        return operand
    numbers = as_gather_numbers(dimension_numbers)
    sizes = window_sizes(operand.shape, updates.shape, dimension_numbers)
    lead, rest, positions, valid = locate(operand.shape, indices, numbers, sizes, mode)
    order, count = (*lead, *rest), math.prod(indices.shape[:-1])
    leading = tuple(operand.shape[d] for d in lead)
    # Every row of `work` is one position in the leading dimensions: windows become lists of row numbers.
    within = tuple(sizes[d] for d in lead)
    rows = np.ravel_multi_index(np.broadcast_arrays(*positions), leading) if lead else np.zeros(1, np.intp)
    rows = np.broadcast_to(rows, (count, *within))
    values = updates.transpose(windows_first(numbers, updates.ndim)).reshape((count, *sizes))
    values = values.transpose((0, *(d + 1 for d in order)))
    if valid is not None and not valid.all():
        rows, values = rows[valid], values[valid]
    width = math.prod(operand.shape[d] for d in rest)
    work = np.array(operand.transpose(order), order="C").reshape((-1, width) if width > 1 else -1)
    update(work, rows.ravel(), values.reshape((-1, width) if width > 1 else -1), unique_indices)
    return work.reshape([operand.shape[d] for d in order]).transpose(np.argsort(order))


# ---------------------------------------------------------------- the family


def _scatter(
    name: str, update: Callable[..., None], kinds: Sequence[str], combine: str = "", **rules: Any
) -> Primitive:
    """Declare a member: `update(work, rows, values, unique)` combines values into rows of `work` in place, as does the
    primitive `combine` elementwise (none: values replace what is there)."""

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
        evaluate=lambda *args, **params: _scatter_evaluate(update, *args, **params),
        batch=batch,
        lowering=Rewrite(lambda *args, **params: _as_window_update(combine, *args, **params), applies=_has_one_window),
        **rules,
    )
    return primitive


def _has_one_window(operand: ShapedArray, indices: ShapedArray, updates: ShapedArray, **_: Any) -> bool:
    # An empty operand has no place for a window of size 1; there is nothing to write.
    return indices.ndim == 1 and operand.size > 0 and not dtypes.is_complex(operand.dtype)


def _as_window_update(
    combine: str,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    mode: GatherScatterMode,
    **_: Any,
) -> Any:
    """A scatter of a single window by dynamic_slice and dynamic_update_slice: x[w] = combine(x[w], updates)."""
    shape = aval_of(operand).shape
    sizes = window_sizes(shape, aval_of(updates).shape, dimension_numbers)
    starts = [full((), 0, aval_of(indices).dtype) for _ in shape]
    for j, d in enumerate(dimension_numbers.scatter_dims_to_operand_dims):
        starts[d] = squeeze(slice_(indices, (j,), (j + 1,)), (0,))
    new = reshape(updates, sizes)
    if not combine and not mode.checks_bounds:
        return dynamic_update_slice_p.bind(operand, new, *starts)
    old = dynamic_slice_p.bind(operand, *starts, slice_sizes=sizes)
    new = registry[combine].bind(old, new) if combine else new
    for start, n, m in zip(starts, shape, sizes, strict=True) if mode.checks_bounds else ():
        dtype = aval_of(start).dtype
        for name, limit in (("ge", 0), ("le", n - m)):
            inside = registry[name].bind(start, full((), limit, dtype))
            new = registry["select_n"].bind(inside, old, new)
    return dynamic_update_slice_p.bind(operand, new, *starts)


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


def _linear_jvp(name: str) -> Callable[..., Any]:
    """The jvp of a scatter that is linear in operand and updates together: scatter the tangents."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        primitive, indices = registry[name], primals[1]
        ans = primitive.bind(*primals, **params)
        if type(tangents[0]) is Zero and type(tangents[2]) is Zero:
            return ans, Zero(aval_of(ans).tangent())
        return ans, primitive.bind(instantiate(tangents[0]), indices, instantiate(tangents[2]), **params)

    return jvp


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


def _product_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    operand, indices, updates = primals
    ans = scatter_mul_p.bind(*primals, **params)
    out: Any = Zero(aval_of(ans).tangent())
    if type(tangents[0]) is not Zero:
        out = scatter_mul_p.bind(tangents[0], indices, updates, **params)
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


def _extreme_jvp(name: str) -> Callable[..., Any]:
    """The jvp of scatter-min and -max: the mean of the tangents of all values equal to the extreme."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        operand, indices, updates = primals
        ans = registry[name].bind(*primals, **params)
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

    return jvp


scatter_p = _scatter("scatter", _assign, ANY, jvp=_linear_jvp("scatter"), transpose=_assign_transpose)
scatter_add_p = _scatter(
    "scatter-add",
    _accumulate(np.add, np.add),
    NUMBER,
    "add",
    jvp=_linear_jvp("scatter-add"),
    transpose=_sum_transpose,
)
scatter_sub_p = _scatter(
    "scatter-sub",
    _accumulate(np.subtract, np.add),
    NUMBER,
    "sub",
    jvp=_linear_jvp("scatter-sub"),
    transpose=_difference_transpose,
)
scatter_mul_p = _scatter(
    "scatter-mul", _accumulate(np.multiply, np.multiply), NUMBER, "mul", jvp=_product_jvp, transpose=_product_transpose
)
scatter_min_p = _scatter(
    "scatter-min", _accumulate(np.minimum, np.minimum), ANY, "min", jvp=_extreme_jvp("scatter-min")
)
scatter_max_p = _scatter(
    "scatter-max", _accumulate(np.maximum, np.maximum), ANY, "max", jvp=_extreme_jvp("scatter-max")
)


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


# ---------------------------------------------------------------- dynamic_update_slice


def _update_infer(operand: ShapedArray, update: ShapedArray, *starts: ShapedArray) -> ShapedArray:
    if update.dtype != operand.dtype:
        raise DTypeError(
            f"dynamic_update_slice: operand {operand} and update {update} have different dtypes",
            fix="cast one with .astype(...)",
        )
    if update.ndim != operand.ndim:
        raise ShapeError(
            f"dynamic_update_slice: operand {operand} and update {update} have different ranks",
            fix="reshape the update to the operand's rank",
        )
    check_starts("dynamic_update_slice", operand, starts, update.shape)
    return ShapedArray(operand.shape, operand.dtype)


def _update_evaluate(operand: np.ndarray, update: np.ndarray, *starts: np.ndarray) -> np.ndarray:
    out = np.array(operand)
    out[clamped_starts(operand.shape, starts, update.shape)] = update
    return out


def _update_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    _, _, *starts = primals
    ans = dynamic_update_slice_p.bind(*primals)
    if type(tangents[0]) is Zero and type(tangents[1]) is Zero:
        return ans, Zero(aval_of(ans).tangent())
    return ans, dynamic_update_slice_p.bind(instantiate(tangents[0]), instantiate(tangents[1]), *starts)


def _update_transpose(ct: Any, operand: Any, update: Any, *starts: Any) -> list[Any]:
    shape, dtype = aval_of(update).shape, aval_of(ct).dtype
    of_operand = dynamic_update_slice_p.bind(ct, full(shape, 0, dtype), *starts) if is_undefined(operand) else None
    of_update = dynamic_slice_p.bind(ct, *starts, slice_sizes=shape) if is_undefined(update) else None
    return [of_operand, of_update, *(None for _ in starts)]


def _update_batch(axis: AxisData, args: Sequence[Any], dims: Dims) -> tuple[Any, int]:
    (operand, update, *starts), (operand_dim, update_dim, *start_dims) = args, dims
    if all(d is None for d in start_dims):
        size = axis.size
        operand, update = (to_dim(a, d, 0, size) for a, d in ((operand, operand_dim), (update, update_dim)))
        zero = np.zeros((), aval_of(starts[0]).dtype if starts else np.int32)
        return dynamic_update_slice_p.bind(operand, update, zero, *starts), 0
    indices, indices_dim = stacked_starts(starts, start_dims)
    every = tuple(range(len(starts)))
    return scatter_p.batch(
        axis,
        (operand, indices, update),
        (operand_dim, indices_dim, update_dim),
        dimension_numbers=ScatterDimensionNumbers(every, (), every),
        indices_are_sorted=True,
        mode=GatherScatterMode.CLIP,
        unique_indices=True,
    )


dynamic_update_slice_p = Primitive(
    "dynamic_update_slice",
    infer=_update_infer,
    evaluate=_update_evaluate,
    jvp=_update_jvp,
    transpose=_update_transpose,
    batch=_update_batch,
    lowering=DynamicUpdateSlice(),
)


def dynamic_update_slice(operand: Any, update: Any, start_indices: Any) -> Any:
    """Return `operand` with the window at `start_indices` replaced by `update`; the window is moved inside.

    >>> dynamic_update_slice(np.zeros(4, np.float32), np.ones(2, np.float32), [3])
    Array([0., 0., 1., 1.], dtype=float32)
    """
    shape = aval_of(operand).shape
    starts = list(start_indices) if isinstance(start_indices, (tuple, list)) else start_indices
    given = len(starts) if isinstance(starts, list) else math.prod(aval_of(starts).shape)
    if given != len(shape):
        raise ShapeError(
            f"dynamic_update_slice: {given} start indices for operand {aval_of(operand)}", fix="give one per dimension"
        )
    return dynamic_update_slice_p.bind(operand, update, *wrapped_starts(starts, shape))
