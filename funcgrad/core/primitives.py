"""Primitives: operations with all their rules for transforms and the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.config import config
from funcgrad.core import finite
from funcgrad.core.array_types import Reference
from funcgrad.core.arrays import Array, TracedOperandError, as_operand, as_result
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Elementwise, Lowering, host
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.core.traces import current, enclosing, state
from funcgrad.errors import AllocationError, ArgumentError, MissingRuleError, called_function

registry: dict[str, Primitive] = {}


class AxisData(NamedTuple):
    """The axis that a batching rule maps over: its name in `vmap(axis_name=…)`, or None, and its size."""

    name: Any
    size: int


class Transform:
    """A transform with a rule per primitive, and the key of these rules in the open table `Primitive.rules`.

    It is declared once, in the module of the transform. Rules are declared with the primitive, or added by the module
    of the transform. `derive(primitive)` returns the rule that follows from the declared properties of a first-order
    primitive, or None.

    >>> doubled = Transform("doubled")
    >>> from funcgrad.ops.arithmetic import sin_p
    >>> doubled.rule(sin_p)
    Traceback (most recent call last):
    funcgrad.errors.MissingRuleError: sin: no doubled rule
      ...
    """

    def __init__(self, name: str, derive: Callable[[Primitive], Callable[..., Any] | None] = lambda primitive: None):
        self.name, self.derive = name, derive

    def __repr__(self) -> str:
        return self.name

    def rule(self, primitive: Primitive) -> Callable[..., Any]:
        """Return the rule of a primitive; raise MissingRuleError if there is none."""
        rule = primitive.rules.get(self)
        # Only an explicit rule can handle the functions in a higher-order primitive, so none is derived.
        if rule is None and not primitive.higher_order:
            rule = self.derive(primitive)
        if rule is None:
            how = f"rules={{{self.name}: ...}}"
            raise missing_rule(primitive.name, self.name, primitive.origin, how)
        return rule

    def add(self, rules: Mapping[Primitive, Any]) -> None:
        """Add rules to the tables of primitives."""
        for primitive, rule in rules.items():
            primitive.rules[self] = rule


class ParamStyle(NamedTuple):
    """How the params of a primitive are printed: in alphabetical order, except for the param `first`.

    `hidden(name, value)` selects the params to omit. With `shares_names`, variables of its jaxpr have the names of the
    corresponding operands and results.
    """

    hidden: Callable[[str, Any], bool] = lambda name, value: False
    first: str = ""
    shares_names: bool = False


class Primitive:
    """An operation, declared once with all its rules.

    Rules, which take the params as keywords after these positional arguments:

    ==============  ======================================================================================
    `infer`         avals → aval of the result (a list with `multiple_results`); raises for invalid input
    `evaluate`      NumPy arrays → NumPy result(s): eager mode, and the reference for all other rules
    `jvp`           (primals, tangents) → (primal out, tangent out); tangents may be `Zero`
    `transpose`     (cotangent, *args) → a cotangent per arg; linear args are `UndefinedPrimal`
    `batch`         (axis, args, dims) → (result, batch dim of the result), see below
    `lowering`      a description for the compiler, one of the classes in `core.lowering`
    ==============  ======================================================================================

    Primitives with jaxprs or functions in their params (`higher_order`) may also have these. `stage` and `discharge`
    get the params as a dict:

    ==============  ======================================================================================
    `partial_eval`  (unknown, avals), params as keywords → a `partial_eval.Split`, or None if everything is unknown
    `prune`         (which results are used, equation) → the equation without unused results and operands
    `stage`         (args, params) → the same, with jaxprs instead of functions
    `discharge`     (args, params) → result, for args that include Refs: bind with their contents, then write those back
    ==============  ======================================================================================

    The rules of other transforms are in `rules`, a table with keys of type `Transform`.

    Rules that are not declared may follow from these properties, which families of primitives provide:

    ===================  =================================================================================
    `moves_only`         results are elements of the operands, unchanged (by default as for the lowering)
    `may_make_nan`       a result may be NaN if no operand is (by default unless `moves_only`)
    `effectful`          has side effects: it is kept if its results are unused, and not reordered
    `ordered_effect`     the effect must happen exactly as often as in the program: no transform may run both branches
    `modes`              modes of differentiation, "fwd" and "rev"; empty if the derivative differs by definition
    `constant_operands`  params → operands without a derivative: differentiating with respect to one is an error
    `params_style`       how params are printed
    ===================  =================================================================================

    `batch` gets the mapped axis as an `AxisData`, and for each operand its batch dimension or None. At least one
    operand is batched, with two exceptions. Collectives have `axis_names`, params → the vmap axes that they name, and
    are always batched over these axes. Primitives with a `stage` rule, which runs before an equation is recorded, are
    always batched, because their functions may close over tracers.

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
        rules: Mapping[Transform, Callable[..., Any]] | None = None,
        moves_only: bool | None = None,
        may_make_nan: bool | None = None,
        effectful: bool = False,
        ordered_effect: bool = False,
        modes: Sequence[str] = ("fwd", "rev"),
        constant_operands: Callable[[dict[str, Any]], Sequence[int]] = lambda params: (),
        params_style: ParamStyle = ParamStyle(),  # noqa: B008 - immutable
        origin: str = "",
        register: bool = True,
    ):
        self.name = name
        # The location of the declaration, for messages; by default the module of `infer`.
        self.origin = origin or getattr(infer, "__module__", "its declaration")
        self.infer, self.evaluate, self.lowering = infer, evaluate, lowering or host
        self._jvp, self._transpose, self._batch = jvp, transpose, batch
        self.partial_eval, self.prune, self.stage = partial_eval, prune, stage
        self.axis_names, self.discharge = axis_names, discharge
        self.multiple_results = multiple_results
        # Higher-order primitives have jaxprs in their params, and cache and compile on their own.
        self.higher_order = higher_order
        self._carries_refs = higher_order or discharge is not None
        self.rules: dict[Transform, Callable[..., Any]] = dict(rules or {})
        self.moves_only = self.lowering.moves_only if moves_only is None else moves_only
        self.may_make_nan = not self.moves_only if may_make_nan is None else may_make_nan
        self.effectful, self.ordered_effect = effectful or ordered_effect, ordered_effect
        self.modes, self.constant_operands = tuple(modes), constant_operands
        self.params_style = params_style
        self._inferred: dict[Any, Any] = {}
        if register:  # primitives of the library, which the laws test
            registry[name] = self

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name: the loading process has the same primitives."""
        if registry.get(self.name) is not self:
            raise ArgumentError(
                f"{self.name}: a primitive that is declared in user code ({self.origin}) cannot be pickled",
                fix="pickle the arrays, and make the function again where they are loaded",
            )
        return registered, (self.name,)

    def bind(self, *args: Any, **params: Any) -> Any:
        """Apply the primitive under the current trace of this thread."""
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
        """Return `infer(*avals, **params)`, cached by avals and params."""
        if self.higher_order:  # a cache would keep the jaxprs in the params alive
            return self.infer(*avals, **params)
        try:
            key = (*avals, *params.items())
            found = self._inferred.get(key)
        except TypeError:  # an unhashable param
            return self.infer(*avals, **params)
        if found is None:
            found = self._inferred[key] = self.infer(*avals, **params)
            if len(self._inferred) > 4096:
                self._inferred.clear()
        return found

    def evaluate_eagerly(self, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Evaluate the primitive on concrete values by its NumPy rule, for `EvalTrace`."""
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
        """Apply the primitive within `ensure_compile_time_eval`, under the innermost trace of its operands."""
        tracers = [a for a in args if isinstance(a, Tracer)]
        for tracer in tracers:
            check_not_leaked(tracer)
        innermost = max((t._trace for t in tracers), key=lambda trace: len(list(enclosing(trace))))
        with current(innermost):
            return innermost.process_primitive(self, args, params)

    def _check_finite(self, operands: Sequence[Array], out: Any) -> None:
        if not self.moves_only:
            outputs = [np.asarray(o) for o in (out if self.multiple_results else [out])]
            kinds = finite.Kinds(config.debug_nans, config.debug_infs)
            values, elementwise = [a.host for a in operands], isinstance(self.lowering, Elementwise)
            finite.check(self.name, outputs, values, kinds, state.source, elementwise=elementwise, given=True)

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
    """Return the primitive of the library with that name."""
    return registry[name]


def missing_rule(name: str, kind: str, origin: str, how: str = "") -> MissingRuleError:
    """Return the error for a missing rule, which tells where to add it."""
    fix = f"declare {how or f'{kind}='} where the primitive is made (see {origin})"
    return MissingRuleError(f"{name}: no {kind} rule", fix=fix)


def _out_of_memory(name: str, avals: Sequence[ShapedArray]) -> AllocationError:
    return AllocationError(
        f"{called_function() or name}: the result {', '.join(map(str, avals))} needs "
        f"{sum(a.nbytes for a in avals) / 2**30:.1f} GiB, which is not available",
        fix="compute in smaller pieces, use a smaller dtype, or put the computation under jit so that it is fused",
    )
