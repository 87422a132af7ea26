"""The primitive `scan` with its rules.

Operands are consts, the carry, and the scanned arrays xs; the body's jaxpr maps (consts, carry, slices of xs) to
(carry, slices of ys); results are the last carry and the stacked ys. Each rule makes another body and scans it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Scan, WhileLoop
from funcgrad.core.masks import nonzero, select, spread, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import JaxprError
from funcgrad.ops.elementwise import add_any
from funcgrad.ops.shapes import broadcast_in_batch, instantiate, reshape, to_dim, zeros_of
from funcgrad.transforms.control_flow.common import check_operands, fixpoint, run_compiled
from funcgrad.transforms.control_flow.refs import discharge_scan
from funcgrad.transforms.control_flow.scan_split import BodySplit, split_body
from funcgrad.transforms.jit import jit_p
from funcgrad.transforms.jvp import jvp_jaxpr
from funcgrad.transforms.partial_eval import JaxprSplit, Split, partial_eval_jaxpr, pruned
from funcgrad.transforms.transpose import transpose_jaxpr
from funcgrad.transforms.vmap import batch_jaxpr


class Parts(NamedTuple):
    """What belongs to the consts, the carry and the xs of a scan."""

    consts: list[Any]
    carry: list[Any]
    xs: list[Any]

    def all(self) -> list[Any]:
        """Return them one after another, as operands are."""
        return [*self.consts, *self.carry, *self.xs]

    def joined(self, other: Parts) -> list[Any]:
        """Return the operands of a scan that does the work of two."""
        return [x for own, others in zip(self, other, strict=True) for x in (*own, *others)]


def divide(values: Sequence[Any], num_consts: int, num_carry: int) -> Parts:
    """Divide one value for each operand."""
    start = num_consts + num_carry
    return Parts(list(values[:num_consts]), list(values[num_consts:start]), list(values[start:]))


def stacked(aval: ShapedArray, length: int) -> ShapedArray:
    """Return the type of `length` values of a type, stacked."""
    return aval.update(shape=(length, *aval.shape))


# ---------------------------------------------------------------- type and value


def _infer(
    *avals: ShapedArray, jaxpr: ClosedJaxpr, length: int, reverse: bool, num_consts: int, num_carry: int, unroll: int
) -> list[ShapedArray]:
    consts, carry, xs = divide(avals, num_consts, num_carry)
    for x in xs:
        if x.shape[:1] != (length,):
            raise JaxprError(f"scan: a scanned operand of type {x} has no leading axis of length {length}")
    check_operands("scan", [*consts, *carry, *(x.update(shape=x.shape[1:]) for x in xs)], jaxpr.in_avals)
    carry_out, ys = jaxpr.out_avals[:num_carry], jaxpr.out_avals[num_carry:]
    check_operands("scan", carry_out, carry)
    return [*carry_out, *(stacked(y, length) for y in ys)]


def _evaluate(*arrays: Array, **params: Any) -> list[Array]:
    if config.disable_jit:
        return _interpret(*arrays, **params)
    return run_compiled(scan_p, params["jaxpr"], arrays, params)


def _interpret(
    *arrays: Array, jaxpr: ClosedJaxpr, length: int, reverse: bool, num_consts: int, num_carry: int, unroll: int
) -> list[Any]:
    consts, carry, xs = divide(arrays, num_consts, num_carry)
    rows: list[Any] = [None] * length
    for i in reversed(range(length)) if reverse else range(length):
        out = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *(x[i] for x in xs))
        carry, rows[i] = out[:num_carry], out[num_carry:]
    ys = []
    for k, aval in enumerate(jaxpr.out_avals[num_carry:]):
        values = np.array([np.asarray(row[k]) for row in rows], aval.dtype)
        ys.append(Array(stacked(aval, length), values.reshape(length, *aval.shape)))
    return [*carry, *ys]


def _bind(*operands: Any, jaxpr: ClosedJaxpr, num_consts: int, **params: Any) -> list[Any]:
    """Scan a derived body; traced values that custom rules in it close over become consts."""
    closed, closed_over = hoist_tracers(jaxpr)
    return scan_p.bind(*closed_over, *operands, jaxpr=closed, num_consts=num_consts + len(closed_over), **params)


# ---------------------------------------------------------------- forward mode and vectorisation


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> tuple[list[Any], list[Any]]:
    """Scan the body's jvp: tangents are carried for the carries that get one in any step."""
    marks = divide(nonzero(tangents), num_consts, num_carry)
    num_ys = len(jaxpr.out_avals) - num_carry

    def step(carry: list[bool]) -> tuple[list[bool], Any]:
        flags = marks._replace(carry=carry).all()
        found, nonzero_out = jvp_jaxpr(jaxpr, flags, [*carry, *[False] * num_ys])
        return nonzero_out[:num_carry], (found, nonzero_out)

    carry_nonzero, (found, nonzero_out) = fixpoint(step, marks.carry)
    marks = marks._replace(carry=carry_nonzero)
    counts = tuple(map(sum, marks))
    body = found.memo(
        ("scan", num_consts, num_carry), lambda: _regrouped(found, num_consts, num_carry, counts, len(nonzero_out))
    )
    given = [instantiate(t) for t in select(tangents, marks.all())]
    out = _bind(
        *divide(primals, num_consts, num_carry).joined(divide(given, *counts[:2])),
        jaxpr=body,
        num_consts=num_consts + counts[0],
        num_carry=num_carry + counts[1],
        **params,
    )
    carry, carry_dot, rest = divide(out, num_carry, counts[1])
    primals_out = [*carry, *rest[:num_ys]]
    return primals_out, with_zeros([*carry_dot, *rest[num_ys:]], nonzero_out, [aval_of(o) for o in primals_out])


