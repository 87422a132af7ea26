"""Control flow in simplified jaxprs: what need not be done in a loop is done outside, or not at all.

Equations of branches and loops take part in `simplify` by the functions of this file. What comes out has a form that
the rest of the compiler relies on: inner jaxprs are simplified and have no consts, and every operand is a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, eval_jaxpr
from funcgrad.core.lowering import Cond, Contract, Lowering, Native, Scan, View, WhileLoop, host
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.shapes import broadcast_in_dim, reshape
from funcgrad.ops.slicing import concatenate, slice_

Simplify = Callable[[ClosedJaxpr], ClosedJaxpr]


def is_control(lowering: Lowering) -> bool:
    """Whether a lowering is a branch or a loop."""
    return isinstance(lowering, (Scan, WhileLoop, Cond))


# ---------------------------------------------------------------- without a loop


def straightened(eqn: JaxprEqn, avals: Sequence[ShapedArray]) -> ClosedJaxpr | None:
    """The equations in place of a branch whose index is known, or of a scan that is unrolled whole; else None.

    `avals` are the types with which the operands were traced.
    """
    lowering, params = eqn.primitive.lowering, eqn.params
    if isinstance(lowering, Cond) and isinstance(eqn.invars[0], Literal):
        branches = params["branches"]
        chosen = branches[min(max(int(np.asarray(eqn.invars[0].val)), 0), len(branches) - 1)]
        return trace_to_jaxpr(lambda _, *args: eval_jaxpr(chosen.jaxpr, chosen.consts, *args), avals)
    if isinstance(lowering, Scan) and params["length"] <= max(1, params["unroll"]):
        return trace_to_jaxpr(lambda *args: _unrolled(args, **params), avals)
    return None


def _unrolled(
    args: Sequence[Any], *, jaxpr: ClosedJaxpr, length: int, reverse: bool, num_consts: int, num_carry: int, **_: Any
) -> list[Any]:
    consts, carry = args[:num_consts], list(args[num_consts : num_consts + num_carry])
    xs = args[num_consts + num_carry :]
    rows: dict[int, list[Any]] = {}
    for i in reversed(range(length)) if reverse else range(length):
        slices = [_row(x, i) for x in xs]
        out = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *slices)
        carry, rows[i] = out[:num_carry], out[num_carry:]
    stacked = [_stack([rows[i][k] for i in range(length)], a) for k, a in enumerate(jaxpr.out_avals[num_carry:])]
    return [*carry, *stacked]


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
    """A branch whose leading inputs are its own consts, as one that takes those of all branches."""
    jaxpr = branch.jaxpr
    inputs = dict(zip(own, jaxpr.invars[: len(own)], strict=True))
    given = [inputs.get(v) or Var(v.aval) for v in shared]
    return ClosedJaxpr(jaxpr.replace(invars=[*given, *jaxpr.invars[len(own) :]]))


def fixed_carry(body: ClosedJaxpr, n_consts: int, n_carry: int) -> list[bool]:
    """Which values a loop carries along unchanged."""
    jaxpr = body.jaxpr
    carry = jaxpr.invars[n_consts : n_consts + n_carry]
    return [out is var for out, var in zip(jaxpr.outvars[:n_carry], carry, strict=True)]


def as_consts(jaxpr_: ClosedJaxpr, n_consts: int, fixed: Sequence[bool], is_body: bool) -> ClosedJaxpr:
    """A loop's body or predicate with the unchanging values of the carry among its consts, as the last of them."""
    if not any(fixed):
        return jaxpr_
    jaxpr, n = jaxpr_.jaxpr, n_consts
    carry, xs = jaxpr.invars[n : n + len(fixed)], jaxpr.invars[n + len(fixed) :]
    moving = [not f for f in fixed]
    invars = [*jaxpr.invars[:n], *_select(carry, fixed), *_select(carry, moving), *xs]
    kept = [v for i, v in enumerate(jaxpr.outvars) if i >= len(fixed) or moving[i]] if is_body else jaxpr.outvars
    return ClosedJaxpr(jaxpr.replace(invars=invars, outvars=kept))


class Hoisted(NamedTuple):
    """A body without what does not change from one iteration to the next: the equations to run before the loop, in
    terms of the body's own variables, and which of those variables the remaining body reads as further consts."""

    body: ClosedJaxpr
    before: list[JaxprEqn]
    consts: list[Var]


def hoist(body: ClosedJaxpr, invariant: Iterable[Var]) -> Hoisted:
    """Take equations out of a loop's body that depend on `invariant` inputs alone.

    Views stay, since they cost nothing inside, but for those that a hoisted equation reads; so does what is larger than
    what it is made from, and what only NumPy or foreign code can do: it may raise.
    """
    jaxpr = body.jaxpr
    known = set(invariant)
    candidates: list[JaxprEqn] = []
    for eqn in jaxpr.eqns:
        if not eqn.effectful and all(isinstance(v, Literal) or v in known for v in eqn.invars):
            candidates.append(eqn)
            known.update(eqn.outvars)
    out = {v for e in candidates if _worth_hoisting(e) for v in e.outvars}
    before = _needed(candidates, out)
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


def _needed(eqns: Sequence[JaxprEqn], wanted: Iterable[Var]) -> list[JaxprEqn]:
    needed, kept = set(wanted), []
    for eqn in reversed(eqns):
        if any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(v for v in eqn.invars if isinstance(v, Var))
    return kept[::-1]


