"""The table of strategies, and helpers to write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import Primitive, registry
from funcgrad.testing.strategies import KINDS, Domain, dtypes, fill, kind_of, seeds, shapes


def type_of(x: np.ndarray) -> ShapedArray:
    """Return the type of an array without canonicalization, so that it does not depend on `enable_x64`."""
    return ShapedArray(x.shape, x.dtype)


class Call(NamedTuple):
    """A primitive with valid NumPy operands and params."""

    primitive: Primitive
    args: tuple[np.ndarray, ...]
    params: dict[str, Any]

    def __repr__(self) -> str:
        operands = ", ".join(f"{type_of(x).short()} {x.tolist()}" for x in self.args)
        return f"{self.primitive}[{', '.join(f'{k}={v}' for k, v in self.params.items())}]({operands})"


Draw = Callable[[st.SearchStrategy[Any]], Any]
Strategy = Callable[[Sequence[np.dtype]], st.SearchStrategy[Call]]
CALLS: dict[str, Strategy] = {}

WITHOUT_LAWS = {
    "check_finite": "the compiler inserts it into programs, after all transforms",
    "geev": "the compiler puts it in the place of eig, after all transforms",
    "implicit_gemm": "the compiler inserts it into programs, after all transforms",
    "interleave": "the compiler inserts it into programs, after all transforms",
    "indexed_load": "the compiler inserts it into programs, after all transforms",
    "indexed_update": "the compiler inserts it into programs, after all transforms",
    "custom_lin": "a linear map that is only transposed and never evaluated",
    "random_unwrap": "keys are not NumPy arrays; see tests/random/test_keys.py",
    "random_wrap": "keys are not NumPy arrays; see tests/random/test_keys.py",
    "ref_get": "bound to a Ref, which transforms never see; see transforms.refs",
    "ref_set": "bound to a Ref, which transforms never see; see transforms.refs",
}
"""Primitives that the laws do not test, and why."""

ANY, BITS, INEXACT, NUMBER = KINDS, ("bool", "int"), ("float", "complex"), ("int", "float", "complex")
REALS, ORDERED = ("int", "float"), ("bool", "int", "float")

SMALL = Domain(0, 1.2, signed=True)

DOUBLE = (dt.float64, dt.complex128)
"""The dtypes used for finite differences."""

DISCRETE = {
    *("and", "not", "or", "xor", "clz", "population_count", "gcd", "reduce_and", "reduce_or", "reduce_xor"),
    *("shift_left", "shift_right_arithmetic", "shift_right_logical", "threefry2x32", "least"),
    "lu_pivots_to_permutation",
    *("axis_index", "iota", "check", "io_callback", "pure_callback"),
}
"""Primitives without a float operand: they have no operands, operate on integers, or are effects and callbacks."""


def allowed(kinds: Sequence[str], within: Sequence[np.dtype]) -> st.SearchStrategy[np.dtype]:
    """Return a strategy for the dtypes in `within` of these kinds, or for all of these kinds if there is none."""
    return dtypes(kinds, within if any(kind_of(d) in kinds for d in within) else dt.ALL)


def calls_of(primitive: Primitive | str, within: Sequence[np.dtype] = dt.ALL) -> st.SearchStrategy[Call]:
    """Return a strategy for calls of a primitive with dtypes in `within`, if it accepts any of them."""
    name = primitive if isinstance(primitive, str) else primitive.name
    if name not in CALLS:
        raise KeyError(f"primitive {name!r} has no strategy: add one to funcgrad.testing.calls.CALLS")
    return CALLS[name](within)


def calls(within: Sequence[np.dtype] = dt.ALL) -> st.SearchStrategy[Call]:
    """Return a strategy for calls of any registered primitive."""
    return st.sampled_from(sorted(registry.keys() - WITHOUT_LAWS)).flatmap(lambda name: calls_of(name, within))


def strategy(name: str) -> Callable[[Callable[..., tuple[Sequence[Any], dict[str, Any]]]], Any]:
    """Register a function (draw, within) → (args, params) as the strategy of a primitive."""

    def declare(function: Callable[..., tuple[Sequence[Any], dict[str, Any]]]) -> Any:
        @st.composite
        def composite(draw: Draw, within: Sequence[np.dtype]) -> Call:
            args, params = function(draw, within)
            return Call(registry[name], tuple(map(np.asarray, args)), params)

        CALLS[name] = composite
        return function

    return declare


def operand(draw: Draw, within: Sequence[np.dtype], kinds: Sequence[str] = ANY, **sizes: int) -> np.ndarray:
    """Draw an array of one of these kinds."""
    return fill(draw(seeds), draw(allowed(kinds, within)), draw(shapes(**sizes)))


def subset(draw: Draw, items: Iterable[int], min_size: int = 0) -> tuple[int, ...]:
    """Draw a sorted subset of the items."""
    items = sorted(items)
    if not items:
        return ()
    return tuple(sorted(draw(st.lists(st.sampled_from(items), unique=True, min_size=min_size))))


def an_axis(draw: Draw, x: np.ndarray) -> int:
    """Draw an axis of an array."""
    return draw(st.integers(0, x.ndim - 1))


def wide_floats(within: Sequence[np.dtype], kinds: Sequence[str] = ("float",)) -> st.SearchStrategy[np.dtype]:
    """Return a strategy for the dtypes in `within` that have a complex dtype of equal precision."""
    return allowed(kinds, [d for d in within if d.itemsize >= 4])
