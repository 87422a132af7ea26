"""Parallel prefix computation with any associative function, in logarithmic depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import tree
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.shapes import concatenate, rev, slice_in_dim, stack
from funcgrad.ops.shapes import reshape
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import callable_or_error, name_of

__all__ = ["associative_scan"]


@boundary
def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Return all prefixes y[i] = x[0] ∘ x[1] ∘ … ∘ x[i] along an axis, where a ∘ b = fn(a, b) is associative.

    `elems` is a pytree of arrays with equal sizes n along `axis`. `fn` combines two such trees, of any size along that
    axis, elementwise. It is called about 2·log₂ n times, on about 2·n elements in total. With `reverse`, the result is
    y[i] = x[n−1] ∘ … ∘ x[i].

    >>> import funcgrad.numpy as jnp
    >>> associative_scan(lambda a, b: a * b, jnp.array([1, 2, 3, 4]))
    Array([ 1,  2,  6, 24], dtype=int32)

    G. E. Blelloch, Prefix sums and their applications, 1990.

    Raises:
      ShapeError, ArgumentError: the sizes along `axis` differ, or `fn` does not return a tree like its arguments.
    """
    callable_or_error(fn, "associative_scan")
    leaves, structure = tree.flatten(elems)
    leaves = [as_operand(x, "associative_scan") for x in leaves]
    if not leaves:
        raise ArgumentError("associative_scan: elems has no leaves", fix="give at least one array")
    axis = as_axis(axis, aval_of(leaves[0]).ndim, "associative_scan")
    sizes = [aval_of(x).shape[axis : axis + 1] for x in leaves]
    if len(set(sizes)) > 1 or sizes == [()]:
        shown = ", ".join(repr(aval_of(x)) for x in leaves)
        raise ShapeError(
            f"associative_scan: leaves have different sizes along axis {axis}: {shown}",
            fix="pass arrays of equal sizes along the axis",
        )

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        out = tree.leaves(fn(structure.unflatten(a), structure.unflatten(b)))
        if len(out) != len(a):
            raise ArgumentError(
                f"associative_scan: {name_of(fn)} takes {len(a)} leaves and returns {len(out)}",
                fix="return a tree like each of its arguments",
            )
        return out

    if reverse:
        leaves = [rev(x, (axis,)) for x in leaves]
    out = _prefixes(combine, leaves, axis)
    return structure.unflatten([rev(x, (axis,)) for x in out] if reverse else out)


def _prefixes(combine: Callable[[list[Any], list[Any]], list[Any]], xs: list[Any], axis: int) -> list[Any]:
    """Combine neighbors; their prefixes are the prefixes at odd positions, from which those at even ones follow."""
    n = aval_of(xs[0]).shape[axis]
    if n < 2:
        return xs

    def part(arrays: list[Any], start: int, limit: int, stride: int = 1) -> list[Any]:
        return [slice_in_dim(x, start, limit, stride, axis) for x in arrays]

    odd = _prefixes(combine, combine(part(xs, 0, n - 1, 2), part(xs, 1, n, 2)), axis)
    even = part(xs, 0, 1)
    if n > 2:
        later = combine(part(odd, 0, (n - 1) // 2), part(xs, 2, n, 2))
        even = [concatenate(pair, axis) for pair in zip(even, later, strict=True)]
    return [_interleave(a, b, axis) for a, b in zip(even, odd, strict=True)]


def _interleave(even: Any, odd: Any, axis: int) -> Any:
    """Return a[0], b[0], a[1], b[1], … along an axis; `even` may be longer by one."""
    shape = aval_of(odd).shape
    n = shape[axis]
    paired = stack([slice_in_dim(even, 0, n, axis=axis), odd], axis + 1)
    merged = reshape(paired, (*shape[:axis], 2 * n, *shape[axis + 1 :]))
    if aval_of(even).shape[axis] == n:
        return merged
    return concatenate([merged, slice_in_dim(even, n, n + 1, axis=axis)], axis)
