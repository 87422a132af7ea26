"""Hypothesis strategies for dtypes, shapes, arrays and pytrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt

KINDS = ("bool", "int", "float", "complex")


def kind_of(dtype: np.dtype) -> str:
    """Return "bool", "int", "float" or "complex".

    >>> kind_of(np.dtype("uint8"))
    'int'
    """
    if dtype == dt.bool_:
        return "bool"
    if dt.is_integer(dtype):
        return "int"
    return "complex" if dt.is_complex(dtype) else "float"


class Domain(NamedTuple):
    """An interval of values: `low` ≤ |x| ≤ `high`, with either sign if `signed`.

    Both parts of a complex value are in the interval. Integers are rounded into it, and unsigned ones are not negative.
    Functions are tested in a domain where they are smooth, away from poles, branch cuts and overflow.
    """

    low: float
    high: float
    signed: bool = False


REAL = Domain(0.0, 3.0, signed=True)
NONZERO = Domain(0.4, 3.0, signed=True)
POSITIVE = Domain(0.4, 3.0)
UNIT = Domain(0.1, 0.8, signed=True)
ABOVE_ONE = Domain(1.3, 4.0)


def dtypes(kinds: Sequence[str] = KINDS, within: Sequence[np.dtype] = dt.ALL) -> st.SearchStrategy[np.dtype]:
    """Return a strategy for the dtypes in `within` that have one of the given kinds."""
    return st.sampled_from([d for d in within if kind_of(d) in kinds])


def shapes(
    min_dims: int = 0, max_dims: int = 3, max_side: int = 4, min_side: int = 0
) -> st.SearchStrategy[tuple[int, ...]]:
    """Return a strategy for shapes; sizes 2 and 3 are the most frequent, but 0 and 1 occur."""
    sides = [n for n in (2, 3, 1, 0, *range(4, max_side + 1)) if min_side <= n <= max_side]
    return st.lists(st.sampled_from(sides), min_size=min_dims, max_size=max_dims).map(tuple)


def fill(seed: int, dtype: np.dtype, shape: Sequence[int], domain: Domain = REAL) -> np.ndarray:
    """Return an array of random values in a domain, determined by `seed`."""
    rng, shape = np.random.default_rng(seed), tuple(shape)
    kind = kind_of(dtype)
    if kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if kind == "int":
        values = rng.integers(int(np.ceil(domain.low)), int(domain.high) + 1, shape)
        signed = domain.signed and dtype.kind == "i"
        return np.asarray(values * (rng.choice([-1, 1], shape) if signed else 1)).astype(dtype)

    def part() -> np.ndarray:
        return rng.uniform(domain.low, domain.high, shape) * (rng.choice([-1, 1], shape) if domain.signed else 1)

    return np.asarray(part() + 1j * part() if kind == "complex" else part()).astype(dtype)


seeds = st.integers(0, 2**16)


def arrays(
    dtype: np.dtype | st.SearchStrategy[np.dtype] | None = None,
    shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    domain: Domain = REAL,
) -> st.SearchStrategy[np.ndarray]:
    """Return a strategy for NumPy arrays of values in `domain`. `dtype` and `shape` are values, strategies, or None."""
    dtype_strategy = dtype if isinstance(dtype, st.SearchStrategy) else dtypes() if dtype is None else st.just(dtype)
    shape_strategy = shape if isinstance(shape, st.SearchStrategy) else shapes() if shape is None else st.just(shape)
    return st.builds(lambda d, s, seed: fill(seed, dt.as_dtype(d), s, domain), dtype_strategy, shape_strategy, seeds)


def pytrees(leaves: st.SearchStrategy[Any] | None = None, max_leaves: int = 5) -> st.SearchStrategy[Any]:
    """Return a strategy for nested tuples, lists, dicts and None with the given leaves (arrays by default)."""
    return st.recursive(
        st.none() | (arrays() if leaves is None else leaves),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
        max_leaves=max_leaves,
    )
