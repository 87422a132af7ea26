"""Derivatives for users: jvp, linearize, vjp, grad and the Jacobians, over pytrees."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import eval_jaxpr
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.symbolic import UndefinedPrimal, Zero
from funcgrad.errors import ArgumentError, DTypeError, NotDifferentiableError, ShapeError
from funcgrad.ops.shapes import full, instantiate, reshape, zeros_of
from funcgrad.tracebacks import boundary
from funcgrad.transforms.api import (
    FlatFunction,
    Names,
    abstract,
    arguments_of,
    as_arrays,
    callable_or_error,
    name_of,
    places,
    split_argnums,
)
from funcgrad.transforms.jvp import jvp_flat
from funcgrad.transforms.partial_eval import Linearized, linearize_flat
from funcgrad.transforms.transpose import backward_pass
from funcgrad.transforms.vmap import vmap
from funcgrad.tree_registry import Partial


def _checked_tangents(
    avals: Sequence[ShapedArray], tangents: Sequence[Any], operation: str, structure: Any, kind: str = "tangent"
) -> list[Any]:
    """Return tangents, or cotangents, as arrays; raise unless their types are those of the avals' tangents.

    float0 tangents become Zero. `structure` is that of the tangents, for errors to name their places.
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


def _visible(tangent: Any) -> Any:
    """A tangent as users see it: zeros are made, those of integers have dtype float0."""
    return zeros_of(tangent.aval) if type(tangent) is Zero else tangent


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
    result = flat_fun.unflatten_out(as_arrays(outs)), flat_fun.unflatten_out([_visible(t) for t in out_tangents])
    return (*result, flat_fun.unflatten_aux()) if has_aux else result


class _LinearMap:
    """The derivative of a function at a point, a function of its residuals and then of what it maps.

    What users get is a `Partial` of it and the residuals: a pytree whose leaves are the residuals.
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
        given = [t for t, nz in zip(checked, self.nonzero_in, strict=True) if nz]
        outs = iter(eval_jaxpr(self.jaxpr, residuals, *given))
        return self.out_tree.unflatten(
            [
                next(outs) if nz else zeros_of(a.tangent())
                for a, nz in zip(self.out_avals, self.nonzero_out, strict=True)
            ]
        )


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
        given = [ct for ct, nz in zip(checked, self.nonzero_out, strict=True) if nz]
        back = iter(backward_pass(self.jaxpr, residuals, [UndefinedPrimal(v.aval) for v in self.jaxpr.invars], given))
        args, _ = self.in_tree.unflatten(
            [
                _visible(next(back)) if nz else zeros_of(a.tangent())
                for a, nz in zip(self.in_avals, self.nonzero_in, strict=True)
            ]
        )
        return args


@boundary
def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Return f(x) and the linear map v ↦ ∂f(x)·v, whose nonlinear work is done already.

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


def _pull_back(linear: Linearized, in_avals: Sequence[ShapedArray], cotangents: Sequence[Any]) -> list[Any]:
    """Apply the transpose of a linearized function; `in_avals` are the types of its nonzero tangents."""
    given = [ct for ct, nz in zip(cotangents, linear.nonzero_out, strict=True) if nz]
    closed = linear.jaxpr
    return backward_pass(closed.jaxpr, closed.consts, [UndefinedPrimal(a) for a in in_avals], given)


@boundary
def linear_transpose(fun: Callable[..., Any], *primals: Any, reduce_axes: Any = ()) -> Callable[[Any], Any]:
    """Return the transpose of a linear function: ct ↦ Aᵀ·ct. `primals` give only types; `ShapeDtypeStruct` will do.

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


def _check_differentiable(
    x: Any, transform: str, name: str, what: Callable[[], str], holomorphic: bool, allow_int: bool
) -> None:
    dtype = aval_of(x).dtype
    if holomorphic:
        if not dtypes.is_complex(dtype):
            raise NotDifferentiableError(
                f"{transform} of {name}: with holomorphic=True inputs must be complex, {what()} is {aval_of(x)}",
                fix="cast the input with .astype(complex), or drop holomorphic",
            )
    elif not dtypes.is_inexact(dtype) and not allow_int:
        raise NotDifferentiableError(
            f"{transform} of {name}: {what()} has type {aval_of(x)}, which is not real or complex",
            fix="pass floats (2.0, not 2), choose other argnums, or give allow_int=True for float0 zeros",
        )
    elif dtypes.is_complex(dtype) and transform in ("jacfwd",):
        raise NotDifferentiableError(
            f"{transform} of {name}: {what()} has complex type {aval_of(x)}", fix="give holomorphic=True"
        )


