"""custom_gradient: a function that returns its pullback with its value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree, tree_util
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import Jaxpr, eval_jaxpr
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.transforms.custom_rules.common import check_pair
from funcgrad.transforms.custom_rules.vjp import custom_vjp
from funcgrad.transforms.flattening import FlatFunction, callable_or_error, name_of


@tree_util.register_pytree_node_class
class _Pullback:
    """The pullback that a function with a custom gradient returned, as a jaxpr; its constants are the residuals."""

    def __init__(self, consts: Sequence[Any], jaxpr: Jaxpr, result_tree: Any):
        self.consts, self.jaxpr, self.result_tree = consts, jaxpr, result_tree

    def tree_flatten(self) -> tuple[Sequence[Any], tuple[Any, ...]]:
        return self.consts, (self.jaxpr, self.result_tree)

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], consts: Sequence[Any]) -> _Pullback:
        return cls(consts, *static)


def custom_gradient(fun: Callable[..., Any]) -> custom_vjp:
    """Return the function whose gradient `fun` gives with its value: fun(*args) returns (value, ct ↦ ∂f(x)ᵀ·ct).

    The map takes a cotangent of the value's structure and returns one cotangent per argument, a tuple when there
    are several.

    >>> import funcgrad as fg
    >>> @custom_gradient
    ... def f(x):
    ...     return x * x, lambda ct: 10.0 * ct
    >>> fg.grad(f)(3.0)
    Array(10., dtype=float32, weak_type=True)
    """
    callable_or_error(fun, "custom_gradient")
    shown = f"custom_gradient: {name_of(fun)}"

    @functools.wraps(fun)
    def value_of(*args: Any) -> Any:
        return check_pair(fun(*args), shown, "(value, pullback)")[0]

    @functools.wraps(fun)
    def fwd(*args: Any) -> tuple[Any, _Pullback]:
        value, pullback = check_pair(fun(*args), shown, "(value, pullback)")
        callable_or_error(pullback, shown)
        leaves, in_tree = tree.flatten(((value,), {}))
        flat_fun = FlatFunction(pullback, in_tree, transform="custom_gradient")
        avals = [aval_of(x).tangent() for x in leaves]
        closed = trace_to_jaxpr(flat_fun, avals, description=f"tracing the pullback of {name_of(fun)}")
        return value, _Pullback(closed.consts, closed.jaxpr, flat_fun.out_tree)

    def bwd(pullback: _Pullback, cotangent: Any) -> tuple:
        flat = eval_jaxpr(pullback.jaxpr, pullback.consts, *tree.leaves(cotangent))
        result = pullback.result_tree.unflatten(flat)
        return result if isinstance(result, (tuple, list)) else (result,)

    function = custom_vjp(value_of)
    function.defvjp(fwd, bwd)
    return function


__all__ = ["custom_gradient"]
