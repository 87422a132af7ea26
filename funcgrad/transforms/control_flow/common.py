"""What branches and loops share: tracing their bodies, carries, and running one outside jit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.compiler import pipeline
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Var
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.tracing import ArrayLike
from funcgrad.transforms.api import FlatFunction, name_of


def as_arrays(flat: Sequence[Any]) -> list[Any]:
    """Return leaves as arrays or tracers."""
    return [x if isinstance(x, ArrayLike) else as_array(x) for x in flat]


class Body:
    """A traced function of a loop or branch: its jaxpr, whose first inputs are the values it closed over."""

    def __init__(self, fun: Callable[..., Any], in_tree: Any, avals: Sequence[ShapedArray], operation: str):
        flat_fun = FlatFunction(fun, in_tree, transform=operation)
        traced = trace_to_jaxpr(
            flat_fun, avals, description=f"tracing {name_of(fun)} for {operation}", name=name_of(fun)
        )
        self.jaxpr, self.consts = hoist_tracers(traced)
        self.out_tree = flat_fun.out_tree
        self.out_avals: list[ShapedArray] = self.jaxpr.out_avals

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return results in the structure that the function returned."""
        return self.out_tree.unflatten(leaves)


def trace_body(fun: Callable[..., Any], args: tuple, avals: Sequence[ShapedArray], operation: str) -> Body:
    """Trace `fun` at positional arguments with the structure of `args` and leaves of the given types."""
    return Body(fun, tree.structure((args, {})), avals, operation)


def run_compiled(
    primitive: Primitive, key: ClosedJaxpr, arrays: Sequence[Array], params: dict[str, Any]
) -> list[Array]:
    """Run one equation outside jit as a compiled program, which is remembered on `key`, one of its jaxprs."""
    others = tuple((k, v if not isinstance(v, (ClosedJaxpr, tuple)) else id(v)) for k, v in params.items())
    avals = tuple(a.aval for a in arrays)

    def make() -> ClosedJaxpr:
        invars = [Var(a) for a in avals]
        outvars = [Var(a) for a in primitive.infer(*avals, **params)]
        return ClosedJaxpr(Jaxpr([], invars, [JaxprEqn(invars, outvars, primitive, params)], outvars))

    closed = key.memo(("eager", primitive.name, avals, others), make)
    return pipeline.executable(closed, primitive.name)(arrays)
