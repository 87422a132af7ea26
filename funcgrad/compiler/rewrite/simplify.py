"""jaxpr → simpler jaxpr: inline, apply rules, share common subexpressions, drop dead equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.compiler.rewrite import control, pairs, products, windows
from funcgrad.compiler.rewrite.fission import products_of_slices, without
from funcgrad.compiler.rewrite.rotate import rotate
from funcgrad.compiler.rewrite.rules import RULES, Definitions, Rule
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, literal_of, live, variables_read
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout, WhileParts
from funcgrad.core.lowering import Concatenate, Cond, Elementwise, Inline, LibraryRoutine, Native, Rewrite, Scan, View
from funcgrad.core.masks import partition_list, select
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.tracers import Tracer
from funcgrad.errors import LeakedTracerError

# Constants of at most this many elements are folded at compile time.
_FEW = 16


class _Simplifier:
    """One walk over the equations, inner jaxprs spliced in."""

    def __init__(self, rules: Sequence[Rule]):
        self.rules = rules
        self.env: dict[Var, Atom] = {}
        self.defined: Definitions = {}
        self.seen: dict[Any, list[Var]] = {}
        self.eqns: list[JaxprEqn] = []
        self.consts: dict[Var, Any] = {}
        self.known_consts: dict[Any, Var] = {}

    def read(self, atom: Atom) -> Atom:
        return self.env.get(atom, atom) if isinstance(atom, Var) else atom

    def walk(self, eqns: Sequence[JaxprEqn]) -> None:
        for traced in eqns:
            # What is traced anew gets the types that were traced: an operand may be replaced by one of another weak
            # type, which promotes differently.
            eqn = traced.replace(invars=[self.read(v) for v in traced.invars])
            lowering = eqn.primitive.lowering
            if isinstance(lowering, Inline):
                self.splice(eqn.params[lowering.param], eqn)
            elif (inner := pairs.real_form(traced, eqn, self.defined)) is not None:
                self.splice(inner, eqn)
            elif control.is_control(lowering):
                self.control(eqn, [v.aval for v in traced.invars])
            elif isinstance(lowering, Rewrite) and lowering.applies(*(v.aval for v in traced.invars), **eqn.params):
                self.splice(_expanded(traced), eqn)
            elif (inner := products.canonical(traced)) is not None:
                self.splice(inner, eqn)
            elif isinstance(lowering, (LibraryRoutine, Native)):  # operands have addresses: they are no numbers
                self.add(
                    eqn.replace(invars=[self.constant(v.val) if isinstance(v, Literal) else v for v in eqn.invars])
                )
            else:
                self.add(eqn)

    def splice(self, inner: ClosedJaxpr, eqn: JaxprEqn) -> None:
        """Put the equations of an inner jaxpr in the place of an equation."""
        # The same inner jaxpr may be spliced several times: its variables must be renamed each time.
        for var, const in zip(inner.jaxpr.constvars, inner.consts, strict=True):
            self.env[var] = self.constant(const)
        self.env.update(zip(inner.jaxpr.invars, eqn.invars, strict=True))
        self.walk(inner.jaxpr.eqns)
        self.env.update(zip(eqn.outvars, [self.read(v) for v in inner.jaxpr.outvars], strict=True))

    def control(self, eqn: JaxprEqn, avals: Sequence[ShapedArray]) -> None:
        """Add a branch or a loop: its inner jaxprs simplified, their consts and invariants outside."""
        straight = control.straightened(eqn, avals)
        if straight is not None:
            self.splice(straight, eqn)
            return
        operands: list[Atom] = [self.in_memory(v) for v in eqn.invars]
        lowering = eqn.primitive.lowering
        if isinstance(lowering, Cond):
            self.add(self.cond(eqn, operands))
        elif isinstance(lowering, Scan):
            self.add(self.scan(eqn, operands))
        else:
            self.add(self.while_loop(eqn, operands))

    def cond(self, eqn: JaxprEqn, operands: list[Atom]) -> JaxprEqn:
        bodies = [self.body(b) for b in eqn.params["branches"]]
        shared = list(dict.fromkeys(v for _, outside in bodies for v in outside))
        branches = tuple(control.with_consts(b, outside, shared) for b, outside in bodies)
        return eqn.replace(invars=[operands[0], *shared, *operands[1:]], params=eqn.params | {"branches": branches})

    def scan(self, eqn: JaxprEqn, operands: list[Atom]) -> JaxprEqn:
        layout = ScanLayout.of(eqn.params)
        consts, carry, xs = layout.split(operands)
        body, outside = self.body(eqn.params["jaxpr"])
        consts = [*outside, *consts]
        fixed = control.fixed_carry(body, len(consts), len(carry))
        body = control.as_consts(body, len(consts), fixed, is_body=True)
        carry_out, ys = layout.split_results(eqn.outvars)
        moving, unchanging = partition_list(fixed, carry)
        self.env.update(zip(select(carry_out, fixed), unchanging, strict=True))
        body, more = self.hoist(body, [*consts, *unchanging])
        scanned = ScanParts([*more, *consts, *unchanging], moving, xs)
        products = products_of_slices(body.jaxpr, scanned.layout, eqn.params["length"])
        for product in products:
            x, const = xs[product.scanned], scanned.consts[product.const]
            outside = product.of_all(x.aval, const.aval)
            self.env.update(zip(outside.jaxpr.invars, (x, const), strict=True))
            self.walk(outside.jaxpr.eqns)
            scanned.xs.append(self.in_memory(self.read(outside.jaxpr.outvars[0])))
        body = ClosedJaxpr(without(body.jaxpr, products)) if products else body
        params = eqn.params | scanned.params | {"jaxpr": body}
        return eqn.replace(invars=scanned.join(), outvars=[*select(carry_out, fixed, False), *ys], params=params)

    def while_loop(self, eqn: JaxprEqn, operands: list[Atom]) -> JaxprEqn:
        given = WhileLayout.of(eqn.params).split(operands)
        predicate, outside = self.body(eqn.params["cond_jaxpr"])
        cond_consts = [*outside, *given.cond_consts]
        body, outside = self.body(eqn.params["body_jaxpr"])
        body_consts = [*outside, *given.body_consts]
        fixed = control.fixed_carry(body, len(body_consts), len(given.carry))
        predicate = control.as_consts(predicate, len(cond_consts), fixed, is_body=False)
        body = control.as_consts(body, len(body_consts), fixed, is_body=True)
        moving, unchanging = partition_list(fixed, given.carry)
        outvars, unchanging_out = partition_list(fixed, eqn.outvars)
        self.env.update(zip(unchanging_out, unchanging, strict=True))
        predicate, more = self.hoist(predicate, [*cond_consts, *unchanging])
        cond_consts = [*more, *cond_consts, *unchanging]
        body, more = self.hoist(body, [*body_consts, *unchanging])
        body_consts = [*more, *body_consts, *unchanging]
        rotated = rotate(predicate.jaxpr, body.jaxpr, cond_consts, body_consts)
        if rotated is not None:
            self.env.update(zip(predicate.jaxpr.invars, [*cond_consts, *moving], strict=True))
            self.walk(rotated.first)
            moving += [self.in_memory(self.read(v)) for v in rotated.values]
            outvars += [Var(v.aval) for v in rotated.values]
            predicate, body = rotated.predicate, rotated.body
        loop = WhileParts(cond_consts, body_consts, moving)
        params = eqn.params | loop.params | {"cond_jaxpr": predicate, "body_jaxpr": body}
        return eqn.replace(invars=loop.join(), outvars=outvars, params=params)

    def body(self, closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Var]]:
        """A body simplified, its consts made leading inputs; the variables for those."""
        inner = simplified(closed)
        jaxpr = inner.jaxpr.replace(constvars=[], invars=[*inner.jaxpr.constvars, *inner.jaxpr.invars])
        return ClosedJaxpr(jaxpr), [self.constant(c) for c in inner.consts]

    def hoist(self, body: ClosedJaxpr, consts: Sequence[Atom]) -> tuple[ClosedJaxpr, list[Var]]:
        """Take out of a loop's body what does not change; return the variables for its new leading inputs."""
        hoisted = control.hoist(body, body.jaxpr.invars[: len(consts)])
        self.env.update(zip(body.jaxpr.invars, consts, strict=False))
        self.walk(hoisted.before)
        return hoisted.body, [self.in_memory(self.read(v)) for v in hoisted.consts]

    def in_memory(self, atom: Atom) -> Var:
        """A variable for an atom, as operands of branches and loops are."""
        return self.constant(atom.val) if isinstance(atom, Literal) else atom

    def constant(self, value: Any) -> Var:
        if isinstance(value, Tracer):
            raise LeakedTracerError(
                f"a custom rule closes over a traced value of type {value.aval}{value.origin()}, and was traced apart "
                "from it",
                fix="pass the value as an argument, or through the rule's residuals",
            )
        key = id(value) if value.aval.shape else (value.aval, np.asarray(value).tobytes())
        if key not in self.known_consts:
            self.known_consts[key] = var = Var(value.aval)
            self.consts[var] = value
        return self.known_consts[key]

    def known_value(self, eqn: JaxprEqn) -> Any:
        """The value of an equation of a few elements whose operands are constants: indices, for the most part."""
        one = isinstance(eqn.primitive.lowering, (View, Elementwise, Concatenate))  # and so has one result
        cheap = one and eqn.outvars[0].aval.size <= _FEW
        held = self.consts if cheap else {}
        operands = [v.val if isinstance(v, Literal) else held.get(v) for v in eqn.invars]
        if (
            not operands
            or any(x is None or aval_of(x).size > _FEW for x in operands)
            or all(isinstance(v, Literal) for v in eqn.invars)
        ):
            return None
        return eqn.primitive.evaluate_eagerly(operands, eqn.params)

    def add(self, eqn: JaxprEqn) -> None:
        known_value = self.known_value(eqn)
        if known_value is not None:
            self.env[eqn.outvars[0]] = literal_of(known_value) or self.constant(known_value)
            return
        for rule in self.rules:
            found = rule(eqn, self.defined)
            if isinstance(found, list):
                *before, eqn = found
                for e in before:
                    self.add(e.replace(invars=[self.read(v) for v in e.invars]))
                eqn = eqn.replace(invars=[self.read(v) for v in eqn.invars])
            elif isinstance(found, JaxprEqn):
                eqn = found
            elif found is not None:
                self.env[eqn.outvars[0]] = found
                return
        key = _key(eqn)
        known = self.seen.get(key) if key is not None else None
        if known is None:
            fresh = eqn.replace(outvars=[Var(v.aval) for v in eqn.outvars])
            known = fresh.outvars
            if key is not None:
                self.seen[key] = known
            self.eqns.append(fresh)
            self.defined.update((v, fresh) for v in known)
        self.env.update(zip(eqn.outvars, known, strict=True))


