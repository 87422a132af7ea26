"""Runs a planned program on the CUDA target: values go to the device, kernels are launched in order, results come back.

A value moves when a step needs it where it is not. Matrix products, branches and loops with what is inside them, and
what else is no loop kernel, run on the host for the time being.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.compiler.program.plan import Output, Plan, Step
from funcgrad.compiler.targets.cuda import target
from funcgrad.compiler.targets.cuda.emit import launch
from funcgrad.core.arrays import Array
from funcgrad.core.jaxprs import Var


def run(plan: Plan, arrays: Sequence[Array]) -> list[Array]:
    """Return the program's results on flat arguments, computed on the current device or under numba's simulator.

    DTypeError if a kernel computes in a dtype that the target lacks.
    """
    at_slot = {slot: var for var, (slot, _) in plan.routine.locations.items() if slot}
    given = [*arrays, *plan.consts]
    values = _Values({at_slot[1 + i]: np.ravel(np.asarray(x)) for i, x in enumerate(given)})
    buffers = [at_slot[1 + len(given) + i] for i in range(len(plan.buffer_sizes))]
    last = {v: i for i, step in enumerate(plan.steps) for v in step.values if isinstance(v, Var)}
    for i, step in enumerate(plan.steps):
        (_on_host if step.kernel is None else _on_device)(step, values)
        for var in [v for v in last if last[v] == i and v not in buffers]:
            values.forget(var)
    return [_result(output, arrays, buffers, values) for output in plan.outputs]


class _Values:
    """Flat arrays by variable: where each is, on the host, on the device, or both."""

    def __init__(self, host: dict[Var, np.ndarray]):
        self.host, self.device = host, dict[Var, Any]()

    def on_device(self, var: Var) -> Any:
        if var not in self.device:
            self.device[var] = target.to_device(self.host[var])
        return self.device[var]

    def on_host(self, var: Var) -> np.ndarray:
        if var not in self.host:
            self.host[var] = self.device[var].copy_to_host()
        return self.host[var]

    def known(self) -> set[Var]:
        """The variables that have a value."""
        return {*self.host, *self.device}

    def forget(self, var: Var) -> None:
        self.host.pop(var, None)
        self.device.pop(var, None)


def _on_device(step: Step, values: _Values) -> None:
    assert step.kernel is not None
    if step.in_place_of is not None:
        (out,) = step.writes
        values.device[out] = values.on_device(step.in_place_of)
    for var in step.writes - values.known():
        values.device[var] = target.device_array(math.prod(var.aval.shape), dtype=var.aval.dtype)
    launch(step.kernel, [values.on_device(v) for v in step.values if isinstance(v, Var)], step.sizes)


def _on_host(step: Step, values: _Values) -> None:
    assert step.call is not None
    for var in step.writes:
        values.host[var] = np.empty(math.prod(var.aval.shape), var.aval.dtype)
    # Memory that a step asks for by its size, where it is not a variable's, is a loop's own.
    held = [values.on_host(v) if isinstance(v, Var) else np.empty(v, np.uint8) for v in step.values]
    step.call([x.ctypes.data for x in held])


def _result(output: Output, arrays: Sequence[Array], buffers: Sequence[Var], values: _Values) -> Array:
    if output.constant is not None:
        return output.constant
    if output.input is not None:
        return Array(output.aval, np.asarray(arrays[output.input]).reshape(output.aval.shape))
    assert output.buffer is not None
    return Array(output.aval, values.on_host(buffers[output.buffer]).reshape(output.aval.shape))
