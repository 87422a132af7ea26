"""Folds, sorts and scatters of complex numbers in terms of real parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.lowering import ScatterForm, contiguous
from funcgrad.core.primitives import Primitive
from funcgrad.ops.arithmetic import max_p, min_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.dynamic_slices import dynamic_update_slice_p
from funcgrad.ops.indexed_access import indexed_update_p
from funcgrad.ops.logic import and_p, ge_p, le_p, ne_p, or_p
from funcgrad.ops.pairs import PAIRS, Pair, larger, multiply, smaller, where
from funcgrad.ops.reductions import (
    associative_scan,
    cumprod_p,
    cumsum_p,
    reduce_max_p,
    reduce_min_p,
    reduce_prod_p,
)
from funcgrad.ops.shapes import broadcast_in_dim, full, reduce_sum_p, reshape
from funcgrad.ops.slicing import concatenate, iota, slice_
from funcgrad.ops.sorting import sort_p

# A fold combines so many blocks in one pass over memory.
_BLOCKS = 8

Combine = Callable[[Pair, Pair], Pair]


def _by_parts(primitive: Primitive) -> Callable[..., Pair]:
    return lambda x, **params: Pair(*(primitive.bind(part, **params) for part in x))


# ---------------------------------------------------------------- folds


def _folding(combine: Combine, identity: complex) -> Callable[..., Pair]:
    """A fold along axes: blocks of each are combined until one element is left."""

    def fold(x: Pair, *, axes: Sequence[int]) -> Pair:
        shape = aval_of(x.re).shape
        for axis in axes:
            x = _fold_axis(combine, identity, x, axis)
        kept = tuple(n for d, n in enumerate(shape) if d not in axes)
        return Pair(*(reshape(part, kept) for part in x))

    return fold


def _fold_axis(combine: Combine, identity: complex, x: Pair, axis: int) -> Pair:
    """Combine all elements along an axis, of which one is left."""
    shape = aval_of(x.re).shape
    if not shape[axis]:
        single = tuple(1 if d == axis else n for d, n in enumerate(shape))
        return Pair(*(full(single, v, aval_of(x.re).dtype) for v in (identity.real, identity.imag)))
    rest: list[Pair] = []
    while (n := aval_of(x.re).shape[axis]) > 1:
        blocks = min(n, _BLOCKS)
        length = n // blocks
        rest += [_part(x, axis, i, i + 1) for i in range(blocks * length, n)]
        x = _tournament(combine, [_part(x, axis, i * length, (i + 1) * length) for i in range(blocks)])
    return _tournament(combine, [x, *rest])


def _tournament(combine: Combine, values: Sequence[Pair]) -> Pair:
    """Combine values in pairs."""
    while len(values) > 1:
        pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
        values = [combine(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return values[0]


def _part(x: Pair, axis: int, start: int, stop: int) -> Pair:
    shape = aval_of(x.re).shape
    starts = [start if d == axis else 0 for d in range(len(shape))]
    stops = [stop if d == axis else n for d, n in enumerate(shape)]
    return Pair(*(slice_(part, starts, stops) for part in x))


def _running_product(x: Pair, *, axis: int, reverse: bool) -> Pair:
    combine = lambda a, b: list(multiply(Pair(*a), Pair(*b)))  # noqa: E731
    return Pair(*associative_scan(combine, x, axis, reverse))


# ---------------------------------------------------------------- sorts


def _sort(*operands: Any, dimension: int, is_stable: bool, num_keys: int) -> list[Any]:
    """Sort by real, then by imaginary parts."""
    parts = [[*x] if isinstance(x, Pair) else [x] for x in operands]
    keys = sum(len(p) for p in parts[:num_keys])
    given = [part for p in parts for part in p]
    found = iter(sort_p.bind(*given, dimension=dimension, is_stable=is_stable, num_keys=keys))
    return [Pair(next(found), next(found)) if isinstance(x, Pair) else next(found) for x in operands]


# ---------------------------------------------------------------- scatters


_LEAST, _MOST = complex(-math.inf, -math.inf), complex(math.inf, math.inf)
_COMBINE = {"mul": (multiply, 1 + 0j), "max": (larger, _LEAST), "min": (smaller, _MOST)}


def _update(x: Pair, updates: Pair, *starts: Any, form: ScatterForm) -> Pair:
    """Sums, and what replaces other elements, by parts. Other updates of one element are combined before."""
    if form.combine not in _COMBINE:
        parts = zip(x, updates, strict=True)
        return Pair(*(indexed_update_p.bind(part, update, *starts, form=form) for part, update in parts))
    combine, identity = _COMBINE[form.combine]
    shape, size = aval_of(x.re).shape, aval_of(x.re).size
    places = _places(shape, aval_of(updates.re).shape, dict(zip(form.axes, starts, strict=True)), form.drops)
    flat = (reshape(v, (aval_of(v).size,)) for v in (places, *updates))
    places, *values = sort_p.bind(*flat, dimension=0, is_stable=True, num_keys=1)
    last, totals = _totals(combine, places, Pair(*values))
    write = {"form": ScatterForm((0,), "", drops=True, unique=True)}
    target = where(last, places, size)
    factors = []
    for value, start in zip(totals, (identity.real, identity.imag), strict=True):
        nothing, windows = full((size,), start, aval_of(value).dtype), reshape(value, (*aval_of(value).shape, 1))
        factors.append(reshape(indexed_update_p.bind(nothing, windows, target, **write), shape))
    return combine(x, Pair(*factors))


def _places(shape: Sequence[int], windows: Sequence[int], starts: dict[int, Any], drops: bool) -> Any:
    """The number of the element that each update goes to, or that of all elements where it is dropped."""
    size = math.prod(shape)
    dtype = dtypes.int32 if size < 2**31 else dtypes.int64
    lead, steps = len(windows) - len(shape), contiguous(shape).strides
    places, inside = full(windows, 0, dtype), None
    for d, step in enumerate(steps):
        at = iota(dtype, windows, lead + d)
        if d in starts:
            last = shape[d] - windows[lead + d]
            start = convert_element_type(starts[d], dtype)
            low, high = (full(aval_of(start).shape, n, dtype) for n in (0, last))
            within = and_p.bind(ge_p.bind(start, low), le_p.bind(start, high))
            inside = within if inside is None else and_p.bind(inside, within)
            at = at + _spread(max_p.bind(low, min_p.bind(start, high)), windows)
        places = places + at * full((), step, dtype)
    return places if inside is None or not drops else where(_spread(inside, windows), places, size)


def _spread(x: Any, windows: Sequence[int]) -> Any:
    return broadcast_in_dim(x, windows, range(aval_of(x).ndim))


def _totals(combine: Combine, places: Any, values: Pair) -> tuple[Any, Pair]:
    """Which value is the last of a run of equal places, and the running combination within each run."""
    (n,) = aval_of(places).shape
    before, after = (slice_(places, (i,), (n - 1 + i,)) for i in range(2))
    changes, edge = ne_p.bind(before, after), full((1,), True, dtypes.bool_)

    def join(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        both = combine(Pair(*a[1:]), Pair(*b[1:]))
        return [or_p.bind(a[0], b[0]), *(where(b[0], new, old) for new, old in zip(b[1:], both, strict=True))]

    _, *totals = associative_scan(join, [concatenate([edge, changes], 0), *values], 0)
    return concatenate([changes, edge], 0), Pair(*totals)


def _update_window(x: Pair, update: Pair, *starts: Any) -> Pair:
    return Pair(*(dynamic_update_slice_p.bind(*parts, *starts) for parts in zip(x, update, strict=True)))


PAIRS.add(
    {
        **{p: _by_parts(p) for p in (reduce_sum_p, cumsum_p)},
        reduce_prod_p: _folding(multiply, 1),
        reduce_max_p: _folding(larger, complex(float("-inf"), 0)),
        reduce_min_p: _folding(smaller, complex(float("inf"), 0)),
        cumprod_p: _running_product,
        sort_p: _sort,
        indexed_update_p: _update,
        dynamic_update_slice_p: _update_window,
    }
)
