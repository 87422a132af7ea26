"""BCSR: sparse matrices as values row by row, with their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import tree_util
from funcgrad.arguments.axes import as_shape
from funcgrad.core.devices import block_until_ready
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.experimental.sparse import coordinates, products
from funcgrad.experimental.sparse.bcoo import BCOO


@tree_util.register_pytree_node_class
class BCSR(coordinates.SparseArray):
    """A sparse matrix in compressed rows: elements indptr[i] to indptr[i + 1] of `data` are in row i.

    `data` is of shape (*batch, nse, *dense), `indices`, the columns, of shape (*batch, nse), and `indptr` of shape
    (*batch, rows + 1). It is a pytree, as BCOO is.

    >>> import funcgrad.numpy as jnp
    >>> m = BCSR.fromdense(jnp.array([[0.0, 2.0], [3.0, 0.0]]))
    >>> m.indptr, m @ jnp.array([1.0, 10.0])
    (Array([0, 1, 2], dtype=int32), Array([20.,  3.], dtype=float32))

    Raises:
      ShapeError: the arrays and the shape do not fit.
    """

    _axes, n_sparse = 1, 2

    def __init__(
        self,
        args: tuple[Any, Any, Any],
        *,
        shape: Sequence[int],
        indices_sorted: bool = False,
        unique_indices: bool = False,
    ):
        data, indices, indptr = (jnp.asarray(x) for x in args)
        shape, b = as_shape(shape, "BCSR"), indices.ndim - 1
        fits = len(shape) >= b + 2 and indptr.shape == (*shape[:b], shape[b] + 1) and indices.shape[:b] == shape[:b]
        if not fits or data.shape != (*indices.shape, *shape[b + 2 :]):
            raise ShapeError(
                f"BCSR: data {data.aval}, indices {indices.aval} and indptr {indptr.aval} for shape {shape}",
                fix="give shapes (*batch, nse, *dense), (*batch, nse) and (*batch, rows + 1)",
            )
        self.data, self.indices, self.indptr, self.inner_shape = data, indices, indptr, shape[b:]
        self.indices_sorted, self.unique_indices = indices_sorted, unique_indices

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arrays, and the rest."""
        arrays = (self.data, self.indices, self.indptr)
        return arrays, (self.inner_shape, self.indices_sorted, self.unique_indices)

    @classmethod
    def tree_unflatten(cls, rest: tuple[Any, ...], arrays: Sequence[Any]) -> BCSR:
        """Rebuild from the parts, without checks."""
        out = object.__new__(cls)
        out.data, out.indices, out.indptr = arrays
        out.inner_shape, out.indices_sorted, out.unique_indices = rest
        return out

    @classmethod
    def from_bcoo(cls, arr: BCOO) -> BCSR:
        """Return a matrix of the other format in this one."""
        if arr.n_sparse != 2:
            raise ArgumentError(f"BCSR.from_bcoo: {arr!r} has {arr.n_sparse} sparse dimensions", fix="give one with 2")
        arr = arr if arr.indices_sorted else arr.sort_indices()
        rows = arr.sparse_shape[0]

        def pointers(indices: Any) -> Any:
            stored = coordinates.inside(indices, arr.sparse_shape)
            counts = (
                jnp.zeros(rows + 1, indices.dtype)
                .at[jnp.where(stored, indices[:, 0] + 1, rows + 1)]
                .add(1, mode="drop")
            )
            return jnp.cumsum(counts).astype(indices.dtype)

        indptr = coordinates.each_batch(pointers, arr.n_batch)(arr.indices)
        return cls(
            (arr.data, arr.indices[..., 1], indptr),
            shape=arr.shape,
            indices_sorted=True,
            unique_indices=arr.unique_indices,
        )

    @classmethod
    def fromdense(
        cls, mat: Any, *, nse: int | None = None, index_dtype: Any = np.int32, n_dense: int = 0, n_batch: int = 0
    ) -> BCSR:
        """Return the elements of a dense array that are not 0; under jit, their number `nse` must be given."""
        return cls.from_bcoo(BCOO.fromdense(mat, nse=nse, index_dtype=index_dtype, n_dense=n_dense, n_batch=n_batch))

    @classmethod
    def from_scipy_sparse(cls, mat: Any, *, index_dtype: Any = None, n_dense: int = 0, n_batch: int = 0) -> BCSR:
        """Return a matrix of scipy.sparse in this format."""
        if n_dense or n_batch:
            raise ArgumentError(
                f"from_scipy_sparse: n_dense={n_dense}, n_batch={n_batch}", fix="matrices of SciPy have neither"
            )
        mat = mat.tocsr()
        kind = index_dtype or np.int32
        parts = jnp.asarray(mat.data), jnp.asarray(mat.indices, kind), jnp.asarray(mat.indptr, kind)
        return cls(parts, shape=mat.shape)

    def to_bcoo(self) -> BCOO:
        """Return the matrix in the other format."""
        rows = self.inner_shape[0]

        def places(indices: Any, indptr: Any) -> Any:
            # Row i starts at indptr[i]; empty rows start where the next one does. Beyond the last, it is `rows`.
            starts = jnp.zeros(indices.shape[0] + 1, indices.dtype).at[indptr[1:]].add(1)
            return jnp.stack([jnp.cumsum(starts)[:-1].astype(indices.dtype), indices], -1)

        indices = coordinates.each_batch(places, self.n_batch)(self.indices, self.indptr)
        rest = ((rows, *self.inner_shape[1:]), self.indices_sorted, self.unique_indices)
        return BCOO.tree_unflatten(rest, (self.data, indices))

    def todense(self) -> Any:
        """Return the array with all its elements."""
        return self.to_bcoo().todense()

    def transpose(self, axes: Sequence[int] | None = None) -> BCSR:
        """Return the matrix with its axes permuted, or reversed; each stays among those of its kind."""
        return BCSR.from_bcoo(self.to_bcoo().transpose(axes))

    @property
    def T(self) -> BCSR:
        """The matrix with its axes reversed."""
        return self.transpose()

    def sum(self, axis: Any = None) -> Any:
        """Return the sum over axes; see `BCOO.sum`."""
        return self.to_bcoo().sum(axis)

    def sum_duplicates(self, nse: int | None = None, remove_zeros: bool = True) -> BCSR:
        """Return the matrix with each place once; see `BCOO.sum_duplicates`."""
        return BCSR.from_bcoo(self.to_bcoo().sum_duplicates(nse, remove_zeros))

    def block_until_ready(self) -> BCSR:
        """Wait until the arrays are computed."""
        return block_until_ready(self)

    def __matmul__(self, other: Any) -> Any:
        return self.to_bcoo() @ _as_bcoo(other)

    def __rmatmul__(self, other: Any) -> Any:
        return _as_bcoo(other) @ self.to_bcoo()


