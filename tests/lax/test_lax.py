"""funcgrad.lax: operands, results and derivatives as JAX's, the names it has, and bad input."""

from __future__ import annotations

import functools
import types

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
import scipy.special
from hypothesis import given

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.testing import assert_close, check_grads
from funcgrad.testing.strategies import arrays, shapes
from tests.comparing import assert_same
from tests.paths import GOLDEN

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
X = np.float32([[0.5, -1.5, 2.5], [1.25, 0.0, -2.0]])
P = np.float32([[0.25, 0.75, 2.0], [0.5, 1.5, 3.0]])
N = np.array([[5, -7, 0], [3, 2, -1]], np.int32)
U = np.array([3, 200, 0], np.uint8)
B = X > 0
Z = (X + 1j * P).astype(np.complex64)

# ---------------------------------------------------------------- operands


def test_weak_scalars_take_the_dtype_of_the_other_operand():
    for dtype in (np.float16, BFLOAT16, np.float32, np.complex64):
        assert_close(lax.add(X.astype(dtype), 1.0), (X.astype(dtype) + np.array(1, dtype)))
        assert lax.mul(2, X.astype(dtype)).dtype == dtype
    assert lax.add(np.int8(1), 2).dtype == np.int8
    assert lax.max(B, False).dtype == np.bool_
    assert lax.add(1, 2).weak_type and not lax.add(np.int32(1), 2).weak_type


def test_axes_of_size_one_and_scalars_are_repeated():
    assert_close(lax.add(X, X[:, :1]), X + X[:, :1])
    assert_close(lax.sub(X[:1], X[:, :1]), X[:1] - X[:, :1])
    assert_close(lax.mul(np.float32(2), X), 2 * X)


@pytest.mark.parametrize("name", ["sin_p", "dot_general_p", "scatter_add_p", "reduce_max_p"])
def test_primitives_are_attributes(name: str):
    primitive = getattr(lax, name)
    assert primitive.name.replace("-", "_") + "_p" == name


def test_unknown_attributes_raise():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = lax.nonsense


# ---------------------------------------------------------------- made, moved, joined, cut


@given(st.data())
def test_slices_and_their_updates_are_numpys(data: st.DataObject):
    x = data.draw(arrays(np.dtype(np.int32), data.draw(shapes(min_dims=1, min_side=1))))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    n = x.shape[axis]
    lo, hi = sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))
    step = data.draw(st.integers(1, 3))
    assert_close(lax.slice_in_dim(x, lo, hi, step, axis), np.take(x, range(lo, hi, step), axis))
    i = data.draw(st.integers(-n, n - 1))
    assert_close(lax.index_in_dim(x, i, axis), np.take(x, [i], axis))
    assert_close(lax.index_in_dim(x, i, axis, keepdims=False), np.take(x, i, axis))
    start, size = data.draw(st.integers(-n, n + 3)), data.draw(st.integers(0, n))
    inside = min(max(start + n if start < 0 else start, 0), n - size)
    window = range(inside, inside + size)
    assert_close(lax.dynamic_slice_in_dim(x, start, size, axis), np.take(x, window, axis))
    changed = np.moveaxis(x.copy(), axis, 0)
    changed[inside : inside + size] = -99
    update = np.full(np.take(x, window, axis).shape, -99, np.int32)
    assert_close(lax.dynamic_update_slice_in_dim(x, update, start, axis), np.moveaxis(changed, 0, axis))


@given(st.data())
def test_pieces_of_a_split_join_again(data: st.DataObject):
    x = data.draw(arrays(np.dtype(np.float32), data.draw(shapes(min_dims=1))))
    axis = data.draw(st.integers(0, x.ndim - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[axis]), max_size=3)))
    sizes = np.diff([0, *cuts, x.shape[axis]]).tolist()
    pieces = lax.split(x, sizes, axis)
    assert_close(pieces, np.split(x, cuts, axis))
    assert_close(lax.concatenate(pieces, axis), x)
    if x.shape[axis]:
        assert_close(lax.stack(lax.unstack(x, axis), axis), x)


def test_index_take():
    i, j = np.array([1, -1, 0]), np.array([2, 0, -3])
    assert_close(lax.index_take(X, (i, j), (0, 1)), X[i, j])
    assert_close(lax.index_take(X, (j,), (1,)), X[:, j].T)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert_close(lax.index_take(x, (i % 3,), (1,)), np.moveaxis(x[:, i % 3], 1, 0))


