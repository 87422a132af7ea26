"""Pytrees as vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import full, reshape
from funcgrad.ops.slicing import concatenate, slice_
from funcgrad.transforms.flattening import as_arrays, places


def ravel_pytree(pytree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Concatenate the leaves of a pytree into a vector of their common dtype; return it and the inverse function.

    >>> vector, unravel = ravel_pytree({"a": np.ones((2,), "float32"), "b": 3.0})
    >>> vector
    Array([1., 1., 3.], dtype=float32)
    >>> unravel(vector * 2)["b"]
    Array(6., dtype=float32)
    """
    leaves, structure = tree.flatten(pytree)
    arrays = as_arrays(leaves, "ravel_pytree", places("pytree", structure))
    avals = [aval_of(a) for a in arrays]
    if not arrays:
        dtype = dtypes.canonicalize(float)
        vector = full((0,), 0, dtype)
    else:
        dtype = dtypes.promote(tuple((a.dtype, a.weak_type) for a in avals))[0]
        vector = concatenate([reshape(convert_element_type(a, dtype), (a.aval.size,)) for a in arrays], 0)
    ends = np.cumsum([0, *(a.size for a in avals)]).tolist()

    def unravel(flat: Any) -> Any:
        have = aval_of(flat)
        if have.shape != (ends[-1],) or have.dtype != dtype:
            raise ArgumentError(
                f"unravel: a vector of type {have} was passed, but the pytree has {ends[-1]} elements of {dtype.name}",
                fix="pass a vector of the size and dtype that ravel_pytree returned",
            )
        parts = [
            convert_element_type(reshape(slice_(flat, (start,), (stop,)), aval.shape), aval.dtype)
            for aval, start, stop in zip(avals, ends[:-1], ends[1:], strict=True)
        ]
        return structure.unflatten(parts)

    return vector, unravel


_explain_missing_names(__name__)
