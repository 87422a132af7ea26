"""Validation of labels and row indices: invalid concrete ones raise, and invalid traced ones give NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError


def concrete_or_none(x: Any) -> np.ndarray | None:
    """Return the concrete value of an array, or None if it is traced."""
    return x.concrete() if isinstance(x, Tracer) else x.host


def widen(labels: Any, count: int) -> Any:
    """Return labels in a dtype that can represent `count`: in int8, class 261 would equal label 5."""
    if dtypes.is_integer(labels.dtype) and count > np.iinfo(labels.dtype).max:
        return labels.astype(dtypes.canonicalize(int))
    return labels


def validity(labels: Any, valid: Any, dtype: Any, problem: str, fix: str) -> Any:
    """Return a factor for results: NaN where a traced label is invalid, and otherwise 1.

    `valid` is a function from labels to bools. A concrete label that is invalid raises ArgumentError, with the message
    `problem`, in which the label and its index are filled in. Unlike `where`, the factor makes the derivative NaN too.
    """
    known = concrete_or_none(labels)
    if known is None:
        return jnp.where(valid(labels), jnp.ones((), dtype), np.nan)
    invalid = ~np.asarray(valid(known))
    if invalid.any():
        index = tuple(map(int, np.argwhere(invalid)[0]))
        where = f" at index {index}" if index else ""
        raise ArgumentError(problem.format(f"{known[index]}{where}"), fix=fix)
    return 1
