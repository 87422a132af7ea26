"""Calls of primitives that rearrange, reduce, sort and contract arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt
from funcgrad.testing.calls.table import (
    ANY,
    BITS,
    NUMBER,
    ORDERED,
    REALS,
    Draw,
    allowed,
    an_axis,
    operand,
    strategy,
    subset,
)
from funcgrad.testing.strategies import (
    fill,
    seeds,
    shapes,
)

# ---------------------------------------------------------------- movement


@strategy("broadcast_in_dim")
def _broadcast(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape = draw(shapes())
    dims = subset(draw, range(len(shape)))
    stretched = subset(draw, dims)
    x = fill(draw(seeds), draw(allowed(ANY, within)), [1 if d in stretched else shape[d] for d in dims])
    return [x], {"shape": shape, "broadcast_dimensions": dims}


@strategy("reshape")
def _reshape(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within)
    n = x.size
    shapes_ = [(n,), (1, n), (n, 1), x.shape[::-1], (*x.shape, 1)]
    shapes_ += [(k, n // k) for k in (2, 3, 4) if n and n % k == 0] + ([()] if n == 1 else [])
    return [x], {"new_sizes": draw(st.sampled_from(shapes_)), "dimensions": None}


@strategy("transpose")
def _transpose(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within)
    return [x], {"permutation": tuple(draw(st.permutations(range(x.ndim))))}


@strategy("squeeze")
def _squeeze(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape = draw(shapes(max_dims=2))
    dims = tuple(sorted(draw(st.sets(st.integers(0, len(shape)), max_size=2))))
    for d in dims:
        shape = (*shape[:d], 1, *shape[d:])
    return [fill(draw(seeds), draw(allowed(ANY, within)), shape)], {"dimensions": dims}


@strategy("rev")
def _rev(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within)
    return [x], {"dimensions": subset(draw, range(x.ndim))}


@strategy("slice")
def _slice(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within)
    bounds = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in x.shape]
    strides = draw(st.none() | st.tuples(*[st.integers(1, 3)] * x.ndim))
    start, limit = tuple(lo for lo, _ in bounds), tuple(hi for _, hi in bounds)
    return [x], {"start_indices": start, "limit_indices": limit, "strides": strides}


@strategy("pad")
def _pad(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within)
    config = []
    for n in x.shape:
        interior = draw(st.integers(0, 2))
        inside = n + max(0, n - 1) * interior
        low = draw(st.integers(-min(2, inside), 2))
        config.append((low, draw(st.integers(max(-2, -inside - low), 2)), interior))
    return [x, fill(draw(seeds), x.dtype, ())], {"padding_config": tuple(config)}


@strategy("concatenate")
def _concatenate(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within, min_dims=1)
    axis, parts = an_axis(draw, x), [x]
    for n in draw(st.lists(st.integers(0, 3), max_size=2)):
        parts.append(fill(draw(seeds), x.dtype, (*x.shape[:axis], n, *x.shape[axis + 1 :])))
    return parts, {"dimension": axis}


@strategy("iota")
def _iota(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape = draw(shapes(min_dims=1))
    return [], {
        "dtype": draw(allowed(NUMBER, within)),
        "shape": shape,
        "dimension": draw(st.integers(0, len(shape) - 1)),
    }


@strategy("optimization_barrier")
def _barrier(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [operand(draw, within) for _ in range(draw(st.integers(1, 3)))], {}


# ---------------------------------------------------------------- random bits


@strategy("threefry2x32")
def _threefry(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape, seed = draw(shapes()), draw(seeds)
    given = [draw(st.sampled_from([shape, ()])) for _ in range(4)]
    return [fill(seed + i, dt.uint32, s) for i, s in enumerate(given)], {}


# ---------------------------------------------------------------- reductions, cumulative, sorting


def _declare_reduction(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def reduction(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = operand(draw, within, kinds)
        return [x], {"axes": subset(draw, range(x.ndim))}


def _declare_arg_reduction(name: str) -> None:
    @strategy(name)
    def arg_reduction(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = operand(draw, within, ORDERED, min_dims=1, min_side=1)
        return [x], {
            "axes": (an_axis(draw, x),),
            "index_dtype": draw(st.sampled_from([dt.int32, dt.uint8, dt.int64])),
        }


def _declare_cumulative(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def cumulative(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = operand(draw, within, kinds, min_dims=1)
        return [x], {"axis": an_axis(draw, x), "reverse": draw(st.booleans())}


for _name, _kinds in {
    "reduce_sum": NUMBER,
    "reduce_prod": NUMBER,
    "reduce_max": ORDERED,
    "reduce_min": ORDERED,
    "reduce_and": BITS,
    "reduce_or": BITS,
    "reduce_xor": BITS,
}.items():
    _declare_reduction(_name, _kinds)
for _name in ("argmax", "argmin"):
    _declare_arg_reduction(_name)
for _name, _kinds in {
    "cumsum": NUMBER,
    "cumprod": NUMBER,
    "cummax": REALS,
    "cummin": REALS,
    "cumlogsumexp": ("float",),
}.items():
    _declare_cumulative(_name, _kinds)


@strategy("sort")
def _sort(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within, min_dims=1)
    operands = [x] + [fill(draw(seeds), draw(allowed(ANY, within)), x.shape) for _ in range(draw(st.integers(0, 2)))]
    keys = draw(st.integers(1, len(operands)))
    return operands, {"dimension": an_axis(draw, x), "is_stable": True, "num_keys": keys}


@strategy("least")
def _least(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within, ("int",), min_dims=1)
    block = draw(st.integers(1, max(1, x.shape[-1])))
    return [x], {"k": draw(st.integers(1, block)), "block": block, "axis": x.ndim - 1}


@strategy("top_k")
def _top_k(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within, REALS, min_dims=1)
    axis = an_axis(draw, x)
    return [x], {"k": draw(st.integers(0, x.shape[axis])), "axis": axis}


# ---------------------------------------------------------------- contraction


@strategy("dot_general")
def _dot_general(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, contracted, left, right = (draw(shapes(max_dims=n, max_side=3)) for n in (1, 2, 1, 2))
    dtype = draw(allowed(ANY, within))

    def side(free: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
        sizes = [*batch, *contracted, *free]
        order = draw(st.permutations(range(len(sizes))))
        place = [order.index(i) for i in range(len(sizes))]
        x = fill(draw(seeds), dtype, [sizes[i] for i in order])
        return x, tuple(place[: len(batch)]), tuple(place[len(batch) : len(batch) + len(contracted)])

    (lhs, lhs_batch, lhs_contract), (rhs, rhs_batch, rhs_contract) = side(left), side(right)
    wide = {dt.float32: dt.float64, dt.bfloat16: dt.float32, dt.int8: dt.int32}.get(dtype, dtype)
    return [lhs, rhs], {
        "dimension_numbers": ((lhs_contract, rhs_contract), (lhs_batch, rhs_batch)),
        "preferred_element_type": draw(st.sampled_from([dtype, wide])),
    }
