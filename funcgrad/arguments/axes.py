"""Axes, shapes and numbers that users pass: checked; static integers become Python ints, axes count from the front."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError


def as_int(value: Any, what: str, operation: str) -> int:
    """Return a static integer argument as an int; traced values raise with the remedy, floats are refused."""
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, Tracer):
            raise
        raise ArgumentError(
            f"{operation}: {what} is {value!r:.60} of type {type(value).__name__}", fix="pass an integer"
        ) from None


def as_number(value: Any, what: str, operation: str, interval: str = "") -> Any:
    """Return a real number, or a 0-d array of one that may be traced, as it is; if known, it is in the interval.

    >>> as_number(0.9, "momentum", "sgd", "[0, 1)")
    0.9
    """
    array = isinstance(value, (ArrayLike, np.ndarray)) and not value.ndim
    if not (array or isinstance(value, (int, float, np.number))) or dtypes.is_complex(aval_of(value).dtype):
        fix = "pass a number"
        if callable(value):
            fix = "pass a number, not a function: of the options, only learning rates may be schedules"
        raise ArgumentError(f"{operation}: {what} is {value!r:.60} of type {type(value).__name__}", fix=fix)
    known = value.concrete() if isinstance(value, Tracer) else value
    if interval and known is not None and not _within(known, interval):
        raise ArgumentError(f"{operation}: {what} is {known}", fix=f"give a number in {interval}")
    return value


def _within(value: Any, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return bool(above and (value <= high if interval[-1] == "]" else value < high))


def as_shape(shape: Any, operation: str) -> tuple[int, ...]:
    """Return a shape argument, an int or a sequence of ints, as a tuple; sizes are not negative."""
    if isinstance(shape, Sequence) or (isinstance(shape, np.ndarray) and shape.ndim):
        sizes = tuple(as_int(n, "a size in shape", operation) for n in shape)
    else:
        sizes = (as_int(shape, "shape", operation),)
    if any(n < 0 for n in sizes):
        raise ArgumentError(f"{operation}: shape {sizes} has a negative size", fix="sizes count elements: 0 or more")
    return sizes


def as_axis(axis: Any, ndim: int, operation: str) -> int:
    """Return one axis counted from the front.

    >>> as_axis(-1, 3, "sum")
    2
    """
    found = as_int(axis, "axis", operation)
    if not -ndim <= found < ndim:
        raise ArgumentError(
            f"{operation}: axis {found} is out of range for an array of {ndim} dimensions",
            fix=f"choose axis in [{-ndim}, {ndim})" if ndim else "a 0-d array has no axes: drop the axis argument",
        )
    return found % ndim


def axis_list(axis: Any) -> Sequence[Any]:
    """Return one axis or several, in a sequence or a vector, as a sequence."""
    if isinstance(axis, Sequence) or (isinstance(axis, (np.ndarray, ArrayLike)) and axis.ndim == 1):
        return axis
    return (axis,)


def as_axes(axis: Any, ndim: int, operation: str) -> tuple[int, ...]:
    """Return axes counted from the front; None stands for all of them."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(as_axis(a, ndim, operation) for a in axis_list(axis))
    if len(set(axes)) != len(axes):
        raise ArgumentError(f"{operation}: axis {axes} names an axis twice", fix="give each axis once")
    return axes
