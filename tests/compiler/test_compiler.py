"""The compiler against eager evaluation: drawn programs, every stage, and the rendered kernels."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.fusion.fuse import fuse
from funcgrad.compiler.loops import checking as loop_checking
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.rewrite.sink import sink
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.compiler.targets.llvm import kernels
from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.checking import check_jaxpr
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, logic, selection, slicing
from funcgrad.ops import reductions as red
from funcgrad.ops import shapes as sh
from funcgrad.ops.products import dot_general
from funcgrad.transforms.grad import grad
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import make_jaxpr
from funcgrad.transforms.vmap import vmap

# A drawn program is a list of such quadruples: which operation, on which values, with which parameters. Numbers are
# taken modulo what is possible, so that every list is a program and shrinking keeps it one.
instructions = st.lists(
    st.tuples(st.integers(0, 19), st.integers(0, 30), st.integers(0, 30), st.integers(0, 1000)), min_size=1, max_size=14
)
shapes = st.lists(st.sampled_from([1, 2, 3, 5, 17]), min_size=0, max_size=3).map(tuple)


def _tame(x: Any) -> Any:
    """Keep values in [-2, 2], so that no drawn chain overflows or loses all its digits."""
    return selection.clamp_p.bind(np.float32(-2), x, np.float32(2))


def _axis(x: Any, n: int) -> int:
    return n % max(1, aval_of(x).ndim)


def _binary(x: Any, y: Any, op: Any) -> Any:
    sx, sy = aval_of(x).shape, aval_of(y).shape
    if sx != sy and sx and sy:
        try:
            shape = np.broadcast_shapes(sx, sy)
        except ValueError:
            y, shape = sh.sum_all(y), sx
        x, y = (_to(v, shape) for v in (x, y))
    return op(x, y)


def _to(x: Any, shape: tuple[int, ...]) -> Any:
    ndim = aval_of(x).ndim
    return sh.broadcast_in_dim(x, shape, tuple(range(len(shape) - ndim, len(shape)))) if ndim else x


def _slice(x: Any, n: int) -> Any:
    shape = aval_of(x).shape
    start = [n % (m // 2 + 1) for m in shape]
    return slicing.slice_(x, start, shape, [1 + (n // 3) % 2 for _ in shape])


def _permute(x: Any, n: int) -> Any:
    rank = aval_of(x).ndim
    return sh.transpose(x, np.roll(np.arange(rank), n).tolist())


def _pad(x: Any, n: int) -> Any:
    return slicing.pad(x, np.float32(0.5), [(n % 3 - (m > 2), (n // 3) % 2, (n // 7) % 2) for m in aval_of(x).shape])


def _concatenate(x: Any, y: Any, n: int) -> Any:
    if aval_of(x).ndim == 0 or aval_of(y).shape != aval_of(x).shape:
        y = x
    return slicing.concatenate([x, y, x], _axis(x, n)) if aval_of(x).ndim else x


def _dot(x: Any, y: Any, n: int) -> Any:
    sx, sy = aval_of(x).shape, aval_of(y).shape
    pairs = [(i, j) for i, a in enumerate(sx) for j, b in enumerate(sy) if a == b]
    if not pairs or len(sx) + len(sy) > 5:
        return x
    i, j = pairs[n % len(pairs)]
    return _tame(dot_general(x, y, (((i,), (j,)), ((), ()))))


def _spread(x: Any, reduce: Any, n: int) -> Any:
    """x combined with a fold of itself along one axis: the shape of softmax and layer norm."""
    if aval_of(x).ndim == 0:
        return x
    axis, shape = _axis(x, n), aval_of(x).shape
    kept = tuple(d for d in range(len(shape)) if d != axis)
    return ar.sub_p.bind(x, sh.broadcast_in_dim(reduce(x, (axis,)), shape, kept))


def _fold(x: Any, n: int) -> Any:
    rank = aval_of(x).ndim
    axes = tuple(d for d in range(rank) if (n >> d) & 1)
    reduce = (
        sh.reduce_sum,
        lambda v, a: red.reduce_max_p.bind(v, axes=a),
        lambda v, a: red.reduce_min_p.bind(v, axes=a),
    )
    return _tame(reduce[(n // 8) % 3](x, axes)) if axes else x


OPERATIONS = [
    lambda x, y, n: ar.sin_p.bind(x),
    lambda x, y, n: ar.exp_p.bind(_tame(x)),
    lambda x, y, n: _binary(x, y, ar.add_p.bind),
    lambda x, y, n: _tame(_binary(x, y, ar.mul_p.bind)),
    lambda x, y, n: _binary(x, y, ar.max_p.bind),
    lambda x, y, n: selection.select_n_p.bind(logic.lt_p.bind(x, np.float32(0.1)), x, ar.tanh_p.bind(x)),
    lambda x, y, n: _fold(x, n),
    lambda x, y, n: _permute(x, n),
    lambda x, y, n: _slice(x, n),
    lambda x, y, n: _pad(x, n),
    lambda x, y, n: _concatenate(x, y, n),
    lambda x, y, n: sh.rev(x, (_axis(x, n),)) if aval_of(x).ndim else x,
    lambda x, y, n: sh.reshape(x, (aval_of(x).size,) if n % 2 else (*aval_of(x).shape[::-1], 1)),
    lambda x, y, n: _dot(x, y, n),
    lambda x, y, n: _spread(x, sh.reduce_sum, n),
    lambda x, y, n: ar.exp_p.bind(_tame(_spread(x, lambda v, a: red.reduce_max_p.bind(v, axes=a), n))),
]
FIRST_ORDER = tuple(OPERATIONS)
LIMIT = 20_000


def _body(x: Any, y: Any, n: int) -> Any:
    """An operation chosen by `n`, with its result in the shape of `x`."""
    out = FIRST_ORDER[n % len(FIRST_ORDER)](x, y, n // len(FIRST_ORDER))
    if aval_of(out).shape == aval_of(x).shape:
        return _tame(out)
    return _tame(ar.add_p.bind(x, _tame(sh.sum_all(out))))


def _cond(x: Any, y: Any, n: int) -> Any:
    """A choice by a value; the branches take an operand and close over another."""
    pred = logic.lt_p.bind(sh.sum_all(x), np.float32(0.1))
    return lax.cond(pred, lambda v: _body(v, y, n), lambda v: _body(v, x, n // 3), x)


def _scan(x: Any, y: Any, n: int) -> Any:
    """Over the leading axis, or a scalar three times; the carry goes into the results."""
    xs = x if aval_of(x).ndim else sh.broadcast_in_dim(x, (3,), ())

    def step(carry: Any, row: Any) -> Any:
        row = _body(row, carry, n)
        return _body(carry, sh.sum_all(row), n // 3), row

    carry, rows = lax.scan(step, _tame(sh.sum_all(y)), xs, reverse=bool(n % 2))
    return _tame(_binary(rows, carry, ar.add_p.bind))


def _fori(x: Any, y: Any, n: int) -> Any:
    return lax.fori_loop(0, 1 + n % 3, lambda i, v: _body(v, ar.add_p.bind(y, i.astype(dtypes.float32)), n), x)


def _while(x: Any, y: Any, n: int) -> Any:
    """As long as the values are small, but four times at most; it has no derivative in reverse."""
    x, y = casts.stop_gradient_p.bind(x), casts.stop_gradient_p.bind(y)

    def goes_on(state: Any) -> Any:
        return logic.and_p.bind(state[0] < 4, logic.lt_p.bind(sh.sum_all(state[1]), np.float32(2.3)))

    return lax.while_loop(goes_on, lambda state: (state[0] + 1, _body(state[1], y, n)), (0, x))[1]


OPERATIONS += [_cond, _scan, _fori, _while]


def build(program: list[tuple[int, int, int, int]]) -> Any:
    """Return the function of two arrays that a drawn program describes; it returns its last three values."""

    def fun(x: Any, y: Any) -> tuple[Any, ...]:
        values = [x, y]
        for code, i, j, n in program:
            out = OPERATIONS[code](values[-1 - i % len(values)], values[-1 - j % len(values)], n)
            if aval_of(out).size <= LIMIT and aval_of(out).ndim <= 4:
                values.append(out)
        return tuple(values[-3:])

    return fun


def arrays(shape_x: tuple[int, ...], shape_y: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return tuple(as_array(rng.uniform(-1.5, 1.5, s).astype(np.float32)) for s in (shape_x, shape_y))  # type: ignore[return-value]


def assert_same(got: Any, wanted: Any) -> None:
    for g, w in zip(got, wanted, strict=True):
        assert aval_of(g) is aval_of(w)
        # Long chains of float32 operations, summed in another order: errors are relative to the values' scale of 1.
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-4, atol=1e-4)


@given(instructions, shapes, shapes)
def test_compiled_programs_agree_with_eager_evaluation(program: Any, shape_x: Any, shape_y: Any) -> None:
    fun, args = build(program), arrays(shape_x, shape_y)
    assert_same(jit(fun)(*args), fun(*args))


@given(instructions, shapes, shapes)
def test_rendered_kernels_agree_with_compiled_kernels(program: Any, shape_x: Any, shape_y: Any) -> None:
    fun, args = build(program), arrays(shape_x, shape_y)
    compiled = jit(fun)(*args)
    assume(sum(aval_of(o).size for o in compiled) <= 2000)
    with config.override("python_kernels", True):
        assert_same(jit(fun)(*args), compiled)


@given(instructions, shapes, shapes)
def test_every_stage_is_well_formed_and_prints(program: Any, shape_x: Any, shape_y: Any) -> None:
    fun, args = build(program), arrays(shape_x, shape_y)
    closed = make_jaxpr(fun)(*args)
    check_jaxpr(closed)
    simplified = sink(simplify(closed))
    check_jaxpr(simplified, weak_types=False)
    fusion = fuse(simplified.jaxpr.eqns, simplified.jaxpr.outvars, Scheduling())
    placed = [e for g in fusion.order for e in g.eqns]
    assert len(placed) == len(set(map(id, placed)))
    for kernel in pipeline.kernels_of(closed):
        loop_checking.check(kernel)
    text = {stage: pipeline.as_text(closed, "drawn", stage) for stage in ("groups", "loops", "kernels", "program")}
    names = [k.name for k in pipeline.kernels_of(closed)]
    groups = [line for line in text["groups"].splitlines() if not line.startswith(" ")]
    for line, group in zip(groups, str(fusion).splitlines(), strict=True):
        assert line.startswith(group)
    assert [line.split("(")[0] for line in text["loops"].splitlines() if line.startswith("kernel")] == [
        f"kernel {name}" for name in names
    ]
    compile(text["kernels"], "kernels", "exec")
    assert all(name in text["program"] for name in names)


@given(instructions, shapes, shapes)
def test_gradients_of_compiled_programs(program: Any, shape_x: Any, shape_y: Any) -> None:
    fun = build(program)

    def loss(x: Any, y: Any) -> Any:
        return sh.sum_all(_tame(ar.sin_p.bind(fun(x, y)[-1])))

    args = arrays(shape_x, shape_y)
    assert_same(jit(grad(loss, (0, 1)))(*args), grad(loss, (0, 1))(*args))


@given(instructions, shapes, st.integers(1, 3))
def test_vmapped_compiled_programs(program: Any, shape: Any, size: int) -> None:
    fun = build(program)
    x, y = arrays((size, *shape), (size, *shape))
    wanted = [fun(x[i], y[i]) for i in range(size)]
    got = vmap(jit(fun))(x, y)
    for k, g in enumerate(got):
        np.testing.assert_allclose(np.asarray(g), np.stack([np.asarray(w[k]) for w in wanted]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows, columns", [(1, 200_000), (3, 70_000), (70_000, 3), (400, 500), (5000, 40)])
def test_long_folds_are_cut_and_agree(rows: int, columns: int) -> None:
    x, _ = arrays((rows, columns), ())
    for axes in ((0,), (1,), (0, 1)):
        compiled = jit(lambda v, a=axes: sh.reduce_sum(ar.mul_p.bind(v, v), a))(x)
        np.testing.assert_allclose(np.asarray(compiled), np.sum(np.asarray(x, np.float64) ** 2, axes), rtol=1e-5)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    from funcgrad.compiler.targets.llvm import runtime

    x, y = arrays((700, 900), (700, 900))

    def fun(v: Any, w: Any) -> tuple[Any, ...]:
        e = ar.exp_p.bind(ar.mul_p.bind(v, w))
        return sh.sum_all(e), sh.reduce_sum(e, (0,)), sh.reduce_sum(e, (1,)), ar.sin_p.bind(e)

    before, found = runtime.num_threads(), []
    try:
        for threads in (1, 2, 3):
            runtime.set_num_threads(threads)
            found.append([np.asarray(o) for o in jit(lambda v, w: fun(v, w))(x, y)])
    finally:
        runtime.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_new_batch_size_compiles_no_kernel() -> None:
    w = arrays((64, 32), ())[0]

    def loss(x: Any, w: Any) -> Any:
        z = dot_general(x, w, (((1,), (0,)), ((), ())))
        z = z - jnp.max(z, 1, keepdims=True)
        return jnp.mean(jnp.log(jnp.sum(jnp.exp(z), 1)) - z[:, 3])

    step = jit(grad(loss, 1))
    step(arrays((128, 64), ())[0], w)
    before = dict(kernels.origins)
    for batch in (96, 200, 333, 512):
        step(arrays((batch, 64), ())[0], w)
    assert step.cache_info().traces == 5
    assert kernels.origins["compiled"] == before["compiled"]
    assert kernels.origins["disk"] == before["disk"]


def test_equal_layers_share_kernels() -> None:
    x, w = arrays((32, 32), (32, 32))

    def net(x: Any, *ws: Any) -> Any:
        for w in ws:
            x = ar.tanh_p.bind(dot_general(x, w, (((1,), (0,)), ((), ()))))
        return x

    found = pipeline.kernels_of(make_jaxpr(net)(x, w, w, w, w))
    assert [k.name for k in found] == ["map_tanh"]


def test_softmax_is_one_kernel() -> None:
    x = arrays((64, 100), ())[0]

    def softmax(x: Any) -> Any:
        top = sh.broadcast_in_dim(red.reduce_max_p.bind(x, axes=(1,)), (64, 100), (0,))
        e = ar.exp_p.bind(ar.sub_p.bind(x, top))
        return ar.div_p.bind(e, sh.broadcast_in_dim(sh.reduce_sum(e, (1,)), (64, 100), (0,)))

    assert len(pipeline.kernels_of(make_jaxpr(softmax)(x))) == 1
    assert len(pipeline.kernels_of(make_jaxpr(grad(lambda x: sh.sum_all(ar.sin_p.bind(softmax(x)))))(x))) == 1


def test_outputs_that_are_inputs_cost_nothing() -> None:
    x = arrays((8, 6), ())[0]
    same, reshaped, constant = jit(lambda v: (v, sh.reshape(v, (48,)), sh.full((), 2, dtypes.float32)))(x)
    assert same is x
    assert reshaped.buffer.pointer == x.buffer.pointer
    assert float(constant) == 2


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_fused_chains_of_every_dtype(dtype: np.dtype) -> None:
    with config.override("enable_x64", True):
        values = np.arange(60).reshape(4, 15).astype(dtype)
        x = as_array(values)
        fold = red.reduce_or_p.bind if dtype == dtypes.bool_ else red.reduce_max_p.bind

        def fun(v: Any) -> tuple[Any, ...]:
            m = ar.max_p.bind(v, sh.rev(v, (0,)))
            return m, fold(m, axes=(1,)), fold(m, axes=(0,)), sh.transpose(m, (1, 0)), logic.eq_p.bind(m, v)

        for got, wanted in zip(jit(fun)(x), fun(x), strict=True):
            assert aval_of(got) is aval_of(wanted)
            np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))


def test_gradients_of_weights_are_multiplied_in_the_order_of_the_weights() -> None:
    x, w = arrays((40, 30), (30, 20))

    def loss(x: Any, w: Any) -> Any:
        return sh.sum_all(ar.sin_p.bind(dot_general(x, w, (((1,), (0,)), ((), ())))))

    def step(x: Any, w: Any) -> Any:
        return w - grad(loss, 1)(x, w)

    names = [k.name for k in pipeline.kernels_of(make_jaxpr(step)(x, w))]
    assert "map_transpose" not in names
    program = jit(step).lower(x, w).as_text("program")
    assert "gemm(arena: f32[1,30,20]" in program
    assert_same([jit(step)(x, w)], [step(x, w)])


def test_cache_info_reports_the_source_of_kernels_and_the_reason_for_traces() -> None:
    x = arrays((7, 5), ())[0]

    def fun(v: Any) -> Any:
        return ar.sin_p.bind(v) * 1.2345678 + ar.cos_p.bind(v)

    first, second = jit(fun), jit(lambda v: fun(v))
    first(x)
    first(x)
    info = first.cache_info()
    assert (info.hits, info.traces, info.kernels_compiled, info.kernels_reused) == (1, 1, 1, 0)
    assert info.misses == ["first call, with (f32[7,5])"]
    second(x)
    assert second.cache_info().kernels_reused == 1
    first(x[:3])
    assert first.cache_info().misses[1] == "argument v has type f32[3,5]; seen before: f32[7,5]"
    assert first.cache_info().kernels_compiled == 1
