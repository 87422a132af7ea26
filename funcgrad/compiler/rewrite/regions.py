"""Regions: the equations between products that are computed block by block.

The scores of attention, softmax(q·kᵀ), are a product whose result is much larger than its operands, and what follows
makes them small again. `regions` finds such products, and the equations around them that one can compute for one block
of an axis at a time: the elements of a batch, or blocks of rows.

An equation joins the region of its operands if it can be computed in blocks. A value that has left the region, through
an equation that cannot, may come back: the cotangents of attention depend on its result. Equations behind such a path
are in a later region, which computes large values of the earlier one again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from funcgrad.compiler.rewrite.cuts import Cut, Flow, Part, flow_from, flow_to, is_product
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Elementwise, Iota, View

# A product with a longer contraction is not worth computing again, one with fewer columns is not a table of scores.
_MOST_CONTRACTED = 256
_LEAST_COLUMNS = 48
# What takes more equations is not computed again: random bits, for example.
_MOST_AGAIN = 48


@dataclass(eq=False)
class Region:
    """Equations that are computed block by block, those of other regions that are computed again among them.

    `flows` has them in order, each with the cut of its result; an equation may be there with several cuts.
    """

    cut: Cut  # of the first product's result
    grid: int  # the elements of that result
    eqns: list[JaxprEqn]
    made: dict[Var, Cut]  # the results of its own equations
    flows: dict[tuple[Var, Cut], tuple[JaxprEqn, Flow]] = field(default_factory=dict)
    inputs: dict[tuple[Var, Cut], None] = field(default_factory=dict)


def seed(eqn: JaxprEqn, scheduling: Scheduling) -> Cut | None:
    """Return how the result of a product is cut if it is the first one of a region."""
    if not is_product(eqn):
        return None
    (batch, rows, contracted), columns = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape[2]
    result, operands = eqn.outvars[0].aval.size, sum(v.aval.size for v in eqn.invars)
    if contracted > _MOST_CONTRACTED or columns < _LEAST_COLUMNS or result < max(operands, scheduling.min_blocked):
        return None
    if batch > 1:
        return Cut((Part(0, batch),), batch, 1) if rows * columns >= scheduling.min_block else None
    block = block_of_rows(rows, columns, scheduling)
    return Cut((Part(1, rows),), rows // block, block) if block < rows else None


def block_of_rows(rows: int, columns: int, scheduling: Scheduling) -> int:
    """Return the largest divisor of the number of rows for which a block of them is not too large, or all rows."""
    most = max(scheduling.max_block // columns, 1)
    found = next((n for n in range(min(most, rows), 0, -1) if rows % n == 0), rows)
    return found if found * columns >= scheduling.min_block else rows


class _Former:
    """One walk over the equations, which assigns them to regions."""

    def __init__(self, eqns: Sequence[JaxprEqn], scheduling: Scheduling):
        self.eqns, self.scheduling = eqns, scheduling
        self.defined = {v: e for e in eqns for v in e.outvars}
        self.flows: dict[JaxprEqn, Flow] = {}
        self.cuts: dict[Var, Cut] = {}  # of results of equations in regions
        self.stage: dict[Var, int] = {}  # how often a value has left a region
        self.parent: dict[JaxprEqn, JaxprEqn] = {}
        self.seeds: list[JaxprEqn] = []
        self.again_at: list[tuple[JaxprEqn, JaxprEqn]] = []  # what made a value, and what reads it in a later region
        for eqn in eqns:
            self.visit(eqn)
        self.join_readers()

    def visit(self, eqn: JaxprEqn) -> None:
        flow = self.joined(eqn)
        if flow is None and (cut := seed(eqn, self.scheduling)) is not None:
            flow = flow_to(eqn, cut)
            self.seeds.append(eqn)
        if flow is None:
            self.set_stage(eqn, self.operands(eqn), ())
            return
        self.flows[eqn], self.cuts[eqn.outvars[0]], self.parent[eqn] = flow, flow.result, eqn
        cuts = zip(eqn.invars, flow.operands, strict=True)
        inside = [v for v, cut in cuts if isinstance(v, Var) and cut.parts and self.cuts.get(v) == cut]
        self.set_stage(eqn, [v for v in self.operands(eqn) if v not in inside], inside)
        for v in inside:
            if self.stage[v] == self.stage[eqn.outvars[0]]:
                self.parent[self.root(self.defined[v])] = self.root(eqn)
            else:
                self.again_at.append((self.defined[v], eqn))

    def join_readers(self) -> None:
        """Make one region of the equations of a stage that read values of the same earlier region."""
        readers: dict[tuple[JaxprEqn, int], JaxprEqn] = {}
        for made, reader in self.again_at:
            key = (self.root(made), self.stage[reader.outvars[0]])
            self.parent[self.root(readers.setdefault(key, reader))] = self.root(reader)

    def joined(self, eqn: JaxprEqn) -> Flow | None:
        """The flow of an equation that reads a value in blocks; other operands may have left their regions."""
        if len(eqn.outvars) != 1:
            return None
        cuts = ((i, self.cuts.get(v)) for i, v in enumerate(eqn.invars) if isinstance(v, Var))
        flows = (flow_from(eqn, i, cut) for i, cut in cuts if cut is not None and cut.parts)
        return next((flow for flow in flows if flow is not None), None)

    def operands(self, eqn: JaxprEqn) -> list[Var]:
        return [v for v in eqn.invars if isinstance(v, Var)]

    def set_stage(self, eqn: JaxprEqn, outside: Iterable[Var], inside: Iterable[Var]) -> None:
        stages = [self.stage.get(v, 0) + (v in self.cuts) for v in outside] + [self.stage[v] for v in inside]
        self.stage.update((v, max(stages, default=0)) for v in eqn.outvars)

    def root(self, eqn: JaxprEqn) -> JaxprEqn:
        while self.parent[eqn] is not eqn:
            self.parent[eqn] = self.parent[self.parent[eqn]]
            eqn = self.parent[eqn]
        return eqn

    def regions(self) -> Iterator[Region]:
        members: dict[JaxprEqn, list[JaxprEqn]] = defaultdict(list)
        for eqn in self.flows:
            members[self.root(eqn)].append(eqn)
        first: dict[JaxprEqn, JaxprEqn] = {}
        for eqn in self.seeds:
            first.setdefault(self.root(eqn), eqn)
        for made, reader in self.again_at:
            if (product := first.get(self.root(made))) is not None:
                first.setdefault(self.root(reader), product)
        for root, found in members.items():
            if (product := first.get(root)) is not None:
                yield self.region(product, found)

    def region(self, product: JaxprEqn, members: list[JaxprEqn]) -> Region:
        out = product.outvars[0]
        eqns = self.between(members, self.cuts[out], out.aval.size)
        made = {v: self.cuts[v] for e in eqns for v in e.outvars}
        region = Region(self.cuts[out], out.aval.size, eqns, made)
        for eqn in eqns:
            self.place(region, eqn, self.flows[eqn])
        return region

    def between(self, members: list[JaxprEqn], cut: Cut, grid: int) -> list[JaxprEqn]:
        """The members that read or make a large value, and those on paths between them."""

        def touches(eqn: JaxprEqn) -> bool:
            flow = self.flows[eqn]
            values = zip((*eqn.invars, *eqn.outvars), (*flow.operands, flow.result), strict=True)
            return any(is_large(v, c, grid) for v, c in values)

        core = [touches(e) for e in members]
        below: set[Var] = set()
        after = []
        for eqn, touching in zip(members, core, strict=True):
            after.append(touching or any(v in below for v in eqn.invars))
            if after[-1]:
                below.update(eqn.outvars)
        above: set[Atom] = set()
        kept = []
        for eqn, touching, follows in reversed(list(zip(members, core, after, strict=True))):
            if touching or (follows and not above.isdisjoint(eqn.outvars)):
                kept.append(eqn)
                above.update(eqn.invars)
        return kept[::-1]

    # ---------------------------------------------------------------- what a region computes

    def place(self, region: Region, eqn: JaxprEqn, flow: Flow) -> None:
        """Add an equation after those that are computed again for its operands."""
        key = (eqn.outvars[0], flow.result)
        if key in region.flows:
            return
        for v, cut in zip(eqn.invars, flow.operands, strict=True):
            if not isinstance(v, Var) or (v, cut) in region.flows or (v, cut) in region.inputs:
                continue
            again = self.again(region, v, cut, {})
            if again is None:
                region.inputs[v, cut] = None
            else:
                self.place(region, self.defined[v], again)
        region.flows[key] = (eqn, flow)

    def again(self, region: Region, v: Var, cut: Cut, known: dict[tuple[Var, Cut], Flow | None]) -> Flow | None:
        """How to compute a value inside the region: views, and large values that small ones or inputs make."""
        if (v, cut) not in known:
            if len(known) >= _MOST_AGAIN:
                return None
            known[v, cut] = None  # until it is known; the number of values is what counts
            known[v, cut] = self._again(region, v, cut, known)
        return known[v, cut]

    def _again(self, region: Region, v: Var, cut: Cut, known: dict[tuple[Var, Cut], Flow | None]) -> Flow | None:
        eqn = self.defined.get(v)
        if eqn is None or len(eqn.outvars) != 1:
            return None
        lowering = eqn.primitive.lowering
        view, large = isinstance(lowering, View), is_large(v, cut, region.grid)
        cheap = isinstance(lowering, (Elementwise, Iota)) or seed(eqn, self.scheduling) is not None
        flow = flow_to(eqn, cut) if view or (large and cheap) else None
        if flow is None or view:
            return flow
        operands = zip(eqn.invars, flow.operands, strict=True)
        large = [(x, its) for x, its in operands if isinstance(x, Var) and is_large(x, its, region.grid)]
        # Results of regions may read what comes from outside, which is in memory for them anyway.
        made = [x for x in large if x not in region.flows and (x[0] in self.cuts or v not in self.cuts)]
        made = [(x, its) for x, its in made if x in self.defined]
        return flow if all(self.again(region, x, its, known) is not None for x, its in made) else None


def is_large(v: Atom, cut: Cut, grid: int) -> bool:
    """Whether a value has as many elements as the product that starts the region, for the blocks that it has."""
    if isinstance(v, Literal):
        return False
    lacking = math.prod(p.size for p in cut.parts if p.dim is None) if cut.parts else cut.count if cut.block == 1 else 1
    return v.aval.size * lacking >= grid


def regions(eqns: Sequence[JaxprEqn], scheduling: Scheduling) -> list[Region]:
    """Return the regions of a jaxpr."""
    return list(_Former(eqns, scheduling).regions())
