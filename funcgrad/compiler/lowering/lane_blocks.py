"""Independent loops side by side → one kernel: blocks of lanes in SIMD, each block as long as its longest lane.

If each lane runs a while loop of its own (`vmap` of a `while_loop`), lanes run in blocks. All lanes of a block take a
step together, in a vector loop; a lane that has finished keeps its values. The block ends when its last lane has
finished. The carry is in short arrays, which LLVM keeps in registers or the first cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    Index,
    Init,
    Load,
    Name,
    Store,
    Update,
    While,
    op,
)
from funcgrad.compiler.lowering.kernel_builder import INT64, Launch, build, index_value, size_value
from funcgrad.compiler.lowering.scalar_loops import ScalarLoops
from funcgrad.compiler.lowering.scalar_writer import Memory, Unsuitable, Value, shaped
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.layouts import ScanLayout, WhileLayout
from funcgrad.core.lowering import Cond, Scan, Strided, WhileLoop
from funcgrad.dtypes import bool_, int32

_LANE = ("j", 1)


def lower_lanes(eqn: JaxprEqn, operands: Sequence[Var], scheduling: Scheduling) -> Launch:
    """The kernel of a scan without carry over small while loops; raises Unsuitable where it is something else."""
    params = eqn.params
    body: Jaxpr = params["jaxpr"].jaxpr
    if (
        ScanLayout.of(params).num_carry
        or params["length"] < scheduling.lanes
        or not any(_is_while(e) for e in body.eqns)
    ):
        raise Unsuitable
    return _Blocks(scheduling).lanes_kernel(eqn, operands)


def _is_while(eqn: JaxprEqn) -> bool:
    return isinstance(eqn.primitive.lowering, WhileLoop)


class LaneArrays(NamedTuple):
    """A value of each lane of a block: one scratch array over the lanes for each element of its shape."""

    params: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype


Place = Memory | LaneArrays


class _Blocks(ScalarLoops):
    """Writes the kernel: vector loops over a block's lanes, in which a lane's values are scalars."""

    def lanes_kernel(self, eqn: JaxprEqn, operands: Sequence[Var]) -> Launch:
        length = eqn.params["length"]
        given = [self.operand(v, x.aval.shape) for v, x in zip(operands, eqn.invars, strict=True)]
        consts, _, xs = ScanLayout.of(eqn.params).split(given)
        results = [self.result(v) for v in eqn.outvars]
        width = self.limits.lanes
        blocks = -(-length // width)
        # The last block begins early enough to be whole: some lanes are then computed twice, to the same values.
        start = op("mul", index_value("p"), Const(width, INT64))
        self.define(op("min", start, size_value(self.size("last", length - width))), "first")
        slices, rows = [_lane(m, self) for m in xs], [_lane(m, self) for m in results]
        self.lanes_of(eqn.params["jaxpr"].jaxpr, [self.loaded(m) for m in consts], slices, rows)
        return self.launch("lanes", self.operations, self.body, extent=blocks, grain=1)

    # ------------------------------------------------------------------ lanes

    def lanes_of(self, jaxpr: Jaxpr, consts: Sequence[Value], slices: Sequence[Memory], into: Sequence[Memory]) -> None:
        """Write a lane's jaxpr: what is between while loops in one vector loop each, and the loops."""
        uniform: dict[Var, Value] = dict(zip(jaxpr.invars, consts, strict=False))
        held: dict[Var, Place] = dict(zip(jaxpr.invars[len(consts) :], slices, strict=True))
        rest = list(jaxpr.eqns)
        while True:
            count = next((i for i, e in enumerate(rest) if _is_while(e)), len(rest))
            phase, after = rest[:count], rest[count:]
            wanted = [v for e in after for v in e.invars]
            with self.block() as body:
                env = self.compute(phase, uniform, held, wanted if after else list(jaxpr.outvars))
                if not after:
                    for atom, m in zip(jaxpr.outvars, into, strict=True):
                        self.store(self.read(env, atom), m)
                else:
                    made = {v for e in phase for v in e.outvars}
                    later = [*wanted, *jaxpr.outvars]
                    new = {v: self.kept(env[v]) for v in dict.fromkeys(later) if isinstance(v, Var) and v in made}
            self.body.append(For("j", self.limits.lanes, tuple(body), "vector"))
            if not after:
                return
            held |= new
            held |= self.loop(after[0], uniform, held)
            rest = after[1:]

    def compute(
        self, eqns: Sequence[JaxprEqn], uniform: Mapping[Var, Value], held: Mapping[Var, Place], wanted: Sequence[Atom]
    ) -> dict[Var, Value]:
        """Write equations within a vector loop; return the values of all variables there."""
        env = dict(uniform)
        read = {v for e in eqns for v in e.invars} | set(wanted)
        env |= {v: self.element(place) for v, place in held.items() if v in read}
        for eqn in eqns:
            self.check_dtypes(eqn)
            operands = [self.read(env, v) for v in eqn.invars]
            lowering = eqn.primitive.lowering
            if isinstance(lowering, (Scan, WhileLoop)):
                raise Unsuitable
            if isinstance(lowering, Cond):
                env.update(zip(eqn.outvars, self.selected(eqn, operands), strict=True))
            else:
                env.update(zip(eqn.outvars, self.results(eqn, operands), strict=True))
        return env

    def read(self, env: Mapping[Var, Value], atom: Atom) -> Value:
        return self.literal(atom) if isinstance(atom, Literal) else env[atom]

    def selected(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """All branches' results, of which each lane takes its own."""
        index = self.scalar(operands[0])
        out: list[Value] = []
        last = len(eqn.params["branches"]) - 1
        for i, branch in enumerate(eqn.params["branches"]):
            jaxpr = branch.jaxpr
            env = self.compute(jaxpr.eqns, dict(zip(jaxpr.invars, operands[1:], strict=True)), {}, ())
            values = [self.read(env, v) for v in jaxpr.outvars]
            if not i:
                out = values
                continue
            here = self.let(op("ge" if i == last else "eq", index, Const(i, index.dtype)))
            out = [self.select(here, self.scalars(v), self.scalars(o)) for v, o in zip(values, out, strict=True)]
        return out

    # ------------------------------------------------------------------ arrays over the block

    def kept(self, value: Value) -> LaneArrays:
        """Store a value for all lanes of the block."""
        flat = self.scalars(value)
        if not flat.size:
            raise Unsuitable
        dtype = flat.reshape(-1)[0].dtype
        place = LaneArrays(tuple(self.scratch(dtype, self.limits.lanes) for _ in range(flat.size)), flat.shape, dtype)
        self.replace(place, value)
        return place

    def replace(self, place: LaneArrays, value: Value) -> None:
        """Store another value where `kept` stored one."""
        for param, x in zip(place.params, self.scalars(value).reshape(-1), strict=True):
            self.body.append(Store(param, Index((_LANE,)), x))

    def element(self, place: Place) -> Value:
        """The value of the current lane."""
        if isinstance(place, Memory):
            return self.loaded(place)
        return shaped([self.let(Load(p, Index((_LANE,)), place.dtype)) for p in place.params], place.shape)

    # ------------------------------------------------------------------ loops

    def loop(self, eqn: JaxprEqn, uniform: Mapping[Var, Value], held: Mapping[Var, Place]) -> dict[Var, LaneArrays]:
        """Write a while loop that every lane of the block runs for itself; return where its results are."""
        predicate, body = eqn.params["cond_jaxpr"].jaxpr, eqn.params["body_jaxpr"].jaxpr
        operands = WhileLayout.of(eqn.params).split(eqn.invars)

        def inner_env(jaxpr: Jaxpr, atoms: Sequence[Atom], carry: Sequence[Value]) -> dict[Var, Value]:
            values = [self.read({**uniform, **mine}, a) for a in atoms]
            env = self.compute(jaxpr.eqns, dict(zip(jaxpr.invars, [*values, *carry], strict=True)), {}, ())
            return env

        alive = f"alive{self.number()}"
        self.body.append(Init(alive, Const(0, int32)))
        with self.block() as start:
            mine = self.lane_values(eqn.invars, uniform, held)
            carry = [self.read({**uniform, **mine}, a) for a in operands.carry]
            places = [self.kept(c) for c in carry]
            env = inner_env(predicate, operands.cond_consts, carry)
            running = self.as_mask(self.read(env, predicate.outvars[0]))
            mask = self.scratch(int32, self.limits.lanes)
            self.body.append(Store(mask, Index((_LANE,)), running))
            self.body.append(Update(alive, "or", running))
        self.body.append(For("j", self.limits.lanes, tuple(start), "vector"))
        with self.block() as step:
            mine = self.lane_values([*operands.cond_consts, *operands.body_consts], uniform, held)
            carry = [self.element(place) for place in places]
            active = self.let(op("ne", Load(mask, Index((_LANE,)), int32), Const(0, int32)))
            env = inner_env(body, operands.body_consts, carry)
            new = [self.scalars(self.read(env, v)) for v in body.outvars]
            new = [self.select(active, n, self.scalars(c)) for n, c in zip(new, carry, strict=True)]
            for place, value in zip(places, new, strict=True):
                self.replace(place, value)
            env = inner_env(predicate, operands.cond_consts, new)
            goes_on = self.scalar(self.read(env, predicate.outvars[0]))
            running = self.as_mask(shaped([self.let(op("and", active, goes_on))], ()))
            self.body.append(Store(mask, Index((_LANE,)), running))
            self.body.append(Update(alive, "or", running))
        again = [Update(alive, "set", Const(0, int32)), For("j", self.limits.lanes, tuple(step), "vector")]
        self.body.append(While((), op("ne", Name(alive, int32), Const(0, int32)), tuple(again)))
        return dict(zip(eqn.outvars, places, strict=True))

    def lane_values(
        self, atoms: Sequence[Atom], uniform: Mapping[Var, Value], held: Mapping[Var, Place]
    ) -> dict[Var, Value]:
        """The values of a lane that equations read, loaded within a vector loop."""
        return {v: self.element(held[v]) for v in dict.fromkeys(atoms) if isinstance(v, Var) and v in held}

    def as_mask(self, value: Value) -> Expr:
        predicate = self.scalar(value)
        assert predicate.dtype == bool_
        return self.let(build.cast(predicate, int32))


def _lane(m: Memory, writer: _Blocks) -> Memory:
    """A lane's slice of an operand or result."""
    step = writer.stride(m.view.strides[0])
    inner = Strided(m.view.shape[1:], m.view.strides[1:], m.view.offset)
    return Memory(m.param, inner, m.dtype, (("first", step), ("j", step)))
