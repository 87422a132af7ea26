"""Immutable arrays, and conversion to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core import buffers
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.avals import ShapedArray, ShapeDtypeStruct, refuse_keys
from funcgrad.core.quiet import quiet
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.errors import ArgumentError, DeletedArrayError, DTypeError


class Array(ArrayLike):
    """An immutable n-dimensional array.

    It wraps a NumPy array, or a host buffer that a compiled program wrote. Each is made from the other on demand.

    >>> import funcgrad.numpy as jnp
    >>> jnp.array([1.0, 2.0]) + 1
    Array([2., 3.], dtype=float32)
    """

    __slots__ = ("aval", "_host", "_buffer", "__weakref__")
    aval: ShapedArray
    _host: np.ndarray | None
    _buffer: buffers.HostBuffer | None

    def __init__(self, aval: ShapedArray, host: np.ndarray | None, buffer: buffers.HostBuffer | None = None):
        self.aval, self._host, self._buffer = aval, host, buffer

    @property
    def host(self) -> np.ndarray:
        """The value as a NumPy array, which must not be written to."""
        value = self._host
        if value is None:
            if self._buffer is None:
                raise DeletedArrayError(
                    f"the array of type {self.aval} has been deleted: it was donated to a jitted call or .delete()d",
                    fix="do not use an argument after donating it (donate_argnums), or copy it first",
                )
            value = self._host = self._buffer.as_numpy(self.aval.shape, self.aval.dtype)
        return value

    @property
    def buffer(self) -> buffers.HostBuffer:
        """The value as contiguous memory with an address."""
        found = self._buffer
        if found is None:
            found = self._buffer = buffers.wrap(np.ascontiguousarray(self.host))
        return found

    def delete(self) -> None:
        """Free the memory now; later uses of the array raise DeletedArrayError."""
        self._host = self._buffer = None

    def is_deleted(self) -> bool:
        """Whether the array was donated or deleted."""
        return self._host is None and self._buffer is None

    @property
    def numbers(self) -> np.ndarray:
        """The value as a NumPy array; raise for keys."""
        if self.aval.dtype is dtypes.key:
            refuse_keys("conversion", self.aval)
        return self.host

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        value = self.numbers
        if dtype is not None and value.dtype != dtype:
            return value.astype(dtype)
        return value.copy() if copy else read_only(value)

    def __buffer__(self, flags: int) -> memoryview:
        """Return the memory, for `memoryview` of Python 3.12 and later."""
        return memoryview(read_only(self.numbers))  # ty: ignore[invalid-argument-type]

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.numbers.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.numbers.__dlpack_device__()

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def __int__(self) -> int:
        return int(self.numbers[()])

    def __float__(self) -> float:
        return float(self.numbers[()])

    def __complex__(self) -> complex:
        return complex(self.numbers[()])

    def __index__(self) -> int:
        if self.aval.shape or not dtypes.is_integer(self.aval.dtype):
            raise DTypeError(
                f"only 0-d integer arrays are indices, but this is {self.aval}", fix="use int(x) or x.astype(int)"
            )
        return int(self.numbers[()])

    def __format__(self, spec: str) -> str:
        return format(str(self) if self.aval.shape or self.aval.dtype is dtypes.key else self.host[()], spec)

    def item(self, *args: int) -> Any:
        """Return one element as a Python scalar."""
        return self.numbers.item(*args)

    def tolist(self) -> Any:
        """Return the values as nested Python lists."""
        return self.numbers.tolist()

    def tobytes(self) -> bytes:
        """Return the values as bytes in C order."""
        return self.numbers.tobytes()

    def __reduce__(self) -> tuple:
        return _unpickle, (self.aval, read_only(self.host))

    def __copy__(self) -> Array:
        return self

    def __deepcopy__(self, memo: Any) -> Array:
        return Array(self.aval, self.host.copy())

    def __repr__(self) -> str:
        if self.is_deleted():
            return f"Array<deleted, {self.aval}>"
        if self.aval.dtype is dtypes.key:
            return f"Array({self.aval.shape}, dtype={dtypes.key}) overlaying:\n{self.host['fry']}"
        text = np.array2string(self.host, separator=", ", prefix="Array(", max_line_width=88)
        weak = ", weak_type=True" if self.aval.weak_type else ""
        if self.aval.size == 0:
            return f"Array([], shape={self.aval.shape}, dtype={self.aval.dtype.name}{weak})"
        return f"Array({text}, dtype={self.aval.dtype.name}{weak})"

    def __str__(self) -> str:
        return repr(self) if self.aval.dtype is dtypes.key else str(self.host)


def _unpickle(aval: ShapedArray, value: np.ndarray) -> Array:
    return Array(aval, value)


def read_only(value: np.ndarray) -> np.ndarray:
    """Return a read-only view: arrays are immutable, and so are their views."""
    if value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def as_array(x: Any) -> Array:
    """Convert an Array, NumPy value or Python scalar to an Array, which does not alias memory of the caller."""
    if type(x) is Array:
        return x
    if isinstance(x, Tracer):
        check_not_leaked(x)
        return x
    _check_is_value(x)
    aval = aval_of(x)
    return Array(aval, quiet.run(np.array, x, aval.dtype))


def _check_is_value(x: Any) -> None:
    if isinstance(x, ShapeDtypeStruct):
        raise ArgumentError(
            f"{x!r} is a type, not a value", fix="pass an array; eval_shape, jit(f).lower and jit(f).trace take types"
        )


class TracedOperandError(Exception):
    """A tracer where a concrete operand is required."""


def as_operand(x: Any) -> Array:
    """Convert an operand of an eager operation to an Array, which may alias a NumPy array; raise for a tracer."""
    if isinstance(x, Tracer):
        raise TracedOperandError
    _check_is_value(x)
    aval = aval_of(x)
    return Array(aval, quiet.run(np.asarray, x, aval.dtype))


def as_result(aval: ShapedArray, value: Any) -> Array:
    """Convert the result of a NumPy rule to an Array of type `aval`."""
    if type(value) is not np.ndarray or value.dtype != aval.dtype:
        value = quiet.run(np.asarray, value, aval.dtype)
    return Array(aval, value)
