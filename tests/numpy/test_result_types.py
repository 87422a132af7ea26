"""The dtype, weak type and shape of the result of every function, and the class of its error, are those of JAX.

The whole table is run with -m slow. A call that JAX refuses may succeed here.
"""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp

pytestmark = pytest.mark.oracle

DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bfloat16",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]
WIDE = {"int64", "uint64", "float64", "complex128"}
WEAK = (1, 1.0, 1j)

UNARY = [
    "abs",
    "negative",
    "positive",
    "conj",
    "real",
    "imag",
    "sign",
    "sqrt",
    "cbrt",
    "square",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "reciprocal",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "round",
    "isnan",
    "isinf",
    "isfinite",
    "isneginf",
    "signbit",
    "invert",
    "bitwise_count",
    "logical_not",
    "deg2rad",
    "rad2deg",
    "sinc",
    "i0",
    "angle",
    "nan_to_num",
    "modf",
    "frexp",
    "sum",
    "prod",
    "mean",
    "std",
    "var",
    "median",
    "max",
    "min",
    "ptp",
    "argmax",
    "argmin",
    "cumsum",
    "cumprod",
    "any",
    "all",
    "nansum",
    "nanprod",
    "nanmean",
    "nanstd",
    "nanvar",
    "nanmedian",
    "nanmax",
    "nanargmax",
    "nancumsum",
    "cumulative_sum",
    "sort",
    "argsort",
    "flip",
    "vander",
    "gradient",
    "diff",
    "ediff1d",
    "count_nonzero",
    "sort_complex",
    "ones_like",
    "iscomplex",
    "unwrap",
    "trapezoid",
    "poly",
    "polyder",
    "polyint",
    "corrcoef",
    "cov",
    "packbits",
    "average",
]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "floor_divide",
    "power",
    "float_power",
    "remainder",
    "fmod",
    "divmod",
    "maximum",
    "minimum",
    "fmax",
    "logaddexp",
    "arctan2",
    "hypot",
    "copysign",
    "nextafter",
    "ldexp",
    "gcd",
    "lcm",
    "bitwise_and",
    "bitwise_or",
    "left_shift",
    "right_shift",
    "equal",
    "less",
    "logical_and",
    "matmul",
    "dot",
    "vdot",
    "inner",
    "outer",
    "kron",
    "cross",
    "convolve",
    "correlate",
    "polyval",
    "polymul",
    "append",
    "isclose",
    "searchsorted",
    "digitize",
    "isin",
    "take",
    "allclose",
    "vecdot",
    "cov",
    "average",
]

# Calls that JAX accepts and funcgrad refuses.
REFUSED = {
    **dict.fromkeys(("argmax", "argmin", "nanargmax"), "complex numbers have no order"),
}


# Functions whose result is weakly typed here, as those of other functions of weak types are.
WEAK_HERE = ("gcd", "hypot", "lcm", "logaddexp")


def outcome(library, function, *args):
    """Return the types of the results, or the class of the error. A bool is never weak here, so that is left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = library.eval_shape(function, *args)
    except Exception as error:
        return type(error)
    leaves = library.tree.leaves(out)
    return [(str(x.dtype), x.shape, x.weak_type and x.dtype != bool) for x in leaves]


def differs(jax, name, *operands):
    """Return a description of a difference between the libraries, or None."""
    mine = outcome(fg, getattr(jnp, name), *operands)
    theirs = outcome(jax, getattr(jax.numpy, name), *operands)
    if isinstance(theirs, type):
        expected = next((k for k in (TypeError, ValueError) if issubclass(theirs, k)), Exception)
        same = not isinstance(mine, type) or issubclass(mine, expected)
    else:
        same = mine == theirs or (isinstance(mine, type) and name in REFUSED)
        if name in WEAK_HERE and not isinstance(mine, type):
            same = [m[:2] for m in mine] == [t[:2] for t in theirs]
    types = [x if isinstance(x, (int, float, complex)) else str(x.dtype) for x in operands]
    return None if same else f"{name}{types}: {mine}, in JAX {theirs}"


def calls(wide):
    """Yield the name and operands of every call."""
    arrays = [np.ones(3, d if d != "bfloat16" else jnp.bfloat16.dtype) for d in DTYPES if wide or d not in WIDE]
    yield from ((name, x) for name in UNARY for x in arrays)
    yield from ((name, x, y) for name in BINARY for x, y in itertools.product(arrays, arrays))
    yield from ((name, x, y) for name in BINARY for x, y in itertools.product(arrays, WEAK))


def check(jax, wide, count):
    """Compare all calls, or so many of each function, drawn at random."""
    table = {name: list(found) for name, found in itertools.groupby(calls(wide), key=lambda call: call[0])}
    drawn = random.Random(wide)
    jax.config.update("jax_enable_x64", wide)
    try:
        with fg.enable_x64(wide):
            chosen = [call for found in table.values() for call in drawn.sample(found, min(count, len(found)))]
            found = [differs(jax, *call) for call in chosen]
    finally:
        jax.config.update("jax_enable_x64", False)
    assert not (bad := [d for d in found if d is not None]), "\n".join([f"{len(bad)} calls differ", *bad[:40]])


@pytest.mark.parametrize("wide", [False, True])
def test_sampled_result_types_are_those_of_jax(jax, wide):
    check(jax, wide, 3)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True])
def test_all_result_types_are_those_of_jax(jax, wide):
    check(jax, wide, 10**6)
