"""scipy.ndimage, interpolate, integrate and cluster.vq: values are SciPy's; derivatives and errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.cluster.vq
import scipy.integrate
import scipy.interpolate
import scipy.ndimage

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.config import disable_jit, enable_x64
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.scipy.cluster.vq import vq
from funcgrad.scipy.integrate import trapezoid
from funcgrad.scipy.interpolate import RegularGridInterpolator
from funcgrad.scipy.ndimage import map_coordinates
from funcgrad.testing import assert_close, check_grads, check_vmap

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(5, 4))
POINTS = RNG.uniform(-6, 10, (2, 30))
SCIPYS = {"constant": "grid-constant", "wrap": "grid-wrap"}  # modes that SciPy has other names for

GRID = (np.array([0.0, 1.0, 3.0]), np.array([-1.0, 0.5, 1.0, 4.0]))
VALUES = RNG.normal(size=(3, 4, 2))
QUERIES = np.concatenate([RNG.uniform((0, -1), (3, 4), (20, 2)), RNG.uniform(-3, 6, (20, 2)), [[0, -1], [3, 4]]])


def close(actual, expected) -> None:
    assert_close(actual, np.asarray(expected), rtol=1e-10, atol=1e-11, check_dtypes=False)


# ---------------------------------------------------------------- map_coordinates


@pytest.mark.parametrize("mode", ["constant", "nearest", "wrap", "mirror", "reflect"])
def test_values_between_elements_are_scipys(mode: str):
    theirs = SCIPYS.get(mode, mode)
    with enable_x64():
        for order in (0, 1):
            expected = scipy.ndimage.map_coordinates(IMAGE, POINTS, order=order, mode=theirs, cval=2.5)
            close(map_coordinates(IMAGE, list(POINTS), order, mode, 2.5), expected)
        for row, order in ((IMAGE[0], 0), (IMAGE[0], 1), (IMAGE[0, :1], 1)):
            expected = scipy.ndimage.map_coordinates(row, [np.arange(-4, 9)], order=order, mode=theirs)
            with disable_jit():
                close(map_coordinates(row, [np.arange(-4, 9)], order, mode), expected)


@pytest.mark.oracle
def test_integers_are_rounded_as_in_jax(jax):
    image, points = np.arange(12, dtype="int32").reshape(3, 4) * 7, [p.astype("float32") for p in POINTS]
    expected = jax.scipy.ndimage.map_coordinates(image, points, 1, "reflect")
    assert_close(map_coordinates(image, points, 1, "reflect"), np.asarray(expected))
    halves = np.array([0.5, 1.5, 2.5, -0.5], "float32")
    expected = jax.scipy.ndimage.map_coordinates(np.arange(4.0), [halves], 0, "nearest")
    assert_close(map_coordinates(np.arange(4.0), [halves], 0, "nearest"), np.asarray(expected))


def test_derivatives_by_image_and_points():
    with enable_x64():
        check_grads(lambda a, p: map_coordinates(a, list(p), 1, "reflect"), (IMAGE[0], POINTS[:1, :4]), order=2)
        check_grads(lambda a, p: map_coordinates(a, list(p), 1), (IMAGE, POINTS[:, :4]))
        check_vmap(lambda a, p: map_coordinates(a, list(p), 1), (IMAGE, POINTS.T[:, :, None]), (None, 0))


def test_errors_of_map_coordinates():
    with pytest.raises(ShapeError, match="1 coordinates for f32"):
        map_coordinates(IMAGE, [POINTS[0]], 1)
    with pytest.raises(ArgumentError, match="order=3"):
        map_coordinates(IMAGE, list(POINTS), 3)
    with pytest.raises(ArgumentError, match="mode='grid-wrap'"):
        map_coordinates(IMAGE, list(POINTS), 1, "grid-wrap")


# ---------------------------------------------------------------- RegularGridInterpolator


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize("fill_value", [np.nan, 7.0, None])
def test_values_between_grid_points_are_scipys(method: str, fill_value):
    options = {"method": method, "bounds_error": False, "fill_value": fill_value}
    with enable_x64():
        for values in (VALUES, VALUES[..., 0], VALUES + 1j):
            f = RegularGridInterpolator(GRID, values, **options)
            g = scipy.interpolate.RegularGridInterpolator(GRID, values, **options)
            close(f(QUERIES), g(QUERIES))
        close(f(tuple(QUERIES.T.reshape(2, 6, 7))), g(tuple(QUERIES.T.reshape(2, 6, 7))))
        close(f(QUERIES[0], "nearest"), g(QUERIES[0], "nearest"))
        close(RegularGridInterpolator(GRID[:1], VALUES)(QUERIES[:9, 0]), [*scipy_line(QUERIES[:9, 0])])


def scipy_line(x):
    return scipy.interpolate.RegularGridInterpolator(GRID[:1], VALUES, bounds_error=False)(x)


def test_interpolators_are_pytrees_with_derivatives():
    def f(grid, values, points):
        return RegularGridInterpolator(grid, values, fill_value=None)(points)

    with enable_x64():
        check_grads(f, (GRID, VALUES, QUERIES[:5]), order=2)
        check_vmap(f, (GRID, np.stack([VALUES, -VALUES]), QUERIES[:2]), (None, 0, None))
        interpolator = RegularGridInterpolator(GRID, VALUES)
        close(fg.jit(lambda f, x: f(x))(interpolator, QUERIES), interpolator(QUERIES))


def test_bounds_are_checked():
    f = RegularGridInterpolator(GRID, VALUES, bounds_error=True)
    assert f(QUERIES[:20]).shape == (20, 2)
    with pytest.raises(ArgumentError, match=r"point \(1,\) is outside"):
        f(np.array([[0.0, 0.0], [9.0, 0.0]]))
    with pytest.raises(ConcretizationError, match="bounds_error=True"):
        fg.jit(f)(QUERIES)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: RegularGridInterpolator(GRID, VALUES, "cubic"), ArgumentError),
        (lambda: RegularGridInterpolator(GRID, VALUES)(QUERIES, "cubic"), ArgumentError),
        (lambda: RegularGridInterpolator(GRID, VALUES, fill_value=1j), ArgumentError),
        (lambda: RegularGridInterpolator(GRID, VALUES[:2]), ShapeError),
        (lambda: RegularGridInterpolator(GRID, VALUES[0, 0]), ShapeError),
        (lambda: RegularGridInterpolator(GRID, VALUES)(QUERIES[:, :1]), ShapeError),
    ],
)
def test_errors_of_interpolators(call, error):
    with pytest.raises(error, match="fix: "):
        call()


# ---------------------------------------------------------------- integrals and codes


def test_integrals_are_scipys():
    with enable_x64():
        for options in ({}, {"dx": 0.5}, {"axis": 0, "x": GRID[0]}):
            close(trapezoid(VALUES, **options), scipy.integrate.trapezoid(VALUES, **options))


def test_codes_are_scipys():
    obs, codes = RNG.normal(size=(20, 3)), RNG.normal(size=(5, 3))
    with enable_x64():
        for args in ((obs, codes), (obs[:, 0], codes[:, 0])):
            for actual, expected in zip(vq(*args), scipy.cluster.vq.vq(*args), strict=True):
                close(actual, expected)
        check_grads(lambda a, b: vq(a, b)[1], (obs, codes))
        assert_close(fg.jit(vq)(obs, codes), vq(obs, codes), rtol=1e-12, atol=1e-12)
    for args in ((obs, codes[0]), (obs, codes[:, :2]), (jnp.ones((2, 2, 2)), jnp.ones((2, 2, 2)))):
        with pytest.raises(ShapeError, match="vq: observations are f32"):
            vq(*args)
