"""Shared by functions with custom rules: their arguments, staging, batching and messages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core import traces
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.primitives import AxisData, ParamStyle
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.symbolic import Zero
from funcgrad.errors import ArgumentError, BatchingError, DTypeError, MissingRuleError, ShapeError
from funcgrad.ops.shapes import to_dim
from funcgrad.tracebacks import boundary_itself, filter_traceback
from funcgrad.transforms.flattening import FlatFunction, as_arrays, callable_or_error, name_of, places
from funcgrad.transforms.interpreters.batching import BatchTrace
from funcgrad.transforms.interpreters.transpose import backward_pass

# ---------------------------------------------------------------- the decorators

CALL_STYLE = ParamStyle(hidden=lambda name, value: name == "num_consts" and not value, first="name")
"""How custom_jvp_call and custom_vjp_call are printed."""


class CustomFunction:
    """Base of the decorators: a function whose `nondiff_argnums` are values of any kind, which rules get first."""

    transform = ""
    rule_method = ""  # the method that defines the rule

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] | int = (), nondiff_argnames: Any = ()):
        callable_or_error(fun, self.transform)
        functools.update_wrapper(self, fun)
        self.fun = fun
        self._signature = _signature(fun)
        nums = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        names = (nondiff_argnames,) if isinstance(nondiff_argnames, str) else tuple(nondiff_argnames)
        self.nondiff_argnums = tuple(sorted({*nums, *map(self._position, names)}))

    def _position(self, name: str) -> int:
        parameters = list(self._signature.parameters) if self._signature else []
        if name not in parameters:
            raise ArgumentError(
                f"{self.transform}({name_of(self.fun)}): nondiff_argnames has {name!r}, which is not a parameter; "
                f"parameters are {parameters}",
                fix="correct the name",
            )
        return parameters.index(name)

    def __repr__(self) -> str:
        return f"<{self.transform} {name_of(self.fun)}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        # Decorators are stacked, and all rules are given to the outermost.
        if name in ("defjvp", "defjvps", "defvjp", "def_vmap"):
            return getattr(self.__wrapped__, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @boundary_itself
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if not self.has_rule():
                name = name_of(self.fun)
                raise MissingRuleError(
                    f"{self.transform}: {name} has no rule", fix=f"define one with {name}.{self.rule_method}(…)"
                )
            if traces.state.trace is traces.eval_trace:  # no transform is under way to use the rule
                return self.fun(*self._with_arrays(self.positional(args, kwargs) if kwargs else args))
            return self.apply(self.positional(args, kwargs))
        except Exception as error:
            filter_traceback(error)
            raise

    def _with_arrays(self, args: tuple) -> Sequence[Any]:
        """Return arguments with numbers as arrays, as a transform would pass them."""
        if not self.nondiff_argnums and all([type(x) is Array for x in args]):
            return args
        static, dynamic = self.split_nondiff(args)
        leaves, structure = tree.flatten(dynamic)
        if all([type(x) is Array for x in leaves]):
            return args
        dynamic = structure.unflatten(as_arrays(leaves, name_of(self.fun), places("args", structure)))
        return merge_nondiff(static, dynamic) if static else dynamic

    def has_rule(self) -> bool:
        """Whether the rule has been defined."""
        raise NotImplementedError

    def apply(self, args: tuple) -> Any:
        """Apply the function's primitive to all arguments, given by position."""
        raise NotImplementedError

    def positional(self, args: tuple, kwargs: dict[str, Any]) -> tuple:
        """Return all arguments by position, defaults filled in: rules take them so."""
        if self._signature is None:
            if kwargs:
                raise self._unresolved(f"{name_of(self.fun)} has no signature to find {sorted(kwargs)} in")
            return args
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as e:
            raise self._unresolved(str(e)) from None
        bound.apply_defaults()
        given = [name for name in bound.kwargs if name in kwargs]
        if given:
            raise self._unresolved(f"keyword arguments {given} have no position")
        return bound.args

    def _unresolved(self, reason: str) -> ArgumentError:
        return ArgumentError(
            f"{self.transform}: the arguments of {name_of(self.fun)} do not fit its signature: {reason}",
            fix="call it as it is defined; parameters that are keyword-only cannot be passed",
        )

    def split_nondiff(self, args: tuple) -> tuple[dict[int, Any], tuple]:
        """Separate nondiff arguments, by position, from those that are arrays."""
        if not self.nondiff_argnums:
            return {}, args
        for i in self.nondiff_argnums:
            if not 0 <= i < len(args):
                raise ArgumentError(
                    f"{self.transform}: nondiff_argnums has {i}, but {name_of(self.fun)} was called with {len(args)} "
                    "arguments",
                    fix="count positions from 0",
                )
        static = {i: args[i] for i in self.nondiff_argnums}
        return static, tuple(a for i, a in enumerate(args) if i not in static)


