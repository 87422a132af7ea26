"""scan, while_loop, fori_loop and map: the Python loops that they mean, and JAX where it is installed."""

from __future__ import annotations

import functools
import importlib
import itertools
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors, lax
from funcgrad import numpy as fnp
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.interning import interned
from funcgrad.core.jaxprs import ClosedJaxpr, subjaxprs
from funcgrad.core.primitives import Primitive, registry
from funcgrad.testing import assert_close, check_grads, check_jit, check_vmap
from tests.comparing import assert_same

X = np.linspace(-1.0, 1.2, 12, dtype=np.float32).reshape(4, 3)
W = np.array([[0.5, -0.2, 0.1], [0.3, 0.4, -0.6], [-0.1, 0.2, 0.7]], np.float32)


def oracle() -> Any:
    """JAX, as a module with the names that programs here use."""
    return importlib.import_module("jax")


def by_jax(fun: Any, *args: Any) -> Any:
    """The function's value by JAX, compiled in a hurry."""
    hurry = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return oracle().jit(fun).lower(*args).compile(hurry)(*args)


def numbers(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in fg.tree.leaves(tree)]


same = functools.partial(assert_same, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the loops that they mean


def python_scan(f, init, xs, length=None, reverse=False):
    """The loop that scan means, with operations that record nothing."""
    length = len(fg.tree.leaves(xs)[0]) if length is None else length
    order = range(length)
    carry, ys = init, [None] * length
    for i in reversed(order) if reverse else order:
        carry, ys[i] = f(carry, fg.tree.map(lambda x, i=i: x[i], xs))
    return carry, fg.tree.map(lambda *rows: fnp.stack(rows), *ys)


def pendulum(carry, x):
    h, c = carry["h"], carry["c"]
    h = fnp.tanh(W @ h + x["in"] * c)
    return {"h": h, "c": c * 0.9 + x["scale"]}, (h * c, {"norm": (h * h).sum()})


PENDULUM = ({"h": fnp.zeros(3), "c": np.float32(1)}, {"in": X, "scale": X[:, 0]})


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [1, 3, True, 0])
def test_scan_is_the_loop(reverse, unroll):
    expected = python_scan(pendulum, *PENDULUM, reverse=reverse)
    assert_close(numbers(lax.scan(pendulum, *PENDULUM, reverse=reverse, unroll=unroll)), numbers(expected))
    compiled = fg.jit(lambda init, xs: lax.scan(pendulum, init, xs, reverse=reverse, unroll=unroll))(*PENDULUM)
    assert_close(numbers(compiled), numbers(expected))


def test_scan_returns_the_structure_of_the_body():
    carry, (products, norms) = lax.scan(pendulum, *PENDULUM)
    assert sorted(carry) == ["c", "h"] and carry["h"].shape == (3,)
    assert products.shape == (4, 3) and norms["norm"].shape == (4,)


def test_scan_without_xs_counts_steps():
    carry, ys = lax.scan(lambda c, x: (c * 2, (c, x)), 1, length=4)
    assert int(carry) == 16 and ys[0].tolist() == [1, 2, 4, 8] and ys[1] is None
    assert lax.scan(lambda c, _: (c, None), None, length=3) == (None, None)


def test_scan_of_no_steps_returns_the_carry_and_empty_arrays():
    carry, ys = lax.scan(lambda c, x: (c + x.sum(), x * 2), 3.0, X[:0])
    assert float(carry) == 3.0 and ys.shape == (0, 3) and ys.dtype == np.float32


def test_a_scan_does_not_loop_over_forwarded_values():
    closed = fg.make_jaxpr(lambda c, w, x: lax.scan(lambda s, x: ((s[0] + s[1], s[1]), x), (c, w), x))(1.0, 2.0, X)
    (eqn,) = closed.eqns
    assert eqn.params["num_carry"] == 1 and eqn.params["num_consts"] == 1 and len(eqn.outvars) == 1
    (c, w), ys = lax.scan(lambda s, x: ((s[0] + s[1], s[1]), x), (1.0, 2.0), X)
    assert (float(c), float(w)) == (9.0, 2.0)
    assert np.array_equal(ys, X)


@pytest.mark.parametrize("lower, upper", [(0, 5), (2, 5), (5, 2), (-3, 1), (np.int8(1), 4), (np.int32(0), np.int32(3))])
@pytest.mark.parametrize("how", ["static", "traced", "disable_jit"])
def test_fori_loop_is_the_loop(lower, upper, how):
    def body(i, value):
        return value[0] * 0.5 + i, value[1] + 1

    expected = (np.float32(2), 0)
    for i in range(int(lower), int(upper)):
        expected = body(i, expected)
    run = lambda lower, upper: lax.fori_loop(lower, upper, body, (np.float32(2), 0))  # noqa: E731
    if how == "traced":
        run = fg.jit(run)
    with fg.disable_jit(how == "disable_jit"):
        out = run(lower, upper)
    assert_close([float(x) for x in out], [float(x) for x in expected])


