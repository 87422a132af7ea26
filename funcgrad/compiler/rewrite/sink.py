"""simplified jaxpr → simplified jaxpr: cheap functions of a stored value are computed where they are read.

The derivative of y = tanh(x·w) reads 1 − y² long after the forward pass computed it. At that time y is in memory
anyway, as an operand of the next product. Computing 1 − y² from y in the kernel that reads it costs two operations and
saves the memory in between, a write and a read.

Equations are not moved but repeated, on the stored value behind a barrier that waits for the last product (or other
call) upstream of the reader. Without the barrier, fusion would put them back where they were. Exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from funcgrad.compiler.loops.equations import is_loop
from funcgrad.compiler.loops.scalars import COSTLY
from funcgrad.compiler.rewrite.control import is_control
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, JaxprEqn, Literal, Var, live
from funcgrad.core.lowering import Barrier, Elementwise, Scatter, View
from funcgrad.ops.barriers import optimization_barrier_p

_MOST_EQUATIONS = 12


class _Stage(NamedTuple):
    """How many calls lie upstream of a value, and a result of the last of them."""

    number: int
    call: Var | None


class _Chain(NamedTuple):
    """Cheap equations that make a value, in order, and the values they start from."""

    eqns: list[JaxprEqn]
    sources: list[Var]


def sink(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return an equivalent jaxpr in which less is stored from one call to the next."""
    jaxpr = closed.jaxpr
    if not any(_is_call(e) for e in jaxpr.eqns):
        return closed
    sinker = _Sinker(jaxpr.eqns, [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars)
    eqns = [new for eqn in jaxpr.eqns for new in sinker.rewritten(eqn)]
    return ClosedJaxpr(jaxpr.replace(eqns=live(eqns, jaxpr.outvars)), closed.consts)


def _is_call(eqn: JaxprEqn) -> bool:
    """Whether an equation is a step of its own that others may wait for: a product, a host call, a loop."""
    return not is_loop(eqn) and not isinstance(eqn.primitive.lowering, Barrier) and bool(eqn.outvars)


def _is_cheap(eqn: JaxprEqn) -> bool:
    lowering = eqn.primitive.lowering
    if isinstance(lowering, View):
        return True
    return (
        isinstance(lowering, Elementwise)
        and isinstance(lowering.op, str)
        and is_loop(eqn)
        and lowering.op not in COSTLY
    )


class _Sinker:
    def __init__(self, eqns: list[JaxprEqn], inputs: Iterable[Var], outvars: Iterable[Atom]):
        self.defined = {v: e for e in eqns for v in e.outvars}
        self.position = {e: i for i, e in enumerate(eqns)}
        self.stage: dict[Atom, _Stage] = {v: _Stage(0, None) for v in inputs}
        # For values that are in memory whatever is decided here: the last stage that reads them.
        self.last: dict[Atom, int] = {v: 0 for v in inputs}
        # Operands that are written in place if nothing reads them later.
        self.replaced: set[Atom] = set()
        for eqn in eqns:
            upstream = self.upstream(eqn)
            if isinstance(eqn.primitive.lowering, Scatter):
                self.replaced.add(self.viewed(eqn.invars[0]))
            if _is_call(eqn):
                upstream = _Stage(upstream.number + 1, eqn.outvars[0])
                self.last.update((v, upstream.number) for v in eqn.outvars)
                if not is_control(eqn.primitive.lowering):
                    self.last.update((self.viewed(v), upstream.number) for v in eqn.invars)
            self.stage.update((v, upstream) for v in eqn.outvars)
        self.last.update((self.viewed(v), len(eqns)) for v in outvars)

    def upstream(self, eqn: JaxprEqn) -> _Stage:
        known = [self.stage[v] for v in eqn.invars if not isinstance(v, Literal)]
        return max(known, key=lambda stage: stage.number, default=_Stage(0, None))

    def viewed(self, atom: Atom) -> Atom:
        """The value that a view shows."""
        while isinstance(atom, Var):
            eqn = self.defined.get(atom)
            if eqn is None or not isinstance(eqn.primitive.lowering, View):
                break
            atom = eqn.invars[0]
        return atom

    def rewritten(self, eqn: JaxprEqn) -> list[JaxprEqn]:
        """The equation, after those that make its operands again from what is stored."""
        if not isinstance(eqn.primitive.lowering, Elementwise) or not is_loop(eqn):
            return [eqn]
        stage = self.upstream(eqn)
        again: list[JaxprEqn] = []
        operands = list(eqn.invars)
        for i, atom in enumerate(operands):
            if isinstance(atom, Var) and self.stage[atom].number < stage.number:
                chain = self.chain(atom)
                if chain is not None and self.pays(atom, chain, stage):
                    operands[i] = _made_again(atom, chain, stage, again)
        return [*again, eqn.replace(invars=operands)] if again else [eqn]

    def chain(self, value: Var) -> _Chain | None:
        """The cheap equations between stored values and this one; None when it is stored itself, or there are many."""
        found: dict[int, JaxprEqn] = {}  # by their position
        sources: dict[Var, None] = {}
        pending: list[Atom] = [] if value in self.last else [value]
        while pending:
            atom = pending.pop()
            if isinstance(atom, Literal) or atom in sources:
                continue
            if atom in self.replaced:
                return None
            if atom in self.last:
                sources[atom] = None
                continue
            eqn = self.defined[atom]
            if self.position[eqn] in found:
                continue
            if len(found) >= _MOST_EQUATIONS or not _is_cheap(eqn):
                return None
            found[self.position[eqn]] = eqn
            pending += eqn.invars
        return _Chain([found[i] for i in sorted(found)], list(sources)) if sources else None

    def pays(self, value: Var, chain: _Chain, stage: _Stage) -> bool:
        """Whether the values to start from take no more memory than the one that is not stored."""
        if all(isinstance(e.primitive.lowering, View) for e in chain.eqns):
            return False
        held = sum(s.aval.nbytes for s in chain.sources if self.last[s] < stage.number)
        return held <= value.aval.nbytes and sum(s.aval.nbytes for s in chain.sources) <= 2 * value.aval.nbytes


def _made_again(value: Var, chain: _Chain, stage: _Stage, again: list[JaxprEqn]) -> Var:
    """Append the equations that make a value from the chain's sources when the stage is reached; return it."""
    assert stage.call is not None
    behind: dict[Atom, Var] = {s: Var(s.aval) for s in chain.sources}
    passed = Var(stage.call.aval)
    source = chain.eqns[-1].source
    again.append(JaxprEqn([*chain.sources, stage.call], [*behind.values(), passed], optimization_barrier_p, {}, source))
    for eqn in chain.eqns:
        fresh = [Var(v.aval) for v in eqn.outvars]
        again.append(eqn.replace(invars=[behind.get(v, v) for v in eqn.invars], outvars=fresh))
        behind.update(zip(eqn.outvars, fresh, strict=True))
    return behind[value]
