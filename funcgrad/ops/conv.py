"""conv_general_dilated: sums of products of a kernel with every window of an operand.

With n for the batch, i and o for features, p for the window and k for the element in it,

    out[n, o, p] = Σᵢₖ lhs[n, i, p · stride + k · rhs_dilation − low] · rhs[o, i, k],

where `lhs` is zero outside and between its elements, which are `lhs_dilation` apart. With feature groups, output
features of a group see its input features only; with batch groups, only its part of the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops import conv_forms
from funcgrad.ops.accumulation import accumulator
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import bilinear_jvp, check_bilinear
from funcgrad.ops.products import multiply_matrices
from funcgrad.ops.shapes import full, move_axis, reduced, reshape, rev, zeros_of
from funcgrad.ops.window_geometry import (
    Pads,
    Sizes,
    Window,
    as_pads,
    as_sizes,
    check_windows,
    dilated,
    padded_by,
    phases,
    sliding,
    transposed,
    windows,
)

_PANEL = 1 << 18  # elements of the windows that are copied side by side for one product


class ConvDimensionNumbers(NamedTuple):
    """Which dimensions of operands and result are batch, features and space.

    `lhs_spec` and `out_spec`: (batch, feature, *spatial). `rhs_spec`: (output feature, input feature, *spatial).
    """

    lhs_spec: Sequence[int]
    rhs_spec: Sequence[int]
    out_spec: Sequence[int]


class _Params(NamedTuple):
    """The parameters of a convolution."""

    window_strides: Sizes
    padding: Pads
    lhs_dilation: Sizes
    rhs_dilation: Sizes
    dimension_numbers: ConvDimensionNumbers
    feature_group_count: int
    batch_group_count: int
    preferred_element_type: np.dtype | None = None

    def geometry(self, rhs: ShapedArray) -> list[Window]:
        """Return how the kernel slides along each spatial dimension."""
        sizes = [rhs.shape[d] for d in self.dimension_numbers.rhs_spec[2:]]
        return windows(sizes, self.window_strides, self.padding, self.lhs_dilation, self.rhs_dilation)


# ---------------------------------------------------------------- type


def _check_numbers(lhs: ShapedArray, rhs: ShapedArray, numbers: ConvDimensionNumbers) -> None:
    if lhs.ndim != rhs.ndim or lhs.ndim < 2:
        raise ShapeError(
            f"conv_general_dilated: lhs {lhs} has {lhs.ndim} dimensions, rhs {rhs} has {rhs.ndim}",
            fix="give both a batch or output feature, a feature, and as many spatial dimensions",
        )
    for name, spec in zip(numbers._fields, numbers, strict=True):
        if sorted(spec) != list(range(lhs.ndim)):
            raise ArgumentError(
                f"conv_general_dilated: {name} {tuple(spec)} does not fit lhs {lhs} and rhs {rhs}",
                fix=f"name each of the dimensions 0..{lhs.ndim - 1} once",
            )


def _check_groups(lhs: ShapedArray, rhs: ShapedArray, p: _Params) -> None:
    (batch, feature, *_), (out_feature, in_feature, *_), _ = p.dimension_numbers
    by_feature, by_batch = p.feature_group_count, p.batch_group_count
    if min(by_feature, by_batch) < 1 or (by_feature > 1 and by_batch > 1):
        raise ArgumentError(
            f"conv_general_dilated: feature_group_count is {by_feature}, batch_group_count {by_batch}",
            fix="give positive integers, one of them 1",
        )
    for count, what, n, of in (
        (by_feature, "feature_group_count", lhs.shape[feature], f"the features of lhs {lhs}"),
        (by_feature, "feature_group_count", rhs.shape[out_feature], f"the output features of rhs {rhs}"),
        (by_batch, "batch_group_count", lhs.shape[batch], f"the batch of lhs {lhs}"),
        (by_batch, "batch_group_count", rhs.shape[out_feature], f"the output features of rhs {rhs}"),
    ):
        if n % count:
            raise ShapeError(
                f"conv_general_dilated: {what} {count} does not divide {of}, {n}",
                fix=f"choose a divisor of {n}, or other sizes",
            )
    if lhs.shape[feature] // by_feature != rhs.shape[in_feature]:
        each = f" in {by_feature} groups" if by_feature > 1 else ""
        raise ShapeError(
            f"conv_general_dilated: features differ: dimension {feature} of lhs {lhs} is {lhs.shape[feature]}{each}, "
            f"dimension {in_feature} of rhs {rhs} is {rhs.shape[in_feature]}",
            fix="give rhs as many input features as a group of lhs has, or other dimension_numbers",
        )


def _infer(lhs: ShapedArray, rhs: ShapedArray, **params: Any) -> ShapedArray:
    p = _Params(**params)
    if lhs.dtype != rhs.dtype:
        raise DTypeError(
            f"conv_general_dilated: operands have different dtypes: {lhs} and {rhs}",
            fix="cast one with .astype(...)",
        )
    _check_numbers(lhs, rhs, p.dimension_numbers)
    rank = lhs.ndim - 2
    for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
        as_sizes("conv_general_dilated", name, getattr(p, name), rank)
    as_pads("conv_general_dilated", p.padding, rank)
    _check_groups(lhs, rhs, p)
    lhs_spec, rhs_spec, out_spec = p.dimension_numbers
    space = [lhs.shape[d] for d in lhs_spec[2:]]
    counts = check_windows("conv_general_dilated", lhs, space, p.geometry(rhs))
    sizes = (lhs.shape[lhs_spec[0]] // p.batch_group_count, rhs.shape[rhs_spec[0]], *counts)
    shape = tuple(sizes[out_spec.index(d)] for d in range(lhs.ndim))
    weak = lhs.weak_type and rhs.weak_type and p.preferred_element_type is None
    return ShapedArray(shape, p.preferred_element_type or lhs.dtype, weak)


# ---------------------------------------------------------------- value


def _evaluate(lhs: Any, rhs: Any, **params: Any) -> Any:
    p = _Params(**params)
    lhs_spec, rhs_spec, out_spec = p.dimension_numbers
    result = p.preferred_element_type or lhs.dtype
    wide = np.promote_types(accumulator(lhs.dtype), accumulator(result)) if result != dtypes.bool_ else lhs.dtype
    x, kernel = (v.astype(wide, copy=False).transpose(s) for v, s in ((lhs, lhs_spec), (rhs, rhs_spec)))
    (batch, features, *space), (out_features, in_features, *window) = x.shape, kernel.shape
    # Both kinds of groups become a leading dimension: (group, batch, features, *space), (group, out, in, *window).
    groups = p.feature_group_count * p.batch_group_count
    if p.batch_group_count > 1:
        x = x.reshape(groups, batch // groups, features, *space)
    else:
        x = np.moveaxis(x.reshape(batch, groups, in_features, *space), 1, 0)
    kernel = kernel.reshape(groups, out_features // groups, in_features, *window)
    out = _grouped(x, kernel, p.geometry(rhs))
    out = np.moveaxis(out, 0, 1).reshape(out.shape[1], out_features, *out.shape[3:])
    return out.transpose(np.argsort(out_spec)).astype(result, copy=False)


def _grouped(x: np.ndarray, kernel: np.ndarray, geometry: list[Window]) -> np.ndarray:
    """Convolve `(group, batch, in, *space)` with `(group, out, in, *window)`: `(group, batch, out, *counts)`."""
    space, out_features = x.shape[3:], kernel.shape[1]
    counts = [w.count(n) for n, w in zip(space, geometry, strict=True)]
    out = np.zeros((*x.shape[:2], *counts, out_features), x.dtype)
    for parts in itertools.product(*(phases(n, w) for n, w in zip(space, geometry, strict=True))):
        taps = kernel[(..., *(part.taps for part in parts))]
        inner = [part.window for part in parts]
        padded = padded_by(x, [(w.low, w.high) for w in inner], 0)
        seen = sliding(padded, [w.count(n) for n, w in zip(space, inner, strict=True)], inner)
        # (group, batch, *counts, in, *window), and the kernel as matrices (group, in · window, out).
        seen = np.moveaxis(seen, 2, 2 + len(inner))
        matrices = np.moveaxis(taps, 1, -1).reshape(taps.shape[0], -1, out_features)
        into = out[(slice(None), slice(None), *(slice(part.first, None, part.step) for part in parts))]
        if seen.size:
            _multiply_in_panels(seen, matrices, into, 2 + len(inner))
    return np.moveaxis(out, -1, 2)


def _multiply_in_panels(seen: np.ndarray, matrices: np.ndarray, out: np.ndarray, rows: int) -> None:
    """out[group, *rows] = seen[group, *rows, *depth] · matrices[group]; no more than a panel of windows is copied."""
    depth = matrices.shape[1]
    cut, behind = rows - 1, depth  # elements of the windows for one index of dimension `cut`
    while cut > 0 and behind * seen.shape[cut] <= _PANEL:
        behind *= seen.shape[cut]
        cut -= 1
    block = max(1, _PANEL // max(behind, 1))
    for place in np.ndindex(*seen.shape[:cut]):
        for start in range(0, seen.shape[cut], block):
            part = (*place, slice(start, start + block))
            panel, into = seen[part], out[part]
            lead = () if cut else panel.shape[:1]
            right = matrices[part[0]]
            into[...] = multiply_matrices(panel.reshape(*lead, -1, depth), right).reshape(into.shape)


# ---------------------------------------------------------------- lowering


def _has_form(lhs: ShapedArray, rhs: ShapedArray, **params: Any) -> bool:
    return conv_forms.is_native(lhs, params["preferred_element_type"] or lhs.dtype)


def _expand(lhs: Any, rhs: Any, **params: Any) -> Any:
    p = _Params(**params)
    lhs_spec, rhs_spec, out_spec = p.dimension_numbers
    groups, by_batch = p.feature_group_count * p.batch_group_count, p.batch_group_count > 1
    given = conv_forms.Convolution(lhs, rhs, lhs_spec, rhs_spec, out_spec, p.geometry(aval_of(rhs)), groups, by_batch)
    return conv_forms.expand(given, p.preferred_element_type or aval_of(lhs).dtype)


# ---------------------------------------------------------------- derivatives


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    return bilinear_jvp(conv_general_dilated_p, primals, tangents, **params)


def _swapped(spec: Sequence[int]) -> tuple[int, ...]:
    first, second, *space = spec
    return second, first, *space


def _split_axis(x: Any, axis: int, first: int) -> Any:
    """Make an axis two, of sizes `first` and the rest."""
    shape = aval_of(x).shape
    return reshape(x, (*shape[:axis], first, shape[axis] // first, *shape[axis + 1 :]))


def _merge_axis(x: Any, axis: int, into: int) -> Any:
    """Move an axis before the axis that is number `into` among the others, and merge it into that one."""
    moved = move_axis(x, axis, into)
    shape = aval_of(moved).shape
    return reshape(moved, (*shape[:into], shape[into] * shape[into + 1], *shape[into + 2 :]))


def _lhs_cotangent(ct: Any, lhs: ShapedArray, rhs: Any, p: _Params) -> Any:
    """Cotangent of `lhs`: each window's cotangent times the reversed kernel, features exchanged."""
    lhs_spec, rhs_spec, out_spec = p.dimension_numbers
    groups = p.feature_group_count * p.batch_group_count
    geometry = p.geometry(aval_of(rhs))
    if groups > 1:  # the groups go from the kernel's output features to its input features, which become outputs
        rhs = _merge_axis(_split_axis(rhs, rhs_spec[0], groups), rhs_spec[0], rhs_spec[1])
    sizes, counts = ([x.shape[d] for d in spec[2:]] for x, spec in ((lhs, lhs_spec), (aval_of(ct), out_spec)))
    back = transposed(sizes, counts, geometry)
    out = conv_general_dilated(
        ct,
        convert_element_type(rev(rhs, rhs_spec[2:]), aval_of(ct).dtype),
        p.lhs_dilation,
        [(w.low, w.high) for w in back],
        p.window_strides,
        p.rhs_dilation,
        ConvDimensionNumbers(out_spec, _swapped(rhs_spec), lhs_spec),
        groups,
        preferred_element_type=p.preferred_element_type and aval_of(ct).dtype,
    )
    if p.batch_group_count > 1:
        out = _merge_axis(_split_axis(out, lhs_spec[1], groups), lhs_spec[1], lhs_spec[0])
    return convert_element_type(out, lhs.dtype)