def test_while_loop_is_the_loop():
    def collatz(n):
        return lax.while_loop(
            lambda s: s[0] != 1, lambda s: (fnp.where(s[0] % 2, 3 * s[0] + 1, s[0] // 2), s[1] + 1), (n, 0)
        )

    for run in (collatz, fg.jit(collatz)):
        assert [int(x) for x in run(27)] == [1, 111]
        assert [int(x) for x in run(1)] == [1, 0]
    with fg.disable_jit():
        assert [int(x) for x in collatz(6)] == [1, 8]
    assert fg.vmap(collatz)(np.arange(1, 10))[1].tolist() == [0, 1, 7, 2, 5, 8, 16, 3, 19]


@pytest.mark.parametrize("batch_size", [None, 0, 1, 3, 4, 9])
def test_map_is_the_loop(batch_size):
    out = lax.map(lambda x: {"y": fnp.sin(x[0]) * x[1]}, (X[:, 0], X), batch_size=batch_size)
    assert_close(np.asarray(out["y"]), np.sin(X[:, :1]) * X)


def test_disable_jit_runs_the_python_function_at_every_step():
    seen = []

    def body(c, x):
        seen.append(float(x))
        return c + x, c

    with fg.disable_jit():
        carry, ys = lax.scan(body, 0.0, np.float32([1, 2, 3]), reverse=True)
        assert float(lax.while_loop(lambda c: float(c) < 9, lambda c: c * 2, 1.0)) == 16
        assert fg.vmap(lambda n: lax.while_loop(lambda c: c < n, lambda c: c * 2, 1))(np.int32([3, 9])).tolist() == [
            4,
            16,
        ]
    assert seen == [3.0, 2.0, 1.0] and float(carry) == 6 and ys.tolist() == [5, 3, 0]


def test_a_body_closes_over_traced_values():
    def loss(w, x):
        def step(c, x):
            inner = lax.fori_loop(0, 2, lambda i, s: s * w + i, c)
            return fnp.sin(inner) * w, inner * w

        carry, ys = lax.scan(step, 1.0, x)
        return carry + ys.sum() + lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] * 0.5 + c0, s[1] + 1), (1.0, 0))[0]

    c0 = 0.25
    x = np.float32([0.2, 0.4])

    def unrolled(w, x):
        c, total = 1.0, 0.0
        for _ in x:
            inner = (c * w + 0) * w + 1
            c, total = fnp.sin(inner) * w, total + inner * w
        return c + total + ((0.5 + c0) * 0.5 + c0) * 0.5 + c0

    assert_close(np.asarray(fg.jit(loss)(0.7, x)), np.asarray(unrolled(0.7, x)))
    assert_close(np.asarray(fg.grad(loss)(0.7, x)), np.asarray(fg.grad(unrolled)(0.7, x)))
    assert_close(
        numbers(fg.vmap(fg.grad(loss), (0, None))(x, x)), numbers([fnp.stack([fg.grad(unrolled)(w, x) for w in x])])
    )
    assert_close(np.asarray(fg.jit(fg.grad(fg.jit(loss)))(0.7, x)), np.asarray(fg.grad(unrolled)(0.7, x)))


# ---------------------------------------------------------------- types and jaxprs, as JAX has them

SURFACE = {
    "weak float carry": lambda m: m.lax.scan(lambda c, x: (c + x.sum(), c), 0.0, X),
    "weak int carry becomes float": lambda m: m.lax.scan(lambda c, x: (c * 2.0, c), 1, X),
    "weak int carry becomes strong float": lambda m: m.lax.scan(lambda c, x: (c + x, c), 1, X[:, 0]),
    "weak ys": lambda m: m.lax.scan(lambda c, x: (c, 2.0), 1, X),
    "bool carry": lambda m: m.lax.scan(lambda c, x: (c | (x > 1), ~c), False, X[:, 0]),
    "int8 and pytrees": lambda m: m.lax.scan(
        lambda c, x: ({"a": c["a"] + x, "b": [c["b"][0]]}, (x, None)),
        {"a": np.int8(3), "b": [2.5]},
        np.arange(3, dtype=np.int8),
    ),
    "list for a pair": lambda m: m.lax.scan(lambda c, x: [c + x.sum(), c], 0.0, X),
    "while promotes": lambda m: m.lax.while_loop(lambda c: c < 3, lambda c: c + 0.5, 0),
    "while keeps weak": lambda m: m.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1]), (0, 2.0)),
    "fori promotes": lambda m: m.lax.fori_loop(0, 3, lambda i, c: c * 1.5 + i, 1),
    "fori of numpy bounds": lambda m: m.lax.fori_loop(np.int16(1), 4, lambda i, c: c + i, np.int8(1)),
    "fori traced": lambda m: m.jit(lambda n: m.lax.fori_loop(0, n, lambda i, c: c * 1.5, 1))(3),
    "fori traced int8": lambda m: m.jit(lambda n: m.lax.fori_loop(0, n, lambda i, c: c + i, 1))(np.int8(3)),
    "fori of floats": lambda m: m.jit(lambda n: m.lax.fori_loop(0.0, n, lambda i, c: c + i, 1.0))(2.5),
    "fori backwards": lambda m: m.lax.fori_loop(3, 0, lambda i, c: c + 1, 1),
    "map of ints": lambda m: m.lax.map(lambda x: (x * 2, 1.0), np.arange(5), batch_size=2),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", SURFACE)
