"""Primitives that rearrange elements, and reduce_sum, the transpose of broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray, refuse_keys
from funcgrad.core.lowering import Lowering, Reduce, Strided, View
from funcgrad.core.primitives import AxisData, ParamStyle, Primitive
from funcgrad.core.quiet import quiet
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.ops.accumulation import accumulator, sum_over

Dims = Sequence[int | None]


def movement(
    name: str,
    *,
    shape: Callable[..., tuple[int, ...]],
    evaluate: Callable[..., Any],
    transpose: Callable[..., Any],
    batch: Callable[..., Any],
    lowering: Lowering,
    **options: Any,
) -> Primitive:
    """Declare a linear primitive with one operand that rearranges elements; its jvp applies it to the tangent.

    `shape(aval, **params)` gives the result's shape; `transpose(ct, aval, **params)` the operand's cotangent.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        return primitive.bind(*primals, **params), primitive.bind(*tangents, **params)

    primitive = Primitive(
        name,
        infer=lambda x, **params: ShapedArray(shape(x, **params), x.dtype, x.weak_type),
        evaluate=evaluate,
        jvp=jvp,
        transpose=lambda ct, x, **params: [transpose(ct, aval_of(x), **params)],
        batch=lambda axis, args, dims, /, **params: batch(args[0], dims[0], **params),
        lowering=lowering,
        **options,
    )
    return primitive


# ---------------------------------------------------------------- broadcast and its transpose, reduce_sum


def _broadcast_shape(
    x: ShapedArray, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> tuple[int, ...]:
    if len(broadcast_dimensions) != x.ndim or list(broadcast_dimensions) != sorted(set(broadcast_dimensions)):
        raise ShapeError(
            f"broadcast_in_dim: broadcast_dimensions {broadcast_dimensions} do not fit operand {x}",
            fix="give one increasing result dimension per operand dimension",
        )
    for n, d in zip(x.shape, broadcast_dimensions, strict=True):
        if d >= len(shape) or n not in (1, shape[d]):
            raise ShapeError(
                f"broadcast_in_dim: operand {x} does not broadcast to {shape} with dimensions {broadcast_dimensions}",
                fix="operand sizes must be 1 or equal the result's",
            )
    return shape


def _broadcast_evaluate(x: Any, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]) -> Any:
    expanded = [1] * len(shape)
    for n, d in zip(x.shape, broadcast_dimensions, strict=True):
        expanded[d] = n
    return np.broadcast_to(x.reshape(expanded), shape)


def _broadcast_transpose(
    ct: Any, x: ShapedArray, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> Any:
    kept = {d for n, d in zip(x.shape, broadcast_dimensions, strict=True) if n == shape[d]}
    summed = reduce_sum(ct, tuple(d for d in range(len(shape)) if d not in kept))
    return reshape(summed, x.shape)


def _broadcast_batch(
    x: Any, dim: int, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> tuple[Any, int]:
    size = aval_of(x).shape[dim]
    dims = (0, *(d + 1 for d in broadcast_dimensions))
    return broadcast_in_dim(move_axis(x, dim, 0), (size, *shape), dims), 0


def _broadcast_view(view: Strided, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]) -> Strided:
    strides = [0] * len(shape)
    for n, s, d in zip(view.shape, view.strides, broadcast_dimensions, strict=True):
        strides[d] = s if n == shape[d] else 0
    return Strided(tuple(shape), tuple(strides), view.offset)


broadcast_in_dim_p = movement(
    "broadcast_in_dim",
    shape=_broadcast_shape,
    evaluate=_broadcast_evaluate,
    transpose=_broadcast_transpose,
    batch=_broadcast_batch,
    lowering=View(_broadcast_view),
    # The type of the result shows the shape.
    params_style=ParamStyle(hidden=lambda name, value: name == "shape" or value == ()),
)


def broadcast_in_dim(x: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]) -> Any:
    """Broadcast `x` along new or size-1 dimensions: out[i] = x[i[broadcast_dimensions]].

    >>> broadcast_in_dim(np.float32(1.0), (2,), ())
    Array([1., 1.], dtype=float32)
    """
    shape, dims = tuple(shape), tuple(broadcast_dimensions)
    if aval_of(x).shape == shape and dims == tuple(range(len(shape))):
        return x
    return broadcast_in_dim_p.bind(x, shape=shape, broadcast_dimensions=dims)


