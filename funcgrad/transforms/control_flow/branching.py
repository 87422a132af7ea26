"""cond and switch: one of several functions, chosen at run time. The primitive is in `conditional`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.config import config
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.devices import default_backend
from funcgrad.core.jaxprs import ClosedJaxpr, Var
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.logic import ne_p
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow.common import Body, join_consts, trace_body
from funcgrad.transforms.control_flow.conditional import cond_p
from funcgrad.transforms.control_flow.refs import close_over_refs
from funcgrad.transforms.flattening import as_arrays, callable_or_error, name_of, places

_NONE: Any = object()


@boundary
def cond(
    pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any, operand: Any = _NONE
) -> Any:
    """Return true_fun(*operands) if `pred` holds, else false_fun(*operands); only that one is run.

    Both functions are traced, whatever `pred` is, and must return pytrees of one structure, with leaves of the
    same shapes and dtypes. `pred` is a scalar bool, or a number that is compared with 0. They may close over
    traced values; derivatives are those of the branch taken. Under `vmap` with a batched `pred`, both are run
    on the whole batch and selected from, unless one contains a loop: then each element runs its own.

    The form ``cond(pred, true_operand, true_fun, false_operand, false_fun)`` has one operand for each function.
    With `disable_jit` and a `pred` that is known, the function is called without tracing.

    >>> cond(True, lambda x: x + 1, lambda x: x * 2, 5)
    Array(6, dtype=int32, weak_type=True)

    Raises:
      ShapeError, DTypeError, ArgumentError: `pred` is no scalar number, or the functions' results differ.
    """
    if len(operands) == 2 and callable(operands[1]) and callable(false_fun) and not callable(true_fun):
        (true_operand, of_true), (false_operand, of_false) = (true_fun, false_fun), operands
        return cond(pred, lambda t, _: of_true(t), lambda _, f: of_false(f), true_operand, false_operand)
    for fun in (true_fun, false_fun):
        callable_or_error(fun, "cond")
    chosen = _as_scalar(pred, "cond: pred", "write the condition as one bool, e.g. with .any() or .all()")
    if dtypes.is_complex(aval_of(chosen).dtype):
        raise DTypeError(f"cond: pred has type {aval_of(chosen)}", fix="give a bool or a real number")
    index = _index_of_condition(chosen)
    functions = {"false_fun": false_fun, "true_fun": true_fun}
    return _choose("cond", index, functions, _operands("cond", operands, operand))


@boundary
def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any, operand: Any = _NONE) -> Any:
    """Return branches[index](*operands), `index` being clamped to their number; only that one is run.

    The branches must meet the same conditions as the two functions of `cond`.

    >>> switch(7, [lambda x: x + 1, lambda x: x * 2, lambda x: -x], 5.0)
    Array(-5., dtype=float32, weak_type=True)

    Raises:
      ShapeError, DTypeError, ArgumentError: `index` is no scalar integer, there is no branch, or results differ.
    """
    branches = list(branches)
    if not branches:
        raise ArgumentError("switch: there are no branches", fix="give at least one function")
    for fun in branches:
        callable_or_error(fun, "switch")
    chosen = _as_scalar(index, "switch: the index", "give one integer; use vmap for an index per element")
    if not dtypes.is_integer(aval_of(chosen).dtype):
        raise DTypeError(
            f"switch: the index has type {aval_of(chosen)}", fix="cast it with .astype(int), or use lax.cond for a bool"
        )
    values = _operands("switch", operands, operand)
    if len(branches) == 1:
        return branches[0](*values)
    functions = {f"branch {i}": fun for i, fun in enumerate(branches)}
    return _choose("switch", _as_int32(chosen), functions, values)


def platform_dependent(
    *args: Any, default: Callable[..., Any] | None = None, **per_platform: Callable[..., Any]
) -> Any:
    """Return the result of the function for the platform that programs run on, or of `default`.

    >>> platform_dependent(3, cpu=lambda x: x + 1, default=lambda x: x)
    4

    Raises:
      ArgumentError: there is no function for the platform, and no default.
    """
    platform = default_backend()
    fun = per_platform.get(platform, default)
    if fun is None:
        raise ArgumentError(
            f"platform_dependent: there are functions for {', '.join(per_platform) or 'no platform'}, "
            f"this one is {platform}",
            fix=f"give {platform}= or default=",
        )
    return fun(*args)


def _choose(operation: str, index: Any, functions: dict[str, Callable[..., Any]], operands: tuple) -> Any:
    """Trace the functions and bind them as branches; or call the chosen one, with `disable_jit`."""
    known = index.concrete() if isinstance(index, Tracer) else np.asarray(index)
    if config.disable_jit and known is not None:
        return list(functions.values())[int(np.clip(known, 0, len(functions) - 1))](*operands)
    functions, operands = close_over_refs(operation, functions, operands)
    leaves, structure = tree.flatten(operands)
    leaves = as_arrays(leaves, operation, places("operands", structure))
    args, avals = structure.unflatten(leaves), [aval_of(x) for x in leaves]
    bodies = {name: trace_body(fun, args, avals, operation) for name, fun in functions.items()}
    _check_agreement(operation, bodies, functions)
    jaxprs, consts = join_consts(list(bodies.values()))
    inputs = [*consts, *leaves]
    # Results that are the same input in every branch need not go through the primitive.
    columns = zip(*map(_input_positions, jaxprs), strict=True)
    passed = [column[0] if len(set(column)) == 1 else None for column in columns]
    branches = tuple(_without_outputs(j, passed) for j in jaxprs)
    out = iter(cond_p.bind(index, *inputs, branches=branches))
    first = next(iter(bodies.values()))
    return first.unflatten([next(out) if i is None else inputs[i] for i in passed])


def _input_positions(closed: ClosedJaxpr) -> list[int | None]:
    """Return, for each output that is an input, the position of that input; else None."""
    position = {v: i for i, v in enumerate(closed.jaxpr.invars)}
    return [position.get(v) if isinstance(v, Var) else None for v in closed.jaxpr.outvars]


def _without_outputs(closed: ClosedJaxpr, passed: Sequence[int | None]) -> ClosedJaxpr:
    kept = [v for v, i in zip(closed.jaxpr.outvars, passed, strict=True) if i is None]
    return ClosedJaxpr(closed.jaxpr.replace(outvars=kept), closed.consts)


# ---------------------------------------------------------------- arguments


def _operands(operation: str, operands: tuple, operand: Any) -> tuple:
    if operand is _NONE:
        return operands
    if operands:
        raise ArgumentError(
            f"{operation}: operand={operand!r:.40} is given besides {len(operands)} positional operands",
            fix="give all operands by position",
        )
    return (operand,)


def _as_scalar(value: Any, what: str, fix: str) -> Any:
    try:
        aval = aval_of(value)
    except ArgumentError:
        shown = f"{value!r:.60} of type {type(value).__name__}"
        raise ArgumentError(f"{what} is {shown}, it must be a scalar", fix=fix) from None
    if aval.shape:
        raise ShapeError(f"{what} has type {aval}, it must be a scalar", fix=fix)
    return value if isinstance(value, ArrayLike) else as_array(value)


def _index_of_condition(pred: Any) -> Any:
    if not isinstance(pred, Tracer):
        return as_array(np.int32(bool(pred)))
    dtype = aval_of(pred).dtype
    holds = pred if dtype == dtypes.bool_ else ne_p.bind(pred, dtype.type(0))
    return convert_element_type(holds, dtypes.int32)


def _as_int32(index: Any) -> Any:
    if not isinstance(index, Tracer):
        return as_array(np.asarray(index).astype(np.int32))
    return convert_element_type(index, dtypes.int32)


# ---------------------------------------------------------------- agreement of the branches


def _check_agreement(operation: str, bodies: dict[str, Body], functions: dict[str, Callable[..., Any]]) -> None:
    """Raise unless all branches return the same structure, shapes and dtypes (weak types may differ)."""
    (first_name, first), *others = bodies.items()
    for name, body in others:
        pair = ((first_name, first), (name, body))
        if body.out_tree != first.out_tree:
            shown = _results(pair, functions)
            where = tree.describe_mismatch(first_name, first.out_tree, name, body.out_tree)
            raise ArgumentError(
                f"{operation}: {first_name} and {name} return different structures{shown}\n  {where}",
                fix="return pytrees of one structure from all branches",
            )
        paths = first.out_tree.paths()
        differing = [
            (path, a, b)
            for path, a, b in zip(paths, first.out_avals, body.out_avals, strict=True)
            if (a.shape, a.dtype) != (b.shape, b.dtype)
        ]
        if differing:
            of_shapes = any(a.shape != b.shape for _, a, b in differing)
            lines = [f"\n  {_at(path)}{first_name} returns {a.short()}, {name} {b.short()}" for path, a, b in differing]
            raise (ShapeError if of_shapes else DTypeError)(
                f"{operation}: {first_name} and {name} return different types{_results(pair, functions)}"
                + "".join(lines),
                fix="return arrays of one shape (broadcast or pad them)" if of_shapes else "cast one with .astype(...)",
            )


def _at(path: tree.KeyPath) -> str:
    return f"at {tree.keystr(path)} " if path else ""


def _results(bodies: Sequence[tuple[str, Body]], functions: dict[str, Callable[..., Any]]) -> str:
    """Return a line of text for each branch with what it returns."""
    return "".join(f"\n    {name} ({name_of(functions[name])}): {body.show()}" for name, body in bodies)
