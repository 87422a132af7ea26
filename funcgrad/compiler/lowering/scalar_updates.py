"""Large arrays in loops over scalars: windows of a carry are written in place.

A carry that is too large for registers stays in memory, and a scatter of a few elements writes them where they are.
This is right as long as nothing reads the array as it was before. So each write makes a new *version* of the array, and
a read of an old version raises Unsuitable. Equations that read an array come before the one that writes to it
(`updates.readers_first`), so this is rare.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from funcgrad.compiler.fusion.access import is_contiguous
from funcgrad.compiler.loops.language import Expr, For, If, Index, Load, Store, op
from funcgrad.compiler.lowering.kernel_builder import INT64, build
from funcgrad.compiler.lowering.scalar_writer import ZERO, Memory, Scalars, ScalarWriter, Unsuitable, Value, shaped
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.lowering import Scatter, ScatterForm, contiguous

T = TypeVar("T")


class UpdateWriter(ScalarWriter):
    """Writes kernels that update arrays in memory."""

    def __init__(self, scheduling: Scheduling) -> None:
        super().__init__(scheduling)
        self.versions: dict[str, int] = {}  # the current version of each parameter that may be written to
        self._newest = 0

    def is_large(self, atom: Atom) -> bool:
        """Whether an array stays in memory."""
        return atom.aval.size > self.limits.max_scalar_elements

    # ------------------------------------------------------------------ versions

    def replacing(self, var: Var) -> Memory:
        """A result of the kernel whose memory holds the operand that it replaces."""
        param = self.updated(var)
        self.versions[param] = 0
        return self.memory(param, var, var.aval.shape)

    def check_current(self, m: Memory) -> None:
        """Raise Unsuitable where an array has been written to since."""
        if m.version != self.versions.get(m.param, m.version):
            raise Unsuitable

    def next_version(self, m: Memory) -> Memory:
        """The next version of an array."""
        if m.param not in self.versions:
            raise Unsuitable
        self.check_current(m)
        self._newest += 1
        self.versions[m.param] = self._newest
        return m._replace(version=self._newest)

    def carried_memory(self, value: Value, aval: ShapedArray, into: Memory | None) -> Memory:
        """Where a loop carries a large array: where it is, if that may be written to, else in a copy."""
        if not isinstance(value, Memory):
            raise Unsuitable
        self.check_current(value)
        if value.param in self.versions:
            return self.next_version(value)
        if not is_contiguous(value.view) or aval.size > self.limits.max_scratch_elements:
            raise Unsuitable
        count = self.new_size("n", aval.size)
        if into is None:
            into = Memory(self.scratch(aval.dtype, count), contiguous(aval.shape), aval.dtype)
        self.versions.setdefault(into.param, 0)
        i = f"i{self.number()}"
        source, place = (Index((*m.terms, (i, 1)), (*m.offsets, self.offset(m.view.offset))) for m in (value, into))
        copy = Store(into.param, place, Load(value.param, source, value.dtype))
        self.body.append(For(i, count, (copy,), "vector"))
        return self.next_version(into._replace(version=self.versions[into.param]))

    def is_in(self, value: Value, m: Memory) -> bool:
        """Whether a value is in the given memory, in the current version."""
        if not isinstance(value, Memory) or value._replace(version=m.version) != m:
            return False
        self.check_current(value)
        return True

    def latest(self, m: Memory) -> Memory:
        """An array after all writes so far."""
        return m._replace(version=self.versions.get(m.param, m.version))

    @contextmanager
    def iterated(self, carry: Sequence[object]) -> Iterator[None]:
        """Write a loop's body within a ``with`` block: of the arrays outside, only the carry may be written to."""
        before = dict(self.versions)
        yield
        if not self._changed(before) <= {m.param for m in carry if isinstance(m, Memory)}:
            raise Unsuitable

    def alternatives(self, branches: Iterable[T]) -> Iterator[T]:
        """Yield branches, which all start from the same versions; after them, what one wrote to has a new version."""
        before, changed = self.versions, set[str]()
        for branch in branches:
            self.versions = dict(before)
            yield branch
            changed |= self._changed(before)
        self.versions = before
        for param in changed:
            self._newest += 1
            self.versions[param] = self._newest

    def _changed(self, before: Mapping[str, int]) -> set[str]:
        return {param for param, version in before.items() if self.versions[param] != version}

    # ------------------------------------------------------------------ reads and writes

    def loaded(self, m: Memory) -> Value:
        self.check_current(m)
        return super().loaded(m)

    def first_order(self, eqn: JaxprEqn, operands: Sequence[Value]) -> Value:
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Scatter) and isinstance(operands[0], Memory):
            return self.scatter_in_place(lowering.form_of(eqn), operands[0], *map(self.scalars, operands[1:]))
        return super().first_order(eqn, operands)

    def scatter_in_place(self, form: ScatterForm, m: Memory, updates: Scalars, *starts: Scalars) -> Memory:
        """Write windows of a few elements one after the other."""
        out = self.next_version(m)
        self.operations.setdefault(form.combine or "set")
        windows = updates if updates.ndim > len(m.view.shape) else updates[None]
        places = [s.reshape(-1) for s in starts]
        for b in range(len(windows)):
            at = {d: s[b] for d, s in zip(form.axes, places, strict=True)}
            tests = self.inside(at, m.view.shape, windows.shape[1:]) if form.drops else []
            with self.block() as body:
                self.write_window(form, m, windows[b, ...], at)
            if tests:
                body = [If(functools.reduce(lambda a, b: op("and", a, b), tests), tuple(body))]
            self.body += body
        return out

    def write_window(self, form: ScatterForm, m: Memory, update: Scalars, starts: dict[int, Expr]) -> None:
        shape = m.view.shape
        if form.drops:
            begins = {d: self.define(build.cast(start, INT64)) for d, start in starts.items()}
        else:
            every = [shaped([starts[d]], ()) if d in starts else ZERO for d in range(len(shape))]
            found = enumerate(self.starts(shape, every, update.shape))
            begins = {d: begin for d, begin in found if begin is not None}
        terms = [(begin.name, self.stride(m.view.strides[d])) for d, begin in begins.items()]
        window = m._replace(view=m.view._replace(shape=update.shape), terms=(*m.terms, *terms))
        self.spend(2 * update.size)
        for i, new in enumerate(update.reshape(-1)):
            if form.combine:
                new = op(form.combine, self.let(Load(m.param, window.at(i), m.dtype)), new)
            self.body.append(Store(m.param, window.at(i), new))
