"""Functions that read or write elements at given indices: take, take_along_axis, put, choose; and index arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis, as_int, as_shape
from funcgrad.arguments.promotion import (
    as_operand,
    broadcast_shapes,
    broadcast_to,
    promote_dtypes,
)
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, IndexingError, ShapeError, UnsupportedError
from funcgrad.numpy import at, ufuncs
from funcgrad.numpy.composite import floor_divide, remainder
from funcgrad.numpy.index_expressions import read
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.gather_scatter import gather, scatter_p
from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers, wrap_index
from funcgrad.ops.reductions import cumsum
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, full, reshape
from funcgrad.ops.slicing import concatenate, iota

__all__ = [
    "choose",
    "diag_indices",
    "diag_indices_from",
    "fill_diagonal",
    "indices",
    "ix_",
    "place",
    "put",
    "put_along_axis",
    "ravel_multi_index",
    "take",
    "take_along_axis",
    "tril_indices",
    "tril_indices_from",
    "triu_indices",
    "triu_indices_from",
    "unravel_index",
]

# ---------------------------------------------------------------- take and put


def _integers(x: Any, what: str, operation: str) -> Any:
    """Return an integer operand; convert bools to 0 and 1, and raise for floats."""
    x = as_operand(x, operation)
    dtype = aval_of(x).dtype
    if dtype == dtypes.bool_:
        return convert_element_type(x, dtypes.int32)
    if not dtypes.is_integer(dtype):
        raise IndexingError(f"{operation}: {what} has type {aval_of(x)}", fix="cast it with .astype(int)")
    return x


def _check_mode(mode: Any, known: Sequence[str], operation: str) -> None:
    if isinstance(mode, str) and mode not in known:
        raise UnsupportedError(
            f"{operation}: mode {mode!r} is not supported",
            fix=f"use one of {', '.join(map(repr, known))}" + (": raising needs values" if mode == "raise" else ""),
        )


def _no_out(out: Any, operation: str) -> None:
    if out is not None:
        raise ArgumentError(f"{operation}: out= was given", fix="arrays are immutable: use the returned array")


def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: str | None = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Any:
    """Return the elements of `a` at `indices` along `axis`; `a` is flattened if `axis` is None.

    Negative indices count from the end. The default mode, "fill", returns `fill_value` for indices out of range (NaN,
    or the integer limit); "wrap" takes indices modulo the size; "clip" clips them to the range, negative ones to 0.

    >>> import funcgrad.numpy as jnp
    >>> take(jnp.array([1.0, 2.0]), jnp.array([1, -1, 2]))
    Array([ 2.,  2., nan], dtype=float32)
    """
    _no_out(out, "take")
    _check_mode(mode, ("fill", "clip", "wrap", "promise_in_bounds"), "take")
    a, indices = as_operand(a, "take"), _integers(indices, "indices", "take")
    if axis is None:
        a, axis = reshape(a, (aval_of(a).size,)), 0
    axis = as_axis(axis, aval_of(a).ndim, "take")
    size = aval_of(a).shape[axis]
    if size == 0 and aval_of(indices).size:
        raise IndexingError(
            f"take: axis {axis} of {aval_of(a)} is empty, but indices are {aval_of(indices)}",
            fix="check the size of the axis first",
        )
    if mode == "wrap":
        indices, mode = remainder(indices, size), "promise_in_bounds"
    elif mode != "clip":
        indices = wrap_index(indices, size)
    before, after, picked = axis, aval_of(a).ndim - axis - 1, aval_of(indices).ndim
    numbers = GatherDimensionNumbers(
        offset_dims=(*range(before), *range(before + picked, before + picked + after)),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
    )
    sizes = tuple(min(1, n) if d == axis else n for d, n in enumerate(aval_of(a).shape))
    shape = aval_of(indices).shape
    return gather(
        a,
        broadcast_in_dim(indices, (*shape, 1), range(picked)),
        numbers,
        sizes,
        mode=mode,
        fill_value=fill_value,
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
    )


def _along_axis(
    operation: str, arr: Any, indices: Any, axis: int, wrap: bool
) -> tuple[Any, Any, GatherDimensionNumbers, int]:
    """Broadcast array and indices except along `axis`; return the array, index vectors, dimension numbers and axis."""
    aval, picked = aval_of(arr), aval_of(indices)
    if picked.ndim != aval.ndim:
        raise ShapeError(
            f"{operation}: array {aval} and indices {picked} have different ranks",
            fix="give indices with as many dimensions as the array, e.g. by jnp.expand_dims(indices, axis)",
        )
    others = broadcast_shapes(*(s[:axis] + s[axis + 1 :] for s in (aval.shape, picked.shape)), operation=operation)
    arr = broadcast_to(arr, (*others[:axis], aval.shape[axis], *others[axis:]), operation)
    indices = broadcast_to(indices, (*others[:axis], picked.shape[axis], *others[axis:]), operation)
    if wrap:
        indices = wrap_index(indices, aval.shape[axis])
    batching = tuple(d for d in range(aval.ndim) if d != axis)
    numbers = GatherDimensionNumbers((), (axis,), (axis,), batching, batching)
    return arr, reshape(indices, (*aval_of(indices).shape, 1)), numbers, axis


def take_along_axis(
    arr: Any,
    indices: Any,
    axis: int | None = -1,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
    *,
    wrap_negative_indices: bool = True,
) -> Any:
    """Return out[…, i, …] = arr[…, indices[…, i, …], …], e.g. for indices from argsort, or argmax with keepdims.

    Out-of-range indices give `fill_value` (by default NaN or the integer limit) unless `mode` is "clip".

    >>> import funcgrad.numpy as jnp
    >>> x = jnp.array([[3.0, 1.0], [2.0, 4.0]])
    >>> take_along_axis(x, jnp.array([[1], [0]]), axis=1)
    Array([[1.],
           [2.]], dtype=float32)
    """
    _check_mode(mode, ("fill", "clip", "promise_in_bounds", "one_hot"), "take_along_axis")
    arr, indices = as_operand(arr, "take_along_axis"), _integers(indices, "indices", "take_along_axis")
    if axis is None:
        if aval_of(indices).ndim != 1:
            raise ShapeError(
                f"take_along_axis: axis is None, indices are {aval_of(indices)}",
                fix="give one-dimensional indices, or an axis",
            )
        arr, axis = reshape(arr, (aval_of(arr).size,)), 0
    axis = as_axis(axis, aval_of(arr).ndim, "take_along_axis")
    wrap = wrap_negative_indices and GatherScatterMode.from_any(mode) is not GatherScatterMode.CLIP
    arr, vectors, numbers, axis = _along_axis("take_along_axis", arr, indices, axis, wrap or mode is None)
    sizes = tuple(min(1, n) for n in aval_of(arr).shape)
    return gather(arr, vectors, numbers, sizes, mode=mode, fill_value=fill_value)


def _require_not_inplace(inplace: bool, operation: str) -> None:
    if inplace:
        raise ArgumentError(
            f"{operation}: inplace=True, but arrays are immutable", fix="pass inplace=False and use the returned array"
        )


def put_along_axis(
    arr: Any, indices: Any, values: Any, axis: int | None, inplace: bool = True, *, mode: str | None = None
) -> Any:
    """Return a copy with out[…, indices[…, i, …], …] = values[…, i, …]; the counterpart of `take_along_axis`."""
    _require_not_inplace(inplace, "put_along_axis")
    arr, indices = as_operand(arr, "put_along_axis"), _integers(indices, "indices", "put_along_axis")
    shape = aval_of(arr).shape
    if axis is None:
        arr, axis = reshape(arr, (aval_of(arr).size,)), 0
    axis = as_axis(axis, aval_of(arr).ndim, "put_along_axis")
    whole, vectors, numbers, axis = _along_axis("put_along_axis", arr, indices, axis, True)
    if aval_of(whole).shape != aval_of(arr).shape:
        raise ShapeError(
            f"put_along_axis: indices {aval_of(indices)} do not broadcast to array {aval_of(arr)}",
            fix="indices must have the shape of the array, except along the axis",
        )
    values = convert_element_type(as_operand(values, "put_along_axis"), aval_of(arr).dtype)
    updates = broadcast_to(values, aval_of(vectors).shape[:-1], "put_along_axis")
    out = scatter_p.bind(
        arr,
        vectors,
        updates,
        dimension_numbers=ScatterDimensionNumbers(*numbers),
        indices_are_sorted=False,
        mode=GatherScatterMode.from_any(mode),
        unique_indices=False,
    )
    return reshape(out, shape)


def put(a: Any, ind: Any, v: Any, mode: str | None = None, *, inplace: bool = True) -> Any:
    """Return a copy of `a` with flat indices `ind` set to `v`, repeated as needed.

    `mode` is "clip" (the default), "wrap" or "drop".
    """
    _require_not_inplace(inplace, "put")
    _check_mode(mode, ("clip", "wrap", "drop"), "put")
    a, ind, v = as_operand(a, "put"), _integers(ind, "ind", "put"), as_operand(v, "put")
    count, have = aval_of(ind).size, aval_of(v).size
    if not count or not aval_of(a).size or not have:
        return a
    ind = reshape(ind, (count,))
    ind = remainder(ind, aval_of(a).size) if mode == "wrap" else ind
    v = read(reshape(v, (have,)), np.arange(count) % have)
    flat = reshape(a, (aval_of(a).size,))
    return reshape(at.write(scatter_p, flat, ind, v, mode="drop" if mode == "drop" else "clip"), aval_of(a).shape)


def place(arr: Any, mask: Any, vals: Any, *, inplace: bool = True) -> Any:
    """Return a copy of `arr` with the elements where `mask` is true set to vals[0], vals[1], …, repeated as needed."""
    _require_not_inplace(inplace, "place")
    arr, mask, vals = as_operand(arr, "place"), as_operand(mask, "place"), as_operand(vals, "place")
    size, have = aval_of(arr).size, aval_of(vals).size
    if aval_of(mask).size != size:
        raise ShapeError(
            f"place: array {aval_of(arr)} and mask {aval_of(mask)} differ in size",
            fix="pass one mask value per element",
        )
    if not size or not have:
        return arr
    chosen = reshape(_truth(mask), (size,))
    order = ufuncs.subtract(cumsum(convert_element_type(chosen, dtypes.int32), 0), np.int32(1))
    values = read(reshape(vals, (have,)), remainder(order, have))
    values = convert_element_type(values, aval_of(arr).dtype)
    return reshape(select_n_p.bind(chosen, reshape(arr, (size,)), values), aval_of(arr).shape)


def _truth(x: Any) -> Any:
    x = as_operand(x, "mask")
    return x if aval_of(x).dtype == dtypes.bool_ else ufuncs.not_equal(x, 0)


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """Return out[i] = choices[a[i]][i]: `a` selects among the choices, elementwise.

    Mode "raise" needs concrete indices; use "clip" or "wrap" under jit.
    """
    _no_out(out, "choose")
    _check_mode(mode, ("raise", "wrap", "clip"), "choose")
    a = _integers(a, "a", "choose")
    options = [convert_element_type(c, aval_of(c).dtype) for c in promote_dtypes(*choices, operation="choose")]
    shape = broadcast_shapes(aval_of(a).shape, *(aval_of(c).shape for c in options), operation="choose")
    if mode == "raise":
        known = concrete_value(a, "choose", "the indices", "mode='clip' or mode='wrap'")
        if np.any((known < 0) | (known >= len(options))):
            raise IndexingError(
                f"choose: indices range from {known.min()} to {known.max()} for {len(options)} choices",
                fix="keep them in range, or pass mode='clip' or mode='wrap'",
            )
    elif mode == "wrap":
        a = remainder(a, len(options))
    else:
        a = ufuncs.minimum(ufuncs.maximum(a, 0), len(options) - 1)
    if len(options) == 1:
        return broadcast_to(options[0], shape, "choose")
    which = convert_element_type(broadcast_to(a, shape, "choose"), dtypes.int32)
    return select_n_p.bind(which, *(broadcast_to(c, shape, "choose") for c in options))


def concrete_value(x: Any, operation: str, what: str, remedy: str) -> np.ndarray:
    """Return the concrete value of `x`, which the shape or validity of a result depends on; raise if it is traced."""
    if not isinstance(x, Tracer):
        return as_array(x).host
    value = x.concrete()
    if value is None:
        raise ConcretizationError(
            f"{operation}: {what} of type {aval_of(x)} are traced, and the result depends on their values{x.origin()}",
            fix=remedy,
        )
    return value


def indices(dimensions: Sequence[int], dtype: Any = None, sparse: bool = False) -> Any:
    """Return the coordinates of a grid: out[d, i, j, …] = (i, j, …)[d].

    With `sparse`, return a tuple of arrays that broadcast to those.
    """
    shape = as_shape(dimensions, "indices")
    dtype = dtypes.canonicalize(int) if dtype is None else dtypes.requested(dtype, "indices")
    if sparse:
        return tuple(iota(dtype, [n if k == d else 1 for k, n in enumerate(shape)], d) for d in range(len(shape)))
    if not shape:
        return full((0,), 0, dtype)
    grids = [iota(dtype, (1, *shape), d + 1) for d in range(len(shape))]
    return concatenate(grids, 0)


def ix_(*args: Any) -> tuple[Any, ...]:
    """Reshape 1-d index arrays so that together they select all combinations. Masks become indices.

    >>> import funcgrad.numpy as jnp
    >>> jnp.arange(6).reshape(2, 3)[ix_(jnp.array([1]), jnp.array([0, 2]))]
    Array([[3, 5]], dtype=int32)
    """
    out = []
    for k, a in enumerate(args):
        a = as_operand(a, "ix_")
        if aval_of(a).ndim != 1:
            raise ShapeError(f"ix_: argument {k} has type {aval_of(a)}", fix="give one-dimensional arrays")
        if aval_of(a).dtype == dtypes.bool_:
            (a,) = concrete_value(a, "ix_", "masks", "use jnp.nonzero(mask, size=…)[0]").nonzero()
            a = as_array(a)
        out.append(reshape(a, [aval_of(a).size if d == k else 1 for d in range(len(args))]))
    return tuple(out)


def _position_arrays(arrays: Sequence[np.ndarray]) -> tuple[Array, ...]:
    return tuple(as_array(a) for a in arrays)


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """Return the indices of the main diagonal of an array with `ndim` dimensions of size `n`."""
    n, ndim = as_int(n, "n", "diag_indices"), as_int(ndim, "ndim", "diag_indices")
    if n < 0 or ndim < 0:
        raise ArgumentError(f"diag_indices: n={n}, ndim={ndim}", fix="neither may be negative")
    return (iota(dtypes.canonicalize(int), (n,), 0),) * ndim


def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    """Return the indices of the main diagonal of `arr`, whose dimensions must be equal."""
    shape = aval_of(as_operand(arr, "diag_indices_from")).shape
    if len(shape) < 2 or len(set(shape)) > 1:
        raise ShapeError(f"diag_indices_from: the array has shape {shape}", fix="it needs two or more equal dimensions")
    return diag_indices(shape[0], len(shape))


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, ...]:
    """Return the indices of the lower triangle of an (n, m) array, on and below diagonal k."""
    return _position_arrays(np.tril_indices(n, k, m))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, ...]:
    """Return the indices of the upper triangle of an (n, m) array, on and above diagonal k."""
    return _position_arrays(np.triu_indices(n, k, m))


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """Return the indices of the lower triangle of `arr`, on and below diagonal k."""
    return tril_indices(*_matrix_sizes(arr, k, "tril_indices_from"))


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """Return the indices of the upper triangle of `arr`, on and above diagonal k."""
    return triu_indices(*_matrix_sizes(arr, k, "triu_indices_from"))


def _matrix_sizes(arr: Any, k: int, operation: str) -> tuple[int, int, int]:
    shape = arr.shape
    if len(shape) != 2:
        raise ShapeError(f"{operation}: the array has shape {shape}", fix="give a matrix")
    return shape[0], k, shape[1]


def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """Convert flat indices to one index array per dimension of `shape`.

    Negative indices count from the end; out-of-range indices are clipped.
    """
    sizes = as_shape(shape, "unravel_index")
    index, total = _integers(indices, "indices", "unravel_index"), math.prod(sizes)
    index = ufuncs.minimum(ufuncs.maximum(wrap_index(index, total), 0), max(total - 1, 0))
    out = []
    for n in reversed(sizes):
        out.append(remainder(index, max(n, 1)))
        index = floor_divide(index, max(n, 1))
    return tuple(reversed(out))


def ravel_multi_index(
    multi_index: Sequence[Any], dims: Sequence[int], mode: str = "raise", order: str = "C", *, dtype: Any = None
) -> Any:
    """Convert one index array per dimension of `dims` to flat indices.

    `mode` handles indices out of range: "clip", "wrap", or "raise", which needs concrete indices.
    """
    _check_mode(mode, ("raise", "wrap", "clip"), "ravel_multi_index")
    sizes = as_shape(dims, "ravel_multi_index")
    positions = [_integers(i, "multi_index", "ravel_multi_index") for i in multi_index]
    if len(positions) != len(sizes) or order not in ("C", "F"):
        raise ArgumentError(
            f"ravel_multi_index: {len(positions)} index arrays for dims {sizes}, order {order!r}",
            fix="give one index array per dimension, and order 'C' or 'F'",
        )
    total, stride = as_array(np.int32(0)), 1
    pairs = list(zip(positions, sizes, strict=True))
    for i, n in reversed(pairs) if order == "C" else pairs:
        if mode == "raise":
            known = concrete_value(i, "ravel_multi_index", "positions", "pass mode='clip' or mode='wrap'")
            if np.any((known < 0) | (known >= n)):
                raise IndexingError(
                    f"ravel_multi_index: positions {known!r:.60} are outside a dimension of size {n}",
                    fix="keep them inside, or pass mode='clip' or mode='wrap'",
                )
        i = remainder(i, n) if mode == "wrap" else ufuncs.minimum(ufuncs.maximum(i, 0), n - 1)
        total = ufuncs.add(total, ufuncs.multiply(i, stride))
        stride *= n
    return total if dtype is None else convert_element_type(total, dtypes.requested(dtype, "ravel_multi_index"))


def fill_diagonal(a: Any, val: Any, wrap: bool = False, *, inplace: bool = True) -> Any:
    """Return a copy of `a` with the main diagonal set to `val`, repeated as needed.

    With `wrap`, the diagonal of a tall matrix starts again after each square block, as in NumPy.
    """
    _require_not_inplace(inplace, "fill_diagonal")
    a, val = as_operand(a, "fill_diagonal"), as_operand(val, "fill_diagonal")
    shape = aval_of(a).shape
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise ShapeError(f"fill_diagonal: the array has shape {shape}", fix="give a matrix, or equal dimensions")
    step = 1 + sum(math.prod(shape[d + 1 :]) for d in range(len(shape) - 1))
    end = math.prod(shape) if wrap or len(shape) > 2 else shape[1] * min(shape)
    positions = np.arange(0, end, step)
    values = read(reshape(val, (aval_of(val).size,)), np.arange(len(positions)) % max(aval_of(val).size, 1))
    flat = reshape(a, (aval_of(a).size,))
    return reshape(at.write(scatter_p, flat, positions, values, unique_indices=True), shape)
