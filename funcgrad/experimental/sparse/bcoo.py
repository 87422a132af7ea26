"""BCOO: sparse arrays as values with their coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import tree_util
from funcgrad.core.devices import block_until_ready
from funcgrad.errors import ArgumentError
from funcgrad.experimental.sparse import coordinates, products, views
from funcgrad.experimental.sparse.coordinates import Coordinates


@tree_util.register_pytree_node_class
class BCOO(Coordinates):
    """A sparse array: the values `data` at the coordinates `indices`, in any number of batches.

    Of its dimensions, the first are those of batches, which all store `nse` elements; then come those that indices
    select from, then those that are stored whole. `data` is of shape (*batch, nse, *dense), `indices` of shape
    (*batch, nse, n_sparse). Elements with the same indices are added; indices outside of the array stand for nothing.

    Arithmetic with other sparse arrays and with numbers is sparse; products with dense arrays by `@` are dense. It is a
    pytree: vmap maps over batches, and `sparse.grad` differentiates by the data.

    >>> import funcgrad.numpy as jnp
    >>> m = BCOO((jnp.array([1.0, 2.0]), jnp.array([[0, 1], [2, 0]])), shape=(3, 2))
    >>> m.todense()
    Array([[0., 1.],
           [0., 0.],
           [2., 0.]], dtype=float32)
    >>> (3 * m.T).sum()
    Array(9., dtype=float32)

    Raises:
      ShapeError: data, indices and shape do not fit.
    """

    @classmethod
    def fromdense(
        cls, mat: Any, *, nse: int | None = None, index_dtype: Any = np.int32, n_dense: int = 0, n_batch: int = 0
    ) -> BCOO:
        """Return the elements of a dense array that are not 0; under jit, their number `nse` must be given."""
        mat = jnp.asarray(mat)
        parts = coordinates.dense_parts(mat, nse, n_batch, n_dense, index_dtype)
        return cls(parts, shape=mat.shape, indices_sorted=True, unique_indices=True)

    @classmethod
    def from_scipy_sparse(cls, mat: Any, *, index_dtype: Any = None, n_dense: int = 0, n_batch: int = 0) -> BCOO:
        """Return a matrix of scipy.sparse in this format."""
        if n_dense or n_batch:
            raise ArgumentError(
                f"from_scipy_sparse: n_dense={n_dense}, n_batch={n_batch}", fix="matrices of SciPy have neither"
            )
        mat = mat.tocoo()
        indices = jnp.asarray(np.stack([mat.row, mat.col], -1), index_dtype or np.int32)
        return cls((jnp.asarray(mat.data), indices), shape=mat.shape)

    def todense(self) -> Any:
        """Return the array with all its elements."""
        return coordinates.bcoo_todense(self)

    def transpose(self, axes: Sequence[int] | None = None) -> BCOO:
        """Return the array with its axes permuted, or reversed; each stays among those of its kind."""
        return views.bcoo_transpose(self, permutation=range(self.ndim)[::-1] if axes is None else axes)

    @property
    def T(self) -> BCOO:
        """The array with its axes reversed."""
        return self.transpose()

    def sum(self, axis: Any = None) -> Any:
        """Return the sum over axes, as a sparse array; over all of them, as a number."""
        out = views.bcoo_reduce_sum(self, axes=axis)
        return out if out.ndim else out.todense()

    def astype(self, dtype: Any) -> BCOO:
        """Return the array with elements of another type."""
        return self.with_data(self.data.astype(dtype))

    def sort_indices(self) -> BCOO:
        """Return the array with its elements in row-major order."""
        return coordinates.bcoo_sort_indices(self)

    def sum_duplicates(self, nse: int | None = None, remove_zeros: bool = True) -> BCOO:
        """Return the array with each index once, in order, and without zeros if `remove_zeros`.

        `nse` is the number of elements to store; it is counted by default, which is not possible under jit.
        """
        mat = self
        if remove_zeros:
            keep = jnp.any(self.data != 0, tuple(range(self.n_batch + 1, self.data.ndim)))
            places = coordinates.nowhere(keep, self.indices, self.sparse_shape)
            mat = self.with_parts(self.data, places, self.inner_shape)
        return coordinates.bcoo_sum_duplicates(mat, nse)

    def block_until_ready(self) -> BCOO:
        """Wait until the arrays are computed."""
        return block_until_ready(self)

    def __getitem__(self, index: Any) -> Any:
        return views.sliced(self, index)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # ---------------------------------------------------------------- operators

    def _each(self, f: Callable[[Any], Any]) -> BCOO:
        """A function with f(0) = 0 of each element. Those with equal indices are added first."""
        mat = self if self.unique_indices else coordinates.bcoo_sum_duplicates(self, self.nse)
        return mat.with_data(f(mat.data))

    def __neg__(self) -> BCOO:
        return self.with_data(-self.data)

    def __pos__(self) -> BCOO:
        return self

    def __abs__(self) -> BCOO:
        return self._each(jnp.abs)

    def __pow__(self, exponent: Any) -> BCOO:
        if not isinstance(exponent, (int, float)) or exponent <= 0:
            raise ArgumentError(f"sparse array: power {exponent!r}", fix="give a positive number, or use todense")
        return self._each(lambda x: x**exponent)

    def __mul__(self, other: Any) -> BCOO:
        if isinstance(other, Coordinates):
            return products.bcoo_multiply_sparse(self, other)
        if jnp.ndim(other) == 0:
            return self.with_data(self.data * other)
        return products.bcoo_multiply_dense(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> BCOO:
        if isinstance(other, Coordinates):
            raise ArgumentError("sparse array: divided by a sparse array", fix="make the divisor dense")
        return self * (1 / jnp.asarray(other)) if jnp.ndim(other) else self.with_data(self.data / other)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Coordinates):
            return self.todense() + other
        if self.shape != other.shape:
            raise ArgumentError(f"sparse array: {self!r} + {other!r}", fix="give arrays of one shape")
        data = [x.astype(jnp.promote_types(self.dtype, other.dtype)) for x in (self.data, other.data)]
        axis = self.n_batch
        joined = jnp.concatenate(data, axis), jnp.concatenate([self.indices, other.indices], axis)
        return self.with_parts(*joined, self.inner_shape)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __matmul__(self, other: Any) -> Any:
        return products.matmul(self, other if isinstance(other, Coordinates) else jnp.asarray(other))

    def __rmatmul__(self, other: Any) -> Any:
        return products.matmul(jnp.asarray(other), self)


def bcoo_fromdense(
    mat: Any, *, nse: int | None = None, n_batch: int = 0, n_dense: int = 0, index_dtype: Any = np.int32
) -> BCOO:
    """Return the elements of a dense array that are not 0; see `BCOO.fromdense`."""
    return BCOO.fromdense(mat, nse=nse, n_batch=n_batch, n_dense=n_dense, index_dtype=index_dtype)


def _diagonal(n: int, m: int, k: int) -> np.ndarray:
    rows = np.arange(n)
    return np.stack([rows, rows + k], -1)[(rows + k >= 0) & (rows + k < m)]


def eye(
    N: int, M: int | None = None, k: int = 0, dtype: Any = None, index_dtype: Any = "int32", sparse_format: str = "bcoo"
) -> BCOO:
    """Return a matrix of shape (N, M) with ones on the k-th diagonal."""
    _check_format(sparse_format)
    places = _diagonal(N, N if M is None else M, k)
    ones = jnp.ones(len(places), dtype)
    shape = (N, N if M is None else M)
    return BCOO((ones, jnp.asarray(places, index_dtype)), shape=shape, indices_sorted=True, unique_indices=True)


def empty(shape: Any, dtype: Any = None, index_dtype: Any = "int32", sparse_format: str = "bcoo") -> BCOO:
    """Return an array that stores no elements."""
    _check_format(sparse_format)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    parts = jnp.zeros(0, dtype), jnp.zeros((0, len(shape)), index_dtype)
    return BCOO(parts, shape=shape, indices_sorted=True, unique_indices=True)


def _check_format(sparse_format: str) -> None:
    if sparse_format != "bcoo":
        raise ArgumentError(f"sparse: sparse_format={sparse_format!r}", fix="use 'bcoo'; BCSR.from_bcoo converts it")
