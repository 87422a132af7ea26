"""The laws that every primitive satisfies, as functions of (primitive, args, params).

=================  =============================================================================
`types`            infer(avals) is the type of the NumPy result
`derivative`       jvp = finite difference
`adjoint`          ⟨Jᵀu, v⟩ = ⟨u, Jv⟩
`second_order`     jvp of jvp, vjp of jvp, jvp of vjp = finite difference
`vectorization`    vmap = loop, for every choice of batched operands and axes
`vmap_of_jvp`      vmap ∘ jvp = jvp ∘ vmap
`compilation`      jit = eager
`special_values`   jit = eager at signed zeros, infinities, NaN, the largest, smallest and subnormal numbers
`round_trip`       the traced jaxpr passes its checker, evaluates to the same, and prints
=================  =============================================================================

A law raises AssertionError with the call that violates it. The laws hold for user-defined primitives too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.jaxprs import eval_jaxpr
from funcgrad.core.primitives import Primitive
from funcgrad.ops.special import igamma_p, igammac_p
from funcgrad.testing import special
from funcgrad.testing.comparisons import assert_close
from funcgrad.testing.gradients import check_grads, check_jit, check_jvp_vjp, check_vmap, random_like
from funcgrad.transforms.derivatives import jvp, vjp
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import make_jaxpr
from funcgrad.transforms.vmap import vmap

_UNKNOWN_IN_SECOND_ORDER = {igamma_p: (0,), igammac_p: (0,)}
"""Operands for which only the first derivative is implemented."""


def as_function(primitive: Primitive, params: dict[str, Any]) -> Callable[..., Any]:
    """Return the primitive with its params as a function of its operands."""

    def call(*args: Any) -> Any:
        return primitive.bind(*args, **params)

    call.__name__ = primitive.name
    return call


def _differentiable(args: Sequence[Any]) -> bool:
    return any(dtypes.is_inexact(aval_of(x).dtype) for x in args)


def _has_derivative(primitive: Primitive) -> bool:
    return bool(primitive.modes) or primitive.has("jvp")


def _differentiable_call(
    primitive: Primitive, args: Sequence[Any], params: dict[str, Any], constant: Sequence[int] = ()
) -> tuple[Callable[..., Any], list[Any]]:
    """Return the primitive as a function of its differentiable operands, and those operands."""
    fixed = {*constant, *primitive.constant_operands(params)}

    def call(*variables: Any) -> Any:
        rest = iter(variables)
        return primitive.bind(*(x if i in fixed else next(rest) for i, x in enumerate(args)), **params)

    call.__name__ = primitive.name
    return call, [x for i, x in enumerate(args) if i not in fixed]


def _finite_at(f: Callable[..., Any], args: Sequence[Any]) -> bool:
    return all(np.all(np.isfinite(np.asarray(x))) for x in tree.leaves(f(*args)) if dtypes.is_inexact(aval_of(x).dtype))


def types(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """The inferred type is the shape and dtype of the result of the NumPy rule."""
    inferred = primitive.infer(*map(aval_of, args), **params)
    inferred = inferred if primitive.multiple_results else [inferred]
    if primitive.higher_order:
        results = primitive.bind(*args, **params)
    else:
        with np.errstate(all="ignore"):
            results = primitive.evaluate(*args, **params)
    results = results if primitive.multiple_results else [results]
    for aval, value in zip(inferred, results, strict=True):
        have = ShapedArray(np.shape(value), value.dtype)
        if have is not aval.strengthened():
            raise AssertionError(f"{primitive}: infer returns {aval}, but the NumPy result is {have}")


def derivative(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """The jvp rule, or the reverse rule if there is no jvp rule, gives the derivative along a random direction."""
    f, args = _differentiable_call(primitive, args, params)
    if primitive.modes and _finite_at(f, args):
        check_grads(f, args, order=1, modes=primitive.modes[:1], widen=False)


def adjoint(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """Reverse mode, which transposes the operations of the jvp rule, is the adjoint of forward mode."""
    f, args = _differentiable_call(primitive, args, params)
    if len(primitive.modes) == 2 and _differentiable(args):
        check_jvp_vjp(f, args)


def second_order(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """Second derivatives, in every combination of forward and reverse mode, agree with finite differences."""
    f, args = _differentiable_call(primitive, args, params, _UNKNOWN_IN_SECOND_ORDER.get(primitive, ()))
    if primitive.modes and _differentiable(args) and _finite_at(f, args):
        check_grads(f, args, order=2, modes=primitive.modes, atol=1e-4, rtol=1e-4, widen=False)


def _batch_axes(args: Sequence[Any]) -> list[tuple[int | None, ...]]:
    """All ways to batch the operands along their first or last axis, or not at all; at least one is batched."""
    choices = [[None, 0, np.ndim(x)] if np.ndim(x) else [None, 0] for x in args]
    if len(args) > 3:
        # There are too many combinations: batch all operands along one axis, and each operand alone.
        alone = [tuple(0 if i == j else None for j in range(len(args))) for i in range(len(args))]
        return [(0,) * len(args), tuple(c[-1] for c in choices), *alone]
    return [c for c in itertools.product(*choices) if any(a is not None for a in c)]


def _batch_of_two(x: Any, axis: int | None) -> Any:
    """Stack the operand and its elements in reverse order: two different values from the same domain."""
    x = np.asarray(x)
    return x if axis is None else np.stack([x, x.ravel()[::-1].reshape(x.shape)], axis)


def vectorization(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """vmap equals a loop over the batch, for every choice of batched operands and axes."""
    for axes in _batch_axes(args):
        batched = [_batch_of_two(x, a) for x, a in zip(args, axes, strict=True)]
        check_vmap(as_function(primitive, params), batched, axes)


def vmap_of_jvp(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """vmap of jvp equals jvp of vmap, and vmap of vjp equals vjp of vmap."""
    f, args = _differentiable_call(primitive, args, params)
    if not _differentiable(args) or not _has_derivative(primitive):
        return
    batch = tuple(_batch_of_two(x, 0) for x in args)
    tangents = random_like(batch)
    live = [i for i, x in enumerate(args) if dtypes.is_inexact(aval_of(x).dtype)]

    def with_live(values: Sequence[Any], others: Sequence[Any]) -> list[Any]:
        given = dict(zip(live, values, strict=True))
        return [given.get(i, x) for i, x in enumerate(others)]

    def pushed(xs: Any, vs: Any) -> Any:
        zeros = random_like(args)
        return jvp(f, tuple(xs), tuple(with_live(vs, zeros)))

    if primitive.modes != ("rev",):
        expected = jvp(vmap(f), batch, tangents)
        actual = vmap(pushed)(list(batch), [tangents[i] for i in live])
        assert_close(_without_float0(actual), _without_float0(expected), what=f"{primitive}: vmap∘jvp and jvp∘vmap")
    seed = random_like(vmap(f)(*batch), seed=1)
    if primitive.modes == ("fwd",) or any(aval_of(s).dtype == dtypes.float0 for s in tree.leaves(seed)):
        return
    back = vjp(lambda *xs: vmap(f)(*with_live(xs, batch)), *(batch[i] for i in live))[1](seed)
    rows = vmap(lambda xs, s: vjp(lambda *ys: f(*with_live(ys, xs)), *(xs[i] for i in live))[1](s))(list(batch), seed)
    assert_close(rows, back, what=f"{primitive}: vmap∘vjp and vjp∘vmap")


def _without_float0(values: Any) -> Any:
    return [x for x in tree.leaves(values) if aval_of(x).dtype != dtypes.float0]


def compilation(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """The compiled primitive returns the same as the NumPy rule."""
    check_jit(as_function(primitive, params), args)


def special_values(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """The compiled primitive returns the same as the NumPy rule for special values of the operands."""
    f, compiled = as_function(primitive, params), jit(as_function(primitive, params))
    for operands in special.operands(primitive, args):
        special.assert_same(compiled(*operands), f(*operands), primitive.name)


def round_trip(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    """The traced jaxpr and that of its derivative pass the checker, evaluate to the same values, and print."""
    f, args = _differentiable_call(primitive, args, params)
    programs = [f]
    if primitive.modes != ("rev",) and _differentiable(args) and _has_derivative(primitive):
        tangents = random_like(args)
        programs.append(lambda *xs: _without_float0(jvp(f, xs, tangents)))
    for program in programs:
        closed = make_jaxpr(program)(*args)
        check_jaxpr(closed)
        out = eval_jaxpr(closed.jaxpr, closed.consts, *args)
        assert_close(
            out,
            [np.asarray(x) for x in tree.leaves(program(*args))],
            what=f"{primitive}: its jaxpr and eager",
        )
        text = str(closed)
        if not text.startswith(("{ lambda", "let ")) or any(str(e.primitive) not in text for e in closed.eqns):
            raise AssertionError(f"{primitive}: the jaxpr prints as {text}")
        closed._repr_html_()


LAWS: dict[str, Callable[[Primitive, Sequence[Any], dict[str, Any]], None]] = {
    law.__name__: law
    for law in (
        types,
        derivative,
        adjoint,
        second_order,
        vectorization,
        vmap_of_jvp,
        compilation,
        special_values,
        round_trip,
    )
}
"""Every law by name. `derivative` and `second_order` need operands in float64; the others accept all dtypes."""

NEED_DOUBLE = ("derivative", "second_order")
