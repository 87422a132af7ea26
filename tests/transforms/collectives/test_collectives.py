"""Collectives along vmap's named axes: against NumPy on the rows, through every transform, and against JAX."""

from __future__ import annotations

import re

import numpy as np
import pytest

import funcgrad
from funcgrad import lax
from funcgrad.core.checking import check_jaxpr
from funcgrad.errors import ArgumentError, BatchingError, ShapeError, UnboundAxisError
from funcgrad.testing import check_grads

X = np.array([0.5, -1.0, 2.0, 3.5], np.float32)
CUBE = np.arange(48, dtype=np.float32).reshape(4, 4, 3) / 7
GROUPS = [[0, 2], [3, 1]]
AROUND = [(0, 1), (1, 2), (2, 3), (3, 0)]


def over(f, name="i", **options):
    return funcgrad.vmap(f, axis_name=name, **options)


# ---------------------------------------------------------------- values

# name: (function of one element and lax, the same for element i of all rows x)
DEFINITIONS = {
    "psum": (lambda x, lax: lax.psum(x, "i"), lambda x, i: x.sum(0)),
    "pmean": (lambda x, lax: lax.pmean(x, "i"), lambda x, i: x.mean(0)),
    "pmax": (lambda x, lax: lax.pmax(x, "i"), lambda x, i: x.max(0)),
    "pmin": (lambda x, lax: lax.pmin(x, "i"), lambda x, i: x.min(0)),
    "all_gather": (lambda x, lax: lax.all_gather(x, "i"), lambda x, i: x),
    "all_gather last": (lambda x, lax: lax.all_gather(x, "i", axis=-1), lambda x, i: np.moveaxis(x, 0, -1)),
    "all_gather tiled": (
        lambda x, lax: lax.all_gather(x, "i", axis=1, tiled=True),
        lambda x, i: np.concatenate(list(x), 1),
    ),
    "ppermute": (lambda x, lax: lax.ppermute(x, "i", AROUND), lambda x, i: x[i - 1]),
    "pshuffle": (lambda x, lax: lax.pshuffle(x, "i", [2, 0, 3, 1]), lambda x, i: x[[2, 0, 3, 1][i]]),
    "psum_scatter": (lambda x, lax: lax.psum_scatter(x, "i"), lambda x, i: x.sum(0)[i]),
    "psum_scatter tiled": (
        lambda x, lax: lax.psum_scatter(x, "i", tiled=True),
        lambda x, i: x.sum(0)[i : i + 1],
    ),
    "all_to_all": (lambda x, lax: lax.all_to_all(x, "i", 0, 1), lambda x, i: x[:, i].T),
    "all_to_all tiled": (
        lambda x, lax: lax.all_to_all(x, "i", 0, 1, tiled=True),
        lambda x, i: x[:, i].reshape(1, -1),
    ),
    "pswapaxes": (lambda x, lax: lax.pswapaxes(x, "i", 0), lambda x, i: x[:, i]),
    "axis_index": (lambda x, lax: x * lax.axis_index("i"), lambda x, i: x[i] * i),
    "axis_size": (lambda x, lax: x * lax.axis_size("i"), lambda x, i: x[i] * 4),
}
OWN = {  # what JAX has no rule for under vmap
    "pbroadcast": (lambda x, lax: lax.pbroadcast(x, "i", 2), lambda x, i: x[2]),
    "partial ppermute": (
        lambda x, lax: lax.ppermute(x, "i", [(0, 3), (2, 1)]),
        lambda x, i: x[{3: 0, 1: 2}[i]] if i in (1, 3) else 0 * x[0],
    ),
    "psum in groups": (
        lambda x, lax: lax.psum(x, "i", axis_index_groups=GROUPS),
        lambda x, i: x[GROUPS[i % 2]].sum(0),
    ),
    "pmax in groups": (
        lambda x, lax: lax.pmax(x, "i", axis_index_groups=GROUPS),
        lambda x, i: x[GROUPS[i % 2]].max(0),
    ),
    "all_gather in groups": (
        lambda x, lax: lax.all_gather(x, "i", axis_index_groups=GROUPS),
        lambda x, i: x[GROUPS[i % 2]],
    ),
    "psum_scatter in groups": (
        lambda x, lax: lax.psum_scatter(x, "i", tiled=True, axis_index_groups=GROUPS),
        lambda x, i: x[GROUPS[i % 2]].sum(0).reshape(2, 2, 3)[GROUPS[i % 2].index(i)],
    ),
}


