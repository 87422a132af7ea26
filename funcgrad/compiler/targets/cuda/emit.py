"""Loops to CUDA kernels: the rendered Python source in numba.cuda's dialect, compiled by it.

    def scale(x, y, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            y[i] = x[i] * float32(2.0)

The parallel loop is a grid-stride loop, so any grid computes the whole; its iterations run one per thread.
In this dialect every result of an operation on integers is converted to its dtype, because numba would
widen it to 64 bits, and operations that Python has no operator for are named after their dtype
(`max_float32`): see `device_functions`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.compiler.loops.language import Expr, For, Kernel, Op
from funcgrad.compiler.loops.python import Renderer
from funcgrad.compiler.loops.scalars import DTYPES, SCALARS
from funcgrad.compiler.targets.cuda import device_functions, target
from funcgrad.dtypes import bool_, float32, float64, is_float
from funcgrad.errors import DTypeError

# Enough threads to fill a card; a grid-stride loop does the rest.
_THREADS, _MOST_BLOCKS = 256, 2048
_SIMULATED_THREADS, _SIMULATED_BLOCKS = 4, 2


def render(kernel: Kernel) -> str:
    """Return a kernel's source for numba.cuda; DTypeError if it computes in a dtype that the target lacks."""
    return _CudaRenderer().function(kernel)


def compile_ptx(kernel: Kernel, cc: tuple[int, int] = (9, 0)) -> str:
    """Return a kernel's PTX for compute capability `cc`. No GPU is needed."""
    return target.ptx(_function(kernel), [p.dtype for p in kernel.params], len(kernel.sizes), cc)


def launch(kernel: Kernel, arrays: Sequence[Any], sizes: Sequence[int]) -> None:
    """Run a kernel on the current device, or under the simulator.

    `arrays` are flat, of the device or of NumPy (copied there and back), one for each parameter that is not
    scratch.
    """
    extent = kernel.parallel.extent
    count = extent if isinstance(extent, int) else sizes[kernel.sizes.index(extent)]
    if count <= 0:
        return
    threads = _SIMULATED_THREADS if target.SIMULATED else _THREADS
    blocks = min(-(-count // threads), _SIMULATED_BLOCKS if target.SIMULATED else _MOST_BLOCKS)
    given = iter(arrays)
    arguments = [
        _scratch(kernel, p, sizes, blocks * threads) if p.intent == "scratch" else next(given) for p in kernel.params
    ]
    _dispatcher(kernel)[blocks, threads](*arguments, *map(int, sizes))


def _scratch(kernel: Kernel, param: Any, sizes: Sequence[int], threads: int) -> Any:
    extent = param.extent if isinstance(param.extent, int) else sizes[kernel.sizes.index(param.extent)]
    return target.device_array(max(extent * threads, 1), dtype=param.dtype)


@functools.lru_cache(maxsize=1024)
def _dispatcher(kernel: Kernel) -> Any:
    return target.jit(_function(kernel))


def _function(kernel: Kernel) -> Any:
    """Return the kernel as a Python function whose globals are the device functions that it calls."""
    renderer = _CudaRenderer()
    source = renderer.function(kernel)
    namespace = target.NAMES | {d.name: d.type for d in DTYPES} | {"bool": bool, "inf": np.inf, "nan": np.nan}
    namespace |= renderer.functions
    exec(compile(source, f"<kernel {kernel.name}>", "exec"), namespace)
    return namespace[kernel.name]


class _CudaRenderer(Renderer):
    """The dialect; collects the device functions that the source calls."""

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}

    def function(self, kernel: Kernel) -> str:
        for param in kernel.params:
            self._supported(param.dtype)
        return super().function(kernel)

    def prologue(self, kernel: Kernel) -> list[str]:
        lines = []
        for p in kernel.params:
            if p.intent == "scratch":
                lines.append(f"    {p.name} = {p.name}[cuda.grid(1)*{p.extent}:(cuda.grid(1) + 1)*{p.extent}]")
        return lines

    def loop_range(self, loop: For) -> str:
        if loop.kind != "parallel":
            return super().loop_range(loop)
        return f"range(cuda.grid(1), {loop.extent}, cuda.gridsize(1))"

    def constant(self, value: bool | int | float, dtype: np.dtype) -> str:
        self._supported(dtype)
        return super().constant(value, dtype)

    def typed(self, text: str, binding: int, dtype: np.dtype) -> tuple[str, int]:
        return (text, binding) if is_float(dtype) else (f"{dtype.name}({text})", 9)

    def cast(self, x: Expr, dtype: np.dtype) -> str:
        self._supported(dtype)
        if dtype == bool_:
            return f"bool({self.expr(x)} != 0)"
        if is_float(x.dtype) and not is_float(dtype):
            return self._call(f"saturate_{dtype.name}", device_functions.saturate(dtype), (x,))
        return super().cast(x, dtype)

    def bitcast(self, x: Expr, dtype: np.dtype) -> str:
        name = f"bitcast_{x.dtype.name}_{dtype.name}"
        return self._call(name, device_functions.reinterpret(x.dtype, dtype), (x,))

    def operation(self, name: str, args: tuple[Expr, ...], dtype: np.dtype) -> tuple[str, int]:
        self._supported(dtype)
        if name == "select":
            condition, yes, no = args
            return f"{self.expr(yes, 1)} if {self.expr(condition, 1)} else {self.expr(no)}", 0
        if name == "clamp":
            low, x, high = args
            return self.operation("min", (Op("max", (x, low), dtype), high), dtype)
        argument = args[0].dtype
        if SCALARS[name].operator(argument):
            return super().operation(name, args, dtype)
        return self._call(f"{name}_{argument.name}", device_functions.operation(name, argument), args), 9

    def _call(self, name: str, function: Any, args: tuple[Expr, ...]) -> str:
        self.functions[name] = function
        return f"{name}({', '.join(map(self.expr, args))})"

    def _supported(self, dtype: np.dtype) -> None:
        if is_float(dtype) and dtype not in (float32, float64):
            raise DTypeError(
                f"the CUDA target computes in float32 and float64, not in {dtype.name}",
                fix="cast to float32, or run on the CPU",
            )
