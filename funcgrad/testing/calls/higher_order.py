"""Calls of primitives that carry jaxprs or functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad import tree
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.arithmetic import add_p, div_p, mul_p, sqrt_p, sub_p
from funcgrad.ops.logic import lt_p
from funcgrad.ops.shapes import broadcast_in_batch, full, rev_p, squeeze_p
from funcgrad.ops.slicing import slice_p
from funcgrad.testing.calls.table import (
    ANY,
    BITS,
    INEXACT,
    NUMBER,
    SMALL,
    Draw,
    allowed,
    operand,
    strategy,
    type_of,
    wide_floats,
)
from funcgrad.testing.strategies import (
    NONZERO,
    POSITIVE,
    fill,
    seeds,
    shapes,
)
from funcgrad.transforms.checkify.error import init_error
from funcgrad.transforms.effects.callbacks import VMAP_METHODS, HostFunction

# ---------------------------------------------------------------- jaxprs


def _polynomials(draw: Draw, within: Sequence[np.dtype]) -> tuple[list[np.ndarray], ClosedJaxpr]:
    """Two operands, and the jaxpr of two polynomials in them."""
    x = operand(draw, within, NUMBER)
    y = fill(draw(seeds), x.dtype, x.shape)
    mul, add = mul_p.bind, add_p.bind

    def body(x: Any, y: Any) -> list[Any]:
        return [mul(x, x), add(mul(x, y), y)]

    return [x, y], trace_to_jaxpr(body, [type_of(x), type_of(y)], name="body")


@strategy("jit")
def _jit(draw: Draw, within: Sequence[np.dtype]) -> Any:
    operands, jaxpr = _polynomials(draw, within)
    return operands, {"jaxpr": jaxpr, "name": "body", "inline": False}


@strategy("remat2")
def _remat(draw: Draw, within: Sequence[np.dtype]) -> Any:
    operands, jaxpr = _polynomials(draw, within)
    policy = draw(st.sampled_from([None, lambda primitive, *_, **__: primitive.name == "mul"]))
    return operands, {"jaxpr": jaxpr, "prevent_cse": draw(st.booleans()), "differentiated": False, "policy": policy}


@strategy("name")
def _name(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [operand(draw, within)], {"name": "value"}


@strategy("scan")
def _scan(draw: Draw, within: Sequence[np.dtype]) -> Any:
    w = fill(draw(seeds), draw(allowed(NUMBER, within)), draw(shapes(max_dims=1)), SMALL)
    length, reverse = draw(st.integers(0, 3)), draw(st.booleans())
    start = np.array(draw(st.integers(0, 2)), np.int32)
    c, x = fill(draw(seeds), w.dtype, w.shape), fill(draw(seeds), w.dtype, (length, *w.shape))
    mul, add = mul_p.bind, add_p.bind

    def body(w: Any, i: Any, c: Any, x: Any) -> list[Any]:
        return [add(i, np.int32(1)), add(mul(mul(w, w), c), x), mul(c, x), add(i, i)]

    avals = [type_of(w), type_of(start), type_of(c), ShapedArray(w.shape, w.dtype)]
    return [w, start, c, x], {
        "jaxpr": trace_to_jaxpr(body, avals, name="body"),
        "length": length,
        "num_carry": 2,
        "num_consts": 1,
        "reverse": reverse,
        "unroll": 1,
    }


@strategy("while")
def _while(draw: Draw, within: Sequence[np.dtype]) -> Any:
    w = fill(draw(seeds), draw(allowed(NUMBER, within)), draw(shapes(max_dims=1)), SMALL)
    c, start = fill(draw(seeds), w.dtype, w.shape), np.array(0, np.int32)
    # The second element of a batch is the first one reversed, so that they take different numbers of steps.
    steps = np.array(draw(st.permutations([1, 3])), np.int32)
    mul, add = mul_p.bind, add_p.bind

    def predicate(steps: Any, i: Any, c: Any) -> list[Any]:
        first = slice_p.bind(steps, start_indices=(0,), limit_indices=(1,), strides=None)
        return [lt_p.bind(i, squeeze_p.bind(first, dimensions=(0,)))]

    def body(w: Any, i: Any, c: Any) -> list[Any]:
        return [add(i, np.int32(1)), add(mul(mul(w, c), c), w)]

    carry = [type_of(start), type_of(c)]
    return [steps, w, start, c], {
        "body_jaxpr": trace_to_jaxpr(body, [type_of(w), *carry], name="body"),
        "body_nconsts": 1,
        "cond_jaxpr": trace_to_jaxpr(predicate, [type_of(steps), *carry], name="predicate"),
        "cond_nconsts": 1,
    }


@strategy("cond")
def _cond(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within, NUMBER)
    y = fill(draw(seeds), x.dtype, x.shape)
    mul, add = mul_p.bind, add_p.bind
    # The branches use different operands, or none, so that their tangents and residuals differ.
    functions = {
        "product": lambda x, y: [mul(x, y), y],
        "square": lambda x, y: [mul(x, x), mul(x, x)],
        "sum": lambda x, y: [add(mul(x, y), y), x],
        "ones": lambda x, y: [full(x.shape, 1, x.dtype), mul(y, y)],
    }
    names = draw(st.lists(st.sampled_from(sorted(functions)), min_size=1, max_size=3))
    branches = tuple(trace_to_jaxpr(functions[n], [type_of(x), type_of(y)], name=n) for n in names)
    return [np.int32(draw(st.integers(-1, 3))), x, y], {"branches": branches}


@strategy("custom_linear_solve")
def _custom_linear_solve(draw: Draw, within: Sequence[np.dtype]) -> Any:
    # Not in 16 bits: a solve and its derivative round several times, but the laws allow for one rounding.
    b = fill(draw(seeds), draw(wide_floats(within, INEXACT)), draw(shapes(min_dims=1)))
    d = fill(draw(seeds), b.dtype, b.shape, NONZERO)
    mul, div, rev = mul_p.bind, div_p.bind, rev_p.bind
    # A = P·diag(d), where P reverses the order.
    functions = {
        "matvec": lambda d, v: [rev(mul(d, v), dimensions=(0,))],
        "vecmat": lambda d, v: [mul(d, rev(v, dimensions=(0,)))],
        "solve": lambda d, b: [div(rev(b, dimensions=(0,)), d)],
        "transpose_solve": lambda d, b: [rev(div(b, d), dimensions=(0,))],
    }
    return [d, b], {name: trace_to_jaxpr(f, [type_of(d), type_of(b)], name=name) for name, f in functions.items()}


@strategy("custom_root")
def _custom_root(draw: Draw, within: Sequence[np.dtype]) -> Any:
    square = fill(draw(seeds), draw(allowed(INEXACT, within)), draw(shapes()), POSITIVE)
    mul, sub, div, sqrt = (p.bind for p in (mul_p, sub_p, div_p, sqrt_p))
    aval = type_of(square)
    return [square, fill(draw(seeds), square.dtype, square.shape)], {
        "f": trace_to_jaxpr(lambda s, x: [sub(mul(x, x), s)], [aval, aval], name="f"),
        "solve": trace_to_jaxpr(lambda s, guess: [sqrt(s)], [aval, aval], name="solve"),
        "tangent_solve": trace_to_jaxpr(
            lambda s, x, y: [div(y, add_p.bind(x, x))], [aval, aval, aval], name="tangent_solve"
        ),
    }


# ---------------------------------------------------------------- callbacks


def _callback_calls(name: str, params: Callable[[Draw], dict[str, Any]], kinds: Sequence[str]) -> None:
    """Declare calls of a callback with one operand; callbacks with results have no derivative, so operands are ints."""

    @strategy(name)
    def call(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = operand(draw, within, kinds)
        given = params(draw)
        if kinds is BITS:
            given["result_avals"] = (type_of(x),)
        return [x], given | {"callback": HostFunction(np.array, ((x,), {}), x, name)}


_callback_calls(
    "pure_callback", lambda draw: {"vmap_method": draw(st.sampled_from(VMAP_METHODS)), "sharding": None}, BITS
)
_callback_calls("io_callback", lambda draw: {"ordered": False, "sharding": None}, BITS)
_callback_calls("debug_callback", lambda draw: {"ordered": draw(st.booleans())}, ANY)
_callback_calls("debug_print", lambda draw: {"ordered": draw(st.booleans()), "fmt": ""}, ANY)


# ---------------------------------------------------------------- functions with custom rules


def _products(x: Any, y: Any) -> list[Any]:
    """x² and x·y + y, which the functions with custom rules compute."""
    mul, add = mul_p.bind, add_p.bind
    return [mul(x, x), add(mul(x, y), y)]


def _products_jaxpr(draw: Draw, within: Sequence[np.dtype], kinds: Sequence[str]) -> tuple[list[Any], ClosedJaxpr]:
    x = operand(draw, within, kinds)
    y = fill(draw(seeds), x.dtype, x.shape)
    return [x, y], trace_to_jaxpr(_products, [type_of(x), type_of(y)], name="products")


@strategy("custom_jvp_call")
def _custom_jvp_call(draw: Draw, within: Sequence[np.dtype]) -> Any:
    mul, add = mul_p.bind, add_p.bind

    def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        (x, y), (dx, dy) = primals, tangents
        return _products(x, y), [mul(add(x, x), dx), add(add(mul(y, dx), mul(x, dy)), dy)]

    args, call_jaxpr = _products_jaxpr(draw, within, INEXACT)
    return args, {
        "name": "products",
        "call_jaxpr": call_jaxpr,
        "jvp": jvp,
        "num_consts": 0,
        "symbolic_zeros": False,
    }


@strategy("custom_vjp_call")
def _custom_vjp_call(draw: Draw, within: Sequence[np.dtype]) -> Any:
    mul, add = mul_p.bind, add_p.bind

    def fwd(primals: Sequence[Any], perturbed: Sequence[bool]) -> tuple[list[Any], list[Any], None]:
        return _products(*primals), list(primals), None

    def bwd(structure: None, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        (x, y), (of_square, of_product) = residuals, cts
        return [add(mul(add(x, x), of_square), mul(y, of_product)), add(mul(x, of_product), of_product)]

    args, call_jaxpr = _products_jaxpr(draw, within, INEXACT)
    return args, {
        "name": "products",
        "call_jaxpr": call_jaxpr,
        "fwd": fwd,
        "bwd": bwd,
        "num_consts": 0,
        "symbolic_zeros": False,
    }


@strategy("custom_vmap_call")
def _custom_vmap_call(draw: Draw, within: Sequence[np.dtype]) -> Any:
    def rule(size: int, batched: Sequence[bool], args: Sequence[Any]) -> tuple[list[Any], list[bool]]:
        full = [x if b else broadcast_in_batch(x, size, 0) for x, b in zip(args, batched, strict=True)]
        return _products(*full), [True, True]

    args, call = _products_jaxpr(draw, within, NUMBER)
    return args, {"call": call, "rule": rule, "name": "products"}


@strategy("linear_call")
def _linear_call(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = operand(draw, within, INEXACT)
    r = fill(draw(seeds), x.dtype, x.shape, NONZERO)
    quotient = trace_to_jaxpr(lambda r, x: [div_p.bind(x, r)], [type_of(r), type_of(x)], name="quotient")
    return [r, x], {
        "callee": quotient,
        "transpose_thunk": lambda: (quotient, []),
        "num_callee_consts": 0,
        "num_res": 1,
    }


@strategy("check")
def _check(draw: Draw, within: Sequence[np.dtype]) -> Any:
    # Debug checks only: a check that raises is not a function of its operands.
    leaves, structure = tree.flatten(init_error)
    return leaves, {"structure": structure, "debug": True}
