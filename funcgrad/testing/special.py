"""Comparison of compiled and eager results for special values: signed zeros, infinities, NaN, extreme numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.lowering import Elementwise
from funcgrad.core.primitives import Primitive
from funcgrad.testing.comparisons import assert_close

EITHER_ZERO = {
    *("max", "maximum", "min", "minimum", "clamp", "pmax", "pmin", "reduce_max", "reduce_min", "cummax", "cummin"),
    *("reduce_sum", "cumsum", "psum", "reduce_scatter", "dot_general"),
    *("reduce_window_sum", "reduce_window_max", "reduce_window_min"),
    *("elu", "celu", "selu"),
    "regularized_incomplete_beta",
}
"""Functions whose zero result may have either sign: maxima of 0 and −0, as in IEEE 754-2008; sums of only −0; and
selections between a number and its function, for which LLVM may return the 0 of the comparison; a probability at −0."""

CANCELING = {"logaddexp", "logaddexp2", "gelu", "eig"}
"""Functions whose error is relative to the terms of a sum with cancellation, or to the norm of a matrix."""

ORDINARY_PARAMETERS = {
    *("igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "regularized_incomplete_beta"),
    *("zeta", "polygamma", "bessel_ive"),
}
"""Functions that are compared at zeros, NaN and numbers from 1/4 to 3 only. At infinite, huge and tiny parameters,
eager results are SciPy's, which are often NaN there, or finite differences; compiled code computes the limits."""

FINITE_DIFFERENCES = {"igamma_grad_a", "random_gamma_grad"}
"""Functions whose eager results are finite differences, which have 10 digits."""

SAME_SHAPES = {"select_n"}
"""Elementwise primitives that do not broadcast scalars."""

_MAX_COMBINATIONS = 10_000


def special_values(dtype: np.dtype) -> np.ndarray:
    """Return the values of a dtype at which functions have edge cases.

    These are signed zeros, infinities, NaN, the smallest and largest numbers, subnormals, halves and small integers.
    For integers, they include the number of bits, for shifts. Complex numbers have such parts, except the largest ones:
    whether their products overflow depends on the order.

    >>> special_values(np.dtype("bool"))
    array([False,  True])
    """
    if dtype == dtypes.bool_:
        return np.array([False, True])
    if dtypes.is_integer(dtype):
        limits, bits = np.iinfo(dtype), 8 * dtype.itemsize
        values = {0, 1, 2, 3, 7, bits - 1, bits, int(limits.max) - 1, int(limits.max), int(limits.min)}
        return np.array(sorted(values | ({-1, -2, -3, -7, int(limits.min) + 1} if limits.min else set())), dtype)
    if dtypes.is_complex(dtype):
        parts = (0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan)
        return np.array([complex(x, y) for x in parts for y in parts], dtype)
    info = dtypes.finfo(dtype)
    sizes = [0.0, 0.5, 1.0, 2.0, 3.0, np.inf, *map(float, (info.eps, info.max, info.tiny, info.smallest_subnormal))]
    return np.array([sign * size for size in sizes for sign in (1, -1)] + [np.nan]).astype(dtype)


def assert_same(actual: Any, expected: Any, name: str, what: str = "jit and eager") -> None:
    """Raise AssertionError unless two results of the function `name` are equal up to rounding, elementwise.

    Zeros must have the same sign, except for the functions in `EITHER_ZERO`.
    """
    precision = "eps" if name in CANCELING else "tiny"
    for i, (a, b) in enumerate(zip(tree.leaves(actual), tree.leaves(expected), strict=True)):
        dtype = aval_of(b).dtype
        atol = float(getattr(dtypes.finfo(dtype), precision)) if dtypes.is_inexact(dtype) else 0.0
        where = f"{name}: {what} at special values, result {i}"
        rtol = 1e-10 if name in FINITE_DIFFERENCES and dtype == dtypes.float64 else None
        assert_close(a, np.asarray(b), rtol=rtol, atol=atol, signed_zeros=name not in EITHER_ZERO, what=where)


def operands(primitive: Primitive, args: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield operands like `args` that contain special values.

    Elementwise primitives get all combinations, and each value as a scalar with an array. For other primitives, some of
    the real numbers are replaced. Complex operands are skipped, because it is undefined which part of a sum of products
    is infinite and which is NaN.
    """
    if not isinstance(primitive.lowering, Elementwise):
        if not any(dtypes.is_complex(x.dtype) for x in args):
            rng = np.random.default_rng(len(args))
            yield [_replace_some(x, rng) if dtypes.is_float(x.dtype) else x for x in args]
        return
    values = [_values(primitive.name, x.dtype) for x in args]
    if primitive.name == "pow" and dtypes.is_complex(args[0].dtype) and dtypes.is_integer(args[1].dtype):
        # The angle y·arg x has no digits left if y is large.
        values[1] = values[1][np.abs(values[1].astype(float)) < 2**16]
    count = int(_MAX_COMBINATIONS ** (1 / max(1, len(args))))
    axes = [v[np.linspace(0, v.size - 1, min(v.size, count)).astype(int)] for v in values]
    yield [g.ravel() for g in np.meshgrid(*axes, indexing="ij")]
    for i, scalars in enumerate(values if len(args) == 2 and primitive.name not in SAME_SHAPES else ()):
        for scalar in scalars:
            yield [scalar if j == i else v for j, v in enumerate(values)]


def _values(name: str, dtype: np.dtype) -> np.ndarray:
    values = special_values(dtype)
    if name in ORDINARY_PARAMETERS:
        sizes = abs(values.astype(np.float64))
        values = values[(sizes == 0) | (sizes >= 0.25) & (sizes <= 3) | np.isnan(sizes)]
    return values


def _replace_some(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace about half of the elements, but not by the largest numbers, whose sums may overflow in one order only."""
    values = special_values(x.dtype)
    values = values[abs(values) != dtypes.finfo(x.dtype).max]
    return np.where(rng.random(x.shape) < 0.5, rng.choice(values, x.shape), x).astype(x.dtype)
