"""Sorting: sort along a dimension, by one key or several, and the k largest elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray, refuse_keys
from funcgrad.core.lowering import Least, Rewrite, Sort
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.casts import bitcast_convert_type_p, convert_element_type
from funcgrad.ops.gather_scatter import gather
from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode
from funcgrad.ops.logic import and_p, not_p, shift_right_arithmetic_p, xor_p
from funcgrad.ops.shapes import Dims, expand_dims, full, move_axis, to_dim
from funcgrad.ops.slicing import iota, slice_


def along_axis(x: Any, positions: Any, axis: int) -> Any:
    """Return out[…, i, …] = x[…, positions[…, i, …], …] along `axis`; positions are in range."""
    if not aval_of(positions).size:  # a gather has windows of size 1, which an empty axis has not
        return full(aval_of(positions).shape, 0, aval_of(x).dtype, aval_of(x).weak_type)
    others = tuple(d for d in range(aval_of(x).ndim) if d != axis)
    numbers = GatherDimensionNumbers((), (axis,), (axis,), others, others)
    vectors = expand_dims(positions, (aval_of(positions).ndim,))
    return gather(x, vectors, numbers, (1,) * aval_of(x).ndim, mode=GatherScatterMode.PROMISE_IN_BOUNDS)


def _along_axis_tangents(tangents: Sequence[Any], outs: Sequence[Any], positions: Any, axis: int) -> list[Any]:
    """Move tangents as their primals were moved."""
    return [
        Zero(aval_of(o).tangent())
        if type(t) is Zero or aval_of(t).dtype == dtypes.float0
        else along_axis(t, positions, axis)
        for t, o in zip(tangents, outs, strict=True)
    ]


# ---------------------------------------------------------------- sort


def _sort_infer(*operands: ShapedArray, dimension: int, is_stable: bool = True, num_keys: int = 1) -> list[ShapedArray]:
    first = operands[0]
    if not 0 <= dimension < first.ndim:
        raise ArgumentError(
            f"sort: dimension {dimension} is out of range for {first}", fix=f"choose one in [0, {first.ndim})"
        )
    if not 1 <= num_keys <= len(operands):
        raise ArgumentError(
            f"sort: num_keys={num_keys} with {len(operands)} operands", fix="the keys are the first num_keys operands"
        )
    refuse_keys("sort", *operands[:num_keys])
    if any(x.shape != first.shape for x in operands):
        raise ShapeError(
            f"sort: operands have different shapes: {', '.join(x.short() for x in operands)}",
            fix="broadcast the operands to one shape: they are permuted together",
        )
    return list(operands)


def _comparable(key: np.ndarray) -> list[np.ndarray]:
    """Return what NumPy sorts as we do: complex numbers by real, then by imaginary part."""
    if key.dtype.kind == "c":
        return [key.real, key.imag]
    # ml_dtypes' own sort leaves NaN where it finds it.
    return [key.astype(np.float32) if key.dtype == dtypes.bfloat16 else key]


def sorting_permutation(keys: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Return the stable permutation that sorts by keys[0], then keys[1], …; NaN comes last, −0 equals 0."""
    parts = [part for key in keys for part in _comparable(key)]
    if len(parts) == 1:
        return np.argsort(parts[0], axis=axis, kind="stable")
    return np.lexsort(parts[::-1], axis=axis)


def _sorted_alone(x: np.ndarray, axis: int) -> np.ndarray:
    """Sort one array. NumPy's default sort is much faster than its stable one; only −0 and 0 can tell them apart."""
    if x.dtype.kind == "c" or (dtypes.is_float(x.dtype) and (np.signbit(x) & (x == 0)).any()):
        return np.take_along_axis(x, sorting_permutation([x], axis), axis)
    return np.sort(*_comparable(x), axis=axis).astype(x.dtype, copy=False)


def _sort_evaluate(*operands: np.ndarray, dimension: int, is_stable: bool = True, num_keys: int = 1) -> list[Any]:
    if len(operands) == 1:
        return [_sorted_alone(operands[0], dimension)]
    order = sorting_permutation(operands[:num_keys], dimension)
    return [np.take_along_axis(x, order, dimension) for x in operands]


def _sort_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, dimension: int, **params: Any) -> Any:
    positions = iota(dtypes.int32, aval_of(primals[0]).shape, dimension)
    *outs, order = sort_p.bind(*primals, positions, dimension=dimension, **params)
    return outs, _along_axis_tangents(tangents, outs, order, dimension)


def _sort_batch(
    axis: AxisData, args: Sequence[Any], dims: Dims, *, dimension: int, **params: Any
) -> tuple[list[Any], list[int]]:
    size = axis.size
    moved = [to_dim(x, d, 0, size) for x, d in zip(args, dims, strict=True)]
    return sort_p.bind(*moved, dimension=dimension + 1, **params), [0] * len(args)


