"""Custom rules in other forms: custom_gradient, linear_call; and closures made explicit for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree, tree_util
from funcgrad.core import tracing
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, eval_jaxpr
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.tracing import Tracer, Zero, aval_of
from funcgrad.errors import ArgumentError, NotDifferentiableError, ShapeError
from funcgrad.ops.shapes import instantiate, to_dim, zeros_of
from funcgrad.transforms.api import FlatFunction, as_arrays, callable_or_error, name_of, of_positional
from funcgrad.transforms.custom_rules import check_pair
from funcgrad.transforms.custom_vjp import custom_vjp
from funcgrad.transforms.vmap import batch_jaxpr

SymbolicZero = Zero


def zero_from_primal(value: Any, symbolic_zeros: bool = False) -> Any:
    """Return the zero tangent of a value: zeros of its shape and tangent dtype, or a `SymbolicZero`.

    >>> zero_from_primal(3.0)
    Array(0., dtype=float32, weak_type=True)
    """
    zero = Zero.from_primal_value(value)
    return zero if symbolic_zeros else zeros_of(zero.aval)


# ---------------------------------------------------------------- custom_gradient


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


# ---------------------------------------------------------------- closure_convert


def _differentiable(const: Any) -> bool:
    """Whether a constant of a traced function may depend on something that is differentiated."""
    return isinstance(const, Tracer) and dtypes.is_inexact(const.aval.dtype)


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


# ---------------------------------------------------------------- linear_call

Transposed = tuple[ClosedJaxpr, list[Any]]


def _transpose(
    cts: Sequence[Any], *args: Any, callee: ClosedJaxpr, transpose_thunk: Callable[[], Transposed],
    num_callee_consts: int, num_res: int,
) -> list[Any]:  # fmt: skip
    transposed, consts = transpose_thunk()
    n = num_callee_consts + num_res
    closed_over = list(args[:num_callee_consts])
    back = linear_call_p.bind(
        *consts, *args[num_callee_consts:n], *map(instantiate, cts), callee=transposed,
        transpose_thunk=lambda: (callee, closed_over), num_callee_consts=len(consts), num_res=num_res,
    )  # fmt: skip
    return [None] * n + back


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[list[Any], list[Any]]:
    n = params["num_callee_consts"] + params["num_res"]
    if any(type(t) is not Zero for t in tangents[:n]):
        raise NotDifferentiableError(
            "linear_call: a residual is differentiated, but the two functions say only how to transpose",
            fix="differentiate by linear_args only, or use lax.stop_gradient on the residuals",
        )
    pushed = [*primals[:n], *map(instantiate, tangents[n:])]
    return linear_call_p.bind(*primals, **params), linear_call_p.bind(*pushed, **params)


def _batch(
    args: Sequence[Any], dims: Sequence[int | None], *, callee: ClosedJaxpr,
    transpose_thunk: Callable[[], Transposed], num_callee_consts: int, num_res: int,
) -> tuple[list[Any], list[int]]:  # fmt: skip
    axis_name, size = tracing.state.batch_axis
    n = num_callee_consts + num_res
    batched = [i >= n or d is not None for i, d in enumerate(dims)]

    def thunk() -> Transposed:
        transposed, consts = transpose_thunk()
        flags = [False] * len(consts) + batched[num_callee_consts:n] + [True] * len(callee.out_avals)
        return batch_jaxpr(transposed, size, flags, force_out=True, axis_name=axis_name)[0], consts

    leading = [to_dim(a, d, 0 if b else None, size) for a, d, b in zip(args, dims, batched, strict=True)]
    out = linear_call_p.bind(
        *leading, callee=batch_jaxpr(callee, size, batched, force_out=True)[0], transpose_thunk=thunk,
        num_callee_consts=num_callee_consts, num_res=num_res,
    )  # fmt: skip
    return out, [0] * len(out)


def _infer(*avals: ShapedArray, callee: ClosedJaxpr, **params: Any) -> list[ShapedArray]:
    return callee.out_avals


def _evaluate(*arrays: Array, callee: ClosedJaxpr, **params: Any) -> list[Array]:
    return eval_jaxpr(callee.jaxpr, callee.consts, *arrays)


linear_call_p = Primitive(
    "linear_call",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lowering=Inline("callee"),
    multiple_results=True,
    higher_order=True,
)


def linear_call(
    fun: Callable[[Any, Any], Any], fun_transpose: Callable[[Any, Any], Any], residual_args: Any, linear_args: Any
) -> Any:
    """Return fun(residual_args, linear_args), a function that is linear in `linear_args` and whose transpose is given.

    fun_transpose(residual_args, ct) returns the cotangent of `linear_args`, in its structure.

    >>> import funcgrad as fg
    >>> def f(x):
    ...     return linear_call(lambda r, x: x / r, lambda r, ct: 10.0 * ct / r, 2.0, x)
    >>> f(3.0), fg.grad(f)(3.0)
    (Array(1.5, dtype=float32, weak_type=True), Array(5., dtype=float32, weak_type=True))
    """
    residuals, residual_tree = tree.flatten(residual_args)
    linear, linear_tree = tree.flatten(linear_args)
    residuals, linear = as_arrays(residuals), as_arrays(linear)
    residual_avals, linear_avals = [aval_of(x) for x in residuals], [aval_of(x) for x in linear]
    flat_fun = FlatFunction(fun, of_positional(residual_tree, linear_tree), transform="linear_call")
    callee, consts = hoist_tracers(
        trace_to_jaxpr(flat_fun, [*residual_avals, *linear_avals], description=f"tracing {name_of(fun)}")
    )
    out_tree = flat_fun.out_tree

    def transpose_thunk() -> Transposed:
        flat_transpose = FlatFunction(fun_transpose, of_positional(residual_tree, out_tree), transform="linear_call")
        avals = [*residual_avals, *(a.tangent() for a in callee.out_avals)]
        description = f"tracing {name_of(fun_transpose)}"
        transposed, own = hoist_tracers(trace_to_jaxpr(flat_transpose, avals, description=description))
        _check_transpose(flat_transpose.out_tree, transposed.out_avals, linear_tree, linear_avals)
        return transposed, own

    out = linear_call_p.bind(
        *consts, *residuals, *linear, callee=callee, transpose_thunk=transpose_thunk,
        num_callee_consts=len(consts), num_res=len(residuals),
    )  # fmt: skip
    return out_tree.unflatten(out)


def _check_transpose(
    out_tree: Any, out_avals: Sequence[ShapedArray], linear_tree: Any, linear_avals: Sequence[ShapedArray]
) -> None:
    if out_tree != linear_tree:
        raise ArgumentError(
            f"linear_call: fun_transpose returned {out_tree}, but linear_args are {linear_tree}: "
            + tree.describe_mismatch("the result", out_tree, "linear_args", linear_tree),
            fix="return a cotangent in the structure of linear_args",
        )
    for have, wanted in zip(out_avals, linear_avals, strict=True):
        if have.shape != wanted.shape or have.dtype != wanted.tangent().dtype:
            raise ShapeError(
                f"linear_call: fun_transpose returned a cotangent of type {have} for an argument of type {wanted}",
                fix="return a cotangent of the argument's shape and dtype",
            )


__all__ = ["SymbolicZero", "closure_convert", "custom_gradient", "linear_call", "linear_call_p", "zero_from_primal"]
