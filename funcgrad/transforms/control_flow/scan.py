"""scan: a loop of known length that carries values along and stacks results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.config import config
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Scan
from funcgrad.core.primitives import Primitive
from funcgrad.core.tracing import aval_of
from funcgrad.transforms.control_flow.common import as_arrays, run_compiled, trace_body


def _infer(*avals: ShapedArray, jaxpr: ClosedJaxpr, length: int, reverse: bool, num_consts: int, num_carry: int,
           unroll: int) -> list[ShapedArray]:  # fmt: skip
    carry, ys = jaxpr.out_avals[:num_carry], jaxpr.out_avals[num_carry:]
    return [*carry, *(a.update(shape=(length, *a.shape)) for a in ys)]


def _evaluate(*arrays: Array, **params: Any) -> list[Array]:
    if config.disable_jit:
        return _interpret(*arrays, **params)
    return run_compiled(scan_p, params["jaxpr"], arrays, params)


def _interpret(*arrays: Array, jaxpr: ClosedJaxpr, length: int, reverse: bool, num_consts: int, num_carry: int,
               unroll: int) -> list[Any]:  # fmt: skip
    consts, carry = arrays[:num_consts], list(arrays[num_consts : num_consts + num_carry])
    xs = arrays[num_consts + num_carry :]
    rows: list[Any] = [None] * length
    for i in reversed(range(length)) if reverse else range(length):
        out = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *(x[i] for x in xs))
        carry, rows[i] = out[:num_carry], out[num_carry:]
    avals = jaxpr.out_avals[num_carry:]
    ys = [
        Array(a.update(shape=(length, *a.shape)), np.array([row[k] for row in rows], a.dtype).reshape(length, *a.shape))
        for k, a in enumerate(avals)
    ]
    return [*carry, *ys]


scan_p = Primitive("scan", infer=_infer, evaluate=_evaluate, lowering=Scan(), multiple_results=True, higher_order=True)


def scan(f: Callable[..., Any], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False,
         unroll: int | bool = 1) -> Any:  # fmt: skip
    """Return the last carry and the stacked results of (carry, y) = f(carry, x) for each slice x of `xs`."""
    init_leaves, init_tree = tree.flatten(init)
    xs_leaves, xs_tree = tree.flatten(xs)
    init_leaves, xs_leaves = as_arrays(init_leaves), as_arrays(xs_leaves)
    n = length if length is not None else aval_of(xs_leaves[0]).shape[0]
    slices = [aval_of(x).update(shape=aval_of(x).shape[1:]) for x in xs_leaves]
    args = (init_tree.unflatten(init_leaves), xs_tree.unflatten(xs_leaves))
    body = trace_body(f, args, [*(aval_of(x) for x in init_leaves), *slices], "scan")
    out = scan_p.bind(*body.consts, *init_leaves, *xs_leaves, jaxpr=body.jaxpr, length=n, reverse=reverse,
                      num_consts=len(body.consts), num_carry=len(init_leaves), unroll=int(unroll))  # fmt: skip
    carry_tree, ys_tree = body.out_tree.children()
    k = len(init_leaves)
    return carry_tree.unflatten(out[:k]), ys_tree.unflatten(out[k:])


def map(f: Callable[..., Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """Return the stacked results of f(x) for each slice x of `xs`."""
    return scan(lambda _, x: ((), f(x)), (), xs)[1]
