"""Jaxprs: a traced function as a list of typed equations.

jaxpr ::= { lambda constvars ; invars. let eqns in outvars }
eqn   ::= outvars = primitive[params] atoms
atom  ::= var | literal
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import Primitive
from funcgrad.core.quiet import quiet
from funcgrad.core.scopes import source_of
from funcgrad.core.tracers import Tracer
from funcgrad.errors import SourceLocation


@final
class Var:
    """A variable of a jaxpr; identity is the name."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var:{self.aval}"


@final
class Literal:
    """A scalar constant written into an equation; `val` is a 0-d `Array`."""

    __slots__ = ("val", "aval")

    def __init__(self, val: Any, aval: ShapedArray):
        self.val, self.aval = val, aval

    def __repr__(self) -> str:
        return f"{self.val}:{self.aval.short()}"


Atom = Var | Literal


class JaxprEqn:
    """One application of a primitive to atoms."""

    __slots__ = ("invars", "outvars", "primitive", "params", "source")

    def __init__(
        self,
        invars: Sequence[Atom],
        outvars: Sequence[Var],
        primitive: Primitive,
        params: dict[str, Any],
        source: SourceLocation | None = None,
    ):
        self.invars, self.outvars = list(invars), list(outvars)
        self.primitive, self.params, self.source = primitive, params, source

    @property
    def effectful(self) -> bool:
        """Whether the equation, or one in a jaxpr of its params, does more than compute its results."""
        return self.primitive.effectful or (
            self.primitive.higher_order and any(s.effectful for s in subjaxprs(self.params))
        )

    def replace(self, **changes: Any) -> JaxprEqn:
        """Return the equation with the given fields replaced."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return JaxprEqn(**(fields | changes))


class Jaxpr:
    """A function body: constants, inputs, equations, outputs; open over `constvars`."""

    __slots__ = ("constvars", "invars", "eqns", "outvars", "name", "_effectful", "_used_axes", "__weakref__")

    def __init__(
        self,
        constvars: Iterable[Var],
        invars: Iterable[Var],
        eqns: Iterable[JaxprEqn],
        outvars: Iterable[Atom],
        name: str = "",
    ):
        self.constvars, self.invars = list(constvars), list(invars)
        self.eqns, self.outvars, self.name = list(eqns), list(outvars), name
        self._effectful: bool | None = None
        self._used_axes: frozenset[Any] | None = None

    @property
    def effectful(self) -> bool:
        """Whether any equation does more than compute its results."""
        if self._effectful is None:
            self._effectful = any(e.effectful for e in self.eqns)
        return self._effectful

    @property
    def used_axes(self) -> frozenset[Any]:
        """The vmap axes that collectives in it name, at any depth."""
        if self._used_axes is None:
            self._used_axes = frozenset().union(*(used_axes(e.primitive, e.params) for e in self.eqns))
        return self._used_axes

    def replace(self, **changes: Any) -> Jaxpr:
        """Return the jaxpr with the given fields replaced."""
        fields = {name: getattr(self, name) for name in ("constvars", "invars", "eqns", "outvars", "name")}
        return Jaxpr(**(fields | changes))


class ClosedJaxpr:
    """A jaxpr with values for its constvars."""

    __slots__ = ("jaxpr", "consts", "_memo", "__weakref__")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any] = ()):
        self.jaxpr, self.consts = jaxpr, list(consts)
        self._memo: dict[Any, Any] = {}

    in_avals = property(lambda self: [v.aval for v in self.jaxpr.invars])
    out_avals = property(lambda self: [v.aval for v in self.jaxpr.outvars])
    eqns = property(lambda self: self.jaxpr.eqns)

    def memo(self, key: Any, make: Any) -> Any:
        """Return `make()`, computed once per key for the life of this jaxpr: what transforms of it cache by."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


def jaxpr_as_fun(closed: ClosedJaxpr) -> Any:
    """Return a function of flat arguments that evaluates the jaxpr."""
    return lambda *args: eval_jaxpr(closed.jaxpr, closed.consts, *args)


def eval_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any], *args: Any) -> list[Any]:
    """Apply the equations of `jaxpr` to values, under the current trace."""
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Atom) -> Any:
        return atom.val if type(atom) is Literal else env[atom]

    for eqn in jaxpr.eqns:
        with source_of(eqn.source):
            out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return [read(v) for v in jaxpr.outvars]


def subjaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Yield the jaxprs in an equation's params, one level deep."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def used_axes(primitive: Primitive, params: dict[str, Any]) -> frozenset[Any]:
    """Return the vmap axes that a primitive names, itself or in the jaxprs of its params."""
    if primitive.axis_names is not None:
        return frozenset(primitive.axis_names(params))
    if primitive.higher_order:
        return frozenset().union(*(s.used_axes for s in subjaxprs(params)))
    return frozenset()


