"""Collectives: operations along a named axis of vmap, across the elements of its batch.

They may stand wherever the axis is bound: in functions that are jitted, differentiated or checkpointed, in the bodies
of loops and branches, in custom rules. The primitives and their rules are in `collective_rules`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core import traces
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.primitives import Primitive
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.ops.arithmetic import add_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.dynamic_slices import dynamic_slice
from funcgrad.ops.shapes import move_axis, reshape
from funcgrad.ops.slicing import slice_
from funcgrad.transforms.collectives.rules import (
    Groups,
    all_gather_p,
    all_to_all_p,
    axis_index_p,
    permuted,
    pmax_p,
    pmin_p,
    ppermute_p,
    psum_p,
    reduce_scatter_p,
    times,
    unbound_axis,
)

# ---------------------------------------------------------------- the axes of a call


def _bound(axis_name: Any, operation: str) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Return names, a single one as a tuple, and their sizes; raise unless enclosing vmaps have bound them."""
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    for name in names:
        if name not in traces.state.axis_sizes:
            raise unbound_axis(operation, name)
    return names, tuple(traces.state.axis_sizes[n] for n in names)


def _checked_groups(groups: Any, names: Sequence[Any], sizes: Sequence[int], operation: str) -> Groups:
    """Return axis_index_groups as tuples; they must be of one size and hold each index of one axis once."""
    if groups is None:
        return None
    groups = tuple(tuple(map(int, g)) for g in groups)
    indices = sorted(i for g in groups for i in g)
    if len(names) != 1 or len({len(g) for g in groups}) != 1 or indices != list(range(sizes[0])):
        raise ArgumentError(
            f"{operation}: axis_index_groups={groups} for axis {', '.join(map(repr, names))} of size "
            f"{', '.join(map(str, sizes))}",
            fix="give groups of one size that hold each index of one named axis exactly once",
        )
    return groups


class _Axes:
    """The axes of one call: names and sizes as bound now, groups, and how many elements take part."""

    def __init__(self, axis_name: Any, groups: Any, operation: str):
        self.names, self.sizes = _bound(axis_name, operation)
        self.groups = _checked_groups(groups, self.names, self.sizes, operation)
        if self.groups is not None:
            self.sizes = (len(self.groups[0]),)
        self.size = math.prod(self.sizes)

    def bind_each(self, primitive: Primitive, x: Any, reverse: bool = False) -> Any:
        """Apply a collective over each of the names in turn."""
        pairs = list(zip(self.names, self.sizes, strict=True))
        for name, size in reversed(pairs) if reverse else pairs:
            x = primitive.bind(x, axis_name=name, axis_size=size, axis_index_groups=self.groups)
        return x


def _arrays_of(x: Any) -> Any:
    return x if isinstance(x, ArrayLike) else as_array(x)


def _dimension(axis: int, rank: int, x: Any, operation: str) -> int:
    """Return a dimension as nonnegative; raise unless there is one."""
    if not -rank <= axis < rank:
        raise ArgumentError(
            f"{operation}: dimension {axis} for operand {aval_of(x)}", fix=f"choose one in [{-rank}, {rank})"
        )
    return axis % rank


# ---------------------------------------------------------------- the functions


def psum(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Return the sum of `x`, a pytree, over all elements of the named axis, or of several: out = Σᵢ x[i].

    A Python or NumPy constant is multiplied by the size at once: ``psum(1, name)`` is the size, an int. Bools are
    counted. With `axis_index_groups`, lists of indices, each group is summed by itself.

    Raises:
      UnboundAxisError: no enclosing vmap has the name.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: x / psum(x, "i"), axis_name="i")(jnp.array([1.0, 3.0]))
    Array([0.25, 0.75], dtype=float32)
    """
    axes = _Axes(axis_name, axis_index_groups, "psum")

    def of_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, ArrayLike):
            return (int(leaf) if isinstance(leaf, bool) else leaf) * axes.size
        if aval_of(leaf).dtype == dtypes.bool_:
            leaf = convert_element_type(leaf, dtypes.int32)
        return psum_p.bind(leaf, axes=axes.names, axis_index_groups=axes.groups) if axes.names else leaf

    return tree.map(of_leaf, x)


def pmean(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Return the mean of `x`, a pytree, over all elements of the named axis; arguments as for `psum`.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: x - pmean(x, "i"), axis_name="i")(jnp.array([1.0, 3.0]))
    Array([-1.,  1.], dtype=float32)
    """
    size = _Axes(axis_name, axis_index_groups, "pmean").size
    return tree.map(lambda leaf: leaf / size, psum(x, axis_name, axis_index_groups=axis_index_groups))


def _extreme(primitive: Primitive, x: Any, axis_name: Any, groups: Any) -> Any:
    axes = _Axes(axis_name, groups, primitive.name)

    def of_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, ArrayLike) or not axes.names:
            return leaf  # the same in all elements
        return primitive.bind(leaf, axes=axes.names, axis_index_groups=axes.groups)

    return tree.map(of_leaf, x)


