"""Branches and loops as instructions: their jaxprs become routines that one instruction runs.

The slots of a routine are its temporaries (slot 0), its inputs and its results. What is carried along is read from one
place and written to another, and the two change roles after each iteration; slices of scanned operands and of stacked
results are slots that move on. `cpu/runtime.ll` says how the words of an instruction tell it that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from funcgrad.compiler.fuse import Fusion
from funcgrad.compiler.program.instructions import Routine, Step
from funcgrad.compiler.program.interpret import interpret
from funcgrad.compiler.sink import sink
from funcgrad.compiler.targets.llvm import runtime
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Cond, Scan
from funcgrad.ops.shapes import reshape_p

if TYPE_CHECKING:
    from funcgrad.compiler.program.plan import Planner

_ALIGN = 64
# Instructions of independent iterations that are worth handing to another thread.
_GRAIN = 64


def fusions(eqn: JaxprEqn) -> list[tuple[str, Fusion]]:
    """The groups of the jaxprs that a branch or loop runs, each with a name."""
    lowering, params = eqn.primitive.lowering, eqn.params
    if isinstance(lowering, Cond):
        return [(f"branch {i}", fusion_of(b)) for i, b in enumerate(params["branches"])]
    if isinstance(lowering, Scan):
        return [("body", fusion_of(params["jaxpr"]))]
    return [("predicate", fusion_of(params["cond_jaxpr"])), ("body", fusion_of(params["body_jaxpr"]))]


def fusion_of(closed: ClosedJaxpr) -> Fusion:
    """The groups of an inner jaxpr, remembered on it; each of its results is a value of its own."""

    def make() -> Fusion:
        jaxpr = _with_own_results(sink(closed).jaxpr)
        return Fusion(jaxpr.eqns, jaxpr.outvars, apart=True)

    return closed.memo("fusion", make)


def _with_own_results(jaxpr: Jaxpr) -> Jaxpr:
    """The jaxpr with copies of results that are inputs, literals, or results already."""
    made = {v for e in jaxpr.eqns for v in e.outvars}
    eqns, outvars, seen = list(jaxpr.eqns), [], set()
    for atom in jaxpr.outvars:
        if isinstance(atom, Literal) or atom not in made or atom in seen:
            copy = Var(atom.aval)
            eqns.append(JaxprEqn([atom], [copy], reshape_p, {"new_sizes": atom.aval.shape, "dimensions": None}))
            atom = copy
        seen.add(atom)
        outvars.append(atom)
    return jaxpr.replace(eqns=eqns, outvars=outvars)


def _results(fusion: Fusion) -> list[Var]:
    """The variables that hold a jaxpr's results."""
    found = [fusion.resolve(v).source for v in fusion.outvars]
    return [v for v in found if isinstance(v, Var)]


def step(eqn: JaxprEqn, operands: Sequence[Atom], planner: Planner) -> Step:
    """The instruction of a branch or loop whose operands are stored in the given variables."""
    values = [v for v in operands if isinstance(v, Var)]
    assert len(values) == len(operands)
    rule = {"Scan": _scan, "While": _while, "Cond": _branch}[type(eqn.primitive.lowering).__name__]
    return rule(eqn, values, planner)


# ---------------------------------------------------------------- branches


def _branch(eqn: JaxprEqn, operands: list[Var], planner: Planner) -> Step:
    n, outs = len(operands), eqn.outvars
    arena = n + len(outs)
    routines = []
    for name, fusion in fusions(eqn):
        branch = eqn.params["branches"][len(routines)]
        # The arguments are the slots; what a routine takes for slot 0 is the last of them.
        slots = dict(zip([*branch.jaxpr.invars, *_results(fusion)], range(1, arena), strict=True))
        routines.append((name, _moved_arena(planner.routine(fusion, slots), arena)))
    tables = [_table(r) for _, r in routines]
    size = max(1, *(r.arena_bytes for _, r in routines))
    values = (*operands, *outs, size)
    words = (len(tables), len(values), *(t.address for t in tables))

    def call(pointers: Sequence[int]) -> None:
        index = ctypes.c_int32.from_address(pointers[0]).value
        chosen = routines[min(max(index, 0), len(routines) - 1)][1]
        interpret(chosen.steps, chosen.instructions, pointers)

    return Step(
        "cond", runtime.native_functions().branch, values, (0,) * len(values), words, 1, 1, frozenset(outs), tables,
        None, call, tuple(routines),
    )  # fmt: skip


