"""Indexing against NumPy and JAX: values, types, out-of-range positions, derivatives, vmap, jit, and bad input."""

from __future__ import annotations

import functools
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import funcgrad.numpy  # noqa: F401  gives arrays their operators
from funcgrad import errors
from funcgrad.core.arrays import Array, as_array
from funcgrad.numpy import indexing, masks
from funcgrad.ops import dynamic_slices, gather_scatter
from funcgrad.ops import indexing as gathers
from funcgrad.ops.dynamic_slices import dynamic_slice
from funcgrad.ops.shapes import full, sum_all
from funcgrad.transforms.derivatives import jvp, vjp
from funcgrad.transforms.grad import grad
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import make_jaxpr
from funcgrad.transforms.vmap import vmap
from tests.comparing import assert_same

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 0.5
I = np.array([0, 1, -1, 7, -9])  # noqa: E741
J = np.array([[0], [2]])
MASK = X[0] > 4
FULL = slice(None)

EXPRESSIONS = [
    0,
    -1,
    7,
    -9,
    (0, 1),
    slice(1, None),
    (FULL, slice(None, None, -1)),
    (FULL, None, 1),
    (..., 0),
    (..., slice(3, 0, -2)),
    None,
    (None, ..., None, 2),
    slice(5, 2),
    slice(None, None, 7),
    ...,
    I,
    (FULL, I),
    (0, I),
    (I, 0),
    (I, FULL, I),
    (slice(0, 1), I, slice(1, 3)),
    (I, None, 1),
    (0, FULL, I),
    (J, I[:2]),
    (FULL, MASK),
    (FULL, slice(None, None, 1), J),
    (slice(None, None, -1), J, slice(None, None, 2), None),
    np.array(1),
    (slice(2, 2), 0),
    (None, I, None, I),
    (I, ..., I),
    (FULL, slice(1, 2), None, J, ...),
    MASK[:2, 0],
    (MASK[:2, 0], FULL, I[:1]),
    (I.astype(np.uint8), 1),
    (np.zeros((0,), int),),
    X > 100,
    X > 3,
    (True, I),
    True,
    (False, 0),
    ([0, 1], FULL, 2),
]


def dynamic(index: object) -> tuple[list, object]:
    """Return the ints and int arrays of an index, and a function that puts others in their place."""
    items = index if isinstance(index, tuple) else (index,)
    moving = [type(i) is int or (isinstance(i, np.ndarray) and i.dtype.kind in "iu") for i in items]

    def rebuild(values: object) -> tuple:
        rest = iter(values)
        return tuple(next(rest) if m else i for i, m in zip(items, moving, strict=True))

    return [i for i, m in zip(items, moving, strict=True) if m], rebuild


def ways(function: object, index: object) -> list:
    """Evaluate function(x, index) eagerly, jitted, and jitted with ints and arrays of the index traced."""
    values, rebuild = dynamic(index)
    return [
        function(as_array(X), index),
        jit(lambda x: function(x, index))(X),
        jit(lambda x, *v: function(x, rebuild(v)))(X, *values),
    ]


same = functools.partial(assert_same, rtol=0, atol=0)


# ---------------------------------------------------------------- expressions against NumPy


@st.composite
def expressions(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple:
    """Index expressions in range for an array of this shape: all that NumPy reads as we do."""
    items: list = []
    covered = draw(st.integers(0, len(shape)))
    selected = draw(st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (0,)]))
    for n in shape[:covered]:
        kind = draw(st.sampled_from(["int", "slice", "slice", "array", "mask"] if n else ["slice"]))
        if kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            bound = st.none() | st.integers(-n - 2, n + 2)
            items.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -3]))))
        elif kind == "array":
            count = int(np.prod(selected))
            flat = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
            items.append(np.array(flat, draw(st.sampled_from([np.int32, np.int64, np.int8]))).reshape(selected))
        else:  # a mask with as many true elements as the arrays select, or one
            count = selected[0] if len(selected) == 1 and selected[0] <= n else 1
            items.append(np.isin(np.arange(n), draw(st.permutations(range(n)))[:count]))
    if covered < len(shape) and draw(st.booleans()):
        items.append(Ellipsis)
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    return tuple(items)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_index_expressions_agree_with_numpy(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=0, max_size=4)))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    index = data.draw(expressions(shape))
    wanted = x[index]
    values, rebuild = dynamic(index)
    written = x.copy()
    written[index] = -1
    for f, expected in ((lambda a, i: a[i], wanted), (lambda a, i: a.at[i].set(-1), written)):
        np.testing.assert_array_equal(f(as_array(x), index), expected)
        np.testing.assert_array_equal(jit(lambda a, f=f: f(a, index))(x), expected)
        np.testing.assert_array_equal(jit(lambda a, *v, f=f: f(a, rebuild(v)))(x, *values), expected)
    assert isinstance(as_array(x)[index], Array)
    counts = grad(lambda a: sum_all(a[index]))(x)
    np.testing.assert_array_equal(counts, _counts(x, index))


