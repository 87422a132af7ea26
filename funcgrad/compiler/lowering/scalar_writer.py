"""Arrays of a few elements as scalars: how a kernel computes with them.

An array is a NumPy array of expressions, one for each element. Reshaping, slicing and joining rearrange expressions
while the kernel is written and cost nothing at run time. Large arrays stay in memory.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    Index,
    Load,
    Name,
    Store,
    op,
)
from funcgrad.compiler.loops.scalars import COSTLY, DTYPES
from funcgrad.compiler.lowering.kernel_builder import INT64, KernelBuilder, build, clamped, size_value
from funcgrad.compiler.lowering.sorting import comparable, less, ordered
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import (
    CALLS,
    CONTROL,
    HOST,
    KERNELS,
    Barrier,
    Complex,
    Concatenate,
    Contract,
    Cumulative,
    Elementwise,
    Gather,
    GatherForm,
    Interleave,
    Iota,
    LibraryRoutine,
    LoweringTable,
    Native,
    Pad,
    Reduce,
    Scatter,
    ScatterForm,
    Sort,
    Strided,
    View,
    contiguous,
)
from funcgrad.ops.accumulation import accumulator

Scalars = np.ndarray  # of expressions, in the shape of the array whose elements they are


class Unsuitable(Exception):
    """A loop is too large for scalars, or contains an operation that scalars cannot express."""


class Memory(NamedTuple):
    """An array that stays in memory: element (i, j, …) of `view`, at the sum of the terms and offsets beyond that.

    `version` counts the writes to it before it was read; see `scalar_updates`.
    """

    param: str
    view: Strided
    dtype: np.dtype
    terms: tuple[tuple[str, int | str], ...] = ()
    offsets: tuple[int | str, ...] = ()
    version: int = 0

    def at(self, flat: int) -> Index:
        """Where the element number `flat` is."""
        place = np.unravel_index(flat, self.view.shape) if self.view.shape else ()
        constant = self.view.offset + sum(int(i) * s for i, s in zip(place, self.view.strides, strict=True))
        return Index(self.terms, (*self.offsets, constant))

    def element(self, i: int) -> Memory:
        """The slice at position i of the leading dimension."""
        offset = self.view.offset + i * self.view.strides[0]
        return self._replace(view=Strided(self.view.shape[1:], self.view.strides[1:], offset))


Value = Scalars | Memory


class ScalarWriter(KernelBuilder):
    """Writes a kernel whose arrays are scalars: what first-order equations compute."""

    largest_fixed_stride = 64

    def __init__(self, scheduling: Scheduling) -> None:
        super().__init__()
        self.limits = scheduling
        self.cost = 0
        self.operations: dict[str, None] = {}

    def operand(self, var: Var, shape: tuple[int, ...]) -> Memory:
        """An operand of the kernel in its shape, which may differ from that of the variable that stores it."""
        return self.memory(self.input(var), var, shape)

    def result(self, var: Var) -> Memory:
        """A result of the kernel."""
        return self.memory(self.output(var), var, var.aval.shape)

    def memory(self, param: str, var: Var, shape: tuple[int, ...]) -> Memory:
        """All of a parameter."""
        if var.aval.dtype not in DTYPES:
            raise Unsuitable
        return Memory(param, contiguous(shape), var.aval.dtype)

    def row(self, m: Memory, name: str, sign: int, offsets: tuple[int | str, ...]) -> Memory:
        """A slice along the leading dimension, at the loop index `name`, counted down where `sign` is −1."""
        step = m.view.strides[0]
        inner = Strided(m.view.shape[1:], m.view.strides[1:], m.view.offset)
        terms = (*m.terms, (name, self.stride(sign * step)))
        return m._replace(view=inner, terms=terms, offsets=(*m.offsets, *offsets))

    # ------------------------------------------------------------------ limits

    def check_dtypes(self, eqn: JaxprEqn) -> None:
        """Raise Unsuitable unless the loop IR has the types of all operands and results."""
        if any(v.aval.dtype not in DTYPES for v in (*eqn.invars, *eqn.outvars)):
            raise Unsuitable

    def check_few(self, atoms: Iterable[Atom]) -> None:
        """Raise Unsuitable unless each of these arrays can be scalars. Call it before their elements are written."""
        if any(v.aval.size > self.limits.max_scalar_elements for v in atoms):
            raise Unsuitable

    def spend(self, cost: int) -> None:
        self.cost += cost
        if self.cost > self.limits.max_scalar_operations:
            raise Unsuitable

    def number(self) -> int:
        found = super().number()
        if found > self.limits.max_scalar_names:
            raise Unsuitable
        return found

    # ------------------------------------------------------------------ values

    def let(self, value: Expr) -> Expr:
        """Name a value, unless it is a constant."""
        return value if isinstance(value, Const) else self.define(value)

    def loaded(self, m: Memory) -> Value:
        """A value's elements as scalars, if they are few."""
        count = math.prod(m.view.shape)
        if count > self.limits.max_scalar_elements:
            return m
        self.spend(count)
        return shaped([self.let(Load(m.param, m.at(i), m.dtype)) for i in range(count)], m.view.shape)

    def literal(self, atom: Literal) -> Scalars:
        return shaped([Const(python_value(atom.val), atom.aval.dtype)], ())

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

    # ------------------------------------------------------------------ operations

    def first_order(self, eqn: JaxprEqn, operands: Sequence[Value]) -> Value:
        lowering = eqn.primitive.lowering
        if operands and isinstance(operands[0], Memory):
            if isinstance(lowering, View):
                return self.view_of_memory(eqn, lowering, operands[0])
            if isinstance(lowering, Gather):
                return self.gather(eqn, lowering, operands)
        rule = _RULES[lowering]
        if rule is None:
            raise Unsuitable
        self.check_few(eqn.outvars)
        return rule(self, eqn, [self.scalars(x) for x in operands])

    def results(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """The results of an equation without inner jaxprs."""
        if isinstance(eqn.primitive.lowering, Sort):
            self.check_few(eqn.outvars)
            return self.sort(eqn, [self.scalars(x) for x in operands])
        return [self.first_order(eqn, operands)]

    def view_of_memory(self, eqn: JaxprEqn, lowering: View, m: Memory) -> Value:
        view = lowering.apply(m.view, **eqn.params)
        if view is None:
            raise Unsuitable
        return self.loaded(m._replace(view=view))

    def view(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        (x,) = operands
        return _taken(x.reshape(-1), eqn.primitive.evaluate(_numbered(x.shape), **eqn.params))

    def iota(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        aval = eqn.outvars[0].aval
        values = np.ravel(eqn.primitive.evaluate(**eqn.params))
        return shaped([Const(python_value(x), aval.dtype) for x in values], aval.shape)

    def pad(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        x, padding = operands
        places = eqn.primitive.evaluate(_numbered(x.shape), np.int64(-1), **eqn.params)
        return _taken(np.append(x.reshape(-1), padding.reshape(-1)), places)

    def concatenate(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        return np.concatenate(operands, eqn.params["dimension"])

    def interleave(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        return eqn.primitive.evaluate(*operands, **eqn.params)

    def elementwise(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        lowering, shape = eqn.primitive.lowering, eqn.outvars[0].aval.shape
        assert isinstance(lowering, Elementwise)
        self.operations.setdefault(eqn.primitive.name)
        formula = lowering.op
        cost = self.limits.math_cost if not isinstance(formula, str) or formula in COSTLY else 1
        out = []
        for args in zip(*(np.broadcast_to(x, shape).reshape(-1) for x in operands), strict=True):
            self.spend(cost)
            made = op(formula, *args) if isinstance(formula, str) else formula(build, *args, **eqn.params)
            out.append(self.let(made))
        return shaped(out, shape)

    def fold(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        lowering, aval, (x,) = eqn.primitive.lowering, eqn.outvars[0].aval, operands
        assert isinstance(lowering, Reduce)
        self.operations.setdefault(eqn.primitive.name)
        axes = eqn.params["axes"]
        kept = [d for d in range(x.ndim) if d not in axes]
        rows = x.transpose(*kept, *axes).reshape(math.prod(aval.shape), math.prod(x.shape[d] for d in axes))
        wide = accumulator(aval.dtype)
        out = []
        for row in rows:
            terms = [build.cast(v, wide) for v in row] or [Const(python_value(lowering.identity(wide)), wide)]
            out.append(self.let(build.cast(self.tree(lowering.op, terms), aval.dtype)))
        return shaped(out, aval.shape)

    def tree(self, name: str, terms: Sequence[Expr]) -> Expr:
        """Combine terms pairwise: the sums of a tree wait for each other less than those of a chain."""
        while len(terms) > 1:
            pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
            self.spend(len(pairs))
            terms = [self.let(op(name, *pair)) if len(pair) == 2 else pair[0] for pair in pairs]
        return terms[0]

    def cumulative(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        lowering, (x,) = eqn.primitive.lowering, operands
        assert isinstance(lowering, Cumulative)
        self.operations.setdefault(eqn.primitive.name)
        dtype = eqn.outvars[0].aval.dtype
        wide = dtype if lowering.exact or not dtypes.is_float(dtype) else dtypes.float64
        combine = lowering.combine
        out = x.copy()
        rows = np.moveaxis(out, eqn.params["axis"], -1)[..., :: -1 if eqn.params["reverse"] else 1]
        for place in np.ndindex(rows.shape[:-1]):
            total: Expr | None = None
            for i in range(rows.shape[-1]):
                value = build.cast(rows[*place, i], wide)
                if total is not None:
                    self.spend(1 if isinstance(combine, str) else 2 * self.limits.math_cost)
                    value = op(combine, total, value) if isinstance(combine, str) else combine(build, total, value)
                total = self.let(value)
                rows[*place, i] = self.let(build.cast(total, dtype))
        return out

    def sort(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> list[Value]:
        """Exchange neighbors in odd and even places by turns: as many rounds as there are elements sort them."""
        self.operations.setdefault(eqn.primitive.name)
        keys, axis = eqn.params["num_keys"], eqn.params["dimension"]
        moved = [x.copy() for x in operands]
        for x in operands[:keys]:
            made = [self.let(comparable(ordered(v), v.dtype)) for v in x.reshape(-1)]
            moved.append(shaped(made, x.shape))
        rows = [np.moveaxis(x, axis, -1) for x in moved]
        n = rows[0].shape[-1]
        for place in np.ndindex(rows[0].shape[:-1]):
            for i in (i for start in range(n) for i in range(start % 2, n - 1, 2)):
                pairs = [(row[*place, i], row[*place, i + 1]) for row in rows]
                self.spend(3 * len(pairs))
                swap = self.let(less([b for _, b in pairs[-keys:]], [a for a, _ in pairs[-keys:]]))
                for row, (a, b) in zip(rows, pairs, strict=True):
                    row[*place, i] = self.let(op("select", swap, b, a))
                    row[*place, i + 1] = self.let(op("select", swap, a, b))
        return list(moved[: len(operands)])

    def product(self, eqn: JaxprEqn, operands: Sequence[Scalars]) -> Scalars:
        """out[…, m, n] = Σₖ left[…, m, k] · right[…, k, n]: equations are in this canonical form."""
        (left, right), aval = operands, eqn.outvars[0].aval
        self.operations.setdefault(eqn.primitive.name)
        add, mul = ("or", "and") if aval.dtype == dtypes.bool_ else ("add", "mul")
        out = []
        for *b, i, j in np.ndindex(aval.shape):
            pairs = zip(left[*b, i], right[*b, :, j], strict=True)
            terms = [op(mul, *(build.cast(x, aval.dtype) for x in pair)) for pair in pairs] or [Const(0, aval.dtype)]
            self.spend(2 * len(terms))
            out.append(self.let(functools.reduce(functools.partial(op, add), terms)))
        return shaped(out, aval.shape)

    def starts(self, shape: Sequence[int], starts: Sequence[Value], sizes: Sequence[int]) -> list[Name | None]:
        """Where a window begins, moved inside; None in dimensions in which it cannot move."""
        out = []
        for start, n, m in zip(starts, shape, sizes, strict=True):
            out.append(self.define(clamped(self.scalar(start), size_value(n - m))) if n > m else None)
        return out

    def gather(self, eqn: JaxprEqn, lowering: Gather, operands: Sequence[Value]) -> Value:
        """A window for each point of those dimensions of the result that are no dimensions of windows."""
        x, starts = operands[0], [self.scalars(s) for s in operands[1:]]
        shape, form = eqn.outvars[0].aval.shape, lowering.form_of(eqn)
        moving = {d: a for d, a in enumerate(form.along) if a is not None}
        batched = {d: a for d, a in moving.items() if shape[a] != form.sizes[d]}
        batch = [a for a in range(len(shape)) if a not in moving.values() or a in batched.values()]
        kept = [d for d in moving if d not in batched]
        if not batch:
            return self.window(x, form, dict(zip(form.axes, starts, strict=True)), kept)
        self.check_few(eqn.outvars)
        out = np.empty(shape, object)
        for point in np.ndindex(*(shape[a] for a in batch)):
            at = dict(zip(batch, point, strict=True))
            place = tuple(at.get(a, slice(None)) for a in range(len(shape)))
            one = tuple(at.get(a, 0) for a in range(len(shape)))
            here = {d: shaped([s[one] if s.ndim else s.item()], ()) for d, s in zip(form.axes, starts, strict=True)}
            here |= {d: shaped([Const(at[a], INT64)], ()) for d, a in batched.items()}
            found = self.scalars(self.window(x, form, here, kept))
            out[place] = found if found.ndim else found[()]
        return out

    def window(self, x: Value, form: GatherForm, starts: dict[int, Scalars], kept: Sequence[int]) -> Value:
        """One window of an array, of its dimensions `kept` in order; the starts are those of some dimensions."""
        shape = x.view.shape if isinstance(x, Memory) else x.shape
        every = [starts.get(d, ZERO) for d in range(len(shape))]
        found = self.slice_of(x, self.starts(shape, every, form.sizes), form.sizes)
        if isinstance(found, Memory):
            if form.fill is not None:
                raise Unsuitable
            strides = tuple(found.view.strides[d] for d in kept)
            sizes = tuple(form.sizes[d] for d in kept)
            return found._replace(view=Strided(sizes, strides, found.view.offset))
        found = found.reshape([form.sizes[d] for d in kept])
        if form.fill is None or not form.axes:
            return found
        tests = self.inside({d: self.scalar(starts[d]) for d in form.axes}, shape, form.sizes)
        inside = self.let(functools.reduce(lambda a, b: op("and", a, b), tests))
        dtype = found.reshape(-1)[0].dtype if found.size else INT64
        return self.select(inside, found, shaped([Const(form.fill, dtype)] * found.size, found.shape))

    def slice_of(self, x: Value, starts: Sequence[Name | None], sizes: Sequence[int]) -> Value:
        """A window at a position that is known at run time only: of scalars, select for each place it may be at."""
        if isinstance(x, Memory):
            moved = [(a.name, self.stride(s)) for a, s in zip(starts, x.view.strides, strict=True) if a is not None]
            return self.loaded(x._replace(view=x.view._replace(shape=tuple(sizes)), terms=(*x.terms, *moved)))
        for d, at in enumerate(starts):
            if at is None:
                continue
            out = x.take(range(sizes[d]), d)
            for begin in range(1, x.shape[d] - sizes[d] + 1):
                here = self.let(op("eq", at, Const(begin, INT64)))
                out = self.select(here, x.take(range(begin, begin + sizes[d]), d), out)
            x = out
        return x

    def scatter(self, eqn: JaxprEqn, lowering: Scatter, x: Scalars, updates: Scalars, *starts: Scalars) -> Scalars:
        """Windows written one after the other, at positions that are known at run time only."""
        form = lowering.form_of(eqn)
        windows = updates if updates.ndim > x.ndim else updates[None]
        places = [s.reshape(-1) for s in starts]
        for b in range(len(windows)):
            x = self.written(form, x, windows[b, ...], {d: s[b] for d, s in zip(form.axes, places, strict=True)})
        return x

    def written(self, form: ScatterForm, x: Scalars, update: Scalars, starts: dict[int, Expr]) -> Scalars:
        """An array with one window written: every place that it may be at takes it or not."""
        every = [shaped([starts.get(d, Const(0, INT64))], ()) for d in range(x.ndim)]
        places = self.starts(x.shape, every, update.shape)
        inside = self.inside(starts, x.shape, update.shape) if form.drops else []
        out = x
        for begins in itertools.product(*(range(n - m + 1) for n, m in zip(x.shape, update.shape, strict=True))):
            moving = [(at, i) for at, i in zip(places, begins, strict=True) if at is not None]
            tests: list[Expr] = [*(op("eq", at, Const(i, INT64)) for at, i in moving), *inside]
            slices = (slice(i, i + m) for i, m in zip(begins, update.shape, strict=True))
            window = (*slices, ...)  # an array even if it has no dimensions
            here = self.let(functools.reduce(lambda a, b: op("and", a, b), tests)) if tests else None
            old, new, taken = out[window], out.copy(), update
            if form.combine:
                self.spend(old.size)
                pairs = zip(old.reshape(-1), update.reshape(-1), strict=True)
                taken = shaped([self.let(op(form.combine, a, b)) for a, b in pairs], old.shape)
            new[window] = taken if here is None else self.select(here, taken, old)
            out = new
        return out

    def inside(self, starts: Mapping[int, Expr], shape: Sequence[int], sizes: Sequence[int]) -> list[Expr]:
        """What must hold for a window that begins at the given starts to be inside of an array."""
        tests = []
        for d, start in starts.items():
            at = build.cast(start, INT64)
            tests += [op("ge", at, Const(0, INT64)), op("le", at, size_value(shape[d] - sizes[d]))]
        return tests

    def select(self, condition: Expr, yes: Scalars, no: Scalars) -> Scalars:
        self.spend(yes.size)
        pairs = zip(yes.reshape(-1), no.reshape(-1), strict=True)
        return shaped([self.let(op("select", condition, a, b)) if a is not b else a for a, b in pairs], yes.shape)


_RULES: LoweringTable[Callable[[Any, JaxprEqn, Sequence[Scalars]], Scalars] | None] = LoweringTable(
    "scalars",
    {
        Elementwise: ScalarWriter.elementwise,
        View: ScalarWriter.view,
        Iota: ScalarWriter.iota,
        Pad: ScalarWriter.pad,
        Concatenate: ScalarWriter.concatenate,
        Interleave: ScalarWriter.interleave,
        Reduce: ScalarWriter.fold,
        Cumulative: ScalarWriter.cumulative,
        Contract: ScalarWriter.product,
        Gather: lambda writer, eqn, operands: writer.gather(eqn, eqn.primitive.lowering, operands),
        Scatter: lambda writer, eqn, operands: writer.scatter(eqn, eqn.primitive.lowering, *operands),
    },
    # What keeps a loop from being computed with scalars; `scalar_loops` writes barriers and control flow.
    rest=(Complex, LibraryRoutine, Native, Barrier, *CALLS, *CONTROL, *KERNELS, *HOST),
    otherwise=None,
)


def as_value(x: Any) -> Value:
    """An element as an array of shape ()."""
    return x if isinstance(x, (np.ndarray, Memory)) else shaped([x], ())


def shaped(flat: Sequence[Expr], shape: tuple[int, ...]) -> Scalars:
    """Expressions as an array of the given shape."""
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(shape)


ZERO = shaped([Const(0, INT64)], ())


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def _taken(flat: np.ndarray, places: Any) -> Scalars:
    """Elements at given places, as an array of their shape."""
    return flat[np.ravel(places).astype(np.int64)].reshape(np.shape(places))


def python_value(value: Any) -> Any:
    """A scalar as a Python number."""
    found = np.asarray(value)
    return float(found) if dtypes.is_float(found.dtype) else found.item()
