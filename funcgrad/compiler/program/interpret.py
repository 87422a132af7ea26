"""Running instructions in Python: kernels as the functions that they are rendered to."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from funcgrad.compiler.program.instructions import Step
from funcgrad.compiler.python import compile_python
from funcgrad.compiler.targets.llvm.runtime import Instruction


def interpret(steps: Sequence[Step], instructions: Sequence[Instruction], pointers: Sequence[int]) -> None:
    """Run instructions over slots with kernels as Python functions: slow, and open to a debugger."""
    for step, instruction in zip(steps, instructions, strict=True):
        addresses = [pointers[slot] + offset for slot, offset in instruction.args]
        if step.kernel is None:
            assert step.call is not None
            # A call finds its operands' offsets itself, as the accesses that it was made from say.
            step.call([a - o for a, o in zip(addresses, step.offsets, strict=True)])
            continue
        flat = []
        for param, value, address in zip(step.kernel.params, step.values, addresses, strict=True):
            nbytes = value if isinstance(value, int) else value.aval.nbytes
            raw = (ctypes.c_char * nbytes).from_address(address)
            flat.append(np.frombuffer(memoryview(raw), param.dtype, nbytes // param.dtype.itemsize))
        with np.errstate(all="ignore"):
            compile_python(step.kernel)(*flat, *step.sizes)
