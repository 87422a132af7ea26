"""dot_general and what is made of it (matmul, einsum, …), against NumPy and JAX, and on bad input."""

from __future__ import annotations

import itertools
import re
import string

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.testing import assert_close, check_grads
from funcgrad.testing.calls import calls_of

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NARROW = [d for d in fg.dtypes.ALL if d.itemsize <= 4 or d == np.complex64]


def random(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed + sum(shape)).normal(size=shape)
    return (values * 4).astype(dtype)


# ---------------------------------------------------------------- dot_general


def reference(lhs: np.ndarray, rhs: np.ndarray, numbers: tuple, result: np.dtype) -> np.ndarray:
    """dot_general by np.einsum in a wide type."""
    (lc, rc), (lb, rb) = numbers
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in lhs.shape]
    right: list[str] = [""] * rhs.ndim
    for i, j in zip((*lc, *lb), (*rc, *rb), strict=True):
        right[j] = left[i]
    right = [name or next(letters) for name in right]
    batch = [left[i] for i in lb]
    free = [n for names, other in ((left, right), (right, left)) for n in names if n not in other]
    wide = np.result_type(np.float32, result) if result == BFLOAT16 else np.promote_types(result, np.float32)
    wide = result if result.kind in "biu" else wide
    product = np.einsum(
        f"{''.join(left)},{''.join(right)}->{''.join(batch + free)}", lhs.astype(wide), rhs.astype(wide)
    )
    return product.astype(result)


@given(calls_of("dot_general", NARROW))
def test_dot_general_is_einsum(call: object):
    numbers, result = call.params["dimension_numbers"], fg.dtypes.canonicalize(call.params["preferred_element_type"])
    got = lax.dot_general(*call.args, numbers, preferred_element_type=result)
    assert_close(got, reference(*call.args, numbers, result), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16])
def test_sixteen_bit_floats_accumulate_in_single_precision(dtype: type):
    ones = np.ones(4096, dtype)
    assert float(jnp.dot(ones, ones)) == 4096
    wide = jnp.dot(ones, ones * dtype(0.01), preferred_element_type=np.float32) if dtype == np.float16 else None
    assert wide is None or (wide.dtype == np.float32 and abs(float(wide) - 4096 * float(dtype(0.01))) < 1e-3)


def test_integers_wrap_around_and_bools_combine():
    x = np.full((1, 4), 100, np.int8)
    assert int(jnp.matmul(x, x.T)[0, 0]) == np.int64(40000).astype(np.int8)
    assert int(jnp.matmul(x, x.T, preferred_element_type=np.int32)[0, 0]) == 40000
    p = np.array([[True, False], [False, False]])
    assert_close(jnp.matmul(p, p), p @ p)


def test_gradient_in_a_narrow_type_has_that_type():
    x, y = random(3, 4, dtype=BFLOAT16), random(4, dtype=BFLOAT16)
    both = fg.grad(lambda x, y: jnp.dot(x, y, preferred_element_type=np.float32).sum(), (0, 1))(x, y)
    assert_close(both, (np.broadcast_to(y, (3, 4)), x.astype(np.float32).sum(0).astype(BFLOAT16)), rtol=1e-2)


# ---------------------------------------------------------------- products under NumPy's names

SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((1, 2, 3), (1, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((7, 1, 0, 2), (1, 4, 2, 3)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.complex64])
def test_matmul_and_dot_are_numpys(shapes: tuple, dtype: type):
    x, y = (random(*s, dtype=dtype) for s in shapes)
    assert_close(jnp.matmul(x, y), x @ y, rtol=1e-5, atol=1e-4)
    assert_close(jnp.dot(x, y), np.dot(x, y), rtol=1e-5, atol=1e-4)


@given(st.data())
def test_matmul_broadcasts_any_leading_axes(data: st.DataObject):
    full = data.draw(st.lists(st.integers(1, 3), max_size=3))
    n, k, m = (data.draw(st.integers(0, 4)) for _ in range(3))

    def operand(*core: int) -> np.ndarray:
        kept = data.draw(st.integers(0, len(full)))
        lead = [data.draw(st.sampled_from([1, size])) for size in full[len(full) - kept :]]
        return random(*lead, *core)

    x, y = operand(n, k), operand(k, m)
    assert_close(jnp.matmul(x, y), x @ y, rtol=1e-5, atol=1e-5)
    assert_close(jnp.matvec(x, y[..., :, 0]) if m else x, np.matvec(x, y[..., :, 0]) if m else x, rtol=1e-5, atol=1e-5)
    assert_close(jnp.vecmat(x[..., 0, :], y) if n else y, np.vecmat(x[..., 0, :], y) if n else y, rtol=1e-5, atol=1e-5)
    assert_close(jnp.vecdot(x, x), np.vecdot(x, x), rtol=1e-5, atol=1e-5)


C, D = random(2, 3) * np.complex64(1 + 2j), random(2, 3, seed=1) * np.complex64(2 - 1j)
PRODUCTS = {
    "dot of scalars": lambda np, x, y: np.dot(np.float32(2.0), x),
    "inner": lambda np, x, y: np.inner(x, x[:2]),
    "inner of a scalar": lambda np, x, y: np.inner(np.float32(2.0), x),
    "outer": lambda np, x, y: np.outer(x, y[0]),
    "outer of bools": lambda np, x, y: np.outer(x > 0, y[0] > 0),
    "vdot": lambda np, x, y: np.vdot(C, D),
    "vecdot conjugates": lambda np, x, y: np.vecdot(C, D),
    "vecdot along an axis": lambda np, x, y: np.vecdot(C, D, axis=0),
    "tensordot": lambda np, x, y: np.tensordot(x, x),
    "tensordot of none": lambda np, x, y: np.tensordot(x, y, 0),
    "tensordot of one": lambda np, x, y: np.tensordot(x, y, 1),
    "tensordot of pairs": lambda np, x, y: np.tensordot(x[None], y.T[:, None], ([-1, 0], [2, 1])),
    "tensordot of axes": lambda np, x, y: np.tensordot(x, y, (1, 0)),
    "kron": lambda np, x, y: np.kron(x, y),
    "kron of ranks": lambda np, x, y: np.kron(x, y[0]),
    "trace": lambda np, x, y: np.trace(x),
    "trace above": lambda np, x, y: np.trace(y, 1),
    "trace below": lambda np, x, y: np.trace(y, -2),
    "trace of axes": lambda np, x, y: np.trace(np.stack([x, 2 * x]), 1, 2, 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_numpys(name: str):
    x, y = random(4, 3), random(3, 5)
    expected = PRODUCTS[name](np, x, y)
    assert_close(PRODUCTS[name](jnp, jnp.asarray(x), jnp.asarray(y)), expected, rtol=1e-5, atol=1e-5)
    assert_close(fg.jit(lambda x, y: PRODUCTS[name](jnp, x, y))(x, y), expected, rtol=1e-5, atol=1e-5)
    if expected.dtype == np.float32:
        check_grads(lambda x, y: PRODUCTS[name](jnp, x, y), (x, y), order=2)


# ---------------------------------------------------------------- einsum

EINSUMS = {
    "ij,jk": [(2, 3), (3, 4)],
    "ij,kj->ki": [(2, 3), (4, 3)],
    "ii->i": [(3, 3)],
    "ii": [(3, 3)],
    "ij->ji": [(2, 3)],
    "ij->": [(2, 3)],
    "ij->j": [(2, 3)],
    "bhqd,bkhd->bhqk": [(2, 3, 4, 5), (2, 6, 3, 5)],
    "i,j": [(2,), (3,)],
    "...ij,...jk->...ik": [(2, 3, 4), (4, 5)],
    "...,...->...": [(2, 3), (3,)],
    "i...->...": [(2, 3, 4)],
    "ij,kj,kl->l": [(3, 4), (3, 4), (3, 4)],
    "ij,jk,kl,lm->im": [(2, 3), (3, 4), (4, 5), (5, 6)],
    "iij,jk->k": [(3, 3, 2), (2, 4)],
    "ij,ij->ij": [(2, 3), (2, 3)],
    "ab,bc": [(3, 1), (4, 5)],
    "a,a,a->": [(3,)] * 3,
    "a,a,b,b,ab->": [(3,), (3,), (4,), (4,), (3, 4)],
    "ab,bc->ca": [(2, 3), (3, 4)],
    "abc,abd->": [(2, 3, 4), (2, 3, 5)],
    "i,->i": [(3,), ()],
    "iii->i": [(3, 3, 3)],
    "aabb->ab": [(2, 2, 3, 3)],
    "ij,jk,ki->": [(2, 3), (3, 4), (4, 2)],
    "i,ij,ijk,ijkl->l": [(2,), (2, 3), (2, 3, 4), (2, 3, 4, 5)],
    " i j , j k -> i k ": [(2, 3), (3, 4)],
}


@pytest.mark.parametrize("subscripts", EINSUMS)
@pytest.mark.parametrize("optimize", ["auto", False])
def test_einsum_is_numpys(subscripts: str, optimize: object):
    xs = [random(*s, seed=i) for i, s in enumerate(EINSUMS[subscripts])]
    expected = np.einsum(subscripts, *xs)
    assert_close(jnp.einsum(subscripts, *xs, optimize=optimize), np.asarray(expected), rtol=1e-4, atol=1e-4)
    counts = [x.astype(np.int32) for x in xs]
    assert_close(jnp.einsum(subscripts, *counts), np.asarray(np.einsum(subscripts, *counts)))
    bits = [x > 0 for x in xs]
    some = np.einsum(subscripts, *(b.astype(np.int32) for b in bits)) > 0
    assert_close(jnp.einsum(subscripts, *bits), np.asarray(some))
    assert_close(fg.jit(lambda *xs: jnp.einsum(subscripts, *xs))(*xs), np.asarray(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("subscripts", ["ij,kj->ki", "iij,jk->k", "ij,jk,ki->", "...ij,...jk->...ik", "ii->i"])
def test_derivatives_of_einsum(subscripts: str):
    xs = [random(*s, seed=i) / 4 for i, s in enumerate(EINSUMS[subscripts])]
    check_grads(lambda *xs: jnp.einsum(subscripts, *xs), xs, order=2)


@given(st.data())
def test_einsum_of_drawn_subscripts(data: st.DataObject):
    letters = "abcd"
    terms = data.draw(st.lists(st.text(letters, min_size=0, max_size=3), min_size=1, max_size=3))
    result = "".join(data.draw(st.permutations(sorted({c for t in terms for c in t}))))
    result = result[: data.draw(st.integers(0, len(result)))]
    sizes = dict(zip(letters, (2, 3, 1, 4), strict=True))
    xs = [random(*(sizes[c] for c in t), dtype=np.int32, seed=i) for i, t in enumerate(terms)]
    subscripts = f"{','.join(terms)}->{result}"
    assert_close(jnp.einsum(subscripts, *xs), np.asarray(np.einsum(subscripts, *xs)))


def test_einsum_takes_lists_of_axes():
    x, y = random(2, 3), random(3, 4)
    assert_close(jnp.einsum(x, [0, 1], y, [1, 2], [2, 0]), (x @ y).T, rtol=1e-5)
    assert_close(jnp.einsum(x, [..., 1], y, [1, 2]), np.einsum(x, [..., 1], y, [1, 2]), rtol=1e-5)


def test_einsum_follows_einsum_path():
    xs = [random(*s) for s in EINSUMS["ij,jk,kl,lm->im"]]
    path, report = jnp.einsum_path("ij,jk,kl,lm->im", *xs)
    assert [len(step) for step in path] == [2, 2, 2] and "FLOP" in str(report)
    expected = np.linalg.multi_dot(xs)
    assert_close(jnp.einsum("ij,jk,kl,lm->im", *xs, optimize=path), expected, rtol=1e-4, atol=1e-4)
    worst = [(0, 3), (0, 1), (0, 1)]
    assert_close(jnp.einsum("ij,jk,kl,lm->im", *xs, optimize=worst), expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- JAX

X, Y, V = random(2, 3), random(3, 4), random(3)
PROGRAMS = {
    "dot_general": lambda m, x, y: m.lax.dot_general(x, y, (((1,), (0,)), ((), ()))),
    "batched": lambda m, x, y: m.lax.dot_general(x, y.T, (((), ()), ((1,), (1,)))),
    "dot": lambda m, x, y: m.numpy.dot(x, y),
    "dot of a scalar": lambda m, x, y: m.numpy.dot(2.0, y),
    "matmul": lambda m, x, y: m.numpy.matmul(x, y),
    "matmul of a vector": lambda m, x, y: x @ y[:, 0],
    "matmul of batches": lambda m, x, y: m.numpy.matmul(x[None], y[None]),
    "einsum": lambda m, x, y: m.numpy.einsum("ij,jk->ki", x, y),
    "einsum attention": lambda m, x, y: m.numpy.einsum("bqd,bkd->bqk", x[None], x[None]),
    "tensordot": lambda m, x, y: m.numpy.tensordot(x, y, 1),
    "inner": lambda m, x, y: m.numpy.inner(x, y.T),
    "vdot": lambda m, x, y: m.numpy.vdot(x, x),
    "outer": lambda m, x, y: m.numpy.outer(x[0], y[0]),
    "grad": lambda m, x, y: m.grad(lambda x: m.numpy.sum(m.numpy.dot(x, y) ** 2))(x),
    "grad by the second": lambda m, x, y: m.grad(lambda y: m.numpy.sum(m.numpy.matmul(x, y) ** 2))(y),
    "vmap of both": lambda m, x, y: m.vmap(lambda x, y: m.numpy.dot(x, y))(x[None], y[None]),
    "vmap of the first": lambda m, x, y: m.vmap(lambda v: m.numpy.dot(v, y))(x),
    "vmap of the second": lambda m, x, y: m.vmap(lambda v: m.numpy.dot(x, v), in_axes=1)(y),
    "vmap of columns": lambda m, x, y: m.vmap(lambda x, y: m.numpy.dot(x, y), in_axes=(0, 1))(x, y[:, :2]),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_jaxprs_are_jaxs(name: str):
    import jax

    program = PROGRAMS[name]
    assert_close(program(fg, X, Y), np.asarray(program(jax, X, Y)), rtol=1e-5, atol=1e-5)
    texts = [str(m.make_jaxpr(lambda x, y, m=m: program(m, x, y))(X, Y)) for m in (fg, jax)]
    found = [re.findall(r"dot_general\[.*?\] \S+ \S+(?=\n)", t, re.DOTALL) for t in texts]
    products = [[" ".join(p.split()) for p in f] for f in found]
    assert products[0] == products[1] and (products[0] or name == "outer")


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["dot", "matmul", "inner", "outer", "kron", "vdot", "tensordot", "einsum"])
def test_result_types_are_jaxs(name: str):
    import jax

    values = [2, 2.0, True, *(np.ones(3, d) for d in (np.int8, np.uint8, np.float16, BFLOAT16, np.float32, np.bool_))]
    if name in ("matmul", "tensordot", "einsum"):
        values = values[3:]

    def product(m: object, x: object, y: object) -> object:
        function = getattr(m.numpy, name)
        return function("i,i", x, y) if name == "einsum" else function(x, y, *{"tensordot": (1,)}.get(name, ()))

    compared = 0
    for x, y in itertools.product(values, repeat=2):
        if name == "vdot" and np.ndim(x) != np.ndim(y):
            continue
        try:
            expected = jax.eval_shape(lambda x, y: product(jax, x, y), x, y)
        except TypeError:  # some weakly typed and some bool operands, which we take
            continue
        got = fg.eval_shape(lambda x, y: product(fg, x, y), x, y)
        assert (got.shape, got.dtype, got.weak_type) == (expected.shape, expected.dtype, expected.weak_type), (x, y)
        compared += 1
    assert compared >= 30


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.bool_, np.float16, BFLOAT16])
def test_type_of_trace_is_jaxs(dtype: type):
    import jax.numpy as jax_numpy

    x = np.ones((3, 4), dtype)
    assert_close(jnp.trace(x), np.asarray(jax_numpy.trace(x)))


# ---------------------------------------------------------------- bad input

BAD = {
    "contracted axes": (
        lambda: lax.dot_general(X, X, (((1,), (0,)), ((), ()))),
        errors.ShapeError,
        "dot_general: contracted axes differ: axis 1 of lhs f32[2,3] is 3, axis 0 of rhs f32[2,3] is 2",
    ),
    "batch axes": (
        lambda: lax.dot_general(X, Y, (((), ()), ((0,), (0,)))),
        errors.ShapeError,
        "dot_general: batch axes differ: axis 0 of lhs f32[2,3] is 2, axis 0 of rhs f32[3,4] is 3",
    ),
    "unpaired": (
        lambda: lax.dot_general(X, Y, (((1,), ()), ((), ()))),
        errors.ArgumentError,
        "1 contracted axes (1,) of lhs f32[2,3]",
    ),
    "axis twice": (
        lambda: lax.dot_general(X, Y, (((1,), (0,)), ((1,), (0,)))),
        errors.ArgumentError,
        "axes (1, 1) of lhs do not fit",
    ),
    "malformed": (
        lambda: lax.dot_general(X, Y, ((1, 0), 2)),
        errors.ArgumentError,
        "dimension_numbers are ((1, 0), 2)",
    ),
    "precision": (lambda: jnp.dot(X, Y, precision="exact"), errors.ArgumentError, "dot: precision is 'exact'"),
    "matmul": (
        lambda: jnp.matmul(X, X),
        errors.ShapeError,
        "matmul: contracted axes differ: axis 1 of the first operand f32[2,3] is 3, axis 0 of the second f32[2,3] is 2",
    ),
    "operator": (lambda: jnp.asarray(X) @ X, errors.ShapeError, "matmul: contracted axes differ"),
    "matmul of a scalar": (lambda: jnp.matmul(X, 2.0), errors.ShapeError, "matmul: operand 1 is f32[]"),
    "matmul of batches": (
        lambda: jnp.matmul(random(2, 3, 4), random(3, 4, 5)),
        errors.ShapeError,
        "matmul: shapes (2,) and (3,)",
    ),
    "dot": (lambda: jnp.dot(X, V[:2]), errors.ShapeError, "dot: contracted axes differ: axis 1 of the first"),
    "vdot": (lambda: jnp.vdot(X, V), errors.ShapeError, "vdot: contracted axes differ"),
    "inner": (lambda: jnp.inner(X, Y), errors.ShapeError, "inner: contracted axes differ"),
    "tensordot": (
        lambda: jnp.tensordot(X, Y, 3),
        errors.ArgumentError,
        "tensordot: axes=3 of operands f32[2,3] and f32[3,4]",
    ),
    "tensordot axes": (lambda: jnp.tensordot(X, Y, ([2], [0])), errors.ArgumentError, "axes=([2], [0])"),
    "vecdot axis": (
        lambda: jnp.vecdot(X, X, axis=2),
        errors.ArgumentError,
        "vecdot: axis 2 is out of range for f32[2,3]",
    ),
    "trace": (lambda: jnp.trace(V), errors.ShapeError, "trace: operand 0 is f32[3]"),
    "trace axes": (
        lambda: jnp.trace(X, axis2=-2),
        errors.ArgumentError,
        "trace: axis1=0 and axis2=-2 are the same axis",
    ),
    "list": (lambda: jnp.dot([1.0], V), errors.ArgumentError, "dot: operand [1.0] of type list"),
    "einsum sizes": (
        lambda: jnp.einsum("ij,jk", X, X),
        errors.ShapeError,
        "einsum: axis 'j' of 'ij,jk' is 3 in operand 0 f32[2,3], 2 in operand 1 f32[2,3]",
    ),
    "einsum rank": (
        lambda: jnp.einsum("ijk->i", X),
        errors.ShapeError,
        "term 'ijk' of 'ijk->i' has 3 letters, but operand 0 is",
    ),
    "einsum operands": (lambda: jnp.einsum("ij,jk", X), errors.ArgumentError, "einsum: 'ij,jk'"),
    "einsum result": (lambda: jnp.einsum("ij->k", X), errors.ArgumentError, "einsum: "),
    "einsum syntax": (
        lambda: jnp.einsum("ij->i->j", X),
        errors.ArgumentError,
        "einsum: 'ij->i->j' with operands f32[2,3]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_operation_values_line_and_remedy(name: str):
    call, error, text = BAD[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert text in message, message
    assert "at test_products.py:" in message and "\n  fix: " in message
