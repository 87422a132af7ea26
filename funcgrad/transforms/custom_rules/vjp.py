"""custom_vjp: a function with a custom reverse-mode rule, in two halves connected by residuals.

Differentiation calls the forward half for the value, and lets `custom_lin` stand for the derivative: a linear
operation without a value, which only transposition can do something with. It calls the backward half.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Inline, Rewrite
from funcgrad.core.masks import nonzero, select
from funcgrad.core.primitives import AxisData, ParamStyle, Primitive
from funcgrad.core.symbolic import Zero
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, DTypeError, LeakedTracerError, NotDifferentiableError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import instantiate, leading, reduce_sum
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
    merge_nondiff,
    path_of,
    stage,
    transpose_call,
    with_static,
)
from funcgrad.transforms.flattening import as_arrays, name_of, of_positional, places
from funcgrad.transforms.interpreters.partial_eval import unsplit
from funcgrad.transforms.refs.discharge import discharge_reader

# ---------------------------------------------------------------- the primitives

# Params of `custom_vjp_call`: `fwd(primals, perturbed)` returns (results, residuals, structure), where the structure
# is the static information about the residuals that `bwd(structure, residuals, cotangents)` needs.


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    name: str,
    call_jaxpr: Function,
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    num_consts: int,
    symbolic_zeros: bool,
) -> tuple[list[Any], list[Any]]:
    for primal, tangent in list(zip(primals, tangents, strict=True))[:num_consts]:
        if type(tangent) is not Zero:
            raise NotDifferentiableError(
                f"custom_vjp: {name} closes over a value of type {aval_of(primal)} that is differentiated, but its "
                "rule gives derivatives by arguments only",
                fix="pass the value as an argument, and adapt both halves of the rule",
            )
    given = tangents[num_consts:]
    mask = nonzero(given)
    outs, residuals, structure = fwd(primals[num_consts:], mask)
    avals = [aval_of(o).tangent() for o in outs]
    linear = iter(
        custom_lin_p.bind(
            *residuals,
            *select(given, mask),
            name=name,
            bwd=bwd,
            structure=structure,
            in_zeros=tuple(not nz for nz in mask),
            num_res=len(residuals),
            out_avals=tuple(avals),
            symbolic_zeros=symbolic_zeros,
        )
    )
    return outs, [Zero(a) if a.dtype == dtypes.float0 else next(linear) for a in avals]


def _batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    name: str,
    call_jaxpr: Function,
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    num_consts: int,
    symbolic_zeros: bool,
) -> tuple[list[Any], list[int | None]]:
    batched = BatchedCall(axis, dims, name)
    out = custom_vjp_call_p.bind(
        *leading(args, dims),
        name=name,
        call_jaxpr=batched.call(call_jaxpr),
        fwd=_batched_fwd(batched, fwd, num_consts),
        bwd=_batched_bwd(batched, bwd, batched.dims[num_consts:]),
        num_consts=num_consts,
        symbolic_zeros=symbolic_zeros,
    )
    return out, [0 if b else None for b in batched.batched_out]


def _batched_fwd(batched: BatchedCall, fwd: Callable[..., Any], num_consts: int) -> Callable[..., Any]:
    def batched_fwd(primals: Sequence[Any], perturbed: Sequence[bool]) -> tuple[list[Any], list[Any], Any]:
        n, structure = 0, None

        def flat(*values: Any) -> list[Any]:
            nonlocal n, structure
            outs, residuals, structure = fwd(values, perturbed)
            n = len(outs)
            return [*outs, *residuals]

        outs, dims = batched.run(flat, batched.dims[num_consts:], primals)
        batched_out = batched.settle(dims[:n])
        residual_batched = [d is not None for d in dims[n:]]
        return (
            batched.place(outs[:n], dims[:n], batched_out),
            batched.place(outs[n:], dims[n:], residual_batched),
            (structure, tuple(residual_batched), tuple(batched_out)),
        )

    batched_fwd.__name__ = name_of(fwd)
    return batched_fwd


def _batched_bwd(batched: BatchedCall, bwd: Callable[..., Any], in_dims: Sequence[int | None]) -> Callable[..., Any]:
    def batched_bwd(structure: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        inner, residual_batched, batched_out = structure
        mask = nonzero(cts)
        avals = batched.elements(cts, batched_out)
        flags = [*residual_batched, *select(batched_out, mask)]

        def flat(*values: Any) -> list[Any]:
            given = iter(values[len(residuals) :])
            cotangents = [next(given) if nz else Zero(a) for nz, a in zip(mask, avals, strict=True)]
            return bwd(inner, values[: len(residuals)], cotangents)

        operands = [*residuals, *select(cts, mask)]
        back, dims = batched.run(flat, [0 if b else None for b in flags], operands)
        # An argument that all elements of the batch share has the sum of their cotangents.
        summed = [
            reduce_sum(b, (d,)) if wanted is None and d is not None else b
            for b, d, wanted in zip(back, dims, in_dims, strict=True)
        ]
        kept = [None if wanted is None else d for d, wanted in zip(dims, in_dims, strict=True)]
        return batched.place(summed, kept, [d is not None for d in in_dims])

    batched_bwd.__name__ = name_of(bwd)
    return batched_bwd


custom_vjp_call_p = Primitive(
    "custom_vjp_call",
    infer=infer_call,
    evaluate=evaluate_call,
    jvp=_jvp,
    transpose=transpose_call,
    batch=_batch,
    stage=stage,
    partial_eval=unsplit,
    lowering=Inline("call_jaxpr"),
    modes=("rev",),
    params_style=CALL_STYLE,
    discharge=lambda args, params: discharge_reader(custom_vjp_call_p, args, params, "call_jaxpr"),
    multiple_results=True,
    higher_order=True,
)


def _lin_infer(*avals: ShapedArray, out_avals: Sequence[ShapedArray], **params: Any) -> list[ShapedArray]:
    return [a for a in out_avals if a.dtype != dtypes.float0]


def _no_forward_mode(*args: Any, name: str, **params: Any) -> NoReturn:
    raise NotDifferentiableError(
        f"custom_vjp: forward mode (jvp, jacfwd, linearize) reached {name}, which has a reverse rule only",
        fix="use grad, vjp or jacrev, or give the function its rule with custom_jvp, which serves both modes",
    )


def _lin_transpose(
    cts: Sequence[Any],
    *args: Any,
    name: str,
    bwd: Callable[..., Any],
    structure: Any,
    in_zeros: Sequence[bool],
    num_res: int,
    out_avals: Sequence[ShapedArray],
    symbolic_zeros: bool,
) -> list[Any]:
    given = iter(cts)
    cotangents = [Zero(a) if a.dtype == dtypes.float0 else next(given) for a in out_avals]
    if not symbolic_zeros:
        cotangents = [instantiate(ct) for ct in cotangents]
    back = bwd(structure, args[:num_res], cotangents)
    return [None] * num_res + [ct for ct, zero in zip(back, in_zeros, strict=True) if not zero]


custom_lin_p = Primitive(
    "custom_lin",
    infer=_lin_infer,
    evaluate=_no_forward_mode,
    jvp=_no_forward_mode,
    batch=_no_forward_mode,
    transpose=_lin_transpose,
    partial_eval=unsplit,
    lowering=Rewrite(_no_forward_mode),
    params_style=ParamStyle(hidden=lambda name, value: name in ("name", "out_avals", "structure")),
    multiple_results=True,
    higher_order=True,
)

# ---------------------------------------------------------------- the decorator


@dataclasses.dataclass(slots=True)
class CustomVJPPrimal:
    """An argument of a forward rule with symbolic zeros: its value, and whether it is differentiated."""

    value: Any
    perturbed: bool


def custom_vjp_primal_tree_values(primals: Any) -> Any:
    """Return the values in a tree of `CustomVJPPrimal`.

    >>> custom_vjp_primal_tree_values((CustomVJPPrimal(2.0, True), CustomVJPPrimal(3.0, False)))
    (2.0, 3.0)
    """

    def value(leaf: Any) -> Any:
        if type(leaf) is not CustomVJPPrimal:
            raise ArgumentError(
                f"custom_vjp_primal_tree_values: a leaf is a {type(leaf).__name__}",
                fix="give it arguments of a forward rule that was defined with symbolic_zeros=True",
            )
        return leaf.value

    return tree.map(value, primals)


class custom_vjp(CustomFunction):
    """A function with a custom rule for reverse mode: x ↦ (f(x), residuals), and (residuals, ct) ↦ ∂f(x)ᵀ·ct.

    Forward mode (jvp, jacfwd, hessian) raises NotDifferentiableError, a TypeError. `nondiff_argnums` are
    arguments of any kind but traced arrays, functions for instance; both halves get them, the backward half first.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> @custom_vjp
    ... def clip_gradient(limit, x):
    ...     return x
    >>> def clip_gradient_fwd(limit, x):
    ...     return x, limit
    >>> def clip_gradient_bwd(limit, ct):
    ...     return None, jnp.clip(ct, -limit, limit)  # None: no derivative by the limit
    >>> clip_gradient.defvjp(clip_gradient_fwd, clip_gradient_bwd)
    >>> fg.grad(lambda x: clip_gradient(0.5, x) ** 2)(3.0)
    Array(0.5, dtype=float32, weak_type=True)
    """

    transform, rule_method = "custom_vjp", "defvjp"
    fwd: Callable[..., Any] | None = None
    bwd: Callable[..., Any] | None = None
    symbolic_zeros = False
    optimize_remat = False

    def defvjp(
        self,
        fwd: Callable[..., Any],
        bwd: Callable[..., Any],
        symbolic_zeros: bool = False,
        optimize_remat: bool = False,
    ) -> None:
        """Set the rule: fwd(*args) → (value, residuals) and bwd(*nondiff, residuals, ct) → a cotangent per argument.

        `bwd` returns a tuple; None stands for zeros of a whole argument or subtree of one. With
        `symbolic_zeros`, leaves of the arguments of `fwd` are `CustomVJPPrimal`, and cotangents of results that
        are not used come as `SymbolicZero`. `optimize_remat` is accepted for compatibility: calls that are not
        differentiated always run the function itself.
        """
        if symbolic_zeros and optimize_remat:
            raise ArgumentError(
                f"custom_vjp: {name_of(self.fun)}: optimize_remat and symbolic_zeros exclude each other", fix="drop one"
            )
        self.fwd, self.bwd = fwd, bwd
        self.symbolic_zeros, self.optimize_remat = symbolic_zeros, optimize_remat

    def has_rule(self) -> bool:
        return self.fwd is not None and self.bwd is not None

    def apply(self, args: tuple) -> Any:
        static, dynamic = self.split_nondiff(args)
        assert self.fwd is not None and self.bwd is not None
        self._check_static(static)
        leaves, in_tree = tree.flatten(dynamic)
        leaves = as_arrays(leaves, f"custom_vjp of {name_of(self.fun)}", places("args", in_tree))
        flat_fun = PrimalFunction(with_static(self.fun, static), of_positional(*in_tree.children()))
        fwd = _FlatForward(self.fwd, static, in_tree, flat_fun, self.symbolic_zeros)
        bwd = _FlatBackward(self.bwd, static, in_tree, [aval_of(x) for x in leaves], flat_fun.__name__)
        out = custom_vjp_call_p.bind(
            *leaves,
            name=name_of(self.fun),
            call_jaxpr=flat_fun,
            fwd=fwd,
            bwd=bwd,
            num_consts=0,
            symbolic_zeros=self.symbolic_zeros,
        )
        return (fwd.out_tree if flat_fun.out_tree is None else flat_fun.out_tree).unflatten(out)

    def _check_static(self, static: dict[int, Any]) -> None:
        for i, value in static.items():
            for leaf in tree.leaves(value):
                if isinstance(leaf, Tracer):
                    raise LeakedTracerError(
                        f"custom_vjp: argument {i} of {name_of(self.fun)} is in nondiff_argnums, but is a traced array "
                        f"of type {aval_of(leaf)}{leaf.origin()}",
                        fix="make it an ordinary argument, and return None for its cotangent; nondiff arguments are "
                        "for functions, strings and the like",
                    )


class _FlatForward:
    """A user's forward half as a function of flat primals: (results, residuals, structures of both)."""

    def __init__(
        self, fwd: Callable[..., Any], static: dict[int, Any], in_tree: Any, fun: PrimalFunction, symbolic_zeros: bool
    ):
        self.fwd, self.static, self.in_tree = fwd, static, in_tree
        self.fun, self.symbolic_zeros = fun, symbolic_zeros
        self.__name__ = name_of(fwd)
        self.shown = f"custom_vjp: the forward rule {self.__name__} of {fun.__name__}"
        self.out_tree: Any = None

    def __call__(self, primals: Sequence[Any], perturbed: Sequence[bool]) -> tuple[list[Any], list[Any], Any]:
        if self.symbolic_zeros:
            primals = [CustomVJPPrimal(x, p) for x, p in zip(primals, perturbed, strict=True)]
        args = merge_nondiff(self.static, self.in_tree.unflatten(primals))
        pair = call_rule(self.fwd, args, self.shown, "the function's arguments")
        value, residuals = check_pair(pair, self.shown, "(value, residuals)")
        outs, self.out_tree = tree.flatten(value)
        outs = check_arrays(outs, self.out_tree, self.shown)
        check_primal_out(self.fun, self.out_tree, outs, self.shown)
        residuals, residual_tree = tree.flatten(residuals)
        residuals = check_arrays(residuals, residual_tree, f"{self.shown} (residuals)")
        return outs, residuals, (self.out_tree, residual_tree)


