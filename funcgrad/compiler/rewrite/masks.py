"""Which elements of a value can be seen in results: where only selections (`where`) read it, those that they choose.

The walk goes backward from the results, through selections and elementwise operations. Values that are compared,
counted or printed are not seen, since a NaN ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from funcgrad import dtypes
from funcgrad.core.jaxprs import Atom, JaxprEqn, Var
from funcgrad.core.lowering import Elementwise
from funcgrad.ops.selection import select_n_p


@dataclass(eq=False, repr=False)
class Chosen:
    """The elements that any of some selections chooses; none when there are no `choices`.

    A choice is the selector, the case of it, and what is seen of the selection's result (None: all). `last` is the
    position of the last of these selections.
    """

    choices: dict[tuple[int, int, int], tuple[Atom, int, Chosen | None]] = field(default_factory=dict)
    last: int = -1

    def selectors(self) -> list[Atom]:
        """Return the selectors that the choices depend on, each once."""
        found: dict[int, Atom] = {}
        stack: list[Chosen] = [self]
        seen = {id(self)}
        while stack:
            for selector, _, outer in stack.pop().choices.values():
                found[id(selector)] = selector
                if outer is not None and id(outer) not in seen:
                    seen.add(id(outer))
                    stack.append(outer)
        return list(found.values())

    def mask(self, values: Mapping[int, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Return where elements are chosen, given the values of the selectors by their `id`."""
        known: dict[int, np.ndarray] = {}
        pending: list[Chosen] = [self]
        while pending:  # no recursion: selections of selections go as deep as the program is long
            chosen = pending[-1]
            outer = [o for _, _, o in chosen.choices.values() if o is not None and id(o) not in known]
            if outer:
                pending += outer
                continue
            found = np.zeros(shape, bool)
            for selector, case, beyond in chosen.choices.values():
                here = np.broadcast_to(values[id(selector)] == case, shape)
                found |= here if beyond is None else here & known[id(beyond)]
            known[id(pending.pop())] = found
        return known[id(self)]


def seen_of(eqns: Sequence[JaxprEqn], results: Sequence[Atom]) -> dict[Var, Chosen | None]:
    """Return for each variable what is seen of it in `results`; None for all, and no entry for nothing."""
    seen: dict[Var, Chosen | None] = {v: None for v in results if isinstance(v, Var)}

    def add(var: Var, more: Chosen) -> None:
        known = seen.setdefault(var, Chosen())
        if known is not None:
            known.choices |= more.choices
            known.last = max(known.last, more.last)

    for position in reversed(range(len(eqns))):
        eqn = eqns[position]
        if not any(v in seen and dtypes.is_inexact(v.aval.dtype) for v in eqn.outvars):
            continue
        out = eqn.outvars[0]
        outer = seen[out] if len(eqn.outvars) == 1 else None
        last = position if outer is None else max(position, outer.last)
        for case, atom in enumerate(eqn.invars, -1):
            if not isinstance(atom, Var):
                continue
            if eqn.primitive is select_n_p and case >= 0:
                selector = eqn.invars[0]
                add(atom, Chosen({(id(selector), case, id(outer)): (selector, case, outer)}, last))
            elif (
                outer is not None
                and isinstance(eqn.primitive.lowering, Elementwise)
                and atom.aval.shape == out.aval.shape
            ):
                add(atom, outer)
            else:
                seen[atom] = None
    return seen
