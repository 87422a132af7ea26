"""Rules of simplification about scatters: sums and selections of whole arrays become updates of windows."""

from __future__ import annotations

import numpy as np

from funcgrad import dtypes
from funcgrad.compiler.rewrite.rules import Definitions, Rule, constant
from funcgrad.core.arrays import as_array
from funcgrad.core.jaxprs import Atom, JaxprEqn, Literal, Var
from funcgrad.core.lowering import Scatter, ScatterForm
from funcgrad.ops.dynamic_slices import dynamic_slice_p
from funcgrad.ops.elementwise import add_any_p
from funcgrad.ops.indexed_access import indexed_update_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import broadcast_in_dim_p, reshape_p


def accumulate_into_operand(eqn: JaxprEqn, defined: Definitions) -> JaxprEqn | None:
    """x + scatter_add(0, i, u) = scatter_add(x, i, u), where both are cotangents, whose sums have no order.

    A −0.0 that is not updated stays −0.0.
    """
    if eqn.primitive is not add_any_p:
        return None
    for x, term in (eqn.invars, eqn.invars[::-1]):
        update = _update(term, defined)
        if update is None or constant(update.invars[0], defined) != 0 or x.aval.shape != term.aval.shape:
            continue
        form = _form(update)
        if form.combine == "add" or (not form.combine and _is_single(update)):
            return _updated(eqn, x, update.invars[1], update.invars[2:], form._replace(combine="add"))
    return None


def select_in_window(eqn: JaxprEqn, defined: Definitions) -> list[JaxprEqn] | None:
    """select(p, a, update(a, i, u)) = update(a, i, select(p, a[i], u)) for one window and one predicate. Exact."""
    predicate = _scalar(eqn.invars[0], defined) if eqn.primitive is select_n_p and len(eqn.invars) == 3 else None
    if predicate is None:
        return None
    for place, (a, written) in enumerate((eqn.invars[1:], eqn.invars[:0:-1])):
        update = _update(written, defined)
        if update is None or update.invars[0] is not a or not _is_single(update):
            continue
        _, new, *starts = update.invars
        form = _form(update)
        kept = Var(new.aval)
        if form.combine == "add":
            before = [_identity(kept, eqn)]
        elif form.combine:
            return None
        else:
            before = _window(kept, a, starts, form, eqn)
        cases, chosen = [kept, new] if place == 0 else [new, kept], Var(new.aval)
        select = JaxprEqn([predicate, *cases], [chosen], select_n_p, {}, eqn.source)
        return [*before, select, _updated(eqn, a, chosen, starts, form)]
    return None


def _update(atom: Atom, defined: Definitions) -> JaxprEqn | None:
    """The scatter that an atom is the result of."""
    made = defined.get(atom) if isinstance(atom, Var) else None
    return made if made is not None and isinstance(made.primitive.lowering, Scatter) else None


def _form(update: JaxprEqn) -> ScatterForm:
    lowering = update.primitive.lowering
    assert isinstance(lowering, Scatter)
    return lowering.form_of(update)


def _is_single(update: JaxprEqn) -> bool:
    """Whether a scatter writes one window."""
    operand, window = update.invars[0].aval, update.invars[1].aval
    return window.ndim == operand.ndim or window.shape[0] == 1


def _updated(eqn: JaxprEqn, x: Atom, update: Atom, starts: list[Atom], form: ScatterForm) -> JaxprEqn:
    return eqn.replace(invars=[x, update, *starts], primitive=indexed_update_p, params={"form": form})


def _scalar(atom: Atom, defined: Definitions) -> Atom | None:
    """The scalar that an atom is or repeats."""
    made = defined.get(atom) if isinstance(atom, Var) else None
    if made is not None and made.primitive is broadcast_in_dim_p:
        atom = made.invars[0]
    return None if atom.aval.shape else atom


def _identity(out: Var, eqn: JaxprEqn) -> JaxprEqn:
    """An array of what changes nothing where it is added."""
    dtype = out.aval.dtype
    params = {"shape": out.aval.shape, "broadcast_dimensions": ()}
    zero = _literal(-0.0 if dtypes.is_inexact(dtype) else 0, dtype)
    return JaxprEqn([zero], [out], broadcast_in_dim_p, params, eqn.source)


def _literal(value: float, dtype: np.dtype) -> Literal:
    array = as_array(np.asarray(value).astype(dtype))
    return Literal(array, array.aval)


def _window(out: Var, a: Atom, starts: list[Atom], form: ScatterForm, eqn: JaxprEqn) -> list[JaxprEqn]:
    """The equations that read the window of `a` which a scatter writes, or another one if it writes none."""
    eqns: list[JaxprEqn] = []

    def reshaped(x: Atom, to: Var) -> Var:
        eqns.append(JaxprEqn([x], [to], reshape_p, {"new_sizes": to.aval.shape, "dimensions": None}, eqn.source))
        return to

    given = dict(zip(form.axes, starts, strict=True))
    every: list[Atom] = []
    for d in range(a.aval.ndim):
        start = given.get(d, _literal(0, dtypes.int32))
        every.append(reshaped(start, Var(start.aval.update(shape=()))) if start.aval.shape else start)
    sizes = out.aval.shape[-a.aval.ndim :]
    read = Var(out.aval.update(shape=sizes))
    eqns.append(JaxprEqn([a, *every], [read], dynamic_slice_p, {"slice_sizes": sizes}, eqn.source))
    reshaped(read, out)
    return eqns


RULES: tuple[Rule, ...] = (accumulate_into_operand, select_in_window)
