"""The primitive `scan` with its rules.

The operands are consts, the carry, and the scanned arrays xs; the body's jaxpr maps (consts, carry, slices of xs) to
(carry, slices of ys); the results are the last carry and the stacked ys. Each rule derives another body and scans it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, JaxprEqn, dce_jaxpr, eval_jaxpr, pruned
from funcgrad.core.layouts import ScanLayout, ScanParts
from funcgrad.core.lowering import Scan, WhileLoop
from funcgrad.core.masks import merge_lists, nonzero, partition_list, select, split_list, spread, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import JaxprError
from funcgrad.ops.elementwise import add_any
from funcgrad.ops.shapes import broadcast_in_batch, instantiate, reshape, to_dim, zeros_of
from funcgrad.transforms.control_flow.common import check_operands, fixpoint, run_compiled
from funcgrad.transforms.control_flow.refs import discharge_scan
from funcgrad.transforms.control_flow.scan_split import BodySplit, split_body
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.jvp import jvp_jaxpr
from funcgrad.transforms.interpreters.partial_eval import JaxprSplit, Split, partial_eval_jaxpr
from funcgrad.transforms.interpreters.transpose import transpose_jaxpr
from funcgrad.transforms.jit import jit_p


def stacked(aval: ShapedArray, length: int) -> ShapedArray:
    """Return the type of `length` values of a type, stacked."""
    return aval.update(shape=(length, *aval.shape))


# ---------------------------------------------------------------- type and value


def _infer(*avals: ShapedArray, jaxpr: ClosedJaxpr, length: int, **params: Any) -> list[ShapedArray]:
    layout = ScanLayout.of(params)
    operands = layout.split(avals)
    for x in operands.xs:
        if x.shape[:1] != (length,):
            raise JaxprError(f"scan: a scanned operand of type {x} has no leading axis of length {length}")
    slices = [x.update(shape=x.shape[1:]) for x in operands.xs]
    check_operands("scan", operands.replace(xs=slices).join(), jaxpr.in_avals)
    carry, ys = layout.split_results(jaxpr.out_avals)
    check_operands("scan", carry, operands.carry)
    return [*carry, *(stacked(y, length) for y in ys)]


def _evaluate(*arrays: Array, **params: Any) -> list[Array]:
    if config.disable_jit:
        return _interpret(*arrays, **params)
    return run_compiled(scan_p, params["jaxpr"], arrays, params)


def _interpret(*arrays: Any, jaxpr: ClosedJaxpr, length: int, reverse: bool, **params: Any) -> list[Any]:
    layout = ScanLayout.of(params)
    consts, carry, xs = layout.split(arrays)
    rows: list[Any] = [None] * length
    for i in reversed(range(length)) if reverse else range(length):
        out = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *(x[i] for x in xs))
        carry, rows[i] = layout.split_results(out)
    ys = []
    for k, aval in enumerate(layout.split_results(jaxpr.out_avals)[1]):
        values = np.array([np.asarray(row[k]) for row in rows], aval.dtype)
        ys.append(Array(stacked(aval, length), values.reshape(length, *aval.shape)))
    return [*carry, *ys]


def _bind(operands: ScanParts[Any], jaxpr: ClosedJaxpr, params: dict[str, Any]) -> list[Any]:
    """Scan a derived body; tracers that custom rules in it close over become consts."""
    closed, closed_over = hoist_tracers(jaxpr)
    operands = operands.replace(consts=[*closed_over, *operands.consts])
    return scan_p.bind(*operands.join(), **params | operands.params | {"jaxpr": closed})


# ---------------------------------------------------------------- forward mode and vectorization


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: ClosedJaxpr, **params: Any
) -> tuple[list[Any], list[Any]]:
    """Scan the body's jvp, with tangents for the carries that get one in any step."""
    layout = ScanLayout.of(params)
    mask = layout.split(nonzero(tangents))
    num_ys = len(jaxpr.out_avals) - layout.num_carry

    def step(carry: list[bool]) -> tuple[list[bool], Any]:
        found, nonzero_out = jvp_jaxpr(jaxpr, mask.replace(carry=carry).join(), [*carry, *[False] * num_ys])
        return nonzero_out[: len(carry)], (found, nonzero_out)

    carry_nonzero, (jvp, nonzero_out) = fixpoint(step, mask.carry)
    mask = mask.replace(carry=carry_nonzero)
    dots = layout.split(tangents).select(mask).map(instantiate)
    key = ("scan", layout, dots.layout)
    body = jvp.memo(key, lambda: _regrouped(jvp, layout, dots.layout, len(tangents), len(nonzero_out)))
    out = _bind(layout.split(primals).extend(dots), body, params)
    carry, carry_dot, ys, ys_dot = split_list(out, [layout.num_carry, len(dots.carry), num_ys])
    primals_out = [*carry, *ys]
    return primals_out, with_zeros([*carry_dot, *ys_dot], nonzero_out, [aval_of(o) for o in primals_out])


