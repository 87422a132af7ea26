"""Simplification of branches and loops: known branches, unrolled scans, loop invariants.

`simplify` calls the functions of this file for equations of branches and loops. The rest of the compiler relies on the
form of the result: inner jaxprs are simplified and have no consts, and every operand is a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, JaxprEqn, Literal, Var, eval_jaxpr, invariant, upstream
from funcgrad.core.layouts import ScanLayout
from funcgrad.core.lowering import Cond, Contract, Lowering, Native, Scan, View, WhileLoop, host
from funcgrad.core.masks import partition_list, select, split_list
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.shapes import broadcast_in_dim, reshape
from funcgrad.ops.slicing import concatenate, slice_

Simplify = Callable[[ClosedJaxpr], ClosedJaxpr]


def is_control(lowering: Lowering) -> bool:
    """Whether a lowering is a branch or a loop."""
    return isinstance(lowering, (Scan, WhileLoop, Cond))


# ---------------------------------------------------------------- known branches, unrolled scans


def straightened(eqn: JaxprEqn, avals: Sequence[ShapedArray]) -> ClosedJaxpr | None:
    """The jaxpr that replaces a branch whose index is known, or a scan that is unrolled completely; else None.

    `avals` are the types at which the operands were traced.
    """
    lowering, params = eqn.primitive.lowering, eqn.params
    if isinstance(lowering, Cond) and isinstance(eqn.invars[0], Literal):
        branches = params["branches"]
        chosen = branches[min(max(int(np.asarray(eqn.invars[0].val)), 0), len(branches) - 1)]
        return trace_to_jaxpr(lambda _, *args: eval_jaxpr(chosen.jaxpr, chosen.consts, *args), avals)
    if isinstance(lowering, Scan) and params["length"] <= max(1, params["unroll"]):
        return trace_to_jaxpr(lambda *args: _unrolled(args, **params), avals)
    return None


def _unrolled(args: Sequence[Any], *, jaxpr: ClosedJaxpr, length: int, reverse: bool, **params: Any) -> list[Any]:
    layout = ScanLayout.of(params)
    consts, carry, xs = layout.split(args)
    rows: dict[int, list[Any]] = {}
    for i in reversed(range(length)) if reverse else range(length):
        slices = [_row(x, i) for x in xs]
        out = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *slices)
        carry, rows[i] = layout.split_results(out)
    avals = layout.split_results(jaxpr.out_avals)[1]
    return [*carry, *(_stack([rows[i][k] for i in range(length)], a) for k, a in enumerate(avals))]


def _row(x: Any, i: int) -> Any:
    shape = x.aval.shape
    return reshape(slice_(x, (i, *(0 for _ in shape[1:])), (i + 1, *shape[1:])), shape[1:])


def _stack(rows: Sequence[Any], aval: ShapedArray) -> Any:
    if not rows:
        return Array(aval.update(shape=(0, *aval.shape)), np.zeros((0, *aval.shape), aval.dtype))
    lifted = [broadcast_in_dim(r, (1, *aval.shape), tuple(range(1, aval.ndim + 1))) for r in rows]
    return concatenate(lifted, 0) if len(lifted) > 1 else lifted[0]


# ---------------------------------------------------------------- invariants and consts of loops


def with_consts(branch: ClosedJaxpr, own: Sequence[Var], shared: Sequence[Var]) -> ClosedJaxpr:
    """Turn a branch whose leading inputs are its own consts into one that takes the consts of all branches."""
    jaxpr = branch.jaxpr
    inputs = dict(zip(own, jaxpr.invars[: len(own)], strict=True))
    given = [inputs.get(v) or Var(v.aval) for v in shared]
    return ClosedJaxpr(jaxpr.replace(invars=[*given, *jaxpr.invars[len(own) :]]))


def fixed_carry(body: ClosedJaxpr, num_consts: int, num_carry: int) -> list[bool]:
    """Return the mask of the carries that the body returns unchanged."""
    carry = body.jaxpr.invars[num_consts : num_consts + num_carry]
    return [out is var for out, var in zip(body.jaxpr.outvars, carry, strict=False)]


def as_consts(closed: ClosedJaxpr, num_consts: int, fixed: Sequence[bool], is_body: bool) -> ClosedJaxpr:
    """Make the fixed carries of a loop's body or predicate the last of its consts."""
    if not any(fixed):
        return closed
    consts, carry, xs = split_list(closed.jaxpr.invars, [num_consts, len(fixed)])
    moving, unchanging = partition_list(fixed, carry)
    outvars = closed.jaxpr.outvars
    if is_body:
        carry_out, ys = split_list(outvars, [len(fixed)])
        outvars = [*select(carry_out, fixed, False), *ys]
    return ClosedJaxpr(closed.jaxpr.replace(invars=[*consts, *unchanging, *moving, *xs], outvars=outvars))


class Hoisted(NamedTuple):
    """A body without its invariants.

    The equations `before` run before the loop, in terms of the body's own variables; the remaining body reads `consts`
    of these variables as further consts.
    """

    body: ClosedJaxpr
    before: list[JaxprEqn]
    consts: list[Var]


def hoist(body: ClosedJaxpr, fixed: Iterable[Var]) -> Hoisted:
    """Move the equations of a loop's body that depend on the `fixed` inputs alone to before the loop.

    Views stay, since they cost nothing inside; those that a hoisted equation reads are copied. Results that are larger
    than their operands stay too, and so do calls of NumPy or foreign code, which may raise.
    """
    jaxpr = body.jaxpr
    candidates = invariant(jaxpr.eqns, fixed)
    before = upstream(candidates, {v for e in candidates if _worth_hoisting(e) for v in e.outvars})
    moved = {id(e) for e in before if not isinstance(e.primitive.lowering, View)}
    rest = [e for e in jaxpr.eqns if id(e) not in moved]
    made_outside = {v for e in before if id(e) in moved for v in e.outvars}
    read = [v for e in rest for v in e.invars] + list(jaxpr.outvars)
    consts = list(dict.fromkeys(v for v in read if isinstance(v, Var) and v in made_outside))
    return Hoisted(ClosedJaxpr(jaxpr.replace(eqns=rest, invars=[*consts, *jaxpr.invars])), before, consts)


def _worth_hoisting(eqn: JaxprEqn) -> bool:
    lowering = eqn.primitive.lowering
    if isinstance(lowering, (View, Native)) or lowering is host or not any(isinstance(v, Var) for v in eqn.invars):
        return False
    size = sum(v.aval.nbytes for v in eqn.outvars)
    return isinstance(lowering, Contract) or size <= sum(v.aval.nbytes for v in eqn.invars)
