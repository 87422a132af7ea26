"""The checks of `debug_nans` and `debug_infs`: find the operation that made a NaN or an infinity, and its operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import NonFiniteError, SourceLocation


class Kinds(NamedTuple):
    """The kinds of values that are invalid."""

    nans: bool
    infs: bool

    def bad(self, x: Any) -> np.ndarray:
        """Return where `x` is invalid."""
        if not dtypes.is_inexact(x.dtype):
            return np.zeros(x.shape, bool)
        if self.nans and self.infs:
            return ~np.isfinite(x)
        return np.isnan(x) if self.nans else np.isinf(x)


def kinds() -> Kinds | None:
    """Return the kinds of values that the configuration rejects, or None."""
    return Kinds(config.debug_nans, config.debug_infs) if config.debug_nans or config.debug_infs else None


def check(
    operation: str,
    outputs: Sequence[Any],
    operands: Sequence[Any],
    kinds: Kinds,
    location: SourceLocation | None,
    *,
    elementwise: bool,
    given: bool,
    mask: np.ndarray | None = None,
    iteration: int | None = None,
) -> None:
    """Raise NonFiniteError for the first invalid element of the results of an operation.

    With `given`, an invalid element is an error even if an operand was invalid. Otherwise it is an error only if the
    operands were valid: those at its index for an elementwise operation, else all. `mask` selects the elements to
    check; `iteration` is the iteration of the enclosing loop.
    """
    for i, output in enumerate(outputs):
        bad = kinds.bad(output)
        if mask is not None:
            bad = bad & mask
        if bad.any() and not given:
            bad = bad & ~_inherited(operands, output.shape, kinds, elementwise)
        if not bad.any():
            continue
        index = tuple(int(n) for n in np.unravel_index(int(np.argmax(bad)), bad.shape))
        value, option = output[index], "debug_nans" if np.isnan(output[index]) else "debug_infs"
        result = f"{f'result {i}' if len(outputs) > 1 else 'the result'} {_type(output)}"
        place = f"at index {index} of {result}" if output.ndim else f"as {result}"
        when = "" if iteration is None else f" in iteration {iteration}"
        raise NonFiniteError(
            f"invalid value ({str(value).strip('()')}) encountered in {operation} {place}{when}"
            f"{_operands(operands, index, elementwise)}",
            fix=f"keep the operands where {operation} is defined, or turn {option} off",
            location=location,
        )


def _inherited(operands: Sequence[Any], shape: tuple[int, ...], kinds: Kinds, elementwise: bool) -> np.ndarray:
    """Return where an operand was invalid."""
    found = np.zeros(shape, bool)
    for x in operands:
        found |= kinds.bad(x) if elementwise else kinds.bad(x).any()
    return found


def _operands(operands: Sequence[Any], index: tuple[int, ...], elementwise: bool) -> str:
    """Describe the operands of an element: their values at its index, or a summary if they have no such element."""
    if not operands:
        return ""
    shown = [str(x[index] if x.ndim else x[()]) if elementwise else _summary(x) for x in operands]
    there = " there" if elementwise and index else ""
    return f"; operand{'s' if len(shown) > 1 else ''}{there}: {', '.join(shown)}"


def _summary(x: Any) -> str:
    """Summarize an operand: its type, and its value or range."""
    if x.size == 0:
        return _type(x)
    if x.size == 1:
        return f"{_type(x)} {x.reshape(())[()]}"
    if dtypes.is_complex(x.dtype) or x.dtype == bool:
        bad = f", {np.count_nonzero(~np.isfinite(x))} not finite" if x.dtype != bool else ""
        return f"{_type(x)}{bad}"
    wide = x.astype(np.float64) if x.dtype == dtypes.bfloat16 else x
    nans = np.count_nonzero(np.isnan(wide))
    if nans == x.size:
        return f"{_type(x)} all nan"
    return f"{_type(x)} from {np.nanmin(wide)} to {np.nanmax(wide)}" + (f", {nans} nan" if nans else "")


def _type(x: Any) -> str:
    return ShapedArray(x.shape, x.dtype).short()