def simplified(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return `simplify(closed)`, remembered on the jaxpr."""
    return closed.memo("simplified", lambda: simplify(closed))


def _expanded(eqn: JaxprEqn) -> ClosedJaxpr:
    """The jaxpr of a primitive's rewriting in simpler primitives."""
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, Rewrite)

    def fun(*args: Any) -> list[Any]:
        with source_of(eqn.source):
            out = lowering.expand(*args, **eqn.params)
        return out if eqn.primitive.multiple_results else [out]

    return trace_to_jaxpr(fun, [v.aval for v in eqn.invars])


def _key(eqn: JaxprEqn) -> Any:
    """What makes two equations compute the same value, or None when params do not hash or there are effects."""
    if eqn.effectful:
        return None
    atoms = tuple((np.asarray(v.val).tobytes(), v.aval) if isinstance(v, Literal) else id(v) for v in eqn.invars)
    try:
        key = (eqn.primitive, atoms, tuple(sorted(eqn.params.items(), key=lambda kv: kv[0])))
        hash(key)
    except TypeError:
        return None
    return key


def simplify(closed: ClosedJaxpr, rules: Sequence[Rule] = (*RULES, *windows.RULES)) -> ClosedJaxpr:
    """Return an equivalent jaxpr without nested jits, identities, repetitions and dead equations.

    The inputs stay as they are, used or not.
    """
    s = _Simplifier(rules)
    for var, const in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        s.env[var] = s.constant(const)
    s.walk(closed.jaxpr.eqns)
    outvars = [s.read(v) for v in closed.jaxpr.outvars]
    eqns = live(products.in_wanted_order(live(s.eqns, outvars), outvars), outvars)
    read = variables_read(eqns, outvars)
    kept = [(v, c) for v, c in s.consts.items() if v in read]
    jaxpr = Jaxpr([v for v, _ in kept], closed.jaxpr.invars, eqns, outvars, closed.jaxpr.name)
    return ClosedJaxpr(jaxpr, [c for _, c in kept])