def broadcast_scalar(x: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast a scalar to `shape`; return an array of that shape unchanged."""
    return x if aval_of(x).shape == shape else broadcast_in_dim(x, shape, ())


def broadcast_in_batch(x: Any, size: int, dim: int) -> Any:
    """Insert a dimension of the given size at `dim` and broadcast `x` along it."""
    shape = aval_of(x).shape
    kept = [d for d in range(len(shape) + 1) if d != dim]
    return broadcast_in_dim(x, (*shape[:dim], size, *shape[dim:]), kept)


def leading(args: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
    """Move the batch dimensions of operands, if any, to the front."""
    return [a if d in (None, 0) else move_axis(a, d, 0) for a, d in zip(args, dims, strict=True)]


def to_dim(value: Any, dim: int | None, wanted: int | None, size: int) -> Any:
    """Move or create the batch dimension so that it stands at `wanted` (None: must not be batched)."""
    if wanted is None or dim == wanted:
        return value
    return broadcast_in_batch(value, size, wanted) if dim is None else move_axis(value, dim, wanted)


def full(shape: Sequence[int], value: Any, dtype: np.dtype, weak_type: bool = False) -> Any:
    """Return an array filled with a value, as a broadcast scalar, which is a constant to the compiler."""
    scalar = Array(ShapedArray((), dtype, weak_type), quiet.run(np.asarray, value, dtype))
    return broadcast_in_dim(scalar, tuple(shape), ())


def zeros_of(aval: ShapedArray) -> Any:
    """Return zeros of the given type."""
    if aval.dtype == dtypes.float0:
        return np.zeros(aval.shape, dtypes.float0)
    return full(aval.shape, 0, aval.dtype, aval.weak_type)


def instantiate(tangent: Any) -> Any:
    """Return the tangent, materialized as an array of zeros if it is Zero."""
    return zeros_of(tangent.aval) if type(tangent) is Zero else tangent


def reduced(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without the given axes."""
    return tuple(n for d, n in enumerate(shape) if d not in axes)


def check_axes(name: str, x: ShapedArray, axes: Sequence[int]) -> None:
    """Raise unless `axes` are distinct dimensions of `x`."""
    if len(set(axes)) != len(axes) or any(not 0 <= d < x.ndim for d in axes):
        raise ArgumentError(
            f"{name}: axes {tuple(axes)} do not fit operand {x}", fix=f"give distinct axes in [0, {x.ndim})"
        )


def reduction(
    name: str,
    op: str,
    evaluate: Callable[..., Any],
    identity: Callable[[np.dtype], Any],
    check: Callable[[ShapedArray], Any] = lambda x: None,
    **rules: Any,
) -> Primitive:
    """Declare a primitive that reduces `axes` with an associative operation and keeps the dtype.

    `check(x)` raises on operands that the operation does not take.
    """

    def infer(x: ShapedArray, *, axes: tuple[int, ...]) -> ShapedArray:
        refuse_keys(name, x)
        check(x)
        check_axes(name, x, axes)
        return ShapedArray(reduced(x.shape, axes), x.dtype, x.weak_type)

    def batch(axis: AxisData, args: Sequence[Any], dims: Sequence[int], *, axes: tuple[int, ...]) -> tuple[Any, int]:
        (dim,) = dims
        shifted = tuple(a + (a >= dim) for a in axes)
        return primitive.bind(args[0], axes=shifted), dim - sum(a < dim for a in shifted)

    primitive = Primitive(name, infer=infer, evaluate=evaluate, batch=batch, lowering=Reduce(op, identity), **rules)
    return primitive


def _sum_evaluate(x: Any, *, axes: tuple[int, ...]) -> Any:
    return np.asarray(sum_over(x, axes, accumulator(x.dtype)), x.dtype)


def _sum_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: tuple[int, ...]) -> tuple[Any, Any]:
    return reduce_sum(primals[0], axes), reduce_sum(tangents[0], axes)


