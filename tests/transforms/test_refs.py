"""Refs: the same results as lists of Python that are written in place, in every transform and loop, and as in JAX."""

from __future__ import annotations

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pytest

import funcgrad
import funcgrad.ref
from funcgrad import errors, lax
from funcgrad import numpy as jnp
from funcgrad.testing import check_grads, check_jit, check_vmap

X = np.array([0.5, -1.0, 2.0], np.float32)
BATCH = np.stack([X, X + 1, -X])


def library(name):
    """The functions that programs with Refs use from a library."""
    module = importlib.import_module(name)
    names = ("new_ref", "ref", "lax", "jit", "checkpoint")
    return SimpleNamespace(jnp=module.numpy, **{name: getattr(module, name) for name in names})


OURS = library("funcgrad")

# ---------------------------------------------------------------- alone


def test_reads_and_writes_agree_with_numpy():
    ref, expected = funcgrad.new_ref(np.zeros((4, 3), np.float32)), np.zeros((4, 3), np.float32)
    for target in (ref, expected):
        target[1] = X
        target[2, 1:] = np.float32(4)
        target[...] += 1
        target[-1, 0] = 7
        target[::2] *= 2
        target[np.array([0, 3]), 2] = np.array([8, 9], np.float32)
    np.testing.assert_array_equal(ref[...], expected)
    np.testing.assert_array_equal(ref[1:3, 0], expected[1:3, 0])
    assert ref.shape == (4, 3) and ref.dtype == np.float32 and ref.ndim == 2 and ref.size == 12 and len(ref) == 4


def test_values_that_were_read_do_not_change():
    ref = funcgrad.new_ref(X)
    before = ref[...]
    ref[...] = X + 1
    np.testing.assert_array_equal(before, X)
    np.testing.assert_array_equal(X, [0.5, -1.0, 2.0])


def test_functions_of_refs():
    ref = funcgrad.new_ref(np.arange(3))
    assert funcgrad.ref.swap(ref, 0, 5) == 0 and funcgrad.ref.get(ref, 0) == 5
    funcgrad.ref.set(ref, 1, 7)
    funcgrad.ref.addupdate(ref, np.array([2, 2]), np.array([10, 20]))
    np.testing.assert_array_equal(funcgrad.ref.get(ref), [5, 7, 32])
    assert repr(ref) == "Ref([ 5,  7, 32], dtype=int32)"
    np.testing.assert_array_equal(funcgrad.freeze(ref), [5, 7, 32])
    assert repr(ref) == "Ref<frozen, i32[3]>"
    empty = funcgrad.empty_ref(funcgrad.ShapeDtypeStruct((2,), "float32"))
    assert empty.shape == (2,) and empty.dtype == np.float32


def test_python_numbers_take_the_dtype_of_the_ref():
    ref = funcgrad.new_ref(X.astype(jnp.bfloat16))
    ref[0] = 3
    ref[1] += 0.5
    assert ref[...].dtype == jnp.bfloat16
    scalar = funcgrad.new_ref(1.0)
    scalar[...] += np.float32(1)
    assert scalar[...] == 2 and scalar[...].weak_type


# ---------------------------------------------------------------- pure functions that make Refs


def updates(x, lib):
    ref = lib.new_ref(lib.jnp.zeros(3))
    ref[0] = x[0] * x[1]
    ref[1] = ref[0] ** 2
    lib.ref.addupdate(ref, 2, x[2])
    ref[1:] *= 2.0
    return (ref[...] * x).sum()


def in_scan(x, lib):
    ref, total = lib.new_ref(x), lib.new_ref(lib.jnp.zeros(()))

    def body(carry, v):
        ref[0] += v * carry
        total[...] += ref[0] * ref[1]  # ref[1] is only read
        return carry + ref[0], ref[...] * v

    carry, ys = lib.lax.scan(body, 1.0, x)
    return carry + total[...] + ys.sum()


def in_fori(x, lib):
    ref = lib.new_ref(lib.jnp.zeros((3, 3)))

    def body(i, c):
        ref[i] = x * c
        ref[0, 1] += ref[i, 2]
        return c * 0.5

    return lib.lax.fori_loop(0, 3, body, 1.0) + (ref[...] ** 2).sum()


