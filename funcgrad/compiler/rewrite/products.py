"""Matrix products: the forms in which dot_general is computed, and how BLAS sees an operand.

Every product is rewritten to (batch, m, k) times (batch, k, n): dimensions are permuted and merged by transposes and
reshapes, which cost nothing where the operand's storage allows it. 16-bit floats are computed in float32. There are
three forms:

- fold: a sum of elementwise products, which fuses with what surrounds it, where there is a single term, a single
  element for each of several matrices, or a vector of integers;
- kernel: code of the compiler, for many small matrices, for integers and bools;
- blas, where a long contraction is cut into a batch of products, whose results are summed: BLAS
  would add them up one by one.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from typing import Literal as Choice

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
# The compiler's kernels are faster than BLAS where the contracted dimension and the smaller side of the result are no
# longer, and there are several matrices, or as many rows or columns of one that it is worth a kernel.
_SMALL, _MANY = 96, 1024

Form = Choice["fold", "kernel", "blas"]


class _Sizes(NamedTuple):
    """The dimensions of a product, each group in its order in the result, and their sizes."""

    batch: tuple[int, ...]
    m: int
    n: int
    k: int


def is_kernel(eqn: JaxprEqn, most: int) -> bool:
    """Whether a product that is in canonical form is a kernel of the compiler, and not a call of BLAS.

    `most` is the size of matrices up to which kernels are faster than BLAS on the target.
    """
    _, m, n, k = _sizes(eqn)
    return eqn.invars[0].aval.dtype not in _BLAS or (_form(eqn) == "kernel" and max(k, min(m, n)) <= most)


def _free(eqn: JaxprEqn) -> list[list[int]]:
    """The dimensions of each operand that are neither contracted nor in the batch."""
    taken = zip(*eqn.params["dimension_numbers"], strict=True)
    operands = zip(eqn.invars, taken, strict=True)
    return [[d for d in range(v.aval.ndim) if d not in {*contracted, *batch}] for v, (contracted, batch) in operands]


def _sizes(eqn: JaxprEqn) -> _Sizes:
    (xc, _), (xb, _) = eqn.params["dimension_numbers"]
    x, y = (v.aval.shape for v in eqn.invars)
    xf, yf = _free(eqn)
    m, n, k = (math.prod(s[d] for d in axes) for s, axes in ((x, xf), (y, yf), (x, xc)))
    return _Sizes(tuple(x[d] for d in xb), m, n, k)


def _outer_columns(eqn: JaxprEqn) -> list[int]:
    """The free dimensions of the right operand that become the batch of a product without one.

    They are no neighbors of the last dimension in memory, as far as is known.
    """
    (_, contracted), (batch, _) = eqn.params["dimension_numbers"]
    outer = _free(eqn)[1][:-1]
    return outer if not batch and all(d < c for d in outer for c in contracted) else []


def _form(eqn: JaxprEqn) -> Form:
    batch, m, n, k = _sizes(eqn)
    dtype = _working_dtype(eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype)
    if 0 in (*batch, m, n, k):
        return "blas" if dtype in _BLAS else "fold"
    real = not np.issubdtype(dtype, np.complexfloating)
    outer = math.prod(eqn.invars[1].aval.shape[d] for d in _outer_columns(eqn))
    matrices, n = math.prod(batch) * outer, n // outer
    most = max(m, n)
    many = (matrices > 1 and most <= _SMALL) or matrices * most >= _MANY
    if real and many and max(k, min(m, n)) <= _SMALL:
        return "fold" if m == n == outer == 1 else "kernel"
    if k == 1:
        return "fold"
    if dtype in _BLAS:
        return "blas"
    return "fold" if min(m, n) == 1 else "kernel"


def is_canonical(eqn: JaxprEqn) -> bool:
    """Whether an equation is a product as BLAS or a kernel computes it."""
    lhs, rhs, result = (v.aval for v in (*eqn.invars, *eqn.outvars))
    # Kernels widen integers as they read them.
    exact = not dtypes.is_inexact(result.dtype) and np.promote_types(lhs.dtype, result.dtype) == result.dtype
    computed = exact or (lhs.dtype == result.dtype and lhs.dtype in _BLAS)
    plain = lhs.ndim == rhs.ndim == 3 and eqn.params["dimension_numbers"] == CANONICAL
    return plain and computed and _form(eqn) != "fold"


def canonical(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the equations that put a dot_general into canonical form, or None when it is, or is none."""
    if not isinstance(eqn.primitive.lowering, Contract):
        return None
    if is_canonical(eqn) and (_form(eqn) == "kernel" or _blocks(eqn) <= 1):
        return None

    def fun(x: Any, y: Any) -> list[Any]:
        with source_of(eqn.source):
            return [_canonical(x, y, eqn)]

    return trace_to_jaxpr(fun, [v.aval for v in eqn.invars])


