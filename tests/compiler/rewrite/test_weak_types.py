"""Results have the types of the traced jaxpr and of JAX, including weak types, compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, tree
from funcgrad.compiler.rewrite import windows
from funcgrad.compiler.rewrite.rules import RULES
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.core.array_types import aval_of
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import reshape_p
from funcgrad.testing import check_jit

ONE, ZERO = np.float32(1), np.float32(0)
ROW = np.arange(3, dtype=np.float32)


def avals(results: Any) -> list[Any]:
    return [aval_of(x) for x in tree.leaves(results)]


# Programs whose equations are replaced by what differs from them in weak type.
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "cast": (lambda n: jnp.asarray(n).astype(np.int32), (100,)),
    "sum": (jnp.sum, (3,)),
    "prod": (jnp.prod, (3,)),
    "max": (jnp.max, (3,)),
    "mean": (jnp.mean, (3.0,)),
    "cumsum": (jnp.cumsum, (3.0,)),
    "strong branch": (lambda x: jnp.where(True, x, ONE), (2.0,)),
    "strong branch, not taken": (lambda x: jnp.where(False, ONE, x), (2.0,)),
    "strong factor": (lambda x: x * ONE, (2.0,)),
    "strong term": (lambda x: x - ZERO, (2.0,)),
    "strong divisor": (lambda x: x / ONE, (2.0,)),
    "constant": (lambda x: ONE * 3.0, (2.0,)),
    "weak constant": (lambda x: jnp.asarray(3.0), (2.0,)),
    "repeated constant": (lambda x: (jnp.full((2,), 3.0), jnp.full((2,), ONE)), (2.0,)),
    "stop_gradient": (lax.stop_gradient, (2.0,)),
    "two inputs": (lambda x, y: (y, x, x), (2.0, ONE)),
    "two results": (lambda x: (jnp.sin(x * 1.0), jnp.sin(x * ONE)), (2.0,)),
    "two casts": (lambda n: (jnp.float32(n), jnp.asarray(n) * 1.0), (3,)),
    "idle scan": (lambda x: lax.scan(lambda c, _: (c, c * ONE), x, None, length=3), (2.0,)),
    "idle fori_loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: c, x), (2.0,)),
    "idle while_loop": (lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1]), (0, x)), (2.0,)),
    "known branch": (lambda x: lax.cond(True, lambda x: x, lambda x: x * ONE, x), (2.0,)),
    "known strong branch": (lambda x: lax.cond(False, lambda x: x, lambda x: x * ONE, x), (2.0,)),
    "dot": (jnp.dot, (2.0, 3.0)),
    "einsum": (lambda x, y: jnp.einsum(",", x, y), (2.0, 3.0)),
    "strong gradient": (fg.grad(lambda x: x * ONE), (2.0,)),
    "gradient of a strong type": (fg.grad(lambda x: x * 2.0), (ONE,)),
    "value and gradient": (fg.value_and_grad(lambda x: jnp.sum(x * ROW)), (2.0,)),
    "jvp": (lambda x: fg.jvp(lambda y: y * ONE, (x,), (x,)), (2.0,)),
    "vjp": (lambda x: fg.vjp(lambda y: y * ONE, x)[1](ONE), (2.0,)),
    "linearize": (lambda x: fg.linearize(lambda y: y * ONE, x)[1](x), (2.0,)),
    "vmap": (lambda x: fg.vmap(lambda r: (x * 1, r * 1, x * r))(ROW), (2.0,)),
}


# How a program can be part of another.
PLACES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "alone": lambda f: f,
    "jit": fg.jit,
    "checkpoint": fg.checkpoint,
    "cond": lambda f: lambda *xs: lax.cond(jnp.asarray(xs[0]) > 0, f, f, *xs),
    "scan": lambda f: lambda *xs: lax.scan(lambda c, _: (c, f(*xs)), 0, None, length=2),
    "unrolled scan": lambda f: lambda *xs: lax.scan(lambda c, _: (c, f(*xs)), 0, None, length=2, unroll=2),
    "custom_jvp": lambda f: _with_custom_jvp(f),
    "vmap": lambda f: lambda *xs: fg.vmap(f, in_axes=None, axis_size=2)(*xs),
}


def _with_custom_jvp(f: Callable[..., Any]) -> Callable[..., Any]:
    g = fg.custom_jvp(lambda *xs: f(*xs))
    g.defjvp(lambda primals, tangents: (f(*primals), f(*primals)))
    return g


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_results_have_the_traced_types(name: str, place: str) -> None:
    function, args = PROGRAMS[name]
    placed = PLACES[place](function)
    traced = fg.make_jaxpr(placed)(*args).out_avals
    assert avals(fg.jit(placed)(*args)) == traced
    assert avals(fg.eval_shape(placed, *args)) == traced
    check_jit(placed, args)


@pytest.mark.parametrize("name", PROGRAMS)
def test_later_computations_have_the_same_type(name: str) -> None:
    """A weak type that is lost or gained changes the dtype of the next result, and wraps integers."""
    function, args = PROGRAMS[name]

    def after(results: Any) -> Any:
        numbers = {"i": np.array([100], np.int8), "f": np.array([2], np.float16)}
        return [x * numbers[aval_of(x).dtype.kind] for x in tree.leaves(results)]

    assert avals(after(fg.jit(function)(*args))) == avals(after(function(*args)))


def test_a_cast_integer_does_not_wrap() -> None:
    n = fg.jit(lambda n: jnp.asarray(n).astype(np.int32))(100)
    assert (n * np.array([100], np.int8)).tolist() == [10000]


# One program for each rule of `simplify`; the rule is applied in it, with a change of weak type where it can make one.
OF_RULES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "take_part": (lambda x: lax.real(lax.complex(x, ROW)), (jnp.full((3,), 2.0),)),
    "join_parts": (lambda z: lax.complex(lax.real(z), lax.imag(z)) * 1, (2j,)),
    "slice_one_part": (lambda x: jnp.concatenate([ROW, x])[4:6], (jnp.full((3,), 2.0),)),
    "drop_identity": PROGRAMS["cast"],
    "drop_unit_factor": PROGRAMS["strong factor"],
    "square": (lambda x: lax.pow(x, 2.0), (3.0,)),
    "accumulate_into_operand": (fg.grad(lambda x, i: jnp.sum(x[i] * x)), (jnp.full((3,), 2.0), np.array([1, 1, 0]))),
    "select_in_window": (lambda p, x, i: jnp.where(p, x, x.at[i].set(1.0)), (True, jnp.full((3,), 2.0), 1)),
    "drop_equal_cases": (lambda p, x: lax.select(p, x, x), (True, 2.0)),
    "drop_zero_term": PROGRAMS["strong term"],
    "cancel_negations": (lambda x: lax.neg(lax.neg(x)), (2.0,)),
    "drop_unit_fold": (lambda x: jnp.sum(x, axis=0), (jnp.full((1, 2), 3.0),)),
    "drop_trivial_movement": (lambda x: reshape_p.bind(x, new_sizes=(), dimensions=None), (2.0,)),
    "fold_constants": (lambda x: lax.sin(jnp.asarray(3.0)), (2.0,)),
    "select_known": PROGRAMS["strong branch"],
    "replace_whole_window": (lambda x: lax.dynamic_update_slice(ROW, x, (0,)), (jnp.full((3,), 2.0),)),
}


@pytest.mark.parametrize("rule", [*RULES, *windows.RULES], ids=lambda rule: rule.__name__)
def test_every_rule_of_simplify_keeps_types(rule: Callable[..., Any]) -> None:
    applied = []

    def counted(*args: Any) -> Any:
        found = rule(*args)
        applied.append(found is not None)
        return found

    function, args = OF_RULES[rule.__name__]
    simplify(fg.make_jaxpr(function)(*args), [counted])
    assert any(applied)
    check_jit(function, args)


# ---------------------------------------------------------------- as JAX's

# Functions of (the library, its numpy, a weakly typed vector, a weakly typed matrix), and which results are weak.
AS_JAXS: dict[str, tuple[Callable[..., Any], list[bool]]] = {
    "jacobian": (lambda J, n, v, m: J.jacobian(lambda x: x * 2.0)(1.0), [True]),
    "jacfwd": (lambda J, n, v, m: J.jacfwd(lambda x: x * 2.0)(v), [True]),
    "jacrev": (lambda J, n, v, m: J.jacrev(lambda x: x * 2.0)(v), [True]),
    "jacfwd of strong results": (lambda J, n, v, m: J.jacfwd(lambda x: x * ROW)(1.0), [False]),
    "jacrev of strong results": (lambda J, n, v, m: J.jacrev(lambda x: x * ROW)(1.0), [True]),
    "hessian": (lambda J, n, v, m: J.hessian(lambda x: x * x * x)(1.0), [True]),
    "grad": (lambda J, n, v, m: J.grad(n.sin)(1.0), [True]),
    "grad of a strong type": (lambda J, n, v, m: J.grad(lambda x: x * 2.0)(ONE), [False]),
    "grad of abs(z)": (lambda J, n, v, m: J.grad(n.abs)(3 + 4j), [False]),
    "grad of the real part": (lambda J, n, v, m: J.grad(lambda z: n.real(z) * 2.0)(3 + 4j), [False]),
    "grad of the imaginary part": (lambda J, n, v, m: J.grad(lambda z: n.imag(z * z))(3 + 4j), [False]),
    "holomorphic grad": (lambda J, n, v, m: J.grad(lambda z: z * z, holomorphic=True)(3 + 4j), [True]),
    "jvp": (lambda J, n, v, m: J.jvp(lambda x: x * ONE, (1.0,), (1.0,)), [False, False]),
    "linearize": (lambda J, n, v, m: J.linearize(lambda x: n.sin(x), 1.0)[0], [True]),
    "dot": (lambda J, n, v, m: n.dot(2.0, 3.0), [True]),
    "einsum": (lambda J, n, v, m: n.einsum(",", 2.0, 3.0), [True]),
    "einsum of vectors": (lambda J, n, v, m: n.einsum("ij,j", m, v), [True]),
    "einsum of mixed types": (lambda J, n, v, m: n.einsum("ij,j", m, ROW), [False]),
    "matmul": (lambda J, n, v, m: n.matmul(m, m), [True]),
    "vdot": (lambda J, n, v, m: n.vdot(v, v), [True]),
    "outer": (lambda J, n, v, m: n.outer(2.0, 3.0), [True]),
    "cross": (lambda J, n, v, m: n.cross(v, v), [False]),
    "cross of 2 elements": (lambda J, n, v, m: n.cross(v[:2], v[:2]), [True]),
    "meshgrid": (lambda J, n, v, m: n.meshgrid(v, ROW), [True, False]),
    "piecewise": (lambda J, n, v, m: n.piecewise(v, [v > 2], [lambda x: x * 2, 3.0]), [False]),
    "piecewise of a number": (lambda J, n, v, m: n.piecewise(2.0, [True], [1, 2]), [False]),
    "lcm": (lambda J, n, v, m: n.lcm(4, 6), [True]),
    "gcd": (lambda J, n, v, m: n.gcd(4, 6), [True]),
    "choose": (lambda J, n, v, m: n.choose(0, [1.0, 2.0]), [False]),
    "select": (lambda J, n, v, m: n.select([True], [1.0], 2), [True]),
    "where": (lambda J, n, v, m: n.where(True, 1, 2.0), [True]),
    "diag": (lambda J, n, v, m: n.diag(v), [True]),
    "trace": (lambda J, n, v, m: n.trace(m), [False]),
    "convolve": (lambda J, n, v, m: n.convolve(v, v), [True]),
    "vander": (lambda J, n, v, m: n.vander(v), [False]),
    "pad": (lambda J, n, v, m: n.pad(v, 1), [True]),
    "mean": (lambda J, n, v, m: n.mean(3.0), [False]),
    "stack": (lambda J, n, v, m: n.stack([1.0, 2.0]), [True]),
    "array": (lambda J, n, v, m: n.array([1.0, v[0]]), [False]),
    "indexing": (lambda J, n, v, m: v[1], [True]),
    "cond": (lambda J, n, v, m: J.lax.cond(True, lambda x: x, lambda x: x * 2, 1.0), [True]),
    "scan": (lambda J, n, v, m: J.lax.scan(lambda c, x: (c + x, c * x), 0.0, ROW), [False, False]),
    "while_loop": (lambda J, n, v, m: J.lax.while_loop(lambda c: c < 3, lambda c: c + 1, 0.0), [True]),
    "checkpoint": (lambda J, n, v, m: J.checkpoint(lambda x: x * 2)(1.0), [True]),
    "vmap": (lambda J, n, v, m: J.vmap(lambda x: x * 2)(v), [True]),
}


@pytest.mark.parametrize("name", AS_JAXS)
def test_weak_types_of_functions(name: str) -> None:
    function, weak = AS_JAXS[name]
    vector, matrix = (convert_element_type(np.float32(x), np.dtype(np.float32), True) for x in (ROW, np.eye(3)))
    assert [a.weak_type for a in avals(function(fg, jnp, vector, matrix))] == weak


@pytest.mark.oracle
@pytest.mark.parametrize("name", AS_JAXS)
def test_weak_types_are_jaxs(name: str) -> None:
    import jax

    function, weak = AS_JAXS[name]
    # The result of full_like of a weakly typed number is weak.
    vector, matrix = (jax.numpy.full_like(1.0, 0, shape=np.shape(x)) + jax.numpy.asarray(0.0) for x in (ROW, np.eye(3)))
    assert vector.weak_type and matrix.weak_type
    results = jax.tree.leaves(function(jax, jax.numpy, vector, matrix))
    assert [bool(x.weak_type) for x in results] == weak
