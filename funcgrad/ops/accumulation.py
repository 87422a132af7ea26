"""NumPy sums and cumulative reductions whose rounding errors hardly grow with the number of terms.

NumPy adds in pairs along the axis that it walks through innermost, and one by one along all others: a column of twenty
million float32 ones sums to 2²⁴. Here long columns are summed in blocks, and the blocks' sums in blocks again: no
number passes through more than 256 additions for each factor of 128 in the number of terms (Higham, *Accuracy
and Stability of Numerical Algorithms*, section 4.2).
"""

from __future__ import annotations

import math

import numpy as np

from funcgrad import dtypes

Axes = tuple[int, ...]

# Fewer terms are left to NumPy; longer columns are cut in blocks of this many terms, or up to twice as many.
_FEW = 256
_BLOCK = 128
# Blocks are summed side by side in rows of up to this many numbers.
_WIDTH = 4096
# Running folds of more float64 terms are folded in blocks.
_LONG_RUN = 4096


def accumulator(dtype: np.dtype) -> np.dtype:
    """Return the dtype in which sums and products accumulate: float32 for 16-bit floats, otherwise the same."""
    return dtypes.float32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype


def widest(dtype: np.dtype) -> np.dtype:
    """Return the double-precision dtype for an inexact dtype: float64 or complex128."""
    return dtypes.complex128 if dtypes.is_complex(dtype) else dtypes.float64


def sum_over(x: np.ndarray, axes: Axes, dtype: np.dtype) -> np.ndarray:
    """Sum over `axes` in `dtype`.

    >>> int(sum_over(np.ones((20_000_000, 1), np.float32), (0,), dtypes.float32)[0])
    20000000
    """
    if math.prod([x.shape[d] for d in axes]) <= _FEW or not x.size or not dtypes.is_inexact(dtype):
        return np.add.reduce(x, axis=axes, dtype=dtype)
    if len(axes) == x.ndim and x.flags.forc:  # one axis for NumPy
        return np.add.reduce(x, axis=axes, dtype=dtype)
    if len(axes) == 1 and x.flags.c_contiguous and axes[0] < x.ndim - 1:
        return _sum_columns(x, axes[0], dtype)
    order = sorted(range(x.ndim), key=lambda d: -abs(x.strides[d]))  # as NumPy walks
    x, folded = _merged(x.transpose(order), [d in axes for d in order])
    columns = [d for d in folded if d < x.ndim - 1]
    while math.prod([x.shape[d] for d in columns]) > _FEW:
        longest = max(columns, key=x.shape.__getitem__)
        x = _sum_columns(x, longest, dtype)
        columns, folded = ([d - (d > longest) for d in axes if d != longest] for axes in (columns, folded))
    kept = [d for d in order if d not in axes]
    return np.add.reduce(x, axis=tuple(folded), dtype=dtype).transpose(np.argsort(kept))


def _merged(x: np.ndarray, folded: list[bool]) -> tuple[np.ndarray, list[int]]:
    """Make neighboring folded axes one where they are one in memory; return the array and its folded axes."""
    shape, kinds, step = [], [], 0
    for n, stride, fold in zip(x.shape, x.strides, folded, strict=True):
        if fold and kinds and kinds[-1] and step == stride * n:
            shape[-1] *= n
        else:
            shape.append(n)
            kinds.append(fold)
        step = stride
    return x.reshape(shape), [d for d, fold in enumerate(kinds) if fold]


def _sum_columns(x: np.ndarray, axis: int, dtype: np.dtype) -> np.ndarray:
    """Sum over an axis that is not the innermost one, in blocks."""
    n, before, after = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    if n <= _BLOCK:
        return np.add.reduce(x, axis=axis, dtype=dtype)
    blocks = -(-n // _BLOCK)
    side_by_side = min(blocks, max(1, _WIDTH // max(1, math.prod(after))))
    count = blocks // side_by_side
    length = n // (count * side_by_side)
    first, rest = _split(x, axis, count * side_by_side * length)
    sums = np.add.reduce(first.reshape(*before, count, length, side_by_side, *after), axis=axis + 1, dtype=dtype)
    total = _sum_columns(sums.reshape(*before, count * side_by_side, *after), axis, dtype)
    return total + _sum_columns(rest, axis, dtype) if rest.shape[axis] else total


def _split(x: np.ndarray, axis: int, at: int) -> tuple[np.ndarray, np.ndarray]:
    lead = (slice(None),) * axis
    return x[(*lead, slice(at))], x[(*lead, slice(at, None))]


def run_over(ufunc: np.ufunc, x: np.ndarray, axis: int) -> np.ndarray:
    """Return x[0], x[0] ∘ x[1], x[0] ∘ x[1] ∘ x[2], … along an axis: narrow floats in float64, float64 in blocks.

    >>> int(run_over(np.add, np.ones(20_000_000, np.float32), 0)[-1])
    20000000
    """
    if not dtypes.is_inexact(x.dtype) or ufunc in (np.maximum, np.minimum):  # exact
        working = accumulator(x.dtype)
        return ufunc.accumulate(x.astype(working, copy=False), axis=axis, dtype=working).astype(x.dtype, copy=False)
    wide = widest(x.dtype)
    if x.dtype != wide:
        return ufunc.accumulate(x.astype(wide), axis=axis).astype(x.dtype)
    return _run_in_blocks(ufunc, x, axis) if x.shape[axis] > _LONG_RUN else ufunc.accumulate(x, axis=axis)


def _run_in_blocks(ufunc: np.ufunc, x: np.ndarray, axis: int) -> np.ndarray:
    """Fold each of √n blocks by itself, then each with the total of those before it."""
    n, before, after = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    length = math.isqrt(n)
    count = n // length
    first, rest = _split(x, axis, count * length)
    blocks = ufunc.accumulate(first.reshape(*before, count, length, *after), axis=axis + 1)
    totals = ufunc.accumulate(blocks.take([-1], axis + 1), axis=axis)
    ufunc(_split(totals, axis, -1)[0], (later := _split(blocks, axis, 1)[1]), out=later)
    last = totals.reshape(*before, count, *after).take([-1], axis)
    tail = ufunc(last, ufunc.accumulate(rest, axis=axis))
    return np.concatenate([blocks.reshape(first.shape), tail], axis)
