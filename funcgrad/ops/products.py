"""dot_general: sums of products over contracted dimensions, for each element of the batch dimensions."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray, refuse_keys
from funcgrad.core.lowering import Contract
from funcgrad.core.primitives import AxisData, ParamStyle, Primitive
from funcgrad.core.symbolic import is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.accumulation import accumulator, sum_over
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import bilinear_jvp, check_bilinear
from funcgrad.ops.shapes import transpose

Axes = tuple[int, ...]


class Precision(enum.Enum):
    """The precision of float32 products. On CPUs, all three values give full precision."""

    DEFAULT = 0
    HIGH = 1
    HIGHEST = 2


class DotAlgorithm(NamedTuple):
    """How a product is computed: the dtypes of the products and of their sum. Accepted; CPUs give full precision."""

    lhs_precision_type: Any
    rhs_precision_type: Any
    accumulation_type: Any
    lhs_component_count: int = 1
    rhs_component_count: int = 1
    num_primitive_operations: int = 1
    allow_imprecise_accumulation: bool = False


class DotAlgorithmPreset(enum.Enum):
    """Named algorithms of products. Accepted; CPUs give full precision."""

    DEFAULT = enum.auto()
    ANY_F8_ANY_F8_F32 = enum.auto()
    ANY_F8_ANY_F8_F32_FAST_ACCUM = enum.auto()
    ANY_F8_ANY_F8_ANY = enum.auto()
    ANY_F8_ANY_F8_ANY_FAST_ACCUM = enum.auto()
    F16_F16_F16 = enum.auto()
    F16_F16_F32 = enum.auto()
    BF16_BF16_BF16 = enum.auto()
    BF16_BF16_F32 = enum.auto()
    BF16_BF16_F32_X3 = enum.auto()
    BF16_BF16_F32_X6 = enum.auto()
    BF16_BF16_F32_X9 = enum.auto()
    TF32_TF32_F32 = enum.auto()
    TF32_TF32_F32_X3 = enum.auto()
    F32_F32_F32 = enum.auto()
    F64_F64_F64 = enum.auto()


_PRECISIONS = {"default", "fastest", "bfloat16", "high", "bfloat16_3x", "tensorfloat32", "highest", "float32"}


def check_precision(operation: str, precision: Any) -> None:
    """Raise unless `precision` is None, an algorithm, a Precision, its name, or a pair of those."""
    if isinstance(precision, (DotAlgorithm, DotAlgorithmPreset)):
        return
    for p in precision if isinstance(precision, (tuple, list)) else (precision,):
        if not (p is None or isinstance(p, Precision) or (isinstance(p, str) and p.lower() in _PRECISIONS)):
            raise ArgumentError(
                f"{operation}: precision is {precision!r}",
                fix="give None, 'default', 'high', 'highest' or a Precision, or one such for each operand",
            )


class DotDimensionNumbers(tuple):
    """((lhs contracted, rhs contracted), (lhs batch, rhs batch)), each a tuple of axes; paired by position.

    >>> DotDimensionNumbers.of((((1,), [0]), ((), ())))
    (([1], [0]), ([], []))
    """

    @classmethod
    def of(cls, numbers: Any) -> DotDimensionNumbers:
        """Return the numbers as plain integers, from any nesting of sequences."""
        if type(numbers) is cls:
            return numbers
        try:
            (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = numbers
            axes = [tuple(map(int, a)) for a in (lhs_contract, rhs_contract, lhs_batch, rhs_batch)]
        except (TypeError, ValueError) as e:
            raise ArgumentError(
                f"dot_general: dimension_numbers are {numbers!r}",
                fix="give ((lhs contracted axes, rhs contracted axes), (lhs batch axes, rhs batch axes))",
            ) from e
        return cls(((axes[0], axes[1]), (axes[2], axes[3])))

    def __repr__(self) -> str:
        # As in the jaxprs of JAX: lists of axes.
        (lc, rc), (lb, rb) = self
        return f"(({list(lc)}, {list(rc)}), ({list(lb)}, {list(rb)}))"


def _free(ndim: int, *taken: Axes) -> Axes:
    used = {d for axes in taken for d in axes}
    return tuple(d for d in range(ndim) if d not in used)


def _check_pairs(kind: str, lhs: ShapedArray, rhs: ShapedArray, lhs_axes: Axes, rhs_axes: Axes) -> None:
    if len(lhs_axes) != len(rhs_axes):
        raise ArgumentError(
            f"dot_general: {len(lhs_axes)} {kind} axes {lhs_axes} of lhs {lhs}, "
            f"but {len(rhs_axes)} {rhs_axes} of rhs {rhs}",
            fix=f"{kind} axes are paired: give as many for lhs as for rhs",
        )
    for i, j in zip(lhs_axes, rhs_axes, strict=True):
        if lhs.shape[i] != rhs.shape[j]:
            raise ShapeError(
                f"dot_general: {kind} axes differ: axis {i} of lhs {lhs} is {lhs.shape[i]}, "
                f"axis {j} of rhs {rhs} is {rhs.shape[j]}",
                fix=f"transpose or reshape one operand so that the {kind} axes have one size",
            )


def _infer(
    lhs: ShapedArray,
    rhs: ShapedArray,
    *,
    dimension_numbers: DotDimensionNumbers,
    preferred_element_type: np.dtype | None = None,
) -> ShapedArray:
    (lc, rc), (lb, rb) = dimension_numbers
    refuse_keys("dot_general", lhs, rhs)
    if lhs.dtype != rhs.dtype:
        raise DTypeError(
            f"dot_general: operands have different dtypes: {lhs} and {rhs}",
            fix="cast one with .astype(...), or use funcgrad.numpy.matmul, which promotes",
        )
    for side, x, axes in (("lhs", lhs, (*lc, *lb)), ("rhs", rhs, (*rc, *rb))):
        if len(set(axes)) != len(axes) or any(not 0 <= d < x.ndim for d in axes):
            raise ArgumentError(
                f"dot_general: contracted and batch axes {axes} of {side} do not fit {x}",
                fix=f"name each of the axes 0..{x.ndim - 1} of {side} at most once",
            )
    _check_pairs("contracted", lhs, rhs, lc, rc)
    _check_pairs("batch", lhs, rhs, lb, rb)
    shape = (
        *(lhs.shape[d] for d in lb),
        *(lhs.shape[d] for d in _free(lhs.ndim, lc, lb)),
        *(rhs.shape[d] for d in _free(rhs.ndim, rc, rb)),
    )
    weak = lhs.weak_type and rhs.weak_type and preferred_element_type is None
    return ShapedArray(shape, preferred_element_type or lhs.dtype, weak)


class _Matrices(NamedTuple):
    """How operands become batches of matrices, (batch, free, contracted) times (batch, contracted, free)."""

    left_axes: Axes
    left_shape: tuple[int, ...]
    right_axes: Axes
    right_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _as_matrices(lhs: tuple[int, ...], rhs: tuple[int, ...], numbers: DotDimensionNumbers) -> _Matrices:
    (lc, rc), (lb, rb) = numbers
    lf, rf = _free(len(lhs), lc, lb), _free(len(rhs), rc, rb)
    batch, rows, columns = (tuple(x[d] for d in axes) for x, axes in ((lhs, lb), (lhs, lf), (rhs, rf)))
    depth = math.prod(lhs[d] for d in lc)
    return _Matrices(
        (*lb, *lf, *lc),
        (*batch, math.prod(rows), depth),
        (*rb, *rc, *rf),
        (*batch, depth, math.prod(columns)),
        (*batch, *rows, *columns),
    )


def blocks_of_contraction(m: int, n: int, k: int) -> int:
    """Into how many blocks the contracted dimension of an (m, k) times (k, n) product is cut.

    BLAS adds up the k products of a vector one by one or nearly so, those of a matrix in panels of a few hundred.
    """
    return -(-k // (_LONG_VECTOR if min(m, n) <= _FEW_VECTORS else _LONG_MATRIX))


_FEW_VECTORS = 3
_LONG_VECTOR, _LONG_MATRIX = 1 << 14, 1 << 17


def multiply_matrices(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Multiply matrices; a long contraction is summed in blocks, whose results are then summed as usual."""
    (m, k), n = left.shape[-2:], right.shape[-1]
    blocks = blocks_of_contraction(m, n, k)
    if blocks <= 1 or not dtypes.is_inexact(left.dtype):
        return np.matmul(left, right)
    batch, length = left.shape[:-2], k // blocks
    whole = blocks * length
    rows = left[..., :whole].reshape(*batch, m, blocks, length).swapaxes(-3, -2)
    parts = np.matmul(rows, right[..., :whole, :].reshape(*batch, blocks, length, n))
    total = sum_over(parts, (len(batch),), parts.dtype)
    return total + np.matmul(left[..., whole:], right[..., whole:, :]) if whole < k else total