def _regrouped(jvp: ClosedJaxpr, layout: ScanLayout, dots: ScanLayout, num_in: int, num_out: int) -> ClosedJaxpr:
    """Reorder the jvp of a body, (primals, tangents) → (results, tangents), to (consts, carry, xs) → (carry, ys)."""
    primals, tangents = split_list(jvp.jaxpr.invars, [num_in])
    invars = layout.split(primals).extend(dots.split(tangents)).join()
    carry, ys = layout.split_results(jvp.jaxpr.outvars[:num_out])
    carry_dot, ys_dot = dots.split_results(jvp.jaxpr.outvars[num_out:])
    outvars = [*carry, *carry_dot, *ys, *ys_dot]
    return ClosedJaxpr(jvp.jaxpr.replace(invars=invars, outvars=outvars), jvp.consts)


def _batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], *, jaxpr: ClosedJaxpr, **params: Any
) -> tuple[list[Any], list[int | None]]:
    """Scan the batched body: xs and ys have their batch in axis 1; a carry is batched if it is so after any step."""
    size, layout = axis.size, ScanLayout.of(params)
    batched = layout.split([d is not None for d in dims])
    num_ys = len(jaxpr.out_avals) - layout.num_carry

    def step(carry: list[bool]) -> tuple[list[bool], Any]:
        found, batched_out = batch_jaxpr(jaxpr, axis, batched.replace(carry=carry).join(), [*carry, *[False] * num_ys])
        return batched_out[: len(carry)], (found, batched_out)

    carry_batched, (body, batched_out) = fixpoint(step, batched.carry)
    if not layout.num_carry and _is_while(jaxpr) and not _is_while(body):  # the elements' predicates differ
        return _lanes_of_lanes(args, dims, size, jaxpr, params)
    batched = batched.replace(carry=carry_batched)
    in_dims = [*[0] * sum(layout), *[1] * len(batched.xs)]
    operands = [
        to_dim(a, d, new if b else None, size) for a, d, new, b in zip(args, dims, in_dims, batched.join(), strict=True)
    ]
    out = _bind(layout.split(operands), body, params)
    out_dims = [*[0] * layout.num_carry, *[1] * num_ys]
    return out, [d if b else None for d, b in zip(out_dims, batched_out, strict=True)]


def _is_while(closed: ClosedJaxpr) -> bool:
    return len(closed.jaxpr.eqns) == 1 and isinstance(closed.jaxpr.eqns[0].primitive.lowering, WhileLoop)


