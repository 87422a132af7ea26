"""Programs with rules of their own give what these rules say, in funcgrad and in JAX.

A program is a function of a library `m`; most rules in them are deliberately wrong, so that a result shows which rule
made it.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import funcgrad as fg
from tests.comparing import assert_same

F32 = np.float32
PROGRAMS = {}


close = functools.partial(assert_same, rtol=2e-6, atol=1e-6, weak_types=False)


def program(*values):
    """Declare a program of a library `m` that returns these values, in JAX as well."""

    def declare(function):
        PROGRAMS[function.__name__] = (function, values)
        return function

    return declare


def product(m, kind):
    """x · y, with the derivatives 100 and 1000, as a custom_jvp or custom_vjp function."""
    if kind == "custom_jvp":
        f = m.custom_jvp(lambda x, y: x * y)
        f.defjvp(lambda p, t: (p[0] * p[1], 100.0 * t[0] + 1000.0 * t[1]))
    else:
        f = m.custom_vjp(lambda x, y: x * y)
        f.defvjp(lambda x, y: (x * y, ()), lambda _, ct: (100.0 * ct, 1000.0 * ct))
    return f


@program((100.0, 1000.0), (100.0, 1000.0), ([100.0, 100.0], 2000.0), ([100.0, 100.0], [1000.0, 1000.0]), ([0.0, 0.0],))
def several_arguments(m):
    out = []
    for kind in ("custom_jvp", "custom_vjp"):
        f = product(m, kind)
        out.append(
            (
                m.grad(f, (0, 1))(2.0, 3.0),
                m.grad(m.jit(f), (0, 1))(2.0, 3.0),
                m.grad(lambda x, y: m.vmap(f, (0, None))(x, y).sum(), (0, 1))(m.numpy.ones(2), 3.0),  # noqa: B023
                m.vmap(m.grad(f, (0, 1)))(m.numpy.ones(2), m.numpy.ones(2)),
                (m.vmap(m.grad(m.grad(f)))(m.numpy.ones(2), m.numpy.ones(2)),),
            )
        )
    first, second = (m.tree.leaves(o) for o in out)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(first, second, strict=True))
    return out[0]


@program(8.0, 70.0, 8.0, 70.0, 70.0, 70.0)
def nondiff_arguments_of_any_kind(m):
    @functools.partial(m.custom_jvp, nondiff_argnums=(0,))
    def apply(f, x):
        return f(x)

    apply.defjvp(lambda f, primals, tangents: (f(*primals), 70.0 * tangents[0]))

    @functools.partial(m.custom_vjp, nondiff_argnums=(0, 2))
    def apply_reverse(f, x, name):
        return f(x)

    def bwd(f, name, residual, ct):
        assert callable(f) and name == "cube" and np.shape(residual) == ()
        return (70.0 * ct,)

    apply_reverse.defvjp(lambda f, x, name: (f(x), x), bwd)
    cube = lambda x: x**3  # noqa: E731
    return (
        apply(cube, 2.0),
        m.grad(apply, 1)(cube, 2.0),
        apply_reverse(cube, 2.0, "cube"),
        m.grad(apply_reverse, 1)(cube, 2.0, "cube"),
        m.grad(lambda x: m.jit(lambda x: apply(cube, x))(x))(2.0),
        m.vmap(m.grad(lambda x: apply_reverse(cube, x, name="cube")))(m.numpy.ones(1))[0],
    )


@program(16.0, 7.0, 7.0, 9.0, 0.0)
def keywords_and_defaults_become_positions(m):
    @functools.partial(m.custom_jvp, nondiff_argnames=("power",))
    def f(x, power=2):
        return x**power

    f.defjvp(lambda power, primals, tangents: (primals[0] ** power, 7.0 * tangents[0]))

    @m.custom_vjp
    def g(x, y=2.0):
        return x * y

    g.defvjp(lambda x, y: (x * y, None), lambda _, ct: (9.0 * ct, None))
    return (
        f(x=4.0),
        m.grad(f)(4.0),
        m.grad(lambda x: f(power=3, x=x))(4.0),
        m.grad(g)(1.0),
        m.grad(lambda y: g(1.0, y=y))(2.0),
    )


@program({"b": 0.0, "w": [5.0, 5.0, 5.0]}, {"b": 0.0, "w": [5.0, 5.0, 5.0]}, 3.0)
def trees_and_missing_cotangents(m):
    @m.custom_vjp
    def layer(params, x):
        return {"out": (params["w"] * x).sum() + params["b"], "x": x}

    def bwd(residual, ct):
        assert set(ct) == {"out", "x"} and ct["x"].shape == ()
        return {"w": 5.0 * ct["out"] * residual["shape"], "b": None}, None

    layer.defvjp(lambda params, x: (layer(params, x), {"shape": m.numpy.ones_like(params["w"])}), bwd)
    params = {"w": m.numpy.ones(3), "b": m.numpy.float32(1)}
    loss = lambda params, x: layer(params, x)["out"]  # noqa: E731
    return m.grad(loss)(params, 3.0), m.jit(m.grad(loss))(params, 3.0), m.jit(layer)(params, 3.0)["x"]


@program(20.0, 40.0, 20.0, [20.0, 20.0], 0.0)
def symbolic_zeros_say_what_is_differentiated(m):
    @m.custom_jvp
    def f(x, y):
        return x * y

    def rule(primals, tangents):
        x, y = primals
        zeros = [type(t) is m.custom_derivatives.SymbolicZero for t in tangents]
        assert all(t.shape == np.shape(p) and t.dtype == F32 for p, t in zip(primals, tangents, strict=True))
        if all(zeros):
            return x * y, m.custom_derivatives.zero_from_primal(x * y, symbolic_zeros=True)
        return x * y, sum(20.0 * t if i == 0 else 40.0 * t for i, t in enumerate(tangents) if not zeros[i])

    f.defjvp(rule, symbolic_zeros=True)
    return (
        m.grad(f)(2.0, 3.0),
        m.grad(f, 1)(2.0, 3.0),
        m.grad(m.jit(f))(2.0, 3.0),
        m.grad(lambda x: m.vmap(f, (0, None))(x, 3.0).sum())(m.numpy.ones(2)),
        m.grad(lambda z: f(1.0, 2.0) + 0 * z)(1.0),
    )


@program(4.0, 4.0, [4.0, 4.0])
def forward_rules_know_what_is_perturbed(m):
    @m.custom_vjp
    def f(x, n):
        return x * n, x

    def fwd(x, n):
        assert (x.perturbed, n.perturbed) == (True, False)
        values = m.custom_derivatives.custom_vjp_primal_tree_values((x, n))
        return (values[0] * values[1], values[0]), None

    def bwd(_, cts):
        assert type(cts[1]) is m.custom_derivatives.SymbolicZero
        return 4.0 * cts[0], None

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    of_first = lambda x: f(x, 3)[0]  # noqa: E731
    mapped = lambda x: m.vmap(f, (0, None))(x, 3)[0].sum()  # noqa: E731
    return m.grad(of_first)(2.0), m.grad(m.jit(of_first))(2.0), m.grad(mapped)(m.numpy.ones(2))


@program(6.0, 5.0, [5.0, 5.0], 5.0, [5.0, 5.0])
def integers_have_no_tangents(m):
    @m.custom_jvp
    def f(x, n):
        return x * n, n + 1

    def rule(primals, tangents):
        assert tangents[1].dtype == m.dtypes.float0
        return (primals[0] * primals[1], primals[1] + 1), (5.0 * tangents[0], tangents[1])

    f.defjvp(rule)

    @m.custom_vjp
    def g(x, n):
        return x * n, n + 1

    def bwd(_, cts):
        assert cts[1].dtype == m.dtypes.float0
        return 5.0 * cts[0], np.zeros((), m.dtypes.float0)

    g.defvjp(lambda x, n: ((x * n, n + 1), None), bwd)
    xs, ns = m.numpy.ones(2), m.numpy.arange(2)
    return (
        f(2.0, 3)[0],
        m.grad(lambda x: f(x, 3)[0])(2.0),
        m.grad(lambda x: m.vmap(f)(x, ns)[0].sum())(xs),
        m.jit(m.grad(lambda x: g(x, 3)[0]))(2.0),
        m.vmap(m.grad(lambda x, n: g(x, n)[0]))(xs, ns),
    )


@program((12.0, 0.0), 12.0)
def one_rule_per_argument(m):
    f = m.custom_jvp(lambda x, y: x * y)
    f.defjvps(lambda t, value, x, y: t * value * 2.0, None)
    return m.grad(f, (0, 1))(2.0, 3.0), m.jvp(m.jit(f), (2.0, 3.0), (1.0, 1.0))[1]


@program(6.0, (30.0, 20.0), ([30.0, 30.0], [20.0, 20.0]), 10.0)
def custom_gradient_takes_the_pullback(m):
    @m.custom_gradient
    def f(x, y):
        return x * y, lambda ct: (10.0 * ct * y, 10.0 * ct * x)

    x, y = m.numpy.full(2, 2.0), m.numpy.full(2, 3.0)
    return (
        f(2.0, 3.0),
        m.jit(m.grad(f, (0, 1)))(2.0, 3.0),
        m.vmap(m.grad(f, (0, 1)))(x, y),
        m.grad(m.grad(f), 1)(2.0, 3.0),
    )


@program(14.0, 7.0, 7.0)
def closures_become_arguments(m):
    @functools.partial(m.custom_vjp, nondiff_argnums=(0,))
    def twice(f, x, *values):
        return 2.0 * f(x, *values)

    def fwd(f, x, *values):
        return 2.0 * f(x, *values), (x, values)

    def bwd(f, residual, ct):
        _, pull = m.vjp(f, residual[0], *residual[1])
        return pull(2.0 * ct)

    twice.defvjp(fwd, bwd)

    def g(y):
        f, values = m.closure_convert(lambda x: x * y + 0.5 * x * y, 2.0)
        return twice(f, 7.0 / 3.0, *values)

    return g(2.0), m.grad(g)(2.0), m.jit(m.grad(g))(2.0)


@program(1.5, 5.0, 1.5, 0.5, 75.0)
def linear_calls_have_their_transpose_given(m):
    def f(x):
        return m.custom_derivatives.linear_call(lambda r, x: x / r, lambda r, ct: 10.0 * ct / r, 2.0, x)

    return (
        f(3.0),
        m.grad(f)(3.0),
        m.jit(f)(3.0),
        m.jvp(f, (3.0,), (1.0,))[1],
        m.grad(m.grad(lambda x: f(x) ** 3))(1.0) * 10.0,
    )


@program([0.0, 2.0, 4.0], [0.0, 2.0], [3.0, 3.0, 3.0], [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]], [1.0, 1.0, 1.0])
def the_rule_for_vmap_maps(m):
    @m.custom_batching.custom_vmap
    def f(x, y):
        return x + y

    @f.def_vmap
    def rule(axis_size, in_batched, x, y):
        assert type(in_batched) is list and len(in_batched) == 2
        assert (x.shape + (0,))[0] == axis_size or not in_batched[0]
        if in_batched == [True, True]:
            return 2.0 * x * y + 0.0 * y, True
        return 3.0 + 0.0 * x + 0.0 * y, True

    a, ones = m.numpy.arange(3.0), m.numpy.ones(3)
    return (
        m.vmap(f)(a, ones),
        m.jit(m.vmap(f))(a[:2], ones[:2]),
        m.vmap(f, (0, None))(a, 1.0),
        m.vmap(m.vmap(f))(m.numpy.ones((2, 3)), m.numpy.ones((2, 3))),
        m.vmap(lambda x: f(x, x) * 0.0 + 1.0)(a),
    )


@program([4.0, 4.0], [[2.0, 0.0], [0.0, 2.0]], 3.0)
def the_rule_for_vmap_is_differentiated(m):
    @m.custom_batching.custom_vmap
    def f(x):
        return 3.0 * x

    f.def_vmap(lambda axis_size, in_batched, x: (2.0 * x, True))
    x = m.numpy.ones(2)
    return m.jvp(m.vmap(f), (x,), (2.0 * x,))[1], m.jacfwd(m.vmap(f))(x), m.jvp(f, (1.0,), (1.0,))[1]


@program([0.0, 1.0, 4.0], {"a": [0.0, 3.0], "n": [2.0, 2.0]}, [[0.0, 2.0], [4.0, 6.0]])
def sequential_vmap_is_a_loop(m):
    square = m.custom_batching.sequential_vmap(lambda x: x * x)
    scale = m.custom_batching.sequential_vmap(lambda tree, s: {"a": tree["a"] * s, "n": tree["n"] + 1.0})
    return (
        m.vmap(square)(m.numpy.arange(3.0)),
        m.vmap(scale, ({"a": 0, "n": None}, None))({"a": m.numpy.arange(2.0), "n": 1.0}, 3.0),
        m.jit(m.vmap(m.vmap(lambda x: square(x + 1.0) - square(x) - 1.0)))(m.numpy.arange(4.0).reshape(2, 2)),
    )


@program([8.0, 8.0], 9.0, [1.0, 1.0])
def rules_are_stacked(m):
    @m.custom_vjp
    @m.custom_batching.custom_vmap
    def f(x):
        return x

    f.def_vmap(lambda axis_size, in_batched, x: (8.0 * x, True))
    f.defvjp(lambda x: (f(x), None), lambda _, ct: (9.0 * ct,))
    inner = m.custom_vjp(lambda x: x)
    inner.defvjp(lambda x: (x, None), lambda _, ct: (2.0 * ct,))
    outer = m.custom_jvp(lambda x: inner(x))
    outer.defjvp(lambda p, t: (inner(*p), t[0]))
    ones = m.numpy.ones(2)
    return m.vmap(f)(ones), m.grad(f)(1.0), m.vmap(m.grad(outer))(ones)


@program([[60.0, 0.0], [0.0, 60.0]], [[60.0, 0.0], [0.0, 60.0]], 6.0)
def jacobians_of_a_forward_rule(m):
    f = m.custom_jvp(lambda x: x**2)
    f.defjvp(lambda p, t: (f(*p), 10.0 * p[0] ** 3 * t[0]))
    x = m.numpy.ones(2)
    times = m.custom_jvp(lambda v: 3.0 * v)  # a rule may apply a custom function to tangents
    times.defjvp(lambda p, t: (times(*p), times(*t)))
    g = m.custom_jvp(lambda x: x)
    g.defjvp(lambda p, t: (p[0], times(2.0 * t[0])))
    return (
        2.0 * m.jacfwd(m.jacrev(lambda x: f(x).sum()))(x),
        m.hessian(lambda x: 2.0 * f(x).sum())(x),
        m.grad(m.jit(g))(1.0),
    )


@program([0.0, 10.0, 20.0], [0.0, 3.0, 6.0], [0.0, 1.0, 4.0], 20.0, [20.0, 20.0])
def functions_close_over_what_is_mapped_or_jitted(m):
    def times(y):
        f = m.custom_vjp(lambda x: x * y)
        f.defvjp(lambda x: (x * y, None), lambda _, ct: (10.0 * ct * y,))
        return f

    ys = m.numpy.arange(3.0)
    return (
        m.vmap(lambda y: m.grad(times(y))(3.0))(ys),
        m.vmap(lambda y: times(y)(3.0))(ys),
        m.jit(m.vmap(lambda y: times(y)(y)))(ys),
        m.jit(lambda y: m.grad(times(y))(3.0))(2.0),
        m.jit(lambda y: m.grad(lambda x: m.vmap(times(y))(x).sum())(m.numpy.ones(2)))(2.0),
    )


@program([2.0, 4.0], [4.0, 2.0], 7.0)
def unmapped_arguments_stay_unmapped(m):
    f = m.custom_jvp(lambda x, w: x * w)
    f.defjvp(lambda p, t: (f(*p), t[0] * p[1] + t[1] * p[0]))
    g = m.custom_vjp(lambda x: (x, 7.0))
    g.defvjp(lambda x: ((x, 7.0), None), lambda _, cts: (cts[0],))
    same = lambda x: f(2.0, 3.5) + 0.0 * x  # noqa: E731
    return (
        m.vmap(f, (0, None))(m.numpy.float32([1, 2]), 2.0),
        m.vmap(f, in_axes=(1, None), out_axes=0)(m.numpy.float32([[2, 1]]), m.numpy.float32([2]))[:, 0],
        m.vmap(lambda x: (f(2.0, 3.5), x), out_axes=(None, 0))(m.numpy.ones(2))[0] + 0.0 * same(m.numpy.ones(2)).sum(),
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_their_rules(name):
    run, values = PROGRAMS[name]
    close(fg.tree.leaves(run(fg)), [F32(v) for v in fg.tree.leaves(values, is_leaf=lambda v: isinstance(v, list))])


@pytest.mark.oracle
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_jax(name):
    import jax
    import jax.custom_batching
    import jax.custom_derivatives

    run, _ = PROGRAMS[name]
    ours, theirs = run(fg), run(jax)
    close(ours, fg.tree.map(np.asarray, theirs))
    for a, b in zip(fg.tree.leaves(ours), fg.tree.leaves(theirs), strict=True):
        if isinstance(b, jax.Array):  # not a Python number, as which JAX may return what was made of one
            assert (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
