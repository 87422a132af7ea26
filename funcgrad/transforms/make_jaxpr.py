"""make_jaxpr and eval_shape: tracing for users."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.core.scopes import bound_axis, named_scope
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.errors import ArgumentError
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import (
    FlatFunction,
    abstract,
    arguments_of,
    callable_or_error,
    name_of,
    not_an_array,
)
from funcgrad.transforms.refs.arguments import RefArguments


def make_jaxpr(
    fun: Callable[..., Any], static_argnums: int | Sequence[int] = (), axis_env: Any = None, return_shape: bool = False
) -> Callable[..., Any]:
    """Return a function that traces `fun` at its arguments and returns the jaxpr instead of the value.

    Example arguments may be arrays, numbers or types (`ShapeDtypeStruct`). With `return_shape` the result is a
    pair of the jaxpr and the types of the function's result.
    `axis_env`, pairs of a name and a size, are axes that collectives in `fun` may name.

    >>> make_jaxpr(lambda x: x * x + 1)(2.0)
    { lambda ; a:f32[]. let b:f32[] = mul a a; c:f32[] = add b 1.0:f32[] in (c,) }
    """
    callable_or_error(fun, "make_jaxpr")
    static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    @boundary
    @functools.wraps(fun)
    def traced(*args: Any, **kwargs: Any) -> Any:
        positions = {i % len(args) for i in static}

        def of_dynamic(*dynamic: Any, **kw: Any) -> Any:
            rest = iter(dynamic)
            return fun(*(a if i in positions else next(rest) for i, a in enumerate(args)), **kw)

        of_dynamic.__name__ = name_of(fun)
        dynamic = tuple(a for i, a in enumerate(args) if i not in positions)
        flat, in_tree = tree.flatten((dynamic, kwargs))
        flat_fun = FlatFunction(of_dynamic, in_tree, transform="make_jaxpr")
        with contextlib.ExitStack() as stack:
            for name, size in axis_env or ():
                stack.enter_context(bound_axis(name, size))
            description = f"tracing make_jaxpr({name_of(fun)})"
            try:
                refs = RefArguments(flat, "make_jaxpr", reusable=False)
            except ArgumentError:
                raise not_an_array(
                    f"make_jaxpr({name_of(fun)})", arguments_of(fun, in_tree)(), flat, abstract
                ) from None
            closed = trace_to_jaxpr(
                refs.of_arrays(flat_fun), refs.array_avals, description=description, name=name_of(fun)
            )
        if not return_shape:
            return closed
        shapes = [ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in closed.out_avals]
        return closed, flat_fun.unflatten_out(shapes)

    return traced


@boundary
def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the shapes and dtypes of `fun(*args, **kwargs)` without computing anything.

    >>> eval_shape(lambda x: x[None] * 2, ShapeDtypeStruct((3,), "float32"))
    ShapeDtypeStruct(shape=(1, 3), dtype=float32)
    """
    return make_jaxpr(fun, return_shape=True)(*args, **kwargs)[1]


def named_call(fun: Callable[..., Any], *, name: str | None = None) -> Callable[..., Any]:
    """Return `fun` with its equations in a scope with its name, or the given one; see `named_scope`.

    >>> import funcgrad.numpy as jnp
    >>> make_jaxpr(named_call(jnp.sin, name="wave"))(1.0).eqns[0].source.scope
    'wave'
    """
    callable_or_error(fun, "named_call")
    return functools.wraps(fun)(named_scope(name or name_of(fun))(fun))
