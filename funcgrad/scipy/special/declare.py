"""How the functions of this package are declared: conversion of operands, arithmetic in float64, derivatives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, tree
from funcgrad.arguments.promotion import promote_inexact, promote_shapes
from funcgrad.config import enable_x64
from funcgrad.core.array_types import aval_of
from funcgrad.core.primitives import Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import DTypeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.scipy.special.coefficients import Table
from funcgrad.transforms.custom_rules.jvp import custom_jvp
from funcgrad.transforms.jit import jit
from funcgrad.transforms.vmap import vmap

Partial = Callable[..., Any]
"""A partial derivative: called with the result and the operands."""


def real_operands(name: str, *xs: Any) -> list[Any]:
    """Return the operands as floats of one dtype and one shape, or scalars; refuse complex numbers."""
    operands = promote_shapes(*promote_inexact(*xs, operation=name), operation=name)
    if dtypes.is_complex(aval_of(operands[0]).dtype):
        raise DTypeError(f"{name}: operands have type {aval_of(operands[0])}", fix="pass real numbers")
    return operands


def in_double(formula: FunctionType, keep_weak: bool = False) -> Callable[..., Any]:
    """Evaluate a formula in float64, and round its results to the dtype of the operands.

    The formula gets a function that evaluates the polynomial of a `Table`, a shorter one for narrow results, and the
    operands. It is compiled. Its results are weakly typed only with `keep_weak`, where JAX's are.
    """

    def function(*xs: Any) -> Any:
        aval = aval_of(xs[0])

        def polynomial(table: Table, x: Any) -> Any:
            return horner(table.full if aval.dtype == dtypes.float64 else table.short, x)

        with enable_x64():
            out = formula(polynomial, *(convert_element_type(x, dtypes.float64) for x in xs))
        return tree.map(lambda y: convert_element_type(y, aval.dtype, keep_weak and aval.weak_type), out)

    function.__name__ = formula.__name__.strip("_")
    return jit(function)


def horner(coefficients: tuple[float, ...], x: Any) -> Any:
    """The polynomial with these coefficients, lowest power first."""
    out: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        out = out * x + c
    return out


def with_partials(function: Callable[..., Any], partials: tuple[Partial | None, ...]) -> Callable[..., Any]:
    """Give a function its partial derivatives, one per operand. Only those that are needed are computed.

    None stands for an operand that is not differentiated.
    """
    differentiable = custom_jvp(function)

    def rule(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        out = differentiable(*primals)
        total = tree.map(jnp.zeros_like, out)
        for partial, tangent in zip(partials, tangents, strict=True):
            if partial is not None and not isinstance(tangent, Zero):
                slope = partial(out, *primals)
                total = tree.map(lambda t, d, v=tangent: t + (d * v).astype(t.dtype), total, slope)
        return out, total

    differentiable.defjvp(rule, symbolic_zeros=True)
    return differentiable


def real_function(
    *partials: Partial | None, wide: bool = False, keep_weak: bool = False
) -> Callable[[FunctionType], Callable[..., Any]]:
    """Decorate a formula of real numbers: promote its operands, and give it its partial derivatives if there are any.

    With `wide`, the formula is evaluated by `in_double`, and gets the function that evaluates polynomials first.
    """

    def decorate(formula: FunctionType) -> Callable[..., Any]:
        inner = in_double(formula, keep_weak) if wide else formula
        inner = with_partials(inner, partials) if partials else inner

        @functools.wraps(formula)
        def function(*xs: Any) -> Any:
            return inner(*real_operands(formula.__name__, *signature.bind(*xs).args))

        signature = inspect.signature(formula)
        if wide:
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        function.__signature__ = signature  # ty: ignore[missing-attribute]
        return function

    return decorate


def of_primitive(name: str, primitive: Primitive, parameters: str, doc: str) -> Callable[..., Any]:
    """Make a function that promotes its operands and binds a primitive."""

    def function(*xs: Any) -> Any:
        return primitive.bind(*real_operands(name, *signature.bind(*xs).args))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(p, kind) for p in parameters.split()])
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    function.__signature__ = signature  # ty: ignore[missing-attribute]
    return function


def by_element(function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a function of scalars, which may have loops, to each element of its operands."""

    def elementwise(*xs: Any) -> Any:
        shape = np.broadcast_shapes(*(aval_of(x).shape for x in xs))
        if not shape:
            return function(*xs)
        flat = [jnp.ravel(jnp.broadcast_to(x, shape)) for x in xs]
        return tree.map(lambda y: jnp.reshape(y, shape), vmap(function)(*flat))

    return elementwise