def _signature(fun: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fun)
    except (TypeError, ValueError):
        return None


def merge_nondiff(static: dict[int, Any], dynamic: Sequence[Any]) -> list[Any]:
    """Return all arguments in their order: the inverse of `CustomFunction.split_nondiff`."""
    rest = iter(dynamic)
    return [static[i] if i in static else next(rest) for i in range(len(static) + len(dynamic))]


def with_static(fun: Callable[..., Any], static: dict[int, Any]) -> Callable[..., Any]:
    """Return `fun` as a function of its other arguments."""
    if not static:
        return fun

    def of_dynamic(*dynamic: Any) -> Any:
        return fun(*merge_nondiff(static, dynamic))

    of_dynamic.__name__ = name_of(fun)
    return of_dynamic


class PrimalFunction(FlatFunction):
    """The decorated function, flat; stores the types of its results, which the results of rules must match."""

    out_avals: Sequence[ShapedArray] = ()

    def __call__(self, *flat: Any) -> list[Any]:
        out = super().__call__(*flat)
        self.out_avals = [aval_of(x) for x in out]
        return out

    def shown_out(self) -> str:
        """Return the results' tree as text."""
        return typed_tree(self.out_tree, self.out_avals)


# ---------------------------------------------------------------- functions in params


Function = ClosedJaxpr | Callable[..., Any]


def call(fun: Function, args: Sequence[Any]) -> list[Any]:
    """Apply the function of a custom call: a Python function, or the jaxpr it was staged to."""
    return eval_jaxpr(fun.jaxpr, fun.consts, *args) if isinstance(fun, ClosedJaxpr) else list(fun(*args))


