"""Arrays with spatial axes: where the channels are, and sizes for each spatial axis."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_int
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.layer import Layer, Shape, constructor

P = ParamSpec("P")
Sizes = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]

_SPACE = {1: "length", 2: "height, width", 3: "depth, height, width"}


def ranked(name: str, make: Callable[Concatenate[int, P], Layer]) -> list[Callable[P, Layer]]:
    """Return the constructors of a layer in 1, 2 and 3 spatial dimensions, which is the first argument of `make`."""
    rank, *parameters = inspect.signature(make).parameters.values()

    def of_rank(n: int) -> Callable[P, Layer]:
        def construct(*args: P.args, **kwargs: P.kwargs) -> Layer:
            return make(n, *args, **kwargs)

        construct.__name__ = construct.__qualname__ = f"{name}{n}d"
        construct.__module__ = make.__module__
        construct.__doc__ = (make.__doc__ or "").replace("SPACE", _SPACE[n])
        construct.__signature__ = inspect.Signature(parameters)  # ty: ignore[missing-attribute]
        return constructor(construct)

    return [of_rank(n) for n in _SPACE]


def as_channels(channels: str, layer: str) -> str:
    """Return "last" or "first"."""
    if channels not in ("last", "first"):
        raise ArgumentError(f"{layer}: channels is {channels!r}", fix="choose 'last' or 'first'")
    return channels


def channel_axis(ndim: int, channels: str) -> int:
    """Return the axis of the channels in a batch."""
    return 1 if channels == "first" else ndim - 1


def spatial_axes(ndim: int, channels: str) -> tuple[int, ...]:
    """Return the spatial axes of a batch."""
    return tuple(range(2, ndim) if channels == "first" else range(1, ndim - 1))


def with_space(sizes: Sequence[Any], other: Any, channels: str) -> tuple[Any, ...]:
    """Return one entry for each axis of a batch: `sizes` for the spatial axes, and `other` for batch and channels."""
    return (other, other, *sizes) if channels == "first" else (other, *sizes, other)


def per_channel(values: Any, ndim: int, channels: str) -> Any:
    """Return an array of shape (channels,) that broadcasts with a batch of `ndim` dimensions."""
    return jnp.reshape(values, (-1, *(1,) * (ndim - 2))) if channels == "first" and ndim > 2 else values


def as_sizes(values: Sizes, rank: int, what: str, layer: str, least: int = 1) -> tuple[int, ...]:
    """Return one integer for each spatial axis, from one for all or a sequence."""
    given = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,) * rank
    sizes = tuple(as_int(n, what, layer) for n in given)
    if len(sizes) != rank or any(n < least for n in sizes):
        raise ArgumentError(
            f"{layer}: {what} is {values!r}", fix=f"give an integer of at least {least}, or a sequence of {rank}"
        )
    return sizes


def as_padding(padding: Padding, rank: int, layer: str) -> str | tuple[tuple[int, int], ...]:
    """Return "SAME", "SAME_LOWER", "VALID", or (low, high) for each spatial axis."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
            raise ArgumentError(
                f"{layer}: padding is {padding!r}", fix="give 'SAME', 'VALID', numbers, or pairs (low, high)"
            )
        return padding.upper()
    if isinstance(padding, Sequence) and padding and all(isinstance(pair, Sequence) for pair in padding):
        pairs = [as_sizes(pair, 2, "padding", layer, 0) for pair in padding]
        if len(pairs) != rank:
            raise ArgumentError(f"{layer}: padding is {padding!r}", fix=f"give {rank} pairs (low, high)")
        return tuple((low, high) for low, high in pairs)
    return tuple((n, n) for n in as_sizes(padding, rank, "padding", layer, 0))  # ty: ignore[invalid-argument-type]


def check_example(in_shape: Shape, rank: int, layer: str, channels: str) -> None:
    """Raise unless a shape of one example has the spatial axes of a layer and its channels."""
    if len(in_shape) != rank + 1:
        raise ShapeError(
            f"{layer}: in_shape {in_shape} has {len(in_shape)} dimensions, not {rank + 1}",
            fix=f"the shape of one example is ({_axes(rank, channels)})",
        )


def check_rank(x: Any, rank: int, layer: str, channels: str) -> None:
    """Raise unless a batch has the spatial axes of a layer."""
    if x.ndim != rank + 2:
        raise ShapeError(
            f"{layer}: the input {x.aval} has {x.ndim} dimensions, not {rank + 2}",
            fix=f"pass a batch of shape (batch, {_axes(rank, channels)})",
        )


def _axes(rank: int, channels: str) -> str:
    return f"channels, {_SPACE[rank]}" if channels == "first" else f"{_SPACE[rank]}, channels"