def _regrouped(
    found: ClosedJaxpr, num_consts: int, num_carry: int, tangents: Sequence[int], num_out: int
) -> ClosedJaxpr:
    """The jvp of a body, (primals, tangents) → (results, tangents), as a body: consts, carry, xs of both together."""
    jaxpr = found.jaxpr
    num_in = len(jaxpr.invars) - sum(tangents)
    invars = divide(jaxpr.invars[:num_in], num_consts, num_carry).joined(divide(jaxpr.invars[num_in:], *tangents[:2]))
    outvars = divide(jaxpr.outvars[:num_out], 0, num_carry).joined(divide(jaxpr.outvars[num_out:], 0, tangents[1]))
    return ClosedJaxpr(jaxpr.replace(invars=invars, outvars=outvars), found.consts)


def _batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> tuple[list[Any], list[int | None]]:
    """Scan the batched body: xs and ys have their batch in axis 1, carries are batched that are so after any step."""
    size = axis.size
    batched = divide([d is not None for d in dims], num_consts, num_carry)
    num_ys = len(jaxpr.out_avals) - num_carry

    def step(carry: list[bool]) -> tuple[list[bool], Any]:
        flags = batched._replace(carry=carry).all()
        found, batched_out = batch_jaxpr(jaxpr, axis, flags, [*carry, *[False] * num_ys])
        return batched_out[:num_carry], (found, batched_out)

    carry_batched, (body, batched_out) = fixpoint(step, batched.carry)
    if num_carry == 0 and _is_while(jaxpr) and not _is_while(body):  # the elements' predicates differ
        return _lanes_of_lanes(args, dims, size, jaxpr, num_consts, **params)
    places = [0] * num_consts + [0] * num_carry + [1] * len(batched.xs)
    operands = [
        to_dim(a, d, place if b else None, size)
        for a, d, place, b in zip(args, dims, places, batched._replace(carry=carry_batched).all(), strict=True)
    ]
    out = _bind(*operands, jaxpr=body, num_consts=num_consts, num_carry=num_carry, **params)
    out_places = [0] * num_carry + [1] * num_ys
    return out, [place if b else None for place, b in zip(out_places, batched_out, strict=True)]


