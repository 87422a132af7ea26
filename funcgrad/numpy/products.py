"""Products of vectors, matrices and arrays of higher rank: the functions that are built on dot_general.

They describe the axes of operands by *labels*, as einsum does: axes with the same label are multiplied together, and
summed over unless the label is in the result.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, broadcast_shapes, promote_dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.ops.arithmetic import conj, mul_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.logic import eq_p
from funcgrad.ops.products import DotDimensionNumbers, check_precision, dot_general
from funcgrad.ops.reductions import reduce_or
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, full, reduce_sum, reshape, squeeze, transpose
from funcgrad.ops.slicing import iota

__all__ = [
    "dot",
    "einsum",
    "einsum_path",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]

Labels = tuple[Hashable, ...]
Labeled = tuple[Any, Labels]

# ---------------------------------------------------------------- shared helpers


def _operands(operation: str, *args: Any, precision: Any, preferred: Any) -> tuple[list[Any], np.dtype, bool]:
    """Return the promoted operands, the dtype of the result, and whether it is weakly typed."""
    check_precision(operation, precision)
    arrays = promote_dtypes(*args, operation=operation)
    aval = aval_of(arrays[0])
    if preferred is not None:
        return arrays, dtypes.requested(preferred, operation), False
    return arrays, aval.dtype, aval.weak_type


def _result(x: Any, dtype: np.dtype, weak: bool) -> Any:
    return convert_element_type(x, dtype, weak)


def _check_contracted(operation: str, x: Any, i: int, y: Any, j: int) -> None:
    a, b = aval_of(x), aval_of(y)
    if a.shape[i] != b.shape[j]:
        raise ShapeError(
            f"{operation}: contracted axes differ: axis {i} of the first operand {a} is {a.shape[i]}, "
            f"axis {j} of the second {b} is {b.shape[j]}",
            fix="transpose or reshape one operand so that the contracted axes have the same size",
        )


def _check_rank(operation: str, x: Any, rank: int, position: int) -> None:
    if aval_of(x).ndim < rank:
        raise ShapeError(
            f"{operation}: operand {position} is {aval_of(x)}, at least {rank} dimension{'s' * (rank > 1)} needed",
            fix="multiply by a scalar with *, or insert axes with x[None]",
        )


def _without_unit_axes(x: Any, labels: Labels, sizes: dict[Hashable, int]) -> Labeled:
    """Drop the axes of size 1 whose label has a larger size elsewhere: the product broadcasts over them."""
    shape = aval_of(x).shape
    drop = tuple(d for d, label in enumerate(labels) if shape[d] == 1 and sizes[label] != 1)
    return squeeze(x, drop), tuple(label for d, label in enumerate(labels) if d not in drop)


def _pair(x: Labeled, y: Labeled, keep: Labels, dtype: np.dtype) -> Labeled:
    """Multiply two labeled arrays; sum over the labels that they share and that are not in `keep`."""
    (a, al), (b, bl) = x, y
    both = [label for label in al if label in bl]
    batch = sorted((label for label in both if label in keep), key=keep.index)
    summed = [label for label in both if label not in keep]
    a_free, b_free = ([label for label in labels if label not in both] for labels in (al, bl))
    if keep == (*batch, *b_free, *a_free) and a_free and b_free:  # then the result needs no transposition
        (a, al), (b, bl), a_free, b_free = y, x, b_free, a_free
    numbers = tuple((tuple(map(al.index, which)), tuple(map(bl.index, which))) for which in (summed, batch))
    if aval_of(a).dtype != aval_of(b).dtype:  # after a first product in the preferred dtype
        a, b = (convert_element_type(v, dtype) for v in (a, b))
    return dot_general(a, b, numbers, preferred_element_type=dtype), (*batch, *a_free, *b_free)


def _ordered(x: Labeled, labels: Labels) -> Any:
    return transpose(x[0], [x[1].index(label) for label in labels])


# ---------------------------------------------------------------- products


def dot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Dot product: sum over the last axis of `a` and the second-to-last (or only) axis of `b`; scalars multiply.

    >>> dot(np.eye(2, dtype="float32"), np.array([1.0, 2.0], "float32"))
    Array([1., 2.], dtype=float32)
    """
    (a, b), dtype, weak = _operands("dot", a, b, precision=precision, preferred=preferred_element_type)
    if not aval_of(a).ndim or not aval_of(b).ndim:
        return _result(dot_general(a, b, (((), ()), ((), ())), dtype), dtype, weak)
    return _result(_plain_product("dot", a, b, dtype), dtype, weak)


