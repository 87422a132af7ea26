"""Expressions of equations that depend on where they are computed: iota, pad, concatenate, gather.

Operands that they read at other points than the one they are computed at are always in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from funcgrad.compiler.fusion.access import Access
from funcgrad.compiler.loops.language import Const, Expr, If, Index, Load, Store, op
from funcgrad.compiler.lowering.analysis import domain_dimensions
from funcgrad.compiler.lowering.kernel_builder import INT64, build, clamped, size_value
from funcgrad.compiler.lowering.nest import NestWriter
from funcgrad.core.jaxprs import JaxprEqn, Literal
from funcgrad.core.lowering import Gather, contiguous

# Divisors below this one are part of the kernel's form, since dividing by a constant is fast.
_FIXED = 16


def iota(w: NestWriter, eqn: JaxprEqn) -> Expr:
    place = domain_dimensions(eqn).get(eqn.params["dimension"])
    value = Const(0, INT64) if place is None else w.position_of(place)
    return build.cast(value, eqn.params["dtype"])


def pad(w: NestWriter, eqn: JaxprEqn, operands: Sequence[Expr]) -> Expr:
    access = w.info.fusion.accesses[eqn][0]
    place, shape = domain_dimensions(eqn), eqn.outvars[0].aval.shape
    strides: dict[int, int] = {}
    spread: list[tuple[str, int | str]] = []  # terms of dimensions with interior padding
    conditions: list[Expr] = []
    offset = access.view.offset
    for d, (low, _, interior) in enumerate(eqn.params["padding_config"]):
        n, stride = access.view.shape[d], access.view.strides[d]
        at = w.position_of(place[d]) if d in place else Const(0, INT64)
        start, stop = w.pieces.get(place[d], (0, shape[d])) if d in place else (0, 1)
        if interior:
            at = w.define(op("add", at, size_value(w.offset(-low))))
            step = Const(interior + 1, INT64) if interior < _FIXED else size_value(w.new_size("d", interior + 1))
            conditions += [op("ge", at, Const(0, INT64)), op("eq", op("rem", at, step), Const(0, INT64))]
            at = w.define(op("div", at, step))
            conditions.append(op("lt", at, size_value(w.new_size("m", n))))
            if stride:
                spread.append((at.name, w.stride(stride)))
            continue
        if stop <= low or low + n <= start:
            return operands[1]  # all of this piece is padding
        if start < low:
            conditions.append(op("ge", at, size_value(w.offset(low))))
        if low + n < stop:
            conditions.append(op("lt", at, size_value(w.new_size("m", low + n))))
        offset -= low * stride
        if d in place:
            strides[w.loop_of(place[d])] = stride
    mask = functools.reduce(lambda a, b: op("and", a, b), conditions) if conditions else None
    return _masked(w, access, strides, offset, mask, operands[1], spread)


def _masked(
    w: NestWriter,
    access: Access,
    strides: dict[int, int],
    offset: int,
    mask: Expr | None,
    other: Expr,
    terms: Sequence[tuple[str, int | str]] = (),
) -> Expr:
    if isinstance(access.source, Literal):
        value = w.load(access, "full")
        return value if mask is None else op("select", mask, value, other)
    index = w.address(access.source, strides, offset)
    index = Index((*index.terms, *terms), index.offset)
    if mask is None:
        return Load(w.input(access.source), index, other.dtype)
    return Load(w.input(access.source), index, other.dtype, mask, other)


def concatenate(w: NestWriter, eqn: JaxprEqn) -> Expr:
    dimension, place = eqn.params["dimension"], domain_dimensions(eqn)
    at = w.position_of(place[dimension]) if dimension in place else Const(0, INT64)
    parts, start = [], 0
    for v, access in zip(eqn.invars, w.info.fusion.accesses[eqn], strict=True):
        parts.append((access, start, v.aval.shape[dimension]))
        start += v.aval.shape[dimension]
    if place.get(dimension) in w.pieces:
        start, stop = w.pieces[place[dimension]]
        parts = [p for p in parts if p[1] <= start and stop <= p[1] + p[2]]
    out: Expr = Const(0, eqn.outvars[0].aval.dtype)
    last = True
    for access, begin, count in reversed([p for p in parts if p[2]]):
        view = access.view
        strides = {w.loop_of(place[d]): stride for d, stride in enumerate(view.strides) if d in place}
        offset = view.offset - begin * view.strides[dimension]
        # The parts before this one have taken their positions already, and the last takes what is left.
        mask = None if last else op("lt", at, size_value(w.offset(begin + count)))
        out, last = _masked(w, access, strides, offset, mask, out), False
    return out


def interleave(w: NestWriter, eqn: JaxprEqn, operands: Sequence[Expr]) -> None:
    """Store each operand at its place in the result."""
    (out,), place, steps = eqn.outvars, domain_dimensions(eqn), contiguous(eqn.params["shape"]).strides
    counts, factors = eqn.invars[0].aval.shape, eqn.params["factors"]
    strides = w.by_loop(w.info.store_strides(out))
    for within, value in zip(np.ndindex(*factors), operands, strict=True):
        fit = [-(-(n - j) // f) for n, j, f in zip(out.aval.shape, within, factors, strict=True)]
        if not all(n > 0 for n in fit):
            continue
        short = [d for d, (n, m) in enumerate(zip(fit, counts, strict=True)) if n < m]
        offset = sum(j * step for j, step in zip(within, steps, strict=True))
        store = Store(w.output(out), w.address(out, strides, offset), value)
        inside = [op("lt", w.position_of(place[d]), size_value(w.offset(fit[d]))) for d in short]
        w.body.append(If(functools.reduce(lambda a, b: op("and", a, b), inside), (store,)) if inside else store)


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
    other = Const(0 if form.fill is None else form.fill, dtype)
    return _masked(w, access, {}, view.offset, mask, other, terms)
