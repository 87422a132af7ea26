"""Reductions over axes: sums and products, maxima and minima, logic, means and variances, cumulative sums."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axes, as_axis
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_inexact
from funcgrad.core.avals import refuse_keys
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.composite import where
from funcgrad.ops import reductions as rd
from funcgrad.ops import shapes, slicing
from funcgrad.ops.arithmetic import complex_p
from funcgrad.ops.casts import convert_element_type

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "average",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]

# ---------------------------------------------------------------- shared helpers


def _restore_axes(out: Any, x: Any, axes: Sequence[int], keepdims: bool) -> Any:
    """Restore the reduced axes with size 1 if `keepdims`."""
    return shapes.expand_dims(out, tuple(axes)) if keepdims and axes else out


def _check_out(out: Any, operation: str) -> None:
    if out is not None:
        raise ArgumentError(f"{operation}: out= was given", fix="arrays are immutable: use the returned array")


def _where_mask(mask: Any, x: Any, operation: str) -> Any:
    mask = as_operand(mask, operation)
    if mask.aval.dtype != dtypes.bool_:
        raise ArgumentError(f"{operation}: where has type {mask.aval}", fix="pass a bool array")
    return mask


def _masked(x: Any, mask: Any, identity: Any, operation: str) -> Any:
    """Replace the elements outside the mask by the identity of the reduction."""
    if mask is None:
        return x
    value = shapes.full((), identity, x.aval.dtype, x.aval.weak_type)
    return uf.pick(_where_mask(mask, x, operation), x, value, operation)


def _summed_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a sum: integers narrower than the default integer are widened to it, keeping their signedness."""
    if dtype == dtypes.bool_:
        return dtypes.canonicalize(int)
    default = dtypes.canonicalize(np.uint64 if dtype.kind == "u" else np.int64)
    return default if dtypes.is_integer(dtype) and dtype.itemsize < default.itemsize else dtype


def _sum_or_prod(
    a: Any,
    axis: Any,
    dtype: Any,
    keepdims: bool,
    initial: Any,
    mask: Any,
    promote_integers: bool,
    *,
    operation: str,
    fold: Callable[..., Any],
    identity: int,
    combine: Callable[..., Any],
) -> Any:
    """Sum or product: convert, mask, reduce, combine with the initial value."""
    x = as_operand(a, operation)
    axes = as_axes(axis, x.aval.ndim, operation)
    own = x.aval.dtype
    target = dtypes.requested(dtype, operation) if dtype is not None else None
    result = target or (_summed_dtype(own) if promote_integers or own == dtypes.bool_ else own)
    # 16-bit floats are accumulated in float32, together with the initial value, and rounded once at the end.
    working = rd.accumulator(result)
    x = convert_element_type(x, working, x.aval.weak_type)
    out = fold(_masked(x, mask, identity, operation), axes)
    if initial is not None:
        out = combine(out, convert_element_type(as_operand(initial, operation), working))
    return _restore_axes(convert_element_type(out, result), x, axes, keepdims)


def sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    promote_integers: bool = True,
) -> Any:
    """Sum over axes, by default all. Narrow integers are summed in the default integer, narrow floats in float32.

    >>> import funcgrad.numpy as jnp
    >>> sum(jnp.ones((2, 3)), axis=1)
    Array([3., 3.], dtype=float32)
    """
    _check_out(out, "sum")
    return _sum_or_prod(
        a,
        axis,
        dtype,
        keepdims,
        initial,
        where,
        promote_integers,
        operation="sum",
        fold=shapes.reduce_sum,
        identity=0,
        combine=uf.add,
    )


def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    promote_integers: bool = True,
) -> Any:
    """Product over axes, by default all. The dtype is as for `sum`."""
    _check_out(out, "prod")
    return _sum_or_prod(
        a,
        axis,
        dtype,
        keepdims,
        initial,
        where,
        promote_integers,
        operation="prod",
        fold=rd.reduce_prod,
        identity=1,
        combine=uf.multiply,
    )


