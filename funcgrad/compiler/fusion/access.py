"""How an operand reads memory: the variable that stores its value, and the affine access to the elements."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from funcgrad.compiler.fusion.groups import Shape
from funcgrad.core.jaxprs import Atom, JaxprEqn
from funcgrad.core.lowering import Strided, contiguous


class Access(NamedTuple):
    """A value as an operand sees it: the variable or literal that holds it, and the affine access to its elements."""

    source: Atom
    view: Strided

    def __str__(self) -> str:
        aval, (shape, strides, offset) = self.source.aval, self.view
        if self.view == contiguous(aval.shape):
            return str(aval)
        return f"{aval} as {list(shape)} by {list(strides)}{f' from {offset}' if offset else ''}"


@functools.lru_cache(maxsize=4096)
def without_units(view: Strided) -> Strided:
    """Drop dimensions of size 1, which do not move the access."""
    kept = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    return Strided(tuple(n for n, _ in kept), tuple(s for _, s in kept), view.offset)


def squeezed(shape: Iterable[int]) -> Shape:
    """Return a shape without its 1s."""
    return tuple(n for n in shape if n != 1)


def is_contiguous(view: Strided) -> bool:
    """Whether an access reads elements that are side by side, in order, from whatever offset."""
    plain = without_units(view)
    return plain.strides == contiguous(plain.shape).strides


def is_whole(view: Strided, shape: Shape) -> bool:
    """Whether an access reads all of a buffer of `shape` in order, in whatever shape."""
    return is_contiguous(view) and not view.offset and math.prod(view.shape) == math.prod(shape)


class Rows(NamedTuple):
    """The one-dimensional slices of an access along an axis: `outer` × `inner` of them, of `length` elements.

    Element j of row (o, i) is at offset + o·strides[0] + j·strides[1] + i·strides[2].
    """

    outer: int
    length: int
    inner: int
    strides: tuple[int, int, int]
    offset: int

    @property
    def number(self) -> int:
        """The number of rows."""
        return self.outer * self.inner

    @property
    def backward(self) -> Rows:
        """The rows from their last elements on."""
        outer, step, inner = self.strides
        return self._replace(strides=(outer, -step, inner), offset=self.offset + step * (self.length - 1))

    @property
    def swapped(self) -> Rows:
        """The same rows, those before the axis after it and the reverse."""
        return Rows(self.inner, self.length, self.outer, self.strides[::-1], self.offset)

    def cut(self, blocks: int) -> tuple[Rows, Rows]:
        """Blocks of one row as rows side by side, and the elements that are left over at its end."""
        (_, step, _), length = self.strides, self.length // blocks
        rest = Rows(1, self.length - blocks * length, 1, (0, step, 0), self.offset + step * blocks * length)
        return Rows(1, length, blocks, (0, step, step * length), self.offset), rest


def rows(view: Strided, axis: int) -> Rows | None:
    """Return the rows along an axis, or None where the dimensions before or after it have more than one stride."""
    before, after = (_joined(view, dims) for dims in (range(axis), range(axis + 1, len(view.shape))))
    if before is None or after is None:
        return None
    strides = (before[1], view.strides[axis], after[1])
    return Rows(before[0], view.shape[axis], after[0], strides, view.offset)


def _joined(view: Strided, dims: Iterable[int]) -> tuple[int, int] | None:
    """The size and the stride of adjacent dimensions as one."""
    size, stride = 1, 0
    for d in reversed(dims := [d for d in dims if view.shape[d] != 1]):
        if size == 1:
            size, stride = view.shape[d], view.strides[d]
        elif view.strides[d] == stride * size:
            size *= view.shape[d]
        else:
            return None
    return size, stride


def row_axis(eqn: JaxprEqn) -> int:
    """The axis along which an operation with kernels of its own works."""
    return eqn.params["axis"] if "axis" in eqn.params else eqn.params["dimension"]