def _sum_transpose(ct: Any, x: Any, *, axes: tuple[int, ...]) -> list[Any]:
    shape = aval_of(x).shape
    return [broadcast_in_dim(ct, shape, tuple(d for d in range(len(shape)) if d not in axes))]


reduce_sum_p = reduction(
    "reduce_sum", "add", _sum_evaluate, lambda dtype: dtype.type(0), jvp=_sum_jvp, transpose=_sum_transpose
)


def reduce_sum(x: Any, axes: Sequence[int]) -> Any:
    """Sum over `axes`, in the dtype of the operand."""
    return reduce_sum_p.bind(x, axes=tuple(axes)) if axes else x


def sum_all(x: Any) -> Any:
    """Sum over all axes."""
    return reduce_sum(x, tuple(range(aval_of(x).ndim)))


# ---------------------------------------------------------------- reshape, transpose, squeeze, rev


def _reshape_shape(x: ShapedArray, *, new_sizes: tuple[int, ...], dimensions: None = None) -> tuple[int, ...]:
    if math.prod(new_sizes) != x.size or any(n < 0 for n in new_sizes):
        raise ShapeError(
            f"reshape: operand {x} has {x.size} elements, shape {new_sizes} has {math.prod(new_sizes)}",
            fix="give a shape with as many elements (one size may be -1 in funcgrad.numpy.reshape)",
        )
    return new_sizes


def _reshape_batch(x: Any, dim: int, *, new_sizes: tuple[int, ...], dimensions: None = None) -> tuple[Any, int]:
    return reshape(move_axis(x, dim, 0), (aval_of(x).shape[dim], *new_sizes)), 0


def _reshape_view(view: Strided, *, new_sizes: tuple[int, ...], dimensions: None = None) -> Strided | None:
    """Split and merge dimensions if the access stays affine: match runs of sizes with equal products."""
    if 0 in new_sizes:
        return Strided(tuple(new_sizes), (0,) * len(new_sizes), view.offset)
    old = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    strides: list[int] = []
    i, group = 0, []
    for n in reversed(new_sizes):
        if n == 1:
            strides.append(0)
            continue
        group.append((n, len(strides)))
        strides.append(0)
        wanted = math.prod(m for m, _ in group)
        have, j = 1, i
        while have < wanted and j < len(old):
            have *= old[len(old) - 1 - j][0]
            j += 1
        if have != wanted:
            continue
        # The old dimensions i..j, from the right, correspond to the new ones in `group`, and must be contiguous.
        run = [old[len(old) - 1 - k] for k in range(i, j)]
        if any(run[k + 1][1] != run[k][0] * run[k][1] for k in range(len(run) - 1)):
            return None
        step = run[0][1]
        for m, place in group:
            strides[place] = step
            step *= m
        i, group = j, []
    if group or i != len(old):
        return None
    return Strided(tuple(new_sizes), tuple(reversed(strides)), view.offset)


reshape_p = movement(
    "reshape",
    shape=_reshape_shape,
    evaluate=lambda x, *, new_sizes, dimensions=None: np.reshape(x, new_sizes),
    transpose=lambda ct, x, **_: reshape(ct, x.shape),
    batch=_reshape_batch,
    lowering=View(_reshape_view),
)


def reshape(x: Any, shape: Sequence[int]) -> Any:
    """Reshape `x` in row-major order."""
    shape = tuple(shape)
    return x if aval_of(x).shape == shape else reshape_p.bind(x, new_sizes=shape, dimensions=None)


def _transpose_shape(x: ShapedArray, *, permutation: tuple[int, ...]) -> tuple[int, ...]:
    if sorted(permutation) != list(range(x.ndim)):
        raise ArgumentError(
            f"transpose: permutation {permutation} does not fit operand {x}",
            fix=f"give each of the axes 0..{x.ndim - 1} once",
        )
    return tuple(x.shape[d] for d in permutation)


