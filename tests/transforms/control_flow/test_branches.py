"""cond and switch: equal to Python's `if`, to a select of all branches, and to JAX, under every transform."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

import funcgrad
import funcgrad.numpy as jnp
from funcgrad import errors, grad, jit, jvp, lax, make_jaxpr, tree, vmap
from funcgrad.config import disable_jit
from funcgrad.core.array_types import aval_of
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.jaxprs import eval_jaxpr
from funcgrad.experimental import io_callback
from funcgrad.testing import assert_close, check_grads
from funcgrad.transforms.interpreters.partial_eval import partial_eval_jaxpr
from tests.comparing import assert_same

X = np.linspace(-2.0, 2.0, 5, dtype=np.float32)


same = functools.partial(assert_same, rtol=2e-5, atol=2e-5)


# ---------------------------------------------------------------- programs, of either library


def _two(m):
    return lambda x: m.lax.cond(x > 1.0, lambda x: m.lax.sin(x) * x, lambda x: x * x * x, x)


def _closing(m):
    """Branches that close over traced values, each over others."""

    def closing(x):
        y, z = x * 2.0, m.lax.exp(x)
        return m.lax.cond(x < 0.5, lambda v: v * y + z, lambda v: v - m.lax.sin(y) * y, x * x)

    return closing


def _nested(m):
    def inner(y):
        return m.lax.cond(y > 0.5, lambda v: v * v * y, lambda v: m.lax.cos(v), y * 0.5)

    return lambda x: m.lax.cond(x > 0.0, inner, lambda y: inner(-y) * y, x)


def _switching(m):
    branches = [lambda v, w: v * w, lambda v, w: m.lax.sin(v) + w, lambda v, w: v * 0.0 + 1.0]
    return lambda x: m.lax.switch(m.lax.floor(x).astype("int32"), branches, x, x * x)


def _trees(m):
    def trees(x):
        operand = {"a": x, "b": (x * 2.0, m.lax.exp(x))}
        out = m.lax.cond(
            x * x > 1.0,
            lambda t: {"y": t["b"][0] * t["a"], "n": 1, "z": t["a"]},
            lambda t: {"y": m.lax.tan(t["a"]) * t["b"][1], "n": 2, "z": t["a"]},
            operand,
        )
        return out["y"] * out["n"] + out["z"]

    return trees


def _sharing(m):
    """Residuals of different number and type; a result that is known in one branch, another without derivative."""

    def left(x, v):
        return (v * x).sum(), x * 0.0 + 3.0, 1.0

    def right(x, v):
        return m.lax.sin(v).sum() * m.lax.exp(x), m.lax.sin(x) * x, x

    def sharing(x):
        a, b, c = m.lax.cond(x > 1.0, left, right, x, m.numpy.array([1.0, 2.0]) * x)
        return a * b + c

    return sharing


def _under_jit(m):
    return lambda x: m.jit(lambda y, k: m.lax.cond(k, lambda v: v * x, lambda v: v * v + x, y))(m.lax.sin(x), x > 1.0)


PROGRAMS = [_two, _closing, _nested, _switching, _trees, _sharing, _under_jit]
POINTS = (-1.2, 0.3, 1.3)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("x", POINTS)
def test_jit_is_the_branch_that_python_takes(program, x):
    with disable_jit():
        expected = program(funcgrad)(np.float32(x))
    assert_close(program(funcgrad)(np.float32(x)), expected)
    assert_close(jit(program(funcgrad))(np.float32(x)), expected)


@pytest.mark.parametrize("program", PROGRAMS)
def test_derivatives_to_third_order(program):
    for x in POINTS:
        check_grads(program(funcgrad), (np.float32(x),), order=3 if program in (_closing, _sharing) else 2)


@pytest.mark.parametrize("program", PROGRAMS)
def test_vmap_is_the_loop(program):
    f = program(funcgrad)
    for g in (f, grad(f), grad(grad(f))):
        assert_close(vmap(g)(X), np.stack([g(x) for x in X]), rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("x", [1.3, np.float32(0.3)], ids=["weak", "f32"])
def test_values_and_derivatives_are_jaxs(jax, program, x):
    def everything(m):
        f = program(m)
        return lambda x: (f(x), m.grad(f)(x), m.grad(m.grad(f))(x), m.jvp(f, (x,), (x,)), m.vmap(m.grad(f))(x * X))

    same(everything(funcgrad)(x), jax.jit(everything(jax))(x), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- every composition to depth three


def _select(m):
    """`_closing` by select_n."""

    def selecting(x):
        y, z, v = x * 2.0, m.lax.exp(x), x * x
        return m.lax.select_n(x < 0.5, v - m.lax.sin(y) * y, v * y + z)

    return selecting


TRANSFORMS = {
    "grad": lambda m, f: m.grad(f),
    "jvp": lambda m, f: lambda x: m.jvp(f, (x,), (x * 0.5 + 1.0,))[1],
    "jit": lambda m, f: m.jit(f),
    "vmap": lambda m, f: lambda x: m.vmap(f)(x * X)[1] + x,
}
DEPTHS = [c for n in (1, 2) for c in itertools.product(TRANSFORMS, repeat=n)]
DEPTHS += itertools.product(("grad", "jit", "vmap"), repeat=3)


def _composed(m, function, names):
    f = function(m)
    for name in names:
        f = TRANSFORMS[name](m, f)
    return f


@pytest.mark.parametrize("names", DEPTHS, ids="-".join)
def test_cond_is_a_select_under_every_composition(names):
    for x in (np.float32(0.3), np.float32(1.3)):
        expected = _composed(funcgrad, _select, names)(x)
        assert_close(_composed(funcgrad, _closing, names)(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("names", [c for c in DEPTHS if len(c) < 3 or c[0] == "vmap"], ids="-".join)
def test_composition_equals_jax(jax, names):
    x = np.float32(1.3)
    same(_composed(funcgrad, _switching, names)(x), jax.jit(_composed(jax, _switching, names))(x), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    "pred", [True, np.True_, 3, 0.5, np.float32(-1), np.int8(1), np.array(True), jnp.bfloat16(2), 1e-30]
)
def test_a_predicate_is_a_bool_or_compared_with_zero(pred):
    def f(p):
        return lax.cond(p, lambda: 1, lambda: 2)

    assert int(f(pred)) == int(jit(f)(pred)) == 1
    assert int(f(pred * 0)) == int(jit(f)(pred * 0)) == 2


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32])
def test_an_index_is_clamped(dtype):
    def f(i):
        return lax.switch(i, [lambda: 0, lambda: 1, lambda: 2])

    for i in (-3, 0, 1, 2, 3, 100):
        if i >= 0 or np.issubdtype(dtype, np.signedinteger):
            assert int(f(dtype(i))) == int(jit(f)(dtype(i))) == min(max(i, 0), 2)
    indices = np.array([0, 5, 1], dtype)
    assert_close(vmap(f)(indices), np.int32([0, 2, 1]))


def test_a_concrete_predicate_traces_both_branches():
    seen = []
    lax.cond(True, lambda: seen.append("true"), lambda: seen.append("false"))
    assert sorted(seen) == ["false", "true"]


def test_without_jit_only_the_chosen_branch_is_called():
    def wrong(x):
        raise AssertionError("not to be called")

    with disable_jit():
        assert float(lax.cond(True, lambda x: x + 1, wrong, 1.0)) == 2.0
        assert lax.switch(9, [wrong, wrong, lambda x: "anything"], 1.0) == "anything"
        assert float(grad(lambda x: lax.cond(x > 0, lambda x: x * x, wrong, x))(3.0)) == 6.0
        assert_close(vmap(lambda x: lax.cond(x > 0, lambda x: x, lambda x: -x, x))(X), abs(X))


def test_one_branch_is_called_directly():
    assert "cond" not in str(make_jaxpr(lambda i, x: lax.switch(i, [lambda x: x + 1], x))(0, 1.0))


def test_operand_forms():
    assert float(lax.cond(False, lambda x: x, lambda x: x * 2, operand=3.0)) == 6.0
    assert float(lax.cond(True, lambda _: 1.0, lambda _: 2.0, operand=None)) == 1.0
    assert float(lax.cond(False, 1.0, lambda x: x, 5.0, lambda x: x * 2)) == 10.0
    assert int(lax.switch(1, [lambda x: x, lambda x: x * 2], operand=3)) == 6


def test_results_without_leaves_and_operands_without_arrays():
    assert lax.cond(True, lambda t: t, lambda t: t, (None, ())) == (None, ())


def test_keys_are_chosen_like_arrays():
    keys = funcgrad.random.key(0), funcgrad.random.key(7)
    chosen = lax.cond(True, lambda a, b: b, lambda a, b: a, *keys)
    assert_close(funcgrad.random.normal(chosen), funcgrad.random.normal(keys[1]))
    split = jit(lambda p, k: lax.cond(p, lambda k: funcgrad.random.split(k)[0], lambda k: k, k))
    assert_close(funcgrad.random.bits(split(False, keys[0])), funcgrad.random.bits(keys[0]))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "results",
    [(1.0, np.float32(2)), (np.float32(1), 2.0), (1.0, 2.0), (1, np.int32(2)), (np.float16(1), np.float16(2))],
)
def test_the_false_branch_decides_weak_types_as_in_jax(jax, results):
    def f(m):
        return lambda p: m.lax.cond(p, lambda: m.numpy.asarray(results[0]), lambda: m.numpy.asarray(results[1]))

    for p in (True, False):
        same(f(funcgrad)(p), f(jax)(p))
        same(jit(f(funcgrad))(p), f(jax)(p))


# ---------------------------------------------------------------- jaxprs


def test_the_jaxpr_is_jaxs():
    text = str(make_jaxpr(lambda p, x: lax.cond(p, lambda v: v + 1.0, lambda v: v * 2.0, x))(True, np.float32(1)))
    assert "b:f32[]. let\n    c:i32[] = convert_element_type[new_dtype=int32 weak_type=False] a" in text
    assert text.index("mul") < text.index("add"), "the false branch comes first"


def test_a_result_that_is_an_operand_in_every_branch_does_not_go_through_cond():
    closed = make_jaxpr(lambda p, x, y: lax.cond(p, lambda x, y: (x, y + 1), lambda x, y: (x, y), x, y))(True, 1.0, 2.0)
    (eqn,) = (e for e in closed.eqns if e.primitive.name == "cond")
    assert len(eqn.outvars) == 1 and closed.jaxpr.outvars[0] is closed.jaxpr.invars[1]


def _conds(closed):
    return [e for e in closed.eqns if e.primitive.name == "cond"]


def test_the_derivative_chooses_once_forward_and_once_back_and_shares_residuals():
    def f(x, p):
        return lax.cond(p, lambda x: lax.sin(lax.sin(x)), lambda x: lax.exp(x), x)

    closed = make_jaxpr(grad(f))(np.float32(1), True)
    check_jaxpr(closed)
    forward, back = _conds(closed)
    # sin(sin(x)) keeps two cosines, exp(x) its result, for which one of the two places serves.
    assert len(forward.outvars) == 3 and len(back.invars) == 4


def test_residuals_that_are_operands_are_not_copied():
    w = np.ones((20, 20), np.float32)
    closed = make_jaxpr(grad(lambda w, x, p: lax.cond(p, lambda w: (w @ x).sum(), lambda w: (w * w).sum(), w)))(
        w, w[0], True
    )
    forward, back = _conds(closed)
    assert [v.aval.shape for v in forward.outvars] == [()]
    assert closed.jaxpr.invars[0] in back.invars


def test_known_values_are_computed_first():
    """Linearizing by one operand leaves the other's work to the forward pass, whatever is unknown elsewhere."""

    def f(x, y):
        a, b = lax.cond(y > 0, lambda x, y: (x * y, lax.exp(y)), lambda x, y: (x, y), x, y)
        return a * b

    y, f_lin = funcgrad.linearize(lambda x: f(x, np.float32(2)), np.float32(3))
    assert_close(f_lin(np.float32(1)), 2 * np.exp(np.float32(2)))
    assert "exp" not in str(make_jaxpr(f_lin)(np.float32(1)))


