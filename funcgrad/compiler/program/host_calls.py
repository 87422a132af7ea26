"""Equations that NumPy computes from within a program."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access, is_whole
from funcgrad.compiler.program.instructions import HostCall, Number
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.lowering import Strided, View


def host_call(eqn: JaxprEqn, accesses: Sequence[Access]) -> HostCall:
    """Return an equation's NumPy rule as a callee, whose operands are the variables that `accesses` read."""
    return HostCall(
        eqn.primitive,
        eqn.params,
        tuple(v.aval for v in eqn.invars),
        tuple(v.aval for v in eqn.outvars),
        tuple(_stored(v, a.source) for v, a in zip(eqn.invars, accesses, strict=True)),
        tuple(a.view if isinstance(a.source, Var) else Number(np.asarray(a.source.val).item()) for a in accesses),
    )


def _stored(operand: Atom, source: Atom) -> ShapedArray | None:
    """The type of the memory that an operand reads: complex numbers as pairs, if it is a part of them."""
    if not isinstance(source, Var):
        return None
    aval, dtype = source.aval, operand.aval.dtype
    pairs = dtypes.is_complex(aval.dtype) and not dtypes.is_complex(dtype)
    return aval.update(shape=(*aval.shape, 2), dtype=dtype) if pairs else aval


def run(call: HostCall, pointers: Sequence[int]) -> None:
    """Run a NumPy rule on memory: results first, then the arguments that are in memory."""
    given = iter(pointers[len(call.results) :])
    arguments = []
    for aval, stored, view in zip(call.arguments, call.stored, call.views, strict=True):
        if isinstance(view, Number):
            arguments.append(np.broadcast_to(np.asarray(view.value, aval.dtype), aval.shape))
        else:
            assert stored is not None
            arguments.append(_view(next(given), stored, view))
    if isinstance(call.primitive.lowering, View):
        results = arguments[0]  # it was read through its view already
    else:
        with np.errstate(all="ignore"):
            results = call.primitive.evaluate(*arguments, **call.params)
    results = results if call.primitive.multiple_results else [results]
    for pointer, aval, value in zip(pointers, call.results, results, strict=False):
        memory(pointer, aval.shape, aval.dtype)[...] = value


def memory(pointer: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return memory at an address as a NumPy array."""
    count = math.prod(shape)
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memoryview(raw), dtype, count).reshape(shape)


def _view(pointer: int, stored: ShapedArray, view: Strided) -> np.ndarray:
    whole = memory(pointer, stored.shape, stored.dtype)
    if is_whole(view, stored.shape):
        return whole.reshape(view.shape)
    flat = whole.reshape(-1)
    strides = [s * whole.dtype.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides)
