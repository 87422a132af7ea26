"""Interpretation of programs in Python, with kernels rendered as Python functions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from funcgrad.compiler.loops.python import compile_python
from funcgrad.compiler.program import host_calls
from funcgrad.compiler.program.instructions import (
    BranchCall,
    CopyCall,
    HostCall,
    Instruction,
    JoinCall,
    KernelCall,
    LibraryCall,
    LoopCall,
    NativeCall,
    Routine,
)
from funcgrad.dtypes import uint8

Run = Callable[[Routine, Sequence[int]], None]


def interpret(routine: Routine, slots: Sequence[int]) -> None:
    """Run a routine on slots, with kernels as Python functions. This is slow, but allows a debugger."""
    for instruction in routine.instructions:
        pointers = addresses(routine, instruction, slots)
        if isinstance(instruction.callee, KernelCall):
            _kernel(instruction.callee, pointers, [routine.values[o.value].aval.nbytes for o in instruction.operands])
        else:
            execute(instruction, pointers)


def addresses(routine: Routine, instruction: Instruction, slots: Sequence[int]) -> list[int]:
    """Return the addresses of the operands of an instruction, given those of the slots of the routine."""
    found = []
    for number, offset in instruction.operands:
        value = routine.values[number]
        found.append(slots[value.slot] + value.offset + offset)
    return found


def execute(instruction: Instruction, pointers: Sequence[int], run: Run = interpret) -> None:
    """Run one instruction that is no kernel; `pointers` are the addresses of its operands.

    `run` runs the routines of branches and loops.
    """
    match instruction.callee:
        case HostCall() as call:
            host_calls.run(call, pointers)
        case LibraryCall(_, _, fallback) | NativeCall(_, fallback):
            offsets = [operand.offset for operand in instruction.operands]
            # The NumPy rule reads whole values through its views.
            host_calls.run(fallback, [p - o for p, o in zip(pointers, offsets, strict=True)])
        case CopyCall(nbytes):
            ctypes.memmove(pointers[0], pointers[1], nbytes)
        case JoinCall(rows, runs):
            _join(rows, runs, pointers)
        case BranchCall(branches):
            index = ctypes.c_int32.from_address(pointers[0]).value
            run(branches[min(max(index, 0), len(branches) - 1)], pointers)
        case LoopCall() as loop:
            _loop(loop, instruction.extent, pointers, run)


def _kernel(call: KernelCall, pointers: Sequence[int], sizes: Sequence[int]) -> None:
    flat = []
    for param, pointer, nbytes in zip(call.kernel.params, pointers, sizes, strict=True):
        raw = (ctypes.c_char * nbytes).from_address(pointer)
        flat.append(np.frombuffer(memoryview(raw), param.dtype, nbytes // param.dtype.itemsize))
    with np.errstate(all="ignore"):
        compile_python(call.kernel)(*flat, *call.sizes)


def _join(rows: int, runs: Sequence[int], pointers: Sequence[int]) -> None:
    joined, start = host_calls.memory(pointers[0], (rows, sum(runs)), uint8), 0
    for pointer, run in zip(pointers[1:], runs, strict=True):
        joined[:, start : start + run] = host_calls.memory(pointer, (rows, run), uint8)
        start += run


def _loop(loop: LoopCall, extent: int, pointers: Sequence[int], run: Run) -> None:
    for to, source, nbytes in loop.copies:
        ctypes.memmove(pointers[to], pointers[source], nbytes)
    slots = [pointers[operand] + offset for operand, offset in loop.places]
    for _ in range(extent if loop.length is None else loop.length):
        if loop.predicate is not None:
            run(loop.predicate, slots)
            if not ctypes.c_uint8.from_address(slots[loop.answer]).value:
                break
        run(loop.body, slots)
        for slot, nbytes in loop.moving:
            slots[slot] += nbytes
        for carry in loop.carries:
            one, other = (pointers[place] for place in carry.places)
            slots[carry.read] = slots[carry.written]
            slots[carry.written] = other if slots[carry.read] == one else one
    for carry in loop.carries:
        if slots[carry.read] != pointers[carry.result]:
            ctypes.memmove(pointers[carry.result], slots[carry.read], carry.nbytes)
