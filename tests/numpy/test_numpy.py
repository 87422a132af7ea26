"""funcgrad.numpy against NumPy; compiled against eager; derivatives; operators, methods and what bad input says."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import numpy_cases as cases
import pytest
from hypothesis import given
from test_numpy_oracle import by_name, flat

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors
from funcgrad.testing.gradients import check_grads

CALLS = cases.unary_calls() + cases.binary_calls() + cases.reduction_calls() + cases.other_calls()

# NumPy answers another question: how many zeros, which dtype, what of values that are not defined.
OTHERWISE_IN_NUMPY = {
    "nanargmax",
    "nanargmin",
    "array",
    "resize",
    "cross",
    "histogramdd",
    "histogram2d",
    "floor_divide",
    "divmod",
    "ldexp",
    "left_shift",
    "right_shift",
    "empty",
    "polydiv",
    "issubdtype",
    "promote_types",
    "result_type",
    "can_cast",
    "isdtype",
    "reciprocal",
    "spacing",
    "bincount",
}


def numpys(call: cases.Call) -> Any:
    """NumPy's answer, or None where it has none."""
    if call.name in OTHERWISE_IN_NUMPY or not hasattr(np, call.name):
        return None
    if any(isinstance(a, np.ndarray) and a.dtype == ml_dtypes.bfloat16 for a in call.args):
        return None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return flat(getattr(np, call.name)(*call.args, **call.options))
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None


def of_narrow_integers(call: cases.Call) -> bool:
    """Whether NumPy computes in another width than the lattice: its int64 results wrap differently from our int32."""
    kinds = [np.asarray(a).dtype for a in call.args if isinstance(a, (np.ndarray, bool))]
    return any(d.itemsize < 4 or d.kind == "u" or d.kind == "b" for d in kinds)


@pytest.mark.parametrize("calls", by_name(CALLS))
def test_values_are_numpys(calls: list[cases.Call]) -> None:
    for call in calls:
        expected = None if of_narrow_integers(call) else numpys(call)
        if expected is None:
            continue
        try:
            ours = flat(getattr(jnp, call.name)(*call.args, **call.options))
        except (errors.FuncgradError, OverflowError):
            continue  # test_numpy_oracle says which calls must raise
        for a, b in zip(ours, expected, strict=True):
            wide = np.complex128 if np.asarray(b).dtype.kind == "c" or np.asarray(a).dtype.kind == "c" else np.float64
            if np.asarray(b).dtype.kind in "US":
                continue
            x, y = np.asarray(a).astype(wide), np.asarray(b).astype(wide)
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5, err_msg=str(call))


def array_positions(call: cases.Call) -> list[int]:
    return [i for i, a in enumerate(call.args) if isinstance(a, np.ndarray) and a.size]


# Their results' shapes depend on values, their parameters are static, or they return no arrays.
STATIC = {
    "repeat",
    "full",
    "bincount",
    "union1d",
    "setdiff1d",
    "setxor1d",
    "intersect1d",
    "trim_zeros",
    "arange",
    "array_split",
    "split",
    "isscalar",
    "iterable",
    "iscomplexobj",
    "isrealobj",
    "shape",
    "ndim",
    "size",
    "can_cast",
    "histogram2d",
    "histogramdd",
}


@pytest.mark.parametrize("calls", by_name([c for c in CALLS if c.name not in STATIC]))
def test_compiled_equals_eager(calls: list[cases.Call]) -> None:
    """One call per function: types and values do not depend on jit."""
    chosen = [c for c in calls if array_positions(c) and all(c.args[i].dtype == np.float32 for i in array_positions(c))]
    for call in chosen[:2]:
        places = array_positions(call)

        def traced(*arrays: Any, call: cases.Call = call, places: list[int] = places) -> Any:
            args = list(call.args)
            for i, a in zip(places, arrays, strict=True):
                args[i] = a
            return getattr(jnp, call.name)(*args, **call.options)

        arrays = [jnp.asarray(call.args[i]) for i in places]
        try:
            eager = flat(traced(*arrays))
        except errors.FuncgradError:
            continue
        for a, b in zip(flat(fg.jit(traced)(*arrays)), eager, strict=True):
            assert fg.typeof(a) is fg.typeof(b), str(call)
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=2e-5, err_msg=str(call))


