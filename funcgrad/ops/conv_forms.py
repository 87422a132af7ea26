"""Convolutions in terms of what the compiler has: which form is used when.

- Over a dilated operand, the windows fall into phases that see the same elements of the kernel: a convolution each,
  whose results are interleaved.
- Windows of one element, and a single window, are a matrix product.
- Where each output feature sees one input feature, the result is a sum of shifted views of the operand, one for each
  element of the window; if there are more elements than windows, as in the gradient of such a kernel, it is a sum of
  products for each window. The compiler makes loops of either.
- Anything else is an implicit matrix product (`ops.implicit_gemm`). Its rows are windows, its depth is what a window
  sees, both in the order in which the operand has them in memory; the kernel is packed into panels of output features.
  One to three output features would fill a part of a vector. If there are many input features side by side, the product
  is made of dot products along these; otherwise, output features are its rows, and windows side by side its columns.

16-bit floats are convolved in float32, complex numbers by their parts. Integers wrap around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import contiguous
from funcgrad.ops.accumulation import accumulator
from funcgrad.ops.arithmetic import complex_p, imag_p, real_p, sub_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.implicit_gemm import PANEL, Form, implicit_gemm
from funcgrad.ops.products import dot_general
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, full, reduce_sum, reshape, transpose
from funcgrad.ops.slicing import concatenate, pad, slice_
from funcgrad.ops.window_geometry import Phase, Window, phases
from funcgrad.ops.window_views import by_phases, places, taps, zero_of

_MOST_TERMS = 64  # of a sum of shifted views
_MOST_FEATURES = 4  # of a group that such a sum has: more fill a vector of an implicit product
_FEW_ROWS = 3  # output features that are rows of a product, whose columns are windows
_LONG_RUN = 16  # input features that fill vectors
_MANY_COLUMNS = 16  # windows in a row that it takes
_DEEP = 256  # terms of a sum from which on it costs little to write neighboring features apart


class Convolution(NamedTuple):
    """The operands of a convolution and which of their dimensions are which.

    `lhs_spec`, `out_spec`: (batch, feature, *spatial); `rhs_spec`: (output feature, input feature, *spatial). Groups
    are by feature or by batch. `pads` is more padding than windows need, of each dimension.
    """

    lhs: Any
    rhs: Any
    lhs_spec: Sequence[int]
    rhs_spec: Sequence[int]
    out_spec: Sequence[int]
    geometry: Sequence[Window]
    groups: int
    by_batch: bool
    pads: Sequence[tuple[int, int]] = ()

    def lhs_size(self, i: int) -> int:
        """Return the size of batch (0), features (1) or a spatial dimension (2…) of lhs."""
        return aval_of(self.lhs).shape[self.lhs_spec[i]]

    def rhs_size(self, i: int) -> int:
        """Return the size of output features (0), input features (1) or a spatial dimension (2…) of rhs."""
        return aval_of(self.rhs).shape[self.rhs_spec[i]]

    @property
    def batch(self) -> int:
        """The batch of one group."""
        return self.lhs_size(0) // (self.groups if self.by_batch else 1)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many windows there are in each dimension."""
        return tuple(w.count(self.lhs_size(2 + d)) for d, w in enumerate(self.geometry))


def is_native(lhs: ShapedArray, result: np.dtype) -> bool:
    """Whether the compiler has a form for operands of these types."""
    return dtypes.bool_ not in (lhs.dtype, result)


def expand(c: Convolution, result: np.dtype) -> Any:
    """Return the convolution in dtype `result`, as simpler operations."""
    dtype = aval_of(c.lhs).dtype
    wide = np.promote_types(accumulator(dtype), accumulator(result))
    out = _typed(c._replace(lhs=convert_element_type(c.lhs, wide), rhs=convert_element_type(c.rhs, wide)))
    rank = len(c.geometry)
    # (batch, *spatial, features) to the wanted order
    places = [c.out_spec[0], *c.out_spec[2:], c.out_spec[1]]
    order = [places.index(d) for d in range(rank + 2)]
    return convert_element_type(transpose(out, order), result)


