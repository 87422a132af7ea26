"""Random keys, and random bits: the Threefry-2x32 hash.

A counter-based generator: block i of a stream is hash(key, i), so that bits need no state, may be drawn in any order
and in parallel, and independent streams are other keys.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import DTypeError
from funcgrad.ops import shapes, slicing
from funcgrad.ops.arithmetic import add_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import batch_elementwise, common_shape
from funcgrad.ops.logic import or_p, shift_left_p, shift_right_logical_p, xor_p

# ---------------------------------------------------------------- keys and their words


def _move_batch_first(primitive: Primitive, args: Sequence[Any], dims: Sequence[Any]) -> tuple[Any, int]:
    return primitive.bind(*shapes.leading(args, dims)), 0


def _without_derivative(primitive: Primitive, primals: Sequence[Any]) -> tuple[Any, Any]:
    out = primitive.bind(*primals)
    return out, Zero(aval_of(out).tangent())


def _wrap_infer(words: ShapedArray) -> ShapedArray:
    if words.dtype != dtypes.uint32 or words.shape[-1:] != (2,):
        raise DTypeError(f"random_wrap: {words} is not uint32[..., 2]", fix="make keys with funcgrad.random.key")
    return ShapedArray(words.shape[:-1], dtypes.key)


def _wrap_expand(words: Any) -> Any:
    low, high = (convert_element_type(_word_of(words, i), dtypes.uint64) for i in range(2))
    return or_p.bind(low, shift_left_p.bind(high, shapes.full((), 32, dtypes.uint64)))


def _word_of(words: Any, i: int) -> Any:
    """Return word 0 or 1 of keys, from an array of words, uint32[*shape, 2]."""
    shape = aval_of(words).shape[:-1]
    word = slicing.slice_(words, (*[0] * len(shape), i), (*shape, i + 1))
    return shapes.squeeze(word, (len(shape),))


random_wrap_p = Primitive(
    "random_wrap",
    infer=_wrap_infer,
    evaluate=lambda words: np.ascontiguousarray(words).view(dtypes.key)[..., 0],
    jvp=lambda primals, tangents: _without_derivative(random_wrap_p, primals),
    batch=lambda axis, args, dims: _move_batch_first(random_wrap_p, args, dims),
    lowering=Rewrite(_wrap_expand),
    may_make_nan=False,
)
"""words: uint32[*shape, 2] → keys: key<fry>[*shape]. To the compiler, a key is a uint64 with the same bytes."""


def _unwrap_infer(keys: ShapedArray) -> ShapedArray:
    if keys.dtype is not dtypes.key:
        raise DTypeError(f"random_unwrap: {keys} has no keys", fix="make keys with funcgrad.random.key")
    return ShapedArray((*keys.shape, 2), dtypes.uint32)


def _unwrap_expand(keys: Any) -> Any:
    high = shift_right_logical_p.bind(keys, shapes.full((), 32, dtypes.uint64))
    words = (convert_element_type(x, dtypes.uint32) for x in (keys, high))
    rank = aval_of(keys).ndim
    return slicing.concatenate([shapes.expand_dims(word, (rank,)) for word in words], rank)


random_unwrap_p = Primitive(
    "random_unwrap",
    infer=_unwrap_infer,
    evaluate=lambda keys: keys["fry"],
    jvp=lambda primals, tangents: _without_derivative(random_unwrap_p, primals),
    batch=lambda axis, args, dims: _move_batch_first(random_unwrap_p, args, dims),
    lowering=Rewrite(_unwrap_expand),
    may_make_nan=False,
)
"""keys: key<fry>[*shape] → words: uint32[*shape, 2]."""


# ---------------------------------------------------------------- the hash


ROUNDS = 20
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # Skein's key-schedule constant, its low 32 bits
_BLOCK = 1 << 13  # counters hashed at a time by the NumPy rule, so that its temporaries stay in cache
_FEW = 8  # counters up to which Python's integers are faster


def _infer(key0: ShapedArray, key1: ShapedArray, count0: ShapedArray, count1: ShapedArray) -> list[ShapedArray]:
    avals = (key0, key1, count0, count1)
    for i, aval in enumerate(avals):
        if aval.dtype != dtypes.uint32:
            raise DTypeError(
                f"threefry2x32: operand {i} has type {aval}; keys and counters are uint32",
                fix="make keys with funcgrad.random.key, or cast with .astype('uint32')",
            )
    return [ShapedArray(common_shape("threefry2x32", avals), dtypes.uint32)] * 2


class _Arithmetic(NamedTuple):
    """The operations of the rounds, on one representation of 32-bit words."""

    add: Callable[[Any, Any], Any]
    xor: Callable[[Any, Any], Any]
    rotate_left: Callable[[Any, int], Any]
    word: Callable[[int], Any]


def _rounds(on: _Arithmetic, key0: Any, key1: Any, left: Any, right: Any) -> list[Any]:
    """Twenty rounds (l, r) → (l + r, rotate(r) ^ (l + r)); before them and after each four, keys are added in turn."""
    keys = (key0, key1, on.xor(on.xor(key0, key1), on.word(_PARITY)))
    left, right = on.add(left, key0), on.add(right, key1)
    for group in range(ROUNDS // 4):
        for bits in _ROTATIONS[group % 2]:
            left = on.add(left, right)
            right = on.xor(on.rotate_left(right, bits), left)
        left = on.add(left, keys[(group + 1) % 3])
        right = on.add(right, on.add(keys[(group + 2) % 3], on.word(group + 1)))
    return [left, right]


_ON_INTEGERS = _Arithmetic(
    add=lambda x, y: (x + y) & 0xFFFFFFFF,
    xor=operator.xor,
    rotate_left=lambda x, bits: ((x << bits) | (x >> (32 - bits))) & 0xFFFFFFFF,
    word=int,
)
_ON_ARRAYS = _Arithmetic(
    add=np.add,
    xor=np.bitwise_xor,
    rotate_left=lambda x, bits: (x << np.uint32(bits)) | (x >> np.uint32(32 - bits)),
    word=np.uint32,
)


def _word(value: int) -> Any:
    return shapes.full((), value, dtypes.uint32)


_ON_PRIMITIVES = _Arithmetic(
    add=add_p.bind,
    xor=xor_p.bind,
    rotate_left=lambda x, bits: or_p.bind(
        shift_left_p.bind(x, _word(bits)), shift_right_logical_p.bind(x, _word(32 - bits))
    ),
    word=_word,
)


def _evaluate(*operands: np.ndarray) -> list[np.ndarray]:
    shape = next((x.shape for x in operands if x.shape), ())
    out = np.empty((2, math.prod(shape)), np.uint32)
    flat = [x.reshape(-1) if x.shape else x for x in operands]
    if out.shape[1] <= _FEW:
        # The overhead of a NumPy operation equals about ten operations on Python integers.
        words = [x.tolist() if x.shape else [x.item()] * out.shape[1] for x in flat]
        for i, word in enumerate(zip(*words, strict=True)):
            out[:, i] = _rounds(_ON_INTEGERS, *word)
    else:
        for start in range(0, out.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            out[:, block] = _rounds(_ON_ARRAYS, *(x[block] if x.shape else x for x in flat))
    return [x.reshape(shape) for x in out]


def _expand(*operands: Any) -> list[Any]:
    shape = common_shape("threefry2x32", [aval_of(x) for x in operands])
    key0, key1, *counts = operands
    return _rounds(_ON_PRIMITIVES, key0, key1, *(shapes.broadcast_scalar(c, shape) for c in counts))


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    out = threefry2x32_p.bind(*primals)
    return out, [Zero(aval_of(x).tangent()) for x in out]


def _batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any]) -> tuple[list[Any], list[int]]:
    out, dim = batch_elementwise(threefry2x32_p, axis.size, args, dims)
    return out, [dim, dim]


threefry2x32_p = Primitive(
    "threefry2x32",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    batch=_batch,
    lowering=Rewrite(_expand),
    multiple_results=True,
)


def threefry2x32(key0: Any, key1: Any, count0: Any, count1: Any) -> list[Any]:
    """Hash pairs of 32-bit counters under 64-bit keys; the operands have one shape, or are scalars.

    >>> import numpy as np
    >>> zero, ones = np.uint32(0), np.uint32(0xFFFFFFFF)
    >>> [hex(int(x)) for x in threefry2x32(zero, zero, zero, zero)]
    ['0x6b200159', '0x99ba4efe']
    >>> [hex(int(x)) for x in threefry2x32(ones, ones, ones, ones)]
    ['0x1cb996fc', '0xbb002be7']
    """
    return threefry2x32_p.bind(key0, key1, count0, count1)


def counters(shape: Sequence[int]) -> tuple[Any, Any]:
    """Return the 64-bit integers 0, 1, 2, … in row-major order as two words, (high, low)."""
    shape = tuple(shape)
    size = math.prod(shape)
    if not shape:
        return _word(0), _word(0)
    if size <= 1 << 32:
        return _word(0), shapes.reshape(slicing.iota(dtypes.uint32, (size,), 0), shape)
    wide = shapes.reshape(slicing.iota(dtypes.uint64, (size,), 0), shape)
    high = shift_right_logical_p.bind(wide, shapes.full((), 32, dtypes.uint64))
    return tuple(convert_element_type(x, dtypes.uint32) for x in (high, wide))
