"""simplified jaxpr → simplified jaxpr: products whose results are large are computed block by block with what follows.

    s = q·kᵀ; p = softmax(s); o = p·v       becomes       blocks(b: s = q[b]·k[b]ᵀ; p = softmax(s); o[b] = p·v[b])

The scores s are as large as the square of the sequence, but those of one block fit into a cache. Blocks are elements of
the batch, each of which is cut further into blocks of rows if it is too large. The results are the same up to the order
in which products add up.

The gradient is in blocks too. Where it needs scores that a block has computed in the forward pass, it computes them
again, from operands that are in memory. Sums over blocks of rows, such as the cotangents of k and v, are carried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcgrad.compiler.rewrite.control import is_control
from funcgrad.compiler.rewrite.cuts import Cut, bind_block
from funcgrad.compiler.rewrite.regions import Region, is_large, regions
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, eval_jaxpr
from funcgrad.core.layouts import ScanLayout
from funcgrad.core.lowering import Blocks, Iota, Reduce
from funcgrad.core.primitives import Primitive
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.dtypes import int32
from funcgrad.ops.arithmetic import add_p, div_p, mul_p, rem_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.dynamic_slices import dynamic_slice_p
from funcgrad.ops.shapes import broadcast_in_dim, expand_dims, reshape, transpose, zeros_of
from funcgrad.ops.slicing import concatenate, iota


def _infer(*avals: ShapedArray, jaxpr: ClosedJaxpr, length: int, **params: Any) -> list[ShapedArray]:
    carry, ys = ScanLayout.of(params).split_results(jaxpr.out_avals)
    return [*carry, *(y.update(shape=(length, *y.shape)) for y in ys)]


def _evaluate(*arrays: Any, jaxpr: ClosedJaxpr, length: int, **params: Any) -> list[Any]:
    layout = ScanLayout.of(params)
    consts, carry, xs = layout.split(arrays)
    rows: list[list[Any]] = []
    for i in range(length):
        out = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *(x[i] for x in xs))
        carry, ys = layout.split_results(out)
        rows.append([expand_dims(y, (0,)) for y in ys])
    return [*carry, *(concatenate(ys, 0) for ys in zip(*rows, strict=True))]


blocks_p = Primitive(
    "blocks",
    infer=_infer,
    evaluate=_evaluate,
    lowering=Blocks(),
    multiple_results=True,
    higher_order=True,
    register=False,
)


def in_blocks(closed: ClosedJaxpr, scheduling: Scheduling, inside: bool = False) -> ClosedJaxpr:
    """Return an equivalent jaxpr that stores no large intermediate results of products.

    `inside`: it computes one element of a batch.
    """
    changed = closed.memo(("blocks", scheduling, inside), lambda: _in_blocks(closed, scheduling, inside))
    return changed or closed


def _in_blocks(closed: ClosedJaxpr, scheduling: Scheduling, inside: bool) -> ClosedJaxpr | None:
    """The jaxpr in blocks, or None if nothing is: a jaxpr does not refer to itself."""
    jaxpr = closed.jaxpr
    eqns = [_with_bodies(e, scheduling) if is_control(e.primitive.lowering) else e for e in jaxpr.eqns]
    if not any(e.effectful for e in eqns):
        found = [r for r in regions(eqns, scheduling) if inside or _is_worth_it(r)]
        eqns = _rewritten(eqns, jaxpr.outvars, found, scheduling)
    same = len(eqns) == len(jaxpr.eqns) and all(a is b for a, b in zip(eqns, jaxpr.eqns, strict=True))
    return None if same else ClosedJaxpr(jaxpr.replace(eqns=eqns), closed.consts)


def _with_bodies(eqn: JaxprEqn, scheduling: Scheduling) -> JaxprEqn:
    """A branch or loop whose own jaxprs are in blocks."""

    def made(value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            return in_blocks(value, scheduling)
        if not isinstance(value, tuple):
            return value
        new = tuple(map(made, value))
        return value if all(a is b for a, b in zip(new, value, strict=True)) else new

    params = {name: made(value) for name, value in eqn.params.items()}
    same = all(params[name] is value for name, value in eqn.params.items())
    return eqn if same else eqn.replace(params=params)


def _is_worth_it(region: Region) -> bool:
    """Whether a region is attention, or alike: rows of one matrix are in blocks only if they are reduced.

    The layers of a perceptron are faster as they are.
    """
    reduces = (e.primitive.lowering for e, flow in region.flows.values() if not flow.sums)
    return region.cut.block == 1 or any(isinstance(x, Reduce) for x in reduces)


# ---------------------------------------------------------------- the order of equations and regions

_Node = JaxprEqn | Region


def _rewritten(
    eqns: Sequence[JaxprEqn], outvars: Sequence[Atom], found: list[Region], scheduling: Scheduling
) -> Sequence[JaxprEqn]:
    """The equations, those of regions as loops."""
    if found:
        read = _read(_ordered(eqns, found), outvars)
        found = [r for r in found if _saves(r, read)]
    if not found:
        return eqns
    order = _ordered(eqns, found)
    read = _read(order, outvars)
    return [e for node in order for e in _emitted(node, read, scheduling)]


def _saves(region: Region, read: set[Var]) -> bool:
    """Whether large values stay inside a region."""
    return any(v not in read and is_large(v, cut, region.grid) for v, cut in region.made.items())


def _results(node: _Node) -> Sequence[Var]:
    return list(node.made) if isinstance(node, Region) else node.outvars


def _operands(node: _Node) -> Iterator[Var]:
    if isinstance(node, Region):
        yield from (v for v, _ in node.inputs)
    else:
        yield from (v for v in node.invars if isinstance(v, Var))


def _ordered(eqns: Sequence[JaxprEqn], found: Sequence[Region]) -> list[_Node]:
    """Equations and regions in an order that can run: that of the equations, where it is one."""
    region_of = {e: r for r in found for e in r.eqns}
    node_of = {v: region_of.get(e, e) for e in eqns for v in e.outvars}
    done: set[_Node] = set()
    order: list[_Node] = []
    for eqn in eqns:
        stack = [(node := region_of.get(eqn, eqn), _operands(node))]
        while stack:
            node, operands = stack[-1]
            missing = next((n for v in operands if (n := node_of.get(v)) is not None and n not in done), None)
            if missing is not None:
                stack.append((missing, _operands(missing)))
                continue
            stack.pop()
            if node not in done:
                done.add(node)
                order.append(node)
    return order


def _read(order: Sequence[_Node], outvars: Sequence[Atom]) -> set[Var]:
    """The values that a live equation or region reads, or that are returned."""
    read = {v for v in outvars if isinstance(v, Var)}
    for node in reversed(order):
        if any(v in read for v in _results(node)):
            read.update(_operands(node))
    return read


def _emitted(node: _Node, read: set[Var], scheduling: Scheduling) -> list[JaxprEqn]:
    results = [v for v in _results(node) if v in read]
    if not results:
        return []
    if isinstance(node, JaxprEqn):
        return [node]
    operands = list(dict.fromkeys(_operands(node)))
    loop = _Loop(node, results, scheduling)
    closed = trace_to_jaxpr(
        lambda *args: loop.apply(dict(zip(operands, args, strict=True))), [v.aval for v in operands]
    )
    assert not closed.consts
    return _spliced(closed.jaxpr, operands, results)


def _spliced(jaxpr: Jaxpr, operands: Sequence[Var], results: Sequence[Var]) -> list[JaxprEqn]:
    """The equations of a jaxpr in terms of the given operands and results."""
    env: dict[Atom, Var] = dict(zip((*jaxpr.invars, *jaxpr.outvars), (*operands, *results), strict=True))
    return [
        e.replace(invars=[env.get(v, v) for v in e.invars], outvars=[env.get(v, v) for v in e.outvars])
        for e in jaxpr.eqns
    ]


# ---------------------------------------------------------------- the loop of a region


class _Loop:
    """The loop over the blocks of a region: its operands, and its body.

    Values that have the whole axis are scanned, others are consts. One that has some dimensions of the axis (a mask for
    each element of the batch, and all heads) is sliced in the body.
    """

    def __init__(self, region: Region, results: Sequence[Var], scheduling: Scheduling):
        self.region, self.results, self.scheduling = region, results, scheduling
        self.axis = region.cut
        self.scanned = [(v, cut) for v, cut in region.inputs if cut.is_full]
        self.consts = [(v, cut) for v, cut in region.inputs if not cut.is_full]
        self.stacked = [(v, region.made[v]) for v in results if region.made[v].parts]
        self.sums = [v for v in results if not region.made[v].parts]
        # The parts of the axis for which the body must know where the block begins.
        cuts = [cut for _, cut in self.consts] + [
            f.result for e, f in region.flows.values() if isinstance(e.primitive.lowering, Iota)
        ]
        self.starts = list(dict.fromkeys(key for cut in cuts for key in _starts(cut)))

    def apply(self, env: dict[Var, Any]) -> list[Any]:
        """Bind the loop; return the results of the region."""
        consts = [env[v] for v, _ in self.consts]
        xs = [_cut(env[v], cut) for v, cut in self.scanned] + [self.start(*key) for key in self.starts]
        sums = [zeros_of(v.aval) for v in self.sums]
        avals = [x.aval for x in (*consts, *sums)] + [x.aval.update(shape=x.aval.shape[1:]) for x in xs]
        body = trace_to_jaxpr(self.body, avals)
        if self.axis.block == 1:
            body = in_blocks(body, self.scheduling, inside=True)
        layout = ScanLayout(len(consts), len(sums))._asdict()
        params = layout | {"jaxpr": body, "length": self.axis.count, "reverse": False, "unroll": 1}
        out = blocks_p.bind(*consts, *sums, *xs, **params)
        made = dict(zip(self.sums, out, strict=False))
        for (v, cut), x in zip(self.stacked, out[len(sums) :], strict=True):
            made[v] = _joined(x, cut, v.aval.shape)
        return [made[v] for v in self.results]

    def start(self, steps: int, sizes: tuple[int, int]) -> Any:
        """Where each block begins in a dimension of the axis; see `_starts`."""
        blocks, (size, block) = iota(int32, (self.axis.count,), 0), sizes
        place = rem_p.bind(div_p.bind(blocks, _filled(steps, blocks)), _filled(size // block, blocks))
        return mul_p.bind(place, _filled(block, blocks))

    def body(self, *args: Any) -> list[Any]:
        """Compute one block; the sums come first."""
        values = iter(args)
        env = {key: next(values) for key in self.consts}
        sums = [next(values) for _ in self.sums]
        env.update((key, next(values)) for key in self.scanned)
        starts = {key: next(values) for key in self.starts}
        for (v, cut), x in [(key, x) for key, x in env.items() if key[1].parts and not key[1].is_full]:
            env[v, cut] = _slice(x, cut, starts)
        for (v, cut), (eqn, flow) in self.region.flows.items():
            operands = [
                x.val if isinstance(x, Literal) else env[x, its]
                for x, its in zip(eqn.invars, flow.operands, strict=True)
            ]
            with source_of(eqn.source):
                out = bind_block(eqn, cut, operands)
                if isinstance(eqn.primitive.lowering, Iota):
                    out = _from_start(out, eqn.params["dimension"], cut, starts)
            env[v, cut] = out
        made = self.region.made
        totals = [add_p.bind(total, env[v, made[v]]) for total, v in zip(sums, self.sums, strict=True)]
        return [*totals, *(env[key] for key in self.stacked)]


_Key = tuple[int, tuple[int, int]]


def _starts(cut: Cut) -> Iterator[_Key]:
    """For each dimension of the axis that a value has: how many blocks are one step in it, its size, and its block."""
    steps = 1
    found: list[_Key] = []
    for k, part in reversed(list(enumerate(cut.parts))):
        block = cut.block if k == len(cut.parts) - 1 else 1
        if part.dim is not None:
            found.append((steps, (part.size, block)))
        steps *= part.size // block
    yield from reversed(found)


def _from_start(x: Any, dimension: int, cut: Cut, starts: dict[_Key, Any]) -> Any:
    """An iota that counts from where the block begins, if it counts along the axis."""
    key = dict(zip(cut.dims, _starts(cut), strict=True)).get(dimension)
    if key is None:
        return x
    start = convert_element_type(starts[key], x.aval.dtype)
    return add_p.bind(x, broadcast_in_dim(start, x.aval.shape, ()))


def _slice(x: Any, cut: Cut, starts: dict[_Key, Any]) -> Any:
    """The block of a value that has some dimensions of the axis only."""
    known = dict(zip(cut.dims, _starts(cut), strict=True))
    places = [starts[known[d]] if d in known else np.int32(0) for d in range(x.aval.ndim)]
    return dynamic_slice_p.bind(x, *places, slice_sizes=cut.block_shape(x.aval.shape))


def _filled(value: int, like: Any) -> Any:
    return broadcast_in_dim(np.int32(value), like.aval.shape, ())


def _cut(x: Any, cut: Cut) -> Any:
    """The blocks of a value, stacked along a new leading dimension."""
    shape = x.aval.shape
    split, order = _split(cut, shape)
    return reshape(transpose(reshape(x, split), order), (cut.count, *cut.block_shape(shape)))


def _joined(x: Any, cut: Cut, shape: Sequence[int]) -> Any:
    """The value whose blocks are stacked along the leading dimension; the inverse of `_cut`."""
    split, order = _split(cut, shape)
    return reshape(transpose(reshape(x, [split[i] for i in order]), np.argsort(order).tolist()), shape)


def _split(cut: Cut, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """The shape with each dimension that is cut as two, blocks and elements; and the order with all blocks first."""
    sizes = cut.blocks
    split = [m for d, n in enumerate(shape) for m in ((n // sizes[d], sizes[d]) if d in sizes else (n,))]
    blocks = [d + sum(c < d for c in cut.dims) for d in cut.dims]
    return split, [*blocks, *(i for i in range(len(split)) if i not in blocks)]