def matmul(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Matrix product, `(…, n, k)` times `(…, k, m)` to `(…, n, m)`. Leading axes broadcast; a vector lacks n or m.

    >>> matmul(np.ones((5, 2, 3), "float32"), np.ones((3, 4), "float32")).shape
    (5, 2, 4)
    """
    (a, b), dtype, weak = _operands("matmul", a, b, precision=precision, preferred=preferred_element_type)
    for position, x in enumerate((a, b)):
        _check_rank("matmul", x, 1, position)
    if max(aval_of(a).ndim, aval_of(b).ndim) <= 2:
        return _result(_plain_product("matmul", a, b, dtype), dtype, weak)
    a_core = ("k",) if aval_of(a).ndim == 1 else ("n", "k")
    b_core = ("k",) if aval_of(b).ndim == 1 else ("k", "m")
    return _result(_matrix_product("matmul", a, b, a_core, b_core, dtype), dtype, weak)


def _plain_product(operation: str, a: Any, b: Any, dtype: np.dtype) -> Any:
    """Sum over the last axis of `a` and the second-to-last (or only) axis of `b`."""
    i, j = aval_of(a).ndim - 1, max(aval_of(b).ndim - 2, 0)
    _check_contracted(operation, a, i, b, j)
    return dot_general(a, b, _one_axis(i, j), dtype)


@functools.cache
def _one_axis(i: int, j: int) -> DotDimensionNumbers:
    return DotDimensionNumbers.of((((i,), (j,)), ((), ())))


def _matrix_product(operation: str, a: Any, b: Any, a_core: Labels, b_core: Labels, dtype: np.dtype) -> Any:
    """Sum over label "k" of the trailing axes; the leading axes are batch axes, which broadcast."""
    a_shape, b_shape = aval_of(a).shape, aval_of(b).shape
    _check_contracted(
        operation, a, len(a_shape) - len(a_core) + a_core.index("k"), b, len(b_shape) - len(b_core) + b_core.index("k")
    )
    a_batch, b_batch = a_shape[: len(a_shape) - len(a_core)], b_shape[: len(b_shape) - len(b_core)]
    batch = broadcast_shapes(a_batch, b_batch, operation=operation)
    # Batch axes of size 1 are dropped and restored at the end, so that a batch of one matrix is a plain product.
    unit = tuple(d for d, n in enumerate(batch) if n == 1)

    def labeled(x: Any, own: tuple[int, ...], core: Labels) -> Labeled:
        first = len(batch) - len(own)
        drop = tuple(d for d, n in enumerate(own) if n == 1)
        return squeeze(x, drop), (*(first + d for d, n in enumerate(own) if n != 1), *core)

    kept = (*(d for d in range(len(batch)) if d not in unit), *(c for c in (*a_core, *b_core) if c != "k"))
    out = _pair(labeled(a, a_batch, a_core), labeled(b, b_batch, b_core), kept, dtype)
    result = _ordered(out, kept)
    return expand_dims(result, unit) if unit else result


def _conjugate(x: Any) -> Any:
    return conj(x) if dtypes.is_complex(aval_of(x).dtype) else x


def vdot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Σ conj(a)·b over all elements."""
    (a, b), dtype, weak = _operands("vdot", a, b, precision=precision, preferred=preferred_element_type)
    a, b = (reshape(v, (aval_of(v).size,)) for v in (_conjugate(a), b))
    _check_contracted("vdot", a, 0, b, 0)
    return _result(dot_general(a, b, (((0,), (0,)), ((), ())), dtype), dtype, weak)


def _along_last(operation: str, x: Any, axis: int) -> Any:
    ndim = aval_of(x).ndim
    if not -ndim <= axis < ndim:
        raise ArgumentError(
            f"{operation}: axis {axis} is out of range for {aval_of(x)}",
            fix=f"choose one in [{-ndim}, {ndim})",
        )
    return transpose(x, [*(d for d in range(ndim) if d != axis % ndim), axis % ndim])


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Σ conj(x1)·x2 along an axis; the other axes broadcast."""
    (a, b), dtype, weak = _operands("vecdot", x1, x2, precision=precision, preferred=preferred_element_type)
    a, b = _along_last("vecdot", _conjugate(a), axis), _along_last("vecdot", b, axis)
    return _result(_matrix_product("vecdot", a, b, ("k",), ("k",), dtype), dtype, weak)


def matvec(x1: Any, x2: Any, /) -> Any:
    """Matrix-vector product, `(…, n, k)` times `(…, k)` to `(…, n)`. Leading axes broadcast."""
    (a, b), dtype, weak = _operands("matvec", x1, x2, precision=None, preferred=None)
    _check_rank("matvec", a, 2, 0)
    _check_rank("matvec", b, 1, 1)
    return _result(_matrix_product("matvec", a, b, ("n", "k"), ("k",), dtype), dtype, weak)


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Product of a conjugated vector and a matrix, `(…, k)` times `(…, k, m)` to `(…, m)`. Leading axes broadcast."""
    (a, b), dtype, weak = _operands("vecmat", x1, x2, precision=None, preferred=None)
    _check_rank("vecmat", a, 1, 0)
    _check_rank("vecmat", b, 2, 1)
    return _result(_matrix_product("vecmat", _conjugate(a), b, ("k",), ("k", "m"), dtype), dtype, weak)


def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Inner product: sum over the last axes of both operands; scalars multiply."""
    (a, b), dtype, weak = _operands("inner", a, b, precision=precision, preferred=preferred_element_type)
    contracted: tuple = ((), ())
    if aval_of(a).ndim and aval_of(b).ndim:
        i, j = aval_of(a).ndim - 1, aval_of(b).ndim - 1
        _check_contracted("inner", a, i, b, j)
        contracted = ((i,), (j,))
    return _result(dot_general(a, b, (contracted, ((), ())), dtype), dtype, weak)


def outer(a: Any, b: Any, out: None = None) -> Any:
    """Outer product of the flattened operands: out[i, j] = a[i]·b[j]."""
    a, b = promote_dtypes(a, b, operation="outer")
    n, m = aval_of(a).size, aval_of(b).size
    rows, columns = (
        broadcast_in_dim(reshape(a, (n,)), (n, m), (0,)),
        broadcast_in_dim(reshape(b, (m,)), (n, m), (1,)),
    )
    return mul_p.bind(rows, columns) if aval_of(a).dtype != dtypes.bool_ else rows & columns


def tensordot(
    a: Any,
    b: Any,
    axes: int | Sequence[Any] = 2,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Tensor contraction: sum over `axes` of both operands.

    `axes` is n, for the last n axes of `a` and the first n of `b`, or a pair (axes of a, axes of b).
    """
    (a, b), dtype, weak = _operands("tensordot", a, b, precision=precision, preferred=preferred_element_type)
    a_axes, b_axes = _tensordot_axes(a, b, axes)
    for i, j in zip(a_axes, b_axes, strict=True):
        _check_contracted("tensordot", a, i, b, j)
    return _result(dot_general(a, b, ((a_axes, b_axes), ((), ())), dtype), dtype, weak)


def _tensordot_axes(a: Any, b: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    a_ndim, b_ndim = aval_of(a).ndim, aval_of(b).ndim
    if isinstance(axes, (int, np.integer)):
        if not 0 <= axes <= min(a_ndim, b_ndim):
            raise ArgumentError(
                f"tensordot: axes={axes} of operands {aval_of(a)} and {aval_of(b)}",
                fix="contract at most as many axes as the smaller operand has",
            )
        return tuple(range(a_ndim - axes, a_ndim)), tuple(range(axes))
    try:
        pair = [tuple(side) if isinstance(side, (tuple, list, np.ndarray)) else (side,) for side in axes]
        (a_axes, b_axes) = ([int(d) for d in side] for side in pair)
    except (TypeError, ValueError) as e:
        raise ArgumentError(f"tensordot: axes={axes!r}", fix="give a number, or (axes of a, axes of b)") from e
    in_range = all(-n <= d < n for n, side in ((a_ndim, a_axes), (b_ndim, b_axes)) for d in side)
    if len(a_axes) != len(b_axes) or not in_range:
        raise ArgumentError(
            f"tensordot: axes={axes!r} of operands {aval_of(a)} and {aval_of(b)}",
            fix="pass as many axes of a as of b, all in range",
        )
    return tuple(d % a_ndim for d in a_axes), tuple(d % b_ndim for d in b_axes)


def kron(a: Any, b: Any) -> Any:
    """Kronecker product: the block array whose blocks are the elements of `a` times `b`."""
    a, b = promote_dtypes(a, b, operation="kron")
    rank = max(aval_of(a).ndim, aval_of(b).ndim)
    a, b = (reshape(v, (1,) * (rank - aval_of(v).ndim) + aval_of(v).shape) for v in (a, b))
    n, m = aval_of(a).shape, aval_of(b).shape
    blocks = tuple(size for pair in zip(n, m, strict=True) for size in pair)
    spread = [broadcast_in_dim(v, blocks, range(first, 2 * rank, 2)) for first, v in enumerate((a, b))]
    product = mul_p.bind(*spread) if aval_of(a).dtype != dtypes.bool_ else spread[0] & spread[1]
    return reshape(product, tuple(i * j for i, j in zip(n, m, strict=True)))


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None) -> Any:
    """Sum of a diagonal, Σᵢ a[i, i + offset], over axes `axis1` and `axis2`. Narrow integers are summed in int32."""
    a = as_operand(a, "trace")
    _check_rank("trace", a, 2, 0)
    aval = aval_of(a)
    axes = [_normalized("trace", a, axis) for axis in (axis1, axis2)]
    if axes[0] == axes[1]:
        raise ArgumentError(f"trace: axis1={axis1} and axis2={axis2} are the same axis of {aval}", fix="pass two axes")
    wide = dtypes.requested(dtype, "trace") if dtype is not None else _summed_dtype(aval.dtype)
    rows, columns = (iota(dtypes.int32, aval.shape, d) for d in axes)
    diagonal = eq_p.bind(rows + np.int32(offset), columns)
    masked = select_n_p.bind(diagonal, full(aval.shape, 0, aval.dtype), convert_element_type(a, aval.dtype))
    return reduce_sum(convert_element_type(masked, wide), axes)


def _summed_dtype(dtype: np.dtype) -> np.dtype:
    if dtype == dtypes.bool_ or dtypes.is_integer(dtype):
        return dtypes.canonicalize(np.uint64 if dtype.kind == "u" else np.int64)
    return dtype


def _normalized(operation: str, x: Any, axis: int) -> int:
    ndim = aval_of(x).ndim
    if not -ndim <= axis < ndim:
        raise ArgumentError(
            f"{operation}: axis {axis} is out of range for {aval_of(x)}",
            fix=f"choose one in [{-ndim}, {ndim})",
        )
    return axis % ndim


# ---------------------------------------------------------------- einsum


def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: Any = "auto",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Einstein summation: axes with the same letter are multiplied, and summed over unless the letter is in the result.

    Three or more operands are multiplied in pairs, in the order that opt_einsum chooses (`optimize`).

    >>> x = np.arange(6, dtype="float32").reshape(2, 3)
    >>> einsum("ij,kj->ik", x, x)
    Array([[ 5., 14.],
           [14., 50.]], dtype=float32)
    """
    subscripts, operands = _string_subscripts(subscripts, operands)
    arrays, dtype, weak = _operands("einsum", *operands, precision=precision, preferred=preferred_element_type)
    optimize = tuple(map(tuple, optimize)) if isinstance(optimize, (list, tuple)) else optimize
    inputs, result, path = _contraction(subscripts, tuple(aval_of(x) for x in arrays), optimize)
    sizes: dict[Hashable, int] = {}
    for x, labels in zip(arrays, inputs, strict=True):
        for n, label in zip(aval_of(x).shape, labels, strict=True):
            sizes[label] = n if sizes.get(label, 1) == 1 else sizes[label]
    terms = [_without_unit_axes(x, labels, sizes) for x, labels in zip(arrays, inputs, strict=True)]
    for step in path:
        chosen = [terms[i] for i in sorted(step)]
        terms = [t for i, t in enumerate(terms) if i not in step]
        terms.append(_product(chosen, terms, result, dtype))
    return _result(_ordered(terms[0], result), dtype, weak)


def _product(chosen: list[Labeled], others: list[Labeled], result: Labels, dtype: np.dtype) -> Labeled:
    """Multiply labeled arrays from left to right, keeping the labels that `others` or the result need."""
    product, *rest = chosen
    while rest:
        following, *rest = rest
        needed = {label for _, labels in (*others, *rest) for label in labels}.union(result)
        product = _summed(product, needed.union(following[1]))
        following = _summed(following, needed.union(product[1]))
        labels = dict.fromkeys((*result, *product[1], *following[1]))
        both = set(product[1]) | set(following[1])
        product = _pair(product, following, tuple(n for n in labels if n in needed and n in both), dtype)
    needed = {label for _, labels in others for label in labels}.union(result)
    return _summed(product, needed)


def _summed(x: Labeled, needed: set[Hashable]) -> Labeled:
    """Take diagonals over repeated labels, and sum over the labels that are not needed."""
    array, labels = x
    for label in [n for n in dict.fromkeys(labels) if labels.count(n) > 1]:
        array, labels = _diagonal(array, labels, label)
    axes = tuple(d for d, label in enumerate(labels) if label not in needed)
    if axes:
        array = reduce_or(array, axes) if aval_of(array).dtype == dtypes.bool_ else reduce_sum(array, axes)
    return array, tuple(label for label in labels if label in needed)


def _diagonal(x: Any, labels: Labels, label: Hashable) -> Labeled:
    """Keep one of the axes with this label: mask all elements off the diagonal, and sum over the other axes."""
    shape, dtype = aval_of(x).shape, aval_of(x).dtype
    kept, *others = [d for d, name in enumerate(labels) if name == label]
    for d in others:
        on = eq_p.bind(iota(dtypes.int32, shape, kept), iota(dtypes.int32, shape, d))
        x = select_n_p.bind(on, full(shape, 0, dtype), x)
    x = reduce_or(x, others) if dtype == dtypes.bool_ else reduce_sum(x, others)
    return x, tuple(name for d, name in enumerate(labels) if d not in others)


def _string_subscripts(subscripts: Any, operands: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Convert the call einsum(x, [0, 1], y, [1, 2], [0, 2]) to einsum("ab,bc->ac", x, y)."""
    if isinstance(subscripts, str):
        return subscripts, operands
    rest = [subscripts, *operands]
    result = rest.pop() if len(rest) % 2 else None
    letters = lambda axes: "".join("..." if a is Ellipsis else _letter(a) for a in axes)  # noqa: E731
    text = ",".join(map(letters, rest[1::2]))
    return text if result is None else f"{text}->{letters(result)}", tuple(rest[::2])


def _letter(axis: int) -> str:
    return chr(ord("a") + axis) if axis < 26 else chr(ord("A") + axis - 26)


@functools.lru_cache(maxsize=1024)
def _contraction(subscripts: str, avals: tuple[Any, ...], optimize: Any) -> tuple[list[Labels], Labels, list]:
    """Return the labels of the operands and of the result, and the contraction path."""
    import opt_einsum  # only einsum needs it

    shapes = [a.shape for a in avals]
    try:
        text, result, _ = opt_einsum.parser.parse_einsum_input((subscripts, *shapes), shapes=True)
    except (ValueError, TypeError) as e:
        raise ArgumentError(
            f"einsum: {subscripts!r} with operands {', '.join(map(repr, avals))}: {e}",
            fix="give one letter per axis and one comma-separated term per operand, as in 'ij,jk->ik'",
        ) from e
    inputs: list[Labels] = [tuple(term) for term in text.split(",")]
    kept: Labels = tuple(result)
    _check_labels(subscripts, inputs, kept, avals)
    if len(avals) < 3 or optimize is False:
        return inputs, kept, [tuple(range(len(avals)))]
    given = list(optimize) if isinstance(optimize, tuple) else optimize
    path, _ = opt_einsum.contract_path(f"{text}->{result}", *shapes, shapes=True, optimize=given)
    return inputs, kept, list(path)


def _check_labels(subscripts: str, inputs: Sequence[Labels], result: Labels, avals: Sequence[Any]) -> None:
    if len(inputs) != len(avals):
        raise ArgumentError(
            f"einsum: {subscripts!r} has {len(inputs)} operands, but {len(avals)} were passed",
            fix="give one term per operand",
        )
    first: dict[Hashable, tuple[int, int]] = {}
    for i, (labels, aval) in enumerate(zip(inputs, avals, strict=True)):
        if len(labels) != aval.ndim:
            term = "".join(map(str, labels))
            raise ShapeError(
                f"einsum: term {term!r} of {subscripts!r} has {len(labels)} letters, but operand {i} is {aval}",
                fix="give one letter per axis, or ... for the rest",
            )
        for label, n in zip(labels, aval.shape, strict=True):
            j, m = first.get(label, (i, n))
            if n != 1 and m not in (1, n):
                raise ShapeError(
                    f"einsum: axis {label!r} of {subscripts!r} is {m} in operand {j} {avals[j]}, "
                    f"{n} in operand {i} {aval}",
                    fix="axes with the same letter must have the same size: transpose an operand or change a letter",
                )
            if label not in first or m == 1:
                first[label] = (i, n)
    unknown = [label for label in result if label not in first]
    if unknown:
        raise ArgumentError(
            f"einsum: the result of {subscripts!r} has axis {unknown[0]!r}, which no operand has",
            fix="use letters of operands",
        )


def einsum_path(subscripts: Any, /, *operands: Any, optimize: Any = "auto") -> tuple[list[tuple[int, ...]], Any]:
    """Return the contraction path that einsum would use, and a report of its cost."""
    import opt_einsum

    subscripts, operands = _string_subscripts(subscripts, operands)
    shapes = [aval_of(as_operand(x, "einsum_path")).shape for x in operands]
    path, report = opt_einsum.contract_path(subscripts, *shapes, shapes=True, optimize=optimize)
    return list(path), report