def _is_while(closed: ClosedJaxpr) -> bool:
    return len(closed.jaxpr.eqns) == 1 and isinstance(closed.jaxpr.eqns[0].primitive.lowering, WhileLoop)


def _lanes_of_lanes(
    args: Sequence[Any],
    dims: Sequence[int | None],
    size: int,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    *,
    length: int,
    **params: Any,
) -> tuple[list[Any], list[int | None]]:
    """Scan the lanes of all elements one after another, where each runs a while loop as long as it must."""

    def flat(x: Any) -> Any:
        return reshape(x, (size * length, *aval_of(x).shape[2:]))

    given, scanned = divide(list(zip(args, dims, strict=True)), num_consts, 0)[::2]
    varying = [d is not None for _, d in given]
    rows = [broadcast_in_batch(to_dim(a, d, 0, size), length, 1) for a, d in select(given, varying)]
    rows += [to_dim(a, d, 0, size) for a, d in scanned]
    invars = jaxpr.jaxpr.invars
    consts = invars[:num_consts]
    ordered = [*select(consts, varying, False), *select(consts, varying), *invars[num_consts:]]
    body = jaxpr.memo(
        ("lanes of lanes", *varying), lambda: ClosedJaxpr(jaxpr.jaxpr.replace(invars=ordered), jaxpr.consts)
    )
    fixed = [a for a, _ in select(given, varying, False)]
    out = _bind(
        *fixed, *map(flat, rows), jaxpr=body, num_consts=len(fixed), num_carry=0, length=size * length, **params
    )
    return [reshape(y, (size, length, *aval_of(y).shape[1:])) for y in out], [0] * len(out)


# ---------------------------------------------------------------- partial evaluation


