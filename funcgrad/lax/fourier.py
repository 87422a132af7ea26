"""Discrete Fourier transforms of the last axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.lax.operands import as_operand
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.fft import FftType as FftType
from funcgrad.ops.fft import fft_p as fft_p

__all__ = ["FftType", "fft", "fft_p"]


def fft(x: Any, fft_type: FftType | str, fft_lengths: Sequence[int]) -> Any:
    """Transform the last axes of x, whose sizes are `fft_lengths`; those of the result if `fft_type` is IRFFT.

    FFT is Σⱼ x[j] exp(−2πi j·k / n), IFFT its inverse; RFFT takes real x and returns the first half of the last axis,
    IRFFT is the inverse of that.

    >>> import funcgrad.numpy as jnp
    >>> fft(jnp.array([1.0, 0.0, 0.0, 0.0]), "rfft", (4,))
    Array([1.+0.j, 1.+0.j, 1.+0.j], dtype=complex64)
    """
    if isinstance(fft_type, str):
        if fft_type.upper() not in FftType.__members__:
            raise ArgumentError(f"fft: fft_type={fft_type!r}", fix=f"use one of {', '.join(FftType.__members__)}")
        fft_type = FftType[fft_type.upper()]
    x = as_operand(x, "fft")
    dtype = aval_of(x).dtype
    if not dtypes.is_inexact(dtype):
        dtype = dtypes.canonicalize(float)
    if fft_type is not FftType.RFFT:
        dtype = np.result_type(dtype, np.complex64)
    x = convert_element_type(x, dtype)
    lengths = tuple(int(n) for n in fft_lengths)
    return fft_p.bind(x, fft_type=fft_type, fft_lengths=lengths) if lengths else x