def test_an_index_that_is_unknown_makes_everything_unknown():
    closed = make_jaxpr(lambda p, x: lax.cond(p, lambda x: x * 2, lambda x: x, lax.sin(x)))(True, np.float32(1))
    split = partial_eval_jaxpr(closed, [True, False])
    assert [e.primitive.name for e in split.known.eqns] == ["sin"] and split.unknown_out == [True]
    residuals = eval_jaxpr(split.known.jaxpr, split.known.consts, np.float32(1))
    for p, factor in ((True, 2), (False, 1)):
        (out,) = eval_jaxpr(split.unknown.jaxpr, split.unknown.consts, *residuals, np.bool_(p))
        assert_close(out, np.sin(np.float32(1)) * np.float32(factor))


def test_infer_refuses_branches_that_disagree():
    one, two = (make_jaxpr(f)(np.float32(1)) for f in (lambda x: x, lambda x: (x, x)))
    with pytest.raises(errors.JaxprError, match=r"branch 0 returns \[f32\[\]\], branch 1 \[f32\[\], f32\[\]\]"):
        lax.cond_p.bind(np.int32(0), np.float32(1), branches=(one, two))
    with pytest.raises(errors.JaxprError, match=r"cond: branch 0: a value of type i32\[\] flows into input 0"):
        lax.cond_p.bind(np.int32(0), np.int32(1), branches=(one, one))
    with pytest.raises(errors.JaxprError, match=r"the index has type bool\[\]"):
        lax.cond_p.bind(np.bool_(0), np.float32(1), branches=(one, one))


