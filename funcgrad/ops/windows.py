"""Folds over windows that slide over an array: sums and extremes, and what their derivatives are made of.

    out[p] = fold over k of x[p · stride + k · window_dilation − low],

where elements outside of `x`, and between its elements, which are `base_dilation` apart, are the identity of the fold.
The derivative of an extreme is that of the first element of the window that is extreme: `select_and_gather_add` picks
the tangents at those, and its transpose, `select_and_scatter_add`, adds cotangents up where they were picked.

Compiled, all of them are sums, maxima and selections of shifted views of the operand, which the compiler fuses.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ShapeError
from funcgrad.ops.accumulation import accumulator
from funcgrad.ops.arithmetic import max_p, min_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import ANY, NUMBER, REAL, add_any, check_operands
from funcgrad.ops.interleaving import interleave
from funcgrad.ops.logic import and_p, eq_p, ge_p, gt_p, le_p, lt_p, not_p
from funcgrad.ops.reductions import highest, lowest
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import full, to_dim, zeros_of
from funcgrad.ops.slicing import pad
from funcgrad.ops.window_geometry import (
    Phase,
    Sizes,
    Window,
    as_pads,
    as_sizes,
    check_windows,
    padded_by,
    phases,
    sliding,
    transposed,
    windows,
)
from funcgrad.ops.window_views import by_phases, folded, places, repeated, tap, taps, zero_of

Pair = tuple[Any, Any]

_NAMES = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def _geometry(params: dict[str, Any]) -> list[Window]:
    return windows(*(params[name] for name in _NAMES))


def window_params(geometry: Sequence[Window]) -> dict[str, Any]:
    """Return the params of a windowed reduction, from one `Window` per dimension."""
    return {
        "window_dimensions": tuple(w.size for w in geometry),
        "window_strides": tuple(w.stride for w in geometry),
        "padding": tuple((w.low, w.high) for w in geometry),
        "base_dilation": tuple(w.base_dilation for w in geometry),
        "window_dilation": tuple(w.dilation for w in geometry),
    }


def counted(operation: str, x: ShapedArray, params: dict[str, Any]) -> Sizes:
    """Return how many windows there are in each dimension of `x`; raise where they do not fit."""
    for name in _NAMES:
        if name == "padding":
            as_pads(operation, params[name], x.ndim)
        else:
            as_sizes(operation, name, params[name], x.ndim)
    return check_windows(operation, x, x.shape, _geometry(params))


def _counts(x: Any, geometry: Sequence[Window]) -> Sizes:
    return tuple(w.count(n) for n, w in zip(aval_of(x).shape, geometry, strict=True))


# ---------------------------------------------------------------- sums and extremes


def _reducer(
    name: str,
    ufunc: np.ufunc,
    combine: Callable[[Any, Any], Any],
    identity: Callable[[np.dtype], Any],
    kinds: Sequence[str],
    **rules: Any,
) -> Primitive:
    """Declare a windowed reduction by a NumPy ufunc; `combine` is the same of traced values."""

    def infer(x: ShapedArray, **params: Any) -> ShapedArray:
        check_operands(name, [x], kinds)
        return ShapedArray(counted(name, x, params), x.dtype, x.weak_type)

    def evaluate(x: Any, **params: Any) -> Any:
        geometry = _geometry(params)
        wide = accumulator(x.dtype)
        interior = [w.base_dilation - 1 for w in geometry]
        out = padded_by(x.astype(wide, copy=False), [(w.low, w.high) for w in geometry], identity(wide), interior)
        for d, w in enumerate(geometry):
            if w.size > 1 or w.stride > 1:
                moved = np.moveaxis(out, d, -1)
                seen = sliding(moved, [(moved.shape[-1] - w.span) // w.stride + 1], [w])
                out = np.moveaxis(ufunc.reduce(seen, axis=-1, dtype=wide), -1, d)
        return out.astype(x.dtype, copy=out is x)

    def expand(x: Any, **params: Any) -> Any:
        geometry, dtype = _geometry(params), aval_of(x).dtype
        wide = accumulator(dtype)
        if 0 in _counts(x, geometry):
            return full(_counts(x, geometry), 0, dtype)
        x, fill = convert_element_type(x, wide), identity(wide)
        if all((w.base_dilation, w.stride, w.dilation) == (w.size, 1, 1) for w in geometry):
            return convert_element_type(repeated(x, fill, geometry), dtype)

        def of_phase(chosen: list[Phase], shape: Sequence[int]) -> Any:
            if not all(p.window.size for p in chosen):
                return full(shape, fill, wide)
            (out,) = folded(lambda a, b: [combine(a[0], b[0])], [x], [fill], [p.window for p in chosen])
            return out

        sizes, counts = aval_of(x).shape, _counts(x, geometry)
        parts = [phases(n, w, even=True) for n, w in zip(sizes, geometry, strict=True)]
        return convert_element_type(by_phases(parts, counts, of_phase), dtype)

    primitive = Primitive(
        name, infer=infer, evaluate=evaluate, batch=_batched(lambda: primitive), lowering=Rewrite(expand), **rules
    )
    return primitive


def _batched(primitive: Callable[[], Primitive]) -> Callable[..., Any]:
    """Batch by a dimension with a window of one element, along which operands are brought into one place."""

    def batch(axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, int]:
        at = next(d for d in dims if d is not None)
        moved = [to_dim(x, d, at, axis.size) for x, d in zip(args, dims, strict=True)]
        geometry = _geometry(params)
        shifted = window_params([*geometry[:at], Window(1), *geometry[at:]])
        return primitive().bind(*moved, **(params | shifted)), at

    return batch


def _sum_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
    return reduce_window_sum_p.bind(*primals, **params), reduce_window_sum_p.bind(*tangents, **params)


def _sum_transpose(ct: Any, x: Any, **params: Any) -> list[Any]:
    """Each element gets the sum over the windows that see it: a window over the cotangents, spread by the strides."""
    if not aval_of(ct).size or not aval_of(x).size:
        return [zeros_of(aval_of(x))]
    back = transposed(aval_of(x).shape, aval_of(ct).shape, _geometry(params))
    return [reduce_window_sum_p.bind(ct, **window_params(back))]


def _extreme_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, select: Primitive, of: str, **params: Any) -> Pair:
    (x,), (t,) = primals, tangents
    ans = (reduce_window_max_p if of == "max" else reduce_window_min_p).bind(x, **params)
    if aval_of(t).dtype == dtypes.float0:
        return ans, Zero(aval_of(ans).tangent())
    return ans, select_and_gather_add_p.bind(t, x, select_prim=select, **params)


reduce_window_sum_p = _reducer(
    "reduce_window_sum", np.add, add_any, lambda d: d.type(0), NUMBER, jvp=_sum_jvp, transpose=_sum_transpose
)
reduce_window_max_p = _reducer(
    "reduce_window_max",
    np.maximum,
    max_p.bind,
    lowest,
    ANY,
    jvp=functools.partial(_extreme_jvp, select=ge_p, of="max"),
)
reduce_window_min_p = _reducer(
    "reduce_window_min",
    np.minimum,
    min_p.bind,
    highest,
    ANY,
    jvp=functools.partial(_extreme_jvp, select=le_p, of="min"),
)


# ---------------------------------------------------------------- where the extremes are


def _identity_of(select: Primitive) -> Callable[[np.dtype], Any]:
    return lowest if select is ge_p else highest


def _first_extreme(x: np.ndarray, select: Primitive, geometry: Sequence[Window]) -> np.ndarray:
    """Number, in row-major order, of the first extreme element of each window; NaN counts as extreme."""
    interior = [w.base_dilation - 1 for w in geometry]
    fill = _identity_of(select)(x.dtype)
    whole = padded_by(x, [(w.low, w.high) for w in geometry], fill, interior)
    counts = [w.count(n) for n, w in zip(x.shape, geometry, strict=True)]
    seen = sliding(whole, counts, geometry).reshape(*counts, math.prod(w.size for w in geometry))
    seen = seen.astype(accumulator(seen.dtype), copy=False)
    return (np.argmax if select is ge_p else np.argmin)(seen, axis=-1)


def _places(which: np.ndarray, geometry: Sequence[Window]) -> tuple[np.ndarray, ...]:
    """Index, in the padded array, of element number `which[p]` of each window p."""
    within = np.unravel_index(which, [w.size for w in geometry])
    origins = np.meshgrid(*(np.arange(n) for n in which.shape), indexing="ij") if which.ndim else []
    return tuple(p * w.stride + k * w.dilation for p, k, w in zip(origins, within, geometry, strict=True))


def _gather_evaluate(tangents: Any, operand: Any, *, select_prim: Primitive, **params: Any) -> Any:
    geometry = _geometry(params)
    which = _first_extreme(operand, select_prim, geometry)
    interior = [w.base_dilation - 1 for w in geometry]
    whole = padded_by(tangents, [(w.low, w.high) for w in geometry], 0, interior)
    return np.asarray(whole[_places(which, geometry)])


def _scatter_evaluate(source: Any, operand: Any, *, select_prim: Primitive, **params: Any) -> Any:
    geometry = _geometry(params)
    which = _first_extreme(operand, select_prim, geometry)
    wide = accumulator(source.dtype)
    total = np.zeros([w.padded(n) for n, w in zip(operand.shape, geometry, strict=True)], wide)
    np.add.at(total, _places(which, geometry), source.astype(wide, copy=False))
    # Take back the padding, and then the dilation.
    inside = padded_by(total, [(-w.low, -w.high) for w in geometry], 0)
    every = tuple(slice(None, None, w.base_dilation) for w in geometry)
    return inside[every].astype(source.dtype)


def _selection_infer(name: str) -> Callable[..., ShapedArray]:
    def infer(source: ShapedArray, operand: ShapedArray, *, select_prim: Primitive, **params: Any) -> ShapedArray:
        check_operands(name, [operand], REAL)
        counts = counted(name, operand, params)
        wanted = operand.shape if name == "select_and_gather_add" else counts
        if source.shape != wanted:
            raise ShapeError(
                f"{name}: the first operand is {source}, its shape should be {wanted} for windows over {operand}",
                fix="give one element for each of the second operand, or to scatter, for each window",
            )
        return source.update(shape=counts if name == "select_and_gather_add" else operand.shape)

    return infer


def _beats(candidate: Any, best: Any, select: Primitive) -> Any:
    """Whether a later element is to be chosen: it is more extreme, or the first NaN."""
    if not dtypes.is_inexact(aval_of(best).dtype):
        return (gt_p if select is ge_p else lt_p).bind(candidate, best)
    behind = (le_p if select is ge_p else ge_p).bind(candidate, best)  # false if one is NaN
    return and_p.bind(not_p.bind(behind), eq_p.bind(best, best))


def _gather_expand(tangents: Any, operand: Any, *, select_prim: Primitive, **params: Any) -> Any:
    geometry = _geometry(params)
    if 0 in _counts(operand, geometry):
        return full(_counts(operand, geometry), 0, aval_of(tangents).dtype)

    def combine(first: list[Any], second: list[Any]) -> list[Any]:
        later = _beats(second[0], first[0], select_prim)
        return [select_n_p.bind(later, a, b) for a, b in zip(first, second, strict=True)]

    fills = _identity_of(select_prim)(aval_of(operand).dtype), aval_of(tangents).dtype.type(0)
    return folded(combine, (operand, tangents), fills, geometry)[1]


def _chosen(operand: Any, select: Primitive, geometry: Sequence[Window]) -> Any:
    """Number of the first extreme element of each window, as `_first_extreme`, in int32."""
    counts = _counts(operand, geometry)
    numbers = [full(counts, k, dtypes.int32) for k, _ in enumerate(places(geometry))]
    values = taps(operand, _identity_of(select)(aval_of(operand).dtype), geometry)

    def combine(first: list[Any], second: list[Any]) -> list[Any]:
        later = _beats(second[0], first[0], select)
        return [select_n_p.bind(later, a, b) for a, b in zip(first, second, strict=True)]

    return functools.reduce(combine, map(list, zip(values, numbers, strict=True)))[1]


def _scatter_expand(source: Any, operand: Any, *, select_prim: Primitive, **params: Any) -> Any:
    """Σₖ source[p] where element k of window p is the chosen one, at the place of that element."""
    geometry, dtype = _geometry(params), aval_of(source).dtype
    shape, counts = aval_of(operand).shape, aval_of(source).shape
    wide = accumulator(dtype)
    if not aval_of(source).size or not aval_of(operand).size:
        return full(shape, 0, dtype)
    which = _chosen(operand, select_prim, geometry)
    if all((w.size, w.dilation, w.base_dilation) == (w.stride, 1, 1) for w in geometry):
        return _scattered_apart(source, which, shape, geometry)
    if math.prod(w.size for w in geometry) < 128:
        which = convert_element_type(which, dtypes.int8)  # it is read many times
    nowhere = np.array(-1, aval_of(which).dtype)
    zero = zero_of(source)
    numbers = {place: k for k, place in enumerate(places(geometry))}
    back = transposed(shape, counts, geometry)

    def of_phase(chosen: list[Phase], shape: Sequence[int]) -> Any:
        seen = [[*range(w.size)][p.taps] for p, w in zip(chosen, geometry, strict=True)]
        total: Any = None
        for j, from_end in zip(places([p.window for p in chosen]), itertools.product(*seen), strict=True):
            k = numbers[tuple(w.size - 1 - i for w, i in zip(geometry, from_end, strict=True))]
            here, added = (tap(x, f, [p.window for p in chosen], j) for x, f in ((which, nowhere), (source, zero)))
            mask = eq_p.bind(convert_element_type(here, dtypes.int32), full(shape, k, dtypes.int32))
            term = select_n_p.bind(mask, full(shape, 0, wide), convert_element_type(added, wide))
            total = term if total is None else add_any(total, term)
        return full(shape, 0, wide) if total is None else total

    parts = [phases(n, w, even=True) for n, w in zip(counts, back, strict=True)]
    return convert_element_type(by_phases(parts, shape, of_phase), dtype)


def _scattered_apart(source: Any, which: Any, shape: Sizes, geometry: Sequence[Window]) -> Any:
    """The scatter of windows that lie side by side: each element belongs to one window."""
    counts, sizes = aval_of(source).shape, [w.size for w in geometry]
    zero = full(counts, 0, aval_of(source).dtype)
    chosen = (eq_p.bind(which, full(counts, k, dtypes.int32)) for k in range(math.prod(sizes)))
    parts = [select_n_p.bind(here, zero, source) for here in chosen]
    whole = interleave(parts, sizes, [n * k for n, k in zip(counts, sizes, strict=True)])
    config = [(-w.low, n + w.low - m * w.size, 0) for n, m, w in zip(shape, counts, geometry, strict=True)]
    return pad(whole, zero_of(whole), config)


def _selection(name: str, evaluate: Any, expand: Any, other: Callable[[], Primitive]) -> Primitive:
    """Declare a selection, linear in its first operand and constant in its second; `other` is its transpose."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
        ans = primitive.bind(*primals, **params)
        (t, _) = tangents
        if type(t) is Zero or aval_of(t).dtype == dtypes.float0:
            return ans, Zero(aval_of(ans).tangent())
        return ans, primitive.bind(t, primals[1], **params)

    def transpose(ct: Any, source: Any, operand: Any, **params: Any) -> list[Any]:
        return [other().bind(ct, operand, **params), None]

    primitive = Primitive(
        name,
        infer=_selection_infer(name),
        evaluate=evaluate,
        jvp=jvp,
        transpose=transpose,
        batch=_batched(lambda: primitive),
        lowering=Rewrite(expand),
    )
    return primitive


select_and_gather_add_p = _selection(
    "select_and_gather_add", _gather_evaluate, _gather_expand, lambda: select_and_scatter_add_p
)
select_and_scatter_add_p = _selection(
    "select_and_scatter_add", _scatter_evaluate, _scatter_expand, lambda: select_and_gather_add_p
)


def reduce_window(
    primitive: Primitive,
    x: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Any:
    """Fold the windows of `x` by one of the primitives of this module."""
    given = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    return primitive.bind(x, **dict(zip(_NAMES, map(tuple, given), strict=True)))