DIFFERENTIABLE = {
    "logaddexp": lambda x: jnp.logaddexp(x, x[::-1] * 2),
    "hypot": lambda x: jnp.hypot(x, x[::-1] + 3),
    "sinc": jnp.sinc,
    "var": jnp.var,
    "std": jnp.std,
    "power": lambda x: jnp.abs(x) ** 2.5,
    "prod": jnp.prod,
    "interp": lambda x: jnp.interp(x, jnp.arange(5.0) - 2.1, jnp.sin(jnp.arange(5.0))),
    "cov": lambda x: jnp.cov(x, x**2),
    "convolve": lambda x: jnp.convolve(x, x[:3]),
    "pad": lambda x: jnp.pad(x, 2, "reflect"),
    "diag": jnp.diag,
    "linspace": lambda x: jnp.linspace(x[0], x[1], 5),
    "roll": lambda x: jnp.roll(x, 2) * x,
    "cumsum": jnp.cumsum,
    "polyval": lambda x: jnp.polyval(x, x),
    "average": lambda x: jnp.average(x, weights=x**2 + 1),
    "max": jnp.max,
    "remainder": lambda x: jnp.remainder(x, 0.7),
    "nanmean": jnp.nanmean,
    "kaiser": lambda x: jnp.kaiser(5, x[0]),
    "where": lambda x: jnp.where(x > 0, x**3, jnp.exp(x)),
    "clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "ldexp": lambda x: jnp.ldexp(x, 3),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name: str) -> None:
    x = jnp.array([0.31, -1.24, 0.83, 1.71, -0.44], dtype=jnp.float32)
    check_grads(DIFFERENTIABLE[name], (x,), order=1 if name in ("power", "interp", "sinc") else 2, atol=2e-2, rtol=2e-2)


def test_logaddexp_is_smooth_where_its_operands_are_equal() -> None:
    first, second = fg.grad(jnp.logaddexp), fg.grad(fg.grad(jnp.logaddexp))
    assert float(first(0.0, 0.0)) == 0.5 and float(second(0.0, 0.0)) == 0.25
    assert float(jnp.logaddexp(-jnp.inf, -jnp.inf)) == -np.inf and float(first(-jnp.inf, 1.0)) == 0.0


def test_sinc_is_smooth_at_zero() -> None:
    slopes = [jnp.sinc(0.0), fg.grad(jnp.sinc)(0.0), fg.grad(fg.grad(jnp.sinc))(0.0)]
    np.testing.assert_allclose([float(s) for s in slopes], [1, 0, -(np.pi**2) / 3], atol=1e-6)


LOGADDEXP = [(1 + 2j, 3 - 1j), (3 - 1j, 1 + 2j), (1 + 1j, 1 + 1j), (2 + 3j, 2 - 3j), (0.5, 2j), (700 + 1j, 690 - 2j)]


@pytest.mark.parametrize("x, y", LOGADDEXP)
def test_logaddexp_of_complex_numbers(x: complex, y: complex) -> None:
    with fg.enable_x64():
        weight = 1 / (1 + np.exp(y - x))
        f = lambda x, y: jnp.logaddexp(x, y)  # noqa: E731
        x, y = np.complex128(x), np.complex128(y)
        expected = x + np.log1p(np.exp(y - x))
        expected -= 2j * np.pi * np.floor((expected.imag + np.pi) / (2 * np.pi))
        for g in (f, fg.jit(f)):
            np.testing.assert_allclose(g(x, y), expected, rtol=1e-14)
            np.testing.assert_allclose(fg.grad(g, 0, holomorphic=True)(x, y), weight, rtol=1e-13)
            np.testing.assert_allclose(fg.grad(g, 1, holomorphic=True)(x, y), 1 - weight, rtol=1e-12)
            second = fg.grad(fg.grad(g, 0, holomorphic=True), 1, holomorphic=True)(x, y)
            np.testing.assert_allclose(second, -weight * (1 - weight), rtol=1e-12)
        ln2 = np.log(2)
        np.testing.assert_allclose(jnp.logaddexp2(x / ln2, y / ln2), expected / ln2, rtol=1e-13)


def test_logaddexp_of_infinite_complex_numbers() -> None:
    inf = np.inf
    for x, y, expected in [(-inf, -inf, -inf), (-inf, 2, 2), (inf, 1, inf), (inf, inf, inf), (-inf, inf, inf)]:
        assert jnp.logaddexp(np.complex64(x), np.complex64(y)) == np.complex64(expected)


# ---------------------------------------------------------------- operators and the eager shortcut


OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!="]
SCALARS = st.one_of(st.integers(0, 127), st.integers(-9, 300), st.floats(-9, 9, width=32), st.booleans())
DTYPES = ["bool", "int8", "uint8", "int32", "float16", "float32", ml_dtypes.bfloat16, "complex64"]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    return (np.arange(np.prod(shape)).reshape(shape) % 5 + 1).astype(draw(st.sampled_from(DTYPES)))


@given(array=arrays(), scalar=SCALARS, operator=st.sampled_from(OPERATORS), swapped=st.booleans())
def test_shortcut_is_the_long_way(array: np.ndarray, scalar: Any, operator: str, swapped: bool) -> None:
    """The second call of an operation takes the shortcut; under a trace nothing does. All agree, in type too."""
    x = jnp.asarray(array)

    def apply(a: Any) -> Any:
        left, right = (scalar, a) if swapped else (a, scalar)
        return eval("left " + operator + " right", {"left": left, "right": right})

    try:
        first = apply(x)
    except (errors.FuncgradError, OverflowError) as error:
        with pytest.raises(type(error)):
            fg.make_jaxpr(apply)(x)
        return
    again = apply(x)
    assert fg.typeof(again) is fg.typeof(first) is fg.make_jaxpr(apply)(x).out_avals[0]
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))


