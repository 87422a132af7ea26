"""One hypothesis strategy per primitive: valid calls, with operands where derivatives are well defined.

`CALLS` is the one table, primitive name → function of the dtypes allowed → strategy. A primitive of your own
joins by `CALLS["name"] = …`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from funcgrad import dtypes as dt
from funcgrad import tree
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.core.primitives import Primitive, registry
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.ops.indexing import GatherDimensionNumbers, GatherScatterMode
from funcgrad.ops.scatters import ScatterDimensionNumbers
from funcgrad.ops.shapes import broadcast_in_batch, full
from funcgrad.testing.strategies import (
    ABOVE_ONE,
    KINDS,
    NONZERO,
    POSITIVE,
    REAL,
    UNIT,
    Domain,
    dtypes,
    fill,
    kind_of,
    seeds,
    shapes,
)
from funcgrad.transforms.callbacks import VMAP_METHODS, HostFunction
from funcgrad.transforms.checkify.error import init_error
from funcgrad.transforms.vmap import vmap


def _aval(x: np.ndarray) -> ShapedArray:
    return ShapedArray(x.shape, x.dtype)  # as it is, whether 64-bit types are enabled now or not


class Call(NamedTuple):
    """A primitive with NumPy operands and params that it accepts."""

    primitive: Primitive
    args: tuple[np.ndarray, ...]
    params: dict[str, Any]

    def __repr__(self) -> str:
        operands = ", ".join(f"{_aval(x).short()} {x.tolist()}" for x in self.args)
        return f"{self.primitive}[{', '.join(f'{k}={v}' for k, v in self.params.items())}]({operands})"


Draw = Callable[[st.SearchStrategy[Any]], Any]
Strategy = Callable[[Sequence[np.dtype]], st.SearchStrategy[Call]]
CALLS: dict[str, Strategy] = {}

WITHOUT_LAWS = {
    "check_finite": "the compiler puts it into programs, below every transform",
    "custom_lin": "it stands for something linear that has no value and is only ever transposed",
    "ref_get": "bound to a Ref, which transforms never see; see transforms.refs",
    "ref_set": "bound to a Ref, which transforms never see; see transforms.refs",
}
"""Primitives that have no calls to keep laws, and why."""

DOUBLE = (dt.float64, dt.complex128)
"""The dtypes in which finite differences are taken."""


def allowed(kinds: Sequence[str], within: Sequence[np.dtype]) -> st.SearchStrategy[np.dtype]:
    """Return a strategy for the dtypes of `within` of these kinds; for all of these kinds where there is none."""
    return dtypes(kinds, within if any(kind_of(d) in kinds for d in within) else dt.ALL)


def calls_of(primitive: Primitive | str, within: Sequence[np.dtype] = dt.ALL) -> st.SearchStrategy[Call]:
    """Return a strategy for calls of one primitive with dtypes of `within`, where it takes any of them."""
    name = primitive if isinstance(primitive, str) else primitive.name
    if name not in CALLS:
        raise KeyError(f"primitive {name!r} has no strategy: add one to funcgrad.testing.calls.CALLS")
    return CALLS[name](within)


def calls(within: Sequence[np.dtype] = dt.ALL) -> st.SearchStrategy[Call]:
    """Return a strategy for calls of any registered primitive."""
    return st.sampled_from(sorted(registry.keys() - WITHOUT_LAWS)).flatmap(lambda name: calls_of(name, within))


def strategy(name: str) -> Callable[[Callable[..., tuple[Sequence[Any], dict[str, Any]]]], Any]:
    """Put a function (draw, within) → (args, params) into the table; further names may follow as its arguments."""

    def declare(function: Callable[..., tuple[Sequence[Any], dict[str, Any]]]) -> Any:
        @st.composite
        def composite(draw: Draw, within: Sequence[np.dtype]) -> Call:
            args, params = function(draw, within)
            return Call(registry[name], tuple(map(np.asarray, args)), params)

        CALLS[name] = composite
        return function

    return declare


# ---------------------------------------------------------------- elementwise


def elementwise_calls(
    name: str,
    kinds: Sequence[str],
    *domains: Domain,
    params: Callable[[Draw, np.dtype], dict[str, Any]] | None = None,
) -> None:
    """Declare calls of an elementwise primitive with one operand per domain; some operands are scalars."""

    def operands(draw: Draw, within: Sequence[np.dtype]) -> tuple[list[Any], dict[str, Any]]:
        dtype, shape, seed = draw(allowed(kinds, within)), draw(shapes()), draw(seeds)
        scalar = draw(st.sampled_from(range(len(domains) + 1))) - 1 if len(domains) > 1 else -1
        args = [fill(seed + i, dtype, () if i == scalar else shape, d) for i, d in enumerate(domains)]
        return args, params(draw, dtype) if params else {}

    strategy(name)(operands)


ANY, BITS, INEXACT, NUMBER = KINDS, ("bool", "int"), ("float", "complex"), ("int", "float", "complex")
REALS, ORDERED = ("int", "float"), ("bool", "int", "float")
SMALL = Domain(0, 1.2, signed=True)
FRACTION = Domain(0.1, 0.4, signed=True)

for _names, _kinds, _domains in (
    ("neg square", NUMBER, (REAL,)),
    ("abs sign", NUMBER, (NONZERO,)),
    ("add sub mul", NUMBER, (REAL, REAL)),
    ("add_any", ANY, (REAL, REAL)),
    ("div", NUMBER, (REAL, NONZERO)),
    ("rem", REALS, (REAL, NONZERO)),
    ("max min", ANY, (REAL, REAL)),
    ("eq ne", ANY, (Domain(0, 1, True), Domain(0, 1, True))),
    ("lt le gt ge", ORDERED, (Domain(0, 2, True), Domain(0, 2, True))),
    ("and or xor", BITS, (Domain(0, 100, True), Domain(0, 100, True))),
    ("not", BITS, (Domain(0, 100, True),)),
    ("population_count clz", ("int",), (Domain(0, 100, True),)),
    (
        "shift_left shift_right_logical shift_right_arithmetic",
        ("int",),
        (Domain(0, 100, True), Domain(0, 70, True)),
    ),
    ("floor ceil is_finite", ("float",), (REAL,)),
    ("nextafter", ("float",), (REAL, REAL)),
    ("exp exp2 expm1 sin cos sinh cosh tanh logistic asinh", INEXACT, (SMALL,)),
    ("log sqrt rsqrt", INEXACT, (POSITIVE,)),
    ("log1p", INEXACT, (UNIT,)),
    ("cbrt", ("float",), (NONZERO,)),
    ("tan atan", INEXACT, (FRACTION,)),
    ("asin acos atanh", INEXACT, (UNIT,)),
    ("acosh", INEXACT, (ABOVE_ONE,)),
    ("logaddexp", ("float",), (REAL, REAL)),
    ("gcd", ("int",), (Domain(0, 40, True), Domain(0, 40, True))),
    ("atan2", ("float",), (NONZERO, NONZERO)),
    ("erf erfc", ("float",), (SMALL,)),
    ("erf_inv", ("float",), (UNIT,)),
    ("lgamma digamma bessel_i0e bessel_i1e", ("float",), (POSITIVE,)),
    ("igamma igammac", ("float",), (POSITIVE, POSITIVE)),
    ("igamma_grad_a random_gamma_grad", ("float",), (POSITIVE, POSITIVE)),
    ("zeta", ("float",), (ABOVE_ONE, POSITIVE)),
    ("polygamma", ("float",), (Domain(1, 1), POSITIVE)),
    ("regularized_incomplete_beta", ("float",), (POSITIVE, POSITIVE, Domain(0.2, 0.8))),
    ("real imag", ("complex",), (REAL,)),
    ("stop_gradient copy", ANY, (REAL,)),
):
    for _name in _names.split():
        elementwise_calls(_name, _kinds, *_domains)

elementwise_calls("round", ("float",), REAL, params=lambda draw, d: {"rounding_method": draw(st.integers(0, 1))})
elementwise_calls("reduce_precision", ("float",), REAL,
                  params=lambda draw, d: {"exponent_bits": 5, "mantissa_bits": draw(st.integers(2, 10))})  # fmt: skip


def _exponent(draw: Draw, dtype: np.dtype) -> dict[str, Any]:
    return {"y": draw(st.integers(0 if dt.is_integer(dtype) else -3, 4))}


elementwise_calls("integer_pow", NUMBER, NONZERO, params=_exponent)


@strategy("pow")
def _pow(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(allowed(INEXACT, within)), draw(shapes()), draw(seeds)
    exponent = draw(st.sampled_from([dtype, dt.int32]))
    base_shape, exponent_shape = draw(st.sampled_from([(shape, shape), ((), shape), (shape, ())]))
    return [fill(seed, dtype, base_shape, POSITIVE), fill(seed + 1, exponent, exponent_shape, SMALL)], {}


def _wide_floats(within: Sequence[np.dtype], kinds: Sequence[str] = ("float",)) -> st.SearchStrategy[np.dtype]:
    """Those that have a complex type of their precision."""
    return allowed(kinds, [d for d in within if d.itemsize >= 4])


@strategy("complex")
def _complex(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(_wide_floats(within)), draw(shapes()), draw(seeds)
    return [fill(seed, dtype, shape), fill(seed + 1, dtype, draw(st.sampled_from([shape, ()])))], {}


@strategy("conj")
def _conj(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype = draw(_wide_floats(within, INEXACT))
    return [fill(draw(seeds), dtype, draw(shapes()))], {"input_dtype": dtype}


@strategy("clamp")
def _clamp(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(allowed(REALS, within)), draw(shapes()), draw(seeds)
    low, high = draw(st.sampled_from([shape, ()])), draw(st.sampled_from([shape, ()]))
    bounds = fill(seed + 1, dtype, low, Domain(0, 1)), fill(seed + 2, dtype, high, Domain(1, 2))
    return [bounds[0], fill(seed, dtype, shape), bounds[1]], {}


@strategy("select_n")
def _select_n(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, shape, seed = draw(allowed(ANY, within)), draw(shapes()), draw(seeds)
    which, count = draw(st.sampled_from([(dt.bool_, 2), (dt.int32, 1), (dt.int32, 3)]))
    selector = fill(seed, which, draw(st.sampled_from([shape, ()])), Domain(0, count - 1))
    return [selector, *(fill(seed + i, dtype, shape) for i in range(1, count + 1))], {}


@strategy("convert_element_type")
def _convert(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype, new = draw(allowed(ANY, within)), draw(allowed(ANY, within))
    return [fill(draw(seeds), dtype, draw(shapes()))], {"new_dtype": new, "weak_type": False}


@strategy("bitcast_convert_type")
def _bitcast(draw: Draw, within: Sequence[np.dtype]) -> Any:
    dtype = draw(allowed(REALS, within))
    new = draw(st.sampled_from([d for d in dt.ALL if d.itemsize == dtype.itemsize and kind_of(d) in REALS]))
    return [fill(draw(seeds), dtype, draw(shapes()))], {"new_dtype": new}


# ---------------------------------------------------------------- movement


def _operand(draw: Draw, within: Sequence[np.dtype], kinds: Sequence[str] = ANY, **sizes: int) -> np.ndarray:
    return fill(draw(seeds), draw(allowed(kinds, within)), draw(shapes(**sizes)))


def _subset(draw: Draw, items: Iterable[int], min_size: int = 0) -> tuple[int, ...]:
    items = sorted(items)
    if not items:
        return ()
    return tuple(sorted(draw(st.lists(st.sampled_from(items), unique=True, min_size=min_size))))


def _axis(draw: Draw, x: np.ndarray) -> int:
    return draw(st.integers(0, x.ndim - 1))


@strategy("broadcast_in_dim")
def _broadcast(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape = draw(shapes())
    dims = _subset(draw, range(len(shape)))
    stretched = _subset(draw, dims)
    x = fill(draw(seeds), draw(allowed(ANY, within)), [1 if d in stretched else shape[d] for d in dims])
    return [x], {"shape": shape, "broadcast_dimensions": dims}


@strategy("reshape")
def _reshape(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within)
    n = x.size
    shapes_ = [(n,), (1, n), (n, 1), x.shape[::-1], (*x.shape, 1)]
    shapes_ += [(k, n // k) for k in (2, 3, 4) if n and n % k == 0] + ([()] if n == 1 else [])
    return [x], {"new_sizes": draw(st.sampled_from(shapes_)), "dimensions": None}


@strategy("transpose")
def _transpose(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within)
    return [x], {"permutation": tuple(draw(st.permutations(range(x.ndim))))}


@strategy("squeeze")
def _squeeze(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape = draw(shapes(max_dims=2))
    dims = tuple(sorted(draw(st.sets(st.integers(0, len(shape)), max_size=2))))
    for d in dims:
        shape = (*shape[:d], 1, *shape[d:])
    return [fill(draw(seeds), draw(allowed(ANY, within)), shape)], {"dimensions": dims}


@strategy("rev")
def _rev(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within)
    return [x], {"dimensions": _subset(draw, range(x.ndim))}


@strategy("slice")
def _slice(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within)
    bounds = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in x.shape]
    strides = draw(st.none() | st.tuples(*[st.integers(1, 3)] * x.ndim))
    start, limit = tuple(lo for lo, _ in bounds), tuple(hi for _, hi in bounds)
    return [x], {"start_indices": start, "limit_indices": limit, "strides": strides}


@strategy("pad")
def _pad(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within)
    config = []
    for n in x.shape:
        interior = draw(st.integers(0, 2))
        inside = n + max(0, n - 1) * interior
        low = draw(st.integers(-min(2, inside), 2))
        config.append((low, draw(st.integers(max(-2, -inside - low), 2)), interior))
    return [x, fill(draw(seeds), x.dtype, ())], {"padding_config": tuple(config)}


@strategy("concatenate")
def _concatenate(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within, min_dims=1)
    axis, parts = _axis(draw, x), [x]
    for n in draw(st.lists(st.integers(0, 3), max_size=2)):
        parts.append(fill(draw(seeds), x.dtype, (*x.shape[:axis], n, *x.shape[axis + 1 :])))
    return parts, {"dimension": axis}


@strategy("iota")
def _iota(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape = draw(shapes(min_dims=1))
    return [], {
        "dtype": draw(allowed(NUMBER, within)),
        "shape": shape,
        "dimension": draw(st.integers(0, len(shape) - 1)),
    }


@strategy("optimization_barrier")
def _barrier(draw: Draw, within: Sequence[np.dtype]) -> Any:
    return [_operand(draw, within) for _ in range(draw(st.integers(1, 3)))], {}


# ---------------------------------------------------------------- random bits


@strategy("threefry2x32")
def _threefry(draw: Draw, within: Sequence[np.dtype]) -> Any:
    shape, seed = draw(shapes()), draw(seeds)
    given = [draw(st.sampled_from([shape, ()])) for _ in range(4)]
    return [fill(seed + i, dt.uint32, s) for i, s in enumerate(given)], {}


# ---------------------------------------------------------------- reductions, cumulative, sorting


def _declare_reduction(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def reduction(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = _operand(draw, within, kinds)
        return [x], {"axes": _subset(draw, range(x.ndim))}


def _declare_arg_reduction(name: str) -> None:
    @strategy(name)
    def arg_reduction(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = _operand(draw, within, ORDERED, min_dims=1, min_side=1)
        return [x], {
            "axes": (_axis(draw, x),),
            "index_dtype": draw(st.sampled_from([dt.int32, dt.uint8, dt.int64])),
        }


def _declare_cumulative(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def cumulative(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = _operand(draw, within, kinds, min_dims=1)
        return [x], {"axis": _axis(draw, x), "reverse": draw(st.booleans())}


for _name, _kinds in {
    "reduce_sum": NUMBER, "reduce_prod": NUMBER, "reduce_max": ORDERED, "reduce_min": ORDERED,
    "reduce_and": BITS, "reduce_or": BITS, "reduce_xor": BITS,
}.items():  # fmt: skip
    _declare_reduction(_name, _kinds)
for _name in ("argmax", "argmin"):
    _declare_arg_reduction(_name)
for _name, _kinds in {
    "cumsum": NUMBER, "cumprod": NUMBER, "cummax": REALS, "cummin": REALS, "cumlogsumexp": ("float",)
}.items():  # fmt: skip
    _declare_cumulative(_name, _kinds)


@strategy("sort")
def _sort(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within, min_dims=1)
    operands = [x] + [fill(draw(seeds), draw(allowed(ANY, within)), x.shape) for _ in range(draw(st.integers(0, 2)))]
    keys = draw(st.integers(1, len(operands)))
    return operands, {"dimension": _axis(draw, x), "is_stable": True, "num_keys": keys}


@strategy("top_k")
def _top_k(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within, REALS, min_dims=1)
    axis = _axis(draw, x)
    return [x], {"k": draw(st.integers(0, x.shape[axis])), "axis": axis}


# ---------------------------------------------------------------- contraction


@strategy("dot_general")
def _dot_general(draw: Draw, within: Sequence[np.dtype]) -> Any:
    batch, contracted, left, right = (draw(shapes(max_dims=n, max_side=3)) for n in (1, 2, 1, 2))
    dtype = draw(allowed(ANY, within))

    def side(free: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
        sizes = [*batch, *contracted, *free]
        order = draw(st.permutations(range(len(sizes))))
        place = [order.index(i) for i in range(len(sizes))]
        x = fill(draw(seeds), dtype, [sizes[i] for i in order])
        return x, tuple(place[: len(batch)]), tuple(place[len(batch) : len(batch) + len(contracted)])

    (lhs, lhs_batch, lhs_contract), (rhs, rhs_batch, rhs_contract) = side(left), side(right)
    wide = {dt.float32: dt.float64, dt.bfloat16: dt.float32, dt.int8: dt.int32}.get(dtype, dtype)
    return [lhs, rhs], {
        "dimension_numbers": ((lhs_contract, rhs_contract), (lhs_batch, rhs_batch)),
        "preferred_element_type": draw(st.sampled_from([dtype, wide])),
    }


# ---------------------------------------------------------------- higher order


def _polynomials(draw: Draw, within: Sequence[np.dtype]) -> tuple[list[np.ndarray], ClosedJaxpr]:
    """Two operands, and the jaxpr of two polynomials in them."""
    x = _operand(draw, within, NUMBER)
    y = fill(draw(seeds), x.dtype, x.shape)
    mul, add = registry["mul"].bind, registry["add"].bind

    def body(x: Any, y: Any) -> list[Any]:
        return [mul(x, x), add(mul(x, y), y)]

    return [x, y], trace_to_jaxpr(body, [_aval(x), _aval(y)], name="body")


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
    return [_operand(draw, within)], {"name": "value"}


@strategy("scan")
def _scan(draw: Draw, within: Sequence[np.dtype]) -> Any:
    w = fill(draw(seeds), draw(allowed(NUMBER, within)), draw(shapes(max_dims=1)), SMALL)
    length, reverse = draw(st.integers(0, 3)), draw(st.booleans())
    start = np.array(draw(st.integers(0, 2)), np.int32)
    c, x = fill(draw(seeds), w.dtype, w.shape), fill(draw(seeds), w.dtype, (length, *w.shape))
    mul, add = registry["mul"].bind, registry["add"].bind

    def body(w: Any, i: Any, c: Any, x: Any) -> list[Any]:
        return [add(i, np.int32(1)), add(mul(mul(w, w), c), x), mul(c, x), add(i, i)]

    avals = [_aval(w), _aval(start), _aval(c), ShapedArray(w.shape, w.dtype)]
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
    # In a batch, whose second element is the first one reversed, the elements take different numbers of steps.
    steps = np.array(draw(st.permutations([1, 3])), np.int32)
    mul, add = registry["mul"].bind, registry["add"].bind

    def predicate(steps: Any, i: Any, c: Any) -> list[Any]:
        first = registry["slice"].bind(steps, start_indices=(0,), limit_indices=(1,), strides=None)
        return [registry["lt"].bind(i, registry["squeeze"].bind(first, dimensions=(0,)))]

    def body(w: Any, i: Any, c: Any) -> list[Any]:
        return [add(i, np.int32(1)), add(mul(mul(w, c), c), w)]

    carry = [_aval(start), _aval(c)]
    return [steps, w, start, c], {
        "body_jaxpr": trace_to_jaxpr(body, [_aval(w), *carry], name="body"),
        "body_nconsts": 1,
        "cond_jaxpr": trace_to_jaxpr(predicate, [_aval(steps), *carry], name="predicate"),
        "cond_nconsts": 1,
    }


@strategy("cond")
def _cond(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x = _operand(draw, within, NUMBER)
    y = fill(draw(seeds), x.dtype, x.shape)
    mul, add = registry["mul"].bind, registry["add"].bind
    # Of different operands and of none, so that the branches' tangents and residuals differ.
    functions = {
        "product": lambda x, y: [mul(x, y), y],
        "square": lambda x, y: [mul(x, x), mul(x, x)],
        "sum": lambda x, y: [add(mul(x, y), y), x],
        "ones": lambda x, y: [full(x.shape, 1, x.dtype), mul(y, y)],
    }
    names = draw(st.lists(st.sampled_from(sorted(functions)), min_size=1, max_size=3))
    branches = tuple(trace_to_jaxpr(functions[n], [_aval(x), _aval(y)], name=n) for n in names)
    return [np.int32(draw(st.integers(-1, 3))), x, y], {"branches": branches}


@strategy("custom_linear_solve")
def _custom_linear_solve(draw: Draw, within: Sequence[np.dtype]) -> Any:
    # Not in 16 bits: a solve and its derivative round several times, the laws allow for one operation.
    b = fill(draw(seeds), draw(_wide_floats(within, INEXACT)), draw(shapes(min_dims=1)))
    d = fill(draw(seeds), b.dtype, b.shape, NONZERO)
    mul, div, rev = registry["mul"].bind, registry["div"].bind, registry["rev"].bind
    # A = P·diag(d), where P reverses.
    functions = {
        "matvec": lambda d, v: [rev(mul(d, v), dimensions=(0,))],
        "vecmat": lambda d, v: [mul(d, rev(v, dimensions=(0,)))],
        "solve": lambda d, b: [div(rev(b, dimensions=(0,)), d)],
        "transpose_solve": lambda d, b: [rev(div(b, d), dimensions=(0,))],
    }
    return [d, b], {name: trace_to_jaxpr(f, [_aval(d), _aval(b)], name=name) for name, f in functions.items()}


@strategy("custom_root")
def _custom_root(draw: Draw, within: Sequence[np.dtype]) -> Any:
    square = fill(draw(seeds), draw(allowed(INEXACT, within)), draw(shapes()), POSITIVE)
    mul, sub, div, sqrt = (registry[n].bind for n in ("mul", "sub", "div", "sqrt"))
    aval = _aval(square)
    return [square, fill(draw(seeds), square.dtype, square.shape)], {
        "f": trace_to_jaxpr(lambda s, x: [sub(mul(x, x), s)], [aval, aval], name="f"),
        "solve": trace_to_jaxpr(lambda s, guess: [sqrt(s)], [aval, aval], name="solve"),
        "tangent_solve": trace_to_jaxpr(
            lambda s, x, y: [div(y, registry["add"].bind(x, x))], [aval, aval, aval], name="tangent_solve"
        ),
    }


# ---------------------------------------------------------------- callbacks


def _callback_calls(name: str, params: Callable[[Draw], dict[str, Any]], kinds: Sequence[str]) -> None:
    """Declare calls of a function of one operand; one that returns something has no derivative, so integers."""

    @strategy(name)
    def call(draw: Draw, within: Sequence[np.dtype]) -> Any:
        x = _operand(draw, within, kinds)
        given = params(draw)
        if kinds is BITS:
            given["result_avals"] = (_aval(x),)
        return [x], given | {"callback": HostFunction(np.array, ((x,), {}), x, name)}


_callback_calls(
    "pure_callback", lambda draw: {"vmap_method": draw(st.sampled_from(VMAP_METHODS)), "sharding": None}, BITS
)
_callback_calls("io_callback", lambda draw: {"ordered": False, "sharding": None}, BITS)
_callback_calls("debug_callback", lambda draw: {"ordered": draw(st.booleans())}, ANY)
_callback_calls("debug_print", lambda draw: {"ordered": draw(st.booleans()), "fmt": ""}, ANY)


# ---------------------------------------------------------------- indexing


class _Windows(NamedTuple):
    """An operand's shape, index vectors into it, and which dimensions they and their windows stand for."""

    shape: tuple[int, ...]
    indices: np.ndarray
    numbers: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of what a gather returns: batch and window dimensions, interleaved."""
        offset, collapsed, _, batching, _ = self.numbers
        window = iter([n for d, n in enumerate(self.sizes) if d not in collapsed + batching])
        batch = iter(self.indices.shape[:-1])
        rank = self.indices.ndim - 1 + len(offset)
        return tuple(next(window) if d in offset else next(batch) for d in range(rank))


def _windows(draw: Draw, unique: bool = False) -> _Windows:
    """Windows anywhere in and around an operand; `unique`: of single elements, no two in the same place."""
    shape = draw(shapes(min_dims=1, min_side=1))
    rank = len(shape)
    batching = _subset(draw, [0]) if rank > 1 and not unique else ()
    free = [d for d in range(rank) if d not in batching]
    mapped = tuple(draw(st.permutations(_subset(draw, free, min_size=1))))
    sizes = tuple(
        1 if d in batching or (unique and d in mapped) else draw(st.integers(1, n)) for d, n in enumerate(shape)
    )
    collapsed = _subset(draw, [d for d in free if sizes[d] == 1])
    lead = draw(shapes(max_dims=2, max_side=3))
    batch = (*(shape[d] for d in batching), *lead)
    if unique:
        places = list(np.ndindex(*(shape[d] for d in mapped)))
        count = draw(st.integers(0, len(places)))
        indices = np.array(draw(st.permutations(places))[:count], np.int32).reshape(count, len(mapped))
    else:
        outside = draw(st.booleans())
        top = [shape[d] - sizes[d] + (2 if outside else 0) for d in mapped]
        rng = np.random.default_rng(draw(seeds))
        lowest = -1 if outside else 0
        indices = rng.integers(lowest, np.array(top, int) + 1, (*batch, len(mapped))).astype(np.int32)
    offsets = rank - len(collapsed) - len(batching)
    result_rank = indices.ndim - 1 + offsets
    offset = tuple(sorted(draw(st.permutations(range(result_rank)))[:offsets]))
    return _Windows(shape, indices, (offset, collapsed, mapped, batching, tuple(range(len(batching)))), sizes)


def _mode(draw: Draw) -> GatherScatterMode:
    modes = GatherScatterMode.CLIP, GatherScatterMode.FILL_OR_DROP, GatherScatterMode.PROMISE_IN_BOUNDS
    return draw(st.sampled_from(modes))


@strategy("gather")
def _gather(draw: Draw, within: Sequence[np.dtype]) -> Any:
    windows, mode = _windows(draw), _mode(draw)
    operand = fill(draw(seeds), draw(allowed(ANY, within)), windows.shape)
    return [operand, windows.indices], {
        "dimension_numbers": GatherDimensionNumbers(*windows.numbers),
        "fill_value": 1 if mode is GatherScatterMode.FILL_OR_DROP else None,
        "indices_are_sorted": False,
        "mode": mode,
        "slice_sizes": windows.sizes,
        "unique_indices": False,
    }


def _declare_scatter(name: str, kinds: Sequence[str]) -> None:
    @strategy(name)
    def scatter(draw: Draw, within: Sequence[np.dtype]) -> Any:
        # A product has no derivative by its factors where indices repeat.
        unique = name == "scatter-mul" or draw(st.booleans())
        windows = _windows(draw, unique)
        dtype, seed = draw(allowed(kinds, within)), draw(seeds)
        operand, updates = fill(seed, dtype, windows.shape), fill(seed + 1, dtype, windows.result)
        return [operand, windows.indices, updates], {
            "dimension_numbers": ScatterDimensionNumbers(*windows.numbers),
            "indices_are_sorted": False,
            "mode": GatherScatterMode.FILL_OR_DROP if unique else _mode(draw),
            "unique_indices": unique,
        }


for _name, _kinds in {
    "scatter": ANY, "scatter-add": NUMBER, "scatter-sub": NUMBER, "scatter-mul": NUMBER,
    "scatter-min": REALS, "scatter-max": REALS,
}.items():  # fmt: skip
    _declare_scatter(_name, _kinds)


def _slice_within(draw: Draw, within: Sequence[np.dtype]) -> tuple[np.ndarray, tuple[int, ...], list[np.int32]]:
    """An operand, sizes of a slice of it, and starts inside and outside."""
    x = _operand(draw, within)
    sizes = tuple(draw(st.integers(0, n)) for n in x.shape)
    starts = [np.int32(draw(st.integers(-1, n + 1))) for n in x.shape]
    return x, sizes, starts


@strategy("dynamic_slice")
def _dynamic_slice(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x, sizes, starts = _slice_within(draw, within)
    return [x, *starts], {"slice_sizes": sizes}


@strategy("dynamic_update_slice")
def _dynamic_update_slice(draw: Draw, within: Sequence[np.dtype]) -> Any:
    x, sizes, starts = _slice_within(draw, within)
    return [x, fill(draw(seeds), x.dtype, sizes), *starts], {}


# ---------------------------------------------------------------- functions with rules of their own


def _products(x: Any, y: Any) -> list[Any]:
    """x² and x·y + y: what the custom functions here compute."""
    mul, add = registry["mul"].bind, registry["add"].bind
    return [mul(x, x), add(mul(x, y), y)]


def _products_jaxpr(draw: Draw, within: Sequence[np.dtype], kinds: Sequence[str]) -> tuple[list[Any], ClosedJaxpr]:
    x = _operand(draw, within, kinds)
    y = fill(draw(seeds), x.dtype, x.shape)
    return [x, y], trace_to_jaxpr(_products, [_aval(x), _aval(y)], name="products")


@strategy("custom_jvp_call")
def _custom_jvp_call(draw: Draw, within: Sequence[np.dtype]) -> Any:
    mul, add = registry["mul"].bind, registry["add"].bind

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
    mul, add = registry["mul"].bind, registry["add"].bind

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
    x = _operand(draw, within, INEXACT)
    r = fill(draw(seeds), x.dtype, x.shape, NONZERO)
    quotient = trace_to_jaxpr(lambda r, x: [registry["div"].bind(x, r)], [_aval(r), _aval(x)], name="quotient")
    return [r, x], {
        "callee": quotient,
        "transpose_thunk": lambda: (quotient, []),
        "num_callee_consts": 0,
        "num_res": 1,
    }


@strategy("check")
def _check(draw: Draw, within: Sequence[np.dtype]) -> Any:
    # As debug_check: one that raises is not a function of its operands.
    leaves, structure = tree.flatten(init_error)
    return leaves, {"structure": structure, "debug": True}


# ---------------------------------------------------------------- collectives


class OverAxis(Primitive):
    """A collective within the vmap of its axis, as a function of all rows: alone it has no value."""

    def __init__(self, collective: Primitive, size: int):
        self.name, self.collective, self.size = collective.name, collective, size
        self.multiple_results, self.higher_order = False, True

    def bind(self, *args: Any, **params: Any) -> Any:
        """Apply the collective in each of `size` elements."""

        def element(*values: Any) -> Any:
            return self.collective.bind(*values, **params)

        return vmap(element, axis_name="i", axis_size=self.size)(*args)

    def infer(self, *avals: ShapedArray, **params: Any) -> ShapedArray:
        """Return the type of the rows of all results."""
        return trace_to_jaxpr(lambda *rows: [self.bind(*rows, **params)], avals).out_avals[0]


def _groups(draw: Draw, size: int) -> tuple[tuple[int, ...], ...] | None:
    """A partition of the indices of an axis in groups of one size, or none."""
    step = draw(st.sampled_from([0, *(n for n in range(1, size + 1) if size % n == 0)]))
    order = draw(st.permutations(range(size)))
    return tuple(tuple(order[i : i + step]) for i in range(0, size, step)) if step else None


def _declare_collective(name: str, kinds: Sequence[str], leading: bool = False) -> None:
    @st.composite
    def composite(draw: Draw, within: Sequence[np.dtype]) -> Call:
        size, dtype = draw(st.sampled_from([4, 3, 1, 6])), draw(allowed(kinds, within))
        groups = _groups(draw, size)
        taken = size if groups is None else len(groups[0])
        shape = (size, *((taken,) if leading else ()), *draw(shapes(max_dims=2, max_side=3)))
        params = {"axis_name": "i", "axis_size": taken, "axis_index_groups": groups}
        if name in ("psum", "pmax", "pmin"):
            params = {"axes": ("i",), "axis_index_groups": groups}
        if name == "ppermute":
            sent = draw(st.integers(0, size))
            pairs = zip(draw(st.permutations(range(size)))[:sent], draw(st.permutations(range(size))), strict=False)
            params = {"axis_name": "i", "axis_size": size, "perm": tuple(pairs)}
        return Call(OverAxis(registry[name], size), (fill(draw(seeds), dtype, shape),), params)

    CALLS[name] = composite


for _name, _kinds in {
    "psum": NUMBER, "pmax": ORDERED, "pmin": ORDERED, "all_gather": ANY, "ppermute": ANY,
}.items():  # fmt: skip
    _declare_collective(_name, _kinds)
for _name in ("reduce_scatter", "all_to_all"):
    _declare_collective(_name, NUMBER, leading=True)


@st.composite
def _axis_index(draw: Draw, within: Sequence[np.dtype]) -> Call:
    return Call(OverAxis(registry["axis_index"], draw(st.integers(1, 5))), (), {"axis_name": "i"})


CALLS["axis_index"] = _axis_index
