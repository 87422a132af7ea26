"""jit = eager at zeros of both signs, infinities, NaN, subnormals and the largest numbers, for what users call."""
# ruff: noqa: SIM905

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy_cases as cases
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, errors, lax, nn
from funcgrad.core.arrays import as_array
from funcgrad.testing import assert_close, special
from funcgrad.testing.special import special_values

DTYPES = [dtypes.as_dtype(d) for d in ("bool", "int8", "uint8", "int32", "uint32", "float16", "bfloat16", "float32")]
WITH_COMPLEX = [*DTYPES, dtypes.complex64]
NN = """relu relu6 sigmoid softplus silu gelu elu celu selu leaky_relu log_sigmoid hard_sigmoid hard_tanh hard_silu
soft_sign squareplus mish""".split()
LAX = """rsqrt cbrt logistic sqrt sign round is_finite erf erfc erf_inv lgamma digamma bessel_i0e bessel_i1e exp2 square
population_count clz""".split()
UNARY: dict[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in cases.UNARY},
    **{name: getattr(nn, name) for name in NN},
    **{f"lax.{name}": getattr(lax, name) for name in LAX},
}
LAX_BINARY = "shift_left shift_right_logical shift_right_arithmetic pow rem div atan2 nextafter igamma".split()
BINARY: dict[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in cases.BINARY},
    **{f"lax.{name}": getattr(lax, name) for name in LAX_BINARY},
}
OPERATORS = "add sub mul truediv floordiv mod pow lshift rshift and_ or_ xor lt le eq".split()
NUMBERS = (0, 1, 2, 3, -1, -2, 0.0, 0.5, -0.5, 1.5, 2.0, -1.0, 1 / 3, 1j, float("inf"), float("nan"))


def with_numbers() -> dict[str, Callable[..., Any]]:
    """Each operator with each Python number, on either side."""
    found: dict[str, Callable[..., Any]] = {}
    for name in OPERATORS:
        of_two = getattr(operator, name)
        for n in NUMBERS:
            found[f"x {name} {n}"] = lambda x, of_two=of_two, n=n: of_two(x, n)
            found[f"{n} {name} x"] = lambda x, of_two=of_two, n=n: of_two(n, x)
    return found


def check(functions: dict[str, Callable[..., Any]], *operands: np.ndarray) -> None:
    """Compare what takes such operands, in one program; the second eager call of a function is a shorter way."""
    arrays, expected, again = [as_array(x) for x in operands], {}, {}
    for name, function in functions.items():
        try:
            expected[name], again[name] = function(*arrays), function(*arrays)
        except (errors.FuncgradError, TypeError, ValueError):
            continue  # the function does not take this dtype
    compiled = fg.jit(lambda *xs: {name: functions[name](*xs) for name in expected})(*operands)
    assert expected
    for name, result in expected.items():
        special.assert_same(compiled[name], result, name)
        special.assert_same(again[name], result, name, "the second eager call and the first")


@pytest.mark.parametrize("dtype", WITH_COMPLEX, ids=str)
def test_functions_of_one_operand(dtype: np.dtype) -> None:
    check(UNARY, special_values(dtype))


@pytest.mark.parametrize("dtype", WITH_COMPLEX, ids=str)
def test_operators_with_python_numbers(dtype: np.dtype) -> None:
    check(with_numbers(), special_values(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_functions_of_two_operands(dtype: np.dtype) -> None:
    values = special_values(dtype)
    check(BINARY, *(g.ravel() for g in np.meshgrid(values, values, indexing="ij")))


@pytest.mark.parametrize("dtype", WITH_COMPLEX, ids=str)
def test_casts(dtype: np.dtype) -> None:
    casts = {str(d): lambda x, d=d: jnp.asarray(x).astype(d) for d in WITH_COMPLEX}
    check(casts, special_values(dtype))


# ---------------------------------------------------------------- values that were wrong


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_arithmetic_shifts_of_unsigned_integers_repeat_the_highest_bit(dtype: Any) -> None:
    most = np.iinfo(dtype).max
    x, by = np.array([most, most // 2, 4], dtype), np.array([2, 2, 1], dtype)
    assert_close(lax.shift_right_arithmetic(x, by), np.array([most, most // 8, 2], dtype))


@pytest.mark.parametrize("exponent", [0.5, np.float32(0.5), np.float32([0.5] * 4)])
def test_a_power_of_one_half_is_not_a_square_root(exponent: Any) -> None:
    x = jnp.array([-np.inf, -0.0, np.nan, 4.0])
    assert_close(x**exponent, np.float32([np.inf, 0.0, np.nan, 2.0]), signed_zeros=True)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_integers_have_no_reciprocals(dtype: Any) -> None:
    for function in (lax.reciprocal, lambda x: lax.integer_pow(x, -2), fg.jit(lax.reciprocal)):
        with pytest.raises(errors.DTypeError, match="to the negative power"):
            function(np.array([0, 2], dtype))


def test_logarithms_of_complex_zero() -> None:
    z = jnp.array([0j, 1, -1, 1j])
    for function, scale in ((jnp.log2, np.log(2)), (jnp.log10, np.log(10))):
        expected = np.array([-np.inf, 0, np.pi / scale * 1j, np.pi / 2 / scale * 1j], np.complex64)
        assert_close(function(z), expected)
        assert_close(fg.jit(function)(z), expected)


def test_odd_functions_keep_negative_zero() -> None:
    zero = jnp.array([-0.0])
    for function in (lax.erf_inv, lax.erf, jnp.sin, jnp.arcsinh, jnp.expm1, jnp.cbrt):
        assert_close(function(zero), np.float32([-0.0]), signed_zeros=True)


def test_log_gamma_of_subnormal_numbers() -> None:
    with fg.enable_x64():
        smallest = np.array([5e-324, -5e-324])
        assert_close(lax.lgamma(smallest), -np.log(abs(smallest)))