# ---------------------------------------------------------------- maxima and minima


def _minmax(a: Any, axis: Any, keepdims: bool, initial: Any, mask: Any, operation: str) -> Any:
    largest = operation == "max"
    x = as_operand(a, operation)
    axes = as_axes(axis, x.aval.ndim, operation)
    if mask is not None and initial is None:
        raise ArgumentError(
            f"{operation}: where= may exclude all elements, and there is no initial=",
            fix="pass initial=, the result for no elements",
        )
    if initial is None and builtins.any(x.aval.shape[d] == 0 for d in axes):
        raise ShapeError(
            f"{operation}: axes {axes} of {x.aval} are empty, and an empty set has no {operation}imum",
            fix="pass initial=, or check the size first",
        )
    if dtypes.is_complex(x.aval.dtype):
        out = _complex_minmax(x, axes, keepdims, mask, operation)
        return out if initial is None else (uf.maximum if largest else uf.minimum)(out, initial)
    refuse_keys(operation, x.aval)
    identity = (rd.lowest if largest else rd.highest)(x.aval.dtype)
    out = (rd.reduce_max if largest else rd.reduce_min)(_masked(x, mask, identity, operation), axes)
    if initial is not None:
        out = (uf.maximum if largest else uf.minimum)(
            out, convert_element_type(as_operand(initial, operation), x.aval.dtype)
        )
    return _restore_axes(convert_element_type(out, x.aval.dtype), x, axes, keepdims)


def _complex_minmax(x: Any, axes: Sequence[int], keepdims: bool, mask: Any, operation: str) -> Any:
    """Lexicographic order: the extreme real part, then the extreme imaginary part among the elements that have it."""
    fold, worst = (rd.reduce_max, -math.inf) if operation == "max" else (rd.reduce_min, math.inf)
    re, im = _masked(uf.real(x), mask, worst, operation), uf.imag(x)
    top = fold(re, axes)
    among = uf.equal(re, broadcast_to(shapes.expand_dims(top, axes) if axes else top, re.aval.shape))
    second = fold(where(among, im, worst), axes)
    return _restore_axes(complex_p.bind(top, second), x, axes, keepdims)


