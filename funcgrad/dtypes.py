"""Dtypes: names, 32-bit defaults, weak types and the promotion lattice.

The lattice is that of JAX: bool → weak int → {u8, i8, …}; u8 → {i16, u16}; …; i64, u64 → weak float → {bf16, f16, weak
complex}; bf16, f16 → f32 → {f64, c64}; f64, c64 → c128. A *weak* type is that of a Python scalar, and promotes to any
array dtype of the same kind. Two types promote to their least upper bound in the lattice.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np

from funcgrad.config import config
from funcgrad.errors import DTypeError, TypePromotionError, warn

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
bfloat16 = np.dtype(ml_dtypes.bfloat16)
float16, float32, float64 = (np.dtype(f"float{n}") for n in (16, 32, 64))
complex64, complex128 = np.dtype(np.complex64), np.dtype(np.complex128)


# The tangent dtype of integers, a void NumPy dtype as in JAX.
float0 = np.dtype([("float0", np.void, 0)])


class extended(np.generic):
    """The abstract scalar type of elements that are not numbers."""


class prng_key(extended):
    """The abstract scalar type of random keys.

    >>> from funcgrad import random
    >>> issubdtype(random.key(0).dtype, prng_key)
    True
    """


class KeyDType:
    """The dtype of random keys. NumPy converts it to `dtype`, that of the two words of a key in memory."""

    name = "key<fry>"
    type = prng_key
    kind = "V"
    itemsize = 8
    dtype = np.dtype([("fry", np.uint32, (2,))])

    def __eq__(self, other: object) -> bool:
        return other is self or (isinstance(other, np.dtype) and other == self.dtype)

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return "key"


key: Any = KeyDType()

ALL = (
    bool_,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
    bfloat16,
    float16,
    float32,
    float64,
    complex64,
    complex128,
)

_SHORT = {"bool": "bool", "bfloat16": "bf16"} | {
    f"{kind}{bits}": f"{letter}{bits}"
    for kind, letter in (("int", "i"), ("uint", "u"), ("float", "f"), ("complex", "c"))
    for bits in (8, 16, 32, 64, 128)
}
_CANONICAL = {int64: int32, uint64: uint32, float64: float32, complex128: complex64}
_PYTHON_SCALARS: dict[type, np.dtype] = {int: int64, float: float64, complex: complex128}
_KNOWN = {d.name: d for d in ALL}


@functools.lru_cache
def short_name(dtype: np.dtype) -> str:
    """Return the name that jaxprs print: f32, i8, bool, bf16."""
    return "float0" if dtype == float0 else _SHORT.get(dtype.name, dtype.name)


def as_dtype(dtype: Any) -> np.dtype:
    """Return the NumPy dtype that `dtype` names, without 32-bit canonicalization.

    >>> as_dtype("bfloat16"), as_dtype(float)
    (dtype(bfloat16), dtype('float64'))
    """
    if dtype is key:
        return key
    if isinstance(dtype, np.dtype):
        found = dtype
    elif isinstance(dtype, str) and dtype in _KNOWN:
        return _KNOWN[dtype]
    elif hasattr(dtype, "aval"):
        raise DTypeError(f"{dtype!r:.60} is an array, not a dtype", fix="pass its dtype, x.dtype, or a dtype's name")
    elif dtype in _PYTHON_SCALARS:
        return _PYTHON_SCALARS[dtype]
    else:
        try:
            found = np.dtype(dtype)
        except TypeError as e:
            raise DTypeError(f"{dtype!r} is not a dtype", fix=f"use one of {', '.join(_KNOWN)}") from e
    if found.name not in _KNOWN and found != float0:
        raise DTypeError(
            f"dtype {found.name!r} is not supported by arrays", fix=f"convert to one of {', '.join(_KNOWN)}"
        )
    return found


def canonicalize(dtype: Any) -> np.dtype:
    """Return `dtype`, with 64-bit types narrowed to 32 bits unless `enable_x64` is set."""
    found = as_dtype(dtype)
    return found if config.enable_x64 else _CANONICAL.get(found, found)


def requested(dtype: Any, operation: str) -> np.dtype:
    """Canonicalize a dtype that the user requested; warn if it is narrowed because `enable_x64` is off."""
    found = as_dtype(dtype)
    result = canonicalize(found)
    # Python's `float`, `int` and `complex` mean the default width, so no warning for them.
    if result != found and dtype not in _PYTHON_SCALARS:
        warn(
            f"{operation}: dtype {found.name} was requested but 64-bit types are disabled; using {result.name}. "
            "fix: funcgrad.config.update('enable_x64', True), or request the 32-bit type"
        )
    return result


def is_integer(dtype: np.dtype) -> bool:
    """True for signed and unsigned integers (not bool)."""
    return dtype.kind in "iu"


def is_float(dtype: np.dtype) -> bool:
    """True for real floating types, bfloat16 included."""
    return dtype.kind == "f" or dtype == bfloat16


def is_complex(dtype: np.dtype) -> bool:
    """True for complex64 and complex128."""
    return dtype.kind == "c"


def is_inexact(dtype: np.dtype) -> bool:
    """True for real and complex floating types, which have derivatives."""
    return is_float(dtype) or is_complex(dtype)


def inexact(dtype: np.dtype, weak: bool = False) -> np.dtype:
    """Return the dtype of a function of `dtype` that gives floats: float32 for bools and integers of up to 32 bits.

    Weak types and 64-bit integers give the default float.

    >>> inexact(int16), inexact(float16)
    (dtype('float32'), dtype('float16'))
    """
    if is_inexact(dtype):
        return dtype
    return canonicalize(float) if weak or dtype.itemsize == 8 else float32


def tangent_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of tangents: the same dtype if it is inexact, otherwise float0."""
    return dtype if is_inexact(dtype) else float0


