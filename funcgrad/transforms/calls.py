"""Primitives that apply one jaxpr to their operands, once: what calls of jitted and checkpointed functions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, prune_call
from funcgrad.core.lowering import Lowering
from funcgrad.core.masks import nonzero, select, spread, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import hoist_tracers
from funcgrad.core.symbolic import is_undefined
from funcgrad.ops.shapes import leading
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.jvp import jvp_jaxpr
from funcgrad.transforms.interpreters.transpose import transpose_jaxpr
from funcgrad.transforms.refs.discharge import discharge_call


class JaxprCall(Primitive):
    """A primitive whose param `jaxpr` is applied to the operands.

    Each rule derives another jaxpr, and applies that with the same other params.
    """

    def __init__(
        self,
        name: str,
        *,
        evaluate: Callable[..., Any],
        partial_eval: Callable[..., Any],
        lowering: Lowering,
        **options: Any,
    ):
        super().__init__(
            name,
            infer=self._out_avals,
            evaluate=evaluate,
            jvp=self._pushed,
            transpose=self._transposed,
            batch=self._mapped,
            partial_eval=partial_eval,
            prune=prune_call,
            lowering=lowering,
            discharge=lambda args, params: discharge_call(self, args, params),
            multiple_results=True,
            higher_order=True,
            **options,
        )

    def _apply(self, derived: ClosedJaxpr, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        """Apply a derived jaxpr; tracers that custom rules in it close over become operands."""
        closed, closed_over = hoist_tracers(derived)
        return self.bind(*closed_over, *args, jaxpr=closed, **params)

    def _out_avals(self, *avals: ShapedArray, jaxpr: ClosedJaxpr, **params: Any) -> list[ShapedArray]:
        return jaxpr.out_avals

    def _pushed(
        self, primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: ClosedJaxpr, **params: Any
    ) -> tuple[list[Any], list[Any]]:
        mask = nonzero(tangents)
        pushed, nonzero_out = jvp_jaxpr(jaxpr, mask)
        out = self._apply(pushed, [*primals, *select(tangents, mask)], params)
        n = len(nonzero_out)
        return out[:n], with_zeros(out[n:], nonzero_out, jaxpr.out_avals)

    def _transposed(self, cts: Sequence[Any], *args: Any, jaxpr: ClosedJaxpr, **params: Any) -> list[Any]:
        linear, mask = [is_undefined(a) for a in args], nonzero(cts)
        transposed, nonzero_back = transpose_jaxpr(jaxpr, linear, mask)
        out = self._apply(transposed, [*select(args, linear, False), *select(cts, mask)], params)
        return spread(with_zeros(out, nonzero_back, select(jaxpr.in_avals, linear)), linear)

    def _mapped(
        self, axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], *, jaxpr: ClosedJaxpr, **params: Any
    ) -> tuple[list[Any], list[int | None]]:
        mapped, batched_out = batch_jaxpr(jaxpr, axis, [d is not None for d in dims])
        return self._apply(mapped, leading(args, dims), params), [0 if b else None for b in batched_out]
