"""linear_call: a linear function with a custom transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ArgumentError, NotDifferentiableError, ShapeError
from funcgrad.ops.shapes import instantiate, to_dim
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import FlatFunction, as_arrays, name_of, of_positional
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.partial_eval import unsplit

Transposed = tuple[ClosedJaxpr, list[Any]]


def _transpose(
    cts: Sequence[Any],
    *args: Any,
    callee: ClosedJaxpr,
    transpose_thunk: Callable[[], Transposed],
    num_callee_consts: int,
    num_res: int,
) -> list[Any]:
    transposed, consts = transpose_thunk()
    n = num_callee_consts + num_res
    closed_over = list(args[:num_callee_consts])
    back = linear_call_p.bind(
        *consts,
        *args[num_callee_consts:n],
        *map(instantiate, cts),
        callee=transposed,
        transpose_thunk=lambda: (callee, closed_over),
        num_callee_consts=len(consts),
        num_res=num_res,
    )
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
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    callee: ClosedJaxpr,
    transpose_thunk: Callable[[], Transposed],
    num_callee_consts: int,
    num_res: int,
) -> tuple[list[Any], list[int]]:
    n = num_callee_consts + num_res
    batched = [i >= n or d is not None for i, d in enumerate(dims)]

    def thunk() -> Transposed:
        transposed, consts = transpose_thunk()
        flags = [False] * len(consts) + batched[num_callee_consts:n] + [True] * len(callee.out_avals)
        return batch_jaxpr(transposed, axis, flags, force_out=True)[0], consts

    leading = [to_dim(a, d, 0 if b else None, axis.size) for a, d, b in zip(args, dims, batched, strict=True)]
    out = linear_call_p.bind(
        *leading,
        callee=batch_jaxpr(callee, axis, batched, force_out=True)[0],
        transpose_thunk=thunk,
        num_callee_consts=num_callee_consts,
        num_res=num_res,
    )
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
    partial_eval=unsplit,
    lowering=Inline("callee"),
    constant_operands=lambda params: range(params["num_callee_consts"] + params["num_res"]),
    multiple_results=True,
    higher_order=True,
)


@boundary
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
        *consts,
        *residuals,
        *linear,
        callee=callee,
        transpose_thunk=transpose_thunk,
        num_callee_consts=len(consts),
        num_res=len(residuals),
    )
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


__all__ = ["linear_call", "linear_call_p"]
