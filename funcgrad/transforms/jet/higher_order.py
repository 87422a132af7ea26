"""Series through primitives that carry jaxprs: calls, branches and loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout, WhileParts
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.ops.shapes import instantiate
from funcgrad.transforms.control_flow.common import fixpoint
from funcgrad.transforms.jet.rules import Coefficients
from funcgrad.transforms.jet.trace import jet_flat, varies


def jet_jaxpr(
    closed: ClosedJaxpr, order: int, varying: Sequence[bool], force: Sequence[bool] | None = None
) -> tuple[ClosedJaxpr, list[bool]]:
    """Return the jaxpr with each varying input and result followed by its coefficients, and which results vary.

    Results in the mask `force` vary even where they need not. The jaxpr is memoized on `closed`.
    """
    force = tuple(force) if force is not None else (False,) * len(closed.jaxpr.outvars)
    key = ("jet", order, tuple(varying), force)
    return closed.memo(key, lambda: _jet_jaxpr(closed, order, varying, force))


def _jet_jaxpr(
    closed: ClosedJaxpr, order: int, varying: Sequence[bool], force: Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    varying_out: list[bool] = []

    def fun(*flat: Any) -> list[Any]:
        series = _unflatten(flat, varying, order)
        outs = (
            jet_flat(lambda *xs: eval_jaxpr(closed.jaxpr, closed.consts, *xs), series)
            if series
            else [[x, *[Zero(aval_of(x).tangent())] * order] for x in eval_jaxpr(closed.jaxpr, closed.consts)]
        )
        varying_out[:] = [f or varies(s) for s, f in zip(outs, force, strict=True)]
        return _flatten(outs, varying_out)

    avals = []
    for a, v in zip(closed.in_avals, varying, strict=True):
        avals += [a, *[a.tangent()] * order] if v else [a]
    return trace_to_jaxpr(fun, avals, name=f"jet_{closed.jaxpr.name}"), varying_out


def _flatten(series: Sequence[Coefficients], varying: Sequence[bool]) -> list[Any]:
    """Return each value, followed by its coefficients where it varies."""
    return [x for s, v in zip(series, varying, strict=True) for x in (map(instantiate, s) if v else s[:1])]


def _unflatten(flat: Sequence[Any], varying: Sequence[bool], order: int) -> list[Coefficients]:
    rest, out = iter(flat), []
    for v in varying:
        x = next(rest)
        out.append([x, *((next(rest) if v else Zero(aval_of(x).tangent())) for _ in range(order))])
    return out


def call_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    order, varying = len(series[0]) - 1, list(map(varies, series))
    jet_of, varying_out = jet_jaxpr(params["jaxpr"], order, varying)
    out = primitive.bind(*_flatten(series, varying), **params | {"jaxpr": jet_of})
    return _unflatten(out, varying_out, order)


def cond_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    index, *operands = series
    order, varying, branches = len(index) - 1, list(map(varies, operands)), params["branches"]
    force = [any(flags) for flags in zip(*(jet_jaxpr(b, order, varying)[1] for b in branches), strict=True)]
    jets = tuple(jet_jaxpr(b, order, varying, force)[0] for b in branches)
    out = primitive.bind(index[0], *_flatten(operands, varying), **params | {"branches": jets})
    return _unflatten(out, force, order)


def scan_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    order, body, layout = len(series[0]) - 1, params["jaxpr"], ScanLayout.of(params)
    varying = layout.split(list(map(varies, series)))
    num_ys = len(body.jaxpr.outvars) - layout.num_carry

    def step(carry: list[bool]) -> tuple[Sequence[bool], Any]:
        found, varying_out = jet_jaxpr(body, order, varying.replace(carry=carry).join(), [*carry, *[False] * num_ys])
        return varying_out[: len(carry)], (found, varying_out)

    carry, (jet_of, varying_out) = fixpoint(step, varying.carry)
    operands = ScanParts(*map(_flatten, layout.split(series), varying.replace(carry=carry)))
    out = primitive.bind(*operands.join(), **params | operands.params | {"jaxpr": jet_of})
    return _unflatten(out, varying_out, order)


def while_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """The predicate sees the values only; the number of steps does not vary along the path."""
    order, cond, body, layout = len(series[0]) - 1, params["cond_jaxpr"], params["body_jaxpr"], WhileLayout.of(params)
    varying = layout.split(list(map(varies, series)))

    def step(carry: list[bool]) -> tuple[Sequence[bool], ClosedJaxpr]:
        found, varying_out = jet_jaxpr(body, order, [*varying.body_consts, *carry], carry)
        return varying_out, found

    carry, jet_of = fixpoint(step, varying.carry)
    varying = varying.replace(cond_consts=[False] * layout.cond_nconsts, carry=carry)
    operands = WhileParts(*map(_flatten, layout.split(series), varying))

    def predicate(*flat: Any) -> list[Any]:
        return eval_jaxpr(cond.jaxpr, cond.consts, *(s[0] for s in _unflatten(flat, varying.of_cond, order)))

    avals = operands.map(aval_of).of_cond
    jets = {
        "cond_jaxpr": cond.memo(("jet", order, tuple(carry)), lambda: trace_to_jaxpr(predicate, avals)),
        "body_jaxpr": jet_of,
    }
    return _unflatten(primitive.bind(*operands.join(), **params | operands.params | jets), carry, order)