def test_types_agree_with_jax(name):
    same(SURFACE[name](fg), SURFACE[name](oracle()))


PRINTED = {
    "scan": (lambda m, c, x: m.lax.scan(lambda c, x: (c + x, c * x), c, x), (0.0, X[:, 0])),
    "scan of consts": (
        lambda m, c, x, w: m.lax.scan(lambda c, x: (c * w, (c, x)), c, x, unroll=2, reverse=True),
        (0.0, X[:, 0], 3.0),
    ),
    "scan of an array": (lambda m, c: m.lax.scan(lambda c, _: (c * X[0], c), c, length=3), (X[1],)),
    "nested": (lambda m, c, x: m.lax.scan(lambda c, r: m.lax.scan(lambda d, y: (d * y, d), c, r), c, x), (1.0, X)),
    "fori": (lambda m, x: m.lax.fori_loop(1, 5, lambda i, c: c * 2 + i, x), (3.0,)),
    "fori unrolled": (lambda m, x: m.lax.fori_loop(0, 5, lambda i, c: c * 2, x, unroll=True), (3.0,)),
    "fori traced": (lambda m, n: m.lax.fori_loop(0, n, lambda i, c: c * 2 + i, 1.0), (3,)),
    "fori int8": (lambda m, n: m.lax.fori_loop(2, n, lambda i, c: c * 2, 1.0), (np.int8(3),)),
    "while": (lambda m, x, n: m.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * x), (0, 1.0)), (3.0, 3)),
    "while with a constant": (
        lambda m, x: m.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + c[1], c[1]), (0.0, x)),
        (1.0,),
    ),
    "map": (lambda m, x: m.lax.map(lambda x: x * 2, x), (X,)),
    "jit in scan": (lambda m, c, x: m.lax.scan(lambda c, x: (m.jit(lambda a: a * x)(c), c), c, x), (1.0, X[:, 0])),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", PRINTED)
def test_jaxprs_print_as_in_jax(name):
    fun, args = PRINTED[name]
    ours = fg.make_jaxpr(lambda *args: fun(fg, *args))(*args)
    check_jaxpr(ours)
    assert str(ours) == str(oracle().make_jaxpr(lambda *args: fun(oracle(), *args))(*args))


# ---------------------------------------------------------------- derivatives


def rnn(m, w, x):
    def step(h, xi):
        h = m.numpy.tanh(m.numpy.cos(w) @ h + xi * w.sum())
        return h, (h * xi).sum()

    h, ys = m.lax.scan(step, m.numpy.zeros(3), x, reverse=True)
    return (h**2).sum() + (ys * ys).sum()


def swapping(m, w, x):
    """A carry that gets a tangent in the second step only, and one that starts as a value and gets one."""
    (a, b), _ = m.lax.scan(lambda s, xi: ((s[1] * xi, s[0] + w.sum()), None), (m.numpy.zeros(3), x[0]), x)
    return (a * b).sum()


def counting(m, w, x):
    """Non-linear integers in the carry and in ys."""

    def body(i, c):
        return m.numpy.sin(c) @ w + i * c, i

    c, (steps, _) = m.lax.scan(
        lambda s, _: ((lambda c, i: (c, (i + 1, i)))(*body(s[1][0], s[0])), s[1]), (x, (0, 0)), length=3
    )[0]
    return (c * steps).sum()


def nested(m, w, x):
    def outer(c, xi):
        d, ys = m.lax.scan(lambda d, y: (d * m.numpy.cos(y) + c.sum(), d * y), xi.sum(), xi)
        return m.numpy.sin(c * d) * 0.3 + ys * 0.1, d

    c, ds = m.lax.scan(outer, w[0], x)
    return (c * c).sum() + ds.sum()


def mapped(m, w, x):
    return m.lax.map(lambda r: m.numpy.sin(w @ r).sum() * r, x, batch_size=3).sum()


