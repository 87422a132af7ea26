"""Reinterpret the bytes of an array as another dtype; pack bits into bytes and unpack them."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand, broadcast_to
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import refuse_keys
from funcgrad.errors import ArgumentError, DTypeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.ops import bits as ops_bits
from funcgrad.ops import casts, shapes, slicing

__all__ = [
    "packbits",
    "unpackbits",
]


def view(x: Any, dtype: Any = None) -> Any:
    """Reinterpret the bytes as another dtype. If the itemsizes differ, the size of the last axis changes accordingly.

    >>> import funcgrad.numpy as jnp
    >>> view(jnp.ones(2, jnp.float32), jnp.uint16)
    Array([    0, 16256,     0, 16256], dtype=uint16)
    """
    x = as_operand(x, "view")
    refuse_keys("view", x.aval)
    return ops_bits.view(x, dtypes.requested(dtype or x.aval.dtype, "view"))


def _bit_order(bitorder: str, operation: str, ndim: int) -> Any:
    """Return the place of each bit in a byte, along the last of `ndim` axes."""
    if bitorder not in ("big", "little"):
        raise ArgumentError(f"{operation}: bitorder={bitorder!r}", fix="use 'big' or 'little'")
    places = slicing.iota(dtypes.uint8, (1,) * (ndim - 1) + (8,), ndim - 1)
    return places if bitorder == "little" else shapes.rev(places, (ndim - 1,))


def packbits(a: Any, axis: int | None = None, bitorder: str = "big") -> Any:
    """Pack the truth values along an axis into uint8, eight per byte. The last byte is padded with zeros.

    Without `axis`, the array is flattened. `bitorder` says whether the first value is the highest bit ("big") or the
    lowest ("little").

    >>> import numpy as np
    >>> packbits(np.array([True, False, True]))
    Array([160], dtype=uint8)
    """
    a = as_operand(a, "packbits")
    if not (dtypes.is_integer(a.aval.dtype) or a.aval.dtype == dtypes.bool_):
        raise DTypeError(f"packbits: operand has type {a.aval}", fix="pass integers or bools")
    if axis is None:
        a, axis = shapes.reshape(a, (a.aval.size,)), 0
    axis = as_axis(axis, a.aval.ndim, "packbits")
    bits = shapes.move_axis(casts.convert_element_type(uf.not_equal(a, 0), dtypes.uint8), axis, a.aval.ndim - 1)
    *lead, n = aval_of(bits).shape
    bits = slicing.pad(bits, np.zeros((), np.uint8), [*[(0, 0, 0)] * len(lead), (0, -n % 8, 0)])
    grouped = shapes.reshape(bits, (*lead, -(-n // 8), 8))
    packed = shapes.reduce_sum(
        uf.left_shift(grouped, _bit_order(bitorder, "packbits", len(lead) + 2)), (len(lead) + 1,)
    )
    return shapes.move_axis(packed, len(lead), axis)


def unpackbits(a: Any, axis: int | None = None, count: int | None = None, bitorder: str = "big") -> Any:
    """Unpack each uint8 into its eight bits along an axis.

    `count` is the number of bits to keep: the result is truncated, or padded with zeros. A negative count drops that
    many bits from the end. `bitorder` as in `packbits`.

    >>> import numpy as np
    >>> unpackbits(np.array([160], np.uint8), count=4)
    Array([1, 0, 1, 0], dtype=uint8)
    """
    a = as_operand(a, "unpackbits")
    if a.aval.dtype != dtypes.uint8:
        raise DTypeError(f"unpackbits: operand has type {a.aval}", fix="pass uint8")
    if axis is None:
        a, axis = shapes.reshape(a, (a.aval.size,)), 0
    axis = as_axis(axis, a.aval.ndim, "unpackbits")
    moved = shapes.move_axis(a, axis, a.aval.ndim - 1)
    *lead, n = aval_of(moved).shape
    wide = broadcast_to(shapes.expand_dims(moved, (len(lead) + 1,)), (*lead, n, 8))
    bits = uf.bitwise_and(uf.right_shift(wide, _bit_order(bitorder, "unpackbits", len(lead) + 2)), 1)
    bits = shapes.reshape(bits, (*lead, 8 * n))
    if count is not None:
        size = count if count >= 0 else 8 * n + count
        bits = slicing.pad(bits, np.zeros((), np.uint8), [*[(0, 0, 0)] * len(lead), (0, size - 8 * n, 0)])
    return shapes.move_axis(bits, len(lead), axis)