def _typed(c: Convolution) -> Any:
    """A convolution of floats or complex numbers, `(batch, *spatial, features)`."""
    if not dtypes.is_complex(aval_of(c.lhs).dtype):
        return _phased(c)
    (a, b), (x, y) = ([part.bind(v) for part in (real_p, imag_p)] for v in (c.lhs, c.rhs))
    each = [[_phased(c._replace(lhs=left, rhs=right)) for right in (x, y)] for left in (a, b)]
    return complex_p.bind(sub_p.bind(each[0][0], each[1][1]), each[0][1] + each[1][0])


# ---------------------------------------------------------------- dilated operands


def _phased(c: Convolution) -> Any:
    """The convolution, `(batch, *spatial, features)`, by its phases."""
    if all(w.base_dilation == 1 for w in c.geometry):
        return _plain(c)
    parts = [phases(c.lhs_size(2 + d), w, even=True) for d, w in enumerate(c.geometry)]
    # The phases pad alike where windows are columns, so that the operand is copied once.
    pads = [(max(p.window.low for p in of_d), max(p.window.high for p in of_d)) for of_d in parts]
    c = c._replace(pads=pads)
    c = c._replace(out_spec=_channels_last(len(c.geometry)))  # long runs are interleaved
    whole = Phase(0, 1, slice(0, 1), Window(1))  # the batch is the first dimension, and has one phase
    return by_phases([[whole], *parts], [c.batch, *c.counts], lambda chosen, _: _of_phase(c, chosen[1:]))


def _of_phase(c: Convolution, chosen: Sequence[Phase]) -> Any:
    """The convolution with the elements of the kernel that windows of a phase see."""
    shape = aval_of(c.rhs).shape
    start, limit, step = [0] * len(shape), list(shape), [1] * len(shape)
    for d, phase in zip(c.rhs_spec[2:], chosen, strict=True):
        start[d], limit[d], step[d] = phase.taps.start, phase.taps.stop, phase.taps.step
    taps = slice_(c.rhs, start, limit, step)
    return _plain(c._replace(rhs=taps, geometry=[p.window for p in chosen]))


# ---------------------------------------------------------------- forms


def _plain(c: Convolution) -> Any:
    """A convolution without dilation of lhs, `(batch, *spatial, features)`."""
    whole, c = c, _cropped(c)
    shape = (c.batch, *c.counts, c.rhs_size(0))
    terms = math.prod(w.size for w in c.geometry)
    if not math.prod(shape) or not terms or not c.rhs_size(1):
        return full(shape, 0, aval_of(c.lhs).dtype)
    features = c.rhs_size(0) // c.groups
    if features <= _MOST_FEATURES and c.rhs_size(1) == 1 and not c.by_batch and terms <= _MOST_TERMS:
        return _shifted_views(c)
    if features == 1 and c.batch == 1 and c.by_batch and math.prod(c.counts) <= _MOST_TERMS:
        return _products_of_windows(c)
    padded = any(w.low or w.high for w in c.geometry)
    single = math.prod(c.counts) == 1 or (terms == 1 and all(w.stride == 1 for w in c.geometry))
    if c.groups == 1 and single and not padded:
        return _product(c)
    side_by_side = c.geometry and c.geometry[-1].stride == 1 and c.counts[-1] >= _MANY_COLUMNS
    if features <= _FEW_ROWS and side_by_side and not c.by_batch and not _is_few_dots(c):
        return _windows_as_columns(whole)
    return _implicit(whole)


def _cropped(c: Convolution) -> Convolution:
    """Cut off what negative padding crops: a view."""
    shape = aval_of(c.lhs).shape
    start, limit = [0] * len(shape), list(shape)
    for d, w in zip(c.lhs_spec[2:], c.geometry, strict=True):
        start[d], limit[d] = max(0, -w.low), shape[d] - max(0, -w.high)
    if any(first > stop for first, stop in zip(start, limit, strict=True)):  # of padding, too
        return c
    geometry = [w._replace(low=max(0, w.low), high=max(0, w.high)) for w in c.geometry]
    return c._replace(lhs=slice_(c.lhs, start, limit), geometry=geometry)


