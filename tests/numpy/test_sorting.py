"""Sorting, searching, distinct elements and quantiles, against NumPy and JAX, and on bad input."""

from __future__ import annotations

import functools
import itertools
import re

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.testing import assert_close, check_grads
from tests.comparing import assert_same

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NAN = np.nan
SPECIAL = np.array([3, NAN, -0.0, 0.0, np.inf, -1, NAN, 0.0, -0.0, -np.inf, 3], np.float32)
# Few values, so that there are ties; the shape is small, so that axes and empty arrays come up.
TIED = st.integers(-2, 2)


@st.composite
def tied_arrays(draw: st.DrawFn, min_dims: int = 1) -> np.ndarray:
    shape = draw(st.lists(st.integers(0, 5), min_size=min_dims, max_size=3))
    dtype = draw(st.sampled_from([np.float32, np.float16, BFLOAT16, np.int32, np.int8, np.uint8, np.bool_]))
    values = draw(st.lists(TIED, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return np.array(values, np.int8).astype(dtype).reshape(shape)


def single(x: np.ndarray) -> np.ndarray:
    """NumPy's sorts do not know bfloat16's NaN."""
    return x.astype(np.float32) if x.dtype == BFLOAT16 else x


same_bits = functools.partial(assert_same, signed_zeros=True)


# ---------------------------------------------------------------- sort


@given(tied_arrays(), st.data())
def test_sort_and_argsort_are_numpys_stable_ones(x: np.ndarray, data: st.DataObject):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    order = np.argsort(single(x), axis, kind="stable")
    expected = np.take_along_axis(x, order, axis)
    assert_close(jnp.sort(x, axis), expected)
    assert_close(jnp.argsort(x, axis), order.astype(np.int32))
    assert_close(jnp.sort(x, axis, descending=True), np.flip(expected, axis))
    backwards = np.argsort(-single(x).astype(np.float32), axis, kind="stable")
    assert_close(jnp.argsort(x, axis, descending=True), backwards.astype(np.int32))
    assert_close(lax.sort(x, axis), expected)
    flat = np.sort(single(x), None).astype(x.dtype)
    assert_close(jnp.sort(x, None), flat)


@given(st.data())
def test_sort_by_several_keys_is_lexsort(data: st.DataObject):
    n, count = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 3))
    keys = [np.array(data.draw(st.lists(TIED, min_size=n, max_size=n)), np.float32) for _ in range(count)]
    values = np.arange(n, dtype=np.int32)
    order = np.lexsort(keys[::-1])
    got = lax.sort((*keys, values), num_keys=count)
    assert_close(got, (*(k[order] for k in keys), order.astype(np.int32)))
    assert_close(jnp.lexsort(keys), np.lexsort(keys).astype(np.int32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16])
def test_nan_comes_last_and_zeros_are_equal(dtype: type):
    x = SPECIAL.astype(dtype)
    expected = x[np.argsort(single(x), kind="stable")]
    same_bits(lax.sort(x), expected)
    same_bits(fg.jit(lax.sort)(x), expected)
    same_bits(lax.sort((x, np.arange(11)))[0], expected)
    assert np.isnan(single(np.asarray(jnp.sort(x, descending=True)))[:2]).all()


def test_sort_of_empty_and_single_elements():
    assert_close(jnp.sort(np.zeros((0, 3), np.float32), 0), np.zeros((0, 3), np.float32))
    assert_close(jnp.sort(np.float32(2), axis=None), np.float32([2]))
    assert_close(jnp.argsort(np.float32([7]), dtype=np.int8), np.int8([0]))


def test_sort_complex():
    z = np.array([1 + 2j, 1 - 1j, 0], np.complex64)
    assert_close(jnp.sort_complex(z), np.sort_complex(z))
    assert_close(jnp.sort_complex(np.array([2, 1])), np.array([1, 2], np.complex64))


