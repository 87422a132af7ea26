"""Parallel prefix computation with any associative function.

Two forms:

- *loops*, for a function of scalars that is applied elementwise to traced arrays: along rows, or over all that is
  beside the axis at once. Long rows are cut into blocks; what precedes a block is combined with its prefixes.
- a *tree* of logarithmic depth, for anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, JaxprEqn, Literal
from funcgrad.core.lowering import Elementwise, Inline
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.shapes import concatenate, rev, slice_in_dim, stack
from funcgrad.ops.shapes import broadcast_in_dim, broadcast_in_dim_p, move_axis, reshape, squeeze
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow import cond, scan
from funcgrad.transforms.control_flow import map as map_
from funcgrad.transforms.flattening import callable_or_error, name_of

__all__ = ["associative_scan"]


@boundary
def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Return all prefixes y[i] = x[0] ∘ x[1] ∘ … ∘ x[i] along an axis, where a ∘ b = fn(a, b) is associative.

    `elems` is a pytree of arrays with equal sizes n along `axis`. `fn` combines two such trees, of any size along that
    axis, elementwise. It is called about 2·log₂ n times, on about 2·n elements in total, or once if it is a function of
    scalars and the arrays are traced. With `reverse`, the result is y[i] = x[n−1] ∘ … ∘ x[i].

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
    scalar = _scalar_function(combine, leaves) if _is_worth_loops(leaves, axis) else None
    out = _prefixes(combine, leaves, axis) if scalar is None else _in_loops(scalar, leaves, axis)
    return structure.unflatten([rev(x, (axis,)) for x in out] if reverse else out)


Combine = Callable[[list[Any], list[Any]], list[Any]]


def _prefixes(combine: Combine, xs: list[Any], axis: int) -> list[Any]:
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


# ---------------------------------------------------------------- in loops

# Fewer elements, and fewer of them along the axis, are combined in a tree.
_LEAST, _SHORT = 4096, 16
# So many elements beside the axis are a vector. A longer row than this is cut into blocks of `_BLOCK`.
_VECTOR, _LONG, _BLOCK = 64, 1024, 256


def _is_worth_loops(xs: list[Any], axis: int) -> bool:
    avals = [aval_of(x) for x in xs]
    large = avals[0].size >= _LEAST and avals[0].shape[axis] >= _SHORT
    alike = len({a.shape for a in avals}) == 1 and not any(dtypes.is_complex(a.dtype) for a in avals)
    return large and alike and any(isinstance(x, Tracer) for x in xs)


def _scalar_function(combine: Combine, xs: list[Any]) -> Combine | None:
    """The function of scalars, or of arrays of any one shape, that `combine` applies elementwise, or None."""
    avals = [aval_of(x).strengthened() for x in xs]
    closed = trace_to_jaxpr(lambda *ab: combine([*ab[: len(xs)]], [*ab[len(xs) :]]), avals * 2)
    same = all(
        (v.aval.shape, v.aval.dtype) == (a.shape, a.dtype) for v, a in zip(closed.jaxpr.outvars, avals, strict=True)
    )
    if not same or not _is_elementwise(closed, avals[0].shape):
        return None
    return lambda a, b: _evaluated(closed, [*a, *b])


def _is_elementwise(closed: ClosedJaxpr, shape: tuple[int, ...]) -> bool:
    """Whether all equations compute elements of one shape from elements at the same place, and scalars."""
    return all(aval_of(c).shape == () for c in closed.consts) and all(
        _is_elementwise(eqn.params[eqn.primitive.lowering.param], shape)
        if isinstance(eqn.primitive.lowering, Inline)
        else isinstance(eqn.primitive.lowering, Elementwise) or _spreads_scalar(eqn, shape)
        for eqn in closed.jaxpr.eqns
    )


def _spreads_scalar(eqn: JaxprEqn, shape: tuple[int, ...]) -> bool:
    return eqn.primitive is broadcast_in_dim_p and not eqn.invars[0].aval.shape and eqn.outvars[0].aval.shape == shape


def _evaluated(closed: ClosedJaxpr, args: list[Any]) -> list[Any]:
    """Evaluate an elementwise jaxpr on arrays of another shape."""
    env = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *args], strict=True))

    def read(atom: Atom) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in closed.jaxpr.eqns:
        operands = [read(v) for v in eqn.invars]
        if isinstance(eqn.primitive.lowering, Inline):
            results = _evaluated(eqn.params[eqn.primitive.lowering.param], operands)
        elif eqn.primitive is broadcast_in_dim_p:
            results = operands
        else:
            results = [eqn.primitive.bind(*operands, **eqn.params)]
        env.update(zip(eqn.outvars, results, strict=True))
    like = aval_of(args[0]).shape
    return [x if aval_of(x := read(v)).shape == like else broadcast_in_dim(x, like, ()) for v in closed.jaxpr.outvars]


def _in_loops(combine: Combine, xs: list[Any], axis: int) -> list[Any]:
    """Prefixes in a loop over the axis of what is beside it, if that is long, else in loops over rows."""
    shape = aval_of(xs[0]).shape
    if math.prod(shape[axis + 1 :]) >= _VECTOR:
        return [move_axis(y, 0, axis) for y in _scanned(combine, [move_axis(x, axis, 0) for x in xs])]
    rows = [move_axis(x, axis, len(shape) - 1) for x in xs]
    moved = aval_of(rows[0]).shape
    found = _rows(combine, [reshape(x, (math.prod(moved[:-1]), moved[-1])) for x in rows])
    return [move_axis(reshape(y, moved), len(shape) - 1, axis) for y in found]


def _scanned(combine: Combine, xs: list[Any]) -> list[Any]:
    """Prefixes along the leading axis, one after the other."""

    def step(carry: tuple[Any, list[Any]], new: list[Any]) -> tuple[tuple[Any, list[Any]], list[Any]]:
        started, before = carry
        after = cond(started, combine, lambda _, x: x, before, new)
        return (True, after), after

    first = [squeeze(slice_in_dim(x, 0, 1), (0,)) for x in xs]
    return scan(step, (False, first), xs)[1]


def _rows(combine: Combine, xs: list[Any]) -> list[Any]:
    """Prefixes of rows, (rows, n): each row in a loop, or in blocks."""
    count, n = aval_of(xs[0]).shape
    if n <= _LONG:
        return map_(lambda row: _scanned(combine, row), xs)
    blocks = n // _BLOCK
    whole = blocks * _BLOCK
    parts = [reshape(slice_in_dim(x, 0, whole, axis=1), (count * blocks, _BLOCK)) for x in xs]
    within = [reshape(y, (count, blocks, _BLOCK)) for y in _rows(combine, parts)]
    totals = _rows(combine, [squeeze(slice_in_dim(y, _BLOCK - 1, _BLOCK, axis=2), (2,)) for y in within])
    first, later = ([slice_in_dim(y, *ends, axis=1) for y in within] for ends in ((0, 1), (1, blocks)))

    def after(totals: list[Any], ys: list[Any]) -> list[Any]:
        shape = aval_of(ys[0]).shape
        return combine([broadcast_in_dim(t, shape, (0, 1)) for t in totals], ys)

    later = after([slice_in_dim(t, 0, blocks - 1, axis=1) for t in totals], later)
    out = [[reshape(y, (count, math.prod(aval_of(y).shape[1:]))) for y in ys] for ys in (first, later)]
    if whole < n:
        rest = _rows(combine, [slice_in_dim(x, whole, n, axis=1) for x in xs])
        last = [slice_in_dim(t, blocks - 1, blocks, axis=1) for t in totals]
        out.append([squeeze(y, (1,)) for y in after(last, [reshape(y, (count, 1, n - whole)) for y in rest])])
    return [concatenate(pieces, 1) for pieces in zip(*out, strict=True)]
