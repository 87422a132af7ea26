"""The primitive `cond`: one of several jaxprs, chosen at run time by an index. See `branching` for what users call.

Rules derive a jaxpr per branch and make the branches agree again: a tangent, cotangent, residual or batch
dimension that one branch has is given to all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Var, dce_jaxpr, eval_jaxpr, subjaxprs
from funcgrad.core.layouts import ScanParts
from funcgrad.core.lowering import Cond, Scan, WhileLoop
from funcgrad.core.masks import merge_lists, nonzero, partition_list, select, split_list, spread, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import is_undefined
from funcgrad.errors import BatchingError, JaxprError
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.logic import eq_p
from funcgrad.ops.selection import clamp_p, select_n_p
from funcgrad.ops.shapes import broadcast_in_batch, broadcast_in_dim, leading, zeros_of
from funcgrad.transforms.control_flow.common import check_operands, join_lanes, same_type
from funcgrad.transforms.control_flow.refs import discharge_cond
from funcgrad.transforms.control_flow.scan_rules import scan_p
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.jvp import jvp_jaxpr
from funcgrad.transforms.interpreters.partial_eval import JaxprSplit, Split, partial_eval_jaxpr
from funcgrad.transforms.interpreters.transpose import transpose_jaxpr

Branches = tuple[ClosedJaxpr, ...]


def _infer(index: ShapedArray, *avals: ShapedArray, branches: Branches) -> list[ShapedArray]:
    """Return the types of the first branch; the other branches have the same types up to weak types."""
    if (index.shape, index.dtype) != ((), dtypes.int32):
        raise JaxprError(f"cond: the index has type {index}, it must be a scalar int32")
    for i, branch in enumerate(branches):
        check_operands(f"cond: branch {i}", avals, branch.in_avals)
        results = branches[0].out_avals, branch.out_avals
        if len(results[0]) != len(results[1]) or not all(map(same_type, *results)):
            raise JaxprError(f"cond: branch 0 returns {results[0]}, branch {i} {results[1]}")
    return branches[0].out_avals


def _evaluate(index: Array, *arrays: Array, branches: Branches) -> list[Array]:
    """Evaluate the chosen branch: outside jit the index is known, and nothing is compiled."""
    chosen = branches[int(np.clip(int(index), 0, len(branches) - 1))]
    out = eval_jaxpr(chosen.jaxpr, chosen.consts, *arrays)
    avals = cond_p.typed([aval_of(index), *map(aval_of, arrays)], {"branches": branches})
    return [x if aval_of(x) is aval else Array(aval, np.asarray(x)) for x, aval in zip(out, avals, strict=True)]


def _agreeing(
    derive: Callable[[ClosedJaxpr, Sequence[bool]], tuple[ClosedJaxpr, list[bool]]], branches: Branches, n: int
) -> tuple[Branches, list[bool]]:
    """Derive a jaxpr from each branch, with the optional results that any branch has; also return their mask.

    `derive(branch, wanted)` returns the jaxpr, and the mask of its `n` optional results: those that it needs and the
    wanted ones.
    """
    derived = [derive(b, (False,) * n) for b in branches]
    wanted = [any(column) for column in zip(*(has for _, has in derived), strict=True)]
    agreed = tuple(d if has == wanted else derive(b, wanted)[0] for b, (d, has) in zip(branches, derived, strict=True))
    return agreed, wanted


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, branches: Branches) -> tuple[list[Any], list[Any]]:
    mask, n = nonzero(tangents[1:]), len(branches[0].out_avals)
    jvps, nonzero_out = _agreeing(lambda b, wanted: jvp_jaxpr(b, mask, wanted), branches, n)
    out = cond_p.bind(*primals, *select(tangents[1:], mask), branches=jvps)
    return out[:n], with_zeros(out[n:], nonzero_out, [aval_of(o) for o in out[:n]])


def _transpose(cts: Sequence[Any], index: Any, *args: Any, branches: Branches) -> list[Any]:
    linear, mask = [is_undefined(a) for a in args], nonzero(cts)
    transposed, nonzero_back = _agreeing(
        lambda b, wanted: transpose_jaxpr(b, linear, mask, wanted), branches, sum(linear)
    )
    out = cond_p.bind(index, *select(args, linear, False), *select(cts, mask), branches=transposed)
    back = with_zeros(out, nonzero_back, [a.aval for a in select(args, linear)])
    return [None, *spread(back, linear)]


# ---------------------------------------------------------------- partial evaluation


def _partial_eval(unknown: list[bool], avals: Sequence[ShapedArray], *, branches: Branches) -> Split | None:
    if unknown[0]:
        return None
    of_branches = [partial_eval_jaxpr(b, unknown[1:]).unknown_out for b in branches]
    unknown_out = [any(column) for column in zip(*of_branches, strict=True)]
    splits = [partial_eval_jaxpr(b, unknown[1:], unknown_out) for b in branches]
    names = [_residual_names(s) for s in splits]
    shared = list(dict.fromkeys(name for own in names for name in own))
    computes = not all(unknown_out) or any(s.known.jaxpr.effectful for s in splits)
    if not computes and all(isinstance(name, int) for name in shared):
        return None
    known_in = select(avals, unknown, False)
    types = {name: known_in[name] if isinstance(name, int) else name[0] for name in shared}
    known = tuple(_returning(s, own, types) for s, own in zip(splits, names, strict=True))
    rest = tuple(_receiving(s, own, types) for s, own in zip(splits, names, strict=True))
    # Both halves choose by the index, which is the first of the known inputs.
    forwarded = [0, *(name if isinstance(name, int) else None for name in shared)]
    residual_avals = [avals[0], *types.values()]
    return Split((cond_p, {"branches": known}), (cond_p, {"branches": rest}), unknown_out, residual_avals, forwarded)


# A residual's name decides which residuals of other branches it shares a place with: the position of a known input
# of the equation, else its type and how many residuals of that type the branch has before it.
_Name = int | tuple[ShapedArray, int]


def _residual_names(split: JaxprSplit) -> list[_Name]:
    jaxpr, count = split.known.jaxpr, len(split.residual_avals)
    position = {v: i for i, v in enumerate(jaxpr.invars, start=1)}
    names: list[_Name] = []
    seen: Counter[ShapedArray] = Counter()
    for var in jaxpr.outvars[len(jaxpr.outvars) - count :]:
        if var in position:
            names.append(position[var])
        else:
            aval = var.aval.strengthened()
            names.append((aval, seen[aval]))
            seen[aval] += 1
    return names


def _returning(split: JaxprSplit, names: Sequence[_Name], types: dict[_Name, ShapedArray]) -> ClosedJaxpr:
    """The known half, which returns the residuals of all branches except inputs, with zeros for other branches."""
    n = len(split.known.out_avals) - len(names)

    def known(*args: Any) -> list[Any]:
        out = eval_jaxpr(split.known.jaxpr, split.known.consts, *args)
        own = dict(zip(names, out[n:], strict=True))
        returned = [own[k] if k in own else zeros_of(a) for k, a in types.items() if not isinstance(k, int)]
        return [*out[:n], *returned]

    return trace_to_jaxpr(known, split.known.in_avals, name=split.known.jaxpr.name)


def _receiving(split: JaxprSplit, names: Sequence[_Name], types: dict[_Name, ShapedArray]) -> ClosedJaxpr:
    """The unknown half, which takes the residuals of all branches and ignores those of other branches."""
    jaxpr = split.unknown.jaxpr
    own = dict(zip(names, jaxpr.invars, strict=False))
    received = [own[k] if k in own else Var(a) for k, a in types.items()]
    return ClosedJaxpr(jaxpr.replace(invars=received + jaxpr.invars[len(names) :]), split.unknown.consts)


# ---------------------------------------------------------------- batching


def _batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], *, branches: Branches
) -> tuple[list[Any], list[Any]]:
    index, *operands = leading(args, dims)
    batched = [d is not None for d in dims[1:]]
    if dims[0] is None:
        n = len(branches[0].out_avals)
        mapped, batched_out = _agreeing(lambda b, wanted: batch_jaxpr(b, axis, batched, wanted), branches, n)
        return cond_p.bind(index, *operands, branches=mapped), [0 if b else None for b in batched_out]
    inside = {primitive for b in branches for primitive in _primitives(b.jaxpr)}
    for primitive in inside:
        if primitive.ordered_effect:
            raise BatchingError(
                f"cond: a branch calls {primitive}, and vmap batches the choice: all branches would call it",
                fix="keep the predicate unbatched (in_axes=None), or loop over the batch with lax.map instead of vmap",
            )
    if any(isinstance(p.lowering, (Scan, WhileLoop)) for p in inside) and not join_lanes(axis, branches):
        out = _lane_by_lane(index, operands, batched, axis.size, branches)
    else:
        out = _all_and_select(index, operands, batched, axis, branches)
    return out, [0] * len(out)


def _primitives(jaxpr: Jaxpr) -> Iterator[Primitive]:
    """Yield all primitives in a jaxpr and the jaxprs inside it."""
    for eqn in jaxpr.eqns:
        yield eqn.primitive
        for inner in subjaxprs(eqn.params):
            yield from _primitives(inner)


def _lane_by_lane(
    index: Any, operands: Sequence[Any], batched: Sequence[bool], size: int, branches: Branches
) -> list[Any]:
    """Scan over the batch, each element running its own branch: a loop in a branch that is not taken does not run."""
    shared, varying = partition_list(batched, operands)

    def lane(*args: Any) -> list[Any]:
        consts, (own_index, *slices) = split_list(args, [batched.count(False)])
        return cond_p.bind(own_index, *merge_lists(batched, consts, slices), branches=branches)

    def body() -> ClosedJaxpr:
        consts, slices = partition_list(batched, branches[0].in_avals)
        return trace_to_jaxpr(lane, [*consts, ShapedArray((), dtypes.int32), *slices], name="lane")

    jaxpr = branches[0].memo(("lane by lane", branches, tuple(batched)), body)
    scanned = ScanParts(shared, [], [index, *varying])
    return scan_p.bind(*scanned.join(), **scanned.params, jaxpr=jaxpr, length=size, reverse=False, unroll=1)


def _all_and_select(
    index: Any, operands: Sequence[Any], batched: Sequence[bool], axis: AxisData, branches: Branches
) -> list[Any]:
    """Run every branch on the whole batch and select from the results.

    Where an element does not take a branch, its operands are constants there: the branch's derivative may be
    infinite at them, and 0 · inf must not reach the cotangents.
    """
    inexact = [dtypes.is_inexact(a.dtype) for a in branches[0].in_avals]
    whole = [
        broadcast_in_batch(x, axis.size, 0) if f and not b else x
        for x, b, f in zip(operands, batched, inexact, strict=True)
    ]
    mapped = [b or f for b, f in zip(batched, inexact, strict=True)]
    index = clamp_p.bind(np.int32(0), index, np.int32(len(branches) - 1))
    results = []
    for i, branch in enumerate(branches):
        taken = eq_p.bind(index, np.int32(i))
        guarded = [_chosen(taken, stop_gradient_p.bind(x), x) if f else x for x, f in zip(whole, inexact, strict=True)]
        body, _ = batch_jaxpr(branch, axis, mapped, True)
        results.append(eval_jaxpr(body.jaxpr, body.consts, *guarded))
    return [_chosen(index, *cases) for cases in zip(*results, strict=True)]


def _prune(used: Sequence[bool], eqn: JaxprEqn) -> JaxprEqn:
    """Keep the operands that some branch needs for the results that are used."""
    branches, (index, *operands) = eqn.params["branches"], eqn.invars
    read = [any(column) for column in zip(*(dce_jaxpr(b, used)[1] for b in branches), strict=True)]
    smaller = tuple(dce_jaxpr(b, used, read)[0] for b in branches)
    if all(new is old for new, old in zip(smaller, branches, strict=True)):
        return eqn
    params = eqn.params | {"branches": smaller}
    return eqn.replace(invars=[index, *select(operands, read)], outvars=select(eqn.outvars, used), params=params)


def _chosen(which: Any, *cases: Any) -> Any:
    """Select rows of arrays by a vector."""
    return select_n_p.bind(broadcast_in_dim(which, aval_of(cases[0]).shape, (0,)), *cases)


cond_p = Primitive(
    "cond",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial_eval=_partial_eval,
    prune=_prune,
    lowering=Cond(),
    discharge=lambda args, params: discharge_cond(cond_p, args, params),
    multiple_results=True,
    higher_order=True,
)
