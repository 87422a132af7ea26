"""Fourier transforms of the segments of a signal: spectral densities, and the short-time transform with its inverse."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.axes import as_axis, as_int
from funcgrad.arguments.promotion import broadcast_shapes, promote_inexact
from funcgrad.errors import ArgumentError, ShapeError, warn
from funcgrad.scipy.signal import trends

__all__ = ["csd", "istft", "stft", "welch"]


def _window(operation: str, window: Any, size: int | None, longest: int | None, dtype: Any) -> Any:
    """A window: the values given, or those of a name. Without a size, names give windows as long as the signal."""
    if size is not None and size < 1:
        raise ArgumentError(f"{operation}: nperseg={size}", fix="give at least 1 element per segment")
    if isinstance(window, (str, tuple)):
        if longest is not None and size is not None and size > longest:
            warn(f"{operation}: nperseg={size} is longer than the signal; using its size, {longest}")
        size = min(n for n in (size, longest) if n is not None)
        if window == "hann":
            return jnp.asarray(np.sin(np.pi / size * np.arange(size)) ** 2 if size > 1 else np.ones(1), dtype)
        from scipy.signal import get_window  # takes as long to import as all of funcgrad

        return jnp.asarray(get_window(window, size), dtype)
    window = jnp.asarray(window, dtype)
    limit = window.size if longest is None else longest
    if window.ndim != 1 or window.size > limit or size not in (None, window.size):
        raise ShapeError(
            f"{operation}: window {window.aval}, nperseg={size}, a signal of {longest} elements",
            fix="give a vector of nperseg elements, at most as long as the signal",
        )
    return window


def _steps(operation: str, size: int, noverlap: Any, nfft: Any) -> tuple[int, int]:
    """The distance between the starts of segments, and the length of their transforms."""
    overlap = size // 2 if noverlap is None else as_int(noverlap, "noverlap", operation)
    length = size if nfft is None else as_int(nfft, "nfft", operation)
    if overlap >= size or length < size:
        raise ArgumentError(
            f"{operation}: segments of nperseg={size} elements with noverlap={overlap} and nfft={length}",
            fix="give noverlap < nperseg <= nfft",
        )
    return size - overlap, length


def _extended(operation: str, x: Any, boundary: str | None, n: int) -> Any:
    """The signal with n elements more at both ends."""
    modes = {"even": "reflect", "odd": "reflect", "constant": "edge", "zeros": "constant", None: ""}
    if boundary not in modes:
        raise ArgumentError(f"{operation}: boundary={boundary!r}", fix=f"use one of {', '.join(map(repr, modes))}")
    if boundary is None or n == 0:
        return x
    if boundary in ("even", "odd") and n >= x.shape[-1]:
        raise ArgumentError(
            f"{operation}: boundary={boundary!r} reflects {n} elements of {x.shape[-1]}", fix="give a smaller nperseg"
        )
    options = {"reflect_type": boundary} if boundary in ("even", "odd") else {}
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(n, n)], modes[boundary], **options)


def _segments(n: int, size: int, step: int) -> np.ndarray:
    """The indices of the elements of each segment, of shape (segments, size)."""
    return np.arange(0, n - size + 1, step)[:, None] + np.arange(size)


def _trend_remover(operation: str, kind: Any, axis: int) -> Callable[[Any], Any]:
    """A function of segments, of shape (…, segments, size); `axis` is the time axis of the signal."""
    if isinstance(kind, str):
        return functools.partial(trends.detrend, type=kind)
    if callable(kind):
        return lambda d: jnp.moveaxis(kind(jnp.moveaxis(d, -1, axis)), axis, -1) if axis != -1 else kind(d)
    if kind:
        raise ArgumentError(f"{operation}: detrend={kind!r}", fix="use 'constant', 'linear', False or a function")
    return lambda d: d


def _scale(operation: str, window: Any, fs: Any, scaling: str) -> Any:
    if scaling not in ("density", "spectrum"):
        raise ArgumentError(f"{operation}: scaling={scaling!r}", fix="use 'density' or 'spectrum'")
    return 1 / (fs * (window * window).sum()) if scaling == "density" else 1 / window.sum() ** 2


def _padded(x: Any, size: int) -> Any:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


class _Spectra(NamedTuple):
    frequencies: Any
    times: Any
    signals: list[Any]  # the transforms of the segments of each signal, of shape (..., segments, frequencies)
    scale: Any  # from |X|² to powers
    sides: Any  # for each frequency, 2 if it stands for its negative too, otherwise 1


def _signals(operation: str, axis: int, *signals: Any) -> list[Any]:
    """Signals of one dtype and rank with time as the last axis."""
    arrays = promote_inexact(*map(jnp.asarray, signals), operation=operation)
    if len({x.ndim for x in arrays}) > 1:
        raise ShapeError(
            f"{operation}: signals are {' and '.join(str(x.aval) for x in arrays)}", fix="give the same number of axes"
        )
    broadcast_shapes(*(np.delete(x.shape, axis).tolist() for x in arrays), operation=operation)
    return [jnp.moveaxis(x, axis, -1) for x in arrays]


def _spectra(
    operation: str,
    signals: list[Any],
    axis: int,
    *,
    fs: Any,
    window: Any,
    nperseg: Any,
    noverlap: Any,
    nfft: Any,
    detrend: Any,
    return_onesided: bool,
    scaling: str,
    boundary: str | None = None,
    padded: bool = False,
) -> _Spectra:
    dtype, longest = signals[0].dtype, max(x.shape[-1] for x in signals)
    size = None if nperseg is None else as_int(nperseg, "nperseg", operation)
    taps = _window(operation, window, size, signals[0].shape[-1], dtype)
    size = taps.size
    step, length = _steps(operation, size, noverlap, nfft)
    remove, scale = _trend_remover(operation, detrend, axis), _scale(operation, taps, fs, scaling)
    onesided = return_onesided and not dtypes.is_complex(dtype)
    if return_onesided and not onesided:
        warn(f"{operation}: spectra of complex signals have two sides: return_onesided has no effect")

    def transformed(x: Any) -> Any:
        x = _extended(operation, _padded(x, longest), boundary, size // 2)
        if padded:  # until the last segment is complete
            x = _padded(x, x.shape[-1] + (-(x.shape[-1] - size) % step) % size)
        segments = taps * remove(x[..., _segments(x.shape[-1], size, step)])
        return (jnp.fft.rfft if onesided else jnp.fft.fft)(segments, n=length)

    results, real = [transformed(x) for x in signals], dtypes.real_dtype(dtype)
    _, count, bins = results[0].shape[-3:] if results[0].ndim > 2 else (1, *results[0].shape)
    frequencies = (jnp.fft.rfftfreq if onesided else jnp.fft.fftfreq)(length, 1 / fs, dtype=real)
    times = jnp.asarray((0 if boundary is not None else size / 2) + step * np.arange(count), real) / fs
    own_negative = np.isin(np.arange(bins), (0, length / 2))
    sides = jnp.asarray(np.where(own_negative | (not onesided), 1, 2), real)
    return _Spectra(frequencies, times, results, scale, sides)


def csd(
    x: Any,
    y: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> tuple[Any, Any]:
    """Cross spectral density of two signals by Welch's method: the mean of conj(X) Y over overlapping segments.

    `nperseg` is by default the size of the window or, as in JAX, of the signal; `noverlap` is half of it. `scaling` is
    "density", power per frequency, or "spectrum", power. `average` is "mean" or "median". The shorter signal is padded
    with zeros. If y is None, it is x.

    Returns:
      frequencies: from 0 to fs/2 for real signals and `return_onesided`, otherwise as in `numpy.fft.fftfreq`.
      density: complex, or real if y is None; frequencies are at `axis`.

    Source: Welch, "The use of the fast Fourier transform for the estimation of power spectra", 1967.

    >>> import funcgrad.numpy as jnp
    >>> frequencies, density = csd(jnp.arange(8.0) % 2, jnp.arange(8.0) % 4, nperseg=4)
    >>> frequencies
    Array([0.  , 0.25, 0.5 ], dtype=float32)
    """
    if average not in ("mean", "median"):
        raise ArgumentError(f"csd: average={average!r}", fix="use 'mean' or 'median'")
    given, axis = axis, as_axis(axis, jnp.ndim(x), "csd")
    signals = _signals("csd", axis, x, *([] if y is None else [y]))
    options: dict[str, Any] = {"fs": fs, "window": window, "nperseg": nperseg, "noverlap": noverlap, "nfft": nfft}
    options |= {"detrend": detrend, "return_onesided": return_onesided, "scaling": scaling}
    if not all(s.size for s in signals):
        return _nothing(signals, axis, y is None)
    spectra = _spectra("csd", signals, given, **options)
    power = jnp.conj(spectra.signals[0]) * spectra.signals[-1] * spectra.scale * spectra.sides
    power = jnp.real(power) if y is None else power
    power = power.mean(-2) if average == "mean" else _median(power)
    return spectra.frequencies, jnp.moveaxis(power, -1, axis)


def _nothing(signals: list[Any], axis: int, real: bool) -> tuple[Any, Any]:
    outer, dtype = broadcast_shapes(*(s.shape[:-1] for s in signals)), signals[0].dtype
    shape = (*outer[:axis], min(s.shape[-1] for s in signals), *outer[axis:])
    out = jnp.zeros(shape, dtypes.real_dtype(dtype))
    return out, out if real else out.astype(dtypes.complex_dtype(dtype))


def _median(power: Any) -> Any:
    """The median over segments, divided by its bias: Σ (−1)ⁱ⁺¹/i for exponential distributions."""
    if dtypes.is_complex(power.dtype):
        return jnp.asarray(_median(power.real) + 1j * _median(power.imag), power.dtype)
    even = np.arange(2.0, power.shape[-2], 2)
    return jnp.median(power, -2) / jnp.asarray(1 + np.sum(1 / (even + 1) - 1 / even), power.dtype)


def welch(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = "constant",
    return_onesided: bool = True,
    scaling: str = "density",
    axis: int = -1,
    average: str = "mean",
) -> tuple[Any, Any]:
    """Power spectral density by Welch's method: the mean of |X|² over overlapping segments. See `csd`.

    >>> import funcgrad.numpy as jnp
    >>> frequencies, density = welch(jnp.arange(8.0) % 2, nperseg=4)
    >>> density.shape
    (3,)
    """
    return csd(x, None, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis, average)


def stft(
    x: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int = 256,
    noverlap: int | None = None,
    nfft: int | None = None,
    detrend: Any = False,
    return_onesided: bool = True,
    boundary: str | None = "zeros",
    padded: bool = True,
    axis: int = -1,
) -> tuple[Any, Any, Any]:
    """Short-time Fourier transform: the transforms of overlapping segments of a signal, times a window.

    `boundary` extends the signal at both ends by half a segment: "zeros", "even", "odd", "constant" or None. `padded`
    adds zeros until the last segment is complete.

    Returns:
      frequencies, times: of the frequencies and the centers of the segments.
      transform: divided by the sum of the window, of shape (…, frequencies, …, times), with frequencies at `axis`.

    >>> import funcgrad.numpy as jnp
    >>> _, times, transform = stft(jnp.ones(8), nperseg=4)
    >>> times, transform.shape
    (Array([0., 2., 4., 6., 8.], dtype=float32), (3, 5))
    """
    given, axis = axis, as_axis(axis, jnp.ndim(x), "stft")
    signals = _signals("stft", axis, x)
    if not signals[0].size:
        real, zeros = _nothing(signals, axis, False)
        return real, real, zeros
    options: dict[str, Any] = {
        "fs": fs,
        "window": window,
        "nperseg": nperseg,
        "noverlap": noverlap,
        "nfft": nfft,
        "detrend": detrend,
    }
    options |= {"return_onesided": return_onesided, "boundary": boundary, "padded": padded}
    spectra = _spectra("stft", signals, given, scaling="spectrum", **options)
    return spectra.frequencies, spectra.times, jnp.moveaxis(spectra.signals[0] * jnp.sqrt(spectra.scale), -1, axis)


def _overlap_and_add(segments: Any, step: int) -> Any:
    """The sum of segments at their places: (…, segments, size) → (…, time)."""
    count, size = segments.shape[-2:]
    n = (count - 1) * step + size
    zeros = jnp.zeros((*segments.shape[:-2], n), segments.dtype)
    return zeros.at[..., _segments(n, size, step)].add(segments)


def istft(
    Zxx: Any,
    fs: Any = 1.0,
    window: Any = "hann",
    nperseg: int | None = None,
    noverlap: int | None = None,
    nfft: int | None = None,
    input_onesided: bool = True,
    boundary: bool = True,
    time_axis: int = -1,
    freq_axis: int = -2,
) -> tuple[Any, Any]:
    """Inverse of `stft`, with the same options: the least-squares estimate of the signal.

    `boundary` removes half a segment from both ends. Returns times and the signal; as in SciPy, there are as many times
    as the signal's first axis is long.

    Source: Griffin, Lim, "Signal estimation from modified short-time Fourier transform", 1984.

    >>> import funcgrad.numpy as jnp
    >>> istft(stft(jnp.arange(4.0), nperseg=4)[2], nperseg=4)[1].round(4)
    Array([0., 1., 2., 3.], dtype=float32)
    """
    z = jnp.asarray(Zxx)
    if z.ndim < 2:
        raise ShapeError(f"istft: the transform is {z.aval}", fix="give an array with frequencies and times")
    time_axis, freq_axis = (as_axis(axis, z.ndim, "istft") for axis in (time_axis, freq_axis))
    if time_axis == freq_axis:
        raise ArgumentError(f"istft: time_axis and freq_axis are {time_axis}", fix="give two different axes")
    z = jnp.moveaxis(z.astype(dtypes.complex_dtype(z.dtype)), (time_axis, freq_axis), (-2, -1))
    default = 2 * (z.shape[-1] - 1) if input_onesided else z.shape[-1]
    size = default if nperseg is None else as_int(nperseg, "nperseg", "istft")
    if nfft is None:
        nfft = default + 1 if input_onesided and size == default + 1 else default
    step, length = _steps("istft", size, noverlap, nfft)
    segments = (jnp.fft.irfft if input_onesided else jnp.fft.ifft)(z, n=length)[..., :size]
    taps = _window("istft", window, size, None, segments.dtype)
    x = _overlap_and_add(segments * taps * taps.sum(), step)
    norm = _overlap_and_add(jnp.broadcast_to(taps * taps, (z.shape[-2], size)), step)
    if boundary:
        x, norm = (a[..., size // 2 : a.shape[-1] - size // 2] for a in (x, norm))
    x = x / jnp.where(jnp.abs(norm) > 1e-10, norm, 1)
    x = jnp.moveaxis(x, -1, time_axis - (freq_axis < time_axis))
    return jnp.arange(x.shape[0], dtype=dtypes.real_dtype(x.dtype)) / fs, x