# ---------------------------------------------------------------- vmap


@pytest.mark.parametrize("in_axes", [c for c in itertools.product((0, None), repeat=3) if any(a == 0 for a in c)])
def test_every_choice_of_batched_operands(in_axes):
    def f(p, x, w):
        return lax.cond(p, lambda x, w: (x * w, w, 1.0), lambda x, w: (w, w, x), x, w)

    given = [a[0] if axis is None else a for a, axis in zip((X > 0, X, X + 1), in_axes, strict=True)]
    rows = [f(*(a if axis is None else a[i] for a, axis in zip(given, in_axes, strict=True))) for i in range(5)]
    expected = tree.map(lambda *leaves: np.stack(leaves), *rows)
    assert_close(vmap(f, in_axes)(*given), expected)
    assert_close(jit(vmap(f, in_axes))(*given), expected)


def test_a_batched_index_of_cheap_branches_is_a_select():
    closed = make_jaxpr(vmap(_two(funcgrad)))(X)
    assert "select_n" in str(closed) and not _conds(closed)
    kernel = jit(vmap(_two(funcgrad))).lower(X).as_text("simplified")
    assert "stop_gradient" not in kernel and kernel.count("select_n") == 1


def test_an_unbatched_index_stays_a_choice():
    closed = make_jaxpr(vmap(lambda p, x: lax.cond(p, lambda x: x, lambda x: x * 2, x), (None, 0)))(True, X)
    assert _conds(closed) and "select_n" not in str(closed)


