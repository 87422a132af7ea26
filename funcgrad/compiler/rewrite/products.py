"""Matrix products: dot_general in one canonical form, and that form as BLAS sees it.

Canonical is (batch, m, k) times (batch, k, n) in a dtype that BLAS has. Everything else is rewritten: dimensions are
permuted and merged by transposes and reshapes (which cost nothing where the operand's storage allows it), 16-bit floats
are computed in float32, integers by multiplying and summing in a fused loop. A long contraction is cut into a batch of
products, whose results are summed: BLAS would add them up one by one.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, JaxprEqn, Var
from funcgrad.core.lowering import Contract, Strided
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.arithmetic import mul_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.products import DotDimensionNumbers, blocks_of_contraction, dot_general_p
from funcgrad.ops.shapes import broadcast_in_dim, reduce_sum, reshape, reshape_p, transpose, transpose_p
from funcgrad.ops.slicing import slice_

CANONICAL = DotDimensionNumbers.of((((2,), (1,)), ((0,), (0,))))
# A product in a batch is cut into at most this many products.
_MOST_PRODUCTS = 32
_BLAS = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)


def is_canonical(eqn: JaxprEqn) -> bool:
    """Whether an equation is a product that BLAS can do as it stands."""
    lhs, rhs = (v.aval for v in eqn.invars)
    return (
        eqn.params["dimension_numbers"] == CANONICAL
        and lhs.ndim == rhs.ndim == 3
        and lhs.dtype in _BLAS
        and eqn.outvars[0].aval.dtype == lhs.dtype
    )


def canonical(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the equations that put a dot_general into canonical form, or None when it is, or is none."""
    if not isinstance(eqn.primitive.lowering, Contract) or (is_canonical(eqn) and _blocks(eqn) <= 1):
        return None

    def fun(x: Any, y: Any) -> list[Any]:
        with source_of(eqn.source):
            return [_canonical(x, y, eqn)]

    return trace_to_jaxpr(fun, [v.aval for v in eqn.invars])


def _canonical(x: Any, y: Any, eqn: JaxprEqn) -> Any:
    (xc, yc), (xb, yb) = eqn.params["dimension_numbers"]
    shape_x, shape_y = (v.aval.shape for v in eqn.invars)
    xf = [d for d in range(len(shape_x)) if d not in (*xc, *xb)]
    yf = [d for d in range(len(shape_y)) if d not in (*yc, *yb)]
    size = lambda shape, axes: math.prod(shape[d] for d in axes)  # noqa: E731
    batch, m, n, k = size(shape_x, xb), size(shape_x, xf), size(shape_y, yf), size(shape_x, xc)
    result = eqn.outvars[0].aval
    working = _working_dtype(eqn.invars[0].aval.dtype, result.dtype)
    left = convert_element_type(reshape(transpose(x, (*xb, *xf, *xc)), (batch, m, k)), working)
    right = convert_element_type(reshape(transpose(y, (*yb, *yc, *yf)), (batch, k, n)), working)
    if working in _BLAS:
        product = _in_blocks(left, right, (batch, m, n, k))
    else:
        product = _sum_of_products(left, right, (batch, m, n, k))
    return reshape(convert_element_type(product, result.dtype, result.weak_type), result.shape)


def _working_dtype(operand: np.dtype, result: np.dtype) -> np.dtype:
    if operand == dtypes.bool_ and result == dtypes.bool_:
        return dtypes.int32  # any true product: a nonzero count
    wide = result if operand == dtypes.bool_ else np.promote_types(operand, result)
    return dtypes.float32 if wide in (dtypes.float16, dtypes.bfloat16) else wide


def _blocks(eqn: JaxprEqn) -> int:
    left, right = (v.aval.shape for v in eqn.invars)
    return blocks_of_contraction(left[1], right[2], left[2])


def _in_blocks(left: Any, right: Any, sizes: tuple[int, ...]) -> Any:
    """Σₖ left[b, m, k] · right[b, k, n] by BLAS, summed in blocks of k where it is long."""
    batch, m, n, k = sizes
    blocks = blocks_of_contraction(m, n, k)
    if blocks <= 1:
        return _product(left, right)
    if batch != 1:  # blocks of a batch have no one distance from each other
        bounds = np.linspace(0, k, min(blocks, _MOST_PRODUCTS) + 1).astype(int).tolist()
        terms = [_product(_part(left, 2, i, j), _part(right, 1, i, j)) for i, j in itertools.pairwise(bounds)]
        while len(terms) > 1:
            terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
        return terms[0]
    length = k // blocks
    whole = blocks * length
    rows = transpose(reshape(_part(left, 2, 0, whole), (m, blocks, length)), (1, 0, 2))
    products = _product(rows, reshape(_part(right, 1, 0, whole), (blocks, length, n)))
    total = reshape(reduce_sum(products, (0,)), (1, m, n))
    return total if whole == k else total + _product(_part(left, 2, whole, k), _part(right, 1, whole, k))


