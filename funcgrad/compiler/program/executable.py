"""Linked programs as functions of arrays: allocate buffers and run the program."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

from funcgrad.compiler.program.instructions import Plan
from funcgrad.compiler.program.interpret import interpret
from funcgrad.compiler.program.target import Linked
from funcgrad.config import config
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.buffers import HostBuffer, allocate
from funcgrad.errors import AllocationError

_NO_HOST = itertools.repeat(None)  # NumPy views of buffers are made on demand


class Executable:
    """A compiled function of flat arrays; call it from any thread."""

    def __init__(self, plan: Plan, linked: Linked, name: str):
        self.plan, self.name, self.origins = plan, name, linked.origins
        self._run = linked.run if plan.routine.instructions else None
        self._arena = plan.routine.arena_bytes
        self._consts = tuple(c.buffer for c in plan.consts)
        self._const_pointers = tuple(b.pointer for b in self._consts)
        self._sizes = plan.buffer_sizes
        self._pack = struct.Struct(f"={plan.n_slots}Q").pack
        self._avals = [o.aval for o in plan.outputs]
        # The common case: each output is a separate buffer, in order.
        self._simple = [o.buffer for o in plan.outputs] == list(range(len(plan.outputs)))

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        try:
            buffers = [allocate(n) for n in self._sizes]
            arena = allocate(self._arena) if self._arena else None
        except MemoryError as e:
            raise self._too_large() from e
        if self._run is not None:
            inputs = [
                a.buffer for a in arrays
            ]  # referenced until the run ends, even if another thread deletes an array
            pointers = [b.pointer for b in inputs]
            pointers += self._const_pointers
            pointers += [b.pointer for b in buffers]
            slots = (arena.pointer if arena is not None else 0, *pointers)
            if config.python_kernels:
                interpret(self.plan.routine, slots)
            else:
                self._run(self._pack(*slots))
        if self._simple:
            return [*map(Array, self._avals, _NO_HOST, buffers)]
        return [self._output(i, arrays, buffers) for i in range(len(self._avals))]

    def _output(self, i: int, arrays: Sequence[Array], buffers: Sequence[HostBuffer]) -> Array:
        output = self.plan.outputs[i]
        if output.constant is not None:
            return output.constant
        if output.input is not None:
            given = arrays[output.input]
            return given if given.aval is output.aval else Array(output.aval, None, given.buffer)
        assert output.buffer is not None
        return Array(output.aval, None, buffers[output.buffer])

    def _too_large(self) -> AllocationError:
        wanted: list[ShapedArray] = self._avals
        temporaries, total = self._arena / 2**30, (sum(self._sizes) + self._arena) / 2**30
        return AllocationError(
            f"jit({self.name}): results {', '.join(map(repr, wanted))} and {temporaries:.1f} GiB of temporaries "
            f"need {total:.1f} GiB, which is not available",
            fix="compute in smaller pieces or use a smaller dtype",
        )
