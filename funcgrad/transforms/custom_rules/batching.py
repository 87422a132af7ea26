"""custom_vmap: a function with a custom batching rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import AxisData, ParamStyle, Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.errors import ArgumentError, BatchingError
from funcgrad.ops.shapes import instantiate, leading, to_dim
from funcgrad.transforms.control_flow import map as map_slices
from funcgrad.transforms.custom_rules.common import CustomFunction, call_rule, check_arrays, check_pair, transpose_call
from funcgrad.transforms.flattening import FlatFunction, as_arrays, name_of, of_positional, places
from funcgrad.transforms.interpreters.jvp import jvp_flat, jvp_jaxpr
from funcgrad.transforms.interpreters.partial_eval import Split
from funcgrad.transforms.jit import jit_p

# ---------------------------------------------------------------- the primitive

# `rule(size, batched, args)` returns (results, which are batched), all flat, batch dimensions leading.
Rule = Callable[[int, Sequence[bool], Sequence[Any]], tuple[list[Any], list[bool]]]


def _batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], *, call: ClosedJaxpr, rule: Rule, name: str
) -> tuple[list[Any], list[int | None]]:
    outs, batched_out = rule(axis.size, [d is not None for d in dims], leading(args, dims))
    return outs, [0 if b else None for b in batched_out]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, call: ClosedJaxpr, rule: Rule, name: str
) -> tuple[list[Any], list[Any]]:
    """Differentiate the function; the derivative of its rule batches its derivative."""
    tangents = [instantiate(t) for t in tangents]
    pushed, _ = jvp_jaxpr(call, [True] * len(primals), instantiate_out=True)
    out = custom_vmap_call_p.bind(*primals, *tangents, call=pushed, rule=_pushed_rule(rule, len(primals)), name=name)
    n = len(call.out_avals)
    return out[:n], out[n:]


def _pushed_rule(rule: Rule, n: int) -> Rule:
    """The batching rule of the directional derivative, from the rule of the function."""

    def pushed(size: int, batched: Sequence[bool], args: Sequence[Any]) -> tuple[list[Any], list[bool]]:
        either = [p or t for p, t in zip(batched[:n], batched[n:], strict=True)]
        full = [
            to_dim(x, 0 if b else None, 0 if e else None, size)
            for x, b, e in zip(args, batched, [*either, *either], strict=True)
        ]
        batched_out: list[bool] = []

        def of_primals(*primals: Any) -> list[Any]:
            outs, batched_out[:] = rule(size, either, primals)
            return outs

        outs, tangents_out = jvp_flat(of_primals, full[:n], full[n:])
        return [*outs, *map(instantiate, tangents_out)], [*batched_out, *batched_out]

    return pushed


def _partial_eval(
    unknown: list[bool], avals: Sequence[ShapedArray], *, call: ClosedJaxpr, rule: Rule, name: str
) -> Split:
    """Partially evaluate the function itself: the rule batches the whole, not its parts."""
    assert jit_p.partial_eval is not None
    return jit_p.partial_eval(unknown, avals, jaxpr=call, name=name)


def _infer(*avals: ShapedArray, call: ClosedJaxpr, rule: Rule, name: str) -> list[ShapedArray]:
    return call.out_avals


def _evaluate(*arrays: Array, call: ClosedJaxpr, rule: Rule, name: str) -> list[Array]:
    return eval_jaxpr(call.jaxpr, call.consts, *arrays)


custom_vmap_call_p = Primitive(
    "custom_vmap_call",
    infer=_infer,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=lambda cts, *args, call, rule, name: transpose_call(cts, *args, call_jaxpr=call),
    batch=_batch,
    partial_eval=_partial_eval,
    lowering=Inline("call"),
    params_style=ParamStyle(hidden=lambda name, value: name == "name"),
    multiple_results=True,
    higher_order=True,
)

# ---------------------------------------------------------------- the decorators


class custom_vmap(CustomFunction):
    """A function with a custom rule for vmap.

    The rule is differentiated where the mapped function is. Reverse mode inside of vmap differentiates the
    function first, and maps what results without the rule; give the function a `custom_vjp` around it, whose two
    halves may be custom_vmap functions, to have both.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> @custom_vmap
    ... def f(x, y):
    ...     return x + y
    >>> @f.def_vmap
    ... def f_vmap(axis_size, in_batched, xs, ys):
    ...     return 10 * (xs + ys), True
    >>> fg.vmap(f)(jnp.arange(3), jnp.arange(3))
    Array([ 0, 20, 40], dtype=int32)
    """

    transform, rule_method = "custom_vmap", "def_vmap"
    vmap_rule: Callable[..., Any] | None = None

    def __init__(self, fun: Callable[..., Any]):
        super().__init__(fun)

    def def_vmap(self, vmap_rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule, (axis_size, in_batched, *args) → (results, which of them are batched), and return it.

        `in_batched` is a list with an entry per argument, each a tree of bools like the argument: whether a leaf
        has a leading axis of `axis_size`. The second result is such a tree for the results.
        """
        self.vmap_rule = vmap_rule
        return vmap_rule

    def has_rule(self) -> bool:
        return self.vmap_rule is not None

    def apply(self, args: tuple) -> Any:
        assert self.vmap_rule is not None
        leaves, in_tree = tree.flatten(args)
        leaves = as_arrays(leaves, f"custom_vmap of {name_of(self.fun)}", places("args", in_tree))
        flat_fun = FlatFunction(self.fun, of_positional(*in_tree.children()), transform="custom_vmap")
        name = name_of(self.fun)
        traced = trace_to_jaxpr(flat_fun, [aval_of(x) for x in leaves], description=f"tracing {name}", name=name)
        call, consts = hoist_tracers(traced)
        rule = _FlatRule(self.vmap_rule, in_tree, flat_fun.out_tree, len(consts), name)
        return flat_fun.unflatten_out(custom_vmap_call_p.bind(*consts, *leaves, call=call, rule=rule, name=name))