def real_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of the real part of a value of `dtype`."""
    return {complex64: float32, complex128: float64}.get(dtype, dtype)


def complex_dtype(dtype: np.dtype) -> np.dtype:
    """Return the complex dtype that holds real values of `dtype`."""
    return complex128 if dtype in (float64, complex128) else complex64


def finfo(dtype: Any) -> Any:
    """Return the machine limits of a floating dtype, like `numpy.finfo`, including bfloat16."""
    return ml_dtypes.finfo(as_dtype(dtype)) if as_dtype(dtype) == bfloat16 else np.finfo(as_dtype(dtype))


def iinfo(dtype: Any) -> np.iinfo:
    """Return the limits of an integer dtype, like `numpy.iinfo`."""
    return np.iinfo(as_dtype(dtype))


def itemsize_bits(dtype: Any) -> int:
    """Return the number of bits of an element."""
    return 8 * as_dtype(dtype).itemsize


def scalar_type_of(x: Any) -> type:
    """Return the Python type of the kind of a number or array: bool, int, float or complex."""
    dtype = as_dtype(getattr(x, "dtype", type(x)))
    return bool if dtype == bool_ else int if is_integer(dtype) else float if is_float(dtype) else complex


canonicalize_dtype = canonicalize

# The lattice: each type and the types directly above it. "i*", "f*", "c*" are the weak types of Python scalars.
_ABOVE: dict[Any, tuple[Any, ...]] = {
    bool_: ("i*",),
    "i*": (uint8, int8),
    uint8: (int16, uint16),
    uint16: (int32, uint32),
    uint32: (int64, uint64),
    uint64: ("f*",),
    int8: (int16,),
    int16: (int32,),
    int32: (int64,),
    int64: ("f*",),
    "f*": (bfloat16, float16, "c*"),
    bfloat16: (float32,),
    float16: (float32,),
    float32: (float64, complex64),
    float64: (complex128,),
    "c*": (complex64,),
    complex64: (complex128,),
    complex128: (),
    key: (),
}
_WEAK_NODE = {"i": "i*", "u": "i*", "f": "f*", "c": "c*", "V": "f*"}
_WEAK_DTYPE = {"i*": int64, "f*": float64, "c*": complex128}
_WEAK_NAMES = {"i*": "a Python int", "f*": "a Python float", "c*": "a Python complex"}


@functools.cache
def _upper_bounds(node: Any) -> frozenset[Any]:
    return frozenset({node}).union(*(_upper_bounds(n) for n in _ABOVE[node]))


@functools.cache
def _join(nodes: frozenset[Any]) -> Any:
    """Least upper bound: the common upper bound that is below all others."""
    common = frozenset.intersection(*(_upper_bounds(n) for n in nodes))
    least = [n for n in common if common <= _upper_bounds(n)]
    if not least:
        names = " and ".join(sorted(_WEAK_NAMES[n] if isinstance(n, str) else n.name for n in nodes))
        fix = "compute with random.key_data(keys)" if key in nodes else "cast one with .astype(...)"
        raise TypePromotionError(f"{names} have no common type to promote to", fix=fix)
    return least[0]


def _node(dtype: np.dtype, weak: bool) -> Any:
    return _WEAK_NODE[dtype.kind] if weak and dtype != bool_ else dtype


def promote(types: tuple[tuple[np.dtype, bool], ...]) -> tuple[np.dtype, bool]:
    """Return the common (dtype, weak_type) of several (dtype, weak_type) pairs.

    >>> promote(((int32, False), (float32, True)))
    (dtype('float32'), True)
    >>> promote(((int8, False), (int32, True)))
    (dtype('int8'), False)
    """
    return _promote(types, config.enable_x64, config.numpy_dtype_promotion)


@functools.cache
def _promote(types: tuple[tuple[np.dtype, bool], ...], x64: bool, mode: str) -> tuple[np.dtype, bool]:
    strong = {d for d, weak in types if not weak}
    if mode == "strict" and len(strong) > 1:
        names = " and ".join(sorted(d.name for d in strong))
        raise TypePromotionError(
            f"{names} have no implicit promotion when numpy_dtype_promotion is 'strict'",
            fix="cast one operand with .astype(...)",
        )
    for d, _ in types:
        if d not in _ABOVE:
            raise TypePromotionError(
                f"{d.name} does not promote implicitly", fix="cast it explicitly with .astype(...)"
            )
    node = _join(frozenset(_node(d, weak) for d, weak in types))
    if isinstance(node, str):
        # A weak result has the default width: weak f32 + weak i32 is weak f32.
        return (_WEAK_DTYPE[node] if x64 else _CANONICAL[_WEAK_DTYPE[node]]), True
    # The result is strongly typed: bool is never weak, and weak nodes were handled above.
    return (node if x64 else _CANONICAL.get(node, node)), False


def of_python_scalar(value: Any) -> np.dtype | None:
    """Return the canonical dtype of a Python bool, int, float or complex (subclasses included), or None."""
    for kind, dtype in ((bool, bool_), (int, int64), (float, float64), (complex, complex128)):
        if isinstance(value, kind):
            return canonicalize(dtype)
    return None


def issubdtype(a: Any, b: Any) -> bool:
    """Whether dtype `a` is a subtype of `b` in NumPy's type hierarchy; bfloat16 is floating, keys are `extended`.

    >>> issubdtype(bfloat16, np.floating), issubdtype("int8", np.integer), issubdtype(float32, "float32")
    (True, True, True)
    """
    one, kind = (_plain(x) for x in (a, b))
    if one is key:
        return kind in (key, prng_key, extended, np.generic)
    if kind is key or (isinstance(kind, type) and issubclass(kind, extended)):
        return False
    if _is_bfloat16(one):
        return kind in (np.floating, np.inexact, np.number, np.generic) or _is_bfloat16(kind)
    return not _is_bfloat16(kind) and np.issubdtype(one, kind)


def _plain(x: Any) -> Any:
    """Return the dtype of an array or of a scalar type of this library, and other dtypes as they are."""
    dtype = getattr(x, "dtype", None)
    return dtype if isinstance(dtype, np.dtype) and x is not key else x


def _is_bfloat16(x: Any) -> bool:
    return x is ml_dtypes.bfloat16 or (isinstance(x, (str, np.dtype)) and x == bfloat16)


def result_type(*args: Any, return_weak_type_flag: bool = False) -> Any:
    """Return the dtype that arrays, scalars and dtypes promote to in an operation, and whether it is weak, if asked.

    >>> result_type(int8, 1), result_type("int32", 1.0)
    (dtype('int8'), dtype('float32'))
    """
    dtype, weak = promote(tuple(map(_type_of, args)))
    return (dtype, weak) if return_weak_type_flag else dtype


def _type_of(x: Any) -> tuple[Any, bool]:
    """Return the dtype of an array, scalar or dtype, and whether it is weak, as those of Python's types are."""
    aval = getattr(x, "aval", None)
    if aval is not None:
        return aval.dtype, aval.weak_type
    if isinstance(x, type):
        return canonicalize(x), x in _PYTHON_SCALARS
    scalar = None if isinstance(x, np.generic) else of_python_scalar(x)
    if scalar is not None:
        return scalar, scalar != bool_
    return canonicalize(x.dtype if isinstance(x, (np.ndarray, np.generic)) else x), False


def promote_types(a: Any, b: Any) -> np.dtype:
    """Return the dtype that dtypes `a` and `b` promote to; Python types are weak.

    >>> promote_types("int32", "float16")
    dtype('float16')
    """
    return result_type(a, b)