@pytest.mark.parametrize("narrow", [np.int8, np.uint16, np.float16, BFLOAT16])
def test_bitcasts_between_widths_undo_each_other(narrow: type):
    parts = lax.bitcast_convert_type(X, narrow)
    assert_close(parts, X[..., None].view(narrow))
    assert_close(lax.bitcast_convert_type(parts, np.float32), X)
    assert_close(fg.jit(lambda x: lax.bitcast_convert_type(x, narrow))(X), parts)


def test_reduce_precision_to_the_formats_there_are():
    x = (np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-4, 4).repeat(125)).astype(np.float32)
    assert_close(lax.reduce_precision(x, 5, 10), x.astype(np.float16).astype(np.float32), atol=2.0**-14)
    assert_close(lax.reduce_precision(x, 8, 7), x.astype(BFLOAT16).astype(np.float32), rtol=0, atol=0)
    assert_close(lax.reduce_precision(x, 8, 23), x, rtol=0, atol=0)
    edges = np.float32([65519, 65520, -1e9, 2.0**-15, 0.0, np.nan, np.inf])
    for dtype in (np.float16, BFLOAT16, np.float32, np.float64):
        with fg.enable_x64(True):
            with np.errstate(over="ignore"):
                values = np.concatenate([x, -x, edges, -edges, [-0.0, 6e-8, 1e-45]]).astype(dtype)
            for bits in ((5, 10), (3, 2), (8, 7), (2, 1), (5, 0)):
                round_ = lambda x, bits=bits: lax.reduce_precision(x, *bits)  # noqa: E731
                found, expected = fg.jit(round_)(values), round_(values)
                np.testing.assert_array_equal(np.asarray(found).view(np.uint8), np.asarray(expected).view(np.uint8))
    assert_close(lax.reduce_precision(edges, 5, 10), np.float32([65504, np.inf, -np.inf, 0, 0, np.nan, np.inf]))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_compiled_division_by_a_constant(dtype: str):
    with fg.enable_x64(True):
        limits = np.iinfo(dtype)
        steps = np.linspace(float(limits.min), float(limits.max), 301)[1:-1].astype(dtype)
        x = np.concatenate([np.array([limits.min, limits.max, 0, 1, limits.max - 1], dtype), steps])
        divisors = {0, 1, 2, 3, 7, 10, 100, limits.max, limits.min, -1 % 256 if limits.min == 0 else -1}
        divisors |= set() if limits.min == 0 else {-2, -7}
        for d in divisors:
            y = np.asarray(d).astype(dtype)[()]
            program = lambda x, y=y: (lax.div(x, y), lax.rem(x, y), x // y, x % y)  # noqa: E731
            for found, expected in zip(fg.jit(program)(x), program(jnp.asarray(x)), strict=True):
                np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- reduce


@pytest.mark.parametrize("n", [*range(7), 8, 9, 16, 63, 71])
def test_reduce_by_any_associative_operation(n: int):
    a, b = np.random.default_rng(n).normal(size=(2, n, 3)).astype(np.float32)

    def compose(f: tuple, g: tuple) -> tuple:
        return f[0] * g[0], g[0] * f[1] + g[1]

    def program(a: object, b: object) -> object:
        return lax.reduce((a, b), (np.float32(1), np.float32(0)), compose, (0,))

    expected = np.ones(3, np.float32), np.zeros(3, np.float32)
    for i in range(n):
        expected = compose(expected, (a[i], b[i]))
    assert_close(program(a, b), expected, rtol=1e-5, atol=1e-6)
    assert_close(fg.jit(program)(a, b), expected, rtol=1e-5, atol=1e-6)
    rows = lambda a, b: lax.reduce((a, b), (np.float32(1), np.float32(0)), compose, (1,))  # noqa: E731
    assert_close(fg.jit(rows)(a.T, b.T), expected, rtol=1e-5, atol=1e-6)


def test_reduce_over_several_dimensions_keeps_the_order_of_elements():
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    last = lambda a, b: b  # noqa: E731
    for axes in ((1, 3), (0, 2), (0, 1, 2, 3)):
        index = tuple(-1 if d in axes else slice(None) for d in range(4))
        assert_close(fg.jit(lambda x, axes=axes: lax.reduce(x, 0.0, last, axes))(x), x[index])


@pytest.mark.parametrize(
    ("computation", "init", "name"),
    [
        (lax.add, 0, "reduce_sum"),
        (lambda a, b: b + a, 0.0, "reduce_sum"),
        (lax.mul, 1, "reduce_prod"),
        (jnp.maximum, -np.inf, "reduce_max"),
        (lax.min, np.inf, "reduce_min"),
    ],
)
def test_reduce_knows_the_primitives(computation: object, init: float, name: str):
    jaxpr = fg.make_jaxpr(lambda x: lax.reduce(x, init, computation, (1,)))(X).jaxpr
    assert [e.primitive.name for e in jaxpr.eqns] == [name]
    with_init = lax.reduce(X, np.float32(0.25), computation, (1,))
    assert_close(with_init, np.asarray(computation(np.float32(0.25), getattr(lax, name)(X, (1,)))))


def test_reduce_of_logic():
    for computation, function in ((lax.bitwise_and, np.all), (lax.bitwise_or, np.any)):
        assert_close(lax.reduce(B, computation is lax.bitwise_and, computation, (0,)), function(B, 0))
    assert_close(lax.reduce(X, 0.0, lambda a, b: a - -b, (0, 1)), np.sum(X))


# ---------------------------------------------------------------- special functions

A, S = np.random.default_rng(1).uniform(0.2, 4, size=(2, 200))
SPECIAL = {
    "digamma": (scipy.special.digamma, A),
    "lgamma": (scipy.special.gammaln, A),
    "erf": (scipy.special.erf, A - 2),
    "erfc": (scipy.special.erfc, A - 2),
    "erf_inv": (scipy.special.erfinv, A / 4 - 0.5),
    "bessel_i0e": (scipy.special.i0e, A - 2),
    "bessel_i1e": (scipy.special.i1e, A - 2),
    "igamma": (scipy.special.gammainc, A, S),
    "igammac": (scipy.special.gammaincc, A, S),
    "zeta": (scipy.special.zeta, A + 1.2, S),
    "betainc": (scipy.special.betainc, A, S, A / 5),
    "polygamma": (scipy.special.polygamma, np.arange(200) % 5, S),
}
# Operands by which no derivative is known.
CONSTANT = {"zeta": (0,), "betainc": (0, 1), "polygamma": (0,)}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions_are_scipys(name: str):
    reference, *args = SPECIAL[name]
    single = [a.astype(np.float32) for a in args]
    exact = reference(*(a.astype(int) if a.dtype.kind == "i" else a.astype(np.float64) for a in single))
    assert_close(getattr(lax, name)(*single), exact.astype(np.float32), rtol=2e-5, atol=1e-6)
    moving = [i for i in range(len(args)) if i not in CONSTANT.get(name, ())]

    def of_moving(*values: object) -> object:
        operands = list(single)
        for i, v in zip(moving, values, strict=True):
            operands[i] = v
        return getattr(lax, name)(*(fg.lax.convert_element_type(o, jnp.asarray(values[0]).dtype) for o in operands))

    orders = 1 if name in ("igamma", "igammac") else 2
    check_grads(of_moving, [single[i] for i in moving], order=orders)


@pytest.mark.parametrize("name", ["digamma", "lgamma", "erf", "erfc", "erf_inv", "bessel_i0e", "bessel_i1e"])
def test_special_functions_at_poles_and_limits_are_the_same_compiled(name: str):
    x = np.float32([0, -0.0, -1, -2, np.inf, -np.inf, np.nan, 1, 1e-30, -1e30])
    assert_close(fg.jit(getattr(lax, name))(x), getattr(lax, name)(x), rtol=1e-5)


def test_gradient_of_gamma_samples_keeps_their_quantile():
    a, u = np.float64([0.3, 1, 2.5, 20]), 0.37
    step = 1e-6
    expected = (scipy.special.gammaincinv(a + step, u) - scipy.special.gammaincinv(a - step, u)) / (2 * step)
    with fg.enable_x64(True):
        assert_close(lax.random_gamma_grad(a, scipy.special.gammaincinv(a, u)), expected, rtol=1e-6)


def test_missing_derivatives_are_named():
    for call, text in (
        (lambda a: lax.betainc(a, 1.0, 0.5), "betainc in a"),
        (lambda m: lax.polygamma(m, 1.0), "polygamma in its order"),
    ):
        with pytest.raises(errors.MissingRuleError, match=text):
            fg.grad(call)(np.float32(2))


# ---------------------------------------------------------------- JAX

UNARY = {
    "neg sign abs exp exp2 expm1 log log1p logistic sqrt rsqrt square sin cos tan asin acos atan sinh cosh tanh asinh "
    "acosh atanh": (X, P, Z),
    "floor ceil is_finite cbrt round erf erfc erf_inv lgamma": (X, P, P.astype(np.float16), P.astype(BFLOAT16)),
    "digamma": (X - 0.25, P),
    "bitwise_not population_count clz": (N, U),
    "real imag conj": (Z,),
    "reciprocal": (P, Z),
}
BINARY = {
    "add sub mul div max min": ((X, P), (N, N[::-1]), (U, U[::-1])),
    "rem": ((X, P), (N, N[::-1])),
    "add sub mul div pow eq ne": ((Z, Z[::-1]),),
    "pow atan2 nextafter": ((P, X),),
    "complex": ((X, P),),
    "eq ne lt le gt ge": ((X, X[::-1]), (N, N[::-1]), (U, U)),
    "bitwise_and bitwise_or bitwise_xor": ((N, N[::-1]), (B, B[::-1]), (U, U[::-1])),
    "shift_left shift_right_logical shift_right_arithmetic": ((N, np.int32([[1, 2, 31], [33, 0, -1]])),),
}
EXPRESSIONS = {
    "select": lambda m: m.lax.select(B, X, P),
    "select by a scalar": lambda m: m.lax.select(False, X, P),
    "select_n": lambda m: m.lax.select_n(np.int32([[0, 1, 2]] * 2), X, P, X + P),
    "clamp": lambda m: m.lax.clamp(-1.0, X, 1.0),
    "clamp by arrays": lambda m: m.lax.clamp(-P, X, P),
    "pow of an integer": lambda m: m.lax.pow(X, 3),
    "integer_pow": lambda m: m.lax.integer_pow(X, -2),
    "round to even": lambda m: m.lax.round(X, m.lax.RoundingMethod.TO_NEAREST_EVEN),
    "saturating cast": lambda m: m.lax.convert_element_type(X * 1e10, np.int32),
    "cast of a scalar": lambda m: m.lax.convert_element_type(1, float),
    "bitcast": lambda m: m.lax.bitcast_convert_type(X, np.int32),
    "bitcast down": lambda m: m.lax.bitcast_convert_type(X, np.int8),
    "full": lambda m: m.lax.full((2,), 1),
    "full of a dtype": lambda m: m.lax.full((2, 0), 1.5, np.int8),
    "full_like": lambda m: m.lax.full_like(X, 2),
    "full_like shape": lambda m: m.lax.full_like(N, 2, np.int8, (1,)),
    "iota": lambda m: m.lax.iota(np.float32, 3),
    "broadcasted_iota": lambda m: m.lax.broadcasted_iota(int, (2, 3), 1),
    "shape_as_value": lambda m: m.numpy.asarray(m.lax.shape_as_value((2, 3))),
    "broadcast": lambda m: m.lax.broadcast(X, (4, 1)),
    "broadcast_like": lambda m: m.lax.broadcast_like(1.0, X),
    "broadcast_in_dim": lambda m: m.lax.broadcast_in_dim(X[0], (3, 2), (0,)),
    "broadcast_in_dim of a scalar": lambda m: m.lax.broadcast_in_dim(1.0, (2,), ()),
    "broadcast_to_rank": lambda m: m.lax.broadcast_to_rank(X, 4),
    "tile": lambda m: m.lax.tile(X, (2, 0)),
    "reshape": lambda m: m.lax.reshape(X, (3, 2)),
    "reshape of transposed": lambda m: m.lax.reshape(X, (3, 2), (1, 0)),
    "collapse": lambda m: m.lax.collapse(X[None], 0, 2),
    "collapse all": lambda m: m.lax.collapse(X, 0),
    "collapse to the last but one": lambda m: m.lax.collapse(X[None], 0, -1),
    "transpose": lambda m: m.lax.transpose(X, (1, 0)),
    "squeeze": lambda m: m.lax.squeeze(X[None, :, None], (-2, 0)),
    "expand_dims": lambda m: m.lax.expand_dims(X, (-1, 0)),
    "rev": lambda m: m.lax.rev(X, (0, 1)),
    "slice": lambda m: m.lax.slice(X, (0, 1), (2, 3)),
    "strided slice": lambda m: m.lax.slice(X, (0, 0), (2, 3), (1, 2)),
    "slice_in_dim": lambda m: m.lax.slice_in_dim(X, -2, None, axis=-1),
    "pad": lambda m: m.lax.pad(X, 7.0, ((1, -1, 0), (0, 2, 1))),
    "concatenate": lambda m: m.lax.concatenate([X, P], 1),
    "stack": lambda m: m.lax.stack([X, P], 1),
    "dot": lambda m: m.lax.dot(X, X.T),
    "dot of vectors": lambda m: m.lax.dot(X[0], P[0]),
    "dot into a wider type": lambda m: m.lax.dot(U, U, preferred_element_type=np.int32),
    "batch_matmul": lambda m: m.lax.batch_matmul(X[None], P.T[None], m.lax.Precision.HIGHEST),
    "sort_key_val": lambda m: m.lax.sort_key_val(X, P)[1],
    "sort down": lambda m: m.lax.sort(X, 0),
    "reduce": lambda m: m.lax.reduce(X, 1.0, m.lax.add, (0,)),
    "reduce_xor": lambda m: m.lax.reduce_xor(N, (0,)),
    "dynamic_slice": lambda m: m.lax.dynamic_slice(X, (1, 2), (2, 2)),
    "dynamic_slice from the end": lambda m: m.lax.dynamic_slice(X, (0, -1), (1, 1)),
    "dynamic_index_in_dim": lambda m: m.lax.dynamic_index_in_dim(X, 7, 1, keepdims=False),
    "dynamic_update_slice": lambda m: m.lax.dynamic_update_slice(X, P[:1, :2], (1, 2)),
    "dynamic_update_index_in_dim": lambda m: m.lax.dynamic_update_index_in_dim(X, P[:, 0], 1, 1),
    "index_take": lambda m: m.lax.index_take(m.numpy.asarray(X), (np.array([1, 0]), np.array([2, -1])), (0, 1)),
    "stop_gradient": lambda m: m.grad(lambda x: (x * m.lax.stop_gradient(x)).sum())(X),
    "gather": lambda m: m.lax.gather(X, N[:, :1] % 3, m.lax.GatherDimensionNumbers((0,), (1,), (1,)), (2, 1)),
    "scatter_add": lambda m: m.lax.scatter_add(
        X, np.array([[1], [1]]), P, m.lax.ScatterDimensionNumbers((1,), (0,), (0,))
    ),
    "batched scalars": lambda m: m.vmap(lambda x: m.lax.clamp(0.0, m.lax.mul(x, 2.0), 1.0))(X),
    "gradients of ties": lambda m: m.grad(lambda x: m.lax.max(x, x[:, ::-1]).sum())(m.numpy.asarray(X)),
}


same = functools.partial(assert_same, atol=1e-6)


def cases(table: dict[str, tuple]) -> list[tuple[str, object]]:
    return [(name, args) for names, given_ in table.items() for name in names.split() for args in given_]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "x"), cases(UNARY))