def _padded(c: Convolution, more: int = 0) -> tuple[Any, int]:
    """Lhs with padding, in its own order, and where its first window begins; `more` elements behind the last ones."""
    config = [(0, 0, 0)] * aval_of(c.lhs).ndim
    before = [0] * len(config)
    for d, w, (low, high) in zip(
        c.lhs_spec[2:], c.geometry, c.pads or [(w.low, w.high) for w in c.geometry], strict=True
    ):
        config[d], before[d] = (max(w.low, low), max(w.high, high), 0), max(w.low, low) - w.low
    low, high, _ = config[-1]
    config[-1] = (low, high + more, 0)
    x = pad(c.lhs, zero_of(c.lhs), config)
    return x, sum(n * s for n, s in zip(before, contiguous(aval_of(x).shape).strides, strict=True))


def _product(c: Convolution) -> Any:
    """One window, or windows of one element, which are next to each other: one product."""
    start, limit, step = [0] * len(c.lhs_spec), list(aval_of(c.lhs).shape), [1] * len(c.lhs_spec)
    for d, w in zip(c.lhs_spec[2:], c.geometry, strict=True):
        if w.size > 1:
            limit[d], step[d] = w.span, w.dilation
        else:
            limit[d] = w.count(limit[d])
    pairs = sorted(zip(c.lhs_spec[1:], c.rhs_spec[1:], strict=True)) if math.prod(c.counts) == 1 else None
    inside, elements = zip(*pairs, strict=True) if pairs else ((c.lhs_spec[1],), (c.rhs_spec[1],))
    out = dot_general(slice_(c.lhs, start, limit, step), c.rhs, ((inside, elements), ((), ())))
    # What remains of lhs are the batch and windows in their own order, then the features and dimensions of size 1.
    kept = [d for d in range(len(c.lhs_spec)) if d not in inside]
    order = [kept.index(d) for d in (c.lhs_spec[0], *c.lhs_spec[2:]) if d in kept]
    rest = [d for d in range(aval_of(out).ndim) if d not in order]
    return reshape(transpose(out, [*order, *rest]), (c.batch, *c.counts, c.rhs_size(0)))


def _in_order_of_lhs(c: Convolution) -> list[Window]:
    """A window for each dimension of lhs: of one element along batch and features."""
    out = [Window(1)] * aval_of(c.lhs).ndim
    for d, w in zip(c.lhs_spec[2:], c.geometry, strict=True):
        out[d] = w
    return out


def _shifted_views(c: Convolution) -> Any:
    """Σₖ of lhs, shifted by k, times element k of the kernel: one input feature in each group."""
    (batch, feature, *space), geometry = c.lhs_spec, _in_order_of_lhs(c)
    features, rank = c.rhs_size(0) // c.groups, len(geometry)
    kernel = transpose(c.rhs, c.rhs_spec)  # (groups · features, 1, *window)
    total: Any = None
    for place, seen in zip(places(geometry), taps(c.lhs, zero_of(c.lhs), geometry), strict=True):
        at = tuple(place[d] for d in space)
        element = slice_(kernel, (0, 0, *at), (c.rhs_size(0), 1, *(k + 1 for k in at)))
        shape = (*aval_of(seen).shape, features)
        factor = broadcast_in_dim(reshape(element, (c.groups, features)), shape, (feature, rank))
        term = broadcast_in_dim(seen, shape, range(rank)) * factor
        total = term if total is None else total + term
    moved = transpose(total, (batch, *space, feature, rank))
    return reshape(moved, (c.batch, *c.counts, c.rhs_size(0)))