PROGRAMS = [rnn, swapping, counting, nested, mapped]
DERIVED = {
    "grad": lambda m, f: m.grad(f, (0, 1)),
    "jit of grad of jit": lambda m, f: m.jit(m.grad(m.jit(f), (0, 1))),
    "jvp": lambda m, f: lambda w, x: m.jvp(f, (w, x), (w, x)),
    "linearize": lambda m, f: lambda w, x: m.linearize(f, w, x)[1](x[:3] * w, x),
    "jvp of grad": lambda m, f: lambda w, x: m.jvp(m.grad(f, (0, 1)), (w, x), (w, x)),
    "grad of grad": lambda m, f: m.grad(lambda w, x: sum((g**2).sum() for g in m.grad(f, (0, 1))(w, x)), (0, 1)),
    "vmap of grad": lambda m, f: lambda w, x: m.vmap(m.grad(f, (0, 1)), (0, None))(m.numpy.stack([w, w * 0.5]), x),
    "grad of vmap": lambda m, f: m.grad(
        lambda w, x: m.vmap(f, (None, 1))(w, m.numpy.stack([x, x * 0.3], 1)).sum(), (0, 1)
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("program", PROGRAMS)
def test_derivatives_agree_with_jax(program):
    derived = {name: derive(fg, lambda w, x: program(fg, w, x))(W, X) for name, derive in DERIVED.items()}
    jax = oracle()
    theirs = by_jax(lambda w, x: {n: d(jax, lambda w, x: program(jax, w, x))(w, x) for n, d in DERIVED.items()}, W, X)
    for name in DERIVED:
        assert_close(numbers(derived[name]), numbers(jax.tree.leaves(theirs[name])), rtol=2e-4, atol=2e-4, what=name)


@pytest.mark.parametrize("program", [rnn, swapping])
def test_derivatives_to_second_order(program):
    check_grads(lambda w, x: program(fg, w, x), (W, X), order=2, rtol=1e-4, atol=1e-4)


OPERATIONS = {
    "waves": lambda a, b, i: fnp.sin(a) * fnp.cos(b),
    "add": lambda a, b, i: (a + b) * 0.5,
    "zero": lambda a, b, i: a * 0.0,
    "constant": lambda a, b, i: fnp.asarray(0.3),
    "stop": lambda a, b, i: lax.stop_gradient(a) * 0.7 + b * 0.1,
    "count": lambda a, b, i: a * (i % 2 + 1),
    "loop": lambda a, b, i: lax.fori_loop(0, 2, lambda j, s: s * 0.5 * b + j * 0.1, a),
}


def random_body(seed):
    """A straight line of operations over two carries, two slices and a const; a counter runs along."""
    rng = np.random.default_rng(seed)
    lines = [(list(OPERATIONS)[rng.integers(7)], *rng.integers(5 + k, size=2)) for k in range(rng.integers(2, 7))]
    outs = rng.integers(5 + len(lines), size=4)

    def body(w, carry, x):
        c0, c1, i = carry
        values = [c0, c1, *x, w]
        for name, a, b in lines:
            values.append(OPERATIONS[name](values[a], values[b], i))
        new0, new1, y0, y1 = (values[k] * 1.0 for k in outs)
        return (new0, new1, i + 1), (y0, y1)

    return body


@pytest.mark.parametrize("seed", range(8))
def test_any_body_is_differentiated_as_its_unrolled_loop(seed):
    body, reverse = random_body(seed), seed % 2 == 1
    w, c, xs = np.float32(0.7), (np.float32(0.4), np.float32(-0.8)), (X[:3, 0], X[:3, 1])

    def by(run):
        def loss(w, c, xs):
            carry, ys = run(lambda carry, x: body(w, carry, x), (*c, 0), xs, reverse=reverse)
            return carry[0] + 2 * carry[1] + sum((y * fnp.arange(1.0, 4.0)).sum() for y in ys)

        gradient = fg.grad(loss, (0, 1, 2))
        hvp = fg.jvp(gradient, (w, c, xs), (w, c, xs))
        rows = fg.vmap(gradient, (0, None, 1))(np.float32([0.7, 0.2]), c, tuple(fnp.stack([x, -x], 1) for x in xs))
        return [loss(w, c, xs), hvp, rows, fg.jit(gradient)(w, c, xs)]

    assert_close(numbers(by(lax.scan)), numbers(by(python_scan)), rtol=1e-4, atol=1e-5)


def test_third_derivative_and_jacobians():
    def power(x):
        return lax.fori_loop(0, 4, lambda i, c: c * x, 1.0)

    third = fg.grad(fg.grad(fg.grad(power)))
    assert_close(np.asarray(third(2.0)), np.float32(48))
    assert_close(np.asarray(fg.jit(third)(2.0)), np.float32(48))

    def product(x):
        return lax.scan(lambda c, xi: (c * xi, c * x), x[0], x)[1]

    def unrolled(x):
        c, ys = x[0], []
        for i in range(3):
            ys.append(c * x)
            c = c * x[i]
        return fnp.stack(ys)

    for jacobian in (fg.jacfwd, fg.jacrev, lambda f: fg.jacfwd(fg.jacrev(f)), lambda f: fg.jacrev(fg.jacfwd(f))):
        assert_close(np.asarray(jacobian(product)(X[0])), np.asarray(jacobian(unrolled)(X[0])))


TRANSFORMS = {
    "jit": lambda m, f: m.jit(f),
    "grad": lambda m, f: m.grad(f),
    "jvp": lambda m, f: lambda x: m.jvp(f, (x,), (x * 0.5,))[1],
    "vmap": lambda m, f: lambda x: m.vmap(f)(m.numpy.stack([x, x * 0.5])).sum(),
    "scan": lambda m, f: (
        lambda x: (lambda c, ys: c + ys.sum())(
            *m.lax.scan(lambda c, s: (m.numpy.sin(c) * s, f(c + s)), x, np.float32([0.5, 0.8]))
        )
    ),
}


def composed(m, names):
    """A scan, in each of the transforms, the last one outermost."""

    def f(x):
        return m.lax.fori_loop(0, 2, lambda i, c: m.numpy.cos(c * x) + i * c, x)

    for name in names:
        f = TRANSFORMS[name](m, f)
    return f


@pytest.mark.oracle
@pytest.mark.parametrize("outermost", TRANSFORMS)
def test_compositions_to_depth_three(outermost):
    others = [name for name in TRANSFORMS if name != outermost]
    chosen = [[*inner, outermost] for n in range(3) for inner in itertools.permutations(others, n)]
    x = np.float32(0.4)
    theirs = by_jax(lambda x: [composed(oracle(), names)(x) for names in chosen], x)
    ours = fg.jit(lambda x: [composed(fg, names)(x) for names in chosen])(x)
    for names, a, b in zip(chosen, ours, theirs, strict=True):
        assert_close(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-4, what=" ".join(names))
        if len(names) == 2:
            assert_close(np.asarray(composed(fg, names)(x)), np.asarray(b), rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------- while


def newton(w, x):
    """Steps that differ in number between elements of a batch."""
    return lax.while_loop(
        lambda s: abs(s[0] * s[0] - w * x) > 1e-4, lambda s: (0.5 * (s[0] + w * x / s[0]), s[1] + 1), (x, 0)
    )


def test_forward_mode_of_while():
    out, tangent = fg.jvp(lambda x: newton(1.0, x)[0], (2.0,), (1.0,))
    assert_close(np.asarray([out, tangent]), np.float32([2**0.5, 0.5 / 2**0.5]), rtol=1e-3)
    value, linear = fg.linearize(lambda x: newton(1.0, x)[0], 2.0)
    assert_close(np.asarray(linear(3.0)), np.asarray(tangent * 3), rtol=1e-5)
    check_grads(lambda w, x: newton(w, x)[0], (1.0, 2.0), order=2, modes=("fwd",))
    assert fg.jacfwd(lambda x: newton(1.0, x)[0])(2.0).shape == ()


def test_gradients_past_a_while_that_carries_none():
    def loss(x):
        n = lax.while_loop(lambda n: n < x, lambda n: n * 2, 1.0)
        return x * x * n

    assert float(fg.grad(loss)(3.0)) == 24
    assert float(fg.jit(fg.grad(fg.jit(loss)))(3.0)) == 24


def test_known_carries_of_a_while_are_computed_alone():
    def f(x, y):
        return lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] * y, s[1] + 1), (x, 0))

    out, linear = fg.linearize(lambda y: f(2.0, y), 3.0)
    assert [float(o) for o in out] == [54.0, 3.0]
    assert float(linear(1.0)[0]) == 54.0


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_lanes_take_their_own_number_of_steps(axes):
    args = [np.float32([1.0, 0.9, 1.1]) if a == 0 else np.float32(1) for a in axes]
    args[1] = args[1] * 3
    check_vmap(newton, args, axes)
    check_jit(fg.vmap(newton, axes), args)
    pushed = lambda w, x: fg.jvp(newton, (w, x), (w, x))[1][0]  # noqa: E731
    check_vmap(pushed, args, axes)
    loop = [e for e in fg.make_jaxpr(fg.vmap(newton, axes))(*args).eqns if e.primitive.name == "scan"]
    assert [e.params["num_carry"] for e in loop] == [0]


