"""numpy.pad with all its modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, broadcast_to
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, UnsupportedError
from funcgrad.numpy import creation, reductions
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.quantiles import median
from funcgrad.numpy.ufuncs import rint
from funcgrad.ops import shapes, slicing
from funcgrad.ops.casts import convert_element_type

__all__ = [
    "pad",
]

_STATISTICS = {"maximum": reductions.max, "minimum": reductions.min, "mean": reductions.mean, "median": median}
_OPTIONS = {
    "constant": {"constant_values"},
    "edge": set(),
    "wrap": set(),
    "empty": set(),
    "linear_ramp": {"end_values"},
    "reflect": {"reflect_type"},
    "symmetric": {"reflect_type"},
    **{m: {"stat_length"} for m in _STATISTICS},
}


def pad(array: Any, pad_width: Any, mode: str | Callable[..., Any] = "constant", **kwargs: Any) -> Any:
    """Pad an array at the edges of its axes.

    `pad_width` is n, (before, after), or one such pair per axis. The modes, with their options in parentheses, are
    "constant" (constant_values), "edge", "reflect" and "symmetric" (reflect_type), "wrap", "linear_ramp" (end_values),
    "maximum", "minimum", "mean" and "median" (stat_length), "empty", or a function as for numpy.pad.

    >>> import funcgrad.numpy as jnp
    >>> pad(jnp.arange(1, 4), (2, 1), "reflect")
    Array([3, 2, 1, 2, 3, 2], dtype=int32)
    """
    x = creation.asarray(array) if isinstance(array, (list, tuple)) else as_operand(array, "pad")
    widths = _pairs(pad_width, x.aval.ndim, "pad_width", int)
    if any(n < 0 for pair in widths for n in pair):
        raise ArgumentError(f"pad: pad_width {pad_width} is negative", fix="slice the array to crop it")
    if callable(mode):
        return _pad_by_function(x, widths, mode, kwargs)
    if mode not in _OPTIONS:
        raise UnsupportedError(f"pad: mode={mode!r}", fix=f"use one of {', '.join(map(repr, _OPTIONS))}")
    if unknown := set(kwargs) - _OPTIONS[mode]:
        raise ArgumentError(
            f"pad: mode {mode!r} does not take {', '.join(sorted(unknown))}",
            fix=f"it takes {', '.join(_OPTIONS[mode]) or 'no options'}",
        )
    if mode == "constant":
        return _constant(x, widths, kwargs.get("constant_values", 0))
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = _AXIS[mode](x, axis, before, after, **_axis_options(kwargs, axis, x.aval.ndim))
    return x


def _pairs(value: Any, ndim: int, name: str, kind: Any = lambda v: v) -> list[tuple[Any, Any]]:
    """Return one (before, after) pair per axis from n, (n,), (before, after), or a list of pairs."""
    if isinstance(value, dict):
        given = [(0, 0)] * ndim
        for axis, pair in value.items():
            given[axis] = tuple(np.broadcast_to(pair, (2,)).tolist())
        return given
    try:
        found = np.broadcast_to(np.asarray(value), (ndim, 2)).tolist()
        if kind is int and np.asarray(value).dtype.kind not in "iu" and np.asarray(value).size:
            raise ValueError
    except ValueError:
        raise ArgumentError(
            f"pad: {name}={value!r:.60} does not fit an array of {ndim} dimensions",
            fix="give n, (before, after), or one (before, after) per axis",
        ) from None
    return [(kind(a), kind(b)) for a, b in found]


def _axis_options(kwargs: dict[str, Any], axis: int, ndim: int) -> dict[str, Any]:
    """The options for one axis, where those may differ by axis."""
    out = dict(kwargs)
    if "end_values" in out:
        out["end_values"] = _pairs(out["end_values"], ndim, "end_values")[axis]
    if out.get("stat_length") is not None:
        out["stat_length"] = _pairs(out["stat_length"], ndim, "stat_length", int)[axis]
    return out


def _constant(x: Any, widths: list[tuple[int, int]], values: Any) -> Any:
    ndim = x.aval.ndim
    operand = creation.asarray(values)
    if aval_of(operand).ndim == 0:
        value = convert_element_type(operand, x.aval.dtype, x.aval.weak_type)
        return slicing.pad(x, value, [(lo, hi, 0) for lo, hi in widths])
    per_axis = broadcast_to(operand, (ndim, 2))
    for axis, (before, after) in enumerate(widths):
        for side, n in enumerate((before, after)):
            config = [(0, 0, 0)] * ndim
            config[axis] = (n, 0, 0) if side == 0 else (0, n, 0)
            x = slicing.pad(x, convert_element_type(per_axis[axis, side], x.aval.dtype), config)
    return x


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    lo, hi = [0] * x.aval.ndim, list(x.aval.shape)
    lo[axis], hi[axis] = start, stop
    return slicing.slice_(x, lo, hi)


def _spread(x: Any, axis: int, n: int) -> Any:
    """Repeat a slice of size 1 along its axis."""
    shape = (*x.aval.shape[:axis], n, *x.aval.shape[axis + 1 :])
    return broadcast_to(x, shape)


def _not_empty(x: Any, axis: int, mode: str) -> int:
    n = x.aval.shape[axis]
    if n == 0:
        raise ArgumentError(
            f"pad: axis {axis} of {x.aval} is empty: mode {mode!r} has nothing to repeat", fix="use mode='constant'"
        )
    return n


def _edge(x: Any, axis: int, before: int, after: int) -> Any:
    n = _not_empty(x, axis, "edge")
    first, last = _part(x, axis, 0, 1), _part(x, axis, n - 1, n)
    return concatenate([_spread(first, axis, before), x, _spread(last, axis, after)], axis)


def _wrap(x: Any, axis: int, before: int, after: int) -> Any:
    n = _not_empty(x, axis, "wrap")
    turns_before, turns_after = -(-before // n), -(-after // n)
    long = concatenate([x] * (turns_before + 1 + turns_after), axis)
    return _part(long, axis, turns_before * n - before, (turns_before + 1) * n + after)


def _mirror(x: Any, axis: int, before: int, after: int, reflect_type: str, repeat_edge: bool, mode: str) -> Any:
    n = _not_empty(x, axis, mode)
    if n == 1 and not repeat_edge:
        return _edge(x, axis, before, after)
    if reflect_type not in ("even", "odd"):
        raise ArgumentError(f"pad: reflect_type={reflect_type!r}", fix="use 'even' or 'odd'")
    skip = 0 if repeat_edge else 1
    while before or after:
        size = x.aval.shape[axis]
        lo, hi = min(before, size - skip), min(after, size - skip)
        head = shapes.rev(_part(x, axis, skip, skip + lo), (axis,))
        tail = shapes.rev(_part(x, axis, size - skip - hi, size - skip), (axis,))
        if reflect_type == "odd":
            head = uf.subtract(uf.multiply(_part(x, axis, 0, 1), 2), head)
            tail = uf.subtract(uf.multiply(_part(x, axis, size - 1, size), 2), tail)
        x = concatenate([head, x, tail], axis)
        before, after = before - lo, after - hi
    return x


def _reflect(x: Any, axis: int, before: int, after: int, reflect_type: str = "even") -> Any:
    return _mirror(x, axis, before, after, reflect_type, False, "reflect")


def _symmetric(x: Any, axis: int, before: int, after: int, reflect_type: str = "even") -> Any:
    return _mirror(x, axis, before, after, reflect_type, True, "symmetric")


def _linear_ramp(x: Any, axis: int, before: int, after: int, end_values: tuple = (0, 0)) -> Any:
    n, dtype = _not_empty(x, axis, "linear_ramp"), x.aval.dtype

    def ramp(end: Any, edge: Any, count: int) -> Any:
        line = creation.linspace(end, shapes.squeeze(edge, (axis,)), count, endpoint=False, axis=axis)
        return convert_element_type(line, dtype)

    head = ramp(end_values[0], _part(x, axis, 0, 1), before)
    tail = shapes.rev(ramp(end_values[1], _part(x, axis, n - 1, n), after), (axis,))
    return concatenate([head, x, tail], axis)


def _statistic(name: str) -> Callable[..., Any]:
    def padded(x: Any, axis: int, before: int, after: int, stat_length: tuple[int, int] | None = None) -> Any:
        n = _not_empty(x, axis, name)
        lo, hi = (min(length, n) for length in (stat_length or (n, n)))
        if lo < 1 or hi < 1:
            raise ArgumentError(f"pad: stat_length {stat_length} is not positive", fix="use 1 or more elements")
        compute = _STATISTICS[name]
        sides = [compute(part, axis=axis, keepdims=True) for part in (_part(x, axis, 0, lo), _part(x, axis, n - hi, n))]
        if dtypes.is_integer(x.aval.dtype):
            sides = [rint(s) for s in sides]
        first, last = (convert_element_type(s, x.aval.dtype) for s in sides)
        return concatenate([_spread(first, axis, before), x, _spread(last, axis, after)], axis)

    return padded


def _empty(x: Any, axis: int, before: int, after: int) -> Any:
    config = [(0, 0, 0)] * x.aval.ndim
    config[axis] = (before, after, 0)
    return slicing.pad(x, np.zeros((), x.aval.dtype), config)


_AXIS: dict[str, Callable[..., Any]] = {
    "edge": _edge,
    "wrap": _wrap,
    "reflect": _reflect,
    "symmetric": _symmetric,
    "linear_ramp": _linear_ramp,
    "empty": _empty,
    **{name: _statistic(name) for name in _STATISTICS},
}


def _pad_by_function(
    x: Any, widths: list[tuple[int, int]], function: Callable[..., Any], kwargs: dict[str, Any]
) -> Any:
    """Pad by a function, with NumPy's protocol: it maps (padded vector, widths, axis, options) to the vector."""
    x = _constant(x, widths, 0)
    for axis, width in enumerate(widths):
        moved = shapes.move_axis(x, axis, x.aval.ndim - 1)
        rows = shapes.reshape(
            moved, (-1 if not moved.aval.size else moved.aval.size // moved.aval.shape[-1], moved.aval.shape[-1])
        )
        new = [creation.asarray(function(rows[i], width, axis, kwargs)) for i in range(aval_of(rows).shape[0])]
        stacked = concatenate([shapes.expand_dims(row, (0,)) for row in new], 0)
        x = shapes.move_axis(shapes.reshape(stacked, moved.aval.shape), x.aval.ndim - 1, axis)
    return x
