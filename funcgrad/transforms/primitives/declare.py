"""primitive: an operation of the user's, declared in one place with the rules that it has; the others are derived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Lowering, Rewrite, host
from funcgrad.core.primitives import Primitive, missing_rule, registry
from funcgrad.errors import ArgumentError, ShapeError, StaticArgumentError, user_location
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import elementwise as elementwise_family
from funcgrad.ops.shapes import broadcast_in_dim
from funcgrad.transforms.flattening import as_arrays
from funcgrad.transforms.primitives import rules
from funcgrad.transforms.primitives.expansion import Expansion
from funcgrad.transforms.primitives.mapping import batch_by_mapping

Rule = Callable[..., Any]
_declared: dict[str, Operation] = {}


class Operation:
    """An operation that a user declared; call it on arrays, with static parameters as keywords."""

    def __init__(self, primitive: Primitive, elementwise: bool, arity: int | None, doc: str | None):
        self.primitive, self.elementwise, self.arity = primitive, elementwise, arity
        self.__name__, self.__doc__ = primitive.name, doc

    def __repr__(self) -> str:
        return f"<primitive {self.__name__}>"

    def __call__(self, *operands: Any, **params: Any) -> Any:
        if self.arity is not None and len(operands) != self.arity:
            raise ArgumentError(
                f"{self.__name__}: takes {self.arity} operands, got {len(operands)}",
                fix="static parameters are passed by keyword",
            )
        for key, value in params.items():
            try:
                hash(value)
            except (TypeError, ArgumentError) as e:
                raise StaticArgumentError(
                    f"{self.__name__}: parameter {key}= of type {type(value).__name__} does not hash: {value!r:.60}",
                    fix="parameters are static: pass arrays by position, and tuples instead of lists",
                ) from e
        arrays = as_arrays(operands)
        return self.primitive.bind(*(self._alike(arrays) if self.elementwise else arrays), **params)

    def _alike(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """Bring the operands to one dtype and one shape, as operators do."""
        avals = [aval_of(x) for x in arrays]
        if len({(a.shape, a.dtype, a.weak_type) for a in avals}) < 2:
            return arrays
        dtype, weak = dtypes.promote(tuple((a.dtype, a.weak_type) for a in avals))
        arrays = [convert_element_type(x, dtype, weak) for x in arrays]
        try:
            shape = np.broadcast_shapes(*(a.shape for a in avals))
        except ValueError:
            shown = ", ".join(a.short() for a in avals)
            raise ShapeError(
                f"{self.__name__}: operands {shown} do not broadcast together",
                fix="sizes must be equal or 1, counted from the last axis; reshape or insert axes with x[:, None]",
            ) from None
        return [
            broadcast_in_dim(x, shape, range(len(shape) - a.ndim, len(shape))) if a.shape else x
            for x, a in zip(arrays, avals, strict=True)
        ]


def primitive(
    name: str,
    *,
    expand: Rule | None = None,
    shape: Rule | None = None,
    evaluate: Rule | None = None,
    jvp: Rule | Sequence[Rule | None] | None = None,
    transpose: Rule | None = None,
    batch: Rule | None = None,
    lowering: Lowering | Rule | None = None,
    elementwise: bool = False,
    derivative: Rule | Sequence[Rule | None] | None = None,
    scalar: str | Rule | None = None,
    kinds: Sequence[str] = ("float",),
    multiple_results: bool = False,
    replace: bool = False,
) -> Operation:
    """Declare an operation and return it as a function of arrays, which works eagerly and under every transform.

    Define it in one of three ways; missing rules are derived from the definition.

    *By other operations*: ``expand(*arrays, **params)`` returns the result. Every rule follows from it; a rule that is
    given goes before the one that follows.

    *Element by element*: ``evaluate`` computes it on NumPy arrays, ``derivative(ans, *arrays)`` returns ∂f/∂x (one
    function per operand, None where it is zero), and ``scalar(build, *operands)`` its formula for the compiler.
    Operands of the `kinds` "bool", "int", "float" and "complex" are taken; they are promoted and broadcast.

    *By rules*, each with the static parameters as keywords:

    ==============  ==================================================================================================
    `shape`         types of the operands → `ShapeDtypeStruct` of the result
    `evaluate`      NumPy arrays → NumPy array: eager mode, and the compiled program where there is no `lowering`
    `jvp`           (primals, tangents) → (result, its tangent), or for each operand a function (tangent, ans,
                    *primals) → its term of the tangent, or None. By default, of an operation with a `transpose` rule
                    and one operand: the operation itself, which is linear
    `transpose`     (cotangent, *arrays) → a cotangent per operand, or None. Operands that it is linear in are given
                    as their `ShapeDtypeStruct`
    `batch`         (arrays, dims) → (result, its batch dimension). By default the operation is mapped, lane by lane
    `lowering`      for the compiler: a function of arrays in operations of funcgrad, or a description of
                    `funcgrad.core.lowering`. By default the program calls `evaluate`
    ==============  ==================================================================================================

    With `multiple_results`, rules take and return lists where the result or its (co)tangent is meant.

    Raises ArgumentError if the name is taken (`replace=True` takes it from an operation declared earlier), or if rules
    are missing from which the others would follow. A rule that is missing later raises MissingRuleError where it is
    asked for; a result that contradicts `shape` raises ShapeError or DTypeError.

    >>> import numpy as np
    >>> import funcgrad as fg
    >>> softsign = primitive(
    ...     "softsign_example", elementwise=True, evaluate=lambda x: x / (1 + np.abs(x)),
    ...     derivative=lambda ans, x: (1 - abs(ans)) ** 2,
    ... )
    >>> fg.jit(fg.vmap(fg.grad(softsign)))(np.float32([-1, 0, 1]))
    Array([0.25, 1.  , 0.25], dtype=float32)
    """
    _check_name(name, replace)
    declaration = Declaration(
        name,
        expand,
        shape,
        evaluate,
        jvp,
        transpose,
        batch,
        lowering,
        elementwise or scalar is not None or derivative is not None,
        derivative,
        scalar,
        kinds,
        multiple_results,
        origin=str(user_location()),
    )
    operation = declaration.operation(getattr(expand or evaluate, "__doc__", None))
    _declared[name] = operation
    return operation


def _check_name(name: str, replace: bool) -> None:
    if not name.isidentifier():
        raise ArgumentError(f"primitive: {name!r} is not a name", fix="use letters, digits and underscores")
    if name in registry:
        raise ArgumentError(f"primitive: {name!r} is the name of an operation of funcgrad", fix="choose another name")
    if name in _declared and not replace:
        raise ArgumentError(
            f"primitive: {name!r} is declared already, at {_declared[name].primitive.origin}",
            fix="choose another name, or replace the earlier one with replace=True",
        )


@dataclass
class Declaration:
    """The rules that a user declared for an operation, and the primitive made from them."""

    name: str
    expand: Rule | None = None
    shape: Rule | None = None
    evaluate: Rule | None = None
    jvp: Rule | Sequence[Rule | None] | None = None
    transpose: Rule | None = None
    batch: Rule | None = None
    lowering: Lowering | Rule | None = None
    elementwise: bool = False
    derivative: Rule | Sequence[Rule | None] | None = None
    scalar: str | Rule | None = None
    kinds: Sequence[str] = ("float",)
    multiple_results: bool = False
    origin: str = ""
    result: Callable[..., np.dtype] | None = None
    made: Primitive = field(init=False)

    def operation(self, doc: str | None) -> Operation:
        """Make the primitive, and return it as a function."""
        self.made = self._elementwise() if self.elementwise else self._by_rules()
        factors = self.derivative
        arity = None if factors is None else 1 if callable(factors) else len(factors)
        return Operation(self.made, self.elementwise, arity, doc)

    def bind(self, *args: Any, **params: Any) -> Any:
        return self.made.bind(*args, **params)

    def typed(self, avals: Sequence[ShapedArray], params: dict[str, Any]) -> Any:
        return self.made.typed(avals, params)

    def infer(self, *avals: ShapedArray, **params: Any) -> Any:
        return self.made.typed(avals, params)

    # ---------------------------------------------------------------- element by element

    def _elementwise(self) -> Primitive:
        for kind in ("shape", "expand", "batch", "multiple_results"):
            if getattr(self, kind):
                raise ArgumentError(
                    f"primitive {self.name!r}: {kind}= does not go with an elementwise operation", fix=f"drop {kind}="
                )
        evaluate = self._given("evaluate", "an elementwise operation is defined by its value on NumPy arrays")
        lowering = self.lowering if self.lowering is not None else None if self.scalar is not None else host
        return elementwise_family(
            self.name,
            rules.evaluate_rule(self.name, evaluate, self.infer, False),
            derivative=None if self.derivative is None else rules.derivative_rule(self.derivative),
            jvp=self._elementwise_jvp(),
            transpose=None if self.transpose is None else rules.transpose_rule(self.name, self.transpose, False),
            lowering=None if lowering is None else self._lowering(lowering),
            scalar=self.scalar,
            kinds=self.kinds,
            result=self.result,
            origin=self.origin,
            register=False,
        )

    def _elementwise_jvp(self) -> Rule | None:
        if self.jvp is not None or self.derivative is None:
            return self._jvp(None) or self._no_derivative
        return None  # the family's

    def _no_derivative(self, primals: Sequence[Any], tangents: Sequence[Any], /, **params: Any) -> Any:
        raise missing_rule(self.name, "derivative", self.origin)

    # ---------------------------------------------------------------- by rules, or by an expansion

    def _by_rules(self) -> Primitive:
        derived = None if self.expand is None else Expansion(self.name, self.expand, self.multiple_results)
        transpose = None
        if derived is None:
            self._given("shape", "nothing says what type the result has; or give expand=")
            self._given("evaluate", "nothing computes the result; or give expand=")
        else:
            infer, evaluate, transpose = derived.infer, derived.evaluate, derived.transpose
        if self.shape is not None:
            infer = rules.shape_rule(self.name, self.shape, self.multiple_results)
        if self.evaluate is not None:
            evaluate = rules.evaluate_rule(self.name, self.evaluate, self.infer, self.multiple_results)
        if self.transpose is not None:
            transpose = rules.transpose_rule(self.name, self.transpose, self.multiple_results)
        return Primitive(
            self.name,
            infer=infer,
            evaluate=evaluate,
            jvp=self._jvp(derived),
            transpose=transpose,
            batch=self._batch(derived),
            lowering=self._lowering(self.lowering if self.lowering is not None else self.expand),
            multiple_results=self.multiple_results,
            origin=self.origin,
            register=False,
        )

    def _given(self, kind: str, why: str) -> Rule:
        rule = getattr(self, kind)
        if rule is None:
            raise ArgumentError(f"primitive {self.name!r}: there is no {kind} rule", fix=f"give {kind}=: {why}")
        return rule

    def _jvp(self, derived: Expansion | None) -> Rule | None:
        if self.jvp is not None:
            return rules.jvp_rule(self.name, self.jvp, self.typed, self.bind, self.multiple_results)
        if derived is not None:
            return derived.jvp
        return None if self.transpose is None else rules.linear_jvp(self.name, self.origin, self.bind)

    def _batch(self, derived: Expansion | None) -> Rule:
        if self.batch is not None:
            return rules.batch_rule(self.batch)
        # Expanding would lose a custom derivative or transpose, so an operation with one stays whole.
        if derived is not None and self.jvp is None and self.transpose is None:
            return derived.batch
        return batch_by_mapping(lambda: self.made)

    def _lowering(self, given: Lowering | Rule | None) -> Lowering:
        if given is None:
            return host
        if isinstance(given, Lowering):
            return given
        return Rewrite(rules.checked_expansion(self.name, given, self.infer, self.multiple_results))


__all__ = ["Declaration", "Operation", "primitive"]
