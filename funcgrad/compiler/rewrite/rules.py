"""The rules of simplification, each of which looks at one equation.

A rule returns the atom that the equation's result equals, an equation that replaces it, a list of equations of which
the last one does, or None. Its docstring states the identity and whether it is exact in IEEE arithmetic. Only exact
rules are in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Elementwise, Reduce, View
from funcgrad.ops.arithmetic import add_p, complex_p, div_p, imag_p, mul_p, neg_p, pow_p, real_p, sub_p
from funcgrad.ops.casts import convert_element_type_p, copy_p, stop_gradient_p
from funcgrad.ops.dynamic_slices import dynamic_slice_p, dynamic_update_slice_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim_p, reshape_p
from funcgrad.ops.slicing import concatenate_p, slice_p

Definitions = dict[Var, JaxprEqn]
Rule = Callable[[JaxprEqn, Definitions], Atom | JaxprEqn | list[JaxprEqn] | None]


def _repeated(atom: Atom, defined: Definitions) -> Literal | None:
    """The literal that an atom is, or repeats in every element."""
    if isinstance(atom, Literal):
        return atom
    made = defined.get(atom)
    if made is not None and made.primitive is broadcast_in_dim_p and isinstance(made.invars[0], Literal):
        return made.invars[0]
    return None


def constant(atom: Atom, defined: Definitions) -> Any:
    """The Python value of a literal, or of an array that repeats one; else None."""
    literal = _repeated(atom, defined)
    return None if literal is None else np.asarray(literal.val).item()


def _same_type(atom: Atom, eqn: JaxprEqn) -> bool:
    return atom.aval.shape == eqn.outvars[0].aval.shape and atom.aval.dtype == eqn.outvars[0].aval.dtype


def drop_identity(eqn: JaxprEqn, _: Definitions) -> Atom | None:
    """copy x = x; stop_gradient x = x; convert x to its own dtype = x. Exact."""
    if eqn.primitive in (copy_p, stop_gradient_p, convert_element_type_p) and _same_type(eqn.invars[0], eqn):
        return eqn.invars[0]
    return None


def drop_unit_factor(eqn: JaxprEqn, defined: Definitions) -> Atom | None:
    """x·1 = 1·x = x; x/1 = x. Exact for real numbers; a complex x with an infinite part times 1 + 0i has a NaN."""
    if eqn.primitive in (mul_p, div_p) and not dtypes.is_complex(eqn.outvars[0].aval.dtype):
        x, y = eqn.invars
        if constant(y, defined) == 1 and _same_type(x, eqn):
            return x
        if eqn.primitive is mul_p and constant(x, defined) == 1 and _same_type(y, eqn):
            return y
    return None


def square(eqn: JaxprEqn, defined: Definitions) -> JaxprEqn | None:
    """x² by pow = x·x. Exact for real numbers, since products are rounded correctly."""
    if eqn.primitive is pow_p and dtypes.is_float(eqn.outvars[0].aval.dtype):
        x, y = eqn.invars
        if constant(y, defined) == 2 and _same_type(x, eqn):
            return eqn.replace(invars=[x, x], primitive=mul_p, params={})
    return None


def drop_equal_cases(eqn: JaxprEqn, _: Definitions) -> Atom | None:
    """select_n p x x = x. Exact."""
    if eqn.primitive is select_n_p:
        first, *others = eqn.invars[1:]
        if all(case is first for case in others) and _same_type(first, eqn):
            return first
    return None


def drop_zero_term(eqn: JaxprEqn, _: Definitions) -> Atom | None:
    """x − 0 = x, exact for +0; x + 0 = x for integers only (−0.0 + 0.0 is +0.0)."""
    if eqn.primitive in (add_p, sub_p) and isinstance(eqn.invars[1], Literal) and _same_type(eqn.invars[0], eqn):
        value = np.asarray(eqn.invars[1].val)
        integer = dtypes.is_integer(value.dtype)
        if (
            value == 0
            and (integer or (eqn.primitive is sub_p and not np.signbit(value.real)))
            and value.dtype.kind != "c"
        ):
            return eqn.invars[0]
    return None


def cancel_negations(eqn: JaxprEqn, defined: Definitions) -> Atom | None:
    """−(−x) = x. Exact."""
    if eqn.primitive is neg_p and isinstance(eqn.invars[0], Var):
        inner = defined.get(eqn.invars[0])
        if inner is not None and inner.primitive is neg_p:
            return inner.invars[0]
    return None


def drop_trivial_movement(eqn: JaxprEqn, _: Definitions) -> Atom | None:
    """reshape, broadcast, slice and transpose to the same shape and order are the operand. Exact."""
    if eqn.primitive not in (reshape_p, broadcast_in_dim_p, slice_p) or not _same_type(eqn.invars[0], eqn):
        return None
    x = eqn.invars[0]
    moved = eqn.primitive is broadcast_in_dim_p and eqn.params["broadcast_dimensions"] != tuple(range(x.aval.ndim))
    return None if moved else x


def fold_constants(eqn: JaxprEqn, defined: Definitions) -> Atom | JaxprEqn | None:
    """op(literals, or arrays that repeat one) = a literal, or an array that repeats it. Exact up to the rounding of the
    primitive's NumPy rule. A view of an array that repeats a literal repeats it too."""
    literals = [_repeated(v, defined) for v in eqn.invars]
    if not literals or None in literals or len(eqn.outvars) != 1:
        return None
    (out,) = eqn.outvars
    if isinstance(eqn.primitive.lowering, Elementwise):
        scalar_aval = out.aval.update(shape=())
        value = eqn.primitive.evaluate_eagerly([x.val for x in literals if x is not None], eqn.params)
        return _repetition(Literal(value, scalar_aval), out, eqn)
    if isinstance(eqn.primitive.lowering, View) and not (isinstance(eqn.invars[0], Literal) and _is_repetition(eqn)):
        return _repetition(literals[0], out, eqn)
    return None


