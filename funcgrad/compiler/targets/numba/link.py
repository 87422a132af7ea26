"""The numba target: plans whose kernels and loops numba compiles, run instruction by instruction from Python.

It needs neither the native runner nor the processors that it knows. Python steps through a program's instructions;
branches and loops are compiled whole where nothing in them calls NumPy.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.compiler.loops.language import Kernel
from funcgrad.compiler.program.host_calls import memory
from funcgrad.compiler.program.instructions import (
    BranchCall,
    Instruction,
    KernelCall,
    LibraryCall,
    LoopCall,
    Plan,
    Routine,
    routines,
)
from funcgrad.compiler.program.interpret import addresses, execute
from funcgrad.compiler.program.target import Division, Linked
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.compiler.targets.numba.functions import SIXTEEN_BIT
from funcgrad.compiler.targets.numba.module import ModuleWriter, host_calls
from funcgrad.dtypes import uint8

Function = Callable[..., None]


class NumbaTarget:
    """Kernels through numba, one thread; see `program.target.Target`."""

    name = "numba"
    # On one thread, more parallel iterations gain nothing, and a fold cut in two is a second kernel to compile.
    scheduling = Scheduling(min_parallel=1)

    def threads(self) -> int:
        """Return 1: programs run on the thread that calls them."""
        return 1

    def division(self, call: LibraryCall) -> Division | None:
        """Return that a matrix product is one piece; there is no other routine."""
        return Division(1, 1) if call.routine == "gemm" else None

    def link(self, plan: Plan) -> Linked:
        """Make the functions of a plan; numba compiles each when it is first called."""
        unpack = struct.Struct(f"={plan.n_slots}Q").unpack
        runner = _Runner()
        runner.prepare(plan.routine)
        return Linked(lambda slots: runner.run(plan.routine, unpack(slots)), tuple(runner.origins))


class _Runner:
    """Runs routines from Python."""

    def __init__(self) -> None:
        self.kernels: dict[Kernel, Function] = {}
        self.origins: list[str] = []
        self.functions: dict[int, Function] = {}  # of branches and loops, by the identity of their callee

    def prepare(self, routine: Routine) -> None:
        """Make the functions that a routine calls."""
        for i in routine.instructions:
            if isinstance(i.callee, KernelCall):
                made = _kernel.cache_info().misses
                self.kernels[i.callee.kernel] = _kernel(i.callee.kernel)
                self.origins.append("reused" if _kernel.cache_info().misses == made else "compiled")
            elif isinstance(i.callee, BranchCall | LoopCall):
                inner = [r for _, r in routines(i.callee)]
                if not any(any(host_calls(r)) for r in inner):
                    self.functions[id(i.callee)] = _nested(i)
                else:
                    for r in inner:
                        self.prepare(r)

    def run(self, routine: Routine, slots: Sequence[int]) -> None:
        """Run the instructions of a routine over the addresses of its slots."""
        for instruction in routine.instructions:
            avals = [routine.values[o.value].aval for o in instruction.operands]
            pointers = addresses(routine, instruction, slots)
            callee = instruction.callee
            if isinstance(callee, KernelCall):
                parameters = zip(callee.kernel.params, pointers, avals, strict=True)
                arrays = [_typed(p, a.nbytes, param.dtype) for param, p, a in parameters]
                self.kernels[callee.kernel](*arrays, *callee.sizes)
            elif id(callee) in self.functions:
                arrays = [memory(p, (a.nbytes,), uint8) for p, a in zip(pointers, avals, strict=True)]
                self.functions[id(callee)](*arrays)
            else:
                execute(instruction, pointers, self.run)


def _typed(pointer: int, nbytes: int, dtype: np.dtype) -> np.ndarray:
    dtype = np.dtype(np.uint16) if dtype in SIXTEEN_BIT else dtype
    return memory(pointer, (nbytes // dtype.itemsize,), dtype)


@functools.lru_cache(maxsize=4096)
def _kernel(kernel: Kernel) -> Function:
    writer = ModuleWriter()
    return _loaded(writer, writer.kernel(kernel))


def _nested(instruction: Instruction) -> Function:
    writer = ModuleWriter()
    return _loaded(writer, writer.nested(instruction))


def _loaded(writer: ModuleWriter, name: str) -> Any:
    return load(writer.text(name))[name]


def load(text: str) -> dict[str, Any]:
    """Run the source of a module, and return its names."""
    namespace: dict[str, Any] = {}
    exec(compile(text, "<numba target>", "exec"), namespace)
    return namespace


target = NumbaTarget()