def _rhs_cotangent(ct: Any, lhs: Any, rhs: ShapedArray, p: _Params) -> Any:
    """Cotangent of `rhs`: `lhs` convolved with the windows' cotangents, which slide over it."""
    lhs_spec, rhs_spec, out_spec = p.dimension_numbers
    padding = []
    for d, e, w in zip(lhs_spec[2:], out_spec[2:], p.geometry(rhs), strict=True):
        total = dilated(aval_of(ct).shape[e], w.stride) + w.span - 1
        padding.append((w.low, total - dilated(aval_of(lhs).shape[d], w.base_dilation) - w.low))
    out = conv_general_dilated(
        convert_element_type(lhs, aval_of(ct).dtype),
        ct,
        p.rhs_dilation,
        padding,
        p.lhs_dilation,
        p.window_strides,
        ConvDimensionNumbers(_swapped(lhs_spec), _swapped(out_spec), _swapped(rhs_spec)),
        p.batch_group_count,
        p.feature_group_count,
        preferred_element_type=p.preferred_element_type and aval_of(ct).dtype,
    )
    return convert_element_type(out, rhs.dtype)


def _transpose(ct: Any, lhs: Any, rhs: Any, **params: Any) -> list[Any]:
    check_bilinear("conv_general_dilated", lhs, rhs)
    x, other = (lhs, rhs) if is_undefined(lhs) else (rhs, lhs)
    if not x.aval.size or not aval_of(ct).size or not aval_of(other).size:
        out = zeros_of(x.aval)
    elif x is lhs:
        out = _lhs_cotangent(ct, x.aval, rhs, _Params(**params))
    else:
        out = _rhs_cotangent(ct, lhs, x.aval, _Params(**params))
    return [out, None] if x is lhs else [None, out]