def _counts(x: np.ndarray, index: tuple) -> np.ndarray:
    out = np.zeros_like(x)
    np.add.at(out, index, 1)
    return out


# ---------------------------------------------------------------- expressions against JAX

METHODS = {
    "get": lambda x, i: x[i],
    "fill": lambda x, i: x.at[i].get(mode="fill"),
    "fill value": lambda x, i: x.at[i].get(mode="fill", fill_value=3),
    "set": lambda x, i: x.at[i].set(-1.0),
    "set clip": lambda x, i: x.at[i].set(5.0, mode="clip"),
    "add": lambda x, i: x.at[i].add(x[i]),
    "subtract": lambda x, i: x.at[i].subtract(2),
    "multiply": lambda x, i: x.at[i].multiply(2.0),
    "divide": lambda x, i: x.at[i].divide(2.0),
    "min": lambda x, i: x.at[i].min(9.0),
    "max": lambda x, i: x.at[i].max(9.0),
}


@pytest.mark.oracle
@pytest.mark.parametrize("method", METHODS)
def test_expressions_agree_with_jax_also_out_of_range(method: str) -> None:
    import jax.numpy as jnp

    # JAX compiles for every shape: all expressions for the methods that differ in kind, some for the others.
    every = method in ("get", "set")
    for index in EXPRESSIONS if every else EXPRESSIONS[::6]:
        wanted = METHODS[method](jnp.asarray(X), index)
        for ours in ways(METHODS[method], index):
            same(ours, wanted)


@pytest.mark.oracle
def test_apply_applies_once_per_repetition_as_jax() -> None:
    import jax.numpy as jnp

    for index in EXPRESSIONS[::3]:
        if any(isinstance(i, bool) for i in (index if isinstance(index, tuple) else (index,))):
            continue  # JAX fails on scalar masks
        wanted = jnp.asarray(X).at[index].apply(lambda v: v * 2 + 1)
        same(as_array(X).at[index].apply(lambda v: v * 2 + 1), wanted)
        same(jit(lambda x, index=index: x.at[index].apply(lambda v: v * 2 + 1))(X), wanted)


def test_power_raises_the_selected_elements() -> None:
    same(as_array(X).at[0].power(2), np.stack([X[0] ** 2, X[1]]), rtol=1e-6)
    same(as_array(np.arange(4, dtype=np.int32)).at[2].power(3), np.array([0, 1, 8, 3], np.int32))


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint32", "bfloat16", "float16", "complex64"])
def test_dtypes_and_fill_values_agree_with_jax(dtype: str) -> None:
    import jax.numpy as jnp

    theirs = jnp.asarray(np.arange(6).reshape(2, 3) % 2 if dtype == "bool" else np.arange(6).reshape(2, 3)).astype(
        dtype
    )
    ours = as_array(np.asarray(theirs))
    index = (np.array([1, 5, 0]), np.array([2, 0, -1]))
    for f in (
        lambda x: x[index],
        lambda x: x.at[index].get(mode="fill"),
        lambda x: x.at[index].set(x[0, 1]),
        lambda x: x.at[index].max(x[1, 0]),
        lambda x: x[0, 0],
        lambda x: x.at[0].set(True),
    ):
        if dtype == "complex64" and f(theirs).shape == (2, 3) and "max" in f.__code__.co_names:
            continue
        mine, wanted = np.asarray(f(ours)), np.asarray(f(theirs))
        assert mine.dtype == wanted.dtype and mine.shape == wanted.shape
        np.testing.assert_array_equal(mine.astype(complex), wanted.astype(complex))


@pytest.mark.oracle
def test_weak_types_agree_with_jax() -> None:
    import jax.numpy as jnp

    ours, theirs = full((5,), 2.0, np.dtype("float32"), weak_type=True), jnp.full((5,), 2.0)
    strong = np.ones(2, np.float32)
    index = np.array([0, 3])
    for f in (
        lambda x: x[0],
        lambda x: x[index],
        lambda x: x[1:3],
        lambda x: x.at[0].set(1),
        lambda x: x.at[index].set(strong),
    ):
        same(f(ours), f(theirs))
    assert not as_array(strong).at[0].set(ours[0]).weak_type


def test_values_that_the_array_cannot_hold_warn_and_are_cast() -> None:
    with pytest.warns(FutureWarning, match=r"float32 are written into an array of dtype int32.*fix: cast"):
        out = as_array(np.arange(3, dtype=np.int32)).at[0].set(as_array(np.float32(1.5)))
    same(out, np.array([1, 1, 2], np.int32))


