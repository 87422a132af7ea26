"""implicit_gemm: a matrix product whose left matrix is read from an array in place, several times over.

    out[group(g) + row(m) + column(j)] = Σₖ a[group(g) + row(m) + depth(k)] · b[group(g) + depth(k) + column(j)]

Each of these functions is a sum of indices times distances. So the windows of a convolution, which are rows or columns,
are never copied side by side, as they would be for a product by BLAS, and the result is written in any order of its
dimensions.

The compiler puts this in the place of convolutions. It is no operation of users, and has no derivative: it comes after
all transforms.
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

    - `rows`: (size, distance in a, distance in the result), outermost first.
    - `depth`: (size, distance in a, distance in b), outermost first.
    - `groups`: (size, distance in a, in b, and in the result), outermost first.
    - `columns`: (size, distance in the result, distance in b). If the last is 1, b is in panels.
    - `panel`: the distance in b of panels of `PANEL` columns; b has whole panels in memory, whatever `columns` is.
    - `starts`: where a and b begin.

    If columns are apart in b, they are few, and neighbors in the last loop of the depth are neighbors in a and b.
    """

    rows: tuple[tuple[int, int, int], ...]
    depth: tuple[tuple[int, int, int], ...]
    groups: tuple[tuple[int, int, int, int], ...]
    columns: tuple[int, int, int]
    panel: int
    starts: tuple[int, int] = (0, 0)

    @property
    def m(self) -> int:
        """How many rows there are."""
        return math.prod(n for n, *_ in self.rows)

    @property
    def k(self) -> int:
        """How many terms each sum has."""
        return math.prod(n for n, *_ in self.depth)

    @property
    def number_of_groups(self) -> int:
        """How many groups there are."""
        return math.prod(n for n, *_ in self.groups)

    @property
    def size(self) -> int:
        """How many elements the result has."""
        return self.m * self.columns[0] * self.number_of_groups


def _infer(a: ShapedArray, b: ShapedArray, *, form: Form) -> ShapedArray:
    return ShapedArray((form.size,), a.dtype)


def _evaluate(a: Any, b: Any, *, form: Form) -> Any:
    columns, column_c, column_b = form.columns
    size = a.dtype.itemsize
    out = np.empty(form.size, a.dtype)
    a, b = np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)
    rows, depth = ([n for n, *_ in loops] for loops in (form.rows, form.depth))
    for at in np.ndindex(*(n for n, *_ in form.groups)):
        places = [
            sum(i * s for i, s in zip(at, steps, strict=True)) for steps in list(zip(*form.groups, strict=True))[1:]
        ]
        group_a, group_b, group_c = places
        steps = [s for _, s, _ in (*form.rows, *form.depth)]
        left = as_strided(a[form.starts[0] + group_a :], (*rows, *depth), [s * size for s in steps])
        width = PANEL if column_b == 1 else columns
        steps = [*(s for *_, s in form.depth), form.panel, column_b]
        right = as_strided(
            b[form.starts[1] + group_b :], (*depth, -(-columns // width), width), [s * size for s in steps]
        )
        right = right.reshape(form.k, -1)[:, :columns]
        steps = [*(s for *_, s in form.rows), column_c]
        into = as_strided(out[group_c:], (*rows, columns), [s * size for s in steps])
        block = max(1, _COPIED * rows[0] // (form.k * form.m))
        for start in range(0, rows[0], block):
            part = into[start : start + block]
            product = multiply_matrices(left[start : start + block].reshape(-1, form.k), right)
            part[...] = product.reshape(part.shape)
    return out


def _flops(in_avals: list[ShapedArray], out_avals: list[ShapedArray], *, form: Form) -> int:
    return 2 * out_avals[0].size * form.k


implicit_gemm_p = Primitive(
    "implicit_gemm", infer=_infer, evaluate=_evaluate, lowering=LibraryRoutine("implicit_gemm", flops=_flops)
)


def implicit_gemm(a: Any, b: Any, form: Form) -> Any:
    """Return the product as a vector: its elements in the order of memory."""
    return implicit_gemm_p.bind(a, b, form=form)