def _is_repetition(eqn: JaxprEqn) -> bool:
    return eqn.primitive is broadcast_in_dim_p and not eqn.invars[0].aval.shape


def _repetition(literal: Literal | None, out: Var, eqn: JaxprEqn) -> Atom | JaxprEqn | None:
    return literal if literal is None or not out.aval.shape else _repeated_scalar(literal, out, eqn)


def _repeated_scalar(atom: Atom, out: Var, eqn: JaxprEqn) -> JaxprEqn:
    params = {"shape": out.aval.shape, "broadcast_dimensions": ()}
    return JaxprEqn([atom], [out], broadcast_in_dim_p, params, eqn.source)


def take_part(eqn: JaxprEqn, defined: Definitions) -> Atom | JaxprEqn | None:
    """real (complex x y) = x, imag (complex x y) = y, and likewise for complex constants. Exact."""
    if eqn.primitive not in (real_p, imag_p):
        return None
    (z,), (out,), place = eqn.invars, eqn.outvars, (real_p, imag_p).index(eqn.primitive)
    literal = _repeated(z, defined)
    if literal is not None:
        value = eqn.primitive.evaluate_eagerly([literal.val], {})
        return _repetition(Literal(value, out.aval.update(shape=())), out, eqn)
    made = defined.get(z) if isinstance(z, Var) else None
    if made is None or made.primitive is not complex_p:
        return None
    part = made.invars[place]
    return part if part.aval.shape == out.aval.shape else _repeated_scalar(part, out, eqn)


def join_parts(eqn: JaxprEqn, defined: Definitions) -> Atom | None:
    """complex (real z) (imag z) = z. Exact."""
    if eqn.primitive is not complex_p:
        return None
    re, im = (defined.get(v) if isinstance(v, Var) else None for v in eqn.invars)
    if re is None or im is None or (re.primitive, im.primitive) != (real_p, imag_p):
        return None
    return re.invars[0] if re.invars[0] is im.invars[0] else None


def drop_unit_fold(eqn: JaxprEqn, _: Definitions) -> JaxprEqn | None:
    """A fold over axes of size 1 is a reshape. Exact, but for a sum of −0 alone, which is −0 here."""
    lowering = eqn.primitive.lowering
    if isinstance(lowering, Reduce) and all(eqn.invars[0].aval.shape[d] == 1 for d in eqn.params["axes"]):
        params = {"new_sizes": eqn.outvars[0].aval.shape, "dimensions": None}
        return eqn.replace(primitive=reshape_p, params=params)
    return None


def select_known(eqn: JaxprEqn, defined: Definitions) -> Atom | None:
    """select_n with a predicate that is known, or between equal values, is one of its operands. Exact."""
    if eqn.primitive is not select_n_p:
        return None
    which = constant(eqn.invars[0], defined)
    chosen = eqn.invars[1] if len(set(eqn.invars[1:])) == 1 else None if which is None else eqn.invars[1 + int(which)]
    return chosen if chosen is not None and _same_type(chosen, eqn) else None


def replace_whole_window(eqn: JaxprEqn, _: Definitions) -> Atom | None:
    """dynamic_slice of the whole operand is the operand; dynamic_update_slice of all of it is the update. Exact."""
    which = {dynamic_slice_p: 0, dynamic_update_slice_p: 1}.get(eqn.primitive)
    if (
        which is not None
        and eqn.invars[which].aval.shape == eqn.outvars[0].aval.shape
        and _same_type(eqn.invars[which], eqn)
    ):
        return eqn.invars[which]
    return None


def slice_one_part(eqn: JaxprEqn, defined: Definitions) -> JaxprEqn | None:
    """A slice of a concatenation that lies in one part of it is a slice of that part. Exact."""
    joined = defined.get(eqn.invars[0]) if eqn.primitive is slice_p and isinstance(eqn.invars[0], Var) else None
    if joined is None or joined.primitive is not concatenate_p:
        return None
    d, begin = joined.params["dimension"], 0
    first, last = ([*eqn.params[name]] for name in ("start_indices", "limit_indices"))
    for part in joined.invars:
        end = begin + part.aval.shape[d]
        if begin <= first[d] and last[d] <= end:
            first[d], last[d] = first[d] - begin, last[d] - begin
            params = eqn.params | {"start_indices": tuple(first), "limit_indices": tuple(last)}
            return eqn.replace(invars=[part], params=params)
        begin = end
    return None


RULES: tuple[Rule, ...] = (
    take_part,
    join_parts,
    slice_one_part,
    drop_identity,
    drop_unit_factor,
    square,
    drop_equal_cases,
    drop_zero_term,
    cancel_negations,
    drop_unit_fold,
    drop_trivial_movement,
    fold_constants,
    select_known,
    replace_whole_window,
)
