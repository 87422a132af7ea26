"""Derivatives as linear maps: jvp, linearize, vjp and linear_transpose, over pytrees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import eval_jaxpr
from funcgrad.core.masks import select, with_zeros
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import UndefinedPrimal, Zero
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.shapes import instantiate
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import (
    FlatFunction,
    abstract,
    arguments_of,
    as_arrays,
    callable_or_error,
    name_of,
    places,
)
from funcgrad.transforms.interpreters.jvp import jvp_flat
from funcgrad.transforms.interpreters.partial_eval import Linearized, linearize_flat
from funcgrad.transforms.interpreters.transpose import backward_pass
from funcgrad.tree_registry import Partial


def _checked_tangents(
    avals: Sequence[ShapedArray], tangents: Sequence[Any], operation: str, structure: Any, kind: str = "tangent"
) -> list[Any]:
    """Return tangents, or cotangents, as arrays; raise unless they have the types of the avals' tangents.

    float0 tangents become Zero. `structure` is the pytree structure of the tangents, for error messages.
    """
    of = {"tangent": "primal", "cotangent": "output"}[kind]
    out = []
    for i, (p, t) in enumerate(zip(avals, as_arrays(tangents, operation, places(kind, structure)), strict=True)):
        wanted, have = p.tangent(), aval_of(t)
        if have.shape != wanted.shape or have.dtype != wanted.dtype:
            error = ShapeError if have.shape != wanted.shape else DTypeError
            place = f" at {path}" if (path := places("", structure)()[i]) else ""
            raise error(
                f"{operation}: the {kind}{place} has type {have}, but the {of} {p} has {kind}s of type {wanted}",
                fix=f"give a {kind} with the {of}'s shape and dtype (float0 zeros for integers)",
            )
        out.append(Zero(wanted) if wanted.dtype == dtypes.float0 else t)
    return out


@boundary
def jvp(fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """Return f(x) and the directional derivative ∂f(x)·v, computed together in one forward pass.

    `primals` and `tangents` are tuples of positional arguments, equal in structure and shapes. With
    `has_aux`, `fun` returns (output, aux) and the result is (output, tangent, aux).

    >>> import funcgrad.numpy as jnp
    >>> jvp(lambda x: x * x, (3.0,), (1.0,))
    (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
    """
    callable_or_error(fun, "jvp")
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise ArgumentError(
            f"jvp: primals and tangents are {type(primals).__name__} and {type(tangents).__name__}",
            fix="give tuples of positional arguments, e.g. jvp(f, (x,), (v,))",
        )
    flat, in_tree = tree.flatten((tuple(primals), {}))
    flat_tangents, tangent_tree = tree.flatten((tuple(tangents), {}))
    if in_tree != tangent_tree:
        raise ArgumentError(
            "jvp: primals and tangents have different structures: "
            + tree.describe_mismatch("primals", primals, "tangents", tangents),
            fix="give one tangent leaf per primal leaf",
        )
    flat = as_arrays(flat, "jvp", arguments_of(fun, in_tree))
    flat_fun = FlatFunction(fun, in_tree, has_aux=has_aux, transform="jvp")
    checked = _checked_tangents([x.aval for x in flat], flat_tangents, "jvp", tree.structure(tuple(tangents)))
    outs, out_tangents = jvp_flat(flat_fun, flat, checked)
    result = flat_fun.unflatten_out(as_arrays(outs)), flat_fun.unflatten_out(list(map(instantiate, out_tangents)))
    return (*result, flat_fun.unflatten_aux()) if has_aux else result


class _LinearMap:
    """The derivative of a function at a point: a function of its residuals and of tangents or cotangents.

    Users receive a `Partial` of it: a pytree whose leaves are the residuals.
    """

    def __init__(self, linear: Linearized, primals: Sequence[Any], nonzero: Sequence[bool], flat_fun: FlatFunction):
        self.jaxpr, self.nonzero_in, self.nonzero_out = linear.jaxpr.jaxpr, list(nonzero), linear.nonzero_out
        self.in_avals = [aval_of(x) for x in primals]
        self.out_avals = [aval_of(x) for x in linear.primals_out]
        self.in_tree, self.out_tree, self.name = flat_fun.in_tree, flat_fun.out_tree, name_of(flat_fun.fun)

    describe = ""

    def __call__(self, *residuals_and_arguments: Any) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.describe} {self.name}>"


class _Pushforward(_LinearMap):
    """v ↦ ∂f(x)·v."""

    describe = "linearized"

    @boundary
    def __call__(self, *residuals_and_tangents: Any) -> Any:
        n = len(self.jaxpr.constvars)
        residuals, tangents = residuals_and_tangents[:n], residuals_and_tangents[n:]
        flat, tangent_tree = tree.flatten((tangents, {}))
        if tangent_tree != self.in_tree:
            raise ArgumentError(
                f"{self.name} linearized was called with tangents of another structure than the primals: "
                + tree.describe_mismatch("primals", self.in_tree.children()[0], "tangents", tree.structure(tangents)),
                fix="give one tangent per primal",
            )
        checked = _checked_tangents(self.in_avals, flat, f"{self.name} linearized", tree.structure(tangents))
        outs = eval_jaxpr(self.jaxpr, residuals, *select(checked, self.nonzero_in))
        return self.out_tree.unflatten(map(instantiate, with_zeros(outs, self.nonzero_out, self.out_avals)))


class _Pullback(_LinearMap):
    """ct ↦ ∂f(x)ᵀ·ct."""

    describe = "vjp of"

    @boundary
    def __call__(self, *residuals_and_cotangent: Any) -> Any:
        n = len(self.jaxpr.constvars)
        if len(residuals_and_cotangent) != n + 1:
            raise ArgumentError(
                f"vjp of {self.name}: called with {len(residuals_and_cotangent) - n} arguments",
                fix="give one cotangent, with the structure of the function's output",
            )
        *residuals, cotangent = residuals_and_cotangent
        flat, structure = tree.flatten(cotangent)
        if structure != self.out_tree:
            raise ArgumentError(
                f"vjp of {self.name}: the cotangent has structure {structure}, the output has {self.out_tree}: "
                + tree.describe_mismatch("cotangent", structure, "output", self.out_tree),
                fix="give a cotangent with the structure of the function's output",
            )
        checked = _checked_tangents(self.out_avals, flat, f"vjp of {self.name}", structure, "cotangent")
        linear = [UndefinedPrimal(v.aval) for v in self.jaxpr.invars]
        back = backward_pass(self.jaxpr, residuals, linear, select(checked, self.nonzero_out))
        args, _ = self.in_tree.unflatten(map(instantiate, with_zeros(back, self.nonzero_in, self.in_avals)))
        return args


@boundary
def fwd_and_bwd(
    fun: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool = False, jitted: bool = True
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the forward and the backward pass of a function, each of which may be jitted and reused.

    `fwd(*args)` returns the output and the residuals (and aux, with `has_aux`), `bwd(residuals, cotangent)` the
    gradients with respect to `argnums`. They work with arrays of `jit`, whatever `jitted` is.

    >>> fwd, bwd = fwd_and_bwd(lambda x, y: x * y, (0, 1))
    >>> out, residuals = fwd(2.0, 3.0)
    >>> bwd(residuals, 1.0)
    (Array(3., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def fwd(*args: Any) -> Any:
        chosen = [p % len(args) for p in places]

        def of_chosen(*values: Any) -> Any:
            given = dict(zip(chosen, values, strict=True))
            return fun(*(given.get(i, x) for i, x in enumerate(args)))

        return vjp(of_chosen, *(args[i] for i in chosen), has_aux=has_aux)

    def bwd(residuals: Any, cotangent: Any) -> Any:
        gradients = residuals(cotangent)
        return gradients[0] if isinstance(argnums, int) else gradients

    return fwd, bwd


@boundary
def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Return f(x) and the linear map v ↦ ∂f(x)·v. The nonlinear work is done once, here.

    The map is a `tree_util.Partial`: a pytree whose leaves are the residuals, which may go in and out of jit.

    >>> y, f_lin = linearize(lambda x: x * x, 3.0)
    >>> f_lin(1.0)
    Array(6., dtype=float32, weak_type=True)
    """
    return _linear_map(_Pushforward, fun, primals, has_aux, "linearize")


@boundary
def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False, reduce_axes: Any = ()) -> Any:
    """Return f(x) and the map from cotangents of the output to cotangents of the inputs: ct ↦ ∂f(x)ᵀ·ct.

    The returned function gives a tuple, one entry per primal. With `has_aux` the result is (output, f_vjp,
    aux). The map is a `tree_util.Partial`: a pytree whose leaves are the residuals, which may go in and out of jit.

    >>> y, f_vjp = vjp(lambda x, y: x * y, 3.0, 4.0)
    >>> f_vjp(1.0)
    (Array(4., dtype=float32, weak_type=True), Array(3., dtype=float32, weak_type=True))
    """
    return _linear_map(_Pullback, fun, primals, has_aux, "vjp")