def _evaluate(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: DotDimensionNumbers,
    preferred_element_type: np.dtype | None = None,
) -> Any:
    form = _as_matrices(lhs.shape, rhs.shape, dimension_numbers)
    left = lhs.transpose(form.left_axes).reshape(form.left_shape)
    right = rhs.transpose(form.right_axes).reshape(form.right_shape)
    result = preferred_element_type or lhs.dtype
    if result == lhs.dtype == accumulator(result):
        return multiply_matrices(left, right).reshape(form.out_shape)
    wide = np.promote_types(accumulator(lhs.dtype), accumulator(result)) if result != dtypes.bool_ else lhs.dtype
    out = multiply_matrices(left.astype(wide, copy=False), right.astype(wide, copy=False))
    return out.reshape(form.out_shape).astype(result, copy=False)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    return bilinear_jvp(dot_general_p, primals, tangents, **params)


def _operand_cotangent(
    ct: Any, x: ShapedArray, y: Any, numbers: tuple, preferred_element_type: np.dtype | None, x_is_rhs: bool
) -> Any:
    """Cotangent of operand x, whose axes come first in `numbers`: contract ct with the axes that y keeps."""
    (xc, yc), (xb, yb) = numbers
    y_ndim = aval_of(y).ndim
    xf, yf = _free(x.ndim, xc, xb), _free(y_ndim, yc, yb)
    first = len(xb) if x_is_rhs else len(xb) + len(xf)
    of_y = tuple(range(first, first + len(yf)))
    batch = tuple(range(len(xb)))
    wide = aval_of(ct).dtype
    out = dot_general(
        ct,
        convert_element_type(y, wide),
        (((of_y, yf)), (batch, yb)),
        preferred_element_type=preferred_element_type and wide,
    )
    # What remains of y are its contracted axes in ascending order; each belongs to the x axis it was paired with.
    contracted = [xc[i] for i in np.argsort(yc)] if yc else []
    order = [*xb, *xf, *contracted]
    return convert_element_type(transpose(out, np.argsort(order).tolist()), x.dtype)


