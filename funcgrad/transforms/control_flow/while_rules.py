"""The primitive `while` with its rules.

The operands are consts of the predicate, consts of the body, and the carry; the results are the carry when the
predicate is false for the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import dtypes
from funcgrad.config import config
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Var, dce_jaxpr, eval_jaxpr, pruned
from funcgrad.core.layouts import ScanParts, WhileLayout, WhileParts
from funcgrad.core.lowering import WhileLoop
from funcgrad.core.masks import merge_lists, nonzero, partition_list, select, split_list, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.errors import JaxprError, NotDifferentiableError
from funcgrad.ops.reductions import reduce_or
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim, instantiate, to_dim
from funcgrad.transforms.control_flow.common import check_operands, fixpoint, needs_lockstep, run_compiled, same_type
from funcgrad.transforms.control_flow.refs import discharge_while
from funcgrad.transforms.control_flow.scan_rules import scan_p
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.jvp import jvp_jaxpr
from funcgrad.transforms.interpreters.partial_eval import Split, partial_eval_jaxpr
from funcgrad.transforms.jit import jit_p

# ---------------------------------------------------------------- type and value


def _infer(*avals: ShapedArray, cond_jaxpr: ClosedJaxpr, body_jaxpr: ClosedJaxpr, **params: Any) -> list[ShapedArray]:
    operands = WhileLayout.of(params).split(avals)
    check_operands("while", operands.of_cond, cond_jaxpr.in_avals)
    check_operands("while", operands.of_body, body_jaxpr.in_avals)
    check_operands("while", body_jaxpr.out_avals, operands.carry)
    if not [same_type(a, ShapedArray((), dtypes.bool_)) for a in cond_jaxpr.out_avals] == [True]:
        raise JaxprError(f"while: the predicate gives {cond_jaxpr.out_avals}, not one bool[]")
    return body_jaxpr.out_avals


def _evaluate(*arrays: Array, **params: Any) -> list[Array]:
    if config.disable_jit:
        return _interpret(*arrays, **params)
    return run_compiled(while_p, params["body_jaxpr"], arrays, params)


def _interpret(*arrays: Array, cond_jaxpr: ClosedJaxpr, body_jaxpr: ClosedJaxpr, **params: Any) -> list[Any]:
    cond_consts, body_consts, carry = WhileLayout.of(params).split(arrays)
    while eval_jaxpr(cond_jaxpr.jaxpr, cond_jaxpr.consts, *cond_consts, *carry)[0]:
        carry = eval_jaxpr(body_jaxpr.jaxpr, body_jaxpr.consts, *body_consts, *carry)
    return carry


# ---------------------------------------------------------------- differentiation


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[list[Any], list[Any]]:
    """Carry tangents along; the predicate sees primals only."""
    layout, body_jaxpr = WhileLayout.of(params), params["body_jaxpr"]
    mask = layout.split(nonzero(tangents))

    def step(carry: list[bool]) -> tuple[list[bool], ClosedJaxpr]:
        found, nonzero_out = jvp_jaxpr(body_jaxpr, [*mask.body_consts, *carry], carry)
        return nonzero_out, found

    carry_nonzero, jvp = fixpoint(step, mask.carry)
    mask = mask.replace(cond_consts=[False] * layout.cond_nconsts, carry=carry_nonzero)
    dots = layout.split(tangents).select(mask).map(instantiate)
    num_in = len(body_jaxpr.in_avals)
    body = jvp.memo(("while", *layout, *dots.layout), lambda: _regrouped(jvp, layout, dots.layout, num_in))
    body, closed_over = hoist_tracers(body)  # traced values that custom rules close over
    operands = layout.split(primals).extend(dots)
    operands = operands.replace(body_consts=[*closed_over, *operands.body_consts])
    cond = _with_unused(params["cond_jaxpr"], [aval_of(t) for t in dots.carry])
    out = while_p.bind(*operands.join(), **operands.params, cond_jaxpr=cond, body_jaxpr=body)
    carry, carry_dot = split_list(out, [len(mask.carry)])
    return carry, with_zeros(carry_dot, carry_nonzero, [aval_of(c) for c in carry])


def _regrouped(jvp: ClosedJaxpr, layout: WhileLayout, dots: WhileLayout, num_in: int) -> ClosedJaxpr:
    """Reorder the inputs of a body's jvp, (consts, carry, tangents of both), so that all consts come first."""
    sizes = [layout.body_nconsts, num_in - layout.body_nconsts, dots.body_nconsts]
    consts, carry, consts_dot, carry_dot = split_list(jvp.jaxpr.invars, sizes)
    invars = [*consts, *consts_dot, *carry, *carry_dot]
    return ClosedJaxpr(jvp.jaxpr.replace(invars=invars), jvp.consts)


