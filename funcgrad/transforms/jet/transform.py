"""Taylor mode: push truncated power series through primitives, for high derivatives along a path.

Nested jvp needs 2^K evaluations for K derivatives, a series K²/2 operations. Three kinds of rules, in `jet_rules`,
do for the common operations; whatever has a jvp rule is differentiated by it along the path x(t):

    y = f(x),   y'(t) = ∂f(x(t))·x'(t)   ⟹   k·y_k = coefficient k − 1 of the series of ∂f(x)·v at (x, v) = (x, x')

The right-hand side is a function traced from the jvp rule, without what only f itself needs, and takes a series that is
shorter by one. So custom derivatives hold to all orders. (Griewank and Walther, Evaluating Derivatives, chapter 13.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes, tree
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout, WhileParts
from funcgrad.core.masks import nonzero, select, with_zeros
from funcgrad.core.primitives import Primitive, Transform
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import Trace
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.arithmetic import abs_p
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import broadcast_scalar, instantiate, zeros_of
from funcgrad.transforms.checkpoint.remat import remat_p
from funcgrad.transforms.control_flow.common import fixpoint
from funcgrad.transforms.control_flow.conditional import cond_p
from funcgrad.transforms.control_flow.scan_rules import scan_p
from funcgrad.transforms.control_flow.while_rules import while_p
from funcgrad.transforms.custom_rules.batching import custom_vmap_call_p
from funcgrad.transforms.custom_rules.common import call
from funcgrad.transforms.custom_rules.jvp import custom_jvp_call_p
from funcgrad.transforms.custom_rules.linear_call import linear_call_p
from funcgrad.transforms.custom_rules.linear_solve import linear_solve_p
from funcgrad.transforms.custom_rules.root import root_p
from funcgrad.transforms.custom_rules.vjp import custom_vjp_call_p
from funcgrad.transforms.flattening import FlatFunction, as_arrays, callable_or_error
from funcgrad.transforms.interpreters.partial_eval import pruned
from funcgrad.transforms.jet.rules import PIECEWISE_LINEAR, RECURRENCES, Coefficients, derivative, scaled
from funcgrad.transforms.jit import jit_p

# ---------------------------------------------------------------- the trace


class JetTracer(Tracer):
    """A truncated power series [x₀, x₁, …]; coefficients but the first may be Zero."""

    __slots__ = ("aval", "coefficients")

    def __init__(self, trace: JetTrace, coefficients: Coefficients):
        self._trace, self.coefficients = trace, coefficients
        self.aval = aval_of(coefficients[0])

    def concrete(self) -> Any:
        primal = self.coefficients[0]
        return primal.concrete() if isinstance(primal, Tracer) else primal.host

    def origin(self) -> str:
        primal = self.coefficients[0]
        return primal.origin() if isinstance(primal, Tracer) else ""


class JetTrace(Trace):
    """Apply the rules for series; primitives whose inputs are constant go straight to the parent."""

    def __init__(self, parent: Trace, order: int, description: str = ""):
        self.parent, self.order, self.description = parent, order, description

    def series(self, x: Any) -> Coefficients:
        """Return the coefficients of a value, zeros for a constant."""
        if isinstance(x, JetTracer) and x._trace is self:
            return x.coefficients
        return [x, *[Zero(aval_of(x).tangent())] * self.order]

    def join(self, coefficients: Coefficients) -> Any:
        """Return a tracer, or the value itself when nothing else is there."""
        primal, *terms = coefficients
        if all(type(c) is Zero for c in terms):
            return primal
        aval = aval_of(primal).tangent()
        return JetTracer(self, [primal, *(_typed(c, aval) for c in terms)])

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        rule = JET.rule(primitive)
        if isinstance(rule, _Inlined):
            return call(params[rule.param], args)
        series = [self.series(a) for a in args]
        with traces.bypassing(self) if primitive.higher_order else traces.current(self.parent):
            if all(type(c) is Zero for s in series for c in s[1:]):
                return primitive.bind(*args, **params)
            out = rule(primitive, series, params)
        return [self.join(s) for s in out] if primitive.multiple_results else self.join(out[0])


class _Inlined(NamedTuple):
    """The rule of calls whose own rules are no help here: to the trace, they are what the function in `param` does."""

    param: str


def _typed(coefficient: Any, aval: ShapedArray) -> Any:
    """Give a coefficient the type of its value: scalars stand for every element, and constants are weakly typed."""
    if type(coefficient) is Zero:
        return Zero(aval)
    return broadcast_scalar(convert_element_type(coefficient, aval.dtype, aval.weak_type), aval.shape)


def jet_flat(fun: Callable[..., Sequence[Any]], series: Sequence[Coefficients]) -> list[Coefficients]:
    """Return the coefficients of the results of a flat function."""
    trace = JetTrace(traces.state.trace, len(series[0]) - 1, f"expanding {getattr(fun, '__name__', 'a function')}")
    with traces.new_trace(trace):
        outs = fun(*map(trace.join, series))
        return [trace.series(x) for x in outs]


# ---------------------------------------------------------------- rules from the jvp rule


def _values(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Any]:
    out = primitive.bind(*(s[0] for s in series), **params)
    return list(out) if primitive.multiple_results else [out]


def _linear_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """y_k = ∂f(x₀)·x_k."""
    primals = [s[0] for s in series]
    out = [[y] for y in _values(primitive, series, params)]
    for k in range(1, len(series[0])):
        terms = [s[k] for s in series]
        for results, y in zip(out, _directional(primitive, primals, terms, params), strict=True):
            results.append(y)
    return out


def _directional(primitive: Primitive, primals: list[Any], tangents: list[Any], params: dict[str, Any]) -> list[Any]:
    """Return ∂f(x)·v."""
    mask = nonzero(tangents)
    closed, nonzero_out, avals = _tangent_jaxpr(primitive, primals, mask, params)
    out = iter(eval_jaxpr(closed.jaxpr, closed.consts, *primals, *select(tangents, mask)) if any(nonzero_out) else [])
    return [next(out) if nz else Zero(a) for nz, a in zip(nonzero_out, avals, strict=True)]


def _derivative_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """y' = ∂f(x)·x' as a series of its own, shorter by one; then y_k = y'_{k−1} / k."""
    values = _values(primitive, series, params)
    if not any(dtypes.is_inexact(aval_of(y).dtype) for y in values):  # nor are effects to be had twice
        return [[y, *[Zero(aval_of(y).tangent())] * (len(series[0]) - 1)] for y in values]
    varying = list(map(_varies, series))
    closed, nonzero_out, avals = _tangent_jaxpr(primitive, [s[0] for s in series], varying, params)
    slopes = map(derivative, select(series, varying))
    slopes = [[instantiate(s[0]), *s[1:]] for s in slopes]
    rates = iter(
        jet_flat(lambda *xs: eval_jaxpr(closed.jaxpr, closed.consts, *xs), [*(s[:-1] for s in series), *slopes])
    )
    out = []
    for y, nz, aval in zip(values, nonzero_out, avals, strict=True):
        rate = next(rates) if nz else [Zero(aval)] * (len(series[0]) - 1)
        out.append([y, *(scaled(c, 1 / k) for k, c in enumerate(rate, 1))])
    return out