def _linear_map(kind: type[_LinearMap], fun: Callable[..., Any], primals: tuple, has_aux: bool, transform: str) -> Any:
    callable_or_error(fun, transform)
    flat, in_tree = tree.flatten((primals, {}))
    flat = as_arrays(flat, f"{transform} of {name_of(fun)}", arguments_of(fun, in_tree))
    flat_fun = FlatFunction(fun, in_tree, has_aux=has_aux, transform=transform)
    nonzero = [dtypes.is_inexact(aval_of(x).dtype) for x in flat]
    linear = linearize_flat(flat_fun, flat, nonzero)
    out = flat_fun.unflatten_out(as_arrays(linear.primals_out))
    linear_map = Partial(kind(linear, flat, nonzero, flat_fun), *linear.jaxpr.consts)
    return (out, linear_map, flat_fun.unflatten_aux()) if has_aux else (out, linear_map)


@boundary
def linear_transpose(fun: Callable[..., Any], *primals: Any, reduce_axes: Any = ()) -> Callable[[Any], Any]:
    """Return the transpose of a linear function: ct ↦ Aᵀ·ct. `primals` give only types; `ShapeDtypeStruct` will do.

    >>> import numpy as np
    >>> linear_transpose(lambda x: x * 3.0, np.float32(1))(np.float32(2))
    (Array(6., dtype=float32),)
    """
    flat, in_tree = tree.flatten((primals, {}))
    avals = [abstract(x) for x in flat]
    flat_fun = FlatFunction(fun, in_tree, transform="linear_transpose")
    closed = trace_to_jaxpr(flat_fun, avals, description=f"tracing {name_of(fun)} for linear_transpose")
    primals_tree = tree.structure(primals)

    @boundary
    def transposed(cotangent: Any) -> Any:
        flat_ct, ct_tree = tree.flatten(cotangent)
        if ct_tree != flat_fun.out_tree:
            raise ArgumentError(
                f"linear_transpose: the cotangent has structure {ct_tree}, the output has {flat_fun.out_tree}: "
                + tree.describe_mismatch("cotangent", ct_tree, "output", flat_fun.out_tree),
                fix="give a cotangent with the structure of the function's output",
            )
        given = _checked_tangents(closed.out_avals, flat_ct, "linear_transpose", ct_tree, "cotangent")
        back = backward_pass(closed.jaxpr, closed.consts, [UndefinedPrimal(a) for a in avals], given)
        return primals_tree.unflatten([instantiate(c) for c in back])

    return transposed