sort_p = Primitive(
    "sort",
    infer=_sort_infer,
    evaluate=_sort_evaluate,
    jvp=_sort_jvp,
    batch=_sort_batch,
    multiple_results=True,
    lowering=Sort(),
)


def sort(operands: Sequence[Any], dimension: int, is_stable: bool = True, num_keys: int = 1) -> list[Any]:
    """Permute all operands together so that the first `num_keys`, compared in turn, ascend along `dimension`.

    NaN comes last, −0 equals 0, equal elements keep their order.

    >>> sort([np.array([2, 1, 2]), np.array([0, 1, 2])], 0)
    [Array([1, 2, 2], dtype=int32), Array([1, 0, 2], dtype=int32)]
    """
    return sort_p.bind(*operands, dimension=dimension, is_stable=is_stable, num_keys=num_keys)


# ---------------------------------------------------------------- the least of each block


def _least_infer(x: ShapedArray, *, k: int, block: int, axis: int) -> list[ShapedArray]:
    if not dtypes.is_integer(x.dtype) or axis != x.ndim - 1 or not 0 < k <= block:
        raise ArgumentError(
            f"least: k={k}, block={block} and axis={axis} of operand {x}",
            fix="give integers, their last axis, and blocks of at least k > 0 elements",
        )
    shape = (*x.shape[:-1], -(-x.shape[-1] // block) * k)
    return [ShapedArray(shape, x.dtype), ShapedArray(shape, dtypes.int32)]


def _least_evaluate(x: np.ndarray, *, k: int, block: int, axis: int) -> list[Any]:
    *lead, n = x.shape
    blocks = -(-n // block)
    padded = np.full((*lead, blocks * block), np.iinfo(x.dtype).max, x.dtype)
    padded[..., :n] = x
    cut = padded.reshape(*lead, blocks, block)
    order = np.argsort(cut, axis=-1, kind="stable")[..., :k]
    positions = (order + block * np.arange(blocks)[:, None]).reshape(*lead, blocks * k)
    return [np.take_along_axis(padded, positions, -1), positions.astype(np.int32)]


def _least_batch(
    mapped: AxisData, args: Sequence[Any], dims: Sequence[int], *, axis: int, **params: Any
) -> tuple[list[Any], list[int]]:
    return least_p.bind(to_dim(args[0], dims[0], 0, mapped.size), axis=axis + 1, **params), [0, 0]


def _least_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    outs = least_p.bind(*primals, **params)
    return outs, [Zero(aval_of(o).tangent()) for o in outs]


least_p = Primitive(
    "least",
    infer=_least_infer,
    evaluate=_least_evaluate,
    jvp=_least_jvp,
    batch=_least_batch,
    multiple_results=True,
    lowering=Least(),
)
"""The `k` least of each `block` along the last axis, and their positions. A short last block is filled with the largest
integer, at positions past the end."""


# ---------------------------------------------------------------- top_k

# So many of the largest elements are picked out of the others; more of them, or of short rows, are sorted with them.
_FEW, _SHARE = 64, 16
_BLOCK = 8192


def _top_k_infer(x: ShapedArray, *, k: int, axis: int) -> list[ShapedArray]:
    if dtypes.is_complex(x.dtype):
        raise DTypeError(f"top_k: operand {x} is complex, which has no order", fix="take abs, real or imag of it first")
    if not 0 <= axis < x.ndim or not 0 <= k <= x.shape[axis]:
        raise ArgumentError(
            f"top_k: k={k} along axis {axis} of operand {x}", fix="choose an axis of the operand and 0 <= k <= its size"
        )
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [ShapedArray(shape, x.dtype, x.weak_type), ShapedArray(shape, dtypes.int32)]


def _total_order(x: np.ndarray) -> np.ndarray:
    """Return integers that compare as IEEE's total order does: −NaN < −inf < … < −0 < 0 < … < inf < NaN."""
    if not dtypes.is_float(x.dtype):
        return x
    bits = x.view(f"i{x.dtype.itemsize}")
    return bits ^ ((bits >> (8 * x.dtype.itemsize - 1)) & np.iinfo(bits.dtype).max)


def _top_k_evaluate(x: np.ndarray, *, k: int, axis: int) -> list[Any]:
    # ~ reverses the order of integers (and of bools), so that a stable ascending sort keeps the first of equals.
    keys = np.moveaxis(~_total_order(np.ascontiguousarray(x)), axis, -1)
    if 0 < k <= keys.shape[-1] // 8:
        candidates = _least(keys, k)
        order = np.argsort(np.take_along_axis(keys, candidates, -1), axis=-1, kind="stable")
        best = np.take_along_axis(candidates, order, -1)
    else:
        best = np.argsort(keys, axis=-1, kind="stable")[..., :k]
    best = np.moveaxis(best, -1, axis)
    return [np.take_along_axis(x, best, axis), best.astype(np.int32)]


def _least(keys: np.ndarray, k: int) -> np.ndarray:
    """Return the positions, ascending, of the k least keys of each row, the first of equals; without sorting rows."""
    bound = np.partition(keys, k - 1, axis=-1)[..., k - 1 : k]
    below, ties = keys < bound, keys == bound
    wanted = k - below.sum(-1, keepdims=True)
    chosen = below | (ties & (np.cumsum(ties, -1) <= wanted))
    return np.nonzero(chosen)[-1].reshape(*keys.shape[:-1], k)


def _top_k_expand(x: Any, *, k: int, axis: int) -> list[Any]:
    """Take the first of the sorted keys, which tell the values; `_top_k_evaluate` has the same keys."""
    aval = aval_of(x)
    n = aval.shape[axis]
    if not k or not aval.size:
        shape = (*aval.shape[:axis], k, *aval.shape[axis + 1 :])
        return [full(shape, 0, aval.dtype), full(shape, 0, dtypes.int32)]
    keys, last = _reversed_keys(x), aval.ndim - 1
    if k > _FEW or n < _SHARE * k:
        return _first(k, *sort([keys, iota(dtypes.int32, aval.shape, axis)], axis), axis, aval.dtype)
    block = _BLOCK if n >= 2 * _BLOCK else n
    picked = least_p.bind(move_axis(keys, axis, last), k=k, block=block, axis=last)
    if block < n:
        picked = sort(picked, last)
    return [move_axis(out, last, axis) for out in _first(k, *picked, last, aval.dtype)]


def _first(k: int, keys: Any, positions: Any, axis: int, dtype: np.dtype) -> list[Any]:
    """The values of the first k keys, and their positions."""
    limits = tuple(k if d == axis else n for d, n in enumerate(aval_of(keys).shape))
    keys, positions = (slice_(x, (0,) * len(limits), limits) for x in (keys, positions))
    return [_values_of(keys, dtype), positions]


def _reversed_keys(x: Any) -> Any:
    """Integers that descend where values ascend in IEEE's total order."""
    dtype = aval_of(x).dtype
    if dtype == dtypes.bool_:
        return convert_element_type(not_p.bind(x), dtypes.uint8)
    if dtypes.is_float(dtype):
        x = _folded_sign(bitcast_convert_type_p.bind(x, new_dtype=np.dtype(f"i{dtype.itemsize}")))
    return not_p.bind(x)


def _values_of(keys: Any, dtype: np.dtype) -> Any:
    """The inverse of `_reversed_keys`."""
    if dtype == dtypes.bool_:
        return not_p.bind(convert_element_type(keys, dtype))
    keys = not_p.bind(keys)
    return bitcast_convert_type_p.bind(_folded_sign(keys), new_dtype=dtype) if dtypes.is_float(dtype) else keys


def _folded_sign(bits: Any) -> Any:
    """Flip all bits but the sign of negative integers, as `_total_order` does; its own inverse."""
    aval = aval_of(bits)
    width = full(aval.shape, 8 * aval.dtype.itemsize - 1, aval.dtype)
    most = full(aval.shape, np.iinfo(aval.dtype).max, aval.dtype)
    return xor_p.bind(bits, and_p.bind(shift_right_arithmetic_p.bind(bits, width), most))


def _top_k_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, k: int, axis: int) -> Any:
    values, positions = top_k_p.bind(*primals, k=k, axis=axis)
    (tangent,) = _along_axis_tangents(tangents, [values], positions, axis)
    return [values, positions], [tangent, Zero(aval_of(positions).tangent())]


def _top_k_batch(
    _: AxisData, args: Sequence[Any], dims: Sequence[int], *, k: int, axis: int
) -> tuple[list[Any], list[int]]:
    (dim,) = dims
    return top_k_p.bind(*args, k=k, axis=axis + (axis >= dim)), [dim, dim]


top_k_p = Primitive(
    "top_k",
    infer=_top_k_infer,
    evaluate=_top_k_evaluate,
    jvp=_top_k_jvp,
    batch=_top_k_batch,
    multiple_results=True,
    moves_only=True,
    lowering=Rewrite(_top_k_expand),
)


def top_k(x: Any, k: int, axis: int) -> list[Any]:
    """Return the `k` largest elements along `axis`, in descending order, and their positions (the first of equals).

    NaN counts as largest.

    >>> top_k(np.array([1.0, 3.0, 2.0], np.float32), 2, 0)
    [Array([3., 2.], dtype=float32), Array([1, 2], dtype=int32)]
    """
    return top_k_p.bind(x, k=k, axis=axis)
