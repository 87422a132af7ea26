"""Small branches and loops → one kernel: what is carried along stays in registers.

A loop whose arrays have a few elements (a step of an ODE, the state of a random generator, a root finder's bracket)
is no sequence of kernels: every element becomes a scalar, and the loop one loop of machine code. Only operands and
results that are large, scanned arrays for the most part, stay in memory.

A scan that carries nothing has independent iterations: they are the kernel's parallel loop. That is what becomes of
`vmap` where lanes go their own ways, so each lane has its own branches and its own number of iterations.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.analysis import COSTLY, accumulator_dtype
from funcgrad.compiler.loops import (
    Const,
    Expr,
    For,
    If,
    Index,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    Name,
    Param,
    Stmt,
    Store,
    op,
)
from funcgrad.compiler.loops import Update as Set
from funcgrad.compiler.loops import While as WhileLoop
from funcgrad.compiler.lower import Launch
from funcgrad.compiler.nest import INT64, builder
from funcgrad.compiler.scalars import DTYPES
from funcgrad.core.jaxprs import Atom, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.lowering import (
    Concatenate,
    Cond,
    Contract,
    Gather,
    Iota,
    Pad,
    Reduce,
    Scalar,
    Scan,
    Strided,
    Update,
    View,
    While,
    contiguous,
)

# Arrays of more elements are no scalars.
MOST_ELEMENTS = 32
# Operations of one kernel; a call of vector mathematics counts as COST_OF_MATH.
MOST_OPERATIONS = 2000
COST_OF_MATH = 20
# Branches that cost at most this together are both computed, and one is selected.
CHEAP_BRANCHES = 12
# Strides up to this are part of the kernel, larger ones are arguments.
_MOST_STRIDE = 64
# Simple operations that pay for handing a chunk of lanes to another thread.
_GRAIN = 16384

Scalars = np.ndarray  # of expressions, in the shape of the array whose elements they are


class Unsuitable(Exception):
    """A loop is too large for scalars, or does what scalars cannot."""


class Memory(NamedTuple):
    """An array that stays in memory: element (i, j, …) of `view`, at the sum of the terms and offsets beyond that."""

    param: str
    view: Strided
    dtype: np.dtype
    terms: tuple[tuple[str, int | str], ...] = ()
    offsets: tuple[int | str, ...] = ()

    def at(self, flat: int) -> Index:
        """Where the element number `flat` is."""
        place = np.unravel_index(flat, self.view.shape) if self.view.shape else ()
        constant = self.view.offset + sum(int(i) * s for i, s in zip(place, self.view.strides, strict=True))
        return Index(self.terms, (*self.offsets, constant))


Value = Scalars | Memory


def lower(eqn: JaxprEqn, operands: Sequence[Atom]) -> Launch | None:
    """The kernel of a small branch or loop, or None where it is not small; `operands` are what its operands are stored
    in."""
    if eqn.effectful or not isinstance(eqn.primitive.lowering, (Scan, While, Cond)):
        return None
    try:
        return _Writer().launch(eqn, [v for v in operands if isinstance(v, Var)])
    except Unsuitable:
        return None


class _Writer:
    """Writes one kernel."""

    def __init__(self) -> None:
        self.params: list[Param] = []
        self.operands: list[Var | None] = []
        self.sizes: dict[str, int] = {}
        self.numbers = itertools.count(1)
        self.cost = 0
        self.body: list[Stmt] = []
        self.names: dict[str, None] = {}
        self.loops = False

    # ------------------------------------------------------------------ the kernel

    def launch(self, eqn: JaxprEqn, operands: Sequence[Var]) -> Launch:
        """The kernel of a top-level equation and how it is called."""
        given = [self.memory(v, "in") for v in operands]
        results = [self.memory(v, "out") for v in eqn.outvars]
        lanes = isinstance(eqn.primitive.lowering, Scan) and eqn.params["num_carry"] == 0
        extent = eqn.params["length"] if lanes else 1
        if lanes:
            self.lanes(eqn, given, results)
        else:
            with self.block() as body:
                scan = isinstance(eqn.primitive.lowering, Scan)
                n = eqn.params["num_consts"] + eqn.params["num_carry"] if scan else len(given)
                self.control(eqn, [*(self.loaded(m) for m in given[:n]), *given[n:]], results)
            self.body = body
        loop = For("p", self.size("parallel", extent), tuple(self.body), "parallel")
        names = list(self.names)
        name = "_".join([eqn.primitive.name, *names[:5], *(["more"] if len(names) > 5 else [])])
        kernel = Kernel(name, tuple(self.params), tuple(self.sizes), (loop,))
        grain = 16 if self.loops else max(1, _GRAIN // max(1, self.cost))
        return Launch(kernel, tuple(self.operands), tuple(self.sizes.values()), extent, grain)

    def lanes(self, eqn: JaxprEqn, given: Sequence[Memory], results: Sequence[Memory]) -> None:
        n = eqn.params["num_consts"]
        with self.block() as body:
            slices = [self.row(m, "p", 1, ()) for m in given[n:]]
            args = [self.loaded(m) for m in (*given[:n], *slices)]
            self.run(eqn.params["jaxpr"].jaxpr, args, [self.row(m, "p", 1, ()) for m in results])
        self.body = body

    def memory(self, var: Var, intent: Any) -> Memory:
        """An operand or result of the kernel."""
        aval = var.aval
        if aval.dtype not in DTYPES:
            raise Unsuitable
        if intent == "in" and var in self.operands:
            name = self.params[self.operands.index(var)].name
        else:
            letter = "x" if intent == "in" else "y"
            name = f"{letter}{sum(p.name[0] == letter for p in self.params)}"
            self.params.append(Param(name, aval.dtype, intent))
            self.operands.append(var)
        return Memory(name, contiguous(aval.shape), aval.dtype)

    def size(self, name: str, value: int) -> str:
        self.sizes[name] = value
        return name

    def stride(self, value: int) -> int | str:
        return value if abs(value) <= _MOST_STRIDE else self.size(f"s{len(self.sizes)}", value)

    def row(self, m: Memory, name: str, sign: int, offsets: tuple[int | str, ...]) -> Memory:
        """A slice along the leading dimension, at the loop index `name`, counted down where `sign` is −1."""
        step = m.view.strides[0]
        inner = Strided(m.view.shape[1:], m.view.strides[1:], m.view.offset)
        return Memory(m.param, inner, m.dtype, (*m.terms, (name, self.stride(sign * step))), (*m.offsets, *offsets))

    # ------------------------------------------------------------------ statements

    @contextmanager
    def block(self) -> Iterator[list[Stmt]]:
        """Collect the statements that are written within a ``with`` block."""
        outside, self.body = self.body, []
        try:
            yield self.body
        finally:
            self.body = outside

    def spend(self, cost: int) -> None:
        self.cost += cost
        if self.cost > MOST_OPERATIONS:
            raise Unsuitable

    def let(self, value: Expr) -> Expr:
        """Name a value, unless it is one by itself."""
        if isinstance(value, Const):
            return value
        name = f"v{next(self.numbers)}"
        self.body.append(Let(name, value))
        return Name(name, value.dtype)

    def loaded(self, m: Memory) -> Value:
        """A value's elements as scalars, if they are few."""
        count = math.prod(m.view.shape)
        if count > MOST_ELEMENTS:
            return m
        self.spend(count)
        return _shaped([self.let(Load(m.param, m.at(i), m.dtype)) for i in range(count)], m.view.shape)

    def scalars(self, value: Value) -> Scalars:
        if isinstance(value, Memory):
            raise Unsuitable
        return value

    def scalar(self, value: Value) -> Expr:
        """The one element of a value of shape ()."""
        return self.scalars(value).reshape(-1)[0]

    def store(self, value: Value, m: Memory) -> None:
        flat = self.scalars(value).reshape(-1)
        self.spend(len(flat))
        for i, x in enumerate(flat):
            self.body.append(Store(m.param, m.at(i), x))

    # ------------------------------------------------------------------ jaxprs

    def run(self, jaxpr: Jaxpr, args: Sequence[Value], into: Sequence[Memory | None]) -> list[Value | None]:
        """Write a jaxpr's equations; results that have a place in memory go there, the others are returned."""
        env: dict[Var, Value] = dict(zip(jaxpr.invars, args, strict=True))
        place = {v: m for v, m in zip(jaxpr.outvars, into, strict=True) if m is not None and isinstance(v, Var)}

        def read(atom: Atom) -> Value:
            if isinstance(atom, Literal):
                return _shaped([Const(_python(atom.val), atom.aval.dtype)], ())
            return env[atom]

        stored: set[Var] = set()
        for eqn in jaxpr.eqns:
            if any(v.aval.dtype not in DTYPES for v in eqn.outvars):
                raise Unsuitable
            operands = [read(v) for v in eqn.invars]
            if isinstance(eqn.primitive.lowering, (Scan, While, Cond)):
                env.update(
                    zip(eqn.outvars, self.control(eqn, operands, [place.get(v) for v in eqn.outvars]), strict=True)
                )
                stored |= {v for v in eqn.outvars if v in place}
            else:
                env[eqn.outvars[0]] = self.first_order(eqn, operands)
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

    # ------------------------------------------------------------------ operations

    def first_order(self, eqn: JaxprEqn, operands: Sequence[Value]) -> Value:
        lowering, aval = eqn.primitive.lowering, eqn.outvars[0].aval
        if isinstance(lowering, View) and isinstance(operands[0], Memory):
            view = lowering.apply(operands[0].view, **eqn.params)
            if view is None:
                raise Unsuitable
            moved = operands[0]._replace(view=view)
            return self.loaded(moved)
        if isinstance(lowering, Gather) and eqn.primitive.name != "dynamic_slice":
            raise Unsuitable
        if isinstance(lowering, Gather) and isinstance(operands[0], Memory):
            return self.slice_of_memory(eqn, operands[0], operands[1:])
        if aval.size > MOST_ELEMENTS:
            raise Unsuitable
        self.names.setdefault(eqn.primitive.name) if isinstance(lowering, (Scalar, Reduce, Contract)) else None
        flat = [self.scalars(x) for x in operands]
        if isinstance(lowering, Scalar):
            return self.elementwise(eqn, flat)
        if isinstance(lowering, View):
            places = eqn.primitive.evaluate(_numbered(flat[0].shape), **eqn.params)
            return _taken(flat[0].reshape(-1), places)
        if isinstance(lowering, Iota):
            values = eqn.primitive.evaluate(**eqn.params)
            return _shaped([Const(_python(x), aval.dtype) for x in np.ravel(values)], aval.shape)
        if isinstance(lowering, Pad):
            places = eqn.primitive.evaluate(_numbered(flat[0].shape), np.int64(-1), **eqn.params)
            return _taken(np.append(flat[0].reshape(-1), flat[1].reshape(-1)), places)
        if isinstance(lowering, Concatenate):
            return np.concatenate(flat, eqn.params["dimension"])
        if isinstance(lowering, Reduce):
            return self.fold(eqn, lowering, flat[0])
        if isinstance(lowering, Contract):
            return self.product(*flat)
        if isinstance(lowering, Gather):
            return self.slice_of_scalars(eqn, flat[0], flat[1:])
        if isinstance(lowering, Update):
            return self.update_of_scalars(flat[0], flat[1], flat[2:])
        raise Unsuitable

    def elementwise(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        lowering, shape = eqn.primitive.lowering, eqn.outvars[0].aval.shape
        assert isinstance(lowering, Scalar)
        formula = lowering.op
        name = formula if isinstance(formula, str) else eqn.primitive.name
        cost = COST_OF_MATH if name in COSTLY or not isinstance(formula, str) else 1
        out = []
        for args in zip(*(np.broadcast_to(x, shape).reshape(-1) for x in operands), strict=True):
            self.spend(cost)
            made = op(formula, *args) if isinstance(formula, str) else formula(builder, *args, **eqn.params)
            out.append(self.let(made))
        return _shaped(out, shape)

    def fold(self, eqn: JaxprEqn, lowering: Reduce, x: Scalars) -> Scalars:
        aval = eqn.outvars[0].aval
        axes = eqn.params["axes"]
        kept = [d for d in range(x.ndim) if d not in axes]
        rows = x.transpose(*kept, *axes).reshape(math.prod(aval.shape), -1)
        wide = accumulator_dtype(aval.dtype)
        out = []
        for row in rows:
            terms = [builder.cast(v, wide) for v in row] or [Const(_python(lowering.identity(wide)), wide)]
            out.append(self.let(builder.cast(self.tree(lowering.op, terms), aval.dtype)))
        return _shaped(out, aval.shape)

    def tree(self, name: str, terms: Sequence[Expr]) -> Expr:
        """Combine terms pairwise: the sums of a tree wait for each other less than those of a chain."""
        while len(terms) > 1:
            pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
            self.spend(len(pairs))
            terms = [self.let(op(name, *pair)) if len(pair) == 2 else pair[0] for pair in pairs]
        return terms[0]

    def product(self, left: Scalars, right: Scalars) -> Scalars:
        """out[b, m, n] = Σₖ left[b, m, k] · right[b, k, n]: equations are in this canonical form."""
        batch, m, k = left.shape
        n = right.shape[2]
        dtype = left.reshape(-1)[0].dtype if left.size else dtypes.float32
        out = []
        for b, i, j in itertools.product(range(batch), range(m), range(n)):
            self.spend(2 * k)
            terms = [op("mul", left[b, i, q], right[b, q, j]) for q in range(k)] or [Const(0, dtype)]
            out.append(self.let(_chain(terms)))
        return _shaped(out, (batch, m, n))

    def starts(self, shape: Sequence[int], starts: Sequence[Value], sizes: Sequence[int]) -> list[Expr | None]:
        """Where a window begins, moved inside; None in dimensions in which it cannot move."""
        out = []
        for start, n, m in zip(starts, shape, sizes, strict=True):
            at = builder.cast(self.scalar(start), INT64)
            out.append(self.let(op("clamp", Const(0, INT64), at, IndexValue(Index((), n - m)))) if n > m else None)
        return out

    def slice_of_memory(self, eqn: JaxprEqn, m: Memory, starts: Sequence[Value]) -> Value:
        terms = list(m.terms)
        sizes = eqn.params["slice_sizes"]
        for at, stride in zip(self.starts(m.view.shape, starts, sizes), m.view.strides, strict=True):
            if at is not None:
                assert isinstance(at, Name)
                terms.append((at.name, self.stride(stride)))
        return self.loaded(m._replace(view=m.view._replace(shape=tuple(sizes)), terms=tuple(terms)))

    def slice_of_scalars(self, eqn: JaxprEqn, x: Scalars, starts: Sequence[Value]) -> Scalars:
        """A window at a position that is known at run time only: for each place it may be at, select."""
        sizes = eqn.params["slice_sizes"]
        for d, at in enumerate(self.starts(x.shape, starts, sizes)):
            if at is None:
                continue
            out = x.take(range(sizes[d]), d)
            for begin in range(1, x.shape[d] - sizes[d] + 1):
                here = self.let(op("eq", at, Const(begin, INT64)))
                out = self.select(here, x.take(range(begin, begin + sizes[d]), d), out)
            x = out
        return x

    def update_of_scalars(self, x: Scalars, update: Scalars, starts: Sequence[Value]) -> Scalars:
        """A window written at a position that is known at run time only: every place it may be at takes it or not."""
        places = self.starts(x.shape, starts, update.shape)
        out = x
        for begins in itertools.product(*(range(n - m + 1) for n, m in zip(x.shape, update.shape, strict=True))):
            moving = [(at, i) for at, i in zip(places, begins, strict=True) if at is not None]
            tests: list[Expr] = [op("eq", at, Const(i, INT64)) for at, i in moving]
            window = tuple(slice(i, i + m) for i, m in zip(begins, update.shape, strict=True))
            here = self.let(functools.reduce(lambda a, b: op("and", a, b), tests)) if tests else None
            new = out.copy()
            new[window] = update if here is None else self.select(here, update, out[window])
            out = new
        return out

    def select(self, condition: Expr, yes: Scalars, no: Scalars) -> Scalars:
        self.spend(yes.size)
        pairs = zip(yes.reshape(-1), no.reshape(-1), strict=True)
        return _shaped([self.let(op("select", condition, a, b)) if a is not b else a for a, b in pairs], yes.shape)

    # ------------------------------------------------------------------ control flow

    def control(self, eqn: JaxprEqn, operands: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        """Write a branch or loop within the kernel."""
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Cond):
            return self.put(self.cond(eqn, operands), into)
        self.loops = True
        if isinstance(lowering, While):
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
        if all(_is_cheap(b) for b in branches):
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
            name = f"a{next(self.numbers)}"
            self.body.append(Init(name, value))
            out.append(Name(name, value.dtype))
        return out

    def update(self, held: Sequence[Name], values: Scalars) -> None:
        for name, value in zip(held, values.reshape(-1), strict=True):
            self.body.append(Set(name.name, "set", value))

    def current(self, held: Sequence[Name], shape: tuple[int, ...]) -> Scalars:
        """The values of accumulators now: names that later updates do not change."""
        return _shaped([self.let(n) for n in held], shape)

    def carried(self, values: Sequence[Value]) -> tuple[list[list[Name]], list[tuple[int, ...]]]:
        arrays = [self.scalars(v) for v in values]
        return [self.accumulators(list(a.reshape(-1))) for a in arrays], [a.shape for a in arrays]

    def all_current(self, held: Sequence[Sequence[Name]], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        return [self.current(h, s) for h, s in zip(held, shapes, strict=True)]

    def while_loop(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        p = eqn.params
        nc, nb = p["cond_nconsts"], p["body_nconsts"]
        held, shapes = self.carried(operands[nc + nb :])
        with self.block() as setup:
            now = self.all_current(held, shapes)
            (condition,) = self.all_results(p["cond_jaxpr"].jaxpr, [*operands[:nc], *now])
        with self.block() as body:
            new = self.all_results(p["body_jaxpr"].jaxpr, [*operands[nc : nc + nb], *now])
            for h, value in zip(held, new, strict=True):
                self.update(h, self.scalars(value))
        self.body.append(WhileLoop(tuple(setup), self.scalar(condition), tuple(body)))
        return self.all_current(held, shapes)

    def scan(self, eqn: JaxprEqn, operands: Sequence[Value], into: Sequence[Memory | None]) -> list[Value]:
        p = eqn.params
        nc, nk, length = p["num_consts"], p["num_carry"], p["length"]
        xs = operands[nc + nk :]
        if not all(isinstance(x, Memory) for x in xs) or any(m is None for m in into[nk:]):
            return self.put(self.unrolled(eqn, operands), into)
        held, shapes = self.carried(operands[nc : nc + nk])
        name = f"i{next(self.numbers)}"
        sign = -1 if p["reverse"] else 1

        def row(m: Memory) -> Memory:
            step = m.view.strides[0]
            last = (self.size(f"o{len(self.sizes)}", (length - 1) * step),) if p["reverse"] else ()
            return self.row(m, name, sign, last)

        with self.block() as body:
            slices = [self.loaded(row(x)) for x in xs if isinstance(x, Memory)]
            now = self.all_current(held, shapes)
            places = [None] * nk + [row(m) for m in into[nk:] if m is not None]
            out = self.run(p["jaxpr"].jaxpr, [*operands[:nc], *now, *slices], places)
            for h, value in zip(held, out[:nk], strict=True):
                assert value is not None
                self.update(h, self.scalars(value))
        self.body.append(For(name, self.size(f"n{len(self.sizes)}", length), tuple(body), "serial"))
        results = self.put(self.all_current(held, shapes), into[:nk])
        return [*results, *(m for m in into[nk:] if m is not None)]

    def unrolled(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """A scan over scalars, or that stacks scalars: one iteration after another."""
        p = eqn.params
        nc, nk, length = p["num_consts"], p["num_carry"], p["length"]
        if length > MOST_ELEMENTS:
            raise Unsuitable
        carry, xs = list(operands[nc : nc + nk]), operands[nc + nk :]
        rows: dict[int, list[Value]] = {}
        for i in reversed(range(length)) if p["reverse"] else range(length):
            slices = [x[i] if not isinstance(x, Memory) else self.loaded(_static_row(x, i)) for x in xs]
            out = self.all_results(p["jaxpr"].jaxpr, [*operands[:nc], *carry, *(_as_array(s) for s in slices)])
            carry, rows[i] = out[:nk], out[nk:]
        ys: list[Value] = []
        for k in range(len(eqn.outvars) - nk):
            parts = [self.scalars(rows[i][k]) for i in range(length)]
            if math.prod(eqn.outvars[nk + k].aval.shape) > MOST_ELEMENTS:
                raise Unsuitable
            ys.append(np.stack(parts) if parts else np.empty(eqn.outvars[nk + k].aval.shape, object))
        return [*carry, *ys]


def _is_cheap(jaxpr: Jaxpr) -> bool:
    """Whether a branch may as well be computed where it is not taken."""
    cost = 0
    for eqn in jaxpr.eqns:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, (Scan, While, Cond)):
            return False
        if isinstance(lowering, Scalar):
            simple = isinstance(lowering.op, str) and lowering.op not in COSTLY
            cost += (1 if simple else CHEAP_BRANCHES) * eqn.outvars[0].aval.size
        elif not isinstance(lowering, (View, Iota)):
            cost += sum(v.aval.size for v in (*eqn.invars, *eqn.outvars))
    return cost <= CHEAP_BRANCHES


def _static_row(m: Memory, i: int) -> Memory:
    offset = m.view.offset + i * m.view.strides[0]
    return m._replace(view=Strided(m.view.shape[1:], m.view.strides[1:], offset))


def _as_array(x: Any) -> Value:
    return x if isinstance(x, (np.ndarray, Memory)) else _shaped([x], ())


def _shaped(flat: Sequence[Expr], shape: tuple[int, ...]) -> Scalars:
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(shape)


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def _taken(flat: np.ndarray, places: Any) -> Scalars:
    """Elements at given places, as an array of their shape."""
    return flat[np.ravel(places).astype(np.int64)].reshape(np.shape(places))


def _chain(terms: Sequence[Expr]) -> Expr:
    return functools.reduce(lambda a, b: op("add", a, b), terms)


def _python(value: Any) -> Any:
    found = np.asarray(value)
    return float(found) if dtypes.is_float(found.dtype) else found.item()