# ---------------------------------------------------------------- laws of at[]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(-9, 9), min_size=8, max_size=8))
def test_at_laws(positions: list[int], drawn: list[int]) -> None:
    """set then get reads the last value; the others fold repeated positions one by one."""
    index, values = np.array(positions, np.int32), np.array(drawn[: len(positions)], np.float32)
    x = np.arange(5, dtype=np.float32)
    ref = as_array(x).at[index]
    for method, ufunc in (
        ("add", np.add),
        ("subtract", np.subtract),
        ("multiply", np.multiply),
        ("min", np.minimum),
        ("max", np.maximum),
    ):
        expected = x.copy()
        ufunc.at(expected, index, values)
        np.testing.assert_array_equal(getattr(ref, method)(values), expected)
        wide = np.stack([x, 2 * x], 1)
        expected = wide.copy()
        ufunc.at(expected, index, values[:, None])
        np.testing.assert_array_equal(getattr(as_array(wide).at[index], method)(values[:, None]), expected)
    expected = x.copy()
    for i, v in zip(positions, values, strict=True):
        expected[i] = v
    np.testing.assert_array_equal(ref.set(values), expected)
    np.testing.assert_array_equal(ref.set(ref.get()), x)


def test_the_array_itself_is_never_changed() -> None:
    x = as_array(X)
    for index in (0, (slice(None), 1), I[:2], ...):
        for method in ("set", "add", "multiply"):
            getattr(x.at[index], method)(7.0)
    view = x[0]
    x.at[0].set(0.0)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(view, X[0])


# ---------------------------------------------------------------- derivatives

