"""Index builders, printing options, files, cross products, and vectorize."""

from __future__ import annotations

import builtins
import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import broadcast_shapes, promote_dtypes
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import creation, joining, shapes
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import asarray
from funcgrad.ops.casts import convert_element_type
from funcgrad.transforms.vmap import vmap

__all__ = [
    "array_repr",
    "array_str",
    "c_",
    "cross",
    "get_printoptions",
    "index_exp",
    "load",
    "mgrid",
    "ogrid",
    "printoptions",
    "r_",
    "s_",
    "save",
    "savez",
    "set_printoptions",
    "vectorize",
]

s_, index_exp = np.s_, np.index_exp
set_printoptions, get_printoptions, printoptions = np.set_printoptions, np.get_printoptions, np.printoptions


class _Grid:
    """Coordinate arrays from slices: mgrid is dense, ogrid sparse. A step of nj means n points, as in 0:1:5j."""

    def __init__(self, sparse: bool):
        self.sparse = sparse

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        vectors = promote_dtypes(*(_range(k) for k in keys), operation="mgrid")
        if not isinstance(key, tuple):
            return vectors[0]
        grids = creation.meshgrid(*vectors, indexing="ij", sparse=self.sparse)
        return grids if self.sparse else joining.stack(grids)


def _range(k: slice) -> Any:
    start, step = k.start or 0, 1 if k.step is None else k.step
    if isinstance(step, complex):
        return creation.linspace(start, k.stop, int(builtins.abs(step)))
    return creation.arange(start, k.stop, step)


mgrid, ogrid = _Grid(sparse=False), _Grid(sparse=True)


class _Joiner:
    """Concatenate by indexing: r_[1:3, 0, x] along the first axis, c_[x, y] along the last."""

    def __init__(self, columns: bool):
        self.columns = columns

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(p, str) for p in parts):
            raise ArgumentError("r_: directives in text are not supported", fix="use concatenate with axis=")
        arrays = [_range(p) if isinstance(p, slice) else asarray(p) for p in parts]
        if not self.columns:
            return joining.concatenate([shapes.atleast_1d(a) for a in arrays])
        return joining.concatenate([shapes.reshape(a, (-1, 1)) if a.ndim < 2 else a for a in arrays], -1)


r_, c_ = _Joiner(columns=False), _Joiner(columns=True)


def array_repr(
    arr: Any, max_line_width: int | None = None, precision: int | None = None, suppress_small: bool | None = None
) -> str:
    """The repr of an array, with its dtype."""
    return np.array_repr(np.asarray(arr), max_line_width, precision, suppress_small)


def array_str(
    a: Any, max_line_width: int | None = None, precision: int | None = None, suppress_small: bool | None = None
) -> str:
    """The str of an array: its values."""
    return np.array_str(np.asarray(a), max_line_width, precision, suppress_small)


def save(file: Any, arr: Any, allow_pickle: bool = True) -> None:
    """Write an array to a .npy file."""
    np.save(file, np.asarray(arr), allow_pickle=allow_pickle)


def savez(file: Any, *args: Any, **kwargs: Any) -> None:
    """Write arrays to an .npz file, named by position or keyword."""
    named: dict[str, Any] = {k: np.asarray(v) for k, v in kwargs.items()}
    np.savez(file, *map(np.asarray, args), **named)


