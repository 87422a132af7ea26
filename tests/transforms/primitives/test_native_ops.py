"""njit_op: compiled programs call numba's code without Python, and it is an operation like any other."""

from __future__ import annotations

import math
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors
from funcgrad.testing import check_grads, check_jit, check_vmap

X = np.float32([3.0, -1.0, 0.5, 2.0])
ROWS = np.stack([X, X + 1, X * 2])
S = fg.ShapeDtypeStruct


@numba.njit
def _cumsum(x, out):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
        out[i] = total


@numba.njit
def _moments(x, mean, variance, shift=0):
    m = 0.0
    for v in x:
        m += v
    m /= x.size
    s = 0.0
    for v in x:
        s += (v - m) ** 2
    mean[()] = m + shift
    variance[()] = s / x.size


@numba.njit
def _positive(x, out):
    for i in range(x.size):
        if x[i] < 0:
            raise ValueError("negative element", i)
        out[i] = x[i]


@numba.njit
def _hypotenuse(x, y):
    return math.sqrt(x * x + y * y)


@numba.njit
def _reciprocal(x):
    return 1 / x


cumsum = fg.njit_op(_cumsum, shape=lambda x: x, transpose=lambda ct, x: cumsum(ct[::-1])[::-1])
moments = fg.njit_op(
    _moments,
    shape=lambda x, shift=0: (S((), x.dtype), S((), x.dtype)),
    jvp=lambda primals, tangents, **params: (
        moments(*primals, **params),
        (tangents[0].mean(), 2 * ((primals[0] - primals[0].mean()) * tangents[0]).mean()),
    ),
    multiple_results=True,
)
positive = fg.njit_op(_positive, shape=lambda x: x)
hypotenuse = fg.njit_op(
    _hypotenuse, elementwise=True, derivative=(lambda ans, x, y: x / ans, lambda ans, x, y: y / ans)
)
reciprocal = fg.njit_op(_reciprocal, elementwise=True)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit])
def test_values(transform):
    np.testing.assert_allclose(transform(cumsum)(X), np.cumsum(X))
    np.testing.assert_allclose(transform(lambda x: cumsum(x[::-1]) + 1)(X), np.cumsum(X[::-1]) + 1)
    mean, variance = transform(lambda x: moments(x, shift=2))(X)
    np.testing.assert_allclose([mean - 2, variance], [X.mean(), X.var()], rtol=1e-6)
    np.testing.assert_allclose(transform(hypotenuse)(X[:, None], X), np.hypot(X[:, None], X), rtol=1e-6)


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit])
def test_vmap_calls_the_function_on_each_lane(transform):
    np.testing.assert_allclose(transform(fg.vmap(cumsum))(ROWS), np.cumsum(ROWS, 1), rtol=1e-6)
    np.testing.assert_allclose(transform(fg.vmap(cumsum, 1, 1))(ROWS), np.cumsum(ROWS, 0), rtol=1e-6)
    deep = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    nested = fg.vmap(fg.vmap(fg.vmap(cumsum), 1, 1))
    np.testing.assert_allclose(transform(nested)(deep), np.cumsum(deep, -1))
    np.testing.assert_allclose(transform(fg.vmap(hypotenuse, (0, None)))(ROWS, X), np.hypot(ROWS, X), rtol=1e-6)
    mean, _ = transform(fg.vmap(lambda x: moments(x, shift=1)))(ROWS)
    np.testing.assert_allclose(mean, ROWS.mean(1) + 1, rtol=1e-6)