DIFFERENTIABLE = {
    "read rows": lambda x, u, i: x[i] * u,
    "read clip": lambda x, u, i: x.at[i].get(mode="clip") * u,
    "read fill": lambda x, u, i: x.at[i].get(mode="fill", fill_value=0) * u,
    "slices": lambda x, u, i: x[::-2, 1:] * u[:2, :2],
    "scalar": lambda x, u, i: x[i[1]] * u,
    "set": lambda x, u, i: x.at[i].set(u) * x,
    "add": lambda x, u, i: x.at[i].add(u * u) * x,
    "subtract": lambda x, u, i: x.at[i].subtract(u * u) * x,
    "multiply operand": lambda x, u, i: (x * x).at[i].multiply(2.0),
    "multiply": lambda x, u, i: (x * x).at[i[:2]].multiply(u[:2], unique_indices=True),
    "divide": lambda x, u, i: x.at[i[1]].divide(u[0]),
    "min": lambda x, u, i: x.at[i].min(u),
    "max": lambda x, u, i: x.at[i].max(u * x[0, 0]),
    "set scalar": lambda x, u, i: (x * x).at[0, i[0]].set(u[0, 0] * u[0, 1]),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_agree_with_jax(name: str) -> None:
    import jax

    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(3, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    u[1] = x[2]  # ties of min and max
    i = np.array([2, 0, 2, 2] if name != "multiply" else [2, 0])
    f = functools.partial(DIFFERENTIABLE[name], i=as_array(i))
    g = functools.partial(DIFFERENTIABLE[name], i=jax.numpy.asarray(i))
    tangents = rng.normal(size=x.shape).astype(np.float32), rng.normal(size=u.shape).astype(np.float32)
    for a, b in zip(jvp(f, (x, u), tangents), jax.jvp(g, (x, u), tangents), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    out, pull = vjp(f, x, u)
    ct = rng.normal(size=out.shape).astype(np.float32)
    for a, b in zip(pull(ct), jax.vjp(g, x, u)[1](ct), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    wanted = jax.grad(lambda x, u: jax.jvp(g, (x, u), tangents)[1].sum(), argnums=(0, 1))(x, u)
    for h in (f, jit(f)):
        second = grad(lambda x, u, h=h: sum_all(jvp(h, (x, u), tangents)[1]), argnums=(0, 1))(x, u)
        for a, b in zip(second, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_clipped_read_goes_to_the_element_read() -> None:
    got = grad(lambda x: sum_all(x[np.array([0, 9])]))
    np.testing.assert_array_equal(got(np.zeros(3, np.float32)), [1, 0, 1])


def test_only_the_last_of_repeated_writes_has_a_gradient() -> None:
    got = grad(lambda u: sum_all(as_array(np.zeros(3, np.float32)).at[np.array([1, 1, 5])].set(u)))
    np.testing.assert_array_equal(got(np.ones(3, np.float32)), [0, 1, 0])


def test_products_at_repeated_indices_name_the_option_to_set() -> None:
    x = as_array(np.ones(3, np.float32))
    with pytest.raises(errors.NotDifferentiableError, match=r"scatter-mul: .*f32\[2\].*\n.*\n  fix: .*unique_indices"):
        grad(lambda u: sum_all(x.at[np.array([0, 1])].multiply(u)))(np.ones(2, np.float32))


# ---------------------------------------------------------------- vmap

BATCHABLE = {
    "read": lambda x, i, u: x[i],
    "read two": lambda x, i, u: x[i, 1],
    "read fill": lambda x, i, u: x.at[i].get(mode="fill"),
    "scalar": lambda x, i, u: x[i[0]],
    "set": lambda x, i, u: x.at[i].set(u),
    "add": lambda x, i, u: x.at[i].add(u),
    "multiply": lambda x, i, u: x.at[:, i].multiply(u[:, 0]),
    "max": lambda x, i, u: x.at[i, 0].max(u[:, 1]),
    "dynamic_slice": lambda x, i, u: dynamic_slice(x, [i[0], 1], (2, 2)),
    "dynamic_update_slice": lambda x, i, u: dynamic_slices.dynamic_update_slice(x, u[:2, :2], [i[0], i[1]]),
    "take_along_axis": lambda x, i, u: indexing.take_along_axis(x, i[:, None], 0),
}


@pytest.mark.parametrize("name", BATCHABLE)
def test_vmap_is_a_loop_for_every_choice_of_batched_operands(name: str) -> None:
    rng = np.random.default_rng(1)
    batch = 3
    whole = (
        rng.normal(size=(batch, 3, 4)).astype(np.float32),
        rng.integers(-4, 5, size=(batch, 2)).astype(np.int32),
        rng.normal(size=(batch, 2, 4)).astype(np.float32),
    )
    f = BATCHABLE[name]
    for bits in range(1, 8):
        axes = tuple(0 if bits >> k & 1 else None for k in range(3))
        args = [a if ax == 0 else a[0] for a, ax in zip(whole, axes, strict=True)]
        loop = [f(*(as_array(a[b] if ax == 0 else a) for a, ax in zip(args, axes, strict=True))) for b in range(batch)]
        for g in (vmap(f, in_axes=axes), jit(vmap(f, in_axes=axes))):
            np.testing.assert_array_equal(g(*args), np.stack([np.asarray(v) for v in loop]))
    moved = [np.moveaxis(a, 0, -1) for a in whole]
    loop = [np.asarray(f(*(as_array(a[b]) for a in whole))) for b in range(batch)]
    np.testing.assert_array_equal(vmap(f, in_axes=-1)(*moved), np.stack(loop))
    nested = vmap(vmap(f, in_axes=(None, 0, None)), in_axes=(0, None, 0))(*whole)
    assert nested.shape[:2] == (batch, batch)
    np.testing.assert_array_equal(nested[2, 1], f(*(as_array(a) for a in (whole[0][2], whole[1][1], whole[2][2]))))


# ---------------------------------------------------------------- the primitives, at their full generality


@st.composite
def gather_calls(draw: st.DrawFn) -> tuple:
    """(operand, indices, dimension numbers, window sizes), with batching dimensions and windows anywhere."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    dims = draw(st.permutations(range(len(shape))))
    n_batching = draw(st.integers(0, min(1, len(shape) - 1)))
    batching = tuple(sorted(dims[:n_batching]))
    free = [d for d in dims if d not in batching]
    index_map = tuple(free[: draw(st.integers(0, len(free)))])
    collapsed = tuple(sorted(d for d in free if draw(st.booleans())))
    sizes = tuple(1 if d in collapsed or d in batching else draw(st.integers(0, n)) for d, n in enumerate(shape))
    batch = [*draw(st.lists(st.integers(1, 3), max_size=2))]
    along = tuple(draw(st.integers(0, len(batch))) for _ in batching)
    for d, b in zip(batching, along, strict=True):
        batch.insert(b, shape[d])
    kept = len(shape) - len(collapsed) - len(batching)
    offset = tuple(sorted(draw(st.permutations(range(kept + len(batch))))[:kept]))
    count = int(np.prod(batch)) * len(index_map)
    flat = draw(st.lists(st.integers(-2, 5), min_size=count, max_size=count))
    indices = np.array(flat, np.int32).reshape(*batch, len(index_map))
    numbers = gathers.GatherDimensionNumbers(offset, collapsed, index_map, batching, along)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1, indices, numbers, sizes


MEMBERS = ["scatter_add", "scatter_sub", "scatter_mul", "scatter_min", "scatter_max"]


@pytest.mark.oracle
@settings(max_examples=25, deadline=None)
@given(gather_calls(), st.sampled_from(["clip", "fill"]), st.sampled_from(MEMBERS), st.integers(0, 2**32 - 1))
def test_gather_and_scatter_agree_with_jax(call: tuple, mode: str, name: str, seed: int) -> None:
    from jax import lax

    operand, indices, numbers, sizes = call
    mine = gather_scatter.gather(operand, indices, numbers, sizes, mode=mode)
    theirs = lax.gather(operand, indices, lax.GatherDimensionNumbers(*numbers), sizes, mode=mode)
    same(mine, theirs)
    updates = np.random.default_rng(seed).integers(-3, 4, mine.shape).astype(np.float32)
    if not numbers.start_index_map:
        return  # JAX writes one window only where index vectors are empty; the law below has these cases
    args = (operand, indices, updates)
    theirs = getattr(lax, name)(*args, lax.ScatterDimensionNumbers(*numbers), mode=mode)
    same(getattr(gather_scatter, name)(*args, gathers.ScatterDimensionNumbers(*numbers), mode=mode), theirs)


@settings(max_examples=15, deadline=None)
@given(gather_calls(), st.sampled_from(["clip", "fill"]), st.sampled_from(["scatter", *MEMBERS]), st.integers(0, 99))
def test_kernels_of_gathers_and_scatters_compute_what_numpy_does(call: tuple, mode: str, name: str, seed: int) -> None:
    operand, indices, numbers, sizes = call
    read = lambda x, i: gather_scatter.gather(x, i, numbers, sizes, mode=mode)  # noqa: E731
    into = gathers.ScatterDimensionNumbers(*numbers)
    write = lambda x, i, u: getattr(gather_scatter, name)(x, i, u, into, mode=mode)  # noqa: E731
    expected = read(operand, indices)
    same(jit(read)(operand, indices), expected)
    updates = np.random.default_rng(seed).integers(-3, 4, expected.shape).astype(np.float32)
    same(jit(write)(operand, indices, updates), write(operand, indices, updates))


@settings(max_examples=40, deadline=None)
@given(gather_calls(), st.sampled_from(["clip", "fill"]), st.integers(0, 2**32 - 1))
def test_scatter_add_is_the_adjoint_of_gather(call: tuple, mode: str, seed: int) -> None:
    """⟨gather(x), u⟩ = ⟨x, scatter-add(0, u)⟩ in integers, so exactly."""
    operand, indices, numbers, sizes = call
    read = np.asarray(gather_scatter.gather(operand, indices, numbers, sizes, mode=mode, fill_value=0))
    updates = np.random.default_rng(seed).integers(-3, 4, read.shape).astype(np.float32)
    numbers = gathers.ScatterDimensionNumbers(*numbers)
    back = gather_scatter.scatter_add(np.zeros_like(operand), indices, updates, numbers, mode=mode)
    assert np.vdot(read, updates) == np.vdot(operand, back)


def test_dynamic_slices_move_inside() -> None:
    x = np.arange(5, dtype=np.int32)
    for start in (-9, -1, 0, 3, 9):
        first = min(max(start + 5 if start < 0 else start, 0), 3)
        for s in (start, np.int32(start), np.array([start])):
            starts = s if isinstance(s, np.ndarray) and s.ndim else [s]
            np.testing.assert_array_equal(dynamic_slice(x, starts, (2,)), x[first : first + 2])
            np.testing.assert_array_equal(jit(lambda s: dynamic_slice(x, s, (2,)))(starts), x[first : first + 2])
        expected = x.copy()
        expected[first : first + 2] = 7
        np.testing.assert_array_equal(
            dynamic_slices.dynamic_update_slice(x, np.full(2, 7, np.int32), [start]), expected
        )


# ---------------------------------------------------------------- how reads are traced


def names(f: object, *args: object) -> list[str]:
    return [e.primitive.name for e in make_jaxpr(f)(*args).eqns]


def test_static_reads_are_slices_and_scalars_dynamic_slices() -> None:
    assert names(lambda x: x[1], X) == ["slice", "squeeze"]
    assert names(lambda x: x[9], X) == ["dynamic_slice", "squeeze"]  # which clips, and which checkify sees
    assert names(lambda x: x[..., ::-1], X) == ["rev"]
    assert names(lambda x: x[:, None], X) == ["broadcast_in_dim"]
    assert names(lambda x: x[:, :, ...], X) == []
    assert names(lambda x, i: x[i], X, 1) == [
        "convert_element_type",
        "lt",
        "add",
        "select_n",
        "dynamic_slice",
        "squeeze",
    ]
    assert names(lambda x, i: x[i], X, I) == ["lt", "add", "select_n", "broadcast_in_dim", "gather"]
    assert names(lambda x: x[I], X) == ["gather"]


@pytest.mark.oracle
def test_a_gather_prints_as_jax_prints_it() -> None:
    import jax

    f = lambda x, i: x[i]  # noqa: E731
    assert str(make_jaxpr(f)(X, as_array(I))) == str(jax.make_jaxpr(f)(X, jax.numpy.asarray(I)))


# ---------------------------------------------------------------- functions against JAX

V, W = np.arange(5, dtype=np.float32), np.arange(12, dtype=np.float32).reshape(3, 4)
P = np.array([0, 2, 2, 9, -1])

CALLS: dict[str, list] = {
    "take": [
        (V, P),
        (V, P, dict(mode="clip")),
        (V, P, dict(mode="wrap")),
        (W, P, 1),
        (W, P.reshape(5, 1), 0),
        (W, P),
        (W, 1, -1),
        (np.arange(5), P),
        (V, P, dict(fill_value=7)),
        (V, np.zeros((0,), int)),
    ],
    "take_along_axis": [
        (W, np.array([[0, 9, -1]]), 1),
        (W, np.array([[1], [0], [2]]), 1),
        (W, np.array([[0, 1, 2, 5]]), 0),
        (W, P, None),
        (W, np.array([[0], [1], [2]]), 1, "clip"),
        (W, np.array([[0, 9, -1]]), 1, None, 7),
    ],
    "put": [
        (V, P, np.array([7.0, 8.0]), dict(inplace=False)),
        (V, P, 3.0, dict(mode="wrap", inplace=False)),
        (W, np.array([1, -1]), 3.0, dict(inplace=False)),
    ],
    "put_along_axis": [
        (W, np.array([[1], [2], [3]]), 9.0, 1, dict(inplace=False)),
        (W, np.array([[1, 9, -1, 0]]), np.ones((1, 4)), 0, dict(inplace=False)),
    ],
    "place": [
        (V, V > 1, np.array([7.0, 8.0]), dict(inplace=False)),
        (W, W % 2 == 0, np.array([7]), dict(inplace=False)),
    ],
    "choose": [
        (np.array([0, 1, 1]), [np.arange(3), np.arange(3) * 10]),
        (np.array([0, 1, 5]), [np.arange(3), np.arange(3) * 10.0], dict(mode="wrap")),
        (np.array([[0], [7]]), [np.arange(3), 4], dict(mode="clip")),
    ],
    "compress": [
        (np.array([True, False, True]), W, 0),
        (np.array([True, False, True]), W),
        (np.array([True, False, True]), W, 0, dict(size=3)),
        (np.array([0, 1, 1]), W, 1, dict(size=1)),
    ],
    "extract": [(W > 3, W), (W > 3, W, dict(size=3)), (W > 9, W, dict(size=5, fill_value=-1))],
    "nonzero": [
        (W > 3,),
        (W,),
        (V,),
        (V, dict(size=7, fill_value=-1)),
        (W > 9, dict(size=4, fill_value=(5, 6))),
        (W, dict(size=2)),
        (W, dict(size=0)),
    ],
    "flatnonzero": [(W > 8,), (W > 8, dict(size=5, fill_value=99))],
    "argwhere": [(W > 9,), (W > 9, dict(size=4)), (W > 9, dict(size=1)), (np.float32(3.0),)],
    "where": [(V > 1,), (V > 1, dict(size=2, fill_value=9)), (V > 1, dict(size=5, fill_value=9)), (V > 1, V, 0)],
    "diag_indices": [(3,), (2, 3), (0,)],
    "diag_indices_from": [(np.ones((3, 3)),)],
    "tril_indices": [(3,), (3, 1), (3, -1, 4)],
    "triu_indices": [(3,), (3, 1, 4), (2, -1)],
    "tril_indices_from": [(W,), (W, 1)],
    "triu_indices_from": [(W,), (W, -1)],
    "indices": [((2, 3),), ((2, 3), dict(sparse=True)), ((4,), dict(dtype="float32")), ((),)],
    "ix_": [(np.array([1, 2]), np.array([0, 1, 2])), (np.array([3]),)],
    "unravel_index": [(np.array([5, -1, 100, -100]), (3, 4)), (np.array([[1, 2]]), (2, 2, 2)), (np.int32(5), (3, 4))],
    "ravel_multi_index": [
        ((np.array([2, 1]), np.array([1, 3])), (3, 4)),
        ((np.array([2, 5]), np.array([1, -1])), (3, 4), dict(mode="clip")),
        ((np.array([2, 5]), np.array([1, -1])), (3, 4), dict(mode="wrap", order="F")),
    ],
    "delete": [(V, np.array([1, 1])), (V, slice(1, 3)), (W, 1, dict(axis=1)), (W, 2), (V, V > 2), (V, -1)],
    "insert": [
        (V, np.array([1, 1]), np.array([7, 8.0])),
        (V, 2, 9),
        (W, 1, 9, dict(axis=1)),
        (W, 1, np.arange(4), dict(axis=0)),
        (W, np.array([0, 2]), np.arange(3)[:, None], dict(axis=1)),
        (V, slice(1, 3), 5),
        (V, np.array([5, 0]), 5),
        (V, 5, np.array([1, 2])),
        (W, 1, np.arange(3), dict(axis=1)),
        (V, np.array([-1]), 4),
        (W, np.array([1]), np.arange(4)[None], dict(axis=0)),
    ],
    "select": [([W > 5, W > 2], [W, W * 2], -1), ([W > 5], [1], 0), ([V > 2, V > 1], [V, np.arange(5)], 0.5)],
    "piecewise": [
        (V, [V < 1, V > 3], [lambda x: -x, lambda x: x * 2, 7.0]),
        (V, [V > 1, V > 2], [1, 2]),
        (np.arange(5), [np.arange(5) > 2], [lambda x: x * 2, 9.5]),
    ],
    "fill_diagonal": [
        (W, 7.0, dict(inplace=False)),
        (W.T, np.array([1.0, 2.0]), dict(inplace=False)),
        (np.zeros((2, 2, 2), np.float32), 7.0, dict(inplace=False)),
    ],
}


def function(name: str) -> object:
    return getattr(masks, name, None) or getattr(indexing, name)


@pytest.mark.oracle
@pytest.mark.parametrize("name", CALLS)
def test_functions_agree_with_jax(name: str) -> None:
    import jax.numpy as jnp

    for call in CALLS[name]:
        args, kwargs = (call[:-1], call[-1]) if isinstance(call[-1], dict) else (call, {})
        wanted = getattr(jnp, name)(*args, **kwargs)
        if name == "indices" and args == ((),):
            wanted = np.zeros((0,), np.int32)
        got = function(name)(*args, **kwargs)
        assert isinstance(got, tuple) == isinstance(wanted, tuple)
        for a, b in zip(got, wanted, strict=True) if isinstance(got, tuple) else [(got, wanted)]:
            same(a, b)


def test_functions_agree_with_numpy_where_jax_has_less() -> None:
    tall = np.zeros((5, 2), np.float32)
    filled = tall.copy()
    np.fill_diagonal(filled, 7, wrap=True)
    same(indexing.fill_diagonal(tall, 7, wrap=True, inplace=False), filled)
    same(masks.piecewise(V, V > 2, [lambda x: x + 1]), np.piecewise(V, V > 2, [lambda x: x + 1]))
    by_masks = indexing.ix_(np.array([True, False, True]), np.array([1]))
    np.testing.assert_array_equal(as_array(W)[by_masks], W[np.ix_([True, False, True], [1])])


JITTABLE = ["take", "take_along_axis", "put", "put_along_axis", "place", "select", "fill_diagonal", "unravel_index"]


@pytest.mark.parametrize("name", JITTABLE)
def test_functions_are_the_same_under_jit(name: str) -> None:
    for call in CALLS[name]:
        args, kwargs = (call[:-1], call[-1]) if isinstance(call[-1], dict) else (call, {})
        arrays = [isinstance(a, (np.ndarray, list)) for a in args]

        def f(*given: object, args: tuple = args, kwargs: dict = kwargs, arrays: list = arrays) -> object:
            rest = iter(given)
            return function(name)(*(next(rest) if m else a for a, m in zip(args, arrays, strict=True)), **kwargs)

        got = jit(f)(*(a for a, m in zip(args, arrays, strict=True) if m))
        wanted = function(name)(*args, **kwargs)
        for a, b in zip(got, wanted, strict=True) if isinstance(got, tuple) else [(got, wanted)]:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["nonzero", "flatnonzero", "argwhere", "where", "extract", "compress"])
def test_size_makes_searches_work_under_jit_and_vmap(name: str) -> None:
    args = {"extract": (V > 1, V), "compress": (V > 1, V)}.get(name, (V > 1,))
    f = functools.partial(function(name), size=7, fill_value=-1)
    wanted = f(*args)
    for got in (jit(f)(*args), vmap(lambda *a: f(*a))(*(np.stack([a, a]) for a in args))):
        for a, b in zip(got, wanted, strict=True) if isinstance(wanted, tuple) else [(got, wanted)]:
            np.testing.assert_array_equal(np.broadcast_to(np.asarray(a), (2, *b.shape))[1], b)


def test_insert_and_delete_take_a_traced_position() -> None:
    for i in (0, 2, -1):
        np.testing.assert_array_equal(jit(lambda v, i: masks.delete(v, i))(V, i), np.delete(V, i))
        np.testing.assert_array_equal(jit(lambda v, i: masks.insert(v, i, 9))(V, i), np.insert(V, i, 9))


def test_take_along_axis_has_the_gradient_of_its_read() -> None:
    order = np.argsort(-W, axis=1)
    got = grad(lambda w: sum_all(indexing.take_along_axis(w, order, 1) * W))(W)
    np.testing.assert_array_equal(got, np.take_along_axis(W, np.argsort(order, 1), 1))


# ---------------------------------------------------------------- iteration, and what is refused


def test_iteration_gives_the_rows() -> None:
    rows = list(as_array(W))
    assert [r.shape for r in rows] == [(4,)] * 3
    np.testing.assert_array_equal(np.stack(rows), W)
    a, b, c = jit(lambda w: tuple(w))(W)
    np.testing.assert_array_equal(c, W[2])
    with pytest.raises(TypeError, match=r"iteration over a 0-d array: f32\[\]"):
        iter(as_array(np.float32(1)))


x = as_array(np.zeros((3, 4), np.float32))
BAD: list[tuple] = [
    (lambda: x[[0, 1]], errors.IndexingError, r"indexing f32\[3,4\]: the index is a list, \[0, 1\]", r"x\[jnp.array"),
    (lambda: x[1.5], TypeError, r"index 0 is 1.5 of type float", r"\.astype\(int\)"),
    (lambda: x[0, np.ones(2)], TypeError, r"index 1 is .* of type f32\[2\]", r"\.astype\(int\)"),
    (lambda: x["a"], errors.IndexingError, r"index 0 is 'a' of type str", "indices are ints"),
    (lambda: x[0, 1, 2], IndexError, r"too many indices, 3 for 2 dimensions", r"x\[None\]"),
    (lambda: x[..., ...], IndexError, "2 ellipses", "once"),
    (
        lambda: x[np.ones(2, bool)],
        IndexError,
        r"mask at index 0 has shape \(2,\), .* have shape \(3,\)",
        "a mask with the shape",
    ),
    (lambda: x[np.zeros(2, int), np.zeros(3, int)], ValueError, r"shapes \(2,\) and \(3,\) do not broadcast", "ix_"),
    (lambda: x[1.0:], errors.IndexingError, r"slice at index 0 is 1.0:", "dynamic_slice"),
    (lambda: jit(lambda i: x[i:])(1), errors.IndexingError, "bounds are not static", "dynamic_slice"),
    (
        lambda: jit(lambda m: x[m])(np.ones(3, bool)),
        errors.ConcretizationError,
        r"traced mask bool\[3\]",
        r"jnp.where.*size=",
    ),
    (lambda: jit(lambda m: x.at[m].set(0))(np.ones(3, bool)), errors.ConcretizationError, "traced mask", "jnp.where"),
    (
        lambda: x.__setitem__(0, 1),
        TypeError,
        r"x\[0\] = …: arrays are immutable, and x is f32\[3,4\]",
        r"x = x.at\[index\].set",
    ),
    (
        lambda: x.at[0].set(np.ones(3)),
        ValueError,
        r"values f32\[3\] do not fit .* f32\[3,4\], which have shape \(4,\)",
        "broadcast",
    ),
    (lambda: x.at[0].get(mode="foo"), ValueError, "unknown mode 'foo'", "'clip'"),
    (lambda: x[:, 4:][:, 0], IndexError, r"indexing f32\[3,0\]: dimension 1 is empty", "size"),
    (lambda: as_array(np.zeros(3, bool)).at[0].add(True), TypeError, "scatter-add: .* bool", "cast"),
    (
        lambda: jit(lambda i: x.at[i].apply(lambda v: v))(I),
        errors.ConcretizationError,
        r"i32\[5\] are traced",
        "unique_indices=True",
    ),
    (lambda: indexing.take(x, [1]), TypeError, r"take: operand \[1\] of type list", "asarray"),
    (lambda: indexing.take(x, 1.0), TypeError, r"take: indices has type f32\[\]", "astype"),
    (lambda: indexing.take(x, 1, mode="raise"), ValueError, "mode 'raise' is not supported", "raising needs values"),
    (lambda: indexing.take(x, 1, axis=2), ValueError, "axis 2 is out of range for an array of 2 dim", "choose axis"),
    (lambda: indexing.take(x[:0], 1, axis=0), IndexError, r"axis 0 of f32\[0,4\] is empty", "size"),
    (
        lambda: indexing.take_along_axis(x, np.zeros(3, int), 1),
        ValueError,
        r"f32\[3,4\] and indices i32\[3\]",
        "expand_dims",
    ),
    (lambda: indexing.put(x, 1, 2), ValueError, "inplace=True", "inplace=False"),
    (
        lambda: jit(masks.nonzero)(x),
        errors.ConcretizationError,
        r"nonzero: elements of type f32\[3,4\] are traced",
        "size=",
    ),
    (lambda: masks.nonzero(np.float32(1)), ValueError, "0-d", "atleast_1d"),
    (lambda: indexing.choose(np.array([5]), [x, x]), IndexError, "from 5 to 5 for 2 choices", "mode='clip'"),
    (
        lambda: indexing.ravel_multi_index((np.array([5]),), (3,)),
        IndexError,
        "outside a dimension of size 3",
        "mode='clip'",
    ),
    (lambda: masks.delete(x, 9, axis=0), IndexError, r"positions .*9.* not in axis 0 of f32\[3,4\]", r"\[-3, 3\)"),
    (lambda: masks.select([x > 0], [1, 2]), ValueError, "1 conditions for 2 choices", "one condition per choice"),
    (lambda: masks.where(x > 0, 1), ValueError, "one of x and y is None", "both"),
    (
        lambda: dynamic_slice(x, [0], (1, 1)),
        ValueError,
        r"1 start indices for operand f32\[3,4\]",
        "one per dim",
    ),
    (
        lambda: dynamic_slice(x, [0, 0], (9, 1)),
        TypeError,
        r"window of shape \(9, 1\) does not fit",
        "at most",
    ),
    (
        lambda: dynamic_slice(x, [0.5, 0], (1, 1)),
        TypeError,
        r"a start index has type f32",
        "integer scalars",
    ),
    (
        lambda: dynamic_slices.dynamic_update_slice(x, np.ones((1, 1), np.int32), [0, 0]),
        TypeError,
        "f32.*i32.*different dtypes",
        "cast",
    ),
    (
        lambda: gather_scatter.gather(x, np.zeros((2, 1), np.int32), ((), (0,), (0,)), (1, 4)),
        TypeError,
        "gather: 0 window",
        "exactly one",
    ),
    (
        lambda: gather_scatter.gather(x, np.zeros((2, 1), np.float32), ((1,), (0,), (0,)), (1, 4)),
        TypeError,
        "dtype float32",
        "astype",
    ),
    (
        lambda: gather_scatter.gather(x, np.zeros((2, 2), np.int32), ((1,), (0,), (0,)), (1, 4)),
        TypeError,
        "2 entries for 1",
        "one operand",
    ),
    (
        lambda: gather_scatter.scatter_add(
            x, np.zeros((2, 1), np.int32), np.ones((3, 4), np.float32), ((1,), (0,), (0,))
        ),
        TypeError,
        r"scatter-add: updates f32\[3,4\] do not fit indices i32\[2,1\]",
        "leading dimensions",
    ),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input_is_explained(case: int) -> None:
    call, kind, message, remedy = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, errors.FuncgradError)
    assert re.search(remedy, caught.value.fix)
    assert "test_indexing.py:" in str(caught.value)