_tangent_jaxprs: dict[Any, tuple[ClosedJaxpr, list[bool], list[ShapedArray]]] = {}


def _tangent_jaxpr(
    primitive: Primitive, primals: Sequence[Any], nonzero_in: Sequence[bool], params: dict[str, Any]
) -> tuple[ClosedJaxpr, list[bool], list[ShapedArray]]:
    """Return (primals, nonzero tangents) → the nonzero tangents of the results, which these are, and all their types.

    It computes nothing else: results of the primitive itself are there only where a tangent needs them.
    """
    avals = tuple(map(aval_of, primals))
    if primitive.higher_order:  # functions in its params may close over tracers
        return _trace_tangents(primitive, avals, nonzero_in, params)
    try:
        key = (primitive, avals, tuple(nonzero_in), *params.items())
        found = _tangent_jaxprs.get(key)
    except TypeError:  # a param that does not hash
        return _trace_tangents(primitive, avals, nonzero_in, params)
    if found is None:
        if len(_tangent_jaxprs) > 4096:
            _tangent_jaxprs.clear()
        found = _tangent_jaxprs[key] = _trace_tangents(primitive, avals, nonzero_in, params)
    return found


def _trace_tangents(
    primitive: Primitive, avals: Sequence[ShapedArray], nonzero_in: Sequence[bool], params: dict[str, Any]
) -> tuple[ClosedJaxpr, list[bool], list[ShapedArray]]:
    tangents_out: list[Any] = []

    def fun(*flat: Any) -> list[Any]:
        tangents = with_zeros(flat[len(avals) :], nonzero_in, avals)
        _, out = primitive.jvp(list(flat[: len(avals)]), tangents, **params)
        tangents_out[:] = out if primitive.multiple_results else [out]
        return select(tangents_out, nonzero(tangents_out))

    closed = trace_to_jaxpr(fun, [*avals, *(a.tangent() for a in select(avals, nonzero_in))])
    return pruned(closed), nonzero(tangents_out), [aval_of(t) for t in tangents_out]


