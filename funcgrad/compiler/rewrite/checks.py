"""jaxpr → the same with checks: who made a NaN or an infinity, found while the program runs.

Each equation whose results could be bad is followed by `check_finite`, which reads its results and operands and raises.
It has effects, so that later passes keep it and its order; what it reads is what was computed, nothing runs twice.
Inner jaxprs are spliced in first. Loops count their iterations for the checks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.rewrite.masks import Chosen, seen_of
from funcgrad.core import finite
from funcgrad.core.avals import ShapedArray
from funcgrad.core.finite import Kinds
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Var, inlined, literal_of, live
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout, WhileParts
from funcgrad.core.lowering import Cond, Elementwise, Rewrite, Scan, WhileLoop
from funcgrad.core.primitives import Primitive, missing_rule
from funcgrad.errors import SourceLocation
from funcgrad.ops.arithmetic import add_p

_COUNTER = ShapedArray((), dtypes.int32)


def _infer(*avals: ShapedArray, **params: Any) -> list[ShapedArray]:
    return []


def _evaluate(
    *values: Any,
    primitive: Primitive,
    parts: Sequence[int],
    kinds: Kinds,
    given: bool,
    chosen: Chosen | None,
    source: SourceLocation | None,
) -> list[Any]:
    results, operands, iteration, selectors = (values[a:b] for a, b in zip([0, *parts], [*parts, None], strict=True))
    mask = None
    if chosen is not None:
        ids = map(id, chosen.selectors())
        mask = chosen.mask(dict(zip(ids, selectors, strict=True)), results[0].shape)
    number = int(iteration[0]) if iteration else None
    elementwise = isinstance(primitive.lowering, Elementwise)
    finite.check(
        primitive.name,
        results,
        operands,
        kinds,
        source,
        elementwise=elementwise,
        given=given,
        mask=mask,
        iteration=number,
    )
    return []


check_finite_p = Primitive("check_finite", infer=_infer, evaluate=_evaluate, multiple_results=True, effectful=True)


def with_checks(closed: ClosedJaxpr, kinds: Kinds) -> ClosedJaxpr:
    """Return a jaxpr that computes the same and raises NonFiniteError where an equation makes a bad value.

    An equation is to blame that makes a bad value of good operands, if that is seen in a result; one that returns a
    result of the whole program is so too if an operand was bad.
    """
    return _Checks(kinds).of(closed, returned=True)


class _Checks:
    """Puts checks into a jaxpr and those inside it."""

    def __init__(self, kinds: Kinds):
        self.kinds = kinds

    def of(self, closed: ClosedJaxpr, returned: bool = False) -> ClosedJaxpr:
        """The jaxpr with checks, remembered on it."""

        def make() -> ClosedJaxpr:
            flat = inlined(closed)
            return ClosedJaxpr(flat.jaxpr.replace(eqns=self.inserted(flat.jaxpr, returned, [])), flat.consts)

        return closed.memo(("with_checks", self.kinds, returned), make)

    def inserted(self, jaxpr: Jaxpr, returned: bool, iteration: list[Atom]) -> list[JaxprEqn]:
        """The equations of a jaxpr and their checks; `iteration` is the counter of the loop it is the body of."""
        needed = live(jaxpr.eqns, jaxpr.outvars)
        seen = seen_of(needed, jaxpr.outvars)
        results = set(jaxpr.outvars) if returned else set()
        later: dict[int, list[JaxprEqn]] = defaultdict(list)
        eqns: list[JaxprEqn] = []
        for position, eqn in enumerate(needed):
            eqns.append(self.inside(eqn))
            kept = [v for v in eqn.outvars if v in seen and dtypes.is_inexact(v.aval.dtype)]
            given = any(v in results for v in kept)
            if kept and (given or not (eqn.primitive.higher_order or eqn.primitive.moves_only)):
                chosen = seen[kept[0]] if len(eqn.outvars) == 1 else None
                check = self.check(eqn, kept, given, iteration, chosen)
                later[position if chosen is None else max(position, chosen.last)].append(check)
            eqns += later[position]
        return eqns

    def check(
        self, eqn: JaxprEqn, results: list[Var], given: bool, iteration: list[Atom], chosen: Chosen | None
    ) -> JaxprEqn:
        """The equation that checks these results of another one."""
        values = [results, [] if eqn.primitive.higher_order else eqn.invars, iteration]
        parts = tuple(np.cumsum([len(v) for v in values]).tolist())
        selectors = chosen.selectors() if chosen is not None else []
        params = {
            "primitive": eqn.primitive,
            "parts": parts,
            "kinds": self.kinds,
            "given": given,
            "chosen": chosen,
            "source": eqn.source,
        }
        return JaxprEqn([*(v for part in values for v in part), *selectors], [], check_finite_p, params, eqn.source)

    def inside(self, eqn: JaxprEqn) -> JaxprEqn:
        """The equation with checks in the jaxprs of its params."""
        p, lowering = eqn.params, eqn.primitive.lowering
        if not eqn.primitive.higher_order:
            return eqn
        if isinstance(lowering, Scan):
            operands = ScanLayout.of(p).split(eqn.invars)
            start, step = (p["length"] - 1, -1) if p["reverse"] else (0, 1)
            jaxprs = {"jaxpr": self.counting(p["jaxpr"], len(operands.consts), step)}
            return _with_counter(eqn, operands, start, jaxprs)
        if isinstance(lowering, WhileLoop):
            operands = WhileLayout.of(p).split(eqn.invars)
            jaxprs = {
                "cond_jaxpr": _with_input(self.of(p["cond_jaxpr"]), len(operands.cond_consts)),
                "body_jaxpr": self.counting(p["body_jaxpr"], len(operands.body_consts), 1),
            }
            return _with_counter(eqn, operands, 0, jaxprs)
        if not isinstance(lowering, (Cond, Rewrite)):
            raise missing_rule(eqn.primitive.name, "debug_nans", eqn.primitive.origin, "a lowering for control flow")

        def inner(value: Any) -> Any:
            if isinstance(value, ClosedJaxpr):
                return self.of(value)
            return tuple(map(inner, value)) if isinstance(value, tuple) else value

        return eqn.replace(params={k: inner(v) for k, v in p.items()})

    def counting(self, body: ClosedJaxpr, n_consts: int, step: int) -> ClosedJaxpr:
        """A loop's body with checks, which carries along the number of its iteration in front of the other values."""
        flat, now, then = inlined(body), Var(_COUNTER), Var(_COUNTER)
        eqns = self.inserted(flat.jaxpr, False, [now])
        eqns.append(JaxprEqn([now, _literal(step)], [then], add_p, {}))
        invars = [*flat.jaxpr.invars[:n_consts], now, *flat.jaxpr.invars[n_consts:]]
        jaxpr = flat.jaxpr.replace(invars=invars, eqns=eqns, outvars=[then, *flat.jaxpr.outvars])
        return ClosedJaxpr(jaxpr, flat.consts)


def _with_counter(
    eqn: JaxprEqn, operands: ScanParts[Atom] | WhileParts[Atom], start: int, jaxprs: dict[str, ClosedJaxpr]
) -> JaxprEqn:
    """A loop that carries along one more value, in front of the others."""
    counting = operands.replace(carry=[_literal(start), *operands.carry])
    params = eqn.params | counting.params | jaxprs
    return eqn.replace(invars=counting.join(), outvars=[Var(_COUNTER), *eqn.outvars], params=params)


def _with_input(closed: ClosedJaxpr, at: int) -> ClosedJaxpr:
    invars = closed.jaxpr.invars
    return ClosedJaxpr(closed.jaxpr.replace(invars=[*invars[:at], Var(_COUNTER), *invars[at:]]), closed.consts)


def _literal(value: int) -> Atom:
    literal = literal_of(np.int32(value))
    assert literal is not None
    return literal
