"""Python functions called from programs: their arguments, results, order, and how transforms see them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.core.arrays import Array
from funcgrad.experimental import io_callback
from funcgrad.testing import check_vmap

X = np.array([0.5, 1.0, 2.0], np.float32)
METHODS = ("sequential", "sequential_unrolled", "expand_dims", "broadcast_all", "legacy_vectorized")
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])


def f32(*shape):
    return fg.ShapeDtypeStruct(shape, np.float32)


def maybe_jit(f, compiled):
    return fg.jit(f) if compiled else f


# ---------------------------------------------------------------- arguments and results


@COMPILED
def test_the_function_gets_arrays_and_its_results_become_arrays(compiled):
    seen = []

    def host(a, pair, *, scale, name):
        seen.append((type(a), type(pair[1]), type(scale), name))
        return {"sum": np.asarray(a) + np.asarray(pair[0]), "scaled": [np.float64(3.0) * float(scale)]}

    def f(x):
        result = {"sum": f32(3), "scaled": [f32()]}
        return fg.pure_callback(host, result, x, (x + 1, 2), scale=jnp.float32(2), name="text")

    out = maybe_jit(f, compiled)(X)
    assert seen == [(Array, Array, Array, "text")]
    np.testing.assert_array_equal(out["sum"], 2 * X + 1)
    assert out["sum"].dtype == np.float32 and float(out["scaled"][0]) == 6.0


@COMPILED
def test_arguments_and_results_are_copied(compiled):
    kept, mine = [], np.zeros(3, np.float32)

    def host(x):
        kept.append(x)
        return mine

    f = maybe_jit(lambda x: fg.pure_callback(host, f32(3), jnp.sin(x) * 2) + 1, compiled)
    first, second = f(X), f(X + 1)
    mine[:] = 7
    np.testing.assert_array_equal(first, np.ones(3))
    np.testing.assert_array_equal(second, np.ones(3))
    np.testing.assert_allclose(kept[0], np.sin(X) * 2, rtol=1e-6)
    np.testing.assert_allclose(kept[1], np.sin(X + 1) * 2, rtol=1e-6)


@COMPILED
def test_no_arguments_and_no_results(compiled):
    calls = []
    assert maybe_jit(lambda: fg.pure_callback(lambda: np.float32(4), f32()), compiled)() == 4.0
    assert maybe_jit(lambda: io_callback(lambda: calls.append("here"), None), compiled)() is None
    assert calls == ["here"]


def test_a_pure_call_whose_result_is_not_used_is_dropped_and_an_effect_is_not():
    calls = []

    def host(x):
        calls.append("host")
        return x

    @fg.jit
    def f(x):
        fg.pure_callback(host, f32(3), x)
        io_callback(lambda: calls.append("effect"), None)
        return x

    f(X)
    f(X)
    assert calls == ["effect", "effect"]


def test_a_callback_may_call_jitted_functions():
    inner = fg.jit(lambda x: jnp.sin(x) * 2)
    outer = fg.jit(lambda x: fg.pure_callback(lambda v: inner(v) + fg.grad(lambda y: jnp.sum(y**2))(v), f32(3), x) + 1)
    np.testing.assert_allclose(outer(X), np.sin(X) * 2 + 2 * X + 1, rtol=1e-6)


@COMPILED
def test_numpy_warns_and_raises_in_a_callback_as_around_its_call(compiled):
    def f(x):
        return fg.pure_callback(lambda v: np.log(np.asarray(v)), f32(3), x)

    with pytest.warns(RuntimeWarning, match="invalid value encountered in log"):
        maybe_jit(f, compiled)(-X)
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        maybe_jit(f, compiled)(-X)
    with np.errstate(invalid="ignore"):
        maybe_jit(f, compiled)(-X)


def test_closures_of_callbacks_are_freed():
    class Owner:
        pass

    owner = Owner()
    alive = weakref.ref(owner)
    fg.pure_callback(lambda x, owner=owner: x, f32(3), X)
    del owner
    gc.collect()
    assert alive() is None


# ---------------------------------------------------------------- transforms


@COMPILED
@pytest.mark.parametrize("method", METHODS)
def test_vmap_is_the_loop_over_elements(method, compiled):
    def f(x, y):
        return fg.pure_callback(lambda a, b: np.sin(a) + np.asarray(b) * 2, f32(), x, y, vmap_method=method)

    for axes in [(0, 0), (0, None), (None, 0)]:
        args = [X if a == 0 else X[1] for a in axes]
        check_vmap(maybe_jit(f, compiled), args, axes)
    twice = fg.vmap(fg.vmap(f, (0, None)), (0, None))
    np.testing.assert_allclose(maybe_jit(twice, compiled)(X[None], X[1]), np.sin(X[None]) + X[1] * 2, rtol=1e-6)


SHAPES_SEEN = {
    "sequential": [((), ())] * 3,
    "sequential_unrolled": [((), ())] * 3,
    "expand_dims": [((3,), (1,))],
    "broadcast_all": [((3,), (3,))],
    "legacy_vectorized": [((3,), ())],
}


@pytest.mark.parametrize("method", METHODS)
def test_each_vmap_method_calls_as_documented(method):
    seen = []

    def host(a, b):
        seen.append((a.shape, b.shape))
        return a + b

    fg.vmap(lambda x: fg.pure_callback(host, f32(), x, 1.0, vmap_method=method))(X)
    assert seen == SHAPES_SEEN[method]


@pytest.mark.oracle
@pytest.mark.parametrize("method", METHODS)
def test_each_method_calls_as_in_jax(method):
    import jax

    def shapes(library):
        seen = []

        def host(a, b):
            seen.append((np.shape(a), np.shape(b)))
            return np.asarray(a) + np.asarray(b)

        def f(x, y):
            return library.pure_callback(host, library.ShapeDtypeStruct((), np.float32), x, y, vmap_method=method)

        np.asarray(library.vmap(library.vmap(f, (0, None)), (0, None))(np.ones((2, 3), np.float32), 1.0))
        return seen

    assert shapes(fg) == shapes(jax)


def test_no_derivative_but_with_stop_gradient():
    def f(x):
        return jnp.sum(fg.pure_callback(np.sin, f32(3), lax.stop_gradient(x)) * x)

    np.testing.assert_allclose(fg.grad(f)(X), np.sin(X), rtol=1e-6)
    np.testing.assert_allclose(fg.jit(fg.grad(fg.jit(f)))(X), np.sin(X), rtol=1e-6)


def test_callbacks_in_loops_and_branches():
    calls = []

    def host(i):
        calls.append(int(i))
        return np.float32(i) * 2

    def step(carry, i):
        even = lax.cond(
            i % 2 == 0, lambda: io_callback(host, f32(), i), lambda: fg.pure_callback(lambda: np.float32(1), f32())
        )
        return carry + even, even

    f = fg.jit(lambda: lax.scan(step, jnp.float32(0), jnp.arange(5)))
    total, rows = f()
    np.testing.assert_array_equal(rows, [0, 1, 4, 1, 8])
    assert float(total) == 14.0 and calls == [0, 2, 4]
    calls.clear()
    f()
    assert calls == [0, 2, 4]

    def count(i):
        io_callback(host, f32(), i, ordered=True)
        return i + 1

    calls.clear()
    assert int(fg.jit(lambda n: lax.while_loop(lambda i: i < n, count, 0))(3)) == 3
    assert calls == [0, 1, 2]


def test_effects_happen_in_the_order_of_the_program():
    order = []

    def note(name):
        return lambda *_: order.append(name)

    @fg.jit
    def inner(x):
        io_callback(note("c"), None, jnp.sum(x))
        fg.debug.callback(note("d"), x)
        return x * 2

    @fg.jit
    def f(x):
        fg.debug.callback(note("a"))
        y = x @ x
        io_callback(note("b"), None, y, ordered=True)
        z = inner(y) + inner(x)
        fg.debug.callback(note("e"), z)
        return z

    f(np.eye(3, dtype=np.float32))
    assert "".join(order) == "abcdcde"


def test_an_io_callback_sees_each_element_of_a_batch_in_order():
    seen = []

    def host(x):
        seen.append(float(x))
        return x

    np.testing.assert_array_equal(fg.jit(fg.vmap(lambda x: io_callback(host, f32(), x)))(X), X)
    assert seen == X.tolist()
    fg.vmap(lambda x: x + io_callback(host, f32(), 7.0, ordered=True))(X)
    assert seen == [*X.tolist(), 7.0]


# ---------------------------------------------------------------- exceptions


@COMPILED
@pytest.mark.parametrize("call", [fg.pure_callback, io_callback])
def test_an_exception_comes_out_unchanged(call, compiled):
    class Mine(Exception):
        pass

    mine = Mine("mine")

    def host(x):
        raise mine

    f = maybe_jit(lambda x: call(host, f32(3), x) + 1, compiled)
    for _ in range(2):  # the program can run again
        with pytest.raises(Mine) as caught:
            f(X)
        assert caught.value is mine


ROW = f32(3)


def bad(result, promised=ROW, call=fg.pure_callback, transform=fg.jit):
    return lambda: transform(lambda x: call(lambda v: result, promised, x))(X)


CASES = {
    "shape": (
        errors.ShapeError,
        bad(np.zeros(4, np.float32)),
        "pure_callback of <lambda>: the callback returned f32[4], result_shape_dtypes promised f32[3]",
    ),
    "dtype": (
        errors.DTypeError,
        bad(np.zeros(3, np.int32), call=io_callback),
        "io_callback of <lambda>: the callback returned i32[3], result_shape_dtypes promised f32[3]",
    ),
    "which result": (
        errors.DTypeError,
        bad((np.zeros(3, np.float32), 1), (f32(3), f32())),
        "the callback returned i32[] as result 1, result_shape_dtypes promised f32[]",
    ),
    "structure": (
        errors.ArgumentError,
        bad((X, X)),
        "the callback returned structure PyTreeDef((*, *)), result_shape_dtypes has PyTreeDef(*)",
    ),
    "no array": (
        errors.ArgumentError,
        bad("text"),
        "the callback returned 'text' of type str, promised was f32[3]",
    ),
    "nothing": (errors.ArgumentError, bad(None), "returned structure PyTreeDef(None), result_shape_dtypes has"),
    "no type": (errors.ArgumentError, bad(X, (3,)), "has the leaf 3, which has no shape and dtype"),
    "64 bits": (
        errors.ArgumentError,
        bad(X, np.zeros(3)),
        "result_shape_dtypes cannot specify 64-bit types when enable_x64 is off, it has float64",
    ),
    "not callable": (errors.ArgumentError, lambda: fg.pure_callback(3, f32()), "pure_callback: 3 is not callable"),
    "vmap_method": (
        errors.ArgumentError,
        lambda: fg.pure_callback(np.sin, f32(), 1.0, vmap_method="fast"),
        "vmap_method is 'fast'",
    ),
    "vmap without a method": (
        errors.MissingRuleError,
        bad(X, transform=lambda f: lambda x: fg.vmap(f)(np.ones((2, 3), np.float32))),
        "vmap_method=None says nothing of how the callback is mapped",
    ),
    "vmap of ordered": (
        errors.BatchingError,
        lambda: fg.vmap(lambda x: io_callback(np.sin, f32(), x, ordered=True))(X),
        "vmap of an ordered io_callback",
    ),
    "jvp": (
        errors.NotDifferentiableError,
        lambda: fg.grad(lambda x: fg.pure_callback(np.sin, f32(), x))(1.0),
        "pure_callback does not support JVP",
    ),
    "jvp of io": (
        errors.NotDifferentiableError,
        lambda: fg.grad(fg.jit(lambda x: io_callback(np.sin, f32(), x)))(1.0),
        "io_callback does not support JVP",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_are_named_with_the_line_of_the_call(name):
    kind, action, part = CASES[name]
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert part in message and "\n  fix: " in message, message
    assert "at test_callbacks.py:" in message, message


def test_results_accepted_by_jax_are_accepted():
    assert float(fg.pure_callback(lambda: 3.0, f32())) == 3.0
    assert fg.pure_callback(lambda: np.zeros(3), f32(3)).dtype == np.float32
    out = fg.pure_callback(lambda: [X, X], (f32(3), f32(3)))  # leaves count, as in JAX
    assert type(out) is tuple