def _transpose_batch(x: Any, dim: int, *, permutation: tuple[int, ...]) -> tuple[Any, int]:
    return transpose(x, (dim, *(d + (d >= dim) for d in permutation))), 0


transpose_p = movement(
    "transpose",
    shape=_transpose_shape,
    evaluate=lambda x, *, permutation: np.transpose(x, permutation),
    transpose=lambda ct, x, *, permutation: transpose(ct, tuple(np.argsort(permutation).tolist())),
    batch=_transpose_batch,
    lowering=View(
        lambda view, *, permutation: Strided(
            tuple(view.shape[d] for d in permutation), tuple(view.strides[d] for d in permutation), view.offset
        )
    ),
)


def transpose(x: Any, permutation: Sequence[int]) -> Any:
    """Permute dimensions: out.shape[i] = x.shape[permutation[i]]."""
    permutation = tuple(permutation)
    return x if permutation == tuple(range(len(permutation))) else transpose_p.bind(x, permutation=permutation)


def move_axis(x: Any, source: int, destination: int) -> Any:
    """Move one axis, keeping the order of the others."""
    order = [d for d in range(aval_of(x).ndim) if d != source]
    order.insert(destination, source)
    return transpose(x, order)


def _squeeze_shape(x: ShapedArray, *, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    check_axes("squeeze", x, dimensions)
    if any(x.shape[d] != 1 for d in dimensions):
        raise ShapeError(
            f"squeeze: dimensions {dimensions} of {x} are not all of size 1", fix="squeeze size-1 axes only"
        )
    return reduced(x.shape, dimensions)


def _squeeze_batch(x: Any, dim: int, *, dimensions: tuple[int, ...]) -> tuple[Any, int]:
    moved = move_axis(x, dim, 0)
    return squeeze(moved, tuple(d + 1 for d in dimensions)), 0


squeeze_p = movement(
    "squeeze",
    shape=_squeeze_shape,
    evaluate=lambda x, *, dimensions: np.squeeze(x, dimensions),
    transpose=lambda ct, x, **_: reshape(ct, x.shape),
    batch=_squeeze_batch,
    lowering=View(
        lambda view, *, dimensions: Strided(
            reduced(view.shape, dimensions), reduced(view.strides, dimensions), view.offset
        )
    ),
)


def squeeze(x: Any, dimensions: Sequence[int]) -> Any:
    """Remove dimensions of size 1."""
    return squeeze_p.bind(x, dimensions=tuple(sorted(dimensions))) if dimensions else x


def expand_dims(x: Any, dimensions: Sequence[int]) -> Any:
    """Insert dimensions of size 1 at the given positions of the result."""
    shape = aval_of(x).shape
    rank = len(shape) + len(dimensions)
    kept = [d for d in range(rank) if d not in dimensions]
    sizes = [1] * rank
    for n, d in zip(shape, kept, strict=True):
        sizes[d] = n
    return broadcast_in_dim(x, sizes, kept)


def _rev_shape(x: ShapedArray, *, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    check_axes("rev", x, dimensions)
    return x.shape


def _rev_view(view: Strided, *, dimensions: tuple[int, ...]) -> Strided:
    offset = view.offset + sum((view.shape[d] - 1) * view.strides[d] for d in dimensions)
    return Strided(view.shape, tuple(-s if d in dimensions else s for d, s in enumerate(view.strides)), offset)


rev_p = movement(
    "rev",
    shape=_rev_shape,
    evaluate=lambda x, *, dimensions: np.flip(x, dimensions),
    transpose=lambda ct, x, *, dimensions: rev(ct, dimensions),
    batch=lambda x, dim, *, dimensions: (rev(x, tuple(d + (d >= dim) for d in dimensions)), dim),
    lowering=View(_rev_view),
)


def rev(x: Any, dimensions: Sequence[int]) -> Any:
    """Reverse the elements along the given dimensions."""
    return rev_p.bind(x, dimensions=tuple(dimensions)) if dimensions else x
