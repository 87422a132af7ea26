"""Base classes of arrays, and abstract values of everything that is accepted as an array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import ArgumentError


class ArrayLike:
    """Base class of `Array` and `Tracer`. `funcgrad.numpy.operators` attaches the operators and methods."""

    __slots__ = ()
    # Higher than that of NumPy, so that `np_array + array` calls our __radd__.
    __array_priority__ = 100
    aval: ShapedArray

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: len(self.aval.shape))
    size = property(lambda self: self.aval.size)
    weak_type = property(lambda self: self.aval.weak_type)
    nbytes = property(lambda self: self.aval.nbytes)
    itemsize = property(lambda self: self.aval.dtype.itemsize)

    def __len__(self) -> int:
        if not self.aval.shape:
            raise ArgumentError("len() of a 0-d array", fix="use .size, or reshape to one dimension")
        return self.aval.shape[0]

    def __hash__(self) -> int:
        raise ArgumentError(
            f"unhashable type: {type(self).__name__} of type {self.aval}",
            fix="arrays are values, not keys: use id(x), x.tobytes(), or pass it as a traced argument",
        )

    def block_until_ready(self) -> Any:
        """Return the array. There is nothing to wait for: CPU programs finish before they return."""
        return self


class Reference:
    """Base of `transforms.refs.Ref`, a cell whose contents change; `aval` is the type of the contents.

    It is not an array. Recorded jaxprs refer to it by a constant or an input of the type of its contents.
    """

    __slots__ = ()
    aval: ShapedArray


class SymbolicValue:
    """Base class of values that have a type and are never computed; see `core.symbolic`."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.aval})"


def aval_of(x: Any) -> ShapedArray:
    """Return the abstract value of an array, tracer, NumPy value or Python scalar.

    >>> aval_of(1.0)
    f32[]{weak_type=True}
    """
    if isinstance(x, (ArrayLike, SymbolicValue)):
        return x.aval
    if isinstance(x, (np.ndarray, np.generic)):
        dtype = x.dtype if x.dtype == dtypes.float0 else dtypes.canonicalize(x.dtype)
        return ShapedArray(x.shape, dtype)
    scalar = dtypes.of_python_scalar(x)
    if scalar is not None:
        return ShapedArray((), scalar, scalar != dtypes.bool_)
    if isinstance(x, Reference):
        raise ArgumentError(
            f"a Ref with contents of type {x.aval} is not an array",
            fix="read it with ref[...]; a function that reads or writes it may close over it",
        )
    aval = getattr(x, "aval", None)
    if isinstance(aval, ShapedArray):
        return aval
    raise ArgumentError(
        f"{x!r:.80} of type {type(x).__name__} is not an array",
        fix=f"{remedy_for_no_array(x)}; a function may close over other objects, or take them as static arguments",
    )


def remedy_for_no_array(x: Any) -> str:
    """Return the remedy for an argument that is not an array, depending on its type."""
    if x is None:
        return "check why it is None: a function may lack a `return`"
    if isinstance(x, (list, tuple)):
        return "convert lists and other sequences with funcgrad.numpy.asarray first"
    if isinstance(x, dict):
        return "pass one entry, or apply the function to each with funcgrad.tree.map"
    if isinstance(x, str):
        return "convert the text with float() or int() first"
    if isinstance(x, (set, frozenset, Iterator)):
        return "collect the elements in a list, and convert that with funcgrad.numpy.asarray"
    if callable(x):
        return "call it, and pass what it returns"
    return "pass an array, a NumPy array or a Python number"
