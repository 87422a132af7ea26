"""Branches and loops as instructions: their jaxprs become routines, which a single instruction runs.

The slots of a routine are its temporaries (slot 0), its inputs and its results. What is carried along is read from one
place and written to another, and the two change roles after each iteration; slices of scanned operands and of stacked
results are slots that move on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.inner import fusions
from funcgrad.compiler.program.instructions import BranchCall, Carry, HostCall, LoopCall, Routine, routines
from funcgrad.compiler.program.steps import Step
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.layouts import ScanLayout, WhileLayout
from funcgrad.core.lowering import Blocks, Cond, Scan, WhileLoop

_ALIGN = 64
_FOR_EVER = 2**63 - 1


class Planner(Protocol):
    """What this module uses of `plan.Planner`."""

    threads: int
    scheduling: Scheduling

    @property
    def on_one_thread(self) -> Self:
        """A planner for routines that run on one thread each."""
        ...

    def routine(self, fusion: Fusion, slots: dict[Var, int], carries: Mapping[Var, Var] = ...) -> Routine:
        """The instructions of a jaxpr's groups."""
        ...


def _results(fusion: Fusion) -> list[Var]:
    """The variables that hold the results of a jaxpr."""
    return [v for v in fusion.results if isinstance(v, Var)]


def step(eqn: JaxprEqn, operands: Sequence[Atom], planner: Planner) -> Step:
    """The step of a branch or loop with operands in the given variables."""
    values = [v for v in operands if isinstance(v, Var)]
    assert len(values) == len(operands)
    match eqn.primitive.lowering:
        case Cond():
            return _branch(eqn, values, planner)
        case Scan():
            return _scan(eqn, values, planner)
        case WhileLoop():
            return _while(eqn, values, planner)
    raise TypeError(f"{eqn.primitive} is neither a branch nor a loop")


# ---------------------------------------------------------------- branches


def _branch(eqn: JaxprEqn, operands: list[Var], planner: Planner) -> Step:
    arena = len(operands) + len(eqn.outvars)
    branches = []
    for (_, fusion), branch in zip(fusions(eqn, planner.scheduling), eqn.params["branches"], strict=True):
        # The operands are the slots; what a routine takes for slot 0 is the last of them.
        slots = dict(zip([*branch.jaxpr.invars, *_results(fusion)], range(1, arena), strict=True))
        branches.append(_moved_arena(planner.routine(fusion, slots), arena))
    size = max(1, *(b.arena_bytes for b in branches))
    return Step(BranchCall(tuple(branches)), (*operands, *eqn.outvars, size), frozenset(eqn.outvars))


def _moved_arena(routine: Routine, slot: int) -> Routine:
    """A routine with its temporaries in a slot other than 0."""
    return routine._replace(values=tuple(v if v.slot else v._replace(slot=slot) for v in routine.values))


# ---------------------------------------------------------------- loops


@dataclass
class _Loop:
    """A builder that collects the operands of a loop; see `LoopCall`."""

    values: list[Var | int]
    places: list[tuple[int, int]] = field(default_factory=list)
    moving: list[tuple[int, int]] = field(default_factory=list)
    carries: list[Carry] = field(default_factory=list)
    copies: list[tuple[int, int, int]] = field(default_factory=list)

    def operand(self, value: Var | int) -> int:
        """Add an operand, a variable or memory of that many bytes; return its number."""
        self.values.append(value)
        return len(self.values) - 1

    def carry(
        self, read: int, written: int, init: int, result: int, nbytes: int, length: int | None, in_place: bool
    ) -> None:
        """Declare a carried value, from operand `init` to operand `result`."""
        if in_place:
            self.copies.append((result, init, nbytes))
            self.places[read] = self.places[written] = (result, 0)
            return
        other = self.operand(max(nbytes, 1)) if length != 1 else result
        # Two places are written alternately; start with the one for which the last iteration writes the result.
        start = other if length is not None and length % 2 == 0 else result
        self.places[read], self.places[written] = (init, 0), (start, 0)
        self.carries.append(Carry(read, written, (result, other), result, nbytes))

    def call(
        self,
        name: str,
        body: Routine,
        length: int | None,
        *,
        stride: int = 0,
        predicate: Routine | None = None,
        answer: int = 0,
    ) -> LoopCall:
        """Return the callee, after all operands were added."""
        places, moving = tuple(self.places), tuple(self.moving)
        carries, copies = tuple(self.carries), tuple(self.copies)
        return LoopCall(name, body, predicate, answer, length, places, moving, carries, copies, stride)