# ---------------------------------------------------------------- batching


def _batch(axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, int]:
    (lhs, rhs), (lhs_dim, rhs_dim), p = args, dims, _Params(**params)
    if axis.size == 0:
        return _empty_batch(args, dims, params), 0
    (batch, feature, *_), (out_feature, *_), (out_batch, out_axis, *_) = p.dimension_numbers
    groups, within = p.feature_group_count * p.batch_group_count, 1
    if rhs_dim is None:  # a larger batch
        assert lhs_dim is not None
        lhs, out_axis = _with_batch(lhs, lhs_dim, batch, p.batch_group_count), out_batch
    elif lhs_dim is None:  # more output features, in each group
        rhs, within = _with_batch(rhs, rhs_dim, out_feature, groups), groups
    else:  # more groups
        by_batch = p.batch_group_count > 1
        lhs = _merge_axis(lhs, lhs_dim, batch if by_batch else feature)
        rhs = _merge_axis(rhs, rhs_dim, out_feature)
        name = "batch_group_count" if by_batch else "feature_group_count"
        p = p._replace(**{name: getattr(p, name) * axis.size})
    out = conv_general_dilated_p.bind(lhs, rhs, **p._asdict())
    if within > 1:
        out = move_axis(_split_axis(_split_axis(out, out_axis, within), out_axis + 1, axis.size), out_axis + 1, 0)
        return _merge_axis(out, out_axis + 1, out_axis + 1), 0
    return _split_axis(out, out_axis, axis.size), out_axis