def max(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Any:
    """Maximum over axes, by default all. NaN if any element is NaN.

    Raises:
      ShapeError: a reduced axis is empty and there is no `initial`.
    """
    _check_out(out, "max")
    return _minmax(a, axis, keepdims, initial, where, "max")


def min(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Any:
    """Minimum over axes, by default all. NaN if any element is NaN.

    Raises:
      ShapeError: a reduced axis is empty and there is no `initial`.
    """
    _check_out(out, "min")
    return _minmax(a, axis, keepdims, initial, where, "min")


amax, amin = max, min


def ptp(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
    """Range over axes, by default all: max − min."""
    _check_out(out, "ptp")
    return uf.subtract(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


def _argminmax(a: Any, axis: Any, keepdims: Any, operation: str) -> Any:
    x = as_operand(a, operation)
    find = rd.argmax if operation == "argmax" else rd.argmin
    ndim = x.aval.ndim
    if axis is None:
        x, at = shapes.reshape(x, (x.aval.size,)), 0
    else:
        at = as_axis(axis, ndim, operation)
    out = find(x, at, dtypes.canonicalize(int))
    if not keepdims:
        return out
    return shapes.reshape(out, (1,) * ndim) if axis is None else shapes.expand_dims(out, (at,))


def argmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Any:
    """Index of the first maximum along an axis, or in the flattened array. NaN counts as the maximum.

    >>> import funcgrad.numpy as jnp
    >>> argmax(jnp.array([1, 3, 3]))
    Array(1, dtype=int32)
    """
    _check_out(out, "argmax")
    return _argminmax(a, axis, keepdims, "argmax")


def argmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Any:
    """Index of the first minimum along an axis, or in the flattened array. NaN counts as the minimum."""
    _check_out(out, "argmin")
    return _argminmax(a, axis, keepdims, "argmin")


# ---------------------------------------------------------------- logic and counts


def _reduce_logical(
    a: Any, axis: Any, keepdims: bool, mask: Any, fold: Callable[..., Any], identity: bool, operation: str
) -> Any:
    x = uf._truth(a, operation)
    axes = as_axes(axis, x.aval.ndim, operation)
    return _restore_axes(fold(_masked(x, mask, identity, operation), axes), x, axes, keepdims)


def all(a: Any, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None) -> Any:
    """Whether all elements over axes are nonzero."""
    _check_out(out, "all")
    return _reduce_logical(a, axis, keepdims, where, rd.reduce_and, True, "all")


def any(a: Any, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None) -> Any:
    """Whether any element over axes is nonzero."""
    _check_out(out, "any")
    return _reduce_logical(a, axis, keepdims, where, rd.reduce_or, False, "any")


def count_nonzero(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Number of nonzero elements over axes."""
    return sum(uf._truth(a, "count_nonzero"), axis, keepdims=keepdims, dtype=int)


# ---------------------------------------------------------------- means and variances


def _count(x: Any, axes: Sequence[int], mask: Any, operation: str) -> Any:
    """The number of elements per result: an int, or an array if there is a mask."""
    if mask is None:
        return math.prod(x.aval.shape[d] for d in axes)
    mask = broadcast_to(_where_mask(mask, x, operation), x.aval.shape)
    return sum(mask, tuple(axes), dtype=int, keepdims=True) if axes else convert_element_type(mask, dtypes.int32)


def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Any:
    """Arithmetic mean over axes, by default all. 16-bit floats are averaged in float32."""
    _check_out(out, "mean")
    return _mean(a, axis, dtype, keepdims, where, "mean")


def _mean(a: Any, axis: Any, dtype: Any, keepdims: bool, mask: Any, operation: str) -> Any:
    x = as_operand(a, operation)
    axes = as_axes(axis, x.aval.ndim, operation)
    result = dtypes.inexact(x.aval.dtype) if dtype is None else dtypes.requested(dtype, operation)
    working = rd.accumulator(dtypes.inexact(result))
    count = _count(x, axes, mask, operation)
    total = sum(convert_element_type(x, working, x.aval.weak_type), axes, keepdims=True, where=mask)
    count = count if isinstance(count, int) else convert_element_type(count, dtypes.real_dtype(working))
    out = convert_element_type(uf.divide(total, count), result)
    return out if keepdims else shapes.squeeze(out, axes)


def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, keepdims: bool = False) -> Any:
    """Weighted mean over axes: Σ w a / Σ w. With `returned`, also return Σ w.

    `weights` have the shape of `a`, or are a vector along a single `axis`.
    """
    if weights is None:
        (a,) = promote_inexact(a, operation="average")
        out = mean(a, axis, keepdims=keepdims)
        count = a.aval.size // builtins.max(1, out.aval.size) if a.aval.size else 0
        total = shapes.full(out.aval.shape, count, out.aval.dtype)
        return (out, total) if returned else out
    a, weights = promote_inexact(a, weights, operation="average")
    axes = as_axes(axis, a.aval.ndim, "average")
    if a.aval.shape != weights.aval.shape:
        if weights.aval.ndim != 1 or len(axes) != 1 or weights.aval.shape[0] != a.aval.shape[axes[0]]:
            raise ShapeError(
                f"average: weights {weights.aval} do not fit {a.aval} along axis {axis}",
                fix="weights must have the shape of the array, or be a vector along a single axis",
            )
        weights = broadcast_to(
            shapes.expand_dims(weights, [d for d in range(a.aval.ndim) if d != axes[0]]), a.aval.shape
        )
    total = sum(weights, axes, keepdims=keepdims)
    out = uf.divide(sum(uf.multiply(a, weights), axes, keepdims=keepdims), total)
    return (out, total) if returned else out


def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """Variance over axes, by default all: Σ|x − x̄|² / (n − ddof); NaN where n ≤ ddof."""
    _check_out(out, "var")
    return _variance(a, axis, dtype, ddof if correction is None else correction, keepdims, where, mean, "var")


def _variance(a: Any, axis: Any, dtype: Any, ddof: Any, keepdims: bool, mask: Any, center: Any, operation: str) -> Any:
    x = as_operand(a, operation)
    axes = as_axes(axis, x.aval.ndim, operation)
    target = None if dtype is None else dtypes.requested(dtype, operation)
    if target is not None and dtypes.is_complex(x.aval.dtype) and not dtypes.is_complex(target):
        raise DTypeError(
            f"{operation}: {x.aval} is complex, dtype {target.name} is not", fix="take the absolute value first"
        )
    result = dtypes.real_dtype(dtypes.inexact(target or x.aval.dtype))
    working = rd.accumulator(
        dtypes.inexact(x.aval.dtype if target is None else dtypes.promote(((x.aval.dtype, False), (target, False)))[0])
    )
    x = convert_element_type(x, working, x.aval.weak_type)
    if center is None:
        center = _mean(x, axes, None, True, mask, operation)
    centered = uf.subtract(x, center)
    squares = uf.real(uf.multiply(centered, uf.conj(centered))) if dtypes.is_complex(working) else uf.square(centered)
    count = uf.subtract(
        convert_element_type(as_operand(_count(x, axes, mask, operation), operation), squares.aval.dtype), ddof
    )
    out = uf.divide(sum(squares, axes, keepdims=True, where=mask), count)
    out = where(uf.greater(count, 0), out, math.nan)
    out = convert_element_type(out, result)
    return out if keepdims else shapes.squeeze(out, axes)


def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """Standard deviation over axes, by default all: the square root of `var`."""
    _check_out(out, "std")
    return uf.sqrt(_variance(a, axis, dtype, ddof if correction is None else correction, keepdims, where, mean, "std"))


# ---------------------------------------------------------------- cumulative


def _cumulative(a: Any, axis: int | None, dtype: Any, fold: Callable[..., Any], operation: str) -> Any:
    x = as_operand(a, operation)
    if axis is None:
        x, axis = shapes.reshape(x, (x.aval.size,)), 0
    axis = as_axis(axis, x.aval.ndim, operation)
    if dtype is not None:
        x = convert_element_type(x, dtypes.requested(dtype, operation))
    elif x.aval.dtype == dtypes.bool_:
        x = convert_element_type(x, dtypes.canonicalize(int))
    return convert_element_type(fold(x, axis), x.aval.dtype)


def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Cumulative sum along an axis, or of the flattened array."""
    _check_out(out, "cumsum")
    return _cumulative(a, axis, dtype, rd.cumsum, "cumsum")


def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Cumulative product along an axis, or of the flattened array."""
    _check_out(out, "cumprod")
    return _cumulative(a, axis, dtype, rd.cumprod, "cumprod")


def _with_initial(
    x: Any, axis: int | None, dtype: Any, include_initial: bool, fold: Any, first: int, operation: str
) -> Any:
    x = as_operand(x, operation)
    if axis is None and x.aval.ndim != 1:
        raise ArgumentError(f"{operation}: {x.aval} is not a vector and axis is None", fix="pass axis=")
    axis = as_axis(0 if axis is None else axis, x.aval.ndim, operation)
    out = _cumulative(x, axis, dtype if dtype or first else _summed_dtype(x.aval.dtype), fold, operation)
    if not include_initial:
        return out
    config = [(0, 0, 0)] * out.aval.ndim
    config[axis] = (1, 0, 0)
    return slicing.pad(out, np.full((), first, out.aval.dtype), config)


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Any:
    """Cumulative sum along an axis; with `include_initial`, the result starts with 0."""
    return _with_initial(x, axis, dtype, include_initial, rd.cumsum, 0, "cumulative_sum")


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Any:
    """Cumulative product along an axis; with `include_initial`, the result starts with 1."""
    return _with_initial(x, axis, dtype, include_initial, rd.cumprod, 1, "cumulative_prod")