def test_gradients_of_lanes_ignore_the_branches_they_do_not_take():
    """sqrt' is infinite at 0, where it is not taken; 0 · inf must not reach the result."""

    def safe(x, w):
        return lax.cond(x > 0, lambda x: jnp.sqrt(x * w), lambda x: x * w, x)

    x = np.float32([0, 4, -1])
    by_x, by_w = grad(lambda x, w: vmap(safe, (0, None))(x, w).sum(), (0, 1))(x, np.float32(1))
    assert_close(by_x, np.float32([1, 0.25, 1]))
    assert_close(by_w, np.float32(0 + 1 - 1))
    assert_close(vmap(grad(safe), (0, None))(x, np.float32(1)), by_x)


# ---------------------------------------------------------------- loops inside, and around


def _guarding(n, x):
    """x·2ⁿ by a loop that does not end for n ≤ 0, when the branch is not to be taken."""

    def doubled(x):
        return lax.while_loop(lambda s: s[0] != n, lambda s: (s[0] + 1, s[1] * 2), (0, x))[1]

    return lax.cond(n > 0, doubled, lambda x: -x, x)


COUNTS = np.int32([3, -1, 0, 5])


@pytest.mark.parametrize("compile", [lambda f: f, jit])
def test_a_mapped_cond_that_guards_a_loop_terminates(compile):
    x = np.float32([1, 2, 3, 4])
    assert_close(compile(vmap(_guarding))(COUNTS, x), np.float32([8, -2, -3, 128]))
    assert_close(compile(vmap(_guarding, (0, None)))(COUNTS, np.float32(1)), np.float32([8, -1, -1, 32]))
    twice = vmap(vmap(_guarding, (0, None)), (0, 0))
    counts = np.stack([COUNTS, COUNTS[::-1]])
    assert_close(compile(twice)(counts, x[:2]), np.float32([[8, -1, -1, 32], [64, -2, -2, 16]]))
    tangents = compile(lambda x: jvp(lambda x: vmap(_guarding)(COUNTS, x), (x,), (x,))[1])(x)
    assert_close(tangents, np.float32([8, -2, -3, 128]))


