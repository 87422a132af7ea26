"""Products of scanned slices with loop invariants leave their loop: one large product in place of many small ones.

In a recurrent network x_t·u + h·w, the product x_t·u depends on no other iteration. The products of all iterations are
the rows of one large product, whose cost of starting threads is paid once and not in every iteration.

    scan(t: … x[t]·u …)        becomes        y = x·u; scan(t: … y[t] …)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from funcgrad.compiler.rewrite import products
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Var
from funcgrad.core.layouts import ScanLayout
from funcgrad.core.lowering import Contract, View
from funcgrad.core.primitives import AxisData
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.shapes import move_axis, reshape

# What the results of all iterations may take: they are written once and read once.
_MOST_BYTES = 64 << 20


class Product(NamedTuple):
    """A product that leaves a scan: its equation in the body, and its operands as views of a slice and of a const."""

    eqn: JaxprEqn
    scanned: int  # which of the scanned operands
    const: int  # which of the consts
    views_of_slice: list[JaxprEqn]
    views_of_const: list[JaxprEqn]

    def of_all(self, xs: ShapedArray, const: ShapedArray) -> ClosedJaxpr:
        """The jaxpr of (scanned operand, const) → the products of all iterations, stacked."""

        def fun(x: Any, w: Any) -> list[Any]:
            dim, scanned = 0, AxisData(None, xs.shape[0])
            for eqn in self.views_of_slice:
                x, dim = eqn.primitive.batch(scanned, (x,), (dim,), **eqn.params)
            x = move_axis(x, dim, 0)
            for eqn in self.views_of_const:
                w = eqn.primitive.bind(w, **eqn.params)
            length, _, rows, inner = aval_of(x).shape
            product = self.eqn.primitive.bind(reshape(x, (1, length * rows, inner)), w, **self.eqn.params)
            return [reshape(product, (length, *self.eqn.outvars[0].aval.shape))]

        return trace_to_jaxpr(fun, [xs, const])


def products_of_slices(body: Jaxpr, layout: ScanLayout, length: int) -> list[Product]:
    """The products in a scan's body of a view of one slice with a view of one const."""
    consts, _, xs = layout.split(body.invars)
    const_place, xs_place = ({v: i for i, v in enumerate(part)} for part in (consts, xs))
    defined = {v: e for e in body.eqns for v in e.outvars}
    found = []
    for eqn in body.eqns:
        if not isinstance(eqn.primitive.lowering, Contract) or not products.is_canonical(eqn):
            continue
        out = eqn.outvars[0].aval
        (x, views_of_slice), (w, views_of_const) = (_views(v, defined) for v in eqn.invars)
        small = length * out.nbytes <= _MOST_BYTES
        if x in xs_place and w in const_place and out.ndim == 3 and out.shape[0] == 1 and small:
            found.append(Product(eqn, xs_place[x], const_place[w], views_of_slice, views_of_const))
    return found


def _views(atom: Atom, defined: dict[Var, JaxprEqn]) -> tuple[Atom, list[JaxprEqn]]:
    """The value under a chain of views, and the views, innermost first."""
    views: list[JaxprEqn] = []
    while isinstance(atom, Var) and atom in defined and isinstance(defined[atom].primitive.lowering, View):
        views.append(defined[atom])
        atom = defined[atom].invars[0]
    return atom, views[::-1]


def without(body: Jaxpr, products: Sequence[Product]) -> Jaxpr:
    """The body that takes the products' results as further slices."""
    gone = [p.eqn for p in products]
    results = [v for e in gone for v in e.outvars]
    return body.replace(invars=[*body.invars, *results], eqns=[e for e in body.eqns if e not in gone])
