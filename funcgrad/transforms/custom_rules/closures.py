"""Helpers for custom rules: closure_convert and symbolic zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import eval_jaxpr
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError
from funcgrad.ops.shapes import zeros_of
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import FlatFunction, as_arrays, callable_or_error, name_of

SymbolicZero = Zero


def zero_from_primal(value: Any, symbolic_zeros: bool = False) -> Any:
    """Return the zero tangent of a value: zeros of its shape and tangent dtype, or a `SymbolicZero`.

    >>> zero_from_primal(3.0)
    Array(0., dtype=float32, weak_type=True)
    """
    zero = Zero.from_primal_value(value)
    return zero if symbolic_zeros else zeros_of(zero.aval)


def _differentiable(const: Any) -> bool:
    """Whether a constant of a traced function may depend on something that is differentiated."""
    return isinstance(const, Tracer) and dtypes.is_inexact(const.aval.dtype)


@boundary
def closure_convert(fun: Callable[..., Any], *example_args: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Return `fun` with the traced values that it closes over as further arguments, and these values.

    A custom rule gives derivatives by arguments only: a function that is an argument of one is converted first,
    and the values are passed along. It is traced at the types of `example_args`.

    >>> import funcgrad as fg
    >>> def g(y):
    ...     converted, values = closure_convert(lambda x: x * y, 2.0)
    ...     return converted(2.0, *values)
    >>> fg.grad(g)(3.0)
    Array(2., dtype=float32, weak_type=True)
    """
    callable_or_error(fun, "closure_convert")
    leaves, structure = tree.flatten((example_args, {}))
    flat_fun = FlatFunction(fun, structure, transform="closure_convert")
    avals = [aval_of(x) for x in leaves]
    closed = trace_to_jaxpr(flat_fun, avals, description=f"tracing {name_of(fun)} for closure_convert")
    hoisted = [_differentiable(c) for c in closed.consts]
    values = [c for c, h in zip(closed.consts, hoisted, strict=True) if h]

    def converted(*args_and_values: Any) -> Any:
        n = len(args_and_values) - len(values)
        flat, given_structure = tree.flatten((args_and_values[:n], {}))
        if given_structure != structure:
            differences = tree.describe_mismatch("the example", structure, "the arguments", given_structure)
            raise ArgumentError(
                f"closure_convert: {name_of(fun)} was converted for arguments of another structure: {differences}",
                fix="call it with arguments like the example, then the values that were returned with it",
            )
        given = iter(args_and_values[n:])
        consts = [next(given) if h else c for c, h in zip(closed.consts, hoisted, strict=True)]
        return flat_fun.unflatten_out(eval_jaxpr(closed.jaxpr, consts, *as_arrays(flat)))

    converted.__name__ = name_of(fun)
    return converted, values


__all__ = ["SymbolicZero", "closure_convert", "zero_from_primal"]
