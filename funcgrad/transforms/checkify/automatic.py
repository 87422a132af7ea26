"""Checks that nobody wrote: NaNs, divisions by zero, and indices outside of their array."""

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
from funcgrad.ops.dynamic_slices import dynamic_slice_p
from funcgrad.ops.logic import eq_p, gt_p, lt_p, ne_p, or_p
from funcgrad.ops.reductions import argmax, reduce_or
from funcgrad.ops.scatters import window_sizes
from funcgrad.ops.shapes import broadcast_in_dim, reshape
from funcgrad.ops.slicing import concatenate
from funcgrad.transforms.checkify.error import Error, error_if, first
from funcgrad.transforms.checkify.exceptions import DivisionByZeroError, JaxException, NaNError, OOBError

# What can give a NaN from operands that have none.
_NAN_NAMES = """
    acos acosh add asin asinh atan atan2 atanh bessel_i0e bessel_i1e bessel_ive cbrt conv_general_dilated cos cosh
    cumlogsumexp cummax cummin cumprod cumsum digamma div dot_general erf erf_inv erfc exp expm1 fft hypot igamma
    igamma_grad_a igammac integer_pow lgamma linear_solve log log1p logaddexp logistic mul pad polygamma pow psum
    reduce reduce_prod reduce_sum reduce_window reduce_window_sum regularized_incomplete_beta rem rsqrt sin sinh sqrt
    sub tan tanh
"""
_MAY_GIVE_NAN = frozenset(_NAN_NAMES.split())
_SCATTERS = frozenset(("scatter", *(f"scatter-{kind}" for kind in ("add", "sub", "mul", "min", "max"))))


def checked_result(
    error: Error,
    enabled: frozenset[type[JaxException]],
    primitive: Primitive,
    args: Sequence[Any],
    out: Any,
    params: dict[str, Any],
) -> Error:
    """Return the error after `out = primitive(*args)`, with the checks that are enabled."""
    name = primitive.name
    if name == "div" and DivisionByZeroError in enabled:
        zero = _any(eq_p.bind(args[1], np.zeros((), aval_of(args[1]).dtype)))
        error = first(error, error_if(zero, DivisionByZeroError(traces.state.source)))
    if OOBError in enabled and name in _INDICES:
        error = _check_indices(error, name, args, params)
    # As in JAX, scatters are checked for NaNs together with their indices only.
    if NaNError in enabled and (name in _MAY_GIVE_NAN or (name in _SCATTERS and OOBError in enabled)):
        for x in out if primitive.multiple_results else [out]:
            if dtypes.is_inexact(aval_of(x).dtype):
                error = first(error, error_if(_any(ne_p.bind(x, x)), NaNError(traces.state.source, name)))
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


_INDICES: dict[str, Callable[..., Indices]] = {
    "gather": _of_gather,
    "dynamic_slice": _of_dynamic_slice,
    "dynamic_update_slice": _of_dynamic_update_slice,
    **dict.fromkeys(_SCATTERS, _of_scatter),
}


def _check_indices(error: Error, name: str, args: Sequence[Any], params: dict[str, Any]) -> Error:
    """Windows must lie inside: 0 ≤ start ≤ size of the axis − size of the window; report the first that does not."""
    shape = aval_of(args[0]).shape
    if not shape or 0 in aval_of(args[1]).shape:
        return error
    indices, dims, sizes = _INDICES[name](args, params)
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
    return first(error, error_if(_any(outside), OOBError(traces.state.source, name, shape, payload)))


def _lookup(table: Any, i: Any) -> Any:
    return dynamic_slice_p.bind(table, i, slice_sizes=(1,))
