"""The singular value decomposition, A = U diag(s) Vᴴ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import NotDifferentiableError
from funcgrad.ops.arithmetic import div_p, mul_p
from funcgrad.ops.linalg.eigh import real_part
from funcgrad.ops.linalg.matrices import (
    Shape,
    as_columns,
    as_dtype,
    as_rows,
    conj_transpose,
    constant,
    diagonal,
    matmul,
    matrix_primitive,
    scaled,
)
from funcgrad.ops.logic import eq_p
from funcgrad.ops.shapes import full


def _results(a: Shape, *, dtype: np.dtype, full_matrices: bool, compute_uv: bool) -> list[tuple[Shape, np.dtype]]:
    (m, n), k = a, min(a)
    values = [((k,), dtypes.real_dtype(dtype))]
    if not compute_uv:
        return values
    return [*values, ((m, m if full_matrices else k), dtype), ((n if full_matrices else k, n), dtype)]


def _evaluate(a: np.ndarray, *, full_matrices: bool, compute_uv: bool) -> list[np.ndarray]:
    if not compute_uv:
        return [np.linalg.svd(a, compute_uv=False)]
    u, s, vh = np.linalg.svd(a, full_matrices=full_matrices)
    return [s, u, vh]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, full_matrices: bool, compute_uv: bool
) -> tuple[list[Any], list[Any]]:
    """With dP = Uᴴ dA V: ds = Re diag(dP), dU = U (F ∘ (dP S + S dPᴴ) + D) + (1 − U Uᴴ) dA V S⁻¹ and
    dV = V (F ∘ (S dP + dPᴴ S)) + (1 − V Vᴴ) dAᴴ U S⁻¹, where F[i, j] = 1 / (s[j]² − s[i]²) off the diagonal.

    D = ½ diag(dP − dPᴴ) S⁻¹ is the phase of complex matrices, which is given to U alone. Giles (2008, NA-08-01),
    section 3.1; Wan and Zhang, Automatic differentiation for complex valued SVD (arXiv:1909.02659). Where singular
    values are equal, F is infinite.
    """
    (a,), (da,) = primals, tangents
    m, n = aval_of(a).shape[-2:]
    if compute_uv and full_matrices and m != n:
        raise NotDifferentiableError(
            f"svd: the full factors of {aval_of(a)}, which is not square, have no unique derivative",
            fix="use full_matrices=False",
        )
    s, u, vh = svd_p.bind(a, full_matrices=False, compute_uv=True)
    v, dtype = conj_transpose(vh), aval_of(a).dtype
    inner = matmul(matmul(conj_transpose(u), da), v)
    ds = diagonal(real_part(inner))
    if not compute_uv:
        return [s], [ds]
    rows, columns = (spread(as_dtype(s, dtype), inner) for spread in (as_rows, as_columns))
    eye = constant(np.eye(min(m, n)), inner)
    factors = _inverse((rows + columns) * (rows - columns) + eye) - eye
    right, left = mul_p.bind(rows, inner), mul_p.bind(columns, inner)
    zero = as_dtype(eq_p.bind(s, full(aval_of(s).shape, 0, aval_of(s).dtype)), aval_of(s).dtype)
    inverse = as_dtype(_inverse(s + zero) - zero, dtype)
    phase = scaled(inner - conj_transpose(inner), 0.5) * eye * as_rows(inverse, eye)
    du = matmul(u, factors * (right + conj_transpose(right)) + phase)
    dv = matmul(v, factors * (left + conj_transpose(left)))
    if m > n:
        du = du + _outside(u, matmul(da, v), s)
    if n > m:
        dv = dv + _outside(v, matmul(conj_transpose(da), u), s)
    return [s, u, vh], [ds, du, conj_transpose(dv)]


def _inverse(x: Any) -> Any:
    return div_p.bind(full(aval_of(x).shape, 1, aval_of(x).dtype), x)


def _outside(q: Any, x: Any, s: Any) -> Any:
    """(1 − Q Qᴴ) X S⁻¹."""
    rest = x - matmul(q, matmul(conj_transpose(q), x))
    return div_p.bind(rest, as_rows(as_dtype(s, aval_of(x).dtype), x))


svd_p = matrix_primitive(
    "svd",
    results=_results,
    evaluate=_evaluate,
    jvp=_jvp,
    routine="gesdd",
    options=lambda **_: {},
    flops=lambda a: 14 * a[0] * a[1] * min(a),
)
