"""scipy.signal: values are SciPy's; where JAX differs from SciPy, they are JAX's; derivatives and errors."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy.signal as oracle

import funcgrad as fg
import funcgrad.numpy as jnp
import funcgrad.scipy.signal as signal
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.testing import assert_close, check_grads, check_vmap

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=40), RNG.normal(size=33)
XS, YS = RNG.normal(size=(2, 40, 3)), RNG.normal(size=(2, 33, 3))
IMAGE, KERNEL = RNG.normal(size=(6, 5)), RNG.normal(size=(3, 2))
MODES = ("full", "same", "valid")


def complex_of(x):
    return x + 1j * RNG.normal(size=x.shape)


def same(actual, expected) -> None:
    actual, expected = fg.tree.leaves(actual), fg.tree.leaves(expected)
    for x, y in zip(actual, expected, strict=True):
        assert_close(x, np.asarray(y), rtol=1e-9, atol=1e-10, check_dtypes=False)


@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "convolve2d", "correlate2d"])
def test_convolutions_are_scipys(name: str):
    pairs = [(IMAGE, KERNEL), (KERNEL, IMAGE), (IMAGE, IMAGE), (complex_of(IMAGE), KERNEL), (KERNEL, complex_of(IMAGE))]
    if not name.endswith("2d"):
        pairs += [(X[:9], Y[:4]), (Y[:4], X[:9]), (X, np.arange(7)), (Y, X), (IMAGE[None], KERNEL[None])]
    with enable_x64():
        for (a, b), mode in itertools.product(pairs, MODES):
            same(getattr(signal, name)(a, b, mode), getattr(oracle, name)(a, b, mode))


def test_convolution_of_shapes_that_do_not_contain_each_other():
    with enable_x64():
        for mode in ("full", "same"):
            same(signal.convolve(IMAGE[:2], KERNEL[:, :1], mode), oracle.convolve(IMAGE[:2], KERNEL[:, :1], mode))
        same(signal.convolve(IMAGE, KERNEL, method="fft"), oracle.convolve(IMAGE, KERNEL))


@pytest.mark.parametrize("mode", MODES)
def test_convolution_along_some_axes(mode: str):
    with enable_x64():
        for axes in (1, (1,), (0, 1)):
            b = YS[:1] if axes == (0, 1) else YS
            same(signal.fftconvolve(XS, b, mode, axes), oracle.fftconvolve(XS, b, mode, axes))
        same(signal.fftconvolve(XS, YS[:, :1], mode, 1), XS * YS[:, :1])


@pytest.mark.parametrize("options", [{}, {"type": "constant"}, {"bp": (7, 20)}, {"axis": 1, "bp": [0, 5, 40]}])
def test_trends_are_removed_as_in_scipy(options):
    with enable_x64():
        for x in (XS, X[:1], X[:2]) if options == {} else (XS if "axis" in options else XS.swapaxes(1, 2),):
            same(signal.detrend(x, **options), oracle.detrend(x, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"nperseg": 8},
        {"nperseg": 7, "noverlap": 2, "detrend": "linear", "scaling": "spectrum", "fs": 10.0},
        {"nperseg": 8, "nfft": 11, "window": ("kaiser", 3.0), "detrend": False, "average": "median"},
        {"window": RNG.uniform(size=9), "return_onesided": False, "average": "median"},
        {"nperseg": 33, "detrend": lambda d: 2 * d},
        {"nperseg": 1, "noverlap": 0},
    ],
)
def test_spectral_densities_are_scipys(options):
    with enable_x64():
        same(signal.welch(X, **options), oracle.welch(X, **options))
        same(signal.csd(X, Y, **options), oracle.csd(X, Y, **options))
        same(signal.welch(XS, axis=1, **options), oracle.welch(XS, axis=1, **options))
        same(signal.csd(XS, YS, axis=1, **options), oracle.csd(XS, YS, axis=1, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"nperseg": 8},
        {"nperseg": 7, "noverlap": 5, "boundary": "even", "fs": 4.0, "window": "hamming"},
        {"nperseg": 8, "boundary": "odd", "padded": False, "return_onesided": False},
        {"nperseg": 8, "nfft": 16, "boundary": "constant", "detrend": "constant"},
        {"nperseg": 8, "boundary": None},
    ],
)
def test_short_time_transforms_are_scipys(options):
    with enable_x64():
        for axis in (1, -2):
            same(signal.stft(XS, axis=axis, **options), oracle.stft(XS, axis=axis, **options))
        transform = oracle.stft(X, **options)[2]
        back = {name: options[name] for name in ("nperseg", "noverlap", "nfft", "window", "fs") if name in options}
        back |= {"input_onesided": options.get("return_onesided", True), "boundary": "boundary" not in options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the inverse does not exist without a boundary
            expected = oracle.istft(transform, **back)
        same(signal.istft(transform, **back), expected)
        same(signal.istft(transform.T[None], time_axis=1, freq_axis=2, **back)[1], expected[1][None])


def test_the_inverse_of_a_transform_is_the_signal():
    with enable_x64():
        for size, overlap in ((8, None), (7, 4), (8, 0)):
            options = {"nperseg": size, "noverlap": overlap, "window": "boxcar"}
            same(signal.istft(signal.stft(X, **options)[2], **options)[1][: len(X)], X)
        z = signal.stft(complex_of(X), nperseg=8, return_onesided=False)[2]
        assert signal.istft(z, nperseg=8, input_onesided=False)[1].dtype == np.complex128


def test_empty_signals_have_empty_spectra():
    assert [a.shape for a in signal.stft(np.zeros((2, 0)))] == [(2, 0)] * 3
    assert signal.csd(np.zeros((2, 0)), np.zeros((2, 3)))[1].dtype == np.complex64
    assert signal.welch(np.zeros(0))[1].dtype == np.float32


@pytest.mark.oracle
def test_segments_are_as_long_as_the_signal_as_in_jax(jax):
    x, y = X.astype(np.float32), Y.astype(np.float32)
    for actual, expected in zip(signal.csd(x, y), jax.scipy.signal.csd(x, y), strict=True):
        assert_close(actual, np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_derivatives_batches_and_compiled_functions():
    def spectrum(x):
        z = signal.stft(x, nperseg=4)[2]
        return [signal.detrend(x), signal.welch(x, nperseg=4)[1], signal.istft(2 * z, nperseg=4)[1]]

    def products(a, b):
        return [signal.convolve(a, b), signal.correlate2d(b, a, "same"), signal.fftconvolve(a, b, "valid")]

    check_grads(spectrum, (X[:9],), order=2)
    check_grads(products, (IMAGE, KERNEL), order=2)
    check_vmap(spectrum, (XS[0, :9].T,))
    check_vmap(products, (np.stack([IMAGE, IMAGE[::-1]]), KERNEL), (0, None))
    assert_close(fg.jit(products)(IMAGE, KERNEL), products(IMAGE, KERNEL), rtol=1e-5, atol=1e-5)
    assert_close(fg.jit(spectrum)(X), spectrum(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: signal.convolve(X, IMAGE), ShapeError),
        (lambda: signal.convolve(X, X[:0]), ShapeError),
        (lambda: signal.convolve(IMAGE[:2], KERNEL[:, :1], "valid"), ShapeError),
        (lambda: signal.convolve(X, Y, "half"), ArgumentError),
        (lambda: signal.convolve(X, Y, method="slow"), ArgumentError),
        (lambda: signal.convolve2d(X, Y), ShapeError),
        (lambda: signal.convolve2d(IMAGE, KERNEL, boundary="wrap"), ArgumentError),
        (lambda: signal.correlate2d(IMAGE, KERNEL, fillvalue=1), ArgumentError),
        (lambda: signal.fftconvolve(XS, YS, axes=(0,)), ShapeError),
        (lambda: signal.detrend(X, type="cubic"), ArgumentError),
        (lambda: signal.detrend(X, bp=41), ArgumentError),
        (lambda: signal.detrend(X, overwrite_data=True), ArgumentError),
        (lambda: signal.csd(X, XS), ShapeError),
        (lambda: signal.csd(XS, np.zeros((3, 40, 3)), axis=1), ShapeError),
        (lambda: signal.csd(X, Y, average="mode"), ArgumentError),
        (lambda: signal.welch(X, nperseg=0), ArgumentError),
        (lambda: signal.welch(X, nperseg=4, noverlap=4), ArgumentError),
        (lambda: signal.welch(X, nperseg=4, nfft=3), ArgumentError),
        (lambda: signal.welch(X, window=np.ones((2, 2))), ShapeError),
        (lambda: signal.welch(X, window=np.ones(41)), ShapeError),
        (lambda: signal.welch(X, detrend=3), ArgumentError),
        (lambda: signal.welch(X, scaling="none"), ArgumentError),
        (lambda: signal.stft(X, nperseg=4, boundary="sky"), ArgumentError),
        (lambda: signal.stft(X[:3], nperseg=3, boundary="even", window=np.ones(3), axis=5), ArgumentError),
        (lambda: signal.istft(X), ShapeError),
        (lambda: signal.istft(IMAGE, time_axis=1, freq_axis=-1), ArgumentError),
    ],
)
def test_errors_explain_the_cause(call, error):
    with pytest.raises(error, match="fix: "):
        call()


def test_warnings():
    with pytest.warns(UserWarning, match="nperseg=100 is longer than the signal"):
        signal.welch(X, nperseg=100)
    with pytest.warns(UserWarning, match="two sides"):
        signal.welch(jnp.asarray(X) + 1j, nperseg=4)
