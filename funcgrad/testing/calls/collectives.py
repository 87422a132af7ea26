"""Calls of collectives, mapped over the axis that they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.testing.calls.table import (
    ANY,
    CALLS,
    NUMBER,
    ORDERED,
    Call,
    Draw,
    allowed,
)
from funcgrad.testing.strategies import (
    fill,
    seeds,
    shapes,
)
from funcgrad.transforms.collectives.rules import (
    all_gather_p,
    all_to_all_p,
    axis_index_p,
    pmax_p,
    pmin_p,
    ppermute_p,
    psum_p,
    reduce_scatter_p,
)
from funcgrad.transforms.vmap import vmap


class OverAxis(Primitive):
    """A collective inside the vmap of its axis, as a function of all rows; outside vmap it has no value."""

    def __init__(self, collective: Primitive, size: int):
        self.collective, self.size = collective, size
        super().__init__(
            collective.name, infer=self._type, evaluate=collective.evaluate, higher_order=True, register=False
        )

    def bind(self, *args: Any, **params: Any) -> Any:
        """Apply the collective in each of `size` elements."""

        def element(*values: Any) -> Any:
            return self.collective.bind(*values, **params)

        return vmap(element, axis_name="i", axis_size=self.size)(*args)

    def _type(self, *avals: ShapedArray, **params: Any) -> ShapedArray:
        """The type of the rows of all results."""
        return trace_to_jaxpr(lambda *rows: [self.bind(*rows, **params)], avals).out_avals[0]


def _groups(draw: Draw, size: int) -> tuple[tuple[int, ...], ...] | None:
    """A partition of the indices of an axis into groups of equal sizes, or None."""
    step = draw(st.sampled_from([0, *(n for n in range(1, size + 1) if size % n == 0)]))
    order = draw(st.permutations(range(size)))
    return tuple(tuple(order[i : i + step]) for i in range(0, size, step)) if step else None


def _declare_collective(primitive: Primitive, kinds: Sequence[str], leading: bool = False) -> None:
    @st.composite
    def composite(draw: Draw, within: Sequence[np.dtype]) -> Call:
        size, dtype = draw(st.sampled_from([4, 3, 1, 6])), draw(allowed(kinds, within))
        groups = _groups(draw, size)
        taken = size if groups is None else len(groups[0])
        shape = (size, *((taken,) if leading else ()), *draw(shapes(max_dims=2, max_side=3)))
        params = {"axis_name": "i", "axis_size": taken, "axis_index_groups": groups}
        if primitive in (psum_p, pmax_p, pmin_p):
            params = {"axes": ("i",), "axis_index_groups": groups}
        if primitive is ppermute_p:
            sent = draw(st.integers(0, size))
            pairs = zip(draw(st.permutations(range(size)))[:sent], draw(st.permutations(range(size))), strict=False)
            params = {"axis_name": "i", "axis_size": size, "perm": tuple(pairs)}
        return Call(OverAxis(primitive, size), (fill(draw(seeds), dtype, shape),), params)

    CALLS[primitive.name] = composite


for _primitive, _kinds in {
    psum_p: NUMBER,
    pmax_p: ORDERED,
    pmin_p: ORDERED,
    all_gather_p: ANY,
    ppermute_p: ANY,
}.items():
    _declare_collective(_primitive, _kinds)
for _primitive in (reduce_scatter_p, all_to_all_p):
    _declare_collective(_primitive, NUMBER, leading=True)


@st.composite
def _axis_index(draw: Draw, within: Sequence[np.dtype]) -> Call:
    return Call(OverAxis(axis_index_p, draw(st.integers(1, 5))), (), {"axis_name": "i"})


CALLS["axis_index"] = _axis_index
