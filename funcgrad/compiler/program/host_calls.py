"""Equations that NumPy computes from within a compiled program."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence

import numpy as np

from funcgrad.compiler.fuse import Access, is_whole
from funcgrad.core.jaxprs import JaxprEqn, Literal
from funcgrad.core.lowering import View


def host_call(eqn: JaxprEqn, accesses: Sequence[Access]) -> Callable[[Sequence[int]], None]:
    """A function of pointers that runs an equation's NumPy rule: outputs first, then the operands in memory."""
    n_out = len(eqn.outvars)
    out_avals = [v.aval for v in eqn.outvars]

    def call(pointers: Sequence[int]) -> None:
        given = iter(pointers[n_out:])
        operands = []
        for access, atom in zip(accesses, eqn.invars, strict=True):
            if isinstance(access.source, Literal):
                operands.append(np.broadcast_to(np.asarray(access.source.val), atom.aval.shape))
            else:
                operands.append(_view(next(given), access))
        if isinstance(eqn.primitive.lowering, View):
            results = operands[0]  # the access is the view already
        else:
            with np.errstate(all="ignore"):
                results = eqn.primitive.evaluate(*operands, **eqn.params)
        for pointer, aval, value in zip(
            pointers, out_avals, results if eqn.primitive.multiple_results else [results], strict=False
        ):
            memory(pointer, aval.shape, aval.dtype)[...] = value

    return call


def memory(pointer: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory at an address as a NumPy array."""
    count = math.prod(shape)
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memoryview(raw), dtype, count).reshape(shape)


def _view(pointer: int, access: Access) -> np.ndarray:
    whole = memory(pointer, access.source.aval.shape, access.source.aval.dtype)
    if is_whole(access.view, access.source.aval.shape):
        return whole.reshape(access.view.shape)
    flat = whole.reshape(-1)
    return np.lib.stride_tricks.as_strided(
        flat[access.view.offset :], access.view.shape, [s * whole.dtype.itemsize for s in access.view.strides]
    )