def _lanes_of_lanes(
    args: Sequence[Any], dims: Sequence[int | None], size: int, jaxpr: ClosedJaxpr, params: dict[str, Any]
) -> tuple[list[Any], list[int | None]]:
    """Scan the lanes of all elements one after another, where each runs a while loop as long as it must."""
    length, layout = params["length"], ScanLayout.of(params)

    def flat(x: Any) -> Any:
        return reshape(x, (size * length, *aval_of(x).shape[2:]))

    consts, _, scanned = layout.split(list(zip(args, dims, strict=True)))
    batched = [d is not None for _, d in consts]
    shared, varying = partition_list(batched, consts)
    rows = [broadcast_in_batch(to_dim(a, d, 0, size), length, 1) for a, d in varying]
    rows += [to_dim(a, d, 0, size) for a, d in scanned]

    def reordered() -> ClosedJaxpr:
        inner_consts, _, xs = layout.split(jaxpr.jaxpr.invars)
        first, last = partition_list(batched, inner_consts)
        return ClosedJaxpr(jaxpr.jaxpr.replace(invars=[*first, *last, *xs]), jaxpr.consts)

    body = jaxpr.memo(("lanes of lanes", *batched), reordered)
    operands = ScanParts([a for a, _ in shared], [], [flat(r) for r in rows])
    out = _bind(operands, body, params | {"length": size * length})
    return [reshape(y, (size, length, *aval_of(y).shape[1:])) for y in out], [0] * len(out)


# ---------------------------------------------------------------- partial evaluation


def _partial_eval(
    unknown: list[bool], avals: Sequence[ShapedArray], *, jaxpr: ClosedJaxpr, **params: Any
) -> Split | None:
    """Two scans, of the known and of the unknown part of the body; a carry is known if it is so after every step."""
    key = ("scan partial_eval", tuple(unknown), *params.values())
    return jaxpr.memo(key, lambda: _split(ScanLayout.of(params).split(unknown), avals, jaxpr, params))


def _partial_eval_body(jaxpr: ClosedJaxpr, unknown: ScanParts[bool]) -> tuple[ScanParts[bool], JaxprSplit]:
    """Split the body by what depends on the unknown operands after any step; also return which operands then do."""
    num_ys = len(jaxpr.out_avals) - len(unknown.carry)

    def step(carry: list[bool]) -> tuple[list[bool], JaxprSplit]:
        found = partial_eval_jaxpr(jaxpr, unknown.replace(carry=carry).join(), [*carry, *[False] * num_ys])
        return found.unknown_out[: len(carry)], found

    carry, found = fixpoint(step, unknown.carry)
    return unknown.replace(carry=carry), found


def _split(
    unknown: ScanParts[bool], avals: Sequence[ShapedArray], jaxpr: ClosedJaxpr, params: dict[str, Any]
) -> Split | None:
    inner, found = _partial_eval_body(jaxpr, unknown)
    body = split_body(found, unknown.select(inner, False).layout)
    if body.trivial:
        return None
    known_in, unknown_in = partition_list(unknown.join(), avals)
    known = unknown.layout.split(avals).select(unknown, False)
    # A carry may start from a known value and be unknown after a step.
    starts = select(inner.carry, unknown.carry, False)
    known_program = _known_program(body, known, starts, params)
    n_consts, n_carry = known.layout
    forwarded = [
        *body.const_residuals,
        *[None] * body.num_hoisted,
        *(n_consts + i for i, unknown_later in enumerate(starts) if unknown_later),
        *(n_consts + n_carry + i for i in body.xs_residuals),
        *[None] * body.num_stacked,
    ]
    returned = iter(known_program.out_avals[found.unknown_out.count(False) :])
    residual_avals = [next(returned) if i is None else known_in[i] for i in forwarded]
    rest = _unknown_program(body, unknown, inner.carry, residual_avals, unknown_in, params)
    program = {"name": "scan", "inline": False}
    return Split(
        (jit_p, {"jaxpr": known_program, **program}),
        (jit_p, {"jaxpr": rest, **program}),
        found.unknown_out,
        residual_avals,
        forwarded,
    )


