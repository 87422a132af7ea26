"""indexed_load: gathers in the form that kernels compute.

Index vectors are taken apart: each of their entries is an operand of its own, in the shape of the result, so that a
kernel computes an index where it reads the element. See `funcgrad.core.lowering.Gather`.

The compiler puts this in the place of gathers. It is no operation of users, and has no derivative: it comes after all
transforms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Gather, GatherForm, Scatter, ScatterForm
from funcgrad.core.primitives import Primitive
from funcgrad.ops.indexing import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    as_gather_numbers,
    fill_of,
    window_dims,
    window_sizes,
    windows_first,
)
from funcgrad.ops.shapes import broadcast_in_dim, reshape, transpose
from funcgrad.ops.slicing import iota, slice_


def _evaluate(operand: Any, *starts: Any, shape: tuple[int, ...], form: GatherForm) -> Any:
    given = dict(zip(form.axes, starts, strict=True))
    places, inside = [], np.ones(shape, bool)
    for d, (n, m, along) in enumerate(zip(operand.shape, form.sizes, form.along, strict=True)):
        place = np.zeros(shape, np.int64)
        if d in given:
            inside &= (given[d] >= 0) & (given[d] <= n - m)
            place += np.clip(given[d], 0, min(n - m, np.iinfo(given[d].dtype).max)).astype(np.int64)
        if along is not None:
            place += np.arange(shape[along]).reshape([-1 if d == along else 1 for d in range(len(shape))])
        places.append(place)
    found = operand[tuple(places)]
    return found if form.fill is None else np.where(inside, found, np.asarray(form.fill).astype(operand.dtype))


indexed_load_p = Primitive(
    "indexed_load",
    infer=lambda operand, *starts, shape, form: ShapedArray(shape, operand.dtype, operand.weak_type),
    evaluate=_evaluate,
    lowering=Gather(lambda in_avals, *, shape, form: form),
)


def column(indices: Any, j: int) -> Any:
    """Return entry j of every index vector."""
    shape = aval_of(indices).shape
    entry = slice_(indices, (*(0 for _ in shape[1:]), j), (*shape[:-1], j + 1))
    return reshape(entry, shape[:-1])


def has_loops(operand: ShapedArray, *_: ShapedArray, **params: Any) -> bool:
    """Whether kernels compute gathers from this operand, or scatters to it."""
    return operand.size > 0 and operand.dtype != dtypes.float0


def _number(value: Any, dtype: np.dtype) -> bool | int | float | complex:
    """Return a number of the given dtype as Python's."""
    found = np.asarray(value).astype(dtype)
    plain = float(found) if dtypes.is_float(dtype) else found.item()
    return math.nan if plain != plain else plain  # one NaN, so that params compare equal


def load_windows(
    operand: Any,
    indices: Any,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    mode: GatherScatterMode,
    fill_value: Any,
    **_: Any,
) -> Any:
    """Return a gather as an indexed load."""
    numbers, aval = dimension_numbers, aval_of(operand)
    kept = dict(zip(window_dims(numbers, aval.ndim), numbers.offset_dims, strict=True))
    batch = aval_of(indices).shape[:-1]
    batch_dims = [d for d in range(len(batch) + len(kept)) if d not in numbers.offset_dims]
    shape = [0] * (len(batch) + len(kept))
    for d, n in zip(batch_dims, batch, strict=True):
        shape[d] = n
    for d, place in kept.items():
        shape[place] = slice_sizes[d]
    along = [kept.get(d) for d in range(aval.ndim)]
    for d, own in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        along[d] = batch_dims[own]
    starts = [broadcast_in_dim(column(indices, j), shape, batch_dims) for j in range(len(numbers.start_index_map))]
    fill = _number(fill_of(fill_value, aval.dtype, mode), aval.dtype) if mode.checks_bounds else None
    form = GatherForm(numbers.start_index_map, tuple(along), tuple(slice_sizes), fill)
    return indexed_load_p.bind(operand, *starts, shape=tuple(shape), form=form)


_UFUNCS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _evaluate_update(operand: Any, updates: Any, *starts: Any, form: ScatterForm) -> Any:
    out = np.array(operand)
    for b, update in enumerate(updates if updates.ndim > operand.ndim else updates[None]):
        window = [slice(0, m) for m in update.shape]
        inside = True
        for d, start in zip(form.axes, starts, strict=True):
            at, last = int(start.reshape(-1)[b]), out.shape[d] - update.shape[d]
            inside &= not form.drops or 0 <= at <= last
            at = min(max(at, 0), last)
            window[d] = slice(at, at + update.shape[d])
        if inside:
            place = tuple(window)
            out[place] = _UFUNCS[form.combine](out[place], update) if form.combine else update
    return out


indexed_update_p = Primitive(
    "indexed_update",
    infer=lambda operand, updates, *starts, form: operand,
    evaluate=_evaluate_update,
    lowering=Scatter(lambda in_avals, *, form: form),
)


def update_windows(
    combine: str,
    operand: Any,
    indices: Any,
    updates: Any,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    mode: GatherScatterMode,
    unique_indices: bool,
    **_: Any,
) -> Any:
    """Return a scatter as an indexed update; `combine` is the scalar operation, or empty."""
    numbers, aval, given = as_gather_numbers(dimension_numbers), aval_of(operand), aval_of(updates)
    if not given.size:
        return operand
    sizes = window_sizes(aval.shape, given.shape, dimension_numbers)
    batch = aval_of(indices).shape[:-1]
    count = math.prod(batch)
    windows = reshape(transpose(updates, windows_first(numbers, given.ndim)), (count, *sizes))
    starts = {d: reshape(column(indices, j), (count,)) for j, d in enumerate(numbers.start_index_map)}
    if not mode.checks_bounds:  # a window as large as the operand is always at its start
        starts = {d: start for d, start in starts.items() if aval.shape[d] != sizes[d]}
    for d, own in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        starts[d] = reshape(iota(dtypes.int32, batch, own), (count,))
    form = ScatterForm(tuple(starts), combine, mode.checks_bounds, unique_indices)
    return indexed_update_p.bind(operand, windows, *starts.values(), form=form)
