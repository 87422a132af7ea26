"""interleave: arrays of one shape as every nth element of one array.

    out[i · factors + j] = parts[j][i],

with the indices j within the factors in row-major order. What would be beyond `shape` is left out. The compiler writes
each part in place, in one loop with the operations that make it.

The compiler puts this in the place of windows and convolutions over dilated operands. It is no operation of users, and
has no derivative: it comes after all transforms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Interleave
from funcgrad.core.primitives import Primitive
from funcgrad.ops.slicing import slice_

Sizes = tuple[int, ...]


def _infer(*parts: ShapedArray, factors: Sizes, shape: Sizes) -> ShapedArray:
    return ShapedArray(shape, parts[0].dtype)


def _evaluate(*parts: Any, factors: Sizes, shape: Sizes) -> Any:
    out = np.empty(shape, parts[0].dtype)
    for j, part in zip(np.ndindex(*factors), parts, strict=True):
        into = out[tuple(slice(at, None, f) for at, f in zip(j, factors, strict=True))]
        into[...] = part[tuple(map(slice, into.shape))]
    return out


interleave_p = Primitive("interleave", infer=_infer, evaluate=_evaluate, lowering=Interleave())


def interleave(parts: Sequence[Any], factors: Sequence[int], shape: Sequence[int]) -> Any:
    """Return the array that the parts are interleaved to; there are as many of them as the product of `factors`."""
    if math.prod(factors) == 1:
        whole = aval_of(parts[0]).shape
        return parts[0] if whole == tuple(shape) else slice_(parts[0], [0] * len(shape), shape)
    return interleave_p.bind(*parts, factors=tuple(factors), shape=tuple(shape))
