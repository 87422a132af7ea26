"""What the factorizations share: the family of their primitives, and products, triangles and diagonals of matrices."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import LibraryRoutine, Lowering
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.errors import DTypeError, ShapeError
from funcgrad.ops.arithmetic import add_p, conj, div_p, mul_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.gather_scatter import gather
from funcgrad.ops.indexing import GatherDimensionNumbers
from funcgrad.ops.products import dot_general
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, full, reduce_sum, to_dim, transpose
from funcgrad.ops.slicing import slice_

DTYPES = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)
Shape = tuple[int, ...]


# ---------------------------------------------------------------- checks


def check_dtype(name: str, x: ShapedArray) -> None:
    """Raise unless LAPACK supports the dtype."""
    if x.dtype not in DTYPES:
        raise DTypeError(
            f"{name}: operand has type {x}; {name} takes {', '.join(d.name for d in DTYPES)}",
            fix="cast it with .astype(...)",
        )


def check_square(name: str, x: ShapedArray) -> None:
    """Raise unless `x` is a batch of square matrices with a dtype that LAPACK supports."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: {x} is no batch of square matrices", fix="its last two axes must have one size")
    check_dtype(name, x)


def check_batch(name: str, avals: Sequence[ShapedArray], ranks: Sequence[int]) -> Shape:
    """Return the leading axes of operands; raise unless they are equal, and there are `ranks` others."""
    batches = {aval.shape[: aval.ndim - rank] for aval, rank in zip(avals, ranks, strict=True)}
    if len(batches) > 1 or any(aval.ndim < rank for aval, rank in zip(avals, ranks, strict=True)):
        shown = ", ".join(map(str, avals))
        kinds = ", ".join({1: "vectors", 2: "matrices"}[rank] for rank in ranks)
        raise ShapeError(f"{name}: operands {shown} are no batches of {kinds}", fix="give them equal leading axes")
    return batches.pop()


# ---------------------------------------------------------------- the family


