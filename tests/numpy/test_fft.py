"""numpy.fft and lax.fft: values are NumPy's, derivatives are right to second order, and errors explain the cause."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.testing import assert_close, check_grads, check_vmap

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3, 5, 6))
COMPLEX = REAL + 1j * RNG.normal(size=REAL.shape)
OF_ONE = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
OF_SEVERAL = ["fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2"]


def operand(name: str) -> np.ndarray:
    return REAL if name.startswith(("rfft", "ihfft")) else COMPLEX


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
def test_transforms_of_one_axis_are_numpys(name: str, norm: str | None):
    with enable_x64():
        for n in (None, 1, 4, 5, 9):
            for axis in (-1, 0, 1):
                expected = getattr(np.fft, name)(operand(name), n, axis, norm)
                assert_close(getattr(jnp.fft, name)(operand(name), n, axis, norm), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_transforms_of_several_axes_are_numpys(name: str):
    ours, theirs = getattr(jnp.fft, name), getattr(np.fft, name)
    with enable_x64():
        for axes in ((0, 1), (1, 0), (-1, 1)):
            actual = fg.jit(lambda x: ours(x, axes=axes))(operand(name))  # noqa: B023
            assert_close(actual, theirs(operand(name), axes=axes), rtol=1e-12, atol=1e-12)
        actual, expected = ours(operand(name), s=(4, 7)), theirs(operand(name), s=(4, 7), axes=(-2, -1))
        assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*OF_ONE, *OF_SEVERAL])
def test_derivatives_and_batches(name: str):
    x = operand(name)[:, :4, :3]
    with enable_x64():
        check_grads(getattr(jnp.fft, name), (x,), order=2)
        check_vmap(getattr(jnp.fft, name), (x,), (0,))


def test_laws():
    x = REAL[0, 0].astype(np.float32)
    y = jnp.fft.fft(x)
    assert y.dtype == np.complex64 and jnp.fft.fft(np.arange(3)).dtype == np.complex64
    assert_close(jnp.sum(jnp.abs(y) ** 2) / x.size, np.sum(x**2), rtol=1e-5)  # Parseval
    assert_close(jnp.fft.irfft(jnp.fft.rfft(x)), x, rtol=1e-5, atol=1e-6)
    cyclic = np.array([sum(x[j] * x[i - j] for j in range(6)) for i in range(6)])
    assert_close(jnp.fft.ifft(y * y).real, cyclic, rtol=1e-5, atol=1e-5)
    with enable_x64():
        for n in (1, 4, 5):
            assert_close(jnp.fft.fftfreq(n, 0.5), np.fft.fftfreq(n, 0.5))
            assert_close(jnp.fft.rfftfreq(n, 0.5), np.fft.rfftfreq(n, 0.5))
            assert_close(jnp.fft.fftshift(np.arange(n)), np.fft.fftshift(np.arange(n)))
            assert_close(jnp.fft.ifftshift(np.arange(n)), np.fft.ifftshift(np.arange(n)))


@pytest.mark.oracle
def test_gradients_are_jaxs():
    import jax

    for name in ("rfft", "irfft", "fftn", "irfft2"):
        x = operand(name).astype(np.float32 if name == "rfft" else np.complex64)
        ours = fg.jit(fg.grad(lambda x: jnp.sum(jnp.abs(getattr(jnp.fft, name)(x)) ** 2)))(x)  # noqa: B023
        theirs = jax.grad(lambda x: (abs(getattr(jax.numpy.fft, name)(x)) ** 2).sum())(x)  # noqa: B023
        assert_close(ours, np.asarray(theirs), rtol=1e-4, atol=1e-4)


def test_errors_explain_the_cause():
    with pytest.raises(DTypeError, match=r"rfft: operand has type c64\[2\]"):
        jnp.fft.rfft(np.ones(2, np.complex64))
    with pytest.raises(ArgumentError, match="fft: norm='unitary'"):
        jnp.fft.fft(REAL, norm="unitary")
    with pytest.raises(ArgumentError, match=r"fft: transform of \[0\] elements"):
        jnp.fft.fft(np.ones((2, 0)))
    with pytest.raises(ArgumentError, match="fft2: axes="):
        jnp.fft.fft2(REAL, axes=(0, 1, 2))
    with pytest.raises(ArgumentError, match="fftn: 1 sizes for 2 axes"):
        jnp.fft.fftn(REAL, s=(2,), axes=(0, 1))
    with pytest.raises(ArgumentError, match="axis 3 is out of range"):
        jnp.fft.fft(REAL, axis=3)
    with pytest.raises(ShapeError, match=r"fft: RFFT of f32\[2\] with lengths \(4,\)"):
        lax.fft(np.ones(2, np.float32), "RFFT", (4,))
    with pytest.raises(ArgumentError, match="fft: fft_type='dct'"):
        lax.fft(REAL, "dct", (6,))