def test_functions_of_one_operand_are_jaxs(name: str, x: np.ndarray):
    import jax

    same(getattr(lax, name)(x), getattr(jax.lax, name)(x))
    if x.dtype in (np.float32, np.complex64) and name not in ("conj", "is_finite"):
        weak = complex(0.5, 0.25) if x.dtype == np.complex64 else 0.5
        same(getattr(lax, name)(weak), getattr(jax.lax, name)(weak))


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args"), cases(BINARY))
def test_functions_of_two_operands_are_jaxs(name: str, args: tuple[np.ndarray, np.ndarray]):
    import jax

    x, y = args
    ours, theirs = getattr(lax, name), getattr(jax.lax, name)
    same(ours(x, y), theirs(x, y))
    same(ours(x, y[:1]), theirs(x, y[:1]))
    if x.ndim > 1:
        same(ours(x[0, 1], y), theirs(x[0, 1], y))


@pytest.mark.oracle
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_jaxs(name: str):
    import jax

    same(EXPRESSIONS[name](fg), EXPRESSIONS[name](jax))


@pytest.mark.oracle
def test_names_that_are_missing_only_become_fewer():
    from jax import lax as their_lax

    def names(module: types.ModuleType) -> set[str]:
        return {n for n in dir(module) if not n.startswith("_") and not n.endswith("_p")}

    recorded = set((GOLDEN / "lax_missing.txt").read_text().split())
    missing = {n for n in names(their_lax) if not hasattr(lax, n)}
    assert missing <= recorded, f"no longer there: {sorted(missing - recorded)}"
    assert recorded <= missing, f"now there, so take them off the list: {sorted(recorded - missing)}"


