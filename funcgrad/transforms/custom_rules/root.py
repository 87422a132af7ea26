"""custom_root: derivatives of a root by the implicit function theorem, not from how it was found."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.errors import DTypeError
from funcgrad.ops.arithmetic import neg_p
from funcgrad.ops.shapes import instantiate, to_dim
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow.common import Body, join_consts, trace_body
from funcgrad.transforms.custom_rules.linear_solve import check_like, operand_tangents
from funcgrad.transforms.derivatives import linearize
from funcgrad.transforms.flattening import as_arrays, callable_or_error
from funcgrad.transforms.interpreters.batching import batch_jaxpr
from funcgrad.transforms.interpreters.partial_eval import unsplit

# Operands of the primitive are the values θ that the functions close over, then the guess. Its params are
# jaxprs: `f` (θ, x) → f(x); `solve` (θ, guess) → the root, then any aux; `tangent_solve` (θ, x, y) → the v for
# which ∂f(x)·v = y.


def _infer(*avals: ShapedArray, solve: ClosedJaxpr, **others: ClosedJaxpr) -> list[ShapedArray]:
    return solve.out_avals


def _evaluate(*arrays: Array, solve: ClosedJaxpr, **others: ClosedJaxpr) -> list[Any]:
    return eval_jaxpr(solve.jaxpr, solve.consts, *arrays)


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, f: ClosedJaxpr, solve: ClosedJaxpr, tangent_solve: ClosedJaxpr
) -> Any:
    """From f(θ, x(θ)) = 0: ∂ₓf·dx = −∂θf·dθ. The guess has no influence."""
    n = len(f.out_avals)
    out = root_p.bind(*primals, f=f, solve=solve, tangent_solve=tangent_solve)
    zeros = [Zero(aval_of(x).tangent()) for x in out]
    rhs = operand_tangents(f, primals[:-n], tangents[:-n], out[:n])
    if all(type(t) is Zero for t in rhs):
        return out, zeros
    solved = eval_jaxpr(tangent_solve.jaxpr, tangent_solve.consts, *primals[:-n], *out[:n], *map(instantiate, rhs))
    return out, [*map(neg_p.bind, solved), *zeros[n:]]


def _batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    f: ClosedJaxpr,
    solve: ClosedJaxpr,
    tangent_solve: ClosedJaxpr,
) -> Any:
    """Everything but the values closed over has the batch dimension, once anything has."""
    n = len(f.out_avals)
    of_consts = [d is not None for d in dims[:-n]]
    batched = of_consts + [True] * n
    leading = [to_dim(a, d, 0 if b else None, axis.size) for a, d, b in zip(args, dims, batched, strict=True)]
    out = root_p.bind(
        *leading,
        f=batch_jaxpr(f, axis, batched, True)[0],
        solve=batch_jaxpr(solve, axis, batched, True)[0],
        tangent_solve=batch_jaxpr(tangent_solve, axis, of_consts + [True] * (2 * n), True)[0],
    )
    return out, [0] * len(out)


root_p = Primitive(
    "custom_root",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    batch=_batch,
    partial_eval=unsplit,
    lowering=Inline("solve"),
    multiple_results=True,
    higher_order=True,
)


@boundary
def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """Return x = solve(f, initial_guess), a root f(x) = 0, with derivatives by the implicit function theorem.

    `f` maps pytrees like `initial_guess` to such, and may close over traced values θ: the derivative of the
    root is dx = −(∂ₓf)⁻¹ ∂θf dθ. ``tangent_solve(g, y)`` returns the v for which g(v) = y, g being the linear
    map ∂ₓf(x); for scalars that is ``y / g(1.0)``. It is differentiated, so for reverse mode it must be made of
    operations that can be, for instance `custom_linear_solve`; `solve` is not. With `has_aux` `solve` returns
    (x, aux), as does this; aux has no derivative.

    >>> def newton(f, x):
    ...     for _ in range(6):
    ...         x = x - f(x) / linearize(f, x)[1](1.0)
    ...     return x
    >>> custom_root(lambda x: x * x - 2.0, 1.0, newton, lambda g, y: y / g(1.0))
    Array(1.4142135, dtype=float32, weak_type=True)

    Raises:
      ArgumentError, ShapeError, DTypeError: a function returns something unlike `initial_guess`.
    """
    for fun in (f, solve, tangent_solve):
        callable_or_error(fun, "custom_root")
    leaves, structure = tree.flatten(initial_guess)
    leaves = as_arrays(leaves)
    guess, avals = structure.unflatten(leaves), [aval_of(x) for x in leaves]
    for aval in avals:
        if not dtypes.is_inexact(aval.dtype):
            raise DTypeError(
                f"custom_root: initial_guess has a leaf of type {aval}", fix="cast it to a float (1.0, not 1)"
            )

    def traced(name: str, fun: Callable[..., Any], arity: int = 1) -> Body:
        body = trace_body(fun, (guess,) * arity, avals * arity, "custom_root")
        check_like("custom_root", name, body, has_aux and name == "solve", "initial_guess", guess)
        return body

    bodies = {
        "f": traced("f", f),
        "solve": traced("solve", functools.partial(solve, f)),
        "tangent_solve": traced("tangent_solve", lambda x, y: tangent_solve(linearize(f, x)[1], y), 2),
    }
    jaxprs, consts = join_consts(list(bodies.values()))
    return bodies["solve"].unflatten(root_p.bind(*consts, *leaves, **dict(zip(bodies, jaxprs, strict=True))))
