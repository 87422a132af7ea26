"""jaxpr → the same with checks: who made a NaN or an infinity, found while the program runs.

Each equation whose results could be bad is followed by `check_finite`, which reads its results and operands and raises.
It has effects, so that later passes keep it and its order; what it reads is what was computed, nothing runs twice.
Loops count their iterations for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core import finite
from funcgrad.core.avals import ShapedArray
from funcgrad.core.finite import Kinds
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, JaxprEqn, Var, literal_of, live
from funcgrad.core.lowering import Inline, Scan, While
from funcgrad.core.primitives import Primitive
from funcgrad.errors import SourceLocation
from funcgrad.ops.arithmetic import add_p

# How much a result matters. A result of the whole program is checked even if the bad value was given to it.
_UNUSED, _USED, _RETURNED = 0, 1, 2
_COUNTER = ShapedArray((), dtypes.int32)


def _infer(*avals: ShapedArray, **params: Any) -> list[ShapedArray]:
    return []


def _evaluate(
    *values: Any, primitive: Primitive, n_out: int, n_in: int, kinds: Kinds, given: bool, source: SourceLocation | None
) -> list[Any]:
    operands, iteration = values[n_out : n_out + n_in], values[n_out + n_in :]
    finite.check(primitive, values[:n_out], operands, kinds, source, given=given, iteration=[int(i) for i in iteration])
    return []


check_finite_p = Primitive("check_finite", infer=_infer, evaluate=_evaluate, multiple_results=True, effectful=True)


def with_checks(closed: ClosedJaxpr, kinds: Kinds) -> ClosedJaxpr:
    """Return a jaxpr that computes the same and raises NonFiniteError where an equation makes a bad value.

    Equations that no result needs are not checked; those of inner jaxprs are.
    """
    return _Checks(kinds).of(closed, (_RETURNED,) * len(closed.jaxpr.outvars))


class _Checks:
    """Puts checks into a jaxpr and those inside it."""

    def __init__(self, kinds: Kinds):
        self.kinds = kinds

    def of(self, closed: ClosedJaxpr, matter: tuple[int, ...]) -> ClosedJaxpr:
        """The jaxpr with checks, remembered on it."""

        def make() -> ClosedJaxpr:
            eqns = self.inserted(closed, matter, [])
            return ClosedJaxpr(closed.jaxpr.replace(eqns=eqns), closed.consts)

        return closed.memo(("with_checks", self.kinds, matter), make)

    def inserted(self, closed: ClosedJaxpr, matter: Sequence[int], iteration: list[Atom]) -> list[JaxprEqn]:
        """The equations of a jaxpr and their checks; `iteration` is the counter of the loop it is the body of."""
        results = [(v, m) for v, m in zip(closed.jaxpr.outvars, matter, strict=True) if m != _UNUSED]
        needed = live(closed.eqns, [v for v, _ in results])
        returned = {v for v, m in results if m == _RETURNED}
        used = {v for e in needed for v in e.invars} | {v for v, _ in results}
        checked = set(map(id, needed))
        eqns: list[JaxprEqn] = []
        for eqn in closed.eqns:
            if id(eqn) not in checked:
                eqns.append(eqn)
                continue
            flags = tuple(_RETURNED if v in returned else _USED if v in used else _UNUSED for v in eqn.outvars)
            eqns += [self.inside(eqn, flags), *self.after(eqn, flags, iteration)]
        return eqns

    def inside(self, eqn: JaxprEqn, flags: tuple[int, ...]) -> JaxprEqn:
        """The equation with checks in the jaxprs of its params."""
        lowering = eqn.primitive.lowering
        if not eqn.primitive.higher_order:
            return eqn
        if isinstance(lowering, Scan):
            return self.scan(eqn)
        if isinstance(lowering, While):
            return self.while_loop(eqn)

        def inner(value: Any) -> Any:
            if isinstance(value, ClosedJaxpr):
                n = len(value.jaxpr.outvars)
                return self.of(value, flags if isinstance(lowering, Inline) and n == len(flags) else (_USED,) * n)
            return tuple(map(inner, value)) if isinstance(value, tuple) else value

        return eqn.replace(params={k: inner(v) for k, v in eqn.params.items()})

    def scan(self, eqn: JaxprEqn) -> JaxprEqn:
        p = eqn.params
        start, step = (p["length"] - 1, -1) if p["reverse"] else (0, 1)
        body = self.counting(p["jaxpr"], p["num_consts"], step)
        return _with_counter(eqn, p["num_consts"], start, p | {"jaxpr": body, "num_carry": p["num_carry"] + 1})

    def while_loop(self, eqn: JaxprEqn) -> JaxprEqn:
        p = eqn.params
        body = self.counting(p["body_jaxpr"], p["body_nconsts"], 1)
        asks, n = self.of(p["cond_jaxpr"], (_USED,)), p["cond_nconsts"]
        invars = [*asks.jaxpr.invars[:n], Var(_COUNTER), *asks.jaxpr.invars[n:]]
        asks = ClosedJaxpr(asks.jaxpr.replace(invars=invars), asks.consts)
        return _with_counter(eqn, n + p["body_nconsts"], 0, p | {"body_jaxpr": body, "cond_jaxpr": asks})

    def counting(self, body: ClosedJaxpr, n_consts: int, step: int) -> ClosedJaxpr:
        """A loop's body with checks, which carries along the number of its iteration in front of the other values."""
        jaxpr, now, then = body.jaxpr, Var(_COUNTER), Var(_COUNTER)
        eqns = self.inserted(body, (_USED,) * len(jaxpr.outvars), [now])
        eqns.append(JaxprEqn([now, _literal(step)], [then], add_p, {}))
        invars = [*jaxpr.invars[:n_consts], now, *jaxpr.invars[n_consts:]]
        return ClosedJaxpr(jaxpr.replace(invars=invars, eqns=eqns, outvars=[then, *jaxpr.outvars]), body.consts)

    def after(self, eqn: JaxprEqn, flags: Sequence[int], iteration: list[Atom]) -> list[JaxprEqn]:
        """The check that follows an equation; none where the equation cannot be to blame."""
        primitive, returned = eqn.primitive, _RETURNED in flags
        if isinstance(primitive.lowering, Inline):
            return []
        if not returned and (primitive.higher_order or finite.only_moves(primitive)):
            return []
        results = [v for v, f in zip(eqn.outvars, flags, strict=True) if f and dtypes.is_inexact(v.aval.dtype)]
        if not results:
            return []
        operands = [] if primitive.higher_order else eqn.invars
        params = {"primitive": primitive, "n_out": len(results), "n_in": len(operands), "kinds": self.kinds,
                  "given": returned, "source": eqn.source}  # fmt: skip
        return [JaxprEqn([*results, *operands, *iteration], [], check_finite_p, params, eqn.source)]


def _with_counter(eqn: JaxprEqn, at: int, start: int, params: dict[str, Any]) -> JaxprEqn:
    """A loop that carries along one more value, in front of those at position `at` of its operands."""
    invars = [*eqn.invars[:at], _literal(start), *eqn.invars[at:]]
    return eqn.replace(invars=invars, outvars=[Var(_COUNTER), *eqn.outvars], params=params)


def _literal(value: int) -> Atom:
    literal = literal_of(np.int32(value))
    assert literal is not None
    return literal
