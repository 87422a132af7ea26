"""Calls of linear algebra: well-conditioned matrices, in batches; and of Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.fft import FftType
from funcgrad.ops.linalg.lu import lu_p, solve_p
from funcgrad.testing.calls.table import CALLS, DOUBLE, INEXACT, SMALL, Call, Draw, strategy, wide_floats
from funcgrad.testing.strategies import fill, seeds


def _sizes(draw: Draw) -> tuple[list[int], int]:
    return draw(st.lists(st.integers(0, 2), max_size=2)), draw(st.integers(0, 4))


@strategy("cholesky")
def _cholesky(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, n = _sizes(draw)
    root = fill(draw(seeds), draw(wide_floats(within, INEXACT)), (*batch, n, n), SMALL)
    positive = root @ np.swapaxes(root.conj(), -1, -2) + np.eye(n)
    return [positive.astype(root.dtype)], {}


@strategy("triangular_solve")
def _triangular_solve(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, n = _sizes(draw)
    dtype, m, left_side = draw(wide_floats(within, INEXACT)), draw(st.integers(0, 3)), draw(st.booleans())
    matrices = 0.3 * fill(draw(seeds), dtype, (*batch, n, n), SMALL) + 2 * np.eye(n)
    sides = fill(draw(seeds), dtype, (*batch, n, m) if left_side else (*batch, m, n), SMALL)
    options = ("lower", "transpose_a", "conjugate_a", "unit_diagonal")
    return [matrices.astype(dtype), sides], {"left_side": left_side} | {k: draw(st.booleans()) for k in options}


def _matrices(
    draw: Draw, within: Sequence[np.dtype], shape: Sequence[int], dtype: np.dtype | None = None
) -> np.ndarray:
    """Matrices whose singular values and eigenvalues are well apart, and whose pivots are clear: near diag(1, 2, …)."""
    dtype = draw(wide_floats(within, INEXACT)) if dtype is None else dtype
    x = 0.15 * fill(draw(seeds), dtype, shape, SMALL)
    order = 1.0 + np.arange(min(shape[-2:]))
    x[..., np.arange(len(order)), np.arange(len(order))] += order
    return x.astype(dtype)


def _vector_dtype(draw: Draw, within: Sequence[np.dtype]) -> np.dtype:
    """A dtype for eigenvectors. Where they are complex, LAPACK chooses a phase, and derivatives are for another one."""
    return draw(wide_floats(within, ("float",) if tuple(within) == DOUBLE else INEXACT))


def _square(draw: Draw, within: Sequence[np.dtype], least: int = 0, dtype: np.dtype | None = None) -> np.ndarray:
    batch, n = _sizes(draw)
    return _matrices(draw, within, (*batch, max(n, least), max(n, least)), dtype)


def _rectangular(draw: Draw, within: Sequence[np.dtype], tall: bool = False, dtype: Any = None) -> np.ndarray:
    batch, n = _sizes(draw)
    m = draw(st.integers(n if tall else 0, 4))
    return _matrices(draw, within, (*batch, m, n), dtype)


def _hermitian(draw: Draw, within: Sequence[np.dtype]) -> np.ndarray:
    x = _square(draw, within, 1, _vector_dtype(draw, within))
    return ((x + np.swapaxes(x.conj(), -1, -2)) / 2).astype(x.dtype)


@strategy("cholesky_update")
def _cholesky_update(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, n = _sizes(draw)
    r = _matrices(draw, within, (*batch, n, n), draw(wide_floats(within)))
    return [np.triu(r), fill(draw(seeds), r.dtype, (*batch, n), SMALL)], {}


@strategy("lu")
def _lu(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_rectangular(draw, within)[..., ::-1, :]], {}


@strategy("lu_pivots_to_permutation")
def _pivots(draw: Draw, within: Sequence[np.dtype]) -> Any:
    n, batch = draw(st.integers(0, 4)), draw(st.lists(st.integers(0, 2), max_size=1))
    size = draw(st.integers(max(n, 1), 5))
    return [fill(draw(seeds), dt.int32, (*batch, n)) % size], {"permutation_size": size}


@strategy("geqrf")
def _geqrf(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_rectangular(draw, within)], {}


@strategy("householder_product")
def _householder_product(draw: Draw, within: Sequence[np.dtype]) -> Any:
    a = _rectangular(draw, within, tall=True)
    k = draw(st.integers(0, a.shape[-1]))
    return [a, fill(draw(seeds), a.dtype, (*a.shape[:-2], k), SMALL)], {}


@strategy("ormqr")
def _ormqr(draw: Draw, within: Sequence[np.dtype]) -> Any:
    a, left, n = _rectangular(draw, within, tall=True), draw(st.booleans()), draw(st.integers(0, 3))
    *batch, m, k = a.shape
    c = fill(draw(seeds), a.dtype, (*batch, m, n) if left else (*batch, n, m), SMALL)
    taus = fill(draw(seeds), a.dtype, (*batch, k), SMALL)
    return [a, taus, c], {"left": left, "transpose": draw(st.booleans())}


@strategy("qr")
def _qr(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_rectangular(draw, within)], {"pivoting": draw(st.booleans()), "full_matrices": draw(st.booleans())}


@strategy("eigh")
def _eigh(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_hermitian(draw, within)], {"lower": draw(st.booleans())}


@strategy("tridiagonal")
def _tridiagonal(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_hermitian(draw, within)], {"lower": draw(st.booleans())}


@strategy("svd")
def _svd(draw: Draw, within: Sequence[np.dtype]) -> Any:
    a = _rectangular(draw, within, dtype=_vector_dtype(draw, within))
    compute_uv = draw(st.booleans())
    full_matrices = compute_uv and a.shape[-1] == a.shape[-2]
    return [a], {"full_matrices": full_matrices, "compute_uv": compute_uv}


@strategy("eig")
def _eig(draw: Draw, within: Sequence[np.dtype]) -> Any:
    options = ("compute_left_eigenvectors", "compute_right_eigenvectors")
    return [_square(draw, within)], {k: draw(st.booleans()) for k in options} | {"enable_eigvec_derivs": True}


@strategy("schur")
def _schur(draw: Draw, within: Sequence[np.dtype]) -> Any:
    # The phases of complex vectors depend on rounding errors.
    return [_square(draw, within, dtype=draw(wide_floats(within)))], {"compute_schur_vectors": draw(st.booleans())}


@strategy("hessenberg")
def _hessenberg(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_square(draw, within)], {}


@strategy("tridiagonal_solve")
def _tridiagonal_solve(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, n = _sizes(draw)
    dtype, m = draw(wide_floats(within, INEXACT)), draw(st.integers(0, 3))
    outer = [0.3 * fill(draw(seeds), dtype, (*batch, n), SMALL) for _ in range(3)]
    diagonals = [(x + (2 if i == 1 else 0)).astype(dtype) for i, x in enumerate(outer)]
    return [*diagonals, fill(draw(seeds), dtype, (*batch, n, m), SMALL)], {}


class _Solve(Primitive):
    """Solving by the factorization of the same matrix, as a function of the matrix and the right-hand sides."""

    def __init__(self) -> None:
        evaluate = solve_p.evaluate
        super().__init__("solve", infer=self._type, evaluate=evaluate, higher_order=True, register=False)

    def bind(self, *args: Any, transpose_a: bool) -> Any:
        """Factorize the matrix and solve."""
        a, b = args
        lu, _, permutation = lu_p.bind(stop_gradient_p.bind(a))
        return solve_p.bind(a, lu, permutation, b, transpose_a=transpose_a)

    def _type(self, *avals: ShapedArray, **params: Any) -> ShapedArray:
        return trace_to_jaxpr(lambda *args: [self.bind(*args, **params)], avals).out_avals[0]


@st.composite
def _solve(draw: Draw, within: Sequence[np.dtype]) -> Call:
    a = _square(draw, within)
    b = fill(draw(seeds), a.dtype, (*a.shape[:-1], draw(st.integers(0, 3))), SMALL)
    return Call(_Solve(), (a, b), {"transpose_a": draw(st.booleans())})


CALLS["solve"] = _solve


@strategy("fft")
def _fft(draw: Draw, within: Sequence[np.dtype]) -> Any:
    kind, batch = draw(st.sampled_from(FftType)), draw(st.lists(st.integers(0, 2), max_size=1))
    lengths = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
    dtype = draw(wide_floats(within, ("float",) if kind is FftType.RFFT else ("complex",)))
    sizes = (*lengths[:-1], lengths[-1] // 2 + 1) if kind is FftType.IRFFT else lengths
    return [fill(draw(seeds), dtype, (*batch, *sizes))], {"fft_type": kind, "fft_lengths": lengths}