class _FlatRule:
    """A user's rule for vmap as a function of flat arguments, whose results are checked."""

    def __init__(self, rule: Callable[..., Any], in_tree: Any, out_tree: Any, num_consts: int, name: str):
        self.rule, self.in_tree, self.out_tree, self.num_consts = rule, in_tree, out_tree, num_consts
        self.__name__ = name_of(rule)
        self.name = name
        self.shown = f"custom_vmap: the rule {self.__name__} of {name}"

    def __call__(self, size: int, batched: Sequence[bool], args: Sequence[Any]) -> tuple[list[Any], list[bool]]:
        n = self.num_consts
        if any(batched[:n]):
            raise BatchingError(
                f"custom_vmap: {self.name} closes over a value that is mapped, which its rule does not get",
                fix="pass the value as an argument",
            )
        in_batched = self.in_tree.unflatten(batched[n:])
        given = [size, list(in_batched), *self.in_tree.unflatten(args[n:])]
        result = call_rule(self.rule, given, self.shown, "(axis_size, in_batched, *arguments)")
        out, out_batched = check_pair(result, self.shown, "(results, which of them are batched)")
        outs, out_tree = tree.flatten(out)
        flags, flags_tree = tree.flatten(out_batched)
        self._check_structure("its flags", flags_tree, "its results", out_tree, "one bool per array of the results")
        self._check_structure("its results", out_tree, f"those of {self.name}", self.out_tree, "what the function does")
        outs = check_arrays(outs, out_tree, self.shown)
        for x, flag in zip(outs, flags, strict=True):
            if flag and aval_of(x).shape[:1] != (size,):
                raise BatchingError(
                    f"{self.shown} returned {aval_of(x)} as a batch of {size}, which its first axis is not",
                    fix="return results with a leading batch axis, or say that they are not batched",
                )
        return outs, [bool(f) for f in flags]

    def _check_structure(self, what: str, have: Any, other: str, wanted: Any, fix: str) -> None:
        if have != wanted:
            raise ArgumentError(
                f"{self.shown}: {what} have another structure than {other}: "
                f"{tree.describe_mismatch(what, have, other, wanted)}\n    {what}: {have}\n    {other}: {wanted}",
                fix=f"return {fix}",
            )


def sequential_vmap(f: Callable[..., Any]) -> custom_vmap:
    """Return `f` so that vmap calls it for one element of the batch after another, in a loop (`lax.map`).

    For functions that cannot be vectorized, callbacks for instance.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> fg.vmap(sequential_vmap(lambda x: x + 1))(jnp.arange(3))
    Array([1, 2, 3], dtype=int32)
    """
    function = custom_vmap(f)

    def rule(size: int, in_batched: list[Any], *args: Any) -> tuple[Any, Any]:
        leaves, structure = tree.flatten(args)
        flags = structure.flatten_up_to(tuple(in_batched))

        def of_slices(slices: list[Any]) -> Any:
            rest = iter(slices)
            return function(*structure.unflatten([next(rest) if b else x for x, b in zip(leaves, flags, strict=True)]))

        out = map_slices(of_slices, [x for x, b in zip(leaves, flags, strict=True) if b])
        return out, tree.map(lambda _: True, out)

    function.def_vmap(rule)
    return function


__all__ = ["custom_vmap", "custom_vmap_call_p", "sequential_vmap"]