def _product(left: Any, right: Any) -> Any:
    return dot_general_p.bind(left, right, dimension_numbers=CANONICAL, preferred_element_type=None)


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    shape = aval_of(x).shape
    starts = [start if d == axis else 0 for d in range(len(shape))]
    stops = [stop if d == axis else n for d, n in enumerate(shape)]
    return slice_(x, starts, stops)


def _sum_of_products(left: Any, right: Any, sizes: tuple[int, ...]) -> Any:
    """Σₖ left[b, m, k] · right[b, k, n] as a fold, which fuses with the products."""
    spread_left = broadcast_in_dim(left, sizes, (0, 1, 3))
    spread_right = broadcast_in_dim(transpose(right, (0, 2, 1)), sizes, (0, 2, 3))
    return reduce_sum(mul_p.bind(spread_left, spread_right), (3,))


def in_wanted_order(eqns: Sequence[JaxprEqn], outvars: Sequence[Atom]) -> list[JaxprEqn]:
    """(A·B)ᵀ = Bᵀ·Aᵀ, where the product is used transposed alone: BLAS then writes it in the order it is read. Exact.

    This is how gradients of weights come out of reverse mode.
    """
    uses = Counter(v for e in eqns for v in e.invars if isinstance(v, Var))
    uses.update(v for v in outvars if isinstance(v, Var))
    defined = {v: e for e in eqns for v in e.outvars}
    replaced: dict[JaxprEqn, list[JaxprEqn]] = {}
    for eqn in eqns:
        if eqn.primitive is not transpose_p or not isinstance(eqn.invars[0], Var):
            continue
        product = _behind_reshape(eqn, defined, uses)
        if product is not None:
            replaced[product] = []
            replaced[eqn] = _swapped(product, eqn)
    return [e for eqn in eqns for e in replaced.get(eqn, [eqn])]


def _behind_reshape(eqn: JaxprEqn, defined: dict[Var, JaxprEqn], uses: Counter[Var]) -> JaxprEqn | None:
    """The canonical product whose two free dimensions a transpose swaps, if nothing else uses it."""

    def only_use(atom: Atom) -> JaxprEqn | None:
        return defined.get(atom) if isinstance(atom, Var) and uses[atom] == 1 else None

    inner = only_use(eqn.invars[0])
    permutation = eqn.params["permutation"]
    if inner is not None and inner.primitive is reshape_p:
        product = inner.invars[0].aval
        m_n = product.shape[1:] if product.ndim == 3 else None
        if permutation != (1, 0) or inner.outvars[0].aval.shape != m_n:
            return None
        inner = only_use(inner.invars[0])
    elif permutation != (0, 2, 1):
        return None
    if inner is None or not isinstance(inner.primitive.lowering, Contract):
        return None
    return inner if is_canonical(inner) else None


def _swapped(product: JaxprEqn, eqn: JaxprEqn) -> list[JaxprEqn]:
    left, right = product.invars
    swap = {"permutation": (0, 2, 1)}
    new: list[JaxprEqn] = []
    for operand in (right, left):
        b, rows, columns = operand.aval.shape
        new.append(JaxprEqn([operand], [Var(operand.aval.update(shape=(b, columns, rows)))], transpose_p, swap))
    b, m, n = product.outvars[0].aval.shape
    out = Var(product.outvars[0].aval.update(shape=(b, n, m)))
    operands = [e.outvars[0] for e in new]
    new.append(JaxprEqn(operands, [out], dot_general_p, product.params, product.source))
    shape = {"new_sizes": eqn.outvars[0].aval.shape, "dimensions": None}
    return [*new, JaxprEqn([out], eqn.outvars, reshape_p, shape, eqn.source)]


class Matrix(NamedTuple):
    """A batch of matrices in storage: whether stored transposed, distance of rows, distance of matrices, offset."""

    transposed: bool
    leading: int
    batch_stride: int
    offset: int


def matrix(view: Strided) -> Matrix | None:
    """Return a (batch, rows, columns) access as BLAS addresses it, or None when it must be copied first."""
    (batch, rows, columns), (by_batch, by_row, by_column) = view.shape, view.strides
    if 0 in view.shape:  # nothing is read: any address will do
        return Matrix(False, max(columns, 1), 0, view.offset)
    by_batch = by_batch if batch > 1 else 0
    if columns <= 1 or by_column == 1:
        leading = by_row if rows > 1 else max(columns, 1)
        if leading >= max(columns, 1) and by_batch >= 0:
            return Matrix(False, leading, by_batch, view.offset)
    if rows <= 1 or by_row == 1:
        leading = by_column if columns > 1 else max(rows, 1)
        if leading >= max(rows, 1) and by_batch >= 0:
            return Matrix(True, leading, by_batch, view.offset)
    return None
