"""Triangular systems, and tridiagonal ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import NotDifferentiableError, ShapeError
from funcgrad.ops.arithmetic import conj, mul_p, neg_p
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.linalg.matrices import Shape, check_square, conj_transpose, lapack, masked, matmul, matrix_primitive
from funcgrad.ops.shapes import broadcast_in_dim, instantiate, move_axis, reshape, to_dim
from funcgrad.ops.slicing import pad


def check_linear(name: str, matrices: Sequence[Any]) -> None:
    """Raise if a transpose rule is asked for the cotangents of matrices."""
    if any(map(is_undefined, matrices)):
        raise NotDifferentiableError(
            f"{name}: transposing a function that is not linear: the matrix depends on its arguments",
            fix="linear_transpose, and the matvec of custom_linear_solve, take linear functions",
        )


def batch_system(
    primitive: Callable[[], Primitive], axis: AxisData, args: Sequence[Any], dims: Sequence[Any], **params: Any
) -> tuple[Any, int]:
    """Batch a primitive whose last operand is right-hand sides, which a matrix without a batch solves for together."""
    if any(d is not None for d in dims[:-1]):
        return primitive().bind(*(to_dim(x, d, 0, axis.size) for x, d in zip(args, dims, strict=True)), **params), 0
    left, n = params.get("left_side", True), aval_of(args[-1]).ndim
    place = n - 1 if left else n - 3
    b = move_axis(args[-1], dims[-1], place)
    shape = aval_of(b).shape
    joined = (*shape[:-2], shape[-2] * shape[-1]) if left else (*shape[:-3], shape[-3] * shape[-2], shape[-1])
    return reshape(primitive().bind(*args[:-1], reshape(b, joined), **params), shape), place


# ---------------------------------------------------------------- triangular systems


def _results(a: Shape, b: Shape, *, dtype: np.dtype, left_side: bool, **_: bool) -> list[tuple[Shape, np.dtype]]:
    check_square("triangular_solve", ShapedArray(a, dtype))
    if b[0 if left_side else 1] != a[0]:
        raise ShapeError(
            f"triangular_solve: matrices of shape {a} and {'left' if left_side else 'right'}-hand sides of shape {b} "
            "do not fit",
            fix="give right-hand sides the matrices' size along the axis that is solved for",
        )
    return [(b, dtype)]


def _evaluate(
    a: np.ndarray,
    b: np.ndarray,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> np.ndarray:
    from scipy.linalg import blas  # heavy: only when such a system is solved

    if not b.size:
        return b
    trsm = getattr(blas, {"f4": "strsm", "f8": "dtrsm", "c8": "ctrsm", "c16": "ztrsm"}[b.dtype.str[1:]])
    matrix = a.conj() if conjugate_a else a
    # The transposed system, as columns of A, X and B are rows of theirs: what compiled programs do.
    x = trsm(1, matrix.T, b.T, side=left_side, lower=not lower, trans_a=transpose_a, diag=unit_diagonal)
    return x.T


def _op(*, transpose_a: bool, conjugate_a: bool, **params: bool) -> dict[str, Any]:
    op = "N" if not transpose_a else "C" if conjugate_a else "T"
    return params | {"op": op}


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: bool) -> tuple[Any, Any]:
    """From A X = B follows A dX = dB − dA X, and likewise from the right and for transposes of A."""
    (a, _), (da, db) = primals, tangents
    x = triangular_solve_p.bind(*primals, **params)
    right = db
    if type(da) is not Zero:
        n = aval_of(a).shape[-1]
        triangle = np.tri(n, k=-params["unit_diagonal"], dtype=bool)
        da = masked(triangle if params["lower"] else triangle.T, da)
        if params["transpose_a"]:
            da = conj_transpose(da)
        if params["conjugate_a"] != params["transpose_a"] and dtypes.is_complex(aval_of(da).dtype):
            da = conj(da)
        change = matmul(da, x) if params["left_side"] else matmul(x, da)
        right = add_tangents(right, neg_p.bind(change))
    if type(right) is Zero:
        return x, right
    return x, triangular_solve_p.bind(a, right, **params)


def _transpose(ct: Any, a: Any, b: Any, *, transpose_a: bool, conjugate_a: bool, **params: bool) -> list[Any]:
    check_linear("triangular_solve", [a])
    if type(ct) is Zero:
        return [None, None]
    return [None, triangular_solve(a, ct, transpose_a=not transpose_a, conjugate_a=conjugate_a, **params)]


triangular_solve_p = matrix_primitive(
    "triangular_solve",
    finite=False,
    results=_results,
    evaluate=_evaluate,
    ranks=(2, 2),
    jvp=_jvp,
    transpose=_transpose,
    batch=functools.partial(batch_system, lambda: triangular_solve_p),
    routine="trsm",
    options=_op,
    flops=lambda a, b: a[0] * b[0] * b[1],
    multiple_results=False,
)


def triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    """Return X with op(A) X = B, or X op(A) = B; see `lax.linalg.triangular_solve`."""
    conjugate_a = conjugate_a and dtypes.is_complex(aval_of(a).dtype)
    if conjugate_a and not transpose_a:  # BLAS has no such option
        a, conjugate_a = conj(a), False
    return triangular_solve_p.bind(
        a,
        b,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )


# ---------------------------------------------------------------- tridiagonal systems


def _tridiagonal_results(dl: Shape, d: Shape, du: Shape, b: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    if not dl == d == du == b[:1]:
        raise ShapeError(
            f"tridiagonal_solve: diagonals of shapes {dl}, {d}, {du} and right-hand sides of shape {b} do not fit",
            fix="give all of them one size; the first element of dl and the last of du are not used",
        )
    return [(b, dtype)]


def _tridiagonal_evaluate(dl: np.ndarray, d: np.ndarray, du: np.ndarray, b: np.ndarray) -> np.ndarray:
    if len(d) < 2:
        return b / d[:, None] if d.all() else np.full_like(b, np.nan)
    *_, x, info = lapack("gtsv", b.dtype)(dl[1:], d, du[:-1], b)
    return x if not info else np.full_like(b, np.nan)


def _shifted(x: Any, by: int, axis: int) -> Any:
    """out[i] = x[i − by] along an axis, and 0 where that is outside."""
    config = [(0, 0, 0)] * aval_of(x).ndim
    config[axis] = (by, -by, 0)
    return pad(x, np.zeros((), aval_of(x).dtype), config)


def _product(dl: Any, d: Any, du: Any, x: Any) -> Any:
    """The tridiagonal matrix times x."""
    aval = aval_of(x)

    def times(diagonal: Any, rows: Any) -> Any:
        return mul_p.bind(broadcast_in_dim(diagonal, aval.shape, range(aval.ndim - 1)), rows)

    axis = aval.ndim - 2
    return times(dl, _shifted(x, 1, axis)) + times(d, x) + times(du, _shifted(x, -1, axis))


def _tridiagonal_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """From A X = B follows A dX = dB − dA X."""
    x = tridiagonal_solve_p.bind(*primals)
    right = tangents[3]
    if any(type(t) is not Zero for t in tangents[:3]):
        right = add_tangents(right, neg_p.bind(_product(*map(instantiate, tangents[:3]), x)))
    if type(right) is Zero:
        return x, right
    return x, tridiagonal_solve_p.bind(*primals[:3], right)


def _tridiagonal_transpose(ct: Any, dl: Any, d: Any, du: Any, b: Any) -> list[Any]:
    check_linear("tridiagonal_solve", [dl, d, du])
    if type(ct) is Zero:
        return [None] * 4
    axis = aval_of(d).ndim - 1
    return [None, None, None, tridiagonal_solve_p.bind(_shifted(du, 1, axis), d, _shifted(dl, -1, axis), ct)]


tridiagonal_solve_p = matrix_primitive(
    "tridiagonal_solve",
    finite=False,
    results=_tridiagonal_results,
    evaluate=_tridiagonal_evaluate,
    ranks=(1, 1, 1, 2),
    jvp=_tridiagonal_jvp,
    transpose=_tridiagonal_transpose,
    batch=functools.partial(batch_system, lambda: tridiagonal_solve_p),
    routine="gtsv",
    flops=lambda dl, d, du, b: 5 * b[0] * b[1],
    multiple_results=False,
)