def _products_of_windows(c: Convolution) -> Any:
    """For each window, the sum of its products with the kernel; a group has one output feature and one of the batch."""
    (batch, _, *space), geometry = c.lhs_spec, _in_order_of_lhs(c)
    # The elements that a window sees are windows of their own, over windows: sizes and counts change places.
    sizes = aval_of(c.lhs).shape
    seen_by = [
        Window(w.count(n), w.dilation, w.low, w.high, 1, w.stride) if d in space else w
        for d, (n, w) in enumerate(zip(sizes, geometry, strict=True))
    ]
    order = [0] * len(geometry)  # the kernel's dimensions in the order of lhs; its output features are the groups
    for d, e in zip(c.lhs_spec, c.rhs_spec, strict=True):
        order[d] = e
    kernel, others = transpose(c.rhs, order), [d for d in range(len(geometry)) if d != batch]
    sums = {}
    for place, seen in zip(places(seen_by), taps(c.lhs, zero_of(c.lhs), seen_by), strict=True):
        at = tuple(place[d] for d in space)
        inside = slice_(seen, [0] * len(order), aval_of(kernel).shape)
        sums[at] = reduce_sum(inside * kernel, others)
    rows = concatenate([expand_dims(sums[at], (0,)) for at in sorted(sums)], 0)
    return reshape(rows, (1, *c.counts, c.rhs_size(0)))


# ---------------------------------------------------------------- implicit products


def _channels_last(rank: int) -> tuple[int, ...]:
    return (0, rank + 1, *range(1, rank + 1))


class _Loop(NamedTuple):
    """A loop over a dimension: which one, its size, the distance in lhs, and in the result."""

    dimension: int
    size: int
    step: int
    step_out: int = 0