def load(file: Any, *args: Any, **kwargs: Any) -> Any:
    """Read a .npy file as an array, or an .npz file as NumPy's mapping."""
    out = np.load(file, *args, **kwargs)
    return asarray(out) if isinstance(out, np.ndarray) else out


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """Cross product of vectors of 2 or 3 elements along an axis.

    For two vectors of 2 elements, the result is the third component alone.

    >>> cross([1, 0, 0], [0, 1, 0])
    Array([0, 0, 1], dtype=int32)
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = promote_dtypes(asarray(a), asarray(b), operation="cross")
    a, b = shapes.moveaxis(a, axisa, -1), shapes.moveaxis(b, axisb, -1)
    if a.shape[-1] not in (2, 3) or b.shape[-1] not in (2, 3):
        raise ShapeError(f"cross: vectors have {a.shape[-1]} and {b.shape[-1]} elements", fix="pass vectors of 2 or 3")
    if a.shape[-1] == b.shape[-1] == 2:
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    a, b = (_as_3d_vectors(v) for v in (a, b))
    shape = broadcast_shapes(a.shape, b.shape, operation="cross")
    (a0, a1, a2), (b0, b1, b2) = ([v[..., i] for i in range(3)] for v in (a, b))
    # As in JAX, only the product of vectors of 2 elements can be weakly typed.
    out = joining.stack(
        [uf.subtract(a1 * b2, a2 * b1), uf.subtract(a2 * b0, a0 * b2), uf.subtract(a0 * b1, a1 * b0)], -1
    )
    return shapes.moveaxis(convert_element_type(out, out.dtype), -1, as_axis(axisc, len(shape), "cross"))


def _as_3d_vectors(v: Any) -> Any:
    return v if v.shape[-1] == 3 else joining.concatenate([v, creation.zeros_like(v[..., :1])], -1)


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Any = frozenset(), signature: str | None = None
) -> Callable[..., Any]:
    """Vectorize a function over the leading axes of its arguments, which broadcast together, by vmap.

    `signature` gives the core dimensions as in NumPy, e.g. "(n,k),(k)->(n)"; by default the function is of scalars.

    >>> import funcgrad.numpy as jnp
    >>> vectorize(jnp.dot, signature="(n),(n)->()")(jnp.ones((2, 3)), jnp.ones(3))
    Array([3., 3.], dtype=float32)
    """
    excluded = frozenset(excluded)

    @functools.wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        places = [i for i in range(len(args)) if i not in excluded]
        ranks = _core_ranks(signature, len(places))

        def core(*chosen: Any) -> Any:
            full = list(args)
            for i, a in zip(places, chosen, strict=True):
                full[i] = a
            return pyfunc(*full, **kwargs)

        arrays = [asarray(args[i]) for i in places]
        leads = []
        for i, (a, rank) in enumerate(zip(arrays, ranks, strict=True)):
            if a.ndim < rank:
                raise ShapeError(
                    f"vectorize: argument {i} has shape {a.shape}, but {rank} core dimensions are expected",
                    fix=f"the signature is {signature}",
                )
            leads.append(a.shape[: a.ndim - rank])
        shape = broadcast_shapes(*leads, operation="vectorize")
        # The last leading axis is mapped innermost.
        mapped: Callable[..., Any] = core
        for axis in reversed(range(len(shape))):
            in_axes = tuple(0 if _is_mapped(lead, shape, axis) else None for lead in leads)
            mapped = vmap(mapped, in_axes=in_axes, axis_size=shape[axis])
        squeezed = [_squeeze_broadcast(a, lead, shape) for a, lead in zip(arrays, leads, strict=True)]
        return mapped(*squeezed)

    return vectorized


def _core_ranks(signature: str | None, n: int) -> list[int]:
    if signature is None:
        return [0] * n
    cores = re.findall(r"\(([^)]*)\)", signature.split("->")[0])
    if len(cores) != n:
        raise ArgumentError(
            f"vectorize: signature {signature!r} has {len(cores)} arguments, but {n} were passed", fix="match them"
        )
    return [len([d for d in core.split(",") if d.strip()]) for core in cores]


def _is_mapped(lead: tuple[int, ...], shape: tuple[int, ...], axis: int) -> bool:
    d = axis - (len(shape) - len(lead))
    return d >= 0 and lead[d] == shape[axis]


def _squeeze_broadcast(a: Any, lead: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Drop the leading axes of size 1 that broadcast against a larger one: vmap does not map those."""
    offset = len(shape) - len(lead)
    drop = tuple(d for d, n in enumerate(lead) if n == 1 and shape[offset + d] != 1)
    return shapes.squeeze(a, drop) if drop else a