def _with_unused(cond_jaxpr: ClosedJaxpr, avals: Sequence[ShapedArray]) -> ClosedJaxpr:
    """The predicate of a longer carry, of which it does not read the rest."""
    key = ("while unused", tuple(avals))
    jaxpr = cond_jaxpr.jaxpr
    return cond_jaxpr.memo(
        key, lambda: ClosedJaxpr(jaxpr.replace(invars=jaxpr.invars + [Var(a) for a in avals]), cond_jaxpr.consts)
    )


def _partial_eval(unknown: list[bool], avals: Sequence[ShapedArray], **params: Any) -> Split | None:
    """Where the predicate is known, the known carries are computed alone; the unknown part is the whole loop.

    The number of steps is unknown, so residuals cannot be stacked; the steps are recomputed.
    """
    key = ("while partial_eval", tuple(unknown), *params.values())
    return params["body_jaxpr"].memo(key, lambda: _split(WhileLayout.of(params).split(unknown), avals, params))


def _split(unknown: WhileParts[bool], avals: Sequence[ShapedArray], params: dict[str, Any]) -> Split | None:
    def step(carry: list[bool]) -> tuple[list[bool], ClosedJaxpr]:
        found = partial_eval_jaxpr(params["body_jaxpr"], [*unknown.body_consts, *carry], carry)
        return found.unknown_out, found.known

    carry_unknown, known_body = fixpoint(step, unknown.carry)
    cond = partial_eval_jaxpr(params["cond_jaxpr"], [*unknown.cond_consts, *carry_unknown])
    if all(carry_unknown) or cond.unknown_out[0]:
        return None
    # Without the residuals: no other loop could read them.
    outvars = known_body.jaxpr.outvars[: carry_unknown.count(False)]
    known_body = pruned(ClosedJaxpr(known_body.jaxpr.replace(outvars=outvars), known_body.consts))
    known_layout, mask = unknown.select(unknown, False).layout, unknown.join()

    def known(*operands: Any) -> list[Any]:
        known = known_layout.split(operands)
        known = known.replace(carry=select(known.carry, select(carry_unknown, unknown.carry, False), False))
        return while_p.bind(*known.join(), **known.params, cond_jaxpr=cond.known, body_jaxpr=known_body)

    def rest(*flat: Any) -> list[Any]:
        operands = merge_lists(mask, *split_list(flat, [mask.count(False)]))
        return select(while_p.bind(*operands, **params), carry_unknown)

    known_avals, rest_avals = partition_list(mask, avals)
    programs = (
        trace_to_jaxpr(known, known_avals, name="while"),
        trace_to_jaxpr(rest, [*known_avals, *rest_avals], name="while"),
    )
    first, second = ((jit_p, {"jaxpr": p, "name": "while", "inline": False}) for p in programs)
    return Split(first, second, carry_unknown, known_avals, range(len(known_avals)))


def _transpose(*_: Any, **params: Any) -> list[Any]:
    raise NotDifferentiableError(
        "while: reverse-mode differentiation needs the number of steps of a loop before it runs, to keep what every "
        "step computes; the length of while_loop, or of fori_loop with traced bounds, is known only afterwards",
        fix="use fori_loop with Python ints as bounds, or scan with a largest number of steps; forward mode "
        "(jvp, jacfwd) works",
        location=traces.state.source,
    )


# ---------------------------------------------------------------- vectorization


