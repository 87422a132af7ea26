"""Scalar types, constants, and functions that inspect and promote dtypes."""

from __future__ import annotations

import builtins
import math
from typing import Any, Literal

import ml_dtypes
import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.errors import DTypeError
from funcgrad.numpy.creation import asarray

__all__ = [
    "ComplexWarning",
    "bfloat16",
    "bool",
    "bool_",
    "can_cast",
    "cdouble",
    "character",
    "complex128",
    "complex64",
    "complex_",
    "complexfloating",
    "csingle",
    "double",
    "dtype",
    "e",
    "euler_gamma",
    "finfo",
    "flexible",
    "float16",
    "float32",
    "float64",
    "float_",
    "floating",
    "generic",
    "iinfo",
    "inexact",
    "inf",
    "int16",
    "int32",
    "int64",
    "int8",
    "int_",
    "integer",
    "iscomplexobj",
    "isdtype",
    "isrealobj",
    "isscalar",
    "issubdtype",
    "iterable",
    "nan",
    "ndarray",
    "ndim",
    "newaxis",
    "number",
    "object_",
    "pi",
    "promote_types",
    "result_type",
    "shape",
    "signedinteger",
    "single",
    "size",
    "uint",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "unsignedinteger",
]

pi, e, inf, nan, euler_gamma, newaxis = math.pi, math.e, math.inf, math.nan, np.euler_gamma, None
ndarray = ArrayLike
dtype = np.dtype
ComplexWarning = np.exceptions.ComplexWarning


class ScalarType(type):
    """A scalar type such as ``jnp.float32``. Calling it makes an array; it equals NumPy's type of the same name.

    >>> import funcgrad.numpy as jnp
    >>> jnp.float32(1), jnp.float32 == np.float32, jnp.zeros(2, jnp.int8).dtype == jnp.int8
    (Array(1., dtype=float32), True, True)
    """

    dtype: np.dtype

    def __call__(cls, x: Any = 0) -> Any:
        return asarray(x, dtype=cls.dtype)

    def __eq__(cls, other: object) -> builtins.bool:
        return cls is other or cls.dtype.type is other or (isinstance(other, (np.dtype, str)) and cls.dtype == other)

    def __hash__(cls) -> int:
        return hash(cls.dtype.type)

    def __repr__(cls) -> str:
        return f"<class 'funcgrad.numpy.{cls.__name__}'>"

    def __instancecheck__(cls, instance: Any) -> builtins.bool:
        return isinstance(instance, cls.dtype.type)


def _scalar_type(name: str, dtype: Any) -> ScalarType:
    return ScalarType(name, (object,), {"dtype": np.dtype(dtype), "__doc__": f"Arrays of {name}."})


bool_ = _scalar_type("bool_", np.bool_)
int8, int16, int32, int64 = (_scalar_type(f"int{n}", f"i{n // 8}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (_scalar_type(f"uint{n}", f"u{n // 8}") for n in (8, 16, 32, 64))
bfloat16 = _scalar_type("bfloat16", ml_dtypes.bfloat16)
float16, float32, float64 = (_scalar_type(f"float{n}", f"f{n // 8}") for n in (16, 32, 64))
complex64, complex128 = _scalar_type("complex64", "c8"), _scalar_type("complex128", "c16")
single, double, csingle, cdouble = float32, float64, complex64, complex128
int_, uint, float_, complex_ = int64, uint64, float64, complex128

generic, number, inexact, floating = np.generic, np.number, np.inexact, np.floating
integer, signedinteger, unsignedinteger = np.integer, np.signedinteger, np.unsignedinteger
complexfloating, flexible, character, object_ = np.complexfloating, np.flexible, np.character, np.object_


def finfo(dtype: Any) -> Any:
    """Machine limits of a floating dtype: eps, max, tiny, …; for a complex dtype, those of its real type."""
    return dtypes.finfo(_dtype_of(dtype))


def iinfo(dtype: Any) -> np.iinfo:
    """Limits of an integer dtype: min, max, bits."""
    return np.iinfo(_dtype_of(dtype))


def _dtype_of(x: Any) -> np.dtype:
    return x.dtype if isinstance(x, (ArrayLike, np.ndarray, np.generic)) else dtypes.as_dtype(x)


_KINDS = {
    "bool": lambda d: d == dtypes.bool_,
    "signed integer": lambda d: d.kind == "i",
    "unsigned integer": lambda d: d.kind == "u",
    "integral": dtypes.is_integer,
    "real floating": dtypes.is_float,
    "complex floating": dtypes.is_complex,
    "numeric": lambda d: d != dtypes.bool_,
}


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether a dtype is of a kind of the array API standard, such as "integral", or of any kind in a tuple."""
    found = dtypes.as_dtype(dtype)
    if isinstance(kind, tuple):
        return builtins.any(isdtype(found, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return _KINDS[kind](found)
    try:
        return found == dtypes.as_dtype(kind)
    except DTypeError:
        raise DTypeError(
            f"isdtype: {kind!r} is not a kind of dtype", fix=f"use a dtype or one of {', '.join(_KINDS)}"
        ) from None


Casting = Literal["no", "equiv", "safe", "same_kind", "unsafe"]


def can_cast(from_: Any, to: Any, casting: Casting = "safe") -> builtins.bool:
    """Whether a cast is allowed under NumPy's rules."""
    return np.can_cast(_dtype_of(from_), _dtype_of(to), casting=casting)


def isscalar(element: Any) -> builtins.bool:
    """Whether an object is a number or a 0-d array."""
    return element.ndim == 0 if isinstance(element, (ArrayLike, np.ndarray)) else np.isscalar(element)


def iterable(y: Any) -> builtins.bool:
    """Whether an object can be iterated over."""
    return y.ndim > 0 if isinstance(y, ArrayLike) else np.iterable(y)


def iscomplexobj(x: Any) -> builtins.bool:
    """Whether the dtype is complex."""
    return dtypes.is_complex(aval_of(x).dtype if not isinstance(x, (list, tuple)) else np.asarray(x).dtype)


def isrealobj(x: Any) -> builtins.bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)


def shape(a: Any) -> tuple[int, ...]:
    """Shape of an array or scalar."""
    return np.shape(a) if isinstance(a, (list, tuple)) else aval_of(a).shape


def ndim(a: Any) -> int:
    """Number of dimensions."""
    return len(shape(a))


def size(a: Any, axis: Any = None) -> int:
    """Number of elements, in total or along the given axes."""
    sizes = shape(a)
    axes = range(len(sizes)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return math.prod(sizes[d] for d in axes)


issubdtype, promote_types, result_type = dtypes.issubdtype, dtypes.promote_types, dtypes.result_type

bool = bool_
