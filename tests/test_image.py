"""Resizing: exact cases, properties of the weights, JAX's values, derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import image
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.testing import assert_close, check_grads

X = np.random.default_rng(0).normal(size=(2, 8, 7)).astype(np.float32)
METHODS = ["nearest", "linear", "cubic", "cubic-pytorch", "lanczos3", "lanczos5", "area"]
SMOOTH = METHODS[1:]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("antialias", [False, True])
def test_constants_stay_and_the_same_size_is_the_identity(method, antialias):
    constant = np.full((5, 6), 3.0, np.float32)
    assert_close(image.resize(constant, (7, 4), method, antialias), np.full((7, 4), 3.0, np.float32), rtol=1e-5)
    assert_close(image.resize(X, X.shape, method, antialias), X)


def test_known_values():
    row = np.array([1.0, 3.0], np.float32)
    assert_close(image.resize(row, (4,), "nearest"), np.float32([1, 1, 3, 3]))
    assert_close(image.resize(row, (4,), "linear"), np.float32([1, 1.5, 2.5, 3]))
    assert_close(image.resize(np.arange(6.0, dtype=np.float32), (3,), "area"), np.float32([0.5, 2.5, 4.5]))
    assert image.resize(np.arange(6), (3,), "nearest").dtype == np.int32
    assert image.resize(np.arange(6), (3,), image.ResizeMethod.LINEAR).dtype == np.float32


@pytest.mark.oracle
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_jax_resize(method, antialias):
    import jax

    for shape in ((2, 16, 14), (2, 5, 4), (2, 3, 14), (4, 8, 7)):
        ours, theirs = (m.resize(X, shape, method, antialias) for m in (image, jax.image))
        assert_close(ours, np.asarray(theirs), rtol=1e-5, atol=3e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", SMOOTH)
def test_jax_scale_and_translate(method, antialias):
    import jax

    arguments = X, (2, 9, 9), (1, 2), np.float32([1.2, 0.7]), np.float32([0.5, -1]), method, antialias
    ours, theirs = (m.scale_and_translate(*arguments) for m in (image, jax.image))
    assert_close(ours, np.asarray(theirs), rtol=1e-5, atol=3e-6)


def test_derivatives():
    check_grads(lambda x: image.resize(x, (2, 5, 9), "cubic"), (X,), order=2)

    def place(s, t):
        return image.scale_and_translate(X, (2, 8, 7), (1, 2), s, t, "cubic")

    check_grads(place, (np.array([1.13, 0.87]), np.array([0.21, -0.37])), order=1)
    assert_close(fg.vmap(lambda x: image.resize(x, (4, 4), "linear"))(X), image.resize(X, (2, 4, 4), "linear"))


def test_what_images_reject():
    with pytest.raises(ArgumentError, match="resize: unknown method 'best'"):
        image.resize(X, X.shape, "best")
    with pytest.raises(ShapeError, match=r"resize: shape \(4, 4\) has another number of dimensions"):
        image.resize(X, (4, 4), "linear")
    with pytest.raises(ArgumentError, match="scale_and_translate: method 'nearest' has no kernel"):
        image.scale_and_translate(X, X.shape, (), [], [], "nearest")