W_GRID = np.float32([[1.0, 0.9, 1.1], [0.8, 1.3, 2.0]])


@pytest.mark.parametrize(
    ("w", "x", "inner", "outer"),
    [
        (W_GRID, 3 * W_GRID, (0, 0), (0, 0)),
        (W_GRID, 3 * W_GRID.T, (0, 0), (0, 1)),
        (W_GRID[0], 3 * W_GRID[:, 0], (0, None), (None, 0)),
        (W_GRID[:, 0], 3 * W_GRID[0], (None, 0), (0, None)),
        (W_GRID[0], 3 * W_GRID, (0, 0), (None, 0)),
        (np.float32(0.9), 3 * W_GRID, (None, 0), (None, 0)),
    ],
)
def test_lanes_of_lanes_are_one_row_of_lanes(w, x, inner, outer):
    mapped = fg.vmap(newton, inner)
    check_vmap(mapped, (w, x), outer)
    check_jit(fg.vmap(mapped, outer), (w, x))
    (scan,) = loops(fg.make_jaxpr(fg.vmap(mapped, outer))(w, x))
    assert [e.primitive.name for e in scan.params["jaxpr"].eqns] == ["while"]
    pushed = lambda w, x: fg.jvp(fg.vmap(mapped, outer), (w, x), (w, x))[1][0]  # noqa: E731
    check_jit(pushed, (w, x))