def _moved_arena(routine: Routine, slot: int) -> Routine:
    """A routine whose temporaries are in another slot than 0."""
    moved = [
        i._replace(args=tuple((slot if s == 0 else s, offset) for s, offset in i.args)) for i in routine.instructions
    ]
    return routine._replace(instructions=moved)


def _table(routine: Routine) -> runtime.Table:
    return runtime.Table(routine.instructions, [s.keep_alive for s in routine.steps])


# ---------------------------------------------------------------- loops


@dataclass
class _Loop:
    """What a loop's instruction is told: see `%Loop` in runtime.ll. Slots and arguments are numbers."""

    values: list[Var | int]
    body: Routine
    predicate: Routine | None = None
    answer: int = 0
    length: int = -1
    places: list[tuple[int, int]] = field(default_factory=list)
    moving: list[tuple[int, int]] = field(default_factory=list)
    carry: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    copies: list[tuple[int, int, int]] = field(default_factory=list)
    stride: int = 0

    def argument(self, value: Var | int) -> int:
        """Add an argument, memory of that many bytes or a variable; return its number."""
        self.values.append(value)
        return len(self.values) - 1

    def words(self, body: runtime.Table, predicate: runtime.Table | None) -> tuple[int, ...]:
        flat = [w for part in (self.places, self.moving, self.carry, self.copies) for item in part for w in item]
        counts = [len(part) for part in (self.places, self.moving, self.carry, self.copies)]
        head = [body.address, predicate.address if predicate else 0, self.answer, self.length, len(self.values)]
        return (*head, *counts, self.stride, *flat)


def _carried(
    loop: _Loop, read: int, written: int, init: int, result: int, nbytes: int, length: int | None, in_place: bool
) -> None:
    """Declare a value that is carried along from argument `init` to argument `result`."""
    if in_place:
        loop.copies.append((result, init, nbytes))
        loop.places[read] = loop.places[written] = (result, 0)
        return
    other = loop.argument(max(nbytes, 1)) if length != 1 else result
    # Of the two places that are written in turn, start with the one that makes the last iteration write the result.
    start = other if length is not None and length % 2 == 0 else result
    loop.places[read], loop.places[written] = (init, 0), (start, 0)
    loop.carry.append((read, written, result, other, result, nbytes))