@given(tied_arrays(), st.data())
def test_partitions_hold_smaller_elements_before_and_greater_after(x: np.ndarray, data: st.DataObject):
    axis = data.draw(st.integers(0, x.ndim - 1))
    assume(x.shape[axis])
    kth = data.draw(st.integers(-x.shape[axis], x.shape[axis] - 1))
    parts = np.asarray(jnp.partition(x, kth, axis))
    places = np.asarray(jnp.argpartition(x, kth, axis))
    assert_close(np.take_along_axis(x, places, axis), parts)
    pivot = np.take(single(parts), [kth], axis)
    before, after = (np.take(single(parts), r, axis) for r in (range(kth % x.shape[axis]), range(kth, 0)))
    assert (before <= pivot).all() and (after >= pivot).all()
    assert_close(np.sort(single(parts), axis), np.sort(single(x), axis))


def test_derivatives_follow_the_elements():
    x = np.float32([[3, 1, 2], [6, 5, 4]])
    w = np.float32([[1, 10, 100], [1, 10, 100]])
    assert_close(fg.grad(lambda x: (jnp.sort(x) * w).sum())(x), np.float32([[100, 1, 10], [100, 10, 1]]))
    assert_close(fg.grad(lambda x: (lax.top_k(x, 1)[0] * 7).sum())(x), np.float32([[7, 0, 0], [7, 0, 0]]))
    check_grads(lambda x, y: lax.sort((x, y * y * x), 1), (x, w / 100), order=2)
    check_grads(lambda x: lax.top_k(x * x, 2, axis=0)[0], (x,), order=2)


# ---------------------------------------------------------------- top_k


@given(tied_arrays(), st.data())
def test_top_k_is_the_head_of_the_descending_sort(x: np.ndarray, data: st.DataObject):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = data.draw(st.integers(0, x.shape[axis]))
    order = np.take(np.argsort(-single(x).astype(np.float32), axis, kind="stable"), range(k), axis)
    values, positions = lax.top_k(x, k, axis=axis)
    assert_close((values, positions), (np.take_along_axis(x, order, axis), order.astype(np.int32)))


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("axis", [0, 1])
def test_top_few_of_many_are_the_first_of_equals(k: int, axis: int):
    x = np.random.default_rng(k).integers(-3, 3, size=(60, 70)).astype(np.float32)
    x[3, 5], x[40, 5] = NAN, -0.0
    order = np.argsort(-np.nan_to_num(x, nan=9), axis, kind="stable")
    best = np.take(order, range(k), axis)
    values, positions = lax.top_k(x, k, axis=axis)
    assert_close((values, positions), (np.take_along_axis(x, best, axis), best.astype(np.int32)))


def test_approx_max_k_is_exact():
    x = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    for sign, function in ((1, lax.approx_max_k), (-1, lax.approx_min_k)):
        values, positions = function(x, 5)
        assert_close(values, sign * -np.sort(-sign * x)[:, :5])
        assert_close(np.take_along_axis(x, np.asarray(positions), 1), np.asarray(values))


# ---------------------------------------------------------------- search


@given(st.data())
def test_searchsorted_is_numpys(data: st.DataObject):
    values = st.lists(st.one_of(TIED, st.just(NAN)), max_size=9)
    a, v = (np.array(data.draw(values), np.float32) for _ in range(2))
    a = np.sort(a)
    for side in ("left", "right"):
        expected = np.searchsorted(a, v, side).astype(np.int32)
        assert_close(jnp.searchsorted(a, v, side), expected)
        # NumPy does not know bfloat16, so that this is the search that compiled programs do.
        assert_close(jnp.searchsorted(a.astype(BFLOAT16), v.astype(BFLOAT16), side), expected)
    order = data.draw(st.permutations(range(a.size)))
    shuffled = a[np.argsort(order)]
    assert_close(
        jnp.searchsorted(shuffled, v, sorter=np.array(order, np.int32)), np.searchsorted(a, v).astype(np.int32)
    )