def test_lanes_whose_elements_agree_on_the_steps_stay_together():
    def f(x, n):
        return lax.while_loop(lambda s: s[1] < n, lambda s: (s[0] * x, s[1] + 1), (x, 0))[0]

    args = np.float32([2, 3, 4, 5]), np.int32([3, 1, 2])
    check_vmap(fg.vmap(f, (None, 0)), args, (0, None))
    (scan,) = loops(fg.make_jaxpr(fg.vmap(fg.vmap(f, (None, 0)), (0, None)))(*args))
    assert (scan.params["length"], scan.params["jaxpr"].out_avals[0].shape) == (3, (4,))


def test_one_number_of_steps_for_all_lanes_is_one_loop():
    def f(x, n):
        return lax.fori_loop(0, n, lambda i, c: c * x + i, 1.0)

    mapped = fg.vmap(f, (0, None))
    (eqn,) = loops(fg.make_jaxpr(mapped)(X[0], 3))
    assert eqn.primitive.name == "while"
    check_vmap(f, (X[0], 3), (0, None))


def test_while_in_scan_in_vmap():
    def f(x):
        def step(c, r):
            value, n = lax.while_loop(lambda s: s[0].sum() < 4, lambda s: (s[0] + abs(c) + 0.3, s[1] + 1), (r, 0))
            return c * 0.9 + value.sum() * 0.01, n

        return lax.scan(step, 1.0, x)

    check_vmap(f, (np.stack([X, X * 2, X - 1]),))
    check_jit(fg.vmap(f), (np.stack([X, X * 2, X - 1]),))


def test_lanes_with_effects_step_together():
    seen = []

    def record(x):
        seen.append(np.asarray(x).tolist())
        return x

    batch = lambda axis, args, dims: (noted.bind(*args), dims[0])  # noqa: E731
    noted = Primitive("noted", infer=lambda x: x, evaluate=record, batch=batch, effectful=True)
    del registry["noted"]
    limit = np.int32([1, 3])
    out = fg.vmap(lambda n: lax.while_loop(lambda c: c < n, lambda c: noted.bind(c) + 1, 0))(limit)
    assert out.tolist() == [1, 3]
    assert seen == [[0, 0], [1, 1], [1, 2]]


# ---------------------------------------------------------------- what the rules make


def loops(closed: ClosedJaxpr) -> list[Any]:
    """Every equation of a loop, jitted ones included."""
    found, stack = [], [closed.jaxpr]
    while stack:
        for eqn in stack.pop().eqns:
            if eqn.primitive.name in ("scan", "while"):
                found.append(eqn)
            elif eqn.primitive.name == "jit":
                stack.extend(subjaxprs(eqn.params))
    return found


def test_residuals_of_consts_are_computed_once_and_inputs_are_not_copied():
    def loss(w, x):
        return lax.scan(lambda c, xi: (c * fnp.sin(w) * xi, None), 1.0, x)[0]

    closed = fg.make_jaxpr(fg.grad(loss, (0, 1)))(0.5, X[:, 0])
    check_jaxpr(closed)
    forward, backward = sorted(loops(closed), key=lambda e: e.params["reverse"])
    names = [e.primitive.name for e in forward.params["jaxpr"].eqns]
    assert "sin" not in names and "cos" not in names
    # The carry before each step and its product with sin(w): not x, which both loops read where it is.
    assert len(forward.outvars) - forward.params["num_carry"] == 2
    assert backward.params["reverse"] and not forward.params["reverse"]


def test_carries_without_tangents_have_none():
    def f(x):
        return lax.scan(lambda s, xi: ((s[0] + 1, s[1] * xi, s[2] * 2), None), (0, x, 1.0), X[0])[0]

    (eqn,) = loops(fg.make_jaxpr(lambda x: fg.jvp(f, (x,), (x,))[1][1])(2.0))
    assert eqn.params["num_carry"] == 4


