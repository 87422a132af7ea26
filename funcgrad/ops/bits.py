"""Reinterpretation of the bytes of an array as another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.ops.arithmetic import complex_p, imag_p, mul_p, real_p
from funcgrad.ops.casts import bitcast_convert_type_p, convert_element_type
from funcgrad.ops.logic import ne_p, shift_left_p, shift_right_logical_p
from funcgrad.ops.shapes import broadcast_in_batch, expand_dims, reduce_sum, reshape, squeeze
from funcgrad.ops.slicing import concatenate, iota, slice_


def view(x: Any, dtype: np.dtype) -> Any:
    """Reinterpret the bytes as another dtype. If the itemsizes differ, the size of the last axis changes accordingly.

    >>> view(np.ones(2, np.float32), dtypes.uint16)
    Array([    0, 16256,     0, 16256], dtype=uint16)
    """
    have, shape = aval_of(x).dtype, aval_of(x).shape
    if dtype == have:
        return x
    if dtype.itemsize != have.itemsize and (not shape or shape[-1] * have.itemsize % dtype.itemsize):
        raise ArgumentError(
            f"view: the last axis of {aval_of(x)} does not divide into elements of {dtype.name}",
            fix="choose a dtype whose width divides the bytes of the last axis",
        )
    # Complex numbers are viewed as pairs of floats instead of bits, so that the view is differentiable.
    if not shape:
        return reshape(view(reshape(x, (1,)), dtype), ())
    if dtypes.is_complex(have):
        pairs = concatenate([expand_dims(p.bind(x), (len(shape),)) for p in (real_p, imag_p)], len(shape))
        return view(reshape(pairs, (*shape[:-1], 2 * shape[-1])), dtype)
    if dtypes.is_complex(dtype):
        parts = view(x, dtypes.real_dtype(dtype))
        pairs = reshape(parts, (*shape[:-1], aval_of(parts).shape[-1] // 2, 2))
        return complex_p.bind(_part(pairs, 0), _part(pairs, 1))
    return _from_bits(_resized(_to_bits(x), dtype.itemsize), dtype)


def _part(pairs: Any, i: int) -> Any:
    """Return pairs[..., i]."""
    *lead, _ = aval_of(pairs).shape
    return squeeze(slice_(pairs, (*(0 for _ in lead), i), (*lead, i + 1)), (len(lead),))


def _unsigned(width: int) -> np.dtype:
    return np.dtype(f"u{width}")


def _bitcast(x: Any, dtype: np.dtype) -> Any:
    return x if aval_of(x).dtype == dtype else bitcast_convert_type_p.bind(x, new_dtype=dtype)


def _to_bits(x: Any) -> Any:
    """Return unsigned integers with the bits of x."""
    dtype = aval_of(x).dtype
    return convert_element_type(x, dtypes.uint8) if dtype == dtypes.bool_ else _bitcast(x, _unsigned(dtype.itemsize))


def _from_bits(x: Any, dtype: np.dtype) -> Any:
    return ne_p.bind(x, aval_of(x).dtype.type(0)) if dtype == dtypes.bool_ else _bitcast(x, dtype)


def _resized(x: Any, width: int) -> Any:
    """Split or merge unsigned integers into integers of `width` bytes, low bytes first."""
    *lead, n = aval_of(x).shape
    have = aval_of(x).dtype.itemsize
    if have == width:
        return x
    narrow, wide = _unsigned(min(have, width)), _unsigned(max(have, width))
    factor = wide.itemsize // narrow.itemsize
    step = wide.type(8 * narrow.itemsize)
    if width < have:
        parts = broadcast_in_batch(x, factor, len(lead) + 1)
        shifts = mul_p.bind(iota(wide, aval_of(parts).shape, len(lead) + 1), step)
        return reshape(convert_element_type(shift_right_logical_p.bind(parts, shifts), narrow), (*lead, n * factor))
    parts = convert_element_type(reshape(x, (*lead, n // factor, factor)), wide)
    shifts = mul_p.bind(iota(wide, aval_of(parts).shape, len(lead) + 1), step)
    return reduce_sum(shift_left_p.bind(parts, shifts), (len(lead) + 1,))
