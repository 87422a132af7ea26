"""Primitives that move elements without changing them, and reduce_sum, the transpose of broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Concatenate, Iota, Lowering, Pad, Reduce, Strided, View
from funcgrad.core.primitives import Primitive, registry
from funcgrad.core.tracing import Zero, aval_of, is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError

Dims = Sequence[int | None]


def movement(
    name: str,
    *,
    shape: Callable[..., tuple[int, ...]],
    evaluate: Callable[..., Any],
    transpose: Callable[..., Any],
    batch: Callable[..., Any],
    lowering: Lowering,
) -> Primitive:
    """Declare a linear primitive of one operand that moves elements: jvp applies it to the tangent.

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
        batch=lambda args, dims, **params: batch(args[0], dims[0], **params),
        lowering=lowering,
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
)


def broadcast_in_dim(x: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]) -> Any:
    """Repeat `x` along new or size-1 dimensions: out[i] = x[i[broadcast_dimensions]].

    >>> broadcast_in_dim(np.float32(1.0), (2,), ())
    Array([1., 1.], dtype=float32)
    """
    shape, dims = tuple(shape), tuple(broadcast_dimensions)
    if aval_of(x).shape == shape and dims == tuple(range(len(shape))):
        return x
    return broadcast_in_dim_p.bind(x, shape=shape, broadcast_dimensions=dims)


def broadcast_scalar(x: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast a scalar to `shape`; an array of that shape passes unchanged."""
    return x if aval_of(x).shape == shape else broadcast_in_dim(x, shape, ())


def broadcast_in_batch(x: Any, size: int, dim: int) -> Any:
    """Insert a dimension of the given size at `dim` and repeat `x` along it."""
    shape = aval_of(x).shape
    kept = [d for d in range(len(shape) + 1) if d != dim]
    return broadcast_in_dim(x, (*shape[:dim], size, *shape[dim:]), kept)


def full(shape: Sequence[int], value: Any, dtype: np.dtype, weak_type: bool = False) -> Any:
    """Return an array of one value, as a broadcast scalar (a constant to the compiler)."""
    scalar = Array(ShapedArray((), dtype, weak_type), np.asarray(value, dtype))
    return broadcast_in_dim(scalar, tuple(shape), ())


def zeros_of(aval: ShapedArray) -> Any:
    """Return zeros of the given type."""
    if aval.dtype == dtypes.float0:
        return np.zeros(aval.shape, dtypes.float0)
    return full(aval.shape, 0, aval.dtype, aval.weak_type)


def instantiate(tangent: Any) -> Any:
    """Return the tangent, made of real zeros if it is Zero."""
    return zeros_of(tangent.aval) if type(tangent) is Zero else tangent


def _reduced(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
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
    """Declare a primitive that folds `axes` of its operand with an associative operation; it keeps the dtype.

    `check(x)` raises on operands that the operation does not take.
    """

    def infer(x: ShapedArray, *, axes: tuple[int, ...]) -> ShapedArray:
        check(x)
        check_axes(name, x, axes)
        return ShapedArray(_reduced(x.shape, axes), x.dtype, x.weak_type)

    def batch(args: Sequence[Any], dims: Sequence[int], *, axes: tuple[int, ...]) -> tuple[Any, int]:
        (dim,) = dims
        shifted = tuple(a + (a >= dim) for a in axes)
        return primitive.bind(args[0], axes=shifted), dim - sum(a < dim for a in shifted)

    primitive = Primitive(name, infer=infer, evaluate=evaluate, batch=batch, lowering=Reduce(op, identity), **rules)
    return primitive


def _sum_evaluate(x: Any, *, axes: tuple[int, ...]) -> Any:
    # f16 and bf16 accumulate in f32, as the compiled kernels do.
    wide = np.float32 if x.dtype in (dtypes.float16, dtypes.bfloat16) else x.dtype
    return np.asarray(np.sum(x, axis=axes, dtype=wide), x.dtype)


def _sum_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: tuple[int, ...]) -> tuple[Any, Any]:
    return reduce_sum(primals[0], axes), reduce_sum(tangents[0], axes)


def _sum_transpose(ct: Any, x: Any, *, axes: tuple[int, ...]) -> list[Any]:
    shape = aval_of(x).shape
    return [broadcast_in_dim(ct, shape, tuple(d for d in range(len(shape)) if d not in axes))]


reduce_sum_p = reduction(
    "reduce_sum", "add", _sum_evaluate, lambda dtype: dtype.type(0), jvp=_sum_jvp, transpose=_sum_transpose
)


def reduce_sum(x: Any, axes: Sequence[int]) -> Any:
    """Sum over `axes`, in the operand's dtype."""
    return reduce_sum_p.bind(x, axes=tuple(axes)) if axes else x


def sum_all(x: Any) -> Any:
    """Sum over every axis."""
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
    """Split and merge dimensions while the access stays affine: runs of sizes with equal products are matched up."""
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
        # Old dimensions i..j (from the right) hold the new ones in `group`: they must be one contiguous run.
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
    """Return the elements of `x`, in row-major order, in a new shape."""
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
    return _reduced(x.shape, dimensions)


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
            _reduced(view.shape, dimensions), _reduced(view.strides, dimensions), view.offset
        )
    ),
)


