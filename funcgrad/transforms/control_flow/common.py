"""Shared by branches and loops: traced bodies, carries, fixpoints of masks, and evaluation outside jit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from funcgrad import dtypes, tree
from funcgrad.compiler import pipeline
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.interning import interned
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Var
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.errors import ArgumentError, DTypeError, JaxprError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.transforms.flattening import FlatFunction, argument_names, name_of

T = TypeVar("T")


# ---------------------------------------------------------------- bodies


class Body:
    """A traced function of a loop or branch: its jaxpr, whose first inputs are the values that it closes over.

    These are all of its constants, known or traced; the equation gets them as operands.
    """

    def __init__(self, fun: Callable[..., Any], in_tree: Any, avals: Sequence[ShapedArray], operation: str):
        flat_fun = FlatFunction(fun, in_tree, transform=operation)
        traced = trace_to_jaxpr(
            flat_fun,
            avals,
            description=f"tracing {name_of(fun)} for {operation}",
            name=name_of(fun),
            argument_names=argument_names(fun, in_tree, len(avals)),
        )
        jaxpr = traced.jaxpr.replace(constvars=[], invars=traced.jaxpr.constvars + traced.jaxpr.invars)
        self.jaxpr, self.consts = ClosedJaxpr(jaxpr), traced.consts
        self.out_tree = flat_fun.out_tree
        self.out_avals: list[ShapedArray] = self.jaxpr.out_avals

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return results in the structure that the function returned."""
        return self.out_tree.unflatten(leaves)

    def show(self) -> str:
        """Return the result's structure with the types of its leaves, as text."""
        return self.out_tree.show(a.short() for a in self.out_avals)

    def forwarded(self) -> list[int | None]:
        """Return, for each result that is an argument, the position of that argument, consts not counted; else None."""
        place = {v: i for i, v in enumerate(self.jaxpr.jaxpr.invars[len(self.consts) :])}
        return [place.get(v) if isinstance(v, Var) else None for v in self.jaxpr.jaxpr.outvars]


def trace_body(fun: Callable[..., Any], args: tuple, avals: Sequence[ShapedArray], operation: str) -> Body:
    """Trace `fun` at positional arguments with the structure of `args` and leaves of the given types."""
    return Body(fun, tree.structure((args, {})), avals, operation)


def join_consts(bodies: Sequence[Body]) -> tuple[list[ClosedJaxpr], list[Any]]:
    """Return the bodies' jaxprs with leading inputs for the values that any of them closed over, and these values."""
    consts = {id(c): c for b in bodies for c in b.consts}
    jaxprs = []
    for body in bodies:
        jaxpr = body.jaxpr.jaxpr
        own = dict(zip(map(id, body.consts), jaxpr.invars, strict=False))
        leading = [own[i] if i in own else Var(c.aval) for i, c in consts.items()]
        rest = jaxpr.invars[len(body.consts) :]
        jaxprs.append(ClosedJaxpr(jaxpr.replace(invars=leading + rest), body.jaxpr.consts))
    return jaxprs, list(consts.values())


# ---------------------------------------------------------------- carries


def same_type(a: ShapedArray, b: ShapedArray) -> bool:
    """Whether two avals are equal up to weak types."""
    return a.strengthened() is b.strengthened()


def promoted(carry: Sequence[Any], out_avals: Sequence[ShapedArray]) -> list[Any]:
    """Promote weakly typed carries with the types that the body returns for them.

    So `scan` may start from a Python number: 0 becomes a float when the body adds floats to it.
    """
    return [
        convert_element_type(x, dtypes.promote(((a.dtype, True), (out.dtype, out.weak_type)))[0])
        if (a := aval_of(x)).weak_type and not same_type(a, out)
        else x
        for x, out in zip(carry, out_avals, strict=True)
    ]


