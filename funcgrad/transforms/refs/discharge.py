"""Jaxprs of Refs as jaxprs of their contents, and the primitives that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.errors import ArgumentError
from funcgrad.transforms.refs.ref import Ref


def pure_jaxpr(closed: ClosedJaxpr, args: Sequence[Any], carried: Sequence[Ref]) -> ClosedJaxpr:
    """Return a jaxpr that is bound to `args`, some of them Refs, as one of contents.

    Its inputs are those of `args` that are not in `carried`, of Refs the contents, and then the contents of `carried`.
    Its outputs are followed by the contents of `carried` afterwards; these must contain all that are `written`.
    """
    place = {r: i for i, r in enumerate(carried)}
    pattern = tuple(place.get(a, _FIXED) if isinstance(a, Ref) else _VALUE for a in args)
    avals = tuple(r.aval for r in carried)
    return closed.memo(("pure", pattern, avals), lambda: _pure_jaxpr(closed, pattern, avals))


_VALUE, _FIXED = -2, -1  # inputs that are not the contents of a carried Ref


def _pure_jaxpr(closed: ClosedJaxpr, pattern: Sequence[int], carried: Sequence[ShapedArray]) -> ClosedJaxpr:
    given = [a for a, i in zip(closed.in_avals, pattern, strict=True) if i < 0]

    def fun(*flat: Any) -> list[Any]:
        others, refs = iter(flat[: len(given)]), [Ref(x) for x in flat[len(given) :]]
        args = [refs[i] if i >= 0 else Ref(next(others)) if i == _FIXED else next(others) for i in pattern]
        out = eval_jaxpr(closed.jaxpr, closed.consts, *args)
        return [*out, *(r.read() for r in refs)]

    return trace_to_jaxpr(fun, [*given, *carried], name=closed.jaxpr.name)


def written(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Ref]:
    """Return the Refs among `args`, each once, whose contents a jaxpr that is bound to them changes."""
    refs = list(dict.fromkeys(a for a in args if isinstance(a, Ref)))
    jaxpr = pure_jaxpr(closed, args, refs).jaxpr
    n = len(refs)
    pairs = zip(refs, jaxpr.invars[len(jaxpr.invars) - n :], jaxpr.outvars[len(jaxpr.outvars) - n :], strict=True)
    return [r for r, before, after in pairs if after is not before]


def contents_of(args: Sequence[Any], besides: Sequence[Ref] = ()) -> list[Any]:
    """Return args with the contents of Refs in their place, and without the Refs in `besides`."""
    return [a.read() if isinstance(a, Ref) else a for a in args if not (isinstance(a, Ref) and a in besides)]


def write_back(carried: Sequence[Ref], results: Sequence[Any]) -> list[Any]:
    """Put the last results into Refs; return the others."""
    n = len(results) - len(carried)
    for ref, contents in zip(carried, results[n:], strict=True):
        ref.write(contents)
    return list(results[:n])


def discharge_call(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a primitive that calls the jaxpr in its params with its operands, some of which are Refs."""
    carried = written(params["jaxpr"], args)
    pure = pure_jaxpr(params["jaxpr"], args, carried)
    return write_back(
        carried, primitive.bind(*contents_of(args, carried), *contents_of(carried), **params | {"jaxpr": pure})
    )


def discharge_reader(primitive: Primitive, args: Sequence[Any], params: dict[str, Any], param: str) -> list[Any]:
    """Bind a primitive whose function, the jaxpr `param` of its params, may read the Refs among its operands."""
    for ref in written(params[param], args):
        raise ArgumentError(
            f"{primitive.name}: {params[param].jaxpr.name} writes to a Ref with contents of type {ref.aval}; a "
            "function with rules of its own may only read Refs that it closes over",
            fix="return the value, and write it where the function is called",
        )
    return primitive.bind(*contents_of(args), **params | {param: pure_jaxpr(params[param], args, [])})