def _with_batch(x: Any, dim: int, axis: int, groups: int) -> Any:
    """Merge batch dimension `dim` into an axis, numbered among the others, behind the groups that the axis holds."""
    x = move_axis(x, dim, 0)
    split = _split_axis(x, axis + 1, groups)
    moved = move_axis(split, 0, axis + 1)
    shape = aval_of(moved).shape
    return reshape(moved, (*shape[:axis], math.prod(shape[axis : axis + 3]), *shape[axis + 3 :]))


def _empty_batch(args: Sequence[Any], dims: Sequence[int | None], params: dict[str, Any]) -> Any:
    avals = [aval_of(a) for a in args]
    each = [a if d is None else ShapedArray(reduced(a.shape, (d,)), a.dtype) for a, d in zip(avals, dims, strict=True)]
    one = _infer(*each, **params)
    return full((0, *one.shape), 0, one.dtype)


conv_general_dilated_p = Primitive(
    "conv_general_dilated",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lowering=Rewrite(_expand, applies=_has_form),
)


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    preferred_element_type: np.dtype | None = None,
) -> Any:
    """Convolve `lhs` with the kernel `rhs`: the equation at the head of this module.

    Padding is explicit, (low, high) for each spatial dimension; where it is negative, it crops. 16-bit floats
    accumulate in float32; integers wrap around.
    """
    return conv_general_dilated_p.bind(
        lhs,
        rhs,
        window_strides=tuple(window_strides),
        padding=tuple(padding),
        lhs_dilation=tuple(lhs_dilation),
        rhs_dilation=tuple(rhs_dilation),
        dimension_numbers=ConvDimensionNumbers(*map(tuple, dimension_numbers)),
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        preferred_element_type=preferred_element_type,
    )