def matrix_primitive(
    name: str,
    *,
    results: Callable[..., Sequence[tuple[Shape, np.dtype]]],
    evaluate: Callable[..., Any],
    ranks: Sequence[int] = (2,),
    indices: Sequence[int] = (),
    finite: bool = True,
    routine: str | None = None,
    options: Callable[..., dict[str, Any]] = lambda **params: params,
    flops: Callable[..., float] = lambda *shapes: 0,
    lowering: Lowering | None = None,
    multiple_results: bool = True,
    **rules: Any,
) -> Primitive:
    """Declare a primitive on batches of matrices and vectors with equal leading axes.

    - `results(*shapes, dtype, **params)` returns the shape and dtype of each result, without the batch, or raises.
    - `evaluate` computes the results for one matrix. It raises LinAlgError where there is none; they are NaN then.
    - `ranks` are the numbers of axes of the operands, without the batch.
    - Operands in `indices` are integers.
    - If operands have to be `finite`, the results for others are NaN; LAPACK might not return.
    - `routine` names a library routine, which gets `options(**params)`. `flops(*shapes)` counts for one matrix.
    """

    def infer(*avals: ShapedArray, **params: Any) -> Any:
        for i, aval in enumerate(avals):
            if i not in indices:
                check_dtype(name, aval)
        if len({aval.dtype for i, aval in enumerate(avals) if i not in indices}) > 1:
            shown = ", ".join(map(str, avals))
            raise DTypeError(f"{name}: operands have types {shown}", fix="cast them to one dtype with .astype(...)")
        batch = check_batch(name, avals, ranks)
        core = results(*(a.shape[len(batch) :] for a in avals), dtype=avals[0].dtype, **params)
        out = [ShapedArray((*batch, *shape), dtype) for shape, dtype in core]
        return out if multiple_results else out[0]

    def batched(axis: AxisData, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> Any:
        out = primitive.bind(*(to_dim(a, d, 0, axis.size) for a, d in zip(args, dims, strict=True)), **params)
        return (out, [0] * len(out)) if multiple_results else (out, 0)

    def arguments(in_avals: Sequence[ShapedArray], out_avals: Sequence[ShapedArray], **params: Any) -> dict[str, Any]:
        n = in_avals[0].ndim - ranks[0]
        operands = tuple((aval.shape[n:], aval.dtype) for aval in (*out_avals, *in_avals))
        return {
            "dtype": in_avals[0].dtype,
            "batch": math.prod(in_avals[0].shape[:n]),
            "operands": operands,
            "n_results": len(out_avals),
        } | options(**params)

    def count(in_avals: Sequence[ShapedArray], out_avals: Sequence[ShapedArray], **params: Any) -> int:
        n = in_avals[0].ndim - ranks[0]
        return int(math.prod(in_avals[0].shape[:n]) * flops(*(a.shape[n:] for a in in_avals)))

    def by_numpy(*arrays: np.ndarray, **params: Any) -> Any:
        avals = infer(*(ShapedArray(x.shape, x.dtype) for x in arrays), **params)
        out = [np.empty(a.shape, a.dtype) for a in (avals if multiple_results else [avals])]
        for i in np.ndindex(arrays[0].shape[: arrays[0].ndim - ranks[0]]):
            values = [np.nan if dtypes.is_inexact(x.dtype) else 0 for x in out]
            if not finite or all(np.isfinite(x[i]).all() for x in arrays):
                with contextlib.suppress(np.linalg.LinAlgError):
                    values = evaluate(*(x[i] for x in arrays), **params)
            for to, value in zip(out, values if isinstance(values, (list, tuple)) else [values], strict=True):
                to[i] = value
        return out if multiple_results else out[0]

    primitive = Primitive(
        name,
        infer=infer,
        evaluate=by_numpy,
        batch=rules.pop("batch", batched),
        lowering=LibraryRoutine(routine, arguments, flops=count) if routine else lowering,
        multiple_results=multiple_results,
        **rules,
    )
    return primitive


def lapack(name: str, dtype: np.dtype) -> Callable[..., Any]:
    """Return SciPy's wrapper of a routine of LAPACK; of real names, that of complex matrices where they differ."""
    from scipy.linalg import get_lapack_funcs  # heavy: only when such a routine is called

    hermitian = {"orgqr": "ungqr", "ormqr": "unmqr", "sytrd": "hetrd", "sytrd_lwork": "hetrd_lwork"}
    return get_lapack_funcs(hermitian.get(name, name) if dtypes.is_complex(dtype) else name, dtype=dtype)


# ---------------------------------------------------------------- matrices


def matmul(x: Any, y: Any) -> Any:
    """x @ y for batches of matrices with equal leading axes."""
    batch = tuple(range(aval_of(x).ndim - 2))
    return dot_general(x, y, (((len(batch) + 1,), (len(batch),)), (batch, batch)))


def matrix_transpose(x: Any) -> Any:
    """xᵀ for a batch of matrices."""
    n = aval_of(x).ndim
    return transpose(x, (*range(n - 2), n - 1, n - 2))


def conj_transpose(x: Any) -> Any:
    """xᴴ for a batch of matrices."""
    moved = matrix_transpose(x)
    return conj(moved) if dtypes.is_complex(aval_of(x).dtype) else moved


def symmetrized(x: Any) -> Any:
    """(x + xᴴ) / 2 for a batch of square matrices."""
    return scaled(add_p.bind(x, conj_transpose(x)), 0.5)


def scaled(x: Any, factor: float) -> Any:
    """x times a number."""
    return mul_p.bind(x, full((), factor, aval_of(x).dtype))


def as_dtype(x: Any, dtype: np.dtype) -> Any:
    """x converted to another dtype."""
    return convert_element_type(x, dtype)


def weighted(x: Any, weights: np.ndarray) -> Any:
    """The elementwise product of a batch of matrices with one matrix of weights."""
    return mul_p.bind(x, constant(weights, x))


def constant(matrix: np.ndarray, like: Any) -> Any:
    """A matrix of numbers, repeated for the batch of `like`, with its dtype."""
    aval = aval_of(like)
    shape = (*aval.shape[:-2], *matrix.shape)
    return broadcast_in_dim(matrix.astype(aval.dtype), shape, (len(shape) - 2, len(shape) - 1))


def masked(mask: np.ndarray, x: Any) -> Any:
    """x where the mask of its last two axes is true, 0 elsewhere, even of infinities."""
    aval = aval_of(x)
    where = broadcast_in_dim(mask, aval.shape, (aval.ndim - 2, aval.ndim - 1))
    return select_n_p.bind(where, full(aval.shape, 0, aval.dtype), x)


def lower_triangle(x: Any, k: int = 0) -> Any:
    """The elements on and below diagonal k, 0 above."""
    return masked(np.tri(*aval_of(x).shape[-2:], k=k, dtype=bool), x)


def upper_triangle(x: Any, k: int = 0) -> Any:
    """The elements on and above diagonal k, 0 below."""
    return masked(~np.tri(*aval_of(x).shape[-2:], k=k - 1, dtype=bool), x)


def diagonal(x: Any) -> Any:
    """The diagonals of a batch of square matrices."""
    aval = aval_of(x)
    return reduce_sum(masked(np.eye(aval.shape[-1], dtype=bool), x), (aval.ndim - 2,))


def as_rows(x: Any, like: Any) -> Any:
    """A batch of vectors as the rows of matrices of the shape of `like`: out[i, j] = x[j]."""
    return broadcast_in_dim(expand_dims(x, (aval_of(x).ndim - 1,)), aval_of(like).shape, range(aval_of(like).ndim))


def as_columns(x: Any, like: Any) -> Any:
    """A batch of vectors as the columns of matrices of the shape of `like`: out[i, j] = x[i]."""
    return broadcast_in_dim(expand_dims(x, (aval_of(x).ndim,)), aval_of(like).shape, range(aval_of(like).ndim))


def inverse_differences(w: Any, like: Any) -> Any:
    """1 / (w[j] − w[i]) off the diagonal, 0 on it; infinite where w is degenerate."""
    n = aval_of(w).shape[-1]
    eye = constant(np.eye(n), like)
    differences = add_p.bind(eye, as_rows(w, like) - as_columns(w, like))
    return div_p.bind(full(aval_of(like).shape, 1, aval_of(like).dtype), differences) - eye


def sliced(x: Any, axis: int, start: int, stop: int) -> Any:
    """Elements from `start` to `stop` along an axis, which is negative."""
    shape = aval_of(x).shape
    starts, stops = [0] * len(shape), list(shape)
    starts[axis], stops[axis] = start, stop
    return slice_(x, starts, stops)


def permuted_rows(x: Any, permutation: Any) -> Any:
    """out[i] = x[permutation[i]] for each matrix of a batch."""
    aval, n = aval_of(x), aval_of(x).ndim - 2
    if not aval.size:  # a gather has windows of size 1, which an empty axis has not
        return x
    numbers = GatherDimensionNumbers((n + 1,), (n,), (n,), tuple(range(n)), tuple(range(n)))
    sizes = (*(1 for _ in range(n)), 1, aval.shape[-1])
    return gather(x, expand_dims(permutation, (n + 1,)), numbers, sizes, mode="promise_in_bounds")