def _known_program(
    body: BodySplit, avals: ScanParts[ShapedArray], starts: Sequence[bool], params: dict[str, Any]
) -> ClosedJaxpr:
    """The known operands → (known results, hoisted residuals, stacked residuals)."""

    def fun(*operands: Any) -> list[Any]:
        consts, init, xs = avals.layout.split(operands)
        hoisted = eval_jaxpr(body.hoisted.jaxpr, body.hoisted.consts, *consts)
        known = ScanParts([*hoisted, *consts], select(init, starts, False), xs)
        out = scan_p.bind(*known.join(), **params | known.params | {"jaxpr": body.known})
        n = len(out) - body.num_stacked
        return [*out[:n], *hoisted[: body.num_hoisted], *out[n:]]

    return pruned(trace_to_jaxpr(fun, avals.join(), name="scan"))


def _unknown_program(
    body: BodySplit,
    unknown: ScanParts[bool],
    carry_unknown: Sequence[bool],
    residual_avals: Sequence[ShapedArray],
    avals: Sequence[ShapedArray],
    params: dict[str, Any],
) -> ClosedJaxpr:
    """(Residuals, unknown operands) → unknown results."""
    num_first = len(body.const_residuals) + body.num_hoisted
    num_last = len(body.xs_residuals) + body.num_stacked
    sizes = [num_first, len(residual_avals) - num_first - num_last, num_last, sum(unknown.consts), sum(unknown.carry)]

    def fun(*flat: Any) -> list[Any]:
        first, started, last, consts, init, xs = split_list(flat, sizes)
        carry = merge_lists(select(unknown.carry, carry_unknown), started, init)
        operands = ScanParts([*first, *consts], carry, [*xs, *last])
        return scan_p.bind(*operands.join(), **params | operands.params | {"jaxpr": body.unknown})

    return trace_to_jaxpr(fun, [*residual_avals, *avals], name="scan")


# ---------------------------------------------------------------- transposition


def _transpose(cts: Sequence[Any], *args: Any, jaxpr: ClosedJaxpr, **params: Any) -> list[Any]:
    """Scan the transposed body in the opposite direction; sums of the consts' cotangents are carried too."""
    layout = ScanLayout.of(params)
    undefined = [is_undefined(a) for a in args]
    linear, _ = _partial_eval_body(jaxpr, layout.split(undefined))
    if not all(linear.carry):
        return _transpose_of_split(cts, args, {"jaxpr": jaxpr, **params})
    consts, _, xs = layout.split(args)  # a carry that is linear may still start from a value, a zero
    ct_carry, ct_ys = layout.split_results(cts)
    back = _backward(jaxpr, linear, nonzero(ct_carry), nonzero(ct_ys))
    sums = [zeros_of(a) for a in back.body.out_avals[: sum(back.consts)]]
    operands = ScanParts(
        select(consts, linear.consts, False),
        [*sums, *map(instantiate, select(ct_carry, back.carry))],
        [*select(ct_ys, nonzero(ct_ys)), *select(xs, linear.xs, False)],
    )
    out = iter(_bind(operands, back.body, params | {"reverse": not params["reverse"]}))
    found = [
        *spread(spread(out, back.consts), linear.consts),
        *spread(out, back.carry),
        *spread(spread(out, back.xs), linear.xs),
    ]
    results = [Zero(aval_of(a).tangent()) if ct is None else ct for ct, a in zip(found, args, strict=True)]
    return [ct if u else None for ct, u in zip(results, undefined, strict=True)]


