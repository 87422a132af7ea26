"""Convolutions in terms of what the compiler has: which form is used when.

- Over a dilated operand, the windows fall into phases that see the same elements of the kernel: a convolution each,
  whose results are interleaved.
- A window of one element is a matrix product.
- Where each output feature sees one input feature, the result is a sum of shifted views of the operand, one for each
  element of the window; if there are more elements than windows, as in the gradient of such a kernel, it is a sum of
  products for each window. The compiler makes loops of either.
- Anything else is an implicit matrix product (`ops.implicit_gemm`). Its rows are windows, its depth is what a window
  sees, both in the order in which the operand has them in memory; the kernel is packed into panels of output features.

16-bit floats are convolved in float32, complex numbers by their parts. Integers are left to NumPy.
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
from funcgrad.core.lowering import contiguous
from funcgrad.ops.accumulation import accumulator
from funcgrad.ops.arithmetic import complex_p, imag_p, real_p, sub_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.implicit_gemm import PANEL, Form, implicit_gemm
from funcgrad.ops.products import dot_general
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, full, reduce_sum, reshape, transpose
from funcgrad.ops.slicing import concatenate, pad, slice_
from funcgrad.ops.window_geometry import Phase, Window, phases

_MOST_TERMS = 64  # of a sum of shifted views
_MOST_FEATURES = 4  # of a group that such a sum has: more fill a vector of an implicit product
_REAL = (dtypes.float32, dtypes.float64)


class Convolution(NamedTuple):
    """The operands of a convolution and which of their dimensions are which.

    `lhs_spec`: (batch, feature, *spatial); `rhs_spec`: (output feature, input feature, *spatial). Groups are by feature
    or by batch.
    """

    lhs: Any
    rhs: Any
    lhs_spec: Sequence[int]
    rhs_spec: Sequence[int]
    geometry: Sequence[Window]
    groups: int
    by_batch: bool

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
    return dtypes.is_inexact(lhs.dtype) and dtypes.is_inexact(result)


def expand(c: Convolution, out_spec: Sequence[int], result: np.dtype) -> Any:
    """Return the convolution in dtype `result`, as simpler operations."""
    dtype = aval_of(c.lhs).dtype
    wide = np.promote_types(accumulator(dtype), accumulator(result))
    out = _typed(c._replace(lhs=convert_element_type(c.lhs, wide), rhs=convert_element_type(c.rhs, wide)))
    rank = len(c.geometry)
    # (batch, *spatial, features) to the wanted order
    places = [out_spec[0], *out_spec[2:], out_spec[1]]
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
    parts = [phases(c.lhs_size(2 + d), w) for d, w in enumerate(c.geometry)]
    return _interleaved(c, parts, [])


def _interleaved(c: Convolution, parts: Sequence[list[Phase]], chosen: list[Phase]) -> Any:
    """The windows of some phases of the first dimensions, and all of the others."""
    d = len(chosen)
    if d == len(parts):
        return _of_phase(c, chosen)
    shape = (c.batch, *(w.count(c.lhs_size(2 + i)) for i, w in enumerate(c.geometry)), c.rhs_size(0))
    sizes = [len(range(p.first, n, p.step)) if (n := shape[1 + i]) else 0 for i, p in enumerate(chosen)]
    shape = (shape[0], *sizes, *shape[1 + d :])
    if not parts[d]:
        return full(shape, 0, aval_of(c.lhs).dtype)
    each = [_interleaved(c, parts, [*chosen, p]) for p in parts[d]]
    axis, most = 1 + d, aval_of(each[0]).shape[1 + d]
    rows = [_padded_along(x, axis, most) for x in each]
    both = concatenate([expand_dims(x, (axis + 1,)) for x in rows], axis + 1)
    merged = (*shape[:axis], most * len(rows), *shape[axis + 1 :])
    return slice_(reshape(both, merged), (0,) * len(shape), shape)


def _padded_along(x: Any, axis: int, size: int) -> Any:
    shape = aval_of(x).shape
    config = [(0, size - n if d == axis else 0, 0) for d, n in enumerate(shape)]
    return pad(x, np.zeros((), aval_of(x).dtype), config)


def _of_phase(c: Convolution, chosen: Sequence[Phase]) -> Any:
    shape = aval_of(c.rhs).shape
    start, limit, step = [0] * len(shape), list(shape), [1] * len(shape)
    for d, phase in zip(c.rhs_spec[2:], chosen, strict=True):
        start[d], limit[d], step[d] = phase.taps.start, phase.taps.stop, phase.taps.step
    taps = slice_(c.rhs, start, limit, step)
    return _plain(c._replace(rhs=taps, geometry=[p.window for p in chosen]))


# ---------------------------------------------------------------- forms


def _plain(c: Convolution) -> Any:
    """A convolution without dilation of lhs, `(batch, *spatial, features)`."""
    shape = (c.batch, *c.counts, c.rhs_size(0))
    terms = math.prod(w.size for w in c.geometry)
    if not math.prod(shape) or not terms or not c.rhs_size(1):
        return full(shape, 0, aval_of(c.lhs).dtype)
    features = c.rhs_size(0) // c.groups
    if features <= _MOST_FEATURES and c.rhs_size(1) == 1 and not c.by_batch and terms <= _MOST_TERMS:
        return _shifted_views(c)
    if features == 1 and c.batch == 1 and c.by_batch and math.prod(c.counts) <= _MOST_TERMS:
        return _products_of_windows(c)
    if terms == 1 and c.groups == 1 and all(w.stride == 1 and not w.low and not w.high for w in c.geometry):
        return _product(c)
    return _implicit(c)


def _padded(c: Convolution) -> Any:
    """Lhs with padding, in its own order."""
    config = [(0, 0, 0)] * aval_of(c.lhs).ndim
    for d, w in zip(c.lhs_spec[2:], c.geometry, strict=True):
        config[d] = (w.low, w.high, 0)
    return pad(c.lhs, np.zeros((), aval_of(c.lhs).dtype), config)


def _product(c: Convolution) -> Any:
    """A window of one element: (batch, *spatial, in) times (in, out)."""
    (batch, feature, *space), (out_feature, in_feature, *window) = c.lhs_spec, c.rhs_spec
    kernel = reshape(transpose(c.rhs, (in_feature, out_feature, *window)), (c.rhs_size(1), c.rhs_size(0)))
    return dot_general(transpose(c.lhs, (batch, *space, feature)), kernel, (((len(space) + 1,), (0,)), ((), ())))


def _shifted_views(c: Convolution) -> Any:
    """Σₖ of lhs, shifted by k, times element k of the kernel: one input feature in each group."""
    x, (_, feature, *space) = _padded(c), c.lhs_spec
    features = c.rhs_size(0) // c.groups
    rank = aval_of(x).ndim
    kernel = transpose(c.rhs, c.rhs_spec)  # (groups · features, 1, *window)
    counts = c.counts
    total: Any = None
    for place in itertools.product(*(range(w.size) for w in c.geometry)):
        start, limit, step = [0] * rank, list(aval_of(x).shape), [1] * rank
        for d, k, n, w in zip(space, place, counts, c.geometry, strict=True):
            start[d], step[d] = k * w.dilation, w.stride
            limit[d] = start[d] + (n - 1) * w.stride + 1
        seen = slice_(x, start, limit, step)
        shape = (*aval_of(seen).shape, features)
        element = slice_(kernel, (0, 0, *place), (c.rhs_size(0), 1, *(k + 1 for k in place)))
        factor = broadcast_in_dim(reshape(element, (c.groups, features)), shape, (feature, rank))
        term = broadcast_in_dim(seen, shape, range(rank)) * factor
        total = term if total is None else total + term
    moved = transpose(total, (c.lhs_spec[0], *space, feature, rank))
    return reshape(moved, (c.batch, *counts, c.rhs_size(0)))


def _products_of_windows(c: Convolution) -> Any:
    """For each window, the sum of its products with the kernel; a group has one output feature and one of the batch."""
    x, (batch, _, *space) = _padded(c), c.lhs_spec
    rank, counts = aval_of(x).ndim, c.counts
    out_feature, in_feature, *window = c.rhs_spec
    order = [0] * rank  # the kernel's dimensions in the order of lhs; its output features are the groups of the batch
    for d, e in zip(c.lhs_spec, (out_feature, in_feature, *window), strict=True):
        order[d] = e
    kernel = transpose(c.rhs, order)
    sums = []
    for place in itertools.product(*(range(n) for n in counts)):
        start, limit, step = [0] * rank, list(aval_of(x).shape), [1] * rank
        for d, p, w in zip(space, place, c.geometry, strict=True):
            start[d], step[d] = p * w.stride, w.dilation
            limit[d] = start[d] + (w.size - 1) * w.dilation + 1
        seen = slice_(x, start, limit, step)
        sums.append(reduce_sum(seen * kernel, [d for d in range(rank) if d != batch]))
    rows = concatenate([expand_dims(s, (0,)) for s in sums], 0)
    return reshape(rows, (1, *counts, c.rhs_size(0)))


# ---------------------------------------------------------------- implicit products


class _Loop(NamedTuple):
    """A loop over a dimension: which one, its size, and the distance in lhs."""

    dimension: int
    size: int
    step: int


def _implicit(c: Convolution) -> Any:
    """The convolution as a product whose rows are windows."""
    x = _padded(c)
    steps = contiguous(aval_of(x).shape).strides
    batch, feature, *space = (steps[d] for d in c.lhs_spec)
    groups, features = c.groups, c.rhs_size(0) // c.groups
    counts = c.counts
    rows = _in_order(
        _Loop(0, c.batch, batch),
        *(_Loop(1 + i, n, s * w.stride) for i, (n, s, w) in enumerate(zip(counts, space, c.geometry, strict=True))),
    )
    depth = _in_order(
        _Loop(1, c.rhs_size(1), feature),
        *(_Loop(2 + i, w.size, s * w.dilation) for i, (s, w) in enumerate(zip(space, c.geometry, strict=True))),
    )
    right, panel, steps_b = _panels(c, depth, features)
    group_a = c.batch * batch if c.by_batch else c.rhs_size(1) * feature
    group_b = -(-features // PANEL) * panel if groups > 1 else 0
    loops = _merged([(loop.size, loop.step, s) for loop, s in zip(depth, steps_b, strict=True)])
    form = Form(
        tuple(_merged([(loop.size, loop.step) for loop in rows])),
        tuple(loops),
        (groups, group_a if groups > 1 else 0, group_b),
        features,
        panel,
    )
    out = reshape(implicit_gemm(x, right, form), (*(loop.size for loop in rows), c.rhs_size(0)))
    return transpose(out, (*np.argsort([loop.dimension for loop in rows]).tolist(), len(rows)))


def _in_order(*loops: _Loop) -> list[_Loop]:
    """Loops in the order of memory, outermost first."""
    return sorted(loops, key=lambda loop: (-loop.step, loop.size != 1))


def _merged(loops: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Make one loop of two where the outer one goes on where the inner one ends, for all distances."""
    out: list[tuple[int, ...]] = []
    for size, *steps in loops:
        if size == 1:
            continue
        if out and all(before == size * step for before, step in zip(out[-1][1:], steps, strict=True)):
            out[-1] = (out[-1][0] * size, *steps)
        else:
            out.append((size, *steps))
    return out or [(1, *(0 for _ in loops[0][1:]))]


