"""The primitives of collectives, and their rules.

A collective is a primitive of one element's values, like any other, so it passes through jit, grad and loops as an
equation. It is gone when the vmap of its name reaches it: the values of all elements are then rows of one array, and
the batch rule is a reduction over the rows, or moves them. For a row x[i] of n:

==================  ==========================================================  =====================
psum                out[i] = Σⱼ x[j]                                            its own transpose
pmax, pmin          out[i] = maxⱼ x[j]
all_gather          out[i] = x, all rows                                        transpose: reduce_scatter
reduce_scatter      out[i] = Σⱼ x[j][i]                                         transpose: all_gather
all_to_all          out[i][j] = x[j][i]                                         its own transpose
ppermute            out[d] = x[s] for pairs (s, d), else 0                      transpose: pairs reversed
axis_index          out[i] = i
==================  ==========================================================  =====================

The primitives work on a leading dimension; the functions of `collectives` give them any dimension, tiles, several
names and pytrees. Groups of elements that keep to themselves are a vmap over groups of a vmap over the elements of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import UnboundAxisError
from funcgrad.ops.arithmetic import mul_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.gather_scatter import gather
from funcgrad.ops.indexing import GatherDimensionNumbers
from funcgrad.ops.logic import eq_p
from funcgrad.ops.reductions import reduce_max, reduce_min
from funcgrad.ops.shapes import move_axis, reduce_sum, reshape, to_dim
from funcgrad.ops.slicing import iota
from funcgrad.transforms.interpreters.batching import vmap_flat

Groups = tuple[tuple[int, ...], ...] | None
Pair = tuple[Any, Any]


def _names(params: dict[str, Any]) -> tuple[Any, ...]:
    return params["axes"] if "axes" in params else (params["axis_name"],)


def _unbound(name: str) -> Callable[..., Any]:
    """Evaluate a collective whose axis is not bound by any vmap."""

    def evaluate(*_: Any, **params: Any) -> Any:
        raise unbound_axis(name, _names(params)[0])

    return evaluate


def unbound_axis(operation: str, name: Any) -> UnboundAxisError:
    """Return the error for a name that no enclosing vmap has bound."""
    bound = ", ".join(f"{n!r} of size {size}" for n, size in traces.state.axis_sizes.items())
    return UnboundAxisError(
        f"{operation}: unbound axis name: {name!r}; bound axes: {bound or 'none'}",
        fix=f"call it within vmap(..., axis_name={name!r}), which names the axis it maps",
    )


def _rows(x: Any, order: Sequence[int] | np.ndarray) -> Any:
    """Return x[order] along the first dimension; zeros where a position is past the end."""
    shape = aval_of(x).shape
    numbers = GatherDimensionNumbers(tuple(range(1, len(shape))), (0,), (0,))
    indices = np.asarray(order, np.int32)[:, None]
    return gather(x, indices, numbers, (1, *shape[1:]), mode="fill", fill_value=0)


def _within_groups(primitive: Primitive, rows: Any, params: dict[str, Any]) -> Pair:
    """Apply a collective in every group of rows by itself: vmap over groups, and over the rows of a group."""
    groups = params["axis_index_groups"]
    (name,), order, size = _names(params), np.concatenate(groups), len(groups[0])
    rest = aval_of(rows).shape[1:]

    def of_group(group: Any) -> list[Any]:
        alone = params | {"axis_index_groups": None}
        (out,), (dim,) = vmap_flat(lambda x: [primitive.bind(x, **alone)], size, [0], [group], name)
        return [to_dim(out, dim, 0, size)]

    grouped = reshape(_rows(rows, order), (len(groups), size, *rest))
    (out,), (dim,) = vmap_flat(of_group, len(groups), [0], [grouped])
    out = to_dim(out, dim, 0, len(groups))
    return _rows(reshape(out, (order.size, *aval_of(out).shape[2:])), np.argsort(order)), 0


def _collective(
    name: str,
    along: Callable[..., Pair],
    transpose: Callable[..., Any],
    leading: tuple[bool, bool] = (False, False),
    moves_only: bool = False,
) -> Primitive:
    """Declare a linear collective of one operand.

    `along(rows, **params)` applies it to the rows of all elements and returns the result with its batch dimension.
    `leading` says whether operand and result have a leading dimension of the axis' size that is exchanged.
    """

    def infer(x: ShapedArray, *, axis_name: Any, axis_size: int, **_: Any) -> ShapedArray:
        taken = x.shape[1:] if leading[0] else x.shape
        return x.update(shape=(axis_size, *taken) if leading[1] else taken)

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
        return primitive.bind(*primals, **params), _linear_tangent(primitive, primals[0], tangents[0], params)

    def batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> Pair:
        if axis.name != params["axis_name"]:
            return primitive.bind(move_axis(args[0], dims[0], int(leading[0])), **params), int(leading[1])
        rows = to_dim(args[0], dims[0], 0, axis.size)
        if params.get("axis_index_groups") is not None:
            return _within_groups(primitive, rows, params)
        return along(rows, **params)

    primitive = Primitive(
        name,
        infer=infer,
        evaluate=_unbound(name),
        jvp=jvp,
        batch=batch,
        axis_names=_names,
        transpose=lambda ct, x, **params: [transpose(ct, **params)],
        moves_only=moves_only,
    )
    return primitive


def _linear_tangent(primitive: Primitive, x: Any, t: Any, params: dict[str, Any]) -> Any:
    if aval_of(t).dtype == dtypes.float0:
        return Zero(primitive.infer(aval_of(x), **params).tangent())
    return primitive.bind(t, **params)


all_gather_p = _collective(
    "all_gather",
    along=lambda rows, **_: (rows, None),
    transpose=lambda ct, **params: reduce_scatter_p.bind(ct, **params),
    leading=(False, True),
    moves_only=True,
)
reduce_scatter_p = _collective(
    "reduce_scatter",
    along=lambda rows, **_: (reduce_sum(rows, (0,)), 0),
    transpose=lambda ct, **params: all_gather_p.bind(ct, **params),
    leading=(True, False),
)
all_to_all_p = _collective(
    "all_to_all",
    along=lambda rows, **_: (move_axis(rows, 1, 0), 0),
    transpose=lambda ct, **params: all_to_all_p.bind(ct, **params),
    leading=(True, True),
    moves_only=True,
)


def permuted(rows: Any, *, perm: Sequence[tuple[int, int]], axis_size: int, **_: Any) -> Pair:
    """Return rows sent along pairs (source, destination), and their batch dimension."""
    sources = [axis_size] * axis_size
    for source, destination in perm:
        sources[destination] = source
    return _rows(rows, sources), 0


ppermute_p = _collective(
    "ppermute",
    along=permuted,
    transpose=lambda ct, *, perm, **params: ppermute_p.bind(ct, perm=tuple((d, s) for s, d in perm), **params),
    moves_only=True,
)


def _fold(name: str, reduce: Callable[..., Any], unbatched: Callable[[Any, int], Any], **rules: Any) -> Primitive:
    """Declare a collective that folds the values of all elements; `unbatched` folds a value that all have alike."""

    def batch(
        axis: AxisData, args: Sequence[Any], dims: Sequence[Any], *, axes: tuple[Any, ...], axis_index_groups: Groups
    ) -> Pair:
        (x,), (dim,) = args, dims
        if axis.name not in axes:
            return primitive.bind(x, axes=axes, axis_index_groups=axis_index_groups), dim
        if axis_index_groups is not None:
            params = {"axes": axes, "axis_index_groups": axis_index_groups}
            return _within_groups(primitive, to_dim(x, dim, 0, axis.size), params)
        out = unbatched(x, axis.size) if dim is None else reduce(x, (dim,))
        rest = tuple(a for a in axes if a != axis.name)
        return primitive.bind(out, axes=rest, axis_index_groups=None) if rest else out, None

    primitive = Primitive(
        name, infer=lambda x, **_: x, evaluate=_unbound(name), batch=batch, axis_names=_names, **rules
    )
    return primitive


def times(x: Any, size: int) -> Any:
    """Return the sum of `size` values that are all `x`, in its dtype."""
    return mul_p.bind(x, convert_element_type(np.int32(size), aval_of(x).dtype))


def _psum_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
    return psum_p.bind(*primals, **params), _linear_tangent(psum_p, primals[0], tangents[0], params)


def _extreme_jvp(primitive: Callable[[], Primitive]) -> Callable[..., Pair]:
    """The tangent of the extreme element; the mean of them where several are."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Pair:
        (x,), (t,) = primals, tangents
        ans = primitive().bind(x, **params)
        if aval_of(t).dtype == dtypes.float0:
            return ans, Zero(aval_of(ans).tangent())
        at = convert_element_type(eq_p.bind(x, ans), aval_of(t).dtype)
        return ans, psum_p.bind(t * at, **params) / psum_p.bind(at, **params)

    return jvp


psum_p = _fold("psum", reduce_sum, times, jvp=_psum_jvp, transpose=lambda ct, x, **params: [psum_p.bind(ct, **params)])
pmax_p = _fold("pmax", reduce_max, lambda x, size: x, jvp=_extreme_jvp(lambda: pmax_p), may_make_nan=False)
pmin_p = _fold("pmin", reduce_min, lambda x, size: x, jvp=_extreme_jvp(lambda: pmin_p), may_make_nan=False)


def _index_batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any], *, axis_name: Any) -> Pair:
    return iota(dtypes.int32, (axis.size,), 0), 0


axis_index_p = Primitive(
    "axis_index",
    infer=lambda *, axis_name: ShapedArray((), dtypes.int32),
    evaluate=_unbound("axis_index"),
    batch=_index_batch,
    axis_names=_names,
)
