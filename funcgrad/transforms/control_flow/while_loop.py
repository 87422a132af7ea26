"""while_loop and fori_loop: loops whose length values decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, live, variables_read
from funcgrad.core.layouts import WhileParts
from funcgrad.core.masks import partition_list, select, split_list
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, DTypeError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow.common import Body, check_carry, promoted, same_type, trace_body
from funcgrad.transforms.control_flow.scan import scan_as
from funcgrad.transforms.control_flow.while_rules import while_p
from funcgrad.transforms.flattening import as_arrays, callable_or_error, name_of, places


@boundary
def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Apply a function to a value while a predicate of the value holds.

    The law is this loop, compiled as one; the value is a pytree:

        value = init_val
        while cond_fun(value):
            value = body_fun(value)
        return value

    Args:
      cond_fun: value → a bool scalar; traced, once.
      body_fun: value → value of the same structure, shapes and dtypes; traced, once.
      init_val: the first value. Python numbers take the dtype that `body_fun` makes of them.

    Raises:
      DTypeError, ShapeError: the predicate is not one bool; the body changes a dtype or shape.
      ArgumentError: the body changes the structure.
      NotDifferentiableError: reverse mode; `fori_loop` with static bounds and `scan` have it.

    Forward mode, vmap and jit apply. Mapped over predicates, each element of the batch takes its own number
    of steps.

    >>> while_loop(lambda x: x < 100, lambda x: 2 * x, 3)
    Array(192, dtype=int32, weak_type=True)
    """
    return _while_as("while_loop", cond_fun, body_fun, init_val)


