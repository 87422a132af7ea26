"""The methods of NumPy ufuncs: reduce, accumulate, outer, at, reduceat; and frompyfunc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.arguments.axes import as_axis
from funcgrad.arguments.promotion import as_operand, promote_dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.numpy import reductions
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import asarray
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.tools import vectorize
from funcgrad.ops import reductions as rd
from funcgrad.ops import shapes

__all__ = ["frompyfunc", "ufunc"]

_REDUCERS: dict[Callable[..., Any], Callable[..., Any]] = {
    uf.add: reductions.sum,
    uf.multiply: reductions.prod,
    uf.maximum: reductions.max,
    uf.minimum: reductions.min,
    uf.logical_and: reductions.all,
    uf.logical_or: reductions.any,
}


class ufunc:
    """An elementwise function with the methods of a NumPy ufunc; see `frompyfunc`.

    >>> import funcgrad.numpy as jnp
    >>> jnp.multiply.outer(jnp.arange(3), jnp.arange(2))
    Array([[0, 0],
           [0, 1],
           [0, 2]], dtype=int32)
    """

    def __init__(self, function: Callable[..., Any], nin: int, nout: int, identity: Any = None):
        self.function, self.nin, self.nout, self.identity = function, nin, nout, identity
        self.nargs = nin + nout
        self.__name__, self.__doc__ = getattr(function, "__name__", "ufunc"), function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __repr__(self) -> str:
        return f"<ufunc {self.__name__!r}>"

    def _scan(self, a: Any, axis: int) -> Any:
        if self.nin != 2 or self.nout != 1:
            raise ArgumentError(
                f"{self.__name__}: it is a function of {self.nin} operands", fix="fold binary functions"
            )
        combine = lambda left, right: [self.function(left[0], right[0])]  # noqa: E731
        return rd.associative_scan(combine, [a], axis)[0]

    def reduce(
        self,
        a: Any,
        axis: int | None = 0,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        """Reduce along an axis, or over all axes for None. The function must be associative."""
        reducer = _REDUCERS.get(self.function)
        if reducer is not None and dtype is None:
            options = {} if initial is None else {"initial": initial}
            return reducer(a, axis=axis, keepdims=keepdims, where=where, **options)
        if where is not None:
            raise ArgumentError(f"{self.__name__}.reduce: where= needs a function with an identity", fix="drop where=")
        a = as_operand(a, self.__name__) if dtype is None else asarray(a, dtype)
        ndim = a.aval.ndim
        if axis is None:
            a, axis = shapes.reshape(a, (a.aval.size,)), 0
        axis = as_axis(axis, a.aval.ndim, self.__name__)
        if a.aval.shape[axis]:
            result = self._scan(a, axis)[(slice(None),) * axis + (-1,)]
        elif self.identity is not None:
            result = asarray(self.identity)
        else:
            raise ArgumentError(
                f"{self.__name__}.reduce: {a.aval} is empty and there is no identity", fix="pass elements"
            )
        result = result if initial is None else self.function(initial, result)
        return (
            shapes.expand_dims(result, (axis,) if aval_of(result).ndim else tuple(range(ndim))) if keepdims else result
        )

    def accumulate(self, a: Any, axis: int = 0, dtype: Any = None, out: None = None) -> Any:
        """Cumulative reduction along an axis. The function must be associative."""
        a = as_operand(a, self.__name__) if dtype is None else asarray(a, dtype)
        return self._scan(a, as_axis(axis, a.aval.ndim, self.__name__))

    def outer(self, A: Any, B: Any, /) -> Any:
        """Apply the function to all pairs (a, b); the axes of A come before those of B."""
        A, B = as_operand(A, self.__name__), as_operand(B, self.__name__)
        return self.function(shapes.reshape(A, (*A.aval.shape, *(1,) * B.aval.ndim)), B)

    def at(self, a: Any, indices: Any, b: Any = None, /, *, inplace: bool = True) -> Any:
        """Return `a` with the function applied at the indices, once per repetition.

        Arrays are immutable, so inplace=False is required.
        """
        if inplace:
            raise ArgumentError(
                f"{self.__name__}.at: arrays are immutable", fix="pass inplace=False and use the result"
            )
        a = as_operand(a, self.__name__)
        if b is None:
            return a.at[indices].set(self.function(a[indices]))
        method = {
            "add": "add",
            "subtract": "subtract",
            "multiply": "multiply",
            "divide": "divide",
            "maximum": "max",
            "minimum": "min",
            "power": "power",
        }.get(self.__name__)
        if method is not None:
            return getattr(a.at[indices], method)(b)
        return a.at[indices].set(self.function(a[indices], b))

    def reduceat(self, a: Any, indices: Any, axis: int = 0, dtype: Any = None, out: None = None) -> Any:
        """Reduce a[i:j] for each pair i, j of consecutive indices, or take a[i] where j ≤ i. The indices are static."""
        a = as_operand(a, self.__name__)
        axis = as_axis(axis, a.aval.ndim, self.__name__)
        places = [int(i) for i in indices]
        whole = (slice(None),) * axis
        parts = []
        for i, j in zip(places, [*places[1:], a.aval.shape[axis]], strict=True):
            parts.append(self.reduce(a[(*whole, slice(i, j if j > i else i + 1))], axis, dtype, keepdims=True))
        return concatenate(promote_dtypes(*parts, operation=self.__name__), axis)


def frompyfunc(func: Callable[..., Any], /, nin: int, nout: int, *, identity: Any = None) -> ufunc:
    """Make a ufunc from a function of scalars, by vmap."""
    wrapped = ufunc(vectorize(func), nin, nout, identity)
    wrapped.__name__ = getattr(func, "__name__", "ufunc")
    return wrapped


def _attach_methods() -> None:
    """Attach ufunc methods to the binary functions of the namespace, which stay plain functions: those call faster."""
    identities = {
        uf.add: 0,
        uf.multiply: 1,
        uf.logical_and: True,
        uf.logical_or: False,
        uf.logical_xor: False,
        uf.bitwise_and: -1,
        uf.bitwise_or: 0,
        uf.bitwise_xor: 0,
    }
    binary = (
        *_REDUCERS,
        uf.subtract,
        uf.divide,
        uf.logical_xor,
        uf.bitwise_and,
        uf.bitwise_or,
        uf.bitwise_xor,
        uf.equal,
        uf.not_equal,
        uf.less,
        uf.less_equal,
        uf.greater,
        uf.greater_equal,
        uf.arctan2,
        uf.left_shift,
        uf.right_shift,
        uf.nextafter,
    )
    for function in binary:
        methods = ufunc(function, 2, 1, identities.get(function))
        for name in ("reduce", "accumulate", "outer", "at", "reduceat", "nin", "nout", "nargs", "identity"):
            setattr(function, name, getattr(methods, name))


_attach_methods()
