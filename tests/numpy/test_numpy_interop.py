"""funcgrad arrays among NumPy's: operators give ours, NumPy's functions on arrays give NumPy's.

NumPy's functions on tracers are ours, with their derivatives. What would drop a derivative raises with a remedy.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.special

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.errors import ArgumentError, ConcretizationError
from funcgrad.experimental import jet
from funcgrad.numpy.protocols import COUNTERPARTS


@pytest.mark.parametrize("left", [np.ones(3, np.float32), np.float32(2), 2, 2.0], ids=lambda v: type(v).__name__)
def test_operators_with_numpy_on_the_left_give_arrays(left: object) -> None:
    x = jnp.arange(3.0)
    for result in (left + x, left * x, left - x, left**x, left < x):
        assert isinstance(result, fg.Array)
    np.testing.assert_allclose(np.asarray(left - x), np.asarray(left) - np.arange(3))


def test_numpy_functions_take_arrays_and_give_numpy_arrays() -> None:
    x = jnp.arange(3.0)
    assert type(np.sin(x)) is np.ndarray
    assert np.isfinite(x).all()
    np.testing.assert_allclose(np.sum(x), 3.0)


def test_numpy_views_of_arrays_cannot_be_written() -> None:
    view = np.asarray(jnp.arange(3.0))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


V = np.array([0.5, 2.0, 1.5], np.float32)
Function = Callable[[Any, Any], Any]  # of the namespace, NumPy's or ours, and the array

# Programs that call NumPy's functions on a vector. The same with ours is what they mean.
DISPATCHED: dict[str, Function] = {
    "ufunc": lambda np, v: np.sin(v),
    "ufunc of an array and the traced one": lambda np, v: np.arctan2(V, v),
    "ufunc of the traced one and a scalar": lambda np, v: np.maximum(v, 1.0),
    "reduction by a ufunc": lambda np, v: np.add.reduce(v * v),
    "outer product by a ufunc": lambda np, v: np.multiply.outer(v, V),
    "where": lambda np, v: np.where(V > 1, v * v, 0),
    "clip": lambda np, v: np.clip(v, 1, 1.75),
    "einsum": lambda np, v: np.einsum("i,j->ij", v, v),
    "dot": lambda np, v: np.dot(v, v),
    "stack": lambda np, v: np.stack([v, V, 2 * v]),
    "concatenate": lambda np, v: np.concatenate([V, v]),
    "sum": lambda np, v: np.sum(v * v),
    "std": lambda np, v: np.std(v),
    "reshape": lambda np, v: np.reshape(v, (3, 1)),
    "interp": lambda np, v: np.interp(V, v, v),
    "cumprod": lambda np, v: np.cumprod(v),
    "zeros_like": lambda np, v: np.zeros_like(v) + v,
    "sort": lambda np, v: np.sort(v),
    "trapezoid": lambda np, v: np.trapezoid(v, V),
}


@pytest.mark.parametrize("program", DISPATCHED.values(), ids=DISPATCHED)
def test_numpy_functions_dispatch_on_tracers(program: Function) -> None:
    def with_namespace(namespace: Any) -> list[Any]:
        f = lambda v: program(namespace, v)  # noqa: E731
        size = f(jnp.asarray(V))
        scalar = lambda v: jnp.sum(f(v) * jnp.cos(jnp.arange(np.size(size)).reshape(np.shape(size))))  # noqa: E731
        batch = np.stack([V, V + 1])
        return [
            fg.grad(scalar)(V),
            *fg.jvp(f, (V,), (V,)),
            *fg.linearize(f, V)[:1],
            fg.jacrev(f)(V),
            fg.jit(f)(V),
            fg.vmap(f)(batch),
            fg.vmap(fg.grad(scalar))(batch),
            fg.hessian(scalar)(V),
            *jet.jet(f, (V,), [[V, V]])[1],
        ]

    for actual, expected in zip(with_namespace(np), with_namespace(jnp), strict=True):
        assert actual.aval == expected.aval
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(program(jnp, jnp.asarray(V)), program(np, V), rtol=1e-6)


def test_functions_with_equal_names_are_counterparts() -> None:
    compared = 0
    for name in dir(np):
        theirs, ours = getattr(np, name), getattr(jnp, name, None)
        dispatched = isinstance(theirs, np.ufunc) or hasattr(theirs, "_implementation")
        if dispatched and ours is not None:
            assert COUNTERPARTS[theirs] in (ours, getattr(jnp, theirs.__name__, None))  # concat, concatenate
            compared += 1
    assert compared > 250


def assigned(v: Any) -> Any:
    a = np.zeros(3, np.float32)
    a[:] = v
    return a.sum() * v[0]


def assigned_one(v: Any) -> Any:
    a = np.zeros(3, np.float32)
    a[0] = v[0]
    return a.sum() * v[0]


def updated_slice(v: Any) -> Any:
    a = np.zeros(3, np.float32)
    a[1:] += v[1:]
    return a.sum() * v[0]


def written_out(v: Any) -> Any:
    a = np.zeros(3, np.float32)
    np.add(a, v, out=a)
    return a.sum() * v[0]


def added_at(v: Any) -> Any:
    a = np.zeros(3, np.float32)
    np.add.at(a, [0, 1, 1], v)
    return a.sum() * v[0]


def copied_to(v: Any) -> Any:
    a = np.zeros(3, np.float32)
    np.copyto(a, v)
    return a.sum() * v[0]


# What makes numbers of a traced vector and goes on with them; the result would have a derivative with a part missing.
CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "float": lambda v: v[0] * float(v[0]),
    "complex": lambda v: v[0] * complex(v[0]).real,
    "math": lambda v: v[0] * math.exp(v[0]),
    "math.floor": lambda v: v[0] * math.floor(v[0]),
    "cmath": lambda v: v[0] * cmath.exp(v[0]).real,
    "tolist": lambda v: v[0] * sum(v.tolist()),
    "tobytes": lambda v: v[0] * v.tobytes()[0],
    "format of numbers": lambda v: v[0] * float("%f" % v[0]),  # noqa: UP031
    "asarray": lambda v: v[0] * np.asarray(v).sum(),
    "array of tracers": lambda v: v[0] * np.array([v, v]).sum(),
    "array of scalar tracers": lambda v: v[0] * np.array([v[0], v[1]]).sum(),
    "array of objects": lambda v: v[0] * np.array([v[0], v[1]], object).sum(),
    "scalar type": lambda v: v[0] * np.float32(v[0]),
    "full": lambda v: v[0] * np.full(3, v[0]).sum(),
    "fromiter": lambda v: v[0] * np.fromiter(v, np.float32).sum(),
    "random": lambda v: v[0] * np.random.default_rng(0).normal(v).sum(),
    "vectorize": lambda v: v[0] * np.vectorize(math.exp)(v).sum(),
    "frompyfunc": lambda v: v[0] * np.frompyfunc(lambda x: x, 1, 1)(v).sum(),
    "assignment": assigned,
    "assignment of one": assigned_one,
    "update of a slice": updated_slice,
    "out=": written_out,
    "ufunc.at": added_at,
    "copyto": copied_to,
    "ufunc without a counterpart": lambda v: v[0] * np.sum(scipy.special.expit(v)),
    "function without a counterpart": lambda v: v[0] * np.linalg.norm(v),
    "scipy": lambda v: v[0] * scipy.linalg.norm(v),
    "options of ufuncs": lambda v: v[0] * np.sum(np.sin(v, dtype=np.float64)),
}
DIFFERENTIATED: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "grad": lambda f: fg.grad(f)(V),
    "vjp": lambda f: fg.vjp(f, V),
    "jvp": lambda f: fg.jvp(f, (V,), (V,)),
    "linearize": lambda f: fg.linearize(f, V),
    "jacfwd": lambda f: fg.jacfwd(f)(V),
    "jet": lambda f: jet.jet(f, (V,), [[V]]),
    "grad of grad": lambda f: fg.grad(lambda v: fg.grad(f)(v)[0])(V),
    "jit": lambda f: fg.jit(f)(V),
    "vmap": lambda f: fg.vmap(f)(V[None]),
}


@pytest.mark.parametrize("transform", DIFFERENTIATED)
@pytest.mark.parametrize("conversion", CONVERSIONS.values(), ids=CONVERSIONS)
def test_no_conversion_drops_a_derivative(conversion: Callable[[Any], Any], transform: str) -> None:
    # NumPy makes a ValueError of a failed assignment, with ours as its cause.
    with pytest.raises((ConcretizationError, ArgumentError, ValueError)) as caught:
        DIFFERENTIATED[transform](conversion)
    error = caught.value if hasattr(caught.value, "fix") else caught.value.__cause__
    assert error.fix


def test_errors_of_conversions_explain_the_loss_and_the_fix() -> None:
    lost = r"(?s)converted with float\(\), which would drop its derivative while differentiating exp.*at test_numpy"
    remedy = r".*fix: .*funcgrad.numpy instead of math; where no derivative is wanted, convert lax.stop_gradient\(x\)"
    with pytest.raises(ConcretizationError, match=lost + remedy):
        fg.value_and_grad(math.exp)(1.0)
    with pytest.raises(ConcretizationError, match=r"(?s)np\.linalg\.norm was called with .*f32\[3\].*no function of"):
        fg.jit(np.linalg.norm)(V)
    with pytest.raises(ConcretizationError, match=r"(?s)NumPy array.*not known while tracing jit.*argument x"):
        fg.jit(lambda x: np.asarray(x))(1.0)


def test_known_values_without_a_derivative_are_read() -> None:
    """Of what has no tangent numbers are made; so are the bools and integers that decide about control flow."""

    def f(v: Any, n: Any) -> Any:
        stopped = lax.stop_gradient(v)
        assert float(stopped[0]) == 0.5 and np.asarray(stopped).sum() == 4 and math.exp(stopped[0]) > 1
        assert np.asarray(n).tolist() == [2, 0, 1] and np.argsort(np.asarray(v > 1)).tolist() == [0, 1, 2]
        assert bool(v[0]) and int(v[1]) == 2 and v[1].item() == 2.0 and v[1] > v[0] and round(v[1]) == 2
        assert [10, 20, 30][n[0]] == 30 and operator.index(n[2]) == 1 and V[n[0]] == 1.5
        return v[0] * v[n[0]] + v[np.asarray(v > 1)].sum()

    np.testing.assert_array_equal(fg.grad(f)(V, np.array([2, 0, 1])), [1.5, 1, 1.5])


def test_augmented_assignment_binds_the_sum() -> None:
    """``a += x`` makes a new array of a NumPy one, as it does outside of transforms; what `a` was stays as it is."""

    def f(v: Any) -> Any:
        total = first = np.zeros(3, np.float32)
        for i in range(3):
            total += v * i
        total *= v
        total @= np.eye(3, dtype=np.float32)
        assert first is not total and not first.any()
        return total.sum()

    np.testing.assert_array_equal(fg.grad(f)(V), 6 * V)
    np.testing.assert_array_equal(fg.jit(fg.grad(f))(V), 6 * V)
    with pytest.raises(ArgumentError, match="cannot write a traced array"):
        fg.jit(lambda v: operator.iadd(np.zeros(3, np.float32), v))(V)


LEFT = [np.ones(3), np.arange(3, dtype=np.int8), np.float32(2), np.float64(2), np.int64(3), np.array(2.0), np.True_]
OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.le,
    operator.eq,
    operator.ne,
    operator.gt,
    operator.ge,
]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("left", LEFT, ids=lambda v: f"{v.dtype}[{v.size}]")
def test_numpy_on_the_left_of_a_tracer(left: Any, op: Callable[[Any, Any], Any]) -> None:
    expected = op(left, jnp.asarray(V))
    f = lambda v: op(left, v)  # noqa: E731
    for actual in (fg.jit(f)(V), fg.jvp(f, (V,), (V,))[0], fg.vmap(f, in_axes=None, axis_size=1, out_axes=None)(V)):
        assert actual.aval == expected.aval
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


class Quantity(np.ndarray):
    """A subclass with an answer of its own, as units and masked arrays have."""

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Any:
        return NotImplemented if not all(isinstance(x, np.ndarray) for x in operands) else "units"

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return NotImplemented


def test_other_overrides_get_their_turn() -> None:
    q = V.view(Quantity)
    assert q * q == "units"
    for program in (lambda v: np.multiply(v, q), lambda v: q * v):
        with pytest.raises(TypeError, match="returned NotImplemented"):
            fg.jit(program)(V)

    class Wrapper:
        __array_ufunc__ = None

        def __rmul__(self, other: Any) -> str:
            return "wrapped"

        def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> str:
            return "theirs"

    seen = []
    fg.jit(lambda v: (seen.append(np.where(v > 1, v, Wrapper())), seen.append(v * Wrapper()), v)[-1])(V)
    assert seen == ["theirs", "wrapped"]


CONTAINERS: list[Any] = [[1, 2], (1, 2), {1}, {"a": 1}]
SYMBOLS = ["+", "-", "*", "/", "//", "%", "**", "@", "<<", ">>", "&", "|", "^", "<", "<=", "==", "!=", ">", ">="]


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("x", [jnp.arange(2), jnp.int32(2)], ids=["vector", "scalar"])
def test_containers_are_no_operands(x: Any, container: Any, symbol: str) -> None:
    for program in (f"x {symbol} c", f"c {symbol} x"):
        for transform in (lambda f: f, fg.jit):
            with pytest.raises(TypeError, match=r"(?s)operands are .*asarray first"):
                transform(lambda x: eval(program, {"x": x, "c": container}))(x)  # noqa: B023


def test_other_objects_get_their_turn() -> None:
    class Other:
        def __radd__(self, x: Any) -> str:
            return "sum"

    for x in (jnp.arange(2), jnp.int32(2)):
        assert [x == other for other in (None, "a", ..., object())] == [False] * 4
        assert x + Other() == "sum"
    assert "ab" * jnp.int32(2) == "abab"
