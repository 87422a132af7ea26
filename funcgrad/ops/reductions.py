"""Primitives that fold along axes: products, extremes, logic, positions of extremes, and cumulative folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Cumulative, Rewrite
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.ops.accumulation import accumulator, run_over
from funcgrad.ops.arithmetic import add_p, max_p, min_p, mul_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.composite import logaddexp_formula, logaddexp_p
from funcgrad.ops.elementwise import BITS, NUMBER, REAL, check_operands
from funcgrad.ops.logic import eq_p, ne_p, or_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import (
    broadcast_in_dim,
    check_axes,
    expand_dims,
    full,
    reduce_sum,
    reduction,
    reshape,
    rev,
    transpose,
)
from funcgrad.ops.slicing import concatenate, iota, pad, slice_

Axes = tuple[int, ...]
Pair = tuple[Any, Any]


def lowest(dtype: np.dtype) -> Any:
    """Return the identity of max: −inf, the smallest integer, False."""
    if dtype == dtypes.bool_:
        return dtype.type(False)
    return dtype.type(np.iinfo(dtype).min if dtypes.is_integer(dtype) else -np.inf)


def highest(dtype: np.dtype) -> Any:
    """Return the identity of min: inf, the largest integer, True."""
    if dtype == dtypes.bool_:
        return dtype.type(True)
    return dtype.type(np.iinfo(dtype).max if dtypes.is_integer(dtype) else np.inf)


def _all_ones(dtype: np.dtype) -> Any:
    return np.invert(dtype.type(0))


def _kept(x: Any, axes: Axes) -> tuple[int, ...]:
    return tuple(d for d in range(aval_of(x).ndim) if d not in axes)


def _spread(reduced: Any, x: Any, axes: Axes) -> Any:
    """Repeat a reduced value along the axes it was reduced over."""
    return broadcast_in_dim(reduced, aval_of(x).shape, _kept(x, axes))


# ---------------------------------------------------------------- reductions


def _reducer(
    name: str,
    op: str,
    ufunc: np.ufunc,
    identity: Callable[[np.dtype], Any],
    kinds: Sequence[str],
    tangent: Callable[..., Any] | None = None,
    **options: Any,
) -> Primitive:
    """Declare a reduction by a NumPy ufunc; `tangent(ans, x, t, axes)` is its derivative (None: it has none)."""

    def evaluate(x: Any, *, axes: Axes) -> Any:
        wide = accumulator(x.dtype)
        return ufunc.reduce(x.astype(wide, copy=False), axis=axes, dtype=wide, initial=identity(wide)).astype(x.dtype)

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: Axes) -> Pair:
        ans = primitive.bind(*primals, axes=axes)
        (t,) = tangents
        if tangent is None or aval_of(t).dtype == dtypes.float0:
            return ans, Zero(aval_of(ans).tangent())
        return ans, tangent(ans, primals[0], t, axes)

    check = lambda x: check_operands(name, [x], kinds)  # noqa: E731
    primitive = reduction(name, op, evaluate, identity, jvp=jvp, check=check, **options)
    return primitive


def _extreme_tangent(ans: Any, x: Any, t: Any, axes: Axes) -> Any:
    """Mean of the tangents where x is extreme: ties share the derivative equally."""
    at = convert_element_type(eq_p.bind(x, _spread(ans, x, axes)), aval_of(t).dtype)
    return reduce_sum(t * at, axes) / reduce_sum(at, axes)


def _product_tangent(ans: Any, x: Any, t: Any, axes: Axes) -> Any:
    """Σᵢ tᵢ · Πⱼ≠ᵢ xⱼ, from products of all before and all after i: right where some xⱼ are zero."""
    x, t = (_fold_axes(v, axes) for v in (x, t))
    before, after = (_exclusive(x, reverse) for reverse in (False, True))
    return reduce_sum(t * (before * after), (aval_of(x).ndim - 1,))


def _fold_axes(x: Any, axes: Axes) -> Any:
    """Bring `axes` to the end and merge them into one."""
    kept = _kept(x, axes)
    moved = transpose(x, (*kept, *sorted(axes)))
    shape = aval_of(moved).shape
    return reshape(moved, (*shape[: len(kept)], int(np.prod(shape[len(kept) :]))))


def _exclusive(x: Any, reverse: bool) -> Any:
    """Product of the elements strictly before (reverse: after) each along the last axis."""
    axis = aval_of(x).ndim - 1
    padding = (-1, 1, 0) if reverse else (1, -1, 0)
    if not aval_of(x).size:
        return x
    shifted = pad(x, np.ones((), aval_of(x).dtype), [*[(0, 0, 0)] * axis, padding])
    return cumprod(shifted, axis, reverse)


reduce_prod_p = _reducer(
    "reduce_prod", "mul", np.multiply, lambda d: d.type(1), ("bool", *NUMBER), tangent=_product_tangent
)
_EXTREME = {"kinds": ("bool", *NUMBER), "tangent": _extreme_tangent, "may_make_nan": False}
reduce_max_p = _reducer("reduce_max", "max", np.maximum, lowest, **_EXTREME)
reduce_min_p = _reducer("reduce_min", "min", np.minimum, highest, **_EXTREME)
reduce_and_p = _reducer("reduce_and", "and", np.bitwise_and, _all_ones, BITS)
reduce_or_p = _reducer("reduce_or", "or", np.bitwise_or, lambda d: d.type(0), BITS)
reduce_xor_p = _reducer("reduce_xor", "xor", np.bitwise_xor, lambda d: d.type(0), BITS)


def _apply(primitive: Primitive, x: Any, axes: Sequence[int]) -> Any:
    return primitive.bind(x, axes=tuple(axes)) if axes else x


def reduce_prod(x: Any, axes: Sequence[int]) -> Any:
    """Multiply over `axes`."""
    return _apply(reduce_prod_p, x, axes)


def reduce_max(x: Any, axes: Sequence[int]) -> Any:
    """Largest element over `axes`; NaN wins, nothing gives −inf."""
    return _apply(reduce_max_p, x, axes)


def reduce_min(x: Any, axes: Sequence[int]) -> Any:
    """Smallest element over `axes`; NaN wins, nothing gives inf."""
    return _apply(reduce_min_p, x, axes)


def reduce_and(x: Any, axes: Sequence[int]) -> Any:
    """Bitwise (on bools: logical) and over `axes`."""
    return _apply(reduce_and_p, x, axes)


def reduce_or(x: Any, axes: Sequence[int]) -> Any:
    """Bitwise (on bools: logical) or over `axes`."""
    return _apply(reduce_or_p, x, axes)


def reduce_xor(x: Any, axes: Sequence[int]) -> Any:
    """Bitwise (on bools: logical) exclusive or over `axes`."""
    return _apply(reduce_xor_p, x, axes)


# ---------------------------------------------------------------- positions of extremes


_SHORTEST_BLOCK, _LONGEST_BLOCK = 256, 4096


def _first_place(x: Any, extreme: Primitive, axis: int) -> Any:
    """The least index at which `x` equals its extreme along `axis`; where that is NaN, at which it is NaN.

    A long last axis is cut into blocks whose candidates are compared: it is read from memory once, by all threads.
    """
    *outer, n = shape = aval_of(x).shape
    is_long = axis == len(outer) and n > _LONGEST_BLOCK
    block = next((b for b in range(_LONGEST_BLOCK, _SHORTEST_BLOCK - 1, -1) if n % b == 0), None) if is_long else None
    dtype = dtypes.int32 if shape[axis] < 2**31 else dtypes.int64
    if block is None:
        best = extreme.bind(x, axes=(axis,))
        return _least(iota(dtype, shape, axis), shape[axis], x, best, axis)
    blocks = reshape(x, (*outer, n // block, block))
    best = extreme.bind(blocks, axes=(axis + 1,))
    within = _least(iota(dtype, aval_of(blocks).shape, axis + 1), block, blocks, best, axis + 1)
    start = mul_p.bind(iota(dtype, aval_of(best).shape, axis), full((), block, dtype))
    return _least(add_p.bind(start, within), n, best, extreme.bind(best, axes=(axis,)), axis)


def _least(places: Any, size: int, x: Any, best: Any, axis: int) -> Any:
    """The least of the places, below `size`, at which `x` equals `best`, its extreme along `axis`."""
    found = eq_p.bind(x, _spread(best, x, (axis,)))
    if dtypes.is_float(aval_of(x).dtype):
        found = or_p.bind(found, ne_p.bind(x, x))
    nowhere = full(aval_of(x).shape, size, aval_of(places).dtype)
    return reduce_min_p.bind(select_n_p.bind(found, nowhere, places), axes=(axis,))


def _arg_reduction(name: str, extreme: Primitive, evaluate: Callable[..., Any]) -> Primitive:
    """Declare argmax or argmin: the first position of the extreme along one axis; NaN counts as extreme."""

    def infer(x: ShapedArray, *, axes: Axes, index_dtype: np.dtype) -> ShapedArray:
        check_operands(name, [x], ("bool", *REAL))
        check_axes(name, x, axes)
        if len(axes) != 1 or not dtypes.is_integer(index_dtype):
            raise ArgumentError(
                f"{name}: axes {axes} and index_dtype {index_dtype.name}: one axis and an integer dtype are wanted",
                fix="reshape so that the axes are one, and give an integer index_dtype",
            )
        if x.shape[axes[0]] == 0:
            raise ShapeError(
                f"{name}: axis {axes[0]} of {x} is empty",
                fix="an empty axis has no extreme: check the size first",
            )
        return ShapedArray(tuple(n for d, n in enumerate(x.shape) if d not in axes), index_dtype)

    def positions(x: Any, *, axes: Axes, index_dtype: np.dtype) -> Any:
        # ml_dtypes' own argmax does not put NaN first.
        return evaluate(x.astype(accumulator(x.dtype), copy=False), axes[0]).astype(index_dtype)

    def batch(
        axis: AxisData, args: Sequence[Any], dims: Sequence[int], *, axes: Axes, index_dtype: np.dtype
    ) -> tuple[Any, int]:
        (dim,), (folded,) = dims, axes
        folded += folded >= dim
        return primitive.bind(args[0], axes=(folded,), index_dtype=index_dtype), dim - (folded < dim)

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
        ans = primitive.bind(*primals, **params)
        return ans, Zero(aval_of(ans).tangent())

    def expand(x: Any, *, axes: Axes, index_dtype: np.dtype) -> Any:
        return convert_element_type(_first_place(x, extreme, *axes), index_dtype)

    primitive = Primitive(name, infer=infer, evaluate=positions, jvp=jvp, batch=batch, lowering=Rewrite(expand))
    return primitive


argmax_p = _arg_reduction("argmax", reduce_max_p, np.argmax)
argmin_p = _arg_reduction("argmin", reduce_min_p, np.argmin)


def argmax(x: Any, axis: int, index_dtype: np.dtype = dtypes.int32) -> Any:
    """First index of the largest element along `axis`."""
    return argmax_p.bind(x, axes=(axis,), index_dtype=index_dtype)


def argmin(x: Any, axis: int, index_dtype: np.dtype = dtypes.int32) -> Any:
    """First index of the smallest element along `axis`."""
    return argmin_p.bind(x, axes=(axis,), index_dtype=index_dtype)


# ---------------------------------------------------------------- cumulative folds


def associative_scan(
    combine: Callable[[list, list], list], elements: Sequence[Any], axis: int, reverse: bool = False
) -> list:
    """Return all prefixes x₀, x₀∘x₁, x₀∘x₁∘x₂, … along `axis`, in O(log n) steps of whole-array operations.

    `combine` takes and returns lists of arrays, one per element of `elements`. Neighbors are combined in pairs, the
    pairs scanned recursively, which gives the odd positions; the even ones are one combination more (Blelloch 1990).
    """
    if reverse:
        flipped = associative_scan(combine, [rev(x, (axis,)) for x in elements], axis)
        return [rev(x, (axis,)) for x in flipped]
    n = aval_of(elements[0]).shape[axis]
    if n < 2:
        return list(elements)
    pairs = combine(*([_every_other(x, axis, start, n - n % 2) for x in elements] for start in (0, 1)))
    odd = associative_scan(combine, pairs, axis)
    first = [_every_other(x, axis, 0, 1) for x in elements]
    if n == 2:
        even = first
    else:
        inner = [_every_other(x, axis, 0, (n - 1) // 2, 1) for x in odd]
        rest = combine(inner, [_every_other(x, axis, 2, n) for x in elements])
        even = [concatenate([f, r], axis) for f, r in zip(first, rest, strict=True)]
    return [_interleave(e, o, axis) for e, o in zip(even, odd, strict=True)]


def _every_other(x: Any, axis: int, start: int, stop: int, step: int = 2) -> Any:
    shape = aval_of(x).shape
    at = lambda outside, value: [value if d == axis else o for d, o in enumerate(outside)]  # noqa: E731
    return slice_(x, at([0] * len(shape), start), at(shape, stop), at([1] * len(shape), step))


def _interleave(even: Any, odd: Any, axis: int) -> Any:
    """even₀, odd₀, even₁, odd₁, …; there may be one more even element."""
    shape = list(aval_of(odd).shape)
    n = shape[axis]
    both = concatenate(
        [expand_dims(_every_other(even, axis, 0, n, 1), (axis + 1,)), expand_dims(odd, (axis + 1,))], axis + 1
    )
    shape[axis] = 2 * n
    out = reshape(both, shape)
    extra = aval_of(even).shape[axis]
    return out if extra == n else concatenate([out, _every_other(even, axis, n, extra, 1)], axis)


def _cumulative(
    name: str,
    ufunc: np.ufunc,
    kinds: Sequence[str],
    lowering: Cumulative,
    tangent: Callable[..., Any],
    transpose_: Callable[..., Any] | None = None,
) -> Primitive:
    """Declare out[i] = x[0] ∘ … ∘ x[i] along an axis; `tangent(x, t, axis, reverse)` is its derivative."""

    def infer(x: ShapedArray, *, axis: int, reverse: bool) -> ShapedArray:
        check_operands(name, [x], kinds)
        check_axes(name, x, (axis,))
        return x

    def evaluate(x: Any, *, axis: int, reverse: bool) -> Any:
        out = run_over(ufunc, np.flip(x, axis) if reverse else x, axis)
        return np.flip(out, axis) if reverse else out

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, reverse: bool) -> Pair:
        ans = primitive.bind(*primals, axis=axis, reverse=reverse)
        (x,), (t,) = primals, tangents
        if aval_of(t).dtype == dtypes.float0:
            return ans, Zero(aval_of(ans).tangent())
        return ans, tangent(x, t, axis, reverse)

    def batch(_: AxisData, args: Sequence[Any], dims: Sequence[int], *, axis: int, reverse: bool) -> tuple[Any, int]:
        (dim,) = dims
        return primitive.bind(args[0], axis=axis + (axis >= dim), reverse=reverse), dim

    primitive = Primitive(
        name, infer=infer, evaluate=evaluate, jvp=jvp, batch=batch, transpose=transpose_, lowering=lowering
    )
    return primitive


def _scanned(combine_jvp: Callable[[Pair, Pair], Pair]) -> Callable[..., Any]:
    """Derivative of a cumulative fold: scan pairs (value, tangent) with the derivative of ∘."""

    def combine(left: list, right: list) -> list:
        return list(combine_jvp((left[0], right[0]), (left[1], right[1])))

    return lambda x, t, axis, reverse: associative_scan(combine, [x, t], axis, reverse)[1]


cumsum_p = _cumulative(
    "cumsum",
    np.add,
    NUMBER,
    Cumulative("add", lambda d: d.type(-0.0 if dtypes.is_float(d) else 0)),
    lambda x, t, axis, reverse: cumsum(t, axis, reverse),
    lambda ct, x, *, axis, reverse: [cumsum(ct, axis, not reverse)],
)
cumprod_p = _cumulative("cumprod", np.multiply, NUMBER, Cumulative("mul", lambda d: d.type(1)), _scanned(mul_p.jvp))
cummax_p = _cumulative("cummax", np.maximum, REAL, Cumulative("max", lowest, exact=True), _scanned(max_p.jvp))
cummin_p = _cumulative("cummin", np.minimum, REAL, Cumulative("min", highest, exact=True), _scanned(min_p.jvp))
cumlogsumexp_p = _cumulative(
    "cumlogsumexp", np.logaddexp, ("float",), Cumulative(logaddexp_formula, lowest), _scanned(logaddexp_p.jvp)
)


def cumsum(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running sum along `axis`, from the end when `reverse`."""
    return cumsum_p.bind(x, axis=axis, reverse=reverse)


def cumprod(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running product along `axis`, from the end when `reverse`."""
    return cumprod_p.bind(x, axis=axis, reverse=reverse)


def cummax(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running maximum along `axis`, from the end when `reverse`."""
    return cummax_p.bind(x, axis=axis, reverse=reverse)


def cummin(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running minimum along `axis`, from the end when `reverse`."""
    return cummin_p.bind(x, axis=axis, reverse=reverse)


def cumlogsumexp(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running log Σ exp along `axis`, from the end when `reverse`."""
    return cumlogsumexp_p.bind(x, axis=axis, reverse=reverse)