def check_carry(
    operation: str,
    name: str,
    carry_tree: Any,
    avals: Sequence[ShapedArray],
    out_tree: Any,
    out_avals: Sequence[ShapedArray],
) -> None:
    """Raise unless the carry that function `name` returns has the structure and types of the one that it gets."""
    before, after = carry_tree.show(map(repr, avals)), out_tree.show(map(repr, out_avals))
    trees = f"\n    carry in:  {_shortened(before)}\n    carry out: {_shortened(after)}"
    if carry_tree != out_tree:
        differences = tree.describe_mismatch("carry in", carry_tree, "carry out", out_tree)
        raise ArgumentError(
            f"{operation}: {name} returns a carry of another structure than it gets: {differences}{trees}",
            fix="return the carry in the structure in which the loop starts",
        )
    leaves = zip(carry_tree.paths(), avals, out_avals, strict=True)
    differing = [(tree.keystr(path), a, b) for path, a, b in leaves if not same_type(a, b)]
    if differing:
        places = "; ".join(f"carry{path} is {a} at the start and {b} at the end" for path, a, b in differing[:8])
        shapes = any(a.shape != b.shape for _, a, b in differing)
        raise (ShapeError if shapes else DTypeError)(
            f"{operation}: {name} changes the type of its carry in a step: {places}{trees}",
            fix="start from a value of the shape and dtype that the body returns, or convert what it returns "
            + ("(broadcast_to, reshape)" if shapes else "(.astype)"),
        )


def _shortened(text: str) -> str:
    return text if len(text) <= 400 else text[:400] + " …"


def check_operands(operation: str, given: Sequence[ShapedArray], taken: Sequence[ShapedArray]) -> None:
    """Raise JaxprError unless values of types `given` may flow into the inputs of a jaxpr, of types `taken`."""
    if len(given) != len(taken):
        raise JaxprError(f"{operation}: {len(given)} values flow into {len(taken)} inputs of its jaxpr")
    for i, (a, b) in enumerate(zip(given, taken, strict=True)):
        if not same_type(a, b):
            raise JaxprError(f"{operation}: a value of type {a} flows into input {i} of its jaxpr, which is {b}")


# ---------------------------------------------------------------- rules


def fixpoint(step: Callable[[list[bool]], tuple[Sequence[bool], T]], carry: Sequence[bool]) -> tuple[list[bool], T]:
    """Return the smallest mask that contains `carry` and that a step of the loop maps into itself.

    `step(mask)` returns the mask of the carries after the body, given their mask before it, and any other value. The
    other value of the last step is returned too. Each round but the last adds a carry, so the search ends.
    """
    mask = list(carry)
    while True:
        out, result = step(mask)
        grown = [a or b for a, b in zip(mask, out, strict=True)]
        if grown == mask:
            return mask, result
        mask = grown


def needs_lockstep(axis: AxisData, jaxprs: Sequence[ClosedJaxpr]) -> bool:
    """Whether lanes of a mapped loop must take their steps together: effects have an order, collectives join lanes."""
    return join_lanes(axis, jaxprs) or any(closed.jaxpr.effectful for closed in jaxprs)


def join_lanes(axis: AxisData, jaxprs: Sequence[ClosedJaxpr]) -> bool:
    """Whether there are collectives over the axis."""
    return any(axis.name in closed.jaxpr.used_axes for closed in jaxprs)


# ---------------------------------------------------------------- evaluation


def run_compiled(
    primitive: Primitive, key: ClosedJaxpr, arrays: Sequence[Array], params: dict[str, Any]
) -> list[Array]:
    """Run one equation outside jit as a compiled program, cached on `key`, one of its jaxprs."""
    others = tuple((k, v if not isinstance(v, (ClosedJaxpr, tuple)) else id(v)) for k, v in params.items())
    avals = tuple(a.aval for a in arrays)

    def make() -> ClosedJaxpr:
        invars = [Var(a) for a in avals]
        outvars = [Var(a) for a in primitive.infer(*avals, **params)]
        return ClosedJaxpr(Jaxpr([], invars, [JaxprEqn(invars, outvars, primitive, params)], outvars))

    closed = key.memo(("eager", primitive.name, avals, others), make)
    return pipeline.executable(interned(closed), primitive.name)(arrays)
