"""Batching for primitives that have no rule of their own: the primitive over a leading dimension is another primitive.

Each rule of the mapped primitive is the original's, lane by lane: its derivative is vmap of the derivative, its
transpose vmap of the transpose (summed over lanes for what they share), and its batching rule maps it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Lowering, Native, Rewrite, host
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import UndefinedPrimal, Zero, is_undefined
from funcgrad.ops.shapes import leading, reduce_sum, to_dim
from funcgrad.transforms.interpreters.batching import vmap_flat

Flags = tuple[bool, ...]


def batch_by_mapping(primitive_of: Callable[[], Primitive]) -> Callable[..., Any]:
    """Return a batching rule that maps the primitive; it is asked for when the rule is first used."""
    made: dict[Flags, Primitive] = {}

    def batch(axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], /, **params: Any) -> tuple[Any, Any]:
        primitive = primitive_of()
        batched = tuple(d is not None for d in dims)
        if batched not in made:
            made[batched] = mapped(primitive, batched)
        out = made[batched].bind(*leading(args, dims), **params)
        return out, [0] * len(out) if primitive.multiple_results else 0

    return batch


def mapped(primitive: Primitive, batched: Flags) -> Primitive:
    """Return the primitive that applies `primitive` to each slice of the batched operands, along their first axis."""
    lanes = _Lanes(primitive, batched)
    made = Primitive(
        f"vmap({primitive.name})",
        infer=lanes.infer,
        evaluate=lanes.evaluate,
        jvp=lanes.jvp if primitive.has("jvp") else None,
        transpose=lanes.transpose if primitive.has("transpose") else None,
        batch=batch_by_mapping(lambda: made),
        lowering=lanes.lowering(),
        multiple_results=primitive.multiple_results,
        origin=primitive.origin,
        register=False,
    )
    return made


class _Lanes:
    """The rules of a mapped primitive."""

    def __init__(self, primitive: Primitive, batched: Flags):
        self.primitive, self.batched = primitive, batched

    def as_list(self, out: Any) -> list[Any]:
        return list(out) if self.primitive.multiple_results else [out]

    def as_result(self, outs: Sequence[Any]) -> Any:
        return list(outs) if self.primitive.multiple_results else outs[0]

    def size(self, shapes: Sequence[Any]) -> int:
        """The number of lanes of operands, from anything with a shape."""
        return next(x.shape[0] for x, b in zip(shapes, self.batched, strict=True) if b)

    def infer(self, *avals: ShapedArray, **params: Any) -> Any:
        lanes = [a.update(shape=a.shape[1:]) if b else a for a, b in zip(avals, self.batched, strict=True)]
        out = self.as_list(self.primitive.infer(*lanes, **params))
        return self.as_result([a.update(shape=(self.size(avals), *a.shape)) for a in out])

    def evaluate(self, *operands: np.ndarray, **params: Any) -> Any:
        avals = [aval_of(x) for x in operands]
        outs = [np.empty(a.shape, a.dtype) for a in self.as_list(self.infer(*avals, **params))]
        for i in range(self.size(operands)):
            lane = [x[i, ...] if b else x for x, b in zip(operands, self.batched, strict=True)]
            for out, value in zip(outs, self.as_list(self.primitive.evaluate(*lane, **params)), strict=True):
                out[i] = value
        return self.as_result(outs)

    def jvp(self, primals: Sequence[Any], tangents: Sequence[Any], /, **params: Any) -> tuple[Any, Any]:
        """(f(xᵢ), ∂f(xᵢ)·vᵢ) for each lane i."""
        flags = [*self.batched, *(b for b, t in zip(self.batched, tangents, strict=True) if type(t) is not Zero)]
        zero_out: list[Any] = []

        def fun(*flat: Any) -> list[Any]:
            given = iter(flat[len(primals) :])
            pushed = [
                Zero(aval_of(x).tangent()) if type(t) is Zero else next(given)
                for x, t in zip(flat, tangents, strict=False)
            ]
            out, out_tangents = map(self.as_list, self.primitive.jvp(flat[: len(primals)], pushed, **params))
            zero_out[:] = [type(t) is Zero for t in out_tangents]
            return [*out, *(t for t in out_tangents if type(t) is not Zero)]

        size = self.size([aval_of(x) for x in primals])
        leaves = [*primals, *(t for t in tangents if type(t) is not Zero)]
        flat_out = self.mapped_call(fun, size, flags, leaves)
        outs, rest = flat_out[: len(zero_out)], iter(flat_out[len(zero_out) :])
        pushed = [Zero(aval_of(o).tangent()) if zero else next(rest) for o, zero in zip(outs, zero_out, strict=True)]
        return self.as_result(outs), self.as_result(pushed)

    def transpose(self, cotangents: Any, /, *args: Any, **params: Any) -> list[Any]:
        """The cotangent of each lane; lanes that share an operand add up."""
        cts = self.as_list(cotangents)
        linear = [is_undefined(a) for a in args]
        values = [(a, b) for a, b, lin in zip(args, self.batched, linear, strict=True) if not lin]
        given = [ct for ct in cts if type(ct) is not Zero]
        back_zero: list[Any] = []

        def fun(*flat: Any) -> list[Any]:
            leaves = iter(flat)
            lane = [
                UndefinedPrimal(self.lane(a.aval, b)) if lin else next(leaves)
                for a, b, lin in zip(args, self.batched, linear, strict=True)
            ]
            lane_cts = [Zero(self.lane(ct.aval, True)) if type(ct) is Zero else next(leaves) for ct in cts]
            back = self.primitive.transpose(self.as_result(lane_cts), *lane, **params)
            back_zero[:] = [ct is None or type(ct) is Zero for ct in back]
            return [ct for ct, zero in zip(back, back_zero, strict=True) if not zero]

        size = self.size([aval_of(a) for a in args])
        flags = [*(b for _, b in values), *(True for _ in given)]
        flowing = iter(self.mapped_call(fun, size, flags, [*(a for a, _ in values), *given]))
        return [
            None if zero else next(flowing) if b else reduce_sum(next(flowing), (0,))
            for b, zero in zip(self.batched, back_zero, strict=True)
        ]

    def lane(self, aval: ShapedArray, batched: bool) -> ShapedArray:
        return aval.update(shape=aval.shape[1:]) if batched else aval

    def mapped_call(self, fun: Callable[..., Any], size: int, flags: Sequence[bool], args: Sequence[Any]) -> list[Any]:
        """Results of a flat function over lanes, with the lanes leading."""
        outs, dims = vmap_flat(fun, size, [0 if b else None for b in flags], args)
        return [to_dim(o, d, 0, size) for o, d in zip(outs, dims, strict=True)]

    def lowering(self) -> Lowering:
        lowering = self.primitive.lowering
        if isinstance(lowering, Native):
            return lowering.mapped(self.batched)
        if not isinstance(lowering, Rewrite):
            return host
        expand = lowering.expand

        def expand_lanes(*args: Any, **params: Any) -> Any:
            size = self.size([aval_of(a) for a in args])
            return self.as_result(
                self.mapped_call(lambda *lane: self.as_list(expand(*lane, **params)), size, self.batched, args)
            )

        return Rewrite(expand_lanes)
