"""What lowering must know about a group: where its values come from, and at which level and phase they are computed."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable

from funcgrad import dtypes
from funcgrad.compiler.fusion.access import Access, without_units
from funcgrad.compiler.fusion.domains import domain_of, is_positional, level_of, reads_elsewhere
from funcgrad.compiler.fusion.fuse import Fusion
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.loops.equations import MOST_PARTS, is_comparison, is_costly, scalar_ops
from funcgrad.compiler.lowering import schedule as sch
from funcgrad.core.jaxprs import JaxprEqn, Var
from funcgrad.core.lowering import Concatenate, Interleave, Pad, Reduce, contiguous

_TOGETHER = 4  # rows that are computed together if they share what they read
_MOST_WORK = 64  # of a group whose rows are


def is_rounded_sum(eqn: JaxprEqn) -> bool:
    """Whether an equation is a sum of floats, whose roundings grow with the number of terms."""
    lowering = eqn.primitive.lowering
    return isinstance(lowering, Reduce) and lowering.op == "add" and dtypes.is_float(eqn.outvars[0].aval.dtype)


class Analysis:
    """What is known about a group before its loops are written: accesses, levels, phases."""

    def __init__(self, fusion: Fusion, group: Group, stored: set[Var]):
        self.fusion, self.group, self.stored = fusion, group, stored
        self.made = {v: e for e in group.eqns for v in e.outvars}
        self.folds = [e for e in group.eqns if isinstance(e.primitive.lowering, Reduce) and domain_of(e)[1]]
        self.level = {v: level_of(e, group, of_result=True) for v, e in self.made.items()}
        self.phase: dict[Var, int] = {}
        for eqn in group.eqns:
            self._set_phase(eqn)
        barriers = frozenset(range(len(group.domain))) if any(map(is_positional, group.eqns)) else frozenset()
        strides = [self.full_strides(a, level_of(e, group)) for e in group.eqns for a in self.outside(e)]
        strides += [self.store_strides(v) for v in self.made if v in stored]
        self.dimensions = sch.collapse(group.domain, group.axes, strides, barriers)
        self.nest = sch.schedule(self.dimensions, fusion.scheduling, strides)
        # Whether all that the vector loop reads and writes is next to each other.
        self.simd = not barriers and all(s[-1] in (0, 1, -1) for s in strides if s)
        self.cuts = self._cuts(len(group.domain) - 1)
        if self.cuts and len(self.dimensions) == 1:
            self.nest = dataclasses.replace(self.nest, block=fusion.scheduling.map_block)
        elif self._has_row_loop():
            row, shared = len(self.dimensions) - 2, any(s[-1] and not s[-2] for s in strides if len(s) > 1)
            together = _TOGETHER if shared and group.work <= _MOST_WORK else 1
            self.nest = dataclasses.replace(self.nest, row=row, together=together)

    def _cuts(self, dimension: int) -> tuple[int, ...]:
        """The indices along a dimension where a concatenation or padding changes from one part to the next.

        The vector loop is cut there: within each piece it is known which part is read, and nothing is masked.
        """
        if self.nest.form != "map" or self.nest.tile is not None or dimension < 0:
            return ()
        found = {c for e in self.group.eqns for c in positional_cuts(e, dimension)}
        inside = tuple(sorted(c for c in found if 0 < c < self.group.domain[dimension]))
        return inside if len(inside) < MOST_PARTS else ()

    def _has_row_loop(self) -> bool:
        """Whether a parallel iteration of a map is to run over the last two dimensions.

        It saves what is computed for each row: its indices from the number of the iteration, and whether it is padding.
        """
        nest, limits = self.nest, self.fusion.scheduling
        if nest.form != "map" or nest.tile is not None or nest.block or len(self.dimensions) < 3:
            return False
        outer = math.prod(d.extent for d in self.dimensions[:-2])
        return outer >= limits.min_parallel and (bool(self.inside()) or self.dimensions[-1].extent < limits.short_row)

    def inside(self) -> dict[int, tuple[int, int]]:
        """For dimensions of the domain but the last one that cuts divide, the longest piece."""
        found = {}
        for d, n in enumerate(self.group.domain[:-1]):
            if cuts := self._cuts(d):
                found[d] = max(itertools.pairwise([0, *cuts, n]), key=lambda piece: piece[1] - piece[0])
        return found

    def _set_phase(self, eqn: JaxprEqn) -> None:
        phase = 0
        for source, _ in self.fusion.accesses[eqn]:
            if isinstance(source, Var) and source in self.made:
                phase = max(phase, self.phase[source])
        folds = isinstance(eqn.primitive.lowering, Reduce) and bool(domain_of(eqn)[1])
        self.phase.update((v, phase + folds) for v in eqn.outvars)

    def outside(self, eqn: JaxprEqn) -> Iterable[Access]:
        """The operands of an equation that are read from memory, at the points of its own level."""
        for i, access in enumerate(self.fusion.accesses[eqn]):
            outside = isinstance(access.source, Var) and access.source not in self.made
            if outside and not reads_elsewhere(eqn, i):
                yield access

    def full_strides(self, access: Access, level: str) -> tuple[int, ...]:
        """Strides over the whole domain, 0 where an access does not move."""
        domain, axes = self.group.domain, self.group.axes
        view = without_units(access.view)
        if not view.shape:
            return (0,) * len(domain)
        if level == "full":
            return view.strides
        rows = iter(view.strides)
        return tuple(0 if d in axes else next(rows) for d in range(len(domain)))

    def store_strides(self, var: Var) -> tuple[int, ...]:
        """Strides with which a value is written, in its own order."""
        eqn = self.made[var]
        if isinstance(eqn.primitive.lowering, Interleave):
            steps, factors = contiguous(var.aval.shape).strides, eqn.params["factors"]
            sizes = eqn.invars[0].aval.shape
            return tuple(step * f for n, step, f in zip(sizes, steps, factors, strict=True) if n != 1)
        if self.level[var] == "full":
            return contiguous(self.group.domain).strides
        rows = iter(contiguous(self.group.row_shape).strides)
        return tuple(0 if d in self.group.axes else next(rows) for d in range(len(self.group.domain)))

    def cost(self) -> int:
        """Simple operations per element, roughly."""
        return 1 + sum(8 if is_costly(e) else 1 for e in self.group.eqns) // 2

    def compared_sums(self) -> set[Var]:
        """Full values that are sums, which may be contracted with a product, and that comparisons depend on."""
        found: set[Var] = set()
        stack = [e for e in self.made.values() if is_comparison(e)]
        while stack:
            for source, _ in self.fusion.accesses[stack.pop()]:
                if isinstance(source, Var) and self.level.get(source) == "full" and source not in found:
                    found.add(source)
                    stack.append(self.made[source])
        return {v for v in found if not {"add", "sub"}.isdisjoint(scalar_ops(self.made[v]))}

    def partial_blocks(self) -> int:
        """The number of pieces that the folds are cut into; only folds that no full value depends on can be cut."""
        waits = any(self.level[v] == "full" and self.phase[v] > 0 for v in self.made)
        second = any(self.phase[e.outvars[0]] > 1 for e in self.folds)
        return 0 if not self.folds or waits or second else sch.partial_blocks(self.nest, self.fusion.scheduling)


def domain_dimensions(eqn: JaxprEqn) -> dict[int, int]:
    """From dimensions of the result to dimensions of the domain; those of size 1 have none."""
    shape = (eqn.invars if isinstance(eqn.primitive.lowering, Interleave) else eqn.outvars)[0].aval.shape
    return {d: i for i, d in enumerate(d for d, n in enumerate(shape) if n != 1)}


def positional_cuts(eqn: JaxprEqn, dimension: int) -> list[int]:
    """The indices along a dimension of the domain where an equation changes from one part to the next."""
    place = domain_dimensions(eqn)
    if isinstance(eqn.primitive.lowering, Concatenate) and place.get(eqn.params["dimension"]) == dimension:
        sizes = [v.aval.shape[eqn.params["dimension"]] for v in eqn.invars]
        return list(itertools.accumulate(sizes))
    if isinstance(eqn.primitive.lowering, Pad):
        for d, (low, _, interior) in enumerate(eqn.params["padding_config"]):
            if place.get(d) == dimension and not interior:
                return [low, low + eqn.invars[0].aval.shape[d]]
    return []


def reduction_of(eqn: JaxprEqn) -> Reduce:
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, Reduce)
    return lowering
