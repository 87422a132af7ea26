"""Taylor mode: push truncated power series through primitives, for high derivatives along a path.

Nested jvp needs 2^K evaluations for K derivatives, a series K²/2 operations. Three kinds of rules, in `rules`,
do for the common operations; other operations use their jvp rule along the path x(t):

    y = f(x),   y'(t) = ∂f(x(t))·x'(t)   ⟹   k·y_k = coefficient k − 1 of the series of ∂f(x)·v at (x, v) = (x, x')

The right-hand side is a function traced from the jvp rule, without what only f itself needs, and takes a series that is
shorter by one. So custom derivatives hold to all orders. (Griewank and Walther, Evaluating Derivatives, chapter 13.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.arithmetic import abs_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import zeros_of
from funcgrad.transforms.checkpoint.remat import remat_p
from funcgrad.transforms.control_flow.conditional import cond_p
from funcgrad.transforms.control_flow.scan_rules import scan_p
from funcgrad.transforms.control_flow.while_rules import while_p
from funcgrad.transforms.custom_rules.batching import custom_vmap_call_p
from funcgrad.transforms.custom_rules.jvp import custom_jvp_call_p
from funcgrad.transforms.custom_rules.linear_call import linear_call_p
from funcgrad.transforms.custom_rules.linear_solve import linear_solve_p
from funcgrad.transforms.custom_rules.root import root_p
from funcgrad.transforms.custom_rules.vjp import custom_vjp_call_p
from funcgrad.transforms.flattening import FlatFunction, as_arrays, callable_or_error
from funcgrad.transforms.jet.higher_order import call_rule, cond_rule, scan_rule, while_rule
from funcgrad.transforms.jet.rules import PIECEWISE_LINEAR, RECURRENCES, Coefficients, scaled
from funcgrad.transforms.jet.trace import JET, Inlined, derivative_rule, jet_flat, linear_rule
from funcgrad.transforms.jit import jit_p


def _recurrence(rule: Callable[..., Coefficients]) -> Callable[..., list[Coefficients]]:
    """A rule of `rules` as one for this table."""
    return lambda primitive, series, params: [rule(*series, **params)]


def _magnitude_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """The magnitude of a complex number is curved where that of a real number is linear."""
    bends = dtypes.is_complex(aval_of(series[0][0]).dtype)
    return (derivative_rule if bends else linear_rule)(primitive, series, params)


JET.add({primitive: _recurrence(rule) for primitive, rule in RECURRENCES.items()})
JET.add(dict.fromkeys(PIECEWISE_LINEAR, linear_rule))
JET.add({abs_p: _magnitude_rule})
JET.add({jit_p: call_rule, remat_p: call_rule, cond_p: cond_rule, scan_p: scan_rule, while_p: while_rule})
JET.add({custom_vjp_call_p: Inlined("call_jaxpr"), custom_vmap_call_p: Inlined("call")})
JET.add(dict.fromkeys((custom_jvp_call_p, linear_call_p, linear_solve_p, root_p), derivative_rule))

# ---------------------------------------------------------------- the transform


def jet(
    fun: Callable[..., Any],
    primals: Sequence[Any],
    series: Sequence[Sequence[Any]],
    factorial_scaled: bool = True,
    **_: Any,
) -> tuple[Any, Any]:
    """Return `fun` at a point, and its derivatives to order K along a path through it.

    The arguments follow the path h(t) with h(0) = `primals`; `series` has for each argument the list of its first K
    derivatives at 0. Returns fun(h(0)), and for each result the list of the first K derivatives of fun(h(t)) at 0:

        f₁ = ∂f·h₁,   f₂ = ∂²f·(h₁, h₁) + ∂f·h₂,   …          (Faà di Bruno)

    With `factorial_scaled=False` both series are Taylor coefficients, derivatives divided by k!.

    >>> import funcgrad.numpy as jnp
    >>> value, (first, second) = jet(jnp.exp, (0.0,), ([1.0, 0.0],))
    >>> print(value, first, second)
    1.0 1.0 1.0

    Raises:
      ArgumentError: the arguments have series of different lengths, or not one each.
      DTypeError, ShapeError: an argument is not real or complex, or a term does not have the shape of its argument.
    """
    callable_or_error(fun, "jet")
    order = _order(primals, series)
    scales = [math.factorial(k) if factorial_scaled else 1 for k in range(1, order + 1)]
    expanded = [_argument(i, x, terms, scales) for i, (x, terms) in enumerate(zip(primals, series, strict=True))]
    flat_fun = FlatFunction(fun, tree.structure((tuple(primals), {})), transform="jet")
    outs = jet_flat(flat_fun, expanded) if expanded else [[x, *[Zero(aval_of(x))] * order] for x in flat_fun()]
    terms_out = []
    for primal, *terms in outs:
        aval = aval_of(primal)
        terms_out.append(
            [zeros_of(aval) if type(c) is Zero else scaled(c, s) for c, s in zip(terms, scales, strict=True)]
        )
    return flat_fun.unflatten_out([s[0] for s in outs]), flat_fun.unflatten_out(terms_out)


def _order(primals: Sequence[Any], series: Sequence[Sequence[Any]]) -> int:
    lengths = [len(terms) for terms in series]
    if len(lengths) != len(primals) or len(set(lengths)) > 1:
        raise ArgumentError(
            f"jet: {len(primals)} arguments have series of {lengths} terms",
            fix="give for each argument a list of as many terms; zeros where there is nothing",
        )
    return lengths[0] if lengths else 0


def _argument(position: int, x: Any, terms: Sequence[Any], scales: Sequence[int]) -> Coefficients:
    for what in (x, *terms):
        if tree.structure(what).num_nodes != 1 or tree.structure(what).num_leaves != 1:
            raise ArgumentError(
                f"jet: argument {position} or a term of it is a {type(what).__name__}, not an array",
                fix="make each array an argument of its own",
            )
    primal, *given = as_arrays([x, *terms])
    aval = aval_of(primal)
    if not dtypes.is_inexact(aval.dtype):
        raise DTypeError(
            f"jet: argument {position} has type {aval}, along which there are no derivatives",
            fix="pass a float, or close over the argument",
        )
    out = [primal]
    for k, (term, scale) in enumerate(zip(given, scales, strict=True), 1):
        if aval_of(term).shape != aval.shape:
            raise ShapeError(
                f"jet: term {k} of argument {position} has type {aval_of(term)}, the argument is {aval}",
                fix="give terms of the argument's shape",
            )
        term = convert_element_type(term, aval.dtype, aval.weak_type)
        out.append(term if scale == 1 else term / scale)
    return out


__all__ = ["jet"]