def _partial_eval(
    unknown: list[bool],
    avals: Sequence[ShapedArray],
    *,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> Split | None:
    """Two scans, of the known and of the unknown part of the body; a carry is known if it is so after every step."""
    key = ("scan partial_eval", tuple(unknown), num_consts, num_carry, *params.values())
    return jaxpr.memo(key, lambda: _split(divide(unknown, num_consts, num_carry), avals, jaxpr, params))


def _divided_body(jaxpr: ClosedJaxpr, unknown: Parts) -> tuple[list[bool], JaxprSplit]:
    """Which carries depend, after any step, on the inputs that are marked; and the body divided by that."""
    num_ys = len(jaxpr.out_avals) - len(unknown.carry)

    def step(carry: list[bool]) -> tuple[list[bool], JaxprSplit]:
        found = partial_eval_jaxpr(jaxpr, unknown._replace(carry=carry).all(), [*carry, *[False] * num_ys])
        return found.unknown_out[: len(carry)], found

    return fixpoint(step, unknown.carry)


def _split(unknown: Parts, avals: Sequence[ShapedArray], jaxpr: ClosedJaxpr, params: dict[str, Any]) -> Split | None:
    carry_unknown, found = _divided_body(jaxpr, unknown)
    known_counts = [p.count(False) for p in unknown]
    body = split_body(found, known_counts[0], carry_unknown.count(False))
    if body.trivial:
        return None
    # A carry may start from a known value and be unknown after a step.
    started = [i for i, now in enumerate(select(carry_unknown, unknown.carry, False)) if now]
    known = _known_program(body, known_counts, started, select(avals, unknown.all(), False), params)
    forwarded = [
        *body.const_residuals,
        *[None] * body.num_hoisted,
        *(known_counts[0] + i for i in started),
        *(known_counts[0] + known_counts[1] + i for i in body.xs_residuals),
        *[None] * body.num_stacked,
    ]
    n_out = len(found.unknown_out) - sum(found.unknown_out)
    known_in, returned = select(avals, unknown.all(), False), iter(known.out_avals[n_out:])
    residual_avals = [next(returned) if i is None else known_in[i] for i in forwarded]
    rest = _unknown_program(body, unknown, carry_unknown, residual_avals, select(avals, unknown.all()), params)
    program = {"name": "scan", "inline": False}
    return Split(
        (jit_p, {"jaxpr": known, **program}),
        (jit_p, {"jaxpr": rest, **program}),
        [*carry_unknown, *found.unknown_out[len(carry_unknown) :]],
        residual_avals,
        forwarded,
    )


def _known_program(
    body: BodySplit, counts: Sequence[int], started: Sequence[int], avals: Sequence[ShapedArray], params: dict[str, Any]
) -> ClosedJaxpr:
    """The known operands → (known results, hoisted residuals, stacked residuals)."""

    def fun(*operands: Any) -> list[Any]:
        consts, init, xs = divide(operands, *counts[:2])
        carry = [c for i, c in enumerate(init) if i not in started]
        hoisted = eval_jaxpr(body.hoisted.jaxpr, body.hoisted.consts, *consts)
        out = scan_p.bind(
            *hoisted,
            *consts,
            *carry,
            *xs,
            jaxpr=body.known,
            num_consts=len(hoisted) + len(consts),
            num_carry=len(carry),
            **params,
        )
        n = len(out) - body.num_stacked
        return [*out[:n], *hoisted[: body.num_hoisted], *out[n:]]

    return pruned(trace_to_jaxpr(fun, avals, name="scan"))


def _unknown_program(
    body: BodySplit,
    unknown: Parts,
    carry_unknown: Sequence[bool],
    residual_avals: Sequence[ShapedArray],
    avals: Sequence[ShapedArray],
    params: dict[str, Any],
) -> ClosedJaxpr:
    """(Residuals, unknown operands) → unknown results."""
    num_last = len(body.xs_residuals) + body.num_stacked
    num_first = len(body.const_residuals) + body.num_hoisted

    def fun(*flat: Any) -> list[Any]:
        residuals, operands = flat[: len(residual_avals)], flat[len(residual_avals) :]
        n = len(residuals) - num_last
        first, started, last = residuals[:num_first], iter(residuals[num_first:n]), residuals[n:]
        consts, init, xs = divide(operands, sum(unknown.consts), sum(unknown.carry))
        given = iter(init)
        carry = [
            next(given) if before else next(started)
            for before, now in zip(unknown.carry, carry_unknown, strict=True)
            if now
        ]
        return scan_p.bind(
            *first,
            *consts,
            *carry,
            *xs,
            *last,
            jaxpr=body.unknown,
            num_consts=num_first + len(consts),
            num_carry=len(carry),
            **params,
        )

    return trace_to_jaxpr(fun, [*residual_avals, *avals], name="scan")


# ---------------------------------------------------------------- transposition


def _transpose(
    cts: Sequence[Any], *args: Any, jaxpr: ClosedJaxpr, num_consts: int, num_carry: int, reverse: bool, **params: Any
) -> list[Any]:
    """Scan the transposed body in the opposite direction; sums of the consts' cotangents are carried too."""
    flags = [is_undefined(a) for a in args]
    linear = divide(flags, num_consts, num_carry)
    if not all(_divided_body(jaxpr, linear)[0]):
        whole = {"jaxpr": jaxpr, "num_consts": num_consts, "num_carry": num_carry, "reverse": reverse, **params}
        return _transpose_of_split(cts, args, whole)
    # A carry that is linear may still start from a value, a zero.
    linear = linear._replace(carry=[True] * num_carry)
    consts, init, xs = divide(args, num_consts, num_carry)
    ct_carry, ct_ys = cts[:num_carry], cts[num_carry:]
    back = _backward(jaxpr, linear, nonzero(ct_carry), nonzero(ct_ys))
    sums = [zeros_of(a) for a in back.body.out_avals[: sum(back.consts)]]
    operands = Parts(
        [*select(consts, linear.consts, False), *sums],
        [instantiate(ct) for ct in select(ct_carry, back.carry)],
        [*(ct for ct in ct_ys if type(ct) is not Zero), *select(xs, linear.xs, False)],
    )
    out = iter(
        _bind(
            *operands.all(),
            jaxpr=back.body,
            num_consts=linear.consts.count(False),
            reverse=not reverse,
            num_carry=sum(back.consts) + sum(back.carry),
            **params,
        )
    )
    found = Parts(
        spread(spread(out, back.consts), linear.consts),
        spread(out, back.carry),
        spread(spread(out, back.xs), linear.xs),
    )
    zeros = [Zero(aval_of(a).tangent()) for a in args]
    results = [z if ct is None else ct for ct, z in zip(found.all(), zeros, strict=True)]
    return [ct if undefined else None for ct, undefined in zip(results, flags, strict=True)]


def _transpose_of_split(cts: Sequence[Any], args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Compute the carries that are values, a loop counter for instance, in a scan of their own; transpose the rest."""
    linear = [is_undefined(a) for a in args]
    split = _partial_eval(linear, [aval_of(a) for a in args], **params)
    assert split is not None
    values = select(args, linear, False)
    known, known_params = split.known
    out = known.bind(*values, **known_params)
    n = split.unknown_out.count(False)
    residuals = split.residuals(values, out[:n], out[n:])
    rest, rest_params = split.unknown
    back = rest.transpose(select(cts, split.unknown_out), *residuals, *select(args, linear), **rest_params)
    return spread(back[len(residuals) :], linear)


class _Backward(NamedTuple):
    """A transposed body, and which cotangents it gives: those of linear consts and xs, and of carries."""

    body: ClosedJaxpr
    consts: list[bool]
    carry: list[bool]
    xs: list[bool]


def _backward(
    jaxpr: ClosedJaxpr, linear: Parts, carry_nonzero: Sequence[bool], ys_nonzero: Sequence[bool]
) -> _Backward:
    """The body of (const values, sums), (carry's cotangents), (ys' cotangents, values of xs)."""

    def step(carry: list[bool]) -> tuple[list[bool], Any]:
        found, back = transpose_jaxpr(jaxpr, linear.all(), [*carry, *ys_nonzero])
        parts = divide(back, sum(linear.consts), len(carry))
        return parts.carry, (found, parts)

    carry, (found, back) = fixpoint(step, carry_nonzero)
    num_values = linear.consts.count(False)
    body = found.memo(
        ("scan", num_values, tuple(carry)),
        lambda: _accumulating(found, back, carry, num_values, linear.xs.count(False)),
    )
    return _Backward(body, back.consts, carry, back.xs)


def _accumulating(found: ClosedJaxpr, back: Parts, carry: Sequence[bool], num_values: int, num_xs: int) -> ClosedJaxpr:
    """Make a body of (values of consts and xs, cotangents) → cotangents: add those of consts to the sums carried."""
    values, xs, cts = divide(found.in_avals, num_values, num_xs)
    ct_carry, ct_ys = cts[: sum(carry)], cts[sum(carry) :]
    sums = found.out_avals[: sum(back.consts)]

    def fun(*flat: Any) -> list[Any]:
        given, totals, rest = divide(flat, len(values), len(sums))
        cts, xs = rest[: len(ct_carry) + len(ct_ys)], rest[len(ct_carry) + len(ct_ys) :]
        out = iter(eval_jaxpr(found.jaxpr, found.consts, *given, *xs, *cts))
        new_totals = [add_any(total, next(out)) for total in totals]
        new_carry = [
            next(out) if nonzero else zeros_of(aval)
            for nonzero, aval in zip(select(back.carry, carry), ct_carry, strict=True)
        ]
        return [*new_totals, *new_carry, *out]

    return trace_to_jaxpr(fun, [*values, *sums, *ct_carry, *ct_ys, *xs], name=found.jaxpr.name)


scan_p = Primitive(
    "scan",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial_eval=_partial_eval,
    lowering=Scan(),
    discharge=lambda args, params: discharge_scan(scan_p, args, params),
    multiple_results=True,
    higher_order=True,
)
