"""Rules of vmap, under JAX's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.interpreters.tables import Rules
from funcgrad.ops.shapes import broadcast_in_batch, expand_dims
from funcgrad.ops.shapes import move_axis as moveaxis

not_mapped = None


def _with_axis(rule: Callable[..., Any]) -> Callable[..., Any]:
    return lambda axis, args, dims, /, **params: rule(args, dims, **params)


primitive_batchers = Rules("_batch", _with_axis)
"""Rules (operands, their batch dimensions or None, **params) → (result, its batch dimension)."""

fancy_primitive_batchers = Rules("_batch", lambda rule: lambda axis, args, dims, /, **p: rule(axis, args, dims, **p))
"""Like `primitive_batchers`, with the mapped axis (its `name` and `size`) as first argument."""


def broadcast(x: Any, size: int, axis: int) -> Any:
    """Repeat `x` along a new axis."""
    return broadcast_in_batch(x, size, axis)


def bdim_at_front(x: Any, bdim: int | None, size: int) -> Any:
    """Return `x` with its batch dimension in front, which is made if there is none."""
    return broadcast_in_batch(x, size, 0) if bdim is None else moveaxis(x, bdim, 0)


def defvectorized(primitive: Primitive) -> None:
    """Declare that a primitive of operands with equal batch dimensions applies to batches as it is."""

    def batch(axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], /, **params: Any) -> tuple[Any, int]:
        moved = [bdim_at_front(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
        return primitive.bind(*moved, **params), 0

    fancy_primitive_batchers[primitive] = batch


def defbroadcasting(primitive: Primitive) -> None:
    """Like `defvectorized`, for a primitive whose operands broadcast: those with fewer dimensions get more."""

    def batch(axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], /, **params: Any) -> tuple[Any, int]:
        rank = max(aval_of(x).ndim - (d is not None) for x, d in zip(args, dims, strict=True))

        def placed(x: Any, dim: int | None) -> Any:
            if dim is None:
                return x
            missing = rank + 1 - aval_of(x).ndim
            return expand_dims(moveaxis(x, dim, 0), range(1, 1 + missing)) if missing else moveaxis(x, dim, 0)

        return primitive.bind(*map(placed, args, dims), **params), 0

    fancy_primitive_batchers[primitive] = batch


_explain_missing_names(__name__)