def test_transposing_a_loop_with_a_counter():
    def f(x):
        return lax.fori_loop(0, 3, lambda i, c: c * (i + 1), x)

    (back,) = fg.linear_transpose(f, X)(X)
    assert_close(np.asarray(back), 6 * X)
    (back,) = fg.jit(fg.linear_transpose(f, X))(X)
    assert_close(np.asarray(back), 6 * X)


def test_a_zero_cotangent_stays_zero():
    def loss(x):
        (a, b), ys = lax.scan(lambda s, xi: ((s[0] * xi, s[1] * xi), s[1]), (x, x), X[0])
        return a

    closed = fg.make_jaxpr(fg.grad(loss))(2.0)
    backward = next(e for e in loops(closed) if e.params["reverse"])
    assert backward.params["num_carry"] == 1


def test_eager_loops_share_a_program_and_see_changed_values():
    closed = [fg.make_jaxpr(lambda x, k=k: lax.fori_loop(0, 3, lambda i, c: c * k, x))(1.0) for k in (0.0, 0.0, -0.0)]
    first, again, other = map(interned, closed)
    assert first is closed[0] and again is first and other is closed[2]
    factor = 2.0

    def body(c, x):
        return c * factor, c

    assert float(lax.scan(body, 1.0, length=3)[0]) == 8
    factor = 3.0
    assert float(lax.scan(body, 1.0, length=3)[0]) == 27


# ---------------------------------------------------------------- bad input


def bad_carry(c, x):
    return {"h": c["h"] + x, "n": fnp.stack([c["n"], c["n"]])}, None


class Bad:
    """Programs that are refused: class of the error, program, what the message says."""

    scan = {
        "carry type": (
            errors.ShapeError,
            lambda: lax.scan(bad_carry, {"h": 0.0, "n": np.float32(1)}, X[:, 0]),
            [
                "scan: bad_carry changes the type of its carry",
                "carry['n'] is f32[] at the start and f32[2] at the end",
                "carry in:  {'h': f32[]{weak_type=True}, 'n': f32[]}",
                "carry out: {'h': f32[], 'n': f32[2]}",
                "fix: start from a value",
            ],
        ),
        "carry dtype": (
            errors.DTypeError,
            lambda: lax.scan(lambda c, x: (c + x, c), np.int32(0), X[:, 0]),
            ["carry is i32[] at the start and f32[] at the end", ".astype"],
        ),
        "carry structure": (
            errors.ArgumentError,
            lambda: lax.scan(lambda c, x: ((c, x), c), 0.0, X),
            [
                "returns a carry of another structure",
                "carry in is a leaf, carry out a tuple of 2",
                "carry out: (f32[]{weak_type=True}, f32[3])",
            ],
        ),
        "no pair": (
            errors.ArgumentError,
            lambda: lax.scan(lambda c, x: c + x, 0.0, X[:, 0]),
            ["must return a pair (carry, y), it returned f32[]"],
        ),
        "lengths of xs": (
            errors.ShapeError,
            lambda: lax.scan(lambda c, x: (c, c), 0.0, (X, X[:2])),
            ["different leading sizes: xs[0] f32[4,3], xs[1] f32[2,3]"],
        ),
        "length": (
            errors.ShapeError,
            lambda: lax.scan(lambda c, x: (c, c), 0.0, X, length=5),
            ["length is 5", "f32[4,3]"],
        ),
        "no length": (errors.ArgumentError, lambda: lax.scan(lambda c, x: (c, c), 0.0), ["length is not given"]),
        "negative length": (
            errors.ArgumentError,
            lambda: lax.scan(lambda c, x: (c, c), 0.0, length=-1),
            ["length is -1"],
        ),
        "traced length": (
            errors.ConcretizationError,
            lambda: fg.jit(lambda n: lax.scan(lambda c, x: (c, c), 0.0, length=n))(3),
            ["length is a traced value", "fori_loop"],
        ),
        "scalar xs": (
            errors.ShapeError,
            lambda: lax.scan(lambda c, x: (c, c), 0.0, [1.0, 2.0]),
            ["without a leading axis"],
        ),
        "unroll": (errors.ArgumentError, lambda: lax.scan(lambda c, x: (c, c), 0.0, X, unroll=-1), ["unroll is -1"]),
        "no function": (errors.ArgumentError, lambda: lax.scan(3, 0.0, X), ["scan: 3 is not callable"]),
        "no array": (errors.ArgumentError, lambda: lax.scan(lambda c, x: (c, "y"), 0.0, X), ["'y' of type str at [1]"]),
        "a Python bool": (
            errors.ConcretizationError,
            lambda: lax.scan(lambda c, x: (c if x else -c, c), 0.0, X[:, 0]),
            ["tracing <lambda> for scan", "argument x of <lambda>"],
        ),
        "map": (errors.ArgumentError, lambda: lax.map(lambda x: x, X, batch_size=-2), ["map: batch_size is -2"]),
        "map of nothing": (errors.ArgumentError, lambda: lax.map(lambda x: x, ()), ["map: xs has no arrays"]),
    }
    loops = {
        "predicate dtype": (
            errors.DTypeError,
            lambda: lax.while_loop(lambda c: c, lambda c: c, 0),
            ["the predicate <lambda> must return a bool scalar, it returned i32[]"],
        ),
        "predicate shape": (
            errors.ShapeError,
            lambda: lax.while_loop(lambda c: c < 2, lambda c: c, X),
            ["returned bool[4,3]", ".any()"],
        ),
        "predicate structure": (
            errors.ArgumentError,
            lambda: lax.while_loop(lambda c: (c < 1, c), lambda c: c, 0),
            ["must return one bool, it returned (bool[], i32[]"],
        ),
        "carry dtype": (
            errors.DTypeError,
            lambda: lax.while_loop(lambda c: c < 1, lambda c: c + 0.5, np.int32(0)),
            ["while_loop: <lambda> changes the type", "i32[] at the start and f32[]{weak_type=True} at"],
        ),
        "carry structure": (
            errors.ArgumentError,
            lambda: lax.while_loop(lambda c: c[0] < 1, lambda c: c[:1], (0, 1)),
            ["carry in is a tuple of 2, carry out a tuple of 1"],
        ),
        "fori carry": (
            errors.ShapeError,
            lambda: lax.fori_loop(0, 3, lambda i, c: c[None], X),
            ["fori_loop: <lambda> changes the type", "f32[4,3] at the start and f32[1,4,3] at the end"],
        ),
        "bounds": (
            errors.DTypeError,
            lambda: lax.fori_loop(0, 2.0, lambda i, c: c, 0),
            ["bounds have different types, i32[]{weak_type=True} and f32[]{weak_type=True}"],
        ),
        "bounds of arrays": (
            errors.ShapeError,
            lambda: lax.fori_loop(0, X, lambda i, c: c, 0),
            ["bounds must be scalars"],
        ),
        "unroll": (
            errors.ArgumentError,
            lambda: fg.jit(lambda n: lax.fori_loop(0, n, lambda i, c: c, 0, unroll=2))(3),
            ["unroll=2 with bounds that are traced"],
        ),
        "reverse mode": (
            errors.NotDifferentiableError,
            lambda: fg.grad(lambda x: lax.while_loop(lambda c: c < 9, lambda c: c * x, x))(2.0),
            ["reverse-mode differentiation needs the number of steps", "fori_loop with Python ints"],
        ),
        "reverse mode of fori": (
            errors.NotDifferentiableError,
            lambda: fg.jit(fg.grad(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * x, x)))(2.0, 3),
            ["fori_loop with traced bounds"],
        ),
    }