def pmax(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Return the largest value of `x`, a pytree, among all elements of the named axis; arguments as for `psum`.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: pmax(x, "i"), axis_name="i")(jnp.array([1, 3]))
    Array([3, 3], dtype=int32)
    """
    return _extreme(pmax_p, x, axis_name, axis_index_groups)


def pmin(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Return the smallest value of `x`, a pytree, among all elements of the named axis; arguments as for `psum`.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: pmin(x, "i"), axis_name="i")(jnp.array([1, 3]))
    Array([1, 1], dtype=int32)
    """
    return _extreme(pmin_p, x, axis_name, axis_index_groups)


def all_gather(x: Any, axis_name: Any, *, axis_index_groups: Any = None, axis: int = 0, tiled: bool = False) -> Any:
    """Return the values of `x`, a pytree, of all elements of the named axis, stacked along a new dimension `axis`.

    With `tiled` they are concatenated along the dimension `axis` that is there already.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: all_gather(x, "i"), axis_name="i", out_axes=None)(jnp.array([1.0, 3.0]))
    Array([1., 3.], dtype=float32)
    """
    axes = _Axes(axis_name, axis_index_groups, "all_gather")

    def of_leaf(leaf: Any) -> Any:
        leaf = _arrays_of(leaf)
        shape = aval_of(leaf).shape
        at = _dimension(axis, len(shape) + (not tiled), leaf, "all_gather")
        rows = axes.bind_each(all_gather_p, leaf, reverse=True)
        placed = move_axis(reshape(rows, (axes.size, *shape)), 0, at)
        return reshape(placed, (*shape[:at], axes.size * shape[at], *shape[at + 1 :])) if tiled else placed

    return tree.map(of_leaf, x)


