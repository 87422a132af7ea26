"""Primitives: an operation together with every rule that transforms and the compiler use."""

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
    """The axis that a batch rule maps over: its name in `vmap(axis_name=…)`, or None, and its size."""

    name: Any
    size: int


class Transform:
    """A transform that keeps a rule per primitive in the open table `Primitive.rules`, whose key it is.

    It is declared once, in the module of the transform. A rule is given where the primitive is declared, or added by
    the module of the transform. `derive(primitive)` returns the rule that follows from the declared properties of a
    first-order primitive, or None where there is none.

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
        """Return the rule of a primitive. Raises MissingRuleError, which names both, where there is none."""
        rule = primitive.rules.get(self)
        # The functions in a higher-order primitive are known to its own rule only: nothing is derived for it.
        if rule is None and not primitive.higher_order:
            rule = self.derive(primitive)
        if rule is None:
            how = f"rules={{{self.name}: ...}}"
            raise missing_rule(primitive.name, self.name, primitive.origin, how)
        return rule

    def add(self, rules: Mapping[Primitive, Callable[..., Any]]) -> None:
        """Put rules into the tables of primitives."""
        for primitive, rule in rules.items():
            primitive.rules[self] = rule


class ParamStyle(NamedTuple):
    """How the params of a primitive are printed: in alphabetical order, but for the one called `first`.

    `hidden(name, value)` says which are left out. Where `shares_names`, variables of its jaxpr have the names of the
    operands and results that they stand for.
    """

    hidden: Callable[[str, Any], bool] = lambda name, value: False
    first: str = ""
    shares_names: bool = False


class Primitive:
    """One operation, declared once with all its rules.

    Rules (each takes the params as keywords after the positional arguments named here):

    ==============  ======================================================================================
    `infer`         avals → the result's aval (a list of them when `multiple_results`); raises on bad input
    `evaluate`      NumPy arrays → NumPy result(s): eager mode, and what every other rule is tested against
    `jvp`           (primals, tangents) → (primal out, tangent out); tangents may be `Zero`
    `transpose`     (cotangent, *args) → a cotangent per arg; args that are linear are `UndefinedPrimal`
    `batch`         (axis, args, dims) → (result, result's batch dim), see below
    `lowering`      how the compiler sees it: a `core.lowering` description, not code
    ==============  ======================================================================================

    Primitives that carry jaxprs or functions in their params (`higher_order`) may have these too. `stage`
    and `discharge` get the params as a dict:

    ==============  ======================================================================================
    `partial_eval`  (unknown, avals), params as keywords → a `partial_eval.Split`, or None when all of it is unknown
    `prune`         (which results are used, equation) → the equation without unused results and operands
    `stage`         (args, params) → the same, with jaxprs in the place of functions
    `discharge`     (args, params) → result, where some args are Refs: bind with their contents, then write these back
    ==============  ======================================================================================

    Rules of other transforms are in `rules`, a table whose keys are `Transform`s.

    Where a rule is not given, it may follow from declared properties; families of primitives supply these:

    ===================  =================================================================================
    `moves_only`         results are elements of the operands, unchanged (by default what the lowering says)
    `may_make_nan`       a result may be NaN where no operand is (by default unless `moves_only`)
    `effectful`          does more than compute its results: is kept when they are not used, and in its order
    `ordered_effect`     the effect happens as often as the program says: no transform may try both branches
    `modes`              of differentiation, "fwd" and "rev"; none where the derivative is another by definition
    `constant_operands`  params → operands by which there is no derivative: asking for one is an error
    `params_style`       how params are printed
    ===================  =================================================================================

    `batch` gets the mapped axis as an `AxisData`, and for each operand the dimension that is this axis, or None. At
    least one operand is batched, with two exceptions. Collectives have `axis_names`, params → the vmap axes that they
    name, and are batched over these axes even where no operand is. Functions may close over tracers: so a primitive
    with a `stage` rule, which runs before an equation is recorded, is always batched.

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
        self.rules: dict[Transform, Callable[..., Any]] = dict(rules or {})
        self.moves_only = self.lowering.moves_only if moves_only is None else moves_only
        self.may_make_nan = not self.moves_only if may_make_nan is None else may_make_nan
        self.effectful, self.ordered_effect = effectful or ordered_effect, ordered_effect
        self.modes, self.constant_operands = tuple(modes), constant_operands
        self.params_style = params_style
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
    """Return the library's primitive of that name."""
    return registry[name]


def missing_rule(name: str, kind: str, origin: str, how: str = "") -> MissingRuleError:
    """The error that a primitive lacks a rule, and where to add it."""
    fix = f"declare {how or f'{kind}='} where the primitive is made (see {origin})"
    return MissingRuleError(f"{name}: no {kind} rule", fix=fix)


def _out_of_memory(name: str, avals: Sequence[ShapedArray]) -> AllocationError:
    return AllocationError(
        f"{called_function() or name}: the result {', '.join(map(str, avals))} needs "
        f"{sum(a.nbytes for a in avals) / 2**30:.1f} GiB, which is not available",
        fix="compute in smaller pieces, use a smaller dtype, or put the computation under jit so that it is fused",
    )