def _canonical(x: Any, y: Any, eqn: JaxprEqn) -> Any:
    result, form = eqn.outvars[0].aval, _form(eqn)
    working = _working_dtype(aval_of(x).dtype, result.dtype)
    if form != "kernel" or dtypes.is_inexact(working):
        x, y = (convert_element_type(v, working) for v in (x, y))
    product = _fold(x, y, eqn) if form == "fold" else _of_matrices(x, y, eqn)
    return reshape(convert_element_type(product, result.dtype, result.weak_type), result.shape)


def _of_matrices(x: Any, y: Any, eqn: JaxprEqn) -> Any:
    """The product as one of matrices, whose dimensions are in the order of those of the result."""
    (xc, yc), (xb, yb) = eqn.params["dimension_numbers"]
    (xf, yf), (batch, m, n, k) = _free(eqn), _sizes(eqn)
    # The order of the terms is free: that of the larger operand leaves it where it is.
    order = np.argsort(xc if aval_of(x).size >= aval_of(y).size else yc)
    xc, yc = ([axes[i] for i in order] for axes in (xc, yc))
    outer = _outer_columns(eqn) if _form(eqn) == "kernel" else []
    size, repeated = math.prod(batch), math.prod(aval_of(y).shape[d] for d in outer)
    left = reshape(transpose(x, (*xb, *xf, *xc)), (size, m, k))
    right = reshape(transpose(y, (*yb, *outer, *yc, *yf[len(outer) :])), (size * repeated, k, n // repeated))
    if outer:  # the result has rows first: the transpose is undone by what makes such products, vmap
        left = broadcast_in_dim(reshape(left, (m, k)), (repeated, m, k), (1, 2))
        return transpose(_product(left, right), (1, 0, 2))
    if _form(eqn) == "blas":
        return _in_blocks(left, right, (size, m, n, k))
    dtype = aval_of(x).dtype
    return _product(
        left, right, dtype if dtypes.is_inexact(dtype) else np.promote_types(dtype, eqn.outvars[0].aval.dtype)
    )


def _fold(x: Any, y: Any, eqn: JaxprEqn) -> Any:
    """The sum of elementwise products over the dimensions of the larger operand, where they are.

    The other operand adds its own dimensions, which have size 1 unless there is a single term.
    """
    (xc, yc), (xb, yb) = eqn.params["dimension_numbers"]
    xf, yf = _free(eqn)
    ndim, swapped = aval_of(x).ndim, aval_of(y).size > aval_of(x).size
    if swapped:
        x, y, xc, yc, xb, yb, xf, yf, ndim = y, x, yc, xc, yb, xb, yf, xf, aval_of(y).ndim
    own = range(ndim, ndim + len(yf))
    place = dict(zip((*yc, *yb, *yf), (*xc, *xb, *own), strict=True))
    shape = (*aval_of(x).shape, *(aval_of(y).shape[d] for d in yf))
    y = transpose(y, sorted(place, key=place.__getitem__))
    terms = mul_p.bind(
        broadcast_in_dim(x, shape, tuple(range(ndim))), broadcast_in_dim(y, shape, tuple(sorted(place.values())))
    )
    kept = [d for d in range(len(shape)) if d not in xc]
    order = (*xb, *own, *xf) if swapped else (*xb, *xf, *own)
    return transpose(reduce_sum(terms, tuple(sorted(xc))), tuple(map(kept.index, order)))


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


def _product(left: Any, right: Any, dtype: np.dtype | None = None) -> Any:
    preferred = None if dtype == aval_of(left).dtype else dtype
    return dot_general_p.bind(left, right, dimension_numbers=CANONICAL, preferred_element_type=preferred)


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    shape = aval_of(x).shape
    starts = [start if d == axis else 0 for d in range(len(shape))]
    stops = [stop if d == axis else n for d, n in enumerate(shape)]
    return slice_(x, starts, stops)


def in_wanted_order(eqns: Sequence[JaxprEqn], outvars: Sequence[Atom]) -> list[JaxprEqn]:
    """(A·B)ᵀ = Bᵀ·Aᵀ, where the product is used transposed alone: it is then written in the order it is read. Exact.

    This is how gradients of weights come out of reverse mode. Dimensions of the batch may change places too.
    """
    uses = Counter(v for e in eqns for v in e.invars if isinstance(v, Var))
    uses.update(v for v in outvars if isinstance(v, Var))
    defined = {v: e for e in eqns for v in e.outvars}
    replaced: dict[JaxprEqn, list[JaxprEqn]] = {}
    for eqn in eqns:
        if eqn.primitive is not transpose_p or not isinstance(eqn.invars[0], Var):
            continue
        found = _behind_reshape(eqn, defined, uses)
        if found is not None:
            product, permutation = found
            replaced[product] = []
            replaced[eqn] = _permuted(product, permutation, eqn)
    return [e for eqn in eqns for e in replaced.get(eqn, [eqn])]


def _behind_reshape(
    eqn: JaxprEqn, defined: dict[Var, JaxprEqn], uses: Counter[Var]
) -> tuple[JaxprEqn, tuple[int, ...]] | None:
    """The canonical product that transposes permute, and how; it has no other use, and rows and columns stay last."""

    def only_use(atom: Atom) -> JaxprEqn | None:
        return defined.get(atom) if isinstance(atom, Var) and uses[atom] == 1 else None

    inner = only_use(eqn.invars[0])
    permutation = tuple(eqn.params["permutation"])
    while inner is not None and inner.primitive is transpose_p:
        permutation = tuple(inner.params["permutation"][d] for d in permutation)
        inner = only_use(inner.invars[0])
    if inner is not None and inner.primitive is reshape_p:
        product = inner.invars[0].aval
        m_n = product.shape[1:] if product.ndim == 3 else None
        if permutation != (1, 0) or inner.outvars[0].aval.shape != m_n:
            return None
        inner, permutation = only_use(inner.invars[0]), (0, 2, 1)
    if inner is None or not isinstance(inner.primitive.lowering, Contract) or not is_canonical(inner):
        return None
    ndim = len(permutation)
    return (inner, permutation) if {*permutation[-2:]} == {ndim - 2, ndim - 1} else None


def _permuted(product: JaxprEqn, permutation: tuple[int, ...], eqn: JaxprEqn) -> list[JaxprEqn]:
    """The equations of a product whose result is permuted, and reshaped to that of an equation."""
    operands = product.invars if permutation[-2] < permutation[-1] else product.invars[::-1]
    params, eqns = {"permutation": permutation}, []
    for v in operands:
        shape = tuple(v.aval.shape[d] for d in permutation)
        eqns.append(JaxprEqn([v], [Var(v.aval.update(shape=shape))], transpose_p, params))
    result = product.outvars[0].aval
    out = Var(result.update(shape=tuple(result.shape[d] for d in permutation)))
    permuted = [e.outvars[0] for e in eqns]
    eqns.append(JaxprEqn(permuted, [out], dot_general_p, product.params, product.source))
    shape = {"new_sizes": eqn.outvars[0].aval.shape, "dimensions": None}
    return [*eqns, JaxprEqn([out], eqn.outvars, reshape_p, shape, eqn.source)]


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
