"""funcgrad.numpy against JAX: values, dtypes and weak types of every call in numpy_cases, and which calls raise."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy_cases as cases
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from tests.paths import GOLDEN

pytestmark = pytest.mark.oracle
# These compose primitives in JAX in a way that loses or keeps weak types by accident.
STRONG_IN_JAX = {"hypot", "logaddexp2", "gcd", "lcm", "heaviside"}
MISSING = GOLDEN / "numpy_missing.txt"


@pytest.fixture(scope="module")
def oracle() -> Iterator[Any]:
    import jax

    # Operation by operation: compiling every composite function for every dtype would take most of the time.
    with jax.disable_jit():
        yield jax.numpy


def by_name(calls: list[cases.Call]) -> list[Any]:
    """One test per function."""
    ordered = sorted(calls, key=lambda c: c.name)
    return [pytest.param(list(group), id=name) for name, group in itertools.groupby(ordered, key=lambda c: c.name)]


def known_difference(call: cases.Call) -> str:
    """Why JAX is not followed here; empty where it is."""
    dtypes = [np.asarray(a).dtype for a in call.args if not isinstance(a, (list, tuple))] or [np.dtype(object)]
    if call.name in ("round", "around") and (dtypes[0].kind == "b" or call.args[1:] == (-1,)):
        return "JAX cannot round bools, nor integers to tens"
    if call.name == "modf" and dtypes[0].kind not in "iub":
        return "JAX's fraction of infinity is NaN, NumPy's 0"
    if call.name in ("multiply", "fmod") and np.dtype(bool) in dtypes:
        return "XLA multiplies NaN by a bool as a selection, and takes fmod of integers in floats"
    if call.name == "arange" and dtypes[0].kind == "b":
        return "JAX refuses arange(True)"
    return ""


def flat(result: Any) -> list[Any]:
    """The arrays of a result that may be a tuple or hold lists."""
    if isinstance(result, (list, tuple)):
        return [leaf for r in result for leaf in flat(r)]
    return [result]


def outcome(module: Any, call: cases.Call) -> Any:
    """The result's arrays, or None when the call raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return flat(getattr(module, call.name)(*call.args, **call.options))
        except (TypeError, ValueError, OverflowError, IndexError, NotImplementedError, ZeroDivisionError):
            return None


def tolerance(dtype: np.dtype) -> dict[str, float]:
    return {"rtol": 2e-2, "atol": 2e-2} if dtype.itemsize == 2 else {"rtol": 5e-6, "atol": 5e-6}


def assert_same(ours: Any, theirs: Any, call: cases.Call) -> None:
    if not isinstance(theirs, np.ndarray) and not hasattr(theirs, "weak_type"):
        assert ours == theirs, call
        return
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, (str(call), ours, theirs)
    # A weak bool is no different from another.
    if theirs.dtype != bool and call.name not in STRONG_IN_JAX and hasattr(theirs, "weak_type"):
        assert ours.weak_type == theirs.weak_type, (str(call), ours, theirs)
    wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
    a, b = np.asarray(ours).astype(wide), np.asarray(theirs).astype(wide)
    np.testing.assert_allclose(a, b, **tolerance(theirs.dtype), err_msg=str(call))


def compare(oracle: Any, calls: list[cases.Call]) -> None:
    for call in calls:
        if known_difference(call):
            continue
        theirs, ours = outcome(oracle, call), outcome(jnp, call)
        assert (ours is None) == (theirs is None), f"{call}: JAX gives {theirs}, funcgrad gives {ours}"
        for a, b in zip(ours or [], theirs or [], strict=True):
            assert_same(a, b, call)


CALLS = [*cases.unary_calls(), *cases.binary_calls(), *cases.reduction_calls(), *cases.other_calls()]


@pytest.mark.parametrize("calls", by_name(CALLS))
def test_results_are_jaxs(oracle: Any, calls: list[cases.Call]) -> None:
    """Some calls of each function; all of them where there are few."""
    compare(oracle, calls[:: max(1, len(calls) // 6)])


@pytest.mark.slow
@pytest.mark.parametrize("calls", by_name(CALLS))
def test_all_results_are_jaxs(oracle: Any, calls: list[cases.Call]) -> None:
    compare(oracle, calls)


def test_missing_names_only_shrink(oracle: Any) -> None:
    """The golden file lists what of jax.numpy does not exist here; what is written must be struck off."""
    missing = sorted(n for n in dir(oracle) if not n.startswith("_") and not hasattr(jnp, n))
    assert missing == MISSING.read_text().split(), "update tests/golden/numpy_missing.txt; it may only get shorter"


def test_methods_of_arrays(oracle: Any) -> None:
    # What concerns sharding, several devices and JAX's own runtime has no meaning here.
    absent = {
        "addressable_data",
        "addressable_shards",
        "committed",
        "copy_to_host_async",
        "device_buffer",
        "device_buffers",
        "global_shards",
        "is_fully_addressable",
        "is_fully_replicated",
        "is_ready",
        "on_device_size_in_bytes",
        "sharding",
        "traceback",
        "unsafe_buffer_pointer",
        "byteswap",
        "format",
    }
    theirs = {n for n in dir(oracle.zeros(3)) if not n.startswith("_")}
    assert sorted(theirs - absent - set(dir(jnp.zeros(3)))) == []


def test_scalar_types_are_numpys(oracle: Any) -> None:
    for name in ("float32", "bfloat16", "int8", "uint32", "bool_", "complex64"):
        ours, theirs = getattr(jnp, name), getattr(oracle, name)
        assert ours.dtype == theirs.dtype and ours == theirs.dtype and fg.dtypes.as_dtype(ours) == theirs.dtype
        assert_same(ours(1), theirs(1), cases.Call(name, (1,)))