def _split(x: Any, axes: _Axes, dimension: int, tiled: bool, operation: str) -> Any:
    """Bring one part of a dimension per element to the front: (sizes of the names…, the rest)."""
    shape = aval_of(x).shape
    at = _dimension(dimension, len(shape), x, operation)
    if shape[at] % axes.size if tiled else shape[at] != axes.size:
        wanted = "be divisible by" if tiled else "equal"
        raise ShapeError(
            f"{operation}: dimension {at} of {aval_of(x)} must {wanted} the number of elements along "
            f"{', '.join(map(repr, axes.names))}, which is {axes.size}",
            fix="split a dimension of that size" + (" or a multiple of it" if tiled else ", or give tiled=True"),
        )
    inner = (shape[at] // axes.size,) if tiled else ()
    parts = move_axis(reshape(x, (*shape[:at], axes.size, *inner, *shape[at + 1 :])), at, 0)
    return reshape(parts, (*axes.sizes, *aval_of(parts).shape[1:]))


def psum_scatter(
    x: Any, axis_name: Any, *, scatter_dimension: int = 0, axis_index_groups: Any = None, tiled: bool = False
) -> Any:
    """Return this element's part of the sum of `x` over the named axis: psum(x)[axis_index] along a dimension.

    That dimension has the axis' size and is dropped; with `tiled`, a multiple of it, and is divided.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: psum_scatter(x, "i"), axis_name="i")(jnp.array([[1, 2], [3, 4]]))
    Array([4, 6], dtype=int32)
    """
    axes = _Axes(axis_name, axis_index_groups, "psum_scatter")

    def of_leaf(leaf: Any) -> Any:
        parts = _split(_arrays_of(leaf), axes, scatter_dimension, tiled, "psum_scatter")
        return axes.bind_each(reduce_scatter_p, parts)

    return tree.map(of_leaf, x)


def all_to_all(
    x: Any, axis_name: Any, split_axis: int, concat_axis: int, *, axis_index_groups: Any = None, tiled: bool = False
) -> Any:
    """Send part i of dimension `split_axis` to element i of the named axis; return what came, along `concat_axis`.

    The split dimension has the axis' size and is dropped, and the received parts are stacked along a new dimension;
    with `tiled` it has a multiple of that size and is divided, and the parts are concatenated.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: all_to_all(x, "i", 0, 0), axis_name="i")(jnp.array([[1, 2], [3, 4]]))
    Array([[1, 3],
           [2, 4]], dtype=int32)
    """
    axes = _Axes(axis_name, axis_index_groups, "all_to_all")
    n = len(axes.names)

    def of_leaf(leaf: Any) -> Any:
        x = _arrays_of(leaf)
        parts = _split(x, axes, split_axis, tiled, "all_to_all")
        at = _dimension(concat_axis, aval_of(x).ndim, x, "all_to_all")
        for name, size in zip(axes.names, axes.sizes, strict=True):
            parts = all_to_all_p.bind(parts, axis_name=name, axis_size=size, axis_index_groups=axes.groups)
            parts = move_axis(parts, 0, n - 1)
        shape = aval_of(parts).shape[n:]
        placed = move_axis(reshape(parts, (axes.size, *shape)), 0, at)
        return reshape(placed, (*shape[:at], axes.size * shape[at], *shape[at + 1 :])) if tiled else placed

    return tree.map(of_leaf, x)


def pswapaxes(x: Any, axis_name: Any, axis: int, *, axis_index_groups: Any = None) -> Any:
    """Exchange the named axis with dimension `axis` of `x`, which has the same size: all_to_all along one dimension.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: pswapaxes(x, "i", 0), axis_name="i")(jnp.array([[1, 2], [3, 4]]))
    Array([[1, 3],
           [2, 4]], dtype=int32)
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def ppermute(x: Any, axis_name: Any, perm: Sequence[tuple[int, int]]) -> Any:
    """Send `x`, a pytree, along pairs (source, destination) of indices of the named axis.

    Elements that are no destination receive zeros.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: ppermute(x, "i", [(0, 1), (1, 2)]), axis_name="i")(jnp.array([1, 2, 3]))
    Array([0, 1, 2], dtype=int32)
    """
    axes = _Axes(axis_name, None, "ppermute")
    pairs = tuple((int(s), int(d)) for s, d in perm)
    for what, ends in ("source", [s for s, _ in pairs]), ("destination", [d for _, d in pairs]):
        if len(set(ends)) != len(ends) or any(not 0 <= i < axes.size for i in ends):
            raise ArgumentError(
                f"ppermute: perm={pairs} over an axis of size {axes.size} has a {what} twice or out of range",
                fix=f"give each index in [0, {axes.size}) at most once as a source and once as a destination",
            )

    def of_leaf(leaf: Any) -> Any:
        leaf = _arrays_of(leaf)
        if len(axes.names) == 1:
            return ppermute_p.bind(leaf, axis_name=axes.names[0], axis_size=axes.size, perm=pairs)
        rows, _ = permuted(all_gather(leaf, axes.names), perm=pairs, axis_size=axes.size)
        start = [axis_index(axes.names), *(0 for _ in aval_of(leaf).shape)]
        return reshape(dynamic_slice(rows, start, (1, *aval_of(leaf).shape)), aval_of(leaf).shape)

    return tree.map(of_leaf, x)


def pshuffle(x: Any, axis_name: Any, perm: Sequence[int]) -> Any:
    """Return the value of `x` in element perm[i] of the named axis, to element i.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: pshuffle(x, "i", [2, 0, 1]), axis_name="i")(jnp.array([1, 2, 3]))
    Array([3, 1, 2], dtype=int32)
    """
    size = _Axes(axis_name, None, "pshuffle").size
    if sorted(perm) != list(range(size)):
        raise ArgumentError(
            f"pshuffle: perm={list(perm)} is not a permutation of 0..{size - 1}",
            fix="give each index once, or use ppermute for partial ones",
        )
    return ppermute(x, axis_name, list(zip(perm, range(size), strict=True)))


def pbroadcast(x: Any, axis_name: Any, source: int) -> Any:
    """Return the value that `x`, a pytree, has in element `source` of the named axis, to all of them.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: pbroadcast(x, "i", 2), axis_name="i")(jnp.array([1, 2, 3]))
    Array([3, 3, 3], dtype=int32)
    """
    size = _Axes(axis_name, None, "pbroadcast").size
    if not 0 <= source < size:
        raise ArgumentError(
            f"pbroadcast: source={source} over an axis of size {size}", fix=f"choose an element in [0, {size})"
        )

    def of_leaf(leaf: Any) -> Any:
        rows = all_gather(leaf, axis_name)
        shape = aval_of(rows).shape
        row = slice_(rows, (source, *(0 for _ in shape[1:])), (source + 1, *shape[1:]))
        return reshape(row, shape[1:])

    return tree.map(of_leaf, x)


def axis_index(axis_name: Any) -> Any:
    """Return this element's position along the named axis, an int32; of several names, in row-major order.

    >>> import funcgrad as fg
    >>> fg.vmap(lambda: axis_index("i"), axis_name="i", axis_size=3)()
    Array([0, 1, 2], dtype=int32)
    """
    names, sizes = _bound(axis_name, "axis_index")
    index: Any = None
    for name, size in zip(names, sizes, strict=True):
        own = axis_index_p.bind(axis_name=name)
        index = own if index is None else add_p.bind(times(index, size), own)
    return as_array(np.int32(0)) if index is None else index


def axis_size(axis_name: Any) -> int:
    """Return the size of the named axis, or the product of several, as an int.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(lambda x: x * axis_size("i"), axis_name="i")(jnp.array([1, 2, 3]))
    Array([3, 6, 9], dtype=int32)
    """
    return math.prod(_bound(axis_name, "axis_size")[1])