def _panels(c: Convolution, depth: Sequence[_Loop], features: int) -> tuple[Any, int, list[int]]:
    """The kernel as the right matrix: where it is, the distance of its panels, and the distance for each loop in depth.

    It is packed into panels in the order of the depth. In the gradient of a kernel, it is the cotangent of all windows,
    larger than the result: it is left where it is if its features are side by side.
    """
    out_feature = c.rhs_spec[0]
    shape = aval_of(c.rhs).shape
    many = math.prod(w.size for w in c.geometry) >= math.prod(c.counts)
    if many and c.groups == 1 and features % PANEL == 0 and out_feature == len(shape) - 1:
        steps = contiguous(shape).strides
        return c.rhs, PANEL, [steps[c.rhs_spec[loop.dimension]] for loop in depth]
    sizes = [loop.size for loop in depth]
    ordered = transpose(c.rhs, [out_feature, *(c.rhs_spec[loop.dimension] for loop in depth)])
    ordered = reshape(ordered, (c.groups, features, *sizes))
    panels = -(-features // PANEL)
    config = [(0, 0, 0), (0, panels * PANEL - features, 0), *((0, 0, 0) for _ in sizes)]
    whole = reshape(pad(ordered, np.zeros((), aval_of(c.rhs).dtype), config), (c.groups, panels, PANEL, *sizes))
    packed = transpose(whole, (0, 1, *range(3, 3 + len(sizes)), 2))
    steps = contiguous(aval_of(packed).shape).strides
    return packed, math.prod(sizes) * PANEL, list(steps[2 : 2 + len(sizes)])