def test_lanes_share_operands_that_are_not_mapped():
    @numba.njit
    def dot(a, x, out):
        out[()] = (a * x).sum()

    op = fg.njit_op(dot, shape=lambda a, x: S((), x.dtype))
    outer = fg.vmap(fg.vmap(op, (None, 0)), (0, None))
    for f in (outer, fg.jit(outer)):
        np.testing.assert_allclose(f(ROWS, ROWS[:2]), ROWS @ ROWS[:2].T, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty(shape):
    f = cumsum if len(shape) == 1 else fg.vmap(cumsum)
    for g in (f, fg.jit(f), lambda x: hypotenuse(x, x), fg.jit(lambda x: hypotenuse(x, x))):
        assert g(np.ones(shape, np.float32)).shape == shape


@pytest.mark.parametrize("dtype", ["bool", "uint16", "complex64"])
def test_dtypes(dtype):
    @numba.njit
    def rotate(x, out):
        out[:-1] = x[1:]
        out[-1] = x[0]

    x = np.arange(5).astype(dtype)
    op = fg.njit_op(rotate, shape=lambda x: x)
    for f in (op, fg.jit(op)):
        assert f(x).dtype == dtype
        np.testing.assert_array_equal(f(x), np.roll(x, -1))


def test_constants_and_scalars_become_arrays():
    @numba.njit
    def fill(value, out, args):
        out[:args] = value[()]

    op = fg.njit_op(fill, shape=lambda value, args: S((args,), value.dtype))
    assert fg.jit(lambda: op(2.5, args=3))().tolist() == [2.5] * 3
    assert fg.jit(lambda x: cumsum(fnp.ones(1)) + x)(1.0).tolist() == [2.0]
    assert fg.jit(lambda x: cumsum(fnp.ones(3)) + x)(1.0).tolist() == [2.0, 3.0, 4.0]


def test_results_of_elementwise_functions_have_the_requested_dtype():
    half = fg.njit_op(_reciprocal, elementwise=True, dtype="float32")
    for f in (half, fg.jit(half)):
        np.testing.assert_allclose(f(np.int32([1, 2, 4])), [1, 0.5, 0.25])


# ---------------------------------------------------------------- transforms


def test_derivatives():
    check_grads(lambda x: cumsum(x) ** 2, (X,), order=2)
    check_grads(lambda x: moments(x, shift=1), (X,), order=2)
    check_grads(lambda x: fg.vmap(moments)(x), (ROWS,), order=2)
    check_grads(hypotenuse, (X, X + 5), order=2)
    check_vmap(cumsum, (ROWS,))
    check_jit(cumsum, (X,))


def test_jit_of_vmap_of_grad_within_a_scan():
    def slope(x):
        return fg.grad(lambda x: (cumsum(x) ** 2).sum())(x)

    def step(carry, row):
        return carry + slope(row), moments(row)[0]

    total, means = fg.jit(lambda rows: fg.lax.scan(step, fnp.zeros(4), rows))(ROWS)
    expected = sum(2 * np.cumsum(np.cumsum(row)[::-1])[::-1] for row in ROWS)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(means, ROWS.mean(1), rtol=1e-6)
    np.testing.assert_allclose(fg.jit(fg.vmap(slope))(ROWS), [slope(r) for r in ROWS], rtol=1e-5)


def test_derivatives_through_loops():
    def loss(rows):
        carry, ys = fg.lax.scan(lambda c, r: (cumsum(c) * 0.5 + r, moments(c)[1]), fnp.ones(4), rows)
        return (carry**2).sum() + ys.sum()

    check_grads(loss, (ROWS,))
    np.testing.assert_allclose(fg.jit(fg.grad(loss))(ROWS), fg.grad(loss)(ROWS), rtol=1e-5)
    halved = fg.jit(fg.grad(lambda x: fg.lax.fori_loop(0, 3, lambda i, v: cumsum(v) * 0.5, x).sum()))
    np.testing.assert_allclose(halved(X), [2.5, 1.25, 0.5, 0.125])


def test_in_loops_and_branches():
    @fg.jit
    def f(x, n):
        x = fg.lax.fori_loop(0, n, lambda i, v: cumsum(v) * 0.5, x)
        return fg.lax.cond(x[0] > 1, cumsum, lambda x: x, x)

    want = X
    for _ in range(3):
        want = np.cumsum(want) * 0.5
    np.testing.assert_allclose(f(X, 3), want, rtol=1e-5)
    np.testing.assert_allclose(f(X, 0), np.cumsum(X), rtol=1e-6)


def test_programs_call_it_without_python():
    calls = []

    def counted(*args):
        calls.append(args)
        return _cumsum(*args)

    text = fg.jit(lambda x: fg.lax.fori_loop(0, 3, lambda i, v: cumsum(v), x)).lower(X).as_text("program")
    assert "native _cumsum" in text and "host" not in text
    op = fg.njit_op(_cumsum, shape=lambda x: calls.append(x) or x)
    f = fg.jit(lambda x: op(op(x)))
    f(X)
    before = len(calls)
    f(X)
    assert len(calls) == before


def test_kernels_in_python_call_it_too():
    with fg.config.override("python_kernels", True):
        np.testing.assert_allclose(fg.jit(lambda x: cumsum(x) + 1)(X), np.cumsum(X) + 1)


def test_differentiation_names_the_missing_rule():
    with pytest.raises(errors.MissingRuleError, match=r"_positive: no jvp rule[^$]*see test_native_ops.py:\d+ in"):
        fg.jit(fg.grad(lambda x: positive(x).sum()))(X)
    with pytest.raises(errors.MissingRuleError, match="_reciprocal: no derivative rule"):
        fg.grad(reciprocal)(1.0)


# ---------------------------------------------------------------- exceptions


@pytest.mark.parametrize(
    "f",
    [
        positive,
        fg.jit(positive),
        fg.jit(fg.vmap(lambda x: positive(x), axis_size=1, in_axes=None)),
        fg.jit(lambda x: fg.vmap(positive)(fnp.stack([fnp.ones(4), x]))),
        fg.jit(lambda x: fg.vmap(positive)(fnp.tile(x, (4096, 1)))),
        fg.jit(lambda x: fg.lax.map(positive, fnp.tile(x, (4096, 1)))),
        fg.jit(lambda x: fg.lax.fori_loop(0, 3, lambda i, v: positive(v - 1), x + 1)),
        fg.jit(lambda x: fg.lax.cond(x[0] > 0, positive, lambda x: x, x)),
    ],
)
def test_an_exception_comes_out_of_the_call(f):
    for _ in range(2):
        with pytest.raises(ValueError, match="negative element") as caught:
            f(X)
        assert caught.value.args[0] == "negative element"
    assert f(np.abs(X) + 3).size


def test_an_exception_on_one_element_of_many():
    x = np.arange(1, 100_001, dtype=np.float32)
    f = fg.jit(reciprocal)
    np.testing.assert_allclose(f(x), 1 / x, rtol=1e-6)
    x[77_777] = 0
    with pytest.raises(ZeroDivisionError):
        f(x)


def test_a_loop_that_does_not_run_does_not_raise():
    f = fg.jit(lambda x, n: fg.lax.fori_loop(0, n, lambda i, v: v + positive(x), x))
    assert f(X, 0).tolist() == X.tolist()
    with pytest.raises(ValueError, match="negative"):
        f(X, 1)


# ---------------------------------------------------------------- threads


def test_many_threads_call_one_program():
    f = fg.jit(lambda x: fg.vmap(cumsum)(x).sum() + hypotenuse(x, x).sum())
    xs = [np.full((300, 40), n, np.float32) for n in range(6)]
    want = [float(f(x)) for x in xs]
    wrong = []

    def work(n):
        for _ in range(30):
            if n == 0:
                with pytest.raises(ZeroDivisionError):
                    fails(xs[0])
            elif float(f(xs[n])) != want[n]:
                wrong.append(n)

    fails = fg.jit(lambda x: reciprocal(x))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_numba_is_imported_by_its_users_only():
    code = "import sys, funcgrad as fg; fg.jit(lambda x: x + 1)(1.0); sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- what is wrong


@numba.njit
def _returns(x, out):
    return x + 1


@numba.njit
def _writes(x, out):
    x[0] = 1


@numba.njit
def _pair(x):
    return x, x


BAD = {
    "not compiled": (errors.ArgumentError, lambda: fg.njit_op(abs, shape=lambda x: x), ["@numba.njit"]),
    "parallel": (
        errors.ArgumentError,
        lambda: fg.njit_op(numba.njit(parallel=True)(lambda x, out: None), shape=lambda x: x),
        ["parallel=True"],
    ),
    "no shape": (errors.ArgumentError, lambda: fg.njit_op(_cumsum), ["no shape rule"]),
    "dtype of arrays": (errors.ArgumentError, lambda: fg.njit_op(_cumsum, dtype="int32"), ["elementwise functions"]),
    "float16": (errors.DTypeError, lambda: cumsum(X.astype("float16")), ["numba has no arithmetic for f16[4]"]),
    "bfloat16 in jit": (errors.DTypeError, lambda: fg.jit(cumsum)(fnp.ones(2, "bfloat16")), ["bf16[2]"]),
    "returns an array": (
        errors.ArgumentError,
        lambda: fg.njit_op(_returns, shape=lambda x: x)(X),
        ["_returns: the function returns array(float32, 1d, C)", "last arguments"],
    ),
    "returns an array in jit": (
        errors.ArgumentError,
        lambda: fg.jit(fg.vmap(fg.njit_op(_returns, shape=lambda x: x)))(ROWS),
        ["_returns: the function returns array(float32, 1d, C)"],
    ),
    "returns no number": (errors.ArgumentError, lambda: fg.njit_op(_pair, elementwise=True)(X), ["returns UniTuple"]),
    "result too wide": (
        errors.DTypeError,
        lambda: fg.jit(reciprocal)(np.arange(3)),
        ["_reciprocal: the function returns float64 for int32, its result is int32", "dtype="],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    kind, action, parts = BAD[name]
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    for part in [*parts, "test_native_ops.py:", "\n  fix: "]:
        assert part in message, message


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit, lambda f: fg.jit(fg.vmap(f))])
def test_operands_cannot_be_written_to(transform):
    op = transform(fg.njit_op(_writes, shape=lambda x: x))
    with pytest.raises(numba.TypingError, match="readonly array"):
        op(ROWS if transform is not fg.jit else X)
