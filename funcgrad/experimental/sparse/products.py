"""Products of sparse arrays with dense and sparse ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand, promote_dtypes
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.experimental.sparse.coordinates import (
    Coordinates,
    bcoo_todense,
    columns,
    each_batch,
    extracted,
    inside,
    nowhere,
)
from funcgrad.transforms.vmap import vmap

_Axes = tuple[int, ...]


def bcoo_dot_general(
    lhs: Any, rhs: Any, *, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Contract axes of two arrays, one or both of them sparse; see `lax.dot_general` for the dimension numbers.

    `preferred_element_type` is the type of the result; `precision` has no effect.

    With one sparse operand, the result is dense: products of the stored elements, added up. Contracted axes are
    sparse dimensions, and axes of batches are batch dimensions; otherwise the operand is made dense first. With two,
    which must have sparse dimensions only, the result is sparse, and stores an element for each pair.
    """
    if preferred_element_type is not None:
        lhs, rhs = lhs.astype(preferred_element_type), rhs.astype(preferred_element_type)
    (lc, rc), (lb, rb) = dimension_numbers
    lc, lb = (tuple(as_axis(d, lhs.ndim, "bcoo_dot_general") for d in axes) for axes in (lc, lb))
    rc, rb = (tuple(as_axis(d, rhs.ndim, "bcoo_dot_general") for d in axes) for axes in (rc, rb))
    pairs = [*zip(lc, rc, strict=True), *zip(lb, rb, strict=True)]
    if any(lhs.shape[i] != rhs.shape[j] for i, j in pairs):
        raise ShapeError(
            f"bcoo_dot_general: shapes {lhs.shape} and {rhs.shape} with axes {lc} and {rc}, batches {lb} and {rb}",
            fix="contracted axes, and those of batches, must have equal sizes",
        )
    if isinstance(lhs, Coordinates) and isinstance(rhs, Coordinates):
        return _sparse_by_sparse(lhs, rhs, lc, rc, lb)
    if isinstance(rhs, Coordinates):
        out = _sparse_by_dense(rhs, as_operand(lhs, "bcoo_dot_general"), rc, lc, rb, lb)
        first, second = rhs.ndim - len(rc) - len(rb), len(lb)
        return jnp.moveaxis(out, range(second, second + first), range(-first, 0)) if first else out
    return _sparse_by_dense(lhs, as_operand(rhs, "bcoo_dot_general"), lc, rc, lb, rb)


def _sparse_by_dense(sparse: Coordinates, dense: Any, sc: _Axes, dc: _Axes, sb: _Axes, db: _Axes) -> Any:
    """The dense product, with axes in the order: batch, free ones of the sparse operand, those of the dense one."""
    n, s = sparse.n_batch, sparse.n_sparse
    data, dense = promote_dtypes(sparse.data, dense, operation="bcoo_dot_general")
    if any(d >= n for d in sb) or not all(n <= d < n + s for d in sc):
        return lax.dot_general(bcoo_todense(sparse.with_data(data)), dense, ((sc, dc), (sb, db)))
    contracted = [d - n for d in sc]
    free = [d for d in range(s) if d not in contracted]
    shape = [sparse.inner_shape[d] for d in (*free, *range(s, len(sparse.inner_shape)))]
    # The dense operand: its batch axes in the order of those of the sparse one, the contracted axes, then the rest.
    batch = [axis for _, axis in sorted(zip(sb, db, strict=True))]
    rest = [d for d in range(dense.ndim) if d not in (*dc, *db)]
    dense = jnp.transpose(dense, (*batch, *dc, *rest))

    def product(data: Any, indices: Any, dense: Any) -> Any:
        index = columns(indices)
        if contracted:
            rows = dense.at[tuple(index[d] for d in contracted)].get(mode="fill", fill_value=0)
        else:
            rows = dense[None]
        terms = data.reshape(data.shape + (1,) * len(rest)) * rows.reshape(
            rows.shape[:1] + (1,) * sparse.n_dense + rows.shape[1:]
        )
        if not free:
            return jnp.where(
                inside(indices, sparse.sparse_shape).reshape((-1,) + (1,) * (terms.ndim - 1)), terms, 0
            ).sum(0)
        zeros = jnp.zeros((*shape, *dense.shape[len(contracted) :]), terms.dtype)
        return zeros.at[tuple(index[d] for d in free)].add(terms, mode="drop")

    batched: Any = product
    for d in reversed(range(n)):
        batched = vmap(batched, (0, 0, 0 if d in sb else None))
    out = batched(data, sparse.indices, dense)
    return jnp.moveaxis(out, sb, range(len(sb)))


