"""Small branches and loops → one kernel: what is carried along stays in registers.

A loop whose arrays have a few elements (a step of an ODE, the state of a random generator, a root finder's bracket) is
not run as a sequence of kernels. Every element becomes a scalar, and the loop becomes one loop of machine code. Large
arrays stay in memory: what is scanned or stacked, what elements are read from, and carries that an iteration updates a
few elements of (see `scalar_updates`).

A scan without carry has independent iterations, which become the kernel's parallel loop. This is the form of `vmap`
where lanes diverge: each lane has its own branches and its own number of iterations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    If,
    Init,
    Name,
    Update,
    While,
    op,
)
from funcgrad.compiler.loops.scalars import COSTLY
from funcgrad.compiler.lowering.kernel_builder import Launch
from funcgrad.compiler.lowering.scalar_updates import UpdateWriter
from funcgrad.compiler.lowering.scalar_writer import Memory, Unsuitable, Value, as_value, shaped
from funcgrad.compiler.lowering.updates import readers_first, replaced
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout
from funcgrad.core.lowering import (
    Barrier,
    Cond,
    Elementwise,
    Iota,
    Scan,
    View,
    WhileLoop,
)


def lower_scalars(eqn: JaxprEqn, operands: Sequence[Var], scheduling: Scheduling) -> Launch:
    """The kernel of a branch or loop; raises Unsuitable where it is too large."""
    return ScalarLoops(scheduling).kernel(eqn, operands)


class Registers(NamedTuple):
    """Accumulators that hold the elements of an array of the given shape."""

    names: list[Name]
    shape: tuple[int, ...]


Held = Registers | Memory


class ScalarLoops(UpdateWriter):
    """Writes the kernel of a branch or loop, and of those within it."""

    def __init__(self, scheduling: Scheduling) -> None:
        super().__init__(scheduling)
        self.loops = False

    # ------------------------------------------------------------------ the kernel

    def kernel(self, eqn: JaxprEqn, operands: Sequence[Var]) -> Launch:
        """The kernel of a top-level equation and how it is called."""
        large = {out: place for out, place in replaced(eqn).items() if self.is_large(out)}
        kept = {place: self.replacing(out) for out, place in large.items()}
        given = [
            kept[i] if i in kept else self.operand(v, x.aval.shape)
            for i, (v, x) in enumerate(zip(operands, eqn.invars, strict=True))
        ]
        results = [kept[large[v]] if v in large else self.result(v) for v in eqn.outvars]
        layout = ScanLayout.of(eqn.params) if isinstance(eqn.primitive.lowering, Scan) else None
        lanes = layout is not None and not layout.num_carry
        extent = eqn.params["length"] if lanes else 1
        if lanes:
            self.lanes(eqn, layout.split(given), results)
        else:
            n = len(given) if layout is None else sum(layout)  # what is scanned stays in memory
            self.control(eqn, [*(self.loaded(m) for m in given[:n]), *given[n:]], results)
        grain = self.limits.lane_grain if self.loops else max(1, self.limits.grain // max(1, self.cost))
        launch = self.launch(eqn.primitive.name, self.operations, self.body, extent=extent, grain=grain)
        return launch._replace(replaces=tuple((out, operands[place]) for out, place in large.items()))

    def lanes(self, eqn: JaxprEqn, given: ScanParts[Memory], results: Sequence[Memory]) -> None:
        slices = [self.row(m, "p", 1, ()) for m in given.xs]
        args = [self.loaded(m) for m in (*given.consts, *slices)]
        self.run(eqn.params["jaxpr"].jaxpr, args, [self.row(m, "p", 1, ()) for m in results])

    # ------------------------------------------------------------------ jaxprs

    def run(self, jaxpr: Jaxpr, args: Sequence[Value], into: Sequence[Memory | None]) -> list[Value | None]:
        """Write a jaxpr's equations; results that have a place in memory go there, the others are returned."""
        env: dict[Var, Value] = dict(zip(jaxpr.invars, args, strict=True))
        place = {v: m for v, m in zip(jaxpr.outvars, into, strict=True) if m is not None and isinstance(v, Var)}

        def read(atom: Atom) -> Value:
            return self.literal(atom) if isinstance(atom, Literal) else env[atom]

        stored: set[Var] = set()
        for eqn in readers_first(jaxpr.eqns, self.is_large):
            self.check_dtypes(eqn)
            operands = [read(v) for v in eqn.invars]
            if isinstance(eqn.primitive.lowering, (Scan, WhileLoop, Cond)):
                env.update(
                    zip(eqn.outvars, self.control(eqn, operands, [place.get(v) for v in eqn.outvars]), strict=True)
                )
                stored |= {v for v in eqn.outvars if v in place}
            elif isinstance(eqn.primitive.lowering, Barrier):
                env.update(zip(eqn.outvars, operands, strict=True))
            else:
                env.update(zip(eqn.outvars, self.results(eqn, operands), strict=True))
        results: list[Value | None] = []
        for atom, m in zip(jaxpr.outvars, into, strict=True):
            if m is None:
                results.append(read(atom))
                continue
            results.append(None)
            if not (isinstance(atom, Var) and atom in stored):
                self.store(read(atom), m)
            elif place[atom] is not m:
                self.store(self.scalars(env[atom]), m)  # one result in two places
        return results

    # ------------------------------------------------------------------ control flow

    def control(self, eqn: JaxprEqn, operands: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        """Write a branch or loop within the kernel."""
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Cond):
            return self.put(self.cond(eqn, operands), into)
        self.loops = True
        if isinstance(lowering, WhileLoop):
            return self.put(self.while_loop(eqn, operands, into), into)
        return self.scan(eqn, operands, into)

    def put(self, values: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        for value, m in zip(values, into, strict=True):
            if m is not None and not (isinstance(value, Memory) and self.is_in(value, m)):
                self.store(value, m)
        return list(values)

    def cond(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        branches = [b.jaxpr for b in eqn.params["branches"]]
        index = self.scalar(operands[0])
        large = any(map(self.is_large, eqn.outvars))
        if not large and all(_is_cheap(b, self.limits.cheap_branches) for b in branches):
            results = [self.all_results(b, operands[1:]) for b in branches]
            out: list[Value] = results[0]
            for i, values in enumerate(results[1:], 1):
                # The last branch takes every larger index, the first every smaller one.
                test = "ge" if i == len(branches) - 1 else "eq"
                here = self.let(op(test, index, Const(i, index.dtype)))
                out = [self.select(here, self.scalars(v), self.scalars(o)) for v, o in zip(values, out, strict=True)]
            return out
        held = [
            None if self.is_large(v) else self.registers([Const(0, v.aval.dtype)] * v.aval.size, v.aval.shape)
            for v in eqn.outvars
        ]
        last, ends = len(branches) - 1, list[list[Value]]()
        for i, branch in enumerate(self.alternatives(branches)):
            test = "le" if i == 0 else "ge" if i == last else "eq"
            taken = op(test, index, Const(i, index.dtype)) if last else Const(True, dtypes.bool_)
            with self.block() as body:
                ends.append(self.all_results(branch, operands[1:]))
                for h, value, first in zip(held, ends[-1], ends[0], strict=True):
                    self.advance(h if h is not None else first, value)
            self.body.append(If(taken, tuple(body)))
        return self.current([first if h is None else h for h, first in zip(held, ends[0], strict=True)])

    def all_results(self, jaxpr: Jaxpr, args: Sequence[Value]) -> list[Value]:
        return [r for r in self.run(jaxpr, args, [None] * len(jaxpr.outvars)) if r is not None]

    def registers(self, start: Sequence[Expr], shape: tuple[int, ...]) -> Registers:
        """Accumulators with the given values."""
        names = []
        for value in start:
            name = f"a{self.number()}"
            self.body.append(Init(name, value))
            names.append(Name(name, value.dtype))
        return Registers(names, shape)

    def carried(self, values: Sequence[Value], atoms: Sequence[Atom], into: Sequence[Memory | None]) -> list[Held]:
        """Where a loop carries values that start with the given ones; large arrays may be `into` memory."""
        return [
            self.carried_memory(value, atom.aval, m)
            if self.is_large(atom)
            else self.registers(list((x := self.scalars(value)).reshape(-1)), x.shape)
            for value, atom, m in zip(values, atoms, into, strict=True)
        ]

    def advance(self, held: Held | Value, value: Value) -> None:
        """Make a value the next one of what is held; that in memory must be there already."""
        if isinstance(held, Registers):
            for name, x in zip(held.names, self.scalars(value).reshape(-1), strict=True):
                self.body.append(Update(name.name, "set", x))
        elif not (isinstance(held, Memory) and self.is_in(value, held)):
            raise Unsuitable

    def current(self, held: Sequence[Held | Value]) -> list[Value]:
        """The values that are held now: names that later updates do not change, and memory."""
        out: list[Value] = []
        for h in held:
            if isinstance(h, Registers):
                out.append(shaped([self.let(n) for n in h.names], h.shape))
            else:
                assert isinstance(h, Memory)
                out.append(self.latest(h))
        return out

    def while_loop(self, eqn: JaxprEqn, operands: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        cond_consts, body_consts, carry = WhileLayout.of(eqn.params).split(operands)
        held = self.carried(carry, eqn.outvars, into)
        with self.iterated(held):
            with self.block() as setup:
                now = self.current(held)
                (condition,) = self.all_results(eqn.params["cond_jaxpr"].jaxpr, [*cond_consts, *now])
            with self.block() as body:
                new = self.all_results(eqn.params["body_jaxpr"].jaxpr, [*body_consts, *now])
                for h, value in zip(held, new, strict=True):
                    self.advance(h, value)
        self.body.append(While(tuple(setup), self.scalar(condition), tuple(body)))
        return self.current(held)

    def scan(self, eqn: JaxprEqn, operands: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        p, layout = eqn.params, ScanLayout.of(eqn.params)
        consts, carry, xs = layout.split(operands)
        carry_into, ys_into = layout.split_results(into)
        if not all(isinstance(x, Memory) for x in xs) or any(m is None for m in ys_into):
            return self.put(self.unrolled(eqn, operands), into)
        held = self.carried(carry, eqn.outvars[: layout.num_carry], carry_into)
        name = f"i{self.number()}"
        sign = -1 if p["reverse"] else 1

        def row(m: Memory) -> Memory:
            step = m.view.strides[0]
            last = (self.new_size("o", (p["length"] - 1) * step),) if p["reverse"] else ()
            return self.row(m, name, sign, last)

        with self.iterated(held), self.block() as body:
            slices = [self.loaded(row(x)) for x in xs if isinstance(x, Memory)]
            now = self.current(held)
            places = [*[None] * len(carry), *(row(m) for m in ys_into if m is not None)]
            out = self.run(p["jaxpr"].jaxpr, [*consts, *now, *slices], places)
            for h, value in zip(held, out, strict=False):
                assert value is not None
                self.advance(h, value)
        self.body.append(For(name, self.new_size("n", p["length"]), tuple(body), "serial"))
        results = self.put(self.current(held), carry_into)
        return [*results, *(m for m in ys_into if m is not None)]

    def unrolled(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """A scan over scalars, or that stacks scalars: one iteration after another."""
        p, layout = eqn.params, ScanLayout.of(eqn.params)
        length = p["length"]
        if length > self.limits.max_scalar_elements:
            raise Unsuitable
        consts, carry, xs = layout.split(operands)
        rows: dict[int, list[Value]] = {}
        for i in reversed(range(length)) if p["reverse"] else range(length):
            slices = [x[i] if not isinstance(x, Memory) else self.loaded(x.element(i)) for x in xs]
            out = self.all_results(p["jaxpr"].jaxpr, [*consts, *carry, *(as_value(s) for s in slices)])
            carry, rows[i] = layout.split_results(out)
        ys: list[Value] = []
        for k, var in enumerate(layout.split_results(eqn.outvars)[1]):
            parts = [self.scalars(rows[i][k]) for i in range(length)]
            if math.prod(var.aval.shape) > self.limits.max_scalar_elements:
                raise Unsuitable
            ys.append(np.stack(parts) if parts else np.empty(var.aval.shape, object))
        return [*carry, *ys]


def _is_cheap(jaxpr: Jaxpr, limit: int) -> bool:
    """Whether a branch costs at most so many operations, so that it may as well be computed where it is not taken."""
    cost = 0
    for eqn in jaxpr.eqns:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, (Scan, WhileLoop, Cond)):
            return False
        if isinstance(lowering, Elementwise):
            simple = isinstance(lowering.op, str) and lowering.op not in COSTLY
            cost += (1 if simple else limit) * eqn.outvars[0].aval.size
        elif not isinstance(lowering, (View, Iota)):
            cost += sum(v.aval.size for v in (*eqn.invars, *eqn.outvars))
    return cost <= limit
