"""The geometry of windows that slide over an array: sizes, padding, and which elements a window sees.

Along one dimension, window p sees the elements at

    t = p · stride + k · dilation − low,    k = 0 … window − 1,

of an operand whose elements are `base_dilation` apart, with `low` and `high` padding before and after it. Convolutions
and windowed reductions share this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcgrad.errors import ArgumentError, ShapeError

Pads = tuple[tuple[int, int], ...]
Sizes = tuple[int, ...]


class Window(NamedTuple):
    """How a window slides along one dimension."""

    size: int
    stride: int = 1
    low: int = 0
    high: int = 0
    base_dilation: int = 1
    dilation: int = 1

    @property
    def span(self) -> int:
        """How many elements the window covers, with the gaps between those that it sees."""
        return dilated(self.size, self.dilation)

    def padded(self, n: int) -> int:
        """Return the size of an operand of `n` elements, dilated and padded."""
        return dilated(n, self.base_dilation) + self.low + self.high

    def count(self, n: int) -> int:
        """Return how many windows fit into an operand of `n` elements."""
        return max(0, (self.padded(n) - self.span) // self.stride + 1)


def windows(
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> list[Window]:
    """Return one `Window` per dimension."""
    rows = zip(sizes, strides, padding, base_dilation, window_dilation, strict=True)
    return [Window(n, s, low, high, base, dilation) for n, s, (low, high), base, dilation in rows]


def dilated(n: int, dilation: int) -> int:
    """Return the size of `n` elements that are `dilation` apart.

    >>> dilated(3, 2)
    5
    """
    return (n - 1) * dilation + 1 if n else 0


def as_sizes(operation: str, name: str, values: Any, rank: int, least: int = 1) -> Sizes:
    """Return one integer per dimension, none smaller than `least`."""
    try:
        sizes = tuple(int(v) for v in values)
        whole = all(a == b for a, b in zip(sizes, values, strict=True))
    except (TypeError, ValueError):
        whole, sizes = False, ()
    if not whole or len(sizes) != rank or any(n < least for n in sizes):
        raise ArgumentError(
            f"{operation}: {name} is {values!r} for {rank} dimensions",
            fix=f"give {rank} integers of at least {least}",
        )
    return sizes


def as_pads(operation: str, padding: Any, rank: int) -> Pads:
    """Return explicit padding as one pair of integers per dimension."""
    try:
        pads = tuple((int(low), int(high)) for low, high in padding)
    except (TypeError, ValueError):
        pads = ()
    if isinstance(padding, str) or len(pads) != rank:
        raise ArgumentError(
            f"{operation}: padding is {padding!r} for {rank} dimensions",
            fix=f"give 'SAME', 'SAME_LOWER', 'VALID' or {rank} pairs (low, high)",
        )
    return pads


def padtype_to_pads(
    in_shape: Sequence[int], window_shape: Sequence[int], window_strides: Sequence[int], padding: str
) -> list[tuple[int, int]]:
    """Return the (low, high) padding of each dimension that the name of a padding stands for.

    "VALID" pads nothing. "SAME" pads such that there are ⌈size / stride⌉ windows, half before and half after; the odd
    one goes after, with "SAME_LOWER" before.

    >>> padtype_to_pads((5, 8), (3, 2), (1, 2), "SAME")
    [(1, 1), (0, 0)]
    """
    kind = padding.upper() if isinstance(padding, str) else padding
    if kind not in ("VALID", "SAME", "SAME_LOWER"):
        raise ArgumentError(
            f"padtype_to_pads: padding is {padding!r}", fix="give 'SAME', 'SAME_LOWER', 'VALID' or pairs (low, high)"
        )
    if kind == "VALID":
        return [(0, 0)] * len(in_shape)
    pads = []
    for n, window, stride in zip(in_shape, window_shape, window_strides, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + window - n)
        less, more = int(total // 2), int(total - total // 2)
        pads.append((less, more) if kind == "SAME" else (more, less))
    return pads


def check_windows(operation: str, operand: Any, shape: Sequence[int], geometry: Sequence[Window]) -> Sizes:
    """Return how many windows there are in each dimension; raise if padding leaves less than one window.

    Windows of one element fit into an empty dimension, none times.
    """
    for n, w in zip(shape, geometry, strict=True):
        if w.padded(n) < 0:
            raise ShapeError(
                f"{operation}: padding {(w.low, w.high)} is more than a dimension of size {n} of {operand}",
                fix="crop less: low + high must be at least minus the size",
            )
        if w.padded(n) < w.span and w.size > 1:
            raise ShapeError(
                f"{operation}: a window of {_spanning(w)} does not fit into a dimension of size {n} of {operand}, "
                f"padded to {w.padded(n)}",
                fix="make the window smaller or the padding larger",
            )
    return tuple(w.count(n) for n, w in zip(shape, geometry, strict=True))


def _spanning(w: Window) -> str:
    return f"{w.size}" if w.dilation == 1 else f"{w.size} with dilation {w.dilation}, spanning {w.span},"


def transposed(sizes: Sequence[int], counts: Sequence[int], geometry: Sequence[Window]) -> list[Window]:
    """Return the windows of windows that see an element: over `counts` of them, with the elements in reverse order.

    These are the windows of the transpose of a convolution, and of a windowed sum, over an operand of `sizes`.
    """
    out = []
    for n, m, w in zip(sizes, counts, geometry, strict=True):
        low = w.span - 1 - w.low
        high = dilated(n, w.base_dilation) + w.span - 1 - dilated(m, w.stride) - low
        out.append(Window(w.size, w.base_dilation, low, high, w.stride, w.dilation))
    return out


# ---------------------------------------------------------------- windows of NumPy arrays


def padded_by(x: np.ndarray, pads: Sequence[tuple[int, int]], value: Any, interior: Sequence[int] = ()) -> np.ndarray:
    """Return `x` with padding around the last `len(pads)` dimensions, `interior` many between neighbors."""
    interior = interior or (0,) * len(pads)
    if not any(map(any, pads)) and not any(interior):
        return x
    lead = x.ndim - len(pads)
    sizes = [dilated(n, i + 1) for n, i in zip(x.shape[lead:], interior, strict=True)]
    shape = [n + low + high for n, (low, high) in zip(sizes, pads, strict=True)]
    out = np.full((*x.shape[:lead], *shape), value, x.dtype)
    into, of = [...], [...]
    for n, m, (low, _), i in zip(x.shape[lead:], shape, pads, interior, strict=True):
        step = i + 1
        first = -(-max(0, -low) // step)
        last = min(n, -(-(m - low) // step))
        if last <= first:
            return out
        of.append(slice(first, last))
        into.append(slice(low + first * step, low + (last - 1) * step + 1, step))
    out[tuple(into)] = x[tuple(of)]
    return out


def sliding(x: np.ndarray, counts: Sequence[int], geometry: Sequence[Window]) -> np.ndarray:
    """View the windows of the last dimensions of a padded array: `(…, *counts, *window sizes)`, read-only."""
    lead = x.ndim - len(geometry)
    steps = x.strides[lead:]
    shape = (*x.shape[:lead], *counts, *(w.size for w in geometry))
    strides = (
        *x.strides[:lead],
        *(s * w.stride for s, w in zip(steps, geometry, strict=True)),
        *(s * w.dilation for s, w in zip(steps, geometry, strict=True)),
    )
    return as_strided(x, shape, strides, writeable=False)


# ---------------------------------------------------------------- dilated operands


class Phase(NamedTuple):
    """The windows first, first + step, … that see the same elements `taps` of the window; one dimension.

    They are the windows of the operand without base dilation that `window` describes.
    """

    first: int
    step: int
    taps: slice
    window: Window


def phases(n: int, w: Window, even: bool = False) -> list[Phase]:
    """Split the windows over a dilated operand of `n` elements into such that see no gap between its elements.

    With base dilation b, element k of window p is at p·stride + k·dilation − low, and this is an element of the operand
    where it is a multiple of b. For p = first + step·i and k = tap + gap·j it stays one or none, with step =
    b / gcd(b, stride) and gap = b / gcd(b, dilation). A phase without elements has `taps` that select nothing.
    `even`: all phases have equally many windows, of which the last may be beyond the `w.count(n)`.
    """
    base, count = w.base_dilation, w.count(n)
    step, gap = base // math.gcd(base, w.stride), base // math.gcd(base, w.dilation)
    out = []
    for first in range(min(step, count)):
        start = first * w.stride - w.low
        here = [k for k in range(min(gap, w.size)) if (start + k * w.dilation) % base == 0]
        tap = here[0] if here else w.size
        taps = slice(tap, w.size, gap)
        size, many = len(range(w.size)[taps]), -(-count // min(step, count)) if even else len(range(first, count, step))
        stride, dilation = step * w.stride // base, gap * w.dilation // base
        low = -(start + tap * w.dilation) // base
        high = (many - 1) * stride + dilated(size, dilation) - n - low
        out.append(Phase(first, step, taps, Window(size, stride, low, high, 1, dilation)))
    return out
