"""Conversions between dtypes, and stop_gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.quiet import quiet
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.errors import DTypeError
from funcgrad.ops.elementwise import MOVABLE, elementwise, linear


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert as XLA does: float → int saturates and maps NaN to 0, complex → real drops the imaginary part."""
    return quiet.run(_cast, x, dtype)


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if x.dtype.kind == "c" and dtype.kind != "c":
        if dtype == dtypes.bool_:
            return x != 0
        x = x.real
    if dtypes.is_float(x.dtype) and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        wide = x.astype(np.float64)
        # float64 rounds the int64 maximum up, so compare, and select the exact integer limit.
        clipped = np.where((wide < float(limits.max)) & (wide > float(limits.min)), wide, 0).astype(dtype)
        out = np.where(wide >= float(limits.max), limits.max, np.where(wide <= float(limits.min), limits.min, clipped))
        return np.where(np.isnan(wide), 0, out).astype(dtype)
    return x.astype(dtype)


def _convert_infer(x: ShapedArray, *, new_dtype: np.dtype, weak_type: bool) -> ShapedArray:
    if dtypes.key in (x.dtype, new_dtype):
        raise DTypeError(
            f"convert_element_type: {x} does not convert to {new_dtype.name}",
            fix="use random.key_data(keys) and random.wrap_key_data(words)",
        )
    return ShapedArray(x.shape, new_dtype, weak_type)


def _convert_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, new_dtype: np.dtype, weak_type: bool) -> Any:
    ans = convert_element_type_p.bind(*primals, new_dtype=new_dtype, weak_type=weak_type)
    if not dtypes.is_inexact(new_dtype) or not dtypes.is_inexact(aval_of(primals[0]).dtype):
        return ans, Zero(aval_of(ans).tangent())
    return ans, convert_element_type_p.bind(*tangents, new_dtype=new_dtype, weak_type=weak_type)


convert_element_type_p = elementwise(
    "convert_element_type",
    lambda x, *, new_dtype, weak_type: cast(x, new_dtype),
    infer=_convert_infer,
    jvp=_convert_jvp,
    transpose=lambda ct, x, *, new_dtype, weak_type: [convert_element_type(ct, aval_of(x).dtype, aval_of(x).weak_type)],
    scalar=lambda b, x, *, new_dtype, weak_type: b.cast(x, new_dtype),
    may_make_nan=False,
)


def convert_element_type(x: Any, dtype: np.dtype, weak_type: bool = False) -> Any:
    """Cast to a dtype; return the array unchanged if it already has that type."""
    aval = aval_of(x)
    if aval.dtype == dtype and aval.weak_type == weak_type:
        return x
    if not aval.shape and not isinstance(x, Tracer) and dtypes.key not in (aval.dtype, dtype):
        # A constant scalar becomes a literal of the new dtype instead of an equation.
        value = quiet.run(np.asarray, x, aval.dtype)
        return Array(ShapedArray((), dtype, weak_type), cast(value, dtype))
    return convert_element_type_p.bind(x, new_dtype=dtype, weak_type=weak_type)


def _bitcast_infer(x: ShapedArray, *, new_dtype: np.dtype) -> ShapedArray:
    if x.dtype.itemsize != new_dtype.itemsize:
        raise DTypeError(
            f"bitcast_convert_type: {x} and {new_dtype.name} differ in width", fix="choose a dtype of the same width"
        )
    return ShapedArray(x.shape, new_dtype)


bitcast_convert_type_p = elementwise(
    "bitcast_convert_type",
    lambda x, *, new_dtype: np.ascontiguousarray(x).view(new_dtype).reshape(x.shape),
    infer=_bitcast_infer,
    scalar=lambda b, x, *, new_dtype: b.op("bitcast", x, dtype=new_dtype),
    modes=(),
)
_SAME: dict[str, Any] = {"kinds": MOVABLE, "scalar": lambda b, x: x, "moves_only": True}
stop_gradient_p = elementwise("stop_gradient", np.array, modes=(), **_SAME)
copy_p = linear("copy", np.array, lambda ct, x: ct, **_SAME)