def _batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    """One loop where all lanes take as many steps; else each its own, or in lockstep where effects have an order."""
    cond_jaxpr, body_jaxpr = params["cond_jaxpr"], params["body_jaxpr"]
    batched = WhileLayout.of(params).split([d is not None for d in dims])

    def step(carry: list[bool]) -> tuple[list[bool], ClosedJaxpr]:
        found, batched_out = batch_jaxpr(body_jaxpr, axis, [*batched.body_consts, *carry], carry)
        return batched_out, found

    carry, body = fixpoint(step, batched.carry)
    cond, (of_lanes,) = batch_jaxpr(cond_jaxpr, axis, [*batched.cond_consts, *carry])
    if of_lanes:
        carry = [True] * len(carry) if needs_lockstep(axis, (cond_jaxpr, body_jaxpr)) else batched.carry
    now = batched.replace(carry=carry).join()
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
    shared, varying = partition_list(batched, operands)
    scanned = ScanParts(shared, [], varying)
    body = params["body_jaxpr"].memo(key, make)
    return scan_p.bind(*scanned.join(), **scanned.params, jaxpr=body, length=size, reverse=False, unroll=1)


def _in_lockstep(operands: Sequence[Any], batched: Sequence[bool], axis: AxisData, **params: Any) -> list[Any]:
    """One loop that runs while any lane does; lanes that are done keep their carry."""
    layout = WhileLayout.of(params)
    mask, given = layout.split(batched), layout.split(operands)
    cond, _ = batch_jaxpr(params["cond_jaxpr"], axis, mask.of_cond, True)
    body, _ = batch_jaxpr(params["body_jaxpr"], axis, mask.of_body, True)

    def running(*flat: Any) -> Any:
        return eval_jaxpr(cond.jaxpr, cond.consts, *flat)[0]

    def step(*flat: Any) -> list[Any]:
        old = layout.split(flat)
        lanes = running(*old.of_cond)
        new = eval_jaxpr(body.jaxpr, body.consts, *old.of_body)
        chosen = [broadcast_in_dim(lanes, aval_of(o).shape, (0,)) for o in old.carry]
        return [select_n_p.bind(*three) for three in zip(chosen, old.carry, new, strict=True)]

    # The body evaluates the predicate too, so it takes the consts of both.
    both = given.replace(body_consts=[*given.cond_consts, *given.body_consts])
    return while_p.bind(
        *both.join(),
        **both.params,
        cond_jaxpr=trace_to_jaxpr(lambda *flat: [reduce_or(running(*flat), (0,))], cond.in_avals),
        body_jaxpr=trace_to_jaxpr(step, [aval_of(x) for x in operands]),
    )


# ---------------------------------------------------------------- unused results


def _prune(used: Sequence[bool], eqn: JaxprEqn) -> JaxprEqn:
    """Keep the carries whose results are used, and the carries that the predicate or kept equations read."""
    cond, body, layout = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"], WhileLayout.of(eqn.params)
    cond_consts, cond_carry = split_list(dce_jaxpr(cond, [True])[1], [layout.cond_nconsts])

    def step(carry: list[bool]) -> tuple[list[bool], list[bool]]:
        body_consts, carry = split_list(dce_jaxpr(body, carry)[1], [layout.body_nconsts])
        return carry, body_consts

    carry, body_consts = fixpoint(step, [u or c for u, c in zip(used, cond_carry, strict=True)])
    kept = WhileParts(cond_consts, body_consts, carry)
    smaller = {
        "cond_jaxpr": dce_jaxpr(cond, [True], kept.of_cond)[0],
        "body_jaxpr": dce_jaxpr(body, carry, kept.of_body)[0],
    }
    if smaller["cond_jaxpr"] is cond and smaller["body_jaxpr"] is body:
        return eqn
    params = eqn.params | kept.select(kept).params | smaller
    return eqn.replace(invars=select(eqn.invars, kept.join()), outvars=select(eqn.outvars, carry), params=params)


while_p = Primitive(
    "while",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial_eval=_partial_eval,
    prune=_prune,
    lowering=WhileLoop(),
    discharge=lambda args, params: discharge_while(while_p, args, params),
    multiple_results=True,
    higher_order=True,
    modes=("fwd",),
)
