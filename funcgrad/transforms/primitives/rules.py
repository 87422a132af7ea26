"""From rules as users write them to rules as primitives hold them: Zeros become zeros, and what comes back is checked.

Users' rules see arrays and types only: tangents and cotangents that are zero are arrays of zeros, and an operand of a
transpose rule that is linear is its `ShapeDtypeStruct`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapedArray, ShapeDtypeStruct
from funcgrad.core.primitives import missing_rule
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import add_tangents
from funcgrad.ops.shapes import instantiate

Rule = Callable[..., Any]


def as_list(name: str, what: str, out: Any, count: int, multiple: bool) -> list[Any]:
    """Return the results of a rule as a list of `count`; with `multiple`, the rule must return a sequence."""
    if not multiple:
        return [out]
    if not isinstance(out, (tuple, list)) or len(out) != count:
        size = f"a {type(out).__name__} of {len(out)}" if isinstance(out, (tuple, list)) else type(out).__name__
        raise ArgumentError(
            f"{name}: {what} returned {size}, but there are {count} results",
            fix=f"return a tuple of {count}, one for each result that shape= declares",
        )
    return list(out)


def shape_rule(name: str, rule: Rule, multiple: bool) -> Rule:
    """`infer` from a function of types to one type, or to several."""

    def infer(*avals: ShapedArray, **params: Any) -> Any:
        out = rule(*avals, **params)
        several = isinstance(out, (tuple, list))
        if several and not multiple:
            raise ArgumentError(
                f"{name}: the shape rule returned a {type(out).__name__} of {len(out)}, but there is one result",
                fix="return one funcgrad.ShapeDtypeStruct(shape, dtype), or declare multiple_results=True",
            )
        if multiple and not several:
            raise ArgumentError(
                f"{name}: the shape rule returned one {type(out).__name__}, but multiple_results=True",
                fix="return a tuple with a funcgrad.ShapeDtypeStruct for each result",
            )
        return [_as_aval(name, x) for x in out] if multiple else _as_aval(name, out)

    return infer


def _as_aval(name: str, x: Any) -> ShapedArray:
    if isinstance(x, ShapedArray):
        return x
    if isinstance(x, (ShapeDtypeStruct, ArrayLike, np.ndarray)):
        return aval_of(x)
    raise ArgumentError(
        f"{name}: the shape rule returned {x!r:.60} of type {type(x).__name__}",
        fix="return funcgrad.ShapeDtypeStruct(shape, dtype), or the type of an operand",
    )


def evaluate_rule(name: str, rule: Rule, infer: Rule, multiple: bool) -> Rule:
    """`evaluate` whose results are checked against the shape rule."""

    def evaluate(*operands: np.ndarray, **params: Any) -> Any:
        wanted = infer(*map(aval_of, operands), **params)
        out = rule(*operands, **params)
        avals = wanted if multiple else [wanted]
        outs = as_list(name, "evaluate", out, len(avals), multiple)
        checked = [_checked_value(name, x, a) for x, a in zip(outs, avals, strict=True)]
        return checked if multiple else checked[0]

    return evaluate


def _checked_value(name: str, value: Any, aval: ShapedArray) -> np.ndarray:
    python = isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic)
    array = np.asarray(value, aval.dtype) if python else np.asarray(value)
    if array.shape != aval.shape:
        raise ShapeError(
            f"{name}: evaluate returned an array of shape {array.shape}, the shape rule says {aval.short()}",
            fix="correct the one or the other",
        )
    if array.dtype != aval.dtype:
        raise DTypeError(
            f"{name}: evaluate returned {array.dtype.name}, the shape rule says {aval.short()}",
            fix=f"cast the result with .astype({aval.dtype.name!r}), or correct the dtype that the shape rule returns",
        )
    return array


def checked_expansion(name: str, rule: Rule, infer: Rule, multiple: bool) -> Rule:
    """A lowering by other operations whose results are checked against the shape rule."""

    def expand(*args: Any, **params: Any) -> Any:
        wanted = infer(*map(aval_of, args), **params)
        avals = wanted if multiple else [wanted]
        outs = as_list(name, "lowering", rule(*args, **params), len(avals), multiple)
        outs = [_of_type(name, "lowering", "a result", x, a) for x, a in zip(outs, avals, strict=True)]
        return outs if multiple else outs[0]

    return expand


def _of_type(name: str, rule: str, what: str, value: Any, aval: ShapedArray) -> Any:
    """Return an array that a rule made if it has the wanted type; one that is weakly typed is converted."""
    array = value if isinstance(value, ArrayLike) else as_array(value)
    have = aval_of(array)
    if have.shape != aval.shape:
        raise ShapeError(
            f"{name}: the {rule} rule returned {what} of type {have.short()}, which has to be {aval.short()}",
            fix="correct the rule: tangents and cotangents have the shapes of their primals",
        )
    if have.dtype != aval.dtype and not have.weak_type:
        raise DTypeError(
            f"{name}: the {rule} rule returned {what} of type {have.short()}, which has to be {aval.short()}",
            fix=f"cast it with .astype({aval.dtype.name!r})",
        )
    return convert_element_type(array, aval.dtype, aval.weak_type)


def jvp_rule(name: str, rule: Rule | Sequence[Rule | None], typed: Rule, bind: Rule, multiple: bool) -> Rule:
    """`jvp` from a function (primals, tangents) → (results, tangents), or one term (tangent, ans, *primals) → tangent
    for each operand, None where the derivative is zero.
    """

    def whole(primals: Sequence[Any], tangents: Sequence[Any], params: dict[str, Any], count: int) -> Any:
        assert callable(rule)
        returned = rule(tuple(primals), tuple(map(instantiate, tangents)), **params)
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise ArgumentError(
                f"{name}: the jvp rule returned {returned!r:.60}",
                fix="return a pair (result, tangent of the result)",
            )
        return [as_list(name, "jvp", x, count, multiple) for x in returned]

    def by_terms(primals: Sequence[Any], tangents: Sequence[Any], params: dict[str, Any], avals: Any) -> Any:
        assert not callable(rule)
        if len(rule) != len(primals):
            raise ArgumentError(
                f"{name}: jvp has {len(rule)} terms, the operation has {len(primals)} operands",
                fix="give one function (tangent, ans, *operands) for each operand, or None",
            )
        ans = bind(*primals, **params)
        total: list[Any] = [Zero(a.tangent()) for a in avals]
        for term, tangent in zip(rule, tangents, strict=True):
            if term is None or type(tangent) is Zero:
                continue
            given = as_list(name, "jvp", term(tangent, ans, *primals, **params), len(avals), multiple)
            total = [add_tangents(t, _tangent(name, g, a)) for t, g, a in zip(total, given, avals, strict=True)]
        return ans if multiple else [ans], total

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], /, **params: Any) -> tuple[Any, Any]:
        wanted = typed([aval_of(p) for p in primals], params)
        avals = wanted if multiple else [wanted]
        if callable(rule):
            outs, pushed = whole(primals, tangents, params, len(avals))
            outs = [_of_type(name, "jvp", "a result", x, a) for x, a in zip(outs, avals, strict=True)]
        else:
            outs, pushed = by_terms(primals, tangents, params, avals)
        pushed = [_tangent(name, t, a) for t, a in zip(pushed, avals, strict=True)]
        return (outs, pushed) if multiple else (outs[0], pushed[0])

    return jvp


def _tangent(name: str, tangent: Any, aval: ShapedArray) -> Any:
    wanted = aval.tangent()
    if tangent is None or type(tangent) is Zero or wanted.dtype == dtypes.float0:
        return Zero(wanted)
    return _of_type(name, "jvp", "a tangent", tangent, wanted)


def linear_jvp(name: str, origin: str, bind: Rule) -> Rule:
    """`jvp` of an operation that is linear in its one operand: itself, of the tangent."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], /, **params: Any) -> tuple[Any, Any]:
        if len(primals) != 1:  # linear in each, or in all together: the transpose rule does not say
            raise missing_rule(name, "jvp", origin)
        return bind(*primals, **params), bind(*map(instantiate, tangents), **params)

    return jvp