# ---------------------------------------------------------------- unused results


def live(eqns: Sequence[JaxprEqn], outvars: Iterable[Atom]) -> list[JaxprEqn]:
    """The equations that some output needs and those with effects; branches and loops without their unused results."""
    needed = {v for v in outvars if isinstance(v, Var)}
    kept = []
    for eqn in reversed(eqns):
        used = [v in needed for v in eqn.outvars]
        if not (any(used) or eqn.effectful):
            continue
        if is_control(eqn.primitive.lowering):
            eqn = _without_unused(eqn, used)
        kept.append(eqn)
        needed.update(v for v in eqn.invars if isinstance(v, Var))
    return kept[::-1]


def _without_unused(eqn: JaxprEqn, used: list[bool]) -> JaxprEqn:
    lowering = eqn.primitive.lowering
    rule = (
        _prune_scan if isinstance(lowering, Scan) else _prune_while if isinstance(lowering, WhileLoop) else _prune_cond
    )
    return rule(eqn, used)


def _select(items: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    return [x for x, m in zip(items, mask, strict=True) if m]


def _body_needs(jaxpr: Jaxpr, wanted: Sequence[bool]) -> tuple[list[JaxprEqn], list[bool]]:
    """The live equations of a body when some of its results are wanted, and which of its inputs these need."""
    outvars = _select(jaxpr.outvars, wanted)
    eqns = live(jaxpr.eqns, outvars)
    read = {v for e in eqns for v in e.invars if isinstance(v, Var)} | {v for v in outvars if isinstance(v, Var)}
    return eqns, [v in read for v in jaxpr.invars]


def _prune_scan(eqn: JaxprEqn, used: list[bool]) -> JaxprEqn:
    body, nc, nk = eqn.params["jaxpr"].jaxpr, eqn.params["num_consts"], eqn.params["num_carry"]
    wanted = list(used)
    while True:
        eqns, needs = _body_needs(body, wanted)
        more = [w or n for w, n in zip(wanted[:nk], needs[nc : nc + nk], strict=True)]
        if more == wanted[:nk]:
            break
        wanted[:nk] = more
    keep = [*needs[:nc], *wanted[:nk], *needs[nc + nk :]]
    if all(wanted) and all(keep) and len(eqns) == len(body.eqns):
        return eqn
    small = body.replace(invars=_select(body.invars, keep), eqns=eqns, outvars=_select(body.outvars, wanted))
    params = eqn.params | {"jaxpr": ClosedJaxpr(small), "num_consts": sum(keep[:nc]), "num_carry": sum(wanted[:nk])}
    return eqn.replace(invars=_select(eqn.invars, keep), outvars=_select(eqn.outvars, wanted), params=params)


def _prune_while(eqn: JaxprEqn, used: list[bool]) -> JaxprEqn:
    p = eqn.params
    predicate, body, cc, bc = p["cond_jaxpr"].jaxpr, p["body_jaxpr"].jaxpr, p["cond_nconsts"], p["body_nconsts"]
    eqns_of_predicate, predicate_needs = _body_needs(predicate, [True])
    wanted = [u or n for u, n in zip(used, predicate_needs[cc:], strict=True)]
    while True:
        eqns, needs = _body_needs(body, wanted)
        more = [w or n for w, n in zip(wanted, needs[bc:], strict=True)]
        if more == wanted:
            break
        wanted = more
    keep_predicate, keep_body = predicate_needs[:cc], needs[:bc]
    if all((*wanted, *keep_predicate, *keep_body)) and len(eqns) == len(body.eqns):
        return eqn
    new_predicate = predicate.replace(
        invars=_select(predicate.invars, [*keep_predicate, *wanted]), eqns=eqns_of_predicate
    )
    new_body = body.replace(
        invars=_select(body.invars, [*keep_body, *wanted]), eqns=eqns, outvars=_select(body.outvars, wanted)
    )
    params = {
        "cond_jaxpr": ClosedJaxpr(new_predicate),
        "body_jaxpr": ClosedJaxpr(new_body),
        "cond_nconsts": sum(keep_predicate),
        "body_nconsts": sum(keep_body),
    }
    keep = [*keep_predicate, *keep_body, *wanted]
    return eqn.replace(
        invars=_select(eqn.invars, keep), outvars=_select(eqn.outvars, wanted), params=eqn.params | params
    )


def _prune_cond(eqn: JaxprEqn, used: list[bool]) -> JaxprEqn:
    branches = [b.jaxpr for b in eqn.params["branches"]]
    parts = [_body_needs(b, used) for b in branches]
    keep = [any(flags) for flags in zip(*(needs for _, needs in parts), strict=True)]
    if all(used) and all(keep) and all(len(e) == len(b.eqns) for b, (e, _) in zip(branches, parts, strict=True)):
        return eqn
    small = tuple(
        ClosedJaxpr(b.replace(invars=_select(b.invars, keep), eqns=eqns, outvars=_select(b.outvars, used)))
        for b, (eqns, _) in zip(branches, parts, strict=True)
    )
    return eqn.replace(
        invars=[eqn.invars[0], *_select(eqn.invars[1:], keep)],
        outvars=_select(eqn.outvars, used),
        params=eqn.params | {"branches": small},
    )