@pytest.mark.parametrize("case", [*Bad.scan.values(), *Bad.loops.values()], ids=[*Bad.scan, *Bad.loops])
def test_errors_of_bad_input_have_the_cause_the_line_and_a_fix(case):
    error, program, parts = case
    with pytest.raises(error) as caught:
        program()
    message = str(caught.value)
    assert isinstance(caught.value, TypeError | ValueError)
    for part in [*parts, "test_loops_control.py:", "fix: "]:
        assert part in message, message


def test_the_checker_knows_loops():
    closed = fg.make_jaxpr(lambda c, x: lax.scan(lambda c, x: (c + x, c), c, x))(np.float32(0), X[:, 0])
    (eqn,) = closed.eqns
    swapped = eqn.params["jaxpr"].jaxpr
    for change in (
        {"length": 5},
        {"num_carry": 2},
        {"jaxpr": ClosedJaxpr(swapped.replace(outvars=swapped.outvars[:1]))},
        {"jaxpr": ClosedJaxpr(swapped.replace(invars=swapped.invars[:1], outvars=swapped.invars[:1]))},
    ):
        broken = closed.jaxpr.replace(eqns=[eqn.replace(params=eqn.params | change)])
        with pytest.raises(errors.JaxprError):
            check_jaxpr(broken)
    closed = fg.make_jaxpr(lambda c: lax.while_loop(lambda c: c < 3, lambda c: c + 1, c))(np.float32(0))
    (eqn,) = closed.eqns
    for change in (
        {"cond_jaxpr": eqn.params["body_jaxpr"]},
        {"body_jaxpr": eqn.params["cond_jaxpr"]},
        {"body_nconsts": 1},
    ):
        with pytest.raises(errors.JaxprError):
            check_jaxpr(closed.jaxpr.replace(eqns=[eqn.replace(params=eqn.params | change)]))