def _check_scalar_output(outs: Sequence[Any], name: str, holomorphic: bool) -> None:
    avals = [aval_of(o) for o in outs]
    if len(avals) != 1 or avals[0].shape:
        shown = ", ".join(map(repr, avals)) or "nothing"
        raise NotDifferentiableError(
            f"grad of {name}: the output must be one scalar, it is {shown}",
            fix="reduce it (for instance .sum() or .mean()), use jacrev for arrays, or has_aux=True for extra outputs",
        )
    dtype = avals[0].dtype
    if holomorphic and not dtypes.is_complex(dtype):
        raise NotDifferentiableError(
            f"grad of {name}: with holomorphic=True the output must be complex, it is {avals[0]}",
            fix="drop holomorphic",
        )
    if not holomorphic and not dtypes.is_float(dtype):
        raise NotDifferentiableError(
            f"grad of {name}: the output must be a real float, it is {avals[0]}",
            fix="return a float (for complex outputs take .real, abs, or give holomorphic=True)",
        )


class _Chosen(NamedTuple):
    """The arguments to differentiate: their leaves and structure, and the function of those leaves alone."""

    leaves: list[Any]
    structure: Any
    single: bool
    fun: Callable[..., Any]

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return leaves in the structure of the chosen arguments; one alone is not wrapped in a tuple."""
        parts = self.structure.unflatten(leaves)
        return parts[0] if self.single else parts


def _choose(
    fun: Any,
    args: tuple,
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    transform: str,
    holomorphic: bool,
    allow_int: bool = False,
) -> _Chosen:
    """Take the arguments that `argnums` names; raise unless they can be differentiated."""
    positions, single = split_argnums(args, argnums, f"{transform} of {name_of(fun)}")
    leaves, structure = tree.flatten(tuple(args[i] for i in positions))
    names = _names_of_chosen(fun, args, positions)
    leaves = as_arrays(leaves, f"{transform} of {name_of(fun)}", names)
    for i, x in enumerate(leaves):
        _check_differentiable(x, transform, name_of(fun), lambda i=i: names()[i], holomorphic, allow_int)

    def of_chosen(*values: Any) -> Any:
        full_args = list(args)
        for i, v in zip(positions, structure.unflatten(values), strict=True):
            full_args[i] = v
        return fun(*full_args, **kwargs)

    of_chosen.__name__ = name_of(fun)
    return _Chosen(leaves, structure, single, of_chosen)


def _names_of_chosen(fun: Callable[..., Any], args: tuple, positions: Sequence[int]) -> Names:
    """Name the leaves of the arguments at some positions."""

    def names() -> list[str]:
        every = iter(arguments_of(fun, tree.structure((args, {})))())
        broadcast_mask = [list(itertools.islice(every, tree.structure(a).num_leaves)) for a in args]
        return [name for i in positions for name in broadcast_mask[i]]

    return names


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Any = (),
) -> Callable[..., Any]:
    """Return a function that gives (f(x), ∇f(x)) of a scalar function, by one forward and one backward pass.

    `argnums` chooses the positional arguments to differentiate (pytrees of floats); keyword arguments are
    constants. With `has_aux`, f returns (value, aux) and the result is ((value, aux), gradient).

    >>> value_and_grad(lambda x: x ** 2)(3.0)
    (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
    """
    callable_or_error(fun, "grad")

    @boundary
    @functools.wraps(fun)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        chosen = _choose(fun, args, kwargs, argnums, "grad", holomorphic, allow_int)
        leaves = chosen.leaves
        in_tree = tree.structure((tuple(leaves), {}))
        flat_fun = FlatFunction(chosen.fun, in_tree, has_aux=has_aux, transform="grad")
        nonzero = [dtypes.is_inexact(aval_of(x).dtype) for x in leaves]
        linear = linearize_flat(flat_fun, leaves, nonzero)
        _check_scalar_output(linear.primals_out, name_of(fun), holomorphic)
        out = linear.primals_out[0]
        seed = full((), 1, aval_of(out).dtype, aval_of(out).weak_type)
        in_avals = [aval_of(x).tangent() for x, nz in zip(leaves, nonzero, strict=True) if nz]
        back = iter(_pull_back(linear, in_avals, [seed]))
        gradient = chosen.unflatten(
            [_visible(next(back) if nz else Zero(aval_of(x).tangent())) for x, nz in zip(leaves, nonzero, strict=True)]
        )
        value = flat_fun.unflatten_out(as_arrays(linear.primals_out))
        return ((value, flat_fun.unflatten_aux()), gradient) if has_aux else (value, gradient)

    return value_and_gradient


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Any = (),
) -> Callable[..., Any]:
    """Return the gradient function ∇f of a scalar function; arguments as for `value_and_grad`.

    With `has_aux` the result is (gradient, aux).

    >>> grad(lambda x: x ** 3)(2.0)
    Array(12., dtype=float32, weak_type=True)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int, reduce_axes)

    @boundary
    @functools.wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def _basis(leaves: Sequence[Any]) -> list[Any]:
    """Unit tangents of all leaves together: leaf k gets shape (total, *shape of k), as weakly typed as the leaf is."""
    total = sum(aval_of(x).size for x in leaves)
    out, start = [], 0
    for x in leaves:
        aval = aval_of(x)
        block = np.zeros((total, aval.size), aval.dtype)
        block[np.arange(start, start + aval.size), np.arange(aval.size)] = 1
        out.append(Array(aval.update(shape=(total, *aval.shape)), block.reshape(total, *aval.shape)))
        start += aval.size
    return out


