"""jaxpr → the same with checks: who made a NaN or an infinity, found while the program runs.

Each equation whose results could be bad is followed by `check_finite`, which reads its results and operands and raises.
It has effects, so that later passes keep it and its order; what it reads is what was computed, nothing runs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.core import finite
from funcgrad.core.avals import ShapedArray
from funcgrad.core.finite import Kinds
from funcgrad.core.jaxprs import ClosedJaxpr, JaxprEqn, Var, live
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import Primitive
from funcgrad.errors import SourceLocation

# How much a result matters. A result of the whole program is checked even if the bad value was given to it.
_UNUSED, _USED, _RETURNED = 0, 1, 2


def _infer(*avals: ShapedArray, **params: Any) -> list[ShapedArray]:
    return []


def _evaluate(
    *values: Any, primitive: Primitive, n_out: int, kinds: Kinds, given: bool, source: SourceLocation | None
) -> list[Any]:
    finite.check(primitive, values[:n_out], values[n_out:], kinds, source, given=given)
    return []


check_finite_p = Primitive("check_finite", infer=_infer, evaluate=_evaluate, multiple_results=True, effectful=True)


def with_checks(closed: ClosedJaxpr, kinds: Kinds) -> ClosedJaxpr:
    """Return a jaxpr that computes the same and raises NonFiniteError where an equation makes a bad value.

    Equations that no result needs are not checked; those of inner jaxprs are.
    """
    return _checked(closed, kinds, (_RETURNED,) * len(closed.jaxpr.outvars))


def _checked(closed: ClosedJaxpr, kinds: Kinds, matter: tuple[int, ...]) -> ClosedJaxpr:
    return closed.memo(("with_checks", kinds, matter), lambda: _insert(closed, kinds, matter))


def _insert(closed: ClosedJaxpr, kinds: Kinds, matter: Sequence[int]) -> ClosedJaxpr:
    jaxpr = closed.jaxpr
    returned = {v for v, m in zip(jaxpr.outvars, matter, strict=True) if m == _RETURNED and isinstance(v, Var)}
    needed = live(jaxpr.eqns, [v for v, m in zip(jaxpr.outvars, matter, strict=True) if m])
    read = {v for e in needed for v in e.invars if isinstance(v, Var)} | {
        v for v, m in zip(jaxpr.outvars, matter, strict=True) if m and isinstance(v, Var)
    }
    checked = set(map(id, needed))
    eqns: list[JaxprEqn] = []
    for eqn in jaxpr.eqns:
        if id(eqn) not in checked:
            eqns.append(eqn)
            continue
        flags = tuple(_RETURNED if v in returned else _USED if v in read else _UNUSED for v in eqn.outvars)
        eqns.append(_with_checked_params(eqn, kinds, flags))
        check = _check_of(eqn, kinds, flags)
        if check is not None:
            eqns.append(check)
    return ClosedJaxpr(jaxpr.replace(eqns=eqns), closed.consts)


def _with_checked_params(eqn: JaxprEqn, kinds: Kinds, flags: tuple[int, ...]) -> JaxprEqn:
    """The equation with checks in the jaxprs of its params."""
    if not eqn.primitive.higher_order:
        return eqn
    inline = isinstance(eqn.primitive.lowering, Inline)

    def inner(value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            n = len(value.jaxpr.outvars)
            return _checked(value, kinds, flags if inline and n == len(flags) else (_USED,) * n)
        if isinstance(value, tuple):
            return tuple(map(inner, value))
        return value

    return eqn.replace(params={k: inner(v) for k, v in eqn.params.items()})


def _check_of(eqn: JaxprEqn, kinds: Kinds, flags: Sequence[int]) -> JaxprEqn | None:
    """The check that follows an equation; None where the equation cannot be to blame."""
    primitive, returned = eqn.primitive, _RETURNED in flags
    if isinstance(primitive.lowering, Inline):
        return None
    if not returned and (primitive.higher_order or finite.only_moves(primitive)):
        return None
    kept = [v for v, f in zip(eqn.outvars, flags, strict=True) if f and dtypes.is_inexact(v.aval.dtype)]
    if not kept:
        return None
    operands = [] if primitive.higher_order else eqn.invars
    params = {
        "primitive": primitive, "n_out": len(kept), "kinds": kinds, "given": returned, "source": eqn.source,
    }  # fmt: skip
    return JaxprEqn([*kept, *operands], [], check_finite_p, params, eqn.source)
