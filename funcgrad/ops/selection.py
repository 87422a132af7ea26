"""Selection by an index or a bool, and clamping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.symbolic import Zero, is_undefined
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.elementwise import MOVABLE, check_operands, elementwise
from funcgrad.ops.logic import and_p, gt_p, lt_p
from funcgrad.ops.shapes import broadcast_scalar, zeros_of


def _select_infer(which: ShapedArray, *cases: ShapedArray) -> ShapedArray:
    if which.dtype != dtypes.bool_ and which.dtype != dtypes.int32:
        raise DTypeError(f"select_n: the selector has type {which}", fix="it must be bool (two cases) or int32")
    if which.dtype == dtypes.bool_ and len(cases) > 2:
        raise ArgumentError(
            f"select_n: a bool selector chooses between two cases, {len(cases)} are given", fix="use an int32 selector"
        )
    shapes_ = {c.shape for c in cases}
    if len(shapes_) > 1 or (which.shape and which.shape != cases[0].shape):
        raise ShapeError(
            f"select_n: selector {which} and cases {', '.join(map(repr, cases))} differ in shape",
            fix="cases must have one shape, the selector that shape or be a scalar",
        )
    check_operands("select_n", cases, MOVABLE)
    return ShapedArray(cases[0].shape, cases[0].dtype, all(c.weak_type for c in cases))


def _select_evaluate(which: Any, *cases: Any) -> Any:
    if len(cases) == 1:
        return cases[0]
    if which.dtype == np.bool_:
        return np.where(which, cases[1], cases[0])
    index = np.clip(which, 0, len(cases) - 1)
    return np.select([index == i for i in range(len(cases))], cases)


def _select_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    which, *cases = primals
    ans = select_n_p.bind(which, *cases)
    if all(type(t) is Zero for t in tangents[1:]):
        return ans, Zero(aval_of(ans).tangent())
    return ans, select_n_p.bind(which, *(zeros_of(t.aval) if type(t) is Zero else t for t in tangents[1:]))


def _select_transpose(ct: Any, which: Any, *cases: Any) -> list[Any]:
    zero = zeros_of(aval_of(ct))
    back = [
        select_n_p.bind(which, *(ct if j == i else zero for j in range(len(cases)))) if is_undefined(c) else None
        for i, c in enumerate(cases)
    ]
    return [None, *back]


def _select_scalar(b: Any, which: Any, *cases: Any) -> Any:
    if which.dtype == dtypes.bool_:
        return cases[0] if len(cases) == 1 else b.op("select", which, cases[1], cases[0])
    out = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        out = b.op("select", b.op("le", which, b.const(i, which.dtype)), cases[i], out)
    return out


select_n_p = elementwise(
    "select_n",
    _select_evaluate,
    infer=_select_infer,
    jvp=_select_jvp,
    transpose=_select_transpose,
    scalar=_select_scalar,
    full_operands=slice(1, None),
    moves_only=True,
)


def _clamp_infer(lo: ShapedArray, x: ShapedArray, hi: ShapedArray) -> ShapedArray:
    for bound in (lo, hi):
        if bound.shape and bound.shape != x.shape:
            raise ShapeError(f"clamp: bound {bound} does not fit operand {x}", fix="bounds are scalars or of its shape")
    check_operands("clamp", [x, lo, hi], ("int", "float"))
    return ShapedArray(x.shape, x.dtype, x.weak_type)


def _inside(ans: Any, lo: Any, x: Any, hi: Any) -> Any:
    inside = and_p.bind(
        gt_p.bind(x, broadcast_scalar(lo, aval_of(x).shape)), lt_p.bind(x, broadcast_scalar(hi, aval_of(x).shape))
    )
    return convert_element_type(inside, aval_of(x).dtype)


def _below(ans: Any, lo: Any, x: Any, hi: Any) -> Any:
    lo, hi = (broadcast_scalar(bound, aval_of(x).shape) for bound in (lo, hi))
    return convert_element_type(and_p.bind(lt_p.bind(x, lo), lt_p.bind(lo, hi)), aval_of(x).dtype)


def _above(ans: Any, lo: Any, x: Any, hi: Any) -> Any:
    return convert_element_type(gt_p.bind(x, broadcast_scalar(hi, aval_of(x).shape)), aval_of(x).dtype)


clamp_p = elementwise(
    "clamp",
    lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi),
    infer=_clamp_infer,
    derivative=(_below, _inside, _above),
    full_operands=slice(1, 2),
    moves_only=True,
)