def live(eqns: Sequence[JaxprEqn], outvars: Iterable[Atom]) -> list[JaxprEqn]:
    """Return the equations that some output needs, and those that have effects.

    Equations that carry a jaxpr are left with the results that are read.
    """
    needed = {v for v in outvars if isinstance(v, Var)}
    kept = []
    for eqn in reversed(eqns):
        used = [v in needed for v in eqn.outvars]
        if eqn.effectful or any(used):
            if eqn.primitive.prune is not None and not all(used):
                eqn = _pruned_eqn(eqn, used)
            kept.append(eqn)
            needed.update(v for v in eqn.invars if isinstance(v, Var))
    return kept[::-1]


def _pruned_eqn(eqn: JaxprEqn, used: list[bool]) -> JaxprEqn:
    assert eqn.primitive.prune is not None
    read, params = eqn.primitive.prune(used, eqn.params)
    invars = [v for v, r in zip(eqn.invars, read, strict=True) if r]
    outvars = [v for v, u in zip(eqn.outvars, used, strict=True) if u]
    return eqn.replace(invars=invars, outvars=outvars, params=params)


def pruned(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Drop equations and consts that no output needs; inputs stay."""
    eqns = live(closed.jaxpr.eqns, closed.jaxpr.outvars)
    needed = variables_read(eqns, closed.jaxpr.outvars)
    kept = [(v, c) for v, c in zip(closed.jaxpr.constvars, closed.consts, strict=True) if v in needed]
    jaxpr = closed.jaxpr.replace(constvars=[v for v, _ in kept], eqns=eqns)
    return ClosedJaxpr(jaxpr, [c for _, c in kept])


def restricted(closed: ClosedJaxpr, used: Sequence[bool]) -> tuple[list[bool], ClosedJaxpr]:
    """Return which inputs the outputs marked in `used` need, and the jaxpr of those inputs to those outputs."""

    def make() -> tuple[list[bool], ClosedJaxpr]:
        outvars = [v for v, u in zip(closed.jaxpr.outvars, used, strict=True) if u]
        smaller = pruned(ClosedJaxpr(closed.jaxpr.replace(outvars=outvars), closed.consts))
        needed = variables_read(smaller.eqns, outvars)
        read = [v in needed for v in closed.jaxpr.invars]
        invars = [v for v, r in zip(closed.jaxpr.invars, read, strict=True) if r]
        return read, ClosedJaxpr(smaller.jaxpr.replace(invars=invars), smaller.consts)

    return closed.memo(("restricted", tuple(used)), make)


def prune_jaxpr_param(used: Sequence[bool], params: dict[str, Any]) -> tuple[list[bool], dict[str, Any]]:
    """The `prune` rule of a primitive that applies the jaxpr in its param `jaxpr` to its operands."""
    read, jaxpr = restricted(params["jaxpr"], used)
    return read, params | {"jaxpr": jaxpr}


def variables_read(eqns: Iterable[JaxprEqn], outvars: Iterable[Atom]) -> set[Var]:
    """Return the variables that equations and results read."""
    return {v for v in (*outvars, *(v for e in eqns for v in e.invars)) if isinstance(v, Var)}


def inlined(closed: ClosedJaxpr, which: Callable[[Primitive], bool] = lambda primitive: True) -> ClosedJaxpr:
    """Return the jaxpr with the jaxprs of calls spliced in: jitted functions, custom rules, or `which` of them."""
    env: dict[Var, Atom] = {}
    consts: dict[Var, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    eqns: list[JaxprEqn] = []

    def read(atom: Atom) -> Atom:
        return env.get(atom, atom) if isinstance(atom, Var) else atom

    def walk(jaxpr: Jaxpr) -> list[Atom]:
        for eqn in jaxpr.eqns:
            invars = [read(v) for v in eqn.invars]
            lowering = eqn.primitive.lowering
            if isinstance(lowering, Inline) and which(eqn.primitive):
                inner = eqn.params[lowering.param]
                for var, const in zip(inner.jaxpr.constvars, inner.consts, strict=True):
                    env[var] = fresh = Var(var.aval)
                    consts[fresh] = const
                env.update(zip(inner.jaxpr.invars, invars, strict=True))
                env.update(zip(eqn.outvars, walk(inner.jaxpr), strict=True))
            else:
                outvars = [Var(v.aval) for v in eqn.outvars]
                eqns.append(eqn.replace(invars=invars, outvars=outvars))
                env.update(zip(eqn.outvars, outvars, strict=True))
        return [read(v) for v in jaxpr.outvars]

    results = walk(closed.jaxpr)
    return ClosedJaxpr(closed.jaxpr.replace(constvars=list(consts), eqns=eqns, outvars=results), list(consts.values()))


def literal_of(value: Any) -> Literal | None:
    """Return a Literal for a concrete scalar, else None: constants that print inside the equation."""
    if isinstance(value, Tracer):
        return None
    aval = aval_of(value)
    if aval.shape or aval.dtype == dtypes.float0:
        return None
    return Literal(value if isinstance(value, Array) else Array(aval, quiet.run(np.asarray, value, aval.dtype)), aval)