# ---------------------------------------------------------------- primitives that carry jaxprs


def jet_jaxpr(
    closed: ClosedJaxpr, order: int, varying: Sequence[bool], force: Sequence[bool] | None = None
) -> tuple[ClosedJaxpr, list[bool]]:
    """Return the jaxpr with each varying input and result followed by its coefficients, and which results vary.

    Results in the mask `force` vary even where they need not. The jaxpr is memoized on `closed`.
    """
    force = tuple(force) if force is not None else (False,) * len(closed.jaxpr.outvars)
    key = ("jet", order, tuple(varying), force)
    return closed.memo(key, lambda: _jet_jaxpr(closed, order, varying, force))


def _jet_jaxpr(
    closed: ClosedJaxpr, order: int, varying: Sequence[bool], force: Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    varying_out: list[bool] = []

    def fun(*flat: Any) -> list[Any]:
        series = _unflatten(flat, varying, order)
        outs = (
            jet_flat(lambda *xs: eval_jaxpr(closed.jaxpr, closed.consts, *xs), series)
            if series
            else [[x, *[Zero(aval_of(x).tangent())] * order] for x in eval_jaxpr(closed.jaxpr, closed.consts)]
        )
        varying_out[:] = [f or _varies(s) for s, f in zip(outs, force, strict=True)]
        return _flatten(outs, varying_out)

    avals = []
    for a, v in zip(closed.in_avals, varying, strict=True):
        avals += [a, *[a.tangent()] * order] if v else [a]
    return trace_to_jaxpr(fun, avals, name=f"jet_{closed.jaxpr.name}"), varying_out


def _varies(series: Coefficients) -> bool:
    return any(nonzero(series[1:]))


def _flatten(series: Sequence[Coefficients], varying: Sequence[bool]) -> list[Any]:
    """Return each value, followed by its coefficients where it varies."""
    return [x for s, v in zip(series, varying, strict=True) for x in (map(instantiate, s) if v else s[:1])]


def _unflatten(flat: Sequence[Any], varying: Sequence[bool], order: int) -> list[Coefficients]:
    rest, out = iter(flat), []
    for v in varying:
        x = next(rest)
        out.append([x, *((next(rest) if v else Zero(aval_of(x).tangent())) for _ in range(order))])
    return out


def _call_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    order, varying = len(series[0]) - 1, list(map(_varies, series))
    jet_of, varying_out = jet_jaxpr(params["jaxpr"], order, varying)
    out = primitive.bind(*_flatten(series, varying), **params | {"jaxpr": jet_of})
    return _unflatten(out, varying_out, order)


def _cond_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    index, *operands = series
    order, varying, branches = len(index) - 1, list(map(_varies, operands)), params["branches"]
    force = [any(flags) for flags in zip(*(jet_jaxpr(b, order, varying)[1] for b in branches), strict=True)]
    jets = tuple(jet_jaxpr(b, order, varying, force)[0] for b in branches)
    out = primitive.bind(index[0], *_flatten(operands, varying), **params | {"branches": jets})
    return _unflatten(out, force, order)


def _scan_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    order, body, layout = len(series[0]) - 1, params["jaxpr"], ScanLayout.of(params)
    varying = layout.split(list(map(_varies, series)))
    num_ys = len(body.jaxpr.outvars) - layout.num_carry

    def step(carry: list[bool]) -> tuple[Sequence[bool], Any]:
        found, varying_out = jet_jaxpr(body, order, varying.replace(carry=carry).join(), [*carry, *[False] * num_ys])
        return varying_out[: len(carry)], (found, varying_out)

    carry, (jet_of, varying_out) = fixpoint(step, varying.carry)
    operands = ScanParts(*map(_flatten, layout.split(series), varying.replace(carry=carry)))
    out = primitive.bind(*operands.join(), **params | operands.params | {"jaxpr": jet_of})
    return _unflatten(out, varying_out, order)


def _while_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """The predicate sees the values only; the number of steps does not vary along the path."""
    order, cond, body, layout = len(series[0]) - 1, params["cond_jaxpr"], params["body_jaxpr"], WhileLayout.of(params)
    varying = layout.split(list(map(_varies, series)))

    def step(carry: list[bool]) -> tuple[Sequence[bool], ClosedJaxpr]:
        found, varying_out = jet_jaxpr(body, order, [*varying.body_consts, *carry], carry)
        return varying_out, found

    carry, jet_of = fixpoint(step, varying.carry)
    varying = varying.replace(cond_consts=[False] * layout.cond_nconsts, carry=carry)
    operands = WhileParts(*map(_flatten, layout.split(series), varying))

    def predicate(*flat: Any) -> list[Any]:
        return eval_jaxpr(cond.jaxpr, cond.consts, *(s[0] for s in _unflatten(flat, varying.of_cond, order)))

    avals = operands.map(aval_of).of_cond
    jets = {
        "cond_jaxpr": cond.memo(("jet", order, tuple(carry)), lambda: trace_to_jaxpr(predicate, avals)),
        "body_jaxpr": jet_of,
    }
    return _unflatten(primitive.bind(*operands.join(), **params | operands.params | jets), carry, order)


# ---------------------------------------------------------------- the table of rules


def _recurrence(rule: Callable[..., Coefficients]) -> Callable[..., list[Coefficients]]:
    """A rule of `jet_rules` as one for this table."""
    return lambda primitive, series, params: [rule(*series, **params)]


def _magnitude_rule(primitive: Primitive, series: list[Coefficients], params: dict[str, Any]) -> list[Coefficients]:
    """The magnitude of a complex number bends where that of a real number is straight."""
    bends = dtypes.is_complex(aval_of(series[0][0]).dtype)
    return (_derivative_rule if bends else _linear_rule)(primitive, series, params)


JET = Transform("jet", derive=lambda primitive: _linear_rule if primitive.moves_only else _derivative_rule)
"""Rules (primitive, series of the operands, params) → series of the results.

First-order primitives without one are differentiated by their jvp rule.
"""

JET.add({primitive: _recurrence(rule) for primitive, rule in RECURRENCES.items()})
JET.add(dict.fromkeys(PIECEWISE_LINEAR, _linear_rule))
JET.add({abs_p: _magnitude_rule})
JET.add({jit_p: _call_rule, remat_p: _call_rule, cond_p: _cond_rule, scan_p: _scan_rule, while_p: _while_rule})
JET.add({custom_vjp_call_p: _Inlined("call_jaxpr"), custom_vmap_call_p: _Inlined("call")})
JET.add(dict.fromkeys((custom_jvp_call_p, linear_call_p, linear_solve_p, root_p), _derivative_rule))

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
      DTypeError, ShapeError: an argument is not real or complex, or a term has not the shape of its argument.
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
