"""Reads and writes at computed positions: dynamic slices, gather, scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.arguments.axes import as_axes, as_axis, as_int
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.lax.operands import with_dtype
from funcgrad.lax.shapes import slice_in_dim
from funcgrad.ops import dynamic_slices, gather_scatter, shapes, slicing
from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers

__all__ = [
    "GatherDimensionNumbers",
    "GatherScatterMode",
    "ScatterDimensionNumbers",
    "dynamic_index_in_dim",
    "dynamic_slice",
    "dynamic_slice_in_dim",
    "dynamic_update_index_in_dim",
    "dynamic_update_slice",
    "dynamic_update_slice_in_dim",
    "gather",
    "index_in_dim",
    "index_take",
    "scatter",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_sub",
]


def dynamic_slice(operand: Any, start_indices: Any, slice_sizes: Sequence[int]) -> Any:
    """Return the slice of static size `slice_sizes` at `start_indices`.

    Negative indices count from the end. Indices are then clamped so that the slice is inside the operand.

    >>> import funcgrad.numpy as jnp
    >>> dynamic_slice(jnp.arange(5), (3,), (3,))
    Array([2, 3, 4], dtype=int32)
    """
    return dynamic_slices.dynamic_slice(as_operand(operand, "dynamic_slice"), start_indices, slice_sizes)


def dynamic_update_slice(operand: Any, update: Any, start_indices: Any) -> Any:
    """Return the operand with the slice at `start_indices` replaced by `update`; indices are clamped.

    >>> import funcgrad.numpy as jnp
    >>> dynamic_update_slice(jnp.zeros(4), jnp.ones(2), (1,))
    Array([0., 1., 1., 0.], dtype=float32)
    """
    x = as_operand(operand, "dynamic_update_slice")
    update = with_dtype(as_operand(update, "dynamic_update_slice"), aval_of(x).dtype)
    return dynamic_slices.dynamic_update_slice(x, update, start_indices)


def _starts(x: Any, start: Any, axis: int) -> list[Any]:
    return [start if d == axis else 0 for d in range(aval_of(x).ndim)]


def dynamic_slice_in_dim(operand: Any, start_index: Any, slice_size: int, axis: int = 0) -> Any:
    """Return operand[start:start + size] along one axis; the start is clamped."""
    x = as_operand(operand, "dynamic_slice_in_dim")
    axis = as_axis(axis, aval_of(x).ndim, "dynamic_slice_in_dim")
    sizes = list(aval_of(x).shape)
    sizes[axis] = as_int(slice_size, "slice_size", "dynamic_slice_in_dim")
    return dynamic_slice(x, _starts(x, start_index, axis), sizes)


def dynamic_index_in_dim(operand: Any, index: Any, axis: int = 0, keepdims: bool = True) -> Any:
    """Return operand[index] along one axis; the index is clamped. The axis is kept with size 1 if `keepdims`."""
    out = dynamic_slice_in_dim(operand, index, 1, axis)
    return out if keepdims else shapes.squeeze(out, (as_axis(axis, aval_of(out).ndim, "dynamic_index_in_dim"),))


def dynamic_update_slice_in_dim(operand: Any, update: Any, start_index: Any, axis: int) -> Any:
    """Return a copy with operand[start:start + n] along one axis replaced by `update`; the start is clamped."""
    x = as_operand(operand, "dynamic_update_slice_in_dim")
    axis = as_axis(axis, aval_of(x).ndim, "dynamic_update_slice_in_dim")
    return dynamic_update_slice(x, update, _starts(x, start_index, axis))


def dynamic_update_index_in_dim(operand: Any, update: Any, index: Any, axis: int) -> Any:
    """Return a copy with operand[index] along one axis replaced by `update`; the index is clamped."""
    x, update = (as_operand(v, "dynamic_update_index_in_dim") for v in (operand, update))
    axis = as_axis(axis, aval_of(x).ndim, "dynamic_update_index_in_dim")
    if aval_of(update).ndim != aval_of(x).ndim:
        update = shapes.expand_dims(update, (axis,))
    return dynamic_update_slice_in_dim(x, update, index, axis)


def index_in_dim(operand: Any, index: int, axis: int = 0, keepdims: bool = True) -> Any:
    """Return operand[index] along one axis for a static index, which may be negative.

    >>> import funcgrad.numpy as jnp
    >>> index_in_dim(jnp.arange(4), -1, keepdims=False)
    Array(3, dtype=int32)
    """
    x, index = as_operand(operand, "index_in_dim"), as_int(index, "index", "index_in_dim")
    axis = as_axis(axis, aval_of(x).ndim, "index_in_dim")
    n = aval_of(x).shape[axis]
    if not -n <= index < n:
        raise ArgumentError(
            f"index_in_dim: index {index} is out of range for axis {axis} of {aval_of(x)}",
            fix=f"choose an index in [{-n}, {n}), or use dynamic_index_in_dim, which clamps it",
        )
    out = slice_in_dim(x, index % n, index % n + 1, axis=axis)
    return out if keepdims else shapes.squeeze(out, (axis,))


def index_take(src: Any, idxs: Sequence[Any], axes: Sequence[int]) -> Any:
    """Return src[…, i, …, j, …] for index vectors along `axes`. The axis of the vectors comes first; indices wrap.

    >>> import funcgrad.numpy as jnp
    >>> index_take(jnp.arange(6).reshape(2, 3), (jnp.array([1, 0]), jnp.array([2, -1])), (0, 1))
    Array([5, 2], dtype=int32)
    """
    x = as_operand(src, "index_take")
    aval = aval_of(x)
    axes = as_axes(tuple(axes), aval.ndim, "index_take")
    positions = [
        shapes.expand_dims(as_operand(i, "index_take") % aval.shape[d], (1,)) for i, d in zip(idxs, axes, strict=True)
    ]
    numbers = GatherDimensionNumbers(
        offset_dims=tuple(range(1, aval.ndim - len(axes) + 1)), collapsed_slice_dims=axes, start_index_map=axes
    )
    sizes = [1 if d in axes else n for d, n in enumerate(aval.shape)]
    return gather_scatter.gather(x, slicing.concatenate(positions, 1), numbers, sizes, mode=GatherScatterMode.CLIP)


gather = gather_scatter.gather
scatter = gather_scatter.scatter
scatter_add = gather_scatter.scatter_add
scatter_sub = gather_scatter.scatter_sub
scatter_mul = gather_scatter.scatter_mul
scatter_min = gather_scatter.scatter_min
scatter_max = gather_scatter.scatter_max