def stage(args: Sequence[Any], params: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Trace the function of a custom call; tracers that it closes over become leading operands."""
    fun, name = params["call_jaxpr"], params["name"]
    if isinstance(fun, ClosedJaxpr):
        return args, params
    traced = trace_to_jaxpr(fun, [aval_of(a) for a in args], description=f"tracing {name}", name=name)
    closed, consts = hoist_tracers(traced)
    return [*consts, *args], params | {"call_jaxpr": closed, "num_consts": params["num_consts"] + len(consts)}


def infer_call(*avals: ShapedArray, call_jaxpr: ClosedJaxpr, **params: Any) -> list[ShapedArray]:
    """The types that a custom call returns."""
    return call_jaxpr.out_avals


def evaluate_call(*arrays: Array, call_jaxpr: Function, **params: Any) -> list[Any]:
    """Evaluate a custom call: apply its function and ignore its rules."""
    return as_arrays(call(call_jaxpr, arrays))


def transpose_call(cts: Sequence[Any], *args: Any, call_jaxpr: ClosedJaxpr, **params: Any) -> list[Any]:
    """Transpose a call that is linear: a rule of one function may apply another to its tangents."""
    return backward_pass(call_jaxpr.jaxpr, call_jaxpr.consts, args, cts)


class BatchedCall:
    """A custom call under vmap: how its functions are batched, with batch dimensions leading.

    Which results are batched is the same for all its functions: all of them when some operand is batched, and
    otherwise those that depend on tracers which the functions close over.
    """

    def __init__(self, axis: AxisData, dims: Sequence[int | None], name: str):
        self.axis, self.name = axis, name
        self.any = any(d is not None for d in dims)
        self.dims = [None if d is None else 0 for d in dims]
        self.batched_out: list[bool] = []

    def run(self, fun: Callable[..., Any], dims: Sequence[int | None], args: Sequence[Any]) -> Any:
        """Apply a flat function under vmap; return results and their dimensions as they come."""
        return BatchTrace(traces.state.trace, self.axis, self.name).run(fun, dims, args)

    def settle(self, dims: Sequence[int | None]) -> list[bool]:
        """Return which results of the call are batched, as determined by the first of its functions that runs."""
        self.batched_out = self.batched_out or [self.any or d is not None for d in dims]
        return self.batched_out

    def place(self, values: Sequence[Any], dims: Sequence[int | None], batched: Sequence[bool]) -> list[Any]:
        """Return values with leading batch dimensions where they are to be batched; Zeros stay so."""
        if any(d is not None and not b for d, b in zip(dims, batched, strict=True)):
            raise BatchingError(
                "a custom rule closes over a mapped value, which the function's own result does not depend on",
                fix="pass the value as an argument",
            )
        return [
            self.zero(v.aval, b) if type(v) is Zero else to_dim(v, d, 0 if b else None, self.axis.size)
            for v, d, b in zip(values, dims, batched, strict=True)
        ]

    def zero(self, aval: ShapedArray, batched: bool) -> Zero:
        """Return a Zero for the whole batch."""
        return Zero(aval.update(shape=(self.axis.size, *aval.shape)) if batched else aval)

    def call(self, fun: Function) -> Callable[..., list[Any]]:
        """Return the function of a custom call, batched."""

        def batched(*args: Any) -> list[Any]:
            outs, out_dims = self.run(lambda *xs: call(fun, xs), self.dims, args)
            return self.place(outs, out_dims, self.settle(out_dims))

        return batched

    def elements(self, values: Sequence[Any], batched: Sequence[bool]) -> list[ShapedArray]:
        """Return the types of one element of each value."""
        avals = [aval_of(v) for v in values]
        return [a.update(shape=a.shape[1:]) if b else a for a, b in zip(avals, batched, strict=True)]


# ---------------------------------------------------------------- results of rules


def typed_tree(structure: Any, leaves: Sequence[Any]) -> str:
    """Return a tree as text, its leaves shown as their types."""
    return structure.show((x if isinstance(x, ShapedArray) else aval_of(x)).short() for x in leaves)


def path_of(structure: Any, position: int) -> str:
    """Return the path of a leaf as text, such as ``[0]['w']``."""
    return tree.keystr(structure.paths()[position])


def call_rule(rule: Callable[..., Any], args: Sequence[Any], shown: str, takes: str) -> Any:
    """Call a user's rule; raise unless it takes that many arguments."""
    try:
        return rule(*args)
    except TypeError:
        misfit = _misfit(rule, args)
        if not misfit:
            raise
    raise ArgumentError(
        f"{shown} does not take the {len(args)} arguments that it gets: {misfit}",
        fix=f"rules of this kind take {takes}",
    )


def _misfit(fun: Callable[..., Any], args: Sequence[Any]) -> str:
    """Say why a function does not take these arguments; "" where it does, or has no signature."""
    signature = _signature(fun)
    if signature is not None:
        try:
            signature.bind(*args)
        except TypeError as e:
            return str(e)
    return ""


def check_pair(out: Any, rule: str, meaning: str) -> tuple[Any, Any]:
    """Raise unless a rule returned a pair."""
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        got = f"{len(out)} values" if isinstance(out, (tuple, list)) else f"{out!r:.60} of type {type(out).__name__}"
        raise ArgumentError(f"{rule} must return a pair {meaning}, it returned {got}", fix=f"return {meaning}")
    return out[0], out[1]


def check_arrays(leaves: Sequence[Any], structure: Any, rule: str) -> list[Any]:
    """Raise unless every leaf that a rule returned is an array (or a symbolic zero)."""
    for i, leaf in enumerate(leaves):
        try:
            aval_of(leaf)
        except ArgumentError:
            raise ArgumentError(
                f"{rule} returned {leaf!r:.60} of type {type(leaf).__name__} at "
                f"{path_of(structure, i) or 'its result'}, which is not an array",
                fix="return arrays; other values may be nondiff arguments or be closed over",
            ) from None
    return [x if isinstance(x, (ArrayLike, Zero)) else as_array(x) for x in leaves]


def check_primal_out(fun: PrimalFunction, structure: Any, leaves: Sequence[Any], rule: str) -> None:
    """Raise unless the value that a rule returned has the type of the function's own, where that is known."""
    if fun.out_tree is None:
        return

    def both() -> str:
        return f"\n    the rule: {typed_tree(structure, leaves)}\n    {fun.__name__}: {fun.shown_out()}"

    if structure != fun.out_tree:
        differences = tree.describe_mismatch("the rule's value", structure, "the function's", fun.out_tree)
        raise ArgumentError(
            f"{rule} returned a value with another structure than {fun.__name__} does: {differences}{both()}",
            fix=f"return the value that {fun.__name__} returns, in the same containers",
        )
    for i, (leaf, wanted) in enumerate(zip(leaves, fun.out_avals, strict=True)):
        have = aval_of(leaf)
        if have.shape != wanted.shape or have.dtype != wanted.dtype:
            raise (ShapeError if have.shape != wanted.shape else DTypeError)(
                f"{rule} returned a value of type {have.short()}{_at(structure, i)}, where {fun.__name__} returns "
                f"{wanted.short()}{both()}",
                fix=f"return the value that {fun.__name__} returns",
            )


def _at(structure: Any, position: int) -> str:
    path = path_of(structure, position)
    return f" at {path}" if path else ""
