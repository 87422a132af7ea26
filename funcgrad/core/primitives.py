"""Primitives: an operation together with every rule that transforms and compilers ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funcgrad.config import config
from funcgrad.core import finite
from funcgrad.core.array_types import Reference
from funcgrad.core.arrays import Array, TracedOperandError, as_operand, as_result
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Concatenate, Elementwise, Iota, Lowering, Pad, View, host
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.core.traces import current, enclosing, state
from funcgrad.errors import AllocationError, ArgumentError, MissingRuleError, called_function

registry: dict[str, Primitive] = {}


class Primitive:
    """One operation, declared once with all its rules.

    Rules (each takes the params as keywords after the positional arguments named here):

    ==============  ======================================================================================
    `infer`         avals → the result's aval (a list of them when `multiple_results`); raises on bad input
    `evaluate`      NumPy arrays → NumPy result(s): eager mode, and what every other rule is tested against
    `jvp`           (primals, tangents) → (primal out, tangent out); tangents may be `Zero`
    `transpose`     (cotangent, *args) → a cotangent per arg; args that are linear are `UndefinedPrimal`
    `batch`         (args, dims) → (result, result's batch dim); at least one dim is not None
    `lowering`      how the compiler sees it: a `core.lowering` description, not code
    ==============  ======================================================================================

    Primitives that carry jaxprs or functions in their params (`higher_order`) may have these too. All but
    `partial_eval` get the params as a dict:

    ==============  ======================================================================================
    `partial_eval`  (unknown, avals), params as keywords → a `partial_eval.Split`, or None when all of it is unknown
    `prune`         (which results are used, params) → (which operands those need, params for them)
    `stage`         (args, params) → the same, with jaxprs in the place of functions
    `discharge`     (args, params) → result, where some args are Refs: bind with their contents, then write these back
    ==============  ======================================================================================

    Collectives have `axis_names`, params → the vmap axes that they name: `batch` of these axes sees them even where no
    operand is batched.

    Functions may close over tracers. So where there is a `stage` rule it is asked before an equation is recorded, and
    `batch` gets the trace as a third argument, and is asked even when no operand is batched.

    >>> from funcgrad.ops.arithmetic import sin_p
    >>> sin_p
    sin
    """

    def __init__(
        self,
        name: str,
        *,
        infer: Callable[..., Any],
        evaluate: Callable[..., Any],
        jvp: Callable[..., Any] | None = None,
        transpose: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        lowering: Lowering | None = None,
        partial_eval: Callable[..., Any] | None = None,
        prune: Callable[..., Any] | None = None,
        stage: Callable[..., Any] | None = None,
        axis_names: Callable[[dict[str, Any]], Iterable[Any]] | None = None,
        discharge: Callable[..., Any] | None = None,
        multiple_results: bool = False,
        higher_order: bool = False,
        effectful: bool = False,
        origin: str = "",
        register: bool = True,
    ):
        self.name = name
        # Where the primitive is declared, for messages; by default the module of `infer`.
        self.origin = origin or getattr(infer, "__module__", "its declaration")
        self.infer, self.evaluate, self.lowering = infer, evaluate, lowering or host
        self._jvp, self._transpose, self._batch = jvp, transpose, batch
        self.partial_eval, self.prune, self.stage = partial_eval, prune, stage
        self.axis_names, self.discharge = axis_names, discharge
        self.multiple_results = multiple_results
        # Higher-order primitives carry jaxprs in their params and do their own caching and compiling.
        self.higher_order = higher_order
        self._carries_refs = higher_order or discharge is not None
        # Does more than compute its results: is kept when they are not used, never shared, and stays in its order.
        self.effectful = effectful
        self._inferred: dict[Any, Any] = {}
        if register:  # the library's own: those that are tested against every law
            registry[name] = self

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name: the process that loads it declares the same primitives."""
        if registry.get(self.name) is not self:
            raise ArgumentError(
                f"{self.name}: a primitive that is declared in user code ({self.origin}) cannot be pickled",
                fix="pickle the arrays, and make the function again where they are loaded",
            )
        return registered, (self.name,)

    def bind(self, *args: Any, **params: Any) -> Any:
        """Apply the primitive under the transform that is current in this thread."""
        if self._carries_refs and any(isinstance(a, Reference) for a in args):
            return self._discharged(args, params)
        return state.trace.process_primitive(self, args, params)

    def _discharged(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if self.discharge is None:
            aval = next(a.aval for a in args if isinstance(a, Reference))
            raise ArgumentError(
                f"{self.name}: one of its functions reads or writes a Ref with contents of type {aval}",
                fix="read the Ref before, ref[...], and close over the contents",
            )
        return self.discharge(args, params)

    def typed(self, avals: Sequence[ShapedArray], params: dict[str, Any]) -> Any:
        """Return `infer(*avals, **params)`, remembered per avals and params."""
        if self.higher_order:  # read off the jaxprs in its params, which a memory would keep alive
            return self.infer(*avals, **params)
        try:
            key = (*avals, *params.items())
            found = self._inferred.get(key)
        except TypeError:  # a param that does not hash
            return self.infer(*avals, **params)
        if found is None:
            found = self._inferred[key] = self.infer(*avals, **params)
            if len(self._inferred) > 4096:
                self._inferred.clear()
        return found

    def evaluate_eagerly(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Evaluate the primitive on concrete values by its NumPy rule: what applying it means to `EvalTrace`."""
        try:
            arrays = [a if type(a) is Array else as_operand(a) for a in args]
        except TracedOperandError:
            return self._apply_to_tracers(args, params)
        if self.higher_order:
            return self.evaluate(*arrays, **params)
        aval = self.typed([a.aval for a in arrays], params)
        try:
            with np.errstate(all="ignore"):
                out = self.evaluate(*[a.host for a in arrays], **params)
        except MemoryError as e:
            raise _out_of_memory(self.name, aval if isinstance(aval, list) else [aval]) from e
        if config.checks_values:
            self._check_finite(arrays, out)
        if self.multiple_results:
            return [as_result(a, o) for a, o in zip(aval, out, strict=True)]
        return as_result(aval, out)

    def _apply_to_tracers(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Apply the primitive within `ensure_compile_time_eval`: the innermost trace of an operand decides."""
        tracers = [a for a in args if isinstance(a, Tracer)]
        for tracer in tracers:
            check_not_leaked(tracer)
        innermost = max((t._trace for t in tracers), key=lambda trace: len(list(enclosing(trace))))
        with current(innermost):
            return innermost.process_primitive(self, args, params)

    def _check_finite(self, operands: Sequence[Array], out: Any) -> None:
        if not self.only_moves:
            outputs = [np.asarray(o) for o in (out if self.multiple_results else [out])]
            kinds = finite.Kinds(config.debug_nans, config.debug_infs)
            values, elementwise = [a.host for a in operands], isinstance(self.lowering, Elementwise)
            finite.check(self.name, outputs, values, kinds, state.source, elementwise=elementwise, given=True)

    @property
    def only_moves(self) -> bool:
        """Whether the primitive moves or chooses elements: it makes no NaN or infinity of finite values."""
        moves = isinstance(self.lowering, (View, Pad, Concatenate, Iota))
        return moves or self.name in ("copy", "dynamic_slice", "select_n", "sort", "stop_gradient")

    jvp = property(lambda self: self._rule(self._jvp, "jvp"))
    transpose = property(lambda self: self._rule(self._transpose, "transpose"))
    batch = property(lambda self: self._rule(self._batch, "batch"))

    def _rule(self, rule: Callable[..., Any] | None, kind: str) -> Callable[..., Any]:
        if rule is None:
            raise missing_rule(self.name, kind, self.origin)
        return rule

    def has(self, kind: str) -> bool:
        """Whether the primitive has a rule of this kind ("jvp", "transpose", "batch")."""
        return getattr(self, f"_{kind}") is not None


def registered(name: str) -> Primitive:
    """Return the library's primitive of that name."""
    return registry[name]


def missing_rule(name: str, kind: str, origin: str) -> MissingRuleError:
    """The error that a primitive lacks a rule, and where to add it."""
    return MissingRuleError(
        f"{name}: no {kind} rule", fix=f"declare {kind}= where the primitive is made (see {origin})"
    )


def _out_of_memory(name: str, avals: Sequence[ShapedArray]) -> AllocationError:
    return AllocationError(
        f"{called_function() or name}: the result {', '.join(map(str, avals))} needs "
        f"{sum(a.nbytes for a in avals) / 2**30:.1f} GiB, which is not available",
        fix="compute in smaller pieces, use a smaller dtype, or put the computation under jit so that it is fused",
    )