def _split_columns(x: Any, leaves: Sequence[Any]) -> list[Any]:
    """Cut the trailing axis of total size into one block per leaf, shaped (…, *shape of the leaf)."""
    from_shape, start, out = aval_of(x).shape[:-1], 0, []
    for leaf in leaves:
        size = aval_of(leaf).size
        out.append(reshape(x[..., start : start + size], (*from_shape, *aval_of(leaf).shape)))
        start += size
    return out


def jacfwd(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """Return the Jacobian of `fun`, a column at a time by forward mode: J[i, j] = ∂fᵢ/∂xⱼ.

    The result has the structure of the output, each leaf holding the structure of the chosen arguments, with
    arrays of shape (*output shape, *argument shape). Cheaper than `jacrev` when there are more outputs than
    inputs.

    >>> import funcgrad.numpy as jnp
    >>> jacfwd(lambda x: x * x)(jnp.array([1.0, 2.0]))
    Array([[2., 0.],
           [0., 4.]], dtype=float32)
    """
    callable_or_error(fun, "jacfwd")

    @boundary
    @functools.wraps(fun)
    def jacobian_function(*args: Any, **kwargs: Any) -> Any:
        chosen = _choose(fun, args, kwargs, argnums, "jacfwd", holomorphic)

        def push(*tangents: Any) -> Any:
            out = jvp(chosen.fun, tuple(chosen.leaves), tangents, has_aux=has_aux)
            return (out[1], out[2]) if has_aux else out[1]

        pushed = vmap(push, out_axes=(-1, None) if has_aux else -1)(*_basis(chosen.leaves))
        columns, aux = pushed if has_aux else (pushed, None)
        jacobian_value = tree.map(lambda x: chosen.unflatten(_split_columns(x, chosen.leaves)), columns)
        return (jacobian_value, aux) if has_aux else jacobian_value

    return jacobian_function


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Return the Jacobian of `fun`, a row at a time by reverse mode; see `jacfwd` for its shape.

    Cheaper than `jacfwd` when there are more inputs than outputs.

    >>> import funcgrad.numpy as jnp
    >>> jacrev(lambda x: (x * x).sum())(jnp.array([1.0, 2.0]))
    Array([2., 4.], dtype=float32)
    """
    callable_or_error(fun, "jacrev")

    @boundary
    @functools.wraps(fun)
    def jacobian_function(*args: Any, **kwargs: Any) -> Any:
        chosen = _choose(fun, args, kwargs, argnums, "jacrev", holomorphic, allow_int)
        out, pull, *aux = vjp(chosen.fun, *chosen.leaves, has_aux=has_aux)
        out_leaves, out_tree = tree.flatten(out)
        for o in out_leaves:
            _check_jacrev_output(o, name_of(fun), holomorphic)
        rows = vmap(lambda *cts: pull(out_tree.unflatten(cts)))(*_basis(out_leaves))
        blocks, start = [], 0
        for o in out_leaves:
            stop = start + aval_of(o).size
            blocks.append(
                chosen.unflatten([reshape(r[start:stop], (*aval_of(o).shape, *aval_of(r).shape[1:])) for r in rows])
            )
            start = stop
        result = out_tree.unflatten(blocks)
        return (result, aux[0]) if has_aux else result

    return jacobian_function


def _check_jacrev_output(out: Any, name: str, holomorphic: bool) -> None:
    dtype = aval_of(out).dtype
    if dtypes.is_complex(dtype) != holomorphic or not dtypes.is_inexact(dtype):
        wanted = "complex" if holomorphic else "real floats"
        raise NotDifferentiableError(
            f"jacrev of {name}: outputs must be {wanted}, one is {aval_of(out)}",
            fix="cast the output, or change holomorphic=",
        )


jacobian = jacrev


def hessian(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """Return the Hessian of `fun`: H[i, j] = ∂²f/∂xᵢ∂xⱼ, forward over reverse.

    >>> import funcgrad.numpy as jnp
    >>> hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0]))
    Array([[4., 2.],
           [2., 0.]], dtype=float32)
    """
    return jacfwd(jacrev(fun, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)


__all__ = [
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linear_transpose",
    "linearize",
    "value_and_grad",
    "vjp",
]