# ---------------------------------------------------------------- bad input

BAD = {
    "dtypes": (lambda: lax.add(X, N), errors.DTypeError, "add: operands have different dtypes: f32[2,3], i32[2,3]"),
    "kinds": (lambda: lax.add(N, 1.5), errors.DTypeError, "add: operands have different dtypes: i32[2,3], f32[]"),
    "of integers": (lambda: lax.sin(N), errors.DTypeError, "sin: operand 0 has type i32[2,3]"),
    "ranks": (lambda: lax.add(X, X[0]), errors.ShapeError, "add: operands have different shapes: f32[2,3], f32[3]"),
    "shapes": (lambda: lax.add(X, P[:, :2]), errors.ShapeError, "add: shapes"),
    "list": (lambda: lax.add([1.0], X), errors.ArgumentError, "add: operand [1.0] of type list is not an array"),
    "integer base": (lambda: lax.pow(N, 2), errors.DTypeError, "pow: operands have types i32[2,3]"),
    "cases": (lambda: lax.select(B, X, 1.0), errors.ShapeError, "select_n: selector bool[2,3]"),
    "selector": (lambda: lax.select(X, X, X), errors.DTypeError, "select_n: the selector has type f32[2,3]"),
    "fill": (lambda: lax.full((2,), X), errors.ShapeError, "full: fill_value has type f32[2,3]"),
    "size": (lambda: lax.full((-1,), 0), errors.ArgumentError, "full: shape (-1,) has a negative size"),
    "iota": (lambda: lax.broadcasted_iota(int, (2,), 1), errors.ArgumentError, "broadcasted_iota: axis 1"),
    "dtype": (lambda: lax.convert_element_type(X, "float7"), errors.DTypeError, "'float7'"),
    "width": (
        lambda: lax.bitcast_convert_type(U, np.int32),
        errors.ShapeError,
        "u8[3] does not have the size of one int32",
    ),
    "reshape": (lambda: lax.reshape(X, (4,)), errors.ShapeError, "reshape: operand f32[2,3] has 6 elements"),
    "rank": (lambda: lax.broadcast_to_rank(X, 1), errors.ShapeError, "broadcast_to_rank: f32[2,3] has more than 1"),
    "broadcast": (lambda: lax.broadcast_shapes((2,), (3,)), errors.ShapeError, "shapes (2,) and (3,) do not broadcast"),
    "tile": (lambda: lax.tile(X, (2,)), errors.ArgumentError, "tile: reps (2,) of operand f32[2,3]"),
    "collapse": (
        lambda: lax.collapse(X, 2, 1),
        errors.ArgumentError,
        "collapse: the range of dimensions 2:1 of f32[2,3] is empty",
    ),
    "squeeze": (lambda: lax.squeeze(X, (0,)), errors.ShapeError, "squeeze: dimensions (0,) of f32[2,3]"),
    "slice": (lambda: lax.slice_in_dim(X, 1, 7), errors.ArgumentError, "slice: [1:7:1] is outside a dimension of"),
    "index": (lambda: lax.index_in_dim(X, 5), errors.ArgumentError, "index_in_dim: index 5 is out of range for axis 0"),
    "split": (lambda: lax.split(X, (1, 3), 1), errors.ShapeError, "split: sizes (1, 3) add up to 4"),
    "no operands": (lambda: lax.concatenate([], 0), errors.ArgumentError, "concatenate: there are no operands"),
    "concatenate": (lambda: lax.concatenate([X, N], 0), errors.DTypeError, "concatenate: operands have different"),
    "dot": (lambda: lax.dot(X, X[None]), errors.ShapeError, "dot: operands f32[2,3] and f32[1,2,3]"),
    "batch_matmul": (lambda: lax.batch_matmul(X, X[None]), errors.ShapeError, "batch_matmul: operands f32[2,3] and"),
    "starts": (lambda: lax.dynamic_slice(X, (0,), (1, 1)), errors.ShapeError, "dynamic_slice: 1 start indices for"),
    "window": (lambda: lax.dynamic_slice_in_dim(X, 0, 5), errors.ShapeError, "dynamic_slice"),
    "approx": (lambda: lax.approx_min_k(N, 1), errors.DTypeError, "approx_min_k: operand has type i32[2,3]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_operation_values_line_and_remedy(name: str):
    call, error, text = BAD[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert text in message, message
    assert "at test_lax.py:" in message and "\n  fix: " in message
