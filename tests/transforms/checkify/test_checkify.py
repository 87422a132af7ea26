"""Checked functions: errors are values, the first one wins, and it is the one JAX reports."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import disable_jit
from funcgrad.errors import ArgumentError, FuncgradError
from funcgrad.experimental import checkify
from funcgrad.testing import assert_close, check_grads

ALL = checkify.all_checks
F32 = np.float32
ROWS = np.arange(12, dtype=F32).reshape(3, 4)


def root(x):
    checkify.check(x >= 0, "{} has no root", x)
    return jnp.sqrt(x)


def scan_down(x):
    def body(carry, step):
        checkify.check(step < carry, "{step} is not below {carry}", step=step, carry=carry)
        return carry - 1, step / carry

    return lax.scan(body, x, jnp.arange(5.0))[1]


def count_up(x):
    def condition(value):
        checkify.check(value < 20, "the predicate got {}", value)
        return value < 7

    def body(value):
        checkify.check(value < 5, "the body got {}", value)
        return value + 2

    return lax.while_loop(condition, body, x)


def branch(x):
    def positive(x):
        checkify.check(x < 5, "{} is large", x)
        return x

    return lax.cond(x > 0, positive, jnp.log, x)


def loop_in_branch(x):
    def loop(x):
        return lax.scan(lambda c, i: (root(c - i), c), x, jnp.arange(3.0))[0]

    return lax.cond(x > 0, loop, lambda x: x, x)


# name: (function, arguments, what is checked, the class and the numbers of the error)
CASES = {
    "passes": (root, (F32(4),), ALL, None, ()),
    "check": (root, (F32(-1),), checkify.user_checks, "FailedCheckError", (-1.0,)),
    "check and nan": (root, (F32(-1),), ALL, "FailedCheckError", (-1.0,)),
    "check not enabled": (root, (F32(-1),), checkify.nan_checks, "NaNError", ("sqrt",)),
    "jit": (lambda x: fg.jit(lambda y: root(y) + fg.jit(root)(-y))(x), (F32(0.5),), ALL, "FailedCheckError", (-0.5,)),
    "vmap": (fg.vmap(root), (np.array([1, -2, -3, 4], F32),), checkify.user_checks, "FailedCheckError", (-3.0,)),
    "grad": (fg.grad(root), (F32(-1),), checkify.user_checks, "FailedCheckError", (-1.0,)),
    "grad by zero": (fg.grad(jnp.log), (F32(0),), checkify.div_checks, "DivisionByZeroError", ()),
    "scan": (scan_down, (F32(4),), ALL, "FailedCheckError", (2.0, 2.0)),
    "scan divides": (scan_down, (F32(0),), checkify.float_checks, "DivisionByZeroError", ()),
    "scan passes": (scan_down, (F32(40),), ALL, None, ()),
    "while body": (count_up, (F32(2),), ALL, "FailedCheckError", (6.0,)),
    "while predicate": (count_up, (F32(30),), ALL, "FailedCheckError", (30.0,)),
    "cond first": (branch, (F32(6),), ALL, "FailedCheckError", (6.0,)),
    "cond passes": (branch, (F32(3),), ALL, None, ()),
    "cond other": (branch, (F32(-3),), ALL, "NaNError", ("log",)),
    "loop in cond": (loop_in_branch, (F32(1),), ALL, "FailedCheckError", (-2.0,)),
    "integer division": (lambda x, y: x // y, (np.int32(3), np.int32(0)), ALL, "DivisionByZeroError", ()),
    "division": (lambda x, y: x / y, (ROWS[0], ROWS[0]), checkify.float_checks, "DivisionByZeroError", ()),
    "index": (lambda x, i: x[i], (ROWS, np.int32(5)), ALL, "OOBError", (5, 0, 3)),
    "negative index": (lambda x, i: x[i], (ROWS, np.int32(-5)), ALL, "OOBError", (-2, 0, 3)),
    "static index": (lambda x: x[1, 4], (ROWS,), ALL, "OOBError", (4, 1, 4)),
    "last index": (lambda x, i: x[i, -4], (ROWS, np.int32(-3)), ALL, None, ()),
    "gather": (lambda x, i: x[:, i], (ROWS, np.array([0, 7, 9])), ALL, "OOBError", (7, 1, 4)),
    "take": (lambda x, i: jnp.take(x, i, axis=1), (ROWS, np.array([[1, 2], [3, 4]])), ALL, "OOBError", (4, 1, 4)),
    "take_along_axis": (
        lambda x, i: jnp.take_along_axis(x, i, axis=1),
        (ROWS, np.array([[0], [7], [9]])),
        ALL,
        "OOBError",
        (7, 1, 4),
    ),
    "scatter": (lambda x, i: x.at[i].set(0.0), (jnp.asarray(ROWS), np.int32(9)), ALL, "OOBError", (9, 0, 3)),
    "scatter nan": (lambda x: x.at[1].add(jnp.nan), (jnp.asarray(ROWS),), ALL, "NaNError", ("scatter-add",)),
    "dynamic_slice": (
        lambda x, i: lax.dynamic_slice(x, (i, 0), (2, 2)),
        (ROWS, np.int32(2)),
        ALL,
        "OOBError",
        (2, 0, 3),
    ),
    "dynamic_update_slice": (
        lambda x, i: lax.dynamic_update_slice(x, jnp.ones((2, 2)), (1, i)),
        (ROWS, np.int32(3)),
        ALL,
        "OOBError",
        (3, 1, 4),
    ),
    "empty indices": (lambda x, i: x[i], (ROWS, np.zeros(0, np.int32)), ALL, None, ()),
}
NUMBERS = {
    "FailedCheckError": lambda e: tuple(map(float, [*e.args, *e.kwargs.values()])),
    "NaNError": lambda e: (e.prim,),
    "OOBError": lambda e: tuple(map(int, e.payload)),
    "DivisionByZeroError": lambda e: (),
}


@pytest.mark.parametrize("mode", ["interpreted", "eager", "compiled"])
@pytest.mark.parametrize("name", CASES)
def test_the_error_is_the_first_that_failed(name: str, mode: str):
    fun, args, errors, kind, numbers = CASES[name]
    checked = checkify.checkify(fun, errors=errors)
    with disable_jit(mode == "interpreted"):
        error, out = (fg.jit(checked) if mode == "compiled" else checked)(*map(jnp.asarray, args))
    exception = error.get_exception()
    assert (type(exception).__name__ if exception else None) == kind
    if exception is None:
        assert error.get() is None
        error.throw()
        return
    assert sorted(map(str, NUMBERS[kind](exception))) == sorted(map(str, numbers))
    with pytest.raises(checkify.JaxRuntimeError) as caught:
        error.throw()
    assert caught.value.__cause__.__class__.__name__ == kind
    assert "test_checkify.py:" in str(caught.value), "the user's line"


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_errors_agree_with_jax(name: str):
    import jax
    from jax.experimental import checkify as theirs

    modules = {"fg": jax, "jnp": jax.numpy, "lax": jax.lax, "checkify": theirs}

    def translated(fun, env):
        return type(fun)(fun.__code__, env, fun.__name__, fun.__defaults__, fun.__closure__)

    env = globals() | modules
    for helper in (root, scan_down, count_up, branch, loop_in_branch):
        env[helper.__name__] = translated(helper, env)
    fun, args, errors, *_ = CASES[name]
    if name in ("vmap", "grad", "grad by zero"):
        their_fun = {
            "vmap": jax.vmap(env["root"]),
            "grad": jax.grad(env["root"]),
            "grad by zero": jax.grad(jax.numpy.log),
        }[name]
    else:
        their_fun = translated(fun, env)
    named = {"FailedCheckError": "user", "NaNError": "nan", "OOBError": "index", "DivisionByZeroError": "div"}
    their_errors = frozenset().union(*(getattr(theirs, f"{named[e.__name__]}_checks") for e in errors))
    wanted, their_out = theirs.checkify(their_fun, errors=their_errors)(*map(jax.numpy.asarray, args))
    error, out = checkify.checkify(fun, errors=errors)(*map(jnp.asarray, args))
    if wanted.get() is None:
        assert error.get() is None
    else:
        kind = type(error.get_exception()).__name__
        assert kind == type(wanted.get_exception()).__name__
        # The array that is indexed may be a slice already, of another shape.
        their_text, text = (e.get().split(" index ")[-1] for e in (wanted, error))
        assert text.startswith(their_text.rstrip(". "))
    assert_close(out, np.asarray(their_out), check_dtypes=False)


def test_mapped_errors_are_told_by_lane():
    xs = np.array([1, -2, -3, 4], F32)
    for error, _ in (fg.vmap(checkify.checkify(root))(xs), fg.jit(fg.vmap(checkify.checkify(root)))(xs)):
        assert error.get() == "\n".join(
            f"at mapped index {i}: {x} has no root (`check` failed)" for i, x in ((1, -2.0), (2, -3.0))
        )
        assert set(error.get_exception().error_mapping) == {(1,), (2,)}
        with pytest.raises(checkify.JaxRuntimeError, match="-3.0 has no root"):
            error.throw()
    twice = fg.vmap(fg.vmap(checkify.checkify(root)))(xs.reshape(2, 2))[0]
    assert set(twice.get_exception().error_mapping) == {(0, 1), (1, 0)}
    assert fg.vmap(checkify.checkify(root))(np.abs(xs))[0].get() is None
    loops = fg.vmap(checkify.checkify(count_up))(np.array([2, 19, 6, 30], F32))[0].get_exception().error_mapping
    assert {i: float(e.args[0]) for (i,), e in loops.items()} == {0: 6.0, 2: 6.0, 3: 30.0}


def test_checked_functions_are_differentiated():
    def plain(x):
        return lax.scan(lambda c, i: (root(c) * (1 + i) / c, c), x, jnp.arange(3.0))[1].sum()

    def value(x):
        error, out = checkify.checkify(plain, errors=ALL)(x)
        return out, error

    check_grads(lambda x: value(x)[0], (F32(2.0),), order=2, rtol=2e-2)
    (out, error), gradient = fg.value_and_grad(value, has_aux=True)(F32(2.0))
    assert error.get() is None
    assert_close(gradient, fg.jit(fg.grad(lambda x: value(x)[0]))(F32(2.0)))
    error, of_derivative = fg.jit(checkify.checkify(fg.grad(plain), errors=ALL))(F32(2.0))
    assert_close(of_derivative, gradient)
    assert error.get() is None
    with pytest.raises(checkify.JaxRuntimeError, match="-2.0 has no root"):
        fg.value_and_grad(value, has_aux=True)(F32(-2.0))[0][1].throw()


@pytest.mark.parametrize("decorator", [fg.custom_jvp, fg.custom_vjp])
def test_functions_with_custom_rules_are_checked_and_keep_them(decorator):
    seen = []

    def shown_root(x):
        fg.debug.callback(lambda value: seen.append(float(value)), x)
        return root(x)

    fun = decorator(shown_root)
    if decorator is fg.custom_jvp:
        fun.defjvp(lambda x, v: (jnp.sqrt(x[0]), 10 * v[0]))
    else:
        fun.defvjp(lambda x: (jnp.sqrt(x), ()), lambda _, ct: (10 * ct,))
    for transform in (lambda f: f, fg.jit):
        checked = transform(checkify.checkify(lambda x: 2 * fun(x), errors=ALL))
        value = lambda x: checked(x)[::-1]  # noqa: B023, E731
        for x in (F32(4), F32(-4)):
            seen.clear()
            error, out = checked(x)
            fg.effects_barrier()
            assert seen == [x]
            assert error.get() == (None if x > 0 else "-4.0 has no root (`check` failed)")
            assert_close(out, 2 * jnp.sqrt(x))
            (_, error), gradient = transform(fg.value_and_grad(value, has_aux=True))(x)
            assert gradient == 20 and (error.get() is None) == (x > 0)
        assert set(fg.vmap(checked)(np.array([1, -1], F32))[0].get_exception().error_mapping) == {(1,)}


def test_a_failed_check_raises_outside_of_compiled_code():
    with pytest.raises(checkify.JaxRuntimeError, match="-1.0 has no root") as caught:
        root(F32(-1))
    assert (
        isinstance(caught.value, FuncgradError)
        and isinstance(caught.value, ValueError)
        and "in root" in str(caught.value)
    )
    with pytest.raises(checkify.JaxRuntimeError, match="-3.0 has no root"):
        fg.vmap(root)(np.array([-2, -3], F32))
    with pytest.raises(checkify.JaxRuntimeError, match="-1.0 has no root"):
        fg.grad(root)(F32(-1))
    with disable_jit(), pytest.raises(checkify.JaxRuntimeError, match="-1.0 has no root"):
        fg.jit(root)(F32(-1))


@pytest.mark.parametrize("transform", [fg.jit, lambda f: fg.jit(fg.grad(f)), lambda f: fg.grad(fg.jit(f))])
def test_compiling_a_check_that_is_not_functionalized_is_an_error(transform):
    with pytest.raises(ArgumentError, match="was not functionalized") as caught:
        transform(root)(F32(1))
    assert "in root" in str(caught.value) and "fix: transform the function with checkify" in str(caught.value)


def test_errors_become_exceptions_and_errors_again():
    def outer(x):
        error, out = fg.jit(checkify.checkify(root))(x)
        checkify.check_error(error)
        return out

    assert_close(outer(F32(4)), F32(2))
    with pytest.raises(checkify.JaxRuntimeError, match="-1.0 has no root"):
        outer(F32(-1))
    assert checkify.checkify(outer)(F32(-1))[0].get() == "-1.0 has no root (`check` failed)"
    assert checkify.checkify(outer, errors=checkify.index_checks)(F32(-1))[0].get() is None
    assert checkify.init_error.get() is None and str(checkify.init_error) == "Error(None)"


def test_debug_checks_are_for_checkify_only():
    def fun(x):
        checkify.debug_check(x != 0, "{} is zero", x)
        return x

    assert_close(fun(F32(0)), F32(0))
    assert_close(fg.jit(fun)(F32(0)), F32(0))
    assert fg.jit(checkify.checkify(fun))(F32(0))[0].get() == "0.0 is zero (`check` failed)"


def test_checks_share_compiled_programs():
    checked = fg.jit(checkify.checkify(root))
    for x in (1, -1, 4):
        error, _ = checked(F32(x))
        assert (error.get() is None) == (x >= 0)
    assert checked.cache_info().traces == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checkify.check(jnp.array([True]), "a"), "check: the predicate is Array([ True], dtype=bool)"),
        (lambda: checkify.debug_check(1, "a"), "debug_check: the predicate is 1, not a bool scalar"),
        (lambda: checkify.check(True, "{}", 3.0), "check: formatting argument 3.0 of type float is not an array"),
        (lambda: checkify.check_error("bad"), "check_error: the argument is a str, not an Error"),
        (lambda: checkify.checkify(root, errors={"nan"}), "checkify: errors has 'nan', which is not a kind of check"),
    ],
)
def test_wrong_arguments_are_errors(call, message):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert message in str(caught.value) and "fix: " in str(caught.value)