def _sparse_by_sparse(lhs: Coordinates, rhs: Coordinates, lc: _Axes, rc: _Axes, lb: _Axes) -> Any:
    """The elements lhs[i] rhs[j] of all pairs with equal indices along the contracted axes; others are nowhere."""
    if lhs.n_batch or rhs.n_batch or lhs.n_dense or rhs.n_dense or lb:
        raise ArgumentError(
            f"bcoo_dot_general: {lhs!r} and {rhs!r} are sparse, with batch or dense dimensions",
            fix="make one operand dense, or apply vmap",
        )
    left, right = ([d for d in range(x.ndim) if d not in axes] for x, axes in ((lhs, lc), (rhs, rc)))

    def part(x: Coordinates, axes: Sequence[int]) -> Any:
        return x.indices[:, np.asarray(axes, int)]

    data = promote_dtypes(lhs.data, rhs.data, operation="bcoo_dot_general")
    match = jnp.all(part(lhs, lc)[:, None] == part(rhs, rc)[None], -1)
    match &= inside(lhs.indices, lhs.shape)[:, None] & inside(rhs.indices, rhs.shape)[None]
    count = lhs.nse * rhs.nse
    places = [
        jnp.broadcast_to(part(lhs, left)[:, None], (lhs.nse, rhs.nse, len(left))),
        jnp.broadcast_to(part(rhs, right)[None], (lhs.nse, rhs.nse, len(right))),
    ]
    shape = [*(lhs.shape[d] for d in left), *(rhs.shape[d] for d in right)]
    indices = nowhere(match, jnp.concatenate(places, -1), shape).reshape(count, len(shape))
    return lhs.with_parts(jnp.where(match, data[0][:, None] * data[1][None], 0).reshape(count), indices, shape)


def matmul(lhs: Any, rhs: Any) -> Any:
    """The matrix product by NumPy's rules: the last axis of lhs with the second to last of rhs, batches first."""
    if not lhs.ndim or not rhs.ndim:
        raise ShapeError(f"matmul: shapes are {lhs.shape} and {rhs.shape}", fix="use * for a scalar")
    batch = min(lhs.ndim, rhs.ndim) - 2 if min(lhs.ndim, rhs.ndim) > 2 else 0
    if batch and lhs.shape[:-2] != rhs.shape[:-2]:
        raise ShapeError(f"matmul: shapes are {lhs.shape} and {rhs.shape}", fix="give equal batches")
    axes = tuple(range(batch))
    contracted = (lhs.ndim - 1,), (max(rhs.ndim - 2, 0),)
    out = bcoo_dot_general(lhs, rhs, dimension_numbers=(contracted, (axes, axes)))
    if rhs.ndim > 2 and lhs.ndim == 2:
        return jnp.moveaxis(out, 0, -2)
    return out


def bcoo_multiply_dense(sp_mat: Coordinates, v: Any) -> Any:
    """Return the array times a dense one, which is broadcast to its shape."""
    v = jnp.broadcast_to(as_operand(v, "bcoo_multiply_dense"), sp_mat.shape)
    data, factors = promote_dtypes(sp_mat.data, extracted(sp_mat.indices, v, sp_mat.n_batch), operation="multiply")
    return sp_mat.with_data(data * factors)


def bcoo_multiply_sparse(lhs: Coordinates, rhs: Coordinates) -> Any:
    """Return the product of two sparse arrays of the same shape and layout, with the places of lhs.

    All pairs of elements are compared, so it is for arrays that store few.
    """
    if (lhs.shape, lhs.n_batch, lhs.n_dense) != (rhs.shape, rhs.n_batch, rhs.n_dense):
        raise ShapeError(f"bcoo_multiply_sparse: {lhs!r} and {rhs!r}", fix="give arrays of one shape and layout")

    def product(x: Any, i: Any, y: Any, j: Any) -> Any:
        match = jnp.all(i[:, None] == j[None], -1)
        return x * jnp.tensordot(match.astype(y.dtype), y, 1)

    x, y = promote_dtypes(lhs.data, rhs.data, operation="multiply")
    return lhs.with_data(each_batch(product, lhs.n_batch)(x, lhs.indices, y, rhs.indices))