@pytest.mark.parametrize("name", [*DEFINITIONS, *OWN])
def test_a_collective_is_its_definition_on_rows_eager_and_staged(name: str):
    f, definition = (DEFINITIONS | OWN)[name]
    expected = np.stack([definition(CUBE, i) for i in range(4)])
    for mapped in (
        over(lambda x: f(x, lax)),
        over(funcgrad.jit(lambda x: f(x, lax))),
        funcgrad.jit(over(lambda x: f(x, lax))),
    ):
        np.testing.assert_allclose(mapped(CUBE), expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*DEFINITIONS, *OWN])
def test_a_collective_differentiates_inside_and_outside_of_vmap(name: str):
    f, _ = (DEFINITIONS | OWN)[name]
    check_grads(over(lambda x: f(x, lax) ** 2), (CUBE,), order=2)

    # The sum over elements of what each pulls back is what all of them together pull back.
    weight = np.cos(np.arange(4.0, dtype=np.float32))

    def loss(x, w):
        return w * (f(x, lax) ** 2).sum()

    outside = funcgrad.grad(lambda x: over(loss)(x, weight).sum())(CUBE)
    inside = over(funcgrad.grad(loss))(CUBE, weight)
    np.testing.assert_allclose(inside, outside, rtol=1e-5)
    np.testing.assert_allclose(over(funcgrad.jit(funcgrad.grad(loss)))(CUBE, weight), outside, rtol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("name", DEFINITIONS)
def test_values_and_gradients_are_jaxs(name: str):
    import jax

    f, _ = DEFINITIONS[name]

    def results(library):
        mapped = library.vmap(lambda x: f(x, library.lax), axis_name="i")
        found = [mapped(CUBE), library.vmap(mapped, in_axes=1)(np.stack([CUBE, CUBE + 1], 1))]
        if not name.startswith(("all_to_all", "pswapaxes")):  # there, JAX gives another shape than it infers
            unmapped = library.vmap(lambda x: f(x, library.lax), axis_name="i", in_axes=None, axis_size=4)
            found.append(unmapped(CUBE[1]))
        if name not in ("pmax", "pmin", "all_to_all"):  # JAX does not differentiate these
            weighted = lambda x, w: w * (f(x, library.lax) ** 2).sum()  # noqa: E731
            found.append(library.vmap(library.grad(weighted), axis_name="i")(CUBE, X))
        return found

    for ours, theirs in zip(results(funcgrad), results(jax), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_constants_are_folded_at_once():
    seen = {}

    def f(x):
        seen.update(one=lax.psum(1, "i"), half=lax.psum(0.5, "i"), true=lax.psum(True, "i"), mean=lax.pmean(2, "i"))
        seen.update(size=lax.axis_size("i"), group=lax.psum(1, "i", axis_index_groups=GROUPS), most=lax.pmax(3, "i"))
        return lax.psum((1, {"x": x}), "i")

    size, sums = over(f)(X)
    assert seen == {"one": 4, "half": 2.0, "true": 4, "mean": 2.0, "size": 4, "group": 2, "most": 3}
    assert all(isinstance(v, int) for k, v in seen.items() if k not in ("half", "mean"))
    np.testing.assert_array_equal(size, [4] * 4)
    np.testing.assert_allclose(sums["x"], [5.0] * 4)


def test_types():
    assert over(lambda x: lax.axis_index("i"))(X).dtype == np.int32
    assert over(lambda x: lax.psum(x > 0, "i"))(X).dtype == np.int32
    assert over(lambda x: lax.psum(x.astype("int8"), "i"))(X).dtype == np.int8
    assert over(lambda x: lax.pmean(x.astype("int32"), "i"))(X).dtype == np.float32
    assert over(lambda x: lax.psum(x.astype("bfloat16"), "i"))(X).dtype == funcgrad.dtypes.bfloat16


def test_values_common_to_all_elements_need_no_batch_dimension():
    out = over(lambda x: (lax.psum(x, "i"), lax.all_gather(x, "i"), lax.pmax(x, "i")), out_axes=None)(X)
    np.testing.assert_allclose(out[0], 5.0)
    np.testing.assert_allclose(out[1], X)
    np.testing.assert_allclose(out[2], 3.5)


# ---------------------------------------------------------------- several names


GRID = np.arange(6, dtype=np.float32).reshape(2, 3) ** 2
SIX = np.arange(72, dtype=np.float32).reshape(2, 3, 6, 2)
TWO_NAMES = {
    "psum": (lambda x: lax.psum(x, ("i", "j")), lambda x, k: x.sum(0)),
    "pmean": (lambda x: lax.pmean(x, ("i", "j")), lambda x, k: x.mean(0)),
    "pmin": (lambda x: lax.pmin(x, ("i", "j")), lambda x, k: x.min(0)),
    "all_gather": (lambda x: lax.all_gather(x, ("i", "j"), axis=1), lambda x, k: np.moveaxis(x, 0, 1)),
    "ppermute": (
        lambda x: lax.ppermute(x, ("i", "j"), [(5, 0), (0, 4)]),
        lambda x, k: x[{0: 5, 4: 0}[k]] if k in (0, 4) else 0 * x[0],
    ),
    "pshuffle": (lambda x: lax.pshuffle(x, ("i", "j"), [5, 4, 3, 2, 1, 0]), lambda x, k: x[5 - k]),
    "psum_scatter": (lambda x: lax.psum_scatter(x, ("i", "j")), lambda x, k: x.sum(0)[k]),
    "all_to_all": (lambda x: lax.all_to_all(x, ("i", "j"), 0, 1), lambda x, k: x[:, k].T),
    "pbroadcast": (lambda x: lax.pbroadcast(x, ("i", "j"), 4), lambda x, k: x[4]),
    "axis_index": (lambda x: x + lax.axis_index(("i", "j")), lambda x, k: x[k] + k),
    "axis_size": (lambda x: x + lax.axis_size(("i", "j")), lambda x, k: x[k] + 6),
}


@pytest.mark.parametrize("name", TWO_NAMES)
def test_two_names_are_one_axis_in_row_major_order(name: str):
    f, definition = TWO_NAMES[name]
    flat = SIX.reshape(6, 6, 2)
    expected = np.stack([definition(flat, k) for k in range(6)])
    for inner in (f, funcgrad.jit(f)):
        out = over(over(inner, "j"), "i")(SIX)
        np.testing.assert_allclose(out, expected.reshape(2, 3, *expected.shape[1:]), rtol=1e-6)
        # The same with the vmaps the other way round.
        out = over(over(inner, "i", in_axes=0, out_axes=0), "j", in_axes=1, out_axes=1)(SIX)
        np.testing.assert_allclose(out, expected.reshape(2, 3, *expected.shape[1:]), rtol=1e-6)
    check_grads(over(over(lambda x: f(x) ** 2, "j"), "i"), (SIX / 30,), order=1)


def test_each_of_two_names_is_its_own_axis():
    f = over(over(lambda x: (lax.psum(x, "i"), lax.psum(x, "j"), 10 * lax.axis_index("i") + lax.axis_index("j")), "j"))
    of_i, of_j, index = f(GRID)
    np.testing.assert_allclose(of_i, np.broadcast_to(GRID.sum(0), (2, 3)))
    np.testing.assert_allclose(of_j, np.broadcast_to(GRID.sum(1, keepdims=True), (2, 3)))
    np.testing.assert_array_equal(index, [[0, 1, 2], [10, 11, 12]])


def test_the_innermost_of_equal_names_is_meant():
    def f(x):
        outer = lax.psum(x, "i")
        inner = over(funcgrad.jit(lambda y: lax.psum(y, "i") + lax.axis_index("i") * lax.axis_size("i")))(x)
        return outer, inner, lax.axis_size("i")

    outer, inner, size = over(f)(GRID)
    np.testing.assert_allclose(outer, np.broadcast_to(GRID.sum(0), (2, 3)))
    np.testing.assert_allclose(inner, GRID.sum(1, keepdims=True) + 3 * np.arange(3.0))
    np.testing.assert_array_equal(size, [2, 2])


# ---------------------------------------------------------------- staging


def test_an_index_alone_is_batched_within_jit():
    index = funcgrad.jit(lambda: lax.axis_index("i"))
    np.testing.assert_array_equal(over(index, axis_size=3)(), [0, 1, 2])
    np.testing.assert_array_equal(over(index, axis_size=5)(), range(5))  # a jitted function is traced for each size
    np.testing.assert_allclose(over(lambda x: x + index())(X), X + np.arange(4))
    nested = funcgrad.jit(lambda y: y + funcgrad.jit(lambda: lax.axis_index("i"))())
    np.testing.assert_allclose(over(lambda x: nested(1.0))(X), 1 + np.arange(4))
    assert over(lambda x: lax.psum(nested(1.0), "i"), out_axes=None)(X) == 10


def test_one_traced_function_serves_vmaps_of_other_names():
    f = funcgrad.jit(lambda x: x * 2.0 + lax.psum(x, "i"))
    batch = np.stack([X, X + 1])
    expected = batch * 2 + batch.sum(1, keepdims=True)
    np.testing.assert_allclose(over(over(f), "k")(batch), expected, rtol=1e-6)
    np.testing.assert_allclose(over(over(f, "i"), None)(batch), expected, rtol=1e-6)
    np.testing.assert_allclose(over(over(f, None), "i")(batch), batch * 2 + batch.sum(0), rtol=1e-6)


def test_jaxprs_name_the_axes_of_axis_env():
    env = [("i", 4), ("j", 2)]
    closed = funcgrad.make_jaxpr(
        lambda x: lax.psum(x, ("i", "j")) * lax.axis_index("i") + lax.all_gather(x, "j"), axis_env=env
    )(1.0)
    check_jaxpr(closed)
    assert (
        str(closed)
        == """\
{ lambda ; a:f32[]. let
    b:f32[] = psum[axes=('i', 'j') axis_index_groups=None] a
    c:i32[] = axis_index[axis_name=i]
    d:f32[] = convert_element_type[new_dtype=float32 weak_type=True] c
    e:f32[] = mul b d
    f:f32[2] = all_gather[axis_index_groups=None axis_name=j axis_size=2] a
    g:f32[2] = add e f
  in (g,) }"""
    )
    assert closed.jaxpr.used_axes == {"i", "j"}
    nested = funcgrad.make_jaxpr(funcgrad.jit(lambda x: funcgrad.jit(lambda y: lax.pmax(y, "j"))(x)), axis_env=env)(1.0)
    assert nested.jaxpr.used_axes == {"j"}
    with pytest.raises(UnboundAxisError, match="unbound axis name: 'j'; bound axes: none"):
        funcgrad.core.jaxprs.eval_jaxpr(nested.jaxpr, nested.consts, 1.0)


# Functions of one element, in which collectives are in the bodies of loops and branches.
CONTROL_FLOW = {
    "index in scan": lambda x, lax: lax.scan(lambda c, _: (c + lax.axis_index("i"), c), 0, None, length=3)[1] * x,
    "psum in scan": lambda x, lax: lax.scan(lambda c, v: (c * 0.5 + lax.psum(c * x, "i"), c), x, None, length=3)[0],
    "psum of a shared carry": lambda x, lax: lax.scan(lambda c, _: (lax.psum(c, "i"), c), 1.0, None, length=3)[0] * x,
    "shared predicate": lambda x, lax: lax.while_loop(lambda c: lax.psum(c, "i") < 30, lambda c: c + 1, x),
    "psum in lockstep": lambda x, lax: lax.while_loop(lambda c: c < 3, lambda c: c + lax.pmax(c, "i") / 4, x),
    "index in predicate": lambda x, lax: lax.while_loop(lambda c: c < lax.axis_index("i"), lambda c: c + 1, x),
    "fori": lambda x, lax: lax.fori_loop(0, 3, lambda i, c: c + lax.ppermute(c, "i", AROUND) * i, x),
    "cond": lambda x, lax: lax.cond(x > 1, lambda: lax.psum(x, "i"), lambda: x * lax.axis_index("i")),
    "loop in cond": lambda x, lax: lax.cond(
        x > 1, lambda: lax.fori_loop(0, 2, lambda i, c: c + lax.psum(c, "i"), x), lambda: x
    ),
    "solve": lambda x, lax: lax.custom_linear_solve(
        lambda v: v * (lax.axis_index("i") + 1.0), x, lambda _, b: b / (lax.axis_index("i") + 1.0), symmetric=True
    ),
    "switch": lambda x, lax: lax.switch(lax.axis_index("i"), [lambda: x, lambda: lax.psum(x, "i")]),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_collectives_in_loops_and_branches_are_jaxs(name: str):
    import jax

    def results(library):
        def f(x):
            return CONTROL_FLOW[name](x, library.lax)

        mapped = library.vmap(f, axis_name="i")
        found = [mapped(X), library.vmap(library.jit(f), axis_name="i")(X), library.jit(mapped)(X)]
        found.append(library.vmap(mapped, in_axes=1)(np.stack([X, X + 1], 1)))
        if "while" not in str(library.make_jaxpr(mapped)(X)):
            found.append(library.vmap(library.grad(lambda x: (f(x) ** 2).sum()), axis_name="i")(X))
            found.append(library.grad(lambda x: (mapped(x) ** 2).sum())(X))
        return found

    for ours, theirs in zip(results(funcgrad), results(jax), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def custom_jvp(x, library):
    lax = library.lax
    f = library.custom_jvp(lambda x: lax.psum(x**2, "i"))
    f.defjvp(lambda primals, tangents: (f(*primals), lax.psum(10 * primals[0] * tangents[0], "i")))
    return f(x)


def custom_vjp(x, library):
    lax = library.lax
    f = library.custom_vjp(lambda x: lax.psum(x**2, "i"))
    f.defvjp(lambda x: (f(x), x * lax.axis_index("i")), lambda res, ct: (lax.psum(ct, "i") * res,))
    return f(x)


def only_in_rules(x, library):
    f = library.custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: (f(x), ()), lambda res, ct: (ct * library.lax.axis_index("i"),))
    return f(x)


@pytest.mark.parametrize("function", [custom_jvp, custom_vjp, only_in_rules])
def test_collectives_in_custom_rules(function):
    def f(x):
        return function(x, funcgrad)

    value, gradient = {
        custom_jvp: ((X**2).sum() + 0 * X, 40 * X),
        custom_vjp: ((X**2).sum() + 0 * X, 4 * X * np.arange(4)),
        only_in_rules: (2 * X, np.arange(4)),
    }[function]
    for g in (f, funcgrad.jit(f)):
        np.testing.assert_allclose(over(g)(X), value)
        np.testing.assert_allclose(over(funcgrad.grad(g))(X), gradient)
        np.testing.assert_allclose(funcgrad.grad(lambda x, g=g: over(g)(x).sum())(X), gradient)
        np.testing.assert_allclose(funcgrad.jit(over(funcgrad.grad(g)))(X), gradient)


@pytest.mark.oracle
@pytest.mark.parametrize("function", [custom_jvp, custom_vjp, only_in_rules])
def test_collectives_in_custom_rules_are_jaxs(function):
    import jax

    for transform in (lambda f, library: f, lambda f, library: library.grad(f)):
        ours, theirs = (
            library.vmap(transform(lambda x, library=library: function(x, library), library), axis_name="i")(X)
            for library in (funcgrad, jax)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_collectives_in_checkpoints():
    def f(x):
        return funcgrad.numpy.sin(x * lax.psum(x, "i")) + lax.axis_index("i")

    for wrap in (lambda g: g, funcgrad.jit):
        gradients = (over(wrap(funcgrad.grad(g)))(X) for g in (f, funcgrad.checkpoint(f)))
        np.testing.assert_allclose(*gradients, rtol=1e-5)


def test_cross_batch_normalization():
    def normalized(x, scale):
        mean = lax.pmean(x, "batch")
        variance = lax.pmean((x - mean) ** 2, "batch")
        return scale * (x - mean) / (variance + 1e-5) ** 0.5

    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    scale = np.array([1.0, 2.0, 0.5], np.float32)
    layer = funcgrad.vmap(normalized, in_axes=(0, None), axis_name="batch")
    expected = scale * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(funcgrad.jit(layer)(x, scale), expected, rtol=1e-4, atol=1e-6)
    check_grads(layer, (x, scale), order=2)


# ---------------------------------------------------------------- errors


ERRORS = {
    "no axis": (lambda x: lax.psum(x, "i"), None, UnboundAxisError, "psum: unbound axis name: 'i'; bound axes: none"),
    "another axis": (
        lambda x: lax.pmean(x, "j"),
        "i",
        UnboundAxisError,
        "pmean: unbound axis name: 'j'; bound axes: 'i' of size 4",
    ),
    "index": (lambda x: lax.axis_index(("i", "k")), "i", UnboundAxisError, "axis_index: unbound axis name: 'k'"),
    "groups": (
        lambda x: lax.psum(x, "i", axis_index_groups=[[0, 1], [1, 2]]),
        "i",
        ArgumentError,
        "axis_index_groups=((0, 1), (1, 2)) for axis 'i' of size 4",
    ),
    "dimension": (lambda x: lax.all_gather(x, "i", axis=2), "i", ArgumentError, "all_gather: dimension 2 for operand"),
    "split": (lambda x: lax.all_to_all(x, "i", 0, 0), "i", ArgumentError, "all_to_all: dimension 0 for operand f32[]"),
    "scatter": (
        lambda x: lax.psum_scatter(x * np.ones(3, np.float32), "i"),
        "i",
        ShapeError,
        "psum_scatter: dimension 0 of f32[3] must equal the number of elements along 'i', which is 4",
    ),
    "destination": (lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)]), "i", ArgumentError, "has a destination twice"),
    "source": (lambda x: lax.ppermute(x, "i", [(4, 1)]), "i", ArgumentError, "has a source twice or out of range"),
    "shuffle": (lambda x: lax.pshuffle(x, "i", [0, 1, 1, 2]), "i", ArgumentError, "[0, 1, 1, 2] is not a permutation"),
    "broadcast": (
        lambda x: lax.pbroadcast(x, "i", 4),
        "i",
        ArgumentError,
        "pbroadcast: source=4 over an axis of size 4",
    ),
    "none left": (lambda x: x + lax.psum(x, "i"), "i", BatchingError, "out_axes is None"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_calls_are_explained(name: str):
    f, axis, error, message = ERRORS[name]
    options = {"out_axes": None} if name == "none left" else {}
    with pytest.raises(error, match=re.escape(message)):
        over(f, axis, **options)(X)
    assert issubclass(UnboundAxisError, NameError)
