"""Taylor series of programs are the derivatives that nested jvp gives, and JAX's jet where it has a rule."""

from __future__ import annotations

import importlib
import math
import pkgutil

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import funcgrad as fg
import funcgrad.numpy as jnp
import funcgrad.ops
from funcgrad import dtypes, lax
from funcgrad.config import disable_jit, enable_x64
from funcgrad.core.primitives import registry
from funcgrad.errors import ArgumentError, DTypeError, LeakedTracerError, MissingRuleError, ShapeError
from funcgrad.experimental.jet import jet
from funcgrad.testing import assert_close
from funcgrad.testing.calls import CALLS, DISCRETE, DOUBLE, Call, calls_of

for _module in pkgutil.iter_modules(funcgrad.ops.__path__, "funcgrad.ops."):
    importlib.import_module(_module.name)

ORDER = 4
RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.8, (2, 3))
SERIES = [RNG.normal(size=X.shape) for _ in range(ORDER)]
W = RNG.normal(size=(3, 3))


@pytest.fixture(autouse=True)
def double():
    with enable_x64():
        yield


def derivatives(fun, primals, series, *, jvp=fg.jvp):
    """The derivatives at 0 of fun along the path that the series describe, by jvp within jvp."""
    order = len(series[0])

    def along(t):
        args = []
        for x, terms in zip(primals, series, strict=True):
            for k, c in enumerate(terms, 1):
                x = x + c * (t**k / math.factorial(k))
            args.append(x)
        return fun(*args)

    out = []
    for _ in range(order):
        along = (lambda inner: lambda t: jvp(inner, (t,), (1.0,))[1])(along)
        out.append(along(0.0))
    return out


def check(fun, primals, series, tolerance=1e-9):
    value, terms = jet(fun, primals, series)
    assert_close(value, fun(*primals), rtol=1e-12)
    for got, wanted in zip(terms, derivatives(fun, primals, series), strict=True):
        scale = 1 + np.max(np.abs(np.asarray(wanted)), initial=0)
        assert_close(np.asarray(got) / scale, np.asarray(wanted) / scale, rtol=0, atol=tolerance)


def scanned(x):
    def body(carry, row):
        carry = jnp.sin(carry) * row
        return carry, carry**2

    last, rows = lax.scan(body, x[0], x)
    return last + rows.sum(0)


