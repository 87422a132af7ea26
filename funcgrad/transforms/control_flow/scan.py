"""scan: a loop of known length that carries values along and stacks results."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.core.layouts import ScanLayout, ScanParts
from funcgrad.core.masks import partition_list, select
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.ops.shapes import expand_dims
from funcgrad.ops.slicing import concatenate
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow.common import Body, check_carry, promoted, trace_body
from funcgrad.transforms.control_flow.scan_rules import scan_p
from funcgrad.transforms.flattening import as_arrays, callable_or_error, name_of, places


@boundary
def scan(
    f: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    _split_transpose: bool = False,
) -> Any:
    """Carry a value through the slices of arrays, and stack what each step gives.

    The law is this loop, compiled as one; `init`, `xs` and what `f` returns are pytrees:

        carry, ys = init, []
        for x in xs:                     # in reverse order if `reverse`
            carry, y = f(carry, x)
            ys.append(y)
        return carry, stack(ys)          # ys[i] belongs to xs[i], in reverse too

    Args:
      f: (carry, x) → (carry, y). The carry keeps its structure, shapes and dtypes; `f` is traced, once.
      init: the first carry. Python numbers take the dtype that `f` makes of them.
      xs: arrays of one leading size, sliced along it; None passes None.
      length: number of steps; needed where `xs` has no arrays.
      unroll: how many steps the compiled loop may do in a round; True or 0: all. The result is the same.
      _split_transpose: accepted for compatibility.

    Returns:
      The last carry, and the ys stacked along a new leading axis.

    Raises:
      ArgumentError: lengths differ or are not known; `f` returns no pair, or a carry of another structure.
      ShapeError, DTypeError: the carry that `f` returns has another shape or dtype than the one that it gets.

    Forward and reverse mode, vmap and jit apply. The reverse pass is a scan in the opposite direction over
    stacked residuals; what depends on no step is computed once.

    >>> import funcgrad.numpy as jnp
    >>> scan(lambda total, x: (total + x, total), 0.0, jnp.arange(4.0))
    (Array(6., dtype=float32), Array([0., 0., 1., 3.], dtype=float32, weak_type=True))
    """
    return scan_as("scan", f, init, xs, length, reverse, unroll)


def scan_as(
    operation: str, f: Callable[..., Any], init: Any, xs: Any, length: int | None, reverse: bool, unroll: int | bool
) -> Any:
    """Apply `scan` for an operation of another name, which error messages use."""
    callable_or_error(f, operation)
    init_leaves, init_tree = tree.flatten(init)
    xs_leaves, xs_tree = tree.flatten(xs)
    init_leaves = as_arrays(init_leaves, operation, places("init", init_tree))
    xs_leaves = as_arrays(xs_leaves, operation, places("xs", xs_tree))
    length = length_of(xs_leaves, xs_tree, length, operation)
    unroll = _checked_unroll(unroll, length, operation)
    if config.disable_jit and length:
        return _python_loop(f, init_tree.unflatten(init_leaves), xs_leaves, xs_tree, length, reverse)
    slices = [aval_of(x).update(shape=aval_of(x).shape[1:]) for x in xs_leaves]
    body, init_leaves = _trace(operation, f, init_leaves, init_tree, slices, xs_tree)
    params = {"length": length, "reverse": bool(reverse), "unroll": unroll}
    return body.unflatten(_bind(body, init_leaves, xs_leaves, params))


def length_of(xs: Sequence[Any], structure: Any, length: Any, operation: str) -> int:
    """Return the number of steps, given by `length`, by the leading axes of `xs`, or by both."""
    if length is not None:
        if isinstance(length, Tracer) and length.concrete() is None:
            raise ConcretizationError(
                f"{operation}: length is a traced value of type {length.aval}, not a known int",
                fix="use while_loop or fori_loop where the number of steps is known at run time only",
            )
        length = operator.index(length) if not isinstance(length, Tracer) else int(length)
        if length < 0:
            raise ArgumentError(f"{operation}: length is {length}", fix="give the number of steps, 0 or more")
    avals = [aval_of(x) for x in xs]
    for i, a in enumerate(avals):
        if not a.shape:
            raise ShapeError(
                f"{operation}: {places('xs', structure)()[i]} has type {a}, without a leading axis to scan over",
                fix="give arrays of at least one dimension; close over values that are the same in every step",
            )
    sizes = list(dict.fromkeys(a.shape[0] for a in avals))
    if len(sizes) > 1:
        raise ShapeError(
            f"{operation}: arrays of xs have different leading sizes: {_shown(avals, structure)}",
            fix="scan over arrays of one length",
        )
    if length is None:
        if not sizes:
            raise ArgumentError(
                f"{operation}: xs has no arrays, and length is not given",
                fix="give length=" if operation == "scan" else "give at least one array",
            )
        return sizes[0]
    if sizes and sizes[0] != length:
        raise ShapeError(
            f"{operation}: length is {length}, the leading sizes of xs differ from it: {_shown(avals, structure)}",
            fix="leave out length=, or slice xs",
        )
    return length


def _shown(avals: Sequence[Any], structure: Any) -> str:
    return ", ".join(f"{name} {aval}" for name, aval in zip(places("xs", structure)(), avals, strict=True))


def _checked_unroll(unroll: Any, length: int, operation: str) -> int:
    if isinstance(unroll, bool):
        return max(length, 1) if unroll else 1
    unroll = operator.index(unroll)
    if unroll < 0:
        raise ArgumentError(
            f"{operation}: unroll is {unroll}", fix="give a number of steps, 0 or True for all, or False"
        )
    return unroll


def _trace(
    operation: str, f: Callable[..., Any], init: list[Any], init_tree: Any, slices: Sequence[Any], xs_tree: Any
) -> tuple[Body, list[Any]]:
    """Trace the body at types of the carry that it preserves; also return the initial carry at these types."""
    args = (init_tree.unflatten(init), xs_tree.unflatten(slices))

    def traced(carry: Sequence[Any]) -> tuple[Body, Any]:
        body = trace_body(f, args, [*map(aval_of, carry), *slices], operation)
        parts = body.out_tree.children()
        if len(parts) != 2:
            raise ArgumentError(
                f"{operation}: {name_of(f)} must return a pair (carry, y), it returned "
                f"{body.out_tree.show(map(repr, body.out_avals))}",
                fix="return (carry, y); y may be None",
            )
        return body, parts[0]

    body, carry_tree = traced(init)
    if carry_tree.num_leaves == len(init):
        converted = promoted(init, body.out_avals[: len(init)])
        if any(a is not b for a, b in zip(init, converted, strict=True)):
            init = converted
            body, carry_tree = traced(init)
    check_carry(
        operation,
        name_of(f),
        init_tree,
        [aval_of(x) for x in init],
        carry_tree,
        body.out_avals[: carry_tree.num_leaves],
    )
    return body, init


def _bind(body: Body, init: list[Any], xs: list[Any], params: dict[str, Any]) -> list[Any]:
    """Bind the scan without what needs no loop: unchanged carries become consts, returned slices are xs."""
    layout, jaxpr = ScanLayout(len(body.consts), len(init)), body.jaxpr.jaxpr
    same_carry, same_ys = layout.split_results(body.forwarded())
    kept = [same == i for i, same in enumerate(same_carry)]
    passed = [xs[i - len(init)] if i is not None and i >= len(init) else None for i in same_ys]

    def with_kept_as_consts(parts: ScanParts[Any]) -> ScanParts[Any]:
        changed, unchanged = partition_list(kept, parts.carry)
        return ScanParts([*unchanged, *parts.consts], changed, parts.xs)

    invars = with_kept_as_consts(layout.split(jaxpr.invars)).join()
    outvars = select(jaxpr.outvars, kept + [x is not None for x in passed], False)
    operands = with_kept_as_consts(ScanParts(body.consts, init, xs))
    closed = ClosedJaxpr(jaxpr.replace(invars=invars, outvars=outvars))
    out = iter(scan_p.bind(*operands.join(), **operands.params, **params, jaxpr=closed))
    carry_out = [x if k else next(out) for x, k in zip(init, kept, strict=True)]
    return carry_out + [next(out) if x is None else x for x in passed]


def _python_loop(
    f: Callable[..., Any], carry: Any, xs: Sequence[Any], xs_tree: Any, length: int, reverse: bool
) -> tuple[Any, Any]:
    """The loop as Python runs it, under disable_jit: a debugger sees every step."""
    ys: list[Any] = [None] * length
    for i in reversed(range(length)) if reverse else range(length):
        carry, ys[i] = f(carry, xs_tree.unflatten([x[i] for x in xs]))
    return carry, tree.map(lambda *rows: concatenate([expand_dims(r, (0,)) for r in as_arrays(rows)], 0), *ys)
