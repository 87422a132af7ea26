"""Discrete Fourier transforms of the last axes: y[k] = Σⱼ x[j] exp(−2πi j·k / n), their inverses, and those of real x.

SciPy's pocketfft computes them, without the interpreter's lock and with the threads of funcgrad for large batches. It
exports no function that machine code could call, so compiled programs call it from Python.
"""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import DTypeError, ShapeError
from funcgrad.ops.arithmetic import conj, mul_p
from funcgrad.ops.shapes import broadcast_in_dim, leading

_WORTH_A_THREAD = 1 << 15  # elements


class FftType(enum.IntEnum):
    """The kinds of transforms: complex, inverse, real to complex, and the inverse of that."""

    FFT = 0
    IFFT = 1
    RFFT = 2
    IRFFT = 3


def _stored(lengths: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the transform of real numbers, whose other half is conjugate."""
    return (*lengths[:-1], lengths[-1] // 2 + 1)


def _infer(x: ShapedArray, *, fft_type: FftType, fft_lengths: tuple[int, ...]) -> ShapedArray:
    real = fft_type is FftType.RFFT
    if x.dtype not in ((dtypes.float32, dtypes.float64) if real else (dtypes.complex64, dtypes.complex128)):
        wanted = "float32 or float64" if real else "complex64 or complex128"
        raise DTypeError(f"fft: {fft_type.name} of {x}", fix=f"cast it to {wanted} with .astype(...)")
    batch, sizes = x.shape[: x.ndim - len(fft_lengths)], x.shape[x.ndim - len(fft_lengths) :]
    taken = _stored(fft_lengths) if fft_type is FftType.IRFFT else fft_lengths
    if sizes != taken or 0 in fft_lengths:
        raise ShapeError(
            f"fft: {fft_type.name} of {x} with lengths {fft_lengths}",
            fix=f"its last axes must be {taken}, and not empty",
        )
    if fft_type is FftType.IRFFT:
        return ShapedArray((*batch, *fft_lengths), dtypes.real_dtype(x.dtype))
    return ShapedArray((*batch, *(_stored(fft_lengths) if real else sizes)), np.result_type(x.dtype, np.complex64))


def _evaluate(x: np.ndarray, *, fft_type: FftType, fft_lengths: tuple[int, ...]) -> np.ndarray:
    from scipy import fft  # heavy: only when a transform is computed

    axes = tuple(range(x.ndim - len(fft_lengths), x.ndim))
    transform = {FftType.FFT: fft.fftn, FftType.IFFT: fft.ifftn, FftType.RFFT: fft.rfftn, FftType.IRFFT: fft.irfftn}
    threads = config.num_threads or len(os.sched_getaffinity(0))
    workers = max(1, min(threads, x.size // _WORTH_A_THREAD))
    return transform[fft_type](x, s=fft_lengths, axes=axes, workers=workers)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    return fft_p.bind(*primals, **params), fft_p.bind(*tangents, **params)


def _transpose(ct: Any, x: Any, *, fft_type: FftType, fft_lengths: tuple[int, ...]) -> list[Any]:
    """Complex transforms are symmetric. For real x, every stored element but the first and the middle stands for two:

    Rᵀ ct = n · irfft(conj(ct) / weights), and its inverse's is weights · conj(rfft(ct)) / n.
    """
    if type(ct) is Zero:
        return [ct]
    n = math.prod(fft_lengths)
    if fft_type is FftType.RFFT:
        weighted = _times(conj(ct), n / _weights(fft_lengths[-1]))
        return [fft_p.bind(weighted, fft_type=FftType.IRFFT, fft_lengths=fft_lengths)]
    if fft_type is FftType.IRFFT:
        spectrum = fft_p.bind(ct, fft_type=FftType.RFFT, fft_lengths=fft_lengths)
        return [_times(conj(spectrum), _weights(fft_lengths[-1]) / n)]
    return [fft_p.bind(ct, fft_type=fft_type, fft_lengths=fft_lengths)]


def _weights(length: int) -> np.ndarray:
    weights = np.full(length // 2 + 1, 2.0)
    weights[0] = 1
    if length % 2 == 0:
        weights[-1] = 1
    return weights


def _times(x: Any, weights: np.ndarray) -> Any:
    """The product with weights along the last axis."""
    aval = aval_of(x)
    return mul_p.bind(x, broadcast_in_dim(weights.astype(aval.dtype), aval.shape, (aval.ndim - 1,)))


def _batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> tuple[Any, int]:
    return fft_p.bind(*leading(args, dims), **params), 0


fft_p = Primitive("fft", infer=_infer, evaluate=_evaluate, jvp=_jvp, transpose=_transpose, batch=_batch)
