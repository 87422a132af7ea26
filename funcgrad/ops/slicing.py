"""The primitives slice, pad, concatenate and iota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Concatenate, Iota, Pad, Strided, View
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import (
    Dims,
    broadcast_in_dim,
    full,
    instantiate,
    movement,
    reduced,
    sum_all,
    to_dim,
)


def _slice_shape(x: ShapedArray, *, start_indices: Any, limit_indices: Any, strides: Any) -> tuple[int, ...]:
    steps = strides or (1,) * x.ndim
    if not len(start_indices) == len(limit_indices) == len(steps) == x.ndim:
        raise ArgumentError(f"slice: indices do not have one entry per dimension of {x}", fix="give one per dimension")
    for n, lo, hi, step in zip(x.shape, start_indices, limit_indices, steps, strict=True):
        if not 0 <= lo <= hi <= n or step < 1:
            raise ArgumentError(
                f"slice: [{lo}:{hi}:{step}] is outside a dimension of size {n} of {x}",
                fix="keep 0 <= start <= limit <= size and stride >= 1",
            )
    return tuple(-(-(hi - lo) // s) for lo, hi, s in zip(start_indices, limit_indices, steps, strict=True))


def _slice_transpose(ct: Any, x: ShapedArray, *, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or (1,) * x.ndim
    config = []
    for n, lo, m, s in zip(x.shape, start_indices, aval_of(ct).shape, steps, strict=True):
        covered = (m - 1) * s + 1 if m else 0
        config.append((lo, n - lo - covered, s - 1))
    return pad(ct, _zero_like(ct), config)


def _slice_batch(x: Any, dim: int, *, start_indices: Any, limit_indices: Any, strides: Any) -> tuple[Any, int]:
    def insert(values: Any, value: int) -> tuple[int, ...]:
        return (*values[:dim], value, *values[dim:])

    size = aval_of(x).shape[dim]
    steps = None if strides is None else insert(strides, 1)
    return slice_p.bind(
        x, start_indices=insert(start_indices, 0), limit_indices=insert(limit_indices, size), strides=steps
    ), dim


def _slice_view(view: Strided, *, start_indices: Any, limit_indices: Any, strides: Any) -> Strided:
    steps = strides or (1,) * len(view.shape)
    shape = tuple(-(-(hi - lo) // s) for lo, hi, s in zip(start_indices, limit_indices, steps, strict=True))
    offset = view.offset + sum(lo * s for lo, s in zip(start_indices, view.strides, strict=True))
    return Strided(shape, tuple(s * k for s, k in zip(view.strides, steps, strict=True)), offset)


slice_p = movement(
    "slice",
    shape=_slice_shape,
    evaluate=lambda x, *, start_indices, limit_indices, strides: x[
        tuple(map(slice, start_indices, limit_indices, strides or (1,) * x.ndim))
    ],
    transpose=_slice_transpose,
    batch=_slice_batch,
    lowering=View(_slice_view),
)


def slice_(x: Any, start: Sequence[int], limit: Sequence[int], strides: Sequence[int] | None = None) -> Any:
    """Return x[start:limit:strides], with one static entry per dimension, all in range."""
    aval = aval_of(x)
    if strides is not None and all(s == 1 for s in strides):
        strides = None
    if strides is None and tuple(limit) == aval.shape and not any(start):
        return x
    return slice_p.bind(
        x,
        start_indices=tuple(start),
        limit_indices=tuple(limit),
        strides=None if strides is None else tuple(strides),
    )


def _zero_like(x: Any) -> np.ndarray:
    return np.zeros((), aval_of(x).dtype)


def _padded_size(n: int, low: int, high: int, interior: int) -> int:
    return low + high + n + max(0, n - 1) * interior


def _pad_infer(x: ShapedArray, value: ShapedArray, *, padding_config: Any) -> ShapedArray:
    if value.shape or value.dtype != x.dtype or len(padding_config) != x.ndim:
        raise ShapeError(
            f"pad: padding value {value} and config {padding_config} do not fit operand {x}",
            fix="give a scalar of the operand's dtype and one (low, high, interior) per dimension",
        )
    sizes = tuple(_padded_size(n, *c) for n, c in zip(x.shape, padding_config, strict=True))
    if any(n < 0 for n in sizes) or any(c[2] < 0 for c in padding_config):
        raise ShapeError(
            f"pad: config {padding_config} leaves a negative size of operand {x}", fix="pad less negatively"
        )
    return ShapedArray(sizes, x.dtype, x.weak_type and value.weak_type)


def _pad_evaluate(x: Any, value: Any, *, padding_config: Any) -> Any:
    out = np.full([_padded_size(n, *c) for n, c in zip(x.shape, padding_config, strict=True)], value, x.dtype)
    into, of = [], []
    for n, m, (low, _, interior) in zip(x.shape, out.shape, padding_config, strict=True):
        step = interior + 1
        first = max(0, -(low // step) if low < 0 else 0)
        last = max(first, min(n, -(-(m - low) // step)))
        of.append(slice(first, last))
        into.append(
            slice(low + first * step, max(0, low + (last - 1) * step + 1) if last > first else low + first * step, step)
        )
    if all(s.stop > s.start for s in of):
        out[tuple(into)] = x[tuple(of)]
    return out


def _pad_jvp(primals: Any, tangents: Any, *, padding_config: Any) -> tuple[Any, Any]:
    return pad(*primals, padding_config), pad(*map(instantiate, tangents), padding_config)


def _pad_transpose(ct: Any, x: Any, value: Any, *, padding_config: Any) -> list[Any]:
    x_aval = aval_of(x)
    # Remove the edge padding (negative padding removes elements), then stride over the interior padding.
    cropped = pad(ct, _zero_like(ct), [(-low, -high, 0) for low, high, _ in padding_config])
    of_x = slice_(cropped, (0,) * x_aval.ndim, aval_of(cropped).shape, [i + 1 for *_, i in padding_config])
    of_value = sum_all(ct) - sum_all(of_x) if is_undefined(value) else None
    return [of_x if is_undefined(x) else None, of_value]


def _pad_batch(axis: AxisData, args: Sequence[Any], dims: Dims, *, padding_config: Any) -> tuple[Any, int]:
    (x, value), (x_dim, value_dim) = args, dims
    if value_dim is None and x_dim is not None:
        return pad(x, value, (*padding_config[:x_dim], (0, 0, 0), *padding_config[x_dim:])), x_dim
    x = to_dim(x, x_dim, 0, axis.size)
    config = ((0, 0, 0), *padding_config)
    inside = pad(full(aval_of(x).shape, True, dtypes.bool_), np.False_, config)
    moved = pad(x, _zero_like(x), config)
    return select_n_p.bind(inside, broadcast_in_dim(value, aval_of(moved).shape, (0,)), moved), 0


pad_p = Primitive(
    "pad",
    infer=_pad_infer,
    evaluate=_pad_evaluate,
    jvp=_pad_jvp,
    transpose=_pad_transpose,
    batch=_pad_batch,
    lowering=Pad(),
)


def pad(x: Any, value: Any, padding_config: Sequence[Sequence[int]]) -> Any:
    """Pad `x` with `value`: (low, high, interior) per dimension. Negative low and high remove elements."""
    config = tuple(tuple(int(v) for v in c) for c in padding_config)
    return pad_p.bind(x, value, padding_config=config) if any(any(c) for c in config) else x


def _concatenate_infer(*avals: ShapedArray, dimension: int) -> ShapedArray:
    first = avals[0]
    if not 0 <= dimension < first.ndim:
        raise ArgumentError(
            f"concatenate: dimension {dimension} is out of range for {first}", fix="choose one of its axes"
        )
    for a in avals[1:]:
        if a.dtype != first.dtype:
            raise DTypeError(
                f"concatenate: operands have different dtypes: {first} and {a}", fix="cast them to one dtype"
            )
        if a.ndim != first.ndim or reduced(a.shape, (dimension,)) != reduced(first.shape, (dimension,)):
            raise ShapeError(
                f"concatenate: {first} and {a} differ outside dimension {dimension}",
                fix="all sizes but the concatenated one must be equal",
            )
    shape = list(first.shape)
    shape[dimension] = sum(a.shape[dimension] for a in avals)
    return ShapedArray(tuple(shape), first.dtype, all(a.weak_type for a in avals))


def _concatenate_jvp(primals: Any, tangents: Any, *, dimension: int) -> tuple[Any, Any]:
    return concatenate(primals, dimension), concatenate([instantiate(t) for t in tangents], dimension)


def _concatenate_transpose(ct: Any, *operands: Any, dimension: int) -> list[Any]:
    out, start = [], 0
    shape = aval_of(ct).shape
    for x in operands:
        stop = start + aval_of(x).shape[dimension]
        lo, hi = [0] * len(shape), list(shape)
        lo[dimension], hi[dimension] = start, stop
        out.append(slice_(ct, lo, hi) if is_undefined(x) else None)
        start = stop
    return out


def _concatenate_batch(axis: AxisData, args: Sequence[Any], dims: Dims, *, dimension: int) -> tuple[Any, int]:
    size = axis.size
    moved = [to_dim(a, d, 0, size) for a, d in zip(args, dims, strict=True)]
    return concatenate(moved, dimension + 1), 0


concatenate_p = Primitive(
    "concatenate",
    infer=_concatenate_infer,
    evaluate=lambda *xs, dimension: np.concatenate(xs, dimension),
    jvp=_concatenate_jvp,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
    lowering=Concatenate(),
)


def concatenate(operands: Sequence[Any], dimension: int) -> Any:
    """Join operands along an existing dimension."""
    return operands[0] if len(operands) == 1 else concatenate_p.bind(*operands, dimension=dimension)


# ---------------------------------------------------------------- iota


def _iota_evaluate(*, dtype: np.dtype, shape: tuple[int, ...], dimension: int) -> Any:
    view = [1] * len(shape)
    view[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension]).astype(dtype).reshape(view), shape)


iota_p = Primitive(
    "iota",
    infer=lambda *, dtype, shape, dimension: ShapedArray(shape, dtype),
    evaluate=_iota_evaluate,
    jvp=None,
    lowering=Iota(),
)


def iota(dtype: np.dtype, shape: Sequence[int], dimension: int) -> Any:
    """Return out[i] = i[dimension] in the given dtype."""
    return iota_p.bind(dtype=dtype, shape=tuple(shape), dimension=dimension)
