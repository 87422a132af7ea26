"""cond and switch: one of several functions, chosen at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.config import config
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Cond
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.core.tracing import aval_of
from funcgrad.ops.arithmetic import convert_element_type
from funcgrad.transforms.control_flow.common import as_arrays, run_compiled, trace_body


def _infer(index: ShapedArray, *avals: ShapedArray, branches: Sequence[ClosedJaxpr]) -> list[ShapedArray]:
    return branches[0].out_avals


def _evaluate(index: Array, *arrays: Array, branches: Sequence[ClosedJaxpr]) -> list[Array]:
    if config.disable_jit:
        chosen = branches[int(np.clip(int(index), 0, len(branches) - 1))]
        return eval_jaxpr(chosen.jaxpr, chosen.consts, *arrays)
    return run_compiled(cond_p, branches[0], [index, *arrays], {"branches": branches})


cond_p = Primitive("cond", infer=_infer, evaluate=_evaluate, lowering=Cond(), multiple_results=True, higher_order=True)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Return branches[index](*operands), the index clamped to their number."""
    leaves, structure = tree.flatten(operands)
    leaves = as_arrays(leaves)
    args, avals = structure.unflatten(leaves), [aval_of(x) for x in leaves]
    bodies = [trace_body(f, args, avals, "switch") for f in branches]
    consts = [c for b in bodies for c in b.consts]
    jaxprs = []
    start = 0
    for b in bodies:
        own = slice(start, start + len(b.consts))
        start = own.stop
        jaxprs.append(_with_all_consts(b.jaxpr, [aval_of(c) for c in consts], own, avals))
    index = convert_element_type(*as_arrays([index]), dtypes.int32)
    out = cond_p.bind(index, *consts, *leaves, branches=tuple(jaxprs))
    return bodies[0].unflatten(out)


def _with_all_consts(
    jaxpr: ClosedJaxpr, const_avals: Sequence[ShapedArray], own: slice, avals: Sequence[ShapedArray]
) -> ClosedJaxpr:
    """The jaxpr as one of the consts of all branches, of which it uses its own."""

    def fun(*args: Any) -> list[Any]:
        return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args[own], *args[len(const_avals) :])

    return trace_to_jaxpr(fun, [*const_avals, *avals], name=jaxpr.jaxpr.name)


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """Return true_fun(*operands) if pred holds, else false_fun(*operands)."""
    return switch(pred, [false_fun, true_fun], *operands)