class _FlatBackward:
    """A user's backward half as a function of flat residuals and cotangents, whose results are checked."""

    def __init__(
        self, bwd: Callable[..., Any], static: dict[int, Any], in_tree: Any, in_avals: Sequence[ShapedArray], name: str
    ):
        self.bwd, self.static, self.in_tree, self.in_avals = bwd, tuple(static.values()), in_tree, in_avals
        self.__name__ = name_of(bwd)
        self.shown = f"custom_vjp: the backward rule {self.__name__} of {name}"

    def __call__(self, structure: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        out_tree, residual_tree = structure
        args = [*self.static, residual_tree.unflatten(residuals), out_tree.unflatten(cts)]
        result = call_rule(self.bwd, args, self.shown, "(*nondiff arguments, residuals, cotangent)")
        flat = self._spread(result)
        return [self._cotangent(i, *pair) for i, pair in enumerate(zip(flat, self.in_avals, strict=True))]

    def _spread(self, result: Any) -> list[Any]:
        """One cotangent per leaf of the arguments; None for the leaves of a subtree that is None."""
        if isinstance(result, list):
            result = tuple(result)
        n = len(self.in_tree.children())
        if not isinstance(result, tuple) or len(result) != n:
            got = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
            raise ArgumentError(
                f"{self.shown} must return a tuple with one cotangent per argument, {n} of them; it returned {got}"
                f"\n    arguments: {self.in_tree}\n    returned: {tree.structure(result)}",
                fix="return a tuple (one argument: `return (ct,)`); None stands for zeros",
            )
        prefix = tree.structure(result, is_leaf=lambda x: x is None)
        try:
            return tree.flatten_axes("the result", self.in_tree, result)
        except ArgumentError:
            differences = tree.describe_mismatch("the result", prefix, "the arguments", self.in_tree)
            raise ArgumentError(
                f"{self.shown} returned cotangents of another structure than the arguments have: {differences}"
                f"\n    arguments: {self.in_tree}\n    returned: {tree.structure(result)}",
                fix="return for each argument a tree like it, or None for zeros",
            ) from None

    def _cotangent(self, position: int, ct: Any, primal: ShapedArray) -> Any:
        wanted = primal.tangent()
        if ct is None or wanted.dtype == dtypes.float0:
            return Zero(wanted)
        try:
            have = aval_of(ct)
        except ArgumentError:
            raise ArgumentError(
                f"{self.shown} returned {ct!r:.60} of type {type(ct).__name__} at "
                f"{path_of(self.in_tree, position)} of its result, which is not an array",
                fix="return an array of the argument's shape and dtype, or None for zeros",
            ) from None
        # Wider or narrower cotangents are common where precisions mix, and are cast.
        castable = not (dtypes.is_complex(have.dtype) and not dtypes.is_complex(wanted.dtype))
        if have.shape != wanted.shape or not castable:
            raise (ShapeError if have.shape != wanted.shape else DTypeError)(
                f"{self.shown} returned a cotangent of type {have.short()} at {path_of(self.in_tree, position)} of its "
                f"result, for an argument of type {primal.short()}",
                fix="return a cotangent of the argument's shape and dtype, or None for zeros",
            )
        if type(ct) is Zero:
            return Zero(wanted)
        return ct if have.dtype == wanted.dtype else convert_element_type(as_arrays([ct])[0], wanted.dtype)


__all__ = ["CustomVJPPrimal", "custom_lin_p", "custom_vjp", "custom_vjp_call_p", "custom_vjp_primal_tree_values"]
