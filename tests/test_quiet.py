"""NumPy's warnings of overflow and invalid values do not come out of eager operations: such values are results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.core.arrays import as_array
from funcgrad.testing import assert_close
from funcgrad.testing.special import special_values


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


HUGE = 1e300
CALLS: dict[str, Callable[[], Any]] = {
    "asarray": lambda: jnp.asarray(HUGE),
    "array of a list": lambda: jnp.array([HUGE, 1.0]),
    "array of a dtype": lambda: jnp.array(HUGE, "float16"),
    "array of doubles": lambda: jnp.array(np.array([HUGE])),
    "full": lambda: jnp.full((2,), HUGE),
    "full of a dtype": lambda: jnp.full((2,), 1e10, "float16"),
    "full_like": lambda: jnp.full_like(jnp.zeros(2), HUGE),
    "operand": lambda: jnp.zeros(2) + HUGE,
    "narrow operand": lambda: jnp.zeros(2, "float16") * 1e10,
    "double": lambda: jnp.add(np.float64(HUGE), np.float32(1)),
    "scalar cast": lambda: jnp.asarray(1e10).astype("float16"),
    "scalar to integer": lambda: jnp.asarray(jnp.nan).astype("int8"),
    "complex to real": lambda: jnp.asarray(complex(HUGE, HUGE)),
    "primitive": lambda: lax.mul(HUGE, HUGE),
    "set": lambda: jnp.zeros(2, "float16").at[0].set(1e10),
    "argument": lambda: fg.jit(lambda x: x + 1)(HUGE),
    "constant": lambda: fg.jit(lambda x: x * HUGE)(jnp.ones(2)),
    "gradient": lambda: fg.grad(lambda x: x * HUGE)(1.0),
    "where": lambda: jnp.where(jnp.ones(2) > 0, HUGE, 1.0),
    "pad": lambda: jnp.pad(jnp.zeros(2), 1, constant_values=HUGE),
    "clip": lambda: jnp.clip(jnp.ones(2), -HUGE, HUGE),
}


FINITE = {"scalar to integer", "clip"}


@pytest.mark.parametrize("name", CALLS)
def test_numbers_beyond_the_range_overflow_without_a_warning(name: str) -> None:
    assert np.isfinite(np.asarray(CALLS[name]()).astype(complex)).all() == (name in FINITE)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
@pytest.mark.parametrize("to", dtypes.ALL, ids=str)
def test_casts_of_special_values(dtype: np.dtype, to: np.dtype) -> None:
    with fg.enable_x64():
        values = special_values(dtype)
        whole = as_array(values).astype(to)
        one_by_one = [jnp.asarray(v).astype(to) for v in values]
        assert_close(whole, np.array([np.asarray(v) for v in one_by_one]), signed_zeros=True)