def test_searchsorted_of_every_size():
    for n in (0, 1, 2, 3, 4, 7, 8, 9):
        a, v = np.arange(n, dtype=np.int32), np.arange(-1, n + 2, dtype=np.int32)
        got = fg.jit(jnp.searchsorted)(a, v)
        assert_close(got, np.searchsorted(a, v).astype(np.int32))


def test_vmap_of_searchsorted_searches_row_by_row():
    a = np.sort(np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32))
    v = np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)
    expected = np.stack([np.searchsorted(r, q) for r, q in zip(a, v, strict=True)]).astype(np.int32)
    assert_close(fg.vmap(jnp.searchsorted)(a, v), expected)
    assert_close(fg.vmap(jnp.searchsorted, (None, 0))(a[0], v[:, 0]), np.searchsorted(a[0], v[:, 0]).astype(np.int32))


@pytest.mark.parametrize("bins", [[1, 2, 3], [3, 2, 1], [2], [1, 1], [2, 2, 1], []])
@pytest.mark.parametrize("right", [False, True])
def test_digitize_is_numpys(bins: list[int], right: bool):
    x = np.array([[0, 1, 1.5], [2, 3, 4]], np.float32)
    assert_close(jnp.digitize(x, np.array(bins, np.int32), right), np.digitize(x, bins, right).astype(np.int32))


# ---------------------------------------------------------------- unique


@given(tied_arrays(min_dims=0), st.data())
def test_unique_is_numpys(x: np.ndarray, data: st.DataObject):
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1))) if x.ndim and x.size else None
    expected = np.unique(single(x), True, True, True, axis=axis)
    values, *rest = jnp.unique(x, True, True, True, axis=axis)
    assert_close(values, expected[0].astype(x.dtype))
    assert_close(rest, [e.astype(np.int32) for e in expected[1:]])
    assert_close(jnp.unique(x, axis=axis), expected[0].astype(x.dtype))


@settings(max_examples=20)
@given(st.lists(TIED, min_size=1, max_size=8), st.integers(0, 6), st.sampled_from([None, 9]))
def test_unique_of_a_size_is_cut_or_filled_up(x: list[int], size: int, fill: int | None):
    values, index, inverse, counts = np.unique(x, True, True, True)
    missing = max(0, size - len(values))
    expected = [
        np.append(values[:size], [values[0] if fill is None else fill] * missing),
        np.append(index[:size], [index[0]] * missing),
        inverse,
        np.append(counts[:size], [0] * missing),
    ]

    def program(x: object) -> object:
        return jnp.unique(x, True, True, True, size=size, fill_value=fill)

    for way in (program, fg.jit(program)):
        assert_close(list(way(np.array(x, np.int32))), [e.astype(np.int32) for e in expected])


def test_nan_is_one_element_or_many():
    x = np.float32([NAN, 1, NAN])
    assert_close(jnp.unique(x, return_counts=True), (np.float32([1, NAN]), np.int32([1, 2])))
    assert_close(jnp.unique(x, equal_nan=False), np.float32([1, NAN, NAN]))
    assert_close(jnp.unique_counts(x), jnp.unique_counts(x)._replace(values=np.float32([1, NAN, NAN])))


def test_array_api_names_give_named_tuples():
    x = np.array([[3, 1], [3, 2]], np.int32)
    all_ = jnp.unique_all(x)
    assert_close(all_.values, np.int32([1, 2, 3]))
    assert_close((all_.indices, all_.counts), (np.int32([1, 3, 0]), np.int32([1, 1, 2])))
    assert_close(all_.inverse_indices, np.int32([[2, 0], [2, 1]]))
    assert_close(jnp.unique_inverse(x).inverse_indices, all_.inverse_indices)
    assert_close(jnp.unique_values(x), all_.values)


# ---------------------------------------------------------------- quantiles