def _scan(eqn: JaxprEqn, operands: list[Var], planner: Planner) -> Step:
    p = eqn.params
    nc, nk, length = p["num_consts"], p["num_carry"], p["length"]
    body_vars = p["jaxpr"].jaxpr.invars
    ((_, fusion),) = fusions(eqn)
    results = _results(fusion)
    carries = dict(zip(body_vars[nc : nc + nk], results[:nk], strict=True))
    routine = planner.routine(fusion, {v: 1 + i for i, v in enumerate([*body_vars, *results])}, carries)
    loop = _Loop([*operands, *eqn.outvars], routine, length=length)
    lanes = nk == 0 and _independent(routine)
    loop.stride = -(-routine.arena_bytes // _ALIGN) * _ALIGN
    arena = loop.argument(max(1, loop.stride) * (planner.threads if lanes else 1))
    n_in, n_out = len(operands), len(results)
    loop.places = [(arena, 0), *((i, 0) for i in range(n_in + n_out))]
    for k in range(nk):
        var = body_vars[nc + k]
        _carried(loop, 1 + nc + k, 1 + n_in + k, nc + k, n_in + k, var.aval.nbytes, length, var in routine.in_place)
    slices = [(1 + i, i, body_vars[i].aval.nbytes) for i in range(nc + nk, n_in)]
    slices += [(1 + n_in + i, n_in + i, results[i].aval.nbytes) for i in range(nk, n_out)]
    for slot, argument, nbytes in slices:
        if p["reverse"]:
            loop.places[slot] = (argument, (length - 1) * nbytes)
        loop.moving.append((slot, -nbytes if p["reverse"] else nbytes))
    if not lanes:
        return _finished("scan", eqn, loop)
    loop.length = -1
    return _finished("scan", eqn, loop, length, max(1, _GRAIN // max(1, len(routine.steps))))


def _independent(routine: Routine) -> bool:
    """Whether iterations may run on several threads: nothing calls Python, and no instruction is divided by itself."""
    return all(
        s.extent <= s.grain and not s.name.startswith("host") and all(_independent(r) for _, r in s.routines)
        for s in routine.steps
    )


def _while(eqn: JaxprEqn, operands: list[Var], planner: Planner) -> Step:
    p = eqn.params
    nc, nb = p["cond_nconsts"], p["body_nconsts"]
    (_, asks), (_, does) = fusions(eqn)
    n_in, results = len(operands), _results(does)
    (answer,) = _results(asks)
    place = {i: 1 + i for i in range(n_in)}
    carry_in = range(1 + nc + nb, 1 + n_in)
    carry_out = range(1 + n_in, 1 + n_in + len(results))
    last = 1 + n_in + len(results)
    predicate_inputs = [*(place[i] for i in range(nc)), *carry_in]
    body_inputs = [*(place[i] for i in range(nc, nc + nb)), *carry_in]
    predicate = planner.routine(
        asks, dict(zip([*p["cond_jaxpr"].jaxpr.invars, answer], [*predicate_inputs, last], strict=True))
    )
    body_vars = p["body_jaxpr"].jaxpr.invars
    body = planner.routine(
        does,
        dict(zip([*body_vars, *results], [*body_inputs, *carry_out], strict=True)),
        dict(zip(body_vars[nb:], results, strict=True)),
    )
    loop = _Loop([*operands, *eqn.outvars], body, predicate, last, np.iinfo(np.int64).max)
    arena = loop.argument(max(1, body.arena_bytes, predicate.arena_bytes))
    said = loop.argument(1)
    loop.places = [(arena, 0), *((i, 0) for i in range(n_in + len(results))), (said, 0)]
    for k, (read, written) in enumerate(zip(carry_in, carry_out, strict=True)):
        var = body_vars[nb + k]
        _carried(loop, read, written, nc + nb + k, n_in + k, var.aval.nbytes, None, var in body.in_place)
    return _finished("while", eqn, loop)


def _finished(name: str, eqn: JaxprEqn, loop: _Loop, extent: int = 1, grain: int = 1) -> Step:
    body = _table(loop.body)
    predicate = _table(loop.predicate) if loop.predicate else None
    routines = [("body", loop.body)] if loop.predicate is None else [("predicate", loop.predicate), ("body", loop.body)]
    values = tuple(loop.values)
    return Step(
        name, runtime.native_functions().loop, values, (0,) * len(values), loop.words(body, predicate), extent, grain,
        frozenset(eqn.outvars), (body, predicate), None, _interpreted(loop, extent), tuple(routines),
    )  # fmt: skip


def _interpreted(loop: _Loop, extent: int) -> Callable[[Sequence[int]], None]:
    """What `@loop` does, in Python."""

    def call(arguments: Sequence[int]) -> None:
        for to, source, nbytes in loop.copies:
            ctypes.memmove(arguments[to], arguments[source], nbytes)
        slots = [arguments[a] + offset for a, offset in loop.places]
        for _ in range(loop.length if loop.length >= 0 else extent):
            if loop.predicate is not None:
                interpret(loop.predicate.steps, loop.predicate.instructions, slots)
                if not ctypes.c_uint8.from_address(slots[loop.answer]).value:
                    break
            interpret(loop.body.steps, loop.body.instructions, slots)
            for slot, nbytes in loop.moving:
                slots[slot] += nbytes
            for read, written, one, other, _, _ in loop.carry:
                slots[read] = slots[written]
                slots[written] = arguments[other] if slots[read] == arguments[one] else arguments[one]
        for read, _, _, _, result, nbytes in loop.carry:
            if slots[read] != arguments[result]:
                ctypes.memmove(arguments[result], slots[read], nbytes)

    return call
