"""The only place that imports numba.cuda: what the CUDA target uses of it.

numba-cuda may be replaced by another compiler of the same language; then this file changes. Importing it is
slow, so it is imported when a kernel is first compiled for CUDA. With NUMBA_ENABLE_CUDASIM=1 in the
environment numba's simulator runs kernels as Python, one operating system thread for each thread of a
block.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import cuda

from funcgrad.errors import ArgumentError, DependencyError

SIMULATED: bool = numba.config.ENABLE_CUDASIM

device_array = cuda.device_array
to_device = cuda.to_device


def jit(function: Callable[..., None]) -> Any:
    """Return a function that is launched as a kernel, compiled for the types of its arguments at the first launch."""
    _require_compiler()
    return cuda.jit(function)


def device_function(function: Callable[..., Any]) -> Any:
    """Return a function that kernels can call. Inlined before typing, it compiles where there is no GPU."""
    return cuda.jit(function, device=True, inline="always")


def library(name: str) -> Any:
    """Return a function of libdevice, NVIDIA's mathematical library. The simulator has none."""
    _require_compiler()
    return getattr(cuda.libdevice, name)


def ptx(function: Callable[..., None], dtypes: list[np.dtype], n_sizes: int, cc: tuple[int, int]) -> str:
    """Compile a kernel of (flat arrays of `dtypes`…, int64 sizes…) to PTX; needs no GPU."""
    if SIMULATED:
        raise ArgumentError("numba's simulator compiles nothing to PTX", fix="unset NUMBA_ENABLE_CUDASIM")
    _require_compiler()
    signature = (*(numba.from_dtype(d)[::1] for d in dtypes), *[numba.int64] * n_sizes)
    return cuda.compile(function, signature, device=False, abi="numba", cc=cc)[0]


def _require_compiler() -> None:
    # Without numba-cuda, numba.cuda is numba's own: its simulator will do, its compiler needs a CUDA toolkit.
    if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
        raise DependencyError(
            "the CUDA target needs numba-cuda, which is not installed", fix="pip install funcgrad[cuda]"
        )


NAMES: dict[str, Any] = {"cuda": cuda}
