"""Arrays in batched coordinate format: values, and where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_shape
from funcgrad.core.array_types import aval_of
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.ops.segments import segment_sum
from funcgrad.transforms.vmap import vmap

_OPTIONS = ("indices_sorted", "unique_indices")


class SparseArray:
    """What the formats share. `indices` has the batch dimensions, then `_axes` more, the first of which is `nse`."""

    # NumPy arrays leave their operators to this class.
    __array_ufunc__ = None
    __hash__ = None

    _axes: int
    data: Any
    indices: Any
    # Without the sizes of batches, which are those of the arrays: vmap adds and removes them there.
    inner_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of all dimensions."""
        return (*aval_of(self.indices).shape[: -self._axes], *self.inner_shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements, stored or not."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return aval_of(self.data).dtype

    @property
    def nse(self) -> int:
        """The number of stored elements, in each batch."""
        return aval_of(self.indices).shape[-self._axes]

    @property
    def n_batch(self) -> int:
        """The number of batch dimensions."""
        return aval_of(self.indices).ndim - self._axes

    @property
    def n_dense(self) -> int:
        """The number of dimensions that are stored whole."""
        return aval_of(self.data).ndim - self.n_batch - 1

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        kind = f"{type(self.data).__name__}:" if isinstance(self.data, Tracer) else ""
        return f"{kind}{type(self).__name__}({self.dtype}{list(self.shape)}, nse={self.nse})"


class Coordinates(SparseArray):
    """The elements of an array that are stored: the data model of `BCOO`.

    Dimensions are n_batch of batches, which all store `nse` elements, then n_sparse that `indices` index, then n_dense
    that are stored whole. `data` is of shape (*batch, nse, *dense) and `indices` of shape (*batch, nse, n_sparse).
    Elements with the same index are added. Indices outside of the array stand for no element.
    """

    _axes = 2

    def __init__(
        self, args: tuple[Any, Any], *, shape: Sequence[int], indices_sorted: bool = False, unique_indices: bool = False
    ):
        data, indices = (jnp.asarray(x) for x in args)
        shape, n_batch = as_shape(shape, type(self).__name__), indices.ndim - 2
        fits = n_batch >= 0 and n_batch + indices.shape[-1] <= len(shape) and dtypes.is_integer(indices.dtype)
        if fits:
            nse, n_sparse = indices.shape[-2:]
            dense = shape[n_batch + n_sparse :]
            fits = data.ndim == n_batch + 1 + len(dense) and data.shape[n_batch:] == (nse, *dense)
            sizes = (
                *zip(data.shape, shape[:n_batch], strict=False),
                *zip(indices.shape, shape[:n_batch], strict=False),
            )
            fits = fits and all(n in (1, m) for n, m in sizes)
        if not fits:
            raise ShapeError(
                f"{type(self).__name__}: data {data.aval} and indices {indices.aval} for shape {shape}",
                fix="give data of shape (*batch, nse, *dense) and integer indices of shape (*batch, nse, n_sparse)",
            )
        batch = shape[:n_batch]
        self.data = jnp.broadcast_to(data, (*batch, *data.shape[n_batch:]))
        self.indices = jnp.broadcast_to(indices, (*batch, *indices.shape[n_batch:]))
        self.inner_shape = shape[n_batch:]
        self.indices_sorted, self.unique_indices = indices_sorted, unique_indices

    def tree_flatten(self) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
        """Return the arrays, and the rest."""
        return (self.data, self.indices), (self.inner_shape, self.indices_sorted, self.unique_indices)

    @classmethod
    def tree_unflatten(cls, rest: tuple[Any, ...], arrays: Sequence[Any]) -> Self:
        """Rebuild from the parts, without checks."""
        out = object.__new__(cls)
        out.data, out.indices = arrays
        out.inner_shape, out.indices_sorted, out.unique_indices = rest
        return out

    def with_parts(
        self, data: Any, indices: Any, inner_shape: Sequence[int], sorted: bool = False, unique: bool = False
    ) -> Self:
        """Return an array of the same format."""
        return self.tree_unflatten((tuple(inner_shape), sorted, unique), (data, indices))

    def with_data(self, data: Any) -> Self:
        """Return an array with other values in the same places."""
        return self.tree_unflatten((self.inner_shape, self.indices_sorted, self.unique_indices), (data, self.indices))

    @property
    def n_sparse(self) -> int:
        """The number of dimensions that indices select from."""
        return aval_of(self.indices).shape[-1]

    @property
    def sparse_shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions that indices select from."""
        return self.inner_shape[: self.n_sparse]


def each_batch(f: Any, n_batch: int) -> Any:
    """Map a function of arrays over the leading dimensions."""
    for _ in range(n_batch):
        f = vmap(f)
    return f


def columns(indices: Any) -> tuple[Any, ...]:
    """The index of each dimension."""
    return tuple(indices[..., i] for i in range(aval_of(indices).shape[-1]))


def inside(indices: Any, sizes: Sequence[int]) -> Any:
    """Whether indices are of elements of the array."""
    return jnp.all((indices >= 0) & (indices < jnp.asarray(sizes, indices.dtype)), -1)


def nowhere(mask: Any, indices: Any, sizes: Sequence[int]) -> Any:
    """The indices where the mask is set; others are moved out of the array."""
    return jnp.where(mask[..., None], indices, jnp.asarray(sizes, indices.dtype))


def bcoo_todense(mat: Coordinates) -> Any:
    """Return the array, with zeros where nothing is stored."""

    def dense(data: Any, indices: Any) -> Any:
        if not mat.n_sparse:
            return data.sum(0).astype(data.dtype)
        return jnp.zeros(mat.inner_shape, data.dtype).at[columns(indices)].add(data, mode="drop")

    return each_batch(dense, mat.n_batch)(mat.data, mat.indices)


def extracted(indices: Any, array: Any, n_batch: int) -> Any:
    """The elements of a dense array at the given places, 0 for those outside."""

    def values(indices: Any, array: Any) -> Any:
        if not aval_of(indices).shape[-1]:
            return jnp.broadcast_to(array, (aval_of(indices).shape[0], *array.shape))
        return array.at[columns(indices)].get(mode="fill", fill_value=0)

    return each_batch(values, n_batch)(indices, array)


def bcoo_extract(sparr: Coordinates, arr: Any, *, assume_unique: bool | None = None) -> Any:
    """Return the elements of a dense array of the same shape, at the places that `sparr` stores.

    Of equal indices, all have the element if `assume_unique`, by default if they are known to be unique; otherwise the
    first.
    """
    arr = jnp.asarray(arr)
    if arr.shape != sparr.shape:
        raise ShapeError(f"bcoo_extract: shapes are {sparr.shape} and {arr.shape}", fix="give arrays of one shape")
    data = extracted(sparr.indices, arr, sparr.n_batch)
    unique = sparr.unique_indices if assume_unique is None else assume_unique
    if not unique:
        first = each_batch(_is_first, sparr.n_batch)(sparr.indices)
        data = jnp.where(first.reshape(first.shape + (1,) * sparr.n_dense), data, 0)
    return sparr.with_data(data)


def _order(indices: Any) -> Any:
    """The permutation that sorts indices in row-major order; equal ones stay in theirs."""
    return jnp.lexsort(columns(indices)[::-1]) if indices.shape[-1] else jnp.arange(indices.shape[0])


def _starts(indices: Any) -> Any:
    """Where sorted indices differ from those before them."""
    return jnp.any(indices != jnp.roll(indices, 1, 0), -1) | (jnp.arange(indices.shape[0]) == 0)


def _is_first(indices: Any) -> Any:
    order = _order(indices)
    return jnp.zeros(indices.shape[0], bool).at[order].set(_starts(indices[order]))


def bcoo_sort_indices(mat: Coordinates) -> Any:
    """Return the array with its elements in row-major order."""

    def sort(data: Any, indices: Any) -> tuple[Any, Any]:
        order = _order(indices)
        return data[order], indices[order]

    data, indices = each_batch(sort, mat.n_batch)(mat.data, mat.indices)
    return mat.with_parts(data, indices, mat.inner_shape, True, mat.unique_indices)


def bcoo_sum_duplicates(mat: Coordinates, nse: int | None = None) -> Any:
    """Return the array with its elements sorted, and those of equal indices added.

    `nse` is the number of elements to store. By default it is counted, which needs values, so not under jit.
    """

    def merge(data: Any, indices: Any) -> tuple[Any, Any, Any]:
        indices = nowhere(inside(indices, mat.sparse_shape), indices, mat.sparse_shape)
        order = _order(indices)
        data, indices = data[order], indices[order]
        starts = _starts(indices)
        groups, n = jnp.cumsum(starts) - 1, indices.shape[0]
        places = jnp.full((n, mat.n_sparse), np.asarray(mat.sparse_shape), indices.dtype)
        places = places.at[jnp.where(starts, groups, n)].set(indices, mode="drop")
        return segment_sum(data, groups, n), places, jnp.sum(starts & inside(indices, mat.sparse_shape))

    data, indices, counts = each_batch(merge, mat.n_batch)(mat.data, mat.indices)
    if nse is None:
        nse = concrete_count(counts, "sum_duplicates")
    data, indices = (_resized(x, mat.n_batch, nse, fill) for x, fill in ((data, 0), (indices, mat.sparse_shape)))
    return mat.with_parts(data, indices, mat.inner_shape, True, True)


def _resized(x: Any, n_batch: int, nse: int, fill: Any) -> Any:
    """The first `nse` elements, or as many more as are missing."""
    x = x[(slice(None),) * n_batch + (slice(nse),)]
    missing = nse - x.shape[n_batch]
    if missing <= 0:
        return x
    shape = (*x.shape[:n_batch], missing, *x.shape[n_batch + 1 :])
    return jnp.concatenate([x, jnp.broadcast_to(jnp.asarray(fill, x.dtype), shape)], n_batch)


def concrete_count(counts: Any, operation: str) -> int:
    """The largest of the numbers of elements of all batches; raises where they are not known."""
    known = counts.concrete() if isinstance(counts, Tracer) else counts
    if known is None:
        raise ConcretizationError(
            f"{operation}: the number of stored elements depends on values, which are traced", fix="give nse"
        )
    return int(np.max(np.asarray(known), initial=0))


def dense_parts(mat: Any, nse: int | None, n_batch: int, n_dense: int, index_dtype: Any) -> tuple[Any, Any]:
    """The data and indices of the elements of a dense array that are not 0."""
    n_sparse = mat.ndim - n_batch - n_dense
    if min(n_batch, n_dense, n_sparse) < 0:
        raise ArgumentError(
            f"fromdense: n_batch={n_batch} and n_dense={n_dense} for {mat.aval}", fix="give at most its dimensions"
        )
    sizes = mat.shape[n_batch : n_batch + n_sparse]
    mask = jnp.any(mat != 0, tuple(range(n_batch + n_sparse, mat.ndim)))
    if nse is None:
        nse = concrete_count(jnp.sum(mask, tuple(range(n_batch, mask.ndim))), "fromdense")

    def places(mask: Any) -> Any:
        if not n_sparse:
            return jnp.zeros((nse, 0), index_dtype)
        return jnp.stack(jnp.nonzero(mask, size=nse, fill_value=sizes), -1).astype(index_dtype)

    indices = each_batch(places, n_batch)(mask)
    data = extracted(indices, mat, n_batch)
    if not n_sparse:  # all elements are the same one
        data = jnp.where((jnp.arange(nse) == 0).reshape((-1,) + (1,) * n_dense), data, 0)
    return data, indices
