"""Small branches and loops → one kernel: what is carried along stays in registers.

A loop whose arrays have a few elements (a step of an ODE, the state of a random generator, a root finder's bracket) is
not run as a sequence of kernels. Every element becomes a scalar, and the loop becomes one loop of machine code. Only
large operands and results, mostly scanned arrays, stay in memory.

A scan without carry has independent iterations, which become the kernel's parallel loop. This is the form of `vmap`
where lanes diverge: each lane has its own branches and its own number of iterations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from funcgrad.compiler.lowering.scalar_writer import (
    Memory,
    Scalars,
    ScalarWriter,
    Unsuitable,
    Value,
    as_value,
    shaped,
)
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


class ScalarLoops(ScalarWriter):
    """Writes the kernel of a branch or loop, and of those within it."""

    def __init__(self, scheduling: Scheduling) -> None:
        super().__init__(scheduling)
        self.loops = False

    # ------------------------------------------------------------------ the kernel

    def kernel(self, eqn: JaxprEqn, operands: Sequence[Var]) -> Launch:
        """The kernel of a top-level equation and how it is called."""
        given = [self.operand(v, x.aval.shape) for v, x in zip(operands, eqn.invars, strict=True)]
        results = [self.result(v) for v in eqn.outvars]
        layout = ScanLayout.of(eqn.params) if isinstance(eqn.primitive.lowering, Scan) else None
        lanes = layout is not None and not layout.num_carry
        extent = eqn.params["length"] if lanes else 1
        if lanes:
            self.lanes(eqn, layout.split(given), results)
        else:
            n = len(given) if layout is None else sum(layout)  # what is scanned stays in memory
            self.control(eqn, [*(self.loaded(m) for m in given[:n]), *given[n:]], results)
        grain = self.limits.lane_grain if self.loops else max(1, self.limits.grain // max(1, self.cost))
        return self.launch(eqn.primitive.name, self.operations, self.body, extent=extent, grain=grain)

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
        for eqn in jaxpr.eqns:
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
        stacked = isinstance(lowering, Scan)
        self.check_few(ScanLayout.of(eqn.params).split_results(eqn.outvars)[0] if stacked else eqn.outvars)
        if isinstance(lowering, Cond):
            return self.put(self.cond(eqn, operands), into)
        self.loops = True
        if isinstance(lowering, WhileLoop):
            return self.put(self.while_loop(eqn, operands), into)
        return self.scan(eqn, operands, into)

    def put(self, values: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        for value, m in zip(values, into, strict=True):
            if m is not None:
                self.store(value, m)
        return list(values)

    def cond(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        branches = [b.jaxpr for b in eqn.params["branches"]]
        index = self.scalar(operands[0])
        if all(_is_cheap(b, self.limits.cheap_branches) for b in branches):
            results = [self.all_results(b, operands[1:]) for b in branches]
            out: list[Value] = results[0]
            for i, values in enumerate(results[1:], 1):
                # The last branch takes every larger index, the first every smaller one.
                test = "ge" if i == len(branches) - 1 else "eq"
                here = self.let(op(test, index, Const(i, index.dtype)))
                out = [self.select(here, self.scalars(v), self.scalars(o)) for v, o in zip(values, out, strict=True)]
            return out
        names = [self.accumulators([Const(0, v.aval.dtype)] * v.aval.size) for v in eqn.outvars]
        last = len(branches) - 1
        for i, branch in enumerate(branches):
            test = "le" if i == 0 else "ge" if i == last else "eq"
            taken = op(test, index, Const(i, index.dtype)) if last else Const(True, dtypes.bool_)
            with self.block() as body:
                for held, value in zip(names, self.all_results(branch, operands[1:]), strict=True):
                    self.update(held, self.scalars(value))
            self.body.append(If(taken, tuple(body)))
        return [self.current(held, v.aval.shape) for held, v in zip(names, eqn.outvars, strict=True)]

    def all_results(self, jaxpr: Jaxpr, args: Sequence[Value]) -> list[Value]:
        return [r for r in self.run(jaxpr, args, [None] * len(jaxpr.outvars)) if r is not None]

    def accumulators(self, start: Sequence[Expr]) -> list[Name]:
        out = []
        for value in start:
            name = f"a{self.number()}"
            self.body.append(Init(name, value))
            out.append(Name(name, value.dtype))
        return out

    def update(self, held: Sequence[Name], values: Scalars) -> None:
        for name, value in zip(held, values.reshape(-1), strict=True):
            self.body.append(Update(name.name, "set", value))

    def current(self, held: Sequence[Name], shape: tuple[int, ...]) -> Scalars:
        """The values of accumulators now: names that later updates do not change."""
        return shaped([self.let(n) for n in held], shape)

    def carried(self, values: Sequence[Value]) -> tuple[list[list[Name]], list[tuple[int, ...]]]:
        arrays = [self.scalars(v) for v in values]
        return [self.accumulators(list(a.reshape(-1))) for a in arrays], [a.shape for a in arrays]

    def all_current(self, held: Sequence[Sequence[Name]], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        return [self.current(h, s) for h, s in zip(held, shapes, strict=True)]

    def while_loop(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        cond_consts, body_consts, carry = WhileLayout.of(eqn.params).split(operands)
        held, shapes = self.carried(carry)
        with self.block() as setup:
            now = self.all_current(held, shapes)
            (condition,) = self.all_results(eqn.params["cond_jaxpr"].jaxpr, [*cond_consts, *now])
        with self.block() as body:
            new = self.all_results(eqn.params["body_jaxpr"].jaxpr, [*body_consts, *now])
            for h, value in zip(held, new, strict=True):
                self.update(h, self.scalars(value))
        self.body.append(While(tuple(setup), self.scalar(condition), tuple(body)))
        return self.all_current(held, shapes)

    def scan(self, eqn: JaxprEqn, operands: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        p, layout = eqn.params, ScanLayout.of(eqn.params)
        consts, carry, xs = layout.split(operands)
        carry_into, ys_into = layout.split_results(into)
        if not all(isinstance(x, Memory) for x in xs) or any(m is None for m in ys_into):
            return self.put(self.unrolled(eqn, operands), into)
        held, shapes = self.carried(carry)
        name = f"i{self.number()}"
        sign = -1 if p["reverse"] else 1

        def row(m: Memory) -> Memory:
            step = m.view.strides[0]
            last = (self.new_size("o", (p["length"] - 1) * step),) if p["reverse"] else ()
            return self.row(m, name, sign, last)

        with self.block() as body:
            slices = [self.loaded(row(x)) for x in xs if isinstance(x, Memory)]
            now = self.all_current(held, shapes)
            places = [*[None] * len(carry), *(row(m) for m in ys_into if m is not None)]
            out = self.run(p["jaxpr"].jaxpr, [*consts, *now, *slices], places)
            for h, value in zip(held, out, strict=False):
                assert value is not None
                self.update(h, self.scalars(value))
        self.body.append(For(name, self.new_size("n", p["length"]), tuple(body), "serial"))
        results = self.put(self.all_current(held, shapes), carry_into)
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
