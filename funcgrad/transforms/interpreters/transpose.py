"""Transposition: run a linear jaxpr backwards, from cotangents of its outputs to cotangents of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, Literal, Var
from funcgrad.core.masks import broadcast_mask, nonzero, select, with_zeros
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import UndefinedPrimal, Zero
from funcgrad.ops.elementwise import add_any
from funcgrad.ops.shapes import instantiate


def backward_pass(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Return the cotangent of each argument: Aᵀ·ct for the linear map A that `jaxpr` is.

    Arguments given as `UndefinedPrimal` are the linear ones; the others are values. Cotangents may be Zero,
    and Zero is returned where nothing flows back (always for arguments that are values).
    """
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    linear: set[Var] = set()
    for var, arg in zip(jaxpr.invars, args, strict=True):
        if type(arg) is UndefinedPrimal:
            linear.add(var)
        else:
            env[var] = arg

    def read(atom: Atom) -> Any:
        if type(atom) is Literal:
            return atom.val
        return UndefinedPrimal(atom.aval) if atom in linear else env[atom]

    linear_eqns = []
    for eqn in jaxpr.eqns:
        if any(v in linear for v in eqn.invars):
            linear_eqns.append(eqn)
            linear.update(eqn.outvars)
        else:
            with source_of(eqn.source):
                out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
            env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))

    flowing: dict[Var, Any] = {}

    def accumulate(atom: Atom, cotangent: Any) -> None:
        if type(cotangent) is not Zero and cotangent is not None and atom in linear:
            flowing[atom] = add_any(flowing[atom], cotangent) if atom in flowing else cotangent

    for atom, cotangent in zip(jaxpr.outvars, cotangents, strict=True):
        accumulate(atom, cotangent)
    for eqn in reversed(linear_eqns):
        if not any(v in flowing for v in eqn.outvars):
            continue
        out = [flowing.pop(v) if v in flowing else Zero(v.aval.tangent()) for v in eqn.outvars]
        with source_of(eqn.source):
            back = eqn.primitive.transpose(
                out if eqn.primitive.multiple_results else out[0], *map(read, eqn.invars), **eqn.params
            )
            for atom, cotangent in zip(eqn.invars, back, strict=True):
                accumulate(atom, cotangent)
    return [flowing.get(v, Zero(aval_of(a).tangent())) for v, a in zip(jaxpr.invars, args, strict=True)]


def transpose_jaxpr(
    closed: ClosedJaxpr,
    linear: Sequence[bool],
    nonzero_in: Sequence[bool],
    instantiate_out: Sequence[bool] | bool = False,
) -> tuple[ClosedJaxpr, list[bool]]:
    """Return the jaxpr of (values, nonzero cotangents) → nonzero cotangents of linear inputs, and their mask.

    `linear` is the mask of the linear inputs; the others are values. `nonzero_in` is the mask of the outputs that have
    a cotangent. Cotangents of the linear inputs in `instantiate_out` are returned even when they are zero.
    """
    wanted = broadcast_mask(instantiate_out, sum(linear))
    key = ("transpose", tuple(linear), tuple(nonzero_in), wanted)
    return closed.memo(key, lambda: _transpose_jaxpr(closed, linear, nonzero_in, wanted))


def _transpose_jaxpr(
    closed: ClosedJaxpr, linear: Sequence[bool], nonzero_in: Sequence[bool], wanted: Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    nonzero_back: list[bool] = []

    def fun(*flat: Any) -> list[Any]:
        given = iter(flat)
        args = [UndefinedPrimal(a) if lin else next(given) for a, lin in zip(closed.in_avals, linear, strict=True)]
        cts = with_zeros(given, nonzero_in, closed.out_avals)
        back = backward_pass(closed.jaxpr, closed.consts, args, cts)
        of_linear = [instantiate(b) if w else b for b, w in zip(select(back, linear), wanted, strict=True)]
        nonzero_back[:] = nonzero(of_linear)
        return select(of_linear, nonzero_back)

    cotangent_avals = [a.tangent() for a in select(closed.out_avals, nonzero_in)]
    in_avals = [*select(closed.in_avals, linear, False), *cotangent_avals]
    return trace_to_jaxpr(fun, in_avals, name=f"transpose_{closed.jaxpr.name}"), nonzero_back