def transpose_rule(name: str, rule: Rule, multiple: bool) -> Rule:
    """`transpose` from a function (cotangent, *operands) → a cotangent for each operand, or None."""

    def transpose(cotangents: Any, /, *args: Any, **params: Any) -> list[Any]:
        given = list(map(instantiate, cotangents)) if multiple else instantiate(cotangents)
        operands = [_as_type(a.aval) if is_undefined(a) else a for a in args]
        back = rule(given, *operands, **params)
        back = list(back) if isinstance(back, (tuple, list)) else [back]
        if len(back) != len(args):
            raise ArgumentError(
                f"{name}: the transpose rule returned {len(back)} cotangents, the operation has {len(args)} operands",
                fix="return one for each operand, None for those that are not linear",
            )
        return [
            _of_type(name, "transpose", "a cotangent", ct, a.aval.tangent())
            if is_undefined(a) and ct is not None
            else None
            for ct, a in zip(back, args, strict=True)
        ]

    return transpose


def batch_rule(rule: Rule) -> Rule:
    """The rule of a user, which reads the size of the batch off the operands, as one that gets the axis."""
    return lambda axis, args, dims, /, **params: rule(args, dims, **params)


def _as_type(aval: ShapedArray) -> ShapeDtypeStruct:
    return ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def derivative_rule(rule: Rule | Sequence[Rule | None]) -> tuple[Rule | None, ...]:
    """The factors of an elementwise derivative, each cast to the dtype of the result."""

    def cast(factor: Rule) -> Rule:
        def of_result_dtype(ans: Any, *operands: Any, **params: Any) -> Any:
            value = factor(ans, *operands, **params)
            return convert_element_type(value if isinstance(value, ArrayLike) else as_array(value), aval_of(ans).dtype)

        return of_result_dtype

    factors = (rule,) if callable(rule) else tuple(rule)
    return tuple(None if f is None else cast(f) for f in factors)