def test_lanes_with_loops_are_a_scan_without_carry():
    closed = make_jaxpr(vmap(_guarding, (0, None)))(COUNTS, np.float32(1))
    (eqn,) = (e for e in closed.eqns if e.primitive.name == "scan")
    assert (eqn.params["num_carry"], eqn.params["length"]) == (0, 4)
    assert "select_n" not in str(closed)
    check_jaxpr(closed)


def _around(m):
    """A scan whose steps choose, with closed-over values."""

    def around(x):
        def step(carry, t):
            carry = m.lax.cond(carry * t > 0.5, lambda c: m.lax.sin(c) * t, lambda c: c + t * x, carry)
            return carry, carry * t

        carry, ys = m.lax.scan(step, x, m.numpy.array([0.3, -0.5, 0.9, 2.0]))
        return carry + ys.sum()

    return around


def _inside(m):
    """Branches with scans, of different lengths."""

    def inside(x):
        def power(n):
            return lambda v: m.lax.scan(lambda c, t: (c * v + t, None), x, m.numpy.ones(n))[0]

        return m.lax.cond(x > 0.5, power(2), power(3), m.lax.sin(x))

    return inside


@pytest.mark.parametrize("program", [_around, _inside])
def test_programs_with_loops(program):
    f = program(funcgrad)
    for x in POINTS:
        with disable_jit():
            expected = f(np.float32(x))
        assert_close(jit(f)(np.float32(x)), expected, rtol=1e-5)
        check_grads(f, (np.float32(x),), order=2)
    for g in (f, grad(f), grad(grad(f))):
        rows = np.stack([g(x) for x in X])
        assert_close(vmap(g)(X), rows, rtol=1e-4, atol=1e-4)
        assert_close(jit(vmap(g))(X), rows, rtol=1e-4, atol=1e-4)
    assert_close(grad(lambda x: vmap(f)(x).sum())(X), vmap(grad(f))(X), rtol=1e-4, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("program", [_around, _inside])
def test_programs_with_loops_are_jaxs(jax, program):
    def everything(m):
        f = program(m)
        return lambda x: (f(x), m.grad(f)(x), m.grad(m.grad(f))(x), m.vmap(m.grad(f))(x * X))

    same(everything(funcgrad)(np.float32(1.3)), jax.jit(everything(jax))(np.float32(1.3)), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- effects


def _telling(m, seen):
    """|x|, which tells which branch was run with which value."""

    def tell(name):
        return lambda v: seen.append((name, float(v)))

    def absolute(x):
        def positive(x):
            m.debug.callback(tell("positive"), x)
            return x

        def negative(x):
            m.debug.callback(tell("negative"), x)
            return -x

        return m.lax.cond(x > 0, positive, negative, x)

    return absolute


def test_only_the_branch_that_is_taken_has_its_effects():
    seen: list[tuple[str, float]] = []
    absolute = _telling(funcgrad, seen)
    for f in (absolute, jit(absolute), grad(absolute), jit(grad(absolute))):
        seen.clear()
        f(np.float32(-2))
        funcgrad.effects_barrier()
        assert seen == [("negative", -2.0)]


@pytest.mark.oracle
@pytest.mark.parametrize("in_axes", [0, None])
def test_effects_of_a_mapped_cond_are_jaxs(jax, in_axes):
    """With a batched predicate both branches are run, so that both have their effects, for all elements."""
    counts = []
    for m in (funcgrad, jax):
        seen: list[tuple[str, float]] = []
        absolute = _telling(m, seen)

        def f(p, x, absolute=absolute):
            return absolute(p) + absolute(x)

        x = np.float32([1, -2])
        m.vmap(f, (in_axes, 0))(x if in_axes == 0 else x[0], x)
        m.effects_barrier()
        counts.append(sorted(seen))
    assert counts[0] == counts[1]


def test_lanes_with_loops_have_the_effects_of_their_own_branch():
    seen: list[float] = []

    def f(n):
        def loop(n):
            funcgrad.debug.callback(lambda v: seen.append(int(v)), n)
            return lax.while_loop(lambda s: s != n, lambda s: s + 1, 0)

        return lax.cond(n > 0, loop, lambda n: n, n)

    assert_close(jit(vmap(f))(np.int32([3, -1, 2])), np.int32([3, -1, 2]))
    funcgrad.effects_barrier()
    assert sorted(seen) == [2, 3]


def test_io_callbacks_of_a_mapped_cond_are_refused():
    def f(x):
        return lax.cond(x > 0, lambda x: io_callback(abs, aval_of(np.float32(0)), x), lambda x: x, x)

    with pytest.raises(errors.BatchingError, match="cond: a branch calls io_callback, and vmap batches the choice"):
        vmap(f)(X)


# ---------------------------------------------------------------- bad input

BAD = {
    "vector": (lambda: lax.cond(jnp.ones(2) > 0, int, int), errors.ShapeError, "cond: pred has type bool[2]"),
    "list": (lambda: lax.cond([True], int, int), errors.ArgumentError, "cond: pred is [True] of type list"),
    "none": (lambda: lax.cond(None, int, int), errors.ArgumentError, "cond: pred is None"),
    "complex": (lambda: lax.cond(1j, int, int), errors.DTypeError, "cond: pred has type c64[]"),
    "no function": (lambda: lax.cond(True, 3, int), errors.ArgumentError, "cond: 3 is not callable"),
    "no functions": (lambda: lax.switch(0, []), errors.ArgumentError, "switch: there are no branches"),
    "a branch": (lambda: lax.switch(0, [int, "x"]), errors.ArgumentError, "switch: 'x' is not callable"),
    "index": (lambda: lax.switch(1.5, [int, int]), errors.DTypeError, "switch: the index has type f32[]"),
    "bool": (lambda: lax.switch(True, [int, int]), errors.DTypeError, "use lax.cond for a bool"),
    "indices": (lambda: lax.switch(jnp.arange(2), [int, int]), errors.ShapeError, "the index has type i32[2]"),
    "operands": (lambda: lax.cond(True, abs, abs, 1, operand=2), errors.ArgumentError, "operand=2 is given besides"),
    "not an array": (
        lambda: lax.cond(True, abs, abs, "a"),
        errors.ArgumentError,
        "cond: operands[0] is 'a' of type str, which is not an array",
    ),
    "returns": (lambda: lax.cond(True, lambda: "a", lambda: "b"), errors.ArgumentError, "returned 'b' of type str"),
    "platform": (
        lambda: lax.platform_dependent(1, tpu=abs),
        errors.ArgumentError,
        "functions for tpu, this one is cpu",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "fix: " in str(caught.value)


def _lines(call: Any, error: type[Exception]) -> list[str]:
    with pytest.raises(error) as caught:
        call()
    return [line.strip() for line in str(caught.value).splitlines()]


def test_branches_of_different_structure_are_shown():
    def as_dict(x):
        return {"a": x, "b": (x, x)}

    def as_other_dict(x):
        return {"a": x, "b": [x]}

    lines = _lines(lambda: lax.cond(True, as_dict, as_other_dict, 1.0), errors.ArgumentError)
    assert lines[:4] == [
        "cond: false_fun and true_fun return different structures",
        "false_fun (as_other_dict): {'a': f32[], 'b': [f32[]]}",
        "true_fun (as_dict): {'a': f32[], 'b': (f32[], f32[])}",
        "false_fun['b'] is a list of 1, true_fun['b'] a tuple of 2",
    ]


def test_branches_of_different_types_are_shown_with_the_leaf():
    branches = [lambda x: (x, {"w": x}), lambda x: (x, {"w": x}), lambda x: (x, {"w": jnp.ones(3)})]
    lines = _lines(lambda: lax.switch(0, branches, 1.0), errors.ShapeError)
    assert lines[:4] == [
        "switch: branch 0 and branch 2 return different types",
        "branch 0 (<lambda>): (f32[], {'w': f32[]})",
        "branch 2 (<lambda>): (f32[], {'w': f32[3]})",
        "at [1]['w'] branch 0 returns f32[], branch 2 f32[3]",
    ]
    lines = _lines(lambda: lax.cond(True, lambda: 1, lambda: 1.0), errors.DTypeError)
    assert "false_fun returns f32[], true_fun i32[]" in lines and "fix: cast one with .astype(...)" in lines


# ---------------------------------------------------------------- associative_scan, select_n, platform_dependent


def _affine(a, b):
    return {"m": b["m"] * a["m"], "c": b["m"] * a["c"] + b["c"]}


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan_is_the_sequential_one(n, reverse):
    rng = np.random.default_rng(n)
    elems = {"m": rng.normal(size=(2, n, 3)).astype(np.float32), "c": rng.normal(size=(2, n, 3)).astype(np.float32)}
    rows = [{k: v[:, i] for k, v in elems.items()} for i in range(n)]
    expected = list(itertools.accumulate(rows[::-1] if reverse else rows, _affine))[:: -1 if reverse else 1]
    out = lax.associative_scan(_affine, elems, reverse=reverse, axis=1)
    for k in elems:
        want = np.stack([row[k] for row in expected], 1) if n else elems[k]
        assert_close(out[k], want, rtol=1e-5, atol=1e-5)
        assert_close(jit(lambda e: lax.associative_scan(_affine, e, reverse, -2))(elems)[k], want, rtol=1e-5, atol=1e-5)


def test_associative_scan_calls_its_function_on_few_elements():
    sizes = []

    def add(a, b):
        sizes.append(len(a))
        return a + b

    out = lax.associative_scan(add, jnp.arange(1024))
    assert_close(out, np.arange(1024).cumsum().astype(np.int32))
    assert sum(sizes) < 2 * 1024 and len(sizes) < 2 * 10


def test_associative_scan_has_derivatives():
    elems = {"m": np.float32([0.5, 2.0, -1.0]), "c": np.float32([1.0, 0.3, 2.0])}
    check_grads(lambda e: lax.associative_scan(_affine, e)["c"], (elems,), order=2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lax.associative_scan(3, X), errors.ArgumentError, "associative_scan: 3 is not callable"),
        (lambda: lax.associative_scan(jnp.add, ()), errors.ArgumentError, "elems has no leaves"),
        (lambda: lax.associative_scan(jnp.add, X, axis=1), errors.ArgumentError, "axis 1 is out of range"),
        (lambda: lax.associative_scan(jnp.add, (X, X[1:])), errors.ShapeError, "along axis 0: f32[5], f32[4]"),
        (lambda: lax.associative_scan(lambda a, b: (a, b), X), errors.ArgumentError, "takes 1 leaves and returns 2"),
    ],
)
def test_associative_scan_names_bad_input(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.bool_])
def test_select_n_takes_integers_as_jax_does(jax, dtype):
    which, cases = np.array([0, 1, 1], dtype), (np.float32([1, 2, 3]), np.float32([4, 5, 6]))
    same(lax.select_n(which, *cases), jax.lax.select_n(which, *cases))
    same(lax.select_n(which[0], *cases), jax.lax.select_n(which[0], *cases))
    same(lax.select(which > 0, *cases), jax.lax.select(which > 0, *cases))
    same(lax.select_n(which[0], 1.0, np.float32(2)), jax.lax.select_n(which[0], 1.0, np.float32(2)))


def test_select_n_without_cases_is_refused():
    with pytest.raises(errors.ArgumentError, match="select_n: there are no cases"):
        lax.select_n(True)


def test_platform_dependent_takes_the_function_of_the_platform():
    def f(x):
        return lax.platform_dependent(x, cpu=lambda x: x + 1, tpu=lambda x: x, default=lambda x: x * 7)

    assert float(f(1.0)) == float(jit(f)(1.0)) == 2.0
    assert float(lax.platform_dependent(2.0, tpu=lambda x: x, default=lambda x: x * 7)) == 14.0
