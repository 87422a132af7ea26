"""Planning, from groups to a program: instructions in order, and the place of each value.

A value lives in an input, a constant, an output buffer, or in the arena, one block of memory per call whose offsets are
chosen by liveness: two values share bytes when the last use of one comes before the first of the other. Nothing is
compiled here: instructions name what they call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.loops.language import scratch_stride
from funcgrad.compiler.lowering import small_loops
from funcgrad.compiler.lowering.alike import Lowerings
from funcgrad.compiler.lowering.implicit_gemm import lower_implicit_gemm
from funcgrad.compiler.lowering.kernel_builder import Launch
from funcgrad.compiler.lowering.scatters import lower_scatter
from funcgrad.compiler.lowering.updates import in_place, origins
from funcgrad.compiler.program import nested
from funcgrad.compiler.program.host_calls import host_call
from funcgrad.compiler.program.instructions import (
    CopyCall,
    Instruction,
    KernelCall,
    LibraryCall,
    NativeCall,
    Operand,
    Output,
    Plan,
    Routine,
    Value,
)
from funcgrad.compiler.program.joins import join
from funcgrad.compiler.program.steps import Step
from funcgrad.compiler.program.target import Target
from funcgrad.compiler.rewrite import products
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, JaxprEqn, Literal, Var
from funcgrad.core.lowering import LibraryRoutine, Native
from funcgrad.dtypes import uint8

_ALIGN = 64
# Routines that are kernels on a target without them.
_KERNELS = {"implicit_gemm": lower_implicit_gemm}
_NONE: Mapping[Var, Var] = {}


def plan(closed: ClosedJaxpr, fusion: Fusion, out_avals: Sequence[ShapedArray], target: Target) -> Plan:
    """Choose instructions and memory for the groups of a simplified jaxpr.

    The results have the types `out_avals`: those that were traced, for simplification may exchange a value for one of
    another weak type.
    """
    jaxpr = closed.jaxpr
    given = [*jaxpr.invars, *jaxpr.constvars]
    outputs, buffers = _outputs(closed, fusion, out_avals)
    routine = Planner(target).routine(fusion, {v: 1 + i for i, v in enumerate([*given, *buffers])})
    sizes = tuple(max(v.aval.nbytes, 1) for v in buffers)
    return Plan(routine, len(jaxpr.invars), tuple(closed.consts), tuple(outputs), sizes)


def _outputs(closed: ClosedJaxpr, fusion: Fusion, avals: Sequence[ShapedArray]) -> tuple[list[Output], list[Var]]:
    jaxpr = closed.jaxpr
    inputs = {v: i for i, v in enumerate(jaxpr.invars)}
    consts = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    buffers: dict[Var, int] = {}
    outputs = []
    for source, aval in zip(fusion.results, avals, strict=True):
        if isinstance(source, Literal):
            outputs.append(Output(aval, _typed(source.val, aval), None, None))
        elif source in inputs:
            outputs.append(Output(aval, None, inputs[source], None))
        elif source in consts:
            outputs.append(Output(aval, _typed(consts[source], aval), None, None))
        else:
            assert isinstance(source, Var)
            place = buffers.setdefault(source, len(buffers))
            outputs.append(Output(aval, None, None, place))
    return outputs, list(buffers)


def _typed(constant: Any, aval: ShapedArray) -> Array:
    """Return a constant of the simplified jaxpr as a value of the traced type, such as keys for integers."""
    return Array(aval, np.asarray(constant).reshape(aval.shape).view(aval.dtype))


class Planner:
    """Plans the routines of a program for a target."""

    def __init__(self, target: Target, threads: int | None = None, lowerings: Lowerings | None = None) -> None:
        self.target, self.scheduling = target, target.scheduling
        self.threads = threads or target.threads()
        self.lowerings = lowerings or Lowerings()
        self.divides = threads is None

    @property
    def on_one_thread(self) -> Planner:
        """A planner for routines that run on one thread each."""
        return Planner(self.target, 1, self.lowerings)

    def routine(self, fusion: Fusion, slots: dict[Var, int], carries: Mapping[Var, Var] = _NONE) -> Routine:
        """The instructions of a jaxpr's groups; `slots` say where inputs and results are, temporaries are in slot 0.

        An input that is a key of `carries` is not wanted any more once the result beside it exists: the routine may
        say in `in_place` that it made that result in the place of the input.
        """
        kernels = {group: self._launches(fusion, group) for group in fusion.order}
        aliases = in_place(fusion, set(slots), carries, lambda g: [r for x in kernels[g] for r in x.replaces])
        steps = [s for group in fusion.order for s in self._steps(fusion, group, kernels[group], aliases)]
        if not self.divides:
            steps = [s._replace(grain=max(s.extent, s.grain)) for s in steps]
        locations = {v: (slot, 0) for v, slot in slots.items()}
        # A value that reuses the memory of another is in its place; results have fixed places.
        home = origins(aliases)
        taken = frozenset(slots[c] for c, r in carries.items() if home.get(r) is c)
        for v, slot in slots.items():
            if v in home and home[v] not in slots:
                locations[home[v]] = (slot, 0)
        arena, scratch = _arena(steps, locations, home)
        locations |= {v: locations[h] for v, h in home.items()}
        return _placed(steps, slots, locations, scratch, arena, taken)

    def _launches(self, fusion: Fusion, group: Group) -> list[Launch]:
        """The kernels of a group, if it is made of kernels."""
        eqn = group.eqns[0]
        if group.kind in ("loops", "kernels"):
            return self.lowerings.of(fusion, group)
        if group.kind == "update":
            return lower_scatter(eqn, fusion.accesses[eqn], self.scheduling)
        if group.kind == "control":
            small = small_loops.lower(eqn, [a.source for a in fusion.accesses[eqn]], self.scheduling)
            return [] if small is None else [small]
        return []

    def _steps(self, fusion: Fusion, group: Group, kernels: Sequence[Launch], aliases: Mapping[Var, Var]) -> list[Step]:
        if kernels:
            return [step for launch in kernels for step in self._kernel(launch, aliases)]
        (eqn,) = group.eqns
        if group.kind in ("contract", "library"):
            return [self._library(fusion, eqn)]
        if group.kind == "join":
            return [join(eqn, fusion.accesses[eqn], self.scheduling)]
        if group.kind == "control":
            return [nested.step(eqn, [a.source for a in fusion.accesses[eqn]], self)]
        if group.kind == "native":
            return [_native(fusion, eqn)]
        return [_host(fusion, eqn)]

    def _kernel(self, launch: Launch, aliases: Mapping[Var, Var]) -> list[Step]:
        """The step of a kernel, after those that copy what its results replace, unless they are in place."""
        kernel = launch.kernel
        taken = tuple((out, old) for out, old in launch.replaces if out in aliases)
        copies = [_copy(out, old, self.scheduling.copy_grain) for out, old in launch.replaces if out not in aliases]
        sizes = dict(zip(kernel.sizes, launch.sizes, strict=True))
        values: list[Var | int] = []
        for param, operand in zip(kernel.params, launch.operands, strict=True):
            if operand is None:
                assert param.extent is not None
                extent = sizes[param.extent] if isinstance(param.extent, str) else param.extent
                values.append(scratch_stride(extent, param.dtype) * self.threads)
            else:
                values.append(operand)
        written = (o for p, o in zip(kernel.params, launch.operands, strict=True) if p.intent in ("out", "inout"))
        writes = frozenset(o for o in written if o is not None)
        call = KernelCall(kernel, launch.sizes)
        return [*copies, Step(call, tuple(values), writes, launch.extent, launch.grain, in_place=taken)]

    def _library(self, fusion: Fusion, eqn: JaxprEqn) -> Step:
        """A call of a library routine, or its kernel if the target lacks it, or else a call of the NumPy rule."""
        lowering, accesses = eqn.primitive.lowering, fusion.accesses[eqn]
        assert isinstance(lowering, LibraryRoutine)
        sources = [a.source for a in accesses if isinstance(a.source, Var)]
        if len(sources) < len(accesses):
            return _host(fusion, eqn)
        in_avals, out_avals = ([v.aval for v in atoms] for atoms in (eqn.invars, eqn.outvars))
        arguments = lowering.arguments(in_avals, out_avals, **eqn.params) | {"threads": self.threads}
        if lowering.layout == "matrices":
            for name, access in zip("ab", accesses, strict=True):
                stored = products.matrix(access.view)
                assert stored is not None
                arguments |= {
                    f"transpose_{name}": stored.transposed,
                    f"ld{name}": stored.leading,
                    f"stride_{name}": stored.batch_stride,
                }
        call = LibraryCall(lowering.routine, tuple(arguments.items()), host_call(eqn, accesses))
        division = self.target.division(call)
        if division is None:
            lower = _KERNELS.get(lowering.routine)
            return self._kernel(lower(eqn, sources, self.scheduling), _NONE)[0] if lower else _host(fusion, eqn)
        starts = [a.view.offset * v.dtype.itemsize for a, v in zip(accesses, in_avals, strict=True)]
        scratch = [division.scratch * self.threads] if division.scratch else []
        values, offsets = (
            (*eqn.outvars, *sources, *scratch),
            (*(0 for _ in eqn.outvars), *starts, *(0 for _ in scratch)),
        )
        return Step(call, values, frozenset(eqn.outvars), division.extent, division.grain, offsets)


def _native(fusion: Fusion, eqn: JaxprEqn) -> Step:
    accesses, lowering = fusion.accesses[eqn], eqn.primitive.lowering
    values = (*eqn.outvars, *(a.source for a in accesses if isinstance(a.source, Var)))
    assert isinstance(lowering, Native) and len(values) == len(eqn.outvars) + len(eqn.invars)
    code = lowering.code([v.aval for v in eqn.invars], [v.aval for v in eqn.outvars], eqn.params)
    call = NativeCall(lowering, host_call(eqn, accesses))
    return Step(call, values, frozenset(eqn.outvars), code.extent, code.grain)


def _host(fusion: Fusion, eqn: JaxprEqn) -> Step:
    accesses = fusion.accesses[eqn]
    values = (*eqn.outvars, *(a.source for a in accesses if isinstance(a.source, Var)))
    return Step(host_call(eqn, accesses), values, frozenset(eqn.outvars))


def _copy(to: Var, source: Var, grain: int) -> Step:
    """The step that copies a whole value."""
    nbytes = to.aval.nbytes
    return Step(CopyCall(nbytes), (to, source), frozenset([to]), nbytes, grain)


def _placed(
    steps: Sequence[Step],
    slots: Mapping[Var, int],
    locations: Mapping[Var, tuple[int, int]],
    scratch: Mapping[tuple[int, int], int],
    arena: int,
    in_place: frozenset[int],
) -> Routine:
    """Return the routine of steps whose variables and scratch memory have been placed."""
    values: list[Value] = []
    numbers: dict[Var, int] = {}

    def number(var: Var) -> int:
        if var not in numbers:
            numbers[var] = len(values)
            values.append(Value(var.aval, *locations[var]))
        return numbers[var]

    def scratch_number(nbytes: int, place: int) -> int:
        values.append(Value(ShapedArray((nbytes,), uint8), 0, place))
        return len(values) - 1

    given = tuple(number(v) for v in sorted(slots, key=slots.__getitem__))
    instructions = []
    for i, step in enumerate(steps):
        found = (
            scratch_number(v, scratch[i, j]) if isinstance(v, int) else number(v) for j, v in enumerate(step.values)
        )
        operands = tuple(map(Operand, found, step.offsets or (0,) * len(step.values)))
        replaced = tuple((number(out), number(old)) for out, old in step.in_place)
        writes = tuple(number(v) for v in step.values if isinstance(v, Var) and v in step.writes)
        instructions.append(Instruction(step.callee, operands, step.extent, step.grain, writes, replaced))
    return Routine(tuple(instructions), tuple(values), given, arena, in_place)


def _arena(
    steps: Sequence[Step], locations: dict[Var, tuple[int, int]], home: Mapping[Var, Var]
) -> tuple[int, dict[tuple[int, int], int]]:
    """Place temporaries and scratch memory by first fit, according to their live ranges in steps."""
    first: dict[Any, int] = {}
    last: dict[Any, int] = {}
    size: dict[Any, int] = {}
    for i, step in enumerate(steps):
        for j, v in enumerate(step.values):
            v = home.get(v, v) if isinstance(v, Var) else v
            if isinstance(v, Var) and v in locations:
                continue
            key = v if isinstance(v, Var) else (i, j)
            first.setdefault(key, i)
            last[key] = i
            size[key] = v.aval.nbytes if isinstance(v, Var) else v
    # Place large values first, so that small ones fill the gaps.
    keys = sorted(size, key=lambda k: (-size[k], first[k]))
    starts, total = _first_fit([size[k] for k in keys], [first[k] for k in keys], [last[k] for k in keys])
    scratch = {}
    for key, at in zip(keys, starts, strict=True):
        if isinstance(key, Var):
            locations[key] = (0, at)
        else:
            scratch[key] = at
    return total, scratch


def _first_fit(sizes: Sequence[int], first: Sequence[int], last: Sequence[int]) -> tuple[list[int], int]:
    """Place values of given sizes and lifetimes one by one, each as low as those before it let it; return the places
    and the end of all.

    Quadratic as such, but in NumPy: 20 µs for each of 10,000 values.
    """
    n = len(sizes)
    born, gone, start, stop = np.array(first, np.int64), np.array(last, np.int64), *np.zeros((2, n), np.int64)
    for i in range(n):
        beside = ((born[:i] <= last[i]) & (gone[:i] >= first[i])).nonzero()[0]
        beside = beside[start[beside].argsort(kind="stable")]
        # The top of what is below each of them, and of all: there is room if the next one begins high enough.
        tops = np.maximum.accumulate(np.concatenate([[0], stop[beside]]))
        room = (tops[:-1] + sizes[i] <= start[beside]).nonzero()[0]
        start[i] = tops[room[0] if room.size else -1]
        stop[i] = -(-(start[i] + sizes[i]) // _ALIGN) * _ALIGN
    return start.tolist(), int(stop.max(initial=0))
