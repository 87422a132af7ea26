"""implicit_gemm: a matrix product whose left matrix is read from an array in place, several times over.

    out[m, g · columns + j] = Σₖ a[group(g) + row(m) + depth(k)] · b[group(g) + depth(k), j]

`row` and `depth` are sums of indices times strides. So the rows of a convolution, its windows, are never copied side by
side, as they would be for a product by BLAS. The compiler puts this in the place of convolutions; it is no operation of
users, and has no derivative: it comes after all transforms.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import LibraryRoutine
from funcgrad.core.primitives import Primitive
from funcgrad.ops.products import multiply_matrices

PANEL = 32
"""Columns of `b` that are side by side in memory, or more."""

_COPIED = 1 << 18  # elements of rows that NumPy copies side by side for one product


class Form(NamedTuple):
    """How an implicit product reads its operands; all distances are in elements.

    - `rows`: (size, distance in a), outermost first; the rows of the result are numbered in this order.
    - `depth`: (size, distance in a, distance in b), outermost first.
    - `groups`: how many, their distance in a, and in b.
    - `columns`: of each group. They are in panels of `PANEL` columns; `panel` is the distance of those in b, which has
      whole panels in memory, whatever `columns` is.
    """

    rows: tuple[tuple[int, int], ...]
    depth: tuple[tuple[int, int, int], ...]
    groups: tuple[int, int, int]
    columns: int
    panel: int

    @property
    def m(self) -> int:
        """How many rows there are."""
        return math.prod(n for n, _ in self.rows)

    @property
    def k(self) -> int:
        """How many terms each sum has."""
        return math.prod(n for n, *_ in self.depth)


def _infer(a: ShapedArray, b: ShapedArray, *, form: Form) -> ShapedArray:
    return ShapedArray((form.m, form.groups[0] * form.columns), a.dtype)


def _evaluate(a: Any, b: Any, *, form: Form) -> Any:
    groups, group_a, group_b = form.groups
    out = np.empty((form.m, groups * form.columns), a.dtype)
    size = a.dtype.itemsize
    panels = -(-form.columns // PANEL)
    a, b = np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)
    for g in range(groups):
        left = as_strided(
            a[g * group_a :],
            (*(n for n, _ in form.rows), *(n for n, *_ in form.depth)),
            (*(s * size for _, s in form.rows), *(s * size for _, s, _ in form.depth)),
        )
        right = as_strided(
            b[g * group_b :],
            (*(n for n, *_ in form.depth), panels, PANEL),
            (*(s * size for *_, s in form.depth), form.panel * size, size),
        ).reshape(form.k, panels * PANEL)[:, : form.columns]
        into = out[:, g * form.columns : (g + 1) * form.columns]
        outer = left.shape[0]
        step = max(1, _COPIED // max(1, form.k * form.m // max(outer, 1)))
        each = form.m // max(outer, 1)
        for start in range(0, outer, step):
            part = left[start : start + step]
            rows = part.shape[0] * each
            into[start * each : start * each + rows] = multiply_matrices(part.reshape(rows, form.k), right)
    return out


def _flops(in_avals: list[ShapedArray], out_avals: list[ShapedArray], *, form: Form) -> int:
    return 2 * out_avals[0].size * form.k


implicit_gemm_p = Primitive(
    "implicit_gemm", infer=_infer, evaluate=_evaluate, lowering=LibraryRoutine("implicit_gemm", flops=_flops)
)


def implicit_gemm(a: Any, b: Any, form: Form) -> Any:
    """Return the product of shape `(rows, groups · columns)`."""
    return implicit_gemm_p.bind(a, b, form=form)
