"""Functions with rules of their own: rules stand in for derivatives and for vmap in every composition of transforms.

Most rules here are deliberately wrong, so that a result shows which rule made it.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.checking import check_jaxpr
from funcgrad.custom_batching import custom_vmap
from funcgrad.custom_derivatives import SymbolicZero, linear_call, zero_from_primal
from funcgrad.testing import check_grads, check_jit, check_vmap
from tests.comparing import assert_same

F32 = np.float32
X = F32([0.3, -0.7, 1.2])


close = functools.partial(assert_same, rtol=2e-6, atol=1e-6, weak_types=False)


# ---------------------------------------------------------------- compositions

# sin with the derivative x³: value and derivatives of every order. A further custom rule multiplies the first by 10.
ORDERS = (np.sin, lambda x: x**3, lambda x: 3 * x**2, lambda x: 6 * x)


def forward_sin():
    f = fg.custom_jvp(lambda x: fnp.sin(x))
    f.defjvp(lambda primals, tangents: (f(*primals), primals[0] * primals[0] * primals[0] * tangents[0]))
    return f


def reverse_sin():
    f = fg.custom_vjp(lambda x: fnp.sin(x))
    f.defvjp(lambda x: (fnp.sin(x), x), lambda x, ct: (x * x * x * ct,))
    return f


def forward_times_10(f):
    outer = fg.custom_jvp(lambda x: f(x))
    outer.defjvp(lambda primals, tangents: (f(*primals), 10.0 * fg.jvp(f, primals, tangents)[1]))
    return outer


def reverse_times_10(f):
    outer = fg.custom_vjp(lambda x: f(x))
    outer.defvjp(lambda x: (fg.vjp(f, x)[0], x), lambda x, ct: (10.0 * fg.vjp(f, x)[1](ct)[0],))
    return outer


TRANSFORMS = {
    "jit": fg.jit,
    "vmap": fg.vmap,
    "grad": lambda f: fg.grad(lambda x: f(x).sum()),
    "jvp": lambda f: lambda x: fg.jvp(f, (x,), (fnp.ones_like(x),))[1],
}
WORDS = [word for n in (1, 2, 3) for word in itertools.product([*TRANSFORMS, "custom"], repeat=n)]
DERIVATIVES = ("grad", "jvp")


def composed(word, f, custom):
    for name in word:
        f = custom(f) if name == "custom" else TRANSFORMS[name](f)
    return f(np.broadcast_to(X, (2,) * word.count("vmap") + X.shape))


def expected(word):
    """A custom rule multiplies by 10 once something differentiates it, however often."""
    factor = 1
    for i, name in enumerate(word):
        if name == "custom" and any(later in DERIVATIVES for later in word[i:]):
            factor *= 10
    order = sum(name in DERIVATIVES for name in word)
    return np.broadcast_to(factor * ORDERS[order](X), (2,) * word.count("vmap") + X.shape)


@pytest.mark.parametrize("word", WORDS, ids="-".join)
def test_the_forward_rule_is_the_derivative_in_every_composition(word):
    close(composed(word, forward_sin(), forward_times_10), expected(word))


@pytest.mark.parametrize("word", WORDS, ids="-".join)
def test_the_reverse_rule_is_the_derivative_in_every_composition(word):
    # Once a reverse derivative was taken, what results is an ordinary function again.
    opaque = True
    for name in word:
        if name == "jvp" and opaque:
            with pytest.raises(
                TypeError, match=r"custom_vjp: forward mode \(jvp, jacfwd, linearize\) reached <lambda>"
            ):
                composed(word, reverse_sin(), reverse_times_10)
            return
        opaque = (opaque and name != "grad") or name == "custom"
    close(composed(word, reverse_sin(), reverse_times_10), expected(word))


# ---------------------------------------------------------------- jaxprs


def named(m, kind):
    if kind == "custom_jvp":

        @m.custom_jvp
        def f(x):
            return m.numpy.sin(x) * 2.0

        @f.defjvp
        def f_jvp(primals, tangents):
            return f(*primals), 3.0 * tangents[0]

        return f

    @m.custom_vjp
    def g(x):
        return m.numpy.sin(x) * 2.0

    def g_fwd(x):
        return g(x), x

    def g_bwd(x, ct):
        return (3.0 * ct * x,)

    g.defvjp(g_fwd, g_bwd)
    return g


JAXPRS = {
    "call": lambda m, f: m.make_jaxpr(f)(1.0),
    "jit": lambda m, f: m.make_jaxpr(m.jit(f))(1.0),
    "vmap": lambda m, f: m.make_jaxpr(m.vmap(f))(m.numpy.ones(3)),
    "vmap of jit": lambda m, f: m.make_jaxpr(m.vmap(m.jit(f)))(m.numpy.ones(3)),
    "value_and_grad": lambda m, f: m.make_jaxpr(m.value_and_grad(f))(1.0),
    "jvp": lambda m, f: m.make_jaxpr(lambda x: m.jvp(f, (x,), (x,)))(1.0),
}


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
@pytest.mark.parametrize("name", JAXPRS)
def test_jaxprs_are_well_formed_and_keep_the_function(name, kind):
    closed = JAXPRS[name](fg, named(fg, kind))
    check_jaxpr(closed)
    assert f"{kind}_call[\n" in str(closed)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
@pytest.mark.parametrize("name", JAXPRS)
def test_jaxprs_print_as_jax_prints_them(name, kind):
    import jax

    ours, theirs = str(JAXPRS[name](fg, named(fg, kind))), str(JAXPRS[name](jax, named(jax, kind)))
    assert ours.replace("in_zeros=(False,)", "in_zeros=[False]") == theirs


def test_an_evaluated_jaxpr_still_has_the_rule():
    for kind in ("custom_jvp", "custom_vjp"):
        closed = fg.make_jaxpr(lambda x, kind=kind: named(fg, kind)(x * 1.0))(2.0)
        slope = fg.grad(lambda x, closed=closed: fg.core.jaxprs.jaxpr_as_fun(closed)(x)[0])(2.0)
        close(slope, 3.0 if kind == "custom_jvp" else 6.0)


def test_eval_shape_needs_no_values():
    f = named(fg, "custom_vjp")
    struct = fg.ShapeDtypeStruct((3,), "float32")
    assert fg.eval_shape(fg.vmap(f), struct) == struct == fg.eval_shape(fg.vmap(fg.grad(f)), struct)


# ---------------------------------------------------------------- right rules


def _stable(m=fg):
    f = m.custom_jvp(lambda x: fnp.log1p(fnp.exp(x)))
    f.defjvp(lambda p, t: (f(*p), t[0] / (1 + fnp.exp(-p[0]))))
    return f


def _reverse_norm():
    f = fg.custom_vjp(lambda x, y: fnp.sqrt((x * x).sum() + y * y))

    def bwd(residual, ct):
        x, y, norm = residual
        return ct * x / norm, ct * y / norm

    f.defvjp(lambda x, y: (n := fnp.sqrt((x * x).sum() + y * y), (x, y, n)), bwd)
    return f


def test_right_rules_pass_the_checks():
    check_grads(_stable(), (X,), order=3)
    check_grads(fg.jit(_stable()), (X,), order=2)
    check_grads(_reverse_norm(), (X, F32(0.5)), order=2, modes=("rev",))
    check_vmap(_reverse_norm(), (np.stack([X, 2 * X]), F32(0.5)), (0, None))
    check_vmap(fg.grad(_reverse_norm(), (0, 1)), (np.stack([X, 2 * X], 1), F32([0.5, 1])), (1, 0))
    check_jit(fg.vmap(fg.grad(_stable())), (X,))


def test_rules_run_on_concrete_values():
    @fg.custom_jvp
    def f(x):
        return x if x > 0 else 2.0 * x

    f.defjvp(lambda p, t: (f(*p), 10.0 * t[0] if p[0] > 0 else 20.0 * t[0]))
    close((fg.grad(f)(1.0), fg.grad(f)(-1.0), f(-1.0)), (F32(10), F32(20), F32(-2)))


def test_functions_without_a_transform_are_called_as_they_are():
    f = named(fg, "custom_jvp")
    assert f(2.0) == named(fg, "custom_vjp")(fnp.float32(2.0)) and f.__name__ == "f" and repr(f) == "<custom_jvp f>"
    assert isinstance(fg.custom_jvp(lambda x: x), fg.custom_jvp)
    nothing = fg.custom_vjp(lambda: 1.0)
    nothing.defvjp(lambda: (1.0, None), lambda _, ct: ())
    assert nothing() == 1.0 and fg.jit(nothing)() == 1.0


def test_methods_have_rules_too():
    class Scale:
        factor = 3.0

        @functools.partial(fg.custom_jvp, nondiff_argnums=(0,))
        def __call__(self, x):
            return self.factor * x

        @__call__.defjvp
        def rule(self, primals, tangents):
            return self(*primals), 10.0 * self.factor * tangents[0]

    close((Scale()(2.0), fg.grad(Scale())(2.0), fg.vmap(fg.grad(Scale()))(X)), (F32(6), F32(30), F32([30, 30, 30])))


def test_loops_and_branches_keep_the_rules_of_their_functions():
    f, g = named(fg, "custom_jvp"), named(fg, "custom_vjp")
    run = fg.jit(
        lambda x: (
            fg.lax.fori_loop(0, 2, lambda i, c: f(c), x),
            fg.lax.scan(lambda c, _: (g(c), f(c)), x, None, length=2),
            fg.lax.cond(x > 0, f, g, x),
        )
    )
    once = 2 * np.sin(F32(0.5))
    twice = 2 * np.sin(once)
    close(run(0.5), (twice, (twice, F32([once, twice])), once))
    assert "custom_vjp_call" in str(fg.make_jaxpr(run)(0.5))


def _steps(f, g):
    """A step with rules of both kinds, and its repetition, as a loop and unrolled."""

    def step(carry, x):
        return f(g(carry, x)) + x, g(x, carry)

    def unrolled(carry, xs):
        ys = []
        for x in xs:
            carry, y = step(carry, x)
            ys.append(y)
        return carry + fnp.stack(ys).sum()

    def scanned(carry, xs):
        carry, ys = fg.lax.scan(step, carry, xs)
        return carry + ys.sum()

    return unrolled, scanned


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_rules_are_differentiated_in_loops(transform):
    f = named(fg, "custom_jvp")
    g = fg.custom_vjp(lambda x, y: x * y)
    g.defvjp(lambda x, y: (x * y, (x, y)), lambda r, ct: (ct * r[0] * r[1], 3.0 * ct * r[1]))
    unrolled, scanned = _steps(f, g)
    for start, derivative in (
        (X[0], lambda h: fg.grad(h, (0, 1))),
        (X[0], lambda h: fg.grad(lambda x, xs: fg.grad(h, 1)(x, xs).sum())),
        (X, lambda h: fg.vmap(fg.grad(h, (0, 1)), (0, None))),
        (X, lambda h: fg.grad(lambda x, xs: fg.vmap(h, (0, None))(x, xs).sum(), (0, 1))),
    ):
        close(transform(derivative(scanned))(start, X), derivative(unrolled)(start, X), rtol=1e-5)


def test_forward_rules_are_pushed_through_loops_of_any_length():
    f = named(fg, "custom_jvp")
    loop = lambda x: fg.lax.while_loop(lambda c: c < 50.0, lambda c: f(c) + 4.0 * c, x)  # noqa: E731
    once = lambda x: f(x) + 4.0 * x  # noqa: E731
    close(fg.jvp(fg.jit(loop), (1.0,), (1.0,)), (once(once(once(1.0))), F32(7**3)), rtol=1e-5)


def test_rules_in_loops_close_over_values_of_outer_transforms():
    def times(y):
        f = fg.custom_jvp(lambda x: x * y)
        f.defjvp(lambda p, t: (f(*p), 10.0 * y * t[0]))
        return f

    cubed = lambda y: fg.grad(lambda x: fg.lax.scan(lambda c, _: (times(y)(c), None), x, None, length=3)[0])(3.0)  # noqa: E731
    close((fg.jit(cubed)(2.0), fg.vmap(cubed)(X)), (F32(8000), 1000 * X**3), rtol=1e-5)
    pushed = fg.jit(lambda y: fg.jvp(lambda x: fg.lax.fori_loop(0, 3, lambda i, c: times(y)(c), x), (3.0,), (1.0,))[1])
    close(pushed(2.0), F32(8000))


def test_zeros_of_primals():
    assert zero_from_primal(F32([1, 2])).tolist() == [0, 0] and zero_from_primal(3).dtype == fg.float0
    zero = SymbolicZero.from_primal_value(fnp.ones((2, 3)))
    assert (zero.shape, zero.dtype, zero.ndim, zero.size, zero.weak_type) == ((2, 3), F32, 2, 6, False)


def test_linear_calls_are_mapped():
    f = lambda r, x: linear_call(lambda r, x: x / r, lambda r, ct: 10.0 * ct / r, r, x)  # noqa: E731
    r = F32([1, 2, 4])
    close(fg.vmap(f)(r, X), X / r)
    close(fg.vmap(fg.grad(f, 1))(r, X), 10 / r)
    close(fg.grad(lambda x: fg.vmap(f, (0, None))(r, x).sum())(2.0), (10 / r).sum())
    close(fg.jit(fg.grad(lambda x: fg.vmap(f, (None, 0))(2.0, x).sum()))(X), F32([5, 5, 5]))


def test_reverse_mode_differentiates_custom_vmap_functions():
    f = custom_vmap(lambda x, y: x * y)
    f.def_vmap(lambda axis_size, in_batched, x, y: (100.0 * x * y, True))
    ys = F32([1, 2, 3])
    close((fg.grad(f)(2.0, 3.0), fg.jit(fg.grad(f, 1))(2.0, 3.0)), (F32(3), F32(2)))
    close(fg.grad(lambda x: fg.vmap(f)(x, ys).sum())(X), 100 * ys)
    close(fg.vmap(fg.grad(f))(X, ys), ys)


# ---------------------------------------------------------------- derivatives that formulas do not give


@pytest.mark.oracle
def test_cube_roots_have_jax_derivatives_at_zero_and_infinity():
    import jax

    x = F32([0, 1e-30, -8, np.inf])
    ours, theirs = fnp.cbrt, jax.numpy.cbrt
    for _ in range(3):
        close(fg.vmap(ours)(x), np.asarray(jax.vmap(theirs)(x)))
        ours, theirs = fg.grad(ours), jax.grad(theirs)


def test_the_bessel_function_is_smooth_at_zero():
    close((fg.grad(fnp.i0)(0.0), fg.grad(fg.grad(fnp.i0))(0.0)), (F32(0), F32(0.5)))
    check_grads(fnp.i0, (X,), order=2)


# ---------------------------------------------------------------- traced nondiff arguments


@functools.partial(fg.custom_jvp, nondiff_argnums=(0,))
def scaled_sine(options, x):
    return options["scale"] * fnp.sin(x) + options["shift"]


@scaled_sine.defjvp
def _(options, primals, tangents):
    (x,), (t,) = primals, tangents
    return scaled_sine(options, x), 10.0 * options["scale"] * fnp.cos(x) * t  # ten times the true derivative


def _with(k):
    return {"scale": k, "shift": 0.25}


HOLDERS = {
    "cond": lambda k, x: fg.lax.cond(x > 0, lambda k, x: scaled_sine(_with(k), x), lambda k, x: x, k, x),
    "closure of cond": lambda k, x: fg.lax.cond(x > 0, lambda x: scaled_sine(_with(k), x), lambda x: x, x),
    "switch": lambda k, x: fg.lax.switch(1, [lambda k, x: x, lambda k, x: scaled_sine(_with(k), x)], k, x),
    "scan": lambda k, x: fg.lax.scan(lambda c, k: (scaled_sine(_with(k), c), None), x, fnp.stack([k]))[0],
    "fori_loop": lambda k, x: fg.lax.fori_loop(0, 1, lambda i, c: scaled_sine(_with(k + i), c), x),
    "while_loop": lambda k, x: fg.lax.while_loop(
        lambda c: c[0] < 1, lambda c: (c[0] + 1, scaled_sine(_with(k + c[0]), c[1])), (0, x)
    )[1],
    "jit": lambda k, x: fg.jit(lambda k, x: scaled_sine(_with(k), x))(k, x),
    "checkpoint": lambda k, x: fg.checkpoint(lambda k, x: scaled_sine(_with(k), x))(k, x),
    "vmap": lambda k, x: fg.vmap(lambda k, x: scaled_sine(_with(k), x))(k[None], x[None])[0],
    "map": lambda k, x: fg.lax.map(lambda k: scaled_sine(_with(k), x), k[None])[0],
    "custom_vjp": lambda k, x: _around(k, x),
}


@fg.custom_vjp
def _around(k, x):
    return scaled_sine(_with(k), x)


_around.defvjp(
    lambda k, x: fg.vjp(lambda x: scaled_sine(_with(k), x), x), lambda pullback, ct: (fnp.zeros_like(ct), *pullback(ct))
)


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_traced_nondiff_argument_reaches_the_rule_wherever_the_call_is_held(holder):
    f, k, x = HOLDERS[holder], fnp.array(2.0), fnp.array(0.5)
    value, slope = 2 * np.sin(F32(0.5)) + F32(0.25), 20 * np.cos(F32(0.5))
    close((f(k, x), fg.jit(f)(k, x)), (value, value))
    directional = lambda k, x: fg.jvp(f, (k, x), (fnp.ones_like(k), fnp.ones_like(x)))[1]  # noqa: E731
    if holder != "custom_vjp":
        close((directional(k, x), fg.jit(directional)(k, x)), (slope, slope))
    if holder == "while_loop":
        return
    by_both = fg.grad(f, (0, 1))
    close((by_both(k, x), fg.jit(by_both)(k, x)), ((F32(0), slope), (F32(0), slope)))
    close(fg.vmap(fg.grad(f, 1), (0, None))(fnp.stack([k, 2 * k]), x), fnp.stack([slope, 2 * slope]))
    close(fg.grad(fg.jit(fg.grad(f, 1)), 1)(k, x), fg.grad(lambda x: 10 * k * fnp.cos(x))(x))