def test_shortcut_does_not_warn_and_leaves_numpys_settings_alone() -> None:
    x = jnp.array([0.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert np.isinf(np.asarray(1.0 / x)[0]) and np.isnan(np.asarray(x / x)[0])
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        np.float32(1) / np.zeros(1, np.float32)


def test_shortcut_in_threads() -> None:
    x, results = jnp.arange(100.0), []
    threads = [
        threading.Thread(target=lambda: results.append(sum(float((x + x)[3]) for _ in range(200)))) for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [1200.0] * 4


def test_other_types_get_their_turn() -> None:
    class Other:
        def __radd__(self, x: Any) -> str:
            return "other"

    assert jnp.ones(2) + Other() == "other"
    with pytest.raises(TypeError):
        jnp.ones(2) + "text"
    with pytest.raises(TypeError):
        jnp.ones(2) + [1.0, 2.0]


def test_methods() -> None:
    x = jnp.arange(6.0).reshape(2, 3)
    assert (
        x.T.shape
        == (3, 2)
        == x.reshape((3, 2)).shape
        == x.reshape(3, -1).shape
        == x.transpose(1, 0).shape
        == x.mT.shape
    )
    assert x.astype(int).dtype == jnp.int32 and x.astype("bool").sum() == 5 and x.flatten().shape == (6,)
    assert float(x.sum()) == 15 and x.sum(0).shape == (3,) and x.mean(axis=1, keepdims=True).shape == (2, 1)
    assert int(x.argmax()) == 5 and x.clip(1, 3).max() == 3 and round(float(x.var()), 4) == 2.9167
    assert x.view(jnp.int32).dtype == jnp.int32 and x.view(jnp.uint8).shape == (2, 12) and x.real is x
    np.testing.assert_array_equal(np.asarray(x.view(jnp.int16)), np.asarray(x).view(np.int16))
    assert round(jnp.float32(2.5)) == 2 and divmod(jnp.int32(-7), 3) == (-3, 2)


def test_devices_of_arrays() -> None:
    x = jnp.ones(2)
    assert x.devices() == {x.device} == set(fg.devices()) and x.platform == fg.default_backend() == "cpu"
    moved = fg.device_put({"a": np.ones(2), "b": 1.0})
    assert isinstance(moved["a"], fg.Array) and type(fg.device_get(moved)["b"]) is np.ndarray
    assert any(a is x for a in fg.live_arrays()) and len(fg.devices()) == fg.local_device_count() == 1


def test_isinstance_of_arrays_and_tracers() -> None:
    seen = []
    fg.make_jaxpr(lambda x: seen.append(isinstance(x, fg.Array) and isinstance(x, jnp.ndarray)) or x)(1.0)
    assert seen == [True] and isinstance(jnp.ones(2), fg.Array) and not isinstance(np.ones(2), fg.Array)


def test_bfloat16_means_accumulate_in_float32() -> None:
    x = jnp.full((4096,), 1.01, jnp.bfloat16)
    assert float(x.mean()) == float(x[0]) and x.mean().dtype == jnp.bfloat16


def test_requests_for_64_bits_warn() -> None:
    with pytest.warns(UserWarning, match="float64 was requested"):
        assert jnp.zeros(2, jnp.float64).dtype == jnp.float32
    with fg.enable_x64():
        assert jnp.zeros(2, jnp.float64).dtype == jnp.float64 and jnp.arange(3).dtype == jnp.int64


# ---------------------------------------------------------------- bad input


BAD = {
    "add: shapes (2, 3) and (4,)|(4,) and (2, 3)": lambda: jnp.ones((2, 3)) + jnp.ones(4),
    "sum: axis 2 is out of range for an array of 1 dimensions": lambda: jnp.sum(jnp.ones(3), axis=2),
    "sum: axis (0, 0) names an axis twice": lambda: jnp.sum(jnp.ones(3), axis=(0, 0)),
    "reshape: f32[3] with 3 elements does not fit shape (2, -1)": lambda: jnp.ones(3).reshape(2, -1),
    "reshape: operand f32[3] has 3 elements": lambda: jnp.ones(3).reshape(4),
    "max: axes (0,) of f32[0] are empty": lambda: jnp.max(jnp.ones(0)),
    "power: integers of type i32[3] to the negative power -1": lambda: jnp.arange(3) ** -1,
    "subtract|sub: operand 0 has type bool[]": lambda: jnp.subtract(True, True),
    "concatenate: f32[2] and f32[1,2] differ|differ": lambda: jnp.concatenate([jnp.ones((2, 2)), jnp.ones((1, 3))]),
    "stack: arrays have different shapes: f32[2] and f32[3]": lambda: jnp.stack([jnp.ones(2), jnp.ones(3)]),
    "split: axis 0 of f32[5] has size 5, which does not split into 2": lambda: jnp.split(jnp.ones(5), 2),
    "pad: mode 'edge' does not take constant_values": lambda: jnp.pad(jnp.ones(2), 1, "edge", constant_values=1),
    "zeros: shape (-1,) has a negative size": lambda: jnp.zeros(-1),
    "zeros: shape is 2.5 of type float": lambda: jnp.zeros(2.5),
    "add: operand [1, 2] of type list is not an array": lambda: jnp.add([1, 2], 1),
    "array: 's' holds": lambda: jnp.array("s"),
    "arange: step is 0": lambda: jnp.arange(1, 5, 0),
    "sum: out= was given": lambda: jnp.sum(jnp.ones(2), out=jnp.ones(())),
    "repeat: repeats of type i32[2] is traced": lambda: fg.jit(lambda n: jnp.repeat(jnp.ones(2), n))(jnp.array([1, 2])),
    "bitwise_not|not: operand 0 has type f32[2]": lambda: ~jnp.ones(2),
    "squeeze: dimensions (0,) of f32[2]": lambda: jnp.squeeze(jnp.ones(2), 0),
    "zeros: an array of type f32[1000000,1000000,1000] needs": lambda: jnp.zeros((10**6, 10**6, 1000)),
    "add: Python integer 4294967296 does not fit int32": lambda: jnp.arange(3) + 2**32,
    "reshape: a traced|a traced array": lambda: fg.jit(lambda n: jnp.zeros(n))(3),
    "'foo' is not a dtype": lambda: jnp.zeros(2, "foo"),
    "promote implicitly|float8": lambda: jnp.asarray(np.zeros(2, ml_dtypes.float8_e4m3fn)),
    "bincount: x has type f32[2]": lambda: jnp.bincount(jnp.ones(2)),
    "ravel_pytree|unravel: a vector of type f32[3]": lambda: fg.flatten_util.ravel_pytree(jnp.ones(2))[1](jnp.ones(3)),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_input(text: str) -> None:
    with pytest.raises((errors.FuncgradError, OverflowError)) as caught:
        BAD[text]()
    message = str(caught.value)
    assert any(part in message for part in text.split("|")), message
    assert "fix: " in message and "test_numpy.py:" in message, message


def test_integers_that_do_not_fit_raise() -> None:
    for value, dtype in ((300, "uint8"), (-1, "uint8"), (2**40, None)):
        with pytest.raises(OverflowError, match="out of bounds"):
            jnp.array(value, dtype)
        with pytest.raises(OverflowError, match="out of bounds"):
            jnp.array([value], dtype)
    assert int(jnp.uint8(45) + 300) == 89