PROGRAMS = {
    "polynomial": lambda x: (1 + x) ** 3 - x**-2 + x**0,
    "powers": lambda x: x**x + x**2.5 + 2.0**x,
    "quotient": lambda x: jnp.sin(x) / (2 + jnp.cos(x)) / jnp.exp(x),
    "roots": lambda x: jnp.sqrt(x) + jnp.cbrt(x) * lax.rsqrt(x),
    "hyperbolic": lambda x: jnp.tanh(x) + jnp.cosh(x) * jnp.sinh(x) + jnp.arctanh(x) - jnp.arcsinh(x),
    "circular": lambda x: jnp.tan(x) + jnp.arctan2(x, 1 - x) + jnp.arcsin(x) * jnp.arccos(x),
    "logarithms": lambda x: jnp.log(x) + jnp.log1p(x) * jnp.expm1(x) + jnp.logaddexp(x, x**2) + jnp.exp2(x),
    "special": lambda x: lax.erf(x) + lax.lgamma(x) * lax.digamma(x) + lax.erf_inv(x),
    "network": lambda x: jnp.tanh(jnp.maximum(x @ W, 0.1 * x) @ W.T),
    "product": lambda x: jnp.matmul(x, x.T) @ x,
    "softmax": lambda x: jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x).sum(-1, keepdims=True),
    "folds": lambda x: x.prod(0) + jnp.cumprod(x, 1).sum(0) + jnp.cumsum(x, 0)[1] + jnp.max(x, 0) * x.min(),
    "pieces": lambda x: jnp.where(x > 0.5, jnp.abs(x - 0.6), jnp.clip(x, 0.3, 0.6)) * jnp.sign(x) + jnp.floor(x),
    "movement": lambda x: jnp.concatenate([x[::-1, 1:], jnp.pad(x, 1)[1:3, :2]], 1).T[jnp.array([0, 2, 2])] ** 2,
    "writing": lambda x: (
        jnp.asarray(x).at[1, jnp.array([0, 2])].multiply(x[0, 0], unique_indices=True).at[0].add(x[1] ** 2)
    ),
    "sorted": lambda x: jnp.sort(x, axis=1) * jnp.arange(3.0) * x,
    "jitted": lambda x: fg.jit(lambda y, c: (jnp.sin(y) * c, c))(x, 2.0)[0],
    "constant": lambda x: jnp.ones(3),
}
CONTROL_FLOW = {
    "scan": scanned,
    "while": lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * jnp.sin(x)), (0, x))[1],
    "cond": lambda x: lax.cond(x[0, 0] > 0, lambda y: jnp.exp(y), lambda y: jnp.ones_like(y), x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_series_agree_with_nested_jvp(name: str):
    check(PROGRAMS[name], (X,), (SERIES,))


@pytest.mark.parametrize("mode", ["interpreted", "eager", "compiled"])
@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_series_go_through_loops_and_branches(name: str, mode: str):
    expand = lambda x, series: jet(CONTROL_FLOW[name], (x,), (series,))  # noqa: E731
    with disable_jit(mode == "interpreted"):
        value, terms = (fg.jit(expand) if mode == "compiled" else expand)(X, SERIES)
    unrolled = {
        "scan": lambda x: (s := jnp.sin(x[0]) * x[0], t := jnp.sin(s) * x[1], t + s**2 + t**2)[2],
        "while": lambda x: x * jnp.sin(x) ** 3,
        "cond": jnp.exp,
    }[name]
    wanted_value, wanted = jet(unrolled, (X,), (SERIES,))
    assert_close(value, wanted_value, rtol=1e-12)
    for a, b in zip(terms, wanted, strict=True):
        assert_close(a, b, rtol=1e-10)


# Its jvp rounds the tangent: not linear, so that scaled tangents are not the tangents scaled.
ROUNDS_TANGENTS = ("reduce_precision",)


def _differentiable(name: str) -> bool:
    return (
        name in CALLS
        and name not in DISCRETE
        and name not in ROUNDS_TANGENTS
        and registry[name].has("jvp")
        and not registry[name].higher_order
    )


@pytest.mark.parametrize("name", [n for n in sorted(registry) if _differentiable(n)])
def test_every_primitive_has_a_series(name: str):
    @settings(max_examples=2, suppress_health_check=list(HealthCheck))
    @given(call=calls_of(name, DOUBLE))
    def holds(call: Call):
        primitive, args, params = call
        moving = [i for i, x in enumerate(args) if dtypes.is_inexact(x.dtype)]
        assume(moving)

        def fun(*xs):
            full = list(args)
            for i, x in zip(moving, xs, strict=True):
                full[i] = x
            out = primitive.bind(*full, **params)
            out = [o for o in (out if primitive.multiple_results else [out]) if dtypes.is_inexact(o.dtype)]
            return out[0] if out else jnp.zeros(())

        rng = np.random.default_rng(len(args))
        series = [[0.1 * rng.normal(size=args[i].shape) for _ in range(3)] for i in moving]
        try:
            derivatives(fun, [args[i] for i in moving], series)
        except MissingRuleError:
            with pytest.raises(MissingRuleError):
                jet(fun, [args[i] for i in moving], series)
        else:
            check(fun, [args[i] for i in moving], series, 1e-7)

    holds()


def test_series_compose_with_jit_vmap_and_grad():
    fun = PROGRAMS["network"]
    second = lambda x: jet(fun, (x,), ([jnp.ones_like(x), jnp.zeros_like(x)],))[1][1]  # noqa: E731
    assert_close(fg.jit(second)(X), second(X), rtol=1e-12)
    rows = fg.vmap(lambda row: second(row[None])[0])(X)
    assert_close(rows, second(X), rtol=1e-12)
    third = jet(fun, (X,), ([np.ones_like(X), np.zeros_like(X), np.zeros_like(X)],))[1][2]
    assert_close(fg.jvp(second, (X,), (np.ones_like(X),))[1], third, rtol=1e-9)
    gradient = fg.grad(lambda x: second(x).sum())
    assert_close((gradient(X) * np.ones_like(X)).sum(), third.sum(), rtol=1e-9)
    # A series of a gradient: derivatives of ∇f along a line.
    line = [np.ones_like(X), np.zeros_like(X)]
    check(fg.grad(lambda x: fun(x).sum()), (X,), (line,))


def test_custom_rules_hold_to_all_orders():
    @fg.custom_jvp
    def doubled(x):
        return jnp.sin(x)

    @doubled.defjvp
    def _(primals, tangents):
        return doubled(*primals), 2 * jnp.cos(primals[0]) * tangents[0]

    for fun in (doubled, fg.jit(doubled), lambda x: doubled(x * 1.0) + 0 * doubled(2.0)):
        check(fun, (X,), (SERIES,))

    @fg.custom_vjp
    def reverse_only(x):
        return jnp.exp(x) * y  # closes over an array

    y = jnp.asarray(X)
    reverse_only.defvjp(lambda x: (reverse_only(x), None), lambda _, ct: (ct,))
    for fun in (reverse_only, fg.jit(reverse_only)):  # forward mode is that of the function itself, as in JAX
        wanted = jet(lambda x: jnp.exp(x) * X, (X,), (SERIES,))
        for a, b in zip(fg.tree.leaves(jet(fun, (X,), (SERIES,))), fg.tree.leaves(wanted), strict=True):
            assert_close(a, b, rtol=1e-12)

    with pytest.raises(LeakedTracerError, match="closes over a traced value"):
        jet(lambda x: _closing_over(x)(1.0), (X,), (SERIES,))


def _closing_over(x):
    scaled = fg.custom_jvp(lambda y: x * y)
    scaled.defjvps(lambda v, ans, y: x * v)
    return scaled


def test_effects_happen_once():
    seen = []

    def fun(x):
        fg.debug.callback(lambda value: seen.append(float(value)), x[0, 0])
        return jnp.sin(x)

    for expand in (lambda x: jet(fun, (x,), (SERIES,)), fg.jit(lambda x: jet(fun, (x,), (SERIES,)))):
        expand(X)
        fg.effects_barrier()
    assert seen == [X[0, 0]] * 2


def test_unscaled_series_are_taylor_coefficients():
    _, (scaled,) = jet(lambda x: (jnp.exp(x),), (0.5,), ([1.0, 0.0, 0.0],))
    _, (plain,) = jet(lambda x: (jnp.exp(x),), (0.5,), ([1.0, 0.0, 0.0],), factorial_scaled=False)
    assert_close(scaled, [math.exp(0.5)] * 3)
    assert_close(plain, [math.exp(0.5) / math.factorial(k) for k in (1, 2, 3)])


def test_results_and_terms_keep_structure_shape_and_dtype():
    with enable_x64(False):
        x = np.float32([1, 2])
        value, terms = jet(lambda x: {"a": x * 2, "b": (x.sum(), jnp.int32(3))}, (x,), ([x, x],))
    assert fg.tree.structure(value) == fg.tree.structure({"a": 0, "b": (0, 0)})
    assert [t.dtype for t in terms["a"]] == [jnp.float32] * 2 and terms["b"][0][1].shape == ()
    assert_close(terms["b"][1], [np.int32(0)] * 2)


def test_powers_at_zero_have_their_series():
    check(lambda x: x**3 + (1 + x) ** -2 + jnp.prod(x) + x**2.0, (np.zeros(2),), ([np.ones(2)] + [np.zeros(2)] * 3,))
    assert jet(lambda x: x**3.0, (0.0,), ([1.0, 0.0, 0.0],))[1][2] == 6


def test_high_orders_cost_a_polynomial_number_of_equations():
    def count(order):
        series = ([1.0] + [0.0] * (order - 1),)
        return len(fg.make_jaxpr(lambda x: jet(lambda y: jnp.exp(lax.erf_inv(y)), (x,), series))(0.3).eqns)

    assert count(8) < 10 * count(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jet(jnp.sin, (1.0,), ([1.0], [1.0])), ArgumentError, "jet: 1 arguments have series of [1, 1] terms"),
        (lambda: jet(jnp.add, (1.0, 2.0), ([1.0], [1.0, 2.0])), ArgumentError, "series of [1, 2] terms"),
        (lambda: jet(jnp.sin, ((1.0,),), ([1.0],)), ArgumentError, "jet: argument 0 or a term of it is a tuple"),
        (lambda: jet(jnp.sin, (1,), ([1.0],)), DTypeError, "jet: argument 0 has type i32[]"),
        (lambda: jet(jnp.sin, (X,), ([1.0],)), ShapeError, "jet: term 1 of argument 0 has type f64[]"),
    ],
)
def test_wrong_series_are_errors(call, error, message):
    with enable_x64(False) if "i32" in message else enable_x64(), pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "fix: " in str(caught.value)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["polynomial", "quotient", "hyperbolic", "network", "softmax", "movement"])
def test_series_agree_with_jax(name: str):
    import jax
    from jax.experimental.jet import jet as jax_jet

    module = {"jnp": jax.numpy, "lax": jax.lax, "W": W}
    fun = PROGRAMS[name]
    theirs = type(fun)(fun.__code__, fun.__globals__ | module)
    with jax.experimental.enable_x64() if hasattr(jax.experimental, "enable_x64") else jax.enable_x64(True):
        wanted = jax_jet(theirs, (X,), (SERIES,))
    got = jet(fun, (X,), (SERIES,))
    for a, b in zip(fg.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_close(a, np.asarray(b), rtol=1e-7)
