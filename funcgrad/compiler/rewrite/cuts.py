"""Blocks of an axis: which block of the operands an equation reads to compute one block of its result.

An axis of a value is cut into blocks, such as the rows of attention scores into blocks of rows. Elementwise operations
read the same block of each operand; views move the axis, or lose it; a product reads a block of one operand and all of
the other. A reduction or product that sums over the axis gives a partial sum for each block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from funcgrad.compiler.rewrite import products
from funcgrad.core.jaxprs import JaxprEqn
from funcgrad.core.lowering import Contract, Elementwise, Iota, Reduce
from funcgrad.ops.shapes import broadcast_in_dim_p, reshape_p, squeeze_p, transpose_p
from funcgrad.ops.slicing import iota_p


class Part(NamedTuple):
    """A dimension of the axis: which dimension of the value it is (None: the value lacks it), and its size."""

    dim: int | None
    size: int


class Cut(NamedTuple):
    """An axis of a value, cut into blocks of `block` elements.

    The axis may be several dimensions, from major to minor, such as the batch and the heads of attention. Then blocks
    are of the last one, and of single elements of the others. A value without parts is the same for all blocks.
    """

    parts: tuple[Part, ...]
    count: int  # of blocks
    block: int

    @property
    def dims(self) -> list[int]:
        """The dimensions that are cut."""
        return [p.dim for p in self.parts if p.dim is not None]

    @property
    def is_full(self) -> bool:
        """Whether the value has the whole axis."""
        return bool(self.parts) and all(p.dim is not None for p in self.parts)

    @property
    def blocks(self) -> dict[int, int]:
        """The size of a block in each dimension that is cut."""
        sizes = [*(1 for _ in self.parts[1:]), self.block]
        return {p.dim: n for p, n in zip(self.parts, sizes, strict=False) if p.dim is not None}

    def with_parts(self, parts: Sequence[Part]) -> Cut:
        """Return the same axis at other dimensions."""
        return self._replace(parts=tuple(parts) if any(p.dim is not None for p in parts) else ())

    def moved(self, place: Callable[[int], int | None]) -> Cut:
        """Return the cut with each dimension replaced."""
        return self.with_parts([p if p.dim is None else p._replace(dim=place(p.dim)) for p in self.parts])

    def block_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a block of a value."""
        return tuple(self.blocks.get(d, n) for d, n in enumerate(shape))


class Flow(NamedTuple):
    """How an equation is computed block by block: the cuts of its operands and of its result.

    With `sums`, the result is the sum over blocks.
    """

    operands: tuple[Cut, ...]
    result: Cut
    sums: bool = False


def flow_from(eqn: JaxprEqn, i: int, cut: Cut) -> Flow | None:
    """Return how an equation is computed if operand `i` is cut, or None if it cannot be computed in blocks."""
    if _sums_over(eqn, i, cut):
        return _sum(eqn, i, cut) if cut.block > 1 else None
    result = _result_cut(eqn, i, cut)
    return flow_to(eqn, result) if result is not None and result.parts else None


def flow_to(eqn: JaxprEqn, cut: Cut) -> Flow | None:
    """Return how an equation is computed if its result is cut, or None if it cannot be computed in blocks."""
    operands = _operand_cuts(eqn, cut)
    return None if operands is None else Flow(tuple(operands), cut)


def is_product(eqn: JaxprEqn) -> bool:
    """Whether an equation is a product in canonical form."""
    return isinstance(eqn.primitive.lowering, Contract) and products.is_canonical(eqn)


_VIEWS = (reshape_p, squeeze_p)


def _sums_over(eqn: JaxprEqn, i: int, cut: Cut) -> bool:
    if isinstance(eqn.primitive.lowering, Reduce):
        return not set(cut.dims).isdisjoint(eqn.params["axes"])
    return is_product(eqn) and cut.dims == [2 - i]


def _sum(eqn: JaxprEqn, i: int, cut: Cut) -> Flow | None:
    whole = cut.with_parts([])
    if isinstance(eqn.primitive.lowering, Reduce):
        adds = eqn.primitive.lowering.op == "add" and set(cut.dims) <= set(eqn.params["axes"])
        return Flow((cut,), whole, sums=True) if adds else None
    (part,) = cut.parts
    return Flow(tuple(cut.with_parts([part._replace(dim=d)]) for d in (2, 1)), whole, sums=True)


