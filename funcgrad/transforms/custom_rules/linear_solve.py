"""custom_linear_solve: derivatives of A⁻¹b from solving with A and Aᵀ, not from how the solver works."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr, pruned
from funcgrad.core.lowering import Inline
from funcgrad.core.masks import nonzero, select, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import ArgumentError, DTypeError, NotDifferentiableError, ShapeError
from funcgrad.ops.arithmetic import neg_p
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.shapes import instantiate, to_dim
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow.common import Body, join_consts, trace_body
from funcgrad.transforms.flattening import as_arrays, callable_or_error
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.jvp import jvp_jaxpr
from funcgrad.transforms.interpreters.partial_eval import unsplit
from funcgrad.transforms.interpreters.transpose import transpose_jaxpr

# ---------------------------------------------------------------- the primitive
#
# Operands are the values that the functions close over, then the vector b. Each function is a jaxpr of these
# operands: `matvec` and `vecmat` return A·v and Aᵀ·v, `solve` and `transpose_solve` a solution, then any aux. `vecmat`
# and `transpose_solve` are None when the user gave no way to solve the transposed system.


def _infer(*avals: ShapedArray, solve: ClosedJaxpr, **others: ClosedJaxpr | None) -> list[ShapedArray]:
    return solve.out_avals


def _evaluate(*arrays: Array, solve: ClosedJaxpr, **others: ClosedJaxpr | None) -> list[Any]:
    return eval_jaxpr(solve.jaxpr, solve.consts, *arrays)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, matvec: ClosedJaxpr, **others: Any) -> Any:
    """A dx = db − dA x."""
    n = len(matvec.out_avals)
    solve = functools.partial(linear_solve_p.bind, matvec=matvec, **others)
    out = solve(*primals)
    consts, of_consts, of_b = primals[:-n], tangents[:-n], tangents[-n:]
    of_operator = operand_tangents(matvec, consts, of_consts, out[:n])
    rhs = [add_tangents(db, _negative(dax)) for db, dax in zip(of_b, of_operator, strict=True)]
    zeros = [Zero(aval_of(x).tangent()) for x in out]
    if all(type(t) is Zero for t in rhs):
        return out, zeros
    return out, [*solve(*consts, *map(instantiate, rhs))[:n], *zeros[n:]]


def _negative(tangent: Any) -> Any:
    return tangent if type(tangent) is Zero else neg_p.bind(tangent)


def operand_tangents(
    closed: ClosedJaxpr, consts: Sequence[Any], tangents: Sequence[Any], fixed: Sequence[Any]
) -> list[Any]:
    """Return the tangents of a jaxpr's results by its leading inputs alone, the others being `fixed`; may be Zero."""
    n = len(closed.out_avals)
    jvp, nonzero_out = jvp_jaxpr(closed, nonzero(tangents) + [False] * len(fixed))
    tangents_only = jvp.memo(
        "tangents", lambda: pruned(ClosedJaxpr(jvp.jaxpr.replace(outvars=jvp.jaxpr.outvars[n:]), jvp.consts))
    )
    given = select(tangents, nonzero(tangents))
    out = eval_jaxpr(tangents_only.jaxpr, tangents_only.consts, *consts, *fixed, *given)
    return with_zeros(out, nonzero_out, closed.out_avals)


def _transpose(
    cts: Sequence[Any],
    *args: Any,
    matvec: ClosedJaxpr,
    vecmat: ClosedJaxpr | None,
    solve: ClosedJaxpr,
    transpose_solve: ClosedJaxpr | None,
) -> list[Any]:
    """The cotangent of b solves with Aᵀ."""
    if transpose_solve is None:
        raise NotDifferentiableError(
            "custom_linear_solve: reverse-mode differentiation solves with the transposed operator",
            fix="give transpose_solve, or symmetric=True where the operator is its own transpose",
        )
    n = len(matvec.out_avals)
    back = linear_solve_p.bind(
        *args[:-n],
        *map(instantiate, cts[:n]),
        matvec=vecmat,
        vecmat=matvec,
        solve=transpose_solve,
        transpose_solve=solve,
    )
    of_b = [ct if is_undefined(b) else None for ct, b in zip(back[:n], args[-n:], strict=True)]
    return [None] * (len(args) - n) + of_b


def _batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], *, matvec: ClosedJaxpr, **others: Any
) -> Any:
    """Everything but the values closed over has the batch dimension, once anything has."""
    n = len(matvec.out_avals)
    batched = [d is not None for d in dims[:-n]] + [True] * n
    leading = [to_dim(a, d, 0 if b else None, axis.size) for a, d, b in zip(args, dims, batched, strict=True)]
    mapped = {
        name: None if jaxpr is None else batch_jaxpr(jaxpr, axis, batched, True)[0]
        for name, jaxpr in {"matvec": matvec, **others}.items()
    }
    out = linear_solve_p.bind(*leading, **mapped)
    return out, [0] * len(out)


