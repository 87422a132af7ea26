"""Labels and row numbers: wrong ones that are known raise, and wrong ones that are traced make NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError


def known_value(x: Any) -> np.ndarray | None:
    """Return the value of an array; None where it is not known, because it is traced."""
    return x.concrete() if isinstance(x, Tracer) else x.host


def widened(labels: Any, count: int) -> Any:
    """Return labels in a type that holds `count`: in int8, class 261 would be equal to label 5."""
    if dtypes.is_integer(labels.dtype) and count > np.iinfo(labels.dtype).max:
        return labels.astype(dtypes.canonicalize(int))
    return labels


def validity(labels: Any, valid: Any, dtype: Any, problem: str, fix: str) -> Any:
    """Return 1 where a traced label is valid and NaN elsewhere, to multiply results by; 1 where labels are known.

    `valid` is a function from labels to bools. A known label that is not valid is an ArgumentError: `problem` with
    the label and its index filled in. A product, unlike `where`, makes the derivative NaN as well.
    """
    known = known_value(labels)
    if known is None:
        return jnp.where(valid(labels), jnp.ones((), dtype), np.nan)
    wrong = ~np.asarray(valid(known))
    if wrong.any():
        index = tuple(map(int, np.argwhere(wrong)[0]))
        where = f" at index {index}" if index else ""
        raise ArgumentError(problem.format(f"{known[index]}{where}"), fix=fix)
    return 1