def _result_cut(eqn: JaxprEqn, i: int, cut: Cut) -> Cut | None:
    lowering, primitive, params = eqn.primitive.lowering, eqn.primitive, eqn.params
    given, out = eqn.invars[i].aval.shape, eqn.outvars[0].aval.shape
    if isinstance(lowering, Elementwise):
        return cut if given == out else None
    if isinstance(lowering, Reduce):
        return cut.moved(lambda d: d - sum(a < d for a in params["axes"]))
    if is_product(eqn):
        return cut if cut.dims in ([0], [1 + i]) else None
    if primitive is broadcast_in_dim_p:
        return cut.moved(lambda d: params["broadcast_dimensions"][d])
    if primitive is transpose_p:
        return cut.moved(params["permutation"].index)
    return _reshaped(cut, given, out) if primitive in _VIEWS else None


def _operand_cuts(eqn: JaxprEqn, cut: Cut) -> list[Cut] | None:
    lowering, primitive, params = eqn.primitive.lowering, eqn.primitive, eqn.params
    out, whole = eqn.outvars[0].aval.shape, cut.with_parts([])
    if isinstance(lowering, Elementwise):
        return [cut if v.aval.shape == out else whole for v in eqn.invars]
    if isinstance(lowering, Reduce):
        kept = [d for d in range(eqn.invars[0].aval.ndim) if d not in params["axes"]]
        return [cut.moved(kept.__getitem__)]
    if is_product(eqn):
        moved: dict[tuple[int, ...], list[Cut]] = {
            (): [whole, whole],
            (0,): [cut, cut],
            (1,): [cut, whole],
            (2,): [whole, cut],
        }
        return moved.get(tuple(cut.dims))
    if primitive is broadcast_in_dim_p:
        shape = eqn.invars[0].aval.shape
        place = {d: i for i, d in enumerate(params["broadcast_dimensions"]) if shape[i] == out[d]}
        return [cut.moved(place.get)]
    if primitive is transpose_p:
        return [cut.moved(params["permutation"].__getitem__)]
    if primitive in _VIEWS:
        operand = _reshaped(cut, out, eqn.invars[0].aval.shape)
        return None if operand is None else [operand]
    return [] if isinstance(lowering, Iota) else None


def _reshaped(cut: Cut, given: Sequence[int], out: Sequence[int]) -> Cut | None:
    """The cut after a reshape.

    A run of dimensions that becomes another one is a single dimension on both sides, or it is cut as a whole. In the
    second case, blocks of the last dimension must be blocks of the other one.
    """
    parts = list(cut.parts)
    for run, becomes in _runs(given, out):
        places = [k for k, p in enumerate(parts) if p.dim in run]
        if not places:
            continue
        first, end = places[0], places[0] + len(run)
        if len(run) == len(becomes) == 1:
            new = [parts[first]._replace(dim=~becomes[0])]
        elif [p.dim for p in parts[first:end]] == run and (end < len(parts) or out[becomes[-1]] % cut.block == 0):
            new = [Part(~d, out[d]) for d in becomes]
        else:
            return None
        parts[first:end] = new  # negative until the end, for the dimensions have other numbers
    return cut.with_parts([p if p.dim is None else p._replace(dim=~p.dim) for p in parts])


def _runs(given: Sequence[int], out: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Pairs of runs of dimensions with the same number of elements, without those of size 1."""
    pending = [d for d, n in enumerate(out) if n != 1][::-1]
    run: list[int] = []
    becomes: list[int] = []
    have = wanted = 1
    for d, n in enumerate(given):
        if n == 1:
            continue
        run.append(d)
        have *= n
        while wanted < have and pending:
            becomes.append(pending.pop())
            wanted *= out[becomes[-1]]
        if wanted == have:
            yield run, becomes
            run, becomes, have, wanted = [], [], 1, 1


def bind_block(eqn: JaxprEqn, cut: Cut, operands: Sequence[Any]) -> Any:
    """Apply an equation to blocks of its operands; an iota counts from 0 in each block."""
    params, shape = eqn.params, cut.block_shape(eqn.outvars[0].aval.shape)
    name = {broadcast_in_dim_p: "shape", reshape_p: "new_sizes", iota_p: "shape"}.get(eqn.primitive)
    return eqn.primitive.bind(*operands, **(params | {name: shape} if name and cut.parts else params))
