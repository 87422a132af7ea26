"""custom_jvp: a function with a custom forward-mode rule; reverse mode transposes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.lowering import Inline
from funcgrad.core.masks import nonzero, select, with_zeros
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.shapes import instantiate, leading
from funcgrad.transforms.custom_rules.common import (
    CALL_STYLE,
    BatchedCall,
    CustomFunction,
    Function,
    PrimalFunction,
    call_rule,
    check_arrays,
    check_pair,
    check_primal_out,
    evaluate_call,
    infer_call,
    path_of,
    stage,
    transpose_call,
    with_static,
)
from funcgrad.transforms.flattening import as_arrays, name_of, of_positional, places
from funcgrad.transforms.interpreters.partial_eval import unsplit
from funcgrad.transforms.refs.discharge import discharge_reader

# ---------------------------------------------------------------- the primitive


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    name: str,
    call_jaxpr: Function,
    jvp: Callable[..., Any],
    num_consts: int,
    symbolic_zeros: bool,
) -> tuple[list[Any], list[Any]]:
    given = tangents[num_consts:]
    return jvp(primals[num_consts:], given if symbolic_zeros else [instantiate(t) for t in given])


def _batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    name: str,
    call_jaxpr: Function,
    jvp: Callable[..., Any],
    num_consts: int,
    symbolic_zeros: bool,
) -> tuple[list[Any], list[int | None]]:
    batched = BatchedCall(axis, dims, name)
    out = custom_jvp_call_p.bind(
        *leading(args, dims),
        name=name,
        call_jaxpr=batched.call(call_jaxpr),
        jvp=_batched_rule(batched, jvp, num_consts),
        num_consts=num_consts,
        symbolic_zeros=symbolic_zeros,
    )
    return out, [0 if b else None for b in batched.batched_out]


def _batched_rule(batched: BatchedCall, jvp: Callable[..., Any], num_consts: int) -> Callable[..., Any]:
    def batched_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        dims = batched.dims[num_consts:]
        avals = batched.elements(primals, [d is not None for d in dims])
        mask = nonzero(tangents)
        n = 0

        def flat(*values: Any) -> list[Any]:
            nonlocal n
            outs, tangents_out = jvp(values[: len(avals)], with_zeros(values[len(avals) :], mask, avals))
            n = len(outs)
            return [*outs, *tangents_out]

        outs, out_dims = batched.run(flat, [*dims, *select(dims, mask)], [*primals, *select(tangents, mask)])
        either = [p if t is None else t for p, t in zip(out_dims[:n], out_dims[n:], strict=True)]
        batched_out = batched.settle(either)
        return batched.place(outs[:n], out_dims[:n], batched_out), batched.place(outs[n:], out_dims[n:], batched_out)

    batched_jvp.__name__ = name_of(jvp)
    return batched_jvp


custom_jvp_call_p = Primitive(
    "custom_jvp_call",
    infer=infer_call,
    evaluate=evaluate_call,
    jvp=_jvp,
    transpose=transpose_call,
    batch=_batch,
    stage=stage,
    partial_eval=unsplit,
    lowering=Inline("call_jaxpr"),
    params_style=CALL_STYLE,
    discharge=lambda args, params: discharge_reader(custom_jvp_call_p, args, params, "call_jaxpr"),
    multiple_results=True,
    higher_order=True,
)

# ---------------------------------------------------------------- the decorator


class custom_jvp(CustomFunction):
    """A function with a custom rule for its directional derivative: (x, v) ↦ (f(x), ∂f(x)·v).

    The rule stands in for the derivative in every transform: it is transposed in reverse mode, so its tangent
    must be linear in v, and differentiated itself for higher orders. `nondiff_argnums` are arguments of any
    kind, functions for instance or traced arrays, that are not differentiated; the rule gets them first.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> @custom_jvp
    ... def log1pexp(x):
    ...     return jnp.log(1 + jnp.exp(x))
    >>> @log1pexp.defjvp
    ... def log1pexp_jvp(primals, tangents):
    ...     (x,), (v,) = primals, tangents
    ...     return log1pexp(x), (1 - 1 / (1 + jnp.exp(x))) * v
    >>> fg.grad(log1pexp)(100.0)  # its own derivative is exp(x) / (1 + exp(x)), inf / inf here
    Array(1., dtype=float32, weak_type=True)
    """

    transform, rule_method = "custom_jvp", "defjvp"
    jvp: Callable[..., Any] | None = None
    symbolic_zeros = False

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Set the rule, jvp(primals, tangents) → (value, tangent), and return it; works as a decorator.

        `primals` and `tangents` are tuples with one entry per argument. With `symbolic_zeros`, tangents that are
        zero because their argument is not differentiated come as `SymbolicZero`, otherwise as arrays.
        """
        self.jvp, self.symbolic_zeros = jvp, symbolic_zeros
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set one rule per argument, jvp(tangent, value, *primals) → tangent of the value; None where it is zero.

        >>> import funcgrad as fg
        >>> product = custom_jvp(lambda x, y: x * y)
        >>> product.defjvps(lambda v, value, x, y: v * y, None)
        >>> fg.grad(product, (0, 1))(2.0, 3.0)
        (Array(3., dtype=float32, weak_type=True), Array(0., dtype=float32, weak_type=True))
        """
        if self.nondiff_argnums:
            raise ArgumentError(
                f"custom_jvp: {name_of(self.fun)} has nondiff_argnums, which rules for single arguments do not get",
                fix="use defjvp",
            )

        def jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
            if len(jvps) != len(primals):
                raise ArgumentError(
                    f"custom_jvp: {name_of(self.fun)} has {len(jvps)} rules for {len(primals)} arguments",
                    fix="give defjvps one rule per argument, None where the derivative is zero",
                )
            value = self(*primals)
            terms = [rule(t, value, *primals) for rule, t in zip(jvps, tangents, strict=True) if rule is not None]
            zeros = tree.map(Zero.from_primal_value, value)
            return value, tree.map(lambda zero, *parts: _sum(zero, parts), zeros, *terms)

        self.defjvp(jvp)

    def has_rule(self) -> bool:
        return self.jvp is not None

    def apply(self, args: tuple) -> Any:
        static_args, dynamic = self.split_nondiff(args)
        assert self.jvp is not None
        static = _Static(static_args)

        def fun(traced: tuple, *dynamic: Any) -> Any:
            return with_static(self.fun, static.given(traced))(*dynamic)

        fun.__name__ = name_of(self.fun)
        leaves, in_tree = tree.flatten(dynamic)
        leaves = as_arrays(leaves, f"custom_jvp of {name_of(self.fun)}", places("args", in_tree))
        traced = static.operands()
        flat_fun = PrimalFunction(fun, of_positional(tree.structure(traced), *in_tree.children()))
        rule = _FlatRule(self.jvp, static, in_tree, flat_fun)
        out = custom_jvp_call_p.bind(
            *traced,
            *leaves,
            name=name_of(self.fun),
            call_jaxpr=flat_fun,
            jvp=rule,
            num_consts=0,
            symbolic_zeros=self.symbolic_zeros,
        )
        return (rule.out_tree if flat_fun.out_tree is None else flat_fun.out_tree).unflatten(out)


class _Static:
    """Nondiff arguments, by position. Tracers in them become operands without tangents.

    A rule that held a tracer could not be applied after its trace has ended, in a loop or branch for instance.
    """

    def __init__(self, args: dict[int, Any]):
        self.args = args
        self.leaves, self.structure = tree.flatten(args)
        self.count = sum(isinstance(x, Tracer) for x in self.leaves)

    def operands(self) -> tuple:
        """Return the traced leaves, their derivatives stopped."""
        return tuple(stop_gradient_p.bind(x) for x in self.leaves if isinstance(x, Tracer))

    def given(self, traced: Sequence[Any]) -> dict[int, Any]:
        """Return the arguments with other values for their traced leaves."""
        if not traced:
            return self.args
        values = iter(traced)
        return self.structure.unflatten([next(values) if isinstance(x, Tracer) else x for x in self.leaves])


def _sum(zero: Zero, terms: Sequence[Any]) -> Any:
    total: Any = zero
    for term in terms:
        total = add_tangents(total, term)
    return total


class _FlatRule:
    """A user's rule as a function of flat primals and tangents, whose results are checked."""

    def __init__(self, jvp: Callable[..., Any], static: _Static, in_tree: Any, fun: PrimalFunction):
        self.jvp, self.static, self.in_tree, self.fun = jvp, static, in_tree, fun
        self.__name__ = name_of(jvp)
        self.shown = f"custom_jvp: the rule {self.__name__} of {fun.__name__}"
        self.out_tree: Any = None

    def __call__(self, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        n = self.static.count
        of_rule = self.in_tree.unflatten(primals[n:]), self.in_tree.unflatten(tangents[n:])
        static = self.static.given(primals[:n]).values()
        pair = call_rule(self.jvp, [*static, *of_rule], self.shown, "(*nondiff arguments, primals, tangents)")
        value, tangent = check_pair(pair, self.shown, "(value, tangent)")
        outs, self.out_tree = tree.flatten(value)
        outs_tangent, tangent_tree = tree.flatten(tangent)
        if self.out_tree != tangent_tree:
            differences = tree.describe_mismatch("value", self.out_tree, "tangent", tangent_tree)
            raise ArgumentError(
                f"{self.shown} returned a value and a tangent of different structures: {differences}"
                f"\n    value: {self.out_tree}\n    tangent: {tangent_tree}",
                fix="return a tangent with one array per array of the value",
            )
        outs = check_arrays(outs, self.out_tree, self.shown)
        outs_tangent = check_arrays(outs_tangent, tangent_tree, self.shown)
        check_primal_out(self.fun, self.out_tree, outs, self.shown)
        return outs, [self._tangent(i, *pair) for i, pair in enumerate(zip(outs, outs_tangent, strict=True))]

    def _tangent(self, position: int, out: Any, tangent: Any) -> Any:
        wanted, have = aval_of(out).tangent(), aval_of(tangent)
        if have.shape != wanted.shape or have.dtype != wanted.dtype:
            path = path_of(self.out_tree, position)
            raise (ShapeError if have.shape != wanted.shape else DTypeError)(
                f"{self.shown} returned a tangent of type {have.short()}{f' at {path}' if path else ''} for a value of "
                f"type {aval_of(out).short()}, whose tangents have type {wanted.short()}",
                fix="return a tangent of the value's shape and dtype (float0 zeros for integers)",
            )
        return Zero(wanted) if have.dtype == dtypes.float0 else tangent


__all__ = ["custom_jvp", "custom_jvp_call_p"]
