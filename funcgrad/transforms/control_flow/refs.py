"""Refs in loops and branches: contents that a body writes are carried; every branch returns those that any writes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout, WhileParts
from funcgrad.core.masks import split_list
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.transforms.refs.arguments import RefArguments
from funcgrad.transforms.refs.discharge import contents_of, pure_jaxpr, write_back, written
from funcgrad.transforms.refs.ref import Ref


def discharge_scan(scan: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a scan some of whose consts are Refs."""
    closed, layout = params["jaxpr"], ScanLayout.of(params)
    consts, init, xs = layout.split(args)
    carried = written(closed, args)
    pure = pure_jaxpr(closed, args, carried)
    operands = ScanParts(contents_of(consts, carried), [*init, *contents_of(carried)], xs)
    body = pure.memo(("carried after", *operands.layout), lambda: _after_carry(pure, operands.layout, layout.num_carry))
    out = scan.bind(*operands.join(), **params | operands.params | {"jaxpr": body})
    carry, contents, ys = split_list(out, [layout.num_carry, len(carried)])
    return write_back(carried, [*carry, *ys, *contents])


def _after_carry(pure: ClosedJaxpr, layout: ScanLayout, num_carry: int) -> ClosedJaxpr:
    """Move the last inputs and outputs, which are contents, to the end of the carry."""
    count = layout.num_carry - num_carry

    def moved(atoms: list[Any], place: int) -> list[Any]:
        before, after, contents = split_list(atoms, [place, len(atoms) - count - place])
        return [*before, *contents, *after]

    jaxpr = pure.jaxpr
    invars, outvars = moved(jaxpr.invars, layout.num_consts + num_carry), moved(jaxpr.outvars, num_carry)
    return ClosedJaxpr(jaxpr.replace(invars=invars, outvars=outvars), pure.consts)


def discharge_while(loop: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a while loop some of whose consts, of predicate or body, are Refs."""
    given = WhileLayout.of(params).split(args)
    by_cond = written(params["cond_jaxpr"], given.of_cond)
    carried: list[Ref] = list(dict.fromkeys([*by_cond, *written(params["body_jaxpr"], given.of_body)]))
    cond = pure_jaxpr(params["cond_jaxpr"], given.of_cond, carried)
    body = pure_jaxpr(params["body_jaxpr"], given.of_body, carried)
    operands = WhileParts(
        contents_of(given.cond_consts, carried),
        contents_of(given.body_consts, carried),
        [*given.carry, *contents_of(carried)],
    )
    if by_cond:
        return write_back(carried, _rotated(loop, cond, body, operands))
    test = ClosedJaxpr(cond.jaxpr.replace(outvars=cond.jaxpr.outvars[:1]), cond.consts)
    out = loop.bind(*operands.join(), **operands.params, cond_jaxpr=test, body_jaxpr=body)
    return write_back(carried, out)


def _rotated(loop: Primitive, cond: ClosedJaxpr, body: ClosedJaxpr, operands: WhileParts[Any]) -> list[Any]:
    """A loop whose predicate writes: while p(x): x = b(x) as go = p(x), then while go: x = b(x); go = p(x)."""
    n_cond, n = len(operands.cond_consts), len(operands.carry)

    def tested(cond_consts: Sequence[Any], state: Sequence[Any]) -> list[Any]:
        go, *contents = eval_jaxpr(cond.jaxpr, cond.consts, *cond_consts, *state)
        return [*state[: n - len(contents)], *contents, go]

    def step(*flat: Any) -> list[Any]:
        after = eval_jaxpr(body.jaxpr, body.consts, *flat[n_cond:-1])
        return tested(flat[:n_cond], after)

    first = tested(operands.cond_consts, operands.carry)
    rotated = WhileParts([], [*operands.cond_consts, *operands.body_consts], first)
    avals = rotated.map(aval_of)
    out = loop.bind(
        *rotated.join(),
        **rotated.params,
        cond_jaxpr=trace_to_jaxpr(lambda *flat: [flat[-1]], avals.of_cond),
        body_jaxpr=trace_to_jaxpr(step, avals.of_body, name=body.jaxpr.name),
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