def in_cond(x, lib):
    ref = lib.new_ref(x)

    def yes():
        ref[0] = ref[1] * x[2]
        return ref[0]

    def no():
        ref[1] = 8.0 * x[0]
        ref[2] = 1.0
        return x[0]

    return lib.lax.cond(x[0] > 0, yes, no) + (ref[...] ** 2).sum()


def in_switch(x, lib):
    ref = lib.new_ref(x * 2)

    def doubled():
        ref[...] *= 2.0

    lib.lax.switch(1 + (x[0] > 0), [doubled, lambda: None, lambda: ref.__setitem__(0, x[2])])
    return (ref[...] * x).sum()


def in_nested_jits(x, lib):
    ref = lib.new_ref(x)

    @lib.jit
    def inner(v, r):
        ref[0] += v
        r[...] = r[...] * ref[0]
        return ref[1] * v

    @lib.jit
    def outer(v):
        own = lib.new_ref(v)
        out = inner(v, own) + inner(v * 2, own)
        return out + own[...]

    return outer(x[1]) + outer(x[2]) + ref[0]


def loops_in_loops(x, lib):
    ref = lib.new_ref(lib.jnp.ones(()))

    def inner(carry, v):
        own = lib.new_ref(v)
        own[...] *= 1.5

        def when(c):
            ref[...] = ref[...] * 0.5 + own[...]
            return c + ref[...]

        return lib.lax.cond(v > 0, when, lambda c: c, carry), None

    def outer(carry, _):
        carry, _ = lib.lax.scan(inner, carry, x)
        ref[...] += carry * 0.1
        return carry, ref[...]

    carry, ys = lib.lax.scan(outer, 0.0, None, length=2)
    return carry + ys.sum() + ref[...]


def in_checkpoint(x, lib):
    ref = lib.new_ref(x)

    @lib.checkpoint
    def layer(v):
        ref[0] += lib.jnp.sin(v).sum()
        return lib.jnp.sin(v) * ref[0]

    return (layer(x) * layer(x * 2)).sum() + ref[...].sum()


def in_while(x, lib):
    ref = lib.new_ref(x)

    def body(c):
        ref[0] += x[1] ** 2 * 0.1
        return c + 1

    steps = lib.lax.while_loop(lambda c: c < 4, body, 0)
    return steps * 1.0 + (ref[...] ** 2).sum()


PROGRAMS = {
    f.__name__: f
    for f in (updates, in_scan, in_fori, in_cond, in_switch, in_nested_jits, loops_in_loops, in_checkpoint)
}
VALUES = PROGRAMS | {"in_while": in_while}
NO_GRADIENT_IN_JAX = ("in_cond", "loops_in_loops", "in_while", "in_checkpoint")


