"""The primitive `while` with its rules.

Operands are consts of the predicate, consts of the body, and the carry; results are the carry when the predicate
is false for the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Var, eval_jaxpr
from funcgrad.core.lowering import WhileLoop
from funcgrad.core.masks import nonzero, select, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.errors import JaxprError, NotDifferentiableError
from funcgrad.ops.reductions import reduce_or
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, instantiate, to_dim
from funcgrad.transforms.control_flow.common import check_operands, fixpoint, needs_lockstep, run_compiled, same_type
from funcgrad.transforms.control_flow.refs import discharge_while
from funcgrad.transforms.control_flow.scan_rules import scan_p
from funcgrad.transforms.jit import jit_p
from funcgrad.transforms.jvp import jvp_jaxpr
from funcgrad.transforms.partial_eval import Split, partial_eval_jaxpr, pruned
from funcgrad.transforms.vmap import batch_jaxpr


class Parts(NamedTuple):
    """What belongs to the consts of the predicate, to those of the body, and to the carry of a while."""

    cond: list[Any]
    body: list[Any]
    carry: list[Any]

    def all(self) -> list[Any]:
        """Return them one after another, as operands are."""
        return [*self.cond, *self.body, *self.carry]


def divide(values: Sequence[Any], cond_nconsts: int, body_nconsts: int) -> Parts:
    """Divide one value for each operand."""
    start = cond_nconsts + body_nconsts
    return Parts(list(values[:cond_nconsts]), list(values[cond_nconsts:start]), list(values[start:]))


# ---------------------------------------------------------------- type and value


def _infer(
    *avals: ShapedArray, cond_jaxpr: ClosedJaxpr, body_jaxpr: ClosedJaxpr, cond_nconsts: int, body_nconsts: int
) -> list[ShapedArray]:
    given = divide(avals, cond_nconsts, body_nconsts)
    check_operands("while", [*given.cond, *given.carry], cond_jaxpr.in_avals)
    check_operands("while", [*given.body, *given.carry], body_jaxpr.in_avals)
    check_operands("while", body_jaxpr.out_avals, given.carry)
    if not [same_type(a, ShapedArray((), dtypes.bool_)) for a in cond_jaxpr.out_avals] == [True]:
        raise JaxprError(f"while: the predicate gives {cond_jaxpr.out_avals}, not one bool[]")
    return body_jaxpr.out_avals


def _evaluate(*arrays: Array, **params: Any) -> list[Array]:
    if config.disable_jit:
        return _interpret(*arrays, **params)
    return run_compiled(while_p, params["body_jaxpr"], arrays, params)


def _interpret(
    *arrays: Array, cond_jaxpr: ClosedJaxpr, body_jaxpr: ClosedJaxpr, cond_nconsts: int, body_nconsts: int
) -> list[Any]:
    of_cond, of_body, carry = divide(arrays, cond_nconsts, body_nconsts)
    while eval_jaxpr(cond_jaxpr.jaxpr, cond_jaxpr.consts, *of_cond, *carry)[0]:
        carry = eval_jaxpr(body_jaxpr.jaxpr, body_jaxpr.consts, *of_body, *carry)
    return carry


# ---------------------------------------------------------------- differentiation


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    cond_jaxpr: ClosedJaxpr,
    body_jaxpr: ClosedJaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> tuple[list[Any], list[Any]]:
    """Carry tangents along; the predicate sees primals only."""
    given = divide(primals, cond_nconsts, body_nconsts)
    marks = divide(nonzero(tangents), cond_nconsts, body_nconsts)

    def step(carry: list[bool]) -> tuple[list[bool], ClosedJaxpr]:
        found, nonzero_out = jvp_jaxpr(body_jaxpr, [*marks.body, *carry], carry)
        return nonzero_out, found

    carry_nonzero, found = fixpoint(step, marks.carry)
    counts = sum(marks.body), sum(carry_nonzero)
    body = found.memo(("while", body_nconsts), lambda: _regrouped(found, body_nconsts, counts))
    dots = divide(tangents, cond_nconsts, body_nconsts)
    carry_dot = [instantiate(t) for t in select(dots.carry, carry_nonzero)]
    body, closed_over = hoist_tracers(body)  # traced values that custom rules close over
    out = while_p.bind(
        *given.cond,
        *closed_over,
        *given.body,
        *select(dots.body, marks.body),
        *given.carry,
        *carry_dot,
        cond_jaxpr=_with_unused(cond_jaxpr, [aval_of(t) for t in carry_dot]),
        body_jaxpr=body,
        cond_nconsts=cond_nconsts,
        body_nconsts=len(closed_over) + body_nconsts + counts[0],
    )
    n = len(given.carry)
    return out[:n], with_zeros(out[n:], carry_nonzero, [aval_of(c) for c in out[:n]])


def _regrouped(found: ClosedJaxpr, body_nconsts: int, tangents: tuple[int, int]) -> ClosedJaxpr:
    """The jvp of a body, (consts, carry, tangents of both) → (carry, tangents), with the consts first."""
    invars = found.jaxpr.invars
    primals, dots = invars[: len(invars) - sum(tangents)], invars[len(invars) - sum(tangents) :]
    consts, carry = primals[:body_nconsts], primals[body_nconsts:]
    grouped = [*consts, *dots[: tangents[0]], *carry, *dots[tangents[0] :]]
    return ClosedJaxpr(found.jaxpr.replace(invars=grouped), found.consts)


def _with_unused(cond_jaxpr: ClosedJaxpr, avals: Sequence[ShapedArray]) -> ClosedJaxpr:
    """The predicate of a longer carry, of which it does not read the rest."""
    key = ("while unused", tuple(avals))
    jaxpr = cond_jaxpr.jaxpr
    return cond_jaxpr.memo(
        key, lambda: ClosedJaxpr(jaxpr.replace(invars=jaxpr.invars + [Var(a) for a in avals]), cond_jaxpr.consts)
    )


def _partial_eval(
    unknown: list[bool],
    avals: Sequence[ShapedArray],
    *,
    cond_jaxpr: ClosedJaxpr,
    body_jaxpr: ClosedJaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> Split | None:
    """Where the predicate is known, the known carries are computed alone; the unknown part is the whole loop.

    Residuals of its steps cannot be kept, as their number is not known; the steps are taken again.
    """
    key = ("while partial_eval", tuple(unknown), cond_nconsts, body_nconsts, cond_jaxpr)
    params = {
        "cond_jaxpr": cond_jaxpr,
        "body_jaxpr": body_jaxpr,
        "cond_nconsts": cond_nconsts,
        "body_nconsts": body_nconsts,
    }
    return body_jaxpr.memo(key, lambda: _split(divide(unknown, cond_nconsts, body_nconsts), avals, params))


def _split(unknown: Parts, avals: Sequence[ShapedArray], params: dict[str, Any]) -> Split | None:
    def step(carry: list[bool]) -> tuple[list[bool], ClosedJaxpr]:
        found = partial_eval_jaxpr(params["body_jaxpr"], [*unknown.body, *carry], carry)
        return found.unknown_out, found.known

    carry_unknown, known_body = fixpoint(step, unknown.carry)
    cond = partial_eval_jaxpr(params["cond_jaxpr"], [*unknown.cond, *carry_unknown])
    if all(carry_unknown) or cond.unknown_out[0]:
        return None
    # Without the residuals: no other loop could read them.
    outvars = known_body.jaxpr.outvars[: carry_unknown.count(False)]
    known_body = pruned(ClosedJaxpr(known_body.jaxpr.replace(outvars=outvars), known_body.consts))

    def known(*operands: Any) -> list[Any]:
        of_cond, of_body, init = divide(operands, unknown.cond.count(False), unknown.body.count(False))
        carry = select(init, select(carry_unknown, unknown.carry, False), False)
        return while_p.bind(
            *of_cond,
            *of_body,
            *carry,
            cond_jaxpr=cond.known,
            body_jaxpr=known_body,
            cond_nconsts=len(of_cond),
            body_nconsts=len(of_body),
        )

    def rest(*flat: Any) -> list[Any]:
        flags = unknown.all()
        values, others = iter(flat[: flags.count(False)]), iter(flat[flags.count(False) :])
        return select(while_p.bind(*(next(others if u else values) for u in flags), **params), carry_unknown)

    known_avals, rest_avals = select(avals, unknown.all(), False), select(avals, unknown.all())
    programs = (
        trace_to_jaxpr(known, known_avals, name="while"),
        trace_to_jaxpr(rest, [*known_avals, *rest_avals], name="while"),
    )
    first, second = ((jit_p, {"jaxpr": p, "name": "while", "inline": False}) for p in programs)
    return Split(first, second, carry_unknown, known_avals, range(len(known_avals)))


def _transpose(*_: Any, **params: Any) -> list[Any]:
    raise NotDifferentiableError(
        "while: reverse-mode differentiation needs the number of steps of a loop before it runs, to keep what every "
        "step computes; that of while_loop, or of fori_loop with traced bounds, is known afterwards",
        fix="use fori_loop with Python ints as bounds, or scan with a largest number of steps; forward mode "
        "(jvp, jacfwd) works",
        location=traces.state.source,
    )


# ---------------------------------------------------------------- vectorisation


def _batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    """One loop where all lanes take as many steps; else each its own, or in lockstep where effects have an order."""
    cond_jaxpr, body_jaxpr = params["cond_jaxpr"], params["body_jaxpr"]
    batched = divide([d is not None for d in dims], params["cond_nconsts"], params["body_nconsts"])

    def step(carry: list[bool]) -> tuple[list[bool], ClosedJaxpr]:
        found, batched_out = batch_jaxpr(body_jaxpr, axis, [*batched.body, *carry], carry)
        return batched_out, found

    carry, body = fixpoint(step, batched.carry)
    cond, (of_lanes,) = batch_jaxpr(cond_jaxpr, axis, [*batched.cond, *carry])
    if of_lanes:
        carry = [True] * len(carry) if needs_lockstep(axis, (cond_jaxpr, body_jaxpr)) else batched.carry
    now = batched._replace(carry=carry).all()
    operands = [to_dim(a, d, 0 if b else None, axis.size) for a, d, b in zip(args, dims, now, strict=True)]
    if not of_lanes:
        out = while_p.bind(*operands, **{**params, "cond_jaxpr": cond, "body_jaxpr": body})
        return out, [0 if b else None for b in carry]
    if needs_lockstep(axis, (cond_jaxpr, body_jaxpr)):
        out = _in_lockstep(operands, now, axis, **params)
    else:
        out = _lane_by_lane(operands, now, axis.size, params)
    return out, [0] * len(out)


def _lane_by_lane(operands: Sequence[Any], batched: Sequence[bool], size: int, params: dict[str, Any]) -> list[Any]:
    """A scan over the lanes that carries nothing, so that they may run in parallel, each as long as it must."""

    def make() -> ClosedJaxpr:
        avals = [aval_of(x) for x in operands]
        invars = [Var(a.update(shape=a.shape[1:]) if b else a) for a, b in zip(avals, batched, strict=True)]
        outvars = [Var(a) for a in params["body_jaxpr"].out_avals]
        eqn = JaxprEqn(invars, outvars, while_p, params, traces.state.source)
        return ClosedJaxpr(Jaxpr([], [*select(invars, batched, False), *select(invars, batched)], [eqn], outvars))

    key = ("while lanes", tuple(batched), *map(aval_of, operands), *params.values())
    return scan_p.bind(
        *select(operands, batched, False),
        *select(operands, batched),
        jaxpr=params["body_jaxpr"].memo(key, make),
        length=size,
        reverse=False,
        num_consts=batched.count(False),
        num_carry=0,
        unroll=1,
    )


def _in_lockstep(
    operands: Sequence[Any],
    batched: Sequence[bool],
    axis: AxisData,
    *,
    cond_jaxpr: ClosedJaxpr,
    body_jaxpr: ClosedJaxpr,
    cond_nconsts: int,
    body_nconsts: int,
) -> list[Any]:
    """One loop that runs while any lane does; lanes that are done keep their carry."""
    flags = divide(batched, cond_nconsts, body_nconsts)
    cond, _ = batch_jaxpr(cond_jaxpr, axis, [*flags.cond, *flags.carry], True)
    body, _ = batch_jaxpr(body_jaxpr, axis, [*flags.body, *flags.carry], True)
    given = divide(operands, cond_nconsts, body_nconsts)

    def running(*flat: Any) -> Any:
        return eval_jaxpr(cond.jaxpr, cond.consts, *flat)[0]

    def step(*flat: Any) -> list[Any]:
        of_cond, of_body, old = divide(flat, cond_nconsts, body_nconsts)
        lanes = running(*of_cond, *old)
        new = eval_jaxpr(body.jaxpr, body.consts, *of_body, *old)
        chosen = [broadcast_in_dim(lanes, aval_of(o).shape, (0,)) for o in old]
        return [select_n_p.bind(*three) for three in zip(chosen, old, new, strict=True)]

    return while_p.bind(
        *given.cond,
        *operands,
        cond_jaxpr=trace_to_jaxpr(lambda *flat: [reduce_or(running(*flat), (0,))], cond.in_avals),
        body_jaxpr=trace_to_jaxpr(step, [aval_of(x) for x in operands]),
        cond_nconsts=cond_nconsts,
        body_nconsts=cond_nconsts + body_nconsts,
    )


while_p = Primitive(
    "while",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial_eval=_partial_eval,
    lowering=WhileLoop(),
    discharge=lambda args, params: discharge_while(while_p, args, params),
    multiple_results=True,
    higher_order=True,
    modes=("fwd",),
)