linear_solve_p = Primitive(
    "custom_linear_solve",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    partial_eval=unsplit,
    lowering=Inline("solve"),
    multiple_results=True,
    higher_order=True,
)

# ---------------------------------------------------------------- the function


@boundary
def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """Return x = solve(matvec, b), the solution of A x = b, with derivatives by implicit differentiation.

    `matvec` is the linear map x ↦ A x on pytrees like `b`. The derivative along (dA, db) is
    x' = A⁻¹ (db − dA x), by `solve` again; in reverse, cotangents are solved for by
    ``transpose_solve(vecmat, ct)``, where vecmat is v ↦ Aᵀ v, or by `solve` when `symmetric`. The solvers
    themselves are never differentiated, so they may contain while loops. With `has_aux` solvers return
    (x, aux), as does this; aux has no derivative.

    >>> import funcgrad.numpy as jnp
    >>> custom_linear_solve(lambda x: 2 * x, jnp.ones(2), lambda matvec, b: b / 2, symmetric=True)
    Array([0.5, 0.5], dtype=float32)

    Raises:
      ArgumentError, ShapeError, DTypeError: `matvec` or a solver returns something unlike `b`.
      NotDifferentiableError: in reverse mode, when there is no `transpose_solve`.
    """
    for fun in (matvec, solve) if transpose_solve is None else (matvec, solve, transpose_solve):
        callable_or_error(fun, "custom_linear_solve")
    leaves, structure = tree.flatten(b)
    leaves = as_arrays(leaves)
    vector, avals = structure.unflatten(leaves), [aval_of(x) for x in leaves]

    def traced(fun: Callable[[Any], Any], name: str, with_aux: bool) -> Body:
        body = trace_body(fun, (vector,), avals, "custom_linear_solve")
        check_like("custom_linear_solve", name, body, with_aux, "b", vector)
        return body

    bodies = {
        "matvec": traced(matvec, "matvec", False),
        "solve": traced(functools.partial(solve, matvec), "solve", has_aux),
    }
    if transpose_solve is not None:
        vecmat = _transposed(bodies["matvec"], structure)
        bodies["vecmat"] = traced(vecmat, "vecmat", False)
        bodies["transpose_solve"] = traced(functools.partial(transpose_solve, vecmat), "transpose_solve", has_aux)
    jaxprs, consts = join_consts(list(bodies.values()))
    params: dict[str, Any] = {"vecmat": None, "transpose_solve": None, **dict(zip(bodies, jaxprs, strict=True))}
    if symmetric and transpose_solve is None:
        params |= {"vecmat": params["matvec"], "transpose_solve": params["solve"]}
    return bodies["solve"].unflatten(linear_solve_p.bind(*consts, *leaves, **params))


def _transposed(matvec: Body, structure: Any) -> Callable[[Any], Any]:
    """The function v ↦ Aᵀ v."""
    n = structure.num_leaves
    linear = [False] * len(matvec.consts) + [True] * n
    closed, _ = transpose_jaxpr(matvec.jaxpr, linear, [True] * n, [True] * n)

    def vecmat(vector: Any) -> Any:
        return structure.unflatten(eval_jaxpr(closed.jaxpr, closed.consts, *matvec.consts, *tree.leaves(vector)))

    return vecmat


def check_like(operation: str, name: str, body: Body, has_aux: bool, wanted_name: str, wanted: Any) -> None:
    """Raise unless a traced function returns a pytree like `wanted`; with `has_aux`, a pair of one and anything."""
    leaves, structure = tree.flatten(wanted)
    avals = [aval_of(x) for x in leaves]
    shown = f"{operation}: {name} returns {body.show()}"
    out_tree = body.out_tree
    if has_aux:
        kind, _ = out_tree.node_data() or (None, None)
        if kind not in (tuple, list) or len(out_tree.children()) != 2:
            raise ArgumentError(f"{shown}, not a pair", fix="with has_aux=True return (solution, aux)")
        out_tree = out_tree.children()[0]
    shown = f"{shown}, {wanted_name} is {structure.show(a.short() for a in avals)}"
    if out_tree != structure:
        raise ArgumentError(shown, fix=f"return a pytree with the structure of {wanted_name}")
    for have, want in zip(body.out_avals[: len(avals)], avals, strict=True):
        if have.shape != want.shape:
            raise ShapeError(shown, fix=f"return the shapes of {wanted_name}")
        if have.dtype != want.dtype:
            raise DTypeError(shown, fix=f"return the dtypes of {wanted_name}")
