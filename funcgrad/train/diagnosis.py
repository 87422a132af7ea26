"""Where the NaN of a training step comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.config import debug_infs, debug_nans, disable_jit
from funcgrad.errors import ArgumentError, NonFiniteError


def cause_of_nan(step: Callable[[Any, Any], Any], state: Any, batch: Any) -> str:
    """Return where the first NaN or infinity of a step is from: a leaf of the input, or an operation.

    The step runs again: op by op, which finds labels out of range, and with each operation checked.
    """
    for name, value in (("batch", batch), ("state", state)):
        found = _first(value, np.isnan)
        if found:
            return f"{name}{found} is NaN before the step"
    try:
        with disable_jit():
            step(state, batch)
    except ArgumentError as error:
        return error.summary
    for checks in (debug_nans, debug_infs):
        try:
            with checks():
                after, _ = step(state, batch)
        except NonFiniteError as error:
            return f"{error.summary}{f', at {error.location}' if error.location else ''}"
    found = _first(after, lambda x: ~np.isfinite(x))
    return f"state{found} is not finite after the step" if found else "no operation of the step makes a NaN or infinity"


def _first(value: Any, bad: Callable[[np.ndarray], np.ndarray]) -> str:
    """Return the path and index of the first element that is bad, or ""."""
    for path, leaf in tree.leaves_with_path(value):
        if not hasattr(leaf, "dtype") or not dtypes.is_inexact(leaf.dtype):
            continue
        mask = bad(np.asarray(leaf).astype(np.complex128 if dtypes.is_complex(leaf.dtype) else np.float64))
        if mask.any():
            index = tuple(map(int, np.argwhere(mask)[0]))
            return f"{tree.keystr(path)}{list(index) if index else ''}"
    return ""
