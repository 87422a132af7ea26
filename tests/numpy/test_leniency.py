"""What functions accept and refuse beyond arrays of the right type, and the class of their errors, as in JAX."""

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax

BIG = 2**40

# (module, its numpy) → the result, or an error.
CASES = {
    **{
        f"a Python integer outside int32: {name}": f
        for name, f in {
            "add": lambda m, n: n.arange(2) + BIG,
            "compare": lambda m, n: n.arange(2) < BIG,
            "float": lambda m, n: n.ones(2) * BIG,
            "negative": lambda m, n: n.arange(2) - BIG,
            "where": lambda m, n: n.where(True, BIG, n.arange(2)),
            "lax": lambda m, n: m.lax.add(n.arange(2), BIG),
            "array": lambda m, n: n.asarray(BIG),
        }.items()
    },
    "NumPy scalars in lists": lambda m, n: n.array([1, np.int16(2)]),
    "NumPy scalars in nested lists": lambda m, n: n.array([[1, 2], [np.int8(3), 4]]),
    "NumPy floats in lists": lambda m, n: n.array([1, np.float16(2)]),
    "NumPy scalars of two types": lambda m, n: n.asarray([np.uint8(1), np.int8(2)]),
    "NumPy arrays in lists": lambda m, n: n.array([np.ones(2, "int16"), [1, 2]]),
    "one_hot of a list": lambda m, n: m.nn.one_hot([0, 2], 3),
    "sum over a mask of integers": lambda m, n: n.sum(n.arange(3), where=n.array([1, 0, 1])),
    "any over a mask of floats": lambda m, n: n.any(n.arange(3), where=n.array([1.0, 0, 1])),
    "clip of complex numbers": lambda m, n: n.clip(n.array([1j]), 0, 1),
    "axes as NumPy integers": lambda m, n: n.permute_dims(n.ones((1, 2)), (np.int64(1), np.int32(0))),
    "axes as an array": lambda m, n: n.transpose(n.ones((1, 2)), np.array([1, 0])),
    "source as an array": lambda m, n: n.moveaxis(n.ones((1, 2)), np.array([0]), np.array([1])),
    "reduced axes as an array": lambda m, n: n.sum(n.ones((1, 2)), axis=np.array([0, 1])),
    "new axes as an array": lambda m, n: n.expand_dims(n.ones(2), np.array([0])),
    "roll by arrays": lambda m, n: n.roll(n.arange(4).reshape(2, 2), np.array([1, 0]), np.array([0, 1])),
    "lax.dtype of a type": lambda m, n: m.lax.dtype(np.float32),
    "cumsum of bools": lambda m, n: n.cumsum(n.array([True, True])),
    "take with mode raise": lambda m, n: n.take(n.arange(3), 5, mode="raise"),
    "pad with an unknown mode": lambda m, n: n.pad(n.ones(2), 1, mode="unknown"),
    "array of None": lambda m, n: n.array(None),
    "bincount of negative numbers": lambda m, n: n.bincount(n.array([-1, 1])),
    "roots": lambda m, n: n.sort(n.roots(n.array([0.0, 1.0, -3.0, 2.0, 0.0])).real.round(3)),
    "roots of a constant": lambda m, n: n.roots(n.array([3.0])),
    "polyfit": lambda m, n: n.polyfit(n.arange(4.0), n.arange(4.0) ** 2, 2, w=n.arange(1.0, 5)).round(2),
    "polyfit of columns": lambda m, n: n.polyfit(n.arange(4.0), n.ones((4, 2)), 1).round(2),
}


def outcome(f, *modules):
    """Return the values and types of the result, or the class of the error."""
    try:
        out = f(*modules)
    except Exception as error:
        return type(error)
    if hasattr(out, "aval"):
        return np.asarray(out).tolist(), str(out.dtype), out.weak_type
    return out


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_results_and_error_classes_are_those_of_jax(jax, case):
    mine, theirs = outcome(CASES[case], fg, jnp), outcome(CASES[case], jax, jax.numpy)
    if isinstance(theirs, type):
        assert issubclass(mine, theirs.__mro__[0]), f"{mine}, in JAX {theirs}"
    else:
        assert mine == theirs


@pytest.mark.parametrize("cov", [True, "unscaled"])
def test_polyfit_agrees_with_numpy(cov):
    rng = np.random.default_rng(0)
    x, y, w = np.linspace(0, 2, 9), rng.normal(size=9), rng.uniform(1, 2, 9)
    with fg.enable_x64():
        for mine, theirs in zip(jnp.polyfit(x, y, 2, w=w, cov=cov), np.polyfit(x, y, 2, w=w, cov=cov), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)
        full = jnp.polyfit(x, y, 2, full=True)
        for mine, theirs in zip(full, np.polyfit(x, y, 2, full=True), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match="do not determine"):
        jnp.polyfit(x[:3], y[:3], 2, cov=True)
    with pytest.raises(ValueError, match="vector x"):
        jnp.polyfit(x, y[:3], 2)


def test_roots_under_jit():
    np.testing.assert_allclose(
        fg.jit(lambda p: jnp.roots(p, strip_zeros=False))(jnp.array([1.0, -3, 2])), [2, 1], rtol=1e-5
    )
    with pytest.raises(TypeError, match="strip_zeros=False"):
        fg.jit(jnp.roots)(jnp.ones(3))


def test_types_of_scalar_types():
    assert lax.dtype(np.float64) == "float32" and fg.dtypes.result_type(1, return_weak_type_flag=True) == (
        "int32",
        True,
    )
    assert fg.dtypes.issubdtype("bfloat16", np.floating) and not fg.dtypes.issubdtype("int8", fg.dtypes.extended)
