"""Fast paths of elementwise functions in eager mode: the operands are concrete and no trace is active.

Binding a primitive eagerly checks the operands, infers the result type and silences NumPy's floating-point warnings.
For operand types seen before, the result type is known: the shortcut is one dictionary lookup and one NumPy call. It
is disabled while values are checked (`debug_nans`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.quiet import quiet
from funcgrad.core.traces import eval_trace, state

Shortcut = Callable[..., Array | None]


_new = object.__new__


def _wrap(aval: ShapedArray, value: Any) -> Array:
    return Array(aval, value if type(value) is np.ndarray else np.asarray(value))


def unary(ufunc: Callable[..., Any]) -> tuple[Shortcut, Callable[..., None]]:
    """Return (shortcut, remember) for a NumPy ufunc of one operand; see `binary`."""
    known: dict[ShapedArray, ShapedArray] = {}

    def shortcut(x: Any) -> Array | None:
        if type(x) is not Array or state.trace is not eval_trace or config.checks_values:
            return None
        aval = known.get(x.aval)
        if aval is None:
            return None
        host = x._host
        return _wrap(aval, quiet.run(ufunc, x.host if host is None else host))

    def remember(out: Any, x: Any) -> None:
        if type(out) is type(x) is Array and _result_dtype(ufunc, x.host) == out.aval.dtype:
            _bound(known)[x.aval] = out.aval

    return shortcut, remember


def binary(ufunc: Callable[..., Any]) -> tuple[Shortcut, Callable[..., None]]:
    """Return (shortcut, remember) for a NumPy ufunc of two operands.

    `shortcut(x, y)` returns the result, or None for operand types it has not seen. `remember(out, x, y)`, called after
    the general path, adds the types of x and y. The shortcut handles two arrays of the same type, and an array with a
    Python scalar that does not change the array's dtype.
    """
    known: dict[ShapedArray, ShapedArray] = {}
    with_float: dict[ShapedArray, ShapedArray] = {}
    with_int: dict[ShapedArray, ShapedArray] = {}

    def shortcut(x: Any, y: Any) -> Array | None:
        if state.trace is not eval_trace or config.checks_values:
            return None
        if type(x) is Array:
            kind = type(y)
            if kind is Array:
                aval = known.get(x.aval) if x.aval is y.aval else None
                if aval is None:
                    return None
                a, b = x._host, y._host
                return _wrap(aval, quiet.run(ufunc, x.host if a is None else a, y.host if b is None else b))
            aval = _scalar_aval(x.aval, y, kind)
            if aval is None:
                return None
            return _wrap(aval, quiet.run(ufunc, x.host, y))
        if type(y) is Array:
            aval = _scalar_aval(y.aval, x, type(x))
            if aval is None:
                return None
            return _wrap(aval, quiet.run(ufunc, x, y.host))
        return None

    def _scalar_aval(aval: ShapedArray, scalar: Any, kind: type) -> ShapedArray | None:
        if kind is float:
            return with_float.get(aval)
        # An integer outside this range may not fit the dtype: the general path wraps it or raises.
        return with_int.get(aval) if kind is int and -1 < scalar < 128 else None

    def remember(out: Any, x: Any, y: Any) -> None:
        if type(out) is not Array:
            return
        if type(x) is Array and type(y) is Array:
            if x.aval is y.aval and _result_dtype(ufunc, x.host, y.host) == out.aval.dtype:
                _bound(known)[x.aval] = out.aval
            return
        array, scalar = (x, y) if type(x) is Array else (y, x)
        if type(array) is not Array or type(scalar) not in (int, float) or array.aval.dtype == dtypes.bool_:
            return
        if type(scalar) is int and not -1 < scalar < 128:
            return
        table = with_float if type(scalar) is float else with_int
        # The scalar must not widen the result, under our promotion rules and under NumPy's.
        absorbed = dtypes.is_inexact(array.aval.dtype) or type(scalar) is int
        operands = (array.host, scalar) if array is x else (scalar, array.host)
        if absorbed and _result_dtype(ufunc, *operands) == out.aval.dtype:
            _bound(table)[array.aval] = out.aval

    return shortcut, remember


def _result_dtype(ufunc: Callable[..., Any], *operands: Any) -> Any:
    """The result dtype under NumPy's rules, found by applying the ufunc to one element of each operand."""
    try:
        with np.errstate(all="ignore"):
            return ufunc(*(np.ones((1,), x.dtype) if isinstance(x, np.ndarray) else x for x in operands)).dtype
    except TypeError:
        return None


def _bound(table: dict[Any, Any]) -> dict[Any, Any]:
    """Bound the size of a table of avals; programs that create ever new shapes would grow it without limit."""
    if len(table) > 4096:
        table.clear()
    return table