METHODS = ["linear", "lower", "higher", "midpoint", "nearest", "inverted_cdf"]
QUANTILED = np.random.default_rng(3).normal(size=(4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_quantiles_are_numpys(method: str, axis: object, keepdims: bool):
    # No share that single precision puts on the other side of an element.
    for q in (np.float32(0.31), np.float32([[0.11, 0.47], [0.83, 1]])):
        options = {"axis": axis, "method": method, "keepdims": keepdims}
        expected = np.quantile(QUANTILED, q.astype(np.float64), **options).astype(np.float32)
        assert_close(jnp.quantile(QUANTILED, q, **options), expected, rtol=1e-5, atol=1e-6)
        assert_close(jnp.percentile(QUANTILED, 100 * q, **options), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [None, 0, (1, 2)])
def test_nan_versions_leave_nan_out(axis: object):
    x = QUANTILED.copy()
    x[0, 0], x[1, 2, 1], x[:, 4] = NAN, NAN, NAN
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if axis == 0 else _nothing():
        for ours, theirs, q in (
            (jnp.nanquantile, np.nanquantile, (0.3,)),
            (jnp.nanpercentile, np.nanpercentile, (70,)),
            (jnp.nanmedian, np.nanmedian, ()),
            (jnp.median, np.median, ()),
        ):
            assert_close(ours(x, *q, axis=axis), np.asarray(theirs(x, *q, axis=axis), np.float32), rtol=1e-5, atol=1e-6)


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None: ...


def test_quantiles_of_integers_infinities_and_narrow_floats():
    assert_close(jnp.median(np.array([1, 2, 3, 10])), np.float32(2.5))
    assert_close(jnp.quantile(np.arange(4, dtype=np.int8), 1), np.float32(3))
    assert_close(jnp.quantile(np.float32([1, np.inf, np.inf]), 0.7), np.float32(np.inf))
    # In bfloat16 itself, 0.5 · 1000 positions would be off by some.
    assert_close(jnp.quantile(np.arange(1001).astype(BFLOAT16), 0.5), np.array(500, BFLOAT16))


def test_derivatives_of_quantiles():
    x = np.float32([3, 1, 2, 7])
    assert_close(fg.grad(jnp.median)(x), np.float32([0.5, 0, 0.5, 0]))
    assert_close(fg.grad(lambda x: jnp.quantile(x, 0.25))(x), np.float32([0, 0.25, 0.75, 0]))
    assert_close(fg.grad(lambda q: jnp.quantile(x, q))(np.float32(0.5)), np.float32(3))


# ---------------------------------------------------------------- JAX

PROGRAMS = {
    "sort": lambda m, x: m.lax.sort(x, dimension=0),
    "argsort": lambda m, x: m.numpy.argsort(x, axis=0),
    "argsort descending": lambda m, x: m.numpy.argsort(x, descending=True),
    "lexsort": lambda m, x: m.numpy.lexsort((x[:, 0], x[:, 1])),
    "sort two": lambda m, x: m.lax.sort((x, -x), num_keys=2)[1],
    "top_k": lambda m, x: m.lax.top_k(x, 2)[0],
    "top_k positions": lambda m, x: m.lax.top_k(x, 2, axis=0)[1],
    "jvp of sort": lambda m, x: m.jvp(lambda x: m.lax.sort(x), (x,), (x * x,))[1],
    "grad of sort": lambda m, x: m.grad(lambda v: (m.lax.sort(v) * x).sum())(x),
    "median": lambda m, x: m.numpy.median(x, axis=0),
    "searchsorted": lambda m, x: m.numpy.searchsorted(m.numpy.sort(x[0]), x),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_types_and_sorts_in_jaxprs_are_jaxs(name: str):
    import jax

    x = SPECIAL[:9].reshape(3, 3) if "grad" not in name and "jvp" not in name else QUANTILED[:3, :3, 0]
    program = PROGRAMS[name]
    same_bits(program(fg, x), np.asarray(program(jax, x)))
    texts = [str(m.make_jaxpr(lambda x, m=m: program(m, x))(x)) for m in (fg, jax)]
    sorts = [[" ".join(s.split()) for s in re.findall(r"= ((?:sort|top_k)\[.*?\])", t, re.DOTALL)] for t in texts]
    assert sorts[0] == sorts[1]


@pytest.mark.oracle
def test_total_order_of_top_k_is_jaxs():
    from jax import lax as lax_of_jax

    x = np.float32([1, NAN, 2, -0.0, 0.0, -NAN, np.inf, -np.inf, -0.0])
    values, positions = lax.top_k(x, 9)
    expected = lax_of_jax.top_k(x, 9)
    same_bits(values, np.asarray(expected[0]))
    assert_close(positions, np.asarray(expected[1]))


@pytest.mark.oracle
def test_order_of_complex_numbers_is_jaxs():
    from jax import lax as lax_of_jax

    parts = [0, -0.0, 1, -1, NAN]
    z = np.array([complex(a, b) for a, b in itertools.product(parts, repeat=2)], np.complex64)
    order = np.arange(z.size)
    assert_close(lax.sort((z, order))[1], np.asarray(lax_of_jax.sort((z, order))[1]))


# ---------------------------------------------------------------- bad input

X = np.zeros((2, 3), np.float32)
BAD = {
    "shapes": (
        lambda: lax.sort((X, X[:1])),
        errors.ShapeError,
        "sort: operands have different shapes: f32[2,3], f32[1,3]",
    ),
    "dimension": (lambda: lax.sort(X, 2), errors.ArgumentError, "sort: axis 2 is out of range"),
    "keys": (lambda: lax.sort(X, num_keys=2), errors.ArgumentError, "sort: num_keys=2 with 1 operands"),
    "kind": (lambda: jnp.sort(X, kind="heapsort"), errors.ArgumentError, "sort: kind='heapsort'"),
    "scalar": (lambda: jnp.sort(np.float32(1)), errors.ArgumentError, "sort: axis -1 is out of range"),
    "list": (lambda: jnp.sort([1, 2]), errors.ArgumentError, "sort: operand [1, 2] of type list"),
    "no keys": (lambda: jnp.lexsort([]), errors.ArgumentError, "lexsort: there are no keys"),
    "kth": (lambda: jnp.partition(X, 3), errors.ArgumentError, "partition: kth: axis 3 is out of range"),
    "k": (lambda: lax.top_k(X, 4), errors.ArgumentError, "top_k: k=4 along axis 1 of operand f32[2,3]"),
    "complex": (lambda: lax.top_k(X * 1j, 1), errors.DTypeError, "top_k: operand c64[2,3] is complex"),
    "side": (lambda: jnp.searchsorted(X[0], 1.0, "middle"), errors.ArgumentError, "searchsorted: side is 'middle'"),
    "rank": (lambda: jnp.searchsorted(X, 1.0), errors.ShapeError, "searchsorted: the sorted array has type f32[2,3]"),
    "bins": (lambda: jnp.digitize(X, X), errors.ShapeError, "digitize: bins have type f32[2,3]"),
    "traced": (
        lambda: fg.jit(jnp.unique)(X),
        errors.ConcretizationError,
        "unique: elements of type f32[2,3] are traced",
    ),
    "fill": (lambda: jnp.unique(X[:0], size=2), errors.ArgumentError, "unique: size=2 for the empty array f32[0,3]"),
    "method": (lambda: jnp.quantile(X, 0.5, method="cubic"), errors.ArgumentError, "quantile: method is 'cubic'"),
    "nothing": (lambda: jnp.median(X[:0], 0), errors.ShapeError, "median: no elements along axis 0 of f32[0,3]"),
    "no order": (lambda: jnp.quantile(X * 1j, 0.5), errors.DTypeError, "quantile: operand c64[2,3]"),
    "axis": (lambda: jnp.median(X, (0, 0)), errors.ArgumentError, "median: axis (0, 0) names an axis twice"),
    "out": (lambda: jnp.median(X, out=X), errors.ArgumentError, "median: out="),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_operation_values_line_and_remedy(name: str):
    call, error, text = BAD[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert text in message, message
    assert "at test_sorting.py:" in message and "\n  fix: " in message
