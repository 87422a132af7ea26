"""The numba target: plans whose kernels and loops numba compiles, run instruction by instruction from Python.

It needs neither the native runner nor the processors that it knows. Python steps through a program's instructions, and
divides kernels that are large among threads. Branches and loops are compiled whole, unless something in them calls
NumPy or is worth dividing.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from funcgrad.compiler.loops.language import Kernel, scratch_stride
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
from funcgrad.compiler.targets.llvm.runtime import num_threads
from funcgrad.compiler.targets.numba.compiled import Compiled, compile_function
from funcgrad.compiler.targets.numba.functions import SIXTEEN_BIT
from funcgrad.compiler.targets.numba.kernels import can_be_interrupted
from funcgrad.compiler.targets.numba.module import ModuleWriter, host_calls
from funcgrad.compiler.targets.numba.threads import divide
from funcgrad.dtypes import uint8

Function = Callable[..., None]
_PIECES_PER_THREAD = 4
# Multiplications of a matrix product from which on NumPy's library is faster than a loop, its call included.
_LARGE_PRODUCT = 1 << 15


class NumbaTarget:
    """Kernels through numba, threads through Python; see `program.target.Target`."""

    name = "numba"
    # About 30 µs of work: a thread of Python claims a chunk in some microseconds, and begins after tens of them.
    scheduling = Scheduling(grain=1 << 18, lane_grain=64)

    def threads(self) -> int:
        """Return the number of threads, the caller included."""
        return num_threads()

    def division(self, call: LibraryCall) -> Division | None:
        """Return that a matrix product is one piece; there is no other routine."""
        return Division(1, 1) if call.routine == "gemm" else None

    def link(self, plan: Plan) -> Linked:
        """Compile the functions of a plan."""
        unpack = struct.Struct(f"={plan.n_slots}Q").unpack
        runner = _Runner(self.threads())
        runner.prepare(plan.routine)
        return Linked(lambda slots: runner.run(plan.routine, unpack(slots)), tuple(runner.origins))


class _Runner:
    """Runs routines from Python."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.kernels: dict[Kernel, Function] = {}
        self.interruptible: set[Kernel] = set()
        self.origins: list[str] = []
        self.functions: dict[int, Function] = {}  # of branches and loops, by the identity of their callee

    def prepare(self, routine: Routine) -> None:
        """Make the functions that a routine calls."""
        for i in routine.instructions:
            if isinstance(i.callee, KernelCall):
                made = _kernel.cache_info().misses
                self.kernels[i.callee.kernel], origin = _kernel(i.callee.kernel)
                if can_be_interrupted(i.callee.kernel):
                    self.interruptible.add(i.callee.kernel)
                self.origins.append("reused" if _kernel.cache_info().misses == made else origin)
            elif isinstance(i.callee, BranchCall | LoopCall):
                inner = [r for _, r in routines(i.callee)]
                if any(any(host_calls(r)) or _is_large(r) for r in inner):
                    for r in inner:
                        self.prepare(r)
                else:
                    self.functions[id(i.callee)], origin = _nested(i)
                    self.origins.append(origin)

    def run(self, routine: Routine, slots: Sequence[int]) -> None:
        """Run the instructions of a routine over the addresses of its slots."""
        for instruction in routine.instructions:
            pointers = addresses(routine, instruction, slots)
            callee = instruction.callee
            if isinstance(callee, KernelCall):
                nbytes = [routine.values[o.value].aval.nbytes for o in instruction.operands]
                self._launch(callee, instruction, pointers, nbytes)
            elif id(callee) in self.functions:
                avals = [routine.values[o.value].aval for o in instruction.operands]
                arrays = [memory(p, (a.nbytes,), uint8) for p, a in zip(pointers, avals, strict=True)]
                self.functions[id(callee)](*arrays)
            else:
                execute(instruction, pointers, self.run)

    def _launch(
        self, call: KernelCall, instruction: Instruction, pointers: Sequence[int], nbytes: Sequence[int]
    ) -> None:
        extent, grain = instruction.extent, instruction.grain
        function, sizes, params = self.kernels[call.kernel], call.sizes, call.kernel.params
        ended = [np.zeros(1, np.uint8)] if call.kernel in self.interruptible else []
        arrays = [_typed(p, n, param.dtype) for param, p, n in zip(params, pointers, nbytes, strict=True)]
        if self.threads == 1 or extent < 2 * grain:
            function(*arrays, *sizes, 0, extent, *ended)
            return
        own = [arrays] * self.threads
        if any(p.intent == "scratch" for p in params):
            own = [_with_scratch(call, arrays, thread) for thread in range(self.threads)]
        piece = max(grain, -(-extent // (_PIECES_PER_THREAD * self.threads)))
        pieces = [(start, min(start + piece, extent)) for start in range(0, extent, piece)]

        def work(start: int, stop: int, thread: int) -> None:
            function(*own[thread], *sizes, start, stop, *ended)

        divide(work, pieces, self.threads, *ended)


def _is_large(routine: Routine) -> bool:
    """Whether an instruction of a routine gains more by threads, or by a library, than Python's step costs."""
    for i in routine.instructions:
        if isinstance(i.callee, KernelCall) and i.extent >= 2 * i.grain:
            return True
        if isinstance(i.callee, LibraryCall):
            given = dict(i.callee.arguments)
            if given["batch"] * given["m"] * given["n"] * given["k"] >= _LARGE_PRODUCT:
                return True
        if any(_is_large(inner) for _, inner in routines(i.callee)):
            return True
    return False


def _with_scratch(call: KernelCall, arrays: Sequence[np.ndarray], thread: int) -> list[np.ndarray]:
    """Arrays of a kernel of which one thread has those that are scratch memory for itself."""
    sizes = dict(zip(call.kernel.sizes, call.sizes, strict=True))
    own = []
    for param, array in zip(call.kernel.params, arrays, strict=True):
        if param.intent == "scratch":
            assert param.extent is not None
            extent = sizes[param.extent] if isinstance(param.extent, str) else param.extent
            stride = scratch_stride(extent, param.dtype) // param.dtype.itemsize
            array = array[thread * stride : thread * stride + extent]
        own.append(array)
    return own


def _typed(pointer: int, nbytes: int, dtype: np.dtype) -> np.ndarray:
    dtype = np.dtype(np.uint16) if dtype in SIXTEEN_BIT else dtype
    return memory(pointer, (nbytes // dtype.itemsize,), dtype)


@functools.lru_cache(maxsize=4096)
def _kernel(kernel: Kernel) -> Compiled:
    writer = ModuleWriter()
    arrays = [_array("u2" if p.dtype in SIXTEEN_BIT else p.dtype) for p in kernel.params]
    numbers = [numba.int64] * (len(kernel.sizes) + 2)
    ended = [_array("u1")] if can_be_interrupted(kernel) else []
    return compile_function(writer, writer.kernel(kernel), [*arrays, *numbers, *ended])


def _nested(instruction: Instruction) -> Compiled:
    writer = ModuleWriter()
    return compile_function(writer, writer.nested(instruction), [_array("u1")] * len(instruction.operands))


def _array(dtype: Any) -> Any:
    return numba.from_dtype(np.dtype(dtype))[::1]


target = NumbaTarget()
