"""Sparse arrays of the same elements in other places: transposed, joined, sliced; and sums over dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_axes, as_axis
from funcgrad.errors import ArgumentError, IndexingError, ShapeError
from funcgrad.experimental.sparse.coordinates import Coordinates, inside, nowhere


def bcoo_transpose(mat: Coordinates, *, permutation: Sequence[int]) -> Any:
    """Return the array with its dimensions permuted, each among those of its kind: batch, sparse or dense."""
    b, s = mat.n_batch, mat.n_sparse
    axes = [as_axis(p, mat.ndim, "bcoo_transpose") for p in permutation]
    kinds = (range(b), range(b, b + s), range(b + s, mat.ndim))
    groups = [axes[:b], axes[b : b + s], axes[b + s :]]
    if any(sorted(group) != list(kind) for group, kind in zip(groups, kinds, strict=True)):
        raise ArgumentError(
            f"bcoo_transpose: permutation {tuple(permutation)} of {mat!r} with n_batch={b}, n_dense={mat.n_dense}",
            fix="permute batch, sparse and dense dimensions among themselves",
        )
    batch, sparse, dense = groups
    data = jnp.transpose(mat.data, (*batch, b, *(d - s + 1 for d in dense)))
    indices = jnp.transpose(mat.indices, (*batch, b, b + 1))[..., np.asarray([d - b for d in sparse], int)]
    inner = [mat.shape[d] for d in (*sparse, *dense)]
    return mat.with_parts(data, indices, inner, unique=mat.unique_indices)


def bcoo_reduce_sum(mat: Coordinates, *, axes: Any) -> Any:
    """Return the sum over the given axes, as a sparse array."""
    axes = as_axes(axes, mat.ndim, "bcoo_reduce_sum")
    b, s = mat.n_batch, mat.n_sparse
    data, indices, shape = mat.data, mat.indices, mat.shape
    data = data.sum([d - s + 1 for d in axes if d >= b + s]).astype(data.dtype)
    indices = indices[..., np.asarray([d for d in range(s) if d + b not in axes], int)]
    batch = [d for d in axes if d < b]
    if batch:  # elements of all batches are elements of one
        rest = [d for d in range(b) if d not in batch]
        count = int(np.prod([shape[d] for d in batch])) * mat.nse
        lead = tuple(shape[d] for d in rest)
        data, indices = (jnp.moveaxis(x, (*rest, *batch), range(b)) for x in (data, indices))
        data = data.reshape(*lead, count, *data.shape[b + 1 :])
        indices = indices.reshape(*lead, count, indices.shape[-1])
    inner = [n for d, n in enumerate(shape) if d >= b and d not in axes]
    return mat.with_parts(data, indices, inner)


def bcoo_concatenate(operands: Sequence[Coordinates], *, dimension: int) -> Any:
    """Join arrays along a sparse or batch dimension; the numbers of the other kinds of dimensions are equal."""
    first = operands[0]
    d, b = as_axis(dimension, first.ndim, "bcoo_concatenate"), first.n_batch
    layouts = {(x.n_batch, x.n_sparse, x.n_dense) for x in operands}
    others = {(*x.shape[:d], *x.shape[d + 1 :]) for x in operands}
    if len(layouts) > 1 or len(others) > 1 or d >= b + first.n_sparse:
        raise ShapeError(
            f"bcoo_concatenate: {', '.join(map(repr, operands))} along dimension {d}",
            fix="give arrays with equal numbers of batch, sparse and dense dimensions, and equal other sizes",
        )
    inner = list(first.inner_shape)
    if d < b:
        operands = [padded(x, max(y.nse for y in operands)) for x in operands]
        data, indices = (jnp.concatenate([getattr(x, n) for x in operands], d) for n in ("data", "indices"))
        return first.with_parts(data, indices, inner)
    offsets = np.cumsum([0, *(x.shape[d] for x in operands)])
    column = np.arange(first.n_sparse) == d - b
    moved = []
    for x, offset in zip(operands, offsets[:-1], strict=True):
        places = x.indices + jnp.asarray(column * offset, x.indices.dtype)
        total = [*inner[: d - b], int(offsets[-1]), *inner[d - b + 1 :]][: first.n_sparse]
        moved.append(nowhere(inside(x.indices, x.sparse_shape), places, total))
    inner[d - b] = int(offsets[-1])
    return first.with_parts(jnp.concatenate([x.data for x in operands], b), jnp.concatenate(moved, b), inner)


def padded(mat: Coordinates, nse: int) -> Any:
    """The array with `nse` stored elements, the last of them nowhere."""
    lead, extra = mat.shape[: mat.n_batch], nse - mat.nse
    zeros = jnp.zeros((*lead, extra, *mat.inner_shape[mat.n_sparse :]), mat.dtype)
    places = jnp.broadcast_to(jnp.asarray(mat.sparse_shape, mat.indices.dtype), (*lead, extra, mat.n_sparse))
    data, indices = (jnp.concatenate(pair, mat.n_batch) for pair in ((mat.data, zeros), (mat.indices, places)))
    return mat.with_parts(data, indices, mat.inner_shape, mat.indices_sorted, mat.unique_indices)


def sliced(mat: Coordinates, index: Any) -> Any:
    """The part of an array that integers and slices select; as many elements are stored as before."""
    index = list(index) if isinstance(index, tuple) else [index]
    if any(i is Ellipsis for i in index):
        at = next(n for n, i in enumerate(index) if i is Ellipsis)
        index[at : at + 1] = [slice(None)] * (mat.ndim - len(index) + 1)
    index += [slice(None)] * (mat.ndim - len(index))
    if len(index) > mat.ndim or not all(isinstance(i, (int, np.integer, slice)) for i in index):
        raise IndexingError(f"sparse array: index {tuple(index)} of {mat!r}", fix="use integers and slices, or todense")
    b, s = mat.n_batch, mat.n_sparse
    batch, sparse, dense = tuple(index[:b]), index[b : b + s], index[b + s :]
    data, indices = mat.data[(*batch, slice(None), *dense)], mat.indices[batch]
    new, kept, valid = [], [], inside(indices, mat.sparse_shape)
    for i, n, column in zip(sparse, mat.sparse_shape, jnp.moveaxis(indices, -1, 0), strict=True):
        if not isinstance(i, slice):
            if not -n <= i < n:
                raise IndexingError(f"sparse array: index {i} of a dimension of {n}", fix=f"use {-n} to {n - 1}")
            valid = valid & (column == i % n)
            continue
        chosen = range(n)[i]
        offset = column - chosen.start
        place = offset // chosen.step
        valid = valid & (offset % chosen.step == 0) & (place >= 0) & (place < len(chosen))
        new.append(place)
        kept.append(len(chosen))
    places = jnp.stack(new, -1) if new else jnp.zeros((*valid.shape, 0), indices.dtype)
    data = jnp.where(valid.reshape(valid.shape + (1,) * (data.ndim - valid.ndim)), data, 0)
    tail = data.shape[valid.ndim :]
    return mat.with_parts(data, nowhere(valid, places, kept), (*kept, *tail), unique=mat.unique_indices and bool(kept))
