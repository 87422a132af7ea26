"""The numba target: plans whose kernels and loops numba compiles, run instruction by instruction from Python.

It needs neither the native runner nor the processors that it knows. Python steps through a program's instructions, and
divides kernels that are large among threads. Branches and loops are compiled whole, unless something in them calls
NumPy or is worth dividing.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from funcgrad.compiler.loops.language import Kernel, Param, scratch_stride
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
Step = Callable[[Sequence[int]], None]
View = Callable[[Sequence[int]], np.ndarray]
_PIECES_PER_THREAD = 4
# Multiplications of a matrix product from which on NumPy's library is faster than a loop, its call included.
_LARGE_PRODUCT = 1 << 15


class NumbaTarget:
    """Kernels through numba, threads through Python; see `program.target.Target`."""

    name = "numba"
    # About 30 µs of work: a thread of Python claims a chunk in some microseconds, and begins after tens of them.
    scheduling = Scheduling(grain=1 << 18, lane_grain=64, largest_product=16)

    def threads(self) -> int:
        """Return the number of threads, including the caller."""
        return num_threads()

    def division(self, call: LibraryCall) -> Division | None:
        """Return that a matrix product is not divided; there are no other routines."""
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
        self.origins: list[str] = []
        self.steps: dict[int, list[Step]] = {}  # by the identity of a routine

    def prepare(self, routine: Routine) -> None:
        """Compile the callees of a routine."""
        self.steps[id(routine)] = [self._step(routine, i) for i in routine.instructions]

    def run(self, routine: Routine, slots: Sequence[int]) -> None:
        """Run the instructions of a routine, given the addresses of its slots."""
        for step in self.steps[id(routine)]:
            step(slots)

    def _step(self, routine: Routine, instruction: Instruction) -> Step:
        callee = instruction.callee
        if isinstance(callee, KernelCall):
            made = _kernel.cache_info().misses
            function, origin = _kernel(callee.kernel)
            self.origins.append("reused" if _kernel.cache_info().misses == made else origin)
            return _Launch(function, callee, routine, instruction, self.threads)
        if isinstance(callee, BranchCall | LoopCall):
            inner = [r for _, r in routines(callee)]
            if not any(any(host_calls(r)) or _is_large(r) for r in inner):
                function, origin = _nested(instruction)
                self.origins.append(origin)
                views = _views(routine, instruction, [uint8] * len(instruction.operands))
                return lambda slots: function(*(view(slots) for view in views))
            for r in inner:
                self.prepare(r)
        return lambda slots: execute(instruction, addresses(routine, instruction, slots), self.run)


class _Launch:
    """An instruction that is a kernel."""

    def __init__(self, function: Function, call: KernelCall, routine: Routine, instruction: Instruction, threads: int):
        params, extent, grain = call.kernel.params, instruction.extent, instruction.grain
        self.function, self.sizes, self.extent, self.threads = function, call.sizes, extent, threads
        self.views = _views(routine, instruction, [p.dtype for p in params])
        self.interruptible = can_be_interrupted(call.kernel)
        self.scratch = [_scratch_elements(call, p) if p.intent == "scratch" else 0 for p in params]
        self.pieces: list[tuple[int, int]] = []
        if threads > 1 and extent >= 2 * grain:
            piece = max(grain, -(-extent // (_PIECES_PER_THREAD * threads)))
            self.pieces = [(start, min(start + piece, extent)) for start in range(0, extent, piece)]

    def __call__(self, slots: Sequence[int]) -> None:
        arrays = [view(slots) for view in self.views]
        ended = [np.zeros(1, np.uint8)] if self.interruptible else []
        if not self.pieces:
            self.function(*arrays, *self.sizes, 0, self.extent, *ended)
            return
        own = [self._of_thread(arrays, thread) for thread in range(self.threads)]

        def work(start: int, stop: int, thread: int) -> None:
            self.function(*own[thread], *self.sizes, start, stop, *ended)

        divide(work, self.pieces, self.threads, *ended)

    def _of_thread(self, arrays: Sequence[np.ndarray], thread: int) -> Sequence[np.ndarray]:
        """Replace scratch memory in arrays by the part of the thread."""
        if not any(self.scratch):
            return arrays
        return [a[thread * n : (thread + 1) * n] if n else a for a, n in zip(arrays, self.scratch, strict=True)]


def _scratch_elements(call: KernelCall, param: Param) -> int:
    assert param.extent is not None
    sizes = dict(zip(call.kernel.sizes, call.sizes, strict=True))
    extent = sizes[param.extent] if isinstance(param.extent, str) else param.extent
    return scratch_stride(extent, param.dtype) // param.dtype.itemsize


def _views(routine: Routine, instruction: Instruction, dtypes: Sequence[np.dtype]) -> list[View]:
    """Functions of the addresses of slots that return the memory of an instruction's operands as flat arrays."""
    views = []
    for operand, dtype in zip(instruction.operands, dtypes, strict=True):
        value = routine.values[operand.value]
        dtype = np.dtype(np.uint16) if dtype in SIXTEEN_BIT else dtype
        count = value.aval.nbytes // dtype.itemsize
        memory = ctypes.c_char * (count * dtype.itemsize)
        views.append(functools.partial(_view, memory, value.slot, value.offset + operand.offset, dtype, count))
    return views


def _view(memory: Any, slot: int, offset: int, dtype: np.dtype, count: int, slots: Sequence[int]) -> np.ndarray:
    return np.frombuffer(memoryview(memory.from_address(slots[slot] + offset)), dtype, count)


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