def _while_as(operation: str, cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Apply `while_loop` for an operation of another name, which error messages use."""
    callable_or_error(cond_fun, operation)
    callable_or_error(body_fun, operation)
    init, structure = tree.flatten(init_val)
    init = as_arrays(init, operation, places("the carry", structure))
    if config.disable_jit:
        try:
            return _python_loop(cond_fun, body_fun, structure.unflatten(init))
        except ConcretizationError:
            pass  # the predicate is traced by an enclosing transform
    cond, body, init = _trace(operation, cond_fun, body_fun, init, structure)
    return body.unflatten(_bind(cond, body, init))


def _python_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], value: Any) -> Any:
    """The loop as Python runs it, under disable_jit: a debugger sees every step."""
    while cond_fun(value):
        leaves, structure = tree.flatten(body_fun(value))
        value = structure.unflatten(as_arrays(leaves))
    return value


def _trace(
    operation: str, cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: list[Any], structure: Any
) -> tuple[Body, Body, list[Any]]:
    """Trace predicate and body at types of the carry that are kept; also return the initial carry at these types."""
    args = (structure.unflatten(init),)

    def traced(carry: Sequence[Any]) -> tuple[Body, Body]:
        avals = [aval_of(x) for x in carry]
        cond = trace_body(cond_fun, args, avals, operation)
        _check_predicate(cond, name_of(cond_fun))
        return cond, trace_body(body_fun, args, avals, operation)

    cond, body = traced(init)
    if len(body.out_avals) == len(init):
        converted = promoted(init, body.out_avals)
        if any(a is not b for a, b in zip(init, converted, strict=True)):
            init = converted
            cond, body = traced(init)
    check_carry(operation, name_of(body_fun), structure, [aval_of(x) for x in init], body.out_tree, body.out_avals)
    return cond, body, init


def _check_predicate(cond: Body, name: str) -> None:
    if cond.out_tree != tree.structure(0):
        raise ArgumentError(
            f"while_loop: the predicate {name} must return one bool, it returned "
            f"{cond.out_tree.show(map(repr, cond.out_avals))}",
            fix="return one array of dtype bool and shape ()",
        )
    (aval,) = cond.out_avals
    if not same_type(aval, ShapedArray((), dtypes.bool_)):
        shaped = bool(aval.shape)
        raise (ShapeError if shaped else DTypeError)(
            f"while_loop: the predicate {name} must return a bool scalar, it returned {aval}",
            fix="reduce it with .all() or .any()" if shaped else "compare, for instance x != 0",
        )


def _bind(cond: Body, body: Body, init: list[Any]) -> list[Any]:
    """Bind the loop; carries that the body never changes and the predicate does not read become consts."""
    cond_jaxpr, body_jaxpr = cond.jaxpr.jaxpr, body.jaxpr.jaxpr
    cond_consts, cond_carry = split_list(cond_jaxpr.invars, [len(cond.consts)])
    eqns = live(cond_jaxpr.eqns, cond_jaxpr.outvars)
    read = variables_read(eqns, cond_jaxpr.outvars)
    kept = [same == i and v not in read for i, (same, v) in enumerate(zip(body.forwarded(), cond_carry, strict=True))]
    if any(kept):
        cond_jaxpr = cond_jaxpr.replace(invars=[*cond_consts, *select(cond_carry, kept, False)], eqns=eqns)
        consts, carry = split_list(body_jaxpr.invars, [len(body.consts)])
        changed, unchanged = partition_list(kept, carry)
        outvars = select(body_jaxpr.outvars, kept, False)
        body_jaxpr = body_jaxpr.replace(invars=[*unchanged, *consts, *changed], outvars=outvars)
    changed, unchanged = partition_list(kept, init)
    operands = WhileParts(cond.consts, [*unchanged, *body.consts], changed)
    jaxprs = {"cond_jaxpr": ClosedJaxpr(cond_jaxpr), "body_jaxpr": ClosedJaxpr(body_jaxpr)}
    out = iter(while_p.bind(*operands.join(), **operands.params, **jaxprs))
    return [x if k else next(out) for x, k in zip(init, kept, strict=True)]


@boundary
def fori_loop(
    lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any, *, unroll: int | bool | None = None
) -> Any:
    """Apply a function of an index and a value for each index from `lower` to `upper` − 1.

    The law is this loop, compiled as one; the value is a pytree:

        value = init_val
        for i in range(lower, upper):
            value = body_fun(i, value)
        return value

    With bounds that are known when it is traced it is a `scan`, and can be differentiated in reverse mode;
    with traced bounds it is a `while_loop`, and cannot.

    Args:
      lower, upper: integer scalars of one dtype; of a Python int and an array, the array's.
      body_fun: (i, value) → value of the same structure, shapes and dtypes; traced, once.
      init_val: the first value. Python numbers take the dtype that `body_fun` makes of them.
      unroll: for known bounds, how many steps a round of the compiled loop may do; True or 0: all.

    Raises:
      DTypeError, ShapeError: bounds differ in dtype or are no scalars; the body changes a dtype or shape.
      ArgumentError: `unroll` with traced bounds; the body changes the structure.

    >>> fori_loop(0, 5, lambda i, total: total + i, 0)
    Array(10, dtype=int32, weak_type=True)
    """
    callable_or_error(body_fun, "fori_loop")
    dtype = _bounds_dtype(aval_of(lower), aval_of(upper))
    if _is_known(lower) and _is_known(upper):
        first, length = int(lower), max(int(upper) - int(lower), 0)
        if config.disable_jit and not length:
            return init_val

        def scanned(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            i, value = carry
            return (i + 1, body_fun(i, value)), None

        scanned.__name__ = name_of(body_fun)
        unroll = False if unroll is None else unroll
        return scan_as("fori_loop", scanned, (first, init_val), None, length, False, unroll)[0][1]
    if unroll not in (None, False, 1):
        raise ArgumentError(
            f"fori_loop: unroll={unroll} with bounds that are traced",
            fix="leave out unroll, or give Python ints as bounds",
        )

    def stepped(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        i, end, value = carry
        return i + 1, end, body_fun(i, value)

    stepped.__name__ = name_of(body_fun)
    bounds = [convert_element_type(x, dtype) if aval_of(x).dtype != dtype else x for x in (lower, upper)]
    return _while_as("fori_loop", lambda carry: carry[0] < carry[1], stepped, (*bounds, init_val))[2]


def _is_known(bound: Any) -> bool:
    return not isinstance(bound, Tracer) or bound.concrete() is not None


def _bounds_dtype(lower: ShapedArray, upper: ShapedArray) -> Any:
    """The dtype of the index: the common dtype of the bounds, or of the bound that is not a Python int."""
    if lower.shape or upper.shape:
        raise ShapeError(f"fori_loop: bounds must be scalars, they have types {lower} and {upper}", fix="give scalars")
    if lower.dtype == upper.dtype:
        return lower.dtype
    signed = all(a.dtype.kind == "i" for a in (lower, upper))
    if signed and lower.weak_type != upper.weak_type:
        return upper.dtype if lower.weak_type else lower.dtype
    raise DTypeError(
        f"fori_loop: bounds have different types, {lower} and {upper}",
        fix="give both one integer dtype, or one of them as a Python int",
    )
