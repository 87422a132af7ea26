"""groups → program: instructions in order, and where every value lives.

A value lives in an input, a constant, an output buffer, or in the arena, one block of memory per call whose offsets are
chosen by liveness: two values share bytes when the last use of one comes before the first of the other.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler import contract, kernels
from funcgrad.compiler.cpu import blas, runtime
from funcgrad.compiler.fuse import Access, Fusion, Group, is_whole
from funcgrad.compiler.loops import Kernel, scratch_stride
from funcgrad.compiler.lower import Launch, lower_group
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, JaxprEqn, Literal, Var
from funcgrad.core.lowering import View

_ALIGN = 64


class Step(NamedTuple):
    """One instruction before addresses are known: `values` are a variable per argument, or bytes of scratch."""

    name: str
    function: int
    values: tuple[Var | int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    extent: int
    grain: int
    writes: frozenset[Var]
    keep_alive: Any
    kernel: Kernel | None = None
    call: Callable[[Sequence[int], Sequence[int]], None] | None = None  # of pointers: what Python runs for other steps


class Output(NamedTuple):
    """Where a result comes from: a constant, an input or an output buffer."""

    aval: ShapedArray
    constant: Array | None
    input: int | None
    buffer: int | None


@dataclass
class Plan:
    """A program ready to be linked to buffers."""

    instructions: list[runtime.Instruction]
    steps: list[Step]
    n_slots: int
    arena_bytes: int
    consts: list[Array]
    outputs: list[Output]
    buffer_sizes: list[int]
    locations: dict[Var, tuple[int, int]]
    origins: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"arena {self.arena_bytes} bytes, {len(self.instructions)} instructions"]
        for step in self.steps:
            args = ", ".join(_place(v, o, self.locations) for v, o in zip(step.values, step.offsets, strict=True))
            lines.append(f"  {step.name}({args}) × {step.extent} by {step.grain}")
        return "\n".join(lines)


def _place(value: Var | int, offset: int, locations: dict[Var, tuple[int, int]]) -> str:
    if isinstance(value, int):
        return f"scratch {value}"
    slot, at = locations[value]
    return f"{'arena' if slot == 0 else f'slot {slot}'}{f'+{at + offset}' if at + offset else ''}: {value.aval.short()}"


def plan(closed: ClosedJaxpr, fusion: Fusion) -> Plan:
    """Choose instructions and memory for the groups of a simplified jaxpr."""
    planner = _Planner(closed, fusion)
    return planner.finish()


class _Planner:
    def __init__(self, closed: ClosedJaxpr, fusion: Fusion):
        self.closed, self.fusion = closed, fusion
        self.stored = fusion.stored()
        self.threads = runtime.num_threads()
        self.steps: list[Step] = []
        self.origins: list[str] = []
        for group in fusion.order:
            if group.kind == "loops":
                for launch in lower_group(fusion, group, self.stored):
                    self.steps.append(self._kernel(launch))
            elif group.kind == "contract":
                self.steps.append(self._product(group))
            else:
                self.steps.append(self._host(group))

    # ------------------------------------------------------------------ steps

    def _kernel(self, launch: Launch) -> Step:
        code, origin = kernels.get(launch.kernel)
        self.origins.append(origin)
        sizes = dict(zip(launch.kernel.sizes, launch.sizes, strict=True))
        values: list[Var | int] = []
        for param, operand in zip(launch.kernel.params, launch.operands, strict=True):
            if operand is None:
                assert param.extent is not None
                extent = sizes[param.extent] if isinstance(param.extent, str) else param.extent
                values.append(scratch_stride(extent, param.dtype) * self.threads)
            else:
                values.append(operand)
        writes = frozenset(
            o for p, o in zip(launch.kernel.params, launch.operands, strict=True) if p.intent == "out" and o is not None
        )
        return Step(launch.kernel.name, code.address, tuple(values), (0,) * len(values), launch.sizes,
                    launch.extent, launch.grain, writes, code, launch.kernel)  # fmt: skip

    def _product(self, group: Group) -> Step:
        (eqn,) = group.eqns
        (left, right), out = self.fusion.accesses(eqn), eqn.outvars[0]
        if not isinstance(left.source, Var) or not isinstance(right.source, Var):
            return self._host(group)  # a number written into the equation has no address
        a, b = contract.matrix(left.view), contract.matrix(right.view)
        assert a is not None and b is not None
        batch, m, k = eqn.invars[0].aval.shape
        n = eqn.invars[1].aval.shape[2]
        dtype = out.aval.dtype
        product = blas.gemm(
            dtype, batch, m, n, k, transpose_a=a.transposed, transpose_b=b.transposed, lda=a.leading, ldb=b.leading,
            stride_a=a.batch_stride, stride_b=b.batch_stride, threads=self.threads,
        )  # fmt: skip
        values = (out, left.source, right.source)
        offsets = (0, a.offset * dtype.itemsize, b.offset * dtype.itemsize)
        call = _host_call(eqn, [left, right])
        return Step("gemm", product.function, values, offsets, product.sizes, product.extent, product.grain,
                    frozenset([out]), product.library, None, call)  # fmt: skip

    def _host(self, group: Group) -> Step:
        (eqn,) = group.eqns
        accesses = self.fusion.accesses(eqn)
        values = (*eqn.outvars, *(a.source for a in accesses if isinstance(a.source, Var)))
        call = _host_call(eqn, accesses)
        address, keep_alive = runtime.host_function(call, len(values), 0)
        return Step(f"host {eqn.primitive.name}", address, values, (0,) * len(values), (), 1, 1,
                    frozenset(eqn.outvars), keep_alive, None, call)  # fmt: skip

    # ------------------------------------------------------------------ memory

    def finish(self) -> Plan:
        jaxpr = self.closed.jaxpr
        locations: dict[Var, tuple[int, int]] = {}
        for i, var in enumerate([*jaxpr.invars, *jaxpr.constvars]):
            locations[var] = (1 + i, 0)
        fixed = len(locations)
        outputs, buffers = self._outputs()
        for i, var in enumerate(buffers):
            locations[var] = (1 + fixed + i, 0)
        arena, scratch = self._arena(locations)
        instructions = [
            runtime.Instruction(
                s.function,
                tuple(
                    (0, scratch[i, j]) if isinstance(v, int) else (locations[v][0], locations[v][1] + o)
                    for j, (v, o) in enumerate(zip(s.values, s.offsets, strict=True))
                ),
                s.sizes,
                s.extent,
                s.grain,
            )
            for i, s in enumerate(self.steps)
        ]
        sizes = [max(v.aval.nbytes, 1) for v in buffers]
        return Plan(instructions, self.steps, 1 + fixed + len(buffers), arena, list(self.closed.consts), outputs,
                    sizes, locations, self.origins)  # fmt: skip

    def _outputs(self) -> tuple[list[Output], list[Var]]:
        jaxpr = self.closed.jaxpr
        inputs = {v: i for i, v in enumerate(jaxpr.invars)}
        consts = dict(zip(jaxpr.constvars, self.closed.consts, strict=True))
        buffers: dict[Var, int] = {}
        outputs = []
        for atom in jaxpr.outvars:
            source = self.fusion.resolve(atom).source
            aval = atom.aval
            if isinstance(atom, Literal):
                outputs.append(Output(aval, Array(aval, np.asarray(atom.val)), None, None))
            elif source in inputs:
                outputs.append(Output(aval, None, inputs[source], None))
            elif source in consts:
                held = consts[source]
                outputs.append(Output(aval, Array(aval, np.asarray(held).reshape(aval.shape)), None, None))
            else:
                assert isinstance(source, Var)
                place = buffers.setdefault(source, len(buffers))
                outputs.append(Output(aval, None, None, place))
        return outputs, list(buffers)

    def _arena(self, locations: dict[Var, tuple[int, int]]) -> tuple[int, dict[tuple[int, int], int]]:
        """Place temporaries and scratch: first fit over the steps during which they live."""
        first: dict[Any, int] = {}
        last: dict[Any, int] = {}
        size: dict[Any, int] = {}
        for i, step in enumerate(self.steps):
            for j, v in enumerate(step.values):
                if isinstance(v, Var) and v in locations:
                    continue
                key = v if isinstance(v, Var) else (i, j)
                first.setdefault(key, i)
                last[key] = i
                size[key] = v.aval.nbytes if isinstance(v, Var) else v
        placed: list[tuple[int, int, Any]] = []
        total = 0
        scratch = {}
        # Large first: small values then fill the gaps.
        for key in sorted(size, key=lambda k: (-size[k], first[k])):
            at = 0
            for start, stop, other in sorted(placed, key=lambda p: p[:2]):
                if first[other] <= last[key] and first[key] <= last[other]:
                    if at + size[key] <= start:
                        break
                    at = max(at, stop)
            stop = -(-(at + size[key]) // _ALIGN) * _ALIGN
            placed.append((at, stop, key))
            total = max(total, stop)
            if isinstance(key, Var):
                locations[key] = (0, at)
            else:
                scratch[key] = at
        return total, scratch


def _host_call(eqn: JaxprEqn, accesses: Sequence[Access]) -> Any:
    """A function of pointers that runs an equation's NumPy rule: outputs first, then the operands in memory."""
    n_out = len(eqn.outvars)
    out_avals = [v.aval for v in eqn.outvars]

    def call(pointers: Sequence[int], _: Sequence[int]) -> None:
        given = iter(pointers[n_out:])
        operands = []
        for access, atom in zip(accesses, eqn.invars, strict=True):
            if isinstance(access.source, Literal):
                operands.append(np.broadcast_to(np.asarray(access.source.val), atom.aval.shape))
            else:
                operands.append(_view(next(given), access))
        if isinstance(eqn.primitive.lowering, View):
            results = operands[0]  # the access is the view already
        else:
            with np.errstate(all="ignore"):
                results = eqn.primitive.evaluate(*operands, **eqn.params)
        for pointer, aval, value in zip(
            pointers, out_avals, results if eqn.primitive.multiple_results else [results], strict=False
        ):
            _memory(pointer, aval.shape, aval.dtype)[...] = value

    return call


def _memory(pointer: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    count = math.prod(shape)
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memoryview(raw), dtype, count).reshape(shape)


def _view(pointer: int, access: Access) -> np.ndarray:
    whole = _memory(pointer, access.source.aval.shape, access.source.aval.dtype)
    if is_whole(access.view, access.source.aval.shape):
        return whole.reshape(access.view.shape)
    flat = whole.reshape(-1)
    return np.lib.stride_tricks.as_strided(
        flat[access.view.offset :], access.view.shape, [s * whole.dtype.itemsize for s in access.view.strides]
    )
