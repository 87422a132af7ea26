"""The routines of linear algebra, each as the calls for one matrix. Operands are results, then arguments, by rows.

LAPACK stores matrices by columns. Where only one triangle or one side matters, a matrix by rows is taken for its
transpose; otherwise it is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

import numpy as np

from funcgrad.compiler.targets.llvm.lapack import INTEGER_WORK, REAL_WORK, WORK, Batch, Matrix, Memory

_INTEGER = np.dtype(np.int32)
_SMALL = 16  # sizes of real matrices up to which loops in lapack_small.ll are faster than OpenBLAS
ROUTINES: dict[str, Callable[..., None]] = {}


def _routine(record: FunctionType) -> Callable[..., None]:
    ROUTINES[record.__name__] = record
    return record


def _is_small(t: Batch, a: Matrix) -> bool:
    return not t.complex and a.shape[0] == a.shape[1] <= _SMALL


def _upper(t: Batch, r: Matrix) -> None:
    """Zeros below the diagonal."""
    (m, n), size = r.shape, t.dtype.itemsize
    t.helper("triangle", m, n * size, 0, 0, 0, size, r, always=True)


@_routine
def potrf(t: Batch, factor: Matrix, a: Matrix) -> None:
    n, size = a.shape[0], t.dtype.itemsize
    t.helper("copy", n * n * size, a, factor)
    t.lapack("potrf", "U", n, factor, n)
    # What is infinite or NaN in A shows on the diagonal.
    t.helper("finite", n, (n + 1) * (1 + t.complex), factor, t.info)
    t.helper("triangle", n, n * size, size, size, n * size, 0, factor, always=True)


@_routine
def trsm(t: Batch, x: Matrix, a: Matrix, b: Matrix, left_side: bool, lower: bool, op: str, unit_diagonal: bool) -> None:
    m, n = b.shape
    t.helper("copy", m * n * t.dtype.itemsize, b, x)
    options = "R" if left_side else "L", "U" if lower else "L", op, "U" if unit_diagonal else "N"
    t.blas("trsm", *options, n, m, t.one(), a, a.shape[0], x, n)


@_routine
def getrf(t: Batch, lu: Matrix, pivots: Matrix, permutation: Matrix, a: Matrix) -> None:
    m, n = a.shape
    if _is_small(t, a):
        t.check_finite(a)
        t.helper("copy", m * n * t.dtype.itemsize, a, lu)
        t.helper("small_getrf", n, lu, pivots)
    else:
        columns = t.columns(a)
        t.lapack("getrf", m, n, columns, m, pivots, may_fail=False)
        t.rows(columns, m, lu)
    t.helper("permutation", m, min(m, n), pivots, permutation)


@_routine
def getrs(t: Batch, x: Matrix, a: Matrix, lu: Matrix, permutation: Matrix, b: Matrix, transpose_a: bool) -> None:
    (n, m), size, op = b.shape, t.dtype.itemsize, "T" if transpose_a else "N"
    factors = [("L", "N"), ("U", "U")] if transpose_a else [("U", "U"), ("L", "N")]
    y = t.scratch(n * m) if transpose_a else x
    if transpose_a:
        t.helper("copy", n * m * size, b, y)
    else:
        t.helper("gather", n, m * size, permutation, b, y)
    if _is_small(t, a) and not transpose_a:
        t.helper("small_getrs", n, m, lu, y)
        return
    for triangle, diagonal in factors:
        t.blas("trsm", "R", triangle, op, diagonal, m, n, t.one(), lu, n, y, m)
    if transpose_a:
        t.helper("scatter", n, m * size, permutation, y, x)


@_routine
def geqrf(t: Batch, out: Matrix, taus: Matrix, a: Matrix) -> None:
    m, n = a.shape
    columns = t.columns(a)
    t.lapack("geqrf", m, n, columns, m, taus, WORK)
    t.rows(columns, m, out)


@_routine
def orgqr(t: Batch, out: Matrix, a: Matrix, taus: Matrix) -> None:
    m, n = a.shape
    t.check_finite(taus)
    columns = t.columns(a)
    t.lapack("orgqr", m, n, taus.shape[0], columns, m, taus, WORK)
    t.rows(columns, m, out)


@_routine
def ormqr(t: Batch, out: Matrix, a: Matrix, taus: Matrix, c: Matrix, left: bool, transpose: bool) -> None:
    t.check_finite(taus)
    reflectors, columns = t.columns(a), t.columns(c)
    m, n = c.shape
    op = ("C" if t.complex else "T") if transpose else "N"
    t.lapack("ormqr", "L" if left else "R", op, m, n, taus.shape[0], reflectors, a.shape[0], taus, columns, m, WORK)
    t.rows(columns, m, out)


@_routine
def qr(t: Batch, q: Matrix, r: Matrix, *others: Matrix) -> None:
    *permutation, a = others
    (m, n), width = a.shape, q.shape[1]
    columns, taus = t.scratch(m * max(n, width)), t.scratch(min(m, n))
    t.check_finite(a)
    t.helper("transpose", m, n, a, n, columns, m)
    if permutation:
        real_work = [t.scratch(2 * n, t.real)] if t.complex else []
        t.helper("clear", n * _INTEGER.itemsize, permutation[0])
        t.lapack("geqp3", m, n, columns, m, permutation[0], taus, WORK, *real_work)
        t.helper("from_zero", n, permutation[0])
    else:
        t.lapack("geqrf", m, n, columns, m, taus, WORK)
    t.rows(columns, m, r)
    _upper(t, r)
    t.lapack("orgqr", m, width, min(m, n), columns, m, taus, WORK)
    t.rows(columns, m, q)


@_routine
def syevd(t: Batch, v: Matrix, w: Matrix, a: Matrix, lower: bool) -> None:
    n = a.shape[0]
    columns = t.columns(a, finite=False)
    work = (WORK, REAL_WORK, INTEGER_WORK) if t.complex else (WORK, INTEGER_WORK)
    t.lapack("syevd", "V", "L" if lower else "U", n, columns, n, w, *work)
    t.check_finite(w)
    t.rows(columns, n, v)


@_routine
def gesdd(t: Batch, s: Matrix, *others: Matrix) -> None:
    *vectors, a = others
    (m, n), k = a.shape, min(a.shape)
    columns = t.columns(a)
    least, most = k, max(m, n)
    real_work = (
        [t.scratch(max(5 * least * (least + 1), 2 * least * (most + least) + least), t.real)] if t.complex else []
    )
    work = (WORK, *real_work, t.scratch(8 * k, _INTEGER))
    if not vectors:
        t.lapack("gesdd", "N", m, n, columns, m, s, t.ignored, m, t.ignored, k, *work)
        return
    u, vh = vectors
    rows = vh.shape[0]
    left, right = t.scratch(m * u.shape[1]), t.scratch(rows * n)
    t.lapack("gesdd", "A" if (u.shape[1], rows) == (m, n) else "S", m, n, columns, m, s, left, m, right, rows, *work)
    t.rows(left, m, u)
    t.rows(right, rows, vh)


@_routine
def geev(t: Batch, *operands: Matrix, left: bool, right: bool) -> None:
    *values, a = operands
    n, n_values = a.shape[0], 1 if t.complex else 2
    values, vectors = values[:n_values], values[n_values:]
    columns = t.columns(a)
    found = [t.scratch(n * n) if wanted else t.ignored for wanted in (left, right)]
    real_work = [t.scratch(2 * n, t.real)] if t.complex else []
    jobs = ["V" if wanted else "N" for wanted in (left, right)]
    t.lapack("geev", *jobs, n, columns, n, *values, found[0], n, found[1], n, WORK, *real_work)
    for memory, to in zip([f for f in found if f is not t.ignored], vectors, strict=True):
        t.rows(memory, n, to)


@_routine
def gees(t: Batch, form: Matrix, *others: Matrix) -> None:
    *vectors, a = others
    n = a.shape[0]
    columns, found = t.columns(a), t.scratch(n * n if vectors else 1)
    values = [t.scratch(n)] if t.complex else [t.scratch(n), t.scratch(n)]
    real_work = [t.scratch(n, t.real)] if t.complex else []
    no_selection, selected, flags = Memory(0), t.ignored, t.scratch(n, _INTEGER)
    t.lapack(
        *("gees", "V" if vectors else "N", "N", no_selection, n, columns, n, selected, *values, found, n),
        *(WORK, *real_work, flags),
    )
    t.rows(columns, n, form)
    if vectors:
        t.rows(found, n, vectors[0])


@_routine
def gehrd(t: Batch, out: Matrix, taus: Matrix, a: Matrix) -> None:
    n = a.shape[0]
    columns = t.columns(a)
    t.lapack("gehrd", n, 1, n, columns, n, taus, WORK)
    t.rows(columns, n, out)


@_routine
def sytrd(t: Batch, out: Matrix, d: Matrix, e: Matrix, taus: Matrix, a: Matrix, lower: bool) -> None:
    n = a.shape[0]
    columns = t.columns(a, finite=False)
    t.lapack("sytrd", "L" if lower else "U", n, columns, n, d, e, taus, WORK)
    t.rows(columns, n, out)


@_routine
def gtsv(t: Batch, x: Matrix, lower: Matrix, diagonal: Matrix, upper: Matrix, b: Matrix) -> None:
    n, m = b.shape
    size = t.dtype.itemsize
    copies = []
    for vector, skipped, count in ((lower, 1, n - 1), (diagonal, 0, n), (upper, 0, n - 1)):
        copies.append(t.scratch(n))
        memory = vector.memory._replace(offset=skipped * size)
        t.helper("copy", count * size, memory, copies[-1])
    columns = t.columns(b, finite=False)
    t.lapack("gtsv", n, m, *copies, columns, n)
    t.rows(columns, n, x)
