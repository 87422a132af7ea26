"""Keys → 64-bit integers: to later passes, a key in memory is a uint64.

Primitives that move elements apply to integers as they are. `random_wrap` and `random_unwrap` expand to shifts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var


def as_integers(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Replace the dtype of keys by uint64, in inner jaxprs too; return a jaxpr without keys as it is."""

    def make() -> ClosedJaxpr | None:
        jaxpr = _jaxpr(closed.jaxpr)
        return None if jaxpr is closed.jaxpr else ClosedJaxpr(jaxpr, list(map(_const, closed.consts)))

    replaced = closed.memo("keys as integers", make)  # None avoids a reference cycle
    return closed if replaced is None else replaced


def _jaxpr(jaxpr: Jaxpr) -> Jaxpr:
    variables = {v: Var(_aval(v.aval)) for v in _variables(jaxpr) if v.aval.dtype is dtypes.key}

    def renamed(atoms: Iterable[Atom]) -> list[Any]:
        return [v if isinstance(v, Literal) else variables.get(v, v) for v in atoms]

    def replaced(eqn: JaxprEqn) -> JaxprEqn:
        params = {name: _param(value) for name, value in eqn.params.items()}
        if all(params[name] is value for name, value in eqn.params.items()):
            params = eqn.params
            if not variables:
                return eqn
        return eqn.replace(invars=renamed(eqn.invars), outvars=renamed(eqn.outvars), params=params)

    eqns = [replaced(eqn) for eqn in jaxpr.eqns]
    if not variables and all(new is old for new, old in zip(eqns, jaxpr.eqns, strict=True)):
        return jaxpr
    fields = {name: renamed(getattr(jaxpr, name)) for name in ("constvars", "invars", "outvars")}
    return jaxpr.replace(**fields, eqns=eqns)


def _variables(jaxpr: Jaxpr) -> Iterator[Var]:
    yield from jaxpr.constvars
    yield from jaxpr.invars
    for eqn in jaxpr.eqns:
        yield from eqn.outvars


def _param(value: Any) -> Any:
    """Return a param of an equation without keys, and the same object if it has none."""
    if isinstance(value, ClosedJaxpr):
        return as_integers(value)
    if isinstance(value, Jaxpr):
        return _jaxpr(value)
    if isinstance(value, ShapedArray):
        return _aval(value)
    if type(value) in (tuple, list):
        items = [_param(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    return dtypes.uint64 if value is dtypes.key else value


def _aval(aval: ShapedArray) -> ShapedArray:
    return aval.update(dtype=dtypes.uint64) if aval.dtype is dtypes.key else aval


def _const(const: Any) -> Any:
    if not isinstance(const, Array) or const.aval.dtype is not dtypes.key:
        return const
    return Array(_aval(const.aval), const.host.view(np.uint64))
