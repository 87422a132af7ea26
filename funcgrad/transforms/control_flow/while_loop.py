"""while_loop and fori_loop: loops whose length values decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import tree
from funcgrad.config import config
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import While
from funcgrad.core.primitives import Primitive
from funcgrad.core.tracing import aval_of
from funcgrad.transforms.control_flow.common import as_arrays, run_compiled, trace_body


def _infer(*avals: ShapedArray, cond_jaxpr: ClosedJaxpr, body_jaxpr: ClosedJaxpr, cond_nconsts: int,
           body_nconsts: int) -> list[ShapedArray]:  # fmt: skip
    return body_jaxpr.out_avals


def _evaluate(*arrays: Array, **params: Any) -> list[Array]:
    if config.disable_jit:
        return _interpret(*arrays, **params)
    return run_compiled(while_p, params["body_jaxpr"], arrays, params)


def _interpret(*arrays: Array, cond_jaxpr: ClosedJaxpr, body_jaxpr: ClosedJaxpr, cond_nconsts: int,
               body_nconsts: int) -> list[Any]:  # fmt: skip
    cond_consts, body_consts = arrays[:cond_nconsts], arrays[cond_nconsts : cond_nconsts + body_nconsts]
    carry = list(arrays[cond_nconsts + body_nconsts :])
    while eval_jaxpr(cond_jaxpr.jaxpr, cond_jaxpr.consts, *cond_consts, *carry)[0]:
        carry = eval_jaxpr(body_jaxpr.jaxpr, body_jaxpr.consts, *body_consts, *carry)
    return carry


while_p = Primitive(
    "while", infer=_infer, evaluate=_evaluate, lowering=While(), multiple_results=True, higher_order=True
)


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Return init_val after body_fun was applied to it as long as cond_fun holds."""
    leaves, structure = tree.flatten(init_val)
    leaves = as_arrays(leaves)
    args, avals = (structure.unflatten(leaves),), [aval_of(x) for x in leaves]
    cond = trace_body(cond_fun, args, avals, "while_loop")
    body = trace_body(body_fun, args, avals, "while_loop")
    out = while_p.bind(*cond.consts, *body.consts, *leaves, cond_jaxpr=cond.jaxpr, body_jaxpr=body.jaxpr,
                       cond_nconsts=len(cond.consts), body_nconsts=len(body.consts))  # fmt: skip
    return structure.unflatten(out)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any, *, unroll: Any = None) -> Any:
    """Return init_val after val = body_fun(i, val) for i from lower to upper − 1."""
    _, _, out = while_loop(
        lambda s: s[0] < s[1], lambda s: (s[0] + 1, s[1], body_fun(s[0], s[2])), (lower, upper, init_val)
    )
    return out
