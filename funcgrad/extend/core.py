"""Jaxprs, and primitives whose rules are registered one by one, as in JAX.

`funcgrad.primitive` declares a primitive with all its rules at once. This module is for programs written for JAX:

>>> import funcgrad as fg
>>> from funcgrad.interpreters import ad, batching
>>> twice_p = Primitive("twice")
>>> _ = twice_p.def_impl(lambda x: 2 * x)
>>> _ = twice_p.def_abstract_eval(lambda x: x)
>>> ad.deflinear(twice_p, lambda ct: [twice_p.bind(ct)])
>>> batching.defvectorized(twice_p)
>>> fg.grad(fg.jit(lambda x: twice_p.bind(x) ** 2))(3.0)
Array(24., dtype=float32, weak_type=True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core import primitives as _primitives
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray as ShapedArray
from funcgrad.core.checking import check_jaxpr as check_jaxpr
from funcgrad.core.jaxprs import ClosedJaxpr as ClosedJaxpr
from funcgrad.core.jaxprs import Jaxpr as Jaxpr
from funcgrad.core.jaxprs import JaxprEqn as JaxprEqn
from funcgrad.core.jaxprs import Literal as Literal
from funcgrad.core.jaxprs import Var as Var
from funcgrad.core.jaxprs import eval_jaxpr as eval_jaxpr
from funcgrad.core.jaxprs import jaxpr_as_fun as jaxpr_as_fun
from funcgrad.core.jaxprs import subjaxprs as _subjaxprs
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.errors import user_location


class Primitive(_primitives.Primitive):
    """A primitive whose rules are registered after it is made; see the modules of `funcgrad.interpreters`.

    Its value is computed by the function given to `def_impl`, in compiled programs too, unless
    `interpreters.mlir.register_lowering` gives a function of other operations.
    """

    def __init__(self, name: str):
        location = user_location()
        super().__init__(
            name,
            infer=self._not_defined("def_abstract_eval"),
            evaluate=self._not_defined("def_impl"),
            origin=str(location) if location else "",
            register=False,
        )

    def _not_defined(self, method: str) -> Callable[..., Any]:
        def missing(*args: Any, **params: Any) -> Any:
            raise _primitives.missing_rule(self.name, method, self.origin, method)

        return missing

    def def_impl(self, impl: Callable[..., Any]) -> Callable[..., Any]:
        """Set the function of concrete arrays that computes the value; return it."""

        def evaluate(*operands: np.ndarray, **params: Any) -> Any:
            out = impl(*(Array(aval_of(x), x) for x in operands), **params)
            return [np.asarray(x) for x in out] if self.multiple_results else np.asarray(out)

        self.evaluate = evaluate
        return impl

    def def_abstract_eval(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the function from types to the type of the result; return it."""

        def infer(*avals: ShapedArray, **params: Any) -> Any:
            out = rule(*avals, **params)
            types = [ShapedArray(tuple(a.shape), a.dtype, getattr(a, "weak_type", False)) for a in tree.leaves(out)]
            return types if self.multiple_results else types[0]

        self.infer = infer
        self._inferred.clear()
        return rule


def jaxprs_in_params(params: dict[str, Any]) -> Sequence[Jaxpr]:
    """Return the jaxprs in the params of an equation."""
    return list(_subjaxprs(params))


_explain_missing_names(__name__)