def _transpose(
    ct: Any,
    x: Any,
    y: Any,
    *,
    dimension_numbers: DotDimensionNumbers,
    preferred_element_type: np.dtype | None = None,
) -> list[Any]:
    check_bilinear("dot_general", x, y)
    if is_undefined(x):
        return [_operand_cotangent(ct, x.aval, y, dimension_numbers, preferred_element_type, False), None]
    swapped = tuple(pair[::-1] for pair in dimension_numbers)
    return [None, _operand_cotangent(ct, y.aval, x, swapped, preferred_element_type, True)]


def _batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    dimension_numbers: DotDimensionNumbers,
    **params: Any,
) -> tuple[Any, int]:
    (x, y), (x_dim, y_dim) = args, dims
    (xc, yc), (xb, yb) = dimension_numbers

    def shifted(axes: Axes, dim: int | None) -> Axes:
        return axes if dim is None else tuple(d + (d >= dim) for d in axes)

    xc, xb, yc, yb = shifted(xc, x_dim), shifted(xb, x_dim), shifted(yc, y_dim), shifted(yb, y_dim)
    x_free = _free(aval_of(x).ndim, xc, xb)
    if x_dim is not None and y_dim is not None:
        xb, yb, out_dim = (x_dim, *xb), (y_dim, *yb), 0
    elif x_dim is not None:
        out_dim = len(xb) + x_free.index(x_dim)
    else:
        out_dim = len(xb) + len(x_free) + _free(aval_of(y).ndim, yc, yb).index(y_dim)
    numbers = DotDimensionNumbers(((xc, yc), (xb, yb)))
    return dot_general_p.bind(x, y, dimension_numbers=numbers, **params), out_dim


dot_general_p = Primitive(
    "dot_general",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lowering=Contract(),
    params_style=ParamStyle(hidden=lambda name, value: value is None),
)


def dot_general(x: Any, y: Any, dimension_numbers: Any, preferred_element_type: np.dtype | None = None) -> Any:
    """Contract axes of `x` with axes of `y`: out[b, i, j] = Σₖ x[b, i, k] · y[b, k, j].

    b, i, j and k stand for several axes each. `dimension_numbers`: ((x contracted, y contracted), (x batch, y batch)).
    The result has the batch axes, then the remaining axes of `x`, then those of `y`, in dtype `preferred_element_type`
    (the operands' by default). 16-bit floats accumulate in float32; integers wrap around; bools give and/or.

    >>> dot_general(np.ones((2, 3), np.float32), np.ones((3,), np.float32), (((1,), (0,)), ((), ())))
    Array([3., 3.], dtype=float32)
    """
    params = {} if preferred_element_type is None else {"preferred_element_type": preferred_element_type}
    return dot_general_p.bind(x, y, dimension_numbers=DotDimensionNumbers.of(dimension_numbers), **params)