def _implicit(c: Convolution) -> Any:
    """The convolution as a product whose rows are windows."""
    c, dots = _with_long_rows(c), _is_few_dots(c)
    if dots or c.rhs_size(1) * math.prod(w.size for w in c.geometry) < _DEEP:
        c = c._replace(out_spec=_channels_last(len(c.geometry)))
    x, start = _padded(c)
    steps = contiguous(aval_of(x).shape).strides
    batch, feature, *space = (steps[d] for d in c.lhs_spec)
    groups, features = c.groups, c.rhs_size(0) // c.groups
    sizes = (c.batch, c.rhs_size(0), *c.counts)
    shape = [sizes[c.out_spec.index(d)] for d in range(len(sizes))]
    out_steps = contiguous(shape).strides
    batch_c, column_c, *space_c = (out_steps[d] for d in c.out_spec)
    spatial = zip(c.counts, space, space_c, c.geometry, strict=True)
    rows = [
        _Loop(0, c.batch, batch, batch_c),
        *(_Loop(1 + i, n, s * w.stride, t) for i, (n, s, t, w) in enumerate(spatial)),
    ]
    rows.sort(key=lambda loop: -loop.step)
    depth = [
        _Loop(1, c.rhs_size(1), feature),
        *(_Loop(2 + i, w.size, s * w.dilation) for i, (s, w) in enumerate(zip(space, c.geometry, strict=True))),
    ]
    depth.sort(key=lambda loop: -loop.step)
    right, panel, steps_b, column_b = _packed(c, depth, features, 1 if dots else PANEL)
    group_a = c.batch * batch if c.by_batch else c.rhs_size(1) * feature
    group_b = features * column_b if dots else -(-features // PANEL) * panel
    form = Form(
        _merged([(loop.size, loop.step, loop.step_out) for loop in rows]),
        _merged([(loop.size, loop.step, s) for loop, s in zip(depth, steps_b, strict=True)]),
        ((groups, group_a, group_b, features * column_c) if groups > 1 else (1, 0, 0, 0),),
        (features, column_c if features > 1 else 1, column_b),
        panel,
        (start, 0),
    )
    out = reshape(implicit_gemm(x, right, form), shape)
    return transpose(out, (c.out_spec[0], *c.out_spec[2:], c.out_spec[1]))


def _windows_as_columns(c: Convolution) -> Any:
    """The convolution as a product whose rows are output features and whose columns are windows side by side."""
    batch, features, in_features = c.batch, c.rhs_size(0) // c.groups, c.rhs_size(1)
    columns = c.counts[-1]
    c = c._replace(lhs=transpose(c.lhs, c.lhs_spec), lhs_spec=range(len(c.lhs_spec)))
    x, start = _padded(c, -columns % PANEL)  # panels are read whole
    batch_b, feature_b, *space_b = contiguous(aval_of(x).shape).strides
    kernel = transpose(c.rhs, c.rhs_spec)  # (output features, input features, *window)
    feature_a, *depth_a = contiguous(aval_of(kernel).shape).strides
    shape = (batch, c.rhs_size(0), *c.counts)
    batch_c, feature_c, *space_c = contiguous(shape).strides
    groups = [
        (c.groups, features * feature_a, in_features * feature_b, features * feature_c),
        (batch, 0, batch_b, batch_c),
        *((n, 0, s * w.stride, t) for n, s, t, w in zip(c.counts[:-1], space_b, space_c, c.geometry, strict=False)),
    ]
    depth_b = (feature_b, *(s * w.dilation for s, w in zip(space_b, c.geometry, strict=True)))
    sizes = (in_features, *(w.size for w in c.geometry))
    form = Form(
        ((features, feature_a, feature_c),),
        _merged(list(zip(sizes, depth_a, depth_b, strict=True))),
        tuple(g for g in groups if g[0] > 1) or ((1, 0, 0, 0),),
        (columns, 1, 1),
        PANEL,
        (0, start),
    )
    out = reshape(implicit_gemm(kernel, x, form), shape)
    return transpose(out, (0, *range(2, len(shape)), 1))


def _is_few_dots(c: Convolution) -> bool:
    """Whether output features are too few to fill a vector, but what a window sees is long runs of elements."""
    few = c.rhs_size(0) // c.groups <= _FEW_ROWS and not c.by_batch
    return few and c.lhs_spec[1] == len(c.lhs_spec) - 1 and c.rhs_size(1) >= _LONG_RUN


def _with_long_rows(c: Convolution) -> Convolution:
    """In the gradient of a kernel, windows are large: put lhs into an order in which they are runs of elements."""
    batch, feature, *space = c.lhs_spec
    small = math.prod(w.size for w in c.geometry) < math.prod(c.counts)
    if small or not space or space[-1] == len(c.lhs_spec) - 1:
        return c
    order = (feature, *space[:-1], batch, space[-1])
    return c._replace(lhs=transpose(c.lhs, order), lhs_spec=[order.index(d) for d in c.lhs_spec])


def _merged(loops: Sequence[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Make one loop of two where the outer one goes on where the inner one ends, for all distances."""
    out: list[tuple[int, int, int]] = []
    for size, *steps in loops:
        if size == 1:
            continue
        if out and all(before == size * step for before, step in zip(out[-1][1:], steps, strict=True)):
            size *= out.pop()[0]
        out.append((size, steps[0], steps[1]))
    return tuple(out) or ((1, 1, 1),)


def _packed(c: Convolution, depth: Sequence[_Loop], features: int, side: int) -> tuple[Any, int, list[int], int]:
    """The kernel in panels of `side` output features, in the order of the depth.

    Return also the distances of panels, of the indices of each loop in depth, and of output features.
    """
    out_feature = c.rhs_spec[0]
    sizes = [loop.size for loop in depth]
    ordered = transpose(c.rhs, [out_feature, *(c.rhs_spec[loop.dimension] for loop in depth)])
    ordered = reshape(ordered, (c.groups, features, *sizes))
    panels = -(-features // side)
    config = [(0, 0, 0), (0, panels * side - features, 0), *((0, 0, 0) for _ in sizes)]
    whole = reshape(pad(ordered, zero_of(c.rhs), config), (c.groups, panels, side, *sizes))
    packed = transpose(whole, (0, 1, *range(3, 3 + len(sizes)), 2))
    steps = contiguous(aval_of(packed).shape).strides
    return packed, math.prod(sizes) * side, list(steps[2 : 2 + len(sizes)]), math.prod(sizes) if side == 1 else 1
