"""Every rule of an operation from its definition by other operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.core.primitives import AxisData
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.traces import eval_trace
from funcgrad.errors import ArgumentError
from funcgrad.transforms.flattening import as_arrays
from funcgrad.transforms.interpreters.batching import vmap_flat
from funcgrad.transforms.interpreters.jvp import jvp_flat
from funcgrad.transforms.interpreters.transpose import backward_pass


class Expansion:
    """The rules that `expand`, a function of arrays to an array (or to several), implies."""

    def __init__(self, name: str, expand: Callable[..., Any], multiple: bool):
        self.name, self.expand, self.multiple = name, expand, multiple

    def flat(self, params: dict[str, Any]) -> Callable[..., list[Any]]:
        """The function with its params fixed, from arrays to a list of arrays."""

        def fun(*args: Any) -> list[Any]:
            out = self.expand(*args, **params)
            if isinstance(out, (tuple, list)) != self.multiple:
                fix = (
                    "return a tuple of arrays"
                    if self.multiple
                    else "return one array, or declare multiple_results=True"
                )
                raise ArgumentError(f"{self.name}: expand returned a {type(out).__name__}", fix=fix)
            outs = out if isinstance(out, (tuple, list)) else [out]
            return as_arrays(outs)

        fun.__name__ = self.name
        return fun

    def packed(self, outs: Sequence[Any]) -> Any:
        return list(outs) if self.multiple else outs[0]

    def traced(self, avals: Sequence[ShapedArray], params: dict[str, Any]) -> ClosedJaxpr:
        return trace_to_jaxpr(self.flat(params), avals, name=self.name)

    def infer(self, *avals: ShapedArray, **params: Any) -> Any:
        return self.packed(self.traced(avals, params).out_avals)

    def evaluate(self, *operands: np.ndarray, **params: Any) -> Any:
        with traces.current(eval_trace):
            outs = self.flat(params)(*(Array(aval_of(x), x) for x in operands))
        return self.packed([np.asarray(o) for o in outs])

    def jvp(self, primals: Sequence[Any], tangents: Sequence[Any], /, **params: Any) -> tuple[Any, Any]:
        outs, pushed = jvp_flat(self.flat(params), primals, tangents)
        return self.packed(outs), self.packed(pushed)

    def transpose(self, cotangents: Any, /, *args: Any, **params: Any) -> list[Any]:
        closed = self.traced([aval_of(a) for a in args], params)
        return backward_pass(closed.jaxpr, closed.consts, args, cotangents if self.multiple else [cotangents])

    def batch(
        self, axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], /, **params: Any
    ) -> tuple[Any, Any]:
        outs, out_dims = vmap_flat(self.flat(params), axis.size, dims, args)
        return self.packed(outs), self.packed(out_dims)