def _transpose_of_split(cts: Sequence[Any], args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Compute the carries that are values, a loop counter for instance, in a scan of their own; transpose the rest."""
    linear = [is_undefined(a) for a in args]
    split = _partial_eval(linear, [aval_of(a) for a in args], **params)
    assert split is not None
    values, unknown = partition_list(linear, args)
    known, known_params = split.known
    out = known.bind(*values, **known_params)
    n = split.unknown_out.count(False)
    residuals = split.residuals(values, out[:n], out[n:])
    rest, rest_params = split.unknown
    back = rest.transpose(select(cts, split.unknown_out), *residuals, *unknown, **rest_params)
    return spread(back[len(residuals) :], linear)


class _Backward(NamedTuple):
    """A transposed body, and which cotangents it returns: of linear consts, of xs, and of carries."""

    body: ClosedJaxpr
    consts: list[bool]
    carry: list[bool]
    xs: list[bool]


def _backward(
    jaxpr: ClosedJaxpr, linear: ScanParts[bool], carry_nonzero: Sequence[bool], ys_nonzero: Sequence[bool]
) -> _Backward:
    """The body of (const values), (sums, carry's cotangents), (ys' cotangents, values of xs)."""
    layout = linear.select(linear).layout  # of the results of the transposed body

    def step(carry: list[bool]) -> tuple[list[bool], Any]:
        found, back = transpose_jaxpr(jaxpr, linear.join(), [*carry, *ys_nonzero])
        parts = layout.split(back)
        return parts.carry, (found, parts)

    carry, (found, back) = fixpoint(step, carry_nonzero)
    num_values = linear.consts.count(False)
    body = found.memo(
        ("scan", num_values, tuple(carry)),
        lambda: _accumulating(found, back, carry, num_values, linear.xs.count(False)),
    )
    return _Backward(body, back.consts, carry, back.xs)


def _accumulating(
    found: ClosedJaxpr, back: ScanParts[bool], carry: Sequence[bool], num_values: int, num_xs: int
) -> ClosedJaxpr:
    """Make a body of (values of consts and xs, cotangents) → cotangents: add those of consts to the sums carried."""
    values, xs, ct_carry, ct_ys = split_list(found.in_avals, [num_values, num_xs, sum(carry)])
    sums = found.out_avals[: sum(back.consts)]

    def fun(*flat: Any) -> list[Any]:
        given, totals, cts, ys_and_xs = split_list(flat, [len(values), len(sums), len(ct_carry)])
        ct_ys_now, xs_now = split_list(ys_and_xs, [len(ct_ys)])
        out = iter(eval_jaxpr(found.jaxpr, found.consts, *given, *xs_now, *cts, *ct_ys_now))
        new_totals = [add_any(total, next(out)) for total in totals]
        new_carry = [
            next(out) if nonzero else zeros_of(aval)
            for nonzero, aval in zip(select(back.carry, carry), ct_carry, strict=True)
        ]
        return [*new_totals, *new_carry, *out]

    return trace_to_jaxpr(fun, [*values, *sums, *ct_carry, *ct_ys, *xs], name=found.jaxpr.name)


# ---------------------------------------------------------------- unused results


def _prune(used: Sequence[bool], eqn: JaxprEqn) -> JaxprEqn:
    """Keep the carries whose results are used, and the carries that kept equations read in a later step."""
    closed, layout = eqn.params["jaxpr"], ScanLayout.of(eqn.params)
    carry, ys = layout.split_results(used)

    def step(carry: list[bool]) -> tuple[list[bool], ScanParts[bool]]:
        read = layout.split(dce_jaxpr(closed, [*carry, *ys])[1])
        return read.carry, read

    carry, read = fixpoint(step, carry)
    kept, used = read.replace(carry=carry), [*carry, *ys]
    body, _ = dce_jaxpr(closed, used, kept.join())
    if body is closed:
        return eqn
    params = eqn.params | kept.select(kept).params | {"jaxpr": body}
    return eqn.replace(invars=select(eqn.invars, kept.join()), outvars=select(eqn.outvars, used), params=params)


scan_p = Primitive(
    "scan",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial_eval=_partial_eval,
    prune=_prune,
    lowering=Scan(),
    discharge=lambda args, params: discharge_scan(scan_p, args, params),
    multiple_results=True,
    higher_order=True,
)
