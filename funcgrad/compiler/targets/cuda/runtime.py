"""The CUDA runtime of planned programs: copy values to the device, launch kernels in order, and copy results back.

A value moves when a step needs it where it is not. Matrix products, branches and loops with what is inside them, and
what else is no loop kernel, run on the host for the time being.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.program.instructions import Instruction, KernelCall, Output, Plan, Value
from funcgrad.compiler.program.interpret import execute
from funcgrad.compiler.targets.cuda import target
from funcgrad.compiler.targets.cuda.emit import launch
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray


def run(plan: Plan, arrays: Sequence[Array]) -> list[Array]:
    """Run a program on flat arguments, on the current device or under numba's simulator, and return its results.

    DTypeError if a kernel computes in a dtype that the target lacks.
    """
    routine = plan.routine
    given = [*arrays, *plan.consts]
    values = _Values(routine.values, {n: _flat(np.asarray(x)) for n, x in zip(routine.slots, given, strict=False)})
    buffers = routine.slots[len(given) :]
    last = {n: i for i, instruction in enumerate(routine.instructions) for n in _touched(instruction)}
    for i, instruction in enumerate(routine.instructions):
        (_on_device if isinstance(instruction.callee, KernelCall) else _on_host)(instruction, values)
        for number in _touched(instruction):
            if last[number] == i and number not in buffers:
                values.forget(number)
    return [_result(output, arrays, buffers, values) for output in plan.outputs]


def _touched(instruction: Instruction) -> set[int]:
    """The numbers of the values that an instruction reads, writes, or reuses the memory of."""
    return {old for _, old in instruction.in_place} | {o.value for o in instruction.operands}


class _Values:
    """Flat arrays by the number of their value, each on the host, on the device, or on both."""

    def __init__(self, types: Sequence[Value], host: dict[int, np.ndarray]):
        self.types, self.host, self.device = types, host, dict[int, Any]()

    def on_device(self, number: int) -> Any:
        if number not in self.device:
            self.device[number] = target.to_device(self.host[number])
        return self.device[number]

    def on_host(self, number: int) -> np.ndarray:
        if number not in self.host and number in self.device:
            self.host[number] = self.device[number].copy_to_host()
        if number not in self.host:  # it is written, or is memory of the callee's own
            self.host[number] = np.empty(*_memory(self.types[number].aval))
        return self.host[number]

    def forget(self, number: int) -> None:
        self.host.pop(number, None)
        self.device.pop(number, None)


def _on_device(instruction: Instruction, values: _Values) -> None:
    call = instruction.callee
    assert isinstance(call, KernelCall)
    for out, old in instruction.in_place:
        values.device[out] = values.on_device(old)
    for number in instruction.writes:
        if number not in values.host and number not in values.device:
            count, dtype = _memory(values.types[number].aval)
            values.device[number] = target.device_array(count, dtype=dtype)
    parameters = zip(call.kernel.params, instruction.operands, strict=True)
    launch(call.kernel, [values.on_device(o.value) for p, o in parameters if p.intent != "scratch"], call.sizes)
    for number in instruction.writes:
        values.host.pop(number, None)  # it may hold what the kernel has changed: an operand copied before an update


def _on_host(instruction: Instruction, values: _Values) -> None:
    for number in instruction.writes:
        values.host[number] = np.empty(*_memory(values.types[number].aval))
    held = [(values.on_host(o.value), o.offset) for o in instruction.operands]
    execute(instruction, [x.ctypes.data + offset for x, offset in held])


def _result(output: Output, arrays: Sequence[Array], buffers: Sequence[int], values: _Values) -> Array:
    if output.constant is not None:
        return output.constant
    if output.input is not None:
        return Array(output.aval, np.asarray(arrays[output.input]).reshape(output.aval.shape))
    assert output.buffer is not None
    flat = values.on_host(buffers[output.buffer])
    return Array(output.aval, flat.view(output.aval.dtype).reshape(output.aval.shape))


def _flat(x: np.ndarray) -> np.ndarray:
    """The memory of an array as kernels see it: complex numbers are pairs."""
    return np.ravel(x).view(dtypes.real_dtype(x.dtype))


def _memory(aval: ShapedArray) -> tuple[int, np.dtype]:
    """The size and dtype of the memory of a value, as kernels see it."""
    dtype = dtypes.real_dtype(aval.dtype)
    return math.prod(aval.shape) * (1 + dtypes.is_complex(aval.dtype)), dtype
