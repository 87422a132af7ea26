"""checkify: from a function that may raise to one that returns the error as a value.

The function is traced, and its jaxpr interpreted with an error beside the values. A check replaces the error if it is
the first that fails. Where an equation carries jaxprs, these are replaced by jaxprs of (error, values) →
(error, values).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, eval_jaxpr, pruned
from funcgrad.core.layouts import ScanLayout, WhileLayout
from funcgrad.core.masks import split_list
from funcgrad.core.primitives import Transform
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.errors import ArgumentError
from funcgrad.ops.arithmetic import div_p
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.transforms.checkify.automatic import INDICES, SCATTERS, check_division, check_indices, check_nan
from funcgrad.transforms.checkify.error import (
    Error,
    Failure,
    Slot,
    check_p,
    first,
    flatten_error,
    init_error,
    restricted,
    slot_avals,
    unflatten_error,
    with_slots,
)
from funcgrad.transforms.checkify.exceptions import (
    DivisionByZeroError,
    FailedCheckError,
    JaxException,
    NaNError,
    OOBError,
)
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
from funcgrad.transforms.flattening import FlatFunction, callable_or_error, name_of
from funcgrad.transforms.jit import jit_p

ErrorCategory = type[JaxException]
Errors = frozenset[ErrorCategory]
Result = tuple[Error, list[Any]]

user_checks: Errors = frozenset({FailedCheckError})
nan_checks: Errors = frozenset({NaNError})
index_checks: Errors = frozenset({OOBError})
div_checks: Errors = frozenset({DivisionByZeroError})
float_checks = nan_checks | div_checks
automatic_checks = float_checks | index_checks
all_checks = automatic_checks | user_checks


def run_checked(jaxpr: Jaxpr, consts: Sequence[Any], enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    """Evaluate a jaxpr, and what its checks say after `error`."""
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Atom) -> Any:
        return atom.val if type(atom) is Literal else env[atom]

    for eqn in jaxpr.eqns:
        with source_of(eqn.source):
            error, out = CHECKIFY.rule(eqn.primitive)(eqn, enabled, error, [read(v) for v in eqn.invars])
        env.update(zip(eqn.outvars, out, strict=True))
    return error, [read(v) for v in jaxpr.outvars]


# ---------------------------------------------------------------- primitives of first order


def _run_as_is(eqn: JaxprEqn, enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    out = eqn.primitive.bind(*args, **eqn.params)
    return error, out if eqn.primitive.multiple_results else [out]


def _run_nan_checked(eqn: JaxprEqn, enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    error, out = _run_as_is(eqn, enabled, error, args)
    return check_nan(error, enabled, eqn.primitive, out), out


def _run_division(eqn: JaxprEqn, enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    return _run_nan_checked(eqn, enabled, check_division(error, enabled, args), args)


def _run_indexed(eqn: JaxprEqn, enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    return _run_as_is(eqn, enabled, check_indices(error, enabled, eqn.primitive, args, eqn.params), args)


def _run_scatter(eqn: JaxprEqn, enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    """As in JAX, scatters are checked for NaNs together with their indices only."""
    error, out = _run_indexed(eqn, enabled, error, args)
    return check_nan(error, enabled, eqn.primitive, out) if OOBError in enabled else error, out


def _run_check(eqn: JaxprEqn, enabled: Errors, error: Error, args: Sequence[Any]) -> Result:
    return first(error, restricted(eqn.params["structure"].unflatten(args), enabled)), []


# ---------------------------------------------------------------- jaxprs with errors


class Checked(NamedTuple):
    """A jaxpr of (error, inputs) → (error, outputs), the slots of the error that it returns, and its checks."""

    jaxpr: ClosedJaxpr
    slots: tuple[Slot, ...]
    failures: dict[int, Failure]


def checked_jaxpr(closed: ClosedJaxpr, enabled: Errors, slots: tuple[Slot, ...]) -> Checked:
    """Return the jaxpr with errors that have the given slots on entry; remembered on the jaxpr."""
    return closed.memo(("checkify", enabled, slots), lambda: _checked_jaxpr(closed, enabled, slots))


def _checked_jaxpr(closed: ClosedJaxpr, enabled: Errors, slots: tuple[Slot, ...]) -> Checked:
    before = slot_avals(slots)
    after = init_error

    def fun(*flat: Any) -> list[Any]:
        nonlocal after
        error = unflatten_error(slots, flat[: len(before)], {})
        after, out = run_checked(closed.jaxpr, closed.consts, enabled, error, flat[len(before) :])
        return [*flatten_error(after), *out]

    traced = trace_to_jaxpr(fun, [*before, *closed.in_avals], name=closed.jaxpr.name)
    return Checked(traced, tuple(after.payload), after.failures)


def _with_slots_of(error: Error, jaxprs: Sequence[ClosedJaxpr], enabled: Errors) -> Error:
    """Give the error all slots that checks in the jaxprs fill: so it has one type before and after."""
    slots = tuple(error.payload)
    for closed in jaxprs:
        error = with_slots(error, checked_jaxpr(closed, enabled, slots).slots)
    return error


def _has_checks(jaxprs: Sequence[ClosedJaxpr], enabled: Errors, error: Error) -> bool:
    return any(
        closed.jaxpr.effectful or checked_jaxpr(closed, enabled, tuple(error.payload)).failures for closed in jaxprs
    )


def _split_error(error: Error, slots: Sequence[Slot], failures: dict[int, Failure], out: Sequence[Any]) -> Result:
    n = len(slot_avals(slots))
    return unflatten_error(slots, out[:n], error.failures | failures), list(out[n:])


def _consts_first(closed: ClosedJaxpr, num_errors: int, num_consts: int) -> ClosedJaxpr:
    """Reorder inputs (error, consts, others) to (consts, error, others): the error is carried."""
    error, consts, others = split_list(closed.jaxpr.invars, [num_errors, num_consts])
    return ClosedJaxpr(closed.jaxpr.replace(invars=[*consts, *error, *others]), closed.consts)


# ---------------------------------------------------------------- primitives that carry jaxprs


def _run_call(eqn: JaxprEqn, enabled: Errors, error: Error, args: list[Any]) -> Result:
    """The rule of primitives that call one jaxpr once: jit and checkpoint."""
    closed = eqn.params["jaxpr"]
    if not _has_checks([closed], enabled, error):
        return _run_as_is(eqn, enabled, error, args)
    checked = checked_jaxpr(closed, enabled, tuple(error.payload))
    out = eqn.primitive.bind(*flatten_error(error), *args, **eqn.params | {"jaxpr": checked.jaxpr})
    return _split_error(error, checked.slots, checked.failures, out)


def _run_cond(eqn: JaxprEqn, enabled: Errors, error: Error, args: list[Any]) -> Result:
    branches = eqn.params["branches"]
    if not _has_checks(branches, enabled, error):
        return _run_as_is(eqn, enabled, error, args)
    index, *operands = args
    error = _with_slots_of(error, branches, enabled)
    slots = tuple(error.payload)
    checked = [checked_jaxpr(b, enabled, slots) for b in branches]
    params = eqn.params | {"branches": tuple(c.jaxpr for c in checked)}
    out = eqn.primitive.bind(index, *flatten_error(error), *operands, **params)
    return _split_error(error, slots, {k: f for c in checked for k, f in c.failures.items()}, out)


def _run_scan(eqn: JaxprEqn, enabled: Errors, error: Error, args: list[Any]) -> Result:
    closed, operands = eqn.params["jaxpr"], ScanLayout.of(eqn.params).split(args)
    if not _has_checks([closed], enabled, error):
        return _run_as_is(eqn, enabled, error, args)
    error = _with_slots_of(error, [closed], enabled)
    checked = checked_jaxpr(closed, enabled, tuple(error.payload))
    leaves = flatten_error(error)
    body = _consts_first(checked.jaxpr, len(leaves), len(operands.consts))
    operands = operands.replace(carry=[*leaves, *operands.carry])
    out = eqn.primitive.bind(*operands.join(), **eqn.params | operands.params | {"jaxpr": body})
    return _split_error(error, checked.slots, checked.failures, out)


def _run_while(eqn: JaxprEqn, enabled: Errors, error: Error, args: list[Any]) -> Result:
    """The predicate is checked once before the loop, and then at the end of each step, where the next one begins."""
    cond, body, operands = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"], WhileLayout.of(eqn.params).split(args)
    if not _has_checks([cond, body], enabled, error):
        return _run_as_is(eqn, enabled, error, args)
    error, _ = run_checked(cond.jaxpr, cond.consts, enabled, error, operands.of_cond)
    n = len(operands.cond_consts)
    both = cond.memo(("body and predicate", id(body)), lambda: (_then_predicate(cond, body, n), body))[0]
    error = _with_slots_of(error, [both], enabled)
    slots = tuple(error.payload)
    leaves = flatten_error(error)
    checked, predicate = checked_jaxpr(both, enabled, slots), checked_jaxpr(cond, enabled, slots).jaxpr
    predicate = ClosedJaxpr(predicate.jaxpr.replace(outvars=predicate.jaxpr.outvars[-1:]), predicate.consts)
    operands = operands.replace(
        body_consts=[*operands.cond_consts, *operands.body_consts], carry=[*leaves, *operands.carry]
    )
    jaxprs = {
        "cond_jaxpr": _consts_first(predicate, len(leaves), n),
        "body_jaxpr": _consts_first(checked.jaxpr, len(leaves), len(operands.body_consts)),
    }
    out = eqn.primitive.bind(*operands.join(), **eqn.params | operands.params | jaxprs)
    return _split_error(error, slots, checked.failures, out)


def _then_predicate(cond: ClosedJaxpr, body: ClosedJaxpr, num_cond_consts: int) -> ClosedJaxpr:
    """The jaxpr of (predicate's consts, body's consts, carry) → carry that also evaluates the next predicate."""

    def fun(*args: Any) -> list[Any]:
        cond_consts, body_operands = split_list(args, [num_cond_consts])
        carry = eval_jaxpr(body.jaxpr, body.consts, *body_operands)
        eval_jaxpr(cond.jaxpr, cond.consts, *cond_consts, *carry)
        return carry

    return trace_to_jaxpr(fun, [*cond.in_avals[:num_cond_consts], *body.in_avals], name=body.jaxpr.name)


def _run_custom(jaxpr_param: str) -> Callable[[JaxprEqn, Errors, Error, list[Any]], Result]:
    """Functions with rules of their own: the error comes from the function, values and derivatives from the call.

    The rules do not know of errors, so these are computed beside it; compiled, what both compute is computed once.
    """

    def run(eqn: JaxprEqn, enabled: Errors, error: Error, args: list[Any]) -> Result:
        closed = eqn.params[jaxpr_param]
        if not _has_checks([closed], enabled, error):
            return _run_as_is(eqn, enabled, error, args)
        inexact = [dtypes.is_inexact(aval_of(x).dtype) for x in args]
        fixed = [stop_gradient_p.bind(x) if i else x for x, i in zip(args, inexact, strict=True)]
        error, _ = run_checked(closed.jaxpr, closed.consts, enabled, error, fixed)
        silent = closed.memo(("silent", enabled), lambda: _silent(closed, enabled))
        return error, eqn.primitive.bind(*args, **eqn.params | {jaxpr_param: silent})

    return run


def _silent(closed: ClosedJaxpr, enabled: Errors) -> ClosedJaxpr:
    """The jaxpr without its checks, and without effects that give nothing: they are had where the error is computed."""

    def fun(*args: Any) -> list[Any]:
        return run_checked(closed.jaxpr, closed.consts, enabled, init_error, args)[1]

    traced = trace_to_jaxpr(fun, closed.in_avals, name=closed.jaxpr.name)
    eqns = [e for e in traced.eqns if e.outvars]
    return pruned(ClosedJaxpr(traced.jaxpr.replace(eqns=eqns), traced.consts))


def _run_solve(eqn: JaxprEqn, enabled: Errors, error: Error, args: list[Any]) -> Result:
    error, out = _run_custom("solve")(eqn, enabled, error, args)
    return check_nan(error, enabled, eqn.primitive, out), out


# ---------------------------------------------------------------- the table of rules

CHECKIFY = Transform("checkify", derive=lambda p: _run_nan_checked if p.may_make_nan else _run_as_is)
"""Rules (equation, enabled errors, error before, operands) → (error after, results)."""

CHECKIFY.add({div_p: _run_division, check_p: _run_check})
CHECKIFY.add(dict.fromkeys(INDICES, _run_indexed) | dict.fromkeys(SCATTERS, _run_scatter))
CHECKIFY.add({jit_p: _run_call, remat_p: _run_call, cond_p: _run_cond, scan_p: _run_scan, while_p: _run_while})
CHECKIFY.add(dict.fromkeys((custom_jvp_call_p, custom_vjp_call_p), _run_custom("call_jaxpr")))
CHECKIFY.add({custom_vmap_call_p: _run_custom("call"), linear_call_p: _run_custom("callee")})
CHECKIFY.add(dict.fromkeys((linear_solve_p, root_p), _run_solve))

# ---------------------------------------------------------------- the transform


def checkify(f: Callable[..., Any], errors: Errors = user_checks) -> Callable[..., tuple[Error, Any]]:
    """Return a function that returns (error, f(…)) with the error of the first failed check.

    Its checks no longer raise, so it can be compiled, vmapped and differentiated. `errors` selects the checks; sets
    combine with ``|``. The first is the default:

    - ``user_checks``: the `check` calls of the function
    - ``nan_checks``: operations that give a NaN
    - ``index_checks``: indices outside of their array
    - ``div_checks``: denominators that are zero
    - ``float_checks``, ``automatic_checks``, ``all_checks``: NaNs and divisions; these and indices; all

    The computation goes on after a failure, and returns what it returns without checks. Checks that are not among
    `errors` are dropped. Of a mapped function, `checkify(vmap(f))` tells the last element that failed, and evaluates
    both branches of a mapped `cond`; `vmap(checkify(f))` tells every element.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> error, out = fg.jit(checkify(lambda x, i: x[i], errors=index_checks))(jnp.arange(3), 5)
    >>> error.get()
    'out-of-bounds indexing for array of shape (3,): index 5 is out of bounds for axis 0 with size 3, at ...'
    """
    callable_or_error(f, "checkify")
    errors = frozenset(errors)
    for kind in errors:
        if not (isinstance(kind, type) and issubclass(kind, JaxException)):
            raise ArgumentError(
                f"checkify: errors has {kind!r}, which is not a kind of check",
                fix="combine user_checks, nan_checks, index_checks and div_checks with |",
            )

    @functools.wraps(f)
    def checked(*args: Any, **kwargs: Any) -> tuple[Error, Any]:
        # The arguments are closed over, so concrete values stay concrete, as outside checkify.
        _, no_arguments = tree.flatten(((), {}))
        flat_fun = FlatFunction(lambda: f(*args, **kwargs), no_arguments, transform="checkify")
        name = name_of(f)
        closed = trace_to_jaxpr(flat_fun, [], description=f"tracing checkify({name})", name=name)
        error, out = run_checked(closed.jaxpr, closed.consts, errors, init_error, [])
        return error, flat_fun.unflatten_out(out)

    return checked
