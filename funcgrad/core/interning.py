"""Interning of equal jaxprs, so that they share compiled programs.

Outside jit, the body of a loop is traced at each call, because its closure may have changed. Nearly always, the jaxpr
equals that of the previous call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from funcgrad.core import forks
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, Literal, Var

_CAPACITY = 256  # of the least recently used cache
_known: OrderedDict[Any, ClosedJaxpr] = OrderedDict()
_lock = forks.held("interning", threading.RLock())  # one thread may evict an entry that another moves to the end


class _NotShared(Exception):
    """A jaxpr has constants or effects."""


def interned(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return an equal jaxpr that was interned before, or the jaxpr itself.

    Jaxprs are equal if they have the same primitives, params, types, literals and source lines. Jaxprs with constants
    or effects are not interned: that would keep arrays and callbacks of the user alive.

    >>> import funcgrad as fg
    >>> jaxprs = [fg.make_jaxpr(lambda x: x * 2)(1.0) for _ in range(2)]
    >>> interned(jaxprs[0]) is interned(jaxprs[1])
    True
    """
    return closed.memo("interned", lambda: _first(closed))


def forget() -> None:
    """Forget every jaxpr."""
    with _lock:
        _known.clear()


def _first(closed: ClosedJaxpr) -> ClosedJaxpr:
    try:
        key = _closed_key(closed)
        hash(key)
    except (TypeError, _NotShared):  # TypeError: an unhashable param
        return closed
    with _lock:
        found = _known.setdefault(key, closed)
        _known.move_to_end(key)
        if len(_known) > _CAPACITY:
            _known.popitem(last=False)
    return found


def _closed_key(closed: ClosedJaxpr) -> Any:
    if closed.consts or closed.jaxpr.effectful:
        raise _NotShared
    return _jaxpr_key(closed.jaxpr)


def _jaxpr_key(jaxpr: Jaxpr) -> Any:
    numbers: dict[Var, int] = {}

    def bound(variables: list[Var]) -> tuple[Any, ...]:
        for v in variables:
            numbers[v] = len(numbers)
        return tuple(v.aval for v in variables)

    def read(atom: Atom) -> Any:
        if isinstance(atom, Literal):
            return np.asarray(atom.val).tobytes(), atom.aval
        return numbers[atom]

    inputs = bound(jaxpr.constvars), bound(jaxpr.invars)
    eqns = tuple(
        (
            e.primitive,
            tuple(map(read, e.invars)),
            tuple([(name, param_key(value)) for name, value in e.params.items()]),
            bound(e.outvars),
            e.source,
        )
        for e in jaxpr.eqns
    )
    return inputs, eqns, tuple(map(read, jaxpr.outvars)), jaxpr.name


def param_key(value: Any) -> Any:
    """Return a key by which params are equal: 0.0 differs from −0.0, and 1 from 1.0 and True."""
    if isinstance(value, ClosedJaxpr):
        return _closed_key(value)
    if isinstance(value, Jaxpr):
        return _jaxpr_key(value)
    if isinstance(value, (tuple, list)):
        return type(value), tuple(map(param_key, value))
    return type(value), repr(value) if isinstance(value, (float, complex, np.generic)) else value
