"""scipy.fft: cosine transforms are SciPy's; derivatives and errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft as oracle

import funcgrad as fg
import funcgrad.scipy.fft as fft
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError
from funcgrad.testing import assert_close, check_grads

X = np.random.default_rng(0).normal(size=(4, 5, 6))


@pytest.mark.parametrize("name", ["dct", "idct"])
@pytest.mark.parametrize("norm", [None, "backward", "ortho"])
def test_transforms_of_one_axis_are_scipys(name: str, norm: str | None):
    with enable_x64():
        for n in (None, 1, 3, 8):
            for axis in (0, 1, -1):
                expected = getattr(oracle, name)(X, 2, n, axis, norm)
                assert_close(getattr(fft, name)(X, 2, n, axis, norm), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["dctn", "idctn"])
def test_transforms_of_several_axes_are_scipys(name: str):
    ours, theirs = getattr(fft, name), getattr(oracle, name)
    with enable_x64():
        assert_close(fg.jit(ours)(X), theirs(X), rtol=1e-12, atol=1e-12)
        assert_close(ours(X, s=(3, 7), axes=(0, 2)), theirs(X, s=(3, 7), axes=(0, 2)), rtol=1e-12, atol=1e-12)
        assert_close(ours(X, s=(3, 7)), theirs(X, s=(3, 7), axes=(-2, -1)), rtol=1e-12, atol=1e-12)
        check_grads(ours, (X[0],), order=2)


def test_errors_explain_the_cause():
    for call in (
        lambda: fft.dct(X, 3),
        lambda: fft.idct(X, norm="forward"),
        lambda: fft.dct(X, axis=3),
        lambda: fft.dctn(X, s=(2,), axes=(0, 1)),
    ):
        with pytest.raises(ArgumentError):
            call()
