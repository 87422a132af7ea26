"""Abstract values: the shape, dtype and weak type of arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.errors import ArgumentError, DTypeError


class ShapedArray:
    """Shape, dtype and weak-type flag of an array; interned, so equal avals are one object.

    >>> ShapedArray((2, 3), dtypes.float32)
    f32[2,3]
    """

    __slots__ = ("shape", "dtype", "weak_type", "__weakref__")
    shape: tuple[int, ...]
    dtype: np.dtype
    weak_type: bool

    _interned: dict[tuple, ShapedArray] = {}

    def __new__(cls, shape: tuple[int, ...], dtype: np.dtype, weak_type: bool = False) -> ShapedArray:
        key = (shape, dtype, weak_type)
        found = cls._interned.get(key)
        if found is None:
            found = object.__new__(cls)
            found.shape, found.dtype, found.weak_type = shape, dtype, weak_type
            # setdefault is atomic, so two racing threads get the same object.
            found = cls._interned.setdefault(key, found)
        return found

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def sharding(self) -> None:
        """None: there is one device, as for `ShapeDtypeStruct`."""
        return None

    def update(
        self, *, shape: tuple[int, ...] | None = None, dtype: np.dtype | None = None, weak_type: bool | None = None
    ) -> ShapedArray:
        """Return an aval with the given fields replaced."""
        return ShapedArray(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else dtype,
            self.weak_type if weak_type is None else weak_type,
        )

    def strengthened(self) -> ShapedArray:
        """Return the same aval, strongly typed."""
        return ShapedArray(self.shape, self.dtype) if self.weak_type else self

    def tangent(self) -> ShapedArray:
        """Return the aval of tangents of values of this aval."""
        return ShapedArray(self.shape, dtypes.tangent_dtype(self.dtype), self.weak_type)

    def __reduce__(self) -> tuple:
        return ShapedArray, (self.shape, self.dtype, self.weak_type)

    def short(self) -> str:
        """Return the text that jaxprs print: dtype and shape, without the weak type."""
        return f"{dtypes.short_name(self.dtype)}[{','.join(map(str, self.shape))}]"

    def __repr__(self) -> str:
        return self.short() + ("{weak_type=True}" if self.weak_type else "")


def refuse_keys(operation: str, *avals: ShapedArray) -> None:
    """Raise if one of the types is that of random keys, which are not numbers."""
    for aval in avals:
        if aval.dtype is dtypes.key:
            raise DTypeError(
                f"{operation}: {aval} holds random keys, which are not numbers",
                fix="compute with random.key_data(keys), uint32[*shape, 2], and convert back with random.wrap_key_data",
            )


class ShapeDtypeStruct:
    """Shape and dtype of an array that need not exist; `eval_shape` returns it and `lower` accepts it.

    >>> ShapeDtypeStruct((2,), "float32")
    ShapeDtypeStruct(shape=(2,), dtype=float32)
    """

    __slots__ = ("shape", "dtype", "weak_type")

    def __init__(self, shape: Any, dtype: Any, *, weak_type: bool = False, sharding: Any = None):
        self.shape = tuple(shape)
        self.dtype = dtypes.canonicalize(dtype)
        self.weak_type = weak_type

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    aval = property(lambda self: ShapedArray(self.shape, self.dtype, self.weak_type))
    sharding = property(lambda self: None)

    def update(self, **changes: Any) -> ShapeDtypeStruct:
        """Return the type with `shape`, `dtype` or `weak_type` replaced."""
        fields: dict[str, Any] = {"shape": self.shape, "dtype": self.dtype, "weak_type": self.weak_type}
        return ShapeDtypeStruct(**(fields | changes))

    def __len__(self) -> int:
        if not self.shape:
            raise ArgumentError("len() of the type of a 0-d array", fix="use .size")
        return self.shape[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and self.aval is other.aval

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        weak = ", weak_type=True" if self.weak_type else ""
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype.name}{weak})"
