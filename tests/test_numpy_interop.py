"""funcgrad arrays among NumPy's: operators give ours, NumPy's functions give NumPy's, tracers refuse with a remedy."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.errors import ConcretizationError


@pytest.mark.parametrize("left", [np.ones(3, np.float32), np.float32(2), 2, 2.0], ids=lambda v: type(v).__name__)
def test_operators_with_numpy_on_the_left_give_arrays(left: object) -> None:
    x = jnp.arange(3.0)
    for result in (left + x, left * x, left - x, left**x, left < x):
        assert isinstance(result, fg.Array)
    np.testing.assert_allclose(np.asarray(left - x), np.asarray(left) - np.arange(3))


def test_numpy_functions_take_arrays_and_give_numpy_arrays() -> None:
    x = jnp.arange(3.0)
    assert type(np.sin(x)) is np.ndarray
    assert np.isfinite(x).all()
    np.testing.assert_allclose(np.sum(x), 3.0)


def test_numpy_views_of_arrays_cannot_be_written() -> None:
    view = np.asarray(jnp.arange(3.0))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_numpy_functions_on_tracers_say_what_to_use() -> None:
    with pytest.raises(ConcretizationError, match=r"(?s)NumPy array.*tracing jit.*argument x.*fix: use funcgrad.numpy"):
        fg.jit(lambda x: np.sin(x))(1.0)