def _as_bcoo(x: Any) -> Any:
    return x.to_bcoo() if isinstance(x, BCSR) else x


def bcsr_fromdense(
    mat: Any, *, nse: int | None = None, n_batch: int = 0, n_dense: int = 0, index_dtype: Any = np.int32
) -> BCSR:
    """Return the elements of a dense array that are not 0; see `BCSR.fromdense`."""
    return BCSR.fromdense(mat, nse=nse, n_batch=n_batch, n_dense=n_dense, index_dtype=index_dtype)


def bcsr_todense(mat: BCSR) -> Any:
    """Return the array with all its elements."""
    return mat.todense()


def bcsr_extract(sparr: BCSR, arr: Any) -> BCSR:
    """Return the elements of a dense array of the same shape, at the places that `sparr` stores."""
    out = coordinates.bcoo_extract(sparr.to_bcoo(), arr, assume_unique=True)
    rest = (sparr.inner_shape, sparr.indices_sorted, sparr.unique_indices)
    return BCSR.tree_unflatten(rest, (out.data, sparr.indices, sparr.indptr))


def bcsr_sum_duplicates(mat: BCSR, nse: int | None = None) -> BCSR:
    """Return the matrix with each place once."""
    return mat.sum_duplicates(nse, remove_zeros=False)


def bcsr_dot_general(
    lhs: Any, rhs: Any, *, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Contract axes of two arrays, one of them sparse; see `bcoo_dot_general`."""
    return products.bcoo_dot_general(
        _as_bcoo(lhs),
        _as_bcoo(rhs),
        dimension_numbers=dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def todense(arr: Any) -> Any:
    """Return a sparse array with all its elements, and a dense one as it is."""
    return arr.todense() if isinstance(arr, (BCOO, BCSR)) else jnp.asarray(arr)
