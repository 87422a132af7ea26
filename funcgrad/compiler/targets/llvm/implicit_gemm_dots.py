"""LLVM IR of implicit matrix products with few columns: a tile of dot products along the depth.

Neighbors in depth are neighbors in both operands. The sums of a tile are vectors whose lanes are added up at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from llvmlite import ir

from funcgrad.compiler.targets.llvm.implicit_gemm_code import Writer, integer
from funcgrad.compiler.targets.llvm.registers import CONTRACT, I32


class DotsWriter(Writer):
    """Writes the function of one tile, whose depth is not cut into blocks."""

    def _multiply(
        self,
        sources: Sequence[ir.Value],
        right: ir.Value,
        loops: Sequence[tuple[ir.Value, ir.Value, ir.Value]],
        count: ir.Value,
        at_a: ir.Value,
        at_b: ir.Value,
    ) -> None:
        if len(loops) > 1:
            super()._multiply(sources, right, loops, count, at_a, at_b)
            return
        b, lanes = self.b, self.tile.lanes
        rest = b.urem(count, integer(lanes))
        whole = b.sub(count, rest)
        with self._loop(integer(0), whole, lanes) as (k,):
            self._add(sources, right, b.add(at_a, k), b.add(at_b, k), None)
        with b.if_then(b.icmp_signed(">", rest, integer(0))):
            self._add(sources, right, b.add(at_a, whole), b.add(at_b, whole), self._mask(rest, 0))

    def _add(
        self, sources: Sequence[ir.Value], right: ir.Value, at_a: ir.Value, at_b: ir.Value, mask: ir.Value | None
    ) -> None:
        """Add the products of a vector of the depth."""
        b, columns = self.b, range(self.tile.vectors)
        places = [self._at(right, at_b, b.mul(integer(j), self.size["column_b"])) for j in columns]
        factors = [self._load_vector(place, mask) for place in places]
        for source, totals in zip(sources, self.sums, strict=True):
            x = self._load_vector(self._at(source, at_a), mask)
            for factor, total in zip(factors, totals, strict=True):
                product = b.fmul(x, factor, flags=CONTRACT)
                b.store(b.fadd(b.load(total, typ=self.vector), product, flags=CONTRACT), total)

    def _load_sums_of_tile(self, columns: ir.Value, places: Sequence[ir.Value]) -> None:
        """There are none: the only block of the depth starts them."""

    def _store_sums_of_tile(self, columns: ir.Value, places: Sequence[ir.Value]) -> None:
        for place, totals in zip(places, self.sums, strict=True):
            for j, total in enumerate(totals):
                value = self._sum_of_lanes(self.b.load(total, typ=self.vector))
                self.b.store(value, self._at(place, self.b.mul(integer(j), self.size["column_c"])))

    def _sum_of_lanes(self, x: ir.Value) -> ir.Value:
        """Add neighbors at ever smaller distances: an order that LLVM keeps."""
        lanes, nothing = self.tile.lanes, ir.Constant(self.vector, ir.Undefined)
        for distance in itertools.takewhile(bool, (lanes >> s for s in itertools.count(1))):
            places = [(i + distance) % lanes for i in range(lanes)]
            moved = self.b.shuffle_vector(x, nothing, ir.Constant(ir.VectorType(I32, lanes), places))
            x = self.b.fadd(x, moved)
        return self.b.extract_element(x, ir.Constant(I32, 0))
