"""Jaxprs: traced functions as lists of typed equations.

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
from funcgrad.core.masks import broadcast_mask, select
from funcgrad.core.primitives import Primitive
from funcgrad.core.quiet import quiet
from funcgrad.core.scopes import source_of
from funcgrad.core.tracers import Tracer
from funcgrad.errors import SourceLocation


@final
class Var:
    """A variable of a jaxpr, identified by object identity."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var:{self.aval}"


@final
class Literal:
    """A scalar constant inside an equation; `val` is a 0-d `Array`."""

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
        """Whether the equation, or one in the jaxprs of its params, has effects."""
        return self.primitive.effectful or (
            self.primitive.higher_order and any(s.effectful for s in subjaxprs(self.params))
        )

    def replace(self, **changes: Any) -> JaxprEqn:
        """Return the equation with the given fields replaced."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return JaxprEqn(**(fields | changes))


class Jaxpr:
    """A function: constants, inputs, equations and outputs. The values of `constvars` are not part of it."""

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
        """Whether any equation has effects."""
        if self._effectful is None:
            self._effectful = any(e.effectful for e in self.eqns)
        return self._effectful

    @property
    def used_axes(self) -> frozenset[Any]:
        """The vmap axes that its collectives name, at any depth."""
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
        """Return `make()`, cached by key as long as the jaxpr lives; transforms cache their results here."""
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
    """Yield the jaxprs in the params of an equation, one level deep."""
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
    """Dead-code elimination: return the equations that the outputs need, and those with effects.

    Unused operands and results of equations with jaxprs are removed, see `Primitive.prune`.
    """
    needed = {v for v in outvars if isinstance(v, Var)}
    kept = []
    for eqn in reversed(eqns):
        used = [v in needed for v in eqn.outvars]
        if any(used) or eqn.effectful:
            if eqn.primitive.prune is not None:
                eqn = eqn.primitive.prune(used, eqn)
            kept.append(eqn)
            needed.update(v for v in eqn.invars if isinstance(v, Var))
    return kept[::-1]


def upstream(eqns: Sequence[JaxprEqn], targets: Iterable[Atom]) -> list[JaxprEqn]:
    """Return the equations that the target variables depend on, unchanged."""
    needed, kept = set(targets), []
    for eqn in reversed(eqns):
        if any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(eqn.invars)
    return kept[::-1]


def invariant(eqns: Iterable[JaxprEqn], fixed: Iterable[Var]) -> list[JaxprEqn]:
    """Return the equations without effects that depend only on the `fixed` variables."""
    known, found = set(fixed), []
    for eqn in eqns:
        if not eqn.effectful and all(isinstance(v, Literal) or v in known for v in eqn.invars):
            found.append(eqn)
            known.update(eqn.outvars)
    return found


def pruned(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Remove the equations and consts that no output needs; keep all inputs."""
    return _dce(closed, [True] * len(closed.jaxpr.outvars), [True] * len(closed.jaxpr.invars))[0]


def dce_jaxpr(
    closed: ClosedJaxpr, used: Sequence[bool], instantiate: Sequence[bool] | bool = False
) -> tuple[ClosedJaxpr, list[bool]]:
    """Return the jaxpr restricted to the used outputs and the inputs that they need, and the mask of those inputs.

    Inputs in the mask `instantiate` stay even when nothing reads them. Where there is nothing to drop, the jaxpr is
    returned as it is. Memoized on the jaxpr.
    """
    instantiate = broadcast_mask(instantiate, len(closed.jaxpr.invars))

    def make() -> tuple[ClosedJaxpr | None, list[bool]]:
        smaller, read = _dce(closed, used, instantiate)
        return None if smaller is closed else smaller, read  # avoid a reference cycle

    smaller, read = closed.memo(("dce", tuple(used), instantiate), make)
    return closed if smaller is None else smaller, read


def _dce(closed: ClosedJaxpr, used: Sequence[bool], instantiate: Sequence[bool]) -> tuple[ClosedJaxpr, list[bool]]:
    jaxpr = closed.jaxpr
    outvars = select(jaxpr.outvars, used)
    eqns = live(jaxpr.eqns, outvars)
    needed = variables_read(eqns, outvars)
    kept_consts = [v in needed for v in jaxpr.constvars]
    kept = [i or v in needed for v, i in zip(jaxpr.invars, instantiate, strict=True)]
    if all(used) and all(kept) and all(kept_consts) and eqns == jaxpr.eqns:
        return closed, kept
    smaller = jaxpr.replace(
        constvars=select(jaxpr.constvars, kept_consts), invars=select(jaxpr.invars, kept), eqns=eqns, outvars=outvars
    )
    return ClosedJaxpr(smaller, select(closed.consts, kept_consts)), kept


def prune_call(used: Sequence[bool], eqn: JaxprEqn) -> JaxprEqn:
    """The `prune` rule of primitives that apply the jaxpr in the param `jaxpr` to their operands."""
    jaxpr, read = dce_jaxpr(eqn.params["jaxpr"], used)
    if jaxpr is eqn.params["jaxpr"]:
        return eqn
    invars, outvars = select(eqn.invars, read), select(eqn.outvars, used)
    return eqn.replace(invars=invars, outvars=outvars, params=eqn.params | {"jaxpr": jaxpr})


def variables_read(eqns: Iterable[JaxprEqn], outvars: Iterable[Atom]) -> set[Var]:
    """Return the variables that equations and outputs read."""
    return {v for v in (*outvars, *(v for e in eqns for v in e.invars)) if isinstance(v, Var)}


def inlined(closed: ClosedJaxpr, which: Callable[[Primitive], bool] = lambda primitive: True) -> ClosedJaxpr:
    """Return the jaxpr with calls inlined: jitted functions and custom rules, or only those that `which` selects."""
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
    """Return a Literal for a concrete scalar, which prints inside the equation, otherwise None."""
    if isinstance(value, Tracer):
        return None
    aval = aval_of(value)
    if aval.shape or aval.dtype in (dtypes.float0, dtypes.key):
        return None
    return Literal(value if isinstance(value, Array) else Array(aval, quiet.run(np.asarray, value, aval.dtype)), aval)
