"""Eigenvalues and eigenvectors of general matrices, A V = V diag(w); Schur and Hessenberg forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.symbolic import Zero
from funcgrad.errors import NotDifferentiableError
from funcgrad.ops.arithmetic import abs_p, complex_p, conj, div_p, imag_p, mul_p, neg_p, real_p
from funcgrad.ops.linalg.lu import lu_p, lu_solve
from funcgrad.ops.linalg.matrices import (
    Shape,
    as_dtype,
    as_rows,
    check_square,
    conj_transpose,
    diagonal,
    inverse_differences,
    lapack,
    matmul,
    matrix_primitive,
)
from funcgrad.ops.logic import eq_p, gt_p, lt_p
from funcgrad.ops.reductions import argmax
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import full, reduce_sum
from funcgrad.ops.slicing import iota, pad


def _complex(dtype: np.dtype) -> np.dtype:
    return np.result_type(dtype, np.complex64)


# ---------------------------------------------------------------- eigenvalues


def _results(
    a: Shape,
    *,
    dtype: np.dtype,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
) -> list[tuple[Shape, np.dtype]]:
    check_square("eig", ShapedArray(a, dtype))
    vectors = compute_left_eigenvectors + compute_right_eigenvectors
    return [(a[:1], _complex(dtype)), *[(a, _complex(dtype))] * vectors]


def _evaluate(
    a: np.ndarray, *, compute_left_eigenvectors: bool, compute_right_eigenvectors: bool, enable_eigvec_derivs: bool
) -> list[np.ndarray]:
    from scipy import linalg  # heavy: only when eigenvalues are computed

    left, right = compute_left_eigenvectors, compute_right_eigenvectors
    if not a.size:
        return [a[:1].reshape(0), *[a] * (left + right)]
    out = linalg.eig(a, left=left, right=right, check_finite=False)
    return list(out) if left or right else [out]


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
) -> tuple[list[Any], list[Any]]:
    """dw = diag(V⁻¹ dA V); dV = V (F ∘ V⁻¹ dA V) + V diag(c), where F[i, j] = 1 / (w[j] − w[i]) off the diagonal.

    Giles (2008, NA-08-01), section 3.1. c keeps LAPACK's normalization: eigenvectors have length 1, and their largest
    component is real.
    """
    left, right = compute_left_eigenvectors, compute_right_eigenvectors
    if (left or right) and not enable_eigvec_derivs:
        raise NotDifferentiableError(
            "eig: the derivatives of eigenvectors exist for distinct eigenvalues and with one largest component only",
            fix="differentiate eigenvalues alone, or pass enable_eigvec_derivs=True to lax.linalg.eig",
        )
    if not aval_of(primals[0]).size:
        out = eig(primals[0], left, right, enable_eigvec_derivs)
        return out, [Zero(aval_of(x).tangent()) for x in out]
    w, *vectors = eig(primals[0], left, True, enable_eigvec_derivs)
    v = vectors[-1]
    da = as_dtype(tangents[0], aval_of(v).dtype)
    dw, dv = _vector_tangent(w, v, da)
    out, out_tangents = [w], [dw]
    if left:
        out.append(vectors[0])
        out_tangents.append(_vector_tangent(conj(w), vectors[0], conj_transpose(da))[1])
    if right:
        out.append(v)
        out_tangents.append(dv)
    return out, out_tangents


def _vector_tangent(w: Any, v: Any, da: Any) -> tuple[Any, Any]:
    lu, _, permutation = lu_p.bind(v)
    inner = matmul(lu_solve(lu, permutation, da), v)
    u = matmul(v, inverse_differences(w, v) * inner)
    rows = aval_of(v).ndim - 2
    largest = as_rows(argmax(abs_p.bind(v), rows), v)
    mask = as_dtype(eq_p.bind(largest, iota(dtypes.int32, aval_of(v).shape, rows)), aval_of(v).dtype)
    length = neg_p.bind(real_p.bind(reduce_sum(conj(v) * u, (rows,))))
    turn, component = (reduce_sum(mul_p.bind(mask, x), (rows,)) for x in (u, v))
    phase = neg_p.bind(div_p.bind(imag_p.bind(turn), real_p.bind(component)))
    return diagonal(inner), u + v * as_rows(complex_p.bind(length, phase), v)


def _expand(
    a: Any, *, compute_left_eigenvectors: bool, compute_right_eigenvectors: bool, enable_eigvec_derivs: bool
) -> list[Any]:
    """LAPACK returns the eigenvalues of real matrices as real and imaginary parts, and a vector and its conjugate as
    two real vectors, those parts."""
    out = geev_p.bind(a, left=compute_left_eigenvectors, right=compute_right_eigenvectors)
    if dtypes.is_complex(aval_of(a).dtype):
        return out
    real, imag, *vectors = out
    return [complex_p.bind(real, imag), *(_unpacked(imag, v) for v in vectors)]


def _unpacked(imag: Any, v: Any) -> Any:
    aval = aval_of(v)
    zeros, last = full(aval.shape, 0, aval.dtype), aval.ndim - 1
    first, second = (compare.bind(as_rows(imag, v), zeros) for compare in (gt_p, lt_p))

    def neighbors(by: int) -> Any:
        return pad(v, np.zeros((), aval.dtype), [(0, 0, 0)] * last + [(by, -by, 0)])

    parts = select_n_p.bind(second, v, neighbors(1)), select_n_p.bind(second, zeros, neg_p.bind(v))
    return complex_p.bind(parts[0], select_n_p.bind(first, parts[1], neighbors(-1)))


eig_p = matrix_primitive(
    "eig",
    results=_results,
    evaluate=_evaluate,
    jvp=_jvp,
    lowering=Rewrite(_expand, lambda a, **_: a.size > 0),
)


def eig(a: Any, left: bool, right: bool, derivatives: bool = False) -> list[Any]:
    """Return the eigenvalues, and the left and right eigenvectors that are asked for; see `lax.linalg.eig`."""
    return eig_p.bind(
        a, compute_left_eigenvectors=left, compute_right_eigenvectors=right, enable_eigvec_derivs=derivatives
    )


def _geev_results(a: Shape, *, dtype: np.dtype, left: bool, right: bool) -> list[tuple[Shape, np.dtype]]:
    return [(a[:1], dtype)] * (1 if dtypes.is_complex(dtype) else 2) + [(a, dtype)] * (left + right)


def _geev(a: np.ndarray, *, left: bool, right: bool) -> list[np.ndarray]:
    *values, vl, vr, info = lapack("geev", a.dtype)(a, compute_vl=left, compute_vr=right)
    if info:
        raise np.linalg.LinAlgError
    return [*values, *([vl] if left else []), *([vr] if right else [])]


geev_p = matrix_primitive(
    "geev", results=_geev_results, evaluate=_geev, routine="geev", flops=lambda a: 25 * a[0] ** 3, modes=()
)

# ---------------------------------------------------------------- Schur and Hessenberg forms


def _schur_results(a: Shape, *, dtype: np.dtype, compute_schur_vectors: bool) -> list[tuple[Shape, np.dtype]]:
    check_square("schur", ShapedArray(a, dtype))
    return [(a, dtype)] * (1 + compute_schur_vectors)


def _schur(a: np.ndarray, *, compute_schur_vectors: bool) -> list[np.ndarray]:
    if not a.size:
        return [a] * (1 + compute_schur_vectors)
    form, *_, vectors, _, info = lapack("gees", a.dtype)(lambda *_: None, a, compute_v=compute_schur_vectors)
    if info:
        raise np.linalg.LinAlgError
    return [form, vectors][: 1 + compute_schur_vectors]


schur_p = matrix_primitive(
    "schur",
    results=_schur_results,
    evaluate=_schur,
    routine="gees",
    options=lambda **_: {},
    flops=lambda a: 25 * a[0] ** 3,
    modes=(),
)


def _hessenberg_results(a: Shape, *, dtype: np.dtype) -> list[tuple[Shape, np.dtype]]:
    check_square("hessenberg", ShapedArray(a, dtype))
    return [(a, dtype), ((max(0, a[0] - 1),), dtype)]


def _hessenberg(a: np.ndarray) -> list[np.ndarray]:
    if len(a) < 2:
        return [a, np.zeros(0, a.dtype)]
    out, taus, _ = lapack("gehrd", a.dtype)(a)
    return [out, taus]


hessenberg_p = matrix_primitive(
    "hessenberg",
    results=_hessenberg_results,
    evaluate=_hessenberg,
    routine="gehrd",
    flops=lambda a: 10 * a[0] ** 3 / 3,
    modes=(),
)
