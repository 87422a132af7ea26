"""Complex numbers → pairs of real numbers: no later pass computes with complex numbers.

An equation with complex operands or results is replaced by its *real form*: equations for the real and for the
imaginary parts, and `complex` of the two. Rules of simplification cancel what lies between two such equations,
real(complex(x, y)) = x. What remains are the parts of complex arrays in memory, which are views, and `complex` where
memory is written: results of the program, and operands of library routines and host calls.

Movement is applied to both parts. Other primitives have a rule in their tables, see `funcgrad.ops.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.loops.equations import MOST_PARTS
from funcgrad.compiler.rewrite import products
from funcgrad.compiler.rewrite.rules import Definitions
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.layouts import ScanLayout, WhileLayout
from funcgrad.core.lowering import (
    CALLS,
    HOST,
    Barrier,
    Blocks,
    Complex,
    Concatenate,
    Cond,
    Contract,
    Cumulative,
    Elementwise,
    Gather,
    Interleave,
    Iota,
    Least,
    LibraryRoutine,
    LoweringTable,
    Native,
    Pad,
    Reduce,
    Scan,
    Scatter,
    Sort,
    View,
    WhileLoop,
)
from funcgrad.core.scopes import source_of
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops import pair_folds as pair_folds
from funcgrad.ops import pair_functions as pair_functions
from funcgrad.ops.arithmetic import add_p, complex_p, imag_p, real_p, sub_p
from funcgrad.ops.pairs import PAIRS, Pair

Rule = Callable[[JaxprEqn, Sequence[Atom], Definitions], ClosedJaxpr | None]

# Products of operands of at most so many elements are computed by parts.
_FEW = 32


def real_form(traced: JaxprEqn, eqn: JaxprEqn, defined: Definitions) -> ClosedJaxpr | None:
    """The jaxpr that replaces an equation with complex operands or results; None if it stays.

    `traced` has the operands at which the equation was traced, `eqn` those that have replaced them.
    """
    if not any(dtypes.is_complex(v.aval.dtype) for v in (*traced.invars, *traced.outvars)):
        return None
    rule = _RULES[eqn.primitive.lowering]
    return rule(traced, eqn.invars, defined)


def _by_rule(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr | None:
    rule = eqn.primitive.rules.get(PAIRS)
    if rule is not None:
        return _traced(eqn, rule)
    return _traced(eqn, _of_both(eqn)) if eqn.primitive.moves_only else None


def _by_parts(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    return _traced(eqn, _of_both(eqn))


def _of_both(eqn: JaxprEqn) -> Callable[..., Any]:
    """The primitive applied to the real parts and to the imaginary parts; real operands take part in both."""

    def apply(*operands: Any, **params: Any) -> Any:
        found = []
        for place in range(2):
            given = (x[place] if isinstance(x, Pair) else x for x in operands)
            found.append(eqn.primitive.bind(*given, **params))
        return Pair(*found)

    return apply


def _traced(eqn: JaxprEqn, rule: Callable[..., Any]) -> ClosedJaxpr:
    """The jaxpr of a rule, which takes and returns pairs."""

    def fun(*args: Any) -> list[Any]:
        with source_of(eqn.source):
            out = rule(*map(Pair.of, args), **eqn.params)
        results = out if eqn.primitive.multiple_results else [out]
        return [complex_p.bind(*x) if isinstance(x, Pair) else x for x in results]

    return trace_to_jaxpr(fun, [v.aval for v in eqn.invars])


# ---------------------------------------------------------------- movement


def _view(eqn: JaxprEqn, operands: Sequence[Atom], defined: Definitions) -> ClosedJaxpr | None:
    """A view of complex numbers in memory is a view of memory; the parts of others are moved."""
    (operand,) = operands
    if not dtypes.is_complex(eqn.outvars[0].aval.dtype):
        return None
    made = defined.get(operand) if isinstance(operand, Var) else None
    return _by_parts(eqn) if isinstance(operand, Literal) or (made and made.primitive is complex_p) else None


def _concatenate(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr | None:
    """Many arrays are joined in memory."""
    return _by_parts(eqn) if len(eqn.invars) <= MOST_PARTS else None


def _barrier(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    def apply(*operands: Any, **params: Any) -> list[Any]:
        parts = [part for x in operands for part in (x if isinstance(x, Pair) else [x])]
        behind = iter(eqn.primitive.bind(*parts, **params))
        return [Pair(next(behind), next(behind)) if isinstance(x, Pair) else next(behind) for x in operands]

    return _traced(eqn, apply)


def _gather(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    lowering = eqn.primitive.lowering
    assert isinstance(lowering, Gather)
    form = lowering.form_of(eqn)
    if form.fill is None:
        return _by_parts(eqn)

    def apply(x: Pair, *starts: Any, **params: Any) -> Pair:
        parts = zip(x, (form.fill.real, form.fill.imag), strict=True)
        return Pair(*(eqn.primitive.bind(v, *starts, **params | {"form": form._replace(fill=f)}) for v, f in parts))

    return _traced(eqn, apply)


def _product(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr | None:
    """A product of a few numbers by parts, as loops over scalars have it; BLAS does larger ones."""
    if not products.is_canonical(eqn) or max(v.aval.size for v in (*eqn.invars, *eqn.outvars)) > _FEW:
        return None

    def apply(x: Pair, y: Pair, **params: Any) -> Pair:
        (a, b), (c, d) = ([eqn.primitive.bind(left, right, **params) for right in y] for left in x)
        return Pair(sub_p.bind(a, d), add_p.bind(b, c))

    return _traced(eqn, apply)


def _iota(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    def apply(**params: Any) -> Pair:
        real = eqn.primitive.bind(**params | {"dtype": dtypes.real_dtype(params["dtype"])})
        return Pair(real, np.zeros((), real.dtype))

    return _traced(eqn, apply)


# ---------------------------------------------------------------- branches and loops


def _split(eqns: list[JaxprEqn], values: Sequence[Atom]) -> list[Atom]:
    """Both parts of the values that are complex, in the place of those; append the equations that make them."""
    out: list[Atom] = []
    for v in values:
        if dtypes.is_complex(v.aval.dtype):
            aval = v.aval.update(dtype=dtypes.real_dtype(v.aval.dtype))
            eqns += [JaxprEqn([v], [Var(aval)], part, {}) for part in (real_p, imag_p)]
            out += [e.outvars[0] for e in eqns[-2:]]
        else:
            out.append(v)
    return out


def _joined(eqns: list[JaxprEqn], values: Sequence[Var]) -> list[Var]:
    """Variables for both parts of the values that are complex; append the equations that make the values of them."""
    out: list[Var] = []
    for v in values:
        if dtypes.is_complex(v.aval.dtype):
            aval = v.aval.update(dtype=dtypes.real_dtype(v.aval.dtype))
            out += (parts := [Var(aval), Var(aval)])
            eqns.append(JaxprEqn(parts, [v], complex_p, {}))
        else:
            out.append(v)
    return out


def _body(closed: ClosedJaxpr) -> ClosedJaxpr:
    """An inner jaxpr that takes and returns the parts of complex numbers."""
    jaxpr, before, after = closed.jaxpr, list[JaxprEqn](), list[JaxprEqn]()
    invars, outvars = _joined(before, jaxpr.invars), _split(after, jaxpr.outvars)
    eqns = [*before, *jaxpr.eqns, *after]
    return ClosedJaxpr(jaxpr.replace(invars=invars, eqns=eqns, outvars=outvars), closed.consts)


def _control(eqn: JaxprEqn, params: dict[str, Any]) -> ClosedJaxpr:
    """A branch or loop whose inner jaxprs take and return the parts of complex numbers."""
    inputs = [Var(v.aval) for v in eqn.invars]
    before, after = list[JaxprEqn](), list[JaxprEqn]()
    operands, results = _split(before, inputs), _joined(after, eqn.outvars)
    inner = eqn.replace(invars=operands, outvars=results, params=eqn.params | params)
    return ClosedJaxpr(Jaxpr([], inputs, [*before, inner, *after], eqn.outvars))


def _widths(operands: Sequence[Atom]) -> int:
    return sum(1 + dtypes.is_complex(v.aval.dtype) for v in operands)


def _scan(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    parts = ScanLayout.of(eqn.params).split(eqn.invars)
    layout = ScanLayout(_widths(parts.consts), _widths(parts.carry))
    return _control(eqn, layout._asdict() | {"jaxpr": _body(eqn.params["jaxpr"])})


def _while(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    parts = WhileLayout.of(eqn.params).split(eqn.invars)
    layout = WhileLayout(_widths(parts.cond_consts), _widths(parts.body_consts))
    return _control(eqn, layout._asdict() | {name: _body(eqn.params[name]) for name in ("cond_jaxpr", "body_jaxpr")})


def _cond(eqn: JaxprEqn, *_: Any) -> ClosedJaxpr:
    return _control(eqn, {"branches": tuple(map(_body, eqn.params["branches"]))})


_RULES: LoweringTable[Rule] = LoweringTable(
    "pairs",
    {
        View: _view,
        Concatenate: _concatenate,
        Gather: _gather,
        Contract: _product,
        Iota: _iota,
        **dict.fromkeys((Scan, Blocks), _scan),
        WhileLoop: _while,
        Cond: _cond,
        **dict.fromkeys((Pad, Interleave), _by_parts),
        Barrier: _barrier,
        **dict.fromkeys((Elementwise, Reduce, Cumulative, Sort, Scatter), _by_rule),
    },
    # What reads and writes memory; calls are expanded first.
    rest=(Complex, LibraryRoutine, Native, Least, *CALLS, *HOST),
    otherwise=lambda eqn, operands, defined: None,
)