def squeeze(x: Any, dimensions: Sequence[int]) -> Any:
    """Drop dimensions of size 1."""
    return squeeze_p.bind(x, dimensions=tuple(sorted(dimensions))) if dimensions else x


def expand_dims(x: Any, dimensions: Sequence[int]) -> Any:
    """Insert dimensions of size 1 at the given places of the result."""
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
    """Reverse the order of elements along the given dimensions."""
    return rev_p.bind(x, dimensions=tuple(dimensions)) if dimensions else x


# ---------------------------------------------------------------- slice, pad, concatenate


def _slice_shape(x: ShapedArray, *, start_indices: Any, limit_indices: Any, strides: Any) -> tuple[int, ...]:
    steps = strides or (1,) * x.ndim
    if not len(start_indices) == len(limit_indices) == len(steps) == x.ndim:
        raise ArgumentError(f"slice: indices do not have one entry per dimension of {x}", fix="give one per dimension")
    for n, lo, hi, step in zip(x.shape, start_indices, limit_indices, steps, strict=True):
        if not 0 <= lo <= hi <= n or step < 1:
            raise ArgumentError(
                f"slice: [{lo}:{hi}:{step}] is outside a dimension of size {n} of {x}",
                fix="keep 0 <= start <= limit <= size and stride >= 1",
            )
    return tuple(-(-(hi - lo) // s) for lo, hi, s in zip(start_indices, limit_indices, steps, strict=True))


def _slice_transpose(ct: Any, x: ShapedArray, *, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or (1,) * x.ndim
    config = []
    for n, lo, m, s in zip(x.shape, start_indices, aval_of(ct).shape, steps, strict=True):
        covered = (m - 1) * s + 1 if m else 0
        config.append((lo, n - lo - covered, s - 1))
    return pad(ct, _zero_like(ct), config)


def _slice_batch(x: Any, dim: int, *, start_indices: Any, limit_indices: Any, strides: Any) -> tuple[Any, int]:
    def insert(values: Any, value: int) -> tuple[int, ...]:
        return (*values[:dim], value, *values[dim:])

    size = aval_of(x).shape[dim]
    steps = None if strides is None else insert(strides, 1)
    return slice_p.bind(
        x, start_indices=insert(start_indices, 0), limit_indices=insert(limit_indices, size), strides=steps
    ), dim


def _slice_view(view: Strided, *, start_indices: Any, limit_indices: Any, strides: Any) -> Strided:
    steps = strides or (1,) * len(view.shape)
    shape = tuple(-(-(hi - lo) // s) for lo, hi, s in zip(start_indices, limit_indices, steps, strict=True))
    offset = view.offset + sum(lo * s for lo, s in zip(start_indices, view.strides, strict=True))
    return Strided(shape, tuple(s * k for s, k in zip(view.strides, steps, strict=True)), offset)


slice_p = movement(
    "slice",
    shape=_slice_shape,
    evaluate=lambda x, *, start_indices, limit_indices, strides: x[
        tuple(map(slice, start_indices, limit_indices, strides or (1,) * x.ndim))
    ],
    transpose=_slice_transpose,
    batch=_slice_batch,
    lowering=View(_slice_view),
)


def slice_(x: Any, start: Sequence[int], limit: Sequence[int], strides: Sequence[int] | None = None) -> Any:
    """Return x[start:limit:strides], one entry per dimension, all static and in range."""
    aval = aval_of(x)
    if strides is not None and all(s == 1 for s in strides):
        strides = None
    if strides is None and tuple(limit) == aval.shape and not any(start):
        return x
    return slice_p.bind(
        x,
        start_indices=tuple(start),
        limit_indices=tuple(limit),
        strides=None if strides is None else tuple(strides),
    )


def _zero_like(x: Any) -> np.ndarray:
    return np.zeros((), aval_of(x).dtype)


def _padded_size(n: int, low: int, high: int, interior: int) -> int:
    return low + high + n + max(0, n - 1) * interior


def _pad_infer(x: ShapedArray, value: ShapedArray, *, padding_config: Any) -> ShapedArray:
    if value.shape or value.dtype != x.dtype or len(padding_config) != x.ndim:
        raise ShapeError(
            f"pad: padding value {value} and config {padding_config} do not fit operand {x}",
            fix="give a scalar of the operand's dtype and one (low, high, interior) per dimension",
        )
    sizes = tuple(_padded_size(n, *c) for n, c in zip(x.shape, padding_config, strict=True))
    if any(n < 0 for n in sizes) or any(c[2] < 0 for c in padding_config):
        raise ShapeError(
            f"pad: config {padding_config} leaves a negative size of operand {x}", fix="pad less negatively"
        )
    return ShapedArray(sizes, x.dtype, x.weak_type and value.weak_type)


def _pad_evaluate(x: Any, value: Any, *, padding_config: Any) -> Any:
    out = np.full([_padded_size(n, *c) for n, c in zip(x.shape, padding_config, strict=True)], value, x.dtype)
    into, of = [], []
    for n, m, (low, _, interior) in zip(x.shape, out.shape, padding_config, strict=True):
        step = interior + 1
        first = max(0, -(low // step) if low < 0 else 0)
        last = max(first, min(n, -(-(m - low) // step)))
        of.append(slice(first, last))
        into.append(
            slice(low + first * step, max(0, low + (last - 1) * step + 1) if last > first else low + first * step, step)
        )
    if all(s.stop > s.start for s in of):
        out[tuple(into)] = x[tuple(of)]
    return out


def _pad_jvp(primals: Any, tangents: Any, *, padding_config: Any) -> tuple[Any, Any]:
    return pad(*primals, padding_config), pad(*map(instantiate, tangents), padding_config)


def _pad_transpose(ct: Any, x: Any, value: Any, *, padding_config: Any) -> list[Any]:
    x_aval = aval_of(x)
    # Undo the outside padding (negative padding crops), then stride over the interior padding.
    cropped = pad(ct, _zero_like(ct), [(-low, -high, 0) for low, high, _ in padding_config])
    of_x = slice_(cropped, (0,) * x_aval.ndim, aval_of(cropped).shape, [i + 1 for *_, i in padding_config])
    of_value = sum_all(ct) - sum_all(of_x) if is_undefined(value) else None
    return [of_x if is_undefined(x) else None, of_value]


def _pad_batch(args: Sequence[Any], dims: Dims, *, padding_config: Any) -> tuple[Any, int]:
    (x, value), (x_dim, value_dim) = args, dims
    if value_dim is None and x_dim is not None:
        return pad(x, value, (*padding_config[:x_dim], (0, 0, 0), *padding_config[x_dim:])), x_dim
    size = aval_of(value).shape[0]
    x = move_axis(x, x_dim, 0) if x_dim is not None else broadcast_in_batch(x, size, 0)
    config = ((0, 0, 0), *padding_config)
    inside = pad(full(aval_of(x).shape, True, dtypes.bool_), np.False_, config)
    moved = pad(x, _zero_like(x), config)
    return _where(inside, moved, broadcast_in_dim(value, aval_of(moved).shape, (0,))), 0


def _where(predicate: Any, on_true: Any, on_false: Any) -> Any:
    # By name: the elementwise family is above this module.
    return registry["select_n"].bind(predicate, on_false, on_true)


pad_p = Primitive(
    "pad",
    infer=_pad_infer,
    evaluate=_pad_evaluate,
    jvp=_pad_jvp,
    transpose=_pad_transpose,
    batch=_pad_batch,
    lowering=Pad(),
)


def pad(x: Any, value: Any, padding_config: Sequence[Sequence[int]]) -> Any:
    """Surround and interleave `x` with `value`: one (low, high, interior) per dimension; negative low and high crop."""
    config = tuple(tuple(int(v) for v in c) for c in padding_config)
    return pad_p.bind(x, value, padding_config=config) if any(any(c) for c in config) else x


def _concatenate_infer(*avals: ShapedArray, dimension: int) -> ShapedArray:
    first = avals[0]
    if not 0 <= dimension < first.ndim:
        raise ArgumentError(
            f"concatenate: dimension {dimension} is out of range for {first}", fix="choose one of its axes"
        )
    for a in avals[1:]:
        if a.dtype != first.dtype:
            raise DTypeError(
                f"concatenate: operands have different dtypes: {first} and {a}", fix="cast them to one dtype"
            )
        if a.ndim != first.ndim or _reduced(a.shape, (dimension,)) != _reduced(first.shape, (dimension,)):
            raise ShapeError(
                f"concatenate: {first} and {a} differ outside dimension {dimension}",
                fix="all sizes but the concatenated one must be equal",
            )
    shape = list(first.shape)
    shape[dimension] = sum(a.shape[dimension] for a in avals)
    return ShapedArray(tuple(shape), first.dtype, all(a.weak_type for a in avals))


def _concatenate_jvp(primals: Any, tangents: Any, *, dimension: int) -> tuple[Any, Any]:
    return concatenate(primals, dimension), concatenate([instantiate(t) for t in tangents], dimension)


def _concatenate_transpose(ct: Any, *operands: Any, dimension: int) -> list[Any]:
    out, start = [], 0
    shape = aval_of(ct).shape
    for x in operands:
        stop = start + aval_of(x).shape[dimension]
        lo, hi = [0] * len(shape), list(shape)
        lo[dimension], hi[dimension] = start, stop
        out.append(slice_(ct, lo, hi) if is_undefined(x) else None)
        start = stop
    return out


def _concatenate_batch(args: Sequence[Any], dims: Dims, *, dimension: int) -> tuple[Any, int]:
    size = next(aval_of(a).shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    moved = [
        broadcast_in_batch(a, size, 0) if d is None else move_axis(a, d, 0) for a, d in zip(args, dims, strict=True)
    ]
    return concatenate(moved, dimension + 1), 0


concatenate_p = Primitive(
    "concatenate",
    infer=_concatenate_infer,
    evaluate=lambda *xs, dimension: np.concatenate(xs, dimension),
    jvp=_concatenate_jvp,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
    lowering=Concatenate(),
)


def concatenate(operands: Sequence[Any], dimension: int) -> Any:
    """Join operands along an existing dimension."""
    return operands[0] if len(operands) == 1 else concatenate_p.bind(*operands, dimension=dimension)


# ---------------------------------------------------------------- iota


def _iota_evaluate(*, dtype: np.dtype, shape: tuple[int, ...], dimension: int) -> Any:
    view = [1] * len(shape)
    view[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension]).astype(dtype).reshape(view), shape)


iota_p = Primitive(
    "iota",
    infer=lambda *, dtype, shape, dimension: ShapedArray(shape, dtype),
    evaluate=_iota_evaluate,
    jvp=None,
    lowering=Iota(),
)


def iota(dtype: np.dtype, shape: Sequence[int], dimension: int) -> Any:
    """Return out[i] = i[dimension] in the given dtype."""
    return iota_p.bind(dtype=dtype, shape=tuple(shape), dimension=dimension)
