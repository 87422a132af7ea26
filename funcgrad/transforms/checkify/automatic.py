"""Automatic checks: NaNs, divisions by zero, and out-of-bounds indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import Primitive
from funcgrad.ops.arithmetic import rem_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.dynamic_slices import dynamic_slice_p, dynamic_update_slice_p
from funcgrad.ops.gather_scatter import (
    gather_p,
    scatter_add_p,
    scatter_max_p,
    scatter_min_p,
    scatter_mul_p,
    scatter_p,
    scatter_sub_p,
)
from funcgrad.ops.indexing import window_sizes
from funcgrad.ops.logic import eq_p, gt_p, lt_p, ne_p, or_p
from funcgrad.ops.reductions import argmax, reduce_or
from funcgrad.ops.shapes import broadcast_in_dim, reshape
from funcgrad.ops.slicing import concatenate
from funcgrad.transforms.checkify.error import Error, error_if, first
from funcgrad.transforms.checkify.exceptions import DivisionByZeroError, JaxException, NaNError, OOBError

Enabled = frozenset[type[JaxException]]
SCATTERS = (scatter_p, scatter_add_p, scatter_sub_p, scatter_mul_p, scatter_min_p, scatter_max_p)


def check_division(error: Error, enabled: Enabled, args: Sequence[Any]) -> Error:
    """Return the error after a division that is checked for zeros in its denominator."""
    if DivisionByZeroError not in enabled:
        return error
    zero = _any(eq_p.bind(args[1], np.zeros((), aval_of(args[1]).dtype)))
    return first(error, error_if(zero, DivisionByZeroError(traces.state.source)))


def check_nan(error: Error, enabled: Enabled, primitive: Primitive, results: Sequence[Any]) -> Error:
    """Return the error after an operation whose results are checked for NaNs."""
    if NaNError in enabled:
        for x in results:
            if dtypes.is_inexact(aval_of(x).dtype):
                error = first(error, error_if(_any(ne_p.bind(x, x)), NaNError(traces.state.source, primitive.name)))
    return error


def _any(mask: Any) -> Any:
    return reduce_or(mask, range(aval_of(mask).ndim))


# ---------------------------------------------------------------- indices: (index vectors, their dimensions, window)

Indices = tuple[Any, Sequence[int], Sequence[int]]


def _stacked(starts: Sequence[Any]) -> Any:
    dtype = aval_of(starts[0]).dtype
    return concatenate([reshape(convert_element_type(s, dtype), (1,)) for s in starts], 0)


def _of_gather(args: Sequence[Any], params: dict[str, Any]) -> Indices:
    return args[1], params["dimension_numbers"].start_index_map, params["slice_sizes"]


def _of_scatter(args: Sequence[Any], params: dict[str, Any]) -> Indices:
    operand, indices, updates = args
    numbers = params["dimension_numbers"]
    sizes = window_sizes(aval_of(operand).shape, aval_of(updates).shape, numbers)
    return indices, numbers.scatter_dims_to_operand_dims, sizes


def _of_dynamic_slice(args: Sequence[Any], params: dict[str, Any]) -> Indices:
    return _stacked(args[1:]), range(len(args) - 1), params["slice_sizes"]


def _of_dynamic_update_slice(args: Sequence[Any], params: dict[str, Any]) -> Indices:
    return _stacked(args[2:]), range(len(args) - 2), aval_of(args[1]).shape


INDICES: dict[Primitive, Callable[..., Indices]] = {
    gather_p: _of_gather,
    dynamic_slice_p: _of_dynamic_slice,
    dynamic_update_slice_p: _of_dynamic_update_slice,
    **dict.fromkeys(SCATTERS, _of_scatter),
}


def check_indices(
    error: Error, enabled: Enabled, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]
) -> Error:
    """Return the error after the check of windows: 0 ≤ start ≤ size of the axis − size of the window.

    The first that is not inside is reported.
    """
    shape = aval_of(args[0]).shape
    if OOBError not in enabled or not shape or 0 in aval_of(args[1]).shape:
        return error
    indices, dims, sizes = INDICES[primitive](args, params)
    aval = aval_of(indices)
    last = np.array([shape[d] - sizes[d] for d in dims], np.int64)
    last = np.minimum(last, np.iinfo(aval.dtype).max).astype(aval.dtype)
    outside = gt_p.bind(indices, broadcast_in_dim(last, aval.shape, (aval.ndim - 1,)))
    if aval.dtype.kind == "i":
        outside = or_p.bind(outside, lt_p.bind(indices, np.zeros((), aval.dtype)))
    size = math.prod(aval.shape)
    place = argmax(reshape(outside, (size,)), 0)
    entry = rem_p.bind(place, np.int32(len(dims)))
    payload = concatenate(
        [
            convert_element_type(_lookup(reshape(indices, (size,)), place), dtypes.int32),
            _lookup(np.array(dims, np.int32), entry),
            _lookup(np.array([shape[d] for d in dims], np.int32), entry),
        ],
        0,
    )
    return first(error, error_if(_any(outside), OOBError(traces.state.source, primitive.name, shape, payload)))


def _lookup(table: Any, i: Any) -> Any:
    return dynamic_slice_p.bind(table, i, slice_sizes=(1,))
