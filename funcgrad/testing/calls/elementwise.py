"""Calls of elementwise primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt
from funcgrad.testing.calls.table import (
    ANY,
    BITS,
    INEXACT,
    NUMBER,
    ORDERED,
    REALS,
    SMALL,
    Draw,
    allowed,
    strategy,
    wide_floats,
)
from funcgrad.testing.strategies import (
    ABOVE_ONE,
    NONZERO,
    POSITIVE,
    REAL,
    UNIT,
    Domain,
    fill,
    kind_of,
    seeds,
    shapes,
)


def elementwise_calls(
    name: str,
    kinds: Sequence[str],
    *domains: Domain,
    params: Callable[[Draw, np.dtype], dict[str, Any]] | None = None,
) -> None:
    """Declare calls of an elementwise primitive with one operand per domain; some operands are scalars."""

    def operands(draw: Draw, within: Sequence[np.dtype]) -> tuple[list[Any], dict[str, Any]]:
        dtype, shape, seed = draw(allowed(kinds, within)), draw(shapes()), draw(seeds)
        scalar = draw(st.sampled_from(range(len(domains) + 1))) - 1 if len(domains) > 1 else -1
        args = [fill(seed + i, dtype, () if i == scalar else shape, d) for i, d in enumerate(domains)]
        return args, params(draw, dtype) if params else {}

    strategy(name)(operands)


FRACTION = Domain(0.1, 0.4, signed=True)

for _names, _kinds, _domains in (
    ("neg square", NUMBER, (REAL,)),
    ("abs sign", NUMBER, (NONZERO,)),
    ("add sub mul", NUMBER, (REAL, REAL)),
    ("add_any", ANY, (REAL, REAL)),
    ("div", NUMBER, (REAL, NONZERO)),
    ("rem", REALS, (REAL, NONZERO)),
    ("max min", ANY, (REAL, REAL)),
    ("eq ne", ANY, (Domain(0, 1, True), Domain(0, 1, True))),
    ("lt le gt ge", ORDERED, (Domain(0, 2, True), Domain(0, 2, True))),
    ("and or xor", BITS, (Domain(0, 100, True), Domain(0, 100, True))),
    ("not", BITS, (Domain(0, 100, True),)),
    ("population_count clz", ("int",), (Domain(0, 100, True),)),
    (
        "shift_left shift_right_logical shift_right_arithmetic",
        ("int",),
        (Domain(0, 100, True), Domain(0, 70, True)),
    ),
    ("floor ceil is_finite", ("float",), (REAL,)),
    ("nextafter", ("float",), (REAL, REAL)),
    ("exp exp2 expm1 sin cos sinh cosh tanh logistic asinh", INEXACT, (SMALL,)),
    ("log sqrt rsqrt", INEXACT, (POSITIVE,)),
    ("log1p", INEXACT, (UNIT,)),
    ("cbrt", ("float",), (NONZERO,)),
    ("tan atan", INEXACT, (FRACTION,)),
    ("asin acos atanh", INEXACT, (UNIT,)),
    ("acosh", INEXACT, (ABOVE_ONE,)),
    ("logaddexp hypot", ("float",), (REAL, REAL)),
    ("gcd", ("int",), (Domain(0, 40, True), Domain(0, 40, True))),
    ("atan2", ("float",), (NONZERO, NONZERO)),
    ("erf erfc", ("float",), (SMALL,)),
    ("erf_inv", ("float",), (UNIT,)),
    ("lgamma digamma bessel_i0e bessel_i1e", ("float",), (POSITIVE,)),
    ("igamma igammac", ("float",), (POSITIVE, POSITIVE)),
    ("igamma_grad_a random_gamma_grad", ("float",), (POSITIVE, POSITIVE)),
    ("zeta", ("float",), (ABOVE_ONE, POSITIVE)),
    ("polygamma", ("float",), (Domain(1, 1), POSITIVE)),
    ("regularized_incomplete_beta", ("float",), (POSITIVE, POSITIVE, Domain(0.2, 0.8))),
    ("real imag", ("complex",), (REAL,)),
    ("stop_gradient copy", ANY, (REAL,)),
):
    for _name in _names.split():
        elementwise_calls(_name, _kinds, *_domains)

elementwise_calls("bessel_ive", ("float",), POSITIVE, params=lambda draw, d: {"order": draw(st.integers(2, 4))})
elementwise_calls("round", ("float",), REAL, params=lambda draw, d: {"rounding_method": draw(st.integers(0, 1))})
elementwise_calls(
    "reduce_precision",
    ("float",),
    REAL,
    params=lambda draw, d: {"exponent_bits": 5, "mantissa_bits": draw(st.integers(2, 10))},
)


def _exponent(draw: Draw, dtype: np.dtype) -> dict[str, Any]:
    return {"y": draw(st.integers(0 if dt.is_integer(dtype) else -3, 4))}


elementwise_calls("integer_pow", NUMBER, NONZERO, params=_exponent)


@strategy("pow")
def _pow(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(allowed(INEXACT, within)), draw(shapes()), draw(seeds)
    exponent = draw(st.sampled_from([dtype, dt.int32]))
    base_shape, exponent_shape = draw(st.sampled_from([(shape, shape), ((), shape), (shape, ())]))
    return [fill(seed, dtype, base_shape, POSITIVE), fill(seed + 1, exponent, exponent_shape, SMALL)], {}


@strategy("complex")
def _complex(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(wide_floats(within)), draw(shapes()), draw(seeds)
    return [fill(seed, dtype, shape), fill(seed + 1, dtype, draw(st.sampled_from([shape, ()])))], {}


@strategy("conj")
def _conj(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype = draw(wide_floats(within, INEXACT))
    return [fill(draw(seeds), dtype, draw(shapes()))], {"input_dtype": dtype}


@strategy("clamp")
def _clamp(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(allowed(REALS, within)), draw(shapes()), draw(seeds)
    low, high = draw(st.sampled_from([shape, ()])), draw(st.sampled_from([shape, ()]))
    bounds = fill(seed + 1, dtype, low, Domain(0, 1)), fill(seed + 2, dtype, high, Domain(1, 2))
    return [bounds[0], fill(seed, dtype, shape), bounds[1]], {}


@strategy("select_n")
def _select_n(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(allowed(ANY, within)), draw(shapes()), draw(seeds)
    which, count = draw(st.sampled_from([(dt.bool_, 2), (dt.int32, 1), (dt.int32, 3)]))
    selector = fill(seed, which, draw(st.sampled_from([shape, ()])), Domain(0, count - 1))
    return [selector, *(fill(seed + i, dtype, shape) for i in range(1, count + 1))], {}


@strategy("convert_element_type")
def _convert(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, new = draw(allowed(ANY, within)), draw(allowed(ANY, within))
    return [fill(draw(seeds), dtype, draw(shapes()))], {"new_dtype": new, "weak_type": False}


@strategy("bitcast_convert_type")
def _bitcast(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype = draw(allowed(REALS, within))
    new = draw(st.sampled_from([d for d in dt.ALL if d.itemsize == dtype.itemsize and kind_of(d) in REALS]))
    return [fill(draw(seeds), dtype, draw(shapes()))], {"new_dtype": new}