@pytest.mark.parametrize("name", VALUES)
def test_a_function_that_makes_refs_is_pure(name: str):
    def f(x):
        return VALUES[name](x, OURS)

    check_jit(f, (X,))
    check_vmap(f, (BATCH,))
    check_vmap(funcgrad.jit(f), (BATCH,))
    with funcgrad.disable_jit():
        expected = f(X)
    np.testing.assert_allclose(f(X), expected, rtol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_agree_with_the_pure_program(name: str):
    def f(x):
        return PROGRAMS[name](x, OURS)

    check_grads(f, (X,), order=2)
    gradients = np.stack([funcgrad.grad(f)(x) for x in jnp.asarray(BATCH)])
    np.testing.assert_allclose(funcgrad.jit(funcgrad.vmap(funcgrad.grad(f)))(BATCH), gradients, rtol=1e-5)
    np.testing.assert_allclose(funcgrad.vmap(funcgrad.grad(funcgrad.jit(f)))(BATCH), gradients, rtol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("name", VALUES)
def test_values_and_gradients_are_jaxs(name: str):
    import jax

    theirs = library("jax")
    x = jax.numpy.asarray(X)
    np.testing.assert_allclose(VALUES[name](X, OURS), VALUES[name](x, theirs), rtol=1e-6)
    if name not in NO_GRADIENT_IN_JAX:
        ours = funcgrad.grad(lambda x: VALUES[name](x, OURS))(X)
        np.testing.assert_allclose(ours, jax.grad(lambda x: VALUES[name](x, theirs))(x), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- Refs from outside


def test_a_jitted_function_reads_and_writes_refs_it_closes_over_without_a_new_trace():
    ref, traces = funcgrad.new_ref(X), []

    @funcgrad.jit
    def f(v):
        traces.append(v)
        ref[0] += v
        return ref[...].sum()

    totals = [f(1.0), f(2.0)]
    ref[1] = 10.0
    totals.append(f(3.0))
    np.testing.assert_allclose(totals, [2.5, 4.5, 18.5])
    np.testing.assert_allclose(ref[...], [6.5, 10.0, 2.0])
    assert len(traces) == 1


def test_a_jitted_function_takes_refs_as_arguments():
    traces = []

    @funcgrad.jit
    def f(refs, v):
        traces.append(v)
        refs["a"][1:] = refs["b"][...] * v
        return refs["a"][0]

    for scale in (2.0, 3.0):
        a, b = funcgrad.new_ref(X), funcgrad.new_ref(X[:2])
        assert f({"a": a, "b": b}, scale) == 0.5
        np.testing.assert_allclose(a[...], [0.5, 0.5 * scale, -scale])
        np.testing.assert_allclose(b[...], X[:2])
    assert len(traces) == 1
    with funcgrad.disable_jit():
        f({"a": a, "b": b}, 1.0)
    np.testing.assert_allclose(a[1:], X[:2])


def test_loops_and_branches_write_refs_from_outside():
    ref = funcgrad.new_ref(np.zeros(3, np.float32))

    def body(carry, v):
        ref[0] += v
        return carry + ref[0], ref[0]

    carry, ys = lax.scan(body, 0.0, X)
    np.testing.assert_allclose(carry, 1.5)
    np.testing.assert_allclose(ys, [0.5, -0.5, 1.5])
    lax.fori_loop(0, 4, lambda i, c: [ref.__setitem__(1, ref[1] + i), c][1], 0)
    lax.cond(True, lambda: ref.__setitem__(2, 9.0), lambda: None)
    np.testing.assert_allclose(ref[...], [1.5, 6.0, 9.0])


@pytest.mark.parametrize("compiled", [False, True])
def test_predicates_of_while_loops_read_and_write(compiled: bool):
    wrap = funcgrad.jit if compiled else lambda f: f
    ref, seen = funcgrad.new_ref(np.float32(0)), funcgrad.new_ref(np.int32(0))

    def body(c):
        ref[...] += 2.0
        return c + 1

    assert wrap(lambda: lax.while_loop(lambda c: ref[...] < 5, body, 0))() == 3

    def counted(c):
        seen[...] += 1
        return c < 4

    assert wrap(lambda: lax.while_loop(counted, lambda c: c + 1, 0))() == 4
    assert ref[...] == 6 and seen[...] == 5  # the test that fails is counted too, as in Python


def test_branches_take_refs_as_operands():
    ref = funcgrad.new_ref(X)

    def add(refs, v):
        refs["a"][0] += v
        return refs["a"][0]

    for wrap in (lambda f: f, funcgrad.jit):
        out = wrap(lambda p, v: lax.cond(p, add, lambda refs, v: refs["a"][1] * v, {"a": ref}, v))
        assert out(True, 1.0) == ref[0] and out(False, 2.0) == -2
    np.testing.assert_allclose(ref[...], [2.5, -1.0, 2.0])


def test_vmap_maps_refs_given_as_arguments():
    rows, columns, shared = (funcgrad.new_ref(BATCH) for _ in range(3))

    def f(row, column, everything, x):
        row[0] = x.sum()
        column[...] = column[...] * 2 + everything[0]
        return everything[1, 1]

    out = funcgrad.vmap(f, in_axes=(0, 1, None, 0))(rows, columns, shared, BATCH)
    np.testing.assert_allclose(out, [BATCH[1, 1]] * 3)
    np.testing.assert_allclose(rows[...], np.stack([BATCH.sum(1), BATCH[:, 1], BATCH[:, 2]], 1))
    np.testing.assert_allclose(columns[...], BATCH * 2 + BATCH[0][:, None])
    np.testing.assert_allclose(shared[...], BATCH)


def test_gradients_read_refs_and_write_undifferentiated_values():
    ref, log = funcgrad.new_ref(X), funcgrad.new_ref(np.float32(0))

    def f(y):
        log[...] += 1.0
        log[...] += lax.stop_gradient(y).sum()
        return (y**2 * ref[...]).sum()

    np.testing.assert_allclose(funcgrad.grad(f)(X), 2 * X * X)
    np.testing.assert_allclose(log[...], 1 + X.sum())
    _, f_lin = funcgrad.linearize(f, X)
    ref[...] = 0 * X  # the derivative was taken before
    np.testing.assert_allclose(f_lin(X), (2 * X**3).sum())


def test_functions_with_custom_rules_read_refs():
    ref = funcgrad.new_ref(np.float32(3))
    f = funcgrad.custom_jvp(lambda x: x * ref[...])
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * ref[...] * 10))
    log = funcgrad.new_ref(np.zeros(2, np.float32))
    g = funcgrad.custom_vjp(lambda x: x * ref[...])

    def backward(_, ct):
        log[0] += ct
        return (ct * ref[...],)

    g.defvjp(lambda x: (g(x), ()), backward)
    for wrap in (lambda h: h, funcgrad.jit):
        ref[...] = 3.0
        assert wrap(f)(2.0) == 6 and wrap(funcgrad.grad(f))(2.0) == 30
        ref[...] = 4.0
        assert wrap(f)(2.0) == 8 and wrap(funcgrad.grad(f))(2.0) == 40
        assert wrap(g)(2.0) == 8 and wrap(funcgrad.grad(g))(2.0) == 4
        np.testing.assert_allclose(funcgrad.vmap(wrap(funcgrad.grad(f)))(X), [40] * 3)
    np.testing.assert_allclose(log[...], [2, 0])


def test_tracing_alone_writes_nothing():
    ref = funcgrad.new_ref(X)

    def f(x):
        ref[...] = x
        return ref[0]

    closed = funcgrad.make_jaxpr(f)(X)
    assert funcgrad.eval_shape(f, X).shape == ()
    assert funcgrad.eval_shape(lambda r, i: r[i], ref, 0).shape == ()
    np.testing.assert_array_equal(ref[...], X)
    assert [e.primitive.name for e in closed.eqns if e.primitive.name.startswith("ref")] == [
        "ref_get",
        "ref_set",
        "ref_get",
    ]
    funcgrad.core.jaxprs.eval_jaxpr(closed.jaxpr, closed.consts, X + 1)
    np.testing.assert_array_equal(ref[...], X + 1)


def test_compiled_programs_know_nothing_of_refs():
    ref = funcgrad.new_ref(X)

    @funcgrad.jit
    def f(x):
        own = funcgrad.new_ref(x)
        own[0] += ref[0]
        ref[...] = own[...]
        return own[1]

    f(X)
    assert "ref" not in str(funcgrad.make_jaxpr(funcgrad.jit(lambda x: updates(x, OURS)))(X))
    text = str(funcgrad.make_jaxpr(f)(X))
    assert text.count("ref_get") == 1 and text.count("ref_set") == 1  # around the call, not inside


# ---------------------------------------------------------------- errors


def _leaked():
    kept = []
    funcgrad.jit(lambda x: kept.append(funcgrad.new_ref(x)))(X)
    return kept[0][0]


def _frozen():
    ref = funcgrad.new_ref(X)
    funcgrad.freeze(ref)
    ref[0] = 1.0


def _twice(x):
    ref = funcgrad.new_ref(x)
    funcgrad.jit(lambda a, b: a[...] + b[...])(ref, ref)


def _twice_closed(x):
    ref = funcgrad.new_ref(x)
    funcgrad.jit(lambda a: a[...] + ref[...])(ref)


def _write(value, index=...):
    return lambda x: funcgrad.new_ref(x).__setitem__(index, value)


def _outside(transform):
    ref = funcgrad.new_ref(X[0])

    def f(y):
        ref[...] = y * 2
        return y

    return lambda x: transform(f)(x)


def _outside_shared(x):
    funcgrad.vmap(lambda r, y: r.__setitem__(0, y), in_axes=(None, 0))(funcgrad.new_ref(x), x)


def _custom_writer(ref):
    f = funcgrad.custom_jvp(lambda x: ref.__setitem__(..., x) or x)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f


def _custom_reader(ref):
    f = funcgrad.custom_jvp(lambda x: x * ref[...])
    f.defjvp(lambda primals, tangents: (primals[0] * ref[...], tangents[0]))
    return f


ERRORS = {
    "leaked": (lambda x: _leaked(), errors.LeakedTracerError, "a Ref with contents of type f32[3] outlived"),
    "frozen": (lambda x: _frozen(), errors.DeletedArrayError, "the Ref of type f32[3] has been frozen"),
    "returned": (
        lambda x: funcgrad.jit(lambda x: (x, funcgrad.new_ref(x)))(x),
        errors.ArgumentError,
        "returned a Ref with contents of type f32[3] at [1]; a Ref cannot be returned",
    ),
    "two arguments": (_twice, errors.ArgumentError, "one Ref of type f32[3] comes as two arguments"),
    "argument and closed over": (_twice_closed, errors.ArgumentError, "an argument and closed over"),
    "shape": (_write(np.ones(4, np.float32)), errors.ShapeError, "f32[4]"),
    "rank": (_write(np.ones((1, 3), np.float32)), errors.ShapeError, "a value of type f32[1,3] is written to a Ref"),
    "dtype": (
        _write(np.arange(3)),
        errors.DTypeError,
        "a value of type i32[3] is written to a Ref of type f32[3]",
    ),
    "index": (_write(1.0, 3), errors.IndexingError, "index 3 is out of range for a Ref of type f32[3]"),
    "differentiated": (
        lambda x: _outside(funcgrad.grad)(x[0]),
        errors.ArgumentError,
        "is written to a Ref of type f32[] that lives outside",
    ),
    "mapped": (_outside(funcgrad.vmap), errors.ArgumentError, "is written to a Ref of type f32[] that lives outside"),
    "mapped argument": (_outside_shared, errors.BatchingError, "that is not mapped (in_axes=None)"),
    "gradient by a Ref": (
        lambda x: funcgrad.grad(lambda r: r[0])(funcgrad.new_ref(x)),
        errors.ArgumentError,
        "a Ref with contents of type f32[3] is not an array",
    ),
    "operand": (lambda x: jnp.sin(funcgrad.new_ref(x)), errors.ArgumentError, "is not an array"),
    "carry": (
        lambda x: lax.scan(lambda r, v: (r, v), funcgrad.new_ref(x), x),
        errors.ArgumentError,
        "a Ref with contents of type f32[3] is not an array",
    ),
    "of a Ref": (lambda x: funcgrad.new_ref(funcgrad.new_ref(x)), errors.ArgumentError, "is not an array"),
    "written in a custom function": (
        lambda x: funcgrad.jit(_custom_writer(funcgrad.new_ref(x)))(x),
        errors.ArgumentError,
        "writes to a Ref with contents of type f32[3]; a function with rules of its own may only read",
    ),
    "used outside of its transform": (
        lambda x: funcgrad.grad(lambda x: _custom_reader(funcgrad.new_ref(x))(x).sum())(x),
        errors.LeakedTracerError,
        "a Ref with contents of type f32[3] is used by a function that runs outside of the transform",
    ),
    "frozen inside": (
        lambda x: (lambda r: funcgrad.jit(lambda: funcgrad.freeze(r))())(funcgrad.new_ref(x)),
        errors.ArgumentError,
        "freeze: the Ref of type f32[3] was made outside of this function",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_misuse_is_explained(name: str):
    f, error, message = ERRORS[name]
    with pytest.raises(error, match=re.escape(message)):
        f(X)
