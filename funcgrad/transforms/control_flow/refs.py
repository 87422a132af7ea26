"""Refs in loops and branches: contents that a body writes are carried; every branch gives those that any writes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.transforms.refs import Ref, RefArguments, contents_of, pure_jaxpr, write_back, written


def discharge_scan(scan: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a scan some of whose consts are Refs."""
    n_consts, n_carry, closed = params["num_consts"], params["num_carry"], params["jaxpr"]
    carried = written(closed, args)
    pure = pure_jaxpr(closed, args, carried)
    consts = contents_of(args[:n_consts], carried)
    body = pure.memo(
        ("carried after", len(consts), n_carry),
        lambda: _after_carry(pure, len(consts) + n_carry, n_carry, len(carried)),
    )
    init, xs = args[n_consts : n_consts + n_carry], args[n_consts + n_carry :]
    sizes = {"num_consts": len(consts), "num_carry": n_carry + len(carried)}
    out = scan.bind(*consts, *init, *contents_of(carried), *xs, **params | sizes | {"jaxpr": body})
    end = n_carry + len(carried)
    return write_back(carried, [*out[:n_carry], *out[end:], *out[n_carry:end]])


def _after_carry(pure: ClosedJaxpr, carry_in: int, carry_out: int, count: int) -> ClosedJaxpr:
    """Move the last `count` inputs and outputs, contents, to where the carry ends."""

    def moved(atoms: list[Any], place: int) -> list[Any]:
        last = len(atoms) - count
        return [*atoms[:place], *atoms[last:], *atoms[place:last]]

    jaxpr = pure.jaxpr
    invars, outvars = moved(jaxpr.invars, carry_in), moved(jaxpr.outvars, carry_out)
    return ClosedJaxpr(jaxpr.replace(invars=invars, outvars=outvars), pure.consts)


def discharge_while(loop: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a while loop some of whose consts, of predicate or body, are Refs."""
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, carry = args[:n_cond], args[n_cond : n_cond + n_body], args[n_cond + n_body :]
    cond_args, body_args = [*cond_consts, *carry], [*body_consts, *carry]
    by_cond = written(params["cond_jaxpr"], cond_args)
    carried: list[Ref] = list(dict.fromkeys([*by_cond, *written(params["body_jaxpr"], body_args)]))
    cond = pure_jaxpr(params["cond_jaxpr"], cond_args, carried)
    body = pure_jaxpr(params["body_jaxpr"], body_args, carried)
    consts = contents_of(cond_consts, carried), contents_of(body_consts, carried)
    state = [*carry, *contents_of(carried)]
    if by_cond:
        return write_back(carried, _rotated(loop, cond, body, consts, state))
    test = ClosedJaxpr(cond.jaxpr.replace(outvars=cond.jaxpr.outvars[:1]), cond.consts)
    out = loop.bind(
        *consts[0],
        *consts[1],
        *state,
        cond_jaxpr=test,
        body_jaxpr=body,
        cond_nconsts=len(consts[0]),
        body_nconsts=len(consts[1]),
    )
    return write_back(carried, out)


def _rotated(
    loop: Primitive, cond: ClosedJaxpr, body: ClosedJaxpr, consts: tuple[list[Any], list[Any]], state: list[Any]
) -> list[Any]:
    """A loop whose predicate writes: while p(x): x = b(x) as go = p(x), then while go: x = b(x); go = p(x)."""
    n_cond, n = len(consts[0]), len(state)

    def tested(cond_consts: Sequence[Any], state: Sequence[Any]) -> list[Any]:
        go, *contents = eval_jaxpr(cond.jaxpr, cond.consts, *cond_consts, *state)
        return [*state[: n - len(contents)], *contents, go]

    def step(*flat: Any) -> list[Any]:
        after = eval_jaxpr(body.jaxpr, body.consts, *flat[n_cond:-1])
        return tested(flat[:n_cond], after)

    first = tested(consts[0], state)
    avals = [aval_of(x) for x in first]
    step_jaxpr = trace_to_jaxpr(step, [*map(aval_of, [*consts[0], *consts[1]]), *avals], name=body.jaxpr.name)
    out = loop.bind(
        *consts[0],
        *consts[1],
        *first,
        body_jaxpr=step_jaxpr,
        body_nconsts=n_cond + len(consts[1]),
        cond_jaxpr=trace_to_jaxpr(lambda *flat: [flat[-1]], avals),
        cond_nconsts=0,
    )
    return out[:-1]


def close_over_refs(
    operation: str, functions: dict[str, Callable[..., Any]], operands: tuple
) -> tuple[dict[str, Callable[..., Any]], tuple]:
    """Return branches and operands such that Refs among the operands are closed over instead."""
    leaves, structure = tree.flatten(operands)
    if not any(isinstance(x, Ref) for x in leaves):
        return functions, operands
    refs = RefArguments(leaves, operation, reusable=False)

    def closing(fun: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(fun)(refs.of_arrays(lambda *flat: fun(*structure.unflatten(flat))))

    return {name: closing(fun) for name, fun in functions.items()}, tuple(x for x in leaves if not isinstance(x, Ref))


def discharge_cond(cond: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a conditional some of whose operands are Refs."""
    index, *operands = args
    branches = params["branches"]
    carried: list[Ref] = list(dict.fromkeys(r for b in branches for r in written(b, operands)))
    pure = tuple(pure_jaxpr(b, operands, carried) for b in branches)
    out = cond.bind(index, *contents_of(operands, carried), *contents_of(carried), **params | {"branches": pure})
    return write_back(carried, out)
