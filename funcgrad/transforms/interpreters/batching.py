"""Batching: push a batch dimension through primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.config import config
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr, used_axes
from funcgrad.core.leaks import check_leaks
from funcgrad.core.masks import broadcast_mask
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.scopes import bound_axis, computed_at
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import Trace
from funcgrad.errors import user_location
from funcgrad.ops.shapes import to_dim


class BatchTracer(Tracer):
    """One element of a batch: `value` holds them all along dimension `dim`."""

    __slots__ = ("aval", "dim", "location", "value")

    def __init__(self, trace: BatchTrace, value: Any, dim: int):
        self._trace, self.value, self.dim = trace, value, dim
        self.location = user_location() if config.check_tracer_leaks else None
        trace.watch(self)
        full = aval_of(value)
        self.aval = full.update(shape=full.shape[:dim] + full.shape[dim + 1 :])

    def concrete(self) -> np.ndarray | None:
        return None

    def origin(self) -> str:
        batch = f" (it is one of a batch of {aval_of(self.value).shape[self.dim]})"
        return batch + computed_at(self.location)


class BatchTrace(Trace):
    """Apply batching rules; primitives whose inputs are not batched go straight to the parent.

    Collectives over the axis' name stop here, batched or not.
    """

    def __init__(self, parent: Trace, axis: AxisData, name: str):
        # Traces of one vmap share one object `axis`, and take each other's tracers for their own.
        self.parent, self.axis, self.description = parent, axis, f"vectorizing (vmap) {name}"

    def unpack(self, x: Any) -> tuple[Any, int | None]:
        """Return (value, batch dimension or None)."""
        if isinstance(x, BatchTracer) and x._trace.axis is self.axis:
            return x.value, x.dim
        return x, None

    def pack(self, value: Any, dim: int | None) -> Any:
        """Return a tracer, or the value itself when it is not batched."""
        return value if dim is None else BatchTracer(self, value, dim)

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        pairs = [self.unpack(a) for a in args]
        values, dims = [v for v, _ in pairs], [d for _, d in pairs]
        may_close_over = primitive.stage is not None
        bypass = primitive.higher_order and not may_close_over
        with traces.bypassing(self) if bypass else traces.current(self.parent):
            if all(d is None for d in dims) and not may_close_over and not self.named_in(primitive, params):
                return primitive.bind(*values, **params)
            out, out_dim = primitive.batch(self.axis, values, dims, **params)
        if primitive.multiple_results:
            return [self.pack(o, d) for o, d in zip(out, out_dim, strict=True)]
        return self.pack(out, out_dim)

    def run(
        self, fun: Callable[..., Sequence[Any]], dims: Sequence[int | None], args: Sequence[Any]
    ) -> tuple[list[Any], list[int | None]]:
        """Apply a flat function to every element of the batch under this trace; return results and their dimensions."""
        with traces.new_trace(self), bound_axis(self.axis.name, self.axis.size):
            pairs = [self.unpack(o) for o in fun(*map(self.pack, args, dims))]
        check_leaks(self)
        return [v for v, _ in pairs], [d for _, d in pairs]

    def named_in(self, primitive: Primitive, params: dict[str, Any]) -> bool:
        """Whether a primitive, or a jaxpr in its params, has a collective over this axis."""
        return self.axis.name is not None and self.axis.name in used_axes(primitive, params)


def vmap_flat(
    fun: Callable[..., Sequence[Any]],
    size: int,
    dims: Sequence[int | None],
    args: Sequence[Any],
    axis_name: Any = None,
) -> tuple[list[Any], list[int | None]]:
    """Apply a flat function to every element of the batch; return results and their batch dimensions."""
    name = getattr(fun, "__name__", "a function")
    return BatchTrace(traces.state.trace, AxisData(axis_name, size), name).run(fun, dims, args)


def batch_jaxpr(
    closed: ClosedJaxpr, axis: AxisData, batched: Sequence[bool], force_out: Sequence[bool] | bool = False
) -> tuple[ClosedJaxpr, list[bool]]:
    """Return the jaxpr with leading batch dimensions on the batched inputs, and the mask of the batched outputs.

    Outputs in the mask `force_out` are batched even when they need not be. Collectives over the axis are removed with
    it, which may batch outputs where no input is batched.
    """
    force = broadcast_mask(force_out, len(closed.jaxpr.outvars))
    key = ("batch", axis, tuple(batched), force, tuple(traces.state.axis_sizes.items()))
    return closed.memo(key, lambda: _batch_jaxpr(closed, axis, batched, force))


def _batch_jaxpr(
    closed: ClosedJaxpr, axis: AxisData, batched: Sequence[bool], force: Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    batched_out: list[bool] = []

    def fun(*args: Any) -> list[Any]:
        dims = [0 if b else None for b in batched]
        outs, out_dims = vmap_flat(
            lambda *xs: eval_jaxpr(closed.jaxpr, closed.consts, *xs), axis.size, dims, args, axis.name
        )
        batched_out[:] = [d is not None or f for d, f in zip(out_dims, force, strict=True)]
        return [to_dim(o, d, 0 if b else None, axis.size) for o, d, b in zip(outs, out_dims, batched_out, strict=True)]

    avals = [
        ShapedArray((axis.size, *a.shape), a.dtype, a.weak_type) if b else a
        for a, b in zip(closed.in_avals, batched, strict=True)
    ]
    return trace_to_jaxpr(fun, avals, name=closed.jaxpr.name), batched_out
