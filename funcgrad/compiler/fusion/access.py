"""How an operand reads memory: the variable that stores its value, and the affine access to the elements."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from funcgrad.compiler.fusion.groups import Shape
from funcgrad.core.jaxprs import Atom
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
