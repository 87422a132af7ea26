"""Expressions of equations that depend on where they are computed: iota, pad, concatenate, gather.

Operands that they read at other points than the one they are computed at are always in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.loops.language import Const, Expr, Index, Load, op
from funcgrad.compiler.lowering.analysis import domain_dimensions
from funcgrad.compiler.lowering.kernel_builder import INT64, build, clamped, size_value
from funcgrad.compiler.lowering.nest import NestWriter
from funcgrad.core.jaxprs import JaxprEqn, Literal
from funcgrad.core.lowering import Gather, Strided


def iota(w: NestWriter, eqn: JaxprEqn) -> Expr:
    place = domain_dimensions(eqn).get(eqn.params["dimension"])
    value = Const(0, INT64) if place is None else w.position_of(place)
    return build.cast(value, eqn.params["dtype"])


def pad(w: NestWriter, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
    access = w.info.fusion.accesses[eqn][0]
    place = domain_dimensions(eqn)
    terms: list[tuple[str, int | str]] = []
    conditions: list[Expr] = []
    zero = Const(0, INT64)
    for d, (low, high, interior) in enumerate(eqn.params["padding_config"]):
        n, stride = access.view.shape[d], access.view.strides[d]
        if (low, high, interior) == (0, 0, 0):
            if stride and d in place:
                terms += [(name, w.stride(stride)) for name, _ in w.position[w.loop_of(place[d])]]
            continue
        piece = w.piece if place.get(d) == w.last_dimension and not interior else None
        if piece is not None and not low <= piece[0] < piece[1] <= low + n:
            return operands[1]  # this piece of the loop is all padding
        shift = size_value(w.offset(-low))
        at = w.define(op("add", w.position_of(place[d]), shift) if d in place else shift)
        if piece is None:
            conditions.append(op("ge", at, zero))
        if interior:
            step = size_value(w.new_size("d", interior + 1))
            conditions.append(op("eq", op("rem", at, step), zero))
            at = w.define(op("div", at, step))
        if piece is None:
            conditions.append(op("lt", at, size_value(w.new_size("m", n))))
        if stride:
            terms.append((at.name, w.stride(stride)))
    mask = functools.reduce(lambda a, b: op("and", a, b), conditions) if conditions else None
    return _masked(w, access, terms, mask, operands[1], operands[1].dtype)


def _masked(w: NestWriter, access: Access, terms: list, mask: Expr | None, other: Expr, dtype: np.dtype) -> Expr:
    if isinstance(access.source, Literal):
        value = w.load(access, "full")
        return value if mask is None else op("select", mask, value, other)
    index = Index(tuple(terms), w.offset(access.view.offset))
    if mask is None:
        return Load(w.input(access.source), index, dtype)
    return Load(w.input(access.source), index, dtype, mask, other)


def concatenate(w: NestWriter, eqn: JaxprEqn) -> Expr:
    dimension, place = eqn.params["dimension"], domain_dimensions(eqn)
    at = w.position_of(place[dimension]) if dimension in place else Const(0, INT64)
    parts, start = [], 0
    for v, access in zip(eqn.invars, w.info.fusion.accesses[eqn], strict=True):
        parts.append((access, start, v.aval.shape[dimension]))
        start += v.aval.shape[dimension]
    if w.piece is not None and place.get(dimension) == w.last_dimension:
        start, stop = w.piece
        parts = [p for p in parts if p[1] <= start and stop <= p[1] + p[2]]
    dtype = eqn.outvars[0].aval.dtype
    out: Expr = Const(0, dtype)
    last = True
    for access, begin, count in reversed([p for p in parts if p[2]]):
        view = access.view
        terms: list[tuple[str, int | str]] = []
        for d, stride in enumerate(view.strides):
            if stride and d in place:
                symbol = w.stride(stride)
                terms += [(name, symbol) for name, _ in w.position[w.loop_of(place[d])]]
        offset = view.offset - begin * view.strides[dimension]
        shifted = Access(access.source, Strided(view.shape, view.strides, offset))
        # The parts before this one have taken their positions already, and the last takes what is left.
        mask = None if last else op("lt", at, size_value(w.offset(begin + count)))
        out, last = _masked(w, shifted, terms, mask, out, dtype), False
    return out


def gather(w: NestWriter, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
    access, place, dtype = w.info.fusion.accesses[eqn][0], domain_dimensions(eqn), eqn.outvars[0].aval.dtype
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, Gather)
    form = lowering.form_of(eqn)
    starts = dict(zip(form.axes, operands[1:], strict=True))
    terms: list[tuple[str, int | str]] = []
    inside: list[Expr] = []
    view = access.view
    for d, (n, stride, m, along) in enumerate(zip(view.shape, view.strides, form.sizes, form.along, strict=True)):
        symbol = w.stride(stride)
        if d in starts and (stride or form.fill is not None):
            last = size_value(w.offset(n - m))
            at = w.define(clamped(starts[d], last) if form.fill is None else build.cast(starts[d], INT64))
            if form.fill is not None:
                inside += [op("ge", at, Const(0, INT64)), op("le", at, last)]
            terms.append((at.name, symbol))
        if along in place:
            terms += [(name, symbol) for name, _ in w.position[w.loop_of(place[along])]]
    mask = functools.reduce(lambda a, b: op("and", a, b), inside) if inside else None
    return _masked(w, access, terms, mask, Const(0 if form.fill is None else form.fill, dtype), dtype)
