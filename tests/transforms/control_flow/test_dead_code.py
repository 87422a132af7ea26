"""Dead-code elimination through branches and loops: what nothing reads is not computed, and results stay."""

import numpy as onp
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.jaxprs import dce_jaxpr, eval_jaxpr


def dce(fun, used, *args):
    """Drop all but the used results; check that those are as before, and that the jaxpr is well formed."""
    closed = fg.make_jaxpr(fun)(*args)
    smaller, read = dce_jaxpr(closed, used)
    check_jaxpr(smaller)
    before = eval_jaxpr(closed.jaxpr, closed.consts, *args)
    after = eval_jaxpr(smaller.jaxpr, smaller.consts, *(a for a, r in zip(args, read, strict=True) if r))
    for x, y in zip([x for x, u in zip(before, used, strict=True) if u], after, strict=True):
        onp.testing.assert_array_equal(x, y)
    return smaller, read


def names(closed):
    """The names of all primitives in a jaxpr and those inside it."""
    found = []
    for eqn in closed.eqns:
        found.append(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if type(inner) is type(closed):
                    found += names(inner)
    return found


def scanned(c, d, xs):
    def step(carry, x):
        c, d, e = carry
        return (c + np.sin(x), np.cos(c) * d, np.exp(e)), (c, e)

    (c, d, _), ys = fg.lax.scan(step, (c, d, d), xs)
    return c, d, *ys


ARGS = onp.float32(0.5), onp.float32(0.25), onp.arange(3, dtype=onp.float32)


@pytest.mark.parametrize(
    ("used", "dropped", "read"),
    [
        ([True, False, False, False], {"cos", "exp", "mul"}, [True, False, True]),
        ([False, True, False, False], {"exp"}, [True, True, True]),  # d reads c in the next step
        ([False, False, True, False], {"cos", "exp", "mul"}, [True, False, True]),
        ([False, False, False, True], {"sin", "cos", "add", "mul"}, [False, True, False]),
    ],
)
def test_a_scan_keeps_the_carries_that_later_steps_read(used, dropped, read):
    smaller, inputs = dce(scanned, used, *ARGS)
    assert not dropped & set(names(smaller))
    assert inputs == read
    assert len(smaller.eqns[-1].outvars) == len(smaller.eqns[-1].params["jaxpr"].out_avals)


def test_a_while_keeps_the_carries_of_its_predicate():
    def fun(n, x, y, z):
        step = lambda s: (s[0] + 1, np.sin(s[1]), s[2] * s[1], np.exp(s[3]))  # noqa: E731
        return fg.lax.while_loop(lambda s: s[0] < n, step, (0, x, y, z))

    smaller, read = dce(fun, [False, False, True, False], 3, 0.5, 2.0, 1.0)
    assert "exp" not in names(smaller) and "sin" in names(smaller)
    assert read == [True, True, True, False]
    smaller, read = dce(fun, [False, False, False, True], 3, 0.5, 2.0, 1.0)
    assert not {"sin", "mul"} & set(names(smaller))
    assert read == [True, False, False, True]


def test_a_cond_keeps_the_operands_that_some_branch_reads():
    def fun(i, x, y, z):
        return fg.lax.switch(i, [lambda x, y, z: (np.sin(x), z), lambda x, y, z: (np.cos(y), np.exp(z) * x)], x, y, z)

    smaller, read = dce(fun, [True, False], 1, 0.5, 2.0, 1.0)
    assert "exp" not in names(smaller)
    assert read == [True, True, True, False]


def test_effects_are_kept():
    def fun(x):
        def step(c, _):
            fg.debug.print("{}", c)
            return np.sin(c), np.exp(c)

        return fg.lax.scan(step, x, None, length=2)

    closed = fg.make_jaxpr(fun)(1.0)
    smaller, read = dce_jaxpr(closed, [False, False])
    check_jaxpr(smaller)
    assert "debug_print" in names(smaller) and "sin" in names(smaller) and "exp" not in names(smaller)
    assert read == [True]


def test_where_all_is_needed_the_jaxpr_is_the_same():
    closed = fg.make_jaxpr(scanned)(*ARGS)
    smaller, _ = dce_jaxpr(closed, [True] * 4)
    again, _ = dce_jaxpr(smaller, [True] * 4)
    assert again is smaller


def test_an_unused_operand_of_a_loop_is_dropped_though_all_results_are_used():
    def fun(x, y):
        def step(c, _):
            unused = np.exp(y)  # noqa: F841
            return np.sin(c), None

        return fg.lax.scan(step, x, None, length=3)[0]

    smaller, read = dce(fun, [True], 1.0, 2.0)
    assert read == [True, False] and "exp" not in names(smaller)


def test_an_invariant_equation_with_two_results_leaves_the_loop_once():
    """One of its results is a residual, the other is read by the loop of what is known."""

    def fun(w, c, xs):
        def step(c, x):
            a, b = fg.jit(lambda w: (np.sin(w), np.cos(w)))(w)
            return c * a, b * x

        y, pushforward = fg.linearize(lambda c: fg.lax.scan(step, c, xs), c)
        return y, pushforward(c)

    args = 1.0, 2.0, onp.arange(3, dtype=onp.float32)
    closed = fg.make_jaxpr(fun)(*args)
    check_jaxpr(closed)
    assert names(closed).count("sin") == names(closed).count("cos") == 1
    (c, ys), (dc, dys) = fun(*args)
    onp.testing.assert_allclose(c, 2 * onp.sin(1.0) ** 3, rtol=1e-6)
    onp.testing.assert_allclose(dc, c, rtol=1e-6)
    onp.testing.assert_allclose(ys, onp.cos(1.0) * args[2], rtol=1e-6)
    assert not onp.any(onp.asarray(dys))