def _scan(eqn: JaxprEqn, operands: list[Var], planner: Planner) -> Step:
    p, length = eqn.params, eqn.params["length"]
    layout = ScanLayout.of(p)
    body_vars = p["jaxpr"].jaxpr.invars
    ((_, fusion),) = fusions(eqn, planner.scheduling)
    results = _results(fusion)
    carries = dict(zip(layout.split(body_vars).carry, results, strict=False))
    in_blocks = isinstance(eqn.primitive.lowering, Blocks)
    inner = planner.on_one_thread if in_blocks and _occupies(length, layout, planner.threads) else planner
    body = inner.routine(fusion, {v: 1 + i for i, v in enumerate([*body_vars, *results])}, carries)
    loop = _Loop([*operands, *eqn.outvars])
    lanes = not layout.num_carry and _independent(body)
    stride = -(-body.arena_bytes // _ALIGN) * _ALIGN
    arena = loop.operand(max(1, stride) * (planner.threads if lanes else 1))
    loop.places = [(arena, 0), *((i, 0) for i in range(len(operands) + len(results)))]
    # Positions of operands and results among the operands of the loop; the slots of the body are one higher.
    given = layout.split(range(len(operands)))
    carry_out, ys = layout.split_results(range(len(operands), len(operands) + len(results)))
    for init, out in zip(given.carry, carry_out, strict=True):
        loop.carry(1 + init, 1 + out, init, out, body_vars[init].aval.nbytes, length, 1 + init in body.in_place)
    slots = [*body_vars, *results]
    for i in (*given.xs, *ys):
        nbytes = slots[i].aval.nbytes
        if p["reverse"]:
            loop.places[1 + i] = (i, (length - 1) * nbytes)
        loop.moving.append((1 + i, -nbytes if p["reverse"] else nbytes))
    call = loop.call("scan", body, None if lanes else length, stride=stride)
    grain = 1 if in_blocks else max(1, planner.scheduling.instruction_grain // max(1, len(body.instructions)))
    extent, grain = (length, grain) if lanes else (1, 1)
    return Step(call, tuple(loop.values), frozenset(eqn.outvars), extent, grain)


def _occupies(length: int, layout: ScanLayout, threads: int) -> bool:
    """Whether blocks keep the threads busy if each of them runs on one."""
    return not layout.num_carry and (length % threads == 0 or length >= 4 * threads)


def _independent(routine: Routine) -> bool:
    """Whether iterations may run on several threads: nothing calls Python, and no instruction is divided by itself."""
    return all(
        i.extent <= i.grain
        and not isinstance(i.callee, HostCall)
        and all(_independent(inner) for _, inner in routines(i.callee))
        for i in routine.instructions
    )


def _while(eqn: JaxprEqn, operands: list[Var], planner: Planner) -> Step:
    p, layout = eqn.params, WhileLayout.of(eqn.params)
    (_, predicate_groups), (_, body_groups) = fusions(eqn, planner.scheduling)
    n_in, results = len(operands), _results(body_groups)
    (answer,) = _results(predicate_groups)
    # Positions among the operands of the loop; the slots of the predicate and the body are one higher.
    given = layout.split(range(n_in))
    carry_out = range(n_in, n_in + len(results))
    last = n_in + len(results)
    slots_of_cond = [1 + i for i in (*given.of_cond, last)]
    predicate = planner.routine(
        predicate_groups, dict(zip([*p["cond_jaxpr"].jaxpr.invars, answer], slots_of_cond, strict=True))
    )
    body_vars = p["body_jaxpr"].jaxpr.invars
    carry_vars = body_vars[layout.body_nconsts :]
    body = planner.routine(
        body_groups,
        dict(zip([*body_vars, *results], [1 + i for i in (*given.of_body, *carry_out)], strict=True)),
        dict(zip(carry_vars, results, strict=True)),
    )
    loop = _Loop([*operands, *eqn.outvars])
    arena = loop.operand(max(1, body.arena_bytes, predicate.arena_bytes))
    answered = loop.operand(1)
    loop.places = [(arena, 0), *((i, 0) for i in range(last)), (answered, 0)]
    for var, init, out in zip(carry_vars, given.carry, carry_out, strict=True):
        loop.carry(1 + init, 1 + out, init, out, var.aval.nbytes, None, 1 + init in body.in_place)
    call = loop.call("while", body, _FOR_EVER, predicate=predicate, answer=1 + last)
    return Step(call, tuple(loop.values), frozenset(eqn.outvars))
