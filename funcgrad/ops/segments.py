"""Reductions over segments: the elements with equal ids, as scatters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.ops import gather_scatter, reductions, shapes, slicing
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.indexing import GatherScatterMode, ScatterDimensionNumbers


def _number_of_segments(name: str, ids: Any, number: Any) -> int:
    if number is None:
        if isinstance(ids, Tracer):
            raise ConcretizationError(
                f"{name}: the number of segments depends on the values of segment_ids", fix="pass num_segments"
            )
        number = int(np.max(np.asarray(ids), initial=-1)) + 1
    if isinstance(number, Tracer) or int(number) < 0:
        raise ArgumentError(
            f"{name}: num_segments is {number}", fix="pass an int that is not negative, for the shape depends on it"
        )
    return int(number)


def _segment(name: str, scatter: Callable[..., Any], identity: Callable[[np.dtype], Any], reduce: Any, doc: str) -> Any:
    def function(
        data: Any,
        segment_ids: Any,
        num_segments: int | None = None,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        bucket_size: int | None = None,
        mode: str | GatherScatterMode | None = None,
    ) -> Any:
        data, ids = as_array(data), as_array(segment_ids)
        shape, dtype, sizes = aval_of(data).shape, aval_of(data).dtype, aval_of(ids).shape
        number = _number_of_segments(name, ids, num_segments)
        if shape[: len(sizes)] != sizes:
            raise ShapeError(
                f"{name}: segment_ids {aval_of(ids)} and data {aval_of(data)} have different sizes",
                fix="pass one id for each row of the data",
            )
        rest, batch = shape[len(sizes) :], len(sizes)
        index, target = shapes.reshape(ids, (*sizes, 1)), (number,)
        if bucket_size is not None:
            count = -(-sizes[0] // bucket_size)
            buckets = (np.arange(*sizes).astype(aval_of(ids).dtype) // bucket_size)[:, None]
            index, target = slicing.concatenate([as_array(buckets), index], batch), (count, number)
        numbers = ScatterDimensionNumbers(
            update_window_dims=tuple(range(batch, len(shape))),
            inserted_window_dims=tuple(range(len(target))),
            scatter_dims_to_operand_dims=tuple(range(len(target))),
        )
        start = shapes.full((*target, *rest), identity(dtype), dtype)
        out = scatter(
            start,
            index,
            data,
            numbers,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=GatherScatterMode.FILL_OR_DROP if mode is None else mode,
        )
        return out if bucket_size is None else convert_element_type(reduce(out, (0,)), dtype)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{doc}

    `segment_ids` are the positions in the result, in any order; ids outside of it are dropped. `num_segments` is the
    size of the result, by default the largest id plus 1. With `bucket_size`, blocks of so many elements are reduced
    first.

    >>> {name}(np.array([1, 2, 3]), np.array([0, 1, 1]))
    Array([{_EXAMPLES[name]}], dtype=int32)
    """
    return function


_EXAMPLES = {"segment_sum": "1, 5", "segment_prod": "1, 6", "segment_max": "1, 3", "segment_min": "1, 2"}
segment_sum = _segment(
    "segment_sum",
    gather_scatter.scatter_add,
    lambda dtype: dtype.type(0),
    reductions.reduce_sum,
    "Sums of the elements of an array that have the same segment id.",
)
segment_prod = _segment(
    "segment_prod",
    gather_scatter.scatter_mul,
    lambda dtype: dtype.type(1),
    lambda x, axes: reductions.reduce_prod_p.bind(x, axes=axes),
    "Products of the elements of an array that have the same segment id.",
)
segment_max = _segment(
    "segment_max",
    gather_scatter.scatter_max,
    reductions.lowest,
    lambda x, axes: reductions.reduce_max_p.bind(x, axes=axes),
    "Maxima of the elements of an array that have the same segment id; of none, the lowest value of the dtype.",
)
segment_min = _segment(
    "segment_min",
    gather_scatter.scatter_min,
    reductions.highest,
    lambda x, axes: reductions.reduce_min_p.bind(x, axes=axes),
    "Minima of the elements of an array that have the same segment id; of none, the highest value of the dtype.",
)
