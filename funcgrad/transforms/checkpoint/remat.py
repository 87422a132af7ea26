"""checkpoint: save little in the forward pass, compute it again in the backward pass.

A chain of L layers that saves every activation needs memory for L of them. With √L checkpointed segments of √L layers
each it needs 2·√L, for one more forward pass (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).

The primitive is `remat2`, as JAX prints it. Its partial evaluation puts everything that the linear part reads, and the
policy does not save, into the linear part. That part is *differentiated*: its operands, the cotangents among them once
it is transposed, go through an `optimization_barrier`. So the compiler does not take what is computed again
for what was computed before, and computes it when the cotangents have arrived, not earlier.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, JaxprEqn, eval_jaxpr, inlined
from funcgrad.core.lowering import Rewrite
from funcgrad.errors import ArgumentError
from funcgrad.ops.barriers import optimization_barrier_p
from funcgrad.tracebacks import boundary
from funcgrad.transforms.calls import JaxprCall
from funcgrad.transforms.checkpoint.policies import Policy, is_saveable
from funcgrad.transforms.control_flow.common import Body
from funcgrad.transforms.flattening import arguments_of, as_arrays, callable_or_error, name_of
from funcgrad.transforms.interpreters.partial_eval import (
    JaxprSplit,
    Split,
    forward_residuals,
    partition_eqns,
    split_jaxpr,
)
from funcgrad.transforms.jit import jit_p

# ---------------------------------------------------------------- the primitive


def _evaluate(*arrays: Array, jaxpr: ClosedJaxpr, **_: Any) -> list[Array]:
    return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *arrays)


def _expand(*args: Any, jaxpr: ClosedJaxpr, differentiated: bool, policy: Any, prevent_cse: bool) -> list[Any]:
    if differentiated and prevent_cse:
        args = tuple(optimization_barrier_p.bind(*args))
    return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)


def _partial_eval(
    unknown: list[bool], avals: Sequence[ShapedArray], *, jaxpr: ClosedJaxpr, policy: Any, **params: Any
) -> Split:
    key = ("remat", tuple(unknown), policy)
    split = jaxpr.memo(key, lambda: _split(jaxpr, unknown, policy))
    known, forwarded = forward_residuals(split)
    rest = params | {"jaxpr": split.unknown, "policy": policy, "differentiated": True}
    return Split(
        (remat_p, params | {"jaxpr": known, "policy": policy}),
        (remat_p, rest),
        split.unknown_out,
        split.residual_avals,
        forwarded,
    )


def _split(closed: ClosedJaxpr, unknown: Sequence[bool], policy: Policy | None) -> JaxprSplit:
    """Split a jaxpr; the unknown part recomputes the values it reads that the policy does not save."""
    if policy is not None:
        closed = inlined(
            closed, lambda primitive: primitive is jit_p
        )  # the policy is asked about the operations in a jitted function
    jaxpr = closed.jaxpr
    eqns, unknown_out = partition_eqns(jaxpr, unknown)
    needed: set[Atom] = {v for v, u in zip(jaxpr.outvars, unknown_out, strict=True) if u}
    repeated: list[JaxprEqn] = []
    for eqn, is_known in reversed(eqns):
        if needed.isdisjoint(eqn.outvars) and not eqn.effectful:
            continue
        if is_known and is_saveable(policy, eqn.primitive, [v.aval for v in eqn.invars], eqn.params):
            continue
        repeated.append(eqn)
        needed.update(eqn.invars)
    known = [e for e, is_known in eqns if is_known]
    return split_jaxpr(closed, unknown, unknown_out, known, repeated[::-1])


remat_p = JaxprCall("remat2", evaluate=_evaluate, partial_eval=_partial_eval, lowering=Rewrite(_expand))

# ---------------------------------------------------------------- the function


def checkpoint(
    fun: Callable[..., Any] | None = None,
    *,
    prevent_cse: bool | Sequence[bool] = True,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
) -> Callable[..., Any]:
    """Return `fun` such that its derivative saves only its inputs, and computes intermediate values again.

    The value is that of `fun`; effects such as `debug.print` run again when values are recomputed. `policy`
    says which intermediate values are saved all the same: see `funcgrad.checkpoint_policies`. Static arguments
    are Python values that `fun` may branch on. With `prevent_cse=False`, under jit, the compiler may take the
    values of the forward pass for those that would be computed again; inside the body of a scan that cannot
    happen, and nothing is lost by it (of a sequence, one true is enough to prevent it). Without `fun`, returns
    a decorator.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> f = checkpoint(lambda x: jnp.sin(jnp.sin(x)))
    >>> fg.grad(f)(1.0)
    Array(0.36003944, dtype=float32, weak_type=True)

    See Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.
    """
    if fun is None:
        return functools.partial(
            checkpoint,
            prevent_cse=prevent_cse,
            policy=policy,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
        )
    callable_or_error(fun, "checkpoint")
    if policy is not None and not callable(policy):
        raise ArgumentError(
            f"checkpoint of {name_of(fun)}: policy={policy!r:.60} is not callable",
            fix="use one of funcgrad.checkpoint_policies",
        )
    prevent = bool(prevent_cse) if isinstance(prevent_cse, (bool, int)) else any(prevent_cse)
    nums = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)

    @boundary
    @functools.wraps(fun)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        static = _static_positions(fun, nums, len(args))
        flat, in_tree = tree.flatten(
            (
                tuple(a for i, a in enumerate(args) if i not in static),
                {k: v for k, v in kwargs.items() if k not in names},
            )
        )

        def of_dynamic(*dynamic: Any, **keywords: Any) -> Any:
            given = iter(dynamic)
            fixed = {k: v for k, v in kwargs.items() if k in names}
            return fun(*(a if i in static else next(given) for i, a in enumerate(args)), **keywords, **fixed)

        of_dynamic.__name__ = name_of(fun)
        arrays = as_arrays(flat, f"checkpoint of {name_of(fun)}", arguments_of(fun, in_tree))
        body = Body(of_dynamic, in_tree, [aval_of(x) for x in arrays], "checkpoint")
        out = remat_p.bind(
            *body.consts, *arrays, jaxpr=body.jaxpr, prevent_cse=prevent, differentiated=False, policy=policy
        )
        return body.unflatten(out)

    return checkpointed


def _static_positions(fun: Any, nums: Sequence[int], count: int) -> set[int]:
    for n in nums:
        if not -count <= n < count:
            raise ArgumentError(
                f"checkpoint of {name_of(fun)}: static_argnums={tuple(nums)}, "
                f"but it was called with {count} positional arguments",
                fix="choose static_argnums among the positional arguments, or give static_argnames",
            )
    return {n % count for n in nums}


remat = checkpoint

__all__ = ["checkpoint", "remat", "remat_p"]
